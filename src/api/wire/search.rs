//! How is something searched for?

mod example;
mod hit;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use self::example::{ExampleBody, LikenessBody};
pub(in crate::api) use self::hit::{SearchAnswerBody, WithField};
use super::recommend::{model_weights, word};
use super::{FilterBody, Rfc3339};
use crate::api::options::Limits;
use crate::api::problem::ApiError;
use crate::domain::{Filter, ItemId};
use crate::engine::{AvailableAt, Example, Fusion, SearchRequest, Strategy, WeightedExample};

const DEFAULT_HITS: usize = 10;
/// Examples of a request, good and bad together.
const MAX_EXAMPLES: usize = 32;

/// Asks for items that look (or read) like examples.
///
/// One example stands in `item_id`, `text` or `image_base64`, or is the part `image` of a multipart request; more of them,
/// with weights, and ones to keep away from, stand in `positive` and `negative`. All that are there count together.
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
    /// What to look for; at most 32 examples together with `negative`.
    #[serde(default)]
    pub(in crate::api) positive: Vec<ExampleBody>,
    /// What to keep away from.
    #[serde(default)]
    pub(in crate::api) negative: Vec<ExampleBody>,
    /// How several pictures become one likeness; `best_score` if left out.
    pub(in crate::api) strategy: Option<StrategyBody>,
    /// How pictures and words become one score; `weighted` if left out.
    pub(in crate::api) fusion: Option<FusionBody>,
    /// How many hits; 10 if left out.
    pub(in crate::api) limit: Option<usize>,
    /// How many of the best hits to leave out, for further pages; `offset` and `limit` together reach to 5,000.
    pub(in crate::api) offset: Option<usize>,
    /// Which items may be answered.
    pub(in crate::api) filter: Option<FilterBody>,
    /// Only items that are available at this moment: `now`, or a time as RFC 3339. If left out, availability is not
    /// looked at.
    #[schema(examples("now", "2026-01-31T18:30:00Z"))]
    pub(in crate::api) available_at: Option<String>,
    /// Only items that may be shown in this region.
    pub(in crate::api) region: Option<String>,
    /// Leave out hits whose score is lower.
    pub(in crate::api) score_threshold: Option<f32>,
    /// Whether an item is one hit, as its best picture; `true` if left out. With `false` each picture is a hit.
    pub(in crate::api) group: Option<bool>,
    /// What each model counts where several are in use, by name; those that are not named do not count. As the settings
    /// say if left out.
    #[serde(default)]
    pub(in crate::api) model_weights: BTreeMap<String, f32>,
    /// Whether to say what each example contributed to a score.
    #[serde(default)]
    pub(in crate::api) explain: bool,
    /// What of the items comes with the hits.
    #[serde(default)]
    pub(in crate::api) with: Vec<WithField>,
}

/// How several pictures become one likeness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SearchStrategy)]
pub(in crate::api) enum StrategyBody {
    /// A picture scores its greatest cosine with a positive example, each cosine times the example's weight over the
    /// greatest weight; if a negative example is as near or nearer, minus the square of that cosine.
    BestScore,
    /// A picture scores its cosine with twice the mean of the positive examples less the mean of the negative ones.
    AverageVector,
}

/// How pictures and words become one score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SearchFusion)]
pub(in crate::api) enum FusionBody {
    /// The weighted mean of the likeness of pictures and of each text's score.
    Weighted,
    /// Reciprocal rank fusion: the sum, over the rankings by pictures and by each text, of weight ÷ (60 + place).
    Rrf,
}

/// The same beside a raw image.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct SearchQuery {
    /// How many hits; 10 if left out.
    pub(in crate::api) limit: Option<usize>,
    /// How many of the best hits to leave out.
    pub(in crate::api) offset: Option<usize>,
    /// Which items may be answered: a `Filter` as JSON.
    pub(in crate::api) filter: Option<String>,
    /// Only items that are available at this moment: `now`, or a time as RFC 3339.
    pub(in crate::api) available_at: Option<String>,
    /// Only items that may be shown in this region.
    pub(in crate::api) region: Option<String>,
    /// Leave out hits whose score is lower.
    pub(in crate::api) score_threshold: Option<f32>,
    /// Whether an item is one hit; with `false` each of its pictures is one.
    pub(in crate::api) group: Option<bool>,
    /// What each model counts where several are in use, for example `appearance:1,efficientnet-lite0-160:0.5`; those that are
    /// not named do not count.
    pub(in crate::api) model_weights: Option<String>,
    /// Whether to say what the score is made of.
    pub(in crate::api) explain: Option<bool>,
    /// What of the items comes with the hits, for example `title,tags,thumbnail`.
    pub(in crate::api) with: Option<String>,
}

