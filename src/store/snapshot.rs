//! How is everything kept a second time? Snapshots: consistent copies of the database, made while it is in use.
//!
//! A snapshot is a folder in `snapshots` with a copy of the database, as sealed as it is, and `snapshot.json`, which says
//! what it holds and its SHA-256. It has neither sealing keys nor user keys: without the sealing keys nobody reads it, and
//! without the *present* file of user keys it brings nobody back who was erased after it was made. Checkpoints are not in
//! it either; a start after a restore goes through the log.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{ReadOnlyDatabase, ReadableDatabase, ReadableTable};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::codec::{Codec, OpenError};
use super::core::{CURRENT_FORMAT, open_index_key};
use super::disk::{Disk, Folder, create_private_folder, sync_folder};
use super::embedded::Store;
use super::seal::{Blind, Header, Scope, ServiceKeys};
use super::tables::{CATALOGUE, FORMAT_VERSION, INDEX_KEY, LOG, META, SECRETS, THUMBNAILS};
use super::user_keys::UserKeys;
use super::{DATABASE, StoreError};
use crate::domain::{SealingKey, Timestamp};

const FOLDER: &str = "snapshots";
const MANIFEST: &str = "snapshot.json";
const FORMAT: u32 = 1;

/// The database that a restore has replaced.
const REPLACED: &str = "upnext.redb.before-restore";
const RESTORING: &str = "upnext.redb.restoring";

/// The longest name of a snapshot, in bytes.
const MAX_NAME_BYTES: usize = 100;

/// The most snapshots in a folder; disks are finite, and so is what can be listed.
const MAX_SNAPSHOTS: usize = 1000;

/// What a snapshot holds, as its manifest says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// The name of its folder.
    #[serde(skip)]
    pub name: String,
    format: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// The last entry of the log that it holds.
    pub sequence: u64,
    /// Entries of the log.
    pub entries: u64,
    /// Items.
    pub items: u64,
    /// Bytes of the database.
    pub bytes: u64,
    /// SHA-256 of the database, in hexadecimal digits.
    pub sha256: String,
}

/// What a look at every record of a database found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Entries of the log that can be read.
    pub entries: u64,
    /// Entries of persons who were erased.
    pub erased: u64,
    /// Entries that cannot be read although they should.
    pub unreadable_entries: u64,
    /// Items that can be read.
    pub items: u64,
    /// Items that cannot.
    pub unreadable_items: u64,
    /// Thumbnails that can be read.
    pub thumbnails: u64,
    /// Thumbnails that cannot.
    pub unreadable_thumbnails: u64,
    /// Persons whose key cannot be opened.
    pub unreadable_user_keys: u64,
    /// The numbers of the sealing keys under which something is; others can be retired.
    pub sealing_keys: BTreeSet<u32>,
}

impl Verified {
    /// Whether everything that should be readable is.
    pub fn is_good(&self) -> bool {
        let broken = self.unreadable_entries + self.unreadable_items + self.unreadable_thumbnails;
        broken + self.unreadable_user_keys == 0
    }
}

/// The snapshots in a data folder.
#[derive(Debug, Clone)]
pub struct Snapshots {
    data_dir: PathBuf,
}

impl Snapshots {
    /// Those of the data folder `dir`.
    pub fn in_dir(dir: &Path) -> Self {
        Self { data_dir: dir.to_owned() }
    }

