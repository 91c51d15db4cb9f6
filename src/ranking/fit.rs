//! Which weights explain what happened? Batch fit of the hazards from examples.
//!
//! For each interval a logistic regression over the examples still at risk when it opens (not engaged before), by
//! Newton's method (iteratively reweighted least squares) with an L2 penalty on the standardised weights, not on the
//! intercept. Then once more, with each interval drawn towards what suits all of them. Deterministic, whatever the number of
//! threads.

use rayon::prelude::*;

use super::hazard::{HazardModel, HazardParameters, ModelError, sigmoid, softplus};
use super::schema::Schema;

/// Examples are summed up in blocks of this size, and the blocks in order: the result does not depend on threads.
const BLOCK: usize = 4_096;

/// A feature that varies less than this is left out.
const LEAST_SD: f64 = 1e-6;

/// How to fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FitOptions {
    /// Penalty: half of this times the sum of squared standardised weights is added to the (weighted) log loss.
    pub l2: f64,
    /// How strongly the weights of the intervals are drawn towards what suits all of them: half of this times the sum of
    /// squared differences is added, too. Most intervals have few engagements to learn from, and what draws people is much
    /// the same in all of them.
    pub pooling: f64,
    /// At most this many Newton steps an interval.
    pub max_steps: usize,
    /// Done when no weight moves by more than this.
    pub tolerance: f64,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self { l2: 5.0, pooling: 500.0, max_steps: 30, tolerance: 1e-5 }
    }
}

/// Candidates of past decision points and what became of them.
#[derive(Debug, Clone)]
pub struct Examples {
    schema: Schema,
    rows: Vec<f32>,
    /// The interval in which the engagement came; the number of intervals if none did.
    outcomes: Vec<u8>,
    weights: Vec<f32>,
}

/// How a fit went, for each interval.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FitReport {
    /// Examples at risk.
    pub at_risk: Vec<usize>,
    /// Engagements among them.
    pub engagements: Vec<usize>,
    /// Newton steps taken.
    pub steps: Vec<usize>,
    /// Mean (weighted) log loss at the end.
    pub log_loss: Vec<f64>,
    /// The same of a model that knows nothing but how often engagements come.
    pub intercept_log_loss: Vec<f64>,
}

/// How far a fit is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FitStep {
    /// The interval, from 0.
    pub interval: usize,
    /// Newton steps taken in it.
    pub step: usize,
    /// Mean (weighted) log loss after it, with the penalty.
    pub loss: f64,
}

/// Why nothing was learned.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FitError {
    /// An interval has no engagement, or nothing but engagements.
    #[error("interval {interval} has {engagements} engagements in {at_risk} examples; both outcomes are needed")]
    OneSided {
        /// Which one, from 0.
        interval: usize,
        /// Engagements in it.
        engagements: usize,
        /// Examples at risk in it.
        at_risk: usize,
    },
    /// The equations have no solution in finite numbers.
    #[error("the fit of interval {0} did not stay finite")]
    Diverged(usize),
    /// The numbers found are no model.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Examples {
    /// No examples yet.
    pub fn new(schema: &Schema) -> Self {
        Self { schema: schema.clone(), rows: Vec::new(), outcomes: Vec::new(), weights: Vec::new() }
    }

    /// Adds an example: a row of a feature matrix, after how many seconds the person engaged with the item (`None`
    /// or later than the last horizon: not at all), and how many examples it stands for. Rows of the wrong width and
    /// weights that are not above 0 are passed over.
    pub fn push(&mut self, row: &[f32], engaged_after_s: Option<f64>, weight: f32) {
        if row.len() != self.schema.row_width() || !weight.is_finite() || weight <= 0.0 {
            return;
        }
        let horizons = self.schema.horizons();
        let outcome = engaged_after_s.and_then(|lag_s| horizons.interval(lag_s)).unwrap_or(horizons.count());
        self.rows.extend_from_slice(row);
        self.outcomes.push(outcome as u8);
        self.weights.push(weight);
    }

    /// Adds all of `other`, which must have the same schema, each weighing `factor` times as much.
    pub fn append(&mut self, other: &Self, factor: f32) {
        if other.schema == self.schema && factor.is_finite() && factor > 0.0 {
            self.rows.extend_from_slice(&other.rows);
            self.outcomes.extend_from_slice(&other.outcomes);
            self.weights.extend(other.weights.iter().map(|w| w * factor));
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }

    /// The schema of the rows.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The sum of the weights.
    pub fn total_weight(&self) -> f64 {
        self.weights.iter().map(|&w| f64::from(w)).sum()
    }

    /// The features of one.
    pub(super) fn row(&self, index: usize) -> &[f32] {
        let width = self.schema.row_width();
        &self.rows[index * width..(index + 1) * width]
    }

    /// The interval in which the engagement came; the number of intervals if none did.
    pub(super) fn outcome(&self, index: usize) -> usize {
        usize::from(self.outcomes[index])
    }

    /// How many examples it stands for.
    pub(super) fn weight(&self, index: usize) -> f32 {
        self.weights[index]
    }
}

