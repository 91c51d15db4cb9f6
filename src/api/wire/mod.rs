//! What do bodies look like? The serialisable twins of what the engine takes and gives.
//!
//! They are checked and turned into the domain's types here, field by field, so that a refusal can name the field.

mod batch;
mod erasure;
mod event;
mod export;
mod filter;
mod item;
mod learning;
mod live;
mod models;
mod recommend;
mod search;
mod session;
mod storage;
mod time;
mod user_key;

pub(super) use batch::{BatchAnswer, BatchRow};
pub(super) use erasure::ErasureAnswer;
pub(super) use event::{EventBody, EventRow, EventsAnswer, EventsBody, RowError};
pub(super) use export::ExportedEvent;
pub(super) use filter::FilterBody;
pub(super) use item::{ItemAnswer, ItemBody, ItemPageAnswer, ItemReceiptAnswer, patched, write_of};
pub(super) use learning::{ExperimentsAnswer, TrainingAnswer};
pub(super) use live::{
    AckAnswer, ClientMessage, FRAME_HEAD_BYTES, HelloAnswer, ListsAnswer, LiveError, LiveQuery, Pace, PlayerAction,
    PlayerChange, SeenAnswer, ServerMessage, TicketAnswer, TicketBody, read_frame,
};
pub(super) use models::{ModelsAnswer, ModelsBody, TakeoverAnswer};
pub(super) use recommend::{FrameAnswer, RecommendAnswer, RecommendBody, RecommendQuery, milliseconds};
pub(super) use search::{Asked, SearchAnswerBody, SearchBody, SearchQuery, SimilarQuery};
pub(super) use session::{FrameQuery, FrameReport, SessionAnswer};
pub(super) use storage::{RewriteAnswer, SnapshotAnswer, SnapshotBody, SnapshotsAnswer, VerifiedAnswer};
pub(super) use time::Rfc3339;
pub(super) use user_key::Pseudonym;
