//! How does what was learned outlive the process? All parts one after the other.

use std::sync::Arc;

use parking_lot::RwLock;

use super::links::Links;
use super::{CoVisitation, Collab, CollabLimits, Preference, SessionKnn, Transitions, Trending};
use crate::domain::{LoadError, StateReader, StateWriter};

const PART: [u8; 4] = *b"coll";

/// Another layout gets another number.
const VERSION: u32 = 1;

impl Collab {
    /// Everything learned but [`preference`](Self::preference), as bytes for [`load`](Self::load). That part is much larger
    /// and changes in leaps, so it is saved [on its own](Preference::save).
    ///
    /// Nothing may be learned or forgotten meanwhile, or the parts would not be of the same moment; questions are
    /// answered.
    pub fn save(&self) -> Vec<u8> {
        let links = self.links.read();
        let bytes = self.session_knn.saved_bytes() + links.saved_bytes() + self.trending.saved_bytes();
        let mut to = StateWriter::new(PART, VERSION, bytes);
        self.session_knn.save(&mut to);
        links.save(&mut to);
        self.trending.save(&mut to);
        to.finish()
    }

    /// What was [saved](Self::save) under the same `limits` (but for [`CollabLimits::neighbours`], which only concerns
    /// answers, and [`CollabLimits::preference`]), when the first `items` item numbers had been given out. It answers and learns on exactly as what was
    /// saved.
    pub fn load(limits: &CollabLimits, items: usize, bytes: &[u8]) -> Result<Self, LoadError> {
        let mut from = StateReader::new(PART, VERSION, bytes)?;
        let session_knn = SessionKnn::load(limits, items, &mut from)?;
        let links = Arc::new(RwLock::new(Links::load(limits, items, &mut from)?));
        let trending = Trending::load(limits, items, &mut from)?;
        from.end()?;
        Ok(Self {
            session_knn,
            transitions: Transitions::new(Arc::clone(&links)),
            co_visitation: CoVisitation::new(Arc::clone(&links)),
            trending,
            preference: Preference::new(&limits.preference),
            links,
        })
    }
}
