//! Items, one at a time: written, patched, read, deleted, compared.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use bytes::Bytes;
use http::{StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::events::WaitQuery;
use crate::api::extract::{ContentKind, Part, Path, Query, parse, read_body, read_parts};
use crate::api::options::Limits;
use crate::api::problem::{ApiError, FieldError, Problem};
use crate::api::state::AppState;
use crate::api::wire::{
    Asked, ItemAnswer, ItemBody, ItemPageAnswer, ItemReceiptAnswer, SearchAnswerBody, SimilarQuery, patched, write_of,
};
use crate::domain::ItemId;
use crate::engine::{EngineError, ItemReceipt};

const DEFAULT_PAGE: usize = 100;

/// The item that a path names.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::api) struct ItemPath {
    /// The owner's id, percent-encoded.
    #[param(value_type = String)]
    item_id: ItemId,
}

/// A picture of an item.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::api) struct ImagePath {
    /// The owner's id, percent-encoded.
    #[param(value_type = String)]
    item_id: ItemId,
    /// The number of the picture, from 0.
    n: usize,
}

/// A place in the catalogue.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct PageQuery {
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// Items on the page, 1 to 1,000; 100 if left out.
    limit: Option<usize>,
}

/// An item with its pictures as parts.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a multipart body, which is read part by part")]
pub(in crate::api) struct ItemUpload {
    /// The item as JSON.
    item: ItemBody,
    /// Up to 16 pictures; without one the item keeps those that it has.
    #[schema(value_type = Option<Vec<String>>, format = Binary)]
    image: Option<Vec<Vec<u8>>>,
}

/// Changes to an item, with its new pictures as parts.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a multipart body, which is read part by part")]
pub(in crate::api) struct ItemPatchUpload {
    /// A merge patch (RFC 7396) of the item.
    #[schema(value_type = Option<Object>)]
    item: Option<Value>,
    /// Up to 16 pictures; without one the item keeps those that it has.
    #[schema(value_type = Option<Vec<String>>, format = Binary)]
    image: Option<Vec<Vec<u8>>>,
}

