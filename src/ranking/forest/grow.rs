//! How is a forest learned? Gradient boosting of the hazards' log loss, from where the linear model leaves off.
//!
//! Second-order boosting on histograms (Friedman 2001; Chen & Guestrin, `XGBoost`, 2016) with oblivious trees. Each tree
//! is grown level by level: of all questions that can be asked of the whole level, the one that gains most over all
//! leaves and intervals. Deterministic, whatever the number of threads.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::{Forest, MAX_DEPTH, Split, Tree};
use crate::ranking::fit::Examples;
use crate::ranking::hazard::{HazardModel, ModelError, sigmoid, softplus};

/// How a forest is grown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GrowOptions {
    /// The most trees.
    pub trees: usize,
    /// Levels of a tree, 1 to 8.
    pub depth: usize,
    /// The share of each tree's correction that is applied.
    pub learning_rate: f64,
    /// Penalty on the numbers in the leaves: this much evidence (in units of the loss's curvature) for 0 in each leaf.
    pub l2: f64,
    /// Thresholds that are considered for a column, at most 255.
    pub thresholds: usize,
    /// This share of the examples, the last ones, is held back to see after how many trees nothing is gained any more;
    /// then that many are grown on all examples. 0: all trees are grown.
    pub held_out: f64,
}

impl Default for GrowOptions {
    fn default() -> Self {
        Self { trees: 100, depth: 5, learning_rate: 0.1, l2: 5.0, thresholds: 63, held_out: 0.2 }
    }
}

/// How a forest came about.
#[derive(Debug, Clone, PartialEq)]
pub struct GrowReport {
    /// Trees grown.
    pub trees: usize,
    /// Mean log loss over the intervals of the held-out examples, before the first tree and after the last.
    pub held_out_loss: Option<(f64, f64)>,
    /// The same on the examples that it was grown on.
    pub loss: (f64, f64),
}

/// A tree that gains nothing for this many rounds on the held-out examples ends the search.
const PATIENCE: usize = 20;

/// No leaf moves the log-odds by more than this.
const LARGEST_STEP: f64 = 2.0;

/// Grows a forest on top of `base`; `progress` hears the number of trees and of those to come, and may break off by
/// setting `stop`, as may anyone: then what there is so far is returned.
pub fn grow(
    base: &HazardModel,
    examples: &Examples,
    options: &GrowOptions,
    stop: &AtomicBool,
    mut progress: impl FnMut(usize, usize),
) -> Result<(Forest, GrowReport), ModelError> {
    let intervals = base.schema().horizons().count();
    let width = base.schema().row_width();
    let empty = Forest::new(Vec::new(), intervals, width)?;
    let all = examples.len();
    let split = all - (all as f64 * options.held_out.clamp(0.0, 0.9)) as usize;
    let offsets = base.log_odds_of(examples);
    let table = Table::new(examples, options.thresholds.clamp(1, 255));
    let mut report = GrowReport { trees: 0, held_out_loss: None, loss: (0.0, 0.0) };
    let mut trees = options.trees;
    let rounds = if split < all { 2 * trees } else { trees };
    if split > 0 && split < all {
        let mut boosting = Boosting::new(&table, examples, &offsets, 0..split, options);
        let mut judged = offsets[split * intervals..].to_vec();
        let before = loss(examples, split..all, &judged);
        let (mut best, mut least) = (0, before);
        for round in 1..=options.trees {
            let Some(tree) = boosting.next().filter(|_| !stop.load(Ordering::Relaxed)) else { break };
            for (row, sums) in (split..all).zip(judged.chunks_exact_mut(intervals)) {
                let leaf = tree.leaf(examples.row(row));
                let values = &tree.leaves[leaf * intervals..][..intervals];
                sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += f64::from(value));
            }
            let now = loss(examples, split..all, &judged);
            if now < least {
                (best, least) = (round, now);
            }
            progress(round, rounds);
            if round >= best + PATIENCE {
                break;
            }
        }
        trees = best;
        report.held_out_loss = Some((before, least));
    }
    let mut boosting = Boosting::new(&table, examples, &offsets, 0..all, options);
    let before = loss(examples, 0..all, &boosting.log_odds);
    let mut grown = Vec::with_capacity(trees);
    while grown.len() < trees {
        let Some(tree) = boosting.next().filter(|_| !stop.load(Ordering::Relaxed)) else { break };
        grown.push(tree);
        progress(rounds - trees + grown.len(), rounds);
    }
    report.loss = (before, loss(examples, 0..all, &boosting.log_odds));
    report.trees = grown.len();
    Ok((if grown.is_empty() { empty } else { Forest::new(grown, intervals, width)? }, report))
}

