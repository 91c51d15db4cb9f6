//! What do the two sides of a live session say to each other? `docs/live.md` is the same for people.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::recommend::{MotionAnswer, list_query, seconds};
use super::{FrameAnswer, RecommendAnswer, RecommendQuery, Rfc3339};
use crate::api::extract::{from_value, parse};
use crate::api::live::Notice;
use crate::api::options::LiveOptions;
use crate::api::problem::{ApiError, Problem};
use crate::domain::{EventKind, ItemId, SessionId, UserId};

/// Bytes before the picture in a binary message: the media time.
pub(in crate::api) const FRAME_HEAD_BYTES: usize = 8;
const MAX_AGE_YEARS: u8 = 150;

list_query! {
    /// How a live session is to be.
    LiveQuery {
        /// In place of a key, for browsers, which can set no headers: a ticket for this session.
        #[expect(dead_code, reason = "read at the door; named here so that it is documented and not refused")]
        pub(in crate::api) ticket: Option<String>,
        /// How far the item on screen has been played, in seconds.
        pub(in crate::api) position_s: Option<f64>,
        /// Items never to be answered, separated by commas.
        pub(in crate::api) exclude: Option<String>,
        /// Whether to tell of every frame that was looked at, and not only of lists.
        pub(in crate::api) frames: Option<bool>,
        /// Lists are pushed when an item has moved by so many places.
        pub(in crate::api) rank_change: Option<usize>,
        /// Lists are pushed when a probability has changed by this share of the larger one.
        pub(in crate::api) probability_change: Option<f64>,
        /// Lists are pushed at most so often in a second; not more often than the server's settings allow.
        pub(in crate::api) pushes_per_s: Option<f64>,
    }
}

/// How a session is followed, apart from what is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::api) struct Pace {
    pub(in crate::api) tell_frames: bool,
    pub(in crate::api) notice: Notice,
    pub(in crate::api) pushes_per_s: f64,
}

list_query!(shared LiveQuery);

impl LiveQuery {
    /// Splits it into what is asked for and how it is followed.
    pub(in crate::api) fn split(
        self,
        session: SessionId,
        options: &LiveOptions,
    ) -> Result<(RecommendQuery, Pace), ApiError> {
        let probability_share = self.probability_change.unwrap_or(options.probability_change);
        if !(0.0..=1.0).contains(&probability_share) {
            return Err(ApiError::field("probability_change", "must be 0 to 1"));
        }
        let pushes_per_s = self.pushes_per_s.unwrap_or(options.max_pushes_per_s);
        if !(pushes_per_s > 0.0 && pushes_per_s.is_finite()) {
            return Err(ApiError::field("pushes_per_s", "must be above 0"));
        }
        let places = self.rank_change.unwrap_or(options.rank_change);
        if places == 0 {
            return Err(ApiError::field("rank_change", "must be at least 1"));
        }
        let pace = Pace {
            tell_frames: self.frames.unwrap_or_default(),
            notice: Notice { places, probability_share },
            pushes_per_s: pushes_per_s.min(options.max_pushes_per_s),
        };
        let (position_s, exclude) = (self.position_s, self.exclude.clone());
        let query = RecommendQuery { session_id: Some(session), position_s, exclude, ..self.shared() };
        Ok((query, pace))
    }
}

/// A frame as a binary message: eight bytes of media time in seconds (IEEE 754, big-endian; NaN for unknown), then the
/// picture's file. `None` if it is too short.
pub(in crate::api) fn read_frame(mut message: bytes::Bytes) -> Option<(Option<f64>, bytes::Bytes)> {
    let head: [u8; FRAME_HEAD_BYTES] = message.get(..FRAME_HEAD_BYTES)?.try_into().ok()?;
    let picture = message.split_off(FRAME_HEAD_BYTES);
    let at_s = f64::from_be_bytes(head);
    (!picture.is_empty()).then_some(((at_s.is_finite() && at_s >= 0.0).then_some(at_s), picture))
}

