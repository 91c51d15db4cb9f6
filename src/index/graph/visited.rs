//! Which nodes has this walk met? Marks that need not be wiped, kept from one walk to the next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use parking_lot::Mutex;

/// The most sets of working memory that are kept; more walks at a time make their own.
const KEPT: usize = 64;

/// A set of nodes.
#[derive(Debug, Default)]
pub(super) struct Visited {
    stamps: Vec<u8>,
    stamp: u8,
}

impl Visited {
    /// Empties the set, which can hold the nodes below `nodes` then.
    pub(super) fn begin(&mut self, nodes: usize) {
        if self.stamps.len() < nodes {
            // Room to grow into, so that it is not all written anew for every few nodes that are added.
            self.stamps.resize(nodes + nodes / 8, 0);
        }
        self.stamp = self.stamp.wrapping_add(1);
        if self.stamp == 0 {
            self.stamps.fill(0);
            self.stamp = 1;
        }
    }

    /// Whether the node was not in the set; it is now. A node that the set cannot hold counts as met.
    #[inline]
    pub(super) fn insert(&mut self, node: u32) -> bool {
        match self.stamps.get_mut(node as usize) {
            Some(stamp) if *stamp != self.stamp => {
                *stamp = self.stamp;
                true
            }
            Some(_) | None => false,
        }
    }
}

/// What a walk needs to remember.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) visited: Visited,
    /// Nodes whose links were not followed yet, the best first.
    pub(super) open: BinaryHeap<u64>,
    /// The best nodes, the worst first.
    pub(super) best: BinaryHeap<Reverse<u64>>,
}

/// Working memory that walks have done with.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Scratch>>);

impl Pool {
    /// Does `work` with working memory of which nothing is to be expected.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        let mut scratch = self.0.lock().pop().unwrap_or_default();
        let done = work(&mut scratch);
        let mut kept = self.0.lock();
        if kept.len() < KEPT {
            kept.push(scratch);
        }
        done
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.lock().iter().map(|scratch| scratch.visited.stamps.capacity()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_empty_again_as_often_as_it_is_begun() {
        let mut visited = Visited::default();
        for _ in 0..600 {
            visited.begin(8);
            assert!(visited.insert(7) && !visited.insert(7) && visited.insert(0));
            assert!(!visited.insert(1_000), "it cannot hold this one");
        }
        visited.begin(2_000);
        assert!(visited.insert(1_000) && visited.insert(7));
    }
}
