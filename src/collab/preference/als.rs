//! Which hidden tastes explain who turned to what? Implicit alternating least squares.
//!
//! The model of Hu, Koren and Volinsky ("Collaborative Filtering for Implicit Feedback Datasets", 2008) with the weights
//! and the regularisation of Rendle, Krichene, Zhang and Koren ("Revisiting the Performance of iALS on Item Recommendation
//! Benchmarks", 2022): with `x·y` for the taste `x` and the item `y`, what is minimised is
//!
//! ```text
//! Σ observed c·(1 − x·y)²  +  α₀ Σ all (x·y)²  +  Σ rows λ·(Σ c + α₀·others)^ν·|row|²
//! ```
//!
//! α₀ is not set, it follows from how much all pairs are to count together beside the observed ones: that is much the same for
//! small and large catalogues (10 to 60 in the literature and here), where α₀ itself differs by orders of magnitude.
//!
//! Each half step is a least-squares problem for every row on its own. Before it, both sides are rotated into the
//! eigenvectors of the fixed side's Gram matrix, which changes no `x·y` and makes the part of all pairs diagonal: a step of
//! conjugate gradients then costs two passes over the row's own engagements and nothing else, and the diagonal
//! preconditioner has the part of all pairs exactly, so that few steps are enough.

use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;

use super::linear::{eigen, gram, rotate};
use crate::domain::{add_scaled, dot};

/// Rows that one task solves.
const CHUNK_ROWS: usize = 64;

/// What is minimised, and how hard it is tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AlsOptions {
    /// Numbers in a factor.
    pub dims: usize,
    /// Rounds, each of which solves for all tastes and then for all items.
    pub iterations: usize,
    /// λ: how strongly factors are held back.
    pub regularisation: f32,
    /// ν: how much more the factors of frequent rows are held back; 0 not at all, 1 in proportion to their engagements.
    pub regularisation_exponent: f32,
    /// What all pairs count together as not observed, where the observed ones together count 1: α₀ times the number of all
    /// pairs, by the sum of all confidences.
    pub unobserved_weight: f32,
    /// Steps of conjugate gradients for each row and round.
    pub steps: usize,
    /// Where the items' factors begin.
    pub seed: u64,
}

impl Default for AlsOptions {
    fn default() -> Self {
        Self {
            dims: 64,
            iterations: 12,
            regularisation: 0.1,
            regularisation_exponent: 0.5,
            unobserved_weight: 32.0,
            steps: 3,
            seed: 1,
        }
    }
}

/// A sparse matrix, row by row: who turned to what, with which confidence.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Interactions {
    /// Where each row begins in the others, and where the last one ends.
    starts: Vec<usize>,
    columns: Vec<u32>,
    confidences: Vec<f32>,
    width: usize,
}

/// How factors are held back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Penalty {
    /// λ; see [`AlsOptions::regularisation`].
    pub regularisation: f32,
    /// ν; see [`AlsOptions::regularisation_exponent`].
    pub exponent: f32,
    /// α₀: what every single pair counts as not observed.
    pub unobserved: f32,
}

/// What came of it. Of the tastes only what the items need is left: a taste is found again from its engagements.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// A factor for each item, in the eigenvectors of [`spread`](Self::spread).
    pub items: Vec<f32>,
    /// What the factors were held to.
    pub penalty: Penalty,
    /// The diagonal of the items' Gram matrix, all of it that there is.
    pub spread: Vec<f32>,
    /// What is minimised, for each engagement.
    pub loss: f64,
}

impl Interactions {
    /// From the engagements of each row: column, and confidence above 0. Columns must be below `width` and differ within a row.
    pub fn new(rows: impl IntoIterator<Item = Vec<(u32, f32)>>, width: usize) -> Self {
        let mut all = Self { starts: vec![0], columns: Vec::new(), confidences: Vec::new(), width };
        rows.into_iter().for_each(|row| all.push(row));
        all
    }

    fn push(&mut self, row: impl IntoIterator<Item = (u32, f32)>) {
        for (column, confidence) in row {
            if (column as usize) < self.width && confidence > 0.0 && confidence.is_finite() {
                self.columns.push(column);
                self.confidences.push(confidence);
            }
        }
        self.starts.push(self.columns.len());
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// How many columns there are.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many pairs were observed.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// The columns of a row and their confidences.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.starts[row]..self.starts[row + 1];
        (&self.columns[range.clone()], &self.confidences[range])
    }

