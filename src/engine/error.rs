//! Why could the engine not do it?

use std::time::Duration;

use crate::domain::ItemId;
use crate::index::IndexError;
use crate::store::StoreError;

/// What can go wrong in a use case. The `api` gives each a status and a stable code; texts that name internals
/// stay in the log.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A picture is in no format that the service reads.
    #[error("the {what} is not in a supported format{}", .detected.map(|d| format!(" (it looks like {d})")).unwrap_or_default())]
    UnsupportedImage {
        /// Which picture.
        what: String,
        /// What its first bytes look like.
        detected: Option<&'static str>,
    },
    /// A picture is damaged.
    #[error("the {what} cannot be decoded: {reason}")]
    BadImage {
        /// Which picture.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A picture has too many bytes or pixels.
    #[error("the {what} is too large: {reason}")]
    ImageTooLarge {
        /// Which picture.
        what: String,
        /// Which limit it breaks.
        reason: String,
    },
    /// A field has a value that cannot be used.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field, by its name on the wire.
        field: &'static str,
        /// Why.
        reason: String,
    },
    /// An example to search with cannot be used.
    #[error("{place}: {reason}")]
    InvalidExample {
        /// The example, by its name on the wire.
        place: String,
        /// Why.
        reason: String,
    },
    /// There is no such item.
    #[error("no item {0}")]
    UnknownItem(ItemId),
    /// There is no such session.
    #[error("no such session")]
    UnknownSession,
    /// The item has no picture to search with.
    #[error("item {0} has no image")]
    ItemWithoutImage(ItemId),
    /// Too much is waiting already.
    #[error("the service is busy")]
    Busy {
        /// When to come back.
        retry_after: Duration,
    },
    /// The answer would have come too late.
    #[error("the deadline passed")]
    DeadlinePassed,
    /// There is no room on the disk.
    #[error("the disk is full")]
    DiskFull,
    /// The service is stopping.
    #[error("the service is shutting down")]
    ShuttingDown,
    /// Models cannot be used; those in use stay.
    #[error("{0}")]
    ModelRefused(String),
    /// There is no snapshot of this name.
    #[error("there is no snapshot `{0}`")]
    UnknownSnapshot(String),
    /// A snapshot cannot be made or used.
    #[error("{0}")]
    Snapshot(String),
    /// The model failed on a picture; the text is for the log only.
    #[error("{0}")]
    ModelFailed(String),
    /// Something inside failed; the text is for the log only.
    #[error("internal: {0}")]
    Internal(String),
}

impl EngineError {
    /// The same error once more, for each of several callers that one failure meets.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Busy { retry_after } => Self::Busy { retry_after: *retry_after },
            Self::DeadlinePassed => Self::DeadlinePassed,
            Self::DiskFull => Self::DiskFull,
            Self::ShuttingDown => Self::ShuttingDown,
            other @ (Self::UnsupportedImage { .. }
            | Self::BadImage { .. }
            | Self::ImageTooLarge { .. }
            | Self::Invalid { .. }
            | Self::InvalidExample { .. }
            | Self::UnknownItem(_)
            | Self::UnknownSession
            | Self::ItemWithoutImage(_)
            | Self::UnknownSnapshot(_)
            | Self::ModelRefused(_)
            | Self::Snapshot(_)
            | Self::ModelFailed(_)
            | Self::Internal(_)) => Self::Internal(other.to_string()),
        }
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSpace { .. } | StoreError::TooManyUsers { .. } => Self::DiskFull,
            StoreError::Busy => Self::Busy { retry_after: Duration::from_secs(1) },
            StoreError::Closed => Self::ShuttingDown,
            StoreError::NoSnapshot { name } => Self::UnknownSnapshot(name),
            StoreError::Snapshot(reason) => Self::Snapshot(reason),
            StoreError::TooLarge { .. } => Self::Invalid { field: "item", reason: error.to_string() },
            StoreError::Locked { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Format { .. }
            | StoreError::NoSealingKey
            | StoreError::MissingKey { .. }
            | StoreError::WrongKey { .. }
            | StoreError::Thread(_)
            | StoreError::Io { .. } => Self::Internal(error.to_string()),
        }
    }
}

impl From<IndexError> for EngineError {
    fn from(error: IndexError) -> Self {
        Self::Internal(error.to_string())
    }
}
