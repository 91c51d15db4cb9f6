//! What do viewers do next? Choices, and the lags after which they are made.
//!
//! Precomputed once for a catalogue: which items resemble each other, which follow each other and after what time, which
//! are hubs. Recomputed every few simulated hours: what is popular.

use crate::domain::EventKind;

use super::catalogue::{Catalogue, CatalogueItem, Kind};
use super::population::{PopulationOptions, Viewer};
use super::random::{Random, derive};
use super::theme::Theme;
use super::viewing::{ViewerState, Viewing};

/// Something that a viewer does, before it becomes an event.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    /// Seconds from the end of the simulated time; negative.
    pub(super) at_s: f64,
    pub(super) kind: EventKind,
    /// The item's place in the catalogue.
    pub(super) item: u32,
    pub(super) position_s: Option<f64>,
    pub(super) watched_s: Option<f64>,
    pub(super) value: Option<f32>,
}

/// The next choice, and the median of the time until it is made, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    pub(super) item: u32,
    pub(super) lag_s: f64,
    /// Deviation of the logarithm of the lag: small where the lag is characteristic.
    pub(super) lag_sigma: f64,
}

/// A transition from one item to another.
#[derive(Debug, Clone, Copy)]
struct Follow {
    item: u32,
    weight: f64,
    lag_s: f64,
}

/// The lags that transitions have, in seconds: half follow at once, half after some time.
const FOLLOW_LAGS_S: [f64; 4] = [5.0, 40.0, 8.0, 24.0];
const FOLLOW_WEIGHTS: [f64; 4] = [0.36, 0.30, 0.18, 0.16];
/// How many items resemble an item closely enough to zap to.
const SIMILAR: usize = 8;
/// How many hubs there are, at most one in twenty items.
const HUBS: usize = 6;
/// How long what is popular counts as unchanged, in seconds.
const POPULARITY_STEP_S: f64 = 4.0 * 3600.0;
const DAY_S: f64 = 86_400.0;

/// The habits of all viewers of one catalogue.
#[derive(Debug)]
pub(super) struct Habits<'a> {
    catalogue: &'a Catalogue,
    pub(super) options: PopulationOptions,
    similar: Vec<Vec<u32>>,
    follows: Vec<Vec<Follow>>,
    hubs: Vec<u32>,
    /// Phase and length in days of each theme's wave of fashion.
    waves: Vec<(f64, f64)>,
    popularity: Popularity,
}

/// What is popular during one step of time.
#[derive(Debug, Default)]
struct Popularity {
    step: i64,
    /// For each theme: its items with cumulative weights.
    by_theme: Vec<Vec<(f64, u32)>>,
    /// Each theme's fashion, times the weight of its items.
    theme_weights: Vec<f64>,
    fashion: Vec<f64>,
}

impl<'a> Habits<'a> {
    pub(super) fn new(seed: u64, catalogue: &'a Catalogue, options: PopulationOptions) -> Self {
        let mut random = Random::new(seed, 30);
        let waves = Theme::ALL.iter().map(|_| (random.unit(), random.between(4.0, 11.0))).collect();
        let items = catalogue.items();
        let hub_count = HUBS.min(items.len() / 20);
        let mut by_charm: Vec<u32> =
            (0..items.len() as u32).filter(|&i| items[i as usize].kind == Kind::Clip).collect();
        by_charm.sort_by_key(|&i| derive(seed, 0x4B_0000 + u64::from(i)));
        by_charm.truncate(hub_count);
        let mut habits = Self {
            catalogue,
            options,
            similar: Vec::new(),
            follows: Vec::new(),
            hubs: by_charm,
            waves,
            popularity: Popularity { step: i64::MIN, ..Popularity::default() },
        };
        habits.similar = similar_items(seed, items);
        habits.follows = (0..items.len()).map(|item| habits.follows_of(seed, item)).collect();
        habits
    }

    pub(super) fn is_empty(&self) -> bool {
        self.catalogue.is_empty()
    }

