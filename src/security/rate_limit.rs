//! Is this key asking too often? One token bucket for each key, for a bounded number of keys.
//!
//! When there are too many keys, those that have their full allowance again are forgotten first, which changes
//! nothing for them; then those that were silent longest, which get a fresh allowance when they come back.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter as Bucket};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// How often one may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Requests a second, on average.
    pub per_second: NonZeroU32,
    /// Requests at once.
    pub burst: NonZeroU32,
}

impl RateLimit {
    /// A limit of `per_second`, of which `burst` may come at once (0: as many as in a second); `None` if `per_second` is 0.
    pub fn new(per_second: u32, burst: u32) -> Option<Self> {
        let per_second = NonZeroU32::new(per_second)?;
        Some(Self { per_second, burst: NonZeroU32::new(burst).unwrap_or(per_second) })
    }

    /// From none to the full allowance.
    fn refill(self) -> Duration {
        Duration::from_secs_f64(f64::from(self.burst.get()) / f64::from(self.per_second.get()))
    }
}

/// Ask again after this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many requests; ask again in {:.3} s", .0.as_secs_f64())]
pub struct RetryAfter(pub Duration);

/// The buckets of all keys.
#[derive(Debug)]
pub struct RateLimiter {
    default: Option<RateLimit>,
    max_keys: usize,
    clock: GivenClock,
    buckets: Mutex<HashMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    limit: RateLimit,
    bucket: Arc<Bucket<NotKeyed, InMemoryState, GivenClock, NoOpMiddleware<Nanos>>>,
    last_asked: Instant,
}

impl RateLimiter {
    /// Limits keys without a limit of their own to `default` (`None`: not at all) and keeps at most `max_keys` of them
    /// in mind. `now` is the beginning of its time.
    pub fn new(default: Option<RateLimit>, max_keys: usize, now: Instant) -> Self {
        Self {
            default,
            max_keys: max_keys.max(1),
            clock: GivenClock { origin: now, since_origin_ns: Arc::default() },
            buckets: Mutex::new(HashMap::new()),
        }
    }

    /// Takes one request out of the allowance of `key`, whose own limit (if any) stands in place of the default.
    pub fn check(&self, key: &str, own: Option<RateLimit>, now: Instant) -> Result<(), RetryAfter> {
        let Some(limit) = own.or(self.default) else { return Ok(()) };
        self.clock.advance_to(now);
        let bucket = {
            let mut buckets = self.buckets.lock();
            if !buckets.contains_key(key) && buckets.len() >= self.max_keys {
                make_room(&mut buckets, now);
            }
            let fresh = || Entry { limit, bucket: self.bucket(limit), last_asked: now };
            let entry = buckets.entry(key.to_owned()).or_insert_with(fresh);
            if entry.limit != limit {
                *entry = fresh();
            }
            entry.last_asked = now;
            Arc::clone(&entry.bucket)
        };
        bucket.check().map_err(|not_until| RetryAfter(not_until.wait_time_from(self.clock.now())))
    }

    fn bucket(&self, limit: RateLimit) -> Arc<Bucket<NotKeyed, InMemoryState, GivenClock, NoOpMiddleware<Nanos>>> {
        let quota = Quota::per_second(limit.per_second).allow_burst(limit.burst);
        Arc::new(Bucket::direct_with_clock(quota, self.clock.clone()))
    }
}

/// Forgets every key that has its full allowance again; if these are few, also the longest silent eighth, so that the
/// next new key does not have to look through all of them again.
fn make_room(buckets: &mut HashMap<String, Entry>, now: Instant) {
    let before = buckets.len();
    buckets.retain(|_, entry| now.saturating_duration_since(entry.last_asked) < entry.limit.refill());
    let wanted = before.div_ceil(8);
    let still = wanted.saturating_sub(before - buckets.len());
    if still > 0 {
        let mut times: Vec<Instant> = buckets.values().map(|entry| entry.last_asked).collect();
        let (_, &mut border, _) = times.select_nth_unstable(still - 1);
        // More than one may have asked at the border's instant; no more of them go than need to.
        let mut left = still;
        buckets.retain(|_, entry| {
            let goes = left > 0 && entry.last_asked <= border;
            left -= usize::from(goes);
            !goes
        });
    }
}

/// A clock that stands where the last request put it; it never goes back.
#[derive(Debug, Clone)]
struct GivenClock {
    origin: Instant,
    since_origin_ns: Arc<AtomicU64>,
}

impl GivenClock {
    fn advance_to(&self, now: Instant) {
        let since = now.saturating_duration_since(self.origin).as_nanos();
        self.since_origin_ns.fetch_max(u64::try_from(since).unwrap_or(u64::MAX), Ordering::AcqRel);
    }
}

impl GovernorClock for GivenClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.since_origin_ns.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let start = Instant::now();
        let limiter = RateLimiter::new(RateLimit::new(10, 3), 100, start);
        for _ in 0..3 {
            assert_eq!(limiter.check("a", None, start), Ok(()));
        }
        let RetryAfter(wait) = limiter.check("a", None, start).unwrap_err();
        assert!(wait > 90 * MS && wait <= 100 * MS, "{wait:?}");
        assert!(limiter.check("a", None, start + 99 * MS).is_err());
        assert_eq!(limiter.check("a", None, start + 100 * MS), Ok(()));
        assert!(limiter.check("a", None, start + 101 * MS).is_err());
        assert_eq!(limiter.check("b", None, start + 101 * MS), Ok(()), "another key has its own allowance");
    }

    #[test]
    fn over_a_long_time_the_rate_is_kept() {
        let start = Instant::now();
        let limiter = RateLimiter::new(RateLimit::new(50, 1), 100, start);
        let passed = (0..10_000).filter(|i| limiter.check("a", None, start + *i * MS).is_ok()).count();
        assert!((499..=501).contains(&passed), "{passed}");
    }

    #[test]
    fn a_key_of_its_own_limit_keeps_to_it_and_no_limit_is_none() {
        let start = Instant::now();
        let limiter = RateLimiter::new(None, 100, start);
        for _ in 0..1000 {
            assert_eq!(limiter.check("a", None, start), Ok(()));
        }
        let own = RateLimit::new(1, 0);
        assert_eq!(limiter.check("b", own, start), Ok(()));
        assert!(limiter.check("b", own, start).is_err());
        assert_eq!(limiter.check("b", RateLimit::new(2, 0), start), Ok(()), "a changed limit begins anew");
        assert_eq!(RateLimit::new(0, 5), None);
    }

    #[test]
    fn the_number_of_keys_is_bounded_and_busy_ones_are_kept() {
        let start = Instant::now();
        let limiter = RateLimiter::new(RateLimit::new(1, 1), 64, start);
        assert!(limiter.check("busy", None, start).is_ok());
        for i in 0..10_000_u32 {
            let now = start + Duration::from_micros(u64::from(i));
            limiter.check(&i.to_string(), None, now).ok();
            assert!(limiter.check("busy", None, now).is_err(), "{i}");
            assert!(limiter.buckets.lock().len() <= 64);
        }
        // Two seconds later all have their allowance back, and one new key makes them all go.
        while limiter.buckets.lock().len() < 64 {
            let more = format!("more-{}", limiter.buckets.lock().len());
            limiter.check(&more, None, start + 11 * MS).ok();
        }
        assert!(limiter.check("new", None, start + 2000 * MS).is_ok());
        assert_eq!(limiter.buckets.lock().len(), 1);
    }
}
