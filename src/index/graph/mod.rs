//! Which rows are like the query, without looking at each? A graph of our own (HNSW) that leads to them.
//!
//! It holds links and nothing else: the rows stay in the [slots](super::slots), whose numbers are the nodes, so that a node
//! costs about 133 bytes with 16 links. What that buys:
//!
//! - searches take no lock, also while rows are linked, and the filter is asked on the way: what does not pass is walked
//!   through but takes no place among the best;
//! - near-duplicates share a node, so that hundreds of equal pictures do not crowd out the links that lead elsewhere;
//! - links can be [saved](saved) and taken up again without being built anew.
//!
//! Source of the algorithm: Malkov and Yashunin, *Efficient and robust approximate nearest neighbor search using
//! Hierarchical Navigable Small World graphs*, 2016.

mod build;
mod layers;
mod saved;
mod visited;
mod walk;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use self::layers::{END, Layers, MAX_LAYERS, NONE};
use self::visited::Pool;
use self::walk::{Walk, node_of, score_of};
use super::IndexSettings;
use super::flat::Candidate;
use super::quantise::Query;
use super::simd::Kernels;
use super::slots::View;
use crate::domain::ItemNo;

/// Locks for nodes whose links are being rewritten; nodes that fall on the same lock wait for each other.
const LOCKS: usize = 4_096;

/// A graph over slots.
pub(super) struct Graph {
    kernels: &'static Kernels,
    stride: usize,
    seed: u64,
    links: usize,
    build_effort: usize,
    /// Replaced by one with more room before more rows are linked.
    layers: RwLock<Arc<Layers>>,
    /// The nodes of each layer but the lowest.
    counts: Vec<AtomicU32>,
    /// The layer (upper half) and the node (lower half) where every walk begins; all ones if there is none.
    entry: AtomicU64,
    locks: Vec<Mutex<()>>,
    /// Held by the thread that links rows.
    growing: Mutex<()>,
    nodes: AtomicUsize,
    folded: AtomicUsize,
    /// All slots below this were linked (or dead when their turn came).
    covered: AtomicUsize,
    pool: Pool,
}

/// What a search of the graph found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Rows that pass, the most alike first, with their coarse score.
    pub(super) rows: Vec<Candidate>,
    /// Whether the search ended by itself; otherwise it was too long, and `rows` need not be the best.
    pub(super) complete: bool,
    /// The coarse score that a row needs not to have been left out for others; `None` if none was left out.
    pub(super) floor: Option<f32>,
}

/// How far a search of the graph goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    /// The nodes to find (`ef`).
    pub(super) effort: usize,
    /// The nodes whose links may be followed.
    pub(super) steps: usize,
    /// The rows to return, even if more share the nodes found.
    pub(super) rows: usize,
}

fn entry_key(layer: usize, node: u32) -> u64 {
    (layer as u64) << 32 | u64::from(node)
}

impl Graph {
    /// An empty graph over rows of `stride` codes.
    pub(super) fn new(settings: &IndexSettings, kernels: &'static Kernels, stride: usize) -> Self {
        let links = settings.links.clamp(4, 128);
        Self {
            kernels,
            stride,
            seed: settings.seed,
            links,
            build_effort: settings.build_effort.clamp(8, 2_000),
            layers: RwLock::new(Arc::new(Layers::new(links))),
            counts: (0..MAX_LAYERS).map(|_| AtomicU32::new(0)).collect(),
            entry: AtomicU64::new(u64::MAX),
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
            growing: Mutex::new(()),
            nodes: AtomicUsize::new(0),
            folded: AtomicUsize::new(0),
            covered: AtomicUsize::new(0),
            pool: Pool::default(),
        }
    }

