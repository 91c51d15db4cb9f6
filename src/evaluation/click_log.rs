//! What is in a log? Sessions of clicks from a table with named columns.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;

use crate::collab::Signal;
use crate::domain::{EventKind, ItemNo, Timestamp, UserKey};

/// One session of a log.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// A number of its own.
    pub key: u64,
    /// Whose it is, as a number of their own, if that is known.
    pub user: Option<u64>,
    /// Items and times, oldest first; never empty.
    pub clicks: Vec<(ItemNo, Timestamp)>,
    /// How sure each click is to show a liking ([`Signal::of`]); empty if the log says nothing of it.
    pub confidences: Vec<f32>,
}

/// What a click counts for whose liking the log does not tell.
const UNTOLD: f32 = 1.0;

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
    /// The time.
    pub time: String,
    /// The user's id, if there is a column of them.
    pub user: Option<String>,
    /// A rating, if there is a column of them.
    pub value: Option<String>,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Reading failed.
    #[error("cannot be read: {0}")]
    Read(#[from] csv::Error),
    /// A column is missing.
    #[error("has no column `{missing}`; it has the columns: {present}")]
    Column {
        /// What was asked for.
        missing: String,
        /// What there is.
        present: String,
    },
    /// No line could be used.
    #[error("has no line with a session, an item and a time ({skipped} lines without)")]
    Empty {
        /// How many lines there are.
        skipped: u64,
    },
}

