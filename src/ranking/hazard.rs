//! How likely is an engagement with each candidate, and by when? Discrete-time hazards.
//!
//! The horizons cut time into intervals. Interval `q` has a hazard λ_q = σ(x_q), x_q linear in the features: the chance
//! of an engagement in it, given none before. The chance of one by horizon `k` is 1 − Π_{q ≤ k} (1 − λ_q), which can
//! only grow with the horizon. (Discrete-time survival analysis by logistic regression: Singer & Willett 1993.)

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
