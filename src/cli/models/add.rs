//! `upnext models add`: how does a model from elsewhere come into the folder? With a manifest, and only if it runs.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::{check, load_runtime};
use crate::cli::CliError;
use crate::cli::output::line;
use crate::config::Settings;
use crate::domain::Fit;
use crate::inference::{Channels, Draft, DraftError, Layout, Manifest, ManifestError, OnnxFile, model_named};

/// Add a model
///
/// Names, shapes and types are read from the file; say what it does not. The model is checked as `upnext models check` does before
/// anything appears in the folder.
#[derive(Debug, Args)]
pub(in crate::cli) struct Add {
    /// The ONNX file; files of weights beside it come along
    file: PathBuf,
    /// What it is to be called: letters, digits, dots, dashes and underscores
    #[arg(long)]
    name: String,
    /// The licence of its weights, such as `Apache-2.0`
    #[arg(long)]
    licence: String,
    /// Where it comes from
    #[arg(long, default_value = "added by hand")]
    source: String,
    /// How pictures were prepared when it was trained: colours, mean and deviation
    #[arg(long, value_enum, conflicts_with_all = ["mean", "std", "channels"])]
    preset: Option<Preset>,
    /// Of bytes, in the order of the channels: (byte − mean) / std
    #[arg(long, value_name = "A,B,C", value_parser = three, allow_hyphen_values = true)]
    mean: Option<[f32; 3]>,
    /// Of bytes; 1,1,1 if only the mean is given
    #[arg(long, value_name = "A,B,C", value_parser = three, requires = "mean")]
    std: Option<[f32; 3]>,
    /// The order of the colours
    #[arg(long, value_enum)]
    channels: Option<ChannelsArg>,
    /// The order of the input's sides, if the file leaves it open
    #[arg(long, value_enum)]
    layout: Option<LayoutArg>,
    /// Width and height, if the file leaves them open: `224` or `224x128`
    #[arg(long, value_name = "PIXELS", value_parser = size)]
    size: Option<(u32, u32)>,
    /// Whether the middle of a picture is taken or all of it, stretched
    #[arg(long, value_enum, default_value_t = FitArg::CentreCrop)]
    fit: FitArg,
    /// For `centre-crop`: the short side before the middle is cut out; an eighth more than the input if left out
    #[arg(long, value_name = "PIXELS")]
    short_side: Option<u32>,
    /// The output that is the embedding, if there are several
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// Numbers of the output for a picture, if the file leaves that open
    #[arg(long, value_name = "COUNT")]
    dims: Option<usize>,
    /// Take the place of a model of this name
    #[arg(long)]
    replace: bool,
}

