//! Where does chance come from? One seeded source whose numbers never change from release to release.
//!
//! Shipped weights are learned from worlds that are named by their seed alone, so the source is our own: the
//! generators of the `rand` crate may change their numbers with a new version. The algorithm is `SplitMix64` (Steele,
//! Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014): eight bytes of state, about a nanosecond a number.

/// A seeded source of random numbers.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// Spreads the bits of `value` over all 64 of the answer; a bijection.
pub(super) fn mix(value: u64) -> u64 {
    let z = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A seed for part `part` of what `seed` describes; different parts are independent of each other.
pub(super) fn derive(seed: u64, part: u64) -> u64 {
    mix(mix(seed.wrapping_add(GOLDEN_GAMMA)) ^ part.wrapping_mul(GOLDEN_GAMMA).wrapping_add(1))
}

/// The number in [0, 1) that `bits` stand for.
pub(super) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

impl Random {
    /// A source for part `part` of what `seed` describes.
    pub(super) fn new(seed: u64, part: u64) -> Self {
        Self(derive(seed, part))
    }

    /// 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN_GAMMA);
        mix(self.0)
    }

    /// Uniform in [0, 1).
    pub(super) fn unit(&mut self) -> f64 {
        unit(self.bits())
    }

    /// Uniform in [low, high).
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// True with probability `probability`.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Uniform in 0..count; 0 if there is nothing to choose from.
    pub(super) fn below(&mut self, count: usize) -> usize {
        // Multiply-shift; its bias is below count / 2⁶⁴.
        ((u128::from(self.bits()) * count as u128) >> 64) as usize
    }

    /// One of `choices`, which must not be empty.
    pub(super) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// Exponentially distributed with mean 1.
    pub(super) fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// Normally distributed, mean 0, deviation 1 (Box–Muller).
    pub(super) fn normal(&mut self) -> f64 {
        (2.0 * self.exponential()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Lognormally distributed with this median; `sigma` is the deviation of the logarithm.
    pub(super) fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        median * (sigma * self.normal()).exp()
    }

    /// Gamma distributed with mean `shape` and scale 1 (Marsaglia and Tsang, 2000).
    pub(super) fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = (1.0 - self.unit()).powf(1.0 / shape);
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.unit()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// Shares that sum to one, Dirichlet distributed; the smaller `weights`, the more uneven.
    pub(super) fn dirichlet(&mut self, weights: &[f64]) -> Vec<f64> {
        let mut shares: Vec<f64> = weights.iter().map(|&w| self.gamma(w.max(1e-3)).max(1e-12)).collect();
        let sum: f64 = shares.iter().sum();
        for share in &mut shares {
            *share /= sum;
        }
        shares
    }

    /// A place in `weights` (not negative), drawn in proportion to them; `None` if they sum to nothing.
    pub(super) fn weighted(&mut self, weights: &[f64]) -> Option<usize> {
        let sum: f64 = weights.iter().sum();
        let mut left = self.unit() * sum;
        let mut last = None;
        for (place, &weight) in weights.iter().enumerate() {
            if weight > 0.0 {
                last = Some(place);
                left -= weight;
                if left < 0.0 {
                    break;
                }
            }
        }
        last
    }
}

/// Draws ranks 0, 1, 2, … with probability falling as (rank + 1)^−exponent, in constant time.
///
/// The continuous power law over [1, count + 1) is inverted and rounded down: no table, and close to Zipf's law
/// from the second rank on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Zipf {
    count: f64,
    /// 1 − exponent, kept away from 0, where the integral would be a logarithm.
    power: f64,
    /// (count + 1)^power − 1.
    span: f64,
}

impl Zipf {
    /// Over `count` ranks (at least one).
    pub(super) fn new(count: usize, exponent: f64) -> Self {
        let count = count.max(1) as f64;
        let mut power = 1.0 - exponent;
        if power.abs() < 1e-6 {
            power = 1e-6;
        }
        Self { count, power, span: (count + 1.0).powf(power) - 1.0 }
    }

    /// The rank at which the share `share` in [0, 1) of all draws is reached.
    pub(super) fn rank(&self, share: f64) -> usize {
        let x = (1.0 + share * self.span).powf(1.0 / self.power);
        (x - 1.0).clamp(0.0, self.count - 1.0) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_never_change() {
        // Published worlds are named by their seed: these numbers are a promise.
        let mut random = Random::new(7, 1);
        let first: Vec<u64> = (0..3).map(|_| random.bits()).collect();
        assert_eq!(first, [9_432_200_328_789_755_123, 5_582_514_069_319_674_955, 638_459_644_873_635_433]);
    }

    #[test]
    fn means_are_as_promised() {
        let mut random = Random::new(1, 1);
        let n = 20_000;
        let mut mean =
            |draw: &mut dyn FnMut(&mut Random) -> f64| (0..n).map(|_| draw(&mut random)).sum::<f64>() / f64::from(n);
        assert!((mean(&mut |r| r.unit()) - 0.5).abs() < 0.01);
        assert!((mean(&mut |r| r.exponential()) - 1.0).abs() < 0.03);
        assert!(mean(&mut |r| r.normal()).abs() < 0.03);
        assert!((mean(&mut |r| r.gamma(0.4)) - 0.4).abs() < 0.03);
        assert!((mean(&mut |r| r.gamma(3.0)) - 3.0).abs() < 0.06);
        assert!((mean(&mut |r| r.lognormal(5.0, 0.5).ln()) - 5.0_f64.ln()).abs() < 0.02);
    }

    #[test]
    fn zipf_ranks_fall_off_as_a_power() {
        let mut random = Random::new(3, 1);
        let zipf = Zipf::new(1000, 1.0);
        let mut counts = vec![0_u32; 1000];
        for _ in 0..200_000 {
            counts[zipf.rank(random.unit())] += 1;
        }
        let ratio = f64::from(counts[9]) / f64::from(counts[99]);
        assert!((7.0..14.0).contains(&ratio), "rank 10 to rank 100: {ratio}");
        assert_eq!(Zipf::new(1, 1.3).rank(0.999), 0);
        assert_eq!(Zipf::new(10, 0.0).rank(0.55), 5);
    }

    #[test]
    fn weighted_choice_skips_what_weighs_nothing() {
        let mut random = Random::new(4, 1);
        for _ in 0..200 {
            assert_eq!(random.weighted(&[0.0, 2.0, 0.0]), Some(1));
        }
        assert_eq!(random.weighted(&[0.0, 0.0]), None);
        assert_eq!(random.weighted(&[]), None);
    }
}
