//! Must a start build the index of vectors anew? No: it is kept beside the database now and then, sealed like everything else.
//!
//! An index may be larger than what the rest of the service takes in memory, so it goes through in pieces, each sealed on
//! its own. The file is written beside, synced and renamed, so that there is a whole one only. One that cannot be read all
//! the same, or is of no use to the models in use, is set aside (`.damaged`) with a warning. Nothing is lost with it: it is made of
//! what the catalogue has, and who reads it compares it with that.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `UPNEXTIX` |
//! | 4 | format, 1 |
//! | 16 | random, this file's own |
//! | 2 | length of the models' id |
//! | … | the id of the models whose vectors these are |
//! | … | pieces: length of the record, with the highest bit set for the last one (4), the sealed record |
//! | 4 | CRC-32 of everything before |
//!
//! Numbers are little-endian. A piece's seal covers all that stands before the pieces, its number (8) and whether it is the last (1),
//! so that pieces can be neither exchanged nor left out.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StoreError;
use super::disk::sync_folder;
use super::embedded::Store;
use super::seal::{self, Kind, OVERHEAD_BYTES, SealError, ServiceKeys};

const FILE: &str = "index.snapshot";
const MAGIC: &[u8; 8] = b"UPNEXTIX";
const FORMAT: u32 = 1;

/// What is sealed together. Small beside an index, large beside what a seal adds.
const PIECE_BYTES: usize = 1 << 20;

/// In a piece's length: it is the last.
const LAST: u32 = 1 << 31;

impl Store {
    /// Keeps what `write` writes as the index of these models' vectors; returns once it is durable. Blocks. If it fails, the
    /// one before is still there.
    pub fn save_index<E: From<io::Error> + Display>(
        &self,
        models: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(), StoreError> {
        let path = self.index_file();
        let beside = path.with_extension("snapshot.new");
        let written = (|| {
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let file = BufWriter::new(options.open(&beside)?);
            let mut to = Sealing::begin(file, self.core().codec.service.load_full(), models)?;
            write(&mut to).map_err(|error| io::Error::other(error.to_string()))?;
            let file = to.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            sync_folder(path.parent().unwrap_or(Path::new(".")))
        })();
        written.map_err(|error: io::Error| {
            fs::remove_file(&beside).ok();
            StoreError::from_io(&path, &error)
        })
    }

    /// What `read` makes of the index that was kept for these models; `None` if there is none that can be used. It is set
    /// aside then.
    pub fn load_index<T, E: From<io::Error> + Display>(
        &self,
        models: &str,
        read: impl FnOnce(&mut dyn Read) -> Result<T, E>,
    ) -> Option<T> {
        let path = self.index_file();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "the kept index cannot be read; it is built anew");
                return None;
            }
        };
        let loaded = Opening::begin(BufReader::new(file), self.core().codec.service.load_full(), models);
        let loaded = loaded.map_err(|error| error.to_string()).and_then(|mut from| {
            let loaded = read(&mut from).map_err(|error| error.to_string())?;
            from.finish().map_err(|error| error.to_string())?;
            Ok(loaded)
        });
        match loaded {
            Ok(loaded) => Some(loaded),
            Err(error) => {
                tracing::warn!(file = %path.display(), error, "the kept index is set aside; it is built anew");
                if let Err(error) = fs::rename(&path, path.with_extension("snapshot.damaged")) {
                    tracing::warn!(file = %path.display(), %error, "it cannot be set aside");
                }
                None
            }
        }
    }

    fn index_file(&self) -> PathBuf {
        self.file().with_file_name(FILE)
    }
}

/// Seals what is written to it, piece by piece.
struct Sealing<W> {
    to: W,
    checksum: crc32fast::Hasher,
    service: Arc<ServiceKeys>,
    head: Vec<u8>,
    number: u64,
    piece: Vec<u8>,
}

impl<W: Write> Sealing<W> {
    fn begin(to: W, service: Arc<ServiceKeys>, models: &str) -> io::Result<Self> {
        let own: [u8; 16] = seal::random().map_err(io::Error::other)?;
        let length = u16::try_from(models.len()).map_err(io::Error::other)?;
        let mut head = Vec::new();
        head.extend(MAGIC);
        head.extend(FORMAT.to_le_bytes());
        head.extend(own);
        head.extend(length.to_le_bytes());
        head.extend(models.as_bytes());
        let checksum = crc32fast::Hasher::new();
        let mut sealing = Self { to, checksum, service, head, number: 0, piece: Vec::with_capacity(PIECE_BYTES) };
        let head = sealing.head.clone();
        sealing.put(&head)?;
        Ok(sealing)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.checksum.update(bytes);
        self.to.write_all(bytes)
    }

