//! What is searched with? A picture, an item, a vector or words, and how much it counts.

use bytes::Bytes;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::problem::ApiError;
use crate::api::wire::item::decode_base64;
use crate::domain::ItemId;
use crate::engine::{Example, WeightedExample};

const MAX_TEXT_BYTES: usize = 1_000;
const MAX_WEIGHT: f32 = 1_000.0;

/// An example: one of `item_id`, `text`, `image_base64`, `image_part` and `embedding`.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SearchExample)]
pub(in crate::api) struct ExampleBody {
    /// An item of the catalogue. It is not found itself.
    #[schema(value_type = Option<String>, examples("film-42"))]
    pub(in crate::api) item_id: Option<ItemId>,
    /// In what items are to be like this one; in their pictures if left out.
    pub(in crate::api) by: Option<LikenessBody>,
    /// Words, matched with titles, tags, categories and descriptions.
    pub(in crate::api) text: Option<String>,
    /// A picture: base64 of a JPEG, PNG, WebP, GIF or BMP file.
    pub(in crate::api) image_base64: Option<String>,
    /// A picture: the number, from 0, of a part `image` of a multipart request.
    pub(in crate::api) image_part: Option<usize>,
    /// A vector of the model that serves (see `/readyz`), of any length but zero.
    pub(in crate::api) embedding: Option<Vec<f32>>,
    /// How much it counts beside the others, above 0 and at most 1,000; 1 if left out.
    pub(in crate::api) weight: Option<f32>,
}

/// In what items are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Likeness)]
pub(in crate::api) enum LikenessBody {
    /// In their pictures.
    #[default]
    Image,
    /// In title, tags, categories and description.
    Metadata,
    /// In who turns to them: the same sessions.
    Engagement,
    /// In pictures and metadata, half and half; an item that lacks one of them is compared in the other.
    Mixed,
}

impl ExampleBody {
    /// Checks that it is one thing. `place` is its name on the wire, `parts` are the pictures beside the JSON; those that
    /// are used are marked in `used`.
    pub(super) fn into_examples(
        self,
        place: &str,
        parts: &[Bytes],
        used: &mut [bool],
    ) -> Result<Vec<WeightedExample>, ApiError> {
        let refuse = |field: &str, detail: String| Err(ApiError::field(format!("{place}.{field}"), detail));
        let weight = self.weight.unwrap_or(1.0);
        if !(weight > 0.0 && weight <= MAX_WEIGHT) {
            return refuse("weight", format!("must be above 0 and at most {MAX_WEIGHT}"));
        }
        if self.by.is_some() && self.item_id.is_none() {
            return refuse("by", "belongs to `item_id`".into());
        }
        let example = match (self.item_id, self.text, self.image_base64, self.image_part, self.embedding) {
            (Some(id), None, None, None, None) => {
                return Ok(like_item(&id, self.by.unwrap_or_default(), weight, place));
            }
            (None, Some(text), None, None, None) => words(text, &format!("{place}.text"))?,
            (None, None, Some(text), None, None) => inline_image(&text, &format!("{place}.image_base64"))?,
            (None, None, None, Some(part), None) => match (parts.get(part), used.get_mut(part)) {
                (Some(bytes), Some(used)) => {
                    *used = true;
                    Example::Image(bytes.clone())
                }
                _ => return refuse("image_part", format!("there are {} parts `image`, from 0", parts.len())),
            },
            (None, None, None, None, Some(values)) => Example::Embedding(values),
            _ => {
                let detail = "needs exactly one of `item_id`, `text`, `image_base64`, `image_part` and `embedding`";
                return Err(ApiError::field(place, detail));
            }
        };
        Ok(vec![WeightedExample { example, weight, place: place.to_owned(), required: true }])
    }
}

/// The examples that an item is.
pub(super) fn like_item(id: &ItemId, by: LikenessBody, weight: f32, place: &str) -> Vec<WeightedExample> {
    let one = |example: fn(ItemId) -> Example, weight, required| WeightedExample {
        example: example(id.clone()),
        weight,
        place: place.to_owned(),
        required,
    };
    match by {
        LikenessBody::Image => vec![one(Example::Item, weight, true)],
        LikenessBody::Metadata => vec![one(Example::ItemWords, weight, true)],
        LikenessBody::Engagement => vec![one(Example::ItemAudience, weight, true)],
        LikenessBody::Mixed => {
            vec![one(Example::Item, weight / 2.0, false), one(Example::ItemWords, weight / 2.0, false)]
        }
    }
}

/// Words to search for.
pub(super) fn words(text: String, field: &str) -> Result<Example, ApiError> {
    if text.trim().is_empty() || text.len() > MAX_TEXT_BYTES {
        return Err(ApiError::field(field, format!("must have 1 to {MAX_TEXT_BYTES} bytes")));
    }
    Ok(Example::Text(text))
}

/// A picture to search for.
pub(super) fn inline_image(text: &str, field: &str) -> Result<Example, ApiError> {
    decode_base64(text).map(Example::Image).ok_or_else(|| ApiError::field(field, "must be base64"))
}
