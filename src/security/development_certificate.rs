//! How does a server have TLS on the first day? A certificate for this machine, signed by itself.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{SecurityError, private_file, tls};
use crate::domain::Timestamp;

const CERT_NAME: &str = "development-cert.pem";
const KEY_NAME: &str = "development-key.pem";
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const DAY_MS: i64 = 86_400_000;
/// Some clients refuse certificates that are valid for longer than this.
const VALID_DAYS: i64 = 397;
/// With less than this left, a new one is made.
const RENEW_DAYS: i64 = 30;
/// The line before the certificate; readers of PEM skip it.
const REMARK: &str = "UpNext development certificate, valid until ";

/// A self-signed certificate for `localhost`, `127.0.0.1` and `::1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevelopmentCertificate {
    /// The certificate in PEM; what a client is told to trust (`curl --cacert`).
    pub cert: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
    /// Whether it was made just now.
    pub created: bool,
}

/// The certificate in the data folder `dir`, made if there is none that will be valid for another month.
pub fn ensure_development_certificate(dir: &Path, now: Timestamp) -> Result<DevelopmentCertificate, SecurityError> {
    let (cert, key) = (dir.join(CERT_NAME), dir.join(KEY_NAME));
    let created = !usable(&cert, &key, now);
    if created {
        make(&cert, &key, now)?;
    }
    Ok(DevelopmentCertificate { cert, key, created })
}

fn usable(cert: &Path, key: &Path, now: Timestamp) -> bool {
    let Ok(pem) = fs::read_to_string(cert) else { return false };
    let until = pem
        .lines()
        .next()
        .and_then(|line| line.strip_prefix(REMARK))
        .and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok())
        .map(|until| until.unix_timestamp().saturating_mul(1000));
    let left_ms = until.map_or(0, |until_ms| until_ms.saturating_sub(now.0));
    // One from the future was made by a clock that was wrong.
    (RENEW_DAYS * DAY_MS..=(VALID_DAYS + 1) * DAY_MS).contains(&left_ms) && tls::load_certified_key(cert, key).is_ok()
}

fn make(cert: &Path, key: &Path, now: Timestamp) -> Result<(), SecurityError> {
    let failed = |e: rcgen::Error| SecurityError::Tls(e.to_string());
    let date = |days: i64| {
        OffsetDateTime::from_unix_timestamp(now.0.saturating_add(days * DAY_MS) / 1000)
            .map_err(|e| SecurityError::Tls(e.to_string()))
    };
    let mut params = CertificateParams::new(NAMES.map(String::from)).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, "UpNext development");
    // From yesterday, for clients whose clocks are behind.
    params.not_before = date(-1)?;
    params.not_after = date(VALID_DAYS - 1)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let until = params.not_after.format(&Rfc3339).map_err(|e| SecurityError::Tls(e.to_string()))?;
    let key_pair = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key_pair).map_err(failed)?;
    private_file::replace(key, key_pair.serialize_pem().as_bytes())?;
    private_file::replace(cert, format!("{REMARK}{until}\n{}", certificate.pem()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_750_000_000_000);

    #[test]
    fn it_is_made_once_and_again_before_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let first = ensure_development_certificate(dir.path(), NOW).unwrap();
        assert!(first.created);
        let bytes = fs::read(&first.cert).unwrap();
        let later = |days: i64| Timestamp(NOW.0 + days * DAY_MS);
        assert!(!ensure_development_certificate(dir.path(), later(365)).unwrap().created);
        assert_eq!(fs::read(&first.cert).unwrap(), bytes);
        assert!(ensure_development_certificate(dir.path(), later(367)).unwrap().created);
        assert_ne!(fs::read(&first.cert).unwrap(), bytes);
        assert!(ensure_development_certificate(dir.path(), later(-400)).unwrap().created, "made in the future");
    }

    #[test]
    fn a_certificate_without_its_key_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let first = ensure_development_certificate(dir.path(), NOW).unwrap();
        fs::remove_file(&first.key).unwrap();
        assert!(ensure_development_certificate(dir.path(), NOW).unwrap().created);
        let elsewhere = tempfile::tempdir().unwrap();
        let other = ensure_development_certificate(elsewhere.path(), NOW).unwrap();
        fs::copy(&other.key, &first.key).unwrap();
        assert!(ensure_development_certificate(dir.path(), NOW).unwrap().created, "another certificate's key");
        assert!(!ensure_development_certificate(dir.path(), NOW).unwrap().created);
    }
}
