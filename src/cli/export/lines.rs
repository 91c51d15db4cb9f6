//! How do an export's lines arrive whole? As a stream that is begun again behind the last line if it breaks off.

use std::time::Duration;

use http::Method;
use reqwest::Response;
use serde::Deserialize;

use crate::cli::CliError;
use crate::cli::connection::{Connection, Patience, Problem, chain, passes, retry_after};
use crate::cli::import::Kind;

/// From a first refusal to the last attempt.
const PATIENCE: Duration = Duration::from_secs(300);
/// A server that says nothing for so long has gone.
const SILENCE: Duration = Duration::from_secs(120);
/// No row is longer: the API takes no more.
const MAX_LINE_BYTES: usize = 32 << 20;

/// Where a row stands in its export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// Of an event: its place in the log.
    Sequence(u64),
    /// Of an item: its id.
    Item(String),
}

impl Key {
    /// The key of a line.
    pub(super) fn of(kind: Kind, line: &[u8]) -> Result<Self, CliError> {
        #[derive(Deserialize)]
        struct Event {
            sequence: u64,
        }
        #[derive(Deserialize)]
        struct Item {
            item_id: String,
        }
        let key = match kind {
            Kind::Events => serde_json::from_slice(line).map(|event: Event| Self::Sequence(event.sequence)),
            Kind::Items => serde_json::from_slice(line).map(|item: Item| Self::Item(item.item_id)),
        };
        key.map_err(|e| CliError::Failed(format!("a row of the export cannot be understood: {e}")))
    }
}

/// Hands out every line behind the row with the key `from`, without its line break; `take` gives the line's key back.
pub(super) async fn fetch(
    connection: &Connection,
    kind: Kind,
    from: Option<Key>,
    take: &mut dyn FnMut(&[u8]) -> Result<Key, CliError>,
) -> Result<(), CliError> {
    let path = match kind {
        Kind::Items => "/v1/items/export",
        Kind::Events => "/v1/events/export",
    };
    let mut last = from;
    let mut patience = Patience::new(PATIENCE);
    loop {
        let before = last.clone();
        let query = match &last {
            None => None,
            Some(Key::Sequence(sequence)) => Some(("from_sequence", sequence.saturating_add(1).to_string())),
            Some(Key::Item(id)) => Some(("after", id.clone())),
        };
        let (asked, why) = match ask(connection, path, query).await? {
            Ok(answer) => match read(answer, &mut last, take).await? {
                None => return Ok(()),
                Some(why) => (None, why),
            },
            Err(later) => later,
        };
        if last != before {
            patience = Patience::new(PATIENCE);
        }
        patience.wait(connection.base(), asked, &why).await?;
    }
}

/// A short answer.
pub(super) async fn get(connection: &Connection, path: &str) -> Result<Vec<u8>, CliError> {
    let mut patience = Patience::new(PATIENCE);
    loop {
        let (asked, why) = match ask(connection, path, None).await? {
            Ok(answer) => match answer.bytes().await {
                Ok(text) => return Ok(text.to_vec()),
                Err(error) => (None, chain(&error)),
            },
            Err(later) => later,
        };
        patience.wait(connection.base(), asked, &why).await?;
    }
}

/// When to ask again, if the server said so, and why not now.
type Later = (Option<Duration>, String);

/// The head of a success, or what may pass; an error is what does not.
async fn ask(
    connection: &Connection,
    path: &str,
    query: Option<(&str, String)>,
) -> Result<Result<Response, Later>, CliError> {
    let request = connection.request(Method::GET, path).query(&query.as_slice());
    let answer = match tokio::time::timeout(SILENCE, request.send()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Ok(Err((None, chain(&error)))),
        Err(_) => return Ok(Err((None, "it does not answer".into()))),
    };
    let status = answer.status();
    if status.is_success() {
        return Ok(Ok(answer));
    }
    let asked = retry_after(answer.headers());
    let problem: Problem = answer.json().await.unwrap_or_default();
    if passes(status) {
        return Ok(Err((asked, format!("{status} {}", problem.detail))));
    }
    Err(CliError::Failed(format!("{}{path} answered {status}: {}", connection.base(), problem.detail)))
}

