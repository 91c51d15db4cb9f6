//! What do clients tell? Events of viewers who go from item to item, as an app or a back end would send them.

use std::io::Write as _;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use upnext::domain::{Clock, SystemClock};

use crate::Failure;

const USERS: u32 = 10_000;
/// Viewers whose events a client sends, if a request has room for so many: a back end speaks for many.
const VIEWERS: usize = 64;
/// Items in a session.
const SESSION_ITEMS: u32 = 4;
/// What a viewer does with an item, in order.
const COURSE: [&str; 6] = ["click", "play", "progress", "progress", "progress", "finish"];

/// How clients make the ids of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ids {
    /// By the clock first (RFC 9562, version 7).
    UuidV7,
    /// By chance only (version 4).
    Random,
}

/// Writes the requests of one client.
pub(super) struct EventWriter {
    ids: Ids,
    random: SmallRng,
    viewers: Vec<Viewer>,
    next_viewer: usize,
    items: Arc<Vec<String>>,
    name: String,
    sessions: u32,
    events: u16,
}

struct Viewer {
    session: u32,
    user: u32,
    item: usize,
    step: usize,
    items: u32,
}

impl EventWriter {
    /// `seed` makes the ids of this run differ from those of others.
    pub(super) fn new(ids: Ids, seed: u64, client: u16, events: u16, items: Arc<Vec<String>>) -> Self {
        let mut writer = Self {
            ids,
            random: SmallRng::seed_from_u64(seed ^ (u64::from(client) << 48)),
            viewers: Vec::new(),
            next_viewer: 0,
            items,
            name: format!("{seed:x}-{client}"),
            sessions: 0,
            events,
        };
        for _ in 0..VIEWERS.min(usize::from(events)) {
            let viewer = writer.new_viewer();
            writer.viewers.push(viewer);
        }
        writer
    }

    /// How many events a request has.
    pub(super) fn events(&self) -> u16 {
        self.events
    }

    /// Adds the body of the next request to `out`.
    pub(super) fn write_request(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        let (now_ms, now) = now()?;
        out.extend_from_slice(b"{\"events\":[");
        for n in 0..self.events {
            if n > 0 {
                out.push(b',');
            }
            self.event(out, now_ms, &now)?;
        }
        out.extend_from_slice(b"]}");
        Ok(())
    }

    /// An event and its id, for systems that take them one by one.
    pub(super) fn write_event(&mut self, out: &mut Vec<u8>) -> Result<[u8; 36], Failure> {
        let (now_ms, now) = now()?;
        self.event(out, now_ms, &now)
    }

    fn event(&mut self, out: &mut Vec<u8>, now_ms: u64, now: &str) -> Result<[u8; 36], Failure> {
        let id = self.id(now_ms);
        let place = self.next_viewer;
        self.next_viewer = (place + 1) % self.viewers.len().max(1);
        let viewer = self.viewers.get_mut(place).ok_or("there are no viewers")?;
        let kind = COURSE[viewer.step];
        out.extend_from_slice(b"{\"event_id\":\"");
        out.extend_from_slice(&id);
        let (name, item) = (&self.name, self.items.get(viewer.item).ok_or("there are no items")?);
        let Viewer { session, user, .. } = viewer;
        write!(
            out,
            "\",\"type\":\"{kind}\",\"session_id\":\"{name}-{session}\",\"user_id\":\"user-{user}\",\
             \"item_id\":\"{item}\",\"occurred_at\":\"{now}\""
        )?;
        if kind == "progress" || kind == "finish" {
            write!(out, ",\"position_s\":{}", viewer.step * 15)?;
        }
        out.push(b'}');
        viewer.step += 1;
        if viewer.step == COURSE.len() {
            viewer.step = 0;
            viewer.items += 1;
            viewer.item = some_item(&mut self.random, self.items.len());
            if viewer.items == SESSION_ITEMS {
                let next = self.new_viewer();
                self.viewers[place] = next;
            }
        }
        Ok(id)
    }

    fn new_viewer(&mut self) -> Viewer {
        self.sessions += 1;
        let item = some_item(&mut self.random, self.items.len());
        Viewer { session: self.sessions, user: self.random.random_range(0..USERS), item, step: 0, items: 0 }
    }

    fn id(&mut self, now_ms: u64) -> [u8; 36] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut bits: u128 = self.random.random();
        let version = match self.ids {
            Ids::UuidV7 => {
                bits = bits >> 48 | u128::from(now_ms) << 80;
                7
            }
            Ids::Random => 4,
        };
        bits = bits & !(0xf << 76) & !(0b11 << 62) | version << 76 | 0b10 << 62;
        let mut text = [b'-'; 36];
        let mut shift = 128;
        for (n, place) in text.iter_mut().enumerate() {
            if ![8, 13, 18, 23].contains(&n) {
                shift -= 4;
                *place = HEX[(bits >> shift) as usize & 0xf];
            }
        }
        text
    }
}

/// Few items are popular, most are not.
fn some_item(random: &mut SmallRng, items: usize) -> usize {
    let share: f64 = random.random();
    ((share * share * items as f64) as usize).min(items.saturating_sub(1))
}

fn now() -> Result<(u64, String), Failure> {
    let ms = SystemClock.now().0;
    let now = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)?;
    Ok((ms as u64, now.format(&Rfc3339)?))
}

/// What can be checked without measuring anything.
pub(super) fn check() -> Result<(), Failure> {
    for (ids, version) in [(Ids::UuidV7, b'7'), (Ids::Random, b'4')] {
        let mut writer = EventWriter::new(ids, 1, 2, 1_000, Arc::new(vec!["a".into(), "b".into()]));
        let mut body = Vec::new();
        writer.write_request(&mut body)?;
        let json: serde_json::Value = serde_json::from_slice(&body)?;
        let known: std::collections::BTreeSet<&str> =
            json["events"].as_array().into_iter().flatten().filter_map(|event| event["event_id"].as_str()).collect();
        let good = |id: &&str| id.len() == 36 && id.as_bytes()[14] == version && b"89ab".contains(&id.as_bytes()[19]);
        if known.len() != 1_000 || !known.iter().all(good) {
            return Err(format!("the ids of events are not UUIDs of version {}", char::from(version)).into());
        }
    }
    Ok(())
}
