//! `upnext models`: which models are there, does one run, how fast is it, and how does another one come in?

mod add;
mod bench;
mod embed;

use std::path::Path;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

use super::output::{line, note};
use super::target::TargetArgs;
use super::{CliError, Common, start_logging, tokio_runtime};
use crate::config::Settings;
use crate::inference::{
    Backend, Channels, Described, ElementType, Layout, Manifest, OPSETS, OnnxBackend, OnnxOptions, PixelBatch,
    model_named, models_in,
};

/// List, check, measure and add models that look at pictures
///
/// Models lie in the folder of `inference.models_dir`: an ONNX file each, and a manifest (TOML) that says how it wants its
/// pictures. Some are built in. Which ones are used is chosen by `inference.model` and `inference.also`, or of a running server over
/// `/v1/admin/models`.
#[derive(Debug, Subcommand)]
pub(super) enum Models {
    /// List the models of the folder and the built-in ones; with --url, those of a running server and what it does with them
    List(List),
    /// Check models: manifest, hashes, operators, names, shapes and types; and let each see a picture
    Check(Check),
    /// Say how many milliseconds a picture takes, by batch size and threads
    Bench(bench::Bench),
    /// Print the embeddings of pictures
    Embed(embed::Embed),
    /// Copy a model into the folder, with a manifest made of what its file says and what you say
    Add(add::Add),
}

/// List the models
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    target: TargetArgs,
}

/// Check models
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Their names; all of the folder and all built-in ones if left out
    names: Vec<String>,
}

impl Models {
    pub(super) fn run(self, common: &Common) -> Result<(), CliError> {
        let settings = common.quiet_settings()?;
        start_logging(&settings)?;
        match self {
            Self::List(list) => list.run(&settings),
            Self::Check(check) => check.run(&settings),
            Self::Bench(bench) => bench.run(&settings),
            Self::Embed(embed) => embed.run(&settings),
            Self::Add(add) => add.run(&settings),
        }
    }
}

impl List {
    fn run(&self, settings: &Settings) -> Result<(), CliError> {
        if let Some(connection) = self.target.remote()? {
            let answer =
                tokio_runtime()?.block_on(connection.answer(connection.request(Method::GET, "/v1/admin/models")))?;
            return list_of_server(&answer);
        }
        let configured = |name: &str| {
            let inference = &settings.inference;
            if inference.model == name {
                "chosen"
            } else if inference.also.iter().any(|also| also.name == name) {
                "chosen beside"
            } else {
                ""
            }
        };
        for Described { name, manifest } in models_in(&settings.inference.models_dir) {
            let about = match manifest {
                Ok(manifest) => format!(
                    "{:<34} {:>5} numbers  {:>9}  {:>7.1} MB  {}",
                    manifest.model_id(),
                    manifest.dims(),
                    size(&manifest),
                    megabytes(&manifest),
                    manifest.licence()
                ),
                Err(error) => format!("{name:<34} cannot be used: {error}"),
            };
            line(format!("{about}  {}", configured(&name)).trim_end());
        }
        Ok(())
    }
}

fn list_of_server(answer: &Value) -> Result<(), CliError> {
    let unexpected = || CliError::Failed("the server answered something else than its models".into());
    for model in answer["models"].as_array().ok_or_else(unexpected)? {
        let text = |field: &str| model[field].as_str().unwrap_or_default().to_owned();
        let about = match model["id"].as_str() {
            Some(id) => format!("{id:<34} {:>5} numbers  {}", model["dims"], text("licence")),
            None => format!("{:<34} cannot be used: {}", text("name"), text("problem")),
        };
        line(format!("{about}  {}", text("state")).trim_end());
    }
    if let Some(coming) = answer.get("coming").filter(|coming| !coming.is_null()) {
        note(format_args!("others take over: {} pictures' items are left to be looked at", coming["items_left"]));
    }
    Ok(())
}

