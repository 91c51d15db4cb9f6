//! Embedding in, neighbours out: which items look like this?
//!
//! [`open`] makes a [`VectorIndex`] of the kind the settings ask for; [`AttributeIndex`] turns filters and availability
//! into the bitmaps that a search takes. Both change while they are searched.
//!
//! - [`VectorIndex::upsert`] and [`VectorIndex::remove`] take effect at once and as a whole: a search sees all of an
//!   item's vectors or none, and never an item that was removed before the search began.
//! - [`VectorIndex::maintain`] moves new vectors into the graph and clears out dead ones. The owner calls it from a
//!   thread of its own; if it is called late, searches grow slower, never wrong.
//! - Nothing here is durable by itself: the store keeps every embedding. [`load`] takes up what an earlier run has
//!   [written](VectorIndex::save), and so spares a start the building of the graph.

mod adaptive;
mod attributes;
mod exact;
mod flat;
mod graph;
mod hnsw;
mod planner;
mod quantise;
mod search;
mod simd;
mod slots;
mod snapshot;
mod text;

#[cfg(test)]
mod tests;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use roaring::RoaringBitmap;

pub use adaptive::AdaptiveIndex;
pub use attributes::AttributeIndex;
pub use exact::ExactIndex;
pub use planner::{IndexKind, UnknownIndexKind};
pub use snapshot::SnapshotError;
pub use text::{TextIndex, TextQuery};

pub use crate::domain::Precision;
use crate::domain::{Embedding, ItemNo, Scored};

/// The most vectors (images) one item may have.
pub const MAX_VECTORS_PER_ITEM: usize = 16;

/// The most dimensions a vector may have; an int8 dot product of this length stays far inside an `i32`.
pub const MAX_DIMS: usize = 16_384;

/// Items and their vectors, searchable by cosine similarity while they change.
///
/// All methods take `&self` and may be called from any number of threads.
pub trait VectorIndex: Send + Sync + std::fmt::Debug {
    /// The number of dimensions of every vector.
    fn dims(&self) -> usize;

    /// The number of items.
    fn len(&self) -> usize;

    /// Whether there are no items.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts and sizes, for metrics and for people.
    fn stats(&self) -> IndexStats;

    /// The number of live vectors.
    fn vectors(&self) -> usize {
        self.stats().vectors
    }

    /// About how many bytes of memory the index holds.
    fn bytes(&self) -> usize {
        self.stats().bytes
    }

    /// Gives `item` these vectors (1 to [`MAX_VECTORS_PER_ITEM`]), in place of any it had. Costs next to nothing where it has
    /// them already.
    fn upsert(&self, item: ItemNo, vectors: &[Embedding]) -> Result<(), IndexError>;

    /// Forgets `item`; whether it was there.
    fn remove(&self, item: ItemNo) -> bool;

    /// The numbers of the items that are there.
    fn items(&self) -> RoaringBitmap;

    /// Writes the index as it is now, for [`load`]. Searches and changes go on meanwhile, upkeep waits.
    fn save(&self, to: &mut dyn Write) -> Result<(), SnapshotError>;

    /// The vectors of `item`, in the order they were given, as exactly as they are kept; empty if it is unknown. With 16 bits
    /// a number lengths and angles differ by about 0.00003 from what was given.
    fn get(&self, item: ItemNo) -> Vec<Embedding>;

    /// The first vector of `item`.
    fn vector(&self, item: ItemNo) -> Option<Embedding> {
        self.get(item).into_iter().next()
    }

    /// How alike `items` and `queries` are: calls `found` with the place of each item that has vectors, and with the cosine
    /// of its nearest vector to each query, in the order of the queries. They must have [`dims`](Self::dims) dimensions.
    fn liken(&self, items: &[ItemNo], queries: &[&Embedding], found: &mut dyn FnMut(usize, &[f32])) {
        let mut nearest = Vec::with_capacity(queries.len());
        for (place, &item) in items.iter().enumerate() {
            let vectors = self.get(item);
            if vectors.is_empty() {
                continue;
            }
            let cosine = |query: &Embedding| vectors.iter().map(|v| v.cosine(query)).fold(-1.0, f32::max);
            nearest.clear();
            nearest.extend(queries.iter().map(|query| cosine(query)));
            found(place, &nearest);
        }
    }

    /// The items nearest to `query` (of any length but zero), best first: each once, scored by the cosine of its best
    /// vector. Fewer than `limit` only if fewer items may be answered at all.
    fn search(&self, query: &[f32], options: &SearchOptions<'_>) -> Result<Vec<Scored>, IndexError> {
        Ok(self.search_many(&[query], options)?.pop().unwrap_or_default())
    }

    /// One [`search`](Self::search) for each query, of the same state of the index.
    fn search_many(&self, queries: &[&[f32]], options: &SearchOptions<'_>) -> Result<Vec<Vec<Scored>>, IndexError>;

    /// Does the most urgent piece of upkeep, if any is due, on the calling thread, and says what it was. May take as
    /// long as building the whole index; returns early, with the index as it was, soon after `stop` becomes true.
    /// If another thread is at it already, nothing is done.
    fn maintain(&self, stop: &AtomicBool) -> Upkeep;
}

/// What a search is to return and what it may return.
#[derive(Debug, Clone, Copy, Default)]
pub struct SearchOptions<'a> {
    /// The most items to return.
    pub limit: usize,
    /// How widely a graph is searched (`ef`); more is slower and misses less. A default that suits `limit` if not given.
    pub effort: Option<usize>,
    /// Whether some may be missed for the sake of speed, and scores be as coarse as codes of 8 bits make them, as suits proposals of
    /// which something else chooses: a graph is then searched less widely, and once.
    pub quick: bool,
    /// Only these items, if given.
    pub allowed: Option<&'a RoaringBitmap>,
    /// Not these items.
    pub excluded: Option<&'a RoaringBitmap>,
    /// Only items of at least this cosine.
    pub min_score: Option<f32>,
}

