//! How does an item stay in memory? As one run of bytes: most of a catalogue is words that are seldom asked for, and as strings, lists
//! and maps of their own they take three times as much.
//!
//! Lengths and counts are written in seven bits a byte, the lowest first (LEB128). What ranking asks of an item comes first and is read
//! where it lies.

use std::collections::BTreeMap;

use crate::domain::{Attribute, Item, ItemId, Timestamp};

/// Which of an item's optional fields it has.
const HAS_DURATION: u8 = 1;
const HAS_AGE_RATING: u8 = 2;
const HAS_FROM: u8 = 4;
const HAS_UNTIL: u8 = 8;

/// The kinds of an attribute's value.
const FLAG: u8 = 0;
const NUMBER: u8 = 1;
const TEXT: u8 = 2;
const TEXTS: u8 = 3;

/// An item as bytes, but for its id, which the catalogue has anyhow.
#[derive(Debug, Clone)]
pub(in crate::engine) struct PackedItem(Box<[u8]>);

impl PackedItem {
    pub(in crate::engine) fn new(item: &Item) -> Self {
        let Item { id: _, title, description, tags, categories, regions, duration_s, age_rating, .. } = item;
        let Item { available_from, available_until, attributes, .. } = item;
        let mut to = Writer(Vec::with_capacity(title.len() + description.len() + 256));
        let has = |present: bool, flag: u8| if present { flag } else { 0 };
        to.0.push(
            has(duration_s.is_some(), HAS_DURATION)
                | has(age_rating.is_some(), HAS_AGE_RATING)
                | has(available_from.is_some(), HAS_FROM)
                | has(available_until.is_some(), HAS_UNTIL),
        );
        to.0.extend(duration_s.iter().flat_map(|seconds| seconds.to_le_bytes()));
        to.texts(regions);
        to.0.extend(age_rating);
        to.0.extend([available_from, available_until].into_iter().flatten().flat_map(|at| at.0.to_le_bytes()));
        to.text(title);
        to.text(description);
        to.texts(tags);
        to.texts(categories);
        to.count(attributes.len());
        for (name, value) in attributes {
            to.text(name);
            to.attribute(value);
        }
        Self(to.0.into())
    }

    /// Playing time in seconds.
    pub(in crate::engine) fn duration_s(&self) -> Option<f32> {
        Reader(&self.0).head().and_then(|(_, duration_s)| duration_s)
    }

    /// Whether it names this region.
    pub(in crate::engine) fn names_region(&self, region: &str) -> bool {
        let mut from = Reader(&self.0);
        from.head()
            .and_then(|_| from.count())
            .is_some_and(|count| (0..count).map_while(|_| from.text()).any(|own| own == region))
    }