/// Mean log loss of the examples `rows` over the intervals in which they are at risk.
fn loss(examples: &Examples, rows: std::ops::Range<usize>, log_odds: &[f64]) -> f64 {
    let intervals = examples.schema().horizons().count();
    let (mut sum, mut total) = (0.0, 0.0);
    for (row, x) in rows.zip(log_odds.chunks_exact(intervals)) {
        let (outcome, weight) = (examples.outcome(row), f64::from(examples.weight(row)));
        for (interval, &x) in x.iter().enumerate().take(outcome + 1) {
            sum += weight * if interval == outcome { softplus(-x) } else { softplus(x) };
            total += weight;
        }
    }
    if total > 0.0 { sum / total } else { 0.0 }
}

/// The examples, with each value replaced by the number of thresholds below it; column by column.
struct Table {
    /// Of each column, rising; none for a column that never varies.
    thresholds: Vec<Vec<f32>>,
    codes: Vec<Vec<u8>>,
}

/// Values of a column that are looked at to choose its thresholds.
const LOOKED_AT: usize = 50_000;

impl Table {
    fn new(examples: &Examples, thresholds: usize) -> Self {
        let width = examples.schema().row_width();
        let rows = examples.len();
        let columns: Vec<(Vec<f32>, Vec<u8>)> = (0..width)
            .into_par_iter()
            .map(|column| {
                let step = rows.div_ceil(LOOKED_AT).max(1);
                let mut values: Vec<f32> = (0..rows).step_by(step).map(|row| examples.row(row)[column]).collect();
                values.sort_unstable_by(f32::total_cmp);
                let chosen = quantiles(&values, thresholds);
                let code = |row| chosen.partition_point(|&t| t < examples.row(row)[column]) as u8;
                let codes = if chosen.is_empty() { Vec::new() } else { (0..rows).map(code).collect() };
                (chosen, codes)
            })
            .collect();
        let (thresholds, codes) = columns.into_iter().unzip();
        Self { thresholds, codes }
    }
}

/// At most `count` thresholds between different ones of the sorted `values`, with about as many values between any two.
fn quantiles(values: &[f32], count: usize) -> Vec<f32> {
    let mut different: Vec<(f32, usize)> = Vec::new();
    for &value in values {
        match different.last_mut() {
            Some((last, times)) if *last == value => *times += 1,
            Some(_) | None => different.push((value, 1)),
        }
    }
    let mut chosen = Vec::new();
    let (mut left, mut since) = (values.len(), 0);
    for pair in different.windows(2) {
        since += pair[0].1;
        // What is left is shared out among the thresholds that are left, so that a value held by most rows takes one.
        if chosen.len() < count && since * (count - chosen.len() + 1) >= left {
            let middle = pair[0].0 + (pair[1].0 - pair[0].0) / 2.0;
            chosen.push(if middle < pair[1].0 { middle } else { pair[0].0 });
            left -= since;
            since = 0;
        }
    }
    chosen
}

/// Boosting under way.
struct Boosting<'a> {
    table: &'a Table,
    examples: &'a Examples,
    rows: usize,
    intervals: usize,
    options: GrowOptions,
    /// Rows × intervals: what the model says so far.
    log_odds: Vec<f64>,
    /// Rows: gradient and curvature of each interval, then padding.
    slopes: Vec<[f32; LANES]>,
    leaves: Vec<u8>,
}

/// Gradient and curvature of up to eight intervals.
const LANES: usize = 16;

/// Half of that is enough for up to four intervals, and takes half the time.
const FEW_LANES: usize = 8;

/// A question for a level, and what it gains.
#[derive(Clone, Copy)]
struct Question {
    gain: f64,
    column: usize,
    threshold: usize,
}

impl<'a> Boosting<'a> {
    fn new(
        table: &'a Table,
        examples: &'a Examples,
        offsets: &[f64],
        rows: std::ops::Range<usize>,
        options: &GrowOptions,
    ) -> Self {
        let intervals = examples.schema().horizons().count();
        let options = GrowOptions { depth: options.depth.clamp(1, MAX_DEPTH), ..*options };
        let log_odds = offsets[rows.start * intervals..rows.end * intervals].to_vec();
        let rows = rows.len();
        let (slopes, leaves) = (vec![[0.0; LANES]; rows], vec![0; rows]);
        Self { table, examples, rows, intervals, options, log_odds, slopes, leaves }
    }

