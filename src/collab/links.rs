//! Which items occur close to which? The bounded store behind `transitions` and `co_visitation`.
//!
//! Each item has a list of links to other items. A link sums, over all pairs of engagements of one session at most
//! seven steps apart, 0.7 for each step beyond the first, forward by lag bucket and backward in one sum. Both
//! directions are kept at both ends, so that everything about an item is found in its own list.
//!
//! A list is worth what it was at its latest change: it fades when something new is said about its item, not while
//! nobody says anything. Time goes in steps of a twentieth of the half-life, and an engagement counts by the step that
//! it falls into, whenever it arrives.
//!
//! What may be lost: when a list is full, a new link replaces the lightest one (the space-saving idea of Metwally,
//! Agrawal, El Abbadi 2005, but starting from zero, so that a newcomer's weight is never overstated).

mod forget;
mod saved;
mod sums;
mod touches;

pub(super) use self::sums::{LinkSums, MOST_SUMS};
use self::sums::{Sums, reserve};
use self::touches::Touches;
use super::{CollabLimits, MAX_ITEMS};
use crate::domain::{Horizons, ItemNo, Timestamp};

/// How many steps back an engagement is linked.
const STEPS: usize = 7;

/// What each further step between two engagements leaves of the weight.
const STEP_DECAY: f32 = 0.7;

/// A link lighter than this after decay is dropped.
const NEGLIGIBLE: f32 = 0.001;

/// How many steps of time a half-life has.
const STEPS_PER_HALF_LIFE: f64 = 20.0;

/// Links between items.
#[derive(Debug)]
pub(super) struct Links {
    items: Vec<ItemLinks>,
    /// By item, engagements with it, decayed like its links. Apart from the rest because a query looks at those of
    /// hundreds of items.
    counts: Vec<f32>,
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
    pub(super) sums: Sums,
    /// When the list changed; the sums and the item's count are decayed to the latest of these steps.
    touches: Touches,
    /// Where the search for the lightest link starts, so that equal ones take turns.
    cursor: u32,
}

