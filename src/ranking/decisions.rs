//! What was predicted at which moment, and what became of it? The ledger of decision points.
//!
//! A decision point is an answer that was served, or a moment of a session at which one could have been. It stays open
//! until its last window is past, takes in what the session engages with meanwhile, and is then handed out with its
//! outcomes. Who does nothing, or leaves, is a negative. What is not covered (the ledger ends early, or something was
//! not heard) is censored: dropped, or used only up to the last interval that was covered.
//!
//! There are two streams of time. What happens now is closed by the clock; an imported past by the times of the past
//! events that follow.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::features::FeatureMatrix;
use super::hazard::{HazardModel, Predictions};
use super::lesson::Predictor;
use crate::domain::{Horizons, ItemNo, Timestamp};

/// Engagements that one decision remembers; who does more within a minute is hardly a person.
const ENGAGEMENTS: usize = 32;

/// Open decisions of one session.
const OPEN_A_SESSION: usize = 8;

/// How many of the best candidates that were not shown are sampled more densely than the rest.
const NEAR: usize = 60;

/// Places in a list with a bias of their own; the last one is all that lies beyond.
pub const PLACES: usize = 8;

/// The bucket of a place in a list (0 for the first), for its bias.
pub fn place_bucket(place: usize) -> u8 {
    match place {
        0 => 0,
        1 => 1,
        2 => 2,
        3..=4 => 3,
        5..=7 => 4,
        8..=12 => 5,
        13..=20 => 6,
        _ => 7,
    }
}

/// Stands in [`Cases::places`] where an item was not shown.
pub const NOT_SHOWN: u8 = u8::MAX;

/// An item that was shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shown {
    /// The candidate's position in the feature matrix.
    pub candidate: usize,
    /// Its best place in the lists, from 0.
    pub place: usize,
    /// The probability with which it came to be shown; 1 unless it was drawn.
    pub propensity: f32,
}

/// The candidates of a decision that are kept, in rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cases {
    /// The items.
    pub items: Vec<ItemNo>,
    /// Rows of the feature matrix, one after the other.
    pub rows: Vec<f32>,
    /// Cases × intervals: the log-odds of the hazards as they were predicted.
    pub log_odds: Vec<f32>,
    /// How many candidates each stands for.
    pub weights: Vec<f32>,
    /// The bucket of the place where it was shown, or [`NOT_SHOWN`].
    pub places: Vec<u8>,
    /// The probability with which it came to be shown.
    pub propensities: Vec<f32>,
}

impl Cases {
    /// Keeps all of `shown` and, up to `limit` in all, a sample of the others: the best of these more densely than the
    /// rest, each standing for as many as it was drawn from. Deterministic by `seed`.
    /// What `model` says about a candidate out of contention is made up for: trees look at the best only.
    pub fn sample(
        model: &HazardModel,
        (matrix, predictions): (&FeatureMatrix, &Predictions),
        shown: &[Shown],
        limit: usize,
        seed: u64,
    ) -> Self {
        let room = limit.min(matrix.len());
        let any = room > 0 && !predictions.is_empty();
        let (width, intervals) = if any { (matrix.row(0).len(), predictions.hazards(0).len()) } else { (0, 0) };
        let mut cases = Self::with_room(room, width, intervals);
        let mut taken = HashSet::with_capacity(shown.len());
        for shown in shown.iter().filter(|s| s.candidate < matrix.len()).take(limit) {
            if taken.insert(shown.candidate) {
                cases.push(matrix, predictions, shown.candidate, 1.0, place_bucket(shown.place), shown.propensity);
            }
        }
        let mut cases = cases.with_others(matrix, predictions, &taken, limit, seed);
        if model.forest().is_some() {
            // What is not in contention has had no say of the forest.
            let mut log_odds = Vec::with_capacity(cases.log_odds.len());
            (0..cases.len()).for_each(|case| model.log_odds_into(cases.row(case), &mut log_odds));
            cases.log_odds.iter_mut().zip(log_odds).for_each(|(own, all)| *own = all as f32);
        }
        cases
    }

    /// None, with room for so many of `width` features and so many intervals. Thousands are kept for minutes, so that they take no
    /// more than they hold.
    pub(super) fn with_room(cases: usize, width: usize, intervals: usize) -> Self {
        Self {
            items: Vec::with_capacity(cases),
            rows: Vec::with_capacity(cases * width),
            log_odds: Vec::with_capacity(cases * intervals),
            weights: Vec::with_capacity(cases),
            places: Vec::with_capacity(cases),
            propensities: Vec::with_capacity(cases),
        }
    }

