//! How good is one list, and how good are a session's lists together? Kept by session, because a session's positions
//! are not independent and are therefore resampled together.

use std::collections::HashMap;

use crate::domain::ItemNo;

/// What is measured of a list: hit, reciprocal rank, gain.
pub(super) const METRICS: usize = 3;

/// How good `list` is when `relevant` (no repeats) is what the person turned to: whether an item of it is in the
/// list, 1 / the rank of the first one, and the normalised discounted cumulative gain. The ideal list has all of
/// `relevant` at its top, as far as they fit into `k`.
pub(super) fn score(list: &[ItemNo], relevant: &[ItemNo], k: usize) -> [f32; METRICS] {
    let gain = |position: usize| 1.0 / (position as f64 + 2.0).log2();
    let (mut first, mut gains) = (None, 0.0);
    for (position, item) in list.iter().take(k).enumerate() {
        if relevant.contains(item) {
            first = first.or(Some(position));
            gains += gain(position);
        }
    }
    let Some(first) = first else { return [0.0; METRICS] };
    let ideal: f64 = (0..relevant.len().min(k)).map(gain).sum();
    [1.0, 1.0 / (first as f32 + 1.0), (gains / ideal) as f32]
}

/// Sums of some columns by session, with how much they are sums of.
#[derive(Debug, Clone)]
pub(super) struct SessionSums {
    width: usize,
    row_of: HashMap<u64, usize>,
    weights: Vec<f32>,
    sums: Vec<f32>,
}

impl SessionSums {
    /// No session yet; `width` columns.
    pub(super) fn new(width: usize) -> Self {
        Self { width, row_of: HashMap::new(), weights: Vec::new(), sums: Vec::new() }
    }

    /// Adds `values`, one a column, to the session's sums.
    pub(super) fn add(&mut self, session: u64, values: impl IntoIterator<Item = f32>) {
        let row = self.row(session);
        self.weights[row] += 1.0;
        let sums = &mut self.sums[row * self.width..(row + 1) * self.width];
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }

    /// The session's row; a new one without weight if it has none. Tables in which sessions get their rows in the same
    /// order draw the same sessions when they are resampled.
    pub(super) fn row(&mut self, session: u64) -> usize {
        let next = self.weights.len();
        let row = *self.row_of.entry(session).or_insert(next);
        if row == next {
            self.weights.push(0.0);
            self.sums.resize(self.sums.len() + self.width, 0.0);
        }
        row
    }

    /// How many sessions anything was added to.
    pub(super) fn sessions_with_any(&self) -> usize {
        self.weights.iter().filter(|&&weight| weight > 0.0).count()
    }

    /// How many sessions there are.
    pub(super) fn sessions(&self) -> usize {
        self.weights.len()
    }

    /// How many sets of values were added.
    pub(super) fn count(&self) -> usize {
        self.weights.iter().map(|&w| f64::from(w)).sum::<f64>() as usize
    }

    /// The mean of each column over everything that was added.
    pub(super) fn means(&self) -> Vec<f64> {
        self.means_of(0..self.sessions())
    }

    /// The mean of each column over what was added to the sessions in `rows`, each as often as it is named.
    pub(super) fn means_of(&self, rows: impl IntoIterator<Item = usize>) -> Vec<f64> {
        let (mut weight, mut means) = (0.0, vec![0.0; self.width]);
        for row in rows {
            weight += f64::from(self.weights[row]);
            let sums = &self.sums[row * self.width..(row + 1) * self.width];
            means.iter_mut().zip(sums).for_each(|(mean, &sum)| *mean += f64::from(sum));
        }
        means.iter_mut().for_each(|mean| *mean /= f64::max(weight, 1.0));
        means
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(numbers: &[u32]) -> Vec<ItemNo> {
        numbers.iter().map(|&n| ItemNo(n)).collect()
    }

    #[test]
    fn a_list_is_scored_by_hand() {
        // Found at ranks 2 and 4 of 4; three are relevant.
        let [hit, rank, ndcg] = score(&items(&[7, 1, 8, 2]), &items(&[1, 2, 3]), 4);
        assert_eq!((hit, rank), (1.0, 0.5));
        // (1/log2(3) + 1/log2(5)) / (1 + 1/log2(3) + 1/2) = (.63093 + .43068) / 2.13093
        assert!((ndcg - 0.498_190).abs() < 1e-5, "{ndcg}");
        assert_eq!(score(&items(&[1, 2]), &items(&[2, 1]), 2), [1.0; 3]);
        assert_eq!(score(&items(&[5, 6]), &items(&[1]), 2), [0.0; 3]);
        assert_eq!(score(&[], &items(&[1]), 2), [0.0; 3]);
    }

    #[test]
    fn what_stands_below_the_list_does_not_count() {
        assert_eq!(score(&items(&[5, 6, 1]), &items(&[1]), 2), [0.0; 3]);
        // Of three relevant items two fit: both found is as good as it gets.
        assert_eq!(score(&items(&[3, 2]), &items(&[1, 2, 3]), 2), [1.0; 3]);
    }

    #[test]
    fn sessions_are_summed_and_averaged_over_positions() {
        let mut sums = SessionSums::new(2);
        sums.add(9, [1.0, 0.5]);
        sums.add(4, [0.0, 0.0]);
        sums.add(9, [1.0, 0.25]);
        assert_eq!((sums.sessions(), sums.count()), (2, 3));
        assert_eq!(sums.means(), [2.0 / 3.0, 0.25]);
        assert_eq!(sums.means_of([0]), [1.0, 0.375]);
        assert_eq!(sums.means_of([0, 1, 1]), [0.5, 0.1875], "two positions of one session, one each of another twice");
        assert_eq!(SessionSums::new(2).means(), [0.0, 0.0]);
    }
}
