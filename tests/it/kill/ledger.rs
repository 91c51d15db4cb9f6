//! What was said to the server, and what did it answer? Kept by the clients, to hold the server to it.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};
use ring::digest::{SHA256, digest};
use serde_json::Value;

use crate::support::world::base64;

/// What an item looks like from outside; `None` in place of it: there is no such item.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ItemState {
    pub(super) title: String,
    pub(super) tags: Vec<String>,
    /// The numbers of its pictures in [`pictures`].
    pub(super) pictures: Vec<usize>,
}

impl ItemState {
    /// As an answer shows it.
    pub(super) fn of(item: &Value) -> Self {
        let tags = item["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect();
        let number = |image: &Value| {
            let known = pictures().iter().position(|picture| image["sha256"] == picture.sha256.as_str());
            known.unwrap_or_else(|| panic!("a picture that nobody sent: {item}"))
        };
        let pictures = item["images"].as_array().unwrap().iter().map(number).collect();
        Self { title: item["title"].as_str().unwrap().to_owned(), tags, pictures }
    }
}

/// The catalogue by item id.
pub(super) type Items = BTreeMap<String, Option<ItemState>>;

/// An event that was sent.
#[derive(Debug, Clone)]
pub(super) struct SentEvent {
    pub(super) json: Value,
    /// Whether its session lists its item.
    pub(super) engagement: bool,
}

/// A request that was on its way when the server died.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// These events, in one request.
    Events(Vec<SentEvent>),
    /// Items and what they were to become.
    Items(Vec<(String, Option<ItemState>)>),
}

/// What one client did in one cycle.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Events that the server took.
    pub(super) acknowledged: Vec<SentEvent>,
    /// The client's own items, as the server last acknowledged them.
    pub(super) items: Items,
    /// Entries of the log that acknowledged writes made.
    pub(super) entries: u64,
    /// The write without an answer; a client has at most one.
    pub(super) unanswered: Option<Unanswered>,
}

/// A picture that clients send.
pub(super) struct Picture {
    pub(super) base64: String,
    /// In hexadecimal.
    pub(super) sha256: String,
}

/// A few small pictures that differ, made once.
pub(super) fn pictures() -> &'static [Picture] {
    static PICTURES: OnceLock<Vec<Picture>> = OnceLock::new();
    PICTURES.get_or_init(|| (0..6).map(picture).collect())
}

fn picture(number: u32) -> Picture {
    let colour = |x: u32, y: u32| {
        let wave = ((x * (number + 1) / 5 + y / (number + 2)) % 8 * 30) as u8;
        Rgb([wave, (40 * number) as u8, 255 - wave / (number as u8 + 1)])
    };
    let mut file = Vec::new();
    JpegEncoder::new(&mut file).encode_image(&RgbImage::from_fn(96, 64, colour)).unwrap();
    let sha256 = digest(&SHA256, &file).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Picture { base64: base64(&file), sha256 }
}
