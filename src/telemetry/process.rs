//! What does the process cost the machine? Memory, processor time, threads and files, read from `/proc`.

use std::fs;

/// Clock ticks a second in `/proc/<pid>/stat`; the kernel fixes it at 100 for user space on every architecture
/// that this service is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// The process's use of the machine at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct ProcessUsage {
    /// Memory in RAM, in bytes.
    pub(super) resident_bytes: u64,
    /// The most memory that was in RAM so far, in bytes.
    pub(super) resident_peak_bytes: u64,
    /// Processor time in user and kernel mode, in seconds.
    pub(super) cpu_s: f64,
    /// Threads.
    pub(super) threads: u64,
    /// Open files and sockets.
    pub(super) open_files: u64,
}

/// Reads the usage; `None` where there is no `/proc`.
pub(super) fn read() -> Option<ProcessUsage> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let open_files = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as u64;
    Some(ProcessUsage { open_files, ..parse(&status, &stat)? })
}

fn parse(status: &str, stat: &str) -> Option<ProcessUsage> {
    let field = |name: &str| -> Option<u64> {
        status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
    };
    // The command's name stands in brackets and may hold anything, even brackets: count from the last one.
    let after_name: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |i: usize| after_name.get(i)?.parse::<f64>().ok();
    Some(ProcessUsage {
        resident_bytes: field("VmRSS:")? * 1024,
        resident_peak_bytes: field("VmHWM:")? * 1024,
        cpu_s: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
        threads: field("Threads:")?,
        open_files: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_even_behind_a_strange_name() {
        let status = "Name:\tup) next\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\nThreads:\t7\n";
        let stat = "1 (up) next) S 0 1 1 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 7 0 100 0 0";
        let usage = parse(status, stat).unwrap();
        assert_eq!(usage.resident_bytes, 1024 * 1024);
        assert_eq!(usage.resident_peak_bytes, 2048 * 1024);
        assert!((usage.cpu_s - 2.0).abs() < 1e-9);
        assert_eq!(usage.threads, 7);
        assert_eq!(parse("", stat), None);
        assert_eq!(parse(status, ""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_memory() {
        let usage = read().unwrap();
        assert!(usage.resident_bytes > 100_000 && usage.resident_peak_bytes >= usage.resident_bytes / 2);
        assert!(usage.threads >= 1 && usage.open_files >= 1);
    }
}
