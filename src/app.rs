//! Who makes the parts, and in which order do they start and stop? The composition root.
//!
//! Start: keys and certificate; then, while the server answers that it is starting (`app/start.rs`), ONNX Runtime, model,
//! store, recovery, upkeep. Stop: listener, requests in flight (they may finish), upkeep, store, model.

mod learning;
mod live;
mod start;

use std::io;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use tokio::net::TcpListener;

use crate::api::{self, Access, ApiOptions, AppState, CorsOrigins, Drained, Limits, ServerOptions};
use crate::collab::{AlsOptions, CollabLimits, PreferenceOptions};
use crate::config::{self, Settings, TlsMode, UserSecret};
use crate::domain::{Clock, SealingKey, SystemClock, Timestamp, UserId, UserKey};
use crate::engine::{CandidateLimits, Engine, EngineOptions, LearningOptions, Progress, Recovered, Retention, Step};
use crate::index::{self, IndexKind, IndexSettings, Precision};
use crate::inference::{Choice, Embedder, EmbedderOptions, GpuOptions, Provider, Registry, RegistryError, runtime};
use crate::ranking::{HazardModel, ModelError};
use crate::security::{
    self, KeyFile, KeyRing, RateLimit, RateLimiter, Receipts, SealingKeys, SecurityError, Tls, TlsOptions, Tokens,
    UserHasher,
};
use crate::session::SessionLimits;
use crate::store::{self, EmbeddingPrecision, Store, StoreError, StoreOptions};
use crate::telemetry::Metrics;
use crate::vision::DecodeLimits;

/// How often sessions are expired, gauges set and the index tended.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// The service, ready to serve.
#[derive(Debug)]
pub struct App {
    rim: Arc<Rim>,
    engine: Arc<Engine>,
    recovered: Recovered,
    upkeep: Upkeep,
}

/// The service before its start: what is quickly found out, and what an operator most often gets wrong.
///
/// [`Prepared::serve`] answers while the rest is made; [`Prepared::start`] makes it first.
#[derive(Debug)]
pub struct Prepared {
    rim: Arc<Rim>,
    hazard_model: HazardModel,
    learning: LearningOptions,
}

