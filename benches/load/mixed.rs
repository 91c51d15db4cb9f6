//! What do viewers notice when too much comes at once? Live sessions alone first, and then beside several times as many other
//! requests as the server can answer, and imports.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::drive::Load;
use crate::frames::Frame;
use crate::live::{self, LiveReport};
use crate::report::{Latency, times};
use crate::{Failure, note};

/// Connections over which the other requests come: as many can be on their way at once.
const CONNECTIONS: usize = 256;
/// Of them, how many find out what the server can do, by asking again as soon as they have an answer.
const FINDERS: usize = 16;
const FINDING: Duration = Duration::from_secs(8);
/// Clients that write items, one after the other, and items in a batch.
const IMPORTERS: usize = 2;
const BATCH_ITEMS: usize = 64;

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct MixedReport {
    times_capacity: f64,
    /// Of the same requests, how many a second were answered to clients who waited for each answer, beside nothing else.
    capacity_per_s: f64,
    alone: LiveReport,
    beside: LiveReport,
    offered_per_s: f64,
    answered: Option<Latency>,
    refused: Option<Latency>,
    with_retry_after: u64,
    broken: u64,
    imported_items: u64,
    imports_refused: u64,
}

#[derive(Default)]
struct Tally {
    answered_us: Vec<u32>,
    refused_us: Vec<u32>,
    with_retry_after: u64,
    broken: u64,
}

/// Finds out what the server can do, and lets `factor` times as much come beside live sessions.
pub(crate) async fn run(
    load: &Load<'_>,
    frames: Vec<Frame>,
    item_ids: Vec<String>,
    factor: f64,
) -> Result<MixedReport, Failure> {
    let alone = live::run(load, frames.clone(), false).await?;
    note("what it can do");
    let asked = Arc::new(Asked { item_ids, pictures: frames.iter().map(|frame| frame.bytes.clone()).collect() });
    let alive = others(load, FINDERS, f64::INFINITY, Instant::now() + FINDING, &asked)?;
    let mut found = Tally::default();
    for other in alive {
        found.add(other.await?);
    }
    let capacity_per_s = found.answered_us.len() as f64 / FINDING.as_secs_f64();

    let begin = Instant::now();
    let until = begin + load.warmup + load.duration;
    let rate_per_s = factor * capacity_per_s;
    note(&format!("{rate_per_s:.0} other requests a second, and imports"));
    let alive = others(load, CONNECTIONS, rate_per_s, until, &asked)?;
    let mut importers = Vec::with_capacity(IMPORTERS);
    for number in 0..IMPORTERS {
        let (client, base) = (load.address.client(load.http2)?, load.address.base.clone());
        importers.push(tokio::spawn(import(client, base, number, until)));
    }
    let beside = live::run(load, frames, false).await?;
    let mut all = Tally::default();
    for other in alive {
        all.add(other.await?);
    }
    let (mut imported_items, mut imports_refused) = (0, 0);
    for importer in importers {
        let (items, refused) = importer.await?;
        imported_items += items;
        imports_refused += refused;
    }
    let offered = all.answered_us.len() as u64 + all.refused_us.len() as u64 + all.broken;
    Ok(MixedReport {
        times_capacity: factor,
        capacity_per_s,
        alone,
        beside,
        offered_per_s: offered as f64 / (until - begin).as_secs_f64().max(1e-9),
        answered: Latency::of(all.answered_us),
        refused: Latency::of(all.refused_us),
        with_retry_after: all.with_retry_after,
        broken: all.broken,
        imported_items,
        imports_refused,
    })
}

/// What other requests are about.
struct Asked {
    item_ids: Vec<String>,
    pictures: Vec<Bytes>,
}

/// Clients that ask `rate_per_s` times a second together, as far as answers let them, until the end.
fn others(
    load: &Load<'_>,
    connections: usize,
    rate_per_s: f64,
    until: Instant,
    asked: &Arc<Asked>,
) -> Result<Vec<JoinHandle<Tally>>, Failure> {
    let (next, begin) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let mut others = Vec::with_capacity(connections);
    for _ in 0..connections {
        let (client, base) = (load.address.client(load.http2)?, load.address.base.clone());
        let (next, asked) = (Arc::clone(&next), Arc::clone(asked));
        others.push(tokio::spawn(async move {
            let mut tally = Tally::default();
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let due = (begin + Duration::from_secs_f64(turn as f64 / rate_per_s)).max(Instant::now());
                if due >= until {
                    return tally;
                }
                tokio::time::sleep_until(due.into()).await;
                tally.ask(&client, &base, &asked, turn).await;
            }
        }));
    }
    Ok(others)
}

