//! With which public keys are tokens checked? JWKS files and PEM, and what each kind of key verifies.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;

use super::TokenOptions;
use crate::security::SecurityError;
use crate::security::private_file::{self, Stamp};

const MAX_FILE_BYTES: u64 = 1024 * 1024;
const MAX_KEYS: usize = 256;
/// What stands before the 32 bytes of an Ed25519 key in its `SubjectPublicKeyInfo` (RFC 8410).
const ED25519_SPKI: &[u8] = &[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
/// What stands before the 65 bytes of an uncompressed point on P-256 (RFC 5480).
const P256_SPKI: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7, 3,
    0x42, 0,
];
/// The algorithm identifier of an RSA key (RFC 3279).
const RSA_ALGORITHM: &[u8] = &[0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];

/// What the files were like.
pub(super) type Stamps = Vec<Option<Stamp>>;

pub(super) fn stamps(options: &TokenOptions) -> Stamps {
    options.jwks_file.iter().chain(&options.public_keys).map(|file| Stamp::of(file)).collect()
}

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    EdDsa,
    Es256,
    Rs256,
}

impl Algorithm {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}

/// A public key, and with it its only algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PublicKey {
    /// 32 bytes.
    Ed25519(Vec<u8>),
    /// An uncompressed point, 65 bytes.
    P256(Vec<u8>),
    /// Modulus and exponent.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// An `RSAPublicKey` (RFC 8017) in DER.
    RsaDer(Vec<u8>),
}

impl PublicKey {
    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Ed25519(_) => Algorithm::EdDsa,
            Self::P256(_) => Algorithm::Es256,
            Self::Rsa { .. } | Self::RsaDer(_) => Algorithm::Rs256,
        }
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
            Self::P256(key) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, signature),
            Self::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Self::RsaDer(key) => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).verify(message, signature),
        }
        .is_ok()
    }

    /// From a `SubjectPublicKeyInfo`; `None` if it is of another kind.
    fn from_spki(der: &[u8]) -> Option<Self> {
        if let Some(key) = der.strip_prefix(ED25519_SPKI) {
            return (key.len() == 32).then(|| Self::Ed25519(key.to_owned()));
        }
        if let Some(key) = der.strip_prefix(P256_SPKI) {
            return (key.len() == 65).then(|| Self::P256(key.to_owned()));
        }
        let rest = contents(der, 0x30)?.strip_prefix(RSA_ALGORITHM)?;
        let key = contents(rest, 0x03)?.strip_prefix(&[0])?;
        Some(Self::RsaDer(key.to_owned()))
    }
}

/// What a DER element with this tag holds, if it takes up all of `der`.
fn contents(der: &[u8], tag: u8) -> Option<&[u8]> {
    let (&first, rest) = der.strip_prefix(&[tag])?.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let digits = usize::from(first & 0x7f);
        if !(1..=4).contains(&digits) || rest.len() < digits {
            return None;
        }
        let (digits, rest) = rest.split_at(digits);
        (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    (rest.len() == length).then_some(rest)
}

/// The keys by their ids.
#[derive(Debug)]
pub(super) struct KeySet(BTreeMap<String, PublicKey>);

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

/// A JSON Web Key, as far as public keys for signatures need it.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl KeySet {
    /// Reads all files. Keys of other kinds are passed over with a warning; if nothing is left, that is an error.
    pub(super) fn load(options: &TokenOptions) -> Result<Self, SecurityError> {
        let mut keys = BTreeMap::new();
        if let Some(file) = &options.jwks_file {
            let bad = |reason: String| SecurityError::bad_file(file, reason);
            let text = private_file::read(file, MAX_FILE_BYTES)?.ok_or_else(|| bad("it is not there".into()))?;
            let set: Jwks = serde_json::from_str(&text)
                .map_err(|e| bad(format!("it is no JSON Web Key Set: line {}, column {}", e.line(), e.column())))?;
            for (n, jwk) in set.keys.iter().enumerate() {
                match jwk.public_key() {
                    Ok(key) => {
                        let id = jwk.kid.clone().unwrap_or_else(|| format!("key-{n}"));
                        if keys.insert(id, key).is_some() {
                            return Err(bad(format!("keys[{n}] has the id of another key")));
                        }
                    }
                    Err(reason) => tracing::warn!(file = %file.display(), key = n, reason, "a key is passed over"),
                }
            }
        }
        for file in &options.public_keys {
            let key = read_pem(file)?;
            let id = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
            if keys.insert(id, key).is_some() {
                return Err(SecurityError::bad_file(file, "another key has the same id"));
            }
        }
        if keys.is_empty() || keys.len() > MAX_KEYS {
            let file = options.jwks_file.as_deref().unwrap_or(Path::new("security.tokens"));
            return Err(SecurityError::bad_file(file, format!("there must be 1 to {MAX_KEYS} keys that can be used")));
        }
        Ok(Self(keys))
    }

    /// The key of this id. A token that names none means the only one there is.
    pub(super) fn find(&self, id: Option<&str>) -> Option<(&str, &PublicKey)> {
        let found = match id {
            Some(id) => self.0.get_key_value(id),
            None if self.0.len() == 1 => self.0.first_key_value(),
            None => None,
        };
        found.map(|(id, key)| (id.as_str(), key))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn read_pem(file: &Path) -> Result<PublicKey, SecurityError> {
    let bad = |reason: &str| SecurityError::bad_file(file, reason);
    let text = private_file::read(file, MAX_FILE_BYTES)?.ok_or_else(|| bad("it is not there"))?;
    let spki = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes())
        .map_err(|_| bad("it holds no public key (BEGIN PUBLIC KEY) in PEM"))?;
    PublicKey::from_spki(spki.as_ref()).ok_or_else(|| bad("its key is neither Ed25519 nor P-256 nor RSA"))
}

impl Jwk {
    fn public_key(&self) -> Result<PublicKey, &'static str> {
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return Err("it is not for signatures");
        }
        let bytes = |text: &Option<String>| {
            let text = text.as_deref().ok_or("a number is missing")?;
            URL_SAFE_NO_PAD.decode(text).map_err(|_| "a number is not URL-safe Base64")
        };
        let key = match (self.kty.as_str(), self.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => {
                let x = bytes(&self.x)?;
                if x.len() != 32 {
                    return Err("a number has the wrong length");
                }
                PublicKey::Ed25519(x)
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(&self.x)?, bytes(&self.y)?);
                if x.len() != 32 || y.len() != 32 {
                    return Err("a number has the wrong length");
                }
                PublicKey::P256([&[4], &x[..], &y[..]].concat())
            }
            ("RSA", _) => {
                let (n, e) = (bytes(&self.n)?, bytes(&self.e)?);
                if n.len() < 256 {
                    return Err("its modulus has less than 2048 bits");
                }
                PublicKey::Rsa { n, e }
            }
            // Whoever can check such a token could sign one.
            ("oct", _) => return Err("it is a shared secret"),
            _ => return Err("its kind is not supported"),
        };
        match self.alg.as_deref() {
            Some(alg) if alg != key.algorithm().name() => Err("its algorithm is not supported"),
            Some(_) | None => Ok(key),
        }
    }
}
