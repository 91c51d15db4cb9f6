//! How are starts kept short and the log within bounds? Checkpoints now and then, and the oldest entries go.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::Engine;
use super::catalogue::Catalogue;
use super::parts::{EngineOptions, Parts};
use crate::collab::{Collab, Preference};
use crate::domain::Timestamp;
use crate::session::SessionTable;
use crate::store::{Checkpoint, Store, StoreError, Trim};

/// Sections of a checkpoint.
const NUMBERS: &str = "numbers";
const COLLAB: &str = "collab";
const SESSIONS: &str = "sessions";
/// Absent in checkpoints of older versions.
const RANKING: &str = "ranking";
/// The id of the models in use. Not in checkpoints of earlier versions.
const MODELS: &str = "models";
/// Not in checkpoints of earlier versions, which are used nonetheless.
const PREFERENCE: &str = "preference";

/// Entries that go with one commit: few, so that writers do not wait.
const TRIMMED_AT_ONCE: u64 = 2_000;

/// How often the log is looked at, in seconds.
const TRIM_EVERY_S: f64 = 60.0;

/// How long entries of the log are kept.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Retention {
    /// Seconds after which an entry may go; `None` for never.
    pub age_s: Option<f64>,
    /// Bytes of records beyond which the oldest go; `None` for any number.
    pub bytes: Option<u64>,
}

/// What was kept last, and when.
#[derive(Debug)]
pub(super) struct Kept(Mutex<State>, Mutex<Option<KeptIndex>>);

/// The index as it was when it was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeptIndex {
    /// The number of its gallery.
    pub(super) gallery: u32,
    /// Items that had changed by then.
    pub(super) changes: u64,
    /// Vectors that were linked.
    pub(super) linked: usize,
}

impl KeptIndex {
    /// Whether so much is different now that it is worth writing again: a fiftieth of `vectors`, for what a start has to do
    /// itself is small then, and an index may be gigabytes. At the end of a run it is worth it for anything.
    fn is_outdated(self, now: Self, vectors: usize, at_the_end: bool) -> bool {
        let changed = now.changes.abs_diff(self.changes) + now.linked.abs_diff(self.linked) as u64;
        let enough = if at_the_end { 1 } else { (vectors as u64 / 50).max(1) };
        self.gallery != now.gallery || changed >= enough
    }
}

#[derive(Debug)]
struct State {
    /// The entry that the newest checkpoint includes.
    sequence: u64,
    /// Steps of the ranking that it includes.
    learned: u64,
    erasures: u32,
    checkpoint_at: Timestamp,
    trimmed_at: Timestamp,
}

impl Kept {
    /// After a start at `now` from a checkpoint that includes `sequence`, or from none.
    pub(super) fn new(sequence: u64, erasures: u32, now: Timestamp) -> Self {
        let state = State { sequence, learned: 0, erasures, checkpoint_at: now, trimmed_at: now };
        Self(Mutex::new(state), Mutex::new(None))
    }

    /// Notes how the index was when it was kept.
    pub(super) fn index_is(&self, index: KeptIndex) {
        *self.1.lock() = Some(index);
    }
}

/// What a checkpoint brings back.
pub(super) struct Restored {
    pub(super) sequence: u64,
    pub(super) catalogue: Catalogue,
    pub(super) collab: Collab,
    pub(super) sessions: SessionTable,
    pub(super) ranking: Option<Vec<u8>>,
    /// The id of the models that were in use, as far as that is known.
    pub(super) models: Option<String>,
}

/// The newest checkpoint that can be used, if there is any; others are set aside.
pub(super) fn load(store: &Store, options: &EngineOptions) -> Result<Option<Restored>, StoreError> {
    while let Some(mut stored) = store.load_checkpoint()? {
        let sequence = stored.sequence();
        // One at a time, and let go before the next.
        let mut optional = |name: &str| stored.section(name).map_err(|e| e.to_string());
        let restored = (|| {
            let ranking = optional(RANKING)?;
            let models = optional(MODELS)?.and_then(|bytes| String::from_utf8(bytes).ok());
            let mut section = |name: &str| optional(name)?.ok_or_else(|| format!("it has no section `{name}`"));
            let catalogue =
                Catalogue::with_numbers(options.max_items, &section(NUMBERS)?).map_err(|e| e.to_string())?;
            let items = catalogue.numbered();
            let limits = &options.collab_limits;
            let mut collab = Collab::load(limits, items, &section(COLLAB)?).map_err(|e| e.to_string())?;
            let sessions =
                SessionTable::load(options.session_limits, items, &section(SESSIONS)?).map_err(|e| e.to_string())?;
            if let Some(bytes) = optional(PREFERENCE)? {
                collab.preference = Preference::load(&limits.preference, items, &bytes).map_err(|e| e.to_string())?;
            }
            Ok::<_, String>(Restored { sequence, catalogue, collab, sessions, ranking, models })
        })();
        match restored {
            Ok(restored) => return Ok(Some(restored)),
            Err(error) => {
                tracing::warn!(
                    sequence,
                    error,
                    "a checkpoint does not fit and is set aside; the log is replayed instead"
                );
                store.refuse_checkpoint(sequence)?;
            }
        }
    }
    Ok(None)
}

impl Engine {
    /// Keeps a checkpoint, if there is anything new; whether there was. Learning waits while its state is copied. Blocks.
    pub fn save_checkpoint(&self) -> Result<bool, StoreError> {
        self.parts.save_checkpoint()
    }