/// Fits a model to `examples`.
pub fn fit(examples: &Examples, options: &FitOptions) -> Result<(HazardModel, FitReport), FitError> {
    fit_with_progress(examples, options, &mut |_| {})
}

/// Fits a model to `examples`; `progress` hears of every step.
pub fn fit_with_progress(
    examples: &Examples,
    options: &FitOptions,
    progress: &mut dyn FnMut(FitStep),
) -> Result<(HazardModel, FitReport), FitError> {
    let schema = &examples.schema;
    let intervals = schema.horizons().count();
    let mut report = FitReport::default();
    let mut parameters = HazardParameters { mean: vec![], sd: vec![], weights: vec![], intercepts: vec![] };
    let mut sets = Vec::with_capacity(intervals);
    for interval in 0..intervals {
        let at_risk: Vec<u32> = (0..examples.len() as u32)
            .filter(|&index| usize::from(examples.outcomes[index as usize]) >= interval)
            .collect();
        let engaged = |index: u32| usize::from(examples.outcomes[index as usize]) == interval;
        let engagements = at_risk.iter().filter(|&&index| engaged(index)).count();
        if engagements == 0 || engagements == at_risk.len() {
            return Err(FitError::OneSided { interval, engagements, at_risk: at_risk.len() });
        }
        report.at_risk.push(at_risk.len());
        report.engagements.push(engagements);
        let (mean, sd) = standardisation(examples, &at_risk, interval);
        sets.push((at_risk, mean, sd));
    }
    let mut problems: Vec<Problem<'_>> = sets
        .iter()
        .enumerate()
        .map(|(interval, (at_risk, mean, sd))| Problem {
            examples,
            at_risk,
            interval,
            mean,
            sd,
            l2: options.l2,
            centre: vec![0.0; mean.len()],
            pull: 0.0,
        })
        .collect();
    let mut solutions =
        problems.iter().map(|problem| problem.solve(None, options, progress)).collect::<Result<Vec<_>, FitError>>()?;
    if options.pooling > 0.0 && intervals > 1 {
        let centre = pooled(&solutions);
        for (problem, solution) in problems.iter_mut().zip(&mut solutions) {
            (problem.centre, problem.pull) = (centre.clone(), options.pooling);
            let pooled = problem.solve(Some(&solution.weights), options, progress)?;
            let Solution { steps, intercept_log_loss, .. } = *solution;
            *solution = Solution { steps: steps + pooled.steps, intercept_log_loss, ..pooled };
        }
    }
    for ((_, mean, sd), solution) in sets.into_iter().zip(solutions) {
        report.steps.push(solution.steps);
        report.log_loss.push(solution.log_loss);
        report.intercept_log_loss.push(solution.intercept_log_loss);
        let (intercept, weights) = solution.weights.split_last().map(|(b, w)| (*b, w.to_vec())).unwrap_or_default();
        parameters.mean.push(mean);
        parameters.sd.push(sd.iter().map(|&s| if s < LEAST_SD { 1.0 } else { s }).collect());
        parameters.weights.push(weights);
        parameters.intercepts.push(intercept);
    }
    Ok((HazardModel::new(schema.clone(), parameters)?, report))
}

