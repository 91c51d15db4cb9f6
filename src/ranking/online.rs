//! How does the model follow what people do while it serves? A correction of the batch weights, learned as outcomes come.
//!
//! Three things are learned from each decision whose outcome is known. *Calibration*: a shift of each interval's
//! log-odds and a tilt, which spreads them out or draws them together (Platt 1999), by running Newton steps on the log
//! loss with a prior and exponential forgetting; a service with weights from elsewhere is right on average within a few
//! hundred decisions. *Weights*: a correction of the standardised
//! weights by FTRL-Proximal (`McMahan` et al. 2013), drawn towards no correction. *Places*: how much likelier an item is
//! turned to because of where it was shown; this is learned beside the weights, so that they need not explain it, and
//! left out of predictions.
//!
//! Everything is tested before it is learned from. The corrected weights serve only while they have been better, beyond
//! chance, on outcomes that they had not seen; until then, and whenever they lose that, the shifts alone do. When the corrected model was worse than without its correction over
//! the latest decisions, beyond chance, it is rolled back to the state that explains these best.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::decisions::PLACES;
use super::hazard::HazardModel;
use super::lesson::{Lesson, log_loss, residual};
use crate::domain::{LoadError, StateReader, StateWriter};

const PART: [u8; 4] = *b"onlr";
const VERSION: u32 = 2;

/// No log-odds are shifted further.
const FURTHEST_SHIFT: f64 = 8.0;
/// A feature this many standard deviations from its mean counts as this far in a step.
const FURTHEST_VALUE: f64 = 8.0;
/// A step of calibration moves the log-odds by at most this.
const LONGEST_STEP: f64 = 0.25;
/// Log-odds that a tilt does not move: those of 2 %, near which the likeliest candidates are.
pub(super) const PIVOT: f64 = -3.9;
/// The most that log-odds are drawn together or spread out.
const STEEPEST_TILT: f64 = 0.5;
/// A step changes the tilt by at most this.
const LONGEST_TILT_STEP: f64 = 0.2;
/// How much stronger the prior of no tilt is than that of no shift.
const TILT_PRIOR: f64 = 20.0;
/// No sum of slopes of one decision counts for more.
const STEEPEST: f64 = 50.0;
/// Places are few and every answer has them, so that they can be learned this much faster than weights.
const PLACES_FASTER: f64 = 4.0;
/// States to roll back to.
const SNAPSHOTS: usize = 8;

/// How to learn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OnlineOptions {
    /// FTRL's α: how fast weights move.
    pub rate: f64,
    /// FTRL's β: keeps the first steps short.
    pub caution: f64,
    /// FTRL's λ₁: evidence that a weight needs before it moves at all.
    pub l1: f64,
    /// FTRL's λ₂: how strongly corrections are drawn to 0.
    pub l2: f64,
    /// How much evidence (in expected engagements) the prior of no shift is worth.
    pub prior: f64,
    /// Decisions over which what was learned fades to about a third.
    pub memory: f64,
    /// The latest decisions by which the correction is judged.
    pub guard_window: usize,
    /// The share of the loss by which the corrected model may be worse.
    pub guard_margin: f64,
    /// An explored item counts for at most this many.
    pub propensity_clip: f64,
    /// By how many standard errors corrected weights must have been better to serve.
    pub trust: f64,
    /// Whether the places of shown items are learned; off only to show what that is good for.
    pub places: bool,
}

impl Default for OnlineOptions {
    fn default() -> Self {
        Self {
            rate: 0.05,
            caution: 1.0,
            l1: 1.0,
            l2: 2.0,
            prior: 2.0,
            memory: 20_000.0,
            guard_window: 400,
            guard_margin: 0.01,
            propensity_clip: 10.0,
            trust: 1.0,
            places: true,
        }
    }
}

impl OnlineOptions {
    fn for_places(&self) -> Self {
        Self { rate: PLACES_FASTER * self.rate, ..*self }
    }
}

/// What happened in a step of learning.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Step {
    /// The loss of the base model.
    pub uncorrected: f64,
    /// The loss with nothing but its log-odds shifted.
    pub calibrated: f64,
    /// The loss of the corrected model.
    pub corrected: f64,
    /// Whether the correction was then rolled back.
    pub rolled_back: bool,
}

