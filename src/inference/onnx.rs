//! How does an ONNX model run? One session of ONNX Runtime, checked against its manifest when it is loaded.

use ort::session::{Session, builder::SessionBuilder};
use ort::value::{TensorElementType, TensorRef, ValueType};

use super::backend::{Backend, BackendError, PixelBatch};
use super::embedder::InferenceError;
use super::manifest::{ElementType, Manifest};
use super::provider::{Provider, ProviderOutcome, ProviderReport};
use super::runtime;
use super::tensor::{TensorBuffer, TensorWriter};
use crate::domain::{Embedding, EmbeddingError};

/// A model in a session of ONNX Runtime.
#[derive(Debug)]
pub struct OnnxBackend {
    session: Session,
    input_name: String,
    output_name: String,
    dims: usize,
    /// Models are sometimes exported for one batch size only; smaller batches are then filled up with zeros.
    fixed_batch: Option<usize>,
    writer: TensorWriter,
    buffer: TensorBuffer,
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
}

impl OnnxBackend {
    /// Loads `manifest`'s model and checks names, types and shapes of its input and output.
    ///
    /// [`runtime::load`] must have been called.
    pub fn load(manifest: &Manifest, options: &OnnxOptions) -> Result<Self, InferenceError> {
        let environment = runtime::environment()?;
        let builder = || session_builder(&environment, options.intra_threads);
        let load_error = |error: ort::Error| InferenceError::Load {
            model_id: manifest.model_id().to_owned(),
            reason: error.to_string(),
        };

        // Each provider on a builder of its own, so that one that fails half-way leaves no trace in the others.
        let mut providers: Vec<ProviderReport> = Vec::new();
        for &provider in &options.providers {
            let attempt = builder().and_then(|mut builder| register(provider, options.device, &mut builder));
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
                    register(provider, options.device, &mut builder)?;
                }
                builder.commit_from_memory(manifest.model())
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
        let mut backend = Self {
            session,
            input_name: manifest.input_name().to_owned(),
            output_name: manifest.output_name().to_owned(),
            dims: manifest.dims(),
            fixed_batch,
            buffer: writer.buffer(),
            writer,
            providers,
        };
        backend.warm_up(manifest)?;
        Ok(backend)
    }

    /// Runs the model once on a grey picture, so that neither its first caller waits for memory to be laid out, nor a
    /// model whose graph leaves its output's shape open turns out to be another one when it is too late.
    fn warm_up(&mut self, manifest: &Manifest) -> Result<(), InferenceError> {
        let model_id = manifest.model_id().to_owned();
        let grey = vec![127; manifest.input().bytes()];
        match self.run(&[&grey]) {
            Ok(_) => Ok(()),
            Err(BackendError::Output { expected, got }) => {
                let reason = format!("it answers {got} numbers, the manifest says {expected}");
                Err(InferenceError::Mismatch { model_id, reason })
            }
            Err(BackendError::Run(reason)) => Err(InferenceError::Load { model_id, reason }),
        }
    }

    /// What became of each provider that was asked for.
    pub fn providers(&self) -> &[ProviderReport] {
        &self.providers
    }

    /// One run of the model on at most [`Self::fixed_batch`] pictures.
    fn run(&mut self, pictures: &[&[u8]]) -> Result<Vec<Result<Embedding, EmbeddingError>>, BackendError> {
        let failed = |error: ort::Error| BackendError::Run(error.to_string());
        let batch = self.fixed_batch.unwrap_or(pictures.len());
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
        let expected = batch * self.dims;
        if values.len() != expected {
            return Err(BackendError::Output { expected, got: values.len() });
        }
        Ok(values.chunks_exact(self.dims).take(pictures.len()).map(|row| Embedding::unit(row.to_vec())).collect())
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
    // Threads that spin between runs would take the cores from decoding and ranking.
    Ok(builder.with_config_entry("session.intra_op.allow_spinning", "0")?)
}

/// Registers by hand: `with_execution_providers` would only log a failure.
fn register(provider: Provider, device: u32, builder: &mut SessionBuilder) -> ort::Result<()> {
    match provider {
        // The CPU is always registered, last of all.
        Provider::Cpu => Ok(()),
        #[cfg(feature = "gpu")]
        Provider::Cuda => {
            use ort::ep::ExecutionProvider as _;
            ort::ep::CUDA::default().with_device_id(device_id(device)?).register(builder)
        }
        #[cfg(feature = "gpu")]
        Provider::TensorRt => {
            use ort::ep::ExecutionProvider as _;
            ort::ep::TensorRT::default().with_device_id(device_id(device)?).with_fp16(true).register(builder)
        }
        #[cfg(not(feature = "gpu"))]
        Provider::Cuda | Provider::TensorRt => {
            let _ = (device, builder);
            Err(ort::Error::new("this program was built without the feature `gpu`"))
        }
    }
}

#[cfg(feature = "gpu")]
fn device_id(device: u32) -> ort::Result<i32> {
    i32::try_from(device).map_err(|_| ort::Error::new(format!("{device} is no device number")))
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
    let dims = manifest.dims() as i64;
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
