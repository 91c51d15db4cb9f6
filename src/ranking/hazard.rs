//! How likely is an engagement with each candidate, and by when? Discrete-time hazards, in two stages.
//!
//! The horizons cut time into intervals. The hazard of an interval, `λ = σ(x)` with `x` linear in the features, is the
//! chance of an engagement in it, given none before. The chance of one by a horizon is `1 − Π (1 − λ)` over the
//! intervals up to it, which can only grow with the horizon. (Discrete-time survival analysis by logistic regression:
//! Singer & Willett 1993.)
//!
//! The linear hazards order all candidates, and only the best of them stay in contention. A [`Forest`], if the model has
//! one, then moves their log-odds.

use super::features::FeatureMatrix;
use super::fit::Examples;
use super::forest::Forest;
use super::schema::{Group, Schema};
use crate::domain::{dot, dot_rows_each};

/// A hazard beyond this log-odds (98 %) is not believed; keeps probabilities below 1 for any features.
const HIGHEST_LOG_ODDS: f64 = 4.0;

/// A hazard below this log-odds is as good as this one; keeps probabilities above 0.
const LOWEST_LOG_ODDS: f64 = -30.0;

/// How many candidates stay in contention, at least: more than any list that is usually asked for.
const CONTENDERS: usize = 64;

/// A hazard for each interval: linear in the features, corrected by a forest.
#[derive(Debug, Clone, PartialEq)]
pub struct HazardModel {
    schema: Schema,
    parameters: HazardParameters,
    forest: Option<Forest>,
    /// For each interval, the weights on the features as they are, not standardised. Single precision is far finer than
    /// what can be learned, and twice as fast.
    raw_weights: Vec<Vec<f32>>,
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
    /// A tree does not fit.
    #[error("tree {number} of the ranking weights is not usable: {reason}")]
    Tree {
        /// Which one, from 1.
        number: usize,
        /// Why.
        reason: &'static str,
    },
}

/// What a model predicts for the candidates of a request. Keep it and predict into it again.
#[derive(Debug, Clone, Default)]
pub struct Predictions {
    /// Candidates × intervals: log-odds of the hazards, in the believed range.
    hazards: Vec<f64>,
    horizons: usize,
    /// The candidates in contention, in the order of the rows.
    contenders: Vec<u32>,
    /// Contenders × horizons: the logarithm of the chance of no engagement by the horizon.
    log_survivals: Vec<f64>,
    /// Working memory for choosing them.
    order: Vec<(f32, u32)>,
    /// For each interval, its weights on a padded row.
    weights: Vec<f32>,
    /// Candidates × intervals: products of weights and rows.
    products: Vec<f32>,
}

impl Predictions {
    /// The probability of an engagement with candidate `candidate` by horizon number `horizon`; in (0, 1).
    pub fn probability(&self, candidate: usize, horizon: usize) -> f64 {
        let log_survival = -self.hazards(candidate)[..=horizon].iter().map(|&x| softplus(x)).sum::<f64>();
        -log_survival.exp_m1()
    }

    /// The log-odds of that probability: the score that [`super::explain`] accounts for.
    pub fn score(&self, candidate: usize, horizon: usize) -> f64 {
        log_odds_by_horizon(self.hazards(candidate), horizon)
    }

    /// The log-odds of the hazards of candidate `candidate`, one for each interval.
    pub fn hazards(&self, candidate: usize) -> &[f64] {
        &self.hazards[candidate * self.horizons..(candidate + 1) * self.horizons]
    }

    /// The candidates that went through all stages: the only ones whose probabilities are comparable.
    pub fn contenders(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.contenders.iter().map(|&candidate| candidate as usize)
    }

    /// The contenders with the chance, as a logarithm, that there is no engagement with them by horizon number `horizon`:
    /// the lower, the likelier an engagement.
    pub(super) fn log_survivals(&self, horizon: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        let survivals = self.log_survivals.iter().skip(horizon).step_by(self.horizons.max(1));
        self.contenders().zip(survivals.copied())
    }

    /// How many candidates there are.
    pub fn len(&self) -> usize {
        self.hazards.len().checked_div(self.horizons).unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.hazards.is_empty()
    }

