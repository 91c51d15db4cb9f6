//! What do the path and the query string say?

use std::error::Error;

use axum::RequestPartsExt;
use axum::extract::FromRequestParts;
use axum::extract::path::{ErrorKind, RawPathParams};
use axum::extract::rejection::PathRejection;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::api::problem::{ApiError, FieldError};

/// The path's parameters, as a struct with their names.
#[derive(Debug)]
pub(in crate::api) struct Path<T>(pub(in crate::api) T);

impl<T: DeserializeOwned + Send + 'static, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match parts.extract::<axum::extract::Path<T>>().await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(PathRejection::FailedToDeserializePathParams(failed)) => {
                let mut field = at_fault(failed.into_kind());
                if field.field.is_empty() {
                    field.field = id_parameter(parts).await;
                }
                Err(ApiError::InvalidPath(field))
            }
            Err(_) => Err(ApiError::NoSuchRoute),
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "axum's list may grow, and the others name no parameter")]
fn at_fault(kind: ErrorKind) -> FieldError {
    match kind {
        ErrorKind::ParseErrorAtKey { key, expected_type, .. } => {
            FieldError::new(key, format!("must be of the type {expected_type}"))
        }
        ErrorKind::InvalidUtf8InPathParam { key } => FieldError::new(key, "must be percent-encoded UTF-8"),
        ErrorKind::DeserializeError { key, message, .. } => FieldError::new(key, message),
        other => FieldError::new("", other.to_string()),
    }
}

/// The path's parameter that is an identifier: identifiers check themselves, and their refusal does not say where.
async fn id_parameter(parts: &mut Parts) -> String {
    let Ok(parameters) = parts.extract::<RawPathParams>().await else { return "path".to_owned() };
    parameters.iter().map(|(name, _)| name).find(|name| name.ends_with("id")).unwrap_or("path").to_owned()
}

/// The query string. Unknown parameters are refused if `T` denies unknown fields.
#[derive(Debug)]
pub(in crate::api) struct Query<T>(pub(in crate::api) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match axum::extract::Query::<T>::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                // Axum knows the field but does not say it; it is two errors further down.
                let mut cause: Option<&(dyn Error + 'static)> = Some(&rejection);
                while let Some(error) = cause {
                    if let Some(found) = error.downcast_ref::<serde_path_to_error::Error<serde::de::value::Error>>() {
                        return Err(ApiError::InvalidQuery(named(found)));
                    }
                    cause = error.source();
                }
                Err(ApiError::InvalidQuery(FieldError::new("query", rejection.body_text())))
            }
        }
    }
}

/// The parameter at fault. Unknown and missing ones stand only in the message, between backticks.
fn named(error: &serde_path_to_error::Error<serde::de::value::Error>) -> FieldError {
    let detail = error.inner().to_string();
    let field = match error.path().to_string() {
        root if root == "." => detail.split('`').nth(1).unwrap_or("query").to_owned(),
        field => field,
    };
    FieldError::new(field, detail)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::extract::Request;
    use axum::response::IntoResponse;
    use axum::routing::get;
    use serde::Deserialize;
    use tower::ServiceExt;

    use super::*;
    use crate::api::problem::Carried;
    use crate::domain::ItemId;

    #[derive(Debug, Deserialize)]
    struct Named {
        item_id: ItemId,
        n: u8,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        #[serde(default)]
        limit: u32,
    }

    async fn ask(uri: &str) -> (u16, Option<FieldError>) {
        let handler = |Path(named): Path<Named>, Query(wanted): Query<Wanted>| async move {
            format!("{} {} {}", named.item_id, named.n, wanted.limit).into_response()
        };
        let router = Router::new().route("/{item_id}/{n}", get(handler));
        let response = router.oneshot(Request::builder().uri(uri).body(Body::empty()).unwrap()).await.unwrap();
        let field = response.extensions().get::<Carried>().and_then(|Carried(e)| e.fields().into_iter().next());
        (response.status().as_u16(), field)
    }

    #[tokio::test]
    async fn parameters_at_fault_are_named() {
        assert_eq!(ask("/a%2Fb/7?limit=3").await, (200, None));
        let field = |answer: (u16, Option<FieldError>)| (answer.0, answer.1.unwrap().field);
        assert_eq!(field(ask("/a/x").await), (400, "n".into()));
        assert_eq!(field(ask(&format!("/{}/1", "x".repeat(300))).await), (400, "item_id".into()));
        assert_eq!(field(ask("/a/1?limit=x").await), (400, "limit".into()));
        assert_eq!(field(ask("/a/1?limti=1").await), (400, "limti".into()));
        assert_eq!(field(ask("/%ff/1").await), (400, "item_id".into()));
    }
}
