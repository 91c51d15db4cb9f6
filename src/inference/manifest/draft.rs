//! What would the manifest of this file be? What the file says itself, and what only its maker knows, as TOML.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{Channels, ElementType, Layout};
use crate::domain::Fit;
use crate::inference::checksum::{hex, sha256};
use crate::inference::onnx_file::{OnnxFile, TensorInfo};

/// A manifest that is being written. What is `None` is taken from the model's file, if that says it.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// The model's name.
    pub name: String,
    /// The licence of its weights.
    pub licence: String,
    /// Where it comes from.
    pub source: String,
    /// Its input's name.
    pub input: Option<String>,
    /// The order of the input's dimensions.
    pub layout: Option<Layout>,
    /// Width and height of the input.
    pub size: Option<(u32, u32)>,
    /// The order of the colours; red first if not given.
    pub channels: Option<Channels>,
    /// What is subtracted from a byte, and what the difference is divided by; for models that take floats.
    pub normalisation: Option<([f32; 3], [f32; 3])>,
    /// How pictures are made to fit; the middle of one whose short side is an eighth longer than the input if not given.
    pub fit: Option<Fit>,
    /// The output's name.
    pub output: Option<String>,
    /// Numbers of the output for each picture.
    pub dims: Option<usize>,
}

/// What a draft lacks, or what does not go together with the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// Several inputs or outputs, or none of that name.
    #[error("the model has the {what}s {}; {advice}", .names.join(", "))]
    Which {
        /// `input` or `output`.
        what: &'static str,
        /// Those that there are.
        names: Vec<String>,
        /// What to do.
        advice: &'static str,
    },
    /// Something that has to be said.
    #[error("the model does not say its {0}; it has to be given")]
    Unsaid(&'static str),
    /// Bytes cannot be normalised.
    #[error("the model takes bytes and normalises them by itself; mean and deviation cannot be given")]
    Bytes,
    /// The input is no batch of pictures.
    #[error("the input `{name}` is no batch of colour pictures of bytes or 32-bit floats: {found}")]
    NoPictures {
        /// The input.
        name: String,
        /// Its type and shape.
        found: String,
    },
}