/// The learner. One for each base model.
#[derive(Debug)]
pub struct OnlineLearner {
    options: OnlineOptions,
    base: Arc<HazardModel>,
    state: State,
    steps: u64,
    roll_backs: u64,
    /// The latest lessons and their losses, newest last.
    recent: VecDeque<(Lesson, Step)>,
    snapshots: VecDeque<State>,
    since_snapshot: usize,
    record: Record,
}

/// How corrected weights did against shifts alone, on outcomes that they had not seen; the past fades.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Record {
    count: f64,
    gain: f64,
    squares: f64,
}

/// Decisions over which the record fades to about a third.
const RECORD_MEMORY: f64 = 4_000.0;
/// With fewer decisions there is no telling.
const LEAST_RECORD: f64 = 200.0;

impl Record {
    fn add(&mut self, gain: f64) {
        let keep = 1.0 - 1.0 / RECORD_MEMORY;
        self.count = self.count * keep + 1.0;
        self.gain = self.gain * keep + gain;
        self.squares = self.squares * keep + gain * gain;
    }

    /// Whether the gain is above 0 by so many standard errors.
    fn shows(&self, errors: f64) -> bool {
        let mean = self.gain / self.count.max(1.0);
        let variance = (self.squares / self.count.max(1.0) - mean * mean).max(0.0);
        self.count >= LEAST_RECORD && mean > errors * (variance / self.count).sqrt()
    }
}

/// What is learned.
#[derive(Debug, Clone, PartialEq)]
struct State {
    /// For each interval: the weights, then an intercept that is needed only while learning, beside places; `rest` is
    /// steadier.
    weights: Vec<Ftrl>,
    places: Ftrl,
    /// Of the base model.
    plain: Vec<Calibration>,
    /// Of the corrected model, on top of `plain`.
    rest: Vec<Calibration>,
}

impl State {
    fn new(intervals: usize, width: usize) -> Self {
        Self {
            weights: vec![Ftrl::new(width + 1); intervals],
            places: Ftrl::new(PLACES),
            plain: vec![Calibration::default(); intervals],
            rest: vec![Calibration::default(); intervals],
        }
    }

    /// What is added to log-odds besides what the weights and their own calibration say.
    fn rest(&self, interval: usize) -> f64 {
        let plain = self.plain[interval].shift;
        (plain + self.rest[interval].shift).clamp(-FURTHEST_SHIFT, FURTHEST_SHIFT) - plain
    }

    fn is_finite(&self) -> bool {
        let calibrations = self.plain.iter().chain(&self.rest);
        calibrations.flat_map(Calibration::numbers).all(f64::is_finite)
            && self.weights.iter().chain([&self.places]).all(Ftrl::is_finite)
    }
}

/// A shift and a tilt of log-odds, and the curvature of the loss that was gathered: by the shift, by both, by the tilt.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Calibration {
    shift: f64,
    tilt: f64,
    curvature: [f64; 3],
}

/// The slope and curvature of one decision's loss, as [`Calibration`] has them.
#[derive(Debug, Clone, Copy, Default)]
struct Slopes {
    slope: [f64; 2],
    curvature: [f64; 3],
}

impl Slopes {
    /// Adds those of one case, `weight` times; `beyond` is how far its log-odds are from [`PIVOT`].
    fn add(&mut self, weight: f64, (slope, curvature): (f64, f64), beyond: f64) {
        self.slope = [self.slope[0] + weight * slope, self.slope[1] + weight * slope * beyond];
        for (sum, factor) in self.curvature.iter_mut().zip([1.0, beyond, beyond * beyond]) {
            *sum += weight * curvature * factor;
        }
    }
}

impl Calibration {
    fn apply(&self, log_odds: f64) -> f64 {
        log_odds + self.shift + self.tilt * (log_odds - PIVOT)
    }

