//! How much work is taken in at a time, and whose? A limit that follows from what answers take, and shares of it by priority.
//!
//! [`Limit`] is the policy, pure: additive increase, multiplicative decrease (as TCP does, RFC 5681) on how much longer
//! requests take than their route takes when it is quiet. [`Admission`] keeps count. Past its share a request is refused at
//! once; a bulk import waits between its chunks instead.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{Method, header};
use hyper::body::Body as _;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::options::ApiOptions;
use super::problem::ApiError;
use crate::telemetry::{AdmissionClass, Metrics};

/// Requests a window needs to be judged.
const WINDOW_REQUESTS: u32 = 32;
/// Seconds a window lasts at least.
const WINDOW_S: f64 = 0.2;
/// From how many times its quiet time on a request counts as held up.
const TOLERANCE: f64 = 4.0;
/// One request that took very long must not decide alone.
const MOST: f64 = 20.0;
const DECREASE: f64 = 0.85;
/// By how much the quiet time of a route rises with each request that took longer, so that it follows a slower world.
const DRIFT: f64 = 0.002;
/// Routes of which the quiet time is kept; there are fewer.
const MAX_ROUTES: usize = 256;
/// Bytes of one permit of the upload budget.
const UPLOAD_UNIT: usize = 4096;

/// How many requests may be worked on at a time.
#[derive(Debug)]
pub(super) struct Limit {
    least: f64,
    most: f64,
    now: f64,
    /// Seconds that each route takes when it is quiet.
    quiet_s: HashMap<String, f64>,
    began_s: f64,
    requests: u32,
    slowness: f64,
    peak: usize,
}

impl Limit {
    /// Begins at the most, and never goes below the least.
    pub(super) fn new(least: usize, most: usize) -> Self {
        let (least, most) = (least.min(most).max(1) as f64, most.max(1) as f64);
        Self { least, most, now: most, quiet_s: HashMap::new(), began_s: 0.0, requests: 0, slowness: 0.0, peak: 0 }
    }

    /// Requests at a time.
    pub(super) fn get(&self) -> usize {
        self.now as usize
    }

    /// A request of `route` took `took_s`, while `in_flight` were worked on; `now_s` counts from any beginning.
    pub(super) fn finished(&mut self, route: &str, took_s: f64, in_flight: usize, now_s: f64) {
        let took_s = took_s.max(1e-6);
        let known = self.quiet_s.len();
        let quiet_s = match self.quiet_s.get_mut(route) {
            Some(quiet_s) => {
                *quiet_s = if took_s < *quiet_s { 0.5 * (*quiet_s + took_s) } else { *quiet_s * (1.0 + DRIFT) };
                *quiet_s
            }
            None if known < MAX_ROUTES => {
                self.quiet_s.insert(route.to_owned(), took_s);
                took_s
            }
            None => return,
        };
        self.requests += 1;
        self.slowness += (took_s / quiet_s).min(MOST);
        self.peak = self.peak.max(in_flight);
        if self.requests < WINDOW_REQUESTS || now_s - self.began_s < WINDOW_S {
            return;
        }
        let slowness = self.slowness / f64::from(self.requests);
        let peak = self.peak as f64;
        if slowness > TOLERANCE && peak >= self.least {
            // From what was really worked on: a limit that nobody came near says nothing.
            self.now = (self.now.min(peak) * DECREASE).max(self.least);
        } else if peak >= 0.5 * self.now {
            self.now = (self.now + self.now.sqrt()).min(self.most);
        }
        (self.began_s, self.requests, self.slowness, self.peak) = (now_s, 0, 0.0, 0);
    }
}

/// The share of the limit up to which requests of a class are taken in.
fn share(class: AdmissionClass) -> f64 {
    match class {
        AdmissionClass::Live => 1.0,
        AdmissionClass::Interactive => 0.8,
        AdmissionClass::Bulk => 0.5,
    }
}

/// Who is let in. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<Counted>,
    began: Instant,
    freed: Notify,
    uploads: Arc<Semaphore>,
    upload_bytes: usize,
    metrics: Metrics,
}

#[derive(Debug)]
struct Counted {
    limit: Limit,
    in_flight: usize,
}

/// Leave to work; dropping it ends it without saying how long it took.
#[derive(Debug)]
pub(super) struct Turn {
    admission: Admission,
    began: Instant,
}

