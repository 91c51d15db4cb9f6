//! One client's connection: frames and events in, lists out.
//!
//! One task a connection. It never queues frames: the latest waits for its turn, and one that comes meanwhile takes its
//! place. Looking and ranking run in a task of their own, so that a client that does not read holds nothing up but itself.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::allowance::Allowance;
use super::{Seat, Shown};
use crate::api::admission::Turn;
use crate::api::caller;
use crate::api::problem::ApiError;
use crate::api::server::Lifeline;
use crate::api::state::AppState;
use crate::api::wire::{
    AckAnswer, ClientMessage, EventBody, HelloAnswer, ListsAnswer, LiveError, Pace, PlayerAction, PlayerChange,
    SeenAnswer, ServerMessage, milliseconds, read_frame,
};
use crate::domain::{EventKind, SessionId};
use crate::engine::{
    EngineError, EventReceipt, FrameOutcome, FrameRequest, FrameUpload, RecommendRequest, Recommendation,
};
use crate::security::Principal;
use crate::telemetry::{AdmissionClass, EventOutcome, LiveEnd, LiveFrame};

/// Bytes of a text message at most.
const MAX_TEXT_BYTES: usize = 64 * 1024;
/// Events that may wait to be durable; with more, nothing further is read.
const MAX_OPEN_EVENTS: usize = 32;
/// When to look for room again.
const NO_ROOM: Duration = Duration::from_millis(25);
/// Under which name the time of lists counts for admission.
const ROUTE: &str = "live";
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

/// A frame that waits for its turn.
struct Frame {
    bytes: Bytes,
    at_s: Option<f64>,
    received: Instant,
}

/// Work that goes on.
struct Job {
    /// The frame's media time and when it came, if there is one.
    frame: Option<(Option<f64>, Instant)>,
    because: &'static str,
    /// Whether lists are wanted even if they are the same.
    asked: bool,
    outcome: AbortOnDropHandle<Result<Outcome, EngineError>>,
}

enum Outcome {
    Seen(FrameOutcome),
    Lists(Box<Recommendation>),
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

    /// Starts what is due, if nothing is under way.
    fn begin_work(&mut self) {
        let now = Instant::now();
        if self.job.is_some() {
            return;
        }
        let lists_due = now >= self.next_lists_at;
        let frame_due = self.frame.is_some() && now >= self.next_frame_at;
        let due = frame_due || (self.wanted.is_some() && lists_due);
        if !due {
            return;
        }
        // Without room, the frame keeps its place until a later one takes it.
        let Some(turn) = self.state.admission.enter(AdmissionClass::Live) else {
            let later = now + NO_ROOM;
            (self.next_frame_at, self.next_lists_at) = (self.next_frame_at.max(later), self.next_lists_at.max(later));
            return;
        };
        if frame_due {
            let Some(frame) = self.frame.take() else { return };
            self.next_frame_at = now + Duration::from_secs_f64(1.0 / self.state.options.live.max_frames_per_s);
            let because = if lists_due { self.wanted.take().unwrap_or("frame") } else { "frame" };
            if !lists_due {
                self.wanted.get_or_insert("frame");
            }
            self.start(turn, Some(frame), lists_due, because, now);
        } else {
            let because = self.wanted.take().unwrap_or("time");
            self.start(turn, None, true, because, now);
        }
    }

