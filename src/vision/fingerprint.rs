//! Is this the frame that we have just seen? A small grey picture of it, and the difference between two.

use crate::domain::{LUMA_SIDE, LumaThumb, Pixels};

/// Frames that differ by less than this count as the same picture: reusing the embedding changes little of what is found.
///
/// Measured on three videos, frames four times a second, among 500 photos (`examples/skip_frames.rs`): with 0.002, 9 % of the
/// frames are skipped and 1.6 % of all frames' ten nearest photos are others; with 0.0025, 16 % and 3.0 %; with 0.006, 29 % and
/// 5.4 %; with 0.0125, 41 % and 7.7 %. Across the videos' cuts the difference is at least 0.12.
pub const NEAR_DUPLICATE_DIFFERENCE: f32 = 0.0025;

/// At most this many rows of a cell are read: enough for a mean, and a large frame costs no more than a small one.
const MAX_ROWS_A_CELL: usize = 8;
/// At most this many columns of a cell are read.
const MAX_COLUMNS_A_CELL: usize = 16;

/// Shrinks `pixels` to 32 × 32 means of luma.
///
/// The picture is stretched to the square. Large cells are sampled on an even grid; a picture with fewer than 32
/// columns or rows repeats some.
pub fn luma_thumb(pixels: &Pixels) -> LumaThumb {
    let (width, height, rgb) = (pixels.width() as usize, pixels.height() as usize, pixels.rgb());
    let mut thumb = Box::new([0_u8; LUMA_SIDE * LUMA_SIDE]);
    for (cell_row, cells) in thumb.chunks_exact_mut(LUMA_SIDE).enumerate() {
        let (top, bottom) = span(cell_row, height);
        let row_step = (bottom - top).div_ceil(MAX_ROWS_A_CELL);
        for (cell_column, cell) in cells.iter_mut().enumerate() {
            let (left, right) = span(cell_column, width);
            let column_step = (right - left).div_ceil(MAX_COLUMNS_A_CELL);
            let (mut sum, mut count) = (0_u32, 0_u32);
            for row in (top..bottom).step_by(row_step) {
                let row = &rgb[(row * width + left) * 3..(row * width + right) * 3];
                for pixel in row.as_chunks::<3>().0.iter().step_by(column_step) {
                    sum += luma_times_256(*pixel);
                    count += 1;
                }
            }
            *cell = (sum / (count.max(1) * 256)) as u8;
        }
    }
    LumaThumb(thumb)
}

/// How much two frames differ, from 0 (not at all) to 1 (black against white).
///
/// The root mean square of the cells' differences: unlike the plain mean it rises when something small enters the picture,
/// while the noise of compression, spread over all cells, stays small. A change of overall brightness (flicker,
/// exposure) counts half.
pub fn difference(a: &LumaThumb, b: &LumaThumb) -> f32 {
    let (mut sum, mut squares) = (0_i64, 0_i64);
    for (&x, &y) in a.0.iter().zip(b.0.iter()) {
        let d = i64::from(x) - i64::from(y);
        sum += d;
        squares += d * d;
    }
    let cells = (LUMA_SIDE * LUMA_SIDE) as f64;
    let mean = sum as f64 / cells;
    let variance = (squares as f64 / cells - mean * mean).max(0.0);
    ((variance + mean * mean / 4.0).sqrt() / 255.0) as f32
}

/// Whether two frames differ by less than `threshold` ([`NEAR_DUPLICATE_DIFFERENCE`] unless there is reason to choose another).
pub fn near_duplicate(a: &LumaThumb, b: &LumaThumb, threshold: f32) -> bool {
    difference(a, b) < threshold
}

/// The source columns (or rows) of a cell: a half-open range that is never empty.
fn span(cell: usize, length: usize) -> (usize, usize) {
    let start = cell * length / LUMA_SIDE;
    (start, ((cell + 1) * length / LUMA_SIDE).max(start + 1))
}

/// ITU-R BT.601 weights, in 256ths.
fn luma_times_256([r, g, b]: [u8; 3]) -> u32 {
    77 * u32::from(r) + 150 * u32::from(g) + 29 * u32::from(b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A smooth picture of any size, brighter to the lower right.
    fn ramp(width: u32, height: u32) -> Pixels {
        let at = |x: u32, y: u32| (64 + x * 64 / width + y * 64 / height) as u8;
        let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| [at(x, y); 3])).collect();
        Pixels::new(width, height, rgb).unwrap()
    }

    fn thumb(cell: impl Fn(usize, usize) -> u8) -> LumaThumb {
        LumaThumb(Box::new(std::array::from_fn(|i| cell(i % LUMA_SIDE, i / LUMA_SIDE))))
    }

    #[test]
    fn the_thumb_is_the_mean_of_each_cell() {
        // Cells of 4 × 2 pixels, half of each black and half white.
        let rgb = (0..64 * 128).flat_map(|i| [if i % 4 < 2 { 0 } else { 255 }; 3]).collect();
        let striped = luma_thumb(&Pixels::new(128, 64, rgb).unwrap());
        assert!(striped.0.iter().all(|&v| v == 127));
        let red = luma_thumb(&Pixels::new(1, 1, vec![255, 0, 0]).unwrap());
        assert!(red.0.iter().all(|&v| v == 76));
    }

    #[test]
    fn size_does_not_matter() {
        let small = luma_thumb(&ramp(64, 64));
        for (width, height) in [(640, 360), (1920, 1080), (100, 33), (32, 2000)] {
            let other = luma_thumb(&ramp(width, height));
            assert!(near_duplicate(&small, &other, 0.0125), "{width}×{height}");
        }
    }

    #[test]
    fn noise_is_near_and_a_newcomer_is_not() {
        let scene = thumb(|x, y| (100 + x + y) as u8);
        let noisy = thumb(|x, y| (100 + x + y + (x * 7 + y * 3) % 2) as u8);
        assert!(near_duplicate(&scene, &noisy, NEAR_DUPLICATE_DIFFERENCE));
        // Something of a twentieth of the width and a fifth of the height enters.
        let entered = thumb(|x, y| if (10..12).contains(&x) && y < 7 { 30 } else { (100 + x + y) as u8 });
        assert!(!near_duplicate(&scene, &entered, NEAR_DUPLICATE_DIFFERENCE));
    }

    #[test]
    fn overall_brightness_counts_half() {
        let (dark, bright) = (thumb(|_, _| 100), thumb(|_, _| 120));
        assert!((difference(&dark, &bright) - 10.0 / 255.0).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn difference_is_a_symmetric_number_between_0_and_1(
            a in proptest::collection::vec(any::<u8>(), LUMA_SIDE * LUMA_SIDE),
            b in proptest::collection::vec(any::<u8>(), LUMA_SIDE * LUMA_SIDE),
        ) {
            let (a, b) = (thumb(|x, y| a[y * LUMA_SIDE + x]), thumb(|x, y| b[y * LUMA_SIDE + x]));
            prop_assert!((0.0..=1.0).contains(&difference(&a, &b)));
            prop_assert_eq!(difference(&a, &b), difference(&b, &a));
            prop_assert_eq!(difference(&a, &a), 0.0);
        }

        #[test]
        fn any_size_has_a_thumb(width in 1_u32..200, height in 1_u32..200) {
            let _ = luma_thumb(&ramp(width, height));
        }
    }
}