    /// Adds a sample of the candidates that are not `taken`.
    fn with_others(
        mut self,
        matrix: &FeatureMatrix,
        predictions: &Predictions,
        taken: &HashSet<usize>,
        limit: usize,
        seed: u64,
    ) -> Self {
        let count = predictions.len().min(matrix.len());
        let mut others: Vec<usize> = (0..count).filter(|candidate| !taken.contains(candidate)).collect();
        let room = limit.saturating_sub(self.items.len());
        if others.is_empty() || room == 0 {
            return self;
        }
        let score = |candidate: usize| predictions.hazards(candidate).iter().copied().fold(f64::MIN, f64::max);
        let near = if others.len() > room { NEAR.min(others.len()) } else { others.len() };
        if near < others.len() {
            others.select_nth_unstable_by(near - 1, |&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
        }
        let (near, far) = others.split_at_mut(near);
        let of_near = if far.is_empty() { room } else { room.div_ceil(2) }.min(near.len());
        let of_far = (room - of_near).min(far.len());
        let mut random = Mixer(seed);
        for (stratum, draws) in [(near, of_near), (far, of_far)] {
            let size = stratum.len();
            for drawn in 0..draws {
                let other = drawn + random.below(size - drawn);
                stratum.swap(drawn, other);
                self.push(matrix, predictions, stratum[drawn], size as f32 / draws as f32, NOT_SHOWN, 1.0);
            }
        }
        self
    }

    fn push(
        &mut self,
        matrix: &FeatureMatrix,
        predictions: &Predictions,
        candidate: usize,
        weight: f32,
        place: u8,
        propensity: f32,
    ) {
        self.items.push(matrix.items()[candidate]);
        self.rows.extend_from_slice(matrix.row(candidate));
        self.log_odds.extend(predictions.hazards(candidate).iter().map(|&x| x as f32));
        self.weights.push(weight);
        self.places.push(place);
        self.propensities.push(propensity);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The row of case number `case`.
    pub fn row(&self, case: usize) -> &[f32] {
        let width = self.rows.len() / self.items.len().max(1);
        &self.rows[case * width..(case + 1) * width]
    }
}

/// Which time closes a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// It was opened at about the present.
    Live,
    /// It lies in an imported past.
    Past,
}

/// A moment at which something was, or could have been, recommended.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The session.
    pub session: u64,
    /// The answer, by the key of its id; `None` if nothing was served.
    pub answer: Option<u64>,
    /// Whoever was assigned to the arm: the person, if known, else the session.
    pub subject: u64,
    /// When.
    pub at: Timestamp,
    /// Which arm answered.
    pub arm: u16,
    /// What predicted; `None` if it was no correction of the model that is being learned.
    pub by: Option<Arc<Predictor>>,
    /// For each horizon of the model, the items of its list, best first; empty where none was asked for.
    pub lists: Vec<Vec<ItemNo>>,
    /// What was predicted.
    pub cases: Cases,
}

impl Decision {
    fn served(&self) -> bool {
        self.answer.is_some()
    }
}

/// A decision whose outcome is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Closed {
    /// The decision.
    pub decision: Decision,
    /// For each case the interval in which the engagement came; the number of intervals if none did.
    pub outcomes: Vec<u8>,
    /// What the session turned to within the last horizon, candidate or not, with the interval.
    pub engaged: Vec<(ItemNo, u8)>,
    /// How many intervals the outcome is known for; all, unless it was censored.
    pub covered: u8,
}

/// Bounds of the ledger.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LedgerLimits {
    /// Decisions open at a time.
    pub open: usize,
    /// Seconds between two decisions of one session.
    pub spacing_s: f64,
    /// Seconds that late events get.
    pub grace_s: f64,
    /// Seconds (by the clock) after which a past decision that nothing has closed is dropped.
    pub past_patience_s: f64,
}

impl Default for LedgerLimits {
    fn default() -> Self {
        Self { open: 2_048, spacing_s: 5.0, grace_s: 5.0, past_patience_s: 600.0 }
    }
}

/// What became of a decision that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is open.
    Opened,
    /// It is open, in place of a moment of the same session at which nothing was served.
    Replaced,
    /// It is too much like the one before of the same session.
    TooSoon,
    /// There is no room.
    Full,
}

