//! Whose key is this? Checks keys against the stored hashes and follows changes of the file.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;

use super::api_keys::{self, KeyFile, StoredKey};
use super::private_file::Stamp;
use super::{Principal, Scope, SecurityError, from_hex};
use crate::domain::Timestamp;

/// The file is looked at no more often than this.
const CHECK_EVERY_MS: i64 = 1000;

/// Why someone may not do what they asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// What was presented has not the form of a key.
    #[error("this is not an API key")]
    Malformed,
    /// There is no such key, or its secret is wrong.
    #[error("this API key is not known")]
    Unknown,
    /// The key's time is over.
    #[error("this API key has expired")]
    Expired,
    /// The key was revoked.
    #[error("this API key was revoked")]
    Revoked,
    /// The key is good, but not for this.
    #[error("this API key lacks the scope `{0}`")]
    Forbidden(Scope),
}

impl AuthError {
    /// One fixed word for metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Forbidden(_) => "scope",
        }
    }
}

/// The keys that a server accepts.
#[derive(Debug)]
pub struct KeyRing {
    file: KeyFile,
    loaded: ArcSwap<Loaded>,
    next_check_ms: AtomicI64,
}

#[derive(Debug)]
struct Loaded {
    stamp: Option<Stamp>,
    keys: HashMap<String, Key>,
}

#[derive(Debug)]
struct Key {
    hash: [u8; 32],
    expires_at: Option<Timestamp>,
    revoked: bool,
    principal: Principal,
}

impl KeyRing {
    /// Reads the keys of the data folder. No file means no keys; a damaged one is an error.
    pub fn open(file: KeyFile, now: Timestamp) -> Result<Self, SecurityError> {
        let loaded = load(&file)?;
        let next_check_ms = AtomicI64::new(now.0.saturating_add(CHECK_EVERY_MS));
        Ok(Self { file, loaded: ArcSwap::from_pointee(loaded), next_check_ms })
    }

    /// Says whose key this is. At most once a second it also looks whether the file has changed; if the new file
    /// cannot be read, the keys stay as they were and a warning is logged.
    ///
    /// What the comparison takes does not depend on how much of the secret is right.
    pub fn authenticate(&self, presented: &str, now: Timestamp) -> Result<Principal, AuthError> {
        self.follow_file(now);
        let id = api_keys::id_of(presented).ok_or(AuthError::Malformed)?;
        let hash = api_keys::hash(presented);
        let loaded = self.loaded.load();
        let key = loaded.keys.get(id);
        // A key that is not there is compared too, so that ids cannot be told from the time that it takes.
        let equal = equal_in_constant_time(&hash, key.map_or(&[0; 32], |key| &key.hash));
        let key = key.filter(|_| equal).ok_or(AuthError::Unknown)?;
        if key.revoked {
            return Err(AuthError::Revoked);
        }
        if key.expires_at.is_some_and(|end| now >= end) {
            return Err(AuthError::Expired);
        }
        Ok(key.principal.clone())
    }

    /// Whether the key of this id could still be used at `now`; for those who were let in some time ago.
    pub fn is_usable(&self, key_id: &str, now: Timestamp) -> bool {
        self.follow_file(now);
        let loaded = self.loaded.load();
        loaded.keys.get(key_id).is_some_and(|key| !key.revoked && key.expires_at.is_none_or(|end| now < end))
    }

    /// How many keys could be used at `now`.
    pub fn usable_count(&self, now: Timestamp) -> usize {
        self.follow_file(now);
        let usable = |key: &&Key| !key.revoked && key.expires_at.is_none_or(|end| now < end);
        self.loaded.load().keys.values().filter(usable).count()
    }

    fn follow_file(&self, now: Timestamp) {
        let due_ms = self.next_check_ms.load(Ordering::Relaxed);
        // A clock that was set back must not stop the checks.
        if now.0 < due_ms && due_ms - now.0 <= CHECK_EVERY_MS {
            return;
        }
        let next_ms = now.0.saturating_add(CHECK_EVERY_MS);
        if self.next_check_ms.compare_exchange(due_ms, next_ms, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return; // Another request is looking.
        }
        if Stamp::of(self.file.path()) == self.loaded.load().stamp {
            return;
        }
        match load(&self.file) {
            Ok(loaded) => {
                tracing::info!(keys = loaded.keys.len(), "the API keys have changed");
                self.loaded.store(Arc::new(loaded));
            }
            Err(error) => tracing::warn!(%error, "the changed API keys cannot be read; the former ones stay valid"),
        }
    }
}

fn load(file: &KeyFile) -> Result<Loaded, SecurityError> {
    // Before reading: a change in between is noticed the next time.
    let stamp = Stamp::of(file.path());
    let mut keys = HashMap::new();
    for stored in file.read()? {
        let hash = from_hex(&stored.sha256)
            .ok_or_else(|| SecurityError::bad_file(file.path(), format!("the hash of key {} is none", stored.id)))?;
        let StoredKey { id, name, scopes, expires_at_ms, revoked_at_ms, rate_limit, .. } = stored;
        let principal = Principal::of_key(id.clone(), name, scopes, rate_limit);
        keys.insert(id, Key { hash, expires_at: expires_at_ms, revoked: revoked_at_ms.is_some(), principal });
    }
    Ok(Loaded { stamp, keys })
}

