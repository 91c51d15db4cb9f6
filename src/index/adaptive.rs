//! Which items look like this, found by whichever way is fastest: a scan, a list or a graph?
//!
//! All vectors live in [`Slots`], where a change takes effect at once. The graph is only a faster way to some of them:
//! new slots wait until upkeep links them and are scanned until then, dead ones are skipped until upkeep clears them
//! out. So an insert never waits for the graph, and the graph never decides what is true.
//!
//! Slots and graph form a generation. Upkeep that moves vectors makes a new one aside, catches up with what changed
//! meanwhile and puts it in place of the old one at a stroke; searches that began on the old one end on it.

use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use roaring::RoaringBitmap;

use super::exact::{check_dims, check_query, check_vectors};
use super::graph::Graph;
use super::hnsw::HnswGraph;
use super::planner::{self, Rules, UpkeepFacts, UpkeepPlan};
use super::quantise::{self, Query, Row};
use super::search::Search;
use super::simd::Kernels;
use super::slots::{Slots, View};
use super::{IndexError, IndexKind, IndexSettings, IndexStats, SearchOptions, SnapshotError, Upkeep, VectorIndex};
use crate::domain::{Embedding, ItemNo, Scored};

/// The index behind [`open`](super::open), of any [`IndexKind`].
#[derive(Debug)]
pub struct AdaptiveIndex {
    pub(super) settings: IndexSettings,
    pub(super) rules: Rules,
    pub(super) kernels: &'static Kernels,
    current: RwLock<Arc<Generation>>,
    /// Held while a change is made. While a new generation is being built it notes which items have changed.
    changed: Mutex<Option<HashSet<ItemNo>>>,
    /// How many changes there were.
    changes: AtomicU64,
    /// Held by the one thread that does upkeep: generations and graphs that are out of use but may still be searched.
    /// They are kept so that it is this thread, not a search, that spends the time to take them apart.
    retired: Mutex<Retired>,
}

#[derive(Debug)]
pub(super) struct Generation {
    pub(super) slots: Slots,
    graph: RwLock<Option<Arc<AnyGraph>>>,
}

#[derive(Debug, Default)]
struct Retired {
    generations: Vec<Arc<Generation>>,
    graphs: Vec<Arc<AnyGraph>>,
}

/// A graph of either make.
#[derive(Debug)]
pub(super) enum AnyGraph {
    Hnsw(HnswGraph),
    Own(Graph),
}

impl AdaptiveIndex {
    /// An empty index.
    pub fn new(settings: &IndexSettings) -> Result<Self, IndexError> {
        Self::with_rules(settings, Rules::default())
    }

    pub(super) fn with_rules(settings: &IndexSettings, rules: Rules) -> Result<Self, IndexError> {
        check_dims(settings.dims)?;
        let generation = Generation { slots: Slots::new(settings.dims, settings.precision), graph: RwLock::new(None) };
        Ok(Self {
            settings: settings.clone(),
            rules,
            kernels: Kernels::best(),
            current: RwLock::new(Arc::new(generation)),
            changed: Mutex::new(None),
            changes: AtomicU64::new(0),
            retired: Mutex::default(),
        })
    }

    /// Keeps upkeep from being done until what is returned is let go.
    pub(super) fn pause_upkeep(&self) -> impl Drop + '_ {
        self.retired.lock()
    }

    pub(super) fn generation(&self) -> Arc<Generation> {
        Arc::clone(&self.current.read())
    }
}

impl VectorIndex for AdaptiveIndex {
    fn dims(&self) -> usize {
        self.settings.dims
    }

    fn len(&self) -> usize {
        self.generation().slots.items()
    }

    fn stats(&self) -> IndexStats {
        let generation = self.generation();
        let graph = generation.graph();
        let (used, live) = (generation.slots.used(), generation.slots.live());
        let (nodes, folded) = graph.as_ref().map_or((0, 0), |g| (g.nodes(), g.folded()));
        IndexStats {
            items: generation.slots.items(),
            vectors: live,
            dead: used.saturating_sub(live),
            linked: nodes + folded,
            folded,
            changes: self.changes.load(Ordering::Relaxed),
            bytes: generation.slots.bytes() + graph.map_or(0, |g| g.bytes()),
        }
    }

