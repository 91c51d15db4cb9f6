//! Which items may be shown now, in this region? Remembered from one question to the next.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::availability::Closed;
use crate::domain::Timestamp;

/// Regions that are remembered; with more of them in use, the answers are made anew now and then.
const MAX_REGIONS: usize = 64;

/// Answers that hold until an item changes, or the next window opens or closes.
#[derive(Debug, Default)]
pub(super) struct Open {
    anywhere: Option<Answer>,
    by_region: HashMap<Box<str>, Answer>,
}

#[derive(Debug)]
struct Answer {
    closed: Closed,
    /// `None` if all items may be shown.
    open: Option<Arc<RoaringBitmap>>,
}

impl Open {
    /// What was answered, if it still holds: the items that may be shown, `None` for all of them.
    pub(super) fn find(&self, now: Timestamp, region: Option<&str>) -> Option<Option<Arc<RoaringBitmap>>> {
        let answer = match region {
            None => self.anywhere.as_ref(),
            Some(region) => self.by_region.get(region),
        };
        answer.filter(|answer| answer.closed.holds_at(now)).map(|answer| answer.open.clone())
    }

    /// Remembers an answer, which holds for as long as `closed` does.
    pub(super) fn keep(&mut self, region: Option<&str>, closed: Closed, open: Option<Arc<RoaringBitmap>>) {
        let answer = Answer { closed, open };
        let Some(region) = region else {
            self.anywhere = Some(answer);
            return;
        };
        if self.by_region.len() >= MAX_REGIONS && !self.by_region.contains_key(region) {
            self.by_region.clear();
        }
        self.by_region.insert(region.into(), answer);
    }

    /// An item has changed.
    pub(super) fn forget(&mut self) {
        self.anywhere = None;
        self.by_region.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_told_apart_and_bounded() {
        let mut open = Open::default();
        let items = |item: u32| Some(Arc::new(RoaringBitmap::from([item])));
        open.keep(None, Closed::default(), None);
        for region in 0..MAX_REGIONS as u32 + 6 {
            open.keep(Some(&region.to_string()), Closed::default(), items(region));
        }
        let now = Timestamp(0);
        assert_eq!(open.find(now, None), Some(None));
        assert_eq!(open.find(now, Some("69")), Some(items(69)));
        assert_eq!(open.find(now, Some("3")), None, "what is one too many makes room");
        assert!(open.by_region.len() <= MAX_REGIONS);
        open.forget();
        assert_eq!((open.find(now, None), open.find(now, Some("69"))), (None, None));
    }
}
