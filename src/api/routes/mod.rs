//! What can be asked? One file for each kind of resource; handlers translate between the wire and the engine.

pub(super) mod events;
pub(super) mod export;
pub(super) mod item_batch;
pub(super) mod items;
pub(super) mod learning;
pub(super) mod live;
pub(super) mod models;
pub(super) mod operations;
pub(super) mod recommendations;
pub(super) mod search;
pub(super) mod sessions;
pub(super) mod storage;
pub(super) mod users;
