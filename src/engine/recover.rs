//! How does the service get back to where it was? The log first, entry by entry, then the catalogue.
//!
//! The log's order gives items their numbers, as it did when its entries were applied for the first time, so that what
//! depends on numbers (ties between equals) comes out as before. What was learned of an item up to its deletion is
//! forgotten at the same place. The catalogue has the present contents of the items, so it is read once, at the end.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::live::Live;
use crate::domain::ItemId;
use crate::store::{LogEntry, Store, StoreError};

/// What a start found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Items in the catalogue.
    pub items: u64,
    /// Events replayed.
    pub events: u64,
    /// Records that could not be read and were left out.
    pub skipped: u64,
    /// Items that have images, none of which was embedded by the present model.
    pub not_embedded: u64,
}

/// How often progress is told.
const PROGRESS_EVERY: u64 = 10_000;

/// Brings `live` to the state that the store ends at. `progress` is told what has been done so far, from time to time.
pub(super) fn recover(
    live: &Live,
    store: &Store,
    mut progress: impl FnMut(&Recovered),
) -> Result<Recovered, StoreError> {
    let mut done = Recovered::default();
    let mut foreign: BTreeSet<ItemId> = BTreeSet::new();
    let replayed = store.replay_entries(0, &mut |_, entry| {
        match entry {
            LogEntry::Event(event) => {
                live.apply_event(&event);
                done.events += 1;
                if done.events % PROGRESS_EVERY == 0 {
                    progress(&done);
                }
            }
            LogEntry::ItemPut(id) => live.expect_item(&id),
            LogEntry::ItemDeleted(id) => live.forget_item(&id),
        }
        ControlFlow::Continue(())
    })?;
    let scanned = store.for_each_item(|record| {
        let embedded = record.images.iter().any(|image| image.embeddings.contains_key(&live.model_id));
        if !record.images.is_empty() && !embedded {
            foreign.insert(record.item.id.clone());
        }
        live.apply_item(record);
        done.items += 1;
        if done.items % PROGRESS_EVERY == 0 {
            progress(&done);
        }
        ControlFlow::Continue(())
    })?;
    done.skipped = scanned.skipped + replayed.skipped;
    done.not_embedded = foreign.len() as u64;
    if let Some(example) = foreign.first() {
        tracing::warn!(
            items = done.not_embedded, %example, model = live.model_id,
            "these items have no embedding by this model and are not found by their looks; write them again with their images"
        );
    }
    progress(&done);
    Ok(done)
}
