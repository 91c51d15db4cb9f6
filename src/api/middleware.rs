//! What happens to every request, whatever its route? Ids, spans, metrics, limits and headers.
//!
//! From the outside in: request id and problem bodies, secrets marked, span, metrics, panics caught, security
//! headers, CORS, compression, admission (`api/admission.rs`). Timeouts and keys belong to routes.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use http::{HeaderName, HeaderValue, Method, header};
use parking_lot::Mutex;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};
use tower_http::compression::{CompressionLayer, CompressionLevel};
use tower_http::cors::{AllowOrigin, Any as AnyOrigin, CorsLayer};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::trace::{OnResponse, TraceLayer};
use tracing::Span;

use super::admission::{Admission, admit};
use super::options::{ApiOptions, CorsOrigins};
use super::problem::{self, ApiError, Carried};
use super::server::Peer;
use crate::telemetry::Metrics;

/// The header that names a request, in both directions.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header for keys, beside `Authorization: Bearer`.
pub(super) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const MAX_REQUEST_ID_BYTES: usize = 128;

/// The id of a request, made here or by the client; in the request's extensions.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) Arc<str>);

/// Puts everything around `router` that every request passes, with an admission of its own.
pub(super) fn around(router: Router, options: &ApiOptions, metrics: &Metrics) -> Router {
    around_with(router, options, metrics, Admission::new(options, metrics))
}

/// The same with an admission that others know too.
pub(super) fn around_with(router: Router, options: &ApiOptions, metrics: &Metrics, admission: Admission) -> Router {
    // One layer of many: each that is given to `Router::layer` on its own is boxed, and copied for every request.
    router.layer(
        ServiceBuilder::new()
            .layer(from_fn(identify))
            .layer(SetSensitiveRequestHeadersLayer::new([header::AUTHORIZATION, header::COOKIE, API_KEY]))
            .layer(
                TraceLayer::new_for_http()
                    .make_span_with(span)
                    .on_request(())
                    .on_body_chunk(())
                    .on_eos(())
                    .on_failure(())
                    .on_response(LogResponse::default()),
            )
            .layer(from_fn_with_state(metrics.clone(), measure))
            .layer(CatchPanicLayer::custom(panicked))
            .layer(from_fn(security_headers))
            .layer(cors(&options.cors))
            .layer(compression())
            .layer(from_fn_with_state(admission, admit)),
    )
}

/// Gives the request an id, and the answer the id and, if it is an error, its body.
async fn identify(mut request: Request, next: Next) -> Response {
    let id: Arc<str> = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|value| sane_request_id(value))
        .map_or_else(|| uuid::Uuid::now_v7().to_string().into(), Into::into);
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));
    let head = request.method() == Method::HEAD;
    let mut response = problem::render(next.run(request).await, &id);
    if head {
        *response.body_mut() = axum::body::Body::empty();
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// A client's id goes into logs and answers, so that it may only hold harmless characters.
fn sane_request_id(id: &str) -> bool {
    (1..=MAX_REQUEST_ID_BYTES).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(&b))
}

/// Neither path nor query: both can hold ids of people. The matched route says enough.
fn span(request: &Request) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
    let id = request.extensions().get::<RequestId>().map_or("", |id| &id.0);
    let traceparent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    // It goes into logs: nothing but hexadecimal digits and hyphens.
    let traceparent =
        traceparent.filter(|text| text.len() <= 64 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-'));
    let empty = tracing::field::Empty;
    tracing::info_span!("request", id, method = %request.method(), route, key = empty, status = empty, traceparent)
}

/// Between two lines in the log about requests that were refused because it was busy.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// The one place where an error is logged. Of refusals because it is busy, which come by the thousand, it tells now and then.
#[derive(Debug, Clone, Default)]
struct LogResponse(Arc<Mutex<Refusals>>);

/// Refusals that the log has not told of, and when it told of others.
#[derive(Debug, Default)]
struct Refusals {
    untold: u64,
    told: Option<Instant>,
}