/// What stands between the socket and the engine.
#[derive(Debug)]
struct Rim {
    settings: Settings,
    clock: Arc<dyn Clock>,
    access: Access,
    tls: Option<Arc<Tls>>,
    metrics: Metrics,
}

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The keys, the certificate or the users' secret.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// ONNX Runtime.
    #[error(transparent)]
    Runtime(#[from] runtime::RuntimeError),
    /// The models.
    #[error(transparent)]
    Models(#[from] RegistryError),
    /// The index.
    #[error("the index cannot be made: {0}")]
    Index(#[from] index::IndexError),
    /// The weights of the ranking.
    #[error(transparent)]
    Weights(#[from] ModelError),
    /// The weights are for other horizons.
    #[error("the ranking weights are for the horizons {weights:?}, the settings ask for {settings:?}; train new ones")]
    Horizons {
        /// Seconds, in the weights.
        weights: Vec<u32>,
        /// Seconds, in the settings.
        settings: Vec<u32>,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The metrics.
    #[error("the metrics cannot be set up: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A public address, but nobody could be let in or everybody would be.
    #[error(
        "{address} can be reached by other machines, but there is no API key yet; make one with `upnext keys create`"
    )]
    NoKeys {
        /// The address.
        address: std::net::SocketAddr,
    },
    /// A file cannot be read.
    #[error("{}: {reason}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(io::Error),
    /// The start ended in a way that it never should.
    #[error("the start broke down; the log has more")]
    BrokeDown,
}

impl App {
    /// Checks what can be checked at once: keys, secrets, certificates, weights.
    pub fn prepare(settings: Settings, clock: Arc<dyn Clock>) -> Result<Prepared, AppError> {
        let now = clock.now();
        let access = access(&settings, now)?;
        let public = !settings.server.bind.ip().is_loopback();
        if public && settings.security.require_keys && access.keys.usable_count(now) == 0 {
            return Err(AppError::NoKeys { address: settings.server.bind });
        }
        let tls = tls_options(&settings, clock.as_ref())?.map(Tls::load).transpose()?.map(Arc::new);
        let metrics = Metrics::new()?;
        let hazard_model = learning::start_weights(&settings)?;
        let learning = learning::learning_options(&settings, &hazard_model)?;
        Ok(Prepared { rim: Arc::new(Rim { settings, clock, access, tls, metrics }), hazard_model, learning })
    }

    /// Makes all parts and brings them to the state that the log ends at; see [`Prepared::start`].
    pub fn build(
        settings: Settings,
        clock: Arc<dyn Clock>,
        progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Self, AppError> {
        Self::prepare(settings, clock)?.start(progress)
    }

    /// The use cases, for commands that need no server.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The pseudonym under which the service knows a person.
    pub fn user_key(&self, user: &UserId) -> UserKey {
        self.rim.access.hasher.user_key(user)
    }

    /// What the start found in the store.
    pub fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Serves on `listener` until `shutdown` fires, then drains and stops the parts.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) -> Drained {
        let drained = self.rim.serve(listener, self.router(), shutdown).await;
        self.stop_aside().await;
        drained
    }

    /// Stops the parts: what was accepted is written. Blocks until that is done.
    pub fn stop(self) {
        self.upkeep.stop();
        self.engine.shut_down();
    }

    /// Stops the parts. Joining threads blocks, so not on a thread that others' tasks run on.
    async fn stop_aside(self) {
        if let Err(error) = tokio::task::spawn_blocking(move || self.stop()).await {
            tracing::error!(%error, "the service did not stop cleanly");
        }
    }

    fn router(&self) -> Router {
        let rim = &self.rim;
        let options = api_options(&rim.settings);
        let (access, metrics, clock) = (rim.access.clone(), rim.metrics.clone(), rim.clock.clone());
        api::router(AppState::new(self.engine.clone(), access, metrics, clock, options))
    }
}

impl Prepared {
    /// Makes the other parts and brings them to the state that the log ends at. Blocks for as long as that takes;
    /// `progress` hears of it from time to time and may break it off, which ends it with [`StoreError::Closed`].
    pub fn start(self, mut progress: impl FnMut(Progress) -> ControlFlow<()>) -> Result<App, AppError> {
        let Self { rim, hazard_model, learning } = self;
        let (settings, metrics) = (&rim.settings, &rim.metrics);
        let mut begin = |step| match progress(Progress::begin(step, 0)) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(StoreError::Closed),
        };
        begin(Step::Model)?;
        let located = runtime::find(settings.inference.runtime_path.as_deref())?;
        runtime::load(&located)?;
        let note = settings.data_dir.join("models.json");
        let folder = settings.inference.models_dir.clone();
        let (registry, ensemble) = Registry::open(folder, note, embedder_options(settings), choices(settings))?;
        for report in ensemble.embedders().iter().flat_map(Embedder::providers) {
            tracing::info!(provider = report.provider.name(), outcome = ?report.outcome, "execution provider");
        }
        let runtime_version = format!("1.{}", located.minor_version);
        metrics.set_build(ensemble.id(), &runtime_version);

        begin(Step::Database)?;
        let sealing = Sealing::of(settings);
        let keys = sealing.load(&settings.data_dir, rim.clock.now())?;
        let store = Store::open(&settings.data_dir, &keys, store_options(settings, &rim.clock, Some(metrics)))?;
        let options = EngineOptions { runtime_version, ..engine_options(settings, hazard_model, learning) };
        let index_settings = options.index_for(&ensemble);
        let empty = index::open(&index_settings)?;
        let kept = store.load_index(ensemble.id(), |from| index::load(&index_settings, from));
        let vectors = kept.unwrap_or(empty);
        let (engine, recovered) =
            Engine::start(options, rim.clock.clone(), metrics.clone(), store, (registry, ensemble), vectors, progress)?;
        let engine = Arc::new(engine);
        let upkeep = Upkeep::start(engine.clone(), sealing).map_err(AppError::Thread)?;
        // The models have looked at a picture when they were loaded; from now on `/readyz` asks them.
        metrics.set_ready(true);
        Ok(App { rim, engine, recovered, upkeep })
    }
}

impl Rim {
    /// Serves `router` until `shutdown` fires, then drains. New certificates are taken over meanwhile.
    async fn serve(&self, listener: TcpListener, router: Router, shutdown: impl Future<Output = ()> + Send) -> Drained {
        let every_s = self.settings.server.tls.reload_check_s;
        let reload = self.tls.clone().map(|tls| tokio::spawn(follow(tls, self.clock.clone(), every_s)));
        let server = ServerOptions {
            max_connections: self.settings.server.max_connections,
            drain_deadline: self.drain_deadline(),
            ..ServerOptions::default()
        };
        let drained = api::serve(listener, self.tls.clone(), router, server, shutdown).await;
        if let Some(reload) = reload {
            reload.abort();
        }
        drained
    }

    fn drain_deadline(&self) -> Duration {
        Duration::from_secs_f64(self.settings.server.drain_s)
    }
}

/// Takes over new certificates.
async fn follow(tls: Arc<Tls>, clock: Arc<dyn Clock>, every_s: f64) {
    if every_s <= 0.0 {
        return;
    }
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(every_s));
    loop {
        ticks.tick().await;
        let (tls, now) = (tls.clone(), clock.now());
        match tokio::task::spawn_blocking(move || tls.reload_if_changed(now)).await {
            Ok(Ok(true)) => tracing::info!("the certificate was reloaded"),
            Ok(Ok(false)) | Err(_) => {}
            Ok(Err(error)) => tracing::error!(%error, "the new certificate cannot be used; the old one stays"),
        }
    }
}

