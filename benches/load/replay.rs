//! How fast are lists for sessions that go on? Replays visits, request by request, on a server that has learned a log.
//!
//! Each request names a session and the item that it has turned to, and gets its lists for all horizons. Where the program
//! of another session-based recommender is given (`--serenade`, Serenade's `serving`), it learns the same log and answers
//! the same visits in the same run, over plain HTTP and with its one list, by the same clients. Clients share the machine
//! with the server, so they are as cheap as can be.

mod clicks;
mod inside;

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::time::{Duration, Instant};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use upnext::domain::{Clock, SystemClock};

use self::clicks::Clicks;
pub(crate) use self::inside::Inside;
use crate::connection::{Connection, Peer};
use crate::process::usage;
use crate::server::OwnServer;
use crate::{Args, Failure, interrupted, note};

const EVENTS_AT_ONCE: usize = 1_000;
const ITEMS_AT_ONCE: usize = 500;
/// In a kept folder: which clicks its server has learned.
const MARK: &str = "load-replay";
const SERENADE_PORT: u16 = 18_932;
/// Version 0.3.1 does not start without settings for a search that it does not make.
const SERENADE_UNUSED: &str = "[hyperparam]\ntraining_data_path = \"\"\ntest_data_path = \"\"\n\
    validation_data_path = \"\"\nnum_iterations = 1\nsave_records = false\nout_path = \"\"\n\
    enable_business_logic = false\nn_most_recent_sessions_range = \"[1,2]\"\nneighborhood_size_k_range = \"[1,2]\"\n\
    last_items_in_session_range = \"[1,2]\"\nidf_weighting_range = \"[0,1]\"\n";
/// After this many events it is known how long it takes until an answer has changed.
const EVENTS_THAT_CHANGE: usize = 2_000;
const MOST_QUESTIONS: usize = 50;
const START_TIMEOUT: Duration = Duration::from_secs(300);

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    clicks: usize,
    items: usize,
    resident_peak_mib: Option<f64>,
    cells: Vec<Cell>,
    changed: Changed,
}

/// From sending an event to having an answer that it has changed.
#[derive(Debug, Serialize)]
struct Changed {
    events: usize,
    p50_ms: f64,
    p99_ms: f64,
    /// Events after which no answer was another.
    never: usize,
}

/// One server, so many clients.
#[derive(Debug, Serialize)]
struct Cell {
    server: &'static str,
    clients: u16,
    requests_per_s: f64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    server_cpu_us: Option<f64>,
    resident_peak_mib: Option<f64>,
    errors: usize,
}

fn clicks_of(args: &Args) -> Result<Clicks, Failure> {
    note("clicks");
    match (&args.log, &args.visits) {
        (Some(log), Some(visits)) => Clicks::read(log, visits),
        (None, None) => Ok(Clicks::seeded(args.clicks, args.items)),
        _ => Err("--log and --visits go together".into()),
    }
}

/// Measures the engine alone, on the data that a server of an earlier run has learned in the kept folder.
pub(crate) fn run_inside(args: &Args) -> Result<Inside, Failure> {
    let dir = args.data_dir.as_deref().ok_or("name the folder of an earlier replay with --data-dir")?;
    let clicks = clicks_of(args)?;
    match std::fs::read_to_string(dir.join(MARK)) {
        Ok(text) if text == clicks.name() => inside::run(args, dir, &clicks),
        _ => Err(format!("{} has not {}; replay them first", dir.display(), clicks.name()).into()),
    }
}