impl Refusals {
    /// Counts one; how many the log is to tell of now, if it is time.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < TOLD_EVERY) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

impl<B> OnResponse<B> for LogResponse {
    fn on_response(self, response: &Response<B>, took: Duration, span: &Span) {
        log_response(response, took, span, &self.0);
    }
}

fn log_response<B>(response: &Response<B>, took: Duration, span: &Span, refusals: &Mutex<Refusals>) {
    let status = response.status().as_u16();
    span.record("status", status);
    let took_ms = took.as_secs_f64() * 1e3;
    match response.extensions().get::<Carried>() {
        // As expected; probes come every few seconds.
        Some(Carried(error)) if matches!(**error, ApiError::Starting(_)) => {
            tracing::debug!(status, took_ms, code = error.kind().1, "refused");
        }
        Some(Carried(error)) if error.kind().1 == "busy" => {
            tracing::debug!(status, took_ms, code = error.kind().1, "refused");
            let untold = refusals.lock().count(Instant::now());
            if let Some(refused) = untold {
                tracing::warn!(refused, "more is asked than can be answered; the rest is refused");
            }
        }
        Some(Carried(error)) if response.status().is_server_error() => {
            tracing::error!(status, took_ms, code = error.kind().1, %error, "failed");
        }
        Some(Carried(error)) => tracing::info!(status, took_ms, code = error.kind().1, "refused"),
        None => tracing::debug!(status, took_ms, "answered"),
    }
}

async fn measure(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let guard = metrics.http_request_started();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let response = next.run(request).await;
    guard.answered(route.as_ref().map(MatchedPath::as_str), method.as_str(), response.status().as_u16());
    response
}

/// Limits how long the routes below may take; for `route_layer`.
pub(super) async fn time_limit(Extension(limit): Extension<TimeLimit>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit.0, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::TimedOut.into_response(),
    }
}

/// How long a route may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeLimit(pub(super) Duration);

fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&'static str>().copied())
        .unwrap_or("no message");
    ApiError::Panicked(text.to_owned()).into_response()
}

