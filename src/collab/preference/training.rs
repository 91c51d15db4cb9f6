//! When is a new model learned, and how does it take the place of the old one?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::als::{self, Interactions, Trained};
use super::cold_start::{ColdMap, Example, ItemFeatures};
use super::model::{Ingredients, Model, Origin};
use super::{Preference, PreferenceOptions};
use crate::domain::{ItemNo, Timestamp};

/// Descriptions are learned from at most so many items, those with the most engagements.
const MOST_EXAMPLES: usize = 20_000;
/// An item with so many engagements is half learned, half guessed.
const HALF_LEARNED: f32 = 2.0;
/// So many new items are a reason to train.
const MANY_ADDED: usize = 512;
/// Item changes that are remembered while a model is learned; more than that, and the new items wait for the next.
const MOST_CHANGED: usize = 1 << 18;

/// What a training came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingReport {
    /// How long it took.
    pub took: Duration,
    /// Tastes and engagements that were learned from.
    pub tastes: usize,
    /// See [`tastes`](Self::tastes).
    pub engagements: usize,
    /// Items whose factor was learned, at least in part.
    pub learned: usize,
    /// Items whose factor was guessed from their description.
    pub guessed: usize,
    /// What was minimised, for each engagement.
    pub loss: f64,
}

/// What decides when to train next, and what happened meanwhile.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    pub(super) last: Option<Timestamp>,
    /// Somebody was forgotten since the last training began.
    pub(super) forgot: bool,
    /// Items that came, changed or went while a model is being learned.
    meanwhile: Option<Vec<ItemNo>>,
}

impl Schedule {
    pub(super) fn changed(&mut self, item: ItemNo) {
        if let Some(meanwhile) = self.meanwhile.as_mut().filter(|items| items.len() < MOST_CHANGED) {
            meanwhile.push(item);
        }
    }
}

