//! What does a client see when something goes wrong? One table from every error to a status and a stable code.
//!
//! Handlers, extractors and middleware return an [`ApiError`]. It travels outwards in the response's extensions;
//! the middleware writes it down once as `application/problem+json` (RFC 9457) with the request's id, and the trace
//! logs it once. Texts that name internals stay in the log.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::engine::EngineError;

/// Everything that can go wrong between the socket and the engine.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A use case failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The body is not JSON.
    #[error("the body is not valid JSON: {reason} at line {line}, column {column}")]
    MalformedJson {
        /// What the parser missed.
        reason: String,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// Fields have the wrong type or a value that cannot be used.
    #[error("{}", summary(.0))]
    Invalid(Vec<FieldError>),
    /// The query string does not fit.
    #[error("the query string cannot be used: {}", .0.detail)]
    InvalidQuery(FieldError),
    /// A segment of the path does not fit.
    #[error("the path cannot be used: {}", .0.detail)]
    InvalidPath(FieldError),
    /// A body is needed and there is none.
    #[error("the request needs a body: {0}")]
    EmptyBody(&'static str),
    /// The multipart body is broken or has parts that do not belong there.
    #[error("the multipart body cannot be used: {}", .0.detail)]
    InvalidMultipart(FieldError),
    /// The body ended before its time.
    #[error("the body could not be read to its end")]
    InterruptedBody,
    /// The body is longer than allowed.
    #[error("the body is larger than {limit_bytes} bytes")]
    BodyTooLarge {
        /// The limit that it breaks.
        limit_bytes: usize,
    },
    /// The content type is not one that the route reads.
    #[error("the content type is not supported here; use {expected}")]
    UnsupportedMediaType {
        /// What the route reads.
        expected: &'static str,
    },
    /// The client accepts nothing that the route can write.
    #[error("the answer can only be {available}")]
    NotAcceptable {
        /// What the route can write.
        available: &'static str,
    },
    /// There is no key, or not a valid one.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The key is valid but may not do this.
    #[error("the key lacks the scope that this route needs: {needed}")]
    Forbidden {
        /// The scopes of which one would do.
        needed: String,
    },
    /// Only those who may administrate may name people by their pseudonyms.
    #[error("`user_key` takes a key with the scope admin; other keys send `user_id`")]
    UserKeyForbidden,
    /// The session is somebody else's, or not the one that a ticket is for.
    #[error("this session is not the caller's")]
    ForeignSession,
    /// A person who may ask for themselves only has named another one.
    #[error("only the person whose token or ticket this is can be named")]
    OtherUser,
    /// A person's token or ticket opens other routes only.
    #[error("a person's token or ticket is not for this route; it needs an API key")]
    PersonForbidden,
    /// There are as many live connections as there may be.
    #[error("there are too many live connections")]
    TooManyConnections,
    /// The route only speaks WebSocket.
    #[error("this is a WebSocket; ask for an upgrade over HTTP/1.1")]
    UpgradeRequired,
    /// A later connection has taken the place of this one.
    #[error("a later connection to this session has taken over")]
    Replaced,
    /// Nothing was heard of the client for too long.
    #[error("nothing was heard for too long")]
    Idle,
    /// The key has asked too often.
    #[error("the rate limit of this key is used up")]
    RateLimited {
        /// When to come back.
        retry_after: Duration,
    },
    /// Too many requests are being worked on already.
    #[error("the service is busy")]
    Overloaded {
        /// When to come back.
        retry_after: Duration,
    },
    /// No route has this path.
    #[error("there is nothing at this path")]
    NoSuchRoute,
    /// The thing that the path names does not exist.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The route has other methods; the response's `Allow` header lists them.
    #[error("this path does not support the method")]
    MethodNotAllowed,
    /// The work took longer than allowed.
    #[error("the request took too long")]
    TimedOut,
    /// The service does not work at the moment; the text is for the log only.
    #[error("not ready: {0}")]
    NotReady(String),
    /// The service is not there yet.
    #[error("the service is starting: {0}")]
    Starting(StartReport),
    /// A handler panicked; the text is for the log only.
    #[error("panicked: {0}")]
    Panicked(String),
    /// A response without a body came from below, with this status.
    #[error("the request failed")]
    Bare(StatusCode),
}

/// A field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The field's path in the request, for example `filter.must[0].field` or `image[3]`.
    pub field: String,
    /// What is wrong.
    pub detail: String,
}

