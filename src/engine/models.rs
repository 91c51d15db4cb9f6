//! How do other models take over? They look at the whole catalogue first, in the background; then they take over at a stroke.
//!
//! While they look, the models in use answer. What is kept of a picture to look at again is its thumbnail (the setting
//! `vision.thumbnail_px`), so a picture may come out a little different from one that is uploaded anew. What has been seen is
//! written into the items' records, so that nothing is looked at twice, whether the service is restarted or the models are
//! changed back. New pictures are looked at by both the models in use and those to come; a record that changes between being
//! read and being written is read again.
//!
//! At the exchange no change of the log is being applied, and the models to come have seen every picture that can be seen.
//! Requests that have begun end with the models that they began with. Sessions begin new trajectories, and the map from pictures
//! to tastes is not used until it has been learned anew: both are made of vectors of the models that went.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use parking_lot::Mutex;

use super::gallery::Gallery;
use super::parts::Parts;
use super::task::aside;
use super::{Engine, EngineError};
use crate::collab::ItemFeatures;
use crate::domain::{Embedding, ItemNo};
use crate::index::{self, Upkeep};
use crate::inference::{
    Active, Choice, Described, Embedder, Ensemble, InferenceError, ManifestError, Registry, RegistryError,
};
use crate::store::{ItemRecord, Stamp, StoreError};

/// Items that are looked at again and written together.
const AT_ONCE: usize = 16;
/// How long a look at the catalogue waits for viewers at most, and how often it sees whether they are gone.
const PATIENCE: Duration = Duration::from_millis(500);
const YIELD: Duration = Duration::from_millis(5);
/// How long to wait when nothing could be done: a record is just being changed, or the store is busy.
const PAUSE: Duration = Duration::from_millis(20);
/// For how long requests that still use models that went are waited for, so that it is not one of them that takes the
/// index apart.
const FAREWELL: Duration = Duration::from_secs(30);

/// Who takes over from whom.
#[derive(Debug)]
pub(super) struct Models {
    registry: Registry,
    /// Held by who looks at the catalogue or exchanges the models.
    tending: Mutex<()>,
    /// Held by who says what is to take over.
    choosing: Mutex<()>,
    stopping: AtomicBool,
    /// Exchanges since the start.
    exchanges: AtomicU64,
    /// Why the last models that were to take over did not.
    failure: Mutex<Option<String>>,
}

impl Models {
    pub(super) fn new(registry: Registry) -> Self {
        Self {
            registry,
            tending: Mutex::new(()),
            choosing: Mutex::new(()),
            stopping: AtomicBool::new(false),
            exchanges: AtomicU64::new(0),
            failure: Mutex::new(None),
        }
    }

    /// From here on nothing more is looked at; returns when nobody does.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        drop(self.tending.lock());
    }
}

/// The models that are to take over, and how far they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover {
    /// Their ids with their weights.
    pub id: String,
    /// Items that they have seen.
    pub seen: u64,
    /// Items that they are still to see.
    pub left: u64,
    /// Items that cannot be looked at again: no thumbnail is kept.
    pub lost: u64,
}

/// A model of the folder.
#[derive(Debug)]
pub struct ListedModel {
    /// The name by which it is chosen.
    pub name: String,
    /// What it is used for.
    pub used: ModelUse,
    /// What its manifest says, or why it cannot be used.
    pub about: Result<AboutModel, String>,
}

/// What a model's manifest says.
#[derive(Debug)]
pub struct AboutModel {
    /// Its id.
    pub id: String,
    /// Dimensions of its vectors.
    pub dims: usize,
    /// Width and height of its input, in pixels.
    pub input: [u32; 2],
    /// Its licence.
    pub licence: String,
    /// Where it comes from.
    pub source: String,
}

/// What a model is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelUse {
    /// It looks at pictures.
    Active,
    /// It is to take over.
    Coming,
    /// It was in use before.
    Previous,
    /// It is there.
    Available,
}

