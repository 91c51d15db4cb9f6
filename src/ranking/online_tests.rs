//! Does the correction follow what people do, and only that? Simulated audiences with known habits.

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::domain::{Horizons, ItemNo, Timestamp};
use crate::ranking::decisions::{Cases, NOT_SHOWN, place_bucket};
use crate::ranking::hazard::sigmoid;
use crate::ranking::{HazardParameters, Schema};

/// The features that vary in these tests; all are shared by the intervals.
const ACTIVE: [usize; 4] = [1, 9, 16, 30];
pub(in crate::ranking) const CASES: usize = 20;

pub(in crate::ranking) fn model(weights: [f64; 4], intercepts: [f64; 3]) -> HazardModel {
    let schema = Schema::new(&Horizons::default());
    let width = schema.model_width();
    let mut row = vec![0.0; width];
    ACTIVE.iter().zip(weights).for_each(|(&column, weight)| row[column] = weight);
    let parameters = HazardParameters {
        mean: vec![vec![0.0; width]; 3],
        sd: vec![vec![1.0; width]; 3],
        weights: vec![row; 3],
        intercepts: intercepts.to_vec(),
    };
    HazardModel::new(schema, parameters).unwrap()
}

/// Viewers who behave as `truth` says.
pub(in crate::ranking) struct Audience {
    truth: HazardModel,
    /// By how much the first places draw more than others; `None` where nothing is shown.
    places: Option<fn(usize) -> f64>,
    random: SmallRng,
    decisions: u64,
}

impl Audience {
    pub(in crate::ranking) fn new(truth: HazardModel, seed: u64) -> Self {
        Self { truth, places: None, random: SmallRng::seed_from_u64(seed), decisions: 0 }
    }

    /// A decision of `ranker`, in which `flips` turns outcomes round.
    pub(in crate::ranking) fn lesson(&mut self, base: &HazardModel, ranker: &HazardModel, flips: bool) -> Lesson {
        let width = base.schema().row_width();
        let mut rows: Vec<Vec<f32>> = (0..CASES)
            .map(|_| {
                let mut row = vec![0.0; width];
                ACTIVE.iter().for_each(|&column| row[column] = self.random.random_range(-1.5..1.5));
                row
            })
            .collect();
        rows.sort_by(|a, b| ranker.log_odds(b, 2).total_cmp(&ranker.log_odds(a, 2)));
        let (mut cases, mut outcomes, mut of_base) = (Cases::default(), Vec::new(), Vec::new());
        for (n, row) in rows.iter().enumerate() {
            let bias = self.places.map_or(0.0, |bias| bias(n));
            let hazard = |k: usize| sigmoid(self.truth.log_odds(row, k) + bias);
            let engaged = (0..3).find(|&k| self.random.random_bool(hazard(k)));
            let likely = hazard(2) > 0.05;
            let engaged = if flips { (!likely && self.random.random_bool(0.3)).then_some(n % 3) } else { engaged };
            outcomes.push(engaged.unwrap_or(3) as u8);
            of_base.extend((0..3).map(|k| base.log_odds(row, k) as f32));
            cases.items.push(ItemNo(n as u32));
            cases.rows.extend_from_slice(row);
            cases.log_odds.extend((0..3).map(|k| ranker.log_odds(row, k) as f32));
            cases.weights.push(1.0);
            cases.places.push(if self.places.is_some() { place_bucket(n) } else { NOT_SHOWN });
            cases.propensities.push(1.0);
        }
        self.decisions += 1;
        let at = Timestamp(self.decisions as i64 * 1_000);
        Lesson { session: self.decisions, at, cases, outcomes, base: of_base, covered: 3 }
    }
}

fn learner(base: &HazardModel) -> OnlineLearner {
    OnlineLearner::new(Arc::new(base.clone()), OnlineOptions::default())
}

/// For each interval, the mean hazard that `model` predicts over the mean of the true one, on fresh candidates.
fn ratios(model: &HazardModel, truth: &HazardModel) -> [f64; 3] {
    let mut audience = Audience::new(truth.clone(), 99);
    let (mut predicted, mut true_sum) = ([0.0; 3], [0.0; 3]);
    for _ in 0..300 {
        let lesson = audience.lesson(truth, truth, false);
        for case in 0..CASES {
            for k in 0..3 {
                predicted[k] += sigmoid(model.log_odds(lesson.cases.row(case), k));
                true_sum[k] += sigmoid(truth.log_odds(lesson.cases.row(case), k));
            }
        }
    }
    [0, 1, 2].map(|k| predicted[k] / true_sum[k])
}

