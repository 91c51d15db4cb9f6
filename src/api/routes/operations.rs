//! For those who run the service: does it live, can it work, how is it doing, what can it do?

use axum::extract::State;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use bytes::Bytes;
use http::header;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::problem::{ApiError, Problem};
use crate::api::state::AppState;
use crate::api::wire::{TakeoverAnswer, milliseconds};

/// The texts of the documents that describe the service, made once.
#[derive(Debug, Clone)]
pub(in crate::api) struct Documents {
    pub(in crate::api) openapi: Bytes,
    pub(in crate::api) asyncapi: Bytes,
}

/// The service can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct ReadyAnswer {
    /// Always `ready`.
    status: &'static str,
    /// The embedding model, as `name@hash`; several with their weights.
    model: String,
    /// The execution provider that runs it.
    provider: String,
    /// How long the check's inference took.
    inference_ms: f64,
    /// Models that are to take over, and how far they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    coming: Option<TakeoverAnswer>,
}

/// What the service consists of.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct StatusAnswer {
    /// Whether a real picture went through the model.
    ready: bool,
    /// What is wrong, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// The version of the service.
    version: &'static str,
    /// Seconds since it was started.
    uptime_s: f64,
    /// The embedding model, as `name@hash`; several with their weights.
    model: String,
    /// The execution provider that runs it.
    provider: String,
    /// How long the check's inference took.
    inference_ms: f64,
    /// Items in the catalogue.
    items: usize,
    /// Live sessions.
    sessions: usize,
    /// The newest sequence of the log.
    log_sequence: u64,
    /// The first one that the log still has.
    log_first_sequence: u64,
    /// Bytes of the log's records.
    log_bytes: u64,
    /// Persons who have a key of their own.
    users: u64,
    /// Persons who were erased.
    erased_users: u64,
    /// Bytes free on the disk, where the system says.
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_free_bytes: Option<u64>,
}

/// Say what this is
#[utoipa::path(get, path = "/", tag = "operations", security(()),
    responses((status = 200, description = "a few lines", body = String, content_type = "text/plain")))]
pub(in crate::api) async fn root() -> &'static str {
    concat!(
        "UpNext ",
        env!("CARGO_PKG_VERSION"),
        ": what will this person want within 15, 30 and 60 seconds?\n\n",
        "POST /v1/recommendations   ask\n",
        "GET  /openapi.json         everything that can be asked\n",
        "GET  /livez, /readyz       health\n"
    )
}

/// Does the process live?
///
/// It does from the first moment on, also while the service starts and answers everything else 503 `starting`.
#[utoipa::path(get, path = "/livez", tag = "operations", security(()),
    responses((status = 200, description = "it does", body = String, content_type = "text/plain")))]
pub(in crate::api) async fn livez() -> &'static str {
    "ok\n"
}

/// Can the service do its work?
///
/// Sends a real picture through the model, at most once a second. While the service starts, the problem has the code
/// `starting` and says how far it is: `step`, `done`, `total`, `elapsed_s`.
#[utoipa::path(get, path = "/readyz", tag = "operations", security(()),
    responses((status = 200, description = "it can", body = ReadyAnswer),
        (status = 503, description = "it cannot", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn readyz(State(state): State<AppState>) -> Result<Json<ReadyAnswer>, ApiError> {
    let readiness = state.readiness().await;
    if !readiness.ready {
        return Err(ApiError::NotReady(readiness.problem.unwrap_or_else(|| "no reason given".to_owned())));
    }
    Ok(Json(ReadyAnswer {
        status: "ready",
        model: readiness.model,
        provider: readiness.provider,
        inference_ms: milliseconds(readiness.inference),
        coming: readiness.coming.map(Into::into),
    }))
}

/// Read the metrics, in Prometheus's text format
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "the metrics", body = String, content_type = "text/plain"),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn metrics(State(state): State<AppState>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.encode())
}

/// Read this document
#[utoipa::path(get, path = "/openapi.json", tag = "operations", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")))]
pub(in crate::api) async fn openapi(Extension(documents): Extension<Documents>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "public, max-age=300")], documents.openapi)
}

/// Read the document of live sessions
///
/// The messages that go over `/v1/sessions/{session_id}/live` in both directions.
#[utoipa::path(get, path = "/asyncapi.json", tag = "operations", security(()),
    responses((status = 200, description = "AsyncAPI 3.0", body = Object, content_type = "application/json")))]
pub(in crate::api) async fn asyncapi(Extension(documents): Extension<Documents>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "public, max-age=300")], documents.asyncapi)
}

/// Read what the service consists of and how it is doing
#[utoipa::path(get, path = "/v1/admin/status", tag = "admin",
    responses((status = 200, description = "the status", body = StatusAnswer),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn admin_status(State(state): State<AppState>) -> Result<Json<StatusAnswer>, ApiError> {
    let readiness = state.readiness().await;
    let store = state.engine.store_sizes()?;
    Ok(Json(StatusAnswer {
        ready: readiness.ready,
        problem: readiness.problem,
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: state.uptime_s(),
        model: readiness.model,
        provider: readiness.provider,
        inference_ms: milliseconds(readiness.inference),
        items: readiness.items,
        sessions: readiness.sessions,
        log_sequence: readiness.log_sequence,
        log_first_sequence: store.first_sequence,
        log_bytes: store.log_bytes,
        users: store.users,
        erased_users: store.erased_users,
        disk_free_bytes: store.free_bytes,
    }))
}
