//! What do we know about one session that is going on?

mod saved;

use std::collections::VecDeque;
use std::sync::Arc;

use super::{SessionLimits, Trajectory};
use crate::domain::{Embedding, EventKind, ItemNo, LumaThumb, Motion, Timestamp, UserKey};

/// An item that the viewer turned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionItem {
    /// The item.
    pub item: ItemNo,
    /// When.
    pub at: Timestamp,
    /// How: a kind of [engagement](EventKind::is_engagement), or [`EventKind::Progress`] when it is only known to have been
    /// on screen.
    pub kind: EventKind,
}

/// One session: who, on what, and what was on their screen. Bounded; see [`LiveSession::heap_bytes`].
#[derive(Debug, Clone)]
pub struct LiveSession {
    /// The viewer, if known.
    pub user: Option<UserKey>,
    /// The viewer's region, in the client's terms.
    pub region: Option<Arc<str>>,
    /// The viewer's kind of device, in the client's terms.
    pub device: Option<Arc<str>>,
    /// The item on screen.
    pub playing: Option<ItemNo>,
    /// Where in the playing item's media the viewer was at [`position_at`](Self::position_at), in seconds.
    pub position_s: Option<f32>,
    /// When the position was told.
    pub position_at: Timestamp,
    /// When the session was first heard of.
    pub started_at: Timestamp,
    /// When it was last heard of.
    pub last_seen: Timestamp,
    /// How many frames reused the embedding of a predecessor that looked the same.
    pub frames_skipped: u64,
    /// What moved between the last two frames.
    pub motion: Motion,
    items: VecDeque<SessionItem>,
    /// Oldest first, so that the oldest is forgotten first.
    seen_in_order: VecDeque<ItemNo>,
    /// The same items by number, to search.
    seen_sorted: Vec<ItemNo>,
    trajectory: Trajectory,
    /// Which models the trajectory's embeddings are of: a number that rises when others take over.
    models: u32,
    last_thumb: Option<LumaThumb>,
    /// The frame that the last embedding was made from. Repeats are told by their difference from this one, so that a slow
    /// pan, of which each frame resembles the one before, does not keep an old embedding for ever.
    embedded_thumb: Option<LumaThumb>,
    last_upload: Option<Upload>,
    max_items: usize,
    max_seen: usize,
}

/// What is remembered of the file that a frame came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upload {
    /// A hash of its bytes.
    pub hash: u64,
    /// Columns of the picture.
    pub width: u32,
    /// Rows of the picture.
    pub height: u32,
}

impl LiveSession {
    /// A session that was first heard of at `now`.
    pub fn new(now: Timestamp, limits: &SessionLimits) -> Self {
        Self {
            user: None,
            region: None,
            device: None,
            playing: None,
            position_s: None,
            position_at: now,
            started_at: now,
            last_seen: now,
            frames_skipped: 0,
            motion: Motion::default(),
            items: VecDeque::new(),
            seen_in_order: VecDeque::new(),
            seen_sorted: Vec::new(),
            trajectory: Trajectory::default(),
            models: 0,
            last_thumb: None,
            embedded_thumb: None,
            last_upload: None,
            max_items: limits.max_items.max(1),
            max_seen: limits.max_seen.max(1),
        }
    }

    /// Takes in something that the viewer did at `at`.
    ///
    /// Engagements join [`items`](Self::items), in order of time even when they arrive late; all kinds but impressions mark the item as
    /// seen. What is on screen changes with clicks and plays, ends with finish and skip, and only moves forward in time.
    pub fn observe_event(
        &mut self,
        kind: EventKind,
        item: ItemNo,
        at: Timestamp,
        position_s: Option<f32>,
        watched_s: Option<f32>,
    ) {
        self.started_at = self.started_at.min(at);
        self.last_seen = self.last_seen.max(at);
        if kind.is_engagement() {
            self.insert(SessionItem { item, at, kind });
        }
        if kind != EventKind::Impression {
            self.mark_seen(item);
        }
        if at < self.position_at {
            return;
        }
        match kind {
            EventKind::Click | EventKind::Play | EventKind::Progress => {
                let position_s = position_s.or(watched_s).or((self.playing != Some(item)).then_some(0.0));
                self.show(item, position_s, at);
            }
            EventKind::Finish | EventKind::Skip => {
                if self.playing == Some(item) {
                    self.playing = None;
                    self.position_s = None;
                    self.position_at = at;
                }
            }
            EventKind::Impression
            | EventKind::Like
            | EventKind::Dislike
            | EventKind::Share
            | EventKind::Save
            | EventKind::Rate
            | EventKind::Purchase => {}
        }
    }

