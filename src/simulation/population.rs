//! Who watches, and what do they leave behind? Viewers with tastes, and the stream of their events.
//!
//! The stream has the structure that a recommender by horizon should find:
//! - tastes over themes, regional and personal, and a tempo of one's own;
//! - popularity that is skewed and drifts: new releases, themes that come and go, a daily rhythm;
//! - the next episode a few seconds after the last one ended, so that the time left tells when;
//! - zapping between items that look alike, seconds apart;
//! - transitions from item to item with lags of their own: some follow within 5 seconds, others after 40;
//! - hubs to which people return, repeat views, abandonment, watch lists.

use std::collections::BinaryHeap;

use crate::domain::{Event, ItemId, Timestamp, UserId, UserKey};

use super::catalogue::{Catalogue, REGIONS};
use super::habits::{Habits, Visit};
use super::random::{Random, derive};
use super::theme::Theme;
use super::viewing::ViewerState;

/// How large a population is and how it behaves. Shares are drawn into 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct PopulationOptions {
    /// Number of viewers.
    pub users: u32,
    /// How many days of events there are before the end.
    pub days: f64,
    /// Mean number of sessions of a viewer in a day; viewers differ.
    pub sessions_per_user_per_day: f64,
    /// How even tastes are over the themes (the sum of the Dirichlet's weights over twelve): 0.05 makes fans of one
    /// theme, 5 makes people who like everything.
    pub taste_evenness: f64,
    /// Share of sessions that zap through clips and beginnings.
    pub zapping_share: f64,
    /// Share of sessions that come to go on with a series.
    pub series_share: f64,
    /// Probability that the next choice follows a transition of the item on screen.
    pub chain_strength: f64,
    /// Probability of going on to the next episode when one ends.
    pub next_episode_probability: f64,
    /// Probability that a choice returns to an item of the same session.
    pub repeat_probability: f64,
    /// How many items are shown for one choice while browsing; each is an impression.
    pub impressions_per_choice: u32,
    /// Seconds between two progress events while something plays.
    pub progress_every_s: f64,
}

impl Default for PopulationOptions {
    fn default() -> Self {
        Self {
            users: 400,
            days: 14.0,
            sessions_per_user_per_day: 0.8,
            taste_evenness: 0.3,
            zapping_share: 0.42,
            series_share: 0.24,
            chain_strength: 0.3,
            next_episode_probability: 0.75,
            repeat_probability: 0.06,
            impressions_per_choice: 4,
            progress_every_s: 120.0,
        }
    }
}

/// A simulated person.
#[derive(Debug, Clone, PartialEq)]
pub struct Viewer {
    /// The id a client would send: `viewer-1`, `viewer-2`, …
    pub id: UserId,
    /// The pseudonym in the events.
    pub key: UserKey,
    /// Where they live.
    pub region: &'static str,
    /// Their taste: a share for each of [`Theme::ALL`], summing to one.
    pub tastes: Vec<f64>,
    /// Sessions a day.
    pub(super) sessions_per_day: f64,
    /// All their lags are multiplied by it.
    pub(super) tempo: f64,
    /// The hour of the day at which they watch most.
    pub(super) favourite_hour: f64,
}

/// A seeded population for one catalogue.
#[derive(Debug, Clone)]
pub struct Population<'a> {
    seed: u64,
    options: PopulationOptions,
    viewers: Vec<Viewer>,
    catalogue: &'a Catalogue,
}

impl<'a> Population<'a> {
    /// The viewers of `catalogue`. The same seed, catalogue and options give the same viewers and events.
    pub fn generate(seed: u64, catalogue: &'a Catalogue, options: PopulationOptions) -> Self {
        let options = options.in_range();
        let mut random = Random::new(seed, 10);
        // What a region likes, and of that, what a viewer likes.
        let regional: Vec<Vec<f64>> = REGIONS.iter().map(|_| random.dirichlet(&[2.0; Theme::ALL.len()])).collect();
        let viewers = (0..options.users).filter_map(|number| viewer(seed, number, &options, &regional)).collect();
        Self { seed, options, viewers, catalogue }
    }

