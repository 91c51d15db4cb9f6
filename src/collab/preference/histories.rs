//! Who turned to what lately? The latest engagements of each taste, within bounds.
//!
//! A taste is a person, or a session of which nobody knows whose it is; once that is known, its past becomes the person's.
//! What may be lost: the taste that was silent longest, when there are too many or they have too much, and a taste's oldest
//! items.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::{PreferenceOptions, Signal};
use crate::domain::{ItemNo, LoadError, StateReader, StateWriter, Timestamp, UserKey};

/// No slot.
const NONE: u32 = u32::MAX;

/// Whose taste it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Taste {
    /// A person's.
    User(UserKey),
    /// That of a session which is nobody's as far as is known.
    Session(u64),
}

/// An item that a taste turned to. Twelve bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Liked {
    /// The item.
    pub item: ItemNo,
    /// How sure it is that they like it; above 0.
    pub confidence: f32,
    /// When they last turned to it, in seconds since 1970.
    pub at_s: u32,
}

/// The histories of all tastes. Not synchronised: the owner locks it.
#[derive(Debug)]
pub(super) struct Histories {
    /// The slot of each taste that is known, by the taste, which the slot keeps.
    slots: HashTable<u32>,
    hasher: RandomState,
    tastes: Vec<Slot>,
    free: Vec<u32>,
    /// Ends of the list from the taste that was active last to the one that was silent longest.
    newest: u32,
    oldest: u32,
    limits: HistoryLimits,
    engagements: usize,
}

/// How much is remembered.
#[derive(Debug, Clone, Copy)]
pub(super) struct HistoryLimits {
    /// Tastes.
    pub(super) tastes: usize,
    /// Items of each.
    pub(super) items: usize,
    /// Items of all together.
    pub(super) engagements: usize,
}

impl HistoryLimits {
    pub(super) fn of(options: &PreferenceOptions) -> Self {
        let &PreferenceOptions { tastes, items_per_taste, engagements, .. } = options;
        Self { tastes, items: items_per_taste, engagements }
    }
}

#[derive(Debug)]
struct Slot {
    taste: Taste,
    /// Oldest first, each item once.
    liked: Vec<Liked>,
    newer: u32,
    older: u32,
}

impl Histories {
    pub(super) fn new(limits: HistoryLimits) -> Self {
        let items = limits.items.clamp(1, 1 << 16);
        let engagements = limits.engagements.max(items);
        Self {
            slots: HashTable::new(),
            hasher: RandomState::new(),
            tastes: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
            limits: HistoryLimits { tastes: limits.tastes.clamp(1, 1 << 30), items, engagements },
            engagements: 0,
        }
    }

    /// Takes in what an event says of an item; whether the item is new to the taste.
    pub(super) fn observe(&mut self, taste: Taste, item: ItemNo, signal: Signal, at: Timestamp) -> bool {
        let known = self.slot(taste);
        let at_s = u32::try_from(at.0.div_euclid(1000)).unwrap_or(if at.0 < 0 { 0 } else { u32::MAX });
        let place = known.and_then(|slot| self.tastes[slot as usize].liked.iter().rposition(|own| own.item == item));
        let before = known.zip(place).map(|(slot, place)| self.tastes[slot as usize].liked[place]);
        let Some(confidence) = signal.apply(before.map(|own| own.confidence)) else {
            if let (Some(slot), Some(place)) = (known, place) {
                self.tastes[slot as usize].liked.remove(place);
                self.engagements -= 1;
                if self.tastes[slot as usize].liked.is_empty() {
                    self.forget(taste);
                }
            }
            return false;
        };
        let slot = known.unwrap_or_else(|| self.add(taste));
        self.touch(slot);
        let liked = &mut self.tastes[slot as usize].liked;
        let engaged = matches!(signal, Signal::Engaged(_));
        match place.zip(before) {
            Some((place, before)) if !engaged || at_s < before.at_s => liked[place].confidence = confidence,
            Some((place, _)) => {
                liked.remove(place);
                insert(liked, Liked { item, confidence, at_s });
            }
            None => {
                insert(liked, Liked { item, confidence, at_s });
                self.engagements += 1;
                self.engagements -= bound(liked, self.limits.items);
                self.make_room();
            }
        }
        before.is_none()
    }

