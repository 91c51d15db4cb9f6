//! How does the file shrink, and how do old records come under a new key, while the service goes on?
//!
//! All rows are copied into a new file from one consistent view, which may take a while. Then the writer, between two
//! commits, copies what has changed since, and puts the new file in the place of the old one. Pages that the database
//! no longer uses, with what once stood in them, stay behind. The same copy, not put in any place, is a backup.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::{Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::codec::{LogRecord, thumbnail_context};
use super::core::{Core, INDEX_KEY_CONTEXT, read_ends};
use super::seal::{BlindId, Kind};
use super::tables::{CATALOGUE, EVENT_IDS, INDEX_KEY, LOG, LOG_TIMES, META, PEOPLE, SECRETS, THUMBNAILS, Tables};
use super::{DATABASE, StoreError};

pub(super) const REWRITTEN: &str = "upnext.redb.new";

/// Rows that are written with one commit.
const ROWS_A_COMMIT: usize = 20_000;

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// The last entry of the log that the copy holds.
    pub sequence: u64,
    /// Entries of the log.
    pub entries: u64,
    /// Items.
    pub items: u64,
    /// Records that were sealed again under the active key.
    pub resealed: u64,
    /// Records that could not be opened to be sealed again, and were copied as they are.
    pub unreadable: u64,
}

/// Copies everything into the empty database `into`; with `reseal` under the active sealing key.
pub(super) fn copy(
    core: &Core,
    into: &Database,
    reseal: bool,
    mut progress: impl FnMut(u64, u64),
) -> Result<Copied, redb::Error> {
    let view = core.database.load().begin_read()?;
    let mut copied = Copied::default();
    let log = view.open_table(LOG)?;
    copied.sequence = log.last()?.map_or(0, |(sequence, _)| sequence.value());
    let total = log.len()? + view.open_table(CATALOGUE)?.len()?;
    let batch = Batch::new(into);
    batch.rows(log.iter()?, |tables, sequence: u64, record: &[u8]| {
        copied.entries += 1;
        if copied.entries % 1000 == 0 {
            progress(copied.entries, total);
        }
        let renewed = if reseal { renew(core.codec.reseal_log_entry(record), &mut copied) } else { None };
        tables.log.insert(sequence, renewed.as_deref().unwrap_or(record)).map(drop)
    })?;
    batch.rows(view.open_table(EVENT_IDS)?.iter()?, |tables, id, sequence| {
        tables.event_ids.insert(id, sequence).map(drop)
    })?;
    batch.rows(view.open_table(CATALOGUE)?.iter()?, |tables, key: &BlindId, record: &[u8]| {
        copied.items += 1;
        if copied.items % 1000 == 0 {
            progress(copied.entries + copied.items, total);
        }
        let renewed = if reseal { renew(core.codec.reseal(Kind::Item, key, record), &mut copied) } else { None };
        tables.catalogue.insert(key, renewed.as_deref().unwrap_or(record)).map(drop)
    })?;
    batch.rows(view.open_table(THUMBNAILS)?.iter()?, |tables, (key, sha256), record: &[u8]| {
        let context = thumbnail_context(key, sha256);
        let renewed =
            if reseal { renew(core.codec.reseal(Kind::Thumbnail, &context, record), &mut copied) } else { None };
        tables.thumbnails.insert((key, sha256), renewed.as_deref().unwrap_or(record)).map(drop)
    })?;
    batch.rows(view.open_table(PEOPLE)?.iter()?, |tables, slot, last| tables.people.insert(slot, last).map(drop))?;
    batch
        .rows(view.open_table(LOG_TIMES)?.iter()?, |tables, at, first| tables.log_times.insert(at, first).map(drop))?;
    batch.rows(view.open_table(META)?.iter()?, |tables, name, value| tables.meta.insert(name, value).map(drop))?;
    copy_secrets(core, &view, into, reseal)?;
    Ok(copied)
}

