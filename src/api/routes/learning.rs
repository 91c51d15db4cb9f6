//! What operators ask about learning: its state, new weights, and how the arms of experiments compare.

use axum::Json;
use axum::extract::State;
use http::StatusCode;

use crate::api::problem::{ApiError, Problem};
use crate::api::state::AppState;
use crate::api::wire::{ExperimentsAnswer, TrainingAnswer};

/// Read how the ranking learns
#[utoipa::path(get, path = "/v1/admin/training", tag = "admin",
    responses((status = 200, description = "the state", body = TrainingAnswer),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn get_training(State(state): State<AppState>) -> Json<TrainingAnswer> {
    Json(state.engine.learning().into())
}

/// Train new weights now
///
/// In the background, from the decisions that are kept. They take over if they are better on the newest ones; `GET` says
/// what became of it.
#[utoipa::path(post, path = "/v1/admin/training", tag = "admin",
    responses((status = 202, description = "it begins within about a second", body = TrainingAnswer),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn post_training(
    State(state): State<AppState>,
) -> Result<(StatusCode, Json<TrainingAnswer>), ApiError> {
    if state.engine.train() {
        Ok((StatusCode::ACCEPTED, Json(state.engine.learning().into())))
    } else {
        Err(ApiError::field("ranking.learn", "is off in the settings, so nothing is learned"))
    }
}

/// Compare the arms of the experiments
#[utoipa::path(get, path = "/v1/admin/experiments", tag = "admin",
    responses((status = 200, description = "the experiments", body = ExperimentsAnswer),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn get_experiments(State(state): State<AppState>) -> Json<ExperimentsAnswer> {
    Json(state.engine.experiments().into())
}
