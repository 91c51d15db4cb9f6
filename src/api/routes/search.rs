//! Search: pictures, items, vectors and words in, items out.

use axum::Json;
use axum::extract::{Request, State};
use utoipa::ToSchema;

use crate::api::extract::{ContentKind, Query, image_bytes, parse, read_body, read_parts};
use crate::api::options::Limits;
use crate::api::problem::{ApiError, FieldError, Problem};
use crate::api::state::AppState;
use crate::api::wire::{Asked, SearchAnswerBody, SearchBody, SearchQuery};

const EXPECTED: &str = "an image (image/…), application/json or multipart/form-data";

/// Pictures and what to do with them, as parts.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a multipart body, which is read part by part")]
pub(in crate::api) struct SearchUpload {
    /// The rest of the search as JSON; may be left out.
    request: Option<SearchBody>,
    /// Up to 16 pictures. Each is a positive example, unless the JSON names it by its number (`image_part`).
    #[schema(value_type = Vec<String>, format = Binary)]
    image: Vec<Vec<u8>>,
}

/// Find items by pictures, items, vectors and words
///
/// The body is an image (then the rest stands in the query string), JSON, or multipart with parts `image` and perhaps
/// `request`. Examples are taken together: those to look for, those to keep away from, each with its weight.
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
    let Asked { request, with } = read(query, request, &state.options.limits).await?;
    let offset = request.offset;
    Ok(Json(SearchAnswerBody::new(state.engine.search(request).await?, offset, &with)))
}

async fn read(query: SearchQuery, request: Request, limits: &Limits) -> Result<Asked, ApiError> {
    let kind = ContentKind::of(request.headers());
    if matches!(kind, ContentKind::Json | ContentKind::Multipart) && !query.is_empty() {
        let detail = "the bounds stand in the body when it is not a bare image";
        return Err(ApiError::InvalidQuery(FieldError::new("query", detail)));
    }
    match kind {
        ContentKind::Json => {
            // May hold an image as base64.
            let body: SearchBody = parse(&read_body(request, limits.upload_bytes).await?, "")?;
            body.into_asked(&[], limits)
        }
        ContentKind::Multipart => {
            let parts = read_parts(request, limits.upload_bytes, limits.item_images + 1, &["request", "image"]).await?;
            let (documents, images): (Vec<_>, Vec<_>) = parts.into_iter().partition(|p| p.name == "request");
            if documents.len() > 1 {
                let detail = "there may be only one part of this name";
                return Err(ApiError::InvalidMultipart(FieldError::new("request", detail)));
            }
            let body = documents.first().map_or_else(|| Ok(SearchBody::default()), |d| parse(&d.bytes, "request"))?;
            let images: Vec<_> = images.into_iter().map(|part| part.bytes).collect();
            body.into_asked(&images, limits)
        }
        ContentKind::Image | ContentKind::Form | ContentKind::NdJson | ContentKind::Other => {
            query.with_image(image_bytes(request, limits, EXPECTED).await?, limits)
        }
    }
}