/// All models, and who takes over from whom.
#[derive(Debug)]
pub struct ModelsReport {
    /// The ids of those in use, with their weights.
    pub id: String,
    /// Those in use.
    pub active: Vec<Choice>,
    /// Dimensions of their vectors together.
    pub dims: usize,
    /// Items that they have not seen yet.
    pub left: u64,
    /// Items that they cannot see: no thumbnail is kept.
    pub lost: u64,
    /// Those to come, and how far they are.
    pub coming: Option<(Vec<Choice>, Takeover)>,
    /// Those that were in use before.
    pub previous: Option<Vec<Choice>>,
    /// Why those that were last to take over did not.
    pub failure: Option<String>,
    /// Exchanges since the start.
    pub exchanges: u64,
    /// The folder.
    pub listed: Vec<ListedModel>,
}

impl Engine {
    /// Has these models take over as soon as they have seen the catalogue; the models in use stay until then, and if these
    /// cannot be used. Returns when they run.
    pub async fn activate_models(&self, choices: Vec<Choice>) -> Result<(), EngineError> {
        self.choose(move |registry| registry.start(&choices)).await
    }

    /// Has the models that were in use before take over again.
    pub async fn roll_models_back(&self) -> Result<(), EngineError> {
        self.choose(|registry| {
            let previous = registry.previous().ok_or(RegistryError::NoPrevious)?;
            Ok((registry.start_again(&previous)?, previous))
        })
        .await
    }

    async fn choose(
        &self,
        start: impl FnOnce(&Registry) -> Result<(Ensemble, Active), RegistryError> + Send + 'static,
    ) -> Result<(), EngineError> {
        let parts = Arc::clone(&self.parts);
        aside(move || {
            let _alone = parts.models.choosing.lock();
            let (ensemble, active) = start(&parts.models.registry).map_err(refusal)?;
            parts.begin_takeover(ensemble, active)
        })
        .await?;
        // What is left to do may be next to nothing; nobody waits for it.
        let parts = Arc::clone(&self.parts);
        drop(tokio::task::spawn_blocking(move || parts.tend_models(&AtomicBool::new(false))));
        Ok(())
    }

    /// Goes on with looking at the catalogue where there is need, and exchanges the models when it is time. Blocks for as long
    /// as that takes; ends soon after `stop` becomes true. To be called again and again.
    pub fn tend_models(&self, stop: &AtomicBool) {
        self.parts.resume_takeover();
        self.parts.tend_models(stop);
    }

    /// All models of the folder, and who takes over from whom.
    pub async fn models(&self) -> Result<ModelsReport, EngineError> {
        let parts = Arc::clone(&self.parts);
        aside(move || Ok(parts.report_models())).await
    }
}

impl Parts {
    /// The models that are to take over, and how far they are.
    pub(super) fn coming(&self) -> Option<Takeover> {
        self.live.coming().map(|coming| takeover(&coming))
    }

    fn begin_takeover(&self, ensemble: Ensemble, active: Active) -> Result<(), EngineError> {
        let registry = &self.models.registry;
        let noted = |target| registry.set_target(target).map_err(|e| EngineError::Internal(e.to_string()));
        let gallery = self.live.gallery();
        *self.models.failure.lock() = None;
        if ensemble.id() == gallery.ensemble.id() {
            noted(None)?;
            self.live.expect(None);
            return Ok(());
        }
        let vectors = index::open(&self.options.index_for(&ensemble))
            .map_err(|error| EngineError::ModelRefused(error.to_string()))?;
        noted(Some(active))?;
        tracing::info!(models = ensemble.id(), "other models begin to look at the catalogue");
        self.live.expect(Some(Arc::new(Gallery::new(gallery.number + 1, ensemble, vectors))));
        Ok(())
    }

    /// Takes up what a restart has interrupted.
    fn resume_takeover(&self) {
        let registry = &self.models.registry;
        if self.live.coming().is_some() || registry.target().is_none() {
            return;
        }
        let _alone = self.models.choosing.lock();
        let (Some(target), None) = (registry.target(), self.live.coming()) else { return };
        let begun = registry.start_again(&target).map_err(refusal);
        if let Err(error) = begun.and_then(|ensemble| self.begin_takeover(ensemble, target)) {
            tracing::error!(%error, "the models that were to take over cannot be used; those in use stay");
            *self.models.failure.lock() = Some(error.to_string());
            if let Err(error) = registry.set_target(None) {
                tracing::error!(%error, "the note of the models cannot be written");
            }
        }
    }

