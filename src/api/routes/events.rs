//! Events: what people did.

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::caller;
use crate::api::extract;
use crate::api::problem::{ApiError, Problem};
use crate::api::state::AppState;
use crate::api::wire::{EventBody, EventRow, EventsAnswer, EventsBody};
use crate::domain::{Event, SessionId};
use crate::engine::EngineError;
use crate::security::{Principal, Scope};
use crate::telemetry::EventOutcome;

/// Whether to wait.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct WaitQuery {
    /// `false` to be answered before the write is durable; `true` if left out.
    pub(in crate::api) wait: Option<bool>,
}

/// Report what people did
///
/// Each event is judged on its own: the answer has one entry for each, in order. Those that are `stored` or
/// `duplicate` are durable; sending an `event_id` again is harmless. When not a single event can be used, the answer
/// is a problem that names every field at fault.
///
/// With `wait=false` the answer, 202, comes as soon as the events have their place in the queue, and each is `accepted`: a
/// crash within the next commit, or a full disk, can lose them, and duplicates are not told.
///
/// What an export says can be sent back as it is. Its `user_key` takes a key with the scope `admin`; from other keys the
/// whole request is refused, 403 `user_key_needs_admin`.
#[utoipa::path(post, path = "/v1/events", tag = "events", params(WaitQuery), request_body = EventsBody,
    responses((status = 200, description = "what became of each event", body = EventsAnswer),
        (status = 202, description = "with `wait=false`: they have their place in the queue", body = EventsAnswer),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn post_events(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    extract::Query(WaitQuery { wait }): extract::Query<WaitQuery>,
    extract::Json(body): extract::Json<EventsBody>,
) -> Result<(StatusCode, Json<EventsAnswer>), ApiError> {
    let most = state.options.limits.events;
    if body.events.is_empty() || body.events.len() > most {
        return Err(ApiError::field("events", format!("must have 1 to {most} entries")));
    }
    if !principal.scopes().allow(Scope::Admin) && body.events.iter().any(EventBody::names_pseudonym) {
        state.metrics.count_auth_failure("scope");
        return Err(ApiError::UserKeyForbidden);
    }
    let now = state.clock.now();
    let latest = now.plus_seconds(state.options.max_event_lead_s);
    let read = |(row, value)| {
        let mut event = EventBody::read(value, &format!("events[{row}]"), now, latest, |user| state.user_key(user))?;
        caller::restrict_event(&state, &principal, &mut event)?;
        Ok(event)
    };
    let rows: Vec<Result<Event, ApiError>> = body.events.into_iter().enumerate().map(read).collect();
    let failed = rows.iter().filter(|row| row.is_err()).count();
    state.metrics.count_events(EventOutcome::Rejected, failed as u64);
    if failed == rows.len() {
        if rows.iter().all(|row| row.as_ref().is_err_and(|error| error.fields().is_empty())) {
            // No field is at fault: it is who asks.
            return Err(rows.into_iter().find_map(Result::err).unwrap_or(ApiError::OtherUser));
        }
        return Err(ApiError::Invalid(rows.into_iter().filter_map(Result::err).flat_map(|e| e.fields()).collect()));
    }
    let good: Vec<Event> = rows.iter().filter_map(|row| row.as_ref().ok().cloned()).collect();
    let accepted = good.len();
    let mut sessions: Vec<SessionId> = good.iter().map(|event| event.session.clone()).collect();
    sessions.dedup();
    let mut receipts = state.engine.observe_events(good, wait.unwrap_or(true)).await?.into_iter();
    sessions.iter().for_each(|session| state.hub.touch(session));
    let mut results = Vec::with_capacity(rows.len());
    for (n, row) in rows.into_iter().enumerate() {
        results.push(match row {
            Ok(event) => {
                let receipt = receipts.next().ok_or_else(|| EngineError::Internal("a receipt is missing".into()))?;
                EventRow::taken(n, event.id, receipt)
            }
            Err(error) => EventRow::refused(n, &error),
        });
    }
    let status = if wait.unwrap_or(true) { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(EventsAnswer { accepted, failed, results })))
}
