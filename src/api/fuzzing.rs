//! What of the wire is fuzzed? What clients send, before anything has looked at it. Built with `--cfg fuzzing` only (`fuzz/`).

use axum::body::Body;
use axum::extract::Request;

use super::extract::read_parts;
use super::wire::{ClientMessage, EventBody, FilterBody, read_frame};
use crate::domain::{SessionId, Timestamp, UserKey};

/// A text message of a live session, and what becomes of an event in it.
pub fn live_text(bytes: &[u8]) {
    let Ok(session) = SessionId::new("s") else { return };
    match ClientMessage::read(bytes, &session) {
        Ok(ClientMessage::Event(row)) => {
            let now = Timestamp(1_700_000_000_000);
            if let Ok(event) = EventBody::read(row, "event", now, now, |_| UserKey([7; 16])) {
                assert_eq!(event.session, session, "an event is of the connection's session");
            }
        }
        Ok(ClientMessage::Player(_) | ClientMessage::Lists | ClientMessage::Ping) => {}
        Err(error) => {
            assert!(error.kind().0.is_client_error(), "{error}");
            let _ = error.detail();
        }
    }
}

/// A binary message of a live session.
pub fn live_frame(bytes: &[u8]) {
    if let Some((at_s, picture)) = read_frame(bytes.to_vec().into()) {
        assert!(at_s.is_none_or(|at_s| at_s.is_finite() && at_s >= 0.0) && !picture.is_empty());
    }
}

/// A filter in a query string.
pub fn filter(text: &str) {
    if let Err(error) = FilterBody::from_query(Some(text)) {
        assert!(error.kind().0.is_client_error(), "{error}");
    }
}

/// A multipart body whose boundary is `X`.
pub fn multipart(bytes: &[u8]) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
    let request =
        Request::builder().header("content-type", "multipart/form-data; boundary=X").body(Body::from(bytes.to_vec()));
    let Ok(request) = request else { return };
    match runtime.block_on(read_parts(request, 1 << 20, 4, &["request", "frame"])) {
        Ok(parts) => assert!(!parts.is_empty() && parts.len() <= 4 && parts.iter().all(|part| !part.bytes.is_empty())),
        Err(error) => assert!(error.kind().0.is_client_error(), "{error}"),
    }
}
