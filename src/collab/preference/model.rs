//! What does a taste make of an item? Item factors, the taste that fits a history, and the best items for it.
//!
//! A model never changes but for items that come and go after it was learned: those that come have a guessed factor
//! ([`ColdMap`]) until the next one is learned.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::RwLock;

use super::als::{Penalty, RowScratch, solve_row};
use super::cells::Cells;
use super::cold_start::{ColdMap, ItemFeatures};
use crate::domain::{ItemNo, Scored, dot, dot_places, dot_rows};

/// No place.
pub(super) const NONE: u32 = u32::MAX;

/// Items that can come after a model was learned; further ones wait for the next.
const MOST_ADDED: usize = 1 << 16;

/// Of those, this many of the latest are proposed; all are scored.
const ADDED_LOOKED_AT: usize = 1_024;

/// Steps in which a taste is found; twenty items need about six.
const FOLD_IN_STEPS: usize = 16;

/// How an item got its factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// From engagements, at least in part.
    Learned,
    /// From its description.
    Guessed,
}

/// A learned model.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) dims: usize,
    pub(super) penalty: Penalty,
    /// The diagonal of the learned items' Gram matrix, which has no more than that, and how many items it is of.
    pub(super) spread: Vec<f32>,
    pub(super) learned_from: usize,
    pub(super) map: Option<ColdMap>,
    /// Cell by cell.
    pub(super) rows: Vec<f32>,
    /// The item of each row; [`NONE`] for rows of items that were forgotten.
    pub(super) numbers: Vec<u32>,
    pub(super) origins: Vec<Origin>,
    pub(super) cells: Option<Cells>,
    /// The row of each item; [`NONE`] for items without one. Only ever changes to that.
    places: Vec<AtomicU32>,
    /// By row, whether its item has lost it: in the order in which rows are looked at, which `places` is not.
    gone: Vec<AtomicBool>,
    added: RwLock<Added>,
    /// Pictures are seen by others now than those that the map was learned from.
    without_pictures: AtomicBool,
}

#[derive(Debug, Default)]
struct Added {
    places: HashMap<u32, u32>,
    numbers: Vec<u32>,
    rows: Vec<f32>,
}

/// Working memory of a question, and the taste that it is about.
#[derive(Debug, Default)]
pub(super) struct TasteScratch {
    pub(super) taste: Vec<f32>,
    liked: Vec<(u32, f32)>,
    factors: Vec<f32>,
    row: RowScratch,
    order: Vec<(f32, u32)>,
    products: Vec<f32>,
    /// Places that were scored, and the best score of each few of them.
    ranges: Vec<std::ops::Range<usize>>,
    maxima: Vec<u32>,
    /// Places of the items that are asked about.
    asked: Vec<u32>,
}

/// What a model is made of; see [`Model`].
#[derive(Debug)]
pub(super) struct Ingredients {
    pub(super) dims: usize,
    pub(super) penalty: Penalty,
    pub(super) spread: Vec<f32>,
    pub(super) learned_from: usize,
    pub(super) map: Option<ColdMap>,
    pub(super) rows: Vec<f32>,
    pub(super) numbers: Vec<u32>,
    pub(super) origins: Vec<Origin>,
}

impl Model {
    /// Arranges rows in any order.
    pub(super) fn new(made_of: Ingredients) -> Self {
        let Ingredients { dims, penalty, spread, learned_from, map, mut rows, mut numbers, mut origins } = made_of;
        let cells = Cells::arrange(&rows, dims).map(|(cells, order)| {
            rows = order.iter().flat_map(|&row| rows[row as usize * dims..][..dims].iter().copied()).collect();
            numbers = order.iter().map(|&row| numbers[row as usize]).collect();
            origins = order.iter().map(|&row| origins[row as usize]).collect();
            cells
        });
        Self::arranged(Ingredients { dims, penalty, spread, learned_from, map, rows, numbers, origins }, cells)
    }

    /// Takes rows that are arranged already.
    pub(super) fn arranged(made_of: Ingredients, cells: Option<Cells>) -> Self {
        let Ingredients { dims, penalty, spread, learned_from, map, rows, numbers, origins } = made_of;
        let items = numbers.iter().filter(|&&no| no != NONE).max().map_or(0, |&most| most as usize + 1);
        let places: Vec<AtomicU32> = (0..items).map(|_| AtomicU32::new(NONE)).collect();
        let gone = numbers.iter().map(|&number| AtomicBool::new(number == NONE)).collect();
        for (row, &number) in numbers.iter().enumerate() {
            if let Some(place) = places.get(number as usize) {
                place.store(row as u32, Ordering::Relaxed);
            }
        }
        Self {
            dims,
            penalty,
            spread,
            learned_from,
            map,
            rows,
            numbers,
            origins,
            cells,
            places,
            gone,
            added: RwLock::default(),
            without_pictures: AtomicBool::new(false),
        }
    }

