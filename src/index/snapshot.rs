//! How does the index outlive the process? All slots and the graph's links, in one stream that is checked on reading.
//!
//! The stream is a header, the slots as they were at one moment (dead ones too, as links lead through them), a checksum of
//! both, and the graph if it is of our own make. What is read back answers like what was written and grows on from there;
//! a graph made with other settings is left out, and upkeep builds another.

use std::io::{self, Read, Write};

use super::adaptive::{AdaptiveIndex, AnyGraph};
use super::graph::Graph;
use super::quantise::Row;
use super::slots::Slots;
use super::{IndexError, IndexKind, IndexSettings};
use crate::domain::{ItemNo, LoadError, Precision};

const PART: [u8; 4] = *b"vidx";

/// Another layout gets another number.
const VERSION: u32 = 2;

/// The bytes of a slot before its codes: whether it is alive, its item.
const SLOT_HEADER_BYTES: usize = 1 + 4;

/// Why an index cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The stream failed, or ended early.
    #[error("the stream failed: {0}")]
    Io(#[from] io::Error),
    /// What it holds cannot be taken up.
    #[error(transparent)]
    State(#[from] LoadError),
    /// The settings cannot be right.
    #[error(transparent)]
    Settings(#[from] IndexError),
}

impl AdaptiveIndex {
    /// Writes the index as it is now, for [`load`](Self::load). Searches and changes go on meanwhile, upkeep waits.
    pub(super) fn write(&self, to: &mut dyn Write) -> Result<(), SnapshotError> {
        let _no_upkeep = self.pause_upkeep();
        let generation = self.generation();
        let view = generation.slots.view();
        let links = match generation.graph().as_deref() {
            Some(AnyGraph::Own(graph)) => graph.to_bytes(&view),
            Some(AnyGraph::Hnsw(_)) | None => Vec::new(),
        };
        let mut to = Checked { stream: to, checksum: crc32fast::Hasher::new() };
        to.write(&PART)?;
        let bits = row_bytes_a_number(self.settings.precision) * 8;
        for number in [VERSION, self.settings.dims as u32, bits as u32, view.used() as u32] {
            to.write(&number.to_le_bytes())?;
        }
        let mut bytes = Vec::with_capacity(SLOT_HEADER_BYTES + view.stride() * 2);
        for slot in 0..view.used() as u32 {
            let (item, row) = (view.item(slot), view.row(slot));
            bytes.clear();
            bytes.push(u8::from(item.is_some()));
            bytes.extend_from_slice(&item.map_or(0, |item| item.0).to_le_bytes());
            bytes.extend(row.codes.iter().chain(&row.rest).map(|code| *code as u8));
            to.write(&bytes)?;
        }
        let checksum = to.checksum.clone().finalize();
        to.write(&checksum.to_le_bytes())?;
        to.write(&(links.len() as u64).to_le_bytes())?;
        to.write(&links)?;
        Ok(to.stream.flush()?)
    }

    /// The index that [`write`](Self::write) wrote, under these settings.
    pub(super) fn load(settings: &IndexSettings, from: &mut dyn Read) -> Result<Self, SnapshotError> {
        let index = Self::new(settings)?;
        let mut from = Checked { stream: from, checksum: crc32fast::Hasher::new() };
        if from.array()? != PART || from.u32()? != VERSION {
            return Err(LoadError::Format.into());
        }
        if from.u32()? as usize != settings.dims {
            return Err(LoadError::Incompatible("number of dimensions").into());
        }
        if from.u32()? as usize != row_bytes_a_number(settings.precision) * 8 {
            return Err(LoadError::Incompatible("precision").into());
        }
        let used = from.u32()?;
        let generation = index.generation();
        read_slots(&generation.slots, used, &mut from)?;
        let checksum = from.checksum.clone().finalize();
        if from.u32()? != checksum {
            return Err(LoadError::Damaged("its checksum is wrong").into());
        }
        let length = u64::from_le_bytes(from.array()?);
        let mut links = Vec::new();
        // Grows as bytes come, so that a wrong length does not ask for memory that is not needed.
        from.stream.take(length).read_to_end(&mut links)?;
        if links.len() as u64 != length {
            return Err(LoadError::Damaged("it ends early").into());
        }
        if length > 0 && matches!(settings.kind, IndexKind::Graph | IndexKind::Auto) {
            match Graph::from_bytes(settings, index.kernels, &generation.slots.view(), &links) {
                Ok(graph) => generation.put_graph(AnyGraph::Own(graph)),
                Err(LoadError::Incompatible(_)) => {}
                Err(error @ (LoadError::Format | LoadError::Damaged(_))) => return Err(error.into()),
            }
        }
        Ok(index)
    }
}

fn read_slots(slots: &Slots, used: u32, from: &mut Checked<'_, dyn Read + '_>) -> Result<(), SnapshotError> {
    let stride = slots.stride();
    let mut bytes = vec![0; SLOT_HEADER_BYTES + stride * row_bytes_a_number(slots.precision())];
    for _ in 0..used {
        from.read(&mut bytes)?;
        let (header, row) = bytes.split_at(SLOT_HEADER_BYTES);
        // The instructions that compare codes rely on it.
        if row.contains(&(i8::MIN as u8)) {
            return Err(LoadError::Damaged("a vector is none").into());
        }
        let (codes, rest) = row.split_at(stride);
        let numbers = |bytes: &[u8]| bytes.iter().map(|byte| *byte as i8).collect();
        let row = Row::of(numbers(codes), numbers(rest));
        let item = (header[0] == 1).then(|| ItemNo(u32::from_le_bytes([header[1], header[2], header[3], header[4]])));
        if !slots.restore(item, &row) {
            return Err(LoadError::Damaged("an item's vectors do not lie together").into());
        }
    }
    Ok(())
}

fn row_bytes_a_number(precision: Precision) -> usize {
    match precision {
        Precision::Int8 => 1,
        Precision::Int16 => 2,
    }
}

/// A stream, and the checksum of what went through it.
struct Checked<'a, S: ?Sized> {
    stream: &'a mut S,
    checksum: crc32fast::Hasher,
}

impl<S: Write + ?Sized> Checked<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.checksum.update(bytes);
        self.stream.write_all(bytes)
    }
}

