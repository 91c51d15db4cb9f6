//! How are instants written? RFC 3339, in UTC, with milliseconds.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339 as Format;
use utoipa::ToSchema;

use crate::domain::Timestamp;

/// An instant as RFC 3339, for example `2026-01-31T18:30:00.250Z`. Any offset is read, UTC is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, examples("2026-01-31T18:30:00.250Z"))]
pub(in crate::api) struct Rfc3339(pub(in crate::api) Timestamp);

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0.0) * 1_000_000)
            .ok()
            .and_then(|instant| instant.format(&Format).ok())
            // Out of the calendar's range, which no clock and no client's RFC 3339 text can produce.
            .unwrap_or_else(|| "9999-12-31T23:59:59.999Z".to_owned())
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Rfc3339 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let instant = OffsetDateTime::parse(&text, &Format)
            .map_err(|_| de::Error::custom("must be a time as RFC 3339 has it, like 2026-01-31T18:30:00Z"))?;
        let ms = instant.unix_timestamp_nanos().div_euclid(1_000_000);
        Ok(Self(Timestamp(i64::try_from(ms).map_err(de::Error::custom)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_with_any_offset_and_written_in_utc() {
        let read = |text: &str| serde_json::from_value::<Rfc3339>(text.into());
        let instant = read("2026-01-31T19:30:00.25+01:00").unwrap();
        assert_eq!(serde_json::to_value(instant).unwrap(), "2026-01-31T18:30:00.25Z");
        assert_eq!(read("1970-01-01T00:00:01Z").unwrap().0, Timestamp(1000));
        assert_eq!(read("1969-12-31T23:59:59.9995Z").unwrap().0, Timestamp(-1));
        for bad in ["", "2026-01-31", "2026-01-31 18:30", "1769884200", "2026-02-30T00:00:00Z"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(serde_json::from_value::<Rfc3339>(1_769_884_200.into()).is_err());
        assert!(serde_json::to_value(Rfc3339(Timestamp(i64::MAX))).is_ok());
    }
}