    /// One Newton step.
    fn step(&mut self, of: &Slopes, options: &OnlineOptions) {
        let keep = 1.0 - 1.0 / options.memory;
        for (own, new) in self.curvature.iter_mut().zip(of.curvature) {
            *own = *own * keep + new;
        }
        let prior = [options.prior, TILT_PRIOR * options.prior];
        // The prior pulls as hard as its share of the evidence of one decision.
        let slope = [0, 1].map(|n| of.slope[n] + prior[n] * [self.shift, self.tilt][n] / options.memory);
        let [by_shift, by_both, by_tilt] = self.curvature;
        let (by_shift, by_tilt) = (by_shift + prior[0], by_tilt + prior[1]);
        let scale = by_shift * by_tilt - by_both * by_both;
        let shift = (by_tilt * slope[0] - by_both * slope[1]) / scale;
        let tilt = (by_shift * slope[1] - by_both * slope[0]) / scale;
        self.shift = (self.shift - shift.clamp(-LONGEST_STEP, LONGEST_STEP)).clamp(-FURTHEST_SHIFT, FURTHEST_SHIFT);
        self.tilt =
            (self.tilt - tilt.clamp(-LONGEST_TILT_STEP, LONGEST_TILT_STEP)).clamp(-STEEPEST_TILT, STEEPEST_TILT);
    }

    fn numbers(&self) -> [f64; 5] {
        let [by_shift, by_both, by_tilt] = self.curvature;
        [self.shift, self.tilt, by_shift, by_both, by_tilt]
    }

    fn is_sane(&self) -> bool {
        let [by_shift, by_both, by_tilt] = self.curvature;
        let convex = by_shift >= 0.0 && by_tilt >= 0.0 && by_both * by_both <= by_shift * by_tilt * (1.0 + 1e-9);
        convex && self.shift.abs() <= FURTHEST_SHIFT && self.tilt.abs() <= STEEPEST_TILT
    }
}

/// FTRL-Proximal: sums of slopes (less what the moves so far account for) and of their squares.
#[derive(Debug, Clone, PartialEq)]
struct Ftrl {
    sums: Vec<f64>,
    squares: Vec<f64>,
    /// The weights that follow from these.
    values: Vec<f64>,
}

impl Ftrl {
    fn new(size: usize) -> Self {
        Self { sums: vec![0.0; size], squares: vec![0.0; size], values: vec![0.0; size] }
    }

    fn is_finite(&self) -> bool {
        self.sums.iter().chain(&self.squares).chain(&self.values).all(|v| v.is_finite())
    }

    /// One step down the slopes.
    fn step(&mut self, slopes: &[f64], options: &OnlineOptions) {
        let keep = 1.0 - 1.0 / options.memory;
        for (n, slope) in slopes.iter().enumerate() {
            let slope = slope.clamp(-STEEPEST, STEEPEST);
            let before = self.squares[n];
            let after = before * keep + slope * slope;
            let value = self.values[n];
            let stiffness = |squares: f64| (options.caution + squares.sqrt()) / options.rate;
            // Both what pulls and what holds fade, so that the weight stays where it is while the past is forgotten.
            let held = (stiffness(before * keep) - stiffness(before)) * -value;
            let sigma = stiffness(after) - stiffness(before * keep);
            self.squares[n] = after;
            self.sums[n] += held + slope - sigma * value;
            self.values[n] = self.solve(n, options);
        }
    }

    fn solve_all(&mut self, options: &OnlineOptions) {
        self.values = (0..self.sums.len()).map(|n| self.solve(n, options)).collect();
    }

    fn solve(&self, n: usize, options: &OnlineOptions) -> f64 {
        let sum = self.sums[n];
        if sum.abs() <= options.l1 {
            return 0.0;
        }
        let stiffness = (options.caution + self.squares[n].sqrt()) / options.rate + options.l2;
        -(sum - sum.signum() * options.l1) / stiffness
    }
}

impl OnlineLearner {
    /// Nothing learned yet.
    pub fn new(base: Arc<HazardModel>, options: OnlineOptions) -> Self {
        let (intervals, width) = (base.schema().horizons().count(), base.schema().model_width());
        Self {
            options,
            state: State::new(intervals, width),
            base,
            steps: 0,
            roll_backs: 0,
            recent: VecDeque::new(),
            snapshots: VecDeque::new(),
            since_snapshot: 0,
            record: Record::default(),
        }
    }

