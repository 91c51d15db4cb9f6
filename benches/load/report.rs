//! What came out? The report, as JSON and as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::drive::Measured;
use crate::model::{Alone, Stages, Yardstick};
use crate::{Args, Failure, Mode};

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    mode: &'static str,
    viewers: u16,
    items: usize,
    frames: usize,
    protocol: String,
    seconds: f64,
    processors: usize,
    /// Whether the harness was built with optimisation; without, the figures mean little.
    optimised: bool,
    requests: u64,
    requests_per_s: f64,
    events_per_s: f64,
    latency: BTreeMap<&'static str, Latency>,
    errors: BTreeMap<String, u64>,
    near_duplicates: u64,
    degraded: u64,
    server: Option<Cost>,
    viewers_cost: Option<Cost>,
    model: Option<ModelReport>,
    /// What the stages take as a share of all processor time that the server takes for a frame.
    stages_of_server_time: Option<f64>,
}

/// How long requests of one kind took, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) requests: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

/// The same for people.
pub(crate) fn times(latency: &Option<Latency>) -> String {
    match latency {
        Some(Latency { requests, p50_ms, p90_ms, p99_ms, max_ms }) => {
            format!("p50 {p50_ms:.1}  p90 {p90_ms:.1}  p99 {p99_ms:.1}  max {max_ms:.1} ms ({requests})")
        }
        None => "none".to_owned(),
    }
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Cost {
    cpu_ms_per_request: f64,
    /// Processors in use on average.
    busy_processors: f64,
    resident_mib: f64,
    resident_peak_mib: f64,
}

/// The load beside its yardsticks.
#[derive(Debug, Serialize)]
pub(crate) struct ModelReport {
    model: String,
    workers: usize,
    threads_per_worker: usize,
    /// Before each turn, and after the last.
    yardsticks: Vec<Yardstick>,
    turns: Vec<Turn>,
    /// Medians of the turns.
    median: Turn,
}

/// Some seconds of load between two yardsticks, whose mean counts.
#[derive(Debug, Clone, Copy, Serialize)]
struct Turn {
    requests_per_s: f64,
    /// Throughput as a share of what the model does alone.
    share_of_model: f64,
    /// Throughput as a share of what the stages allow if each processor is as fast as when it is the only one that is busy.
    share_of_stages: f64,
    /// Throughput as a share of what the stages allow on processors that are all busy.
    share_of_stages_together: f64,
}

impl ModelReport {
    /// `rates` are frames a second of the turns, one less than the yardsticks.
    pub(crate) fn new(model: &Alone, yardsticks: Vec<Yardstick>, rates: &[f64]) -> Self {
        let turn = |(&requests_per_s, around): (&f64, &[Yardstick])| {
            let share = |of: fn(&Yardstick) -> f64| {
                let mean = around.iter().map(of).sum::<f64>() / around.len().max(1) as f64;
                requests_per_s / mean.max(1e-9)
            };
            Turn {
                requests_per_s,
                share_of_model: share(|y| y.model_per_s),
                share_of_stages: share(|y| y.stages.limit_per_s()),
                share_of_stages_together: share(|y| y.stages_together.limit_per_s()),
            }
        };
        let turns: Vec<Turn> = rates.iter().zip(yardsticks.windows(2)).map(turn).collect();
        let of = |what: fn(&Turn) -> f64| median(turns.iter().map(what).collect());
        let median = Turn {
            requests_per_s: of(|t| t.requests_per_s),
            share_of_model: of(|t| t.share_of_model),
            share_of_stages: of(|t| t.share_of_stages),
            share_of_stages_together: of(|t| t.share_of_stages_together),
        };
        Self {
            model: model.model_id().to_owned(),
            workers: model.workers(),
            threads_per_worker: model.intra_threads(),
            yardsticks,
            turns,
            median,
        }
    }

    /// Medians of the yardsticks: alone, and with all processors busy.
    fn stages(&self) -> (Stages, Stages) {
        let of =
            |which: fn(&Yardstick) -> Stages| Stages::median(&self.yardsticks.iter().map(which).collect::<Vec<_>>());
        (of(|y| y.stages), of(|y| y.stages_together))
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Self { model, workers, threads_per_worker, yardsticks, turns, median } = self;
        let setup = format!("{model}, {workers} workers of {threads_per_worker} threads");
        let alone: Vec<String> = yardsticks.iter().map(|y| format!("{:.0}", y.model_per_s)).collect();
        writeln!(text, "model alone      {} /s ({setup})", alone.join(", "))?;
        let (one, all) = self.stages();
        for (which, stages) in [("one busy", one), ("all busy", all)] {
            let Stages { decode_ms, fingerprint_ms, resize_ms, inference_ms } = stages;
            let parts = format!("decode {decode_ms:.2} + fingerprint {fingerprint_ms:.2} + resize {resize_ms:.2}");
            let limit = stages.limit_per_s();
            writeln!(text, "{which:<16} {parts} + inference {inference_ms:.2} ms: at most {limit:.1} /s here")?;
        }
        if turns.len() > 1 {
            for turn in turns {
                writeln!(text, "  turn           {turn}")?;
            }
        }
        writeln!(text, "share            {median}")
    }
}

impl std::fmt::Display for Turn {
    fn fmt(&self, text: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |share: f64| share * 100.0;
        let (of_model, of_one) = (percent(self.share_of_model), percent(self.share_of_stages));
        let of_all = percent(self.share_of_stages_together);
        write!(
            text,
            "{:.1} /s: {of_model:.1} % of the model alone, {of_one:.1} % of the stages with one processor busy, {of_all:.1} % \
             with all",
            self.requests_per_s
        )
    }
}

impl Report {
    pub(crate) fn new(args: &Args, mode: Mode, frames: usize, measured: Measured, model: Option<ModelReport>) -> Self {
        let requests: u64 = measured.latencies_us.values().map(|l| l.len() as u64).sum();
        let requests_per_s = requests as f64 / measured.seconds.max(1e-9);
        let cost = |usage: crate::process::Usage| Cost {
            cpu_ms_per_request: usage.cpu_s * 1e3 / requests.max(1) as f64,
            busy_processors: usage.cpu_s / measured.seconds.max(1e-9),
            resident_mib: usage.resident_bytes as f64 / f64::from(1 << 20),
            resident_peak_mib: usage.resident_peak_bytes as f64 / f64::from(1 << 20),
        };
        let event_requests: usize =
            ["event", "events"].iter().filter_map(|kind| measured.latencies_us.get(kind)).map(Vec::len).sum();
        let per_request = if mode == Mode::Events { usize::from(args.events_per_request) } else { 1 };
        let latency = measured.latencies_us.into_iter().filter_map(|(kind, l)| Some((kind, Latency::of(l)?))).collect();
        Self {
            mode: match mode {
                Mode::Frames => "frames",
                Mode::Lists => "lists",
                Mode::Events => "events",
                Mode::Durability => "durability",
                Mode::Replay => "replay",
                Mode::Live => "live",
                Mode::Mixed => "mixed",
            },
            viewers: args.concurrency,
            items: args.items,
            frames,
            protocol: measured.protocol,
            seconds: measured.seconds,
            processors: processors(),
            optimised: !cfg!(debug_assertions),
            requests,
            requests_per_s,
            events_per_s: (event_requests * per_request) as f64 / measured.seconds.max(1e-9),
            latency,
            errors: measured.errors,
            near_duplicates: measured.near_duplicates,
            degraded: measured.degraded,
            server: measured.server.map(cost),
            viewers_cost: measured.viewers.map(cost),
            stages_of_server_time: model
                .as_ref()
                .zip(measured.server)
                .map(|(model, server)| model.stages().1.sum_ms() * requests as f64 / (server.cpu_s * 1e3).max(1e-9)),
            model,
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
        let Self { mode, viewers, items, protocol, seconds, processors, .. } = self;
        writeln!(
            text,
            "{mode}: {viewers} viewers, {items} items, {protocol}, {seconds:.1} s, {processors} processors"
        )?;
        if !self.optimised {
            writeln!(text, "built without optimisation: use `cargo bench`")?;
        }
        writeln!(text, "throughput       {:.1} requests/s ({} requests)", self.requests_per_s, self.requests)?;
        if self.events_per_s > 0.0 {
            writeln!(text, "events           {:.1} /s", self.events_per_s)?;
        }
        for (kind, Latency { requests, p50_ms, p90_ms, p99_ms, max_ms }) in &self.latency {
            let times = format!("p50 {p50_ms:.2}  p90 {p90_ms:.2}  p99 {p99_ms:.2}  max {max_ms:.2} ms");
            writeln!(text, "{kind:<16} {times} ({requests})")?;
        }
        let errors: Vec<String> = self.errors.iter().map(|(status, count)| format!("{status}: {count}")).collect();
        writeln!(text, "errors           {}", if errors.is_empty() { "none".into() } else { errors.join(", ") })?;
        if *mode == "frames" {
            let share = self.near_duplicates as f64 / self.requests.max(1) as f64;
            writeln!(text, "near-duplicates  {:.1} % of the frames were not embedded", share * 100.0)?;
        }
        writeln!(text, "degraded         {}", self.degraded)?;
        for (who, cost) in [("server", &self.server), ("viewers", &self.viewers_cost)] {
            if let Some(Cost { cpu_ms_per_request, busy_processors, resident_mib, resident_peak_mib }) = cost {
                let memory = format!("{resident_mib:.0} MiB resident, {resident_peak_mib:.0} at most");
                writeln!(
                    text,
                    "{who:<16} {cpu_ms_per_request:.2} ms of processor a request, {busy_processors:.2} busy, {memory}"
                )?;
            }
        }
        let Some(model) = &self.model else { return Ok(()) };
        model.write(text)?;
        let of_time = self.stages_of_server_time.unwrap_or_default() * 100.0;
        writeln!(text, "                 the stages are {of_time:.1} % of the server's processor time")
    }
}

impl Latency {
    pub(crate) fn of(mut us: Vec<u32>) -> Option<Self> {
        us.sort_unstable();
        // The nearest rank: the least value that so large a share does not exceed.
        let at = |share: f64| {
            let rank = (share * us.len() as f64).ceil() as usize;
            us.get(rank.saturating_sub(1)).map(|us| f64::from(*us) / 1e3)
        };
        Some(Self {
            requests: us.len() as u64,
            p50_ms: at(0.5)?,
            p90_ms: at(0.9)?,
            p99_ms: at(0.99)?,
            max_ms: at(1.0)?,
        })
    }
}

pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The middle one; of an even number the mean of the two in the middle.
pub(crate) fn median(mut all: Vec<f64>) -> f64 {
    all.sort_unstable_by(f64::total_cmp);
    let middle = all.len() / 2;
    match (all.len().is_multiple_of(2), middle.checked_sub(1).and_then(|low| all.get(low)), all.get(middle)) {
        (true, Some(low), Some(high)) => f64::midpoint(*low, *high),
        (_, _, middle) => middle.copied().unwrap_or_default(),
    }
}

/// What can be checked without measuring anything.
pub(crate) fn check() -> Result<(), Failure> {
    let latency = Latency::of((1..=1_000).rev().map(|ms| ms * 1_000).collect()).ok_or("no latencies")?;
    let expected = Latency { requests: 1_000, p50_ms: 500.0, p90_ms: 900.0, p99_ms: 990.0, max_ms: 1_000.0 };
    if latency != expected || Latency::of(Vec::new()).is_some() || Latency::of(vec![7]).is_none() {
        return Err(format!("{latency:?} is not {expected:?}").into());
    }
    let medians = [median(vec![]), median(vec![3.0]), median(vec![9.0, 1.0, 4.0]), median(vec![9.0, 1.0, 4.0, 2.0])];
    if medians == [0.0, 3.0, 4.0, 3.0] { Ok(()) } else { Err(format!("medians are {medians:?}").into()) }
}
