//! Messages of live sessions, in words and in bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    upnext::api::fuzzing::live_text(bytes);
    upnext::api::fuzzing::live_frame(bytes);
});
