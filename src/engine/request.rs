//! What is asked of the engine? Requests in the domain's words, already checked by whoever received them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::domain::{Filter, Item, ItemId, SessionId, Timestamp, UserKey};

/// An encoded picture (JPEG, PNG, WebP, GIF, BMP) that was on a screen.
#[derive(Debug, Clone)]
pub struct FrameUpload {
    /// The file's bytes.
    pub bytes: Bytes,
    /// Where in the media the frame stood, in seconds.
    pub at_s: Option<f64>,
}

/// Asks what somebody will want next.
#[derive(Debug, Clone, Default)]
pub struct RecommendRequest {
    /// The session whose events and frames count; without one only this request's own frames and items do.
    pub session: Option<SessionId>,
    /// The person, if known.
    pub user: Option<UserKey>,
    /// The item on screen.
    pub playing: Option<ItemId>,
    /// How far it has been played, in seconds.
    pub position_s: Option<f64>,
    /// Which of the model's horizons to answer; `None` for all of them.
    pub horizons_s: Option<Vec<u32>>,
    /// How many items in each list; `None` for the configured number.
    pub count: Option<usize>,
    /// Which items may be answered.
    pub filter: Filter,
    /// Where the person is.
    pub region: Option<String>,
    /// What the person watches on.
    pub device: Option<String>,
    /// Whether items that the session has engaged with are left out; `None` for the configured choice.
    pub exclude_seen: Option<bool>,
    /// Items never to be answered.
    pub exclude: Vec<ItemId>,
    /// 0 ranks by probability alone, 1 by difference alone; `None` for the configured value.
    pub diversity: Option<f32>,
    /// Whether to say why.
    pub explain: bool,
    /// What each model counts, by name; as in the settings if empty.
    pub model_weights: BTreeMap<String, f32>,
    /// By when the answer must be out; late sources are left out. `None` for the configured time.
    pub deadline: Option<Duration>,
    /// Frames in the order in which they were on screen, the newest last.
    pub frames: Vec<FrameUpload>,
}

/// Reports one frame of a session.
#[derive(Debug, Clone)]
pub struct FrameRequest {
    /// The session.
    pub session: SessionId,
    /// The person, if known.
    pub user: Option<UserKey>,
    /// The item on screen.
    pub playing: Option<ItemId>,
    /// The frame.
    pub frame: FrameUpload,
    /// Where the person is.
    pub region: Option<String>,
}

/// An item to be written, with its pictures.
#[derive(Debug, Clone)]
pub struct ItemWrite {
    /// The item.
    pub item: Item,
    /// Its pictures; `None` keeps those that it has.
    pub images: Option<Vec<Bytes>>,
}

/// What to search with.
#[derive(Debug, Clone, PartialEq)]
pub enum Example {
    /// A picture.
    Image(Bytes),
    /// An item's own pictures.
    Item(ItemId),
    /// An item's title, tags, categories and description.
    ItemWords(ItemId),
    /// An item's audience: what is turned to in the same sessions.
    ItemAudience(ItemId),
    /// A vector of the models that serve, of any length but zero.
    Embedding(Vec<f32>),
    /// Words, matched with titles, tags, categories and descriptions.
    Text(String),
}

/// What to search with, and how much it counts.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedExample {
    /// What to search with.
    pub example: Example,
    /// Above 0; only the weights' proportions matter.
    pub weight: f32,
    /// Its name on the wire, for refusals and explanations.
    pub place: String,
    /// Whether an item without pictures is refused. If not, it just does not count.
    pub required: bool,
}

impl WeightedExample {
    /// An example that counts like any other.
    pub fn of(example: Example, place: &str) -> Self {
        Self { example, weight: 1.0, place: place.to_owned(), required: true }
    }
}

/// How several pictures become one likeness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// What is like any of the good examples, and less like any of the bad ones.
    #[default]
    BestScore,
    /// What lies in the direction of the good examples' mean, away from the bad ones'.
    AverageVector,
}

/// How likeness of pictures and likeness of words become one score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fusion {
    /// Their weighted mean.
    #[default]
    Weighted,
    /// By their places in each ranking (reciprocal rank fusion).
    Rrf,
}

/// When an item has to be available to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AvailableAt {
    /// Not at all: the whole catalogue is searched.
    #[default]
    Whenever,
    /// At this moment.
    Now,
    /// At that one.
    Then(Timestamp),
}

/// Asks for items that look (or read) like the examples.
#[derive(Debug, Clone, Default)]
pub struct SearchRequest {
    /// What to look for.
    pub positive: Vec<WeightedExample>,
    /// What to keep away from.
    pub negative: Vec<WeightedExample>,
    /// How several pictures become one likeness.
    pub strategy: Strategy,
    /// How pictures and words become one score.
    pub fusion: Fusion,
    /// What each model counts, by name; as in the settings if empty.
    pub model_weights: BTreeMap<String, f32>,
    /// How many hits.
    pub limit: usize,
    /// How many of the best hits are left out, as an earlier page had them.
    pub offset: usize,
    /// Which items may be answered.
    pub filter: Filter,
    /// When they have to be available.
    pub available_at: AvailableAt,
    /// Only items that may be shown in this region.
    pub region: Option<String>,
    /// Only hits of at least this score.
    pub score_threshold: Option<f32>,
    /// Whether each picture of an item is a hit of its own.
    pub each_image: bool,
    /// Whether to say what each example contributed.
    pub explain: bool,
}
