//! How does a graph outlive the process? Its links as bytes, with a checksum, for the same rows.
//!
//! What is read is believed only after it was checked: every link leads to a node, every twin to a slot that is nobody
//! else's twin, so that no walk can leave the arrays or go round in circles. The rows themselves are not in it; their
//! checksum is, and a graph is only taken up with the rows it was built for.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::layers::{END, Layers, MAX_LAYERS, NONE};
use super::{Graph, entry_key};
use crate::domain::{LoadError, StateReader, StateWriter};
use crate::index::IndexSettings;
use crate::index::simd::Kernels;
use crate::index::slots::View;

const PART: [u8; 4] = *b"grph";

/// Another layout gets another number.
const VERSION: u32 = 2;

const CHECKSUM_BYTES: usize = 4;

impl Graph {
    /// The links as bytes, for [`from_bytes`](Self::from_bytes) with the same rows. Rows are not linked meanwhile.
    pub(in crate::index) fn to_bytes(&self, view: &View) -> Vec<u8> {
        let _at_rest = self.growing.lock();
        let layers = Arc::clone(&self.layers.read());
        let mut to = StateWriter::new(PART, VERSION, layers.bytes());
        to.count(self.links);
        to.count(self.stride);
        to.u64(self.seed);
        let covered = self.covered();
        to.count(covered);
        to.u32(rows_checksum(view, covered));
        to.u64(self.entry.load(Ordering::Acquire));
        for layer in 0..MAX_LAYERS {
            let nodes = if layer == 0 { covered } else { self.count(layer) };
            to.count(nodes);
            for node in 0..nodes as u32 {
                let row = layers.row(layer, node).unwrap_or_default();
                let header = row.len().saturating_sub(layers.most_links(layer));
                row.iter().take(header).for_each(|number| to.u32(number.load(Ordering::Acquire)));
                let links: Vec<u32> = layers.neighbours(layer, node).collect();
                to.u16(links.len() as u16);
                to.u32s(&links);
            }
        }
        let mut bytes = to.finish();
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The graph that [`to_bytes`](Self::to_bytes) wrote, over a view of the same rows, and maybe more.
    pub(in crate::index) fn from_bytes(
        settings: &IndexSettings,
        kernels: &'static Kernels,
        view: &View,
        bytes: &[u8],
    ) -> Result<Self, LoadError> {
        let (bytes, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(LoadError::Format)?;
        let mut from = StateReader::new(PART, VERSION, bytes)?;
        if crc32fast::hash(bytes) != u32::from_le_bytes(*checksum) {
            return Err(LoadError::Damaged("its checksum is wrong"));
        }
        let mut graph = Self::new(settings, kernels, view.stride());
        if from.u32()? as usize != graph.links {
            return Err(LoadError::Incompatible("number of links"));
        }
        if from.u32()? as usize != graph.stride {
            return Err(LoadError::Incompatible("number of dimensions"));
        }
        graph.seed = from.u64()?;
        let covered = from.count(0, view.used().min(END as usize))?;
        if from.u32()? != rows_checksum(view, covered) {
            return Err(LoadError::Incompatible("set of vectors"));
        }
        graph.entry.store(from.u64()?, Ordering::Release);
        let mut layers = Layers::new(graph.links);
        for layer in 0..MAX_LAYERS {
            // A row is at least its number of links.
            let nodes = from.count(2, covered)?;
            if layer == 0 && nodes != covered {
                return Err(DAMAGED);
            }
            layers.grow(layer, nodes);
            graph.counts[layer].store(nodes as u32, Ordering::Relaxed);
            for node in 0..nodes as u32 {
                read_row(&layers, layer, node, &mut from)?;
            }
        }
        from.end()?;
        let (nodes, folded) = check(&graph, &layers, covered)?;
        graph.nodes.store(nodes, Ordering::Relaxed);
        graph.folded.store(folded, Ordering::Relaxed);
        graph.covered.store(covered, Ordering::Release);
        *graph.layers.write() = Arc::new(layers);
        Ok(graph)
    }

    fn count(&self, layer: usize) -> usize {
        self.counts.get(layer).map_or(0, |count| count.load(Ordering::Relaxed) as usize)
    }
}

const DAMAGED: LoadError = LoadError::Damaged("its links lead nowhere");

fn rows_checksum(view: &View, covered: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for slot in 0..covered as u32 {
        if let Some((codes, inverse_norm)) = view.codes(slot) {
            // In the order of the bits of each code, so that it does not depend on the machine.
            let bytes: Vec<u8> = codes.iter().map(|code| *code as u8).collect();
            hasher.update(&bytes);
            hasher.update(&inverse_norm.to_le_bytes());
        }
    }
    hasher.finalize()
}

fn read_row(layers: &Layers, layer: usize, node: u32, from: &mut StateReader<'_>) -> Result<(), LoadError> {
    let row = layers.row(layer, node).ok_or(DAMAGED)?;
    let header = row.len().saturating_sub(layers.most_links(layer));
    for number in row.iter().take(header) {
        number.store(from.u32()?, Ordering::Relaxed);
    }
    let count = usize::from(from.u16()?);
    if count > layers.most_links(layer) {
        return Err(DAMAGED);
    }
    layers.set_links(layer, node, from.u32s(count)?);
    Ok(())
}

/// That nothing leads astray; the number of nodes and of slots that share one.
fn check(graph: &Graph, layers: &Layers, covered: usize) -> Result<(usize, usize), LoadError> {
    let next = |slot: u32| layers.twin(slot).map_or(NONE, |twin| twin.load(Ordering::Relaxed));
    let mut is_twin = vec![false; covered];
    for slot in (0..covered as u32).map(next).filter(|next| *next < END) {
        // The twin of two slots would make a circle possible.
        match is_twin.get_mut(slot as usize) {
            Some(is_twin) if !*is_twin => *is_twin = true,
            Some(_) | None => return Err(DAMAGED),
        }
    }
    // A chain that begins at a node and meets no slot twice ends. Slots that only follow each other are never reached.
    let is_node = |slot: u32| is_twin.get(slot as usize) == Some(&false) && next(slot) != NONE;
    let mut reached = 0;
    for slot in (0..covered as u32).filter(|slot| is_node(*slot)) {
        reached += layers.twins(slot).count();
        if layers.twins(slot).any(|slot| next(slot) == NONE) || layers.neighbours(0, slot).any(|n| !is_node(n)) {
            return Err(DAMAGED);
        }
    }
    for layer in 1..MAX_LAYERS {
        for node in 0..graph.count(layer) as u32 {
            let slot = layers.slot(layer, node).filter(|slot| is_node(*slot)).ok_or(DAMAGED)?;
            let below =
                layers.below(layer, node).filter(|below| layer == 1 || (*below as usize) < graph.count(layer - 1));
            let same = below.and_then(|below| layers.slot(layer - 1, below)) == Some(slot);
            if !same || layers.neighbours(layer, node).any(|n| n as usize >= graph.count(layer)) {
                return Err(DAMAGED);
            }
        }
    }
    let nodes = (0..covered as u32).filter(|slot| is_node(*slot)).count();
    let (layer, entry) = graph.entry();
    let known = if layer == 0 { is_node(entry) } else { layer < MAX_LAYERS && (entry as usize) < graph.count(layer) };
    let empty = graph.entry.load(Ordering::Relaxed) == u64::MAX;
    if (empty && nodes == 0) || (!empty && known && entry_key(layer, entry) == graph.entry.load(Ordering::Relaxed)) {
        Ok((nodes, reached - nodes))
    } else {
        Err(DAMAGED)
    }
}
