//! `upnext evaluate`: how good are the lists on a log? Walks through it in time and compares rankers.
//!
//! A log is one or two tables, or what a server has stored. What the command does is in [`crate::evaluation`]; here are
//! the words for it, the files, the bars and the answers.

mod bars;
mod catalogue;
mod log;
mod report;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

pub(super) use self::bars::Bars;
pub(super) use self::catalogue::Catalogue;
pub(super) use self::log::{TableArgs, stored};
use self::report::About;
pub(super) use self::report::aim_name;
use super::import::read_items;
use super::output::{line, note};
use super::{CliError, Common, start_logging};
use crate::app;
use crate::config::Settings;
use crate::domain::Horizons;
use crate::evaluation::{
    ClickLog, FitSettings, ItemNumbers, LearnOptions, Learning, MeasureOptions, Split, evaluate, plots,
};
use crate::ranking::{GrowOptions, HazardModel};

/// How long before the first click of a session `--arrivals` asks for lists.
const BEFORE_ARRIVAL_S: f64 = 5.0;

/// Judge rankers on a log
///
/// Without --train the engagements of the data folder are the log; no server may have it open.
#[derive(Debug, Args)]
pub(super) struct Evaluate {
    /// Table to learn from
    #[arg(long, value_name = "FILE")]
    train: Option<PathBuf>,
    /// Table to judge on, which came after the other; without, the last part of the log
    #[arg(long, value_name = "FILE", requires = "train")]
    test: Option<PathBuf>,
    /// Without --test: the share of the clicks, the latest ones, that is judged
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, value_parser = share)]
    holdout: f64,
    #[command(flatten)]
    table: TableArgs,
    /// What items are: a CSV, TSV or JSON-lines file as `upnext import items` takes it
    #[arg(long, value_name = "FILE")]
    items: Option<PathBuf>,
    /// Which column of a table of items has what, for example `item_id=movieId,title=title,categories=genres`
    #[arg(long, value_name = "FIELD=COLUMN", value_delimiter = ',', requires = "items")]
    item_columns: Vec<String>,
    /// Folder with pictures that are called like their items; each is taken for the frame on screen while its item is
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Seconds by which an engagement counts
    #[arg(long, value_name = "SECONDS", value_delimiter = ',', default_value = "15,30,60")]
    horizons: Vec<u32>,
    /// Length of the lists
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=200))]
    k: u16,
    /// Also judge by the session's next so many engagements, whenever they come
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1000))]
    next: Option<u16>,
    /// Leave out what the session has had, of the lists and of what is looked for
    #[arg(long)]
    exclude_seen: bool,
    /// Judge just before the first click of each session, when nothing is known of who comes, instead of at the clicks
    #[arg(long)]
    arrivals: bool,
    /// When clicks are learned: whole sessions once they are over, or each click at once, as a server does
    #[arg(long, value_enum, default_value_t = LearningArg::Strict)]
    learning: LearningArg,
    /// `fitted` to the part to learn from, `shipped`, or a file of weights
    #[arg(long, value_name = "fitted|shipped|FILE", default_value = "fitted")]
    weights: String,
    /// Fit linear hazards alone, without trees on top of them
    #[arg(long)]
    linear: bool,
    /// Leave the weights as they are while the log is judged, instead of following it as a server does
    #[arg(long)]
    frozen: bool,
    /// At most so many decision points are drawn for a fit, evenly; each makes some 70 examples of 300 bytes
    #[arg(long, value_name = "COUNT", default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    decisions: u32,
    /// Also measure blends that do without one source each
    #[arg(long)]
    ablations: bool,
    /// Judge about so many clicks at most, those of sessions drawn by the seed
    #[arg(long, value_name = "CLICKS")]
    limit: Option<usize>,
    /// How often sessions are resampled for the 95 % intervals; 0 for none
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    bootstrap: u32,
    /// Seed of all that is drawn
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// File for the figures
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// File for a page with drawings
    #[arg(long, value_name = "FILE")]
    plots: Option<PathBuf>,
}

/// When clicks are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LearningArg {
    /// Whole sessions, once they are over
    Strict,
    /// Each click at once
    Live,
}

impl LearningArg {
    fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Live => "live",
        }
    }
}

impl From<LearningArg> for Learning {
    fn from(arg: LearningArg) -> Self {
        match arg {
            LearningArg::Strict => Self::AfterSession,
            LearningArg::Live => Self::AtOnce,
        }
    }
}