    fn end_piece(&mut self, last: bool) -> io::Result<()> {
        let context = context(&self.head, self.number, last);
        let sealed = self.service.seal(Kind::Index, &context, &self.piece).map_err(io::Error::other)?;
        let length = u32::try_from(sealed.len()).map_err(io::Error::other)? | if last { LAST } else { 0 };
        self.put(&length.to_le_bytes())?;
        self.put(&sealed)?;
        self.piece.clear();
        self.number += 1;
        Ok(())
    }

    fn finish(mut self) -> io::Result<W> {
        self.end_piece(true)?;
        let checksum = self.checksum.finalize();
        self.to.write_all(&checksum.to_le_bytes())?;
        Ok(self.to)
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() >= PIECE_BYTES {
            self.end_piece(false)?;
        }
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        // A piece ends when it is full or everything is written.
        Ok(())
    }
}

/// Opens what [`Sealing`] has sealed.
struct Opening<R> {
    from: R,
    checksum: crc32fast::Hasher,
    service: Arc<ServiceKeys>,
    head: Vec<u8>,
    number: u64,
    piece: Vec<u8>,
    /// How much of the piece was read.
    at: usize,
    /// Whether it is the last.
    last: bool,
}

impl<R: Read> Opening<R> {
    fn begin(from: R, service: Arc<ServiceKeys>, models: &str) -> io::Result<Self> {
        let checksum = crc32fast::Hasher::new();
        let mut opening =
            Self { from, checksum, service, head: Vec::new(), number: 0, piece: Vec::new(), at: 0, last: false };
        let mut head = vec![0; MAGIC.len() + 4 + 16 + 2];
        opening.read_all(&mut head)?;
        if head[..8] != *MAGIC || head[8..12] != FORMAT.to_le_bytes() {
            return Err(io::Error::other("it is of another format"));
        }
        let mut found = vec![0; usize::from(u16::from_le_bytes([head[28], head[29]]))];
        opening.read_all(&mut found)?;
        head.extend_from_slice(&found);
        if found != models.as_bytes() {
            return Err(io::Error::other("it is of other models"));
        }
        opening.head = head;
        Ok(opening)
    }

    fn read_all(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.from.read_exact(bytes)?;
        self.checksum.update(bytes);
        Ok(())
    }

    fn next_piece(&mut self) -> io::Result<()> {
        let mut length = [0; 4];
        self.read_all(&mut length)?;
        let length = u32::from_le_bytes(length);
        let last = length & LAST > 0;
        let length = (length & !LAST) as usize;
        if length > PIECE_BYTES + OVERHEAD_BYTES {
            return Err(damaged(SealError::Broken));
        }
        let mut sealed = vec![0; length];
        self.read_all(&mut sealed)?;
        let context = context(&self.head, self.number, last);
        self.piece = self.service.open(Kind::Index, &context, &sealed).map_err(damaged)?;
        (self.at, self.last) = (0, last);
        self.number += 1;
        Ok(())
    }

    /// That there is nothing more, and that it was all as it was written.
    fn finish(mut self) -> io::Result<()> {
        while self.at >= self.piece.len() && !self.last {
            self.next_piece()?;
        }
        let checksum = self.checksum.finalize();
        let mut found = Vec::new();
        self.from.take(5).read_to_end(&mut found)?;
        if self.at < self.piece.len() || found != checksum.to_le_bytes() {
            return Err(damaged(SealError::Broken));
        }
        Ok(())
    }
}

impl<R: Read> Read for Opening<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.piece.len() {
            if self.last {
                return Ok(0);
            }
            self.next_piece()?;
        }
        let left = &self.piece[self.at..];
        let taken = left.len().min(bytes.len());
        bytes[..taken].copy_from_slice(&left[..taken]);
        self.at += taken;
        Ok(taken)
    }
}

fn context(head: &[u8], number: u64, last: bool) -> Vec<u8> {
    [head, &number.to_le_bytes(), &[u8::from(last)]].concat()
}

