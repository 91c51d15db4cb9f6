//! How does serving become learning? Answers and events go into a queue; a thread of its own learns from them.
//!
//! On the path of a request: which arm and model serve it ([`Learning::serve`]), whether a new item is tried
//! ([`Learning::explore`]), and, for a sample of the answers, a copy of what was predicted into a bounded queue
//! ([`Learning::served`]). Events push what was engaged with ([`Parts::hear`]). A full queue drops: a decision is lost,
//! and a lost engagement censors what is open, because nobody knows any more what came of it. Everything else happens
//! on the learning thread (`learn/student.rs`, `learn/training.rs`).

mod explore;
mod keep;
mod report;
mod student;
mod training;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use parking_lot::Mutex;
use roaring::RoaringBitmap;

pub(super) use self::explore::Explored;
use self::explore::Explorer;
pub use self::report::{ArmReport, ExperimentReport, HorizonReport, LearningReport, Spread, TrainingRun};
use self::student::Student;
use super::candidates::{Situation, gather};
use super::course::Course;
use super::gallery::Gaze;
use super::live::session_key;
use super::parts::{CandidateLimits, Parts};
use crate::domain::{Event, Filter, ItemNo, Timestamp, UserKey};
use crate::ranking::{
    Assignment, Candidate, Cases, Decision, FeatureMatrix, HIT_PLACES, HazardModel, LedgerLimits, OnlineOptions,
    Predictions, Predictor, Ranked, Shown, Stream, TrainOptions, order, siphash,
};
use crate::session::Trajectory;
use crate::telemetry::{DecisionOutcome, Metrics};

/// An event that is reported this much later than it occurred belongs to a past that is being imported.
const PAST_AFTER_S: f64 = 120.0;

/// What the operator decides about learning.
#[derive(Debug, Clone)]
pub struct LearningOptions {
    /// Whether anything is learned; if not, the weights stay as they are.
    pub enabled: bool,
    /// Answers that are learned from in a second; as many moments at which nothing was served.
    pub decisions_per_s: f64,
    /// Bounds of the decisions that are open.
    pub ledger: LedgerLimits,
    /// Candidates that are kept of a decision.
    pub cases: usize,
    /// Messages that may wait to be learned from.
    pub queue: usize,
    /// Rows that are kept for training.
    pub examples: usize,
    /// Decisions between two trainings.
    pub train_decisions: usize,
    /// Seconds between two trainings, at least.
    pub train_every_s: f64,
    /// Decisions over which recent figures fade.
    pub figures_memory: f64,
    /// How the running model is corrected.
    pub online: OnlineOptions,
    /// How new weights are made.
    pub training: TrainOptions,
    /// The share of answers that try a new item.
    pub exploration: f64,
    /// How often a new item is shown before it has had its chance.
    pub exploration_impressions: u32,
    /// The file that new weights are written to.
    pub weights_file: PathBuf,
    /// Weights that an earlier run wrote there.
    pub learned_weights: Option<HazardModel>,
    /// The experiments.
    pub assignment: Assignment,
    /// The arms of the experiments, in their order.
    pub arms: Vec<ArmOptions>,
}

/// What an arm does differently.
#[derive(Debug, Clone, Default)]
pub struct ArmOptions {
    /// Diversity where a request does not say.
    pub diversity: Option<f32>,
    /// The share of answers that try a new item.
    pub exploration: Option<f64>,
    /// Sources that are not asked.
    pub sources_off: Vec<String>,
    /// Whether the linear hazards serve it alone, also once trees have been trained.
    pub linear: bool,
    /// Weights of its own, which stay as they are; `None` for those that learn.
    pub weights: Option<Arc<HazardModel>>,
}

/// What joins serving and learning.
#[derive(Debug)]
pub(super) struct Learning {
    options: LearningOptions,
    /// The weights of the settings, from which learning began.
    start: Arc<HazardModel>,
    /// What serves now; replaced about once a second.
    running: ArcSwap<Predictor>,
    /// Its first stage alone, for the arms that have no trees; `None` if there is no such arm.
    linear: Option<ArcSwap<HazardModel>>,
    sender: Sender<Message>,
    receiver: Receiver<Message>,
    /// An engagement found no room in the queue.
    unheard: AtomicBool,
    /// Messages that found no room.
    overflow: AtomicU64,
    served_turns: Turns,
    organic_turns: Turns,
    explorer: Explorer,
    student: Mutex<Student>,
    train_now: AtomicBool,
    metrics: Metrics,
}

/// What the learning thread hears.
#[derive(Debug)]
enum Message {
    Decided { decision: Box<Decision>, stream: Stream, now: Timestamp },
    Engaged { session: u64, answer: Option<u64>, item: ItemNo, at: Timestamp, stream: Stream },
}

