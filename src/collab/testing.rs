//! What do tests of the whole state learn and ask? Seeded viewers, and every answer there is.

use std::collections::{BTreeMap, HashMap};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{CoVisitationScratch, Collab, Engagement, SessionKnnScratch, TransitionScratch, TrendingScratch};
use crate::domain::{ItemNo, Scored, Timestamp};

pub(super) const REGIONS: [&str; 4] = ["de", "fr", "it", "pl"];

/// An engagement that owns its history.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) session: u64,
    pub(super) item: ItemNo,
    pub(super) at: Timestamp,
    pub(super) region: Option<&'static str>,
    pub(super) history: Vec<(ItemNo, Timestamp)>,
}

impl Step {
    pub(super) fn engagement(&self) -> Engagement<'_> {
        let Self { session, item, at, region, ref history } = *self;
        Engagement { session, item, at, user: None, confidence: 1.0, region, history }
    }
}

/// Viewers who go from item to item.
#[derive(Debug)]
pub(super) struct Viewers {
    random: SmallRng,
    items: u32,
    /// How much time passes from one step to the next on average.
    pause_s: f64,
    now_s: f64,
    sessions: HashMap<u64, Vec<(ItemNo, Timestamp)>>,
}

impl Viewers {
    pub(super) fn new(seed: u64, items: u32, pause_s: f64) -> Self {
        Self { random: SmallRng::seed_from_u64(seed), items, pause_s, now_s: 1.7e9, sessions: HashMap::new() }
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.now_s)
    }

    /// The next step, of one of the sessions in `among`; one in ten arrives late.
    pub(super) fn step(&mut self, among: std::ops::Range<u64>) -> Step {
        let random = &mut self.random;
        self.now_s += random.random_range(0.0..2.0 * self.pause_s);
        let session = random.random_range(among);
        let late_s = if random.random_bool(0.1) { random.random_range(0.0..5.0 * self.pause_s) } else { 0.0 };
        let at = Timestamp::from_seconds(self.now_s - late_s);
        // Small numbers are popular.
        let item = ItemNo((f64::from(self.items) * random.random::<f64>().powi(2)) as u32);
        let region = (session % 5 < 4).then_some(REGIONS[session as usize % 4]);
        let past = self.sessions.entry(session).or_default();
        let step = Step { session, item, at, region, history: past.clone() };
        let place = past.partition_point(|&(_, earlier)| earlier <= at);
        past.insert(place, (item, at));
        if past.len() > 12 {
            past.remove(0);
        }
        step
    }
}

/// Every answer about `items` items that is not zero, under a name.
pub(super) fn answers(collab: &Collab, items: u32, now: Timestamp) -> BTreeMap<String, f32> {
    let mut found = BTreeMap::new();
    let mut add = |name: String, value: f32| {
        if value != 0.0 {
            found.insert(name, value);
        }
    };
    let mut best = Vec::new();
    for item in 0..items {
        let history = [(ItemNo((item + 1) % items), now), (ItemNo(item), now)];
        let mut scratch = TransitionScratch::default();
        collab.transitions.candidates(&history, 1000, &mut scratch, &mut best);
        add(format!("count of {item}"), scratch.current_count());
        for scored in &best {
            let other = scored.item;
            add(format!("transition {item} {}", other.0), scored.score);
            let counts = scratch.counts(other);
            add(format!("any {item} {}", other.0), counts.any);
            add(format!("ratio {item} {}", other.0), counts.within_ratio);
            counts.within.iter().enumerate().for_each(|(n, &v)| add(format!("within {n} {item} {}", other.0), v));
        }
        (0..items).for_each(|other| add(format!("before {item} {other}"), scratch.counts(ItemNo(other)).backward));
        collab.co_visitation.candidates(&history, 1000, &mut CoVisitationScratch::default(), &mut best);
        best.iter().for_each(|scored| add(format!("together {item} {}", scored.item.0), scored.score));
        let mut scratch = SessionKnnScratch::default();
        collab.session_knn.candidates(&history, Some(1), 1000, &mut scratch, &mut best);
        add(format!("neighbours of {item}"), scratch.total_weight());
        for scored in &best {
            add(format!("session {item} {}", scored.item.0), scored.score);
            add(format!("follow {item} {}", scored.item.0), scratch.vote(scored.item).follow_share);
        }
    }
    add("sessions".into(), collab.session_knn.sessions() as f32);
    add("events".into(), collab.trending.events() as f32);
    collab.trending.most_popular(300).iter().for_each(|s| add(format!("popular {}", s.item.0), s.score));
    let all: Vec<ItemNo> = (0..items).map(ItemNo).collect();
    let mut popularity = Vec::new();
    for region in [None, Some("de"), Some("fr"), Some("it"), Some("pl"), Some("xx")] {
        for scored in popular(collab, region, now, 300) {
            add(format!("trending {region:?} {}", scored.item.0), scored.score);
        }
        collab.trending.look_up(&all, region, now, &mut popularity);
        for (item, found) in popularity.iter().enumerate() {
            add(format!("total {item}"), found.total);
            add(format!("region {region:?} {item}"), found.in_region);
            found.recent.iter().enumerate().for_each(|(n, &v)| add(format!("recent {n} {item}"), v));
            add(format!("touched {item}"), f32::from(found.last_touched.is_some()));
        }
    }
    found
}

/// What everybody turns to.
pub(super) fn popular(collab: &Collab, region: Option<&str>, now: Timestamp, limit: usize) -> Vec<Scored> {
    let mut best = Vec::new();
    collab.trending.candidates(region, now, limit, &mut TrendingScratch::default(), &mut best);
    best
}
