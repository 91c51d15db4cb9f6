//! Who may ask, and what must nobody read? API keys, TLS material, pseudonyms, sealing keys, signed receipts.
//!
//! A request's key is turned into a [`Principal`] by the [`KeyRing`], whose rate is bounded by the [`RateLimiter`];
//! a user's id is turned into a pseudonym by the [`UserHasher`] before anything is stored; [`Tls`] holds the server's
//! certificate; [`SealingKeys`] are what the store seals its records under; [`Receipts`] prove to others what the service
//! says it did. Files that hold secrets are written for their owner only, and nothing here prints a secret.

mod api_keys;
mod development_certificate;
mod key_ring;
mod principal;
mod private_file;
mod pseudonym;
mod rate_limit;
mod receipt;
mod scope;
mod sealing_keys;
mod tickets;
mod tls;
mod tokens;
mod validity;

use std::path::{Path, PathBuf};

pub use api_keys::{ApiKeyInfo, CreatedKey, KeyFile, NewKey};
pub use development_certificate::{DevelopmentCertificate, ensure_development_certificate};
pub use key_ring::{AuthError, KeyRing};
pub use principal::{Person, Principal};
pub use pseudonym::UserHasher;
pub use rate_limit::{RateLimit, RateLimiter, RetryAfter};
pub use receipt::{ReceiptError, ReceiptKey, Receipts};
pub use scope::{Scope, Scopes, UnknownScope};
pub use sealing_keys::{RotatedKey, SealingKeyInfo, SealingKeys};
pub use tickets::{Ticket, Tickets};
pub use tls::{ClientAuth, Tls, TlsOptions};
pub use tokens::{TokenClaims, TokenError, TokenOptions, Tokens};

/// What can go wrong with keys, secrets and certificates on disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecurityError {
    /// The operating system refused something.
    #[error("{}: {reason}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A file is there but cannot be used.
    #[error("{} cannot be used: {reason}", file.display())]
    BadFile {
        /// The file.
        file: PathBuf,
        /// What is wrong with it; never its contents.
        reason: String,
    },
    /// There is no key with this id.
    #[error("there is no key `{0}`")]
    NoSuchKey(String),
    /// What was asked for a new key makes no sense.
    #[error("the key cannot be made: {0}")]
    BadRequest(&'static str),
    /// Something has been sealed, but the keys that it is sealed under are not there.
    #[error(
        "{} is missing: without the sealing keys in it what is stored cannot be read; put it back, or set its keys as \
         security.sealing_keys (in the environment UPNEXT__SECURITY__SEALING_KEYS)",
        file.display()
    )]
    SealingKeysMissing {
        /// Where the keys should be.
        file: PathBuf,
    },
    /// The sealing keys cannot be used or changed this way.
    #[error("the sealing keys: {0}")]
    SealingKeys(String),
    /// There is no sealing key with this id.
    #[error("there is no sealing key {0}")]
    NoSuchSealingKey(u32),
    /// The system gave no random numbers.
    #[error("the system gave no random numbers")]
    NoRandomness,
    /// TLS cannot be set up this way.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

impl SecurityError {
    fn io(file: &Path, error: &std::io::Error) -> Self {
        Self::Io { file: file.to_owned(), reason: error.to_string() }
    }

    fn bad_file(file: &Path, reason: impl Into<String>) -> Self {
        Self::BadFile { file: file.to_owned(), reason: reason.into() }
    }
}

/// `N` bytes from the system's generator.
fn random_bytes<const N: usize>() -> Result<[u8; N], SecurityError> {
    let mut bytes = [0_u8; N];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .map_err(|_| SecurityError::NoRandomness)?;
    Ok(bytes)
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Exactly `N` bytes from twice as many lower- or upper-case digits.
fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0_u8; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |d: u8| char::from(d).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Timestamp, UserId};

    #[test]
    fn no_text_of_this_module_shows_a_key_a_secret_or_a_user() {
        let dir = tempfile::tempdir().unwrap();
        let (dir, now) = (dir.path(), Timestamp(1_750_000_000_000));
        let file = KeyFile::in_dir(dir);
        let new = NewKey { name: "n".into(), scopes: Scopes::all(), expires_at: None, rate_limit: None };
        let made = file.create(new, now).unwrap();
        let ring = KeyRing::open(file.clone(), now).unwrap();
        let principal = ring.authenticate(&made.key, now).unwrap();
        let wrong = ring.authenticate(&format!("{}x", &made.key[..made.key.len() - 1]), now);
        let hasher = UserHasher::open(dir, None).unwrap();
        let user = UserId::new("someone@example.org").unwrap();
        let sealing = SealingKeys::new(dir, &[], None);
        let keys = sealing.load(false, now).unwrap();
        let receipts = Receipts::open(dir).unwrap();
        let development = ensure_development_certificate(dir, now).unwrap();
        let tls = Tls::load(TlsOptions { cert: development.cert, key: development.key, client_ca: None }).unwrap();
        let mut shown = format!(
            "{file:?}{made:?}{ring:?}{principal:?}{wrong:?}{hasher:?}{:?}{user:?}{sealing:?}{keys:?}{:?}{receipts:?}{tls:?}",
            hasher.user_key(&user),
            sealing.rotate(now),
        );
        let secrets: Vec<String> = ["user-secret", "sealing-keys", "receipt-key", "development-key.pem"]
            .iter()
            .flat_map(|name| {
                let text = std::fs::read_to_string(dir.join(name)).unwrap();
                // Pieces, because half of a secret is too much as well.
                let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "+/=".contains(c)));
                words.filter(|word| word.len() >= 60).map(|word| word[24..36].to_owned()).collect::<Vec<_>>()
            })
            .chain([made.key[17..29].to_owned(), "someone".to_owned()])
            .collect();
        assert!(secrets.len() >= 8, "a secret was not found: {}", secrets.len());

        // Files that cannot be used any more are complained about.
        for name in ["keys.json", "user-secret", "sealing-keys", "receipt-key", "development-key.pem"] {
            let good = std::fs::read(dir.join(name)).unwrap();
            std::fs::write(dir.join(name), [&good[..good.len() - 9], b"\n\"="].concat()).unwrap();
        }
        let errors = [
            file.list().unwrap_err(),
            file.revoke(&made.key, now).unwrap_err(),
            UserHasher::open(dir, None).unwrap_err(),
            sealing.load(false, now).unwrap_err(),
            sealing.reload_if_changed().unwrap_err(),
            Receipts::open(dir).unwrap_err(),
            tls.reload(crate::domain::Timestamp(0)).unwrap_err(),
        ];
        errors.iter().for_each(|error| shown.push_str(&format!("{error}{error:?}")));
        for secret in secrets {
            assert!(!shown.contains(&secret), "{shown}");
        }
    }
}