/// What serves one request.
#[derive(Debug)]
pub(super) struct Serving {
    /// The arm's number; 0 for nobody's experiment.
    arm: u16,
    /// Whoever was assigned.
    subject: u64,
    /// The answer's key, also the seed of all that is drawn for it.
    answer: u64,
    predictor: Arc<Predictor>,
    /// The arm's own weights, or its part of those that run.
    own: Option<Arc<HazardModel>>,
}

impl Serving {
    /// The model that ranks.
    pub(super) fn model(&self) -> &HazardModel {
        self.own.as_deref().unwrap_or(&self.predictor.model)
    }
}

thread_local! {
    /// Working memory for moments at which nothing was served.
    static SCRATCH: RefCell<(Vec<Candidate>, FeatureMatrix, Predictions)> = RefCell::default();
}

/// The key of an answer's id.
pub(super) fn answer_key(id: &str) -> u64 {
    siphash((1, 2), id.as_bytes())
}

impl Learning {
    /// Chooses who serves: the same arm for the same person, or session, or else by chance.
    pub(super) fn serve(&self, user: Option<UserKey>, session: Option<u64>, id: &str) -> Serving {
        let answer = answer_key(id);
        let whom = session.unwrap_or(answer).to_le_bytes();
        let (subject, arm) = match &user {
            Some(UserKey(key)) => (siphash((3, 4), key), self.options.assignment.arm(key)),
            None => (siphash((3, 4), &whom), self.options.assignment.arm(&whom)),
        };
        let linear = || self.linear.as_ref().map(ArcSwap::load_full);
        let own = self.arm(arm).and_then(|arm| arm.weights.clone().or_else(|| arm.linear.then(linear).flatten()));
        Serving { arm, subject, answer, predictor: self.running.load_full(), own }
    }

    fn arm(&self, arm: u16) -> Option<&ArmOptions> {
        self.options.arms.get(usize::from(arm).checked_sub(1)?)
    }

    /// The names of the experiment and arm, if the request takes part in one.
    pub(super) fn names(&self, serving: &Serving) -> Option<(String, String)> {
        self.options.assignment.names(serving.arm).map(|(experiment, arm)| (experiment.to_owned(), arm.to_owned()))
    }

    /// The arm's diversity, or the default.
    pub(super) fn diversity(&self, serving: &Serving, default: f32) -> f32 {
        self.arm(serving.arm).and_then(|arm| arm.diversity).unwrap_or(default)
    }

    /// How many candidates each source proposes for the arm.
    pub(super) fn limits(&self, serving: &Serving, limits: &CandidateLimits) -> CandidateLimits {
        let off = self.arm(serving.arm).map_or(&[][..], |arm| arm.sources_off.as_slice());
        off.iter().fold(*limits, |limits, source| limits.without(source))
    }

    /// Chooses, for some answers, a new item that each list tries at a place that is not the first.
    pub(super) fn explore(
        &self,
        serving: &Serving,
        items: &[ItemNo],
        count: usize,
        newest: impl FnOnce() -> HashSet<ItemNo>,
    ) -> Option<Explored> {
        let share = self.arm(serving.arm).and_then(|arm| arm.exploration).unwrap_or(self.options.exploration);
        let explored = self.explorer.choose(serving.answer, share, items, count, newest)?;
        self.metrics.count_explored();
        Some(explored)
    }

    /// Remembers an answer, if it is its turn. `lists` are by the model's horizons, empty where none was asked for.
    pub(super) fn served(
        &self,
        serving: &Serving,
        session: Option<u64>,
        now: Timestamp,
        (matrix, predictions): (&FeatureMatrix, &Predictions),
        lists: &[Vec<Ranked>],
        explored: Option<Explored>,
    ) {
        // Without a session nothing is heard of what comes of it.
        let Some(session) = session else { return };
        if !self.options.enabled || !self.served_turns.take() {
            return;
        }
        let mut places: HashMap<usize, usize> = HashMap::new();
        for list in lists {
            for (place, ranked) in list.iter().enumerate() {
                let best = places.entry(ranked.candidate).or_insert(place);
                *best = place.min(*best);
            }
        }
        let propensity = |candidate| explored.filter(|e| e.candidate == candidate).map_or(1.0, |e| e.propensity);
        let mut shown: Vec<Shown> = places
            .into_iter()
            .map(|(candidate, place)| Shown { candidate, place, propensity: propensity(candidate) })
            .collect();
        shown.sort_unstable_by_key(|shown| (shown.place, shown.candidate));
        let decision = Decision {
            session,
            answer: Some(serving.answer),
            subject: serving.subject,
            at: now,
            arm: serving.arm,
            by: serving.own.is_none().then(|| serving.predictor.clone()),
            lists: lists.iter().map(|list| list.iter().take(HIT_PLACES).map(|ranked| ranked.item).collect()).collect(),
            cases: Cases::sample(serving.model(), (matrix, predictions), &shown, self.options.cases, serving.answer),
        };
        self.send(Message::Decided { decision: Box::new(decision), stream: Stream::Live, now });
    }

