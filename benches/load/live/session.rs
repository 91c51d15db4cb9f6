//! What does one client of a live session do? It watches, or it misbehaves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::Failure;
use crate::frames::Frame;
use crate::server::Address;

/// Between two frames.
const FRAME_EVERY: Duration = Duration::from_secs(1);
/// For how long whoever lost a connection waits before coming back.
const COMES_BACK: Duration = Duration::from_secs(2);
/// How long a client that stalls does not read.
const STALLS: Duration = Duration::from_secs(15);
const CONNECTS_WITHIN: Duration = Duration::from_secs(30);

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// How to reach the server.
#[derive(Clone)]
pub(super) struct Door {
    port: u16,
    key: String,
    tls: Arc<ClientConfig>,
}

impl Door {
    pub(super) fn of(address: &Address) -> Result<Self, Failure> {
        let port = address.base.rsplit_once(':').ok_or("the address has no port")?.1.parse()?;
        let mut roots = RootCertStore::empty();
        let pem = address.certificate.as_deref().ok_or("the server has no certificate")?;
        roots.add(CertificateDer::from_pem_slice(pem)?)?;
        let mut tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let key = address.headers.get(http::header::AUTHORIZATION).ok_or("there is no key")?.to_str()?.to_owned();
        Ok(Self { port, key, tls: Arc::new(tls) })
    }

    async fn open(&self, session: &str) -> Result<Socket, Failure> {
        let connect = async {
            let tcp = TcpStream::connect(("127.0.0.1", self.port)).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from("localhost")?;
            let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await?;
            let path = format!("wss://localhost:{}/v1/sessions/{session}/live?frames=true&count=10", self.port);
            let mut request = path.into_client_request()?;
            request.headers_mut().insert("authorization", self.key.parse()?);
            Ok::<Socket, Failure>(tokio_tungstenite::client_async(request, stream).await?.0)
        };
        tokio::time::timeout(CONNECTS_WITHIN, connect).await?
    }
}

/// What a client does beside watching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manners {
    /// Nothing.
    Good,
    /// Stops reading for a while.
    Stalls,
    /// Is gone without a word, and comes back.
    Vanishes,
    /// Says what nobody understands.
    TalksGarbage,
    /// Sends more than it may.
    Floods,
}

/// What one client has seen.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Microseconds from a frame to the word that it was looked at, and to lists that it led to.
    pub(super) told_us: Vec<u32>,
    pub(super) push_us: Vec<u32>,
    pub(super) sent: u64,
    pub(super) dropped: u64,
    pub(super) near_duplicates: u64,
    pub(super) degraded: u64,
    pub(super) errors: u64,
    /// Connections that ended though the client had behaved.
    pub(super) lost: u64,
    /// Connections of clients that misbehaved, which ended because of that.
    pub(super) ended: u64,
    /// Connections after the first, and those of them that the server did not remember.
    pub(super) resumed: u64,
    pub(super) forgotten: u64,
}

impl Tally {
    pub(super) fn join(&mut self, mut other: Self) {
        self.told_us.append(&mut other.told_us);
        self.push_us.append(&mut other.push_us);
        self.sent += other.sent;
        self.dropped += other.dropped;
        self.near_duplicates += other.near_duplicates;
        self.degraded += other.degraded;
        self.errors += other.errors;
        self.lost += other.lost;
        self.ended += other.ended;
        self.resumed += other.resumed;
        self.forgotten += other.forgotten;
    }
}

/// One client, from its first connection to the end of the run.
pub(super) struct Client {
    pub(super) door: Door,
    pub(super) name: String,
    pub(super) number: usize,
    pub(super) manners: Manners,
    pub(super) frames: Arc<Vec<Frame>>,
    pub(super) counted_from: Instant,
    pub(super) until: Instant,
}

/// One connection: what it sends on, when its frames went out, and what it has dropped.
struct Watching {
    sink: SplitSink<Socket, Message>,
    source: SplitStream<Socket>,
    /// The frames that went out and were not heard of: media time, and when.
    out: Vec<(f64, Instant)>,
    dropped: u64,
}

impl Client {
    /// Watches until the end, and comes back whenever a connection ends.
    pub(super) async fn run(self) -> Tally {
        let (mut tally, mut step, mut before) = (Tally::default(), 0, false);
        // Spread over the second, so that frames do not come all at once.
        tokio::time::sleep(FRAME_EVERY.mul_f64((self.number as f64 * 0.618_034).fract())).await;
        while Instant::now() < self.until {
            match self.door.open(&self.name).await {
                Ok(socket) => {
                    let (sink, source) = socket.split();
                    let watching = Watching { sink, source, out: Vec::new(), dropped: 0 };
                    let fine = self.watch(watching, &mut step, before, &mut tally).await;
                    if !fine && self.manners == Manners::Good {
                        tally.lost += 1;
                    } else if !fine {
                        tally.ended += 1;
                    }
                }
                Err(_) => tally.lost += 1,
            }
            before = true;
            if Instant::now() < self.until {
                tokio::time::sleep(COMES_BACK).await;
            }
        }
        tally
    }

