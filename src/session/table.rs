//! Which sessions are going on? A bounded table that forgets the silent ones.

mod saved;

use std::collections::{BTreeMap, HashMap, hash_map};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::LiveSession;
use crate::domain::{SessionId, Timestamp, UserKey};

/// How much is remembered, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SessionLimits {
    /// Sessions at once; the one longest silent makes room for a new one.
    pub max_sessions: usize,
    /// A session that is silent for longer is forgotten.
    pub ttl_s: f64,
    /// Engagements kept of a session, the latest ones.
    pub max_items: usize,
    /// Items kept as seen, the latest ones.
    pub max_seen: usize,
}

impl Default for SessionLimits {
    /// 50,000 sessions, an hour, 50 engagements, 256 seen items: at 320 dimensions some 12 KB a session with frames.
    fn default() -> Self {
        Self { max_sessions: 50_000, ttl_s: 3600.0, max_items: 50, max_seen: 256 }
    }
}

/// All live sessions.
///
/// Split into shards, each behind a lock of its own: one frame holds its shard for a few passes over a few
/// hundred floats, and with one lock for all of them a burst of frames would queue. Each shard owns its share of the
/// capacity and evicts its own longest-silent session, so the order over the whole table is approximate; a small table has
/// one shard and is exact.
#[derive(Debug)]
pub struct SessionTable {
    shards: Box<[Mutex<Shard>]>,
    hash: ShardHash,
    /// Counted over all shards, so that a saved table knows the order of all sessions.
    next_turn: AtomicU64,
    limits: SessionLimits,
}

/// Says which shard a session belongs to; seeded, so that nobody can aim at one, and the same after a restart, so that
/// the same sessions give way to each other.
#[derive(Debug)]
struct ShardHash {
    seed: u64,
}

impl ShardHash {
    /// FNV-1a from the seed on, mixed so that the low bits depend on all others.
    fn of(&self, id: &SessionId) -> u64 {
        let start = self.seed ^ 0xcbf2_9ce4_8422_2325;
        let hash = id.as_str().bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        let hash = (hash ^ hash >> 32).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^ hash >> 32
    }
}

/// A shard below this size would evict too early when ids happen to crowd in it.
const MIN_SESSIONS_A_SHARD: usize = 512;
const MAX_SHARDS: usize = 16;

impl SessionTable {
    /// An empty table. At least one session fits.
    pub fn new(limits: SessionLimits) -> Self {
        let limits = SessionLimits { max_sessions: limits.max_sessions.max(1), ..limits };
        let count = (limits.max_sessions / MIN_SESSIONS_A_SHARD).clamp(1, MAX_SHARDS);
        // The first shards take what does not divide evenly, so that the shares add up to the limit.
        let shards = (0..count)
            .map(|i| {
                let extra = usize::from(i < limits.max_sessions % count);
                Mutex::new(Shard::new(limits.max_sessions / count + extra))
            })
            .collect();
        let hash = ShardHash { seed: RandomState::new().hash_one(0) };
        Self { shards, hash, next_turn: AtomicU64::new(0), limits }
    }

    /// Calls `f` with the session, which is begun if it is not there (or has expired), and counts it as active at `now`.
    ///
    /// The session's shard is locked meanwhile: `f` must be short and must not use the table.
    pub fn with<R>(&self, id: &SessionId, now: Timestamp, f: impl FnOnce(&mut LiveSession) -> R) -> R {
        let mut shard = self.shard(id).lock();
        // Drawn under the lock, so that turns rise within a shard.
        let turn = self.next_turn.fetch_add(1, Ordering::Relaxed);
        f(shard.touch(id, now, turn, &self.limits))
    }

    /// The same; `f` also hears whether the session was there before.
    pub fn with_known<R>(&self, id: &SessionId, now: Timestamp, f: impl FnOnce(&mut LiveSession, bool) -> R) -> R {
        let mut shard = self.shard(id).lock();
        let known = shard.by_id.get(id).is_some_and(|entry| !entry.expired(now, self.limits.ttl_s));
        let turn = self.next_turn.fetch_add(1, Ordering::Relaxed);
        f(shard.touch(id, now, turn, &self.limits), known)
    }

    /// Calls `f` with the session if it is there; that does not count as activity. As short as for [`with`](Self::with).
    pub fn peek<R>(&self, id: &SessionId, now: Timestamp, f: impl FnOnce(&LiveSession) -> R) -> Option<R> {
        let shard = self.shard(id).lock();
        shard.by_id.get(id).filter(|entry| !entry.expired(now, self.limits.ttl_s)).map(|entry| f(&entry.session))
    }

    /// Forgets a session; says whether it was there.
    pub fn remove(&self, id: &SessionId) -> bool {
        self.shard(id).lock().remove(id)
    }

