//! How alike are two vectors? Sums of products, in the widest registers that the processor has.
//!
//! The sums are split into [`LANES`] in the same way everywhere, so that results do not depend on the processor.

use multiversion::multiversion;

/// Independent sums: two registers of eight, so that one addition need not wait for the one before.
pub const LANES: usize = 16;

/// The dot product of two slices of the same length (of the shorter, if they differ).
#[multiversion(targets("x86_64+avx2", "x86_64+avx"))]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    lanes(a, b)
}

/// The dot product of `query` with each row of `rows`, which lie one after another, onto the end of `products`.
#[multiversion(targets("x86_64+avx2", "x86_64+avx"))]
pub fn dot_rows(rows: &[f32], query: &[f32], products: &mut Vec<f32>) {
    products.reserve(rows.len() / query.len().max(1));
    // A closure would be compiled for the narrowest registers.
    for row in rows.chunks_exact(query.len().max(1)) {
        products.push(lanes(row, query));
    }
}

/// The dot product of `query` with those rows of `rows` that stand at `places`, onto the end of `products`; no number for
/// places beyond the last. In one loop, so that rows from all over the memory come together.
#[multiversion(targets("x86_64+avx2", "x86_64+avx"))]
pub fn dot_places(rows: &[f32], places: &[u32], query: &[f32], products: &mut Vec<f32>) {
    products.reserve(places.len());
    let width = query.len();
    for &place in places {
        let start = place as usize * width;
        products.push(match rows.get(start..start + width) {
            Some(row) => lanes(row, query),
            None => f32::NAN,
        });
    }
}

/// The dot products of each row of `width` numbers of `rows` with each of `queries`, which are as wide; those of the first
/// row first, onto the end of `products`.
#[multiversion(targets("x86_64+avx2", "x86_64+avx"))]
pub fn dot_rows_each(rows: &[f32], queries: &[f32], width: usize, products: &mut Vec<f32>) {
    let width = width.max(1);
    products.reserve(rows.len() / width * (queries.len() / width));
    for row in rows.chunks_exact(width) {
        for query in queries.chunks_exact(width) {
            products.push(lanes(row, query));
        }
    }
}

/// `y += a * x`.
#[multiversion(targets("x86_64+avx2", "x86_64+avx"))]
pub fn add_scaled(y: &mut [f32], a: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

#[inline(always)]
fn lanes(a: &[f32], b: &[f32]) -> f32 {
    let length = a.len().min(b.len());
    let (a, b) = (&a[..length], &b[..length]);
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    let mut sums = [0.0_f32; LANES];
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    // Half onto half, so that no addition waits for more than three others.
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
    }
    sums[0] + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        (0..count as u32).map(|n| ((n * 7 + seed) % 13) as f32 - 6.0).collect()
    }

    #[test]
    fn products_are_those_of_the_definition() {
        for length in [0, 1, 15, 16, 17, 31, 64, 320] {
            let (a, b) = (numbers(length, 1), numbers(length + 3, 5));
            // Whole numbers, so that the order of the sum does not matter.
            let truth: f32 = a.iter().zip(&b).map(|(x, y)| x * y).sum();
            assert_eq!(dot(&a, &b), truth);
            assert_eq!(dot(&b, &a), truth);
            let mut sum = b.clone();
            add_scaled(&mut sum, 2.0, &a);
            assert!(sum.iter().zip(&b).zip(&a).all(|((sum, b), a)| *sum == b + 2.0 * a));
        }
    }

    #[test]
    fn rows_are_taken_one_by_one() {
        let (rows, query) = (numbers(5 * 24, 3), numbers(24, 2));
        let mut products = vec![9.0];
        dot_rows(&rows, &query, &mut products);
        let expected: Vec<f32> = rows.chunks_exact(24).map(|row| dot(row, &query)).collect();
        assert_eq!(products[0], 9.0);
        assert_eq!(products[1..], expected);
        dot_rows(&rows, &[], &mut products);
        products.clear();
        dot_rows_each(&rows[..48], &rows[48..], 24, &mut products);
        let pairs = [(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4)];
        assert_eq!(products, pairs.map(|(a, b)| dot(&rows[a * 24..][..24], &rows[b * 24..][..24])));
        products.clear();
        dot_places(&rows, &[3, 0, 5, u32::MAX], &query, &mut products);
        assert_eq!(products[..2], [expected[3], expected[0]]);
        assert!(products[2].is_nan() && products[3].is_nan() && products.len() == 4);
    }
}
