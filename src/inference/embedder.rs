//! How does a request get its embedding? Through a handle that queues pictures for the worker threads.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::backend::Backend;
use super::batch::{self, Priority};
use super::manifest::{Manifest, ManifestError};
use super::metric::Metric;
use super::onnx::{GpuOptions, OnnxBackend, OnnxOptions};
use super::provider::{Provider, ProviderReport};
use super::runtime::RuntimeError;
use super::worker::{self, Job, Queue};
use crate::domain::{Embedding, InputSize};

/// Turns pictures into embeddings, on threads of its own. Cheap to clone; the threads end with the last clone or
/// with [`shutdown`](Self::shutdown).
#[derive(Clone)]
pub struct Embedder {
    inner: Arc<Inner>,
}

struct Inner {
    spec: ModelSpec,
    providers: Vec<ProviderReport>,
    workers: usize,
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What callers need to know about a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    /// Name and short hash; embeddings of different ids must not be compared.
    pub model_id: String,
    /// The size of its pictures.
    pub input: InputSize,
    /// Dimensions of an embedding.
    pub dims: usize,
    /// What its embeddings stand for.
    pub metric: Metric,
}

/// How many threads, how much waiting, on which devices.
#[derive(Debug, Clone)]
pub struct EmbedderOptions {
    /// Worker threads, each with a session of its own; at least 1.
    pub workers: usize,
    /// Threads that share the work within one session; at least 1.
    pub intra_threads: usize,
    /// Threads of one session more, which a worker takes while no other has anything to do: a single picture is done sooner by all
    /// processors than by one, though it costs more of them. `None` for as many as all workers have together, at most
    /// four; no more than `intra_threads` for no such session.
    pub wide_threads: Option<usize>,
    /// Pictures that may wait; at least 1. Each takes [`InputSize::bytes`] of memory.
    pub queue_capacity: usize,
    /// Most pictures in one run of the model, at least 1; `None` for as many as suit their size on a processor.
    pub max_batch: Option<usize>,
    /// A free worker takes its share of what waits as if it were spread over so many rounds of all workers: batches then stay small
    /// while the queue is short, and grow with it. 0 where a batch costs hardly more than a picture: what waits is shared by those
    /// that are free.
    pub rounds: usize,
    /// Devices in the order of preference; the CPU stands behind them even if it is not named.
    pub providers: Vec<Provider>,
    /// Which device, where there are several of a kind.
    pub device: u32,
    /// What graphics devices are told beside.
    pub gpu: GpuOptions,
    /// After this long, [`Priority::Bulk`] counts as [`Priority::Interactive`].
    pub bulk_patience: Duration,
    /// How long less urgent pictures may delay a viewer's frame: in a batch with it, or in one that it finds under way.
    pub frame_delay: Duration,
}

impl Default for EmbedderOptions {
    /// On the CPU: one single-threaded session for each core, with small batches.
    ///
    /// Measured on two busy cores with the shipped model: two sessions of one thread did as many pictures a second as
    /// one session of two threads or a few per cent more.
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, |cores| cores.get().min(16)),
            intra_threads: 1,
            wide_threads: None,
            queue_capacity: 256,
            max_batch: None,
            rounds: 2,
            providers: vec![Provider::Cpu],
            device: 0,
            gpu: GpuOptions::default(),
            bulk_patience: Duration::from_secs(2),
            frame_delay: Duration::from_millis(4),
        }
    }
}

/// Pixels of the pictures that processors are given at once. With more, what lies between the layers no longer fits into the cache; with
/// fewer, the weights are read more often than need be. On a core of a Xeon, pictures of 160 pixels took 0.92 to 0.95 of the time in batches of
/// four, and as much as alone in batches of sixteen; those of 224 pixels took as long in any.
const PIXELS_AT_ONCE: u32 = 4 * 160 * 160;

/// With more threads, the layers of a small model take longer to share out than to compute.
const MAX_WIDE_THREADS: usize = 4;

impl EmbedderOptions {
    /// Pictures of this size in one run, at most.
    pub(super) fn largest_batch(&self, input: InputSize) -> usize {
        let suited = PIXELS_AT_ONCE / (input.width * input.height).max(1);
        self.max_batch.unwrap_or(suited.clamp(1, 8) as usize)
    }

