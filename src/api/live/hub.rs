//! Who is connected to which live session, and who is to hear that it has changed?
//!
//! One room for each session that somebody is connected to. Whoever learns something about a session tells its room
//! ([`Hub::touch`]); what was told while a listener was busy counts once. Connections are counted here, over all and for
//! each caller, so that the bounds hold.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::options::LiveOptions;
use crate::api::problem::ApiError;
use crate::domain::SessionId;
use crate::security::Principal;
use crate::telemetry::{LiveKind, Metrics};

/// What a connection is for.
pub(in crate::api) type Kind = LiveKind;

/// All rooms. Clones are the same.
#[derive(Debug, Clone)]
pub(in crate::api) struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: LiveOptions,
    metrics: Metrics,
    /// How many rooms there are, so that nobody has to lock to learn that there are none.
    rooms: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rooms: HashMap<SessionId, Room>,
    connections: usize,
    by_caller: HashMap<String, usize>,
}

#[derive(Debug)]
struct Room {
    changed: watch::Sender<u64>,
    seats: usize,
    /// Ends the connection that sends frames; a later one takes its place.
    sender: Option<CancellationToken>,
}

/// A place in a room; leaving is dropping it.
#[derive(Debug)]
pub(in crate::api) struct Seat {
    hub: Hub,
    session: SessionId,
    caller: String,
    kind: Kind,
    changed: watch::Receiver<u64>,
    /// Fires when a later connection takes over.
    pub(in crate::api) replaced: CancellationToken,
}

impl Hub {
    pub(in crate::api) fn new(options: LiveOptions, metrics: Metrics) -> Self {
        Self(Arc::new(Inner { options, metrics, rooms: AtomicUsize::new(0), state: Mutex::default() }))
    }

    /// A place in the session's room. Of those who send, the latest counts: a client that comes back after its connection
    /// was lost need not wait until the server has noticed.
    pub(in crate::api) fn enter(
        &self,
        session: &SessionId,
        principal: &Principal,
        kind: Kind,
    ) -> Result<Seat, ApiError> {
        let Inner { options, metrics, .. } = &*self.0;
        let mut state = self.0.state.lock();
        let caller = principal.rate_key();
        let most =
            if principal.person().is_some() { options.connections_per_user } else { options.connections_per_key };
        let own = state.by_caller.get(caller).copied().unwrap_or(0);
        // One that is about to be replaced makes room for the one that replaces it.
        let replaces = kind == Kind::Socket && state.rooms.get(session).is_some_and(|room| room.sender.is_some());
        if !replaces && (state.connections >= options.max_connections || own >= most) {
            metrics.count_live_refused();
            return Err(ApiError::TooManyConnections);
        }
        state.connections += 1;
        *state.by_caller.entry(caller.to_owned()).or_default() += 1;
        let room = state.rooms.entry(session.clone()).or_insert_with(|| Room {
            changed: watch::Sender::new(0),
            seats: 0,
            sender: None,
        });
        room.seats += 1;
        let replaced = CancellationToken::new();
        if kind == Kind::Socket
            && let Some(former) = room.sender.replace(replaced.clone())
        {
            former.cancel();
        }
        let changed = room.changed.subscribe();
        self.0.rooms.store(state.rooms.len(), Ordering::Relaxed);
        drop(state);
        metrics.live_connected(kind);
        Ok(Seat { hub: self.clone(), session: session.clone(), caller: caller.to_owned(), kind, changed, replaced })
    }

    /// Tells everybody in the session's room that there is something new.
    pub(in crate::api) fn touch(&self, session: &SessionId) {
        if self.0.rooms.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(room) = self.0.state.lock().rooms.get(session) {
            room.changed.send_modify(|version| *version = version.wrapping_add(1));
        }
    }

