//! What can be saved of a damaged database? Every record that can still be found and opened, into a new file.
//!
//! The damaged file is only read: what the database would write goes to memory. Records are asked for one by one, so that
//! a damaged page costs what is on it and no more; whatever makes the database panic is passed over. A record counts if
//! its seal opens, so nothing is made up. Everything keeps its sequence number.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend};

use super::codec::{Codec, LogRecord, OpenError};
use super::core::{Core, open_index_key};
use super::disk::{Disk, Folder, Shared};
use super::people::People;
use super::seal::{self, Blind, BlindId, Kind, ServiceKeys};
use super::tables::{CATALOGUE, INDEX_KEY, LOG, SECRETS, THUMBNAILS, Tables};
use super::user_keys::UserKeys;
use super::{DATABASE, LogEntry, StoreError, StoreOptions, rewrite};
use crate::domain::SealingKey;

/// The damaged file, which is kept.
const DAMAGED: &str = "upnext.redb.damaged";

/// The byte of a database's head that says, among other things, that it was not closed; its bit.
const FLAGS_AT: usize = 9;
const NOT_CLOSED: u8 = 2;

/// After so many sequences in a row of which none can be found, the log is taken to have ended, if it does not say so.
const GAP: u64 = 1_000_000;

/// How often a database that panicked is opened again.
const MAX_OPENINGS: usize = 10_000;

const PAGE_BYTES: u64 = 4096;

/// What was saved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Repaired {
    /// Entries of the log.
    pub entries: u64,
    /// Entries between the first and the last of those that are gone.
    pub lost_entries: u64,
    /// Entries of persons who were erased; they were left behind.
    pub erased: u64,
    /// Items.
    pub items: u64,
    /// Items that were in the log and are gone.
    pub lost_items: u64,
    /// Thumbnails.
    pub thumbnails: u64,
    /// Where the damaged file is now; `None` if nothing was wrong with it.
    pub damaged: Option<PathBuf>,
}

/// Saves what can be saved of the database in the data folder `dir`, which no server may be using, and puts it in the
/// database's place. The damaged file is kept. `progress` hears how many of how many entries were looked at.
pub fn repair_store(
    dir: &Path,
    keys: &[SealingKey],
    options: StoreOptions,
    mut progress: impl FnMut(u64, u64),
) -> Result<Repaired, StoreError> {
    let taken = Arc::new(Folder::take(dir)?);
    let folder: Arc<dyn Disk> = taken.clone();
    if !folder.holds(DATABASE) {
        return Err(StoreError::Snapshot(format!("there is no database in {}", dir.display())));
    }
    let options = StoreOptions { check_on_open: true, ..options };
    match Core::open(Arc::clone(&folder), keys, options.clone()) {
        Ok(_) => return Ok(Repaired::default()),
        Err(StoreError::Corrupt { file, .. }) if file.ends_with(DATABASE) => {}
        Err(other) => return Err(other),
    }
    let damaged = dir.join(DATABASE);
    let failed = |e: &io::Error| StoreError::from_io(&damaged, e);
    let overlay = Arc::new(Overlay::over(&damaged).map_err(|e| failed(&e))?);
    let mut source = Source { overlay, database: None, openings: 0 };
    if source.try_read(|view| view.open_table(LOG).map(drop).map_err(Into::into)).is_none() {
        let reason = "not even its tables can be found".to_owned();
        return Err(StoreError::Corrupt { file: damaged, reason });
    }
    let service = ServiceKeys::new(keys)?;
    let old_secret = source.index_key();
    let secret = match old_secret {
        Some(sealed) => open_index_key(&service, &sealed, &damaged)?,
        None => seal::random::<32>().map_err(|_| StoreError::NoSealingKey)?.to_vec(),
    };
    let users = UserKeys::open(Arc::clone(&folder), options.max_users)?;
    let codec = Codec::new(service, users, Blind::new(&secret));

    folder.remove(rewrite::REWRITTEN).map_err(|e| failed(&e))?;
    let target = Core::open_new(&folder, keys, &secret, &options)?;
    let repaired = save(&mut source, &codec, &target, &mut progress).map_err(|e| StoreError::from_redb(&damaged, e))?;
    drop(target);
    fs::remove_dir_all(dir.join("checkpoints")).ok();
    taken.exchange(rewrite::REWRITTEN, DATABASE, DAMAGED).map_err(|e| failed(&e))?;
    Ok(Repaired { damaged: Some(dir.join(DAMAGED)), ..repaired })
}

