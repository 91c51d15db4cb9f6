//! What do the clients do until the server dies? Each writes one thing after the other and keeps its ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::sync::Barrier;

use super::ledger::{ItemState, Items, Ledger, SentEvent, Unanswered, pictures};
use crate::support::{Client, list};

/// Who writes: one client for each.
pub(super) const ROLES: [Role; 6] =
    [Role::OneEvent, Role::OneEvent, Role::FewEvents, Role::ManyEvents, Role::Items, Role::Pictures];
/// Items that are there from the beginning and stay; events are about them.
pub(super) const FILMS: usize = 24;
/// Items of each client that writes items. They come and go.
const OWN_ITEMS: usize = 12;
/// Events after which a client begins a new session; fewer than a session lists.
const SESSION_EVENTS: usize = 24;
const USERS: u32 = 200;

/// What a client writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// One event a request, without a pause.
    OneEvent,
    /// Up to 20 events a request.
    FewEvents,
    /// Some hundred events a request.
    ManyEvents,
    /// Items without pictures: written, patched, deleted, written again, alone and in batches.
    Items,
    /// Items that gain, keep and lose pictures.
    Pictures,
}

impl Role {
    /// The longest pause between two requests: what the clients write has to be checked in the end.
    fn longest_pause_ms(self) -> u64 {
        match self {
            Self::OneEvent | Self::Items => 2,
            Self::FewEvents => 20,
            Self::ManyEvents => 150,
            Self::Pictures => 5,
        }
    }
}

/// One client in one cycle.
pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) role: Role,
    /// In the names of what it writes; no other client of any cycle has it.
    pub(super) name: String,
    /// In the names of its items, which it keeps from cycle to cycle.
    pub(super) number: usize,
    pub(super) seed: u64,
    pub(super) items: Items,
    /// Set just before the server is killed.
    pub(super) killed: Arc<AtomicBool>,
}

/// A write: the request, what it is remembered as, and the entries of the log that it makes.
struct Write {
    request: RequestBuilder,
    what: Unanswered,
    entries: u64,
}

impl Writer {
    /// Connects, waits for the others, and writes until there is no answer.
    pub(super) async fn write_until_killed(self, connected: Arc<Barrier>) -> Ledger {
        self.client.get("/livez").await;
        connected.wait().await;
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut ledger = Ledger { items: self.items.clone(), ..Ledger::default() };
        let mut sent = 0;
        loop {
            let write = match self.role {
                Role::OneEvent => self.events(&mut random, &mut sent, 1),
                Role::FewEvents => self.events_of(&mut random, &mut sent, 2, 20),
                Role::ManyEvents => self.events_of(&mut random, &mut sent, 100, 300),
                Role::Items | Role::Pictures => self.item_write(&mut random, &mut sent, &ledger.items),
            };
            let Some(answer) = self.send(write.request).await else {
                ledger.unanswered = Some(write.what);
                return ledger;
            };
            ledger.entries += write.entries;
            match write.what {
                Unanswered::Events(events) => {
                    let rows = list(&answer["results"]);
                    assert!(rows.len() == events.len() && rows.iter().all(|row| row["status"] == "stored"), "{answer}");
                    ledger.acknowledged.extend(events);
                }
                Unanswered::Items(items) => {
                    if let Some(rows) = answer["results"].as_array() {
                        assert!(rows.len() == items.len() && rows.iter().all(|r| r["status"] != "failed"), "{answer}");
                    }
                    ledger.items.extend(items);
                }
            }
            let pause = Duration::from_micros(random.random_range(0..=self.role.longest_pause_ms() * 1_000));
            tokio::time::sleep(pause).await;
        }
    }

