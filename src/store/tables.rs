//! Which tables does the database have, and what does a write do to them?

use redb::{ReadableTable, StorageError, TableDefinition, WriteTransaction};

use super::Appended;
use super::amend::Amendment;
use super::codec::{LogRecord, set_previous};
use super::people::People;
use super::seal::{BlindId, Kind};
use super::writer::{ItemWrite, Trim, Trimmed};
use crate::domain::Timestamp;

type Definition<K, V> = TableDefinition<'static, K, V>;

/// Sequence → record of the log.
pub(super) const LOG: Definition<u64, &[u8]> = TableDefinition::new("log");
/// Blind id of an event → its sequence.
pub(super) const EVENT_IDS: Definition<&[u8; 16], u64> = TableDefinition::new("event_ids");
/// Blind id of an item → the sealed item.
pub(super) const CATALOGUE: Definition<&[u8; 16], &[u8]> = TableDefinition::new("catalogue");
/// Blind id of an item, SHA-256 of an image's bytes → the sealed JPEG.
pub(super) const THUMBNAILS: Definition<(&[u8; 16], &[u8; 32]), &[u8]> = TableDefinition::new("thumbnails");
/// Slot of a person → sequence of their last entry, as of the entry [`PEOPLE_AT`].
pub(super) const PEOPLE: Definition<u32, u64> = TableDefinition::new("people");
/// Milliseconds since 1970 → the first sequence that was logged from then on; one row a minute.
pub(super) const LOG_TIMES: Definition<u64, u64> = TableDefinition::new("log_times");
/// Name → number.
pub(super) const META: Definition<&str, u64> = TableDefinition::new("meta");
/// Name → sealed bytes.
pub(super) const SECRETS: Definition<&str, &[u8]> = TableDefinition::new("secrets");

pub(super) const FORMAT_VERSION: &str = "format_version";
pub(super) const LOG_BYTES: &str = "log_bytes";
pub(super) const PEOPLE_AT: &str = "people_at";
pub(super) const INDEX_KEY: &str = "index_key";

/// Rows of [`LOG_TIMES`] are at least this far apart.
const LOG_TIMES_EVERY_MS: u64 = 60_000;

/// The tables of one write.
pub(super) struct Tables<'t> {
    pub(super) log: redb::Table<'t, u64, &'static [u8]>,
    pub(super) event_ids: redb::Table<'t, &'static [u8; 16], u64>,
    pub(super) catalogue: redb::Table<'t, &'static [u8; 16], &'static [u8]>,
    pub(super) thumbnails: redb::Table<'t, (&'static [u8; 16], &'static [u8; 32]), &'static [u8]>,
    pub(super) people: redb::Table<'t, u32, u64>,
    pub(super) log_times: redb::Table<'t, u64, u64>,
    pub(super) meta: redb::Table<'t, &'static str, u64>,
    pub(super) sequence: u64,
    log_bytes: u64,
    logged: bool,
}

impl<'t> Tables<'t> {
    /// Opens the tables, which are made if there are none; `sequence` is the last one of the log.
    pub(super) fn open(transaction: &'t WriteTransaction, sequence: u64) -> Result<Self, redb::TableError> {
        let meta = transaction.open_table(META)?;
        let log_bytes = meta.get(LOG_BYTES)?.map_or(0, |bytes| bytes.value());
        Ok(Self {
            log: transaction.open_table(LOG)?,
            event_ids: transaction.open_table(EVENT_IDS)?,
            catalogue: transaction.open_table(CATALOGUE)?,
            thumbnails: transaction.open_table(THUMBNAILS)?,
            people: transaction.open_table(PEOPLE)?,
            log_times: transaction.open_table(LOG_TIMES)?,
            meta,
            sequence,
            log_bytes,
            logged: false,
        })
    }

    /// Ends the write: notes how long the log is and when it was written.
    pub(super) fn finish(mut self, first: u64, now: Timestamp) -> Result<(), StorageError> {
        self.meta.insert(LOG_BYTES, self.log_bytes)?;
        if self.logged {
            let now = u64::try_from(now.0).unwrap_or(0);
            let last = self.log_times.last()?.map(|(at, _)| at.value());
            if last.is_none_or(|last| now >= last + LOG_TIMES_EVERY_MS) {
                self.log_times.insert(now, first)?;
            }
        }
        Ok(())
    }

    /// Logs an event unless its id is known.
    pub(super) fn append(&mut self, mut record: Vec<u8>, people: &mut People) -> Result<Appended, StorageError> {
        let Ok((blind_id, slot)) = LogRecord::of(&record).map(|record| (record.blind_id, record.slot())) else {
            return Err(StorageError::Corrupted("a record that was just made is none".into()));
        };
        if self.event_ids.get(&blind_id)?.is_some() {
            return Ok(Appended::Duplicate);
        }
        if let Some(slot) = slot {
            let previous = people.last(slot, &self.people)?;
            set_previous(&mut record, previous);
            people.note(slot, self.sequence + 1);
        }
        let sequence = self.log(&record)?;
        self.event_ids.insert(&blind_id, sequence)?;
        Ok(Appended::New(sequence))
    }

