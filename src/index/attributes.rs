//! Which items pass a filter, and which may be shown now? Answered with bitmaps, without looking at the items.
//!
//! The bitmaps agree with [`Filter::accepts`] and [`Item::available`] on every item; a property test holds them to it.
//! What may be shown is remembered until an item changes or a window opens or closes. Where that is everything,
//! [`AttributeIndex::restriction`] answers `None`, and a search need not ask.

mod availability;
mod open;
mod posting;
mod words;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use roaring::RoaringBitmap;

use self::availability::Availability;
use self::open::Open;
use self::posting::{Number, Posting};
use self::words::Words;
use crate::domain::{Attribute, Condition, Filter, Item, ItemNo, Test, Timestamp};

/// Bitmaps over the items' fields; changes while it is asked.
#[derive(Debug, Default)]
pub struct AttributeIndex {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    all: RoaringBitmap,
    words: Words,
    /// Field to its numbers in order, and to the items that have each.
    numbers: HashMap<Box<str>, BTreeMap<Number, Posting>>,
    availability: Availability,
    /// What may be shown, which most requests ask without any filter.
    open: Mutex<Open>,
}

impl AttributeIndex {
    /// No items.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in `item` in place of `before`, which must be what was taken in last under this number: the index itself does not keep
    /// what it has of each item.
    pub fn upsert(&self, number: ItemNo, before: Option<&Item>, item: &Item) {
        if before == Some(item) {
            return;
        }
        let mut state = self.state.write();
        if let Some(before) = before {
            state.remove(number.0, before);
        }
        state.insert(number.0, item);
    }

    /// Forgets an item, which must be what was taken in last under this number; whether it was there.
    pub fn remove(&self, number: ItemNo, item: &Item) -> bool {
        self.state.write().remove(number.0, item)
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        self.state.read().all.len() as usize
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The items that [`Filter::accepts`].
    pub fn allowed(&self, filter: &Filter) -> RoaringBitmap {
        let state = self.state.read();
        state.allowed(filter).unwrap_or_else(|| state.all.clone())
    }

    /// The items that `filter` accepts and that [may be shown](Item::available) at `now` in `region`; `None` if that
    /// is all of them, so that the search need not look.
    pub fn restriction(&self, filter: &Filter, now: Timestamp, region: Option<&str>) -> Option<RoaringBitmap> {
        self.state.read().restriction(filter, now, region)
    }

    /// The items that `filter` accepts and that [may be shown](Item::available) at `now` in `region`.
    pub fn allowed_now(&self, filter: &Filter, now: Timestamp, region: Option<&str>) -> RoaringBitmap {
        let state = self.state.read();
        state.restriction(filter, now, region).unwrap_or_else(|| state.all.clone())
    }

    /// About how many bytes of memory the index holds.
    pub fn bytes(&self) -> usize {
        let state = self.state.read();
        let numbers = state.numbers.values().flatten().map(|(_, posting)| 32 + posting.bytes());
        state.words.bytes() + numbers.sum::<usize>() + state.all.serialized_size()
    }
}

impl State {
    fn insert(&mut self, number: u32, item: &Item) {
        self.open.get_mut().forget();
        self.all.insert(number);
        words_of(item).iter().for_each(|(field, text)| self.words.insert(field, text, number));
        for (field, value) in numbers_of(item) {
            let posting = Posting::One(number);
            match self.numbers.get_mut(field) {
                Some(column) => {
                    column.entry(value).and_modify(|posting| posting.insert(number)).or_insert(posting);
                }
                None => drop(self.numbers.insert(field.into(), BTreeMap::from([(value, posting)]))),
            }
        }
        self.availability.insert(number, window_of(item), !item.regions.is_empty());
    }

    fn remove(&mut self, number: u32, item: &Item) -> bool {
        if !self.all.remove(number) {
            return false;
        }
        self.open.get_mut().forget();
        words_of(item).iter().for_each(|(field, text)| self.words.remove(field, text, number));
        for (field, value) in numbers_of(item) {
            let Some(column) = self.numbers.get_mut(field) else { continue };
            if column.get_mut(&value).is_some_and(|posting| posting.remove(number)) {
                column.remove(&value);
                if column.is_empty() {
                    self.numbers.remove(field);
                }
            }
        }
        self.availability.remove(number, window_of(item));
        true
    }

    fn restriction(&self, filter: &Filter, now: Timestamp, region: Option<&str>) -> Option<RoaringBitmap> {
        match (self.allowed(filter), self.open(now, region)) {
            (None, None) => None,
            (None, Some(open)) => Some(RoaringBitmap::clone(&open)),
            (Some(allowed), None) => Some(allowed),
            (Some(mut allowed), Some(open)) => {
                allowed &= &*open;
                Some(allowed)
            }
        }
        .filter(|allowed| allowed.len() < self.all.len())
    }

