//! Which directions of the embeddings tell what is turned to together? A linear projection, learned from a log and kept only if it helps.
//!
//! Pairs of items that one session turned to one after the other are two views of one interest. Canonical correlation
//! analysis (Hotelling 1936), made symmetric and regularised by a ridge (Vinod 1976), finds the directions in which the views
//! agree, in closed form: with the covariance `C` of all embeddings in pairs and the covariance `S` across them, `M = R U ρ⁺ Uᵀ R`, where
//! `R = (C + λ)^-½` and `U ρ Uᵀ = R S R`. What was learned is mixed with what looks alike anyway, `G = (1 − a) I + a M` (both of
//! trace 1); the projection is `G^½`, so that products of projected pictures are `xᵀ G y`. The log is cut in time: pairs of the first part are learned
//! from, those of the second choose `λ` and `a`, and those of the third, as far as they are new, decide whether it is better than
//! none. What the target of a pair is compared with is drawn from the targets of other pairs, so that popularity gains nothing.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rayon::prelude::*;

use super::ClickLog;
use crate::collab::eigen;
use crate::domain::{Embedding, ItemNo, Timestamp};

/// Ridges that are tried, as shares of the mean variance.
const RIDGES: [f64; 4] = [0.03, 0.3, 3.0, 30.0];
/// Shares of what was learned that are tried.
const SHARES: [f64; 4] = [0.15, 0.4, 0.7, 1.0];
/// Targets of other pairs that each target is compared with.
const OTHERS: usize = 50;
/// Pairs that a choice is judged by, at most.
const JUDGED: usize = 4_000;
/// Fewer pairs than this in any part of the log teach nothing.
const LEAST_PAIRS: usize = 200;
/// An improvement must be this many standard errors above none…
const SURE: f64 = 2.5;
/// …and this large: the share of other items that the target is more alike than.
const LEAST_GAIN: f64 = 0.002;

/// A projection, and how much better likenesses are with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// A row for each number of a projected embedding: its weights, and last what is added.
    pub rows: Vec<Vec<f32>>,
    /// How it was chosen and judged.
    pub judged: Judged,
}

/// What came of judging a projection on the end of the log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// The ridge, as a share of the mean variance.
    pub ridge: f64,
    /// The share of what was learned.
    pub share: f64,
    /// Pairs that it was learned from, and new ones that it was judged by.
    pub pairs: (usize, usize),
    /// The mean share of other items that the second item of a pair is less like the first than, as the embeddings are.
    pub before: f64,
    /// The same with the projection.
    pub after: f64,
    /// The standard error of the difference.
    pub error: f64,
}

/// Why there is no projection.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum NoProjection {
    /// The log is too short.
    #[error("the log has {0} pairs of pictured items that were turned to one after the other; at least {least} are needed", least = 10 * LEAST_PAIRS)]
    TooFew(usize),
    /// It is no better than none.
    #[error(
        "likenesses would not be better on the end of the log: {:.4} before, {:.4} with the projection, standard error {:.4}",
        .0.before, .0.after, .0.error
    )]
    NoBetter(Judged),
}

/// Learns a projection from `log`; `look` is the embedding of an item's first picture, if it has one.
pub fn learn_projection<'a>(
    log: &ClickLog,
    look: impl Fn(ItemNo) -> Option<&'a Embedding>,
    seed: u64,
) -> Result<Projection, NoProjection> {
    let pairs = pairs(log, &look);
    if pairs.len() < 10 * LEAST_PAIRS {
        return Err(NoProjection::TooFew(pairs.len()));
    }
    let (learned, later) = pairs.split_at(pairs.len() * 7 / 10);
    let (choosing, deciding) = later.split_at(later.len() / 2);
    let known: HashSet<(ItemNo, ItemNo)> = learned.iter().chain(choosing).map(Pair::items).collect();
    let new: Vec<Pair<'_>> = deciding.iter().filter(|pair| !known.contains(&pair.items())).cloned().collect();
    if new.len() < LEAST_PAIRS {
        return Err(NoProjection::TooFew(pairs.len()));
    }
    let statistics = Statistics::of(learned);
    let within = Eigen::of(statistics.within.clone(), statistics.dims);
    let mut random = StdRng::seed_from_u64(seed);
    let (choosing, new) = (Trials::draw(choosing, &mut random), Trials::draw(&new, &mut random));
    let mut best: Option<(f64, Vec<Vec<f32>>, f64, f64)> = None;
    for ridge in RIDGES {
        let agreed = statistics.learned(&within, ridge);
        for share in SHARES {
            let rows = statistics.projection(&agreed, share);
            let score = mean(&choosing.scores(Some(&rows)));
            if best.as_ref().is_none_or(|(best, ..)| score > *best) {
                best = Some((score, rows, ridge, share));
            }
        }
    }
    let Some((_, rows, ridge, share)) = best else { return Err(NoProjection::TooFew(pairs.len())) };
    let (before, after) = (new.scores(None), new.scores(Some(&rows)));
    let gains: Vec<f64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    let gain = mean(&gains);
    let variance = gains.iter().map(|g| (g - gain) * (g - gain)).sum::<f64>() / gains.len().max(2) as f64;
    let judged = Judged {
        ridge,
        share,
        pairs: (learned.len(), new.trials.len()),
        before: mean(&before),
        after: mean(&after),
        error: (variance / gains.len().max(1) as f64).sqrt(),
    };
    if gain < LEAST_GAIN || gain < SURE * judged.error {
        return Err(NoProjection::NoBetter(judged));
    }
    Ok(Projection { rows, judged })
}

