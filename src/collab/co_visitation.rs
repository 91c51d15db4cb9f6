//! What is engaged with in the same sessions? Symmetric co-visitation, cosine-normalised.
//!
//! Asks the links in both directions, over the session's latest distinct items; each step back leaves 0.6.

use std::sync::Arc;

use parking_lot::RwLock;

use super::links::Links;
use super::score_table::ScoreTable;
use super::{SESSION_STEP_DECAY, distinct_latest};
use crate::domain::{ItemNo, Scored, Timestamp};

/// Added to both counts before they divide, so that rare pairs are not overstated.
const PRIOR_COUNT: f32 = 2.0;

/// Symmetric co-visitation of items.
#[derive(Debug)]
pub struct CoVisitation {
    links: Arc<RwLock<Links>>,
}

/// Working memory of a query and its result; keep one a thread and use it again.
#[derive(Debug, Default)]
pub struct CoVisitationScratch {
    scores: ScoreTable<1>,
}

impl CoVisitationScratch {
    /// The score of `item` in the last query; 0 if it shares no session with the latest items.
    pub fn score(&self, item: ItemNo) -> f32 {
        self.scores.get(item.0).map_or(0.0, |[score]| score)
    }

    /// Forgets the last query.
    pub fn clear(&mut self) {
        self.scores.clear();
    }
}

impl CoVisitation {
    pub(super) fn new(links: Arc<RwLock<Links>>) -> Self {
        Self { links }
    }

    /// The items most often seen together with the latest items of `history` (oldest first), the current one
    /// excepted, best first into `best`. `scratch` then answers for single items.
    pub fn candidates(
        &self,
        history: &[(ItemNo, Timestamp)],
        limit: usize,
        scratch: &mut CoVisitationScratch,
        best: &mut Vec<Scored>,
    ) {
        best.clear();
        scratch.clear();
        let Some(&(current, _)) = history.last() else { return };
        {
            let links = self.links.read();
            let stride = links.stride();
            let mut weight = 1.0;
            for item in distinct_latest(history) {
                if let Some(own) = links.of(item) {
                    let scale = weight / (links.count(item.0) + PRIOR_COUNT).sqrt();
                    for (&other, sums) in own.others.iter().zip(own.sums.iter(stride)) {
                        let score = scale * sums.total() / (links.count(other) + PRIOR_COUNT).sqrt();
                        scratch.scores.add(other, [score]);
                    }
                }
                weight *= SESSION_STEP_DECAY;
            }
        }
        best.extend(
            scratch
                .scores
                .iter()
                .filter(|&(item, _)| item != current.0)
                .map(|(item, [score])| Scored { item: ItemNo(item), score }),
        );
        Scored::keep_best(best, limit);
    }
}
