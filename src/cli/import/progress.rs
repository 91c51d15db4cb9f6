//! How far had an import come when it was interrupted? A small file beside the report, written as batches become durable.
//!
//! It goes with one file, one target and one way of reading: another of these is refused, because rows would be left out
//! or come twice. What it says is done is done; up to a second of what was done after it comes again, which is harmless.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::outcome::{Counts, Tally};
use crate::cli::CliError;

const VERSION: u32 = 1;
const FIRST_BLOCK_BYTES: u64 = 64 << 10;
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// What belongs to an import for as long as it lasts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subject {
    version: u32,
    /// Size of the file.
    file_bytes: u64,
    /// SHA-256 of the file's first 64 KiB.
    first_block: String,
    /// SHA-256 of what the operator said: columns, separators, types, target.
    way: String,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Done {
    /// Rows, from the beginning of the file.
    pub(super) rows: u64,
    /// Where in the file the last of them ends.
    pub(super) bytes: u64,
    /// How much of the report belongs to them.
    pub(super) report_bytes: u64,
    /// What became of them.
    pub(super) counts: Counts,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    #[serde(flatten)]
    subject: Subject,
    #[serde(flatten)]
    done: Done,
}

/// The file that keeps it.
#[derive(Debug)]
pub(super) struct Progress {
    file: PathBuf,
    subject: Subject,
    rows: u64,
    bytes: u64,
    saved_at: Option<Instant>,
}

impl Subject {
    /// Of the file to be read and what was said about it.
    pub(super) fn of(file: &Path, way: &[&str]) -> Result<Self, CliError> {
        let read = || -> io::Result<(u64, Vec<u8>)> {
            let opened = File::open(file)?;
            let mut block = Vec::new();
            let bytes = opened.metadata()?.len();
            opened.take(FIRST_BLOCK_BYTES).read_to_end(&mut block)?;
            Ok((bytes, block))
        };
        let (file_bytes, block) = read().map_err(CliError::io(file.display()))?;
        // No word runs into the next.
        let way: Vec<u8> = way.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
        Ok(Self { version: VERSION, file_bytes, first_block: sha256(&block), way: sha256(&way) })
    }
}

impl Progress {
    /// What an interrupted import of `subject` left in `file`, and where it stopped; nothing if there was none.
    pub(super) fn open(file: PathBuf, subject: Subject) -> Result<(Self, Done), CliError> {
        let shown = file.display().to_string();
        let done = match std::fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Done::default(),
            Err(error) => return Err(CliError::io(shown)(error)),
            Ok(text) => {
                let refused = |reason: &str| CliError::Failed(format!("{shown}: {reason}; delete it to begin anew"));
                let saved: Saved = serde_json::from_slice(&text).map_err(|_| refused("is no progress of an import"))?;
                let changed = Subject { way: subject.way.clone(), ..saved.subject.clone() } != subject;
                if changed {
                    return Err(refused("the file has changed since the import was interrupted"));
                }
                if saved.subject != subject {
                    return Err(refused("the import was begun with another target or other columns and options"));
                }
                saved.done
            }
        };
        Ok((Self { file, subject, rows: done.rows, bytes: done.bytes, saved_at: None }, done))
    }

    /// Rows up to this one, which ends at this byte, are durable and counted. Written down once in a while.
    pub(super) fn note(&mut self, rows: u64, bytes: u64, tally: &mut Tally) -> Result<(), CliError> {
        (self.rows, self.bytes) = (rows, bytes);
        if self.saved_at.is_some_and(|at| at.elapsed() < SAVE_EVERY) { Ok(()) } else { self.save(tally) }
    }

    /// Writes it down, whole or not at all.
    pub(super) fn save(&mut self, tally: &mut Tally) -> Result<(), CliError> {
        let report_bytes = tally.flush()?;
        let done = Done { rows: self.rows, bytes: self.bytes, report_bytes, counts: tally.counts() };
        let text = serde_json::to_vec(&Saved { subject: self.subject.clone(), done }).map_err(io::Error::other);
        let mut beside = self.file.as_os_str().to_owned();
        beside.push(".new");
        let written = text.and_then(|text| {
            let mut new = File::create(&beside)?;
            new.write_all(&text)?;
            new.write_all(b"\n")?;
            drop(new);
            std::fs::rename(&beside, &self.file)
        });
        self.saved_at = Some(Instant::now());
        written.map_err(CliError::io(self.file.display()))
    }

    /// Takes it away: the import is over.
    pub(super) fn remove(self) -> Result<(), CliError> {
        forget(&self.file)
    }
}

/// Takes away what an interrupted import left.
pub(super) fn forget(file: &Path) -> Result<(), CliError> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CliError::io(file.display())(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::batch::Kind;
    use super::*;

    #[test]
    fn it_goes_with_one_file_and_one_way_of_reading() {
        let dir = tempfile::tempdir().unwrap();
        let (data, file) = (dir.path().join("x.csv"), dir.path().join("x.csv.progress"));
        std::fs::write(&data, "item_id\na\nb\n").unwrap();
        let open = |way: &[&str]| Progress::open(file.clone(), Subject::of(&data, way).unwrap());
        let (mut progress, done) = open(&["a", "bc"]).unwrap();
        assert_eq!(done, Done::default());
        let mut tally = Tally::new(Kind::Items, None, &done).unwrap();
        progress.note(1, 10, &mut tally).unwrap();
        progress.note(2, 12, &mut tally).unwrap();
        assert_eq!(open(&["a", "bc"]).unwrap().1, Done { rows: 1, bytes: 10, ..done }, "the second came too soon");
        progress.save(&mut tally).unwrap();
        assert_eq!(open(&["a", "bc"]).unwrap().1, Done { rows: 2, bytes: 12, ..done });
        let refusal = |way: &[&str]| open(way).unwrap_err().to_string();
        assert!(refusal(&["ab", "c"]).contains("another target"));
        std::fs::write(&data, "item_id\na\nc\n").unwrap();
        assert!(refusal(&["a", "bc"]).contains("has changed"));
        std::fs::write(&data, "item_id\na\nb\n").unwrap();
        open(&["a", "bc"]).unwrap().0.remove().unwrap();
        assert_eq!(open(&["ab", "c"]).unwrap().1, Done::default());
        std::fs::write(&file, "{}").unwrap();
        assert!(refusal(&["a", "bc"]).contains("no progress"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
