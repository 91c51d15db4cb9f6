//! How does a row become a node? It looks for its neighbours, chooses among them and is chosen by them.
//!
//! Neighbours are chosen so that they lie in different directions: a candidate that is more like a neighbour chosen before
//! than like the row itself is left out, because that neighbour leads to it. Both ends of a link choose this way.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU32, Ordering};

use smallvec::SmallVec;

use super::layers::{END, Layers, MAX_LAYERS, NONE};
use super::visited::Scratch;
use super::walk::{Walk, key, node_of, score_of};
use super::{Graph, entry_key};
use crate::index::quantise;
use crate::index::slots::View;

/// Rows at least this alike share a node.
const FOLD_FROM_COSINE: f32 = 0.9999;

/// How many slots before and after a slot are tried besides.
const BESIDE: u32 = 4;

/// From how many of the nearest nodes of a layer the search goes on one layer down.
const WAYS_DOWN: usize = 4;

impl Graph {
    /// Links a slot that the layers have room for and that is not linked yet.
    pub(super) fn link(&self, layers: &Layers, view: &View, slot: u32, scratch: &mut Scratch) {
        let Some(twin) = layers.twin(slot) else { return };
        let Some((codes, inverse_norm)) = view.codes(slot) else { return };
        if codes.len() != self.stride || twin.load(Ordering::Acquire) != NONE {
            return;
        }
        let walk = Walk { kernels: self.kernels, layers, view, codes: &codes, inverse_norm };
        let top = self.level_of(slot);
        let (entry_layer, entry) = self.entry();
        let mut chosen: [Vec<u32>; MAX_LAYERS] = Default::default();
        if entry != NONE {
            let Some(mut from) = walk.approach(entry_layer, entry, top.min(entry_layer), scratch) else { return };
            for layer in (0..=top.min(entry_layer)).rev() {
                if layer == 0 {
                    from.extend(self.linked_beside(&walk, slot));
                }
                walk.widely(layer, &from, self.build_effort, usize::MAX, scratch, |_| true);
                let mut near: Vec<u64> = scratch.best.drain().map(|key| key.0).collect();
                near.sort_unstable_by(|a, b| b.cmp(a));
                if layer == 0
                    && let Some(head) = self.twin_of(view, slot, &near)
                {
                    self.fold(layers, head, slot);
                    return;
                }
                chosen[layer] = self.choose(layers, view, layer, &near, self.links);
                from.clear();
                let ways = near.iter().take(WAYS_DOWN);
                from.extend(ways.filter_map(|n| Some(key(score_of(*n), layers.below(layer, node_of(*n))?))));
            }
        }
        // From the bottom up: a node that can be reached leads down.
        twin.store(END, Ordering::Release);
        self.nodes.fetch_add(1, Ordering::Relaxed);
        let mut node = slot;
        let mut placed = 0;
        for (layer, chosen) in chosen.iter().enumerate().take(top + 1) {
            if layer > 0 {
                let Some(number) = self.next_number(layers, layer) else { break };
                layers.place(layer, number, slot, node);
                node = number;
            }
            placed = layer;
            layers.set_links(layer, node, chosen.iter().copied());
            for neighbour in chosen {
                self.link_back(layers, view, layer, *neighbour, node);
            }
        }
        self.raise_entry(placed, node);
    }

    /// The linked slots just before and after a slot. Pictures that come one after the other are often alike, be they of one
    /// item or of one series, and if they are the first of their kind, the links may not lead to them yet.
    fn linked_beside(&self, walk: &Walk<'_>, slot: u32) -> impl Iterator<Item = u64> {
        let beside = (1..=BESIDE).flat_map(move |by| [slot.checked_sub(by), slot.checked_add(by)]).flatten();
        let linked = beside.filter(|slot| {
            // A slot that shares a node is no node itself, and has no links.
            walk.layers.links_of(0, *slot).first().is_some_and(|link| link.load(Ordering::Acquire) != NONE)
        });
        linked.filter_map(|slot| walk.key(0, slot)).collect::<SmallVec<[u64; 2 * BESIDE as usize]>>().into_iter()
    }

