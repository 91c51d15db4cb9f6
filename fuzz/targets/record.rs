//! Records of the log and the catalogue.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| upnext::store::fuzzing::record(bytes));
