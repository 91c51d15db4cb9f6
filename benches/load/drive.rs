//! What do viewers do, and how long do they wait? A closed loop: each asks again as soon as it has its answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::frames::Frame;
use crate::process::{Usage, usage};
use crate::server::Address;
use crate::{Failure, Mode};

/// Lists in a row until a viewer begins a new session, and how many of them are followed by an event.
const SESSION_LISTS: u64 = 40;
const LISTS_PER_EVENT: u64 = 4;
/// After a refusal: an answer at once would only be the next one.
const PAUSE: Duration = Duration::from_millis(5);

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) mode: Mode,
    pub(crate) address: &'a Address,
    /// The server's process, if it is on this machine.
    pub(crate) server: Option<u32>,
    pub(crate) viewers: u16,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    pub(crate) events_per_request: u16,
    pub(crate) http2: bool,
}

/// What was seen within the measured time.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    /// Microseconds of each answered request, by kind.
    pub(crate) latencies_us: BTreeMap<&'static str, Vec<u32>>,
    /// Requests that failed, by status.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Frames that reused the embedding of the one before.
    pub(crate) near_duplicates: u64,
    /// Answers that lacked a source.
    pub(crate) degraded: u64,
    /// The protocol that was spoken.
    pub(crate) protocol: String,
    /// The server's processor seconds, and its memory at the end.
    pub(crate) server: Option<Usage>,
    /// The same of the viewers.
    pub(crate) viewers: Option<Usage>,
}

/// Lets the viewers go and comes back when all have their last answer.
pub(crate) async fn drive(load: &Load<'_>, frames: Vec<Frame>, item_ids: Vec<String>) -> Result<Measured, Failure> {
    let (frames, item_ids) = (Arc::new(frames), Arc::new(item_ids));
    let counted_from = Instant::now() + load.warmup;
    let until = counted_from + load.duration;
    let run = format!("{:x}", std::process::id());
    let mut tasks = Vec::with_capacity(usize::from(load.viewers));
    for number in 0..load.viewers {
        let viewer = Viewer {
            mode: load.mode,
            base: load.address.base.clone(),
            client: load.address.client(load.http2)?,
            name: format!("load-{run}-{number}"),
            number: usize::from(number),
            viewers: usize::from(load.viewers),
            frames: Arc::clone(&frames),
            item_ids: Arc::clone(&item_ids),
            events_per_request: u64::from(load.events_per_request),
            step: 0,
            wish: None,
        };
        tasks.push(tokio::spawn(viewer.watch(counted_from, until)));
    }
    let own = std::process::id();
    let now = || (load.server.and_then(usage), usage(own), Instant::now());
    tokio::time::sleep_until(counted_from.into()).await;
    let (server_before, viewers_before, began) = now();
    tokio::time::sleep_until(until.into()).await;
    let (server_after, viewers_after, ended) = now();
    let spent = |before: Option<Usage>, after: Option<Usage>| {
        let (before, after) = (before?, after?);
        Some(Usage { cpu_s: after.cpu_s - before.cpu_s, ..after })
    };
    let mut all = Measured {
        seconds: (ended - began).as_secs_f64(),
        server: spent(server_before, server_after),
        viewers: spent(viewers_before, viewers_after),
        ..Measured::default()
    };
    for task in tasks {
        all.join(task.await?);
    }
    Ok(all)
}

impl Measured {
    /// Takes in another run: times and counts add up, memory is the latest.
    pub(crate) fn follow(&mut self, next: Self) {
        self.seconds += next.seconds;
        self.server = sum(self.server, next.server);
        self.viewers = sum(self.viewers, next.viewers);
        self.join(next);
    }

    /// Answered requests of all kinds.
    pub(crate) fn requests(&self) -> usize {
        self.latencies_us.values().map(Vec::len).sum()
    }

    fn join(&mut self, other: Self) {
        for (kind, mut latencies) in other.latencies_us {
            self.latencies_us.entry(kind).or_default().append(&mut latencies);
        }
        for (status, count) in other.errors {
            *self.errors.entry(status).or_default() += count;
        }
        self.near_duplicates += other.near_duplicates;
        self.degraded += other.degraded;
        if !other.protocol.is_empty() {
            self.protocol = other.protocol;
        }
    }
}

fn sum(before: Option<Usage>, next: Option<Usage>) -> Option<Usage> {
    let cpu_s = before.map_or(0.0, |before| before.cpu_s);
    next.map(|next| Usage { cpu_s: cpu_s + next.cpu_s, ..next })
}

/// One person in front of a screen.
struct Viewer {
    mode: Mode,
    base: String,
    client: reqwest::Client,
    name: String,
    number: usize,
    viewers: usize,
    frames: Arc<Vec<Frame>>,
    item_ids: Arc<Vec<String>>,
    events_per_request: u64,
    step: u64,
    /// The best item of the latest answer, which is what this person turns to.
    wish: Option<String>,
}

