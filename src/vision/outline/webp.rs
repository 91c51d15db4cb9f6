//! The chunks of a WebP file.

use super::{DecodeError, Outline, corrupt, take};

pub(super) fn read(bytes: &[u8]) -> Result<Outline, DecodeError> {
    let riff_bytes = u32::from_le_bytes(take::<4>(bytes, 4)?) as usize;
    let complete = bytes.len() >= riff_bytes.saturating_add(8);
    // The canvas (of an extended file) and the first coded picture each declare a size; the decoder trusts both.
    let (mut width, mut height) = (0, 0);
    let mut pictures = 0_u64;
    let mut at = 12;
    while let Ok([kind @ .., l0, l1, l2, l3]) = take::<8>(bytes, at) {
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let body = at + 8;
        let size = match &kind {
            b"VP8X" => {
                let b = take::<10>(bytes, body)?;
                Some((1 + u24(b[4], b[5], b[6]), 1 + u24(b[7], b[8], b[9])))
            }
            b"VP8 " => Some(lossy_size(bytes, body)?),
            b"VP8L" => Some(lossless_size(bytes, body)?),
            _ => None,
        };
        if let Some((w, h)) = size {
            (width, height) = (w.max(width), h.max(height));
            pictures += u64::from(&kind != b"VP8X");
        }
        if &kind == b"ANMF" {
            // The first frame's header is followed by its own chunks: step inside.
            let b = take::<16>(bytes, body)?;
            (width, height) = ((1 + u24(b[6], b[7], b[8])).max(width), (1 + u24(b[9], b[10], b[11])).max(height));
            at = body + 16;
            continue;
        }
        if pictures > 0 {
            break;
        }
        // Chunks are padded to an even length.
        let Some(next) = body.checked_add(length).and_then(|end| end.checked_add(length % 2)) else { break };
        at = next;
    }
    if pictures == 0 {
        return Err(if complete { corrupt("a WebP without a picture") } else { DecodeError::Truncated });
    }
    // The output (RGBA at most) and as much again for planes, the frame of an animation or lossless pixels; alpha.
    Ok(Outline { width, height, decoder_bytes_per_pixel: 9, complete })
}

fn u24(b0: u8, b1: u8, b2: u8) -> u32 {
    u32::from_le_bytes([b0, b1, b2, 0])
}

fn lossy_size(bytes: &[u8], body: usize) -> Result<(u32, u32), DecodeError> {
    let b = take::<10>(bytes, body)?;
    if b[3..6] != [0x9D, 0x01, 0x2A] {
        return Err(corrupt("a lossy WebP does not begin with a key frame"));
    }
    // The upper two bits are a scaling hint.
    let side = |lo, hi| u32::from(u16::from_le_bytes([lo, hi]) & 0x3FFF);
    Ok((side(b[6], b[7]), side(b[8], b[9])))
}

fn lossless_size(bytes: &[u8], body: usize) -> Result<(u32, u32), DecodeError> {
    let [signature, b @ ..] = take::<5>(bytes, body)?;
    if signature != 0x2F {
        return Err(corrupt("a lossless WebP lacks its signature"));
    }
    let bits = u32::from_le_bytes(b);
    Ok(((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
}