    /// Does what is due: a checkpoint, old entries of the log. To be called about every second, by one thread.
    pub(super) fn keep(&self, stop: &AtomicBool) {
        let parts = &self.parts;
        if let Err(error) = parts.checkpoint_if_due() {
            tracing::warn!(%error, "no checkpoint could be kept; a start would take longer");
        }
        if let Err(error) = parts.trim_if_due(stop) {
            tracing::warn!(%error, "the log could not be shortened");
        }
    }
}

impl Parts {
    fn checkpoint_if_due(&self) -> Result<(), StoreError> {
        let (now, every_s) = (self.clock.now(), self.options.checkpoint_every_s);
        {
            let mut kept = self.kept.0.lock();
            // After an erasure there is none any more, so the next one comes at once.
            let erased = kept.erasures != self.store.erasures();
            if !erased && (every_s <= 0.0 || now.seconds_since(kept.checkpoint_at) < every_s) {
                return Ok(());
            }
            // Also if it fails: a full disk is not tried every second.
            kept.checkpoint_at = now;
            kept.erasures = self.store.erasures();
        }
        let saved = self.save_checkpoint().map(drop);
        self.save_index_if_worth(false);
        saved
    }

    /// Keeps the index for the next start, if it is different enough from what was kept.
    pub(super) fn save_index_if_worth(&self, at_the_end: bool) {
        let gallery = self.live.gallery();
        // Before it is written: what changes meanwhile may not be in it.
        let stats = gallery.vectors.stats();
        let now = KeptIndex { gallery: gallery.number, changes: stats.changes, linked: stats.linked };
        let kept = *self.kept.1.lock();
        if kept.map_or(stats.vectors == 0, |kept| !kept.is_outdated(now, stats.vectors, at_the_end)) {
            return;
        }
        match self.store.save_index(gallery.ensemble.id(), |to| gallery.vectors.save(to)) {
            Ok(()) => self.kept.index_is(now),
            Err(error) => tracing::warn!(%error, "the index could not be kept; a start would take longer"),
        }
    }

    pub(super) fn save_checkpoint(&self) -> Result<bool, StoreError> {
        let mut erasures = 0;
        let learned = self.learning.steps();
        let taken = self.applier.at_rest(|sequence| {
            let kept = self.kept.0.lock();
            erasures = self.store.erasures();
            let known = (kept.sequence, kept.erasures, kept.learned) == (sequence, erasures, learned);
            if known && !self.store.checkpoints().is_empty() {
                return None;
            }
            let sections = [
                (NUMBERS, self.live.catalogue.read().save_numbers()),
                (COLLAB, self.live.collab.save()),
                (SESSIONS, self.live.sessions.save()),
                (RANKING, self.learning.save()),
                (PREFERENCE, self.live.collab.preference.save()),
                (MODELS, self.live.gallery().ensemble.id().into()),
            ];
            Some(Checkpoint { sequence, sections: sections.map(|(name, bytes)| (name.to_owned(), bytes)).into() })
        });
        let Some(checkpoint) = taken else { return Ok(false) };
        let (sequence, bytes) = (checkpoint.sequence, checkpoint.sections.values().map(Vec::len).sum::<usize>());
        self.store.save_checkpoint(checkpoint, erasures)?;
        let mut kept = self.kept.0.lock();
        (kept.sequence, kept.erasures, kept.learned) = (sequence, erasures, learned);
        tracing::info!(sequence, bytes, "a checkpoint was kept");
        Ok(true)
    }

    fn trim_if_due(&self, stop: &AtomicBool) -> Result<(), StoreError> {
        let now = self.clock.now();
        let Retention { age_s, bytes } = self.options.retention;
        if age_s.is_none() && bytes.is_none() {
            return Ok(());
        }
        let not_from = {
            let mut kept = self.kept.0.lock();
            if now.seconds_since(kept.trimmed_at) < TRIM_EVERY_S {
                return Ok(());
            }
            kept.trimmed_at = now;
            // What no checkpoint includes is needed for a start.
            self.store.checkpoints().last().map_or(0, |oldest| oldest + 1)
        };
        let before = age_s.map(|age_s| self.store.first_since(now.plus_seconds(-age_s))).transpose()?.unwrap_or(0);
        let trim = Trim { before, max_bytes: bytes, not_from, at_most: TRIMMED_AT_ONCE };
        let mut removed = 0;
        while !stop.load(Ordering::Relaxed) {
            let trimmed = self.store.trim(trim)?;
            removed += trimmed.removed;
            if !trimmed.more {
                break;
            }
        }
        if removed > 0 {
            tracing::info!(entries = removed, "the oldest entries of the log were removed");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_kept_again_when_that_spares_a_start_something() {
        let kept = KeptIndex { gallery: 1, changes: 10, linked: 0 };
        let outdated = |now: KeptIndex, at_the_end| kept.is_outdated(now, 100_000, at_the_end);
        assert!(!outdated(kept, false) && !outdated(kept, true));
        let few = KeptIndex { changes: 11, ..kept };
        assert!(!outdated(few, false) && outdated(few, true));
        assert!(kept.is_outdated(few, 20, false), "a small one costs nothing");
        assert!(outdated(KeptIndex { changes: 2_010, ..kept }, false));
        assert!(outdated(KeptIndex { linked: 50_000, ..kept }, false), "links are what takes long");
        assert!(outdated(KeptIndex { gallery: 2, ..kept }, false), "other models took over");
    }
}
