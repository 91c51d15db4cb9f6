//! The use cases; the only module that joins the parts.
//!
//! The rule that it alone owns: *append, then apply; on start, replay*. What is acknowledged is in the log first.

mod answer;
mod error;
mod request;

pub use answer::{
    EventReceipt, FrameOutcome, Hit, HorizonList, ImageView, ItemPage, ItemReceipt, ItemView, Readiness,
    Recommendation, Recommended, SearchAnswer, SessionState,
};
pub use error::EngineError;
pub use request::{FrameRequest, FrameUpload, ItemWrite, Query, RecommendRequest, SearchRequest};

use crate::domain::{Event, ItemId, SessionId};

/// The service without its wire: every use case is one of its functions. Shared by reference.
#[derive(Debug)]
pub struct Engine {}

#[allow(clippy::unused_async, reason = "skeleton")]
impl Engine {
    /// Ranks items for each horizon.
    pub async fn recommend(&self, request: RecommendRequest) -> Result<Recommendation, EngineError> {
        let _ = request;
        Err(EngineError::ShuttingDown)
    }

    /// Adds a frame to a session's trajectory.
    pub async fn observe_frame(&self, request: FrameRequest) -> Result<FrameOutcome, EngineError> {
        let _ = request;
        Err(EngineError::ShuttingDown)
    }

    /// Logs events, then learns from them; one receipt for each, in order.
    pub async fn observe_events(&self, events: Vec<Event>) -> Result<Vec<EventReceipt>, EngineError> {
        let _ = events;
        Err(EngineError::ShuttingDown)
    }

    /// Writes an item, whole.
    pub async fn put_item(&self, write: ItemWrite) -> Result<ItemReceipt, EngineError> {
        let _ = write;
        Err(EngineError::ShuttingDown)
    }

    /// Writes many items with one sync; one outcome for each, in order.
    pub async fn put_items(&self, writes: Vec<ItemWrite>) -> Vec<Result<ItemReceipt, EngineError>> {
        let _ = writes;
        Vec::new()
    }

    /// The item, if the catalogue has it.
    pub fn item(&self, id: &ItemId) -> Option<ItemView> {
        let _ = id;
        None
    }

    /// Up to `limit` items in the order of their ids, from `from` on.
    pub fn items(&self, from: Option<&ItemId>, limit: usize) -> ItemPage {
        let _ = (from, limit);
        ItemPage { items: Vec::new(), next: None }
    }

    /// A JPEG thumbnail of the item's picture number `n` (from 0), to show to people.
    pub fn item_image(&self, id: &ItemId, n: usize) -> Result<Option<Vec<u8>>, EngineError> {
        let _ = (id, n);
        Ok(None)
    }

    /// Deletes an item; `false` if there was none.
    pub async fn delete_item(&self, id: &ItemId) -> Result<bool, EngineError> {
        let _ = id;
        Err(EngineError::ShuttingDown)
    }

    /// Finds items by picture, item or words.
    pub async fn search(&self, request: SearchRequest) -> Result<SearchAnswer, EngineError> {
        let _ = request;
        Err(EngineError::ShuttingDown)
    }

    /// What is known of a session.
    pub fn session(&self, id: &SessionId) -> Option<SessionState> {
        let _ = id;
        None
    }

    /// Forgets a live session; its events stay in the log. `false` if there was none.
    pub fn end_session(&self, id: &SessionId) -> bool {
        let _ = id;
        false
    }

    /// Sends a picture through the model and says what the service consists of.
    pub async fn readiness(&self) -> Readiness {
        Readiness {
            ready: false,
            problem: None,
            model: String::new(),
            provider: String::new(),
            inference: std::time::Duration::ZERO,
            items: 0,
            sessions: 0,
            log_sequence: 0,
        }
    }
}
