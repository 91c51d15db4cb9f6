//! What is learned from a decision whose outcome is known? Its cases, with what two models said of them.

use std::sync::Arc;

use super::decisions::{Cases, Closed, Mixer, NOT_SHOWN};
use super::hazard::{HazardModel, sigmoid, softplus};
use crate::domain::Timestamp;

/// A model that answers, and the one that it is a correction of.
#[derive(Debug, PartialEq)]
pub struct Predictor {
    /// What answers.
    pub model: HazardModel,
    /// The same without what was learned since it was fitted.
    pub base: Arc<HazardModel>,
}

/// A closed decision in the form that learning takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Lesson {
    /// The session, so that it can be forgotten.
    pub session: u64,
    /// When the decision was made.
    pub at: Timestamp,
    pub(super) cases: Cases,
    /// For each case the interval of the engagement; the number of intervals for none.
    pub(super) outcomes: Vec<u8>,
    /// Cases × intervals: what the base model says, without what was learned since.
    pub(super) base: Vec<f32>,
    /// How many intervals the outcomes are known for.
    pub(super) covered: u8,
}

impl Lesson {
    /// Of a decision whose outcome is known; `base` is the model that is being corrected now.
    ///
    /// What the base model said is what was predicted less what had been learned by then, so that whatever else went into
    /// the prediction stays in it. If another base model predicted, it is computed anew.
    pub fn new(closed: Closed, base: &Arc<HazardModel>) -> Self {
        let Closed { decision, outcomes, covered, .. } = closed;
        let intervals = base.schema().horizons().count();
        let by = decision.by.filter(|by| Arc::ptr_eq(&by.base, base));
        let mut of_base = Vec::with_capacity(decision.cases.log_odds.len());
        for case in 0..decision.cases.len() {
            let row = decision.cases.row(case);
            for interval in 0..intervals {
                let said = match &by {
                    Some(by) => {
                        let learned = by.model.log_odds(row, interval) - by.base.log_odds(row, interval);
                        f64::from(decision.cases.log_odds[case * intervals + interval]) - learned
                    }
                    None => base.log_odds(row, interval),
                };
                of_base.push(said as f32);
            }
        }
        Self { session: decision.session, at: decision.at, cases: decision.cases, outcomes, base: of_base, covered }
    }

    /// How many cases there are.
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// Whether the outcome is known for all intervals.
    pub fn is_complete(&self) -> bool {
        usize::from(self.covered) == self.intervals()
    }

    pub(super) fn intervals(&self) -> usize {
        self.base.len() / self.cases.len().max(1)
    }

    /// How many cases there are, and which were at risk in `interval`: their positions and whether they engaged in it.
    pub(super) fn at_risk(&self, interval: usize) -> impl Iterator<Item = (usize, bool)> + '_ {
        let outcomes = if interval < usize::from(self.covered) { &self.outcomes[..] } else { &[] };
        outcomes
            .iter()
            .enumerate()
            .filter(move |(_, outcome)| usize::from(**outcome) >= interval)
            .map(move |(case, &outcome)| (case, usize::from(outcome) == interval))
    }

    /// The (weighted) log loss of the log-odds that `model` gives for a case and an interval.
    pub(super) fn loss(&self, mut model: impl FnMut(usize, usize) -> f64) -> f64 {
        let mut loss = 0.0;
        for interval in 0..self.intervals() {
            for (case, engaged) in self.at_risk(interval) {
                loss += f64::from(self.cases.weights[case]) * log_loss(model(case, interval), engaged);
            }
        }
        loss
    }

    /// The loss of what was predicted.
    pub(super) fn loss_as_predicted(&self) -> f64 {
        let intervals = self.intervals();
        self.loss(|case, interval| f64::from(self.cases.log_odds[case * intervals + interval]))
    }

    /// The same lesson with all engagements and `quiet` of the others, drawn by `seed`, each standing for more.
    pub fn thinned(&self, quiet: usize, seed: u64) -> Self {
        let intervals = self.intervals();
        let engaged = |case: &usize| usize::from(self.outcomes[*case]) < intervals;
        let (mut kept, mut others): (Vec<usize>, Vec<usize>) = (0..self.len()).partition(engaged);
        let weight = |cases: &[usize]| cases.iter().map(|&case| self.cases.weights[case]).sum::<f32>();
        let (all, drawn_from) = (weight(&others), others.len());
        let mut random = Mixer(seed);
        for drawn in 0..quiet.min(drawn_from) {
            let other = drawn + random.below(drawn_from - drawn);
            others.swap(drawn, other);
        }
        others.truncate(quiet);
        let factor = if weight(&others) > 0.0 { all / weight(&others) } else { 1.0 };
        let engagements = kept.len();
        kept.extend(others);
        let count = kept.len();
        let width = self.cases.rows.len() / self.len().max(1);
        let mut thin = Self {
            cases: Cases::with_room(count, width, intervals),
            outcomes: Vec::with_capacity(count),
            base: Vec::with_capacity(count * intervals),
            ..self.without_cases()
        };
        for (n, case) in kept.into_iter().enumerate() {
            let weight = self.cases.weights[case] * if n < engagements { 1.0 } else { factor };
            thin.cases.items.push(self.cases.items[case]);
            thin.cases.rows.extend_from_slice(self.cases.row(case));
            thin.cases.log_odds.extend_from_slice(&self.cases.log_odds[case * intervals..(case + 1) * intervals]);
            thin.cases.weights.push(weight);
            thin.cases.places.push(self.cases.places[case]);
            thin.cases.propensities.push(self.cases.propensities[case]);
            thin.outcomes.push(self.outcomes[case]);
            thin.base.extend_from_slice(&self.base[case * intervals..(case + 1) * intervals]);
        }
        thin
    }

    fn without_cases(&self) -> Self {
        let (cases, outcomes, base) = (Cases::default(), Vec::new(), Vec::new());
        Self { session: self.session, at: self.at, cases, outcomes, base, covered: self.covered }
    }

    /// The bucket of the place where a case was shown; `None` if it was not.
    pub(super) fn place(&self, case: usize) -> Option<usize> {
        let place = self.cases.places[case];
        (place != NOT_SHOWN).then_some(usize::from(place))
    }
}

/// −ln P of what happened.
pub(super) fn log_loss(log_odds: f64, engaged: bool) -> f64 {
    if engaged { softplus(-log_odds) } else { softplus(log_odds) }
}

/// P − 1 or P: the slope of the loss.
pub(super) fn residual(log_odds: f64, engaged: bool) -> (f64, f64) {
    let p = sigmoid(log_odds);
    (p - if engaged { 1.0 } else { 0.0 }, p * (1.0 - p))
}
