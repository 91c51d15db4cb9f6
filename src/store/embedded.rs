//! What is in the file? The embedded store: one database, one writer, any number of readers.

use std::ops::{Bound, ControlFlow};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use bytes::Bytes;
use crossbeam_channel::{Sender, TrySendError};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use tokio::sync::oneshot;

use super::record::{self, RecordError};
use super::writer::{EventIdKey, ItemWrite, Queued, Write, Writer};
use super::{Appended, EmbeddingPrecision, EventLog, ItemRecord, LogEntry, Replayed, StoreError};
use crate::domain::{Event, EventId, ItemId};
use crate::telemetry::{Metrics, Queue};

pub(super) const LOG: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("log");
pub(super) const EVENT_IDS: TableDefinition<'static, &'static [u8; 16], u64> = TableDefinition::new("event_ids");
pub(super) const CATALOGUE: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("catalogue");
pub(super) const THUMBNAILS: TableDefinition<'static, (&'static str, &'static [u8; 32]), &'static [u8]> =
    TableDefinition::new("thumbnails");
const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");

const FILE_NAME: &str = "upnext.redb";
const FORMAT_VERSION: u64 = 1;

/// The largest record: 16 images of several models fit many times over.
pub(super) const MAX_RECORD_BYTES: usize = 16 * 1024 * 1024;

/// How the store works.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Memory for pages of the file, in bytes.
    pub cache_bytes: usize,
    /// Calls that may wait for the writer; one more is refused as [`StoreError::Busy`].
    pub queue_capacity: usize,
    /// Bytes of records that may wait for the writer.
    pub queue_bytes: usize,
    /// Records after which a commit takes no more calls in.
    pub commit_records: usize,
    /// How exactly embeddings are kept.
    pub embedding_precision: EmbeddingPrecision,
    /// Whether to check the whole file on every start, and not only after a crash.
    pub check_on_open: bool,
    /// Where commits are timed and counted.
    pub metrics: Option<Metrics>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * 1024 * 1024,
            queue_capacity: 1024,
            queue_bytes: 64 * 1024 * 1024,
            commit_records: 8192,
            embedding_precision: EmbeddingPrecision::F32,
            check_on_open: true,
            metrics: None,
        }
    }
}

/// The log and the catalogue. Clones share it; the file is released when the last one is dropped.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("file", &self.0.file).finish_non_exhaustive()
    }
}

struct Inner {
    database: Arc<Database>,
    file: PathBuf,
    /// `None` once closed. Locked only for as long as a call takes to enqueue.
    queue: Mutex<Option<Sender<Queued>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    queued_bytes: Arc<AtomicUsize>,
    last_sequence: Arc<AtomicU64>,
    options: StoreOptions,
}

/// What a walk through the catalogue met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scanned {
    /// Items handed out.
    pub items: u64,
    /// Items that could not be read and were left out.
    pub skipped: u64,
}

