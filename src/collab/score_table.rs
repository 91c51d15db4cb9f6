//! Which item has gathered how much so far? A small open-addressing table that is emptied, not freed, between requests.

/// No item has this number: collab ignores numbers at and above [`super::MAX_ITEMS`].
const EMPTY: u32 = u32::MAX;

/// Sums of two kinds by a 32-bit key. Clearing costs as much as was inserted; nothing is allocated once it has grown
/// to the size that requests need.
#[derive(Debug, Clone)]
pub(super) struct ScoreTable {
    /// Keys by position; a power of two of them, at most half in use.
    keys: Vec<u32>,
    sums: Vec<[f32; 2]>,
    /// The positions in use, in the order of insertion, so that iteration does not depend on the hash.
    used: Vec<u32>,
}

impl Default for ScoreTable {
    fn default() -> Self {
        Self { keys: vec![EMPTY; 256], sums: vec![[0.0; 2]; 256], used: Vec::with_capacity(128) }
    }
}

impl ScoreTable {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        for &position in &self.used {
            self.keys[position as usize] = EMPTY;
        }
        self.used.clear();
    }

    /// Adds to the two sums of `key`. The key must not be `u32::MAX`.
    #[inline]
    pub(super) fn add(&mut self, key: u32, first: f32, second: f32) {
        if (self.used.len() + 1) * 2 > self.keys.len() {
            self.grow();
        }
        let position = self.position(key);
        if self.keys[position] == EMPTY {
            self.keys[position] = key;
            self.sums[position] = [first, second];
            self.used.push(position as u32);
        } else {
            self.sums[position][0] += first;
            self.sums[position][1] += second;
        }
    }

    /// The two sums of `key`, if anything was added to it.
    #[inline]
    pub(super) fn get(&self, key: u32) -> Option<[f32; 2]> {
        let position = self.position(key);
        (self.keys[position] == key && key != EMPTY).then(|| self.sums[position])
    }

    /// Every key and its sums, in the order in which the keys came first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, [f32; 2])> + '_ {
        self.used.iter().map(|&position| (self.keys[position as usize], self.sums[position as usize]))
    }

    /// Applies `change` to the sums of every key.
    pub(super) fn update(&mut self, mut change: impl FnMut(u32, &mut [f32; 2])) {
        for &position in &self.used {
            change(self.keys[position as usize], &mut self.sums[position as usize]);
        }
    }

    /// Where `key` is, or the free position where it belongs.
    #[inline]
    fn position(&self, key: u32) -> usize {
        let mask = self.keys.len() - 1;
        // Fibonacci hashing: dense numbers spread over the high bits.
        let mut position = (key.wrapping_mul(0x9E37_79B9) >> 7) as usize & mask;
        while self.keys[position] != key && self.keys[position] != EMPTY {
            position = (position + 1) & mask;
        }
        position
    }

    fn grow(&mut self) {
        let entries: Vec<_> = self.iter().collect();
        let size = self.keys.len() * 2;
        self.keys = vec![EMPTY; size];
        self.sums = vec![[0.0; 2]; size];
        self.used.clear();
        for (key, [first, second]) in entries {
            self.add(key, first, second);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn it_sums_like_a_hash_map() {
        let mut table = ScoreTable::default();
        for round in 0..3_u32 {
            table.clear();
            let mut expected: HashMap<u32, f32> = HashMap::new();
            for i in 0..5_000_u32 {
                let key = i.wrapping_mul(2_654_435_761) % 1_700 * (round + 1);
                table.add(key, 1.0, 2.0);
                *expected.entry(key).or_default() += 1.0;
            }
            assert_eq!(table.iter().count(), expected.len());
            for (key, count) in expected {
                assert_eq!(table.get(key), Some([count, 2.0 * count]));
            }
            assert_eq!(table.get(999_999_999), None);
            assert_eq!(table.get(EMPTY), None);
        }
    }
}
