//! What does everybody turn to? Popularity overall and of late, everywhere and in each region.
//!
//! A count with half-life `h` at time `t` is the sum of 2^((tᵢ − t)/h) over the engagements at tᵢ. That sum without
//! `t` only changes when the item is touched, so the order of items does not change by itself, a small board of the
//! best is kept up to date at each event, and events may come in any order.
//!
//! What may be lost: in a region, the least popular items beyond its bound; regions beyond their bound.

mod board;
mod counts;
mod forget;
mod level;
mod saved;

use std::collections::HashMap;

use parking_lot::RwLock;

use self::board::Board;
use self::counts::{Counts, HalfLives, now as instant};
use self::level::Level;
use super::score_table::ScoreTable;
use super::{CollabLimits, MAX_ITEMS};
use crate::domain::{ItemNo, Scored, Timestamp};

/// How many half-lives are counted.
pub const TRENDING_SCALES: usize = 3;

/// The longest region name that is counted, in bytes.
const MAX_REGION_BYTES: usize = 64;

/// A region that nobody touched for this long gives way to a new one when there are too many.
const IDLE_REGION_S: f64 = 86_400.0;

/// Popularity of items. Readable while it is updated.
#[derive(Debug)]
pub struct Trending {
    half_lives_s: HalfLives,
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
    items: Vec<GlobalCounts>,
    /// One for each half-life, and the last one for all time.
    boards: [Board; TRENDING_SCALES + 1],
    events: u64,
}

/// A line of the cache: a query looks at those of hundreds of items.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct GlobalCounts {
    counts: Counts,
    /// Means nothing while nothing is counted.
    last_touched: Timestamp,
}

#[derive(Debug)]
struct Region {
    items: HashMap<u32, Counts>,
    boards: [Board; TRENDING_SCALES],
    last_touched: Timestamp,
}

/// Working memory of a query; keep one a thread and use it again.
#[derive(Debug, Default)]
pub struct TrendingScratch {
    sums: ScoreTable<1>,
}

impl Trending {
    /// Counts nothing yet.
    pub fn new(limits: &CollabLimits) -> Self {
        Self {
            half_lives_s: limits.trending_half_lives_s.map(|h| if h > 0.0 && h.is_finite() { h } else { 86_400.0 }),
            global: RwLock::new(Global { items: Vec::new(), boards: Default::default(), events: 0 }),
            regions: RwLock::new(HashMap::new()),
            max_regions: limits.regions,
            items_per_region: limits.items_per_region.max(board::BOARD),
        }
    }

    /// The `limit` most popular items at `now`, best first. The score is the mean, over the half-lives and all time
    /// (and over the half-lives in the region, if it is known), of the item's count relative to the best one's. They come
    /// into `best`.
    pub fn candidates(
        &self,
        region: Option<&str>,
        now: Timestamp,
        limit: usize,
        scratch: &mut TrendingScratch,
        best: &mut Vec<Scored>,
    ) {
        let sums = &mut scratch.sums;
        sums.clear();
        let mut boards = 0.0_f32;
        let mut collect = |board: &Board| {
            let Some(&(best, _)) = board.entries().first() else { return };
            boards += 1.0;
            for &(level, item) in board.entries().iter().take(limit) {
                sums.add(item, [level.relative_to(best) as f32]);
            }
        };
        self.global.read().boards.iter().for_each(&mut collect);
        if let Some(region) = region
            && let Some(local) = self.regions.read().get(region)
            && now.seconds_since(local.last_touched) < 7.0 * IDLE_REGION_S
        {
            local.boards.iter().for_each(collect);
        }
        best.clear();
        best.extend(sums.iter().map(|(item, [sum])| Scored { item: ItemNo(item), score: sum / boards }));
        Scored::keep_best(best, limit);
    }

    /// The `limit` items with the most engagements ever, best first; the score is their number.
    pub fn most_popular(&self, limit: usize) -> Vec<Scored> {
        let global = self.global.read();
        let best = global.boards[TRENDING_SCALES].entries().iter().take(limit);
        best.map(|&(total, item)| Scored { item: ItemNo(item), score: total.at(0.0) as f32 }).collect()
    }