/// What the makers of models usually do to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Preset {
    /// RGB, with the mean and deviation of `torchvision` and most of `timm`
    Imagenet,
    /// RGB from −1 to 1: most networks of TensorFlow
    Tensorflow,
    /// BGR less 104, 117, 123: Caffe
    Caffe,
    /// RGB from 0 to 1
    Unit,
    /// RGB from 0 to 255: the model does the rest
    Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ChannelsArg {
    Rgb,
    Bgr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LayoutArg {
    Nchw,
    Nhwc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FitArg {
    CentreCrop,
    Stretch,
}

fn three(text: &str) -> Result<[f32; 3], String> {
    let numbers: Result<Vec<f32>, _> = text.split(',').map(|number| number.trim().parse::<f32>()).collect();
    numbers.ok().and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| "must be three numbers, as 1,2,3".to_owned())
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let (width, height) = text.split_once('x').unwrap_or((text, text));
    width.parse().ok().zip(height.parse().ok()).ok_or_else(|| "must be like 224 or 224x128".to_owned())
}

impl Preset {
    fn values(self) -> (Channels, [f32; 3], [f32; 3]) {
        match self {
            Self::Imagenet => (Channels::Rgb, [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
            Self::Tensorflow => (Channels::Rgb, [127.5; 3], [127.5; 3]),
            Self::Caffe => (Channels::Bgr, [104.0, 117.0, 123.0], [1.0; 3]),
            Self::Unit => (Channels::Rgb, [0.0; 3], [255.0; 3]),
            Self::Bytes => (Channels::Rgb, [0.0; 3], [1.0; 3]),
        }
    }
}

/// A folder that goes when this is dropped.
struct Stage(PathBuf);

impl Drop for Stage {
    fn drop(&mut self) {
        // What is left there is only copies.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What is wrong, and which option says it.
fn with_flag(error: &DraftError) -> String {
    let flag = match error {
        DraftError::Unsaid("layout") => " with --layout",
        DraftError::Unsaid("size") => " with --size",
        DraftError::Unsaid("dimensions") => " with --dims",
        DraftError::Unsaid(_) => " with --preset, or with --mean and --std",
        DraftError::Which { what: "output", .. } => " with --output",
        DraftError::Which { .. } | DraftError::NoPictures { .. } | DraftError::Bytes => "",
    };
    format!("{error}{flag}")
}

impl Add {
    pub(super) fn run(self, settings: &Settings) -> Result<(), CliError> {
        let folder = &settings.inference.models_dir;
        match model_named(folder, &self.name) {
            Err(error @ ManifestError::Value { key: "name", .. }) => return Err(CliError::Failed(error.to_string())),
            Ok(_) if !self.replace => {
                let reason = format!("there is a model {} already; --replace takes its place", self.name);
                return Err(CliError::Failed(reason));
            }
            Ok(_) | Err(_) => {}
        }
        let manifest_path = folder.join(format!("{}.toml", self.name));
        load_runtime(settings)?;
        let model = fs::read(&self.file).map_err(CliError::io(self.file.display()))?;
        let refused = |error: &dyn std::fmt::Display| CliError::Failed(format!("{}: {error}", self.file.display()));
        let about = OnnxFile::read(&model).map_err(|error| refused(&format!("the model {error}")))?;
        let from = self.file.parent().unwrap_or(Path::new(""));
        let mut weights = Vec::new();
        for file in &about.external {
            let bytes = fs::read(from.join(file)).map_err(CliError::io(from.join(file).display()))?;
            weights.push((file.clone(), bytes));
        }
        let file = PathBuf::from(format!("{}.onnx", self.name));
        let toml =
            self.draft().manifest(&file, &model, &about, &weights).map_err(|error| refused(&with_flag(&error)))?;

        // Made and tried in a folder of its own, so that a server that looks meanwhile sees all of it or nothing.
        let stage = Stage(folder.join(format!(".adding-{}-{}", self.name, std::process::id())));
        fs::create_dir_all(&stage.0).map_err(CliError::io(stage.0.display()))?;
        let write = |file: &Path, bytes: &[u8]| {
            let path = stage.0.join(file);
            let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, bytes));
            made.map_err(CliError::io(path.display()))
        };
        write(&file, &model)?;
        for (file, bytes) in &weights {
            write(file, bytes)?;
        }
        let staged = Path::new("manifest.toml");
        write(staged, toml.as_bytes())?;
        let manifest = Manifest::load(&stage.0.join(staged)).map_err(|error| refused(&error))?;
        check(&manifest).map_err(|reason| refused(&reason))?;

        // Weights of another model must not be overwritten by ones that happen to be called alike.
        for (file, bytes) in &weights {
            let there = folder.join(file);
            if !self.replace && there.exists() && fs::read(&there).ok().as_deref() != Some(bytes.as_slice()) {
                return Err(CliError::Failed(format!(
                    "{}: another file of that name is there already",
                    there.display()
                )));
            }
        }
        let each = weights.iter().map(|(file, _)| file.as_path()).chain([file.as_path()]);
        for (from, to) in each.map(|file| (file, folder.join(file))).chain([(staged, manifest_path.clone())]) {
            let made = to.parent().map_or(Ok(()), fs::create_dir_all);
            made.and_then(|()| fs::rename(stage.0.join(from), &to)).map_err(CliError::io(to.display()))?;
        }
        line(format_args!(
            "wrote {}; to use it: upnext serve --set inference.model={}",
            manifest_path.display(),
            self.name
        ));
        Ok(())
    }

    fn draft(&self) -> Draft {
        let preset = self.preset.map(Preset::values);
        let by_hand = self.mean.map(|mean| (mean, self.std.unwrap_or([1.0; 3])));
        Draft {
            name: self.name.clone(),
            licence: self.licence.clone(),
            source: self.source.clone(),
            input: None,
            layout: self.layout.map(|layout| match layout {
                LayoutArg::Nchw => Layout::Nchw,
                LayoutArg::Nhwc => Layout::Nhwc,
            }),
            size: self.size,
            channels: preset.map(|(channels, ..)| channels).or(self.channels.map(|channels| match channels {
                ChannelsArg::Rgb => Channels::Rgb,
                ChannelsArg::Bgr => Channels::Bgr,
            })),
            normalisation: preset.map(|(_, mean, std)| (mean, std)).or(by_hand),
            fit: match (self.fit, self.short_side) {
                (FitArg::Stretch, _) => Some(Fit::Stretch),
                (FitArg::CentreCrop, short_side) => short_side.map(|short_side| Fit::CentreCrop { short_side }),
            },
            output: self.output.clone(),
            dims: self.dims,
        }
    }
}