    /// Gives every viewer the pseudonym that `key` makes of their id: a service's own, so that it knows them again.
    #[must_use]
    pub fn with_user_keys(mut self, key: impl Fn(&UserId) -> UserKey) -> Self {
        for viewer in &mut self.viewers {
            viewer.key = key(&viewer.id);
        }
        self
    }

    /// The people.
    pub fn viewers(&self) -> &[Viewer] {
        &self.viewers
    }

    /// The options in use, drawn into range.
    pub fn options(&self) -> &PopulationOptions {
        &self.options
    }

    /// Their events before `ends_at`, in the order of time. Ids do not depend on `ends_at`, so sending a population twice
    /// counts once. Memory is bounded by viewers, sessions and the events of the sessions open at one time.
    pub fn events(&self, ends_at: Timestamp) -> Events<'a> {
        Events::new(self, ends_at)
    }
}

/// The stream that [`Population::events`] gives.
#[derive(Debug)]
pub struct Events<'a> {
    habits: Habits<'a>,
    viewers: Vec<Viewer>,
    states: Vec<ViewerState>,
    seed: u64,
    ends_at: Timestamp,
    /// Beginnings of sessions in seconds before the end (negative), latest first, with the viewer's place.
    starts: Vec<(f64, u32)>,
    sessions_begun: u32,
    /// Events of begun sessions, earliest first.
    pending: BinaryHeap<Pending>,
}

impl<'a> Events<'a> {
    fn new(population: &Population<'a>, ends_at: Timestamp) -> Self {
        let options = &population.options;
        let mut starts = Vec::new();
        for (place, viewer) in population.viewers.iter().enumerate() {
            let mut random = Random::new(derive(population.seed, 20), place as u64);
            let mut at_day = -options.days;
            loop {
                at_day += random.exponential() / (viewer.sessions_per_day * MEAN_RHYTHM).max(1e-6);
                if at_day >= 0.0 {
                    break;
                }
                // The instants are thinned to the viewer's rhythm; `ends_at` decides which hour of the day it is.
                let hour = ends_at.plus_seconds(at_day * DAY_S).as_seconds().rem_euclid(DAY_S) / 3600.0;
                if random.chance(rhythm(hour - viewer.favourite_hour)) {
                    starts.push((at_day * DAY_S, place as u32));
                }
            }
        }
        starts.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
        Self {
            habits: Habits::new(population.seed, population.catalogue, options.clone()),
            states: population.viewers.iter().map(|_| ViewerState::default()).collect(),
            viewers: population.viewers.clone(),
            seed: population.seed,
            ends_at,
            starts,
            sessions_begun: 0,
            pending: BinaryHeap::new(),
        }
    }

    fn begin_session(&mut self, start_s: f64, place: u32) {
        let session = self.sessions_begun;
        self.sessions_begun += 1;
        let (Some(viewer), Some(state)) = (self.viewers.get(place as usize), self.states.get_mut(place as usize))
        else {
            return;
        };
        // Nobody watches on two screens at once.
        if self.habits.is_empty() || start_s < state.busy_until_s {
            return;
        }
        let mut random = Random::new(derive(self.seed, 21), u64::from(session));
        let visits = self.habits.session(viewer, state, start_s, &mut random);
        for (number, visit) in visits.into_iter().enumerate() {
            if visit.at_s < 0.0 {
                self.pending.push(Pending { session, number: number as u32, viewer: place, visit });
            }
        }
    }

