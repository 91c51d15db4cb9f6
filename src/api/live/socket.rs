//! One client's connection: frames and events in, lists out.
//!
//! One task a connection, which waits for what happens first and does what follows from it. [`words`] is what the client says,
//! [`work`] what is done for it: looking and ranking run in a task of their own, so that a client that does not read holds
//! nothing up but itself.

mod words;
mod work;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use self::work::{Frame, Job, Outcome, worked};
use super::allowance::Allowance;
use super::{Seat, Shown};
use crate::api::problem::ApiError;
use crate::api::server::Lifeline;
use crate::api::state::AppState;
use crate::api::wire::{AckAnswer, HelloAnswer, LiveError, Pace, ServerMessage};
use crate::domain::SessionId;
use crate::engine::{EngineError, RecommendRequest};
use crate::security::Principal;
use crate::telemetry::LiveEnd;

pub(super) use self::work::lists_answer;

/// Events that may wait to be durable; with more, nothing further is read.
const MAX_OPEN_EVENTS: usize = 32;
/// For how long a client may take to answer a close, and events to become durable at the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// What is known of a connection when it is opened.
#[derive(Debug)]
pub(in crate::api) struct Connection {
    /// The id of the request that opened it, for problems.
    pub(in crate::api) name: Arc<str>,
    /// How many frames the session has had, if it was known.
    pub(in crate::api) resumed: Option<u64>,
    pub(in crate::api) lifeline: Lifeline,
    pub(in crate::api) session: SessionId,
    pub(in crate::api) principal: Principal,
    /// What lists are asked for.
    pub(in crate::api) wishes: RecommendRequest,
    pub(in crate::api) pace: Pace,
    pub(in crate::api) seat: Seat,
}

/// Talks with a client until either side ends it.
pub(in crate::api) async fn converse(state: AppState, connection: Connection, socket: WebSocket) {
    let metrics = state.metrics.clone();
    let end = Box::pin(Conversation::new(state, connection, socket).run()).await;
    metrics.count_live_end(end);
}

type Acked = (Option<String>, Result<AckAnswer, ApiError>);
type Events = FuturesUnordered<AbortOnDropHandle<Acked>>;

/// What a connection waits for.
enum Happened {
    CutOff,
    Drain,
    Replaced,
    Worked(Result<Outcome, EngineError>),
    Acked(Acked),
    Heard(Option<Result<Message, axum::Error>>),
    Changed,
    Time,
}

struct Conversation {
    state: AppState,
    connection: Connection,
    sink: SplitSink<WebSocket, Message>,
    source: SplitStream<WebSocket>,
    frame: Option<Frame>,
    dropped: u64,
    /// Why lists are wanted, if they are.
    wanted: Option<&'static str>,
    asked: bool,
    shown: Shown,
    pushes: u64,
    /// Whether the client has said what is on screen since that was last passed on. What it said before must not stand
    /// against what has come another way since.
    told: bool,
    /// Where the player stands still, if it does.
    paused_at_s: Option<f64>,
    job: Option<Job>,
    events: Events,
    allowance: Allowance,
    next_frame_at: Instant,
    next_lists_at: Instant,
    refresh_at: Instant,
    heartbeat_at: Instant,
    last_heard: Instant,
}

impl Conversation {
    fn new(state: AppState, connection: Connection, socket: WebSocket) -> Self {
        let (sink, source) = socket.split();
        let now = Instant::now();
        let options = &state.options.live;
        let allowance = Allowance::new(options.max_messages_per_s, now);
        let (refresh_at, heartbeat_at) = (now + options.refresh, now + options.heartbeat);
        Self {
            state,
            connection,
            sink,
            source,
            frame: None,
            dropped: 0,
            wanted: Some("start"),
            asked: false,
            shown: Shown::default(),
            pushes: 0,
            told: true,
            paused_at_s: None,
            job: None,
            events: FuturesUnordered::new(),
            allowance,
            next_frame_at: now,
            next_lists_at: now,
            refresh_at,
            heartbeat_at,
            last_heard: now,
        }
    }

    async fn run(mut self) -> LiveEnd {
        if let Err(end) = self.hello().await {
            return end;
        }
        loop {
            self.begin_work();
            let happened = self.wait().await;
            if let Err(end) = self.handle(happened).await {
                return end;
            }
        }
    }

    async fn hello(&mut self) -> Result<(), LiveEnd> {
        let options = &self.state.options.live;
        let hello = HelloAnswer {
            session_id: self.connection.session.clone(),
            resumed: self.connection.resumed.is_some(),
            frames: self.connection.resumed.unwrap_or(0),
            heartbeat_s: options.heartbeat.as_secs_f64(),
            idle_s: options.idle.as_secs_f64(),
            max_frame_bytes: self.state.options.limits.image_bytes,
            max_frames_per_s: options.max_frames_per_s,
            max_messages_per_s: options.max_messages_per_s,
        };
        self.say(&ServerMessage::Hello(hello)).await
    }

