//! How is a frame of a session reported, and what is a session?

use serde::Serialize;
use utoipa::ToSchema;

use super::recommend::{MotionAnswer, list_query, seconds, word};
use super::{FrameAnswer, RecommendAnswer, RecommendQuery, Rfc3339};
use crate::api::problem::ApiError;
use crate::domain::{ItemId, SessionId, UserId, UserKey};
use crate::engine::{FrameRequest, FrameUpload, SessionState};

list_query! {
    /// What a client says beside a frame.
    FrameQuery {
        /// Where in the media the frame stood, in seconds.
        pub(in crate::api) at_s: Option<f64>,
        /// Whether to answer with a recommendation too. What says how lists are to be counts only then.
        pub(in crate::api) recommend: Option<bool>,
    }
}

list_query!(shared FrameQuery);

impl FrameQuery {
    /// The frame without a recommendation.
    pub(in crate::api) fn into_frame(
        self,
        session: SessionId,
        bytes: bytes::Bytes,
        user_key: impl FnOnce(&UserId) -> UserKey,
    ) -> Result<FrameRequest, ApiError> {
        Ok(FrameRequest {
            session,
            user: self.user_id.as_ref().map(user_key),
            playing: self.item_id,
            frame: FrameUpload { bytes, at_s: seconds("at_s", self.at_s)? },
            region: word("region", self.region)?,
        })
    }

    /// The recommendation to go with the frame.
    pub(in crate::api) fn into_recommend(self, session: SessionId) -> RecommendQuery {
        // The media time says how far an item has been played only if there is an item.
        let position_s = self.at_s.filter(|_| self.item_id.is_some());
        RecommendQuery { session_id: Some(session), position_s, ..self.shared() }
    }
}

/// What became of a frame, and the recommendation if one was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct FrameReport {
    /// What became of the frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::api) frame: Option<FrameAnswer>,
    /// With `recommend=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::api) recommendation: Option<RecommendAnswer>,
}

/// What is known of a live session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub(in crate::api) struct SessionAnswer {
    /// The session.
    #[schema(value_type = String)]
    session_id: SessionId,
    /// When it was first seen.
    started_at: Rfc3339,
    /// When it was last seen.
    last_seen: Rfc3339,
    /// The item on screen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    item_id: Option<ItemId>,
    /// How far it has been played, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    position_s: Option<f64>,
    /// What the session engaged with, oldest first.
    items: Vec<SessionItem>,
    /// How many frames came in.
    frames: u64,
    /// How many of them were near-duplicates.
    near_duplicates: u64,
    /// For how long the present scene has lasted, in seconds of media time.
    scene_age_s: f64,
    /// The last motion.
    motion: MotionAnswer,
}

/// An item that a session engaged with.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct SessionItem {
    /// The item.
    #[schema(value_type = String)]
    item_id: ItemId,
    /// When.
    at: Rfc3339,
}

impl SessionAnswer {
    /// The state of the session `id`.
    pub(in crate::api) fn new(id: SessionId, state: SessionState) -> Self {
        Self {
            session_id: id,
            started_at: Rfc3339(state.started_at),
            last_seen: Rfc3339(state.last_seen),
            item_id: state.playing,
            position_s: state.position_s,
            items: state.items.into_iter().map(|(item_id, at)| SessionItem { item_id, at: Rfc3339(at) }).collect(),
            frames: state.frames,
            near_duplicates: state.near_duplicates,
            scene_age_s: state.scene_age_s,
            motion: state.motion.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_and_its_recommendation_say_the_same() {
        let session = SessionId::new("s").unwrap();
        let query = FrameQuery {
            at_s: Some(4.0),
            item_id: Some(ItemId::new("i").unwrap()),
            region: Some("de".into()),
            count: Some(3),
            ..FrameQuery::default()
        };
        let frame = query.clone().into_frame(session.clone(), "jpeg".into(), |_| UserKey([0; 16])).unwrap();
        assert_eq!((frame.frame.at_s, frame.region.as_deref()), (Some(4.0), Some("de")));
        let recommend = query.clone().into_recommend(session.clone());
        assert_eq!((recommend.position_s, recommend.count), (Some(4.0), Some(3)));
        let without_item = FrameQuery { item_id: None, ..query.clone() };
        assert_eq!(without_item.into_recommend(session.clone()).position_s, None);
        let bad = FrameQuery { at_s: Some(f64::NAN), ..query };
        assert_eq!(bad.into_frame(session, "jpeg".into(), |_| UserKey([0; 16])).unwrap_err().fields()[0].field, "at_s");
    }
}
