//! How does any layout of samples become RGB with 8 bits a channel?
//!
//! Transparent pixels are laid over white, which is what a browser shows behind a logo or a product that was
//! cut out; a picture whose colours were drawn for a dark page loses contrast, but stays a picture.

use image::ColorType;

/// Laid under transparent pixels, in all three channels.
const BACKGROUND: u32 = 255;

/// `samples` (native byte order, rows without gaps) as RGB8; `None` for a layout that no supported format has.
///
/// Works in place wherever the result is not longer than the input, so that decoding never holds two copies.
pub(super) fn to_rgb8(layout: ColorType, mut samples: Vec<u8>) -> Option<Vec<u8>> {
    match layout {
        ColorType::Rgb8 => Some(samples),
        ColorType::L8 => Some(samples.iter().flat_map(|&l| [l, l, l]).collect()),
        ColorType::La8 => Some(
            samples
                .as_chunks::<2>()
                .0
                .iter()
                .flat_map(|&[l, a]| {
                    let l = over_background(l, a);
                    [l, l, l]
                })
                .collect(),
        ),
        ColorType::Rgba8 => {
            shrink(&mut samples, |[r, g, b, a]: [u8; 4]| {
                if a == u8::MAX {
                    [r, g, b]
                } else {
                    [over_background(r, a), over_background(g, a), over_background(b, a)]
                }
            });
            Some(samples)
        }
        ColorType::L16 => to_rgb8(ColorType::L8, eight_bits(samples)),
        ColorType::La16 => to_rgb8(ColorType::La8, eight_bits(samples)),
        ColorType::Rgb16 => to_rgb8(ColorType::Rgb8, eight_bits(samples)),
        ColorType::Rgba16 => to_rgb8(ColorType::Rgba8, eight_bits(samples)),
        ColorType::Rgb32F | ColorType::Rgba32F | _ => None,
    }
}

fn eight_bits(mut samples: Vec<u8>) -> Vec<u8> {
    shrink(&mut samples, |word: [u8; 2]| [high_byte(u16::from_ne_bytes(word))]);
    samples
}

/// Rewrites groups of `N` bytes as groups of `M ≤ N` bytes, in place.
fn shrink<const N: usize, const M: usize>(samples: &mut Vec<u8>, convert: impl Fn([u8; N]) -> [u8; M]) {
    const { assert!(M <= N) };
    let groups = samples.len() / N;
    for group in 0..groups {
        let mut input = [0; N];
        input.copy_from_slice(&samples[group * N..][..N]);
        samples[group * M..][..M].copy_from_slice(&convert(input));
    }
    samples.truncate(groups * M);
}

fn over_background(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    ((value * alpha + BACKGROUND * (255 - alpha) + 127) / 255) as u8
}

/// The nearest of 256 levels.
fn high_byte(value: u16) -> u8 {
    ((u32::from(value) + 128) / 257) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(values: &[u16]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_ne_bytes()).collect()
    }

    #[test]
    fn every_layout_becomes_rgb() {
        for (layout, samples, expected) in [
            (ColorType::Rgb8, vec![1, 2, 3], vec![1, 2, 3]),
            (ColorType::L8, vec![7, 9], vec![7, 7, 7, 9, 9, 9]),
            (ColorType::La8, vec![7, 255, 7, 0], vec![7, 7, 7, 255, 255, 255]),
            (ColorType::Rgba8, vec![1, 2, 3, 255, 0, 0, 0, 128], vec![1, 2, 3, 127, 127, 127]),
            (ColorType::L16, words(&[0, 65535, 0x8080]), vec![0, 0, 0, 255, 255, 255, 128, 128, 128]),
            (ColorType::La16, words(&[0, 65535, 0, 0]), vec![0, 0, 0, 255, 255, 255]),
            (ColorType::Rgb16, words(&[257, 514, 771]), vec![1, 2, 3]),
            (ColorType::Rgba16, words(&[257, 514, 771, 65535]), vec![1, 2, 3]),
        ] {
            assert_eq!(to_rgb8(layout, samples), Some(expected), "{layout:?}");
        }
        assert_eq!(to_rgb8(ColorType::Rgb32F, vec![0; 12]), None);
    }
}
