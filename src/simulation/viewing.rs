//! How does a session go? One viewer, from opening the app to leaving it.

use std::collections::BTreeMap;

use crate::domain::EventKind;

use super::catalogue::Kind;
use super::habits::{Choice, Habits, Visit};
use super::population::Viewer;
use super::random::Random;

/// What a viewer remembers from session to session.
#[derive(Debug, Clone)]
pub(super) struct ViewerState {
    /// When their last session ended, in seconds from the end of the simulated time.
    pub(super) busy_until_s: f64,
    /// Series they follow: where they stopped.
    following: BTreeMap<u32, Bookmark>,
    /// Items saved for later, the newest last.
    saved: Vec<u32>,
}

impl Default for ViewerState {
    /// Somebody who was never here.
    fn default() -> Self {
        Self { busy_until_s: f64::NEG_INFINITY, following: BTreeMap::new(), saved: Vec::new() }
    }
}

#[derive(Debug, Clone, Copy)]
struct Bookmark {
    item: u32,
    position_s: f64,
}

/// The most items on a viewer's list and series they follow.
const MAX_SAVED: usize = 20;
const MAX_FOLLOWED: usize = 12;
/// No session has more choices than this.
const MAX_CHOICES: usize = 120;

/// A session in progress.
pub(super) struct Viewing<'h, 'a> {
    habits: &'h Habits<'a>,
    viewer: &'h Viewer,
    state: &'h mut ViewerState,
    random: &'h mut Random,
    now_s: f64,
    visits: Vec<Visit>,
    /// Items turned to, in order.
    seen: Vec<u32>,
}

impl<'h, 'a> Viewing<'h, 'a> {
    pub(super) fn new(
        habits: &'h Habits<'a>,
        viewer: &'h Viewer,
        state: &'h mut ViewerState,
        start_s: f64,
        random: &'h mut Random,
    ) -> Self {
        Self { habits, viewer, state, random, now_s: start_s, visits: Vec::new(), seen: Vec::new() }
    }

    /// Plays the session to its end.
    pub(super) fn run(&mut self) {
        let (zapping, series) = (self.habits.options.zapping_share, self.habits.options.series_share);
        let draw = self.random.unit();
        if draw < zapping {
            self.zap();
        } else if draw < zapping + series {
            self.go_on_with_series();
        } else {
            self.browse();
        }
        self.state.busy_until_s = self.now_s + 60.0;
    }

    /// What happened, in the order of time.
    pub(super) fn into_visits(self) -> Vec<Visit> {
        let mut visits = self.visits;
        visits.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        visits
    }

    /// One thing after another, seconds apart.
    fn zap(&mut self) {
        let mut item = self.habits.by_taste(self.viewer, self.now_s, self.random);
        let length = 3 + (self.random.exponential() * 12.0) as usize;
        for _ in 0..length.min(MAX_CHOICES) {
            let next = self.habits.next_choice(self.viewer, item, &self.seen, self.now_s, self.random);
            self.look_at(item, next, false);
            item = next.item;
        }
        // Some stay with what they found.
        if self.random.chance(0.25) {
            self.watch(item, 0.0);
        }
    }

    /// Looks through rows of covers, opens some, plays one, and again.
    fn browse(&mut self) {
        let mut item = match self.state.saved.last().copied() {
            Some(saved) if self.random.chance(0.3) && self.habits.available(saved, self.viewer, self.now_s) => {
                self.state.saved.pop();
                saved
            }
            _ => self.habits.by_taste(self.viewer, self.now_s, self.random),
        };
        let length = 1 + (self.random.exponential() * 6.0) as usize;
        for _ in 0..length.min(MAX_CHOICES) {
            self.show_row(item);
            let liking = self.habits.affinity(self.viewer, item);
            if self.random.chance(0.12 + 0.35 * liking) {
                self.engage(EventKind::Click, item);
                self.wait(7.0, 0.4);
                let finished = self.watch(item, 0.0);
                if finished && self.follow_on(item) {
                    return;
                }
                item = self.habits.next_choice(self.viewer, item, &self.seen, self.now_s, self.random).item;
                self.wait(9.0, 0.6);
            } else {
                let next = self.habits.next_choice(self.viewer, item, &self.seen, self.now_s, self.random);
                self.look_at(item, next, true);
                item = next.item;
            }
        }
    }