fn damaged(error: SealError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::open;
    use super::*;

    const MODELS: &str = "a@1";

    fn save(store: &Store, bytes: &[u8]) {
        store.save_index(MODELS, |to| to.write_all(bytes)).unwrap();
    }

    fn load(store: &Store, models: &str) -> Option<Vec<u8>> {
        store.load_index(models, |from| {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).map(|_| bytes)
        })
    }

    fn text(pieces: f64) -> Vec<u8> {
        let secret = b"a secret vector ".iter().copied().cycle();
        secret.take((pieces * PIECE_BYTES as f64) as usize).collect()
    }

    #[test]
    fn what_is_kept_is_found_again_however_long_and_is_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        assert_eq!(load(&store, MODELS), None);
        for pieces in [0.0, 0.1, 1.0, 2.0, 2.5] {
            save(&store, &text(pieces));
            assert_eq!(load(&store, MODELS), Some(text(pieces)), "{pieces}");
        }
        let kept = fs::read(store.index_file()).unwrap();
        assert!(!kept.windows(8).any(|bytes| bytes == b"a secret"));
    }

    #[test]
    fn one_of_other_models_or_that_makes_no_sense_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let aside = store.index_file().with_extension("snapshot.damaged");
        save(&store, &text(0.1));
        assert_eq!(load(&store, "b@1"), None);
        assert!(aside.exists() && !store.index_file().exists());
        save(&store, &text(0.1));
        assert_eq!(store.load_index(MODELS, |_| Err::<(), _>(io::Error::other("it is nonsense"))), None);
        assert_eq!(load(&store, MODELS), None, "it is not tried again");
        // Who leaves something unread has not understood it.
        save(&store, &text(1.5));
        assert_eq!(store.load_index(MODELS, |from| from.read_exact(&mut [0; 8])), None);
    }

    #[test]
    fn what_was_kept_before_stays_if_writing_fails() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        save(&store, b"before");
        for bytes in [0, 100, 2 * PIECE_BYTES] {
            let failed = store.save_index(MODELS, |to| {
                to.write_all(&vec![1; bytes])?;
                Err(io::Error::from(io::ErrorKind::StorageFull))
            });
            assert!(failed.is_err());
            assert!(!store.index_file().with_extension("snapshot.new").exists(), "nothing is left lying");
            assert_eq!(load(&store, MODELS).as_deref(), Some(&b"before"[..]));
        }
        // A process that was killed while it wrote leaves a part, which is written over.
        fs::write(store.index_file().with_extension("snapshot.new"), b"UPNEXTIX").unwrap();
        assert_eq!(load(&store, MODELS).as_deref(), Some(&b"before"[..]));
        save(&store, b"after");
        assert_eq!(load(&store, MODELS).as_deref(), Some(&b"after"[..]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn no_damage_goes_unnoticed(place in any::<prop::sample::Index>(), bit in 0..8_u8, cut in any::<bool>()) {
            let dir = tempfile::tempdir().unwrap();
            let store = open(dir.path());
            save(&store, &text(0.002));
            let mut bytes = fs::read(store.index_file()).unwrap();
            let place = place.index(bytes.len());
            if cut {
                bytes.truncate(place);
            } else {
                bytes[place] ^= 1 << bit;
            }
            fs::write(store.index_file(), bytes).unwrap();
            prop_assert_eq!(load(&store, MODELS), None);
            prop_assert!(!store.index_file().exists());
        }

        #[test]
        fn pieces_have_their_place(first in 0..3_usize, second in 0..3_usize) {
            let service = Arc::new(ServiceKeys::new(&[crate::domain::SealingKey::new(1, [1; 32])]).unwrap());
            let mut sealing = Sealing::begin(Vec::new(), Arc::clone(&service), MODELS).unwrap();
            let mut borders = vec![sealing.to.len()];
            for _ in 0..3 {
                sealing.write_all(b"piece").unwrap();
                sealing.end_piece(false).unwrap();
                borders.push(sealing.to.len());
            }
            let bytes = sealing.finish().unwrap();
            let piece = |n: usize| &bytes[borders[n]..borders[n + 1]];
            let mut order = [0, 1, 2];
            order.swap(first, second);
            let end = bytes.len() - 4;
            let swapped = [&bytes[..borders[0]], piece(order[0]), piece(order[1]), piece(order[2]), &bytes[borders[3]..end]];
            let mut swapped = swapped.concat();
            swapped.extend(crc32fast::hash(&swapped).to_le_bytes());
            let mut opening = Opening::begin(swapped.as_slice(), service, MODELS).unwrap();
            let read = io::copy(&mut opening, &mut io::sink()).and_then(|_| opening.finish());
            prop_assert_eq!(read.is_ok(), first == second);
        }
    }
}