/// What a client says in words.
#[derive(Debug, PartialEq)]
pub(in crate::api) enum ClientMessage {
    /// Somebody did something: to be logged. The row is an `Event` with the session's id.
    Event(Value),
    /// The player has changed.
    Player(PlayerChange),
    /// Lists are wanted now.
    Lists,
    /// Is anybody there?
    Ping,
}

/// What the player does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum PlayerAction {
    /// It stands still.
    Pause,
    /// It goes on.
    Resume,
    /// It has jumped.
    Seek,
    /// It shows another item, or none.
    Item,
}

/// What the player does, with which item, and where.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::api) struct PlayerChange {
    pub(in crate::api) action: PlayerAction,
    pub(in crate::api) item: Option<ItemId>,
    pub(in crate::api) at_s: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlayerBody {
    #[serde(rename = "type")]
    _kind: String,
    item_id: Option<ItemId>,
    at_s: Option<f64>,
}

impl ClientMessage {
    /// Reads a text message of a client in `session`.
    pub(in crate::api) fn read(text: &[u8], session: &SessionId) -> Result<Self, ApiError> {
        let mut value: Value = parse(text, "")?;
        let Some(fields) = value.as_object_mut() else {
            return Err(ApiError::field("type", "must be there: a message is an object"));
        };
        let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let action = match kind.as_str() {
            "ping" => return Ok(Self::Ping),
            "lists" => return Ok(Self::Lists),
            "pause" => PlayerAction::Pause,
            "resume" => PlayerAction::Resume,
            "seek" => PlayerAction::Seek,
            "item" => PlayerAction::Item,
            event if event.parse::<EventKind>().is_ok() => {
                let named = fields.entry("session_id").or_insert_with(|| session.as_str().into());
                if named.as_str() != Some(session.as_str()) {
                    return Err(ApiError::field("session_id", "is another one than that of the connection"));
                }
                return Ok(Self::Event(value));
            }
            _ => {
                let known = "must be a type of event, `pause`, `resume`, `seek`, `item`, `lists` or `ping`";
                return Err(ApiError::field("type", known));
            }
        };
        let body: PlayerBody = from_value(value, "")?;
        let at_s = seconds("at_s", body.at_s)?;
        Ok(Self::Player(PlayerChange { action, item: body.item_id, at_s }))
    }
}

/// What the server says in a live session; `type` tells which.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = LiveMessage)]
pub(in crate::api) enum ServerMessage {
    /// The first message.
    Hello(HelloAnswer),
    /// Lists that differ from those pushed before in a way that a viewer would notice.
    Lists(Box<ListsAnswer>),
    /// With `frames=true`: a frame was looked at.
    Frame(SeenAnswer),
    /// An event is durable.
    Ack(AckAnswer),
    /// Something that the client sent cannot be used, or could not be done.
    Error(LiveError),
    /// The answer to `ping`.
    Pong,
    /// The last message; the connection is closed next.
    Bye(LiveError),
}

/// What a client should know of its connection.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LiveHello)]
pub(in crate::api) struct HelloAnswer {
    /// The session.
    #[schema(value_type = String)]
    pub(in crate::api) session_id: SessionId,
    /// Whether the server knew the session: its frames and events count on.
    pub(in crate::api) resumed: bool,
    /// How many frames it has had.
    pub(in crate::api) frames: u64,
    /// Seconds between the server's pings.
    pub(in crate::api) heartbeat_s: f64,
    /// Seconds without a message or a pong after which the server gives the connection up.
    pub(in crate::api) idle_s: f64,
    /// Bytes of one frame at most.
    pub(in crate::api) max_frame_bytes: usize,
    /// Frames in a second that are looked at, at most.
    pub(in crate::api) max_frames_per_s: f64,
    /// Messages in a second, at most; more end the connection.
    pub(in crate::api) max_messages_per_s: u32,
}

