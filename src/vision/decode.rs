//! Which picture do these bytes hold? Limits first, then the file's outline, and only then a decoder.

use std::borrow::Cow;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::codecs::bmp::BmpDecoder;
use image::codecs::gif::GifDecoder;
use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageResult, Limits, RgbImage};

use super::colour::to_rgb8;
use super::format::Format;
use super::outline;
use crate::domain::Pixels;

/// Decodes the (first) picture in `bytes`: JPEG, PNG, WebP, GIF or BMP, told by content.
///
/// Whatever the layout of the samples (CMYK, gray, palette, 1 or 16 bits), the result is RGB with 8 bits a channel; transparent
/// pixels are laid over white; the EXIF orientation is applied. Colour profiles are ignored.
/// The work and the memory are bounded by `limits`, which are checked against the file's own headers before anything
/// of its size is allocated; a file that ends early is refused before it is decoded.
///
/// The decoders are other people's code and the bytes are strangers'. A panic in one must not cost a worker thread
/// or look like a fault of ours, so it is caught here, where nothing but the half-made picture can be left
/// behind, and becomes [`DecodeError::Corrupt`] with the detail [`DECODER_PANICKED`].
pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Pixels, DecodeError> {
    decode_into(bytes, limits, Vec::new())
}

/// The same into memory that is there already, which is cheaper than new memory for each frame.
///
/// Where a decoder leaves something out, what was there may show through: not for pictures that others get to see.
pub fn decode_into(bytes: &[u8], limits: &DecodeLimits, buffer: Vec<u8>) -> Result<Pixels, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    if bytes.len() > limits.max_bytes {
        return Err(DecodeError::TooManyBytes { bytes: bytes.len(), limit: limits.max_bytes });
    }
    let format = Format::of(bytes).map_err(|detected| DecodeError::UnsupportedFormat { detected })?;
    let outline = outline::read(format, bytes)?;
    limits.check(outline.width, outline.height, outline.decoder_bytes_per_pixel)?;
    if !outline.complete {
        return Err(DecodeError::Truncated);
    }
    catch_unwind(AssertUnwindSafe(|| decode_with_library(format, bytes, limits, buffer)))
        .unwrap_or(Err(DecodeError::Corrupt { detail: DECODER_PANICKED.into() }))
}

/// How large a file may be, and what it may become. Checked before anything is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// The file's size in bytes.
    pub max_bytes: usize,
    /// Columns × rows.
    pub max_pixels: u64,
    /// Columns, and rows.
    pub max_side: u32,
    /// Bytes held at once while decoding, by an upper estimate: samples, coefficients, conversion, rotation.
    pub max_alloc_bytes: u64,
}

impl Default for DecodeLimits {
    /// 20 MB, 50 megapixels, 16,384 pixels a side, and the 320 MB that rotating 50 megapixels takes.
    fn default() -> Self {
        Self { max_bytes: 20_000_000, max_pixels: 50_000_000, max_side: 16_384, max_alloc_bytes: 320_000_000 }
    }
}

impl DecodeLimits {
    fn check(&self, width: u32, height: u32, bytes_per_pixel: u64) -> Result<(), DecodeError> {
        if width == 0 || height == 0 {
            return Err(DecodeError::Corrupt { detail: "the picture has no pixels".into() });
        }
        let pixels = u64::from(width) * u64::from(height);
        let bound = if width.max(height) > self.max_side {
            Bound::Side
        } else if pixels > self.max_pixels {
            Bound::Pixels
        } else if pixels.saturating_mul(bytes_per_pixel) > self.max_alloc_bytes {
            Bound::Memory
        } else {
            return Ok(());
        };
        Err(DecodeError::TooLarge { width, height, bound })
    }
}

/// Which of the [`DecodeLimits`] a picture exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// [`DecodeLimits::max_side`].
    Side,
    /// [`DecodeLimits::max_pixels`].
    Pixels,
    /// [`DecodeLimits::max_alloc_bytes`].
    Memory,
}

/// Why bytes are not a picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There are no bytes.
    #[error("the file is empty")]
    Empty,
    /// The file is longer than [`DecodeLimits::max_bytes`].
    #[error("the file has {bytes} bytes, more than {limit}")]
    TooManyBytes {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The bytes are not one of the formats that are read, or use a rare variant of one.
    #[error("the format is not supported ({})", detected.unwrap_or("not recognised"))]
    UnsupportedFormat {
        /// A short lower-case name, if the format was recognised.
        detected: Option<&'static str>,
    },
    /// The file declares a picture beyond the limits.
    #[error("a picture of {width} × {height} pixels is too large ({bound:?})")]
    TooLarge {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// The limit that it exceeds.
        bound: Bound,
    },
    /// The file ends before the picture does.
    #[error("the file is cut off")]
    Truncated,
    /// The file contradicts its format.
    #[error("the file is damaged: {detail}")]
    Corrupt {
        /// What is wrong, for a log; not for clients.
        detail: Cow<'static, str>,
    },
}

/// The detail of [`DecodeError::Corrupt`] when a decoder panicked. Worth reporting to its authors.
pub const DECODER_PANICKED: &str = "the decoder panicked";