    /// Makes a snapshot of what `store` holds at this moment; writes go on meanwhile. Without a name it is called after
    /// `now` and the log's last entry. Blocks until it is durable; `progress` hears how many of how many rows are copied.
    pub fn create(
        &self,
        store: &Store,
        name: Option<&str>,
        now: Timestamp,
        progress: impl FnMut(u64, u64),
    ) -> Result<SnapshotInfo, StoreError> {
        let name = match name {
            Some(name) => checked(name)?.to_owned(),
            None => format!("{}-{}", now.0, store.last_sequence()),
        };
        if self.list()?.len() >= MAX_SNAPSHOTS {
            return Err(StoreError::Snapshot(format!("there are {MAX_SNAPSHOTS} already; delete some")));
        }
        let to = self.path(&name);
        if to.exists() {
            return Err(StoreError::Snapshot(format!("there is one called `{name}` already")));
        }
        let beside = self.data_dir.join(FOLDER).join(format!("{name}.tmp"));
        let made = self.fill(store, &beside, &name, now, progress).and_then(|info| {
            let placed = fs::rename(&beside, &to).and_then(|()| sync_folder(&self.data_dir.join(FOLDER)));
            placed.map(|()| info).map_err(|e| StoreError::from_io(&to, &e))
        });
        if made.is_err() {
            fs::remove_dir_all(&beside).ok();
        }
        made
    }

    fn fill(
        &self,
        store: &Store,
        dir: &Path,
        name: &str,
        now: Timestamp,
        progress: impl FnMut(u64, u64),
    ) -> Result<SnapshotInfo, StoreError> {
        let failed = |e: &io::Error| StoreError::from_io(dir, e);
        if dir.exists() {
            fs::remove_dir_all(dir).map_err(|e| failed(&e))?;
        }
        create_private_folder(dir).map_err(|e| failed(&e))?;
        let database = dir.join(DATABASE);
        let copied = store.copy_to(&database, progress)?;
        let (sha256, bytes) = hash(&database).map_err(|e| failed(&e))?;
        let info = SnapshotInfo {
            name: name.to_owned(),
            format: FORMAT,
            created_at: now,
            sequence: copied.sequence,
            entries: copied.entries,
            items: copied.items,
            bytes,
            sha256,
        };
        let manifest = serde_json::to_vec_pretty(&info).map_err(|e| StoreError::Snapshot(e.to_string()))?;
        let path = dir.join(MANIFEST);
        fs::write(&path, manifest)
            .and_then(|()| File::open(&path)?.sync_all())
            .and_then(|()| File::open(&database)?.sync_all())
            .and_then(|()| sync_folder(dir))
            .map_err(|e| failed(&e))?;
        Ok(info)
    }

