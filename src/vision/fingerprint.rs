//! Is this the frame that we have just seen? A small grey picture of it, and the difference between two.

use crate::domain::{LUMA_SIDE, LumaThumb, Pixels};

/// Frames that differ by less than this count as the same picture: reusing the embedding costs no more than compression noise does.
///
/// Measured on three videos: of frames four times a second 41 % are below it (of frames once a second 22 %), and the embedding they
/// would have had has a mean cosine of .980 with the one they reuse, the worst .938; frames that hardly differ at
/// all (below 0.002) have .99. At 0.02 the worst falls to .80 between neighbours. Across the videos' cuts the difference is at least 0.12.
pub const NEAR_DUPLICATE_DIFFERENCE: f32 = 0.0125;

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
