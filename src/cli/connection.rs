//! How does a command talk to a server? With its key, and with patience while the server cannot answer.

use std::time::{Duration, Instant};

use http::header::{ACCEPT, AUTHORIZATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::CliError;
use super::output::complain;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A server and the key that it is asked with.
pub(super) struct Connection {
    http: reqwest::Client,
    base: String,
    headers: HeaderMap,
}

impl Connection {
    /// A client of the server at `base`, which comes with `key`.
    pub(super) fn new(builder: reqwest::ClientBuilder, base: &str, key: Option<&str>) -> Result<Self, CliError> {
        // The provider may be set already; either way there is one afterwards.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let failed = |e: reqwest::Error| CliError::Failed(format!("no client can be made: {e}"));
        let http = builder.connect_timeout(CONNECT_TIMEOUT).build().map_err(failed)?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(key) = key {
            let mut value = HeaderValue::try_from(format!("Bearer {key}"))
                .map_err(|_| CliError::Failed("the API key has characters that no key has".into()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), headers })
    }

    /// The server.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request and gives what the server says, or its complaint as an error.
    pub(super) async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Value, CliError> {
        let failed = |e: reqwest::Error| CliError::Failed(format!("{}: {}", self.base, chain(&e)));
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let body = response.bytes().await.map_err(failed)?;
        if !status.is_success() {
            let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
            return Err(CliError::Failed(format!("{}: {status} {} {}", self.base, problem.code, problem.detail)));
        }
        serde_json::from_slice(&body).map_err(|e| CliError::Failed(format!("{}: {e}", self.base)))
    }

    /// A request with the key. It has no time limit.
    pub(super) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).headers(self.headers.clone())
    }
}

/// Waits again and again, for so long in all.
#[derive(Debug)]
pub(super) struct Patience {
    longest: Duration,
    /// Since the first of the refusals that came one after the other.
    since: Option<Instant>,
    pause: Duration,
}

impl Patience {
    pub(super) fn new(longest: Duration) -> Self {
        Self { longest, since: None, pause: FIRST_PAUSE }
    }

    /// Whether there is some left.
    pub(super) fn lasts(&self) -> bool {
        self.since.is_none_or(|since| since.elapsed() < self.longest)
    }

    /// Waits for so long as the server asked for, or longer each time; an error once it is used up.
    pub(super) async fn wait(&mut self, base: &str, asked: Option<Duration>, why: &str) -> Result<(), CliError> {
        if !self.lasts() {
            return Err(CliError::Failed(format!("{base} could not answer for {:?}: {why}", self.longest)));
        }
        let first = self.since.is_none();
        self.since.get_or_insert_with(Instant::now);
        // A server that says when to come back is well.
        if first && asked.is_none() {
            complain(&format_args!("{base}: {why}; trying again for {:?}", self.longest));
        }
        tokio::time::sleep(asked.unwrap_or(self.pause).min(LONGEST_PAUSE)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// Whether an answer of this status may be another one later.
pub(super) fn passes(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// When the server wants to be asked again.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// An error and what caused it; the outermost one says only that a request failed.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// A problem, or the error of a row; what is common to them.
#[derive(Default, Deserialize)]
pub(super) struct Problem {
    #[serde(default)]
    pub(super) code: String,
    #[serde(default)]
    pub(super) detail: String,
    #[serde(default)]
    pub(super) errors: Vec<FieldProblem>,
}

#[derive(Deserialize)]
pub(super) struct FieldProblem {
    pub(super) field: String,
    pub(super) detail: String,
}