    /// Goes on where they stopped, episode after episode.
    fn go_on_with_series(&mut self) {
        let followed: Vec<Bookmark> = self.state.following.values().copied().collect();
        if followed.is_empty() {
            let first = self.first_episode();
            self.show_row(first);
            if self.watch(first, 0.0) {
                self.follow_on(first);
            }
            return;
        }
        // Most recently stored first would need times; a uniform choice keeps several series alive.
        let bookmark = followed[self.random.below(followed.len())];
        self.show_row(bookmark.item);
        if self.watch(bookmark.item, bookmark.position_s) {
            self.follow_on(bookmark.item);
        }
        if self.random.chance(0.3) {
            self.zap();
        }
    }

    /// After an item has ended: the next episodes, or leaving. True if the session ends here.
    fn follow_on(&mut self, item: u32) -> bool {
        let mut item = item;
        while let Some(next) = self.habits.next_episode(item, self.now_s) {
            if !self.random.chance(self.habits.options.next_episode_probability) || self.seen.len() > MAX_CHOICES {
                return self.random.chance(0.6);
            }
            self.wait(5.0, 0.35);
            if !self.watch(next, 0.0) {
                return self.random.chance(0.6);
            }
            item = next;
        }
        false
    }

    /// Turns to `item` for as long as it takes to turn to `next`; `browsing` opens its page instead of playing it.
    fn look_at(&mut self, item: u32, next: Choice, browsing: bool) {
        let entry = self.habits.item(item);
        let kind = if browsing { EventKind::Click } else { EventKind::Play };
        let begun_s = self.now_s;
        self.engage(kind, item);
        let liking = self.habits.affinity(self.viewer, item);
        let lag_s = self.viewer.tempo * self.random.lognormal(next.lag_s * (0.8 + 0.4 * liking), next.lag_sigma);
        let lag_s = lag_s.clamp(1.0, 600.0);
        let watched_s = lag_s.min(entry.duration_s());
        if self.random.chance(0.10 * liking) {
            self.put(begun_s + watched_s * 0.7, EventKind::Like, item);
        }
        if self.random.chance(0.015 * liking) {
            self.put(begun_s + watched_s * 0.85, EventKind::Share, item);
        }
        if self.random.chance(if browsing { 0.06 } else { 0.02 }) {
            self.put(begun_s + watched_s * 0.9, EventKind::Save, item);
            if self.state.saved.len() < MAX_SAVED {
                self.state.saved.push(item);
            }
        }
        if !browsing {
            let ended = lag_s >= entry.duration_s();
            if ended || (lag_s < 8.0 && self.random.chance(0.5)) {
                let kind = if ended { EventKind::Finish } else { EventKind::Skip };
                self.put(begun_s + watched_s, kind, item);
                if let Some(visit) = self.visits.last_mut() {
                    (visit.position_s, visit.watched_s) = (Some(watched_s), Some(watched_s));
                }
            }
            if lag_s < 5.0 && self.random.chance(0.03) {
                self.put(begun_s + watched_s, EventKind::Dislike, item);
            }
        }
        self.now_s = begun_s + lag_s;
    }

