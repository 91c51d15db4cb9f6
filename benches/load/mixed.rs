//! What do viewers notice when too much comes at once? Live sessions alone first, and then beside several times as many other
//! requests as the server can answer, and imports.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use serde::Serialize;
use serde_json::json;

use crate::drive::{Load, drive};
use crate::frames::Frame;
use crate::live::{self, LiveReport};
use crate::report::{Latency, times};
use crate::{Failure, Mode, note};

/// Connections over which the other requests come: as many can be on their way at once.
const CONNECTIONS: usize = 64;
/// Viewers that find out what the server can do.
const FINDERS: u16 = 16;
const FINDING: Duration = Duration::from_secs(8);
/// Clients that write items, one after the other, and items in a batch.
const IMPORTERS: usize = 2;
const BATCH_ITEMS: usize = 64;

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct MixedReport {
    times_capacity: f64,
    /// Lists a second that viewers got who waited for their answers, beside nothing else.
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
    let lists = Load { mode: Mode::Lists, viewers: FINDERS, duration: FINDING, ..*load };
    let measured = drive(&lists, Vec::new(), item_ids.clone()).await?;
    let answers: usize = measured.latencies_us.values().map(Vec::len).sum();
    let capacity_per_s = answers as f64 / measured.seconds.max(1e-9);

    let until = Instant::now() + load.warmup + load.duration;
    let rate_per_s = factor * capacity_per_s;
    note(&format!("{rate_per_s:.0} other requests a second, and imports"));
    let (next, item_ids) = (Arc::new(AtomicU64::new(0)), Arc::new(item_ids));
    let begin = Instant::now();
    let mut others = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let (client, base) = (load.address.client(load.http2)?, load.address.base.clone());
        let (next, item_ids) = (Arc::clone(&next), Arc::clone(&item_ids));
        others.push(tokio::spawn(async move {
            let mut tally = Tally::default();
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let due = begin + Duration::from_secs_f64(turn as f64 / rate_per_s);
                if due >= until {
                    return tally;
                }
                tokio::time::sleep_until(due.into()).await;
                tally.ask(&client, &base, &item_ids, turn).await;
            }
        }));
    }
    let mut importers = Vec::with_capacity(IMPORTERS);
    for number in 0..IMPORTERS {
        let (client, base) = (load.address.client(load.http2)?, load.address.base.clone());
        importers.push(tokio::spawn(import(client, base, number, until)));
    }
    let beside = live::run(load, frames, false).await?;
    let mut all = Tally::default();
    for other in others {
        let mut other = other.await?;
        all.answered_us.append(&mut other.answered_us);
        all.refused_us.append(&mut other.refused_us);
        all.with_retry_after += other.with_retry_after;
        all.broken += other.broken;
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

impl Tally {
    /// Lists of other sessions (of a viewer's class), and searches and events beside.
    async fn ask(&mut self, client: &reqwest::Client, base: &str, item_ids: &[String], turn: u64) {
        let item = &item_ids[(turn.wrapping_mul(0x9e37_79b9) >> 7) as usize % item_ids.len().max(1)];
        let request = match turn % 4 {
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
