//! What of an export is on the disk already? Whole rows, of which the last says where to go on.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use csv::ByteRecord;

use super::Format;
use super::lines::Key;
use super::table::Table;
use crate::cli::CliError;
use crate::cli::import::Kind;

const BUFFER_BYTES: usize = 256 << 10;

/// A file that is being written, beside its place.
#[derive(Debug)]
pub(super) struct Part {
    out: PathBuf,
    part: PathBuf,
    sink: Sink,
    rows: u64,
    last: Option<Key>,
}

#[derive(Debug)]
enum Sink {
    Lines(BufWriter<File>),
    Table(Table, Box<csv::Writer<File>>),
}

/// What was found in a file: its whole rows, and how long they are.
#[derive(Debug, Default)]
struct Found {
    rows: u64,
    bytes: u64,
    last: Option<Key>,
}

impl Part {
    /// A new file for `out`, in place of what an earlier export may have left; with `table`, it is one.
    pub(super) fn begin(out: &Path, table: Option<Table>) -> Result<Self, CliError> {
        let part = beside(out);
        match std::fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(CliError::io(part.display())(error)),
            Ok(()) | Err(_) => {}
        }
        // A new one, so that it is its owner's only, whatever was there.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
        let mut sink = Sink::new(file.map_err(CliError::io(part.display()))?, table);
        sink.head().map_err(CliError::io(part.display()))?;
        Ok(Self { out: out.to_owned(), part, sink, rows: 0, last: None })
    }

    /// The file that an earlier export left for `out`, without a row that is not whole; `None` if there is none.
    pub(super) fn resume(kind: Kind, out: &Path, format: Format) -> Result<Option<Self>, CliError> {
        let part = beside(out);
        let failed = |error: io::Error| CliError::Io { what: part.display().to_string(), source: error };
        let mut file = match OpenOptions::new().read(true).write(true).open(&part) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let (found, table) = match format {
            Format::Ndjson => (whole_lines(kind, &file).map_err(failed)?, None),
            Format::Csv => match whole_records(kind, &file).map_err(failed)? {
                Some((found, table)) => (found, Some(table)),
                None => return Ok(None),
            },
        };
        file.set_len(found.bytes).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let Found { rows, last, .. } = found;
        Ok(Some(Self { out: out.to_owned(), sink: Sink::new(file, table), part, rows, last }))
    }

    /// Rows in the file.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// The key of the last row.
    pub(super) fn last(&self) -> Option<&Key> {
        self.last.as_ref()
    }

    /// Writes a line of the export as a row.
    pub(super) fn write(&mut self, line: &[u8], key: Key, separator: &str) -> Result<(), CliError> {
        let written = match &mut self.sink {
            Sink::Lines(writer) => writer.write_all(line).and_then(|()| writer.write_all(b"\n")),
            Sink::Table(table, writer) => writer.write_record(table.cells(line, separator)?).map_err(io::Error::other),
        };
        written.map_err(CliError::io(self.part.display()))?;
        self.rows += 1;
        self.last = Some(key);
        Ok(())
    }

    /// Puts what was written into the file.
    pub(super) fn flush(&mut self) -> Result<(), CliError> {
        self.sink.flush().map_err(CliError::io(self.part.display()))
    }

    /// Gives the file its name, once everything is on the disk.
    pub(super) fn finish(mut self) -> Result<PathBuf, CliError> {
        let synced = self.sink.flush().and_then(|()| self.sink.file().sync_all());
        synced.map_err(CliError::io(self.part.display()))?;
        std::fs::rename(&self.part, &self.out).map_err(CliError::io(self.out.display()))?;
        Ok(self.out)
    }
}

impl Sink {
    fn new(file: File, table: Option<Table>) -> Self {
        match table {
            None => Self::Lines(BufWriter::with_capacity(BUFFER_BYTES, file)),
            Some(table) => {
                let writer = csv::WriterBuilder::new().buffer_capacity(BUFFER_BYTES).from_writer(file);
                Self::Table(table, Box::new(writer))
            }
        }
    }

    /// Writes the names of a table's columns.
    fn head(&mut self) -> io::Result<()> {
        match self {
            Self::Lines(_) => Ok(()),
            Self::Table(table, writer) => writer.write_record(table.columns()).map_err(io::Error::other),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Lines(writer) => writer.flush(),
            Self::Table(_, writer) => writer.flush(),
        }
    }

    fn file(&self) -> &File {
        match self {
            Self::Lines(writer) => writer.get_ref(),
            Self::Table(_, writer) => writer.get_ref(),
        }
    }
}

/// The name of the file while it grows.
fn beside(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn whole_lines(kind: Kind, file: &File) -> io::Result<Found> {
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, file);
    let (mut found, mut line, mut whole) = (Found::default(), Vec::new(), Vec::new());
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            break;
        }
        found.rows += 1;
        found.bytes += line.len() as u64 + 1;
        std::mem::swap(&mut line, &mut whole);
    }
    if found.rows > 0 {
        let key = Key::of(kind, &whole).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
        found.last = Some(key);
    }
    Ok(found)
}