impl FieldError {
    /// A field and what is wrong with it.
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

/// How far a start has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StartReport {
    /// What it is busy with.
    pub step: &'static str,
    /// How much of that is done.
    pub done: u64,
    /// How much there is to do; 0 if that is not known.
    pub total: u64,
    /// Seconds since the beginning.
    pub elapsed_s: f64,
}

impl std::fmt::Display for StartReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { step, total: 0, .. } => f.write_str(step),
            Self { step, done, total, .. } => write!(f, "{step}, {done} of {total}"),
        }
    }
}

/// The body of every error (RFC 9457).
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Problem {
    /// A URI reference that names the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in words.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong this time.
    pub detail: String,
    /// A stable word for programs.
    pub code: &'static str,
    /// The request's id, as in `x-request-id`.
    pub instance: String,
    /// The fields at fault, where they are known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// With the code `starting`: what the start is busy with, for example `log`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<&'static str>,
    /// With the code `starting`: how much of the step is done, in entries of the log or items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done: Option<u64>,
    /// With the code `starting`: how much there is to do in the step, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// With the code `starting`: seconds since the start began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_s: Option<f64>,
}

/// One field at fault says it all; of several, the list says more.
fn summary(errors: &[FieldError]) -> String {
    match errors {
        [only] => format!("{}: {}", only.field, only.detail),
        several => format!("{} fields cannot be used", several.len()),
    }
}