impl Admission {
    pub(super) fn new(options: &ApiOptions, metrics: &Metrics) -> Self {
        let limit = Limit::new(options.min_in_flight, options.max_in_flight);
        metrics.set_admission_limit(limit.get());
        Self(Arc::new(Inner {
            state: Mutex::new(Counted { limit, in_flight: 0 }),
            began: Instant::now(),
            freed: Notify::new(),
            uploads: Arc::new(Semaphore::new(options.upload_memory_bytes.div_ceil(UPLOAD_UNIT).clamp(1, 1 << 28))),
            upload_bytes: options.limits.upload_bytes.min(options.upload_memory_bytes),
            metrics: metrics.clone(),
        }))
    }

    /// Leave to work now; `None` if the class has its share.
    pub(super) fn enter(&self, class: AdmissionClass) -> Option<Turn> {
        let mut state = self.0.state.lock();
        let room = (state.limit.get() as f64 * share(class)).ceil() as usize;
        if state.in_flight >= room {
            return None;
        }
        state.in_flight += 1;
        Some(Turn { admission: self.clone(), began: Instant::now() })
    }

    /// Waits until there is room for a piece of bulk work. It does not take a place: what it does is bounded elsewhere.
    pub(super) async fn bulk_may_go_on(&self) {
        loop {
            let freed = self.0.freed.notified();
            if self.enter(AdmissionClass::Bulk).is_some() {
                return;
            }
            // Looks again now and then: the limit may have grown.
            let _ = tokio::time::timeout(Duration::from_millis(100), freed).await;
        }
    }
}

impl Turn {
    /// The work is done; how long it took counts.
    pub(super) fn done(&self, route: &str) {
        let inner = &self.admission.0;
        let mut state = inner.state.lock();
        let (in_flight, now_s) = (state.in_flight, inner.began.elapsed().as_secs_f64());
        state.limit.finished(route, self.began.elapsed().as_secs_f64(), in_flight, now_s);
        inner.metrics.set_admission_limit(state.limit.get());
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.admission.0.state.lock().in_flight -= 1;
        self.admission.0.freed.notify_one();
    }
}

/// Of which class a request is; `None` if it is always let in: an orchestrator that asks whether the process lives must not
/// be told that it is busy, or it restarts it, and what goes on for long is bounded by the number of its connections.
fn class_of(method: &Method, path: &str) -> Option<AdmissionClass> {
    match path {
        "/livez" | "/readyz" | "/metrics" | "/v1/items/batch" => return None,
        "/v1/recommendations" => return Some(AdmissionClass::Live),
        _ => {}
    }
    if path.starts_with("/v1/sessions/") {
        return Some(AdmissionClass::Live);
    }
    let reads = method == Method::GET || method == Method::HEAD;
    Some(if path.starts_with("/v1/items") && !reads || path.starts_with("/v1/admin") {
        AdmissionClass::Bulk
    } else {
        AdmissionClass::Interactive
    })
}

/// Lets requests in, or refuses them at once.
pub(super) async fn admit(State(admission): State<Admission>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let turn = match class_of(request.method(), path) {
        None => None,
        Some(class) => match admission.enter(class) {
            Some(turn) => Some(turn),
            None => {
                admission.0.metrics.count_overloaded();
                admission.0.metrics.count_admission_refused(class);
                return ApiError::Overloaded { retry_after: Duration::from_secs(1) }.into_response();
            }
        },
    };
    let held = match admission.0.reserve_upload(&request) {
        Ok(held) => held,
        Err(error) => {
            admission.0.metrics.count_overloaded();
            return error.into_response();
        }
    };
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    drop(held);
    // A refusal is quick, and says nothing about how long work takes.
    if let (Some(turn), Some(route), true) = (&turn, &route, response.status().is_success()) {
        turn.done(route.as_str());
    }
    response
}