    /// How popular each of `items` is at `now`, in their order, into `popularity`.
    pub fn look_up(&self, items: &[ItemNo], region: Option<&str>, now: Timestamp, popularity: &mut Vec<Popularity>) {
        popularity.clear();
        let instant = instant(now, &self.half_lives_s);
        {
            let global = self.global.read();
            popularity.extend(items.iter().map(|item| match global.items.get(item.index()) {
                Some(own) => Popularity {
                    total: own.counts.total as f32,
                    recent: own.counts.recent(&instant),
                    in_region: 0.0,
                    last_touched: (own.counts.total > 0).then_some(own.last_touched),
                },
                None => Popularity::default(),
            }));
        }
        let Some(region) = region else { return };
        if let Some(local) = self.regions.read().get(region) {
            for (item, found) in items.iter().zip(popularity.iter_mut()) {
                if let Some(counts) = local.items.get(&item.0) {
                    found.in_region = counts.recent(&instant)[TRENDING_SCALES - 1];
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
                global.items.resize(item.index() + 1, GlobalCounts::NONE);
            }
            global.events += 1;
            let Global { items, boards, .. } = &mut *global;
            let own = &mut items[item.index()];
            own.counts.raise(at, &self.half_lives_s);
            own.last_touched = own.last_touched.max(at);
            for (index, board) in boards.iter_mut().enumerate() {
                board.rise(item.0, own.counts.level(index));
            }
        }
        if let Some(region) = region.filter(|region| is_counted(region)) {
            self.observe_in_region(item, at, region);
        }
    }

    /// Forgets an item.
    pub fn forget_item(&self, item: ItemNo) {
        let mut global = self.global.write();
        if let Some(own) = global.items.get_mut(item.index()) {
            *own = GlobalCounts::NONE;
            if global.boards.iter().any(|board| board.entries().iter().any(|&(_, other)| other == item.0)) {
                global.rebuild_boards();
            }
        }
        drop(global);
        for local in self.regions.write().values_mut() {
            if local.items.remove(&item.0).is_some() {
                local.rebuild_boards();
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
            let new = Region { items: HashMap::new(), boards: Default::default(), last_touched: at };
            regions.insert(region.to_owned(), new);
        }
        let Some(local) = regions.get_mut(region) else { return };
        local.last_touched = local.last_touched.max(at);
        if local.items.len() >= self.items_per_region && !local.items.contains_key(&item.0) {
            local.shrink(self.items_per_region * 3 / 4);
        }
        let counts = local.items.entry(item.0).or_insert(Counts::NONE);
        counts.raise(at, &self.half_lives_s);
        for (index, board) in local.boards.iter_mut().enumerate() {
            board.rise(item.0, counts.level(index));
        }
    }
}

/// Whether a region has counts of its own under this name.
fn is_counted(region: &str) -> bool {
    !region.is_empty() && region.len() <= MAX_REGION_BYTES
}

impl GlobalCounts {
    const NONE: Self = Self { counts: Counts::NONE, last_touched: Timestamp(i64::MIN) };
}

impl Global {
    /// Looks at all items, for when some have fallen: others may now belong on a board.
    fn rebuild_boards(&mut self) {
        for (index, board) in self.boards.iter_mut().enumerate() {
            *board = Board::of(self.items.iter().zip(0..).map(|(own, item)| (own.counts.level(index), item)));
        }
    }
}

impl Region {
    /// Keeps the `keep` most popular items at the longest half-life.
    fn shrink(&mut self, keep: usize) {
        let longest = TRENDING_SCALES - 1;
        let mut order: Vec<(Level, u32)> =
            self.items.iter().map(|(&item, counts)| (counts.level(longest), item)).collect();
        order.sort_unstable_by(board::best_first);
        for &(_, item) in order.iter().skip(keep) {
            self.items.remove(&item);
        }
        self.rebuild_boards();
    }

    fn rebuild_boards(&mut self) {
        for (index, board) in self.boards.iter_mut().enumerate() {
            *board = Board::of(self.items.iter().map(|(&item, counts)| (counts.level(index), item)));
        }
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
            let mut expected: Vec<Level> = global.items.iter().map(|own| own.counts.level(index)).collect();
            expected.sort_unstable_by(|a, b| b.partial_cmp(a).unwrap());
            expected.truncate(board::BOARD);
            assert_eq!(board.entries().iter().map(|&(level, _)| level).collect::<Vec<_>>(), expected);
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
        let best = |region| {
            let mut best = Vec::new();
            trending.candidates(region, now, 5, &mut TrendingScratch::default(), &mut best);
            best.iter().map(|s| s.item.0).collect::<Vec<_>>()
        };
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
        assert!(trending.regions.read()["de"].items.len() <= 256);
        assert!((look_up(&trending, 7, Some("de"), at(0.0)).in_region - 2_000.0).abs() < 1.0);
    }
}
