//! What is in a log? Sessions of clicks from a table with named columns.

use std::collections::HashMap;
use std::io::Read;

use crate::domain::{ItemNo, Timestamp};

/// One session of a log.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// A number of its own.
    pub key: u64,
    /// Items and times, oldest first; never empty.
    pub clicks: Vec<(ItemNo, Timestamp)>,
}

/// A log: sessions in the order of their first clicks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClickLog {
    /// The sessions.
    pub sessions: Vec<Session>,
    /// Lines that could not be used.
    pub skipped: u64,
}

/// The numbers that items of one or more logs got.
#[derive(Debug, Clone, Default)]
pub struct ItemNumbers(HashMap<String, u32>);

/// The names of the columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// The session's id.
    pub session: String,
    /// The item's id.
    pub item: String,
    /// The time in seconds since 1970, broken or whole.
    pub time: String,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Reading failed.
    #[error("the log cannot be read: {0}")]
    Read(#[from] csv::Error),
    /// A column is missing.
    #[error("the log has no column `{missing}`, only {present}")]
    Column {
        /// What was asked for.
        missing: String,
        /// What there is.
        present: String,
    },
    /// No line could be used.
    #[error("the log has no usable line")]
    Empty,
}

impl Default for Columns {
    fn default() -> Self {
        Self { session: "SessionId".into(), item: "ItemId".into(), time: "Time".into() }
    }
}

impl ItemNumbers {
    /// The number of an item; a new one if it has none.
    pub fn number(&mut self, id: &str) -> ItemNo {
        let next = self.0.len() as u32;
        match self.0.get(id) {
            Some(&number) => ItemNo(number),
            None => {
                self.0.insert(id.to_owned(), next);
                ItemNo(next)
            }
        }
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl ClickLog {
    /// Reads a table whose values are separated by `delimiter`. Lines without a session, an item or a time are
    /// skipped and counted.
    pub fn read(input: impl Read, delimiter: u8, columns: &Columns, items: &mut ItemNumbers) -> Result<Self, LogError> {
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(input);
        let header = reader.headers()?.clone();
        let column = |name: &str| {
            header.iter().position(|h| h == name).ok_or_else(|| LogError::Column {
                missing: name.to_owned(),
                present: header.iter().collect::<Vec<_>>().join(", "),
            })
        };
        let (session, item, time) = (column(&columns.session)?, column(&columns.item)?, column(&columns.time)?);
        let mut sessions: HashMap<String, Vec<(ItemNo, Timestamp)>> = HashMap::new();
        let mut skipped = 0;
        for record in reader.records() {
            let record = record?;
            let seconds = record.get(time).and_then(|t| t.trim().parse::<f64>().ok()).filter(|t| t.is_finite());
            match (record.get(session), record.get(item), seconds) {
                (Some(session), Some(item), Some(seconds)) if !session.is_empty() && !item.is_empty() => {
                    let click = (items.number(item), Timestamp::from_seconds(seconds));
                    match sessions.get_mut(session) {
                        Some(clicks) => clicks.push(click),
                        None => {
                            sessions.insert(session.to_owned(), vec![click]);
                        }
                    }
                }
                _ => skipped += 1,
            }
        }
        if sessions.is_empty() {
            return Err(LogError::Empty);
        }
        let mut named: Vec<_> = sessions.into_iter().collect();
        for (_, clicks) in &mut named {
            // Stable: clicks of the same time stay in the order of the file.
            clicks.sort_by_key(|&(_, at)| at);
        }
        named.sort_by(|a, b| (a.1[0].1, &a.0).cmp(&(b.1[0].1, &b.0)));
        let sessions =
            named.into_iter().enumerate().map(|(n, (_, clicks))| Session { key: n as u64, clicks }).collect();
        Ok(Self { sessions, skipped })
    }

    /// How many clicks there are.
    pub fn clicks(&self) -> usize {
        self.sessions.iter().map(|s| s.clicks.len()).sum()
    }

    /// Divides the sessions in time: those that end in the first `share` of all ends, and the others.
    #[must_use]
    pub fn split(self, share: f64) -> (Self, Self) {
        let mut ends: Vec<Timestamp> = self.sessions.iter().filter_map(|s| s.clicks.last()).map(|c| c.1).collect();
        ends.sort_unstable();
        let cut = ends.get((ends.len() as f64 * share.clamp(0.0, 1.0)) as usize).copied();
        let early = |s: &Session| s.clicks.last().is_some_and(|&(_, end)| cut.is_none_or(|cut| end < cut));
        let (first, second) = self.sessions.into_iter().partition(early);
        (Self { sessions: first, skipped: self.skipped }, Self { sessions: second, skipped: 0 })
    }

    /// Gives the sessions keys from `first` upwards, so that two logs can be learned one after the other.
    pub fn renumber(&mut self, first: u64) {
        for (key, session) in (first..).zip(&mut self.sessions) {
            session.key = key;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_become_sessions_in_time_order() {
        let text = "Time\tItemId\tSessionId\n20.5\ta\ts2\n10\tb\ts1\n12\ta\ts1\nx\ta\ts1\n11\t\ts1\n";
        let mut items = ItemNumbers::default();
        let log = ClickLog::read(text.as_bytes(), b'\t', &Columns::default(), &mut items).unwrap();
        assert_eq!(log.skipped, 2);
        assert_eq!(items.len(), 2);
        let (a, b) = (items.number("a"), items.number("b"));
        assert_eq!(log.sessions[0].clicks, [(b, Timestamp(10_000)), (a, Timestamp(12_000))]);
        assert_eq!(log.sessions[1].clicks, [(a, Timestamp(20_500))]);
        let (first, second) = log.split(0.5);
        assert_eq!((first.sessions.len(), second.sessions.len()), (1, 1));
    }

    #[test]
    fn a_missing_column_is_named() {
        let columns = Columns { time: "When".into(), ..Columns::default() };
        let error = ClickLog::read(&b"SessionId,ItemId,Time\n"[..], b',', &columns, &mut ItemNumbers::default());
        assert!(error.unwrap_err().to_string().contains("`When`"));
    }
}
