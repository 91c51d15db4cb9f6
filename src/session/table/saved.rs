//! How are the live sessions written down? With the turns at which they were active, which say who makes room first.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use super::{Entry, SessionTable, ShardHash};
use crate::domain::{LoadError, SessionId, StateReader, StateWriter, Timestamp};
use crate::session::{LiveSession, SessionLimits};

const PART: [u8; 4] = *b"sess";

/// Another layout gets another number.
const VERSION: u32 = 1;

/// About how many bytes a session with a few engagements takes.
const USUAL_BYTES: usize = 300;

/// Nobody gets to count as far as this.
const LAST_TURN: u64 = 1 << 62;

/// Goes before each session; [`END`] comes after the last.
const SESSION: u8 = 1;
const END: u8 = 0;

impl SessionTable {
    /// All sessions but their frames, as bytes for [`load`](Self::load). One shard after the other is locked.
    ///
    /// No event may be applied meanwhile, or sessions would not be of the same moment; requests may come in.
    pub fn save(&self) -> Vec<u8> {
        let mut to = StateWriter::new(PART, VERSION, self.len() * USUAL_BYTES);
        to.u64(self.hash.seed);
        for shard in &self.shards {
            let shard = shard.lock();
            for (&turn, id) in &shard.by_turn {
                let Some(entry) = shard.by_id.get(id) else { continue };
                to.u8(SESSION);
                to.u64(turn);
                to.text(id.as_str());
                to.i64(entry.active_at.0);
                entry.session.save(&mut to);
            }
        }
        to.u8(END);
        to.finish()
    }