/// The weights that suit all intervals best, as far as their losses are quadratic about their own solutions: the mean of
/// these, each as much as the curvature of its loss. Intercepts stay the intervals' own, and are left out.
fn pooled(solutions: &[Solution]) -> Vec<f64> {
    let size = solutions.first().map_or(0, |solution| solution.weights.len());
    let (mut curvature, mut pulls) = (vec![0.0; size * size], vec![0.0; size]);
    for solution in solutions {
        let curved = |row: usize, column: usize| solution.hessian[row.max(column) * size + row.min(column)];
        for row in 0..size {
            for column in 0..size {
                curvature[row * size + column] += curved(row, column);
                pulls[row] += curved(row, column) * solution.weights[column];
            }
        }
    }
    let mut centre = solve_positive_definite(&curvature, &pulls).unwrap_or_else(|| vec![0.0; size]);
    centre.truncate(size.saturating_sub(1));
    centre
}

/// One interval's regression. The intercept is the last weight.
struct Problem<'a> {
    examples: &'a Examples,
    at_risk: &'a [u32],
    interval: usize,
    mean: &'a [f64],
    sd: &'a [f64],
    l2: f64,
    /// The weights are drawn to this point, too, this strongly.
    centre: Vec<f64>,
    pull: f64,
}

struct Solution {
    weights: Vec<f64>,
    hessian: Vec<f64>,
    steps: usize,
    log_loss: f64,
    intercept_log_loss: f64,
}

/// Loss, gradient and (lower triangle of the) Hessian at some weights.
struct Local {
    loss: f64,
    gradient: Vec<f64>,
    hessian: Vec<f64>,
}

