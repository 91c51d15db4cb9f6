//! Who gets which arm of an experiment? Always the same one, by a keyed hash.
//!
//! Experiments stand in an order. A person (or, if unknown, a session) takes part in the first one whose arms' shares
//! cover the person's hash; whoever none covers gets the default. Each experiment hashes with a key made of its own
//! name, so that arms of different experiments do not go together.

/// An experiment: its name, and the shares of its arms.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    /// Its name.
    pub name: String,
    /// Names and shares of its arms; the shares add up to at most 1.
    pub arms: Vec<(String, f64)>,
}

/// Which arm everybody gets. Arm 0 is the default; the arms of the experiments follow in their order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Assignment {
    experiments: Vec<Experiment>,
    keys: Vec<(u64, u64)>,
}

impl Assignment {
    /// Takes over the experiments.
    pub fn new(experiments: Vec<Experiment>) -> Self {
        let half = |name: &str, seed: u64| siphash((seed, !seed), name.as_bytes());
        let keys = experiments.iter().map(|e| (half(&e.name, 1), half(&e.name, 2))).collect();
        Self { experiments, keys }
    }

    /// The experiments.
    pub fn experiments(&self) -> &[Experiment] {
        &self.experiments
    }

    /// How many arms there are, with the default.
    pub fn arms(&self) -> usize {
        1 + self.experiments.iter().map(|e| e.arms.len()).sum::<usize>()
    }

    /// The arm of `subject`.
    pub fn arm(&self, subject: &[u8]) -> u16 {
        let mut first = 1;
        for (experiment, key) in self.experiments.iter().zip(&self.keys) {
            // The upper 53 bits are a uniform number in [0, 1).
            let place = (siphash(*key, subject) >> 11) as f64 / (1_u64 << 53) as f64;
            let mut sum = 0.0;
            for (n, (_, share)) in experiment.arms.iter().enumerate() {
                sum += share;
                if place < sum {
                    return (first + n) as u16;
                }
            }
            first += experiment.arms.len();
        }
        0
    }

    /// The names of an arm and its experiment; `None` for the default.
    pub fn names(&self, arm: u16) -> Option<(&str, &str)> {
        let mut left = usize::from(arm).checked_sub(1)?;
        for experiment in &self.experiments {
            if let Some((name, _)) = experiment.arms.get(left) {
                return Some((&experiment.name, name));
            }
            left -= experiment.arms.len();
        }
        None
    }
}

/// `SipHash-2-4` (Aumasson & Bernstein 2012): a keyed hash that is the same for ever, unlike the standard library's.
pub fn siphash(key: (u64, u64), bytes: &[u8]) -> u64 {
    let mut v = [
        key.0 ^ 0x736f_6d65_7073_6575,
        key.1 ^ 0x646f_7261_6e64_6f6d,
        key.0 ^ 0x6c79_6765_6e65_7261,
        key.1 ^ 0x7465_6462_7974_6573,
    ];
    let round = |v: &mut [u64; 4]| {
        v[0] = v[0].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[2] = v[2].rotate_left(32);
    };
    let words = bytes.chunks_exact(8);
    let mut last = (bytes.len() as u64) << 56;
    for (n, &byte) in words.remainder().iter().enumerate() {
        last |= u64::from(byte) << (8 * n);
    }
    let word = |chunk: &[u8]| chunk.iter().rev().fold(0_u64, |word, &byte| word << 8 | u64::from(byte));
    for m in words.map(word).chain([last]) {
        v[3] ^= m;
        round(&mut v);
        round(&mut v);
        v[0] ^= m;
    }
    v[2] ^= 0xff;
    (0..4).for_each(|_| round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(experiments: &[(&str, &[f64])]) -> Assignment {
        let arms = |shares: &[f64]| shares.iter().enumerate().map(|(n, &share)| (format!("arm-{n}"), share)).collect();
        Assignment::new(
            experiments.iter().map(|(name, shares)| Experiment { name: (*name).into(), arms: arms(shares) }).collect(),
        )
    }

    #[test]
    fn the_hash_is_the_published_one() {
        let bytes: Vec<u8> = (0..15).collect();
        // The example of the paper's appendix: key 00 01 … 0f, text 00 01 … 0e.
        assert_eq!(siphash((0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908), &bytes), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn shares_are_kept_and_the_rest_goes_on_to_the_next_experiment() {
        let assignment = assignment(&[("one", &[0.1, 0.3]), ("two", &[0.5])]);
        let mut counts = vec![0_usize; assignment.arms()];
        for person in 0..20_000_u32 {
            counts[usize::from(assignment.arm(&person.to_le_bytes()))] += 1;
        }
        for (count, share) in counts.iter().zip([0.3, 0.1, 0.3, 0.3]) {
            assert!((*count as f64 / 20_000.0 - share).abs() < 0.015, "{counts:?}");
        }
        assert_eq!(assignment.names(2), Some(("one", "arm-1")));
        assert_eq!(assignment.names(3), Some(("two", "arm-0")));
        assert_eq!((assignment.names(0), assignment.names(4)), (None, None));
    }

    #[test]
    fn the_same_person_has_the_same_arm_and_experiments_do_not_go_together() {
        let (one, other) = (assignment(&[("one", &[0.5, 0.5])]), assignment(&[("other", &[0.5, 0.5])]));
        let arms: Vec<u16> = (0..64_u8).map(|person| one.arm(&[person])).collect();
        assert_eq!(arms, (0..64_u8).map(|person| one.clone().arm(&[person])).collect::<Vec<_>>());
        let same = (0..10_000_u32).filter(|p| one.arm(&p.to_le_bytes()) == other.arm(&p.to_le_bytes())).count();
        assert!((4_700..5_300).contains(&same), "{same}");
        assert_eq!(Assignment::default().arm(b"anybody"), 0);
    }
}
