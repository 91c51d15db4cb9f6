//! Who is driven? A server process of our own, or any address.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use tempfile::TempDir;
use upnext::domain::{Clock, SystemClock};
use upnext::security::{KeyFile, NewKey, Scopes, ensure_development_certificate};

use crate::world::World;
use crate::{Args, Failure, interrupted, note};

/// Loading a large catalogue again takes its time.
const START_TIMEOUT: Duration = Duration::from_secs(600);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// In a kept folder: how many items its catalogue has.
const MARK: &str = "load-items";

/// Where a server is, and what lets one in.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) base: String,
    pub(crate) headers: HeaderMap,
    pub(crate) certificate: Option<Vec<u8>>,
}

impl Address {
    /// A server that runs.
    pub(crate) fn of(url: &str, key_file: Option<&Path>, cacert: Option<&Path>) -> Result<Self, Failure> {
        let read = |file: &Path| std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()));
        let key = key_file.map(read).transpose()?.map(String::from_utf8).transpose()?;
        Self::new(url, key.as_deref().unwrap_or_default(), cacert.map(read).transpose()?)
    }

    fn new(url: &str, key: &str, certificate: Option<Vec<u8>>) -> Result<Self, Failure> {
        let mut value = HeaderValue::try_from(format!("Bearer {}", key.trim()))?;
        value.set_sensitive(true);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        Ok(Self { base: url.trim_end_matches('/').to_owned(), headers, certificate })
    }

    /// A client with connections of its own.
    pub(crate) fn client(&self, http2: bool) -> Result<reqwest::Client, Failure> {
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .timeout(REQUEST_TIMEOUT)
            .pool_max_idle_per_host(1)
            .default_headers(self.headers.clone());
        if !http2 {
            builder = builder.http1_only();
        }
        if let Some(pem) = &self.certificate {
            builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(pem)?);
        }
        Ok(builder.build()?)
    }

    /// Waits until it can do its work: a server may listen before.
    pub(crate) async fn wait_until_ready(&self) -> Result<(), Failure> {
        let (client, until) = (self.client(true)?, Instant::now() + START_TIMEOUT);
        while client.get(format!("{}/readyz", self.base)).send().await?.status() != StatusCode::OK {
            if Instant::now() > until {
                return Err("the server is not ready".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Sends `body` and waits as long as the server asks to.
    pub(crate) async fn post<T: serde::de::DeserializeOwned>(
        &self,
        client: &reqwest::Client,
        path: &str,
        content_type: &'static str,
        body: Vec<u8>,
    ) -> Result<T, Failure> {
        let body = bytes::Bytes::from(body);
        loop {
            let request = client.post(format!("{}{path}", self.base)).header(CONTENT_TYPE, content_type);
            let answer = request.body(body.clone()).send().await?;
            let status = answer.status();
            if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
                let asked = answer.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
                tokio::time::sleep(Duration::from_secs(asked.unwrap_or(1))).await;
                continue;
            }
            let text = answer.bytes().await?;
            if !status.is_success() {
                return Err(format!("{path} answered {status}: {}", String::from_utf8_lossy(&text)).into());
            }
            return Ok(serde_json::from_slice(&text)?);
        }
    }
}

/// A server process that ends with this value.
#[derive(Debug)]
pub(crate) struct OwnServer {
    child: Child,
    address: Address,
    dir: PathBuf,
    /// Removed when this is dropped, which is after the process has ended.
    _temporary: Option<TempDir>,
}

impl OwnServer {
    /// Starts the program of this build and waits until it listens.
    pub(crate) fn start(args: &Args) -> Result<Self, Failure> {
        upnext::inference::runtime::ensure(None, &Default::default(), &mut |_| {})?;
        let temporary = if args.data_dir.is_some() { None } else { Some(tempfile::tempdir()?) };
        let dir = match (&args.data_dir, &temporary) {
            (Some(dir), _) => dir.clone(),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => return Err("there is no data folder".into()),
        };
        std::fs::create_dir_all(&dir)?;
        let now = SystemClock.now();
        let expires_at = Some(now.plus_seconds(86_400.0));
        let new = NewKey { name: "load".into(), scopes: Scopes::all(), expires_at, rate_limit: None };
        let key = KeyFile::in_dir(&dir).create(new, now)?.key;
        let certificate = std::fs::read(ensure_development_certificate(&dir, now)?.cert)?;

        let mut command = Command::new(env!("CARGO_BIN_EXE_upnext"));
        command.args(["serve", "--bind", "127.0.0.1:0", "--data-dir"]).arg(&dir);
        for setting in ["telemetry.log_format=json", "telemetry.log_filter=warn,upnext::cli::serve=info"] {
            command.args(["--set", setting]);
        }
        for setting in &args.overrides {
            command.args(["--set", setting]);
        }
        note("a server");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        // From here on, any way out ends the process.
        let address = Address::new("", &key, Some(certificate))?;
        let mut server = Self { child, address, dir, _temporary: temporary };
        let port = server.wait_for_port()?;
        server.address.base = format!("https://localhost:{port}");
        Ok(server)
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Where its data is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Gives it the catalogue, unless the folder has it from an earlier run.
    pub(crate) async fn fill(&self, world: &World) -> Result<(), Failure> {
        let (mark, count) = (self.dir.join(MARK), world.catalogue().len().to_string());
        if std::fs::read_to_string(&mark).is_ok_and(|text| text == count) {
            return Ok(());
        }
        if mark.exists() {
            return Err(format!("{} has a catalogue of another size", self.dir.display()).into());
        }
        world.send(&self.address).await?;
        Ok(std::fs::write(mark, count)?)
    }

    /// Reads the log: the line about the address is what is waited for, the others go to standard error.
    fn wait_for_port(&mut self) -> Result<u16, Failure> {
        let log = self.child.stderr.take().ok_or("the server has no log")?;
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                let address = entry["address"].as_str().and_then(|a| a.rsplit_once(':')?.1.parse().ok());
                if let Some(port) = address {
                    // Nobody waits any more: the start took too long.
                    let _ = sender.send(port);
                } else if entry["level"] != "INFO" {
                    let _ = writeln!(std::io::stderr(), "{line}");
                }
            }
        });
        let until = Instant::now() + START_TIMEOUT;
        loop {
            match receiver.recv_timeout(Duration::from_millis(100)) {
                Ok(port) => return Ok(port),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err("the server ended before it listened".into()),
                Err(mpsc::RecvTimeoutError::Timeout) if interrupted() => return Err("interrupted".into()),
                Err(mpsc::RecvTimeoutError::Timeout) if Instant::now() > until => {
                    return Err("the server did not start in time".into());
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // The standard library cannot ask a process to end, only kill it.
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let until = Instant::now() + STOP_TIMEOUT;
        while asked.as_ref().is_ok_and(std::process::ExitStatus::success) && Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
