//! How does an ONNX model run? One session of ONNX Runtime, checked against its manifest when it is loaded.

use std::path::PathBuf;
use std::sync::Arc;

use ort::session::{Session, builder::SessionBuilder};
use ort::value::{TensorElementType, TensorRef, ValueType};

use super::backend::{Backend, BackendError, PixelBatch};
use super::batch;
use super::binding::{Bindings, Memory};
use super::embedder::InferenceError;
use super::manifest::{ElementType, Manifest};
use super::metric::Metric;
use super::projection::LinearMap;
use super::provider::{Provider, ProviderOutcome, ProviderReport};
use super::runtime;
use super::tensor::{TensorBuffer, TensorWriter};
use crate::domain::{Embedding, EmbeddingError, InputSize};

/// A model in a session of ONNX Runtime.
#[derive(Debug)]
pub struct OnnxBackend {
    session: Session,
    input_name: String,
    output_name: String,
    /// Numbers of the model's output for a picture.
    dims: usize,
    metric: Metric,
    projection: Option<Arc<LinearMap>>,
    /// Models are sometimes exported for one batch size only; smaller batches are then filled up with zeros.
    fixed_batch: Option<usize>,
    writer: TensorWriter,
    buffer: TensorBuffer,
    /// Buffers that a device reaches by itself; `None` where the session runs on the processor.
    bindings: Option<Bindings>,
    /// Batches of other sizes than powers of two are filled up to the next one, up to this many.
    buckets: Option<usize>,
    providers: Vec<ProviderReport>,
}

/// Where and how a session runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnnxOptions {
    /// Threads that share the work within one operator.
    pub intra_threads: usize,
    /// In the order of preference; the CPU stands behind them even if it is not named.
    pub providers: Vec<Provider>,
    /// Which device, where there are several of a kind.
    pub device: u32,
    /// What graphics devices are told beside.
    pub gpu: GpuOptions,
    /// Most pictures that are given to it at once; what a device prepares itself for.
    pub max_batch: usize,
}

impl Default for OnnxOptions {
    /// One thread of the processor.
    fn default() -> Self {
        Self { intra_threads: 1, providers: vec![Provider::Cpu], device: 0, gpu: GpuOptions::default(), max_batch: 1 }
    }
}

/// How sessions use a graphics device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuOptions {
    /// Whether TensorRT may compute in half precision. CUDA computes in what the model's file says.
    pub fp16: bool,
    /// The most memory of the device that a session may take in bytes; `None` for what it needs.
    pub memory_limit_bytes: Option<usize>,
    /// Where TensorRT keeps what it has compiled and measured, so that the next start takes seconds, not minutes.
    pub cache_dir: Option<PathBuf>,
}

impl Default for GpuOptions {
    /// Half precision, as much memory as is needed, nothing kept.
    fn default() -> Self {
        Self { fp16: true, memory_limit_bytes: None, cache_dir: None }
    }
}