#[test]
fn rates_that_are_off_by_a_factor_are_right_after_two_thousand_decisions() {
    let truth = model([0.8, -0.5, 0.0, 0.3], [-3.0, -3.0, -2.5]);
    for (seed, factor) in [(1, 0.2_f64), (2, 0.5), (3, 2.0), (4, 5.0)] {
        let base = truth.with_shifted_intercepts(&[factor.ln(); 3]);
        let before = ratios(&base, &truth);
        assert!(before.iter().all(|r| (r / factor - 1.0).abs() < 0.4), "{before:?}");
        let (mut learner, mut audience) = (learner(&base), Audience::new(truth.clone(), seed));
        for _ in 0..2_000 {
            learner.learn(audience.lesson(&base, &base, false));
        }
        let after = ratios(&learner.correction(), &truth);
        assert!(after.iter().all(|r| (r - 1.0).abs() < 0.1), "off by {factor}: {after:?}");
        assert_eq!((learner.steps(), learner.roll_backs()), (2_000, 0));
    }
}

#[test]
fn what_is_too_sure_of_itself_is_drawn_together() {
    let truth = model([0.8, -0.5, 0.0, 0.3], [-3.0, -3.0, -2.5]);
    for (seed, tilt) in [(1, 0.4), (2, -0.3)] {
        let base = truth.with_tilted_log_odds(&[tilt; 3], PIVOT);
        let (mut learner, mut audience) = (learner(&base), Audience::new(truth.clone(), seed));
        for _ in 0..2_000 {
            learner.learn(audience.lesson(&base, &base, false));
        }
        let undone = -tilt / (1.0 + tilt);
        assert!(learner.tilts().iter().all(|own| (own - undone).abs() < 0.15), "{:?}", learner.tilts());
        let found = learner.correction();
        let mut fresh = Audience::new(truth.clone(), 99);
        let rows = fresh.lesson(&truth, &truth, false);
        for case in 0..CASES {
            for k in 0..3 {
                let (own, true_one) =
                    (found.log_odds(rows.cases.row(case), k), truth.log_odds(rows.cases.row(case), k));
                assert!((own - true_one).abs() < 0.5, "{own} is not {true_one}");
            }
        }
    }
}

#[test]
fn a_drift_is_followed_and_beats_the_frozen_model_before_it_is_learned_from() {
    let base = model([0.8, -0.5, 0.0, 0.3], [-3.0, -3.0, -2.5]);
    let truth = model([-0.2, -0.5, 0.7, 0.3], [-3.0, -3.0, -2.5]);
    let (mut learner, mut audience) = (learner(&base), Audience::new(truth, 5));
    let mut late = Step::default();
    for n in 0..3_000 {
        let step = learner.learn(audience.lesson(&base, &base, false));
        if n >= 1_500 {
            late.uncorrected += step.uncorrected;
            late.calibrated += step.calibrated;
            late.corrected += step.corrected;
        }
    }
    assert!(late.corrected < 0.97 * late.calibrated.min(late.uncorrected), "{late:?}");
    let found = learner.correction();
    for (k, weights) in found.parameters().weights.iter().enumerate() {
        for (&column, wanted) in ACTIVE.iter().zip([-0.2, -0.5, 0.7, 0.3]) {
            assert!((weights[column] - wanted).abs() < 0.2, "interval {k}, {column}: {} for {wanted}", weights[column]);
        }
    }
    // The saved state is the same learner, and fits no other shape.
    let bytes = learner.save();
    let mut loaded = OnlineLearner::load(Arc::new(base.clone()), OnlineOptions::default(), &bytes).unwrap();
    assert_eq!(loaded.correction(), found);
    let lesson = audience.lesson(&base, &base, false);
    assert_eq!(loaded.learn(lesson.clone()), learner.learn(lesson));
    assert_eq!(loaded.correction(), learner.correction());
    for cut in [0, 7, bytes.len() - 1] {
        assert!(OnlineLearner::load(Arc::new(base.clone()), OnlineOptions::default(), &bytes[..cut]).is_err());
    }
}

#[test]
fn a_flood_of_poisoned_outcomes_is_rolled_back() {
    let truth = model([0.8, -0.5, 0.0, 0.3], [-3.0, -3.0, -2.5]);
    let (mut learner, mut audience) = (learner(&truth), Audience::new(truth.clone(), 6));
    for _ in 0..1_500 {
        learner.learn(audience.lesson(&truth, &truth, false));
    }
    assert_eq!(learner.roll_backs(), 0, "nothing to roll back while all is well");
    for _ in 0..800 {
        learner.learn(audience.lesson(&truth, &truth, true));
    }
    let poisoned = ratios(&learner.correction(), &truth);
    assert!(poisoned.iter().any(|r| (r - 1.0).abs() > 0.25), "the flood had an effect: {poisoned:?}");
    let mut losses = Step::default();
    for n in 0..1_200 {
        let step = learner.learn(audience.lesson(&truth, &truth, false));
        if n >= 600 {
            losses.uncorrected += step.uncorrected;
            losses.corrected += step.corrected;
        }
    }
    assert!(learner.roll_backs() >= 1);
    assert!(losses.corrected < 1.02 * losses.uncorrected, "{losses:?}");
    let after = ratios(&learner.correction(), &truth);
    assert!(after.iter().all(|r| (r - 1.0).abs() < 0.2), "{after:?}");
}

