//! How can somebody else make sure of what the service says it did? Receipts that are signed.
//!
//! A receipt is a compact JWS (RFC 7515) with an Ed25519 signature (RFC 8037), so that any library for JWTs can check it.
//! The private key is the file `receipt-key` in the data folder, PKCS#8 in PEM; the public one may be handed to anybody.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{SecurityError, private_file, random_bytes};

const FILE_NAME: &str = "receipt-key";
const MAX_FILE_BYTES: u64 = 16 * 1024;
/// Says that a signature of this key stands under a receipt of erasure and under nothing else.
const TYPE: &str = "upnext-erasure+jwt";
const MAX_RECEIPT_BYTES: usize = 64 * 1024;
/// What stands before the 32 secret bytes in the PKCS#8 form of an Ed25519 key (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// Signs receipts.
pub struct Receipts {
    pair: Ed25519KeyPair,
    key: ReceiptKey,
}

/// The public key that receipts are checked with.
#[derive(Clone, PartialEq, Eq)]
pub struct ReceiptKey([u8; 32]);

/// Why something is not a receipt that can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// It is longer than any receipt.
    #[error("it has more than {MAX_RECEIPT_BYTES} bytes")]
    TooLong,
    /// It has not the form of one.
    #[error("it is not a signed receipt: {0}")]
    Malformed(&'static str),
    /// It names another key.
    #[error("it was signed with another key")]
    OtherKey,
    /// Something in it was changed, or another key signed it.
    #[error("its signature is wrong: it was changed, or signed with another key")]
    Signature,
    /// The key signed something that is no receipt of erasure.
    #[error("it is signed, but it is not a receipt of erasure")]
    OtherType,
    /// The key to check it with is none.
    #[error("the public key cannot be used: {0}")]
    Key(&'static str),
}

/// The protected header. What it does not name here would have to be understood, so it is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
}

impl fmt::Debug for Receipts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipts").field("key", &self.key).finish_non_exhaustive()
    }
}

impl fmt::Debug for ReceiptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReceiptKey({})", self.id())
    }
}

impl Receipts {
    /// Uses the key in the data folder `dir`, which is made if there is none. One that cannot be read is not replaced.
    pub fn open(dir: &Path) -> Result<Self, SecurityError> {
        if let Some(receipts) = Self::open_existing(dir)? {
            return Ok(receipts);
        }
        let file = dir.join(FILE_NAME);
        let der = [&PKCS8_PREFIX[..], &random_bytes::<32>()?].concat();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der));
        private_file::create(&file, pem.as_bytes())?;
        // Read even if it was just made: another process may have been faster.
        Self::open_existing(dir)?.ok_or_else(|| SecurityError::bad_file(&file, "it was removed while it was made"))
    }

    /// Uses the key in the data folder `dir`; `None` if there is none, because nothing has been signed yet.
    pub fn open_existing(dir: &Path) -> Result<Option<Self>, SecurityError> {
        let file = dir.join(FILE_NAME);
        let Some(pem) = private_file::read(&file, MAX_FILE_BYTES)? else { return Ok(None) };
        let bad = || SecurityError::bad_file(&file, "it is no Ed25519 key (PKCS#8 in PEM); restore it from a backup");
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| bad())?;
        // "Maybe unchecked": the form that OpenSSL writes does not hold the public key a second time.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).map_err(|_| bad())?;
        let public = <[u8; 32]>::try_from(pair.public_key().as_ref()).map_err(|_| bad())?;
        Ok(Some(Self { pair, key: ReceiptKey(public) }))
    }

    /// The signed form of `payload`: three parts in URL-safe Base64 with dots between them. It can be read by everybody.
    pub fn sign(&self, payload: &Value) -> String {
        let header = json!({"alg": "EdDSA", "typ": TYPE, "kid": self.key.id()});
        let [header, payload] = [header, payload.clone()].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{payload}");
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// The key to check receipts with.
    pub fn key(&self) -> &ReceiptKey {
        &self.key
    }

    /// The key to check receipts with, as a JSON Web Key (RFC 7517, RFC 8037).
    pub fn public_key_jwk(&self) -> Value {
        self.key.to_jwk()
    }
}

