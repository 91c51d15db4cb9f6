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
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StoreError;
use super::disk::{create_private_folder, sync_folder};
use super::embedded::Store;
use super::seal::{Kind, OVERHEAD_BYTES, ServiceKeys};

const FOLDER: &str = "checkpoints";
const MAGIC: &[u8; 8] = b"UPNEXTCP";
const FORMAT: u32 = 1;
const HEAD_BYTES: usize = 28;
const CHECKSUM_BYTES: u64 = 4;
/// What is read at a time to see whether a file is whole.
const PIECE_BYTES: usize = 1 << 20;

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

/// A checkpoint on the disk that is whole. A section is read when it is asked for: all together may take as much memory as what is made of
/// them.
#[derive(Debug)]
pub struct StoredCheckpoint {
    sequence: u64,
    file: File,
    head: [u8; HEAD_BYTES],
    /// Where their records lie, by name.
    sections: BTreeMap<String, Range<u64>>,
    service: Arc<ServiceKeys>,
}

/// Why a file is no checkpoint that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The disk failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not what was written.
    #[error("it is cut short or was altered")]
    Damaged,
    /// It is of another version.
    #[error("it has format {0}, this version reads format {FORMAT}")]
    Format(u32),
    /// It may hold somebody who was erased.
    #[error("a person was erased after it was made")]
    Outdated,
    /// It is of another log.
    #[error("it includes entry {0}, which the log does not have")]
    Ahead(u64),
}

