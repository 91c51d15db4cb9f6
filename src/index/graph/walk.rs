//! Which nodes of a layer are nearest to the query? Follow the links, always those of the best node not followed yet.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use smallvec::SmallVec;

use super::layers::Layers;
use super::visited::Scratch;
use crate::index::simd::{self, Kernels};
use crate::index::slots::View;

/// Rows fetched ahead of the one that is compared.
const AHEAD: usize = 4;

/// Layers above the lowest that are walked widely on the way down. Vectors lie in clusters that have little to do with each
/// other: a walk that follows only the best node ends in the wrong one too often, and finds nothing that is right.
const WIDE_LAYERS: usize = 2;

/// How widely those are walked. Of a million vectors in a thousand clusters, a search with an effort of 64 found .919 of the
/// ten nearest with 1, .957 with 16 and .958 with 48.
const WIDE_EFFORT: usize = 16;

/// A node and how alike it is, as one number that is greater the more alike it is.
#[inline]
pub(super) fn key(score: f32, node: u32) -> u64 {
    let bits = score.to_bits();
    let rising = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(rising) << 32 | u64::from(node)
}

/// The node in a [`key`].
#[inline]
pub(super) fn node_of(key: u64) -> u32 {
    key as u32
}

/// The score in a [`key`].
#[inline]
pub(super) fn score_of(key: u64) -> f32 {
    let rising = (key >> 32) as u32;
    f32::from_bits(if rising >> 31 == 1 { rising & !(1 << 31) } else { !rising })
}

/// A neighbour that is about to be compared.
#[derive(Clone, Copy)]
struct Met<'a> {
    node: u32,
    slot: u32,
    /// Its codes and inverse norm, if they need no lock.
    row: Option<(&'a [i8], &'a f32)>,
}

/// A walk through the graph towards a row of codes.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) kernels: &'static Kernels,
    pub(super) layers: &'a Layers,
    pub(super) view: &'a View,
    pub(super) codes: &'a [i8],
    pub(super) inverse_norm: f32,
}

impl Walk<'_> {
    /// The cosine with the codes of a slot; `None` if it is not in the view.
    #[inline]
    pub(super) fn score(&self, slot: u32) -> Option<f32> {
        if let Some((codes, inverse_norm)) = self.view.full_row(slot) {
            return Some(self.compare(codes, *inverse_norm));
        }
        let (codes, inverse_norm) = self.view.codes(slot)?;
        Some(self.compare(&codes, inverse_norm))
    }

    #[inline]
    fn compare(&self, codes: &[i8], inverse_norm: f32) -> f32 {
        self.kernels.dot_i8(self.codes, codes) as f32 * inverse_norm * self.inverse_norm
    }

    /// The key of a node; `None` if its slot is not in the view.
    pub(super) fn key(&self, layer: usize, node: u32) -> Option<u64> {
        Some(key(self.score(self.layers.slot(layer, node)?)?, node))
    }

    /// From the entry down to `layer`: nodes of it where a wide walk does well to begin. `None` if the view knows none.
    pub(super) fn approach(&self, top: usize, entry: u32, layer: usize, scratch: &mut Scratch) -> Option<Vec<u64>> {
        let mut at = vec![self.key(top, entry)?];
        for above in (layer + 1..=top).rev() {
            if above > WIDE_LAYERS {
                at = vec![self.descend(above, *at.first()?)];
            } else {
                self.widely(above, &at, WIDE_EFFORT, usize::MAX, scratch, |_| true);
                at = scratch.best.drain().map(|key| key.0).collect();
            }
            for at in &mut at {
                *at = key(score_of(*at), self.layers.below(above, node_of(*at))?);
            }
        }
        Some(at)
    }

    /// From a node to ever better neighbours, until there is none.
    fn descend(&self, layer: usize, from: u64) -> u64 {
        let mut best = from;
        loop {
            let before = best;
            for node in self.layers.neighbours(layer, node_of(before)) {
                best = self.key(layer, node).map_or(best, |key| key.max(best));
            }
            if best == before {
                return best;
            }
        }
    }

    /// Leaves in `scratch.best` the best `effort` of the nodes that can be reached from `from` and that `admit` lets in; the
    /// others are only passed through. Ends early after `steps` nodes, and says whether it did not.
    pub(super) fn widely(
        &self,
        layer: usize,
        from: &[u64],
        effort: usize,
        mut steps: usize,
        scratch: &mut Scratch,
        mut admit: impl FnMut(u32) -> bool,
    ) -> bool {
        let Scratch { visited, open, best } = scratch;
        visited.begin(self.layers.room(layer));
        open.clear();
        best.clear();
        let mut floor = 0;
        let mut offer = |key: u64, floor: &mut u64, open: &mut BinaryHeap<u64>| {
            if key <= *floor {
                return;
            }
            open.push(key);
            if admit(node_of(key)) {
                best.push(Reverse(key));
                if best.len() > effort {
                    best.pop();
                }
                if best.len() >= effort {
                    *floor = best.peek().map_or(0, |worst| worst.0);
                }
            }
        };
        for &key in from {
            if visited.insert(node_of(key)) {
                offer(key, &mut floor, open);
            }
        }
        while let Some(next) = open.pop() {
            if next < floor {
                break;
            }
            if steps == 0 {
                return false;
            }
            steps -= 1;
            let mut met: SmallVec<[Met<'_>; 64]> = SmallVec::new();
            for node in self.layers.neighbours(layer, node_of(next)) {
                if visited.insert(node)
                    && let Some(slot) = self.layers.slot(layer, node)
                {
                    let row = self.view.full_row(slot);
                    if met.len() < AHEAD {
                        fetch(row);
                    }
                    met.push(Met { node, slot, row });
                }
            }
            for place in 0..met.len() {
                if let Some(ahead) = met.get(place + AHEAD) {
                    fetch(ahead.row);
                }
                let Met { node, slot, row } = met[place];
                let score = match row {
                    Some((codes, inverse_norm)) => Some(self.compare(codes, *inverse_norm)),
                    None => self.score(slot),
                };
                if let Some(score) = score {
                    offer(key(score, node), &mut floor, open);
                }
            }
            if let Some(next) = open.peek() {
                simd::prefetch(self.layers.links_of(layer, node_of(*next)));
            }
        }
        true
    }
}

#[inline]
fn fetch(row: Option<(&[i8], &f32)>) {
    if let Some((codes, inverse_norm)) = row {
        simd::prefetch(codes);
        simd::prefetch(std::slice::from_ref(inverse_norm));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_ordered_like_scores() {
        let scores = [-1.0, -0.5, -1e-9, 0.0, 1e-9, 0.25, 1.0];
        let keys = scores.map(|score| key(score, 7));
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(keys.map(score_of), scores);
        assert!(keys.iter().all(|key| node_of(*key) == 7));
    }
}
