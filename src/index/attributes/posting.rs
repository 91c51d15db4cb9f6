//! Which items have this value, or one between these?

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use roaring::RoaringBitmap;

/// The items that share a value; never none. Most values of a free field belong to one item, which needs no bitmap.
#[derive(Debug)]
pub(super) enum Posting {
    One(u32),
    Many(RoaringBitmap),
}

impl Posting {
    pub(super) fn insert(&mut self, item: u32) {
        match self {
            Self::One(own) if *own == item => {}
            Self::One(own) => *self = Self::Many(RoaringBitmap::from([*own, item])),
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
            Self::Many(items) => items.clone(),
        }
    }

    pub(super) fn add_to(&self, all: &mut RoaringBitmap) {
        match self {
            Self::One(item) => drop(all.insert(*item)),
            Self::Many(items) => *all |= items,
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

/// The items whose number `n` has `n >= gte` and `n <= lte`, where a bound is given.
pub(super) fn between(column: &BTreeMap<Number, Posting>, gte: Option<f64>, lte: Option<f64>) -> RoaringBitmap {
    let mut items = RoaringBitmap::new();
    if gte.is_some_and(f64::is_nan) || lte.is_some_and(f64::is_nan) {
        return items;
    }
    // Without any bound every number will do, even one that is not a number; with one, it compares with nothing.
    let last = if gte.is_none() && lte.is_none() { f64::NAN } else { f64::INFINITY };
    let low = Number::new(gte.unwrap_or(f64::NEG_INFINITY));
    let high = Number::new(lte.unwrap_or(last));
    if low <= high {
        for (_, posting) in column.range((Bound::Included(low), Bound::Included(high))) {
            posting.add_to(&mut items);
        }
    }
    items
}
