//! The `upnext` program: a thin shell around the library.

use std::process::ExitCode;

/// An answer is made of many small pieces on many threads, which this allocator hands out faster than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    upnext::cli::run()
}
