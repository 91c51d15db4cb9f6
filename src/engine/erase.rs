//! How is a person forgotten, and what is known of them? Their key goes, and with it their past; then what was learned from it.
//!
//! The order: their entries are read while they can be; the key goes (from here on nobody can read what they did, in the
//! log or in any copy of it); what was learned from them is taken back; checkpoints, which hold it, go. No checkpoint is
//! taken in between. A crash leaves them either as they were, and unanswered, or gone: a checkpoint from before the key
//! went is never used, and what is learned is built again from what can be read.
//!
//! Decisions and examples of their sessions go too; the weights of the ranking, which name nobody, stay.
//!
//! No model keeps anything about a person but their latest items, which go. The factors of items are sums over many
//! people; the next training, for which this is a reason, makes them anew without theirs.
//!
//! What remains: what the same session did before the service knew whose it was; links between items that had to make
//! room for theirs; and when an item was last touched, if others touched it too.

use std::collections::HashSet;

use super::live::{Live, session_key};
use super::parts::Parts;
use super::task::{aside, detached};
use super::{Engine, EngineError, SessionState};
use crate::collab::Engagement;
use crate::domain::{Event, ItemNo, SessionId, Timestamp, UserKey};
use crate::session::{SessionLimits, SessionTable};
use crate::store::LogEntry;

/// Entries that are read at a time.
const ENTRIES_AT_A_TIME: usize = 2_000;

/// Engagements before one that are remembered with it: more than are ever linked, unless many come late.
const HISTORY: usize = 16;

/// What was erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// Whether anything was stored of the person.
    pub known: bool,
    /// Their events that could be read until now.
    pub events: u64,
    /// The sessions that these were part of.
    pub sessions: u64,
    /// When the first of them occurred.
    pub first_event_at: Option<Timestamp>,
    /// When the last of them occurred.
    pub last_event_at: Option<Timestamp>,
    /// When it was done.
    pub erased_at: Timestamp,
    /// The last entry of the log at that time.
    pub log_sequence: u64,
}

impl Engine {
    /// Makes everything unreadable that is stored of a person, and takes back what was learned from it; returns once that
    /// is durable. Events that arrive later begin a new past.
    pub async fn erase_user(&self, user: UserKey) -> Result<Erasure, EngineError> {
        let parts = self.parts.clone();
        detached(async move {
            // Nobody's events may be on their way meanwhile: theirs would be sealed with a key that is about to go.
            let _alone = parts.appending.clone().write_owned().await;
            aside(move || parts.erase(user)).await
        })
        .await
    }

    /// The places of a person's events in the log, oldest first.
    pub async fn events_of(&self, user: UserKey) -> Result<Vec<u64>, EngineError> {
        let store = self.parts.store.clone();
        aside(move || Ok(store.entries_of(user, usize::MAX)?)).await
    }

    /// The events at these places of the log, as far as they can be read.
    pub async fn events_at(&self, sequences: Vec<u64>) -> Result<Vec<(u64, Event)>, EngineError> {
        let store = self.parts.store.clone();
        let entries = aside(move || Ok(store.entries(&sequences)?)).await?;
        let event = |(sequence, entry)| match entry {
            LogEntry::Event(event) => Some((sequence, event)),
            LogEntry::ItemPut(_) | LogEntry::ItemDeleted(_) => None,
        };
        Ok(entries.into_iter().filter_map(event).collect())
    }

    /// What is known of a person's live sessions.
    pub fn sessions_of(&self, user: UserKey) -> Vec<(SessionId, SessionState)> {
        let ids = self.parts.live.sessions.of_user(user);
        ids.into_iter().filter_map(|id| self.session(&id).map(|state| (id, state))).collect()
    }
}

impl Parts {
    fn erase(&self, user: UserKey) -> Result<Erasure, EngineError> {
        let sequences = self.store.entries_of(user, usize::MAX)?;
        let mut past = Past::new(self.options.session_limits);
        for sequences in sequences.chunks(ENTRIES_AT_A_TIME) {
            for (_, entry) in self.store.entries(sequences)? {
                if let LogEntry::Event(event) = entry {
                    past.take_in(event, &self.live);
                }
            }
        }
        let live = self.live.sessions.of_user(user);
        let known = self.applier.at_rest(|_| {
            let known = self.store.erase_user(user)?;
            let sessions = past.ids.iter().chain(&live).map(session_key).collect();
            self.learning.forget(&sessions);
            Ok::<_, EngineError>(self.live.forget(user, &past) || known)
        })?;
        self.store.remove_checkpoints()?;
        let now = self.clock.now();
        tracing::info!(events = past.events, sessions = past.ids.len(), "a person was erased");
        Ok(Erasure {
            known,
            events: past.events,
            sessions: past.ids.len() as u64,
            first_event_at: past.first_at,
            last_event_at: past.last_at,
            erased_at: now,
            log_sequence: self.store.last_sequence(),
        })
    }
}

impl Live {
    /// Takes back what was learned from a person; whether there was anything.
    fn forget(&self, user: UserKey, past: &Past) -> bool {
        // All at once: what is taken back one by one would be dated wrongly in between.
        let engagements: Vec<Engagement<'_>> = past.engaged.iter().map(Engaged::as_engagement).collect();
        self.collab.forget_engagements(&engagements);
        for session in &past.ids {
            self.collab.forget_session(session_key(session));
            self.sessions.remove(session);
        }
        self.collab.preference.forget_user(user);
        self.sessions.remove_user(user) > 0 || past.events > 0
    }
}

/// A person's sessions, lived through once more, so that what was learned from them can be taken back.
struct Past {
    sessions: SessionTable,
    ids: HashSet<SessionId>,
    engaged: Vec<Engaged>,
    events: u64,
    first_at: Option<Timestamp>,
    last_at: Option<Timestamp>,
}

/// What [`Live::apply_event`] once told the collaborative models.
struct Engaged {
    session: u64,
    item: ItemNo,
    at: Timestamp,
    region: Option<std::sync::Arc<str>>,
    history: Vec<(ItemNo, Timestamp)>,
}

impl Past {
    fn new(limits: SessionLimits) -> Self {
        Self {
            sessions: SessionTable::new(limits),
            ids: HashSet::new(),
            engaged: Vec::new(),
            events: 0,
            first_at: None,
            last_at: None,
        }
    }

    fn take_in(&mut self, event: Event, live: &Live) {
        self.events += 1;
        let at = event.occurred_at;
        self.first_at = Some(self.first_at.map_or(at, |first| first.min(at)));
        self.last_at = Some(self.last_at.map_or(at, |last| last.max(at)));
        if let Some(item) = live.catalogue.read().number(&event.item) {
            let learned = Live::observe_in(&self.sessions, &event, item);
            if event.kind.is_engagement() {
                let (mut history, region) = learned;
                history.drain(..history.len().saturating_sub(HISTORY));
                history.shrink_to_fit();
                self.engaged.push(Engaged { session: session_key(&event.session), item, at, region, history });
            }
        }
        self.ids.insert(event.session);
    }
}

impl Engaged {
    fn as_engagement(&self) -> Engagement<'_> {
        Engagement {
            session: self.session,
            item: self.item,
            at: self.at,
            user: None,
            confidence: 0.0,
            region: self.region.as_deref(),
            history: &self.history,
        }
    }
}
