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
//! ```
//!
//! Unknown keys are refused, so that a typing error cannot turn normalisation off.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::checksum::{hex, parse_sha256, sha256};
use crate::domain::{Fit, InputSize};

/// ONNX files are protobuf messages, which end at 2 GiB.
const MAX_MODEL_BYTES: u64 = 2 << 30;
const MAX_MANIFEST_BYTES: u64 = 64 << 10;
const MAX_SIDE: u32 = 4096;
const MAX_DIMS: usize = 65_536;

const BUILTIN_MANIFEST: &str = include_str!("../../models/efficientnet-lite0.toml");
const BUILTIN_MODEL: &[u8] = include_bytes!("../../models/efficientnet-lite0.onnx");

/// A model, its bytes and the way it wants its pixels. Cheap to clone.
#[derive(Clone)]
pub struct Manifest {
    name: String,
    licence: String,
    source: String,
    file: PathBuf,
    sha256: [u8; 32],
    input_name: String,
    layout: Layout,
    element_type: ElementType,
    channels: Channels,
    input: InputSize,
    mean: [f32; 3],
    std: [f32; 3],
    output_name: String,
    dims: usize,
    model_id: String,
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
    #[error("the model {path} lies outside its folder")]
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
    /// The model inside this program: EfficientNet-Lite0 on 224 × 224 pixels, 320 dimensions.
    pub fn builtin() -> Result<Self, ManifestError> {
        let mut manifest = Self::parse_unchecked(BUILTIN_MANIFEST)?;
        manifest.check_hash(BUILTIN_MODEL)?;
        manifest.model = ModelBytes::Builtin(BUILTIN_MODEL);
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
        let canonical =
            |path: &Path| path.canonicalize().map_err(|source| ManifestError::Read { path: path.to_owned(), source });
        let model_path = canonical(&models_folder.join(&manifest.file))?;
        // A link may lead outside even though the name does not.
        if !model_path.starts_with(canonical(models_folder)?) {
            return Err(ManifestError::Escape { path: manifest.file });
        }
        let model = read_bounded(&model_path, MAX_MODEL_BYTES)?;
        manifest.check_hash(&model)?;
        manifest.model = ModelBytes::Read(Arc::new(model));
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
        file.validate()
    }

    fn check_hash(&self, model: &[u8]) -> Result<(), ManifestError> {
        let actual = sha256(model);
        if actual == self.sha256 {
            return Ok(());
        }
        Err(ManifestError::Hash { path: self.file.clone(), expected: hex(&self.sha256), actual: hex(&actual) })
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
        self.dims
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
        write!(f, "Manifest({}, {}×{}, {} dims)", self.model_id, self.input.width, self.input.height, self.dims)
    }
}

