//! How do rows reach the server? In one request at a time, again and again while it is busy.

use std::time::Duration;

use http::Method;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Deserialize;

use super::batch::{Kind, Prepared};
use super::outcome::End;
use crate::cli::CliError;
use crate::cli::connection::{Connection, FieldProblem, Patience, Problem, chain, passes, retry_after};

/// From a batch's first refusal to the last attempt at it.
const PATIENCE: Duration = Duration::from_secs(300);
/// The answer to 32 items with pictures, or to 1,000 events, on a slow machine.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);
/// Rows that failed with one of these may succeed later.
const PASSING: [&str; 7] =
    ["busy", "rate_limited", "shutting_down", "starting", "not_ready", "timed_out", "deadline_passed"];

/// Sends rows and waits where the server asks for it.
pub(super) struct Client<'a> {
    connection: &'a Connection,
}

/// What became of one request.
enum Answer {
    Rows(Vec<End>),
    /// Not now; after so long, if the server said so.
    Later(Option<Duration>, String),
}

impl<'a> Client<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection }
    }

    /// Sends rows until each has an end. Those that the server was too busy for go again; sending twice is harmless,
    /// as items are written over and events have ids.
    pub(super) async fn send(&self, kind: Kind, rows: &[Prepared]) -> Result<Vec<End>, CliError> {
        let mut ends: Vec<Option<End>> = rows.iter().map(|_| None).collect();
        let mut patience = Patience::new(PATIENCE);
        loop {
            let open: Vec<usize> = ends.iter().enumerate().filter(|(_, end)| end.is_none()).map(|(n, _)| n).collect();
            let bodies: Vec<&[u8]> = open.iter().filter_map(|n| rows.get(*n)).map(|row| row.json.as_slice()).collect();
            if bodies.is_empty() {
                return Ok(ends.into_iter().flatten().collect());
            }
            let patient = patience.lasts();
            let (asked, why) = match self.send_once(kind, &bodies).await? {
                Answer::Later(asked, why) => (asked, why),
                Answer::Rows(answered) => {
                    let mut passing = None;
                    for (n, end) in open.into_iter().zip(answered) {
                        match &end {
                            End::Failed { code, reason } if patient && PASSING.contains(&code.as_str()) => {
                                passing = Some(reason.clone());
                            }
                            End::Failed { .. } | End::Stored { .. } | End::Duplicate => {
                                if let Some(place) = ends.get_mut(n) {
                                    *place = Some(end);
                                }
                            }
                        }
                    }
                    let Some(why) = passing else { continue };
                    (None, why)
                }
            };
            patience.wait(self.connection.base(), asked, &why).await?;
        }
    }

    async fn send_once(&self, kind: Kind, rows: &[&[u8]]) -> Result<Answer, CliError> {
        let (path, content_type) = match kind {
            Kind::Items => ("/v1/items/batch", "application/x-ndjson"),
            Kind::Events => ("/v1/events", "application/json"),
        };
        let url = format!("{}{path}", self.connection.base());
        let request = self.connection.request(Method::POST, path).header(CONTENT_TYPE, content_type);
        let answer = match request.timeout(REQUEST_TIMEOUT).body(body(kind, rows)).send().await {
            Ok(answer) => answer,
            Err(error) => return Ok(Answer::Later(None, chain(&error))),
        };
        let status = answer.status();
        let asked = retry_after(answer.headers());
        let text = match answer.bytes().await {
            Ok(text) => text,
            Err(error) => return Ok(Answer::Later(None, chain(&error))),
        };
        if status.is_success() {
            let ends = read_ends(&text, rows.len());
            return ends.map(Answer::Rows).ok_or_else(|| CliError::Failed(format!("{url} answered something else")));
        }
        let problem: Problem = serde_json::from_slice(&text).unwrap_or_default();
        match status {
            status if passes(status) => Ok(Answer::Later(asked, format!("{status} {}", problem.detail))),
            // Not a single row could be used; the server and its settings are well.
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
                if !problem.code.is_empty() =>
            {
                Ok(Answer::Rows((0..rows.len()).map(|n| end_of(&problem, n)).collect()))
            }
            _ => Err(CliError::Failed(format!("{url} answered {status}: {}", problem.detail))),
        }
    }
}

fn body(kind: Kind, rows: &[&[u8]]) -> Vec<u8> {
    match kind {
        Kind::Items => rows.join(&b'\n'),
        Kind::Events => [b"{\"events\":[", rows.join(&b',').as_slice(), b"]}"].concat(),
    }
}

#[derive(Deserialize)]
struct RowsAnswer {
    results: Vec<RowAnswer>,
}

#[derive(Deserialize)]
struct RowAnswer {
    status: String,
    known_item: Option<bool>,
    error: Option<Problem>,
}

/// The end of row `n`, with the fields at fault and without its place in the request, which says nothing.
fn end_of(problem: &Problem, n: usize) -> End {
    let place = format!("events[{n}]");
    let own = |error: &FieldProblem| {
        let field = match error.field.strip_prefix(&place) {
            Some(rest) => rest.trim_start_matches('.'),
            None if error.field.starts_with("events[") => return None,
            None => error.field.as_str(),
        };
        Some(if field.is_empty() { error.detail.clone() } else { format!("{field}: {}", error.detail) })
    };
    let fields: Vec<String> = problem.errors.iter().filter_map(own).collect();
    let reason = if fields.is_empty() { problem.detail.clone() } else { fields.join("; ") };
    End::Failed { code: problem.code.clone(), reason }
}

