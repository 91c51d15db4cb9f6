//! Everything, out again: the catalogue and the log as lines of JSON.
//!
//! An export is read page by page while it is sent, so that its length costs no memory. It ends where the log ended when
//! it began. Whatever interrupts it breaks the connection off: an answer that ends well is whole.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::IntoParams;

use super::users::UserPath;
use crate::api::extract::{Path, Query};
use crate::api::problem::{ApiError, FieldError, Problem};
use crate::api::state::AppState;
use crate::api::wire::{ExportedEvent, ItemBody, Pseudonym, Rfc3339, SessionAnswer};
use crate::domain::ItemId;
use crate::engine::{Engine, EngineError};

const NDJSON: &str = "application/x-ndjson";
/// Entries of the log that are read at once.
const EVENTS_PAGE: usize = 1_000;
/// Items that are read at once; one may have a description of 20,000 bytes.
const ITEMS_PAGE: usize = 250;

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct EventsQuery {
    /// The first place in the log; the beginning if left out. To go on after a line, its `sequence` and one.
    from_sequence: Option<u64>,
    /// At most so many events; all if left out.
    limit: Option<u64>,
}

/// Which items.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct ItemsQuery {
    /// Begin after this item; with the first if left out.
    #[param(value_type = Option<String>)]
    after: Option<ItemId>,
    /// At most so many items; all if left out.
    limit: Option<u64>,
}

/// Export the log's events
///
/// One event a line, in the order of the log, each with its `sequence` there: what was acknowledged before the request
/// began. Users are pseudonyms (`user_key`); a server with the same user secret knows the same person by the same one.
/// A line can be sent to `POST /v1/events` as it is, by a key with the scope `admin`.
///
/// The connection breaks off if something fails: an answer that ends well is whole.
#[utoipa::path(get, path = "/v1/events/export", tag = "events", params(EventsQuery),
    responses((status = 200, description = "one event a line", body = ExportedEvent<'_>, content_type = "application/x-ndjson"),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn export_events(
    State(state): State<AppState>,
    Query(query): Query<EventsQuery>,
) -> Result<Response, ApiError> {
    let left = checked(query.limit)?;
    let (engine, until) = (Arc::clone(&state.engine), state.engine.log_end());
    answer(&state, EventPages { engine, next: Some(query.from_sequence.unwrap_or(0)), until, left }).await
}

/// Export the catalogue
///
/// One item a line, in the order of the ids, as `POST /v1/items/batch` reads it. Items that are written or deleted
/// meanwhile may or may not show it. The uploaded pictures are not kept, so they are not in it: `exported_images` has
/// their hashes and sizes. An item whose own id is `export` or `batch` is reached percent-encoded: `/v1/items/%65xport`.
///
/// The connection breaks off if something fails: an answer that ends well is whole.
#[utoipa::path(get, path = "/v1/items/export", tag = "items", params(ItemsQuery),
    responses((status = 200, description = "one item a line", body = ItemBody, content_type = "application/x-ndjson"),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn export_items(
    State(state): State<AppState>,
    Query(query): Query<ItemsQuery>,
) -> Result<Response, ApiError> {
    let left = checked(query.limit)?;
    answer(&state, ItemPages { engine: Arc::clone(&state.engine), after: query.after, left }).await
}

/// Export what is known of a person
///
/// First a line that sums it up, then one for each live session and one for each event, oldest first, as an access
/// request needs it. `kind` says what a line is. What was learned from many people together names nobody and is not in it.
#[utoipa::path(get, path = "/v1/users/{user_id}/export", tag = "users", params(UserPath),
    responses((status = 200, description = "one object a line", body = Object, content_type = "application/x-ndjson"),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn export_user(
    State(state): State<AppState>,
    Path(UserPath { user_id }): Path<UserPath>,
) -> Result<Response, ApiError> {
    let user = state.user_key(&user_id);
    let sequences = state.engine.events_of(user).await?;
    let sessions = state.engine.sessions_of(user);
    let mut head = Vec::new();
    let summary = json!({"kind": "user", "user_id": user_id, "user_key": Pseudonym(user), "events": sequences.len(),
        "live_sessions": sessions.len(), "exported_at": Rfc3339(state.clock.now())});
    write_line(&mut head, &summary)?;
    for (id, session) in sessions {
        let session = Line { kind: "session", row: SessionAnswer::new(id, session) };
        write_line(&mut head, &session)?;
    }
    answer(&state, UserPages { engine: Arc::clone(&state.engine), head: Some(head), sequences, next: 0 }).await
}

/// A line of several kinds.
#[derive(Serialize)]
struct Line<T> {
    kind: &'static str,
    #[serde(flatten)]
    row: T,
}

struct UserPages {
    engine: Arc<Engine>,
    head: Option<Vec<u8>>,
    sequences: Vec<u64>,
    next: usize,
}

impl Pages for UserPages {
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        let mut lines = self.head.take().unwrap_or_default();
        // Events of a page may have become unreadable meanwhile.
        while lines.is_empty() && self.next < self.sequences.len() {
            let end = self.sequences.len().min(self.next + EVENTS_PAGE);
            let page = self.engine.events_at(self.sequences[self.next..end].to_vec()).await?;
            self.next = end;
            for (sequence, event) in &page {
                write_line(&mut lines, &Line { kind: "event", row: ExportedEvent::new(*sequence, event) })?;
            }
        }
        Ok((!lines.is_empty()).then(|| lines.into()))
    }
}

fn checked(limit: Option<u64>) -> Result<u64, ApiError> {
    match limit {
        Some(0) => Err(ApiError::InvalidQuery(FieldError::new("limit", "must be at least 1"))),
        limit => Ok(limit.unwrap_or(u64::MAX)),
    }
}

/// Lines, page by page.
trait Pages: Send + Sized + 'static {
    /// The next lines, at least one; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, ApiError>> + Send;
}

struct EventPages {
    engine: Arc<Engine>,
    next: Option<u64>,
    until: u64,
    left: u64,
}

impl Pages for EventPages {
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        let mut lines = Vec::new();
        // A page may have entries about items only.
        while lines.is_empty()
            && self.left > 0
            && let Some(from) = self.next
        {
            let page = self.engine.export_events(from, self.until, EVENTS_PAGE).await?;
            self.next = page.next;
            for (sequence, event) in page.events.iter().take(usize::try_from(self.left).unwrap_or(usize::MAX)) {
                write_line(&mut lines, &ExportedEvent::new(*sequence, event))?;
                self.left -= 1;
            }
        }
        Ok((!lines.is_empty()).then(|| lines.into()))
    }
}