    fn place(&self, item: ItemNo) -> Option<usize> {
        let place = self.places.get(item.index())?.load(Ordering::Relaxed);
        (place != NONE).then_some(place as usize)
    }

    /// Whether the item has one of the rows.
    pub(super) fn is_row_of(&self, number: u32) -> bool {
        self.place(ItemNo(number)).is_some()
    }

    fn row(&self, place: usize) -> &[f32] {
        &self.rows[place * self.dims..][..self.dims]
    }

    /// Calls `f` with the factor of an item, if it has one.
    pub(super) fn with_factor<R>(&self, item: ItemNo, f: impl FnOnce(&[f32]) -> R) -> Option<R> {
        if let Some(place) = self.place(item) {
            return Some(f(self.row(place)));
        }
        let added = self.added.read();
        let place = *added.places.get(&item.0)? as usize;
        added.rows.get(place * self.dims..(place + 1) * self.dims).map(f)
    }

    /// What the taste in `scratch` makes of each of `items`, in their order, into `scores`; no number for items without
    /// a factor.
    pub(super) fn scores(&self, items: &[ItemNo], scratch: &mut TasteScratch, scores: &mut Vec<f32>) {
        let TasteScratch { taste, asked, .. } = scratch;
        asked.clear();
        asked.extend(items.iter().map(|item| match self.places.get(item.index()) {
            Some(place) => place.load(Ordering::Relaxed),
            None => NONE,
        }));
        scores.clear();
        dot_places(&self.rows, asked, taste, scores);
        let added = self.added.read();
        if added.places.is_empty() {
            return;
        }
        for (score, item) in
            scores.iter_mut().zip(items).zip(asked.iter()).filter_map(|(pair, &place)| (place == NONE).then_some(pair))
        {
            let row =
                added.places.get(&item.0).and_then(|&place| added.rows.chunks_exact(self.dims).nth(place as usize));
            if let Some(row) = row {
                *score = dot(row, taste);
            }
        }
    }

    /// How the item got its factor.
    pub(super) fn origin(&self, item: ItemNo) -> Option<Origin> {
        match self.place(item) {
            Some(place) => self.origins.get(place).copied(),
            None => self.added.read().places.contains_key(&item.0).then_some(Origin::Guessed),
        }
    }

    /// How many items came after the model was learned.
    pub(super) fn added(&self) -> usize {
        self.added.read().places.len()
    }

    /// Guesses a factor for an item, unless one was learned; whether the item has one then.
    pub(super) fn describe(&self, item: ItemNo, features: &ItemFeatures) -> bool {
        let place = self.place(item);
        if place.is_some_and(|place| self.origins[place] == Origin::Learned) {
            return true;
        }
        let worded;
        let features = if self.without_pictures.load(Ordering::Relaxed) {
            worded = features.clone().only(false, true);
            &worded
        } else {
            features
        };
        let Some(map) = self.map.as_ref().filter(|_| !features.is_empty()) else { return place.is_some() };
        let mut factor = vec![0.0; self.dims];
        map.map(features, &mut factor);
        // Said again, as at every start.
        if place.is_some_and(|place| self.row(place) == factor) {
            return true;
        }
        let mut added = self.added.write();
        let Added { places, numbers, rows } = &mut *added;
        if let Some(&place) = places.get(&item.0) {
            rows[place as usize * factor.len()..][..factor.len()].copy_from_slice(&factor);
            return true;
        }
        if numbers.len() >= MOST_ADDED {
            return place.is_some();
        }
        places.insert(item.0, numbers.len() as u32);
        numbers.push(item.0);
        rows.extend_from_slice(&factor);
        self.give_up(item);
        true
    }

    /// From here on only words describe items.
    pub(super) fn forget_pictures(&self) {
        self.without_pictures.store(true, Ordering::Relaxed);
    }