/// Where the sealing keys come from.
struct Sealing(SealingKeys);

impl Sealing {
    fn of(settings: &Settings) -> Self {
        let security = &settings.security;
        Self(SealingKeys::new(&settings.data_dir, &security.sealing_keys, security.sealing_key_file.as_deref()))
    }

    /// The keys; made now if nothing is sealed yet.
    fn load(&self, data_dir: &Path, now: Timestamp) -> Result<Vec<SealingKey>, SecurityError> {
        self.0.load(store::is_in(data_dir), now)
    }

    /// Takes over new keys.
    fn follow(&self, engine: &Engine) {
        match self.0.reload_if_changed() {
            Ok(None) => {}
            Ok(Some(keys)) => match engine.set_sealing_keys(&keys) {
                Ok(()) => tracing::info!(active = keys.first().map(SealingKey::id), "the sealing keys were reloaded"),
                Err(error) => tracing::error!(%error, "the new sealing keys cannot be used; the old ones stay"),
            },
            Err(error) => tracing::error!(%error, "the new sealing keys cannot be used; the old ones stay"),
        }
    }
}

/// The sealing keys, for commands that read what is stored without a server.
pub fn sealing_keys(settings: &Settings) -> Result<Vec<SealingKey>, AppError> {
    Ok(Sealing::of(settings).load(&settings.data_dir, SystemClock.now())?)
}

/// The store alone, for commands that need no more. No server may have it open.
pub fn open_store(settings: &Settings) -> Result<Store, AppError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Ok(Store::open(&settings.data_dir, &sealing_keys(settings)?, store_options(settings, &clock, None))?)
}

/// How the store is opened by commands.
pub fn plain_store_options(settings: &Settings) -> StoreOptions {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    store_options(settings, &clock, None)
}

