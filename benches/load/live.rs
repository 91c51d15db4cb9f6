//! How many live sessions does a server bear, and for how long? Clients that send a frame a second over a WebSocket each, some of
//! which misbehave.

mod session;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use self::session::{Client, Door, Manners, Tally};
use crate::drive::Load;
use crate::frames::Frame;
use crate::process::{machine_cpu_s, usage};
use crate::report::{Latency, processors, times};
use crate::{Failure, interrupted, note};

/// One client in so many misbehaves, each kind in turn.
const MISBEHAVE_EVERY: usize = 20;
const MEMORY_EVERY: Duration = Duration::from_secs(5);

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct LiveReport {
    sessions: u16,
    misbehaving: usize,
    seconds: f64,
    processors: usize,
    frames_sent: u64,
    /// From a frame to the word that it was looked at, for every frame.
    pub(crate) frame_to_told: Option<Latency>,
    /// From a frame to lists that it changed.
    frame_to_push: Option<Latency>,
    frames_dropped: u64,
    near_duplicates: u64,
    degraded: u64,
    errors: u64,
    /// Connections that ended though the client had behaved.
    lost: u64,
    /// Connections of those who misbehaved, which ended of it.
    ended: u64,
    resumed: u64,
    forgotten: u64,
    /// Processors in use by the server, by this program, and by everybody on the machine.
    server_busy: Option<f64>,
    clients_busy: Option<f64>,
    machine_busy: Option<f64>,
    /// Seconds since the beginning of the measured time, and mebibytes.
    memory: Vec<(f64, f64)>,
    /// The last tenth of the measured time against the first, as a share.
    memory_growth: Option<f64>,
}

/// Lets clients watch, and comes back when the time is over.
pub(crate) async fn run(load: &Load<'_>, frames: Vec<Frame>, misbehave: bool) -> Result<LiveReport, Failure> {
    let door = Door::of(load.address)?;
    let frames = Arc::new(frames);
    let counted_from = Instant::now() + load.warmup;
    let until = counted_from + load.duration;
    let run = std::process::id();
    let manners = |number: usize| match number / MISBEHAVE_EVERY % 4 {
        _ if !misbehave || number % MISBEHAVE_EVERY != MISBEHAVE_EVERY - 1 => Manners::Good,
        0 => Manners::Stalls,
        1 => Manners::Vanishes,
        2 => Manners::TalksGarbage,
        _ => Manners::Floods,
    };
    let sessions = usize::from(load.viewers);
    note(&format!("{sessions} live sessions"));
    let clients: Vec<_> = (0..sessions)
        .map(|number| {
            let (door, frames, name) = (door.clone(), Arc::clone(&frames), format!("live-{run:x}-{number}"));
            let manners = manners(number);
            tokio::spawn(Client { door, name, number, manners, frames, counted_from, until }.run())
        })
        .collect();
    tokio::time::sleep_until(counted_from.into()).await;
    let own = std::process::id();
    let now = || (load.server.and_then(usage), usage(own), machine_cpu_s(), Instant::now());
    let before = now();
    let mut memory = Vec::new();
    while Instant::now() < until && !interrupted() {
        if let Some(usage) = load.server.and_then(usage) {
            let mib = usage.resident_bytes as f64 / f64::from(1 << 20);
            memory.push((before.3.elapsed().as_secs_f64(), mib));
        }
        tokio::time::sleep_until((Instant::now() + MEMORY_EVERY).min(until).into()).await;
    }
    let after = now();
    let seconds = (after.3 - before.3).as_secs_f64();
    let mut all = Tally::default();
    for client in clients {
        all.join(client.await?);
    }
    let busy = |before: Option<f64>, after: Option<f64>| Some((after? - before?) / seconds.max(1e-9));
    Ok(LiveReport {
        sessions: load.viewers,
        misbehaving: (0..sessions).filter(|&number| manners(number) != Manners::Good).count(),
        seconds,
        processors: processors(),
        frames_sent: all.sent,
        frame_to_told: Latency::of(all.told_us),
        frame_to_push: Latency::of(all.push_us),
        frames_dropped: all.dropped,
        near_duplicates: all.near_duplicates,
        degraded: all.degraded,
        errors: all.errors,
        lost: all.lost,
        ended: all.ended,
        resumed: all.resumed,
        forgotten: all.forgotten,
        server_busy: busy(before.0.map(|u| u.cpu_s), after.0.map(|u| u.cpu_s)),
        clients_busy: busy(before.1.map(|u| u.cpu_s), after.1.map(|u| u.cpu_s)),
        machine_busy: busy(before.2, after.2),
        memory_growth: growth(&memory),
        memory,
    })
}

/// How much more memory there was in the last tenth of the time than in the first, as a share.
fn growth(memory: &[(f64, f64)]) -> Option<f64> {
    let tenth = (memory.len() / 10).max(1);
    let mean = |part: &[(f64, f64)]| part.iter().map(|(_, mib)| mib).sum::<f64>() / part.len() as f64;
    let (first, last) = (memory.get(..tenth)?, memory.get(memory.len().checked_sub(tenth)?..)?);
    Some(mean(last) / mean(first).max(1e-9) - 1.0)
}

impl LiveReport {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Self { sessions, misbehaving, seconds, processors, frames_sent, .. } = self;
        writeln!(
            text,
            "live: {sessions} sessions ({misbehaving} misbehave), {seconds:.0} s, {processors} processors, {:.1} frames/s sent",
            *frames_sent as f64 / seconds.max(1e-9)
        )?;
        writeln!(text, "frame to told    {}", times(&self.frame_to_told))?;
        writeln!(text, "frame to push    {}", times(&self.frame_to_push))?;
        let share = |count: u64| 100.0 * count as f64 / (*frames_sent).max(1) as f64;
        writeln!(
            text,
            "frames           {frames_sent} sent, {:.2} % dropped for later ones, {:.1} % near-duplicates",
            share(self.frames_dropped),
            share(self.near_duplicates)
        )?;
        let Self { lost, ended, resumed, forgotten, errors, degraded, .. } = self;
        writeln!(
            text,
            "connections      {lost} lost, {ended} ended for misbehaving, {resumed} resumed, {forgotten} forgotten"
        )?;
        writeln!(text, "errors           {errors}; degraded {degraded}")?;
        let busy = |busy: Option<f64>| busy.map_or("?".to_owned(), |busy| format!("{busy:.2}"));
        let (server, clients, machine) = (busy(self.server_busy), busy(self.clients_busy), busy(self.machine_busy));
        writeln!(text, "processors       server {server}, clients {clients}, everybody {machine}")?;
        if let (Some((_, first)), Some((_, last)), Some(growth)) =
            (self.memory.first(), self.memory.last(), self.memory_growth)
        {
            writeln!(
                text,
                "memory           {first:.1} MiB at first, {last:.1} at last, {:+.2} % (tenths)",
                growth * 100.0
            )?;
        }
        Ok(())
    }
}

/// What can be checked without measuring anything.
pub(crate) fn check() -> Result<(), Failure> {
    let memory: Vec<(f64, f64)> = (0..40).map(|n| (f64::from(n), 100.0 + f64::from(n / 36))).collect();
    match growth(&memory) {
        Some(share) if (share - 0.01).abs() < 1e-9 && growth(&[]).is_none() => Ok(()),
        other => Err(format!("{other:?} is no growth of a hundredth").into()),
    }
}
