//! How is a sum of powers of two kept that no float can hold?
//!
//! A count with half-life `h` sums 2^(tᵢ/h), whose exponents run into the millions. So exponent and mantissa are kept
//! apart, and what is added can be taken away again to the last of the mantissa's 53 bits.

use crate::domain::{LoadError, StateReader, StateWriter};

/// Exponents beyond this are cut off: no half-life and no real time leads there.
const FURTHEST: f64 = (1 << 29) as f64;

/// What is left of a subtraction below 2^-40 is taken for rounding.
const RESIDUE: f64 = 1.0 / (1_u64 << 40) as f64;

/// No quotient of levels is larger than this by far: 2^40.
const MOST: f64 = (1_u64 << 40) as f64;

/// A power of two to divide by, taken apart once for many levels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Power {
    whole: i32,
    /// One over what the whole exponent leaves, above ½ and up to 1.
    rest: f64,
}

impl Power {
    /// 2^`exponent`.
    pub(super) fn new(exponent: f64) -> Self {
        let whole = exponent.floor().clamp(-FURTHEST, FURTHEST);
        Self { whole: whole as i32, rest: (whole - exponent).clamp(-1.0, 0.0).exp2() }
    }
}

/// 2^`exponent`, by writing down the exponent; zero below all normal numbers.
#[inline]
fn two_to(exponent: i32) -> f64 {
    f64::from_bits(((exponent.clamp(-1023, 1023) + 1023) as u64) << 52)
}

/// A sum of powers of two. Comparing levels compares the sums.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Level {
    exponent: i32,
    /// From 1 to below 2; 0 only in [`Level::ZERO`].
    mantissa: f64,
}

impl Level {
    /// The sum of nothing.
    pub(super) const ZERO: Self = Self { exponent: i32::MIN, mantissa: 0.0 };

    /// 2^`exponent`.
    pub(super) fn power(exponent: f64) -> Self {
        let whole = exponent.floor().clamp(-FURTHEST, FURTHEST);
        Self::normal(whole as i32, (exponent - whole).clamp(0.0, 1.0).exp2())
    }

    /// A plain number.
    pub(super) fn of_count(count: u64) -> Self {
        match count.checked_ilog2() {
            Some(exponent) => Self::normal(exponent as i32, count as f64 / f64::from(exponent).exp2()),
            None => Self::ZERO,
        }
    }

    pub(super) fn is_zero(self) -> bool {
        self.mantissa == 0.0
    }

    pub(super) fn plus(self, other: Self) -> Self {
        let (high, low) = if self < other { (other, self) } else { (self, other) };
        if low.is_zero() {
            return high;
        }
        Self::normal(high.exponent, high.mantissa + low.mantissa * two_to(low.exponent.saturating_sub(high.exponent)))
    }

    /// Takes `other` away. What is left is zero if it is no more than rounding.
    pub(super) fn minus(self, other: Self) -> Self {
        if other.is_zero() {
            return self;
        }
        if self <= other {
            return Self::ZERO;
        }
        let left = self.mantissa - other.mantissa * two_to(other.exponent.saturating_sub(self.exponent));
        if left <= self.mantissa * RESIDUE { Self::ZERO } else { Self::normal(self.exponent, left) }
    }

    /// The logarithm to base 2; minus infinity for zero.
    pub(super) fn log2(self) -> f64 {
        if self.is_zero() { f64::NEG_INFINITY } else { f64::from(self.exponent) + self.mantissa.log2() }
    }

    /// The sum divided by 2^`exponent`. What lies in the future counts in full, and is kept within reason.
    pub(super) fn at(self, exponent: f64) -> f64 {
        self.over(Power::new(exponent))
    }

    /// The sum divided by a power of two. What lies in the future counts in full, and is kept within reason.
    #[inline]
    pub(super) fn over(self, power: Power) -> f64 {
        // The exponent of zero is so low that this is zero too.
        (two_to(self.exponent.saturating_sub(power.whole)) * power.rest).min(MOST) * self.mantissa
    }

    /// The sum divided by another, which must not be zero.
    pub(super) fn relative_to(self, other: Self) -> f64 {
        two_to(self.exponent.saturating_sub(other.exponent)).min(MOST) * self.mantissa / other.mantissa
    }