    fn event(&self, pending: &Pending) -> Option<Event> {
        let viewer = self.viewers.get(pending.viewer as usize)?;
        let visit = &pending.visit;
        let entry = self.habits.catalogue().items().get(visit.item as usize)?;
        let session = format!("sim-{:x}-{}", self.seed, pending.session);
        Some(Event {
            id: crate::domain::EventId::new(format!("{session}-{}", pending.number)).ok()?,
            kind: visit.kind,
            session: crate::domain::SessionId::new(session).ok()?,
            user: Some(viewer.key),
            item: ItemId::clone(&entry.item.id),
            occurred_at: self.ends_at.plus_seconds(visit.at_s),
            position_s: visit.position_s.map(|s| s as f32),
            watched_s: visit.watched_s.map(|s| s as f32),
            recommendation_id: None,
            value: visit.value,
            region: Some(viewer.region.to_owned()),
        })
    }
}

impl Iterator for Events<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            // Every session that could hold an earlier event has to have begun.
            while let Some(&(start_s, viewer)) = self.starts.last()
                && self.pending.peek().is_none_or(|first| first.visit.at_s >= start_s)
            {
                self.starts.pop();
                self.begin_session(start_s, viewer);
            }
            let pending = self.pending.pop()?;
            if let Some(event) = self.event(&pending) {
                return Some(event);
            }
        }
    }
}

/// An event that waits for its turn.
#[derive(Debug)]
struct Pending {
    session: u32,
    number: u32,
    viewer: u32,
    visit: Visit,
}

impl Ord for Pending {
    /// The greatest is the earliest, as the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |p: &Self| (p.session, p.number);
        other.visit.at_s.total_cmp(&self.visit.at_s).then_with(|| key(other).cmp(&key(self)))
    }
}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pending {}

impl PopulationOptions {
    fn in_range(mut self) -> Self {
        let bounded =
            |value: f64, least: f64, most: f64| if value.is_finite() { value.clamp(least, most) } else { least };
        self.users = self.users.min(5_000_000);
        self.days = bounded(self.days, 0.0, 3_650.0);
        self.sessions_per_user_per_day = bounded(self.sessions_per_user_per_day, 0.0, 50.0);
        self.taste_evenness = bounded(self.taste_evenness, 0.01, 100.0);
        self.progress_every_s = bounded(self.progress_every_s, 1.0, 86_400.0);
        self.impressions_per_choice = self.impressions_per_choice.min(100);
        for share in [
            &mut self.zapping_share,
            &mut self.series_share,
            &mut self.chain_strength,
            &mut self.next_episode_probability,
            &mut self.repeat_probability,
        ] {
            *share = bounded(*share, 0.0, 1.0);
        }
        self
    }
}

const DAY_S: f64 = 86_400.0;
/// One over the mean of [`rhythm`] over a day.
const MEAN_RHYTHM: f64 = 2.0;

/// How likely a viewer watches, `hours` away from their favourite hour.
fn rhythm(hours: f64) -> f64 {
    0.5 + 0.46 * (hours / 24.0 * std::f64::consts::TAU).cos()
}

fn viewer(seed: u64, number: u32, options: &PopulationOptions, regional: &[Vec<f64>]) -> Option<Viewer> {
    let mut random = Random::new(derive(seed, 11), u64::from(number));
    let place = random.weighted(&[0.30, 0.16, 0.26, 0.10, 0.10, 0.08])?;
    let weight = options.taste_evenness * Theme::ALL.len() as f64;
    let weights: Vec<f64> = regional.get(place)?.iter().map(|share| share * weight).collect();
    let mut key = [0; 16];
    key[..8].copy_from_slice(&derive(seed, 0x1_0000_0000 + u64::from(number)).to_le_bytes());
    key[8..].copy_from_slice(&derive(seed, 0x2_0000_0000 + u64::from(number)).to_le_bytes());
    Some(Viewer {
        id: UserId::new(format!("viewer-{}", number + 1)).ok()?,
        key: UserKey(key),
        region: REGIONS.get(place)?,
        tastes: random.dirichlet(&weights),
        // The mean of a lognormal is exp(σ²/2) times its median.
        sessions_per_day: options.sessions_per_user_per_day * random.lognormal((-0.5_f64 * 0.49).exp(), 0.7),
        tempo: random.lognormal(1.0, 0.18),
        favourite_hour: 20.0 + 3.0 * random.normal(),
    })
}