fn save(
    source: &mut Source,
    codec: &Codec,
    target: &Database,
    progress: &mut impl FnMut(u64, u64),
) -> Result<Repaired, redb::Error> {
    let mut repaired = Repaired::default();
    let (first, last) = source.log_ends();
    let transaction = target.begin_write()?;
    // The last thing that the log says of each item.
    let mut named: BTreeMap<BlindId, bool> = BTreeMap::new();
    {
        let mut tables = Tables::open(&transaction, 0)?;
        let mut people = People::default();
        let (mut missing, mut end) = (0, 0);
        for sequence in first..=last.unwrap_or(u64::MAX) {
            if sequence % 1000 == 0 {
                progress(sequence - first, last.map_or(0, |last| last - first));
            }
            let Some(record) = source.log_record(sequence) else {
                missing += 1;
                if last.is_none() && missing > GAP {
                    break;
                }
                continue;
            };
            let renewed = match codec.open_log_entry(&record) {
                Ok(LogEntry::Event(event)) => {
                    let slot = LogRecord::of(&record).ok().and_then(|record| record.slot());
                    codec.seal_event(&event, slot)
                }
                Ok(LogEntry::ItemPut(id)) => {
                    named.insert(codec.item_key(&id), true);
                    codec.seal_item_entry(Kind::ItemPut, &id)
                }
                Ok(LogEntry::ItemDeleted(id)) => {
                    named.insert(codec.item_key(&id), false);
                    codec.seal_item_entry(Kind::ItemDeleted, &id)
                }
                Err(OpenError::Erased) => {
                    repaired.erased += 1;
                    continue;
                }
                Err(error) => Err(error),
            };
            let Ok(renewed) = renewed else {
                missing += 1;
                continue;
            };
            repaired.lost_entries += missing;
            missing = 0;
            end = sequence;
            tables.restore(sequence, renewed, &mut people)?;
            repaired.entries += 1;
        }
        people.write(&mut tables.people)?;
        tables.meta.insert(super::tables::PEOPLE_AT, end)?;

        for (key, record) in source.catalogue(named.keys().copied().collect()) {
            // Under its own key, which is another one if the secret for such keys is lost.
            let Ok(item) = codec.open_item(&key, &record) else { continue };
            let renewed_key = codec.item_key(&item.item.id);
            let Ok(renewed) = codec.seal_item(&item, super::EmbeddingPrecision::F32) else { continue };
            tables.catalogue.insert(&renewed_key, renewed.as_slice())?;
            named.remove(&renewed_key);
            repaired.items += 1;
            for image in &item.images {
                let Some(sealed) = source.thumbnail(&key, &image.sha256) else { continue };
                let jpeg = codec.open_thumbnail(&key, &image.sha256, &sealed);
                let renewed = jpeg.and_then(|jpeg| codec.seal_thumbnail(&renewed_key, &image.sha256, &jpeg));
                if let Ok(renewed) = renewed {
                    tables.thumbnails.insert((&renewed_key, &image.sha256), renewed.as_slice())?;
                    repaired.thumbnails += 1;
                }
            }
        }
        repaired.lost_items = named.values().filter(|&&present| present).count() as u64;
        tables.finish(first, crate::domain::Timestamp(0))?;
    }
    transaction.commit()?;
    Ok(repaired)
}

/// A damaged database that is asked carefully.
struct Source {
    overlay: Arc<Overlay>,
    database: Option<Database>,
    openings: usize,
}

