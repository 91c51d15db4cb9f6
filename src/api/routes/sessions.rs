//! Sessions: frames as they come, what is known, and the end.

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::recommendations::request_of;
use crate::api::caller;
use crate::api::extract::{ImageBody, Path, Query};
use crate::api::problem::{ApiError, Problem};
use crate::api::state::AppState;
use crate::api::wire::{FrameQuery, FrameReport, SessionAnswer};
use crate::domain::SessionId;
use crate::engine::{EngineError, FrameUpload};
use crate::security::Principal;

/// The session that a path names.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::api) struct SessionPath {
    /// The client's id, percent-encoded.
    #[param(value_type = String)]
    pub(super) session_id: SessionId,
}

/// Report a frame that is on screen
///
/// The body is a JPEG, PNG, WebP, GIF or BMP file. With `recommend=true` the answer has a recommendation too.
#[utoipa::path(post, path = "/v1/sessions/{session_id}/frames", tag = "sessions", params(SessionPath, FrameQuery),
    request_body(content((Vec<u8> = "image/jpeg"), (Vec<u8> = "image/png"), (Vec<u8> = "image/webp"),
        (Vec<u8> = "image/gif"), (Vec<u8> = "image/bmp"), (Vec<u8> = "application/octet-stream"))),
    responses((status = 200, description = "what became of the frame", body = FrameReport),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn post_frame(
    State(state): State<AppState>,
    Path(SessionPath { session_id }): Path<SessionPath>,
    Query(query): Query<FrameQuery>,
    Extension(principal): Extension<Principal>,
    ImageBody(bytes): ImageBody,
) -> Result<Json<FrameReport>, ApiError> {
    let recommend = query.recommend.unwrap_or_default();
    // Read in both cases, so that both check the same fields.
    let mut frame = query.clone().into_frame(session_id.clone(), bytes, |user| state.user_key(user))?;
    caller::restrict_frame(&state, &principal, &mut frame)?;
    if !recommend {
        let outcome = state.engine.observe_frame(frame).await?;
        state.hub.touch(&session_id);
        return Ok(Json(FrameReport { frame: Some(outcome.into()), recommendation: None }));
    }
    let mut request = request_of(query.into_recommend(session_id.clone()), &state)?;
    caller::restrict(&state, &principal, &mut request)?;
    let FrameUpload { bytes, at_s } = frame.frame;
    request.frames = vec![FrameUpload { bytes, at_s }];
    let mut answer = state.engine.recommend(request).await?;
    state.hub.touch(&session_id);
    let outcome = answer.frames.pop();
    Ok(Json(FrameReport { frame: outcome.map(Into::into), recommendation: Some(answer.into()) }))
}

/// Read what is known of a live session
#[utoipa::path(get, path = "/v1/sessions/{session_id}", tag = "sessions", params(SessionPath),
    responses((status = 200, description = "the session", body = SessionAnswer),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn get_session(
    State(state): State<AppState>,
    Path(SessionPath { session_id }): Path<SessionPath>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<SessionAnswer>, ApiError> {
    caller::may_see(&state, &principal, &session_id)?;
    let known = state.engine.session(&session_id).ok_or(EngineError::UnknownSession)?;
    Ok(Json(SessionAnswer::new(session_id, known)))
}

/// Forget a live session
///
/// Its events stay in the log.
#[utoipa::path(delete, path = "/v1/sessions/{session_id}", tag = "sessions", params(SessionPath),
    responses((status = 204, description = "forgotten"),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn delete_session(
    State(state): State<AppState>,
    Path(SessionPath { session_id }): Path<SessionPath>,
    Extension(principal): Extension<Principal>,
) -> Result<StatusCode, ApiError> {
    caller::may_see(&state, &principal, &session_id)?;
    if state.engine.end_session(&session_id) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(EngineError::UnknownSession.into())
    }
}
