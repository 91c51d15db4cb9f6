//! Does decoding keep its promises for good, odd, broken and hostile files?
//!
//! The fixtures show one picture (see `tests/fixtures/pictures/make.py`), which is drawn again here.

use std::io::Cursor;

use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, Frame, ImageFormat, RgbImage};
use proptest::prelude::*;

use super::{Bound, DECODER_PANICKED, DecodeError, DecodeLimits, decode, decode_into};
use crate::domain::Pixels;

const WIDTH: u32 = 96;
const HEIGHT: u32 = 64;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/fixtures/pictures/", $name)).as_slice()
    };
}

fn picture() -> RgbImage {
    RgbImage::from_fn(WIDTH, HEIGHT, |x, y| {
        let dark = (16..32).contains(&x) && (16..32).contains(&y);
        let ramp = |at: u32, length: u32| (at * 255 / (length - 1)) as u8;
        if dark { [20, 20, 20].into() } else { [ramp(x, WIDTH), ramp(y, HEIGHT), 96].into() }
    })
}

fn written(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn jpeg() -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 95).encode_image(&picture()).unwrap();
    bytes
}

/// The picture followed by a second frame.
fn animated_gif() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    encoder.encode_frame(Frame::new(DynamicImage::ImageRgb8(picture()).into_rgba8())).unwrap();
    encoder.encode_frame(Frame::new(image::RgbaImage::from_pixel(WIDTH, HEIGHT, [0; 4].into()))).unwrap();
    drop(encoder);
    bytes
}

/// One good file of each format, and of the variants with a structure of their own.
fn good_files() -> Vec<(&'static str, Vec<u8>)> {
    let rgb = DynamicImage::ImageRgb8(picture());
    vec![
        ("jpeg", jpeg()),
        ("png", written(&rgb, ImageFormat::Png)),
        ("webp", written(&rgb, ImageFormat::WebP)),
        ("gif", animated_gif()),
        ("bmp", written(&rgb, ImageFormat::Bmp)),
        ("progressive jpeg", fixture!("progressive.jpg").to_vec()),
        ("jpeg with a thumbnail", fixture!("phone.jpg").to_vec()),
        ("jpeg with restart markers", fixture!("restart.jpg").to_vec()),
        ("cmyk jpeg", fixture!("cmyk.jpg").to_vec()),
        ("lossy webp", fixture!("lossy.webp").to_vec()),
        ("animated webp", fixture!("animated.webp").to_vec()),
        ("animated png", fixture!("animated.png").to_vec()),
        ("interlaced gif", fixture!("interlaced_palette.gif").to_vec()),
        ("palette png", fixture!("palette.png").to_vec()),
    ]
}

fn decoded(bytes: &[u8]) -> Result<Pixels, DecodeError> {
    decode(bytes, &DecodeLimits::default())
}

/// The mean absolute difference of all channels from the picture, in levels.
fn levels_from_picture(pixels: &Pixels) -> f64 {
    assert_eq!((pixels.width(), pixels.height()), (WIDTH, HEIGHT));
    let picture = picture();
    let sum: u64 = pixels.rgb().iter().zip(picture.as_raw()).map(|(&a, &b)| u64::from(a.abs_diff(b))).sum();
    sum as f64 / picture.as_raw().len() as f64
}

#[test]
fn every_format_shows_the_same_picture() {
    for (name, bytes) in good_files() {
        let levels = levels_from_picture(&decoded(&bytes).unwrap_or_else(|e| panic!("{name}: {e}")));
        assert!(levels < 6.0, "{name} is {levels} levels away");
    }
}

#[test]
fn lossless_formats_are_exact() {
    let rgb = DynamicImage::ImageRgb8(picture());
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp] {
        assert_eq!(decoded(&written(&rgb, format)).unwrap().rgb(), picture().as_raw(), "{format:?}");
    }
    let sixteen_bits = written(&DynamicImage::ImageRgb16(rgb.to_rgb16()), ImageFormat::Png);
    assert_eq!(decoded(&sixteen_bits).unwrap().rgb(), picture().as_raw());
    let gray = decoded(&written(&DynamicImage::ImageLuma8(rgb.to_luma8()), ImageFormat::Png)).unwrap();
    assert!(gray.rgb().as_chunks::<3>().0.iter().zip(rgb.to_luma8().as_raw()).all(|(p, &l)| *p == [l, l, l]));
}

#[test]
fn transparent_pixels_are_white() {
    let pixels = decoded(fixture!("lossy_alpha.webp")).unwrap();
    let rows = pixels.rgb().chunks_exact(WIDTH as usize * 3);
    assert!(rows.into_iter().all(|row| row[WIDTH as usize / 2 * 3..].iter().all(|&v| v == 255)));
    let clear = DynamicImage::ImageRgba8(image::RgbaImage::new(2, 2));
    assert_eq!(decoded(&written(&clear, ImageFormat::Png)).unwrap().rgb(), [255; 12]);
}

