//! How is a recommendation asked for and answered?

use std::collections::BTreeMap;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::FilterBody;
use crate::api::options::Limits;
use crate::api::problem::ApiError;
use crate::domain::{Filter, ItemId, Motion, SessionId, UserId, UserKey};
use crate::engine::{EngineError, FrameOutcome, FrameUpload, RecommendRequest, Recommendation};

const MAX_EXCLUDED: usize = 10_000;
const MAX_WORD_BYTES: usize = 64;
const MAX_DEADLINE_MS: u64 = 60_000;

/// Asks what somebody will want next. Every field may be left out.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RecommendRequest)]
pub(in crate::api) struct RecommendBody {
    /// The session whose events and frames count.
    #[schema(value_type = Option<String>, examples("s1"))]
    pub(in crate::api) session_id: Option<SessionId>,
    /// The person, in the client's own terms; stored only as a pseudonym.
    #[schema(value_type = Option<String>, examples("u1"))]
    pub(in crate::api) user_id: Option<UserId>,
    /// The item on screen.
    #[schema(value_type = Option<String>, examples("film-42"))]
    pub(in crate::api) item_id: Option<ItemId>,
    /// How far it has been played, in seconds.
    #[schema(examples(43.2))]
    pub(in crate::api) position_s: Option<f64>,
    /// Which of the model's horizons to answer, in seconds; all of them if left out.
    pub(in crate::api) horizons_s: Option<Vec<u32>>,
    /// How many items in each list.
    #[schema(examples(10))]
    pub(in crate::api) count: Option<usize>,
    /// Which items may be answered.
    pub(in crate::api) filter: Option<FilterBody>,
    /// Where and on what the person watches.
    #[serde(default)]
    pub(in crate::api) context: ContextBody,
    /// Whether items that the session has engaged with are left out.
    pub(in crate::api) exclude_seen: Option<bool>,
    /// Items never to be answered.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub(in crate::api) exclude: Vec<ItemId>,
    /// 0 ranks by probability alone, 1 by difference alone.
    pub(in crate::api) diversity: Option<f32>,
    /// Whether to give the reasons of every item.
    #[serde(default)]
    pub(in crate::api) explain: bool,
    /// What each model counts where several are in use, by name; those that are not named do not count. As the settings
    /// say if left out.
    #[serde(default)]
    pub(in crate::api) model_weights: BTreeMap<String, f32>,
    /// By when the answer must be out, in milliseconds; late sources are left out.
    #[schema(examples(50))]
    pub(in crate::api) deadline_ms: Option<u64>,
    /// In a multipart request: where in the media each `frame` part stood, in seconds, in the order of the parts.
    pub(in crate::api) frames_at_s: Option<Vec<f64>>,
}

/// Where and on what the person watches.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RecommendContext)]
pub(in crate::api) struct ContextBody {
    /// The region, in the client's own terms.
    #[schema(examples("de"))]
    pub(in crate::api) region: Option<String>,
    /// The device, in the client's own terms.
    #[schema(examples("tv"))]
    pub(in crate::api) device: Option<String>,
}

