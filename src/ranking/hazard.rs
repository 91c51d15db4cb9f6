//! How likely is an engagement with each candidate, and by when? Discrete-time hazards.
//!
//! The horizons cut time into intervals. The hazard of an interval, `λ = σ(x)` with `x` linear in the features, is the
//! chance of an engagement in it, given none before. The chance of one by a horizon is `1 − Π (1 − λ)` over the
//! intervals up to it, which can only grow with the horizon. (Discrete-time survival analysis by logistic regression:
//! Singer & Willett 1993.)

use super::features::FeatureMatrix;
use super::schema::Schema;

/// A hazard beyond this log-odds (98 %) is not believed; keeps probabilities below 1 for any features.
const HIGHEST_LOG_ODDS: f64 = 4.0;

/// A hazard below this log-odds is as good as this one; keeps probabilities above 0.
const LOWEST_LOG_ODDS: f64 = -30.0;

/// A linear hazard for each interval.
#[derive(Debug, Clone, PartialEq)]
pub struct HazardModel {
    schema: Schema,
    parameters: HazardParameters,
    /// For each interval, the weights on the features as they are, not standardised.
    raw_weights: Vec<Vec<f64>>,
    /// For each interval, the log-odds where all features are 0.
    raw_intercepts: Vec<f64>,
}

/// The numbers that make up a model, in the order of [`Schema::names`].
#[derive(Debug, Clone, PartialEq)]
pub struct HazardParameters {
    /// What is subtracted from each feature, for each interval: varying features differ between them.
    pub mean: Vec<Vec<f64>>,
    /// What it is then divided by; above 0.
    pub sd: Vec<Vec<f64>>,
    /// For each interval, the weight of each standardised feature.
    pub weights: Vec<Vec<f64>>,
    /// For each interval, the log-odds of the mean candidate.
    pub intercepts: Vec<f64>,
}