/// The decisions whose outcome is not known yet.
#[derive(Debug)]
pub struct Ledger {
    horizons: Horizons,
    limits: LedgerLimits,
    open: HashMap<u64, Open>,
    by_session: HashMap<u64, Vec<u64>>,
    by_answer: HashMap<u64, u64>,
    /// When each is to be closed, by stream.
    due: [BTreeSet<(Timestamp, u64)>; 2],
    next: u64,
}

#[derive(Debug)]
struct Open {
    decision: Decision,
    stream: Stream,
    opened: Timestamp,
    engaged: Vec<(ItemNo, f64)>,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(horizons: &Horizons, limits: LedgerLimits) -> Self {
        Self {
            horizons: horizons.clone(),
            limits,
            open: HashMap::new(),
            by_session: HashMap::new(),
            by_answer: HashMap::new(),
            due: [BTreeSet::new(), BTreeSet::new()],
            next: 0,
        }
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Opens a decision, at `now` by the clock, if it tells anything new and there is room.
    pub fn decide(&mut self, decision: Decision, stream: Stream, now: Timestamp) -> Admission {
        let near: Vec<u64> = self
            .by_session
            .get(&decision.session)
            .into_iter()
            .flatten()
            .copied()
            .filter(|id| {
                let since = self.open.get(id).map(|open| decision.at.seconds_since(open.decision.at).abs());
                since.is_some_and(|s| s < self.limits.spacing_s)
            })
            .collect();
        let mut admission = Admission::Opened;
        if !near.is_empty() {
            // An answer says more than a moment without one: it has places.
            let yields = |id: &u64| self.open.get(id).is_some_and(|open| !open.decision.served());
            if !decision.served() || !near.iter().all(yields) {
                return Admission::TooSoon;
            }
            near.iter().for_each(|&id| drop(self.take(id)));
            admission = Admission::Replaced;
        }
        let of_session = self.by_session.get(&decision.session).map_or(0, Vec::len);
        if self.open.len() >= self.limits.open || of_session >= OPEN_A_SESSION {
            return Admission::Full;
        }
        let id = self.next;
        self.next += 1;
        let due = decision.at.plus_seconds(f64::from(self.horizons.last_s()) + self.limits.grace_s);
        self.due[stream as usize].insert((due, id));
        self.by_session.entry(decision.session).or_default().push(id);
        if let Some(answer) = decision.answer {
            self.by_answer.insert(answer, id);
        }
        self.open.insert(id, Open { decision, stream, opened: now, engaged: Vec::new() });
        admission
    }

    /// Takes in an engagement: of the session, or of whoever says that `answer` led to it.
    pub fn engage(&mut self, session: u64, answer: Option<u64>, item: ItemNo, at: Timestamp) {
        let named = answer.and_then(|answer| self.by_answer.get(&answer).copied());
        let own = self.by_session.get(&session).map_or(&[][..], Vec::as_slice);
        let elsewhere = named.filter(|id| !own.contains(id));
        for id in own.iter().copied().chain(elsewhere) {
            let Some(open) = self.open.get_mut(&id) else { continue };
            let lag_s = at.seconds_since(open.decision.at);
            let counts = lag_s >= 0.0 && lag_s <= f64::from(self.horizons.last_s());
            if !counts || open.engaged.len() >= ENGAGEMENTS {
                continue;
            }
            match open.engaged.iter_mut().find(|(known, _)| *known == item) {
                // Events may come late: the first engagement counts.
                Some((_, known_s)) => *known_s = known_s.min(lag_s),
                None => open.engaged.push((item, lag_s)),
            }
        }
    }

    /// Hands out the decisions of `stream` whose last window, and the time for late events, is past at `watermark`;
    /// the earliest due first.
    pub fn close(&mut self, stream: Stream, watermark: Timestamp) -> Vec<Closed> {
        let mut closed = Vec::new();
        while let Some(&(due, id)) = self.due[stream as usize].first() {
            if due > watermark {
                break;
            }
            let intervals = self.horizons.count();
            closed.extend(self.take(id).map(|open| self.label(open, intervals)));
        }
        closed
    }

    /// Gives up past decisions that nothing has closed for long; says how many.
    pub fn give_up(&mut self, now: Timestamp) -> usize {
        let patience_s = self.limits.past_patience_s;
        let stale: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, open)| open.stream == Stream::Past && now.seconds_since(open.opened) > patience_s)
            .map(|(&id, _)| id)
            .collect();
        stale.into_iter().filter_map(|id| self.take(id)).count()
    }

    /// Drops everything that is open, because something was not heard; says how many.
    pub fn censor(&mut self) -> usize {
        let dropped = self.open.len();
        self.open.clear();
        self.by_session.clear();
        self.by_answer.clear();
        self.due.iter_mut().for_each(BTreeSet::clear);
        dropped
    }

    /// Ends the ledger at `watermark`: live decisions are handed out as far as they are covered. Also says how many were
    /// dropped.
    pub fn end(&mut self, watermark: Timestamp) -> (Vec<Closed>, usize) {
        let mut all: Vec<u64> = self.open.keys().copied().collect();
        all.sort_unstable();
        let (mut closed, mut dropped) = (Vec::new(), 0);
        for id in all {
            let Some(open) = self.take(id) else { continue };
            let known_s = watermark.seconds_since(open.decision.at) - self.limits.grace_s;
            let covered = self.horizons.seconds().iter().take_while(|&&h| f64::from(h) <= known_s).count();
            if open.stream == Stream::Live && covered > 0 {
                closed.push(self.label(open, covered));
            } else {
                dropped += 1;
            }
        }
        (closed, dropped)
    }

    /// Forgets the open decisions of these sessions; says how many.
    pub fn forget(&mut self, sessions: &HashSet<u64>) -> usize {
        let ids: Vec<u64> = sessions.iter().filter_map(|s| self.by_session.get(s)).flatten().copied().collect();
        ids.into_iter().filter_map(|id| self.take(id)).count()
    }

    fn take(&mut self, id: u64) -> Option<Open> {
        let open = self.open.remove(&id)?;
        let due = open.decision.at.plus_seconds(f64::from(self.horizons.last_s()) + self.limits.grace_s);
        self.due[open.stream as usize].remove(&(due, id));
        if let Some(of_session) = self.by_session.get_mut(&open.decision.session) {
            of_session.retain(|&other| other != id);
            if of_session.is_empty() {
                self.by_session.remove(&open.decision.session);
            }
        }
        if let Some(answer) = open.decision.answer {
            self.by_answer.remove(&answer);
        }
        Some(open)
    }

    fn label(&self, open: Open, covered: usize) -> Closed {
        let none = self.horizons.count();
        let engaged: Vec<(ItemNo, u8)> = open
            .engaged
            .into_iter()
            .filter_map(|(item, lag_s)| Some((item, self.horizons.interval(lag_s).filter(|&k| k < covered)? as u8)))
            .collect();
        let outcome = |item: &ItemNo| engaged.iter().find(|(e, _)| e == item).map_or(none as u8, |&(_, k)| k);
        let outcomes = open.decision.cases.items.iter().map(outcome).collect();
        Closed { decision: open.decision, outcomes, engaged, covered: covered as u8 }
    }
}

