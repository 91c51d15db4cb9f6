//! What does the client send, and how much of it is read?

use axum::extract::{FromRef, FromRequest, Request};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::api::options::Limits;
use crate::api::problem::ApiError;

/// So much of a body that is too large is read and thrown away. Many clients read the answer only once they have
/// sent everything; closed on at once, they would report a broken connection in place of the 413.
const DRAIN_BYTES: usize = 64 << 20;
const DRAIN_TIME: std::time::Duration = std::time::Duration::from_secs(3);

/// What a content type announces, as far as routes care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum ContentKind {
    /// `application/json` or `…+json`.
    Json,
    /// `application/x-ndjson` and its like.
    NdJson,
    /// `multipart/form-data`.
    Multipart,
    /// `image/…`, `application/octet-stream`, or nothing at all.
    Image,
    /// What `curl --data-binary` says if not told otherwise.
    Form,
    /// Anything else.
    Other,
}

impl ContentKind {
    /// Reads the content type.
    pub(in crate::api) fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(header::CONTENT_TYPE) else { return Self::Image };
        let Ok(text) = value.to_str() else { return Self::Other };
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => {
                Self::NdJson
            }
            "application/json" => Self::Json,
            "multipart/form-data" => Self::Multipart,
            "application/octet-stream" | "" => Self::Image,
            "application/x-www-form-urlencoded" => Self::Form,
            other if other.starts_with("application/") && other.ends_with("+json") => Self::Json,
            other if other.starts_with("image/") => Self::Image,
            _ => Self::Other,
        }
    }
}

/// The whole body, of at most `limit_bytes`.
pub(in crate::api) async fn read_body(request: Request, limit_bytes: usize) -> Result<Bytes, ApiError> {
    let announced =
        request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    let mut body = request.into_body();
    if announced.is_some_and(|bytes| bytes > limit_bytes as u64) {
        drain(body).await;
        return Err(ApiError::BodyTooLarge { limit_bytes });
    }
    match Limited::new(&mut body, limit_bytes).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            drain(body).await;
            Err(ApiError::BodyTooLarge { limit_bytes })
        }
        Err(_) => Err(ApiError::InterruptedBody),
    }
}

async fn drain(body: axum::body::Body) {
    let mut stream = body.into_data_stream();
    let reading = async {
        let mut left = DRAIN_BYTES;
        while let Some(Ok(chunk)) = stream.next().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIME, reading).await;
}

/// A body that is one image.
#[derive(Debug)]
pub(in crate::api) struct ImageBody(pub(in crate::api) Bytes);

impl<S> FromRequest<S> for ImageBody
where
    S: Send + Sync,
    Limits: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        image_bytes(request, &Limits::from_ref(state), IMAGE_TYPES).await.map(Self)
    }
}

const IMAGE_TYPES: &str = "image/jpeg, image/png, image/webp, image/gif, image/bmp or application/octet-stream";

/// The body as an image: by its content type, or by its first bytes where the content type is curl's default.
/// `expected` is what the client is told to send otherwise.
pub(in crate::api) async fn image_bytes(
    request: Request,
    limits: &Limits,
    expected: &'static str,
) -> Result<Bytes, ApiError> {
    let kind = ContentKind::of(request.headers());
    let refused = ApiError::UnsupportedMediaType { expected };
    match kind {
        ContentKind::Image | ContentKind::Form => {}
        ContentKind::Json | ContentKind::NdJson | ContentKind::Multipart | ContentKind::Other => return Err(refused),
    }
    let bytes = read_body(request, limits.image_bytes).await?;
    if bytes.is_empty() {
        return Err(ApiError::EmptyBody("the bytes of an image"));
    }
    if kind == ContentKind::Form && !looks_like_image(&bytes) {
        return Err(refused);
    }
    Ok(bytes)
}

fn looks_like_image(bytes: &[u8]) -> bool {
    const STARTS: [&[u8]; 4] = [b"\xFF\xD8\xFF", b"\x89PNG", b"GIF8", b"BM"];
    STARTS.iter().any(|start| bytes.starts_with(start))
        || (bytes.starts_with(b"RIFF") && bytes[4..].get(4..8) == Some(b"WEBP"))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(content_type: Option<&str>, body: impl Into<Body>) -> Request {
        let mut request = Request::builder().method("POST").uri("/");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        request.body(body.into()).unwrap()
    }

    #[test]
    fn content_types_are_told_apart() {
        for (text, kind) in [
            ("application/json; charset=utf-8", ContentKind::Json),
            ("application/merge-patch+json", ContentKind::Json),
            ("Multipart/Form-Data; boundary=x", ContentKind::Multipart),
            ("image/png", ContentKind::Image),
            ("application/x-ndjson", ContentKind::NdJson),
            ("text/html", ContentKind::Other),
        ] {
            assert_eq!(ContentKind::of(request(Some(text), "").headers()), kind, "{text}");
        }
        assert_eq!(ContentKind::of(request(None, "").headers()), ContentKind::Image);
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        assert_eq!(read_body(request(None, "12345"), 5).await.unwrap().len(), 5);
        let error = read_body(request(None, "123456"), 5).await.unwrap_err();
        assert!(matches!(error, ApiError::BodyTooLarge { limit_bytes: 5 }));
        let stream = futures_util::stream::iter((0..10).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b"abc"))));
        let error = read_body(request(None, Body::from_stream(stream)), 20).await.unwrap_err();
        assert!(matches!(error, ApiError::BodyTooLarge { .. }), "without a content length");
        let broken = futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]);
        let error = read_body(request(None, Body::from_stream(broken)), 20).await.unwrap_err();
        assert!(matches!(error, ApiError::InterruptedBody));
    }

    #[tokio::test]
    async fn images_come_under_their_type_or_are_recognised() {
        let limits = Limits::default();
        let jpeg: &[u8] = b"\xFF\xD8\xFF\xE0 and more";
        for content_type in [Some("image/jpeg"), None, Some("application/x-www-form-urlencoded")] {
            assert!(image_bytes(request(content_type, jpeg), &limits, "").await.is_ok(), "{content_type:?}");
        }
        for (content_type, body) in [("application/x-www-form-urlencoded", "a=b"), ("text/html", "<p>")] {
            let error = image_bytes(request(Some(content_type), body), &limits, "an image").await.unwrap_err();
            assert!(matches!(error, ApiError::UnsupportedMediaType { expected: "an image" }));
        }
        assert!(matches!(image_bytes(request(None, ""), &limits, "").await.unwrap_err(), ApiError::EmptyBody(_)));
        assert!(looks_like_image(b"RIFF\0\0\0\0WEBPVP8 ") && !looks_like_image(b"RIFF"));
    }
}
