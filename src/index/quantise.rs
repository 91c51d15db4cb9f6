//! How is a vector kept small? As 8-bit codes to find candidates, and with 8 more bits a number to rank them.

use super::simd::{Kernels, LANES};
use crate::domain::{Embedding, Precision};

/// A vector as the index keeps it.
///
/// Codes are the components scaled so that the largest becomes ±127. What compares two rows of codes is the cosine of
/// the *codes*: it needs no scale, cannot exceed 1 but for rounding, and is 1 for equal rows, so near-duplicates keep
/// their order instead of all being clamped. The same holds for what the rest adds: `256 · code + rest` is a component in
/// 16 bits, and a cosine with such a row is divided by the length of *its* numbers. What the row errs along itself is then
/// no error, so that what is left of it shrinks with the angle between what is compared: near-duplicates, whose cosines
/// differ the least, are told apart the best.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Row {
    /// Codes in −127 to 127, padded with zeros.
    pub(super) codes: Vec<i8>,
    /// 1 / the length of the codes.
    pub(super) inverse_norm: f32,
    /// What the codes leave, in 256ths of a code, −127 to 127, padded with zeros. Empty with [`Precision::Int8`].
    pub(super) rest: Vec<i8>,
    /// By how much the codes are longer than codes with their rest, as a share of that, in half precision.
    pub(super) excess: u16,
}

/// A row, looked at where it lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowRef<'a> {
    pub(super) codes: &'a [i8],
    pub(super) inverse_norm: f32,
    /// Empty if there is none.
    pub(super) rest: &'a [i8],
    pub(super) excess: u16,
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
    pub(super) fn new(vector: &Embedding, precision: Precision) -> Self {
        let (codes, scale) = codes(vector.as_slice());
        let rest = match precision {
            Precision::Int8 => Vec::new(),
            Precision::Int16 => {
                let left = |(value, code): (&f32, &i8)| {
                    ((value * scale - f32::from(*code)) * 256.0).round().clamp(-127.0, 127.0) as i8
                };
                let mut rest: Vec<i8> = vector.as_slice().iter().zip(&codes).map(left).collect();
                rest.resize(codes.len(), 0);
                rest
            }
        };
        Self::of(codes, rest)
    }

    /// The row of these numbers.
    pub(super) fn of(codes: Vec<i8>, rest: Vec<i8>) -> Self {
        let length = |sum: i64| (sum as f64).sqrt();
        let coarse = length(codes.iter().map(|&code| i64::from(code) * i64::from(code)).sum());
        let inverse_norm = if coarse > 0.0 { coarse.recip() as f32 } else { 0.0 };
        let excess = if rest.is_empty() || coarse <= 0.0 {
            0.0
        } else {
            let fine = length(wide(&codes, &rest).map(|number| i64::from(number) * i64::from(number)).sum());
            256.0 * coarse / fine - 1.0
        };
        Self { codes, inverse_norm, rest, excess: half::f16::from_f64(excess).to_bits() }
    }

    pub(super) fn by_ref(&self) -> RowRef<'_> {
        let Self { codes, inverse_norm, rest, excess } = self;
        RowRef { codes, inverse_norm: *inverse_norm, rest, excess: *excess }
    }
}

/// The numbers of a row in 16 bits.
fn wide<'a>(codes: &'a [i8], rest: &'a [i8]) -> impl Iterator<Item = i32> + 'a {
    let rest = rest.iter().chain(std::iter::repeat(&0));
    codes.iter().zip(rest).map(|(&code, &rest)| i32::from(code) * 256 + i32::from(rest))
}

impl RowRef<'_> {
    /// The cosine of these numbers, of unit length and padded, with the row.
    #[inline]
    pub(super) fn cosine(&self, kernels: &Kernels, floats: &[f32]) -> f32 {
        let scale = self.inverse_norm * (1.0 + half::f16::from_bits(self.excess).to_f32()) / 256.0;
        (kernels.dot_wide(floats, self.codes, self.rest) * scale).clamp(-1.0, 1.0)
    }

    /// The vector that the row stands for.
    pub(super) fn widen(&self, dims: usize) -> Option<Embedding> {
        Embedding::unit(wide(self.codes, self.rest).take(dims).map(|number| number as f32).collect()).ok()
    }

    /// Whether both stand for one vector, be it that one of them has been through half precision. That moves a component by
    /// up to 1/2048 of itself, and with the largest one the scale of all.
    pub(super) fn is_same(&self, other: RowRef<'_>) -> bool {
        if self.codes.len() != other.codes.len() || self.rest.len() != other.rest.len() {
            return false;
        }
        let square = |number: i32| i64::from(number) * i64::from(number);
        let apart = wide(self.codes, self.rest).zip(wide(other.codes, other.rest)).map(|(a, b)| square(a - b));
        let apart: i64 = apart.sum();
        if self.rest.is_empty() {
            // Codes that lay on the border between two, of which there are always some.
            apart <= square(256) * (self.codes.len() as i64 / 16)
        } else {
            apart <= wide(self.codes, self.rest).map(square).sum::<i64>() >> 20
        }
    }

    pub(super) fn to_row(self) -> Row {
        Row {
            codes: self.codes.to_vec(),
            inverse_norm: self.inverse_norm,
            rest: self.rest.to_vec(),
            excess: self.excess,
        }
    }
}

