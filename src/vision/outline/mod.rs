//! How large does a file claim to be, and is all of it there? Read without decoding and without allocating.
//!
//! A decoder learns of a missing end only after it has allocated and decoded the rest, and some never mind (the
//! missing part of a JPEG comes out grey). So each format's segments are walked here first.

mod bmp;
mod gif;
mod jpeg;
mod png;
mod webp;

use super::decode::DecodeError;
use super::format::Format;

/// What a file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outline {
    /// The most columns that any canvas or frame needed for the first picture declares.
    pub(super) width: u32,
    /// The most rows, likewise.
    pub(super) height: u32,
    /// Bytes a pixel that the decoder holds at its peak, its output included; an upper estimate.
    pub(super) decoder_bytes_per_pixel: u64,
    /// Whether the file goes on to its end marker and holds at least as much data as its size needs.
    pub(super) complete: bool,
}

/// Reads the outline of `bytes`. Fails with [`DecodeError::Truncated`] if the bytes end before the size is known.
pub(super) fn read(format: Format, bytes: &[u8]) -> Result<Outline, DecodeError> {
    match format {
        Format::Jpeg => jpeg::read(bytes),
        Format::Png => png::read(bytes),
        Format::WebP => webp::read(bytes),
        Format::Gif => gif::read(bytes),
        Format::Bmp => bmp::read(bytes),
    }
}

fn corrupt(detail: &'static str) -> DecodeError {
    DecodeError::Corrupt { detail: detail.into() }
}

/// `N` bytes from `at`, or [`DecodeError::Truncated`].
fn take<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], DecodeError> {
    at.checked_add(N).and_then(|end| bytes.get(at..end)).and_then(|b| b.try_into().ok()).ok_or(DecodeError::Truncated)
}
