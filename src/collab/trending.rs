//! What does everybody turn to? Popularity overall and of late, everywhere and in each region.
//!
//! A count with half-life `h` at time `t` is the sum of 2^((tᵢ − t)/h) over the engagements at tᵢ. The logarithm of
//! that sum without `t` only changes when the item is touched, so the order of items does not change by itself, a
//! small board of the best is kept up to date at each event, and events may come in any order.
//!
//! What may be lost: in a region, the least popular items beyond its bound; regions beyond their bound.

use std::collections::HashMap;

use parking_lot::RwLock;

use super::{CollabLimits, MAX_ITEMS};
use crate::domain::{ItemNo, Scored, Timestamp};

/// How many half-lives are counted.
pub const TRENDING_SCALES: usize = 3;

/// How many of the best items each board keeps.
const BOARD: usize = 256;

/// The longest region name that is counted, in bytes.
const MAX_REGION_BYTES: usize = 64;

/// A region that nobody touched for this long gives way to a new one when there are too many.
const IDLE_REGION_S: f64 = 86_400.0;

/// Nothing was counted yet.
const NEVER: f64 = f64::NEG_INFINITY;

/// Popularity of items. Readable while it is updated.
#[derive(Debug)]
pub struct Trending {
    half_lives_s: [f64; TRENDING_SCALES],
    global: RwLock<Global>,
    regions: RwLock<HashMap<String, Region>>,
    max_regions: usize,
    items_per_region: usize,
}

/// How popular one item is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Popularity {
    /// Engagements ever.
    pub total: f32,
    /// Decayed engagements, one for each half-life, shortest first.
    pub recent: [f32; TRENDING_SCALES],
    /// Decayed engagements in the asked region at the longest half-life.
    pub in_region: f32,
    /// When anybody last engaged with it.
    pub last_touched: Option<Timestamp>,
}

#[derive(Debug)]
struct Global {
    items: Vec<ItemCounts>,
    /// One for each half-life, and the last one for all time.
    boards: [Board; TRENDING_SCALES + 1],
    events: u64,
}

#[derive(Debug, Clone)]
struct ItemCounts {
    total: f64,
    /// Log2 of the decayed count at time 0.
    levels: [f64; TRENDING_SCALES],
    last_touched: Option<Timestamp>,
}

#[derive(Debug)]
struct Region {
    levels: HashMap<u32, [f64; TRENDING_SCALES]>,
    boards: [Board; TRENDING_SCALES],
    last_touched: Timestamp,
}

/// The best items by a level that never falls, best first.
#[derive(Debug, Default)]
struct Board(Vec<(f64, u32)>);

impl Trending {
    /// Counts nothing yet.
    pub fn new(limits: &CollabLimits) -> Self {
        Self {
            half_lives_s: limits.trending_half_lives_s.map(|h| if h > 0.0 && h.is_finite() { h } else { 86_400.0 }),
            global: RwLock::new(Global { items: Vec::new(), boards: Default::default(), events: 0 }),
            regions: RwLock::new(HashMap::new()),
            max_regions: limits.regions,
            items_per_region: limits.items_per_region.max(BOARD),
        }
    }

    /// The `limit` most popular items at `now`, best first. The score is the mean, over the half-lives and all time
    /// (and over the half-lives in the region, if it is known), of the item's count relative to the best one's.
    pub fn candidates(&self, region: Option<&str>, now: Timestamp, limit: usize) -> Vec<Scored> {
        let mut sums: HashMap<u32, f32> = HashMap::new();
        let mut boards = 0.0_f32;
        let depth = limit.min(BOARD);
        let mut collect = |board: &Board, plain: bool| {
            let Some(&(best, _)) = board.0.first() else { return };
            boards += 1.0;
            for &(level, item) in board.0.iter().take(depth) {
                let relative = if plain { level / best } else { (level - best).exp2() };
                *sums.entry(item).or_default() += relative as f32;
            }
        };
        {
            let global = self.global.read();
            for (index, board) in global.boards.iter().enumerate() {
                collect(board, index == TRENDING_SCALES);
            }
        }
        if let Some(region) = region
            && let Some(local) = self.regions.read().get(region)
            && now.seconds_since(local.last_touched) < 7.0 * IDLE_REGION_S
        {
            local.boards.iter().for_each(|board| collect(board, false));
        }
        let mut best: Vec<Scored> =
            sums.into_iter().map(|(item, sum)| Scored { item: ItemNo(item), score: sum / boards }).collect();
        Scored::keep_best(&mut best, limit);
        best
    }

    /// The `limit` items with the most engagements ever, best first; the score is their number.
    pub fn most_popular(&self, limit: usize) -> Vec<Scored> {
        let global = self.global.read();
        let best = global.boards[TRENDING_SCALES].0.iter().take(limit);
        best.map(|&(total, item)| Scored { item: ItemNo(item), score: total as f32 }).collect()
    }

