//! What must survive a crash? The log of events and the catalogue of items, in one file.
//!
//! [`Store`] keeps everything in `upnext.redb` in the data folder. What a call of [`Store::append_events`],
//! [`Store::put_items`] or [`Store::delete_item`] has acknowledged is on the disk. One thread writes; it takes
//! all that is waiting into one transaction with one sync. Reads see the last commit and never wait for it.
//! Other kinds of logs can stand in for the embedded one through [`EventLog`].
//!
//! # On disk
//!
//! | table | key | value |
//! |---|---|---|
//! | `log` | sequence number, from 1 without gaps | a record of kind 1, 2 or 3 |
//! | `event_ids` | a UUID's 16 bytes; of any other event id the first 16 bytes of its SHA-256 | sequence number |
//! | `catalogue` | item id | a record of kind 4 |
//! | `thumbnails` | item id, SHA-256 of the image's bytes | a JPEG file |
//! | `meta` | name | a number; `format_version` is that of this table |
//!
//! A record is a version byte (1), a kind byte and a payload:
//!
//! | kind | payload |
//! |---|---|
//! | 1, an event | JSON of [`Event`](crate::domain::Event) |
//! | 2, an item was written | the item's id in UTF-8; its contents are in the catalogue |
//! | 3, an item was deleted | the item's id in UTF-8 |
//! | 4, an item | length of the head (u32, little-endian), the head, the body |
//!
//! The head of an item is JSON: the item, the times of its first and last write, and for each image its size in
//! pixels and the name, number of dimensions and precision (`f16` or `f32`) of its embeddings. The body holds, image
//! by image, the SHA-256 of the image's bytes (32 bytes) and then its embeddings' components, little-endian,
//! in the head's order.
//!
//! A record that cannot be read is skipped and counted; a file that cannot be read stops the start with one
//! error that names it.

mod embedded;
mod error;
mod log;
mod record;
mod writer;

pub use embedded::{Scanned, Store, StoreOptions};
pub use error::StoreError;
pub use log::{Appended, EventLog, LogEntry, Replayed};
pub use record::{EmbeddingPrecision, ImageRecord, ItemRecord};

#[cfg(test)]
mod tests;