impl Links {
    pub(super) fn new(limits: &CollabLimits) -> Self {
        Self {
            items: Vec::new(),
            counts: Vec::new(),
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
    #[inline]
    pub(super) fn count(&self, item: u32) -> f32 {
        self.counts.get(item as usize).copied().unwrap_or(0.0)
    }

    /// Records an engagement with `item` at `at`, after `history` (oldest first). Engagements of the history that
    /// are later than `at` are passed over.
    pub(super) fn observe(&mut self, item: ItemNo, at: Timestamp, history: &[(ItemNo, Timestamp)]) {
        if item.index() >= MAX_ITEMS {
            return;
        }
        let step = self.step(at);
        let worth = self.touch(item.0, step);
        self.counts[item.index()] += worth;
        let backward = self.stride() - 1;
        for (earlier, lag, weight) in self.pairs(item, at, history) {
            let worth_there = self.touch(earlier, step);
            self.add(earlier, item.0, lag, weight * worth_there);
            self.add(item.0, earlier, backward, weight * worth);
        }
    }

    /// The earlier items that an engagement is linked with, the sum that the lag belongs to, and the link's weight.
    fn pairs(
        &self,
        item: ItemNo,
        at: Timestamp,
        history: &[(ItemNo, Timestamp)],
    ) -> impl Iterator<Item = (u32, usize, f32)> + use<> {
        let mut pairs = [(0, 0, 0.0); STEPS];
        let (mut count, mut weight) = (0, 1.0);
        for &(earlier, when) in history.iter().rev().filter(|&&(_, when)| when <= at).take(STEPS) {
            if earlier != item && earlier.index() < MAX_ITEMS {
                let lag = self.horizons.interval(at.seconds_since(when)).unwrap_or(self.horizons.count());
                pairs[count] = (earlier.0, lag, weight);
                count += 1;
            }
            weight *= STEP_DECAY;
        }
        pairs.into_iter().take(count)
    }

    /// Drops all links from and, as far as they are mutual, to an item.
    pub(super) fn forget_item(&mut self, item: ItemNo) {
        let stride = self.stride();
        let Some(own) = self.items.get_mut(item.index()).map(std::mem::take) else { return };
        self.counts[item.index()] = 0.0;
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
        // So late that it would be dropped at once: it must not take a heavier link's place.
        if weight < NEGLIGIBLE {
            return;
        }
        let links = &mut self.items[from as usize];
        if let Some(position) = links.position(to) {
            links.sums.add(position, sum, weight, stride);
        } else if links.others.len() < per_item {
            reserve(&mut links.others, 1);
            links.others.push(to);
            links.sums.push(sum, weight, stride);
        } else {
            let position = links.lightest(stride);
            links.others[position] = to;
            links.sums.replace(position, sum, weight, stride);
        }
    }

    /// The step of time that `at` falls into.
    fn step(&self, at: Timestamp) -> i32 {
        // Far beyond any real time the cast stops at the last step.
        (at.as_seconds() / self.half_life_s * STEPS_PER_HALF_LIFE).floor() as i32
    }

    /// Notes that an item's list changes in `step` and lets it fade until then; says what 1 of that step is worth now,
    /// which is less than 1 if later changes came first.
    fn touch(&mut self, item: u32, step: i32) -> f32 {
        let stride = self.stride();
        if self.items.len() <= item as usize {
            self.items.resize(item as usize + 1, ItemLinks::default());
            self.counts.resize(item as usize + 1, 0.0);
        }
        let links = &mut self.items[item as usize];
        let before = links.touches.latest().unwrap_or(step);
        links.touches.add(step);
        if step > before {
            let left = worth(before, step);
            self.counts[item as usize] *= left;
            links.sums.scale(left, stride);
            links.drop_negligible(stride);
        }
        worth(step, before)
    }
}

/// What 1 of the step `then` is worth in the step `now`; 1 for what is still to come.
fn worth(then: i32, now: i32) -> f32 {
    let steps = (i64::from(now) - i64::from(then)).max(0);
    (-(steps as f64) / STEPS_PER_HALF_LIFE).exp2() as f32
}

impl ItemLinks {
    /// Where the link to `other` is.
    #[inline]
    pub(super) fn position(&self, other: u32) -> Option<usize> {
        // Many at a time without a branch, then the one among them.
        let parts = self.others.chunks(16);
        let (part, place) = parts.enumerate().find_map(|(part, own)| {
            let found = own.iter().fold(false, |found, &own| found | (own == other));
            if found { Some((part, own.iter().position(|&own| own == other)?)) } else { None }
        })?;
        Some(part * 16 + place)
    }

    fn lightest(&mut self, stride: usize) -> usize {
        let position = self.sums.lightest(self.cursor as usize % self.others.len(), stride);
        self.cursor = (position + 1) as u32;
        position
    }

    fn drop_negligible(&mut self, stride: usize) {
        self.sums.remove_lighter(NEGLIGIBLE, stride, |position| {
            self.others.swap_remove(position);
        });
    }

    fn remove(&mut self, position: usize, stride: usize) {
        self.others.swap_remove(position);
        self.sums.swap_remove(position, stride);
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
        let mut sums = vec![0.0; links.stride()];
        own.sums.iter(links.stride()).nth(position).unwrap().places().for_each(|(place, sum)| sums[place] = sum);
        sums
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
    fn links_halve_in_any_order() {
        let half_life_s = 160.0;
        let learn = |order: [f64; 2]| {
            let mut links = Links::new(&CollabLimits { link_half_life_s: half_life_s, ..limits(8) });
            for seconds in order {
                links.observe(ItemNo(2), at(seconds + 1.0), &[(ItemNo(1), at(seconds))]);
            }
            links
        };
        for order in [[0.0, 320.0], [320.0, 0.0]] {
            let links = learn(order);
            assert_eq!((links.count(2), weight(&links, 1, 2)[0], weight(&links, 2, 1)[4]), (1.25, 1.25, 1.25));
        }
        let mut links = learn([0.0, 320.0]);
        links.observe(ItemNo(3), at(-1e5), &[(ItemNo(1), at(-1e5))]);
        assert_eq!(links.of(ItemNo(1)).unwrap().others, [2], "too late to matter");
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