    /// Forgets all sessions of a person; says how many there were. Visits the whole table.
    pub fn remove_user(&self, user: UserKey) -> usize {
        self.shards.iter().map(|shard| shard.lock().remove_where(|session| session.user == Some(user))).sum()
    }

    /// The live sessions of a person. Visits the whole table.
    pub fn of_user(&self, user: UserKey) -> Vec<SessionId> {
        let mut ids = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            ids.extend(
                shard.by_id.iter().filter(|(_, entry)| entry.session.user == Some(user)).map(|(id, _)| id.clone()),
            );
        }
        ids.sort_unstable();
        ids
    }

    /// Forgets the sessions that have been silent for too long; says how many.
    pub fn expire(&self, now: Timestamp) -> usize {
        self.shards.iter().map(|shard| shard.lock().expire(now, self.limits.ttl_s)).sum()
    }

    /// The number of sessions, those included that have expired and were not yet [forgotten](Self::expire).
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().by_id.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// At most `limit` ids, the most recently active of each shard first.
    pub fn ids(&self, limit: usize) -> Vec<SessionId> {
        let mut ids = Vec::new();
        for shard in &self.shards {
            let room = limit - ids.len();
            ids.extend(shard.lock().by_turn.values().rev().take(room).cloned());
        }
        ids
    }

    /// The limits in force.
    pub fn limits(&self) -> &SessionLimits {
        &self.limits
    }

    fn shard(&self, id: &SessionId) -> &Mutex<Shard> {
        &self.shards[self.place(id)]
    }

    fn place(&self, id: &SessionId) -> usize {
        (self.hash.of(id) % self.shards.len() as u64) as usize
    }
}

/// Sessions by id, and their order of activity. Every operation on one session takes time logarithmic in the shard.
#[derive(Debug)]
struct Shard {
    by_id: HashMap<SessionId, Entry>,
    /// The sessions by the turn at which each was last active: the first is the longest silent.
    by_turn: BTreeMap<u64, SessionId>,
    capacity: usize,
}

#[derive(Debug)]
struct Entry {
    session: LiveSession,
    active_at: Timestamp,
    turn: u64,
}

impl Entry {
    fn expired(&self, now: Timestamp, ttl_s: f64) -> bool {
        now.seconds_since(self.active_at) > ttl_s
    }
}

impl Shard {
    fn new(capacity: usize) -> Self {
        Self { by_id: HashMap::new(), by_turn: BTreeMap::new(), capacity }
    }

    fn touch(&mut self, id: &SessionId, now: Timestamp, turn: u64, limits: &SessionLimits) -> &mut LiveSession {
        if !self.by_id.contains_key(id) && self.by_id.len() >= self.capacity {
            self.evict_oldest();
        }
        self.by_turn.insert(turn, id.clone());
        let new = || Entry { session: LiveSession::new(now, limits), active_at: now, turn };
        let entry = match self.by_id.entry(id.clone()) {
            hash_map::Entry::Vacant(vacant) => vacant.insert(new()),
            hash_map::Entry::Occupied(occupied) => {
                let entry = occupied.into_mut();
                self.by_turn.remove(&entry.turn);
                if entry.expired(now, limits.ttl_s) {
                    *entry = new();
                }
                // A clock that went back must not make an active session look silent.
                entry.active_at = entry.active_at.max(now);
                entry.turn = turn;
                entry
            }
        };
        &mut entry.session
    }

    /// Takes in a session that was active later than all others of the shard.
    fn put(&mut self, id: SessionId, entry: Entry) {
        if self.by_id.len() >= self.capacity {
            self.evict_oldest();
        }
        self.by_turn.insert(entry.turn, id.clone());
        self.by_id.insert(id, entry);
    }

    fn remove(&mut self, id: &SessionId) -> bool {
        let Some(entry) = self.by_id.remove(id) else { return false };
        self.by_turn.remove(&entry.turn);
        true
    }

    fn remove_where(&mut self, condition: impl Fn(&LiveSession) -> bool) -> usize {
        let before = self.by_id.len();
        self.by_id.retain(|_, entry| {
            let go = condition(&entry.session);
            if go {
                self.by_turn.remove(&entry.turn);
            }
            !go
        });
        before - self.by_id.len()
    }

    /// Stops at the first session that is still alive: the work done is that of the sessions forgotten.
    fn expire(&mut self, now: Timestamp, ttl_s: f64) -> usize {
        let mut forgotten = 0;
        while let Some((_, id)) = self.by_turn.first_key_value()
            && self.by_id.get(id).is_none_or(|entry| entry.expired(now, ttl_s))
        {
            self.evict_oldest();
            forgotten += 1;
        }
        forgotten
    }

