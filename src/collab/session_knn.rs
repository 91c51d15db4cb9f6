//! What did sessions like this one turn to? Nearest neighbours among recent sessions.
//!
//! Vector-multiplication-indexed session kNN (Kersbergen, Sprangers, Schelter: Serenade, SIGMOD 2022), made
//! incremental: sessions live in a ring, each item knows the most recent sessions that touched it, and both grow with
//! every event. Call [`SessionKnn::candidates`], then look up single items in the scratch.
//!
//! What may be lost: the oldest sessions when the ring is full, an item's older sessions beyond the recency sample, and
//! a session's first items beyond its bound.

mod saved;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use parking_lot::RwLock;
use smallvec::SmallVec;

use super::score_table::ScoreTable;
use super::{CollabLimits, Engagement, MAX_ITEMS};
use crate::domain::{ItemNo, Scored, Timestamp, fast_ln};

/// Marks an item that occurred earlier in the same stored session.
const REPEAT: u32 = 1 << 31;

/// How many of the session's last positions look for neighbours.
const QUERY_POSITIONS: usize = 4;

/// What each step back leaves of a position's weight.
const POSITION_DECAY: f32 = 0.6;

/// By how much a neighbour counts less for each position between its match and the present.
const MATCH_DECAY: f32 = 0.2;

/// By how much an item counts less for each position beyond the first between it and the shared item.
const DISTANCE_DECAY: f32 = 0.5;

/// Incremental session-kNN. Readable while it is updated; an update takes about a microsecond.
#[derive(Debug)]
pub struct SessionKnn {
    // One lock: an update is far shorter than a query, and queries do not exclude each other.
    state: RwLock<State>,
    /// At most this many sessions an item, and altogether, are looked at.
    recency_sample: usize,
    /// At most this many sessions vote.
    neighbours: usize,
    /// At most this many items of a session are kept.
    session_items: usize,
}

#[derive(Debug)]
struct State {
    /// Session `n` (counted from the first ever) is at `n % capacity`; the capacity is a power of two.
    sessions: Vec<StoredSession>,
    capacity: u32,
    /// The number that the next session gets. Wraps around, so it is only compared by distance.
    next: u32,
    /// The number of each session that is still in the ring, by its key, which the ring keeps.
    numbers: HashTable<u32>,
    hasher: RandomState,
    items: Vec<Postings>,
    /// By item, how many sessions in the ring hold it, and [`FORGOTTEN`]. Apart from the rest because a query looks at these
    /// for a thousand items.
    holders: Vec<u32>,
}

/// Marks an item that was forgotten, in the number of its holders.
const FORGOTTEN: u32 = 1 << 31;

/// Items of a session that need no memory of their own: most sessions are short, and a query goes through hundreds.
const INLINE_ITEMS: usize = 4;

#[derive(Debug, Default)]
struct StoredSession {
    key: u64,
    /// In the order in which they came, repeats marked with [`REPEAT`].
    items: SmallVec<[u32; INLINE_ITEMS]>,
}

#[derive(Debug, Default, Clone)]
struct Postings {
    /// Sessions that touched the item, the latest last. Cut back to the sample when it is twice as long.
    sessions: Vec<u32>,
}

/// What sessions like this one say about one item.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SessionVote {
    /// Sum of the neighbours' similarity, decayed by the distance of the match, times the item's idf; at least 0.
    pub score: f32,
    /// Share of the neighbours' weight in which the item comes directly after the current one; 0 or more, and more
    /// than 1 only when neighbours go back and forth.
    pub follow_share: f32,
}

/// Working memory of a query and its result; keep one a thread and use it again.
#[derive(Debug, Default)]
pub struct SessionKnnScratch {
    overlap: ScoreTable<1>,
    neighbours: Vec<(u32, f32)>,
    votes: ScoreTable<2>,
    total_weight: f32,
}

impl SessionKnnScratch {
    /// What the last query found out about `item`; zeros if it was not in any neighbour.
    pub fn vote(&self, item: ItemNo) -> SessionVote {
        let [score, follow_share] = self.votes.get(item.0).unwrap_or_default();
        SessionVote { score, follow_share }
    }

