//! Who may ask, and what must nobody read? API keys, TLS material, pseudonyms, sealing keys.
//!
//! A request's key is turned into a [`Principal`] by the [`KeyRing`], whose rate is bounded by the [`RateLimiter`];
//! a user's id is turned into a pseudonym by the [`UserHasher`] before anything is stored; [`Tls`] holds the server's
//! certificate; [`SealingKeys`] are what the store seals its records under. Files that hold secrets are written for their owner only, and nothing here prints a secret.

mod api_keys;
mod development_certificate;
mod key_ring;
mod private_file;
mod pseudonym;
mod rate_limit;
mod scope;
mod sealing_keys;
mod tls;

use std::path::{Path, PathBuf};

pub use api_keys::{ApiKeyInfo, CreatedKey, KeyFile, NewKey};
pub use development_certificate::{DevelopmentCertificate, ensure_development_certificate};
pub use key_ring::{AuthError, KeyRing, Principal};
pub use pseudonym::UserHasher;
pub use rate_limit::{RateLimit, RateLimiter, RetryAfter};
pub use scope::{Scope, Scopes, UnknownScope};
pub use sealing_keys::{RotatedKey, SealingKeyInfo, SealingKeys};
pub use tls::{ClientAuth, Tls, TlsOptions};

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