    /// How popular each of `items` is at `now`, in their order, into `popularity`.
    pub fn look_up(&self, items: &[ItemNo], region: Option<&str>, now: Timestamp, popularity: &mut Vec<Popularity>) {
        popularity.clear();
        {
            let global = self.global.read();
            popularity.extend(items.iter().map(|item| match global.items.get(item.index()) {
                Some(counts) => Popularity {
                    total: counts.total as f32,
                    recent: self.values(&counts.levels, now),
                    in_region: 0.0,
                    last_touched: counts.last_touched,
                },
                None => Popularity::default(),
            }));
        }
        let Some(region) = region else { return };
        if let Some(local) = self.regions.read().get(region) {
            for (item, found) in items.iter().zip(popularity.iter_mut()) {
                if let Some(levels) = local.levels.get(&item.0) {
                    found.in_region = self.values(levels, now)[TRENDING_SCALES - 1];
                }
            }
        }
    }

    /// Engagements counted since the start.
    pub fn events(&self) -> u64 {
        self.global.read().events
    }

    /// Counts an engagement.
    pub fn observe(&self, item: ItemNo, at: Timestamp, region: Option<&str>) {
        if item.index() >= MAX_ITEMS {
            return;
        }
        {
            let mut global = self.global.write();
            if global.items.len() <= item.index() {
                let unseen = ItemCounts { total: 0.0, levels: [NEVER; TRENDING_SCALES], last_touched: None };
                global.items.resize(item.index() + 1, unseen);
            }
            global.events += 1;
            let Global { items, boards, .. } = &mut *global;
            let counts = &mut items[item.index()];
            counts.total += 1.0;
            counts.last_touched = counts.last_touched.max(Some(at));
            self.raise(&mut counts.levels, at);
            for (board, &level) in boards.iter_mut().zip(&counts.levels) {
                board.rise(item.0, level);
            }
            boards[TRENDING_SCALES].rise(item.0, counts.total);
        }
        if let Some(region) = region.filter(|r| !r.is_empty() && r.len() <= MAX_REGION_BYTES) {
            self.observe_in_region(item, at, region);
        }
    }

    /// Forgets an item.
    pub fn forget_item(&self, item: ItemNo) {
        let mut global = self.global.write();
        let Global { items, boards, .. } = &mut *global;
        if let Some(counts) = items.get_mut(item.index()) {
            *counts = ItemCounts { total: 0.0, levels: [NEVER; TRENDING_SCALES], last_touched: None };
            // The best item that was not on the board may now belong there: rare enough to look at them all.
            for (index, board) in boards.iter_mut().enumerate() {
                if board.remove(item.0) {
                    for (number, other) in items.iter().enumerate().filter(|(_, other)| other.total > 0.0) {
                        board.rise(number as u32, *other.levels.get(index).unwrap_or(&other.total));
                    }
                }
            }
        }
        drop(global);
        for local in self.regions.write().values_mut() {
            local.levels.remove(&item.0);
            for board in &mut local.boards {
                board.remove(item.0);
            }
        }
    }

    fn observe_in_region(&self, item: ItemNo, at: Timestamp, region: &str) {
        let mut regions = self.regions.write();
        if !regions.contains_key(region) {
            if regions.len() >= self.max_regions {
                let idle = regions
                    .iter()
                    .filter(|(_, local)| at.seconds_since(local.last_touched) > IDLE_REGION_S)
                    .min_by_key(|(name, local)| (local.last_touched, (*name).clone()))
                    .map(|(name, _)| name.clone());
                match idle {
                    Some(name) => regions.remove(&name),
                    None => return,
                };
            }
            let new = Region { levels: HashMap::new(), boards: Default::default(), last_touched: at };
            regions.insert(region.to_owned(), new);
        }
        let Some(local) = regions.get_mut(region) else { return };
        local.last_touched = local.last_touched.max(at);
        if local.levels.len() >= self.items_per_region && !local.levels.contains_key(&item.0) {
            local.shrink(self.items_per_region * 3 / 4);
        }
        let levels = local.levels.entry(item.0).or_insert([NEVER; TRENDING_SCALES]);
        self.raise(levels, at);
        for (board, &level) in local.boards.iter_mut().zip(levels.iter()) {
            board.rise(item.0, level);
        }
    }

    /// Adds one engagement at `at` to each level.
    fn raise(&self, levels: &mut [f64; TRENDING_SCALES], at: Timestamp) {
        for (level, half_life_s) in levels.iter_mut().zip(self.half_lives_s) {
            let event = at.as_seconds() / half_life_s;
            let (high, low) = if *level > event { (*level, event) } else { (event, *level) };
            *level = high + (low - high).exp2().ln_1p() / std::f64::consts::LN_2;
        }
    }

    fn values(&self, levels: &[f64; TRENDING_SCALES], now: Timestamp) -> [f32; TRENDING_SCALES] {
        let mut values = [0.0; TRENDING_SCALES];
        for ((value, level), half_life_s) in values.iter_mut().zip(levels).zip(self.half_lives_s) {
            // An event from the future counts in full, not more.
            *value = (level - now.as_seconds() / half_life_s).min(40.0).exp2() as f32;
        }
        values
    }
}