/// Bounds for items like a given one.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct SimilarQuery {
    /// In what they are to be alike; in their pictures if left out.
    #[param(inline)]
    pub(in crate::api) by: Option<LikenessBody>,
    /// How many hits; 10 if left out.
    pub(in crate::api) limit: Option<usize>,
    /// How many of the best hits to leave out.
    pub(in crate::api) offset: Option<usize>,
    /// Which items may be answered: a `Filter` as JSON.
    pub(in crate::api) filter: Option<String>,
    /// Only items that are available at this moment: `now`, or a time as RFC 3339.
    pub(in crate::api) available_at: Option<String>,
    /// Only items that may be shown in this region.
    pub(in crate::api) region: Option<String>,
    /// Leave out hits whose score is lower.
    pub(in crate::api) score_threshold: Option<f32>,
    /// Whether an item is one hit; with `false` each of its pictures is one.
    pub(in crate::api) group: Option<bool>,
    /// What each model counts where several are in use, for example `appearance:1,efficientnet-lite0-160:0.5`; those that are
    /// not named do not count.
    pub(in crate::api) model_weights: Option<String>,
    /// Whether to say what the score is made of.
    pub(in crate::api) explain: Option<bool>,
    /// What of the items comes with the hits, for example `title,tags,thumbnail`.
    pub(in crate::api) with: Option<String>,
}

/// A search, and what of the items its answer shows.
#[derive(Debug)]
pub(in crate::api) struct Asked {
    pub(in crate::api) request: SearchRequest,
    pub(in crate::api) with: Vec<WithField>,
}

impl SearchQuery {
    /// A search by the picture that is the request's body.
    pub(in crate::api) fn with_image(self, image: Bytes, limits: &Limits) -> Result<Asked, ApiError> {
        let example = WeightedExample::of(Example::Image(image), "image");
        self.into_asked(vec![example], limits)
    }

    /// Whether nothing was asked for.
    pub(in crate::api) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn into_asked(self, positive: Vec<WeightedExample>, limits: &Limits) -> Result<Asked, ApiError> {
        let filter = FilterBody::from_query(self.filter.as_deref())?;
        let with = WithField::from_query(self.with.as_deref())?;
        let bounds = SearchBody {
            limit: self.limit,
            offset: self.offset,
            available_at: self.available_at,
            region: self.region,
            score_threshold: self.score_threshold,
            group: self.group,
            model_weights: model_weights(self.model_weights.as_deref())?,
            explain: self.explain.unwrap_or_default(),
            ..SearchBody::default()
        };
        Ok(Asked { request: SearchRequest { positive, filter, ..bounds.bounded(limits)? }, with })
    }
}

impl SimilarQuery {
    /// A search by an item.
    pub(in crate::api) fn with_item(self, item: &ItemId, limits: &Limits) -> Result<Asked, ApiError> {
        let examples = example::like_item(item, self.by.unwrap_or_default(), 1.0, "item_id");
        let bounds = SearchQuery {
            limit: self.limit,
            offset: self.offset,
            filter: self.filter,
            available_at: self.available_at,
            region: self.region,
            score_threshold: self.score_threshold,
            group: self.group,
            model_weights: self.model_weights,
            explain: self.explain,
            with: self.with,
        };
        bounds.into_asked(examples, limits)
    }
}

