//! What does `vision` make of every file in a folder? `cargo run --example decode_folder -- FOLDER…`
//!
//! Prints one line a file: the outcome, the size, the time, and by how much the file raised the process's peak memory.
//! A name's prefix is an expectation: `ok_` must decode (or be a format that is not read), `bad_` and `bomb_` must be refused.
//! Exits with 1 if one does not hold.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use upnext::vision::{DECODER_PANICKED, DecodeError, DecodeLimits, decode, difference, luma_thumb};

fn main() -> ExitCode {
    let folders: Vec<String> = std::env::args().skip(1).collect();
    if folders.is_empty() {
        eprintln!("usage: decode_folder FOLDER…");
        return ExitCode::from(2);
    }
    let mut broken = 0;
    for folder in &folders {
        let mut files = Vec::new();
        collect(Path::new(folder), &mut files);
        if files.is_empty() {
            println!("skipped: no files in {folder}");
        }
        files.sort();
        let mut first = None;
        for file in files {
            broken += u32::from(!report(&file, &mut first));
        }
    }
    println!("{broken} expectations not met");
    ExitCode::from(u8::from(broken > 0))
}

/// Prints what became of `file`; says whether that was to be expected.
fn report(file: &Path, first: &mut Option<upnext::domain::LumaThumb>) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Ok(bytes) = std::fs::read(file) else {
        println!("{name:44} unreadable");
        return true;
    };
    let peak_before = peak_kib();
    let start = Instant::now();
    let outcome = decode(&bytes, &DecodeLimits::default());
    let took_ms = start.elapsed().as_secs_f64() * 1e3;
    let peak_rise_kib = peak_kib().saturating_sub(peak_before);
    let expected = match &outcome {
        Ok(_) => !name.starts_with("bad_") && !name.starts_with("bomb_"),
        Err(DecodeError::UnsupportedFormat { .. }) => true,
        Err(DecodeError::Corrupt { detail }) if detail == DECODER_PANICKED => false,
        Err(_) => !name.starts_with("ok"),
    };
    let text = match outcome {
        Ok(pixels) => {
            let thumb = luma_thumb(&pixels);
            let away = first.as_ref().map_or(0.0, |first| difference(first, &thumb));
            first.get_or_insert(thumb);
            format!("decoded {}×{}, {away:.3} from the first", pixels.width(), pixels.height())
        }
        Err(error) => format!("refused: {error}"),
    };
    let verdict = if expected { "" } else { "  <-- UNEXPECTED" };
    println!("{name:44} {text}; {took_ms:.2} ms, peak +{peak_rise_kib} KiB{verdict}");
    expected
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

/// The process's peak resident memory; 0 where the system does not tell.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
