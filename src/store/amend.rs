//! How is what was computed of an item's pictures added later, without undoing a write that came in between?
//!
//! An item is read with a [`Stamp`], and its amended record takes the place of exactly the record that was read. Amending says
//! nothing new about the item, so the log has no entry for it; a copy of the database that is being made meanwhile may go
//! without it, which costs computing it once more.

use super::StoreError;
use super::embedded::{Queueing, Store};
use super::record::ItemRecord;
use super::seal::BlindId;
use super::tables::CATALOGUE;
use super::writer::Write;
use crate::domain::ItemId;

/// Which of all writes of an item a record comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(Vec<u8>);

/// A record that is to take the place of the one it was made from.
#[derive(Debug)]
pub(super) struct Amendment {
    pub(super) key: BlindId,
    /// The sealed record that it was made from: sealing the same twice gives different bytes.
    pub(super) expected: Vec<u8>,
    pub(super) record: Vec<u8>,
}

impl Store {
    /// The item with this id, without thumbnails, and which write it comes from.
    pub fn get_item_stamped(&self, item_id: &ItemId) -> Result<Option<(ItemRecord, Stamp)>, StoreError> {
        let key = self.core().codec.item_key(item_id);
        let table = self.core().read(CATALOGUE)?;
        let Some(bytes) = table.get(&key).map_err(|e| self.core().failed(e))? else {
            return Ok(None);
        };
        let stamp = Stamp(bytes.value().to_vec());
        let item = self.core().codec.open_item(&key, bytes.value());
        item.map(|item| Some((item, stamp))).map_err(|e| self.core().unreadable(item_id.as_str(), &e))
    }

    /// Puts each record in the place of the one that it was made from; `false` for those that another write has replaced since.
    /// Thumbnails stay as they are. When it returns, they have their place in the queue; when that is waited for, they are
    /// durable.
    pub fn begin_amend(&self, records: Vec<(ItemRecord, Stamp)>) -> Result<Queueing<Vec<bool>>, StoreError> {
        let (mut bytes, mut amendments) = (0, Vec::with_capacity(records.len()));
        for (record, Stamp(expected)) in records {
            let key = self.core().codec.item_key(&record.item.id);
            let precision = self.core().options.embedding_precision;
            let record = self.accept(self.core().codec.seal_item(&record, precision))?;
            bytes += record.len() + expected.len();
            amendments.push(Amendment { key, expected, record });
        }
        self.submit(bytes, |done| Write::Amend { amendments, done })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::tests::{image, item, item_id, open};
    use crate::domain::Embedding;

    #[tokio::test]
    async fn what_was_written_in_between_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let picture = super::super::ImageRecord { thumbnail: Some(Bytes::from_static(b"jpeg")), ..image(1) };
        store.put_items(vec![item("i1", vec![picture.clone()]), item("i2", vec![picture])]).await.unwrap();
        let read = |id: &str| store.get_item_stamped(&item_id(id)).unwrap().unwrap();
        let mut amended = vec![read("i1"), read("i2")];
        for (record, _) in &mut amended {
            record.images[0].embeddings.insert("c".into(), Embedding::unit(vec![1.0, 0.0]).unwrap());
        }
        let last = store.put_items(vec![item("i2", vec![image(2)])]).await.unwrap();
        assert_eq!(store.begin_amend(amended).unwrap().wait().await.unwrap(), [true, false]);
        assert_eq!(store.last_sequence(), last[0], "amending is no event of the log");
        drop(store);

        let store = open(folder.path());
        let image_of = |id: &str| store.get_item(&item_id(id)).unwrap().unwrap().images[0].clone();
        assert_eq!(image_of("i1").embeddings.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(store.thumbnail(&item_id("i1"), &[1; 32]).unwrap(), Some(Bytes::from_static(b"jpeg")));
        assert_eq!(image_of("i2").sha256, [2; 32]);
    }
}
