//! Where do the vectors live? Numbered slots that are written once, with the versions at which they came and went.
//!
//! Every change makes a new version. A search notes the version when it begins and looks only at slots that were
//! alive then, so what changes meanwhile cannot reach it: it sees all of an item's vectors or none. Slots are never
//! reused; when too many are dead, a fresh [`Slots`] takes over (see `adaptive`).

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{RwLock, RwLockReadGuard};
use roaring::RoaringBitmap;

use super::quantise::{self, Row, RowRef};
use super::{IndexError, MAX_VECTORS_PER_ITEM};
use crate::domain::{Embedding, ItemNo, Precision};

/// Slots of a chunk. Small enough that a writer waits only microseconds for a scan to leave the chunk, and that a chunk
/// stays in the processor's cache while several queries pass over it.
pub(super) const CHUNK_SLOTS: usize = 1024;

/// Versions are counted in 32 bits. Every change but a removal takes a slot, and there are no more removals than those.
const NEVER: u32 = u32::MAX;

/// The most slots, which leaves room for as many removals.
const MAX_SLOTS: usize = (u32::MAX / 2) as usize;

/// The vectors of one generation of the index.
pub(super) struct Slots {
    dims: usize,
    precision: Precision,
    stride: usize,
    /// A new list is put in place for every new chunk, so a search takes the list once and needs no lock after that.
    chunks: RwLock<Arc<Vec<Arc<Chunk>>>>,
    /// Held by a writer from beginning to end, so there is one at a time.
    directory: RwLock<Directory>,
    version: AtomicU32,
    used: AtomicUsize,
    live: AtomicUsize,
}

/// 1,024 slots: what they hold, and when they are alive.
pub(super) struct Chunk {
    /// The rows while there is room for more. Empty once the chunk is full.
    filling: RwLock<Rows>,
    /// The rows of a full chunk. They never change again, so nobody needs a lock to read them: a graph jumps from row to
    /// row, and a lock for each would cost as much as comparing it.
    full: OnceLock<Rows>,
    marks: Vec<Mark>,
}

/// The rows of a chunk, the parts of each [`Row`] one behind the other.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) codes: Vec<i8>,
    pub(super) inverse_norms: Vec<f32>,
    pub(super) rest: Vec<i8>,
    pub(super) excess: Vec<u16>,
}

/// The rows of a chunk, for reading.
pub(super) enum ChunkRows<'a> {
    /// They change no more.
    Full(&'a Rows),
    /// They are held still, and a writer waits.
    Filling(RwLockReadGuard<'a, Rows>),
}

struct Mark {
    item: AtomicU32,
    born: AtomicU32,
    died: AtomicU32,
}

/// The slots of an item: `count` of them from `first` on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u32,
    pub(super) count: u8,
}

/// Which slots belong to which item now.
#[derive(Default)]
struct Directory {
    /// Pages of runs by item number: numbers are dense, and a wild one costs a page, not an array up to it.
    pages: Vec<Option<Box<Page>>>,
    items: RoaringBitmap,
}

/// Runs, their halves apart so that no bytes lie fallow between them.
struct Page {
    firsts: [u32; PAGE_RUNS],
    counts: [u8; PAGE_RUNS],
}

const PAGE_RUNS: usize = 1024;

/// The slots as they were at one version.
#[derive(Clone)]
pub(super) struct View {
    stride: usize,
    chunks: Arc<Vec<Arc<Chunk>>>,
    version: u32,
    used: usize,
}

impl Slots {
    pub(super) fn new(dims: usize, precision: Precision) -> Self {
        Self {
            dims,
            precision,
            stride: quantise::stride(dims),
            chunks: RwLock::default(),
            directory: RwLock::default(),
            version: AtomicU32::new(0),
            used: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
        }
    }