impl Check {
    fn run(self, settings: &Settings) -> Result<(), CliError> {
        load_runtime(settings)?;
        let folder = &settings.inference.models_dir;
        let found: Vec<Described> = if self.names.is_empty() {
            models_in(folder)
        } else {
            let named = |name: String| Described { manifest: model_named(folder, &name), name };
            self.names.into_iter().map(named).collect()
        };
        let mut bad = 0;
        for Described { name, manifest } in found {
            let checked = manifest.map_err(|error| error.to_string()).and_then(|manifest| check(&manifest));
            if let Err(reason) = checked {
                bad += 1;
                line(format_args!("{name}: cannot be used\n  {reason}"));
            }
        }
        match bad {
            0 => Ok(()),
            1 => Err(CliError::Failed("a model cannot be used".into())),
            many => Err(CliError::Failed(format!("{many} models cannot be used"))),
        }
    }
}

/// Says what a model is, and lets it see a picture.
fn check(manifest: &Manifest) -> Result<(), String> {
    let about = manifest.about();
    let (took, dims) = see(manifest)?;
    line(format_args!("{}: good", manifest.model_id()));
    line(format_args!("  file     {:.1} MB, sha256 {} as the manifest says", megabytes(manifest), manifest.sha256()));
    for (file, bytes) in manifest.external_data() {
        line(format_args!(
            "  weights  {}, {:.1} MB, hash as the manifest says",
            file.display(),
            bytes.len() as f64 / 1e6
        ));
    }
    let producer = if about.producer.is_empty() { "an unnamed program" } else { &about.producer };
    line(format_args!(
        "  made by  {producer}, operator set {} ({} to {} can be run)",
        about.opset,
        OPSETS.start(),
        OPSETS.end()
    ));
    line(format_args!(
        "  input    `{}`, {} pixels, {}, {}, {}",
        manifest.input_name(),
        size(manifest),
        match manifest.layout() {
            Layout::Nchw => "nchw",
            Layout::Nhwc => "nhwc",
        },
        match manifest.element_type() {
            ElementType::F32 => "f32",
            ElementType::U8 => "u8",
        },
        match manifest.channels() {
            Channels::Rgb => "rgb",
            Channels::Bgr => "bgr",
        },
    ));
    match manifest.projection() {
        None => line(format_args!("  output   `{}`, {dims} numbers", manifest.output_name())),
        Some(_) => line(format_args!(
            "  output   `{}`, {} numbers, by a projection {dims}",
            manifest.output_name(),
            manifest.model_dims()
        )),
    }
    line(format_args!("  runs     a picture in {:.1} ms on one thread", took.as_secs_f64() * 1e3));
    Ok(())
}

/// Loads a model and lets it see a picture that is not grey, whose embedding must be one and the same each time.
fn see(manifest: &Manifest) -> Result<(Duration, usize), String> {
    let mut backend = OnnxBackend::load(manifest, &OnnxOptions::default()).map_err(|error| error.to_string())?;
    let picture = picture(manifest);
    let mut once = || {
        let batch = PixelBatch::new(manifest.input(), vec![&picture]).ok_or("a picture has another size")?;
        let begun = Instant::now();
        let mut seen = backend.embed(&batch).map_err(|error| error.to_string())?;
        let embedding = seen.pop().ok_or("the model answered nothing")?.map_err(|error| error.to_string())?;
        Ok::<_, String>((begun.elapsed(), embedding))
    };
    let ((_, first), (took, second)) = (once()?, once()?);
    let cosine = first.cosine(&second);
    if cosine < 0.999 {
        return Err(format!("it answers the same picture differently: the cosine of two answers is {cosine}"));
    }
    Ok((took, second.dims()))
}

/// A picture with something in it: multiplying by an odd number spreads the bytes.
fn picture(manifest: &Manifest) -> Vec<u8> {
    (0..manifest.input().bytes()).map(|i| ((i / 96).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn load_runtime(settings: &Settings) -> Result<(), CliError> {
    let located = super::runtime::ensure(settings.inference.runtime_path.as_deref())?;
    Ok(crate::inference::runtime::load(&located)?)
}

/// The model of this name, or of the manifest in this file.
fn find(folder: &Path, name: &str) -> Result<Manifest, CliError> {
    model_named(folder, name).map_err(|error| CliError::Failed(format!("{name}: {error}")))
}

fn size(manifest: &Manifest) -> String {
    format!("{} × {}", manifest.input().width, manifest.input().height)
}

fn megabytes(manifest: &Manifest) -> f64 {
    let outside: usize = manifest.external_data().map(|(_, bytes)| bytes.len()).sum();
    (manifest.model().len() + outside) as f64 / 1e6
}
