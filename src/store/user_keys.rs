//! With which key is a person's past sealed, and how is it lost for good? One small file that holds a key for each.
//!
//! Erasing somebody overwrites their key in its place. All that it sealed, in the log and in every copy of it, stays
//! unreadable from then on, which is why copies of this file must not be kept: only the newest one.
//!
//! The file is a head of 64 bytes (`UPNEXTUK`, format 1 as u32, zeros) and then slots of 96 bytes. A slot never moves
//! and is never used again:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | 1 for a key, 2 where one was erased |
//! | 3 | zeros |
//! | 16 | the person's pseudonym |
//! | 67 | the record ([`seal`](super::seal)) of the 32 bytes of the key, under a sealing key of the service |
//! | 5 | zeros |
//! | 4 | CRC-32 of the 92 bytes before |
//!
//! New keys are appended and synced before anything is sealed with them; many callers share one sync.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use redb::StorageBackend;
use ring::aead::LessSafeKey;

use super::StoreError;
use super::disk::{Disk, Reading};
use super::seal::{self, Kind, OVERHEAD_BYTES, SealError, ServiceKeys};
use crate::domain::{SealingKey, UserKey};

pub(super) const FILE_NAME: &str = "user-keys";
const RENEWED_NAME: &str = "user-keys.new";
const MAGIC: &[u8; 8] = b"UPNEXTUK";
const FORMAT: u32 = 1;
const HEAD_BYTES: usize = 64;
const SLOT_BYTES: usize = 96;
const RECORD_BYTES: usize = SealingKey::BYTES + OVERHEAD_BYTES;
const RECORD_AT: usize = 20;
const CHECKED_BYTES: usize = SLOT_BYTES - 4;
const PRESENT: u8 = 1;
const ERASED: u8 = 2;

/// Opened keys that are remembered.
const CACHED_KEYS: usize = 65_536;

/// Slots that are read at a time when the file is opened.
const SLOTS_A_READ: usize = 4096;

/// The file of user keys.
#[derive(Debug)]
pub(super) struct UserKeys {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    max_users: usize,
    state: RwLock<State>,
    /// Held during a sync, so that whoever waits for it finds it done.
    syncing: Mutex<()>,
    synced: AtomicU64,
    /// Why a sync failed, if one did: nobody knows what it has left on the disk, so no key is made or erased any more.
    failed: Mutex<Option<StoreError>>,
    opened: Mutex<HashMap<u32, [u8; SealingKey::BYTES]>>,
}

#[derive(Debug)]
struct State {
    file: Arc<dyn StorageBackend>,
    slots: HashMap<UserKey, u32>,
    /// Slots in the file, used for ever.
    used: u32,
    /// Those of them that hold no key: erased ones, and those that a crash or damage left unreadable.
    without_key: u32,
}

impl UserKeys {
    /// Opens the file, or makes it.
    pub(super) fn open(disk: Arc<dyn Disk>, max_users: usize) -> Result<Self, StoreError> {
        let path = disk.path(FILE_NAME);
        let failed = |e: io::Error| StoreError::from_io(&path, &e);
        let file = disk.open(FILE_NAME).map_err(failed)?;
        let head = head();
        let length = file.len().map_err(failed)?;
        if length < HEAD_BYTES as u64 {
            // A crash may have cut the very first write short; there is no key yet.
            file.set_len(HEAD_BYTES as u64).and_then(|()| file.write(0, &head)).map_err(failed)?;
            file.sync_data().map_err(failed)?;
        } else {
            let mut found = [0; HEAD_BYTES];
            file.read(0, &mut found).map_err(failed)?;
            // Zeros where the head should be, and no key yet: the length became durable, not all of the bytes.
            let begun = found.iter().zip(head).all(|(&found, whole)| found == whole || found == 0);
            if begun && found != head && length == HEAD_BYTES as u64 {
                file.write(0, &head).and_then(|()| file.sync_data()).map_err(failed)?;
            } else if found != head {
                let reason = "it is no file of user keys, or one of a newer version".to_owned();
                return Err(StoreError::Corrupt { file: path, reason });
            }
        }
        let state = read_slots(file).map_err(failed)?;
        let synced = AtomicU64::new(u64::from(state.used));
        Ok(Self {
            disk,
            path,
            max_users,
            state: RwLock::new(state),
            syncing: Mutex::new(()),
            synced,
            failed: Mutex::default(),
            opened: Mutex::default(),
        })
    }

    /// Opens the file in the folder `dir`, if there is one, for somebody who only reads.
    pub(super) fn open_existing(dir: &Path) -> Result<Self, StoreError> {
        Self::open(Arc::new(Reading(dir.to_owned())), 0)
    }

    /// The slots of `users` if all of them have a durable key already; asks no disk.
    pub(super) fn known(&self, users: &[UserKey]) -> Option<Vec<u32>> {
        let synced = self.synced.load(Ordering::Acquire);
        let state = self.state.read();
        users.iter().map(|user| state.slots.get(user).copied().filter(|&slot| u64::from(slot) < synced)).collect()
    }