    /// The sum of the neighbours' similarities in the last query; 0 when there were none.
    pub fn total_weight(&self) -> f32 {
        self.total_weight
    }

    /// Forgets the last query, so that its votes cannot be taken for those of a request that skipped this source.
    pub fn clear(&mut self) {
        self.overlap.clear();
        self.votes.clear();
        self.neighbours.clear();
        self.total_weight = 0.0;
    }
}

impl SessionKnn {
    /// An empty index within `limits`.
    pub fn new(limits: &CollabLimits) -> Self {
        Self {
            state: RwLock::new(State {
                sessions: Vec::new(),
                capacity: u32::try_from(limits.sessions.clamp(2, 1 << 28).next_power_of_two()).unwrap_or(1 << 28),
                next: 0,
                numbers: HashTable::new(),
                hasher: RandomState::new(),
                items: Vec::new(),
                holders: Vec::new(),
            }),
            recency_sample: limits.recency_sample.max(1),
            neighbours: limits.neighbours.max(1),
            session_items: limits.session_items.max(2),
        }
    }

    /// The best items for a session that went through `history` (oldest first), without the last item of it, best
    /// first into `best`. The session's own record, if there is one under `exclude_session`, does not vote. `scratch`
    /// then answers for single items.
    pub fn candidates(
        &self,
        history: &[(ItemNo, Timestamp)],
        exclude_session: Option<u64>,
        limit: usize,
        scratch: &mut SessionKnnScratch,
        best: &mut Vec<Scored>,
    ) {
        best.clear();
        scratch.clear();
        let Some(&(current, _)) = history.last() else { return };
        let recent = &history[history.len().saturating_sub(QUERY_POSITIONS)..];
        {
            let state = self.state.read();
            self.gather(&state, recent, exclude_session, scratch);
            state.vote(recent, current, scratch);
        }
        best.extend(
            scratch
                .votes
                .iter()
                .filter(|&(item, [score, _])| score > 0.0 && item != current.0)
                .map(|(item, [score, _])| Scored { item: ItemNo(item), score }),
        );
        Scored::keep_best(best, limit);
    }

    /// Finds the neighbours: the sessions with the largest weighted overlap among the most recent ones.
    fn gather(
        &self,
        state: &State,
        recent: &[(ItemNo, Timestamp)],
        exclude_session: Option<u64>,
        scratch: &mut SessionKnnScratch,
    ) {
        let excluded = exclude_session.and_then(|key| state.number(key));
        for (position, &(item, _)) in recent.iter().enumerate() {
            // An item counts at its last position only.
            if recent[position + 1..].iter().any(|&(later, _)| later == item) {
                continue;
            }
            let Some(postings) = state.items.get(item.index()) else { continue };
            let weight = POSITION_DECAY.powi((recent.len() - 1 - position) as i32);
            let sessions = &postings.sessions;
            for &number in &sessions[sessions.len().saturating_sub(self.recency_sample)..] {
                if Some(number) != excluded {
                    scratch.overlap.add(number, [weight]);
                }
            }
        }
        let neighbours = &mut scratch.neighbours;
        neighbours.extend(scratch.overlap.iter().map(|(number, [overlap])| (number, overlap)));
        let age = |number: u32| state.next.wrapping_sub(number);
        if neighbours.len() > self.recency_sample {
            neighbours.select_nth_unstable_by_key(self.recency_sample - 1, |&(number, _)| age(number));
            neighbours.truncate(self.recency_sample);
        }
        if neighbours.len() > self.neighbours {
            neighbours.select_nth_unstable_by(self.neighbours - 1, |a, b| {
                b.1.total_cmp(&a.1).then_with(|| age(a.0).cmp(&age(b.0)))
            });
            neighbours.truncate(self.neighbours);
        }
    }