/// The manifest as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestFile {
    name: String,
    file: PathBuf,
    sha256: String,
    licence: String,
    source: String,
    input: InputTable,
    output: OutputTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputTable {
    name: String,
    layout: Layout,
    dtype: ElementType,
    width: u32,
    height: u32,
    channels: Channels,
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    fit: FitName,
    short_side: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputTable {
    name: String,
    dims: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FitName {
    CentreCrop,
    Stretch,
}

impl ManifestFile {
    fn validate(self) -> Result<Manifest, ManifestError> {
        check_name(&self.name)?;
        let escapes = self.file.components().any(|part| !matches!(part, Component::Normal(_)));
        if escapes || self.file.as_os_str().is_empty() {
            return Err(ManifestError::Escape { path: self.file });
        }
        let sha256 =
            parse_sha256(&self.sha256).ok_or_else(|| refuse("sha256", "must have 64 hexadecimal digits".to_owned()))?;
        let input = self.input.size()?;
        let (mean, std) = self.input.normalisation()?;
        if !(1..=MAX_DIMS).contains(&self.output.dims) {
            return Err(refuse("output.dims", format!("must be from 1 to {MAX_DIMS}, not {}", self.output.dims)));
        }
        let mut manifest = Manifest {
            name: self.name,
            licence: self.licence,
            source: self.source,
            file: self.file,
            sha256,
            input_name: self.input.name,
            layout: self.input.layout,
            element_type: self.input.dtype,
            channels: self.input.channels,
            input,
            mean,
            std,
            output_name: self.output.name,
            dims: self.output.dims,
            model_id: String::new(),
            model: ModelBytes::Builtin(&[]),
        };
        manifest.model_id = model_id(&manifest);
        Ok(manifest)
    }
}

impl InputTable {
    fn size(&self) -> Result<InputSize, ManifestError> {
        for (key, side) in [("input.width", self.width), ("input.height", self.height)] {
            if !(1..=MAX_SIDE).contains(&side) {
                return Err(refuse(key, format!("must be from 1 to {MAX_SIDE} pixels, not {side}")));
            }
        }
        let longer = self.width.max(self.height);
        let fit = match (self.fit, self.short_side) {
            (FitName::Stretch, None) => Fit::Stretch,
            (FitName::Stretch, Some(_)) => {
                return Err(refuse("input.short_side", "has no meaning when the fit is `stretch`".to_owned()));
            }
            (FitName::CentreCrop, None) => Fit::CentreCrop { short_side: longer },
            (FitName::CentreCrop, Some(short_side)) if (longer..=MAX_SIDE).contains(&short_side) => {
                Fit::CentreCrop { short_side }
            }
            (FitName::CentreCrop, Some(short_side)) => {
                let reason = format!("must be from {longer}, the input's longer side, to {MAX_SIDE}, not {short_side}");
                return Err(refuse("input.short_side", reason));
            }
        };
        Ok(InputSize { width: self.width, height: self.height, fit })
    }

    fn normalisation(&self) -> Result<([f32; 3], [f32; 3]), ManifestError> {
        let given = self.mean.is_some() || self.std.is_some();
        if self.dtype == ElementType::U8 && given {
            return Err(refuse("input.mean", "and `input.std` cannot be applied to bytes (dtype `u8`)".to_owned()));
        }
        let (mean, std) = (self.mean.unwrap_or([0.0; 3]), self.std.unwrap_or([1.0; 3]));
        if mean.iter().any(|value| !value.is_finite()) {
            return Err(refuse("input.mean", "must consist of finite numbers".to_owned()));
        }
        if std.iter().any(|value| !value.is_normal()) {
            return Err(refuse("input.std", "must consist of finite numbers other than zero".to_owned()));
        }
        Ok((mean, std))
    }
}

/// Ids end up in answers, logs and metric labels.
fn check_name(name: &str) -> Result<(), ManifestError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        return Err(refuse("name", "must have 1 to 64 letters, digits, dots, dashes and underscores".to_owned()));
    }
    Ok(())
}

fn refuse(key: &'static str, reason: String) -> ManifestError {
    ManifestError::Value { key, reason }
}

