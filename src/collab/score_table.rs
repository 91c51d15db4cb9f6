//! Which item has gathered how much so far? A small open-addressing table that is emptied, not freed, between requests.

/// No item has this number: collab ignores numbers at and above [`super::MAX_ITEMS`].
const EMPTY: u32 = u32::MAX;

/// `SUMS` sums by a 32-bit key. Clearing costs as much as was inserted; nothing is allocated once it has grown to the size
/// that requests need.
#[derive(Debug, Clone)]
pub(super) struct ScoreTable<const SUMS: usize> {
    /// By position; a power of two of them, at most half in use. Key and sums together, so that they come together.
    slots: Vec<Slot<SUMS>>,
    /// The positions in use, in the order of insertion, so that iteration does not depend on the hash.
    used: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Slot<const SUMS: usize> {
    key: u32,
    sums: [f32; SUMS],
}

impl<const SUMS: usize> Slot<SUMS> {
    const FREE: Self = Self { key: EMPTY, sums: [0.0; SUMS] };
}

impl<const SUMS: usize> Default for ScoreTable<SUMS> {
    fn default() -> Self {
        Self { slots: vec![Slot::FREE; 256], used: Vec::with_capacity(128) }
    }
}

impl<const SUMS: usize> ScoreTable<SUMS> {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        for &position in &self.used {
            self.slots[position as usize].key = EMPTY;
        }
        self.used.clear();
    }

    /// Adds to the sums of `key`. The key must not be `u32::MAX`.
    #[inline]
    pub(super) fn add(&mut self, key: u32, values: [f32; SUMS]) {
        if (self.used.len() + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let position = self.position(key);
        let slot = &mut self.slots[position];
        if slot.key == EMPTY {
            *slot = Slot { key, sums: values };
            self.used.push(position as u32);
        } else {
            slot.sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
    }

    /// The sums of `key`, if anything was added to it.
    #[inline]
    pub(super) fn get(&self, key: u32) -> Option<[f32; SUMS]> {
        let slot = &self.slots[self.position(key)];
        (slot.key == key && key != EMPTY).then_some(slot.sums)
    }

    /// Every key and its sums, in the order in which the keys came first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, [f32; SUMS])> + '_ {
        self.used.iter().map(|&position| {
            let slot = &self.slots[position as usize];
            (slot.key, slot.sums)
        })
    }

    /// Applies `change` to the sums of every key.
    pub(super) fn update(&mut self, mut change: impl FnMut(u32, &mut [f32; SUMS])) {
        for &position in &self.used {
            let slot = &mut self.slots[position as usize];
            change(slot.key, &mut slot.sums);
        }
    }

    /// Where `key` is, or the free position where it belongs.
    #[inline]
    fn position(&self, key: u32) -> usize {
        let mask = self.slots.len() - 1;
        // Fibonacci hashing: dense numbers spread over the high bits.
        let mut position = (key.wrapping_mul(0x9E37_79B9) >> 7) as usize & mask;
        while self.slots[position].key != key && self.slots[position].key != EMPTY {
            position = (position + 1) & mask;
        }
        position
    }

    fn grow(&mut self) {
        let entries: Vec<_> = self.iter().collect();
        self.slots = vec![Slot::FREE; self.slots.len() * 2];
        self.used.clear();
        for (key, sums) in entries {
            self.add(key, sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn it_sums_like_a_hash_map() {
        let mut table = ScoreTable::<2>::default();
        for round in 0..3_u32 {
            table.clear();
            let mut expected: HashMap<u32, f32> = HashMap::new();
            for i in 0..5_000_u32 {
                let key = i.wrapping_mul(2_654_435_761) % 1_700 * (round + 1);
                table.add(key, [1.0, 2.0]);
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
