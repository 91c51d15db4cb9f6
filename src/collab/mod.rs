//! What do people do after what this person has just done? Signals learned from everybody's events.
//!
//! Feed every engagement to [`Collab::observe`]; ask [`SessionKnn`], [`Transitions`], [`CoVisitation`] and
//! [`Trending`], each on its own, so that a caller can time one or leave it out. Everything is updated at once,
//! bounded ([`CollabLimits`]), and readable from many threads. Time is passed in.
//!
//! What was learned can be [saved](Collab::save) and [loaded](Collab::load), and single engagements can be
//! [taken back](Collab::forget_engagements), as if they had never been.

mod co_visitation;
mod links;
mod preference;
mod saved;
mod score_table;
mod session_knn;
mod transitions;
mod trending;

use std::sync::Arc;

use parking_lot::RwLock;

pub use co_visitation::{CoVisitation, CoVisitationScratch};
pub use preference::{
    AlsOptions, ColdMap, Example, Interactions, ItemFeatures, Liked, Penalty, Preference, PreferenceOptions,
    PreferenceScratch, Signal, Taste, Trained, TrainingReport, eigen, train,
};
pub use session_knn::{SessionKnn, SessionKnnScratch, SessionVote};
pub use transitions::{TransitionCounts, TransitionScratch, Transitions};
pub use trending::{Popularity, TRENDING_SCALES, Trending, TrendingScratch};

use self::links::Links;
use crate::domain::{Horizons, ItemNo, Timestamp, UserKey};

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
    /// The preference model.
    pub preference: PreferenceOptions,
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
            preference: PreferenceOptions::default(),
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
    /// By whom, if known.
    pub user: Option<UserKey>,
    /// How sure it is that they like it; see [`Signal::of`].
    pub confidence: f32,
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
    /// What this person likes.
    pub preference: Preference,
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
            preference: Preference::new(&limits.preference),
            links,
        }
    }

    /// Learns from an engagement; a few microseconds.
    pub fn observe(&self, engagement: Engagement<'_>) {
        let Engagement { session, item, at, user, confidence, region, history } = engagement;
        self.session_knn.observe(session, item);
        self.links.write().observe(item, at, history);
        self.trending.observe(item, at, region);
        self.preference.observe(session, user, item, Signal::Engaged(confidence), at);
    }

    /// Forgets an item altogether.
    pub fn forget_item(&self, item: ItemNo) {
        self.session_knn.forget_item(item);
        self.links.write().forget_item(item);
        self.trending.forget_item(item);
        self.preference.forget_item(item);
    }

    /// Takes engagements back and forgets the sessions that they belong to. Give each as it was
    /// [observed](Self::observe), with the same instant, region and history, and all of a person's at once: a thousand
    /// take about as long as ten.
    ///
    /// Every answer is then what it would be if they had never been observed, but for what gave way to them when a
    /// bound was reached (links of full lists, sessions of a full ring, items and regions beyond their number), links
    /// that had become negligible by the time of the engagement, and the instant when an item was last touched. What
    /// was learned of an item before it was [forgotten](Self::forget_item) is not there any more: leave it out. The
    /// histories of these sessions and persons go altogether; what they once taught the [preference](Self::preference) model
    /// goes when it is next trained.
    pub fn forget_engagements(&self, engagements: &[Engagement<'_>]) {
        self.session_knn.forget_engagements(engagements);
        self.links.write().forget(engagements);
        self.trending.forget(engagements);
        for &Engagement { session, user, .. } in engagements {
            self.preference.forget_session(session);
            if let Some(user) = user {
                self.preference.forget_user(user);
            }
        }
    }

    /// Forgets a session as far as it is kept as such; counts to which it contributed remain, they name nobody.
    pub fn forget_session(&self, session: u64) {
        self.session_knn.forget_session(session);
        self.preference.forget_session(session);
    }
}

/// The latest distinct items of a session, latest first.
fn distinct_latest(history: &[(ItemNo, Timestamp)]) -> impl Iterator<Item = ItemNo> + '_ {
    let latest_of_each = move |&(position, &(item, _)): &(usize, &(ItemNo, Timestamp))| {
        history[position + 1..].iter().all(|&(later, _)| later != item)
    };
    history.iter().enumerate().rev().take(64).filter(latest_of_each).map(|(_, &(item, _))| item).take(DISTINCT_LATEST)
}

