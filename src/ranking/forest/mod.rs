//! What do the linear hazards miss? Small trees whose leaves move the log-odds of each interval.
//!
//! A tree asks the same question of every candidate at each of its levels (an oblivious tree: Kohavi 1994; boosted ones:
//! Prokhorenkova et al., `CatBoost`, 2018): which of its leaves a candidate falls into is a number whose bits are the
//! answers. That takes no branches, so a forest scores a candidate in well under a microsecond. A leaf holds one number
//! for each interval: one walk serves all horizons.
//!
//! [`grow`] learns a forest on top of linear hazards; [`Forest::contributions`] says what each feature did.

mod grow;

pub use grow::{GrowOptions, GrowReport, grow};

use super::hazard::ModelError;

/// No tree has more levels: its leaves would be more than there is evidence for.
pub const MAX_DEPTH: usize = 8;

/// Trees on the columns of a feature matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Forest {
    trees: Vec<Tree>,
    intervals: usize,
    /// What it adds where nothing is known: to a row of zeros.
    at_zero: Vec<f64>,
}

/// One tree: a question a level, and what each combination of answers adds.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    /// The questions, first level first.
    pub splits: Vec<Split>,
    /// `2^levels` × intervals: what a leaf adds to the log-odds of each interval. Bit `l` of a leaf's number is 1 if the
    /// answer at level `l` is yes.
    pub leaves: Vec<f32>,
}

/// Is the value in a column above a threshold?
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Split {
    /// The column of the feature matrix.
    pub column: usize,
    /// The threshold.
    pub above: f32,
}

impl Split {
    fn answer(self, row: &[f32]) -> usize {
        usize::from(row[self.column] > self.above)
    }
}

impl Tree {
    /// The number of the leaf that `row` falls into.
    fn leaf(&self, row: &[f32]) -> usize {
        self.splits.iter().enumerate().fold(0, |leaf, (level, split)| leaf | split.answer(row) << level)
    }
}

impl Forest {
    /// Checks the numbers: `width` columns a row, `intervals` numbers a leaf.
    pub fn new(trees: Vec<Tree>, intervals: usize, width: usize) -> Result<Self, ModelError> {
        for (number, tree) in trees.iter().enumerate() {
            let wrong = |reason| Err(ModelError::Tree { number: number + 1, reason });
            if tree.splits.is_empty() || tree.splits.len() > MAX_DEPTH {
                return wrong("it must have 1 to 8 levels");
            }
            if tree.splits.iter().any(|split| split.column >= width || !split.above.is_finite()) {
                return wrong("a question is about no column or no number");
            }
            if tree.leaves.len() != intervals << tree.splits.len() {
                return wrong("it must have a number for each leaf and interval");
            }
            if tree.leaves.iter().any(|value| !value.is_finite()) {
                return wrong("a leaf is no number");
            }
        }
        let mut forest = Self { trees, intervals, at_zero: vec![0.0; intervals] };
        let mut at_zero = vec![0.0; intervals];
        forest.add(&vec![0.0; width], &mut at_zero);
        forest.at_zero = at_zero;
        Ok(forest)
    }

    /// The trees.
    pub fn trees(&self) -> &[Tree] {
        &self.trees
    }

    /// The same trees with what they add to the log-odds of each interval multiplied by a factor.
    #[must_use]
    pub fn scaled(&self, factors: &[f64]) -> Self {
        let mut scaled = self.clone();
        let leaves = scaled.trees.iter_mut().flat_map(|tree| tree.leaves.chunks_exact_mut(self.intervals.max(1)));
        for (value, factor) in leaves.flat_map(|leaf| leaf.iter_mut().zip(factors)) {
            *value *= *factor as f32;
        }
        scaled.at_zero.iter_mut().zip(factors).for_each(|(value, factor)| *value *= factor);
        scaled
    }

    /// What the forest adds to the log-odds of `interval` where nothing is known.
    pub fn at_zero(&self, interval: usize) -> f64 {
        self.at_zero[interval]
    }

    /// Adds what the forest says about `row` to the log-odds of every interval.
    pub fn add(&self, row: &[f32], log_odds: &mut [f64]) {
        for tree in &self.trees {
            let leaf = tree.leaf(row);
            let values = &tree.leaves[leaf * self.intervals..][..self.intervals];
            log_odds.iter_mut().zip(values).for_each(|(sum, &value)| *sum += f64::from(value));
        }
    }