    fn tend_models(&self, stop: &AtomicBool) {
        let Some(_turn) = self.models.tending.try_lock() else { return };
        let stopped = || stop.load(Ordering::Relaxed) || self.models.stopping.load(Ordering::Relaxed);
        let mut runtime = None;
        while !stopped() {
            let (gallery, coming) = (self.live.gallery(), self.live.coming());
            if let Some(coming) = coming.as_ref().filter(|coming| !coming.is_filled()) {
                if let Err(error) = self.fill(coming, stopped) {
                    tracing::error!(%error, "the catalogue cannot be read");
                    return;
                }
                continue;
            }
            // Those in use first: what they have not seen cannot be found.
            let due = [Some(&gallery), coming.as_ref()].into_iter().flatten().map(|g| g.due(AT_ONCE));
            if let Some(due) = due.into_iter().find(|due| !due.is_empty()) {
                let runtime = match &runtime {
                    Some(runtime) => runtime,
                    None => match tokio::runtime::Builder::new_current_thread().enable_time().build() {
                        Ok(made) => runtime.insert(made),
                        Err(error) => return tracing::error!(%error, "nothing can be looked at again"),
                    },
                };
                match runtime.block_on(self.look_again(&due)) {
                    Ok(true) => {}
                    Ok(false) | Err(EngineError::Busy { .. }) => std::thread::sleep(PAUSE),
                    Err(EngineError::ShuttingDown) => return,
                    Err(error) => return tracing::warn!(%error, "looking at the catalogue pauses"),
                }
                continue;
            }
            let Some(coming) = coming else { return };
            let stop_upkeep = AtomicBool::new(false);
            loop {
                let done = coming.vectors.maintain(&stop_upkeep);
                if stopped() || matches!(done, Upkeep::Idle | Upkeep::Stopped) {
                    break;
                }
            }
            drop(gallery);
            if let Some(old) = self.exchange(&coming) {
                self.bid_farewell(old, stopped);
            }
        }
    }

    /// Takes what the store has of all items into a gallery to come. What changes meanwhile comes by itself.
    fn fill(&self, coming: &Arc<Gallery>, stopped: impl Fn() -> bool) -> Result<(), StoreError> {
        let mut whole = true;
        self.store.for_each_item(|record| {
            let wanted = self.live.coming().is_some_and(|now| Arc::ptr_eq(&now, coming));
            if stopped() || !wanted {
                whole = false;
                return std::ops::ControlFlow::Break(());
            }
            self.applier.at_rest(|_| {
                if let Some(no) = self.live.number_if_same(&record) {
                    coming.take_in(no, &record);
                }
            });
            std::ops::ControlFlow::Continue(())
        })?;
        if whole {
            coming.filled();
        }
        Ok(())
    }

    /// Has all models, those in use and those to come, see what they have not seen of these items; whether anything came of it.
    async fn look_again(&self, due: &[ItemNo]) -> Result<bool, EngineError> {
        let models = self.live.models();
        let in_flight = self.options.decode_threads.max(1);
        let looks = due.iter().map(|&no| (no, self.look_at_item(no, &models)));
        let looks = looks.map(async |(no, look)| (no, look.await));
        let looked: Vec<_> = stream::iter(looks).buffered(in_flight).collect().await;
        let (mut amended, mut given_up) = (Vec::new(), Vec::new());
        for (no, look) in looked {
            match look? {
                Look::Seen(record, stamp, whole) => {
                    amended.push((*record, stamp));
                    given_up.extend((!whole).then_some(no));
                }
                Look::Lost => given_up.push(no),
                Look::Changing => {}
            }
        }
        let records: Vec<ItemRecord> = amended.iter().map(|(record, _)| record.clone()).collect();
        let written = if amended.is_empty() { Vec::new() } else { self.store.begin_amend(amended)?.wait().await? };
        let mut progress = !given_up.is_empty();
        for (record, _) in records.iter().zip(written).filter(|(_, written)| *written) {
            progress = true;
            self.applier.at_rest(|_| self.take_in_again(record));
        }
        for no in given_up {
            [Some(self.live.gallery()), self.live.coming()].into_iter().flatten().for_each(|g| g.give_up(no));
        }
        Ok(progress)
    }

