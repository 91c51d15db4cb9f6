//! How does a test get a server that it can kill? The program itself, as an operator starts it, in a process of its own.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::server::ensure_runtime;
use crate::support::{Client, run};

/// A start that takes longer has failed; the machine may be busy.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Lines of the child's log that are kept, to be shown if it fails.
const LOG_LINES: usize = 50;
const SIGKILL: i32 = 9;

/// A data folder with a key in it. It goes when it goes out of scope.
pub(crate) struct Folder {
    dir: TempDir,
    /// May do everything.
    key: String,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_upnext"));
        command.args(["keys", "create", "--name", "kill", "--scopes", "recommend,ingest,metrics,admin", "--data-dir"]);
        let made = command.arg(dir.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self { dir, key: String::from_utf8(made.stdout).unwrap().trim().to_owned() }
    }
}

/// A server process. It never outlives this value.
pub(crate) struct Child {
    process: std::process::Child,
    log: Arc<Mutex<VecDeque<String>>>,
    port: u16,
    certificate: Vec<u8>,
    key: String,
    /// From the start of the process until it was ready.
    pub(crate) start_s: f64,
}

impl Child {
    /// Starts a server on the folder and waits until it is ready.
    pub(crate) fn start(folder: &Folder) -> Self {
        Self::start_with(folder, &[])
    }

    /// The same with more settings.
    pub(crate) fn start_with(folder: &Folder, settings: &[&str]) -> Self {
        ensure_runtime();
        let began = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_upnext"));
        command.args(["serve", "--bind", "127.0.0.1:0", "--data-dir"]).arg(folder.dir.path());
        for setting in [
            "store.checkpoint_every_s=0.2",
            "telemetry.log_format=json",
            "telemetry.log_filter=warn,upnext::cli=info",
            // No check may fail because the machine is busy.
            "ranking.deadline_ms=60000",
            "inference.queue_timeout_ms=600000",
            "inference.workers=1",
            "inference.intra_threads=1",
        ] {
            command.args(["--set", setting]);
        }
        for setting in settings {
            command.args(["--set", setting]);
        }
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = process.stderr.take().unwrap();
        // From here on, any way out ends the process.
        let mut child = Self {
            process,
            log: Arc::default(),
            port: 0,
            certificate: Vec::new(),
            key: folder.key.clone(),
            start_s: 0.0,
        };
        child.port = child.wait_for_port(stderr);
        child.certificate = std::fs::read(folder.dir.path().join("development-cert.pem")).unwrap();
        child.wait_until_ready(began + START_TIMEOUT);
        child.start_s = began.elapsed().as_secs_f64();
        child
    }

    /// A client with connections of its own.
    pub(crate) fn client(&self, http2: bool) -> Client {
        let builder = Client::builder(&self.certificate).timeout(START_TIMEOUT);
        let builder = if http2 { builder } else { builder.http1_only() };
        Client::new(([127, 0, 0, 1], self.port).into(), builder.build().unwrap(), Some(&self.key))
    }

    /// Kills it: no handler runs, nothing is flushed, nobody is told.
    pub(crate) fn kill(mut self) {
        assert!(matches!(self.process.try_wait(), Ok(None)), "the server ended by itself: {}", self.log());
        self.process.kill().unwrap();
        let status: ExitStatus = self.process.wait().unwrap();
        assert_eq!(status.signal(), Some(SIGKILL), "{status}: {}", self.log());
    }

    /// What it has said last.
    fn log(&self) -> String {
        let lines = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("\n    {line}")).collect()
    }

    /// Reads the log from now on, and gives the port that it names first.
    fn wait_for_port(&self, stderr: ChildStderr) -> u16 {
        let (found, port) = mpsc::channel();
        let log = self.log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some(port) = port_in(&line) {
                    // After the first one nobody waits any more.
                    let _ = found.send(port);
                }
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_back(line);
                if log.len() > LOG_LINES {
                    log.pop_front();
                }
            }
        });
        port.recv_timeout(START_TIMEOUT)
            .unwrap_or_else(|error| panic!("the server names no address ({error}): {}", self.log()))
    }

    /// A server may listen before it can answer, or listen only once it can.
    fn wait_until_ready(&mut self, until: Instant) {
        let client = self.client(false);
        while !run(async {
            let answer = client.request("GET", "/readyz").send().await;
            answer.is_ok_and(|answer| answer.status() == 200)
        }) {
            assert!(matches!(self.process.try_wait(), Ok(None)), "the server did not start: {}", self.log());
            assert!(Instant::now() < until, "the server was not ready in time: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The port of the address in a line of the log.
fn port_in(line: &str) -> Option<u16> {
    let (_, after) = line.split_once("://127.0.0.1:")?;
    after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