impl Problem<'_> {
    fn solve(
        &self,
        start: Option<&[f64]>,
        options: &FitOptions,
        progress: &mut dyn FnMut(FitStep),
    ) -> Result<Solution, FitError> {
        let size = self.mean.len() + 1;
        let total: f64 = self.at_risk.iter().map(|&i| f64::from(self.examples.weights[i as usize])).sum();
        let mut weights = vec![0.0; size];
        weights[size - 1] = self.prior_log_odds(total);
        if let Some(start) = start {
            weights.copy_from_slice(start);
        }
        let mut here = self.local(&weights);
        // Where all weights are 0 there is no penalty in it.
        let intercept_log_loss = here.loss / total;
        let mut steps = 0;
        while steps < options.max_steps {
            steps += 1;
            let Some(step) = solve_positive_definite(&here.hessian, &here.gradient) else {
                return Err(FitError::Diverged(self.interval));
            };
            // Newton may overshoot far from the solution: halve the step until the loss falls.
            let mut share = 1.0;
            let (next, there) = loop {
                let next: Vec<f64> = weights.iter().zip(&step).map(|(w, s)| w - share * s).collect();
                let there = self.local(&next);
                if there.loss <= here.loss || share < 1e-6 {
                    break (next, there);
                }
                share *= 0.5;
            };
            if next.iter().any(|w| !w.is_finite()) || !there.loss.is_finite() {
                return Err(FitError::Diverged(self.interval));
            }
            let moved = step.iter().fold(0.0_f64, |most, s| most.max((share * s).abs()));
            (weights, here) = (next, there);
            progress(FitStep { interval: self.interval, step: steps, loss: here.loss / total });
            if moved < options.tolerance {
                break;
            }
        }
        let log_loss = self.data_loss(&weights, here.loss) / total;
        Ok(Solution { log_loss, weights, hessian: here.hessian, steps, intercept_log_loss })
    }

    fn data_loss(&self, weights: &[f64], loss: f64) -> f64 {
        loss - weights.iter().zip(&self.centre).map(|(w, c)| self.penalty(*w, *c)).sum::<f64>()
    }

    fn penalty(&self, weight: f64, centre: f64) -> f64 {
        0.5 * self.l2 * weight * weight + 0.5 * self.pull * (weight - centre).powi(2)
    }

    fn prior_log_odds(&self, total: f64) -> f64 {
        let engaged: f64 = self
            .at_risk
            .iter()
            .filter(|&&i| usize::from(self.examples.outcomes[i as usize]) == self.interval)
            .map(|&i| f64::from(self.examples.weights[i as usize]))
            .sum();
        let rate = (engaged / total).clamp(1e-9, 1.0 - 1e-9);
        (rate / (1.0 - rate)).ln()
    }

    fn local(&self, weights: &[f64]) -> Local {
        let size = weights.len();
        let blocks: Vec<Local> = self.at_risk.par_chunks(BLOCK).map(|block| self.block(block, weights)).collect();
        let mut sum = Local { loss: 0.0, gradient: vec![0.0; size], hessian: vec![0.0; size * size] };
        for block in blocks {
            sum.loss += block.loss;
            sum.gradient.iter_mut().zip(block.gradient).for_each(|(s, b)| *s += b);
            sum.hessian.iter_mut().zip(block.hessian).for_each(|(s, b)| *s += b);
        }
        for (column, (weight, centre)) in weights.iter().zip(&self.centre).enumerate() {
            sum.loss += self.penalty(*weight, *centre);
            sum.gradient[column] += self.l2 * weight + self.pull * (weight - centre);
            // A feature that never varies has nothing but zeros here; the floor keeps its weight at 0.
            sum.hessian[column * size + column] += (self.l2 + self.pull).max(1e-9);
        }
        sum
    }

    fn block(&self, block: &[u32], weights: &[f64]) -> Local {
        let size = weights.len();
        let mut local = Local { loss: 0.0, gradient: vec![0.0; size], hessian: vec![0.0; size * size] };
        let mut z = vec![1.0; size];
        for &index in block {
            let index = index as usize;
            self.standardised(index, &mut z);
            let x: f64 = weights.iter().zip(&z).map(|(w, z)| w * z).sum();
            let engaged = usize::from(self.examples.outcomes[index]) == self.interval;
            let weight = f64::from(self.examples.weights[index]);
            let p = sigmoid(x);
            local.loss += weight * if engaged { softplus(-x) } else { softplus(x) };
            let residual = weight * (p - if engaged { 1.0 } else { 0.0 });
            let curvature = weight * p * (1.0 - p);
            for row in 0..size {
                local.gradient[row] += residual * z[row];
                let scaled = curvature * z[row];
                let target = &mut local.hessian[row * size..row * size + row + 1];
                for (sum, z) in target.iter_mut().zip(&z) {
                    *sum += scaled * z;
                }
            }
        }
        local
    }

    fn standardised(&self, index: usize, z: &mut [f64]) {
        let schema = &self.examples.schema;
        let row = self.examples.row(index);
        let values = row[..schema.shared_width()].iter().chain(schema.varying(row, self.interval));
        for (column, &value) in values.enumerate() {
            let sd = self.sd[column];
            z[column] = if sd < LEAST_SD { 0.0 } else { (f64::from(value) - self.mean[column]) / sd };
        }
    }
}

/// Weighted mean and standard deviation of each feature over the examples at risk.
fn standardisation(examples: &Examples, at_risk: &[u32], interval: usize) -> (Vec<f64>, Vec<f64>) {
    let schema = &examples.schema;
    let width = schema.model_width();
    let values = |index: usize| {
        let row = examples.row(index);
        row[..schema.shared_width()].iter().chain(schema.varying(row, interval)).map(|&v| f64::from(v))
    };
    let (mut total, mut mean, mut variance) = (0.0, vec![0.0; width], vec![0.0; width]);
    for &index in at_risk {
        let weight = f64::from(examples.weights[index as usize]);
        total += weight;
        mean.iter_mut().zip(values(index as usize)).for_each(|(m, v)| *m += weight * v);
    }
    mean.iter_mut().for_each(|m| *m /= total);
    for &index in at_risk {
        let weight = f64::from(examples.weights[index as usize]);
        let deviations = mean.iter().zip(values(index as usize)).map(|(m, v)| v - m);
        variance.iter_mut().zip(deviations).for_each(|(s, d)| *s += weight * d * d);
    }
    (mean, variance.into_iter().map(|v| (v / total).sqrt()).collect())
}