impl ApiError {
    /// The value of `field` cannot be used.
    pub fn field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError::new(field, detail)])
    }

    /// Status, stable code and title: the one table.
    pub fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::Engine(error) => match error {
                EngineError::UnsupportedImage { .. } => {
                    (S::UNSUPPORTED_MEDIA_TYPE, "unsupported_image", "Unsupported image format")
                }
                EngineError::BadImage { .. } => (S::UNPROCESSABLE_ENTITY, "bad_image", "Damaged image"),
                EngineError::ImageTooLarge { .. } => (S::PAYLOAD_TOO_LARGE, "image_too_large", "Image too large"),
                EngineError::Invalid { .. } | EngineError::InvalidExample { .. } => {
                    (S::UNPROCESSABLE_ENTITY, "invalid_value", "Invalid value")
                }
                EngineError::UnknownItem(_) => (S::NOT_FOUND, "item_not_found", "No such item"),
                EngineError::UnknownSession => (S::NOT_FOUND, "session_not_found", "No such session"),
                EngineError::ItemWithoutImage(_) => {
                    (S::UNPROCESSABLE_ENTITY, "item_without_image", "The item has no image")
                }
                EngineError::Busy { .. } => (S::SERVICE_UNAVAILABLE, "busy", "Too busy"),
                EngineError::DeadlinePassed => (S::GATEWAY_TIMEOUT, "deadline_passed", "Deadline passed"),
                EngineError::DiskFull => (S::INSUFFICIENT_STORAGE, "disk_full", "No space left"),
                EngineError::ModelRefused(_) => (S::UNPROCESSABLE_ENTITY, "model_refused", "Models cannot be used"),
                EngineError::UnknownSnapshot(_) => (S::NOT_FOUND, "snapshot_not_found", "No such snapshot"),
                EngineError::Snapshot(_) => (S::UNPROCESSABLE_ENTITY, "unusable_snapshot", "Unusable snapshot"),
                EngineError::ShuttingDown => (S::SERVICE_UNAVAILABLE, "shutting_down", "Shutting down"),
                EngineError::Internal(_) | EngineError::ModelFailed(_) => {
                    (S::INTERNAL_SERVER_ERROR, "internal", "Internal error")
                }
            },
            Self::MalformedJson { .. } => (S::BAD_REQUEST, "malformed_json", "Malformed JSON"),
            Self::Invalid(_) => (S::UNPROCESSABLE_ENTITY, "invalid_value", "Invalid value"),
            Self::InvalidQuery(_) => (S::BAD_REQUEST, "invalid_query", "Invalid query string"),
            Self::InvalidPath(_) => (S::BAD_REQUEST, "invalid_path", "Invalid path"),
            Self::EmptyBody(_) => (S::BAD_REQUEST, "empty_body", "Empty body"),
            Self::InvalidMultipart(_) => (S::BAD_REQUEST, "invalid_multipart", "Invalid multipart body"),
            Self::InterruptedBody => (S::BAD_REQUEST, "interrupted_body", "Incomplete body"),
            Self::BodyTooLarge { .. } => (S::PAYLOAD_TOO_LARGE, "body_too_large", "Body too large"),
            Self::UnsupportedMediaType { .. } => {
                (S::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Unsupported media type")
            }
            Self::NotAcceptable { .. } => (S::NOT_ACCEPTABLE, "not_acceptable", "Not acceptable"),
            Self::Unauthorized(_) => (S::UNAUTHORIZED, "unauthorized", "Unauthorized"),
            Self::Forbidden { .. } => (S::FORBIDDEN, "forbidden", "Forbidden"),
            Self::UserKeyForbidden => (S::FORBIDDEN, "user_key_needs_admin", "Forbidden"),
            Self::ForeignSession => (S::FORBIDDEN, "foreign_session", "Forbidden"),
            Self::OtherUser => (S::FORBIDDEN, "other_user", "Forbidden"),
            Self::PersonForbidden => (S::FORBIDDEN, "needs_key", "Forbidden"),
            Self::TooManyConnections => (S::TOO_MANY_REQUESTS, "too_many_connections", "Too many connections"),
            Self::UpgradeRequired => (S::UPGRADE_REQUIRED, "upgrade_required", "Upgrade required"),
            Self::Replaced => (S::CONFLICT, "replaced", "Replaced"),
            Self::Idle => (S::REQUEST_TIMEOUT, "idle", "Idle"),
            Self::RateLimited { .. } => (S::TOO_MANY_REQUESTS, "rate_limited", "Too many requests"),
            Self::Overloaded { .. } => (S::SERVICE_UNAVAILABLE, "busy", "Too busy"),
            Self::NoSuchRoute => (S::NOT_FOUND, "route_not_found", "No such route"),
            Self::NotFound(_) => (S::NOT_FOUND, "not_found", "Not found"),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed"),
            Self::TimedOut => (S::GATEWAY_TIMEOUT, "timed_out", "Timed out"),
            Self::NotReady(_) => (S::SERVICE_UNAVAILABLE, "not_ready", "Not ready"),
            Self::Starting(_) => (S::SERVICE_UNAVAILABLE, "starting", "Starting"),
            Self::Panicked(_) => (S::INTERNAL_SERVER_ERROR, "internal", "Internal error"),
            Self::Bare(status) => (*status, "failed", "Failed"),
        }
    }

    /// The sentence for the client: the error's own, unless that names internals.
    pub fn detail(&self) -> String {
        match self {
            Self::Engine(EngineError::Internal(_) | EngineError::ModelFailed(_)) | Self::Panicked(_) => {
                "something went wrong inside the service; its log has more under this request id".to_owned()
            }
            Self::NotReady(_) => "the service cannot answer at the moment".to_owned(),
            // A client names its own item; nobody else's text is in here.
            Self::Engine(error) => error.to_string(),
            Self::MalformedJson { .. }
            | Self::Invalid(_)
            | Self::InvalidQuery(_)
            | Self::InvalidPath(_)
            | Self::EmptyBody(_)
            | Self::InvalidMultipart(_)
            | Self::InterruptedBody
            | Self::BodyTooLarge { .. }
            | Self::UnsupportedMediaType { .. }
            | Self::NotAcceptable { .. }
            | Self::Unauthorized(_)
            | Self::Forbidden { .. }
            | Self::UserKeyForbidden
            | Self::ForeignSession
            | Self::OtherUser
            | Self::PersonForbidden
            | Self::TooManyConnections
            | Self::UpgradeRequired
            | Self::Replaced
            | Self::Idle
            | Self::RateLimited { .. }
            | Self::Overloaded { .. }
            | Self::NoSuchRoute
            | Self::NotFound(_)
            | Self::MethodNotAllowed
            | Self::TimedOut
            | Self::Starting(_)
            | Self::Bare(_) => self.to_string(),
        }
    }

    /// The fields at fault.
    #[expect(clippy::wildcard_enum_match_arm, reason = "most errors are not about a field")]
    pub fn fields(&self) -> Vec<FieldError> {
        match self {
            Self::Invalid(errors) => errors.clone(),
            Self::InvalidQuery(error) | Self::InvalidPath(error) | Self::InvalidMultipart(error) => vec![error.clone()],
            Self::Engine(EngineError::Invalid { field, reason }) => vec![FieldError::new(*field, reason.clone())],
            Self::Engine(EngineError::InvalidExample { place, reason }) => {
                vec![FieldError::new(place.clone(), reason.clone())]
            }
            Self::Engine(
                EngineError::UnsupportedImage { what, .. }
                | EngineError::BadImage { what, .. }
                | EngineError::ImageTooLarge { what, .. },
            ) => vec![FieldError::new(what.clone(), self.to_string())],
            _ => Vec::new(),
        }
    }

    /// When the client should come back, if that would help.
    #[expect(clippy::wildcard_enum_match_arm, reason = "for most errors, coming back does not help")]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after }
            | Self::Overloaded { retry_after }
            | Self::Engine(EngineError::Busy { retry_after }) => Some(*retry_after),
            Self::Engine(EngineError::ShuttingDown) | Self::NotReady(_) | Self::Starting(_) => {
                Some(Duration::from_secs(1))
            }
            Self::TooManyConnections => Some(Duration::from_secs(5)),
            _ => None,
        }
    }

    /// The body for the client.
    pub fn problem(&self, request_id: &str) -> Problem {
        let (status, code, title) = self.kind();
        let start = if let Self::Starting(report) = self { Some(*report) } else { None };
        Problem {
            kind: format!("urn:upnext:problem:{code}"),
            title,
            status: status.as_u16(),
            detail: self.detail(),
            code,
            instance: request_id.to_owned(),
            errors: self.fields(),
            step: start.map(|start| start.step),
            done: start.map(|start| start.done),
            total: start.map(|start| start.total).filter(|&total| total > 0),
            elapsed_s: start.map(|start| start.elapsed_s),
        }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(after) = self.retry_after() {
            // Whole seconds, rounded up: coming back too early would only be refused again.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if matches!(self, Self::Unauthorized(_)) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"upnext\""));
        }
        headers
    }
}

