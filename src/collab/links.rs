//! Which items occur close to which? The bounded store behind `transitions` and `co_visitation`.
//!
//! Each item has a list of links to other items. A link sums, over all pairs of engagements of one session at most
//! seven steps apart, 0.7 for each step beyond the first, forward by lag bucket and backward in one sum. Both
//! directions are kept at both ends, so that everything about an item is found in its own list.
//!
//! What may be lost: when a list is full, a new link replaces the lightest one (the space-saving idea of Metwally,
//! Agrawal, El Abbadi 2005, but starting from zero, so that a newcomer's weight is never overstated).

use super::{CollabLimits, MAX_ITEMS};
use crate::domain::{Horizons, ItemNo, Timestamp};

/// How many steps back an engagement is linked.
const STEPS: usize = 7;

/// What each further step between two engagements leaves of the weight.
const STEP_DECAY: f32 = 0.7;

/// A link lighter than this after decay is dropped.
const NEGLIGIBLE: f32 = 0.01;

/// Links between items.
#[derive(Debug)]
pub(super) struct Links {
    items: Vec<ItemLinks>,
    horizons: Horizons,
    per_item: usize,
    half_life_s: f64,
}

/// The links of one item: parallel arrays, so that looking for one reads as little memory as possible.
#[derive(Debug, Clone, Default)]
pub(super) struct ItemLinks {
    /// The other items.
    pub(super) others: Vec<u32>,
    /// For each other item [`Links::stride`] sums: forward by lag bucket, then backward.
    pub(super) sums: Vec<f32>,
    /// Engagements with the item, decayed like the links.
    pub(super) count: f32,
    /// Up to when the sums are decayed.
    decayed_to: Option<Timestamp>,
    /// Where the search for the lightest link starts, so that equal ones take turns.
    cursor: u32,
}

impl Links {
    pub(super) fn new(limits: &CollabLimits) -> Self {
        Self {
            items: Vec::new(),
            horizons: limits.horizons.clone(),
            per_item: limits.links_per_item.max(1),
            half_life_s: if limits.link_half_life_s > 0.0 { limits.link_half_life_s } else { f64::INFINITY },
        }
    }

    /// Sums a link: one for each interval, one beyond the last horizon, one backward.
    pub(super) fn stride(&self) -> usize {
        self.horizons.count() + 2
    }

    /// The links of `item`, if anyone ever engaged with it.
    pub(super) fn of(&self, item: ItemNo) -> Option<&ItemLinks> {
        self.items.get(item.index())
    }

    /// Decayed number of engagements with the item numbered `item`.
    pub(super) fn count(&self, item: u32) -> f32 {
        self.items.get(item as usize).map_or(0.0, |links| links.count)
    }

    /// Records an engagement with `item` at `at`, after `history` (oldest first). Engagements of the history that
    /// are later than `at` are passed over.
    pub(super) fn observe(&mut self, item: ItemNo, at: Timestamp, history: &[(ItemNo, Timestamp)]) {
        if item.index() >= MAX_ITEMS {
            return;
        }
        if self.items.len() <= item.index() {
            self.items.resize(item.index() + 1, ItemLinks::default());
        }
        self.decay(item.0, at);
        self.items[item.index()].count += 1.0;
        let backward = self.stride() - 1;
        let mut weight = 1.0;
        for &(earlier, when) in history.iter().rev().filter(|&&(_, when)| when <= at).take(STEPS) {
            if earlier != item && earlier.index() < MAX_ITEMS {
                if self.items.len() <= earlier.index() {
                    self.items.resize(earlier.index() + 1, ItemLinks::default());
                }
                let bucket = self.horizons.interval(at.seconds_since(when)).unwrap_or(self.horizons.count());
                self.decay(earlier.0, at);
                self.add(earlier.0, item.0, bucket, weight);
                self.add(item.0, earlier.0, backward, weight);
            }
            weight *= STEP_DECAY;
        }
    }

    /// Drops all links from and, as far as they are mutual, to an item.
    pub(super) fn forget_item(&mut self, item: ItemNo) {
        let stride = self.stride();
        let Some(own) = self.items.get_mut(item.index()).map(std::mem::take) else { return };
        // A link that was squeezed out at this end may remain at the other, so every list is searched: forgetting
        // is rare.
        drop(own);
        for links in &mut self.items {
            if let Some(position) = links.position(item.0) {
                links.remove(position, stride);
            }
        }
    }

    fn add(&mut self, from: u32, to: u32, sum: usize, weight: f32) {
        let (stride, per_item) = (self.stride(), self.per_item);
        let links = &mut self.items[from as usize];
        let position = links.position(to).unwrap_or_else(|| {
            if links.others.len() < per_item {
                links.others.push(to);
                links.sums.resize(links.others.len() * stride, 0.0);
                links.others.len() - 1
            } else {
                let position = links.lightest(stride);
                links.others[position] = to;
                links.sums[position * stride..(position + 1) * stride].fill(0.0);
                position
            }
        });
        links.sums[position * stride + sum] += weight;
    }