/// A query string that asks for lists: fields of its own, and those that all of them have.
macro_rules! list_query {
    ($(#[$meta:meta])* $name:ident { $($own:tt)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, serde::Deserialize, utoipa::IntoParams)]
        #[serde(deny_unknown_fields)]
        #[into_params(parameter_in = Query)]
        pub(in crate::api) struct $name {
            $($own)*
            /// The person, in the client's own terms.
            #[param(value_type = Option<String>)]
            pub(in crate::api) user_id: Option<crate::domain::UserId>,
            /// The item on screen.
            #[param(value_type = Option<String>)]
            pub(in crate::api) item_id: Option<crate::domain::ItemId>,
            /// The region, in the client's own terms.
            pub(in crate::api) region: Option<String>,
            /// The device, in the client's own terms.
            pub(in crate::api) device: Option<String>,
            /// Which of the model's horizons to answer, for example `15,60`.
            pub(in crate::api) horizons_s: Option<String>,
            /// How many items in each list.
            pub(in crate::api) count: Option<usize>,
            /// Which items may be answered: a `Filter` as JSON.
            pub(in crate::api) filter: Option<String>,
            /// Whether items that the session has engaged with are left out.
            pub(in crate::api) exclude_seen: Option<bool>,
            /// 0 ranks by probability alone, 1 by difference alone.
            pub(in crate::api) diversity: Option<f32>,
            /// Whether to give the reasons of every item.
            pub(in crate::api) explain: Option<bool>,
            /// What each model counts where several are in use, for example `appearance:1,efficientnet-lite0-160:0.5`; those
            /// that are not named do not count.
            pub(in crate::api) model_weights: Option<String>,
            /// By when the answer must be out, in milliseconds; late sources are left out.
            pub(in crate::api) deadline_ms: Option<u64>,
        }
    };
    // What such a query string asks for that is no list's alone.
    (shared $name:ident) => {
        impl $name {
            /// What all of them ask for, of no session.
            fn shared(self) -> $crate::api::wire::RecommendQuery {
                $crate::api::wire::RecommendQuery {
                    session_id: None,
                    position_s: None,
                    exclude: None,
                    user_id: self.user_id,
                    item_id: self.item_id,
                    region: self.region,
                    device: self.device,
                    horizons_s: self.horizons_s,
                    count: self.count,
                    filter: self.filter,
                    exclude_seen: self.exclude_seen,
                    diversity: self.diversity,
                    explain: self.explain,
                    model_weights: self.model_weights,
                    deadline_ms: self.deadline_ms,
                }
            }
        }
    };
}
pub(super) use list_query;

list_query! {
    /// The same as a query string. Lists are separated by commas, the filter is JSON.
    RecommendQuery {
        /// The session whose events and frames count.
        #[param(value_type = Option<String>)]
        pub(in crate::api) session_id: Option<SessionId>,
        /// How far the item on screen has been played, in seconds.
        pub(in crate::api) position_s: Option<f64>,
        /// Items never to be answered, separated by commas.
        pub(in crate::api) exclude: Option<String>,
    }
}

impl RecommendQuery {
    /// The body that says the same, but for the filter, which is read on its own.
    pub(in crate::api) fn into_body(self) -> Result<(RecommendBody, Filter), ApiError> {
        let filter = FilterBody::from_query(self.filter.as_deref())?;
        let body = RecommendBody {
            session_id: self.session_id,
            user_id: self.user_id,
            item_id: self.item_id,
            position_s: self.position_s,
            horizons_s: self.horizons_s.as_deref().map(horizons).transpose()?,
            count: self.count,
            filter: None,
            context: ContextBody { region: self.region, device: self.device },
            exclude_seen: self.exclude_seen,
            exclude: self.exclude.as_deref().map(item_ids).transpose()?.unwrap_or_default(),
            diversity: self.diversity,
            explain: self.explain.unwrap_or_default(),
            model_weights: model_weights(self.model_weights.as_deref())?,
            deadline_ms: self.deadline_ms,
            frames_at_s: None,
        };
        Ok((body, filter))
    }
}

/// Whole seconds separated by commas.
pub(super) fn horizons(text: &str) -> Result<Vec<u32>, ApiError> {
    let seconds = text.split(',').map(|word| word.trim().parse());
    seconds.collect::<Result<_, _>>().map_err(|_| ApiError::field("horizons_s", "must be whole seconds, like 15,30,60"))
}

fn item_ids(text: &str) -> Result<Vec<ItemId>, ApiError> {
    let ids = text.split(',').filter(|word| !word.is_empty()).map(ItemId::new);
    ids.collect::<Result<_, _>>().map_err(|error| ApiError::field("exclude", error.to_string()))
}

/// Names with their weights, separated by commas; a name alone weighs 1.
pub(super) fn model_weights(text: Option<&str>) -> Result<BTreeMap<String, f32>, ApiError> {
    let refused = |detail: &str| ApiError::field("model_weights", detail);
    let mut weights = BTreeMap::new();
    for word in text.into_iter().flat_map(|text| text.split(',')) {
        let (name, weight) = match word.rsplit_once(':') {
            Some((name, weight)) => (name, weight.trim().parse().ok()),
            None => (word, Some(1.0)),
        };
        let weight = weight.ok_or_else(|| refused("must be names with weights, like appearance:1,other:0.5"))?;
        if weights.insert(name.trim().to_owned(), weight).is_some() {
            return Err(refused("names a model twice"));
        }
    }
    Ok(weights)
}

/// Refuses what is no finite number of at least 0.
pub(super) fn seconds(field: &'static str, value: Option<f64>) -> Result<Option<f64>, ApiError> {
    match value {
        Some(value) if !value.is_finite() || value < 0.0 => {
            Err(ApiError::field(field, "must be a number of seconds of at least 0"))
        }
        fine => Ok(fine),
    }
}

/// Refuses words that are empty or long.
pub(super) fn word(field: &'static str, value: Option<String>) -> Result<Option<String>, ApiError> {
    match value {
        Some(text) if text.is_empty() || text.len() > MAX_WORD_BYTES || text.chars().any(char::is_control) => {
            Err(ApiError::field(field, format!("must have 1 to {MAX_WORD_BYTES} bytes, without control characters")))
        }
        fine => Ok(fine),
    }
}

impl RecommendBody {
    /// Checks every field and joins it with the frames' bytes. `user_key` makes a person's pseudonym.
    pub(in crate::api) fn into_request(
        mut self,
        frames: Vec<bytes::Bytes>,
        limits: &Limits,
        user_key: impl FnOnce(&UserId) -> UserKey,
    ) -> Result<RecommendRequest, ApiError> {
        if self.count.is_some_and(|count| count == 0 || count > limits.list_items) {
            return Err(ApiError::field("count", format!("must be 1 to {}", limits.list_items)));
        }
        if self.diversity.is_some_and(|d| !(0.0..=1.0).contains(&d)) {
            return Err(ApiError::field("diversity", "must be 0 to 1"));
        }
        if self.deadline_ms.is_some_and(|ms| ms == 0 || ms > MAX_DEADLINE_MS) {
            return Err(ApiError::field("deadline_ms", format!("must be 1 to {MAX_DEADLINE_MS}")));
        }
        if self.exclude.len() > MAX_EXCLUDED {
            return Err(ApiError::field("exclude", format!("may have at most {MAX_EXCLUDED} items")));
        }
        if self.horizons_s.as_ref().is_some_and(Vec::is_empty) {
            return Err(ApiError::field("horizons_s", "must not be empty"));
        }
        Ok(RecommendRequest {
            frames: with_times(frames, self.frames_at_s.take())?,
            session: self.session_id,
            user: self.user_id.as_ref().map(user_key),
            playing: self.item_id,
            position_s: seconds("position_s", self.position_s)?,
            horizons_s: self.horizons_s,
            count: self.count,
            filter: self.filter.map_or_else(|| Ok(Filter::default()), FilterBody::into_filter)?,
            region: word("context.region", self.context.region)?,
            device: word("context.device", self.context.device)?,
            exclude_seen: self.exclude_seen,
            exclude: self.exclude,
            diversity: self.diversity,
            explain: self.explain,
            model_weights: self.model_weights,
            deadline: self.deadline_ms.map(Duration::from_millis),
        })
    }
}

fn with_times(frames: Vec<bytes::Bytes>, times: Option<Vec<f64>>) -> Result<Vec<FrameUpload>, ApiError> {
    let Some(times) = times else {
        return Ok(frames.into_iter().map(|bytes| FrameUpload { bytes, at_s: None }).collect());
    };
    if times.len() != frames.len() {
        let detail = format!("must have one entry for each frame: {} for {}", times.len(), frames.len());
        return Err(ApiError::field("frames_at_s", detail));
    }
    if times.iter().any(|t| !t.is_finite() || *t < 0.0) {
        return Err(ApiError::field("frames_at_s", "must be seconds of at least 0"));
    }
    Ok(frames.into_iter().zip(times).map(|(bytes, at_s)| FrameUpload { bytes, at_s: Some(at_s) }).collect())
}

/// Three ranked lists (one for each horizon) and what they rest on.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Recommendation)]
pub(in crate::api) struct RecommendAnswer {
    /// Names this answer; send it with the events that follow from it.
    recommendation_id: String,
    /// The experiment that this answer is part of, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    experiment: Option<String>,
    /// Its arm that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    arm: Option<String>,
    /// One list for each horizon, rising.
    horizons: Vec<HorizonAnswer>,
    /// The candidate sources that took part.
    #[schema(value_type = Vec<String>)]
    sources_used: Vec<&'static str>,
    /// Whether a source failed or was late.
    degraded: bool,
    /// The embedding model, as `name@hash`.
    model: String,
    /// Items named in the request that the catalogue does not have.
    #[schema(value_type = Vec<String>)]
    unknown_items: Vec<ItemId>,
    /// What became of the request's frames, in their order.
    frames: Vec<FrameAnswer>,
    /// Milliseconds from the request's arrival to this answer.
    took_ms: f64,
}

impl IntoResponse for RecommendAnswer {
    fn into_response(self) -> Response {
        // About as much as it takes, so that it need not be moved while it is written.
        let places: usize = self.horizons.iter().map(|list| list.items.len()).sum();
        let mut body = Vec::with_capacity(512 + 112 * places);
        match serde_json::to_writer(&mut body, &self) {
            Ok(()) => ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response(),
            Err(error) => ApiError::from(EngineError::Internal(error.to_string())).into_response(),
        }
    }
}

/// The list of one horizon.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HorizonList)]
pub(in crate::api) struct HorizonAnswer {
    /// The horizon in seconds.
    #[schema(examples(15))]
    seconds: u32,
    /// Best first.
    items: Vec<RecommendedAnswer>,
}

/// One place of a list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecommendedItem)]
pub(in crate::api) struct RecommendedAnswer {
    /// The item.
    #[schema(value_type = String)]
    item_id: ItemId,
    /// The probability that the person turns to it within the horizon.
    probability: f64,
    /// 1 for the best.
    rank: usize,
    /// `true` where a new item is tried in the place of a likelier one.
    #[serde(skip_serializing_if = "Option::is_none")]
    explored: Option<bool>,
    /// The log-odds that the reasons add up to; with `explain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    /// What speaks for and against it, in log-odds; with `explain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, f64>>)]
    reasons: Option<BTreeMap<&'static str, f64>>,
}

impl From<Recommendation> for RecommendAnswer {
    fn from(answer: Recommendation) -> Self {
        let horizons = answer.lists.into_iter().map(|list| HorizonAnswer {
            seconds: list.seconds,
            items: list
                .items
                .into_iter()
                .map(|place| RecommendedAnswer {
                    item_id: place.item,
                    probability: place.probability,
                    rank: place.rank,
                    explored: place.explored.then_some(true),
                    score: place.reasons.is_some().then_some(place.score),
                    reasons: place.reasons.map(summed),
                })
                .collect(),
        });
        let (experiment, arm) = answer.arm.unzip();
        Self {
            recommendation_id: answer.id,
            experiment,
            arm,
            horizons: horizons.collect(),
            sources_used: answer.sources_used,
            degraded: answer.degraded,
            model: answer.model,
            unknown_items: answer.unknown_items,
            frames: answer.frames.into_iter().map(Into::into).collect(),
            took_ms: milliseconds(answer.took),
        }
    }
}

/// A JSON object has every name once; two reasons of one name must not lose one.
fn summed(reasons: Vec<(&'static str, f64)>) -> BTreeMap<&'static str, f64> {
    let mut sums = BTreeMap::new();
    for (name, value) in reasons {
        *sums.entry(name).or_default() += value;
    }
    sums
}

/// Milliseconds with three decimals.
pub(in crate::api) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// What became of a frame.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FrameOutcome)]
pub(in crate::api) struct FrameAnswer {
    /// Width in pixels after decoding.
    width: u32,
    /// Height in pixels after decoding.
    height: u32,
    /// Whether it was so like the frame before that its embedding was used again.
    near_duplicate: bool,
    /// Whether the model could not look at it in time, or failed: it counts for nothing. Left out if not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    missed: bool,
    /// How the picture moved since the frame before.
    motion: MotionAnswer,
}

/// How a picture moved since the one before.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Motion)]
pub(in crate::api) struct MotionAnswer {
    /// Mean absolute change of brightness, 0 (none) to 1.
    energy: f32,
    /// Horizontal shift as a share of the width, positive to the right.
    dx: f32,
    /// Vertical shift as a share of the height, positive downwards.
    dy: f32,
    /// Whether a new scene began.
    cut: bool,
}

impl From<FrameOutcome> for FrameAnswer {
    fn from(frame: FrameOutcome) -> Self {
        let FrameOutcome { width, height, near_duplicate, missed, motion } = frame;
        Self { width, height, near_duplicate, missed, motion: motion.into() }
    }
}

impl From<Motion> for MotionAnswer {
    fn from(Motion { energy, dx, dy, cut }: Motion) -> Self {
        Self { energy, dx, dy, cut }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::extract::from_value;
    use crate::engine::{HorizonList, Recommended};

    fn request(body: serde_json::Value, frames: usize) -> Result<RecommendRequest, ApiError> {
        let frames = vec![bytes::Bytes::from_static(b"x"); frames];
        from_value::<RecommendBody>(body, "")?.into_request(frames, &Limits::default(), |_| UserKey([7; 16]))
    }

    #[test]
    fn the_documented_body_reaches_the_engine() {
        let request = request(
            json!({"session_id":"s1","user_id":"u1","item_id":"on-screen","position_s":43.2,"horizons_s":[15,30,60],
                "count":10,"filter":{"must":[{"field":"region","any":["de"]}],"must_not":[]},
                "context":{"region":"de","device":"tv"},"exclude_seen":true,"diversity":0.2,"explain":true,
                "deadline_ms":50,"frames_at_s":[1.0,2.5]}),
            2,
        )
        .unwrap();
        assert_eq!(request.user, Some(UserKey([7; 16])));
        assert_eq!(request.playing.unwrap().as_str(), "on-screen");
        assert_eq!(request.filter.must.len(), 1);
        assert_eq!(request.deadline, Some(Duration::from_millis(50)));
        assert_eq!((request.region.as_deref(), request.device.as_deref()), (Some("de"), Some("tv")));
        assert_eq!(request.frames[1].at_s, Some(2.5));
    }

    #[test]
    fn refusals_name_the_field() {
        for (body, field) in [
            (json!({"count": 0}), "count"),
            (json!({"count": "ten"}), "count"),
            (json!({"diversity": 1.5}), "diversity"),
            (json!({"position_s": -1}), "position_s"),
            (json!({"deadline_ms": 0}), "deadline_ms"),
            (json!({"horizons_s": []}), "horizons_s"),
            (json!({"session_id": ""}), "session_id"),
            (json!({"frames_at_s": [1.0]}), "frames_at_s"),
            (json!({"context": {"regoin": "de"}}), "context.regoin"),
            (json!({"context": {"region": ""}}), "context.region"),
            (json!({"filter": {"must": [{"field": "x"}]}}), "filter.must[0]"),
            (json!({"exclude": ["a", 1]}), "exclude[1]"),
        ] {
            assert_eq!(request(body.clone(), 0).unwrap_err().fields()[0].field, field, "{body}");
        }
    }

    #[test]
    fn a_query_string_says_the_same() {
        let query = RecommendQuery {
            horizons_s: Some("15, 60".into()),
            exclude: Some("a,b".into()),
            filter: Some(r#"{"must":[{"field":"tag","any":["x"]}]}"#.into()),
            ..RecommendQuery::default()
        };
        let (body, filter) = query.into_body().unwrap();
        assert_eq!(body.horizons_s, Some(vec![15, 60]));
        assert_eq!(body.exclude.len(), 2);
        assert_eq!(filter.must.len(), 1);
        let bad = RecommendQuery { horizons_s: Some("15,x".into()), ..RecommendQuery::default() };
        assert_eq!(bad.into_body().unwrap_err().fields()[0].field, "horizons_s");
        let weighing = |text: &str| {
            let query = RecommendQuery { model_weights: Some(text.into()), ..RecommendQuery::default() };
            query.into_body().map(|(body, _)| body.model_weights)
        };
        assert_eq!(weighing("a:0.5, b").unwrap(), [("a".to_owned(), 0.5), ("b".to_owned(), 1.0)].into());
        for bad in ["a:x", "a:", "a,a:2"] {
            assert_eq!(weighing(bad).unwrap_err().fields()[0].field, "model_weights", "{bad}");
        }
    }

    #[test]
    fn reasons_come_only_when_asked_for_and_still_add_up() {
        let place = |reasons| Recommended {
            item: ItemId::new("i").unwrap(),
            probability: 0.031,
            rank: 1,
            score: 2.0,
            explored: false,
            reasons,
        };
        let answer = |reasons| {
            let lists = vec![HorizonList { seconds: 15, items: vec![place(reasons)] }];
            serde_json::to_value(RecommendAnswer::from(Recommendation {
                id: "r".into(),
                arm: None,
                lists,
                sources_used: vec!["visual"],
                degraded: false,
                model: "m@1".into(),
                unknown_items: vec![],
                frames: vec![],
                took: Duration::from_micros(7_100),
            }))
            .unwrap()
        };
        let plain = answer(None);
        assert_eq!(plain["took_ms"], 7.1);
        assert_eq!(plain["horizons"][0]["items"][0], json!({"item_id": "i", "probability": 0.031, "rank": 1}));
        let explained = answer(Some(vec![("visual", 0.5), ("visual", 0.25), ("bias", 1.25)]));
        assert_eq!(explained["horizons"][0]["items"][0]["reasons"], json!({"visual": 0.75, "bias": 1.25}));
        assert_eq!(explained["horizons"][0]["items"][0]["score"], 2.0);
    }
}