    /// Notes that the viewer has turned to `item`, as a request tells that names what is on screen: it joins
    /// [`items`](Self::items) unless it is the last of them.
    pub fn watch(&mut self, item: ItemNo, position_s: Option<f32>, at: Timestamp) {
        if self.playing != Some(item) && self.items.back().is_none_or(|last| last.item != item && last.at <= at) {
            // It was turned to when it began to play.
            let began =
                position_s.filter(|p| p.is_finite() && *p >= 0.0).map_or(at, |p| at.plus_seconds(-f64::from(p)));
            let began = self.items.back().map_or(began, |last| began.max(last.at)).min(at);
            self.insert(SessionItem { item, at: began, kind: EventKind::Progress });
        }
        self.show(item, position_s, at);
    }

    /// Puts an item in its place in time; the same item that was only known to be on screen gives way to it.
    fn insert(&mut self, new: SessionItem) {
        let place = self.items.iter().rposition(|earlier| earlier.at <= new.at).map_or(0, |index| index + 1);
        let watched = |other: &SessionItem| other.item == new.item && !other.kind.is_engagement();
        if let Some(before) = place.checked_sub(1).filter(|&before| watched(&self.items[before])) {
            self.items[before] = new;
        } else if self.items.get(place).is_some_and(watched) {
            self.items[place] = new;
        } else {
            self.items.insert(place, new);
            if self.items.len() > self.max_items {
                self.items.pop_front();
            }
        }
    }

    /// Notes that `item` is on screen, at `position_s` if that is known.
    pub fn show(&mut self, item: ItemNo, position_s: Option<f32>, at: Timestamp) {
        if self.playing != Some(item) {
            self.playing = Some(item);
            self.position_s = None;
        }
        self.last_seen = self.last_seen.max(at);
        if let Some(position_s) = position_s.filter(|p| p.is_finite() && *p >= 0.0) {
            self.position_s = Some(position_s);
            self.position_at = at;
        }
    }

    /// Takes in a frame at `at_s` seconds of media time that was embedded by the models of this number. Embeddings of different
    /// models have nothing to do with each other, so newer models begin a new trajectory, and what older ones still make is
    /// left out.
    pub fn observe_frame(
        &mut self,
        at_s: f64,
        thumb: LumaThumb,
        motion: Motion,
        (embedding, models): (&Embedding, u32),
        now: Timestamp,
    ) {
        self.last_seen = self.last_seen.max(now);
        self.motion = motion;
        if models < self.models {
            self.last_thumb = Some(thumb);
            return;
        }
        if models > self.models {
            self.models = models;
            self.trajectory = Trajectory::default();
        }
        self.trajectory.observe(at_s, embedding, motion);
        self.embedded_thumb = Some(thumb.clone());
        self.last_thumb = Some(thumb);
    }

    /// Takes in a frame that looks like the one last embedded, and so was not embedded.
    pub fn observe_repeated_frame(&mut self, at_s: f64, thumb: LumaThumb, motion: Motion, now: Timestamp) {
        self.last_seen = self.last_seen.max(now);
        self.motion = motion;
        self.trajectory.observe_repeat(at_s, motion);
        self.frames_skipped += 1;
        self.last_thumb = Some(thumb);
    }

