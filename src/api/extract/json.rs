//! How does JSON become a typed value? With the path of the field in every refusal.

use axum::extract::{FromRef, FromRequest, Request};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::body::{ContentKind, read_body};
use crate::api::options::Limits;
use crate::api::problem::ApiError;

/// A JSON body. 415 for another content type, 400 if it is no JSON, 422 with the field if it does not fit `T`.
#[derive(Debug)]
pub(in crate::api) struct Json<T>(pub(in crate::api) T);

impl<T, S> FromRequest<S> for Json<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
    Limits: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if ContentKind::of(request.headers()) != ContentKind::Json {
            return Err(ApiError::UnsupportedMediaType { expected: "application/json" });
        }
        let bytes = read_body(request, Limits::from_ref(state).json_bytes).await?;
        parse(&bytes, "").map(Self)
    }
}

/// Reads `bytes` as JSON. `within` comes before the path of a field at fault, for example `request`.
pub(in crate::api) fn parse<T: DeserializeOwned>(bytes: &[u8], within: &str) -> Result<T, ApiError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::EmptyBody("JSON"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| explain(&error, within))?;
    match deserializer.end() {
        Ok(()) => Ok(value),
        Err(error) => Err(malformed(&error)),
    }
}

/// Reads a value that is JSON already.
pub(in crate::api) fn from_value<T: DeserializeOwned>(value: serde_json::Value, within: &str) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value).map_err(|error| explain(&error, within))
}

fn explain(error: &serde_path_to_error::Error<serde_json::Error>, within: &str) -> ApiError {
    let inner = error.inner();
    match inner.classify() {
        Category::Syntax | Category::Eof | Category::Io => malformed(inner),
        Category::Data => {
            let detail = without_place(&inner.to_string()).to_owned();
            let mut path = error.path().to_string();
            // What is missing has no place of its own, so that the path ends at the object around it.
            if let Some(missing) = detail.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
                path = if path == "." { missing.to_owned() } else { format!("{path}.{missing}") };
            }
            ApiError::field(join(within, &path), detail)
        }
    }
}

fn malformed(error: &serde_json::Error) -> ApiError {
    ApiError::MalformedJson {
        reason: without_place(&error.to_string()).to_owned(),
        line: error.line(),
        column: error.column(),
    }
}

/// The path of a field inside `within`. At the root, the path is `.`.
fn join(within: &str, path: &str) -> String {
    match (within, path) {
        ("", ".") => "body".to_owned(),
        ("", path) => path.to_owned(),
        (within, ".") => within.to_owned(),
        (within, path) => format!("{within}.{path}"),
    }
}

fn without_place(text: &str) -> &str {
    text.rfind(" at line ").map_or(text, |at| &text[..at])
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only the reading is tested")]
    struct Outer {
        name: String,
        #[serde(default)]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only the reading is tested")]
    struct Inner {
        count: u32,
    }

    fn refused(text: &str) -> (u16, String) {
        let problem = parse::<Outer>(text.as_bytes(), "").unwrap_err().problem("r");
        let fields: Vec<String> = problem.errors.into_iter().map(|e| e.field).collect();
        (problem.status, fields.join(","))
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(refused(r#"{"name":1}"#), (422, "name".into()));
        assert_eq!(refused(r#"{"name":"a","inner":[{"count":1},{"count":-1}]}"#), (422, "inner[1].count".into()));
        assert_eq!(refused(r#"{"name":"a","inner":[{"count":1,"cuont":2}]}"#), (422, "inner[0].cuont".into()));
        assert_eq!(refused(r#"{"name":"a","inner":[{}]}"#), (422, "inner[0].count".into()));
        assert_eq!(refused("3"), (422, "body".into()));
        assert_eq!(refused(r#"{}"#), (422, "name".into()));
        assert_eq!(refused(r#"{"name":"a"} x"#), (400, String::new()));
        assert_eq!(refused(r#"{"name":"#), (400, String::new()));
        assert_eq!(refused(" "), (400, String::new()));
    }

    #[test]
    fn malformed_json_has_a_place() {
        let error = parse::<Outer>(b"{\n  \"name\" \"a\"}", "").unwrap_err();
        assert!(matches!(error, ApiError::MalformedJson { line: 2, column: 10, .. }), "{error:?}");
        assert!(!error.detail().contains("at line 2 column"), "the place is said once: {}", error.detail());
    }

    #[test]
    fn paths_go_on_from_where_the_json_was() {
        let error = parse::<Outer>(br#"{"name":1}"#, "request").unwrap_err();
        assert_eq!(error.fields()[0].field, "request.name");
        let error = from_value::<Outer>(serde_json::json!({"name": "a", "inner": 3}), "events[4]").unwrap_err();
        assert_eq!(error.fields()[0].field, "events[4].inner");
    }
}