/// One end for each of `count` rows; `None` if the answer does not have that.
fn read_ends(text: &[u8], count: usize) -> Option<Vec<End>> {
    let answer: RowsAnswer = serde_json::from_slice(text).ok()?;
    let end = |(n, row): (usize, RowAnswer)| match row.status.as_str() {
        "stored" | "created" | "updated" => End::Stored { known_item: row.known_item.unwrap_or(true) },
        "duplicate" => End::Duplicate,
        _ => end_of(&row.error.unwrap_or_default(), n),
    };
    let ends: Vec<End> = answer.results.into_iter().enumerate().map(end).collect();
    (ends.len() == count).then_some(ends)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::routing::post;
    use axum::{Json, Router};
    use http::HeaderMap;
    use http::header::RETRY_AFTER;
    use serde_json::{Value, json};
    use tokio::net::TcpListener;

    use super::super::source::Place;
    use super::*;

    fn rows(count: u64) -> Vec<Prepared> {
        let row = |n| Prepared { place: Place { row: n, line: n }, json: format!("{{\"n\":{n}}}").into(), pictures: 0 };
        (0..count).map(row).collect()
    }

    async fn connect(router: Router) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let stop = std::future::pending();
        tokio::spawn(crate::api::serve(listener, None, router, crate::api::ServerOptions::default(), stop));
        Connection::new(reqwest::Client::builder().no_proxy(), &url, Some("k")).unwrap()
    }

    fn stored(n: usize) -> Value {
        json!({"row": n, "status": "stored", "known_item": n > 0})
    }

    #[tokio::test]
    async fn only_what_the_server_was_too_busy_for_goes_again() {
        let asked = Arc::new(AtomicUsize::new(0));
        let handler = {
            let asked = Arc::clone(&asked);
            move |headers: HeaderMap, Json(body): Json<Value>| async move {
                assert_eq!(headers.get("authorization").unwrap(), "Bearer k");
                let count = body["events"].as_array().unwrap().len();
                match asked.fetch_add(1, Ordering::SeqCst) {
                    0 => Err((StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "0")])),
                    1 => {
                        assert_eq!(count, 3);
                        let busy = json!({"row": 1, "status": "failed", "error": {"code": "busy", "detail": "later"}});
                        let bad = json!({"row": 2, "status": "failed", "error": {"code": "invalid_value", "detail": "d",
                            "errors": [{"field": "events[2].type", "detail": "unknown"}]}});
                        Ok(Json(json!({"results": [stored(0), busy, bad]})))
                    }
                    _ => {
                        assert_eq!(body, json!({"events": [{"n": 1}]}));
                        Ok(Json(json!({"results": [{"row": 0, "status": "duplicate"}]})))
                    }
                }
            }
        };
        let connection = connect(Router::new().route("/v1/events", post(handler))).await;
        let ends = Client::new(&connection).send(Kind::Events, &rows(3)).await.unwrap();
        let bad = End::Failed { code: "invalid_value".into(), reason: "type: unknown".into() };
        assert_eq!(ends, [End::Stored { known_item: false }, End::Duplicate, bad]);
        assert_eq!(asked.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_refusal_of_all_rows_is_one_of_each() {
        let problem = json!({"code": "invalid_value", "detail": "2 fields cannot be used", "errors": [
            {"field": "events[0].type", "detail": "unknown"}, {"field": "events[1]", "detail": "must be an object"}]});
        let handler = move || async move { (StatusCode::UNPROCESSABLE_ENTITY, Json(problem)) };
        let connection = connect(Router::new().route("/v1/events", post(handler))).await;
        let ends = Client::new(&connection).send(Kind::Events, &rows(2)).await.unwrap();
        let failed = |reason: &str| End::Failed { code: "invalid_value".into(), reason: reason.into() };
        assert_eq!(ends, [failed("type: unknown"), failed("must be an object")]);
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_used_ends_the_import() {
        let handler = || async { (StatusCode::FORBIDDEN, Json(json!({"code": "forbidden", "detail": "no scope"}))) };
        let connection = connect(Router::new().route("/v1/items/batch", post(handler))).await;
        let error = Client::new(&connection).send(Kind::Items, &rows(1)).await.unwrap_err().to_string();
        assert!(error.ends_with("403 Forbidden: no scope"), "{error}");
    }

    #[tokio::test]
    async fn items_go_as_lines() {
        let handler = |body: String| async move {
            assert_eq!(body, "{\"n\":0}\n{\"n\":1}");
            Json(json!({"stored": 2, "failed": 0, "results": [
                {"row": 0, "item_id": "a", "status": "created"}, {"row": 1, "item_id": "b", "status": "updated"}]}))
        };
        let connection = connect(Router::new().route("/v1/items/batch", post(handler))).await;
        let ends = Client::new(&connection).send(Kind::Items, &rows(2)).await.unwrap();
        assert_eq!(ends, [End::Stored { known_item: true }, End::Stored { known_item: true }]);
    }
}