/// A small generator for sampling: the output function of `SplitMix64` (Steele, Lea & Flood 2014).
#[derive(Debug, Clone)]
pub(super) struct Mixer(pub(super) u64);

impl Mixer {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must be above 0; the bias of the remainder is of no matter here.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranking::{Answered, Candidate, RequestContext};
    use proptest::prelude::*;

    fn scored(count: u32) -> (FeatureMatrix, Predictions) {
        let model = HazardModel::shipped().unwrap();
        let candidates: Vec<Candidate> = (0..count)
            .map(|i| Candidate { session_score: 50.0 / (1.0 + i as f32), ..Candidate::new(ItemNo(i)) })
            .collect();
        let context =
            RequestContext { answered: Answered { session: true, ..Answered::default() }, ..RequestContext::default() };
        let (mut matrix, mut predictions) = (FeatureMatrix::default(), Predictions::default());
        matrix.assemble(model.schema(), &context, &candidates);
        model.predict(&matrix, &mut predictions);
        (matrix, predictions)
    }

    fn decision(session: u64, at_s: f64, answer: Option<u64>, items: &[u32]) -> Decision {
        let cases = Cases {
            items: items.iter().map(|&i| ItemNo(i)).collect(),
            rows: vec![0.0; items.len()],
            log_odds: vec![-3.0; items.len() * 3],
            weights: vec![1.0; items.len()],
            places: vec![NOT_SHOWN; items.len()],
            propensities: vec![1.0; items.len()],
        };
        Decision { session, answer, subject: session, at: time(at_s), arm: 0, by: None, lists: vec![], cases }
    }

    fn time(s: f64) -> Timestamp {
        Timestamp::from_seconds(1_000_000.0 + s)
    }

