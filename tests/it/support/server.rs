//! How does a test get a server? The real one, on a port of its own, with a data folder that goes when it goes.

use std::net::SocketAddr;
use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use upnext::api::Drained;
use upnext::app::App;
use upnext::config::{Settings, Sources};
use upnext::domain::{Clock, ManualClock, SystemClock, Timestamp};
use upnext::engine::{Engine, Recovered};
use upnext::inference::runtime::{self, InstallOptions};
use upnext::security::{KeyFile, NewKey, RateLimit, Scope, Scopes};

use super::client::Client;
use super::{run, tokio};

/// What a server is to be like.
#[derive(Default)]
pub(crate) struct Setup {
    overrides: Vec<String>,
}

impl Setup {
    /// With a setting, as `key.path=value`.
    pub(crate) fn with(mut self, setting: impl Into<String>) -> Self {
        self.overrides.push(setting.into());
        self
    }

    /// Starts it, empty.
    pub(crate) fn start(self) -> Server {
        let data_dir = Arc::new(tempfile::tempdir().unwrap());
        // Certificates are compared with the computer's clock, so the time is today; but it stands still, so that
        // the same question has the same answer.
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        Server::start(data_dir, clock, self.overrides)
    }
}

/// A running server. It is stopped when it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    overrides: Vec<String>,
    data_dir: Arc<TempDir>,
    clock: Arc<ManualClock>,
    /// May do everything.
    key: String,
    recovered: Recovered,
    engine: std::sync::Weak<Engine>,
    running: Option<(oneshot::Sender<()>, JoinHandle<Drained>)>,
}

impl Server {
    fn start(data_dir: Arc<TempDir>, clock: Arc<ManualClock>, overrides: Vec<String>) -> Self {
        ensure_runtime();
        let key = new_key(data_dir.path(), clock.now(), &Scope::ALL, None);
        let app = App::build(settings(data_dir.path(), &overrides), clock.clone(), |_| Continue(())).unwrap();
        let (recovered, engine) = (app.recovered(), Arc::downgrade(app.engine()));
        let (stop, stopped) = oneshot::channel::<()>();
        let (address, task) = run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let shutdown = async {
                let _ = stopped.await;
            };
            (address, tokio().spawn(app.serve(listener, shutdown)))
        });
        Self { address, overrides, data_dir, clock, key, recovered, engine, running: Some((stop, task)) }
    }

    /// Stops it and starts it again on the same folder, at the same time of day.
    pub(crate) fn restart(mut self) -> Self {
        let _ = self.finish();
        Self::start(self.data_dir.clone(), self.clock.clone(), self.overrides.clone())
    }

    /// The same with another setting.
    pub(crate) fn restart_with(mut self, setting: &str) -> Self {
        self.overrides.push(setting.to_owned());
        self.restart()
    }

    /// Sets its clock.
    pub(crate) fn set_time(&self, now: Timestamp) {
        self.clock.set(now);
    }

    /// Stops it for good.
    pub(crate) fn stop(mut self) -> Stopped {
        let _ = self.finish();
        Stopped {
            settings: settings(self.data_dir(), &self.overrides),
            clock: self.clock.clone(),
            key: self.key.clone(),
            certificate: self.certificate(),
            overrides: self.overrides.clone(),
            data_dir: self.data_dir.clone(),
        }
    }

    /// Tells it to stop; it drains from now on.
    pub(crate) fn begin_stop(&mut self) -> JoinHandle<Drained> {
        let (stop, task) = self.running.take().expect("it runs");
        let _ = stop.send(());
        task
    }

    fn finish(&mut self) -> Option<Drained> {
        self.running.as_ref()?;
        let task = self.begin_stop();
        // Without a runtime around: this may be a test's own thread inside of `run`.
        let (done, drained) = std::sync::mpsc::channel();
        tokio().spawn(async move { done.send(task.await) });
        drained.recv().ok()?.ok()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    pub(crate) fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Its use cases, for tests that hold something up. To be let go of at once: it is part of the server.
    pub(crate) fn engine(&self) -> Arc<Engine> {
        self.engine.upgrade().expect("it runs")
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The development certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.data_dir().join("development-cert.pem")
    }

    /// A client that may do everything, over HTTP/2.
    pub(crate) fn client(&self) -> Client {
        self.client_with(Some(&self.key))
    }

    /// A client with another key, or none.
    pub(crate) fn client_with(&self, key: Option<&str>) -> Client {
        let trusted = std::fs::read(self.certificate()).unwrap();
        Client::new(self.address, Client::builder(&trusted).build().unwrap(), key)
    }

    /// A client that may do everything, over HTTP/1.1.
    pub(crate) fn http1_client(&self) -> Client {
        let trusted = std::fs::read(self.certificate()).unwrap();
        Client::new(self.address, Client::builder(&trusted).http1_only().build().unwrap(), Some(&self.key))
    }

    /// The key that may do everything.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// A new key. The running server hears of it within about a second.
    pub(crate) fn new_key(&self, scopes: &[Scope], rate_limit: Option<RateLimit>) -> String {
        new_key(self.data_dir(), self.clock.now(), scopes, rate_limit)
    }
}

/// What a server that was stopped leaves, for tests that put the pieces together themselves.
pub(crate) struct Stopped {
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<ManualClock>,
    /// May do everything.
    pub(crate) key: String,
    /// The development certificate.
    pub(crate) certificate: PathBuf,
    overrides: Vec<String>,
    data_dir: Arc<TempDir>,
}

impl Stopped {
    /// Starts it again, at the same time of day.
    pub(crate) fn start(self) -> Server {
        Server::start(self.data_dir, self.clock, self.overrides)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

/// ONNX Runtime, fetched once where there is none.
pub(crate) fn ensure_runtime() {
    static ENSURED: OnceLock<()> = OnceLock::new();
    ENSURED.get_or_init(|| {
        runtime::ensure(None, &InstallOptions::default(), &mut |_| {}).expect("ONNX Runtime can be found or installed");
        // Another part of this process may have been faster.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

fn settings(data_dir: &Path, overrides: &[String]) -> Settings {
    let mut all: Vec<String> = [
        format!("data_dir={}", data_dir.display()),
        "server.drain_s=20".into(),
        // No test may fail because the machine is busy.
        "ranking.deadline_ms=60000".into(),
        "inference.queue_timeout_ms=600000".into(),
        "inference.workers=1".into(),
        "inference.intra_threads=1".into(),
        // Small, so that what is too large can be small too.
        "vision.max_image_bytes=1000000".into(),
        "server.body_limit_bytes=4000000".into(),
        // So that the same question has the same answer. Tests of learning turn it on.
        "ranking.learn=false".into(),
        "ranking.exploration=0".into(),
    ]
    .into();
    all.extend_from_slice(overrides);
    Settings::load(&Sources { overrides: all, ..Sources::default() }).unwrap().settings
}

fn new_key(data_dir: &Path, now: Timestamp, scopes: &[Scope], rate_limit: Option<RateLimit>) -> String {
    let scopes: Scopes = scopes.iter().copied().collect();
    let new = NewKey { name: "test".into(), scopes, expires_at: None, rate_limit };
    KeyFile::in_dir(data_dir).create(new, now).unwrap().key
}
