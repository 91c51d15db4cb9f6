//! Is this the frame that we have just seen? A small grey picture of it, and the difference between two.

use crate::domain::{LUMA_SIDE, LumaThumb, Pixels};

/// Frames that differ by less than this count as the same picture: reusing the embedding changes little of what is found.
///
/// Measured on three videos, frames four times a second, among 500 photos (`examples/skip_frames.rs`): 12 % of the frames are skipped and
/// 1.4 % of all frames' ten nearest photos are others; with 0.003, 18 % and 2.4 %; with 0.006, 31 % and 5 %.
pub const NEAR_DUPLICATE_DIFFERENCE: f32 = 0.0025;

/// At most this many rows of a cell are read: enough for a mean, and a large frame costs little more than a small one.
const MAX_ROWS_A_CELL: usize = 8;

/// Shrinks `pixels` to 32 × 32 means of luma.
///
/// The picture is stretched to the square. Of high cells some rows are read, evenly spread; a picture with fewer than 32
/// columns or rows repeats some.
pub fn luma_thumb(pixels: &Pixels) -> LumaThumb {
    let (width, height, rgb) = (pixels.width() as usize, pixels.height() as usize, pixels.rgb());
    let mut thumb = Box::new([0_u8; LUMA_SIDE * LUMA_SIDE]);
    for (cell_row, cells) in thumb.chunks_exact_mut(LUMA_SIDE).enumerate() {
        let (top, bottom) = span(cell_row, height);
        let row_step = (bottom - top).div_ceil(MAX_ROWS_A_CELL);
        for (cell_column, cell) in cells.iter_mut().enumerate() {
            let (left, right) = span(cell_column, width);
            let (mut sum, mut count) = (0_u64, 0);
            for row in (top..bottom).step_by(row_step) {
                sum += u64::from(luma_times_256(&rgb[(row * width + left) * 3..(row * width + right) * 3]));
                count += (right - left) as u64;
            }
            *cell = (sum / (count.max(1) * 256)) as u8;
        }
    }
    LumaThumb(thumb)
}

/// How much two frames differ, from 0 (not at all) to 1 (black against white).
///
/// The root mean square of the differences of 2 × 2 cells: unlike the plain mean it rises when something small enters the picture,
/// while the noise of compression, which neighbouring cells do not share, stays small. A change of overall brightness (flicker,
/// exposure) counts half. It is measured by how much there is to see, the mean step from one cell to the next: where there is little, a
/// model sees little things, and in a picture full of detail it does not.
pub fn difference(a: &LumaThumb, b: &LumaThumb) -> f32 {
    let (mut sum, mut squares) = (0_i64, 0_i64);
    for (a, b) in a.0.chunks_exact(2 * LUMA_SIDE).zip(b.0.chunks_exact(2 * LUMA_SIDE)) {
        let at = |cells: &[u8], at: usize| i64::from(cells[at]);
        for x in (0..LUMA_SIDE).step_by(2) {
            let block = [x, x + 1, x + LUMA_SIDE, x + 1 + LUMA_SIDE];
            let d: i64 = block.into_iter().map(|cell| at(a, cell) - at(b, cell)).sum();
            sum += d;
            squares += d * d;
        }
    }
    // Sums of four cells.
    let blocks = (LUMA_SIDE * LUMA_SIDE / 4) as f64;
    let mean = sum as f64 / blocks / 4.0;
    let variance = (squares as f64 / blocks / 16.0 - mean * mean).max(0.0);
    let levels = (variance + mean * mean / 4.0).sqrt();
    let detail = (detail(a).max(detail(b)) / USUAL_DETAIL).max(LEAST_DETAIL);
    ((levels / 255.0 / detail) as f32).min(1.0)
}

/// The detail of usual pictures, in levels.
const USUAL_DETAIL: f64 = 24.0;
/// Pictures with less detail than this share of the usual one are measured as if they had it: half a level of noise is no change.
const LEAST_DETAIL: f64 = 0.4;

/// The root mean square of the steps from each cell to its right and lower neighbours, in levels.
fn detail(thumb: &LumaThumb) -> f64 {
    let mut squares = 0_i64;
    for rows in thumb.0.windows(2 * LUMA_SIDE).step_by(LUMA_SIDE) {
        let (row, below) = rows.split_at(LUMA_SIDE);
        for ((&cell, &right), &below) in row.iter().zip(&row[1..]).zip(below) {
            let (right, below) = (i64::from(right) - i64::from(cell), i64::from(below) - i64::from(cell));
            squares += right * right + below * below;
        }
    }
    (squares as f64 / ((LUMA_SIDE - 1) * (LUMA_SIDE - 1)) as f64).sqrt()
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

/// Red, green and blue of sixteen pixels, by the weights of ITU-R BT.601 in 256ths.
const WEIGHTS: [i16; 48] = {
    let mut weights = [0; 48];
    let mut at = 0;
    while at < 48 {
        weights[at] = [77, 150, 29][at % 3];
        at += 1;
    }
    weights
};

/// The sum of some pixels' luma, times 256. A weight for each byte, without a look at which colour it is, is what processors do
/// eight or sixteen at a time.
fn luma_times_256(rgb: &[u8]) -> u32 {
    let weighted = |bytes: &[u8]| -> i32 {
        bytes.iter().zip(&WEIGHTS).map(|(&byte, &weight)| i32::from(i16::from(byte)) * i32::from(weight)).sum()
    };
    let (chunks, rest) = rgb.as_chunks::<48>();
    let whole: u32 = chunks.iter().map(|chunk| weighted(chunk) as u32).sum();
    whole + weighted(rest) as u32
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
            assert!(near_duplicate(&small, &other, 0.03), "{width}×{height}");
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
    fn the_same_change_is_less_among_more_detail() {
        let change = |contrast: usize| {
            let scene = |entered: usize| {
                thumb(move |x, y| (60 + (x * 5 + y * 3) % 7 * contrast + entered * usize::from(x == 9)) as u8)
            };
            difference(&scene(0), &scene(40))
        };
        assert!(change(2) > 2.0 * change(12) && change(12) > 0.0, "{} {}", change(2), change(12));
    }

    #[test]
    fn overall_brightness_counts_half() {
        let (dark, bright) = (thumb(|_, _| 100), thumb(|_, _| 120));
        assert!((difference(&dark, &bright) - 10.0 / 255.0 / 0.4).abs() < 1e-6, "{}", difference(&dark, &bright));
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
