//! How alike are two rows of numbers? Dot products with the widest instructions this processor has.
//!
//! The one file of the project that may be `unsafe`: it calls processor instructions. Which are there is found out at
//! run time, once, by [`Kernels::best`]; every path is tested against the portable one.
#![allow(
    unsafe_code,
    reason = "vector instructions are reached through unsafe intrinsics; nothing else here is unsafe"
)]

use std::sync::OnceLock;

/// Rows are padded with zeros to a multiple of this, so that no path needs a tail.
pub(super) const LANES: usize = 64;

/// The dot products, in the form that suits a processor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernels {
    /// What the form is called.
    pub(super) name: &'static str,
    dots_i8: fn(&[i8], &[i8], &mut [i32]),
    dot_wide: fn(&[f32], &[i8], &[i8]) -> f32,
}

impl Kernels {
    /// The fastest form that this processor can run.
    pub(super) fn best() -> &'static Self {
        static BEST: OnceLock<Kernels> = OnceLock::new();
        BEST.get_or_init(|| Self::supported().last().copied().unwrap_or(PORTABLE))
    }

    /// All forms that this processor can run, the fastest last.
    fn supported() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "only x86-64 has more than one form"))]
        let mut forms = vec![PORTABLE];
        #[cfg(target_arch = "x86_64")]
        x86::add_supported(&mut forms);
        forms
    }

    /// `out[i]` = the dot product of `query` with the `i`-th of `rows`, which lie one behind the other, each as long as
    /// `query`. That length is a multiple of [`LANES`]; codes lie in −127 to 127.
    pub(super) fn dots_i8(&self, query: &[i8], rows: &[i8], out: &mut [i32]) {
        assert!(query.len().is_multiple_of(LANES) && rows.len() == query.len() * out.len(), "rows of unequal length");
        (self.dots_i8)(query, rows, out);
    }

    /// The dot product of two rows of codes; see [`dots_i8`](Self::dots_i8).
    pub(super) fn dot_i8(&self, a: &[i8], b: &[i8]) -> i32 {
        let mut out = [0];
        self.dots_i8(a, b, &mut out);
        out[0]
    }

    /// The dot product of `query` with numbers of 16 bits, of which `codes` are the upper halves and `rest` the lower ones, in
    /// −127 to 127; without a rest these are 0. All have the same length, a multiple of [`LANES`].
    pub(super) fn dot_wide(&self, query: &[f32], codes: &[i8], rest: &[i8]) -> f32 {
        assert!(query.len().is_multiple_of(LANES) && query.len() == codes.len(), "rows of unequal length");
        assert!(rest.is_empty() || rest.len() == codes.len(), "rows of unequal length");
        (self.dot_wide)(query, codes, rest)
    }
}

