//! How does a test ask? In few words.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::multipart::{Form, Part};
use reqwest::{Certificate, ClientBuilder, Method, RequestBuilder};
use serde_json::Value;

use super::answer::Answer;

/// Talks to one server.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    http: reqwest::Client,
    key: Option<String>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, http: reqwest::Client, key: Option<&str>) -> Self {
        Self { address, http, key: key.map(str::to_owned) }
    }

    /// Trusts this certificate (PEM) and no other.
    pub(crate) fn builder(trusted: &[u8]) -> ClientBuilder {
        reqwest::Client::builder().no_proxy().tls_certs_only([Certificate::from_pem(trusted).unwrap()])
    }

    /// A request to `path`, with the key.
    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.http.request(method, format!("https://{}{path}", self.address));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request("GET", path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        Answer::of(self.request("DELETE", path)).await
    }

    pub(crate) async fn send_json(&self, method: &str, path: &str, body: &Value) -> Answer {
        Answer::of(self.request(method, path).json(body)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send_json("POST", path, body).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send_json("PUT", path, body).await
    }

    /// Bytes with a content type.
    pub(crate) async fn post_bytes(&self, path: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
        Answer::of(self.request("POST", path).header("content-type", content_type).body(body.into())).await
    }

    /// A JSON part and image parts.
    pub(crate) async fn send_parts(
        &self,
        method: &str,
        path: &str,
        json: (&str, &Value),
        images: Images<'_>,
    ) -> Answer {
        let (name, files) = images;
        let mut form = Form::new();
        if !json.1.is_null() {
            form = form.text(json.0.to_owned(), json.1.to_string());
        }
        for file in files {
            form = form.part(name.to_owned(), Part::bytes(file.clone()).file_name("picture.jpg"));
        }
        Answer::of(self.request(method, path).multipart(form)).await
    }

    /// Asks for a recommendation; it must succeed.
    pub(crate) async fn recommend(&self, body: &Value) -> Value {
        self.post("/v1/recommendations", body).await.ok()
    }

    /// Reports events; it must succeed.
    pub(crate) async fn tell(&self, events: &[Value]) -> Value {
        self.post("/v1/events", &serde_json::json!({ "events": events })).await.ok()
    }

    /// The value of a metric; 0 if it is not there.
    pub(crate) async fn metric(&self, name_and_labels: &str) -> f64 {
        let text = self.get("/metrics").await.body;
        let value = text.lines().find_map(|line| line.strip_prefix(name_and_labels)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }
}

/// The name of the parts, and what is in them.
pub(crate) type Images<'a> = (&'a str, &'a [Vec<u8>]);

/// A name for a session that no other test uses.
pub(crate) fn fresh_session() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("session-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
