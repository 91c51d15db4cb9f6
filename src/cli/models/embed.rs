//! `upnext models embed`: what does a model make of these pictures? To compare with what other programs make of them.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{find, load_runtime};
use crate::cli::CliError;
use crate::cli::output::line;
use crate::config::Settings;
use crate::inference::{Backend as _, OnnxBackend, OnnxOptions, PixelBatch};
use crate::vision::{self, DecodeLimits};

/// Print the embeddings of pictures, a JSON line each
///
/// Pictures are decoded, cut and scaled as the service does it.
#[derive(Debug, Args)]
pub(in crate::cli) struct Embed {
    /// The pictures
    #[arg(required = true, value_name = "FILE")]
    pictures: Vec<PathBuf>,
    /// The model; the one that the settings choose if left out
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

impl Embed {
    pub(super) fn run(self, settings: &Settings) -> Result<(), CliError> {
        load_runtime(settings)?;
        let manifest =
            find(&settings.inference.models_dir, self.model.as_deref().unwrap_or(&settings.inference.model))?;
        let failed = |error: &dyn std::fmt::Display| CliError::Failed(format!("{}: {error}", manifest.name()));
        let mut backend = OnnxBackend::load(&manifest, &OnnxOptions::default()).map_err(|error| failed(&error))?;
        for file in &self.pictures {
            let refused = |error: &dyn std::fmt::Display| CliError::Failed(format!("{}: {error}", file.display()));
            let bytes = std::fs::read(file).map_err(CliError::io(file.display()))?;
            let pixels = vision::decode(&bytes, &DecodeLimits::default()).map_err(|error| refused(&error))?;
            let input = vision::preprocess(&pixels, manifest.input()).map_err(|error| refused(&error))?;
            let batch =
                PixelBatch::new(manifest.input(), vec![&input]).ok_or_else(|| failed(&"a picture has another size"))?;
            let seen = backend.embed(&batch).map_err(|error| failed(&error))?;
            let embedding = seen.into_iter().next().ok_or_else(|| failed(&"the model answered nothing"))?;
            let embedding = embedding.map_err(|error| refused(&error))?;
            line(
                json!({"file": file.display().to_string(), "model": manifest.model_id(), "embedding": embedding.as_slice()}),
            );
        }
        Ok(())
    }
}
