//! Bytes in, embedding out: how does the service look at a picture?
//!
//! What is known is not looked at again: the file that came just before (a film that stands still), a frame that hardly
//! differs from the last one, a picture that another item has. What would come too late is refused before it costs
//! anything.

mod decoders;
mod known;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::hash::Hasher as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use rustc_hash::FxHasher;
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::{Instrument as _, trace_span};

pub(super) use self::decoders::Decoders;
pub(super) use self::known::KnownPictures;
use super::gallery::Gallery;
use super::{EngineError, FrameUpload};
use crate::domain::{Embedding, InputSize, LumaThumb, Motion, Pixels};
use crate::inference::{EmbedError, Embedder, Priority};
use crate::session::Upload;
use crate::telemetry::{Metrics, Stage, TRACE_TARGET};
use crate::vision::{self, DecodeError, DecodeLimits};

/// After how long a picture of an item tries again when the model is busy with viewers.
const BULK_RETRY: Duration = Duration::from_millis(50);
/// Pictures for each of the model's threads that may always wait.
pub(super) const ALWAYS_WAIT_PER_WORKER: usize = 16;
/// When a full queue is likely to have room again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Decoder, preprocessor and models, one after the other; the models are those of the [`Gallery`] that is asked. Decoding takes
/// a bounded number of threads and a bounded queue.
#[derive(Debug)]
pub(super) struct Eyes {
    pub(super) limits: DecodeLimits,
    /// Frames that differ by less than this from the last embedded one are not embedded again; in [0, 1], 0 for never.
    pub(super) near_duplicate_difference: f32,
    /// How long a picture may wait for the model when its request has no deadline.
    pub(super) queue_timeout: Duration,
    /// A picture that somebody waits for is refused when those before it will take longer than this…
    pub(super) max_wait: Duration,
    /// …and are at least so many for each of the model's threads: a slow machine must not refuse a handful of viewers, and a short
    /// deadline that passes before the model is done is kept by an answer without the frame.
    pub(super) always_wait_per_worker: usize,
    /// The longer side of thumbnails in pixels; 0 for none.
    pub(super) thumbnail_side: u32,
    pub(super) metrics: Metrics,
    /// Viewers' frames that are being looked at or wait for it.
    pub(super) frames: Line,
    /// The same of pictures to search with.
    pub(super) queries: Line,
    /// One permit for each picture of an item that may be under way; one more waits.
    pub(super) bulk: Semaphore,
    pub(super) decoders: Decoders,
    /// Pictures of items that were looked at of late.
    pub(super) known: KnownPictures,
    /// Memory for frames.
    pub(super) spare: Arc<Spare>,
}

/// A frame that was looked at.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) upload: Upload,
    pub(super) thumb: LumaThumb,
    pub(super) motion: Motion,
    pub(super) sight: Sight,
}

/// What looking at a frame came to.
#[derive(Debug)]
pub(super) enum Sight {
    /// It was embedded.
    New(Embedding),
    /// It is so like the one before that it was not embedded.
    Repeat,
    /// It could not be embedded in time.
    Missed,
    /// The model failed.
    Failed,
}

/// The frame before, as far as it matters for looking at the next one.
#[derive(Debug, Clone)]
pub(super) struct Before {
    /// Motion is measured against this one.
    pub(super) last: LumaThumb,
    /// Whether the next frame is a near-duplicate is measured against this one; `None` if other models embedded it.
    pub(super) embedded: Option<LumaThumb>,
    /// The file that the last frame came in.
    pub(super) upload: Option<Upload>,
}

/// A picture of an item, looked at for the catalogue.
#[derive(Debug, Clone)]
pub(super) struct Portrait {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) thumbnail: Option<Bytes>,
    /// By the models' ids.
    pub(super) embeddings: BTreeMap<String, Embedding>,
}

