//! What is found, and how much of an item is shown?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::problem::ApiError;
use crate::api::wire::Rfc3339;
use crate::api::wire::item::{AttributeValue, thumbnail_url};
use crate::api::wire::recommend::milliseconds;
use crate::domain::ItemId;
use crate::engine::{Aspect, Hit, HitPart, SearchAnswer};

/// What of an item comes with a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = HitField)]
pub(in crate::api) enum WithField {
    /// A line to show.
    Title,
    /// A paragraph to show.
    Description,
    /// Free labels.
    Tags,
    /// Labels from the owner's own hierarchy.
    Categories,
    /// The regions it may be shown in.
    Regions,
    /// Playing time in seconds.
    DurationS,
    /// The least age in years at which it may be shown.
    AgeRating,
    /// Not to be shown before.
    AvailableFrom,
    /// Not to be shown from then on.
    AvailableUntil,
    /// Further fields.
    Attributes,
    /// Where the thumbnail of the picture that was found (else of the first one) is.
    Thumbnail,
}

impl WithField {
    /// Reads names that stand in a query string, separated by commas.
    pub(super) fn from_query(text: Option<&str>) -> Result<Vec<Self>, ApiError> {
        let names = text.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
        let read = |name: &str| {
            serde_json::from_value(name.into()).map_err(|error| ApiError::field("with", error.to_string()))
        };
        names.map(read).collect()
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

/// An item that was found, or with `group: false` one of its pictures.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Hit)]
pub(in crate::api) struct HitAnswer {
    /// The item.
    #[schema(value_type = String)]
    item_id: ItemId,
    /// How alike it is: cosine similarity (at most 1) for pictures, a share of the best possible score (0 to 1) for words,
    /// their weighted mean for both; with `fusion: "rrf"` the sum of weight ÷ (60 + place).
    score: f32,
    /// Its place among all hits: 1 for the best, `offset` + 1 for the first of this answer.
    rank: usize,
    /// The number of the item's picture that is most alike, from 0; left out where no pictures were compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<usize>,
    /// What was asked for by `with`.
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<HitItem>,
    /// What the score is made of; with `explain`. The contributions sum to the score.
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<Vec<PartAnswer>>,
}

/// What was asked for of an item.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(in crate::api) struct HitItem {
    /// A line to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    /// A paragraph to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// Free labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<String>>,
    /// Labels from the owner's own hierarchy.
    #[serde(skip_serializing_if = "Option::is_none")]
    categories: Option<Vec<String>>,
    /// The regions it may be shown in; none means everywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    regions: Option<Vec<String>>,
    /// Playing time in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_s: Option<f32>,
    /// The least age in years at which it may be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_rating: Option<u8>,
    /// Not to be shown before.
    #[serde(skip_serializing_if = "Option::is_none")]
    available_from: Option<Rfc3339>,
    /// Not to be shown from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    available_until: Option<Rfc3339>,
    /// Further fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<BTreeMap<String, AttributeValue>>,
    /// Where a thumbnail is, if the item has a picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    thumbnail: Option<String>,
}

/// What an example has to do with a hit.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HitPart)]
pub(in crate::api) struct PartAnswer {
    /// The example, by its name in the request; `images` for the ranking of all pictures with `fusion: "rrf"`.
    #[schema(examples("positive[0]"))]
    example: String,
    /// In what the two are alike.
    by: AspectAnswer,
    /// Cosine similarity for pictures, a share of the best possible score for words.
    similarity: f32,
    /// The place in this example's ranking; with `fusion: "rrf"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    rank: Option<usize>,
    /// What it adds to the score.
    contribution: f32,
}

/// In what an example and a hit are alike.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = HitAspect)]
pub(in crate::api) enum AspectAnswer {
    /// In pictures.
    Image,
    /// In title, tags, categories and description.
    Metadata,
    /// In who turns to them.
    Engagement,
}

impl From<Aspect> for AspectAnswer {
    fn from(aspect: Aspect) -> Self {
        match aspect {
            Aspect::Looks => Self::Image,
            Aspect::Words => Self::Metadata,
            Aspect::Audience => Self::Engagement,
        }
    }
}

impl SearchAnswerBody {
    /// The answer to a request that skipped `offset` hits and asked for these fields.
    pub(in crate::api) fn new(answer: SearchAnswer, offset: usize, with: &[WithField]) -> Self {
        let hits = answer.hits.into_iter().zip(offset + 1..);
        let items = hits.map(|(hit, rank)| HitAnswer {
            item: (!with.is_empty()).then(|| HitItem::of(&hit, with)),
            item_id: hit.item.id.clone(),
            score: hit.score,
            rank,
            image: hit.image,
            parts: hit.parts.map(|parts| parts.into_iter().map(Into::into).collect()),
        });
        Self { items: items.collect(), took_ms: milliseconds(answer.took) }
    }
}

impl HitItem {
    fn of(hit: &Hit, with: &[WithField]) -> Self {
        let item = &hit.item;
        let mut shown = Self::default();
        for field in with {
            match field {
                WithField::Title => shown.title = Some(item.title.clone()),
                WithField::Description => shown.description = Some(item.description.clone()),
                WithField::Tags => shown.tags = Some(item.tags.clone()),
                WithField::Categories => shown.categories = Some(item.categories.clone()),
                WithField::Regions => shown.regions = Some(item.regions.clone()),
                WithField::DurationS => shown.duration_s = item.duration_s,
                WithField::AgeRating => shown.age_rating = item.age_rating,
                WithField::AvailableFrom => shown.available_from = item.available_from.map(Rfc3339),
                WithField::AvailableUntil => shown.available_until = item.available_until.map(Rfc3339),
                WithField::Attributes => {
                    let attributes = item.attributes.iter().map(|(name, value)| (name.clone(), value.into()));
                    shown.attributes = Some(attributes.collect());
                }
                WithField::Thumbnail => {
                    let image = hit.image.unwrap_or(0);
                    shown.thumbnail = (image < hit.images).then(|| thumbnail_url(&item.id, image));
                }
            }
        }
        shown
    }
}

impl From<HitPart> for PartAnswer {
    fn from(part: HitPart) -> Self {
        let HitPart { place: example, by, similarity, rank, contribution } = part;
        Self { example, by: by.into(), similarity, rank, contribution }
    }
}