impl Query {
    pub(super) fn new(vector: &Embedding) -> Self {
        let Row { codes, inverse_norm, .. } = Row::new(vector, Precision::Int8);
        Self { codes, inverse_norm, floats: padded(vector) }
    }

    /// The cosine with a row, as exactly as it is kept.
    #[inline]
    pub(super) fn cosine(&self, kernels: &Kernels, row: RowRef<'_>) -> f32 {
        row.cosine(kernels, &self.floats)
    }
}

/// The components, padded with zeros to the [`stride`].
pub(super) fn padded(vector: &Embedding) -> Vec<f32> {
    let mut floats = Vec::with_capacity(stride(vector.dims()));
    floats.extend_from_slice(vector.as_slice());
    floats.resize(stride(vector.dims()), 0.0);
    floats
}

/// The codes of components, padded with zeros, and what the components were multiplied by.
fn codes(values: &[f32]) -> (Vec<i8>, f32) {
    let largest = values.iter().fold(0.0_f32, |max, v| max.max(v.abs()));
    let scale = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    let mut codes: Vec<i8> = values.iter().map(|v| (v * scale).round() as i8).collect();
    codes.resize(stride(values.len()), 0);
    (codes, scale)
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
    fn rows_come_close_to_the_cosine() {
        let (mut rng, kernels) = (StdRng::seed_from_u64(1), Kernels::best());
        for dims in [1, 3, 63, 64, 320, 1_000] {
            for _ in 0..20 {
                let (a, b) = (random(&mut rng, dims), random(&mut rng, dims));
                let (query, row) = (Query::new(&a), Row::new(&b, Precision::Int16));
                assert_eq!((row.codes.len(), row.rest.len()), (stride(dims), stride(dims)));
                let coarse = kernels.dot_i8(&query.codes, &row.codes) as f32 * query.inverse_norm * row.inverse_norm;
                assert!((coarse - a.cosine(&b)).abs() < 0.01, "{dims}: {coarse} for {}", a.cosine(&b));
                let fine = query.cosine(kernels, row.by_ref());
                assert!((fine - a.cosine(&b)).abs() < 2e-5, "{dims}: {fine} for {}", a.cosine(&b));
                assert!(row.by_ref().widen(dims).unwrap().cosine(&b) > 0.999_999);
                let coarser = Row::new(&b, Precision::Int8);
                assert_eq!((&coarser.codes, coarser.rest.len()), (&row.codes, 0));
                assert!((query.cosine(kernels, coarser.by_ref()) - a.cosine(&b)).abs() < 0.01);
                assert!(coarser.by_ref().widen(dims).unwrap().cosine(&b) > 0.999);
            }
        }
    }

    #[test]
    fn near_duplicates_are_told_apart() {
        let (mut rng, kernels) = (StdRng::seed_from_u64(2), Kernels::best());
        let (mut of_near, mut of_others) = (0.0_f64, 0.0_f64);
        let centre = random(&mut rng, 320);
        let query = Query::new(&centre);
        for _ in 0..500 {
            let noise = random(&mut rng, 320);
            let moved = centre.as_slice().iter().zip(noise.as_slice()).map(|(c, n)| c + 0.05 * n);
            let near = Embedding::unit(moved.collect()).unwrap();
            for (vector, error) in [(near, &mut of_near), (noise, &mut of_others)] {
                let exact: f64 = centre.as_slice().iter().zip(vector.as_slice()).map(|(a, b)| f64::from(a * b)).sum();
                let found = query.cosine(kernels, Row::new(&vector, Precision::Int16).by_ref());
                *error = error.max((f64::from(found) - exact).abs());
            }
        }
        // Next to one, a single-precision number is good for 6e-8.
        assert!(of_near < 6e-7 && of_others < 1e-5, "{of_near} {of_others}");
    }

    #[test]
    fn a_vector_that_has_been_through_half_precision_is_the_same() {
        let mut rng = StdRng::seed_from_u64(3);
        for dims in [8, 64, 320] {
            for precision in [Precision::Int8, Precision::Int16] {
                for _ in 0..50 {
                    let vector = random(&mut rng, dims);
                    let halves = vector.as_slice().iter().map(|v| half::f16::from_f32(*v).to_f32()).collect();
                    let (row, other) = (Row::new(&vector, precision), Row::new(&random(&mut rng, dims), precision));
                    let kept = Row::new(&Embedding::unit(halves).unwrap(), precision);
                    assert!(row.by_ref().is_same(kept.by_ref()), "{dims} {precision}");
                    assert!(!row.by_ref().is_same(other.by_ref()), "{dims} {precision}");
                }
            }
        }
        let vector = random(&mut rng, 64);
        let [int8, int16] = [Precision::Int8, Precision::Int16].map(|precision| Row::new(&vector, precision));
        assert!(!int8.by_ref().is_same(int16.by_ref()), "they are kept otherwise");
    }

    #[test]
    fn a_vector_with_one_large_component_is_kept() {
        let mut values = vec![1e-9; 70];
        values[69] = -1.0;
        let row = Row::new(&Embedding::unit(values).unwrap(), Precision::Int16);
        assert_eq!((row.codes[69], row.codes[0], row.codes[70], row.rest[69]), (-127, 0, 0, 0));
        assert!(row.inverse_norm > 0.0);
    }
}