impl Store {
    /// Opens `upnext.redb` in the folder `dir`, both of which are created if there are none. After a crash the
    /// file is brought back to its last commit first.
    pub fn open(dir: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        create_private_folder(dir).map_err(|e| StoreError::from_io(dir, &e))?;
        let file = dir.join(FILE_NAME);
        let database = open_database(&file, &options)?;
        let last_sequence = prepare(&database, &file)?;
        let database = Arc::new(database);
        let last_sequence = Arc::new(AtomicU64::new(last_sequence));
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = crossbeam_channel::bounded(options.queue_capacity.max(1));
        let writer = Writer {
            database: Arc::clone(&database),
            file: file.clone(),
            queue: receiver,
            queued_bytes: Arc::clone(&queued_bytes),
            last_sequence: Arc::clone(&last_sequence),
            commit_records: options.commit_records.max(1),
            metrics: options.metrics.clone(),
        };
        let writer = std::thread::Builder::new()
            .name("upnext-store".into())
            .spawn(move || writer.run())
            .map_err(|e| StoreError::from_io(&file, &e))?;
        Ok(Self(Arc::new(Inner {
            database,
            file,
            queue: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(writer)),
            queued_bytes,
            last_sequence,
            options,
        })))
    }

    /// Logs `events` in their order; when it returns, those that are [`Appended::New`] are durable. An event
    /// whose id is known is left out. All of them or, on an error, none are logged. If the caller goes away
    /// while waiting, they may still be logged.
    pub async fn append_events(&self, events: Vec<Event>) -> Result<Vec<Appended>, StoreError> {
        let mut bytes = 0;
        let mut encoded = Vec::with_capacity(events.len());
        for event in &events {
            let record = self.accept(record::encode_event(event))?;
            bytes += record.len();
            encoded.push((event_id_key(&event.id), record));
        }
        if encoded.is_empty() {
            return Ok(Vec::new());
        }
        self.submit(bytes, |done| Write::Events { events: encoded, done }).await
    }

    /// Writes items, new or in place of those with the same id; when it returns they are durable. Gives each one's
    /// sequence number in the log. All of them or, on an error, none are written.
    pub async fn put_items(&self, items: Vec<ItemRecord>) -> Result<Vec<u64>, StoreError> {
        let mut bytes = 0;
        let mut writes = Vec::with_capacity(items.len());
        for item in items {
            let record = self.accept(record::encode_item(&item, self.0.options.embedding_precision))?;
            let images: Vec<_> = item.images.into_iter().map(|image| (image.sha256, image.thumbnail)).collect();
            bytes += record.len() + images.iter().filter_map(|(_, t)| t.as_ref().map(Bytes::len)).sum::<usize>();
            writes.push(ItemWrite { item_id: item.item.id.as_str().to_owned(), record, images });
        }
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        self.submit(bytes, |done| Write::Items { items: writes, done }).await
    }

    /// Deletes an item; when it returns the deletion is durable. Gives its sequence number in the log, or `None` if
    /// there was no such item.
    pub async fn delete_item(&self, item_id: &ItemId) -> Result<Option<u64>, StoreError> {
        let item_id = item_id.as_str().to_owned();
        self.submit(item_id.len(), |done| Write::Delete { item_id, done }).await
    }

    /// The item with this id, without thumbnails.
    pub fn get_item(&self, item_id: &ItemId) -> Result<Option<ItemRecord>, StoreError> {
        let table = self.read(CATALOGUE)?;
        let Some(bytes) = table.get(item_id.as_str()).map_err(|e| self.failed(e))? else {
            return Ok(None);
        };
        record::decode_item(bytes.value()).map(Some).map_err(|e| self.unreadable(item_id.as_str(), &e))
    }

    /// The stored thumbnail (JPEG) of one of an item's images.
    pub fn thumbnail(&self, item_id: &ItemId, sha256: &[u8; 32]) -> Result<Option<Bytes>, StoreError> {
        let table = self.read(THUMBNAILS)?;
        let found = table.get((item_id.as_str(), sha256)).map_err(|e| self.failed(e))?;
        Ok(found.map(|jpeg| Bytes::copy_from_slice(jpeg.value())))
    }

    /// At most `limit` items in the order of their ids, from the one after `after`; for pages.
    pub fn list_items(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<ItemRecord>, StoreError> {
        let mut page = Vec::new();
        if limit == 0 {
            return Ok(page);
        }
        self.walk_items(after, |item| {
            page.push(item);
            if page.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(page)
    }

    /// Hands out every item in the order of their ids, without thumbnails, until `visit` breaks off. It sees the
    /// catalogue as it was at the beginning.
    pub fn for_each_item(&self, visit: impl FnMut(ItemRecord) -> ControlFlow<()>) -> Result<Scanned, StoreError> {
        self.walk_items(None, visit)
    }

    /// The number of items.
    pub fn item_count(&self) -> Result<u64, StoreError> {
        self.read(CATALOGUE)?.len().map_err(|e| self.failed(e))
    }

    /// Hands out every event from `from_sequence` on in the order of the log, until `visit` breaks off. It sees the
    /// log as it was at the beginning; numbers in between belong to entries about items.
    pub fn replay(
        &self,
        from_sequence: u64,
        mut visit: impl FnMut(u64, Event) -> ControlFlow<()>,
    ) -> Result<Replayed, StoreError> {
        let mut events = 0;
        let replayed = self.replay_entries(from_sequence, &mut |sequence, entry| match entry {
            LogEntry::Event(event) => {
                events += 1;
                visit(sequence, event)
            }
            LogEntry::ItemPut(_) | LogEntry::ItemDeleted(_) => ControlFlow::Continue(()),
        })?;
        Ok(Replayed { entries: events, ..replayed })
    }

    /// Hands out every entry from `from_sequence` on, of events and of items; see [`EventLog::replay_entries`].
    pub fn replay_entries(
        &self,
        from_sequence: u64,
        visit: &mut dyn FnMut(u64, LogEntry) -> ControlFlow<()>,
    ) -> Result<Replayed, StoreError> {
        let table = self.read(LOG)?;
        let mut replayed = Replayed::default();
        for row in table.range(from_sequence..).map_err(|e| self.failed(e))? {
            let (sequence, bytes) = row.map_err(|e| self.failed(e))?;
            match record::decode_log_entry(bytes.value()) {
                Ok(entry) => {
                    replayed.entries += 1;
                    if visit(sequence.value(), entry).is_break() {
                        break;
                    }
                }
                Err(error) => {
                    replayed.skipped += 1;
                    tracing::warn!(sequence = sequence.value(), %error, "a log entry cannot be read and is skipped");
                }
            }
        }
        Ok(replayed)
    }

    /// The number of the last durable entry of the log; 0 when there is none.
    pub fn last_sequence(&self) -> u64 {
        self.0.last_sequence.load(Ordering::Acquire)
    }

    /// The database file.
    pub fn file(&self) -> &Path {
        &self.0.file
    }

    /// Writes all that is waiting, then accepts nothing more. Blocks until that is done.
    pub fn close(&self) {
        self.0.close();
    }

    /// Keeps the writer from committing until the answer is dropped.
    #[cfg(test)]
    pub(super) fn stall_writer(&self) -> redb::WriteTransaction {
        self.0.database.begin_write().unwrap()
    }

    fn walk_items(
        &self,
        after: Option<&ItemId>,
        mut visit: impl FnMut(ItemRecord) -> ControlFlow<()>,
    ) -> Result<Scanned, StoreError> {
        let table = self.read(CATALOGUE)?;
        let start = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.as_str()));
        let mut scanned = Scanned::default();
        for row in table.range::<&str>((start, Bound::Unbounded)).map_err(|e| self.failed(e))? {
            let (id, bytes) = row.map_err(|e| self.failed(e))?;
            match record::decode_item(bytes.value()) {
                Ok(item) => {
                    scanned.items += 1;
                    if visit(item).is_break() {
                        break;
                    }
                }
                Err(error) => {
                    scanned.skipped += 1;
                    tracing::warn!(item_id = id.value(), %error, "an item cannot be read and is skipped");
                }
            }
        }
        Ok(scanned)
    }

    fn read<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<redb::ReadOnlyTable<K, V>, StoreError> {
        let transaction = self.0.database.begin_read().map_err(|e| self.failed(e))?;
        transaction.open_table(table).map_err(|e| self.failed(e))
    }

    /// Bounds the size of a record.
    fn accept(&self, encoded: Result<Vec<u8>, RecordError>) -> Result<Vec<u8>, StoreError> {
        let bytes = encoded.map_err(|e| self.unreadable("a new record", &e))?;
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(StoreError::TooLarge { bytes: bytes.len(), limit: MAX_RECORD_BYTES });
        }
        Ok(bytes)
    }

    async fn submit<T>(
        &self,
        bytes: usize,
        make: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Write,
    ) -> Result<T, StoreError> {
        let (done, answer) = oneshot::channel();
        self.enqueue(Queued { write: make(done), bytes })?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    fn enqueue(&self, queued: Queued) -> Result<(), StoreError> {
        let bytes = queued.bytes;
        let waiting = self.0.queued_bytes.fetch_add(bytes, Ordering::AcqRel);
        // A call larger than the whole bound gets through when nothing else is waiting.
        let sent = if waiting > 0 && waiting + bytes > self.0.options.queue_bytes {
            Err(StoreError::Busy)
        } else {
            match self.0.queue.lock().as_ref() {
                None => Err(StoreError::Closed),
                Some(queue) => queue.try_send(queued).map(|()| queue.len()).map_err(|e| match e {
                    TrySendError::Full(_) => StoreError::Busy,
                    TrySendError::Disconnected(_) => StoreError::Closed,
                }),
            }
        };
        match sent {
            Ok(depth) => {
                if let Some(metrics) = &self.0.options.metrics {
                    metrics.set_queue_depth(Queue::Store, depth);
                }
                Ok(())
            }
            Err(error) => {
                self.0.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
                Err(error)
            }
        }
    }

    fn failed(&self, error: impl Into<redb::Error>) -> StoreError {
        StoreError::from_redb(&self.0.file, error)
    }

    fn unreadable(&self, what: &str, error: &RecordError) -> StoreError {
        StoreError::Corrupt { file: self.0.file.clone(), reason: format!("{what}: {error}") }
    }
}