#[test]
fn a_bmp_that_forgot_its_alpha_is_opaque() {
    let mut rgba = DynamicImage::ImageRgb8(picture()).into_rgba8();
    rgba.pixels_mut().for_each(|pixel| pixel.0[3] = 0);
    let forgotten = written(&DynamicImage::ImageRgba8(rgba.clone()), ImageFormat::Bmp);
    assert_eq!(decoded(&forgotten).unwrap().rgb(), picture().as_raw());
    rgba.get_pixel_mut(0, 0).0[3] = 255;
    let meant = decoded(&written(&DynamicImage::ImageRgba8(rgba), ImageFormat::Bmp)).unwrap();
    assert_eq!(meant.rgb()[3..6], [255; 3]);
}

#[test]
fn the_exif_orientation_is_applied() {
    for exif in 1..=8_u8 {
        // What the camera stored is what comes out upright when the orientation is applied.
        let orientation = image::metadata::Orientation::from_exif(exif).unwrap();
        let undo = match exif {
            6 => image::metadata::Orientation::Rotate270,
            8 => image::metadata::Orientation::Rotate90,
            _ => orientation,
        };
        let mut stored = DynamicImage::ImageRgb8(picture());
        stored.apply_orientation(undo);
        let mut plain = Vec::new();
        JpegEncoder::new_with_quality(&mut plain, 95).encode_image(&stored).unwrap();
        let mut tagged = plain[..2].to_vec();
        let tiff =
            [b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(), &[exif, 0, 0, 0, 0, 0, 0]].concat();
        tagged.extend([0xFF, 0xE1, 0, tiff.len() as u8 + 2]);
        tagged.extend(tiff);
        tagged.extend(&plain[2..]);
        let levels = levels_from_picture(&decoded(&tagged).unwrap());
        assert!(levels < 4.0, "orientation {exif} is {levels} levels away");
    }
}

#[test]
fn what_follows_the_end_does_not_matter() {
    for (name, mut bytes) in good_files() {
        bytes.extend(b"\0\0trailing bytes, as some cameras and proxies leave them\xFF");
        assert!(decoded(&bytes).is_ok(), "{name}");
    }
}

#[test]
fn a_file_that_is_cut_off_is_refused_wherever_it_is_cut() {
    for (name, bytes) in good_files() {
        // Lossless formats may end in padding; nothing of the picture is missing then.
        let nearly_all = bytes.len() * 99 / 100;
        for length in 0..bytes.len() {
            let result = decoded(&bytes[..length]);
            assert!(result.is_err() || length > nearly_all, "{name} cut to {length} of {} bytes", bytes.len());
            if let Err(error) = result {
                assert_ne!(error, DecodeError::Corrupt { detail: DECODER_PANICKED.into() }, "{name} cut to {length}");
            }
        }
        assert_eq!(decoded(&bytes[..nearly_all]), Err(DecodeError::Truncated), "{name}");
    }
}

#[test]
fn an_end_marker_in_the_wrong_place_fools_nobody() {
    // Cut off, and closed again: the marker is there, the data is not.
    let mut closed = jpeg();
    closed.truncate(closed.len() - 2);
    let scan = closed.windows(2).position(|pair| pair == [0xFF, 0xDA]).unwrap();
    closed.truncate(scan + 14 + 8);
    closed.extend([0xFF, 0xD9]);
    assert_eq!(decoded(&closed), Err(DecodeError::Truncated));
    // The thumbnail's end marker comes long before the picture's.
    let phone = fixture!("phone.jpg");
    let thumbnail_end = phone.windows(2).position(|pair| pair == [0xFF, 0xD9]).unwrap();
    assert!(thumbnail_end + 2 < phone.len());
    assert_eq!(decoded(&phone[..thumbnail_end + 2]), Err(DecodeError::Truncated));
    assert_eq!(decoded(&phone[..phone.len() - 2]), Err(DecodeError::Truncated));
}

#[test]
fn limits_are_checked_by_the_header_alone() {
    let limits = DecodeLimits { max_bytes: 100_000, max_pixels: 5_000, max_side: 90, max_alloc_bytes: 1 << 20 };
    for (name, bytes) in good_files() {
        let refused = decode(&bytes, &limits).unwrap_err();
        assert!(matches!(refused, DecodeError::TooLarge { bound: Bound::Side, .. }), "{name}: {refused}");
        let wider = DecodeLimits { max_side: 100, ..limits };
        let refused = decode(&bytes, &wider).unwrap_err();
        assert!(matches!(refused, DecodeError::TooLarge { bound: Bound::Pixels, .. }), "{name}: {refused}");
        let short_of_memory = DecodeLimits { max_pixels: 1 << 20, max_alloc_bytes: 15_000, ..wider };
        let refused = decode(&bytes, &short_of_memory).unwrap_err();
        assert!(matches!(refused, DecodeError::TooLarge { bound: Bound::Memory, .. }), "{name}: {refused}");
        let short = DecodeLimits { max_bytes: bytes.len() - 1, ..DecodeLimits::default() };
        assert!(matches!(decode(&bytes, &short), Err(DecodeError::TooManyBytes { .. })), "{name}");
    }
}

