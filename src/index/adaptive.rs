//! Which items look like this, found by whichever way is fastest: a scan, a list or a graph?
//!
//! All vectors live in [`Slots`], where a change takes effect at once. The graph is only a faster way to some of them:
//! new slots wait until upkeep links them and are scanned until then, dead ones are skipped until upkeep clears them
//! out. So an insert never waits for the graph, and the graph never decides what is true.
//!
//! Slots and graph form a generation. Upkeep that moves vectors makes a new one aside, catches up with what changed
//! meanwhile and puts it in place of the old one at a stroke; searches that began on the old one end on it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use roaring::RoaringBitmap;

use super::exact::{check_dims, check_query, check_vectors};
use super::flat::{self, BestRows, Candidate};
use super::hnsw::HnswGraph;
use super::planner::{self, Route, Rules, SearchFacts, UpkeepFacts, UpkeepPlan};
use super::quantise::{Query, Row};
use super::simd::Kernels;
use super::slots::{Slots, View};
use super::{IndexError, IndexKind, IndexSettings, IndexStats, SearchOptions, Upkeep, VectorIndex};
use crate::domain::{Embedding, ItemNo, Scored};

/// The index behind [`open`](super::open), of any [`IndexKind`].
#[derive(Debug)]
pub struct AdaptiveIndex {
    settings: IndexSettings,
    pub(super) rules: Rules,
    kernels: &'static Kernels,
    current: RwLock<Arc<Generation>>,
    /// Held while a change is made. While a new generation is being built it notes which items have changed.
    changed: Mutex<Option<HashSet<ItemNo>>>,
    /// Held by the one thread that does upkeep: generations and graphs that are out of use but may still be searched.
    /// They are kept so that it is this thread, not a search, that spends the time to take them apart.
    retired: Mutex<Retired>,
}

#[derive(Debug)]
struct Generation {
    slots: Slots,
    graph: RwLock<Option<Arc<HnswGraph>>>,
}

#[derive(Debug, Default)]
struct Retired {
    generations: Vec<Arc<Generation>>,
    graphs: Vec<Arc<HnswGraph>>,
}

impl AdaptiveIndex {
    /// An empty index.
    pub fn new(settings: &IndexSettings) -> Result<Self, IndexError> {
        Self::with_rules(settings, Rules::default())
    }

    pub(super) fn with_rules(settings: &IndexSettings, rules: Rules) -> Result<Self, IndexError> {
        check_dims(settings.dims)?;
        let generation = Generation { slots: Slots::new(settings.dims), graph: RwLock::new(None) };
        Ok(Self {
            settings: settings.clone(),
            rules,
            kernels: Kernels::best(),
            current: RwLock::new(Arc::new(generation)),
            changed: Mutex::new(None),
            retired: Mutex::default(),
        })
    }

    fn generation(&self) -> Arc<Generation> {
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
            bytes: generation.slots.bytes() + graph.map_or(0, |g| g.bytes()),
        }
    }

    fn upsert(&self, item: ItemNo, vectors: &[Embedding]) -> Result<(), IndexError> {
        check_vectors(self.settings.dims, vectors)?;
        let rows: Vec<Row> = vectors.iter().map(Row::new).collect();
        let mut changed = self.changed.lock();
        self.generation().slots.put(item, &rows)?;
        if let Some(changed) = changed.as_mut() {
            changed.insert(item);
        }
        Ok(())
    }

    fn remove(&self, item: ItemNo) -> bool {
        let mut changed = self.changed.lock();
        let removed = self.generation().slots.remove(item);
        if removed && let Some(changed) = changed.as_mut() {
            changed.insert(item);
        }
        removed
    }

    fn get(&self, item: ItemNo) -> Vec<Embedding> {
        self.generation().slots.vectors(item)
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
    fn build_graph(&self, slots: &Slots, stop: &AtomicBool) -> Option<HnswGraph> {
        let view = slots.view();
        let graph = HnswGraph::new(&self.settings, self.kernels, slots.stride(), slots.live());
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
        let next = Generation { slots: Slots::new(self.settings.dims), graph: RwLock::new(None) };
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
    fn graph(&self) -> Option<Arc<HnswGraph>> {
        self.graph.read().clone()
    }
}

impl Retired {
    /// No one can begin to use what is retired, so what has no other owner now never will.
    fn drop_unused(&mut self) {
        self.generations.retain(|generation| Arc::strong_count(generation) > 1);
        self.graphs.retain(|graph| Arc::strong_count(graph) > 1);
    }
}

/// One call of [`VectorIndex::search_many`]: what it needs to know of the index, found out once.
struct Search<'a> {
    rules: &'a Rules,
    kernels: &'static Kernels,
    options: &'a SearchOptions<'a>,
    /// Before the generation, so that it is let go first and the generation's owner takes both apart.
    graph: Option<Arc<HnswGraph>>,
    generation: Arc<Generation>,
    facts: SearchFacts,
    /// The most items that can be returned.
    attainable: usize,
    rows_to_rank: usize,
}