    fn evict_oldest(&mut self) {
        if let Some((_, id)) = self.by_turn.pop_first() {
            self.by_id.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap as Model;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::{EventKind, ItemNo};

    fn id(number: usize) -> SessionId {
        SessionId::new(format!("s{number}")).unwrap()
    }

    fn table(max_sessions: usize) -> SessionTable {
        SessionTable::new(SessionLimits { max_sessions, ttl_s: 10.0, max_items: 3, max_seen: 3 })
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    #[test]
    fn the_longest_silent_makes_room() {
        let table = table(3);
        for number in [1, 2, 3, 1] {
            table.with(&id(number), at(0), |_| ());
        }
        table.with(&id(4), at(1), |_| ());
        assert_eq!(table.ids(10), [4, 1, 3].map(id));
        assert_eq!(table.ids(2), [4, 1].map(id));
        assert!(table.peek(&id(2), at(1), |_| ()).is_none());
    }

    #[test]
    fn silence_is_forgotten() {
        let table = table(3);
        table.with(&id(1), at(0), |session| session.region = Some("de".into()));
        table.with(&id(2), at(8), |_| ());
        assert!(table.peek(&id(1), at(10), |_| ()).is_some());
        assert!(table.peek(&id(1), at(11), |_| ()).is_none(), "peeking is no activity");
        assert_eq!((table.expire(at(11)), table.len()), (1, 1));
        table.with(&id(2), at(30), |session| assert_eq!(session.started_at, at(30), "an expired session begins anew"));
        assert_eq!(table.expire(at(30)), 0);
    }

    #[test]
    fn a_clock_that_goes_back_forgets_nobody() {
        let table = table(3);
        table.with(&id(1), at(100), |_| ());
        table.with(&id(1), at(50), |_| ());
        assert!(table.peek(&id(1), at(105), |_| ()).is_some());
    }

    #[test]
    fn a_person_can_be_forgotten() {
        let table = table(5000);
        for number in 0..100 {
            table.with(&id(number), at(0), |session| session.user = Some(UserKey([(number % 10) as u8; 16])));
        }
        assert_eq!(table.of_user(UserKey([3; 16])).len(), 10);
        assert_eq!(table.remove_user(UserKey([3; 16])), 10);
        assert_eq!((table.remove_user(UserKey([3; 16])), table.len()), (0, 90));
        assert!(table.remove(&id(4)) && !table.remove(&id(4)) && !table.remove(&id(3)));
        assert_eq!(table.ids(1000).len(), 89);
    }

    #[test]
    fn many_threads_and_shards_keep_the_bound() {
        let table = table(2000);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let table = &table;
                scope.spawn(move || {
                    for number in 0..2000 {
                        table.with(&id(thread * 1000 + number), at(0), |session| session.frames_skipped += 1);
                    }
                });
            }
        });
        assert!(table.len() <= 2000);
        assert!(table.len() > 1800, "shards fill about evenly");
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_plain_model(
            capacity in 1_usize..6,
            steps in proptest::collection::vec((0_usize..8, 0_u8..6, 0_i64..4), 1..200),
        ) {
            let table = table(capacity);
            // Session → last activity; the order of activity is the order in `order`.
            let (mut model, mut order): (Model<usize, i64>, Vec<usize>) = (Model::new(), Vec::new());
            let mut now = 0;
            for (number, action, passed) in steps {
                now += passed;
                match action {
                    0 => {
                        let expired = model.iter().filter(|(_, active)| now - **active > 10).count();
                        model.retain(|_, active| now - *active <= 10);
                        order.retain(|n| model.contains_key(n));
                        prop_assert_eq!(table.expire(at(now)), expired);
                    }
                    1 => {
                        prop_assert_eq!(table.remove(&id(number)), model.remove(&number).is_some());
                        order.retain(|&n| n != number);
                    }
                    2 => {
                        let alive = model.get(&number).is_some_and(|active| now - active <= 10);
                        prop_assert_eq!(table.peek(&id(number), at(now), |_| ()).is_some(), alive);
                    }
                    _ => {
                        if !model.contains_key(&number) && model.len() == capacity {
                            model.remove(&order.remove(0));
                        }
                        order.retain(|&n| n != number);
                        order.push(number);
                        model.insert(number, now);
                        table.with(&id(number), at(now), |session| {
                            session.observe_event(EventKind::Click, ItemNo(now as u32), at(now), None, None);
                            assert!(session.items().len() <= 3 && session.view().seen.len() <= 3);
                        });
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.ids(10), order.iter().rev().map(|&n| id(n)).collect::<Vec<_>>());
            }
        }
    }
}
