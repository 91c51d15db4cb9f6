//! Which items come into question at a moment, and what do the sources say about them?

use super::replay::Stop;
use crate::collab::{
    CoVisitationScratch, Collab, Popularity, PreferenceScratch, SessionKnnScratch, TransitionScratch, TrendingScratch,
};
use crate::domain::{ItemNo, Scored, Timestamp, UserKey};
use crate::ranking::{Answered, Candidate, RequestContext};

/// How many candidates each source proposes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CandidateLimits {
    /// Session-kNN.
    pub session: usize,
    /// Co-visitation.
    pub co_visitation: usize,
    /// Transitions.
    pub transition: usize,
    /// Matrix factorisation.
    pub preference: usize,
    /// Popular items, so that lists can always be filled.
    pub trending: usize,
}

/// For how long an item that nobody has turned to counts as left alone, as in the service: a month.
const NEVER_TOUCHED_S: f32 = 30.0 * 86_400.0;

/// The confidence of an engagement that a taste is made of, before its history tells more.
const JUST_TURNED_TO: f32 = 0.5;

impl Default for CandidateLimits {
    fn default() -> Self {
        Self { session: 80, co_visitation: 80, transition: 60, preference: 40, trending: 20 }
    }
}

/// Who asks, and when.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// The session's key.
    pub session: u64,
    /// Whose it is, if that is known.
    pub user: Option<UserKey>,
    /// What it engaged with so far, oldest first; the last one is the current item.
    pub history: &'a [(ItemNo, Timestamp)],
    /// When.
    pub now: Timestamp,
    /// Where, if known.
    pub region: Option<&'a str>,
}