/// The rows of a table and its columns; `None` if not even those are whole.
fn whole_records(kind: Kind, file: &File) -> io::Result<Option<(Found, Table)>> {
    let length = file.metadata()?.len();
    let mut end = [0];
    if length > 0 {
        file.read_exact_at(&mut end, length - 1)?;
    }
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(file);
    let mut record = ByteRecord::new();
    let mut next = || -> io::Result<Option<(ByteRecord, u64)>> {
        let there = reader.read_byte_record(&mut record).map_err(io::Error::other)?;
        Ok(there.then(|| (record.clone(), reader.position().byte())))
    };
    // Only the last row can be cut off. It is if the file does not end with a line break, or ends with one of a text,
    // so that columns are missing: the last one has no such texts.
    let whole =
        |record: &ByteRecord, bytes: u64, width: usize| record.len() == width && (bytes < length || end == [b'\n']);
    let Some((head, bytes)) = next()?.filter(|(head, bytes)| whole(head, *bytes, head.len())) else {
        return Ok(None);
    };
    let names: Vec<&str> = head.iter().filter_map(|name| std::str::from_utf8(name).ok()).collect();
    let Some(table) = Table::of_header(kind, &names) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "does not begin as such an export does"));
    };
    let mut found = Found { bytes, ..Found::default() };
    while let Some((record, bytes)) = next()?.filter(|(record, bytes)| whole(record, *bytes, head.len())) {
        let text = |cell: &[u8]| std::str::from_utf8(cell).ok().map(str::to_owned);
        let key = match kind {
            Kind::Items => record.get(0).and_then(text).map(Key::Item),
            Kind::Events => record.iter().next_back().and_then(text).and_then(|s| s.parse().ok()).map(Key::Sequence),
        };
        found = Found { rows: found.rows + 1, bytes, last: key };
    }
    if found.rows > 0 && found.last.is_none() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its last row has no key to go on from"));
    }
    Ok(Some((found, table)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [&str; 3] = [
        r#"{"sequence":1,"event_id":"a","type":"click","session_id":"s","item_id":"i"}"#,
        r#"{"sequence":4,"event_id":"b","type":"click","session_id":"s \"x\", y","item_id":"i","region":"zwei\nZeilen ü\n"}"#,
        r#"{"sequence":12,"event_id":"c","type":"click","session_id":"s","item_id":"i"}"#,
    ];

    fn key(line: &str) -> Key {
        Key::of(Kind::Events, line.as_bytes()).unwrap()
    }

    fn write(part: &mut Part, lines: &[&str]) {
        for line in lines {
            part.write(line.as_bytes(), key(line), "|").unwrap();
        }
    }

    /// However much of a file was written before it broke off, going on makes the whole file.
    #[test]
    fn a_file_cut_anywhere_is_gone_on_with() {
        for format in [Format::Ndjson, Format::Csv] {
            let dir = tempfile::tempdir().unwrap();
            let out = dir.path().join("events");
            let table = || (format == Format::Csv).then(|| Table::new(Kind::Events));
            let mut part = Part::begin(&out, table()).unwrap();
            write(&mut part, &EVENTS);
            assert!(!out.exists());
            assert_eq!((part.rows(), part.last()), (3, Some(&Key::Sequence(12))));
            let whole = std::fs::read(part.finish().unwrap()).unwrap();
            for cut in 0..=whole.len() {
                std::fs::write(beside(&out), &whole[..cut]).unwrap();
                let resumed = Part::resume(Kind::Events, &out, format);
                let mut part = match resumed.unwrap_or_else(|e| panic!("{format:?} {cut}: {e}")) {
                    Some(part) => part,
                    None => Part::begin(&out, table()).unwrap(),
                };
                let rows = usize::try_from(part.rows()).unwrap();
                let expected = rows.checked_sub(1).map(|last| key(EVENTS[last]));
                assert_eq!(part.last(), expected.as_ref(), "{format:?} {cut}");
                write(&mut part, &EVENTS[rows..]);
                assert_eq!(std::fs::read(part.finish().unwrap()).unwrap(), whole, "{format:?} {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_such_export_is_not_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("events");
        let resume = |format| Part::resume(Kind::Events, &out, format).map(|part| part.is_some());
        assert!(!resume(Format::Ndjson).unwrap(), "there is none");
        std::fs::write(beside(&out), "a,b\n1,2\n").unwrap();
        assert!(resume(Format::Ndjson).is_err() && resume(Format::Csv).is_err());
        use std::os::unix::fs::PermissionsExt;
        let part = Part::begin(&out, None).unwrap();
        assert_eq!(part.finish().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
