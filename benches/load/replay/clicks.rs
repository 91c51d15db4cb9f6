//! Which clicks are replayed? Those of a log, or seeded ones of any number.

use std::io::Write as _;
use std::path::Path;

use upnext::domain::Timestamp;
use upnext::evaluation::{ClickLog, Columns, ItemNumbers};

use crate::Failure;

/// Items that are alike, from which sessions rarely stray.
const NEIGHBOURHOOD: u32 = 20;
/// Seconds over which seeded clicks are spread.
const SPAN_S: f64 = 14.0 * 86_400.0;

/// Sessions of items by number, with seconds from the beginning of the log.
#[derive(Debug)]
pub(super) struct Clicks {
    /// The items' names.
    pub(super) items: Vec<String>,
    /// What is learned, in the order of the sessions' beginnings.
    pub(super) past: Vec<Vec<(u32, f64)>>,
    /// What is replayed.
    pub(super) visits: Vec<Vec<u32>>,
    /// Seconds from the first click to the last.
    pub(super) span_s: f64,
}

/// A generator that needs no crate and never changes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Some items are far more popular than others, and most steps lead to a neighbour.
    fn item(&mut self, items: u32, before: Option<u32>) -> u32 {
        match before {
            Some(item) if self.next() < 0.7 => {
                let first = item / NEIGHBOURHOOD * NEIGHBOURHOOD;
                (first + (self.next().powi(2) * f64::from(NEIGHBOURHOOD)) as u32).min(items - 1)
            }
            Some(_) | None => (self.next().powi(4) * f64::from(items)) as u32,
        }
    }

    fn session(&mut self, items: u32) -> Vec<u32> {
        let mut session = vec![self.item(items, None)];
        while session.len() < 50 && self.next() < 0.8 {
            let next = self.item(items, session.last().copied());
            session.push(next);
        }
        session
    }
}

impl Clicks {
    /// About `clicks` seeded clicks on `items` items, five a session on average, and a twentieth as many visits to replay.
    pub(super) fn seeded(clicks: usize, items: usize) -> Self {
        let items = items.clamp(1, 10_000_000) as u32;
        let mut random = Random(2027);
        let (mut past, mut drawn) = (Vec::new(), 0);
        while drawn < clicks {
            let mut at = SPAN_S * drawn as f64 / clicks as f64;
            let session: Vec<(u32, f64)> = random
                .session(items)
                .into_iter()
                .map(|item| {
                    let click = (item, at);
                    at += 3.0 - 40.0 * (1.0 - random.next()).ln();
                    click
                })
                .collect();
            drawn += session.len();
            past.push(session);
        }
        let visits = (0..past.len().div_ceil(20).max(1_000)).map(|_| random.session(items)).collect();
        let names = (0..items).map(|item| (100_000_000 + u64::from(item)).to_string()).collect();
        let span_s = past.iter().flatten().map(|&(_, at)| at).fold(0.0, f64::max);
        Self { items: names, past, visits, span_s }
    }

    /// What is learned, in words.
    pub(super) fn name(&self) -> String {
        let learned: usize = self.past.iter().map(Vec::len).sum();
        format!("{learned} clicks on {} items", self.items.len())
    }

    /// A log to learn and one to replay; tab-separated `SessionId ItemId Time`.
    pub(super) fn read(past: &Path, visits: &Path) -> Result<Self, Failure> {
        let mut numbers = ItemNumbers::default();
        let mut names: Vec<String> = Vec::new();
        let seconds = |text: &str| text.trim().parse().ok().map(Timestamp::from_seconds);
        let mut read = |path: &Path| -> Result<ClickLog, Failure> {
            let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
            let log = ClickLog::read(text.as_bytes(), b'\t', &Columns::default(), &mut numbers, seconds)?;
            // The numbers are given out in the order of the lines.
            for line in text.lines().skip(1) {
                let item = line.split('\t').nth(1).unwrap_or_default();
                if numbers.number(item).index() == names.len() {
                    names.push(item.to_owned());
                }
            }
            Ok(log)
        };
        let (past, visits) = (read(past)?, read(visits)?);
        let begin = past.sessions.iter().flat_map(|s| &s.clicks).map(|c| c.1).min().ok_or("the log is empty")?;
        let end = past.sessions.iter().flat_map(|s| &s.clicks).map(|c| c.1).max().ok_or("the log is empty")?;
        let sessions = past.sessions.iter();
        Ok(Self {
            items: names,
            past: sessions
                .map(|s| s.clicks.iter().map(|(item, at)| (item.0, at.seconds_since(begin))).collect())
                .collect(),
            visits: visits.sessions.iter().map(|s| s.clicks.iter().map(|(item, _)| item.0).collect()).collect(),
            span_s: end.seconds_since(begin),
        })
    }

    /// Writes what is learned as a log, as other systems read it; times in whole seconds from `begin_s` on.
    pub(super) fn write(&self, file: &Path, begin_s: f64) -> Result<(), Failure> {
        let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
        writeln!(out, "SessionId\tItemId\tTime")?;
        for (number, session) in self.past.iter().enumerate() {
            for &(item, at) in session {
                let item = self.items.get(item as usize).map_or("0", String::as_str);
                writeln!(out, "{}\t{item}\t{}", number + 1, (begin_s + at) as u64)?;
            }
        }
        Ok(out.flush()?)
    }
}