    /// Links the living slots from [`covered`](Self::covered) up to `end`, on as many threads as the settings say, in
    /// shuffled order. `false` if it was stopped before all were linked; another call goes on from there.
    pub(super) fn extend(&self, view: &View, end: usize, settings: &IndexSettings, stop: &AtomicBool) -> bool {
        let _one_at_a_time = self.growing.lock();
        let (start, end) = (self.covered(), end.min(view.used()).min(END as usize));
        let (Ok(from), Ok(to)) = (u32::try_from(start), u32::try_from(end)) else { return false };
        let mut order: Vec<u32> = (from..to).filter(|slot| view.item(*slot).is_some()).collect();
        order.shuffle(&mut StdRng::seed_from_u64(settings.seed ^ u64::from(from)));
        let layers = self.make_room(&order, end);
        // The first node alone: two threads that both find no entry would leave one of their nodes without a link.
        let first = usize::from(self.nodes() == 0).min(order.len());
        self.pool.with(|scratch| order[..first].iter().for_each(|slot| self.link(&layers, view, *slot, scratch)));
        let next = AtomicUsize::new(first);
        let work = || {
            self.pool.with(|scratch| {
                while !stop.load(Ordering::Relaxed)
                    && let Some(slot) = order.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    self.link(&layers, view, *slot, scratch);
                }
            });
        };
        let threads = settings.build_threads.clamp(1, 256).min(order.len() / 64 + 1);
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        let done = next.load(Ordering::Relaxed) >= order.len();
        if done {
            self.covered.store(end, Ordering::Release);
        }
        done
    }

    /// Makes room for these slots, and for as many nodes above as they will be.
    fn make_room(&self, slots: &[u32], end: usize) -> Arc<Layers> {
        let mut wanted = [0_usize; MAX_LAYERS];
        for slot in slots {
            wanted.iter_mut().take(self.level_of(*slot) + 1).for_each(|nodes| *nodes += 1);
        }
        let mut layers = Layers::clone(&self.layers.read());
        layers.grow(0, end);
        for (layer, (count, more)) in self.counts.iter().zip(wanted).enumerate().skip(1) {
            layers.grow(layer, count.load(Ordering::Relaxed) as usize + more);
        }
        let layers = Arc::new(layers);
        *self.layers.write() = Arc::clone(&layers);
        layers
    }

    /// The highest layer of a slot: one in [`links`](IndexSettings::links) goes up each time. It follows from the slot and
    /// the seed, so a graph that is built on one thread is the same each time.
    fn level_of(&self, slot: u32) -> usize {
        let mut mixed = (self.seed ^ u64::from(slot)).wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        let links = self.links as u64;
        let mut level = 0;
        while level + 1 < MAX_LAYERS && mixed.is_multiple_of(links) {
            mixed /= links;
            level += 1;
        }
        level
    }

    fn entry(&self) -> (usize, u32) {
        let entry = self.entry.load(Ordering::Acquire);
        if entry == u64::MAX { (0, NONE) } else { ((entry >> 32) as usize, entry as u32) }
    }

    fn lock(&self, layer: usize, node: u32) -> &Mutex<()> {
        &self.locks[(node as usize).wrapping_add(layer * 1_031) % LOCKS]
    }

    /// The nearest rows of which `owner` knows whose they are and that they may be answered.
    pub(super) fn search(
        &self,
        view: &View,
        query: &Query,
        reach: Reach,
        owner: impl Fn(u32) -> Option<ItemNo>,
    ) -> Found {
        let layers = Arc::clone(&self.layers.read());
        let walk = Walk {
            kernels: self.kernels,
            layers: &layers,
            view,
            codes: &query.codes,
            inverse_norm: query.inverse_norm,
        };
        let (top, entry) = self.entry();
        if entry == NONE || query.codes.len() != self.stride {
            return Found { complete: true, ..Found::default() };
        }
        let admit = |node: u32| owner(node).is_some() || layers.twins(node).skip(1).any(|twin| owner(twin).is_some());
        let effort = reach.effort.max(1);
        let (complete, mut best) = self.pool.with(|scratch| {
            let complete = walk
                .approach(top, entry, 0, scratch)
                .is_some_and(|from| walk.widely(0, &from, effort, reach.steps, scratch, admit));
            (complete, scratch.best.drain().map(|key| key.0).collect::<Vec<u64>>())
        });
        best.sort_unstable_by(|a, b| b.cmp(a));
        let floor = best.get(effort - 1).map(|worst| score_of(*worst));
        let rows = best.iter().flat_map(|key| layers.twins(node_of(*key)).map(|slot| (slot, score_of(*key))));
        let rows = rows.filter_map(|(slot, score)| Some(Candidate { slot, item: owner(slot)?, score }));
        Found { rows: rows.take(reach.rows).collect(), complete, floor }
    }

    /// All slots below this are linked; those above it, the caller has to look at itself.
    pub(super) fn covered(&self) -> usize {
        self.covered.load(Ordering::Acquire)
    }

    /// The slots that share another slot's node.
    pub(super) fn folded(&self) -> usize {
        self.folded.load(Ordering::Acquire)
    }

    pub(super) fn nodes(&self) -> usize {
        self.nodes.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> usize {
        self.layers.read().bytes() + self.pool.bytes() + LOCKS
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").field("nodes", &self.nodes()).field("folded", &self.folded()).finish_non_exhaustive()
    }
}
