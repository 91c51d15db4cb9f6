//! What does an event get that its row does not say? Its type, its session and its id.
//!
//! A row without a session belongs to its user's current one, which ends with a silence of the gap. A row without an id
//! gets one from what it says and its number in the file, so that importing the file again counts nothing twice,
//! wherever the file lies by then. Both ids end up in the log, where users have pseudonyms only; they are keyed hashes,
//! so that nobody can find a user by hashing all the ids there may be. An event's id is a UUID that begins with the time:
//! what lies side by side in a file lies side by side in a server's table of ids too, which commits four times as fast.

use std::collections::HashMap;
use std::path::Path;

use ring::hmac;
use serde_json::{Map, Value};

use super::instant;
use crate::cli::CliError;
use crate::domain::{EventKind, Timestamp};

/// Users whose session is remembered; beyond, the half that was silent for the most rows is forgotten, and their next
/// event begins a new session.
const MAX_USERS: usize = 1 << 20;
const MIN_SECRET_BYTES: usize = 16;

/// What derived ids are made under.
#[derive(Clone)]
pub(super) struct IdSecret(hmac::Key);

impl IdSecret {
    /// From the bytes of a secret, whatever they are used for elsewhere.
    pub(super) fn new(secret: &[u8]) -> Self {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"upnext import ids");
        Self(hmac::Key::new(hmac::HMAC_SHA256, tag.as_ref()))
    }

    /// From a file.
    pub(super) fn read(file: &Path) -> Result<Self, CliError> {
        let secret = std::fs::read(file).map_err(CliError::io(file.display()))?;
        let secret = secret.trim_ascii();
        if secret.len() < MIN_SECRET_BYTES {
            return Err(CliError::Failed(format!("{}: needs at least {MIN_SECRET_BYTES} bytes", file.display())));
        }
        Ok(Self::new(secret))
    }

    fn session_id(&self, parts: &[&[u8]]) -> String {
        let hex: String = self.hash("session", parts).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("import-{hex}")
    }

    /// A UUID of version 8 (RFC 9562): as in version 7 six bytes that rise, then of the hash what fits.
    fn event_id(&self, rising: u64, parts: &[&[u8]]) -> String {
        let mut bytes = self.hash("event", parts);
        let [_, _, first @ ..] = rising.to_be_bytes();
        if let Some(place) = bytes.first_chunk_mut() {
            *place = first;
        }
        uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
    }

    fn hash(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 16] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in std::iter::once(&purpose.as_bytes()).chain(parts) {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut hash = [0; 16];
        hash.iter_mut().zip(context.sign().as_ref()).for_each(|(place, byte)| *place = *byte);
        hash
    }
}

impl std::fmt::Debug for IdSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdSecret(…)")
    }
}

/// Completes rows, in the order of the file.
#[derive(Debug)]
pub(super) struct EventMaker {
    kind: EventKind,
    gap_s: f64,
    secret: IdSecret,
    users: HashMap<String, Latest>,
    max_users: usize,
}

/// A user's latest event.
#[derive(Debug)]
struct Latest {
    row: u64,
    at: Timestamp,
    session: String,
}

impl EventMaker {
    /// `kind` is for rows that name none; `gap_s` is the silence between a user's sessions.
    pub(super) fn new(kind: EventKind, gap_s: f64, secret: &IdSecret) -> Self {
        Self { kind, gap_s, secret: secret.clone(), users: HashMap::new(), max_users: MAX_USERS }
    }

    /// The event as the API reads it. `row` is its number in the file.
    pub(super) fn complete(&mut self, row: u64, mut fields: Map<String, Value>) -> Result<Map<String, Value>, String> {
        let at = match fields.get("occurred_at") {
            None | Some(Value::Null) => None,
            Some(value) => Some(instant::read(value).map_err(|reason| format!("occurred_at: {reason}"))?),
        };
        if let Some(at) = at {
            fields.insert("occurred_at".into(), instant::write(at)?.into());
        }
        fields.entry("type").or_insert_with(|| self.kind.name().into());
        let event_id = (!says(&fields, "event_id")).then(|| {
            // Keys are sorted, so that the order of columns does not matter.
            let content = serde_json::to_vec(&fields).unwrap_or_default();
            // What has no time has its place in the file. Times before 1970 do not occur.
            let rising = at.map_or(row, |at| u64::try_from(at.0).unwrap_or_default());
            self.secret.event_id(rising, &[&content, &row.to_le_bytes()])
        });
        if !says(&fields, "session_id") {
            let user = ["user_id", "user_key"].into_iter().find_map(|name| fields.get(name)?.as_str());
            let Some(user) = user else {
                return Err("has neither a session_id nor a user_id".into());
            };
            let session = self.session(row, user, at);
            fields.insert("session_id".into(), session.into());
        }
        if let Some(event_id) = event_id {
            fields.insert("event_id".into(), event_id.into());
        }
        Ok(fields)
    }

    /// The session of `user` at an instant; without one, all of a user's events are one session.
    fn session(&mut self, row: u64, user: &str, at: Option<Timestamp>) -> String {
        let Some(at) = at else { return self.secret.session_id(&[user.as_bytes()]) };
        if let Some(latest) = self.users.get_mut(user)
            && at.seconds_since(latest.at).abs() <= self.gap_s
        {
            latest.row = row;
            latest.at = at;
            return latest.session.clone();
        }
        if self.users.len() >= self.max_users && !self.users.contains_key(user) {
            self.forget_half();
        }
        let session = self.secret.session_id(&[user.as_bytes(), &at.0.to_le_bytes()]);
        self.users.insert(user.to_owned(), Latest { row, at, session: session.clone() });
        session
    }