    /// The slots of `users`, who get keys if they have none. Blocks until those are durable.
    pub(super) fn ensure(&self, users: &[UserKey], service: &ArcSwap<ServiceKeys>) -> Result<Vec<u32>, StoreError> {
        let mut slots = Vec::with_capacity(users.len());
        {
            let mut state = self.state.write();
            let service = service.load();
            for user in users {
                slots.push(match state.slots.get(user) {
                    Some(&slot) => slot,
                    None => self.append(&mut state, *user, &service)?,
                });
            }
        }
        let needed = slots.iter().max().map_or(0, |&slot| u64::from(slot) + 1);
        if self.synced.load(Ordering::Acquire) < needed {
            let _turn = self.syncing.lock();
            if self.synced.load(Ordering::Acquire) < needed {
                let (file, written) = {
                    let state = self.state.read();
                    (Arc::clone(&state.file), u64::from(state.used))
                };
                self.sync(&*file)?;
                self.synced.store(written, Ordering::Release);
            }
        }
        Ok(slots)
    }

    /// The slot of a person who has a key.
    pub(super) fn slot(&self, user: UserKey) -> Option<u32> {
        self.state.read().slots.get(&user).copied()
    }

    /// The key in a slot; `None` once it was erased.
    pub(super) fn key(&self, slot: u32, service: &ServiceKeys) -> Result<Option<LessSafeKey>, SealError> {
        if let Some(bytes) = self.opened.lock().get(&slot) {
            return seal::key(bytes).map(Some);
        }
        let mut bytes = [0; SLOT_BYTES];
        {
            // Erasing waits, so that no key comes back into the memory after it.
            let state = self.state.read();
            if slot >= state.used || state.file.read(offset(slot), &mut bytes).is_err() {
                return Ok(None);
            }
            let Some((user, record)) = present(&bytes) else { return Ok(None) };
            let opened = service.open(Kind::UserKey, &context(slot, user), record)?;
            let key: [u8; SealingKey::BYTES] = opened.try_into().map_err(|_| SealError::Broken)?;
            let mut cache = self.opened.lock();
            if cache.len() >= CACHED_KEYS {
                cache.clear();
            }
            cache.insert(slot, key);
            seal::key(&key).map(Some)
        }
    }

    /// Destroys a person's key; whether there was one. Blocks until that is durable.
    pub(super) fn erase(&self, user: UserKey) -> Result<bool, StoreError> {
        let mut state = self.state.write();
        let Some(&slot) = state.slots.get(&user) else { return Ok(false) };
        let mut bytes = [0; SLOT_BYTES];
        bytes[0] = ERASED;
        state.file.write(offset(slot), &with_checksum(bytes)).map_err(|e| self.refused(&e))?;
        self.sync(&*state.file)?;
        state.slots.remove(&user);
        state.without_key += 1;
        self.opened.lock().remove(&slot);
        Ok(true)
    }

    /// Seals every key again under the active key of `service`, in a new file that takes the old one's place; gives the
    /// keys as they were at that moment. Nobody gets a key meanwhile.
    pub(super) fn reseal(&self, service: &ArcSwap<ServiceKeys>) -> Result<Arc<ServiceKeys>, StoreError> {
        let mut state = self.state.write();
        // Under the lock, as in `ensure`: every key in the file was sealed under one of these, and none that comes after
        // this is sealed under an older one.
        let service = service.load_full();
        let renewed = self.disk.open(RENEWED_NAME).map_err(|e| self.refused(&e))?;
        renewed.set_len(0).and_then(|()| renewed.set_len(offset(state.used))).map_err(|e| self.refused(&e))?;
        renewed.write(0, &head()).map_err(|e| self.refused(&e))?;
        for slot in 0..state.used {
            let mut bytes = [0; SLOT_BYTES];
            state.file.read(offset(slot), &mut bytes).map_err(|e| self.refused(&e))?;
            if let Some((user, record)) = present(&bytes) {
                let key = service.open(Kind::UserKey, &context(slot, user), record);
                let record = key.and_then(|key| service.seal(Kind::UserKey, &context(slot, user), &key));
                bytes = slot_bytes(user, &record.map_err(|e| self.unusable(&e))?);
            }
            renewed.write(offset(slot), &bytes).map_err(|e| self.refused(&e))?;
        }
        self.sync(&*renewed)?;
        self.disk.replace(RENEWED_NAME, FILE_NAME).map_err(|e| self.refused(&e))?;
        state.file = renewed;
        self.synced.store(u64::from(state.used), Ordering::Release);
        Ok(service)
    }