    /// Keeps the best candidates by the linear hazards in contention: the best `count` by the first horizon and by the last.
    fn choose(&mut self, count: usize) {
        let Self { hazards, horizons, contenders, order, .. } = self;
        contenders.clear();
        let candidates = hazards.len() / *horizons;
        if candidates <= count {
            contenders.extend(0..candidates as u32);
            return;
        }
        // Hazards are small: their sum orders like the probability that they make up.
        let rate = |x: f64| if x > 0.0 { 1.0 + x as f32 } else { (x as f32).exp() };
        for intervals in [*horizons, 1] {
            order.clear();
            let sums = hazards.chunks_exact(*horizons).map(|x| x[..intervals].iter().map(|&x| rate(x)).sum::<f32>());
            order.extend(sums.zip(0..));
            order.select_nth_unstable_by(count - 1, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            contenders.extend(order[..count].iter().map(|&(_, candidate)| candidate));
        }
        contenders.sort_unstable();
        contenders.dedup();
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
                if s <= 0.0 || !(m.is_finite() && s.is_finite() && w.is_finite() && (weight as f32).is_finite()) {
                    return Err(ModelError::BadNumber(name.clone()));
                }
                let weight = weight as f32;
                raw.push(weight);
                intercept -= f64::from(weight) * m;
            }
            if !intercept.is_finite() {
                return Err(ModelError::BadNumber("intercept".into()));
            }
            raw_weights.push(raw);
            raw_intercepts.push(intercept);
        }
        Ok(Self { schema, parameters, forest: None, raw_weights, raw_intercepts })
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

