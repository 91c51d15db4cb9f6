//! How are the best of many factors found without looking at all? An inverted file: cells of factors that are near each other.
//!
//! Rows are clustered by k-means. A question looks at the longest rows, which score high for many, and then goes through
//! the cells in the order of how their centres score until it has seen enough. It may miss some of the best; the tests state
//! how many.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;

use crate::domain::{add_scaled, dot};

/// Fewer rows are looked at one by one.
const FEWEST_ROWS: usize = 4_096;
/// The longest rows, which every question looks at.
const HEAD_ROWS: usize = 512;
/// Rows of cells that a question looks at, at least, and the share of all if that is more.
const LOOKED_AT: usize = 1_000;
const LOOKED_AT_SHARE: usize = 64;
const SEED: u64 = 0x5EED;
const ROUNDS: usize = 8;
/// Rows of the sample from which cells are made, for each cell.
const SAMPLE_PER_CELL: usize = 48;

/// Which rows are near each other.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cells {
    pub(super) dims: usize,
    /// How many of the first rows are in no cell, but looked at by every question.
    pub(super) head: usize,
    pub(super) centres: Vec<f32>,
    /// Where each cell's rows end; they begin where the ones before end.
    pub(super) ends: Vec<u32>,
}

impl Cells {
    /// Cells for `rows`, and the rows in the order in which the cells want them; `None` if there are too few to bother.
    pub(super) fn arrange(rows: &[f32], dims: usize) -> Option<(Self, Vec<u32>)> {
        let count = rows.len() / dims.max(1);
        if count < FEWEST_ROWS {
            return None;
        }
        let row = |row: u32| &rows[row as usize * dims..][..dims];
        let lengths: Vec<f32> = rows.chunks_exact(dims).map(|row| dot(row, row)).collect();
        let mut order: Vec<u32> = (0..count as u32).collect();
        let longer = |a: &u32, b: &u32| lengths[*b as usize].total_cmp(&lengths[*a as usize]).then(a.cmp(b));
        order.select_nth_unstable_by(HEAD_ROWS, longer);
        let (head, rest) = order.split_at_mut(HEAD_ROWS);
        head.sort_unstable();
        rest.sort_unstable();
        let cells = ((rest.len() as f64).sqrt() as usize).clamp(16, 4_096);
        let mut random = SmallRng::seed_from_u64(SEED);
        let sample: Vec<u32> =
            (0..(cells * SAMPLE_PER_CELL).min(count)).map(|_| rest[random.random_range(0..rest.len())]).collect();
        let mut centres: Vec<f32> = sample[..cells].iter().flat_map(|&n| row(n).to_vec()).collect();
        for _ in 0..ROUNDS {
            let halves = halves(&centres, dims);
            let nearest: Vec<usize> = sample.par_iter().map(|&n| nearest(&centres, &halves, row(n))).collect();
            let (mut sums, mut members) = (vec![0.0_f32; cells * dims], vec![0.0_f32; cells]);
            for (&n, &cell) in sample.iter().zip(&nearest) {
                add_scaled(&mut sums[cell * dims..][..dims], 1.0, row(n));
                members[cell] += 1.0;
            }
            let means = sums.chunks_exact(dims).zip(members);
            // An empty cell stays where it is.
            for (centre, (sum, members)) in centres.chunks_exact_mut(dims).zip(means).filter(|(_, (_, m))| *m > 0.0) {
                centre.iter_mut().zip(sum).for_each(|(own, sum)| *own = sum / members);
            }
        }
        let halves = halves(&centres, dims);
        let of_rest: Vec<u32> = rest.par_iter().map(|&n| nearest(&centres, &halves, row(n)) as u32).collect();
        let mut sorted: Vec<(u32, u32)> = of_rest.into_iter().zip(rest.iter().copied()).collect();
        sorted.sort_unstable();
        let mut ends = vec![0_u32; cells];
        sorted.iter().for_each(|&(cell, _)| ends[cell as usize] += 1);
        ends[0] += HEAD_ROWS as u32;
        (1..cells).for_each(|cell| ends[cell] += ends[cell - 1]);
        rest.iter_mut().zip(sorted).for_each(|(place, (_, n))| *place = n);
        Some((Self { dims, head: HEAD_ROWS, centres, ends }, order))
    }

    /// The places of a cell's rows.
    fn range(&self, cell: usize) -> std::ops::Range<usize> {
        let start = if cell == 0 { self.head } else { self.ends[cell - 1] as usize };
        start..self.ends[cell] as usize
    }

    /// Calls `visit` with ranges of places that may hold the rows with the largest products with `query`.
    pub(super) fn probe(
        &self,
        query: &[f32],
        order: &mut Vec<(f32, u32)>,
        mut visit: impl FnMut(std::ops::Range<usize>),
    ) {
        visit(0..self.head);
        order.clear();
        let centres = self.centres.chunks_exact(self.dims).enumerate();
        order.extend(centres.map(|(cell, centre)| (dot(centre, query), cell as u32)));
        let total = self.ends.last().map_or(0, |&end| end as usize);
        let enough = LOOKED_AT.max(total / LOOKED_AT_SHARE);
        // Four times as many cells as are needed on average.
        let most = (4 * enough * order.len() / total.max(1) + 4).min(order.len());
        let first = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if most < order.len() {
            order.select_nth_unstable_by(most, first);
            order.truncate(most);
        }
        order.sort_unstable_by(first);
        let mut seen = 0;
        for &(_, cell) in order.iter() {
            let range = self.range(cell as usize);
            seen += range.len();
            visit(range);
            if seen >= enough {
                break;
            }
        }
    }
}

fn halves(centres: &[f32], dims: usize) -> Vec<f32> {
    centres.chunks_exact(dims).map(|centre| 0.5 * dot(centre, centre)).collect()
}

fn nearest(centres: &[f32], halves: &[f32], row: &[f32]) -> usize {
    let nearness = centres.chunks_exact(row.len()).zip(halves).map(|(centre, half)| dot(centre, row) - half);
    nearness.enumerate().fold((0, f32::NEG_INFINITY), |best, (cell, c)| if c > best.1 { (cell, c) } else { best }).0
}
