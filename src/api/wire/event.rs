//! How are events sent, and what does their sender hear?

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Rfc3339;
use super::recommend::{seconds, word};
use super::user_key::Pseudonym;
use crate::api::extract::from_value;
use crate::api::problem::{ApiError, FieldError};
use crate::domain::{Event, EventId, EventKind, ItemId, MAX_ID_BYTES, SessionId, Timestamp, UserId, UserKey};
use crate::engine::EventReceipt;

/// What people did, oldest first.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EventsRequest)]
pub(in crate::api) struct EventsBody {
    /// 1 to 1,000 events. Each is judged on its own.
    #[schema(value_type = Vec<EventBody>)]
    pub(in crate::api) events: Vec<Value>,
}

/// Something that somebody did.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Event)]
pub(in crate::api) struct EventBody {
    /// The sender's id; sending the same id twice counts once. Made by the service if left out.
    #[schema(value_type = Option<String>)]
    pub(in crate::api) event_id: Option<EventId>,
    /// `impression`, `click`, `play`, `progress`, `finish`, `skip`, `like`, `dislike`, `share`, `save`, `rate` or
    /// `purchase`.
    #[serde(rename = "type")]
    #[schema(examples("click"))]
    pub(in crate::api) kind: String,
    /// In which session.
    #[schema(value_type = String, examples("s1"))]
    pub(in crate::api) session_id: SessionId,
    /// By whom, in the client's own terms; stored only as a pseudonym.
    #[schema(value_type = Option<String>)]
    pub(in crate::api) user_id: Option<UserId>,
    /// In place of `user_id`: the pseudonym itself, as an export has it. Only keys with the scope `admin` may name it,
    /// and it means the same person only where the user secret is the same.
    pub(in crate::api) user_key: Option<Pseudonym>,
    /// To which item.
    #[schema(value_type = String, examples("film-42"))]
    pub(in crate::api) item_id: ItemId,
    /// When; now if left out.
    pub(in crate::api) occurred_at: Option<Rfc3339>,
    /// Where in the item's media the person was, in seconds.
    pub(in crate::api) position_s: Option<f64>,
    /// For how many seconds the item was watched.
    pub(in crate::api) watched_s: Option<f64>,
    /// The answer that led to it.
    pub(in crate::api) recommendation_id: Option<String>,
    /// A rating, a price: what the type of event makes of it.
    pub(in crate::api) value: Option<f64>,
    /// The region the person was in, in the client's own terms.
    pub(in crate::api) region: Option<String>,
    /// As an export has it. It is read and not used: the event gets a new place in the log.
    #[expect(dead_code, reason = "named here so that a line of an export is not refused")]
    pub(in crate::api) sequence: Option<u64>,
}

impl EventBody {
    /// Whether a row names a person by their pseudonym, which takes the scope `admin`.
    pub(in crate::api) fn names_pseudonym(row: &Value) -> bool {
        row.get("user_key").is_some_and(|value| !value.is_null())
    }

    /// Reads and checks one event. `place` names it in refusals; `latest` is the last instant that is believed.
    pub(in crate::api) fn read(
        row: Value,
        place: &str,
        now: Timestamp,
        latest: Timestamp,
        user_key: impl FnOnce(&UserId) -> UserKey,
    ) -> Result<Event, ApiError> {
        let body: Self = from_value(row, place)?;
        body.into_event(now, latest, user_key).map_err(|error| {
            let ApiError::Invalid(errors) = error else { return error };
            let within = |e: FieldError| FieldError::new(format!("{place}.{}", e.field), e.detail);
            ApiError::Invalid(errors.into_iter().map(within).collect())
        })
    }

    fn into_event(
        self,
        now: Timestamp,
        latest: Timestamp,
        user_key: impl FnOnce(&UserId) -> UserKey,
    ) -> Result<Event, ApiError> {
        let kind: EventKind = self
            .kind
            .parse()
            .map_err(|error: crate::domain::UnknownEventKind| ApiError::field("type", error.to_string()))?;
        let occurred_at = self.occurred_at.map_or(now, |t| t.0);
        if occurred_at > latest {
            return Err(ApiError::field("occurred_at", "lies too far in the future"));
        }
        if self.value.is_some_and(|v| !(v as f32).is_finite()) {
            return Err(ApiError::field("value", "must be a finite number"));
        }
        if self.user_id.is_some() && self.user_key.is_some() {
            return Err(ApiError::field("user_key", "stands in place of user_id; there may be only one of them"));
        }
        if self.recommendation_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > MAX_ID_BYTES) {
            return Err(ApiError::field("recommendation_id", format!("must have 1 to {MAX_ID_BYTES} bytes")));
        }
        let id = match self.event_id {
            Some(id) => id,
            None => EventId::new(uuid::Uuid::now_v7().to_string())
                .map_err(|error| crate::engine::EngineError::Internal(error.to_string()))?,
        };
        Ok(Event {
            id,
            kind,
            session: self.session_id,
            user: self.user_key.map(|key| key.0).or_else(|| self.user_id.as_ref().map(user_key)),
            item: self.item_id,
            occurred_at,
            position_s: seconds("position_s", self.position_s)?.map(|s| s as f32),
            watched_s: seconds("watched_s", self.watched_s)?.map(|s| s as f32),
            recommendation_id: self.recommendation_id,
            value: self.value.map(|v| v as f32),
            region: word("region", self.region)?,
        })
    }
}

