//! What does the engine answer?

use std::time::Duration;

use super::Takeover;
use crate::domain::{Item, ItemId, Motion, Timestamp};

/// Three ranked lists (one for each horizon) and what they rest on.
#[derive(Debug, Clone)]
pub struct Recommendation {
    /// Names this answer, so that events can refer to it.
    pub id: String,
    /// The experiment and its arm that answered, if any.
    pub arm: Option<(String, String)>,
    /// One list for each horizon that was asked for, rising.
    pub lists: Vec<HorizonList>,
    /// The names of the candidate sources that took part.
    pub sources_used: Vec<&'static str>,
    /// Whether a source failed or was late.
    pub degraded: bool,
    /// The embedding model, as `name@hash`.
    pub model: String,
    /// Items named in the request that the catalogue does not have.
    pub unknown_items: Vec<ItemId>,
    /// What became of the request's frames, in their order.
    pub frames: Vec<FrameOutcome>,
    /// From the request's arrival to this answer.
    pub took: Duration,
}

/// The list of one horizon.
#[derive(Debug, Clone)]
pub struct HorizonList {
    /// The horizon in seconds.
    pub seconds: u32,
    /// Best first.
    pub items: Vec<Recommended>,
}

/// One place of a list.
#[derive(Debug, Clone)]
pub struct Recommended {
    /// The item.
    pub item: ItemId,
    /// The probability that the person turns to it within the horizon.
    pub probability: f64,
    /// 1 for the best.
    pub rank: usize,
    /// The log-odds behind the probability.
    pub score: f64,
    /// Whether it is a new item that is being tried.
    pub explored: bool,
    /// Additive contributions to `score`, by the name of what contributed; if asked for.
    pub reasons: Option<Vec<(&'static str, f64)>>,
}

/// What became of a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameOutcome {
    /// Width in pixels after decoding.
    pub width: u32,
    /// Height in pixels after decoding.
    pub height: u32,
    /// Whether it was so like the frame before that its embedding was used again.
    pub near_duplicate: bool,
    /// Whether the model could not look at it in time, or failed: it counts for nothing.
    pub missed: bool,
    /// How the picture moved since the frame before.
    pub motion: Motion,
}

/// What is known of a session.
#[derive(Debug, Clone)]
pub struct SessionState {
    /// When it was first seen.
    pub started_at: Timestamp,
    /// When it was last seen.
    pub last_seen: Timestamp,
    /// The item on screen.
    pub playing: Option<ItemId>,
    /// How far it has been played, in seconds.
    pub position_s: Option<f64>,
    /// What the session engaged with, oldest first.
    pub items: Vec<(ItemId, Timestamp)>,
    /// How many frames came in.
    pub frames: u64,
    /// How many of them were near-duplicates.
    pub near_duplicates: u64,
    /// For how long the present scene has lasted, in seconds of media time.
    pub scene_age_s: f64,
    /// The last motion.
    pub motion: Motion,
}

/// An item with what the service knows of it.
#[derive(Debug, Clone)]
pub struct ItemView {
    /// The item.
    pub item: Item,
    /// One entry for each picture.
    pub images: Vec<ImageView>,
}

/// A picture of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageView {
    /// SHA-256 of the uploaded file, in hexadecimal.
    pub sha256: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// A page of the catalogue.
#[derive(Debug, Clone)]
pub struct ItemPage {
    /// The items, in the order of their ids.
    pub items: Vec<ItemView>,
    /// Where to go on, if there is more.
    pub next: Option<ItemId>,
}

/// What became of an item that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemReceipt {
    /// Whether it is new.
    pub created: bool,
    /// How many pictures it has now.
    pub images: usize,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventReceipt {
    /// It is in the log.
    Stored {
        /// Whether the catalogue has its item; if not, the event counts as soon as the item arrives.
        known_item: bool,
    },
    /// An event of this id was there already.
    Duplicate,
    /// It has its place in the queue; nobody waited for more.
    Accepted,
}

/// An answer to a search.
#[derive(Debug, Clone)]
pub struct SearchAnswer {
    /// Best first.
    pub hits: Vec<Hit>,
    /// From the request's arrival to this answer.
    pub took: Duration,
}

/// An item, or one of its pictures, that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The item.
    pub item: Item,
    /// How many pictures it has.
    pub images: usize,
    /// The number of the picture that is most alike, from 0; none where only words were compared.
    pub image: Option<usize>,
    /// Cosine similarity for pictures, a share of the best possible score for words, their weighted mean for both.
    pub score: f32,
    /// What adds up to the score, if asked for.
    pub parts: Option<Vec<HitPart>>,
}

/// What an example has to do with a hit.
#[derive(Debug, Clone, PartialEq)]
pub struct HitPart {
    /// The example's name on the wire, or what its ranking is called.
    pub place: String,
    /// In what the two are alike.
    pub by: Aspect,
    /// Cosine similarity for pictures, a share of the best possible score for words.
    pub similarity: f32,
    /// The place in the example's ranking, where places are what counts.
    pub rank: Option<usize>,
    /// What it adds to the score.
    pub contribution: f32,
}

/// In what items can be alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// In their pictures.
    Looks,
    /// In title, tags, categories and description.
    Words,
    /// In who turns to them.
    Audience,
}

/// Whether the service can do its work, and what it consists of.
#[derive(Debug, Clone)]
pub struct Readiness {
    /// Whether a real picture went through the model.
    pub ready: bool,
    /// What is wrong, if anything.
    pub problem: Option<String>,
    /// The embedding model, as `name@hash`; several with their weights.
    pub model: String,
    /// The models that are to take over, and how far they are.
    pub coming: Option<Takeover>,
    /// The execution provider that runs it, for example `cpu`.
    pub provider: String,
    /// How long the check's inference took.
    pub inference: Duration,
    /// Items in the catalogue.
    pub items: usize,
    /// Live sessions.
    pub sessions: usize,
    /// The newest sequence of the log.
    pub log_sequence: u64,
}
