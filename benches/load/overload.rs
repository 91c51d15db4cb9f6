//! What happens to viewers when there are too many? An open loop: requests come when they come, whether or not the server
//! has answered the ones before.
//!
//! What the server can do is found out first, by viewers that wait for their answers; then the same frames come at just
//! that rate, and then at a multiple of it. Those who are let in and those who are refused are counted apart.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use serde::Serialize;

use crate::drive::{Load, drive};
use crate::frames::Frame;
use crate::model::Alone;
use crate::process::usage;
use crate::report::{Latency, median, times};
use crate::{Failure, note};

/// Connections over which requests come: as many can be on their way at once.
const CONNECTIONS: usize = 256;
/// Until all connections stand.
const SETTLE: Duration = Duration::from_secs(1);

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct OverloadReport {
    /// Frames a second that `viewers` got answers to, each waiting for its own.
    capacity_per_s: f64,
    viewers: u16,
    at_capacity_closed_loop: Option<Latency>,
    phases: Vec<Phase>,
    /// Turns at half of what the server can do; the first is a phase as well.
    half: Vec<Half>,
}

/// Half of what the server can do, beside what one inference took just before and after, in the mean of both.
#[derive(Debug, Serialize)]
struct Half {
    admitted: Latency,
    inference_ms: f64,
    p50_inferences: f64,
    p99_inferences: f64,
}

/// What is to be measured.
pub(crate) struct Plan<'a> {
    /// How much comes in the end, as a multiple of what the server can do.
    pub(crate) factor: f64,
    /// How often half of it comes.
    pub(crate) turns: u16,
    /// The model, if half of the load is to be measured beside it.
    pub(crate) model: Option<&'a Alone>,
}

/// Some seconds at one rate.
#[derive(Debug, Serialize)]
struct Phase {
    /// The rate as a multiple of what the server can do.
    times_capacity: f64,
    sent_per_s: f64,
    answered_per_s: f64,
    admitted: Option<Latency>,
    refused: Option<Latency>,
    /// Refusals that say when to come back.
    with_retry_after: u64,
    /// What was neither answered nor refused with 429 or 503.
    broken: u64,
    /// How late requests were sent, at the 99th percentile: the harness's own slowness.
    sent_late_p99_ms: f64,
    resident_mib: Option<f64>,
}

/// One answer.
enum Outcome {
    Answered,
    Refused { retry_after: bool },
    Broken,
}

/// Microseconds of one task's requests.
#[derive(Default)]
struct Tally {
    admitted_us: Vec<u32>,
    refused_us: Vec<u32>,
    late_us: Vec<u32>,
    with_retry_after: u64,
    broken: u64,
}

/// Finds out what the server can do, and then lets half of it, as much and `plan.factor` times as much come.
pub(crate) async fn run(load: &Load<'_>, frames: Vec<Frame>, plan: &Plan<'_>) -> Result<OverloadReport, Failure> {
    note("what it can do");
    let mut closed = drive(load, frames.clone(), Vec::new()).await?;
    let latencies = closed.latencies_us.remove("frame").unwrap_or_default();
    let capacity_per_s = latencies.len() as f64 / closed.seconds.max(1e-9);
    if latencies.is_empty() {
        return Err("no frame was answered".into());
    }
    let frames = Arc::new(frames);
    let mut clients = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        clients.push(load.address.client(load.http2)?);
    }
    let at = async |times: f64| {
        note(&format!("{times} times that"));
        phase(load, &clients, &frames, times, times * capacity_per_s).await
    };
    // Nothing else goes on in this process meanwhile.
    let inference_ms = || plan.model.map(|model| Ok::<_, Failure>(model.stages(&frames, 1)?.inference_ms)).transpose();
    let (mut phases, mut half, mut before) = (Vec::new(), Vec::new(), inference_ms()?);
    for turn in 0..plan.turns {
        let phase = at(0.5).await?;
        let after = inference_ms()?;
        if let (Some(before), Some(after), Some(admitted)) = (before, after, phase.admitted) {
            let inference_ms = f64::midpoint(before, after);
            let inferences = |ms: f64| ms / inference_ms.max(1e-9);
            let (p50_inferences, p99_inferences) = (inferences(admitted.p50_ms), inferences(admitted.p99_ms));
            half.push(Half { admitted, inference_ms, p50_inferences, p99_inferences });
        }
        before = after;
        if turn == 0 {
            phases.push(phase);
        }
    }
    for times in [1.0, plan.factor] {
        phases.push(at(times).await?);
    }
    Ok(OverloadReport {
        capacity_per_s,
        viewers: load.viewers,
        at_capacity_closed_loop: Latency::of(latencies),
        phases,
        half,
    })
}