impl OnnxBackend {
    /// Loads `manifest`'s model and checks names, types and shapes of its input and output.
    ///
    /// [`runtime::load`] must have been called.
    pub fn load(manifest: &Manifest, options: &OnnxOptions) -> Result<Self, InferenceError> {
        let environment = runtime::environment()?;
        let builder = || session_builder(&environment, options.intra_threads);
        let register = |provider, builder: &mut SessionBuilder| register(provider, options, manifest, builder);
        let load_error = |error: ort::Error| InferenceError::Load {
            model_id: manifest.model_id().to_owned(),
            reason: error.to_string(),
        };

        // Each provider on a builder of its own, so that one that fails half-way leaves no trace in the others.
        let mut providers: Vec<ProviderReport> = Vec::new();
        for &provider in &options.providers {
            let attempt = builder().and_then(|mut builder| register(provider, &mut builder));
            let outcome = attempt.map_or_else(
                |error: ort::Error| ProviderOutcome::Unavailable(error.to_string()),
                |()| ProviderOutcome::Active,
            );
            providers.push(ProviderReport { provider, outcome });
        }

        let session = loop {
            let active: Vec<Provider> = providers.iter().filter(|r| r.is_active()).map(|r| r.provider).collect();
            let attempt = builder().and_then(|mut builder| {
                for &provider in &active {
                    register(provider, &mut builder)?;
                }
                for (file, bytes) in manifest.external_data() {
                    builder = builder.with_external_initializer_file_in_memory(file, bytes)?;
                }
                sized(builder, manifest)?.commit_from_memory(manifest.model())
            });
            let least_preferred_device =
                providers.iter_mut().rev().find(|r| r.is_active() && r.provider != Provider::Cpu);
            match (attempt, least_preferred_device) {
                (Ok(session), _) => break session,
                // A device may refuse only the model itself, for instance for want of memory.
                (Err(error), Some(report)) => report.outcome = ProviderOutcome::Unavailable(error.to_string()),
                (Err(error), None) => return Err(load_error(error)),
            }
        };

        let fixed_batch = check_signature(&session, manifest)
            .map_err(|reason| InferenceError::Mismatch { model_id: manifest.model_id().to_owned(), reason })?;
        let writer = TensorWriter::new(manifest);
        let on_device = providers.iter().any(|r| r.is_active() && r.provider != Provider::Cpu);
        let pinned = || Memory::Pinned(i32::try_from(options.device).unwrap_or(0));
        let mut backend = Self {
            bindings: on_device.then(|| Bindings::new(pinned(), manifest.element_type())),
            buckets: on_device.then_some(options.max_batch),
            session,
            input_name: manifest.input_name().to_owned(),
            output_name: manifest.output_name().to_owned(),
            dims: manifest.model_dims(),
            metric: manifest.metric(),
            projection: manifest.projection().cloned(),
            fixed_batch,
            buffer: writer.buffer(),
            writer,
            providers,
        };
        backend.warm_up(manifest)?;
        Ok(backend)
    }

    /// Runs the model on grey pictures, so that neither its first caller waits for memory to be laid out, nor a
    /// model whose graph leaves its output's shape open turns out to be another one when it is too late. A device runs
    /// every batch size that it will see: it chooses or compiles its kernels for each.
    fn warm_up(&mut self, manifest: &Manifest) -> Result<(), InferenceError> {
        let model_id = manifest.model_id().to_owned();
        let grey = vec![127; manifest.input().bytes()];
        let largest = self.fixed_batch.is_none().then_some(self.buckets).flatten().unwrap_or(1);
        let mut count = 1;
        loop {
            match self.run(&vec![grey.as_slice(); count]) {
                Ok(_) => {}
                Err(BackendError::Output { expected, got }) => {
                    let reason = format!("it answers {got} numbers, the manifest says {expected}");
                    return Err(InferenceError::Mismatch { model_id, reason });
                }
                Err(BackendError::Run(reason)) => return Err(InferenceError::Load { model_id, reason }),
            }
            if count >= largest {
                return Ok(());
            }
            count = batch::bucket(count + 1, largest);
        }
    }

    /// Lets the session read and write buffers of its own, as on a device, but in ordinary memory.
    #[cfg(test)]
    pub(super) fn bind_as_on_a_device(&mut self, manifest: &Manifest, max_batch: usize) {
        self.bindings = Some(Bindings::new(Memory::Processor, manifest.element_type()));
        self.buckets = Some(max_batch);
    }

    /// What became of each provider that was asked for.
    pub fn providers(&self) -> &[ProviderReport] {
        &self.providers
    }

