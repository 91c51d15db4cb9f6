//! Which items are there, and which number does each have in this process?

mod packed;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub(super) use self::packed::PackedItem;
use crate::domain::{Item, ItemId, ItemNo, LoadError, StateReader, StateWriter, Timestamp};

/// Marks saved numbers, and their layout: another one gets another version.
const PART: [u8; 4] = *b"numb";
const VERSION: u32 = 1;

/// An item of the catalogue and its pictures.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The item's id.
    pub(super) id: ItemId,
    /// All the rest of it.
    pub(super) packed: PackedItem,
    /// Its pictures, in their order.
    pub(super) images: Arc<[Portrayed]>,
    /// When it was first written.
    pub(super) created_at: Timestamp,
}

impl Entry {
    /// The item.
    pub(super) fn item(&self) -> Item {
        self.packed.unpack(self.id.clone())
    }
}

/// A picture of an item that has been embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Portrayed {
    /// SHA-256 of the uploaded file.
    pub(super) sha256: [u8; 32],
    /// Width in pixels.
    pub(super) width: u32,
    /// Height in pixels.
    pub(super) height: u32,
}

/// Items by id and by number. An id keeps its number for as long as the process runs, and beyond if the numbers are
/// [saved](Catalogue::save_numbers), also when its item is deleted or has not arrived yet: events may come before the
/// item that they name.
#[derive(Debug)]
pub(super) struct Catalogue {
    numbers: HashMap<ItemId, ItemNo>,
    ids: Vec<ItemId>,
    /// By number; `None` for ids that only events have named, and for deleted items.
    entries: Vec<Option<Entry>>,
    /// Ids of present items in their order, for pages.
    present: BTreeMap<ItemId, ItemNo>,
    /// The most ids that are given a number; events on further unknown items are logged but not learned from.
    max_ids: usize,
}

impl Catalogue {
    pub(super) fn new(max_ids: usize) -> Self {
        Self { numbers: HashMap::new(), ids: Vec::new(), entries: Vec::new(), present: BTreeMap::new(), max_ids }
    }

    /// The number of `id`, a new one if it has none; `None` once all numbers are given out.
    pub(super) fn number_or_assign(&mut self, id: &ItemId) -> Option<ItemNo> {
        if let Some(&no) = self.numbers.get(id) {
            return Some(no);
        }
        if self.ids.len() >= self.max_ids {
            return None;
        }
        let no = ItemNo(u32::try_from(self.ids.len()).ok()?);
        self.numbers.insert(id.clone(), no);
        self.ids.push(id.clone());
        self.entries.push(None);
        Some(no)
    }

    /// The number of `id`, if it has one.
    pub(super) fn number(&self, id: &ItemId) -> Option<ItemNo> {
        self.numbers.get(id).copied()
    }

    /// The id behind a number.
    pub(super) fn id(&self, no: ItemNo) -> Option<&ItemId> {
        self.ids.get(no.index())
    }

    /// The item behind a number, if it is present.
    pub(super) fn entry(&self, no: ItemNo) -> Option<&Entry> {
        self.entries.get(no.index())?.as_ref()
    }

    /// The present item of this id.
    pub(super) fn find(&self, id: &ItemId) -> Option<(ItemNo, &Entry)> {
        let no = self.number(id)?;
        Some((no, self.entry(no)?))
    }

    /// Puts an item at its number; `true` if it is new. The number must come from this catalogue.
    pub(super) fn put(&mut self, no: ItemNo, entry: Entry) -> bool {
        let id = entry.id.clone();
        let Some(place) = self.entries.get_mut(no.index()) else {
            return false;
        };
        *place = Some(entry);
        self.present.insert(id, no).is_none()
    }

    /// Takes an item out; its id keeps its number.
    pub(super) fn remove(&mut self, id: &ItemId) -> Option<ItemNo> {
        let no = self.present.remove(id)?;
        if let Some(place) = self.entries.get_mut(no.index()) {
            *place = None;
        }
        Some(no)
    }

    /// Up to `limit` present items in the order of their ids, from `from` on.
    pub(super) fn page(&self, from: Option<&ItemId>, limit: usize) -> impl Iterator<Item = &Entry> {
        let start = from.map_or(std::ops::Bound::Unbounded, |id| std::ops::Bound::Included(id.clone()));
        self.present.range((start, std::ops::Bound::Unbounded)).take(limit).filter_map(|(_, &no)| self.entry(no))
    }

    /// The numbers of the present items.
    pub(super) fn numbers(&self) -> impl Iterator<Item = ItemNo> + '_ {
        self.present.values().copied()
    }

    /// How many items are present.
    pub(super) fn len(&self) -> usize {
        self.present.len()
    }
}