    /// Takes an item's row away.
    fn give_up(&self, item: ItemNo) {
        if let Some(place) = self.places.get(item.index()) {
            let place = place.swap(NONE, Ordering::Relaxed);
            if let Some(gone) = self.gone.get(place as usize) {
                gone.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Forgets an item.
    pub(super) fn forget(&self, item: ItemNo) {
        self.give_up(item);
        let mut added = self.added.write();
        if let Some(place) = added.places.remove(&item.0) {
            added.numbers[place as usize] = NONE;
        }
    }

    /// Finds the taste that fits these engagements (item and confidence) and leaves it in `scratch`; `false` if none of
    /// the items has a factor.
    pub(super) fn fold_in(&self, liked: &[(ItemNo, f32)], scratch: &mut TasteScratch) -> bool {
        let TasteScratch { taste, liked: known, factors, row, .. } = scratch;
        let dims = self.dims;
        known.clear();
        factors.clear();
        for &(item, confidence) in liked {
            if self.with_factor(item, |factor| factors.extend_from_slice(factor)).is_some() {
                known.push((item.0, confidence));
            }
        }
        taste.clear();
        taste.resize(dims, 0.0);
        if known.is_empty() {
            return false;
        }
        let engagements = factors.chunks_exact(dims).zip(known.iter()).map(|(factor, &(_, c))| (factor, c));
        solve_row(engagements, &self.spread, self.learned_from, &self.penalty, FOLD_IN_STEPS, taste, row);
        true
    }

    /// The best items for the taste in `scratch` that are permitted, best first. Looks at a part of them only, when there
    /// are many.
    pub(super) fn candidates(
        &self,
        limit: usize,
        permitted: impl Fn(ItemNo) -> bool,
        scratch: &mut TasteScratch,
        best: &mut Vec<Scored>,
    ) {
        // Asking whether an item is permitted takes longer than scoring it, so only the best are asked about, unless that
        // leaves too few.
        for asked in [(4 * limit).max(64), usize::MAX] {
            let found = self.scan(scratch, asked, best);
            best.retain(|scored| permitted(scored.item));
            if best.len() >= limit || found <= asked {
                break;
            }
        }
        Scored::keep_best(best, limit);
    }

    /// The best `most` of the items that come into question, in no order; how many those were.
    fn scan(&self, scratch: &mut TasteScratch, most: usize, best: &mut Vec<Scored>) -> usize {
        best.clear();
        let TasteScratch { taste, order, products, ranges, maxima, .. } = scratch;
        let dims = self.dims;
        products.clear();
        ranges.clear();
        let mut score = |places: std::ops::Range<usize>| {
            dot_rows(&self.rows[places.start * dims..places.end * dims], taste, products);
            ranges.push(places);
        };
        match &self.cells {
            Some(cells) => cells.probe(taste, order, score),
            None => score(0..self.numbers.len()),
        }
        let rows = products.len();
        let added = self.added.read();
        let from = added.numbers.len().saturating_sub(ADDED_LOOKED_AT);
        dot_rows(&added.rows[from * dims..], taste, products);
        let least = least_of_best(products, most, maxima);
        let (learned, new) = products.split_at(rows);
        let places = ranges.iter().flat_map(Clone::clone);
        for (&score, place) in learned.iter().zip(places).filter(|(score, _)| (least..=f32::MAX).contains(*score)) {
            if !self.gone[place].load(Ordering::Relaxed) {
                best.push(Scored { item: ItemNo(self.numbers[place]), score });
            }
        }
        for (&score, &number) in new.iter().zip(&added.numbers[from..]) {
            if number != NONE && (least..=f32::MAX).contains(&score) {
                best.push(Scored { item: ItemNo(number), score });
            }
        }
        Scored::select_best(best, most);
        products.len()
    }
}

/// A score that the best `most` of `scores` reach, and not many more: so many parts of the scores have one that does.
fn least_of_best(scores: &[f32], most: usize, maxima: &mut Vec<u32>) -> f32 {
    const PART: usize = 4;
    maxima.clear();
    if most == 0 || most.saturating_mul(PART) >= scores.len() {
        return f32::MIN;
    }
    // The order of these whole numbers is that of the scores; what is no number comes last.
    let rising = |score: f32| {
        let bits = score.to_bits();
        if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
    };
    maxima.extend(scores.chunks(PART).map(|part| rising(part.iter().copied().fold(f32::NEG_INFINITY, f32::max))));
    let place = maxima.len() - most;
    let (_, &mut least, _) = maxima.select_nth_unstable(place);
    let least = f32::from_bits(if least >> 31 == 1 { least & !(1 << 31) } else { !least });
    least.max(f32::MIN)
}

#[cfg(test)]
mod tests {
    use super::least_of_best;

    #[test]
    fn the_best_reach_the_least_of_them_and_few_others_do() {
        let mut seed = 7_u32;
        for (count, most) in [(3_000, 240), (961, 240), (960, 240), (10, 3), (0, 5), (5, 0)] {
            let mut next = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 8) as f32 / 1e6 - 9.0
            };
            let mut scores: Vec<f32> = (0..count).map(|_| next()).collect();
            if let Some(first) = scores.first_mut() {
                *first = f32::NAN;
            }
            let least = least_of_best(&scores, most, &mut Vec::new());
            let mut sorted = scores.clone();
            sorted.retain(|score| !score.is_nan());
            sorted.sort_unstable_by(|a, b| b.total_cmp(a));
            let reach = sorted.iter().filter(|score| **score >= least).count();
            assert!(reach >= most.min(sorted.len()), "{reach} of {count}");
            if count > 2_000 {
                assert!(reach < 2 * most, "{reach} of {count}");
            }
        }
    }
}
