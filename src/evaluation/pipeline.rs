//! What does a log teach, and how good is what it taught? Fits weights to a log and judges them on what came later.
//!
//! Everything goes forward in time. [`fit_on_log`] learns a log from its beginning; over its last part every click is a
//! decision point, at which what was learned so far makes an example. [`evaluate`] does that with the part of a
//! [`Split`] that comes first, and then measures on the part that comes after.

use std::sync::atomic::AtomicBool;

use rayon::prelude::*;

use super::ablation::{Source, Without};
use super::click_log::ClickLog;
use super::gather::Surroundings;
use super::learn::{LearnOptions, collect};
use super::measure::{Figures, MeasureOptions, Measured, measure};
use super::replay::{Replay, Stop};
use crate::collab::{Collab, CollabLimits};
use crate::domain::{Horizons, ItemNo, Timestamp};
use crate::ranking::{
    Candidate, FitError, FitOptions, FitReport, FitStep, GrowOptions, GrowReport, HazardModel, RequestContext, Schema,
    fit_with_progress, grow,
};

/// What is known beyond the clicks: surroundings for one replay, in which the given source proposes nothing.
pub type SurroundingsOf<'a> = dyn Fn(Option<Source>) -> Box<dyn Surroundings + 'a> + Sync + 'a;

/// How weights are fitted to a log.
#[derive(Debug, Clone)]
pub struct FitSettings {
    /// For which horizons.
    pub horizons: Horizons,
    /// The bounds and constants of the models that are learned on the way.
    pub collab: CollabLimits,
    /// This share of the log's clicks, the latest ones, are decision points.
    pub share: f64,
    /// At most this many decision points are drawn, evenly; each makes some 70 examples of 300 bytes.
    pub max_decisions: usize,
    /// How examples are drawn. `from` and `share` are set as needed.
    pub draw: LearnOptions,
    /// How weights are found.
    pub fit: FitOptions,
    /// How trees are grown on top of them; `None` for linear hazards alone.
    pub grow: Option<GrowOptions>,
    /// A source to do without.
    pub without: Option<Source>,
}

impl Default for FitSettings {
    fn default() -> Self {
        Self {
            horizons: Horizons::default(),
            collab: CollabLimits::default(),
            share: 0.3,
            max_decisions: 30_000,
            draw: LearnOptions::default(),
            fit: FitOptions::default(),
            grow: Some(GrowOptions::default()),
            without: None,
        }
    }
}

/// How far the work is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Progress {
    /// The log is being learned and examples are drawn: decision points so far, and about how many there will be.
    Drawing {
        /// So far.
        done: usize,
        /// At most.
        total: usize,
    },
    /// So many examples were drawn; now weights are fitted to them.
    Drawn {
        /// How many.
        examples: usize,
    },
    /// A step of the fit.
    Fitting(FitStep),
    /// Trees are grown on top of the weights.
    Growing {
        /// Trees so far, those included that only show how many are enough.
        done: usize,
        /// At most.
        total: usize,
    },
    /// Lists are judged.
    Judging {
        /// Moments so far.
        done: usize,
        /// Moments in all.
        total: usize,
    },
    /// Blends without one source are fitted and judged.
    Ablating {
        /// Finished.
        done: usize,
        /// In all.
        total: usize,
    },
}

/// What a log taught.
#[derive(Debug)]
pub struct Fitted {
    /// The weights.
    pub model: HazardModel,
    /// How they were found.
    pub report: FitReport,
    /// How the trees came about, if any were to be grown.
    pub grown: Option<GrowReport>,
    /// From how many examples.
    pub examples: usize,
    /// Everything else that was learned on the way.
    pub collab: Collab,
}

/// A log in two parts: one to learn from, one to judge on.
#[derive(Debug, Clone)]
pub struct Split {
    /// What comes first.
    pub train: ClickLog,
    /// What is judged; with `from`, the whole log, of which the first part is learned once more.
    pub test: ClickLog,
    /// The moment from which on clicks are judged, if one log was cut in two.
    pub from: Option<Timestamp>,
}

/// A blend that did without a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Ablation {
    /// Without which.
    pub source: Source,
    /// What it achieved.
    pub measured: Measured,
    /// How far the full blend is above it, by aim.
    pub lost: Vec<Option<Figures>>,
}

/// What came out of an evaluation.
#[derive(Debug)]
pub struct Evaluated {
    /// What was measured.
    pub measured: Measured,
    /// The weights that made the blend.
    pub model: HazardModel,
    /// How they were fitted, and to how many examples; `None` if they were given.
    pub fitted: Option<(FitReport, usize)>,
    /// Blends without one source each.
    pub ablations: Vec<Ablation>,
}

impl Split {
    /// Two logs, the second of which came after the first.
    pub fn of_two(train: ClickLog, mut test: ClickLog) -> Self {
        test.renumber(train.sessions.len() as u64);
        Self { train, test, from: None }
    }

    /// One log, whose last `holdout` of all clicks are judged. Sessions may reach over the cut: what they did before it
    /// is known then, what they do later is not. `None` if the log is empty.
    pub fn of_one(log: ClickLog, holdout: f64) -> Option<Self> {
        let from = log.moment(1.0 - holdout)?;
        Some(Self { train: log.before(from), test: log, from: Some(from) })
    }
}

