//! When does a row say it was? RFC 3339, or a number since 1970 in seconds or milliseconds.
//!
//! The rule for numbers: from 100,000,000,000 on (in either direction) they are milliseconds, below that seconds, with
//! or without fractions. As seconds that number is the year 5138, as milliseconds it is March 1973.

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::domain::Timestamp;

const FIRST_MILLISECONDS: f64 = 1e11;

/// The instant that a cell or a JSON value names.
pub(super) fn read(value: &Value) -> Result<Timestamp, String> {
    match value {
        Value::Number(number) => number.as_f64().ok_or_else(|| refusal(&number.to_string())).and_then(of_number),
        Value::String(text) => read_text(text),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(refusal(&value.to_string())),
    }
}

/// The instant that a text names.
pub(in crate::cli) fn read_text(text: &str) -> Result<Timestamp, String> {
    if let Ok(number) = text.parse::<f64>() {
        return of_number(number);
    }
    let instant = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| refusal(text))?;
    let ms = instant.unix_timestamp_nanos().div_euclid(1_000_000);
    i64::try_from(ms).map(Timestamp).map_err(|_| refusal(text))
}

/// The instant as the API reads it.
pub(super) fn write(at: Timestamp) -> Result<String, String> {
    let instant = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000);
    instant.ok().and_then(|i| i.format(&Rfc3339).ok()).ok_or_else(|| format!("{} is not in the calendar", at.0))
}

fn of_number(number: f64) -> Result<Timestamp, String> {
    if !number.is_finite() {
        return Err(refusal(&number.to_string()));
    }
    let ms = if number.abs() >= FIRST_MILLISECONDS { number } else { number * 1000.0 };
    Ok(Timestamp(ms.round() as i64))
}

fn refusal(text: &str) -> String {
    let shown: String = text.chars().take(40).collect();
    format!("`{shown}` is no time; RFC 3339 and seconds or milliseconds since 1970 are")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_ways_to_say_the_same() {
        for text in ["1396860669.277", "1396860669277", "2014-04-07T08:51:09.277Z", "2014-04-07T10:51:09.277+02:00"] {
            assert_eq!(read_text(text), Ok(Timestamp(1_396_860_669_277)), "{text}");
        }
        assert_eq!(read(&serde_json::json!(830_247_106)), Ok(Timestamp(830_247_106_000)));
        assert_eq!(write(Timestamp(1_396_860_669_277)).unwrap(), "2014-04-07T08:51:09.277Z");
    }

    #[test]
    fn the_border_between_seconds_and_milliseconds() {
        assert_eq!(read_text("99999999999"), Ok(Timestamp(99_999_999_999_000)));
        assert_eq!(read_text("100000000000"), Ok(Timestamp(100_000_000_000)));
        assert_eq!(read_text("-5"), Ok(Timestamp(-5_000)));
        assert_eq!(read_text("-100000000000"), Ok(Timestamp(-100_000_000_000)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "yesterday", "2014-04-07", "inf", "NaN"] {
            assert!(read_text(text).is_err(), "{text}");
        }
        assert!(read(&Value::Null).is_err());
        assert!(write(Timestamp(i64::MAX)).is_err());
    }
}