    fn leave(&self, seat: &Seat) {
        let mut state = self.0.state.lock();
        state.connections -= 1;
        if let Some(own) = state.by_caller.get_mut(&seat.caller) {
            *own -= 1;
            if *own == 0 {
                state.by_caller.remove(&seat.caller);
            }
        }
        if let Some(room) = state.rooms.get_mut(&seat.session) {
            room.seats -= 1;
            // The token of a connection that was replaced has been cancelled; the room has that of its successor.
            if seat.kind == Kind::Socket && !seat.replaced.is_cancelled() {
                room.sender = None;
            }
            if room.seats == 0 {
                state.rooms.remove(&seat.session);
            }
        }
        self.0.rooms.store(state.rooms.len(), Ordering::Relaxed);
    }
}

impl Seat {
    /// Waits until the session has changed since the last time.
    pub(in crate::api) async fn changed(&mut self) {
        if self.changed.changed().await.is_err() {
            // The room lives as long as its seats, so that this does not happen.
            std::future::pending::<()>().await;
        }
    }

    /// Tells the others; the change is no news to this seat.
    pub(in crate::api) fn touch_others(&mut self) {
        self.hub.touch(&self.session);
        self.changed.mark_unchanged();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.leave(self);
        self.hub.0.metrics.live_left(self.kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UserKey;
    use crate::security::Person;

    fn hub(max_connections: usize, connections_per_user: usize) -> Hub {
        let options = LiveOptions { max_connections, connections_per_user, ..LiveOptions::default() };
        Hub::new(options, Metrics::new().unwrap())
    }

    fn session(name: &str) -> SessionId {
        SessionId::new(name).unwrap()
    }

    fn person(n: u8) -> Principal {
        let person = Person { user: UserKey([n; 16]), age_years: None, region: None };
        Principal::of_person("k", person, crate::domain::Timestamp(i64::MAX))
    }

    #[tokio::test]
    async fn those_in_the_room_hear_of_changes_and_nobody_else() {
        let hub = hub(10, 10);
        let mut seat = hub.enter(&session("a"), &person(1), Kind::Reader).unwrap();
        hub.touch(&session("b"));
        hub.touch(&session("a"));
        hub.touch(&session("a"));
        seat.changed().await;
        assert!(!seat.changed.has_changed().unwrap(), "what came together counts once");
        seat.touch_others();
        assert!(!seat.changed.has_changed().unwrap());
        drop(seat);
        assert!(hub.0.state.lock().rooms.is_empty() && hub.0.state.lock().by_caller.is_empty());
    }

    #[test]
    fn the_bounds_hold_and_leaving_makes_room() {
        let hub = hub(3, 2);
        let enter = |who: u8, name: &str, kind| hub.enter(&session(name), &person(who), kind);
        let first = enter(1, "a", Kind::Reader).unwrap();
        let _second = enter(1, "a", Kind::Reader).unwrap();
        assert!(matches!(enter(1, "b", Kind::Reader), Err(ApiError::TooManyConnections)), "of one person");
        let _third = enter(2, "b", Kind::Reader).unwrap();
        assert!(enter(3, "c", Kind::Reader).is_err(), "over all");
        drop(first);
        assert!(enter(3, "c", Kind::Reader).is_ok());
    }

    #[test]
    fn the_latest_sender_takes_over() {
        let hub = hub(1, 1);
        let first = hub.enter(&session("a"), &person(1), Kind::Socket).unwrap();
        let second = hub.enter(&session("a"), &person(1), Kind::Socket).unwrap();
        assert!(first.replaced.is_cancelled() && !second.replaced.is_cancelled());
        drop(first);
        assert!(hub.0.state.lock().rooms[&session("a")].sender.is_some(), "the successor stays");
        let third = hub.enter(&session("a"), &person(1), Kind::Socket).unwrap();
        assert!(second.replaced.is_cancelled());
        drop((second, third));
        assert!(hub.0.state.lock().rooms.is_empty());
        assert_eq!(hub.0.state.lock().connections, 0);
    }
}