struct ItemPages {
    engine: Arc<Engine>,
    after: Option<ItemId>,
    left: u64,
}

impl Pages for ItemPages {
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        let limit = ITEMS_PAGE.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if limit == 0 {
            return Ok(None);
        }
        let page = self.engine.export_items(self.after.clone(), limit).await?;
        let Some(last) = page.last() else { return Ok(None) };
        self.after = Some(last.item.id.clone());
        self.left -= page.len() as u64;
        let mut lines = Vec::new();
        page.iter().try_for_each(|view| write_line(&mut lines, &ItemBody::exported(view)))?;
        Ok(Some(lines.into()))
    }
}

fn write_line(lines: &mut Vec<u8>, row: &impl Serialize) -> Result<(), ApiError> {
    serde_json::to_writer(&mut *lines, row).map_err(|e| EngineError::Internal(e.to_string()))?;
    lines.push(b'\n');
    Ok(())
}

/// The answer, of which the first page is read already: what fails at once is a problem like any other.
async fn answer(state: &AppState, mut pages: impl Pages) -> Result<Response, ApiError> {
    let permit = state.export_permit()?;
    let first = pages.next().await?;
    let rest = stream::unfold(Some((pages, permit)), rest_of);
    let body = stream::iter(first.map(Ok)).chain(rest);
    Ok(([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(body)).into_response())
}

async fn rest_of<P: Pages>(
    reading: Option<(P, OwnedSemaphorePermit)>,
) -> Option<(Result<Bytes, std::io::Error>, Option<(P, OwnedSemaphorePermit)>)> {
    let (mut pages, permit) = reading?;
    match pages.next().await {
        Ok(page) => Some((Ok(page?), Some((pages, permit)))),
        Err(error) => {
            // The head has gone out as a success, so that the request's own log line will not show it.
            tracing::error!(code = error.kind().1, %error, "an export broke off");
            Some((Err(std::io::Error::other("the export broke off")), None))
        }
    }
}
