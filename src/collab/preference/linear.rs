//! How are small dense systems solved? Gram matrices, their eigenvectors, and Cholesky's factorisation.
//!
//! Matrices are row by row in one slice. Sums over many rows are taken in chunks of fixed size, in order, so that they do
//! not depend on the number of threads.

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};
use rayon::prelude::*;

/// Rows that one task takes.
const CHUNK_ROWS: usize = 512;

/// At most so many sweeps of Jacobi's method; ten are enough for any matrix seen.
const MAX_SWEEPS: usize = 40;

/// The sum of `row · rowᵀ` over all rows of `dims` numbers.
pub(super) fn gram(rows: &[f32], dims: usize) -> Vec<f64> {
    let partial: Vec<Vec<f32>> = rows
        .par_chunks(CHUNK_ROWS * dims)
        .map(|chunk| {
            let mut sum = vec![0.0_f32; dims * dims];
            multiply_transposed(chunk, chunk, (dims, dims), &mut sum);
            sum
        })
        .collect();
    let mut sum = vec![0.0_f64; dims * dims];
    for chunk in &partial {
        for (sum, &value) in sum.iter_mut().zip(chunk) {
            *sum += f64::from(value);
        }
    }
    sum
}

/// `sum += aᵀ · b` for rows of `a` and `b`, whose widths are given.
pub(super) fn multiply_transposed(a: &[f32], b: &[f32], (a_width, b_width): (usize, usize), sum: &mut [f32]) {
    let rows = a.len() / a_width.max(1);
    let shaped = (
        ArrayView2::from_shape((rows, a_width), a),
        ArrayView2::from_shape((rows, b_width), b),
        ArrayViewMut2::from_shape((a_width, b_width), sum),
    );
    if let (Ok(a), Ok(b), Ok(mut sum)) = shaped {
        general_mat_mul(1.0, &a.t(), &b, 1.0, &mut sum);
    }
}

/// Replaces each row by `row · matrix`, a square matrix.
pub(super) fn rotate(rows: &mut [f32], dims: usize, matrix: &[f32]) {
    rows.par_chunks_mut(CHUNK_ROWS * dims).for_each(|chunk| {
        let before = chunk.to_vec();
        let shaped = (
            ArrayView2::from_shape((before.len() / dims, dims), &before),
            ArrayView2::from_shape((dims, dims), matrix),
            ArrayViewMut2::from_shape((before.len() / dims, dims), chunk),
        );
        if let (Ok(before), Ok(matrix), Ok(mut after)) = shaped {
            general_mat_mul(1.0, &before, &matrix, 0.0, &mut after);
        }
    });
}

/// Eigenvalues of a symmetric matrix, the largest first (those below zero as zero), and its eigenvectors as the columns of a matrix, by Jacobi's method.
pub fn eigen(symmetric: &mut [f64], dims: usize) -> (Vec<f64>, Vec<f32>) {
    let a = symmetric;
    // Transposed: row k is eigenvector k.
    let mut vectors = vec![0.0_f64; dims * dims];
    (0..dims).for_each(|k| vectors[k * dims + k] = 1.0);
    let total: f64 = a.iter().map(|v| v * v).sum();
    for _ in 0..MAX_SWEEPS {
        let off: f64 = (0..dims).map(|i| a[i * dims..i * dims + i].iter().map(|v| v * v).sum::<f64>()).sum();
        if off <= 1e-22 * total {
            break;
        }
        for p in 0..dims {
            for q in p + 1..dims {
                turn(a, &mut vectors, dims, p, q);
            }
        }
    }
    let mut order: Vec<usize> = (0..dims).collect();
    order.sort_by(|&i, &j| a[j * dims + j].total_cmp(&a[i * dims + i]));
    let values = order.iter().map(|&k| a[k * dims + k].max(0.0)).collect();
    let mut columns = vec![0.0_f32; dims * dims];
    for (to, &from) in order.iter().enumerate() {
        for row in 0..dims {
            columns[row * dims + to] = vectors[from * dims + row] as f32;
        }
    }
    (values, columns)
}

/// One rotation of Jacobi's method, which makes the elements (p, q) and (q, p) zero.
fn turn(a: &mut [f64], vectors: &mut [f64], dims: usize, p: usize, q: usize) {
    let apq = a[p * dims + q];
    if apq.abs() <= f64::MIN_POSITIVE {
        return;
    }
    let theta = (a[q * dims + q] - a[p * dims + p]) / (2.0 * apq);
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    for k in 0..dims {
        let (kp, kq) = (a[k * dims + p], a[k * dims + q]);
        a[k * dims + p] = c * kp - s * kq;
        a[k * dims + q] = s * kp + c * kq;
    }
    turn_rows(a, dims, (p, q), (c, s));
    turn_rows(vectors, dims, (p, q), (c, s));
}