impl Eyes {
    /// Looks at the frames of one session, in their order. Those that cannot be embedded by `deadline` are
    /// [missed](Sight::Missed).
    pub(super) async fn look(
        &self,
        gallery: &Gallery,
        frames: &[FrameUpload],
        before: Option<Before>,
        priority: Priority,
        deadline: Option<Instant>,
    ) -> Result<Vec<Seen>, EngineError> {
        if let Some(again) = self.same_file(frames, before.as_ref()) {
            return Ok(vec![again]);
        }
        self.check_wait(gallery, priority, deadline)?;
        // All at once; whether a frame repeats its predecessor is known once both are decoded. Only the first one's
        // predecessor is there already, and a single frame is the common case.
        let decoded = try_join_all(frames.iter().enumerate().map(|(n, frame)| {
            let before = before.clone().filter(|_| n == 0);
            self.decode_frame(gallery, frame.bytes.clone(), n, before, priority)
        }))
        .await?;
        let mut before = before;
        let mut sights = Vec::with_capacity(decoded.len());
        for frame in decoded {
            let motion = match (frame.motion, &before) {
                (Some(motion), _) => motion,
                (None, Some(before)) => vision::motion(&before.last, &frame.thumb),
                (None, None) => Motion::default(),
            };
            let embedded_before = before.as_ref().and_then(|before| before.embedded.as_ref());
            let repeats = embedded_before.is_some_and(|embedded| self.is_repeat(embedded, &frame.thumb));
            let embedded = match before {
                Some(before) if repeats => before.embedded,
                Some(_) | None => Some(frame.thumb.clone()),
            };
            before = Some(Before { last: frame.thumb.clone(), embedded, upload: None });
            let inputs = frame.inputs.filter(|_| !repeats);
            sights.push(async move {
                let sight = match inputs {
                    None => {
                        self.metrics.count_skipped_frame();
                        Sight::Repeat
                    }
                    Some(inputs) => match self.embed(gallery, inputs, priority, deadline).await {
                        Ok(embedding) => Sight::New(embedding),
                        Err(EngineError::DeadlinePassed) => Sight::Missed,
                        // Said in the log where it happened. Without the frame there is still an answer.
                        Err(EngineError::ModelFailed(_)) => Sight::Failed,
                        Err(error) => return Err(error),
                    },
                };
                // Until now the frame counted as one that others wait behind.
                drop(frame.admitted);
                Ok(Seen { upload: frame.upload, thumb: frame.thumb, motion, sight })
            });
        }
        try_join_all(sights).await
    }

    /// A single frame whose file is the one that came just before: nothing has changed, and it need not even be decoded.
    fn same_file(&self, frames: &[FrameUpload], before: Option<&Before>) -> Option<Seen> {
        let ([frame], Some(before)) = (frames, before) else { return None };
        // Other models have to see it first.
        before.embedded.as_ref()?;
        let upload = before
            .upload
            .filter(|upload| self.near_duplicate_difference > 0.0 && upload.hash == hash_of(&frame.bytes))?;
        self.metrics.count_skipped_frame();
        Some(Seen { upload, thumb: before.last.clone(), motion: Motion::default(), sight: Sight::Repeat })
    }

