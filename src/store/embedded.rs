//! What is in the files? The embedded store: one database, one writer, any number of readers.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use bytes::Bytes;
use crossbeam_channel::{Sender, TrySendError};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata};
use tokio::sync::oneshot;

use super::codec::{LogRecord, OpenError};
use super::core::{Core, open_database};
use super::disk::{Disk, Folder};
use super::options::StoreOptions;
use super::rewrite::{self, Copied};
use super::seal::{Kind, ServiceKeys};
use super::tables::{CATALOGUE, LOG, LOG_BYTES, LOG_TIMES, META, PEOPLE, THUMBNAILS};
use super::writer::{ItemWrite, Queued, Trim, Trimmed, Write, Writer};
use super::{Appended, EventLog, ItemRecord, LogEntry, Replayed, StoreError};
use crate::domain::{Event, ItemId, SealingKey, Timestamp, UserKey};
use crate::telemetry::Queue;

/// The largest record: 16 images of several models fit many times over.
pub(super) const MAX_RECORD_BYTES: usize = 16 * 1024 * 1024;

/// The log, the catalogue and the keys of persons. Clones share them; the files are released when the last one is dropped.
#[derive(Clone)]
pub struct Store(Arc<Handle>);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("file", &self.0.core.file).finish_non_exhaustive()
    }
}

struct Handle {
    core: Arc<Core>,
    /// `None` once closed. Locked only for as long as a call takes to enqueue.
    queue: Mutex<Option<Sender<Queued>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Held while the file is rewritten.
    rewriting: Mutex<()>,
}

/// A write that has its place in the queue.
#[derive(Debug)]
#[must_use = "what became of the write is not known before it is waited for"]
pub struct Queueing<T>(oneshot::Receiver<Result<T, StoreError>>);

impl<T> Queueing<T> {
    /// Returns once the write is durable, or has failed.
    pub async fn wait(self) -> Result<T, StoreError> {
        self.0.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Waits on a thread that may be blocked.
    pub fn wait_blocking(self) -> Result<T, StoreError> {
        self.0.blocking_recv().unwrap_or(Err(StoreError::Closed))
    }
}

/// What a walk through the catalogue met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scanned {
    /// Items handed out.
    pub items: u64,
    /// Items that could not be read and were left out.
    pub skipped: u64,
}

/// How much the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreSizes {
    /// Bytes of the log's records.
    pub log_bytes: u64,
    /// The first entry that the log still has.
    pub first_sequence: u64,
    /// The last one.
    pub last_sequence: u64,
    /// Persons who have a key.
    pub users: u64,
    /// Persons whose key is gone.
    pub erased_users: u64,
    /// Bytes free on the disk, where the system says.
    pub free_bytes: Option<u64>,
}

impl Store {
    /// Opens `upnext.redb` and `user-keys` in the folder `dir`, all of which are made if there are none; `keys` are the
    /// sealing keys, the active one first. After a crash the files are brought back to the last commit first.
    pub fn open(dir: &Path, keys: &[SealingKey], options: StoreOptions) -> Result<Self, StoreError> {
        Self::open_on(Arc::new(Folder::take(dir)?), keys, options)
    }