    /// The model that is corrected.
    pub fn base(&self) -> &Arc<HazardModel> {
        &self.base
    }

    /// Decisions learned from.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// How often the correction was rolled back.
    pub fn roll_backs(&self) -> u64 {
        self.roll_backs
    }

    /// For each interval, by how much the log-odds of what is fairly likely (2 %) are shifted at present.
    pub fn shifts(&self) -> Vec<f64> {
        let trusted = self.is_trusted();
        let rest = |interval| if trusted { self.state.rest(interval) } else { 0.0 };
        self.state.plain.iter().enumerate().map(|(interval, plain)| plain.shift + rest(interval)).collect()
    }

    /// For each interval, by which share the log-odds are spread out (above 0) or drawn together.
    pub fn tilts(&self) -> Vec<f64> {
        self.state.plain.iter().map(|plain| plain.tilt).collect()
    }

    /// For each interval, how many weights the correction moves, whether it serves or not.
    pub fn corrected_weights(&self) -> Vec<usize> {
        let corrected = |ftrl: &Ftrl| ftrl.values.iter().rev().skip(1).filter(|v| **v != 0.0).count();
        self.state.weights.iter().map(corrected).collect()
    }

    /// By how much the log-odds grow where an item is shown at each bucket of places.
    pub fn place_biases(&self) -> &[f64] {
        &self.state.places.values
    }

    /// The base model with what was learned.
    pub fn correction(&self) -> HazardModel {
        let tilted = self.base.with_tilted_log_odds(&self.tilts(), PIVOT).with_shifted_intercepts(&self.shifts());
        if !self.is_trusted() {
            return tilted;
        }
        let weights: Vec<Vec<f64>> = self
            .state
            .weights
            .iter()
            .map(|ftrl| ftrl.values.split_last().map(|(_, weights)| weights.to_vec()).unwrap_or_default())
            .collect();
        tilted.with_adjusted_weights(&weights)
    }

    /// Tests the model on a lesson, then learns from it.
    pub fn learn(&mut self, lesson: Lesson) -> Step {
        if lesson.is_empty() || lesson.intervals() != self.state.weights.len() {
            return Step::default();
        }
        let before = self.state.clone();
        let mut step = self.descend(&lesson);
        self.steps += 1;
        if !(self.state.is_finite() && step.corrected.is_finite()) {
            self.state = before;
            return Step::default();
        }
        self.record.add(step.calibrated - step.corrected);
        self.recent.push_back((lesson, step));
        while self.recent.len() > self.options.guard_window.max(2) {
            self.recent.pop_front();
        }
        self.since_snapshot += 1;
        // Not at every step: it goes through the window.
        if self.since_snapshot.is_multiple_of((self.options.guard_window / 16).max(1)) {
            step.rolled_back = self.guard();
        }
        step
    }

    /// Whether corrected weights have shown that they are better than shifts alone, and serve.
    pub fn is_trusted(&self) -> bool {
        self.record.shows(self.options.trust)
    }

    /// Forgets the lessons of sessions; what was learned names nobody.
    pub fn forget(&mut self, sessions: &HashSet<u64>) {
        self.recent.retain(|(lesson, _)| !sessions.contains(&lesson.session));
    }

