//! Which items have this word in this field?

use std::collections::HashMap;

use roaring::RoaringBitmap;

use super::posting::Posting;

/// Postings by field and word.
#[derive(Debug, Default)]
pub(super) struct Words(HashMap<Box<str>, HashMap<Box<str>, Posting>>);

impl Words {
    /// Enters `item` under a word.
    pub(super) fn insert(&mut self, field: &str, text: &str, item: u32) {
        let Some(texts) = self.0.get_mut(field) else {
            self.0.insert(field.into(), HashMap::from([(text.into(), Posting::One(item))]));
            return;
        };
        match texts.get_mut(text) {
            Some(posting) => posting.insert(item),
            None => drop(texts.insert(text.into(), Posting::One(item))),
        }
    }

    /// Takes `item` out from under a word.
    pub(super) fn remove(&mut self, field: &str, text: &str, item: u32) {
        let Some(texts) = self.0.get_mut(field) else { return };
        if texts.get_mut(text).is_some_and(|posting| posting.remove(item)) {
            texts.remove(text);
            if texts.is_empty() {
                self.0.remove(field);
            }
        }
    }

    /// The items under a word.
    pub(super) fn items(&self, field: &str, text: &str) -> RoaringBitmap {
        self.0.get(field).and_then(|texts| texts.get(text)).map(Posting::to_bitmap).unwrap_or_default()
    }

    /// The number of words that some item has.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.values().map(HashMap::len).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.values().flatten().map(|(text, posting)| 32 + text.len() + posting.bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_goes_with_the_last_item_that_has_it() {
        let mut words = Words::default();
        words.insert("tag", "sea", 1);
        words.insert("tag", "sea", 2);
        words.insert("studio", "sea", 3);
        words.remove("tag", "sea", 1);
        words.remove("tag", "sea", 3);
        words.remove("tag", "sky", 2);
        assert_eq!(words.items("tag", "sea"), RoaringBitmap::from([2]));
        words.remove("tag", "sea", 2);
        assert!(words.items("tag", "sea").is_empty());
        assert_eq!((words.len(), words.items("studio", "sea")), (1, RoaringBitmap::from([3])));
    }
}
