//! How do operators' questions about what is stored read, and the answers?

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Rfc3339;
use crate::engine::{Rewritten, SnapshotInfo, Verified};

/// A snapshot to be made.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SnapshotRequest)]
pub(in crate::api) struct SnapshotBody {
    /// Its name: letters, digits, dots, hyphens and underscores. Made up if left out.
    pub(in crate::api) name: Option<String>,
}

/// A snapshot.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct SnapshotAnswer {
    name: String,
    created_at: Rfc3339,
    /// The last entry of the log that it holds.
    sequence: u64,
    /// Entries of the log.
    entries: u64,
    items: u64,
    bytes: u64,
    /// Of the database, in hexadecimal digits.
    sha256: String,
}

impl From<SnapshotInfo> for SnapshotAnswer {
    fn from(info: SnapshotInfo) -> Self {
        Self {
            name: info.name,
            created_at: Rfc3339(info.created_at),
            sequence: info.sequence,
            entries: info.entries,
            items: info.items,
            bytes: info.bytes,
            sha256: info.sha256,
        }
    }
}

/// The snapshots, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct SnapshotsAnswer {
    pub(in crate::api) snapshots: Vec<SnapshotAnswer>,
}

/// What a look at every record found.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct VerifiedAnswer {
    /// Whether everything that should be readable is.
    good: bool,
    /// Entries of the log that can be read.
    entries: u64,
    /// Entries of persons who were erased.
    erased: u64,
    unreadable_entries: u64,
    items: u64,
    unreadable_items: u64,
    thumbnails: u64,
    unreadable_thumbnails: u64,
}

impl From<Verified> for VerifiedAnswer {
    fn from(found: Verified) -> Self {
        Self {
            good: found.is_good(),
            entries: found.entries,
            erased: found.erased,
            unreadable_entries: found.unreadable_entries,
            items: found.items,
            unreadable_items: found.unreadable_items,
            thumbnails: found.thumbnails,
            unreadable_thumbnails: found.unreadable_thumbnails,
        }
    }
}

/// What was rewritten.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct RewriteAnswer {
    /// Entries of the log.
    entries: u64,
    items: u64,
    /// Records that are under the newest sealing key now and were not before.
    resealed: u64,
    /// Records that no key here opens; they were kept as they are.
    unreadable: u64,
    bytes_before: u64,
    bytes_after: u64,
}

impl From<Rewritten> for RewriteAnswer {
    fn from(done: Rewritten) -> Self {
        Self {
            entries: done.entries,
            items: done.items,
            resealed: done.resealed,
            unreadable: done.unreadable,
            bytes_before: done.bytes_before,
            bytes_after: done.bytes_after,
        }
    }
}
