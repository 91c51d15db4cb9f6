//! How does the service get back to where it was? A checkpoint, then the log that follows it, then the catalogue.
//!
//! The log's order gives items their numbers, as it did when its entries were applied for the first time, so that what
//! depends on numbers (ties between equals) comes out as before. What was learned of an item up to its deletion is
//! forgotten at the same place. The catalogue has the present contents of the items, so it is read once, at the end.

use std::ops::ControlFlow;

use super::live::Live;
use crate::domain::ItemNo;
use crate::store::{LogEntry, Store, StoreError};

/// What a start found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Items in the catalogue.
    pub items: u64,
    /// The entry of the log that the checkpoint includes from which the start went on; 0 if there was none.
    pub checkpoint: u64,
    /// Events replayed after it.
    pub events: u64,
    /// Entries of persons who were erased.
    pub erased: u64,
    /// Records that could not be read and were left out.
    pub skipped: u64,
    /// Items with images that the present models have not seen yet.
    pub not_embedded: u64,
    /// Vectors that the kept index brought.
    pub indexed: u64,
    /// Of those, how many its graph led to, which was not built anew.
    pub linked: u64,
}

/// What a start is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The model is loaded.
    Model,
    /// The database is opened and, after a crash, mended.
    Database,
    /// A checkpoint of what was learned is read.
    Checkpoint,
    /// The log is replayed.
    Log,
    /// The catalogue is read.
    Items,
}

impl Step {
    /// The name on the wire and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Database => "database",
            Self::Checkpoint => "checkpoint",
            Self::Log => "log",
            Self::Items => "items",
        }
    }
}

/// How far a start has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it is busy with.
    pub step: Step,
    /// How much of the step is done: entries of the log, items.
    pub done: u64,
    /// How much there is to do; 0 if that is not known.
    pub total: u64,
}

impl Progress {
    /// The beginning of a step.
    pub fn begin(step: Step, total: u64) -> Self {
        Self { step, done: 0, total }
    }
}

/// How often progress is told, in entries or items.
const PROGRESS_EVERY: u64 = 5_000;

/// Brings `live`, which includes the log up to `included`, to the state that the store ends at. `progress` hears of every step and of its progress from time to
/// time; when it breaks off, so does the start, with [`StoreError::Closed`].
pub(super) fn recover(
    live: &Live,
    store: &Store,
    included: u64,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Recovered, StoreError> {
    let mut done = Recovered { checkpoint: included, ..Recovered::default() };
    let mut broken_off = false;
    let mut tell = |step, done: u64, total| {
        broken_off =
            broken_off || (done.is_multiple_of(PROGRESS_EVERY) && progress(Progress { step, done, total }).is_break());
        if broken_off { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };

    let last = store.last_sequence();
    if tell(Step::Log, 0, last).is_break() {
        return Err(StoreError::Closed);
    }
    let replayed = store.replay_entries(included + 1, &mut |sequence, entry| {
        match entry {
            LogEntry::Event(event) => {
                live.apply_event(&event);
                done.events += 1;
            }
            LogEntry::ItemPut(id) => live.expect_item(&id),
            LogEntry::ItemDeleted(id) => live.forget_item(&id),
        }
        tell(Step::Log, sequence, last)
    })?;

    let total = store.item_count()?;
    if tell(Step::Items, 0, total).is_break() {
        return Err(StoreError::Closed);
    }
    let scanned = store.for_each_item(|record| {
        live.apply_item(record);
        done.items += 1;
        tell(Step::Items, done.items, total)
    })?;
    if broken_off {
        return Err(StoreError::Closed);
    }
    // A saved index may be older than the checkpoint, and know items that are gone.
    let gallery = live.gallery();
    let gone: Vec<ItemNo> = {
        let catalogue = live.catalogue.read();
        gallery.vectors.items().iter().map(ItemNo).filter(|&no| catalogue.entry(no).is_none()).collect()
    };
    gone.into_iter().for_each(|no| {
        gallery.vectors.remove(no);
    });
    done.skipped = scanned.skipped + replayed.skipped;
    done.erased = replayed.erased;
    (done.not_embedded, _) = gallery.missing();
    if done.not_embedded > 0 {
        tracing::warn!(
            items = done.not_embedded,
            models = gallery.ensemble.id(),
            "these items have pictures that the models in use have not seen; they are looked at in the background"
        );
    }
    Ok(done)
}
