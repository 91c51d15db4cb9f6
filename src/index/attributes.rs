//! Which items pass a filter, and which may be shown now? Answered with bitmaps.

use std::collections::BTreeMap;

use parking_lot::RwLock;
use roaring::RoaringBitmap;

use crate::domain::{Filter, Item, ItemNo, Timestamp};

/// Bitmaps over the items' fields; changes while it is asked.
#[derive(Debug, Default)]
pub struct AttributeIndex {
    items: RwLock<BTreeMap<ItemNo, Item>>,
}

impl AttributeIndex {
    /// No items.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in `item`, in place of what was known of it.
    pub fn upsert(&self, number: ItemNo, item: &Item) {
        self.items.write().insert(number, item.clone());
    }

    /// Forgets an item; whether it was there.
    pub fn remove(&self, number: ItemNo) -> bool {
        self.items.write().remove(&number).is_some()
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        self.items.read().len()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The items that [`Filter::accepts`].
    pub fn allowed(&self, filter: &Filter) -> RoaringBitmap {
        let items = self.items.read();
        items.iter().filter(|(_, item)| filter.accepts(item)).map(|(number, _)| number.0).collect()
    }

    /// The items that `filter` accepts and that [may be shown](Item::available) at `now` in `region`; `None` if that
    /// is all of them, so that the search need not look.
    pub fn restriction(&self, filter: &Filter, now: Timestamp, region: Option<&str>) -> Option<RoaringBitmap> {
        let allowed = self.allowed_now(filter, now, region);
        (allowed.len() < self.len() as u64).then_some(allowed)
    }

    /// The items that `filter` accepts and that [may be shown](Item::available) at `now` in `region`.
    pub fn allowed_now(&self, filter: &Filter, now: Timestamp, region: Option<&str>) -> RoaringBitmap {
        let items = self.items.read();
        let passes = |item: &Item| item.available(now, region) && filter.accepts(item);
        items.iter().filter(|(_, item)| passes(item)).map(|(number, _)| number.0).collect()
    }
}