impl Evaluate {
    pub(super) fn run(self, common: &Common) -> Result<(), CliError> {
        let settings = common.quiet_settings()?;
        start_logging(&settings)?;
        [&self.json, &self.plots].into_iter().flatten().try_for_each(|file| writable(file))?;
        let horizons = horizons(&self.horizons)?;
        let weights = self.weights(&horizons)?;
        let (mut items, mut catalogue) = (ItemNumbers::default(), Catalogue::default());
        let split = self.split(&settings, &mut items, &mut catalogue)?;
        if let Some(file) = &self.items {
            let (described, skipped) = read_items(file, &self.item_columns, "|")?;
            catalogue.describe(&described, &mut items);
            if skipped > 0 {
                note(format_args!("{}: {skipped} rows cannot be used", file.display()));
            }
        }
        if let Some(dir) = &self.images {
            catalogue.look_at(dir, &items, &settings)?;
        }
        let (pictured, described) = catalogue.sizes();
        if pictured + described > 0 {
            note(format_args!("{} items, {pictured} with pictures, {described} with words", items.len()));
        }

        let fit = FitSettings {
            horizons,
            collab: app::collab_limits(&settings),
            max_decisions: self.decisions as usize,
            draw: LearnOptions { learning: self.learning.into(), seed: self.seed, ..LearnOptions::default() },
            grow: (!self.linear).then(GrowOptions::default),
            ..FitSettings::default()
        };
        let options = self.options(items.len());
        let mut bars = Bars::default();
        let surroundings = |without| catalogue.surroundings(without);
        let evaluated =
            evaluate(&split, weights.as_ref(), &fit, &options, &surroundings, self.ablations, &mut |step| {
                bars.show(step);
            });
        bars.finish();
        let evaluated = evaluated?;
        let about = self.about(&split, items.len());
        report::table(&about, &evaluated).into_iter().for_each(line);
        if evaluated.measured.aims.iter().all(|aim| aim.positions == 0) {
            note("no position has anything to find: are the times and the sessions right?");
        }
        if let Some(file) = &self.json {
            let mut text = report::json(&about, &evaluated).to_string();
            text.push('\n');
            std::fs::write(file, text).map_err(CliError::io(file.display()))?;
        }
        if let Some(file) = &self.plots {
            let page = plots::page("How good are the lists?", &about.notes(), &evaluated);
            std::fs::write(file, page).map_err(CliError::io(file.display()))?;
        }
        Ok(())
    }

    fn weights(&self, horizons: &Horizons) -> Result<Option<HazardModel>, CliError> {
        let failed = |reason: &dyn std::fmt::Display| CliError::Failed(format!("{}: {reason}", self.weights));
        let model = match self.weights.as_str() {
            "fitted" => return Ok(None),
            "shipped" => HazardModel::shipped(),
            file => HazardModel::from_toml(&std::fs::read_to_string(file).map_err(CliError::io(file))?),
        };
        let model = model.map_err(|error| failed(&error))?;
        let own = model.schema().horizons();
        if own != horizons {
            return Err(failed(&format_args!("are for the horizons {:?}; say so with --horizons", own.seconds())));
        }
        Ok(Some(model))
    }

    fn split(
        &self,
        settings: &Settings,
        items: &mut ItemNumbers,
        catalogue: &mut Catalogue,
    ) -> Result<Split, CliError> {
        let empty = || CliError::Failed("the log is empty".into());
        let Some(train) = &self.train else {
            let (log, store) = stored(settings, items)?;
            catalogue.take_over(&store, items)?;
            return Split::of_one(log, self.holdout).ok_or_else(empty);
        };
        let log = self.table.read(train, items)?;
        let Some(test) = &self.test else { return Split::of_one(log, self.holdout).ok_or_else(empty) };
        let test = self.table.read(test, items)?;
        if let (Some(end), Some(begin)) = (log.end(), test.begin())
            && begin < end
        {
            note(format_args!(
                "the second log begins {:.0} s before the first one ends: some of what is learned comes from after what is judged",
                end.seconds_since(begin)
            ));
        }
        Ok(Split::of_two(log, test))
    }

    fn options(&self, items: usize) -> MeasureOptions {
        MeasureOptions {
            k: usize::from(self.k),
            learning: self.learning.into(),
            follow: !self.frozen,
            next: self.next.map(usize::from),
            exclude_seen: self.exclude_seen,
            arrivals: self.arrivals.then_some(BEFORE_ARRIVAL_S),
            limit: self.limit,
            items,
            resamples: self.bootstrap as usize,
            seed: self.seed,
            ..MeasureOptions::default()
        }
    }

    fn about(&self, split: &Split, items: usize) -> About {
        let size = |log: &ClickLog| (log.sessions.len(), log.clicks());
        let test = match split.from {
            None => size(&split.test),
            Some(from) => {
                let late = split.test.sessions.iter().map(|s| s.clicks.iter().filter(|&&(_, at)| at >= from).count());
                late.filter(|&clicks| clicks > 0).fold((0, 0), |(sessions, all), clicks| (sessions + 1, all + clicks))
            }
        };
        About {
            train: size(&split.train),
            test,
            items,
            learning: self.learning.name(),
            weights: self.weights.clone(),
            exclude_seen: self.exclude_seen,
            arrivals: self.arrivals,
            seed: self.seed,
            resamples: self.bootstrap as usize,
        }
    }
}

/// Horizons that were typed.
pub(super) fn horizons(seconds: &[u32]) -> Result<Horizons, CliError> {
    Horizons::new(seconds.to_vec()).map_err(|error| CliError::Failed(format!("--horizons: {error}")))
}

/// Refuses at once what would be refused after minutes of work.
pub(super) fn writable(file: &Path) -> Result<(), CliError> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    if file.is_dir() || folder.is_some_and(|folder| !folder.is_dir()) {
        return Err(CliError::Failed(format!("{}: cannot be written; is there such a folder?", file.display())));
    }
    Ok(())
}

/// A share that leaves something on both sides.
pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err("must be between 0 and 1".into()),
    }
}
