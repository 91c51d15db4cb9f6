//! How are the best of many factors found without looking at all? An inverted file: cells of factors that point the same way.
//!
//! Directions are clustered by spherical k-means. A question goes through the cells in the order of what their longest
//! factors could score, and stops once it has seen enough. It may miss some of the best; the tests state how many.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;

use super::linear::add_scaled;
use crate::domain::dot;

/// Fewer rows are looked at one by one.
const FEWEST_ROWS: usize = 4_096;
/// Rows that a question looks at, at least, and the share of all if that is more.
const LOOKED_AT: usize = 2_500;
const LOOKED_AT_SHARE: usize = 40;
const ROUNDS: usize = 8;
/// Rows of the sample from which cells are made, for each cell.
const SAMPLE_PER_CELL: usize = 48;

/// Which rows point the same way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cells {
    pub(super) dims: usize,
    /// A unit vector for each cell.
    pub(super) directions: Vec<f32>,
    /// How long its long rows are.
    pub(super) reaches: Vec<f32>,
    /// Where each cell's rows end; they begin where the ones before end.
    pub(super) ends: Vec<u32>,
}

impl Cells {
    /// Cells for `rows`, and the rows in the order in which the cells want them; `None` if there are too few to bother.
    pub(super) fn arrange(rows: &[f32], dims: usize, seed: u64) -> Option<(Self, Vec<u32>)> {
        let count = rows.len() / dims.max(1);
        if count < FEWEST_ROWS {
            return None;
        }
        let cells = ((count as f64).sqrt() as usize).clamp(16, 4_096);
        let units: Vec<f32> = rows.par_chunks(dims).flat_map_iter(unit).collect();
        let mut random = SmallRng::seed_from_u64(seed);
        let sample: Vec<usize> =
            (0..(cells * SAMPLE_PER_CELL).min(count)).map(|_| random.random_range(0..count)).collect();
        let mut directions: Vec<f32> =
            sample[..cells].iter().flat_map(|&row| units[row * dims..][..dims].to_vec()).collect();
        for _ in 0..ROUNDS {
            let nearest: Vec<usize> =
                sample.par_iter().map(|&row| nearest(&directions, &units[row * dims..][..dims])).collect();
            let mut sums = vec![0.0_f32; cells * dims];
            for (&row, &cell) in sample.iter().zip(&nearest) {
                add_scaled(&mut sums[cell * dims..][..dims], 1.0, &units[row * dims..][..dims]);
            }
            for (direction, sum) in directions.chunks_exact_mut(dims).zip(sums.chunks_exact(dims)) {
                // An empty cell stays where it is.
                if dot(sum, sum) > 1e-12 {
                    direction.iter_mut().zip(unit(sum)).for_each(|(own, new)| *own = new);
                }
            }
        }
        let of_row: Vec<usize> = units.par_chunks(dims).map(|row| nearest(&directions, row)).collect();
        let mut order: Vec<u32> = (0..count as u32).collect();
        order.sort_by_key(|&row| of_row[row as usize]);
        let mut ends = vec![0_u32; cells];
        of_row.iter().for_each(|&cell| ends[cell] += 1);
        (1..cells).for_each(|cell| ends[cell] += ends[cell - 1]);
        let mut arranged = Self { dims, directions, reaches: vec![0.0; cells], ends };
        for cell in 0..cells {
            let mut lengths: Vec<f32> = arranged
                .range(cell)
                .map(|place| {
                    let row = &rows[order[place] as usize * dims..][..dims];
                    dot(row, row).sqrt()
                })
                .collect();
            lengths.sort_unstable_by(f32::total_cmp);
            arranged.reaches[cell] = lengths.get(lengths.len() * 9 / 10).copied().unwrap_or(0.0);
        }
        Some((arranged, order))
    }

    /// The places of a cell's rows.
    fn range(&self, cell: usize) -> std::ops::Range<usize> {
        let start = if cell == 0 { 0 } else { self.ends[cell - 1] as usize };
        start..self.ends[cell] as usize
    }

    /// Calls `visit` with ranges of places that may hold the rows with the largest products with `query`.
    pub(super) fn probe(
        &self,
        query: &[f32],
        order: &mut Vec<(f32, u32)>,
        mut visit: impl FnMut(std::ops::Range<usize>),
    ) {
        let hope = |(cell, direction): (usize, &[f32])| (dot(direction, query) * self.reaches[cell], cell as u32);
        order.clear();
        order.extend(self.directions.chunks_exact(self.dims).enumerate().map(hope));
        let total = self.ends.last().map_or(0, |&end| end as usize);
        let enough = LOOKED_AT.max(total / LOOKED_AT_SHARE);
        // Twice as many cells as are needed on average.
        let most = (2 * enough * order.len() / total.max(1) + 4).min(order.len());
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

fn unit(row: &[f32]) -> impl Iterator<Item = f32> + '_ {
    let length = dot(row, row).sqrt().max(1e-20);
    row.iter().map(move |value| value / length)
}

fn nearest(directions: &[f32], unit: &[f32]) -> usize {
    let cosines = directions.chunks_exact(unit.len()).map(|direction| dot(direction, unit));
    cosines.enumerate().fold((0, f32::NEG_INFINITY), |best, (cell, c)| if c > best.1 { (cell, c) } else { best }).0
}
