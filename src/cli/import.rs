//! `upnext import`: how do a catalogue and its history get in? Items and events from files, through the HTTP API.
//!
//! The API is the only way in, so that a file's rows are checked and understood as a client's requests are. With
//! `--url` a running server takes them; without, a server of this process does, which nobody else can talk to and which
//! ends with the import. Rows stream: at most three batches are in memory, whatever the size of the file.
//!
//! A row that cannot be used is counted and reported, and the others go on. The command fails if not a single row got
//! in, if the file or the server fails, or if it is interrupted. Importing a file again is harmless: items are written
//! over, events count once (see [`events`]). With `--resume` it need not begin again (see [`progress`]).

mod batch;
mod catalogue;
mod client;
mod columns;
mod events;
pub(super) mod instant;
mod items;
mod outcome;
mod progress;
mod source;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use tokio::sync::mpsc;

pub(super) use self::batch::Kind;
use self::batch::{Batch, Preparer};
pub(super) use self::catalogue::read_items;
use self::client::Client;
use self::columns::Columns;
use self::events::{EventMaker, IdSecret};
use self::items::{ItemMaker, Pictures};
use self::outcome::Tally;
use self::progress::{Done, Progress, Subject};
use self::source::{Format, Source};
use super::connection::Connection;
use super::output::{byte_bar, line};
use super::target::{Errand, Target, TargetArgs};
use super::{CliError, Common, interrupted, tokio_runtime};
use crate::domain::EventKind;

/// Batches that are read ahead while one is on its way.
const READ_AHEAD: usize = 1;

/// Load items or events from a file
#[derive(Debug, Subcommand)]
pub(super) enum Import {
    /// Write the items of a CSV, TSV or JSON-lines file, with their pictures
    Items(Items),
    /// Report the events of a CSV, TSV or JSON-lines file; they should stand in the order of time
    Events(Events),
}

/// Write the items of a file
#[derive(Debug, Args)]
pub(super) struct Items {
    #[command(flatten)]
    file: FileArgs,
    /// Folder with the items' pictures
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Names of an item's pictures in that folder, with commas between them; one that is not there is left out
    #[arg(long, value_name = "PATTERNS", default_value = "{item_id}.jpg", requires = "images", value_delimiter = ',')]
    image_name: Vec<String>,
    #[command(flatten)]
    target: TargetArgs,
}

/// Report the events of a file
#[derive(Debug, Args)]
pub(super) struct Events {
    #[command(flatten)]
    file: FileArgs,
    /// Type of the rows that name none
    #[arg(long = "type", value_name = "TYPE", default_value = "click")]
    kind: EventKind,
    /// Seconds of silence after which a user's next event begins a new session, where rows name no session
    #[arg(long, value_name = "SECONDS", default_value_t = 1800.0, value_parser = gap)]
    session_gap_s: f64,
    /// File with a secret of at least 16 bytes under which ids are made for rows that have none. By default the user
    /// secret of the data folder, or with --url the API key. Another secret makes other ids
    #[arg(long, value_name = "FILE")]
    id_secret_file: Option<PathBuf>,
    #[command(flatten)]
    target: TargetArgs,
}

/// How a file is read.
#[derive(Debug, Args)]
struct FileArgs {
    /// The file
    file: PathBuf,
    /// Its format; by default what its name ends with (.csv, .tsv, .jsonl, .ndjson)
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Which column has what, for example `item_id=movieId,title=title`; columns not named are ignored. By default
    /// columns that are called like fields. Further fields of items: `attributes.year:number=year` (or :flag, :list)
    #[arg(long, value_name = "FIELD=COLUMN", value_delimiter = ',')]
    columns: Vec<String>,
    /// What stands between the entries of a list in a column (tags, categories, regions)
    #[arg(long, value_name = "TEXT", default_value = "|")]
    list_separator: String,
    /// File for the rows that failed, as JSON lines with row, line, code and reason
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Keep the progress in a small file beside the report (or beside the file, without a report), and go on where an
    /// interrupted import stopped. Rows that were sent and not yet noted come again, which is harmless
    #[arg(long)]
    resume: bool,
}

impl Import {
    pub(super) fn run(self, common: &Common) -> Result<(), CliError> {
        match self {
            Self::Items(items) => items.run(common),
            Self::Events(events) => events.run(common),
        }
    }
}

impl Items {
    fn run(self, common: &Common) -> Result<(), CliError> {
        let source = self.file.open(Kind::Items)?;
        let pictures = self.images.clone().map(|dir| Pictures::new(dir, self.image_name.clone())).transpose()?;
        let images = self.images.map(|dir| dir.display().to_string()).unwrap_or_default();
        let way = [self.target.name(common)?, images, self.image_name.join(",")];
        let job = self.file.job(Kind::Items, &way)?;
        let target = Target::prepare(&self.target, common, Errand::Import)?;
        job.run(source, Preparer::Items(ItemMaker::new(pictures)), target)
    }
}