    async fn decode_frame(
        &self,
        gallery: &Gallery,
        bytes: Bytes,
        number: usize,
        before: Option<Before>,
        priority: Priority,
    ) -> Result<DecodedFrame<'_>, EngineError> {
        let threshold = self.near_duplicate_difference;
        let admitted = self.frames.admit()?;
        let (file, sizes) = (bytes.clone(), gallery.ensemble.inputs());
        let (spare, turn) = (Some(Arc::clone(&self.spare)), (priority, gallery.ensemble.queue_depth() > 0));
        let (upload, thumb, motion, inputs) = self
            .decode(bytes, &format!("frame[{number}]"), spare, turn, move |pixels, decoding| {
                let thumb = vision::luma_thumb(pixels);
                let motion = before.as_ref().map(|before| vision::motion(&before.last, &thumb));
                let embedded_before = before.and_then(|before| before.embedded);
                let repeats = embedded_before.is_some_and(|before| is_repeat(&before, &thumb, threshold));
                let inputs = if repeats { None } else { Some(decoding.inputs(pixels, &sizes)?) };
                let upload = Upload { hash: hash_of(&file), width: pixels.width(), height: pixels.height() };
                Ok((upload, thumb, motion, inputs))
            })
            .await?;
        Ok(DecodedFrame { upload, thumb, motion, inputs, admitted })
    }

    fn is_repeat(&self, before: &LumaThumb, thumb: &LumaThumb) -> bool {
        is_repeat(before, thumb, self.near_duplicate_difference)
    }

    /// Looks at a picture of an item with these models, unless another item has brought it of late. Waits for its turn as long as
    /// it takes: a catalogue of any size may come at once, and what viewers wait for goes first.
    pub(super) async fn portray(&self, bytes: Bytes, what: &str, models: &[Embedder]) -> Result<Portrait, EngineError> {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest(&SHA256, &bytes).as_ref());
        let ids: Vec<&str> = models.iter().map(Embedder::model_id).collect();
        let ids = ids.join("+");
        if let Some(known) = self.known.get(&sha256, &ids) {
            return Ok(known);
        }
        let portrait = self.portray_anew(bytes, what, models).await?;
        self.known.put(sha256, &ids, portrait.clone());
        Ok(portrait)
    }

    async fn portray_anew(&self, bytes: Bytes, what: &str, models: &[Embedder]) -> Result<Portrait, EngineError> {
        let _turn = self.bulk.acquire().await.map_err(|_| EngineError::ShuttingDown)?;
        let (side, sizes) = (self.thumbnail_side, models.iter().map(Embedder::input).collect::<Vec<_>>());
        let (width, height, thumbnail, inputs) = self
            .decode(bytes, what, None, (Priority::Bulk, true), move |pixels, decoding| {
                let jpeg = |side| vision::thumbnail_jpeg(pixels, side);
                let thumbnail = (side > 0).then_some(side).map(jpeg).transpose();
                let thumbnail = thumbnail.map_err(|e| EngineError::Internal(e.to_string()))?;
                Ok((pixels.width(), pixels.height(), thumbnail.map(Bytes::from), decoding.inputs(pixels, &sizes)?))
            })
            .await?;
        let each = models.iter().zip(inputs).map(|(model, input)| self.embed_patiently(model, input));
        let embeddings = try_join_all(each).await?;
        let embeddings = models.iter().map(|model| model.model_id().to_owned()).zip(embeddings).collect();
        Ok(Portrait { width, height, thumbnail, embeddings })
    }

    /// Looks at the thumbnail of a picture once more, with these models.
    pub(super) async fn look_again(&self, jpeg: Bytes, models: &[Embedder]) -> Result<Vec<Embedding>, EngineError> {
        let sizes: Vec<InputSize> = models.iter().map(Embedder::input).collect();
        let inputs = self
            .decode(jpeg, "thumbnail", None, (Priority::Bulk, true), move |pixels, decoding| {
                decoding.inputs(pixels, &sizes)
            })
            .await?;
        try_join_all(models.iter().zip(inputs).map(|(model, input)| self.embed_patiently(model, input))).await
    }

    async fn embed_patiently(&self, model: &Embedder, input: Vec<u8>) -> Result<Embedding, EngineError> {
        loop {
            // Copied, because a full queue does not give it back; 150 KB are nothing beside the model's work.
            match self.embed_with(model, input.clone(), Priority::Bulk, None).await {
                Err(EngineError::Busy { .. } | EngineError::DeadlinePassed) => tokio::time::sleep(BULK_RETRY).await,
                result => return result,
            }
        }
    }

    /// Embeds a picture to search with.
    pub(super) async fn embed_query(
        &self,
        gallery: &Gallery,
        bytes: Bytes,
        what: &str,
    ) -> Result<Embedding, EngineError> {
        self.check_wait(gallery, Priority::Interactive, None)?;
        let _admitted = self.queries.admit()?;
        let sizes = gallery.ensemble.inputs();
        let turn = (Priority::Interactive, gallery.ensemble.queue_depth() > 0);
        let inputs =
            self.decode(bytes, what, None, turn, move |pixels, decoding| decoding.inputs(pixels, &sizes)).await?;
        self.embed(gallery, inputs, Priority::Interactive, None).await
    }

    /// Sends model input through all models of the gallery: an input for each, in their order.
    pub(super) async fn embed(
        &self,
        gallery: &Gallery,
        inputs: Vec<Vec<u8>>,
        priority: Priority,
        deadline: Option<Instant>,
    ) -> Result<Embedding, EngineError> {
        let models = gallery.ensemble.embedders().iter();
        let each = models.zip(inputs).map(|(model, input)| self.embed_with(model, input, priority, deadline));
        let fused = gallery.ensemble.blend().fuse(&try_join_all(each).await?);
        fused.ok_or_else(|| EngineError::Internal("the models' embeddings do not fit together".into()))
    }

    async fn embed_with(
        &self,
        model: &Embedder,
        input: Vec<u8>,
        priority: Priority,
        deadline: Option<Instant>,
    ) -> Result<Embedding, EngineError> {
        let deadline = deadline.or_else(|| Instant::now().checked_add(self.queue_timeout));
        let span = trace_span!(target: TRACE_TARGET, "model", queued_ms = tracing::field::Empty);
        let embedding = model.embed(input, priority, deadline).instrument(span.clone());
        let embedded = embedding.await.map_err(embed_error)?;
        span.record("queued_ms", embedded.queued.as_secs_f64() * 1e3);
        self.metrics.observe_stage(Stage::Queue, embedded.queued.as_secs_f64());
        self.metrics.observe_stage(Stage::Inference, embedded.inference.as_secs_f64());
        Ok(embedded.embedding)
    }

    /// How many pictures that somebody waits for are being looked at or wait for it.
    pub(super) fn waiting(&self) -> usize {
        self.frames.len() + self.queries.len()
    }

    /// Waits for a decoder and goes on with `then` on its thread. The turn is the picture's priority, and whether others wait for
    /// the model already.
    async fn decode<T: Send + 'static>(
        &self,
        bytes: Bytes,
        what: &str,
        spare: Option<Arc<Spare>>,
        (priority, busy): (Priority, bool),
        then: impl FnOnce(&Pixels, &Decoding) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let decoding = Decoding { metrics: self.metrics.clone(), spare };
        let (limits, what): (DecodeLimits, Arc<str>) = (self.limits, what.into());
        // If whoever asks goes before it has begun, it does not begin.
        let span = trace_span!(target: TRACE_TARGET, "decode", bytes = bytes.len());
        let work = move || {
            let _entered = span.entered();
            let timer = decoding.metrics.stage_timer(Stage::Decode);
            let buffer = decoding.spare.as_ref().map(|spare| spare.take()).unwrap_or_default();
            let pixels = vision::decode_into(&bytes, &limits, buffer).map_err(|e| decode_error(&what, &e))?;
            timer.stop();
            let result = then(&pixels, &decoding);
            if let Some(spare) = &decoding.spare {
                spare.put(pixels);
            }
            result
        };
        let stopped = || EngineError::Internal("decoding stopped midway".into());
        self.decoders.run(priority, busy, work).await.ok_or_else(stopped)?
    }

    /// Refuses a picture that would come too late, before anything is spent on it: whoever cannot be answered in time hears so
    /// at once, and those who were let in are answered in time.
    fn check_wait(&self, gallery: &Gallery, priority: Priority, deadline: Option<Instant>) -> Result<(), EngineError> {
        // Frames go first.
        let ahead = if priority == Priority::Live { self.frames.len() } else { self.waiting() };
        let wait = gallery.ensemble.wait_behind(ahead);
        let left = deadline.map_or(self.max_wait, |deadline| deadline.saturating_duration_since(Instant::now()));
        let crowded = ahead >= self.always_wait_per_worker * gallery.ensemble.workers();
        if crowded && wait > left { Err(EngineError::Busy { retry_after: wait.max(RETRY_AFTER) }) } else { Ok(()) }
    }
}

