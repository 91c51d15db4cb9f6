//! Which pictures of items were looked at of late? Posters are shared by the episodes of a series, and a catalogue that is
//! imported again brings the same files.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

use super::Portrait;

/// What a picture takes beside its thumbnail and its embedding, about.
const OVERHEAD_BYTES: usize = 200;

/// Pictures by the SHA-256 of their files, with what the models in use say of them; the oldest make room.
#[derive(Debug)]
pub(in crate::engine) struct KnownPictures {
    max_bytes: usize,
    pictures: Mutex<Pictures>,
}

#[derive(Debug, Default)]
struct Pictures {
    /// The models that the embeddings are of.
    model_id: String,
    portraits: HashMap<[u8; 32], Portrait>,
    /// In the order in which they came.
    order: VecDeque<[u8; 32]>,
    bytes: usize,
}

impl KnownPictures {
    /// Room for `max_bytes` of thumbnails and embeddings; 0 for none.
    pub(in crate::engine) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, pictures: Mutex::default() }
    }

    /// What is known of the picture.
    pub(super) fn get(&self, sha256: &[u8; 32], model_id: &str) -> Option<Portrait> {
        let pictures = self.pictures.lock();
        if pictures.model_id == model_id { pictures.portraits.get(sha256).cloned() } else { None }
    }

    /// Takes in a picture; those of another model are forgotten.
    pub(super) fn put(&self, sha256: [u8; 32], model_id: &str, portrait: Portrait) {
        let bytes = bytes_of(&portrait);
        if bytes > self.max_bytes {
            return;
        }
        let mut pictures = self.pictures.lock();
        if pictures.model_id != model_id {
            *pictures = Pictures { model_id: model_id.to_owned(), ..Pictures::default() };
        }
        if pictures.portraits.insert(sha256, portrait).is_some() {
            return;
        }
        pictures.order.push_back(sha256);
        pictures.bytes += bytes;
        while pictures.bytes > self.max_bytes {
            let Some(oldest) = pictures.order.pop_front() else { break };
            if let Some(gone) = pictures.portraits.remove(&oldest) {
                pictures.bytes = pictures.bytes.saturating_sub(bytes_of(&gone));
            }
        }
    }
}

fn bytes_of(portrait: &Portrait) -> usize {
    portrait.thumbnail.as_ref().map_or(0, |jpeg| jpeg.len())
        + portrait.embeddings.iter().map(|(id, own)| id.len() + own.dims() * size_of::<f32>()).sum::<usize>()
        + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::Embedding;

    fn portrait(width: u32) -> Portrait {
        let embeddings = [("m".to_owned(), Embedding::unit(vec![1.0, width as f32]).unwrap())].into();
        Portrait { width, height: 1, thumbnail: Some(Bytes::from(vec![0; 791])), embeddings }
    }

    #[test]
    fn the_oldest_make_room() {
        // 1,000 bytes each.
        let known = KnownPictures::new(3_500);
        for n in 0..5 {
            known.put([n; 32], "m", portrait(u32::from(n)));
            known.put([n; 32], "m", portrait(u32::from(n)));
        }
        let widths: Vec<u32> = (0..5).filter_map(|n| Some(known.get(&[n; 32], "m")?.width)).collect();
        assert_eq!(widths, [2, 3, 4]);
    }

    #[test]
    fn embeddings_of_another_model_are_not_given_out() {
        let known = KnownPictures::new(10_000);
        known.put([1; 32], "old", portrait(1));
        assert!(known.get(&[1; 32], "new").is_none());
        known.put([2; 32], "new", portrait(2));
        assert!(known.get(&[1; 32], "old").is_none() && known.get(&[1; 32], "new").is_none());
        assert_eq!(known.get(&[2; 32], "new").unwrap().width, 2);
    }

    #[test]
    fn no_room_means_none() {
        let known = KnownPictures::new(0);
        known.put([1; 32], "m", portrait(1));
        assert!(known.get(&[1; 32], "m").is_none());
    }
}
