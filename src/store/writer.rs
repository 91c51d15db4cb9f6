//! Who writes, and how many writes share one sync? One thread; all that are waiting, up to a bound.
//!
//! While a commit is being synced the next group forms in the queue, so the group grows with the load and a
//! lone write waits for nobody. A group either becomes durable as a whole or is answered with one error.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use crossbeam_channel::Receiver;
use redb::{Database, ReadableTable};
use tokio::sync::oneshot;

use super::embedded::{CATALOGUE, EVENT_IDS, LOG, THUMBNAILS};
use super::{Appended, StoreError, record};
use crate::telemetry::{Metrics, Queue, Stage};

/// Stands for an event's id; see `event_id_key`.
pub(super) type EventIdKey = [u8; 16];

/// What the writer can be asked to do; already encoded, so that its one thread does nothing but write.
#[derive(Debug)]
pub(super) enum Write {
    /// Log events unless their ids are known.
    Events { events: Vec<(EventIdKey, Vec<u8>)>, done: Done<Vec<Appended>> },
    /// Put items into the catalogue.
    Items { items: Vec<ItemWrite>, done: Done<Vec<u64>> },
    /// Take an item out of the catalogue.
    Delete { item_id: String, done: Done<Option<u64>> },
}

/// One item to be put.
#[derive(Debug)]
pub(super) struct ItemWrite {
    pub(super) item_id: String,
    pub(super) record: Vec<u8>,
    /// Every image of the item, with a thumbnail if there is a new one.
    pub(super) images: Vec<([u8; 32], Option<Bytes>)>,
}

/// Where the answer goes.
pub(super) type Done<T> = oneshot::Sender<Result<T, StoreError>>;

/// A write and its share of the queue's bytes.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) write: Write,
    pub(super) bytes: usize,
}

/// The one thread that writes.
pub(super) struct Writer {
    pub(super) database: Arc<Database>,
    pub(super) file: PathBuf,
    pub(super) queue: Receiver<Queued>,
    pub(super) queued_bytes: Arc<AtomicUsize>,
    pub(super) last_sequence: Arc<AtomicU64>,
    pub(super) commit_records: usize,
    pub(super) metrics: Option<Metrics>,
}

/// What a write will be told when its group is durable.
enum Answer {
    Events(Done<Vec<Appended>>, Vec<Appended>),
    Items(Done<Vec<u64>>, Vec<u64>),
    Delete(Done<Option<u64>>, Option<u64>),
}

impl Writer {
    /// Works until the queue is closed and empty.
    pub(super) fn run(self) {
        // After a failed write the database accepts no more: every later caller is told the first reason.
        let mut failed: Option<StoreError> = None;
        while let Ok(first) = self.queue.recv() {
            let group = self.gather(first);
            if let Some(metrics) = &self.metrics {
                metrics.set_queue_depth(Queue::Store, self.queue.len());
            }
            let bytes: usize = group.iter().map(|queued| queued.bytes).sum();
            let records: usize = group.iter().map(|queued| queued.write.records()).sum();
            let writes: Vec<Write> = group.into_iter().map(|queued| queued.write).collect();
            match &failed {
                Some(error) => {
                    self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
                    writes.into_iter().for_each(|write| write.refuse(error));
                }
                None => {
                    let timer = self.metrics.as_ref().map(|metrics| metrics.stage_timer(Stage::Commit));
                    failed = self.commit(writes, bytes).err();
                    drop(timer);
                    if let Some(metrics) = &self.metrics {
                        metrics.observe_commit_group(records);
                    }
                    if let Some(error) = &failed {
                        tracing::error!(%error, "the store cannot write any more");
                    }
                }
            }
        }
    }

    fn gather(&self, first: Queued) -> Vec<Queued> {
        let mut records = first.write.records();
        let mut group = vec![first];
        while records < self.commit_records
            && let Ok(next) = self.queue.try_recv()
        {
            records += next.write.records();
            group.push(next);
        }
        group
    }

    /// Makes a group durable and answers it; on an error everyone in the group has been told.
    fn commit(&self, writes: Vec<Write>, bytes: usize) -> Result<(), StoreError> {
        let mut answers = Vec::with_capacity(writes.len());
        let mut pending = writes.into_iter();
        let written = self.write(&mut pending, &mut answers);
        // Before the answers, so that whoever has one finds the room free again.
        self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
        match written {
            Ok(last_sequence) => {
                // Before the answers, so that nobody who has one reads an older number.
                self.last_sequence.store(last_sequence, Ordering::Release);
                answers.into_iter().for_each(Answer::send);
                Ok(())
            }
            Err(error) => {
                answers.into_iter().for_each(|answer| answer.refuse(&error));
                pending.for_each(|write| write.refuse(&error));
                Err(error)
            }
        }
    }

