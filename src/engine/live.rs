//! What does the service know at this moment? Everything that is derived from the log, in memory.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::RwLock;

use super::applier::Change;
use super::catalogue::{Catalogue, Entry, PackedItem, Portrayed};
use super::gallery::Gallery;
use super::keep::Restored;
use super::parts::EngineOptions;
use crate::collab::{Collab, Engagement, ItemFeatures, Signal};
use crate::domain::{Event, ItemId, ItemNo, SessionId, Timestamp};
use crate::index::{AttributeIndex, TextIndex};
use crate::inference::Embedder;
use crate::session::{LiveSession, SessionTable};
use crate::store::ItemRecord;

/// The live state. It changes in two ways only: by changes from the log, in the log's order, and by frames, which are
/// not logged and are lost at a restart.
#[derive(Debug)]
pub(super) struct Live {
    /// Read by every request, written by item changes and by events on unknown items.
    pub(super) catalogue: RwLock<Catalogue>,
    pub(super) attributes: AttributeIndex,
    pub(super) text: RwLock<TextIndex>,
    /// The models in use and what they have seen. Exchanged while no change of the log is applied.
    gallery: ArcSwap<Gallery>,
    /// The models that are to take over once they have seen everything.
    coming: ArcSwapOption<Gallery>,
    pub(super) sessions: SessionTable,
    pub(super) collab: Collab,
    /// The newest items, newest first; at most [`NEWEST`].
    pub(super) newest: RwLock<Newest>,
}

impl Live {
    /// Nothing yet, or what a checkpoint brings back; the items are to come.
    pub(super) fn new(options: &EngineOptions, gallery: Gallery, restored: Option<Restored>) -> Self {
        let (catalogue, collab, sessions) = match restored {
            Some(Restored { catalogue, collab, sessions, .. }) => (catalogue, collab, sessions),
            None => (
                Catalogue::new(options.max_items),
                Collab::new(&options.collab_limits),
                SessionTable::new(options.session_limits),
            ),
        };
        Self {
            catalogue: RwLock::new(catalogue),
            attributes: AttributeIndex::new(),
            text: RwLock::new(TextIndex::default()),
            gallery: ArcSwap::from_pointee(gallery),
            coming: ArcSwapOption::empty(),
            sessions,
            collab,
            newest: RwLock::new(Newest::default()),
        }
    }

    /// The models in use and what they have seen, to be used from the beginning of a request to its end.
    pub(super) fn gallery(&self) -> Arc<Gallery> {
        self.gallery.load_full()
    }

    /// The models that are to take over.
    pub(super) fn coming(&self) -> Option<Arc<Gallery>> {
        self.coming.load_full()
    }

    /// The models that look at new pictures: those in use, and those that are to take over.
    pub(super) fn models(&self) -> Vec<Embedder> {
        let (gallery, coming) = (self.gallery(), self.coming());
        let mut models = gallery.ensemble.embedders().to_vec();
        for model in coming.iter().flat_map(|coming| coming.ensemble.embedders()) {
            if models.iter().all(|other| other.model_id() != model.model_id()) {
                models.push(model.clone());
            }
        }
        models
    }

    /// From here on changes of the log reach `coming` too.
    pub(super) fn expect(&self, coming: Option<Arc<Gallery>>) {
        self.coming.store(coming);
    }

    /// Puts what was coming in the place of what is there, which it returns. To be called while nothing is applied.
    pub(super) fn exchange(&self) -> Option<Arc<Gallery>> {
        let coming = self.coming.swap(None)?;
        Some(self.gallery.swap(coming))
    }

    /// Applies one change of the log.
    pub(super) fn apply(&self, change: Change) {
        match change {
            Change::Event(event) => self.apply_event(&event),
            Change::ItemPut(record) => self.apply_item(*record),
            Change::ItemDeleted(id) => self.forget_item(&id),
        }
    }

    /// Takes in an item; what it had before is replaced.
    pub(super) fn apply_item(&self, record: ItemRecord) {
        let Some(no) = self.catalogue.write().number_or_assign(&record.item.id) else {
            tracing::error!(item = %record.item.id, "no number is left for this item; raise index.max_items");
            return;
        };
        let gallery = self.gallery();
        gallery.take_in(no, &record);
        if let Some(coming) = &*self.coming.load() {
            coming.take_in(no, &record);
        }
        self.text.write().upsert(no, &record.item);
        let before = self.catalogue.read().entry(no).map(Entry::item);
        self.attributes.upsert(no, before.as_ref(), &record.item);
        let images = record
            .images
            .iter()
            .map(|image| Portrayed { sha256: image.sha256, width: image.width, height: image.height })
            .collect();
        self.newest.write().insert(record.created_at, no);
        let packed = PackedItem::new(&record.item);
        {
            let mut catalogue = self.catalogue.write();
            // The catalogue's own copy, which is shared.
            let id = catalogue.id(no).unwrap_or(&record.item.id).clone();
            // Last, so that whoever finds the item finds its vectors too.
            catalogue.put(no, Entry { id, packed, images, created_at: record.created_at });
        }
        // Only then, so that a training that is under way finds what it is told of. From the vectors as they are kept, as a training
        // has them: what has been guessed is then not guessed a little differently at the next start.
        self.collab.preference.describe_item(no, || ItemFeatures::of(&record.item, &gallery.vectors.get(no)));
    }

    /// The number of an item whose pictures in the catalogue are those of `record`.
    pub(super) fn number_if_same(&self, record: &ItemRecord) -> Option<ItemNo> {
        let catalogue = self.catalogue.read();
        let (no, entry) = catalogue.find(&record.item.id)?;
        entry.images.iter().map(|own| own.sha256).eq(record.images.iter().map(|image| image.sha256)).then_some(no)
    }

