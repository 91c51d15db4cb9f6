//! What does the learning thread do with what it hears? Ledger, outcomes, figures, correction, examples.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::report::TrainingRun;
use super::{Learning, LearningOptions, Message};
use crate::domain::{Horizons, Timestamp};
use crate::engine::Engine;
use crate::ranking::{
    Admission, Closed, HazardModel, Ledger, Lesson, Notebook, OnlineLearner, Predictor, Quality, Stream,
};
use crate::telemetry::{DecisionOutcome, LiveFigures, Metrics};

/// Quiet cases that are kept of a decision for training; all engagements are.
const QUIET_CASES: usize = 12;

/// What is learned, and from what.
#[derive(Debug)]
pub(super) struct Student {
    pub(super) ledger: Ledger,
    pub(super) online: OnlineLearner,
    /// Whether the base model was trained here.
    pub(super) trained: bool,
    /// Served answers by arm.
    pub(super) arms: Vec<Quality>,
    /// All served answers.
    pub(super) served: Quality,
    /// Moments at which nothing was served.
    pub(super) organic: Quality,
    /// Examples for training, oldest first.
    pub(super) lessons: Notebook,
    pub(super) counts: Counts,
    /// Decisions since the last training, and when that was.
    pub(super) new_lessons: usize,
    pub(super) trained_at: Option<Timestamp>,
    pub(super) last_training: Option<TrainingRun>,
    /// Steps of the model that is published.
    pub(super) published: u64,
}

/// What became of decisions since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) opened: u64,
    pub(super) closed: u64,
    pub(super) censored: u64,
    pub(super) dropped: u64,
}

impl Student {
    pub(super) fn new(options: &LearningOptions, horizons: &Horizons, online: OnlineLearner, trained: bool) -> Self {
        let quality = || Quality::new(horizons, options.figures_memory);
        let lessons = Notebook::new(if options.enabled { options.examples } else { 0 }, online.base());
        Self {
            ledger: Ledger::new(horizons, options.ledger),
            online,
            trained,
            arms: (0..options.assignment.arms()).map(|_| quality()).collect(),
            served: quality(),
            organic: quality(),
            lessons,
            counts: Counts::default(),
            new_lessons: 0,
            trained_at: None,
            last_training: None,
            published: 0,
        }
    }

    fn hear(&mut self, message: Message, metrics: &Metrics) {
        match message {
            Message::Decided { decision, stream, now } => {
                let outcome = match self.ledger.decide(*decision, stream, now) {
                    Admission::Opened => {
                        self.counts.opened += 1;
                        DecisionOutcome::Opened
                    }
                    Admission::Replaced | Admission::TooSoon | Admission::Full => {
                        self.counts.dropped += 1;
                        DecisionOutcome::Dropped
                    }
                };
                metrics.count_decisions(outcome, 1);
            }
            Message::Engaged { session, answer, item, at, stream } => {
                if stream == Stream::Past {
                    let closed = self.ledger.close(Stream::Past, at);
                    closed.into_iter().for_each(|closed| self.learn(closed, metrics));
                }
                self.ledger.engage(session, answer, item, at);
            }
        }
    }

    pub(super) fn learn(&mut self, closed: Closed, metrics: &Metrics) {
        self.counts.closed += 1;
        metrics.count_decisions(DecisionOutcome::Closed, 1);
        if closed.decision.answer.is_some() {
            self.served.add(&closed);
            if let Some(arm) = self.arms.get_mut(usize::from(closed.decision.arm)) {
                arm.add(&closed);
            }
        } else {
            self.organic.add(&closed);
        }
        let lesson = Lesson::new(closed, self.online.base());
        if lesson.is_complete() && !lesson.is_empty() {
            self.lessons.push(&lesson.thinned(QUIET_CASES, lesson.session ^ lesson.at.0 as u64));
            self.new_lessons += 1;
        }
        if self.online.learn(lesson).rolled_back {
            metrics.count_roll_back();
            tracing::warn!("what was learned did harm on the latest decisions and was rolled back");
        }
    }

