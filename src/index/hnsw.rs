//! Which rows are like the query, without looking at each? A graph (HNSW) that leads to them.
//!
//! The graph comes from `hnsw_rs`, which can neither delete nor update and knows nothing of items, so it is only ever
//! asked for slots: what is alive, whose it is and how alike it really is, the caller looks up. What it gets from us:
//!
//! - rows of 8-bit codes instead of `f32`, and a distance that is never negative or NaN (its own panics on exact
//!   duplicates when rounding takes a cosine past 1);
//! - near-duplicates folded into one node: hundreds of equal thumbnails would otherwise only link to each other, and
//!   cut the graph apart.
//!
//! Source of the algorithm: Malkov and Yashunin, *Efficient and robust approximate nearest neighbor search using
//! Hierarchical Navigable Small World graphs*, 2016.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hnsw_rs::anndists::dist::Distance;
use hnsw_rs::prelude::Hnsw;
use parking_lot::RwLock;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::IndexSettings;
use super::quantise::{self, Query};
use super::simd::Kernels;
use super::slots::View;

/// Rows at least this alike share a node.
const FOLD_FROM_COSINE: f32 = 0.9999;

/// How widely the graph is searched for a near-duplicate before a row is linked.
const FOLD_EFFORT: usize = 12;

/// The most layers that `hnsw_rs` can have; the levels are drawn so that millions of nodes use five or six.
const MAX_LAYERS: usize = 16;

/// A graph over slots.
pub(super) struct HnswGraph {
    graph: Hnsw<'static, i8, CodeDistance>,
    kernels: &'static Kernels,
    /// The slots that share the node of the slot that is the key.
    folds: RwLock<HashMap<u32, Vec<u32>>>,
    folded: AtomicUsize,
    nodes: AtomicUsize,
    /// All slots below this were linked (or dead when their turn came).
    covered: AtomicUsize,
    stride: usize,
    links: usize,
}

impl HnswGraph {
    /// An empty graph for about `expected` nodes.
    pub(super) fn new(settings: &IndexSettings, kernels: &'static Kernels, stride: usize, expected: usize) -> Self {
        let links = settings.links.clamp(4, 128);
        let effort = settings.build_effort.clamp(8, 2_000);
        let graph = Hnsw::new(links, expected, MAX_LAYERS, effort, CodeDistance { kernels });
        Self {
            graph,
            kernels,
            folds: RwLock::default(),
            folded: AtomicUsize::new(0),
            nodes: AtomicUsize::new(0),
            covered: AtomicUsize::new(0),
            stride,
            links,
        }
    }

    /// Links the slots from [`covered`](Self::covered) up to `end`, in an order that is shuffled: neighbours that come
    /// one after the other would link to each other alone. `false` if it was stopped before all were linked.
    pub(super) fn extend(&self, view: &View, end: usize, settings: &IndexSettings, stop: &AtomicBool) -> bool {
        let start = self.covered();
        let (Ok(from), Ok(to)) = (u32::try_from(start), u32::try_from(end.min(view.used()))) else { return false };
        let mut order: Vec<u32> = (from..to).filter(|slot| view.item(*slot).is_some()).collect();
        order.shuffle(&mut StdRng::seed_from_u64(settings.seed ^ u64::from(from)));
        // The first node alone: two threads that both find no entry would leave one of their nodes without a link.
        let first = usize::from(self.nodes() == 0).min(order.len());
        order[..first].iter().for_each(|slot| self.link(view, *slot));
        let next = AtomicUsize::new(first);
        let work = || {
            while !stop.load(Ordering::Relaxed)
                && let Some(slot) = order.get(next.fetch_add(1, Ordering::Relaxed))
            {
                self.link(view, *slot);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..settings.build_threads.clamp(1, 256) {
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

    fn link(&self, view: &View, slot: u32) {
        let row = view.row(slot);
        if row.codes.len() != self.stride {
            return;
        }
        let own = row.by_ref().widen(self.stride);
        let mut point = row.codes;
        point.extend(row.inverse_norm.to_le_bytes().map(|byte| byte as i8));
        // The codes are too coarse to tell near-duplicates, so the nearest nodes are compared as exactly as they are kept.
        let Some(floats) = own.map(|vector| quantise::padded(&vector)) else { return };
        let near = self.graph.search(&point, 2, FOLD_EFFORT);
        let twin = near.iter().filter_map(|found| u32::try_from(found.d_id).ok()).find(|other| {
            let cosine = view.with_row(*other, |other| other.cosine(self.kernels, &floats));
            cosine.is_some_and(|cosine| cosine > FOLD_FROM_COSINE)
        });
        if let Some(twin) = twin {
            self.folds.write().entry(twin).or_default().push(slot);
            self.folded.fetch_add(1, Ordering::Release);
        } else {
            self.graph.insert_slice((&point, slot as usize));
            self.nodes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// About `effort` slots near the query, in no order, dead ones among them.
    ///
    /// `hnsw_rs` can apply a filter on the way, but then follows every candidate it ever met to the end: at the same
    /// recall that took two to three times the distances of a search that is `1 / share` as wide and drops what does
    /// not pass (measured for shares from 1/2 to 1/50). The wider search misses nothing either: if enough of what it
    /// found passes, nothing that passes was nearer.
    pub(super) fn search(&self, query: &Query, effort: usize) -> Vec<u32> {
        let mut point = query.codes.clone();
        point.extend(query.inverse_norm.to_le_bytes().map(|byte| byte as i8));
        let nodes = self.graph.search(&point, effort, effort);
        let mut slots: Vec<u32> = nodes.iter().filter_map(|node| u32::try_from(node.d_id).ok()).collect();
        if self.folded() > 0 {
            let folds = self.folds.read();
            for node in 0..slots.len() {
                slots.extend(folds.get(&slots[node]).into_iter().flatten());
            }
        }
        slots
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

    /// About how much memory the graph takes, reckoned from what `hnsw_rs` allocates for a node: the row, sixteen lists
    /// of links, for every link a pointer and a counted cell, and, as measured, 700 bytes besides.
    pub(super) fn bytes(&self) -> usize {
        let links = 2 * self.links;
        let node = 700 + self.stride + 4 + MAX_LAYERS * 24 + links * (8 + 48);
        self.nodes() * node + self.folded() * 8
    }
}

impl fmt::Debug for HnswGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HnswGraph")
            .field("nodes", &self.nodes())
            .field("folded", &self.folded())
            .finish_non_exhaustive()
    }
}

/// 1 − cosine of two rows of codes, each followed by the four bytes of its inverse norm.
#[derive(Clone, Copy)]
struct CodeDistance {
    kernels: &'static Kernels,
}

impl Distance<i8> for CodeDistance {
    fn eval(&self, a: &[i8], b: &[i8]) -> f32 {
        let (Some((a, a_norm)), Some((b, b_norm))) = (a.split_last_chunk::<4>(), b.split_last_chunk::<4>()) else {
            return 2.0;
        };
        let inverse = |bytes: &[i8; 4]| f32::from_le_bytes(bytes.map(|byte| byte as u8));
        let cosine = self.kernels.dot_i8(a, b) as f32 * inverse(a_norm) * inverse(b_norm);
        // `max` also turns a NaN into 0.
        (1.0 - cosine).max(0.0)
    }
}