/// The threads that tend the engine: one for what is done every second, and one each for the index, for what comes of
/// answers, for tastes and for models that take over, which may be busy for minutes.
#[derive(Debug)]
struct Upkeep {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Upkeep {
    fn start(engine: Arc<Engine>, sealing: Sealing) -> io::Result<Self> {
        let mut upkeep = Self { stop: Arc::new(AtomicBool::new(false)), threads: Vec::new() };
        let (indexed, learning, tasting, looking) = (engine.clone(), engine.clone(), engine.clone(), engine.clone());
        upkeep.every_second("upnext-index", move |stop| indexed.tend_index(stop))?;
        upkeep.every_second("upnext-learning", move |_| learning.learn())?;
        upkeep.every_second("upnext-taste", move |stop| tasting.tend_preference(stop))?;
        upkeep.every_second("upnext-models", move |stop| looking.tend_models(stop))?;
        upkeep.every_second("upnext-upkeep", move |stop| {
            sealing.follow(&engine);
            engine.tend(stop);
            engine.measure();
        })?;
        Ok(upkeep)
    }

    fn every_second(&mut self, name: &str, tend: impl Fn(&AtomicBool) + Send + 'static) -> io::Result<()> {
        let stop = self.stop.clone();
        let work = move || {
            while !stop.load(Ordering::Relaxed) {
                tend(&stop);
                std::thread::park_timeout(UPKEEP_EVERY);
            }
        };
        self.threads.push(std::thread::Builder::new().name(name.into()).spawn(work)?);
        Ok(())
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("an upkeep thread panicked");
            }
        }
    }
}

