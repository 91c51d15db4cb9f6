//! What does the disk do alone? Small writes, each synced before the next, as the simplest log would make them.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::Failure;

/// About the size of an event.
const WRITE_BYTES: usize = 200;
/// A preallocated file; it is written from the beginning again when it is full.
const FILE_BYTES: u64 = 4 << 20;

/// Synced writes a second of so many threads, each with a file of its own. Files that are preallocated have their blocks
/// already, so that a sync need not write where they are.
pub(super) fn synced_writes_per_s(
    folder: &Path,
    threads: usize,
    preallocated: bool,
    seconds: f64,
) -> Result<f64, Failure> {
    let files: Vec<File> = (0..threads)
        .map(|n| {
            let mut file = File::create(folder.join(format!("disk-{n}")))?;
            if preallocated {
                file.write_all(&vec![0; FILE_BYTES as usize])?;
            }
            file.sync_all()?;
            Ok(file)
        })
        .collect::<std::io::Result<_>>()?;
    let (begin, duration) = (Barrier::new(threads), Duration::from_secs_f64(seconds));
    let outcomes: Vec<std::io::Result<f64>> = std::thread::scope(|scope| {
        let write = |file: File| {
            let begin = &begin;
            scope.spawn(move || {
                begin.wait();
                let started = Instant::now();
                let (mut count, mut at) = (0_u64, 0);
                while started.elapsed() < duration {
                    file.write_all_at(&[b'x'; WRITE_BYTES], at)?;
                    file.sync_data()?;
                    count += 1;
                    at += WRITE_BYTES as u64;
                    if preallocated && at + WRITE_BYTES as u64 > FILE_BYTES {
                        at = 0;
                    }
                }
                Ok(count as f64 / started.elapsed().as_secs_f64())
            })
        };
        let threads: Vec<_> = files.into_iter().map(write).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    if outcomes.len() < threads {
        return Err("a thread that wrote panicked".into());
    }
    Ok(outcomes.into_iter().sum::<std::io::Result<f64>>()?)
}
