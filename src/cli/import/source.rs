//! What are the rows of a file? CSV, TSV and JSON lines, one row at a time.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::ValueEnum;
use csv::{ReaderBuilder, StringRecord, Trim};
use serde_json::{Map, Value};

use super::columns::{Bound, Columns};
use crate::cli::CliError;

/// The longest row that is read; one that is longer is, most likely, a quote that is never closed.
const MAX_ROW_BYTES: u64 = 32 << 20;
const READ_BUFFER_BYTES: usize = 64 << 10;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Commas between columns, names in the first row
    Csv,
    /// Tabs between columns, names in the first row
    Tsv,
    /// One JSON object a line, with the fields of the API
    #[value(alias = "ndjson")]
    Jsonl,
}

/// A file that is being read.
#[derive(Debug)]
pub(super) struct Source {
    file: PathBuf,
    file_bytes: u64,
    rows: Rows,
    meter: Meter,
    /// Rows read so far.
    number: u64,
}

/// A row, or why it cannot be understood.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) place: Place,
    pub(super) fields: Result<Map<String, Value>, String>,
}

/// Where a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// From 1; the header and empty lines do not count.
    pub(super) row: u64,
    /// The line of the file that it begins on, from 1; in a table, that of the empty lines before it.
    pub(super) line: u64,
}

#[derive(Debug)]
enum Rows {
    Table { reader: Box<csv::Reader<Metered>>, record: StringRecord, columns: Bound },
    Lines { reader: BufReader<Metered>, line: u64, read_bytes: u64, buffer: Vec<u8> },
}

impl Source {
    /// Opens `file` and finds its columns.
    pub(super) fn open(file: &Path, format: Option<Format>, columns: &Columns) -> Result<Self, CliError> {
        Self::open_bounded(file, format, columns, MAX_ROW_BYTES)
    }

    fn open_bounded(
        file: &Path,
        format: Option<Format>,
        columns: &Columns,
        max_row_bytes: u64,
    ) -> Result<Self, CliError> {
        let failed = |reason: String| CliError::Failed(format!("{}: {reason}", file.display()));
        let format = match format {
            Some(format) => format,
            None => format_of(file).ok_or_else(|| failed("its name tells no format; say --format".into()))?,
        };
        let opened = File::open(file).map_err(CliError::io(file.display()))?;
        let file_bytes = opened.metadata().map_err(CliError::io(file.display()))?.len();
        let meter = Meter::default();
        let metered = Metered { inner: opened, meter: meter.clone(), max_row_bytes };
        let rows = match format {
            Format::Csv | Format::Tsv => {
                let mut builder = ReaderBuilder::new();
                builder.trim(Trim::All).buffer_capacity(READ_BUFFER_BYTES);
                if format == Format::Tsv {
                    builder.delimiter(b'\t');
                }
                let mut reader = builder.from_reader(metered);
                let header = reader.headers().map_err(|e| failed(e.to_string()))?;
                let columns = columns.bind(header).map_err(failed)?;
                Rows::Table { reader: Box::new(reader), record: StringRecord::new(), columns }
            }
            Format::Jsonl if columns.are_named() => {
                return Err(failed("JSON lines have the fields of the API; --columns is for tables".into()));
            }
            Format::Jsonl => {
                let reader = BufReader::with_capacity(READ_BUFFER_BYTES, metered);
                Rows::Lines { reader, line: 0, read_bytes: 0, buffer: Vec::new() }
            }
        };
        Ok(Self { file: file.to_owned(), file_bytes, rows, meter, number: 0 })
    }

    /// Size of the file.
    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Where in the file the last row that was read ends.
    pub(super) fn position_bytes(&self) -> u64 {
        match &self.rows {
            Rows::Table { reader, .. } => reader.position().byte(),
            Rows::Lines { read_bytes, .. } => *read_bytes,
        }
    }

    /// The number of the last row that was read; 0 before the first.
    pub(super) fn rows_read(&self) -> u64 {
        self.number
    }

    /// The next row; `None` at the end. Only a file that cannot be read is an error.
    pub(super) fn next_row(&mut self) -> Result<Option<Row>, CliError> {
        self.meter.row_begins();
        let read = match &mut self.rows {
            Rows::Table { reader, record, columns } => table_row(reader, record, columns),
            Rows::Lines { reader, line, read_bytes, buffer } => line_row(reader, line, read_bytes, buffer),
        };
        let Some((line, fields)) = read.map_err(CliError::io(self.file.display()))? else { return Ok(None) };
        self.number += 1;
        Ok(Some(Row { place: Place { row: self.number, line }, fields }))
    }
}

/// The line that a row begins on, and what it says.
type Parsed = (u64, Result<Map<String, Value>, String>);

fn table_row(
    reader: &mut csv::Reader<Metered>,
    record: &mut StringRecord,
    columns: &Bound,
) -> io::Result<Option<Parsed>> {
    let before = reader.position().line();
    match reader.read_record(record) {
        Ok(false) => Ok(None),
        Ok(true) => Ok(Some((record.position().map_or(before, csv::Position::line), columns.read(record)))),
        Err(error) => {
            let line = error.position().map_or(before, csv::Position::line);
            let text = error.to_string();
            let reason = if error.is_io_error() {
                let csv::ErrorKind::Io(error) = error.into_kind() else { return Err(io::Error::other(text)) };
                return Err(error);
            } else if let csv::ErrorKind::UnequalLengths { expected_len, len, .. } = error.kind() {
                format!("has {len} columns, the first row has {expected_len}")
            } else if let csv::ErrorKind::Utf8 { .. } = error.kind() {
                "is not UTF-8".to_owned()
            } else {
                text
            };
            Ok(Some((line, Err(reason))))
        }
    }
}