    pub(super) fn save(self, to: &mut StateWriter) {
        to.i32(self.exponent);
        to.f64(self.mantissa);
    }

    pub(super) fn load(from: &mut StateReader<'_>) -> Result<Self, LoadError> {
        let level = Self { exponent: from.i32()?, mantissa: from.f64()? };
        let normal = (1.0..2.0).contains(&level.mantissa) && f64::from(level.exponent).abs() <= FURTHEST + 64.0;
        if normal || level == Self::ZERO { Ok(level) } else { Err(LoadError::Damaged("a count is out of range")) }
    }

    fn normal(mut exponent: i32, mut mantissa: f64) -> Self {
        while mantissa >= 2.0 {
            mantissa /= 2.0;
            exponent += 1;
        }
        while mantissa < 1.0 {
            mantissa *= 2.0;
            exponent -= 1;
        }
        Self { exponent, mantissa }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_far_beyond_floats_add_compare_and_divide() {
        let big = Level::power(2_000_000.25);
        let double = big.plus(big);
        assert!(double > big && big > Level::ZERO);
        assert!((double.log2() - 2_000_001.25).abs() < 1e-9);
        assert_eq!(double.relative_to(big), 2.0);
        assert_eq!(double.at(2_000_001.0), big.at(2_000_000.0));
        assert_eq!(big.plus(Level::power(-5.0)), big);
        assert_eq!(Level::ZERO.plus(big), big);
        assert_eq!((Level::of_count(6).at(0.0), Level::of_count(0)), (6.0, Level::ZERO));
        assert_eq!(Level::of_count(u64::MAX), Level::power(64.0));
        assert!(Level::power(f64::MAX) > Level::power(1e6) && Level::power(f64::MIN) < Level::power(-1e6));
    }

    #[test]
    fn quotients_are_those_of_the_definition() {
        for exponent in [-1e9, -1500.3, -3.0, -0.25, 0.0, 0.5, 39.9, 40.5, 1e9] {
            let level = Level::power(7.25).plus(Level::power(6.0));
            let expected = ((7.0_f64 - exponent).min(40.0).exp2() * level.mantissa, level.at(exponent));
            assert!((expected.0 - expected.1).abs() <= 1e-12 * expected.0, "{exponent}: {expected:?}");
            assert_eq!(Level::ZERO.at(exponent), 0.0);
        }
        assert_eq!([-2000, -1, 0, 1023, 5000].map(two_to), [0.0, 0.5, 1.0, 2_f64.powi(1023), 2_f64.powi(1023)]);
    }

    #[test]
    fn what_was_added_can_be_taken_away() {
        let (mine, theirs) = (Level::power(1_234_567.7), Level::power(1_234_540.1));
        let left = mine.plus(theirs).plus(mine).minus(mine.plus(mine));
        assert!((left.relative_to(theirs) - 1.0).abs() < 1e-6, "{left:?}");
        let thousand = (0..1000).fold(Level::ZERO, |sum, n| sum.plus(Level::power(f64::from(n) / 7.0)));
        let backwards = (0..1000).rev().fold(Level::ZERO, |sum, n| sum.plus(Level::power(f64::from(n) / 7.0)));
        assert_eq!(thousand.minus(backwards), Level::ZERO);
        assert_eq!(theirs.minus(mine), Level::ZERO);
        assert_eq!(mine.minus(Level::ZERO), mine);
    }

    #[test]
    fn only_levels_are_loaded() {
        let load = |exponent: i32, mantissa: f64| {
            let mut writer = StateWriter::new(*b"test", 1, 0);
            Level { exponent, mantissa }.save(&mut writer);
            let bytes = writer.finish();
            Level::load(&mut StateReader::new(*b"test", 1, &bytes).unwrap())
        };
        assert_eq!(load(7, 1.5), Ok(Level { exponent: 7, mantissa: 1.5 }));
        assert_eq!(load(i32::MIN, 0.0), Ok(Level::ZERO));
        for (exponent, mantissa) in [(7, 2.0), (7, 0.5), (7, f64::NAN), (0, 0.0), (i32::MAX, 1.0), (7, -1.0)] {
            assert!(load(exponent, mantissa).is_err());
        }
    }
}
