//! What goes into one request? As many rows as its bounds allow.

use super::events::EventMaker;
use super::items::ItemMaker;
use super::outcome::Failure;
use super::progress::Done;
use super::source::{Place, Source};
use crate::cli::CliError;

/// What a file has rows of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Kind {
    Items,
    Events,
}

impl Kind {
    /// The word for many of them.
    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            Self::Items => "items",
            Self::Events => "events",
        }
    }

    fn max_rows(self) -> usize {
        match self {
            // With pictures, that is about a second of work on two processors.
            Self::Items => 32,
            Self::Events => 1_000,
        }
    }

    /// A batch ends with the row that passes this; so that much and one row are in memory.
    fn enough_bytes(self) -> usize {
        match self {
            Self::Items => 16 << 20,
            Self::Events => 2 << 20,
        }
    }
}

/// A row, ready to be sent.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) place: Place,
    /// The API's JSON.
    pub(super) json: Vec<u8>,
    pub(super) pictures: u64,
}

/// Rows that go together, and those between them that cannot go at all.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) rows: Vec<Prepared>,
    pub(super) refused: Vec<Failure>,
    /// The number of its last row.
    pub(super) last_row: u64,
    /// Where in the file that ends.
    pub(super) file_bytes: u64,
}

/// Makes batches of a file's rows.
#[derive(Debug)]
pub(super) enum Preparer {
    Items(ItemMaker),
    Events(EventMaker),
}

impl Preparer {
    /// What it makes.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Items(_) => Kind::Items,
            Self::Events(_) => Kind::Events,
        }
    }

    /// The next batch; `None` at the end of the file.
    pub(super) fn next_batch(&mut self, source: &mut Source) -> Result<Option<Batch>, CliError> {
        let kind = self.kind();
        let (mut rows, mut refused, mut bytes) = (Vec::new(), Vec::new(), 0);
        // Refused rows count too: a file of nothing else must not be gathered in memory.
        while rows.len() + refused.len() < kind.max_rows() && bytes < kind.enough_bytes() {
            let Some(row) = source.next_row()? else { break };
            let prepared = row.fields.and_then(|fields| match self {
                Self::Items(maker) => maker.complete(fields),
                Self::Events(maker) => maker.complete(row.place.row, fields).map(|fields| (fields, 0)),
            });
            let json = prepared
                .and_then(|(fields, pictures)| Ok((serde_json::to_vec(&fields).map_err(|e| e.to_string())?, pictures)));
            match json {
                Ok((json, pictures)) => {
                    bytes += json.len();
                    rows.push(Prepared { place: row.place, json, pictures });
                }
                Err(reason) => refused.push(Failure { place: row.place, code: "unusable_row".into(), reason }),
            }
        }
        let over = rows.is_empty() && refused.is_empty();
        let (last_row, file_bytes) = (source.rows_read(), source.position_bytes());
        Ok((!over).then_some(Batch { rows, refused, last_row, file_bytes }))
    }

    /// Reads what an earlier run had done and sends none of it. Rows without a session belong to the one of the rows
    /// before them, so that those have to be seen.
    /// Ends early once nobody wants it any more.
    pub(super) fn skip(
        &mut self,
        source: &mut Source,
        done: &Done,
        is_wanted: impl Fn() -> bool,
    ) -> Result<(), CliError> {
        while source.rows_read() < done.rows {
            if !is_wanted() {
                return Ok(());
            }
            let Some(row) = source.next_row()? else { break };
            if let (Self::Events(maker), Ok(fields)) = (&mut *self, row.fields) {
                // Why a row cannot be used was said when it was its turn.
                let _ = maker.complete(row.place.row, fields);
            }
        }
        if done.rows > 0 && (source.rows_read(), source.position_bytes()) != (done.rows, done.bytes) {
            return Err(CliError::Failed("the file has changed since the import was interrupted".into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::columns::Columns;
    use super::super::events::IdSecret;
    use super::*;
    use crate::domain::EventKind;

    fn open(file: &Path) -> (Source, Preparer) {
        let columns = Columns::parse(Kind::Events, &[], "|").unwrap();
        let maker = EventMaker::new(EventKind::Click, 60.0, &IdSecret::new(b"secret"));
        (Source::open(file, None, &columns).unwrap(), Preparer::Events(maker))
    }

    fn rest(source: &mut Source, preparer: &mut Preparer) -> Vec<String> {
        let rows = preparer.next_batch(source).unwrap().map(|batch| batch.rows).unwrap_or_default();
        rows.into_iter().map(|row| String::from_utf8(row.json).unwrap()).collect()
    }

    #[test]
    fn rows_that_are_skipped_still_count_for_those_behind_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.csv");
        let text: String = (0..6).map(|n| format!("u,item {n},{}\n", 1_000 + n * 50)).collect();
        std::fs::write(&file, format!("user_id,item_id,occurred_at\n{text}")).unwrap();
        let (mut source, mut preparer) = open(&file);
        let whole = rest(&mut source, &mut preparer);
        let done = Done { rows: 4, bytes: 28 + 4 * 14, ..Done::default() };
        let (mut source, mut preparer) = open(&file);
        preparer.skip(&mut source, &done, || true).unwrap();
        assert_eq!(rest(&mut source, &mut preparer), whole[4..], "the same session, and the same ids");
        // Another length of what was done gives a change away, wherever it is.
        let (mut source, mut preparer) = open(&file);
        assert!(preparer.skip(&mut source, &Done { bytes: 83, ..done }, || true).is_err());
        let (mut source, mut preparer) = open(&file);
        assert!(preparer.skip(&mut source, &Done { rows: 7, ..done }, || true).is_err());
        let (mut source, mut preparer) = open(&file);
        preparer.skip(&mut source, &done, || false).unwrap();
        assert_eq!(source.rows_read(), 0, "nobody wants it");
    }
}