    /// Gives an item its number, whose contents are to come.
    pub(super) fn expect_item(&self, id: &ItemId) {
        self.number_of(id);
    }

    /// Takes an item out and forgets what was learned of it, also when its contents have not come yet.
    pub(super) fn forget_item(&self, id: &ItemId) {
        let mut catalogue = self.catalogue.write();
        let Some(no) = catalogue.number(id) else {
            return;
        };
        let item = catalogue.entry(no).map(Entry::item);
        catalogue.remove(id);
        drop(catalogue);
        if let Some(item) = item {
            self.attributes.remove(no, &item);
        }
        self.newest.write().remove(no);
        self.text.write().remove(no);
        self.gallery.load().forget(no);
        if let Some(coming) = &*self.coming.load() {
            coming.forget(no);
        }
        self.collab.forget_item(no);
    }

    /// Learns from an event.
    pub(super) fn apply_event(&self, event: &Event) {
        let Some(item) = self.number_of(&event.item) else {
            return;
        };
        let (history, region) = Self::observe_in(&self.sessions, event, item);
        let signal = {
            let catalogue = self.catalogue.read();
            let duration_s = catalogue.entry(item).and_then(|entry| entry.packed.duration_s());
            Signal::of(event.kind, event.watched_s, duration_s, event.value)
        };
        let session = session_key(&event.session);
        if let Signal::Engaged(confidence) = signal {
            self.collab.observe(Engagement {
                session,
                item,
                at: event.occurred_at,
                user: event.user,
                confidence,
                region: region.as_deref(),
                history: &history,
            });
        } else {
            // What is no engagement may still correct what was thought of one.
            self.collab.preference.observe(session, event.user, item, signal, event.occurred_at);
        }
    }

    /// What an item looks like to the models of `gallery` and is called, if it is in the catalogue.
    pub(super) fn features_of(&self, gallery: &Gallery, no: ItemNo) -> Option<ItemFeatures> {
        let item = self.catalogue.read().entry(no)?.item();
        Some(ItemFeatures::of(&item, &gallery.vectors.get(no)))
    }

    /// Takes an event into its session; returns the engagements before it, if it is one itself, and the session's region.
    /// The session counts as active when the event occurred, so that a bulk import of the past does not fill the table
    /// with the living dead.
    pub(super) fn observe_in(
        sessions: &SessionTable,
        event: &Event,
        item: ItemNo,
    ) -> (Vec<(ItemNo, Timestamp)>, Option<Arc<str>>) {
        let at = event.occurred_at;
        sessions.with(&event.session, at, |session| {
            if event.user.is_some() {
                session.user = event.user;
            }
            if let Some(region) = &event.region {
                session.region = Some(region.as_str().into());
            }
            let engaged = event.kind.is_engagement();
            let history = if engaged { Self::engagements(session) } else { Vec::new() };
            session.observe_event(event.kind, item, at, event.position_s, event.watched_s);
            (history, session.region.clone())
        })
    }

    /// What the log knows of a session's way: what requests said was on screen is not in the log, and must not be learned,
    /// or a restart would learn something else.
    fn engagements(session: &LiveSession) -> Vec<(ItemNo, Timestamp)> {
        session.items().filter(|i| i.kind.is_engagement()).map(|i| (i.item, i.at)).collect()
    }

    /// The number of an item that an event names; items that have not arrived yet get one too.
    fn number_of(&self, id: &ItemId) -> Option<ItemNo> {
        if let Some(no) = self.catalogue.read().number(id) {
            return Some(no);
        }
        self.catalogue.write().number_or_assign(id)
    }
}

/// A session's key in the collaborative models: the first eight bytes of its id's SHA-256, little-endian. The models are
/// kept on disk, so it must never change.
pub(super) fn session_key(id: &SessionId) -> u64 {
    let hash = ring::digest::digest(&ring::digest::SHA256, id.as_str().as_bytes());
    hash.as_ref().iter().take(8).rev().fold(0, |key, &byte| key << 8 | u64::from(byte))
}

/// How many items [`Newest`] remembers.
const NEWEST: usize = 256;

/// The items that were added last. Few, so a sorted list will do.
#[derive(Debug, Default)]
pub(super) struct Newest(Vec<(Timestamp, ItemNo)>);

impl Newest {
    fn insert(&mut self, created_at: Timestamp, item: ItemNo) {
        self.remove(item);
        // Items of the same instant stand in the order of their numbers, however they came.
        let place = self.0.partition_point(|&(at, other)| (at, other.0) > (created_at, item.0));
        if place < NEWEST {
            self.0.insert(place, (created_at, item));
            self.0.truncate(NEWEST);
        }
    }

    fn remove(&mut self, item: ItemNo) {
        self.0.retain(|&(_, other)| other != item);
    }

    /// The items, newest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = ItemNo> + '_ {
        self.0.iter().map(|&(_, item)| item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_the_same_key_for_ever() {
        // SHA-256 of "abc" begins ba7816bf 8f01cfea (FIPS 180-4).
        assert_eq!(
            session_key(&SessionId::new("abc").unwrap()),
            u64::from_le_bytes([0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea])
        );
    }

    #[test]
    fn the_newest_items_come_first_and_are_bounded() {
        let mut newest = Newest::default();
        for n in 0..300 {
            newest.insert(Timestamp(i64::from(n)), ItemNo(n));
        }
        newest.insert(Timestamp(0), ItemNo(298));
        newest.remove(ItemNo(297));
        assert_eq!(newest.iter().take(3).map(|no| no.0).collect::<Vec<_>>(), [299, 296, 295]);
        assert!(newest.iter().count() <= NEWEST);
    }
}
