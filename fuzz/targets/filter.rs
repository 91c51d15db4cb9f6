//! Filters in query strings.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| upnext::api::fuzzing::filter(text));
