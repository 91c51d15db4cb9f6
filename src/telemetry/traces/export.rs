//! How do finished spans reach the collector? On a thread of their own, in batches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use serde_json::{Value, json};

/// Spans in one message, and how long the first of them waits for others.
const BATCH: usize = 512;
const BATCH_WAITS: Duration = Duration::from_secs(1);
const SENDS_WITHIN: Duration = Duration::from_secs(5);
/// For how long the end of the process waits for the last spans.
const FAREWELL: Duration = Duration::from_secs(2);
/// Failures are told in the log no more often than this.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Spans that found no room.
pub(super) static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// A span that has ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) name: &'static str,
    pub(super) trace_id: u128,
    /// 0 for none.
    pub(super) parent_id: u64,
    pub(super) span_id: u64,
    pub(super) began_ns: u64,
    pub(super) ended_ns: u64,
    pub(super) attributes: Vec<(&'static str, String)>,
}

/// Sends what is left when it is dropped.
#[derive(Debug)]
pub struct TracesGuard {
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for TracesGuard {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        let until = Instant::now() + FAREWELL;
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

pub(super) struct Exporter {
    endpoint: String,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    told_at: Option<Instant>,
}

impl Exporter {
    pub(super) fn start(endpoint: &str, waiting: Receiver<Finished>) -> std::io::Result<TracesGuard> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // The provider may be set already; either way there is one afterwards.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().timeout(SENDS_WITHIN).build();
        let client = client.map_err(std::io::Error::other)?;
        let (stop, stopped) = crossbeam_channel::bounded(1);
        let mut exporter = Self { endpoint: endpoint.to_owned(), client, runtime, told_at: None };
        let thread = std::thread::Builder::new().name("upnext-traces".into()).spawn(move || {
            while stopped.is_empty() {
                let batch = gather(&waiting, BATCH_WAITS);
                exporter.send(&batch);
            }
            exporter.send(&gather(&waiting, Duration::ZERO));
        })?;
        Ok(TracesGuard { stop, thread: Some(thread) })
    }

    fn send(&mut self, batch: &[Finished]) {
        if batch.is_empty() {
            return;
        }
        let body = message(batch).to_string();
        let request = self.client.post(&self.endpoint).header("content-type", "application/json").body(body);
        let outcome = self.runtime.block_on(async { request.send().await?.error_for_status() });
        let left_out = LEFT_OUT.swap(0, Ordering::Relaxed);
        let silent = self.told_at.is_some_and(|at| at.elapsed() < TELL_EVERY);
        match outcome {
            // The address may hold a secret, and an error names it.
            Err(error) if !silent => {
                tracing::warn!(error = %error.without_url(), spans = batch.len(), left_out, "traces could not be sent");
                self.told_at = Some(Instant::now());
            }
            Ok(_) if left_out > 0 && !silent => {
                tracing::warn!(left_out, "spans came faster than they could be sent");
                self.told_at = Some(Instant::now());
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// The spans that come within `patience`, or as many as fit into one message.
fn gather(waiting: &Receiver<Finished>, patience: Duration) -> Vec<Finished> {
    let (mut batch, until) = (Vec::new(), Instant::now() + patience);
    while batch.len() < BATCH {
        match waiting.recv_deadline(until) {
            Ok(finished) => batch.push(finished),
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => {
                // The layer lives as long as the process; if it does not, there is no hurry.
                std::thread::sleep(patience);
                break;
            }
        }
    }
    batch
}

/// An `ExportTraceServiceRequest` in JSON: ids in hexadecimal, 64-bit numbers as text.
fn message(batch: &[Finished]) -> Value {
    let spans: Vec<Value> = batch.iter().map(span).collect();
    let resource = [attribute("service.name", "upnext"), attribute("service.version", env!("CARGO_PKG_VERSION"))];
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": {"name": "upnext", "version": env!("CARGO_PKG_VERSION")}, "spans": spans}],
    }]})
}

fn attribute(name: &str, value: &str) -> Value {
    json!({"key": name, "value": {"stringValue": value}})
}

fn span(finished: &Finished) -> Value {
    const SERVER: u8 = 2;
    const INTERNAL: u8 = 1;
    const ERROR: u8 = 2;
    let Finished { name, trace_id, parent_id, span_id, began_ns, ended_ns, attributes } = finished;
    let value =
        |wanted: &str| attributes.iter().rev().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_str());
    let is_request = *name == "request";
    let shown = match (value("method"), value("route")) {
        (Some(method), Some(route)) if is_request => format!("{method} {route}"),
        _ => (*name).to_owned(),
    };
    let known = attributes.iter().map(|(name, value)| match (is_request, *name) {
        (true, "method") => attribute("http.request.method", value),
        (true, "route") => attribute("http.route", value),
        (true, "status") => match value.parse::<i64>() {
            Ok(status) => json!({"key": "http.response.status_code", "value": {"intValue": status.to_string()}}),
            Err(_) => attribute("http.response.status_code", value),
        },
        (_, name) => attribute(&format!("upnext.{name}"), value),
    });
    let mut span = json!({
        "traceId": format!("{trace_id:032x}"),
        "spanId": format!("{span_id:016x}"),
        "name": shown,
        "kind": if is_request { SERVER } else { INTERNAL },
        "startTimeUnixNano": began_ns.to_string(),
        "endTimeUnixNano": ended_ns.to_string(),
        "attributes": known.collect::<Vec<Value>>(),
    });
    if *parent_id != 0 {
        span["parentSpanId"] = format!("{parent_id:016x}").into();
    }
    if value("status").and_then(|status| status.parse::<u16>().ok()).is_some_and(|status| status >= 500) {
        span["status"] = json!({"code": ERROR});
    }
    span
}