    /// Moves the log-odds of each interval away from `pivot` by the share `tilt` of their distance (towards it, if below 0;
    /// missing entries: not at all), for recalibration. What they say of the order of candidates stays.
    #[must_use]
    pub fn with_tilted_log_odds(&self, tilt: &[f64], pivot: f64) -> Self {
        let mut tilted = self.clone();
        let mut factors = vec![1.0; self.raw_weights.len()];
        let sane = tilt.iter().enumerate().take(factors.len()).filter(|(_, by)| by.is_finite() && **by > -1.0);
        for (interval, by) in sane {
            let factor = 1.0 + by;
            factors[interval] = factor;
            let HazardParameters { weights, intercepts, .. } = &mut tilted.parameters;
            weights[interval].iter_mut().for_each(|weight| *weight *= factor);
            tilted.raw_weights[interval].iter_mut().for_each(|weight| *weight *= factor as f32);
            intercepts[interval] = intercepts[interval] * factor - by * pivot;
            tilted.raw_intercepts[interval] = tilted.raw_intercepts[interval] * factor - by * pivot;
        }
        tilted.forest = tilted.forest.map(|forest| forest.scaled(&factors));
        tilted
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
                    let raw = raw as f32;
                    adjusted.raw_weights[interval][column] += raw;
                    adjusted.raw_intercepts[interval] -= f64::from(raw) * mean[interval][column];
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

    /// The same linear hazards with `forest`, which must read this model's rows, or with none.
    pub fn with_forest(&self, forest: Option<Forest>) -> Result<Self, ModelError> {
        let intervals = self.schema.horizons().count();
        let forest = match forest.filter(|forest| !forest.trees().is_empty()) {
            Some(forest) => Some(Forest::new(forest.trees().to_vec(), intervals, self.schema.row_width())?),
            None => None,
        };
        Ok(Self { forest, ..self.clone() })
    }

    /// The first stage alone.
    #[must_use]
    pub fn linear(&self) -> Self {
        Self { forest: None, ..self.clone() }
    }

    /// The second stage, if there is one.
    pub fn forest(&self) -> Option<&Forest> {
        self.forest.as_ref()
    }

    /// Predicts for every row of `matrix`, which must have been assembled with this model's schema. The best candidates,
    /// enough for lists of `count`, are in contention.
    pub fn predict_for(&self, matrix: &FeatureMatrix, count: usize, predictions: &mut Predictions) {
        let horizons = self.schema.horizons().count();
        predictions.horizons = horizons;
        self.linear_hazards(matrix, predictions);
        predictions.choose(count.max(CONTENDERS));
        if let Some(forest) = &self.forest {
            for &candidate in &predictions.contenders {
                let candidate = candidate as usize;
                let hazards = &mut predictions.hazards[candidate * horizons..(candidate + 1) * horizons];
                forest.add(matrix.row(candidate), hazards);
            }
        }
        predictions.hazards.iter_mut().for_each(|x| *x = Self::believed(*x));
        predictions.log_survivals.clear();
        for &candidate in &predictions.contenders {
            let mut log_survival = 0.0;
            for &x in &predictions.hazards[candidate as usize * horizons..][..horizons] {
                log_survival -= softplus(x);
                predictions.log_survivals.push(log_survival);
            }
        }
    }

    /// The log-odds of the hazards of all rows, as the linear model has them, into `predictions`.
    fn linear_hazards(&self, matrix: &FeatureMatrix, predictions: &mut Predictions) {
        let (rows, stride) = matrix.padded();
        let Predictions { hazards, weights, products, .. } = predictions;
        hazards.clear();
        if rows.is_empty() {
            return;
        }
        let shared = self.schema.shared_width();
        weights.clear();
        for (interval, raw) in self.raw_weights.iter().enumerate() {
            // As wide as a row: zeros where other intervals have what is their own.
            let (start, own) = (weights.len(), raw.len() - shared);
            weights.resize(start + stride, 0.0);
            let row = &mut weights[start..];
            row[..shared].copy_from_slice(&raw[..shared]);
            row[shared + interval * own..][..own].copy_from_slice(&raw[shared..]);
        }
        products.clear();
        dot_rows_each(rows, weights, stride, products);
        for products in products.chunks_exact(self.raw_weights.len()) {
            hazards
                .extend(self.raw_intercepts.iter().zip(products).map(|(intercept, &sum)| intercept + f64::from(sum)));
        }
    }

    /// As [`Self::predict_for`] lists of the usual length.
    pub fn predict(&self, matrix: &FeatureMatrix, predictions: &mut Predictions) {
        self.predict_for(matrix, 0, predictions);
    }

    /// Examples × intervals: the log-odds that this model gives the hazards, all stages, not cut to the believed range.
    pub fn log_odds_of(&self, examples: &Examples) -> Vec<f64> {
        let horizons = self.schema.horizons().count();
        let mut all = Vec::with_capacity(examples.len() * horizons);
        for index in 0..examples.len() {
            self.log_odds_into(examples.row(index), &mut all);
        }
        all
    }

    /// Appends the log-odds of the hazards of a row of the matrix, all stages, not cut to the believed range.
    pub(super) fn log_odds_into(&self, row: &[f32], all: &mut Vec<f64>) {
        let start = all.len();
        all.extend((0..self.schema.horizons().count()).map(|interval| self.linear_hazard(row, interval)));
        if let Some(forest) = &self.forest {
            forest.add(row, &mut all[start..]);
        }
    }

    /// The log-odds of the hazard of `interval` for a row of the matrix, all stages.
    pub(super) fn raw_hazard(&self, row: &[f32], interval: usize) -> f64 {
        let mut corrections = vec![0.0; self.schema.horizons().count()];
        if let Some(forest) = &self.forest {
            forest.add(row, &mut corrections);
        }
        self.linear_hazard(row, interval) + corrections[interval]
    }

    /// The log-odds of the hazard of `interval` for a row of the matrix, as the linear model has it.
    pub(super) fn linear_hazard(&self, row: &[f32], interval: usize) -> f64 {
        let weights = &self.raw_weights[interval];
        let (shared, own) = weights.split_at(self.schema.shared_width());
        // These are too few to be worth a call.
        let varying: f32 = own.iter().zip(self.schema.varying(row, interval)).map(|(w, x)| w * x).sum();
        self.raw_intercepts[interval] + f64::from(dot(shared, row) + varying)
    }

    /// The log-odds of the hazard of `interval` where nothing is known.
    pub(super) fn raw_intercept(&self, interval: usize) -> f64 {
        self.raw_intercepts[interval] + self.forest.as_ref().map_or(0.0, |forest| forest.at_zero(interval))
    }

    /// Calls `account` with groups and what their features contribute to the log-odds of the hazard, piece by piece.
    pub(super) fn contributions(&self, row: &[f32], interval: usize, mut account: impl FnMut(Group, f64)) {
        let shared = self.schema.shared_width();
        let values = row[..shared].iter().chain(self.schema.varying(row, interval));
        for (column, (&weight, &value)) in self.raw_weights[interval].iter().zip(values).enumerate() {
            account(self.schema.groups()[column], f64::from(weight) * f64::from(value));
        }
        if let Some(forest) = &self.forest {
            forest.contributions(row, interval, |column, value| account(self.schema.row_groups()[column], value));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Horizons, ItemNo};
    use crate::ranking::{Answered, Candidate, RequestContext, Split, Tree, explain};
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

    fn forest(schema: &Schema) -> Forest {
        let tree = |columns: [usize; 3]| {
            let splits = columns.map(|column| Split { column, above: 0.3 }).to_vec();
            let leaves = (0..8 * schema.horizons().count()).map(|n| (n as f32 * 1.7).sin()).collect();
            Tree { splits, leaves }
        };
        Forest::new(vec![tree([0, 1, 2]), tree([1, 3, 1])], schema.horizons().count(), schema.row_width()).unwrap()
    }

    #[test]
    fn tilted_log_odds_turn_about_the_pivot() {
        let linear = model(vec![15, 30, 60], &[0.3, 0.2], -4.0);
        let both = linear.with_forest(Some(forest(linear.schema()))).unwrap();
        let tilted = both.with_tilted_log_odds(&[0.5, f64::NAN, -0.25], -3.0);
        let matrix = matrix(linear.schema(), &[(0.0, 0.0), (1.5, 0.2), (9.0, -1.0)]);
        for row in matrix.rows() {
            for (interval, tilt) in [0.5, 0.0, -0.25].into_iter().enumerate() {
                let before = both.log_odds(row, interval);
                let expected = before + tilt * (before + 3.0);
                assert!((tilted.log_odds(row, interval) - expected).abs() < 1e-4, "{expected}");
            }
        }
        let at_zero = |model: &HazardModel, k| model.raw_intercept(k);
        assert!((at_zero(&tilted, 0) - (1.5 * at_zero(&both, 0) + 1.5)).abs() < 1e-6);
    }

    #[test]
    fn the_forest_decides_among_the_best() {
        let linear = model(vec![15, 30, 60], &[0.3, 0.2], -4.0);
        let scores: Vec<(f32, f32)> = (0..300).map(|n| (n as f32 / 10.0, 0.0)).collect();
        let matrix = matrix(linear.schema(), &scores);
        let (mut before, mut after) = (Predictions::default(), Predictions::default());
        linear.predict(&matrix, &mut before);
        assert_eq!((before.len(), before.contenders().len()), (300, 64), "all horizons agree who is best");
        let both = linear.with_forest(Some(forest(linear.schema()))).unwrap();
        both.predict(&matrix, &mut after);
        let contenders: Vec<usize> = after.contenders().collect();
        assert!((64..=128).contains(&contenders.len()));
        let best = crate::ranking::order(matrix.items(), &before, 2, usize::MAX);
        assert!(best[..64].iter().all(|ranked| contenders.contains(&ranked.candidate)));
        assert_eq!(crate::ranking::order(matrix.items(), &after, 0, usize::MAX).len(), contenders.len());
        assert_eq!(contenders, before.contenders().collect::<Vec<_>>());
        for candidate in 0..300 {
            let moved = after.hazards(candidate) != before.hazards(candidate);
            assert_eq!(moved, contenders.contains(&candidate), "{candidate}");
        }
        both.predict_for(&matrix, 200, &mut after);
        assert!(after.contenders().len() >= 200);
    }

    proptest! {
        #[test]
        fn probabilities_are_inside_and_grow_and_reasons_sum_to_the_score(
            seconds in horizons(),
            weights in proptest::collection::vec(-8.0_f64..8.0, 1..40),
            intercept in -12.0_f64..6.0,
            scores in proptest::collection::vec((0.0_f32..50.0, 0.0_f32..1.0), 1..6),
            with_trees in any::<bool>(),
        ) {
            let model = model(seconds, &weights, intercept);
            let forest = with_trees.then(|| forest(model.schema()));
            let model = model.with_forest(forest).unwrap();
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
        model.contributions(matrix.row(0), 0, |group, contribution| {
            if group == crate::ranking::Group::Session {
                session += contribution;
            }
        });
        assert!((reasons.of(crate::ranking::Group::Session) - session).abs() < 1e-5, "but for single precision");
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
