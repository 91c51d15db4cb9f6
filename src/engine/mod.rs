//! The use cases; the only module that joins the parts.
//!
//! - [`Engine::recommend`]: frames and history in, a ranked list for each horizon out;
//! - [`Engine::observe_events`], [`Engine::observe_frame`]: what happens is learned at once;
//! - [`Engine::put_item`], [`Engine::delete_item`], [`Engine::search`]: the catalogue and its images.
//!
//! The rule that it alone owns: *append, then apply; on start, replay*. What is acknowledged is in the log first, and
//! takes effect in the log's order (`engine/applier.rs`). Frames are not logged: a restart forgets trajectories, nothing else.

mod answer;
mod applier;
mod candidates;
mod catalogue;
mod error;
mod export;
mod ingest;
mod live;
mod observe;
mod parts;
mod recommend;
mod recover;
mod request;
mod search;
mod see;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tokio::sync::Semaphore;

pub use answer::{
    EventReceipt, FrameOutcome, Hit, HorizonList, ImageView, ItemPage, ItemReceipt, ItemView, Readiness,
    Recommendation, Recommended, SearchAnswer, SessionState,
};
pub use error::EngineError;
pub use export::EventPage;
pub use parts::{CandidateLimits, EngineOptions};
pub use recover::{Progress, Recovered, Step};
pub use request::{FrameRequest, FrameUpload, ItemWrite, Query, RecommendRequest, SearchRequest};

use self::applier::Applier;
use self::catalogue::Catalogue;
use self::live::{Live, Newest};
use self::parts::Parts;
use self::see::Eyes;
use crate::collab::Collab;
use crate::domain::Clock;
use crate::index::{AttributeIndex, TextIndex, Upkeep, VectorIndex};
use crate::inference::{Embedder, Priority};
use crate::session::SessionTable;
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
        embedder: Embedder,
        vectors: Arc<dyn VectorIndex>,
        progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(Self, Recovered), StoreError> {
        let live = Live {
            catalogue: RwLock::new(Catalogue::new(options.max_items)),
            attributes: AttributeIndex::new(),
            text: RwLock::new(TextIndex::default()),
            vectors,
            sessions: SessionTable::new(options.session_limits),
            collab: Collab::new(&options.collab_limits),
            newest: RwLock::new(Newest::default()),
            model_id: embedder.model_id().to_owned(),
        };
        let recovered = recover::recover(&live, &store, progress)?;
        let eyes = Eyes {
            limits: options.decode_limits,
            near_duplicate_difference: options.near_duplicate_difference,
            queue_timeout: options.queue_timeout,
            thumbnail_side: options.thumbnail_side,
            embedder,
            metrics: metrics.clone(),
            admission: Semaphore::new(options.decode_threads + options.decode_queue),
            bulk: Semaphore::new(options.decode_threads * 2),
            decoders: Semaphore::new(options.decode_threads),
            capacity: options.decode_threads + options.decode_queue,
        };
        let applier = Applier::after(store.last_sequence());
        let engine = Self { parts: Arc::new(Parts { clock, options, metrics, eyes, store, live, applier }) };
        Ok((engine, recovered))
    }

    /// Sends a picture through the model and says what the service consists of.
    pub async fn readiness(&self) -> Readiness {
        let eyes = &self.parts.eyes;
        let grey = vec![127; eyes.embedder.input().bytes()];
        let started = Instant::now();
        // A full queue means that the model has plenty to do, not that it cannot.
        let problem = match eyes.embed(grey, Priority::Live, None).await {
            Ok(_) | Err(EngineError::Busy { .. }) => None,
            Err(error) => Some(error.to_string()),
        };
        self.parts.metrics.set_ready(problem.is_none());
        Readiness {
            ready: problem.is_none(),
            problem,
            model: eyes.embedder.model_id().to_owned(),
            provider: active_provider(&eyes.embedder),
            inference: started.elapsed(),
            items: self.parts.live.catalogue.read().len(),
            sessions: self.parts.live.sessions.len(),
            log_sequence: self.parts.applier.applied(),
        }
    }

    /// Brings the gauges up to date: how much there is of everything, and how long the queues are.
    pub fn measure(&self) {
        let parts = &self.parts;
        let index = parts.live.vectors.stats();
        parts.metrics.set_sizes(Sizes {
            sessions: parts.live.sessions.len() as u64,
            items: parts.live.catalogue.read().len() as u64,
            vectors: index.vectors as u64,
            index_bytes: index.bytes as u64,
            log_sequence: parts.store.last_sequence(),
        });
        parts.metrics.set_queue_depth(Queue::Inference, parts.eyes.embedder.queue_depth());
        parts.metrics.set_queue_depth(Queue::Decode, parts.eyes.waiting());
    }

    /// Forgets sessions that have fallen silent and tends the index until nothing is left to do. Blocks for as long as
    /// building the index takes; ends soon after `stop` becomes true. To be called again and again, by one thread.
    pub fn tend(&self, stop: &AtomicBool) {
        self.parts.live.sessions.expire(self.parts.clock.now());
        while !matches!(self.parts.live.vectors.maintain(stop), Upkeep::Idle | Upkeep::Stopped) {}
    }

    /// The file that holds everything which must not be lost.
    pub fn store_file(&self) -> &Path {
        self.parts.store.file()
    }

    /// Writes what is still waiting and stops the model's threads. Blocks until that is done.
    pub fn shut_down(&self) {
        self.parts.store.close();
        self.parts.eyes.embedder.shutdown();
    }

    /// How long the longest default answer may take.
    pub fn default_deadline(&self) -> Duration {
        self.parts.options.default_deadline
    }
}

/// The execution provider that runs the model: the first one that registered.
fn active_provider(embedder: &Embedder) -> String {
    let active = embedder.providers().iter().find(|report| report.is_active());
    active.map_or("cpu", |report| report.provider.name()).to_owned()
}