fn decode_with_library(
    format: Format,
    bytes: &[u8],
    limits: &DecodeLimits,
    buffer: Vec<u8>,
) -> Result<Pixels, DecodeError> {
    let reader = Cursor::new(bytes);
    let mut strict = Limits::no_limits();
    strict.max_image_width = Some(limits.max_side);
    strict.max_image_height = Some(limits.max_side);
    strict.max_alloc = Some(limits.max_alloc_bytes);
    match format {
        Format::Jpeg => upright_rgb(JpegDecoder::new(reader).map_err(error_of)?, strict, limits, buffer),
        Format::Png => {
            // What the PNG decoder counts is metadata (a compressed colour profile), never pixels.
            let mut metadata = strict.clone();
            metadata.max_alloc = Some(MAX_PNG_METADATA_BYTES.min(limits.max_alloc_bytes));
            upright_rgb(PngDecoder::with_limits(reader, metadata).map_err(error_of)?, strict, limits, buffer)
        }
        Format::WebP => upright_rgb(WebPDecoder::new(reader).map_err(error_of)?, strict, limits, buffer),
        Format::Gif => upright_rgb(GifDecoder::new(reader).map_err(error_of)?, strict, limits, buffer),
        Format::Bmp => upright_rgb(UnlessInvisible(BmpDecoder::new(reader).map_err(error_of)?), strict, limits, buffer),
    }
}

/// A compressed colour profile may unpack to this much; real ones have up to a megabyte or two.
const MAX_PNG_METADATA_BYTES: u64 = 32_000_000;

fn upright_rgb(
    mut decoder: impl ImageDecoder,
    strict: Limits,
    limits: &DecodeLimits,
    buffer: Vec<u8>,
) -> Result<Pixels, DecodeError> {
    let (width, height) = decoder.dimensions();
    let layout = decoder.color_type();
    // Unreadable metadata is no reason to refuse a picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    // Samples and, where they grow or turn, the RGB copy made from them.
    let sample_bytes = u64::from(layout.bytes_per_pixel());
    let grows = if layout.channel_count() < 3 { 3 } else { 0 };
    let turns = if swaps_sides(orientation) { 3 } else { 0 };
    limits.check(width, height, (sample_bytes + grows).max(3 + turns))?;
    decoder.set_limits(strict).map_err(error_of)?;
    let length = usize::try_from(decoder.total_bytes()).map_err(|_| DecodeError::TooLarge {
        width,
        height,
        bound: Bound::Memory,
    })?;
    let mut samples = buffer;
    samples.resize(length, 0);
    decoder.read_image(&mut samples).map_err(error_of)?;
    let rgb = to_rgb8(layout, samples).ok_or(DecodeError::UnsupportedFormat { detected: None })?;
    let mut image = DynamicImage::ImageRgb8(RgbImage::from_raw(width, height, rgb).ok_or_else(too_few_pixels)?);
    image.apply_orientation(orientation);
    Pixels::new(image.width(), image.height(), image.into_rgb8().into_raw()).ok_or_else(too_few_pixels)
}

fn too_few_pixels() -> DecodeError {
    DecodeError::Corrupt { detail: "the decoder gave too few pixels".into() }
}

/// Whether the orientation exchanges columns and rows, which takes a second buffer.
fn swaps_sides(orientation: Orientation) -> bool {
    match orientation {
        Orientation::NoTransforms
        | Orientation::Rotate180
        | Orientation::FlipHorizontal
        | Orientation::FlipVertical => false,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH => {
            true
        }
    }
}

/// A BMP whose alpha is 0 throughout: its writer left the fourth byte alone, so it is opaque (as in browsers).
struct UnlessInvisible<D>(D);

impl<D: ImageDecoder> ImageDecoder for UnlessInvisible<D> {
    fn dimensions(&self) -> (u32, u32) {
        self.0.dimensions()
    }

    fn color_type(&self) -> ColorType {
        self.0.color_type()
    }

    fn set_limits(&mut self, limits: Limits) -> ImageResult<()> {
        self.0.set_limits(limits)
    }

    fn read_image(self, samples: &mut [u8]) -> ImageResult<()> {
        let has_alpha = self.0.color_type() == ColorType::Rgba8;
        self.0.read_image(samples)?;
        if has_alpha && samples.iter().skip(3).step_by(4).all(|&alpha| alpha == 0) {
            samples.iter_mut().skip(3).step_by(4).for_each(|alpha| *alpha = u8::MAX);
        }
        Ok(())
    }

    fn read_image_boxed(self: Box<Self>, samples: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(samples)
    }
}

fn error_of(error: ImageError) -> DecodeError {
    match error {
        ImageError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => DecodeError::Truncated,
        ImageError::Unsupported(_) => DecodeError::UnsupportedFormat { detected: None },
        ImageError::Limits(_) => DecodeError::TooLarge { width: 0, height: 0, bound: Bound::Memory },
        ImageError::Decoding(_) | ImageError::Encoding(_) | ImageError::Parameter(_) | ImageError::IoError(_) => {
            DecodeError::Corrupt { detail: error.to_string().into() }
        }
    }
}
