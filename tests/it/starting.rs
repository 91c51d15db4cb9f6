//! What does a client hear of a server that is still starting?

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use upnext::api::Drained;
use upnext::app::{App, AppError};
use upnext::domain::Clock;
use upnext::engine::{Progress, Step};

use crate::support::world::click;
use crate::support::{Client, Setup, Stopped, World, ids, run, tls, tokio as runtime};

/// A server whose start waits at the log until it is let go on.
struct Held {
    address: SocketAddr,
    go_on: Sender<()>,
    heard: Receiver<Progress>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<Drained, AppError>>,
}

impl Held {
    async fn start(stopped: &Stopped) -> Self {
        let (go_on, may_go_on) = channel();
        let (tell, heard) = channel();
        let progress = move |at: Progress| {
            let _ = tell.send(at);
            if at == Progress::begin(Step::Log, at.total) {
                let _ = may_go_on.recv();
            }
            ControlFlow::Continue(())
        };
        let (stop, stopping) = oneshot::channel();
        let shutdown = async {
            let _ = stopping.await;
        };
        let prepared = App::prepare(stopped.settings.clone(), stopped.clock.clone()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = runtime().spawn(prepared.serve(listener, progress, |_| {}, shutdown));
        Self { address, go_on, heard, stop, serving }
    }

    /// Returns once the start is at the log, and says how long that is.
    fn wait_for_log(&self) -> u64 {
        self.heard.iter().find(|at| at.step == Step::Log).unwrap().total
    }

    fn client(&self, stopped: &Stopped) -> Client {
        let trusted = std::fs::read(&stopped.certificate).unwrap();
        Client::new(self.address, Client::builder(&trusted).build().unwrap(), Some(&stopped.key))
    }
}

/// One connection over TLS, on which one request follows the other (HTTP/1.1).
struct Connection(BufReader<TlsStream<TcpStream>>);

impl Connection {
    async fn open(address: SocketAddr, certificate: &Path) -> Self {
        Self(BufReader::new(tls::connect(address, certificate).await))
    }

    /// The status and the body, if it is JSON.
    async fn get(&mut self, path: &str) -> (u16, Value) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        self.0.write_all(request.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).await.unwrap() > 0, "the connection was closed");
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}

/// A folder with a catalogue and a few events.
fn filled() -> Stopped {
    let (server, world) = (Setup::default().start(), World::get());
    run(async {
        world.load(&server).await;
        let events: Vec<Value> =
            (0..6).map(|n| click("s", world.id(n), server.now().plus_seconds(n as f64 - 30.0))).collect();
        server.client().tell(&events).await;
    });
    server.stop()
}

#[test]
fn it_answers_while_it_starts_and_nobody_has_to_connect_again() {
    let stopped = filled();
    run(async {
        let held = Held::start(&stopped).await;
        let client = held.client(&stopped);
        let entries = tokio::task::block_in_place(|| held.wait_for_log());
        assert_eq!(entries, 24 + 6);
        let mut connection = Connection::open(held.address, &stopped.certificate).await;

        assert_eq!(client.get("/livez").await.body, "ok\n");
        let ready = client.get("/readyz").await;
        assert_eq!(ready.problem(), (503, "starting".into()));
        let problem = ready.json();
        assert_eq!((&problem["step"], &problem["done"], &problem["total"]), (&json!("log"), &json!(0), &json!(30)));
        assert!(problem["elapsed_s"].as_f64().is_some_and(|s| s > 0.0), "{problem}");
        for path in ["/v1/items", "/metrics", "/openapi.json", "/", "/nowhere"] {
            let answer = client.get(path).await;
            assert_eq!((answer.problem(), answer.header("retry-after")), ((503, "starting".into()), "1"), "{path}");
        }
        let told = client.post("/v1/events", &json!({"events": [click("s", "x", stopped.clock.now())]})).await;
        assert_eq!(told.problem(), (503, "starting".into()));
        // A key is not looked at, so that a wrong one is not told from a right one.
        assert_eq!(connection.get("/v1/items").await.0, 503);
        assert_eq!(connection.get("/livez").await.0, 200);

        held.go_on.send(()).unwrap();
        let mut ready = (0, Value::Null);
        for _ in 0..3_000 {
            ready = connection.get("/readyz").await;
            if ready.0 == 200 {
                break;
            }
            assert_eq!((ready.0, &ready.1["code"]), (503, &json!("starting")));
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!((ready.0, &ready.1["status"]), (200, &json!("ready")), "on the same connection");
        assert_eq!(connection.get("/v1/items").await.0, 401, "now keys count");
        let items = client.get("/v1/items?limit=100").await.ok();
        assert_eq!(ids(&items["items"]).len(), 24);
        assert_eq!(client.metric("upnext_ready").await, 1.0);

        held.stop.send(()).unwrap();
        drop(client);
        assert_eq!(held.serving.await.unwrap().unwrap().cut_off, 0);
    });
}

#[test]
fn a_start_that_is_told_to_stop_breaks_off_and_hurts_nothing() {
    let stopped = filled();
    run(async {
        let held = Held::start(&stopped).await;
        tokio::task::block_in_place(|| held.wait_for_log());
        held.stop.send(()).unwrap();
        for _ in 0..600 {
            if TcpStream::connect(held.address).await.is_err() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(TcpStream::connect(held.address).await.is_err(), "it listens no more");
        held.go_on.send(()).unwrap();
        assert_eq!(held.serving.await.unwrap().unwrap().cut_off, 0);
        assert!(held.heard.iter().all(|at| at.step == Step::Log && at.done == 0), "the start went on");
    });
    // The database was closed, and everything is in it.
    let app = App::build(stopped.settings, stopped.clock, |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((app.recovered().items, app.recovered().checkpoint, app.recovered().events), (24, 30, 0));
    app.stop();
}

#[test]
fn a_start_that_fails_says_why() {
    let stopped = Setup::default().start().stop();
    std::fs::write(stopped.settings.data_dir.join("upnext.redb"), b"this is no database").unwrap();
    let keep_on = |_| ControlFlow::Continue(());
    let built = App::build(stopped.settings.clone(), stopped.clock.clone(), keep_on).unwrap_err().to_string();
    assert!(built.contains("upnext.redb is damaged"), "{built}");
    run(async {
        let prepared = App::prepare(stopped.settings.clone(), stopped.clock.clone()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let served = prepared.serve(listener, keep_on, |_| {}, std::future::pending()).await;
        assert_eq!(served.unwrap_err().to_string(), built);
    });
    let process = Command::new(env!("CARGO_BIN_EXE_upnext"))
        .args(["serve", "--bind", "127.0.0.1:0", "--data-dir"])
        .arg(&stopped.settings.data_dir)
        .output()
        .unwrap();
    let said = String::from_utf8(process.stderr).unwrap();
    assert_eq!((process.status.code(), said.lines().last()), (Some(1), Some(format!("upnext: {built}").as_str())));
}