/// Measures everything.
pub(crate) fn run(args: &Args, server: &OwnServer) -> Result<Report, Failure> {
    let clicks = Arc::new(clicks_of(args)?);
    fill(server, &clicks)?;
    let peer = Arc::new(Peer::new(server.address())?);
    let mut serenade = args.serenade.as_deref().map(|program| Serenade::start(program, args, &clicks)).transpose()?;
    let mut cells = Vec::new();
    for (round, &clients) in args.clients.iter().enumerate() {
        note(&format!("{clients} clients"));
        let path = |run: usize, session: usize, item: &str| {
            format!("/v1/recommendations?session_id=v{round}-{run}-{session}&item_id={item}&count={}", args.count)
        };
        cells.push(cell("upnext", args, &peer, server.process_id(), clients, &clicks, path)?);
        if let Some(serenade) = &mut serenade {
            let path = |run: usize, session: usize, item: &str| {
                format!("/v1/recommend?session_id=v{round}-{run}-{session}&user_consent=true&item_id={item}")
            };
            let peer = Arc::new(Peer::plain(SERENADE_PORT));
            cells.push(cell("serenade", args, &peer, serenade.child.id(), clients, &clicks, path)?);
        }
    }
    note("events that change answers");
    let changed = changed(&peer, &clicks)?;
    let peak = usage(server.process_id()).map(|usage| usage.resident_peak_bytes as f64 / 1_048_576.0);
    let learned = clicks.past.iter().map(Vec::len).sum();
    Ok(Report { clicks: learned, items: clicks.items.len(), resident_peak_mib: peak, cells, changed })
}

/// So many clients for so long.
fn cell(
    server: &'static str,
    args: &Args,
    peer: &Arc<Peer>,
    process: u32,
    clients: u16,
    clicks: &Arc<Clicks>,
    path: impl Fn(usize, usize, &str) -> String + Send + Sync,
) -> Result<Cell, Failure> {
    let connected = Barrier::new(usize::from(clients) + 1);
    let span: OnceLock<(Instant, Instant)> = OnceLock::new();
    let next = AtomicUsize::new(0);
    let run = std::process::id() as usize;
    let (mut latencies_us, mut errors) = (Vec::new(), 0);
    let mut cost = None;
    std::thread::scope(|scope| -> Result<(), Failure> {
        let mut threads = Vec::new();
        for _ in 0..clients {
            let (connected, span, next, path) = (&connected, &span, &next, &path);
            threads.push(scope.spawn(move || -> Result<(Vec<u32>, usize), Failure> {
                let connection = Connection::open(peer);
                connected.wait();
                connected.wait();
                let (from, until) = *span.get().ok_or("nobody said when to begin")?;
                let mut connection = connection?;
                let (mut latencies_us, mut errors) = (Vec::new(), 0);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let visit = &clicks.visits[number % clicks.visits.len()];
                    for &item in visit {
                        let asked = Instant::now();
                        if asked >= until || interrupted() {
                            return Ok((latencies_us, errors));
                        }
                        let item = clicks.items.get(item as usize).map_or("", String::as_str);
                        let (status, _) = connection.get(&path(run, number, item))?;
                        if asked >= from {
                            latencies_us.push(asked.elapsed().as_micros().min(u128::from(u32::MAX)) as u32);
                            errors += usize::from(status != 200);
                        }
                    }
                }
            }));
        }
        connected.wait();
        let from = Instant::now() + Duration::from_secs_f64(args.warmup_s);
        let (from, until) = *span.get_or_init(|| (from, from + Duration::from_secs_f64(args.duration_s)));
        connected.wait();
        let cpu_at = |at: Instant| {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            usage(process)
        };
        cost = cpu_at(from).zip(cpu_at(until));
        for thread in threads {
            let (latencies, wrong) = thread.join().map_err(|_| "a client panicked")??;
            latencies_us.extend(latencies);
            errors += wrong;
        }
        Ok(())
    })?;
    latencies_us.sort_unstable();
    let requests = latencies_us.len();
    let quantile = |q: f64| latencies_us.get((requests as f64 * q) as usize).map_or(0.0, |&us| f64::from(us) / 1e3);
    Ok(Cell {
        server,
        clients,
        requests_per_s: requests as f64 / args.duration_s,
        p50_ms: quantile(0.5),
        p90_ms: quantile(0.9),
        p99_ms: quantile(0.99),
        server_cpu_us: cost.map(|(before, after)| 1e6 * (after.cpu_s - before.cpu_s) / requests.max(1) as f64),
        resident_peak_mib: cost.map(|(_, after)| after.resident_peak_bytes as f64 / 1_048_576.0),
        errors,
    })
}