    /// Logs a record that is known to have had this sequence; sequences must rise.
    pub(super) fn restore(&mut self, sequence: u64, record: Vec<u8>, people: &mut People) -> Result<(), StorageError> {
        self.sequence = sequence - 1;
        let is_event = LogRecord::of(&record).is_ok_and(|r| r.header.kind == Kind::Event);
        if is_event {
            self.append(record, people)?;
        } else {
            self.log(&record)?;
        }
        people.committed(None);
        Ok(())
    }

    /// Puts an item; returns the sequence of its entry in the log.
    pub(super) fn put(&mut self, item: &ItemWrite) -> Result<u64, StorageError> {
        self.catalogue.insert(&item.key, item.record.as_slice())?;
        self.keep_thumbnails(&item.key, |sha256| item.images.iter().any(|(kept, _)| kept == sha256))?;
        for (sha256, thumbnail) in &item.images {
            if let Some(sealed) = thumbnail {
                self.thumbnails.insert((&item.key, sha256), sealed.as_slice())?;
            }
        }
        self.log(&item.entry)
    }

    /// Puts a record in the place of the one that it was made from; `false` if another one stands there.
    pub(super) fn amend(&mut self, amendment: &Amendment) -> Result<bool, StorageError> {
        let as_expected = self.catalogue.get(&amendment.key)?.is_some_and(|own| own.value() == amendment.expected);
        if as_expected {
            self.catalogue.insert(&amendment.key, amendment.record.as_slice())?;
        }
        Ok(as_expected)
    }

    /// Deletes an item; the sequence of its entry in the log, or `None` if there was no such item.
    pub(super) fn delete(&mut self, key: &BlindId, entry: &[u8]) -> Result<Option<u64>, StorageError> {
        if self.catalogue.remove(key)?.is_none() {
            return Ok(None);
        }
        self.keep_thumbnails(key, |_| false)?;
        self.log(entry).map(Some)
    }

    /// Removes the oldest entries of the log, within bounds; the last entry always stays, since its number counts.
    pub(super) fn trim(&mut self, trim: &Trim) -> Result<Trimmed, StorageError> {
        let mut trimmed = Trimmed { removed: 0, more: false };
        while let Some(sequence) = self.first()? {
            let too_old = sequence < trim.before;
            let too_many = trim.max_bytes.is_some_and(|max| self.log_bytes > max);
            if sequence >= trim.not_from.min(self.sequence) || !(too_old || too_many) {
                break;
            }
            if trimmed.removed >= trim.at_most {
                trimmed.more = true;
                break;
            }
            let bytes = self.let_go(sequence)?;
            self.log_bytes = self.log_bytes.saturating_sub(bytes as u64);
            trimmed.removed += 1;
        }
        let first = self.first()?.unwrap_or(0);
        // The last row that points before the first entry still says how old that entry may be.
        loop {
            let Some(at) = self.log_times.first()?.map(|(at, _)| at.value()) else { break };
            if self.log_times.range(at + 1..)?.next().transpose()?.is_none_or(|(_, next)| next.value() > first) {
                break;
            }
            self.log_times.remove(at)?;
        }
        Ok(trimmed)
    }

    /// The first sequence of the log.
    pub(super) fn first(&self) -> Result<Option<u64>, StorageError> {
        Ok(self.log.first()?.map(|(sequence, _)| sequence.value()))
    }

    /// Removes an entry of the log, and the id of its event; the bytes of its record.
    pub(super) fn let_go(&mut self, sequence: u64) -> Result<usize, StorageError> {
        let Some((bytes, blind_id)) = self.log.remove(sequence)?.map(|record| {
            let record = record.value();
            (record.len(), LogRecord::of(record).ok().map(|record| record.blind_id))
        }) else {
            return Ok(0);
        };
        // Only if it points here: an item's entry has a blind id too.
        if let Some(blind_id) = blind_id
            && self.event_ids.get(&blind_id)?.is_some_and(|at| at.value() == sequence)
        {
            self.event_ids.remove(&blind_id)?;
        }
        Ok(bytes)
    }

    /// Gives an item these sealed contents, or none, and these sealed thumbnails, in place of any it had.
    pub(super) fn replace<'a>(
        &mut self,
        key: &BlindId,
        item: Option<&[u8]>,
        thumbnails: impl Iterator<Item = Result<([u8; 32], Vec<u8>), StorageError>> + 'a,
    ) -> Result<(), StorageError> {
        match item {
            Some(item) => self.catalogue.insert(key, item)?,
            None => self.catalogue.remove(key)?,
        };
        self.keep_thumbnails(key, |_| false)?;
        for row in thumbnails {
            let (sha256, jpeg) = row?;
            self.thumbnails.insert((key, &sha256), jpeg.as_slice())?;
        }
        Ok(())
    }

    fn log(&mut self, record: &[u8]) -> Result<u64, StorageError> {
        self.sequence += 1;
        self.log.insert(self.sequence, record)?;
        self.log_bytes += record.len() as u64;
        self.logged = true;
        Ok(self.sequence)
    }

    fn keep_thumbnails(&mut self, key: &BlindId, keep: impl Fn(&[u8; 32]) -> bool) -> Result<(), StorageError> {
        self.thumbnails.retain_in(thumbnails_of(key), |(_, sha256), _| keep(sha256))
    }
}

/// The keys of all thumbnails of an item.
pub(super) fn thumbnails_of(key: &BlindId) -> std::ops::RangeInclusive<(&BlindId, &'static [u8; 32])> {
    (key, &[0_u8; 32])..=(key, &[u8::MAX; 32])
}
