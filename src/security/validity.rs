//! Until when is a certificate good? Reads that one date of an X.509 certificate (RFC 5280) and nothing else.

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

use crate::domain::Timestamp;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version, which may be left out.
const CONTEXT_0: u8 = 0xA0;

/// When a certificate (DER) ends; `None` if that cannot be read.
pub(super) fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (SEQUENCE, outer, _) = element(certificate)? else { return None };
    let (SEQUENCE, mut fields, _) = element(outer)? else { return None };
    if let (CONTEXT_0, _, rest) = element(fields)? {
        fields = rest;
    }
    // Serial number, signature algorithm, issuer.
    for expected in [INTEGER, SEQUENCE, SEQUENCE] {
        let (tag, _, rest) = element(fields)?;
        if tag != expected {
            return None;
        }
        fields = rest;
    }
    let (SEQUENCE, validity, _) = element(fields)? else { return None };
    let (_, _, after) = element(validity)?;
    let (tag, text, _) = element(after)?;
    instant(tag, text)
}

/// Tag, contents and what follows of the element that `bytes` begin with.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (length, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
        if length.len() > 4 {
            return None;
        }
        (length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)), rest)
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

/// `YYMMDDHHMMSSZ`, or the same with four digits for the year.
fn instant(tag: u8, text: &[u8]) -> Option<Timestamp> {
    let digits = text.strip_suffix(b"Z")?;
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<u16>().ok();
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = digits.split_at_checked(2)?;
            let year = number(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = digits.split_at_checked(4)?;
            (number(year)?, rest)
        }
        _ => return None,
    };
    let mut parts = rest.chunks_exact(2).map(|pair| number(pair).and_then(|n| u8::try_from(n).ok()));
    let mut part = || parts.next().flatten();
    let date = Date::from_calendar_date(i32::from(year), Month::try_from(part()?).ok()?, part()?).ok()?;
    let time = Time::from_hms(part()?, part()?, part()?).ok()?;
    let instant: OffsetDateTime = PrimitiveDateTime::new(date, time).assume_utc();
    Some(Timestamp(instant.unix_timestamp().saturating_mul(1_000)))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_end_of_certificates_is_read() {
        for (year, seconds) in [(2030, 1_893_456_000), (1999, 915_148_800), (2060, 2_840_140_800)] {
            let mut params = CertificateParams::new(["a".to_owned()]).unwrap();
            params.not_before = date_time_ymd(1990, 1, 1);
            params.not_after = date_time_ymd(year, 1, 1);
            let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            assert_eq!(not_after(made.der()), Some(Timestamp(seconds * 1_000)), "{year}");
            for length in 0..60 {
                // Cut off anywhere, it is not read beyond its end.
                assert_eq!(not_after(&made.der()[..length]), None);
            }
        }
        assert_eq!(not_after(b"no certificate"), None);
    }
}
