//! How does an event read that goes out? As it came in, with its place in the log and a pseudonym for its user.

use serde::Serialize;
use utoipa::ToSchema;

use super::Rfc3339;
use super::user_key::Pseudonym;
use crate::domain::{Event, EventId, ItemId, SessionId};

/// An event of the log. It can be sent back as it is, by a key with the scope `admin`.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct ExportedEvent<'a> {
    /// Its place in the log. They rise; those in between belong to items.
    sequence: u64,
    /// The sender's id, or the one that the service made.
    #[schema(value_type = String)]
    event_id: &'a EventId,
    /// What happened, for example `click`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// In which session.
    #[schema(value_type = String)]
    session_id: &'a SessionId,
    /// By whom: the pseudonym. The id in the client's own terms is not known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_key: Option<Pseudonym>,
    /// To which item.
    #[schema(value_type = String)]
    item_id: &'a ItemId,
    /// When.
    occurred_at: Rfc3339,
    /// Where in the item's media the person was, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    position_s: Option<f32>,
    /// For how many seconds the item was watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    watched_s: Option<f32>,
    /// The answer that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    recommendation_id: Option<&'a str>,
    /// A rating, a price: what the type of event makes of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f32>,
    /// The region the person was in.
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<&'a str>,
}

impl<'a> ExportedEvent<'a> {
    /// An event and its place in the log.
    pub(in crate::api) fn new(sequence: u64, event: &'a Event) -> Self {
        Self {
            sequence,
            event_id: &event.id,
            kind: event.kind.name(),
            session_id: &event.session,
            user_key: event.user.map(Pseudonym),
            item_id: &event.item,
            occurred_at: Rfc3339(event.occurred_at),
            position_s: event.position_s,
            watched_s: event.watched_s,
            recommendation_id: event.recommendation_id.as_deref(),
            value: event.value,
            region: event.region.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::wire::EventBody;
    use crate::domain::{Timestamp, UserKey};

    #[test]
    fn what_goes_out_comes_in_as_the_same_event() {
        let now = Timestamp(1_769_884_200_250);
        let full = json!({"event_id": "e", "type": "rate", "session_id": "s", "item_id": "i",
            "user_key": "5bdcc146bf60754e6a042426089575c7", "value": 4.1, "position_s": 0.1, "watched_s": 12345.678,
            "region": "de", "recommendation_id": "r", "occurred_at": "2026-01-31T18:30:00.25Z"});
        for row in [full, json!({"event_id": "e", "type": "click", "session_id": "s", "item_id": "i"})] {
            let read = |row: Value| EventBody::read(row, "events[0]", now, now, |_| UserKey([0; 16])).unwrap();
            let event = read(row);
            let line = serde_json::to_string(&ExportedEvent::new(7, &event)).unwrap();
            assert!(line.starts_with(r#"{"sequence":7,"event_id":"e""#), "{line}");
            assert_eq!(read(serde_json::from_str(&line).unwrap()), event, "{line}");
        }
    }
}
