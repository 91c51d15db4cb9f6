//! What goes into one request? As many rows as its bounds allow.

use super::events::EventMaker;
use super::items::ItemMaker;
use super::outcome::Failure;
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
    /// How much of the file was read for it.
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
        Ok((!over).then(|| Batch { rows, refused, file_bytes: source.position_bytes() }))
    }
}
