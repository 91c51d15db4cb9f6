//! What a client says, and what follows from it: frames, events, and what its player does.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::Message;
use futures_util::SinkExt;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::work::Frame;
use super::{Conversation, FAREWELL};
use crate::api::caller;
use crate::api::problem::ApiError;
use crate::api::wire::{
    AckAnswer, ClientMessage, EventBody, LiveError, PlayerAction, PlayerChange, ServerMessage, read_frame,
};
use crate::domain::EventKind;
use crate::engine::{EngineError, EventReceipt};
use crate::telemetry::{EventOutcome, LiveEnd, LiveFrame};

/// Bytes of a text message at most.
const MAX_TEXT_BYTES: usize = 64 * 1024;

impl Conversation {
    pub(super) async fn heard(&mut self, message: Message) -> Result<(), LiveEnd> {
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

    pub(super) async fn acked(
        &mut self,
        event_id: Option<String>,
        outcome: Result<AckAnswer, ApiError>,
    ) -> Result<(), LiveEnd> {
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
}