/// One viewer after another clicks and asks until the answer is another; nobody else is there.
fn changed(peer: &Peer, clicks: &Clicks) -> Result<Changed, Failure> {
    let mut connection = Connection::open(peer)?;
    let (mut latencies_us, mut never) = (Vec::new(), 0);
    let run = std::process::id();
    for (number, visit) in clicks.visits.iter().enumerate() {
        if latencies_us.len() + never >= EVENTS_THAT_CHANGE || interrupted() {
            break;
        }
        let path = format!("/v1/recommendations?session_id=c{run}-{number}&count=20");
        let mut lists = connection.get(&path).map(|(_, answer)| items_of(answer))?;
        for &item in visit {
            let item = clicks.items.get(item as usize).map_or("", String::as_str);
            let event = format!(
                "{{\"events\":[{{\"type\":\"click\",\"session_id\":\"c{run}-{number}\",\"item_id\":\"{item}\"}}]}}"
            );
            let sent = Instant::now();
            send(&mut connection, "/v1/events", "application/json", &event)?;
            let different = (0..MOST_QUESTIONS).any(|_| {
                let next = connection.get(&path).map(|(_, answer)| items_of(answer)).unwrap_or_default();
                let different = next != lists;
                lists = next;
                different
            });
            match different {
                true => latencies_us.push(sent.elapsed().as_micros() as f64),
                false => never += 1,
            }
        }
    }
    latencies_us.sort_unstable_by(f64::total_cmp);
    let events = latencies_us.len();
    let quantile = |q: f64| latencies_us.get((events as f64 * q) as usize).map_or(0.0, |us| us / 1e3);
    Ok(Changed { events, p50_ms: quantile(0.5), p99_ms: quantile(0.99), never })
}

/// The items of an answer, in order. (Its probabilities change with every millisecond that passes.)
fn items_of(answer: &[u8]) -> Vec<String> {
    let answer = String::from_utf8_lossy(answer);
    answer.split("\"item_id\":\"").skip(1).filter_map(|rest| Some(rest.split('"').next()?.to_owned())).collect()
}

/// Gives the server the items and the past, unless the folder has them from an earlier run.
fn fill(server: &OwnServer, clicks: &Clicks) -> Result<(), Failure> {
    let learned: usize = clicks.past.iter().map(Vec::len).sum();
    let (mark, what) = (server.dir().join(MARK), clicks.name());
    match std::fs::read_to_string(&mark) {
        Ok(text) if text == what => return Ok(()),
        Ok(other) => return Err(format!("{} has {other}, not {what}", server.dir().display()).into()),
        Err(_) => {}
    }
    note(&what);
    let mut connection = Connection::open(&Peer::new(server.address())?)?;
    let mut body = String::new();
    for some in clicks.items.chunks(ITEMS_AT_ONCE) {
        body.clear();
        for item in some {
            body.push_str(&format!("{{\"item_id\":\"{item}\",\"title\":\"\"}}\n"));
        }
        send(&mut connection, "/v1/items/batch", "application/x-ndjson", &body)?;
    }
    let begin = SystemClock.now().plus_seconds(-60.0 - clicks.span_s);
    // In the order of time, as they were made: what is learned depends on it.
    let mut order: Vec<(f64, u32, u32)> = Vec::with_capacity(learned);
    for (session, past) in clicks.past.iter().enumerate() {
        order.extend(past.iter().enumerate().map(|(place, &(_, at))| (at, session as u32, place as u32)));
    }
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    for some in order.chunks(EVENTS_AT_ONCE) {
        body.clear();
        body.push_str("{\"events\":[");
        for (n, &(at, session, place)) in some.iter().enumerate() {
            let item = clicks.past[session as usize][place as usize].0;
            let at = begin.plus_seconds(at);
            let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000)?.format(&Rfc3339)?;
            let item = clicks.items.get(item as usize).map_or("", String::as_str);
            let comma = if n > 0 { "," } else { "" };
            body.push_str(&format!(
                "{comma}{{\"type\":\"click\",\"session_id\":\"s{session}\",\"item_id\":\"{item}\",\"occurred_at\":\"{at}\"}}"
            ));
        }
        body.push_str("]}");
        send(&mut connection, "/v1/events", "application/json", &body)?;
        if interrupted() {
            return Err("interrupted".into());
        }
    }
    Ok(std::fs::write(mark, what)?)
}

