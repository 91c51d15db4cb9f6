//! Who writes, and how many writes share one sync? One thread; all that are waiting, up to a bound.
//!
//! While a commit is being synced the next group forms in the queue, so the group grows with the load and a
//! lone write waits for nobody. A group either becomes durable as a whole or is answered with one error.
//!
//! A full disk refuses writes until there is room again: the thread looks before each commit, and if a commit met the
//! end of the disk all the same, it opens the database anew before the next. After any other failure nothing is
//! written any more, because nobody knows what is on the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Receiver;
use tokio::sync::oneshot;

use super::amend::Amendment;
use super::core::Core;
use super::rewrite;
use super::seal::{BlindId, ServiceKeys};
use super::tables::{PEOPLE_AT, Tables};
use super::{Appended, StoreError};
use crate::telemetry::{Queue, Stage};

/// What the writer can be asked to do; already sealed, so that its one thread does nothing but write.
#[derive(Debug)]
pub(super) enum Write {
    /// Log events unless their ids are known.
    Events { records: Vec<Vec<u8>>, done: Done<Vec<Appended>> },
    /// Put items into the catalogue.
    Items { items: Vec<ItemWrite>, done: Done<Vec<u64>> },
    /// Put records in the place of those that they were made from.
    Amend { amendments: Vec<Amendment>, done: Done<Vec<bool>> },
    /// Take an item out of the catalogue.
    Delete { key: BlindId, entry: Vec<u8>, done: Done<Option<u64>> },
    /// Remove the oldest entries of the log.
    Trim { trim: Trim, done: Done<Trimmed> },
    /// Put a rewritten copy of the database, which holds everything up to `copied` under `keys`, in the place of the
    /// present one.
    Adopt { copy: redb::Database, copied: u64, keys: Arc<ServiceKeys>, done: Done<()> },
}

/// One item to be put.
#[derive(Debug)]
pub(super) struct ItemWrite {
    pub(super) key: BlindId,
    pub(super) record: Vec<u8>,
    /// Its entry in the log.
    pub(super) entry: Vec<u8>,
    /// Every image of the item, with a sealed thumbnail if there is a new one.
    pub(super) images: Vec<([u8; 32], Option<Vec<u8>>)>,
}

/// Which entries may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trim {
    /// Entries before this one go.
    pub before: u64,
    /// The oldest entries go until the log's records take no more bytes.
    pub max_bytes: Option<u64>,
    /// Entries from this one on stay in any case.
    pub not_from: u64,
    /// At most so many go at once.
    pub at_most: u64,
}

/// What went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trimmed {
    /// Entries removed.
    pub removed: u64,
    /// Whether more are due.
    pub more: bool,
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
    pub(super) store: Arc<Core>,
    pub(super) queue: Receiver<Queued>,
    state: State,
}

/// Whether the database can be written to.
enum State {
    Good,
    /// The disk was full in the middle of a write; the database has to be opened anew.
    Full,
    /// For good: every later caller is told the first reason.
    Failed(StoreError),
}

/// What a write will be told when its group is durable.
enum Answer {
    Events(Done<Vec<Appended>>, Vec<Appended>),
    Items(Done<Vec<u64>>, Vec<u64>),
    Delete(Done<Option<u64>>, Option<u64>),
    Amend(Done<Vec<bool>>, Vec<bool>),
    Trim(Done<Trimmed>, Trimmed),
}

impl Writer {
    pub(super) fn new(store: Arc<Core>, queue: Receiver<Queued>) -> Self {
        Self { store, queue, state: State::Good }
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self) {
        while let Ok(first) = self.queue.recv() {
            let (group, adopt) = self.gather(first);
            if let Some(metrics) = &self.store.options.metrics {
                metrics.set_queue_depth(Queue::Store, self.queue.len());
            }
            if !group.is_empty() {
                self.serve(group);
            }
            if let Some(Write::Adopt { copy, copied, keys, done }) = adopt {
                drop(done.send(self.adopt(copy, copied, &keys)));
            }
        }
    }

    fn adopt(&mut self, copy: redb::Database, copied: u64, keys: &ServiceKeys) -> Result<(), StoreError> {
        match &self.state {
            State::Good => rewrite::catch_up(&self.store, &copy, copied, keys)?,
            State::Full => return Err(self.store.no_space()),
            State::Failed(error) => return Err(error.clone()),
        }
        rewrite::exchange(&self.store, copy).inspect_err(|error| {
            tracing::error!(%error, "the rewritten database could not take its place");
            self.state = State::Failed(error.clone());
        })
    }