async fn phase(
    load: &Load<'_>,
    clients: &[reqwest::Client],
    frames: &Arc<Vec<Frame>>,
    times_capacity: f64,
    rate_per_s: f64,
) -> Result<Phase, Failure> {
    let base = &load.address.base;
    let hello = |client: &reqwest::Client| client.get(format!("{base}/livez")).send();
    futures_util::future::try_join_all(clients.iter().map(hello)).await?;
    let begin = Instant::now() + SETTLE;
    let counted_from = begin + load.warmup;
    let until = counted_from + load.duration;
    let next = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(number, client)| {
            let (client, frames, next) = (client.clone(), Arc::clone(frames), Arc::clone(&next));
            let url = format!("{base}/v1/sessions/open-{times_capacity}-{number}/frames?recommend=true&count=10");
            tokio::spawn(async move {
                let mut tally = Tally::default();
                for step in 0.. {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    let due = begin + Duration::from_secs_f64(turn as f64 / rate_per_s);
                    if due >= until {
                        break;
                    }
                    tokio::time::sleep_until(due.into()).await;
                    let Some(frame) = frames.get((number * 7 + step) % frames.len()) else { break };
                    let asked = Instant::now();
                    let outcome = ask(&client, &url, frame).await;
                    if due >= counted_from {
                        tally.note(outcome, asked.elapsed(), asked - due);
                    }
                }
                tally
            })
        })
        .collect();
    let mut all = Tally::default();
    for task in tasks {
        all.join(task.await?);
    }
    let seconds = load.duration.as_secs_f64().max(1e-9);
    let sent = all.admitted_us.len() + all.refused_us.len() + all.broken as usize;
    Ok(Phase {
        times_capacity,
        sent_per_s: sent as f64 / seconds,
        answered_per_s: all.admitted_us.len() as f64 / seconds,
        admitted: Latency::of(all.admitted_us),
        refused: Latency::of(all.refused_us),
        with_retry_after: all.with_retry_after,
        broken: all.broken,
        sent_late_p99_ms: Latency::of(all.late_us).map_or(0.0, |late| late.p99_ms),
        resident_mib: load.server.and_then(usage).map(|usage| usage.resident_bytes as f64 / f64::from(1 << 20)),
    })
}

async fn ask(client: &reqwest::Client, url: &str, frame: &Frame) -> Outcome {
    let url = format!("{url}&at_s={}", frame.at_s);
    let request = client.post(url).header(CONTENT_TYPE, "application/octet-stream").body(frame.bytes.clone());
    let Ok(answer) = request.send().await else { return Outcome::Broken };
    let (status, retry_after) = (answer.status(), answer.headers().contains_key(RETRY_AFTER));
    if answer.bytes().await.is_err() {
        return Outcome::Broken;
    }
    match status {
        StatusCode::OK => Outcome::Answered,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Outcome::Refused { retry_after },
        _ => Outcome::Broken,
    }
}

impl Tally {
    fn note(&mut self, outcome: Outcome, took: Duration, late: Duration) {
        let us = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.late_us.push(us(late));
        match outcome {
            Outcome::Answered => self.admitted_us.push(us(took)),
            Outcome::Refused { retry_after } => {
                self.refused_us.push(us(took));
                self.with_retry_after += u64::from(retry_after);
            }
            Outcome::Broken => self.broken += 1,
        }
    }

    fn join(&mut self, mut other: Self) {
        self.admitted_us.append(&mut other.admitted_us);
        self.refused_us.append(&mut other.refused_us);
        self.late_us.append(&mut other.late_us);
        self.with_retry_after += other.with_retry_after;
        self.broken += other.broken;
    }
}

impl OverloadReport {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Self { capacity_per_s, viewers, at_capacity_closed_loop, phases, half } = self;
        writeln!(text, "capacity         {capacity_per_s:.1} frames/s: {viewers} viewers that wait for their answers")?;
        writeln!(text, "                 {}", times(at_capacity_closed_loop))?;
        for phase in phases {
            let Phase { times_capacity, sent_per_s, answered_per_s, sent_late_p99_ms, .. } = phase;
            let late = format!("sent at most {sent_late_p99_ms:.1} ms late (p99)");
            writeln!(
                text,
                "{times_capacity} x capacity   {sent_per_s:.1} sent/s, {answered_per_s:.1} answered/s, {late}"
            )?;
            writeln!(text, "  let in         {}", times(&phase.admitted))?;
            let (with, broken) = (phase.with_retry_after, phase.broken);
            writeln!(text, "  refused        {}, {with} with Retry-After; broken {broken}", times(&phase.refused))?;
            if let Some(mib) = phase.resident_mib {
                writeln!(text, "  memory         {mib:.0} MiB resident at the end")?;
            }
        }
        for Half { admitted, inference_ms, p50_inferences, p99_inferences } in half {
            let times = format!("p50 {:.1}  p99 {:.1} ms", admitted.p50_ms, admitted.p99_ms);
            writeln!(
                text,
                "half of it       {times}: {p50_inferences:.2} and {p99_inferences:.2} times an inference ({inference_ms:.2} ms)"
            )?;
        }
        if half.len() > 1 {
            let p99 = median(half.iter().map(|half| half.p99_inferences).collect());
            writeln!(text, "                 p99 in the median {p99:.2} inferences")?;
        }
        let p99 = |phase: &Phase| phase.admitted.map(|admitted| admitted.p99_ms);
        if let (Some(at_capacity), Some(beyond)) = (phases.get(1).and_then(p99), phases.last().and_then(p99)) {
            writeln!(text, "p99 of those let in: {:.2} times that at capacity", beyond / at_capacity.max(1e-9))?;
        }
        Ok(())
    }
}
