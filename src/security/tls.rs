//! With which certificate does the server show itself, and which clients does it let in?
//!
//! Certificates are read from PEM files and again when these change, without a restart. New files that cannot be used, or whose
//! certificate has expired, leave the old certificate in place.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::crypto::{CryptoProvider, ring as ring_provider};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::SecurityError;
use super::private_file::Stamp;
use super::validity::not_after;
use crate::domain::Timestamp;

/// What is asked of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// One that is sent must be good; none need be sent.
    Optional,
    /// There must be a good one.
    Required,
}

/// Where the material is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// The certificate chain, the server's own certificate first.
    pub cert: PathBuf,
    /// The private key of the first certificate.
    pub key: PathBuf,
    /// Those who sign client certificates, and whether clients must have one. `None` asks for none.
    pub client_ca: Option<(PathBuf, ClientAuth)>,
}

/// The server's TLS: versions 1.2 and 1.3, HTTP/2 and HTTP/1.1.
pub struct Tls {
    options: TlsOptions,
    provider: Arc<CryptoProvider>,
    certificate: Arc<Certificate>,
    config: ArcSwap<ServerConfig>,
    watch: Mutex<Watch>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("options", &self.options).finish_non_exhaustive()
    }
}

/// What the files were like at two moments.
#[derive(Debug)]
struct Watch {
    /// When they were last taken over.
    loaded: Stamps,
    /// When they last could not be used, so that the same fault is reported once.
    refused: Option<Stamps>,
}

type Stamps = [Option<Stamp>; 3];

impl Tls {
    /// Reads the files. The key must belong to the certificate.
    pub fn load(options: TlsOptions) -> Result<Self, SecurityError> {
        let provider = Arc::new(ring_provider::default_provider());
        let loaded = stamps(&options);
        let key = load_certified_key(&options.cert, &options.key)?;
        let certificate = Arc::new(Certificate(ArcSwap::from_pointee(key)));
        let config = build_config(&options, &provider, &certificate)?;
        Ok(Self {
            options,
            provider,
            certificate,
            config: ArcSwap::from(config),
            watch: Mutex::new(Watch { loaded, refused: None }),
        })
    }

    /// The configuration for a new connection. Take it anew for each one, so that changed client authorities count;
    /// a changed certificate counts either way.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// Reads the files again. On an error everything stays as it was.
    pub fn reload(&self, now: Timestamp) -> Result<(), SecurityError> {
        self.take_over(&mut self.watch.lock(), now)
    }

    /// Reads the files again if they have changed; to be called every few seconds. `true` if they were taken over.
    /// Files that cannot be used are reported once and tried again silently until they change or can be used,
    /// because a certificate and its key are seldom replaced at the same instant.
    pub fn reload_if_changed(&self, now: Timestamp) -> Result<bool, SecurityError> {
        let mut watch = self.watch.lock();
        let present = stamps(&self.options);
        if present == watch.loaded {
            watch.refused = None;
            return Ok(false);
        }
        let told = watch.refused == Some(present);
        match self.take_over(&mut watch, now) {
            Ok(()) => Ok(true),
            Err(_) if told => Ok(false),
            Err(error) => {
                watch.refused = Some(present);
                Err(error)
            }
        }
    }

    fn take_over(&self, watch: &mut Watch, now: Timestamp) -> Result<(), SecurityError> {
        // Before reading: a change in between is noticed the next time.
        let present = stamps(&self.options);
        let key = load_certified_key(&self.options.cert, &self.options.key)?;
        // No client would accept it; the one in use may still be good.
        if has_expired(&key, now) {
            return Err(SecurityError::bad_file(&self.options.cert, "its certificate has expired"));
        }
        let config = build_config(&self.options, &self.provider, &self.certificate)?;
        self.certificate.0.store(Arc::new(key));
        self.config.store(config);
        *watch = Watch { loaded: present, refused: None };
        Ok(())
    }
}

fn has_expired(key: &CertifiedKey, now: Timestamp) -> bool {
    key.cert.first().and_then(|own| not_after(own)).is_some_and(|end| end <= now)
}

/// The certificate of the moment, for every connection that begins.
struct Certificate(ArcSwap<CertifiedKey>);

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate(…)")
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// Reads a chain and its key and makes sure that they belong together.
pub(super) fn load_certified_key(cert: &Path, key: &Path) -> Result<CertifiedKey, SecurityError> {
    let chain = read_certificates(cert)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| pem_error(key, "private key", &e))?;
    CertifiedKey::from_der(chain, private, &ring_provider::default_provider()).map_err(|e| {
        if matches!(e, rustls::Error::InconsistentKeys(_)) {
            SecurityError::bad_file(key, format!("it is not the key of {}", cert.display()))
        } else {
            SecurityError::bad_file(cert, e.to_string())
        }
    })
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, SecurityError> {
    let read: Result<Vec<_>, PemError> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let chain = read.map_err(|e| pem_error(file, "certificate", &e))?;
    if chain.is_empty() { Err(pem_error(file, "certificate", &PemError::NoItemsFound)) } else { Ok(chain) }
}

