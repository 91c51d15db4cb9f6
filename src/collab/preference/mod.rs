//! What does this person like? Matrix factorisation of who turned to what, with guesses for items that are new.
//!
//! [`Preference::observe`] remembers what each taste turned to. Now and then, when enough is new, [`Preference::train`]
//! learns a factor for every item in the background and swaps the model; nobody waits for it. A request folds its history
//! into a taste ([`Preference::fold_in`]), asks for [candidates](Preference::candidates), and scores single items.
//! An item that nobody has turned to gets a factor from its pictures and words ([`Preference::describe_item`]).
//!
//! No factors are kept of persons: a taste is made from a history for one answer. Item factors are sums over many; what
//! a forgotten person contributed to them goes with the next training, for which a forgotten person is a reason.

mod als;
mod cells;
mod cold_start;
mod confidence;
mod histories;
mod linear;
mod model;
mod saved;
mod training;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use parking_lot::{Mutex, RwLock};

pub use als::{AlsOptions, Interactions, Penalty, Trained, train};
pub use cold_start::{ColdMap, Example, ItemFeatures};
pub use confidence::Signal;
pub use histories::{Liked, Taste};
pub use linear::eigen;
pub use training::TrainingReport;

use self::histories::{Histories, HistoryLimits};
use self::model::{Model, Origin, TasteScratch};
use self::training::Schedule;
use super::MAX_ITEMS;
use crate::domain::{ItemNo, Scored, Timestamp, UserKey, dot};

/// By how much the latest item of a history counts more than one from long ago, and what each step back leaves of that:
/// people turn to what they are in the mood for. (On films rated one after another, this raised the NDCG@10 of the next ten
/// by 17 %; on clicks in a shop the hit rate of the next minute by 1 %.)
const LATEST_COUNTS_MORE: f32 = 10.0;
const FRESHNESS_DECAY: f32 = 0.9;

/// Bounds and constants of the preference model.
#[derive(Debug, Clone, PartialEq)]
pub struct PreferenceOptions {
    /// Whether histories are kept and models trained.
    pub enabled: bool,
    /// Tastes whose history is kept.
    pub tastes: usize,
    /// Latest items kept of each; all of them make its taste in a request.
    pub items_per_taste: usize,
    /// Items kept of all tastes together.
    pub engagements: usize,
    /// The factorisation.
    pub als: AlsOptions,
    /// Threads that train.
    pub threads: usize,
    /// Nothing is trained with fewer engagements.
    pub min_engagements: usize,
    /// The share of engagements that must be new for the next training.
    pub new_share: f64,
    /// Seconds between trainings at least.
    pub every_s: f64,
    /// Items with fewer engagements teach nothing about descriptions.
    pub trusted_engagements: u32,
}

impl Default for PreferenceOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            tastes: 200_000,
            items_per_taste: 2_000,
            engagements: 10_000_000,
            als: AlsOptions::default(),
            threads: 1,
            min_engagements: 1_000,
            new_share: 0.1,
            every_s: 300.0,
            trusted_engagements: 3,
        }
    }
}

/// The taste of one request and working memory; keep one a thread and use it again.
#[derive(Debug, Default)]
pub struct PreferenceScratch {
    model: Option<Arc<Model>>,
    taste: TasteScratch,
    /// What the taste is made of, and the same as a set.
    liked: Vec<(ItemNo, f32)>,
    known: Known,
}

/// A set of items, a bit each, that is emptied one by one.
#[derive(Debug, Default)]
struct Known(Vec<u64>);

impl Known {
    /// Whether the item is new to the set, to which it belongs from now on.
    fn insert(&mut self, ItemNo(item): ItemNo) -> bool {
        let word = item as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let bit = 1 << (item % 64);
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    fn remove(&mut self, ItemNo(item): ItemNo) {
        if let Some(word) = self.0.get_mut(item as usize / 64) {
            *word &= !(1 << (item % 64));
        }
    }

    fn has(&self, ItemNo(item): ItemNo) -> bool {
        self.0.get(item as usize / 64).is_some_and(|word| word >> (item % 64) & 1 == 1)
    }
}

impl PreferenceScratch {
    /// How much the taste likes an item: near 1 for what it would turn to, near 0 for what it would not; `None` if either is
    /// unknown. Items that everybody likes score higher, as they should where the question is what people turn to.
    pub fn score(&self, item: ItemNo) -> Option<f32> {
        self.model.as_ref()?.with_factor(item, |factor| dot(factor, &self.taste.taste))
    }

    /// [`score`](Self::score) for each of `items`, in their order, into `scores`; no number where it is unknown. Much faster
    /// than one after the other.
    pub fn scores(&mut self, items: &[ItemNo], scores: &mut Vec<f32>) {
        match &self.model {
            Some(model) => model.scores(items, &mut self.taste, scores),
            None => {
                scores.clear();
                scores.resize(items.len(), f32::NAN);
            }
        }
    }

    /// The cosine of the taste and an item, in which popularity has no part.
    pub fn likeness(&self, item: ItemNo) -> Option<f32> {
        let taste = &self.taste.taste;
        self.model.as_ref()?.with_factor(item, |factor| {
            let lengths = (dot(factor, factor) * dot(taste, taste)).sqrt();
            if lengths > 1e-20 { (dot(factor, taste) / lengths).clamp(-1.0, 1.0) } else { 0.0 }
        })
    }

    /// The taste's factor; empty if there is none.
    pub fn taste(&self) -> &[f32] {
        if self.model.is_some() { &self.taste.taste } else { &[] }
    }

