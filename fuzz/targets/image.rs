//! Pictures that clients send: limits hold before anything is decoded, and what is decoded can be looked at.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upnext::vision::{DecodeLimits, decode, luma_thumb, thumbnail_jpeg};

const LIMITS: DecodeLimits =
    DecodeLimits { max_bytes: 1 << 20, max_pixels: 1 << 18, max_side: 2_048, max_alloc_bytes: 16 << 20 };

fuzz_target!(|bytes: &[u8]| {
    if let Ok(pixels) = decode(bytes, &LIMITS) {
        assert!(pixels.width() <= LIMITS.max_side && pixels.height() <= LIMITS.max_side);
        let _ = luma_thumb(&pixels);
        let _ = thumbnail_jpeg(&pixels, 64);
    }
});