impl Viewer {
    /// Asks until the end; counts what was answered in the measured time.
    async fn watch(mut self, counted_from: Instant, until: Instant) -> Measured {
        let mut measured = Measured::default();
        while Instant::now() < until {
            let (kind, request) = self.next_request();
            self.step += 1;
            let asked = Instant::now();
            let outcome = self.ask(request).await;
            let answered = Instant::now();
            let counts = answered >= counted_from && answered <= until;
            match outcome {
                Ok((protocol, text)) => {
                    self.learn(kind, &text);
                    if counts {
                        let us = (answered - asked).as_micros().min(u128::from(u32::MAX));
                        measured.latencies_us.entry(kind).or_default().push(us as u32);
                        measured.near_duplicates += u64::from(says(&text, b"\"near_duplicate\":true"));
                        measured.degraded += u64::from(says(&text, b"\"degraded\":true"));
                        measured.protocol = protocol;
                    }
                }
                Err(status) => {
                    if counts {
                        *measured.errors.entry(status).or_default() += 1;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        measured
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Result<(String, Bytes), String> {
        let broken =
            |error: reqwest::Error| if error.is_timeout() { "timeout".to_owned() } else { "broken".to_owned() };
        let answer = request.send().await.map_err(broken)?;
        let (status, protocol) = (answer.status(), format!("{:?}", answer.version()));
        let text = answer.bytes().await.map_err(broken)?;
        if status.is_success() { Ok((protocol, text)) } else { Err(status.as_u16().to_string()) }
    }

    fn next_request(&self) -> (&'static str, reqwest::RequestBuilder) {
        match self.mode {
            Mode::Frames | Mode::Live | Mode::Mixed => ("frame", self.frame()),
            Mode::Events | Mode::Durability | Mode::Replay => ("events", self.events(self.events_per_request)),
            Mode::Lists if self.step % (LISTS_PER_EVENT + 1) == LISTS_PER_EVENT => ("event", self.events(1)),
            Mode::Lists if self.step.is_multiple_of(2) => ("get list", self.get_list()),
            Mode::Lists => ("post list", self.post_list()),
        }
    }

    /// Each viewer begins elsewhere in the frames and goes through them in order, as a video does.
    fn frame(&self) -> reqwest::RequestBuilder {
        let begin = self.number * self.frames.len() / self.viewers;
        let mut url = format!("{}/v1/sessions/{}/frames?recommend=true&count=10", self.base, self.name);
        let place = (begin as u64 + self.step) % self.frames.len().max(1) as u64;
        let Some(frame) = self.frames.get(place as usize) else { return self.client.post(url) };
        url.push_str(&format!("&at_s={}", frame.at_s));
        if let Some(item_id) = &frame.item_id {
            url.push_str(&format!("&item_id={item_id}"));
        }
        self.client.post(url).header(CONTENT_TYPE, "application/octet-stream").body(frame.bytes.clone())
    }

    fn get_list(&self) -> reqwest::RequestBuilder {
        let (session, item_id) = (self.session(), self.item());
        let url =
            format!("{}/v1/recommendations?session_id={session}&item_id={item_id}&position_s=30&count=10", self.base);
        self.client.get(url)
    }

    fn post_list(&self) -> reqwest::RequestBuilder {
        let body = json!({"session_id": self.session(), "item_id": self.item(), "position_s": 12.5, "count": 10,
            "diversity": 0.2, "context": {"region": "de"}});
        self.json("/v1/recommendations", &body)
    }

    fn events(&self, count: u64) -> reqwest::RequestBuilder {
        let event = |n: u64| {
            let item = if n == 0 { self.item() } else { self.some_item(self.step * 1_000 + n) };
            json!({"type": if n.is_multiple_of(3) { "play" } else { "click" }, "session_id": self.session(), "item_id": item})
        };
        let events: Vec<Value> = (0..count).map(event).collect();
        self.json("/v1/events", &json!({ "events": events }))
    }

    fn json(&self, path: &str, body: &Value) -> reqwest::RequestBuilder {
        self.client.post(format!("{}{path}", self.base)).header(CONTENT_TYPE, "application/json").body(body.to_string())
    }

    fn session(&self) -> String {
        format!("{}-{}", self.name, self.step / SESSION_LISTS)
    }

    /// What is on screen: what the latest answer put first, and now and then something else.
    fn item(&self) -> String {
        match &self.wish {
            Some(item) if !self.step.is_multiple_of(7) => item.clone(),
            _ => self.some_item(self.step),
        }
    }

    fn some_item(&self, step: u64) -> String {
        // Multiplying by an odd number spreads the steps over the catalogue, the same way on every run.
        let spread = (step + 1 + self.number as u64 * 7_919).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        self.item_ids.get(spread as usize % self.item_ids.len().max(1)).cloned().unwrap_or_default()
    }

    fn learn(&mut self, kind: &str, text: &[u8]) {
        if kind != "get list" {
            return;
        }
        let answer: Value = serde_json::from_slice(text).unwrap_or_default();
        let first = &answer["horizons"][0]["items"][self.step as usize % 3]["item_id"];
        self.wish = first.as_str().map(str::to_owned);
    }
}

fn says(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}