    /// The engagements and what else was on screen, oldest first; at most [`SessionLimits::max_items`].
    pub fn items(&self) -> impl DoubleEndedIterator<Item = SessionItem> + ExactSizeIterator + '_ {
        self.items.iter().copied()
    }

    /// Whether the viewer has had anything to do with the item (an impression does not count).
    pub fn has_seen(&self, item: ItemNo) -> bool {
        self.seen_sorted.binary_search(&item).is_ok()
    }

    /// The course of the frames.
    pub fn trajectory(&self) -> &Trajectory {
        &self.trajectory
    }

    /// The last frame's fingerprint, to measure motion against.
    pub fn last_thumb(&self) -> Option<&LumaThumb> {
        self.last_thumb.as_ref()
    }

    /// The fingerprint of the frame last embedded, to tell repeats by, if the models of this number embedded it.
    pub fn embedded_thumb(&self, models: u32) -> Option<&LumaThumb> {
        self.embedded_thumb.as_ref().filter(|_| models == self.models)
    }

    /// Notes which file the frame came in that was just taken in.
    pub fn note_upload(&mut self, upload: Upload) {
        self.last_upload = Some(upload);
    }

    /// The last frame's file, if it was noted.
    pub fn last_upload(&self) -> Option<Upload> {
        self.last_upload
    }

    /// The last frame's embedding (or that of the frame it repeats).
    pub fn last_embedding(&self) -> Option<&Embedding> {
        self.trajectory.last()
    }

    /// A copy of what recommending needs.
    pub fn view(&self) -> SessionView {
        SessionView {
            user: self.user,
            region: self.region.clone(),
            device: self.device.clone(),
            playing: self.playing,
            position_s: self.position_s,
            position_at: self.position_at,
            started_at: self.started_at,
            last_seen: self.last_seen,
            motion: self.motion,
            items: self.items.iter().copied().collect(),
            seen: self.seen_sorted.clone(),
            trajectory: self.trajectory.clone(),
            models: self.models,
        }
    }

    /// Heap bytes in use, but for the (shared) region and device.
    pub fn heap_bytes(&self) -> usize {
        let thumbs = [&self.last_thumb, &self.embedded_thumb].into_iter().flatten().count() * size_of::<[u8; 1024]>();
        self.items.capacity() * size_of::<SessionItem>()
            + (self.seen_in_order.capacity() + self.seen_sorted.capacity()) * size_of::<ItemNo>()
            + self.trajectory.heap_bytes()
            + thumbs
    }

    fn mark_seen(&mut self, item: ItemNo) {
        if self.has_seen(item) {
            return;
        }
        // Room is made first: growing past the bound would double the buffers.
        if self.seen_in_order.len() >= self.max_seen
            && let Some(oldest) = self.seen_in_order.pop_front()
            && let Ok(place) = self.seen_sorted.binary_search(&oldest)
        {
            self.seen_sorted.remove(place);
        }
        let place = self.seen_sorted.partition_point(|&other| other < item);
        self.seen_sorted.insert(place, item);
        self.seen_in_order.push_back(item);
    }
}

/// What recommending needs to know of a session, copied out of the table. The fields are those of [`LiveSession`].
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "documented on LiveSession")]
pub struct SessionView {
    pub user: Option<UserKey>,
    pub region: Option<Arc<str>>,
    pub device: Option<Arc<str>>,
    pub playing: Option<ItemNo>,
    pub position_s: Option<f32>,
    pub position_at: Timestamp,
    pub started_at: Timestamp,
    pub last_seen: Timestamp,
    pub motion: Motion,
    /// The engagements and what else was on screen, oldest first.
    pub items: Vec<SessionItem>,
    /// The items seen, in ascending order.
    pub seen: Vec<ItemNo>,
    pub trajectory: Trajectory,
    /// Which models the trajectory's embeddings are of.
    pub models: u32,
}

impl SessionView {
    /// The same without a trajectory that other models than those of this number have made.
    #[must_use]
    pub fn seen_by(mut self, models: u32) -> Self {
        if self.models != models {
            self.trajectory = Trajectory::default();
        }
        self
    }

