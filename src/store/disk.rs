//! Where do the files lie? A folder on a disk; the seam at which tests put one that fails.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::StorageBackend;

use super::StoreError;

/// Files by name, as the database sees them.
pub(super) trait Disk: Debug + Send + Sync {
    /// Opens a file, which is made if there is none.
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageBackend>>;

    /// Whether there is a file of this name.
    fn holds(&self, name: &str) -> bool;

    /// Puts a file in the place of another, durably and at a stroke. Whoever has the other one open keeps it.
    fn replace(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file, durably; none there is fine too.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Bytes that may still be written.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Where the file is, for messages.
    fn path(&self, name: &str) -> PathBuf;
}

/// A folder that one process at a time may use.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    /// Locked for as long as this is alive.
    _lock: File,
}

impl Folder {
    /// Takes the folder `dir`, which is made, for its owner only, if there is none.
    pub(super) fn take(dir: &Path) -> Result<Self, StoreError> {
        create_private_folder(dir).map_err(|e| StoreError::from_io(dir, &e))?;
        let file = dir.join("lock");
        let failed = |e: io::Error| StoreError::from_io(&file, &e);
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&file).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { file: dir.join(super::DATABASE) }),
            Err(TryLockError::Error(e)) => Err(failed(e)),
        }
    }
}

impl Folder {
    /// Puts the file `new` in the place of the file `current`, if there is one, which is kept as `kept`. At no moment is
    /// there no `current`: whoever opens the folder after a crash would begin an empty one.
    pub(super) fn exchange(&self, new: &str, current: &str, kept: &str) -> io::Result<()> {
        if self.holds(current) {
            self.remove(kept)?;
            fs::hard_link(self.dir.join(current), self.dir.join(kept))?;
        }
        self.replace(new, current)
    }
}

impl Disk for Folder {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageBackend>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(self.dir.join(name))?;
        sync_folder(&self.dir)?;
        Ok(Arc::new(PlainFile(file)))
    }

    fn holds(&self, name: &str) -> bool {
        self.dir.join(name).exists()
    }

    fn replace(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))?;
        sync_folder(&self.dir)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.dir.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            Ok(()) | Err(_) => sync_folder(&self.dir),
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.dir)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// A folder that somebody else may be using: its files are only read, and those that are not there are empty.
#[derive(Debug)]
pub(super) struct Reading(pub(super) PathBuf);

impl Disk for Reading {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageBackend>> {
        match File::open(self.0.join(name)) {
            Ok(file) => Ok(Arc::new(PlainFile(file))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Arc::new(redb::backends::InMemoryBackend::new())),
            Err(e) => Err(e),
        }
    }

    fn holds(&self, name: &str) -> bool {
        self.0.join(name).exists()
    }

    fn replace(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// Makes names in the folder durable.
pub(super) fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes the folder if there is none, for its owner only: what people did is nobody else's business.
pub(super) fn create_private_folder(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// A file; its folder is locked, so it need not be.
#[derive(Debug)]
struct PlainFile(File);

impl StorageBackend for PlainFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        // What a failed sync leaves on the disk nobody knows, so it must not pass for a full disk, after which the file
        // is used again.
        self.0.sync_data().map_err(|e| io::Error::other(format!("the sync failed: {e}")))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, data, offset)
    }
}

/// Lets the database own a file that others share.
#[derive(Debug)]
pub(super) struct Shared(pub(super) Arc<dyn StorageBackend>);

impl StorageBackend for Shared {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}
