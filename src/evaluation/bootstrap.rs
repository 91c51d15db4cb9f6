//! How sure are we of a figure? Percentile intervals from resampled sessions (Efron 1979; clusters: Field & Welsh 2007).

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;

use super::tally::SessionSums;

/// The share of the resamples between the bounds of an interval.
const COVERAGE: f64 = 0.95;

/// A figure, and between which bounds it would be in 95 of 100 logs like this one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// Lower and upper bound; `None` if nothing was resampled.
    pub interval: Option<(f64, f64)>,
}

/// The means of each column in each resample: all sessions drawn anew, with replacement. Two calls with the same number
/// of sessions and the same seed draw the same sessions, so that their resamples can be compared pair by pair. The
/// result does not depend on the number of threads.
pub(super) fn resample(sums: &SessionSums, resamples: usize, seed: u64) -> Vec<Vec<f64>> {
    let sessions = sums.sessions();
    if sessions == 0 {
        return Vec::new();
    }
    let one = |number: usize| {
        let mut random = SmallRng::seed_from_u64(seed.wrapping_add(number as u64));
        sums.means_of((0..sessions).map(|_| random.random_range(0..sessions)))
    };
    (0..resamples).into_par_iter().map(one).collect()
}

impl Estimate {
    /// `value` with the bounds between which the middle 95 % of `resampled` lie.
    pub(super) fn new(value: f64, resampled: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = resampled.filter(|v| v.is_finite()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            // Linear between the two nearest.
            let place = share * (sorted.len() - 1) as f64;
            let (below, part) = (place.floor() as usize, place.fract());
            sorted[below] + part * (sorted[(below + 1).min(sorted.len() - 1)] - sorted[below])
        };
        let tail = (1.0 - COVERAGE) / 2.0;
        Self { value, interval: (!sorted.is_empty()).then(|| (at(tail), at(1.0 - tail))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_quantiles() {
        let estimate = Estimate::new(7.0, (0..=1000).map(f64::from));
        let (low, high) = estimate.interval.unwrap();
        assert!(estimate.value == 7.0 && (low - 25.0).abs() < 1e-9 && (high - 975.0).abs() < 1e-9);
        assert_eq!(Estimate::new(7.0, std::iter::empty()).interval, None);
    }

    #[test]
    fn resamples_of_one_session_are_that_session() {
        let mut sums = SessionSums::new(1);
        (0..4).for_each(|n| sums.add(3, [n as f32]));
        assert_eq!(resample(&sums, 5, 1), vec![vec![1.5]; 5]);
        assert!(resample(&SessionSums::new(1), 5, 1).is_empty());
    }

    #[test]
    fn intervals_cover_the_truth_as_often_as_they_say() {
        // Sessions of 1 to 6 positions that all hit or all miss: the positions are as dependent as can be.
        const RATE: f64 = 0.3;
        let mut random = SmallRng::seed_from_u64(11);
        let (mut covered, mut width) = (0, 0.0);
        for log in 0..300 {
            let mut sums = SessionSums::new(1);
            for session in 0..60 {
                let hit = f32::from(u8::from(random.random_bool(RATE)));
                (0..random.random_range(1..=6)).for_each(|_| sums.add(session, [hit]));
            }
            let estimate = Estimate::new(sums.means()[0], resample(&sums, 200, log).into_iter().map(|m| m[0]));
            let (low, high) = estimate.interval.unwrap();
            covered += usize::from(low <= RATE && RATE <= high);
            width += (high - low) / 300.0;
        }
        assert!((270..=296).contains(&covered), "{covered} of 300");
        // 2 × 1.96 × √(p (1 − p) / n_eff) with n_eff = (Σ size)² / Σ size² = 60 × 3.5² / (91 / 6)
        assert!((width - 0.258).abs() < 0.015, "{width}");
    }

    #[test]
    fn the_same_seed_draws_the_same_sessions() {
        let mut sums = SessionSums::new(1);
        (0..50).for_each(|n| sums.add(n, [n as f32]));
        assert_eq!(resample(&sums, 20, 3), resample(&sums, 20, 3));
        assert_ne!(resample(&sums, 20, 3), resample(&sums, 20, 4));
    }
}
