//! With what is sealed what lies on the disk? Keys for AES-256-GCM, each with a number that records name.

use std::fmt::{self, Write as _};

/// A key under which records are sealed. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingKey {
    id: u32,
    bytes: [u8; Self::BYTES],
}

/// Why a list of sealing keys cannot be used. Never says what stands in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealingKeysError {
    /// The list is empty.
    #[error("there must be at least one sealing key")]
    Empty,
    /// The list is longer than [`SealingKey::MAX_KEYS`].
    #[error("there must be at most {} sealing keys", SealingKey::MAX_KEYS)]
    TooMany,
    /// The entry at this place, counted from 1, is none.
    #[error("sealing key number {0} in the list is not of the form ID:KEY, a number from 1 and 64 hexadecimal digits")]
    Malformed(usize),
    /// Two keys have this id.
    #[error("there are two sealing keys with the id {0}")]
    Twice(u32),
}

impl SealingKey {
    /// The length of a key.
    pub const BYTES: usize = 32;
    /// The most keys that there can be at a time.
    pub const MAX_KEYS: usize = 64;

    /// The key with the number `id`, which is unique among the keys of a data folder for ever.
    pub fn new(id: u32, bytes: [u8; Self::BYTES]) -> Self {
        Self { id, bytes }
    }

    /// The key that 64 hexadecimal digits say.
    pub fn from_hex(id: u32, digits: &str) -> Option<Self> {
        let digits = digits.as_bytes();
        if digits.len() != 2 * Self::BYTES {
            return None;
        }
        let mut bytes = [0; Self::BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |d: u8| char::from(d).to_digit(16);
            *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
        }
        Some(Self { id, bytes })
    }

    /// Reads `ID:KEY,ID:KEY`, the active key first.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, SealingKeysError> {
        let entries = if text.trim().is_empty() { Vec::new() } else { text.split(',').collect() };
        let mut keys = Vec::with_capacity(entries.len().min(Self::MAX_KEYS));
        for (at, entry) in entries.iter().enumerate().take(Self::MAX_KEYS + 1) {
            let parsed = entry.trim().split_once(':').and_then(|(id, digits)| {
                let id = id.parse().ok().filter(|id| *id > 0)?;
                Self::from_hex(id, digits)
            });
            keys.push(parsed.ok_or(SealingKeysError::Malformed(at + 1))?);
        }
        Self::check_list(&keys)?;
        Ok(keys)
    }

    /// Refuses lists that are empty, too long, or name one id twice.
    pub fn check_list(keys: &[Self]) -> Result<(), SealingKeysError> {
        if keys.is_empty() {
            return Err(SealingKeysError::Empty);
        }
        if keys.len() > Self::MAX_KEYS {
            return Err(SealingKeysError::TooMany);
        }
        let twice = keys.iter().enumerate().find(|(at, key)| keys[..*at].iter().any(|other| other.id == key.id));
        twice.map_or(Ok(()), |(_, key)| Err(SealingKeysError::Twice(key.id)))
    }

    /// The list as [`parse_list`](Self::parse_list) reads it. This shows the secrets.
    pub fn reveal_list(keys: &[Self]) -> String {
        let entries: Vec<String> = keys.iter().map(|key| format!("{}:{}", key.id, key.reveal_hex())).collect();
        entries.join(",")
    }

    /// The number that records name.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The secret itself.
    pub fn bytes(&self) -> &[u8; Self::BYTES] {
        &self.bytes
    }

    /// The secret itself in hexadecimal digits.
    pub fn reveal_hex(&self) -> String {
        self.bytes.iter().fold(String::with_capacity(2 * Self::BYTES), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({}, …)", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_not_printed() {
        assert_eq!(format!("{:?}", SealingKey::new(7, [3; 32])), "SealingKey(7, …)");
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let keys = [SealingKey::new(12, [0xab; 32]), SealingKey::new(3, [0x01; 32])];
        let text = SealingKey::reveal_list(&keys);
        assert_eq!(text, format!("12:{},3:{}", "ab".repeat(32), "01".repeat(32)));
        assert_eq!(SealingKey::parse_list(&text).unwrap(), keys);
        let spaced = format!(" 12:{} ,\t3:{}\n", "AB".repeat(32), "01".repeat(32));
        assert_eq!(SealingKey::parse_list(&spaced).unwrap(), keys);
    }

    #[test]
    fn what_is_no_list_is_refused_without_being_shown() {
        let hex = "ab".repeat(32);
        let many = |n: u32| (1..=n).map(|id| format!("{id}:{hex}")).collect::<Vec<_>>().join(",");
        let cases = [
            (String::new(), SealingKeysError::Empty),
            (" ".to_owned(), SealingKeysError::Empty),
            (hex.clone(), SealingKeysError::Malformed(1)),
            (format!("0:{hex}"), SealingKeysError::Malformed(1)),
            (format!("-1:{hex}"), SealingKeysError::Malformed(1)),
            (format!("4294967296:{hex}"), SealingKeysError::Malformed(1)),
            (format!("1:{hex}00"), SealingKeysError::Malformed(1)),
            (format!("1:{}", &hex[1..]), SealingKeysError::Malformed(1)),
            (format!("2:{hex},1:{}g", &hex[1..]), SealingKeysError::Malformed(2)),
            (format!("2:{hex},1:{}é", &hex[2..]), SealingKeysError::Malformed(2)),
            (format!("2:{hex},"), SealingKeysError::Malformed(2)),
            (format!("2:{hex},1:{hex},2:{hex}"), SealingKeysError::Twice(2)),
            (many(65), SealingKeysError::TooMany),
            (many(10_000), SealingKeysError::TooMany),
        ];
        for (text, error) in cases {
            assert_eq!(SealingKey::parse_list(&text), Err(error), "{text}");
            assert!(!error.to_string().contains("abab"), "{error}");
        }
        assert_eq!(SealingKey::parse_list(&many(64)).unwrap().len(), 64);
    }
}
