//! Which new item is tried, where, and with which probability?
//!
//! A share of the answers gives one place of each list, never the first, to an item that is new and has not been tried
//! often. Which answers, items and places is drawn from the answer's key: equal for equal keys, and known to learning.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;

use crate::domain::ItemNo;
use crate::ranking::{FeatureMatrix, Predictions, Ranked, siphash};

/// Items whose tries are counted; beyond it, those that are no longer new are forgotten.
const COUNTED: usize = 4_096;

/// The lowest place that is given away, counted from 0.
const LOWEST_PLACE: usize = 9;

/// A new item that an answer tries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::engine) struct Explored {
    /// Its position among the candidates.
    pub(in crate::engine) candidate: usize,
    /// Its place in each list, from 1 (the second).
    pub(in crate::engine) place: usize,
    /// The probability with which this item was drawn for this answer.
    pub(in crate::engine) propensity: f32,
}

impl Explored {
    /// Gives it its place in the list of a horizon, or the last one of a short list; whether it got one. A list that has
    /// it anyway stays as it is.
    pub(in crate::engine) fn put_into(
        &self,
        list: &mut [Ranked],
        matrix: &FeatureMatrix,
        predictions: &Predictions,
        horizon: usize,
    ) -> bool {
        let place = self.place.min(list.len().saturating_sub(1));
        if place == 0 || list.iter().any(|ranked| ranked.candidate == self.candidate) {
            return false;
        }
        let Some(&item) = matrix.items().get(self.candidate) else { return false };
        let probability = predictions.probability(self.candidate, horizon);
        list[place] = Ranked { candidate: self.candidate, item, probability };
        true
    }
}

/// Counts how often new items were tried.
#[derive(Debug)]
pub(super) struct Explorer {
    tries: Mutex<HashMap<ItemNo, u32>>,
    most_tries: u32,
}

impl Explorer {
    pub(super) fn new(most_tries: u32, tries: HashMap<ItemNo, u32>) -> Self {
        Self { tries: Mutex::new(tries), most_tries }
    }

    /// Draws, for a `share` of all keys, one of the candidates that are new; `None` for the other keys, and when none is.
    pub(super) fn choose(
        &self,
        key: u64,
        share: f64,
        items: &[ItemNo],
        count: usize,
        newest: impl FnOnce() -> HashSet<ItemNo>,
    ) -> Option<Explored> {
        let draw = |purpose: u64| siphash((5, purpose), &key.to_le_bytes());
        let uniform = (draw(0) >> 11) as f64 / (1_u64 << 53) as f64;
        if uniform >= share || count < 2 {
            return None;
        }
        let newest = newest();
        let mut tries = self.tries.lock();
        let fresh = |item: &ItemNo| newest.contains(item) && tries.get(item).is_none_or(|&n| n < self.most_tries);
        let pool: Vec<usize> = items.iter().enumerate().filter(|(_, item)| fresh(item)).map(|(n, _)| n).collect();
        let candidate = *pool.get((draw(1) % pool.len().max(1) as u64) as usize)?;
        let place = 1 + (draw(2) % (count - 1).min(LOWEST_PLACE) as u64) as usize;
        *tries.entry(items[candidate]).or_default() += 1;
        if tries.len() > COUNTED {
            tries.retain(|item, _| newest.contains(item));
        }
        Some(Explored { candidate, place, propensity: (share / pool.len() as f64) as f32 })
    }

    /// How often each item was tried.
    pub(super) fn tries(&self) -> Vec<(ItemNo, u32)> {
        let mut tries: Vec<(ItemNo, u32)> = self.tries.lock().iter().map(|(&item, &n)| (item, n)).collect();
        tries.sort_unstable();
        tries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_answers_tries_new_items_until_they_had_their_chance() {
        let explorer = Explorer::new(40, HashMap::new());
        let items: Vec<ItemNo> = (0..30).map(ItemNo).collect();
        let newest = || HashSet::from([ItemNo(4), ItemNo(7), ItemNo(99)]);
        let chosen: Vec<Explored> =
            (0..1_000).filter_map(|key| explorer.choose(key, 0.05, &items, 5, newest)).collect();
        assert!((30..75).contains(&chosen.len()), "{}", chosen.len());
        for explored in &chosen {
            assert!([4, 7].contains(&explored.candidate) && (1..5).contains(&explored.place), "{explored:?}");
            assert!([0.05, 0.025].contains(&explored.propensity));
        }
        let again = Explorer::new(40, HashMap::new());
        let same: Vec<Explored> = (0..1_000).filter_map(|key| again.choose(key, 0.05, &items, 5, newest)).collect();
        assert_eq!(chosen, same, "the key decides");
        (0..10_000).for_each(|key| {
            explorer.choose(key, 1.0, &items, 5, newest);
        });
        assert_eq!(explorer.tries(), [(ItemNo(4), 40), (ItemNo(7), 40)]);
        assert_eq!(explorer.choose(1, 1.0, &items, 5, newest), None, "all had their chance");
        assert_eq!(again.choose(1, 1.0, &items, 1, newest), None, "the first place is never given away");
        assert_eq!(again.choose(1, 0.0, &items, 5, newest), None);
    }
}
