//! How did it go? Counts, the report of failed rows, and the line at the end.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::batch::{Kind, Prepared};
use super::progress::Done;
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

/// What became of rows so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) rows: u64,
    pub(super) stored: u64,
    pub(super) duplicates: u64,
    pub(super) failed: u64,
    pub(super) pictures: u64,
    pub(super) without_pictures: u64,
    pub(super) unknown_items: u64,
}

/// Counts, and where failures are written.
#[derive(Debug)]
pub(super) struct Tally {
    kind: Kind,
    counts: Counts,
    /// Rows of an earlier run, which this one goes on with.
    earlier_rows: u64,
    report: Option<Report>,
}

#[derive(Debug)]
struct Report {
    name: String,
    writer: BufWriter<File>,
    bytes: u64,
}

impl Tally {
    /// What an earlier run had `done`, or nothing. `report` is the file for failed rows.
    pub(super) fn new(kind: Kind, report: Option<&Path>, done: &Done) -> Result<Self, CliError> {
        let report = report.map(|file| Report::open(file, done.report_bytes)).transpose()?;
        Ok(Self { kind, counts: done.counts, earlier_rows: done.counts.rows, report })
    }

    /// What became of rows so far, of an earlier run's too.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Writes the report so far; says how long it is.
    pub(super) fn flush(&mut self) -> Result<u64, CliError> {
        let Some(Report { name, writer, bytes }) = &mut self.report else { return Ok(0) };
        writer.flush().map_err(CliError::io(name))?;
        Ok(*bytes)
    }

    /// Counts rows that were not sent.
    pub(super) fn refused(&mut self, failures: Vec<Failure>, progress: &ProgressBar) -> Result<(), CliError> {
        self.counts.rows += failures.len() as u64;
        failures.into_iter().try_for_each(|failure| self.fail(&failure, progress))
    }

    /// Counts rows that were sent; `ends` has one entry for each.
    pub(super) fn sent(&mut self, rows: &[Prepared], ends: Vec<End>, progress: &ProgressBar) -> Result<(), CliError> {
        self.counts.rows += rows.len() as u64;
        for (row, end) in rows.iter().zip(ends) {
            match end {
                End::Stored { known_item } => {
                    self.counts.stored += 1;
                    self.counts.pictures += row.pictures;
                    self.counts.without_pictures += u64::from(row.pictures == 0);
                    self.counts.unknown_items += u64::from(!known_item);
                }
                End::Duplicate => self.counts.duplicates += 1,
                End::Failed { code, reason } => self.fail(&Failure { place: row.place, code, reason }, progress)?,
            }
        }
        Ok(())
    }

    fn fail(&mut self, failure: &Failure, progress: &ProgressBar) -> Result<(), CliError> {
        let Failure { place, code, reason } = failure;
        if self.counts.failed < SHOWN_FAILURES {
            progress.suspend(|| complain(&format_args!("row {} (line {}): {reason}", place.row, place.line)));
        } else if self.counts.failed == SHOWN_FAILURES {
            let rest =
                if self.report.is_some() { "the report has all of them" } else { "--report FILE keeps all of them" };
            progress.suspend(|| complain(&format_args!("more rows failed; {rest}")));
        }
        self.counts.failed += 1;
        let Some(Report { name, writer, bytes }) = &mut self.report else { return Ok(()) };
        let entry = json!({"row": place.row, "line": place.line, "code": code, "reason": reason}).to_string();
        *bytes += entry.len() as u64 + 1;
        writeln!(writer, "{entry}").map_err(CliError::io(name))
    }

    /// Whether there were rows and not one got in.
    pub(super) fn imported_nothing(&self) -> bool {
        let Counts { rows, stored, duplicates, .. } = self.counts;
        rows > 0 && stored + duplicates == 0
    }

    /// All of it in a line.
    pub(super) fn summary(&self, took: Duration) -> String {
        let Counts { rows, stored, duplicates, failed, pictures, without_pictures, unknown_items } = self.counts;
        let more = match self.kind {
            Kind::Items => format!("{pictures} pictures, {without_pictures} items sent without"),
            Kind::Events => format!("{duplicates} duplicates, {unknown_items} of unknown items"),
        };
        let seconds = took.as_secs_f64();
        let rate = (rows - self.earlier_rows) as f64 / seconds.max(1e-9);
        format!(
            "{}: {rows} rows, {stored} stored, {failed} failed, {more}; {seconds:.1} s, {rate:.1} rows/s",
            self.kind.name()
        )
    }
}

impl Report {
    /// A new file, or one that goes on behind its first `kept_bytes`.
    fn open(file: &Path, kept_bytes: u64) -> Result<Self, CliError> {
        let open = || {
            let mut opened = OpenOptions::new().write(true).create(true).truncate(false).open(file)?;
            opened.set_len(kept_bytes)?;
            opened.seek(SeekFrom::End(0))?;
            Ok(opened)
        };
        let opened = open().map_err(CliError::io(file.display()))?;
        Ok(Self { name: file.display().to_string(), writer: BufWriter::new(opened), bytes: kept_bytes })
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
        let mut tally = Tally::new(Kind::Events, Some(&report), &Done::default()).unwrap();
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
        let report_bytes = tally.flush().unwrap();
        let text = std::fs::read_to_string(&report).unwrap();
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows[0], r#"{"code":"x","line":2,"reason":"because","row":1}"#);
        assert_eq!((rows.len(), text.len() as u64), (2, report_bytes));

        // Another run goes on with the counts and behind the entries of what was done.
        std::fs::write(&report, format!("{text}what came after")).unwrap();
        let done = Done { report_bytes, counts: tally.counts(), ..Done::default() };
        let mut tally = Tally::new(Kind::Events, Some(&report), &done).unwrap();
        let failure = Failure { place: Place { row: 5, line: 6 }, code: "x".into(), reason: "because".into() };
        tally.refused(vec![failure], &hidden).unwrap();
        assert!(tally.summary(Duration::from_secs(2)).starts_with("events: 5 rows, 1 stored, 3 failed"));
        assert!(tally.summary(Duration::from_secs(2)).ends_with("2.0 s, 0.5 rows/s"), "only what this run did");
        tally.flush().unwrap();
        let entries = [rows[0], rows[1], r#"{"code":"x","line":6,"reason":"because","row":5}"#];
        assert_eq!(std::fs::read_to_string(report).unwrap().lines().collect::<Vec<_>>(), entries);
    }

    #[test]
    fn pictures_count_only_with_their_items() {
        let mut tally = Tally::new(Kind::Items, None, &Done::default()).unwrap();
        let ends = vec![
            End::Stored { known_item: true },
            End::Failed { code: "bad_image".into(), reason: String::new() },
            End::Stored { known_item: true },
        ];
        tally.sent(&[prepared(1, 2), prepared(2, 1), prepared(3, 0)], ends, &ProgressBar::hidden()).unwrap();
        assert!(tally.summary(Duration::from_secs(1)).contains("2 stored, 1 failed, 2 pictures, 1 items sent without"));
    }
}