fn model_id(manifest: &Manifest) -> String {
    let m = manifest;
    let how = format!(
        "{} {:?} {:?} {:?} {:?} {:?} {:?} {} {}",
        hex(&m.sha256),
        m.layout,
        m.element_type,
        m.channels,
        m.input,
        m.mean,
        m.std,
        m.output_name,
        m.dims
    );
    format!("{}@{}", m.name, &hex(&sha256(how.as_bytes()))[..8])
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
mod tests {
    use super::*;

    const MODEL: &[u8] = b"not really a model";

    /// A folder with a model and the manifest `m.toml`, whose text is `edit`ed before it is written.
    fn folder(edit: impl Fn(String) -> String) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let text = BUILTIN_MANIFEST
            .replace("efficientnet-lite0.onnx", "m.onnx")
            .replace(&hex(&sha256(BUILTIN_MODEL)), &hex(&sha256(MODEL)));
        std::fs::write(folder.path().join("m.toml"), edit(text)).unwrap();
        std::fs::write(folder.path().join("m.onnx"), MODEL).unwrap();
        folder
    }

    fn load(edit: impl Fn(String) -> String) -> Result<Manifest, ManifestError> {
        Manifest::load(&folder(edit).path().join("m.toml"))
    }

    fn refused_key(from: &str, to: &str) -> &'static str {
        assert!(BUILTIN_MANIFEST.contains(from), "the test would change nothing");
        match load(|text| text.replace(from, to)) {
            Err(ManifestError::Value { key, .. }) => key,
            other => panic!("`{to}` was not refused as a value: {other:?}"),
        }
    }

    #[test]
    fn the_builtin_model_needs_no_files() {
        let manifest = Manifest::builtin().unwrap();
        // Stored embeddings carry this id: if it changes, everybody has to compute theirs again.
        assert_eq!(manifest.model_id(), "efficientnet-lite0@f8649eb1");
        assert_eq!(manifest.input(), InputSize { width: 224, height: 224, fit: Fit::CentreCrop { short_side: 256 } });
        assert_eq!(manifest.dims(), 320);
        assert_eq!(manifest.model().len(), BUILTIN_MODEL.len());
    }

    #[test]
    fn a_model_is_read_from_the_folder_of_its_manifest() {
        let manifest = load(|text| text).unwrap();
        assert_eq!(manifest.model(), MODEL);
        assert_eq!(manifest.licence(), "Apache-2.0");
    }

    #[test]
    fn the_id_changes_with_the_way_a_model_is_fed() {
        let (as_it_is, stretched) = (
            load(|text| text).unwrap(),
            load(|text| text.replace("\"centre_crop\"\nshort_side = 256", "\"stretch\"")).unwrap(),
        );
        assert_ne!(as_it_is.model_id(), stretched.model_id());
        // Prose is no part of it.
        let documented = load(|text| text.replace("Apache-2.0", "CC0-1.0")).unwrap();
        assert_eq!(as_it_is.model_id(), documented.model_id());
    }

    #[test]
    fn another_file_than_the_one_named_is_refused() {
        let folder = folder(|text| text);
        std::fs::write(folder.path().join("m.onnx"), b"something else").unwrap();
        let error = Manifest::load(&folder.path().join("m.toml")).unwrap_err();
        assert!(matches!(&error, ManifestError::Hash { actual, .. } if *actual == hex(&sha256(b"something else"))));
    }

    #[test]
    fn no_model_lies_outside_its_folder() {
        for outside in ["../m.onnx", "/etc/hostname", "a/../../m.onnx", "./m.onnx", ""] {
            let error = load(|text| text.replace("m.onnx", outside)).unwrap_err();
            assert!(matches!(error, ManifestError::Escape { .. }), "{outside}: {error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn no_link_leads_outside() {
        let (folder, elsewhere) = (folder(|text| text), tempfile::tempdir().unwrap());
        std::fs::write(elsewhere.path().join("m.onnx"), MODEL).unwrap();
        std::fs::remove_file(folder.path().join("m.onnx")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join("m.onnx"), folder.path().join("m.onnx")).unwrap();
        let error = Manifest::load(&folder.path().join("m.toml")).unwrap_err();
        assert!(matches!(error, ManifestError::Escape { .. }), "{error}");
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let error = load(|text| text.replace("channels =", "chanels =")).unwrap_err();
        assert!(error.to_string().contains("chanels"), "{error}");
        let error = load(|text| text.replace("dims = 320", "")).unwrap_err();
        assert!(error.to_string().contains("dims"), "{error}");
        assert!(matches!(load(|_| "\u{0}".to_owned()), Err(ManifestError::Syntax(_))));
        let missing = Manifest::load(Path::new("no/such/manifest.toml"));
        assert!(matches!(missing, Err(ManifestError::Read { .. })));
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        assert_eq!(refused_key("name = \"efficientnet-lite0\"", "name = \"a b\""), "name");
        assert_eq!(refused_key("sha256 = \"", "sha256 = \"0"), "sha256");
        assert_eq!(refused_key("width = 224", "width = 0"), "input.width");
        assert_eq!(refused_key("height = 224", "height = 1000000"), "input.height");
        assert_eq!(refused_key("short_side = 256", "short_side = 223"), "input.short_side");
        assert_eq!(refused_key("\"centre_crop\"", "\"stretch\""), "input.short_side");
        assert_eq!(refused_key("dims = 320", "dims = 0"), "output.dims");
        assert_eq!(refused_key("\"u8\"", "\"u8\"\nmean = [1.0, 1.0, 1.0]"), "input.mean");
        assert_eq!(refused_key("\"u8\"", "\"f32\"\nmean = [nan, 1.0, 1.0]"), "input.mean");
        assert_eq!(refused_key("\"u8\"", "\"f32\"\nstd = [1.0, 0.0, 1.0]"), "input.std");
    }
}