/// An error on its way out, in a response's extensions.
#[derive(Debug, Clone)]
pub(super) struct Carried(pub(super) std::sync::Arc<ApiError>);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.kind().0;
        *response.headers_mut() = self.headers();
        response.extensions_mut().insert(Carried(std::sync::Arc::new(self)));
        response
    }
}

/// Writes the problem that a response carries into its body. A bare error status, as routing produces it, becomes a
/// problem too; its headers (`Allow`) stay.
pub(super) fn render(mut response: Response, request_id: &str) -> Response {
    if response.extensions().get::<Carried>().is_none() {
        let status = response.status();
        if !(status.is_client_error() || status.is_server_error())
            || response.headers().contains_key(header::CONTENT_TYPE)
        {
            return response;
        }
        let error = match status {
            StatusCode::NOT_FOUND => ApiError::NoSuchRoute,
            StatusCode::METHOD_NOT_ALLOWED => ApiError::MethodNotAllowed,
            other => ApiError::Bare(other),
        };
        response.extensions_mut().insert(Carried(std::sync::Arc::new(error)));
    }
    let Some(Carried(error)) = response.extensions().get::<Carried>().cloned() else { return response };
    let body = serde_json::to_vec(&error.problem(request_id)).unwrap_or_default();
    const STALE: [HeaderName; 2] = [header::CONTENT_LENGTH, header::CONTENT_ENCODING];
    for name in STALE {
        response.headers_mut().remove(name);
    }
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    *response.body_mut() = Body::from(body);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ItemId;

    #[test]
    fn internal_text_stays_inside() {
        for error in [
            ApiError::Engine(EngineError::Internal("/var/lib/upnext/log.redb: secret".into())),
            ApiError::Panicked("secret".into()),
            ApiError::NotReady("secret".into()),
        ] {
            let body = serde_json::to_string(&error.problem("r1")).unwrap();
            assert!(!body.contains("secret"), "{body}");
            assert!(error.kind().0.is_server_error());
        }
    }

    #[test]
    fn every_engine_error_has_its_status() {
        let what = || "image[1]".to_owned();
        let item = ItemId::new("i1").unwrap();
        let table = [
            (EngineError::UnsupportedImage { what: what(), detected: Some("PDF") }, 415, "unsupported_image"),
            (EngineError::BadImage { what: what(), reason: "cut off".into() }, 422, "bad_image"),
            (EngineError::ImageTooLarge { what: what(), reason: "big".into() }, 413, "image_too_large"),
            (EngineError::Invalid { field: "count", reason: "no".into() }, 422, "invalid_value"),
            (EngineError::UnknownItem(item.clone()), 404, "item_not_found"),
            (EngineError::UnknownSession, 404, "session_not_found"),
            (EngineError::ItemWithoutImage(item), 422, "item_without_image"),
            (EngineError::Busy { retry_after: Duration::from_millis(1200) }, 503, "busy"),
            (EngineError::DeadlinePassed, 504, "deadline_passed"),
            (EngineError::DiskFull, 507, "disk_full"),
            (EngineError::UnknownSnapshot("s".into()), 404, "snapshot_not_found"),
            (EngineError::ModelRefused("no".into()), 422, "model_refused"),
            (EngineError::Snapshot("no".into()), 422, "unusable_snapshot"),
            (EngineError::ShuttingDown, 503, "shutting_down"),
            (EngineError::Internal(String::new()), 500, "internal"),
        ];
        for (error, status, code) in table {
            let problem = ApiError::from(error).problem("r1");
            assert_eq!((problem.status, problem.code), (status, code));
            assert_eq!(problem.kind, format!("urn:upnext:problem:{code}"));
        }
    }

    #[test]
    fn waiting_times_round_up() {
        let response = ApiError::RateLimited { retry_after: Duration::from_millis(1200) }.into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        let response = ApiError::from(EngineError::Busy { retry_after: Duration::ZERO }).into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }

    #[tokio::test]
    async fn a_bare_status_keeps_its_headers_and_gets_a_body() {
        let bare = Response::builder().status(405).header("allow", "GET").body(Body::empty()).unwrap();
        let response = render(bare, "r7");
        assert_eq!(response.headers()["allow"], "GET");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["code"], "method_not_allowed");
        assert_eq!(body["instance"], "r7");
    }

    #[test]
    fn the_fields_at_fault_are_named() {
        let problem = ApiError::from(EngineError::Invalid { field: "horizons_s", reason: "no".into() }).problem("r");
        assert_eq!(problem.errors, [FieldError::new("horizons_s", "no")]);
        assert!(ApiError::NoSuchRoute.problem("r").errors.is_empty());
    }
}
