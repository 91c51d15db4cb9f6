//! Who is this without saying who it is? Pseudonyms for users.
//!
//! A [`UserKey`] is the first half of HMAC-SHA256 over the user's id. Without the secret nobody can tell whose it is,
//! not even by trying all ids.

use std::fmt;
use std::path::Path;

use ring::hmac;

use super::{SecurityError, from_hex, private_file, random_bytes, to_hex};
use crate::domain::{UserId, UserKey};

const FILE_NAME: &str = "user-secret";
const SECRET_BYTES: usize = 32;

/// Turns user ids into pseudonyms under one secret.
pub struct UserHasher {
    key: hmac::Key,
}

impl fmt::Debug for UserHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserHasher(…)")
    }
}

impl UserHasher {
    /// Uses the `configured` secret if there is one, else the one in the data folder, which is made at the first start.
    /// With another secret every user is a stranger: keep it with the backups, but not beside them.
    pub fn open(dir: &Path, configured: Option<&str>) -> Result<Self, SecurityError> {
        if let Some(secret) = configured {
            return Ok(Self::from_secret(secret.as_bytes()));
        }
        let file = dir.join(FILE_NAME);
        if !file.exists() {
            let secret = to_hex(&random_bytes::<SECRET_BYTES>()?);
            private_file::create(&file, format!("{secret}\n").as_bytes())?;
        }
        // Read even if it was just made: another process may have been faster.
        let text = std::fs::read_to_string(&file).map_err(|e| SecurityError::io(&file, &e))?;
        let secret: [u8; SECRET_BYTES] = from_hex(text.trim()).ok_or_else(|| {
            SecurityError::bad_file(&file, "it must hold 64 hexadecimal digits; restore it from a backup")
        })?;
        Ok(Self::from_secret(&secret))
    }

    /// Uses `secret`.
    pub fn from_secret(secret: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// The user's pseudonym; always the same under one secret.
    pub fn user_key(&self, user: &UserId) -> UserKey {
        let tag = hmac::sign(&self.key, user.as_str().as_bytes());
        let mut key = [0_u8; 16];
        key.copy_from_slice(&tag.as_ref()[..16]);
        UserKey(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> UserId {
        UserId::new(id).unwrap()
    }

    #[test]
    fn the_pseudonym_is_half_of_the_hmac() {
        // RFC 4231, test case 2.
        let key = UserHasher::from_secret(b"Jefe").user_key(&user("what do ya want for nothing?"));
        assert_eq!(to_hex(&key.0), "5bdcc146bf60754e6a042426089575c7");
    }

    #[test]
    fn the_secret_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = UserHasher::open(dir.path(), None).unwrap().user_key(&user("u1"));
        let hasher = UserHasher::open(dir.path(), None).unwrap();
        assert_eq!(hasher.user_key(&user("u1")), first);
        assert_ne!(hasher.user_key(&user("u2")), first);
        assert_ne!(UserHasher::open(dir.path(), Some("another")).unwrap().user_key(&user("u1")), first);
        let elsewhere = tempfile::tempdir().unwrap();
        assert_ne!(UserHasher::open(elsewhere.path(), None).unwrap().user_key(&user("u1")), first);
        assert_eq!(format!("{hasher:?}"), "UserHasher(…)");
    }

    #[test]
    fn a_damaged_secret_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), "abc").unwrap();
        let error = UserHasher::open(dir.path(), None).unwrap_err().to_string();
        assert!(error.contains("user-secret") && error.contains("backup"), "{error}");
        assert_eq!(std::fs::read(dir.path().join(FILE_NAME)).unwrap(), b"abc");
    }
}
