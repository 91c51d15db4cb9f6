//! How did it go? Counts, the report of failed rows, and the line at the end.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::json;

use super::batch::{Kind, Prepared};
use super::source::Place;
use crate::cli::CliError;
use crate::cli::output::complain;

/// Failed rows that are shown; the report has all of them.
const SHOWN_FAILURES: u64 = 5;

/// What became of a row that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Stored { known_item: bool },
    Duplicate,
    Failed { code: String, reason: String },
}

/// A row that did not get in.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) place: Place,
    pub(super) code: String,
    pub(super) reason: String,
}

/// Counts, and where failures are written.
#[derive(Debug)]
pub(super) struct Tally {
    kind: Kind,
    rows: u64,
    stored: u64,
    duplicates: u64,
    failed: u64,
    pictures: u64,
    without_pictures: u64,
    unknown_items: u64,
    report: Option<(String, BufWriter<File>)>,
}

impl Tally {
    /// Nothing yet. `report` is the file for failed rows.
    pub(super) fn new(kind: Kind, report: Option<&Path>) -> Result<Self, CliError> {
        let open = |file: &Path| {
            let opened = File::create(file).map_err(CliError::io(file.display()))?;
            Ok::<_, CliError>((file.display().to_string(), BufWriter::new(opened)))
        };
        let report = report.map(open).transpose()?;
        Ok(Self {
            kind,
            rows: 0,
            stored: 0,
            duplicates: 0,
            failed: 0,
            pictures: 0,
            without_pictures: 0,
            unknown_items: 0,
            report,
        })
    }

    /// Counts rows that were not sent.
    pub(super) fn refused(&mut self, failures: Vec<Failure>, progress: &ProgressBar) -> Result<(), CliError> {
        self.rows += failures.len() as u64;
        failures.into_iter().try_for_each(|failure| self.fail(&failure, progress))
    }

    /// Counts rows that were sent; `ends` has one entry for each.
    pub(super) fn sent(&mut self, rows: &[Prepared], ends: Vec<End>, progress: &ProgressBar) -> Result<(), CliError> {
        self.rows += rows.len() as u64;
        for (row, end) in rows.iter().zip(ends) {
            match end {
                End::Stored { known_item } => {
                    self.stored += 1;
                    self.pictures += row.pictures;
                    self.without_pictures += u64::from(row.pictures == 0);
                    self.unknown_items += u64::from(!known_item);
                }
                End::Duplicate => self.duplicates += 1,
                End::Failed { code, reason } => self.fail(&Failure { place: row.place, code, reason }, progress)?,
            }
        }
        Ok(())
    }

    fn fail(&mut self, failure: &Failure, progress: &ProgressBar) -> Result<(), CliError> {
        let Failure { place, code, reason } = failure;
        if self.failed < SHOWN_FAILURES {
            progress.suspend(|| complain(&format_args!("row {} (line {}): {reason}", place.row, place.line)));
        } else if self.failed == SHOWN_FAILURES {
            let rest =
                if self.report.is_some() { "the report has all of them" } else { "--report FILE keeps all of them" };
            progress.suspend(|| complain(&format_args!("more rows failed; {rest}")));
        }
        self.failed += 1;
        let Some((name, writer)) = &mut self.report else { return Ok(()) };
        let entry = json!({"row": place.row, "line": place.line, "code": code, "reason": reason});
        writeln!(writer, "{entry}").map_err(CliError::io(name))
    }

    /// Writes the rest of the report.
    pub(super) fn close(&mut self) -> Result<(), CliError> {
        let Some((name, writer)) = &mut self.report else { return Ok(()) };
        writer.flush().map_err(CliError::io(name))
    }

    /// Whether there were rows and not one got in.
    pub(super) fn imported_nothing(&self) -> bool {
        self.rows > 0 && self.stored + self.duplicates == 0
    }

    /// All of it in a line.
    pub(super) fn summary(&self, took: Duration) -> String {
        let Self { rows, stored, duplicates, failed, pictures, without_pictures, unknown_items, .. } = self;
        let more = match self.kind {
            Kind::Items => format!("{pictures} pictures, {without_pictures} items sent without"),
            Kind::Events => format!("{duplicates} duplicates, {unknown_items} of unknown items"),
        };
        let seconds = took.as_secs_f64();
        let rate = *rows as f64 / seconds.max(1e-9);
        format!(
            "{}: {rows} rows, {stored} stored, {failed} failed, {more}; {seconds:.1} s, {rate:.1} rows/s",
            self.kind.name()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(row: u64, pictures: u64) -> Prepared {
        Prepared { place: Place { row, line: row + 1 }, json: Vec::new(), pictures }
    }

    #[test]
    fn everything_is_counted_and_failures_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let report = dir.path().join("report.jsonl");
        let mut tally = Tally::new(Kind::Events, Some(&report)).unwrap();
        let hidden = ProgressBar::hidden();
        assert!(!tally.imported_nothing());
        let failure = Failure { place: Place { row: 1, line: 2 }, code: "x".into(), reason: "because".into() };
        tally.refused(vec![failure], &hidden).unwrap();
        assert!(tally.imported_nothing());
        let ends = vec![
            End::Stored { known_item: false },
            End::Duplicate,
            End::Failed { code: "y".into(), reason: "no".into() },
        ];
        tally.sent(&[prepared(2, 0), prepared(3, 0), prepared(4, 0)], ends, &hidden).unwrap();
        assert!(!tally.imported_nothing());
        assert_eq!(
            tally.summary(Duration::from_secs(2)),
            "events: 4 rows, 1 stored, 2 failed, 1 duplicates, 1 of unknown items; 2.0 s, 2.0 rows/s"
        );
        tally.close().unwrap();
        let report = std::fs::read_to_string(report).unwrap();
        let rows: Vec<&str> = report.lines().collect();
        assert_eq!(rows[0], r#"{"code":"x","line":2,"reason":"because","row":1}"#);
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn pictures_count_only_with_their_items() {
        let mut tally = Tally::new(Kind::Items, None).unwrap();
        let ends = vec![
            End::Stored { known_item: true },
            End::Failed { code: "bad_image".into(), reason: String::new() },
            End::Stored { known_item: true },
        ];
        tally.sent(&[prepared(1, 2), prepared(2, 1), prepared(3, 0)], ends, &ProgressBar::hidden()).unwrap();
        assert!(tally.summary(Duration::from_secs(1)).contains("2 stored, 1 failed, 2 pictures, 1 items sent without"));
    }
}
