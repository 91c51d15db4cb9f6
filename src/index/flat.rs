//! Which rows are most like the query, by looking at each? And which items, once the best rows are looked at closely?
//!
//! First the 8-bit codes of all rows are compared, in order, which is as fast as memory can be read; then the best are
//! ranked again, as exactly as they are kept. The coarse step errs by about 0.0005 at 320 dimensions, and keeps so many that
//! no row of the answer is lost in practice: the tests compare with a scan in full precision.

use std::ops::Range;

use super::SearchOptions;
use super::quantise::Query;
use super::simd::{self, Kernels};
use super::slots::{CHUNK_SLOTS, View};
use crate::domain::{ItemNo, Scored};

/// Rows fetched ahead of the one that is scored.
const ROWS_AHEAD: usize = 3;

/// The same for rows of a list, whose codes take less time to compare.
const LISTED_AHEAD: usize = 8;

/// A row that may belong to the answer, with its coarse score.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) slot: u32,
    pub(super) item: ItemNo,
    pub(super) score: f32,
}

/// The best `keep` candidates of those that were offered.
#[derive(Debug)]
pub(super) struct BestRows {
    keep: usize,
    rows: Vec<Candidate>,
    /// Rows that score no higher need not be offered.
    floor: f32,
    overflowed: bool,
}

impl BestRows {
    pub(super) fn new(keep: usize) -> Self {
        Self { keep: keep.max(1), rows: Vec::new(), floor: f32::NEG_INFINITY, overflowed: false }
    }

    pub(super) fn offer(&mut self, candidate: Candidate) {
        self.rows.push(candidate);
        if self.rows.len() >= self.keep.saturating_mul(2) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.rows.len() > self.keep {
            self.rows.select_nth_unstable_by(self.keep - 1, |a, b| b.score.total_cmp(&a.score));
            self.rows.truncate(self.keep);
            self.floor = self.rows.iter().fold(f32::INFINITY, |low, row| low.min(row.score));
            self.overflowed = true;
        }
    }

    /// The best, in no order, and whether others were left out.
    pub(super) fn into_rows(mut self) -> (Vec<Candidate>, bool) {
        self.cut();
        (self.rows, self.overflowed)
    }
}

/// Offers every living, admitted row in `slots` to the best of each query.
pub(super) fn scan(
    kernels: &Kernels,
    view: &View,
    slots: Range<usize>,
    queries: &[Query],
    options: &SearchOptions<'_>,
    best: &mut [BestRows],
) {
    let mut dots = [0_i32; CHUNK_SLOTS];
    let end = slots.end.min(view.used());
    let mut next = slots.start;
    while next < end {
        let (chunk, from) = (next / CHUNK_SLOTS, next % CHUNK_SLOTS);
        let count = (CHUNK_SLOTS - from).min(end - next);
        let base = next;
        next += count;
        let Some(rows) = view.rows(chunk) else { return };
        let Some(codes) = rows.codes.get(from * view.stride()..(from + count) * view.stride()) else { return };
        for (query, best) in queries.iter().zip(best.iter_mut()) {
            kernels.dots_i8(&query.codes, codes, &mut dots[..count]);
            for (place, (&dot, inverse_norm)) in dots[..count].iter().zip(&rows.inverse_norms[from..]).enumerate() {
                let score = dot as f32 * inverse_norm * query.inverse_norm;
                // Few rows get past this, so the filter, which costs as much as the product, is asked after it.
                if score > best.floor {
                    offer_if_admitted(view, base + place, score, options, best);
                }
            }
        }
    }
}