/// Sends until it is taken.
fn send(connection: &mut Connection, path: &str, content_type: &str, body: &str) -> Result<(), Failure> {
    loop {
        match connection.post_as(path, content_type, body.as_bytes())? {
            (200 | 207, answer) if answer.windows(10).any(|window| window == b"\"failed\":0") => return Ok(()),
            (429 | 503, _) => std::thread::sleep(Duration::from_millis(100)),
            (status, answer) => {
                let answer: String = String::from_utf8_lossy(answer).chars().take(300).collect();
                return Err(format!("{path} answered {status}: {answer}").into());
            }
        }
    }
}

/// The other recommender; ends with this value.
struct Serenade {
    child: Child,
    /// Its log and settings.
    _folder: tempfile::TempDir,
}

impl Serenade {
    fn start(program: &std::path::Path, args: &Args, clicks: &Clicks) -> Result<Self, Failure> {
        note("the log for Serenade");
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log.txt");
        clicks.write(&log, 1.7e9)?;
        let [m, k, last] = args.serenade_settings.as_slice() else { return Err("three settings, please".into()) };
        let config = folder.path().join("config.toml");
        let text = format!(
            "[server]\nnum_workers = 2\nhost = \"127.0.0.1\"\nport = {SERENADE_PORT}\n[log]\nlevel = \"error\"\n[data]\n\
             training_data_path = {:?}\n[model]\nm_most_recent_sessions = {m}\nneighborhood_size_k = {k}\n\
             num_items_to_recommend = {}\nmax_items_in_session = {last}\n[logic]\nenable_business_logic = false\n\
             {SERENADE_UNUSED}",
            log.display().to_string(),
            args.count,
        );
        std::fs::write(&config, text)?;
        let child = Command::new(program)
            .arg(&config)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut serenade = Self { child, _folder: folder };
        let until = Instant::now() + START_TIMEOUT;
        while std::net::TcpStream::connect(("127.0.0.1", SERENADE_PORT)).is_err() {
            if serenade.child.try_wait()?.is_some() || Instant::now() > until || interrupted() {
                return Err("Serenade did not start".into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(serenade)
    }
}

impl Drop for Serenade {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Report {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("replay: {} clicks on {} items learned\n", self.clicks, self.items);
        text.push_str("server    clients  requests/s   p50 ms   p90 ms   p99 ms  server us  peak MiB  errors\n");
        for cell in &self.cells {
            text.push_str(&format!(
                "{:<9} {:>7} {:>11.0} {:>8.2} {:>8.2} {:>8.2} {:>10.0} {:>9.0} {:>7}\n",
                cell.server,
                cell.clients,
                cell.requests_per_s,
                cell.p50_ms,
                cell.p90_ms,
                cell.p99_ms,
                cell.server_cpu_us.unwrap_or_default(),
                cell.resident_peak_mib.unwrap_or_default(),
                cell.errors
            ));
        }
        let Changed { events, p50_ms, p99_ms, never } = &self.changed;
        text.push_str(&format!(
            "event to changed answer: p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms of {events} events; {never} changed nothing\n"
        ));
        text
    }
}

/// What can be checked without measuring anything.
pub(crate) fn check() -> Result<(), Failure> {
    let (one, other) = (Clicks::seeded(5_000, 300), Clicks::seeded(5_000, 300));
    if one.past != other.past || one.past.iter().map(Vec::len).sum::<usize>() < 5_000 {
        return Err("the same seed must make the same clicks".into());
    }
    Ok(())
}
