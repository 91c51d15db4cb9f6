//! Where do the links lie? In flat arrays of numbers, a row for each node, that are read and written without a lock.
//!
//! A node of the lowest layer has the number of its slot. A node of a higher layer has a number of its own there, and its
//! row begins with its slot and its number one layer down. All that a reader can meet while a row is being rewritten is a
//! mixture of the old links and the new, each of which leads to a node: it may miss one or meet one twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// No node: the end of a row of links, or the mark of a slot that is not linked.
pub(super) const NONE: u32 = u32::MAX;

/// In place of a twin: there are no more.
pub(super) const END: u32 = u32::MAX - 1;

/// The most layers. Each has 1/`links` of the nodes of the one below, so this is more than is ever used.
pub(super) const MAX_LAYERS: usize = 12;

/// The rows of all layers, as many as there were when this list was made. It is replaced by a longer one, never changed.
#[derive(Debug, Clone)]
pub(super) struct Layers {
    links: usize,
    blocks: Vec<Vec<Arc<[AtomicU32]>>>,
}

impl Layers {
    pub(super) fn new(links: usize) -> Self {
        Self { links, blocks: vec![Vec::new(); MAX_LAYERS] }
    }

    /// The rows of a block: a power of two, given as its logarithm. Few on the small layers, so that little is left over.
    const fn block_bits(layer: usize) -> u32 {
        if layer == 0 { 11 } else { 7 }
    }

    /// What stands in a row before the links: the first twin; above the lowest layer the slot and the number below.
    const fn header(layer: usize) -> usize {
        if layer == 0 { 1 } else { 2 }
    }

    /// The most links of a node of this layer. On the lowest the header takes the place of one, so that with 16 links a row is
    /// two lines of the processor's cache.
    pub(super) fn most_links(&self, layer: usize) -> usize {
        if layer == 0 { self.links * 2 - 1 } else { self.links }
    }

    /// The numbers of a row.
    pub(super) fn width(&self, layer: usize) -> usize {
        Self::header(layer) + self.most_links(layer)
    }

    /// The rows there is room for.
    pub(super) fn room(&self, layer: usize) -> usize {
        self.blocks.get(layer).map_or(0, |blocks| blocks.len() << Self::block_bits(layer))
    }

    /// Makes room for the nodes below `nodes`.
    pub(super) fn grow(&mut self, layer: usize, nodes: usize) {
        let numbers = self.width(layer) << Self::block_bits(layer);
        let Some(blocks) = self.blocks.get_mut(layer) else { return };
        while blocks.len() << Self::block_bits(layer) < nodes {
            blocks.push((0..numbers).map(|_| AtomicU32::new(NONE)).collect());
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let numbers: usize = self.blocks.iter().flatten().map(|block| block.len()).sum();
        numbers * size_of::<AtomicU32>()
    }

    /// All numbers of a node's row. `None` for a node that came after this list.
    #[inline]
    pub(super) fn row(&self, layer: usize, node: u32) -> Option<&[AtomicU32]> {
        let (bits, width) = (Self::block_bits(layer), self.width(layer));
        let block = self.blocks.get(layer)?.get(node as usize >> bits)?;
        let start = (node as usize & ((1 << bits) - 1)) * width;
        block.get(start..start + width)
    }

    /// The places for a node's links; the first that holds [`NONE`] ends them.
    #[inline]
    pub(super) fn links_of(&self, layer: usize, node: u32) -> &[AtomicU32] {
        self.row(layer, node).and_then(|row| row.get(Self::header(layer)..)).unwrap_or_default()
    }

    /// The nodes that a node is linked to.
    #[inline]
    pub(super) fn neighbours(&self, layer: usize, node: u32) -> impl Iterator<Item = u32> {
        let links = self.links_of(layer, node).iter();
        links.map(|link| link.load(Ordering::Acquire)).take_while(|node| *node != NONE)
    }

    /// Puts these links in place of those a node has. The node's lock must be held if others can reach it.
    pub(super) fn set_links(&self, layer: usize, node: u32, links: impl Iterator<Item = u32>) {
        let places = self.links_of(layer, node);
        for (place, link) in places.iter().zip(links.chain(std::iter::repeat(NONE))) {
            place.store(link, Ordering::Release);
        }
    }

    /// The slot of a node.
    #[inline]
    pub(super) fn slot(&self, layer: usize, node: u32) -> Option<u32> {
        if layer == 0 { Some(node) } else { Some(self.row(layer, node)?.first()?.load(Ordering::Acquire)) }
    }

    /// The same node one layer down.
    pub(super) fn below(&self, layer: usize, node: u32) -> Option<u32> {
        if layer <= 1 { self.slot(layer, node) } else { Some(self.row(layer, node)?.get(1)?.load(Ordering::Acquire)) }
    }

    /// Says which slot a new node above the lowest layer stands for, and which node it is below.
    pub(super) fn place(&self, layer: usize, node: u32, slot: u32, below: u32) {
        if let Some([first, second, ..]) = self.row(layer, node) {
            first.store(slot, Ordering::Release);
            second.store(below, Ordering::Release);
        }
    }

    /// Where the first slot that shares the node of this slot is noted, and in the row of that one the next: [`END`] after
    /// the last, [`NONE`] in the row of a slot that the graph does not know.
    #[inline]
    pub(super) fn twin(&self, slot: u32) -> Option<&AtomicU32> {
        self.row(0, slot)?.first()
    }

    /// A node's slot and those that share it.
    pub(super) fn twins(&self, slot: u32) -> impl Iterator<Item = u32> {
        std::iter::successors(Some(slot), |slot| {
            let next = self.twin(*slot)?.load(Ordering::Acquire);
            (next < END).then_some(next)
        })
    }
}
