//! What is done for a client: frames are looked at, lists are made and pushed.
//!
//! Frames are never queued: the latest waits for its turn, and one that comes meanwhile takes its place.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, trace_span};

use super::Conversation;
use crate::api::admission::Turn;
use crate::api::live::Shown;
use crate::api::state::AppState;
use crate::api::wire::{ListsAnswer, LiveError, SeenAnswer, ServerMessage, milliseconds};
use crate::domain::SessionId;
use crate::engine::{EngineError, FrameOutcome, FrameRequest, FrameUpload, RecommendRequest, Recommendation};
use crate::telemetry::{AdmissionClass, LiveEnd, LiveFrame, TRACE_TARGET};

/// When to look for room again.
const NO_ROOM: Duration = Duration::from_millis(25);
/// Under which name the time of lists counts for admission.
const ROUTE: &str = "live";
/// The same with a frame that is like the one before, and with one that the model looks at: they take different times.
const REPEATED: &str = "live, repeated";
const LOOKED_AT: &str = "live, looked at";

/// A frame that waits for its turn.
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    pub(super) at_s: Option<f64>,
    pub(super) received: Instant,
}

/// Work that goes on.
pub(super) struct Job {
    /// The frame's media time and when it came, if there is one.
    pub(super) frame: Option<(Option<f64>, Instant)>,
    pub(super) because: &'static str,
    /// Whether lists are wanted even if they are the same.
    pub(super) asked: bool,
    pub(super) outcome: AbortOnDropHandle<Result<Outcome, EngineError>>,
}

pub(super) enum Outcome {
    Seen(FrameOutcome),
    Lists(Box<Recommendation>),
}

/// What a frame took counts: those that the model looks at tell whether live sessions are held up.
fn account(turn: &Turn, frame: &FrameOutcome) {
    match (frame.missed, frame.near_duplicate) {
        (false, true) => turn.done(REPEATED),
        // One that was too late for the model tells it the loudest.
        (true, _) | (false, false) => turn.done_live(LOOKED_AT),
    }
}

impl Conversation {
    /// Starts what is due, if nothing is under way.
    pub(super) fn begin_work(&mut self) {
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
            let work = async move {
                let lists = engine.recommend(request).await?;
                match lists.frames.last() {
                    Some(frame) => account(&turn, frame),
                    None => turn.done(ROUTE),
                }
                Ok(Outcome::Lists(Box::new(lists)))
            };
            // The request that opened the connection has long been answered: each piece of work is traced on its own.
            tokio::spawn(work.instrument(trace_span!(target: TRACE_TARGET, parent: None, "live")))
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
                let seen = engine.observe_frame(request).await?;
                account(&turn, &seen);
                Ok(Outcome::Seen(seen))
            })
        };
        let asked = lists && std::mem::take(&mut self.asked);
        self.job = Some(Job { frame: told, because, asked, outcome: AbortOnDropHandle::new(outcome) });
    }

    pub(super) async fn worked(&mut self, job: Job, outcome: Result<Outcome, EngineError>) -> Result<(), LiveEnd> {
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
                if matches!(error, EngineError::Internal(_) | EngineError::ModelFailed(_)) {
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
        if seen.as_ref().is_some_and(|seen| seen.missed) {
            // The lists were made without it; they say `degraded`.
            self.drop_frame();
        } else {
            self.connection.seat.touch_others();
            self.state.metrics.count_live_frames(LiveFrame::Seen, 1);
        }
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

    pub(super) fn drop_frame(&mut self) {
        self.dropped += 1;
        self.state.metrics.count_live_frames(LiveFrame::Dropped, 1);
    }
}

/// The lists of `recommendation` with what is known of the session; the connection's own figures are left at zero.
pub(in crate::api::live) fn lists_answer(
    state: &AppState,
    session: &SessionId,
    recommendation: Recommendation,
) -> ListsAnswer {
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
pub(super) async fn worked(job: &mut Option<Job>) -> Result<Outcome, EngineError> {
    match job {
        Some(job) => {
            (&mut job.outcome).await.unwrap_or_else(|e| Err(EngineError::Internal(format!("work stopped: {e}"))))
        }
        None => std::future::pending().await,
    }
}
