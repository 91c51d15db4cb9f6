//! How far ahead do we look? The times, in seconds, by which an engagement counts.

use serde::{Deserialize, Serialize};

/// At most this many horizons are kept; each costs a set of weights and a list in every answer.
const MAX_HORIZONS: usize = 8;

/// The horizons of a model in seconds, strictly rising. Horizon `k` closes interval `k`, which opens at
/// the horizon before it (or at 0): `[15, 30, 60]` has the intervals (0, 15], (15, 30] and (30, 60].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u32>", into = "Vec<u32>")]
pub struct Horizons(Vec<u32>);

/// Why a list of seconds is no list of horizons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HorizonsError {
    /// None, or more than eight.
    #[error("there must be 1 to {MAX_HORIZONS} horizons")]
    Count,
    /// Not strictly rising from above zero, or beyond an hour.
    #[error("horizons must rise strictly, from at least 1 s to at most 3600 s")]
    Order,
}

impl Horizons {
    /// Checks and wraps `seconds`.
    pub fn new(seconds: Vec<u32>) -> Result<Self, HorizonsError> {
        if seconds.is_empty() || seconds.len() > MAX_HORIZONS {
            return Err(HorizonsError::Count);
        }
        if seconds[0] == 0 || seconds[seconds.len() - 1] > 3600 || seconds.windows(2).any(|w| w[0] >= w[1]) {
            return Err(HorizonsError::Order);
        }
        Ok(Self(seconds))
    }

    /// The horizons in seconds, rising.
    pub fn seconds(&self) -> &[u32] {
        &self.0
    }

    /// How many there are; never 0.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The last horizon in seconds.
    pub fn last_s(&self) -> u32 {
        self.0[self.0.len() - 1]
    }

    /// The interval into which a lag of `lag_s` seconds falls; `None` beyond the last horizon.
    /// A lag of 0 belongs to the first interval.
    pub fn interval(&self, lag_s: f64) -> Option<usize> {
        self.0.iter().position(|&h| lag_s <= f64::from(h))
    }
}

impl Default for Horizons {
    fn default() -> Self {
        Self(vec![15, 30, 60])
    }
}

impl TryFrom<Vec<u32>> for Horizons {
    type Error = HorizonsError;

    fn try_from(seconds: Vec<u32>) -> Result<Self, HorizonsError> {
        Self::new(seconds)
    }
}

impl From<Horizons> for Vec<u32> {
    fn from(horizons: Horizons) -> Self {
        horizons.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lags_fall_into_half_open_intervals() {
        let h = Horizons::default();
        assert_eq!(h.interval(0.0), Some(0));
        assert_eq!(h.interval(15.0), Some(0));
        assert_eq!(h.interval(15.001), Some(1));
        assert_eq!(h.interval(60.0), Some(2));
        assert_eq!(h.interval(60.1), None);
    }

    #[test]
    fn horizons_must_rise() {
        for bad in [vec![], vec![0, 15], vec![30, 15], vec![15, 15], vec![15, 4000]] {
            assert!(Horizons::new(bad).is_err());
        }
        assert!(Horizons::new((1..=9).collect()).is_err());
    }
}