    /// Records that session `session` engaged with `item`.
    pub fn observe(&self, session: u64, item: ItemNo) {
        if item.index() >= MAX_ITEMS {
            return;
        }
        let mut state = self.state.write();
        let number = state.number_of(session);
        if state.items.len() <= item.index() {
            state.items.resize(item.index() + 1, Postings::default());
            state.holders.resize(item.index() + 1, 0);
        }
        let slot = state.slot(number);
        let stored = &mut state.sessions[slot].items;
        if stored.last() == Some(&item.0) || stored.last() == Some(&(item.0 | REPEAT)) {
            return;
        }
        let dropped = if stored.len() >= self.session_items { drop_first(stored) } else { None };
        let repeat = stored.iter().any(|&own| own & !REPEAT == item.0);
        if stored.len() == stored.capacity() {
            // Most sessions end soon, so they grow by little.
            stored.reserve_exact(stored.len() / 4 + 3);
        }
        stored.push(if repeat { item.0 | REPEAT } else { item.0 });
        if let Some(gone) = dropped {
            state.release(gone);
        }
        state.holders[item.index()] &= !FORGOTTEN;
        if !repeat {
            state.holders[item.index()] += 1;
            let postings = &mut state.items[item.index()];
            if postings.sessions.len() >= 2 * self.recency_sample {
                postings.sessions.drain(..self.recency_sample);
            }
            if postings.sessions.len() == postings.sessions.capacity() {
                // As many lists as items, so they grow by an eighth, not by as much again.
                postings.sessions.reserve_exact(postings.sessions.len() / 8 + 2);
            }
            postings.sessions.push(number);
        }
    }

    /// Forgets an item: it is neither proposed nor looks for neighbours until someone engages with it again.
    pub fn forget_item(&self, item: ItemNo) {
        let mut state = self.state.write();
        if let Some(postings) = state.items.get_mut(item.index()) {
            postings.sessions = Vec::new();
            state.holders[item.index()] |= FORGOTTEN;
        }
    }

    /// Forgets what a session did: it does not vote any more, and takes no other session's place.
    pub fn forget_session(&self, session: u64) {
        self.state.write().forget(session);
    }

    /// Forgets the sessions of all these engagements, also where a session has since lost the item to its bound.
    pub(super) fn forget_engagements(&self, engagements: &[Engagement<'_>]) {
        let mut state = self.state.write();
        for &Engagement { session, item, .. } in engagements {
            if let Some(number) = state.number(session) {
                state.forget_posting(item.0, number);
            }
        }
        engagements.iter().for_each(|engagement| state.forget(engagement.session));
    }

    /// How many sessions are kept at present.
    pub fn sessions(&self) -> usize {
        self.state.read().numbers.len()
    }
}

impl State {
    fn slot(&self, number: u32) -> usize {
        (number & (self.capacity - 1)) as usize
    }

    /// The number of the session with this key, if it is in the ring.
    fn number(&self, key: u64) -> Option<u32> {
        let is_its = |&number: &u32| self.sessions[self.slot(number)].key == key;
        self.numbers.find(self.hasher.hash_one(key), is_its).copied()
    }

    /// Notes that the session in the ring under this number, whose key must be there, can be found.
    fn insert_number(&mut self, number: u32) {
        let Self { sessions, capacity, hasher, numbers, .. } = self;
        let hash = |number: u32| hasher.hash_one(sessions[(number & (*capacity - 1)) as usize].key);
        numbers.insert_unique(hash(number), number, |&number| hash(number));
    }

    /// Takes the session with this key out of those that can be found; its number, if it was among them.
    fn remove_number(&mut self, key: u64) -> Option<u32> {
        let Self { sessions, capacity, hasher, numbers, .. } = self;
        let is_its = |&number: &u32| sessions[(number & (*capacity - 1)) as usize].key == key;
        let entry = numbers.find_entry(hasher.hash_one(key), is_its).ok()?;
        Some(entry.remove().0)
    }