/// Two items that a session turned to one after the other.
#[derive(Debug, Clone)]
struct Pair<'a> {
    from: (ItemNo, &'a [f32]),
    to: (ItemNo, &'a [f32]),
}

impl Pair<'_> {
    /// The items, whichever came first.
    fn items(&self) -> (ItemNo, ItemNo) {
        (self.from.0.min(self.to.0), self.from.0.max(self.to.0))
    }
}

/// All pairs, in the order of their times.
fn pairs<'a>(log: &ClickLog, look: &impl Fn(ItemNo) -> Option<&'a Embedding>) -> Vec<Pair<'a>> {
    let mut pairs: Vec<(Timestamp, Pair<'a>)> = Vec::new();
    for session in &log.sessions {
        for two in session.clicks.array_windows::<2>() {
            let [(from, _), (to, at)] = *two;
            if from != to
                && let (Some(a), Some(b)) = (look(from), look(to))
            {
                pairs.push((at, Pair { from: (from, a.as_slice()), to: (to, b.as_slice()) }));
            }
        }
    }
    pairs.sort_by_key(|(at, _)| *at);
    pairs.into_iter().map(|(_, pair)| pair).collect()
}

/// What pairs say together.
struct Statistics {
    dims: usize,
    mean: Vec<f64>,
    /// The covariance of all embeddings.
    within: Vec<f64>,
    /// The covariance of one embedding of a pair with the other, either way round.
    across: Vec<f64>,
}

impl Statistics {
    fn of(pairs: &[Pair<'_>]) -> Self {
        let dims = pairs.first().map_or(0, |pair| pair.from.1.len());
        let count = pairs.len().max(1) as f64;
        let mut sums =
            Self { dims, mean: vec![0.0; dims], within: vec![0.0; dims * dims], across: vec![0.0; dims * dims] };
        for pair in pairs {
            let (x, y) = (pair.from.1, pair.to.1);
            for i in 0..dims {
                let (xi, yi) = (f64::from(x[i]), f64::from(y[i]));
                sums.mean[i] += (xi + yi) / (2.0 * count);
                let row = i * dims..(i + 1) * dims;
                let both = sums.within[row.clone()].iter_mut().zip(&mut sums.across[row]).zip(x.iter().zip(y));
                for ((within, across), (&xj, &yj)) in both {
                    let (xj, yj) = (f64::from(xj), f64::from(yj));
                    *within += (xi * xj + yi * yj) / (2.0 * count);
                    *across += (xi * yj + yi * xj) / (2.0 * count);
                }
            }
        }
        for i in 0..dims {
            for j in 0..dims {
                let product = sums.mean[i] * sums.mean[j];
                sums.within[i * dims + j] -= product;
                sums.across[i * dims + j] -= product;
            }
        }
        sums
    }

    /// `M` for this ridge, of trace 1.
    fn learned(&self, within: &Eigen, ridge: f64) -> Eigen {
        let dims = self.dims;
        let variance = within.values.iter().sum::<f64>() / dims.max(1) as f64;
        let root = within.with(|value| (value + ridge * variance + f64::MIN_POSITIVE).powf(-0.5));
        // Eigenvalues below zero come out as zero: where the views disagree, nothing is learned.
        let agreement = Eigen::of(product(&product(&root, &self.across, dims), &root, dims), dims).with(|value| value);
        let mut learned = Eigen::of(product(&product(&root, &agreement, dims), &root, dims), dims);
        let trace: f64 = learned.values.iter().sum();
        if trace > 0.0 {
            learned.values.iter_mut().for_each(|value| *value /= trace);
        }
        learned
    }

    /// The rows of `G^½`, and what is added so that the mean picture becomes zero.
    fn projection(&self, learned: &Eigen, share: f64) -> Vec<Vec<f32>> {
        let dims = self.dims.max(1);
        let root = learned.with(|value| (share * value + (1.0 - share) / dims as f64).sqrt());
        root.chunks_exact(dims)
            .map(|row| {
                let at_mean: f64 = row.iter().zip(&self.mean).map(|(weight, mean)| weight * mean).sum();
                row.iter().copied().chain([-at_mean]).map(|value| value as f32).collect()
            })
            .collect()
    }
}

/// A symmetric matrix without what is below zero: its eigenvalues, and its eigenvectors as columns.
struct Eigen {
    values: Vec<f64>,
    columns: Vec<f64>,
}

impl Eigen {
    fn of(mut matrix: Vec<f64>, dims: usize) -> Self {
        // Rounding leaves products of symmetric matrices a little askew.
        for i in 0..dims {
            for j in 0..i {
                let mean = (matrix[i * dims + j] + matrix[j * dims + i]) / 2.0;
                (matrix[i * dims + j], matrix[j * dims + i]) = (mean, mean);
            }
        }
        let (values, columns) = eigen(&mut matrix, dims);
        Self { values, columns: columns.into_iter().map(f64::from).collect() }
    }