    /// The numbers of the sealing keys in use, and how many slots hold a key that cannot be opened.
    pub(super) fn check(&self, service: &ServiceKeys) -> Result<(BTreeSet<u32>, u64), StoreError> {
        let (mut used_keys, mut broken) = (BTreeSet::new(), 0);
        let state = self.state.read();
        for slot in 0..state.used {
            let mut bytes = [0; SLOT_BYTES];
            state.file.read(offset(slot), &mut bytes).map_err(|e| self.refused(&e))?;
            let Some((user, record)) = present(&bytes) else { continue };
            if let Ok(seal::Header { scope: seal::Scope::Service(id), .. }) = seal::Header::of(record) {
                used_keys.insert(id);
            }
            broken += u64::from(service.open(Kind::UserKey, &context(slot, user), record).is_err());
        }
        Ok((used_keys, broken))
    }

    /// How many persons have a key.
    pub(super) fn users(&self) -> usize {
        self.state.read().slots.len()
    }

    /// How many keys are gone. It only ever rises; what was derived from the log when it was lower may contain somebody
    /// who was erased since.
    pub(super) fn erasures(&self) -> u32 {
        self.state.read().without_key
    }

    fn append(&self, state: &mut State, user: UserKey, service: &ServiceKeys) -> Result<u32, StoreError> {
        if state.slots.len() >= self.max_users || state.used == u32::MAX {
            return Err(StoreError::TooManyUsers { limit: self.max_users });
        }
        let slot = state.used;
        let key = seal::random::<{ SealingKey::BYTES }>().map_err(|e| self.unusable(&e))?;
        let record = service.seal(Kind::UserKey, &context(slot, user), &key).map_err(|e| self.unusable(&e))?;
        let end = offset(slot + 1);
        state.file.set_len(end).map_err(|e| self.refused(&e))?;
        state.file.write(offset(slot), &slot_bytes(user, &record)).map_err(|e| self.refused(&e))?;
        state.used += 1;
        state.slots.insert(user, slot);
        Ok(slot)
    }

    fn sync(&self, file: &dyn StorageBackend) -> Result<(), StoreError> {
        let mut failed = self.failed.lock();
        if let Some(error) = &*failed {
            return Err(error.clone());
        }
        file.sync_data().map_err(|e| failed.insert(self.refused(&e)).clone())
    }

    fn refused(&self, error: &io::Error) -> StoreError {
        StoreError::from_io(&self.path, error)
    }

    fn unusable(&self, error: &SealError) -> StoreError {
        StoreError::Corrupt { file: self.path.clone(), reason: error.to_string() }
    }
}

fn head() -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(MAGIC);
    head[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    head
}

fn offset(slot: u32) -> u64 {
    HEAD_BYTES as u64 + u64::from(slot) * SLOT_BYTES as u64
}

fn context(slot: u32, user: UserKey) -> [u8; 20] {
    let mut context = [0; 20];
    context[..4].copy_from_slice(&slot.to_le_bytes());
    context[4..].copy_from_slice(&user.0);
    context
}

fn slot_bytes(user: UserKey, record: &[u8]) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[0] = PRESENT;
    bytes[4..RECORD_AT].copy_from_slice(&user.0);
    bytes[RECORD_AT..RECORD_AT + RECORD_BYTES].copy_from_slice(record);
    with_checksum(bytes)
}

fn with_checksum(mut bytes: [u8; SLOT_BYTES]) -> [u8; SLOT_BYTES] {
    let checksum = crc32fast::hash(&bytes[..CHECKED_BYTES]).to_le_bytes();
    bytes[CHECKED_BYTES..].copy_from_slice(&checksum);
    bytes
}

/// The person and the sealed key of a slot that holds one.
fn present(bytes: &[u8; SLOT_BYTES]) -> Option<(UserKey, &[u8])> {
    let checksum = crc32fast::hash(&bytes[..CHECKED_BYTES]).to_le_bytes();
    if bytes[0] != PRESENT || bytes[CHECKED_BYTES..] != checksum {
        return None;
    }
    let user = bytes[4..RECORD_AT].try_into().ok()?;
    Some((UserKey(user), &bytes[RECORD_AT..RECORD_AT + RECORD_BYTES]))
}

fn read_slots(file: Arc<dyn StorageBackend>) -> io::Result<State> {
    let length = file.len()?;
    // What is left of a slot at the end was never acknowledged.
    let used = u32::try_from((length - HEAD_BYTES as u64) / SLOT_BYTES as u64).unwrap_or(u32::MAX);
    let (mut slots, mut without_key) = (HashMap::new(), 0);
    let mut buffer = vec![0; SLOTS_A_READ * SLOT_BYTES];
    let mut first = 0;
    while first < used {
        let count = SLOTS_A_READ.min((used - first) as usize);
        let buffer = &mut buffer[..count * SLOT_BYTES];
        file.read(offset(first), buffer)?;
        for (slot, bytes) in (first..).zip(buffer.chunks_exact(SLOT_BYTES)) {
            match bytes.try_into().ok().and_then(present) {
                Some((user, _)) => {
                    slots.insert(user, slot);
                }
                None => without_key += 1,
            }
        }
        first += count as u32;
    }
    Ok(State { file, slots, used, without_key })
}