/// What outlives the process.
impl Catalogue {
    /// A catalogue without items in which the ids have the numbers that were [saved](Self::save_numbers).
    pub(super) fn with_numbers(max_ids: usize, bytes: &[u8]) -> Result<Self, LoadError> {
        let mut from = StateReader::new(PART, VERSION, bytes)?;
        // Five bytes are the shortest id and its length.
        let count = from.count(5, usize::MAX)?;
        if count > max_ids {
            return Err(LoadError::Incompatible("bound on item ids, now a lower one"));
        }
        let mut catalogue = Self::new(max_ids);
        catalogue.numbers.reserve(count);
        catalogue.ids.reserve_exact(count);
        for number in 0..count {
            let id = ItemId::new(from.text()?).map_err(|_| LoadError::Damaged("an item's id is none"))?;
            if catalogue.number_or_assign(&id).map(ItemNo::index) != Some(number) {
                return Err(LoadError::Damaged("an item's id comes twice"));
            }
        }
        from.end()?;
        Ok(catalogue)
    }

    /// The ids in the order of their numbers, as bytes for [`with_numbers`](Self::with_numbers). Everything that names
    /// items by number and is saved at the same moment is understood with them.
    pub(super) fn save_numbers(&self) -> Vec<u8> {
        let text: usize = self.ids.iter().map(|id| id.as_str().len()).sum();
        let mut to = StateWriter::new(PART, VERSION, 4 + 4 * self.ids.len() + text);
        to.count(self.ids.len());
        self.ids.iter().for_each(|id| to.text(id.as_str()));
        to.finish()
    }

    /// How many numbers have been given out.
    pub(super) fn numbered(&self) -> usize {
        self.ids.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ItemId {
        ItemId::new(text).unwrap()
    }

    fn entry(text: &str) -> Entry {
        let packed = PackedItem::new(&Item::new(id(text)));
        Entry { id: id(text), packed, images: Arc::new([]), created_at: Timestamp(0) }
    }

    #[test]
    fn an_id_keeps_its_number() {
        let mut catalogue = Catalogue::new(10);
        let no = catalogue.number_or_assign(&id("a")).unwrap();
        assert!(catalogue.find(&id("a")).is_none(), "named by an event only");
        assert!(catalogue.put(no, entry("a")));
        assert!(!catalogue.put(no, entry("a")));
        assert_eq!(catalogue.remove(&id("a")), Some(no));
        assert_eq!(catalogue.remove(&id("a")), None);
        assert_eq!(catalogue.number_or_assign(&id("a")), Some(no));
        assert_eq!(catalogue.len(), 0);
    }

    #[test]
    fn numbers_are_bounded() {
        let mut catalogue = Catalogue::new(1);
        assert!(catalogue.number_or_assign(&id("a")).is_some());
        assert!(catalogue.number_or_assign(&id("b")).is_none());
        assert!(catalogue.number_or_assign(&id("a")).is_some());
    }

    #[test]
    fn numbers_outlive_the_process() {
        let mut before = Catalogue::new(10);
        for name in ["c", "a", "bü"] {
            let no = before.number_or_assign(&id(name)).unwrap();
            before.put(no, entry(name));
        }
        let bytes = before.save_numbers();
        let mut after = Catalogue::with_numbers(10, &bytes).unwrap();
        assert_eq!((after.numbered(), after.len()), (3, 0));
        assert_eq!(after.number(&id("bü")), Some(ItemNo(2)));
        assert_eq!(after.number_or_assign(&id("d")), Some(ItemNo(3)));
        assert_eq!(after.id(ItemNo(0)), Some(&id("c")));
        assert!(matches!(Catalogue::with_numbers(2, &bytes), Err(LoadError::Incompatible(_))));
        for length in 0..bytes.len() {
            assert!(Catalogue::with_numbers(10, &bytes[..length]).is_err());
        }
        let mut twice = bytes;
        // The only letter of the second id.
        twice[8 + 4 + 5 + 4] = b'c';
        assert!(matches!(Catalogue::with_numbers(10, &twice), Err(LoadError::Damaged(_))));
    }

    #[test]
    fn pages_go_by_id() {
        let mut catalogue = Catalogue::new(10);
        for name in ["c", "a", "b"] {
            let no = catalogue.number_or_assign(&id(name)).unwrap();
            catalogue.put(no, entry(name));
        }
        let names = |from: Option<&ItemId>, n| -> Vec<String> {
            catalogue.page(from, n).map(|e| e.id.as_str().to_owned()).collect()
        };
        assert_eq!(names(None, 2), ["a", "b"]);
        assert_eq!(names(Some(&id("b")), 5), ["b", "c"]);
    }
}
