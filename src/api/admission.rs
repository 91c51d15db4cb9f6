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
use futures_util::StreamExt as _;
use http::{Method, header};
use hyper::body::Body as _;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::options::ApiOptions;
use super::problem::ApiError;
use crate::telemetry::{AdmissionClass, Metrics};

/// Seconds a window lasts at least.
const WINDOW_S: f64 = 0.2;
/// One request that took very long must not decide alone.
const MOST: f64 = 20.0;
/// How the limit for all answers to what all take.
const ALL: Temper = Temper { requests: 32, tolerance: 4.0, decrease: 0.85, on_demand: true };
/// How the limit for those who are not live answers to what live sessions' frames take that go through the model: soon, and before a
/// viewer would notice.
const BESIDE_LIVE: Temper = Temper { requests: 8, tolerance: 1.4, decrease: 0.4, on_demand: false };
/// Seconds after a live session's frame for which others keep to their limit.
const LIVE_LATELY_S: f64 = 2.0;
/// By how much the quiet time of a route rises with each request that took longer, so that it follows a slower world.
const DRIFT: f64 = 0.002;
/// Routes of which the quiet time is kept; there are fewer.
const MAX_ROUTES: usize = 256;
/// Bytes of a refused request's body that are read to their end, so that its connection can go on, and for how long.
const DRAINED_BYTES: u64 = 256 << 10;
const DRAINED_WITHIN: Duration = Duration::from_millis(500);
/// Bytes of one permit of the upload budget.
const UPLOAD_UNIT: usize = 4096;

/// How a limit answers to slowness.
#[derive(Debug, Clone, Copy)]
struct Temper {
    /// Requests that a window needs to be judged.
    requests: u32,
    /// From how many times their quiet time on requests count as held up.
    tolerance: f64,
    /// What is left of the limit then.
    decrease: f64,
    /// Whether it rises only when it is nearly used up.
    on_demand: bool,
}