    /// A session turns out to be this person's.
    pub(super) fn claim(&mut self, session: u64, user: UserKey) {
        let Some(liked) = self.take(Taste::Session(session)) else { return };
        let slot = self.slot(Taste::User(user)).unwrap_or_else(|| self.add(Taste::User(user)));
        self.touch(slot);
        let own = &mut self.tastes[slot as usize].liked;
        let before = own.len();
        for new in liked {
            match own.iter().position(|old| old.item == new.item) {
                Some(place) => {
                    let old = own.remove(place);
                    let confidence = Signal::Engaged(new.confidence).apply(Some(old.confidence));
                    let confidence = confidence.unwrap_or(old.confidence);
                    insert(own, Liked { item: new.item, confidence, at_s: new.at_s.max(old.at_s) });
                }
                None => insert(own, new),
            }
        }
        bound(own, self.limits.items);
        self.engagements = self.engagements + own.len() - before;
    }

    /// What a taste turned to, oldest first.
    pub(super) fn of(&self, taste: Taste) -> &[Liked] {
        self.slot(taste).map_or(&[], |slot| &self.tastes[slot as usize].liked)
    }

    /// Forgets a taste; whether there was one.
    pub(super) fn forget(&mut self, taste: Taste) -> bool {
        self.take(taste).is_some()
    }

    /// Forgets an item of all tastes.
    pub(super) fn forget_item(&mut self, item: ItemNo) {
        let mut emptied = Vec::new();
        for slot in &mut self.tastes {
            if let Some(place) = slot.liked.iter().position(|own| own.item == item) {
                slot.liked.remove(place);
                self.engagements -= 1;
                if slot.liked.is_empty() {
                    emptied.push(slot.taste);
                }
            }
        }
        for taste in emptied {
            self.forget(taste);
        }
    }

