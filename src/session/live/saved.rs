//! What of a session is written down? All but its frames, which are never kept.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{LiveSession, SessionItem};
use crate::domain::{EventKind, ItemNo, LoadError, StateReader, StateWriter, Timestamp, UserKey};
use crate::session::SessionLimits;

/// Stands for no item.
const NO_ITEM: u32 = u32::MAX;

/// Which fields are there.
const HAS_USER: u8 = 1;
const HAS_REGION: u8 = 2;
const HAS_DEVICE: u8 = 4;
const HAS_POSITION: u8 = 8;
const ALL: u8 = HAS_USER | HAS_REGION | HAS_DEVICE | HAS_POSITION;

/// Bytes of an engagement: item, instant, kind.
const ITEM_BYTES: usize = 13;

impl LiveSession {
    /// Writes the session down, but for its frames.
    pub(in crate::session) fn save(&self, to: &mut StateWriter) {
        let flag = |there: bool, flag: u8| if there { flag } else { 0 };
        to.u8(flag(self.user.is_some(), HAS_USER)
            | flag(self.region.is_some(), HAS_REGION)
            | flag(self.device.is_some(), HAS_DEVICE)
            | flag(self.position_s.is_some(), HAS_POSITION));
        if let Some(user) = self.user {
            to.bytes(&user.0);
        }
        for text in [&self.region, &self.device].into_iter().flatten() {
            to.text(text);
        }
        if let Some(position_s) = self.position_s {
            to.f32(position_s);
        }
        to.u32(self.playing.map_or(NO_ITEM, |item| item.0));
        for at in [self.position_at, self.started_at, self.last_seen] {
            to.i64(at.0);
        }
        to.count(self.items.len());
        for &SessionItem { item, at, kind } in &self.items {
            to.u32(item.0);
            to.i64(at.0);
            to.u8(EventKind::ALL.iter().position(|&other| other == kind).unwrap_or_default() as u8);
        }
        to.count(self.seen_in_order.len());
        self.seen_in_order.iter().for_each(|item| to.u32(item.0));
    }

    /// Reads what [`save`](Self::save) wrote, as much of it as `limits` allow. Items are numbered below `items`.
    pub(in crate::session) fn load(
        limits: &SessionLimits,
        items: usize,
        from: &mut StateReader<'_>,
    ) -> Result<Self, LoadError> {
        let known = |no: u32| if (no as usize) < items { Ok(ItemNo(no)) } else { Err(UNKNOWN_ITEM) };
        let mut session = Self::new(Timestamp(0), limits);
        let there = from.u8()?;
        if there & !ALL != 0 {
            return Err(LoadError::Damaged("a session has unknown fields"));
        }
        if there & HAS_USER != 0 {
            session.user = Some(UserKey(from.array()?));
        }
        if there & HAS_REGION != 0 {
            session.region = Some(Arc::from(from.text()?));
        }
        if there & HAS_DEVICE != 0 {
            session.device = Some(Arc::from(from.text()?));
        }
        if there & HAS_POSITION != 0 {
            let position_s = from.f32()?;
            if !(position_s.is_finite() && position_s >= 0.0) {
                return Err(LoadError::Damaged("a position is no time"));
            }
            session.position_s = Some(position_s);
        }
        let playing = from.u32()?;
        session.playing = if playing == NO_ITEM { None } else { Some(known(playing)?) };
        session.position_at = Timestamp(from.i64()?);
        session.started_at = Timestamp(from.i64()?);
        session.last_seen = Timestamp(from.i64()?);
        let count = from.count(ITEM_BYTES, usize::MAX)?;
        let beyond = count.saturating_sub(session.max_items);
        session.items.reserve_exact(count - beyond);
        let mut before = Timestamp(i64::MIN);
        for place in 0..count {
            let (item, at, kind) = (known(from.u32()?)?, Timestamp(from.i64()?), usize::from(from.u8()?));
            let kind = EventKind::ALL
                .get(kind)
                .copied()
                .filter(|kind| (kind.is_engagement() || *kind == EventKind::Progress) && at >= before);
            let kind = kind.ok_or(LoadError::Damaged("a session's engagements are none, or out of order"))?;
            if place >= beyond {
                session.items.push_back(SessionItem { item, at, kind });
            }
            before = at;
        }
        let count = from.count(4, usize::MAX)?;
        let beyond = count.saturating_sub(session.max_seen);
        let seen = from.u32s(count)?.skip(beyond).map(known).collect::<Result<VecDeque<ItemNo>, LoadError>>()?;
        session.seen_sorted = seen.iter().copied().collect();
        session.seen_sorted.sort_unstable();
        if session.seen_sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(LoadError::Damaged("a session has seen an item twice"));
        }
        session.seen_in_order = seen;
        Ok(session)
    }
}

const UNKNOWN_ITEM: LoadError = LoadError::Damaged("a session names an item that is not there");