    pub(super) fn open_on(disk: Arc<dyn Disk>, keys: &[SealingKey], options: StoreOptions) -> Result<Self, StoreError> {
        // Left by a rewrite that a crash cut short.
        let leftover = disk.remove(rewrite::REWRITTEN);
        leftover.map_err(|e| StoreError::from_io(&disk.path(rewrite::REWRITTEN), &e))?;
        let (sender, receiver) = crossbeam_channel::bounded(options.queue_capacity.max(1));
        let core = Arc::new(Core::open(disk, keys, options)?);
        let writer = Writer::new(Arc::clone(&core), receiver);
        let writer = std::thread::Builder::new()
            .name("upnext-store".into())
            .spawn(move || writer.run())
            .map_err(|e| StoreError::from_io(&core.file, &e))?;
        Ok(Self(Arc::new(Handle {
            core,
            queue: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(writer)),
            rewriting: Mutex::new(()),
        })))
    }

    /// Logs `events` in their order; when it returns, those that are [`Appended::New`] are durable. An event
    /// whose id is known is left out. All of them or, on an error, none are logged. If the caller goes away
    /// while waiting, they may still be logged.
    pub async fn append_events(&self, events: Vec<Event>) -> Result<Vec<Appended>, StoreError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.begin_append(&events).await?.wait().await
    }

    /// The first half of [`append_events`](Self::append_events): when it returns, the events have their place in the
    /// queue, in which nothing is lost but by a crash.
    pub async fn begin_append(&self, events: &[Event]) -> Result<Queueing<Vec<Appended>>, StoreError> {
        let mut slots = self.slots_of(events).await?.into_iter();
        let mut bytes = 0;
        let mut records = Vec::with_capacity(events.len());
        for event in events {
            let slot = event.user.and_then(|_| slots.next());
            let record = self.accept(self.core().codec.seal_event(event, slot))?;
            bytes += record.len();
            records.push(record);
        }
        self.submit(bytes, |done| Write::Events { records, done })
    }

    /// Writes items, new or in place of those with the same id; when it returns they are durable. Gives each one's
    /// sequence number in the log. All of them or, on an error, none are written.
    pub async fn put_items(&self, items: Vec<ItemRecord>) -> Result<Vec<u64>, StoreError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        self.begin_put(items)?.wait().await
    }

    /// The first half of [`put_items`](Self::put_items): when it returns, the items have their place in the queue.
    pub fn begin_put(&self, items: Vec<ItemRecord>) -> Result<Queueing<Vec<u64>>, StoreError> {
        let codec = &self.core().codec;
        let mut bytes = 0;
        let mut writes = Vec::with_capacity(items.len());
        for item in items {
            let key = codec.item_key(&item.item.id);
            let record = self.accept(codec.seal_item(&item, self.core().options.embedding_precision))?;
            let entry = self.accept(codec.seal_item_entry(Kind::ItemPut, &item.item.id))?;
            bytes += record.len() + entry.len();
            let mut images = Vec::with_capacity(item.images.len());
            for image in item.images {
                let thumbnail = image.thumbnail.map(|jpeg| codec.seal_thumbnail(&key, &image.sha256, &jpeg));
                let thumbnail = thumbnail.map(|sealed| self.accept(sealed)).transpose()?;
                bytes += thumbnail.as_ref().map_or(0, Vec::len);
                images.push((image.sha256, thumbnail));
            }
            writes.push(ItemWrite { key, record, entry, images });
        }
        self.submit(bytes, |done| Write::Items { items: writes, done })
    }

    /// Deletes an item; when it returns the deletion is durable. Gives its sequence number in the log, or `None` if
    /// there was no such item.
    pub async fn delete_item(&self, item_id: &ItemId) -> Result<Option<u64>, StoreError> {
        let key = self.core().codec.item_key(item_id);
        let entry = self.accept(self.core().codec.seal_item_entry(Kind::ItemDeleted, item_id))?;
        self.submit(entry.len(), |done| Write::Delete { key, entry, done })?.wait().await
    }

    /// Removes the oldest entries of the log; what they changed in the catalogue stays. An event that went can be
    /// logged again under its id. Blocks.
    pub fn trim(&self, trim: Trim) -> Result<Trimmed, StoreError> {
        self.submit(0, |done| Write::Trim { trim, done })?.wait_blocking()
    }

    /// The item with this id, without thumbnails.
    pub fn get_item(&self, item_id: &ItemId) -> Result<Option<ItemRecord>, StoreError> {
        let key = self.core().codec.item_key(item_id);
        let table = self.core().read(CATALOGUE)?;
        let Some(bytes) = table.get(&key).map_err(|e| self.core().failed(e))? else {
            return Ok(None);
        };
        let item = self.core().codec.open_item(&key, bytes.value());
        item.map(Some).map_err(|e| self.core().unreadable(item_id.as_str(), &e))
    }

    /// The stored thumbnail (JPEG) of one of an item's images.
    pub fn thumbnail(&self, item_id: &ItemId, sha256: &[u8; 32]) -> Result<Option<Bytes>, StoreError> {
        let key = self.core().codec.item_key(item_id);
        let table = self.core().read(THUMBNAILS)?;
        let Some(sealed) = table.get((&key, sha256)).map_err(|e| self.core().failed(e))? else {
            return Ok(None);
        };
        let jpeg = self.core().codec.open_thumbnail(&key, sha256, sealed.value());
        jpeg.map(Some).map_err(|e| self.core().unreadable(item_id.as_str(), &e))
    }

    /// Hands out every item, without thumbnails, until `visit` breaks off; in an order of its own, always the same. It
    /// sees the catalogue as it was at the beginning.
    pub fn for_each_item(&self, mut visit: impl FnMut(ItemRecord) -> ControlFlow<()>) -> Result<Scanned, StoreError> {
        let table = self.core().read(CATALOGUE)?;
        let mut scanned = Scanned::default();
        for row in table.iter().map_err(|e| self.core().failed(e))? {
            let (key, bytes) = row.map_err(|e| self.core().failed(e))?;
            match self.core().codec.open_item(key.value(), bytes.value()) {
                Ok(item) => {
                    scanned.items += 1;
                    if visit(item).is_break() {
                        break;
                    }
                }
                Err(error) => {
                    scanned.skipped += 1;
                    tracing::warn!(%error, "an item cannot be read and is skipped");
                }
            }
        }
        Ok(scanned)
    }

    /// The number of items.
    pub fn item_count(&self) -> Result<u64, StoreError> {
        self.core().read(CATALOGUE)?.len().map_err(|e| self.core().failed(e))
    }

    /// Hands out every entry from `from_sequence` on, of events and of items; see [`EventLog::replay_entries`].
    pub fn replay_entries(
        &self,
        from_sequence: u64,
        visit: &mut dyn FnMut(u64, LogEntry) -> ControlFlow<()>,
    ) -> Result<Replayed, StoreError> {
        let table = self.core().read(LOG)?;
        let mut replayed = Replayed::default();
        for row in table.range(from_sequence..).map_err(|e| self.core().failed(e))? {
            let (sequence, bytes) = row.map_err(|e| self.core().failed(e))?;
            match self.core().codec.open_log_entry(bytes.value()) {
                Ok(entry) => {
                    replayed.entries += 1;
                    if visit(sequence.value(), entry).is_break() {
                        break;
                    }
                }
                Err(OpenError::Erased) => replayed.erased += 1,
                Err(error) => {
                    replayed.skipped += 1;
                    tracing::warn!(sequence = sequence.value(), %error, "a log entry cannot be read and is skipped");
                }
            }
        }
        Ok(replayed)
    }

    /// The sequences of a person's entries, oldest first; at most the last `limit` of them. Entries that the log has let
    /// go are not among them.
    pub fn entries_of(&self, user: UserKey, limit: usize) -> Result<Vec<u64>, StoreError> {
        let core = self.core();
        let Some(slot) = core.codec.users.slot(user) else { return Ok(Vec::new()) };
        let people = core.people.lock();
        // Opened under the lock, so that the table and what is newer than it belong together.
        let (table, log) = (core.read(PEOPLE)?, core.read(LOG)?);
        let mut next = people.last(slot, &table).map_err(|e| core.failed(e))?;
        drop(people);
        let mut sequences = Vec::new();
        while sequences.len() < limit
            && let Some(bytes) = log.get(next).map_err(|e| core.failed(e))?
        {
            let Ok(record) = LogRecord::of(bytes.value()) else { break };
            // A chain leads back in time; one that does not is damaged.
            if record.slot() != Some(slot) || record.previous >= next {
                break;
            }
            sequences.push(next);
            next = record.previous;
        }
        sequences.reverse();
        Ok(sequences)
    }

    /// The entries with these sequences, as far as there are any that can be read.
    pub fn entries(&self, sequences: &[u64]) -> Result<Vec<(u64, LogEntry)>, StoreError> {
        let core = self.core();
        let log = core.read(LOG)?;
        let mut entries = Vec::with_capacity(sequences.len());
        for &sequence in sequences {
            let Some(bytes) = log.get(sequence).map_err(|e| core.failed(e))? else { continue };
            match core.codec.open_log_entry(bytes.value()) {
                Ok(entry) => entries.push((sequence, entry)),
                Err(OpenError::Erased) => {}
                Err(error) => tracing::warn!(sequence, %error, "a log entry cannot be read and is skipped"),
            }
        }
        Ok(entries)
    }

    /// Destroys a person's key, so that nothing that was sealed for them, here and in every copy, can be read any more;
    /// whether there was one. Blocks until that is durable.
    pub fn erase_user(&self, user: UserKey) -> Result<bool, StoreError> {
        self.core().codec.users.erase(user)
    }

    /// How many persons were erased ever. What was derived from the log when it was lower may hold traces of them.
    pub fn erasures(&self) -> u32 {
        self.core().codec.users.erasures()
    }

    /// Takes over other sealing keys, the active one first. They must hold all that are in use. A rewrite that has begun
    /// ends with the keys that it began with.
    pub fn set_sealing_keys(&self, keys: &[SealingKey]) -> Result<(), StoreError> {
        self.core().codec.service.store(Arc::new(ServiceKeys::new(keys)?));
        Ok(())
    }

    /// Rewrites the database into a new file that takes its place: without unused pages, every record under the sealing
    /// key that is active at the beginning. Writes go on meanwhile. Blocks until it is done; `progress` hears how many of how many rows are.
    pub fn rewrite(&self, progress: impl FnMut(u64, u64)) -> Result<Copied, StoreError> {
        let core = self.core();
        let Some(_alone) = self.0.rewriting.try_lock() else { return Err(StoreError::Busy) };
        let view = core.database.load().begin_read().map_err(|e| core.failed(e))?;
        // Loaded after the view: they hold every key that something in it was sealed under.
        let keys = core.codec.users.reseal(&core.codec.service)?;
        let path = core.disk.path(rewrite::REWRITTEN);
        core.disk.remove(rewrite::REWRITTEN).map_err(|e| StoreError::from_io(&path, &e))?;
        let result = (|| {
            let copy = open_database(&*core.disk, rewrite::REWRITTEN, &core.options)?;
            let copied = rewrite::copy(&view, &copy, Some(&keys), progress);
            drop(view);
            let copied = copied.map_err(|e| StoreError::from_redb(&path, e))?;
            self.submit(0, |done| Write::Adopt { copy, copied: copied.sequence, keys, done })?.wait_blocking()?;
            Ok(copied)
        })();
        if result.is_err() {
            core.disk.remove(rewrite::REWRITTEN).ok();
        }
        result
    }

    /// Writes a consistent copy of the database, as sealed as it is, to the new file `to`. Writes go on meanwhile. Blocks
    /// until it is durable.
    pub fn copy_to(&self, to: &Path, progress: impl FnMut(u64, u64)) -> Result<Copied, StoreError> {
        let copy = redb::Database::builder()
            .set_cache_size(self.core().options.cache_bytes)
            .create(to)
            .map_err(|e| StoreError::from_redb(to, e))?;
        let view = self.core().database.load().begin_read().map_err(|e| self.core().failed(e))?;
        rewrite::copy(&view, &copy, None, progress).map_err(|e| StoreError::from_redb(to, e))
    }

    /// The number of the last durable entry of the log; 0 when there is none.
    pub fn last_sequence(&self) -> u64 {
        self.core().last_sequence.load(Ordering::Acquire)
    }

    /// The first entry that may have been logged at `time` or later, to the minute.
    pub fn first_since(&self, time: Timestamp) -> Result<u64, StoreError> {
        let time = u64::try_from(time.0).unwrap_or(0);
        let table = self.core().read(LOG_TIMES)?;
        // Entries of the minute before stand behind the row before.
        let mut rows = table.range(..=time).map_err(|e| self.core().failed(e))?;
        let row = rows.next_back().transpose().map_err(|e| self.core().failed(e))?;
        Ok(row.map_or(0, |(_, first)| first.value()))
    }

    /// How much there is.
    pub fn sizes(&self) -> Result<StoreSizes, StoreError> {
        let core = self.core();
        let log_bytes = core.read(META)?.get(LOG_BYTES).map_err(|e| core.failed(e))?.map_or(0, |bytes| bytes.value());
        let first = core.read(LOG)?.first().map_err(|e| core.failed(e))?.map_or(0, |(sequence, _)| sequence.value());
        Ok(StoreSizes {
            log_bytes,
            first_sequence: first,
            last_sequence: self.last_sequence(),
            users: core.codec.users.users() as u64,
            erased_users: u64::from(core.codec.users.erasures()),
            free_bytes: core.disk.free_bytes().ok(),
        })
    }

    /// The database file.
    pub fn file(&self) -> &Path {
        &self.0.core.file
    }

    /// Writes all that is waiting, then accepts nothing more. Blocks until that is done.
    pub fn close(&self) {
        self.0.close();
    }

    pub(super) fn core(&self) -> &Core {
        &self.0.core
    }

    /// Keeps the writer from committing until the answer is dropped.
    #[cfg(test)]
    pub(super) fn stall_writer(&self) -> redb::WriteTransaction {
        self.0.core.database.load().begin_write().unwrap()
    }

    /// The slot of each event that has a person, in their order.
    async fn slots_of(&self, events: &[Event]) -> Result<Vec<u32>, StoreError> {
        let users: Vec<UserKey> = events.iter().filter_map(|event| event.user).collect();
        if let Some(slots) = self.core().codec.users.known(&users) {
            return Ok(slots);
        }
        let core = Arc::clone(&self.0.core);
        // A new key is durable before anything is sealed with it, and syncing blocks.
        let ensured = tokio::task::spawn_blocking(move || {
            let needed = core.options.min_free_bytes;
            if core.disk.free_bytes().is_ok_and(|free| free < needed) {
                return Err(core.no_space());
            }
            core.codec.users.ensure(&users, &core.codec.service)
        });
        ensured.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Bounds the size of a record.
    pub(super) fn accept(&self, sealed: Result<Vec<u8>, OpenError>) -> Result<Vec<u8>, StoreError> {
        let bytes = sealed.map_err(|e| self.core().unreadable("a new record", &e))?;
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(StoreError::TooLarge { bytes: bytes.len(), limit: MAX_RECORD_BYTES });
        }
        Ok(bytes)
    }

    pub(super) fn submit<T>(
        &self,
        bytes: usize,
        make: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Write,
    ) -> Result<Queueing<T>, StoreError> {
        let (done, answer) = oneshot::channel();
        self.enqueue(Queued { write: make(done), bytes })?;
        Ok(Queueing(answer))
    }

    fn enqueue(&self, queued: Queued) -> Result<(), StoreError> {
        let bytes = queued.bytes;
        let core = self.core();
        let waiting = core.queued_bytes.fetch_add(bytes, Ordering::AcqRel);
        // A call larger than the whole bound gets through when nothing else is waiting.
        let sent = if waiting > 0 && waiting + bytes > core.options.queue_bytes {
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
                if let Some(metrics) = &core.options.metrics {
                    metrics.set_queue_depth(Queue::Store, depth);
                }
                Ok(())
            }
            Err(error) => {
                core.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
                Err(error)
            }
        }
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

impl Handle {
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

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}
