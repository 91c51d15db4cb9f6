//! What is nearest to the query, of what may be answered? One call of a search, from its plan to its answer.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::adaptive::{AdaptiveIndex, AnyGraph, Generation};
use super::flat::{self, BestRows, Candidate};
use super::graph::{Graph, Reach};
use super::hnsw::HnswGraph;
use super::planner::{self, Route, Rules, SearchFacts};
use super::quantise::Query;
use super::simd::Kernels;
use super::slots::View;
use super::{IndexKind, SearchOptions};
use crate::domain::Scored;

/// One call of [`VectorIndex::search_many`]: what it needs to know of the index, found out once.
pub(super) struct Search<'a> {
    rules: &'a Rules,
    kernels: &'static Kernels,
    options: &'a SearchOptions<'a>,
    /// Before the generation, so that it is let go first and the generation's owner takes both apart.
    graph: Option<Arc<AnyGraph>>,
    generation: Arc<Generation>,
    facts: SearchFacts,
    /// The most items that can be returned.
    attainable: usize,
    rows_to_rank: usize,
}

impl<'a> Search<'a> {
    pub(super) fn new(index: &'a AdaptiveIndex, options: &'a SearchOptions<'a>) -> Self {
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
            effort: match options.effort {
                Some(effort) => effort.max(1),
                None if options.quick => planner::quick_effort(options.limit, vectors_per_item),
                None => planner::default_effort(index.settings.kind, options.limit, vectors_per_item),
            },
        };
        Self {
            rules: &index.rules,
            kernels: index.kernels,
            options,
            generation,
            graph,
            facts,
            attainable: usize::try_from(passing_items).unwrap_or(usize::MAX).min(options.limit),
            rows_to_rank: if options.quick {
                planner::quick_effort(options.limit, vectors_per_item)
            } else {
                planner::rows_to_rank(options.limit, vectors_per_item)
            },
        }
    }

    pub(super) fn run(&self, queries: &[Query]) -> Vec<Vec<Scored>> {
        match planner::plan_search(self.rules, &self.facts) {
            Route::Scan | Route::List => self.look(queries),
            Route::Graph { effort, steps } => self.by_graph(queries, effort, steps),
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
                let found = flat::rank(self.kernels, &view, query, rows, self.options);
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
    fn by_graph(&self, queries: &[Query], effort: usize, steps: usize) -> Vec<Vec<Scored>> {
        let Some(graph) = &self.graph else { return self.look(queries) };
        // Before the view: what is linked later is then looked at twice rather than not at all.
        let covered = graph.covered();
        let view = self.generation.slots.view();
        let mut waiting: Vec<BestRows> = queries.iter().map(|_| BestRows::new(self.rows_to_rank)).collect();
        flat::scan(self.kernels, &view, covered..view.used(), queries, self.options, &mut waiting);
        let mut answers = Vec::with_capacity(queries.len());
        for (query, waiting) in queries.iter().zip(waiting) {
            let (waiting, _) = waiting.into_rows();
            let found = match &**graph {
                AnyGraph::Hnsw(graph) => self.by_hnsw(graph, &view, query, &waiting, effort),
                AnyGraph::Own(graph) => self.by_own_graph(graph, &view, query, &waiting, effort, steps),
            };
            // All queries, since they are to be answered of the same state.
            let Some(found) = found else { return self.look(queries) };
            answers.push(self.at_least_min_score(found));
        }
        answers
    }

    /// The nearest items of the graph and of `waiting`; `None` if only looking can tell.
    fn by_own_graph(
        &self,
        graph: &Graph,
        view: &View,
        query: &Query,
        waiting: &[Candidate],
        first_effort: usize,
        steps: usize,
    ) -> Option<Vec<Scored>> {
        let mut effort = first_effort;
        loop {
            // Thousands of equal vectors are cut short: any will do as well as another.
            let rows = effort.saturating_add(self.rows_to_rank.saturating_mul(8));
            let steps = steps.saturating_mul(effort.div_ceil(first_effort));
            let owner = |slot: u32| view.item(slot).filter(|item| self.options.admits(*item));
            let found = graph.search(view, query, Reach { effort, steps, rows }, owner);
            if !found.complete {
                return None;
            }
            let mut rows = found.rows;
            rows.extend_from_slice(waiting);
            rows.sort_unstable_by_key(|row| row.slot);
            rows.dedup_by_key(|row| row.slot);
            let error = if self.options.quick { 0.0 } else { flat::refine(self.kernels, view, query, &mut rows) };
            let items = flat::items(rows, self.options.limit);
            if items.len() < self.attainable {
                // A few items have most of the vectors, or the graph does not lead to some.
                found.floor.filter(|_| effort <= first_effort)?;
                effort = effort.saturating_mul(4);
                continue;
            }
            // Among near-duplicates the coarse scores cannot tell which come first: then as many are ranked as after a scan.
            let last = items.get(self.options.limit - 1).map(|item| item.score);
            let close = found.floor.zip(last).is_some_and(|(floor, last)| floor + 2.0 * error > last);
            if close && !self.options.quick && effort < self.rows_to_rank {
                effort = self.rows_to_rank;
            } else {
                return Some(items);
            }
        }
    }

    /// The same by a graph that knows nothing of items.
    fn by_hnsw(
        &self,
        graph: &HnswGraph,
        view: &View,
        query: &Query,
        waiting: &[Candidate],
        first_effort: usize,
    ) -> Option<Vec<Scored>> {
        // It gives no scores, not even coarse ones.
        let options = SearchOptions { quick: false, ..*self.options };
        let mut effort = first_effort;
        loop {
            let mut rows = self.hnsw_rows(graph, view, query, effort);
            rows.extend_from_slice(waiting);
            let found = flat::rank(self.kernels, view, query, rows, &options);
            if found.len() >= self.attainable {
                return Some(found);
            }
            // What passes lies far from the query, or a few items have most of the vectors: once more, wider, and then
            // the sure way.
            if effort > first_effort {
                return None;
            }
            effort = effort.saturating_mul(4);
        }
    }

    fn hnsw_rows(&self, graph: &HnswGraph, view: &View, query: &Query, effort: usize) -> Vec<Candidate> {
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