async fn security_headers(request: Request, next: Next) -> Response {
    let encrypted = request.extensions().get::<Peer>().is_some_and(|peer| peer.tls);
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let mut default = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    default(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    default(header::REFERRER_POLICY, "no-referrer");
    default(header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'");
    default(header::CACHE_CONTROL, "no-store");
    if encrypted {
        default(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
    response
}

fn compression() -> CompressionLayer<impl Predicate> {
    // Images are compressed already; rows of a stream would wait inside the compressor.
    let worthwhile = DefaultPredicate::new().and(NotForContentType::const_new("application/x-ndjson"));
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(worthwhile)
}

fn cors(origins: &CorsOrigins) -> CorsLayer {
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::ACCEPT, API_KEY, REQUEST_ID])
        .expose_headers([REQUEST_ID, header::RETRY_AFTER])
        .max_age(Duration::from_secs(600));
    match origins {
        CorsOrigins::None => CorsLayer::new(),
        CorsOrigins::Any => layer.allow_origin(AnyOrigin),
        CorsOrigins::These(origins) => {
            layer.allow_origin(AllowOrigin::list(origins.iter().filter_map(|o| HeaderValue::from_str(o).ok())))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::routing::{get, post};
    use serde_json::Value;
    use tokio::sync::Semaphore;
    use tower::ServiceExt;

    use super::*;

    fn app(options: &ApiOptions) -> Router {
        let router = Router::new()
            .route("/ok", get(|| async { "fine ".repeat(200) }))
            .route(
                "/panic",
                get(|| async {
                    if true {
                        panic!("secret text")
                    }
                }),
            )
            .route(
                "/slow",
                post(|| async { tokio::time::sleep(Duration::from_secs(600)).await })
                    .route_layer(from_fn(time_limit))
                    .layer(Extension(TimeLimit(Duration::from_millis(10)))),
            );
        around(router, options, &Metrics::new().unwrap())
    }

    async fn ask(method: &str, path: &str, headers: &[(&str, &str)]) -> (Response, Value) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response =
            app(&ApiOptions { cors: CorsOrigins::These(vec!["https://a.example".into()]), ..Default::default() })
                .oneshot(request.body(Body::empty()).unwrap())
                .await
                .unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        (Response::from_parts(parts, Body::from(body)), json)
    }

    #[test]
    fn the_log_tells_of_refusals_now_and_then_and_of_all() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        assert_eq!(refusals.count(start), Some(1), "the first at once");
        assert!((0..50).all(|_| refusals.count(start + TOLD_EVERY / 2).is_none()));
        assert_eq!(refusals.count(start + TOLD_EVERY), Some(51));
        assert_eq!(refusals.count(start + TOLD_EVERY), None);
    }

    #[tokio::test]
    async fn a_sane_id_is_kept_and_any_other_replaced() {
        let (response, _) = ask("GET", "/ok", &[("x-request-id", "abc-123")]).await;
        assert_eq!(response.headers()["x-request-id"], "abc-123");
        for bad in ["", "a b", "<script>", &"x".repeat(200)] {
            let (response, _) = ask("GET", "/ok", &[("x-request-id", bad)]).await;
            assert_eq!(response.headers()["x-request-id"].len(), 36, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn errors_of_every_origin_are_problems_with_the_request_id() {
        for (method, path, status, code) in [
            ("GET", "/nowhere", 404, "route_not_found"),
            ("DELETE", "/ok", 405, "method_not_allowed"),
            ("GET", "/panic", 500, "internal"),
            ("POST", "/slow", 504, "timed_out"),
        ] {
            let (response, body) = ask(method, path, &[("x-request-id", "r1"), ("accept-encoding", "gzip")]).await;
            assert_eq!(response.status(), status, "{path}");
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            assert_eq!(response.headers()["x-request-id"], "r1");
            assert_eq!((body["code"].as_str(), body["instance"].as_str()), (Some(code), Some("r1")));
            assert!(!body.to_string().contains("secret"));
        }
        let (response, _) = ask("DELETE", "/ok", &[]).await;
        assert_eq!(response.headers()["allow"], "GET,HEAD");
    }

    #[tokio::test]
    async fn answers_carry_security_headers_and_are_compressed_on_request() {
        let (response, _) = ask("GET", "/ok", &[("accept-encoding", "gzip")]).await;
        assert_eq!(response.headers()["content-encoding"], "gzip");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        assert!(!response.headers().contains_key("strict-transport-security"), "not over TLS");
    }

    #[tokio::test]
    async fn only_listed_origins_may_read() {
        let (response, _) = ask("GET", "/ok", &[("origin", "https://a.example")]).await;
        assert_eq!(response.headers()["access-control-allow-origin"], "https://a.example");
        let (response, _) = ask("GET", "/ok", &[("origin", "https://b.example")]).await;
        assert!(!response.headers().contains_key("access-control-allow-origin"));
    }

    #[tokio::test]
    async fn requests_beyond_the_bound_are_refused_at_once() {
        let entered = Arc::new(tokio::sync::Notify::new());
        let (handler_entered, hold) = (Arc::clone(&entered), Arc::new(Semaphore::new(0)));
        let handler_hold = Arc::clone(&hold);
        let router = Router::new().route("/livez", get(|| async {})).route(
            "/wait",
            get(move || async move {
                handler_entered.notify_one();
                let _ = handler_hold.acquire().await;
            }),
        );
        let metrics = Metrics::new().unwrap();
        let app = around(router, &ApiOptions { max_in_flight: 1, ..ApiOptions::default() }, &metrics);
        let request = |path: &str| Request::builder().uri(path).body(Body::empty()).unwrap();
        let first = tokio::spawn(app.clone().oneshot(request("/wait")));
        entered.notified().await;
        let second = app.clone().oneshot(request("/wait")).await.unwrap();
        assert_eq!(second.status(), 503);
        assert_eq!(second.headers()["retry-after"], "1");
        assert_eq!(app.clone().oneshot(request("/livez")).await.unwrap().status(), 200);
        hold.add_permits(1);
        assert_eq!(first.await.unwrap().unwrap().status(), 200);
        assert!(metrics.encode().contains("upnext_overloaded_total 1"));
    }
}