    /// Gives `item` these rows in place of any it had, as one change.
    pub(super) fn put(&self, item: ItemNo, rows: &[Row]) -> Result<(), IndexError> {
        let mut directory = self.directory.write();
        let first = self.used.load(Ordering::Relaxed);
        let end = first + rows.len();
        let (Ok(run_first), Ok(count)) = (u32::try_from(first), u8::try_from(rows.len())) else {
            return Err(IndexError::Full);
        };
        if end > MAX_SLOTS {
            return Err(IndexError::Full);
        }
        self.make_room(end);
        let chunks = Arc::clone(&self.chunks.read());
        let version = self.version.load(Ordering::Relaxed) + 1;
        for (slot, row) in (first..).zip(rows) {
            let chunk = &chunks[slot / CHUNK_SLOTS];
            chunk.push(row, slot % CHUNK_SLOTS + 1 == CHUNK_SLOTS);
            let mark = &chunk.marks[slot % CHUNK_SLOTS];
            mark.item.store(item.0, Ordering::Relaxed);
            mark.born.store(version, Ordering::Release);
        }
        let old = directory.replace(item, Run { first: run_first, count });
        self.bury(&chunks, old, version);
        directory.items.insert(item.0);
        self.live.store(self.live.load(Ordering::Relaxed) + rows.len() - usize::from(old.count), Ordering::Relaxed);
        self.used.store(end, Ordering::Release);
        // Last: from here on a search sees the new slots and no longer the old ones.
        self.version.store(version, Ordering::Release);
        Ok(())
    }

    /// Lets the slots of `item` die, as one change; whether it had any.
    pub(super) fn remove(&self, item: ItemNo) -> bool {
        let mut directory = self.directory.write();
        let old = directory.replace(item, Run::default());
        if old.count == 0 {
            return false;
        }
        directory.items.remove(item.0);
        let version = self.version.load(Ordering::Relaxed) + 1;
        self.bury(&Arc::clone(&self.chunks.read()), old, version);
        self.live.store(self.live.load(Ordering::Relaxed) - usize::from(old.count), Ordering::Relaxed);
        self.version.store(version, Ordering::Release);
        true
    }