    fn send(&self, message: Message) {
        match self.sender.try_send(message) {
            Ok(()) => {}
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                if matches!(message, Message::Engaged { .. }) {
                    self.unheard.store(true, Ordering::Relaxed);
                }
                self.overflow.fetch_add(1, Ordering::Relaxed);
                self.metrics.count_decisions(DecisionOutcome::Dropped, 1);
            }
        }
    }

    /// Forgets what is kept of sessions: decisions and examples. The weights that were learned name nobody.
    pub(super) fn forget(&self, sessions: &HashSet<u64>) {
        let mut student = self.student.lock();
        self.listen(&mut student);
        student.forget(sessions);
    }
}

impl Parts {
    /// Hears of an event that was just applied: what comes of open decisions, and perhaps a moment to learn from.
    pub(super) fn hear(&self, event: &Event) {
        let learning = &self.learning;
        if !learning.options.enabled || !event.kind.is_engagement() {
            return;
        }
        let Some(item) = self.live.catalogue.read().number(&event.item) else { return };
        let (session, at, now) = (session_key(&event.session), event.occurred_at, self.clock.now());
        let stream = if now.seconds_since(at) > PAST_AFTER_S { Stream::Past } else { Stream::Live };
        let answer = event.recommendation_id.as_deref().map(answer_key);
        learning.send(Message::Engaged { session, answer, item, at, stream });
        if learning.organic_turns.take() {
            learning.send(Message::Decided { decision: Box::new(self.moment(event, session)), stream, now });
        }
    }

    /// What would have been answered right after an event.
    fn moment(&self, event: &Event, session: u64) -> Decision {
        let at = event.occurred_at;
        let view = self.live.sessions.peek(&event.session, at, crate::session::LiveSession::view);
        let history: Vec<(ItemNo, Timestamp)> =
            view.iter().flat_map(|view| view.items.iter().map(|i| (i.item, i.at))).collect();
        let region = view.as_ref().and_then(|view| view.region.clone());
        let allowed = self.live.attributes.restriction(&Filter::default(), at, region.as_deref());
        let mut excluded: RoaringBitmap = history.last().map(|&(no, _)| no.0).into_iter().collect();
        if self.options.exclude_seen {
            excluded.extend(view.iter().flat_map(|view| view.seen.iter().map(|no| no.0)));
        }
        let (predictor, gallery) = (self.learning.running.load_full(), self.live.gallery());
        let horizons = predictor.model.schema().horizons();
        let course = Course::new(&self.stuck, Instant::now() + self.options.default_deadline);
        let situation = Situation {
            now: at,
            session: Some(session),
            user: event.user,
            history: &history,
            playing: None,
            position_s: None,
            region: region.as_deref(),
            trajectory: &Trajectory::default(),
            gaze: Gaze { gallery: &gallery, weights: None },
            allowed: allowed.as_ref(),
            excluded: &excluded,
            course: &course,
            count: self.options.default_count,
            limits: self.options.candidates,
        };
        SCRATCH.with_borrow_mut(|(candidates, matrix, predictions)| {
            let gathered = gather(&self.live, horizons, &self.metrics, &situation, candidates).unwrap_or_default();
            matrix.assemble(predictor.model.schema(), &gathered.context, candidates);
            predictor.model.predict(matrix, predictions);
            let list = |horizon| -> Vec<ItemNo> {
                order(matrix.items(), predictions, horizon, HIT_PLACES).iter().map(|ranked| ranked.item).collect()
            };
            let lists = (0..horizons.count()).map(list).collect();
            let (limit, seed) = (self.learning.options.cases, session ^ at.0 as u64);
            let cases = Cases::sample(&predictor.model, (matrix, predictions), &[], limit, seed);
            let by = Some(predictor.clone());
            Decision { session, answer: None, subject: session, at, arm: 0, by, lists, cases }
        })
    }
}

/// Lets so many through in a second, the first ones of each second, without a lock.
#[derive(Debug)]
struct Turns {
    began: Instant,
    every_ns: u64,
    /// When, since it began, all that were let through will have had their time.
    until_ns: AtomicU64,
}

impl Turns {
    fn new(per_s: f64) -> Self {
        let every_ns = if per_s > 0.0 { (1e9 / per_s).min(1e18) as u64 } else { 0 };
        Self { began: Instant::now(), every_ns, until_ns: AtomicU64::new(0) }
    }

    fn take(&self) -> bool {
        const BURST_NS: u64 = 1_000_000_000;
        if self.every_ns == 0 {
            return false;
        }
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let next = |until: u64| {
            let after = until.max(now).saturating_add(self.every_ns);
            (after <= now.saturating_add(BURST_NS.max(self.every_ns))).then_some(after)
        };
        self.until_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_bounded_by_the_second() {
        let turns = Turns::new(50.0);
        assert_eq!((0..1_000).filter(|_| turns.take()).count(), 50);
        assert!(!Turns::new(0.0).take());
        let rare = Turns::new(0.01);
        assert!(rare.take() && !rare.take());
    }
}
