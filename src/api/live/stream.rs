//! The twin for those who only read: lists as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::time::{Instant, sleep_until};

use super::socket::{Connection, lists_answer};
use super::{Seat, Shown};
use crate::api::problem::ApiError;
use crate::api::server::Lifeline;
use crate::api::state::AppState;
use crate::api::wire::{ListsAnswer, LiveError, Pace, ServerMessage};
use crate::domain::SessionId;
use crate::engine::{EngineError, RecommendRequest};
use crate::security::Principal;

/// Somebody who reads along.
pub(in crate::api) struct Reader {
    state: AppState,
    session: SessionId,
    principal: Principal,
    wishes: RecommendRequest,
    pace: Pace,
    seat: Seat,
    /// What a reader that has come back saw last.
    known: Option<String>,
    lifeline: Lifeline,
    shown: Shown,
    pushes: u64,
    next_lists_at: Instant,
    /// Whether lists have been made; from then on something has to happen first.
    begun: bool,
    over: bool,
}

impl Reader {
    /// `known` names what a reader that has come back saw last.
    pub(in crate::api) fn new(state: AppState, connection: Connection, known: Option<String>) -> Self {
        let Connection { lifeline, session, principal, wishes, pace, seat, .. } = connection;
        let (shown, next_lists_at) = (Shown::default(), Instant::now());
        Self {
            state,
            session,
            principal,
            wishes,
            pace,
            seat,
            known,
            lifeline,
            shown,
            pushes: 0,
            next_lists_at,
            begun: false,
            over: false,
        }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        while !self.over {
            let because = if self.begun { self.news().await? } else { "start" };
            self.begun = true;
            if !self.state.still_good(&self.principal) {
                return self.last(&ApiError::Unauthorized("this key or token is no longer good"));
            }
            self.pause().await?;
            let lists = match self.state.engine.recommend(self.wishes.clone()).await {
                Ok(lists) => lists,
                // There may be room the next time.
                Err(EngineError::Busy { .. } | EngineError::DeadlinePassed) => continue,
                Err(error) => return self.last(&error.into()),
            };
            // A position that the client told counts once; from then on the clock goes on from it.
            self.wishes.position_s = None;
            let next = Shown::of(&lists.lists);
            let name = next.name();
            let seen_before = self.known.take().is_some_and(|known| known == name);
            let news = !seen_before && self.shown.differs(&next, self.pace.notice);
            self.state.metrics.count_live_lists(news);
            if seen_before {
                self.shown = next;
            } else if news {
                self.shown = next;
                self.pushes += 1;
                let answer = lists_answer(&self.state, &self.session, lists);
                let message = ListsAnswer { number: self.pushes, because, ..answer };
                return event("lists", &ServerMessage::Lists(Box::new(message)), Some(&name));
            }
        }
        None
    }

    /// Waits until there may be something new; `None` when the server stops.
    async fn news(&mut self) -> Option<&'static str> {
        let refresh_at = Instant::now() + self.state.options.live.refresh;
        tokio::select! {
            () = self.lifeline.drain.cancelled() => None,
            () = self.seat.changed() => Some("change"),
            () = sleep_until(refresh_at) => Some("time"),
        }
    }

    /// Waits until lists may be pushed again; `None` when the server stops.
    async fn pause(&mut self) -> Option<()> {
        tokio::select! {
            // Whoever has just come hears once, even from a server that stops.
            biased;
            () = sleep_until(self.next_lists_at) => {}
            () = self.lifeline.drain.cancelled() => return None,
        }
        self.next_lists_at = Instant::now() + Duration::from_secs_f64(1.0 / self.pace.pushes_per_s);
        Some(())
    }

    fn last(&mut self, error: &ApiError) -> Option<Event> {
        self.over = true;
        event("bye", &ServerMessage::Bye(LiveError::of(error, "")), None)
    }
}

fn event(name: &str, message: &ServerMessage, id: Option<&str>) -> Option<Event> {
    let event = Event::default().event(name).json_data(message).ok()?;
    Some(match id {
        Some(id) => event.id(id),
        None => event,
    })
}

/// What the reader hears, from now on.
pub(in crate::api) fn events(reader: Reader) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let every = reader.state.options.live.heartbeat;
    let stream = unfold(reader, |mut reader| async move {
        let event = Box::pin(reader.next()).await?;
        Some((Ok(event), reader))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(every).text("keep-alive"))
}
