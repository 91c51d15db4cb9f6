//! Is everything there that was acknowledged, exactly once? All that the clients of a data folder know, held against it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ledger::{ItemState, Items, Ledger, SentEvent, Unanswered};
use super::load::{FILMS, film};
use crate::support::{Client, all_ids, ids, list, text};

/// The most events of a request.
const BATCH: usize = 1_000;
/// Numbers of the status are up to a second old.
const STATUS_TIMEOUT: Duration = Duration::from_secs(30);

/// What a data folder must hold.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Events that are in the log.
    events: Vec<Value>,
    /// The catalogue.
    items: Items,
    /// Entries of the log.
    entries: u64,
}

/// What became of the requests that were on their way when a server died.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fate {
    /// Had no answer.
    pub(super) unanswered: u64,
    /// Had no answer, and were written nevertheless.
    pub(super) got_in: u64,
    /// Had no answer, and left no trace.
    pub(super) lost: u64,
    /// Batches of items, of which some rows were written.
    pub(super) in_part: u64,
    /// Entries of the log that they made.
    entries: u64,
}

impl Book {
    /// The items that stay are written.
    pub(super) async fn open(client: &Client) -> Self {
        let mut book = Self::default();
        for id in (0..FILMS).map(film) {
            client.put(&format!("/v1/items/{id}"), &json!({"title": id, "tags": ["film"]})).await.ok();
            let state = ItemState { title: id.clone(), tags: vec!["film".into()], pictures: Vec::new() };
            book.items.insert(id, Some(state));
            book.entries += 1;
        }
        book
    }

    /// How many events are known to be there.
    pub(super) fn events(&self) -> usize {
        self.events.len()
    }

    /// How many entries the log has.
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// The items of one client.
    pub(super) fn items_of(&self, prefix: &str) -> Items {
        let own = self.items.range(prefix.to_owned()..).take_while(|(id, _)| id.starts_with(prefix));
        own.map(|(id, state)| (id.clone(), state.clone())).collect()
    }

    /// Holds a server that has just been started to all that is known, after the clients of `ledgers` saw the one before
    /// die. Afterwards all of that is known, too.
    pub(super) async fn check(&mut self, client: &Client, ledgers: Vec<Ledger>) -> Fate {
        let entries_found = entries(client).await;
        let mut fate = Fate::default();
        let mut sessions = Sessions::default();
        let (mut unanswered_events, mut unanswered_items) = (Vec::new(), Vec::new());
        for ledger in ledgers {
            self.entries += ledger.entries;
            self.items.extend(ledger.items);
            sessions.add(&ledger.acknowledged);
            self.events.extend(ledger.acknowledged.into_iter().map(|event| event.json));
            match ledger.unanswered {
                Some(Unanswered::Events(events)) => unanswered_events.push(events),
                Some(Unanswered::Items(items)) => unanswered_items.push(items),
                None => {}
            }
        }
        let acknowledged_entries = self.entries;
        let in_flight = unanswered_events.iter().map(Vec::len).sum::<usize>()
            + unanswered_items.iter().map(Vec::len).sum::<usize>();
        assert!(
            (acknowledged_entries..=acknowledged_entries + in_flight as u64).contains(&entries_found),
            "{entries_found} entries; {acknowledged_entries} were acknowledged, {in_flight} in flight"
        );

        self.check_items(client, unanswered_items, &mut fate).await;
        let again: Vec<&Value> = self.events.iter().collect();
        for events in again.chunks(BATCH) {
            let statuses = statuses(client, events).await;
            let missing = statuses.iter().zip(events).find(|(status, _)| *status != "duplicate");
            assert!(missing.is_none(), "an acknowledged event is not there: {missing:?}");
        }
        let mut sent_again = 0;
        for events in unanswered_events {
            let rows: Vec<&Value> = events.iter().map(|event| &event.json).collect();
            let statuses = statuses(client, &rows).await;
            let known = statuses.iter().filter(|status| *status == "duplicate").count();
            assert!(known == 0 || known == rows.len(), "{known} of the {} events of a request are there", rows.len());
            sent_again += (rows.len() - known) as u64;
            fate.count(known, rows.len());
            // Now they are acknowledged.
            sessions.add(&events);
            self.events.extend(events.into_iter().map(|event| event.json));
        }
        self.entries += fate.entries;
        assert_eq!(entries_found, self.entries, "nothing is there that nobody wrote, and nothing twice");
        self.entries += sent_again;
        sessions.check(client).await;
        self.check_lists(client).await;
        fate
    }

