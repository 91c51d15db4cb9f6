//! Who and what is meant? Identifiers given by clients, and the dense numbers used inside a process.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest identifier accepted, in bytes of UTF-8.
pub const MAX_ID_BYTES: usize = 256;

/// Why a string is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The identifier has no characters.
    #[error("an identifier must not be empty")]
    Empty,
    /// The identifier is longer than [`MAX_ID_BYTES`].
    #[error("an identifier must have at most {MAX_ID_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// The identifier holds a control character.
    #[error("an identifier must not hold control characters")]
    Control,
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong(text.len()));
    }
    if text.chars().any(char::is_control) {
        return Err(IdError::Control);
    }
    Ok(())
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $debug:expr) => {
        $(#[$doc])*
        ///
        /// 1 to [`MAX_ID_BYTES`] bytes of UTF-8 without control characters; cheap to clone.
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and wraps `text`.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                let text = text.as_ref();
                check(text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The identifier as the client wrote it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let show: fn(&str, &mut fmt::Formatter<'_>) -> fmt::Result = $debug;
                show(&self.0, f)
            }
        }
    };
}

identifier!(
    /// An item of the catalogue: a video, a film, a product.
    ItemId,
    |text, f| fmt::Debug::fmt(text, f)
);
identifier!(
    /// One viewing session of one person on one device.
    SessionId,
    |text, f| fmt::Debug::fmt(text, f)
);
identifier!(
    /// An event, as its sender names it; sending the same id twice counts once.
    EventId,
    |text, f| fmt::Debug::fmt(text, f)
);
identifier!(
    /// A person, as the client names them. Personal data: it is turned into a [`UserKey`] at the rim and
    /// never stored; its `Debug` form hides it so that it cannot slip into a log line.
    UserId,
    |_, f| f.write_str("UserId(…)")
);

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A person's pseudonym: the first 16 bytes of HMAC-SHA256 over their [`UserId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UserKey(pub [u8; 16]);

/// The dense number that a running process gives an item; never shown to a client, and stored only in derived state,
/// together with the ids in the order of their numbers.
///
/// Numbers are handed out from 0 upwards and not reused while the process runs, so parts may keep
/// arrays indexed by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ItemNo(pub u32);

impl ItemNo {
    /// The number as an array index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked() {
        assert_eq!(ItemId::new("").unwrap_err(), IdError::Empty);
        assert_eq!(ItemId::new("a\nb").unwrap_err(), IdError::Control);
        assert_eq!(ItemId::new("x".repeat(257)).unwrap_err(), IdError::TooLong(257));
        assert_eq!(ItemId::new("Übung 7/β").unwrap().as_str(), "Übung 7/β");
    }

    #[test]
    fn a_user_id_does_not_print_itself() {
        let user = UserId::new("alice@example.org").unwrap();
        assert!(!format!("{user:?}").contains("alice"));
    }

    #[test]
    fn ids_are_checked_when_deserialised() {
        assert!(serde_json::from_str::<SessionId>("\"\"").is_err());
        assert!(serde_json::from_str::<SessionId>("\"s1\"").is_ok());
    }
}