impl Source {
    /// Asks for something; `None` if it cannot be had.
    fn try_read<T>(&mut self, read: impl Fn(&ReadTransaction) -> Result<T, redb::Error>) -> Option<T> {
        if self.database.is_none() {
            self.openings += 1;
            if self.openings > MAX_OPENINGS {
                return None;
            }
            let backend = Shared(Arc::clone(&self.overlay) as Arc<dyn StorageBackend>);
            let open = AssertUnwindSafe(|| Database::builder().create_with_backend(backend));
            self.database = catch_unwind(open).ok()?.ok();
        }
        let database = self.database.as_ref()?;
        match catch_unwind(AssertUnwindSafe(|| read(&database.begin_read()?))) {
            Ok(found) => found.ok(),
            Err(_) => {
                // Whatever its locks protect may be half done. Closing it may panic too.
                let broken = self.database.take();
                let _ = catch_unwind(AssertUnwindSafe(|| drop(broken)));
                None
            }
        }
    }

    fn index_key(&mut self) -> Option<Vec<u8>> {
        self.try_read(|view| Ok(view.open_table(SECRETS)?.get(INDEX_KEY)?.map(|sealed| sealed.value().to_vec())))?
    }

    /// The first and the last sequence, as far as the log says.
    fn log_ends(&mut self) -> (u64, Option<u64>) {
        let first = self.try_read(|view| Ok(view.open_table(LOG)?.first()?.map(|(sequence, _)| sequence.value())));
        let last = self.try_read(|view| Ok(view.open_table(LOG)?.last()?.map(|(sequence, _)| sequence.value())));
        (first.flatten().unwrap_or(1), last.flatten())
    }

    fn log_record(&mut self, sequence: u64) -> Option<Vec<u8>> {
        self.try_read(|view| Ok(view.open_table(LOG)?.get(sequence)?.map(|record| record.value().to_vec())))?
    }

    fn thumbnail(&mut self, key: &BlindId, sha256: &[u8; 32]) -> Option<Vec<u8>> {
        self.try_read(|view| Ok(view.open_table(THUMBNAILS)?.get((key, sha256))?.map(|jpeg| jpeg.value().to_vec())))?
    }

    /// Items: those that the log names, and those that a walk from each end meets.
    fn catalogue(&mut self, named: Vec<BlindId>) -> BTreeMap<BlindId, Vec<u8>> {
        let mut found = BTreeMap::new();
        for key in named {
            let item =
                self.try_read(|view| Ok(view.open_table(CATALOGUE)?.get(&key)?.map(|item| item.value().to_vec())));
            found.extend(item.flatten().map(|item| (key, item)));
        }
        for backward in [false, true] {
            let mut walked = Vec::new();
            let gathered = Mutex::new(&mut walked);
            self.try_read(|view| {
                let table = view.open_table(CATALOGUE)?;
                let mut rows = table.iter()?;
                while let Some(row) = if backward { rows.next_back() } else { rows.next() } {
                    let (key, item) = row?;
                    gathered.lock().push((*key.value(), item.value().to_vec()));
                }
                Ok(())
            });
            found.extend(walked);
        }
        found
    }
}

/// A file that is only read; what is written over it stays in memory.
#[derive(Debug)]
struct Overlay {
    file: File,
    state: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    length: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    /// Over the database `file`, as if that had been closed: otherwise it would be mended, which fails.
    fn over(file: &Path) -> io::Result<Self> {
        let file = File::open(file)?;
        let length = file.metadata()?.len();
        let overlay = Self { file, state: Mutex::new(Written { length, pages: BTreeMap::new() }) };
        let mut flags = [0];
        overlay.read(FLAGS_AT as u64, &mut flags)?;
        overlay.write(FLAGS_AT as u64, &[flags[0] & !NOT_CLOSED])?;
        Ok(overlay)
    }

