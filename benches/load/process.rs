//! What has a process cost so far? Read from `/proc`; nothing where there is none.

use std::fs;

use serde::Serialize;

/// Clock ticks a second in `/proc/<pid>/stat`, on every architecture that matters here.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub(crate) struct Usage {
    /// Processor time, user and kernel, in seconds.
    pub(crate) cpu_s: f64,
    /// Memory in RAM.
    pub(crate) resident_bytes: u64,
    /// The most that it was.
    pub(crate) resident_peak_bytes: u64,
}

/// The usage of process `id`.
pub(crate) fn usage(id: u32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let kilobytes = |name: &str| -> Option<u64> {
        status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
    };
    // The command's name stands in brackets and may hold anything: count from the last one.
    let mut after_name = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || after_name.next()?.parse::<f64>().ok();
    Some(Usage {
        cpu_s: (ticks()? + ticks()?) / TICKS_PER_SECOND,
        resident_bytes: kilobytes("VmRSS:")? * 1024,
        resident_peak_bytes: kilobytes("VmHWM:")? * 1024,
    })
}

/// Processor seconds of all processes of this machine, and what a host took away from it, since it was started.
pub(crate) fn machine_cpu_s() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<f64> = stat.lines().next()?.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    let [user, nice, system, _, _, irq, softirq, steal, ..] = ticks.as_slice() else { return None };
    Some((user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND)
}
