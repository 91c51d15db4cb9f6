//! Frames stream in, lists stream out: live sessions over a WebSocket, and their twin for readers over server-sent events.
//!
//! [`Hub`] knows who is there and who is to hear of what; a [`socket`] is one connection of a client that sends and
//! hears, a [`stream`] one that only hears; [`notice`] says whether lists have changed in a way that a viewer would see.
//! `docs/live.md` has the protocol.

mod allowance;
mod hub;
mod notice;
pub(super) mod socket;
pub(super) mod stream;

pub(super) use hub::{Hub, Kind, Seat};
pub(super) use notice::{Notice, Shown};
