//! What happens when a client reports something? Events are made durable, then learned; frames join the trajectory.

use std::collections::HashMap;

use super::applier::Change;
use super::parts::Parts;
use super::see::{Before, Seen, Sight};
use super::task::queued;
use super::{Engine, EngineError, EventReceipt, FrameOutcome, FrameRequest, SessionState};
use crate::domain::{Event, ItemNo, SessionId, Timestamp, UserKey};
use crate::inference::Priority;
use crate::session::LiveSession;
use crate::store::Appended;
use crate::telemetry::{EventOutcome, Stage};

impl Engine {
    /// Logs events, then learns from them; one receipt for each, in order. What has a receipt of [`EventReceipt::Stored`]
    /// is durable and learned. Whoever does not `wait` hears that the events have their place in the queue: only a crash
    /// within the next commit, or a full disk, can lose them.
    pub async fn observe_events(&self, mut events: Vec<Event>, wait: bool) -> Result<Vec<EventReceipt>, EngineError> {
        let (parts, count) = (self.parts.clone(), events.len());
        let receipts = queued(wait, |accepted| async move {
            let _turn = parts.appending.clone().read_owned().await;
            parts.name_people(&mut events);
            let queueing = parts.store.begin_append(&events).await?;
            accepted();
            parts.learn(events, queueing.wait().await?).await
        });
        Ok(receipts.await?.unwrap_or_else(|| vec![EventReceipt::Accepted; count]))
    }

    /// Adds a frame to a session's trajectory.
    pub async fn observe_frame(&self, request: FrameRequest) -> Result<FrameOutcome, EngineError> {
        let parts = &self.parts;
        let now = parts.clock.now();
        let gallery = parts.live.gallery();
        let before = |session: &LiveSession| before(session, gallery.number);
        let before = parts.live.sessions.peek(&request.session, now, before).flatten();
        let frames = [request.frame];
        let seen = parts.eyes.look(&gallery, &frames, before, Priority::Live, None).await?;
        let [seen] = seen.as_slice() else {
            return Err(EngineError::Internal("one frame was looked at, but not one was seen".into()));
        };
        match seen.sight {
            Sight::New(_) | Sight::Repeat => {}
            Sight::Missed => return Err(EngineError::DeadlinePassed),
            Sight::Failed => return Err(EngineError::ModelFailed("a frame could not be looked at".into())),
        }
        let playing = request.playing.as_ref().and_then(|id| parts.live.catalogue.read().find(id).map(|(no, _)| no));
        // The time at which the frame is complete: looking at it may have taken a while.
        let now = parts.clock.now();
        let outcome = parts.live.sessions.with(&request.session, now, |session| {
            if request.user.is_some() {
                session.user = request.user;
            }
            if let Some(region) = &request.region {
                session.region = Some(region.as_str().into());
            }
            take_in(session, (seen, gallery.number), playing, frames[0].at_s, now)
        });
        Ok(outcome)
    }

    /// What is known of a session.
    pub fn session(&self, id: &SessionId) -> Option<SessionState> {
        let live = &self.parts.live;
        let (view, near_duplicates) =
            live.sessions.peek(id, self.parts.clock.now(), |s| (s.view(), s.frames_skipped))?;
        let catalogue = live.catalogue.read();
        Some(SessionState {
            started_at: view.started_at,
            last_seen: view.last_seen,
            playing: view.playing.and_then(|no| catalogue.id(no).cloned()),
            position_s: view.position_s.map(f64::from),
            items: view
                .items
                .iter()
                .filter(|i| i.kind.is_engagement())
                .filter_map(|i| Some((catalogue.id(i.item)?.clone(), i.at)))
                .collect(),
            frames: view.trajectory.frames(),
            near_duplicates,
            scene_age_s: view.trajectory.scene_age_s(),
            motion: view.motion,
        })
    }

    /// Makes sure that a session is this person's: one that nobody has begun is from now on, one that is somebody else's,
    /// or nobody's yet, is refused. `false` if it was refused.
    pub fn claim_session(&self, id: &SessionId, user: UserKey) -> bool {
        self.parts.live.sessions.with_known(id, self.parts.clock.now(), |session, known| {
            if !known {
                session.user = Some(user);
            }
            session.user == Some(user)
        })
    }