    /// One run of the model on at most [`Self::fixed_batch`] pictures.
    fn run(&mut self, pictures: &[&[u8]]) -> Result<Vec<Result<Embedding, EmbeddingError>>, BackendError> {
        let failed = |error: ort::Error| BackendError::Run(error.to_string());
        let count = self.buckets.map_or(pictures.len(), |max_batch| batch::bucket(pictures.len(), max_batch));
        let batch = self.fixed_batch.unwrap_or(count);
        let (dims, expected) = (self.dims, batch * self.dims);
        let (metric, projection) = (self.metric, self.projection.as_deref());
        let read = |values: &[f32]| {
            if values.len() != expected {
                return Err(BackendError::Output { expected, got: values.len() });
            }
            let embedding = |row: &[f32]| {
                let embedding = metric.lift(row)?;
                match projection {
                    Some(map) => map.apply(&embedding),
                    None => Ok(embedding),
                }
            };
            Ok(values.chunks_exact(dims).take(pictures.len()).map(embedding).collect())
        };
        if let Some(bindings) = &mut self.bindings {
            let names = (self.input_name.as_str(), self.output_name.as_str());
            return bindings.run(&mut self.session, names, &self.writer, (pictures, batch), read).map_err(failed)?;
        }
        let shape = self.writer.shape(batch);
        let one_as_it_is = if let [one] = pictures { Some(*one) } else { None };
        let one_as_it_is = one_as_it_is.filter(|_| batch == 1 && self.writer.is_identity());
        if one_as_it_is.is_none() {
            self.writer.write(pictures, batch, &mut self.buffer);
        }
        let input = match (one_as_it_is, &self.buffer) {
            (Some(rgb), _) => TensorRef::from_array_view((shape, rgb)).map_err(failed)?.into_dyn(),
            (None, TensorBuffer::Bytes(bytes)) => {
                TensorRef::from_array_view((shape, bytes.as_slice())).map_err(failed)?.into_dyn()
            }
            (None, TensorBuffer::Floats(floats)) => {
                TensorRef::from_array_view((shape, floats.as_slice())).map_err(failed)?.into_dyn()
            }
        };
        let outputs = self.session.run(ort::inputs![self.input_name.as_str() => input]).map_err(failed)?;
        let output = outputs.get(&self.output_name).ok_or(BackendError::Output { expected: 1, got: 0 })?;
        let (_, values) = output.try_extract_tensor::<f32>().map_err(failed)?;
        read(values)
    }
}

impl Backend for OnnxBackend {
    fn embed(&mut self, batch: &PixelBatch<'_>) -> Result<Vec<Result<Embedding, EmbeddingError>>, BackendError> {
        let at_once = self.fixed_batch.unwrap_or(usize::MAX);
        let mut embeddings = Vec::with_capacity(batch.pictures().len());
        for pictures in batch.pictures().chunks(at_once) {
            embeddings.extend(self.run(pictures)?);
        }
        Ok(embeddings)
    }
}

fn session_builder(environment: &ort::environment::Environment, intra_threads: usize) -> ort::Result<SessionBuilder> {
    let mut builder = Session::builder(environment)?;
    builder = builder.with_intra_threads(intra_threads)?.with_inter_threads(1)?;
    // Threads that share a run wait for each other busily, which is sooner over than being woken for every operator; after it they must
    // not take the cores from decoding and ranking.
    let spinning = if intra_threads > 1 { "1" } else { "0" };
    builder = builder.with_config_entry("session.intra_op.allow_spinning", spinning)?;
    Ok(builder.with_config_entry("session.force_spinning_stop", spinning)?)
}

/// Fixes the sides of a graph that takes any, where they are called `height` and `width`: what is known beforehand is
/// planned beforehand.
fn sized(builder: SessionBuilder, manifest: &Manifest) -> ort::Result<SessionBuilder> {
    let InputSize { width, height, .. } = manifest.input();
    let builder = builder.with_dimension_override("height", i64::from(height))?;
    Ok(builder.with_dimension_override("width", i64::from(width))?)
}

