//! What operators do with models: see which are there, have others take over, and take that back.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use http::StatusCode;

use crate::api::extract::parse;
use crate::api::problem::{ApiError, Problem};
use crate::api::state::AppState;
use crate::api::wire::{ModelsAnswer, ModelsBody};

/// List the models, and who takes over from whom
#[utoipa::path(get, path = "/v1/admin/models", tag = "admin",
    responses((status = 200, description = "the models", body = ModelsAnswer),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn get_models(State(state): State<AppState>) -> Result<Json<ModelsAnswer>, ApiError> {
    Ok(Json(state.engine.models().await?.into()))
}

/// Have other models take over
///
/// They are loaded and checked at once; models that cannot be used are refused, and those in use stay. Then they look at the
/// catalogue in the background (at the kept thumbnails of pictures that they have not seen), while the models in use answer, and
/// take over at a stroke when they have seen it all. `GET` says how far they are. Models that are asked for meanwhile take
/// their place; to ask for the ones in use calls it off. The choice outlives restarts.
#[utoipa::path(post, path = "/v1/admin/models/activate", tag = "admin", request_body(content = ModelsBody),
    responses((status = 202, description = "they run, and begin to look at the catalogue", body = ModelsAnswer),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn activate_models(
    State(state): State<AppState>,
    body: Bytes,
) -> Result<(StatusCode, Json<ModelsAnswer>), ApiError> {
    let body: ModelsBody = parse(&body, "")?;
    state.engine.activate_models(body.into_choices()?).await?;
    Ok((StatusCode::ACCEPTED, Json(state.engine.models().await?.into())))
}

/// Have the models take over that were in use before
///
/// As `activate` does. What they have seen before is kept, so that only pictures that came since are looked at.
#[utoipa::path(post, path = "/v1/admin/models/rollback", tag = "admin",
    responses((status = 202, description = "they run, and see what has come since", body = ModelsAnswer),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn rollback_models(
    State(state): State<AppState>,
) -> Result<(StatusCode, Json<ModelsAnswer>), ApiError> {
    state.engine.roll_models_back().await?;
    Ok((StatusCode::ACCEPTED, Json(state.engine.models().await?.into())))
}