/// Lists, and what they rest on.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LiveLists)]
pub(in crate::api) struct ListsAnswer {
    /// Counts the pushes of this connection, from 1.
    pub(in crate::api) number: u64,
    /// Why they were made: `start`, `frame`, `change` (an event, or a frame from elsewhere), `asked`, `time`.
    pub(in crate::api) because: &'static str,
    /// The media time of the newest frame that they rest on, if they were made for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::api) at_s: Option<f64>,
    /// Frames of the session.
    pub(in crate::api) frames: u64,
    /// Frames of this connection that were not looked at, because later ones came before their turn.
    pub(in crate::api) dropped_frames: u64,
    /// For how long the present scene has lasted, in seconds of media time.
    pub(in crate::api) scene_age_s: f64,
    /// How the picture moved between the last two frames, and whether that was a cut.
    pub(in crate::api) motion: MotionAnswer,
    /// The lists, with `sources_used` and `degraded`.
    pub(in crate::api) recommendation: RecommendAnswer,
}

/// What became of a frame.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LiveFrame)]
pub(in crate::api) struct SeenAnswer {
    /// Its media time, if it had one.
    pub(in crate::api) at_s: Option<f64>,
    /// What was seen.
    #[serde(flatten)]
    pub(in crate::api) frame: FrameAnswer,
    /// Frames of this connection that were not looked at so far.
    pub(in crate::api) dropped_frames: u64,
    /// Milliseconds from its arrival to this message.
    pub(in crate::api) took_ms: f64,
}

/// What became of an event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LiveAck)]
pub(in crate::api) struct AckAnswer {
    /// The event's id, the client's or the service's.
    pub(in crate::api) event_id: String,
    /// `stored` or `duplicate`; both are durable.
    pub(in crate::api) status: &'static str,
    /// Whether the catalogue has its item; if not, it counts once the item arrives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::api) known_item: Option<bool>,
}

/// A problem, as answers over HTTP have it, and what it is about.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct LiveError {
    /// The event that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::api) event_id: Option<String>,
    /// The media time of the frame that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::api) at_s: Option<f64>,
    /// When to try again, in seconds, if that would help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::api) retry_after_s: Option<f64>,
    /// What went wrong. (Its `type` is left out: the message has one of its own.)
    #[serde(flatten)]
    #[schema(value_type = Problem)]
    pub(in crate::api) problem: Value,
}

impl LiveError {
    /// `error` about nothing in particular.
    pub(in crate::api) fn of(error: &ApiError, connection: &str) -> Self {
        let Problem { title, status, detail, code, instance, errors, .. } = error.problem(connection);
        let mut problem = serde_json::json!({
            "title": title, "status": status, "detail": detail, "code": code, "instance": instance,
        });
        if !errors.is_empty() {
            problem["errors"] = serde_json::json!(errors);
        }
        let retry_after_s = error.retry_after().map(|after| after.as_secs_f64());
        Self { event_id: None, at_s: None, retry_after_s, problem }
    }
}

/// For whom a ticket is. Everything may be left out.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct TicketBody {
    /// The person, in the client's own terms: whoever holds the ticket is this person and nobody else.
    #[schema(value_type = Option<String>, examples("u1"))]
    pub(in crate::api) user_id: Option<UserId>,
    /// With `user_id`: the person's age in years; items with a higher age rating are left out.
    pub(in crate::api) age_rating: Option<u8>,
    /// With `user_id`: the person's region, whatever the connection says.
    pub(in crate::api) region: Option<String>,
}

impl TicketBody {
    /// Refuses what makes no sense.
    pub(in crate::api) fn check(self) -> Result<Self, ApiError> {
        if self.user_id.is_none() && (self.age_rating.is_some() || self.region.is_some()) {
            return Err(ApiError::field("user_id", "must be there: age_rating and region are a person's"));
        }
        if self.age_rating.is_some_and(|age| age > MAX_AGE_YEARS) {
            return Err(ApiError::field("age_rating", format!("must be 0 to {MAX_AGE_YEARS}")));
        }
        let region = super::recommend::word("region", self.region)?;
        Ok(Self { region, ..self })
    }
}