impl EventLog for Store {
    fn append(&self, events: Vec<Event>) -> BoxFuture<'_, Result<Vec<Appended>, StoreError>> {
        Box::pin(self.append_events(events))
    }

    fn replay_entries(
        &self,
        from_sequence: u64,
        visit: &mut dyn FnMut(u64, LogEntry) -> ControlFlow<()>,
    ) -> Result<Replayed, StoreError> {
        Self::replay_entries(self, from_sequence, visit)
    }

    fn last_sequence(&self) -> u64 {
        Self::last_sequence(self)
    }
}

impl Inner {
    fn close(&self) {
        drop(self.queue.lock().take());
        let writer = self.writer.lock().take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            tracing::error!("the store's writer ended with a panic");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// Makes the folder if there is none, for its owner only: what people did is nobody else's business.
fn create_private_folder(dir: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Opens or creates the database; a damaged one gives an error, never a panic.
fn open_database(file: &Path, options: &StoreOptions) -> Result<Database, StoreError> {
    let open = AssertUnwindSafe(|| {
        Database::builder()
            .set_cache_size(options.cache_bytes)
            .set_check_integrity_on_open(options.check_on_open)
            .create(file)
    });
    // The database trusts parts of its own file; what a damaged one makes it do must not end the process.
    match std::panic::catch_unwind(open) {
        Ok(opened) => opened.map_err(|e| StoreError::from_redb(file, e)),
        Err(_) => Err(StoreError::Corrupt { file: file.to_owned(), reason: "its structure makes no sense".into() }),
    }
}

/// Makes sure that the tables are there and of a version that is understood; gives the last sequence number.
fn prepare(database: &Database, file: &Path) -> Result<u64, StoreError> {
    let attempt = || -> Result<(u64, u64), redb::Error> {
        let transaction = database.begin_write()?;
        let (found, last_sequence) = {
            let mut meta = transaction.open_table(META)?;
            let found = meta.get("format_version")?.map(|version| version.value());
            if found.is_none() {
                meta.insert("format_version", FORMAT_VERSION)?;
            }
            transaction.open_table(EVENT_IDS)?;
            transaction.open_table(CATALOGUE)?;
            transaction.open_table(THUMBNAILS)?;
            let log = transaction.open_table(LOG)?;
            let last = log.last()?.map_or(0, |(sequence, _)| sequence.value());
            (found.unwrap_or(FORMAT_VERSION), last)
        };
        if found <= FORMAT_VERSION {
            transaction.commit()?;
        } else {
            // A newer file must not be touched.
            transaction.abort()?;
        }
        Ok((found, last_sequence))
    };
    let (found, last_sequence) = attempt().map_err(|e| StoreError::from_redb(file, e))?;
    if found > FORMAT_VERSION {
        return Err(StoreError::NewerFormat { file: file.to_owned(), found, supported: FORMAT_VERSION });
    }
    Ok(last_sequence)
}

/// The key under which an event's id is remembered.
///
/// A UUID is kept as it is: those that begin with the time then lie side by side in the table, and a commit
/// touches few of its pages. Everything else is hashed, because ids differ in length and may be long.
fn event_id_key(id: &EventId) -> EventIdKey {
    let mut text = uuid::Uuid::encode_buffer();
    if let Ok(uuid) = uuid::Uuid::try_parse(id.as_str())
        // Other spellings of a UUID are other ids.
        && *uuid.as_hyphenated().encode_lower(&mut text) == *id.as_str()
    {
        return uuid.into_bytes();
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, id.as_str().as_bytes());
    let mut key = EventIdKey::default();
    key.copy_from_slice(&digest.as_ref()[..16]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_usual_spelling_of_a_uuid_is_its_own_key() {
        let key = |id: &str| event_id_key(&EventId::new(id).unwrap());
        let text = "0190a5b2-7c00-7abc-8def-0123456789ab";
        assert_eq!(key(text), uuid::Uuid::parse_str(text).unwrap().into_bytes());
        let spellings =
            [text.to_owned(), text.to_uppercase(), text.replace('-', ""), format!("{{{text}}}"), "x".into()];
        let keys: std::collections::BTreeSet<EventIdKey> = spellings.iter().map(|id| key(id)).collect();
        assert_eq!(keys.len(), spellings.len());
        assert!(key("0190a5b2-7c00-7000-8000-000000000000") < key("0190a5b2-7c01-7000-8000-000000000000"));
    }
}