    /// Whether the viewer has had anything to do with the item.
    pub fn has_seen(&self, item: ItemNo) -> bool {
        self.seen.binary_search(&item).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::LUMA_SIDE;

    fn session() -> LiveSession {
        let limits = SessionLimits { max_items: 3, max_seen: 4, ..SessionLimits::default() };
        LiveSession::new(Timestamp(0), &limits)
    }

    fn items(session: &LiveSession) -> Vec<u32> {
        session.items().map(|i| i.item.0).collect()
    }

    #[test]
    fn engagements_are_kept_in_order_of_time() {
        let mut session = session();
        for (item, at, kind) in [
            (1, 1000, EventKind::Click),
            (3, 3000, EventKind::Play),
            (9, 3500, EventKind::Impression),
            (2, 2000, EventKind::Like),
            (4, 4000, EventKind::Save),
        ] {
            session.observe_event(kind, ItemNo(item), Timestamp(at), None, None);
        }
        assert_eq!(items(&session), [2, 3, 4]);
        assert!(session.has_seen(ItemNo(1)) && !session.has_seen(ItemNo(9)));
        session.observe_event(EventKind::Click, ItemNo(5), Timestamp(500), None, None);
        assert_eq!(items(&session), [2, 3, 4], "what came before all that is kept is not kept");
        assert_eq!(session.last_seen, Timestamp(4000));
    }

    #[test]
    fn what_is_on_screen_follows_the_newest_event() {
        let mut session = session();
        session.observe_event(EventKind::Play, ItemNo(1), Timestamp(1000), None, None);
        assert_eq!((session.playing, session.position_s), (Some(ItemNo(1)), Some(0.0)));
        session.observe_event(EventKind::Progress, ItemNo(1), Timestamp(9000), Some(8.0), None);
        session.observe_event(EventKind::Click, ItemNo(2), Timestamp(5000), None, None);
        assert_eq!((session.playing, session.position_s), (Some(ItemNo(1)), Some(8.0)), "a late event changes nothing");
        session.observe_event(EventKind::Skip, ItemNo(2), Timestamp(9500), None, None);
        assert_eq!(session.playing, Some(ItemNo(1)), "something else was skipped");
        session.observe_event(EventKind::Finish, ItemNo(1), Timestamp(9900), None, None);
        assert_eq!((session.playing, session.position_s), (None, None));
        session.observe_event(EventKind::Progress, ItemNo(3), Timestamp(9950), Some(f32::NAN), None);
        assert_eq!((session.playing, session.position_s), (Some(ItemNo(3)), None));
    }

    #[test]
    fn what_is_watched_is_part_of_the_way() {
        let mut session = session();
        session.watch(ItemNo(1), None, Timestamp(1_000));
        session.watch(ItemNo(1), Some(5.0), Timestamp(6_000));
        session.watch(ItemNo(2), Some(2.0), Timestamp(10_000));
        let at = |session: &LiveSession| session.items().map(|i| (i.item.0, i.at.0, i.kind)).collect::<Vec<_>>();
        let watched = EventKind::Progress;
        assert_eq!(at(&session), [(1, 1_000, watched), (2, 8_000, watched)]);
        session.observe_event(EventKind::Click, ItemNo(2), Timestamp(8_500), None, None);
        assert_eq!(at(&session), [(1, 1_000, watched), (2, 8_500, EventKind::Click)], "the event says it better");
        session.watch(ItemNo(2), None, Timestamp(12_000));
        assert_eq!(items(&session), [1, 2]);
        session.watch(ItemNo(1), Some(f32::NAN), Timestamp(13_000));
        session.watch(ItemNo(3), Some(1e9), Timestamp(14_000));
        assert_eq!(items(&session), [2, 1, 3], "in order, within bounds");
        assert!(!session.has_seen(ItemNo(3)), "what was on screen a moment ago may be offered again");
    }

    #[test]
    fn the_latest_seen_items_are_kept() {
        let mut session = session();
        for item in [5, 4, 3, 5, 2, 1] {
            session.observe_event(EventKind::Finish, ItemNo(item), Timestamp(0), None, None);
        }
        assert_eq!(session.view().seen, [1, 2, 3, 4].map(ItemNo));
        assert!(session.view().has_seen(ItemNo(3)) && !session.view().has_seen(ItemNo(5)));
    }

    #[test]
    fn a_repeat_is_compared_with_the_frame_that_was_embedded() {
        let thumb = |level: u8| LumaThumb(Box::new([level; LUMA_SIDE * LUMA_SIDE]));
        let embedding = Embedding::unit(vec![1.0, 2.0]).unwrap();
        let mut session = session();
        session.observe_frame(0.0, thumb(10), Motion::default(), (&embedding, 1), Timestamp(1));
        session.observe_repeated_frame(1.0, thumb(11), Motion { energy: 0.1, ..Motion::default() }, Timestamp(2));
        assert_eq!(session.last_thumb(), Some(&thumb(11)));
        assert_eq!(session.embedded_thumb(1), Some(&thumb(10)));
        assert_eq!((session.frames_skipped, session.trajectory().frames()), (1, 2));
        assert_eq!(session.last_embedding(), Some(&embedding));
        assert_eq!((session.motion.energy, session.last_seen), (0.1, Timestamp(2)));
    }

    #[test]
    fn a_session_with_frames_takes_about_twelve_kilobytes() {
        let limits = SessionLimits::default();
        let mut session = LiveSession::new(Timestamp(0), &limits);
        let embedding = Embedding::unit(vec![1.0; 320]).unwrap();
        let thumb = LumaThumb(Box::new([0; LUMA_SIDE * LUMA_SIDE]));
        for item in 0..1000 {
            session.observe_event(EventKind::Click, ItemNo(item), Timestamp(i64::from(item)), None, None);
            session.observe_frame(f64::from(item), thumb.clone(), Motion::default(), (&embedding, 1), Timestamp(0));
        }
        let bytes = session.heap_bytes() + size_of::<LiveSession>();
        assert!((11_000..13_500).contains(&bytes), "{bytes}");
    }
}