    /// The items that may be shown at `now` in `region`; `None` for all.
    fn open(&self, now: Timestamp, region: Option<&str>) -> Option<Arc<RoaringBitmap>> {
        if self.availability.is_open(region) {
            return None;
        }
        let mut remembered = self.open.lock();
        if let Some(open) = remembered.find(now, region) {
            return open;
        }
        let meant_for = |region: &str| self.words.items("region", region);
        let (unavailable, closed) = self.availability.unavailable(now, region, meant_for);
        let open = (!unavailable.is_empty()).then(|| Arc::new(&self.all - unavailable));
        remembered.keep(region, closed, open.clone());
        open
    }

    /// The items that the filter accepts; `None` for all.
    fn allowed(&self, filter: &Filter) -> Option<RoaringBitmap> {
        if filter.is_empty() {
            return None;
        }
        let mut allowed: Option<RoaringBitmap> = None;
        let mut narrow = |more: RoaringBitmap| match &mut allowed {
            Some(allowed) => *allowed &= more,
            none => *none = Some(more),
        };
        for condition in &filter.must {
            narrow(self.meeting(condition));
        }
        if !filter.should.is_empty() {
            narrow(filter.should.iter().fold(RoaringBitmap::new(), |any, condition| any | self.meeting(condition)));
        }
        let mut allowed = allowed.unwrap_or_else(|| self.all.clone());
        for condition in &filter.must_not {
            allowed -= self.meeting(condition);
        }
        Some(allowed)
    }

    /// The items that meet a condition.
    fn meeting(&self, condition: &Condition) -> RoaringBitmap {
        match &condition.test {
            Test::Any(values) => {
                let field = word_field(&condition.field);
                let mut any = if field == "region" {
                    // An item that names no region is meant for all, even for those that the filter does not know.
                    &self.all - self.availability.in_regions()
                } else {
                    RoaringBitmap::new()
                };
                for value in values {
                    any |= self.words.items(field, value);
                }
                any
            }
            Test::Range(range) => self
                .numbers
                .get(condition.field.as_str())
                .map(|column| posting::within(column, range))
                .unwrap_or_default(),
        }
    }
}

/// Names under which a condition on words can speak of the item's own fields; they hide attributes of the same name.
const WORD_FIELDS: [&str; 9] =
    ["item_id", "tag", "tags", "category", "categories", "region", "regions", "age_rating", "duration_s"];

/// Fields of the item that are numbers; they hide attributes of the same name from conditions on ranges.
const NUMBER_FIELDS: [&str; 2] = ["age_rating", "duration_s"];

fn word_field(name: &str) -> &str {
    match name {
        "tags" => "tag",
        "categories" => "category",
        "regions" => "region",
        other => other,
    }
}

/// The words of an item, each with its field's canonical name.
fn words_of(item: &Item) -> Vec<(&str, Cow<'_, str>)> {
    let mut words: Vec<(&str, Cow<'_, str>)> = vec![("item_id", item.id.as_str().into())];
    for (field, labels) in [("tag", &item.tags), ("category", &item.categories), ("region", &item.regions)] {
        words.extend(labels.iter().map(|label| (field, label.into())));
    }
    words.extend(item.age_rating.map(|age| ("age_rating", age.to_string().into())));
    words.extend(item.duration_s.map(|duration_s| ("duration_s", duration_s.to_string().into())));
    for (name, value) in &item.attributes {
        if WORD_FIELDS.contains(&name.as_str()) {
            continue;
        }
        match value {
            Attribute::Flag(flag) => words.push((name, if *flag { "true" } else { "false" }.into())),
            Attribute::Number(number) => words.push((name, number.to_string().into())),
            Attribute::Text(text) => words.push((name, text.into())),
            Attribute::Texts(texts) => words.extend(texts.iter().map(|text| (name.as_str(), text.into()))),
        }
    }
    words
}

/// The numbers of an item, each with its field's name.
fn numbers_of(item: &Item) -> Vec<(&str, Number)> {
    let age = item.age_rating.map(|age| ("age_rating", Number::new(age.into())));
    let duration = item.duration_s.map(|duration_s| ("duration_s", Number::new(duration_s.into())));
    let own = item.attributes.iter().filter_map(|(name, value)| match value {
        Attribute::Number(number) if !NUMBER_FIELDS.contains(&name.as_str()) => {
            Some((name.as_str(), Number::new(*number)))
        }
        Attribute::Number(_) | Attribute::Flag(_) | Attribute::Text(_) | Attribute::Texts(_) => None,
    });
    age.into_iter().chain(duration).chain(own).collect()
}

/// From when and until when it may be shown.
fn window_of(item: &Item) -> (Option<Timestamp>, Option<Timestamp>) {
    (item.available_from, item.available_until)
}

#[cfg(test)]
mod tests;