#[test]
fn a_header_cannot_make_it_allocate() {
    // Each claims 60,000 × 60,000 pixels and holds nothing.
    let side = 60_000_u32;
    let mut png = written(&DynamicImage::ImageRgb8(picture()), ImageFormat::Png);
    png[16..20].copy_from_slice(&side.to_be_bytes());
    png[20..24].copy_from_slice(&side.to_be_bytes());
    let gif =
        [b"GIF89a".as_slice(), &(side as u16).to_le_bytes(), &(side as u16).to_le_bytes(), &[0, 0, 0, 0x3B]].concat();
    let mut bmp = written(&DynamicImage::ImageRgb8(picture()), ImageFormat::Bmp);
    bmp[18..22].copy_from_slice(&side.to_le_bytes());
    bmp[22..26].copy_from_slice(&side.to_le_bytes());
    let mut jpeg = jpeg();
    let frame = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 7].copy_from_slice(&(side as u16).to_be_bytes());
    jpeg[frame + 7..frame + 9].copy_from_slice(&(side as u16).to_be_bytes());
    let webp = [b"RIFF\x16\0\0\0WEBPVP8X\x0A\0\0\0\0\0\0\0".as_slice(), &[0xFF; 6]].concat();
    for (name, bytes) in [("png", png), ("bmp", bmp), ("jpeg", jpeg)] {
        assert!(matches!(decoded(&bytes), Err(DecodeError::TooLarge { .. })), "{name}");
    }
    for (name, bytes) in [("gif", gif), ("webp", webp)] {
        assert!(decoded(&bytes).is_err(), "{name}");
    }
    // Within the limits, but the data could not fill a hundredth of it.
    let mut png = written(&DynamicImage::ImageRgb8(picture()), ImageFormat::Png);
    png[16..20].copy_from_slice(&7_000_u32.to_be_bytes());
    png[20..24].copy_from_slice(&7_000_u32.to_be_bytes());
    assert_eq!(decoded(&png), Err(DecodeError::Truncated));
}

#[test]
fn damage_is_told_apart() {
    assert_eq!(decoded(b""), Err(DecodeError::Empty));
    assert_eq!(decoded(b"hello"), Err(DecodeError::UnsupportedFormat { detected: None }));
    assert_eq!(decoded(b"<svg/>"), Err(DecodeError::UnsupportedFormat { detected: Some("svg") }));
    let png = written(&DynamicImage::ImageRgb8(picture()), ImageFormat::Png);
    let mut bad_checksum = png.clone();
    bad_checksum[29] ^= 1;
    assert!(matches!(decoded(&bad_checksum), Err(DecodeError::Corrupt { .. })));
    let mut no_width = png;
    no_width[16..20].fill(0);
    assert!(matches!(decoded(&no_width), Err(DecodeError::Corrupt { .. })));
}

#[test]
fn one_pixel_rows_and_columns_decode() {
    for (width, height) in [(1, 1), (1, 2000), (2000, 1), (2, 2), (223, 1)] {
        let image = DynamicImage::ImageRgb8(RgbImage::from_pixel(width, height, [200, 100, 50].into()));
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Bmp] {
            let pixels = decoded(&written(&image, format)).unwrap();
            assert_eq!((pixels.width(), pixels.height()), (width, height), "{format:?}");
        }
    }
}

fn never_panics(bytes: &[u8]) -> Result<(), TestCaseError> {
    // Small limits keep the many cases fast.
    let limits =
        DecodeLimits { max_pixels: 1 << 20, max_side: 4096, max_alloc_bytes: 1 << 24, ..DecodeLimits::default() };
    if let Err(error) = decode(bytes, &limits) {
        prop_assert_ne!(error, DecodeError::Corrupt { detail: DECODER_PANICKED.into() });
    }
    Ok(())
}

#[test]
fn nothing_of_what_memory_held_before_is_left() {
    let limits = DecodeLimits::default();
    for (name, bytes) in good_files() {
        let fresh = decode(&bytes, &limits).unwrap();
        for used in [vec![7; 10], vec![7; 3 * (WIDTH * HEIGHT) as usize], vec![7; 1 << 20]] {
            assert!(decode_into(&bytes, &limits, used).unwrap() == fresh, "{name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512), start in 0_usize..8) {
        let starts: [&[u8]; 8] =
            [b"", b"\xFF\xD8\xFF", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\x01\0\0WEBP", b"BM", b"II*\0", b"\0\0\0\x10ftyp"];
        never_panics(&[starts[start], &bytes].concat())?;
    }

    #[test]
    fn no_damage_causes_a_panic(
        file in 0_usize..14,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let (_, mut bytes) = good_files().swap_remove(file);
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        never_panics(&bytes)?;
    }
}
