//! Scan or graph? Link, rebuild or leave it? The rules that decide it, without the data.
//!
//! The constants are costs measured on one core of a server processor with AVX-512 (see `benches/index.rs` and `examples/compare_indexes.rs`); what counts
//! is their ratio, which differs less from machine to machine than they do.

use std::fmt;
use std::str::FromStr;

/// How neighbours are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IndexKind {
    /// Every search scans all vectors: exact in effect, no graph to build.
    Flat,
    /// A graph of the package `hnsw_rs`, from the first vectors on; only heavily filtered searches scan.
    Hnsw,
    /// The graph of our own, from the first vectors on; only heavily filtered searches scan.
    Graph,
    /// A scan while there are few vectors, our own graph once it is faster.
    #[default]
    Auto,
}

/// What a search has to do with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct SearchFacts {
    /// Scan, graph, or whichever is faster.
    pub(super) kind: IndexKind,
    /// Rows, living and dead.
    pub(super) rows: usize,
    /// Rows that are alive.
    pub(super) live: usize,
    /// Rows that may be answered.
    pub(super) passing: usize,
    /// Bytes of a row of codes.
    pub(super) row_bytes: usize,
    /// Rows that a graph leads to; 0 if there is none.
    pub(super) linked: usize,
    /// How widely the graph would be searched.
    pub(super) effort: usize,
}

/// How a search is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// Look at every row; ask the filter about those that score well.
    Scan,
    /// List the rows that pass the filter and look at those.
    List,
    /// Search the graph this widely.
    Graph {
        /// `ef`. Where what does not pass is dropped afterwards, wide enough that enough is left.
        effort: usize,
        /// The nodes whose links are followed before it would have been cheaper to look at all that passes.
        steps: usize,
    },
}

/// The constants behind the decisions: costs in nanoseconds, and what is worth doing from when on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rules {
    /// Comparing a row that follows the one before in memory.
    pub(super) scan_row_ns: f64,
    /// The same, more for every byte of the row.
    pub(super) scan_byte_ns: f64,
    /// Comparing a row from a list: finding its slot and fetching it from anywhere in memory.
    pub(super) list_row_ns: f64,
    /// The same, more for every byte of the row.
    pub(super) list_byte_ns: f64,
    /// Searching the graph of `hnsw_rs`, for every unit of effort: following the links of one node.
    pub(super) hnsw_step_ns: f64,
    /// Searching our own graph, the same.
    pub(super) graph_step_ns: f64,
    /// The share of passing rows from which on an index that is to use its graph does so even where a scan is faster.
    pub(super) graph_from_share: f64,
    /// The share of dead rows from which on a new generation is made.
    pub(super) dead_share: f64,
    /// Fewer dead rows than this are not worth a new generation, however few are alive.
    pub(super) least_dead: usize,
    /// The rows from which on an index that is to have a graph gets one.
    pub(super) graph_from_rows: usize,
    /// Rows to wait for before they are linked; until then they are scanned, which for so few takes some microseconds.
    pub(super) absorb_from: usize,
    /// The same for the graph of `hnsw_rs`, to which rows may not come cluster by cluster: linking shuffles, and the more
    /// there are the better that works.
    pub(super) hnsw_absorb_from: usize,
    /// The most rows linked at one go, so that upkeep comes round to what is more urgent.
    pub(super) absorb_at_most: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            scan_row_ns: 3.0,
            scan_byte_ns: 0.045,
            list_row_ns: 15.0,
            list_byte_ns: 0.07,
            hnsw_step_ns: 6_800.0,
            graph_step_ns: 1_200.0,
            graph_from_share: 0.2,
            dead_share: 0.2,
            least_dead: 1_024,
            graph_from_rows: 1_024,
            absorb_from: 512,
            hnsw_absorb_from: 2_048,
            absorb_at_most: 8_192,
        }
    }
}

impl Rules {
    fn step_ns(&self, kind: IndexKind) -> f64 {
        if kind == IndexKind::Hnsw { self.hnsw_step_ns } else { self.graph_step_ns }
    }
}