    fn take_in_again(&self, record: &ItemRecord) {
        let Some(no) = self.live.number_if_same(record) else { return };
        let gallery = self.live.gallery();
        gallery.take_in(no, record);
        if let Some(coming) = self.live.coming() {
            coming.take_in(no, record);
        }
        self.live.collab.preference.describe_item(no, || ItemFeatures::of(&record.item, &gallery.vectors.get(no)));
    }

    async fn look_at_item(&self, no: ItemNo, models: &[Embedder]) -> Result<Look, EngineError> {
        let id = self.live.catalogue.read().id(no).cloned();
        let read = id.map(|id| self.store.get_item_stamped(&id)).transpose()?;
        let Some((mut record, stamp)) = read.flatten() else { return Ok(Look::Changing) };
        let (mut new, mut whole) = (false, true);
        for image in &mut record.images {
            let unseen = |model: &&Embedder| !image.embeddings.contains_key(model.model_id());
            let missing: Vec<Embedder> = models.iter().filter(unseen).cloned().collect();
            if missing.is_empty() {
                continue;
            }
            self.give_way().await;
            let thumbnail = self.store.thumbnail(&record.item.id, &image.sha256).unwrap_or_default();
            let seen = match thumbnail {
                Some(jpeg) => self.look_at_thumbnail(jpeg, &missing).await?,
                None => None,
            };
            let Some(seen) = seen else {
                whole = false;
                continue;
            };
            image.embeddings.extend(missing.iter().map(|model| model.model_id().to_owned()).zip(seen));
            new = true;
        }
        // A record that has everything already still has to be taken in.
        Ok(if new || whole { Look::Seen(Box::new(record), stamp, whole) } else { Look::Lost })
    }

    /// What the models see; `None` if the thumbnail is none.
    async fn look_at_thumbnail(&self, jpeg: Bytes, models: &[Embedder]) -> Result<Option<Vec<Embedding>>, EngineError> {
        match self.eyes.look_again(jpeg, models).await {
            Ok(seen) => Ok(Some(seen)),
            Err(error @ EngineError::ShuttingDown) => Err(error),
            Err(error) => {
                tracing::warn!(%error, "a thumbnail cannot be looked at");
                Ok(None)
            }
        }
    }

    /// Lets pictures go first that somebody waits for.
    async fn give_way(&self) {
        let since = Instant::now();
        while self.live.gallery().ensemble.queue_depth() > 0 && since.elapsed() < PATIENCE {
            tokio::time::sleep(YIELD).await;
        }
    }

    /// Puts `coming` in the place of the models in use, if it has seen everything and is still meant; returns those.
    fn exchange(&self, coming: &Arc<Gallery>) -> Option<Arc<Gallery>> {
        let old = self.applier.at_rest(|_| {
            let meant = self.live.coming().is_some_and(|now| Arc::ptr_eq(&now, coming));
            if !meant || coming.missing().0 > 0 {
                return None;
            }
            self.live.collab.preference.forget_pictures();
            self.live.exchange()
        })?;
        if let Err(error) = self.models.registry.switched() {
            tracing::error!(%error, "the note of the models cannot be written; a restart does the exchange again");
        }
        self.models.exchanges.fetch_add(1, Ordering::Relaxed);
        self.metrics.set_build(coming.ensemble.id(), &self.options.runtime_version);
        tracing::info!(from = old.ensemble.id(), to = coming.ensemble.id(), "other models have taken over");
        Some(old)
    }

    fn bid_farewell(&self, old: Arc<Gallery>, stopped: impl Fn() -> bool) {
        let since = Instant::now();
        while Arc::strong_count(&old) > 1 && since.elapsed() < FAREWELL && !stopped() {
            std::thread::sleep(YIELD);
        }
    }