/// Why numbers are not a model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// The file does not parse.
    #[error("the ranking weights cannot be read: {0}")]
    Syntax(String),
    /// The file was written for another version of the features.
    #[error("the ranking weights have version {found}, this program reads version {expected}; train them again")]
    Version {
        /// The file's version.
        found: u32,
        /// The version that this program reads.
        expected: u32,
    },
    /// The file's horizons are no horizons.
    #[error("the ranking weights' horizons are wrong: {0}")]
    Horizons(#[from] crate::domain::HorizonsError),
    /// The file names a feature that does not exist.
    #[error("the ranking weights name the unknown feature `{0}`")]
    UnknownFeature(String),
    /// The file lacks a feature.
    #[error("the ranking weights lack the feature `{0}`")]
    MissingFeature(String),
    /// There is not one number for each interval.
    #[error("`{feature}` has {found} numbers in the ranking weights, there are {expected} intervals")]
    Shape {
        /// Whose numbers.
        feature: String,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A number is infinite or no number, or a standard deviation is not above 0.
    #[error("`{0}` has a number in the ranking weights that is not usable")]
    BadNumber(String),
}

/// What a model predicts for the candidates of a request. Keep it and predict into it again.
#[derive(Debug, Clone, Default)]
pub struct Predictions {
    /// Candidates × intervals: log-odds of the hazards, in the believed range.
    hazards: Vec<f64>,
    /// Candidates × horizons.
    probabilities: Vec<f64>,
    horizons: usize,
}

impl Predictions {
    /// The probability of an engagement with candidate `candidate` by horizon number `horizon`; in (0, 1).
    pub fn probability(&self, candidate: usize, horizon: usize) -> f64 {
        self.probabilities[candidate * self.horizons + horizon]
    }

    /// The log-odds of that probability: the score that [`super::explain`] accounts for.
    pub fn score(&self, candidate: usize, horizon: usize) -> f64 {
        log_odds_by_horizon(self.hazards(candidate), horizon)
    }

    /// The log-odds of the hazards of candidate `candidate`, one for each interval.
    pub fn hazards(&self, candidate: usize) -> &[f64] {
        &self.hazards[candidate * self.horizons..(candidate + 1) * self.horizons]
    }

    /// How many candidates there are.
    pub fn len(&self) -> usize {
        self.hazards.len().checked_div(self.horizons).unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.hazards.is_empty()
    }
}

impl HazardModel {
    /// Checks the numbers and makes a model of them.
    pub fn new(schema: Schema, parameters: HazardParameters) -> Result<Self, ModelError> {
        let (intervals, width) = (schema.horizons().count(), schema.model_width());
        let HazardParameters { mean, sd, weights, intercepts } = &parameters;
        let shape = |feature: &str, found, expected| {
            if found == expected {
                Ok(())
            } else {
                Err(ModelError::Shape { feature: feature.to_owned(), found, expected })
            }
        };
        shape("intercept", intercepts.len(), intervals)?;
        for table in [mean, sd, weights] {
            shape("features", table.len(), intervals)?;
            for numbers in table {
                shape("features", numbers.len(), width)?;
            }
        }
        if intercepts.iter().any(|b| !b.is_finite()) {
            return Err(ModelError::BadNumber("intercept".into()));
        }
        let mut raw_weights = Vec::with_capacity(intervals);
        let mut raw_intercepts = Vec::with_capacity(intervals);
        for interval in 0..intervals {
            let mut raw = Vec::with_capacity(width);
            let mut intercept = intercepts[interval];
            for (column, name) in schema.names().iter().enumerate() {
                let (m, s, w) = (mean[interval][column], sd[interval][column], weights[interval][column]);
                let weight = w / s;
                if s <= 0.0 || !(m.is_finite() && s.is_finite() && w.is_finite() && weight.is_finite()) {
                    return Err(ModelError::BadNumber(name.clone()));
                }
                raw.push(weight);
                intercept -= weight * m;
            }
            if !intercept.is_finite() {
                return Err(ModelError::BadNumber("intercept".into()));
            }
            raw_weights.push(raw);
            raw_intercepts.push(intercept);
        }
        Ok(Self { schema, parameters, raw_weights, raw_intercepts })
    }

    /// The features that the model reads.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The numbers that make up the model.
    pub fn parameters(&self) -> &HazardParameters {
        &self.parameters
    }

    /// Moves the log-odds of each interval by `shift` (missing entries: not at all), for recalibration.
    #[must_use]
    pub fn with_shifted_intercepts(&self, shift: &[f64]) -> Self {
        let mut shifted = self.clone();
        let intercepts = shifted.parameters.intercepts.iter_mut().zip(&mut shifted.raw_intercepts);
        for ((intercept, raw), by) in intercepts.zip(shift).filter(|(_, by)| by.is_finite()) {
            *intercept += by;
            *raw += by;
        }
        shifted
    }

    /// Adds `by` to the weights of the standardised features, for each interval (what is missing or not finite: not at
    /// all), for what was learned since the weights were fitted.
    #[must_use]
    pub fn with_adjusted_weights(&self, by: &[Vec<f64>]) -> Self {
        let mut adjusted = self.clone();
        for (interval, by) in by.iter().take(self.raw_weights.len()).enumerate() {
            let HazardParameters { mean, sd, weights, .. } = &mut adjusted.parameters;
            for (column, (weight, &by)) in weights[interval].iter_mut().zip(by).enumerate() {
                let raw = by / sd[interval][column];
                if raw.is_finite() {
                    *weight += by;
                    adjusted.raw_weights[interval][column] += raw;
                    adjusted.raw_intercepts[interval] -= raw * mean[interval][column];
                }
            }
        }
        adjusted
    }

    /// The log-odds of the hazard of `interval` for one row of a matrix, as [`HazardModel::predict`] has it but without
    /// bounds.
    pub fn log_odds(&self, row: &[f32], interval: usize) -> f64 {
        self.raw_hazard(row, interval)
    }

    /// Predicts for every row of `matrix`, which must have been assembled with this model's schema.
    pub fn predict(&self, matrix: &FeatureMatrix, predictions: &mut Predictions) {
        let horizons = self.schema.horizons().count();
        predictions.horizons = horizons;
        predictions.hazards.clear();
        predictions.probabilities.clear();
        for row in matrix.rows() {
            let mut log_survival = 0.0;
            for interval in 0..horizons {
                let hazard = self.raw_hazard(row, interval).clamp(LOWEST_LOG_ODDS, HIGHEST_LOG_ODDS);
                predictions.hazards.push(hazard);
                log_survival -= softplus(hazard);
                predictions.probabilities.push(-log_survival.exp_m1());
            }
        }
    }

    /// The log-odds of the hazard of `interval` for a row of the matrix, as the linear model has it.
    pub(super) fn raw_hazard(&self, row: &[f32], interval: usize) -> f64 {
        let weights = &self.raw_weights[interval];
        let (shared, own) = weights.split_at(self.schema.shared_width());
        self.raw_intercepts[interval] + dot(shared, row) + dot(own, self.schema.varying(row, interval))
    }

    /// The log-odds of the hazard of `interval` where nothing is known.
    pub(super) fn raw_intercept(&self, interval: usize) -> f64 {
        self.raw_intercepts[interval]
    }

    /// Calls `account` with every feature's position and its contribution to the log-odds of the hazard.
    pub(super) fn contributions(&self, row: &[f32], interval: usize, mut account: impl FnMut(usize, f64)) {
        let shared = self.schema.shared_width();
        let values = row[..shared].iter().chain(self.schema.varying(row, interval));
        for (column, (weight, &value)) in self.raw_weights[interval].iter().zip(values).enumerate() {
            account(column, weight * f64::from(value));
        }
    }

    /// The hazard's log-odds as far as they are believed.
    pub(super) fn believed(log_odds: f64) -> f64 {
        log_odds.clamp(LOWEST_LOG_ODDS, HIGHEST_LOG_ODDS)
    }
}

/// The log-odds of the probability by `horizon`, from the log-odds of the hazards.
pub(super) fn log_odds_by_horizon(hazards: &[f64], horizon: usize) -> f64 {
    let log_survival = -hazards[..=horizon].iter().map(|&x| softplus(x)).sum::<f64>();
    (-log_survival.exp_m1()).ln() - log_survival
}

/// ln(1 + eˣ) without overflow.
pub(super) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// σ(x) = 1 / (1 + e⁻ˣ).
pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The dot product, in four independent sums, so that the compiler can use vector registers.
fn dot(weights: &[f64], row: &[f32]) -> f64 {
    let mut sums = [0.0_f64; 4];
    let (w, x) = (weights.chunks_exact(4), row.chunks_exact(4));
    let tail: f64 = w.remainder().iter().zip(&row[weights.len() / 4 * 4..]).map(|(w, &x)| w * f64::from(x)).sum();
    for (w, x) in w.zip(x) {
        for lane in 0..4 {
            sums[lane] += w[lane] * f64::from(x[lane]);
        }
    }
    sums.iter().sum::<f64>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Horizons, ItemNo};
    use crate::ranking::{Answered, Candidate, RequestContext, explain};
    use proptest::prelude::*;

    /// A model with the given weights (repeated as needed), standardised by something that is not 0 and 1.
    fn model(seconds: Vec<u32>, weights: &[f64], intercept: f64) -> HazardModel {
        let schema = Schema::new(&Horizons::new(seconds).unwrap());
        let (intervals, width) = (schema.horizons().count(), schema.model_width());
        let table = |first: usize| -> Vec<Vec<f64>> {
            let number = |i: usize, k: usize| weights[(first + i + 7 * k) % weights.len()];
            (0..intervals).map(|k| (0..width).map(|i| number(i, k)).collect()).collect()
        };
        let parameters = HazardParameters {
            mean: table(3),
            sd: vec![vec![2.0; width]; intervals],
            weights: table(0),
            intercepts: (0..intervals).map(|k| intercept - k as f64).collect(),
        };
        HazardModel::new(schema, parameters).unwrap()
    }

    fn matrix(schema: &Schema, scores: &[(f32, f32)]) -> FeatureMatrix {
        let answered =
            Answered { session: true, transition: true, visual: true, trending: true, ..Answered::default() };
        let context = RequestContext { answered, session_length: 3, ..RequestContext::default() };
        let candidates: Vec<Candidate> = scores
            .iter()
            .enumerate()
            .map(|(item, &(a, b))| Candidate {
                session_score: a,
                forward: b,
                transition_within: [b; 8],
                visual: Some(a),
                popularity: 100.0 * b,
                ..Candidate::new(ItemNo(item as u32))
            })
            .collect();
        let mut matrix = FeatureMatrix::default();
        matrix.assemble(schema, &context, &candidates);
        matrix
    }

    fn horizons() -> impl Strategy<Value = Vec<u32>> {
        prop_oneof![Just(vec![15, 30, 60]), Just(vec![5]), Just((1..=8).collect::<Vec<u32>>())]
    }

    proptest! {
        #[test]
        fn probabilities_are_inside_and_grow_and_reasons_sum_to_the_score(
            seconds in horizons(),
            weights in proptest::collection::vec(-8.0_f64..8.0, 1..40),
            intercept in -12.0_f64..6.0,
            scores in proptest::collection::vec((0.0_f32..50.0, 0.0_f32..1.0), 1..6),
        ) {
            let model = model(seconds, &weights, intercept);
            let matrix = matrix(model.schema(), &scores);
            let mut predictions = Predictions::default();
            model.predict(&matrix, &mut predictions);
            prop_assert_eq!(predictions.len(), scores.len());
            for candidate in 0..scores.len() {
                let mut before = 0.0;
                for horizon in 0..model.schema().horizons().count() {
                    let p = predictions.probability(candidate, horizon);
                    prop_assert!(p > 0.0 && p < 1.0 && p >= before, "{p} after {before}");
                    before = p;
                    let score = predictions.score(candidate, horizon);
                    if p < 0.999_999 {
                        prop_assert!((score - (p / (1.0 - p)).ln()).abs() < 1e-6, "the score is the log-odds");
                    }
                    let reasons = explain(&model, &matrix, &predictions, candidate, horizon);
                    prop_assert!((reasons.sum() - score).abs() < 1e-6);
                    prop_assert!(reasons.iter().all(|(_, r)| r.is_finite()));
                }
            }
        }
    }

    #[test]
    fn the_first_horizons_reasons_are_the_plain_contributions() {
        let model = model(vec![15, 30, 60], &[0.3, -0.1, 0.2], -4.0);
        let matrix = matrix(model.schema(), &[(2.0, 0.2)]);
        let mut predictions = Predictions::default();
        model.predict(&matrix, &mut predictions);
        let reasons = explain(&model, &matrix, &predictions, 0, 0);
        let mut session = 0.0;
        model.contributions(matrix.row(0), 0, |column, contribution| {
            if model.schema().groups()[column] == crate::ranking::Group::Session {
                session += contribution;
            }
        });
        assert!((reasons.of(crate::ranking::Group::Session) - session).abs() < 1e-9);
        assert_eq!(reasons.of(crate::ranking::Group::Metadata), 0.0, "no metadata, no reason");
    }

    #[test]
    fn the_quadrature_hardly_needs_its_correction() {
        let ends = [-1.0, -3.0, 0.5];
        let starts = [-6.0, -5.0, -7.0];
        let slopes = super::super::explain::mean_slopes(&starts, &ends);
        let found: f64 = slopes.iter().zip(starts.iter().zip(&ends)).map(|(s, (a, b))| s * (b - a)).sum();
        let moved = log_odds_by_horizon(&ends, 2) - log_odds_by_horizon(&starts, 2);
        assert!((found - moved).abs() < 1e-6, "{found} for {moved}");
    }

    #[test]
    fn shifts_move_the_log_odds() {
        let model = model(vec![15, 30, 60], &[0.1], -4.0);
        let matrix = matrix(model.schema(), &[(1.0, 0.1)]);
        let (mut before, mut after) = (Predictions::default(), Predictions::default());
        model.predict(&matrix, &mut before);
        model.with_shifted_intercepts(&[0.5, f64::NAN]).predict(&matrix, &mut after);
        assert!((after.hazards(0)[0] - before.hazards(0)[0] - 0.5).abs() < 1e-9);
        assert_eq!(after.hazards(0)[1..], before.hazards(0)[1..]);
    }

    #[test]
    fn adjusted_weights_are_those_of_a_model_made_with_them() {
        let model = model(vec![15, 30, 60], &[0.3, -0.1, 0.2], -4.0);
        let mut parameters = model.parameters().clone();
        parameters.weights[1][3] += 0.25;
        let made = HazardModel::new(model.schema().clone(), parameters).unwrap();
        let mut by = vec![vec![0.0; model.schema().model_width()]; 2];
        by[1][3] = 0.25;
        by[0][0] = f64::NAN;
        let adjusted = model.with_adjusted_weights(&by);
        assert_eq!(adjusted.parameters(), made.parameters());
        let matrix = matrix(model.schema(), &[(2.0, 0.2)]);
        for interval in 0..3 {
            let (one, other) = (adjusted.log_odds(matrix.row(0), interval), made.log_odds(matrix.row(0), interval));
            assert!((one - other).abs() < 1e-9);
        }
    }

    #[test]
    fn numbers_that_are_no_model_are_refused() {
        let good = model(vec![15, 30, 60], &[0.1], -4.0);
        let refused = |change: &dyn Fn(&mut HazardParameters)| {
            let mut parameters = good.parameters().clone();
            change(&mut parameters);
            HazardModel::new(good.schema().clone(), parameters).unwrap_err()
        };
        assert!(matches!(refused(&|p| p.sd[1][0] = 0.0), ModelError::BadNumber(name) if name == "session_known"));
        assert!(matches!(refused(&|p| p.weights[2][1] = f64::NAN), ModelError::BadNumber(_)));
        assert!(matches!(refused(&|p| p.intercepts[0] = f64::INFINITY), ModelError::BadNumber(_)));
        assert!(matches!(refused(&|p| p.intercepts.truncate(2)), ModelError::Shape { found: 2, expected: 3, .. }));
    }
}