    /// The next tree; `None` if no question gains anything.
    fn next(&mut self) -> Option<Tree> {
        self.derive();
        self.leaves.fill(0);
        let mut splits = Vec::with_capacity(self.options.depth);
        for level in 0..self.options.depth {
            let best = if self.intervals * 2 <= FEW_LANES {
                self.best_question::<FEW_LANES>(level)
            } else {
                self.best_question::<LANES>(level)
            };
            let Some(Question { column, threshold, .. }) = best else { break };
            splits.push(Split { column, above: self.table.thresholds[column][threshold] });
            let codes = &self.table.codes[column];
            for (leaf, &code) in self.leaves.iter_mut().zip(codes) {
                *leaf |= u8::from(usize::from(code) > threshold) << level;
            }
        }
        if splits.is_empty() {
            return None;
        }
        let leaves = self.values(1 << splits.len());
        for (leaf, sums) in self.leaves.iter().zip(self.log_odds.chunks_exact_mut(self.intervals)) {
            let values = &leaves[usize::from(*leaf) * self.intervals..][..self.intervals];
            sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        Some(Tree { splits, leaves })
    }

    /// The slopes of the loss where the model stands.
    fn derive(&mut self) {
        let intervals = self.intervals;
        let examples = self.examples;
        let rows = self.slopes.par_iter_mut().zip(self.log_odds.par_chunks_exact(intervals)).enumerate();
        rows.for_each(|(row, (slopes, x))| {
            let (outcome, weight) = (examples.outcome(row), f64::from(examples.weight(row)));
            for (interval, &x) in x.iter().enumerate() {
                let (mut gradient, mut curvature) = (0.0, 0.0);
                if interval <= outcome {
                    let p = sigmoid(x);
                    gradient = weight * (p - if interval == outcome { 1.0 } else { 0.0 });
                    curvature = weight * p * (1.0 - p);
                }
                slopes[2 * interval] = gradient as f32;
                slopes[2 * interval + 1] = curvature as f32;
            }
        });
    }

    fn best_question<const W: usize>(&self, level: usize) -> Option<Question> {
        let leaves = 1 << level;
        let columns = (0..self.table.thresholds.len()).into_par_iter();
        let questions = columns.filter(|&column| !self.table.thresholds[column].is_empty()).filter_map(|column| {
            let bins = self.table.thresholds[column].len() + 1;
            let mut sums = vec![[0.0_f32; W]; bins * leaves];
            let codes = &self.table.codes[column][..self.rows];
            for ((&code, &leaf), slopes) in codes.iter().zip(&self.leaves).zip(&self.slopes) {
                let sum = &mut sums[usize::from(leaf) * bins + usize::from(code)];
                for lane in 0..W {
                    sum[lane] += slopes[lane];
                }
            }
            self.best_threshold(column, bins, &sums)
        });
        // The first of equals, so that the result does not depend on threads.
        let better = |a: Question, b: Question| {
            if (b.gain, usize::MAX - b.column) > (a.gain, usize::MAX - a.column) { b } else { a }
        };
        questions.reduce_with(better)
    }

    fn best_threshold<const W: usize>(&self, column: usize, bins: usize, sums: &[[f32; W]]) -> Option<Question> {
        let l2 = self.options.l2.max(1e-6);
        let mut gains = vec![0.0; bins - 1];
        for leaf in sums.chunks_exact(bins) {
            for interval in 0..self.intervals {
                let (g, h) = (2 * interval, 2 * interval + 1);
                let score = |gradient: f64, curvature: f64| gradient * gradient / (curvature + l2);
                let total = leaf.iter().fold((0.0, 0.0), |(a, b), s| (a + f64::from(s[g]), b + f64::from(s[h])));
                let whole = score(total.0, total.1);
                let mut below = (0.0, 0.0);
                for (gain, sum) in gains.iter_mut().zip(leaf) {
                    below = (below.0 + f64::from(sum[g]), below.1 + f64::from(sum[h]));
                    *gain += score(below.0, below.1) + score(total.0 - below.0, (total.1 - below.1).max(0.0)) - whole;
                }
            }
        }
        let best = gains
            .iter()
            .copied()
            .enumerate()
            .fold((0, 0.0), |best, (n, gain)| if gain > best.1 { (n, gain) } else { best });
        (best.1 > 1e-9).then_some(Question { gain: best.1, column, threshold: best.0 })
    }

    /// What each leaf adds: a damped Newton step of each interval, drawn to the one that all intervals together would
    /// make, so that an interval with few engagements borrows from the others.
    fn values(&self, leaves: usize) -> Vec<f32> {
        let mut sums = vec![[0.0_f64; LANES]; leaves];
        for (&leaf, slopes) in self.leaves.iter().zip(&self.slopes) {
            sums[usize::from(leaf)].iter_mut().zip(slopes).for_each(|(sum, &slope)| *sum += f64::from(slope));
        }
        let (rate, l2) = (self.options.learning_rate, self.options.l2.max(1e-6));
        let value = |sum: &[f64; LANES], interval: usize| {
            let together = sum.chunks_exact(2).fold((0.0, 0.0), |(g, h), pair| (g + pair[0], h + pair[1]));
            let pooled = -together.0 / (together.1 + l2);
            let step = (l2 * pooled - sum[2 * interval]) / (sum[2 * interval + 1] + l2);
            (rate * step.clamp(-LARGEST_STEP, LARGEST_STEP)) as f32
        };
        sums.iter().flat_map(|sum| (0..self.intervals).map(move |interval| value(sum, interval))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Horizons;
    use crate::ranking::{FitOptions, fit};
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    /// Engagements that two features only bring about together, which no linear model can tell.
    fn examples(count: usize, seed: u64) -> Examples {
        let mut examples = Examples::new(&crate::ranking::Schema::new(&Horizons::default()));
        let mut random = SmallRng::seed_from_u64(seed);
        let mut row = vec![0.0; examples.schema().row_width()];
        for _ in 0..count {
            for value in &mut row[..4] {
                *value = random.random_range(-1.0..1.0);
            }
            let together = (row[1] > 0.2) == (row[3] > 0.0);
            let hazards = if together { [0.5, 0.1, 0.1] } else { [0.02, 0.1, 0.3] };
            let ends = [10.0, 20.0, 45.0];
            let engaged = hazards.iter().zip(ends).find(|(hazard, _)| random.random_bool(**hazard)).map(|(_, s)| s);
            examples.push(&row, engaged, 1.0);
        }
        examples
    }

    fn grown(examples: &Examples, options: &GrowOptions) -> (HazardModel, Forest, GrowReport) {
        let (linear, _) = fit(examples, &FitOptions::default()).unwrap();
        let (forest, report) = grow(&linear, examples, options, &AtomicBool::new(false), |_, _| {}).unwrap();
        (linear, forest, report)
    }

    #[test]
    fn it_finds_what_features_do_together() {
        let options = GrowOptions { trees: 30, depth: 3, learning_rate: 0.3, ..GrowOptions::default() };
        let (linear, forest, report) = grown(&examples(4_000, 1), &options);
        let (before, after) = report.held_out_loss.unwrap();
        assert!(after < 0.9 * before, "{report:?}");
        assert!(report.loss.1 < 0.9 * report.loss.0);
        let new = examples(2_000, 2);
        let both = linear.with_forest(Some(forest)).unwrap();
        let judge = |model: &HazardModel| loss(&new, 0..new.len(), &model.log_odds_of(&new));
        assert!(judge(&both) < 0.9 * judge(&linear), "it holds for examples that it has not seen");
    }

    #[test]
    fn trees_stop_where_nothing_is_gained() {
        let mut noise = Examples::new(&crate::ranking::Schema::new(&Horizons::default()));
        let mut random = SmallRng::seed_from_u64(3);
        let mut row = vec![0.0; noise.schema().row_width()];
        for n in 0..2_000 {
            row.iter_mut().take(6).for_each(|value| *value = random.random_range(-1.0..1.0));
            noise.push(&row, [Some(5.0), Some(20.0), Some(50.0), None][n % 4], 1.0);
        }
        let (.., report) = grown(&noise, &GrowOptions::default());
        assert!(report.trees < 10, "{report:?}");
    }

    #[test]
    fn threads_and_orders_make_no_difference() {
        let examples = examples(1_500, 4);
        let options = GrowOptions { trees: 5, held_out: 0.0, ..GrowOptions::default() };
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let one = pool(1).install(|| grown(&examples, &options).1);
        assert_eq!(one, pool(3).install(|| grown(&examples, &options).1));
        assert_eq!(one.trees().len(), 5);
    }

    #[test]
    fn whoever_stops_it_gets_what_there_is() {
        let examples = examples(500, 5);
        let (linear, _) = fit(&examples, &FitOptions::default()).unwrap();
        let stop = AtomicBool::new(false);
        let options = GrowOptions { held_out: 0.0, ..GrowOptions::default() };
        let stop_at_three = |done, _| stop.store(done >= 3, Ordering::Relaxed);
        let (forest, _) = grow(&linear, &examples, &options, &stop, stop_at_three).unwrap();
        assert_eq!(forest.trees().len(), 3);
    }

    #[test]
    fn thresholds_divide_evenly() {
        let values: Vec<f32> = (0..1_000).map(|n| if n < 600 { 0.0 } else { n as f32 }).collect();
        let chosen = quantiles(&values, 4);
        assert_eq!(chosen.len(), 4);
        assert_eq!(chosen[0], 300.0, "half way to the next value");
        let between: Vec<usize> =
            chosen.windows(2).map(|w| values.iter().filter(|v| **v > w[0] && **v <= w[1]).count()).collect();
        assert!(between.iter().all(|&count| (90..=110).contains(&count)), "{between:?}");
        assert!(quantiles(&[1.0; 9], 4).is_empty());
        assert_eq!(quantiles(&[1.0, 2.0], 4), [1.5]);
    }
}