    /// All that is waiting, up to a bound or to a change of the database.
    fn gather(&self, first: Queued) -> (Vec<Queued>, Option<Write>) {
        let (mut records, mut group) = (0, Vec::new());
        let mut next = Some(first);
        while let Some(queued) = next {
            if matches!(queued.write, Write::Adopt { .. }) {
                return (group, Some(queued.write));
            }
            records += queued.write.records();
            group.push(queued);
            next = if records < self.store.options.commit_records.max(1) { self.queue.try_recv().ok() } else { None };
        }
        (group, None)
    }

    fn serve(&mut self, group: Vec<Queued>) {
        let bytes: usize = group.iter().map(|queued| queued.bytes).sum();
        let records: usize = group.iter().map(|queued| queued.write.records()).sum();
        let writes: Vec<Write> = group.into_iter().map(|queued| queued.write).collect();
        if let Err(error) = self.make_ready(bytes) {
            self.store.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            writes.into_iter().for_each(|write| write.refuse(&error));
            return;
        }
        let timer = self.store.options.metrics.as_ref().map(|metrics| metrics.stage_timer(Stage::Commit));
        let committed = self.commit(writes, bytes);
        drop(timer);
        if let Some(metrics) = &self.store.options.metrics {
            metrics.observe_commit_group(records);
        }
        if let Err(error) = committed {
            tracing::error!(%error, "a write to the store failed");
            self.state = match error {
                StoreError::NoSpace { .. } => State::Full,
                other @ (StoreError::Busy
                | StoreError::TooLarge { .. }
                | StoreError::TooManyUsers { .. }
                | StoreError::Locked { .. }
                | StoreError::Corrupt { .. }
                | StoreError::Format { .. }
                | StoreError::NoSealingKey
                | StoreError::MissingKey { .. }
                | StoreError::WrongKey { .. }
                | StoreError::NoSnapshot { .. }
                | StoreError::Snapshot(_)
                | StoreError::Io { .. }
                | StoreError::Thread(_)
                | StoreError::Closed) => State::Failed(other),
            };
        }
    }

    /// Whether a write of about `bytes` may begin.
    fn make_ready(&mut self, bytes: usize) -> Result<(), StoreError> {
        if let State::Failed(error) = &self.state {
            return Err(error.clone());
        }
        // Pages are copied before they change, and the tables around the records grow too. What makes room may use what is
        // kept free.
        let needed = if bytes == 0 { 0 } else { self.store.options.min_free_bytes.saturating_add(4 * bytes as u64) };
        // Where the system does not say, a write will tell.
        if self.store.disk.free_bytes().is_ok_and(|free| free < needed) {
            return Err(self.store.no_space());
        }
        if matches!(self.state, State::Full) {
            match self.store.reopen() {
                Ok(()) => tracing::info!("there is room on the disk again"),
                Err(error @ StoreError::NoSpace { .. }) => return Err(error),
                Err(error) => {
                    self.state = State::Failed(error.clone());
                    return Err(error);
                }
            }
            self.state = State::Good;
        }
        Ok(())
    }

    /// Makes a group durable and answers it; on an error everyone in the group has been told.
    fn commit(&self, writes: Vec<Write>, bytes: usize) -> Result<(), StoreError> {
        let mut answers = Vec::with_capacity(writes.len());
        let mut pending = writes.into_iter();
        let written = self.write(&mut pending, &mut answers);
        // Before the answers, so that whoever has one finds the room free again.
        self.store.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
        match written {
            Ok(last_sequence) => {
                // Before the answers, so that nobody who has one reads an older number.
                self.store.last_sequence.store(last_sequence, Ordering::Release);
                answers.into_iter().for_each(Answer::send);
                Ok(())
            }
            Err(error) => {
                self.store.people.lock().failed();
                answers.into_iter().for_each(|answer| answer.refuse(&error));
                pending.for_each(|write| write.refuse(&error));
                Err(error)
            }
        }
    }