fn line_row(
    reader: &mut BufReader<Metered>,
    line: &mut u64,
    read_bytes: &mut u64,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<Parsed>> {
    loop {
        buffer.clear();
        if reader.read_until(b'\n', buffer)? == 0 {
            return Ok(None);
        }
        *line += 1;
        *read_bytes += buffer.len() as u64;
        if *line == 1 && buffer.starts_with(b"\xef\xbb\xbf") {
            buffer.drain(..3);
        }
        if buffer.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let fields = match serde_json::from_slice(buffer) {
            Ok(Value::Object(fields)) => Ok(fields),
            Ok(_) => Err("is no JSON object".into()),
            Err(error) => Err(format!("is no JSON: {error}")),
        };
        return Ok(Some((*line, fields)));
    }
}

fn format_of(file: &Path) -> Option<Format> {
    match file.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "csv" => Some(Format::Csv),
        "tsv" | "tab" => Some(Format::Tsv),
        "jsonl" | "ndjson" => Some(Format::Jsonl),
        _ => None,
    }
}

/// How much was read, in all and up to where a row began. Shared by the source and its reader.
#[derive(Debug, Clone, Default)]
struct Meter {
    read_bytes: Arc<AtomicU64>,
    row_began: Arc<AtomicU64>,
}

impl Meter {
    fn row_begins(&self) {
        self.row_began.store(self.read_bytes.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// A file that refuses to give more than one row may have, whatever the reader of rows would hold.
#[derive(Debug)]
struct Metered {
    inner: File,
    meter: Meter,
    max_row_bytes: u64,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read_bytes = self.meter.read_bytes.load(Ordering::Relaxed);
        if read_bytes - self.meter.row_began.load(Ordering::Relaxed) > self.max_row_bytes {
            let reason =
                format!("a row has more than {} bytes; is there a quote that is never closed?", self.max_row_bytes);
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let count = self.inner.read(buffer)?;
        self.meter.read_bytes.store(read_bytes + count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::Kind;
    use super::*;

    fn rows(name: &str, text: &[u8], columns: &[&str]) -> Vec<(u64, u64, Result<String, String>)> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(name);
        std::fs::write(&file, text).unwrap();
        let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
        let columns = Columns::parse(Kind::Items, &columns, "|").unwrap();
        let mut source = Source::open(&file, None, &columns).unwrap();
        let mut all = Vec::new();
        while let Some(row) = source.next_row().unwrap() {
            all.push((row.place.row, row.place.line, row.fields.map(|f| Value::Object(f).to_string())));
        }
        assert_eq!(source.position_bytes(), source.file_bytes());
        all
    }

    #[test]
    fn a_bad_row_of_a_table_does_not_end_it() {
        let text = b"\xef\xbb\xbfitem_id,title\n 1 ,\"a, \"\"b\"\"\nc\"\n2\n3,\xff\n\n4,d\n";
        let rows = rows("x.csv", text, &[]);
        assert_eq!(rows[0], (1, 2, Ok(r#"{"item_id":"1","title":"a, \"b\"\nc"}"#.into())));
        assert_eq!((rows[1].0, rows[1].1), (2, 4));
        assert_eq!(rows[1].2, Err("has 1 columns, the first row has 2".into()));
        assert_eq!(rows[2].2, Err("is not UTF-8".into()));
        assert_eq!(rows[3], (4, 6, Ok(r#"{"item_id":"4","title":"d"}"#.into())));
    }

    #[test]
    fn tabs_and_names() {
        let rows = rows("x.TSV", b"movie\tname\n1\ta,b\n", &["item_id=movie", "title=name"]);
        assert_eq!(rows, [(1, 2, Ok(r#"{"item_id":"1","title":"a,b"}"#.into()))]);
    }

    #[test]
    fn lines_of_json() {
        let rows = rows("x.ndjson", b"{\"item_id\":\"1\"}\n\n[1]\n{\n{\"item_id\":\"2\"}", &[]);
        assert_eq!(rows[0], (1, 1, Ok(r#"{"item_id":"1"}"#.into())));
        assert_eq!(rows[1], (2, 3, Err("is no JSON object".into())));
        assert_eq!(rows[2].1, 4);
        assert!(rows[2].2.as_ref().unwrap_err().starts_with("is no JSON: "));
        assert_eq!(rows[3].0, 4);
    }

    #[test]
    fn a_row_without_end_is_an_error_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.csv");
        std::fs::write(&file, format!("item_id\n\"{}", "x".repeat(400_000))).unwrap();
        let columns = Columns::parse(Kind::Items, &[], "|").unwrap();
        let mut source = Source::open_bounded(&file, None, &columns, 100_000).unwrap();
        assert!(matches!(source.next_row(), Err(CliError::Io { .. })));
    }

    #[test]
    fn what_cannot_be_opened_says_why() {
        let columns = Columns::parse(Kind::Items, &["item_id=a".into()], "|").unwrap();
        let failed = |name: &str, text: &str| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(name), text).unwrap();
            Source::open(&dir.path().join(name), None, &columns).unwrap_err().to_string()
        };
        assert!(failed("x.parquet", "").contains("--format"));
        assert!(failed("x.jsonl", "").contains("--columns"));
        assert!(failed("x.csv", "b\n").contains("no column `a`"));
        assert!(Source::open(Path::new("not-there.csv"), None, &columns).is_err());
    }
}