/// Learns `sessions` in the order of time and fits weights to what happened in their last part.
pub fn fit_on_log(
    sessions: &ClickLog,
    settings: &FitSettings,
    surroundings: &mut dyn Surroundings,
    progress: &mut dyn FnMut(Progress),
) -> Result<Fitted, FitError> {
    let collab = Collab::new(&CollabLimits { horizons: settings.horizons.clone(), ..settings.collab.clone() });
    let from = sessions.moment(1.0 - settings.share);
    let points = sessions.sessions.iter().flat_map(|s| &s.clicks).filter(|&&(_, at)| Some(at) >= from).count();
    let share = (settings.max_decisions as f64 / points.max(1) as f64).min(1.0);
    let limits = settings.without.map_or(settings.draw.limits, |source| source.silenced(settings.draw.limits));
    let draw = LearnOptions { from, share, limits, ..settings.draw };
    let total = points.min(settings.max_decisions);
    let mut silenced = Without { source: settings.without, inner: surroundings };
    let mut counted = Counted { inner: &mut silenced, done: 0, total, progress };
    let schema = Schema::new(&settings.horizons);
    let examples = collect(&collab, &sessions.sessions, &schema, &draw, &mut counted);
    progress(Progress::Drawn { examples: examples.len() });
    let (linear, report) = fit_with_progress(&examples, &settings.fit, &mut |step| progress(Progress::Fitting(step)))?;
    let (model, grown) = match &settings.grow {
        Some(options) => {
            let stop = AtomicBool::new(false);
            let tell = |done, total| progress(Progress::Growing { done, total });
            let (forest, grown) = grow(&linear, &examples, options, &stop, tell)?;
            (linear.with_forest(Some(forest))?, Some(grown))
        }
        None => (linear, None),
    };
    Ok(Fitted { model, report, grown, examples: examples.len(), collab })
}

/// Fits weights to the first part of `split`, unless some are given, and measures on the second; with `ablate`, also what
/// each source that answered contributes.
pub fn evaluate(
    split: &Split,
    weights: Option<&HazardModel>,
    settings: &FitSettings,
    options: &MeasureOptions,
    surroundings: &SurroundingsOf<'_>,
    ablate: bool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Evaluated, FitError> {
    let (measured, model, fitted) = evaluate_once(split, weights, settings, options, surroundings, progress)?;
    let sources: Vec<Source> =
        Source::ALL.into_iter().filter(|source| ablate && source.is_in(&measured.answered)).collect();
    let mut ablations = Vec::with_capacity(sources.len());
    // As many at once as there are threads to fit them; results come in the order of the sources.
    for some in sources.chunks(rayon::current_num_threads().max(1)) {
        progress(Progress::Ablating { done: ablations.len(), total: sources.len() });
        let found: Vec<_> = some
            .par_iter()
            .map(|&source| {
                let settings = FitSettings { without: Some(source), ..settings.clone() };
                evaluate_once(split, weights, &settings, options, surroundings, &mut |_| {})
                    .map(|(measured, ..)| (source, measured))
            })
            .collect();
        for found in found {
            let (source, without) = found?;
            let lost = measured.aims.iter().zip(&without.aims).map(|(full, less)| full.blend_over(less)).collect();
            ablations.push(Ablation { source, measured: without, lost });
        }
    }
    Ok(Evaluated { measured, model, fitted, ablations })
}

type Once = (Measured, HazardModel, Option<(FitReport, usize)>);

fn evaluate_once(
    split: &Split,
    weights: Option<&HazardModel>,
    settings: &FitSettings,
    options: &MeasureOptions,
    surroundings: &SurroundingsOf<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Once, FitError> {
    let fresh = || Collab::new(&CollabLimits { horizons: settings.horizons.clone(), ..settings.collab.clone() });
    let mut around = surroundings(settings.without);
    let (model, fitted, collab) = match weights {
        Some(model) => (model.clone(), None, None),
        None => {
            let Fitted { model, report, examples, collab, .. } =
                fit_on_log(&split.train, settings, &mut *around, progress)?;
            (model, Some((report, examples)), Some(collab))
        }
    };
    let collab = match (split.from, collab) {
        // The whole log is replayed once more, from its beginning.
        (Some(_), _) => fresh(),
        (None, Some(learned)) => learned,
        (None, None) => {
            let collab = fresh();
            Replay { learning: options.learning }.learn(&collab, &split.train.sessions);
            collab
        }
    };
    let limits = settings.without.map_or(options.limits, |source| source.silenced(options.limits));
    let options = MeasureOptions { from: split.from, limits, ..*options };
    let mut silenced = Without { source: settings.without, inner: &mut *around };
    let measured = measure(&collab, &split.test.sessions, &model, &options, &mut silenced, &mut |done, total| {
        progress(Progress::Judging { done, total });
    });
    Ok((measured, model, fitted))
}

/// Surroundings that tell how often they were asked.
struct Counted<'a, 'b> {
    inner: &'a mut dyn Surroundings,
    done: usize,
    total: usize,
    progress: &'b mut dyn FnMut(Progress),
}

impl Surroundings for Counted<'_, '_> {
    fn propose(&mut self, stop: &Stop<'_>, items: &mut Vec<ItemNo>) {
        self.done += 1;
        (self.progress)(Progress::Drawing { done: self.done, total: self.total.max(self.done) });
        self.inner.propose(stop, items);
    }

    fn describe(&mut self, stop: &Stop<'_>, context: &mut RequestContext, candidates: &mut [Candidate]) {
        self.inner.describe(stop, context, candidates);
    }
}

#[cfg(test)]
mod tests;