impl<S: Read + ?Sized> Checked<'_, S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.stream.read_exact(bytes)?;
        self.checksum.update(bytes);
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::domain::Embedding;
    use crate::index::{SearchOptions, Upkeep, VectorIndex};

    const DIMS: usize = 16;

    fn settings(kind: IndexKind) -> IndexSettings {
        IndexSettings { build_effort: 60, ..IndexSettings::new(DIMS).kind(kind) }
    }

    fn random(rng: &mut StdRng) -> Embedding {
        Embedding::unit((0..DIMS).map(|_| rng.random_range(-1.0_f32..1.0)).collect()).unwrap()
    }

    /// Items of one to three vectors, some replaced and some removed, most of them linked.
    fn example(rng: &mut StdRng, kind: IndexKind) -> (AdaptiveIndex, Vec<u8>) {
        let index = AdaptiveIndex::new(&settings(kind)).unwrap();
        for item in (0..600).chain(0..40) {
            let vectors: Vec<Embedding> = (0..=item % 3).map(|_| random(rng)).collect();
            index.upsert(ItemNo(item), &vectors).unwrap();
        }
        while index.maintain(&AtomicBool::new(false)) != Upkeep::Idle {}
        (50..80).for_each(|item| assert!(index.remove(ItemNo(item))));
        index.upsert(ItemNo(1_000), &[random(rng)]).unwrap();
        let mut bytes = Vec::new();
        index.write(&mut bytes).unwrap();
        (index, bytes)
    }

    #[test]
    fn an_index_comes_back_as_it_was() {
        let mut rng = StdRng::seed_from_u64(1);
        for kind in [IndexKind::Flat, IndexKind::Graph] {
            let (index, bytes) = example(&mut rng, kind);
            let loaded = AdaptiveIndex::load(&settings(kind), &mut bytes.as_slice()).unwrap();
            let (before, after) = (index.stats(), loaded.stats());
            assert_eq!((after.items, after.vectors, after.dead), (before.items, before.vectors, before.dead));
            assert_eq!((after.linked, after.linked > 0), (before.linked, kind == IndexKind::Graph));
            for item in [0, 39, 60, 100, 1_000] {
                assert_eq!(loaded.get(ItemNo(item)), index.get(ItemNo(item)));
            }
            for _ in 0..10 {
                let (query, options) = (random(&mut rng), SearchOptions::top(10));
                assert_eq!(loaded.search(query.as_slice(), &options), index.search(query.as_slice(), &options));
            }
            let vector = random(&mut rng);
            for index in [&index, &loaded] {
                index.upsert(ItemNo(7), std::slice::from_ref(&vector)).unwrap();
                assert!(index.remove(ItemNo(8)));
                assert_eq!(index.search(vector.as_slice(), &SearchOptions::top(1)).unwrap()[0].item, ItemNo(7));
            }
            assert_eq!(loaded.len(), index.len());
        }
    }

    #[test]
    fn a_graph_made_otherwise_is_left_out() {
        let (index, bytes) = example(&mut StdRng::seed_from_u64(2), IndexKind::Graph);
        for other in [settings(IndexKind::Flat), IndexSettings { links: 8, ..settings(IndexKind::Graph) }] {
            let loaded = AdaptiveIndex::load(&other, &mut bytes.as_slice()).unwrap();
            assert_eq!((loaded.len(), loaded.stats().linked), (index.len(), 0));
        }
        let wider = AdaptiveIndex::load(&IndexSettings::new(DIMS + 1), &mut bytes.as_slice());
        assert!(matches!(wider, Err(SnapshotError::State(LoadError::Incompatible(_)))));
    }

    #[test]
    fn damage_is_refused() {
        let mut rng = StdRng::seed_from_u64(3);
        let (_, bytes) = example(&mut rng, IndexKind::Graph);
        for _ in 0..40 {
            let place = rng.random_range(0..bytes.len());
            let mut damaged = bytes.clone();
            damaged[place] ^= 1 << rng.random_range(0..8);
            assert!(AdaptiveIndex::load(&settings(IndexKind::Graph), &mut damaged.as_slice()).is_err(), "at {place}");
            assert!(AdaptiveIndex::load(&settings(IndexKind::Graph), &mut &bytes[..place]).is_err(), "up to {place}");
        }
    }
}
