//! Which items may not be shown at this moment, in this region?

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use roaring::RoaringBitmap;

use super::posting::Posting;
use crate::domain::Timestamp;

/// The items that are restricted in time or place; all others cost nothing.
#[derive(Debug, Default)]
pub(super) struct Availability {
    starts: BTreeMap<Timestamp, Posting>,
    ends: BTreeMap<Timestamp, Posting>,
    in_regions: RoaringBitmap,
    /// What is outside its window between one start or end and the next: the same for millions of questions.
    recent: Mutex<Option<Closed>>,
}

/// What is outside its window, and for how long it stays so.
#[derive(Debug, Clone, Default)]
pub(super) struct Closed {
    /// From this moment on; `None` for ever before.
    from: Option<Timestamp>,
    /// Before this moment; `None` for ever after.
    until: Option<Timestamp>,
    items: Arc<RoaringBitmap>,
}

impl Closed {
    /// Whether it is the same at `now`.
    pub(super) fn holds_at(&self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| now >= from) && self.until.is_none_or(|until| now < until)
    }
}

impl Availability {
    pub(super) fn insert(
        &mut self,
        item: u32,
        (from, until): (Option<Timestamp>, Option<Timestamp>),
        in_regions: bool,
    ) {
        for (column, moment) in [(&mut self.starts, from), (&mut self.ends, until)] {
            if let Some(moment) = moment {
                column.entry(moment).and_modify(|posting| posting.insert(item)).or_insert(Posting::One(item));
                *self.recent.get_mut() = None;
            }
        }
        if in_regions {
            self.in_regions.insert(item);
        }
    }

    pub(super) fn remove(&mut self, item: u32, (from, until): (Option<Timestamp>, Option<Timestamp>)) {
        for (column, moment) in [(&mut self.starts, from), (&mut self.ends, until)] {
            if let Some(moment) = moment {
                if column.get_mut(&moment).is_some_and(|posting| posting.remove(item)) {
                    column.remove(&moment);
                }
                *self.recent.get_mut() = None;
            }
        }
        self.in_regions.remove(item);
    }

    /// The items that name the regions they are for.
    pub(super) fn in_regions(&self) -> &RoaringBitmap {
        &self.in_regions
    }

    /// Whether no item is restricted in a way that can ever matter in `region`.
    pub(super) fn is_open(&self, region: Option<&str>) -> bool {
        let everywhere = region.is_none() || self.in_regions.is_empty();
        everywhere && self.starts.is_empty() && self.ends.is_empty()
    }

    /// The items that may not be shown, and those that are outside their window. `meant_for` knows the items that name
    /// a region.
    pub(super) fn unavailable(
        &self,
        now: Timestamp,
        region: Option<&str>,
        meant_for: impl FnOnce(&str) -> RoaringBitmap,
    ) -> (RoaringBitmap, Closed) {
        let closed = self.closed(now);
        let unavailable = match region {
            Some(region) if !self.in_regions.is_empty() => (&self.in_regions - meant_for(region)) | &*closed.items,
            Some(_) | None => RoaringBitmap::clone(&closed.items),
        };
        (unavailable, closed)
    }

    /// The items that are outside their window at `now`.
    fn closed(&self, now: Timestamp) -> Closed {
        let mut recent = self.recent.lock();
        if let Some(recent) = recent.as_ref().filter(|recent| recent.holds_at(now)) {
            return recent.clone();
        }
        let mut closed = RoaringBitmap::new();
        let after = (std::ops::Bound::Excluded(now), std::ops::Bound::Unbounded);
        for (_, posting) in self.starts.range(after) {
            posting.add_to(&mut closed);
        }
        for (_, posting) in self.ends.range(..=now) {
            posting.add_to(&mut closed);
        }
        let columns = [&self.starts, &self.ends];
        let from =
            columns.iter().filter_map(|column| column.range(..=now).next_back()).map(|(moment, _)| *moment).max();
        let until = columns.iter().filter_map(|column| column.range(after).next()).map(|(moment, _)| *moment).min();
        let closed = Closed { from, until, items: Arc::new(closed) };
        *recent = Some(closed.clone());
        closed
    }
}