/// Hands out lines to the end of the answer; why it broke off, if it did.
async fn read(
    mut answer: Response,
    last: &mut Option<Key>,
    take: &mut dyn FnMut(&[u8]) -> Result<Key, CliError>,
) -> Result<Option<String>, CliError> {
    let mut rest: Vec<u8> = Vec::new();
    loop {
        let chunk = match tokio::time::timeout(SILENCE, answer.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) if rest.is_empty() => return Ok(None),
            Ok(Ok(None)) => return Ok(Some("the answer ended in the middle of a row".into())),
            Ok(Err(error)) => return Ok(Some(chain(&error))),
            Err(_) => return Ok(Some("the answer stopped".into())),
        };
        let mut lines = chunk.split_inclusive(|&byte| byte == b'\n');
        for piece in &mut lines {
            let Some(end) = piece.strip_suffix(b"\n") else {
                rest.extend_from_slice(piece);
                continue;
            };
            *last = Some(if rest.is_empty() {
                take(end)?
            } else {
                rest.extend_from_slice(end);
                let key = take(&rest)?;
                rest.clear();
                key
            });
        }
        if rest.len() > MAX_LINE_BYTES {
            return Err(CliError::Failed(format!("a row of the export has more than {MAX_LINE_BYTES} bytes")));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::Body;
    use axum::extract::Query;
    use axum::response::IntoResponse;
    use axum::routing::get;
    use axum::{Json, Router};
    use bytes::Bytes;
    use futures_util::{StreamExt, stream};
    use http::StatusCode;
    use serde_json::json;
    use tokio::net::TcpListener;

    use super::*;

    #[derive(Deserialize)]
    struct Asked {
        from_sequence: Option<u64>,
    }

    async fn serve(router: Router) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let stop = std::future::pending();
        tokio::spawn(crate::api::serve(listener, None, router, crate::api::ServerOptions::default(), stop));
        Connection::new(reqwest::Client::builder().no_proxy(), &url, Some("k")).unwrap()
    }

    async fn sequences(connection: &Connection, from: Option<Key>) -> Result<Vec<u64>, CliError> {
        let mut all = Vec::new();
        fetch(connection, Kind::Events, from, &mut |line| {
            let key = Key::of(Kind::Events, line)?;
            let Key::Sequence(sequence) = key else { panic!("not an event's") };
            all.push(sequence);
            Ok(key)
        })
        .await?;
        Ok(all)
    }

    #[tokio::test]
    async fn a_broken_stream_goes_on_behind_its_last_whole_line() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let handler = move |Query(query): Query<Asked>| async move {
            let piece = |text: &'static str| Ok::<_, std::io::Error>(Bytes::from_static(text.as_bytes()));
            let (pieces, breaks_off) = match (count.fetch_add(1, Ordering::SeqCst), query.from_sequence) {
                (0, Some(3)) => return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")]).into_response(),
                (1, Some(3)) => (vec![piece("{\"sequence\":3}\n{\"sequ"), piece("ence\":5}\n{\"sequence\":")], true),
                (2, Some(6)) => (vec![piece("{\"sequence\":6}\n{\"sequence\":9}\n")], false),
                other => panic!("{other:?}"),
            };
            let end = stream::once(async move {
                // Lets the server send what it has so far.
                tokio::task::yield_now().await;
                if breaks_off { Err(std::io::Error::other("gone")) } else { piece("") }
            });
            Body::from_stream(stream::iter(pieces).chain(end)).into_response()
        };
        let connection = serve(Router::new().route("/v1/events/export", get(handler))).await;
        assert_eq!(sequences(&connection, Some(Key::Sequence(2))).await.unwrap(), [3, 5, 6, 9]);
        assert_eq!(asked.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_refusal_ends_it() {
        let handler = || async { (StatusCode::FORBIDDEN, Json(json!({"code": "forbidden", "detail": "no scope"}))) };
        let connection = serve(Router::new().route("/v1/events/export", get(handler))).await;
        let error = sequences(&connection, None).await.unwrap_err().to_string();
        assert!(error.ends_with("/v1/events/export answered 403 Forbidden: no scope"), "{error}");
    }
}
