//! The use cases; the only module that joins the parts.
//!
//! - [`Engine::recommend`]: frames and history in, a ranked list for each horizon out;
//! - [`Engine::observe_events`], [`Engine::observe_frame`]: what happens is learned at once;
//! - [`Engine::put_item`], [`Engine::delete_item`], [`Engine::search`]: the catalogue and its images.
//! - [`Engine::activate_models`], [`Engine::roll_models_back`]: other models take over, once they have seen the catalogue;
//! - [`Engine::erase_user`], [`Engine::events_of`]: a person is forgotten, or told what is known of them.
//!
//! The rule that it alone owns: *append, then apply; on start, checkpoint then replay*. What is acknowledged is in the log first, and
//! takes effect in the log's order (`engine/applier.rs`). Frames are not logged: a restart forgets trajectories, nothing else.

mod answer;
mod applier;
mod candidates;
mod catalogue;
mod course;
mod erase;
mod error;
mod export;
mod gallery;
mod ingest;
mod keep;
mod learn;
mod live;
mod models;
mod observe;
mod parts;
mod preference;
mod recommend;
mod recover;
mod request;
mod search;
mod see;
mod storage;
mod task;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

pub use answer::{
    Aspect, EventReceipt, FrameOutcome, Hit, HitPart, HorizonList, ImageView, ItemPage, ItemReceipt, ItemView,
    Readiness, Recommendation, Recommended, SearchAnswer, SessionState,
};
pub use erase::Erasure;
pub use error::EngineError;
pub use export::EventPage;
pub use keep::Retention;
pub use learn::{
    ArmOptions, ArmReport, ExperimentReport, HorizonReport, LearningOptions, LearningReport, Spread, TrainingRun,
};
pub use models::{AboutModel, ListedModel, ModelUse, ModelsReport, Takeover};
pub use parts::{CandidateLimits, EngineOptions};
pub use recover::{Progress, Recovered, Step};
pub use request::{
    AvailableAt, Example, FrameRequest, FrameUpload, Fusion, ItemWrite, RecommendRequest, SearchRequest, Strategy,
    WeightedExample,
};
pub use storage::Rewritten;

use self::applier::Applier;
use self::gallery::Gallery;
use self::keep::{Kept, KeptIndex};
use self::learn::Learning;
use self::live::Live;
use self::models::Models;
use self::parts::Parts;
use self::see::{Decoders, Eyes, KnownPictures, Line};
use crate::domain::Clock;
use crate::index::{Upkeep, VectorIndex};
pub use crate::inference::{Choice, MAX_MODELS};
use crate::inference::{Embedder, Ensemble, Priority, Registry};
pub use crate::store::{SnapshotInfo, Verified};
use crate::store::{Store, StoreError};
use crate::telemetry::{Metrics, Queue, Sizes};

/// The service without its wire: every use case is one of its functions. Shared by reference.
#[derive(Debug)]
pub struct Engine {
    parts: Arc<Parts>,
}