    /// The items of every taste, in an order that does not depend on hashes.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[Liked]> {
        self.in_order().map(|slot| self.tastes[slot as usize].liked.as_slice())
    }

    /// How many tastes there are.
    pub(super) fn tastes(&self) -> usize {
        self.slots.len()
    }

    /// How many items they have in all.
    pub(super) fn engagements(&self) -> usize {
        self.engagements
    }

    /// Slots, the one silent longest first.
    fn in_order(&self) -> impl Iterator<Item = u32> {
        let there = |slot: u32| (slot != NONE).then_some(slot);
        std::iter::successors(there(self.oldest), move |&slot| there(self.tastes[slot as usize].newer))
    }

    /// The slot of a taste, if it is known.
    fn slot(&self, taste: Taste) -> Option<u32> {
        let is_its = |&slot: &u32| self.tastes[slot as usize].taste == taste;
        self.slots.find(self.hasher.hash_one(taste), is_its).copied()
    }

    fn add(&mut self, taste: Taste) -> u32 {
        if self.slots.len() >= self.limits.tastes && self.oldest != NONE {
            self.forget(self.tastes[self.oldest as usize].taste);
        }
        let new = Slot { taste, liked: Vec::new(), newer: NONE, older: NONE };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.tastes[slot as usize] = new;
                slot
            }
            None => {
                self.tastes.push(new);
                (self.tastes.len() - 1) as u32
            }
        };
        let Self { slots, hasher, tastes, .. } = self;
        slots.insert_unique(hasher.hash_one(taste), slot, |&slot| hasher.hash_one(tastes[slot as usize].taste));
        self.link(slot);
        slot
    }

    /// Forgets those that were silent longest until there is no more than there may be. What was touched last stays: alone
    /// it has not too much.
    fn make_room(&mut self) {
        while self.engagements > self.limits.engagements && self.oldest != self.newest {
            self.forget(self.tastes[self.oldest as usize].taste);
        }
    }

    fn take(&mut self, taste: Taste) -> Option<Vec<Liked>> {
        let hash = self.hasher.hash_one(taste);
        let (slot, _) = self.slots.find_entry(hash, |&slot| self.tastes[slot as usize].taste == taste).ok()?.remove();
        self.unlink(slot);
        self.free.push(slot);
        let liked = std::mem::take(&mut self.tastes[slot as usize].liked);
        self.engagements -= liked.len();
        Some(liked)
    }

    fn touch(&mut self, slot: u32) {
        if self.newest != slot {
            self.unlink(slot);
            self.link(slot);
        }
    }

    fn link(&mut self, slot: u32) {
        let before = std::mem::replace(&mut self.newest, slot);
        (self.tastes[slot as usize].older, self.tastes[slot as usize].newer) = (before, NONE);
        match before {
            NONE => self.oldest = slot,
            before => self.tastes[before as usize].newer = slot,
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Slot { newer, older, .. } = self.tastes[slot as usize];
        match newer {
            NONE => self.newest = older,
            newer => self.tastes[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.tastes[older as usize].newer = newer,
        }
    }
}

/// What outlives the process.
impl Histories {
    /// About how many bytes saving takes.
    pub(super) fn saved_bytes(&self) -> usize {
        64 + 24 * self.tastes() + 12 * self.engagements
    }

    /// Writes everything down.
    pub(super) fn save(&self, to: &mut StateWriter) {
        to.count(self.tastes());
        for slot in self.in_order() {
            let Slot { taste, liked, .. } = &self.tastes[slot as usize];
            match taste {
                Taste::User(UserKey(key)) => {
                    to.u8(0);
                    to.bytes(key);
                }
                Taste::Session(key) => {
                    to.u8(1);
                    to.u64(*key);
                }
            }
            to.count(liked.len());
            for own in liked {
                to.u32(own.item.0);
                to.f32(own.confidence);
                to.u32(own.at_s);
            }
        }
    }

    /// Reads what [`save`](Self::save) wrote; items are numbered below `items`. Where the bounds have become narrower, the
    /// latest are kept.
    pub(super) fn load(limits: HistoryLimits, items: usize, from: &mut StateReader<'_>) -> Result<Self, LoadError> {
        let mut histories = Self::new(limits);
        for _ in 0..from.count(13, usize::MAX)? {
            let taste = match from.u8()? {
                0 => Taste::User(UserKey(from.array()?)),
                1 => Taste::Session(from.u64()?),
                _ => return Err(LoadError::Damaged("a taste is neither a person's nor a session's")),
            };
            if histories.slot(taste).is_some() {
                return Err(LoadError::Damaged("a taste comes twice"));
            }
            let mut liked = Vec::with_capacity(from.count(12, 1 << 16)?);
            for _ in 0..liked.capacity() {
                let own = Liked { item: ItemNo(from.u32()?), confidence: from.f32()?, at_s: from.u32()? };
                if own.item.index() >= items || !own.confidence.is_finite() || own.confidence <= 0.0 {
                    return Err(LoadError::Damaged("a taste has an item that cannot be"));
                }
                liked.push(own);
            }
            let mut numbers: Vec<ItemNo> = liked.iter().map(|own| own.item).collect();
            numbers.sort_unstable();
            if liked.is_empty()
                || numbers.windows(2).any(|pair| pair[0] == pair[1])
                || liked.windows(2).any(|pair| pair[0].at_s > pair[1].at_s)
            {
                return Err(LoadError::Damaged("a taste's items are not in order"));
            }
            bound(&mut liked, histories.limits.items);
            let slot = histories.add(taste);
            histories.engagements += liked.len();
            histories.tastes[slot as usize].liked = liked;
            histories.make_room();
        }
        Ok(histories)
    }
}

/// In the order of time; after those of the same second.
fn insert(liked: &mut Vec<Liked>, new: Liked) {
    let place = liked.iter().rposition(|own| own.at_s <= new.at_s).map_or(0, |index| index + 1);
    if liked.len() == liked.capacity() {
        // Most tastes are small, so they grow by little.
        liked.reserve_exact(liked.len() / 4 + 2);
    }
    liked.insert(place, new);
}

/// Drops the oldest beyond `most`; how many.
fn bound(liked: &mut Vec<Liked>, most: usize) -> usize {
    let beyond = liked.len().saturating_sub(most);
    liked.drain(..beyond);
    beyond
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAY: Signal = Signal::Engaged(1.0);

    fn limits(tastes: usize, items: usize) -> HistoryLimits {
        HistoryLimits { tastes, items, engagements: usize::MAX }
    }

    fn user(n: u8) -> Taste {
        Taste::User(UserKey([n; 16]))
    }

    fn items(histories: &Histories, taste: Taste) -> Vec<u32> {
        histories.of(taste).iter().map(|own| own.item.0).collect()
    }

    fn see(histories: &mut Histories, taste: Taste, item: u32, s: i64) {
        histories.observe(taste, ItemNo(item), PLAY, Timestamp(s * 1000));
    }

    fn saved(histories: &Histories) -> Vec<u8> {
        let mut to = StateWriter::new(*b"test", 1, histories.saved_bytes());
        histories.save(&mut to);
        to.finish()
    }

    #[test]
    fn the_latest_items_are_kept_in_order() {
        assert_eq!(size_of::<Liked>(), 12);
        let mut histories = Histories::new(limits(10, 3));
        for (item, s) in [(1, 10), (2, 20), (3, 15), (1, 30), (4, 40), (9, 0)] {
            see(&mut histories, user(1), item, s);
        }
        assert_eq!(items(&histories, user(1)), [2, 1, 4], "the one from long ago is older than all that are kept");
        assert_eq!((histories.tastes(), histories.engagements()), (1, 3));
        histories.observe(user(1), ItemNo(4), Signal::AtMost(0.0), Timestamp(50_000));
        histories.observe(user(1), ItemNo(1), Signal::AtLeast(2.0), Timestamp(50_000));
        histories.observe(user(1), ItemNo(7), Signal::AtLeast(2.0), Timestamp(50_000));
        assert_eq!(items(&histories, user(1)), [2, 1]);
        assert_eq!(histories.of(user(1))[1].confidence, 2.0);
        histories.forget_item(ItemNo(2));
        histories.forget_item(ItemNo(1));
        assert_eq!((histories.tastes(), histories.engagements()), (0, 0));
    }

    #[test]
    fn the_taste_that_was_silent_longest_makes_room() {
        let mut histories = Histories::new(limits(3, 5));
        for n in 1..=3 {
            see(&mut histories, user(n), 1, i64::from(n));
        }
        see(&mut histories, user(1), 2, 9);
        see(&mut histories, user(4), 1, 10);
        assert!(histories.of(user(2)).is_empty());
        assert_eq!(items(&histories, user(1)), [1, 2]);
        assert!(histories.forget(user(3)) && !histories.forget(user(3)));
        see(&mut histories, user(5), 1, 11);
        assert_eq!((histories.tastes(), histories.engagements()), (3, 4));
        assert_eq!(histories.iter().map(<[Liked]>::len).collect::<Vec<_>>(), [2, 1, 1]);
    }

    #[test]
    fn who_has_much_takes_the_room_of_who_was_silent_longest() {
        let mut histories = Histories::new(HistoryLimits { tastes: 9, items: 5, engagements: 6 });
        for n in 1..=3 {
            see(&mut histories, user(n), 1, i64::from(n));
            see(&mut histories, user(n), 2, i64::from(n));
        }
        (3..=9).for_each(|item| see(&mut histories, user(2), item, 10));
        assert_eq!(items(&histories, user(2)), [5, 6, 7, 8, 9], "the last one stays, whatever it has");
        assert_eq!((histories.tastes(), histories.engagements()), (1, 5));
    }

    #[test]
    fn a_session_becomes_its_persons() {
        let mut histories = Histories::new(limits(9, 9));
        see(&mut histories, Taste::Session(5), 1, 10);
        see(&mut histories, Taste::Session(5), 2, 20);
        see(&mut histories, user(1), 2, 15);
        histories.claim(5, UserKey([1; 16]));
        histories.claim(6, UserKey([1; 16]));
        assert_eq!(items(&histories, user(1)), [1, 2]);
        assert!(histories.of(user(1))[1].confidence > 1.0);
        assert!(histories.of(Taste::Session(5)).is_empty());
        assert_eq!((histories.tastes(), histories.engagements()), (1, 2));
    }

    #[test]
    fn what_was_saved_comes_back() {
        let mut histories = Histories::new(limits(50, 4));
        for n in 0..400_u32 {
            let taste = if n % 3 == 0 { Taste::Session(u64::from(n % 41)) } else { user((n % 37) as u8) };
            see(&mut histories, taste, n * 7 % 60, i64::from(n * 13 % 500));
        }
        histories.forget(user(3));
        let bytes = saved(&histories);
        let load = |bytes: &[u8], tastes, most, items| {
            let mut from = StateReader::new(*b"test", 1, bytes)?;
            let loaded = Histories::load(limits(tastes, most), items, &mut from)?;
            from.end().map(|()| loaded)
        };
        let mut loaded = load(&bytes, 50, 4, 60).unwrap();
        assert!(saved(&loaded) == bytes);
        assert_eq!(loaded.engagements(), histories.engagements());
        for n in 0..200 {
            see(&mut histories, user((n % 53) as u8), n % 60, 600);
            see(&mut loaded, user((n % 53) as u8), n % 60, 600);
        }
        assert!(saved(&loaded) == saved(&histories), "it goes on the same");
        let narrow = load(&bytes, 10, 2, 60).unwrap();
        assert_eq!((narrow.tastes(), narrow.engagements() <= 20), (10, true));
        assert!(load(&bytes, 50, 4, 59).is_err(), "an item beyond the numbers");
        assert!((8..bytes.len()).all(|length| load(&bytes[..length], 50, 4, 60).is_err()));
    }
}
