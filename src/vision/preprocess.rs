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

#[cfg(test)]
mod tests {
    use image::imageops::{FilterType as Reference, crop_imm, resize};
    use image::{Rgb, RgbImage};

    use super::*;

    const CROP: InputSize = InputSize { width: 32, height: 32, fit: Fit::CentreCrop { short_side: 36 } };
    const STRETCH: InputSize = InputSize { width: 32, height: 32, fit: Fit::Stretch };

    fn waves(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let wave = |at: u32, length: f64| (127.0 + 120.0 * (f64::from(at) / length).sin()) as u8;
            Rgb([wave(x, 9.0), wave(y, 13.0), wave(x + 2 * y, 17.0)])
        })
    }

    fn pixels(image: &RgbImage) -> Pixels {
        Pixels::new(image.width(), image.height(), image.as_raw().clone()).unwrap()
    }

    fn mean_difference(a: &[u8], b: &[u8]) -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(&a, &b)| f64::from(a.abs_diff(b))).sum::<f64>() / a.len() as f64
    }

    #[test]
    fn cutting_first_equals_scaling_first() {
        for (width, height) in [(360, 180), (180, 360), (200, 200), (20, 25)] {
            let image = waves(width, height);
            let scale = 36.0 / f64::from(width.min(height));
            let side = |length: u32| (f64::from(length) * scale).round() as u32;
            let scaled = resize(&image, side(width), side(height), Reference::Triangle);
            let expected = crop_imm(&scaled, (side(width) - 32) / 2, (side(height) - 32) / 2, 32, 32).to_image();
            let got = preprocess(&pixels(&image), CROP).unwrap();
            let levels = mean_difference(&got, expected.as_raw());
            assert!(levels < 2.0, "{width}×{height} is {levels} levels away");
        }
    }

    #[test]
    fn stretching_uses_the_whole_picture() {
        let image = waves(300, 70);
        let expected = resize(&image, 32, 32, Reference::Triangle);
        let got = preprocess(&pixels(&image), STRETCH).unwrap();
        assert!(mean_difference(&got, expected.as_raw()) < 1.0);
    }

    #[test]
    fn any_shape_fits() {
        let size = InputSize { width: 224, height: 224, fit: Fit::CentreCrop { short_side: 256 } };
        let mut preprocessor = Preprocessor::new();
        let mut out = vec![0; size.bytes()];
        for (width, height) in [(1, 1), (1, 2000), (2000, 1), (2, 2), (223, 1), (640, 360), (257, 256)] {
            let grey = Pixels::new(width, height, vec![77; (width * height * 3) as usize]).unwrap();
            for fit in [size.fit, Fit::Stretch] {
                preprocessor.run(&grey, InputSize { fit, ..size }, &mut out).unwrap();
                assert!(out.iter().all(|&v| v == 77), "{width}×{height} {fit:?}");
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let one = Pixels::new(1, 1, vec![0; 3]).unwrap();
        let mut preprocessor = Preprocessor::new();
        let short = preprocessor.run(&one, STRETCH, &mut [0; 5]);
        assert_eq!(short, Err(PreprocessError::OutputLength { needed: 32 * 32 * 3, got: 5 }));
        assert_eq!(preprocess(&one, InputSize { width: 0, ..STRETCH }), Err(PreprocessError::Size));
        let larger_than_its_source = InputSize { fit: Fit::CentreCrop { short_side: 31 }, ..CROP };
        assert_eq!(preprocess(&one, larger_than_its_source), Err(PreprocessError::Size));
    }
}
