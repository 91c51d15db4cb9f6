//! What came out? The report, as JSON and as tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::Seen;
use super::disk::synced_writes_per_s;
use super::redis::{RedisCell, RedisReport};
use crate::connection::Connection;
use crate::report::{Latency, processors};
use crate::{Args, Failure};

/// Threads of the disk's second measurement, and clients of the cell that is compared with the first.
const MANY: u16 = 16;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    mode: &'static str,
    items: usize,
    processors: usize,
    /// Whether the harness was built with optimisation; without, the figures mean little.
    optimised: bool,
    random_ids: bool,
    /// Seconds of each measurement.
    seconds: f64,
    disk_before: Disk,
    disk_after: Disk,
    cells: Vec<Cell>,
    redis: Option<RedisReport>,
    /// Single events of 16 clients for each synced write of one thread.
    single_of_16_by_synced_write: Option<f64>,
    /// The same of Redis's `SET`.
    redis_of_16_by_synced_write: Option<f64>,
}

/// Writes of 200 bytes a second, each followed by `fdatasync`.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Disk {
    /// One thread, which appends.
    one: f64,
    /// Sixteen threads, which append, each to its own file.
    many: f64,
    /// One thread on a file that has its blocks.
    one_preallocated: f64,
    /// Sixteen threads on such files.
    many_preallocated: f64,
}

/// What clients saw and what it cost.
#[derive(Debug, Serialize)]
pub(super) struct Cell {
    clients: u16,
    events_a_request: u16,
    requests_per_s: f64,
    /// Durable and acknowledged.
    events_per_s: f64,
    latency: Option<Latency>,
    errors: BTreeMap<String, u64>,
    server_cpu_us_an_event: Option<f64>,
    /// Processors in use on average.
    server_busy: Option<f64>,
    clients_busy: Option<f64>,
    /// What the rest of the machine took. Above a tenth or so the figures are those of a busy machine: whoever waits for
    /// the disk waits for a processor, too.
    others_busy: Option<f64>,
    /// Events that shared a commit.
    commit_group: Option<f64>,
    /// How long a commit took.
    commit_ms: Option<f64>,
    commits_per_s: f64,
}

/// What a cell cost.
pub(super) struct Cost {
    pub(super) seconds: f64,
    pub(super) server_cpu_s: Option<f64>,
    pub(super) clients_cpu_s: Option<f64>,
    pub(super) machine_cpu_s: Option<f64>,
    pub(super) commits: Commits,
}

/// The server's own count of its commits.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Commits {
    commits: f64,
    records: f64,
    seconds: f64,
}

impl Disk {
    /// Measures all four.
    pub(super) fn measure(folder: &Path, seconds: f64) -> Result<Self, Failure> {
        let many = usize::from(MANY);
        Ok(Self {
            one: synced_writes_per_s(folder, 1, false, seconds)?,
            many: synced_writes_per_s(folder, many, false, seconds)?,
            one_preallocated: synced_writes_per_s(folder, 1, true, seconds)?,
            many_preallocated: synced_writes_per_s(folder, many, true, seconds)?,
        })
    }
}

impl Commits {
    /// As of now.
    pub(super) fn read(operator: &mut Connection) -> Result<Self, Failure> {
        let (status, text) = operator.get("/metrics")?;
        if status != 200 {
            return Err(format!("the metrics answer {status}").into());
        }
        let text = std::str::from_utf8(text)?;
        let value = |series: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
            found.unwrap_or_default()
        };
        Ok(Self {
            commits: value("upnext_commit_group_size_count"),
            records: value("upnext_commit_group_size_sum"),
            seconds: value("upnext_stage_seconds_sum{stage=\"commit\"}"),
        })
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self {
            commits: self.commits - before.commits,
            records: self.records - before.records,
            seconds: self.seconds - before.seconds,
        }
    }
}

impl Cell {
    /// Rates are over `seconds`, in which clients counted; what it cost was taken over a little more.
    pub(super) fn new((clients, events_a_request): (u16, u16), seconds: f64, seen: Seen, cost: &Cost) -> Self {
        let Cost { seconds: costed_s, server_cpu_s, clients_cpu_s, machine_cpu_s, commits } = *cost;
        let others_cpu_s = || Some(machine_cpu_s? - server_cpu_s? - clients_cpu_s?);
        let events_per_s = seen.stored as f64 / seconds;
        let by_commit = |sum: f64| (commits.commits > 0.0).then(|| sum / commits.commits);
        Self {
            clients,
            events_a_request,
            requests_per_s: seen.latencies_us.len() as f64 / seconds,
            events_per_s,
            latency: Latency::of(seen.latencies_us),
            errors: seen.errors,
            server_cpu_us_an_event: server_cpu_s.map(|cpu_s| cpu_s / costed_s * 1e6 / events_per_s.max(1e-9)),
            server_busy: server_cpu_s.map(|cpu_s| cpu_s / costed_s),
            clients_busy: clients_cpu_s.map(|cpu_s| cpu_s / costed_s),
            others_busy: others_cpu_s().map(|cpu_s| (cpu_s / costed_s).max(0.0)),
            commit_group: by_commit(commits.records),
            commit_ms: by_commit(commits.seconds * 1e3),
            commits_per_s: commits.commits / costed_s,
        }
    }
}