impl Engine {
    /// Joins the parts and brings them to the state that the store ends at; `progress` hears of it from time to time,
    /// and may break the start off, which ends it with [`StoreError::Closed`]. Blocks until that is done.
    pub fn start(
        options: EngineOptions,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        store: Store,
        (registry, ensemble): (Registry, Ensemble),
        vectors: Arc<dyn VectorIndex>,
        mut progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(Self, Recovered), StoreError> {
        if progress(Progress::begin(Step::Checkpoint, 0)).is_break() {
            return Err(StoreError::Closed);
        }
        let mut restored = keep::load(&store, &options)?;
        let included = restored.as_ref().map_or(0, |restored| restored.sequence);
        let ranking = restored.as_mut().and_then(|restored| restored.ranking.take());
        let learning =
            Learning::new(options.learning.clone(), &options.hazard_model, metrics.clone(), ranking.as_deref());
        let other_models = restored.as_mut().and_then(|restored| restored.models.take());
        let other_models = other_models.is_some_and(|models| models != ensemble.id());
        let indexed = vectors.stats();
        let live = Live::new(&options, Gallery::new(1, ensemble, vectors), restored);
        if other_models {
            live.collab.preference.forget_pictures();
        }
        let recovered = recover::recover(&live, &store, included, progress)?;
        let recovered = Recovered { indexed: indexed.vectors as u64, linked: indexed.linked as u64, ..recovered };
        let eyes = Eyes {
            limits: options.decode_limits,
            near_duplicate_difference: options.near_duplicate_difference,
            queue_timeout: options.queue_timeout,
            max_wait: options.default_deadline,
            always_wait_per_worker: see::ALWAYS_WAIT_PER_WORKER,
            thumbnail_side: options.thumbnail_side,
            metrics: metrics.clone(),
            frames: Line::new(options.decode_threads + options.decode_queue),
            queries: Line::new(options.decode_threads + options.decode_queue / 2),
            bulk: Semaphore::new(options.decode_threads * 2),
            decoders: Decoders::new(options.decode_threads, options.spare_decode_threads)
                .map_err(|error| StoreError::Thread(error.to_string()))?,
            known: KnownPictures::new(options.known_pictures_bytes),
            spare: Arc::default(),
        };
        let applier = Applier::after(store.last_sequence());
        let kept = Kept::new(included, store.erasures(), clock.now());
        if indexed.vectors > 0 {
            kept.index_is(KeptIndex { gallery: 1, changes: indexed.changes, linked: indexed.linked });
        }
        let appending = Arc::default();
        let models = Models::new(registry);
        let parts = Parts {
            clock,
            options,
            metrics,
            eyes,
            store,
            live,
            models,
            learning,
            applier,
            appending,
            kept,
            stuck: Arc::default(),
            rankers: Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)),
            searchers: Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)),
        };
        let engine = Self { parts: Arc::new(parts) };
        Ok((engine, recovered))
    }

    /// From now on `listener` hears the name of every candidate source before it is asked, on the thread that asks it, and may
    /// hold it up: for tests of what becomes of an answer when a source hangs. The first listener stays.
    pub fn before_sources(&self, listener: impl Fn(&'static str) + Send + Sync + 'static) {
        self.parts.stuck.listen(Box::new(listener));
    }

    /// Sends a picture through the model and says what the service consists of.
    pub async fn readiness(&self) -> Readiness {
        let (eyes, gallery) = (&self.parts.eyes, self.parts.live.gallery());
        let grey = gallery.ensemble.inputs().iter().map(|input| vec![127; input.bytes()]).collect();
        let started = Instant::now();
        // A full queue means that the model has plenty to do, not that it cannot.
        let problem = match eyes.embed(&gallery, grey, Priority::Live, None).await {
            Ok(_) | Err(EngineError::Busy { .. }) => None,
            Err(error) => Some(error.to_string()),
        };
        self.parts.metrics.set_ready(problem.is_none());
        Readiness {
            ready: problem.is_none(),
            problem,
            model: gallery.ensemble.id().to_owned(),
            provider: active_provider(gallery.ensemble.embedders()),
            coming: self.parts.coming(),
            inference: started.elapsed(),
            items: self.parts.live.catalogue.read().len(),
            sessions: self.parts.live.sessions.len(),
            log_sequence: self.parts.applier.applied(),
        }
    }

    /// Brings the gauges up to date: how much there is of everything, and how long the queues are.
    pub fn measure(&self) {
        let parts = &self.parts;
        let gallery = parts.live.gallery();
        let index = gallery.vectors.stats();
        // A store that cannot be read says so where it is needed.
        let store = parts.store.sizes().unwrap_or_default();
        parts.metrics.set_sizes(Sizes {
            sessions: parts.live.sessions.len() as u64,
            items: parts.live.catalogue.read().len() as u64,
            vectors: index.vectors as u64,
            index_bytes: index.bytes as u64,
            preference_added: self.parts.live.collab.preference.added() as u64,
            log_sequence: parts.store.last_sequence(),
            log_first_sequence: store.first_sequence,
            log_bytes: store.log_bytes,
            checkpoint_sequence: parts.store.checkpoints().first().copied().unwrap_or(0),
            disk_free_bytes: store.free_bytes.unwrap_or(0),
            users: store.users,
            takeover: parts.coming().map(|coming| [coming.seen, coming.left, coming.lost]),
        });
        parts.metrics.set_queue_depth(Queue::Inference, gallery.ensemble.queue_depth());
        parts.metrics.set_queue_depth(Queue::Decode, parts.eyes.waiting());
    }

    /// Forgets sessions that have fallen silent, keeps a checkpoint and shortens the log, each if it is due. Blocks; ends
    /// soon after `stop` becomes true. To be called again and again, by one thread.
    pub fn tend(&self, stop: &AtomicBool) {
        self.parts.live.sessions.expire(self.parts.clock.now());
        self.keep(stop);
    }

    /// Tends the index until nothing is left to do. Blocks for as long as building it takes; ends soon after `stop` becomes
    /// true. To be called again and again, by one thread.
    pub fn tend_index(&self, stop: &AtomicBool) {
        while !matches!(self.parts.live.gallery().vectors.maintain(stop), Upkeep::Idle | Upkeep::Stopped) {}
    }

    /// The file that holds everything which must not be lost.
    pub fn store_file(&self) -> &Path {
        self.parts.store.file()
    }

    /// Writes what is still waiting, keeps a checkpoint and the index for the next start and stops the model's threads. Blocks until
    /// that is done.
    pub fn shut_down(&self) {
        self.parts.models.stop();
        self.parts.learning.end(self.parts.clock.now());
        if let Err(error) = self.save_checkpoint() {
            tracing::warn!(%error, "no checkpoint could be kept; the next start takes longer");
        }
        self.parts.save_index_if_worth(true);
        self.parts.store.close();
        for gallery in self.parts.live.coming().into_iter().chain([self.parts.live.gallery()]) {
            gallery.ensemble.shutdown();
        }
    }

    /// How long the longest default answer may take.
    pub fn default_deadline(&self) -> Duration {
        self.parts.options.default_deadline
    }
}

/// The execution provider that runs the model: the first one that registered.
fn active_provider(embedders: &[Embedder]) -> String {
    let active = embedders.iter().flat_map(Embedder::providers).find(|report| report.is_active());
    active.map_or("cpu", |report| report.provider.name()).to_owned()
}