fn turn_rows(matrix: &mut [f64], dims: usize, (p, q): (usize, usize), (c, s): (f64, f64)) {
    let (before, from_q) = matrix.split_at_mut(q * dims);
    let row_p = &mut before[p * dims..(p + 1) * dims];
    for (vp, vq) in row_p.iter_mut().zip(&mut from_q[..dims]) {
        (*vp, *vq) = (c * *vp - s * *vq, s * *vp + c * *vq);
    }
}

/// Factorises a symmetric positive definite matrix in place into its lower triangle; `false` if it is none.
pub(super) fn cholesky(matrix: &mut [f64], n: usize) -> bool {
    for i in 0..n {
        let (above, from_i) = matrix.split_at_mut(i * n);
        let row = &mut from_i[..n];
        for j in 0..i {
            let other = &above[j * n..j * n + j + 1];
            let sum = row[j] - dot64(&row[..j], &other[..j]);
            row[j] = sum / other[j];
        }
        let rest = row[i] - dot64(&row[..i], &row[..i]);
        if rest.is_nan() || rest <= 0.0 {
            return false;
        }
        row[i] = rest.sqrt();
    }
    true
}

/// Solves `L · Lᵀ · x = b` in place for the columns of `b`, which has `n` rows of `width` numbers.
pub(super) fn cholesky_solve(lower: &[f64], n: usize, b: &mut [f64], width: usize) {
    for i in 0..n {
        let (above, from_i) = b.split_at_mut(i * width);
        let row = &mut from_i[..width];
        for j in 0..i {
            subtract64(row, lower[i * n + j], &above[j * width..(j + 1) * width]);
        }
        row.iter_mut().for_each(|v| *v /= lower[i * n + i]);
    }
    for i in (0..n).rev() {
        let (to_i, below) = b.split_at_mut((i + 1) * width);
        let row = &mut to_i[i * width..];
        for j in i + 1..n {
            subtract64(row, lower[j * n + i], &below[(j - i - 1) * width..(j - i) * width]);
        }
        row.iter_mut().for_each(|v| *v /= lower[i * n + i]);
    }
}

fn dot64(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0_f64; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f64 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f64>() + tail
}

fn subtract64(y: &mut [f64], a: f64, x: &[f64]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y -= a * x;
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn rows(count: usize, dims: usize) -> Vec<f32> {
        let mut random = SmallRng::seed_from_u64(3);
        (0..count * dims).map(|_| random.random_range(-1.0..1.0)).collect()
    }

    #[test]
    fn rotated_rows_have_a_diagonal_gram_matrix() {
        for dims in [1, 5, 16, 33] {
            let mut rows = rows(1_300, dims);
            let mut before = gram(&rows, dims);
            let trace: f64 = (0..dims).map(|k| before[k * dims + k]).sum();
            let (values, vectors) = eigen(&mut before, dims);
            assert!(values.windows(2).all(|pair| pair[0] >= pair[1]));
            assert!((values.iter().sum::<f64>() - trace).abs() < 1e-6 * trace);
            rotate(&mut rows, dims, &vectors);
            let after = gram(&rows, dims);
            for i in 0..dims {
                for j in 0..dims {
                    let expected = if i == j { values[i] } else { 0.0 };
                    assert!((after[i * dims + j] - expected).abs() < 1e-4 * trace, "{dims}: {i} {j}");
                }
            }
        }
    }

    #[test]
    fn cholesky_solves_what_it_factorised() {
        let n = 23;
        let rows = rows(100, n);
        let mut matrix = gram(&rows, n);
        (0..n).for_each(|i| matrix[i * n + i] += 1.0);
        let wanted: Vec<f64> = (0..n * 3).map(|i| i as f64 / 10.0 - 2.0).collect();
        let mut b = vec![0.0; n * 3];
        for i in 0..n {
            for j in 0..n {
                for c in 0..3 {
                    b[i * 3 + c] += matrix[i * n + j] * wanted[j * 3 + c];
                }
            }
        }
        assert!(cholesky(&mut matrix, n));
        cholesky_solve(&matrix, n, &mut b, 3);
        assert!(b.iter().zip(&wanted).all(|(got, wanted)| (got - wanted).abs() < 1e-6));
        assert!(!cholesky(&mut [1.0, 2.0, 2.0, 1.0], 2), "it is not positive definite");
        assert!(!cholesky(&mut [f64::NAN], 1));
    }
}
