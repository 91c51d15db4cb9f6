//! Search: a picture, an item or words in, items out.

use axum::Json;
use axum::extract::{Request, State};
use utoipa::ToSchema;

use crate::api::extract::{ContentKind, Query, image_bytes, parse, read_body, read_parts};
use crate::api::options::Limits;
use crate::api::problem::{ApiError, FieldError, Problem};
use crate::api::state::AppState;
use crate::api::wire::{SearchAnswerBody, SearchBody, SearchQuery};
use crate::engine::SearchRequest;

const EXPECTED: &str = "an image (image/…), application/json or multipart/form-data";

/// A picture and what to do with it, as parts.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a multipart body, which is read part by part")]
pub(in crate::api) struct SearchUpload {
    /// The bounds as JSON; may be left out.
    request: Option<SearchBody>,
    /// The picture.
    #[schema(value_type = String, format = Binary)]
    image: Vec<u8>,
}

/// Find items by picture, item or words
///
/// The body is an image (then the bounds stand in the query string), JSON, or multipart with the part `image` and
/// perhaps `request`.
#[utoipa::path(post, path = "/v1/search", tag = "search", params(SearchQuery),
    request_body(content((SearchBody = "application/json"), (SearchUpload = "multipart/form-data"),
        (Vec<u8> = "image/jpeg"), (Vec<u8> = "image/png"), (Vec<u8> = "image/webp"), (Vec<u8> = "image/gif"),
        (Vec<u8> = "image/bmp"), (Vec<u8> = "application/octet-stream"))),
    responses((status = 200, description = "the best first", body = SearchAnswerBody),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn post_search(
    State(state): State<AppState>,
    Query(query): Query<SearchQuery>,
    request: Request,
) -> Result<Json<SearchAnswerBody>, ApiError> {
    let request = read(query, request, &state.options.limits).await?;
    Ok(Json(state.engine.search(request).await?.into()))
}

async fn read(query: SearchQuery, request: Request, limits: &Limits) -> Result<SearchRequest, ApiError> {
    let kind = ContentKind::of(request.headers());
    if matches!(kind, ContentKind::Json | ContentKind::Multipart) && !query.is_empty() {
        let detail = "the bounds stand in the body when it is not a bare image";
        return Err(ApiError::InvalidQuery(FieldError::new("query", detail)));
    }
    match kind {
        ContentKind::Json => {
            // May hold an image as base64.
            let body: SearchBody = parse(&read_body(request, limits.upload_bytes).await?, "")?;
            body.into_request(None, limits)
        }
        ContentKind::Multipart => {
            let parts = read_parts(request, limits.upload_bytes, 2, &["request", "image"]).await?;
            let (documents, mut images): (Vec<_>, Vec<_>) = parts.into_iter().partition(|p| p.name == "request");
            if documents.len() > 1 || images.len() > 1 {
                let field = if images.len() > 1 { "image" } else { "request" };
                let detail = "there may be only one part of this name";
                return Err(ApiError::InvalidMultipart(FieldError::new(field, detail)));
            }
            let body = documents.first().map_or_else(|| Ok(SearchBody::default()), |d| parse(&d.bytes, "request"))?;
            body.into_request(images.pop().map(|part| part.bytes), limits)
        }
        ContentKind::Image | ContentKind::Form | ContentKind::NdJson | ContentKind::Other => {
            query.with_image(image_bytes(request, limits, EXPECTED).await?, limits)
        }
    }
}
