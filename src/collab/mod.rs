//! What do people do after what this person has just done? Signals learned from everybody's events.
//!
//! Feed every engagement to [`Collab::observe`]; ask [`SessionKnn`], [`Transitions`], [`CoVisitation`] and
//! [`Trending`], each on its own, so that a caller can time one or leave it out. Everything is updated at once,
//! bounded ([`CollabLimits`]), and readable from many threads. Time is passed in.

mod co_visitation;
mod links;
mod score_table;
mod session_knn;
mod transitions;
mod trending;

use std::sync::Arc;

use parking_lot::RwLock;

pub use co_visitation::{CoVisitation, CoVisitationScratch};
pub use session_knn::{SessionKnn, SessionKnnScratch, SessionVote};
pub use transitions::{TransitionCounts, TransitionScratch, Transitions};
pub use trending::{Popularity, TRENDING_SCALES, Trending};

use self::links::Links;
use crate::domain::{Horizons, ItemNo, Timestamp};

/// Item numbers from here on are ignored: arrays are indexed by them, so a stray one must not claim all memory.
const MAX_ITEMS: usize = 1 << 24;

/// What each step back in the session leaves of an item's say.
const SESSION_STEP_DECAY: f32 = 0.6;

/// How many of the session's latest distinct items have a say.
const DISTINCT_LATEST: usize = 6;

/// The bounds and constants of everything in here.
#[derive(Debug, Clone)]
pub struct CollabLimits {
    /// Sessions kept for session-kNN; rounded up to a power of two.
    pub sessions: usize,
    /// Engagements kept of each session.
    pub session_items: usize,
    /// Recent sessions looked at for each item and altogether (m).
    pub recency_sample: usize,
    /// Neighbours that vote (k).
    pub neighbours: usize,
    /// Links to other items kept for each item.
    pub links_per_item: usize,
    /// After how many seconds a link is worth half; 0 for never.
    pub link_half_life_s: f64,
    /// The lag buckets of transitions.
    pub horizons: Horizons,
    /// The half-lives of trending counts in seconds, shortest first.
    pub trending_half_lives_s: [f64; TRENDING_SCALES],
    /// Regions with counts of their own.
    pub regions: usize,
    /// Items counted in each region.
    pub items_per_region: usize,
}

impl Default for CollabLimits {
    fn default() -> Self {
        Self {
            sessions: 1 << 20,
            session_items: 64,
            recency_sample: 500,
            neighbours: 500,
            links_per_item: 128,
            link_half_life_s: 30.0 * 86_400.0,
            horizons: Horizons::default(),
            trending_half_lives_s: [900.0, 7_200.0, 86_400.0],
            regions: 64,
            items_per_region: 4_096,
        }
    }
}

/// Somebody turned to an item.
#[derive(Debug, Clone, Copy)]
pub struct Engagement<'a> {
    /// The session, as a number that is its own (for example a hash of its id).
    pub session: u64,
    /// The item.
    pub item: ItemNo,
    /// When.
    pub at: Timestamp,
    /// Where, if known.
    pub region: Option<&'a str>,
    /// The session's earlier engagements, oldest first; the latest eight are enough.
    pub history: &'a [(ItemNo, Timestamp)],
}

/// Everything learned from what people do.
#[derive(Debug)]
pub struct Collab {
    /// Sessions like this one.
    pub session_knn: SessionKnn,
    /// What followed this item.
    pub transitions: Transitions,
    /// What goes together with it.
    pub co_visitation: CoVisitation,
    /// What everybody turns to.
    pub trending: Trending,
    links: Arc<RwLock<Links>>,
}

impl Collab {
    /// Nothing learned yet.
    pub fn new(limits: &CollabLimits) -> Self {
        let links = Arc::new(RwLock::new(Links::new(limits)));
        Self {
            session_knn: SessionKnn::new(limits),
            transitions: Transitions::new(Arc::clone(&links)),
            co_visitation: CoVisitation::new(Arc::clone(&links)),
            trending: Trending::new(limits),
            links,
        }
    }

    /// Learns from an engagement; a few microseconds.
    pub fn observe(&self, engagement: Engagement<'_>) {
        let Engagement { session, item, at, region, history } = engagement;
        self.session_knn.observe(session, item);
        self.links.write().observe(item, at, history);
        self.trending.observe(item, at, region);
    }

    /// Forgets an item altogether.
    pub fn forget_item(&self, item: ItemNo) {
        self.session_knn.forget_item(item);
        self.links.write().forget_item(item);
        self.trending.forget_item(item);
    }

    /// Forgets a session as far as it is kept as such; counts to which it contributed remain, they name nobody.
    pub fn forget_session(&self, session: u64) {
        self.session_knn.forget_session(session);
    }
}

/// The latest distinct items of a session, latest first.
fn distinct_latest(history: &[(ItemNo, Timestamp)]) -> impl Iterator<Item = ItemNo> + '_ {
    let latest_of_each = move |&(position, &(item, _)): &(usize, &(ItemNo, Timestamp))| {
        history[position + 1..].iter().all(|&(later, _)| later != item)
    };
    history.iter().enumerate().rev().take(64).filter(latest_of_each).map(|(_, &(item, _))| item).take(DISTINCT_LATEST)
}