impl Report {
    pub(super) fn new(
        args: &Args,
        [disk_before, disk_after]: [Disk; 2],
        cells: Vec<Cell>,
        redis: Option<RedisReport>,
    ) -> Self {
        let one = (disk_before.one + disk_after.one) / 2.0;
        let single = cells.iter().find(|cell| (cell.clients, cell.events_a_request) == (MANY, 1));
        let set = redis.iter().flat_map(|redis| &redis.cells);
        let set = set.clone().find(|c| (c.command, c.clients, c.pipelined) == ("SET", MANY, 1));
        Self {
            mode: "durability",
            items: args.items,
            processors: processors(),
            optimised: !cfg!(debug_assertions),
            random_ids: args.random_ids,
            seconds: args.duration_s,
            disk_before,
            disk_after,
            single_of_16_by_synced_write: single.map(|cell| cell.events_per_s / one.max(1e-9)),
            redis_of_16_by_synced_write: set.map(|cell| cell.events_per_s / one.max(1e-9)),
            cells,
            redis,
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Self { items, processors, seconds, .. } = self;
        let ids = if self.random_ids { "random ids" } else { "UUIDv7 ids" };
        writeln!(text, "durability: {items} items, {ids}, {seconds:.1} s each, {processors} processors")?;
        if !self.optimised {
            writeln!(text, "built without optimisation: use `cargo bench`")?;
        }
        writeln!(text, "\ndisk alone, 200 B + fdatasync        before      after  /s")?;
        let (before, after) = (&self.disk_before, &self.disk_after);
        for (what, before, after) in [
            ("1 thread, appending", before.one, after.one),
            ("16 threads, appending", before.many, after.many),
            ("1 thread, preallocated", before.one_preallocated, after.one_preallocated),
            ("16 threads, preallocated", before.many_preallocated, after.many_preallocated),
        ] {
            writeln!(text, "  {what:<30} {before:>10.0} {after:>10.0}")?;
        }
        writeln!(
            text,
            "\nclients  events/request   events/s    p50 ms   p99 ms  server us/event  busy  clients busy  \
             others busy  events/commit  commit ms  errors"
        )?;
        for cell in &self.cells {
            cell.write(text)?;
        }
        match &self.redis {
            None => writeln!(text, "\nRedis: there is no `redis-server` on this machine")?,
            Some(RedisReport { version, cells }) => {
                writeln!(text, "\nRedis {version}, appendfsync always")?;
                writeln!(text, "clients  command  pipelined   events/s    p50 ms   p99 ms")?;
                for RedisCell { command, clients, pipelined, events_per_s, latency } in cells {
                    let (p50, p99) = latency.map_or((0.0, 0.0), |l| (l.p50_ms, l.p99_ms));
                    writeln!(
                        text,
                        "{clients:>7}  {command:<7} {pipelined:>10} {events_per_s:>10.0} {p50:>9.2} {p99:>8.2}"
                    )?;
                }
            }
        }
        let change = after.one / before.one.max(1e-9);
        if !(0.67..=1.5).contains(&change) {
            writeln!(text, "\nthe disk changed its speed in the meantime: measure again when the machine is idle")?;
        }
        let ratio = |ratio: Option<f64>| ratio.map_or("not measured".to_owned(), |ratio| format!("{ratio:.2}"));
        writeln!(
            text,
            "\nsingle events of 16 clients / synced writes of one thread: {} (Redis SET: {})",
            ratio(self.single_of_16_by_synced_write),
            ratio(self.redis_of_16_by_synced_write)
        )
    }
}

impl Cell {
    fn write(&self, text: &mut String) -> std::fmt::Result {
        let (p50, p99) = self.latency.map_or((0.0, 0.0), |latency| (latency.p50_ms, latency.p99_ms));
        let or_nothing = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let errors: Vec<String> = self.errors.iter().map(|(status, count)| format!("{status}: {count}")).collect();
        let Self { clients, events_a_request, events_per_s, .. } = self;
        write!(text, "{clients:>7} {events_a_request:>15} {events_per_s:>10.0} {p50:>9.2} {p99:>8.2}")?;
        for (value, width) in [
            (self.server_cpu_us_an_event, 16),
            (self.server_busy, 5),
            (self.clients_busy, 13),
            (self.others_busy, 12),
            (self.commit_group, 14),
            (self.commit_ms, 10),
        ] {
            write!(text, " {:>width$}", or_nothing(value))?;
        }
        writeln!(text, "  {}", if errors.is_empty() { "none".into() } else { errors.join(", ") })
    }
}
