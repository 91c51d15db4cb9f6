//! What is in a multipart body? Named parts, in order and within bounds.

use axum::extract::multipart::MultipartError;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request};
use bytes::Bytes;
use http::StatusCode;

use crate::api::problem::{ApiError, FieldError};

/// A part of a multipart body.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::api) struct Part {
    /// The name that the client gave it.
    pub(in crate::api) name: String,
    /// What is in it.
    pub(in crate::api) bytes: Bytes,
}

/// All parts in their order: at most `limit_bytes` together and `max_parts` of them, each with one of the `allowed`
/// names.
pub(in crate::api) async fn read_parts(
    mut request: Request,
    limit_bytes: usize,
    max_parts: usize,
    allowed: &[&str],
) -> Result<Vec<Part>, ApiError> {
    let fail = |field: String, detail: String| ApiError::InvalidMultipart(FieldError::new(field, detail));
    DefaultBodyLimit::max(limit_bytes).apply(&mut request);
    let mut multipart = Multipart::from_request(request, &())
        .await
        .map_err(|_| fail("content-type".into(), "the boundary is missing or wrong".into()))?;
    let mut parts: Vec<Part> = Vec::new();
    while let Some(field) = multipart.next_field().await.map_err(|e| broken(&e, "body".into(), limit_bytes))? {
        let place = || format!("part {}", parts.len() + 1);
        let Some(name) = field.name().map(str::to_owned) else {
            return Err(fail(place(), "it has no name".into()));
        };
        if !allowed.contains(&name.as_str()) {
            return Err(fail(shown(&name), format!("no part of this name is expected, only {}", allowed.join(", "))));
        }
        if parts.len() >= max_parts {
            return Err(fail(name, format!("there are more than {max_parts} parts")));
        }
        let index = parts.iter().filter(|part| part.name == name).count();
        let bytes = field.bytes().await.map_err(|e| broken(&e, format!("{name}[{index}]"), limit_bytes))?;
        if bytes.is_empty() {
            return Err(fail(format!("{name}[{index}]"), "the part is empty".into()));
        }
        parts.push(Part { name, bytes });
    }
    if parts.is_empty() {
        return Err(fail("body".into(), "there is no part".into()));
    }
    Ok(parts)
}

fn broken(error: &MultipartError, field: String, limit_bytes: usize) -> ApiError {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::BodyTooLarge { limit_bytes },
        _ => ApiError::InvalidMultipart(FieldError::new(field, "the body is not well-formed or ends too early")),
    }
}

/// A client's name for a part, short enough to repeat.
fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(body: String) -> Request {
        Request::builder()
            .method("POST")
            .header("content-type", "multipart/form-data; boundary=XX")
            .body(Body::from(body))
            .unwrap()
    }

    fn part(name: &str, content: &str) -> String {
        format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"f\"\r\n\r\n{content}\r\n")
    }

    async fn read(body: String) -> Result<Vec<Part>, ApiError> {
        read_parts(request(body), 1_000, 3, &["request", "frame"]).await
    }

    #[tokio::test]
    async fn parts_keep_their_order() {
        let body = part("frame", "one") + &part("request", "{}") + &part("frame", "two") + "--XX--\r\n";
        let parts = read(body).await.unwrap();
        let seen: Vec<(&str, &[u8])> = parts.iter().map(|p| (p.name.as_str(), p.bytes.as_ref())).collect();
        assert_eq!(seen, [("frame", b"one".as_slice()), ("request", b"{}"), ("frame", b"two")]);
    }

    #[tokio::test]
    async fn parts_at_fault_are_named() {
        let end = "--XX--\r\n";
        for (body, field) in [
            (part("frame", "1") + &part("fraem", "2") + end, "fraem"),
            (part("frame", "1").repeat(4) + end, "frame"),
            (part("frame", "1") + &part("frame", "") + end, "frame[1]"),
            (part("frame", "1") + "--XX\r\nContent-Disposition: form-data; name=\"frame\"\r\n\r\ncut", "frame[1]"),
            (end.to_owned(), "body"),
            (String::new(), "body"),
        ] {
            let error = read(body.clone()).await.unwrap_err();
            assert_eq!(error.kind().0, StatusCode::BAD_REQUEST, "{body}");
            assert_eq!(error.fields()[0].field, field, "{body}");
        }
        let error = read(part("frame", &"x".repeat(2_000)) + end).await.unwrap_err();
        assert!(matches!(error, ApiError::BodyTooLarge { limit_bytes: 1_000 }));
    }
}
