//! Items, many at a time: lines of JSON in, one status for each out.
//!
//! The body is read line by line and written in chunks, so that memory is bounded however long it is.

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, header};

use crate::api::extract::{ContentKind, parse};
use crate::api::lines::{Line, Lines};
use crate::api::options::Limits;
use crate::api::problem::{ApiError, Problem};
use crate::api::state::AppState;
use crate::api::wire::{BatchAnswer, BatchRow, ItemBody, write_of};
use crate::domain::ItemId;
use crate::engine::ItemWrite;
use crate::telemetry::ItemOutcome;

const NDJSON: &str = "application/x-ndjson";

/// Write many items
///
/// One item a line, as JSON with its `item_id`; pictures as `images_base64`. Each line is judged on its own. Ask for
/// `application/x-ndjson` to get each status as soon as its chunk is durable; else they come together at the end.
#[utoipa::path(post, path = "/v1/items/batch", tag = "items",
    request_body(content = ItemBody, content_type = "application/x-ndjson", description = "one item a line"),
    responses((status = 200, description = "what became of each line", content(
            (BatchAnswer = "application/json"), (BatchRow = "application/x-ndjson"))),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn post_items(State(state): State<AppState>, request: Request) -> Result<Response, ApiError> {
    let given = request.headers().contains_key(header::CONTENT_TYPE);
    match ContentKind::of(request.headers()) {
        ContentKind::NdJson | ContentKind::Json | ContentKind::Form => {}
        ContentKind::Image if !given => {}
        ContentKind::Image | ContentKind::Multipart | ContentKind::Other => {
            return Err(ApiError::UnsupportedMediaType { expected: NDJSON });
        }
    }
    let stream_rows = wants_stream(request.headers())?;
    let lines = Lines::new(request.into_body().into_data_stream(), state.options.limits.batch_row_bytes);
    let mut batch = Batch { state, lines, next_row: 0, over: false };
    if stream_rows {
        return Ok(([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(batch.into_stream())).into_response());
    }
    let mut answer = BatchAnswer::default();
    while let Some(rows) = batch.next_chunk().await? {
        answer.failed += rows.iter().filter(|row| row.error.is_some()).count();
        answer.results.extend(rows);
    }
    if answer.results.is_empty() {
        return Err(ApiError::EmptyBody("one item a line"));
    }
    answer.stored = answer.results.len() - answer.failed;
    Ok(Json(answer).into_response())
}

/// Whether statuses are wanted line by line; an error if the client takes neither form.
fn wants_stream(headers: &HeaderMap) -> Result<bool, ApiError> {
    let Some(accept) = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()) else { return Ok(false) };
    let mut others = false;
    for choice in accept.split(',') {
        match choice.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            NDJSON | "application/ndjson" | "application/jsonl" => return Ok(true),
            "application/json" | "application/*" | "*/*" => return Ok(false),
            _ => others = true,
        }
    }
    if others {
        Err(ApiError::NotAcceptable { available: "application/json or application/x-ndjson" })
    } else {
        Ok(false)
    }
}

/// A batch that is being read and written.
struct Batch {
    state: AppState,
    lines: Lines,
    next_row: usize,
    over: bool,
}

/// A row that was read: whose it is, if it says so, and what it asks for.
type Read = (Option<ItemId>, Result<ItemWrite, ApiError>);

impl Batch {
    /// The rows of the next chunk, durably written; `None` at the end.
    async fn next_chunk(&mut self) -> Result<Option<Vec<BatchRow>>, ApiError> {
        if self.over {
            return Ok(None);
        }
        let limits = self.state.options.limits;
        let raw = self.read_chunk(&limits).await?;
        if raw.is_empty() {
            return Ok(None);
        }
        // Base64 of many pictures takes milliseconds: not on a thread that answers others.
        let read = tokio::task::spawn_blocking(move || raw.into_iter().map(|line| read_row(line, &limits)).collect())
            .await
            .map_err(|error| ApiError::Panicked(error.to_string()))?;
        // Viewers go first: an import slows down where a viewer would be refused.
        let _piece = self.state.admission.bulk_may_go_on().await;
        Ok(Some(self.write(read).await))
    }