/// What is known beyond the clicks: frames, taste, descriptions. The default knows nothing.
pub trait Surroundings {
    /// Adds items that come into question.
    fn propose(&mut self, _stop: &Stop<'_>, _items: &mut Vec<ItemNo>) {}

    /// Says what is known about the moment and the candidates.
    fn describe(&mut self, _stop: &Stop<'_>, _context: &mut RequestContext, _candidates: &mut [Candidate]) {}
}

/// Nothing is known beyond the clicks.
#[derive(Debug, Clone, Copy, Default)]
pub struct NothingElse;

impl Surroundings for NothingElse {}

/// Asks the sources and puts their findings together; keep it and use it again.
#[derive(Debug, Default)]
pub struct Gatherer {
    /// How many candidates each source proposes.
    pub limits: CandidateLimits,
    session: SessionKnnScratch,
    co_visitation: CoVisitationScratch,
    transition: TransitionScratch,
    trending: TrendingScratch,
    preference: PreferenceScratch,
    by_trending: Vec<Scored>,
    popularity: Vec<Popularity>,
    items: Vec<ItemNo>,
    /// The candidates of the last moment.
    pub candidates: Vec<Candidate>,
    /// What was known about the last moment as a whole.
    pub context: RequestContext,
    /// The proposals of session-kNN at the last moment, best first.
    pub by_session: Vec<Scored>,
    /// The proposals of co-visitation.
    pub by_co_visitation: Vec<Scored>,
    /// The proposals of transitions.
    pub by_transition: Vec<Scored>,
    /// The proposals of matrix factorisation.
    pub by_preference: Vec<Scored>,
    /// The most popular items.
    pub by_popularity: Vec<Scored>,
}

impl Gatherer {
    /// One that asks each source for so many candidates.
    pub fn new(limits: CandidateLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Gathers candidates for a stop of a replay, with what `surroundings` add.
    pub fn gather_at(&mut self, collab: &Collab, stop: &Stop<'_>, surroundings: &mut dyn Surroundings) {
        let Stop { session, user, history, now, .. } = *stop;
        let moment = Moment { session, user, history, now, region: None };
        let mut extra = Vec::new();
        surroundings.propose(stop, &mut extra);
        self.gather(collab, &moment, &extra);
        surroundings.describe(stop, &mut self.context, &mut self.candidates);
    }

    /// Gathers candidates for `moment`; `extra` are further items that come into question.
    pub fn gather(&mut self, collab: &Collab, moment: &Moment<'_>, extra: &[ItemNo]) {
        let Moment { session, user, history, now, region } = *moment;
        let limits = self.limits;
        let knn = &collab.session_knn;
        knn.candidates(history, Some(session), limits.session, &mut self.session, &mut self.by_session);
        let proposals = &mut self.by_co_visitation;
        collab.co_visitation.candidates(history, limits.co_visitation, &mut self.co_visitation, proposals);
        collab.transitions.candidates(history, limits.transition, &mut self.transition, &mut self.by_transition);
        self.by_preference.clear();
        let latest: Vec<(ItemNo, f32)> = history.iter().map(|&(item, _)| (item, JUST_TURNED_TO)).collect();
        let knows_taste =
            limits.preference > 0 && collab.preference.fold_in(Some(session), user, &latest, &mut self.preference);
        if knows_taste {
            let best = &mut self.by_preference;
            collab.preference.candidates(limits.preference, |_| true, &mut self.preference, best);
        } else {
            self.preference.clear();
        }
        self.by_popularity = collab.trending.most_popular(limits.trending.max(21));
        collab.trending.candidates(region, now, limits.trending, &mut self.trending, &mut self.by_trending);

        let current = history.last().map(|&(item, _)| item);
        self.items.clear();
        let proposals =
            [&self.by_session, &self.by_co_visitation, &self.by_transition, &self.by_preference, &self.by_trending];
        self.items.extend(proposals.into_iter().flatten().map(|s| s.item).chain(extra.iter().copied()));
        self.items.sort_unstable();
        self.items.dedup();
        self.items.retain(|&item| Some(item) != current);
        collab.trending.look_up(&self.items, region, now, &mut self.popularity);

        self.candidates.clear();
        for (&item, popularity) in self.items.iter().zip(&self.popularity) {
            let vote = self.session.vote(item);
            let counts = self.transition.counts(item);
            let mut candidate = Candidate::new(item);
            candidate.session_score = vote.score;
            candidate.session_follow_share = vote.follow_share;
            candidate.co_visitation = self.co_visitation.score(item);
            candidate.forward = self.transition.score(item);
            candidate.transition_within = counts.within;
            candidate.transition_any = counts.any;
            candidate.transition_backward = counts.backward;
            candidate.transition_within_ratio = counts.within_ratio;
            candidate.popularity = popularity.total;
            candidate.trending = popularity.recent;
            candidate.trending_in_region = popularity.in_region;
            candidate.preference = self.preference.score(item);
            let idle_s = popularity.last_touched.map(|at| now.seconds_since(at) as f32);
            candidate.idle_s = Some(idle_s.unwrap_or(NEVER_TOUCHED_S));
            let steps_ago = history.iter().rev().position(|&(other, _)| other == item);
            candidate.seen_steps_ago = steps_ago.map(|steps| steps as u32);
            candidate.is_cold = popularity.total < 5.0;
            self.candidates.push(candidate);
        }
        self.context = context_of(moment, self.transition.current_count());
        self.context.answered.preference = knows_taste;
    }
}

fn context_of(moment: &Moment<'_>, current_item_count: f32) -> RequestContext {
    let history = moment.history;
    let gap_s = |a: usize, b: usize| history[b].1.seconds_since(history[a].1) as f32;
    let last = history.len().saturating_sub(1);
    // Where there is nothing to follow on, the service does not ask what follows.
    let begun = !history.is_empty();
    RequestContext {
        answered: Answered {
            session: begun,
            transition: begun,
            co_visitation: begun,
            trending: true,
            ..Answered::default()
        },
        session_length: history.len() as u32,
        last_gap_s: (last > 0).then(|| gap_s(last - 1, last)),
        mean_gap_s: (last > 0).then(|| gap_s(0, last) / last as f32),
        since_event_s: history.last().map(|&(_, at)| moment.now.seconds_since(at) as f32),
        current_item_count,
        region_known: moment.region.is_some(),
        ..RequestContext::default()
    }
}
