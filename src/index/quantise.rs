//! How is a vector kept small? As 8-bit codes to find candidates, and in half precision to rank them.

use super::simd::{Kernels, LANES};
use crate::domain::Embedding;

/// A vector in the two forms that the index keeps.
///
/// Codes are the components scaled so that the largest becomes ±127. What compares two rows of codes is the cosine of
/// the *codes*: it needs no scale, cannot exceed 1 but for rounding, and is 1 for equal rows, so near-duplicates keep
/// their order instead of all being clamped.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    /// Codes in −127 to 127, padded with zeros.
    pub(super) codes: Vec<i8>,
    /// 1 / the length of the codes.
    pub(super) inverse_norm: f32,
    /// The components as IEEE 754 binary16, padded with zeros.
    pub(super) halves: Vec<u16>,
}

/// A query, ready to be compared with rows.
#[derive(Debug, Clone)]
pub(super) struct Query {
    /// As in a [`Row`].
    pub(super) codes: Vec<i8>,
    /// As in a [`Row`].
    pub(super) inverse_norm: f32,
    /// The components, padded with zeros.
    pub(super) floats: Vec<f32>,
}

/// The length of a row of `dims` numbers with its padding.
pub(super) fn stride(dims: usize) -> usize {
    dims.next_multiple_of(LANES)
}

impl Row {
    pub(super) fn new(vector: &Embedding) -> Self {
        let (codes, inverse_norm) = codes(vector.as_slice());
        let mut halves: Vec<u16> = vector.as_slice().iter().map(|&v| half::f16::from_f32(v).to_bits()).collect();
        halves.resize(codes.len(), 0);
        Self { codes, inverse_norm, halves }
    }
}

impl Query {
    pub(super) fn new(vector: &Embedding) -> Self {
        let (codes, inverse_norm) = codes(vector.as_slice());
        Self { codes, inverse_norm, floats: padded(vector) }
    }

    /// The cosine with a row in half precision, in [−1, 1].
    pub(super) fn cosine(&self, kernels: &Kernels, halves: &[u16]) -> f32 {
        kernels.dot_f16(&self.floats, halves).clamp(-1.0, 1.0)
    }
}

/// The components, padded with zeros to the [`stride`].
pub(super) fn padded(vector: &Embedding) -> Vec<f32> {
    let mut floats = Vec::with_capacity(stride(vector.dims()));
    floats.extend_from_slice(vector.as_slice());
    floats.resize(stride(vector.dims()), 0.0);
    floats
}

/// The vector that half-precision components stand for.
pub(super) fn widen(halves: &[u16], dims: usize) -> Option<Embedding> {
    Embedding::unit(halves.iter().take(dims).map(|&bits| half::f16::from_bits(bits).to_f32()).collect()).ok()
}

fn codes(values: &[f32]) -> (Vec<i8>, f32) {
    let largest = values.iter().fold(0.0_f32, |max, v| max.max(v.abs()));
    let scale = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    let mut codes: Vec<i8> = values.iter().map(|v| (v * scale).round() as i8).collect();
    let norm = codes.iter().map(|&c| i64::from(c) * i64::from(c)).sum::<i64>() as f32;
    codes.resize(stride(values.len()), 0);
    (codes, if norm > 0.0 { norm.sqrt().recip() } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn random(rng: &mut StdRng, dims: usize) -> Embedding {
        Embedding::unit((0..dims).map(|_| rng.random_range(-1.0_f32..1.0)).collect()).unwrap()
    }

    #[test]
    fn codes_and_halves_come_close_to_the_cosine() {
        let (mut rng, kernels) = (StdRng::seed_from_u64(1), Kernels::best());
        for dims in [1, 3, 63, 64, 320, 1_000] {
            for _ in 0..20 {
                let (a, b) = (random(&mut rng, dims), random(&mut rng, dims));
                let (query, row) = (Query::new(&a), Row::new(&b));
                assert_eq!(row.codes.len(), stride(dims));
                let coarse = kernels.dot_i8(&query.codes, &row.codes) as f32 * query.inverse_norm * row.inverse_norm;
                assert!((coarse - a.cosine(&b)).abs() < 0.01, "{dims}: {coarse} for {}", a.cosine(&b));
                assert!((query.cosine(kernels, &row.halves) - a.cosine(&b)).abs() < 1e-3);
                assert!(widen(&row.halves, dims).unwrap().cosine(&b) > 0.999_999);
            }
        }
    }

    #[test]
    fn a_vector_with_one_large_component_is_kept() {
        let mut values = vec![1e-9; 70];
        values[69] = -1.0;
        let row = Row::new(&Embedding::unit(values).unwrap());
        assert_eq!((row.codes[69], row.codes[0], row.codes[70]), (-127, 0, 0));
        assert!(row.inverse_norm > 0.0);
    }
}
