//! Which sessions are going on? A bounded table that forgets the silent ones.

use std::collections::{BTreeMap, HashMap, hash_map};
use std::hash::{BuildHasher, RandomState};

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
    hasher: RandomState,
    limits: SessionLimits,
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
        Self { shards, hasher: RandomState::new(), limits }
    }

    /// Calls `f` with the session, which is begun if it is not there (or has expired), and counts it as active at `now`.
    ///
    /// The session's shard is locked meanwhile: `f` must be short and must not use the table.
    pub fn with<R>(&self, id: &SessionId, now: Timestamp, f: impl FnOnce(&mut LiveSession) -> R) -> R {
        f(self.shard(id).lock().touch(id, now, &self.limits))
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
        let hash = self.hasher.hash_one(id);
        &self.shards[(hash as usize) % self.shards.len()]
    }
}

/// Sessions by id, and their order of activity. Every operation on one session takes time logarithmic in the shard.
#[derive(Debug)]
struct Shard {
    by_id: HashMap<SessionId, Entry>,
    /// The sessions by the turn at which each was last active: the first is the longest silent.
    by_turn: BTreeMap<u64, SessionId>,
    next_turn: u64,
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
        Self { by_id: HashMap::new(), by_turn: BTreeMap::new(), next_turn: 0, capacity }
    }

    fn touch(&mut self, id: &SessionId, now: Timestamp, limits: &SessionLimits) -> &mut LiveSession {
        if !self.by_id.contains_key(id) && self.by_id.len() >= self.capacity {
            self.evict_oldest();
        }
        let turn = self.next_turn;
        self.next_turn += 1;
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
