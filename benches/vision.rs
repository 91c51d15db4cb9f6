//! What does one frame cost before the model sees it? Decoding, resizing, the fingerprint, the motion between two.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::unwrap_used, reason = "a benchmark may stop at once")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use image::codecs::jpeg::JpegEncoder;
use upnext::domain::{Fit, InputSize, Pixels};
use upnext::vision::{DecodeLimits, Preprocessor, decode, difference, luma_thumb, motion};

/// A picture with edges, gradients and texture, so that its JPEG has about the size of a video frame's.
fn scene(width: u32, height: u32) -> Vec<u8> {
    let mut rgb = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            let texture = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(2_246_822_519)) >> 28;
            let block = if (x / 40 + y / 40) % 3 == 0 { 60 } else { 0 };
            rgb.extend([x * 150 / width + texture, y * 150 / height + block, 80 + block + texture].map(|v| v as u8));
        }
    }
    rgb
}

fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 80)
        .encode(&scene(width, height), width, height, image::ExtendedColorType::Rgb8)
        .unwrap();
    bytes
}

fn frames(c: &mut Criterion) {
    let limits = DecodeLimits::default();
    let size = InputSize { width: 224, height: 224, fit: Fit::CentreCrop { short_side: 256 } };
    let mut preprocessor = Preprocessor::new();
    let mut out = vec![0; size.bytes()];
    for (name, width, height) in [("640x360", 640, 360), ("1080p", 1920, 1080)] {
        let bytes = jpeg(width, height);
        c.bench_function(&format!("decode/jpeg {name} ({} KiB)", bytes.len() / 1024), |b| {
            b.iter(|| decode(black_box(&bytes), &limits).unwrap());
        });
        let pixels = Pixels::new(width, height, scene(width, height)).unwrap();
        c.bench_function(&format!("resize/{name} to 224"), |b| {
            b.iter(|| preprocessor.run(black_box(&pixels), size, &mut out).unwrap());
        });
        c.bench_function(&format!("thumb/{name}"), |b| b.iter(|| luma_thumb(black_box(&pixels))));
    }
    let one = luma_thumb(&Pixels::new(640, 360, scene(640, 360)).unwrap());
    let other = luma_thumb(&Pixels::new(360, 640, scene(360, 640)).unwrap());
    c.bench_function("difference", |b| b.iter(|| difference(black_box(&one), black_box(&other))));
    c.bench_function("motion", |b| b.iter(|| motion(black_box(&one), black_box(&other))));
}

criterion_group!(benches, frames);
criterion_main!(benches);