    /// The sessions that were [saved](Self::save), when the first `items` item numbers had been given out. What does
    /// not fit into `limits` is left out, as if it had had to give way.
    pub fn load(limits: SessionLimits, items: usize, bytes: &[u8]) -> Result<Self, LoadError> {
        let mut from = StateReader::new(PART, VERSION, bytes)?;
        let mut table = Self::new(limits);
        table.hash = ShardHash { seed: from.u64()? };
        let mut sessions = Vec::new();
        loop {
            match from.u8()? {
                SESSION => {}
                END => break,
                _ => return Err(LoadError::Damaged("a session does not begin where it should")),
            }
            let turn = from.u64()?;
            let id = SessionId::new(from.text()?).map_err(|_| LoadError::Damaged("a session's id is none"))?;
            let active_at = Timestamp(from.i64()?);
            let session = LiveSession::load(&table.limits, items, &mut from)?;
            sessions.push((id, Entry { session, active_at, turn }));
        }
        from.end()?;
        sessions.sort_unstable_by_key(|(_, entry)| entry.turn);
        if sessions.windows(2).any(|pair| pair[0].1.turn == pair[1].1.turn) {
            return Err(LoadError::Damaged("two sessions were active at the same turn"));
        }
        if sessions.iter().map(|(id, _)| id).collect::<HashSet<_>>().len() < sessions.len() {
            return Err(LoadError::Damaged("a session comes twice"));
        }
        let next = sessions.last().map_or(0, |(_, entry)| entry.turn.saturating_add(1));
        if next > LAST_TURN {
            return Err(LoadError::Damaged("a turn is out of range"));
        }
        table.next_turn.store(next, Ordering::Relaxed);
        for (id, entry) in sessions {
            let place = table.place(&id);
            table.shards[place].get_mut().put(id, entry);
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::domain::{Embedding, EventKind, ItemNo, LUMA_SIDE, LumaThumb, Motion, UserKey};

    const ITEMS: usize = 50;

    /// Two shards, and few enough sessions that some have to give way.
    const LIMITS: SessionLimits = SessionLimits { max_sessions: 1_024, ttl_s: 3_600.0, max_items: 5, max_seen: 8 };

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    /// Events of viewers from `from` to `to` seconds, the same for all `tables`.
    fn live(tables: &[&SessionTable], from: i64, to: i64, viewers: u32) {
        let mut random = SmallRng::seed_from_u64(from as u64);
        for second in from..to {
            let viewer = random.random_range(0..viewers);
            let id = SessionId::new(format!("viewer-{viewer}")).unwrap();
            let (kind, item) =
                (EventKind::ALL[random.random_range(0..12)], ItemNo(random.random_range(0..ITEMS as u32)));
            let late_s = random.random_range(-60..60).max(0);
            let position_s = random.random_bool(0.5).then(|| random.random_range(0.0..100.0));
            for table in tables {
                table.with(&id, at(second), |session| {
                    if viewer % 3 > 0 {
                        session.user = Some(UserKey([viewer as u8; 16]));
                        session.region = Some(Arc::from("de"));
                    }
                    if viewer % 3 > 1 {
                        session.device = Some(Arc::from("fridge"));
                    }
                    session.observe_event(kind, item, at(second - late_s), position_s, None);
                });
                if second % 100 == 0 {
                    table.remove(&id);
                }
            }
        }
    }

    /// What can be seen of all sessions, with the order of their activity.
    fn seen(table: &SessionTable) -> Vec<String> {
        let ids = table.ids(usize::MAX);
        ids.iter().map(|id| format!("{id:?} {:?}", table.peek(id, at(0), |session| session.view()))).collect()
    }

    #[test]
    fn a_loaded_table_answers_and_goes_on_like_the_saved_one() {
        let saved = SessionTable::new(LIMITS);
        live(&[&saved], 0, 20_000, 1_500);
        let bytes = saved.save();
        let loaded = SessionTable::load(LIMITS, ITEMS, &bytes).unwrap();
        assert_eq!(seen(&saved), seen(&loaded));
        assert!(loaded.len() > 900);
        assert!(loaded.save() == bytes);
        live(&[&saved, &loaded], 20_000, 23_000, 1_500);
        for table in [&saved, &loaded] {
            table.expire(at(23_500));
            table.remove_user(UserKey([5; 16]));
        }
        assert!(saved.save() == loaded.save(), "the same sessions have given way");
    }

    #[test]
    fn frames_are_left_out() {
        let table = SessionTable::new(LIMITS);
        let id = SessionId::new("s").unwrap();
        table.with(&id, at(0), |session| {
            let thumb = LumaThumb(Box::new([0; LUMA_SIDE * LUMA_SIDE]));
            let embedding = Embedding::unit(vec![1.0, 0.0]).unwrap();
            session.show(ItemNo(3), Some(2.0), at(1));
            session.observe_frame(
                0.0,
                thumb.clone(),
                Motion { energy: 0.5, ..Motion::default() },
                (&embedding, 1),
                at(1),
            );
            session.observe_repeated_frame(1.0, thumb, Motion { energy: 0.5, ..Motion::default() }, at(2));
        });
        let loaded = SessionTable::load(LIMITS, ITEMS, &table.save()).unwrap();
        loaded.with(&id, at(3), |session| {
            assert_eq!((session.playing, session.position_s, session.last_seen), (Some(ItemNo(3)), Some(2.0), at(2)));
            assert!(session.last_thumb().is_none() && session.last_embedding().is_none());
            assert_eq!((session.frames_skipped, session.motion), (0, Motion::default()));
        });
    }

    #[test]
    fn lower_limits_keep_what_is_latest() {
        let saved = SessionTable::new(SessionLimits { max_sessions: 100, ..LIMITS });
        live(&[&saved], 0, 5_000, 150);
        let limits = SessionLimits { max_sessions: 10, max_items: 2, max_seen: 3, ..LIMITS };
        let loaded = SessionTable::load(limits, ITEMS, &saved.save()).unwrap();
        assert_eq!(loaded.ids(100), saved.ids(10));
        for id in loaded.ids(10) {
            let of = |table: &SessionTable| table.peek(&id, at(0), |session| session.view()).unwrap();
            let (before, after) = (of(&saved), of(&loaded));
            assert_eq!(after.items, before.items[before.items.len().saturating_sub(2)..]);
            assert!(after.seen.len() <= 3 && after.seen.iter().all(|item| before.has_seen(*item)));
        }
    }

    #[test]
    fn bytes_that_nobody_saved_are_refused() {
        let table = SessionTable::new(LIMITS);
        live(&[&table], 0, 40, 20);
        let bytes = table.save();
        assert!(SessionTable::load(LIMITS, ITEMS, &bytes).is_ok());
        assert!(SessionTable::load(LIMITS, 10, &bytes).is_err(), "there are more items");
        for length in 0..bytes.len() {
            assert!(SessionTable::load(LIMITS, ITEMS, &bytes[..length]).is_err());
        }
        let twice = [&bytes[..bytes.len() - 1], &bytes[16..]].concat();
        assert!(SessionTable::load(LIMITS, ITEMS, &twice).is_err());
    }

    proptest! {
        #[test]
        fn damaged_bytes_do_no_harm(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            noise in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let table = SessionTable::new(LIMITS);
            live(&[&table], 0, 40, 20);
            let mut bytes = table.save();
            let noisy = [&bytes[..16], &noise].concat();
            for (place, value) in changes {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            for bytes in [bytes, noisy] {
                if let Ok(table) = SessionTable::load(LIMITS, ITEMS, &bytes) {
                    live(&[&table], 40, 80, 20);
                    prop_assert!(table.len() <= LIMITS.max_sessions);
                }
            }
        }
    }
}
