//! How are the sessions written down? The ring and each item's sessions; the rest follows from them.

use smallvec::SmallVec;

use super::{FORGOTTEN, Postings, REPEAT, SessionKnn, StoredSession};
use crate::collab::{CollabLimits, MAX_ITEMS};
use crate::domain::{LoadError, StateReader, StateWriter};

/// A number that was given out this many sessions ago or longer cannot be told from one that is to come.
const LONG_AGO: u32 = 1 << 31;

impl SessionKnn {
    /// About how many bytes saving takes.
    pub(in crate::collab) fn saved_bytes(&self) -> usize {
        let state = self.state.read();
        let sessions: usize = state.sessions.iter().map(|session| session.items.len()).sum();
        let postings: usize = state.items.iter().map(|postings| postings.sessions.len()).sum();
        64 + 4 * (3 * state.sessions.len() + sessions + state.items.len() + postings)
    }

    /// Writes everything down.
    pub(in crate::collab) fn save(&self, to: &mut StateWriter) {
        let state = self.state.read();
        to.u32(state.capacity);
        to.u64(self.session_items as u64);
        to.u64(self.recency_sample as u64);
        to.u32(state.next);
        to.count(state.items.len());
        to.count(state.sessions.len());
        for session in &state.sessions {
            to.u64(session.key);
            to.count(session.items.len());
            to.u32s(&session.items);
        }
        let mut recent = Vec::new();
        for (postings, holders) in state.items.iter().zip(&state.holders) {
            recent.clear();
            recent.extend(postings.sessions.iter().filter(|&&number| state.next.wrapping_sub(number) < LONG_AGO));
            to.u32(recent.len() as u32 | holders & FORGOTTEN);
            to.u32s(&recent);
        }
    }

    /// Reads what [`save`](Self::save) wrote under the same `limits`; items are numbered below `items`.
    pub(in crate::collab) fn load(
        limits: &CollabLimits,
        items: usize,
        from: &mut StateReader<'_>,
    ) -> Result<Self, LoadError> {
        let mut knn = Self::new(limits);
        let (session_items, recency_sample) = (knn.session_items, knn.recency_sample);
        let state = knn.state.get_mut();
        if from.u32()? != state.capacity || from.u64()? != session_items as u64 {
            return Err(LoadError::Incompatible("number of sessions or of their items"));
        }
        if from.u64()? != recency_sample as u64 {
            return Err(LoadError::Incompatible("recency sample"));
        }
        state.next = from.u32()?;
        let item_count = from.count(4, items.min(MAX_ITEMS))?;
        let session_count = from.count(12, state.capacity as usize)?;
        if session_count != state.capacity as usize && session_count != state.next as usize {
            return Err(LoadError::Damaged("the ring of sessions has gaps"));
        }
        state.items.resize(item_count, Postings::default());
        state.holders.resize(item_count, 0);
        state.sessions.reserve_exact(session_count);
        state.numbers.reserve(session_count, |_| 0);
        // By item, the last session that held it, counted from 1.
        let mut held_by = vec![0; item_count];
        for slot in 0..session_count {
            let key = from.u64()?;
            let count = from.count(4, session_items)?;
            let items: SmallVec<_> = from.u32s(count)?.collect();
            for own in &items {
                let item = (own & !REPEAT) as usize;
                let (Some(held_by), Some(holders)) = (held_by.get_mut(item), state.holders.get_mut(item)) else {
                    return Err(LoadError::Damaged("a session holds an item that is not there"));
                };
                let repeat = *held_by == slot + 1;
                if repeat != (own & REPEAT != 0) {
                    return Err(LoadError::Damaged("a session's repeats are not marked"));
                }
                *held_by = slot + 1;
                *holders += u32::from(!repeat);
            }
            // The latest number that belongs into this slot. A session without items was forgotten.
            let back = state.next.wrapping_sub(1).wrapping_sub(slot as u32) & (state.capacity - 1);
            let number = state.next.wrapping_sub(1).wrapping_sub(back);
            let found = !items.is_empty();
            if found && state.number(key).is_some() {
                return Err(LoadError::Damaged("a session comes twice"));
            }
            state.sessions.push(StoredSession { key, items });
            if found {
                state.insert_number(number);
            }
        }
        let oldest = if session_count < state.capacity as usize { state.next } else { LONG_AGO - 1 };
        for (postings, holders) in state.items.iter_mut().zip(&mut state.holders) {
            let count = from.u32()?;
            *holders |= count & FORGOTTEN;
            let count = (count & !FORGOTTEN) as usize;
            if count > 2 * recency_sample {
                return Err(LoadError::Damaged("an item has too many sessions"));
            }
            postings.sessions = from.u32s(count)?.collect();
            if !postings.sessions.iter().all(|&number| (1..=oldest).contains(&state.next.wrapping_sub(number))) {
                return Err(LoadError::Damaged("an item names a session that is still to come"));
            }
        }
        Ok(knn)
    }
}
