//! How good is an item, in the eyes of one source?

use super::ItemNo;

/// An item and its score; higher is better. What a unit of score means is the source's affair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The item.
    pub item: ItemNo,
    /// Its score; finite.
    pub score: f32,
}

impl Scored {
    /// Sorts best first and keeps `limit`; equal scores in the order of their numbers, so that answers are
    /// the same from run to run.
    pub fn keep_best(scored: &mut Vec<Self>, limit: usize) {
        Self::select_best(scored, limit);
        scored.sort_unstable_by_key(Self::place);
    }

    /// Keeps the `limit` that [`keep_best`](Self::keep_best) would, in any order.
    pub fn select_best(scored: &mut Vec<Self>, limit: usize) {
        if limit == 0 {
            scored.clear();
        } else if scored.len() > limit {
            scored.select_nth_unstable_by_key(limit - 1, Self::place);
            scored.truncate(limit);
        }
    }

    /// One number that rises as the score falls, then with the item: compared in one instruction.
    fn place(&self) -> u64 {
        let bits = self.score.to_bits();
        let rising = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        u64::from(!rising) << 32 | u64::from(self.item.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_kept_in_order() {
        let mut list: Vec<Scored> =
            [(0, 1.0), (1, 3.0), (2, 3.0), (3, 2.0)].map(|(i, score)| Scored { item: ItemNo(i), score }).into();
        Scored::keep_best(&mut list, 3);
        assert_eq!(list.iter().map(|s| s.item.0).collect::<Vec<_>>(), [1, 2, 3]);
        Scored::keep_best(&mut list, 0);
        assert!(list.is_empty());
        let mut list: Vec<Scored> =
            [(0, -2.0), (1, 0.5), (2, -0.5), (3, 0.0)].map(|(i, score)| Scored { item: ItemNo(i), score }).into();
        Scored::keep_best(&mut list, 9);
        assert_eq!(list.iter().map(|s| s.item.0).collect::<Vec<_>>(), [1, 3, 2, 0]);
    }
}