impl Inner {
    /// Takes what the body may hold in memory out of the budget, until the answer is there.
    fn reserve_upload(&self, request: &Request) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        let headers = request.headers();
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        let bytes = match announced {
            Some(bytes) => bytes.min(self.upload_bytes),
            // It does not say how long it will be; what it may hold at most is what it may take.
            None if request.body().is_end_stream() => 0,
            None => self.upload_bytes,
        };
        if bytes == 0 {
            return Ok(None);
        }
        let permits = u32::try_from(bytes.div_ceil(UPLOAD_UNIT)).unwrap_or(u32::MAX);
        let taken = Arc::clone(&self.uploads).try_acquire_many_owned(permits);
        taken.map(Some).map_err(|_| ApiError::Overloaded { retry_after: Duration::from_secs(1) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` requests of 10 ms each times `slowness`, with so many at a time.
    fn drive(limit: &mut Limit, count: usize, slowness: f64, in_flight: usize, now_s: &mut f64) {
        for _ in 0..count {
            *now_s += 0.01;
            limit.finished("/r", 0.01 * slowness, in_flight, *now_s);
        }
    }

    #[test]
    fn the_limit_falls_when_work_is_held_up_and_rises_again() {
        let (mut limit, mut now_s) = (Limit::new(8, 512), 0.0);
        drive(&mut limit, 100, 1.0, 4, &mut now_s);
        assert_eq!(limit.get(), 512, "all is well");
        drive(&mut limit, 64, 8.0, 200, &mut now_s);
        let after = limit.get();
        assert!(after < 200, "{after}: from what was really worked on");
        drive(&mut limit, 2_000, 8.0, after, &mut now_s);
        assert!(limit.get() >= 8, "never below the least");
        let low = limit.get();
        drive(&mut limit, 64, 1.0, low, &mut now_s);
        assert!(limit.get() > low);
        for _ in 0..200 {
            let at = limit.get();
            drive(&mut limit, 32, 1.0, at, &mut now_s);
        }
        assert_eq!(limit.get(), 512);
    }

    #[test]
    fn a_limit_that_nobody_comes_near_stays() {
        let (mut limit, mut now_s) = (Limit::new(8, 512), 0.0);
        drive(&mut limit, 100, 1.0, 2, &mut now_s);
        // Slow, but not because of the number of requests.
        drive(&mut limit, 1_000, 10.0, 3, &mut now_s);
        assert_eq!(limit.get(), 512);
        assert!(Limit::new(600, 512).get() == 512 && Limit::new(0, 0).get() == 1);
    }

    #[test]
    fn routes_have_their_own_quiet_time() {
        let (mut limit, mut now_s) = (Limit::new(8, 512), 0.0);
        for _ in 0..500 {
            now_s += 0.01;
            limit.finished("/quick", 0.001, 100, now_s);
            limit.finished("/slow", 0.5, 100, now_s);
        }
        assert_eq!(limit.get(), 512, "a slow route is not a slow world");
    }

    #[test]
    fn the_important_have_the_larger_share() {
        let options = ApiOptions { max_in_flight: 10, min_in_flight: 10, ..ApiOptions::default() };
        let admission = Admission::new(&options, &Metrics::new().unwrap());
        let take = |class| std::iter::from_fn(|| admission.enter(class)).collect::<Vec<Turn>>();
        let bulk = take(AdmissionClass::Bulk);
        let interactive = take(AdmissionClass::Interactive);
        let live = take(AdmissionClass::Live);
        assert_eq!((bulk.len(), interactive.len(), live.len()), (5, 3, 2));
        drop(live);
        assert!(admission.enter(AdmissionClass::Interactive).is_none());
        drop((bulk, interactive));
        assert_eq!(take(AdmissionClass::Live).len(), 10);
    }

    #[tokio::test]
    async fn an_import_waits_for_its_share() {
        let options = ApiOptions { max_in_flight: 2, min_in_flight: 2, ..ApiOptions::default() };
        let admission = Admission::new(&options, &Metrics::new().unwrap());
        admission.bulk_may_go_on().await;
        let turn = admission.enter(AdmissionClass::Live).unwrap();
        let waiting = tokio::spawn({
            let admission = admission.clone();
            async move { admission.bulk_may_go_on().await }
        });
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished());
        drop(turn);
        waiting.await.unwrap();
    }

    #[test]
    fn requests_have_a_class() {
        use AdmissionClass::{Bulk, Interactive, Live};
        for (method, path, class) in [
            (Method::GET, "/livez", None),
            (Method::POST, "/v1/items/batch", None),
            (Method::POST, "/v1/sessions/s/frames", Some(Live)),
            (Method::GET, "/v1/recommendations", Some(Live)),
            (Method::PUT, "/v1/items/i", Some(Bulk)),
            (Method::GET, "/v1/items/i", Some(Interactive)),
            (Method::POST, "/v1/search", Some(Interactive)),
            (Method::POST, "/v1/events", Some(Interactive)),
        ] {
            assert_eq!(class_of(&method, path), class, "{method} {path}");
        }
    }
}
