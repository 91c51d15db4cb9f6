//! What does somebody hear who had a person forgotten?

use serde::Serialize;
use utoipa::ToSchema;

use super::Rfc3339;
use super::user_key::Pseudonym;
use crate::domain::UserKey;
use crate::engine::Erasure;

/// What was erased. All fields but `receipt` are what the receipt certifies.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::api) struct ErasureAnswer {
    /// The name of this erasure.
    erasure_id: String,
    /// The pseudonym under which the person was known.
    user_key: Pseudonym,
    /// Whether anything was stored of them.
    known: bool,
    /// Their events that could be read until now.
    events: u64,
    /// The sessions that these were part of.
    sessions: u64,
    /// When the first of the events occurred.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_event_at: Option<Rfc3339>,
    /// When the last of them occurred.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_event_at: Option<Rfc3339>,
    /// When it was done.
    erased_at: Rfc3339,
    /// The last entry of the log at that time.
    log_sequence: u64,
    /// What became unreadable or was taken back.
    erased: [&'static str; 5],
    /// All of the above, signed: a JSON Web Signature (RFC 7515) in its compact form.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<String>,
}

impl ErasureAnswer {
    /// Without a receipt yet.
    pub(in crate::api) fn new(user: UserKey, erasure: &Erasure) -> Self {
        Self {
            erasure_id: uuid::Uuid::now_v7().to_string(),
            user_key: Pseudonym(user),
            known: erasure.known,
            events: erasure.events,
            sessions: erasure.sessions,
            first_event_at: erasure.first_event_at.map(Rfc3339),
            last_event_at: erasure.last_event_at.map(Rfc3339),
            erased_at: Rfc3339(erasure.erased_at),
            log_sequence: erasure.log_sequence,
            erased: ["log", "snapshots and copies of the log", "checkpoints", "live sessions", "learned models"],
            receipt: None,
        }
    }

    /// With its receipt.
    pub(in crate::api) fn with_receipt(self, receipt: String) -> Self {
        Self { receipt: Some(receipt), ..self }
    }
}
