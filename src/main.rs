//! The `upnext` program: a thin shell around the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    upnext::cli::run()
}