    /// Brings the sums of an item down to what they are worth at `now`. Waits until it makes a difference.
    fn decay(&mut self, item: u32, now: Timestamp) {
        let stride = self.stride();
        let half_life_s = self.half_life_s;
        let links = &mut self.items[item as usize];
        let Some(before) = links.decayed_to else {
            links.decayed_to = Some(now);
            return;
        };
        let half_lives = now.seconds_since(before) / half_life_s;
        if half_lives < 0.05 {
            return;
        }
        links.decayed_to = Some(now);
        let keep = (-half_lives).exp2() as f32;
        links.count *= keep;
        for sum in &mut links.sums {
            *sum *= keep;
        }
        for position in (0..links.others.len()).rev() {
            if links.weight(position, stride) < NEGLIGIBLE {
                links.remove(position, stride);
            }
        }
    }
}

impl ItemLinks {
    /// Where the link to `other` is.
    #[inline]
    pub(super) fn position(&self, other: u32) -> Option<usize> {
        self.others.iter().position(|&own| own == other)
    }

    /// The total of a link, both directions.
    #[inline]
    pub(super) fn weight(&self, position: usize, stride: usize) -> f32 {
        self.sums[position * stride..(position + 1) * stride].iter().sum()
    }

    fn lightest(&mut self, stride: usize) -> usize {
        let count = self.others.len();
        let start = self.cursor as usize % count;
        let mut best = (f32::INFINITY, start);
        for offset in 0..count {
            let position = (start + offset) % count;
            let weight = self.weight(position, stride);
            if weight < best.0 {
                best = (weight, position);
            }
        }
        self.cursor = (best.1 + 1) as u32;
        best.1
    }

    fn remove(&mut self, position: usize, stride: usize) {
        let last = self.others.len() - 1;
        self.others.swap_remove(position);
        self.sums.copy_within(last * stride.., position * stride);
        self.sums.truncate(last * stride);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(links_per_item: usize) -> CollabLimits {
        CollabLimits { links_per_item, ..CollabLimits::default() }
    }

    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_seconds(1e9 + seconds)
    }

    fn weight(links: &Links, from: u32, to: u32) -> Vec<f32> {
        let own = links.of(ItemNo(from)).unwrap();
        let position = own.position(to).unwrap();
        own.sums[position * links.stride()..(position + 1) * links.stride()].to_vec()
    }

    #[test]
    fn lags_fill_buckets_and_steps_decay() {
        let mut links = Links::new(&limits(8));
        links.observe(ItemNo(1), at(0.0), &[]);
        links.observe(ItemNo(2), at(20.0), &[(ItemNo(1), at(0.0))]);
        links.observe(ItemNo(3), at(70.0), &[(ItemNo(1), at(0.0)), (ItemNo(2), at(20.0))]);
        assert_eq!(weight(&links, 1, 2), [0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(weight(&links, 2, 1), [0.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(weight(&links, 2, 3), [0.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(weight(&links, 1, 3), [0.0, 0.0, 0.0, STEP_DECAY, 0.0]);
        assert_eq!(links.count(1), 1.0);
    }

    #[test]
    fn a_full_list_keeps_the_heavy_links() {
        let mut links = Links::new(&limits(4));
        for n in 0..200_u32 {
            links.observe(ItemNo(1), at(0.0), &[]);
            let next = if n % 2 == 0 { 2 } else { 10 + n };
            links.observe(ItemNo(next), at(1.0), &[(ItemNo(1), at(0.0))]);
        }
        assert_eq!(links.of(ItemNo(1)).unwrap().others.len(), 4);
        assert_eq!(weight(&links, 1, 2)[0], 100.0);
    }

    #[test]
    fn repeats_disorder_and_gaps_do_no_harm() {
        let mut links = Links::new(&limits(4));
        let late = (ItemNo(5), at(100.0));
        links.observe(ItemNo(1), at(0.0), &[(ItemNo(1), at(-1.0)), late]);
        assert!(links.of(ItemNo(1)).unwrap().others.is_empty());
        links.observe(ItemNo(2), at(1.0), &[(ItemNo(1), at(0.0))]);
        links.observe(ItemNo(1), at(1e9), &[]);
        assert!(links.of(ItemNo(1)).unwrap().others.is_empty(), "thirty years are many half-lives");
        links.observe(ItemNo(u32::MAX), at(0.0), &[]);
        links.observe(ItemNo(1), at(0.0), &[(ItemNo(u32::MAX), at(0.0))]);
        assert!(links.items.len() < 10);
    }

    #[test]
    fn a_forgotten_item_has_no_links() {
        let mut links = Links::new(&limits(4));
        links.observe(ItemNo(2), at(1.0), &[(ItemNo(1), at(0.0))]);
        links.forget_item(ItemNo(2));
        assert!(links.of(ItemNo(1)).unwrap().others.is_empty());
        assert_eq!(links.count(2), 0.0);
    }
}
