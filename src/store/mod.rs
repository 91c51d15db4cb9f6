//! What must survive a crash? The log of events and the catalogue of items, in one file.
//!
//! [`Store`] keeps everything in `upnext.redb` in the data folder. What a call of [`Store::append_events`],
//! [`Store::put_items`] or [`Store::delete_item`] has acknowledged is on the disk. One thread writes; it takes
//! all that is waiting into one transaction with one sync. Reads see the last commit and never wait for it.
//! Other kinds of logs can stand in for the embedded one through [`EventLog`].
//!
//! Records are sealed (`seal.rs`), those of a person with a key of their own, which erasing destroys (`user_keys.rs`). The
//! formats of all files are specified in `docs/storage.md`.
//!
//! A record that cannot be read is skipped and counted; a file that cannot be read stops the start with one
//! error that names it.

mod amend;
mod checkpoint;
mod codec;
mod core;
mod disk;
mod embedded;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod index_file;
mod log;
mod options;
mod people;
mod record;
mod repair;
mod rewrite;
mod seal;
mod snapshot;
mod tables;
mod user_keys;
mod writer;

pub use amend::Stamp;
pub use checkpoint::{Checkpoint, StoredCheckpoint, Unusable};
pub use embedded::{Queueing, Scanned, Store, StoreSizes};
pub use error::StoreError;
pub use log::{Appended, EventLog, LogEntry, Replayed};
pub use options::StoreOptions;
pub use record::{EmbeddingPrecision, ImageRecord, ItemRecord};
pub use repair::{Repaired, repair_store};
pub use rewrite::Copied;
pub use snapshot::{SnapshotInfo, Snapshots, Verified, verify_store};
pub use writer::{Trim, Trimmed};

/// Whether a store was made in the folder `dir`.
pub fn is_in(dir: &std::path::Path) -> bool {
    dir.join(DATABASE).exists() || dir.join(user_keys::FILE_NAME).exists()
}

/// The name of the database in its folder.
const DATABASE: &str = "upnext.redb";

#[cfg(test)]
mod crash_disk;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod people_tests;
#[cfg(test)]
mod snapshot_tests;
#[cfg(test)]
mod tests;