impl Region {
    /// Keeps the `keep` most popular items at the longest half-life.
    fn shrink(&mut self, keep: usize) {
        let mut order: Vec<(f64, u32)> =
            self.levels.iter().map(|(&item, levels)| (levels[TRENDING_SCALES - 1], item)).collect();
        order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for &(_, item) in order.iter().skip(keep) {
            self.levels.remove(&item);
        }
        for board in &mut self.boards {
            board.0.retain(|(_, item)| self.levels.contains_key(item));
        }
    }
}

impl Board {
    /// Moves `item` up to where its risen `level` belongs, if that is on the board.
    fn rise(&mut self, item: u32, level: f64) {
        let entries = &mut self.0;
        if entries.len() == BOARD && entries.last().is_some_and(|&(lowest, _)| level < lowest) {
            return;
        }
        let mut position = match entries.iter().position(|&(_, other)| other == item) {
            Some(position) => position,
            None => {
                entries.truncate(BOARD - 1);
                entries.push((level, item));
                entries.len() - 1
            }
        };
        entries[position].0 = level;
        while position > 0 && entries[position - 1].0 < level {
            entries.swap(position - 1, position);
            position -= 1;
        }
    }

    fn remove(&mut self, item: u32) -> bool {
        let before = self.0.len();
        self.0.retain(|&(_, other)| other != item);
        self.0.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> CollabLimits {
        CollabLimits { trending_half_lives_s: [60.0, 3_600.0, 86_400.0], regions: 2, ..CollabLimits::default() }
    }

    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_seconds(1.7e9 + seconds)
    }

    fn look_up(trending: &Trending, item: u32, region: Option<&str>, now: Timestamp) -> Popularity {
        let mut found = Vec::new();
        trending.look_up(&[ItemNo(item)], region, now, &mut found);
        found[0]
    }

    #[test]
    fn counts_halve_with_their_half_life_in_any_order() {
        let trending = Trending::new(&limits());
        for seconds in [60.0, 0.0] {
            trending.observe(ItemNo(3), at(seconds), None);
        }
        let found = look_up(&trending, 3, None, at(120.0));
        assert_eq!(found.total, 2.0);
        assert!((found.recent[0] - 0.75).abs() < 1e-4, "{found:?}");
        assert!((found.recent[2] - 2.0).abs() < 0.01);
        assert_eq!(found.last_touched, Some(at(60.0)));
        assert_eq!(look_up(&trending, 99, Some("de"), at(0.0)), Popularity::default());
    }

    #[test]
    fn boards_agree_with_a_full_sort() {
        let trending = Trending::new(&limits());
        let mut state = 9_u64;
        for n in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let item = ((state >> 33) % 700) as u32;
            trending.observe(ItemNo(item * item % 701), at(f64::from(n) * 3.0), None);
        }
        trending.forget_item(ItemNo(1));
        let global = trending.global.read();
        for (index, board) in global.boards.iter().enumerate() {
            let mut expected: Vec<f64> = global
                .items
                .iter()
                .filter(|c| c.total > 0.0)
                .map(|c| c.levels.get(index).copied().unwrap_or(c.total))
                .collect();
            expected.sort_unstable_by(|a, b| b.total_cmp(a));
            expected.truncate(BOARD);
            assert_eq!(board.0.iter().map(|&(level, _)| level).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn what_is_new_and_hot_comes_up_and_regions_differ() {
        let trending = Trending::new(&limits());
        for n in 0..50 {
            trending.observe(ItemNo(1), at(f64::from(n)), Some("de"));
        }
        for n in 0..40 {
            trending.observe(ItemNo(2), at(90_000.0 + f64::from(n)), Some("fr"));
        }
        let now = at(90_060.0);
        let best = |region| trending.candidates(region, now, 5).iter().map(|s| s.item.0).collect::<Vec<_>>();
        assert_eq!(best(None), [2, 1]);
        assert_eq!(best(Some("de")), [1, 2]);
        assert_eq!(trending.most_popular(1)[0].item, ItemNo(1));
        assert!(look_up(&trending, 2, Some("fr"), now).in_region > 39.0);
        assert_eq!(look_up(&trending, 2, Some("de"), now).in_region, 0.0);
        // Two regions are the bound; a third has to wait until one is idle.
        trending.observe(ItemNo(3), at(60_000.0), Some("xx"));
        assert_eq!(look_up(&trending, 3, Some("xx"), now).in_region, 0.0);
        trending.observe(ItemNo(3), at(200_000.0), Some("xx"));
        assert!(look_up(&trending, 3, Some("xx"), at(200_000.0)).in_region > 0.9);
        trending.observe(ItemNo(3), now, Some(&"x".repeat(1000)));
        assert_eq!(trending.events(), 93);
    }

    #[test]
    fn a_region_keeps_its_popular_items() {
        let trending = Trending::new(&CollabLimits { items_per_region: 256, ..limits() });
        for n in 0..2_000_u32 {
            trending.observe(ItemNo(7), at(0.0), Some("de"));
            trending.observe(ItemNo(100 + n), at(0.0), Some("de"));
        }
        assert!(trending.regions.read()["de"].levels.len() <= 256);
        assert!((look_up(&trending, 7, Some("de"), at(0.0)).in_region - 2_000.0).abs() < 1.0);
    }
}