    /// Appends a slot as it was saved, `item`'s or dead; whether it can be right and there is room. For a new generation that
    /// nobody else knows yet.
    pub(super) fn restore(&self, item: Option<ItemNo>, row: &Row) -> bool {
        let mut directory = self.directory.write();
        let slot = self.used.load(Ordering::Relaxed);
        let Ok(number) = u32::try_from(slot) else { return false };
        self.make_room(slot + 1);
        let Some(chunk) = self.chunks.read().get(slot / CHUNK_SLOTS).cloned() else { return false };
        let mark = &chunk.marks[slot % CHUNK_SLOTS];
        let version = 1;
        if let Some(item) = item {
            let run = directory.run(item);
            let goes_on = run.slots().end == number;
            if run.count > 0 && (!goes_on || usize::from(run.count) >= MAX_VECTORS_PER_ITEM) {
                return false;
            }
            let first = if run.count > 0 { run.first } else { number };
            directory.replace(item, Run { first, count: run.count + 1 });
            directory.items.insert(item.0);
            mark.item.store(item.0, Ordering::Relaxed);
            self.live.store(self.live.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        } else {
            mark.died.store(version, Ordering::Release);
        }
        chunk.push(row, slot % CHUNK_SLOTS + 1 == CHUNK_SLOTS);
        mark.born.store(version, Ordering::Release);
        self.used.store(slot + 1, Ordering::Release);
        self.version.store(version, Ordering::Release);
        true
    }

    fn bury(&self, chunks: &[Arc<Chunk>], run: Run, version: u32) {
        for slot in run.slots() {
            chunks[slot as usize / CHUNK_SLOTS].marks[slot as usize % CHUNK_SLOTS]
                .died
                .store(version, Ordering::Release);
        }
    }

    fn make_room(&self, slots: usize) {
        let mut chunks = self.chunks.write();
        if chunks.len() * CHUNK_SLOTS < slots {
            let mut more = Vec::clone(&chunks);
            while more.len() * CHUNK_SLOTS < slots {
                more.push(Arc::new(Chunk::new()));
            }
            *chunks = Arc::new(more);
        }
    }

    /// The slots as they are now.
    pub(super) fn view(&self) -> View {
        // The version first: whatever is added after it is born later and stays unseen.
        let version = self.version.load(Ordering::Acquire);
        let used = self.used.load(Ordering::Acquire);
        View { stride: self.stride, chunks: Arc::clone(&self.chunks.read()), version, used }
    }

    /// The slots as they are now, and those of the items that `pick` chooses from all that are there.
    pub(super) fn view_of(&self, pick: impl FnOnce(&RoaringBitmap) -> RoaringBitmap) -> (View, Vec<u32>) {
        // While the directory is held nothing changes, so that the runs and the version belong together.
        let directory = self.directory.read();
        let view = self.view();
        let slots = pick(&directory.items).iter().flat_map(|item| directory.run(ItemNo(item)).slots()).collect();
        (view, slots)
    }

    /// What `ask` finds out about the set of items.
    pub(super) fn with_items<T>(&self, ask: impl FnOnce(&RoaringBitmap) -> T) -> T {
        ask(&self.directory.read().items)
    }

    /// The rows of an item; none if it is unknown.
    pub(super) fn rows(&self, item: ItemNo) -> Vec<Row> {
        let directory = self.directory.read();
        let view = self.view();
        directory.run(item).slots().map(|slot| view.row(slot)).collect()
    }

    /// Shows the rows of `items`, all of one state: calls `see` with the item's place, the row, and whether it
    /// is the item's last. Items that are not there are left out.
    pub(super) fn each_row(&self, items: &[ItemNo], mut see: impl FnMut(usize, RowRef<'_>, bool)) {
        let (runs, view) = {
            let directory = self.directory.read();
            let runs: Vec<Run> = items.iter().map(|&item| directory.run(item)).collect();
            (runs, self.view())
        };
        for (place, run) in runs.iter().enumerate() {
            for slot in run.slots() {
                let is_last = slot + 1 == run.slots().end;
                view.with_row(slot, |row| see(place, row, is_last));
            }
        }
    }

    /// Whether the item has these rows, be it that one or the other has been through half precision.
    pub(super) fn holds(&self, item: ItemNo, rows: &[Row]) -> bool {
        let directory = self.directory.read();
        let run = directory.run(item);
        if usize::from(run.count) != rows.len() {
            return false;
        }
        let view = self.view();
        run.slots().zip(rows).all(|(slot, row)| view.with_row(slot, |kept| kept.is_same(row.by_ref())) == Some(true))
    }

    /// The vectors of an item; none if it is unknown.
    pub(super) fn vectors(&self, item: ItemNo) -> Vec<Embedding> {
        self.rows(item).iter().filter_map(|row| row.by_ref().widen(self.dims)).collect()
    }

    /// The number of items.
    pub(super) fn items(&self) -> usize {
        usize::try_from(self.directory.read().items.len()).unwrap_or(usize::MAX)
    }

    /// The number of slots, living and dead.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// The number of living slots.
    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// How exactly rows are kept.
    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    /// The bytes of a row of codes.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    pub(super) fn bytes(&self) -> usize {
        let chunks = Arc::clone(&self.chunks.read());
        let rows = chunks.iter().map(|chunk| {
            let rows = chunk.rows();
            rows.codes.capacity()
                + rows.inverse_norms.capacity() * 4
                + rows.rest.capacity()
                + rows.excess.capacity() * 2
        });
        let marks = chunks.len() * CHUNK_SLOTS * size_of::<Mark>();
        let directory = self.directory.read();
        let pages = directory.pages.iter().flatten().count() * size_of::<Page>();
        rows.sum::<usize>() + marks + pages + directory.items.serialized_size()
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").field("used", &self.used()).field("live", &self.live()).finish_non_exhaustive()
    }
}

impl Chunk {
    fn new() -> Self {
        let mark = || Mark { item: AtomicU32::new(0), born: AtomicU32::new(NEVER), died: AtomicU32::new(NEVER) };
        let marks = (0..CHUNK_SLOTS).map(|_| mark()).collect();
        Self { filling: RwLock::default(), full: OnceLock::new(), marks }
    }

    fn push(&self, row: &Row, is_last: bool) {
        let mut rows = self.filling.write();
        rows.codes.extend_from_slice(&row.codes);
        rows.inverse_norms.push(row.inverse_norm);
        rows.rest.extend_from_slice(&row.rest);
        if !row.rest.is_empty() {
            rows.excess.push(row.excess);
        }
        if is_last {
            // Before the lock is let go: who comes next finds the rows in one place or the other.
            self.full.get_or_init(|| std::mem::take(&mut *rows).shrunk());
        }
    }

