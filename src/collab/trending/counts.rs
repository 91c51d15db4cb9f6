//! How often was an item turned to, ever and of late?

use super::TRENDING_SCALES;
use super::level::{Level, Power};
use crate::domain::{LoadError, StateReader, StateWriter, Timestamp};

/// Nobody gets to count as far as this.
pub(super) const MOST: u64 = 1 << 53;

/// The engagements with one item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Counts {
    /// All of them.
    pub(super) total: u64,
    /// Their sums of 2^(tᵢ/h) at each half-life.
    levels: [Level; TRENDING_SCALES],
}

/// How many half-lives there are, shortest first, in seconds.
pub(super) type HalfLives = [f64; TRENDING_SCALES];

/// An instant in each half-life.
pub(super) type Now = [Power; TRENDING_SCALES];

/// The instant `at` in each half-life.
pub(super) fn now(at: Timestamp, half_lives_s: &HalfLives) -> Now {
    half_lives_s.map(|half_life_s| Power::new(at.as_seconds() / half_life_s))
}

impl Counts {
    /// Nobody.
    pub(super) const NONE: Self = Self { total: 0, levels: [Level::ZERO; TRENDING_SCALES] };

    /// By what the item stands on board `board`: one for each half-life, and a last one for all time.
    pub(super) fn level(&self, board: usize) -> Level {
        self.levels.get(board).copied().unwrap_or_else(|| Level::of_count(self.total))
    }

    /// Decayed engagements at an instant, one for each half-life.
    #[inline]
    pub(super) fn recent(&self, now: &Now) -> [f32; TRENDING_SCALES] {
        let mut values = [0.0; TRENDING_SCALES];
        for ((value, level), &power) in values.iter_mut().zip(self.levels).zip(now) {
            *value = level.over(power) as f32;
        }
        values
    }

    /// Adds one engagement at `at`.
    pub(super) fn raise(&mut self, at: Timestamp, half_lives_s: &HalfLives) {
        self.total += 1;
        for (level, half_life_s) in self.levels.iter_mut().zip(half_lives_s) {
            *level = level.plus(Level::power(at.as_seconds() / half_life_s));
        }
    }

    /// Takes `taken` away; `false` if nothing is left.
    ///
    /// What others did so long before that it went under in the sum is put, of the longer half-life, at one instant.
    pub(super) fn lower(&mut self, taken: &Self, half_lives_s: &HalfLives) -> bool {
        for (level, taken) in self.levels.iter_mut().zip(taken.levels) {
            *level = level.minus(taken);
        }
        let left = self.levels[TRENDING_SCALES - 1];
        self.total = self.total.saturating_sub(taken.total);
        if self.total == 0 {
            if left.is_zero() {
                *self = Self::NONE;
                return false;
            }
            // More was taken than was there: the item was forgotten in between. What is left came after that.
            self.total = 1;
        }
        let log2_total = (self.total as f64).log2();
        for scale in (0..TRENDING_SCALES - 1).rev() {
            let longer = self.levels[scale + 1];
            if self.levels[scale].is_zero() && !longer.is_zero() {
                let at_s = (longer.log2() - log2_total) * half_lives_s[scale + 1];
                self.levels[scale] = Level::power(at_s / half_lives_s[scale] + log2_total);
            }
        }
        true
    }

    /// The fewest bytes of counts that are not [`NONE`](Self::NONE).
    pub(super) const BYTES: usize = 8 + 12 * TRENDING_SCALES;

    pub(super) fn save(&self, to: &mut StateWriter) {
        to.u64(self.total);
        if self.total > 0 {
            self.levels.iter().for_each(|level| level.save(to));
        }
    }

    pub(super) fn load(from: &mut StateReader<'_>) -> Result<Self, LoadError> {
        let mut counts = Self { total: from.u64()?, ..Self::NONE };
        if counts.total > MOST {
            return Err(LoadError::Damaged("a count is no number of engagements"));
        }
        if counts.total > 0 {
            for level in &mut counts.levels {
                *level = Level::load(from)?;
            }
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_LIVES_S: HalfLives = [900.0, 7_200.0, 86_400.0];

    fn counts(seconds: &[f64]) -> Counts {
        let mut counts = Counts::NONE;
        seconds.iter().for_each(|s| counts.raise(Timestamp::from_seconds(1.7e9 + s), &HALF_LIVES_S));
        counts
    }

    fn close(a: &Counts, b: &Counts) -> bool {
        a.total == b.total
            && (0..=TRENDING_SCALES).all(|board| (a.level(board).log2() - b.level(board).log2()).abs() < 1e-3)
    }

    #[test]
    fn what_others_did_is_left() {
        let mut all = counts(&[0.0, 5_000.0, 6_000.0, 20_000.0]);
        assert!(all.lower(&counts(&[5_000.0, 20_000.0]), &HALF_LIVES_S));
        assert!(close(&all, &counts(&[0.0, 6_000.0])), "{all:?}");
        assert!(!all.lower(&counts(&[0.0, 6_000.0]), &HALF_LIVES_S));
        assert_eq!(all, Counts::NONE);
        assert!(!all.lower(&counts(&[0.0]), &HALF_LIVES_S));
    }

    #[test]
    fn what_went_under_is_put_at_one_instant() {
        // Two days are 192 of the shortest half-lives.
        let mut all = counts(&[0.0, 10.0, 172_800.0]);
        assert!(all.lower(&counts(&[172_800.0]), &HALF_LIVES_S));
        assert!(close(&all, &counts(&[0.0, 10.0])), "{all:?}");
    }

    #[test]
    fn what_came_after_an_item_was_forgotten_stays() {
        let mut new = counts(&[90_000.0]);
        assert!(new.lower(&counts(&[0.0, 1.0]), &HALF_LIVES_S));
        assert!(new.total == 1 && new.level(0).log2() > counts(&[0.0]).level(0).log2());
    }
}
