//! The chunks of a PNG file, from IHDR to IEND.

use super::{DecodeError, Outline, corrupt, take};

/// Deflate cannot make more than this many bytes out of one.
const MAX_DEFLATE_RATIO: u64 = 1032;

pub(super) fn read(bytes: &[u8]) -> Result<Outline, DecodeError> {
    let header = take::<25>(bytes, 8)?;
    if header[4..8] != *b"IHDR" {
        return Err(corrupt("a PNG does not begin with IHDR"));
    }
    let number = |i: usize| u32::from_be_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
    let (width, height, depth, colour) = (number(8), number(12), u64::from(header[16]), header[17]);
    let channels = match colour {
        0 | 3 => 1,
        2 => 3,
        4 => 2,
        6 => 4,
        _ => return Err(corrupt("a PNG has an unknown colour type")),
    };
    let (mut complete, mut data_bytes) = (false, 0_u64);
    let mut at = 8;
    while let Ok([l0, l1, l2, l3, kind @ ..]) = take::<8>(bytes, at) {
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        // Length, kind and checksum take twelve bytes.
        let Some(end) = at.checked_add(12).and_then(|end| end.checked_add(length as usize)) else { break };
        if end > bytes.len() {
            break;
        }
        if &kind == b"IDAT" {
            data_bytes += u64::from(length);
        }
        if &kind == b"IEND" {
            complete = true;
            break;
        }
        at = end;
    }
    let row_bytes = (u64::from(width) * channels * depth).div_ceil(8) + 1;
    let raw_bytes = row_bytes.saturating_mul(u64::from(height));
    // Interlacing changes the number of filter bytes by less than this.
    let enough_data = data_bytes.saturating_mul(MAX_DEFLATE_RATIO) >= raw_bytes - u64::from(height).min(raw_bytes);
    // A palette comes out as RGB, or RGBA if it has a tRNS chunk; so may gray and RGB gain a channel.
    let out_channels = if colour == 3 { 4 } else { channels + channels % 2 };
    Ok(Outline {
        width,
        height,
        decoder_bytes_per_pixel: out_channels * if depth == 16 { 2 } else { 1 },
        complete: complete && enough_data,
    })
}
