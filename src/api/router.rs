//! Which path leads where, and who may take it?

use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Extension, Router};
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{self, Needs};
use super::middleware::{TimeLimit, around, time_limit};
use super::openapi::Document;
use super::problem::ApiError;
use super::routes::operations::OpenApiText;
use super::routes::{events, item_batch, items, operations, recommendations, search, sessions};
use super::state::AppState;

/// The whole service as axum's router.
pub fn router(state: AppState) -> Router {
    let mut all = OpenApiRouter::with_openapi(Document::openapi());
    for group in groups() {
        let limit = if group.slow { state.options.batch_timeout } else { state.options.request_timeout };
        // Each layer goes around those before it: first the key, then the time.
        let mut routes = group.routes.route_layer(from_fn(time_limit)).route_layer(Extension(TimeLimit(limit)));
        if let Some(needs) = group.needs {
            routes = routes.route_layer(from_fn_with_state(state.door(needs), auth::check));
        }
        all = all.merge(routes);
    }
    let (router, document) = all.split_for_parts();
    let text = OpenApiText(document.to_json().unwrap_or_default().into());
    let (options, metrics) = (state.options.clone(), state.metrics.clone());
    let router = router.fallback(|| async { ApiError::NoSuchRoute }).layer(Extension(text)).with_state(state);
    around(router, &options, &metrics)
}

/// The OpenAPI document (3.1) of the whole service.
pub fn openapi() -> OpenApi {
    let all = OpenApiRouter::with_openapi(Document::openapi());
    groups().into_iter().fold(all, |all, group| all.merge(group.routes)).into_openapi()
}

/// Routes that need the same key.
struct Group {
    needs: Option<Needs>,
    /// Whether its requests may take as long as a batch.
    slow: bool,
    routes: OpenApiRouter<AppState>,
}

fn groups() -> Vec<Group> {
    let group = |needs, routes| Group { needs, slow: false, routes };
    let router = OpenApiRouter::new;
    vec![
        group(
            None,
            router()
                .routes(routes!(operations::root))
                .routes(routes!(operations::livez))
                .routes(routes!(operations::readyz))
                .routes(routes!(operations::openapi)),
        ),
        group(
            Some(Needs::Recommend),
            router()
                .routes(routes!(recommendations::get_recommendations, recommendations::post_recommendations))
                .routes(routes!(sessions::post_frame))
                .routes(routes!(sessions::get_session, sessions::delete_session))
                .routes(routes!(search::post_search))
                .routes(routes!(items::similar_items)),
        ),
        group(
            Some(Needs::RecommendOrIngest),
            router()
                .routes(routes!(items::get_item))
                .routes(routes!(items::list_items))
                .routes(routes!(items::get_image)),
        ),
        group(
            Some(Needs::Ingest),
            router()
                .routes(routes!(items::put_item, items::patch_item, items::delete_item))
                .routes(routes!(events::post_events)),
        ),
        Group { needs: Some(Needs::Ingest), slow: true, routes: router().routes(routes!(item_batch::post_items)) },
        group(Some(Needs::Metrics), router().routes(routes!(operations::metrics))),
        group(Some(Needs::Admin), router().routes(routes!(operations::admin_status))),
    ]
}
