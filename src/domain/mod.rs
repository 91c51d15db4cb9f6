//! What do the words mean? The vocabulary that every other module shares; it knows none of them.
//!
//! Ids are validated when they are made, embeddings have unit length when they are made, horizons are
//! sorted when they are made: a function that receives one of these types need not check it again.

mod dot;
mod embedding;
mod event;
mod filter;
mod horizon;
mod id;
mod item;
mod logarithm;
mod luma;
mod pixels;
mod precision;
mod saved;
mod scored;
mod sealing_key;
mod time;

pub use dot::{LANES, add_scaled, dot, dot_places, dot_rows, dot_rows_each};
pub use embedding::{Embedding, EmbeddingError};
pub use event::{Event, EventKind, UnknownEventKind};
pub use filter::{Condition, Filter, Range, Test};
pub use horizon::{Horizons, HorizonsError};
pub use id::{EventId, IdError, ItemId, ItemNo, MAX_ID_BYTES, SessionId, UserId, UserKey};
pub use item::{Attribute, Item, ItemError};
pub use logarithm::fast_ln;
pub use luma::{LUMA_SIDE, LumaThumb};
pub use pixels::{Fit, InputSize, Motion, Pixels};
pub use precision::{Precision, UnknownPrecision};
pub use saved::{LoadError, StateReader, StateWriter};
pub use scored::Scored;
pub use sealing_key::{SealingKey, SealingKeysError};
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