    /// Forgets the last request, so that its taste cannot be taken for that of one that has none.
    pub fn clear(&mut self) {
        self.model = None;
        self.liked.drain(..).for_each(|(item, _)| self.known.remove(item));
    }
}

/// Everything about tastes.
#[derive(Debug)]
pub struct Preference {
    options: PreferenceOptions,
    /// Written by every event, for about a microsecond; training copies what it needs.
    histories: RwLock<Histories>,
    model: ArcSwapOption<Model>,
    /// Engagements since the last training began.
    new: AtomicU64,
    schedule: Mutex<Schedule>,
}

impl Preference {
    /// Nothing known yet.
    pub fn new(options: &PreferenceOptions) -> Self {
        Self {
            histories: RwLock::new(Histories::new(HistoryLimits::of(options))),
            model: ArcSwapOption::empty(),
            new: AtomicU64::new(0),
            schedule: Mutex::default(),
            options: options.clone(),
        }
    }

    /// Takes in what an event of a session, and of a person if that is known, says of an item.
    pub fn observe(&self, session: u64, user: Option<UserKey>, item: ItemNo, signal: Signal, at: Timestamp) {
        if !self.options.enabled || item.index() >= MAX_ITEMS {
            return;
        }
        let mut histories = self.histories.write();
        if let Some(user) = user {
            histories.claim(session, user);
        }
        let taste = user.map_or(Taste::Session(session), Taste::User);
        if histories.observe(taste, item, signal, at) {
            self.new.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Guesses what people will make of an item that is new or has changed. `features` is asked only if that is of use.
    pub fn describe_item(&self, item: ItemNo, features: impl FnOnce() -> ItemFeatures) {
        if !self.options.enabled || item.index() >= MAX_ITEMS {
            return;
        }
        self.schedule.lock().changed(item);
        if let Some(model) = self.model.load_full().filter(|model| model.map.is_some()) {
            model.describe(item, &features());
        }
    }

    /// From here on pictures say nothing of new items, until the next training, for which this is a reason: others look at
    /// them now, and the model knows nothing of what they see.
    pub fn forget_pictures(&self) {
        self.schedule.lock().forgot = true;
        if let Some(model) = self.model.load_full() {
            model.forget_pictures();
        }
    }

    /// Forgets an item altogether.
    pub fn forget_item(&self, item: ItemNo) {
        self.histories.write().forget_item(item);
        self.schedule.lock().changed(item);
        if let Some(model) = self.model.load_full() {
            model.forget(item);
        }
    }

    /// Forgets what a person turned to, and asks for a training without it.
    pub fn forget_user(&self, user: UserKey) {
        if self.histories.write().forget(Taste::User(user)) {
            self.schedule.lock().forgot = true;
        }
    }

    /// Forgets what a session turned to that is nobody's.
    pub fn forget_session(&self, session: u64) {
        if self.histories.write().forget(Taste::Session(session)) {
            self.schedule.lock().forgot = true;
        }
    }

    /// Makes the taste of a request: of the person's history (or the session's, if nobody knows whose it is) and of the
    /// items that the request knows of besides, oldest first. `false` if that is none. `scratch` then answers for items.
    pub fn fold_in(
        &self,
        session: Option<u64>,
        user: Option<UserKey>,
        besides: &[(ItemNo, f32)],
        scratch: &mut PreferenceScratch,
    ) -> bool {
        scratch.clear();
        let Some(model) = self.model.load_full() else { return false };
        let taste = user.map(Taste::User).or(session.map(Taste::Session));
        if let Some(taste) = taste {
            let histories = self.histories.read();
            scratch.liked.extend(histories.of(taste).iter().map(|own| (own.item, own.confidence)));
            for &(item, _) in &scratch.liked {
                scratch.known.insert(item);
            }
        }
        for &(item, confidence) in besides {
            if item.index() < MAX_ITEMS && scratch.known.insert(item) {
                scratch.liked.push((item, confidence));
            }
        }
        let mut fresh = LATEST_COUNTS_MORE;
        for (_, confidence) in scratch.liked.iter_mut().rev() {
            *confidence *= 1.0 + fresh;
            fresh *= FRESHNESS_DECAY;
        }
        if !model.fold_in(&scratch.liked, &mut scratch.taste) {
            return false;
        }
        scratch.model = Some(model);
        true
    }

    /// The best permitted items for the taste in `scratch`, without those that made it, best first into `best`.
    pub fn candidates(
        &self,
        limit: usize,
        permitted: impl Fn(ItemNo) -> bool,
        scratch: &mut PreferenceScratch,
        best: &mut Vec<Scored>,
    ) {
        best.clear();
        let PreferenceScratch { model, taste, known, .. } = scratch;
        if let Some(model) = model {
            model.candidates(limit, |item| !known.has(item) && permitted(item), taste, best);
        }
    }

    /// Whether there is a model.
    pub fn is_trained(&self) -> bool {
        self.model.load().is_some()
    }

    /// Whether an item's factor is a guess from its description; `None` if it has no factor.
    pub fn is_guessed(&self, item: ItemNo) -> Option<bool> {
        Some(self.model.load().as_ref()?.origin(item)? == Origin::Guessed)
    }

    /// How many items have come since the model was learned and have a guessed factor.
    pub fn added(&self) -> usize {
        self.model.load().as_ref().map_or(0, |model| model.added())
    }

    /// How many tastes are known, and how many items they have turned to in all.
    pub fn known(&self) -> (usize, usize) {
        let histories = self.histories.read();
        (histories.tastes(), histories.engagements())
    }
}

#[cfg(test)]
mod als_tests;
#[cfg(test)]
mod tests;
