//! Who can read what lies on the disk? Only who has the key: AES-256-GCM (NIST SP 800-38D) around every record.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format of the record, 2 |
//! | 1 | [`Kind`] |
//! | 1 | [`Scope`]: 0 a sealing key of the service, 1 a person's own key |
//! | 4 | number of the sealing key, or of the person's place in the file of user keys (little-endian) |
//! | 12 | nonce, random |
//! | … | the sealed payload |
//! | 16 | tag |
//!
//! The first seven bytes and a *context* (the key under which the record is stored) are authenticated with the payload,
//! so that a record cannot be passed off as another. With random nonces one key is good for 2³² records; keys are
//! changed long before (`upnext keys rotate`).

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use super::StoreError;
use crate::domain::SealingKey;

const FORMAT: u8 = 2;
const HEADER_BYTES: usize = 7;
const TAG_BYTES: usize = 16;
/// What stands before the payload.
const BEFORE_BYTES: usize = HEADER_BYTES + NONCE_LEN;

/// What sealing adds to a payload, in bytes.
pub(super) const OVERHEAD_BYTES: usize = HEADER_BYTES + NONCE_LEN + TAG_BYTES;

/// What a record is about. The numbers are those on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Event = 1,
    ItemPut = 2,
    ItemDeleted = 3,
    Item = 4,
    Thumbnail = 5,
    IndexKey = 6,
    UserKey = 7,
    Checkpoint = 8,
    Index = 9,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        let all = [
            Self::Event,
            Self::ItemPut,
            Self::ItemDeleted,
            Self::Item,
            Self::Thumbnail,
            Self::IndexKey,
            Self::UserKey,
            Self::Checkpoint,
            Self::Index,
        ];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Whose key sealed a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The service's sealing key of this number.
    Service(u32),
    /// The key at this place of the file of user keys.
    Person(u32),
}

/// What a record says of itself without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) scope: Scope,
}

/// Why a record stays closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SealError {
    #[error("it is no record of a known format")]
    Unknown,
    #[error("the sealing key {0} that it needs is not there")]
    NoKey(u32),
    #[error("it was altered, or its key is another one")]
    Broken,
    #[error("the system gave no random numbers")]
    NoRandomness,
}

/// A key made ready.
pub(super) fn key(bytes: &[u8; SealingKey::BYTES]) -> Result<LessSafeKey, SealError> {
    UnboundKey::new(&AES_256_GCM, bytes).map(LessSafeKey::new).map_err(|_| SealError::Broken)
}

/// What a record has around its sealed payload.
#[derive(Debug)]
pub(super) struct Envelope {
    /// Header and nonce.
    pub(super) before: [u8; BEFORE_BYTES],
    /// The tag.
    pub(super) after: [u8; TAG_BYTES],
}

/// Seals `payload` under `key`, which is that of `header.scope`.
pub(super) fn seal(key: &LessSafeKey, header: Header, context: &[u8], payload: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut record = Vec::with_capacity(payload.len() + OVERHEAD_BYTES + 24);
    record.resize(BEFORE_BYTES, 0);
    record.extend_from_slice(payload);
    let envelope = seal_in_place(key, header, context, &mut record[BEFORE_BYTES..])?;
    record[..BEFORE_BYTES].copy_from_slice(&envelope.before);
    record.extend_from_slice(&envelope.after);
    Ok(record)
}

/// The same where the payload lies, for what is large.
fn seal_in_place(key: &LessSafeKey, header: Header, context: &[u8], payload: &mut [u8]) -> Result<Envelope, SealError> {
    let nonce = random::<NONCE_LEN>()?;
    let aad = [&header.bytes(), context].concat();
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), payload)
        .map_err(|_| SealError::Broken)?;
    let mut before = [0; BEFORE_BYTES];
    before[..HEADER_BYTES].copy_from_slice(&header.bytes());
    before[HEADER_BYTES..].copy_from_slice(&nonce);
    Ok(Envelope { before, after: tag.as_ref().try_into().map_err(|_| SealError::Broken)? })
}

