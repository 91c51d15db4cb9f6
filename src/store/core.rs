//! What do readers and the writer of the store share? The database, which may be exchanged under them, and the keys.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::codec::{Codec, LogRecord};
use super::disk::{Disk, Shared};
use super::people::People;
use super::rewrite;
use super::seal::{self, Blind, Header, Kind, Scope, SealError, ServiceKeys};
use super::tables::{FORMAT_VERSION, INDEX_KEY, LOG, META, PEOPLE_AT, SECRETS, Tables};
use super::user_keys::UserKeys;
use super::{DATABASE, StoreError, StoreOptions};
use crate::domain::SealingKey;

/// The format of the database that this version writes.
pub(super) const CURRENT_FORMAT: u64 = 2;

/// The context of the one record in the table of secrets.
pub(super) const INDEX_KEY_CONTEXT: &[u8] = b"index_key";

/// The database and all that belongs to it.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) disk: Arc<dyn Disk>,
    /// Exchanged when the file was rewritten, or opened anew after the disk was full. Readers that began on the old one
    /// end on it.
    pub(super) database: ArcSwap<Database>,
    pub(super) file: PathBuf,
    pub(super) codec: Codec,
    pub(super) last_sequence: AtomicU64,
    pub(super) queued_bytes: AtomicUsize,
    pub(super) people: Mutex<People>,
    pub(super) options: StoreOptions,
}

impl Core {
    /// Opens the files on `disk`; after a crash they are brought back to the last commit first.
    pub(super) fn open(disk: Arc<dyn Disk>, keys: &[SealingKey], options: StoreOptions) -> Result<Self, StoreError> {
        let file = disk.path(DATABASE);
        let service = ServiceKeys::new(keys)?;
        // A new database gets its name when it is whole: a crash in the middle of making it leaves none.
        let is_new = !disk.holds(DATABASE);
        let database = open_database(&*disk, if is_new { rewrite::REWRITTEN } else { DATABASE }, &options)?;
        let index_key = prepare(&database, &file, &service, None)?;
        if is_new {
            disk.replace(rewrite::REWRITTEN, DATABASE).map_err(|e| StoreError::from_io(&file, &e))?;
        }
        let users = UserKeys::open(Arc::clone(&disk), options.max_users)?;
        let (last_sequence, people) = read_ends(&database).map_err(|e| StoreError::from_redb(&file, e))?;
        Ok(Self {
            disk,
            database: ArcSwap::from_pointee(database),
            file,
            codec: Codec::new(service, users, Blind::new(&index_key)),
            last_sequence: AtomicU64::new(last_sequence),
            queued_bytes: AtomicUsize::new(0),
            people: Mutex::new(people),
            options,
        })
    }

    /// Makes a new database, under the name of one that is being written, with this secret for blind ids.
    pub(super) fn open_new(
        disk: &Arc<dyn Disk>,
        keys: &[SealingKey],
        secret: &[u8],
        options: &StoreOptions,
    ) -> Result<Database, StoreError> {
        let database = open_database(&**disk, rewrite::REWRITTEN, options)?;
        prepare(&database, &disk.path(rewrite::REWRITTEN), &ServiceKeys::new(keys)?, Some(secret))?;
        Ok(database)
    }

    /// Opens the database anew, after a write that did not fit on the disk.
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        let database = open_database(&*self.disk, DATABASE, &self.options)?;
        let (last_sequence, _) = read_ends(&database).map_err(|e| self.failed(e))?;
        let expected = self.last_sequence.load(Ordering::Acquire);
        if last_sequence != expected {
            let reason = format!("it ends at entry {last_sequence}, not {expected}");
            return Err(StoreError::Corrupt { file: self.file.clone(), reason });
        }
        self.database.store(Arc::new(database));
        Ok(())
    }

    pub(super) fn read<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<redb::ReadOnlyTable<K, V>, StoreError> {
        let transaction = self.database.load().begin_read().map_err(|e| self.failed(e))?;
        transaction.open_table(table).map_err(|e| self.failed(e))
    }

    pub(super) fn failed(&self, error: impl Into<redb::Error>) -> StoreError {
        StoreError::from_redb(&self.file, error)
    }

    pub(super) fn no_space(&self) -> StoreError {
        StoreError::NoSpace { file: self.file.clone() }
    }

    pub(super) fn unreadable(&self, what: &str, error: &dyn std::fmt::Display) -> StoreError {
        StoreError::Corrupt { file: self.file.clone(), reason: format!("{what}: {error}") }
    }
}

