//! Pixels in, embedding out: which model runs where, and who waits for whom?
//!
//! A [`Manifest`] says which model runs and how it wants its pixels; [`runtime`] finds (or installs) ONNX Runtime;
//! [`Embedder::start`] puts one session on each worker thread and hands out a cheap handle that may be cloned
//! everywhere. A caller that goes away is skipped before the model runs; when the queue is full, the newest of the least
//! urgent waits no longer.
//!
//! ```no_run
//! use upnext::inference::{Embedder, EmbedderOptions, Manifest, Priority, runtime};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let located = runtime::ensure(None, &runtime::InstallOptions::default(), &mut |_| {})?;
//! runtime::load(&located)?;
//! let embedder = Embedder::start(Manifest::builtin()?, EmbedderOptions::default())?;
//! let pixels = vec![127; embedder.input().bytes()];
//! let embedded = embedder.embed(pixels, Priority::Live, None).await?;
//! assert_eq!(embedded.embedding.dims(), embedder.dims());
//! # Ok(())
//! # }
//! ```

mod backend;
mod batch;
mod binding;
mod blend;
mod checksum;
mod embedder;
mod ensemble;
mod manifest;
mod metric;
mod onnx;
mod onnx_file;
mod projection;
mod provider;
mod registry;
pub mod runtime;
mod tensor;
mod worker;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod worker_tests;

pub use backend::{Backend, BackendError, PixelBatch};
pub use batch::Priority;
pub use blend::{Blend, MAX_MODELS, Weights};
pub use checksum::sha256_hex;
pub use embedder::{EmbedError, Embedded, Embedder, EmbedderOptions, InferenceError, ModelSpec};
pub use ensemble::Ensemble;
pub use manifest::{Channels, Draft, DraftError, ElementType, Layout, Manifest, ManifestError};
pub use metric::Metric;
pub use onnx::{GpuOptions, OnnxBackend, OnnxOptions};
pub use onnx_file::{OPSETS, OnnxFile, OnnxFileError, TensorInfo};
pub use projection::LinearMap;
pub use provider::{Provider, ProviderOutcome, ProviderReport, UnknownProvider};
pub use registry::{Active, Choice, Described, Registry, RegistryError, model_named, models_in};
