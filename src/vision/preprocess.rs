//! How does a picture of any shape become a model's input? Cut and scaled in one pass, straight from the source.

use std::cell::RefCell;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use crate::domain::{Fit, InputSize, Pixels};

/// Cuts and scales pictures; keeps its buffers from one picture to the next. One a thread.
#[derive(Debug, Default)]
pub struct Preprocessor {
    resizer: Resizer,
}

/// Why a picture could not be made to fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PreprocessError {
    /// The output has not the length of one picture of the size asked for.
    #[error("the output has {got} bytes, the picture needs {needed}")]
    OutputLength {
        /// The bytes that a picture of this size has.
        needed: usize,
        /// The bytes given.
        got: usize,
    },
    /// The size asked for has no pixels, or is larger than what it is to be cut from.
    #[error("the input size asked for makes no sense")]
    Size,
    /// The resizer refused.
    #[error("the picture could not be resized: {0}")]
    Resize(String),
}

impl Preprocessor {
    /// A preprocessor with empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes `pixels`, made to fit `size`, to `out`: `height × width × 3` bytes of RGB.
    ///
    /// Scaling down averages over all source pixels (a triangle filter as wide as the scale asks), scaling up is bilinear:
    /// what Pillow and torchvision call antialiased bilinear. The cut of [`Fit::CentreCrop`] is made in the source,
    /// to a fraction of a pixel, so that what would be cut off is never computed.
    pub fn run(&mut self, pixels: &Pixels, size: InputSize, out: &mut [u8]) -> Result<(), PreprocessError> {
        if out.len() != size.bytes() {
            return Err(PreprocessError::OutputLength { needed: size.bytes(), got: out.len() });
        }
        let (left, top, width, height) = source_box(pixels, size)?;
        let refused = |e: &dyn std::fmt::Display| PreprocessError::Resize(e.to_string());
        let source =
            ImageRef::new(pixels.width(), pixels.height(), pixels.rgb(), PixelType::U8x3).map_err(|e| refused(&e))?;
        let mut target =
            Image::from_slice_u8(size.width, size.height, out, PixelType::U8x3).map_err(|e| refused(&e))?;
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
            .use_alpha(false)
            .crop(left, top, width, height);
        self.resizer.resize(&source, &mut target, &options).map_err(|e| refused(&e))
    }
}

/// [`Preprocessor::run`] with this thread's own preprocessor and a new buffer.
pub fn preprocess(pixels: &Pixels, size: InputSize) -> Result<Vec<u8>, PreprocessError> {
    thread_local! {
        static PREPROCESSOR: RefCell<Preprocessor> = RefCell::default();
    }
    let mut out = vec![0; size.bytes()];
    PREPROCESSOR.with_borrow_mut(|preprocessor| preprocessor.run(pixels, size, &mut out))?;
    Ok(out)
}

/// The part of the source that is to fill the input: left, top, width, height in source pixels.
fn source_box(pixels: &Pixels, size: InputSize) -> Result<(f64, f64, f64, f64), PreprocessError> {
    if size.width == 0 || size.height == 0 {
        return Err(PreprocessError::Size);
    }
    let (source_width, source_height) = (f64::from(pixels.width()), f64::from(pixels.height()));
    match size.fit {
        Fit::Stretch => Ok((0.0, 0.0, source_width, source_height)),
        Fit::CentreCrop { short_side } => {
            if short_side < size.width.max(size.height) {
                return Err(PreprocessError::Size);
            }
            let source_pixels_per_pixel = source_width.min(source_height) / f64::from(short_side);
            // Rounding must not push the box over the edge.
            let width = (f64::from(size.width) * source_pixels_per_pixel).min(source_width);
            let height = (f64::from(size.height) * source_pixels_per_pixel).min(source_height);
            let left = ((source_width - width) / 2.0).max(0.0);
            let top = ((source_height - height) / 2.0).max(0.0);
            Ok((left, top, width.min(source_width - left), height.min(source_height - top)))
        }
    }
}
