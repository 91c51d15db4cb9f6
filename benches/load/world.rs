//! What does the server know? A catalogue with pictures and two weeks of viewing, sent through the API.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use upnext::domain::{Attribute, Clock, Event, SystemClock, Timestamp};
use upnext::simulation::{Catalogue, CatalogueItem, Population, PopulationOptions};
use upnext::vision::thumbnail_jpeg;

use crate::server::Address;
use crate::{Failure, note};

const SEED: u64 = 2027;
const VIEWERS: u32 = 400;
const ITEMS_AT_ONCE: usize = 32;
const EVENTS_AT_ONCE: usize = 1_000;
const MAX_EVENTS: usize = 100_000;
/// Large enough for the model, small enough to be painted by the thousand.
const PICTURE: (u32, u32) = (256, 144);

/// A seeded catalogue; the same for the same number of items.
#[derive(Debug)]
pub(crate) struct World {
    catalogue: Arc<Catalogue>,
}

impl World {
    pub(crate) fn new(items: usize) -> Self {
        Self { catalogue: Arc::new(Catalogue::generate(SEED, items.max(24))) }
    }

    pub(crate) fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    pub(crate) fn item_ids(&self) -> Vec<String> {
        self.catalogue.items().iter().map(|item| item.item.id.as_str().to_owned()).collect()
    }

    /// Sends everything to a server.
    pub(crate) async fn send(&self, address: &Address) -> Result<(), Failure> {
        let client = address.client(true)?;
        let count = self.catalogue.len();
        note(&format!("a catalogue of {count} items with pictures"));
        let chunks = (0..count).step_by(ITEMS_AT_ONCE).map(|first| {
            let (catalogue, client) = (Arc::clone(&self.catalogue), client.clone());
            async move {
                let body = tokio::task::spawn_blocking(move || lines(&catalogue, first)).await??;
                let answer: Value = address.post(&client, "/v1/items/batch", "application/x-ndjson", body).await?;
                match answer["failed"].as_u64() {
                    Some(0) => Ok(()),
                    _ => Err(Failure::from(format!("items were refused: {answer}"))),
                }
            }
        });
        let parallel = std::thread::available_parallelism().map_or(2, |cores| cores.get() + 1);
        futures_util::stream::iter(chunks).buffer_unordered(parallel).try_collect::<()>().await?;

        note("two weeks of viewing");
        let options = PopulationOptions { users: VIEWERS, ..PopulationOptions::default() };
        let population = Population::generate(SEED, &self.catalogue, options);
        let mut events = population.events(SystemClock.now()).take(MAX_EVENTS);
        loop {
            let some: Vec<Value> = events.by_ref().take(EVENTS_AT_ONCE).map(|event| event_json(&event)).collect();
            if some.is_empty() {
                return Ok(());
            }
            let body = serde_json::to_vec(&json!({ "events": some }))?;
            let answer: Value = address.post(&client, "/v1/events", "application/json", body).await?;
            if answer["failed"] != 0 {
                return Err(format!("events were refused: {answer}").into());
            }
        }
    }
}

/// The items from number `first` on, as lines of JSON.
fn lines(catalogue: &Catalogue, first: usize) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    for item in catalogue.items().iter().skip(first).take(ITEMS_AT_ONCE) {
        serde_json::to_writer(&mut body, &item_json(item)?)?;
        body.push(b'\n');
    }
    Ok(body)
}

fn item_json(item: &CatalogueItem) -> Result<Value, Failure> {
    let picture = thumbnail_jpeg(&item.artwork.thumbnail_sized(PICTURE.0, PICTURE.1), PICTURE.0)?;
    let item = &item.item;
    let attributes = item.attributes.iter().map(|(name, value)| {
        let value = match value {
            Attribute::Flag(flag) => json!(flag),
            Attribute::Number(number) => json!(number),
            Attribute::Text(text) => json!(text),
            Attribute::Texts(texts) => json!(texts),
        };
        (name.clone(), value)
    });
    let attributes: serde_json::Map<String, Value> = attributes.collect();
    Ok(json!({
        "item_id": item.id.as_str(), "title": item.title, "description": item.description, "tags": item.tags,
        "categories": item.categories, "regions": item.regions, "duration_s": item.duration_s,
        "age_rating": item.age_rating, "attributes": attributes, "images_base64": [STANDARD.encode(picture)],
    }))
}

fn event_json(event: &Event) -> Value {
    let mut json = json!({
        "event_id": event.id.as_str(), "type": event.kind.name(), "session_id": event.session.as_str(),
        "item_id": event.item.as_str(),
    });
    if let Some(at) = rfc3339(event.occurred_at) {
        json["occurred_at"] = at.into();
    }
    for (name, seconds) in [("position_s", event.position_s), ("watched_s", event.watched_s)] {
        if let Some(seconds) = seconds {
            json[name] = seconds.into();
        }
    }
    json
}

fn rfc3339(at: Timestamp) -> Option<String> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000).ok()?.format(&Rfc3339).ok()
}