    /// A number for a new node above the lowest layer; `None` if there is no room.
    fn next_number(&self, layers: &Layers, layer: usize) -> Option<u32> {
        let count: &AtomicU32 = self.counts.get(layer)?;
        let room = u32::try_from(layers.room(layer)).unwrap_or(NONE);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |number| (number < room).then_some(number + 1)).ok()
    }

    fn raise_entry(&self, layer: usize, node: u32) {
        let raised = entry_key(layer, node);
        let is_higher = |entry: u64| (entry == u64::MAX || layer > (entry >> 32) as usize).then_some(raised);
        // Whether another was there first makes no difference.
        let _ = self.entry.fetch_update(Ordering::AcqRel, Ordering::Acquire, is_higher);
    }

    /// The node whose row is nearly equal to that of `slot`. Codes are too coarse to tell, so all that is kept decides.
    fn twin_of(&self, view: &View, slot: u32, near: &[u64]) -> Option<u32> {
        let mut near = near.iter().take(2).filter(|key| score_of(**key) > FOLD_FROM_COSINE - 0.01).peekable();
        near.peek()?;
        let own = quantise::padded(&view.with_row(slot, |row| row.widen(self.stride))??);
        near.map(|key| node_of(*key)).find(|&node| {
            view.with_row(node, |row| row.cosine(self.kernels, &own)).is_some_and(|cosine| cosine > FOLD_FROM_COSINE)
        })
    }

    fn fold(&self, layers: &Layers, head: u32, slot: u32) {
        let (Some(first), Some(own)) = (layers.twin(head), layers.twin(slot)) else { return };
        let in_front = |next: u32| {
            own.store(next, Ordering::Release);
            Some(slot)
        };
        let _ = first.fetch_update(Ordering::AcqRel, Ordering::Acquire, in_front);
        self.folded.fetch_add(1, Ordering::Release);
    }

    /// At most `most` of the candidates, which come best first.
    fn choose(&self, layers: &Layers, view: &View, layer: usize, near: &[u64], most: usize) -> Vec<u32> {
        let mut chosen: Vec<(u32, Cow<'_, [i8]>, f32)> = Vec::with_capacity(most);
        for &candidate in near {
            if chosen.len() >= most {
                break;
            }
            let node = node_of(candidate);
            let Some((codes, inverse_norm)) = layers.slot(layer, node).and_then(|slot| view.codes(slot)) else {
                continue;
            };
            let own = score_of(candidate);
            let led_to = chosen
                .iter()
                .any(|(_, other, norm)| self.kernels.dot_i8(&codes, other) as f32 * inverse_norm * norm > own);
            if !led_to {
                chosen.push((node, codes, inverse_norm));
            }
        }
        chosen.into_iter().map(|(node, ..)| node).collect()
    }

    /// Links `node` to `new`, if it is among those that `node` chooses.
    fn link_back(&self, layers: &Layers, view: &View, layer: usize, node: u32, new: u32) {
        let _lock = self.lock(layer, node).lock();
        let places = layers.links_of(layer, node);
        for place in places {
            let link = place.load(Ordering::Acquire);
            if link == new {
                return;
            }
            if link == NONE {
                place.store(new, Ordering::Release);
                return;
            }
        }
        let Some((codes, inverse_norm)) = layers.slot(layer, node).and_then(|slot| view.codes(slot)) else { return };
        let walk = Walk { kernels: self.kernels, layers, view, codes: &codes, inverse_norm };
        let mut near: Vec<u64> =
            layers.neighbours(layer, node).chain([new]).filter_map(|node| walk.key(layer, node)).collect();
        near.sort_unstable_by(|a, b| b.cmp(a));
        let chosen = self.choose(layers, view, layer, &near, places.len());
        layers.set_links(layer, node, chosen.into_iter());
    }
}
