//! The headers of a BMP file and the extent of its pixels.

use super::{DecodeError, Outline, corrupt, take};

const RLE8: u32 = 1;
const RLE4: u32 = 2;

pub(super) fn read(bytes: &[u8]) -> Result<Outline, DecodeError> {
    let pixels_at = u32::from_le_bytes(take::<4>(bytes, 10)?) as usize;
    let header_bytes = u32::from_le_bytes(take::<4>(bytes, 14)?);
    let (width, height, bits, compression) = if header_bytes == 12 {
        let b = take::<8>(bytes, 18)?;
        let number = |i: usize| u16::from_le_bytes([b[i], b[i + 1]]);
        (u32::from(number(0)), u32::from(number(2)), number(6), 0)
    } else {
        let b = take::<16>(bytes, 18)?;
        let number = |i: usize| u32::from_le_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]);
        // A negative height means rows from top to bottom.
        let (width, height) = (number(0).cast_signed(), number(4).cast_signed());
        if width < 0 {
            return Err(corrupt("a BMP has a negative width"));
        }
        (width.unsigned_abs(), height.unsigned_abs(), u16::from_le_bytes([b[10], b[11]]), number(12))
    };
    let complete = if matches!(compression, RLE8 | RLE4) {
        run_lengths_end(bytes, pixels_at, compression)
    } else {
        // Rows are padded to four bytes.
        let row_bytes = (u64::from(width) * u64::from(bits)).div_ceil(32) * 4;
        let pixel_bytes = row_bytes.saturating_mul(u64::from(height));
        pixel_bytes.saturating_add(pixels_at as u64) <= bytes.len() as u64
    };
    Ok(Outline { width, height, decoder_bytes_per_pixel: 4, complete })
}

/// Whether the run-length instructions at `at` go on to the end-of-bitmap mark.
fn run_lengths_end(bytes: &[u8], mut at: usize, compression: u32) -> bool {
    while let Ok([count, value]) = take::<2>(bytes, at) {
        at += 2;
        match (count, value) {
            (0, 1) => return true,
            (0, 2) => at += 2,
            (0, literal @ 3..) => {
                let literal = usize::from(literal);
                let length = if compression == RLE4 { literal.div_ceil(2) } else { literal };
                at += length + length % 2;
            }
            _ => {}
        }
    }
    false
}
