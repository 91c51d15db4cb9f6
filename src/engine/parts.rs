//! What is the engine made of? The parts that its use cases share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{RwLock, Semaphore};

use super::applier::{Applier, Change};
use super::course::Stuck;
use super::keep::{Kept, Retention};
use super::learn::{Learning, LearningOptions};
use super::live::Live;
use super::models::Models;
use super::see::Eyes;
use crate::collab::CollabLimits;
use crate::domain::Clock;
use crate::index::IndexSettings;
use crate::inference::Ensemble;
use crate::ranking::HazardModel;
use crate::session::SessionLimits;
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::vision::DecodeLimits;

/// What the operator decides about the engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// How the indexes of vectors are made; dimensions, and precision where they name one, are those of the models.
    pub index: IndexSettings,
    /// The version of ONNX Runtime, to be told with the models.
    pub runtime_version: String,
    /// The most item ids that are given a number.
    pub max_items: usize,
    /// Limits of uploaded pictures.
    pub decode_limits: DecodeLimits,
    /// Pictures decoded at once.
    pub decode_threads: usize,
    /// So many more decode while no picture waits for the model.
    pub spare_decode_threads: usize,
    /// Pictures that may wait to be decoded; one more is refused.
    pub decode_queue: usize,
    /// Frames that differ by less than this from the last embedded one are not embedded again; in [0, 1], 0 for never.
    pub near_duplicate_difference: f32,
    /// How long a picture may wait for the model when its request has no deadline.
    pub queue_timeout: Duration,
    /// The longer side of the thumbnails kept of items, in pixels; 0 for none.
    pub thumbnail_side: u32,
    /// Bytes for what is remembered of items' pictures, so that the same file is not looked at again; 0 for none.
    pub known_pictures_bytes: usize,
    /// Bounds of the table of live sessions.
    pub session_limits: SessionLimits,
    /// Bounds of the collaborative models.
    pub collab_limits: CollabLimits,
    /// The weights of the ranking, from which learning begins.
    pub hazard_model: HazardModel,
    /// How the ranking learns while it serves.
    pub learning: LearningOptions,
    /// The length of a list when the request names none.
    pub default_count: usize,
    /// The longest list.
    pub max_count: usize,
    /// The weight of diversity when the request names none: 0 for none, 1 for nothing else.
    pub default_diversity: f32,
    /// Whether items that the session has seen are left out when the request does not say.
    pub exclude_seen: bool,
    /// The time for an answer when the request names none.
    pub default_deadline: Duration,
    /// How many candidates each source proposes.
    pub candidates: CandidateLimits,
    /// The most frames in one request.
    pub max_frames: usize,
    /// The longest answer to a search.
    pub max_search_results: usize,
    /// Seconds between checkpoints, from which a start goes on; 0 for none but at the end.
    pub checkpoint_every_s: f64,
    /// How long the log keeps what it has.
    pub retention: Retention,
}

impl EngineOptions {
    /// How the index of what these models see is made.
    pub fn index_for(&self, models: &Ensemble) -> IndexSettings {
        let precision = models.precision().unwrap_or(self.index.precision);
        IndexSettings { dims: models.dims(), precision, ..self.index.clone() }
    }
}

/// How many candidates each source proposes; 0 turns it off.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "each field is a source of its name")]
pub struct CandidateLimits {
    pub visual: usize,
    pub trajectory: usize,
    pub session: usize,
    pub co_visitation: usize,
    pub transition: usize,
    pub preference: usize,
    pub trending: usize,
    pub metadata: usize,
    pub fresh: usize,
    /// Of all sources together; what comes beyond is left out.
    pub in_all: usize,
}

impl CandidateLimits {
    /// The same with a source turned off; names of no source change nothing.
    #[must_use]
    pub fn without(mut self, source: &str) -> Self {
        let off = match source {
            "visual" => &mut self.visual,
            "trajectory" => &mut self.trajectory,
            "session" => &mut self.session,
            "co_visitation" => &mut self.co_visitation,
            "transition" => &mut self.transition,
            "preference" => &mut self.preference,
            "trending" => &mut self.trending,
            "metadata" => &mut self.metadata,
            "fresh" => &mut self.fresh,
            _ => return self,
        };
        *off = 0;
        self
    }
}

/// The parts, shared by all use cases and by the tasks that outlive a request.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) options: EngineOptions,
    pub(super) metrics: Metrics,
    pub(super) eyes: Eyes,
    pub(super) store: Store,
    pub(super) live: Live,
    pub(super) models: Models,
    pub(super) learning: Learning,
    pub(super) applier: Applier,
    /// Shared by those who append events, exclusive to who erases somebody.
    pub(super) appending: Arc<RwLock<()>>,
    pub(super) kept: Kept,
    /// Candidate sources that hang.
    pub(super) stuck: Arc<Stuck>,
    /// Turns to rank: one for each processor.
    pub(super) rankers: Semaphore,
    /// Turns to search, as many: without, a hundred searches would be a hundred threads beside the model's.
    pub(super) searchers: Semaphore,
}

impl Parts {
    /// Hands over what has become durable; it is applied when its turn in the log has come.
    pub(super) fn apply(&self, changes: impl IntoIterator<Item = (u64, Change)>) {
        self.applier.submit(changes, |change| match change {
            Change::Event(event) => {
                self.live.apply_event(&event);
                self.hear(&event);
            }
            change @ (Change::ItemPut(_) | Change::ItemDeleted(_)) => self.live.apply(change),
        });
    }
}