    fn upsert(&self, item: ItemNo, vectors: &[Embedding]) -> Result<(), IndexError> {
        check_vectors(self.settings.dims, vectors)?;
        let rows: Vec<Row> = vectors.iter().map(|vector| Row::new(vector, self.settings.precision)).collect();
        let mut changed = self.changed.lock();
        let generation = self.generation();
        if generation.slots.holds(item, &rows) {
            return Ok(());
        }
        generation.slots.put(item, &rows)?;
        self.changes.fetch_add(1, Ordering::Relaxed);
        if let Some(changed) = changed.as_mut() {
            changed.insert(item);
        }
        Ok(())
    }

    fn remove(&self, item: ItemNo) -> bool {
        let mut changed = self.changed.lock();
        let removed = self.generation().slots.remove(item);
        if removed {
            self.changes.fetch_add(1, Ordering::Relaxed);
            if let Some(changed) = changed.as_mut() {
                changed.insert(item);
            }
        }
        removed
    }

    fn items(&self) -> RoaringBitmap {
        self.generation().slots.with_items(RoaringBitmap::clone)
    }

    fn save(&self, to: &mut dyn Write) -> Result<(), SnapshotError> {
        self.write(to)
    }

    fn get(&self, item: ItemNo) -> Vec<Embedding> {
        self.generation().slots.vectors(item)
    }

    fn liken(&self, items: &[ItemNo], queries: &[&Embedding], found: &mut dyn FnMut(usize, &[f32])) {
        let queries: Vec<Vec<f32>> = queries.iter().map(|query| quantise::padded(query)).collect();
        if queries.iter().any(|query| query.len() != quantise::stride(self.settings.dims)) {
            return;
        }
        let mut nearest = vec![-1.0_f32; queries.len()];
        self.generation().slots.each_row(items, |place, row, is_last| {
            for (nearest, query) in nearest.iter_mut().zip(&queries) {
                *nearest = nearest.max(row.cosine(self.kernels, query));
            }
            if is_last {
                found(place, &nearest);
                nearest.fill(-1.0);
            }
        });
    }

    fn search_many(&self, queries: &[&[f32]], options: &SearchOptions<'_>) -> Result<Vec<Vec<Scored>>, IndexError> {
        let queries = queries
            .iter()
            .map(|query| check_query(self.settings.dims, query).map(|unit| Query::new(&unit)))
            .collect::<Result<Vec<_>, _>>()?;
        if options.limit == 0 {
            return Ok(vec![Vec::new(); queries.len()]);
        }
        let search = Search::new(self, options);
        Ok(search.run(&queries))
    }

    fn maintain(&self, stop: &AtomicBool) -> Upkeep {
        let Some(mut retired) = self.retired.try_lock() else { return Upkeep::Idle };
        retired.drop_unused();
        let generation = self.generation();
        let graph = generation.graph();
        let (used, live) = (generation.slots.used(), generation.slots.live());
        let facts = UpkeepFacts {
            kind: self.settings.kind,
            live,
            dead: used.saturating_sub(live),
            row_bytes: generation.slots.stride(),
            covered: graph.as_ref().map(|graph| graph.covered()),
        };
        match (planner::plan_upkeep(&self.rules, &facts), graph) {
            (UpkeepPlan::Nothing, _) => Upkeep::Idle,
            (UpkeepPlan::Absorb(at_most), Some(graph)) => {
                let (before, view) = (graph.covered(), generation.slots.view());
                let end = view.used().min(before + at_most);
                if graph.extend(&view, end, &self.settings, stop) {
                    Upkeep::Absorbed(end - before)
                } else {
                    Upkeep::Stopped
                }
            }
            (UpkeepPlan::Build | UpkeepPlan::Absorb(_), _) => {
                let Some(graph) = self.build_graph(&generation.slots, stop) else { return Upkeep::Stopped };
                let linked = graph.nodes() + graph.folded();
                let old = generation.graph.write().replace(Arc::new(graph));
                retired.graphs.extend(old);
                retired.drop_unused();
                Upkeep::Rebuilt(linked)
            }
            (UpkeepPlan::Compact { graph: with_graph }, old_graph) => {
                drop(old_graph);
                let Some(old) = self.next_generation(&generation, with_graph, stop) else { return Upkeep::Stopped };
                drop(generation);
                retired.generations.push(old);
                retired.drop_unused();
                let live = self.generation().slots.live();
                if with_graph { Upkeep::Rebuilt(live) } else { Upkeep::Compacted(live) }
            }
        }
    }
}