/// Offers the living, admitted ones of these slots to the best of each query. Fastest if `slots` are in order.
pub(super) fn scan_listed(
    kernels: &Kernels,
    view: &View,
    slots: &[u32],
    queries: &[Query],
    options: &SearchOptions<'_>,
    best: &mut [BestRows],
) {
    for slots in slots.chunk_by(|a, b| *a as usize / CHUNK_SLOTS == *b as usize / CHUNK_SLOTS) {
        let Some(rows) = slots.first().and_then(|slot| view.rows(*slot as usize / CHUNK_SLOTS)) else { continue };
        for (number, &slot) in slots.iter().enumerate() {
            // The processor cannot guess which comes next.
            if let Some((codes, _)) = slots.get(number + LISTED_AHEAD).and_then(|ahead| view.full_row(*ahead)) {
                simd::prefetch(codes);
            }
            let place = slot as usize % CHUNK_SLOTS;
            let (Some(codes), Some(inverse_norm)) =
                (rows.codes_at(place, view.stride()), rows.inverse_norms.get(place))
            else {
                continue;
            };
            for (query, best) in queries.iter().zip(best.iter_mut()) {
                let score = kernels.dot_i8(&query.codes, codes) as f32 * inverse_norm * query.inverse_norm;
                if score > best.floor {
                    offer_if_admitted(view, slot as usize, score, options, best);
                }
            }
        }
    }
}

fn offer_if_admitted(view: &View, slot: usize, score: f32, options: &SearchOptions<'_>, best: &mut BestRows) {
    let Ok(slot) = u32::try_from(slot) else { return };
    if let Some(item) = view.item(slot)
        && options.admits(item)
    {
        best.offer(Candidate { slot, item, score });
    }
}

/// Ranks rows again, as exactly as they are kept, and makes a list of items out of them, each scored by its best row.
pub(super) fn rank(
    kernels: &Kernels,
    view: &View,
    query: &Query,
    mut rows: Vec<Candidate>,
    options: &SearchOptions<'_>,
) -> Vec<Scored> {
    if !options.quick {
        rows.sort_unstable_by_key(|row| row.slot);
        rows.dedup_by_key(|row| row.slot);
        refine(kernels, view, query, &mut rows);
    }
    items(rows, options.limit)
}

/// Scores rows as exactly as they are kept; by how much the coarse scores were wrong, at most.
pub(super) fn refine(kernels: &Kernels, view: &View, query: &Query, rows: &mut [Candidate]) -> f32 {
    let mut error = 0.0_f32;
    for place in 0..rows.len() {
        if let Some(ahead) = rows.get(place + ROWS_AHEAD).and_then(|row| view.full_ref(row.slot)) {
            simd::prefetch(ahead.codes);
            simd::prefetch(ahead.rest);
        }
        let row = &mut rows[place];
        if let Some(score) = view.with_row(row.slot, |stored| query.cosine(kernels, stored)) {
            error = error.max((score - row.score).abs());
            row.score = score;
        }
    }
    error
}

/// The items that rows belong to, each once and scored by its best row, best first.
pub(super) fn items(mut rows: Vec<Candidate>, limit: usize) -> Vec<Scored> {
    rows.sort_unstable_by(|a, b| a.item.cmp(&b.item).then(b.score.total_cmp(&a.score)));
    rows.dedup_by_key(|row| row.item);
    let mut items: Vec<Scored> = rows.iter().map(|row| Scored { item: row.item, score: row.score }).collect();
    Scored::keep_best(&mut items, limit);
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_best_rows_are_kept() {
        let mut best = BestRows::new(3);
        for slot in 0..100_u32 {
            let score = (slot * 37 % 100) as f32;
            if score > best.floor {
                best.offer(Candidate { slot, item: ItemNo(slot), score });
            }
        }
        let (rows, overflowed) = best.into_rows();
        let mut scores: Vec<f32> = rows.iter().map(|row| row.score).collect();
        scores.sort_by(f32::total_cmp);
        assert_eq!((scores, overflowed), (vec![97.0, 98.0, 99.0], true));
    }

    #[test]
    fn few_rows_are_all_kept() {
        let mut best = BestRows::new(3);
        best.offer(Candidate { slot: 1, item: ItemNo(1), score: -0.5 });
        let (rows, overflowed) = best.into_rows();
        assert_eq!((rows.len(), overflowed), (1, false));
    }
}
