//! Why does an item have its score? Additive reasons that sum to the log-odds of its probability.
//!
//! The log-odds of a hazard are linear in the features, so each feature's contribution is plain. Those of the
//! probability by a later horizon are not: there, each interval's contributions are weighted by how much the score
//! changes with that interval's log-odds, averaged on the straight way from "nothing known" to the candidate. This is
//! the Aumann–Shapley value (integrated gradients: Sundararajan, Taly, Yan 2017); its parts sum to the difference of
//! the ends, and a feature of which nothing is known gets nothing. For the first horizon it is the plain contribution.

use super::features::FeatureMatrix;
use super::hazard::{HazardModel, Predictions, log_odds_by_horizon, sigmoid, softplus};
use super::schema::Group;

/// Nodes and weights of Gauss–Legendre quadrature on (0, 1), eight points.
const NODES: [(f64, f64); 8] = [
    (0.019_855_071_751_232, 0.050_614_268_145_188),
    (0.101_666_761_293_187, 0.111_190_517_226_687),
    (0.237_233_795_041_836, 0.156_853_322_938_944),
    (0.408_282_678_752_175, 0.181_341_891_689_181),
    (0.591_717_321_247_825, 0.181_341_891_689_181),
    (0.762_766_204_958_164, 0.156_853_322_938_944),
    (0.898_333_238_706_813, 0.111_190_517_226_687),
    (0.980_144_928_248_768, 0.050_614_268_145_188),
];

/// Contributions to a score by group; they sum to it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reasons {
    by_group: [f64; Group::ALL.len()],
}

impl Reasons {
    /// What `group` contributes to the log-odds.
    pub fn of(&self, group: Group) -> f64 {
        self.by_group[group.index()]
    }

    /// Every group that contributes anything, with its contribution.
    pub fn iter(&self) -> impl Iterator<Item = (Group, f64)> + '_ {
        Group::ALL.into_iter().map(|group| (group, self.of(group))).filter(|&(_, contribution)| contribution != 0.0)
    }

    /// The sum of all contributions: the score.
    pub fn sum(&self) -> f64 {
        self.by_group.iter().sum()
    }
}

/// Explains the score of candidate `candidate` for horizon number `horizon`.
///
/// `predictions` must be `model`'s for `matrix`. The reasons sum to [`Predictions::score`] but for rounding.
pub fn explain(
    model: &HazardModel,
    matrix: &FeatureMatrix,
    predictions: &Predictions,
    candidate: usize,
    horizon: usize,
) -> Reasons {
    let row = matrix.row(candidate);
    let ends = predictions.hazards(candidate);
    let starts: Vec<f64> = (0..=horizon).map(|q| HazardModel::believed(model.raw_intercept(q))).collect();
    let slopes = mean_slopes(&starts, &ends[..=horizon]);
    let start_score = log_odds_by_horizon(&starts, horizon);
    let moved = log_odds_by_horizon(ends, horizon) - start_score;

    let mut reasons = Reasons::default();
    for (interval, slope) in slopes.iter().enumerate() {
        let way = model.raw_hazard(row, interval) - model.raw_intercept(interval);
        let believed_way = ends[interval] - starts[interval];
        // Where the believed range cuts the way short, every contribution is cut by the same factor.
        let scale = if way.abs() > 1e-12 { slope * believed_way / way } else { *slope };
        model.contributions(row, interval, |group, contribution| {
            reasons.by_group[group.index()] += scale * contribution;
        });
    }
    // The quadrature is not exact for far-away candidates: what it misses is spread in proportion.
    let found = reasons.sum();
    let size: f64 = reasons.by_group.iter().map(|r| r.abs()).sum();
    if size > 0.0 {
        for reason in &mut reasons.by_group {
            *reason += (moved - found) * reason.abs() / size;
        }
    }
    reasons.by_group[Group::Baseline.index()] += start_score + moved - reasons.sum();
    reasons
}

/// The mean, on the straight way from `starts` to `ends`, of the score's derivative by each interval's log-odds.
pub(super) fn mean_slopes(starts: &[f64], ends: &[f64]) -> Vec<f64> {
    if starts.len() == 1 {
        return vec![1.0];
    }
    let mut slopes = vec![0.0; starts.len()];
    for (at, weight) in NODES {
        let here = |q: usize| starts[q] + at * (ends[q] - starts[q]);
        let log_survival = -(0..starts.len()).map(|q| softplus(here(q))).sum::<f64>();
        let probability = -log_survival.exp_m1();
        for (q, slope) in slopes.iter_mut().enumerate() {
            // d logit P / d x_q = λ_q S / (P (1 − P)) = λ_q / P, as S = 1 − P.
            *slope += weight * sigmoid(here(q)) / probability;
        }
    }
    slopes
}