/// Pictures that somebody waits for: so many may be under way, one more is refused.
#[derive(Debug)]
pub(super) struct Line {
    capacity: usize,
    places: Semaphore,
}

impl Line {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, places: Semaphore::new(capacity) }
    }

    /// How many are under way.
    fn len(&self) -> usize {
        self.capacity.saturating_sub(self.places.available_permits())
    }

    fn admit(&self) -> Result<SemaphorePermit<'_>, EngineError> {
        self.places.try_acquire().map_err(|_| EngineError::Busy { retry_after: RETRY_AFTER })
    }
}

/// A frame after decoding, with the models' inputs unless it is known already that it will not be embedded.
struct DecodedFrame<'a> {
    upload: Upload,
    thumb: LumaThumb,
    /// Since the frame before, where that was known before this one was decoded.
    motion: Option<Motion>,
    inputs: Option<Vec<Vec<u8>>>,
    admitted: SemaphorePermit<'a>,
}

/// Tells whether a file came again. Whoever contrives two files of one hash deceives only their own session.
fn hash_of(bytes: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(bytes);
    hasher.finish()
}

fn is_repeat(before: &LumaThumb, thumb: &LumaThumb, threshold: f32) -> bool {
    threshold > 0.0 && vision::near_duplicate(before, thumb, threshold)
}

