//! What do people get to see of an item? A small JPEG.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::{PreprocessError, preprocess};
use crate::domain::{Fit, InputSize, Pixels};

const JPEG_QUALITY: u8 = 80;

/// Why there is no thumbnail.
#[derive(Debug, thiserror::Error)]
pub enum ThumbnailError {
    /// The picture could not be scaled.
    #[error(transparent)]
    Scale(#[from] PreprocessError),
    /// The JPEG could not be written.
    #[error("cannot encode the thumbnail: {0}")]
    Encode(#[from] image::ImageError),
}

/// A JPEG of the picture whose longer side has at most `longest_side` pixels (at least 1); proportions are kept.
pub fn thumbnail_jpeg(pixels: &Pixels, longest_side: u32) -> Result<Vec<u8>, ThumbnailError> {
    let longer = pixels.width().max(pixels.height());
    let scale = |side: u32| {
        let scaled = u64::from(side) * u64::from(longest_side) / u64::from(longer);
        u32::try_from(scaled).unwrap_or(longest_side).max(1)
    };
    let (width, height, scaled);
    let rgb = if longer <= longest_side {
        (width, height) = (pixels.width(), pixels.height());
        pixels.rgb()
    } else {
        (width, height) = (scale(pixels.width()), scale(pixels.height()));
        scaled = preprocess(pixels, InputSize { width, height, fit: Fit::Stretch })?;
        &scaled
    };
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY).write_image(rgb, width, height, ExtendedColorType::Rgb8)?;
    Ok(jpeg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::{DecodeLimits, decode};

    #[test]
    fn proportions_are_kept_and_small_pictures_stay() {
        for (width, height, expected) in
            [(1280, 720, (320, 180)), (100, 2000, (16, 320)), (50, 40, (50, 40)), (4000, 1, (320, 1))]
        {
            let pixels = Pixels::new(width, height, vec![90; (width * height * 3) as usize]).unwrap();
            let jpeg = thumbnail_jpeg(&pixels, 320).unwrap();
            let back = decode(&jpeg, &DecodeLimits::default()).unwrap();
            assert_eq!((back.width(), back.height()), expected);
            assert!(back.rgb().iter().all(|&v| v.abs_diff(90) < 4));
        }
    }
}
