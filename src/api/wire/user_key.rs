//! How is a person's pseudonym written? As 32 hexadecimal digits.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

use crate::domain::UserKey;

/// A person's pseudonym: 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, pattern = "^[0-9a-f]{32}$", examples("5bdcc146bf60754e6a042426089575c7"))]
pub(in crate::api) struct Pseudonym(pub(in crate::api) UserKey);

impl Serialize for Pseudonym {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits: String = self.0.0.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&digits)
    }
}

impl<'de> Deserialize<'de> for Pseudonym {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).map(Self).ok_or_else(|| de::Error::custom("must be 32 hexadecimal digits"))
    }
}

fn parse(text: &str) -> Option<UserKey> {
    // A sign is a digit to `from_str_radix`, but not here.
    let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    digits.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(|number| UserKey(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_back_as_they_were() {
        let text = "00dcc146bf60754e6a042426089575c7";
        let read: Pseudonym = serde_json::from_value(text.into()).unwrap();
        assert_eq!((read.0.0[0], read.0.0[15]), (0, 0xc7));
        assert_eq!(serde_json::to_value(read).unwrap(), text);
        assert_eq!(serde_json::from_value::<Pseudonym>(text.to_uppercase().into()).unwrap(), read);
        for bad in ["", "alice", &text[1..], &format!("{text}0"), &format!("+{}", &text[1..])] {
            assert!(serde_json::from_value::<Pseudonym>((*bad).into()).is_err(), "{bad}");
        }
    }
}