impl Store {
    /// Writes a checkpoint; returns once it is durable. `erasures` is [`Store::erasures`] as it was when the sections were
    /// made. Blocks.
    pub fn save_checkpoint(&self, checkpoint: Checkpoint, erasures: u32) -> Result<PathBuf, StoreError> {
        let dir = self.checkpoints_folder();
        let failed = |e: &io::Error| StoreError::from_io(&dir, e);
        let path = dir.join(format!("{:020}.checkpoint", checkpoint.sequence));
        let beside = dir.join("new.tmp");
        let written = (|| {
            create_private_folder(&dir)?;
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let file = self.write_checkpoint(options.open(&beside)?, checkpoint, erasures)?;
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
    pub fn load_checkpoint(&self) -> Result<Option<StoredCheckpoint>, StoreError> {
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

    /// Writes section after section, each of which is let go as soon as it is written.
    fn write_checkpoint(&self, file: File, checkpoint: Checkpoint, erasures: u32) -> io::Result<File> {
        let service = self.core().codec.service.load();
        let Checkpoint { sequence, sections } = checkpoint;
        let count = u32::try_from(sections.len()).map_err(io::Error::other)?;
        let parts: [&[u8]; 5] =
            [MAGIC, &FORMAT.to_le_bytes(), &sequence.to_le_bytes(), &erasures.to_le_bytes(), &count.to_le_bytes()];
        let head = parts.concat();
        let mut to = Summed { to: BufWriter::new(file), checksum: crc32fast::Hasher::new() };
        to.write_all(&head)?;
        for (name, mut section) in sections {
            let context = [&head, name.as_bytes()].concat();
            let envelope = service.seal_in_place(Kind::Checkpoint, &context, &mut section).map_err(io::Error::other)?;
            to.write_all(&[u8::try_from(name.len()).map_err(io::Error::other)?])?;
            to.write_all(name.as_bytes())?;
            to.write_all(&((section.len() + OVERHEAD_BYTES) as u64).to_le_bytes())?;
            to.write_all(&envelope.before)?;
            to.write_all(&section)?;
            to.write_all(&envelope.after)?;
        }
        let Summed { mut to, checksum } = to;
        to.write_all(&checksum.finalize().to_le_bytes())?;
        to.into_inner().map_err(io::IntoInnerError::into_error)
    }

    fn read_checkpoint(&self, path: &Path) -> Result<StoredCheckpoint, Unusable> {
        let mut file = File::open(path)?;
        let end = file.metadata()?.len().checked_sub(CHECKSUM_BYTES).ok_or(Unusable::Damaged)?;
        let checksum = checksum(&mut file, end)?;
        if end < HEAD_BYTES as u64 || u32::from_le_bytes(read(&mut file)?) != checksum {
            return Err(Unusable::Damaged);
        }
        file.rewind()?;
        let head: [u8; HEAD_BYTES] = read(&mut file)?;
        let mut rest = head.strip_prefix(MAGIC).ok_or(Unusable::Damaged)?;
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
        let mut sections = BTreeMap::new();
        for _ in 0..count.min(MAX_SECTIONS) {
            let [length] = read(&mut file)?;
            let mut name = vec![0; usize::from(length)];
            file.read_exact(&mut name)?;
            let name = String::from_utf8(name).map_err(|_| Unusable::Damaged)?;
            let length = u64::from_le_bytes(read(&mut file)?);
            let start = file.stream_position()?;
            let after = start.checked_add(length).filter(|&after| after <= end).ok_or(Unusable::Damaged)?;
            sections.insert(name, start..after);
            file.seek(SeekFrom::Start(after))?;
        }
        if file.stream_position()? != end {
            return Err(Unusable::Damaged);
        }
        Ok(StoredCheckpoint { sequence, file, head, sections, service: self.core().codec.service.load_full() })
    }
}

impl StoredCheckpoint {
    /// The last entry of the log that it includes.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Reads a section; `None` if it has none of this name.
    pub fn section(&mut self, name: &str) -> Result<Option<Vec<u8>>, Unusable> {
        let Some(place) = self.sections.get(name).cloned() else { return Ok(None) };
        let length = usize::try_from(place.end - place.start).map_err(|_| Unusable::Damaged)?;
        let mut record = vec![0; length];
        self.file.seek(SeekFrom::Start(place.start))?;
        self.file.read_exact(&mut record)?;
        let context = [&self.head, name.as_bytes()].concat();
        let opened = self.service.open_owned(Kind::Checkpoint, &context, record);
        opened.map(Some).map_err(|_| Unusable::Damaged)
    }
}

/// Sums up what is written through it.
struct Summed<W> {
    to: W,
    checksum: crc32fast::Hasher,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.checksum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The sum of the next `bytes` of a file.
fn checksum(file: &mut File, bytes: u64) -> io::Result<u32> {
    let mut checksum = crc32fast::Hasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = bytes;
    while left > 0 {
        let piece = &mut piece[..usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES))];
        file.read_exact(piece)?;
        checksum.update(piece);
        left -= piece.len() as u64;
    }
    Ok(checksum.finalize())
}

fn read<const N: usize>(file: &mut File) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Unusable> {
    let (taken, left) = rest.split_first_chunk::<N>().ok_or(Unusable::Damaged)?;
    *rest = left;
    Ok(*taken)
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

    fn loaded(store: &Store) -> Option<Checkpoint> {
        let mut stored = store.load_checkpoint().unwrap()?;
        assert_eq!(stored.section("another").unwrap(), None);
        let names = ["a", "empty", "text"].into_iter();
        let sections = names.map(|name| (name.to_owned(), stored.section(name).unwrap().unwrap())).collect();
        Some(Checkpoint { sequence: stored.sequence(), sections })
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
        assert_eq!(loaded(&store), None);
        for sequence in [3, 5, 9] {
            store.save_checkpoint(checkpoint(sequence), 0).unwrap();
        }
        assert_eq!(store.checkpoints(), [9, 5], "two are kept");
        assert_eq!(loaded(&store), Some(checkpoint(9)));
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
            assert_eq!(loaded(&store), Some(checkpoint(5)), "{damage}");
            assert!(!newest.exists() && newest.with_extension("damaged").exists());
        }
        fs::write(dir.path().join("checkpoints/new.tmp"), &bytes[..100]).unwrap();
        assert_eq!(loaded(&store), Some(checkpoint(5)), "half-written ones do not count");
        store.save_checkpoint(checkpoint(9), 0).unwrap();
        store.refuse_checkpoint(9).unwrap();
        assert_eq!(loaded(&store), Some(checkpoint(5)));
        store.remove_checkpoints().unwrap();
        assert_eq!(fs::read_dir(dir.path().join("checkpoints")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn nobody_who_was_erased_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = store_with(3, dir.path()).await;
        store.save_checkpoint(checkpoint(3), store.erasures()).unwrap();
        let kept = dir.path().join("checkpoints/00000000000000000003.checkpoint");
        let copy = fs::read(&kept).unwrap();
        store.erase_user(UserKey([1; 16])).unwrap();
        assert_eq!(loaded(&store), None, "even if it is still there");
        fs::write(&kept, copy).unwrap();
        assert_eq!(loaded(&store), None, "even if it is brought back");
        assert_eq!(fs::read_dir(kept.parent().unwrap()).unwrap().count(), 0, "nor is it kept for a closer look");
        // Sections that were made before an erasure are not kept after it.
        store.save_checkpoint(checkpoint(2), 0).unwrap();
        assert_eq!(store.checkpoints(), [0_u64; 0]);
        store.save_checkpoint(checkpoint(3), store.erasures()).unwrap();
        assert_eq!(loaded(&store), Some(checkpoint(3)));
    }

    #[tokio::test]
    async fn one_that_is_ahead_of_the_log_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let store = store_with(2, dir.path()).await;
        store.save_checkpoint(checkpoint(7), 0).unwrap();
        assert_eq!(loaded(&store), None, "the database was restored from a backup");
    }
}
