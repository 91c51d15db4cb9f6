//! How does an event or an item become a sealed record, and back? Joins the encoding of records with their keys.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::record::{self, RecordError};
use super::seal::{self, Blind, BlindId, Header, Kind, Scope, SealError, ServiceKeys};
use super::user_keys::UserKeys;
use super::{EmbeddingPrecision, ItemRecord, LogEntry};
use crate::domain::{Event, EventId, ItemId};

/// What stands behind a sealed record of the log, in clear: the blind id of its event or item (16 bytes), and the
/// sequence number of the person's entry before (8 bytes, little-endian, 0 for none).
pub(super) const TAIL_BYTES: usize = 24;

/// Seals and opens records.
#[derive(Debug)]
pub(super) struct Codec {
    pub(super) service: ArcSwap<ServiceKeys>,
    pub(super) users: UserKeys,
    blind: Blind,
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// The person's key is gone: they were erased.
    #[error("it belongs to a person who was erased")]
    Erased,
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// A record of the log without its seal being opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogRecord<'a> {
    pub(super) header: Header,
    sealed: &'a [u8],
    /// Of the event or the item that it is about.
    pub(super) blind_id: BlindId,
    /// The entry of the same person before this one.
    pub(super) previous: u64,
}

impl<'a> LogRecord<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Result<Self, SealError> {
        let at = bytes.len().checked_sub(TAIL_BYTES).ok_or(SealError::Unknown)?;
        let (sealed, tail) = bytes.split_at(at);
        let (id, previous) = tail.split_at(16);
        let blind_id = id.try_into().map_err(|_| SealError::Unknown)?;
        let previous = u64::from_le_bytes(previous.try_into().map_err(|_| SealError::Unknown)?);
        Ok(Self { header: Header::of(sealed)?, sealed, blind_id, previous })
    }

    /// The person's place in the file of user keys, if it is a person's record.
    pub(super) fn slot(&self) -> Option<u32> {
        match self.header.scope {
            Scope::Person(slot) => Some(slot),
            Scope::Service(_) => None,
        }
    }
}

/// A record of the log under the active one of the keys; `None` if it is that already, or a person's.
pub(super) fn reseal_log_entry(service: &ServiceKeys, bytes: &[u8]) -> Result<Option<Vec<u8>>, SealError> {
    let record = LogRecord::of(bytes)?;
    let resealed = service.reseal(record.header.kind, &record.blind_id, record.sealed)?;
    Ok(resealed.map(|mut sealed| {
        sealed.extend_from_slice(&bytes[record.sealed.len()..]);
        sealed
    }))
}

/// Writes into a record of the log which entry of the same person came before it.
pub(super) fn set_previous(bytes: &mut [u8], previous: u64) {
    if let Some(at) = bytes.len().checked_sub(8) {
        bytes[at..].copy_from_slice(&previous.to_le_bytes());
    }
}

impl Codec {
    pub(super) fn new(service: impl Into<Arc<ServiceKeys>>, users: UserKeys, blind: Blind) -> Self {
        Self { service: ArcSwap::new(service.into()), users, blind }
    }

    /// The record of an event, sealed for the person at `slot` or else for the service.
    pub(super) fn seal_event(&self, event: &Event, slot: Option<u32>) -> Result<Vec<u8>, OpenError> {
        let blind_id = self.event_key(&event.id);
        let payload = record::encode_event(event)?;
        let service = self.service.load();
        let sealed = match slot {
            None => service.seal(Kind::Event, &blind_id, &payload)?,
            Some(slot) => {
                let key = self.users.key(slot, &service)?.ok_or(OpenError::Erased)?;
                seal::seal(&key, Header { kind: Kind::Event, scope: Scope::Person(slot) }, &blind_id, &payload)?
            }
        };
        Ok(with_tail(sealed, blind_id))
    }

