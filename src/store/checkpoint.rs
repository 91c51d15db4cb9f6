//! Must a start go through the whole log? No: what was derived from it is kept now and then, with the entry it includes.
//!
//! Checkpoints are files in the folder `checkpoints`, named after the last entry of the log that they include. Each is
//! written beside, synced and renamed, so that there are whole ones only; the newest two stay. One that cannot be read
//! all the same is set aside (`.damaged`) with a warning, and the one before or the log is used. Nobody who was erased
//! comes back through a checkpoint: one that was made before the latest erasure is not used, and erasing removes it.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `UPNEXTCP` |
//! | 4 | format, 1 |
//! | 8 | last entry of the log that is included |
//! | 4 | how many persons had been erased |
//! | 4 | number of sections |
//! | … | sections: length of the name (1), name, length of the record (8), the sealed record |
//! | 4 | CRC-32 of everything before |
//!
//! Numbers are little-endian. A section's seal covers its name and the numbers of the head.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::StoreError;
use super::disk::{create_private_folder, sync_folder};
use super::embedded::Store;
use super::seal::Kind;

const FOLDER: &str = "checkpoints";
const MAGIC: &[u8; 8] = b"UPNEXTCP";
const FORMAT: u32 = 1;
const HEAD_BYTES: usize = 28;

/// How many good ones are kept.
const KEPT: usize = 2;

/// The most sections; far more than there are parts.
const MAX_SECTIONS: u32 = 64;

/// What was derived from the log up to an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// The last entry that it includes.
    pub sequence: u64,
    /// By the name of the part.
    pub sections: BTreeMap<String, Vec<u8>>,
}

/// Why a file is no checkpoint that can be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is cut short or was altered")]
    Damaged,
    #[error("it has format {0}, this version reads format {FORMAT}")]
    Format(u32),
    #[error("a person was erased after it was made")]
    Outdated,
    #[error("it includes entry {0}, which the log does not have")]
    Ahead(u64),
}

