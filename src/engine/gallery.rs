//! How does the service look at pictures, and what has it seen? The models in use and the index of what they made of the catalogue.
//!
//! The two belong together: vectors of different models must never be compared. Whoever needs them takes the gallery once and
//! uses it to the end, so that a question that was begun with some models is answered with them, whatever takes over meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use roaring::RoaringBitmap;

use super::EngineError;
use crate::domain::{Embedding, ItemNo};
use crate::index::VectorIndex;
use crate::inference::{Ensemble, Weights};
use crate::store::{ImageRecord, ItemRecord};

/// The models that look at pictures together, and an index of the catalogue as they see it.
#[derive(Debug)]
pub(super) struct Gallery {
    /// Rises with every change of the models.
    pub(super) number: u32,
    pub(super) ensemble: Ensemble,
    pub(super) vectors: Arc<dyn VectorIndex>,
    missing: Mutex<Missing>,
    /// Whether everything has been taken in that was there when it was made.
    filled: AtomicBool,
}

/// Items with pictures that not all of the models have seen.
#[derive(Debug, Default)]
struct Missing {
    /// That are to be looked at.
    due: RoaringBitmap,
    /// That cannot be: no thumbnail is kept of them, or it cannot be read.
    lost: RoaringBitmap,
}

impl Gallery {
    pub(super) fn new(number: u32, ensemble: Ensemble, vectors: Arc<dyn VectorIndex>) -> Self {
        Self { number, ensemble, vectors, missing: Mutex::default(), filled: AtomicBool::new(false) }
    }

    /// Notes that everything has been taken in that was there when it was made.
    pub(super) fn filled(&self) {
        self.filled.store(true, Ordering::Relaxed);
    }

    /// Whether everything has been taken in that was there when it was made.
    pub(super) fn is_filled(&self) -> bool {
        self.filled.load(Ordering::Relaxed)
    }

    /// Takes in an item's pictures as far as the models have seen them.
    pub(super) fn take_in(&self, no: ItemNo, record: &ItemRecord) {
        let vectors: Vec<Embedding> = record.images.iter().filter_map(|image| self.vector_of(image)).collect();
        {
            let mut missing = self.missing.lock();
            missing.lost.remove(no.0);
            if vectors.len() < record.images.len() {
                missing.due.insert(no.0);
            } else {
                missing.due.remove(no.0);
            }
        }
        if vectors.is_empty() {
            self.vectors.remove(no);
        } else if let Err(error) = self.vectors.upsert(no, &vectors) {
            tracing::error!(item = %record.item.id, %error, "the item's images cannot be indexed");
        }
    }

    /// Forgets an item.
    pub(super) fn forget(&self, no: ItemNo) {
        self.vectors.remove(no);
        let mut missing = self.missing.lock();
        missing.due.remove(no.0);
        missing.lost.remove(no.0);
    }

    /// A picture's vector, if all models have seen it.
    fn vector_of(&self, image: &ImageRecord) -> Option<Embedding> {
        let blend = self.ensemble.blend();
        let each: Option<Vec<Embedding>> = blend.model_ids().map(|id| image.embeddings.get(id).cloned()).collect();
        blend.fuse(&each?)
    }

    /// Up to `most` items that are to be looked at.
    pub(super) fn due(&self, most: usize) -> Vec<ItemNo> {
        self.missing.lock().due.iter().take(most).map(ItemNo).collect()
    }

    /// Notes that an item cannot be looked at.
    pub(super) fn give_up(&self, no: ItemNo) {
        let mut missing = self.missing.lock();
        if missing.due.remove(no.0) {
            missing.lost.insert(no.0);
        }
    }

    /// How many items are to be looked at, and how many cannot be.
    pub(super) fn missing(&self) -> (u64, u64) {
        let missing = self.missing.lock();
        (missing.due.len(), missing.lost.len())
    }
}

/// A gallery, and how much each of its models counts in one question.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gaze<'a> {
    pub(super) gallery: &'a Gallery,
    /// `None` for as much as in the gallery's vectors.
    pub(super) weights: Option<&'a Weights>,
}

/// A vector to ask with; its cosines times `scale` are the similarities that count.
#[derive(Debug, Clone)]
pub(super) struct Turned {
    pub(super) vector: Embedding,
    pub(super) scale: f32,
}

impl Gaze<'_> {
    /// What to ask with instead of `query`; `None` if the models that count say nothing of it.
    pub(super) fn turn(&self, query: &Embedding) -> Option<Turned> {
        let blend = self.gallery.ensemble.blend();
        let vector = blend.ask(query)?;
        let Some(weights) = self.weights else { return Some(Turned { vector, scale: 1.0 }) };
        let vector = blend.reweigh(&vector, weights)?;
        Some(Turned { scale: 1.0 / blend.reach(&vector), vector })
    }
}

/// What a request's weights of the models come down to; `None` if it has none.
pub(super) fn weights_of(gallery: &Gallery, by_name: &BTreeMap<String, f32>) -> Result<Option<Weights>, EngineError> {
    if by_name.is_empty() {
        return Ok(None);
    }
    let weights = gallery.ensemble.blend().weights(by_name);
    weights.map(Some).map_err(|reason| EngineError::Invalid { field: "model_weights", reason })
}
