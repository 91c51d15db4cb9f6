//! What did somebody do? One line of the log from which everything is learned.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{EventId, ItemId, SessionId, Timestamp, UserKey};

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The item was shown; nobody asked for it.
    Impression,
    /// The item was opened or tapped.
    Click,
    /// Playback started.
    Play,
    /// Playback goes on; says how far it has come.
    Progress,
    /// Playback reached the end.
    Finish,
    /// The item was skipped or closed at once.
    Skip,
    /// A thumb up.
    Like,
    /// A thumb down.
    Dislike,
    /// The item was passed on to someone.
    Share,
    /// The item was put on a list for later.
    Save,
    /// The item was rated; the event's `value` is the rating.
    Rate,
    /// The item was bought or rented.
    Purchase,
}

/// The text names no kind of event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown event type, expected one of {}", EventKind::NAMES)]
pub struct UnknownEventKind;

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Impression,
        Self::Click,
        Self::Play,
        Self::Progress,
        Self::Finish,
        Self::Skip,
        Self::Like,
        Self::Dislike,
        Self::Share,
        Self::Save,
        Self::Rate,
        Self::Purchase,
    ];
    const NAMES: &str = "impression, click, play, progress, finish, skip, like, dislike, share, save, rate, purchase";

    /// The name on the wire and on disk.
    pub fn name(self) -> &'static str {
        match self {
            Self::Impression => "impression",
            Self::Click => "click",
            Self::Play => "play",
            Self::Progress => "progress",
            Self::Finish => "finish",
            Self::Skip => "skip",
            Self::Like => "like",
            Self::Dislike => "dislike",
            Self::Share => "share",
            Self::Save => "save",
            Self::Rate => "rate",
            Self::Purchase => "purchase",
        }
    }

    /// Whether this is what the horizons predict: the person turned to the item of their own will.
    pub fn is_engagement(self) -> bool {
        match self {
            Self::Click | Self::Play | Self::Like | Self::Share | Self::Save | Self::Rate | Self::Purchase => true,
            Self::Impression | Self::Progress | Self::Finish | Self::Skip | Self::Dislike => false,
        }
    }
}

impl FromStr for EventKind {
    type Err = UnknownEventKind;

    fn from_str(text: &str) -> Result<Self, UnknownEventKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or(UnknownEventKind)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that happened, as it is logged. The user appears as a pseudonym only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The sender's id, or one that the service made; logging the same id twice counts once.
    pub id: EventId,
    /// What happened.
    pub kind: EventKind,
    /// In which session.
    pub session: SessionId,
    /// By whom, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserKey>,
    /// To which item.
    pub item: ItemId,
    /// When.
    pub occurred_at: Timestamp,
    /// Where in the item's media the person was, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position_s: Option<f32>,
    /// For how many seconds the item was watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watched_s: Option<f32>,
    /// The answer that led to it, if the client says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommendation_id: Option<String>,
    /// A rating, a price: what the kind of event makes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f32>,
    /// The region the person was in, in the client's own terms (for example `de`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for kind in EventKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert!(EventKind::NAMES.contains(kind.name()));
        }
        assert_eq!("clik".parse::<EventKind>(), Err(UnknownEventKind));
    }
}
