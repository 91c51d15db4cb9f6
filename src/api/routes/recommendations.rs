//! Recommendations: what somebody will want next.

use axum::Extension;
use axum::extract::{Request, State};
use bytes::Bytes;
use utoipa::ToSchema;

use crate::api::caller;
use crate::api::extract::{ContentKind, Query, parse, read_body, read_parts};
use crate::api::options::Limits;
use crate::api::problem::{ApiError, FieldError, Problem};
use crate::api::state::AppState;
use crate::api::wire::{RecommendAnswer, RecommendBody, RecommendQuery};
use crate::engine::RecommendRequest;
use crate::security::Principal;

/// A request with the frames on screen as parts.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a multipart body, which is read part by part")]
pub(in crate::api) struct RecommendUpload {
    /// The request as JSON; may be left out.
    request: Option<RecommendBody>,
    /// Frames in the order in which they were on screen, the newest last.
    #[schema(value_type = Option<Vec<String>>, format = Binary)]
    frame: Option<Vec<Vec<u8>>>,
}

/// Ask what somebody will want next, in a query string
#[utoipa::path(get, path = "/v1/recommendations", tag = "recommendations", params(RecommendQuery),
    responses((status = 200, description = "a ranked list for each horizon", body = RecommendAnswer),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn get_recommendations(
    State(state): State<AppState>,
    Query(query): Query<RecommendQuery>,
    Extension(principal): Extension<Principal>,
) -> Result<RecommendAnswer, ApiError> {
    answer(&state, &principal, request_of(query, &state)?).await
}

/// The request that a query string makes.
pub(super) fn request_of(query: RecommendQuery, state: &AppState) -> Result<RecommendRequest, ApiError> {
    let (body, filter) = query.into_body()?;
    let request = body.into_request(Vec::new(), &state.options.limits, |user| state.user_key(user))?;
    Ok(RecommendRequest { filter, ..request })
}

/// Ask what somebody will want next
///
/// As JSON, or as multipart with the frames on screen.
#[utoipa::path(post, path = "/v1/recommendations", tag = "recommendations",
    request_body(content((RecommendBody = "application/json"), (RecommendUpload = "multipart/form-data"))),
    responses((status = 200, description = "a ranked list for each horizon", body = RecommendAnswer),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn post_recommendations(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Result<RecommendAnswer, ApiError> {
    let limits = &state.options.limits;
    let (body, frames) = read(request, limits).await?;
    let request = body.into_request(frames, limits, |user| state.user_key(user))?;
    answer(&state, &principal, request).await
}

/// The lists, within what the caller may ask for.
async fn answer(
    state: &AppState,
    principal: &Principal,
    mut request: RecommendRequest,
) -> Result<RecommendAnswer, ApiError> {
    caller::restrict(state, principal, &mut request)?;
    let session = request.session.clone().filter(|_| !request.frames.is_empty());
    let answer = state.engine.recommend(request).await?;
    if let Some(session) = &session {
        state.hub.touch(session);
    }
    Ok(answer.into())
}

async fn read(request: Request, limits: &Limits) -> Result<(RecommendBody, Vec<Bytes>), ApiError> {
    match ContentKind::of(request.headers()) {
        ContentKind::Json => Ok((parse(&read_body(request, limits.json_bytes).await?, "")?, Vec::new())),
        ContentKind::Multipart => {
            let parts = read_parts(request, limits.upload_bytes, limits.frames + 1, &["request", "frame"]).await?;
            let (documents, frames): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| part.name == "request");
            let fail = |field, detail: String| Err(ApiError::InvalidMultipart(FieldError::new(field, detail)));
            if frames.len() > limits.frames {
                return fail("frame", format!("there may be at most {} frames", limits.frames));
            }
            let body = match documents.as_slice() {
                [] => RecommendBody::default(),
                [document] => parse(&document.bytes, "request")?,
                _ => return fail("request", "there may be only one part of this name".into()),
            };
            Ok((body, frames.into_iter().map(|part| part.bytes).collect()))
        }
        ContentKind::NdJson | ContentKind::Image | ContentKind::Form | ContentKind::Other => {
            Err(ApiError::UnsupportedMediaType { expected: "application/json or multipart/form-data" })
        }
    }
}
