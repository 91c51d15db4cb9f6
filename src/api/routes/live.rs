//! Live sessions: a connection over which frames stream in and lists stream out.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode};

use super::recommendations::request_of;
use super::sessions::SessionPath;
use crate::api::caller;
use crate::api::extract::{ContentKind, Path, Query, parse, read_body};
use crate::api::live::{Kind, socket, stream};
use crate::api::middleware::RequestId;
use crate::api::problem::{ApiError, Problem};
use crate::api::server::Lifeline;
use crate::api::state::AppState;
use crate::api::wire::{FRAME_HEAD_BYTES, LiveQuery, Rfc3339, ServerMessage, TicketAnswer, TicketBody};
use crate::security::{Person, Principal};

const READ_BUFFER_BYTES: usize = 16 * 1024;
const WRITE_BUFFER_BYTES: usize = 16 * 1024;

/// Open a live session
///
/// A WebSocket (RFC 6455) over HTTP/1.1. The client sends frames as binary messages (eight bytes of media time, then the
/// picture) and JSON: events, what the player does, `lists`, `ping`. The server pushes lists whenever they change in a way
/// that a viewer would notice. The protocol is in `docs/live.md`; the messages of the server are `LiveMessage`.
#[utoipa::path(get, path = "/v1/sessions/{session_id}/live", tag = "live", params(SessionPath, LiveQuery),
    responses((status = 101, description = "what follows are messages", body = ServerMessage),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn open_live(
    State(state): State<AppState>,
    Path(SessionPath { session_id }): Path<SessionPath>,
    Query(query): Query<LiveQuery>,
    Extension(principal): Extension<Principal>,
    request_id: Option<Extension<RequestId>>,
    lifeline: Option<Extension<Lifeline>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|_| ApiError::UpgradeRequired)?;
    let (query, pace) = query.split(session_id.clone(), &state.options.live)?;
    let resumed = state.engine.session(&session_id);
    let mut wishes = request_of(query, &state)?;
    caller::restrict(&state, &principal, &mut wishes)?;
    let seat = state.hub.enter(&session_id, &principal, Kind::Socket)?;
    let connection = socket::Connection {
        name: request_id.map_or_else(|| "".into(), |Extension(id)| id.0),
        resumed: resumed.as_ref().map(|session| session.frames),
        lifeline: lifeline.map(|Extension(lifeline)| lifeline).unwrap_or_default(),
        session: session_id,
        principal,
        wishes,
        pace,
        seat,
    };
    let most = state.options.limits.image_bytes + FRAME_HEAD_BYTES;
    let answer = upgrade
        .max_message_size(most)
        .max_frame_size(most)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(16 << 20)
        .on_upgrade(move |socket| socket::converse(state, connection, socket));
    Ok(answer)
}

/// Follow a live session
///
/// Server-sent events for those who only read: one `lists` event at first and whenever the lists change in a way that a
/// viewer would notice. The `id` of an event names what is shown; a reader that comes back with it as `Last-Event-ID` hears
/// of nothing until that has changed.
#[utoipa::path(get, path = "/v1/sessions/{session_id}/live/events", tag = "live", params(SessionPath, LiveQuery),
    responses((status = 200, description = "events", body = ServerMessage, content_type = "text/event-stream"),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn follow_live(
    State(state): State<AppState>,
    Path(SessionPath { session_id }): Path<SessionPath>,
    Query(query): Query<LiveQuery>,
    Extension(principal): Extension<Principal>,
    lifeline: Option<Extension<Lifeline>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (query, pace) = query.split(session_id.clone(), &state.options.live)?;
    let mut wishes = request_of(query, &state)?;
    caller::restrict(&state, &principal, &mut wishes)?;
    let seat = state.hub.enter(&session_id, &principal, Kind::Reader)?;
    let known = headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let connection = socket::Connection {
        name: "".into(),
        resumed: None,
        lifeline: lifeline.map(|Extension(lifeline)| lifeline).unwrap_or_default(),
        session: session_id,
        principal,
        wishes,
        pace,
        seat,
    };
    Ok(stream::events(stream::Reader::new(state, connection, known)).into_response())
}

/// Get a ticket for a live session
///
/// For browsers, which can set no headers on a WebSocket: the ticket is good once, for a short time, for this session, and
/// for what the key that asks may do with lists and events. With `user_id` its holder is that person.
#[utoipa::path(post, path = "/v1/sessions/{session_id}/tickets", tag = "live", params(SessionPath),
    request_body = Option<TicketBody>,
    responses((status = 201, description = "a ticket", body = TicketAnswer),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn post_ticket(
    State(state): State<AppState>,
    Path(SessionPath { session_id }): Path<SessionPath>,
    Extension(principal): Extension<Principal>,
    request: axum::extract::Request,
) -> Result<(StatusCode, Json<TicketAnswer>), ApiError> {
    let kind = ContentKind::of(request.headers());
    let bytes = read_body(request, 16 * 1024).await?;
    let body = match kind {
        _ if bytes.is_empty() => TicketBody::default(),
        ContentKind::Json => parse::<TicketBody>(&bytes, "")?.check()?,
        ContentKind::NdJson | ContentKind::Image | ContentKind::Form | ContentKind::Multipart | ContentKind::Other => {
            return Err(ApiError::UnsupportedMediaType { expected: "application/json" });
        }
    };
    let named = body.user_id.as_ref().map(|user| state.user_key(user));
    let person = match (caller::user_of(&principal, named)?, principal.person()) {
        // Whoever is a person already stays what they are.
        (_, Some(_)) | (None, None) => None,
        (Some(user), None) => {
            Some(Person { user, age_years: body.age_rating, region: body.region.as_deref().map(Arc::from) })
        }
    };
    // Whoever holds a key may say whose a session is, if it is nobody's yet.
    if let Some(person) = &person
        && !state.engine.give_session(&session_id, person.user)
    {
        return Err(ApiError::ForeignSession);
    }
    let bound = principal.bound_to(session_id.clone(), person);
    caller::may_use(&state, &bound, &session_id)?;
    let ticket = state.issue_ticket(bound)?;
    let path = format!("/v1/sessions/{}/live", percent_encoded(session_id.as_str()));
    Ok((StatusCode::CREATED, Json(TicketAnswer { ticket: ticket.text, expires_at: Rfc3339(ticket.expires_at), path })))
}

/// As a segment of a path.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_keeps_its_meaning() {
        assert_eq!(percent_encoded("a-b_1.~"), "a-b_1.~");
        assert_eq!(percent_encoded("a/b ü"), "a%2Fb%20%C3%BC");
    }
}
