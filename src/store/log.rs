//! What may a log be asked? The trait behind which the embedded log and others stand.

use std::ops::ControlFlow;

use futures_util::future::BoxFuture;

use super::StoreError;
use crate::domain::{Event, ItemId};

/// An ordered, durable log of what happened.
///
/// Sequence numbers rise; entries are replayed in their order. An event's id is logged at most once.
pub trait EventLog: Send + Sync {
    /// Makes `events` durable, in their order, and says for each what became of it. When the future ends with an
    /// error, none of them was acknowledged; one that is dropped may still have been written.
    fn append(&self, events: Vec<Event>) -> BoxFuture<'_, Result<Vec<Appended>, StoreError>>;

    /// Hands out every entry from `from_sequence` on, until `visit` breaks off.
    fn replay_entries(
        &self,
        from_sequence: u64,
        visit: &mut dyn FnMut(u64, LogEntry) -> ControlFlow<()>,
    ) -> Result<Replayed, StoreError>;

    /// The number of the last durable entry; 0 when there is none.
    fn last_sequence(&self) -> u64;
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It was logged under this sequence number.
    New(u64),
    /// Its id was logged before; nothing was written.
    Duplicate,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq)]
pub enum LogEntry {
    /// Something happened.
    Event(Event),
    /// An item was written; the catalogue has its present contents.
    ItemPut(ItemId),
    /// An item was deleted.
    ItemDeleted(ItemId),
}

/// What a replay met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Entries handed out.
    pub entries: u64,
    /// Entries that could not be read and were left out.
    pub skipped: u64,
    /// Entries of persons who were erased; nobody can read them.
    pub erased: u64,
}
