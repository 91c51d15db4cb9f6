//! Which items have this value, or one between these?

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use roaring::RoaringBitmap;

use crate::domain::Range;

/// The items that share a value; never none. Most values of a free field belong to one item, which needs no bitmap.
#[derive(Debug)]
pub(super) enum Posting {
    One(u32),
    Many(Box<RoaringBitmap>),
}

impl Posting {
    pub(super) fn insert(&mut self, item: u32) {
        match self {
            Self::One(own) if *own == item => {}
            Self::One(own) => *self = Self::Many(Box::new(RoaringBitmap::from([*own, item]))),
            Self::Many(items) => drop(items.insert(item)),
        }
    }

    /// Takes `item` out; whether no item is left.
    pub(super) fn remove(&mut self, item: u32) -> bool {
        match self {
            Self::One(own) => *own == item,
            Self::Many(items) => {
                items.remove(item);
                items.is_empty()
            }
        }
    }

    pub(super) fn to_bitmap(&self) -> RoaringBitmap {
        match self {
            Self::One(item) => RoaringBitmap::from([*item]),
            Self::Many(items) => RoaringBitmap::clone(items),
        }
    }

    pub(super) fn add_to(&self, all: &mut RoaringBitmap) {
        match self {
            Self::One(item) => drop(all.insert(*item)),
            Self::Many(items) => *all |= &**items,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::One(_) => 0,
                Self::Many(items) => items.serialized_size(),
            }
    }
}

/// A number as a key, in the order of `<`: both zeros are one, and what is not a number comes last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number(f64);

impl Number {
    pub(super) fn new(value: f64) -> Self {
        // Adding 0 turns −0 into 0; one NaN stands for all.
        Self(if value.is_nan() { f64::NAN } else { value + 0.0 })
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

/// The items whose number lies in `range`. Only the numbers in the range are looked at.
pub(super) fn within(column: &BTreeMap<Number, Posting>, range: &Range) -> RoaringBitmap {
    let mut items = RoaringBitmap::new();
    let bounds = [range.gte, range.gt, range.lte, range.lt];
    if bounds.iter().flatten().any(|bound| bound.is_nan()) {
        return items;
    }
    // Without any bound every number will do, even one that is not a number; with one, it compares with nothing.
    let last = if bounds.iter().all(Option::is_none) { f64::NAN } else { f64::INFINITY };
    let low = Number::new(range.gte.unwrap_or(f64::NEG_INFINITY));
    let high = Number::new(range.lte.unwrap_or(last));
    // The narrower of the two bounds on each side; an equal one that excludes it is the narrower.
    let low = match range.gt.map(Number::new) {
        Some(above) if above >= low => Bound::Excluded(above),
        Some(_) | None => Bound::Included(low),
    };
    let high = match range.lt.map(Number::new) {
        Some(below) if below <= high => Bound::Excluded(below),
        Some(_) | None => Bound::Included(high),
    };
    if is_range(low, high) {
        for (_, posting) in column.range((low, high)) {
            posting.add_to(&mut items);
        }
    }
    items
}

/// Whether anything can lie between the bounds; a map panics when asked for a range that goes backwards.
fn is_range(low: Bound<Number>, high: Bound<Number>) -> bool {
    match (low, high) {
        (Bound::Included(low), Bound::Included(high)) => low <= high,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => low < high,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
    }
}
