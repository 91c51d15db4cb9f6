//! What can operators have done to what is stored, while the service goes on? Snapshots, and a rewrite of the file.

use std::path::Path;

use super::task::aside;
use super::{Engine, EngineError};
use crate::domain::SealingKey;
use crate::store::{SnapshotInfo, Snapshots, StoreSizes, Verified};

/// What a rewrite has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewritten {
    /// Entries of the log.
    pub entries: u64,
    /// Items.
    pub items: u64,
    /// Records that came under the active sealing key.
    pub resealed: u64,
    /// Records that no key opens.
    pub unreadable: u64,
    /// The size of the file before.
    pub bytes_before: u64,
    /// And after.
    pub bytes_after: u64,
}

impl Engine {
    /// Makes a snapshot of the database.
    pub async fn create_snapshot(&self, name: Option<String>) -> Result<SnapshotInfo, EngineError> {
        let (store, now, snapshots) = (self.parts.store.clone(), self.parts.clock.now(), self.snapshots_folder());
        aside(move || Ok(snapshots.create(&store, name.as_deref(), now, |_, _| {})?)).await
    }

    /// The snapshots, oldest first.
    pub async fn snapshots(&self) -> Result<Vec<SnapshotInfo>, EngineError> {
        let snapshots = self.snapshots_folder();
        aside(move || Ok(snapshots.list()?)).await
    }

    /// Reads every record of a snapshot.
    pub async fn verify_snapshot(&self, name: String) -> Result<Verified, EngineError> {
        let (snapshots, store) = (self.snapshots_folder(), self.parts.store.clone());
        aside(move || Ok(snapshots.verify_with(&name, &store)?)).await
    }

    /// Deletes a snapshot.
    pub async fn delete_snapshot(&self, name: String) -> Result<(), EngineError> {
        let snapshots = self.snapshots_folder();
        aside(move || Ok(snapshots.delete(&name)?)).await
    }

    /// Rewrites the database into a new file that takes its place.
    pub async fn rewrite_store(&self) -> Result<Rewritten, EngineError> {
        let store = self.parts.store.clone();
        aside(move || {
            let size = |file: &Path| std::fs::metadata(file).map_or(0, |found| found.len());
            let bytes_before = size(store.file());
            let copied = store.rewrite(|_, _| {})?;
            Ok(Rewritten {
                entries: copied.entries,
                items: copied.items,
                resealed: copied.resealed,
                unreadable: copied.unreadable,
                bytes_before,
                bytes_after: size(store.file()),
            })
        })
        .await
    }

    /// Takes over other sealing keys, the active one first.
    pub fn set_sealing_keys(&self, keys: &[SealingKey]) -> Result<(), EngineError> {
        Ok(self.parts.store.set_sealing_keys(keys)?)
    }

    /// How much the store holds.
    pub fn store_sizes(&self) -> Result<StoreSizes, EngineError> {
        Ok(self.parts.store.sizes()?)
    }

    fn snapshots_folder(&self) -> Snapshots {
        Snapshots::in_dir(self.store_file().parent().unwrap_or(Path::new(".")))
    }
}
