//! What goes out when everything goes out? Pages of the log's events and of the catalogue, in an order that lasts.
//!
//! A page is read in one go and let go of before the next: nobody who reads slowly keeps the store from tidying up.

use std::ops::ControlFlow;

use super::task::aside;
use super::{Engine, EngineError, ItemView};
use crate::domain::{Event, ItemId};
use crate::store::LogEntry;

/// Some events of the log, in its order.
#[derive(Debug, Clone, Default)]
pub struct EventPage {
    /// The events and their places in the log.
    pub events: Vec<(u64, Event)>,
    /// Where to go on; `None` at the end.
    pub next: Option<u64>,
}

impl Engine {
    /// The newest sequence of the log: where an export that begins now ends.
    pub fn log_end(&self) -> u64 {
        self.parts.applier.applied()
    }

    /// The events among the log's entries from `from_sequence` to `until`, of which at most `entries` are looked at. Those
    /// that cannot be read are left out, as at a start.
    pub async fn export_events(
        &self,
        from_sequence: u64,
        until: u64,
        entries: usize,
    ) -> Result<EventPage, EngineError> {
        let parts = self.parts.clone();
        aside(move || {
            let mut page = EventPage::default();
            let mut left = entries.max(1);
            parts.store.replay_entries(from_sequence, &mut |sequence, entry| {
                if sequence > until {
                    return ControlFlow::Break(());
                }
                if left == 0 {
                    page.next = Some(sequence);
                    return ControlFlow::Break(());
                }
                left -= 1;
                if let LogEntry::Event(event) = entry {
                    page.events.push((sequence, event));
                }
                ControlFlow::Continue(())
            })?;
            Ok(page)
        })
        .await
    }

    /// At most `limit` items in the order of their ids, from the one after `after`.
    pub async fn export_items(&self, after: Option<ItemId>, limit: usize) -> Result<Vec<ItemView>, EngineError> {
        let parts = self.parts.clone();
        aside(move || {
            let catalogue = parts.live.catalogue.read();
            // One more, as the page begins with `after` itself if that is still there.
            let page = catalogue.page(after.as_ref(), limit.saturating_add(1));
            Ok(page
                .filter(|entry| Some(&entry.id) != after.as_ref())
                .take(limit)
                .map(super::catalogue::Entry::view)
                .collect())
        })
        .await
    }
}
