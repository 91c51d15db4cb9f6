//! With what is sealed what lies on the disk? Keys for AES-256-GCM, each with a number that records name.

use std::fmt;

/// A key under which records are sealed. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingKey {
    id: u32,
    bytes: [u8; Self::BYTES],
}

impl SealingKey {
    /// The length of a key.
    pub const BYTES: usize = 32;

    /// The key with the number `id`, which is unique among the keys of a data folder for ever.
    pub fn new(id: u32, bytes: [u8; Self::BYTES]) -> Self {
        Self { id, bytes }
    }

    /// The number that records name.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The secret itself.
    pub fn bytes(&self) -> &[u8; Self::BYTES] {
        &self.bytes
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
}
