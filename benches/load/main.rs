//! How much can one server do? A load harness: `cargo bench --bench load -- frames --help`
//!
//! Starts a server of its own with a made-up catalogue (or drives one that runs), lets simulated viewers ask as fast as
//! they get answers, one connection each, and prints throughput, latencies, errors and what the server cost. With
//! frames it also measures, in the same run and with the same model, workers and threads, what the model does alone, and
//! what the other stages take on one thread: the most that any server on this machine could reach. For durable events
//! there is a mode of its own, which measures the disk in the same run.
//!
//! Viewers and server share the machine; the report says how much processor time each took.

mod connection;
mod drive;
mod durability;
mod frames;
mod live;
mod mixed;
mod model;
mod overload;
mod process;
mod replay;
mod report;
mod server;
mod world;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::drive::{Load, Measured, drive};
use crate::frames::Frame;
use crate::report::{ModelReport, Report};
use crate::server::{Address, OwnServer};
use crate::world::World;

/// As the server has it: in a replay without a wire it is this program that answers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whether somebody wants the program to end; the server must not outlive it.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whatever goes wrong ends a benchmark.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What viewers ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// A frame in, three lists out
    Frames,
    /// Three lists for sessions that go on, and events between them; no frames
    Lists,
    /// Events only
    Events,
    /// Events only, from several numbers of clients and in batches of several sizes, beside the disk alone and Redis
    Durability,
    /// Live sessions, a frame a second each; one in twenty stalls, vanishes, talks garbage or floods
    Live,
    /// Live sessions alone, and then beside other requests (`--overload` times what the server can answer) and imports
    Mixed,
    /// Three lists for each step of visits, on a server that has learned a log of clicks, beside Serenade
    Replay,
}