impl Default for Columns {
    fn default() -> Self {
        Self { session: "SessionId".into(), item: "ItemId".into(), time: "Time".into(), user: None, value: None }
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

    /// The number of an item that has one.
    pub fn get(&self, id: &str) -> Option<ItemNo> {
        self.0.get(id).copied().map(ItemNo)
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

/// Puts clicks together that come in any order.
#[derive(Debug, Default)]
pub struct LogBuilder {
    sessions: HashMap<String, Begun>,
    skipped: u64,
}

/// A session of which more may come.
#[derive(Debug, Default)]
struct Begun {
    user: Option<u64>,
    clicks: Vec<(ItemNo, Timestamp, Option<f32>)>,
}

impl Session {
    /// Whose it is, in the form in which the models know people.
    pub fn user_key(&self) -> Option<UserKey> {
        self.user.map(|user| {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&user.to_le_bytes());
            UserKey(key)
        })
    }

    /// How sure the click at `position` is to show a liking.
    pub fn confidence(&self, position: usize) -> f32 {
        self.confidences.get(position).copied().unwrap_or(UNTOLD)
    }
}

/// How sure an engagement is to show a liking, from what is known of it.
pub fn confidence_of(kind: EventKind, watched_s: Option<f32>, value: Option<f32>) -> Option<f32> {
    Signal::of(kind, watched_s, None, value).apply(None)
}

impl LogBuilder {
    /// Adds a click, and how sure it is to show a liking, if that is known. A session belongs to the first user that one of
    /// its clicks names.
    pub fn add(&mut self, session: &str, user: Option<&str>, item: ItemNo, at: Timestamp, confidence: Option<f32>) {
        // A hash, so that a user has the same number in every log.
        let user = user.filter(|user| !user.is_empty()).map(|user| {
            let mut hasher = DefaultHasher::new();
            user.hash(&mut hasher);
            hasher.finish()
        });
        // Looked up first: most clicks belong to a session that has begun.
        let begun = match self.sessions.get_mut(session) {
            Some(begun) => begun,
            None => self.sessions.entry(session.to_owned()).or_default(),
        };
        begun.user = begun.user.or(user);
        begun.clicks.push((item, at, confidence));
    }

    /// Counts a line that could not be used.
    pub fn skip(&mut self) {
        self.skipped += 1;
    }

    /// The log: sessions by their first clicks, clicks by their times.
    pub fn finish(self) -> Result<ClickLog, LogError> {
        if self.sessions.is_empty() {
            return Err(LogError::Empty { skipped: self.skipped });
        }
        let mut named: Vec<_> = self.sessions.into_iter().collect();
        for (_, begun) in &mut named {
            // Stable: clicks of the same time stay in the order of the file.
            begun.clicks.sort_by_key(|&(_, at, _)| at);
        }
        named.sort_by(|a, b| (a.1.clicks[0].1, &a.0).cmp(&(b.1.clicks[0].1, &b.0)));
        let sessions = named.into_iter().enumerate();
        let session = |(key, (_, Begun { user, clicks })): (usize, (String, Begun))| {
            let told = clicks.iter().any(|(_, _, confidence)| confidence.is_some());
            let confidences = clicks.iter().filter(|_| told).map(|click| click.2.unwrap_or(UNTOLD)).collect();
            let clicks = clicks.into_iter().map(|(item, at, _)| (item, at)).collect();
            Session { key: key as u64, user, clicks, confidences }
        };
        let sessions = sessions.map(session).collect();
        Ok(ClickLog { sessions, skipped: self.skipped })
    }
}

/// What stands between the columns of a table that begins with `header`: the one of tab, comma, semicolon and bar that
/// occurs most often.
pub fn delimiter_of(header: &str) -> u8 {
    let count = |delimiter: u8| header.bytes().filter(|&b| b == delimiter).count();
    // The first of equals: a table of one column may have any.
    [b'|', b';', b',', b'\t'].into_iter().max_by_key(|&d| count(d)).unwrap_or(b',')
}

impl ClickLog {
    /// Reads a table whose values are separated by `delimiter`. Lines without a session, an item or an instant that
    /// `instant` understands are skipped and counted.
    pub fn read(
        input: impl Read,
        delimiter: u8,
        columns: &Columns,
        items: &mut ItemNumbers,
        instant: impl Fn(&str) -> Option<Timestamp>,
    ) -> Result<Self, LogError> {
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(input);
        let header = reader.headers()?.clone();
        let column = |name: &str| {
            // A byte-order mark belongs to no name.
            header.iter().position(|h| h.trim_start_matches('\u{feff}').trim() == name).ok_or_else(|| {
                LogError::Column { missing: name.to_owned(), present: header.iter().collect::<Vec<_>>().join(", ") }
            })
        };
        let (session, item, time) = (column(&columns.session)?, column(&columns.item)?, column(&columns.time)?);
        let user = columns.user.as_deref().map(column).transpose()?;
        let value = columns.value.as_deref().map(column).transpose()?;
        let mut builder = LogBuilder::default();
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record)? {
            let cell = |at: usize| record.get(at).map(str::trim).filter(|text| !text.is_empty());
            match (cell(session), cell(item), cell(time).and_then(&instant)) {
                (Some(session), Some(item), Some(at)) => {
                    let value = value.and_then(cell).and_then(|text| text.parse::<f32>().ok());
                    let confidence = value.and_then(|value| confidence_of(EventKind::Rate, None, Some(value)));
                    builder.add(session, user.and_then(cell), items.number(item), at, confidence);
                }
                _ => builder.skip(),
            }
        }
        builder.finish()
    }

    /// How many clicks there are.
    pub fn clicks(&self) -> usize {
        self.sessions.iter().map(|s| s.clicks.len()).sum()
    }

    /// The moment before which `share` of the clicks lie; `None` for an empty log.
    pub fn moment(&self, share: f64) -> Option<Timestamp> {
        let mut times: Vec<Timestamp> = self.sessions.iter().flat_map(|s| &s.clicks).map(|&(_, at)| at).collect();
        if times.is_empty() {
            return None;
        }
        let place = ((times.len() as f64 * share.clamp(0.0, 1.0)) as usize).min(times.len() - 1);
        Some(*times.select_nth_unstable(place).1)
    }

    /// What was known at `moment`: the clicks before it. Sessions that had not begun are left out.
    #[must_use]
    pub fn before(&self, moment: Timestamp) -> Self {
        let cut = |session: &Session| {
            let clicks = session.clicks[..session.clicks.partition_point(|&(_, at)| at < moment)].to_vec();
            let confidences = session.confidences.iter().take(clicks.len()).copied().collect();
            (!clicks.is_empty()).then_some(Session { clicks, confidences, ..*session })
        };
        Self { sessions: self.sessions.iter().filter_map(cut).collect(), skipped: 0 }
    }

    /// When the first click was.
    pub fn begin(&self) -> Option<Timestamp> {
        self.sessions.first().and_then(|s| s.clicks.first()).map(|&(_, at)| at)
    }

    /// When the last click was.
    pub fn end(&self) -> Option<Timestamp> {
        self.sessions.iter().filter_map(|s| s.clicks.last()).map(|&(_, at)| at).max()
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

    fn seconds(text: &str) -> Option<Timestamp> {
        text.parse().ok().map(Timestamp::from_seconds)
    }

    #[test]
    fn tables_become_sessions_in_time_order() {
        let text = "Time\tItemId\tSessionId\tWho\n20.5\ta\ts2\t\n10\tb\ts1\tu\n12\ta\ts1\t\nx\ta\ts1\tu\n11\t\ts1\tu\n";
        let mut items = ItemNumbers::default();
        let columns = Columns { user: Some("Who".into()), ..Columns::default() };
        let log = ClickLog::read(text.as_bytes(), b'\t', &columns, &mut items, seconds).unwrap();
        assert_eq!(log.skipped, 2);
        assert_eq!(items.len(), 2);
        let (a, b) = (items.number("a"), items.number("b"));
        assert_eq!(log.sessions[0].clicks, [(b, Timestamp(10_000)), (a, Timestamp(12_000))]);
        assert_eq!(log.sessions[1].clicks, [(a, Timestamp(20_500))]);
        assert!(log.sessions[0].user.is_some() && log.sessions[1].user.is_none());
        assert_eq!((log.begin(), log.end()), (Some(Timestamp(10_000)), Some(Timestamp(20_500))));
        let (first, second) = log.split(0.5);
        assert_eq!((first.sessions.len(), second.sessions.len()), (1, 1));
    }

    #[test]
    fn ratings_say_how_sure_a_click_is() {
        let text = "Time,ItemId,SessionId,Stars\n2,b,s,0.5\n1,a,s,5\n3,c,s,\n4,a,t,\n";
        let columns = Columns { value: Some("Stars".into()), ..Columns::default() };
        let log = ClickLog::read(text.as_bytes(), b',', &columns, &mut ItemNumbers::default(), seconds).unwrap();
        let rated = &log.sessions[0];
        assert!(rated.confidence(0) > 3.0 * rated.confidence(1) && rated.confidence(2) == UNTOLD, "{rated:?}");
        let before = log.before(Timestamp(2_500));
        assert_eq!(before.sessions[0].confidences, rated.confidences[..2]);
        let plain = ClickLog::read(text.as_bytes(), b',', &Columns::default(), &mut ItemNumbers::default(), seconds);
        assert!(plain.unwrap().sessions.iter().all(|s| s.confidences.is_empty() && s.confidence(0) == UNTOLD));
        assert_eq!(confidence_of(EventKind::Impression, None, None), None);
    }

    #[test]
    fn a_moment_cuts_through_sessions() {
        let text = "Time,ItemId,SessionId\n1,a,s\n2,b,s\n3,c,s\n4,a,t\n";
        let mut items = ItemNumbers::default();
        let log = ClickLog::read(text.as_bytes(), b',', &Columns::default(), &mut items, seconds).unwrap();
        assert_eq!(log.moment(0.5), Some(Timestamp(3_000)));
        assert_eq!(log.moment(1.0), Some(Timestamp(4_000)));
        let before = log.before(Timestamp(3_000));
        assert_eq!((before.sessions.len(), before.clicks()), (1, 2));
        assert_eq!(before.sessions[0].key, log.sessions[0].key);
        assert_eq!(ClickLog::default().moment(0.5), None);
    }

    #[test]
    fn a_missing_column_is_named() {
        let columns = Columns { time: "When".into(), ..Columns::default() };
        let read = |text: &str, columns| {
            ClickLog::read(text.as_bytes(), b',', columns, &mut ItemNumbers::default(), seconds)
                .unwrap_err()
                .to_string()
        };
        assert!(read("SessionId,ItemId,Time\n", &columns).contains("no column `When`; it has the columns: SessionId"));
        assert!(read("SessionId,ItemId,Time\n1,2,x\n", &Columns::default()).contains("(1 lines without)"));
    }

    #[test]
    fn delimiters_are_found() {
        for (header, delimiter) in [("a\tb, c\td", b'\t'), ("a,b,c", b','), ("a;b;c", b';'), ("a|b", b'|')] {
            assert_eq!(delimiter_of(header), delimiter, "{header}");
        }
    }
}