    fn report_models(&self) -> ModelsReport {
        let registry = &self.models.registry;
        let (gallery, active, previous) = (self.live.gallery(), registry.active(), registry.previous());
        let (target, (left, lost)) = (registry.target(), gallery.missing());
        let listed = registry.list().into_iter().map(|Described { name, manifest }| {
            let about = manifest.map_err(|error| manifest_refusal(&error)).map(|manifest| AboutModel {
                id: manifest.model_id().to_owned(),
                dims: manifest.dims(),
                input: [manifest.input().width, manifest.input().height],
                licence: manifest.licence().to_owned(),
                source: manifest.source().to_owned(),
            });
            let has = |chosen: Option<&Active>| about.as_ref().is_ok_and(|a| chosen.is_some_and(|c| c.has(&a.id)));
            let used = if has(Some(&active)) {
                ModelUse::Active
            } else if has(target.as_ref()) {
                ModelUse::Coming
            } else if has(previous.as_ref()) {
                ModelUse::Previous
            } else {
                ModelUse::Available
            };
            ListedModel { name, used, about }
        });
        ModelsReport {
            listed: listed.collect(),
            id: gallery.ensemble.id().to_owned(),
            dims: gallery.ensemble.dims(),
            active: active.models,
            left,
            lost,
            coming: target.map(|target| target.models).zip(self.coming()),
            previous: previous.map(|previous| previous.models),
            failure: self.models.failure.lock().clone(),
            exchanges: self.models.exchanges.load(Ordering::Relaxed),
        }
    }
}

/// What came of looking at an item once more.
enum Look {
    /// The record with what was seen, and whether that is everything.
    Seen(Box<ItemRecord>, Stamp, bool),
    /// Nothing could be seen.
    Lost,
    /// It is being changed or deleted.
    Changing,
}

fn takeover(coming: &Gallery) -> Takeover {
    let (left, lost) = coming.missing();
    Takeover { id: coming.ensemble.id().to_owned(), seen: coming.vectors.len() as u64, left, lost }
}

/// Why models are refused, in words that name no internals; the log has the rest.
fn refusal(error: RegistryError) -> EngineError {
    tracing::warn!(%error, "models were refused");
    let reason = match &error {
        RegistryError::Manifest { name, source } => format!("{name}: {}", manifest_refusal(source)),
        RegistryError::Inference(InferenceError::Load { model_id, .. }) => {
            format!("{model_id}: ONNX Runtime cannot run it; the log says why")
        }
        RegistryError::Inference(
            error @ (InferenceError::Mismatch { .. } | InferenceError::Models { .. } | InferenceError::Setting { .. }),
        ) => error.to_string(),
        RegistryError::Inference(InferenceError::Manifest(source)) => manifest_refusal(source),
        error @ (RegistryError::Changed { .. } | RegistryError::NoPrevious) => error.to_string(),
        RegistryError::Inference(InferenceError::Runtime(_) | InferenceError::Thread(_))
        | RegistryError::Note { .. } => {
            return EngineError::Internal(error.to_string());
        }
    };
    EngineError::ModelRefused(reason)
}

fn manifest_refusal(error: &ManifestError) -> String {
    match error {
        ManifestError::Read { .. } => "there is no such model, or a file of it cannot be read".to_owned(),
        ManifestError::TooLarge { .. } => "a file of it is too large".to_owned(),
        ManifestError::Escape { .. } => "a file of it lies outside the folder of models".to_owned(),
        ManifestError::Hash { expected, actual, .. } => {
            format!("the SHA-256 of a file of it is {actual}, but the manifest says {expected}")
        }
        ManifestError::Syntax(_) => {
            "its manifest is no TOML, or a key is missing, unknown or of the wrong type; the log says more".to_owned()
        }
        // The names in these are those of the manifest and of the model, which whoever asks has written.
        ManifestError::Value { .. }
        | ManifestError::File { .. }
        | ManifestError::Weights { .. }
        | ManifestError::Projection { .. } => error.to_string(),
    }
}
