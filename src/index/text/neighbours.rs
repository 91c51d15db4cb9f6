//! Which items are described like this one? What was answered lately is kept, as people ask about few items again and again.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::Scored;

/// How many neighbours of an item are kept: more than a request asks for, so that a filter can take most of them away.
pub(super) const KEPT: usize = 256;
/// Items of a generation; two are kept, so that about 8 MiB are used at most.
const GENERATION: usize = 2_048;

/// The neighbours of the items that were asked about lately. Only what was found in the present state of the index counts.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Asked about lately.
    young: HashMap<u32, Arc<[Scored]>>,
    /// Asked about before; what is asked about again becomes young, and the rest goes when the young grow old.
    old: HashMap<u32, Arc<[Scored]>>,
}

impl Neighbours {
    /// The neighbours of `item`, best first, if they are known.
    pub(super) fn find(&self, item: u32) -> Option<Arc<[Scored]>> {
        let mut state = self.state.lock();
        if let Some(found) = state.young.get(&item) {
            return Some(Arc::clone(found));
        }
        let found = state.old.remove(&item)?;
        state.keep(item, Arc::clone(&found));
        Some(found)
    }

    /// Keeps the neighbours of `item`.
    pub(super) fn keep(&self, item: u32, neighbours: Arc<[Scored]>) {
        self.state.lock().keep(item, neighbours);
    }

    /// The index has changed.
    pub(super) fn forget(&mut self) {
        let state = self.state.get_mut();
        state.young.clear();
        state.old.clear();
    }
}

impl State {
    fn keep(&mut self, item: u32, neighbours: Arc<[Scored]>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(item, neighbours);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_about_stays_and_the_rest_goes() {
        let neighbours = Neighbours::default();
        for item in 0..10 * GENERATION as u32 {
            neighbours.keep(item, Arc::new([]));
            assert!(neighbours.find(0).is_some(), "asked about all the time");
        }
        let state = neighbours.state.lock();
        assert!(state.young.len() <= GENERATION && state.old.len() <= GENERATION);
        drop(state);
        assert!(neighbours.find(GENERATION as u32).is_none());
    }
}
