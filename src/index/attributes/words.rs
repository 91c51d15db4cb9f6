//! Which items have this word in this field?

use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::posting::Posting;

/// Postings by field and word. Every pair in use has a number, so that an item can note its words in four bytes each.
#[derive(Debug, Default)]
pub(super) struct Words {
    numbers: HashMap<Arc<str>, HashMap<Arc<str>, u32>>,
    words: Vec<Word>,
    unused: Vec<u32>,
}

#[derive(Debug)]
struct Word {
    field: Arc<str>,
    text: Arc<str>,
    /// `None` while the number is unused.
    posting: Option<Posting>,
}

impl Words {
    /// Enters `item` under a word and returns the word's number.
    pub(super) fn insert(&mut self, field: &str, text: &str, item: u32) -> u32 {
        if let Some(&number) = self.numbers.get(field).and_then(|texts| texts.get(text)) {
            match self.words.get_mut(number as usize).and_then(|word| word.posting.as_mut()) {
                Some(posting) => posting.insert(item),
                None => debug_assert!(false, "a word that has a number has a posting"),
            }
            return number;
        }
        let field: Arc<str> = match self.numbers.get_key_value(field) {
            Some((field, _)) => Arc::clone(field),
            None => field.into(),
        };
        let text: Arc<str> = text.into();
        let posting = Some(Posting::One(item));
        let word = Word { field: Arc::clone(&field), text: Arc::clone(&text), posting };
        let number = match self.unused.pop() {
            Some(number) => {
                self.words[number as usize] = word;
                number
            }
            None => {
                self.words.push(word);
                self.words.len() as u32 - 1
            }
        };
        self.numbers.entry(field).or_default().insert(text, number);
        number
    }

    /// Takes `item` out from under the word with this number.
    pub(super) fn remove(&mut self, number: u32, item: u32) {
        let Some(word) = self.words.get_mut(number as usize) else { return };
        if !word.posting.as_mut().is_some_and(|posting| posting.remove(item)) {
            return;
        }
        word.posting = None;
        if let Some(texts) = self.numbers.get_mut(&word.field) {
            texts.remove(&word.text);
            if texts.is_empty() {
                self.numbers.remove(&word.field);
            }
        }
        self.unused.push(number);
    }

    /// The items under a word.
    pub(super) fn items(&self, field: &str, text: &str) -> RoaringBitmap {
        let number = self.numbers.get(field).and_then(|texts| texts.get(text));
        let word = number.and_then(|number| self.words.get(*number as usize));
        word.and_then(|word| word.posting.as_ref()).map(Posting::to_bitmap).unwrap_or_default()
    }

    /// The number of words that some item has.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.numbers.values().map(HashMap::len).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        let word = |word: &Word| word.text.len() + 100 + word.posting.as_ref().map_or(0, Posting::bytes);
        self.words.iter().map(word).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_words_that_went_are_used_again() {
        let mut words = Words::default();
        let (sea, sky) = (words.insert("tag", "sea", 1), words.insert("tag", "sky", 1));
        assert_eq!(words.insert("tag", "sea", 2), sea);
        words.remove(sea, 1);
        assert_eq!(words.items("tag", "sea"), RoaringBitmap::from([2]));
        words.remove(sky, 1);
        assert_eq!(words.insert("studio", "sky", 3), sky);
        assert!(words.items("tag", "sky").is_empty());
        assert_eq!(words.len(), 2);
    }
}