    /// The matrix with the same eigenvectors and `change` of each eigenvalue.
    fn with(&self, change: impl Fn(f64) -> f64) -> Vec<f64> {
        let dims = self.values.len();
        let factors: Vec<f64> = self.values.iter().map(|&value| change(value)).collect();
        let mut scaled = self.columns.clone();
        for row in scaled.chunks_exact_mut(dims.max(1)) {
            row.iter_mut().zip(&factors).for_each(|(value, factor)| *value *= factor);
        }
        let mut transposed = vec![0.0; dims * dims];
        for (i, row) in self.columns.chunks_exact(dims.max(1)).enumerate() {
            row.iter().enumerate().for_each(|(j, &value)| transposed[j * dims + i] = value);
        }
        product(&scaled, &transposed, dims)
    }
}

/// Pairs, each with the targets of other pairs that its target is compared with; pictures by their places.
struct Trials<'a> {
    looks: Vec<&'a [f32]>,
    trials: Vec<Trial>,
}

struct Trial {
    from: usize,
    to: usize,
    others: Vec<usize>,
}

impl<'a> Trials<'a> {
    fn draw(pairs: &[Pair<'a>], random: &mut StdRng) -> Self {
        let (mut looks, mut places) = (Vec::new(), HashMap::new());
        let mut place = |(item, look): (ItemNo, &'a [f32])| {
            *places.entry(item).or_insert_with(|| {
                looks.push(look);
                looks.len() - 1
            })
        };
        let judged: Vec<&Pair<'a>> = pairs.choose_multiple(random, JUDGED).collect();
        let trials = judged.into_iter().map(|pair| {
            let drawn = (0..OTHERS).map(|_| pairs[random.random_range(0..pairs.len())].to);
            let drawn = drawn.filter(|(item, _)| *item != pair.to.0 && *item != pair.from.0);
            let others = drawn.map(&mut place).collect();
            Trial { from: place(pair.from), to: place(pair.to), others }
        });
        let trials = trials.collect();
        Self { looks, trials }
    }

    /// For each pair, the share of the others that are less like its first item than its second one is.
    fn scores(&self, rows: Option<&[Vec<f32>]>) -> Vec<f64> {
        let projected = |look: &&[f32]| rows.map_or_else(|| unit(look.to_vec()), |rows| unit(applied(rows, look)));
        let looks: Vec<Vec<f32>> = self.looks.par_iter().map(projected).collect();
        let score = |Trial { from, to, others }: &Trial| {
            let like = |place: usize| dot(&looks[*from], &looks[place]);
            let own = like(*to);
            let better = |&other: &usize| match own.total_cmp(&like(other)) {
                Ordering::Greater => 1.0,
                Ordering::Equal => 0.5,
                Ordering::Less => 0.0,
            };
            others.iter().map(better).sum::<f64>() / others.len().max(1) as f64
        };
        self.trials.iter().map(score).collect()
    }
}

fn applied(rows: &[Vec<f32>], look: &[f32]) -> Vec<f32> {
    rows.iter().map(|row| crate::domain::dot(&row[..look.len()], look) + row.last().copied().unwrap_or(0.0)).collect()
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = crate::domain::dot(&vector, &vector).sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|value| *value /= norm);
    }
    vector
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    f64::from(crate::domain::dot(a, b))
}

