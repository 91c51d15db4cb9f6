//! How does the file shrink, and how do old records come under a new key, while the service goes on?
//!
//! All rows are copied into a new file from one consistent view, which may take a while. Then the writer, between two
//! commits, copies what has changed since, and puts the new file in the place of the old one. Pages that the database
//! no longer uses, with what once stood in them, stay behind. The same copy, not put in any place, is a backup.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::{Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::codec::{LogRecord, reseal_log_entry, thumbnail_context};
use super::core::{Core, INDEX_KEY_CONTEXT, read_ends};
use super::seal::{BlindId, Kind, SealError, ServiceKeys};
use super::tables::{
    CATALOGUE, EVENT_IDS, INDEX_KEY, LOG, LOG_TIMES, META, PEOPLE, PEOPLE_AT, SECRETS, THUMBNAILS, Tables,
    thumbnails_of,
};
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

/// Copies everything that `view` sees into the empty database `into`; with `reseal` under the active one of these keys.
///
/// The keys are the same from the first record to the last, whatever is taken over meanwhile: else some records would
/// come under one key and some under another, and nobody could say which key is no longer needed.
pub(super) fn copy(
    view: &ReadTransaction,
    into: &Database,
    reseal: Option<&ServiceKeys>,
    mut progress: impl FnMut(u64, u64),
) -> Result<Copied, redb::Error> {
    let mut copied = Copied::default();
    let log = view.open_table(LOG)?;
    copied.sequence = log.last()?.map_or(0, |(sequence, _)| sequence.value());
    let total = log.len()? + view.open_table(CATALOGUE)?.len()?;
    copy_rows(into, log.iter()?, |tables, sequence: u64, record: &[u8]| {
        copied.entries += 1;
        if copied.entries % 1000 == 0 {
            progress(copied.entries, total);
        }
        let renewed = reseal.and_then(|keys| renew(reseal_log_entry(keys, record), &mut copied));
        tables.log.insert(sequence, renewed.as_deref().unwrap_or(record)).map(drop)
    })?;
    copy_rows(into, view.open_table(EVENT_IDS)?.iter()?, |tables, id, sequence| {
        tables.event_ids.insert(id, sequence).map(drop)
    })?;
    copy_rows(into, view.open_table(CATALOGUE)?.iter()?, |tables, key: &BlindId, record: &[u8]| {
        copied.items += 1;
        if copied.items % 1000 == 0 {
            progress(copied.entries + copied.items, total);
        }
        let renewed = reseal.and_then(|keys| renew(keys.reseal(Kind::Item, key, record), &mut copied));
        tables.catalogue.insert(key, renewed.as_deref().unwrap_or(record)).map(drop)
    })?;
    copy_rows(into, view.open_table(THUMBNAILS)?.iter()?, |tables, (key, sha256), record: &[u8]| {
        let context = thumbnail_context(key, sha256);
        let renewed = reseal.and_then(|keys| renew(keys.reseal(Kind::Thumbnail, &context, record), &mut copied));
        tables.thumbnails.insert((key, sha256), renewed.as_deref().unwrap_or(record)).map(drop)
    })?;
    copy_rows(into, view.open_table(PEOPLE)?.iter()?, |tables, slot, last| tables.people.insert(slot, last).map(drop))?;
    copy_rows(into, view.open_table(LOG_TIMES)?.iter()?, |tables, at, first| {
        tables.log_times.insert(at, first).map(drop)
    })?;
    copy_rows(into, view.open_table(META)?.iter()?, |tables, name, value| tables.meta.insert(name, value).map(drop))?;
    copy_secrets(view, into, reseal)?;
    Ok(copied)
}

