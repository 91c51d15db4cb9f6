//! Which keys are there? The file `keys.json` in the data folder, and how keys are made and revoked.
//!
//! A key reads `un_<id>_<secret>`; the secret is 32 random bytes in URL-safe Base64. Only its SHA-256 is stored:
//! with so much randomness a slow hash would add nothing. Commands change the file while the server runs; the
//! [`KeyRing`](super::KeyRing) notices. A revoked key stays in the file, so that its use can still be explained.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::{RateLimit, Scopes, SecurityError, private_file, random_bytes, to_hex};
use crate::domain::Timestamp;

const FILE_NAME: &str = "keys.json";
const FORMAT: u32 = 1;
const PREFIX: &str = "un";
const MAX_KEYS: usize = 10_000;
const MAX_NAME_BYTES: usize = 200;

/// What a new key is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct NewKey {
    /// What it is for, in the operator's words; 1 to 200 bytes.
    pub name: String,
    /// What it may be used for; at least one scope.
    pub scopes: Scopes,
    /// When it ends, if ever.
    pub expires_at: Option<Timestamp>,
    /// Its own rate limit, in place of the default.
    pub rate_limit: Option<RateLimit>,
}

/// A key that has just been made. This is the only time that it can be read.
pub struct CreatedKey {
    /// The key, to be handed to its user and not kept.
    pub key: String,
    /// What is known about it from now on.
    pub info: ApiKeyInfo,
}

impl fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedKey").field("info", &self.info).finish_non_exhaustive()
    }
}

/// A key without its secret.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKeyInfo {
    /// Twelve hexadecimal digits; the part of the key that may be shown.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// What it may be used for.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends, if ever.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
    /// Its own rate limit.
    pub rate_limit: Option<RateLimit>,
}

/// A key as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredKey {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) scopes: Scopes,
    pub(super) created_at_ms: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_at_ms: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) revoked_at_ms: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rate_limit: Option<RateLimit>,
    /// Of the whole key, in hexadecimal digits.
    pub(super) sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    format: u32,
    keys: Vec<StoredKey>,
}

/// The file with the keys.
#[derive(Debug, Clone)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// The file in the data folder `dir`; it need not exist yet.
    pub fn in_dir(dir: &Path) -> Self {
        Self { path: dir.join(FILE_NAME) }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a key and stores its hash.
    pub fn create(&self, new: NewKey, now: Timestamp) -> Result<CreatedKey, SecurityError> {
        if new.name.is_empty() || new.name.len() > MAX_NAME_BYTES || new.name.chars().any(char::is_control) {
            return Err(SecurityError::BadRequest("its name must have 1 to 200 bytes and no control characters"));
        }
        if new.scopes.is_empty() {
            return Err(SecurityError::BadRequest("it needs at least one scope"));
        }
        if new.expires_at.is_some_and(|end| end <= now) {
            return Err(SecurityError::BadRequest("it would have expired already"));
        }
        let id = to_hex(&random_bytes::<6>()?);
        let key = format!("{PREFIX}_{id}_{}", URL_SAFE_NO_PAD.encode(random_bytes::<32>()?));
        let stored = StoredKey {
            id,
            name: new.name,
            scopes: new.scopes,
            created_at_ms: now,
            expires_at_ms: new.expires_at,
            revoked_at_ms: None,
            rate_limit: new.rate_limit,
            sha256: to_hex(&hash(&key)),
        };
        let info = stored.info();
        self.change(|keys| {
            if keys.len() >= MAX_KEYS {
                return Err(SecurityError::BadRequest("there are too many keys already"));
            }
            keys.push(stored);
            Ok(())
        })?;
        Ok(CreatedKey { key, info })
    }

    /// Every key, in the order in which they were made.
    pub fn list(&self) -> Result<Vec<ApiKeyInfo>, SecurityError> {
        Ok(self.read()?.iter().map(StoredKey::info).collect())
    }

    /// Ends a key at once; running servers notice within about a second. Revoking twice changes nothing. In place of the
    /// id the whole key will do: one that has leaked is at hand.
    pub fn revoke(&self, id: &str, now: Timestamp) -> Result<ApiKeyInfo, SecurityError> {
        let id = id_of(id).unwrap_or(id);
        self.change(|keys| {
            let key = keys.iter_mut().find(|key| key.id == id);
            // No more than an id is long: it may be a key that was mistyped.
            let key = key.ok_or_else(|| SecurityError::NoSuchKey(id.chars().take(12).collect()))?;
            key.revoked_at_ms.get_or_insert(now);
            Ok(key.info())
        })
    }

    /// The stored keys; none if there is no file.
    pub(super) fn read(&self) -> Result<Vec<StoredKey>, SecurityError> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(SecurityError::io(&self.path, &e)),
        };
        let contents: Contents = serde_json::from_slice(&bytes)
            .map_err(|e| SecurityError::bad_file(&self.path, format!("line {}, column {}", e.line(), e.column())))?;
        if contents.format != FORMAT {
            return Err(SecurityError::bad_file(&self.path, format!("format {} is not known", contents.format)));
        }
        Ok(contents.keys)
    }

    /// Reads, changes and replaces the file; two commands at once take turns.
    fn change<T>(
        &self,
        edit: impl FnOnce(&mut Vec<StoredKey>) -> Result<T, SecurityError>,
    ) -> Result<T, SecurityError> {
        let _turn = private_file::take_turn(&self.path)?;
        let mut keys = self.read()?;
        let done = edit(&mut keys)?;
        let mut json = serde_json::to_vec_pretty(&Contents { format: FORMAT, keys })
            .map_err(|e| SecurityError::bad_file(&self.path, e.to_string()))?;
        json.push(b'\n');
        private_file::replace(&self.path, &json)?;
        Ok(done)
    }
}