    /// Waits for what happens first. Whatever is not taken is still there the next time.
    async fn wait(&mut self) -> Happened {
        let wake_at = self.wake_at();
        let may_read = self.events.len() < MAX_OPEN_EVENTS;
        let Self { connection, source, job, events, .. } = self;
        let replaced = connection.seat.replaced.clone();
        tokio::select! {
            // What ends the connection first; then what is done; what the client says last, so that a flood starves nobody.
            biased;
            () = connection.lifeline.cut_off.cancelled() => Happened::CutOff,
            () = connection.lifeline.drain.cancelled() => Happened::Drain,
            () = replaced.cancelled() => Happened::Replaced,
            outcome = worked(job) => Happened::Worked(outcome),
            Some(acked) = events.next(), if !events.is_empty() => {
                Happened::Acked(acked.unwrap_or_else(|error| (None, Err(ApiError::Panicked(error.to_string())))))
            }
            () = sleep_until(wake_at) => Happened::Time,
            message = source.next(), if may_read => Happened::Heard(message),
            () = connection.seat.changed() => Happened::Changed,
        }
    }

    /// When there is something to do even if nothing happens.
    fn wake_at(&self) -> Instant {
        let mut at = self.heartbeat_at.min(self.refresh_at);
        if self.job.is_none() {
            if self.frame.is_some() {
                at = at.min(self.next_frame_at);
            }
            if self.wanted.is_some() {
                at = at.min(self.next_lists_at);
            }
        }
        at
    }

    async fn handle(&mut self, happened: Happened) -> Result<(), LiveEnd> {
        match happened {
            Happened::CutOff => Err(LiveEnd::Drained),
            Happened::Drain => {
                self.settle_events().await;
                Err(self.bye(1001, &EngineError::ShuttingDown.into(), LiveEnd::Drained).await)
            }
            Happened::Replaced => Err(self.bye(4001, &ApiError::Replaced, LiveEnd::Replaced).await),
            Happened::Worked(outcome) => match self.job.take() {
                Some(job) => self.worked(job, outcome).await,
                None => Ok(()),
            },
            Happened::Acked((event_id, outcome)) => self.acked(event_id, outcome).await,
            Happened::Heard(Some(Ok(message))) => self.heard(message).await,
            Happened::Heard(Some(Err(error))) => {
                // The library's word for a message that is longer than it was told to take.
                if error.to_string().starts_with("Space limit") {
                    let limit_bytes = self.state.options.limits.image_bytes;
                    return Err(self.bye(1009, &ApiError::BodyTooLarge { limit_bytes }, LiveEnd::Refused).await);
                }
                Err(LiveEnd::Lost)
            }
            Happened::Heard(None) => Err(LiveEnd::Lost),
            Happened::Changed => {
                self.wanted.get_or_insert("change");
                Ok(())
            }
            Happened::Time => self.tick().await,
        }
    }

    /// What is done by the clock.
    async fn tick(&mut self) -> Result<(), LiveEnd> {
        let now = Instant::now();
        let options = &self.state.options.live;
        if now >= self.refresh_at {
            self.refresh_at = now + options.refresh;
            // What people turn to changes, and so does what is left of the item on screen.
            self.wanted.get_or_insert("time");
        }
        if now < self.heartbeat_at {
            return Ok(());
        }
        self.heartbeat_at = now + options.heartbeat;
        if now.duration_since(self.last_heard) >= options.idle {
            return Err(self.bye(4000, &ApiError::Idle, LiveEnd::Idle).await);
        }
        if !self.state.still_good(&self.connection.principal) {
            let error = ApiError::Unauthorized("this key or token is no longer good");
            return Err(self.bye(4002, &error, LiveEnd::Expired).await);
        }
        self.send(Message::Ping(Bytes::new())).await
    }

    fn problem(&self, error: &ApiError) -> LiveError {
        LiveError::of(error, &self.connection.name)
    }

    /// Lets events that are under way become durable, and says so.
    async fn settle_events(&mut self) {
        let until = Instant::now() + FAREWELL;
        while !self.events.is_empty() {
            let Ok(Some(Ok((event_id, outcome)))) = tokio::time::timeout_at(until, self.events.next()).await else {
                return;
            };
            if self.acked(event_id, outcome).await.is_err() {
                return;
            }
        }
    }

    /// Says why this ends, and ends it.
    async fn bye(&mut self, code: u16, error: &ApiError, end: LiveEnd) -> LiveEnd {
        if self.say(&ServerMessage::Bye(self.problem(error))).await.is_err() {
            return end;
        }
        let close = CloseFrame { code, reason: error.kind().1.into() };
        if self.send(Message::Close(Some(close))).await.is_err() {
            return end;
        }
        let Self { source, connection, .. } = self;
        let answered = async {
            // What still comes in is nobody's any more, up to the client's own close.
            while let Some(Ok(_)) = source.next().await {}
        };
        tokio::select! {
            () = connection.lifeline.cut_off.cancelled() => {}
            _ = timeout(FAREWELL, answered) => {}
        }
        end
    }

    async fn say(&mut self, message: &ServerMessage) -> Result<(), LiveEnd> {
        match serde_json::to_string(message) {
            Ok(text) => self.send(Message::Text(text.into())).await,
            Err(error) => {
                tracing::error!(%error, "a message of a live session cannot be written");
                Ok(())
            }
        }
    }

    /// Sends, as long as the client reads.
    async fn send(&mut self, message: Message) -> Result<(), LiveEnd> {
        let Self { sink, connection, state, .. } = self;
        tokio::select! {
            () = connection.lifeline.cut_off.cancelled() => Err(LiveEnd::Drained),
            sent = timeout(state.options.live.write_timeout, sink.send(message)) => match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(LiveEnd::Lost),
                Err(_) => Err(LiveEnd::Stalled),
            },
        }
    }
}
