//! What is left on a disk when the power fails? A disk in memory that freezes at a chosen operation.
//!
//! Writes are kept apart until a sync makes them durable. After the freeze every operation fails; what a restart finds is
//! what was durable, plus whichever of the later writes the disk happened to have carried out: none, all, or some of
//! them, one of those perhaps only in part.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use redb::StorageBackend;

use super::disk::Disk;

/// A disk that fails when it is told to.
#[derive(Debug)]
pub(super) struct CrashDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// By name; names change at once and durably.
    names: BTreeMap<String, usize>,
    files: Vec<FileState>,
    operations: u64,
    freeze_at: Option<u64>,
    free_bytes: Option<u64>,
}

#[derive(Debug, Clone, Default)]
struct FileState {
    durable: Vec<u8>,
    /// As the process sees it.
    visible: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

/// Which of the writes that no sync confirmed have reached the disk.
#[derive(Debug, Clone, Copy)]
pub(super) enum Survivors {
    None,
    All,
    /// Each by chance, in parts.
    Some {
        seed: u64,
    },
}

impl CrashDisk {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// Lets everything fail from the operation number `at` on, counted over all files.
    pub(super) fn freeze_at(&self, at: u64) {
        self.0.lock().freeze_at = Some(at);
    }

    /// Writes and syncs so far.
    pub(super) fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// Whether the disk has failed.
    pub(super) fn is_frozen(&self) -> bool {
        self.0.lock().is_frozen()
    }

    /// Leaves so much room: files that would grow beyond it do not, as on a full disk.
    pub(super) fn set_free_bytes(&self, bytes: Option<u64>) {
        self.0.lock().free_bytes = bytes;
    }

    /// The disk as a restart finds it.
    pub(super) fn after_crash(&self, survivors: Survivors) -> Self {
        let state = self.0.lock();
        let files = state.files.iter().map(|file| file.after_crash(survivors)).collect();
        Self(Arc::new(Mutex::new(State { names: state.names.clone(), files, ..State::default() })))
    }

    /// The bytes of a file, as the process sees them.
    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.0.lock();
        state.names.get(name).map_or_else(Vec::new, |&file| state.files[file].visible.clone())
    }

    /// Puts other bytes into a file.
    pub(super) fn set_bytes(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.0.lock();
        let file = state.names[name];
        state.files[file] = FileState { durable: bytes.clone(), visible: bytes, unsynced: Vec::new() };
    }
}

impl State {
    fn is_frozen(&self) -> bool {
        self.freeze_at.is_some_and(|at| self.operations >= at)
    }

    /// Counts an operation that changes the disk.
    fn operate(&mut self) -> io::Result<()> {
        if self.is_frozen() {
            return Err(io::Error::other("the power has failed"));
        }
        self.operations += 1;
        Ok(())
    }
}

impl FileState {
    fn apply(bytes: &mut Vec<u8>, change: &Change, part: usize) {
        match change {
            Change::Length(length) => bytes.resize(*length, 0),
            Change::Write { offset, bytes: written } => {
                let written = &written[..part.min(written.len())];
                if bytes.len() < offset + written.len() {
                    bytes.resize(offset + written.len(), 0);
                }
                bytes[*offset..offset + written.len()].copy_from_slice(written);
            }
        }
    }

    fn after_crash(&self, survivors: Survivors) -> Self {
        let mut bytes = self.durable.clone();
        let mut chance = SmallRng::seed_from_u64(match survivors {
            Survivors::Some { seed } => seed,
            Survivors::None | Survivors::All => 0,
        });
        for change in &self.unsynced {
            match survivors {
                Survivors::None => {}
                Survivors::All => Self::apply(&mut bytes, change, usize::MAX),
                Survivors::Some { .. } => match chance.random_range(0..3) {
                    0 => {}
                    1 => Self::apply(&mut bytes, change, usize::MAX),
                    // Torn anywhere: disks promise whole sectors, but a file system may not.
                    _ => Self::apply(&mut bytes, change, chance.random_range(0..4096)),
                },
            }
        }
        Self { durable: bytes.clone(), visible: bytes, unsynced: Vec::new() }
    }
}

impl Disk for CrashDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageBackend>> {
        let mut state = self.0.lock();
        if !state.names.contains_key(name) {
            state.operate()?;
            let file = state.files.len();
            state.files.push(FileState::default());
            state.names.insert(name.to_owned(), file);
        }
        Ok(Arc::new(CrashFile { disk: Arc::clone(&self.0), file: state.names[name] }))
    }

    fn holds(&self, name: &str) -> bool {
        self.0.lock().names.contains_key(name)
    }

    fn replace(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.operate()?;
        let Some(file) = state.names.remove(from) else { return Err(io::ErrorKind::NotFound.into()) };
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.names.contains_key(name) {
            state.operate()?;
            state.names.remove(name);
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        // The disk that grows without bound does not know; the small one lets the store find out by itself.
        Err(io::ErrorKind::Unsupported.into())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("disk").join(name)
    }
}

#[derive(Debug)]
struct CrashFile {
    disk: Arc<Mutex<State>>,
    file: usize,
}

impl CrashFile {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.operate()?;
        let end = match &change {
            Change::Length(length) => *length,
            Change::Write { offset, bytes } => offset + bytes.len(),
        };
        let length = state.files[self.file].visible.len();
        if state.free_bytes.is_some_and(|free| end > length && (end - length) as u64 > free) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = &mut state.files[self.file];
        FileState::apply(&mut file.visible, &change, usize::MAX);
        file.unsynced.push(change);
        Ok(())
    }
}

impl StorageBackend for CrashFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().files[self.file].visible.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.disk.lock();
        let bytes = state.files[self.file].visible.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Length(len as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.operate()?;
        let file = &mut state.files[self.file];
        file.durable.clone_from(&file.visible);
        file.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write { offset: offset as usize, bytes: data.to_vec() })
    }
}