    async fn read_chunk(&mut self, limits: &Limits) -> Result<Vec<Result<Bytes, ApiError>>, ApiError> {
        let (mut raw, mut held_bytes) = (Vec::new(), 0);
        while raw.len() < limits.batch_chunk_rows && held_bytes < limits.upload_bytes {
            match self.lines.next_line().await? {
                None => {
                    self.over = true;
                    break;
                }
                Some(_) if self.next_row + raw.len() >= limits.batch_rows => {
                    let detail = format!("a batch has at most {} rows; the rest was not read", limits.batch_rows);
                    raw.push(Err(ApiError::field("body", detail)));
                    self.over = true;
                    break;
                }
                Some(Line::Text(text)) => {
                    held_bytes += text.len();
                    raw.push(Ok(text));
                }
                Some(Line::TooLong) => raw.push(Err(ApiError::BodyTooLarge { limit_bytes: limits.batch_row_bytes })),
            }
        }
        Ok(raw)
    }

    async fn write(&mut self, read: Vec<Read>) -> Vec<BatchRow> {
        let mut writes = Vec::with_capacity(read.len());
        let mut ends: Vec<(Option<ItemId>, Option<ApiError>)> = Vec::with_capacity(read.len());
        for (id, outcome) in read {
            match outcome {
                Ok(write) => {
                    writes.push(write);
                    ends.push((id, None));
                }
                Err(error) => ends.push((id, Some(error))),
            }
        }
        let refused = ends.iter().filter(|(_, error)| error.is_some()).count();
        self.state.metrics.count_items(ItemOutcome::Rejected, refused as u64);
        let mut outcomes =
            if writes.is_empty() { Vec::new() } else { self.state.engine.put_items(writes).await }.into_iter();
        let mut logged = false;
        let first = self.next_row;
        self.next_row += ends.len();
        let row_of = |(n, (id, refused)): (usize, (Option<ItemId>, Option<ApiError>))| {
            let outcome = match refused {
                Some(error) => Err(error),
                None => outcomes.next().map_or_else(
                    || Err(crate::engine::EngineError::Internal("an outcome is missing".into()).into()),
                    |outcome| outcome.map_err(ApiError::from),
                ),
            };
            // The answer is 200, so that the request's own log line will not show it. Once a chunk is enough.
            if let Err(error) = &outcome
                && error.kind().0.is_server_error()
                && !std::mem::replace(&mut logged, true)
            {
                tracing::error!(row = first + n, code = error.kind().1, %error, "a row failed");
            }
            BatchRow::new(first + n, id, outcome.as_ref().map(|receipt| *receipt))
        };
        ends.into_iter().enumerate().map(row_of).collect()
    }

    /// The rows as lines of JSON. A body that breaks off becomes a last line that says so.
    fn into_stream(self) -> impl futures_util::Stream<Item = Result<Bytes, std::convert::Infallible>> + Send {
        futures_util::stream::unfold(Some(self), |batch| async move {
            let mut batch = batch?;
            let (rows, batch) = match batch.next_chunk().await {
                Ok(Some(rows)) => (rows, Some(batch)),
                Ok(None) => return None,
                Err(error) => (vec![BatchRow::new(batch.next_row, None, Err(&error))], None),
            };
            let mut text = Vec::new();
            for row in rows {
                let _ = serde_json::to_writer(&mut text, &row);
                text.push(b'\n');
            }
            Some((Ok(text.into()), batch))
        })
    }
}

fn read_row(line: Result<Bytes, ApiError>, limits: &Limits) -> Read {
    let body: ItemBody = match line.and_then(|text| parse(&text, "")) {
        Ok(body) => body,
        Err(error) => return (None, Err(error)),
    };
    (body.item_id.clone(), write_of(body, None, None, limits.item_images))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_the_answer_is_negotiated() {
        let wants = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            wants_stream(&headers)
        };
        assert!(!wants_stream(&HeaderMap::new()).unwrap());
        assert!(wants("application/x-ndjson").unwrap());
        assert!(!wants("text/html, application/json;q=0.9").unwrap());
        assert!(!wants("*/*").unwrap());
        assert!(matches!(wants("image/png"), Err(ApiError::NotAcceptable { .. })));
    }

    #[test]
    fn a_row_at_fault_says_what_and_whose() {
        let limits = Limits::default();
        let read = |text: &'static str| read_row(Ok(Bytes::from_static(text.as_bytes())), &limits);
        let (id, outcome) = read(r#"{"item_id":"a","title":"T","images_base64":["aGk="]}"#);
        assert_eq!((id.unwrap().as_str(), outcome.unwrap().images.unwrap().len()), ("a", 1));
        let (id, outcome) = read(r#"{"item_id":"a","images_base64":["?"]}"#);
        assert_eq!((id.unwrap().as_str(), outcome.unwrap_err().fields()[0].field.as_str()), ("a", "images_base64[0]"));
        assert_eq!(read(r#"{"item_id":"#).1.unwrap_err().kind().1, "malformed_json");
        assert_eq!(read("{}").1.unwrap_err().fields()[0].field, "item_id");
    }
}
