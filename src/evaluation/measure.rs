//! How often is the right item in the list, how high, and do the probabilities hold?

use std::collections::HashSet;

use super::click_log::Session;
use super::gather::{Gatherer, Surroundings};
use super::replay::{Learning, Replay};
use crate::collab::Collab;
use crate::domain::{ItemNo, Scored};
use crate::ranking::{FeatureMatrix, HazardModel, Predictions, order};

/// Bins of the calibration, with as many predictions each.
const BINS: usize = 10;

/// A way to rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ranker {
    /// The hazards over all sources.
    Blend,
    /// Session-kNN alone.
    SessionKnn,
    /// Co-visitation alone.
    CoVisitation,
    /// Transitions alone.
    Transition,
    /// The most popular items.
    Popularity,
}

impl Ranker {
    /// Every ranker.
    pub const ALL: [Self; 5] = [Self::Blend, Self::SessionKnn, Self::CoVisitation, Self::Transition, Self::Popularity];

    /// The name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blend => "blend",
            Self::SessionKnn => "session_knn",
            Self::CoVisitation => "co_visitation",
            Self::Transition => "transition",
            Self::Popularity => "popularity",
        }
    }
}

/// How to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeasureOptions {
    /// The length of the lists.
    pub k: usize,
    /// When clicks are learned.
    pub learning: Learning,
}

/// How good one ranker's lists are, over the positions that have something to find.
#[derive(Debug, Clone, PartialEq)]
pub struct RankerResult {
    /// Which.
    pub ranker: Ranker,
    /// Share of the positions with a relevant item in the list.
    pub hr: f64,
    /// Mean of 1 / rank of the first relevant item, 0 if there is none in the list.
    pub mrr: f64,
    /// Normalised discounted cumulative gain.
    pub ndcg: f64,
    /// 1 / rank at each position, for paired comparisons.
    pub reciprocal_ranks: Vec<f32>,
}

/// Whether the blend's probabilities hold, over the items in its lists at all positions.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// Expected calibration error over ten bins of equal size: the mean of |predicted − observed|.
    pub ece: f64,
    /// Mean prediction and observed rate in each bin, lowest first.
    pub bins: Vec<(f64, f64)>,
    /// Mean log loss.
    pub log_loss: f64,
}

/// What was measured at one horizon.
#[derive(Debug, Clone, PartialEq)]
pub struct HorizonResult {
    /// The horizon.
    pub seconds: u32,
    /// Positions with something to find.
    pub positions: usize,
    /// Whether the blend's probabilities hold.
    pub calibration: Calibration,
    /// One for each of [`Ranker::ALL`].
    pub rankers: Vec<RankerResult>,
}

#[derive(Debug, Clone, Default)]
struct Tally {
    hits: f64,
    ndcg: f64,
    reciprocal_ranks: Vec<f32>,
}

/// Replays `sessions` into `collab`, which has learned what came before, and compares the rankers at every click.
pub fn measure(
    collab: &Collab,
    sessions: &[Session],
    model: &HazardModel,
    options: &MeasureOptions,
    surroundings: &mut dyn Surroundings,
) -> Vec<HorizonResult> {
    let horizons = model.schema().horizons().clone();
    let mut tallies = vec![vec![Tally::default(); Ranker::ALL.len()]; horizons.count()];
    let mut predicted: Vec<Vec<(f64, bool)>> = vec![Vec::new(); horizons.count()];
    let mut gatherer = Gatherer::default();
    let mut matrix = FeatureMatrix::default();
    let mut predictions = Predictions::default();
    Replay { learning: options.learning }.run(
        collab,
        sessions,
        |_, _| Some(0.0),
        |stop| {
            gatherer.gather_at(collab, &stop, surroundings);
            matrix.assemble(model.schema(), &gatherer.context, &gatherer.candidates);
            model.predict_for(&matrix, options.k, &mut predictions);
            let current = stop.history.last().map(|&(item, _)| item);
            let fill = |own: &[Scored]| filled(own, &gatherer.by_popularity, current, options.k);
            let alone = [
                fill(&gatherer.by_session),
                fill(&gatherer.by_co_visitation),
                fill(&gatherer.by_transition),
                fill(&[]),
            ];
            let lags = stop.lags();
            for (index, &seconds) in horizons.seconds().iter().enumerate() {
                let relevant: HashSet<ItemNo> =
                    lags.iter().filter(|(_, lag_s)| *lag_s <= f64::from(seconds)).map(|&(item, _)| item).collect();
                let mut blend = order(matrix.items(), &predictions, index);
                blend.truncate(options.k);
                predicted[index].extend(blend.iter().map(|r| (r.probability, relevant.contains(&r.item))));
                if relevant.is_empty() {
                    continue;
                }
                let blend: Vec<ItemNo> = blend.iter().map(|r| r.item).collect();
                for (tally, list) in tallies[index].iter_mut().zip(std::iter::once(&blend).chain(&alone)) {
                    tally.add(list, &relevant, options.k);
                }
            }
        },
    );
    let seconds = horizons.seconds().iter().copied();
    let measured = seconds.zip(tallies).zip(predicted);
    measured
        .map(|((seconds, tallies), predicted)| HorizonResult {
            seconds,
            positions: tallies[0].reciprocal_ranks.len(),
            calibration: calibrate(predicted),
            rankers: Ranker::ALL.into_iter().zip(tallies).map(|(ranker, tally)| tally.result(ranker)).collect(),
        })
        .collect()
}