    /// Waits for the count of the entries to become what it must be: repetitions have added nothing.
    pub(super) async fn check_entries(&self, client: &Client) {
        let until = Instant::now() + STATUS_TIMEOUT;
        loop {
            let found = entries(client).await;
            if found == self.entries {
                return;
            }
            assert!(found < self.entries && Instant::now() < until, "{found} entries, not {}", self.entries);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Every item is as it was last acknowledged, or as a request without an answer would have it.
    async fn check_items(
        &mut self,
        client: &Client,
        unanswered: Vec<Vec<(String, Option<ItemState>)>>,
        fate: &mut Fate,
    ) {
        let mut found: Items = self.items.keys().map(|id| (id.clone(), None)).collect();
        let page = client.get("/v1/items?limit=100").await.ok();
        assert!(page["next_cursor"].is_null(), "one page has them all");
        found.extend(list(&page["items"]).iter().map(|i| (text(&i["item_id"]).to_owned(), Some(ItemState::of(i)))));
        for rows in unanswered {
            let count = rows.len();
            let mut known = 0;
            for (id, wanted) in rows {
                // Titles are never used again, so that an old state cannot be taken for a new one. Nobody deletes what is
                // not there.
                if found.get(&id) == Some(&wanted) {
                    known += 1;
                    self.items.insert(id, wanted);
                }
            }
            fate.count(known, count);
        }
        for (id, state) in &found {
            let expected = self.items.get(id).unwrap_or_else(|| panic!("{id} is there, but nobody wrote it"));
            assert_eq!(state, expected, "{id}");
            let answer = client.get(&format!("/v1/items/{id}")).await;
            match expected {
                Some(expected) => assert_eq!(&ItemState::of(&answer.ok()), expected, "{id}"),
                None => assert_eq!(answer.problem(), (404, "item_not_found".into()), "{id}"),
            }
        }
    }

    /// Lists, search and pictures work with what is there, and know nothing else.
    async fn check_lists(&self, client: &Client) {
        let there: BTreeSet<&str> = self.visible(|_| true);
        for question in [json!({"count": 20}), json!({"item_id": film(0), "position_s": 3, "count": 20})] {
            let answer = client.recommend(&question).await;
            let listed = all_ids(&answer);
            assert!(list(&answer["horizons"]).iter().all(|horizon| !list(&horizon["items"]).is_empty()), "{answer}");
            assert!(listed.iter().all(|id| there.contains(id)), "{answer}");
        }
        // Embeddings and thumbnails are those of the items that have pictures now.
        let with_pictures = self.visible(|state| !state.pictures.is_empty());
        for id in &with_pictures {
            let similar = client.get(&format!("/v1/items/{id}/similar?limit=100")).await.ok();
            let mut found: BTreeSet<&str> = ids(&similar["items"]).into_iter().collect();
            assert!(found.insert(id), "an item is not similar to itself");
            assert_eq!(found, with_pictures);
            let thumbnail = client.get(&format!("/v1/items/{id}/images/0")).await;
            assert!(thumbnail.status == 200 && thumbnail.bytes.starts_with(&[0xff, 0xd8]), "{id}");
        }
    }

    fn visible(&self, wanted: impl Fn(&ItemState) -> bool) -> BTreeSet<&str> {
        let there = self.items.iter().filter(|(_, state)| state.as_ref().is_some_and(&wanted));
        there.map(|(id, _)| id.as_str()).collect()
    }
}

impl Fate {
    /// Of `all` entries that a request was to make `known` are there.
    fn count(&mut self, known: usize, all: usize) {
        self.unanswered += 1;
        self.entries += known as u64;
        match known {
            0 => self.lost += 1,
            _ if known == all => self.got_in += 1,
            _ => self.in_part += 1,
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.unanswered += other.unanswered;
        self.got_in += other.got_in;
        self.lost += other.lost;
        self.in_part += other.in_part;
        self.entries += other.entries;
    }
}

/// The items that sessions turned to: one entry for each engagement.
#[derive(Default)]
struct Sessions(BTreeMap<String, Vec<String>>);

impl Sessions {
    fn add(&mut self, events: &[SentEvent]) {
        for SentEvent { json, engagement } in events {
            let items = self.0.entry(text(&json["session_id"]).to_owned()).or_default();
            if *engagement {
                items.push(text(&json["item_id"]).to_owned());
            }
        }
    }

    /// What was learned from the log was learned once.
    async fn check(self, client: &Client) {
        for (session, mut expected) in self.0 {
            let answer = client.get(&format!("/v1/sessions/{session}")).await.ok();
            let mut found = ids(&answer["items"]);
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "{session}");
        }
    }
}

/// What is said to each event that is sent again.
async fn statuses(client: &Client, events: &[&Value]) -> Vec<String> {
    let answer = client.post("/v1/events", &json!({ "events": events })).await.ok();
    let rows = list(&answer["results"]);
    assert_eq!(rows.len(), events.len());
    rows.iter().map(|row| text(&row["status"]).to_owned()).collect()
}

async fn entries(client: &Client) -> u64 {
    client.get("/v1/admin/status").await.ok()["log_sequence"].as_u64().unwrap()
}