    fn ledger(limits: LedgerLimits) -> Ledger {
        Ledger::new(&Horizons::default(), limits)
    }

    #[test]
    fn outcomes_are_the_first_engagements_within_the_window() {
        let mut ledger = ledger(LedgerLimits::default());
        assert_eq!(ledger.decide(decision(1, 0.0, None, &[1, 2, 3, 4]), Stream::Live, time(0.0)), Admission::Opened);
        for (item, at_s) in [(1, 40.0), (1, 20.0), (2, 15.0), (3, 60.5), (9, 31.0), (4, -1.0)] {
            ledger.engage(1, None, ItemNo(item), time(at_s));
        }
        ledger.engage(2, None, ItemNo(4), time(5.0));
        assert!(ledger.close(Stream::Live, time(64.9)).is_empty(), "late events get their time");
        assert!(ledger.close(Stream::Past, time(1e6)).is_empty(), "another stream's time says nothing");
        let closed = ledger.close(Stream::Live, time(65.0));
        assert_eq!(closed[0].outcomes, [1, 0, 3, 3]);
        assert_eq!(closed[0].engaged, [(ItemNo(1), 1), (ItemNo(2), 0), (ItemNo(9), 2)]);
        assert_eq!((closed[0].covered, ledger.len()), (3, 0));
    }

    #[test]
    fn who_leaves_is_a_negative_and_what_is_not_covered_is_not() {
        let mut ledger = ledger(LedgerLimits::default());
        ledger.decide(decision(1, 0.0, None, &[1]), Stream::Live, time(0.0));
        ledger.decide(decision(2, 30.0, None, &[1]), Stream::Live, time(30.0));
        ledger.decide(decision(3, 45.0, None, &[1]), Stream::Live, time(45.0));
        ledger.engage(2, None, ItemNo(1), time(59.0));
        assert_eq!(ledger.close(Stream::Live, time(65.0))[0].outcomes, [3]);
        // At 65 s, 30 of the second one's 60 s are covered, and the engagement in its second interval; 15 of the third's.
        let (ended, dropped) = ledger.end(time(65.0));
        assert_eq!(ended.iter().map(|c| (c.covered, c.outcomes[0])).collect::<Vec<_>>(), [(2, 1), (1, 3)]);
        assert_eq!((dropped, ledger.is_empty()), (0, true));
        ledger.decide(decision(4, 70.0, None, &[1]), Stream::Live, time(70.0));
        ledger.decide(decision(5, 70.0, None, &[1]), Stream::Past, time(70.0));
        assert_eq!(ledger.give_up(time(680.0)), 1, "the past one that nothing closed");
        assert_eq!(ledger.end(time(80.0)), (vec![], 1));
        ledger.decide(decision(6, 70.0, None, &[1]), Stream::Live, time(70.0));
        assert_eq!((ledger.censor(), ledger.len()), (1, 0));
    }

    #[test]
    fn one_session_gives_no_near_copies_but_an_answer_takes_the_place_of_a_moment() {
        let mut ledger = ledger(LedgerLimits::default());
        let mut decide =
            |session, at_s, answer| ledger.decide(decision(session, at_s, answer, &[1]), Stream::Live, time(at_s));
        assert_eq!(decide(1, 0.0, None), Admission::Opened);
        assert_eq!(decide(1, 4.9, None), Admission::TooSoon);
        assert_eq!(decide(1, 1.0, Some(7)), Admission::Replaced);
        assert_eq!(decide(1, 2.0, Some(8)), Admission::TooSoon);
        assert_eq!(decide(1, 6.0, Some(9)), Admission::Opened);
        assert_eq!(decide(2, 6.0, None), Admission::Opened);
        // Somebody else says that the answer led to it.
        ledger.engage(3, Some(9), ItemNo(1), time(10.0));
        let closed = ledger.close(Stream::Live, time(100.0));
        assert_eq!(closed.iter().map(|c| c.outcomes[0]).collect::<Vec<_>>(), [3, 0, 3]);
    }

    #[test]
    fn sessions_are_forgotten() {
        let mut ledger = ledger(LedgerLimits::default());
        ledger.decide(decision(1, 0.0, Some(5), &[1]), Stream::Live, time(0.0));
        ledger.decide(decision(2, 0.0, None, &[1]), Stream::Live, time(0.0));
        assert_eq!(ledger.forget(&HashSet::from([1, 9])), 1);
        assert_eq!(ledger.close(Stream::Live, time(99.0)).len(), 1);
        assert!(ledger.by_answer.is_empty() && ledger.by_session.is_empty() && ledger.due[0].is_empty());
    }

