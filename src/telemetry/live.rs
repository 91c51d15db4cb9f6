//! What can be seen of live sessions: connections, frames, pushes.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

use super::metrics::{Metrics, Registrar, SECONDS_BUCKETS};

/// What a live connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveKind {
    /// It sends and hears: a WebSocket.
    Socket,
    /// It only hears: server-sent events.
    Reader,
}

/// What became of a frame that a live session sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveFrame {
    /// It was looked at.
    Seen,
    /// A later frame came before its turn, or there was no room for it.
    Dropped,
    /// It is no picture that can be read.
    Refused,
}

/// Why a live connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveEnd {
    /// The client closed it.
    Client,
    /// It broke off.
    Lost,
    /// The client does not read.
    Stalled,
    /// Nothing was heard of the client.
    Idle,
    /// The client sends too much, or what is no message.
    Refused,
    /// A later connection took over.
    Replaced,
    /// The key or token is no longer good.
    Expired,
    /// The server stops.
    Drained,
}

const ENDS: [&str; 8] = ["client", "lost", "stalled", "idle", "refused", "replaced", "expired", "drained"];

#[derive(Debug)]
pub(super) struct LiveFamilies {
    connections: [IntGauge; 2],
    refused: IntCounter,
    frames: [IntCounter; 3],
    pushes: IntCounter,
    unchanged: IntCounter,
    frame_to_push: Histogram,
    ends: [IntCounter; 8],
}

impl LiveFamilies {
    pub(super) fn register(add: &mut Registrar) -> prometheus::Result<Self> {
        let connections = add.add(IntGaugeVec::new(
            Opts::new("upnext_live_connections", "Connections to live sessions: sockets send and hear, readers hear."),
            &["kind"],
        ))?;
        let frames = add.add(IntCounterVec::new(
            Opts::new("upnext_live_frames_total", "Frames of live sessions, by what became of them."),
            &["outcome"],
        ))?;
        let lists = add.add(IntCounterVec::new(
            Opts::new(
                "upnext_live_lists_total",
                "Lists made for live sessions: pushed, or not told apart from the last.",
            ),
            &["outcome"],
        ))?;
        let ends = add.add(IntCounterVec::new(
            Opts::new("upnext_live_ended_total", "Live sockets that ended, by reason."),
            &["reason"],
        ))?;
        Ok(Self {
            connections: ["socket", "reader"].map(|kind| connections.with_label_values(&[kind])),
            refused: add
                .counter("upnext_live_refused_total", "Live connections refused because there were too many.")?,
            frames: ["seen", "dropped", "refused"].map(|outcome| frames.with_label_values(&[outcome])),
            pushes: lists.with_label_values(&["pushed"]),
            unchanged: lists.with_label_values(&["unchanged"]),
            frame_to_push: add.histogram(
                "upnext_live_frame_to_push_seconds",
                "Time from a live session's frame to the lists that it led to.",
                &SECONDS_BUCKETS,
            )?,
            ends: ENDS.map(|reason| ends.with_label_values(&[reason])),
        })
    }
}

impl Metrics {
    /// Somebody has connected.
    pub fn live_connected(&self, kind: LiveKind) {
        self.live().connections[kind as usize].inc();
    }

    /// Somebody has left.
    pub fn live_left(&self, kind: LiveKind) {
        self.live().connections[kind as usize].dec();
    }

    /// Somebody could not connect, because there were too many.
    pub fn count_live_refused(&self) {
        self.live().refused.inc();
    }

    /// What became of frames.
    pub fn count_live_frames(&self, outcome: LiveFrame, count: u64) {
        self.live().frames[outcome as usize].inc_by(count);
    }

    /// Lists were made; whether they were worth a push.
    pub fn count_live_lists(&self, pushed: bool) {
        let families = self.live();
        if pushed { &families.pushes } else { &families.unchanged }.inc();
    }

    /// Lists went out so many seconds after the frame that led to them came in.
    pub fn observe_frame_to_push(&self, seconds: f64) {
        self.live().frame_to_push.observe(seconds);
    }

    /// A socket has ended.
    pub fn count_live_end(&self, end: LiveEnd) {
        self.live().ends[end as usize].inc();
    }
}