/// The effort of a usual search; where a graph starts to win depends on it. With our own graph a search of a million vectors
/// then finds 99 % of the nearest ten, and with that of `hnsw_rs`, which is slower, of a hundred thousand.
fn usual_effort(kind: IndexKind) -> usize {
    if kind == IndexKind::Hnsw { 64 } else { 128 }
}

/// Decides how to search.
pub(super) fn plan_search(rules: &Rules, facts: &SearchFacts) -> Route {
    let scan_ns = facts.rows as f64 * (rules.scan_row_ns + facts.row_bytes as f64 * rules.scan_byte_ns);
    let list_ns = facts.passing as f64 * (rules.list_row_ns + facts.row_bytes as f64 * rules.list_byte_ns);
    let (by_looking, looking_ns) =
        if facts.passing < facts.live && list_ns < scan_ns { (Route::List, list_ns) } else { (Route::Scan, scan_ns) };
    if facts.kind == IndexKind::Flat || facts.linked == 0 {
        return by_looking;
    }
    let share = facts.passing as f64 / facts.rows.max(1) as f64;
    // Only every so many of the nodes on the way will pass, so that many more have to be met.
    let met = (facts.effort as f64 / share.max(1e-9)).ceil();
    let asked_for = matches!(facts.kind, IndexKind::Hnsw | IndexKind::Graph) && share >= rules.graph_from_share;
    let step_ns = rules.step_ns(facts.kind);
    if asked_for || met * step_ns < looking_ns {
        // `hnsw_rs` is asked for all it meets; our own graph collects only what passes.
        let effort = if facts.kind == IndexKind::Hnsw { met as usize } else { facts.effort };
        // Where what passes lies far from the query, more is met than that; up to what looking costs it may yet pay.
        let steps = (4.0 * met).max(looking_ns / step_ns) as usize;
        Route::Graph { effort, steps }
    } else {
        by_looking
    }
}

/// How widely to search the graph for this many items, of which each has about so many vectors.
pub(super) fn default_effort(kind: IndexKind, limit: usize, vectors_per_item: f64) -> usize {
    ((limit as f64 * 2.0 * vectors_per_item.max(1.0)) as usize).clamp(usual_effort(kind), 4_096)
}

/// The same for proposals, of which something else chooses.
pub(super) fn quick_effort(limit: usize, vectors_per_item: f64) -> usize {
    ((limit as f64 * 1.25 * vectors_per_item.max(1.0)) as usize).clamp(48, 4_096)
}

/// How many rows of the coarse scan to rank again for this many items.
pub(super) fn rows_to_rank(limit: usize, vectors_per_item: f64) -> usize {
    ((limit as f64 * 4.0 * vectors_per_item.max(1.0)) as usize).max(256)
}

/// What upkeep has to do with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct UpkeepFacts {
    /// Scan, graph, or whichever is faster.
    pub(super) kind: IndexKind,
    /// Rows that are alive.
    pub(super) live: usize,
    /// Rows that are dead.
    pub(super) dead: usize,
    /// Bytes of a row of codes.
    pub(super) row_bytes: usize,
    /// The rows before this one were offered to the graph; `None` if there is no graph.
    pub(super) covered: Option<usize>,
}

/// What is most urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UpkeepPlan {
    /// All is well.
    Nothing,
    /// Link the next rows, at most this many.
    Absorb(usize),
    /// Build a graph of all living rows over the slots as they are.
    Build,
    /// Move the living rows to new slots, and build a graph over them if `graph`.
    Compact {
        /// Whether there is to be a graph.
        graph: bool,
    },
}

