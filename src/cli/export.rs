//! `upnext export`: how does everything get out again? Items and events into files, through the HTTP API.
//!
//! A file grows beside its place, as `FILE.part`, and takes it once it is whole. What is read is what a server answers to
//! `GET /v1/items/export` and `GET /v1/events/export`: with `--url` a running one, without it one of this process. A
//! server that goes away is asked again from the last whole row on; so is one after `--resume`.

mod lines;
mod part;
mod table;

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, Subcommand, ValueEnum};
use indicatif::ProgressBar;
use serde::Deserialize;

use self::lines::{Key, fetch};
use self::part::Part;
use self::table::Table;
use super::connection::Connection;
use super::import::Kind;
use super::output::{bar, line};
use super::target::{Errand, Target, TargetArgs};
use super::{CliError, Common, interrupted, tokio_runtime};

/// Save items or events to a file
#[derive(Debug, Subcommand)]
pub(super) enum Export {
    /// Save the catalogue: what was said of each item, and the hashes and sizes of its pictures
    ///
    /// The pictures themselves are not in it: a server keeps thumbnails, not what was uploaded. To move a catalogue with
    /// its pictures, import the export with `--images`, the folder that the pictures came from.
    Items(Saved),
    /// Save the log's events, in its order
    ///
    /// Users are pseudonyms (`user_key`): a server does not know their ids. Imported into a server with the same user
    /// secret (`security.user_secret`, or the file `user-secret` of the data folder) they are the same people.
    Events(Saved),
}

/// What is saved where.
#[derive(Debug, Args)]
pub(super) struct Saved {
    /// The file to write, for its owner only; until it is whole it is called FILE.part
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The format; by default csv if the file's name ends with .csv, else ndjson
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// What stands between the entries of a list in a table (tags, categories, regions)
    #[arg(long, value_name = "TEXT", default_value = "|")]
    list_separator: String,
    /// Go on with FILE.part where it stopped
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    target: TargetArgs,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One JSON object a line, as the API has it; loses nothing
    #[value(alias = "jsonl")]
    Ndjson,
    /// A table with names in the first row, for other programs; an import trims its cells
    Csv,
}

impl Export {
    pub(super) fn run(self, common: &Common) -> Result<(), CliError> {
        match self {
            Self::Items(saved) => saved.run(Kind::Items, common),
            Self::Events(saved) => saved.run(Kind::Events, common),
        }
    }
}

impl Saved {
    fn run(&self, kind: Kind, common: &Common) -> Result<(), CliError> {
        if self.list_separator.is_empty() {
            return Err(CliError::Failed("the list separator must not be empty".into()));
        }
        let started = Instant::now();
        let target = Target::prepare(&self.target, common, Errand::Export)?;
        let (mut part, progress) = (None, bar(kind.name(), 0));
        let outcome = tokio_runtime()?.block_on(async {
            let running = target.start().await?;
            let saved = tokio::select! {
                saved = self.save(kind, &running.connection, &mut part, &progress) => saved,
                () = interrupted() => Err(CliError::Failed("interrupted; the same with --resume goes on".into())),
            };
            running.stop().await;
            saved
        });
        progress.finish_and_clear();
        let Some(mut part) = part else { return outcome };
        // What is there can be gone on with, even if the rest failed.
        part.flush()?;
        outcome?;
        let rows = part.rows();
        let file = part.finish()?;
        let seconds = started.elapsed().as_secs_f64();
        line(format_args!("{}: {rows} rows in {}; {seconds:.1} s", kind.name(), file.display()));
        Ok(())
    }

    async fn save(
        &self,
        kind: Kind,
        connection: &Connection,
        open: &mut Option<Part>,
        progress: &ProgressBar,
    ) -> Result<(), CliError> {
        // Also finds out whether the key will do.
        let there = Status::ask(connection).await?;
        progress.set_length(match kind {
            Kind::Items => there.items,
            Kind::Events => there.log_sequence,
        });
        let begun = if self.resume { Part::resume(kind, &self.out, self.format())? } else { None };
        let part = match begun {
            Some(part) => part,
            None => Part::begin(&self.out, self.table(kind, connection).await?)?,
        };
        let part = open.insert(part);
        let separator = &self.list_separator;
        fetch(connection, kind, part.last().cloned(), &mut |line| {
            let key = Key::of(kind, line)?;
            part.write(line, key.clone(), separator)?;
            match &key {
                Key::Sequence(sequence) => progress.set_position(*sequence),
                Key::Item(_) => progress.set_position(part.rows()),
            }
            Ok(key)
        })
        .await
    }

    /// The columns of a table, for which the catalogue is read once before: its attributes are the owner's own.
    async fn table(&self, kind: Kind, connection: &Connection) -> Result<Option<Table>, CliError> {
        if self.format() == Format::Ndjson {
            return Ok(None);
        }
        let mut table = Table::new(kind);
        if kind == Kind::Items {
            fetch(connection, kind, None, &mut |line| {
                table.note_attributes(line)?;
                Key::of(kind, line)
            })
            .await?;
        }
        Ok(Some(table))
    }

    fn format(&self) -> Format {
        let table = self.out.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
        self.format.unwrap_or(if table { Format::Csv } else { Format::Ndjson })
    }
}

/// How much a server has.
#[derive(Deserialize)]
struct Status {
    items: u64,
    log_sequence: u64,
}

impl Status {
    async fn ask(connection: &Connection) -> Result<Self, CliError> {
        let text = lines::get(connection, "/v1/admin/status").await?;
        let broken = |_| CliError::Failed(format!("{} answered something else", connection.base()));
        serde_json::from_slice(&text).map_err(broken)
    }
}