impl Draft {
    /// The manifest of the model in `file`, whose bytes are `model`, with its files of weights and their bytes.
    pub fn manifest(
        &self,
        file: &Path,
        model: &[u8],
        about: &OnnxFile,
        weights: &[(PathBuf, Vec<u8>)],
    ) -> Result<String, DraftError> {
        let input = named(&about.inputs, self.input.as_deref(), "input", "only models with one input can be used")?;
        let output = named(&about.outputs, self.output.as_deref(), "output", "say which one is the embedding")?;
        let element_type = match input.element_type {
            1 => ElementType::F32,
            2 => ElementType::U8,
            _ => return Err(no_pictures(input)),
        };
        let (layout, size) = self.layout_and_size(input)?;
        let dims = match (self.dims, &output.shape[..]) {
            (Some(dims), _) => dims,
            (None, [_, sides @ ..]) if !sides.is_empty() => {
                let sides = sides.iter().copied().try_fold(1_i64, |product, side| product.checked_mul(side?));
                sides.and_then(|dims| usize::try_from(dims).ok()).ok_or(DraftError::Unsaid("dimensions"))?
            }
            (None, _) => return Err(DraftError::Unsaid("dimensions")),
        };
        let normalisation = match element_type {
            // Its channels may be said; 0 and 1 say nothing.
            ElementType::U8 if self.normalisation.is_some_and(|said| said != ([0.0; 3], [1.0; 3])) => {
                return Err(DraftError::Bytes);
            }
            ElementType::U8 => None,
            ElementType::F32 => Some(self.normalisation.ok_or(DraftError::Unsaid("mean and deviation"))?),
        };

        let text = |value: &str| toml::Value::String(value.to_owned()).to_string();
        let path = |value: &Path| text(&value.to_string_lossy());
        let mut toml = format!(
            "# Written by `upnext models add`.\n\nname = {}\nfile = {}\nsha256 = \"{}\"\nlicence = {}\nsource = {}\n\n[input]\nname = {}\n",
            text(&self.name),
            path(file),
            hex(&sha256(model)),
            text(&self.licence),
            text(&self.source),
            text(&input.name)
        );
        let mut key = |key: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(toml, "{key} = {value}");
        };
        key(
            "layout",
            match layout {
                Layout::Nhwc => "\"nhwc\"",
                Layout::Nchw => "\"nchw\"",
            },
        );
        key(
            "dtype",
            match element_type {
                ElementType::U8 => "\"u8\"",
                ElementType::F32 => "\"f32\"",
            },
        );
        key("width", &size.0.to_string());
        key("height", &size.1.to_string());
        key(
            "channels",
            match self.channels {
                Some(Channels::Bgr) => "\"bgr\"",
                Some(Channels::Rgb) | None => "\"rgb\"",
            },
        );
        if let Some((mean, std)) = normalisation {
            key("mean", &format!("{mean:?}"));
            key("std", &format!("{std:?}"));
        }
        let longer = size.0.max(size.1);
        match self.fit.unwrap_or(Fit::CentreCrop { short_side: longer + longer.div_ceil(7) }) {
            Fit::Stretch => key("fit", "\"stretch\""),
            Fit::CentreCrop { short_side } => {
                key("fit", "\"centre_crop\"");
                key("short_side", &short_side.to_string());
            }
        }
        let _ = write!(toml, "\n[output]\nname = {}\ndims = {dims}\n", text(&output.name));
        for (file, bytes) in weights {
            let _ = write!(toml, "\n[[external_data]]\nfile = {}\nsha256 = \"{}\"\n", path(file), hex(&sha256(bytes)));
        }
        Ok(toml)
    }

    fn layout_and_size(&self, input: &TensorInfo) -> Result<(Layout, (u32, u32)), DraftError> {
        let &[_, second, third, fourth] = &input.shape[..] else { return Err(no_pictures(input)) };
        let may_be = |side: Option<i64>| side.is_none_or(|side| side == 3);
        let layout = match self.layout {
            Some(layout) => layout,
            None => match (second, fourth) {
                (Some(3), Some(3)) => return Err(DraftError::Unsaid("layout")),
                (Some(3), _) => Layout::Nchw,
                (_, Some(3)) => Layout::Nhwc,
                (None, _) | (_, None) => return Err(DraftError::Unsaid("layout")),
                (Some(_), Some(_)) => return Err(no_pictures(input)),
            },
        };
        let (channels, height, width) = match layout {
            Layout::Nchw => (second, third, fourth),
            Layout::Nhwc => (fourth, second, third),
        };
        if !may_be(channels) {
            return Err(no_pictures(input));
        }
        let side = |side: Option<i64>| side.and_then(|side| u32::try_from(side).ok());
        let size = self.size.or_else(|| side(width).zip(side(height))).ok_or(DraftError::Unsaid("size"))?;
        Ok((layout, size))
    }
}

fn named<'a>(
    tensors: &'a [TensorInfo],
    name: Option<&str>,
    what: &'static str,
    advice: &'static str,
) -> Result<&'a TensorInfo, DraftError> {
    let found = match (name, tensors) {
        (Some(name), _) => tensors.iter().find(|tensor| tensor.name == name),
        (None, [one]) => Some(one),
        (None, _) => None,
    };
    let names = || tensors.iter().map(|tensor| format!("`{}`", tensor.name)).collect();
    found.ok_or_else(|| DraftError::Which { what, names: names(), advice })
}

fn no_pictures(input: &TensorInfo) -> DraftError {
    let sides: Vec<String> =
        input.shape.iter().map(|side| side.map_or("any".to_owned(), |side| side.to_string())).collect();
    let found = format!("{} of ONNX's type {}", sides.join(" × "), input.element_type);
    DraftError::NoPictures { name: input.name.clone(), found }
}