    #[test]
    fn samples_stand_for_all_candidates() {
        let (matrix, predictions) = scored(300);
        let shown =
            [Shown { candidate: 5, place: 1, propensity: 1.0 }, Shown { candidate: 200, place: 3, propensity: 0.01 }];
        let cases = Cases::sample(&HazardModel::shipped().unwrap(), (&matrix, &predictions), &shown, 40, 7);
        assert_eq!(cases.len(), 40);
        assert_eq!((cases.items[1], cases.places[1], cases.propensities[1]), (ItemNo(200), 3, 0.01));
        assert!((cases.weights.iter().sum::<f32>() - 300.0).abs() < 1e-2);
        assert_eq!(cases.row(3), matrix.row(cases.items[3].0 as usize));
        assert_eq!(
            Cases::sample(&HazardModel::shipped().unwrap(), (&matrix, &predictions), &shown, 40, 7),
            cases,
            "the seed decides"
        );
        assert_ne!(Cases::sample(&HazardModel::shipped().unwrap(), (&matrix, &predictions), &shown, 40, 8), cases);
        // The mean over many samples is the mean over all.
        let truth: f64 = (0..300).map(|c| predictions.probability(c, 2)).sum();
        let sampled = |seed| -> f64 {
            let cases = Cases::sample(&HazardModel::shipped().unwrap(), (&matrix, &predictions), &[], 40, seed);
            let of = |(item, weight): (&ItemNo, &f32)| f64::from(*weight) * predictions.probability(item.0 as usize, 2);
            cases.items.iter().zip(&cases.weights).map(of).sum()
        };
        let mean = (0..400).map(sampled).sum::<f64>() / 400.0;
        assert!((mean / truth - 1.0).abs() < 0.05, "{mean} for {truth}");
    }

    proptest! {
        #[test]
        fn the_ledger_keeps_its_bounds(
            steps in proptest::collection::vec((0..20_u64, 0..3_u8, 0..40_u32, any::<bool>()), 1..200),
            open in 1..10_usize,
        ) {
            let mut ledger = ledger(LedgerLimits { open, ..LedgerLimits::default() });
            let (mut clock_s, mut opened, mut gone) = (0.0, 0, 0);
            for (n, (session, what, passed, past)) in steps.into_iter().enumerate() {
                clock_s += f64::from(passed);
                let stream = if past { Stream::Past } else { Stream::Live };
                match what {
                    0 => match ledger.decide(decision(session, clock_s, past.then_some(n as u64), &[1, 2]), stream, time(clock_s)) {
                        Admission::Opened => opened += 1,
                        Admission::Replaced | Admission::TooSoon | Admission::Full => {}
                    },
                    1 => ledger.engage(session, Some(n as u64), ItemNo(passed), time(clock_s)),
                    _ => gone += ledger.close(stream, time(clock_s)).len(),
                }
                prop_assert!(ledger.len() <= open);
                prop_assert_eq!(ledger.due[0].len() + ledger.due[1].len(), ledger.len());
                prop_assert_eq!(ledger.by_session.values().map(Vec::len).sum::<usize>(), ledger.len());
            }
            gone += ledger.close(Stream::Live, time(clock_s + 65.0)).len() + ledger.close(Stream::Past, time(clock_s + 65.0)).len();
            prop_assert!(ledger.is_empty());
            prop_assert_eq!(gone, opened);
        }

        #[test]
        fn samples_are_bounded_and_weigh_as_much_as_all(count in 0..200_u32, limit in 1..80_usize, shown in 0..30_usize, seed in any::<u64>()) {
            let (matrix, predictions) = scored(count);
            let shown: Vec<Shown> = (0..shown.min(count as usize).min(limit.saturating_sub(2)))
                .map(|place| Shown { candidate: place, place, propensity: 1.0 }).collect();
            let cases = Cases::sample(&HazardModel::shipped().unwrap(), (&matrix, &predictions), &shown, limit, seed);
            prop_assert!(cases.len() <= limit);
            if limit >= shown.len() + 2 {
                prop_assert!((cases.weights.iter().sum::<f32>() - count as f32).abs() < 0.05, "{:?}", cases.weights);
            }
            let distinct: HashSet<_> = cases.items.iter().collect();
            prop_assert_eq!(distinct.len(), cases.len());
        }
    }
}
