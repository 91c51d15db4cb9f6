//! Bytes in, pixels out: how does an upload become the picture that a model wants, and is it the one we have just seen?
//!
//! - [`decode`] turns the bytes of a JPEG, PNG, WebP, GIF or BMP file into upright RGB pixels, or says why not;
//! - [`Preprocessor`] cuts and scales them to a model's input;
//! - [`thumbnail_jpeg`] makes the small picture that people get to see;
//! - [`luma_thumb`] shrinks them to a fingerprint; [`difference`] and [`near_duplicate`] compare two of those;
//! - [`motion`] says what moved between two fingerprints, and whether a new scene began.
//!
//! Everything here is pure: no files, no clock, no state but reusable buffers.

mod colour;
mod decode;
#[cfg(test)]
mod decode_tests;
mod fingerprint;
mod format;
mod motion;
mod outline;
mod preprocess;
mod thumbnail;

pub use decode::{Bound, DECODER_PANICKED, DecodeError, DecodeLimits, decode, decode_into};
pub use fingerprint::{NEAR_DUPLICATE_DIFFERENCE, difference, luma_thumb, near_duplicate};
pub use motion::motion;
pub use preprocess::{PreprocessError, Preprocessor, preprocess};
pub use thumbnail::{ThumbnailError, thumbnail_jpeg};
