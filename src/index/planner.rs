//! Scan or graph? Link, rebuild or leave it? The rules that decide it, without the data.
//!
//! The constants are costs measured on one core of a server processor with AVX-512 (see `benches/index.rs`); what counts
//! is their ratio, which differs less from machine to machine than they do.

use std::fmt;
use std::str::FromStr;

/// How neighbours are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IndexKind {
    /// Every search scans all vectors: exact in effect, no graph to build.
    Flat,
    /// There is a graph from the first vectors on; only heavily filtered searches scan.
    Hnsw,
    /// A scan while there are few vectors, a graph once it is faster.
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
    /// Search the graph this widely, then drop what does not pass.
    Graph {
        /// `ef`: wide enough that enough is left.
        effort: usize,
    },
    /// Search the graph this widely, counting only what passes.
    FilteredGraph {
        /// `ef`.
        effort: usize,
    },
}

/// Comparing a row that follows the one before in memory: so many nanoseconds, and more for every byte.
const SCAN_ROW_NS: f64 = 3.0;
const SCAN_BYTE_NS: f64 = 0.035;

/// Comparing a row from a list: finding its slot and fetching it from anywhere in memory.
const LIST_ROW_NS: f64 = 25.0;
const LIST_BYTE_NS: f64 = 0.08;

/// Searching the graph, for every unit of effort: following the links of one node.
const GRAPH_STEP_NS: f64 = 8_000.0;

/// What a step costs more when nodes that do not pass are walked through to find those that do.
const FILTERED_STEP_FACTOR: f64 = 2.5;

/// Below this share of passing rows, dropping what does not pass would leave too few.
const LEAST_SHARE_TO_DROP: f64 = 0.4;

/// Decides how to search.
pub(super) fn plan_search(facts: &SearchFacts) -> Route {
    let scan_ns = facts.rows as f64 * (SCAN_ROW_NS + facts.row_bytes as f64 * SCAN_BYTE_NS);
    let list_ns = facts.passing as f64 * (LIST_ROW_NS + facts.row_bytes as f64 * LIST_BYTE_NS);
    let (by_looking, looking_ns) =
        if facts.passing < facts.live && list_ns < scan_ns { (Route::List, list_ns) } else { (Route::Scan, scan_ns) };
    if facts.kind == IndexKind::Flat || facts.linked == 0 {
        return by_looking;
    }
    let share = facts.passing as f64 / facts.rows.max(1) as f64;
    let (by_graph, graph_ns) = if share >= LEAST_SHARE_TO_DROP {
        let effort = (facts.effort as f64 / share).ceil() as usize;
        (Route::Graph { effort }, effort as f64 * GRAPH_STEP_NS)
    } else {
        let steps = facts.effort as f64 / share.max(1e-9);
        (Route::FilteredGraph { effort: facts.effort }, steps * GRAPH_STEP_NS * FILTERED_STEP_FACTOR)
    };
    // Whoever asked for a graph gets it, unless a filter leaves so little that the graph would be walked in vain.
    let asked_for = facts.kind == IndexKind::Hnsw && matches!(by_graph, Route::Graph { .. });
    if asked_for || graph_ns < looking_ns { by_graph } else { by_looking }
}

/// How widely to search the graph for this many items, of which each has about so many vectors.
pub(super) fn default_effort(limit: usize, vectors_per_item: f64) -> usize {
    ((limit as f64 * 2.0 * vectors_per_item.max(1.0)) as usize).clamp(64, 4_096)
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

/// Fewer dead rows than this are not worth a new generation, however few are alive.
const LEAST_DEAD: usize = 1_024;

/// The share of dead rows from which on a new generation is made.
const DEAD_SHARE: f64 = 0.2;

/// Rows to wait for before they are linked. Linking shuffles, and the more there are the better that works; until then
/// they are scanned, which for so few takes a tenth of a millisecond.
const ABSORB_FROM: usize = 2_048;

/// The most rows linked at one go, so that upkeep comes round to what is more urgent.
const ABSORB_AT_MOST: usize = 8_192;

/// The rows from which on a graph would be built even if it was only asked to be had.
const GRAPH_FROM_ROWS: usize = 1_024;

/// The default effort; where a graph starts to win depends on it.
const USUAL_EFFORT: usize = 64;

/// Decides what to do next.
pub(super) fn plan_upkeep(facts: &UpkeepFacts) -> UpkeepPlan {
    let rows = facts.live + facts.dead;
    let graph = match facts.kind {
        IndexKind::Flat => false,
        IndexKind::Hnsw => facts.live >= GRAPH_FROM_ROWS,
        IndexKind::Auto => {
            // A graph that is there stays until it would clearly lose, so that a number near the border does not make
            // it come and go.
            let bonus = if facts.covered.is_some() { 2.0 } else { 1.0 };
            let scan_ns = facts.live as f64 * (SCAN_ROW_NS + facts.row_bytes as f64 * SCAN_BYTE_NS);
            scan_ns * bonus > USUAL_EFFORT as f64 * GRAPH_STEP_NS
        }
    };
    if facts.dead >= LEAST_DEAD && facts.dead as f64 > rows as f64 * DEAD_SHARE {
        return UpkeepPlan::Compact { graph };
    }
    match facts.covered {
        None if graph => UpkeepPlan::Build,
        None => UpkeepPlan::Nothing,
        Some(covered) => {
            let waiting = rows.saturating_sub(covered);
            if waiting < ABSORB_FROM {
                UpkeepPlan::Nothing
            } else if waiting > covered {
                // More are new than old: all anew, in one shuffled order, costs at most twice as much and makes a better
                // graph than one that grew as the vectors happened to come.
                UpkeepPlan::Build
            } else {
                UpkeepPlan::Absorb(ABSORB_AT_MOST)
            }
        }
    }
}

/// A word that is not the name of an [`IndexKind`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a kind of index: use flat, hnsw or auto")]
pub struct UnknownIndexKind(pub String);

impl FromStr for IndexKind {
    type Err = UnknownIndexKind;

    fn from_str(name: &str) -> Result<Self, UnknownIndexKind> {
        match name {
            "flat" => Ok(Self::Flat),
            "hnsw" => Ok(Self::Hnsw),
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
            Self::Auto => "auto",
        })
    }
}