    /// The item that was packed, which has this id.
    pub(in crate::engine) fn unpack(&self, id: ItemId) -> Item {
        // What `new` has written can be read; if not, an item of which nothing is known harms less than a panic.
        Reader(&self.0).item(id.clone()).unwrap_or_else(|| Item::new(id))
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn count(&mut self, mut count: usize) {
        while count >= 0x80 {
            self.0.push(count as u8 | 0x80);
            count >>= 7;
        }
        self.0.push(count as u8);
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn texts(&mut self, texts: &[String]) {
        self.count(texts.len());
        texts.iter().for_each(|text| self.text(text));
    }

    fn attribute(&mut self, value: &Attribute) {
        match value {
            Attribute::Flag(flag) => self.0.extend([FLAG, u8::from(*flag)]),
            Attribute::Number(number) => {
                self.0.push(NUMBER);
                self.0.extend(number.to_le_bytes());
            }
            Attribute::Text(text) => {
                self.0.push(TEXT);
                self.text(text);
            }
            Attribute::Texts(texts) => {
                self.0.push(TEXTS);
                self.texts(texts);
            }
        }
    }
}

/// Everything is `None` where the bytes are not what a [`Writer`] makes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Which fields there are, and the playing time.
    fn head(&mut self) -> Option<(u8, Option<f32>)> {
        let [has] = self.array()?;
        let duration_s = if has & HAS_DURATION == 0 { None } else { Some(f32::from_le_bytes(self.array()?)) };
        Some((has, duration_s))
    }

    fn item(&mut self, id: ItemId) -> Option<Item> {
        let (has, duration_s) = self.head()?;
        let regions = self.texts()?;
        let age_rating = if has & HAS_AGE_RATING == 0 { None } else { Some(self.array::<1>()?[0]) };
        let mut at = |flag: u8| if has & flag == 0 { Some(None) } else { self.timestamp().map(Some) };
        let (available_from, available_until) = (at(HAS_FROM)?, at(HAS_UNTIL)?);
        let (title, description) = (self.text()?.to_owned(), self.text()?.to_owned());
        let (tags, categories) = (self.texts()?, self.texts()?);
        let mut attributes = BTreeMap::new();
        for _ in 0..self.count()? {
            attributes.insert(self.text()?.to_owned(), self.attribute()?);
        }
        let words = Item { title, description, tags, categories, regions, ..Item::new(id) };
        Some(Item { duration_s, age_rating, available_from, available_until, attributes, ..words })
    }

    fn attribute(&mut self) -> Option<Attribute> {
        let [kind] = self.array()?;
        match kind {
            FLAG => Some(Attribute::Flag(self.array::<1>()?[0] != 0)),
            NUMBER => Some(Attribute::Number(f64::from_le_bytes(self.array()?))),
            TEXT => Some(Attribute::Text(self.text()?.to_owned())),
            TEXTS => Some(Attribute::Texts(self.texts()?)),
            _ => None,
        }
    }

    fn timestamp(&mut self) -> Option<Timestamp> {
        Some(Timestamp(i64::from_le_bytes(self.array()?)))
    }

    fn count(&mut self) -> Option<usize> {
        let (mut count, mut shift) = (0_usize, 0);
        loop {
            let [byte] = self.array()?;
            count |= usize::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(count);
            }
            shift += 7;
        }
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.count()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn texts(&mut self) -> Option<Vec<String>> {
        let count = self.count()?;
        (0..count).map(|_| self.text().map(str::to_owned)).collect()
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute() -> impl Strategy<Value = Attribute> {
        prop_oneof![
            any::<bool>().prop_map(Attribute::Flag),
            (-1e9..1e9).prop_map(Attribute::Number),
            ".{0,300}".prop_map(Attribute::Text),
            prop::collection::vec(".{0,20}", 0..4).prop_map(Attribute::Texts),
        ]
    }

    fn item() -> impl Strategy<Value = Item> {
        let texts = || prop::collection::vec(".{0,9}", 0..4);
        let when = || prop::option::of(any::<i64>().prop_map(Timestamp));
        let words = (".{0,40}", ".{0,400}", texts(), texts(), texts());
        let attributes = prop::collection::btree_map(".{0,9}", attribute(), 0..4);
        let numbers = (prop::option::of(0.0..1e6_f32), prop::option::of(any::<u8>()), when(), when());
        (words, numbers, attributes).prop_map(|(words, numbers, attributes)| {
            let (title, description, tags, categories, regions) = words;
            let (duration_s, age_rating, available_from, available_until) = numbers;
            let id = ItemId::new("item").unwrap();
            let words = Item { title, description, tags, categories, regions, ..Item::new(id) };
            Item { duration_s, age_rating, available_from, available_until, attributes, ..words }
        })
    }

    proptest! {
        #[test]
        fn an_item_comes_back_as_it_was(item in item(), other in ".{0,3}") {
            let packed = PackedItem::new(&item);
            prop_assert_eq!(&packed.unpack(item.id.clone()), &item);
            prop_assert_eq!(packed.duration_s(), item.duration_s);
            for region in item.regions.iter().chain([&other]) {
                prop_assert_eq!(packed.names_region(region), item.regions.contains(region));
            }
        }

        #[test]
        fn bytes_that_are_no_item_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..64), item in item(), end in 0.0..1.0) {
            let packed = PackedItem::new(&item);
            let cut = &packed.0[..(end * packed.0.len() as f64) as usize];
            for bytes in [&bytes[..], cut] {
                let packed = PackedItem(bytes.into());
                let _ = (packed.duration_s(), packed.names_region("x"), packed.unpack(item.id.clone()));
            }
        }
    }
}