    /// Calls `account` with a column and what it contributes to the log-odds of `interval`, any number of times a column.
    /// All of it sums to the difference between `row` and a row of zeros.
    ///
    /// These are the exact Shapley values of each tree, with absent features at 0, which is where nothing is known
    /// (baseline Shapley: Sundararajan & Najmi 2020). A column that is 0 contributes nothing.
    pub fn contributions(&self, row: &[f32], interval: usize, mut account: impl FnMut(usize, f64)) {
        for tree in &self.trees {
            let zero = tree.splits.iter().enumerate().fold(0, |leaf, (l, s)| leaf | usize::from(0.0 > s.above) << l);
            let changed = tree.leaf(row) ^ zero;
            if changed == 0 {
                continue;
            }
            // The players: columns whose answers differ from those of a row of zeros, and which answers those are.
            let (mut columns, mut masks, mut players) = ([0; MAX_DEPTH], [0; MAX_DEPTH], 0);
            for (level, split) in tree.splits.iter().enumerate().filter(|(level, _)| changed >> level & 1 == 1) {
                let known = columns[..players].iter().position(|&column| column == split.column);
                let player = known.unwrap_or(players);
                if player == players {
                    columns[players] = split.column;
                    players += 1;
                }
                masks[player] |= 1 << level;
            }
            let value = |coalition: usize| -> f64 {
                let joined = (0..players).filter(|p| coalition >> p & 1 == 1).fold(0, |bits, p| bits | masks[p]);
                f64::from(tree.leaves[(zero ^ joined) * self.intervals + interval])
            };
            for (player, &column) in columns[..players].iter().enumerate() {
                let mut sum = 0.0;
                for others in (0..1_usize << players).filter(|others| others >> player & 1 == 0) {
                    let gain = value(others | 1 << player) - value(others);
                    sum += gain * SHARES[players - 1][others.count_ones() as usize];
                }
                account(column, sum);
            }
        }
    }
}

/// The weight of a coalition of `s` others among `n` players in the Shapley value: s! (n − s − 1)! / n!; row n − 1.
const SHARES: [[f64; MAX_DEPTH]; MAX_DEPTH] = {
    let mut shares = [[0.0; MAX_DEPTH]; MAX_DEPTH];
    let mut n = 1;
    while n <= MAX_DEPTH {
        // 1 / (n · C(n − 1, s))
        let mut choices = 1.0;
        let mut s = 0;
        while s < n {
            shares[n - 1][s] = 1.0 / (n as f64 * choices);
            choices = choices * (n - 1 - s) as f64 / (s + 1) as f64;
            s += 1;
        }
        n += 1;
    }
    shares
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tree(columns: &[usize], above: &[f32], seed: f32) -> Tree {
        let splits: Vec<Split> = columns.iter().zip(above).map(|(&column, &above)| Split { column, above }).collect();
        let leaves = (0..2_usize << splits.len()).map(|n| ((n as f32 + seed) * 12.9898).sin()).collect();
        Tree { splits, leaves }
    }

    proptest! {
        #[test]
        fn contributions_sum_to_what_is_added_and_zeros_contribute_nothing(
            columns in proptest::collection::vec(0_usize..5, 1..7),
            above in proptest::collection::vec(-1.0_f32..1.0, 7),
            row in proptest::collection::vec(prop_oneof![Just(0.0_f32), -2.0_f32..2.0], 5),
        ) {
            let trees = vec![tree(&columns, &above, 0.0), tree(&columns[..1], &above[1..], 7.0)];
            let forest = Forest::new(trees, 2, 5).unwrap();
            let mut sums = [0.0; 2];
            forest.add(&row, &mut sums);
            for (interval, sum) in sums.into_iter().enumerate() {
                let mut by_column = [0.0; 5];
                forest.contributions(&row, interval, |column, value| by_column[column] += value);
                let found: f64 = by_column.iter().sum();
                prop_assert!((found - (sum - forest.at_zero(interval))).abs() < 1e-9);
                for (value, contribution) in row.iter().zip(by_column) {
                    prop_assert!(*value != 0.0 || contribution == 0.0);
                }
            }
        }
    }

    #[test]
    fn shares_are_those_of_the_shapley_value() {
        assert_eq!(SHARES[0][0], 1.0);
        assert_eq!(SHARES[1][..2], [0.5, 0.5]);
        assert_eq!(SHARES[2][..3], [1.0 / 3.0, 1.0 / 6.0, 1.0 / 3.0]);
    }

    #[test]
    fn a_pair_that_only_counts_together_shares_alike() {
        let splits = vec![Split { column: 0, above: 0.5 }, Split { column: 1, above: 0.5 }];
        let forest = Forest::new(vec![Tree { splits, leaves: vec![0.0, 0.0, 0.0, 1.0] }], 1, 2).unwrap();
        let mut shares = [0.0; 2];
        forest.contributions(&[1.0, 1.0], 0, |column, value| shares[column] += value);
        assert_eq!(shares, [0.5, 0.5]);
    }

    #[test]
    fn numbers_that_are_no_forest_are_refused() {
        let good = tree(&[1, 2], &[0.0, 0.5], 0.0);
        assert!(Forest::new(vec![good.clone()], 2, 3).is_ok());
        assert!(Forest::new(vec![good.clone()], 3, 3).is_err());
        assert!(Forest::new(vec![good.clone()], 2, 2).is_err());
        let mut bad = good;
        bad.leaves[3] = f32::NAN;
        assert!(Forest::new(vec![bad], 2, 3).is_err());
        assert!(Forest::new(vec![Tree { splits: vec![], leaves: vec![0.0; 2] }], 2, 3).is_err());
    }
}