    fn page(&self, number: u64, written: &Written) -> io::Result<Vec<u8>> {
        if let Some(page) = written.pages.get(&number) {
            return Ok(page.clone());
        }
        let mut page = vec![0; PAGE_BYTES as usize];
        let at = number * PAGE_BYTES;
        let there = self.file.metadata()?.len().saturating_sub(at).min(PAGE_BYTES) as usize;
        std::os::unix::fs::FileExt::read_exact_at(&self.file, &mut page[..there], at)?;
        Ok(page)
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock();
        if offset.saturating_add(out.len() as u64) > state.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        while done < out.len() {
            let at = offset + done as u64;
            let page = self.page(at / PAGE_BYTES, &state)?;
            let within = (at % PAGE_BYTES) as usize;
            let count = (PAGE_BYTES as usize - within).min(out.len() - done);
            out[done..done + count].copy_from_slice(&page[within..within + count]);
            done += count;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state.lock().length = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let mut page = self.page(at / PAGE_BYTES, &state)?;
            let within = (at % PAGE_BYTES) as usize;
            let count = (PAGE_BYTES as usize - within).min(data.len() - done);
            page[within..within + count].copy_from_slice(&data[done..done + count]);
            state.pages.insert(at / PAGE_BYTES, page);
            done += count;
        }
        state.length = state.length.max(offset + data.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::super::tests::{event, image, item, item_id, keys, open, options};
    use super::super::{ImageRecord, Store};
    use super::*;
    use crate::domain::{Event, UserKey};

    async fn fill(dir: &Path) {
        let store = open(dir);
        for n in 0..40_u8 {
            let by = |m: u8| Event { user: Some(UserKey([m % 5; 16])), ..event(&format!("e-{n}-{m}")) };
            store.append_events((0..50).map(by).collect()).await.unwrap();
            let image = ImageRecord { thumbnail: Some(vec![n; 900].into()), ..image(n) };
            store.put_items(vec![item(&format!("i-{n}"), vec![image])]).await.unwrap();
        }
        store.delete_item(&item_id("i-7")).await.unwrap();
    }

    fn read(store: &Store) -> (u64, u64) {
        let log = store.replay_entries(0, &mut |_, _| ControlFlow::Continue(())).unwrap();
        assert_eq!(log.skipped, 0);
        (log.entries, store.for_each_item(|_| ControlFlow::Continue(())).unwrap().items)
    }

    #[tokio::test]
    async fn what_is_not_damaged_is_saved() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path()).await;
        let whole = repair_store(dir.path(), &keys(), options(), |_, _| {}).unwrap();
        assert_eq!(whole, Repaired::default(), "nothing was wrong");
        let file = dir.path().join(DATABASE);
        let good = fs::read(&file).unwrap();
        let mut saved_most = 0;
        for step in 1..12 {
            let mut bytes = good.clone();
            // A few bytes in the middle of pages, beyond the head.
            let at = (bytes.len() * step / 12) & !4095;
            bytes[at + 2000..at + 2016].fill(0xA5);
            fs::write(&file, &bytes).unwrap();
            let refused = Store::open(dir.path(), &keys(), options());
            let before = matches!(&refused, Err(StoreError::Corrupt { .. }));
            drop(refused);
            match repair_store(dir.path(), &keys(), options(), |_, _| {}) {
                Ok(repaired) if repaired.damaged.is_some() => {
                    assert!(before, "{step}");
                    assert_eq!(
                        fs::read(dir.path().join(DAMAGED)).unwrap(),
                        bytes,
                        "the damaged file is kept as it was"
                    );
                    let store = open(dir.path());
                    assert_eq!(read(&store), (repaired.entries, repaired.items), "{step}: {repaired:?}");
                    assert!(repaired.entries <= 2041 && repaired.items <= 39, "{step}: {repaired:?}");
                    assert!(repaired.entries + repaired.lost_entries <= 2041, "{step}: {repaired:?}");
                    saved_most += u64::from(repaired.entries > 1500 && repaired.items > 20);
                    let next = store.append_events(vec![event("next")]).await.unwrap();
                    assert!(matches!(next[..], [super::super::Appended::New(_)]), "{step}");
                }
                Ok(_) => assert!(!before, "{step}"),
                Err(StoreError::Corrupt { file, .. }) => assert!(file.ends_with(DATABASE), "{step}"),
                Err(other) => panic!("{step}: {other:?}"),
            }
        }
        assert!(saved_most >= 3, "{saved_most}");
    }

    #[test]
    fn what_is_no_database_cannot_be_repaired_and_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        let text = b"this is no database but a long enough text ".repeat(200);
        fs::write(dir.path().join(DATABASE), &text).unwrap();
        let error = repair_store(dir.path(), &keys(), options(), |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("snapshot restore"), "{error}");
        assert_eq!(fs::read(dir.path().join(DATABASE)).unwrap(), text);
    }
}