    fn start(&mut self, turn: Turn, frame: Option<Frame>, lists: bool, because: &'static str, now: Instant) {
        if lists {
            self.next_lists_at = now + Duration::from_secs_f64(1.0 / self.connection.pace.pushes_per_s);
            self.refresh_at = now + self.state.options.live.refresh;
        }
        let told = frame.as_ref().map(|frame| (frame.at_s, frame.received));
        let upload = frame.map(|frame| FrameUpload { bytes: frame.bytes, at_s: frame.at_s });
        let engine = Arc::clone(&self.state.engine);
        let says = std::mem::take(&mut self.told) || upload.is_some() || self.paused_at_s.is_some();
        // A position that the client told counts once; from then on the clock goes on from it.
        let told_position_s = self.connection.wishes.position_s.take();
        let wishes = &self.connection.wishes;
        let outcome = if lists {
            let playing = wishes.playing.clone().filter(|_| says);
            let position_s = upload.as_ref().and_then(|upload| upload.at_s).or(self.paused_at_s).or(told_position_s);
            let request = RecommendRequest {
                position_s: position_s.filter(|_| playing.is_some()),
                playing,
                frames: upload.into_iter().collect(),
                ..wishes.clone()
            };
            tokio::spawn(async move {
                let lists = engine.recommend(request).await?;
                turn.done(ROUTE);
                Ok(Outcome::Lists(Box::new(lists)))
            })
        } else {
            let Some(frame) = upload else { return };
            let request = FrameRequest {
                session: self.connection.session.clone(),
                user: wishes.user,
                playing: wishes.playing.clone(),
                frame,
                region: wishes.region.clone(),
            };
            tokio::spawn(async move {
                let _turn = turn;
                Ok(Outcome::Seen(engine.observe_frame(request).await?))
            })
        };
        let asked = lists && std::mem::take(&mut self.asked);
        self.job = Some(Job { frame: told, because, asked, outcome: AbortOnDropHandle::new(outcome) });
    }

    async fn worked(&mut self, job: Job, outcome: Result<Outcome, EngineError>) -> Result<(), LiveEnd> {
        let Job { frame, because, asked, .. } = job;
        match outcome {
            Ok(Outcome::Seen(seen)) => self.seen(frame, Some(seen)).await,
            Ok(Outcome::Lists(mut lists)) => {
                if frame.is_some() {
                    let seen = lists.frames.pop();
                    self.seen(frame, seen).await?;
                }
                self.push(frame, because, asked, *lists).await
            }
            Err(EngineError::ShuttingDown) => {
                Err(self.bye(1001, &EngineError::ShuttingDown.into(), LiveEnd::Drained).await)
            }
            // The next frame may have better luck; it says that this one had none.
            Err(EngineError::Busy { .. } | EngineError::DeadlinePassed) => {
                if frame.is_some() {
                    self.drop_frame();
                }
                self.wanted.get_or_insert(because);
                self.asked |= asked;
                Ok(())
            }
            Err(error) => {
                if frame.is_some() {
                    self.state.metrics.count_live_frames(LiveFrame::Refused, 1);
                }
                if matches!(error, EngineError::Internal(_)) {
                    tracing::error!(%error, "a live session's lists failed");
                }
                // Lists that this would have led to are made without it.
                if because != "frame" {
                    self.wanted.get_or_insert(because);
                }
                let about = LiveError { at_s: frame.and_then(|(at_s, _)| at_s), ..self.problem(&error.into()) };
                self.say(&ServerMessage::Error(about)).await
            }
        }
    }

    async fn seen(&mut self, frame: Option<(Option<f64>, Instant)>, seen: Option<FrameOutcome>) -> Result<(), LiveEnd> {
        self.connection.seat.touch_others();
        self.state.metrics.count_live_frames(LiveFrame::Seen, 1);
        let (Some((at_s, received)), Some(seen), true) = (frame, seen, self.connection.pace.tell_frames) else {
            return Ok(());
        };
        let took_ms = milliseconds(received.elapsed());
        let message = SeenAnswer { at_s, frame: seen.into(), dropped_frames: self.dropped, took_ms };
        self.say(&ServerMessage::Frame(message)).await
    }

