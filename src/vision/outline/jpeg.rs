//! The segments of a JPEG file, from SOI to EOI.

use super::{DecodeError, Outline, corrupt, take};

/// More passes than any encoder makes. Each pass over a large progressive picture costs time but hardly any bytes.
const MAX_SCANS: u32 = 100;

/// The parts of a frame header that decide size and memory.
struct Frame {
    width: u32,
    height: u32,
    progressive: bool,
    components: u64,
    /// Blocks of 8 × 8 coefficients in all components.
    blocks: u64,
}

pub(super) fn read(bytes: &[u8]) -> Result<Outline, DecodeError> {
    let mut frame = None;
    let (mut scans, mut entropy_bytes, mut complete) = (0, 0_u64, false);
    let mut at = 2; // after SOI
    while let Some((marker, next)) = next_marker(bytes, at) {
        at = next;
        match marker {
            // Markers without a segment, and the remains of something broken: go on to the next marker.
            0x00 | 0x01 | 0xD0..=0xD8 => {}
            0xD9 => {
                complete = true;
                break;
            }
            _ => {
                let Ok(length) = take::<2>(bytes, at) else { break };
                let length = usize::from(u16::from_be_bytes(length));
                if length < 2 {
                    return Err(corrupt("a JPEG segment is shorter than its own length field"));
                }
                let is_frame_header = matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC);
                if is_frame_header && frame.is_none() {
                    frame = Some(read_frame_header(bytes, at, marker)?);
                }
                at += length;
                if marker == 0xDA {
                    scans += 1;
                    if scans > MAX_SCANS {
                        return Err(corrupt("a JPEG has more passes than any encoder makes"));
                    }
                    let end = end_of_entropy_coded_data(bytes, at);
                    entropy_bytes += end.saturating_sub(at) as u64;
                    at = end;
                }
            }
        }
    }
    let Some(frame) = frame else {
        return Err(if complete { corrupt("a JPEG without a frame header") } else { DecodeError::Truncated });
    };
    // Every block costs at least one bit (its DC code), in any mode: less cannot be the whole picture.
    let enough_data = entropy_bytes.saturating_mul(8) >= frame.blocks;
    Ok(Outline {
        width: frame.width,
        height: frame.height,
        // RGB out; a progressive file also keeps all coefficients (two bytes each) until the last pass.
        decoder_bytes_per_pixel: 3 + if frame.progressive { 2 * frame.components } else { 0 },
        complete: complete && enough_data,
    })
}

/// The next marker from `at` and the position after it; `None` at the end of the bytes.
fn next_marker(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    let first_ff = at + bytes.get(at..)?.iter().position(|&b| b == 0xFF)?;
    // Any number of FF may precede a marker.
    let code = first_ff + bytes[first_ff..].iter().position(|&b| b != 0xFF)?;
    Some((bytes[code], code + 1))
}

/// The position of the first marker after `at` that ends entropy-coded data.
fn end_of_entropy_coded_data(bytes: &[u8], mut at: usize) -> usize {
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|&b| b == 0xFF)) {
        let ff = at + found;
        match bytes.get(ff + 1) {
            // A stuffed FF, a restart marker: data goes on.
            Some(0x00 | 0xD0..=0xD7) => at = ff + 2,
            // A fill byte.
            Some(0xFF) => at = ff + 1,
            Some(_) => return ff,
            None => break,
        }
    }
    bytes.len()
}

fn read_frame_header(bytes: &[u8], at: usize, marker: u8) -> Result<Frame, DecodeError> {
    let [_, _, _precision, h0, h1, w0, w1, components] = take::<8>(bytes, at)?;
    let (width, height) = (u32::from(u16::from_be_bytes([w0, w1])), u32::from(u16::from_be_bytes([h0, h1])));
    let mut samplings = [(1_u64, 1_u64); 4];
    let count = usize::from(components).min(samplings.len());
    for (index, sampling) in samplings[..count].iter_mut().enumerate() {
        let [factors] = take::<1>(bytes, at + 9 + 3 * index)?;
        *sampling = (u64::from(factors >> 4).max(1), u64::from(factors & 15).max(1));
    }
    let samplings = &samplings[..count];
    let h_max = samplings.iter().map(|s| s.0).max().unwrap_or(1);
    let v_max = samplings.iter().map(|s| s.1).max().unwrap_or(1);
    let blocks = samplings
        .iter()
        .map(|&(h, v)| (u64::from(width) * h).div_ceil(8 * h_max) * (u64::from(height) * v).div_ceil(8 * v_max))
        .sum();
    let progressive = matches!(marker, 0xC2 | 0xC6 | 0xCA | 0xCE);
    Ok(Frame { width, height, progressive, components: count as u64, blocks })
}