    /// The same pairs by column.
    pub fn transposed(&self) -> Self {
        let mut starts = vec![0; self.width + 1];
        self.columns.iter().for_each(|&column| starts[column as usize + 1] += 1);
        (0..self.width).for_each(|column| starts[column + 1] += starts[column]);
        let mut next = starts.clone();
        let mut columns = vec![0; self.len()];
        let mut confidences = vec![0.0; self.len()];
        for row in 0..self.rows() {
            let (own, confidence) = self.row(row);
            for (&column, &confidence) in own.iter().zip(confidence) {
                let place = &mut next[column as usize];
                columns[*place] = row as u32;
                confidences[*place] = confidence;
                *place += 1;
            }
        }
        Self { starts, columns, confidences, width: self.rows() }
    }
}

/// Learns item factors in the thread pool of the caller; the same for any number of threads. `progress` hears of every
/// finished round. `None` if `stop` became true, or there is nothing to learn from.
pub fn train(
    tastes: &Interactions,
    options: &AlsOptions,
    stop: &AtomicBool,
    mut progress: impl FnMut(usize),
) -> Option<Trained> {
    let dims = options.dims.max(1);
    if tastes.is_empty() {
        return None;
    }
    let by_item = tastes.transposed();
    let total: f64 = tastes.confidences.iter().map(|&c| f64::from(c)).sum();
    let pairs = tastes.rows() as f64 * tastes.width() as f64;
    let penalty = Penalty {
        regularisation: options.regularisation,
        exponent: options.regularisation_exponent,
        unobserved: (f64::from(options.unobserved_weight) * total / pairs) as f32,
    };
    let mut random = SmallRng::seed_from_u64(options.seed);
    // The sum of uniform numbers is near enough to a normal one.
    let scale = 0.1 / (dims as f32).sqrt();
    let mut normal = || (0..4).map(|_| random.random_range(-1.0_f32..1.0)).sum::<f32>() * scale * 0.866;
    let mut items: Vec<f32> = (0..tastes.width() * dims).map(|_| normal()).collect();
    let mut users = vec![0.0_f32; tastes.rows() * dims];
    for round in 0..options.iterations.max(1) {
        half_step(tastes, (&mut users, &mut items), &penalty, options, stop);
        half_step(&by_item, (&mut items, &mut users), &penalty, options, stop);
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        progress(round + 1);
    }
    let spread_of_users = align(&mut users, &mut items, dims);
    let loss = loss(tastes, &by_item, (&users, &items), &spread_of_users, &penalty);
    let spread = align(&mut items, &mut users, dims);
    Some(Trained { items, penalty, spread, loss })
}

/// Rotates both sides into the eigenvectors of the first one's Gram matrix; the eigenvalues.
fn align(fixed: &mut [f32], other: &mut [f32], dims: usize) -> Vec<f32> {
    let (values, vectors) = eigen(&mut gram(fixed, dims), dims);
    rotate(fixed, dims, &vectors);
    rotate(other, dims, &vectors);
    values.into_iter().map(|value| value as f32).collect()
}

fn half_step(
    interactions: &Interactions,
    (solved, fixed): (&mut [f32], &mut [f32]),
    penalty: &Penalty,
    options: &AlsOptions,
    stop: &AtomicBool,
) {
    if stop.load(Ordering::Relaxed) {
        return;
    }
    let dims = options.dims.max(1);
    let spread = align(fixed, solved, dims);
    let fixed = &*fixed;
    solved.par_chunks_mut(CHUNK_ROWS * dims).enumerate().for_each_init(
        RowScratch::default,
        |scratch, (chunk, rows)| {
            for (place, row) in rows.chunks_exact_mut(dims).enumerate() {
                let (columns, confidences) = interactions.row(chunk * CHUNK_ROWS + place);
                let own = columns.iter().zip(confidences);
                let engagements = own.map(|(&column, &c)| (&fixed[column as usize * dims..][..dims], c));
                solve_row(engagements, &spread, interactions.width(), penalty, options.steps, row, scratch);
            }
        },
    );
}