/// Opens or creates a database; a damaged one gives an error, never a panic.
pub(super) fn open_database(disk: &dyn Disk, name: &str, options: &StoreOptions) -> Result<Database, StoreError> {
    let path = disk.path(name);
    let backend = disk.open(name).map_err(|e| StoreError::from_io(&path, &e))?;
    let open = AssertUnwindSafe(|| {
        Database::builder()
            .set_cache_size(options.cache_bytes)
            .set_check_integrity_on_open(options.check_on_open)
            .create_with_backend(Shared(backend))
    });
    // The database trusts parts of its own file; what a damaged one makes it do must not end the process.
    match std::panic::catch_unwind(open) {
        Ok(opened) => opened.map_err(|e| StoreError::from_redb(&path, e)),
        Err(_) => Err(StoreError::Corrupt { file: path, reason: "its structure makes no sense".into() }),
    }
}

/// Makes sure that the tables are there, of a format that is understood and sealed with these keys; gives the secret
/// under which ids are blinded. A new database gets `secret`, or one of its own.
fn prepare(
    database: &Database,
    file: &Path,
    service: &ServiceKeys,
    secret: Option<&[u8]>,
) -> Result<Vec<u8>, StoreError> {
    let fail = |error: redb::Error| StoreError::from_redb(file, error);
    let transaction = database.begin_write().map_err(|e| fail(e.into()))?;
    let secret = {
        let tables = Tables::open(&transaction, 0).map_err(|e| fail(e.into()))?;
        let mut meta = tables.meta;
        let mut secrets = transaction.open_table(SECRETS).map_err(|e| fail(e.into()))?;
        let found = meta.get(FORMAT_VERSION).map_err(|e| fail(e.into()))?.map(|version| version.value());
        match found {
            Some(CURRENT_FORMAT) => {}
            None => {
                meta.insert(FORMAT_VERSION, CURRENT_FORMAT).map_err(|e| fail(e.into()))?;
            }
            Some(found) => {
                return Err(StoreError::Format { file: file.to_owned(), found, supported: CURRENT_FORMAT });
            }
        }
        let sealed = secrets.get(INDEX_KEY).map_err(|e| fail(e.into()))?.map(|sealed| sealed.value().to_vec());
        let (secret, reseal) = match sealed {
            Some(sealed) => {
                let secret = open_index_key(service, &sealed, file)?;
                let active = Header::of(&sealed).is_ok_and(|h| h.scope == Scope::Service(service.active()));
                (secret, !active)
            }
            None => match secret {
                Some(secret) => (secret.to_vec(), true),
                None => (seal::random::<32>().map_err(|_| StoreError::NoSealingKey)?.to_vec(), true),
            },
        };
        if reseal {
            let sealed = service.seal(Kind::IndexKey, INDEX_KEY_CONTEXT, &secret);
            let sealed = sealed.map_err(|_| StoreError::NoSealingKey)?;
            secrets.insert(INDEX_KEY, sealed.as_slice()).map_err(|e| fail(e.into()))?;
        }
        secret
    };
    transaction.commit().map_err(|e| fail(e.into()))?;
    Ok(secret)
}

/// Opens the secret, which tells whether the keys are the right ones.
pub(super) fn open_index_key(service: &ServiceKeys, sealed: &[u8], file: &Path) -> Result<Vec<u8>, StoreError> {
    service.open(Kind::IndexKey, INDEX_KEY_CONTEXT, sealed).map_err(|error| match error {
        SealError::NoKey(id) => StoreError::MissingKey { file: file.to_owned(), id },
        SealError::Broken | SealError::Unknown | SealError::NoRandomness => {
            StoreError::WrongKey { file: file.to_owned() }
        }
    })
}

/// The number of the last entry, and the last one of each person.
pub(super) fn read_ends(database: &Database) -> Result<(u64, People), redb::Error> {
    let transaction = database.begin_read()?;
    let log = transaction.open_table(LOG)?;
    let last_sequence = log.last()?.map_or(0, |(sequence, _)| sequence.value());
    let table_at = transaction.open_table(META)?.get(PEOPLE_AT)?.map_or(0, |at| at.value());
    let mut people = People::from_table(table_at);
    for row in log.range(table_at + 1..)? {
        let (sequence, record) = row?;
        if let Some(slot) = LogRecord::of(record.value()).ok().and_then(|record| record.slot()) {
            people.note(slot, sequence.value());
        }
    }
    people.committed(None);
    Ok((last_sequence, people))
}