    pub(super) fn catalogue(&self) -> &'a Catalogue {
        self.catalogue
    }

    pub(super) fn item(&self, item: u32) -> &'a CatalogueItem {
        &self.catalogue.items()[item as usize]
    }

    /// All that `viewer` does in the session that begins at `start_s`, in the order of time.
    pub(super) fn session(
        &mut self,
        viewer: &Viewer,
        state: &mut ViewerState,
        start_s: f64,
        random: &mut Random,
    ) -> Vec<Visit> {
        self.refresh_popularity(start_s);
        let mut viewing = Viewing::new(self, viewer, state, start_s, random);
        viewing.run();
        viewing.into_visits()
    }

    /// What to turn to after `current`, for somebody who goes from one thing to the next.
    pub(super) fn next_choice(
        &self,
        viewer: &Viewer,
        current: u32,
        seen: &[u32],
        now_s: f64,
        random: &mut Random,
    ) -> Choice {
        let usual = |item, lag_s| Choice { item, lag_s, lag_sigma: 0.55 };
        if seen.len() > 2 && random.chance(self.options.repeat_probability) {
            let back = (1.0 + random.exponential()).min(seen.len() as f64 - 1.0) as usize;
            return usual(seen[seen.len() - 1 - back], 11.0);
        }
        let available = |item: u32| self.available(item, viewer, now_s) && item != current;
        if random.chance(self.options.chain_strength) {
            let follows = &self.follows[current as usize];
            let weights: Vec<f64> = follows.iter().map(|f| if available(f.item) { f.weight } else { 0.0 }).collect();
            if let Some(place) = random.weighted(&weights) {
                let follow = follows[place];
                return Choice { item: follow.item, lag_s: follow.lag_s, lag_sigma: 0.22 };
            }
        }
        let draw = random.unit();
        if draw < 0.55 {
            // Zapping: what looks alike, and not what was just seen.
            let similar = &self.similar[current as usize];
            for _ in 0..4 {
                let place = ((random.exponential() * 2.2) as usize).min(similar.len().saturating_sub(1));
                if let Some(&item) = similar.get(place)
                    && available(item)
                    && !seen.contains(&item)
                {
                    return usual(item, 6.0);
                }
            }
        } else if draw < 0.62 && !self.hubs.is_empty() {
            let hub = *random.pick(&self.hubs);
            if available(hub) {
                return Choice { item: hub, lag_s: 19.0, lag_sigma: 0.35 };
            }
        }
        usual(self.by_taste(viewer, now_s, random), 13.0)
    }

    /// An item by popularity and `viewer`'s taste.
    pub(super) fn by_taste(&self, viewer: &Viewer, now_s: f64, random: &mut Random) -> u32 {
        let popularity = &self.popularity;
        let mut item = 0;
        for _ in 0..12 {
            let theme = if random.chance(0.25) {
                random.weighted(&popularity.theme_weights)
            } else {
                let weights: Vec<f64> = popularity
                    .by_theme
                    .iter()
                    .zip(viewer.tastes.iter().zip(&popularity.fashion))
                    .map(|(items, (taste, fashion))| if items.is_empty() { 0.0 } else { taste * fashion })
                    .collect();
                random.weighted(&weights)
            };
            let Some(items) = theme.and_then(|theme| popularity.by_theme.get(theme)) else { continue };
            let Some(&(sum, _)) = items.last() else { continue };
            let target = random.unit() * sum;
            let place = items.partition_point(|&(upto, _)| upto <= target).min(items.len() - 1);
            item = items[place].1;
            if self.available(item, viewer, now_s) {
                break;
            }
        }
        item
    }

    /// The items shown beside `chosen`.
    pub(super) fn shown_with(&self, viewer: &Viewer, chosen: u32, now_s: f64, random: &mut Random) -> Vec<u32> {
        let mut shown = vec![chosen];
        for _ in 1..self.options.impressions_per_choice {
            let similar = &self.similar[chosen as usize];
            let item = if random.chance(0.4) && !similar.is_empty() {
                *random.pick(similar)
            } else {
                self.by_taste(viewer, now_s, random)
            };
            if !shown.contains(&item) {
                shown.push(item);
            }
        }
        let place = random.below(shown.len());
        shown.swap(0, place);
        shown
    }

    /// The episode after `item`, if it is one and the next is out.
    pub(super) fn next_episode(&self, item: u32, now_s: f64) -> Option<u32> {
        let Kind::Episode { series, number } = self.item(item).kind else { return None };
        let next = self.catalogue.items().get(item as usize + 1)?;
        let follows = next.kind == Kind::Episode { series, number: number + 1 };
        (follows && is_out(next, now_s)).then_some(item + 1)
    }

    /// How much `viewer` likes the item, 0 to 1.
    pub(super) fn affinity(&self, viewer: &Viewer, item: u32) -> f64 {
        let entry = self.item(item);
        let taste = viewer.tastes.get(entry.theme.index()).copied().unwrap_or(0.0) * Theme::ALL.len() as f64;
        let liking = taste.sqrt() * f64::from(entry.appeal).sqrt();
        liking / (1.0 + liking)
    }

    pub(super) fn available(&self, item: u32, viewer: &Viewer, now_s: f64) -> bool {
        let entry = self.item(item);
        is_out(entry, now_s)
            && (entry.item.regions.is_empty() || entry.item.regions.iter().any(|region| region == viewer.region))
    }

    fn follows_of(&self, seed: u64, item: usize) -> Vec<Follow> {
        let mut random = Random::new(derive(seed, 31), item as u64);
        let items = self.catalogue.items();
        let theme = items[item].theme;
        let family: Vec<usize> = (0..items.len())
            .filter(|&i| i != item && (items[i].theme == theme || items[i].theme == theme.neighbour()))
            .collect();
        let weights: Vec<f64> = family.iter().map(|&i| f64::from(items[i].appeal)).collect();
        let mut follows = Vec::with_capacity(FOLLOW_LAGS_S.len());
        for (&lag_s, weight) in FOLLOW_LAGS_S.iter().zip(FOLLOW_WEIGHTS) {
            // One in four leads somewhere quite different, which only the log can teach.
            let next = if random.chance(0.25) {
                Some(random.below(items.len()))
            } else {
                random.weighted(&weights).map(|place| family[place])
            };
            if let Some(next) = next.filter(|&next| next != item) {
                follows.push(Follow { item: next as u32, weight, lag_s: lag_s * random.between(0.85, 1.15) });
            }
        }
        follows
    }

    fn refresh_popularity(&mut self, now_s: f64) {
        let step = (now_s / POPULARITY_STEP_S).floor() as i64;
        if step == self.popularity.step {
            return;
        }
        let at_s = step as f64 * POPULARITY_STEP_S;
        let mut by_theme: Vec<Vec<(f64, u32)>> = vec![Vec::new(); Theme::ALL.len()];
        for (place, entry) in self.catalogue.items().iter().enumerate() {
            if !is_out(entry, now_s) {
                continue;
            }
            let age_days = f64::from(entry.released_days_ago) + at_s / DAY_S;
            let novelty = 0.5 + 2.5 * (-age_days.max(0.0) / 4.0).exp();
            let hub = if self.hubs.contains(&(place as u32)) { 3.0 } else { 1.0 };
            // A series is entered at its beginning, or at its newest episode.
            let entry_point = match entry.kind {
                Kind::Episode { number: 1, .. } => 1.5,
                Kind::Episode { .. } => 0.25,
                Kind::Film => 0.8,
                Kind::Clip => 1.0,
            };
            let weight = f64::from(entry.appeal).powf(1.3) * novelty * hub * entry_point;
            let items = &mut by_theme[entry.theme.index()];
            let sum = items.last().map_or(0.0, |&(sum, _)| sum);
            items.push((sum + weight, place as u32));
        }
        let fashion: Vec<f64> = self
            .waves
            .iter()
            .map(|(phase, days)| (0.7 * ((at_s / DAY_S / days + phase) * std::f64::consts::TAU).sin()).exp())
            .collect();
        let theme_weights =
            by_theme.iter().zip(&fashion).map(|(items, f)| f * items.last().map_or(0.0, |&(sum, _)| sum)).collect();
        self.popularity = Popularity { step, by_theme, theme_weights, fashion };
    }
}