    /// Threads of the session for whoever is alone, if there is one.
    pub(super) fn wide(&self) -> Option<usize> {
        let threads = self.wide_threads.unwrap_or_else(|| MAX_WIDE_THREADS.min(self.workers * self.intra_threads));
        (threads > self.intra_threads).then_some(threads)
    }

    /// On a GPU: two sessions, so that one prepares its batch while the other one's runs, and large batches.
    pub fn gpu() -> Self {
        Self {
            workers: 2,
            wide_threads: Some(1),
            max_batch: Some(32),
            rounds: 0,
            providers: vec![Provider::TensorRt, Provider::Cuda],
            ..Self::default()
        }
    }
}

/// A picture's embedding and what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// Where the picture stands among all others.
    pub embedding: Embedding,
    /// From the call until a worker took the picture.
    pub queued: Duration,
    /// The run of the model, shared by all pictures of the batch.
    pub inference: Duration,
    /// Pictures in the batch.
    pub batch: usize,
}

/// Why a picture got no embedding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmbedError {
    /// Too many pictures wait, or a more urgent one took the place of this one. Try again later.
    #[error("too many pictures are waiting")]
    QueueFull,
    /// It could not be done in time.
    #[error("the deadline has passed")]
    DeadlinePassed,
    /// The picture has not the size that the model takes.
    #[error("a picture has {got} bytes, but the model takes {expected}")]
    WrongSize {
        /// [`InputSize::bytes`].
        expected: usize,
        /// What came.
        got: usize,
    },
    /// The model failed, or its answer is no embedding. For the log, not for a client.
    #[error("the model failed: {0}")]
    Failed(String),
    /// The service is about to end.
    #[error("the embedder is shutting down")]
    ShuttingDown,
}