impl<'a> SearchOptions<'a> {
    /// The best `limit` of all items.
    pub fn top(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Only items in `allowed`.
    #[must_use]
    pub fn allowed(self, allowed: &'a RoaringBitmap) -> Self {
        Self { allowed: Some(allowed), ..self }
    }

    /// No items in `excluded`.
    #[must_use]
    pub fn excluded(self, excluded: &'a RoaringBitmap) -> Self {
        Self { excluded: Some(excluded), ..self }
    }

    /// With this `ef`, where a graph is searched.
    #[must_use]
    pub fn effort(self, effort: usize) -> Self {
        Self { effort: Some(effort), ..self }
    }

    /// Only items of at least this cosine.
    #[must_use]
    pub fn min_score(self, min_score: f32) -> Self {
        Self { min_score: Some(min_score), ..self }
    }

    /// Whether `item` may be returned, as far as the bitmaps tell.
    pub fn admits(&self, item: ItemNo) -> bool {
        self.allowed.is_none_or(|a| a.contains(item.0)) && !self.excluded.is_some_and(|e| e.contains(item.0))
    }
}

/// What kind of index to make, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexSettings {
    /// The number of dimensions of every vector: 1 to [`MAX_DIMS`].
    pub dims: usize,
    /// Scan, graph, or whichever is faster.
    pub kind: IndexKind,
    /// How exactly vectors are kept.
    pub precision: Precision,
    /// Links a graph node has on each layer but the lowest, where it has twice as many: 4 to 128.
    pub links: usize,
    /// How many neighbours are considered when a node is linked (`ef_construction`): 8 to 2,000.
    pub build_effort: usize,
    /// Threads that build the graph, the one that calls [`VectorIndex::maintain`] among them.
    pub build_threads: usize,
    /// Seed of the order in which vectors enter the graph.
    pub seed: u64,
}

impl IndexSettings {
    /// The defaults for vectors of `dims` dimensions.
    pub fn new(dims: usize) -> Self {
        Self {
            dims,
            kind: IndexKind::Auto,
            precision: Precision::default(),
            links: 16,
            build_effort: 200,
            build_threads: 1,
            seed: 0x5EED,
        }
    }

    /// The same, of this kind.
    #[must_use]
    pub fn kind(self, kind: IndexKind) -> Self {
        Self { kind, ..self }
    }
}

/// Why the index refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// A vector or query has the wrong number of dimensions.
    #[error("expected a vector of {expected} dimensions, this one has {found}")]
    Dimensions {
        /// What the index was made for.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// An item comes without a vector, or with too many.
    #[error("an item needs 1 to {MAX_VECTORS_PER_ITEM} vectors, this one has {0}")]
    VectorCount(usize),
    /// A query is zero or holds a number that is not finite, so it points nowhere.
    #[error("a query must consist of finite numbers that are not all zero")]
    NoDirection,
    /// The index cannot be made with this number of dimensions.
    #[error("an index needs 1 to {MAX_DIMS} dimensions, not {0}")]
    UnusableDims(usize),
    /// There is no room for more vectors (2³¹ since the last compaction).
    #[error("the index is full")]
    Full,
}

/// What [`VectorIndex::maintain`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upkeep {
    /// Nothing was due (or another thread is at it).
    Idle,
    /// This many new vectors were linked into the graph.
    Absorbed(usize),
    /// A new graph of this many vectors replaced the old one.
    Rebuilt(usize),
    /// Dead vectors were cleared out; this many remain, without a graph.
    Compacted(usize),
    /// It was told to stop before it was done.
    Stopped,
}

/// Counts and sizes of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexStats {
    /// Items.
    pub items: usize,
    /// Live vectors.
    pub vectors: usize,
    /// Vectors that were replaced or removed and still take up room.
    pub dead: usize,
    /// Vectors that a graph leads to, dead ones included; 0 if there is no graph.
    pub linked: usize,
    /// Of those, how many share the node of a near-duplicate.
    pub folded: usize,
    /// How often an item has come, changed or gone since the index was made or loaded.
    pub changes: u64,
    /// About how many bytes of memory all of it takes.
    pub bytes: usize,
}

/// Which processor instructions comparisons use: `portable`, `avx2` or `avx512-vnni`.
pub fn instruction_set() -> &'static str {
    simd::Kernels::best().name
}

/// Makes an empty index.
pub fn open(settings: &IndexSettings) -> Result<Arc<dyn VectorIndex>, IndexError> {
    Ok(Arc::new(AdaptiveIndex::new(settings)?))
}

/// The index that [`VectorIndex::save`] wrote.
///
/// What changed since it was written, the caller has to say again: what it says of items that are as they were costs
/// little.
pub fn load(settings: &IndexSettings, from: &mut dyn Read) -> Result<Arc<dyn VectorIndex>, SnapshotError> {
    Ok(Arc::new(AdaptiveIndex::load(settings, from)?))
}