impl Store {
    /// Writes a checkpoint; returns once it is durable. `erasures` is [`Store::erasures`] as it was when the sections were
    /// made. Blocks.
    pub fn save_checkpoint(&self, checkpoint: &Checkpoint, erasures: u32) -> Result<PathBuf, StoreError> {
        let dir = self.checkpoints_folder();
        let failed = |e: &io::Error| StoreError::from_io(&dir, e);
        let bytes = self.encode(checkpoint, erasures)?;
        let path = dir.join(format!("{:020}.checkpoint", checkpoint.sequence));
        let beside = dir.join("new.tmp");
        let written = (|| {
            create_private_folder(&dir)?;
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&beside)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            sync_folder(&dir)
        })();
        if let Err(error) = written {
            fs::remove_file(&beside).ok();
            return Err(failed(&error));
        }
        // Somebody may have been erased since the sections were made.
        if self.erasures() != erasures {
            self.remove_checkpoints()?;
        }
        for old in files(&dir, "checkpoint").map_err(|e| failed(&e))?.into_iter().rev().skip(KEPT) {
            fs::remove_file(&old).map_err(|e| failed(&e))?;
        }
        Ok(path)
    }

    /// The newest checkpoint that is good, if there is any. Damaged ones are set aside.
    pub fn load_checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        let dir = self.checkpoints_folder();
        let failed = |e: &io::Error| StoreError::from_io(&dir, e);
        for path in files(&dir, "checkpoint").map_err(|e| failed(&e))?.into_iter().rev() {
            match self.read_checkpoint(&path) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(error @ Unusable::Outdated) => {
                    tracing::warn!(file = %path.display(), %error, "a checkpoint may hold somebody and is removed");
                    fs::remove_file(&path).and_then(|()| sync_folder(&dir)).map_err(|e| failed(&e))?;
                }
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "a checkpoint cannot be used and is set aside");
                    self.set_aside(&path).map_err(|e| failed(&e))?;
                }
            }
        }
        Ok(None)
    }

    /// Sets aside the checkpoint that ends at `sequence`: its contents made no sense to those they are for.
    pub fn refuse_checkpoint(&self, sequence: u64) -> Result<(), StoreError> {
        let dir = self.checkpoints_folder();
        let path = dir.join(format!("{sequence:020}.checkpoint"));
        self.set_aside(&path).map_err(|e| StoreError::from_io(&dir, &e))
    }

    /// Removes all checkpoints, the damaged ones too; returns once that is durable.
    pub fn remove_checkpoints(&self) -> Result<(), StoreError> {
        let dir = self.checkpoints_folder();
        let removed = (|| {
            for extension in ["checkpoint", "damaged", "tmp"] {
                for file in files(&dir, extension)? {
                    match fs::remove_file(&file) {
                        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                        Ok(()) | Err(_) => {}
                    }
                }
            }
            if dir.exists() { sync_folder(&dir) } else { Ok(()) }
        })();
        removed.map_err(|e| StoreError::from_io(&dir, &e))
    }

    /// The last entries that the good-looking checkpoints include, newest first.
    pub fn checkpoints(&self) -> Vec<u64> {
        let files = files(&self.checkpoints_folder(), "checkpoint").unwrap_or_default();
        files.iter().rev().filter_map(|path| path.file_stem()?.to_str()?.parse().ok()).collect()
    }

    fn checkpoints_folder(&self) -> PathBuf {
        self.file().parent().unwrap_or(Path::new(".")).join(FOLDER)
    }

    /// Keeps one damaged file for a closer look, so that they do not pile up.
    fn set_aside(&self, path: &Path) -> io::Result<()> {
        for old in files(&self.checkpoints_folder(), "damaged")? {
            fs::remove_file(old)?;
        }
        fs::rename(path, path.with_extension("damaged"))?;
        sync_folder(&self.checkpoints_folder())
    }

    fn encode(&self, checkpoint: &Checkpoint, erasures: u32) -> Result<Vec<u8>, StoreError> {
        let service = self.core().codec.service.load();
        let size: usize = checkpoint.sections.values().map(|section| section.len() + 128).sum();
        let mut bytes = Vec::with_capacity(HEAD_BYTES + size);
        bytes.extend(MAGIC);
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend(checkpoint.sequence.to_le_bytes());
        bytes.extend(erasures.to_le_bytes());
        bytes.extend((checkpoint.sections.len() as u32).to_le_bytes());
        for (name, section) in &checkpoint.sections {
            let context = [&bytes[..HEAD_BYTES], name.as_bytes()].concat();
            let sealed = service.seal(Kind::Checkpoint, &context, section);
            let sealed = sealed.map_err(|e| self.core().unreadable("a new checkpoint", &e))?;
            let length = u8::try_from(name.len()).map_err(|e| self.core().unreadable("a new checkpoint", &e))?;
            bytes.push(length);
            bytes.extend(name.as_bytes());
            bytes.extend((sealed.len() as u64).to_le_bytes());
            bytes.extend(sealed);
        }
        let checksum = crc32fast::hash(&bytes);
        bytes.extend(checksum.to_le_bytes());
        Ok(bytes)
    }

    fn read_checkpoint(&self, path: &Path) -> Result<Checkpoint, Unusable> {
        let bytes = fs::read(path)?;
        let (bytes, checksum) = bytes.split_last_chunk::<4>().ok_or(Unusable::Damaged)?;
        if bytes.len() < HEAD_BYTES || &bytes[..8] != MAGIC {
            return Err(Unusable::Damaged);
        }
        if crc32fast::hash(bytes) != u32::from_le_bytes(*checksum) {
            return Err(Unusable::Damaged);
        }
        let mut rest = &bytes[8..];
        let format = u32::from_le_bytes(take(&mut rest)?);
        if format != FORMAT {
            return Err(Unusable::Format(format));
        }
        let sequence = u64::from_le_bytes(take(&mut rest)?);
        let erasures = u32::from_le_bytes(take(&mut rest)?);
        let count = u32::from_le_bytes(take(&mut rest)?);
        if erasures != self.erasures() {
            return Err(Unusable::Outdated);
        }
        if sequence > self.last_sequence() {
            return Err(Unusable::Ahead(sequence));
        }
        let service = self.core().codec.service.load();
        let mut sections = BTreeMap::new();
        for _ in 0..count.min(MAX_SECTIONS) {
            let [length] = take(&mut rest)?;
            let name = split(&mut rest, usize::from(length))?;
            let length = u64::from_le_bytes(take(&mut rest)?);
            let sealed = split(&mut rest, usize::try_from(length).map_err(|_| Unusable::Damaged)?)?;
            let context = [&bytes[..HEAD_BYTES], name].concat();
            let section = service.open(Kind::Checkpoint, &context, sealed).map_err(|_| Unusable::Damaged)?;
            sections.insert(String::from_utf8(name.to_vec()).map_err(|_| Unusable::Damaged)?, section);
        }
        if rest.is_empty() { Ok(Checkpoint { sequence, sections }) } else { Err(Unusable::Damaged) }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Unusable> {
    let (taken, left) = rest.split_first_chunk::<N>().ok_or(Unusable::Damaged)?;
    *rest = left;
    Ok(*taken)
}

fn split<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Unusable> {
    let (taken, left) = rest.split_at_checked(length).ok_or(Unusable::Damaged)?;
    *rest = left;
    Ok(taken)
}

/// The files of a folder with this extension, in the order of their names; none if there is no folder.
fn files(dir: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{event, open};
    use super::*;
    use crate::domain::{Event, UserKey};

    fn checkpoint(sequence: u64) -> Checkpoint {
        let sections = [("a", vec![1; 1000]), ("empty", vec![]), ("text", b"a secret habit".to_vec())];
        Checkpoint { sequence, sections: sections.map(|(name, bytes)| (name.to_owned(), bytes)).into() }
    }

    async fn store_with(events: usize, dir: &Path) -> Store {
        let store = open(dir);
        for n in 0..events {
            let user = Some(UserKey([1; 16]));
            store.append_events(vec![Event { user, ..event(&n.to_string()) }]).await.unwrap();
        }
        store
    }

    #[tokio::test]
    async fn the_newest_good_one_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = store_with(9, dir.path()).await;
        assert_eq!(store.load_checkpoint().unwrap(), None);
        for sequence in [3, 5, 9] {
            store.save_checkpoint(&checkpoint(sequence), 0).unwrap();
        }
        assert_eq!(store.checkpoints(), [9, 5], "two are kept");
        assert_eq!(store.load_checkpoint().unwrap(), Some(checkpoint(9)));
        let newest = dir.path().join("checkpoints/00000000000000000009.checkpoint");
        let bytes = fs::read(&newest).unwrap();
        assert!(!bytes.windows(12).any(|w| w == b"secret habit"), "it is sealed");
        // Damaged ones give way to older ones, wherever the damage is.
        for damage in 0..40 {
            let mut damaged = bytes.clone();
            if damage % 4 == 0 {
                damaged.truncate(bytes.len() * damage / 40);
            } else {
                damaged[bytes.len() * damage / 40] ^= 1 << (damage % 8);
            }
            fs::write(&newest, damaged).unwrap();
            assert_eq!(store.load_checkpoint().unwrap(), Some(checkpoint(5)), "{damage}");
            assert!(!newest.exists() && newest.with_extension("damaged").exists());
        }
        fs::write(dir.path().join("checkpoints/new.tmp"), &bytes[..100]).unwrap();
        assert_eq!(store.load_checkpoint().unwrap(), Some(checkpoint(5)), "half-written ones do not count");
        store.save_checkpoint(&checkpoint(9), 0).unwrap();
        store.refuse_checkpoint(9).unwrap();
        assert_eq!(store.load_checkpoint().unwrap(), Some(checkpoint(5)));
        store.remove_checkpoints().unwrap();
        assert_eq!(fs::read_dir(dir.path().join("checkpoints")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn nobody_who_was_erased_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = store_with(3, dir.path()).await;
        store.save_checkpoint(&checkpoint(3), store.erasures()).unwrap();
        let kept = dir.path().join("checkpoints/00000000000000000003.checkpoint");
        let copy = fs::read(&kept).unwrap();
        store.erase_user(UserKey([1; 16])).unwrap();
        assert_eq!(store.load_checkpoint().unwrap(), None, "even if it is still there");
        fs::write(&kept, copy).unwrap();
        assert_eq!(store.load_checkpoint().unwrap(), None, "even if it is brought back");
        assert_eq!(fs::read_dir(kept.parent().unwrap()).unwrap().count(), 0, "nor is it kept for a closer look");
        // Sections that were made before an erasure are not kept after it.
        store.save_checkpoint(&checkpoint(2), 0).unwrap();
        assert_eq!(store.checkpoints(), [0_u64; 0]);
        store.save_checkpoint(&checkpoint(3), store.erasures()).unwrap();
        assert_eq!(store.load_checkpoint().unwrap(), Some(checkpoint(3)));
    }

    #[tokio::test]
    async fn one_that_is_ahead_of_the_log_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let store = store_with(2, dir.path()).await;
        store.save_checkpoint(&checkpoint(7), 0).unwrap();
        assert_eq!(store.load_checkpoint().unwrap(), None, "the database was restored from a backup");
    }
}