    /// Plays `item` from `from_s` on, to its end or until the viewer has enough. True if it was seen to the end.
    fn watch(&mut self, item: u32, from_s: f64) -> bool {
        let duration_s = self.habits.item(item).duration_s();
        let from_s = if from_s < duration_s { from_s } else { 0.0 };
        let liking = self.habits.affinity(self.viewer, item);
        self.engage(EventKind::Play, item);
        if let Some(visit) = self.visits.last_mut() {
            visit.position_s = Some(from_s);
        }
        let left_s = duration_s - from_s;
        let stays_s = if self.random.chance(0.40 * (1.1 - liking)) {
            // Not what they had hoped for.
            self.random.lognormal(35.0, 0.9)
        } else if self.random.chance(0.22) {
            left_s * self.random.unit()
        } else {
            left_s
        };
        let stays_s = stays_s.min(left_s);
        let ended = stays_s >= left_s;
        let (begun_s, every_s) = (self.now_s, self.habits.options.progress_every_s);
        let progress = |viewing: &mut Self, at_s: f64| {
            viewing.put(begun_s + at_s, EventKind::Progress, item);
            if let Some(visit) = viewing.visits.last_mut() {
                (visit.position_s, visit.watched_s) = (Some(from_s + at_s), Some(at_s));
            }
        };
        let mut at_s = every_s;
        while at_s < stays_s - 1.0 {
            progress(self, at_s);
            at_s += every_s;
        }
        // Clients report the credits.
        if ended && stays_s > 40.0 {
            progress(self, stays_s - 20.0);
        }
        if self.random.chance(0.16 * liking) {
            let share = self.random.between(0.3, 0.95);
            self.put(begun_s + stays_s * share, EventKind::Like, item);
        }
        self.now_s += stays_s;
        if ended {
            self.put(self.now_s, EventKind::Finish, item);
            if let Some(visit) = self.visits.last_mut() {
                (visit.position_s, visit.watched_s) = (Some(duration_s), Some(stays_s));
            }
            if self.random.chance(0.08) {
                let stars = (1.5 + 4.0 * liking + 0.6 * self.random.normal()).round().clamp(1.0, 5.0);
                let at_s = self.now_s + self.random.between(2.0, 8.0);
                self.put(at_s, EventKind::Rate, item);
                if let Some(visit) = self.visits.last_mut() {
                    visit.value = Some(stars as f32);
                }
                self.now_s = at_s;
            }
        } else if stays_s < 60.0 && self.random.chance(0.5) {
            self.put(self.now_s, EventKind::Skip, item);
            if let Some(visit) = self.visits.last_mut() {
                (visit.position_s, visit.watched_s) = (Some(from_s + stays_s), Some(stays_s));
            }
        }
        self.remember(item, from_s + stays_s, ended);
        ended
    }

    fn remember(&mut self, item: u32, position_s: f64, ended: bool) {
        let Kind::Episode { series, .. } = self.habits.item(item).kind else { return };
        let bookmark = if ended {
            self.habits.next_episode(item, self.now_s).map(|next| Bookmark { item: next, position_s: 0.0 })
        } else {
            Some(Bookmark { item, position_s })
        };
        match bookmark {
            Some(bookmark) if self.state.following.len() < MAX_FOLLOWED => {
                self.state.following.insert(series, bookmark);
            }
            _ => {
                self.state.following.remove(&series);
            }
        }
    }

    fn first_episode(&mut self) -> u32 {
        let mut item = 0;
        for _ in 0..20 {
            item = self.habits.by_taste(self.viewer, self.now_s, self.random);
            if matches!(self.habits.item(item).kind, Kind::Episode { .. }) {
                break;
            }
        }
        item
    }

    /// A row of covers with `chosen` among them, looked at for some seconds.
    fn show_row(&mut self, chosen: u32) {
        if self.habits.options.impressions_per_choice == 0 {
            return;
        }
        for item in self.habits.shown_with(self.viewer, chosen, self.now_s, self.random) {
            self.put(self.now_s, EventKind::Impression, item);
        }
        self.wait(3.5, 0.5);
    }

    fn engage(&mut self, kind: EventKind, item: u32) {
        let at_s = self.now_s;
        self.put(at_s, kind, item);
        self.seen.push(item);
    }

    fn put(&mut self, at_s: f64, kind: EventKind, item: u32) {
        self.visits.push(Visit { at_s, kind, item, position_s: None, watched_s: None, value: None });
    }

    fn wait(&mut self, median_s: f64, sigma: f64) {
        self.now_s += self.viewer.tempo * self.random.lognormal(median_s, sigma);
    }
}