fn product(a: &[f64], b: &[f64], dims: usize) -> Vec<f64> {
    let mut result = vec![0.0; dims * dims];
    for (row, out) in a.chunks_exact(dims.max(1)).zip(result.chunks_exact_mut(dims.max(1))) {
        for (&factor, other) in row.iter().zip(b.chunks_exact(dims.max(1))) {
            out.iter_mut().zip(other).for_each(|(out, &value)| *out += factor * value);
        }
    }
    result
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::Session;

    const DIMS: usize = 12;

    /// Items whose first two numbers say to which of five kinds they belong; the others say nothing and are louder.
    fn looks(random: &mut StdRng) -> Vec<Embedding> {
        (0..300)
            .map(|item| {
                let angle = f64::from(item % 5) * 1.2566;
                let mut numbers: Vec<f32> = (0..DIMS).map(|_| random.random_range(-1.0..1.0)).collect();
                numbers[0] = 0.5 * angle.cos() as f32 + 0.1 * numbers[0];
                numbers[1] = 0.5 * angle.sin() as f32 + 0.1 * numbers[1];
                Embedding::unit(numbers).unwrap()
            })
            .collect()
    }

    /// Sessions that stay with one kind of items, or with none.
    fn log(random: &mut StdRng, faithful: bool) -> ClickLog {
        let session = |key: u64, random: &mut StdRng| {
            let kind = random.random_range(0..5);
            let item = |random: &mut StdRng| match faithful {
                true => ItemNo(random.random_range(0..60) * 5 + kind),
                false => ItemNo(random.random_range(0..300)),
            };
            let clicks = (0..4).map(|n| (item(random), Timestamp((key * 1_000 + n) as i64))).collect();
            Session { key, user: None, clicks, confidences: Vec::new() }
        };
        ClickLog { sessions: (0..1_500).map(|key| session(key, random)).collect(), skipped: 0 }
    }

    #[test]
    fn what_is_turned_to_together_becomes_alike() {
        let mut random = StdRng::seed_from_u64(3);
        let looks = looks(&mut random);
        let look = |item: ItemNo| looks.get(item.0 as usize);
        let found = learn_projection(&log(&mut random, true), look, 1).unwrap();
        assert!(found.judged.after > found.judged.before + 0.1, "{:?}", found.judged);
        assert_eq!((found.rows.len(), found.rows[0].len()), (DIMS, DIMS + 1));
        // Also for items that the log does not have.
        let mut kinds = [0.0, 0.0];
        let fresh = self::looks(&mut random);
        let projected: Vec<Vec<f32>> = fresh.iter().map(|look| unit(applied(&found.rows, look.as_slice()))).collect();
        for (i, j) in (0..60).flat_map(|i| (0..i).map(move |j| (i, j))) {
            kinds[usize::from(i % 5 == j % 5)] += dot(&projected[i], &projected[j]);
        }
        let pairs_of_a_kind = 5.0 * (12.0 * 11.0 / 2.0);
        let (same, other) = (kinds[1] / pairs_of_a_kind, kinds[0] / (60.0 * 59.0 / 2.0 - pairs_of_a_kind));
        assert!(same > 0.6 && other < 0.1, "{same} {other}");
    }

    #[test]
    fn nothing_is_kept_that_helps_nothing() {
        for seed in 0..4 {
            let mut random = StdRng::seed_from_u64(seed);
            let looks = looks(&mut random);
            let found = learn_projection(&log(&mut random, false), |item| looks.get(item.0 as usize), seed);
            assert!(matches!(found, Err(NoProjection::NoBetter(_))), "{found:?}");
        }
    }

    #[test]
    fn a_short_log_teaches_nothing() {
        let mut random = StdRng::seed_from_u64(3);
        let looks = looks(&mut random);
        let mut log = log(&mut random, true);
        log.sessions.truncate(100);
        let found = learn_projection(&log, |item| looks.get(item.0 as usize), 1);
        assert_eq!(found, Err(NoProjection::TooFew(pairs(&log, &|item| looks.get(item.0 as usize)).len())));
        assert!(learn_projection(&log, |_| None, 1) == Err(NoProjection::TooFew(0)));
    }
}