/// The secrets last: a copy without them was not finished.
fn copy_secrets(view: &ReadTransaction, into: &Database, reseal: Option<&ServiceKeys>) -> Result<(), redb::Error> {
    let transaction = into.begin_write()?;
    {
        let mut secrets = transaction.open_table(SECRETS)?;
        if let Some(sealed) = view.open_table(SECRETS)?.get(INDEX_KEY)? {
            let renewed = reseal.map(|keys| keys.reseal(Kind::IndexKey, INDEX_KEY_CONTEXT, sealed.value()));
            let renewed = renewed.and_then(Result::ok).flatten();
            secrets.insert(INDEX_KEY, renewed.as_deref().unwrap_or(sealed.value()))?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn renew(resealed: Result<Option<Vec<u8>>, SealError>, copied: &mut Copied) -> Option<Vec<u8>> {
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

/// Writes rows with a commit now and then, of which only the last one of all has to be durable.
fn copy_rows<K: redb::Key + 'static, V: redb::Value + 'static>(
    into: &Database,
    mut rows: redb::Range<'_, K, V>,
    mut write: impl for<'a> FnMut(&mut Tables<'_>, K::SelfType<'a>, V::SelfType<'a>) -> Result<(), redb::StorageError>,
) -> Result<(), redb::Error> {
    let mut more = true;
    while more {
        let mut transaction = into.begin_write()?;
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

/// Brings `copy`, which holds everything up to the entry `copied` under these keys, up to date. Called by the writer,
/// between two commits.
pub(super) fn catch_up(core: &Core, copy: &Database, copied: u64, keys: &ServiceKeys) -> Result<(), StoreError> {
    let fail = |error: redb::Error| core.failed(error);
    copy_late(core, copy, copied, keys).map_err(fail)?;
    let (last_sequence, _) = read_ends(copy).map_err(fail)?;
    if last_sequence != core.last_sequence.load(Ordering::Acquire) {
        return Err(core.unreadable("the rewritten file", &"it does not end where the log ends"));
    }
    Ok(())
}

/// Puts a copy that has caught up in the place of the database. When this fails nobody knows which file has the name, so
/// nothing may be written any more.
pub(super) fn exchange(core: &Core, copy: Database) -> Result<(), StoreError> {
    // Whoever reads the old file goes on with it; its name is gone.
    core.disk.replace(REWRITTEN, DATABASE).map_err(|e| StoreError::from_io(&core.file, &e))?;
    core.database.store(Arc::new(copy));
    Ok(())
}

/// Copies what has been written after the entry `copied`, and removes what has been trimmed since.
fn copy_late(core: &Core, copy: &Database, copied: u64, keys: &ServiceKeys) -> Result<(), redb::Error> {
    let view = core.database.load().begin_read()?;
    let log = view.open_table(LOG)?;
    let (catalogue, thumbnails) = (view.open_table(CATALOGUE)?, view.open_table(THUMBNAILS)?);
    let transaction = copy.begin_write()?;
    {
        let mut tables = Tables::open(&transaction, 0)?;
        // Sealed before the key changed, perhaps; what was sealed under one that is newer than these keys stays as it is.
        let renewed = |kind, context: &[u8], record: &[u8]| {
            keys.reseal(kind, context, record).ok().flatten().unwrap_or_else(|| record.to_vec())
        };
        for row in log.range(copied + 1..)? {
            let (sequence, record) = row?;
            let (sequence, record) = (sequence.value(), record.value());
            let resealed = reseal_log_entry(keys, record).ok().flatten();
            tables.log.insert(sequence, resealed.as_deref().unwrap_or(record))?;
            let Ok(LogRecord { header, blind_id, .. }) = LogRecord::of(record) else { continue };
            match header.kind {
                Kind::Event => {
                    tables.event_ids.insert(&blind_id, sequence)?;
                }
                Kind::ItemPut | Kind::ItemDeleted => {
                    let item = catalogue.get(&blind_id)?.map(|item| renewed(Kind::Item, &blind_id, item.value()));
                    let jpegs = thumbnails.range(thumbnails_of(&blind_id))?.map(|row| {
                        let (key, jpeg) = row?;
                        let (_, sha256) = key.value();
                        let context = thumbnail_context(&blind_id, sha256);
                        Ok((*sha256, renewed(Kind::Thumbnail, &context, jpeg.value())))
                    });
                    tables.replace(&blind_id, item.as_deref(), jpegs)?;
                }
                Kind::Item | Kind::Thumbnail | Kind::IndexKey | Kind::UserKey | Kind::Checkpoint | Kind::Index => {}
            }
        }
        // What was trimmed meanwhile is still in the copy.
        let first = log.first()?.map_or(0, |(sequence, _)| sequence.value());
        while let Some(sequence) = tables.first()?.filter(|&sequence| sequence < first) {
            tables.let_go(sequence)?;
        }
        let meta = view.open_table(META)?;
        let people_at = meta.get(PEOPLE_AT)?.map(|at| at.value());
        if tables.meta.get(PEOPLE_AT)?.map(|at| at.value()) != people_at {
            for row in view.open_table(PEOPLE)?.iter()? {
                let (slot, last) = row?;
                tables.people.insert(slot.value(), last.value())?;
            }
        }
        // These are small.
        tables.log_times.retain(|_, _| false)?;
        for row in view.open_table(LOG_TIMES)?.iter()? {
            let (at, sequence) = row?;
            tables.log_times.insert(at.value(), sequence.value())?;
        }
        for row in meta.iter()? {
            let (name, value) = row?;
            tables.meta.insert(name.value(), value.value())?;
        }
    }
    transaction.commit()?;
    copy_secrets(&view, copy, Some(keys))
}
