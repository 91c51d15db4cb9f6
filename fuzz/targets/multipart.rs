//! Multipart bodies.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| upnext::api::fuzzing::multipart(bytes));