    fn rows(&self) -> ChunkRows<'_> {
        if let Some(rows) = self.full.get() {
            return ChunkRows::Full(rows);
        }
        let rows = self.filling.read();
        // They may have moved while this thread waited.
        self.full.get().map_or(ChunkRows::Filling(rows), ChunkRows::Full)
    }
}

impl Deref for ChunkRows<'_> {
    type Target = Rows;

    fn deref(&self) -> &Rows {
        match self {
            Self::Full(rows) => rows,
            Self::Filling(rows) => rows,
        }
    }
}

impl Run {
    pub(super) fn slots(self) -> std::ops::Range<u32> {
        self.first..self.first.saturating_add(self.count.into())
    }
}

impl Directory {
    fn run(&self, item: ItemNo) -> Run {
        let page = self.pages.get(item.index() / PAGE_RUNS).and_then(Option::as_ref);
        let place = item.index() % PAGE_RUNS;
        page.map(|page| Run { first: page.firsts[place], count: page.counts[place] }).unwrap_or_default()
    }

    fn replace(&mut self, item: ItemNo, run: Run) -> Run {
        let page = item.index() / PAGE_RUNS;
        if page >= self.pages.len() {
            if run.count == 0 {
                return Run::default();
            }
            self.pages.resize_with(page + 1, || None);
        }
        let empty = || Box::new(Page { firsts: [0; PAGE_RUNS], counts: [0; PAGE_RUNS] });
        let (page, place) = (self.pages[page].get_or_insert_with(empty), item.index() % PAGE_RUNS);
        let first = std::mem::replace(&mut page.firsts[place], run.first);
        Run { first, count: std::mem::replace(&mut page.counts[place], run.count) }
    }
}

impl View {
    /// The number of slots, living and dead.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// The bytes of a row of codes.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Whose slot this is, if it is alive.
    pub(super) fn item(&self, slot: u32) -> Option<ItemNo> {
        let mark = self.chunks.get(slot as usize / CHUNK_SLOTS)?.marks.get(slot as usize % CHUNK_SLOTS)?;
        let alive =
            mark.born.load(Ordering::Acquire) <= self.version && self.version < mark.died.load(Ordering::Acquire);
        alive.then(|| ItemNo(mark.item.load(Ordering::Relaxed)))
    }

    /// The rows of the chunk with this number. They may keep a writer waiting, so let go of them soon.
    pub(super) fn rows(&self, chunk: usize) -> Option<ChunkRows<'_>> {
        self.chunks.get(chunk).map(|chunk| chunk.rows())
    }

    /// The codes and the inverse norm of a row in a full chunk: without a lock, and as good as for ever.
    #[inline]
    pub(super) fn full_row(&self, slot: u32) -> Option<(&[i8], &f32)> {
        let rows = self.chunks.get(slot as usize / CHUNK_SLOTS)?.full.get()?;
        let place = slot as usize % CHUNK_SLOTS;
        Some((rows.codes_at(place, self.stride)?, rows.inverse_norms.get(place)?))
    }

    /// All of a row in a full chunk, the same way.
    #[inline]
    pub(super) fn full_ref(&self, slot: u32) -> Option<RowRef<'_>> {
        let rows = self.chunks.get(slot as usize / CHUNK_SLOTS)?.full.get()?;
        rows.row(slot as usize % CHUNK_SLOTS, self.stride)
    }

    /// What `see` makes of a row, which may keep a writer waiting; `None` if it was never written.
    #[inline]
    pub(super) fn with_row<T>(&self, slot: u32, see: impl FnOnce(RowRef<'_>) -> T) -> Option<T> {
        if let Some(row) = self.full_ref(slot) {
            return Some(see(row));
        }
        let rows = self.rows(slot as usize / CHUNK_SLOTS)?;
        Some(see(rows.row(slot as usize % CHUNK_SLOTS, self.stride)?))
    }

    /// The codes and the inverse norm of a row; a copy if its chunk still changes. `None` if it was never written.
    pub(super) fn codes(&self, slot: u32) -> Option<(Cow<'_, [i8]>, f32)> {
        if let Some((codes, inverse_norm)) = self.full_row(slot) {
            return Some((Cow::Borrowed(codes), *inverse_norm));
        }
        let rows = self.rows(slot as usize / CHUNK_SLOTS)?;
        let place = slot as usize % CHUNK_SLOTS;
        let codes = rows.codes_at(place, self.stride)?.to_vec();
        Some((Cow::Owned(codes), *rows.inverse_norms.get(place)?))
    }

    /// A copy of a row; empty if the slot was never written.
    pub(super) fn row(&self, slot: u32) -> Row {
        self.with_row(slot, |row| row.to_row()).unwrap_or_default()
    }
}