/// Drives a server and says how it did
#[derive(Debug, Parser)]
#[command(name = "load", max_term_width = 110)]
pub(crate) struct Args {
    /// What viewers ask for; without, nothing is measured
    mode: Option<Mode>,
    /// A server that runs already; without, one is started with a catalogue of its own
    #[arg(long, value_name = "URL", requires = "key_file")]
    url: Option<String>,
    /// With --url: file with an API key that has the scopes `recommend` and `ingest`
    #[arg(long, value_name = "FILE", requires = "url")]
    key_file: Option<PathBuf>,
    /// With --url: the certificate to trust, instead of the system's
    #[arg(long, value_name = "FILE", requires = "url")]
    cacert: Option<PathBuf>,
    /// A setting of the server that is started, for example `session.near_duplicate_difference=0`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "url")]
    overrides: Vec<String>,
    /// Folder for the data of the server that is started, kept for the next run; without, one that is removed
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    data_dir: Option<PathBuf>,
    /// Items in the catalogue; each has a picture, which the model has to look at once. With --url, the catalogue that
    /// is there should be one that this program made
    #[arg(long, default_value_t = 10_000)]
    items: usize,
    /// Folder with the frames to send, in the order of their names; without, 240 frames are painted, 640 × 360
    #[arg(long, value_name = "DIR")]
    frames: Option<PathBuf>,
    /// With frames: each comes this many times in a row, as of a film that stands still
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    repeat: u16,
    /// With --repeat: as another file of the same picture each time, compressed anew
    #[arg(long)]
    recompressed: bool,
    /// With frames and mixed: finds out how many can be answered, and then lets this many times as many come, whether or not those
    /// before have been answered
    #[arg(long, value_name = "TIMES", value_parser = seconds)]
    overload: Option<f64>,
    /// Viewers, each with a connection of its own and one request at a time
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=4096))]
    concurrency: u16,
    /// Seconds that are measured
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    duration_s: f64,
    /// Seconds before that
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    warmup_s: f64,
    /// With frames: measures so many times, each time between two measurements of the model and the stages alone; with --overload, what
    /// comes at half of what can be answered
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    turns: u16,
    /// With frames: seconds for each measurement of the model alone; 0 leaves them out, and those of the stages
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    model_s: f64,
    /// Events in one request of the mode `events`
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    events_per_request: u16,
    /// With durability: numbers of clients
    #[arg(long, value_delimiter = ',', default_value = "1,16,64", value_parser = clap::value_parser!(u16).range(1..=1024))]
    clients: Vec<u16>,
    /// With durability: numbers of events in a request
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000", value_parser = clap::value_parser!(u16).range(1..=1000))]
    batches: Vec<u16>,
    /// With durability: event ids by chance only, instead of ids that begin with the time
    #[arg(long)]
    random_ids: bool,
    /// With replay: clicks that are learned, made up from a seed, on `--items` items
    #[arg(long, default_value_t = 1_000_000)]
    clicks: usize,
    /// With replay: a log to learn instead, tab-separated `SessionId ItemId Time`
    #[arg(long, value_name = "FILE", requires = "visits")]
    log: Option<PathBuf>,
    /// With replay: the log whose sessions are replayed
    #[arg(long, value_name = "FILE", requires = "log")]
    visits: Option<PathBuf>,
    /// With replay: items in a list
    #[arg(long, default_value_t = 20)]
    count: usize,
    /// With replay: ask the engine in this process, without a wire, on what an earlier run has left in `--data-dir`
    #[arg(long, requires = "data_dir")]
    in_process: bool,
    /// With replay: Serenade's program `serving`, measured beside
    #[arg(long, value_name = "PROGRAM")]
    serenade: Option<PathBuf>,
    /// With replay: Serenade's sample size m, neighbours k, and latest items of a session
    #[arg(long, value_delimiter = ',', default_value = "500,500,2")]
    serenade_settings: Vec<usize>,
    /// Speak HTTP/2 instead of HTTP/1.1
    #[arg(long)]
    http2: bool,
    /// File for the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    /// Given by test runners
    #[arg(long, hide = true)]
    test: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(text) => {
            let _ = write!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<String, Failure> {
    let Some(mode) = args.mode.filter(|_| !args.test) else {
        report::check()?;
        durability::check()?;
        replay::check()?;
        live::check()?;
        return Ok("nothing was measured; name a mode, for example `cargo bench --bench load -- frames`\n".into());
    };
    // The provider may be set already; either way there is one afterwards.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    tokio.spawn(listen());
    if args.in_process {
        let inside = replay::run_inside(args)?;
        write_json(args, &inside)?;
        return Ok(inside.text());
    }
    let world = World::new(args.items);
    let frames = match mode {
        Mode::Frames | Mode::Live | Mode::Mixed => frames_of(args, &world)?,
        Mode::Lists | Mode::Events | Mode::Durability | Mode::Replay => Vec::new(),
    };

    let own = if args.url.is_none() { Some(OwnServer::start(args)?) } else { None };
    let address = match (&own, &args.url) {
        (Some(own), _) => own.address().clone(),
        (None, Some(url)) => Address::of(url, args.key_file.as_deref(), args.cacert.as_deref())?,
        (None, None) => return Err("there is no server".into()),
    };
    tokio.block_on(unless_interrupted(address.wait_until_ready()))?;
    if mode == Mode::Replay {
        let report = replay::run(args, own.as_ref().ok_or("a replay needs a server of this program's own")?)?;
        write_json(args, &report)?;
        return Ok(report.text());
    }
    if let Some(own) = &own {
        tokio.block_on(unless_interrupted(own.fill(&world)))?;
    }

    if mode == Mode::Durability {
        let own = own.as_ref().ok_or("durability is measured on a server of this program's own")?;
        let report = durability::run(args, own, world.item_ids())?;
        write_json(args, &report)?;
        return Ok(report.text());
    }

    let load = Load {
        mode,
        address: &address,
        server: own.as_ref().map(OwnServer::process_id),
        viewers: args.concurrency,
        warmup: Duration::from_secs_f64(args.warmup_s),
        duration: Duration::from_secs_f64(args.duration_s),
        events_per_request: args.events_per_request,
        http2: args.http2,
    };
    if mode == Mode::Live {
        let report = tokio.block_on(unless_interrupted(live::run(&load, frames, true)))?;
        write_json(args, &report)?;
        return Ok(report.text());
    }
    if mode == Mode::Mixed {
        let factor = args.overload.unwrap_or(3.0);
        let report = tokio.block_on(unless_interrupted(mixed::run(&load, frames, world.item_ids(), factor)))?;
        write_json(args, &report)?;
        return Ok(report.text());
    }
    let model = (mode == Mode::Frames && args.model_s > 0.0).then(|| model::Alone::load(args)).transpose()?;
    if let Some(factor) = args.overload.filter(|_| mode == Mode::Frames) {
        let plan = overload::Plan { factor, turns: args.turns, model: model.as_ref() };
        let report = tokio.block_on(unless_interrupted(overload::run(&load, frames, &plan)))?;
        write_json(args, &report)?;
        return Ok(report.text());
    }

    let report = in_turns(args, &tokio, &load, model.as_ref(), &frames, &world)?;
    write_json(args, &report)?;
    Ok(report.text())
}

/// Lets the viewers ask `args.turns` times, with the yardsticks before, between and after.
fn in_turns(
    args: &Args,
    tokio: &tokio::runtime::Runtime,
    load: &Load<'_>,
    model: Option<&model::Alone>,
    frames: &[Frame],
    world: &World,
) -> Result<Report, Failure> {
    let yardstick = || model.map(|model| model.yardstick(tokio, frames, args.model_s)).transpose();
    let (mut measured, mut rates) = (Measured::default(), Vec::new());
    let mut yardsticks = Vec::from_iter(yardstick()?);
    for _ in 0..args.turns {
        note("load");
        let turn = tokio.block_on(unless_interrupted(drive(load, frames.to_vec(), world.item_ids())))?;
        rates.push(turn.requests() as f64 / turn.seconds.max(1e-9));
        measured.follow(turn);
        yardsticks.extend(yardstick()?);
    }
    let alone = model.map(|model| ModelReport::new(model, yardsticks, &rates));
    Ok(Report::new(args, load.mode, frames.len(), measured, alone))
}

fn write_json(args: &Args, report: &impl serde::Serialize) -> Result<(), Failure> {
    match &args.json {
        Some(file) => Ok(std::fs::write(file, serde_json::to_vec_pretty(report)?)?),
        None => Ok(()),
    }
}

fn frames_of(args: &Args, world: &World) -> Result<Vec<Frame>, Failure> {
    let frames = match &args.frames {
        Some(dir) => frames::read(dir)?,
        None => {
            note("painting frames");
            frames::paint(world)?
        }
    };
    frames::repeated(frames, args.repeat, args.recompressed)
}

/// Whether the program was told to end.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

async fn listen() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupt = tokio::signal::ctrl_c() => interrupt?,
    }
    INTERRUPTED.store(true, Ordering::Relaxed);
    Ok(())
}

async fn unless_interrupted<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let asked = async {
        while !interrupted() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        done = work => done,
        () = asked => Err("interrupted".into()),
    }
}

/// Says on standard error what takes its time.
pub(crate) fn note(what: &str) {
    let _ = writeln!(std::io::stderr(), "load: {what} …");
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("must be 0 to 3600 seconds".into()),
    }
}