fn is_out(entry: &CatalogueItem, now_s: f64) -> bool {
    let day = now_s / DAY_S;
    f64::from(entry.released_days_ago) + day >= 0.0 && entry.leaves_in_days.is_none_or(|days| f64::from(days) > day)
}

/// For each item, those most like it: same theme, same look, same kind, words in common.
fn similar_items(seed: u64, items: &[CatalogueItem]) -> Vec<Vec<u32>> {
    let mut by_theme: Vec<Vec<usize>> = vec![Vec::new(); Theme::ALL.len()];
    for (place, entry) in items.iter().enumerate() {
        by_theme[entry.theme.index()].push(place);
    }
    let likeness = |a: usize, b: usize| {
        let (x, y) = (&items[a], &items[b]);
        let tags = x.item.tags.iter().filter(|tag| y.item.tags.contains(tag)).count() as f64;
        let light = f64::from(x.artwork.light() == y.artwork.light());
        let kind = f64::from(x.kind.category() == y.kind.category());
        let chance = super::random::unit(derive(seed, 0x51_0000_0000 + ((a.min(b) as u64) << 20) + a.max(b) as u64));
        0.5 * tags + 1.2 * light + kind + 0.8 * chance
    };
    (0..items.len())
        .map(|item| {
            // In a large catalogue a sample of the theme is compared, or this would take time squared.
            let family = &by_theme[items[item].theme.index()];
            let stride = (family.len() / 256).max(1);
            let mut scored: Vec<(f64, u32)> = family
                .iter()
                .skip(item % stride)
                .step_by(stride)
                .filter(|&&other| other != item)
                .map(|&other| (likeness(item, other), other as u32))
                .collect();
            scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            scored.truncate(SIMILAR);
            scored.into_iter().map(|(_, other)| other).collect()
        })
        .collect()
}