impl<'a> Search<'a> {
    fn new(index: &'a AdaptiveIndex, options: &'a SearchOptions<'a>) -> Self {
        let generation = index.generation();
        let graph = generation.graph();
        let live = generation.slots.live();
        let (items, passing_items) = generation.slots.with_items(|items| {
            let passing = match (options.allowed, options.excluded) {
                (None, None) => items.len(),
                (Some(allowed), None) => items.intersection_len(allowed),
                (None, Some(excluded)) => items.difference_len(excluded),
                (Some(allowed), Some(excluded)) => (items & allowed).difference_len(excluded),
            };
            (items.len(), passing)
        });
        let vectors_per_item = live as f64 / items.max(1) as f64;
        let facts = SearchFacts {
            kind: index.settings.kind,
            rows: generation.slots.used(),
            live,
            passing: (passing_items as f64 * vectors_per_item).ceil() as usize,
            row_bytes: generation.slots.stride(),
            linked: graph.as_ref().map_or(0, |graph| graph.covered()),
            effort: options.effort.unwrap_or_else(|| planner::default_effort(options.limit, vectors_per_item)).max(1),
        };
        Self {
            rules: &index.rules,
            kernels: index.kernels,
            options,
            generation,
            graph,
            facts,
            attainable: usize::try_from(passing_items).unwrap_or(usize::MAX).min(options.limit),
            rows_to_rank: planner::rows_to_rank(options.limit, vectors_per_item),
        }
    }

    fn run(&self, queries: &[Query]) -> Vec<Vec<Scored>> {
        match planner::plan_search(self.rules, &self.facts) {
            Route::Scan | Route::List => self.look(queries),
            Route::Graph { effort } => self.by_graph(queries, effort),
        }
    }

    /// Looks at every row, or at every row that passes, and ranks the best.
    fn look(&self, queries: &[Query]) -> Vec<Vec<Scored>> {
        let facts = SearchFacts { kind: IndexKind::Flat, ..self.facts };
        let (view, listed) = if planner::plan_search(self.rules, &facts) == Route::List {
            let (view, slots) = self.generation.slots.view_of(|items| self.passing(items));
            (view, Some(slots))
        } else {
            (self.generation.slots.view(), None)
        };
        let look = |queries: &[Query], keep: usize| {
            let mut best: Vec<BestRows> = queries.iter().map(|_| BestRows::new(keep)).collect();
            match &listed {
                Some(slots) => flat::scan_listed(self.kernels, &view, slots, queries, self.options, &mut best),
                None => flat::scan(self.kernels, &view, 0..view.used(), queries, self.options, &mut best),
            }
            best
        };
        let mut answers = Vec::with_capacity(queries.len());
        for (query, best) in queries.iter().zip(look(queries, self.rows_to_rank)) {
            let (mut rows, mut overflowed) = best.into_rows();
            let mut keep = self.rows_to_rank;
            loop {
                let found = flat::rank(self.kernels, &view, query, rows, self.options.limit);
                // A few items with many similar images can crowd out the others; then more rows are kept.
                if found.len() >= self.options.limit || !overflowed {
                    answers.push(self.at_least_min_score(found));
                    break;
                }
                keep = keep.saturating_mul(4);
                let best = look(std::slice::from_ref(query), keep).pop();
                (rows, overflowed) = best.map(BestRows::into_rows).unwrap_or_default();
            }
        }
        answers
    }

    /// Searches the graph, and scans what is not linked yet.
    fn by_graph(&self, queries: &[Query], first_effort: usize) -> Vec<Vec<Scored>> {
        let Some(graph) = &self.graph else { return self.look(queries) };
        // Before the view: what is linked later is then looked at twice rather than not at all.
        let covered = graph.covered();
        let view = self.generation.slots.view();
        let mut waiting: Vec<BestRows> = queries.iter().map(|_| BestRows::new(self.rows_to_rank)).collect();
        flat::scan(self.kernels, &view, covered..view.used(), queries, self.options, &mut waiting);
        let mut answers = Vec::with_capacity(queries.len());
        for (query, waiting) in queries.iter().zip(waiting) {
            let (waiting, _) = waiting.into_rows();
            let mut effort = first_effort;
            let found = loop {
                let rows = self.graph_rows(graph, &view, query, effort);
                let found =
                    flat::rank(self.kernels, &view, query, [rows, waiting.clone()].concat(), self.options.limit);
                if found.len() >= self.attainable {
                    break found;
                }
                // What passes lies far from the query, or a few items have most of the vectors: once more, wider, and
                // then the sure way, with all queries, since they are to be answered of the same state.
                if effort > first_effort {
                    return self.look(queries);
                }
                effort = effort.saturating_mul(4);
            };
            answers.push(self.at_least_min_score(found));
        }
        answers
    }

    fn graph_rows(&self, graph: &HnswGraph, view: &View, query: &Query, effort: usize) -> Vec<Candidate> {
        let owner = |slot: u32| view.item(slot).filter(|item| self.options.admits(*item));
        let slots = graph.search(query, effort).into_iter();
        // The nearest come first, twins last. Thousands of equal vectors are cut short: any will do as well as another.
        let enough = effort.saturating_add(self.rows_to_rank.saturating_mul(8));
        slots.filter_map(|slot| owner(slot).map(|item| Candidate { slot, item, score: 0.0 })).take(enough).collect()
    }

    fn at_least_min_score(&self, mut found: Vec<Scored>) -> Vec<Scored> {
        if let Some(min) = self.options.min_score {
            found.retain(|item| item.score >= min);
        }
        found
    }

    fn passing(&self, items: &RoaringBitmap) -> RoaringBitmap {
        let mut passing = match self.options.allowed {
            Some(allowed) => items & allowed,
            None => items.clone(),
        };
        if let Some(excluded) = self.options.excluded {
            passing -= excluded;
        }
        passing
    }
}
