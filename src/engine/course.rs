//! Is a candidate source late, and what becomes of the answer then?
//!
//! A ranking cannot be broken off. One with frames runs on a thread of its own, and tells its [`Course`] which source it asks.
//! Whoever waits for it hears when that source has had its share of the time ([`Course::overrun`]), gives the ranking up and
//! begins another one. A source in which a ranking hangs is left out by all others until it comes back ([`Stuck`]), so that it
//! costs as many threads as there are turns to rank, and no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};

use crate::telemetry::Stage;

/// The least share of a source that has begun: a thread may have to wait this long for a processor, and beginning anew costs
/// more than that.
pub(super) const LEAST_SHARE: Duration = Duration::from_millis(20);
/// When to look again at a ranking that asks no source at the moment.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

macro_rules! sources {
    ($($variant:ident => $name:literal, $stage:ident;)+) => {
        /// Who proposes candidates.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Source {
            $($variant,)+
        }

        impl Source {
            const ALL: &[Self] = &[$(Self::$variant,)+];

            /// As answers name it.
            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// As metrics name it.
            pub(super) fn stage(self) -> Stage {
                match self {
                    $(Self::$variant => Stage::$stage,)+
                }
            }
        }
    };
}

sources! {
    Session => "session", SourceSession;
    Transition => "transition", SourceTransition;
    CoVisitation => "co_visitation", SourceCoVisitation;
    Preference => "preference", SourcePreference;
    Visual => "visual", SourceVisual;
    Trajectory => "trajectory", SourceTrajectory;
    Metadata => "metadata", SourceMetadata;
    Trending => "trending", SourceTrending;
    Fresh => "fresh", SourceFresh;
}

/// Hears which source is asked next, on the thread that asks it.
type Listener = Box<dyn Fn(&'static str) + Send + Sync>;

/// The sources in which rankings hang that were given up.
#[derive(Default)]
pub(super) struct Stuck {
    rankings: [AtomicUsize; Source::ALL.len()],
    listener: std::sync::OnceLock<Listener>,
}

impl Stuck {
    /// From now on `listener` hears of every source before it is asked, and may hold it up.
    pub(super) fn listen(&self, listener: Listener) {
        // The first one stays.
        let _ = self.listener.set(listener);
    }

    fn has(&self, source: Source) -> bool {
        self.rankings[source as usize].load(Ordering::Relaxed) > 0
    }
}

impl std::fmt::Debug for Stuck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stuck").field("rankings", &self.rankings).finish_non_exhaustive()
    }
}

/// Where one ranking is.
#[derive(Debug)]
pub(super) struct Course {
    stuck: Arc<Stuck>,
    began: Instant,
    deadline: Instant,
    /// [`IDLE`], or the source that is asked and by when it has had its share.
    at: AtomicU64,
    /// Nobody waits for this ranking any more.
    over: AtomicBool,
}

/// No source is asked.
const IDLE: u64 = 0;
/// The ranking was given up while it asked this source.
const GIVEN_UP: u64 = 1 << 63;
/// Bits for the number of the source, from 1; above them stand microseconds since the beginning.
const SOURCE_BITS: u32 = 8;

impl Course {
    /// Of a ranking whose sources have until `deadline`.
    pub(super) fn new(stuck: &Arc<Stuck>, deadline: Instant) -> Arc<Self> {
        let (at, over) = (AtomicU64::new(IDLE), AtomicBool::new(false));
        Arc::new(Self { stuck: Arc::clone(stuck), began: Instant::now(), deadline, at, over })
    }

    /// Whether `source` may be asked now: in time, and nobody hangs in it. It gets half of the time that is left.
    pub(super) fn enter(&self, source: Source) -> bool {
        let now = Instant::now();
        if self.is_over() || now > self.deadline || self.stuck.has(source) {
            return false;
        }
        let due = now.saturating_duration_since(self.began) + share_of(self.deadline.saturating_duration_since(now));
        let due_us = u64::try_from(due.as_micros()).unwrap_or(u64::MAX) & (u64::MAX >> (SOURCE_BITS + 1));
        self.at.store(due_us << SOURCE_BITS | (source as u64 + 1), Ordering::Release);
        if let Some(listener) = self.stuck.listener.get() {
            listener(source.name());
        }
        true
    }

