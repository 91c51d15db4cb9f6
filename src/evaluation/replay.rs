//! What was known at each moment of a log? Learns in time order and stops where a decision is to be judged.

use std::collections::HashSet;

use std::sync::atomic::AtomicBool;

use super::click_log::Session;
use crate::collab::{Collab, Engagement};
use crate::domain::{ItemNo, Timestamp, UserKey};

/// When a click is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learning {
    /// All clicks of a session once its last one is past: how systems are compared that learn whole sessions.
    AfterSession,
    /// Each click at once, as the running service does.
    AtOnce,
}

/// A moment at which the service might be asked.
#[derive(Debug, Clone, Copy)]
pub struct Stop<'a> {
    /// Which session, as an index into the log.
    pub session_index: usize,
    /// Its key.
    pub session: u64,
    /// Whose it is, if that is known.
    pub user: Option<UserKey>,
    /// What was engaged with so far, oldest first; the last one is the current item. Empty before the first click.
    pub history: &'a [(ItemNo, Timestamp)],
    /// What came afterwards, oldest first. The answer: not to be shown to a ranker.
    pub future: &'a [(ItemNo, Timestamp)],
    /// The moment; not before the last click of the history.
    pub now: Timestamp,
}

/// Moves a [`Collab`] through sessions.
#[derive(Debug, Clone, Copy)]
pub struct Replay {
    /// When clicks are learned.
    pub learning: Learning,
}

/// What happens at a time; in this order at the same click.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Arrival,
    Click,
    Stop,
    End,
}

impl Stop<'_> {
    /// After how many seconds the person turned to each item of the future; each item once. The current item is left
    /// out: it is on screen already.
    pub fn lags(&self) -> Vec<(ItemNo, f64)> {
        let current = self.history.last().map(|&(item, _)| item);
        let mut lags: Vec<(ItemNo, f64)> = Vec::new();
        let mut met = HashSet::new();
        for &(item, at) in self.future {
            if Some(item) != current && met.insert(item) {
                lags.push((item, at.seconds_since(self.now)));
            }
        }
        lags
    }
}

impl Replay {
    /// Learns `sessions` into `collab` in time order, without stopping.
    pub fn learn(self, collab: &Collab, sessions: &[Session]) {
        self.run(collab, sessions, |_, _| None, |_| {});
    }