impl ReceiptKey {
    /// Reads a JSON Web Key of type `OKP` on the curve `Ed25519`.
    pub fn from_jwk(jwk: &Value) -> Result<Self, ReceiptError> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        if text("kty") != Some("OKP") || text("crv") != Some("Ed25519") {
            return Err(ReceiptError::Key("it is not a JSON Web Key with kty OKP and crv Ed25519"));
        }
        let bytes = text("x").and_then(|x| URL_SAFE_NO_PAD.decode(x).ok());
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Self).ok_or(ReceiptError::Key("its x is not 32 bytes in URL-safe Base64"))
    }

    /// The key as a JSON Web Key.
    pub fn to_jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.0);
        json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.id(), "alg": "EdDSA", "use": "sig"})
    }

    /// The thumbprint of the key (RFC 7638), which receipts name as `kid`.
    pub fn id(&self) -> String {
        // The RFC prescribes these members in this order, without a space.
        let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, URL_SAFE_NO_PAD.encode(self.0));
        URL_SAFE_NO_PAD.encode(digest(&SHA256, members.as_bytes()))
    }

    /// What a receipt says, if this key signed it and nothing in it was changed.
    pub fn verify(&self, receipt: &str) -> Result<Value, ReceiptError> {
        let (header, payload) = self.open(receipt)?;
        if header.typ.as_deref() != Some(TYPE) {
            return Err(ReceiptError::OtherType);
        }
        serde_json::from_slice(&payload).map_err(|_| ReceiptError::Malformed("its second part is not JSON"))
    }

    /// The header and the payload of a JWS that this key signed.
    fn open(&self, jws: &str) -> Result<(Header, Vec<u8>), ReceiptError> {
        if jws.len() > MAX_RECEIPT_BYTES {
            return Err(ReceiptError::TooLong);
        }
        let parts: Vec<&str> = jws.split('.').collect();
        let &[header, payload, signature] = parts.as_slice() else {
            return Err(ReceiptError::Malformed("it has not three parts with dots between them"));
        };
        let decode = |part: &str| {
            URL_SAFE_NO_PAD.decode(part).map_err(|_| ReceiptError::Malformed("a part is not URL-safe Base64"))
        };
        let (header_bytes, payload_bytes, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
        let header_json: Header = serde_json::from_slice(&header_bytes)
            .map_err(|_| ReceiptError::Malformed("its header has not exactly alg, typ and kid"))?;
        if header_json.alg != "EdDSA" {
            return Err(ReceiptError::Malformed("its algorithm is not EdDSA"));
        }
        if header_json.kid.as_ref().is_some_and(|kid| *kid != self.id()) {
            return Err(ReceiptError::OtherKey);
        }
        let signed = &jws.as_bytes()[..header.len() + 1 + payload.len()];
        UnparsedPublicKey::new(&ED25519, self.0).verify(signed, &signature).map_err(|_| ReceiptError::Signature)?;
        Ok((header_json, payload_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 8037, appendix A.
    const SECRET: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
    const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const THUMBPRINT: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
    const JWS: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3\
                       AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

    fn rfc_key() -> ReceiptKey {
        ReceiptKey::from_jwk(&json!({"kty": "OKP", "crv": "Ed25519", "x": PUBLIC})).unwrap()
    }

    /// A data folder whose key is the RFC's.
    fn rfc_receipts() -> (tempfile::TempDir, Receipts) {
        let dir = tempfile::tempdir().unwrap();
        let der = [&PKCS8_PREFIX[..], &URL_SAFE_NO_PAD.decode(SECRET).unwrap()].concat();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der));
        std::fs::write(dir.path().join(FILE_NAME), pem).unwrap();
        let receipts = Receipts::open(dir.path()).unwrap();
        (dir, receipts)
    }

    /// A JWS with this header and payload, signed by `receipts`.
    fn signed(receipts: &Receipts, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = receipts.pair.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    #[test]
    fn the_example_of_the_rfc_is_signed_and_checked_as_it_says() {
        let (_dir, receipts) = rfc_receipts();
        assert_eq!(receipts.key(), &rfc_key());
        assert_eq!(receipts.key().id(), THUMBPRINT);
        assert_eq!(receipts.public_key_jwk()["x"], PUBLIC);
        assert_eq!(ReceiptKey::from_jwk(&receipts.public_key_jwk()), Ok(rfc_key()));
        assert_eq!(signed(&receipts, r#"{"alg":"EdDSA"}"#, "Example of Ed25519 signing"), JWS);
        assert_eq!(rfc_key().open(JWS).unwrap().1, b"Example of Ed25519 signing");
        assert_eq!(rfc_key().verify(JWS), Err(ReceiptError::OtherType), "signed, but not as a receipt");
    }

    #[test]
    fn a_receipt_says_what_was_signed() {
        let (_dir, receipts) = rfc_receipts();
        let payload = json!({"records": 12, "of": "ü\n\u{202e}", "deep": [1, {"a": null}]});
        let receipt = receipts.sign(&payload);
        assert_eq!(receipts.key().verify(&receipt), Ok(payload.clone()));
        assert_eq!(receipts.sign(&payload), receipt, "Ed25519 needs no randomness");
        let header = URL_SAFE_NO_PAD.decode(receipt.split('.').next().unwrap()).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        assert_eq!(header, json!({"alg": "EdDSA", "typ": "upnext-erasure+jwt", "kid": THUMBPRINT}));
    }

    #[test]
    fn no_character_of_a_receipt_can_be_changed() {
        let (_dir, receipts) = rfc_receipts();
        let receipt = receipts.sign(&json!({"records": 1}));
        for at in 0..receipt.len() {
            for new in [b'A', b'B', b'.', b'=', b' '] {
                let mut bytes = receipt.clone().into_bytes();
                if bytes[at] == new {
                    continue;
                }
                bytes[at] = new;
                let changed = String::from_utf8(bytes).unwrap();
                assert!(receipts.key().verify(&changed).is_err(), "{changed}");
            }
        }
        for changed in [format!("{receipt}A"), format!("{receipt}."), format!("{receipt}="), format!(" {receipt}")] {
            assert!(receipts.key().verify(&changed).is_err(), "{changed}");
        }
        assert!((0..receipt.len()).all(|end| receipts.key().verify(&receipt[..end]).is_err()));
    }

    #[test]
    fn headers_and_payloads_that_are_not_ours_are_refused_even_if_signed() {
        let (_dir, receipts) = rfc_receipts();
        let verify = |header: &str, payload: &str| receipts.key().verify(&signed(&receipts, header, payload));
        let good = format!(r#"{{"alg":"EdDSA","typ":"{TYPE}","kid":"{THUMBPRINT}"}}"#);
        assert_eq!(verify(&good, "{}"), Ok(json!({})));
        assert_eq!(verify(&good.replace(THUMBPRINT, "another"), "{}"), Err(ReceiptError::OtherKey));
        assert_eq!(verify(&good.replace(TYPE, "JWT"), "{}"), Err(ReceiptError::OtherType));
        assert!(matches!(verify(&good, "{"), Err(ReceiptError::Malformed(_))));
        let algorithm = ["none", "HS256", "ES256", "eddsa", ""].map(|other| good.replace("EdDSA", other));
        let shape = ["", "{}", "[]", r#"{"alg":"EdDSA","alg":"none"}"#].map(String::from);
        let critical = [good.replace('}', r#","crit":["b64"],"b64":false}"#), good.replace('}', r#","jwk":{}}"#)];
        for header in [&algorithm[..], &shape, &critical].concat() {
            assert!(matches!(verify(&header, "{}"), Err(ReceiptError::Malformed(_))), "{header}");
        }
        let unsigned = receipts.sign(&json!({}));
        let unsigned = unsigned.rsplit_once('.').unwrap().0;
        assert_eq!(receipts.key().verify(&format!("{unsigned}.")), Err(ReceiptError::Signature));
        assert_eq!(receipts.key().verify(&"a".repeat(MAX_RECEIPT_BYTES + 1)), Err(ReceiptError::TooLong));
    }

    #[test]
    fn another_key_is_noticed() {
        let (_dir, receipts) = rfc_receipts();
        let elsewhere = tempfile::tempdir().unwrap();
        let other = Receipts::open(elsewhere.path()).unwrap();
        let receipt = other.sign(&json!({}));
        assert_eq!(receipts.key().verify(&receipt), Err(ReceiptError::OtherKey));
        let header = format!(r#"{{"alg":"EdDSA","typ":"{TYPE}"}}"#);
        assert_eq!(receipts.key().verify(&signed(&other, &header, "{}")), Err(ReceiptError::Signature));
        let lie = format!(r#"{{"alg":"EdDSA","typ":"{TYPE}","kid":"{THUMBPRINT}"}}"#);
        assert_eq!(receipts.key().verify(&signed(&other, &lie, "{}")), Err(ReceiptError::Signature));
    }

    #[test]
    fn only_an_ed25519_key_is_a_key() {
        let good = rfc_key().to_jwk();
        assert_eq!(ReceiptKey::from_jwk(&good), Ok(rfc_key()));
        let changes =
            [("kty", json!("EC")), ("crv", json!("X25519")), ("x", json!("AA")), ("x", json!(1)), ("x", json!(""))];
        for (name, value) in changes {
            let mut bad = good.clone();
            bad[name] = value;
            assert!(matches!(ReceiptKey::from_jwk(&bad), Err(ReceiptError::Key(_))), "{bad}");
        }
        assert!(ReceiptKey::from_jwk(&json!([])).is_err() && ReceiptKey::from_jwk(&json!(null)).is_err());
    }

    #[test]
    fn the_key_is_made_once_private_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("new");
        assert!(Receipts::open_existing(&folder).unwrap().is_none());
        assert!(!folder.exists(), "asking makes nothing");
        let keys = std::thread::scope(|scope| {
            let opened: Vec<_> =
                (0..8).map(|_| scope.spawn(|| Receipts::open(&folder).unwrap().key().clone())).collect();
            opened.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(keys.windows(2).all(|two| two[0] == two[1]));
        let receipts = Receipts::open_existing(&folder).unwrap().unwrap();
        assert_eq!(receipts.key(), &keys[0]);
        let file = folder.join(FILE_NAME);
        let pem = std::fs::read_to_string(&file).unwrap();
        let secret = pem.lines().nth(1).unwrap();
        assert!(!format!("{receipts:?}").contains(&secret[22..]));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_key_is_named_and_left_alone() {
        let (dir, _) = rfc_receipts();
        let file = dir.path().join(FILE_NAME);
        let good = std::fs::read_to_string(&file).unwrap();
        let cut = good.replace("MC4CAQAw", "");
        assert_ne!(cut, good);
        let p256 = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let long = format!("{good}{}", " ".repeat(20_000));
        for text in ["", "not a key", &cut, &good[..40], &p256, &long] {
            std::fs::write(&file, text).unwrap();
            let error = Receipts::open(dir.path()).unwrap_err().to_string();
            assert!(error.contains(FILE_NAME) && !error.contains("MC4CAQ"), "{error}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        }
        // OpenSSL and ring also write a second form, with the public key in it.
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(&pkcs8));
        std::fs::write(&file, pem).unwrap();
        assert!(Receipts::open(dir.path()).is_ok());
    }
}
