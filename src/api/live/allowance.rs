//! Does a client send too much? The messages that it may still send.

use tokio::time::Instant;

/// How many messages a client may still send: a token bucket that holds two seconds' worth.
#[derive(Debug)]
pub(super) struct Allowance {
    per_s: f64,
    left: f64,
    at: Instant,
}

impl Allowance {
    pub(super) fn new(per_s: u32, now: Instant) -> Self {
        let per_s = f64::from(per_s.max(1));
        Self { per_s, left: 2.0 * per_s, at: now }
    }

    pub(super) fn take(&mut self, now: Instant) -> bool {
        let more = now.saturating_duration_since(self.at).as_secs_f64() * self.per_s;
        self.left = (self.left + more).min(2.0 * self.per_s);
        self.at = now;
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn messages_beyond_the_rate_are_noticed() {
        let start = Instant::now();
        let mut allowance = Allowance::new(10, start);
        assert_eq!((0..25).filter(|_| allowance.take(start)).count(), 20);
        let later = start + Duration::from_millis(500);
        assert_eq!((0..25).filter(|_| allowance.take(later)).count(), 5);
        let much_later = start + Duration::from_secs(60);
        assert_eq!((0..25).filter(|_| allowance.take(much_later)).count(), 20, "it does not grow for ever");
    }
}