    /// Pushes lists, if a viewer would see that they are others.
    async fn push(
        &mut self,
        frame: Option<(Option<f64>, Instant)>,
        because: &'static str,
        asked: bool,
        lists: Recommendation,
    ) -> Result<(), LiveEnd> {
        let next = Shown::of(&lists.lists);
        let news = asked || self.pushes == 0 || self.shown.differs(&next, self.connection.pace.notice);
        self.state.metrics.count_live_lists(news);
        if !news {
            return Ok(());
        }
        self.shown = next;
        self.pushes += 1;
        let answer = lists_answer(&self.state, &self.connection.session, lists);
        let message = ListsAnswer {
            number: self.pushes,
            because,
            at_s: frame.and_then(|(at_s, _)| at_s),
            dropped_frames: self.dropped,
            ..answer
        };
        self.say(&ServerMessage::Lists(Box::new(message))).await?;
        if let Some((_, received)) = frame {
            self.state.metrics.observe_frame_to_push(received.elapsed().as_secs_f64());
        }
        Ok(())
    }

    async fn heard(&mut self, message: Message) -> Result<(), LiveEnd> {
        self.last_heard = Instant::now();
        if !self.allowance.take(self.last_heard) {
            let error = ApiError::RateLimited { retry_after: Duration::from_secs(1) };
            return Err(self.bye(1008, &error, LiveEnd::Refused).await);
        }
        match message {
            Message::Binary(bytes) => {
                let Some((at_s, bytes)) = read_frame(bytes) else {
                    self.state.metrics.count_live_frames(LiveFrame::Refused, 1);
                    let error = ApiError::EmptyBody("eight bytes of media time, then a picture");
                    return self.say(&ServerMessage::Error(self.problem(&error))).await;
                };
                let frame = Frame { bytes, at_s, received: self.last_heard };
                if self.frame.replace(frame).is_some() {
                    self.drop_frame();
                }
                Ok(())
            }
            Message::Text(text) => {
                let read = if text.len() > MAX_TEXT_BYTES {
                    Err(ApiError::BodyTooLarge { limit_bytes: MAX_TEXT_BYTES })
                } else {
                    ClientMessage::read(text.as_bytes(), &self.connection.session)
                };
                match read {
                    Ok(ClientMessage::Ping) => self.say(&ServerMessage::Pong).await,
                    Ok(ClientMessage::Lists) => {
                        self.wanted = Some("asked");
                        self.asked = true;
                        Ok(())
                    }
                    Ok(ClientMessage::Player(change)) => self.player(change).await,
                    Ok(ClientMessage::Event(row)) => self.event(row).await,
                    Err(error) => self.say(&ServerMessage::Error(self.problem(&error))).await,
                }
            }
            // Answered by the library.
            Message::Ping(_) | Message::Pong(_) => Ok(()),
            Message::Close(_) => {
                // Sends the answer to it.
                let _ = timeout(FAREWELL, self.sink.close()).await;
                Err(LiveEnd::Client)
            }
        }
    }

    async fn player(&mut self, change: PlayerChange) -> Result<(), LiveEnd> {
        let PlayerChange { action, item, at_s } = change;
        if action == PlayerAction::Item && item.is_none() {
            let error = ApiError::field("item_id", "must be there");
            return self.say(&ServerMessage::Error(self.problem(&error))).await;
        }
        let wishes = &mut self.connection.wishes;
        if item.is_some() {
            wishes.playing = item;
        }
        wishes.position_s = at_s;
        self.told = true;
        match action {
            PlayerAction::Pause => self.paused_at_s = at_s,
            PlayerAction::Resume | PlayerAction::Item => self.paused_at_s = None,
            PlayerAction::Seek => {
                if self.paused_at_s.is_some() {
                    self.paused_at_s = at_s.or(self.paused_at_s);
                }
            }
        }
        self.wanted.get_or_insert("change");
        Ok(())
    }

