//! Whose trace is a request part of, and is it traced at all? W3C Trace Context.

use rand::Rng as _;

/// Where a span belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) trace_id: u128,
    /// The span that it is part of; 0 for none.
    pub(super) parent_id: u64,
}

impl Origin {
    /// Of what is done within span `span_id`.
    pub(super) fn below(self, span_id: u64) -> Self {
        Self { parent_id: span_id, ..self }
    }
}

/// Which requests are traced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    share: f64,
}

impl Choice {
    pub(super) fn new(share: f64) -> Self {
        Self { share: share.clamp(0.0, 1.0) }
    }

    /// Where a request belongs that came with this `traceparent`; `None` if it is not traced. Callers who trace decide.
    pub(super) fn make(self, trace_parent: Option<&str>) -> Option<Origin> {
        match trace_parent.and_then(parse) {
            Some((origin, sampled)) => sampled.then_some(origin),
            None => {
                let mut random = rand::rng();
                (random.random::<f64>() < self.share).then(|| Origin { trace_id: random.random(), parent_id: 0 })
            }
        }
    }
}

/// A new span's id; never 0.
pub(super) fn span_id() -> u64 {
    rand::rng().random::<u64>().max(1)
}

/// `00-` trace id `-` parent id `-` flags; whether the caller traces.
fn parse(text: &str) -> Option<(Origin, bool)> {
    let mut parts = text.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let plain = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    if !plain(version, 2) || version == "ff" || version == "00" && parts.next().is_some() {
        return None;
    }
    if !plain(trace, 32) || !plain(parent, 16) || !plain(flags, 2) {
        return None;
    }
    let (trace_id, parent_id) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(parent, 16).ok()?);
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    (trace_id != 0 && parent_id != 0).then_some((Origin { trace_id, parent_id }, sampled))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_callers_trace_goes_on() {
        let origin = Choice::new(0.0).make(Some(GOOD)).unwrap();
        assert_eq!(
            origin,
            Origin { trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, parent_id: 0x00f0_67aa_0ba9_02b7 }
        );
        let not_sampled = GOOD.replace("-01", "-00");
        assert_eq!(Choice::new(1.0).make(Some(&not_sampled)), None, "callers who trace decide");
        for bad in [
            "",
            "00",
            &GOOD.to_uppercase(),
            &GOOD.replace("00-4", "ff-4"),
            &format!("{GOOD}-x"),
            &GOOD.replace('4', "0000"),
        ] {
            assert!(Choice::new(1.0).make(Some(bad)).is_some_and(|origin| origin.parent_id == 0), "{bad}");
        }
    }

    #[test]
    fn a_share_of_the_others_is_traced() {
        let traced = |share| (0..2_000).filter(|_| Choice::new(share).make(None).is_some()).count();
        assert_eq!((traced(0.0), traced(1.0)), (0, 2_000));
        assert!((700..1_300).contains(&traced(0.5)));
    }
}