    /// One transaction: takes each of `writes`, pushes its answer, commits. Returns the new last sequence.
    fn write(&self, writes: &mut impl Iterator<Item = Write>, answers: &mut Vec<Answer>) -> Result<u64, StoreError> {
        let fail = |error: redb::Error| self.store.failed(error);
        let before = self.store.last_sequence.load(Ordering::Acquire);
        let mut people = self.store.people.lock();
        let transaction = self.store.database.load().begin_write().map_err(|e| fail(e.into()))?;
        let mut tables = Tables::open(&transaction, before).map_err(|e| fail(e.into()))?;
        for write in writes {
            match write {
                Write::Events { records, done } => {
                    // The answer is pushed before anything can fail, so that it is never forgotten.
                    answers.push(Answer::Events(done, Vec::with_capacity(records.len())));
                    let Some(Answer::Events(_, appended)) = answers.last_mut() else { continue };
                    for record in records {
                        appended.push(tables.append(record, &mut people).map_err(|e| fail(e.into()))?);
                    }
                }
                Write::Items { items, done } => {
                    answers.push(Answer::Items(done, Vec::with_capacity(items.len())));
                    let Some(Answer::Items(_, sequences)) = answers.last_mut() else { continue };
                    for item in &items {
                        sequences.push(tables.put(item).map_err(|e| fail(e.into()))?);
                    }
                }
                Write::Amend { amendments, done } => {
                    answers.push(Answer::Amend(done, Vec::with_capacity(amendments.len())));
                    let Some(Answer::Amend(_, amended)) = answers.last_mut() else { continue };
                    for amendment in &amendments {
                        amended.push(tables.amend(amendment).map_err(|e| fail(e.into()))?);
                    }
                }
                Write::Delete { key, entry, done } => {
                    answers.push(Answer::Delete(done, None));
                    let Some(Answer::Delete(_, deleted)) = answers.last_mut() else { continue };
                    *deleted = tables.delete(&key, &entry).map_err(|e| fail(e.into()))?;
                }
                Write::Trim { trim, done } => {
                    answers.push(Answer::Trim(done, Trimmed { removed: 0, more: false }));
                    let Some(Answer::Trim(_, trimmed)) = answers.last_mut() else { continue };
                    *trimmed = tables.trim(&trim).map_err(|e| fail(e.into()))?;
                }
                // Stands alone, see `gather`.
                Write::Adopt { done, .. } => drop(done.send(Err(StoreError::Busy))),
            }
        }
        let sequence = tables.sequence;
        let people_at = people.is_due(sequence).then_some(sequence);
        if people_at.is_some() {
            people.write(&mut tables.people).map_err(|e| fail(e.into()))?;
            tables.meta.insert(PEOPLE_AT, sequence).map_err(|e| fail(e.into()))?;
        }
        tables.finish(before + 1, self.store.options.clock.now()).map_err(|e| fail(e.into()))?;
        transaction.commit().map_err(|e| fail(e.into()))?;
        people.committed(people_at);
        Ok(sequence)
    }
}

impl Write {
    fn records(&self) -> usize {
        match self {
            Self::Events { records, .. } => records.len(),
            Self::Items { items, .. } => items.len(),
            Self::Amend { amendments, .. } => amendments.len(),
            Self::Delete { .. } | Self::Trim { .. } | Self::Adopt { .. } => 1,
        }
    }

    fn refuse(self, error: &StoreError) {
        // A receiver that has gone does not want to know.
        match self {
            Self::Events { done, .. } => drop(done.send(Err(error.clone()))),
            Self::Items { done, .. } => drop(done.send(Err(error.clone()))),
            Self::Amend { done, .. } => drop(done.send(Err(error.clone()))),
            Self::Delete { done, .. } => drop(done.send(Err(error.clone()))),
            Self::Trim { done, .. } => drop(done.send(Err(error.clone()))),
            Self::Adopt { done, .. } => drop(done.send(Err(error.clone()))),
        }
    }
}

impl Answer {
    fn send(self) {
        match self {
            Self::Events(done, appended) => drop(done.send(Ok(appended))),
            Self::Items(done, sequences) => drop(done.send(Ok(sequences))),
            Self::Amend(done, amended) => drop(done.send(Ok(amended))),
            Self::Delete(done, deleted) => drop(done.send(Ok(deleted))),
            Self::Trim(done, trimmed) => drop(done.send(Ok(trimmed))),
        }
    }

    fn refuse(self, error: &StoreError) {
        match self {
            Self::Events(done, _) => drop(done.send(Err(error.clone()))),
            Self::Items(done, _) => drop(done.send(Err(error.clone()))),
            Self::Amend(done, _) => drop(done.send(Err(error.clone()))),
            Self::Delete(done, _) => drop(done.send(Err(error.clone()))),
            Self::Trim(done, _) => drop(done.send(Err(error.clone()))),
        }
    }
}