/// Solves `matrix` · x = `right` by Cholesky decomposition; `matrix` is symmetric, only its lower triangle is read.
/// Adds to the diagonal, ever more, until the decomposition exists.
fn solve_positive_definite(matrix: &[f64], right: &[f64]) -> Option<Vec<f64>> {
    let size = right.len();
    let scale = (0..size).map(|i| matrix[i * size + i].abs()).fold(1e-12, f64::max);
    let mut ridge = 0.0;
    'attempt: for _ in 0..12 {
        let mut lower = matrix.to_vec();
        for row in 0..size {
            for column in 0..=row {
                let mut sum = lower[row * size + column] + if row == column { ridge } else { 0.0 };
                for k in 0..column {
                    sum -= lower[row * size + k] * lower[column * size + k];
                }
                if row == column {
                    if sum <= scale * 1e-14 || !sum.is_finite() {
                        ridge = if ridge == 0.0 { scale * 1e-10 } else { ridge * 10.0 };
                        continue 'attempt;
                    }
                    lower[row * size + row] = sum.sqrt();
                } else {
                    lower[row * size + column] = sum / lower[column * size + column];
                }
            }
        }
        let mut x = right.to_vec();
        for row in 0..size {
            for k in 0..row {
                x[row] -= lower[row * size + k] * x[k];
            }
            x[row] /= lower[row * size + row];
        }
        for row in (0..size).rev() {
            for k in row + 1..size {
                x[row] -= lower[k * size + row] * x[k];
            }
            x[row] /= lower[row * size + row];
        }
        return Some(x);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Horizons, ItemNo};
    use crate::ranking::{Answered, Candidate, FeatureMatrix, Predictions, RequestContext};
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    const TRUE_SLOPE: f64 = 1.5;
    const TRUE_INTERCEPTS: [f64; 3] = [-3.0, -2.5, -2.0];

    /// Requests in which only the follow share matters, with known hazards.
    fn examples(requests: usize, seed: u64, weight_of_quiet: f32) -> Examples {
        let schema = Schema::new(&Horizons::default());
        let mut random = SmallRng::seed_from_u64(seed);
        let mut examples = Examples::new(&schema);
        let answered = Answered { session: true, ..Answered::default() };
        let context = RequestContext { answered, ..RequestContext::default() };
        let mut matrix = FeatureMatrix::default();
        for _ in 0..requests {
            let share: f32 = random.random_range(0.0..1.0);
            let candidate = Candidate { session_follow_share: share, ..Candidate::new(ItemNo(0)) };
            matrix.assemble(&schema, &context, &[candidate]);
            let hazard = |k: usize| sigmoid(TRUE_INTERCEPTS[k] + TRUE_SLOPE * f64::from(share));
            let engaged = (0..3).find(|&k| random.random_bool(hazard(k)));
            let lag_s = engaged.map(|k| [10.0, 20.0, 45.0][k]);
            match lag_s {
                Some(_) => examples.push(matrix.row(0), lag_s, 1.0),
                None if random.random_bool(f64::from(1.0 / weight_of_quiet)) => {
                    examples.push(matrix.row(0), None, weight_of_quiet);
                }
                None => {}
            }
        }
        examples
    }

    fn check_recovered(model: &HazardModel) {
        let column = model.schema().names().iter().position(|n| n == "session_follow_share").unwrap();
        for (k, true_intercept) in TRUE_INTERCEPTS.into_iter().enumerate() {
            let p = model.parameters();
            let slope = p.weights[k][column] / p.sd[k][column];
            let intercept = p.intercepts[k] - slope * p.mean[k][column];
            assert!((slope - TRUE_SLOPE).abs() < 0.25, "interval {k}: slope {slope}");
            assert!((intercept - true_intercept).abs() < 0.2, "interval {k}: intercept {intercept}");
            let others = p.weights[k].iter().enumerate().filter(|(c, _)| *c != column);
            assert!(others.into_iter().all(|(_, w)| w.abs() < 1e-6), "features that never vary weigh nothing");
        }
    }

    #[test]
    fn known_hazards_are_recovered_whether_or_not_the_quiet_are_sampled() {
        let options = FitOptions { l2: 1.0, ..FitOptions::default() };
        check_recovered(&fit(&examples(15_000, 1, 1.0), &options).unwrap().0);
        check_recovered(&fit(&examples(24_000, 2, 4.0), &options).unwrap().0);
    }

    #[test]
    fn intervals_are_drawn_to_what_suits_all() {
        let examples = examples(3_000, 4, 1.0);
        let column = examples.schema().names().iter().position(|n| n == "session_follow_share").unwrap();
        let spread = |pooling: f64| {
            let (model, report) = fit(&examples, &FitOptions { pooling, ..FitOptions::default() }).unwrap();
            assert!(report.log_loss.iter().zip(&report.intercept_log_loss).all(|(own, plain)| own < plain));
            let weights: Vec<f64> = model.parameters().weights.iter().map(|weights| weights[column]).collect();
            let (least, most) = weights.iter().fold((f64::MAX, f64::MIN), |(a, b), &w| (a.min(w), b.max(w)));
            assert!(least > 0.0);
            most - least
        };
        let (alone, drawn, one) = (spread(0.0), spread(500.0), spread(1e9));
        assert!(alone > drawn && drawn > one && one < 1e-3, "{alone} {drawn} {one}");
    }

    #[test]
    fn the_same_examples_give_the_same_weights() {
        let examples = examples(6_000, 3, 1.0);
        let (first, report) = fit(&examples, &FitOptions::default()).unwrap();
        let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let (second, _) = one_thread.install(|| fit(&examples, &FitOptions::default())).unwrap();
        assert_eq!(first, second);
        assert!(report.steps.iter().all(|&steps| steps < 12), "Newton takes few steps: {:?}", report.steps);
        assert_eq!(report.at_risk[1] + report.engagements[0], report.at_risk[0]);
    }

    #[test]
    fn one_sided_examples_are_refused() {
        let schema = Schema::new(&Horizons::default());
        let mut examples = Examples::new(&schema);
        assert!(matches!(fit(&examples, &FitOptions::default()), Err(FitError::OneSided { interval: 0, .. })));
        examples.push(&vec![0.0; schema.row_width()], Some(5.0), 1.0);
        examples.push(&[1.0], Some(5.0), 1.0);
        examples.push(&vec![0.0; schema.row_width()], None, f32::NAN);
        assert_eq!(examples.len(), 1, "what has the wrong shape or weight is passed over");
        assert!(fit(&examples, &FitOptions::default()).is_err());
    }

    #[test]
    fn perfect_separation_and_copies_of_a_feature_stay_finite() {
        let schema = Schema::new(&Horizons::default());
        let mut examples = Examples::new(&schema);
        for n in 0..400 {
            let mut row = vec![0.0; schema.row_width()];
            let outcome = n % 4;
            row[1] = if outcome == 0 { 1.0 } else { 0.0 };
            row[2] = row[1] * 3.0;
            examples.push(&row, [Some(5.0), Some(20.0), Some(50.0), None][outcome], 1.0);
        }
        for l2 in [0.0, 5.0] {
            let (model, _) = fit(&examples, &FitOptions { l2, ..FitOptions::default() }).unwrap();
            let mut matrix = FeatureMatrix::default();
            matrix.assemble(&schema, &RequestContext::default(), &[Candidate::new(ItemNo(0))]);
            let mut predictions = Predictions::default();
            model.predict(&matrix, &mut predictions);
            assert!(predictions.probability(0, 2).is_finite());
        }
    }
}