fn build_config(
    options: &TlsOptions,
    provider: &Arc<CryptoProvider>,
    certificate: &Arc<Certificate>,
) -> Result<Arc<ServerConfig>, SecurityError> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| SecurityError::Tls(e.to_string()))?;
    let builder = match &options.client_ca {
        None => builder.with_no_client_auth(),
        Some((file, demand)) => {
            let mut roots = RootCertStore::empty();
            for root in read_certificates(file)? {
                roots.add(root).map_err(|e| SecurityError::bad_file(file, e.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            let verifier = match demand {
                ClientAuth::Optional => verifier.allow_unauthenticated(),
                ClientAuth::Required => verifier,
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|e| SecurityError::Tls(e.to_string()))?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::<Certificate>::clone(certificate));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn stamps(options: &TlsOptions) -> Stamps {
    let client_ca = options.client_ca.as_ref().and_then(|(file, _)| Stamp::of(file));
    [Stamp::of(&options.cert), Stamp::of(&options.key), client_ca]
}

/// Never shows the text of the file, which may be a key.
fn pem_error(file: &Path, wanted: &str, error: &PemError) -> SecurityError {
    if let PemError::Io(e) = error {
        SecurityError::io(file, e)
    } else if matches!(error, PemError::NoItemsFound) {
        SecurityError::bad_file(file, format!("it holds no {wanted} in PEM form"))
    } else {
        SecurityError::bad_file(file, "it is not valid PEM")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ProtocolVersion, SupportedProtocolVersion};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::security::ensure_development_certificate;

    fn development(dir: &Path) -> TlsOptions {
        // The handshakes below compare with the clock of the machine.
        let now = crate::domain::Clock::now(&crate::domain::SystemClock);
        let made = ensure_development_certificate(dir, now).unwrap();
        TlsOptions { cert: made.cert, key: made.key, client_ca: None }
    }

    type Issuer = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Issuer {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// A certificate for a client, as a chain and its key.
    fn client_identity(issuer: &Issuer) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, issuer).unwrap();
        (vec![cert.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    struct Client<'a> {
        trusts: &'a Path,
        identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
        version: &'static SupportedProtocolVersion,
        alpn: &'a [&'a [u8]],
    }

    /// A client that trusts `trusts` connects and says hello; gives the version and protocol agreed on and the
    /// certificate that the server showed.
    async fn connect(
        tls: &Tls,
        client: Client<'_>,
    ) -> Result<(ProtocolVersion, Option<Vec<u8>>, Vec<u8>), std::io::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(read_certificates(client.trusts).unwrap().remove(0)).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring_provider::default_provider()))
            .with_protocol_versions(&[client.version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match client.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        };
        config.alpn_protocols = client.alpn.iter().map(|p| p.to_vec()).collect();
        let (near, far) = tokio::io::duplex(16 * 1024);
        let acceptor = TlsAcceptor::from(tls.server_config());
        let server = async {
            let mut stream = acceptor.accept(far).await?;
            stream.write_all(b"hello").await?;
            stream.shutdown().await
        };
        let client = async {
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = TlsConnector::from(Arc::new(config)).connect(name, near).await?;
            let mut hello = Vec::new();
            stream.read_to_end(&mut hello).await?;
            assert_eq!(hello, b"hello");
            let session = stream.get_ref().1;
            let shown = session.peer_certificates().unwrap()[0].to_vec();
            Ok((session.protocol_version().unwrap(), session.alpn_protocol().map(<[u8]>::to_vec), shown))
        };
        let (served, connected) = tokio::join!(server, client);
        connected.and_then(|agreed| served.map(|()| agreed))
    }

    fn client(trusts: &Path) -> Client<'_> {
        Client { trusts, identity: None, version: &rustls::version::TLS13, alpn: &[] }
    }

    #[tokio::test]
    async fn both_versions_and_both_protocols_are_spoken() {
        let dir = tempfile::tempdir().unwrap();
        let options = development(dir.path());
        let tls = Tls::load(options.clone()).unwrap();
        let both: &[&[u8]] = &[b"http/1.1", b"h2"];
        let (version, alpn, _) = connect(&tls, Client { alpn: both, ..client(&options.cert) }).await.unwrap();
        assert_eq!((version, alpn.as_deref()), (ProtocolVersion::TLSv1_3, Some(&b"h2"[..])));
        let old = Client { alpn: &[b"http/1.1"], version: &rustls::version::TLS12, ..client(&options.cert) };
        let (version, alpn, _) = connect(&tls, old).await.unwrap();
        assert_eq!((version, alpn.as_deref()), (ProtocolVersion::TLSv1_2, Some(&b"http/1.1"[..])));
        let foreign = tempfile::tempdir().unwrap();
        let other = development(foreign.path());
        assert!(connect(&tls, client(&other.cert)).await.is_err(), "a client that does not trust it");
    }

    #[tokio::test]
    async fn client_certificates_are_asked_for_as_configured() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (authority(), authority());
        let ca = dir.path().join("ca.pem");
        fs::write(&ca, ours.pem()).unwrap();
        let plain = development(dir.path());
        let cases = [
            (ClientAuth::Required, None, false),
            (ClientAuth::Required, Some(&ours), true),
            (ClientAuth::Required, Some(&theirs), false),
            (ClientAuth::Optional, None, true),
            (ClientAuth::Optional, Some(&ours), true),
            (ClientAuth::Optional, Some(&theirs), false),
        ];
        for (demand, issuer, welcome) in cases {
            let tls = Tls::load(TlsOptions { client_ca: Some((ca.clone(), demand)), ..plain.clone() }).unwrap();
            for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
                let identity = issuer.map(client_identity);
                let answer = connect(&tls, Client { identity, version, ..client(&plain.cert) }).await;
                assert_eq!(answer.is_ok(), welcome, "{demand:?} {answer:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_changed_certificate_is_taken_over_and_a_bad_one_is_not() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let options = development(dir.path());
        let next = development(elsewhere.path());
        let tls = Tls::load(options.clone()).unwrap();
        let trusted = dir.path().join("trusted.pem");
        fs::copy(&options.cert, &trusted).unwrap();
        // Taken once, as by a server that does not ask again for each connection.
        let kept = tls.server_config();
        assert_eq!(tls.reload_if_changed(Timestamp(0)), Ok(false));

        // The new certificate comes first: it does not fit the old key, which is reported once.
        fs::copy(&next.cert, &options.cert).unwrap();
        let error = tls.reload_if_changed(Timestamp(0)).unwrap_err();
        assert!(error.to_string().contains("is not the key of"), "{error}");
        assert_eq!(tls.reload_if_changed(Timestamp(0)), Ok(false));
        assert!(tls.reload(Timestamp(0)).is_err());
        let (_, _, shown) = connect(&tls, client(&trusted)).await.unwrap();
        assert_eq!(shown, read_certificates(&trusted).unwrap()[0].to_vec());

        fs::copy(&next.key, &options.key).unwrap();
        assert_eq!(tls.reload_if_changed(Timestamp(0)), Ok(true));
        assert_eq!(tls.reload_if_changed(Timestamp(0)), Ok(false));
        tls.config.store(kept);
        let (_, _, shown) = connect(&tls, client(&next.cert)).await.unwrap();
        assert_eq!(shown, read_certificates(&next.cert).unwrap()[0].to_vec());
        assert!(connect(&tls, client(&trusted)).await.is_err(), "the former one is not shown any more");

        fs::remove_file(&options.key).unwrap();
        assert!(tls.reload_if_changed(Timestamp(0)).is_err());
        assert!(connect(&tls, client(&next.cert)).await.is_ok());
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let good = ensure_development_certificate(dir.path(), Timestamp(1_750_000_000_000)).unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("empty.pem"), "").unwrap();
        fs::write(path("broken.pem"), "-----BEGIN CERTIFICATE-----\n!!secret!!\n-----END CERTIFICATE-----\n").unwrap();
        let load = |cert: &Path, key: &Path, ca: Option<&Path>| {
            let client_ca = ca.map(|file| (file.to_owned(), ClientAuth::Required));
            let options = TlsOptions { cert: cert.to_owned(), key: key.to_owned(), client_ca };
            Tls::load(options).unwrap_err().to_string()
        };
        assert!(load(&path("none.pem"), &good.key, None).contains("none.pem"));
        assert!(load(&path("empty.pem"), &good.key, None).contains("holds no certificate"));
        assert!(load(&good.cert, &good.cert, None).contains("holds no private key"));
        assert!(load(&good.cert, &good.key, Some(&path("empty.pem"))).contains("empty.pem"));
        let text = load(&path("broken.pem"), &good.key, None);
        assert!(text.contains("broken.pem") && !text.contains("secret"), "{text}");
    }
}
