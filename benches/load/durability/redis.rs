//! What does Redis do on the same disk? The program on the PATH with `appendfsync always`, spoken to by hand over TCP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::events::{EventWriter, Ids};
use crate::report::Latency;
use crate::{Failure, interrupted};

const START_TIMEOUT: Duration = Duration::from_secs(20);
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Clients, and commands that each sends before it waits for the answers.
const CELLS: [(u16, usize); 4] = [(1, 1), (16, 1), (1, 100), (16, 100)];

/// What Redis did.
#[derive(Debug, Serialize)]
pub(super) struct RedisReport {
    pub(super) version: String,
    pub(super) cells: Vec<RedisCell>,
}

/// So many clients for so long.
#[derive(Debug, Serialize)]
pub(super) struct RedisCell {
    /// `SET` (id → event) or `XADD` (to one stream).
    pub(super) command: &'static str,
    pub(super) clients: u16,
    /// Commands on their way at a time, of each client.
    pub(super) pipelined: usize,
    pub(super) events_per_s: f64,
    /// Of a round: all commands of a pipeline.
    pub(super) latency: Option<Latency>,
}

/// `None` if there is no Redis on this machine.
pub(super) fn measure(folder: &Path, seconds: f64, items: &Arc<Vec<String>>) -> Result<Option<RedisReport>, Failure> {
    let Ok(version) = Command::new("redis-server").arg("--version").output() else { return Ok(None) };
    let version = String::from_utf8_lossy(&version.stdout);
    let version = version.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("unknown").to_owned();
    let server = Redis::start(folder)?;
    let mut cells = Vec::new();
    for command in ["SET", "XADD"] {
        for (clients, pipelined) in CELLS {
            cells.push(cell(&server, command, clients, pipelined, seconds, items)?);
        }
    }
    Ok(Some(RedisReport { version, cells }))
}

fn cell(
    server: &Redis,
    command: &'static str,
    clients: u16,
    pipelined: usize,
    seconds: f64,
    items: &Arc<Vec<String>>,
) -> Result<RedisCell, Failure> {
    let (begin, duration) = (Barrier::new(usize::from(clients)), Duration::from_secs_f64(seconds));
    let outcomes: Vec<Result<(Vec<u32>, f64), Failure>> = std::thread::scope(|scope| {
        let client = |number: u16| {
            let begin = &begin;
            scope.spawn(move || {
                let stream = server.connect();
                begin.wait();
                let writer = EventWriter::new(Ids::UuidV7, pipelined as u64, number, 1, Arc::clone(items));
                send(stream?, writer, command, pipelined, duration)
            })
        };
        let threads: Vec<_> = (0..clients).map(client).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a client of Redis panicked".into())))
            .collect()
    });
    let (mut latencies_us, mut events_per_s) = (Vec::new(), 0.0);
    for outcome in outcomes {
        let (latencies, rate) = outcome?;
        latencies_us.extend(latencies);
        events_per_s += rate;
    }
    if interrupted() {
        return Err("interrupted".into());
    }
    Ok(RedisCell { command, clients, pipelined, events_per_s, latency: Latency::of(latencies_us) })
}

/// One client: the latencies of its rounds, and its events a second.
fn send(
    stream: TcpStream,
    mut writer: EventWriter,
    command: &str,
    pipelined: usize,
    duration: Duration,
) -> Result<(Vec<u32>, f64), Failure> {
    let mut answers = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let (mut out, mut event, mut latencies_us) = (Vec::new(), Vec::new(), Vec::new());
    let started = Instant::now();
    while started.elapsed() < duration && !interrupted() {
        out.clear();
        for _ in 0..pipelined {
            event.clear();
            let id = writer.write_event(&mut event)?;
            match command {
                "SET" => words(&mut out, &[b"SET", &id, &event])?,
                _ => words(&mut out, &[b"XADD", b"events", b"*", b"id", &id, b"event", &event])?,
            }
        }
        let asked = Instant::now();
        stream.write_all(&out)?;
        for _ in 0..pipelined {
            understand(&mut answers)?;
        }
        latencies_us.push(asked.elapsed().as_micros().min(u128::from(u32::MAX)) as u32);
    }
    let rate = (latencies_us.len() * pipelined) as f64 / started.elapsed().as_secs_f64();
    Ok((latencies_us, rate))
}

/// A command in Redis's protocol.
fn words(out: &mut Vec<u8>, words: &[&[u8]]) -> std::io::Result<()> {
    write!(out, "*{}\r\n", words.len())?;
    for word in words {
        write!(out, "${}\r\n", word.len())?;
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    Ok(())
}

/// Reads one answer, which must be good.
fn understand(answers: &mut BufReader<TcpStream>) -> Result<(), Failure> {
    let mut line = String::new();
    answers.read_line(&mut line)?;
    match line.as_bytes().first() {
        Some(b'+') => Ok(()),
        Some(b'$') => {
            let length: usize = line[1..].trim().parse()?;
            answers.read_exact(&mut vec![0; length + 2])?;
            Ok(())
        }
        _ => Err(format!("Redis answers {line:?}").into()),
    }
}

/// A Redis server that ends with this value.
struct Redis {
    process: Child,
    port: u16,
}

impl Redis {
    fn start(folder: &Path) -> Result<Self, Failure> {
        // Free a moment ago, which is as good as it gets with a program that cannot choose its port.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--daemonize", "no"]);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"]);
        let process = command.arg("--dir").arg(folder).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let redis = Self { process, port };
        let until = Instant::now() + START_TIMEOUT;
        while let Err(error) = redis.connect() {
            if Instant::now() > until || interrupted() {
                return Err(format!("Redis does not answer: {error}").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(redis)
    }

    fn connect(&self) -> Result<TcpStream, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        Ok(stream)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