    /// Sends a frame a second; `false` if the connection ended before the client wanted.
    async fn watch(&self, mut on: Watching, step: &mut usize, before: bool, tally: &mut Tally) -> bool {
        let mut next = tokio::time::interval(FRAME_EVERY);
        next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let first_step = *step;
        loop {
            tokio::select! {
                _ = next.tick() => {
                    if Instant::now() >= self.until {
                        let _ = on.sink.send(Message::Close(None)).await;
                        return true;
                    }
                    if !self.send_frame(&mut on, *step, tally).await {
                        return false;
                    }
                    *step += 1;
                    // Once in a while, each in its own way.
                    if self.manners != Manners::Good && *step - first_step == 20 + self.number % 20 {
                        return self.misbehave(&mut on).await;
                    }
                }
                message = on.source.next() => match message {
                    Some(Ok(Message::Text(text))) => self.hear(&text, &mut on, before, tally),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return false,
                    Some(Ok(_)) => {}
                }
            }
        }
    }

    async fn send_frame(&self, on: &mut Watching, step: usize, tally: &mut Tally) -> bool {
        let Some(frame) = self.frames.get((self.number * 37 + step) % self.frames.len().max(1)) else { return false };
        let at_s = step as f64;
        let message = [&at_s.to_be_bytes()[..], &frame.bytes].concat();
        let now = Instant::now();
        on.out.push((at_s, now));
        if now >= self.counted_from {
            tally.sent += 1;
        }
        on.sink.send(Message::binary(message)).await.is_ok()
    }

    /// `true` if the connection is not expected to end of it.
    async fn misbehave(&self, on: &mut Watching) -> bool {
        match self.manners {
            Manners::Good => {}
            Manners::Stalls => tokio::time::sleep(STALLS).await,
            // Dropped as it is: no close, neither of the WebSocket nor of TLS.
            Manners::Vanishes => {}
            Manners::TalksGarbage => {
                for text in ["{", "[]", "{\"type\":\"?\"}", "\u{0}"] {
                    let _ = on.sink.send(Message::text(text)).await;
                }
                let garbage: Vec<u8> = (0..5_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
                let _ = on.sink.send(Message::binary(garbage)).await;
            }
            Manners::Floods => {
                for _ in 0..500 {
                    if on.sink.send(Message::text("{\"type\":\"lists\"}")).await.is_err() {
                        break;
                    }
                }
            }
        }
        false
    }

    fn hear(&self, text: &str, on: &mut Watching, before: bool, tally: &mut Tally) {
        let now = Instant::now();
        // Most of it is lists, of which only the beginning matters; reading all of it would cost the harness too much.
        let kind = ["lists", "frame", "hello", "error"]
            .iter()
            .find(|kind| text.strip_prefix("{\"type\":\"").and_then(|rest| rest.strip_prefix(**kind)).is_some());
        let field = |name: &str| -> Option<f64> {
            let rest = &text[text.find(&format!("\"{name}\":"))? + name.len() + 3..];
            rest[..rest.find([',', '}'])?].parse().ok()
        };
        let counts = now >= self.counted_from;
        let sent = field("at_s").and_then(|at_s| on.out.iter().find(|(out, _)| *out == at_s)).map(|(_, sent)| *sent);
        let us = |sent: Instant| u32::try_from((now - sent).as_micros()).unwrap_or(u32::MAX);
        match kind.copied() {
            Some("frame") => {
                if let (Some(sent), true) = (sent, counts) {
                    tally.told_us.push(us(sent));
                    tally.near_duplicates += u64::from(text.contains("\"near_duplicate\":true"));
                }
                on.count_dropped(field("dropped_frames"), counts, tally);
            }
            Some("lists") => {
                if let (Some(sent), true) = (sent, counts) {
                    tally.push_us.push(us(sent));
                    tally.degraded += u64::from(text.contains("\"degraded\":true"));
                }
                if let Some(at_s) = field("at_s") {
                    on.out.retain(|(out, _)| *out > at_s);
                }
                on.count_dropped(field("dropped_frames"), counts, tally);
            }
            Some("hello") if before => {
                let hello: Value = serde_json::from_str(text).unwrap_or_default();
                tally.resumed += 1;
                tally.forgotten += u64::from(hello["resumed"] != true);
            }
            Some("error") if self.manners == Manners::Good => tally.errors += 1,
            _ => {}
        }
        if on.out.len() > 60 {
            on.out.drain(..30);
        }
    }
}

impl Watching {
    /// The server counts from the beginning of the connection.
    fn count_dropped(&mut self, dropped: Option<f64>, counts: bool, tally: &mut Tally) {
        let dropped = dropped.unwrap_or_default() as u64;
        if counts {
            tally.dropped += dropped.saturating_sub(self.dropped);
        }
        self.dropped = self.dropped.max(dropped);
    }
}
