//! What is the logarithm of a number, when thousands are needed for one answer?

/// The natural logarithm of a normal number above 0, within 3 units in the last place; inlined, and the same on every
/// machine. For 0, negative and subnormal numbers, infinities and NaN the result is some finite number or NaN.
///
/// The number is split into a power of two and a mantissa about 1, whose logarithm is twice the area hyperbolic tangent
/// of (m − 1) / (m + 1) (Abramowitz and Stegun 4.1.27).
#[inline(always)]
pub fn fast_ln(x: f32) -> f32 {
    const SQRT_HALF_BITS: u32 = 0x3f35_04f3;
    let shifted = x.to_bits().wrapping_sub(SQRT_HALF_BITS);
    let exponent = (shifted as i32) >> 23;
    let mantissa = f32::from_bits((shifted & 0x007f_ffff).wrapping_add(SQRT_HALF_BITS));
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let z = s * s;
    let series = s * (2.0 + z * (0.666_666_7 + z * (0.4 + z * (0.285_714_3 + z * 0.222_222_2))));
    series + exponent as f32 * std::f32::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_exact_one() {
        let mut x = 1e-30_f32;
        while x < 1e30 {
            let (found, exact) = (fast_ln(x), f64::from(x).ln());
            assert!((f64::from(found) - exact).abs() <= 4e-7 * exact.abs().max(0.5), "ln {x} is {exact}, not {found}");
            x *= 1.000_37;
        }
        assert_eq!(fast_ln(1.0), 0.0);
        for odd in [0.0, -1.0, f32::MIN_POSITIVE / 4.0, f32::INFINITY] {
            assert!(fast_ln(odd).is_finite());
        }
    }
}
