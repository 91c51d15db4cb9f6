//! Do the probabilities hold? Predicted against observed, in bins with as many predictions each.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::bootstrap::Estimate;

/// How many bins.
const BINS: usize = 10;
/// Predictions are counted in this many steps of log-odds, so that any number of them takes the same memory.
const CELLS: usize = 1 << 14;
/// Log-odds beyond this are counted with it.
const REACH: f64 = 16.0;

/// Sessions are put into so many groups, which are resampled for the interval of the error: it is no mean over sessions.
const GROUPS: usize = 64;
/// Steps of log-odds in which groups count.
const GROUP_CELLS: usize = 1 << 11;

/// A tenth of the predictions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CalibrationBin {
    /// The mean prediction.
    pub predicted: f64,
    /// The share of them that came true.
    pub observed: f64,
    /// How many there are; a cell of equal predictions may be divided between bins.
    pub count: f64,
}

/// Whether probabilities hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// Expected calibration error: the mean of |predicted − observed| over the bins.
    pub ece: f64,
    /// Between which bounds that is in 95 of 100 logs like this one; never above the error itself, which resampling, itself
    /// a source of error, can only raise. `None` if nothing was resampled.
    pub ece_interval: Option<(f64, f64)>,
    /// Mean log loss.
    pub log_loss: f64,
    /// The log loss of predicting the observed rate throughout.
    pub constant_log_loss: f64,
    /// The bins, lowest predictions first.
    pub bins: Vec<CalibrationBin>,
    /// How many predictions there are.
    pub predictions: u64,
}

/// Counts predictions and what became of them.
#[derive(Debug, Clone)]
pub(super) struct CalibrationCounts {
    cells: Vec<Cell>,
    /// The same by group and coarser cell: how many, hits, and the sum of the predictions.
    groups: Vec<[f32; 3]>,
    log_loss: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    count: u64,
    hits: u64,
    predicted: f64,
}

impl Default for CalibrationCounts {
    fn default() -> Self {
        Self { cells: vec![Cell::default(); CELLS], groups: vec![[0.0; 3]; GROUPS * GROUP_CELLS], log_loss: 0.0 }
    }
}

/// The log loss of a prediction.
pub(super) fn log_loss(probability: f64, hit: bool) -> f64 {
    -(if hit { probability } else { 1.0 - probability }).max(1e-15).ln()
}