impl Preference {
    /// Whether enough is new for a training.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let PreferenceOptions { enabled, min_engagements, new_share, every_s, .. } = self.options;
        let (_, engagements) = self.known();
        if !enabled || engagements < min_engagements.max(1) {
            return false;
        }
        let (last, forgot) = {
            let schedule = self.schedule.lock();
            (schedule.last, schedule.forgot)
        };
        let Some(last) = last else { return true };
        let new = self.new.load(Ordering::Relaxed) as f64;
        // A clock that was set back must not stop training for ever.
        let waited = now.seconds_since(last).abs() >= every_s;
        waited && (new >= (new_share * engagements as f64).max(1.0) || forgot || self.added() >= MANY_ADDED)
    }

    /// Learns a new model from all histories and swaps it in. Of the items that are there, `items`, those without
    /// engagements get a factor from what `describe` says of them; it answers `None` for an item that is not there (any
    /// more). Ends with `None` when `stop` becomes true, or there is nothing to learn from; the old model then stays. Blocks
    /// for as long as that takes; to be called by one thread at a time. `progress` hears of every round.
    pub fn train(
        &self,
        now: Timestamp,
        items: &[ItemNo],
        describe: &(dyn Fn(ItemNo) -> Option<ItemFeatures> + Sync),
        stop: &AtomicBool,
        progress: impl FnMut(usize) + Send,
    ) -> Option<TrainingReport> {
        let started = Instant::now();
        let new = self.new.swap(0, Ordering::Relaxed);
        {
            let mut schedule = self.schedule.lock();
            (schedule.last, schedule.forgot, schedule.meanwhile) = (Some(now), false, Some(Vec::new()));
        }
        let learned = self.learn(items, describe, stop, progress);
        let Some((model, mut report)) = learned else {
            self.schedule.lock().meanwhile = None;
            self.new.fetch_add(new, Ordering::Relaxed);
            return None;
        };
        let model = Arc::new(model);
        self.model.store(Some(model.clone()));
        // Whatever changes from here on goes to the new model; what changed before is gone through once more.
        let meanwhile = self.schedule.lock().meanwhile.take().unwrap_or_default();
        for item in meanwhile {
            match describe(item) {
                Some(features) => drop(model.describe(item, &features)),
                None => model.forget(item),
            }
        }
        report.took = started.elapsed();
        Some(report)
    }

    fn learn(
        &self,
        items: &[ItemNo],
        describe: &(dyn Fn(ItemNo) -> Option<ItemFeatures> + Sync),
        stop: &AtomicBool,
        progress: impl FnMut(usize) + Send,
    ) -> Option<(Model, TrainingReport)> {
        let (known, interactions) = self.interactions();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.options.threads.max(1))
            .thread_name(|n| format!("upnext-als-{n}"))
            .build();
        let pool = match pool {
            Ok(pool) => pool,
            Err(error) => {
                tracing::error!(%error, "no threads can be started to learn tastes");
                return None;
            }
        };
        pool.install(|| {
            let trained = als::train(&interactions, &self.options.als, stop, progress)?;
            let model = self.model_of(items, &known, &interactions, trained.clone(), describe, stop)?;
            let learned = model.origins.iter().filter(|origin| **origin == Origin::Learned).count();
            let report = TrainingReport {
                took: Duration::ZERO,
                tastes: interactions.rows(),
                engagements: interactions.len(),
                learned,
                guessed: model.origins.len() - learned,
                loss: trained.loss,
            };
            Some((model, report))
        })
    }

    /// The items that somebody turned to, by rising number, and who turned to which, by place in there. Tastes with a
    /// single item say nothing about what goes together.
    fn interactions(&self) -> (Vec<ItemNo>, Interactions) {
        let histories = self.histories.read();
        let tastes = || histories.iter().filter(|liked| liked.len() > 1);
        let mut known: Vec<ItemNo> = tastes().flatten().map(|liked| liked.item).collect();
        known.sort_unstable();
        known.dedup();
        let mut columns = vec![0_u32; known.last().map_or(0, |last| last.index() + 1)];
        known.iter().enumerate().for_each(|(column, item)| columns[item.index()] = column as u32);
        let rows = tastes().map(|liked| liked.iter().map(|own| (columns[own.item.index()], own.confidence)).collect());
        let interactions = Interactions::new(rows, known.len());
        (known, interactions)
    }

    fn model_of(
        &self,
        items: &[ItemNo],
        known: &[ItemNo],
        interactions: &Interactions,
        trained: Trained,
        describe: &(dyn Fn(ItemNo) -> Option<ItemFeatures> + Sync),
        stop: &AtomicBool,
    ) -> Option<Model> {
        let dims = self.options.als.dims;
        let mut engaged = vec![0_u32; known.len()];
        (0..interactions.rows())
            .for_each(|row| interactions.row(row).0.iter().for_each(|&column| engaged[column as usize] += 1));
        let mut teachers: Vec<usize> =
            (0..known.len()).filter(|&column| engaged[column] >= self.options.trusted_engagements.max(1)).collect();
        teachers.sort_by_key(|&column| (std::cmp::Reverse(engaged[column]), column));
        teachers.truncate(MOST_EXAMPLES);
        teachers.sort_unstable();
        let example = |&column: &usize| {
            let features = describe(known[column]).filter(|features| !features.is_empty())?;
            let factor = &trained.items[column * dims..][..dims];
            Some(Example { features, factor, engagements: engaged[column] as f32 })
        };
        let examples: Vec<Example<'_>> = teachers.iter().filter_map(example).collect();
        let map = ColdMap::fit(&examples, dims);
        drop(examples);
        let mut made = Ingredients {
            dims,
            penalty: trained.penalty,
            spread: trained.spread,
            learned_from: known.len(),
            map,
            rows: trained.items,
            numbers: known.iter().map(|item| item.0).collect(),
            origins: vec![Origin::Learned; known.len()],
        };
        if let Some(map) = &made.map {
            let mut guess = vec![0.0; dims];
            for (column, &item) in known.iter().enumerate() {
                let learned = engaged[column] as f32 / (engaged[column] as f32 + HALF_LEARNED);
                if learned > 0.9 {
                    continue;
                }
                if let Some(features) = describe(item).filter(|features| !features.is_empty()) {
                    map.map(&features, &mut guess);
                    let row = made.rows[column * dims..][..dims].iter_mut();
                    row.zip(&guess).for_each(|(own, guess)| *own = learned * *own + (1.0 - learned) * guess);
                }
            }
            for &item in items.iter().filter(|item| known.binary_search(item).is_err()) {
                if stop.load(Ordering::Relaxed) {
                    return None;
                }
                if let Some(features) = describe(item).filter(|features| !features.is_empty()) {
                    map.map(&features, &mut guess);
                    made.rows.extend_from_slice(&guess);
                    made.numbers.push(item.0);
                    made.origins.push(Origin::Guessed);
                }
            }
        }
        Some(Model::new(made))
    }
}