    /// Learns `sessions` in time order and calls `visit` at every moment that `stops` asks for: it is called with a
    /// session and the position of a click and answers how many seconds after that click to stop (0: right after it).
    /// A stop that the session's next click would overtake is left out.
    pub fn run(
        self,
        collab: &Collab,
        sessions: &[Session],
        stops: impl FnMut(&Session, usize) -> Option<f64>,
        visit: impl FnMut(Stop<'_>),
    ) {
        self.run_with_arrivals(collab, sessions, |_| None, stops, visit);
    }

    /// The same, and stops also before sessions begin: `arrivals` answers how many seconds before the first click.
    pub fn run_with_arrivals(
        self,
        collab: &Collab,
        sessions: &[Session],
        mut arrivals: impl FnMut(&Session) -> Option<f64>,
        mut stops: impl FnMut(&Session, usize) -> Option<f64>,
        mut visit: impl FnMut(Stop<'_>),
    ) {
        // Sorted by session and position within a time, so that a session's next click, if it has the same time, is not
        // learned before the stop at this one.
        let mut agenda: Vec<(Timestamp, u32, u32, Happening)> = Vec::new();
        for (index, session) in sessions.iter().enumerate() {
            if let (Some(before_s), Some(&(_, first))) = (arrivals(session), session.clicks.first()) {
                agenda.push((first.plus_seconds(-before_s.max(0.001)), index as u32, 0, Happening::Arrival));
            }
            for (position, &(_, at)) in session.clicks.iter().enumerate() {
                agenda.push((at, index as u32, position as u32, Happening::Click));
                let Some(after_s) = stops(session, position) else { continue };
                let now = at.plus_seconds(after_s.max(0.0));
                let next = session.clicks.get(position + 1);
                if after_s <= 0.0 || next.is_none_or(|&(_, next)| now < next) {
                    agenda.push((now, index as u32, position as u32, Happening::Stop));
                }
            }
            if let Some(&(_, end)) = session.clicks.last() {
                agenda.push((end, index as u32, u32::MAX, Happening::End));
            }
        }
        agenda.sort_unstable();
        // What ends at a moment is not yet past at it: sessions wait until the time has moved on.
        let mut ended: Vec<(Timestamp, u32)> = Vec::new();
        for (now, index, position, what) in agenda {
            if ended.first().is_some_and(|&(end, _)| end < now) {
                for (_, index) in ended.drain(..) {
                    let session = &sessions[index as usize];
                    (0..session.clicks.len()).for_each(|position| observe(collab, session, position));
                }
            }
            let session = &sessions[index as usize];
            match (what, self.learning) {
                (Happening::Click, Learning::AtOnce) => observe(collab, session, position as usize),
                (Happening::End, Learning::AfterSession) => ended.push((now, index)),
                (Happening::Click, Learning::AfterSession) | (Happening::End, Learning::AtOnce) => {}
                (Happening::Stop | Happening::Arrival, _) => {
                    if collab.preference.is_due(now) {
                        let stop = AtomicBool::new(false);
                        collab.preference.train(now, &[], &|_| None, &stop, |_| {});
                    }
                    let known = if what == Happening::Arrival { 0 } else { position as usize + 1 };
                    let (history, future) = session.clicks.split_at(known);
                    let (session_index, user) = (index as usize, session.user_key());
                    visit(Stop { session_index, session: session.key, user, history, future, now });
                }
            }
        }
        for (_, index) in ended {
            let session = &sessions[index as usize];
            (0..session.clicks.len()).for_each(|position| observe(collab, session, position));
        }
    }
}

fn observe(collab: &Collab, session: &Session, position: usize) {
    let (item, at) = session.clicks[position];
    let history = &session.clicks[position.saturating_sub(16)..position];
    let (user, confidence) = (session.user_key(), session.confidence(position));
    collab.observe(Engagement { session: session.key, item, at, user, confidence, region: None, history });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collab::CollabLimits;

    fn session(key: u64, clicks: &[(u32, i64)]) -> Session {
        Session {
            key,
            user: None,
            clicks: clicks.iter().map(|&(item, s)| (ItemNo(item), Timestamp(s * 1000))).collect(),
            confidences: Vec::new(),
        }
    }

    #[test]
    fn nothing_is_learned_before_it_happened() {
        let sessions = [session(1, &[(1, 0), (2, 10), (3, 20)]), session(2, &[(1, 15), (2, 30)])];
        for learning in [Learning::AfterSession, Learning::AtOnce] {
            let collab = Collab::new(&CollabLimits::default());
            let mut seen = Vec::new();
            let stop = |_: &Session, _| Some(0.0);
            Replay { learning }.run(&collab, &sessions, stop, |stop| {
                seen.push((stop.now.0 / 1000, stop.session, collab.trending.events()));
            });
            let expected = match learning {
                Learning::AfterSession => [(0, 1, 0), (10, 1, 0), (15, 2, 0), (20, 1, 0), (30, 2, 3)],
                Learning::AtOnce => [(0, 1, 1), (10, 1, 2), (15, 2, 3), (20, 1, 4), (30, 2, 5)],
            };
            assert_eq!(seen, expected);
            assert_eq!(collab.trending.events(), 5);
        }
    }

    #[test]
    fn before_the_first_click_nothing_is_known_of_a_session() {
        let sessions = [session(1, &[(1, 0), (2, 10)]), session(2, &[(3, 30)])];
        let collab = Collab::new(&CollabLimits::default());
        let mut seen = Vec::new();
        Replay { learning: Learning::AtOnce }.run_with_arrivals(
            &collab,
            &sessions,
            |session| (session.key == 2).then_some(22.0),
            |_, _| None,
            |stop| seen.push((stop.now.0 / 1000, stop.history.len(), stop.lags(), collab.trending.events())),
        );
        assert_eq!(seen, [(8, 0, vec![(ItemNo(3), 22.0)], 1)], "the click at 10 s is yet to come");
    }

    #[test]
    fn a_person_has_one_taste_over_all_sessions() {
        let of = |user: Option<u64>, key: u64, items: [u32; 2]| Session {
            user,
            ..session(key, &[(items[0], 10 * key as i64), (items[1], 10 * key as i64 + 1)])
        };
        let tastes = |sessions: &[Session]| {
            let collab = Collab::new(&CollabLimits::default());
            Replay { learning: Learning::AfterSession }.learn(&collab, sessions);
            collab.preference.known()
        };
        assert_eq!(tastes(&[of(Some(7), 1, [1, 2]), of(Some(7), 2, [3, 4]), of(None, 3, [1, 2])]), (2, 6));
        assert_eq!(tastes(&[of(None, 1, [1, 2]), of(None, 2, [3, 4])]), (2, 4));
    }

    #[test]
    fn stops_that_the_next_click_overtakes_are_left_out() {
        let sessions = [session(1, &[(1, 0), (1, 10), (2, 60)])];
        let collab = Collab::new(&CollabLimits::default());
        let mut seen = Vec::new();
        Replay { learning: Learning::AtOnce }.run(
            &collab,
            &sessions,
            |_, _| Some(20.0),
            |stop| {
                seen.push((stop.now.0 / 1000, stop.lags()));
            },
        );
        assert_eq!(seen, [(30, vec![(ItemNo(2), 30.0)]), (80, vec![])]);
    }
}
