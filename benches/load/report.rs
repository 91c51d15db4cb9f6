//! What came out? The report, as JSON and as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::drive::Measured;
use crate::model::{Alone, Stages};
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
    /// Throughput as a share of what the model does alone.
    share_of_model: Option<f64>,
    /// Throughput as a share of what the stages together allow on this machine.
    share_of_stages: Option<f64>,
    /// What the stages take as a share of all processor time that the server takes for a frame.
    stages_of_server_time: Option<f64>,
    /// Throughput as a share of what the stages allow on the processor time that the viewers, who run on the same machine,
    /// leave to the server.
    share_of_stages_beside_viewers: Option<f64>,
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

/// The model alone.
#[derive(Debug, Serialize)]
pub(crate) struct ModelReport {
    model: String,
    workers: usize,
    threads_per_worker: usize,
    before_per_s: f64,
    after_per_s: f64,
    stages: Stages,
    /// Frames a second if every processor did nothing but these stages.
    stages_per_s: f64,
}

impl ModelReport {
    pub(crate) fn new(model: &Alone, before_per_s: f64, after_per_s: f64, stages: Stages) -> Self {
        Self {
            model: model.model_id().to_owned(),
            workers: model.workers(),
            threads_per_worker: model.intra_threads(),
            before_per_s,
            after_per_s,
            stages,
            stages_per_s: processors() as f64 * 1e3 / stages.sum_ms().max(1e-9),
        }
    }

    fn mean_per_s(&self) -> f64 {
        (self.before_per_s + self.after_per_s) / 2.0
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
            share_of_model: model.as_ref().map(|model| requests_per_s / model.mean_per_s().max(1e-9)),
            stages_of_server_time: model
                .as_ref()
                .zip(measured.server)
                .map(|(model, server)| model.stages.sum_ms() * requests as f64 / (server.cpu_s * 1e3).max(1e-9)),
            share_of_stages_beside_viewers: model.as_ref().zip(measured.viewers).map(|(model, viewers)| {
                let left = processors() as f64 - viewers.cpu_s / measured.seconds.max(1e-9);
                requests_per_s / (model.stages_per_s * left / processors() as f64).max(1e-9)
            }),
            share_of_stages: model.as_ref().map(|model| requests_per_s / model.stages_per_s.max(1e-9)),
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
        let ModelReport { model: name, workers, threads_per_worker, before_per_s, after_per_s, .. } = model;
        let setup = format!("{workers} workers of {threads_per_worker} threads");
        writeln!(text, "model alone      {before_per_s:.1} /s before, {after_per_s:.1} /s after ({name}, {setup})")?;
        let Stages { decode_ms, fingerprint_ms, resize_ms, inference_ms, .. } = model.stages;
        let stages = format!("decode {decode_ms:.2} + fingerprint {fingerprint_ms:.2} + resize {resize_ms:.2}");
        let limit = model.stages_per_s;
        writeln!(text, "on one thread    {stages} + inference {inference_ms:.2} ms: at most {limit:.1} /s here")?;
        let percent = |share: Option<f64>| share.unwrap_or_default() * 100.0;
        let (of_model, of_stages) = (percent(self.share_of_model), percent(self.share_of_stages));
        let beside = percent(self.share_of_stages_beside_viewers);
        writeln!(
            text,
            "share            {of_model:.1} % of the model alone, {of_stages:.1} % of what the stages allow"
        )?;
        writeln!(
            text,
            "                 {beside:.1} % of what they allow on the processor time that the viewers leave"
        )?;
        let of_time = percent(self.stages_of_server_time);
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

/// What can be checked without measuring anything.
pub(crate) fn check() -> Result<(), Failure> {
    let latency = Latency::of((1..=1_000).rev().map(|ms| ms * 1_000).collect()).ok_or("no latencies")?;
    let expected = Latency { requests: 1_000, p50_ms: 500.0, p90_ms: 900.0, p99_ms: 990.0, max_ms: 1_000.0 };
    if latency == expected && Latency::of(Vec::new()).is_none() && Latency::of(vec![7]).is_some() {
        Ok(())
    } else {
        Err(format!("{latency:?} is not {expected:?}").into())
    }
}