/// How many requests may be worked on at a time.
#[derive(Debug)]
pub(super) struct Limit {
    temper: Temper,
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
    fn new(temper: Temper, least: usize, most: usize) -> Self {
        let (least, most) = (least.min(most).max(1) as f64, most.max(1) as f64);
        Self {
            temper,
            least,
            most,
            now: most,
            quiet_s: HashMap::new(),
            began_s: 0.0,
            requests: 0,
            slowness: 0.0,
            peak: 0,
        }
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
        if self.requests < self.temper.requests || now_s - self.began_s < WINDOW_S {
            return;
        }
        let slowness = self.slowness / f64::from(self.requests);
        let peak = self.peak as f64;
        if slowness > self.temper.tolerance && peak >= self.least {
            // From what was really worked on: a limit that nobody came near says nothing.
            self.now = (self.now.min(peak) * self.temper.decrease).max(self.least);
        } else if peak >= 0.5 * self.now || !(self.temper.on_demand || slowness > self.temper.tolerance) {
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
    /// For those who are not live, while there are live sessions.
    beside: Limit,
    others: usize,
    /// Pieces of imports that are being worked on.
    pieces: usize,
    /// When a live session's frame last went through the model, in seconds from the beginning.
    live_s: Option<f64>,
}

/// Leave to work; dropping it ends it without saying how long it took.
#[derive(Debug)]
pub(super) struct Turn {
    admission: Admission,
    class: AdmissionClass,
    began: Instant,
}

impl Admission {
    pub(super) fn new(options: &ApiOptions, metrics: &Metrics) -> Self {
        let limit = Limit::new(ALL, options.min_in_flight, options.max_in_flight);
        let beside = Limit::new(BESIDE_LIVE, 1, options.max_in_flight);
        metrics.set_admission_limit(limit.get());
        metrics.set_admission_beside_live_limit(beside.get());
        Self(Arc::new(Inner {
            state: Mutex::new(Counted { limit, in_flight: 0, beside, others: 0, pieces: 0, live_s: None }),
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
        // Viewers are not turned away because of others.
        let used = if class == AdmissionClass::Live { state.in_flight - state.others } else { state.in_flight };
        if used >= room {
            return None;
        }
        if class != AdmissionClass::Live {
            if state.others >= self.beside_live(&state) {
                return None;
            }
            state.others += 1;
        }
        state.in_flight += 1;
        Some(Turn { admission: self.clone(), class, began: Instant::now() })
    }

    /// How many that are not live may be worked on, for the sake of those that are.
    fn beside_live(&self, state: &Counted) -> usize {
        let now_s = self.0.began.elapsed().as_secs_f64();
        let live_lately = state.live_s.is_some_and(|live_s| now_s - live_s < LIVE_LATELY_S);
        if live_lately { state.beside.get() } else { usize::MAX }
    }

    /// Waits until there is room for a piece of an import, which ends when what is returned is dropped. It takes no place of
    /// others: an import may take long. Where live sessions are held up it waits, and others go on one by one.
    pub(super) async fn bulk_may_go_on(&self) -> Piece {
        loop {
            let freed = self.0.freed.notified();
            if let Some(piece) = self.begin_piece() {
                return piece;
            }
            // Looks again now and then: the limit may have grown.
            let _ = tokio::time::timeout(Duration::from_millis(100), freed).await;
        }
    }
}

/// Leave to work on a piece of an import.
#[derive(Debug)]
pub(super) struct Piece(Admission);

impl Admission {
    fn begin_piece(&self) -> Option<Piece> {
        let mut state = self.0.state.lock();
        let room = (state.limit.get() as f64 * share(AdmissionClass::Bulk)).ceil() as usize;
        if state.in_flight >= room || state.pieces >= self.beside_live(&state) / 2 {
            return None;
        }
        state.pieces += 1;
        Some(Piece(self.clone()))
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.0.0.state.lock().pieces -= 1;
        self.0.0.freed.notify_one();
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

    /// The same for a frame of a live session that the model has looked at: others make room if that took long.
    pub(super) fn done_live(&self, route: &str) {
        self.done(route);
        let inner = &self.admission.0;
        let mut state = inner.state.lock();
        let (others, now_s) = (state.others + state.pieces, inner.began.elapsed().as_secs_f64());
        state.live_s = Some(now_s);
        state.beside.finished(route, self.began.elapsed().as_secs_f64(), others, now_s);
        inner.metrics.set_admission_beside_live_limit(state.beside.get());
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.admission.0.state.lock();
        state.in_flight -= 1;
        if self.class != AdmissionClass::Live {
            state.others -= 1;
        }
        drop(state);
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

/// A refusal, once what is on its way of a small body has come: a connection that is closed on a client that is still sending may take the
/// answer with it.
async fn refused(admission: &Admission, request: Request) -> Response {
    admission.0.metrics.count_overloaded();
    if request.body().size_hint().upper().is_some_and(|bytes| bytes <= DRAINED_BYTES) {
        let mut body = request.into_body().into_data_stream();
        let drained = async { while let Some(Ok(_)) = body.next().await {} };
        // Nobody waits for one that trickles.
        let _ = tokio::time::timeout(DRAINED_WITHIN, drained).await;
    }
    ApiError::Overloaded { retry_after: Duration::from_secs(1) }.into_response()
}

/// Lets requests in, or refuses them at once.
pub(super) async fn admit(State(admission): State<Admission>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let turn = match class_of(request.method(), path) {
        None => None,
        Some(class) => match admission.enter(class) {
            Some(turn) => Some(turn),
            None => {
                admission.0.metrics.count_admission_refused(class);
                return refused(&admission, request).await;
            }
        },
    };
    let held = match admission.0.reserve_upload(&request) {
        Ok(held) => held,
        Err(NoRoom) => return refused(&admission, request).await,
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

/// The bodies of other requests take all the memory that there is for them.
struct NoRoom;

impl Inner {
    /// Takes what the body may hold in memory out of the budget, until the answer is there.
    fn reserve_upload(&self, request: &Request) -> Result<Option<OwnedSemaphorePermit>, NoRoom> {
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
        taken.map(Some).map_err(|_| NoRoom)
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
        let (mut limit, mut now_s) = (Limit::new(ALL, 8, 512), 0.0);
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
        let (mut limit, mut now_s) = (Limit::new(ALL, 8, 512), 0.0);
        drive(&mut limit, 100, 1.0, 2, &mut now_s);
        // Slow, but not because of the number of requests.
        drive(&mut limit, 1_000, 10.0, 3, &mut now_s);
        assert_eq!(limit.get(), 512);
        assert!(Limit::new(ALL, 600, 512).get() == 512 && Limit::new(ALL, 0, 0).get() == 1);
    }

    #[test]
    fn routes_have_their_own_quiet_time() {
        let (mut limit, mut now_s) = (Limit::new(ALL, 8, 512), 0.0);
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
        assert_eq!(
            (bulk.len(), interactive.len(), live.len()),
            (5, 3, 10),
            "viewers are not turned away because of others"
        );
        drop(live);
        assert!(admission.enter(AdmissionClass::Interactive).is_none());
        drop((bulk, interactive));
        assert_eq!(take(AdmissionClass::Live).len(), 10);
    }

    #[test]
    fn others_make_room_for_live_sessions() {
        let admission = Admission::new(&ApiOptions::default(), &Metrics::new().unwrap());
        let others = |most: usize| -> Vec<Turn> {
            (0..most).map_while(|_| admission.enter(AdmissionClass::Interactive)).collect()
        };
        // A live session's frames that take so many times as long as when it is quiet.
        let frames = |slowness: f64| {
            for _ in 0..8 {
                let mut turn = admission.enter(AdmissionClass::Live).unwrap();
                turn.began = Instant::now().checked_sub(Duration::from_secs_f64(5.0 * slowness)).unwrap();
                let mut state = admission.0.state.lock();
                state.beside.began_s = -1.0;
                drop(state);
                turn.done_live("live");
            }
        };
        assert_eq!(others(100).len(), 100, "nobody is live");
        let held = others(100);
        frames(1.0);
        assert_eq!(others(100).len(), 100, "nobody suffers");
        frames(3.0);
        let fewer = admission.0.state.lock().beside.get();
        assert!(fewer <= 40, "{fewer}");
        assert!(others(1).is_empty(), "as long as there are more than that");
        assert!(admission.enter(AdmissionClass::Live).is_some());
        drop(held);
        assert_eq!(others(100).len(), fewer);
        for _ in 0..10 {
            let _few = others(fewer);
            frames(3.0);
        }
        assert_eq!(others(100).len(), 1, "never none");
        for _ in 0..200 {
            let _more = others(100);
            frames(1.0);
        }
        assert_eq!(others(100).len(), 100);
    }

    #[tokio::test]
    async fn an_import_waits_for_its_share() {
        let options = ApiOptions { max_in_flight: 2, min_in_flight: 2, ..ApiOptions::default() };
        let admission = Admission::new(&options, &Metrics::new().unwrap());
        drop(admission.bulk_may_go_on().await);
        let turn = admission.enter(AdmissionClass::Live).unwrap();
        let waiting = tokio::spawn({
            let admission = admission.clone();
            async move { drop(admission.bulk_may_go_on().await) }
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
