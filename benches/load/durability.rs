//! How fast do events become durable? Single ones and batches from few and many clients, beside what the same disk does
//! alone and, where there is one, beside Redis with `appendfsync always`; all in one run.
//!
//! Clients share the machine with the server, so they are as cheap as can be: a thread and a connection each, requests
//! written by hand. Each waits for its answer before it sends again.

mod disk;
mod events;
mod redis;
mod report;

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier, OnceLock};
use std::time::{Duration, Instant};

use upnext::domain::{Clock, SystemClock};

use self::events::{EventWriter, Ids};
use self::report::{Cell, Commits, Cost, Disk, Report};
use crate::connection::{Connection, Peer};
use crate::process::{machine_cpu_s, usage};
use crate::server::OwnServer;
use crate::{Args, Failure, interrupted, note};

/// Of a client that was told off: an answer at once would only be the next one.
const PAUSE: Duration = Duration::from_millis(5);

/// Measures everything, on a server that has its catalogue.
pub(crate) fn run(args: &Args, server: &OwnServer, item_ids: Vec<String>) -> Result<Report, Failure> {
    let folder = server.dir().join("durability");
    std::fs::create_dir_all(&folder)?;
    let measured = measure(args, server, &Arc::new(item_ids), &folder);
    // What is left of a failed run would do no harm.
    let _ = std::fs::remove_dir_all(&folder);
    measured
}

fn measure(
    args: &Args,
    server: &OwnServer,
    items: &Arc<Vec<String>>,
    folder: &std::path::Path,
) -> Result<Report, Failure> {
    note("the disk alone");
    let before = Disk::measure(folder, args.duration_s)?;
    let peer = Arc::new(Peer::new(server.address())?);
    let ids = if args.random_ids { Ids::Random } else { Ids::UuidV7 };
    let mut cells = Vec::new();
    for &events in &args.batches {
        for &clients in &args.clients {
            note(&format!("{clients} clients, {events} events a request"));
            // No id may be used twice, also not on a folder that is kept.
            let seed = SystemClock.now().0 as u64;
            let writer = |client: u16| EventWriter::new(ids, seed, client, events, Arc::clone(items));
            cells.push(cell(args, server.process_id(), &peer, clients, events, &writer)?);
        }
    }
    note("Redis");
    let redis = redis::measure(folder, args.duration_s, items)?;
    note("the disk alone, again");
    let after = Disk::measure(folder, args.duration_s)?;
    Ok(Report::new(args, [before, after], cells, redis))
}

/// What one client saw.
#[derive(Default)]
struct Seen {
    latencies_us: Vec<u32>,
    /// Events that are durable now.
    stored: u64,
    /// Requests that failed, by status.
    errors: BTreeMap<String, u64>,
}

/// So many clients for so long.
fn cell(
    args: &Args,
    server: u32,
    peer: &Arc<Peer>,
    clients: u16,
    events: u16,
    writer: &impl Fn(u16) -> EventWriter,
) -> Result<Cell, Failure> {
    let connected = Arc::new(Barrier::new(usize::from(clients) + 1));
    let span: Arc<OnceLock<(Instant, Instant)>> = Arc::default();
    let mut operator = Connection::open(peer)?;
    let mut threads = Vec::with_capacity(usize::from(clients));
    for client in 0..clients {
        let (peer, connected, span, writer) = (Arc::clone(peer), connected.clone(), span.clone(), writer(client));
        threads.push(std::thread::Builder::new().name(format!("client-{client}")).spawn(move || {
            let connection = Connection::open(&peer);
            connected.wait();
            connected.wait();
            let (counted_from, until) = span.get().copied().ok_or("nobody said when to begin")?;
            send(connection?, writer, counted_from, until)
        })?);
    }
    connected.wait();
    let counted_from = Instant::now() + Duration::from_secs_f64(args.warmup_s);
    let until = counted_from + Duration::from_secs_f64(args.duration_s);
    let (counted_from, until) = *span.get_or_init(|| (counted_from, until));
    connected.wait();

    let mut now = |at: Instant| -> Result<_, Failure> {
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        let commits = Commits::read(&mut operator)?;
        Ok((commits, [usage(server), usage(std::process::id())], machine_cpu_s(), Instant::now()))
    };
    let (before, after) = (now(counted_from), now(until));
    let mut all = Seen::default();
    for thread in threads {
        let seen = thread.join().map_err(|_| "a client panicked")??;
        all.latencies_us.extend(seen.latencies_us);
        all.stored += seen.stored;
        for (status, count) in seen.errors {
            *all.errors.entry(status).or_default() += count;
        }
    }
    if interrupted() {
        return Err("interrupted".into());
    }
    let ((commits_before, usage_before, machine_before, began), (commits_after, usage_after, machine_after, ended)) =
        (before?, after?);
    let cpu_s = |n: usize| Some(usage_after[n]?.cpu_s - usage_before[n]?.cpu_s);
    let cost = Cost {
        seconds: (ended - began).as_secs_f64(),
        server_cpu_s: cpu_s(0),
        clients_cpu_s: cpu_s(1),
        machine_cpu_s: machine_after.zip(machine_before).map(|(after, before)| after - before),
        commits: commits_after.since(commits_before),
    };
    Ok(Cell::new((clients, events), args.duration_s, all, &cost))
}

/// One client: the next request as soon as the last one is answered. Counts what was answered in the measured time.
fn send(
    mut connection: Connection,
    mut writer: EventWriter,
    counted_from: Instant,
    until: Instant,
) -> Result<Seen, Failure> {
    let (mut seen, mut body) = (Seen::default(), Vec::new());
    while Instant::now() < until && !interrupted() {
        body.clear();
        writer.write_request(&mut body)?;
        let asked = Instant::now();
        let (status, answer) = connection.post("/v1/events", &body)?;
        let answered = Instant::now();
        let counts = answered >= counted_from && answered <= until;
        if status == 200 {
            let stored = answer.windows(STORED.len()).filter(|window| *window == STORED).count() as u64;
            if counts {
                seen.latencies_us.push((answered - asked).as_micros().min(u128::from(u32::MAX)) as u32);
                seen.stored += stored;
            }
            if stored != u64::from(writer.events()) {
                *seen.errors.entry("not all were stored".into()).or_default() += 1;
            }
        } else {
            if counts {
                *seen.errors.entry(status.to_string()).or_default() += 1;
            }
            std::thread::sleep(PAUSE);
        }
    }
    Ok(seen)
}

/// What can be checked without measuring anything.
pub(crate) fn check() -> Result<(), Failure> {
    events::check()
}

/// How the answer says that an event is new and durable.
const STORED: &[u8] = b"\"status\":\"stored\"";
