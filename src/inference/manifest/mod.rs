//! Which model is this, and how does it want its pixels? A TOML file beside the model, checked before anything runs.
//!
//! ```toml
//! name = "squeezenet"
//! file = "squeezenet_fp32.onnx"        # in the folder of the manifest, never outside it
//! sha256 = "…64 hexadecimal digits…"
//! licence = "MIT"
//! source = "where it comes from"
//!
//! [input]
//! name = "data_0"
//! layout = "nchw"                      # or "nhwc"
//! dtype = "f32"                        # or "u8": the model normalises by itself
//! width = 224
//! height = 224
//! channels = "bgr"                     # or "rgb"
//! mean = [104.0, 117.0, 123.0]         # of bytes, in the order of `channels`: (byte - mean) / std
//! std = [1.0, 1.0, 1.0]
//! fit = "centre_crop"                  # or "stretch"
//! short_side = 256                     # for "centre_crop": length of the short side before the cut
//!
//! [output]
//! name = "embedding"
//! dims = 512
//! metric = "cosine"                    # or "dot" or "l2", for which lengths count; may be left out
//! max_norm = 12.5                      # for "dot" and "l2" only: the greatest length of an output
//! precision = "int8"                   # or "int16": how embeddings are kept in memory; else as `index.precision` says
//!
//! [output.projection]                  # optional: what `upnext train projection` learned; see `LinearMap`
//! file = "squeezenet.npy"
//! sha256 = "…"
//!
//! [[external_data]]                    # for each file of weights that the model keeps beside it
//! file = "squeezenet.weights"          # as the model names it
//! sha256 = "…"
//! ```
//!
//! Unknown keys are refused, so that a typing error cannot turn normalisation off.

mod draft;
mod file;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

pub use self::draft::{Draft, DraftError};
use self::file::ManifestFile;
pub(super) use self::file::check_name;
use super::checksum::{hex, sha256};
use super::metric::Metric;
use super::onnx_file::{OnnxFile, OnnxFileError};
use super::projection::LinearMap;
use crate::domain::{InputSize, Precision};

/// ONNX files are protobuf messages, which end at 2 GiB.
const MAX_MODEL_BYTES: u64 = 2 << 30;
const MAX_MANIFEST_BYTES: u64 = 64 << 10;

const BUILTIN_MANIFEST: &str = include_str!("../../../models/efficientnet-lite0-160.toml");
const BUILTIN_MODEL: &[u8] = include_bytes!("../../../models/efficientnet-lite0.onnx");
/// Name, manifest and model; the default comes first. The file of EfficientNet-Lite0 takes any size.
const BUILTIN: [(&str, &str, &[u8]); 4] = [
    ("efficientnet-lite0-160", BUILTIN_MANIFEST, BUILTIN_MODEL),
    ("efficientnet-lite0-192", include_str!("../../../models/efficientnet-lite0-192.toml"), BUILTIN_MODEL),
    ("efficientnet-lite0", include_str!("../../../models/efficientnet-lite0.toml"), BUILTIN_MODEL),
    ("appearance", include_str!("../../../models/appearance.toml"), include_bytes!("../../../models/appearance.onnx")),
];

/// A model, its bytes and the way it wants its pixels. Cheap to clone.
#[derive(Clone)]
pub struct Manifest {
    name: String,
    licence: String,
    source: String,
    file: PathBuf,
    sha256: [u8; 32],
    external: Vec<ExternalFile>,
    /// What the external files hold, in their order.
    external_bytes: Vec<Arc<[u8]>>,
    input_name: String,
    layout: Layout,
    element_type: ElementType,
    channels: Channels,
    input: InputSize,
    mean: [f32; 3],
    std: [f32; 3],
    output_name: String,
    /// Numbers of the model's output.
    model_dims: usize,
    metric: Metric,
    projection_file: Option<ExternalFile>,
    projection: Option<Arc<LinearMap>>,
    /// As it was read.
    toml: Arc<str>,
    precision: Option<Precision>,
    model_id: String,
    /// What the file says of itself.
    about: Arc<OnnxFile>,
    model: ModelBytes,
}

/// The order of a tensor's dimensions: batch, then height, width and channels, or channels, height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Batch × height × width × 3.
    Nhwc,
    /// Batch × 3 × height × width.
    Nchw,
}

/// The numbers that a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ElementType {
    /// Bytes; the model normalises by itself.
    U8,
    /// 32-bit floats, normalised before the model sees them.
    F32,
}