/// Decides what to do next.
pub(super) fn plan_upkeep(rules: &Rules, facts: &UpkeepFacts) -> UpkeepPlan {
    let rows = facts.live + facts.dead;
    let graph = match facts.kind {
        IndexKind::Flat => false,
        IndexKind::Hnsw | IndexKind::Graph => facts.live >= rules.graph_from_rows,
        IndexKind::Auto => {
            // A graph that is there stays until it would clearly lose, so that a number near the border does not make
            // it come and go.
            let bonus = if facts.covered.is_some() { 2.0 } else { 1.0 };
            let scan_ns = facts.live as f64 * (rules.scan_row_ns + facts.row_bytes as f64 * rules.scan_byte_ns);
            scan_ns * bonus > usual_effort(facts.kind) as f64 * rules.graph_step_ns
        }
    };
    if facts.dead >= rules.least_dead && facts.dead as f64 > rows as f64 * rules.dead_share {
        return UpkeepPlan::Compact { graph };
    }
    match facts.covered {
        None if graph => UpkeepPlan::Build,
        None => UpkeepPlan::Nothing,
        Some(covered) => {
            let waiting = rows.saturating_sub(covered);
            let absorb_from = if facts.kind == IndexKind::Hnsw { rules.hnsw_absorb_from } else { rules.absorb_from };
            if waiting < absorb_from {
                UpkeepPlan::Nothing
            } else if waiting > covered {
                // More are new than old: all anew, in one shuffled order, costs at most twice as much and makes a better
                // graph than one that grew as the vectors happened to come.
                UpkeepPlan::Build
            } else {
                UpkeepPlan::Absorb(rules.absorb_at_most)
            }
        }
    }
}

/// A word that is not the name of an [`IndexKind`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a kind of index: use flat, hnsw, graph or auto")]
pub struct UnknownIndexKind(pub String);

impl FromStr for IndexKind {
    type Err = UnknownIndexKind;

    fn from_str(name: &str) -> Result<Self, UnknownIndexKind> {
        match name {
            "flat" => Ok(Self::Flat),
            "hnsw" => Ok(Self::Hnsw),
            "graph" => Ok(Self::Graph),
            "auto" => Ok(Self::Auto),
            other => Err(UnknownIndexKind(other.into())),
        }
    }
}