    /// Sums up the slopes of the loss and goes one step down.
    fn descend(&mut self, lesson: &Lesson) -> Step {
        let Self { options, base, state, .. } = self;
        let (schema, parameters) = (base.schema(), base.parameters());
        let width = schema.model_width();
        let (mut step, mut of_places) = (Step::default(), [0.0; PLACES]);
        let mut values = vec![0.0; width];
        for interval in 0..lesson.intervals() {
            let (mean, sd) = (&parameters.mean[interval], &parameters.sd[interval]);
            let mut slopes = vec![0.0; width + 1];
            let (mut plain, mut rest) = (Slopes::default(), Slopes::default());
            let (calibration, further) = (state.plain[interval], state.rest(interval));
            let own = state.weights[interval].values[width];
            for (case, engaged) in lesson.at_risk(interval) {
                let row = lesson.cases.row(case);
                let shared = schema.shared_width();
                let features = row[..shared].iter().chain(schema.varying(row, interval));
                let mut learned = 0.0;
                let weights = &state.weights[interval].values;
                for (n, &feature) in features.enumerate() {
                    let value = (f64::from(feature) - mean[n]) / sd[n];
                    learned += weights[n] * value;
                    values[n] = value.clamp(-FURTHEST_VALUE, FURTHEST_VALUE);
                }
                let weight = f64::from(lesson.cases.weights[case]);
                let uncorrected = f64::from(lesson.base[case * lesson.intervals() + interval]);
                let calibrated = calibration.apply(uncorrected);
                let corrected = calibrated + learned + further;
                step.uncorrected += weight * log_loss(uncorrected, engaged);
                step.calibrated += weight * log_loss(calibrated, engaged);
                step.corrected += weight * log_loss(corrected, engaged);
                plain.add(weight, residual(calibrated, engaged), uncorrected - PIVOT);
                // What is left over after the weights is shifted only.
                rest.add(weight, residual(corrected, engaged), 0.0);
                let place = lesson.place(case).filter(|&place| options.places && place < PLACES);
                let shown = place.map_or(0.0, |place| state.places.values[place]);
                let propensity = f64::from(lesson.cases.propensities[case]).clamp(1.0 / options.propensity_clip, 1.0);
                let (slope, _) = residual(calibrated + learned + own + shown, engaged);
                let slope = slope * weight / propensity;
                for (sum, value) in slopes.iter_mut().zip(&values) {
                    *sum += slope * value;
                }
                slopes[width] += slope;
                if let Some(place) = place {
                    of_places[place] += slope;
                }
            }
            state.plain[interval].step(&plain, options);
            state.rest[interval].step(&rest, options);
            state.weights[interval].step(&slopes, options);
        }
        state.places.step(&of_places, &options.for_places());
        step
    }

    /// Rolls back if the correction does harm; whether it did.
    fn guard(&mut self) -> bool {
        let enough = self.recent.len() >= self.options.guard_window / 2;
        let losses = |of: fn(&Step) -> f64| self.recent.iter().map(|(_, step)| of(step)).sum::<f64>();
        let (uncorrected, calibrated) = (losses(|s| s.uncorrected), losses(|s| s.calibrated));
        let reference: fn(&Step) -> f64 = if uncorrected < calibrated { |s| s.uncorrected } else { |s| s.calibrated };
        let count = self.recent.len() as f64;
        let harm = |step: &Step| step.corrected - reference(step);
        let mean = self.recent.iter().map(|(_, s)| harm(s)).sum::<f64>() / count;
        let variance = self.recent.iter().map(|(_, s)| (harm(s) - mean).powi(2)).sum::<f64>() / count;
        let bearable = self.options.guard_margin * losses(reference) / count + 2.0 * (variance / count).sqrt();
        if enough && mean > bearable {
            self.roll_back();
            return true;
        }
        if self.since_snapshot >= self.options.guard_window && mean <= 0.0 {
            self.since_snapshot = 0;
            self.snapshots.push_back(self.state.clone());
            while self.snapshots.len() > SNAPSHOTS {
                self.snapshots.pop_front();
            }
        }
        false
    }

    /// Goes back to the state that explains the newest half of the window best: an earlier one, the shifts alone, or
    /// nothing.
    fn roll_back(&mut self) {
        let (intervals, width) = (self.state.weights.len(), self.base.schema().model_width());
        let nothing = State::new(intervals, width);
        let shifts_alone = State { plain: self.state.plain.clone(), ..nothing.clone() };
        let newest: Vec<&Lesson> = self.recent.iter().rev().take(self.recent.len() / 2).map(|(l, _)| l).collect();
        let loss = |state: &State| newest.iter().map(|lesson| self.loss_of(state, lesson)).sum::<f64>();
        let mut best = (loss(&nothing), nothing);
        for state in [shifts_alone].into_iter().chain(self.snapshots.iter().cloned()) {
            let found = loss(&state);
            if found < best.0 {
                best = (found, state);
            }
        }
        self.state = best.1;
        self.roll_backs += 1;
        self.record = Record::default();
        self.recent.clear();
        self.snapshots.clear();
        self.snapshots.push_back(self.state.clone());
        self.since_snapshot = 0;
    }

