//! The blocks of a GIF file, from the screen descriptor to the trailer.

use super::{DecodeError, Outline, corrupt, take};

pub(super) fn read(bytes: &[u8]) -> Result<Outline, DecodeError> {
    let [w0, w1, h0, h1, flags] = take::<5>(bytes, 6)?;
    let screen = (u32::from(u16::from_le_bytes([w0, w1])), u32::from(u16::from_le_bytes([h0, h1])));
    let mut first_frame = None;
    let mut at = 13 + colour_table_bytes(flags);
    let complete = loop {
        match bytes.get(at) {
            None => break false,
            Some(0x3B) => break true,
            Some(0x21) => at = after_sub_blocks(bytes, at + 2),
            Some(0x2C) => {
                let Ok([_, _, _, _, _, w0, w1, h0, h1, flags]) = take::<10>(bytes, at) else { break false };
                let frame = (u32::from(u16::from_le_bytes([w0, w1])), u32::from(u16::from_le_bytes([h0, h1])));
                first_frame.get_or_insert(frame);
                // Ten bytes of descriptor, an optional colour table, one byte of code size.
                at = after_sub_blocks(bytes, at + 10 + colour_table_bytes(flags) + 1);
            }
            // Some encoders put a superfluous terminator between blocks.
            Some(0x00) => at += 1,
            Some(_) => return Err(corrupt("a GIF has an unknown block")),
        }
    };
    let (frame_width, frame_height) = match first_frame {
        Some(frame) => frame,
        None if complete => return Err(corrupt("a GIF without a picture")),
        None => screen,
    };
    Ok(Outline {
        width: screen.0.max(frame_width),
        height: screen.1.max(frame_height),
        // RGBA, twice if the first frame does not fill the screen.
        decoder_bytes_per_pixel: if screen == (frame_width, frame_height) { 4 } else { 8 },
        complete,
    })
}

fn colour_table_bytes(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

/// The position after a chain of sub-blocks that begins at `at`; past the end if the chain is cut off.
fn after_sub_blocks(bytes: &[u8], mut at: usize) -> usize {
    while let Some(&length) = bytes.get(at) {
        at += 1 + usize::from(length);
        if length == 0 {
            return at;
        }
    }
    bytes.len()
}
