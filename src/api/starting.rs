//! What does the service answer before it can work? That it lives, and how far its start is.
//!
//! One router stands behind all connections from the first moment on. It hands requests to a small router with nothing
//! but health at first, and to the full one as soon as that is there: connections need not know.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use parking_lot::Mutex;
use tower::ServiceExt;

use super::middleware::around;
use super::options::ApiOptions;
use super::problem::{ApiError, StartReport};
use super::routes::operations::livez;
use crate::engine::{Progress, Step};
use crate::telemetry::Metrics;

/// A service that is starting. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Starting {
    state: Arc<State>,
    /// Answers until the full router is there.
    meanwhile: Router,
}

#[derive(Debug)]
struct State {
    began: Instant,
    progress: Mutex<Progress>,
    /// Set once.
    full: OnceLock<Router>,
}

impl Starting {
    /// A start that begins now.
    pub fn new(options: &ApiOptions, metrics: &Metrics) -> Self {
        let progress = Mutex::new(Progress::begin(Step::Model, 0));
        let state = Arc::new(State { began: Instant::now(), progress, full: OnceLock::new() });
        let report = Arc::clone(&state);
        let small = Router::new().route("/livez", get(livez)).fallback(move || async move { report.refusal() });
        Self { state, meanwhile: around(small, options, metrics) }
    }

    /// Takes down how far the start is.
    pub fn tell(&self, progress: Progress) {
        *self.state.progress.lock() = progress;
    }

    /// From now on `full` answers. Only the first call counts.
    pub fn hand_over(&self, full: Router) {
        // A second router would be another service, which there is not.
        let _ = self.state.full.set(full);
    }

    /// The router to serve: of the start, then of the service.
    pub fn router(&self) -> Router {
        let Self { state, meanwhile } = self.clone();
        Router::new().fallback_service(tower::service_fn(move |request: Request| {
            state.full.get().unwrap_or(&meanwhile).clone().oneshot(request)
        }))
    }
}

impl State {
    fn refusal(&self) -> ApiError {
        let Progress { step, done, total } = *self.progress.lock();
        // Milliseconds are fine enough, and more digits would only be noise.
        let elapsed_s = (self.began.elapsed().as_secs_f64() * 1e3).round() / 1e3;
        ApiError::Starting(StartReport { step: step.name(), done, total, elapsed_s })
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use serde_json::{Value, json};

    use super::*;

    async fn ask(router: &Router, path: &str) -> (u16, Option<String>, Value) {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let (head, body) = router.clone().oneshot(request).await.unwrap().into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        let retry_after = head.headers.get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        (head.status.as_u16(), retry_after, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    #[tokio::test]
    async fn one_router_answers_for_the_start_and_then_for_the_service() {
        let starting = Starting::new(&ApiOptions::default(), &Metrics::new().unwrap());
        let router = starting.router();
        assert_eq!(ask(&router, "/livez").await.0, 200);
        for path in ["/readyz", "/metrics", "/v1/items", "/nowhere"] {
            let (status, retry_after, problem) = ask(&router, path).await;
            assert_eq!(
                (status, retry_after.as_deref(), &problem["code"]),
                (503, Some("1"), &json!("starting")),
                "{path}"
            );
            assert_eq!((&problem["step"], problem.get("total")), (&json!("model"), None), "a total that is not known");
        }
        starting.tell(Progress { step: Step::Log, done: 420_000, total: 1_000_000 });
        let (_, _, problem) = ask(&router, "/readyz").await;
        assert_eq!(
            (&problem["step"], &problem["done"], &problem["total"]),
            (&json!("log"), &json!(420_000), &json!(1_000_000))
        );
        assert!(problem["elapsed_s"].as_f64().is_some_and(|s| s >= 0.0), "{problem}");
        assert_eq!(problem["detail"], "the service is starting: log, 420000 of 1000000");

        starting.hand_over(Router::new().route("/v1/items", get(|| async { "full" })));
        assert_eq!(ask(&router, "/v1/items").await.0, 200);
        assert_eq!(ask(&router, "/nowhere").await.0, 404);
    }
}