impl Rows {
    /// The codes of the row at this place of the chunk.
    #[inline]
    pub(super) fn codes_at(&self, place: usize, stride: usize) -> Option<&[i8]> {
        self.codes.get(place * stride..(place + 1) * stride)
    }

    /// The row at this place of the chunk.
    #[inline]
    pub(super) fn row(&self, place: usize, stride: usize) -> Option<RowRef<'_>> {
        let (rest, excess) = if self.rest.is_empty() {
            (&[][..], 0)
        } else {
            (self.rest.get(place * stride..(place + 1) * stride)?, *self.excess.get(place)?)
        };
        let inverse_norm = *self.inverse_norms.get(place)?;
        Some(RowRef { codes: self.codes_at(place, stride)?, inverse_norm, rest, excess })
    }

    /// The same without room for more.
    fn shrunk(mut self) -> Self {
        self.codes.shrink_to_fit();
        self.inverse_norms.shrink_to_fit();
        self.rest.shrink_to_fit();
        self.excess.shrink_to_fit();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f32]) -> Row {
        Row::new(&Embedding::unit(values.to_vec()).unwrap(), Precision::Int16)
    }

    fn rows(values: &[f32]) -> Vec<Row> {
        values.iter().map(|&v| row(&[v, 1.0])).collect()
    }

    fn alive(view: &View) -> Vec<u32> {
        (0..view.used() as u32).filter_map(|slot| view.item(slot)).map(|item| item.0).collect()
    }

    #[test]
    fn a_view_does_not_change() {
        let slots = Slots::new(2, Precision::Int16);
        slots.put(ItemNo(7), &rows(&[1.0, 2.0])).unwrap();
        let before = slots.view();
        slots.put(ItemNo(7), &rows(&[3.0])).unwrap();
        slots.put(ItemNo(8), &rows(&[4.0])).unwrap();
        let between = slots.view();
        assert!(slots.remove(ItemNo(7)));
        assert!(!slots.remove(ItemNo(7)));
        assert_eq!(alive(&before), [7, 7]);
        assert_eq!(alive(&between), [7, 8]);
        assert_eq!(alive(&slots.view()), [8]);
        assert_eq!((slots.items(), slots.live(), slots.used()), (1, 1, 4));
    }

    #[test]
    fn vectors_come_back_as_they_were_given() {
        let slots = Slots::new(2, Precision::Int16);
        let given = Embedding::unit(vec![0.6, -0.8]).unwrap();
        slots.put(ItemNo(u32::MAX), &[row(given.as_slice())]).unwrap();
        assert!(slots.vectors(ItemNo(u32::MAX))[0].cosine(&given) > 0.999_999);
        assert!(slots.vectors(ItemNo(0)).is_empty());
        assert!(!slots.remove(ItemNo(0)));
    }

    #[test]
    fn chunks_are_added_as_needed() {
        let slots = Slots::new(2, Precision::Int16);
        for item in 0..CHUNK_SLOTS as u32 {
            slots.put(ItemNo(item), &rows(&[1.0, 2.0, 3.0])).unwrap();
        }
        assert_eq!(slots.live(), 3 * CHUNK_SLOTS);
        let (view, listed) = slots.view_of(|items| items & RoaringBitmap::from([5, 1_000_000]));
        assert_eq!(listed, [15, 16, 17]);
        assert_eq!(view.row(17).codes.len(), slots.stride());
        assert!(slots.bytes() > 3 * CHUNK_SLOTS * slots.stride() * 2);
    }
}
