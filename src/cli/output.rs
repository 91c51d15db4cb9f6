//! How do commands speak? Answers on standard output, progress and complaints on standard error.

use std::fmt::Display;
use std::io::{Write, stderr, stdout};

use indicatif::{ProgressBar, ProgressStyle};

/// Prints a line of an answer. A reader that has gone away (`| head`) is no error.
pub(super) fn line(text: impl Display) {
    let _ = writeln!(stdout(), "{text}");
}

/// Prints what a person should know beside the answer, which may go into a file or another program.
pub(super) fn note(text: impl Display) {
    let _ = writeln!(stderr(), "{text}");
}

/// Prints why a command failed.
pub(super) fn complain(error: &impl Display) {
    let _ = writeln!(stderr(), "upnext: {error}");
}

/// A bar for `total` steps, 0 if their number is told later; on a terminal only.
pub(super) fn bar(what: &'static str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:<22} {wide_bar} {pos}/{len}  {elapsed_precise}  eta {eta}");
    let bar = ProgressBar::new(total).with_message(what);
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

/// A bar over the bytes of a file: how many rows there are is known only at its end.
pub(super) fn byte_bar(what: &'static str, total_bytes: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg:<22} {wide_bar} {bytes}/{total_bytes}  {elapsed_precise}  eta {eta}");
    let bar = ProgressBar::new(total_bytes).with_message(what);
    style.map_or(bar.clone(), |style| bar.with_style(style))
}
