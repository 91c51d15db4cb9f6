//! Which of the ranked items are shown, in which order? The most probable, then diversity.

use super::hazard::Predictions;
use crate::domain::ItemNo;

/// How many times the list's length is considered for diversity; the rest could hardly get in. As many must be in
/// [contention](super::HazardModel::predict_for).
pub const POOL: usize = 4;

/// An item of a list, with the probability that the model gave it. Re-ranking does not change it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// The candidate's position in the feature matrix.
    pub candidate: usize,
    /// The item.
    pub item: ItemNo,
    /// The probability of an engagement by the list's horizon.
    pub probability: f64,
}

/// The `count` most probable contenders by horizon number `horizon`, best first; equal ones by item number.
pub fn order(items: &[ItemNo], predictions: &Predictions, horizon: usize, count: usize) -> Vec<Ranked> {
    let mut ranked: Vec<(f64, ItemNo, usize)> = predictions
        .log_survivals(horizon)
        .filter_map(|(candidate, log_survival)| Some((log_survival, *items.get(candidate)?, candidate)))
        .collect();
    let better = |a: &(f64, ItemNo, usize), b: &(f64, ItemNo, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    if count < ranked.len() {
        ranked.select_nth_unstable_by(count, better);
        ranked.truncate(count);
    }
    ranked.sort_unstable_by(better);
    ranked
        .into_iter()
        .map(|(log_survival, item, candidate)| Ranked { candidate, item, probability: -log_survival.exp_m1() })
        .collect()
}

/// Picks `count` items out of `ranked` (best first, as [`order`] returns it, each item once).
///
/// With `diversity` 0 the order is kept. Above 0 (up to 1), each next item maximises (1 − diversity) × relevance −
/// diversity × the largest `similarity` (0 to 1, by candidate positions) to those picked before: maximal marginal relevance
/// (Carbonell & Goldstein 1998). Relevance is the log of the probability, scaled to 0–1 over the first [`POOL`] times `count`
/// items, which are all that are considered. The list is as long as `count` whenever there are enough items.
pub fn diversify(
    ranked: &[Ranked],
    count: usize,
    diversity: f32,
    mut similarity: impl FnMut(usize, usize) -> f32,
) -> Vec<Ranked> {
    let diversity = if diversity.is_finite() { f64::from(diversity.clamp(0.0, 1.0)) } else { 0.0 };
    if diversity == 0.0 || count == 0 || ranked.len() < 2 {
        return ranked[..count.min(ranked.len())].to_vec();
    }
    let pool = &ranked[..count.saturating_mul(POOL).min(ranked.len())];
    let log = |r: &Ranked| r.probability.max(f64::MIN_POSITIVE).ln();
    let (highest, lowest) = (log(&pool[0]), pool.last().map_or(0.0, log));
    let span = (highest - lowest).max(1e-9);
    let relevance: Vec<f64> = pool.iter().map(|r| (log(r) - lowest) / span).collect();
    let mut nearest = vec![0.0_f64; pool.len()];
    let mut left: Vec<usize> = (0..pool.len()).collect();
    let mut picked = Vec::with_capacity(count.min(pool.len()));
    while picked.len() < count && !left.is_empty() {
        let mut best = (f64::NEG_INFINITY, 0);
        for (position, &index) in left.iter().enumerate() {
            let value = (1.0 - diversity) * relevance[index] - diversity * nearest[index];
            // Strictly better only: equal ones keep their order.
            if value > best.0 {
                best = (value, position);
            }
        }
        let chosen = left.remove(best.1);
        picked.push(pool[chosen]);
        for &index in &left {
            let alike = f64::from(similarity(pool[chosen].candidate, pool[index].candidate));
            if alike.is_finite() && alike > nearest[index] {
                nearest[index] = alike.min(1.0);
            }
        }
    }
    picked
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranked(count: u32) -> Vec<Ranked> {
        (0..count)
            .map(|i| Ranked { candidate: i as usize, item: ItemNo(i), probability: 0.5 / f64::from(i + 1) })
            .collect()
    }

    proptest! {
        #[test]
        fn lists_are_full_and_name_nothing_twice(size in 0..80_u32, count in 0..30_usize, diversity in 0.0_f32..=1.0) {
            let all = ranked(size);
            let list = diversify(&all, count, diversity, |a, b| if a % 3 == b % 3 { 0.9 } else { 0.1 });
            prop_assert_eq!(list.len(), count.min(all.len()));
            for (position, item) in list.iter().enumerate() {
                prop_assert_eq!(*item, all[item.candidate], "re-ranking changes no probability");
                prop_assert!(!list[..position].iter().any(|other| other.item == item.item));
            }
        }

        #[test]
        fn without_diversity_the_order_stays(size in 0..60_u32, count in 0..30_usize) {
            let all = ranked(size);
            let list = diversify(&all, count, 0.0, |_, _| 1.0);
            prop_assert_eq!(&list[..], &all[..count.min(all.len())]);
        }
    }

    #[test]
    fn diversity_separates_look_alikes() {
        let list = diversify(&ranked(8), 3, 0.7, |a, b| if a / 4 == b / 4 { 1.0 } else { 0.0 });
        assert_eq!(list[0].candidate, 0);
        assert_eq!(list[1].candidate, 4, "the first of the other kind");
    }
}
