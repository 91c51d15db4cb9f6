//! Which hits are the best, when pictures, words and an audience speak together?
//!
//! Scores are weighted means, so that an item may be among the best without being first in any ranking. Fagin, Lotem and
//! Naor's threshold algorithm ("Optimal aggregation algorithms for middleware", 2001) finds the best ones all the same:
//! each ranking is read to some depth, everything met there is scored in full, and whatever was not met can have no more
//! than the last scores that were read. Once the page is above that, it is certain; otherwise more is read.
//!
//! The other way is reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009), for which only places count.

use std::collections::HashMap;

use roaring::RoaringBitmap;

use super::looks::Looks;
use crate::domain::{Embedding, ItemNo, Scored};
use crate::engine::{Aspect, EngineError};
use crate::index::{SearchOptions, TextIndex, TextQuery, VectorIndex};

/// How deep rankings are read at first, and at most; what is found then is the best of what was read.
const FIRST_DEPTH: usize = 64;
const LAST_DEPTH: usize = 16_384;
/// How much further a ranking is read than it would have to be, and how much a cosine may differ: an index rounds
/// otherwise than who compares the pictures in the end.
const MORE: usize = 8;
const ROUNDING: f32 = 1e-3;
/// The constant of reciprocal rank fusion, as its authors chose it.
const RRF_K: f32 = 60.0;
/// How deep each ranking counts for reciprocal rank fusion: always the same, so that pages fit together.
const RRF_DEPTH: usize = 1_000;

/// Likeness in something other than looks.
#[derive(Debug)]
pub(super) struct Described {
    /// The number of the example.
    pub(super) example: usize,
    pub(super) weight: f32,
    pub(super) negative: bool,
    pub(super) by: By,
}

/// In what.
#[derive(Debug)]
pub(super) enum By {
    /// In words.
    Words(TextQuery),
    /// In who turns to it; these are all that have anything in common.
    Audience(HashMap<ItemNo, f32>),
}

/// Everything that has a say, and what may be found.
#[derive(Debug)]
pub(super) struct Mix<'a> {
    pub(super) vectors: &'a dyn VectorIndex,
    pub(super) text: &'a TextIndex,
    pub(super) looks: Option<Looks>,
    pub(super) described: Vec<Described>,
    /// Only these items; `None` for all.
    pub(super) allowed: Option<RoaringBitmap>,
    /// Not these: the examples themselves.
    pub(super) excluded: RoaringBitmap,
    /// Only scores of at least this much.
    pub(super) floor: f32,
}

/// An item, or one of its pictures, that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Found {
    pub(super) item: ItemNo,
    /// The number of the picture that was compared, and how many the item has.
    pub(super) image: Option<(usize, usize)>,
    pub(super) score: f32,
}

/// What adds up to a score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Part {
    /// The number of the example; `None` for the ranking of all pictures.
    pub(super) example: Option<usize>,
    pub(super) by: Aspect,
    pub(super) similarity: f32,
    pub(super) rank: Option<usize>,
    pub(super) contribution: f32,
}

