//! The `upnext` program: a thin shell around the library.

use std::process::ExitCode;

/// An answer is made of many small pieces on many threads, which this allocator hands out faster than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for pages of 2 MiB, which come whole where a few of their bytes are used: with them a server took 18 % more
    // memory and was no faster (docs/performance.md).
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    upnext::cli::run()
}