/// A ticket.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Ticket)]
pub(in crate::api) struct TicketAnswer {
    /// To be passed on as `?ticket=`, once.
    pub(in crate::api) ticket: String,
    /// From then on it is good for nothing.
    pub(in crate::api) expires_at: Rfc3339,
    /// Where to use it.
    #[schema(examples("/v1/sessions/s1/live"))]
    pub(in crate::api) path: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(message: &Value) -> Result<ClientMessage, ApiError> {
        ClientMessage::read(message.to_string().as_bytes(), &SessionId::new("s").unwrap())
    }

    #[test]
    fn messages_are_events_or_of_the_player() {
        let click = read(&json!({"type": "click", "item_id": "i"})).unwrap();
        assert_eq!(click, ClientMessage::Event(json!({"type": "click", "item_id": "i", "session_id": "s"})));
        let seek = read(&json!({"type": "seek", "at_s": 12.5})).unwrap();
        let change = PlayerChange { action: PlayerAction::Seek, item: None, at_s: Some(12.5) };
        assert_eq!(seek, ClientMessage::Player(change));
        assert_eq!(read(&json!({"type": "ping"})).unwrap(), ClientMessage::Ping);
        let field = |message: Value| read(&message).unwrap_err().fields()[0].field.clone();
        assert_eq!(field(json!({"type": "clik"})), "type");
        assert_eq!(field(json!([1])), "type");
        assert_eq!(field(json!({"type": "click", "session_id": "other"})), "session_id");
        assert_eq!(field(json!({"type": "pause", "at_s": -1})), "at_s");
        assert_eq!(field(json!({"type": "pause", "where": 1})), "where");
        assert!(matches!(
            ClientMessage::read(b"{", &SessionId::new("s").unwrap()),
            Err(ApiError::MalformedJson { .. })
        ));
    }

    #[test]
    fn frames_begin_with_their_media_time() {
        let message = |at_s: f64, picture: &[u8]| bytes::Bytes::from([&at_s.to_be_bytes()[..], picture].concat());
        assert_eq!(read_frame(message(1.5, b"jpeg")), Some((Some(1.5), "jpeg".into())));
        assert_eq!(read_frame(message(f64::NAN, b"jpeg")), Some((None, "jpeg".into())));
        assert_eq!(read_frame(message(-1.0, b"jpeg")), Some((None, "jpeg".into())));
        assert_eq!(read_frame(message(1.5, b"")), None);
        assert_eq!(read_frame("short".into()), None);
    }

    #[test]
    fn the_servers_bounds_stand_above_the_clients_wishes() {
        let split = |query: LiveQuery| query.split(SessionId::new("s").unwrap(), &LiveOptions::default());
        let wish = LiveQuery { pushes_per_s: Some(1e6), rank_change: Some(3), ..LiveQuery::default() };
        let (_, pace) = split(wish).unwrap();
        assert_eq!(pace.pushes_per_s, LiveOptions::default().max_pushes_per_s);
        assert_eq!(pace.notice.places, 3);
        let field = |query: LiveQuery| split(query).unwrap_err().fields()[0].field.clone();
        assert_eq!(field(LiveQuery { pushes_per_s: Some(0.0), ..LiveQuery::default() }), "pushes_per_s");
        assert_eq!(field(LiveQuery { rank_change: Some(0), ..LiveQuery::default() }), "rank_change");
        let nan = LiveQuery { probability_change: Some(f64::NAN), ..LiveQuery::default() };
        assert_eq!(field(nan), "probability_change");
    }

    #[test]
    fn messages_of_the_server_have_one_type() {
        let error = LiveError::of(&ApiError::field("type", "is wrong"), "c");
        let message = serde_json::to_value(ServerMessage::Error(error)).unwrap();
        assert_eq!((&message["type"], &message["code"]), (&json!("error"), &json!("invalid_value")));
        assert_eq!(message["errors"][0]["field"], "type");
        assert_eq!(serde_json::to_value(ServerMessage::Pong).unwrap(), json!({"type": "pong"}));
    }
}