    /// One transaction: takes each of `writes`, pushes its answer, commits. Returns the new last sequence.
    fn write(&self, writes: &mut impl Iterator<Item = Write>, answers: &mut Vec<Answer>) -> Result<u64, StoreError> {
        let fail = |error: redb::Error| StoreError::from_redb(&self.file, error);
        let mut sequence = self.last_sequence.load(Ordering::Acquire);
        let transaction = self.database.begin_write().map_err(|e| fail(e.into()))?;
        {
            let mut tables = Tables {
                log: transaction.open_table(LOG).map_err(|e| fail(e.into()))?,
                event_ids: transaction.open_table(EVENT_IDS).map_err(|e| fail(e.into()))?,
                catalogue: transaction.open_table(CATALOGUE).map_err(|e| fail(e.into()))?,
                thumbnails: transaction.open_table(THUMBNAILS).map_err(|e| fail(e.into()))?,
            };
            for write in writes {
                match write {
                    Write::Events { events, done } => {
                        // The answer is pushed before anything can fail, so that it is never forgotten.
                        answers.push(Answer::Events(done, Vec::with_capacity(events.len())));
                        let Some(Answer::Events(_, appended)) = answers.last_mut() else { continue };
                        for (id, bytes) in events {
                            appended.push(tables.append(&mut sequence, &id, &bytes).map_err(|e| fail(e.into()))?);
                        }
                    }
                    Write::Items { items, done } => {
                        answers.push(Answer::Items(done, Vec::with_capacity(items.len())));
                        let Some(Answer::Items(_, sequences)) = answers.last_mut() else { continue };
                        for item in items {
                            tables.put(&mut sequence, item).map_err(|e| fail(e.into()))?;
                            sequences.push(sequence);
                        }
                    }
                    Write::Delete { item_id, done } => {
                        answers.push(Answer::Delete(done, None));
                        let Some(Answer::Delete(_, deleted)) = answers.last_mut() else { continue };
                        let existed = tables.delete(&mut sequence, &item_id).map_err(|e| fail(e.into()))?;
                        *deleted = existed.then_some(sequence);
                    }
                }
            }
        }
        transaction.commit().map_err(|e| fail(e.into()))?;
        Ok(sequence)
    }
}

/// The tables of one transaction.
struct Tables<'t> {
    log: redb::Table<'t, u64, &'static [u8]>,
    event_ids: redb::Table<'t, &'static [u8; 16], u64>,
    catalogue: redb::Table<'t, &'static str, &'static [u8]>,
    thumbnails: redb::Table<'t, (&'static str, &'static [u8; 32]), &'static [u8]>,
}

impl Tables<'_> {
    fn append(&mut self, sequence: &mut u64, id: &EventIdKey, bytes: &[u8]) -> Result<Appended, redb::StorageError> {
        if self.event_ids.get(id)?.is_some() {
            return Ok(Appended::Duplicate);
        }
        *sequence += 1;
        self.event_ids.insert(id, *sequence)?;
        self.log.insert(*sequence, bytes)?;
        Ok(Appended::New(*sequence))
    }

    fn put(&mut self, sequence: &mut u64, item: ItemWrite) -> Result<(), redb::StorageError> {
        let id = item.item_id.as_str();
        *sequence += 1;
        self.log.insert(*sequence, record::encode_item_put(id).as_slice())?;
        self.catalogue.insert(id, item.record.as_slice())?;
        self.thumbnails.retain_in((id, &[0_u8; 32])..=(id, &[u8::MAX; 32]), |(_, sha256), _| {
            item.images.iter().any(|(kept, _)| kept == sha256)
        })?;
        for (sha256, thumbnail) in &item.images {
            if let Some(jpeg) = thumbnail {
                self.thumbnails.insert((id, sha256), jpeg.as_ref())?;
            }
        }
        Ok(())
    }

    fn delete(&mut self, sequence: &mut u64, id: &str) -> Result<bool, redb::StorageError> {
        if self.catalogue.remove(id)?.is_none() {
            return Ok(false);
        }
        self.thumbnails.retain_in((id, &[0_u8; 32])..=(id, &[u8::MAX; 32]), |_, _| false)?;
        *sequence += 1;
        self.log.insert(*sequence, record::encode_item_deleted(id).as_slice())?;
        Ok(true)
    }
}

impl Write {
    fn records(&self) -> usize {
        match self {
            Self::Events { events, .. } => events.len(),
            Self::Items { items, .. } => items.len(),
            Self::Delete { .. } => 1,
        }
    }

    fn refuse(self, error: &StoreError) {
        // A receiver that has gone does not want to know.
        match self {
            Self::Events { done, .. } => drop(done.send(Err(error.clone()))),
            Self::Items { done, .. } => drop(done.send(Err(error.clone()))),
            Self::Delete { done, .. } => drop(done.send(Err(error.clone()))),
        }
    }
}

impl Answer {
    fn send(self) {
        match self {
            Self::Events(done, appended) => drop(done.send(Ok(appended))),
            Self::Items(done, sequences) => drop(done.send(Ok(sequences))),
            Self::Delete(done, deleted) => drop(done.send(Ok(deleted))),
        }
    }

    fn refuse(self, error: &StoreError) {
        match self {
            Self::Events(done, _) => drop(done.send(Err(error.clone()))),
            Self::Items(done, _) => drop(done.send(Err(error.clone()))),
            Self::Delete(done, _) => drop(done.send(Err(error.clone()))),
        }
    }
}