impl Mix<'_> {
    /// The best `want` items by weighted mean; each as its best picture.
    pub(super) fn best(&self, want: usize) -> Result<Vec<Found>, EngineError> {
        let mut known: HashMap<ItemNo, Found> = HashMap::new();
        let mut depth =
            if self.is_one_ranking() { want.saturating_add(MORE) } else { want.saturating_mul(2).max(FIRST_DEPTH) };
        loop {
            let (met, unmet) = self.read(depth)?;
            for item in met {
                known.entry(item).or_insert_with(|| self.judge(item));
            }
            let mut best: Vec<Found> = known.values().filter(|found| found.score >= self.floor).copied().collect();
            sort(&mut best);
            best.truncate(want);
            let certain = match unmet {
                None => true,
                Some(most) => most < self.floor || best.len() == want && best.last().is_none_or(|l| l.score >= most),
            };
            if certain || depth >= LAST_DEPTH {
                return Ok(best);
            }
            depth = depth.saturating_mul(4).min(LAST_DEPTH);
        }
    }

    /// The best `want` pictures of items by weighted mean; items of which no picture was compared come as themselves.
    pub(super) fn best_images(&self, want: usize) -> Result<Vec<Found>, EngineError> {
        // An item's score is that of its best picture, so that the best pictures belong to the best items.
        let items = self.best(want)?;
        let mut images: Vec<Found> = items.iter().flat_map(|found| self.each_image(found.item)).collect();
        images.retain(|found| found.score >= self.floor);
        sort(&mut images);
        images.truncate(want);
        Ok(images)
    }

    /// The best `want` items by their places in each ranking, with the parts of their scores.
    pub(super) fn fused(&self, want: usize) -> Result<Vec<(Found, Vec<Part>)>, EngineError> {
        let mut fused: HashMap<ItemNo, (Found, Vec<Part>)> = HashMap::new();
        let mut add = |found: Found, example: Option<usize>, by: Aspect, rank: usize, weight: f32| {
            let contribution = weight / (RRF_K + rank as f32);
            let entry = fused.entry(found.item).or_insert((Found { score: 0.0, ..found }, Vec::new()));
            entry.0.score += contribution;
            entry.1.push(Part { example, by, similarity: found.score, rank: Some(rank), contribution });
        };
        if let Some(looks) = self.sought() {
            for (rank, found) in (1..).zip(self.alike(looks, RRF_DEPTH)?) {
                add(found, None, Aspect::Looks, rank, looks.weight);
            }
        }
        for described in self.described.iter().filter(|described| !described.negative) {
            for (rank, scored) in (1..).zip(self.ranking(described, RRF_DEPTH)) {
                let found = Found { item: scored.item, image: None, score: scored.score };
                add(found, Some(described.example), described.by.aspect(), rank, described.weight);
            }
        }
        let mut best: Vec<(Found, Vec<Part>)> =
            fused.into_values().filter(|(found, _)| found.score >= self.floor).collect();
        best.sort_unstable_by_key(|(found, _)| order(found));
        best.truncate(want);
        Ok(best)
    }

    /// What adds up to the score of a hit by weighted mean.
    pub(super) fn parts(&self, found: &Found) -> Vec<Part> {
        let whole = self.weight();
        let mut parts = Vec::new();
        if let (Some(looks), Some((image, _))) = (&self.looks, found.image)
            && let Some(vector) = self.vectors.get(found.item).get(image)
        {
            let scale = looks.weight / whole;
            parts.extend(looks.shares(vector).into_iter().map(|share| Part {
                example: Some(share.example),
                by: Aspect::Looks,
                similarity: share.similarity,
                rank: None,
                contribution: scale * share.contribution,
            }));
        }
        parts.extend(self.described.iter().map(|described| {
            let similarity = self.similarity(described, found.item);
            let contribution = described.signed_weight() / whole * similarity;
            Part { example: Some(described.example), by: described.by.aspect(), similarity, rank: None, contribution }
        }));
        parts
    }

    /// The best `want` items by the likeness of their pictures alone.
    fn alike(&self, looks: &Looks, want: usize) -> Result<Vec<Found>, EngineError> {
        let mut depth = if looks.has_bad() { want.saturating_mul(2) } else { want }.saturating_add(MORE);
        loop {
            let (items, unmet) = self.read_looks(looks, depth, None)?;
            let images = items.into_iter().filter_map(|item| self.best_image(looks, item));
            let mut best: Vec<Found> = images.collect();
            sort(&mut best);
            best.truncate(want);
            let certain = unmet.is_none_or(|most| best.len() == want && best.last().is_none_or(|l| l.score >= most));
            if certain || depth >= LAST_DEPTH {
                return Ok(best);
            }
            depth = depth.saturating_mul(4).min(LAST_DEPTH);
        }
    }

    fn best_image(&self, looks: &Looks, item: ItemNo) -> Option<Found> {
        let images = self.vectors.get(item);
        let each = images.iter().enumerate().map(|(image, vector)| Found {
            item,
            image: Some((image, images.len())),
            score: looks.likeness(vector),
        });
        each.reduce(|best, next| if next.score > best.score { next } else { best })
    }

    /// Reads every ranking down to `depth`: the items met, and the most that an item not met can score; `None` if there
    /// are no others.
    fn read(&self, depth: usize) -> Result<(Vec<ItemNo>, Option<f32>), EngineError> {
        let whole = self.weight();
        let (mut met, mut most, mut others) = (Vec::new(), 0.0, false);
        let with_words = self.described.iter().any(|described| !described.negative);
        if let Some(looks) = self.sought() {
            let least = if with_words { None } else { looks.least_cosine(self.floor) };
            let (items, unmet) = self.read_looks(looks, depth, least)?;
            met.extend(items);
            if let Some(unmet) = unmet {
                // Items without pictures are neither alike nor unlike.
                most += looks.weight / whole * if with_words { unmet.max(0.0) } else { unmet };
                others = true;
            }
        }
        for described in self.described.iter().filter(|described| !described.negative) {
            let ranking = self.ranking(described, depth);
            if ranking.len() >= depth {
                most += described.weight / whole * ranking.last().map_or(0.0, |last| last.score);
                others = true;
            }
            met.extend(ranking.iter().map(|scored| scored.item));
        }
        Ok((met, others.then_some(most)))
    }

    fn read_looks(
        &self,
        looks: &Looks,
        depth: usize,
        least: Option<f32>,
    ) -> Result<(Vec<ItemNo>, Option<f32>), EngineError> {
        let queries = looks.queries();
        let slices: Vec<&[f32]> = queries.iter().map(|(query, _)| query.as_slice()).collect();
        let options = SearchOptions {
            limit: depth,
            allowed: self.allowed.as_ref(),
            excluded: Some(&self.excluded),
            min_score: least.map(|least| least - ROUNDING),
            ..SearchOptions::default()
        };
        let (mut met, mut unmet) = (Vec::new(), None::<f32>);
        for (found, (_, factor)) in self.vectors.search_many(&slices, &options)?.into_iter().zip(&queries) {
            if let Some(last) = found.last().filter(|_| found.len() >= depth) {
                unmet = Some(unmet.unwrap_or(-1.0).max(last.score * factor));
            }
            met.extend(found.into_iter().map(|scored| scored.item));
        }
        met.sort_unstable_by_key(|item| item.0);
        met.dedup();
        Ok((met, unmet.map(|unmet| if looks.has_bad() { unmet.max(0.0) } else { unmet })))
    }

    /// The best `depth` items in one thing other than looks.
    fn ranking(&self, described: &Described, depth: usize) -> Vec<Scored> {
        let mut ranking = match &described.by {
            By::Words(query) => {
                let excluded = usize::try_from(self.excluded.len()).unwrap_or_default();
                self.text.find(query, depth.saturating_add(excluded), self.allowed.as_ref())
            }
            By::Audience(shared) => {
                let permitted = shared.iter().filter(|(no, _)| self.allowed.as_ref().is_none_or(|a| a.contains(no.0)));
                let mut all: Vec<Scored> = permitted.map(|(&item, &score)| Scored { item, score }).collect();
                Scored::keep_best(&mut all, usize::MAX);
                all
            }
        };
        ranking.retain(|scored| !self.excluded.contains(scored.item.0));
        ranking.truncate(depth);
        ranking
    }

    fn judge(&self, item: ItemNo) -> Found {
        let words = self.described_score(item);
        let looks = self.looks.as_ref().and_then(|looks| Some((looks, self.best_image(looks, item)?)));
        match looks {
            Some((looks, found)) => Found { score: looks.weight / self.weight() * found.score + words, ..found },
            None => Found { item, image: None, score: words },
        }
    }

    fn each_image(&self, item: ItemNo) -> Vec<Found> {
        let words = self.described_score(item);
        let images = if self.looks.is_some() { self.vectors.get(item) } else { Vec::new() };
        let Some(looks) = self.looks.as_ref().filter(|_| !images.is_empty()) else {
            return vec![Found { item, image: None, score: words }];
        };
        let scale = looks.weight / self.weight();
        let score = |vector: &Embedding| scale * looks.likeness(vector) + words;
        let each = images.iter().enumerate();
        each.map(|(n, vector)| Found { item, image: Some((n, images.len())), score: score(vector) }).collect()
    }

    /// What everything but looks adds to an item's score.
    fn described_score(&self, item: ItemNo) -> f32 {
        let each = self.described.iter().map(|d| d.signed_weight() * self.similarity(d, item));
        each.sum::<f32>() / self.weight()
    }

    fn similarity(&self, described: &Described, item: ItemNo) -> f32 {
        match &described.by {
            By::Words(query) => self.text.score(query, item),
            By::Audience(shared) => shared.get(&item).copied().unwrap_or(0.0),
        }
    }

    /// The weights of all that is looked for.
    fn weight(&self) -> f32 {
        let described: f32 = self.described.iter().filter(|d| !d.negative).map(|d| d.weight).sum();
        (self.sought().map_or(0.0, |looks| looks.weight) + described).max(f32::MIN_POSITIVE)
    }

    /// The pictures, if any are looked for.
    fn sought(&self) -> Option<&Looks> {
        self.looks.as_ref().filter(|looks| looks.seeks())
    }

    /// Whether a single ranking has the answer as it is.
    fn is_one_ranking(&self) -> bool {
        match (&self.looks, self.described.as_slice()) {
            (Some(looks), []) => !looks.has_bad(),
            (None, [only]) => !only.negative,
            _ => false,
        }
    }
}

impl By {
    fn aspect(&self) -> Aspect {
        match self {
            Self::Words(_) => Aspect::Words,
            Self::Audience(_) => Aspect::Audience,
        }
    }
}

impl Described {
    fn signed_weight(&self) -> f32 {
        if self.negative { -self.weight } else { self.weight }
    }
}

/// Best first; equal scores in the order of items and pictures, so that pages fit together.
fn sort(found: &mut [Found]) {
    found.sort_unstable_by_key(order);
}

fn order(found: &Found) -> (std::cmp::Reverse<i32>, u32, usize) {
    // The order of the numbers as total_cmp has it.
    let bits = found.score.to_bits() as i32;
    let rising = bits ^ (((bits >> 31) as u32) >> 1) as i32;
    (std::cmp::Reverse(rising), found.item.0, found.image.map_or(0, |(image, _)| image))
}

#[cfg(test)]
mod tests;
