//! Which log is meant? A table with named columns, or the engagements that a server has stored.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::Path;

use clap::Args;

use crate::cli::CliError;
use crate::cli::import::instant;
use crate::cli::output::{bar, byte_bar, note};
use crate::config::Settings;
use crate::evaluation::{ClickLog, Columns, ItemNumbers, LogBuilder, LogError, confidence_of, delimiter_of};
use crate::store::{self, LogEntry, Store};
use crate::{app, evaluation};

/// A header longer than this is none.
const MAX_HEADER_BYTES: usize = 1 << 20;
const READ_BUFFER_BYTES: usize = 1 << 20;

/// How tables are read.
#[derive(Debug, Args)]
pub(in crate::cli) struct TableArgs {
    /// Which column has what: session, item, time and, if there are any, user and value (a rating, which says how sure it is
    /// that the user likes the item). Times are seconds or milliseconds since 1970, or RFC 3339. Columns not named are called `SessionId`, `ItemId` and `Time`
    #[arg(long, value_name = "FIELD=COLUMN", value_delimiter = ',')]
    columns: Vec<String>,
    /// Column with the user's id; short for `--columns user=COLUMN`
    #[arg(long, value_name = "COLUMN")]
    user: Option<String>,
    /// What stands between columns: one character, or `tab`; found from the first line if not given
    #[arg(long, value_name = "CHARACTER", value_parser = delimiter)]
    delimiter: Option<u8>,
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text {
        "tab" | "\\t" => Ok(b'\t'),
        _ => match text.as_bytes() {
            [byte] if byte.is_ascii() => Ok(*byte),
            _ => Err("must be one character, or `tab`".into()),
        },
    }
}

impl TableArgs {
    /// Reads a table. Items get numbers, or keep those that they have.
    pub(in crate::cli) fn read(&self, file: &Path, items: &mut ItemNumbers) -> Result<ClickLog, CliError> {
        let columns = self.parsed()?;
        let opened = File::open(file).map_err(CliError::io(file.display()))?;
        let bytes = opened.metadata().map_err(CliError::io(file.display()))?.len();
        let mut input = BufReader::with_capacity(READ_BUFFER_BYTES, opened);
        let start = input.fill_buf().map_err(CliError::io(file.display()))?;
        let header = start.split(|&b| b == b'\n').next().unwrap_or_default();
        if start.is_empty() || header.len() >= MAX_HEADER_BYTES {
            let what = if start.is_empty() { "is empty" } else { "has no header line" };
            return Err(CliError::Failed(format!("{}: {what}", file.display())));
        }
        let delimiter = self.delimiter.unwrap_or_else(|| delimiter_of(&String::from_utf8_lossy(header)));
        let progress = byte_bar("reading the log", bytes);
        let read =
            ClickLog::read(progress.wrap_read(input), delimiter, &columns, items, |text| instant::read_text(text).ok());
        progress.finish_and_clear();
        let log = read.map_err(|error| CliError::Failed(format!("{}: {error}", file.display())))?;
        tell_skipped(&file.display().to_string(), &log);
        Ok(log)
    }

    fn parsed(&self) -> Result<Columns, CliError> {
        let mut columns = Columns { user: self.user.clone(), ..Columns::default() };
        for entry in &self.columns {
            let refused = || {
                CliError::Failed(format!("--columns needs session, item, time, user or value=COLUMN, not `{entry}`"))
            };
            let (field, column) = entry.split_once('=').ok_or_else(refused)?;
            let column = column.trim().to_owned();
            match field.trim() {
                "session" => columns.session = column,
                "item" => columns.item = column,
                "time" => columns.time = column,
                "user" => columns.user = Some(column),
                "value" => columns.value = Some(column),
                _ => return Err(refused()),
            }
        }
        Ok(columns)
    }
}

/// The engagements that a server has stored. No server may have the store open.
pub(in crate::cli) fn stored(settings: &Settings, items: &mut ItemNumbers) -> Result<(ClickLog, Store), CliError> {
    let dir = &settings.data_dir;
    if !store::is_in(dir) {
        let reason = "holds no database; name another folder with --data-dir, or a log";
        return Err(CliError::Failed(format!("{}: {reason}", dir.display())));
    }
    let store = app::open_store(settings)?;
    let progress = bar("reading the log", store.last_sequence());
    let mut builder = LogBuilder::default();
    let replayed = store.replay_entries(0, &mut |sequence, entry| {
        progress.set_position(sequence);
        match entry {
            LogEntry::Event(event) if event.kind.is_engagement() => {
                let user = event.user.map(|key| key.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
                let item = items.number(event.item.as_str());
                let confidence = confidence_of(event.kind, event.watched_s, event.value);
                builder.add(event.session.as_str(), user.as_deref(), item, event.occurred_at, confidence);
            }
            LogEntry::Event(_) | LogEntry::ItemPut(_) | LogEntry::ItemDeleted(_) => {}
        }
        ControlFlow::Continue(())
    });
    progress.finish_and_clear();
    replayed?;
    let log = builder.finish().map_err(|error| match error {
        LogError::Empty { .. } => CliError::Failed(format!("{}: has no engagements yet", dir.display())),
        evaluation::LogError::Read(_) | LogError::Column { .. } => CliError::Failed(error.to_string()),
    })?;
    Ok((log, store))
}

fn tell_skipped(name: &str, log: &ClickLog) {
    if log.skipped > 0 {
        note(format_args!("{name}: {} lines without a session, an item or a time are left out", log.skipped));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn args(columns: &[&str], delimiter: Option<u8>) -> TableArgs {
        TableArgs { columns: columns.iter().map(ToString::to_string).collect(), user: None, delimiter }
    }

    fn read(text: &str, args: &TableArgs) -> Result<ClickLog, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        std::fs::write(&file, text).unwrap();
        args.read(&file, &mut ItemNumbers::default()).map_err(|e| e.to_string())
    }

    #[test]
    fn delimiters_and_kinds_of_time() {
        let columns = ["session=s", "item=i", "time=t", "user=u"];
        for (text, given) in [
            ("s,i,t,u\na,x,1396860669,me\n", None),
            ("u;t;i;s\nme;1396860669000;x;a\n", None),
            ("s\ti\tt\tu\na\tx\t2014-04-07T08:51:09Z\tme\n", None),
            ("s:i:t:u\na:x:1396860669:me\n", Some(b':')),
        ] {
            let log = read(text, &args(&columns, given)).unwrap();
            assert_eq!(log.sessions[0].clicks[0].1, Timestamp(1_396_860_669_000), "{text}");
            assert!(log.sessions[0].user.is_some());
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert!(read("", &args(&[], None)).unwrap_err().ends_with("is empty"));
        assert!(read("a,b\n1,2\n", &args(&[], None)).unwrap_err().contains("no column `SessionId`"));
        assert!(read("a,b\n1,2\n", &args(&["who=a"], None)).unwrap_err().contains("not `who=a`"));
        assert!(read("SessionId,ItemId,Time\n", &args(&[], None)).unwrap_err().contains("no line with a session"));
        assert!(delimiter("ab").is_err());
        assert_eq!(delimiter("tab"), Ok(b'\t'));
    }
}
