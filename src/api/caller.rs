//! For whom may this caller ask? What a key leaves open, a person's token or ticket decides.

use super::problem::ApiError;
use super::state::AppState;
use crate::domain::{Condition, Event, Range, SessionId, Test, UserKey};
use crate::engine::{FrameRequest, RecommendRequest};
use crate::security::{Principal, Scope};

/// Refuses a session that the caller may not touch. A session that a person names and nobody has begun is theirs from
/// then on.
pub(super) fn may_use(state: &AppState, principal: &Principal, session: &SessionId) -> Result<(), ApiError> {
    may_name(principal, session)?;
    match principal.person() {
        Some(person) if !state.engine.claim_session(session, person.user) => Err(ApiError::ForeignSession),
        Some(_) | None => Ok(()),
    }
}

/// The same for what must not begin a session: reading or ending it.
pub(super) fn may_see(state: &AppState, principal: &Principal, session: &SessionId) -> Result<(), ApiError> {
    may_name(principal, session)?;
    match principal.person() {
        // One that is not there looks like somebody else's.
        Some(person) if !state.engine.session_is_of(session, person.user) => Err(ApiError::ForeignSession),
        Some(_) | None => Ok(()),
    }
}

fn may_name(principal: &Principal, session: &SessionId) -> Result<(), ApiError> {
    if principal.session().is_some_and(|only| only != session) { Err(ApiError::ForeignSession) } else { Ok(()) }
}

/// The person that a request is for: whom it names, or who asks.
pub(super) fn user_of(principal: &Principal, named: Option<UserKey>) -> Result<Option<UserKey>, ApiError> {
    match (principal.person(), named) {
        (Some(person), Some(named)) if named != person.user => Err(ApiError::OtherUser),
        (Some(person), _) => Ok(Some(person.user)),
        (None, named) => Ok(named),
    }
}

/// Brings a request for lists within what the caller may ask for.
pub(super) fn restrict(
    state: &AppState,
    principal: &Principal,
    request: &mut RecommendRequest,
) -> Result<(), ApiError> {
    request.user = user_of(principal, request.user)?;
    match &request.session {
        Some(session) => may_use(state, principal, session)?,
        None if principal.session().is_some() => request.session = principal.session().cloned(),
        None => {}
    }
    let Some(person) = principal.person() else { return Ok(()) };
    if let Some(region) = &person.region {
        request.region = Some(region.to_string());
    }
    if let Some(age) = person.age_years {
        // What has no age rating is for everybody.
        let too_old = Range { gt: Some(f64::from(age)), ..Range::default() };
        request.filter.must_not.push(Condition { field: "age_rating".into(), test: Test::Range(too_old) });
    }
    Ok(())
}

/// The same for a frame.
pub(super) fn restrict_frame(
    state: &AppState,
    principal: &Principal,
    frame: &mut FrameRequest,
) -> Result<(), ApiError> {
    frame.user = user_of(principal, frame.user)?;
    may_use(state, principal, &frame.session)?;
    if let Some(region) = principal.person().and_then(|person| person.region.as_ref()) {
        frame.region = Some(region.to_string());
    }
    Ok(())
}

/// The same for an event.
pub(super) fn restrict_event(state: &AppState, principal: &Principal, event: &mut Event) -> Result<(), ApiError> {
    principal.require(Scope::Ingest).map_err(|_| ApiError::Forbidden { needed: Scope::Ingest.name().to_owned() })?;
    event.user = user_of(principal, event.user)?;
    may_use(state, principal, &event.session)?;
    if let Some(region) = principal.person().and_then(|person| person.region.as_ref()) {
        event.region = Some(region.to_string());
    }
    Ok(())
}