/// Registers by hand: `with_execution_providers` would only log a failure.
#[cfg(feature = "gpu")]
fn register(
    provider: Provider,
    options: &OnnxOptions,
    manifest: &Manifest,
    builder: &mut SessionBuilder,
) -> ort::Result<()> {
    use ort::ep::{ArenaExtendStrategy, ExecutionProvider as _};

    let device = i32::try_from(options.device)
        .map_err(|_| ort::Error::new(format!("{} is no device number", options.device)))?;
    let GpuOptions { fp16, memory_limit_bytes, cache_dir } = &options.gpu;
    match provider {
        // The CPU is always registered, last of all.
        Provider::Cpu => Ok(()),
        Provider::Cuda => {
            let mut cuda = ort::ep::CUDA::default()
                .with_device_id(device)
                .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested);
            if let Some(bytes) = *memory_limit_bytes {
                cuda = cuda.with_memory_limit(bytes);
            }
            cuda.register(builder)
        }
        Provider::TensorRt => {
            let shape = |batch: usize| {
                let sides = TensorWriter::new(manifest).shape(batch).map(|side| side.to_string());
                format!("{}:{}", manifest.input_name(), sides.join("x"))
            };
            // One engine for all batch sizes, instead of one for each that occurs.
            let mut tensorrt = ort::ep::TensorRT::default()
                .with_device_id(device)
                .with_fp16(*fp16)
                .with_profile_min_shapes(shape(1))
                .with_profile_opt_shapes(shape(options.max_batch))
                .with_profile_max_shapes(shape(options.max_batch));
            if let Some(bytes) = *memory_limit_bytes {
                tensorrt = tensorrt.with_max_workspace_size(bytes);
            }
            if let Some(dir) = cache_dir {
                std::fs::create_dir_all(dir).map_err(|error| ort::Error::new(format!("{}: {error}", dir.display())))?;
                tensorrt = tensorrt
                    .with_engine_cache(true)
                    .with_engine_cache_path(dir.display())
                    .with_timing_cache(true)
                    .with_timing_cache_path(dir.display());
            }
            tensorrt.register(builder)
        }
    }
}

/// Says of every device that this program cannot use it.
#[cfg(not(feature = "gpu"))]
fn register(provider: Provider, _: &OnnxOptions, _: &Manifest, _: &mut SessionBuilder) -> ort::Result<()> {
    match provider {
        Provider::Cpu => Ok(()),
        Provider::Cuda | Provider::TensorRt => Err(ort::Error::new("this program was built without the feature `gpu`")),
    }
}

/// Compares the session with the manifest; the batch size if the model was exported for one only.
fn check_signature(session: &Session, manifest: &Manifest) -> Result<Option<usize>, String> {
    let [input] = session.inputs() else {
        return Err(format!("it has {} inputs; only models with one can be used", session.inputs().len()));
    };
    if input.name() != manifest.input_name() {
        return Err(format!("its input is called `{}`, not `{}`", input.name(), manifest.input_name()));
    }
    let element_type = match manifest.element_type() {
        ElementType::U8 => TensorElementType::Uint8,
        ElementType::F32 => TensorElementType::Float32,
    };
    let input_shape = tensor_shape(input.dtype(), element_type, "input")?;
    let expected = TensorWriter::new(manifest).shape(1).map(|side| side as i64);
    let fits = |(&actual, &expected): (&i64, &i64)| actual == expected || actual < 0;
    if input_shape.len() != 4 || !input_shape.iter().zip(&expected).skip(1).all(fits) {
        return Err(format!("its input has the shape {input_shape:?}, the manifest says {expected:?} (-1 is any)"));
    }

    let names: Vec<&str> = session.outputs().iter().map(|output| output.name()).collect();
    let Some(output) = session.outputs().iter().find(|output| output.name() == manifest.output_name()) else {
        return Err(format!("it has no output `{}`; there are {names:?}", manifest.output_name()));
    };
    let output_shape = tensor_shape(output.dtype(), TensorElementType::Float32, "output")?;
    let dims = manifest.model_dims() as i64;
    // The other sides may be 1, as a pooling layer leaves them: N × 320 × 1 × 1.
    let per_picture: Option<i64> = output_shape
        .iter()
        .skip(1)
        .try_fold(1_i64, |product, &side| if side < 0 { None } else { product.checked_mul(side) });
    if output_shape.len() < 2 || per_picture.is_some_and(|actual| actual != dims) {
        return Err(format!("its output has the shape {output_shape:?}, the manifest says [-1, {dims}] (-1 is any)"));
    }
    match input_shape[0] {
        any if any < 0 => Ok(None),
        0 => Err("its input is for batches of 0 pictures".to_owned()),
        fixed => Ok(usize::try_from(fixed).ok()),
    }
}

fn tensor_shape<'a>(dtype: &'a ValueType, expected: TensorElementType, what: &str) -> Result<&'a [i64], String> {
    if let ValueType::Tensor { ty, shape, .. } = dtype
        && *ty == expected
    {
        return Ok(shape);
    }
    Err(format!("its {what} is {dtype}, not a tensor of {expected}"))
}