/// Who may ask, how often, and under which pseudonym.
fn access(settings: &Settings, now: Timestamp) -> Result<Access, SecurityError> {
    let security = &settings.security;
    let default = RateLimit::new(security.rate_limit_per_s, security.rate_limit_burst);
    let secret = security.user_secret.as_ref().map(UserSecret::reveal);
    Ok(Access {
        keys: Arc::new(KeyRing::open(KeyFile::in_dir(&settings.data_dir), now)?),
        limiter: Arc::new(RateLimiter::new(default, security.rate_limited_keys, Instant::now())),
        hasher: Arc::new(UserHasher::open(&settings.data_dir, secret)?),
        tokens: live::token_options(settings).map(|options| Tokens::open(options, now)).transpose()?.map(Arc::new),
        receipts: Arc::new(Receipts::open(&settings.data_dir)?),
    })
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

fn tls_options(settings: &Settings, clock: &dyn Clock) -> Result<Option<TlsOptions>, SecurityError> {
    let tls = &settings.server.tls;
    let client_auth = match tls.client_auth {
        config::ClientAuth::None => None,
        config::ClientAuth::Optional => Some(security::ClientAuth::Optional),
        config::ClientAuth::Required => Some(security::ClientAuth::Required),
    };
    let client_ca = tls.client_ca.clone().zip(client_auth);
    let (cert, key) = match tls.mode {
        TlsMode::Off => return Ok(None),
        TlsMode::Development => {
            let made = security::ensure_development_certificate(&settings.data_dir, clock.now())?;
            (made.cert, made.key)
        }
        TlsMode::Files => (tls.cert.clone().unwrap_or_default(), tls.key.clone().unwrap_or_default()),
    };
    Ok(Some(TlsOptions { cert, key, client_ca }))
}

/// The models that the settings ask for.
fn choices(settings: &Settings) -> Vec<Choice> {
    let inference = &settings.inference;
    let first = Choice { name: inference.model.clone(), weight: 1.0 };
    let others = inference.also.iter().map(|also| Choice { name: also.name.clone(), weight: also.weight });
    std::iter::once(first).chain(others).collect()
}

pub(crate) fn embedder_options(settings: &Settings) -> EmbedderOptions {
    let inference = &settings.inference;
    let provider = |p: &config::Provider| match p {
        config::Provider::Cpu => Provider::Cpu,
        config::Provider::Cuda => Provider::Cuda,
        config::Provider::Tensorrt => Provider::TensorRt,
    };
    let on_processor = inference.providers.first().is_none_or(|first| *first == config::Provider::Cpu);
    let suited = if on_processor { EmbedderOptions::default() } else { EmbedderOptions::gpu() };
    let cache_dir = inference.gpu.cache_dir.clone().unwrap_or_else(|| settings.data_dir.join("tensorrt"));
    EmbedderOptions {
        workers: if inference.workers == 0 { suited.workers } else { inference.workers },
        intra_threads: if inference.intra_threads == 0 { suited.intra_threads } else { inference.intra_threads },
        wide_threads: if inference.wide_threads == 0 { suited.wide_threads } else { Some(inference.wide_threads) },
        queue_capacity: inference.queue_capacity,
        max_batch: if inference.max_batch == 0 { suited.max_batch } else { Some(inference.max_batch) },
        providers: inference.providers.iter().map(provider).collect(),
        device: inference.device,
        gpu: GpuOptions {
            fp16: inference.gpu.fp16,
            memory_limit_bytes: (inference.gpu.memory_limit_bytes > 0).then_some(inference.gpu.memory_limit_bytes),
            cache_dir: Some(cache_dir),
        },
        ..suited
    }
}

fn store_options(settings: &Settings, clock: &Arc<dyn Clock>, metrics: Option<&Metrics>) -> StoreOptions {
    let store = &settings.store;
    StoreOptions {
        cache_bytes: store.cache_bytes,
        queue_capacity: store.queue_capacity,
        queue_bytes: store.queue_bytes,
        commit_records: store.commit_records,
        embedding_precision: match store.embedding_precision {
            config::EmbeddingPrecision::F16 => EmbeddingPrecision::F16,
            config::EmbeddingPrecision::F32 => EmbeddingPrecision::F32,
        },
        check_on_open: store.check_on_open,
        min_free_bytes: store.min_free_bytes,
        max_users: store.max_users,
        clock: clock.clone(),
        metrics: metrics.cloned(),
    }
}

fn index_settings(settings: &Settings) -> IndexSettings {
    let index = &settings.index;
    IndexSettings {
        kind: match index.kind {
            config::IndexKind::Flat => IndexKind::Flat,
            config::IndexKind::Hnsw => IndexKind::Hnsw,
            config::IndexKind::Graph => IndexKind::Graph,
            config::IndexKind::Auto => IndexKind::Auto,
        },
        precision: match index.precision {
            config::IndexPrecision::Int8 => Precision::Int8,
            config::IndexPrecision::Int16 => Precision::Int16,
        },
        links: index.links,
        build_effort: index.build_effort,
        build_threads: index.build_threads,
        ..IndexSettings::new(1)
    }
}

/// The bounds and constants of what is learned from people, as a server has them.
pub fn collab_limits(settings: &Settings) -> CollabLimits {
    let collab = &settings.collab;
    CollabLimits {
        sessions: collab.sessions,
        session_items: collab.session_items,
        recency_sample: collab.recency_sample,
        neighbours: collab.neighbours,
        links_per_item: collab.successors,
        link_half_life_s: collab.half_life_days * 86_400.0,
        horizons: settings.ranking.horizons_s.clone(),
        trending_half_lives_s: collab.trending_half_lives_min.map(|minutes| minutes * 60.0),
        preference: preference_options(settings),
        ..CollabLimits::default()
    }
}

fn engine_options(settings: &Settings, hazard_model: HazardModel, learning: LearningOptions) -> EngineOptions {
    let Settings { vision, session, ranking, inference, .. } = settings;
    let (decode_threads, spare_decode_threads) = match vision.decode_workers {
        0 => (processors().div_ceil(2), processors() / 2),
        threads => (threads, 0),
    };
    EngineOptions {
        max_items: settings.index.max_items,
        decode_limits: DecodeLimits {
            max_bytes: vision.max_image_bytes,
            max_pixels: vision.max_pixels,
            max_side: vision.max_side_px,
            max_alloc_bytes: vision.max_decode_bytes,
        },
        decode_threads,
        spare_decode_threads,
        decode_queue: vision.decode_queue,
        near_duplicate_difference: session.near_duplicate_difference,
        queue_timeout: Duration::from_millis(inference.queue_timeout_ms),
        thumbnail_side: vision.thumbnail_px,
        known_pictures_bytes: vision.known_pictures_bytes,
        session_limits: SessionLimits {
            max_sessions: session.max_sessions,
            ttl_s: session.ttl_s,
            max_items: session.max_items,
            max_seen: session.max_seen,
        },
        collab_limits: collab_limits(settings),
        hazard_model,
        learning,
        default_count: ranking.default_count,
        max_count: ranking.max_count,
        default_diversity: ranking.diversity,
        exclude_seen: ranking.exclude_seen,
        default_deadline: Duration::from_millis(ranking.deadline_ms),
        candidates: CandidateLimits {
            visual: ranking.candidates.visual,
            trajectory: ranking.candidates.trajectory,
            session: ranking.candidates.session,
            co_visitation: ranking.candidates.co_visitation,
            transition: ranking.candidates.transition,
            preference: ranking.candidates.preference,
            trending: ranking.candidates.trending,
            metadata: ranking.candidates.metadata,
            fresh: ranking.candidates.fresh,
            in_all: ranking.max_candidates,
        },
        max_frames: vision.max_images,
        max_search_results: ranking.max_count,
        index: index_settings(settings),
        runtime_version: String::new(),
        checkpoint_every_s: settings.store.checkpoint_every_s,
        retention: Retention {
            age_s: (settings.store.retention_days > 0.0).then_some(settings.store.retention_days * 86_400.0),
            bytes: (settings.store.retention_bytes > 0).then_some(settings.store.retention_bytes),
        },
    }
}

fn preference_options(settings: &Settings) -> PreferenceOptions {
    let preference = &settings.collab.preference;
    let defaults = PreferenceOptions::default();
    PreferenceOptions {
        enabled: preference.enabled,
        tastes: preference.tastes,
        items_per_taste: preference.items_per_taste,
        engagements: preference.engagements,
        als: AlsOptions {
            dims: preference.dims,
            iterations: preference.iterations,
            regularisation: preference.regularisation,
            regularisation_exponent: preference.regularisation_exponent,
            unobserved_weight: preference.unobserved_weight,
            ..defaults.als
        },
        threads: if preference.threads == 0 { (processors() / 2).clamp(1, 8) } else { preference.threads },
        min_engagements: preference.min_engagements,
        new_share: preference.new_share,
        every_s: preference.train_every_s,
        ..defaults
    }
}

fn api_options(settings: &Settings) -> ApiOptions {
    let server = &settings.server;
    let cors = match server.cors_origins.as_slice() {
        [] => CorsOrigins::None,
        origins if origins.iter().any(|o| o == "*") => CorsOrigins::Any,
        origins => CorsOrigins::These(origins.to_vec()),
    };
    ApiOptions {
        limits: Limits {
            image_bytes: settings.vision.max_image_bytes,
            upload_bytes: server.body_limit_bytes,
            item_images: settings.vision.max_images,
            frames: settings.vision.max_images,
            list_items: settings.ranking.max_count,
            ..Limits::default()
        },
        live: live::live_options(settings),
        request_timeout: Duration::from_secs_f64(server.request_timeout_s),
        max_in_flight: server.max_in_flight,
        min_in_flight: server.min_in_flight,
        upload_memory_bytes: server.upload_memory_bytes,
        cors,
        require_keys: settings.security.require_keys,
        ..ApiOptions::default()
    }
}
