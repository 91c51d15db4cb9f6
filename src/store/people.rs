//! Which entries of the log are a person's? Each names the one before it; here is the last one of each.
//!
//! Following the chain finds all of a person's entries without an index that every event would have to update. The
//! last ones are kept in memory as far as they have changed lately, and written to their table now and then; on
//! opening, the entries since then are read again.

use std::collections::HashMap;

use redb::{ReadableTable, StorageError};

/// Persons that may have changed since the table was written.
const MAX_CHANGED: usize = 65_536;

/// Entries that may have been logged since then: what an opening has to look through.
const MAX_ENTRIES: u64 = 200_000;

/// The last entry of each person.
#[derive(Debug, Default)]
pub(super) struct People {
    /// By slot; differs from the table.
    changed: HashMap<u32, u64>,
    /// Of the write that is going on.
    staged: HashMap<u32, u64>,
    /// The entry up to which the table is true.
    table_at: u64,
}

impl People {
    /// As the table has it, which is true up to the entry `table_at`.
    pub(super) fn from_table(table_at: u64) -> Self {
        Self { table_at, ..Self::default() }
    }

    /// The last entry of the person at `slot`, 0 if there is none.
    pub(super) fn last(&self, slot: u32, table: &impl ReadableTable<u32, u64>) -> Result<u64, StorageError> {
        match self.staged.get(&slot).or_else(|| self.changed.get(&slot)) {
            Some(&last) => Ok(last),
            None => Ok(table.get(slot)?.map_or(0, |last| last.value())),
        }
    }

    /// Notes a new last entry, which counts once the write is [committed](Self::committed).
    pub(super) fn note(&mut self, slot: u32, sequence: u64) {
        self.staged.insert(slot, sequence);
    }

    /// Whether the table should be brought up to date by the write that ends at `sequence`.
    pub(super) fn is_due(&self, sequence: u64) -> bool {
        self.changed.len() + self.staged.len() >= MAX_CHANGED || sequence.saturating_sub(self.table_at) >= MAX_ENTRIES
    }

    /// Brings the table up to date.
    pub(super) fn write(&self, table: &mut redb::Table<'_, u32, u64>) -> Result<(), StorageError> {
        let mut rows: Vec<(u32, u64)> = self.changed.iter().chain(&self.staged).map(|(s, l)| (*s, *l)).collect();
        rows.sort_unstable();
        for (slot, last) in rows {
            table.insert(slot, last)?;
        }
        Ok(())
    }

    /// The write has become durable; `table_at` if it brought the table up to date.
    pub(super) fn committed(&mut self, table_at: Option<u64>) {
        match table_at {
            Some(at) => {
                *self = Self::from_table(at);
            }
            None => self.changed.extend(self.staged.drain()),
        }
    }

    /// The write has failed.
    pub(super) fn failed(&mut self) {
        self.staged.clear();
    }
}
