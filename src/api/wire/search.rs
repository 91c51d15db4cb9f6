//! How is something searched for, and what is found?

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::FilterBody;
use super::item::decode_base64;
use super::recommend::milliseconds;
use crate::api::options::Limits;
use crate::api::problem::ApiError;
use crate::domain::{Filter, ItemId};
use crate::engine::{Query, SearchAnswer, SearchRequest};

const DEFAULT_HITS: usize = 10;
const MAX_TEXT_BYTES: usize = 1_000;

/// Asks for items that look (or read) like the query: one of `item_id`, `text` and `image_base64`, or the part
/// `image` of a multipart request.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SearchRequest)]
pub(in crate::api) struct SearchBody {
    /// Items that look like this one.
    #[schema(value_type = Option<String>)]
    pub(in crate::api) item_id: Option<ItemId>,
    /// Items with these words in title, tags, categories or description.
    pub(in crate::api) text: Option<String>,
    /// Items that look like this picture: base64 of a JPEG, PNG, WebP, GIF or BMP file.
    pub(in crate::api) image_base64: Option<String>,
    /// How many items; 10 if left out.
    pub(in crate::api) limit: Option<usize>,
    /// Which items may be answered.
    pub(in crate::api) filter: Option<FilterBody>,
    /// Leave out items whose score is lower.
    pub(in crate::api) score_threshold: Option<f32>,
}

/// The same beside a raw image.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct SearchQuery {
    /// How many items; 10 if left out.
    pub(in crate::api) limit: Option<usize>,
    /// Which items may be answered: a `Filter` as JSON.
    pub(in crate::api) filter: Option<String>,
    /// Leave out items whose score is lower.
    pub(in crate::api) score_threshold: Option<f32>,
}

/// Bounds for items like a given one.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct SimilarQuery {
    /// How many items; 10 if left out.
    pub(in crate::api) limit: Option<usize>,
    /// Which items may be answered: a `Filter` as JSON.
    pub(in crate::api) filter: Option<String>,
}

/// Checks the bounds that every search has.
fn bounded(
    query: Query,
    limit: Option<usize>,
    filter: Filter,
    score_threshold: Option<f32>,
    limits: &Limits,
) -> Result<SearchRequest, ApiError> {
    let limit = limit.unwrap_or(DEFAULT_HITS);
    if limit == 0 || limit > limits.list_items {
        return Err(ApiError::field("limit", format!("must be 1 to {}", limits.list_items)));
    }
    if score_threshold.is_some_and(|t| !t.is_finite()) {
        return Err(ApiError::field("score_threshold", "must be a finite number"));
    }
    Ok(SearchRequest { query, limit, filter, score_threshold })
}

impl SearchQuery {
    /// A search by the picture that is the request's body.
    pub(in crate::api) fn with_image(self, image: Bytes, limits: &Limits) -> Result<SearchRequest, ApiError> {
        let filter = FilterBody::from_query(self.filter.as_deref())?;
        bounded(Query::Image(image), self.limit, filter, self.score_threshold, limits)
    }

    /// Whether nothing was asked for.
    pub(in crate::api) fn is_empty(&self) -> bool {
        self.limit.is_none() && self.filter.is_none() && self.score_threshold.is_none()
    }
}

impl SimilarQuery {
    /// A search by an item's own pictures.
    pub(in crate::api) fn with_item(self, item: ItemId, limits: &Limits) -> Result<SearchRequest, ApiError> {
        let filter = FilterBody::from_query(self.filter.as_deref())?;
        bounded(Query::Item(item), self.limit, filter, None, limits)
    }
}

impl SearchBody {
    /// Checks that there is exactly one query. `image` is one that came beside the JSON.
    pub(in crate::api) fn into_request(self, image: Option<Bytes>, limits: &Limits) -> Result<SearchRequest, ApiError> {
        let query = match (self.item_id, self.text, self.image_base64, image) {
            (Some(item), None, None, None) => Query::Item(item),
            (None, Some(text), None, None) if text.trim().is_empty() || text.len() > MAX_TEXT_BYTES => {
                return Err(ApiError::field("text", format!("must have 1 to {MAX_TEXT_BYTES} bytes")));
            }
            (None, Some(text), None, None) => Query::Text(text),
            (None, None, Some(text), None) => {
                let bytes = decode_base64(&text).ok_or_else(|| ApiError::field("image_base64", "must be base64"))?;
                Query::Image(bytes)
            }
            (None, None, None, Some(image)) => Query::Image(image),
            _ => {
                let detail = "needs exactly one of `item_id`, `text` and `image_base64` (or an image part)";
                return Err(ApiError::field("body", detail));
            }
        };
        let filter = self.filter.map_or_else(|| Ok(Filter::default()), FilterBody::into_filter)?;
        bounded(query, self.limit, filter, self.score_threshold, limits)
    }
}

/// What was found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchAnswer)]
pub(in crate::api) struct SearchAnswerBody {
    /// Best first.
    items: Vec<HitAnswer>,
    /// Milliseconds from the request's arrival to this answer.
    took_ms: f64,
}

/// An item that was found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Hit)]
pub(in crate::api) struct HitAnswer {
    /// The item.
    #[schema(value_type = String)]
    item_id: ItemId,
    /// Cosine similarity for pictures, a tf-idf score for words.
    score: f32,
    /// 1 for the best.
    rank: usize,
}

impl From<SearchAnswer> for SearchAnswerBody {
    fn from(answer: SearchAnswer) -> Self {
        let items = answer.hits.into_iter().zip(1..);
        Self {
            items: items.map(|(hit, rank)| HitAnswer { item_id: hit.item, score: hit.score, rank }).collect(),
            took_ms: milliseconds(answer.took),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::extract::from_value;

    fn read(body: serde_json::Value, image: Option<&'static [u8]>) -> Result<SearchRequest, ApiError> {
        from_value::<SearchBody>(body, "")?.into_request(image.map(Bytes::from_static), &Limits::default())
    }

    #[test]
    fn there_is_exactly_one_query() {
        assert!(matches!(read(json!({"item_id": "a"}), None).unwrap().query, Query::Item(_)));
        assert!(matches!(read(json!({"text": "sea"}), None).unwrap().query, Query::Text(_)));
        assert!(matches!(read(json!({"image_base64": "aGk="}), None).unwrap().query, Query::Image(b) if b == "hi"));
        let by_part = read(json!({"limit": 3, "score_threshold": 0.5}), Some(b"jpeg")).unwrap();
        assert_eq!((by_part.limit, by_part.score_threshold), (3, Some(0.5)));
        for body in [json!({}), json!({"item_id": "a", "text": "b"})] {
            assert_eq!(read(body, None).unwrap_err().fields()[0].field, "body");
        }
        assert!(read(json!({"item_id": "a"}), Some(b"jpeg")).is_err());
    }

    #[test]
    fn bounds_are_checked() {
        for (body, field) in [
            (json!({"text": " "}), "text"),
            (json!({"text": "a", "limit": 0}), "limit"),
            (json!({"text": "a", "limit": 100_000}), "limit"),
            (json!({"image_base64": "%"}), "image_base64"),
        ] {
            assert_eq!(read(body, None).unwrap_err().fields()[0].field, field);
        }
        let similar = SimilarQuery { limit: None, filter: Some("[".into()) };
        assert_eq!(similar.with_item(ItemId::new("a").unwrap(), &Limits::default()).unwrap_err().kind().0, 400);
    }
}
