//! What do people see who open the service in a browser? The console: a few files inside the binary.
//!
//! It is a client like any other: it asks for a key, keeps it in the page's memory, and talks to the documented routes. Its
//! policy lets it load nothing from elsewhere, run no script that is not one of these files, and make no HTML of a string.

use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, StatusCode, header};

use crate::api::problem::ApiError;

/// `'self'` covers live connections to the same host. Pictures are fetched with the key and shown as blobs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// The camera is for the page *Watch*; nothing else is needed.
const PERMISSIONS: &str = "camera=(self), microphone=(), geolocation=(), payment=(), usb=()";

struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! assets {
    ($($name:literal: $content_type:expr,)+) => {
        [$(Asset { name: $name, content_type: $content_type, bytes: include_bytes!($name) },)+]
    };
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// The page first.
static ASSETS: [Asset; 15] = assets! {
    "index.html": "text/html; charset=utf-8",
    "base.css": STYLE,
    "pages.css": STYLE,
    "icon.svg": "image/svg+xml",
    "api.js": SCRIPT,
    "app.js": SCRIPT,
    "catalogue.js": SCRIPT,
    "dom.js": SCRIPT,
    "health.js": SCRIPT,
    "live.js": SCRIPT,
    "player.js": SCRIPT,
    "quality.js": SCRIPT,
    "search.js": SCRIPT,
    "timeline.js": SCRIPT,
    "watch.js": SCRIPT,
};

/// By place in [`ASSETS`]. Weak, because what travels may be compressed.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let tag = |asset: &Asset| {
        let digest = ring::digest::digest(&ring::digest::SHA256, asset.bytes);
        format!("W/\"{}\"", URL_SAFE_NO_PAD.encode(&digest.as_ref()[..12]))
    };
    ASSETS.iter().map(tag).collect()
});

/// The routes of the console. They need no key: there is nothing in the files that is not public.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let page = |headers: HeaderMap| async move { answer("index.html", &headers) };
    let file = |Path(name): Path<String>, headers: HeaderMap| async move { answer(&name, &headers) };
    Router::new().route("/console", get(page)).route("/console/", get(page)).route("/console/{file}", get(file))
}

fn answer(name: &str, headers: &HeaderMap) -> Response {
    let Some((asset, tag)) = ASSETS.iter().zip(TAGS.iter()).find(|(asset, _)| asset.name == name) else {
        return ApiError::NoSuchRoute.into_response();
    };
    let common = [
        (header::ETAG, tag.as_str()),
        // Asked for again each time, so that a new version is a new version at once.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::HeaderName::from_static("permissions-policy"), PERMISSIONS),
    ];
    if known(headers, tag) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, [(header::CONTENT_TYPE, asset.content_type)], asset.bytes).into_response()
}

/// Whether the client has this version (RFC 9110, 13.1.2: the comparison is weak).
fn known(headers: &HeaderMap, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|candidate| candidate.trim() == "*" || opaque(candidate) == opaque(tag))
}