/// The secrets last: a copy without them was not finished.
fn copy_secrets(core: &Core, view: &ReadTransaction, into: &Database, reseal: bool) -> Result<(), redb::Error> {
    let transaction = into.begin_write()?;
    {
        let mut secrets = transaction.open_table(SECRETS)?;
        if let Some(sealed) = view.open_table(SECRETS)?.get(INDEX_KEY)? {
            let renewed = core.codec.reseal(Kind::IndexKey, INDEX_KEY_CONTEXT, sealed.value()).ok().flatten();
            secrets.insert(INDEX_KEY, renewed.as_deref().filter(|_| reseal).unwrap_or(sealed.value()))?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn renew(resealed: Result<Option<Vec<u8>>, super::codec::OpenError>, copied: &mut Copied) -> Option<Vec<u8>> {
    match resealed {
        Ok(renewed) => {
            copied.resealed += u64::from(renewed.is_some());
            renewed
        }
        Err(_) => {
            copied.unreadable += 1;
            None
        }
    }
}

/// Writes rows with a commit now and then, of which only the last one has to be durable.
struct Batch<'d> {
    into: &'d Database,
}

impl<'d> Batch<'d> {
    fn new(into: &'d Database) -> Self {
        Self { into }
    }

    fn rows<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        mut rows: redb::Range<'_, K, V>,
        mut write: impl for<'a> FnMut(&mut Tables<'_>, K::SelfType<'a>, V::SelfType<'a>) -> Result<(), redb::StorageError>,
    ) -> Result<(), redb::Error> {
        let mut more = true;
        while more {
            let mut transaction = self.into.begin_write()?;
            transaction.set_durability(Durability::None)?;
            {
                let mut tables = Tables::open(&transaction, 0)?;
                for _ in 0..ROWS_A_COMMIT {
                    let Some(row) = rows.next() else {
                        more = false;
                        break;
                    };
                    let (key, value) = row?;
                    write(&mut tables, key.value(), value.value())?;
                }
            }
            transaction.commit()?;
        }
        Ok(())
    }
}

/// Brings `copy`, which holds everything up to the entry `copied`, up to date and puts it in the place of the database.
/// Called by the writer, between two commits.
pub(super) fn adopt(core: &Core, copy: Database, copied: u64) -> Result<(), StoreError> {
    let fail = |error: redb::Error| core.failed(error);
    catch_up(core, &copy, copied).map_err(fail)?;
    let (last_sequence, _) = read_ends(&copy).map_err(fail)?;
    if last_sequence != core.last_sequence.load(Ordering::Acquire) {
        return Err(core.unreadable("the rewritten file", &"it does not end where the log ends"));
    }
    // Whoever reads the old file goes on with it; its name is gone.
    core.disk.replace(REWRITTEN, DATABASE).map_err(|e| StoreError::from_io(&core.file, &e))?;
    core.database.store(Arc::new(copy));
    Ok(())
}

/// Copies what has been written after the entry `copied`, and removes what has been trimmed since.
fn catch_up(core: &Core, copy: &Database, copied: u64) -> Result<(), redb::Error> {
    let view = core.database.load().begin_read()?;
    let log = view.open_table(LOG)?;
    let (catalogue, thumbnails) = (view.open_table(CATALOGUE)?, view.open_table(THUMBNAILS)?);
    let transaction = copy.begin_write()?;
    {
        let mut tables = Tables::open(&transaction, 0)?;
        for row in log.range(copied + 1..)? {
            let (sequence, record) = row?;
            tables.log.insert(sequence.value(), record.value())?;
            let Ok(LogRecord { header, blind_id, .. }) = LogRecord::of(record.value()) else { continue };
            match header.kind {
                Kind::Event => {
                    tables.event_ids.insert(&blind_id, sequence.value())?;
                }
                Kind::ItemPut | Kind::ItemDeleted => {
                    match catalogue.get(&blind_id)? {
                        Some(item) => tables.catalogue.insert(&blind_id, item.value())?,
                        None => tables.catalogue.remove(&blind_id)?,
                    };
                    let all = (&blind_id, &[0_u8; 32])..=(&blind_id, &[u8::MAX; 32]);
                    tables.thumbnails.retain_in(all.clone(), |_, _| false)?;
                    for row in thumbnails.range(all)? {
                        let (key, jpeg) = row?;
                        tables.thumbnails.insert(key.value(), jpeg.value())?;
                    }
                }
                Kind::Item | Kind::Thumbnail | Kind::IndexKey | Kind::UserKey | Kind::Checkpoint => {}
            }
        }
        // What was trimmed meanwhile is still in the copy, with the ids of its events.
        let first = log.first()?.map_or(0, |(sequence, _)| sequence.value());
        loop {
            let oldest = tables
                .log
                .first()?
                .map(|(s, r)| (s.value(), LogRecord::of(r.value()).map_or([0; 16], |record| record.blind_id)));
            let Some((sequence, blind_id)) = oldest.filter(|&(sequence, _)| sequence < first) else { break };
            tables.log.remove(sequence)?;
            if tables.event_ids.get(&blind_id)?.is_some_and(|at| at.value() == sequence) {
                tables.event_ids.remove(&blind_id)?;
            }
        }
        // These are small.
        for row in view.open_table(PEOPLE)?.iter()? {
            let (slot, last) = row?;
            tables.people.insert(slot.value(), last.value())?;
        }
        tables.log_times.retain(|_, _| false)?;
        for row in view.open_table(LOG_TIMES)?.iter()? {
            let (at, sequence) = row?;
            tables.log_times.insert(at.value(), sequence.value())?;
        }
        for row in view.open_table(META)?.iter()? {
            let (name, value) = row?;
            tables.meta.insert(name.value(), value.value())?;
        }
    }
    transaction.commit()?;
    copy_secrets(core, &view, copy, true)
}