/// Working memory for one row.
#[derive(Debug, Default)]
pub(super) struct RowScratch {
    dense: Vec<f32>,
    inverse: Vec<f32>,
    residual: Vec<f32>,
    direction: Vec<f32>,
    image: Vec<f32>,
}

/// How strongly a row is held back that has engagements of this confidence in all.
fn held_back(confidence: f32, others: usize, penalty: &Penalty) -> f32 {
    let frequency = confidence + penalty.unobserved * others as f32;
    penalty.regularisation * frequency.max(1e-6).powf(penalty.exponent)
}

/// Moves `row` towards the least-squares solution for its engagements (factor and confidence), given the diagonal Gram
/// matrix `spread` of all `others` factors.
pub(super) fn solve_row<'a>(
    engagements: impl Iterator<Item = (&'a [f32], f32)> + Clone,
    spread: &[f32],
    others: usize,
    penalty: &Penalty,
    steps: usize,
    row: &mut [f32],
    scratch: &mut RowScratch,
) {
    let RowScratch { dense, inverse, residual, direction, image } = scratch;
    let confidence: f32 = engagements.clone().map(|(_, c)| c).sum();
    if confidence <= 0.0 {
        row.fill(0.0);
        return;
    }
    let back = held_back(confidence, others, penalty);
    dense.clear();
    dense.extend(spread.iter().map(|value| penalty.unobserved * value + back));
    inverse.clone_from(dense);
    residual.clear();
    residual.extend(row.iter().zip(dense.iter()).map(|(x, d)| -x * d));
    for (factor, c) in engagements.clone() {
        let missing = c * (1.0 - dot(factor, row));
        for ((r, i), y) in residual.iter_mut().zip(inverse.iter_mut()).zip(factor) {
            *r += missing * y;
            *i += c * y * y;
        }
    }
    inverse.iter_mut().for_each(|value| *value = 1.0 / *value);
    direction.clear();
    direction.extend(residual.iter().zip(inverse.iter()).map(|(r, i)| r * i));
    let mut size = dot(residual, direction);
    let enough = size * 1e-10;
    for _ in 0..steps {
        if size <= enough || size <= f32::MIN_POSITIVE {
            break;
        }
        image.clear();
        image.extend(direction.iter().zip(dense.iter()).map(|(p, d)| p * d));
        for (factor, c) in engagements.clone() {
            add_scaled(image, c * dot(factor, direction), factor);
        }
        let step = size / dot(direction, image);
        add_scaled(row, step, direction);
        add_scaled(residual, -step, image);
        image.clear();
        image.extend(residual.iter().zip(inverse.iter()).map(|(r, i)| r * i));
        let next = dot(residual, image);
        let turn = next / size;
        size = next;
        for (p, z) in direction.iter_mut().zip(image.iter()) {
            *p = z + turn * *p;
        }
    }
}

/// What is minimised, for each engagement.
fn loss(
    tastes: &Interactions,
    by_item: &Interactions,
    (users, items): (&[f32], &[f32]),
    spread_of_users: &[f32],
    penalty: &Penalty,
) -> f64 {
    let dims = spread_of_users.len();
    let rows: Vec<f64> = (0..tastes.rows())
        .into_par_iter()
        .map(|row| {
            let x = &users[row * dims..][..dims];
            let (columns, confidences) = tastes.row(row);
            let pairs = columns.iter().zip(confidences);
            let observed: f32 =
                pairs.map(|(&column, c)| c * (1.0 - dot(x, &items[column as usize * dims..][..dims])).powi(2)).sum();
            let total = confidences.iter().sum();
            f64::from(observed + held_back(total, tastes.width(), penalty) * dot(x, x))
        })
        .collect();
    let columns: Vec<f64> = (0..by_item.rows())
        .into_par_iter()
        .map(|item| {
            let y = &items[item * dims..][..dims];
            let all: f32 = y.iter().zip(spread_of_users).map(|(y, s)| y * y * s).sum();
            let total = by_item.row(item).1.iter().sum();
            f64::from(penalty.unobserved * all + held_back(total, by_item.width(), penalty) * dot(y, y))
        })
        .collect();
    (rows.iter().sum::<f64>() + columns.iter().sum::<f64>()) / tastes.len().max(1) as f64
}