/// Why an embedder did not start.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// The manifest or its model.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// ONNX Runtime is not there.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// ONNX Runtime refused the model; its own words.
    #[error("cannot load the model {model_id}: {reason}")]
    Load {
        /// The model.
        model_id: String,
        /// What ONNX Runtime said.
        reason: String,
    },
    /// The model's inputs or outputs are not what the manifest says.
    #[error("the model {model_id} does not fit its manifest: {reason}")]
    Mismatch {
        /// The model.
        model_id: String,
        /// What differs.
        reason: String,
    },
    /// These models cannot look at pictures together.
    #[error("{reason}")]
    Models {
        /// Why.
        reason: String,
    },
    /// A setting makes no sense.
    #[error("`{setting}` must be at least 1")]
    Setting {
        /// The field of [`EmbedderOptions`].
        setting: &'static str,
    },
    /// The system gave no thread.
    #[error("cannot start a worker thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl Embedder {
    /// Loads the model once for each worker and starts the threads. Blocks for as long as that takes (about 0.1 s).
    ///
    /// [`runtime::load`](super::runtime::load) must have been called.
    pub fn start(manifest: Manifest, options: EmbedderOptions) -> Result<Self, InferenceError> {
        check(&options)?;
        let onnx = OnnxOptions {
            intra_threads: options.intra_threads,
            providers: options.providers.clone(),
            device: options.device,
            gpu: options.gpu.clone(),
            max_batch: options.largest_batch(manifest.input()),
        };
        let mut providers = Vec::new();
        let mut backends: Vec<Box<dyn Backend>> = Vec::new();
        for _ in 0..options.workers {
            let backend = OnnxBackend::load(&manifest, &onnx)?;
            providers = backend.providers().to_vec();
            backends.push(Box::new(backend));
        }
        let wide: Option<Box<dyn Backend>> = match options.wide() {
            Some(threads) => {
                Some(Box::new(OnnxBackend::load(&manifest, &OnnxOptions { intra_threads: threads, ..onnx })?))
            }
            None => None,
        };
        let spec = ModelSpec {
            model_id: manifest.model_id().to_owned(),
            input: manifest.input(),
            dims: manifest.dims(),
            metric: manifest.metric(),
        };
        let mut embedder = Self::assemble(spec, backends, wide, &options)?;
        if let Some(inner) = Arc::get_mut(&mut embedder.inner) {
            inner.providers = providers;
        }
        Ok(embedder)
    }

    /// Starts one thread for each of `backends`; `options` say how pictures wait. For tests and other models.
    pub fn with_backends(
        spec: ModelSpec,
        backends: Vec<Box<dyn Backend>>,
        options: &EmbedderOptions,
    ) -> Result<Self, InferenceError> {
        Self::assemble(spec, backends, None, options)
    }

    /// The same, with what is taken by a worker that is alone.
    pub(super) fn assemble(
        spec: ModelSpec,
        backends: Vec<Box<dyn Backend>>,
        wide: Option<Box<dyn Backend>>,
        options: &EmbedderOptions,
    ) -> Result<Self, InferenceError> {
        check(options)?;
        if backends.is_empty() {
            return Err(InferenceError::Setting { setting: "workers" });
        }
        let workers = backends.len();
        let queue = Arc::new(Queue::new(options, spec.input, workers, wide));
        let inner = Inner { spec, providers: Vec::new(), workers, queue, threads: Mutex::default() };
        // From here on, dropping `embedder` ends the threads that were started.
        let embedder = Self { inner: Arc::new(inner) };
        for (number, backend) in backends.into_iter().enumerate() {
            let queue = Arc::clone(&embedder.inner.queue);
            let thread = std::thread::Builder::new()
                .name(format!("embed-{number}"))
                .spawn(move || worker::run(&queue, backend))?;
            embedder.inner.threads.lock().push(thread);
        }
        Ok(embedder)
    }

    /// The embedding of one picture: RGB, 8 bits a channel, [`InputSize::bytes`] long, prepared as
    /// [`input`](Self::input) says.
    ///
    /// Dropping the future takes the picture out of the queue. After `deadline` the picture is not given to the model
    /// any more, but a run that has begun is not broken off.
    pub async fn embed(
        &self,
        pixels: Vec<u8>,
        priority: Priority,
        deadline: Option<Instant>,
    ) -> Result<Embedded, EmbedError> {
        let expected = self.inner.spec.input.bytes();
        if pixels.len() != expected {
            return Err(EmbedError::WrongSize { expected, got: pixels.len() });
        }
        let (answer, receiver) = oneshot::channel();
        let job = Job { pixels, priority, deadline, enqueued: Instant::now(), answer };
        self.inner.queue.push(job)?;
        // Without an answer the worker is gone, which happens only at the end.
        receiver.await.unwrap_or(Err(EmbedError::ShuttingDown))
    }

    /// What callers need to know about the model.
    pub fn spec(&self) -> &ModelSpec {
        &self.inner.spec
    }

    /// The size of a picture and how any picture gets there.
    pub fn input(&self) -> InputSize {
        self.inner.spec.input
    }

    /// Dimensions of an embedding.
    pub fn dims(&self) -> usize {
        self.inner.spec.dims
    }

    /// Name and short hash, such as `efficientnet-lite0@1a2b3c4d`; embeddings of different ids must not be compared.
    pub fn model_id(&self) -> &str {
        &self.inner.spec.model_id
    }

    /// Pictures that wait for a worker.
    pub fn queue_depth(&self) -> usize {
        self.inner.queue.depth()
    }

    /// Threads that run the model.
    pub fn workers(&self) -> usize {
        self.inner.workers
    }

    /// How long a picture that comes now will take to come out when `ahead` others are on their way, by what they took of late.
    pub fn wait_behind(&self, ahead: usize) -> Duration {
        batch::wait_behind(ahead, self.inner.queue.cost_per_picture(), self.inner.workers)
    }

    /// What became of each provider that was asked for.
    pub fn providers(&self) -> &[ProviderReport] {
        &self.inner.providers
    }

    /// Answers all that wait with [`EmbedError::ShuttingDown`], lets the runs in progress end and joins the threads.
    /// Blocks for as long as one run of the model. Calling it again does nothing.
    pub fn shutdown(&self) {
        self.inner.queue.close();
        for thread in self.take_threads() {
            // A worker does not panic; if it did, it has ended, which is all that is wanted here.
            let _ = thread.join();
        }
    }

    pub(super) fn take_threads(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.inner.threads.lock())
    }
}

impl Drop for Inner {
    /// Without joining: the last clone may be dropped where blocking is not allowed.
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedder").field("spec", &self.inner.spec).field("queue_depth", &self.queue_depth()).finish()
    }
}

fn check(options: &EmbedderOptions) -> Result<(), InferenceError> {
    let at_least_one = [
        ("workers", options.workers),
        ("intra_threads", options.intra_threads),
        ("queue_capacity", options.queue_capacity),
        ("max_batch", options.max_batch.unwrap_or(1)),
    ];
    match at_least_one.into_iter().find(|(_, value)| *value == 0) {
        Some((setting, _)) => Err(InferenceError::Setting { setting }),
        None => Ok(()),
    }
}
