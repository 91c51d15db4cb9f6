//! How far is the work? A bar for each part of it, on a terminal; for those who want to know, notes.

use indicatif::ProgressBar;

use crate::cli::output::{bar, note};
use crate::evaluation::Progress;

/// Shows what fitting and judging tell.
#[derive(Debug, Default)]
pub(in crate::cli) struct Bars {
    open: Option<(&'static str, ProgressBar)>,
    /// Whether the steps of a fit are noted also where there is no terminal.
    notes: bool,
}

impl Bars {
    /// Bars, and notes of the steps of a fit.
    pub(in crate::cli) fn with_notes() -> Self {
        Self { notes: true, ..Self::default() }
    }

    pub(in crate::cli) fn show(&mut self, progress: Progress) {
        match progress {
            Progress::Drawing { done, total } => self.advance("drawing examples", done, total),
            Progress::Drawn { examples } => {
                self.finish();
                if self.notes {
                    note(format_args!("{examples} examples"));
                }
            }
            Progress::Fitting(step) => {
                if self.notes {
                    let (interval, number) = (step.interval + 1, step.step);
                    note(format_args!("interval {interval}, step {number}: log loss {:.6}", step.loss));
                }
            }
            Progress::Growing { done, total } => self.advance("growing trees", done, total),
            Progress::Judging { done, total } => self.advance("judging lists", done, total),
            Progress::Ablating { done, total } => self.advance("without each source", done, total),
        }
    }

    pub(in crate::cli) fn finish(&mut self) {
        if let Some((_, bar)) = self.open.take() {
            bar.finish_and_clear();
        }
    }

    fn advance(&mut self, what: &'static str, done: usize, total: usize) {
        if self.open.as_ref().is_none_or(|(name, _)| *name != what) {
            self.finish();
            self.open = Some((what, bar(what, total as u64)));
        }
        if let Some((_, bar)) = &self.open {
            bar.set_position(done as u64);
        }
    }
}