/// Asks the processor to fetch a row that will be needed soon, while it does something else. Only a hint.
#[inline]
pub(super) fn prefetch<T>(row: &[T]) {
    #[cfg(target_arch = "x86_64")]
    x86::prefetch(row);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

const PORTABLE: Kernels = Kernels { name: "portable", dots_i8: portable_dots_i8, dot_wide: portable_dot_wide };

fn portable_dots_i8(query: &[i8], rows: &[i8], out: &mut [i32]) {
    for (row, out) in rows.chunks_exact(query.len().max(1)).zip(out) {
        *out = query.iter().zip(row).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
    }
}

fn portable_dot_wide(query: &[f32], codes: &[i8], rest: &[i8]) -> f32 {
    let mut sums = [0.0_f32; 8];
    for (place, (q, c)) in query.chunks_exact(8).zip(codes.chunks_exact(8)).enumerate() {
        let r = rest.get(place * 8..place * 8 + 8).unwrap_or(&[0; 8]);
        for lane in 0..8 {
            sums[lane] += q[lane] * (f32::from(c[lane]) * 256.0 + f32::from(r[lane]));
        }
    }
    sums.iter().sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Kernels;

    /// Adds the forms that this processor can run; a form is handed out only here, after its features were found.
    pub(super) fn add_supported(forms: &mut Vec<Kernels>) {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        if avx2 {
            forms.push(Kernels { name: "avx2", dots_i8: dots_i8_avx2, dot_wide: dot_wide_avx2 });
        }
        if avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni")
        {
            forms.push(Kernels { name: "avx512-vnni", dots_i8: dots_i8_vnni, dot_wide: dot_wide_avx512 });
        }
    }

    /// Bytes that come into the cache together.
    const LINE_BYTES: usize = 64;

    /// The most that is fetched of a row; of longer ones the processor sees by itself what comes next.
    const LINES: usize = 8;

    #[inline]
    pub(super) fn prefetch<T>(row: &[T]) {
        let bytes = size_of_val(row).min(LINES * LINE_BYTES);
        for offset in (0..bytes).step_by(LINE_BYTES) {
            // SAFETY: the address lies inside `row`, and a prefetch reads nothing that the program could see; SSE, which
            // it belongs to, is part of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(row.as_ptr().cast::<i8>().add(offset)) };
        }
    }

    fn dots_i8_avx2(query: &[i8], rows: &[i8], out: &mut [i32]) {
        // SAFETY: this function is handed out only by `add_supported`, after AVX2 was found.
        unsafe { dots_i8_avx2_inner(query, rows, out) }
    }

    fn dot_wide_avx2(query: &[f32], codes: &[i8], rest: &[i8]) -> f32 {
        // SAFETY: this function is handed out only by `add_supported`, after AVX2 and FMA were found.
        unsafe { dot_wide_avx2_inner(query, codes, rest) }
    }

    fn dots_i8_vnni(query: &[i8], rows: &[i8], out: &mut [i32]) {
        // SAFETY: this function is handed out only by `add_supported`, after AVX-512 F, BW and VNNI were found.
        unsafe { dots_i8_vnni_inner(query, rows, out) }
    }

    fn dot_wide_avx512(query: &[f32], codes: &[i8], rest: &[i8]) -> f32 {
        // SAFETY: this function is handed out only by `add_supported`, after AVX-512 F and BW were found.
        unsafe { dot_wide_avx512_inner(query, codes, rest) }
    }

    // Both int8 forms multiply |query| (unsigned) by the row with the query's signs (signed): the instructions want one
    // operand of each kind. With codes in −127 to 127 two products, at most 2 · 127², fit an i16.

    #[target_feature(enable = "avx2")]
    fn dots_i8_avx2_inner(query: &[i8], rows: &[i8], out: &mut [i32]) {
        let ones = _mm256_set1_epi16(1);
        for (row, out) in rows.chunks_exact(query.len().max(1)).zip(out) {
            let mut sums = _mm256_setzero_si256();
            for (q, r) in query.chunks_exact(32).zip(row.chunks_exact(32)) {
                // SAFETY: both chunks are 32 bytes long; the load does not ask for alignment.
                let (q, r) = unsafe { (_mm256_loadu_si256(q.as_ptr().cast()), _mm256_loadu_si256(r.as_ptr().cast())) };
                let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(r, q));
                sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, ones));
            }
            let halves = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
            let quarters = _mm_add_epi32(halves, _mm_shuffle_epi32::<0b01_00_11_10>(halves));
            *out = _mm_cvtsi128_si32(_mm_add_epi32(quarters, _mm_shuffle_epi32::<0b10_11_00_01>(quarters)));
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn dots_i8_vnni_inner(query: &[i8], rows: &[i8], out: &mut [i32]) {
        let zero = _mm512_setzero_si512();
        for (row, out) in rows.chunks_exact(query.len().max(1)).zip(out) {
            let mut sums = zero;
            for (q, r) in query.chunks_exact(64).zip(row.chunks_exact(64)) {
                // SAFETY: both chunks are 64 bytes long; the load does not ask for alignment.
                let (q, r) = unsafe { (_mm512_loadu_si512(q.as_ptr().cast()), _mm512_loadu_si512(r.as_ptr().cast())) };
                let signed = _mm512_mask_sub_epi8(r, _mm512_movepi8_mask(q), zero, r);
                sums = _mm512_dpbusd_epi32(sums, _mm512_abs_epi8(q), signed);
            }
            *out = _mm512_reduce_add_epi32(sums);
        }
    }

    #[target_feature(enable = "avx2,fma")]
    fn dot_wide_avx2_inner(query: &[f32], codes: &[i8], rest: &[i8]) -> f32 {
        let mut sums = [_mm256_setzero_ps(); 2];
        for (place, (q, c)) in query.chunks_exact(16).zip(codes.chunks_exact(16)).enumerate() {
            // SAFETY: the chunk is 16 bytes long; the load does not ask for alignment.
            let c = unsafe { _mm_loadu_si128(c.as_ptr().cast()) };
            let mut wide = _mm256_slli_epi16::<8>(_mm256_cvtepi8_epi16(c));
            if let Some(r) = rest.get(place * 16..place * 16 + 16) {
                // SAFETY: as above.
                let r = unsafe { _mm_loadu_si128(r.as_ptr().cast()) };
                wide = _mm256_add_epi16(wide, _mm256_cvtepi8_epi16(r));
            }
            let halves = [_mm256_castsi256_si128(wide), _mm256_extracti128_si256::<1>(wide)];
            for (half, (sum, numbers)) in sums.iter_mut().zip(halves).enumerate() {
                // SAFETY: the chunk holds 16 numbers, of which this reads eight, from 0 or 8 on; the load does not ask for
                // alignment.
                let q = unsafe { _mm256_loadu_ps(q.as_ptr().add(half * 8)) };
                *sum = _mm256_fmadd_ps(q, _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(numbers)), *sum);
            }
        }
        let mut lanes = [0.0_f32; 8];
        // SAFETY: `lanes` has room for the eight numbers; the store does not ask for alignment.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), _mm256_add_ps(sums[0], sums[1])) };
        lanes.iter().sum()
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    fn dot_wide_avx512_inner(query: &[f32], codes: &[i8], rest: &[i8]) -> f32 {
        let mut sums = [_mm512_setzero_ps(); 2];
        for (place, (q, c)) in query.chunks_exact(32).zip(codes.chunks_exact(32)).enumerate() {
            // SAFETY: the chunk is 32 bytes long; the load does not ask for alignment.
            let c = unsafe { _mm256_loadu_si256(c.as_ptr().cast()) };
            let mut wide = _mm512_slli_epi16::<8>(_mm512_cvtepi8_epi16(c));
            if let Some(r) = rest.get(place * 32..place * 32 + 32) {
                // SAFETY: as above.
                let r = unsafe { _mm256_loadu_si256(r.as_ptr().cast()) };
                wide = _mm512_add_epi16(wide, _mm512_cvtepi8_epi16(r));
            }
            let halves = [_mm512_castsi512_si256(wide), _mm512_extracti64x4_epi64::<1>(wide)];
            for (half, (sum, numbers)) in sums.iter_mut().zip(halves).enumerate() {
                // SAFETY: the chunk holds 32 numbers, of which this reads sixteen, from 0 or 16 on; the load does not ask
                // for alignment.
                let q = unsafe { _mm512_loadu_ps(q.as_ptr().add(half * 16)) };
                *sum = _mm512_fmadd_ps(q, _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(numbers)), *sum);
            }
        }
        _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn extreme_codes_do_not_overflow() {
        for kernels in Kernels::supported() {
            for (a, b) in [(127, 127), (-127, 127), (127, -127), (-127, -127), (0, -127)] {
                let dot = kernels.dot_i8(&[a; 16_384], &[b; 16_384]);
                assert_eq!(dot, i32::from(a) * i32::from(b) * 16_384, "{}", kernels.name);
            }
        }
    }

    proptest! {
        #[test]
        fn every_form_agrees_with_the_portable_one(seed in any::<u64>(), blocks in 1_usize..8, rows in 0_usize..5) {
            let mut rng = StdRng::seed_from_u64(seed);
            let len = blocks * LANES;
            let query: Vec<i8> = (0..len).map(|_| rng.random_range(-127..=127)).collect();
            let codes: Vec<i8> = (0..len * rows).map(|_| rng.random_range(-127..=127)).collect();
            let floats: Vec<f32> = (0..len).map(|_| rng.random_range(-1.0..1.0)).collect();
            let mut eight = || (0..len).map(|_| rng.random_range(-127..=127)).collect::<Vec<i8>>();
            let (upper, lower) = (eight(), eight());
            let (mut expected, mut got) = (vec![0; rows], vec![0; rows]);
            PORTABLE.dots_i8(&query, &codes, &mut expected);
            for kernels in Kernels::supported() {
                kernels.dots_i8(&query, &codes, &mut got);
                prop_assert_eq!(&got, &expected, "{}", kernels.name);
                for lower in [&lower[..], &[]] {
                    let dot = kernels.dot_wide(&floats, &upper, lower);
                    let close_to = PORTABLE.dot_wide(&floats, &upper, lower);
                    prop_assert!((dot - close_to).abs() < 1.0, "{}: {} or {}", kernels.name, dot, close_to);
                }
            }
        }
    }
}