impl StoredKey {
    fn info(&self) -> ApiKeyInfo {
        ApiKeyInfo {
            id: self.id.clone(),
            name: self.name.clone(),
            scopes: self.scopes.clone(),
            created_at: self.created_at_ms,
            expires_at: self.expires_at_ms,
            revoked_at: self.revoked_at_ms,
            rate_limit: self.rate_limit,
        }
    }
}

/// What is stored of a key.
pub(super) fn hash(key: &str) -> [u8; 32] {
    let mut hash = [0_u8; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, key.as_bytes()).as_ref());
    hash
}

/// The id inside a key; `None` if it has not the form of a key.
pub(super) fn id_of(key: &str) -> Option<&str> {
    let (id, secret) = key.strip_prefix(PREFIX)?.strip_prefix('_')?.split_once('_')?;
    (id.len() == 12 && secret.len() == 43).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::Scope;

    fn new_key(name: &str) -> NewKey {
        NewKey { name: name.into(), scopes: Scopes::from_iter([Scope::Ingest]), expires_at: None, rate_limit: None }
    }

    #[test]
    fn keys_are_made_listed_and_revoked_and_their_secrets_are_not_stored() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(&dir.path().join("new"));
        assert!(file.list().unwrap().is_empty());
        let limit = RateLimit::new(5, 10);
        let first = file.create(NewKey { rate_limit: limit, ..new_key("import") }, Timestamp(10)).unwrap();
        let second = file.create(new_key("tv"), Timestamp(20)).unwrap();
        assert_eq!(id_of(&first.key), Some(first.info.id.as_str()));
        assert_ne!(first.key, second.key);
        assert_eq!(file.list().unwrap(), [first.info.clone(), second.info.clone()]);
        assert_eq!(first.info.rate_limit, limit);

        // The secret may itself hold a `_`.
        let secret = first.key.splitn(3, '_').last().unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert!(!text.contains(secret) && !format!("{first:?}").contains(secret));

        assert_eq!(file.revoke(&first.info.id, Timestamp(30)).unwrap().revoked_at, Some(Timestamp(30)));
        assert_eq!(file.revoke(&first.info.id, Timestamp(40)).unwrap().revoked_at, Some(Timestamp(30)));
        assert_eq!(file.revoke("none", Timestamp(40)), Err(SecurityError::NoSuchKey("none".into())));
        assert_eq!(file.list().unwrap().len(), 2);

        assert_eq!(file.revoke(&second.key, Timestamp(50)).unwrap().id, second.info.id, "a whole key names itself");
        let mistyped = file.revoke(&second.key[1..], Timestamp(50)).unwrap_err();
        assert!(!mistyped.to_string().contains(&second.key[16..20]), "{mistyped}");
    }

    #[test]
    fn keys_that_make_no_sense_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(dir.path());
        let bad = [
            new_key(""),
            new_key("a\nb"),
            new_key(&"x".repeat(201)),
            NewKey { scopes: Scopes::default(), ..new_key("a") },
            NewKey { expires_at: Some(Timestamp(100)), ..new_key("a") },
        ];
        for new in bad {
            assert!(matches!(file.create(new, Timestamp(100)), Err(SecurityError::BadRequest(_))));
        }
        assert!(!file.path().exists());
    }

    #[test]
    fn commands_at_once_lose_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(dir.path());
        std::thread::scope(|scope| {
            for t in 0..4 {
                let file = &file;
                scope.spawn(move || {
                    for i in 0..5 {
                        file.create(new_key(&format!("{t}-{i}")), Timestamp(0)).unwrap();
                    }
                });
            }
        });
        assert_eq!(file.list().unwrap().len(), 20);
    }

    #[test]
    fn a_damaged_file_is_named_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(dir.path());
        for text in ["{", "{\"format\": 2, \"keys\": []}", "{\"format\": 1, \"keys\": [], \"more\": 1}"] {
            std::fs::write(file.path(), text).unwrap();
            assert!(file.list().unwrap_err().to_string().contains("keys.json"));
            assert!(file.create(new_key("a"), Timestamp(0)).is_err());
            assert_eq!(std::fs::read_to_string(file.path()).unwrap(), text);
        }
    }

    #[test]
    fn only_what_has_the_form_of_a_key_has_an_id() {
        let key = format!("un_0123456789ab_{}", "s".repeat(43));
        assert_eq!(id_of(&key), Some("0123456789ab"));
        for bad in ["", "un", "un_", "un__", "un_0123456789ab", "un_0123456789ab_", "xx_0123456789ab_s", &key[..50]] {
            assert_eq!(id_of(bad), None, "{bad}");
        }
    }
}