    fn forget_half(&mut self) {
        let mut rows: Vec<u64> = self.users.values().map(|latest| latest.row).collect();
        let middle = rows.len() / 2;
        let (_, median, _) = rows.select_nth_unstable(middle);
        let median = *median;
        self.users.retain(|_, latest| latest.row > median);
    }
}

fn says(fields: &Map<String, Value>, name: &str) -> bool {
    fields.get(name).is_some_and(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn maker() -> EventMaker {
        EventMaker::new(EventKind::Rate, 1800.0, &IdSecret::new(b"0123456789abcdef"))
    }

    fn complete(maker: &mut EventMaker, row: u64, value: Value) -> Result<Map<String, Value>, String> {
        let Value::Object(fields) = value else { panic!("an object") };
        maker.complete(row, fields)
    }

    fn session(maker: &mut EventMaker, user: &str, at_s: u64) -> String {
        let fields = complete(maker, at_s, json!({"user_id": user, "item_id": "i", "occurred_at": at_s})).unwrap();
        fields["session_id"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_silence_ends_a_session() {
        let mut maker = maker();
        let first = session(&mut maker, "u", 10_000);
        assert_eq!(session(&mut maker, "u", 11_800), first);
        assert_ne!(session(&mut maker, "v", 11_801), first);
        // The gap counts from the latest event, not from the first.
        assert_eq!(session(&mut maker, "u", 13_600), first);
        let second = session(&mut maker, "u", 15_401);
        assert_ne!(second, first);
        assert_eq!(session(&mut maker, "u", 15_400), second);
        // A file that jumps back in time does not continue a session from the future.
        assert_ne!(session(&mut maker, "u", 1_000), second);
    }

    #[test]
    fn sessions_are_the_same_next_time_and_do_not_name_the_user() {
        let id = session(&mut maker(), "alice", 10_000);
        assert_eq!(session(&mut maker(), "alice", 10_000), id);
        assert!(id.starts_with("import-") && id.len() == 39 && !id.contains("alice"));
        let mut other = EventMaker::new(EventKind::Rate, 1800.0, &IdSecret::new(b"another secret, longer"));
        assert_ne!(session(&mut other, "alice", 10_000), id);
        assert!(!format!("{other:?}").contains("another"));
    }

    #[test]
    fn an_id_is_made_of_the_content_and_the_row() {
        let id = |row: u64, value: Value| complete(&mut maker(), row, value).unwrap()["event_id"].clone();
        let event = json!({"user_id": "u", "item_id": "i", "occurred_at": 10_000, "value": 3.0});
        assert_eq!(id(1, event.clone()), id(1, event.clone()));
        assert_ne!(id(1, event.clone()), id(2, event.clone()));
        // The way the time is written does not matter, the time does.
        let same = json!({"value": 3.0, "occurred_at": "1970-01-01T02:46:40Z", "item_id": "i", "user_id": "u"});
        assert_eq!(id(1, same), id(1, event.clone()));
        for (name, value) in [("user_id", json!("v")), ("item_id", json!("j")), ("value", json!(4.0))] {
            let mut changed = event.clone();
            changed[name] = value;
            assert_ne!(id(1, changed), id(1, event.clone()), "{name}");
        }
        // A UUID that begins with the time, or with the row where there is none.
        let uuid = |id: Value| uuid::Uuid::parse_str(id.as_str().unwrap()).unwrap();
        let of_event = uuid(id(1, event));
        assert_eq!((of_event.get_version_num(), of_event.as_u128() >> 80), (8, 10_000_000));
        assert_eq!(uuid(id(7, json!({"session_id": "s", "item_id": "i"}))).as_u128() >> 80, 7);
        assert_eq!(id(1, json!({"event_id": "own", "session_id": "s", "item_id": "i"})), "own");
    }

    #[test]
    fn what_a_row_says_stays() {
        let row = json!({"type": "play", "session_id": "s", "item_id": "i", "event_id": "e", "region": "de"});
        assert_eq!(Value::Object(complete(&mut maker(), 1, row.clone()).unwrap()), row);
        let fields = complete(&mut maker(), 1, json!({"session_id": "s", "item_id": "i"})).unwrap();
        assert_eq!(fields["type"], "rate");
        assert!(!fields.contains_key("occurred_at"));
    }

    #[test]
    fn rows_at_fault_say_why() {
        let refusal = |value: Value| complete(&mut maker(), 1, value).unwrap_err();
        assert!(refusal(json!({"item_id": "i"})).contains("neither a session_id nor a user_id"));
        assert!(complete(&mut maker(), 1, json!({"item_id": "i", "user_key": "00"})).is_ok());
        assert!(refusal(json!({"session_id": "s", "occurred_at": "soon"})).starts_with("occurred_at: `soon`"));
    }

    #[test]
    fn users_are_bounded_and_the_busiest_stay() {
        let mut maker = EventMaker { max_users: 10, ..maker() };
        let first: Vec<String> = (0..10).map(|n| session(&mut maker, &format!("u{n}"), 1_000 + n)).collect();
        session(&mut maker, "eleventh", 1_100);
        assert!(maker.users.len() <= 6, "{}", maker.users.len());
        assert_eq!(session(&mut maker, "u9", 1_200), first[9]);
        assert_ne!(session(&mut maker, "u0", 1_200), first[0]);
    }
}