    /// The source has answered. `false` if nobody waits for the ranking any more.
    pub(super) fn leave(&self, source: Source) -> bool {
        if self.at.swap(IDLE, Ordering::AcqRel) & GIVEN_UP != 0 {
            self.over.store(true, Ordering::Relaxed);
            self.stuck.rankings[source as usize].fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(source = source.name(), "a source that hung has come back");
        }
        !self.is_over()
    }

    /// Whether nobody waits for the ranking any more.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Ends when a source has had more than its share; the ranking is given up then.
    pub(super) async fn overrun(&self) -> Source {
        // Before this no source can have had its share.
        sleep_until((self.began + share_of(self.deadline.saturating_duration_since(self.began))).into()).await;
        loop {
            let at = self.at.load(Ordering::Acquire);
            let source = (at & ((1 << SOURCE_BITS) - 1)).checked_sub(1);
            let Some(&source) = source.and_then(|n| Source::ALL.get(usize::try_from(n).ok()?)) else {
                sleep(LOOK_AGAIN).await;
                continue;
            };
            let due = self.began + Duration::from_micros(at >> SOURCE_BITS);
            if Instant::now() < due {
                sleep_until(due.into()).await;
                continue;
            }
            // First, so that it is never taken back before it is there.
            self.stuck.rankings[source as usize].fetch_add(1, Ordering::Relaxed);
            if self.at.compare_exchange(at, at | GIVEN_UP, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return source;
            }
            self.stuck.rankings[source as usize].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What a source may take of the time that is left.
fn share_of(left: Duration) -> Duration {
    (left / 2).max(LEAST_SHARE)
}

/// Whoever waits for a ranking; with it goes the reason to go on.
#[derive(Debug)]
pub(super) struct Waiting(pub(super) Arc<Course>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(stuck: &Arc<Stuck>, left: Duration) -> Arc<Course> {
        Course::new(stuck, Instant::now() + left)
    }

    #[tokio::test]
    async fn a_source_that_hangs_is_left_out_until_it_comes_back() {
        let stuck = Arc::new(Stuck::default());
        let hung = course(&stuck, Duration::ZERO);
        // Entered in time; the shortest share passes.
        hung.at.store(Source::Visual as u64 + 1, Ordering::Release);
        assert_eq!(hung.overrun().await, Source::Visual);
        let next = course(&stuck, Duration::from_secs(60));
        assert!(!next.enter(Source::Visual), "somebody hangs in it");
        assert!(next.enter(Source::Trending) && next.leave(Source::Trending));
        assert!(!hung.leave(Source::Visual), "nobody waits for this ranking");
        assert!(!hung.enter(Source::Trending));
        assert!(next.enter(Source::Visual), "it has come back");
    }

    #[tokio::test]
    async fn a_source_that_is_done_is_not_given_up() {
        let stuck = Arc::new(Stuck::default());
        let course = course(&stuck, Duration::from_millis(1));
        assert!(course.enter(Source::Fresh) && course.leave(Source::Fresh));
        let outcome = tokio::time::timeout(3 * LEAST_SHARE, course.overrun()).await;
        assert!(outcome.is_err(), "{outcome:?}");
        assert!(!stuck.has(Source::Fresh));
    }

    #[test]
    fn nobody_asks_for_somebody_who_has_gone_or_after_the_deadline() {
        let stuck = Arc::new(Stuck::default());
        let gone = course(&stuck, Duration::from_secs(60));
        drop(Waiting(Arc::clone(&gone)));
        assert!(!gone.enter(Source::Fresh));
        let late = Course::new(&stuck, Instant::now().checked_sub(Duration::from_secs(1)).unwrap());
        assert!(!late.enter(Source::Fresh));
    }
}