#[cfg(test)]
mod forget_tests;
#[cfg(test)]
mod saved_tests;
#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Scored;

    fn learn(collab: &Collab, session: u64, clicks: &[(u32, i64)]) {
        let clicks: Vec<_> = clicks.iter().map(|&(item, s)| (ItemNo(item), Timestamp(s * 1000))).collect();
        for (position, &(item, at)) in clicks.iter().enumerate() {
            collab.observe(Engagement {
                session,
                item,
                at,
                user: None,
                confidence: 1.0,
                region: Some("de"),
                history: &clicks[..position],
            });
        }
    }

    fn items(best: &[Scored]) -> Vec<u32> {
        best.iter().map(|s| s.item.0).collect()
    }

    #[test]
    fn one_event_changes_every_answer() {
        let collab = Collab::new(&CollabLimits::default());
        learn(&collab, 1, &[(1, 0), (2, 10), (3, 100)]);
        let history = [(ItemNo(1), Timestamp(0))];
        let (mut best, mut transition) = (Vec::new(), TransitionScratch::default());
        collab.transitions.candidates(&history, 10, &mut transition, &mut best);
        assert_eq!(items(&best), [2, 3]);
        let counts = transition.counts(ItemNo(2));
        assert!((counts.within[0] - 1.0 / 3.0).abs() < 1e-6 && counts.within[2] == counts.within[0], "{counts:?}");
        assert_eq!(counts.within_ratio, 0.5);
        assert_eq!(transition.counts(ItemNo(3)).within[2], 0.0, "it came after 100 s");
        assert!(transition.counts(ItemNo(3)).any > 0.0);
        assert_eq!(transition.counts(ItemNo(9)), TransitionCounts::default());

        collab.transitions.candidates(&[(ItemNo(2), Timestamp(0))], 10, &mut transition, &mut best);
        assert_eq!(items(&best), [3], "transitions have a direction");
        assert!(transition.counts(ItemNo(1)).backward > 0.0);

        let mut together = CoVisitationScratch::default();
        collab.co_visitation.candidates(&[(ItemNo(2), Timestamp(0))], 10, &mut together, &mut best);
        assert_eq!(items(&best), [1, 3], "co-visitation has none");
        assert!((together.score(ItemNo(1)) - 1.0 / 3.0).abs() < 1e-6);

        let (mut knn, mut best) = (SessionKnnScratch::default(), Vec::new());
        collab.session_knn.candidates(&history, None, 10, &mut knn, &mut best);
        assert_eq!(items(&best), [2, 3]);
        let popular = |region| testing::popular(&collab, region, Timestamp(200_000), 10).len();
        assert_eq!(popular(Some("de")), 3);

        collab.forget_item(ItemNo(2));
        collab.transitions.candidates(&history, 10, &mut transition, &mut best);
        assert_eq!(items(&best), [3]);
        assert_eq!(popular(None), 2);
    }

    #[test]
    fn an_empty_history_asks_for_nothing() {
        let collab = Collab::new(&CollabLimits::default());
        learn(&collab, 1, &[(1, 0), (2, 10)]);
        let mut best = vec![Scored { item: ItemNo(1), score: 1.0 }];
        collab.transitions.candidates(&[], 10, &mut TransitionScratch::default(), &mut best);
        assert!(best.is_empty());
        collab.co_visitation.candidates(&[], 10, &mut CoVisitationScratch::default(), &mut best);
        collab.session_knn.candidates(&[], None, 10, &mut SessionKnnScratch::default(), &mut best);
        assert!(best.is_empty());
    }

    #[test]
    fn many_threads_read_while_one_writes() {
        let collab = Collab::new(&CollabLimits { sessions: 64, ..CollabLimits::default() });
        std::thread::scope(|scope| {
            scope.spawn(|| (0..2_000).for_each(|n| learn(&collab, n, &[(n as u32 % 50, 0), (n as u32 % 49, 5)])));
            for _ in 0..3 {
                scope.spawn(|| {
                    let (mut scratch, mut best) = (SessionKnnScratch::default(), Vec::new());
                    for n in 0..2_000 {
                        let history = [(ItemNo(n % 50), Timestamp(0))];
                        collab.session_knn.candidates(&history, Some(u64::from(n)), 20, &mut scratch, &mut best);
                        assert!(best.iter().all(|s| s.score.is_finite()));
                    }
                });
            }
        });
        assert_eq!(collab.session_knn.sessions(), 64);
    }

    #[test]
    fn distinct_items_come_latest_first() {
        let history: Vec<_> = [1, 2, 1, 3, 3, 4, 5, 6, 7].map(|item| (ItemNo(item), Timestamp(0))).into();
        assert_eq!(distinct_latest(&history).map(|i| i.0).collect::<Vec<_>>(), [7, 6, 5, 4, 3, 1]);
    }
}