impl AdaptiveIndex {
    /// A graph over the slots that are there now; `None` if it was stopped.
    fn build_graph(&self, slots: &Slots, stop: &AtomicBool) -> Option<AnyGraph> {
        let view = slots.view();
        let graph = match self.settings.kind {
            IndexKind::Hnsw => {
                AnyGraph::Hnsw(HnswGraph::new(&self.settings, self.kernels, slots.stride(), slots.live()))
            }
            IndexKind::Flat | IndexKind::Graph | IndexKind::Auto => {
                AnyGraph::Own(Graph::new(&self.settings, self.kernels, slots.stride()))
            }
        };
        graph.extend(&view, view.used(), &self.settings, stop).then_some(graph)
    }

    /// Builds a generation of what is alive and puts it in place of `old`, which it returns; `None` if it was stopped.
    fn next_generation(&self, old: &Arc<Generation>, with_graph: bool, stop: &AtomicBool) -> Option<Arc<Generation>> {
        // From here on changes are noted, so that what is copied now and changes later is copied again.
        let items = {
            let mut changed = self.changed.lock();
            *changed = Some(HashSet::new());
            old.slots.with_items(RoaringBitmap::clone)
        };
        let next = self.copy_and_link(old, &items, with_graph, stop);
        let mut changed = self.changed.lock();
        let late = changed.take().unwrap_or_default();
        let next = next?;
        for item in late {
            copy_item(old, &next, item)?;
        }
        Some(std::mem::replace(&mut *self.current.write(), Arc::new(next)))
    }

    fn copy_and_link(
        &self,
        old: &Generation,
        items: &RoaringBitmap,
        with_graph: bool,
        stop: &AtomicBool,
    ) -> Option<Generation> {
        let next =
            Generation { slots: Slots::new(self.settings.dims, self.settings.precision), graph: RwLock::new(None) };
        for item in items {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            copy_item(old, &next, ItemNo(item))?;
        }
        if with_graph {
            let graph = self.build_graph(&next.slots, stop)?;
            *next.graph.write() = Some(Arc::new(graph));
        }
        // A long build lets many changes gather. Most are copied while others may still come, so that the last few, for
        // which writers wait, are few.
        for _ in 0..4 {
            let late = self.changed.lock().as_mut().map(std::mem::take).unwrap_or_default();
            for item in late {
                copy_item(old, &next, item)?;
            }
        }
        Some(next)
    }
}

/// Makes what `next` knows of `item` equal to what `old` knows; `None` if there is no room.
fn copy_item(old: &Generation, next: &Generation, item: ItemNo) -> Option<()> {
    let rows = old.slots.rows(item);
    if rows.is_empty() {
        next.slots.remove(item);
        return Some(());
    }
    next.slots.put(item, &rows).ok()
}

impl Generation {
    pub(super) fn put_graph(&self, graph: AnyGraph) {
        *self.graph.write() = Some(Arc::new(graph));
    }

    pub(super) fn graph(&self) -> Option<Arc<AnyGraph>> {
        self.graph.read().clone()
    }
}

impl AnyGraph {
    fn extend(&self, view: &View, end: usize, settings: &IndexSettings, stop: &AtomicBool) -> bool {
        match self {
            Self::Hnsw(graph) => graph.extend(view, end, settings, stop),
            Self::Own(graph) => graph.extend(view, end, settings, stop),
        }
    }

    /// All slots below this are linked; those above it, the caller has to look at itself.
    pub(super) fn covered(&self) -> usize {
        match self {
            Self::Hnsw(graph) => graph.covered(),
            Self::Own(graph) => graph.covered(),
        }
    }

    /// The slots that share another slot's node.
    fn folded(&self) -> usize {
        match self {
            Self::Hnsw(graph) => graph.folded(),
            Self::Own(graph) => graph.folded(),
        }
    }

    fn nodes(&self) -> usize {
        match self {
            Self::Hnsw(graph) => graph.nodes(),
            Self::Own(graph) => graph.nodes(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Hnsw(graph) => graph.bytes(),
            Self::Own(graph) => graph.bytes(),
        }
    }
}

impl Retired {
    /// No one can begin to use what is retired, so what has no other owner now never will.
    fn drop_unused(&mut self) {
        self.generations.retain(|generation| Arc::strong_count(generation) > 1);
        self.graphs.retain(|graph| Arc::strong_count(graph) > 1);
    }
}