impl Tally {
    fn add(&mut self, mut other: Self) {
        self.answered_us.append(&mut other.answered_us);
        self.refused_us.append(&mut other.refused_us);
        self.with_retry_after += other.with_retry_after;
        self.broken += other.broken;
    }

    /// Searches by pictures and items, items, and events.
    async fn ask(&mut self, client: &reqwest::Client, base: &str, asked: &Asked, turn: u64) {
        let Asked { item_ids, pictures } = asked;
        let number = (turn.wrapping_mul(0x9e37_79b9) >> 7) as usize;
        let item = &item_ids[number % item_ids.len().max(1)];
        let request = match turn % 5 {
            0 => client
                .post(format!("{base}/v1/search"))
                .header(CONTENT_TYPE, "application/json")
                .body(json!({"item_id": item, "limit": 20}).to_string()),
            1 => {
                let event = json!({"type": "click", "session_id": format!("mixed-{}", turn % 997), "item_id": item});
                let body = json!({ "events": [event] }).to_string();
                client.post(format!("{base}/v1/events")).header(CONTENT_TYPE, "application/json").body(body)
            }
            2 => client.get(format!("{base}/v1/items/{item}")),
            3 => client
                .post(format!("{base}/v1/search?limit=20"))
                .header(CONTENT_TYPE, "image/jpeg")
                .body(pictures[number % pictures.len().max(1)].clone()),
            _ => client.get(format!("{base}/v1/items/{item}/similar?limit=20")),
        };
        let asked = Instant::now();
        let Ok(answer) = request.send().await else {
            self.broken += 1;
            return;
        };
        let (status, retry_after) = (answer.status(), answer.headers().contains_key(RETRY_AFTER));
        if answer.bytes().await.is_err() {
            self.broken += 1;
            return;
        }
        let us = u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX);
        match status {
            status if status.is_success() => self.answered_us.push(us),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                self.refused_us.push(us);
                self.with_retry_after += u64::from(retry_after);
            }
            _ => self.broken += 1,
        }
    }
}

/// Writes batches of items until the end; gives how many were stored and how many batches were refused.
async fn import(client: reqwest::Client, base: String, number: usize, until: Instant) -> (u64, u64) {
    let (mut items, mut refused) = (0, 0);
    for batch in 0_u64.. {
        if Instant::now() >= until {
            break;
        }
        let line = |n: usize| {
            let id = format!("imported-{number}-{batch}-{n}");
            json!({"item_id": id, "title": "Imported beside", "tags": ["imported"]}).to_string() + "\n"
        };
        let body: String = (0..BATCH_ITEMS).map(line).collect();
        let request =
            client.post(format!("{base}/v1/items/batch")).header(CONTENT_TYPE, "application/x-ndjson").body(body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => {
                let _ = answer.bytes().await;
                items += BATCH_ITEMS as u64;
            }
            Ok(_) | Err(_) => {
                refused += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
    (items, refused)
}

impl MixedReport {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        write!(text, "alone\n{}\nbeside others\n{}\n", self.alone.text(), self.beside.text())?;
        let Self { times_capacity, capacity_per_s, offered_per_s, .. } = self;
        writeln!(
            text,
            "others           {times_capacity} times the capacity of {capacity_per_s:.0}/s: {offered_per_s:.0}/s came"
        )?;
        writeln!(text, "  answered       {}", times(&self.answered))?;
        let (with, broken) = (self.with_retry_after, self.broken);
        writeln!(text, "  refused        {}, {with} with Retry-After; broken {broken}", times(&self.refused))?;
        writeln!(text, "  imported       {} items, {} batches refused", self.imported_items, self.imports_refused)?;
        if let (Some(alone), Some(beside)) = (self.alone.frame_to_told, self.beside.frame_to_told) {
            writeln!(text, "live p99: {:.2} times that alone", beside.p99_ms / alone.p99_ms.max(1e-9))?;
        }
        Ok(())
    }
}