/// What became of the events. Those that are `stored` are durable.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(in crate::api) struct EventsAnswer {
    /// Events that are in the log now, or were before.
    pub(in crate::api) accepted: usize,
    /// Events that were refused.
    pub(in crate::api) failed: usize,
    /// One entry for each event, in order.
    pub(in crate::api) results: Vec<EventRow>,
}

/// What became of one event.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct EventRow {
    /// Its place in the request, from 0.
    row: usize,
    /// Its id, the sender's or the service's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    event_id: Option<EventId>,
    /// `stored`, `duplicate` or `failed`; `accepted` if the request did not wait.
    status: &'static str,
    /// Whether the catalogue has its item; if not, it counts once the item arrives.
    #[serde(skip_serializing_if = "Option::is_none")]
    known_item: Option<bool>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<RowError>,
}

impl EventRow {
    /// An event that the engine took.
    pub(in crate::api) fn taken(row: usize, event_id: EventId, receipt: EventReceipt) -> Self {
        let (status, known_item) = match receipt {
            EventReceipt::Stored { known_item } => ("stored", Some(known_item)),
            EventReceipt::Duplicate => ("duplicate", None),
            EventReceipt::Accepted => ("accepted", None),
        };
        Self { row, event_id: Some(event_id), status, known_item, error: None }
    }

    /// An event that was refused.
    pub(in crate::api) fn refused(row: usize, error: &ApiError) -> Self {
        Self { row, event_id: None, status: "failed", known_item: None, error: Some(error.into()) }
    }
}

/// Why a row failed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::api) struct RowError {
    /// A stable word for programs.
    code: &'static str,
    /// What went wrong.
    detail: String,
    /// The fields at fault, where they are known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

impl From<&ApiError> for RowError {
    fn from(error: &ApiError) -> Self {
        Self { code: error.kind().1, detail: error.detail(), errors: error.fields() }
    }
}

impl From<&Arc<ApiError>> for RowError {
    fn from(error: &Arc<ApiError>) -> Self {
        error.as_ref().into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn read(row: Value) -> Result<Event, ApiError> {
        EventBody::read(row, "events[3]", NOW, NOW.plus_seconds(300.0), |_| UserKey([1; 16]))
    }

    #[test]
    fn what_is_left_out_is_made_up() {
        let event = read(json!({"type": "click", "session_id": "s", "item_id": "i", "user_id": "alice"})).unwrap();
        assert_eq!((event.kind, event.occurred_at), (EventKind::Click, NOW));
        assert_eq!(event.user, Some(UserKey([1; 16])));
        assert_eq!(event.id.as_str().len(), 36);
        let event = read(json!({"event_id": "e", "type": "rate", "session_id": "s", "item_id": "i", "value": 4.5,
            "occurred_at": "1970-01-01T00:00:01Z", "position_s": 1, "watched_s": 2, "region": "de",
            "recommendation_id": "r"}))
        .unwrap();
        assert_eq!((event.id.as_str(), event.occurred_at), ("e", Timestamp(1000)));
        assert_eq!((event.value, event.watched_s), (Some(4.5), Some(2.0)));
    }

    #[test]
    fn refusals_name_the_row_and_the_field() {
        let with = |name: &str, value: Value| {
            let mut row = json!({"type": "click", "session_id": "s", "item_id": "i"});
            row[name] = value;
            let error = read(row).unwrap_err();
            assert_eq!(error.kind().0.as_u16(), 422);
            error.fields()[0].field.clone()
        };
        assert_eq!(with("type", "clik".into()), "events[3].type");
        assert_eq!(with("session_id", "".into()), "events[3].session_id");
        assert_eq!(with("occurred_at", "1970-01-01T01:00:00Z".into()), "events[3].occurred_at");
        assert_eq!(with("position_s", (-1).into()), "events[3].position_s");
        assert_eq!(with("value", json!(1e300)), "events[3].value");
        assert_eq!(with("region", "x".repeat(65).into()), "events[3].region");
        assert_eq!(with("recommendation_id", "".into()), "events[3].recommendation_id");
        assert_eq!(with("itm", 1.into()), "events[3].itm");
        assert_eq!(with("user_key", "alice".into()), "events[3].user_key");
        let twice = json!({"type": "click", "session_id": "s", "item_id": "i", "user_id": "u",
            "user_key": "5bdcc146bf60754e6a042426089575c7"});
        assert_eq!(read(twice).unwrap_err().fields()[0].field, "events[3].user_key");
        assert_eq!(read(json!({"type": "click"})).unwrap_err().fields()[0].field, "events[3].session_id");
    }
}
