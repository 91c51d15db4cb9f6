//! Which path leads where, and who may take it?

use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Extension, Router};
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{self, Admits};
use super::middleware::{TimeLimit, around_with, time_limit};
use super::openapi::Document;
use super::problem::ApiError;
use super::routes::operations::Documents;
use super::routes::{
    events, export, item_batch, items, learning, live, models, operations, recommendations, search, sessions, storage,
    users,
};
use super::state::AppState;
use super::{asyncapi, console};
use crate::security::Scope;

/// The whole service as axum's router.
pub fn router(state: AppState) -> Router {
    let mut all = OpenApiRouter::with_openapi(Document::openapi());
    for group in groups() {
        let limit = if group.slow { state.options.batch_timeout } else { state.options.request_timeout };
        // Each layer goes around those before it: first the key, then the time.
        let mut routes = group.routes.route_layer(from_fn(time_limit)).route_layer(Extension(TimeLimit(limit)));
        if !group.any_of.is_empty() {
            routes = routes.route_layer(from_fn_with_state(state.door(group.any_of, group.admits), auth::check));
        }
        all = all.merge(routes);
    }
    let (router, document) = all.split_for_parts();
    let live = asyncapi::document(&serde_json::to_value(&document).unwrap_or_default()).to_string();
    let texts = Documents { openapi: document.to_json().unwrap_or_default().into(), asyncapi: live.into() };
    let (options, metrics, admission) = (state.options.clone(), state.metrics.clone(), state.admission.clone());
    let router = router
        .merge(console::router())
        .fallback(|| async { ApiError::NoSuchRoute })
        .layer(Extension(texts))
        .with_state(state);
    around_with(router, &options, &metrics, admission)
}

/// The OpenAPI document (3.1) of the whole service.
pub fn openapi() -> OpenApi {
    let all = OpenApiRouter::with_openapi(Document::openapi());
    groups().into_iter().fold(all, |all, group| all.merge(group.routes)).into_openapi()
}

/// Routes that need the same key.
struct Group {
    /// One of these scopes will do; none means that no key is needed.
    any_of: &'static [Scope],
    /// Who may take them beside the holders of keys.
    admits: Admits,
    /// Whether its requests may take as long as a batch.
    slow: bool,
    routes: OpenApiRouter<AppState>,
}