/// The payload of a record, which `key` must have sealed with this context.
pub(super) fn open(key: &LessSafeKey, record: &[u8], context: &[u8]) -> Result<Vec<u8>, SealError> {
    open_owned(key, record.to_vec(), context)
}

/// The same in the record's own memory, for what is large.
fn open_owned(key: &LessSafeKey, mut record: Vec<u8>, context: &[u8]) -> Result<Vec<u8>, SealError> {
    let (header, rest) = record.split_at_checked(HEADER_BYTES).ok_or(SealError::Unknown)?;
    let (nonce, _) = rest.split_at_checked(NONCE_LEN).ok_or(SealError::Unknown)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Unknown)?;
    let aad = [header, context].concat();
    let opened = key.open_within(nonce, Aad::from(aad), &mut record, BEFORE_BYTES..);
    let bytes = opened.map_err(|_| SealError::Broken)?.len();
    record.truncate(bytes);
    Ok(record)
}

impl Header {
    /// The header of a record.
    pub(super) fn of(record: &[u8]) -> Result<Self, SealError> {
        let [FORMAT, kind, scope, rest @ ..] = record else { return Err(SealError::Unknown) };
        let number: [u8; 4] = rest.get(..4).and_then(|n| n.try_into().ok()).ok_or(SealError::Unknown)?;
        let number = u32::from_le_bytes(number);
        let scope = match scope {
            0 => Scope::Service(number),
            1 => Scope::Person(number),
            _ => return Err(SealError::Unknown),
        };
        Ok(Self { kind: Kind::of(*kind).ok_or(SealError::Unknown)?, scope })
    }

    fn bytes(self) -> [u8; HEADER_BYTES] {
        let (scope, number) = match self.scope {
            Scope::Service(id) => (0, id),
            Scope::Person(slot) => (1, slot),
        };
        let [a, b, c, d] = number.to_le_bytes();
        [FORMAT, self.kind as u8, scope, a, b, c, d]
    }
}

/// The service's sealing keys. The first seals, all open.
pub(super) struct ServiceKeys(Vec<(u32, LessSafeKey)>);

impl ServiceKeys {
    /// Makes the keys ready; there must be at least one.
    pub(super) fn new(keys: &[SealingKey]) -> Result<Self, StoreError> {
        if keys.is_empty() {
            return Err(StoreError::NoSealingKey);
        }
        let ready = keys.iter().map(|k| key(k.bytes()).map(|ready| (k.id(), ready)));
        ready.collect::<Result<_, _>>().map(Self).map_err(|_| StoreError::NoSealingKey)
    }

    /// The number of the key that seals.
    pub(super) fn active(&self) -> u32 {
        self.0.first().map_or(0, |(id, _)| *id)
    }

    pub(super) fn seal(&self, kind: Kind, context: &[u8], payload: &[u8]) -> Result<Vec<u8>, SealError> {
        let (id, key) = self.0.first().ok_or(SealError::NoKey(0))?;
        seal(key, Header { kind, scope: Scope::Service(*id) }, context, payload)
    }

    /// The same where the payload lies.
    pub(super) fn seal_in_place(&self, kind: Kind, context: &[u8], payload: &mut [u8]) -> Result<Envelope, SealError> {
        let (id, key) = self.0.first().ok_or(SealError::NoKey(0))?;
        seal_in_place(key, Header { kind, scope: Scope::Service(*id) }, context, payload)
    }

    /// Opens a record of this kind that a key of the service sealed.
    pub(super) fn open(&self, kind: Kind, context: &[u8], record: &[u8]) -> Result<Vec<u8>, SealError> {
        open(self.key_of(kind, record)?, record, context)
    }

    /// The same in the record's own memory.
    pub(super) fn open_owned(&self, kind: Kind, context: &[u8], record: Vec<u8>) -> Result<Vec<u8>, SealError> {
        open_owned(self.key_of(kind, &record)?, record, context)
    }

    fn key_of(&self, kind: Kind, record: &[u8]) -> Result<&LessSafeKey, SealError> {
        match Header::of(record)? {
            Header { kind: found, scope: Scope::Service(id) } if found == kind => {
                self.0.iter().find(|(own, _)| *own == id).map(|(_, key)| key).ok_or(SealError::NoKey(id))
            }
            Header { .. } => Err(SealError::Unknown),
        }
    }

