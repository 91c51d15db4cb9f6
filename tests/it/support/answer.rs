//! What did the server say? An answer, read to its end, and ways to look into it.

use reqwest::RequestBuilder;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) version: reqwest::Version,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
    /// As text, where it is text.
    pub(crate) body: String,
}

impl Answer {
    /// Sends a request and reads what comes back. What must hold for every answer is checked here.
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, version, headers) = (response.status().as_u16(), response.version(), response.headers().clone());
        let bytes = response.bytes().await.unwrap().to_vec();
        let body = String::from_utf8_lossy(&bytes).into_owned();
        let answer = Self { status, version, headers, bytes, body };
        answer.check();
        answer
    }

    fn check(&self) {
        assert!(!self.header("x-request-id").is_empty(), "every answer has an id: {self:?}");
        assert_ne!(self.status, 500, "{}", self.body);
        if self.status < 400 {
            return;
        }
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.body);
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        assert_eq!(problem["instance"], self.header("x-request-id"), "{problem}");
        let code = text(&problem["code"]);
        assert_eq!(problem["type"], format!("urn:upnext:problem:{code}"));
        assert!(!text(&problem["title"]).is_empty() && !text(&problem["detail"]).is_empty(), "{problem}");
        for internal in
            [".rs", "/tmp", "/home", "panicked", "redb", "onnx", "ort::", "serde", "Error(", "hyper", "axum"]
        {
            assert!(!self.body.contains(internal), "internal text {internal:?} in {problem}");
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The body of a success.
    pub(crate) fn ok(&self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.body);
        if self.bytes.is_empty() { Value::Null } else { self.json() }
    }

    /// The status and the `code` of a problem.
    pub(crate) fn problem(&self) -> (u16, String) {
        (self.status, text(&self.json()["code"]).to_owned())
    }
}

/// A string in an answer.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

/// A number in an answer.
pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("not a number: {value}"))
}

/// A list in an answer.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}"))
}

/// The ids of a list of items.
pub(crate) fn ids(items: &Value) -> Vec<&str> {
    list(items).iter().map(|item| text(&item["item_id"])).collect()
}

/// The ids of all lists of a recommendation.
pub(crate) fn all_ids(recommendation: &Value) -> Vec<&str> {
    list(&recommendation["horizons"]).iter().flat_map(|horizon| ids(&horizon["items"])).collect()
}

/// What a recommendation says, without what differs from one answer to the next: horizon, item and probability.
pub(crate) fn probabilities(recommendation: &Value) -> Vec<(u64, String, f64)> {
    let of_horizon = |horizon: &Value| -> Vec<(u64, String, f64)> {
        let items = list(&horizon["items"]).iter();
        let seconds = horizon["seconds"].as_u64().unwrap();
        items.map(|item| (seconds, text(&item["item_id"]).to_owned(), number(&item["probability"]))).collect()
    };
    list(&recommendation["horizons"]).iter().flat_map(of_horizon).collect()
}