fn equal_in_constant_time(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a.iter().zip(b).fold(0_u8, |sum, (x, y)| sum | (x ^ y));
    // Keeps the compiler from stopping at the first difference.
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::{NewKey, RateLimit, Scopes};

    fn new_key(scope: Scope) -> NewKey {
        NewKey { name: "n".into(), scopes: Scopes::from_iter([scope]), expires_at: None, rate_limit: None }
    }

    #[test]
    fn a_key_is_known_by_its_whole_text() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(dir.path());
        let now = Timestamp(0);
        let limit = RateLimit::new(3, 6);
        let made = file.create(NewKey { rate_limit: limit, ..new_key(Scope::Ingest) }, now).unwrap();
        let other = file.create(new_key(Scope::Admin), now).unwrap();
        let ring = KeyRing::open(file, now).unwrap();

        let principal = ring.authenticate(&made.key, now).unwrap();
        assert_eq!((principal.key_id(), principal.name()), (made.info.id.as_str(), "n"));
        assert_eq!(principal.rate_limit(), limit);
        assert_eq!(principal.require(Scope::Ingest), Ok(()));
        assert_eq!(principal.require(Scope::Recommend), Err(AuthError::Forbidden(Scope::Recommend)));
        assert_eq!(ring.authenticate(&other.key, now).unwrap().require(Scope::Recommend), Ok(()));

        let mut wrong = made.key.clone();
        let last = if wrong.pop() == Some('A') { 'B' } else { 'A' };
        wrong.push(last);
        assert_eq!(ring.authenticate(&wrong, now), Err(AuthError::Unknown));
        let swapped = format!("un_{}_{}", made.info.id, other.key.splitn(3, '_').last().unwrap());
        assert_eq!(ring.authenticate(&swapped, now), Err(AuthError::Unknown));
        assert_eq!(ring.authenticate("Bearer x", now), Err(AuthError::Malformed));
        assert_eq!(ring.authenticate("", now), Err(AuthError::Malformed));
    }

    #[test]
    fn keys_end_at_their_time() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(dir.path());
        let end = Some(Timestamp(5000));
        let made = file.create(NewKey { expires_at: end, ..new_key(Scope::Ingest) }, Timestamp(0)).unwrap();
        let ring = KeyRing::open(file, Timestamp(0)).unwrap();
        assert!(ring.authenticate(&made.key, Timestamp(4999)).is_ok());
        assert_eq!(ring.usable_count(Timestamp(4999)), 1);
        assert_eq!(ring.authenticate(&made.key, Timestamp(5000)), Err(AuthError::Expired));
        assert_eq!(ring.usable_count(Timestamp(5000)), 0);
    }

    #[test]
    fn changes_of_the_file_are_followed_once_a_second() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(dir.path());
        let ring = KeyRing::open(file.clone(), Timestamp(0)).unwrap();
        assert_eq!(ring.usable_count(Timestamp(0)), 0);

        let made = file.create(new_key(Scope::Ingest), Timestamp(0)).unwrap();
        assert_eq!(ring.authenticate(&made.key, Timestamp(999)), Err(AuthError::Unknown), "not looked at yet");
        assert!(ring.authenticate(&made.key, Timestamp(1000)).is_ok());

        file.revoke(&made.info.id, Timestamp(1500)).unwrap();
        assert!(ring.authenticate(&made.key, Timestamp(1999)).is_ok());
        assert_eq!(ring.authenticate(&made.key, Timestamp(2000)), Err(AuthError::Revoked));
    }

    #[test]
    fn a_damaged_file_changes_nothing_but_a_removed_one_ends_all_keys() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(dir.path());
        let made = file.create(new_key(Scope::Ingest), Timestamp(0)).unwrap();
        let ring = KeyRing::open(file.clone(), Timestamp(0)).unwrap();
        let good = std::fs::read(file.path()).unwrap();
        std::fs::write(file.path(), b"{").unwrap();
        assert!(ring.authenticate(&made.key, Timestamp(1000)).is_ok());
        assert!(KeyRing::open(file.clone(), Timestamp(0)).is_err());
        std::fs::write(file.path(), good).unwrap();
        assert!(ring.authenticate(&made.key, Timestamp(2000)).is_ok());
        std::fs::remove_file(file.path()).unwrap();
        assert_eq!(ring.authenticate(&made.key, Timestamp(3000)), Err(AuthError::Unknown));
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stop_the_checks() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(dir.path());
        let ring = KeyRing::open(file.clone(), Timestamp(1_000_000)).unwrap();
        let made = file.create(new_key(Scope::Ingest), Timestamp(0)).unwrap();
        assert!(ring.authenticate(&made.key, Timestamp(10)).is_ok());
    }
}