impl Tally {
    fn add(&mut self, list: &[ItemNo], relevant: &HashSet<ItemNo>, k: usize) {
        let gain = |position: usize| 1.0 / (position as f64 + 2.0).log2();
        let found: Vec<usize> = (0..list.len()).filter(|&position| relevant.contains(&list[position])).collect();
        let ideal: f64 = (0..relevant.len().min(k)).map(gain).sum();
        self.hits += if found.is_empty() { 0.0 } else { 1.0 };
        self.ndcg += found.iter().map(|&position| gain(position)).sum::<f64>() / ideal;
        self.reciprocal_ranks.push(found.first().map_or(0.0, |&position| 1.0 / (position as f32 + 1.0)));
    }

    fn result(self, ranker: Ranker) -> RankerResult {
        let positions = self.reciprocal_ranks.len().max(1) as f64;
        RankerResult {
            ranker,
            hr: self.hits / positions,
            mrr: self.reciprocal_ranks.iter().map(|&r| f64::from(r)).sum::<f64>() / positions,
            ndcg: self.ndcg / positions,
            reciprocal_ranks: self.reciprocal_ranks,
        }
    }
}

/// The first `k` of `own`, filled up with popular items, without the current one and without repeats.
fn filled(own: &[Scored], popular: &[Scored], current: Option<ItemNo>, k: usize) -> Vec<ItemNo> {
    let mut list: Vec<ItemNo> = Vec::with_capacity(k);
    for scored in own.iter().chain(popular) {
        if list.len() >= k {
            break;
        }
        if Some(scored.item) != current && !list.contains(&scored.item) {
            list.push(scored.item);
        }
    }
    list
}

fn calibrate(mut predicted: Vec<(f64, bool)>) -> Calibration {
    predicted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let total = predicted.len().max(1) as f64;
    let log_loss = predicted.iter().map(|&(p, hit)| -(if hit { p } else { 1.0 - p }).max(1e-15).ln()).sum::<f64>();
    let mut bins = Vec::with_capacity(BINS);
    let mut ece = 0.0;
    for bin in 0..BINS {
        let part = &predicted[predicted.len() * bin / BINS..predicted.len() * (bin + 1) / BINS];
        if part.is_empty() {
            continue;
        }
        let size = part.len() as f64;
        let mean = part.iter().map(|&(p, _)| p).sum::<f64>() / size;
        let rate = part.iter().filter(|&&(_, hit)| hit).count() as f64 / size;
        ece += (mean - rate).abs() * size / total;
        bins.push((mean, rate));
    }
    Calibration { ece, bins, log_loss: log_loss / total }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_match_their_definitions() {
        let mut tally = Tally::default();
        let relevant = HashSet::from([ItemNo(2), ItemNo(9)]);
        tally.add(&[ItemNo(1), ItemNo(2), ItemNo(3)], &relevant, 3);
        tally.add(&[ItemNo(1)], &relevant, 3);
        let result = tally.result(Ranker::Blend);
        assert_eq!((result.hr, result.mrr), (0.5, 0.25));
        let ideal = 1.0 + 1.0 / 3.0_f64.log2();
        assert!((result.ndcg - 0.5 / 3.0_f64.log2() / ideal).abs() < 1e-9);
    }

    #[test]
    fn calibration_compares_rates() {
        let predicted = (0..1000).map(|n| (if n < 500 { 0.1 } else { 0.9 }, n % 2 == 0)).collect();
        let calibration = calibrate(predicted);
        assert!((calibration.ece - 0.4).abs() < 1e-9);
        assert_eq!(calibration.bins.len(), BINS);
    }

    #[test]
    fn short_lists_are_filled_with_popular_items() {
        let scored = |n| Scored { item: ItemNo(n), score: 1.0 };
        let list = filled(&[scored(5)], &[scored(1), scored(5), scored(2), scored(3)], Some(ItemNo(1)), 3);
        assert_eq!(list, [ItemNo(5), ItemNo(2), ItemNo(3)]);
    }
}