    pub(super) fn censor(&mut self, dropped: usize, metrics: &Metrics) {
        self.counts.censored += dropped as u64;
        metrics.count_decisions(DecisionOutcome::Censored, dropped as u64);
    }

    pub(super) fn forget(&mut self, sessions: &HashSet<u64>) {
        self.ledger.forget(sessions);
        self.online.forget(sessions);
        self.lessons.forget(sessions);
    }

    /// Corrects `model` from now on, from zero.
    pub(super) fn adopt(&mut self, model: Arc<HazardModel>, options: &LearningOptions) {
        // What runs from now on is what the next weights are to be compared with.
        self.lessons.predict_again(&model);
        self.online = OnlineLearner::new(model, options.online);
        self.trained = true;
    }
}

impl Learning {
    /// Takes in what waits in the queue; as much as fits in it, so that it ends.
    pub(super) fn listen(&self, student: &mut Student) {
        for message in self.receiver.try_iter().take(self.options.queue) {
            student.hear(message, &self.metrics);
        }
        if self.unheard.swap(false, Ordering::Relaxed) {
            let dropped = student.ledger.censor();
            student.censor(dropped, &self.metrics);
            if dropped > 0 {
                tracing::warn!(decisions = dropped, "events came faster than they could be learned from");
            }
        }
    }

    /// Hears what is new, closes what is due, learns, and lets the result serve.
    pub(super) fn step(&self, now: Timestamp) {
        let mut student = self.student.lock();
        self.listen(&mut student);
        let closed = student.ledger.close(Stream::Live, now);
        closed.into_iter().for_each(|closed| student.learn(closed, &self.metrics));
        let dropped = student.ledger.give_up(now);
        student.censor(dropped, &self.metrics);
        self.publish(&mut student);
    }

    /// Lets what was learned serve, if there is anything new.
    pub(super) fn publish(&self, student: &mut Student) {
        if student.online.steps() == student.published {
            return;
        }
        student.published = student.online.steps();
        let base = student.online.base().clone();
        let model = student.online.correction();
        if let Some(linear) = &self.linear {
            linear.store(Arc::new(model.linear()));
        }
        self.running.store(Arc::new(Predictor { model, base }));
        for (kind, quality) in [("served", &student.served), ("organic", &student.organic)] {
            let horizons = student.online.base().schema().horizons().seconds();
            for (&horizon_s, figures) in horizons.iter().zip(quality.recent()) {
                self.metrics.set_live_figures(
                    kind,
                    horizon_s,
                    LiveFigures {
                        hit_rate: figures.hit_rate(),
                        reciprocal_rank: figures.reciprocal_rank(),
                        log_loss: figures.log_loss(),
                        calibration: figures.calibration(),
                    },
                );
            }
        }
    }

    /// Learns what can be learned before the end: windows that are cut short count as far as they are covered.
    pub(in crate::engine) fn end(&self, now: Timestamp) {
        if !self.options.enabled {
            return;
        }
        self.step(now);
        let mut student = self.student.lock();
        let (closed, dropped) = student.ledger.end(now);
        closed.into_iter().for_each(|closed| student.learn(closed, &self.metrics));
        student.censor(dropped, &self.metrics);
        self.publish(&mut student);
    }
}

impl Engine {
    /// Learns from what was answered and what people did since the last call; trains if that is due. Blocks for as long
    /// as that takes. To be called about every second, by one thread.
    pub fn learn(&self) {
        let learning = &self.parts.learning;
        if learning.options.enabled {
            let now = self.parts.clock.now();
            learning.step(now);
            learning.train_if_due(now);
        }
    }

    /// Has new weights trained as soon as possible; `false` if nothing is learned here.
    pub fn train(&self) -> bool {
        let learning = &self.parts.learning;
        learning.train_now.store(learning.options.enabled, Ordering::Relaxed);
        learning.options.enabled
    }
}
