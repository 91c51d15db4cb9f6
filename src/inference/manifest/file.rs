//! What may stand in a manifest? The TOML as it is written, and what it must satisfy.

use std::path::{Component, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::{Channels, ElementType, ExternalFile, Layout, Manifest, ManifestError, ModelBytes};
use crate::domain::{Fit, InputSize, Precision};
use crate::inference::checksum::{hex, parse_sha256, sha256};
use crate::inference::metric::Metric;

const MAX_SIDE: u32 = 4096;
/// As many as an index takes.
const MAX_DIMS: usize = 16_384;
const MAX_EXTERNAL_FILES: usize = 16;

/// The manifest as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManifestFile {
    name: String,
    file: PathBuf,
    sha256: String,
    licence: String,
    source: String,
    input: InputTable,
    output: OutputTable,
    #[serde(default)]
    external_data: Vec<ExternalTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExternalTable {
    file: PathBuf,
    sha256: String,
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
    projection: Option<ExternalTable>,
    metric: Option<MetricName>,
    max_norm: Option<f32>,
    precision: Option<PrecisionName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MetricName {
    Cosine,
    Dot,
    L2,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PrecisionName {
    Int8,
    Int16,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FitName {
    CentreCrop,
    Stretch,
}

impl ManifestFile {
    /// Everything that can be checked without the model.
    pub(super) fn validate(self) -> Result<Manifest, ManifestError> {
        check_name(&self.name)?;
        let file = inside(self.file)?;
        let sha256 = digest("sha256", &self.sha256)?;
        if self.external_data.len() > MAX_EXTERNAL_FILES {
            return Err(refuse("external_data", format!("may name at most {MAX_EXTERNAL_FILES} files")));
        }
        let external = self.external_data.into_iter().map(|table| {
            Ok(ExternalFile { file: inside(table.file)?, sha256: digest("external_data.sha256", &table.sha256)? })
        });
        let external = external.collect::<Result<Vec<_>, ManifestError>>()?;
        let metric = self.output.metric()?;
        let projection = self.output.projection.map(|table| {
            Ok::<_, ManifestError>(ExternalFile {
                file: inside(table.file)?,
                sha256: digest("output.projection.sha256", &table.sha256)?,
            })
        });
        let projection: Option<ExternalFile> = projection.transpose()?;
        let input = self.input.size()?;
        let (mean, std) = self.input.normalisation()?;
        if !(1..=MAX_DIMS).contains(&self.output.dims) {
            return Err(refuse("output.dims", format!("must be from 1 to {MAX_DIMS}, not {}", self.output.dims)));
        }
        let precision = self.output.precision.map(|name| match name {
            PrecisionName::Int8 => Precision::Int8,
            PrecisionName::Int16 => Precision::Int16,
        });
        let mut manifest = Manifest {
            name: self.name,
            licence: self.licence,
            source: self.source,
            file,
            sha256,
            external,
            external_bytes: Vec::new(),
            input_name: self.input.name,
            layout: self.input.layout,
            element_type: self.input.dtype,
            channels: self.input.channels,
            input,
            mean,
            std,
            output_name: self.output.name,
            model_dims: self.output.dims,
            metric,
            projection_file: projection,
            projection: None,
            toml: String::new().into(),
            precision,
            model_id: String::new(),
            about: Arc::default(),
            model: ModelBytes::Builtin(&[]),
        };
        manifest.model_id = model_id(&manifest);
        Ok(manifest)
    }
}

impl OutputTable {
    fn metric(&self) -> Result<Metric, ManifestError> {
        let name = self.metric.unwrap_or(MetricName::Cosine);
        let max_norm = match (name, self.max_norm) {
            (MetricName::Cosine, None) => return Ok(Metric::Cosine),
            (MetricName::Cosine, Some(_)) => {
                return Err(refuse("output.max_norm", "has no meaning when the metric is `cosine`".to_owned()));
            }
            (_, Some(max_norm)) if max_norm.is_normal() && max_norm > 0.0 => max_norm,
            (_, Some(_)) => return Err(refuse("output.max_norm", "must be a number above 0".to_owned())),
            (_, None) => {
                let reason = "is needed with this metric: the greatest length of an output".to_owned();
                return Err(refuse("output.max_norm", reason));
            }
        };
        if self.projection.is_some() {
            return Err(refuse("output.projection", "can be had with the metric `cosine` only".to_owned()));
        }
        Ok(match name {
            MetricName::Cosine => Metric::Cosine,
            MetricName::Dot => Metric::Dot { max_norm },
            MetricName::L2 => Metric::L2 { max_norm },
        })
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
pub(in crate::inference) fn check_name(name: &str) -> Result<(), ManifestError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        return Err(refuse("name", "must have 1 to 64 letters, digits, dots, dashes and underscores".to_owned()));
    }
    Ok(())
}

/// A path that names something below the folder of models; whether a link leads out of it is seen when it is opened.
fn inside(path: PathBuf) -> Result<PathBuf, ManifestError> {
    let escapes = path.components().any(|part| !matches!(part, Component::Normal(_)));
    if escapes || path.as_os_str().is_empty() { Err(ManifestError::Escape { path }) } else { Ok(path) }
}

fn digest(key: &'static str, text: &str) -> Result<[u8; 32], ManifestError> {
    parse_sha256(text).ok_or_else(|| refuse(key, "must have 64 hexadecimal digits".to_owned()))
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
        m.model_dims
    );
    let how = if m.metric == Metric::Cosine { how } else { format!("{how} {:?}", m.metric) };
    let how = m
        .external
        .iter()
        .chain(&m.projection_file)
        .fold(how, |how, external| format!("{how} {}", hex(&external.sha256)));
    format!("{}@{}", m.name, &hex(&sha256(how.as_bytes()))[..8])
}