    /// Says that a session is this person's. `false` if it is somebody else's.
    pub fn give_session(&self, id: &SessionId, user: UserKey) -> bool {
        self.parts.live.sessions.with(id, self.parts.clock.now(), |session| *session.user.get_or_insert(user) == user)
    }

    /// Whether a session that goes on is this person's.
    pub fn session_is_of(&self, id: &SessionId, user: UserKey) -> bool {
        self.parts.live.sessions.peek(id, self.parts.clock.now(), |session| session.user) == Some(Some(user))
    }

    /// Forgets a live session; its events stay in the log. `false` if there was none.
    pub fn end_session(&self, id: &SessionId) -> bool {
        self.parts.live.sessions.remove(id)
    }
}

impl Parts {
    /// An event of a session whose person is known is that person's, even if it does not say so: it is sealed, and one
    /// day erased, as theirs.
    fn name_people(&self, events: &mut [Event]) {
        let now = self.clock.now();
        let mut told: HashMap<SessionId, UserKey> = HashMap::new();
        for event in events {
            match event.user {
                Some(user) => drop(told.insert(event.session.clone(), user)),
                None => {
                    let known = told.get(&event.session).copied();
                    event.user = known.or_else(|| self.live.sessions.peek(&event.session, now, |s| s.user).flatten());
                }
            }
        }
    }

    /// Learns from events that have become durable.
    async fn learn(&self, events: Vec<Event>, appended: Vec<Appended>) -> Result<Vec<EventReceipt>, EngineError> {
        let known: Vec<bool> = {
            let catalogue = self.live.catalogue.read();
            events.iter().map(|event| catalogue.find(&event.item).is_some()).collect()
        };
        let timer = self.metrics.stage_timer(Stage::Apply);
        let last = appended.iter().filter_map(|a| if let Appended::New(n) = a { Some(*n) } else { None }).max();
        self.apply(events.into_iter().zip(&appended).filter_map(|(event, appended)| match appended {
            Appended::New(sequence) => Some((*sequence, Change::Event(event))),
            Appended::Duplicate => None,
        }));
        if let Some(last) = last {
            self.applier.wait_for(last).await?;
        }
        timer.stop();
        let receipts: Vec<EventReceipt> = appended
            .iter()
            .zip(known)
            .map(|(appended, known_item)| match appended {
                Appended::New(_) => EventReceipt::Stored { known_item },
                Appended::Duplicate => EventReceipt::Duplicate,
            })
            .collect();
        let duplicates = receipts.iter().filter(|r| **r == EventReceipt::Duplicate).count() as u64;
        self.metrics.count_events(EventOutcome::Duplicate, duplicates);
        self.metrics.count_events(EventOutcome::Accepted, receipts.len() as u64 - duplicates);
        Ok(receipts)
    }
}

/// The frame before, if there was one; it repeats no other unless the models of this number embedded it.
pub(super) fn before(session: &LiveSession, models: u32) -> Option<Before> {
    Some(Before {
        last: session.last_thumb()?.clone(),
        embedded: session.embedded_thumb(models).cloned(),
        upload: session.last_upload(),
    })
}

/// Adds a frame that the models of this number looked at to a session. A frame without a media time stands where the wall clock says.
pub(super) fn take_in(
    session: &mut LiveSession,
    (seen, models): (&Seen, u32),
    playing: Option<ItemNo>,
    at_s: Option<f64>,
    now: Timestamp,
) -> FrameOutcome {
    if let Some(item) = playing {
        session.watch(item, at_s.map(|s| s as f32), now);
    }
    let at_s = at_s.unwrap_or_else(|| now.seconds_since(session.started_at));
    match &seen.sight {
        Sight::New(embedding) => {
            session.observe_frame(at_s, seen.thumb.clone(), seen.motion, (embedding, models), now);
        }
        Sight::Repeat => session.observe_repeated_frame(at_s, seen.thumb.clone(), seen.motion, now),
        Sight::Missed | Sight::Failed => {}
    }
    if !matches!(seen.sight, Sight::Missed | Sight::Failed) {
        session.note_upload(seen.upload);
    }
    FrameOutcome {
        width: seen.upload.width,
        height: seen.upload.height,
        near_duplicate: matches!(seen.sight, Sight::Repeat),
        missed: matches!(seen.sight, Sight::Missed | Sight::Failed),
        motion: seen.motion,
    }
}