    async fn event(&mut self, row: serde_json::Value) -> Result<(), LiveEnd> {
        let named = row.get("event_id").and_then(serde_json::Value::as_str).map(str::to_owned);
        let state = &self.state;
        let now = state.clock.now();
        let latest = now.plus_seconds(state.options.max_event_lead_s);
        let read = if EventBody::names_pseudonym(&row) {
            Err(ApiError::UserKeyForbidden)
        } else {
            EventBody::read(row, "event", now, latest, |user| state.user_key(user))
        };
        let restricted = read.and_then(|mut event| {
            event.user = event.user.or(self.connection.wishes.user);
            caller::restrict_event(state, &self.connection.principal, &mut event)?;
            Ok(event)
        });
        let event = match restricted {
            Ok(event) => event,
            Err(error) => {
                state.metrics.count_events(EventOutcome::Rejected, 1);
                let about = LiveError { event_id: named, ..self.problem(&error) };
                return self.say(&ServerMessage::Error(about)).await;
            }
        };
        match event.kind {
            EventKind::Click | EventKind::Play => {
                let wishes = &mut self.connection.wishes;
                if wishes.playing.as_ref() != Some(&event.item) {
                    (wishes.playing, wishes.position_s) = (Some(event.item.clone()), event.position_s.map(f64::from));
                    self.paused_at_s = None;
                }
            }
            EventKind::Finish | EventKind::Skip => {
                let wishes = &mut self.connection.wishes;
                if wishes.playing.as_ref() == Some(&event.item) {
                    (wishes.playing, wishes.position_s) = (None, None);
                }
            }
            EventKind::Impression
            | EventKind::Progress
            | EventKind::Like
            | EventKind::Dislike
            | EventKind::Share
            | EventKind::Save
            | EventKind::Rate
            | EventKind::Purchase => {}
        }
        let engine = Arc::clone(&self.state.engine);
        let event_id = event.id.as_str().to_owned();
        let work = tokio::spawn(async move {
            let outcome = engine.observe_events(vec![event], true).await;
            let receipt = outcome.and_then(|receipts| {
                receipts.into_iter().next().ok_or_else(|| EngineError::Internal("a receipt is missing".into()))
            });
            let answer = receipt.map_err(ApiError::from).map(|receipt| {
                let (status, known_item) = match receipt {
                    EventReceipt::Stored { known_item } => ("stored", Some(known_item)),
                    EventReceipt::Duplicate => ("duplicate", None),
                    EventReceipt::Accepted => ("accepted", None),
                };
                AckAnswer { event_id: event_id.clone(), status, known_item }
            });
            (Some(event_id), answer)
        });
        self.events.push(AbortOnDropHandle::new(work));
        Ok(())
    }

    async fn acked(&mut self, event_id: Option<String>, outcome: Result<AckAnswer, ApiError>) -> Result<(), LiveEnd> {
        match outcome {
            Ok(ack) => {
                // Everybody makes lists anew, this connection too; first of all it hears that the event is durable.
                self.state.hub.touch(&self.connection.session);
                self.say(&ServerMessage::Ack(ack)).await
            }
            Err(error) => {
                if error.kind().0.is_server_error() {
                    tracing::error!(%error, "an event of a live session failed");
                }
                let about = LiveError { event_id, ..self.problem(&error) };
                self.say(&ServerMessage::Error(about)).await
            }
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

    fn drop_frame(&mut self) {
        self.dropped += 1;
        self.state.metrics.count_live_frames(LiveFrame::Dropped, 1);
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

/// The lists of `recommendation` with what is known of the session; the connection's own figures are left at zero.
pub(super) fn lists_answer(state: &AppState, session: &SessionId, recommendation: Recommendation) -> ListsAnswer {
    let known = state.engine.session(session);
    let (frames, scene_age_s, motion) =
        known.map_or_else(Default::default, |known| (known.frames, known.scene_age_s, known.motion));
    ListsAnswer {
        number: 0,
        because: "change",
        at_s: None,
        frames,
        dropped_frames: 0,
        scene_age_s,
        motion: motion.into(),
        recommendation: recommendation.into(),
    }
}

/// What the work that goes on comes to; waits for ever if there is none.
async fn worked(job: &mut Option<Job>) -> Result<Outcome, EngineError> {
    match job {
        Some(job) => {
            (&mut job.outcome).await.unwrap_or_else(|e| Err(EngineError::Internal(format!("work stopped: {e}"))))
        }
        None => std::future::pending().await,
    }
}
