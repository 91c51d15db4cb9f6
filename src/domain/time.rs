//! When? Instants as milliseconds since 1970, and the clock that is passed in.

use std::sync::atomic::{AtomicI64, Ordering};

use serde::{Deserialize, Serialize};

/// An instant: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Whole and broken seconds since 1970; out-of-range values saturate.
    pub fn from_seconds(seconds: f64) -> Self {
        Self((seconds * 1000.0).round() as i64)
    }

    /// Seconds since 1970.
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// Seconds from `earlier` to `self`; negative if `earlier` is later.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1000.0
    }

    /// The instant `seconds` later (or earlier, if negative).
    #[must_use]
    pub fn plus_seconds(self, seconds: f64) -> Self {
        Self(self.0.saturating_add((seconds * 1000.0).round() as i64))
    }
}

/// Tells the time. Passed in, so that tests and replays decide what the time is.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The present instant.
    fn now(&self) -> Timestamp;
}

/// The computer's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(since_1970.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// A clock that stands still until it is set.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.0))
    }

    /// Sets the clock.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::SeqCst);
    }

    /// Moves the clock on by `seconds`.
    pub fn advance_s(&self, seconds: f64) {
        self.0.fetch_add((seconds * 1000.0).round() as i64, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_convert_both_ways() {
        let t = Timestamp::from_seconds(1_396_860_669.277);
        assert_eq!(t.0, 1_396_860_669_277);
        assert!((t.as_seconds() - 1_396_860_669.277).abs() < 1e-6);
        assert!((t.plus_seconds(-1.5).seconds_since(t) + 1.5).abs() < 1e-9);
        assert_eq!(Timestamp::from_seconds(f64::MAX).0, i64::MAX);
    }

    #[test]
    fn a_manual_clock_moves_when_told() {
        let clock = ManualClock::at(Timestamp(1000));
        clock.advance_s(2.5);
        assert_eq!(clock.now(), Timestamp(3500));
    }
}