/// The order of the colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red, as Caffe has it.
    Bgr,
}

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The manifest or the model.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is larger than such a file can be.
    #[error("{path} has {bytes} bytes; at most {limit} are read")]
    TooLarge {
        /// The manifest or the model.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The most that is read.
        limit: u64,
    },
    /// It is not TOML, or a key is missing, unknown or of the wrong type.
    #[error("the manifest is not valid: {0}")]
    Syntax(#[from] toml::de::Error),
    /// A value makes no sense.
    #[error("the manifest's `{key}` {reason}")]
    Value {
        /// The key, with its table.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The model lies outside the folder of models.
    #[error("{path} lies outside the folder of the models")]
    Escape {
        /// As the manifest has it.
        path: PathBuf,
    },
    /// The model is not the file that the manifest was written for.
    #[error("the SHA-256 of {path} is {actual}, but the manifest says {expected}")]
    Hash {
        /// The model.
        path: PathBuf,
        /// From the manifest.
        expected: String,
        /// Of the file.
        actual: String,
    },
    /// The model's file is none that can be used.
    #[error("the model {path} {source}")]
    File {
        /// The model.
        path: PathBuf,
        /// What is wrong with it.
        source: OnnxFileError,
    },
    /// The projection is not one of this model's output.
    #[error("{path} is no projection of {dims} numbers (a file of numpy, f4, with one column more)")]
    Projection {
        /// The file.
        path: PathBuf,
        /// Numbers of the model's output.
        dims: usize,
    },
    /// The model has weights in a file that the manifest does not have.
    #[error("the model keeps weights in {path}, which the manifest does not name under `external_data`")]
    Weights {
        /// As the model has it.
        path: PathBuf,
    },
}

/// A file of weights beside the model.
#[derive(Debug, Clone)]
struct ExternalFile {
    file: PathBuf,
    sha256: [u8; 32],
}

/// Shared between the sessions that are made from them.
#[derive(Clone)]
enum ModelBytes {
    /// A manifest without its model: only what can be checked without it has been.
    #[cfg(test)]
    Missing,
    Builtin(&'static [u8]),
    Read(Arc<Vec<u8>>),
}

impl Manifest {
    /// The default model inside this program: EfficientNet-Lite0 on 160 × 160 pixels, 320 dimensions.
    pub fn builtin() -> Result<Self, ManifestError> {
        Self::from_program(BUILTIN_MANIFEST, BUILTIN_MODEL)
    }

    /// The model of this name inside this program, if there is one.
    pub fn builtin_named(name: &str) -> Option<Result<Self, ManifestError>> {
        let (_, manifest, model) = BUILTIN.into_iter().find(|(builtin, ..)| *builtin == name)?;
        Some(Self::from_program(manifest, model))
    }

    /// The names of the models inside this program, the default first.
    pub fn builtin_names() -> [&'static str; BUILTIN.len()] {
        BUILTIN.map(|(name, ..)| name)
    }

    fn from_program(manifest: &str, model: &'static [u8]) -> Result<Self, ManifestError> {
        let mut manifest = Self::parse_unchecked(manifest)?;
        manifest.check_hash(model)?;
        manifest.about = manifest.check_file(model)?;
        manifest.model = ModelBytes::Builtin(model);
        Ok(manifest)
    }

    /// Reads a manifest and the model beside it.
    pub fn load(manifest_path: &Path) -> Result<Self, ManifestError> {
        // The parent of a bare file name is the empty path, which no system call accepts.
        let folder = manifest_path.parent().filter(|folder| !folder.as_os_str().is_empty());
        Self::load_from(manifest_path, folder.unwrap_or(Path::new(".")))
    }

    /// Reads a manifest and its model, which lies in `models_folder`.
    pub fn load_from(manifest_path: &Path, models_folder: &Path) -> Result<Self, ManifestError> {
        let text = read_bounded(manifest_path, MAX_MANIFEST_BYTES)?;
        let mut manifest = Self::parse_unchecked(&String::from_utf8_lossy(&text))?;
        let model = read_inside(models_folder, &manifest.file)?;
        manifest.check_hash(&model)?;
        manifest.model = ModelBytes::Read(Arc::new(model));
        for external in &manifest.external {
            let bytes = read_inside(models_folder, &external.file)?;
            check_hash(&external.file, &external.sha256, &bytes)?;
            manifest.external_bytes.push(bytes.into());
        }
        manifest.about = manifest.check_file(manifest.model())?;
        if let Some(ExternalFile { file, sha256 }) = &manifest.projection_file {
            let bytes = read_inside(models_folder, file)?;
            check_hash(file, sha256, &bytes)?;
            let map = LinearMap::read(&bytes).filter(|map| map.from_dims() == manifest.model_dims);
            let map = map.ok_or_else(|| ManifestError::Projection { path: file.clone(), dims: manifest.model_dims })?;
            manifest.projection = Some(map.into());
        }
        Ok(manifest)
    }

    #[cfg(test)]
    pub(super) fn parse(text: &str) -> Result<Self, ManifestError> {
        let mut manifest = Self::parse_unchecked(text)?;
        manifest.model = ModelBytes::Missing;
        Ok(manifest)
    }

    #[cfg(test)]
    pub(super) fn with_model(mut self, model: Vec<u8>) -> Self {
        self.model = ModelBytes::Read(Arc::new(model));
        self
    }

    /// Everything but the model's bytes.
    fn parse_unchecked(text: &str) -> Result<Self, ManifestError> {
        let file: ManifestFile = toml::from_str(text)?;
        Ok(Self { toml: text.into(), ..file.validate()? })
    }

    fn check_hash(&self, model: &[u8]) -> Result<(), ManifestError> {
        check_hash(&self.file, &self.sha256, model)
    }

    /// What can be told from the file without running it.
    fn check_file(&self, model: &[u8]) -> Result<Arc<OnnxFile>, ManifestError> {
        let about = OnnxFile::read(model).map_err(|source| ManifestError::File { path: self.file.clone(), source })?;
        let named = |path: &Path| self.external.iter().any(|external| external.file == path);
        match about.external.iter().find(|path| !named(path)) {
            Some(path) => Err(ManifestError::Weights { path: path.clone() }),
            None => Ok(Arc::new(about)),
        }
    }

    /// What the model's file says of itself.
    pub fn about(&self) -> &OnnxFile {
        &self.about
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The licence of the weights, as an SPDX expression where there is one.
    pub fn licence(&self) -> &str {
        &self.licence
    }

    /// Where the model comes from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// `name@` and eight digits that change with the model's bytes or the way it is fed: embeddings of different ids
    /// must not be compared.
    pub fn model_id(&self) -> &str {
        &self.model_id
    }

    /// The size of the model's pictures.
    pub fn input(&self) -> InputSize {
        self.input
    }

    /// The input's name in the model.
    pub fn input_name(&self) -> &str {
        &self.input_name
    }

    /// The order of the input's dimensions.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The input's numbers.
    pub fn element_type(&self) -> ElementType {
        self.element_type
    }

    /// The order of the colours.
    pub fn channels(&self) -> Channels {
        self.channels
    }

    /// What is subtracted from a byte, in the order of [`channels`](Self::channels).
    pub fn mean(&self) -> [f32; 3] {
        self.mean
    }

    /// What the difference is divided by, in the order of [`channels`](Self::channels).
    pub fn std(&self) -> [f32; 3] {
        self.std
    }

    /// The output's name in the model.
    pub fn output_name(&self) -> &str {
        &self.output_name
    }

    /// Dimensions of an embedding.
    pub fn dims(&self) -> usize {
        self.projection.as_ref().map_or(self.model_dims + self.metric.added_dims(), |map| map.dims())
    }

    /// How its outputs are compared.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Numbers of the model's output, before a [`projection`](Self::projection) or a [`metric`](Self::metric) adds to them.
    pub fn model_dims(&self) -> usize {
        self.model_dims
    }

    /// What becomes of the model's output, of unit length, before it is an embedding.
    pub fn projection(&self) -> Option<&Arc<LinearMap>> {
        self.projection.as_ref()
    }

    /// The text that this was read from.
    pub fn toml(&self) -> &str {
        &self.toml
    }

    /// How exactly its embeddings are to be kept in memory; `None` for as the settings say.
    pub fn precision(&self) -> Option<Precision> {
        self.precision
    }

    /// The files of weights beside the model: the names by which it knows them, and what they hold.
    pub fn external_data(&self) -> impl Iterator<Item = (&Path, Arc<[u8]>)> {
        self.external.iter().zip(&self.external_bytes).map(|(external, bytes)| (external.file.as_path(), bytes.clone()))
    }

    /// The SHA-256 of the ONNX file, in hexadecimal digits.
    pub fn sha256(&self) -> String {
        hex(&self.sha256)
    }

    /// The ONNX file.
    pub fn model(&self) -> &[u8] {
        match &self.model {
            #[cfg(test)]
            ModelBytes::Missing => &[],
            ModelBytes::Builtin(bytes) => bytes,
            ModelBytes::Read(bytes) => bytes,
        }
    }
}

impl std::fmt::Debug for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Manifest({}, {}×{}, {} dims)", self.model_id, self.input.width, self.input.height, self.dims())
    }
}

/// Reads a file of the folder of models. A link may lead outside even though the name does not; then it is refused.
fn read_inside(folder: &Path, file: &Path) -> Result<Vec<u8>, ManifestError> {
    let canonical =
        |path: &Path| path.canonicalize().map_err(|source| ManifestError::Read { path: path.to_owned(), source });
    let path = canonical(&folder.join(file))?;
    if !path.starts_with(canonical(folder)?) {
        return Err(ManifestError::Escape { path: file.to_owned() });
    }
    read_bounded(&path, MAX_MODEL_BYTES)
}

fn check_hash(file: &Path, expected: &[u8; 32], bytes: &[u8]) -> Result<(), ManifestError> {
    let actual = sha256(bytes);
    if actual == *expected {
        return Ok(());
    }
    Err(ManifestError::Hash { path: file.to_owned(), expected: hex(expected), actual: hex(&actual) })
}

fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, ManifestError> {
    let failed = |source| ManifestError::Read { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > limit {
        return Err(ManifestError::TooLarge { path: path.to_owned(), bytes, limit });
    }
    std::fs::read(path).map_err(failed)
}

#[cfg(test)]
mod tests;