    /// The snapshots whose manifests can be read, oldest first.
    pub fn list(&self) -> Result<Vec<SnapshotInfo>, StoreError> {
        let dir = self.data_dir.join(FOLDER);
        let entries = match fs::read_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|e| StoreError::from_io(&dir, &e))?,
        };
        let mut found: Vec<SnapshotInfo> =
            entries.filter_map(|entry| self.info(entry.ok()?.file_name().to_str()?).ok()).collect();
        found.sort_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
        Ok(found)
    }

    /// What the manifest of this snapshot says.
    pub fn info(&self, name: &str) -> Result<SnapshotInfo, StoreError> {
        let path = self.path(checked(name)?).join(MANIFEST);
        let text = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NoSnapshot { name: name.to_owned() });
            }
            text => text.map_err(|e| StoreError::from_io(&path, &e))?,
        };
        let info: SnapshotInfo =
            serde_json::from_slice(&text).map_err(|e| StoreError::Corrupt { file: path, reason: e.to_string() })?;
        if info.format != FORMAT {
            return Err(StoreError::Snapshot(format!("`{name}` has format {}, known here is {FORMAT}", info.format)));
        }
        Ok(SnapshotInfo { name: name.to_owned(), ..info })
    }

    /// Checks that a snapshot is what its manifest says and that every record of it can be read with `keys` and with the
    /// user keys of this data folder.
    pub fn verify(&self, name: &str, keys: &[SealingKey]) -> Result<Verified, StoreError> {
        self.verify_using(name, Arc::new(ServiceKeys::new(keys)?))
    }

    /// The same with the keys of an open store.
    pub fn verify_with(&self, name: &str, store: &Store) -> Result<Verified, StoreError> {
        self.verify_using(name, store.core().codec.service.load_full())
    }

    fn verify_using(&self, name: &str, service: Arc<ServiceKeys>) -> Result<Verified, StoreError> {
        let info = self.info(name)?;
        let database = self.path(name).join(DATABASE);
        let (sha256, bytes) = hash(&database).map_err(|e| StoreError::from_io(&database, &e))?;
        if (sha256, bytes) != (info.sha256, info.bytes) {
            let reason = "it is not the file that its manifest describes".to_owned();
            return Err(StoreError::Corrupt { file: database, reason });
        }
        let verified = verify(&database, &self.data_dir, service)?;
        if (
            verified.entries + verified.erased + verified.unreadable_entries,
            verified.items + verified.unreadable_items,
        ) != (info.entries, info.items)
        {
            let reason = "it does not hold what its manifest says".to_owned();
            return Err(StoreError::Corrupt { file: database, reason });
        }
        Ok(verified)
    }

    /// Puts a snapshot, which is verified first, in the place of the database, which is kept as
    /// `upnext.redb.before-restore`. The user keys stay, so that nobody comes back who was erased since. No server may
    /// be using the folder.
    pub fn restore(&self, name: &str, keys: &[SealingKey]) -> Result<Verified, StoreError> {
        let folder = Folder::take(&self.data_dir)?;
        let verified = self.verify(name, keys)?;
        if !verified.is_good() {
            return Err(StoreError::Snapshot(format!("not all of `{name}` can be read: {verified:?}")));
        }
        let from = self.path(name).join(DATABASE);
        let restoring = self.data_dir.join(RESTORING);
        let failed = |e: &io::Error| StoreError::from_io(&restoring, e);
        fs::copy(&from, &restoring).and_then(|_| File::open(&restoring)?.sync_all()).map_err(|e| failed(&e))?;
        // Made for the log that was there before.
        let checkpoints = self.data_dir.join("checkpoints");
        if checkpoints.exists() {
            fs::remove_dir_all(&checkpoints).map_err(|e| failed(&e))?;
        }
        folder.exchange(RESTORING, DATABASE, REPLACED).map_err(|e| failed(&e))?;
        Ok(verified)
    }

    /// Deletes a snapshot.
    pub fn delete(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path(checked(name)?);
        match fs::remove_dir_all(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(StoreError::NoSnapshot { name: name.to_owned() }),
            Err(e) => Err(StoreError::from_io(&path, &e)),
            Ok(()) => Ok(()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.data_dir.join(FOLDER).join(name)
    }
}

/// Checks every record of the database in the data folder `dir`, which no server may be using.
pub fn verify_store(dir: &Path, keys: &[SealingKey]) -> Result<Verified, StoreError> {
    let folder = Folder::take(dir)?;
    if !folder.holds(DATABASE) {
        return Err(StoreError::Snapshot(format!("there is no database in {}", dir.display())));
    }
    // Brings it to its last commit, if need be, and checks the sums of all pages.
    let options = super::StoreOptions { check_on_open: true, ..super::StoreOptions::default() };
    drop(super::core::open_database(&folder, DATABASE, &options)?);
    verify(&dir.join(DATABASE), dir, Arc::new(ServiceKeys::new(keys)?))
}

/// Opens every record of the database `file` without changing it.
fn verify(file: &Path, data_dir: &Path, service: Arc<ServiceKeys>) -> Result<Verified, StoreError> {
    let read = std::panic::AssertUnwindSafe(|| read_all(file, data_dir, service));
    std::panic::catch_unwind(read).unwrap_or_else(|_| {
        Err(StoreError::Corrupt { file: file.to_owned(), reason: "its structure makes no sense".into() })
    })
}

fn read_all(file: &Path, data_dir: &Path, service: Arc<ServiceKeys>) -> Result<Verified, StoreError> {
    let fail = |error: redb::Error| StoreError::from_redb(file, error);
    let database = ReadOnlyDatabase::open(file).map_err(|e| fail(e.into()))?;
    let view = database.begin_read().map_err(|e| fail(e.into()))?;
    let meta = view.open_table(META).map_err(|e| fail(e.into()))?;
    let format = meta.get(FORMAT_VERSION).map_err(|e| fail(e.into()))?.map_or(0, |format| format.value());
    if format != CURRENT_FORMAT {
        return Err(StoreError::Format { file: file.to_owned(), found: format, supported: CURRENT_FORMAT });
    }
    let secrets = view.open_table(SECRETS).map_err(|e| fail(e.into()))?;
    let sealed = secrets.get(INDEX_KEY).map_err(|e| fail(e.into()))?.map(|sealed| sealed.value().to_vec());
    let sealed = sealed.unwrap_or_default();
    let index_key = open_index_key(&service, &sealed, file)?;
    let users = UserKeys::open_existing(data_dir)?;
    let (sealing_keys, unreadable_user_keys) = users.check(&service)?;
    let codec = Codec::new(service, users, Blind::new(&index_key));
    let mut verified = Verified { sealing_keys, unreadable_user_keys, ..Verified::default() };
    let note = |found: &mut Verified, record: &[u8]| {
        if let Ok(Header { scope: Scope::Service(id), .. }) = Header::of(record) {
            found.sealing_keys.insert(id);
        }
    };
    note(&mut verified, &sealed);
    for row in view.open_table(LOG).map_err(|e| fail(e.into()))?.iter().map_err(|e| fail(e.into()))? {
        let (_, record) = row.map_err(|e| fail(e.into()))?;
        note(&mut verified, record.value());
        match codec.open_log_entry(record.value()) {
            Ok(_) => verified.entries += 1,
            Err(OpenError::Erased) => verified.erased += 1,
            Err(OpenError::Seal(_) | OpenError::Record(_)) => verified.unreadable_entries += 1,
        }
    }
    for row in view.open_table(CATALOGUE).map_err(|e| fail(e.into()))?.iter().map_err(|e| fail(e.into()))? {
        let (key, record) = row.map_err(|e| fail(e.into()))?;
        note(&mut verified, record.value());
        match codec.open_item(key.value(), record.value()) {
            Ok(_) => verified.items += 1,
            Err(_) => verified.unreadable_items += 1,
        }
    }
    for row in view.open_table(THUMBNAILS).map_err(|e| fail(e.into()))?.iter().map_err(|e| fail(e.into()))? {
        let (key, record) = row.map_err(|e| fail(e.into()))?;
        let (item, sha256) = key.value();
        note(&mut verified, record.value());
        match codec.open_thumbnail(item, sha256, record.value()) {
            Ok(_) => verified.thumbnails += 1,
            Err(_) => verified.unreadable_thumbnails += 1,
        }
    }
    Ok(verified)
}

/// Names are folders, so they are what every file system takes and nothing that leads elsewhere.
fn checked(name: &str) -> Result<&str, StoreError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty()
        || name.len() > MAX_NAME_BYTES
        || name.starts_with('.')
        || name.ends_with(".tmp")
        || !name.chars().all(plain)
    {
        let reason = "a name has 1 to 100 letters, digits, dots, hyphens and underscores and does not begin with a dot";
        return Err(StoreError::Snapshot(reason.to_owned()));
    }
    Ok(name)
}

/// SHA-256 in hexadecimal digits, and the number of bytes.
fn hash(file: &Path) -> io::Result<(String, u64)> {
    let mut reader = BufReader::with_capacity(1 << 20, File::open(file)?);
    let (mut context, mut buffer, mut bytes) = (Context::new(&SHA256), vec![0; 1 << 20], 0);
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        context.update(&buffer[..count]);
        bytes += count as u64;
    }
    Ok((context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect(), bytes))
}
