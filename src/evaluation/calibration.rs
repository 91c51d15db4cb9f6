//! Do the probabilities hold? Predicted against observed, in bins with as many predictions each.

/// How many bins.
const BINS: usize = 10;
/// Predictions are counted in this many steps of log-odds, so that any number of them takes the same memory.
const CELLS: usize = 1 << 14;
/// Log-odds beyond this are counted with it.
const REACH: f64 = 16.0;

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
        Self { cells: vec![Cell::default(); CELLS], log_loss: 0.0 }
    }
}

/// The log loss of a prediction.
pub(super) fn log_loss(probability: f64, hit: bool) -> f64 {
    -(if hit { probability } else { 1.0 - probability }).max(1e-15).ln()
}

impl CalibrationCounts {
    /// Counts a prediction in (0, 1).
    pub(super) fn add(&mut self, probability: f64, hit: bool) {
        let log_odds = (probability / (1.0 - probability)).ln().clamp(-REACH, REACH);
        let cell = ((log_odds + REACH) / (2.0 * REACH) * CELLS as f64) as usize;
        let cell = &mut self.cells[cell.min(CELLS - 1)];
        cell.count += 1;
        cell.hits += u64::from(hit);
        cell.predicted += probability;
        self.log_loss += log_loss(probability, hit);
    }

    /// What the counts come to; `None` without predictions.
    pub(super) fn result(&self) -> Option<Calibration> {
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
        Some(Calibration {
            ece: bins.iter().map(|b| (b.predicted - b.observed).abs() * b.count / total).sum(),
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
        predictions.into_iter().for_each(|(p, hit)| counts.add(p, hit));
        counts.result().unwrap()
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
    fn few_predictions_and_none() {
        assert!(CalibrationCounts::default().result().is_none());
        let found = calibration([(0.25, false), (0.25, true)]);
        assert!((found.ece - 0.25).abs() < 1e-9);
        assert!((found.top().unwrap().observed - 0.5).abs() < 1e-9);
    }
}
