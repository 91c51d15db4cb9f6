//! How does the store work? What the operator decides.

use std::fmt;
use std::sync::Arc;

use super::EmbeddingPrecision;
use crate::domain::{Clock, SystemClock};
use crate::telemetry::Metrics;

/// How the store works.
#[derive(Clone)]
pub struct StoreOptions {
    /// Memory for pages of the file, in bytes.
    pub cache_bytes: usize,
    /// Calls that may wait for the writer; one more is refused as [`StoreError::Busy`](super::StoreError::Busy).
    pub queue_capacity: usize,
    /// Bytes of records that may wait for the writer.
    pub queue_bytes: usize,
    /// Records after which a commit takes no more calls in.
    pub commit_records: usize,
    /// How exactly embeddings are kept.
    pub embedding_precision: EmbeddingPrecision,
    /// Whether to check the whole file on every start, and not only after a crash.
    pub check_on_open: bool,
    /// Writes are refused while fewer bytes than this are free on the disk.
    pub min_free_bytes: u64,
    /// The most persons that get a key; each takes some 30 bytes of memory.
    pub max_users: usize,
    /// Tells when entries are logged.
    pub clock: Arc<dyn Clock>,
    /// Where commits are timed and counted.
    pub metrics: Option<Metrics>,
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions").field("cache_bytes", &self.cache_bytes).finish_non_exhaustive()
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * 1024 * 1024,
            queue_capacity: 1024,
            queue_bytes: 64 * 1024 * 1024,
            commit_records: 8192,
            embedding_precision: EmbeddingPrecision::F32,
            check_on_open: true,
            min_free_bytes: 64 * 1024 * 1024,
            max_users: 50_000_000,
            clock: Arc::new(SystemClock),
            metrics: None,
        }
    }
}
