//! What does the sender of many items hear? One entry for each row.

use serde::Serialize;
use utoipa::ToSchema;

use super::RowError;
use crate::api::problem::ApiError;
use crate::domain::ItemId;
use crate::engine::ItemReceipt;

/// What became of a row of an item batch.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct BatchRow {
    /// The row, from 0; empty lines do not count.
    pub(in crate::api) row: usize,
    /// The item, if the row got so far as to name one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(in crate::api) item_id: Option<ItemId>,
    /// `created`, `updated` or `failed`.
    pub(in crate::api) status: &'static str,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::api) error: Option<RowError>,
}

impl BatchRow {
    /// A row and how it ended.
    pub(in crate::api) fn new(row: usize, item_id: Option<ItemId>, outcome: Result<ItemReceipt, &ApiError>) -> Self {
        let (status, error) = match outcome {
            Ok(ItemReceipt { created: true, .. }) => ("created", None),
            Ok(ItemReceipt { created: false, .. }) => ("updated", None),
            Err(error) => ("failed", Some(error.into())),
        };
        Self { row, item_id, status, error }
    }
}

/// What became of an item batch.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(in crate::api) struct BatchAnswer {
    /// Rows that are durably written.
    pub(in crate::api) stored: usize,
    /// Rows that are not.
    pub(in crate::api) failed: usize,
    /// One entry for each row, in order.
    pub(in crate::api) results: Vec<BatchRow>,
}
