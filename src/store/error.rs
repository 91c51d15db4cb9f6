//! Why could something not be stored or read? One error for the whole layer.

use std::io;
use std::path::{Path, PathBuf};

/// What went wrong. Cheap to clone, because one failed commit answers many callers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk or the quota is full. Nothing of the call was stored.
    #[error("there is too little space left for {}; make room, and writes are accepted again", file.display())]
    NoSpace {
        /// The database.
        file: PathBuf,
    },
    /// Too many writes are waiting already. Nothing of the call was stored; try again shortly.
    #[error("the write queue is full")]
    Busy,
    /// One record is larger than the store accepts.
    #[error("a record of {bytes} bytes is more than the {limit} that the store accepts")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The largest accepted, in bytes.
        limit: usize,
    },
    /// Another process has the database open.
    #[error("{} is in use by another process; stop that one first", file.display())]
    Locked {
        /// The database.
        file: PathBuf,
    },
    /// The file is damaged or no database.
    #[error(
        "{} is damaged ({reason}); see what is left with `upnext store verify`, save what can be read with \
         `upnext store repair`, or restore a snapshot with `upnext snapshot restore`",
        file.display()
    )]
    Corrupt {
        /// The database.
        file: PathBuf,
        /// What gave it away.
        reason: String,
    },
    /// The file was written by another version of this program.
    #[error("{} has format {found}, this version reads format {supported}; use the version that wrote it", file.display())]
    Format {
        /// The database.
        file: PathBuf,
        /// The format that it has.
        found: u64,
        /// The format known here.
        supported: u64,
    },
    /// There is no key to seal records with.
    #[error("there is no usable sealing key")]
    NoSealingKey,
    /// The key that sealed the file is not among those given.
    #[error("{} was sealed with the key {id}, which is not among the sealing keys; add it, or nobody can read the file", file.display())]
    MissingKey {
        /// The database.
        file: PathBuf,
        /// The number of the key.
        id: u32,
    },
    /// A sealing key has the right number but is another one.
    #[error("{} was sealed with another key than the one that has its number now; bring the right one back", file.display())]
    WrongKey {
        /// The database.
        file: PathBuf,
    },
    /// There are as many persons as there may be.
    #[error("there are {limit} users already; raise `store.max_users`")]
    TooManyUsers {
        /// The most there may be.
        limit: usize,
    },
    /// There is no snapshot of this name.
    #[error("there is no snapshot `{name}`")]
    NoSnapshot {
        /// The name.
        name: String,
    },
    /// A snapshot cannot be made or used.
    #[error("the snapshot cannot be used: {0}")]
    Snapshot(String),
    /// The operating system refused something.
    #[error("{}: {reason}", file.display())]
    Io {
        /// The database or its folder.
        file: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(String),
    /// The store was closed, or its writer has ended.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "an open list of another crate; the rest is one kind here")]
    pub(super) fn from_redb(file: &Path, error: impl Into<redb::Error>) -> Self {
        let file = file.to_owned();
        match error.into() {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Self::Locked { file },
            redb::Error::Io(error) => Self::from_io(&file, &error),
            redb::Error::ValueTooLarge(bytes) => Self::TooLarge { bytes, limit: super::embedded::MAX_RECORD_BYTES },
            redb::Error::DatabaseClosed => Self::Closed,
            redb::Error::PreviousIo => {
                Self::Io { file, reason: "an earlier operation failed; the service has to be started again".into() }
            }
            redb::Error::Corrupted(reason) => Self::Corrupt { file, reason },
            other @ (redb::Error::UpgradeRequired(_)
            | redb::Error::RepairAborted
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TableDoesNotExist(_)
            | redb::Error::TypeDefinitionChanged { .. }) => Self::Corrupt { file, reason: other.to_string() },
            other => Self::Io { file, reason: other.to_string() },
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "an open list of another crate; the rest is one kind here")]
    pub(super) fn from_io(file: &Path, error: &io::Error) -> Self {
        let file = file.to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { file },
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Self::Corrupt { file, reason: error.to_string() }
            }
            _ => Self::Io { file, reason: error.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let file = Path::new("d/upnext.redb");
        let of = |kind: io::ErrorKind| StoreError::from_redb(file, redb::Error::Io(kind.into()));
        assert!(matches!(of(io::ErrorKind::StorageFull), StoreError::NoSpace { .. }));
        assert!(matches!(of(io::ErrorKind::QuotaExceeded), StoreError::NoSpace { .. }));
        assert!(matches!(of(io::ErrorKind::InvalidData), StoreError::Corrupt { .. }));
        assert!(matches!(of(io::ErrorKind::PermissionDenied), StoreError::Io { .. }));
        assert!(of(io::ErrorKind::StorageFull).to_string().contains("d/upnext.redb"));
    }
}