impl Events {
    fn run(self, common: &Common) -> Result<(), CliError> {
        let source = self.file.open(Kind::Events)?;
        let own_secret = self.id_secret_file.as_deref().map(IdSecret::read).transpose()?;
        let way = [self.target.name(common)?, self.kind.to_string(), self.session_gap_s.to_string()];
        let job = self.file.job(Kind::Events, &way)?;
        let target = Target::prepare(&self.target, common, Errand::Import)?;
        let secret = own_secret.unwrap_or_else(|| IdSecret::new(target.secret()));
        let maker = EventMaker::new(self.kind, self.session_gap_s, &secret);
        job.run(source, Preparer::Events(maker), target)
    }
}

impl FileArgs {
    fn open(&self, kind: Kind) -> Result<Source, CliError> {
        let columns = Columns::parse(kind, &self.columns, &self.list_separator).map_err(CliError::Failed)?;
        Source::open(&self.file, self.format, &columns)
    }

    /// What has to be done, and what an earlier run had done of it. `way` is what was said beside this.
    fn job(&self, kind: Kind, way: &[String]) -> Result<Job, CliError> {
        let mut file = self.report.as_ref().unwrap_or(&self.file).as_os_str().to_owned();
        file.push(".progress");
        let (progress, done) = if self.resume {
            let format = format!("{:?}", self.format);
            let own = [kind.name(), &format, &self.columns.join(","), &self.list_separator];
            let way: Vec<&str> = own.into_iter().chain(way.iter().map(String::as_str)).collect();
            let (progress, done) = Progress::open(file.into(), Subject::of(&self.file, &way)?)?;
            (Some(progress), done)
        } else {
            // What this import is about to do, none may go on with.
            progress::forget(Path::new(&file))?;
            (None, Done::default())
        };
        Ok(Job { tally: Tally::new(kind, self.report.as_deref(), &done)?, progress, done })
    }
}

fn gap(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds > 0.0 => Ok(seconds),
        _ => Err("must be a number of seconds above 0".into()),
    }
}

/// What has to be done, and how far it is.
struct Job {
    tally: Tally,
    /// With `--resume`.
    progress: Option<Progress>,
    /// What an earlier run had done.
    done: Done,
}

impl Job {
    /// Reads, sends and says how it went.
    fn run(mut self, source: Source, preparer: Preparer, target: Target) -> Result<(), CliError> {
        let started = Instant::now();
        let bar = byte_bar(preparer.kind().name(), source.file_bytes());
        let outcome = tokio_runtime()?.block_on(async {
            let running = target.start().await?;
            let sent = tokio::select! {
                sent = self.transfer(source, preparer, &running.connection, &bar) => sent,
                () = interrupted() => Err(CliError::Failed("interrupted; the same import again goes on".into())),
            };
            running.stop().await;
            sent
        });
        bar.finish_and_clear();
        let written = self.tally.flush().and_then(|_| match (self.progress, &outcome) {
            (None, _) => Ok(()),
            (Some(progress), Ok(())) => progress.remove(),
            (Some(mut progress), Err(_)) => progress.save(&mut self.tally),
        });
        // What got in is in, even if the rest failed.
        line(self.tally.summary(started.elapsed()));
        outcome?;
        written?;
        if self.tally.imported_nothing() {
            return Err(CliError::Failed("not a single row could be imported".into()));
        }
        Ok(())
    }

    /// Sends one batch at a time, so that events arrive in the file's order, while the next one is being read.
    async fn transfer(
        &mut self,
        mut source: Source,
        mut preparer: Preparer,
        connection: &Connection,
        bar: &ProgressBar,
    ) -> Result<(), CliError> {
        let (kind, client, done) = (preparer.kind(), Client::new(connection), self.done);
        let (sender, mut batches) = mpsc::channel::<Result<Batch, CliError>>(READ_AHEAD);
        let reader = tokio::task::spawn_blocking(move || {
            if let Err(error) = preparer.skip(&mut source, &done, || !sender.is_closed()) {
                // Nobody receives any more, and nobody wants to know.
                let _ = sender.blocking_send(Err(error));
                return;
            }
            loop {
                let batch = preparer.next_batch(&mut source);
                let last = !matches!(&batch, Ok(Some(_)));
                // Nobody receives any more: the import has failed or was interrupted.
                if batch.transpose().is_some_and(|batch| sender.blocking_send(batch).is_err()) || last {
                    return;
                }
            }
        });
        while let Some(batch) = batches.recv().await {
            let Batch { rows, refused, last_row, file_bytes } = batch?;
            let ends = if rows.is_empty() { Vec::new() } else { client.send(kind, &rows).await? };
            // From here on nothing waits, so that an interruption finds all of a batch counted or nothing.
            self.tally.refused(refused, bar)?;
            self.tally.sent(&rows, ends, bar)?;
            if let Some(progress) = &mut self.progress {
                progress.note(last_row, file_bytes, &mut self.tally)?;
            }
            bar.set_position(file_bytes);
        }
        reader.await.map_err(|e| CliError::Failed(format!("the file could not be read to its end: {e}")))
    }
}