impl CalibrationCounts {
    /// Counts a prediction in (0, 1) that a session got.
    pub(super) fn add(&mut self, session: u64, probability: f64, hit: bool) {
        let log_odds = (probability / (1.0 - probability)).ln().clamp(-REACH, REACH);
        let cell = ((log_odds + REACH) / (2.0 * REACH) * CELLS as f64) as usize;
        let cell = cell.min(CELLS - 1);
        // Multiplying spreads keys that follow each other (Knuth, The Art of Computer Programming 3, 6.4).
        let group = (session.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % GROUPS;
        let sums = &mut self.groups[group * GROUP_CELLS + cell / (CELLS / GROUP_CELLS)];
        sums[0] += 1.0;
        sums[1] += f32::from(u8::from(hit));
        sums[2] += probability as f32;
        let cell = &mut self.cells[cell];
        cell.count += 1;
        cell.hits += u64::from(hit);
        cell.predicted += probability;
        self.log_loss += log_loss(probability, hit);
    }

    /// The error of each of `resamples` draws of groups, with replacement, in the bins of all predictions.
    fn resampled(&self, resamples: usize, seed: u64) -> Vec<f64> {
        let count_of =
            |cell: usize| (0..GROUPS).map(|g| f64::from(self.groups[g * GROUP_CELLS + cell][0])).sum::<f64>();
        let counts: Vec<f64> = (0..GROUP_CELLS).map(count_of).collect();
        let total: f64 = counts.iter().sum();
        let mut binned = vec![[[0.0_f64; 3]; BINS]; GROUPS];
        let mut before = 0.0;
        for (cell, count) in counts.into_iter().enumerate().filter(|(_, count)| *count > 0.0) {
            let bin = ((before + 0.5 * count) / total * BINS as f64) as usize;
            before += count;
            for (group, bins) in binned.iter_mut().enumerate() {
                let sums = self.groups[group * GROUP_CELLS + cell];
                bins[bin.min(BINS - 1)].iter_mut().zip(sums).for_each(|(all, one)| *all += f64::from(one));
            }
        }
        let mut random = SmallRng::seed_from_u64(seed);
        let one = |_| {
            let mut bins = [[0.0; 3]; BINS];
            for _ in 0..GROUPS {
                let drawn = &binned[random.random_range(0..GROUPS)];
                let pairs = bins.iter_mut().flatten().zip(drawn.iter().flatten());
                pairs.for_each(|(all, one)| *all += one);
            }
            let all: f64 = bins.iter().map(|bin| bin[0]).sum();
            bins.iter().map(|[_, hits, predicted]| (predicted - hits).abs()).sum::<f64>() / all.max(1.0)
        };
        (0..resamples).map(one).collect()
    }

    /// What the counts come to; `None` without predictions.
    pub(super) fn result(&self, resamples: usize, seed: u64) -> Option<Calibration> {
        let predictions: u64 = self.cells.iter().map(|c| c.count).sum();
        if predictions == 0 {
            return None;
        }
        let total = predictions as f64;
        let bin_size = total / BINS as f64;
        let mut bins = Vec::with_capacity(BINS);
        let (mut count, mut hits, mut predicted) = (0.0, 0.0, 0.0);
        for cell in self.cells.iter().filter(|c| c.count > 0) {
            // A cell is divided where a bin ends: its predictions are alike, whichever of them come first.
            let mut left = cell.count as f64;
            let (rate, mean) = (cell.hits as f64 / left, cell.predicted / left);
            while left > 1e-9 {
                let room = if bins.len() + 1 == BINS { f64::INFINITY } else { bin_size - count };
                let part = left.min(room);
                (count, hits, predicted, left) =
                    (count + part, hits + part * rate, predicted + part * mean, left - part);
                if bins.len() + 1 < BINS && count >= bin_size - 1e-9 {
                    bins.push(CalibrationBin { predicted: predicted / count, observed: hits / count, count });
                    (count, hits, predicted) = (0.0, 0.0, 0.0);
                }
            }
        }
        if count > 1e-9 {
            bins.push(CalibrationBin { predicted: predicted / count, observed: hits / count, count });
        }
        let rate = self.cells.iter().map(|c| c.hits).sum::<u64>() as f64 / total;
        let ece = bins.iter().map(|b| (b.predicted - b.observed).abs() * b.count / total).sum();
        let resampled = Estimate::new(ece, self.resampled(resamples, seed).into_iter());
        Some(Calibration {
            ece,
            ece_interval: resampled.interval.map(|(low, high)| (low.min(ece), high.max(ece))),
            log_loss: self.log_loss / total,
            constant_log_loss: rate * log_loss(rate, true) + (1.0 - rate) * log_loss(rate, false),
            bins,
            predictions,
        })
    }
}

impl Calibration {
    /// The tenth with the highest predictions.
    pub fn top(&self) -> Option<CalibrationBin> {
        self.bins.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration(predictions: impl IntoIterator<Item = (f64, bool)>) -> Calibration {
        let mut counts = CalibrationCounts::default();
        predictions.into_iter().enumerate().for_each(|(n, (p, hit))| counts.add(n as u64, p, hit));
        counts.result(0, 1).unwrap()
    }

    #[test]
    fn bins_have_the_same_size_and_the_error_is_their_mean_distance() {
        let found = calibration((0..1000).map(|n| (if n < 500 { 0.1 } else { 0.9 }, n % 2 == 0)));
        assert!((found.ece - 0.4).abs() < 1e-9);
        assert_eq!((found.bins.len(), found.predictions), (BINS, 1000));
        for (number, bin) in found.bins.iter().enumerate() {
            assert!((bin.count - 100.0).abs() < 1e-6 && (bin.observed - 0.5).abs() < 1e-9);
            assert!((bin.predicted - if number < 5 { 0.1 } else { 0.9 }).abs() < 1e-9);
        }
        assert!((found.constant_log_loss - 2.0_f64.ln()).abs() < 1e-12);
        assert!((found.log_loss - (-0.5 * (0.1_f64.ln() + 0.9_f64.ln()))).abs() < 1e-9);
    }

    #[test]
    fn it_agrees_with_sorting() {
        // Distinct predictions, and hits that follow no rule: bins by sorting, as the definition says.
        let made: Vec<(f64, bool)> =
            (0..5_000_u64).map(|n| ((n as f64 + 0.5) / 5_000.0, (n * n * 7 + n * 3) % 11 < 4)).collect();
        let found = calibration(made.iter().rev().copied());
        let mut ece = 0.0;
        for (bin, part) in found.bins.iter().zip(made.chunks(500)) {
            let mean = part.iter().map(|p| p.0).sum::<f64>() / 500.0;
            let rate = part.iter().filter(|p| p.1).count() as f64 / 500.0;
            assert!((bin.predicted - mean).abs() < 1e-3 && (bin.observed - rate).abs() < 5e-3, "{bin:?} {mean} {rate}");
            ece += (mean - rate).abs() / 10.0;
        }
        assert!((found.ece - ece).abs() < 1e-3);
    }

    #[test]
    fn the_interval_has_the_error_of_other_logs_like_this_one() {
        // 300 sessions of ten predictions, which all come true or none does: a chance of 0.3, of which 0.4 is said.
        let log = |seed: u64, said: f64, sessions: u64| {
            let mut random = SmallRng::seed_from_u64(seed);
            let mut counts = CalibrationCounts::default();
            for session in 0..sessions {
                let hit = random.random_bool(0.3);
                (0..10).for_each(|_| counts.add(session, said, hit));
            }
            counts
        };
        let found = log(1, 0.4, 300).result(400, 7).unwrap();
        assert_eq!(found.ece_interval, log(1, 0.4, 300).result(400, 7).unwrap().ece_interval);
        let (low, high) = found.ece_interval.unwrap();
        assert!(low < found.ece && found.ece < high, "{low} {} {high}", found.ece);
        let others = (2..202).filter(|&seed| {
            let ece = log(seed, 0.4, 300).result(0, 1).unwrap().ece;
            (low..high).contains(&(ece - 0.1 + found.ece))
        });
        assert!(others.count() > 180, "{low} {high}");
        let (_, narrow) = log(1, 0.3, 30_000).result(200, 7).unwrap().ece_interval.unwrap();
        assert!(narrow < 0.02, "{narrow}");
        assert!(log(1, 0.4, 10).result(0, 1).unwrap().ece_interval.is_none());
    }

    #[test]
    fn few_predictions_and_none() {
        assert!(CalibrationCounts::default().result(10, 1).is_none());
        let found = calibration([(0.25, false), (0.25, true)]);
        assert!((found.ece - 0.25).abs() < 1e-9);
        assert!((found.top().unwrap().observed - 0.5).abs() < 1e-9);
    }
}
