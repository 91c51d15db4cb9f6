//! How do the settings say what is learned, and which arms there are? Weights are read here, before the start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::AppError;
use crate::config::{ArmSettings, Settings};
use crate::engine::{ArmOptions, LearningOptions};
use crate::ranking::{Assignment, Experiment, HazardModel, LedgerLimits, OnlineOptions, TrainOptions};

/// The file in the data folder that trained weights are written to.
const WEIGHTS_FILE: &str = "ranking.toml";

/// The weights that the settings name.
pub(super) fn start_weights(settings: &Settings) -> Result<HazardModel, AppError> {
    match &settings.ranking.weights {
        None => for_horizons(HazardModel::shipped()?, settings),
        Some(file) => read(file, settings),
    }
}

/// What is learned and how; `start` are the weights of the settings.
pub(super) fn learning_options(settings: &Settings, start: &HazardModel) -> Result<LearningOptions, AppError> {
    let (ranking, learning) = (&settings.ranking, &settings.ranking.learning);
    let shares = |arms: &[ArmSettings]| arms.iter().map(|arm| (arm.name.clone(), arm.share)).collect();
    let experiments =
        settings.experiments.iter().map(|e| Experiment { name: e.name.clone(), arms: shares(&e.arms) }).collect();
    let arms = settings.experiments.iter().flat_map(|experiment| &experiment.arms);
    let defaults = LedgerLimits::default();
    Ok(LearningOptions {
        enabled: ranking.learn,
        decisions_per_s: learning.decisions_per_s,
        ledger: LedgerLimits {
            open: learning.open_decisions,
            spacing_s: learning.spacing_s,
            grace_s: learning.grace_s,
            ..defaults
        },
        cases: learning.candidates,
        queue: learning.queue_capacity,
        examples: learning.examples,
        train_decisions: learning.train_decisions,
        train_every_s: learning.train_every_s,
        figures_memory: learning.figures_decisions as f64,
        online: OnlineOptions::default(),
        training: TrainOptions { grow: ranking.trees.then(Default::default), ..TrainOptions::default() },
        exploration: ranking.exploration,
        exploration_impressions: learning.impressions,
        weights_file: settings.data_dir.join(WEIGHTS_FILE),
        learned_weights: learned_weights(settings),
        assignment: Assignment::new(experiments),
        arms: arms.map(|arm| arm_options(arm, settings, start)).collect::<Result<_, _>>()?,
    })
}

fn arm_options(arm: &ArmSettings, settings: &Settings, start: &HazardModel) -> Result<ArmOptions, AppError> {
    let weights = match (&arm.weights, arm.learned) {
        (Some(file), _) => Some(Arc::new(read(file, settings)?)),
        (None, Some(false)) => Some(Arc::new(start.clone())),
        (None, Some(true) | None) => None,
    };
    let ArmSettings { diversity, exploration, sources_off, linear, .. } = arm;
    Ok(ArmOptions {
        diversity: *diversity,
        exploration: *exploration,
        sources_off: sources_off.clone(),
        linear: *linear,
        weights: weights.map(|model| if *linear { Arc::new(model.linear()) } else { model }),
    })
}

/// What an earlier run wrote down. Weights that the settings name come first; a file that does not fit is left alone.
fn learned_weights(settings: &Settings) -> Option<HazardModel> {
    let file: PathBuf = settings.data_dir.join(WEIGHTS_FILE);
    if !settings.ranking.learn || settings.ranking.weights.is_some() || !file.exists() {
        return None;
    }
    read(&file, settings)
        .inspect_err(|error| tracing::warn!(%error, "the weights that were learned cannot be used"))
        .ok()
}

fn read(file: &Path, settings: &Settings) -> Result<HazardModel, AppError> {
    let text = std::fs::read_to_string(file).map_err(|reason| AppError::File { file: file.to_owned(), reason })?;
    for_horizons(HazardModel::from_toml(&text)?, settings)
}

fn for_horizons(model: HazardModel, settings: &Settings) -> Result<HazardModel, AppError> {
    let (weights, wanted) = (model.schema().horizons(), &settings.ranking.horizons_s);
    if weights == wanted {
        Ok(if settings.ranking.trees { model } else { model.linear() })
    } else {
        Err(AppError::Horizons { weights: weights.seconds().to_vec(), settings: wanted.seconds().to_vec() })
    }
}