impl fmt::Display for IndexKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flat => "flat",
            Self::Hnsw => "hnsw",
            Self::Graph => "graph",
            Self::Auto => "auto",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: usize = 1_000_000;

    fn facts() -> SearchFacts {
        SearchFacts {
            kind: IndexKind::Auto,
            rows: ROWS,
            live: ROWS,
            passing: ROWS,
            row_bytes: 320,
            linked: ROWS,
            effort: 64,
        }
    }

    fn plan(facts: SearchFacts) -> Route {
        plan_search(&Rules::default(), &facts)
    }

    fn effort(facts: SearchFacts) -> Option<usize> {
        match plan(facts) {
            Route::Graph { effort, .. } => Some(effort),
            Route::Scan | Route::List => None,
        }
    }

    #[test]
    fn few_rows_are_scanned_and_many_searched_by_graph() {
        assert_eq!(effort(facts()), Some(64));
        let few = SearchFacts { rows: 5_000, live: 5_000, passing: 5_000, linked: 5_000, ..facts() };
        assert_eq!(
            plan(SearchFacts { rows: 3_000, live: 3_000, passing: 3_000, linked: 3_000, ..facts() }),
            Route::Scan
        );
        assert_eq!(effort(SearchFacts { kind: IndexKind::Hnsw, ..few }), Some(64));
        assert_eq!(effort(SearchFacts { kind: IndexKind::Graph, ..few }), Some(64));
        assert_eq!(plan(SearchFacts { kind: IndexKind::Flat, ..facts() }), Route::Scan);
        assert_eq!(plan(SearchFacts { linked: 0, kind: IndexKind::Hnsw, ..facts() }), Route::Scan);
    }

    #[test]
    fn the_stricter_the_filter_the_less_the_graph_is_worth() {
        let passing = |kind, one_in: usize| plan(SearchFacts { kind, passing: ROWS / one_in, ..facts() });
        let found = |kind, one_in| effort(SearchFacts { kind, passing: ROWS / one_in, ..facts() });
        // Our own graph collects only what passes; of what `hnsw_rs` finds, enough has to be left.
        assert_eq!((found(IndexKind::Auto, 2), found(IndexKind::Hnsw, 2)), (Some(64), Some(128)));
        assert_eq!((found(IndexKind::Auto, 10), found(IndexKind::Hnsw, 4)), (Some(64), Some(256)));
        for kind in [IndexKind::Auto, IndexKind::Graph, IndexKind::Hnsw] {
            assert_eq!(passing(kind, 100), Route::List);
            assert_eq!(passing(kind, 1_000), Route::List);
        }
        assert_eq!(plan(SearchFacts { passing: 0, kind: IndexKind::Hnsw, ..facts() }), Route::List);
    }

    #[test]
    fn dead_rows_widen_the_search() {
        let mostly_alive = SearchFacts { live: 800_000, passing: 800_000, ..facts() };
        assert_eq!(effort(SearchFacts { kind: IndexKind::Hnsw, ..mostly_alive }), Some(80));
        let steps = |facts| match plan(facts) {
            Route::Graph { steps, .. } => steps,
            Route::Scan | Route::List => 0,
        };
        let few =
            |dead: usize| SearchFacts { rows: 10_000 + dead, live: 10_000, passing: 10_000, linked: 1, ..facts() };
        assert!(steps(few(2_000)) > steps(few(0)), "there is more to walk through");
    }

    #[test]
    fn no_facts_upset_the_plan() {
        let none = SearchFacts { rows: 0, live: 0, passing: 0, linked: 0, effort: 0, ..facts() };
        assert_eq!(plan(none), Route::Scan);
        assert_eq!(plan(SearchFacts { linked: 7, ..none }), Route::Scan);
        assert_eq!(
            (default_effort(IndexKind::Hnsw, 0, 0.0), default_effort(IndexKind::Auto, usize::MAX, 16.0)),
            (64, 4_096)
        );
        assert_eq!((rows_to_rank(0, f64::NAN), rows_to_rank(100, 2.0)), (256, 800));
    }

    fn upkeep(kind: IndexKind, live: usize, dead: usize, covered: Option<usize>) -> UpkeepPlan {
        plan_upkeep(&Rules::default(), &UpkeepFacts { kind, live, dead, row_bytes: 320, covered })
    }

    #[test]
    fn a_graph_is_built_when_it_pays() {
        assert_eq!(upkeep(IndexKind::Auto, 3_000, 0, None), UpkeepPlan::Nothing);
        assert_eq!(upkeep(IndexKind::Auto, 200_000, 0, None), UpkeepPlan::Build);
        assert_eq!(upkeep(IndexKind::Hnsw, 10_000, 0, None), UpkeepPlan::Build);
        assert_eq!(upkeep(IndexKind::Graph, 10_000, 0, None), UpkeepPlan::Build);
        assert_eq!(upkeep(IndexKind::Flat, 10_000_000, 0, None), UpkeepPlan::Nothing);
        assert_eq!(upkeep(IndexKind::Hnsw, 100, 0, None), UpkeepPlan::Nothing);
    }

    #[test]
    fn new_rows_are_absorbed_and_many_new_rows_make_a_new_graph() {
        assert_eq!(upkeep(IndexKind::Auto, 200_000, 0, Some(200_000)), UpkeepPlan::Nothing);
        assert_eq!(upkeep(IndexKind::Auto, 200_000, 0, Some(199_999)), UpkeepPlan::Nothing);
        assert_eq!(upkeep(IndexKind::Auto, 200_000, 0, Some(190_000)), UpkeepPlan::Absorb(8_192));
        assert_eq!(upkeep(IndexKind::Auto, 200_000, 0, Some(90_000)), UpkeepPlan::Build);
    }

    #[test]
    fn more_than_a_fifth_dead_is_too_much() {
        assert_eq!(upkeep(IndexKind::Hnsw, 8_000, 2_000, Some(10_000)), UpkeepPlan::Nothing);
        assert_eq!(upkeep(IndexKind::Hnsw, 8_000, 2_001, Some(10_000)), UpkeepPlan::Compact { graph: true });
        assert_eq!(upkeep(IndexKind::Flat, 8_000, 2_001, None), UpkeepPlan::Compact { graph: false });
        assert_eq!(upkeep(IndexKind::Flat, 0, 1_024, None), UpkeepPlan::Compact { graph: false });
        assert_eq!(upkeep(IndexKind::Flat, 10, 90, None), UpkeepPlan::Nothing, "too few to be worth it");
    }

    #[test]
    fn names_are_read_and_written() {
        for kind in [IndexKind::Flat, IndexKind::Hnsw, IndexKind::Graph, IndexKind::Auto] {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("tree".parse::<IndexKind>().is_err());
    }
}
