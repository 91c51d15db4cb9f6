//! What is asked of the engine? Requests in the domain's words, already checked by whoever received them.

use std::time::Duration;

use bytes::Bytes;

use crate::domain::{Filter, Item, ItemId, SessionId, UserKey};

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
#[derive(Debug, Clone)]
pub enum Query {
    /// A picture.
    Image(Bytes),
    /// An item's own pictures.
    Item(ItemId),
    /// Words, matched with titles, tags, categories and descriptions.
    Text(String),
}

/// Asks for items that look (or read) like the query.
#[derive(Debug, Clone)]
pub struct SearchRequest {
    /// What to search with.
    pub query: Query,
    /// How many items.
    pub limit: usize,
    /// Which items may be answered.
    pub filter: Filter,
    /// Leave out items whose score is lower.
    pub score_threshold: Option<f32>,
}
