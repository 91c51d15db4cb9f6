//! `upnext train`: what does a log teach? Fits the weights of the ranking and writes them to a file.
//!
//! First the weights are fitted to all but the end of the log and compared on that end with those that run now; then
//! they are fitted to the whole log, and that is what is written.

mod projection;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::evaluate::{Bars, Catalogue, LearningArg, TableArgs, aim_name, horizons, share, stored, writable};
use super::output::{line, note};
use super::{CliError, Common, start_logging};
use crate::app;
use crate::config::Settings;
use crate::evaluation::{
    ClickLog, FitSettings, ItemNumbers, LearnOptions, MeasureOptions, Measured, Ranker, Split, evaluate, fit_on_log,
};
use crate::ranking::{FitReport, GrowOptions, GrowReport, HazardModel};

/// At this share of the sessions there is an example from before the first click: enough to know what to offer then. With
/// five times as many, lists at clicks were a little worse on a log of a shop.
const ARRIVALS: f64 = 0.02;

/// Fit the weights of the ranking to a log
///
/// Without --log the engagements of the data folder are the log; no server may have it open.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Train {
    #[command(subcommand)]
    other: Option<Other>,
    /// Table to learn from
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    #[command(flatten)]
    table: TableArgs,
    /// Seconds by which an engagement counts; by default the settings' (`ranking.horizons_s`)
    #[arg(long, value_name = "SECONDS", value_delimiter = ',')]
    horizons: Vec<u32>,
    /// When clicks are learned: each at once, as a server does, or whole sessions once they are over
    #[arg(long, value_enum, default_value_t = LearningArg::Live)]
    learning: LearningArg,
    /// The share of the clicks, the latest ones, that examples are drawn from
    #[arg(long, value_name = "SHARE", default_value_t = 0.3, value_parser = share)]
    share: f64,
    /// At most so many decision points are drawn, evenly; each makes some 70 examples of 300 bytes
    #[arg(long, value_name = "COUNT", default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    decisions: u32,
    /// The share of the clicks, the latest ones, on which the weights are compared with those that run now
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    check: f64,
    /// Fit linear hazards alone, without trees on top of them
    #[arg(long)]
    linear: bool,
    /// Seed of all that is drawn
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "weights.toml")]
    out: PathBuf,
}

/// What else a log teaches.
#[derive(Debug, Subcommand)]
enum Other {
    Projection(projection::TrainProjection),
}

impl Train {
    pub(super) fn run(self, common: &Common) -> Result<(), CliError> {
        if let Some(Other::Projection(projection)) = &self.other {
            return projection.run(common);
        }
        let settings = common.quiet_settings()?;
        start_logging(&settings)?;
        writable(&self.out)?;
        let wanted = match self.horizons.as_slice() {
            [] => settings.ranking.horizons_s.clone(),
            seconds => horizons(seconds)?,
        };
        let mut items = ItemNumbers::default();
        let mut catalogue = Catalogue::default();
        let log = match &self.log {
            Some(file) => self.table.read(file, &mut items)?,
            None => {
                let (log, store) = stored(&settings, &mut items)?;
                catalogue.take_over(&store, &mut items)?;
                log
            }
        };
        let fit = FitSettings {
            horizons: wanted,
            collab: app::collab_limits(&settings),
            share: self.share,
            max_decisions: self.decisions as usize,
            draw: LearnOptions {
                learning: self.learning.into(),
                arrivals: ARRIVALS,
                seed: self.seed,
                ..LearnOptions::default()
            },
            grow: (settings.ranking.trees && !self.linear).then(GrowOptions::default),
            ..FitSettings::default()
        };
        line(format_args!("{} clicks of {} sessions, {} items", log.clicks(), log.sessions.len(), items.len()));
        let (pictured, described) = catalogue.sizes();
        if pictured + described > 0 {
            line(format_args!("{pictured} items have pictures, {described} have words"));
        }
        self.compare(&settings, &log, &fit, &catalogue, items.len())?;

        let mut bars = Bars::with_notes();
        let fitted = fit_on_log(&log, &fit, &mut *catalogue.surroundings(None), &mut |step| bars.show(step));
        bars.finish();
        let fitted = fitted?;
        learned(&fitted.model, &fitted.report, fitted.examples).into_iter().for_each(line);
        if let Some(GrowReport { trees, held_out_loss, loss }) = fitted.grown {
            let held_out = held_out_loss.map_or(String::new(), |(before, after)| {
                format!("; {before:.6} → {after:.6} on the fifth that was held back to choose their number")
            });
            line(format_args!("{trees} trees: mean log loss {:.6} → {:.6}{held_out}", loss.0, loss.1));
        }
        let header = format!(
            "The weights of the ranking, fitted by `upnext train` to {} clicks of {} sessions ({} examples).\n",
            log.clicks(),
            log.sessions.len(),
            fitted.examples
        );
        std::fs::write(&self.out, fitted.model.to_toml(&header)).map_err(CliError::io(self.out.display()))?;
        let out = self.out.display();
        line(format_args!("wrote {out}; to use it: upnext serve --set ranking.weights={out}"));
        Ok(())
    }

