//! How does an item get into the catalogue? Pictures are looked at first, then the record is made durable, then applied.

use std::collections::HashSet;

use bytes::Bytes;
use futures_util::future::join_all;
use ring::digest::{SHA256, digest};

use super::applier::Change;
use super::catalogue::{Entry, Portrayed};
use super::task::{detached, queued};
use super::{Engine, EngineError, ImageView, ItemPage, ItemReceipt, ItemView, ItemWrite};
use crate::domain::ItemId;
use crate::index::MAX_VECTORS_PER_ITEM;
use crate::inference::Embedder;
use crate::store::{ImageRecord, ItemRecord};
use crate::telemetry::ItemOutcome;

impl Engine {
    /// Writes an item, whole. Whoever does not `wait` hears when it has its place in the queue; see
    /// [`observe_events`](Self::observe_events).
    pub async fn put_item(&self, write: ItemWrite, wait: bool) -> Result<ItemReceipt, EngineError> {
        self.put_items_and(vec![write], wait).await.pop().unwrap_or(Err(EngineError::ShuttingDown))
    }

    /// Writes many items with one sync; one outcome for each, in order. Of two writes of the same item the later one stays.
    pub async fn put_items(&self, writes: Vec<ItemWrite>) -> Vec<Result<ItemReceipt, EngineError>> {
        self.put_items_and(writes, true).await
    }

    async fn put_items_and(&self, writes: Vec<ItemWrite>, wait: bool) -> Vec<Result<ItemReceipt, EngineError>> {
        let mut known = HashSet::new();
        let created: Vec<bool> = writes
            .iter()
            .map(|w| known.insert(w.item.id.clone()) && self.parts.live.catalogue.read().find(&w.item.id).is_none())
            .collect();
        let records = join_all(writes.into_iter().map(|write| self.portray_item(write))).await;
        let good: Vec<ItemRecord> = records.iter().filter_map(|r| r.as_ref().ok().cloned()).collect();
        let written = if good.is_empty() { Ok(()) } else { self.write_records(good, wait).await };
        self.parts.metrics.count_items(ItemOutcome::Rejected, records.iter().filter(|r| r.is_err()).count() as u64);
        records
            .into_iter()
            .zip(created)
            .map(|(record, created)| {
                let record = record?;
                written.as_ref().map_err(EngineError::again)?;
                self.parts.metrics.count_items(ItemOutcome::Stored, 1);
                Ok(ItemReceipt { created, images: record.images.len() })
            })
            .collect()
    }

    /// Deletes an item; `false` if there was none. Its id keeps its place in what was learned.
    pub async fn delete_item(&self, id: &ItemId) -> Result<bool, EngineError> {
        let (parts, id) = (self.parts.clone(), id.clone());
        detached(async move {
            if parts.live.catalogue.read().find(&id).is_none() {
                return Ok(false);
            }
            let Some(sequence) = parts.store.delete_item(&id).await? else {
                return Ok(false);
            };
            parts.apply([(sequence, Change::ItemDeleted(id))]);
            parts.applier.wait_for(sequence).await?;
            parts.metrics.count_items(ItemOutcome::Deleted, 1);
            Ok(true)
        })
        .await
    }

    /// The item, if the catalogue has it.
    pub fn item(&self, id: &ItemId) -> Option<ItemView> {
        let catalogue = self.parts.live.catalogue.read();
        let (_, entry) = catalogue.find(id)?;
        Some(entry.view())
    }

    /// Up to `limit` items in the order of their ids, from `from` on.
    pub fn items(&self, from: Option<&ItemId>, limit: usize) -> ItemPage {
        let catalogue = self.parts.live.catalogue.read();
        let mut items: Vec<ItemView> = catalogue.page(from, limit.saturating_add(1)).map(Entry::view).collect();
        let next = (items.len() > limit).then(|| items.pop().map(|view| view.item.id)).flatten();
        ItemPage { items, next }
    }

    /// A JPEG thumbnail of the item's picture number `n` (from 0), to show to people.
    pub fn item_image(&self, id: &ItemId, n: usize) -> Result<Option<Bytes>, EngineError> {
        let found = self.parts.live.catalogue.read().find(id).and_then(|(_, entry)| entry.images.get(n).copied());
        let Some(Portrayed { sha256, .. }) = found else {
            return Ok(None);
        };
        Ok(self.parts.store.thumbnail(id, &sha256)?)
    }

    /// Checks the item and looks at its pictures; those that it has already are not looked at again.
    async fn portray_item(&self, write: ItemWrite) -> Result<ItemRecord, EngineError> {
        write.item.check().map_err(|e| EngineError::Invalid { field: e.field, reason: e.reason })?;
        let old = self.parts.store.get_item(&write.item.id)?;
        let now = self.parts.clock.now();
        let created_at = old.as_ref().map_or(now, |record| record.created_at);
        let old_images = old.map(|record| record.images).unwrap_or_default();
        let images = match write.images {
            None => old_images,
            Some(files) => self.portray_images(files, &old_images).await?,
        };
        Ok(ItemRecord { item: write.item, images, created_at, updated_at: now })
    }

    async fn portray_images(&self, files: Vec<Bytes>, old: &[ImageRecord]) -> Result<Vec<ImageRecord>, EngineError> {
        if files.len() > MAX_VECTORS_PER_ITEM {
            let reason = format!("an item has at most {MAX_VECTORS_PER_ITEM} images, these are {}", files.len());
            return Err(EngineError::Invalid { field: "image", reason });
        }
        let models = self.parts.live.models();
        let models = &models;
        let portraits = files.into_iter().enumerate().map(|(n, file)| async move {
            let mut sha256 = [0; 32];
            sha256.copy_from_slice(digest(&SHA256, &file).as_ref());
            let known = old.iter().find(|known| known.sha256 == sha256);
            let has_seen = |model: &Embedder| known.is_some_and(|k| k.embeddings.contains_key(model.model_id()));
            let missing: Vec<Embedder> = models.iter().filter(|model| !has_seen(model)).cloned().collect();
            if let Some(known) = known.filter(|_| missing.is_empty()) {
                return Ok(known.clone());
            }
            let portrait = self.parts.eyes.portray(file, &format!("image[{n}]"), &missing).await?;
            let mut embeddings = known.map(|known| known.embeddings.clone()).unwrap_or_default();
            embeddings.extend(portrait.embeddings);
            Ok::<_, EngineError>(ImageRecord {
                sha256,
                width: portrait.width,
                height: portrait.height,
                embeddings,
                thumbnail: portrait.thumbnail,
            })
        });
        join_all(portraits).await.into_iter().collect()
    }

    async fn write_records(&self, records: Vec<ItemRecord>, wait: bool) -> Result<(), EngineError> {
        let parts = self.parts.clone();
        queued(wait, |accepted| async move {
            let queueing = parts.store.begin_put(records.clone())?;
            accepted();
            let sequences = queueing.wait().await?;
            let last = sequences.last().copied().unwrap_or_default();
            parts.apply(sequences.into_iter().zip(records.into_iter().map(|r| Change::ItemPut(Box::new(r)))));
            parts.applier.wait_for(last).await
        })
        .await
        .map(|_| ())
    }
}

impl Entry {
    pub(super) fn view(&self) -> ItemView {
        ItemView { item: self.item(), images: self.images.iter().map(Portrayed::view).collect() }
    }
}

impl Portrayed {
    fn view(&self) -> ImageView {
        let sha256 = self.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        ImageView { sha256, width: self.width, height: self.height }
    }
}
