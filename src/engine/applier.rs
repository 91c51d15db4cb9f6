//! In which order does what is durable take effect? In the order of the log, whoever finishes first.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::EngineError;
use crate::domain::{Event, ItemId};
use crate::store::ItemRecord;

/// One durable entry of the log, with what applying it needs.
#[derive(Debug)]
pub(super) enum Change {
    /// Something happened.
    Event(Event),
    /// An item was written.
    ItemPut(Box<ItemRecord>),
    /// An item was deleted.
    ItemDeleted(ItemId),
}

/// Puts changes, which arrive from many tasks, back into the order of the log.
///
/// The log's sequence has no gaps, so a change is applied once all before it were. Every task that appended must
/// submit what it appended, or the ones after it wait for ever: appending and submitting happen in a task of their
/// own that no client can cancel.
#[derive(Debug)]
pub(super) struct Applier {
    /// Held while changes are applied, so that no two are applied at once. Bounded by the writes in flight.
    pending: Mutex<Pending>,
    /// The last sequence that was applied.
    applied: watch::Sender<u64>,
}

#[derive(Debug)]
struct Pending {
    next: u64,
    waiting: BTreeMap<u64, Change>,
}

impl Applier {
    /// One that has everything up to `sequence` behind it.
    pub(super) fn after(sequence: u64) -> Self {
        let pending = Pending { next: sequence + 1, waiting: BTreeMap::new() };
        Self { pending: Mutex::new(pending), applied: watch::Sender::new(sequence) }
    }

    /// Takes in changes with their sequences, and applies all whose turn has come.
    pub(super) fn submit(&self, changes: impl IntoIterator<Item = (u64, Change)>, mut apply: impl FnMut(Change)) {
        let mut pending = self.pending.lock();
        pending.waiting.extend(changes);
        loop {
            let next = pending.next;
            let Some(change) = pending.waiting.remove(&next) else {
                break;
            };
            apply(change);
            pending.next += 1;
        }
        self.applied.send_replace(pending.next - 1);
    }

    /// Calls `f` with the last sequence that was applied, while nothing is applied.
    pub(super) fn at_rest<R>(&self, f: impl FnOnce(u64) -> R) -> R {
        let pending = self.pending.lock();
        f(pending.next - 1)
    }

    /// Returns once the change at `sequence` has been applied.
    pub(super) async fn wait_for(&self, sequence: u64) -> Result<(), EngineError> {
        let mut applied = self.applied.subscribe();
        applied.wait_for(|&last| last >= sequence).await.map(|_| ()).map_err(|_| EngineError::ShuttingDown)
    }

    /// The last sequence that was applied.
    pub(super) fn applied(&self) -> u64 {
        *self.applied.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deleted(name: &str) -> Change {
        Change::ItemDeleted(ItemId::new(name).unwrap())
    }

    #[test]
    fn changes_wait_for_their_turn() {
        let applier = Applier::after(6);
        let mut order = Vec::new();
        let mut log = |change| {
            if let Change::ItemDeleted(id) = change {
                order.push(id.as_str().to_owned());
            }
        };
        applier.submit([(8, deleted("b")), (9, deleted("c"))], &mut log);
        assert_eq!(applier.applied(), 6);
        applier.submit([(7, deleted("a"))], &mut log);
        assert_eq!(applier.applied(), 9);
        assert_eq!(order, ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn a_task_can_wait_for_its_change() {
        let applier = std::sync::Arc::new(Applier::after(0));
        let waiter = tokio::spawn({
            let applier = applier.clone();
            async move { applier.wait_for(2).await }
        });
        applier.submit([(2, deleted("b"))], |_| {});
        applier.submit([(1, deleted("a"))], |_| {});
        assert!(waiter.await.unwrap().is_ok());
    }
}
