//! What followed this item, and how soon? Directed transitions by lag bucket.
//!
//! Asks the links in the forward direction: [`Transitions::candidates`] adds them up over the session's latest items,
//! [`TransitionScratch::counts`] then tells, for one item, how often it followed the current one within each horizon.

use std::sync::Arc;

use parking_lot::RwLock;

use super::links::{LinkSums, Links, MOST_SUMS};
use super::score_table::ScoreTable;
use super::{SESSION_STEP_DECAY, distinct_latest};
use crate::domain::{ItemNo, Scored, Timestamp};

/// Added to an item's count before it divides, so that a single transition is not a certainty.
const PRIOR_COUNT: f32 = 2.0;

/// The most horizons a model may have.
const MAX_HORIZONS: usize = 8;

/// Directed transitions between items.
#[derive(Debug)]
pub struct Transitions {
    links: Arc<RwLock<Links>>,
}

/// How one item relates to the current one.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TransitionCounts {
    /// Decayed share of the current item's engagements that the item followed within each horizon, cumulative.
    pub within: [f32; MAX_HORIZONS],
    /// The same at any lag.
    pub any: f32,
    /// Decayed number of times that the item came *before* the current one, over the current item's count.
    pub backward: f32,
    /// Share of the transitions, with one more that never ended, that ended within the last horizon.
    pub within_ratio: f32,
}

/// Working memory of a query and its result; keep one a thread and use it again.
#[derive(Debug, Default)]
pub struct TransitionScratch {
    forward: ScoreTable<1>,
    /// Key: item; first sum: the bits of its link; second sum: where its sums begin in `current_sums`.
    current: ScoreTable<2>,
    current_sums: Vec<f32>,
    stride: usize,
    current_count: f32,
}

impl TransitionScratch {
    /// The decayed forward score of `item` in the last query; 0 if nothing led to it.
    pub fn score(&self, item: ItemNo) -> f32 {
        self.forward.get(item.0).map_or(0.0, |[score]| score)
    }

    /// How `item` relates to the current item of the last query.
    pub fn counts(&self, item: ItemNo) -> TransitionCounts {
        let Some([mask, start]) = self.current.get(item.0) else { return TransitionCounts::default() };
        let mut sums = [0.0; MOST_SUMS];
        let (mask, start) = (mask as u16, start as usize);
        let link = LinkSums { mask, values: &self.current_sums[start..start + mask.count_ones() as usize] };
        link.places().for_each(|(place, sum)| sums[place] = sum);
        let scale = 1.0 / (self.current_count + PRIOR_COUNT);
        let horizons = self.stride - 2;
        let mut counts = TransitionCounts { backward: sums[horizons + 1] * scale, ..TransitionCounts::default() };
        let mut sum = 0.0;
        for (within, bucket) in counts.within.iter_mut().zip(&sums[..horizons]) {
            sum += bucket;
            *within = sum * scale;
        }
        let any = sum + sums[horizons];
        counts.any = any * scale;
        counts.within_ratio = sum / (any + 1.0);
        counts
    }

    /// Decayed number of engagements with the current item of the last query.
    pub fn current_count(&self) -> f32 {
        self.current_count
    }

    /// Forgets the last query.
    pub fn clear(&mut self) {
        self.forward.clear();
        self.current.clear();
        self.current_sums.clear();
        self.current_count = 0.0;
    }
}

impl Transitions {
    pub(super) fn new(links: Arc<RwLock<Links>>) -> Self {
        Self { links }
    }

    /// The items that most often follow the latest items of `history` (oldest first), the current one excepted, best
    /// first into `best`. `scratch` then answers for single items.
    pub fn candidates(
        &self,
        history: &[(ItemNo, Timestamp)],
        limit: usize,
        scratch: &mut TransitionScratch,
        best: &mut Vec<Scored>,
    ) {
        best.clear();
        scratch.clear();
        let Some(&(current, _)) = history.last() else { return };
        {
            let links = self.links.read();
            let stride = links.stride();
            scratch.stride = stride;
            let mut weight = 1.0;
            for item in distinct_latest(history) {
                if let Some(own) = links.of(item) {
                    let scale = weight / (links.count(item.0) + PRIOR_COUNT);
                    for (&other, sums) in own.others.iter().zip(own.sums.iter(stride)) {
                        let forward = sums.total_before_last(stride - 1);
                        if forward > 0.0 {
                            scratch.forward.add(other, [scale * forward]);
                        }
                    }
                }
                weight *= SESSION_STEP_DECAY;
            }
            if let Some(own) = links.of(current) {
                scratch.current_count = links.count(current.0);
                for (&other, sums) in own.others.iter().zip(own.sums.iter(stride)) {
                    scratch.current.add(other, [f32::from(sums.mask), scratch.current_sums.len() as f32]);
                    scratch.current_sums.extend_from_slice(sums.values);
                }
            }
        }
        best.extend(
            scratch
                .forward
                .iter()
                .filter(|&(item, _)| item != current.0)
                .map(|(item, [score])| Scored { item: ItemNo(item), score }),
        );
        Scored::keep_best(best, limit);
    }
}