    /// The log's record of an item that was written, or deleted.
    pub(super) fn seal_item_entry(&self, kind: Kind, id: &ItemId) -> Result<Vec<u8>, OpenError> {
        let blind_id = self.item_key(id);
        Ok(with_tail(self.service.load().seal(kind, &blind_id, id.as_str().as_bytes())?, blind_id))
    }

    /// Opens a record of the log.
    pub(super) fn open_log_entry(&self, bytes: &[u8]) -> Result<LogEntry, OpenError> {
        let record = LogRecord::of(bytes)?;
        let service = self.service.load();
        let open = |kind| service.open(kind, &record.blind_id, record.sealed);
        Ok(match (record.header.kind, record.header.scope) {
            (Kind::Event, Scope::Service(_)) => LogEntry::Event(record::decode_event(&open(Kind::Event)?)?),
            (Kind::Event, Scope::Person(slot)) => {
                let key = self.users.key(slot, &service)?.ok_or(OpenError::Erased)?;
                LogEntry::Event(record::decode_event(&seal::open(&key, record.sealed, &record.blind_id)?)?)
            }
            (Kind::ItemPut, _) => LogEntry::ItemPut(record::decode_item_id(&open(Kind::ItemPut)?)?),
            (Kind::ItemDeleted, _) => LogEntry::ItemDeleted(record::decode_item_id(&open(Kind::ItemDeleted)?)?),
            (Kind::Item | Kind::Thumbnail | Kind::IndexKey | Kind::UserKey | Kind::Checkpoint | Kind::Index, _) => {
                return Err(SealError::Unknown.into());
            }
        })
    }

    pub(super) fn seal_item(&self, item: &ItemRecord, precision: EmbeddingPrecision) -> Result<Vec<u8>, OpenError> {
        let payload = record::encode_item(item, precision)?;
        Ok(self.service.load().seal(Kind::Item, &self.item_key(&item.item.id), &payload)?)
    }

    pub(super) fn open_item(&self, key: &BlindId, bytes: &[u8]) -> Result<ItemRecord, OpenError> {
        Ok(record::decode_item(&self.service.load().open(Kind::Item, key, bytes)?)?)
    }

    pub(super) fn seal_thumbnail(&self, item: &BlindId, sha256: &[u8; 32], jpeg: &[u8]) -> Result<Vec<u8>, OpenError> {
        Ok(self.service.load().seal(Kind::Thumbnail, &thumbnail_context(item, sha256), jpeg)?)
    }

    pub(super) fn open_thumbnail(&self, item: &BlindId, sha256: &[u8; 32], bytes: &[u8]) -> Result<Bytes, OpenError> {
        Ok(self.service.load().open(Kind::Thumbnail, &thumbnail_context(item, sha256), bytes)?.into())
    }

    /// The key under which an item is stored.
    pub(super) fn item_key(&self, id: &ItemId) -> BlindId {
        self.blind.id(b"item", id.as_str())
    }

    /// The key under which an event's id is remembered.
    ///
    /// Of a UUID of version 7, or of version 8 as imports make them, the first six bytes, which are its time, stay as they are: the keys of events
    /// that come together then lie side by side in the table, and a commit touches few of its pages.
    pub(super) fn event_key(&self, id: &EventId) -> BlindId {
        let mut key = self.blind.id(b"event", id.as_str());
        if let Ok(uuid) = uuid::Uuid::try_parse(id.as_str())
            && matches!(uuid.get_version_num(), 7 | 8)
        {
            key[..6].copy_from_slice(&uuid.as_bytes()[..6]);
        }
        key
    }
}

fn with_tail(mut sealed: Vec<u8>, blind_id: BlindId) -> Vec<u8> {
    sealed.extend_from_slice(&blind_id);
    sealed.extend_from_slice(&[0; 8]);
    sealed
}

pub(super) fn thumbnail_context(item: &BlindId, sha256: &[u8; 32]) -> [u8; 48] {
    let mut context = [0; 48];
    context[..16].copy_from_slice(item);
    context[16..].copy_from_slice(sha256);
    context
}