    /// Compares weights fitted to all but the end of the log with those that run now, on that end.
    fn compare(
        &self,
        settings: &Settings,
        log: &ClickLog,
        fit: &FitSettings,
        catalogue: &Catalogue,
        items: usize,
    ) -> Result<(), CliError> {
        let Some(split) = Split::of_one(log.clone(), self.check) else { return Ok(()) };
        let options = MeasureOptions {
            learning: self.learning.into(),
            items,
            seed: self.seed,
            resamples: 200,
            ..MeasureOptions::default()
        };
        let surroundings = |without| catalogue.surroundings(without);
        let mut bars = Bars::default();
        let mut judged = |weights: Option<&HazardModel>| {
            let found = evaluate(&split, weights, fit, &options, &surroundings, false, &mut |step| bars.show(step));
            bars.finish();
            found.map(|evaluated| evaluated.measured)
        };
        let own = match judged(None) {
            Ok(own) => own,
            Err(error) => {
                note(format_args!("the log is too short to be checked on its end: {error}"));
                return Ok(());
            }
        };
        let (name, running) = running(settings)?;
        let running = (running.schema().horizons() == &fit.horizons).then_some(running);
        let others = running.as_ref().map(|model| judged(Some(model))).transpose()?;
        if others.is_none() {
            note(format_args!("{name} are for other horizons and cannot be compared"));
        }
        line(format_args!("on the last {:.0} % of the log, fitted to what came before:", 100.0 * self.check));
        for (index, aim) in own.aims.iter().enumerate() {
            line(format_args!("  {:<6} fitted: {}", aim_name(aim.aim), summary(&own, index)));
            if let Some(others) = &others {
                line(format_args!("  {:<6} {name}: {}", "", summary(others, index)));
            }
        }
        Ok(())
    }
}

/// The weights that a server with these settings has, and what they are called.
fn running(settings: &Settings) -> Result<(String, HazardModel), CliError> {
    let (name, model) = match &settings.ranking.weights {
        None => ("the shipped weights".to_owned(), HazardModel::shipped()),
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(CliError::io(file.display()))?;
            (file.display().to_string(), HazardModel::from_toml(&text))
        }
    };
    let model = model.map_err(|error| CliError::Failed(format!("{name}: {error}")))?;
    Ok((name, model))
}

fn summary(measured: &Measured, aim: usize) -> String {
    let aim = &measured.aims[aim];
    let blend = aim.ranker(Ranker::Blend).map(|blend| blend.figures);
    let (hr, mrr) = blend.map_or((0.0, 0.0), |figures| (figures.hr.value, figures.mrr.value));
    let k = measured.k;
    let ranks = format!("HR@{k} {hr:.4}, MRR@{k} {mrr:.4} at {} positions", aim.positions);
    match &aim.calibration {
        Some(calibration) => format!("log loss {:.5}, ECE {:.5}, {ranks}", calibration.log_loss, calibration.ece),
        None => ranks,
    }
}

/// What a fit found, line by line.
fn learned(model: &HazardModel, report: &FitReport, examples: usize) -> Vec<String> {
    let mut lines = vec![format!("fitted to the whole log, {examples} examples:")];
    let mut opens = 0;
    for (interval, &closes) in model.schema().horizons().seconds().iter().enumerate() {
        let (loss, constant) = (report.log_loss[interval], report.intercept_log_loss[interval]);
        lines.push(format!(
            "  {opens} to {closes} s: {} at risk, {} engagements, log loss {loss:.6} ({:.1} % below {constant:.6} of the \
             intercept alone), {} steps",
            report.at_risk[interval],
            report.engagements[interval],
            100.0 * (1.0 - loss / constant.max(f64::MIN_POSITIVE)),
            report.steps[interval]
        ));
        opens = closes;
    }
    lines
}