fn groups() -> Vec<Group> {
    let group = |any_of, routes| Group { any_of, admits: Admits::Keys, slow: false, routes };
    let router = OpenApiRouter::new;
    vec![
        group(
            &[],
            router()
                .routes(routes!(operations::root))
                .routes(routes!(operations::livez))
                .routes(routes!(operations::readyz))
                .routes(routes!(operations::openapi))
                .routes(routes!(operations::asyncapi)),
        ),
        Group {
            admits: Admits::Persons,
            ..group(
                &[Scope::Recommend],
                router()
                    .routes(routes!(recommendations::get_recommendations, recommendations::post_recommendations))
                    .routes(routes!(sessions::post_frame))
                    .routes(routes!(sessions::get_session, sessions::delete_session))
                    .routes(routes!(live::post_ticket)),
            )
        },
        Group {
            admits: Admits::Tickets,
            ..group(&[Scope::Recommend], router().routes(routes!(live::open_live)).routes(routes!(live::follow_live)))
        },
        group(&[Scope::Recommend], router().routes(routes!(search::post_search)).routes(routes!(items::similar_items))),
        group(
            &[Scope::Recommend, Scope::Ingest],
            router()
                .routes(routes!(items::get_item))
                .routes(routes!(items::list_items))
                .routes(routes!(items::get_image)),
        ),
        group(&[Scope::Ingest], router().routes(routes!(items::put_item, items::patch_item, items::delete_item))),
        Group { admits: Admits::Persons, ..group(&[Scope::Ingest], router().routes(routes!(events::post_events))) },
        Group {
            any_of: &[Scope::Ingest],
            admits: Admits::Keys,
            slow: true,
            routes: router().routes(routes!(item_batch::post_items)),
        },
        group(&[Scope::Metrics], router().routes(routes!(operations::metrics))),
        group(
            &[Scope::Admin],
            router()
                .routes(routes!(operations::admin_status))
                .routes(routes!(learning::get_training, learning::post_training))
                .routes(routes!(learning::get_experiments))
                .routes(routes!(users::delete_user))
                .routes(routes!(users::receipt_key))
                .routes(routes!(storage::delete_snapshot)),
        ),
        Group {
            any_of: &[Scope::Admin],
            admits: Admits::Keys,
            slow: true,
            routes: router()
                .routes(routes!(export::export_items))
                .routes(routes!(export::export_events))
                .routes(routes!(export::export_user))
                .routes(routes!(storage::list_snapshots, storage::create_snapshot))
                .routes(routes!(storage::verify_snapshot))
                .routes(routes!(storage::rewrite_store))
                .routes(routes!(models::get_models))
                .routes(routes!(models::activate_models))
                .routes(routes!(models::rollback_models)),
        },
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn document() -> Value {
        serde_json::to_value(openapi()).unwrap()
    }

    fn operations(document: &Value) -> Vec<(String, String, &Value)> {
        let mut all = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                all.push((method.to_uppercase(), path.clone(), operation));
            }
        }
        all
    }

    #[test]
    fn every_route_of_the_contract_is_there_and_no_other() {
        let document = document();
        let found: BTreeSet<String> =
            operations(&document).into_iter().map(|(method, path, _)| format!("{method} {path}")).collect();
        let expected = [
            "GET /",
            "GET /asyncapi.json",
            "GET /livez",
            "GET /metrics",
            "GET /openapi.json",
            "GET /readyz",
            "GET /v1/admin/experiments",
            "GET /v1/admin/models",
            "POST /v1/admin/models/activate",
            "POST /v1/admin/models/rollback",
            "GET /v1/admin/receipt-key",
            "GET /v1/admin/snapshots",
            "POST /v1/admin/snapshots",
            "DELETE /v1/admin/snapshots/{name}",
            "POST /v1/admin/snapshots/{name}/verify",
            "GET /v1/admin/status",
            "POST /v1/admin/store/rewrite",
            "GET /v1/admin/training",
            "POST /v1/admin/training",
            "POST /v1/events",
            "GET /v1/events/export",
            "GET /v1/items",
            "GET /v1/items/export",
            "POST /v1/items/batch",
            "DELETE /v1/items/{item_id}",
            "GET /v1/items/{item_id}",
            "PATCH /v1/items/{item_id}",
            "PUT /v1/items/{item_id}",
            "GET /v1/items/{item_id}/images/{n}",
            "GET /v1/items/{item_id}/similar",
            "GET /v1/recommendations",
            "POST /v1/recommendations",
            "POST /v1/search",
            "DELETE /v1/sessions/{session_id}",
            "GET /v1/sessions/{session_id}",
            "POST /v1/sessions/{session_id}/frames",
            "GET /v1/sessions/{session_id}/live",
            "GET /v1/sessions/{session_id}/live/events",
            "POST /v1/sessions/{session_id}/tickets",
            "DELETE /v1/users/{user_id}",
            "GET /v1/users/{user_id}/export",
        ];
        assert_eq!(found, expected.map(str::to_owned).into());
    }

    #[test]
    fn every_operation_has_its_parameters_a_summary_and_a_name_of_its_own() {
        let document = document();
        let mut names = BTreeSet::new();
        for (method, path, operation) in operations(&document) {
            let place = format!("{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|s| !s.is_empty()), "{place}");
            assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{place}");
            let in_path: BTreeSet<&str> = path.split('{').skip(1).filter_map(|s| s.split('}').next()).collect();
            let documented: BTreeSet<&str> = operation["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|p| p["in"] == "path")
                .map(|p| p["name"].as_str().unwrap())
                .collect();
            assert_eq!(documented, in_path, "{place}");
            let keyless = operation["security"] == serde_json::json!([{}]);
            assert_eq!(
                keyless,
                ["/", "/livez", "/readyz", "/openapi.json", "/asyncapi.json"].contains(&path.as_str()),
                "{place}"
            );
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut references = BTreeSet::new();
        collect(&document, &mut references);
        assert!(references.len() > 20, "{references:?}");
        for reference in references {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
        }
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    }

    fn collect(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                into.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|v| collect(v, into));
            }
            Value::Array(values) => values.iter().for_each(|v| collect(v, into)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Bodies that clients write must refuse misspelt fields, and say so.
    #[test]
    fn request_bodies_refuse_unknown_fields() {
        let document = document();
        for name in [
            "RecommendRequest",
            "ModelsRequest",
            "SearchRequest",
            "SearchExample",
            "EventsRequest",
            "Event",
            "ItemWrite",
            "Filter",
            "Condition",
            "TicketBody",
        ] {
            let schema = &document["components"]["schemas"][name];
            assert_eq!(schema["additionalProperties"], false, "{name}: {schema}");
        }
    }
}
