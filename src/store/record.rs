//! How do an event and an item become bytes? The payloads of records, before they are sealed.

use std::collections::BTreeMap;

use bytes::Bytes;
use half::f16;
use serde::{Deserialize, Serialize};

use crate::domain::{Embedding, Event, Item, ItemId, Timestamp};

const SHA256_BYTES: usize = 32;

/// An item with all that was computed from its images.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemRecord {
    /// What its owner says about it.
    pub item: Item,
    /// Its images, in the owner's order.
    pub images: Vec<ImageRecord>,
    /// When it was first written.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
}

/// One image of an item.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageRecord {
    /// SHA-256 of the uploaded bytes; the same image need not be embedded twice.
    pub sha256: [u8; SHA256_BYTES],
    /// Columns of the decoded image.
    pub width: u32,
    /// Rows of the decoded image.
    pub height: u32,
    /// Its embeddings by the id of the model.
    pub embeddings: BTreeMap<String, Embedding>,
    /// A small JPEG to show. On writing, `None` keeps the one that is stored for the same image of this item. It is
    /// never filled in on reading: ask [`Store::thumbnail`](super::Store::thumbnail).
    pub thumbnail: Option<Bytes>,
}

/// How exactly the components of embeddings are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbeddingPrecision {
    /// Two bytes a component; about three decimal digits.
    F16,
    /// Four bytes a component; as computed.
    #[default]
    F32,
}

impl EmbeddingPrecision {
    fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// Why bytes are no record.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error("the record ends early or goes on too long")]
    Length,
    #[error("the record's text is not valid: {0}")]
    Text(String),
}

#[derive(Serialize, Deserialize)]
struct ItemHead<'a> {
    item: std::borrow::Cow<'a, Item>,
    created_at: Timestamp,
    updated_at: Timestamp,
    images: Vec<ImageHead>,
}

#[derive(Serialize, Deserialize)]
struct ImageHead {
    width: u32,
    height: u32,
    embeddings: Vec<EmbeddingHead>,
}

#[derive(Serialize, Deserialize)]
struct EmbeddingHead {
    model: String,
    dims: u32,
    precision: EmbeddingPrecision,
}

pub(super) fn encode_event(event: &Event) -> Result<Vec<u8>, RecordError> {
    serde_json::to_vec(event).map_err(|e| RecordError::Text(e.to_string()))
}

pub(super) fn decode_event(payload: &[u8]) -> Result<Event, RecordError> {
    serde_json::from_slice(payload).map_err(|e| RecordError::Text(e.to_string()))
}

pub(super) fn decode_item_id(payload: &[u8]) -> Result<ItemId, RecordError> {
    let text = std::str::from_utf8(payload).map_err(|e| RecordError::Text(e.to_string()))?;
    ItemId::new(text).map_err(|e| RecordError::Text(e.to_string()))
}

pub(super) fn encode_item(record: &ItemRecord, precision: EmbeddingPrecision) -> Result<Vec<u8>, RecordError> {
    let head = ItemHead {
        item: std::borrow::Cow::Borrowed(&record.item),
        created_at: record.created_at,
        updated_at: record.updated_at,
        images: record
            .images
            .iter()
            .map(|image| ImageHead {
                width: image.width,
                height: image.height,
                embeddings: image
                    .embeddings
                    .iter()
                    .map(|(model, e)| EmbeddingHead { model: model.clone(), dims: e.dims() as u32, precision })
                    .collect(),
            })
            .collect(),
    };
    let head = serde_json::to_vec(&head).map_err(|e| RecordError::Text(e.to_string()))?;
    let head_bytes = u32::try_from(head.len()).map_err(|_| RecordError::Length)?;
    let mut bytes = Vec::with_capacity(head.len() + 64 + record.images.len() * 2048);
    bytes.extend(head_bytes.to_le_bytes());
    bytes.extend(head);
    for image in &record.images {
        bytes.extend(image.sha256);
        for embedding in image.embeddings.values() {
            for &component in embedding.as_slice() {
                match precision {
                    EmbeddingPrecision::F16 => bytes.extend(f16::from_f32(component).to_le_bytes()),
                    EmbeddingPrecision::F32 => bytes.extend(component.to_le_bytes()),
                }
            }
        }
    }
    Ok(bytes)
}

pub(super) fn decode_item(payload: &[u8]) -> Result<ItemRecord, RecordError> {
    let mut rest = payload;
    let head_bytes = u32::from_le_bytes(take(&mut rest, 4)?.try_into().map_err(|_| RecordError::Length)?);
    let head: ItemHead<'_> =
        serde_json::from_slice(take(&mut rest, head_bytes as usize)?).map_err(|e| RecordError::Text(e.to_string()))?;
    let mut images = Vec::with_capacity(head.images.len());
    for image in head.images {
        let sha256 = take(&mut rest, SHA256_BYTES)?.try_into().map_err(|_| RecordError::Length)?;
        let mut embeddings = BTreeMap::new();
        for embedding in image.embeddings {
            let byte_count =
                (embedding.dims as usize).checked_mul(embedding.precision.bytes()).ok_or(RecordError::Length)?;
            let components = decode_components(take(&mut rest, byte_count)?, embedding.precision);
            let unit = Embedding::unit(components).map_err(|e| RecordError::Text(e.to_string()))?;
            embeddings.insert(embedding.model, unit);
        }
        images.push(ImageRecord { sha256, width: image.width, height: image.height, embeddings, thumbnail: None });
    }
    if !rest.is_empty() {
        return Err(RecordError::Length);
    }
    Ok(ItemRecord { item: head.item.into_owned(), images, created_at: head.created_at, updated_at: head.updated_at })
}

fn decode_components(bytes: &[u8], precision: EmbeddingPrecision) -> Vec<f32> {
    match precision {
        EmbeddingPrecision::F16 => bytes.chunks_exact(2).map(|c| f16::from_le_bytes([c[0], c[1]]).to_f32()).collect(),
        EmbeddingPrecision::F32 => {
            bytes.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], RecordError> {
    let (taken, left) = rest.split_at_checked(count).ok_or(RecordError::Length)?;
    *rest = left;
    Ok(taken)
}