impl SearchBody {
    /// Checks every field. `images` came beside the JSON; those that no example names are positive examples.
    pub(in crate::api) fn into_asked(mut self, images: &[Bytes], limits: &Limits) -> Result<Asked, ApiError> {
        let mut positive = Vec::new();
        if let Some(item) = self.item_id.take() {
            positive.extend(example::like_item(&item, LikenessBody::Image, 1.0, "item_id"));
        }
        if let Some(text) = self.text.take() {
            positive.push(WeightedExample::of(example::words(text, "text")?, "text"));
        }
        if let Some(text) = self.image_base64.take() {
            positive.push(WeightedExample::of(example::inline_image(&text, "image_base64")?, "image_base64"));
        }
        let (listed, unwanted) = (std::mem::take(&mut self.positive), std::mem::take(&mut self.negative));
        if listed.len() + unwanted.len() > MAX_EXAMPLES {
            let field = if listed.len() > MAX_EXAMPLES { "positive" } else { "negative" };
            return Err(ApiError::field(field, format!("there may be at most {MAX_EXAMPLES} examples")));
        }
        let mut used = vec![false; images.len()];
        let mut read = |name: &str, list: Vec<ExampleBody>| -> Result<Vec<WeightedExample>, ApiError> {
            let each = list.into_iter().enumerate();
            let read = each.map(|(n, body)| body.into_examples(&format!("{name}[{n}]"), images, &mut used));
            Ok(read.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        };
        let (listed, negative) = (read("positive", listed)?, read("negative", unwanted)?);
        positive.extend(listed);
        for (n, image) in images.iter().enumerate().filter(|&(n, _)| !used[n]) {
            let place = if images.len() == 1 { "image".to_owned() } else { format!("image[{n}]") };
            positive.push(WeightedExample::of(Example::Image(image.clone()), &place));
        }
        if positive.is_empty() && negative.is_empty() {
            let detail =
                "needs at least one of `item_id`, `text`, `image_base64`, `positive` and `negative` (or an image part)";
            return Err(ApiError::field("body", detail));
        }
        let pictures =
            |examples: &[WeightedExample]| examples.iter().filter(|e| matches!(e.example, Example::Image(_))).count();
        if pictures(&positive) + pictures(&negative) > limits.item_images {
            return Err(ApiError::field("body", format!("may have at most {} pictures", limits.item_images)));
        }
        let filter = self.filter.take().map_or_else(|| Ok(Filter::default()), FilterBody::into_filter)?;
        let with = std::mem::take(&mut self.with);
        Ok(Asked { request: SearchRequest { positive, negative, filter, ..self.bounded(limits)? }, with })
    }

    /// Checks what every search has: all but the examples and the filter.
    fn bounded(self, limits: &Limits) -> Result<SearchRequest, ApiError> {
        let limit = self.limit.unwrap_or(DEFAULT_HITS);
        if limit == 0 || limit > limits.list_items {
            return Err(ApiError::field("limit", format!("must be 1 to {}", limits.list_items)));
        }
        if self.score_threshold.is_some_and(|t| !t.is_finite()) {
            return Err(ApiError::field("score_threshold", "must be a finite number"));
        }
        let available_at = match self.available_at {
            None => AvailableAt::Whenever,
            Some(text) if text == "now" => AvailableAt::Now,
            Some(text) => match serde_json::from_value::<Rfc3339>(text.into()) {
                Ok(Rfc3339(at)) => AvailableAt::Then(at),
                Err(error) => return Err(ApiError::field("available_at", format!("{error}, or `now`"))),
            },
        };
        Ok(SearchRequest {
            positive: Vec::new(),
            negative: Vec::new(),
            strategy: self.strategy.map(Into::into).unwrap_or_default(),
            fusion: self.fusion.map(Into::into).unwrap_or_default(),
            limit,
            offset: self.offset.unwrap_or(0),
            filter: Filter::default(),
            available_at,
            region: word("region", self.region)?,
            score_threshold: self.score_threshold,
            each_image: self.group == Some(false),
            explain: self.explain,
            model_weights: self.model_weights,
        })
    }
}

impl From<StrategyBody> for Strategy {
    fn from(body: StrategyBody) -> Self {
        match body {
            StrategyBody::BestScore => Self::BestScore,
            StrategyBody::AverageVector => Self::AverageVector,
        }
    }
}

impl From<FusionBody> for Fusion {
    fn from(body: FusionBody) -> Self {
        match body {
            FusionBody::Weighted => Self::Weighted,
            FusionBody::Rrf => Self::Rrf,
        }
    }
}

#[cfg(test)]
mod tests;