    /// The number of `session`; a new one, in place of the oldest, if it has none.
    fn number_of(&mut self, session: u64) -> u32 {
        if let Some(number) = self.number(session) {
            return number;
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let slot = self.slot(number);
        if slot == self.sessions.len() {
            self.sessions.push(StoredSession::default());
        } else {
            let old = self.sessions[slot].key;
            if self.number(old).is_some_and(|n| self.slot(n) == slot) {
                self.remove_number(old);
            }
            self.empty(slot);
        }
        self.sessions[slot].key = session;
        self.insert_number(number);
        number
    }

    /// Empties the session at `slot`; its items have one holder fewer.
    fn empty(&mut self, slot: usize) {
        for own in std::mem::take(&mut self.sessions[slot].items) {
            if own & REPEAT == 0 {
                self.release(own);
            }
        }
    }

    fn forget(&mut self, session: u64) {
        let Some(number) = self.remove_number(session) else { return };
        let slot = self.slot(number);
        self.sessions[slot].key = 0;
        for own in std::mem::take(&mut self.sessions[slot].items) {
            if own & REPEAT == 0 {
                self.release(own);
                self.forget_posting(own, number);
            }
        }
    }

    fn forget_posting(&mut self, item: u32, number: u32) {
        if let Some(postings) = self.items.get_mut(item as usize) {
            postings.sessions.retain(|&other| other != number);
        }
    }

    fn release(&mut self, item: u32) {
        if let Some(holders) = self.holders.get_mut(item as usize).filter(|holders| **holders & !FORGOTTEN > 0) {
            *holders -= 1;
        }
    }

    /// Lets the neighbours vote for their items.
    fn vote(&self, recent: &[(ItemNo, Timestamp)], current: ItemNo, scratch: &mut SessionKnnScratch) {
        let SessionKnnScratch { neighbours, votes, total_weight, .. } = scratch;
        let mut weight_sum = 0.0_f32;
        // A posting may outlive its session: the ring has moved on by a whole turn.
        neighbours.retain(|&(number, _)| self.next.wrapping_sub(number) <= self.capacity);
        // The sessions lie all over the memory: looked at without waiting for one another, they come together.
        let first = |&(number, _): &(u32, f32)| self.sessions[self.slot(number)].items.first().copied().unwrap_or(0);
        let present = neighbours.iter().map(first).fold(0, |all, item| all | item);
        std::hint::black_box(present);
        for &(number, overlap) in neighbours.iter() {
            let items = &self.sessions[self.slot(number)].items;
            // The latest position of the asking session that the neighbour shares, and where the neighbour has it.
            let place = |item: ItemNo| items.iter().rposition(|&own| own & !REPEAT == item.0);
            let matched = recent.iter().rev().enumerate().find_map(|(back, &(item, _))| Some((back, place(item)?)));
            let Some((back, matched)) = matched else { continue };
            // Case amplification with exponent 2.5.
            let similarity = overlap * overlap * overlap.sqrt();
            weight_sum += similarity;
            let vote = similarity * (1.0 - MATCH_DECAY * back as f32);
            let mut before = u32::MAX;
            for (position, &own) in items.iter().enumerate() {
                let item = own & !REPEAT;
                let follow = if before == current.0 { similarity } else { 0.0 };
                if own & REPEAT == 0 {
                    let beyond = position.abs_diff(matched).saturating_sub(1);
                    votes.add(item, [vote / (1.0 + DISTANCE_DECAY * beyond as f32), follow]);
                } else if follow > 0.0 {
                    votes.add(item, [0.0, follow]);
                }
                before = item;
            }
        }
        let log_sessions = fast_ln(self.numbers.len() as f32 + 1.0);
        let share = if weight_sum > 0.0 { 1.0 / weight_sum } else { 0.0 };
        votes.update(|item, [score, follow]| {
            let rarity = match self.holders.get(item as usize) {
                Some(&holders) if holders > 0 && holders < FORGOTTEN => {
                    (log_sessions - fast_ln(holders as f32)).max(0.0)
                }
                Some(_) | None => 0.0,
            };
            *score *= rarity;
            *follow *= if rarity > 0.0 { share } else { 0.0 };
        });
        *total_weight = weight_sum;
    }
}

/// Removes the first item; returns it if the session does not hold it any more.
fn drop_first(items: &mut SmallVec<[u32; INLINE_ITEMS]>) -> Option<u32> {
    let gone = items.remove(0) & !REPEAT;
    match items.iter_mut().find(|own| **own & !REPEAT == gone) {
        Some(next) => {
            *next = gone;
            None
        }
        None => Some(gone),
    }
}
