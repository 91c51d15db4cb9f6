//! How does the blend follow a log while it is replayed? As the service does: every outcome is learned once its window closes.
//!
//! Decisions wait in the same ledger as in the service, and the same learner corrects the weights. What a decision is
//! judged by was learned from windows that had closed before it: nothing looks ahead.

use std::sync::Arc;

use super::replay::Stop;
use crate::ranking::{
    Cases, Decision, FeatureMatrix, HazardModel, Ledger, LedgerLimits, Lesson, OnlineLearner, OnlineOptions,
    Predictions, Predictor, Stream,
};

/// Candidates that are kept of a decision.
const CASES: usize = 64;
/// Decisions that are learned from until the result is used.
const PUBLISH_EVERY: u64 = 20;

/// Weights that follow a replay.
pub(super) struct Follower {
    ledger: Ledger,
    online: OnlineLearner,
    predictor: Arc<Predictor>,
    published: u64,
}

impl Follower {
    /// Begins with `model` as it is.
    pub(super) fn new(model: &HazardModel) -> Self {
        let base = Arc::new(model.clone());
        let limits = LedgerLimits { open: 100_000, spacing_s: 0.0, grace_s: 0.0, ..LedgerLimits::default() };
        Self {
            ledger: Ledger::new(model.schema().horizons(), limits),
            online: OnlineLearner::new(base.clone(), OnlineOptions::default()),
            predictor: Arc::new(Predictor { model: model.clone(), base }),
            published: 0,
        }
    }

    /// What predicts at present.
    pub(super) fn model(&self) -> &HazardModel {
        &self.predictor.model
    }

    /// Hears of the click at which the replay stops, and learns from all windows that closed before it.
    pub(super) fn advance(&mut self, stop: &Stop<'_>) {
        for closed in self.ledger.close(Stream::Past, stop.now) {
            self.online.learn(Lesson::new(closed, self.online.base()));
        }
        if let Some(&(item, at)) = stop.history.last() {
            self.ledger.engage(stop.session, None, item, at);
        }
        if self.online.steps() >= self.published + PUBLISH_EVERY {
            self.published = self.online.steps();
            let base = self.online.base().clone();
            self.predictor = Arc::new(Predictor { model: self.online.correction(), base });
        }
    }

    /// Remembers what was predicted.
    pub(super) fn decide(&mut self, stop: &Stop<'_>, matrix: &FeatureMatrix, predictions: &Predictions) {
        let seed = stop.session ^ (stop.history.len() as u64) << 40;
        let cases = Cases::sample(self.model(), (matrix, predictions), &[], CASES, seed);
        let decision = Decision {
            session: stop.session,
            answer: None,
            subject: stop.session,
            at: stop.now,
            arm: 0,
            by: Some(self.predictor.clone()),
            lists: Vec::new(),
            cases,
        };
        self.ledger.decide(decision, Stream::Past, stop.now);
    }
}
