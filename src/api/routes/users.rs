//! People: how they are forgotten.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::extract::Path;
use crate::api::problem::{ApiError, Problem};
use crate::api::state::AppState;
use crate::api::wire::ErasureAnswer;
use crate::domain::UserId;

/// The person that a path names.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::api) struct UserPath {
    /// The client's own id, percent-encoded.
    #[param(value_type = String)]
    pub(in crate::api) user_id: UserId,
}

/// Forget a person
///
/// When the answer comes, nobody can read any more what was stored of them: the key under which it was sealed is
/// destroyed, which makes it unreadable in the log, in snapshots and in every older copy of them too; what was learned
/// from them is taken back. The answer has a receipt, signed with the key that `GET /v1/admin/receipt-key` gives.
/// Forgetting somebody of whom nothing is stored succeeds too. What they do later begins anew.
#[utoipa::path(delete, path = "/v1/users/{user_id}", tag = "users", params(UserPath),
    responses((status = 200, description = "forgotten", body = ErasureAnswer),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn delete_user(
    State(state): State<AppState>,
    Path(UserPath { user_id }): Path<UserPath>,
) -> Result<Json<ErasureAnswer>, ApiError> {
    let user = state.user_key(&user_id);
    let erasure = state.engine.erase_user(user).await?;
    let answer = ErasureAnswer::new(user, &erasure);
    let receipt = state.sign(&answer)?;
    Ok(Json(answer.with_receipt(receipt)))
}

/// Read the key that signs receipts
///
/// An Ed25519 public key as a JSON Web Key (RFC 8037). A receipt is a JSON Web Signature (RFC 7515) in its compact form.
#[utoipa::path(get, path = "/v1/admin/receipt-key", tag = "admin",
    responses((status = 200, description = "the key", body = Object),
        (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn receipt_key(State(state): State<AppState>) -> Json<serde_json::Value> {
    Json(state.receipt_key())
}
