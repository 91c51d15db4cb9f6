//! Where do irregular shapes come from? Value noise on a lattice, and sums of its octaves.

/// Spreads 32 bits; every bit of the answer depends on every bit of `value`.
pub(super) fn scramble(value: u32) -> u32 {
    let x = (value ^ (value >> 16)).wrapping_mul(0x7FEB_352D);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

/// A number in [0, 1) for each cell of a lattice.
pub(super) fn cell(x: i32, y: i32, seed: u32) -> f32 {
    let bits = scramble((x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77) ^ seed);
    (bits >> 8) as f32 / (1_u32 << 24) as f32
}

/// Smooth noise in [0, 1) with features of size 1.
pub(super) fn noise(x: f32, y: f32, seed: u32) -> f32 {
    let (x0, y0) = (x.floor(), y.floor());
    let (fx, fy) = (x - x0, y - y0);
    let (sx, sy) = (fx * fx * (3.0 - 2.0 * fx), fy * fy * (3.0 - 2.0 * fy));
    let (i, j) = (x0 as i32, y0 as i32);
    let top = cell(i, j, seed) * (1.0 - sx) + cell(i + 1, j, seed) * sx;
    let bottom = cell(i, j + 1, seed) * (1.0 - sx) + cell(i + 1, j + 1, seed) * sx;
    top * (1.0 - sy) + bottom * sy
}

/// Fractal noise in [0, 1): `octaves` layers, each twice as fine and half as strong.
pub(super) fn fractal(x: f32, y: f32, octaves: u32, seed: u32) -> f32 {
    let (mut sum, mut weight, mut total) = (0.0, 1.0, 0.0);
    let (mut x, mut y) = (x, y);
    for octave in 0..octaves {
        sum += weight * noise(x, y, seed.wrapping_add(octave * 0x0100_0193));
        total += weight;
        weight *= 0.5;
        // Turned a little, so that the lattices of the octaves do not line up.
        (x, y) = (1.6 * x - 1.2 * y + 7.3, 1.2 * x + 1.6 * y - 3.1);
    }
    sum / total
}

/// Smooth noise along a line, in [0, 1).
pub(super) fn line(x: f32, seed: u32) -> f32 {
    let x0 = x.floor();
    let f = x - x0;
    let s = f * f * (3.0 - 2.0 * f);
    cell(x0 as i32, 0, seed) * (1.0 - s) + cell(x0 as i32 + 1, 0, seed) * s
}

/// Fractal noise along a line, in [0, 1).
pub(super) fn fractal_line(x: f32, octaves: u32, seed: u32) -> f32 {
    let (mut sum, mut weight, mut total, mut x) = (0.0, 1.0, 0.0, x);
    for octave in 0..octaves {
        sum += weight * line(x, seed.wrapping_add(octave * 0x0100_0193));
        total += weight;
        weight *= 0.5;
        x = x * 2.03 + 5.7;
    }
    sum / total
}