/// What a blocking thread needs to make model input.
struct Decoding {
    metrics: Metrics,
    /// Where memory for pixels comes from and goes to, if it is shared.
    spare: Option<Arc<Spare>>,
}

/// Memory for the pixels of frames, from one frame to the next: new memory has to be cleared and mapped, which costs as much as
/// the fingerprint. Frames are shown to nobody, so that nothing of one can be seen in another.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    /// At most so many buffers…
    const BUFFERS: usize = 4;
    /// …each of at most so many bytes, which frames of 1080 lines need, are kept.
    const BYTES: usize = 8 << 20;

    fn take(&self) -> Vec<u8> {
        self.0.lock().pop().unwrap_or_default()
    }

    fn put(&self, pixels: Pixels) {
        let mut kept = self.0.lock();
        if let Some(buffer) = pixels.into_rgb().filter(|buffer| buffer.capacity() <= Self::BYTES)
            && kept.len() < Self::BUFFERS
        {
            kept.push(buffer);
        }
    }
}

impl Decoding {
    /// An input for each model, in the order of their sizes; made once for models of the same size.
    fn inputs(&self, pixels: &Pixels, sizes: &[InputSize]) -> Result<Vec<Vec<u8>>, EngineError> {
        let _timer = self.metrics.stage_timer(Stage::Preprocess);
        let mut inputs: Vec<Vec<u8>> = Vec::with_capacity(sizes.len());
        for (n, size) in sizes.iter().enumerate() {
            let input = match sizes[..n].iter().position(|other| other == size) {
                Some(same) => inputs[same].clone(),
                None => vision::preprocess(pixels, *size).map_err(|e| EngineError::Internal(e.to_string()))?,
            };
            inputs.push(input);
        }
        Ok(inputs)
    }
}

fn decode_error(what: &str, error: &DecodeError) -> EngineError {
    let what = what.to_owned();
    match error {
        DecodeError::UnsupportedFormat { detected } => EngineError::UnsupportedImage { what, detected: *detected },
        DecodeError::TooManyBytes { .. } | DecodeError::TooLarge { .. } => {
            EngineError::ImageTooLarge { what, reason: error.to_string() }
        }
        DecodeError::Empty | DecodeError::Truncated => EngineError::BadImage { what, reason: error.to_string() },
        // The detail comes from a decoder's depths and is for the log.
        DecodeError::Corrupt { detail } => {
            tracing::debug!(%what, %detail, "damaged picture");
            EngineError::BadImage { what, reason: "the file is damaged".into() }
        }
    }
}

fn embed_error(error: EmbedError) -> EngineError {
    match error {
        EmbedError::QueueFull => EngineError::Busy { retry_after: RETRY_AFTER },
        EmbedError::DeadlinePassed => EngineError::DeadlinePassed,
        EmbedError::ShuttingDown => EngineError::ShuttingDown,
        EmbedError::Failed(_) => EngineError::ModelFailed(error.to_string()),
        EmbedError::WrongSize { .. } => EngineError::Internal(error.to_string()),
    }
}