#[test]
fn an_interval_counts_only_while_it_is_covered_and_at_risk() {
    let base = model([0.8, -0.5, 0.0, 0.3], [-3.0, -3.0, -2.5]);
    let truth = base.with_shifted_intercepts(&[1.0, 1.0, 1.0]);
    let (mut learner, mut audience) = (learner(&base), Audience::new(truth, 7));
    for _ in 0..300 {
        let mut lesson = audience.lesson(&base, &base, false);
        lesson.covered = 1;
        // What came later than what is covered is not known.
        lesson.outcomes.iter_mut().filter(|o| **o > 0).for_each(|o| *o = 3);
        learner.learn(lesson);
    }
    let shifts = learner.shifts();
    assert!(shifts[0] > 0.6, "{shifts:?}");
    assert_eq!(shifts[1..], [0.0, 0.0]);
    let lesson = audience.lesson(&base, &base, false);
    let engaged = |k: usize| lesson.outcomes.iter().filter(|&&o| usize::from(o) == k).count();
    assert_eq!(lesson.at_risk(0).count(), CASES);
    assert_eq!(lesson.at_risk(2).count(), CASES - engaged(0) - engaged(1));
}

#[test]
fn weights_are_closer_to_the_truth_when_places_are_learned_beside_them() {
    // The first places draw as people's eyes do; the ranker believes in a feature that means nothing.
    let truth = model([0.6, 0.0, 0.0, 0.0], [-4.0, -4.0, -3.5]);
    let base = model([0.0, 0.0, 1.0, 0.0], [-4.0, -4.0, -3.5]);
    let curve = |place: usize| 2.0 / (1.0 + place as f64).sqrt();
    let error = |places: bool| {
        let options = OnlineOptions { places, ..OnlineOptions::default() };
        let mut learner = OnlineLearner::new(Arc::new(base.clone()), options);
        let mut audience = Audience { places: Some(curve), ..Audience::new(truth.clone(), 8) };
        for _ in 0..3_000 {
            let ranker = learner.correction();
            learner.learn(audience.lesson(&base, &ranker, false));
        }
        let found = learner.correction();
        let off = |weights: &Vec<f64>| {
            ACTIVE.iter().zip([0.6, 0.0, 0.0, 0.0]).map(|(&c, t)| (weights[c] - t).abs()).sum::<f64>()
        };
        (found.parameters().weights.iter().map(off).sum::<f64>() / 3.0, learner.place_biases().to_vec())
    };
    let ((with, biases), (without, none)) = (error(true), error(false));
    assert!(with < 0.7 * without, "{with} with the correction, {without} without; {biases:?}");
    assert!(biases[0] > biases[2] && biases[2] > biases[5], "{biases:?}");
    assert!(none.iter().all(|b| *b == 0.0));
}

#[test]
fn explored_items_count_for_those_that_were_not_drawn_up_to_a_bound() {
    let base = model([0.0; 4], [-3.0; 3]);
    let mut audience = Audience::new(base.clone(), 9);
    let mut lesson = audience.lesson(&base, &base, false);
    lesson.outcomes = vec![3; CASES];
    lesson.outcomes[0] = 0;
    let slope = |propensity: f32| {
        let mut lesson = lesson.clone();
        lesson.cases.propensities[0] = propensity;
        let mut learner =
            OnlineLearner::new(Arc::new(base.clone()), OnlineOptions { l1: 0.0, ..OnlineOptions::default() });
        learner.learn(lesson);
        learner.state.weights[0].sums[ACTIVE[0]].abs()
    };
    assert!(slope(0.5) > slope(1.0) && slope(0.1) > slope(0.5));
    assert!((slope(0.001) / slope(0.1) - 1.0).abs() < 1e-6, "clipped");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn numbers_stay_finite_whatever_is_learned(
        values in proptest::collection::vec(prop_oneof![-1e4_f32..1e4, Just(1e4), Just(-1e4), Just(0.0)], 40),
        outcomes in proptest::collection::vec(0..4_u8, 1..6),
        weight in prop_oneof![1e-3_f32..1e4, Just(1e30)],
        offsets in -40.0_f32..40.0,
    ) {
        let base = model([0.8, -0.5, 0.0, 0.3], [-3.0, -3.0, -2.5]);
        let mut learner = learner(&base);
        let width = base.schema().row_width();
        for n in 0..40 {
            let count = outcomes.len();
            let cases = Cases {
                items: (0..count as u32).map(ItemNo).collect(),
                rows: (0..count * width).map(|i| values[(i * 7 + n) % values.len()]).collect(),
                log_odds: vec![offsets; count * 3],
                weights: vec![weight; count],
                places: vec![(n % 9) as u8; count],
                propensities: vec![values[n % values.len()] / 1e4; count],
            };
            let base = vec![offsets; count * 3];
            learner.learn(Lesson { session: 1, at: Timestamp(0), cases, outcomes: outcomes.clone(), base, covered: 3 });
            let parameters = learner.correction().parameters().clone();
            prop_assert!(parameters.intercepts.iter().chain(parameters.weights.iter().flatten()).all(|v| v.is_finite()));
            prop_assert!(learner.place_biases().iter().all(|b| b.is_finite()));
        }
    }
}
