//! What is the right answer? A plain scan in `f32`, against which the other indexes are measured.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::AtomicBool;

use parking_lot::RwLock;
use roaring::RoaringBitmap;

use super::{
    IndexError, IndexStats, MAX_DIMS, MAX_VECTORS_PER_ITEM, SearchOptions, SnapshotError, Upkeep, VectorIndex,
};
use crate::domain::{Embedding, ItemNo, Scored, dot};

/// Every vector in full precision, every search a scan of them all: slow, large and right. An oracle for tests and
/// benchmarks, and good enough for some thousands of items.
#[derive(Debug)]
pub struct ExactIndex {
    dims: usize,
    items: RwLock<BTreeMap<ItemNo, Vec<Embedding>>>,
}

impl ExactIndex {
    /// An empty index for vectors of `dims` dimensions.
    pub fn new(dims: usize) -> Result<Self, IndexError> {
        check_dims(dims)?;
        Ok(Self { dims, items: RwLock::default() })
    }
}

pub(super) fn check_dims(dims: usize) -> Result<(), IndexError> {
    if (1..=MAX_DIMS).contains(&dims) { Ok(()) } else { Err(IndexError::UnusableDims(dims)) }
}

pub(super) fn check_vectors(dims: usize, vectors: &[Embedding]) -> Result<(), IndexError> {
    if !(1..=MAX_VECTORS_PER_ITEM).contains(&vectors.len()) {
        return Err(IndexError::VectorCount(vectors.len()));
    }
    match vectors.iter().find(|v| v.dims() != dims) {
        Some(odd) => Err(IndexError::Dimensions { expected: dims, found: odd.dims() }),
        None => Ok(()),
    }
}

pub(super) fn check_query(dims: usize, query: &[f32]) -> Result<Embedding, IndexError> {
    if query.len() != dims {
        return Err(IndexError::Dimensions { expected: dims, found: query.len() });
    }
    Embedding::unit(query.to_vec()).map_err(|_| IndexError::NoDirection)
}

impl VectorIndex for ExactIndex {
    fn dims(&self) -> usize {
        self.dims
    }

    fn len(&self) -> usize {
        self.items.read().len()
    }

    fn items(&self) -> RoaringBitmap {
        self.items.read().keys().map(|item| item.0).collect()
    }

    fn stats(&self) -> IndexStats {
        let items = self.items.read();
        let vectors: usize = items.values().map(Vec::len).sum();
        IndexStats { items: items.len(), vectors, bytes: vectors * (self.dims * 4 + 40), ..IndexStats::default() }
    }

    fn upsert(&self, item: ItemNo, vectors: &[Embedding]) -> Result<(), IndexError> {
        check_vectors(self.dims, vectors)?;
        self.items.write().insert(item, vectors.to_vec());
        Ok(())
    }

    fn remove(&self, item: ItemNo) -> bool {
        self.items.write().remove(&item).is_some()
    }

    fn save(&self, _to: &mut dyn Write) -> Result<(), SnapshotError> {
        Err(SnapshotError::Io(io::ErrorKind::Unsupported.into()))
    }

    fn get(&self, item: ItemNo) -> Vec<Embedding> {
        self.items.read().get(&item).cloned().unwrap_or_default()
    }

    fn search_many(&self, queries: &[&[f32]], options: &SearchOptions<'_>) -> Result<Vec<Vec<Scored>>, IndexError> {
        let queries = queries.iter().map(|q| check_query(self.dims, q)).collect::<Result<Vec<_>, _>>()?;
        let items = self.items.read();
        let search = |query: &Embedding| {
            let best = |vectors: &[Embedding]| {
                vectors.iter().map(|v| dot(v.as_slice(), query.as_slice())).fold(-1.0_f32, f32::max).min(1.0)
            };
            let mut found: Vec<Scored> = items
                .iter()
                .filter(|(item, _)| options.admits(**item))
                .map(|(item, vectors)| Scored { item: *item, score: best(vectors) })
                .filter(|s| options.min_score.is_none_or(|min| s.score >= min))
                .collect();
            Scored::keep_best(&mut found, options.limit);
            found
        };
        Ok(queries.iter().map(search).collect())
    }

    fn maintain(&self, _stop: &AtomicBool) -> Upkeep {
        Upkeep::Idle
    }
}
