//! How does a request become a typed value, and what does a client hear when it does not?
//!
//! The service's own extractors: what they reject is an [`ApiError`] like every other, and names the field.

mod body;
mod json;
mod multipart;
mod params;

pub(super) use body::{ContentKind, ImageBody, image_bytes, read_body};
pub(super) use json::{Json, from_value, parse};
pub(super) use multipart::{Part, read_parts};
pub(super) use params::{Path, Query};