/// Write an item, whole
///
/// Without pictures in the request the item keeps those that it has. With `wait=false` the answer, 202, comes before the
/// item is durable: a crash within the next commit, or a full disk, can lose it.
#[utoipa::path(put, path = "/v1/items/{item_id}", tag = "items", params(ItemPath, WaitQuery),
    request_body(content((ItemBody = "application/json"), (ItemUpload = "multipart/form-data"))),
    responses((status = 200, description = "replaced", body = ItemReceiptAnswer),
        (status = 201, description = "created", body = ItemReceiptAnswer),
        (status = 202, description = "with `wait=false`: it has its place in the queue", body = ItemReceiptAnswer),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn put_item(
    State(state): State<AppState>,
    Path(ItemPath { item_id }): Path<ItemPath>,
    Query(WaitQuery { wait }): Query<WaitQuery>,
    request: Request,
) -> Result<(StatusCode, Json<ItemReceiptAnswer>), ApiError> {
    let limits = &state.options.limits;
    let upload = Upload::read(request, limits).await?;
    let document = upload.document.ok_or_else(|| {
        ApiError::InvalidMultipart(FieldError::new("item", "the part with the item's JSON is missing"))
    })?;
    let body: ItemBody = parse(&document, "")?;
    let write = write_of(body, Some(&item_id), upload.images, limits.item_images)?;
    let wait = wait.unwrap_or(true);
    let receipt = state.engine.put_item(write, wait).await?;
    Ok(receipt_answer(item_id, receipt, wait))
}

/// Change some fields of an item, or its pictures
///
/// The JSON is a merge patch (RFC 7396): `null` clears a field. Pictures, if there are any, replace all of the item's.
#[utoipa::path(patch, path = "/v1/items/{item_id}", tag = "items", params(ItemPath, WaitQuery),
    request_body(content((Object = "application/merge-patch+json"), (Object = "application/json"),
        (ItemPatchUpload = "multipart/form-data"))),
    responses((status = 200, description = "changed", body = ItemReceiptAnswer),
        (status = 202, description = "with `wait=false`: it has its place in the queue", body = ItemReceiptAnswer),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn patch_item(
    State(state): State<AppState>,
    Path(ItemPath { item_id }): Path<ItemPath>,
    Query(WaitQuery { wait }): Query<WaitQuery>,
    request: Request,
) -> Result<(StatusCode, Json<ItemReceiptAnswer>), ApiError> {
    let limits = &state.options.limits;
    let upload = Upload::read(request, limits).await?;
    let patch: Value =
        upload.document.map_or_else(|| Ok(Value::Object(Default::default())), |text| parse(&text, ""))?;
    let _alone = state.patching(&item_id).await;
    let current = state.engine.item(&item_id).ok_or_else(|| EngineError::UnknownItem(item_id.clone()))?;
    let write = write_of(patched(&current.item, patch)?, Some(&item_id), upload.images, limits.item_images)?;
    let wait = wait.unwrap_or(true);
    let receipt = state.engine.put_item(write, wait).await?;
    Ok(receipt_answer(item_id, receipt, wait))
}

fn receipt_answer(item_id: ItemId, receipt: ItemReceipt, wait: bool) -> (StatusCode, Json<ItemReceiptAnswer>) {
    let ItemReceipt { created, images } = receipt;
    let status = match (wait, created) {
        (false, _) => StatusCode::ACCEPTED,
        (true, true) => StatusCode::CREATED,
        (true, false) => StatusCode::OK,
    };
    (status, Json(ItemReceiptAnswer { item_id, created, images }))
}

/// Read an item
#[utoipa::path(get, path = "/v1/items/{item_id}", tag = "items", params(ItemPath),
    responses((status = 200, description = "the item", body = ItemAnswer),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn get_item(
    State(state): State<AppState>,
    Path(ItemPath { item_id }): Path<ItemPath>,
) -> Result<Json<ItemAnswer>, ApiError> {
    let view = state.engine.item(&item_id).ok_or(EngineError::UnknownItem(item_id))?;
    Ok(Json(view.into()))
}

/// Delete an item
#[utoipa::path(delete, path = "/v1/items/{item_id}", tag = "items", params(ItemPath),
    responses((status = 204, description = "deleted"),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn delete_item(
    State(state): State<AppState>,
    Path(ItemPath { item_id }): Path<ItemPath>,
) -> Result<StatusCode, ApiError> {
    if state.engine.delete_item(&item_id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(EngineError::UnknownItem(item_id).into())
    }
}

/// List the catalogue
#[utoipa::path(get, path = "/v1/items", tag = "items", params(PageQuery),
    responses((status = 200, description = "a page, in the order of the ids", body = ItemPageAnswer),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn list_items(
    State(state): State<AppState>,
    Query(query): Query<PageQuery>,
) -> Result<Json<ItemPageAnswer>, ApiError> {
    let bad = |field, detail: String| ApiError::InvalidQuery(FieldError::new(field, detail));
    let limit = query.limit.unwrap_or(DEFAULT_PAGE);
    let most = state.options.limits.list_items;
    if limit == 0 || limit > most {
        return Err(bad("limit", format!("must be 1 to {most}")));
    }
    let from = match &query.cursor {
        Some(cursor) => Some(
            ItemPageAnswer::from_cursor(cursor)
                .ok_or_else(|| bad("cursor", "is not one that this service made".into()))?,
        ),
        None => None,
    };
    Ok(Json(state.engine.items(from.as_ref(), limit).into()))
}

/// Read a thumbnail of an item's picture
#[utoipa::path(get, path = "/v1/items/{item_id}/images/{n}", tag = "items", params(ImagePath),
    responses((status = 200, description = "a JPEG", body = Vec<u8>, content_type = "image/jpeg"),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn get_image(
    State(state): State<AppState>,
    Path(ImagePath { item_id, n }): Path<ImagePath>,
) -> Result<impl IntoResponse, ApiError> {
    let jpeg = state.engine.item_image(&item_id, n)?.ok_or(ApiError::NotFound("image"))?;
    Ok(([(header::CONTENT_TYPE, "image/jpeg"), (header::CACHE_CONTROL, "private, max-age=300")], jpeg))
}

/// Find items like an item: in looks, in words, in who turns to them
#[utoipa::path(get, path = "/v1/items/{item_id}/similar", tag = "search", params(ItemPath, SimilarQuery),
    responses((status = 200, description = "the most similar first", body = SearchAnswerBody),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn similar_items(
    State(state): State<AppState>,
    Path(ItemPath { item_id }): Path<ItemPath>,
    Query(query): Query<SimilarQuery>,
) -> Result<Json<SearchAnswerBody>, ApiError> {
    let Asked { request, with } = query.with_item(&item_id, &state.options.limits)?;
    let offset = request.offset;
    Ok(Json(SearchAnswerBody::new(state.engine.search(request).await?, offset, &with)))
}

/// JSON, or JSON and pictures as parts.
struct Upload {
    document: Option<Bytes>,
    images: Option<Vec<Bytes>>,
}

impl Upload {
    async fn read(request: Request, limits: &Limits) -> Result<Self, ApiError> {
        match ContentKind::of(request.headers()) {
            ContentKind::Json => {
                let document = read_body(request, limits.upload_bytes).await?;
                Ok(Self { document: Some(document), images: None })
            }
            ContentKind::Multipart => {
                let names = ["item", "image"];
                Self::of_parts(read_parts(request, limits.upload_bytes, limits.item_images + 1, &names).await?, limits)
            }
            ContentKind::NdJson | ContentKind::Image | ContentKind::Form | ContentKind::Other => {
                Err(ApiError::UnsupportedMediaType { expected: "application/json or multipart/form-data" })
            }
        }
    }

    fn of_parts(parts: Vec<Part>, limits: &Limits) -> Result<Self, ApiError> {
        let (mut documents, images): (Vec<Part>, Vec<Part>) = parts.into_iter().partition(|part| part.name == "item");
        let fail = |field, detail: String| Err(ApiError::InvalidMultipart(FieldError::new(field, detail)));
        if documents.len() > 1 {
            return fail("item", "there may be only one part of this name".into());
        }
        if images.len() > limits.item_images {
            return fail("image", format!("an item may have at most {} images", limits.item_images));
        }
        let images = (!images.is_empty()).then(|| images.into_iter().map(|part| part.bytes).collect());
        Ok(Self { document: documents.pop().map(|part| part.bytes), images })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str) -> Part {
        Part { name: name.into(), bytes: Bytes::from(name.to_owned()) }
    }

    #[test]
    fn parts_are_sorted_and_counted() {
        let limits = Limits { item_images: 2, ..Limits::default() };
        let upload = Upload::of_parts(vec![part("image"), part("item"), part("image")], &limits).unwrap();
        assert_eq!((upload.document.unwrap().as_ref(), upload.images.unwrap().len()), (b"item".as_slice(), 2));
        let only_json = Upload::of_parts(vec![part("item")], &limits).unwrap();
        assert!(only_json.images.is_none(), "no image part keeps the pictures");
        assert!(Upload::of_parts(vec![part("item"), part("item")], &limits).is_err());
        assert!(Upload::of_parts(vec![part("image"), part("image"), part("image")], &limits).is_err());
    }
}
