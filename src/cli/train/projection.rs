//! `upnext train projection`: which likeness would show what people turn to together?

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::evaluate::{Catalogue, stored};
use crate::cli::output::line;
use crate::cli::{CliError, Common, start_logging};
use crate::config::Settings;
use crate::evaluation::{ItemNumbers, Judged, learn_projection};
use crate::inference::{LinearMap, Manifest, model_named, sha256_hex};

/// Learn a projection of the model's embeddings from what people turned to one after the other
///
/// Reads the engagements and the pictures' embeddings of the data folder; no server may have it open. The projection is learned from the first
/// seven tenths of the log and written only if likenesses are better with it on the last part, for pairs of items that came nowhere before.
/// Written are a manifest, the projection and a copy of the model, in the folder of models: a model of its own, which is used once it is chosen.
#[derive(Debug, Args)]
pub(in crate::cli) struct TrainProjection {
    /// The model; the one that the settings choose if left out
    #[arg(long)]
    model: Option<String>,
    /// What the model with the projection is to be called; the model's name with `-learned` if left out
    #[arg(long)]
    name: Option<String>,
    /// Seed of all that is drawn
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Take the place of a model of this name
    #[arg(long)]
    replace: bool,
}

impl TrainProjection {
    pub(super) fn run(&self, common: &Common) -> Result<(), CliError> {
        let settings = common.quiet_settings()?;
        start_logging(&settings)?;
        let folder = &settings.inference.models_dir;
        let named =
            |name: &str| model_named(folder, name).map_err(|error| CliError::Failed(format!("{name}: {error}")));
        let base = named(self.model.as_deref().unwrap_or(&settings.inference.model))?;
        if base.projection().is_some() {
            return Err(CliError::Failed(format!("{} has a projection already; name the model below it", base.name())));
        }
        let name = self.name.clone().unwrap_or_else(|| format!("{}-learned", base.name()));
        if !self.replace && model_named(folder, &name).is_ok() {
            return Err(CliError::Failed(format!("there is a model {name} already; --replace takes its place")));
        }
        let (projection, judged) = self.learn(&settings, &base)?;
        let Judged { pairs, before, after, error, share, ridge } = judged;
        line(format_args!(
            "{} pairs learned from, {} new ones at the end of the log: the second item of a pair is more like the first than {:.2} % \
             of other items, and than {:.2} % with the projection (standard error {:.2}; share {share}, ridge {ridge})",
            pairs.0,
            pairs.1,
            100.0 * before,
            100.0 * after,
            100.0 * error
        ));
        let manifest = write(folder, &base, &name, &projection)?;
        line(format_args!("wrote {}; to use it: upnext serve --set inference.model={name}", manifest.display()));
        Ok(())
    }

    fn learn(&self, settings: &Settings, base: &Manifest) -> Result<(LinearMap, Judged), CliError> {
        let mut items = ItemNumbers::default();
        let (log, store) = stored(settings, &mut items)?;
        let mut catalogue = Catalogue::default();
        catalogue.take_over_looks(&store, &mut items, base.model_id())?;
        if catalogue.sizes().0 == 0 {
            let reason =
                "has seen no item's picture; let it take over in a server first, or name another one with --model";
            return Err(CliError::Failed(format!("the model {} {reason}", base.model_id())));
        }
        let learned = learn_projection(&log, |item| catalogue.look(item), self.seed);
        let learned = learned.map_err(|reason| CliError::Failed(format!("no projection is written: {reason}")))?;
        let map = LinearMap::new(&learned.rows);
        let map = map.ok_or_else(|| CliError::Failed("the projection has numbers that are none".into()))?;
        Ok((map, learned.judged))
    }
}

/// Writes a model that is `base` with a projection; its manifest.
fn write(folder: &Path, base: &Manifest, name: &str, projection: &LinearMap) -> Result<PathBuf, CliError> {
    let (onnx, npy) = (format!("{name}.onnx"), format!("{name}.npy"));
    let numbers = projection.to_npy();
    let mut table: toml::Table =
        base.toml().parse().map_err(|error| CliError::Failed(format!("{}: {error}", base.name())))?;
    table.insert("name".into(), name.into());
    table.insert("file".into(), onnx.clone().into());
    table.insert("source".into(), format!("{}, with a projection by `upnext train projection`", base.source()).into());
    let projected = toml::Table::from_iter(
        [("file", npy.clone()), ("sha256", sha256_hex(&numbers))].map(|(k, v)| (k.to_owned(), v.into())),
    );
    if let Some(output) = table.get_mut("output").and_then(toml::Value::as_table_mut) {
        output.insert("projection".into(), projected.into());
    }
    let text = format!("# Written by `upnext train projection`.\n\n{table}");
    let manifest = folder.join(format!("{name}.toml"));
    fs::create_dir_all(folder).map_err(CliError::io(folder.display()))?;
    // The manifest last: without it the others are nothing.
    let files = [(folder.join(onnx), base.model()), (folder.join(npy), &numbers), (manifest.clone(), text.as_bytes())];
    for (path, bytes) in files {
        let beside = path.with_extension("new");
        fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, &path)).map_err(CliError::io(path.display()))?;
    }
    model_named(folder, name).map_err(|error| CliError::Failed(format!("{name}: {error}")))?;
    Ok(manifest)
}
