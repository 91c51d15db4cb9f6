//! What operators do with what is stored: snapshots, and rewriting the file.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::extract::{Path, parse};
use crate::api::problem::{ApiError, Problem};
use crate::api::state::AppState;
use crate::api::wire::{RewriteAnswer, SnapshotAnswer, SnapshotBody, SnapshotsAnswer, VerifiedAnswer};

/// The snapshot that a path names.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::api) struct SnapshotPath {
    /// Its name.
    name: String,
}

/// Make a snapshot
///
/// A consistent copy of the database in the folder `snapshots` of the data folder. The service goes on meanwhile; the
/// answer comes when the copy is durable. It holds neither sealing keys nor user keys.
#[utoipa::path(post, path = "/v1/admin/snapshots", tag = "admin", request_body(content = Option<SnapshotBody>),
    responses((status = 201, description = "made", body = SnapshotAnswer),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn create_snapshot(
    State(state): State<AppState>,
    body: Bytes,
) -> Result<(StatusCode, Json<SnapshotAnswer>), ApiError> {
    let body: SnapshotBody = if body.is_empty() { SnapshotBody::default() } else { parse(&body, "")? };
    let made = state.engine.create_snapshot(body.name).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// List the snapshots
#[utoipa::path(get, path = "/v1/admin/snapshots", tag = "admin",
    responses((status = 200, description = "the snapshots, oldest first", body = SnapshotsAnswer),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn list_snapshots(State(state): State<AppState>) -> Result<Json<SnapshotsAnswer>, ApiError> {
    let snapshots = state.engine.snapshots().await?.into_iter().map(Into::into).collect();
    Ok(Json(SnapshotsAnswer { snapshots }))
}

/// Verify a snapshot
///
/// Compares its hash with its manifest and reads every record of it.
#[utoipa::path(post, path = "/v1/admin/snapshots/{name}/verify", tag = "admin", params(SnapshotPath),
    responses((status = 200, description = "what was found", body = VerifiedAnswer),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn verify_snapshot(
    State(state): State<AppState>,
    Path(SnapshotPath { name }): Path<SnapshotPath>,
) -> Result<Json<VerifiedAnswer>, ApiError> {
    Ok(Json(state.engine.verify_snapshot(name).await?.into()))
}

/// Delete a snapshot
#[utoipa::path(delete, path = "/v1/admin/snapshots/{name}", tag = "admin", params(SnapshotPath),
    responses((status = 204, description = "deleted"),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn delete_snapshot(
    State(state): State<AppState>,
    Path(SnapshotPath { name }): Path<SnapshotPath>,
) -> Result<StatusCode, ApiError> {
    state.engine.delete_snapshot(name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Rewrite the database
///
/// Into a new file that takes its place: smaller, and with every record under the newest sealing key, after which older
/// keys can be retired. The service goes on meanwhile.
#[utoipa::path(post, path = "/v1/admin/store/rewrite", tag = "admin",
    responses((status = 200, description = "rewritten", body = RewriteAnswer),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn rewrite_store(State(state): State<AppState>) -> Result<Json<RewriteAnswer>, ApiError> {
    Ok(Json(state.engine.rewrite_store().await?.into()))
}