    /// The same record under the active key; `None` if it is that already, or a person's.
    pub(super) fn reseal(&self, kind: Kind, context: &[u8], record: &[u8]) -> Result<Option<Vec<u8>>, SealError> {
        match Header::of(record)?.scope {
            Scope::Service(id) if id != self.active() => {
                let payload = self.open(kind, context, record)?;
                self.seal(kind, context, &payload).map(Some)
            }
            Scope::Service(_) | Scope::Person(_) => Ok(None),
        }
    }
}

impl std::fmt::Debug for ServiceKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(id, _)| id)).finish()
    }
}

/// Turns ids into keys of tables from which nobody reads the ids: 16 bytes of HMAC-SHA256.
#[derive(Debug, Clone)]
pub(super) struct Blind(hmac::Key);

/// Stands for an id in the tables.
pub(super) type BlindId = [u8; 16];

impl Blind {
    pub(super) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    pub(super) fn id(&self, of: &[u8], id: &str) -> BlindId {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(of);
        context.update(id.as_bytes());
        let mut blind = BlindId::default();
        blind.copy_from_slice(&context.sign().as_ref()[..16]);
        blind
    }
}

/// `N` bytes from the system's generator.
pub(super) fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| SealError::NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(ids: &[u32]) -> ServiceKeys {
        let keys: Vec<SealingKey> = ids.iter().map(|&id| SealingKey::new(id, [id as u8; 32])).collect();
        ServiceKeys::new(&keys).unwrap()
    }

    #[test]
    fn older_keys_open_what_they_sealed() {
        let record = keys(&[1]).seal(Kind::Item, b"a", b"payload").unwrap();
        assert_eq!(record.len(), 7 + OVERHEAD_BYTES);
        assert_eq!(keys(&[2, 1]).open(Kind::Item, b"a", &record).unwrap(), b"payload");
        assert_eq!(keys(&[2]).open(Kind::Item, b"a", &record), Err(SealError::NoKey(1)));
        assert_eq!(Header::of(&record).unwrap(), Header { kind: Kind::Item, scope: Scope::Service(1) });
        assert_eq!(keys(&[2, 1]).active(), 2);
        let stranger = ServiceKeys::new(&[SealingKey::new(1, [9; 32])]).unwrap();
        assert_eq!(stranger.open(Kind::Item, b"a", &record), Err(SealError::Broken));
    }

    #[test]
    fn a_record_is_what_and_where_it_was_sealed() {
        let keys = keys(&[1]);
        let record = keys.seal(Kind::Item, b"a", b"payload").unwrap();
        assert_eq!(keys.open(Kind::Item, b"b", &record), Err(SealError::Broken));
        assert_eq!(keys.open(Kind::Event, b"a", &record), Err(SealError::Unknown));
        assert!(!record.windows(7).any(|w| w == b"payload"));
        assert_ne!(record, keys.seal(Kind::Item, b"a", b"payload").unwrap(), "nonces differ");
    }

    #[test]
    fn ids_are_blinded_by_what_they_are_of() {
        let blind = Blind::new(b"secret");
        assert_eq!(blind.id(b"item", "x"), blind.id(b"item", "x"));
        assert_ne!(blind.id(b"item", "x"), blind.id(b"event", "x"));
        assert_ne!(blind.id(b"item", "x"), Blind::new(b"other").id(b"item", "x"));
    }

    proptest! {
        #[test]
        fn no_alteration_goes_unnoticed(payload in prop::collection::vec(any::<u8>(), 0..80), place in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let keys = keys(&[1]);
            let mut record = keys.seal(Kind::Item, b"a", &payload).unwrap();
            let place = place.index(record.len());
            record[place] ^= 1 << bit;
            prop_assert!(keys.open(Kind::Item, b"a", &record).is_err());
            prop_assert!(keys.open(Kind::Item, b"a", &record[..place]).is_err());
        }
    }
}