    fn loss_of(&self, state: &State, lesson: &Lesson) -> f64 {
        let (schema, parameters) = (self.base.schema(), self.base.parameters());
        lesson.loss(|case, interval| {
            let row = lesson.cases.row(case);
            let features = row[..schema.shared_width()].iter().chain(schema.varying(row, interval));
            let (mean, sd) = (&parameters.mean[interval], &parameters.sd[interval]);
            let weights = state.weights[interval].values.iter().zip(mean.iter().zip(sd));
            let learned: f64 = features.zip(weights).map(|(&x, (w, (m, s)))| w * (f64::from(x) - m) / s).sum();
            let uncorrected = f64::from(lesson.base[case * lesson.intervals() + interval]);
            state.plain[interval].apply(uncorrected) + learned + state.rest(interval)
        })
    }

    /// What was learned, as bytes; it fits the same base model only.
    pub fn save(&self) -> Vec<u8> {
        let mut writer = StateWriter::new(PART, VERSION, 4_096);
        writer.u64(self.steps);
        writer.u64(self.roll_backs);
        writer.count(self.state.weights.len());
        for ftrl in self.state.weights.iter().chain([&self.state.places]) {
            writer.count(ftrl.sums.len());
            ftrl.sums.iter().chain(&ftrl.squares).for_each(|&v| writer.f64(v));
        }
        for calibration in self.state.plain.iter().chain(&self.state.rest) {
            calibration.numbers().into_iter().for_each(|number| writer.f64(number));
        }
        let Record { count, gain, squares } = self.record;
        [count, gain, squares].into_iter().for_each(|v| writer.f64(v));
        writer.finish()
    }

    /// Reads what [`OnlineLearner::save`] wrote.
    pub fn load(base: Arc<HazardModel>, options: OnlineOptions, bytes: &[u8]) -> Result<Self, LoadError> {
        let mut learner = Self::new(base, options);
        let mut reader = StateReader::new(PART, VERSION, bytes)?;
        learner.steps = reader.u64()?;
        learner.roll_backs = reader.u64()?;
        if reader.count(1, 64)? != learner.state.weights.len() {
            return Err(LoadError::Incompatible("number of horizons"));
        }
        let State { weights, places, plain, rest } = &mut learner.state;
        for ftrl in weights.iter_mut().chain([&mut *places]) {
            if reader.count(16, 1 << 16)? != ftrl.sums.len() {
                return Err(LoadError::Incompatible("number of features"));
            }
            for value in ftrl.sums.iter_mut().chain(&mut ftrl.squares) {
                *value = reader.f64()?;
            }
            if ftrl.squares.iter().any(|s| *s < 0.0) {
                return Err(LoadError::Damaged("a sum of squares is negative"));
            }
        }
        let of_places = options.for_places();
        weights.iter_mut().for_each(|ftrl| ftrl.solve_all(&options));
        places.solve_all(&of_places);
        for calibration in plain.iter_mut().chain(rest) {
            let (shift, tilt) = (reader.f64()?, reader.f64()?);
            *calibration = Calibration { shift, tilt, curvature: [reader.f64()?, reader.f64()?, reader.f64()?] };
        }
        learner.record = Record { count: reader.f64()?, gain: reader.f64()?, squares: reader.f64()? };
        reader.end()?;
        let Record { count, gain, squares } = learner.record;
        if !(count >= 0.0 && squares >= 0.0 && [count, gain, squares].into_iter().all(f64::is_finite)) {
            return Err(LoadError::Damaged("the record of what was learned cannot be"));
        }
        let mut calibrations = learner.state.plain.iter().chain(&learner.state.rest);
        if learner.state.is_finite() && calibrations.all(Calibration::is_sane) {
            learner.snapshots.push_back(learner.state.clone());
            Ok(learner)
        } else {
            Err(LoadError::Damaged("a number that was learned cannot be"))
        }
    }
}

#[cfg(test)]
#[path = "online_tests.rs"]
pub(super) mod tests;