    /// The answer, which must be good; `None` if the server is dead.
    async fn send(&self, request: RequestBuilder) -> Option<Value> {
        let answer = async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status(), response.bytes().await?))
        };
        match answer.await {
            Ok((status, body)) => {
                assert!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
                Some(serde_json::from_slice(&body).unwrap_or_default())
            }
            Err(error) => {
                assert!(self.killed.load(Ordering::SeqCst), "a request broke although the server lived: {error:?}");
                None
            }
        }
    }

    fn events_of(&self, random: &mut StdRng, sent: &mut usize, least: usize, most: usize) -> Write {
        let count = random.random_range(least..=most);
        self.events(random, sent, count)
    }

    fn events(&self, random: &mut StdRng, sent: &mut usize, count: usize) -> Write {
        let events: Vec<SentEvent> = (0..count).map(|_| self.event(random, sent)).collect();
        let rows: Vec<&Value> = events.iter().map(|event| &event.json).collect();
        let request = self.client.request("POST", "/v1/events").json(&json!({ "events": rows }));
        Write { request, entries: count as u64, what: Unanswered::Events(events) }
    }

    fn event(&self, random: &mut StdRng, sent: &mut usize) -> SentEvent {
        let n = *sent;
        *sent += 1;
        let session = format!("{}-{}", self.name, n / SESSION_EVENTS);
        let (kind, engagement) =
            [("click", true), ("play", true), ("like", true), ("impression", false), ("progress", false)]
                [random.random_range(0..5)];
        let mut json = json!({
            "event_id": format!("{}-{n}", self.name), "type": kind, "session_id": session,
            "user_id": format!("user-{}", random.random_range(0..USERS)), "item_id": film(random.random_range(0..FILMS)),
        });
        if kind == "progress" {
            json["position_s"] = json!(random.random_range(0..5_000));
        }
        SentEvent { json, engagement }
    }

    fn item_write(&self, random: &mut StdRng, sent: &mut usize, items: &Items) -> Write {
        let id = format!("own-{}-{:02}", self.number, random.random_range(0..OWN_ITEMS));
        let path = format!("/v1/items/{id}");
        let known = items.get(&id).cloned().flatten();
        *sent += 1;
        let title = format!("Title {} of {}", *sent, self.name);
        let one = |id: String, state: Option<ItemState>| Unanswered::Items(vec![(id, state)]);
        match (random.random_range(0..10), known) {
            (0..=2, Some(_)) => {
                Write { request: self.client.request("DELETE", &path), what: one(id, None), entries: 1 }
            }
            (3, Some(known)) => {
                let request = self.client.request("PATCH", &path).json(&json!({ "title": title }));
                Write { request, what: one(id, Some(ItemState { title, ..known })), entries: 1 }
            }
            (4, _) if self.role == Role::Items => self.item_batch(random, &title, items),
            (_, known) => {
                let tags: Vec<String> = (0..random.random_range(0..4)).map(|n| format!("tag-{n}-{sent}")).collect();
                let mut body = json!({"title": title, "tags": tags});
                let mut shown = known.map(|known| known.pictures).unwrap_or_default();
                // Without pictures in the request the item keeps those that it has.
                if self.role == Role::Pictures && random.random_bool(0.6) {
                    shown = (0..pictures().len()).filter(|_| random.random_bool(0.3)).collect();
                    let files: Vec<&str> = shown.iter().map(|&n| pictures()[n].base64.as_str()).collect();
                    body["images_base64"] = json!(files);
                }
                let request = self.client.request("PUT", &path).json(&body);
                Write { request, what: one(id, Some(ItemState { title, tags, pictures: shown })), entries: 1 }
            }
        }
    }

    /// Several items of the client in one request.
    fn item_batch(&self, random: &mut StdRng, title: &str, items: &Items) -> Write {
        let (first, count) = (random.random_range(0..OWN_ITEMS), random.random_range(2..=OWN_ITEMS));
        let (mut lines, mut what) = (String::new(), Vec::new());
        for n in 0..count {
            let id = format!("own-{}-{:02}", self.number, (first + n) % OWN_ITEMS);
            let title = format!("{title}, row {n}");
            lines += &(json!({"item_id": id, "title": title}).to_string() + "\n");
            let pictures = items.get(&id).cloned().flatten().map(|known| known.pictures).unwrap_or_default();
            what.push((id, Some(ItemState { title, tags: Vec::new(), pictures })));
        }
        let request = self.client.request("POST", "/v1/items/batch").header("content-type", "application/x-ndjson");
        Write { request: request.body(lines), what: Unanswered::Items(what), entries: count as u64 }
    }
}

/// The id of an item that stays.
pub(super) fn film(number: usize) -> String {
    format!("film-{number:02}")
}
