//! Words in, items out: which items are described like this? A BM25 index over titles, labels and descriptions.
//!
//! BM25 as in Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with the
//! fields folded into one weighted term frequency (their BM25F, section 3.6, with one length for all fields).

use std::collections::{HashMap, HashSet};

use roaring::RoaringBitmap;

use crate::domain::{Item, ItemNo, Scored};

/// Saturation of the term frequency.
const K1: f32 = 1.2;
/// Strength of the length normalisation.
const B: f32 = 0.6;
/// What a word counts in each field.
const TITLE_WEIGHT: f32 = 3.0;
const LABEL_WEIGHT: f32 = 2.0;
const DESCRIPTION_WEIGHT: f32 = 1.0;
/// Words of an item beyond this many are dropped, so that a long description cannot fill the memory.
const MAX_TERMS_PER_ITEM: usize = 256;
/// A query uses its rarest words only, and stops once this many postings have been read, so that a word that
/// every item has costs nothing.
const MAX_QUERY_TERMS: usize = 24;
const MAX_POSTINGS_READ: usize = 50_000;

#[derive(Debug, Clone, Copy)]
struct Posting {
    item: u32,
    /// Weighted term frequency.
    frequency: f32,
}

#[derive(Debug)]
struct Document {
    terms: Box<[u32]>,
    length: f32,
}

/// An inverted index from words to items. Not synchronised: the owner locks it.
#[derive(Debug, Default)]
pub struct TextIndex {
    term_numbers: HashMap<Box<str>, u32>,
    /// For each term its postings, by rising item number.
    postings: Vec<Vec<Posting>>,
    documents: HashMap<u32, Document>,
    total_length: f64,
}

impl TextIndex {
    /// Puts the words of `item` in place of those that number `no` had.
    pub fn upsert(&mut self, no: ItemNo, item: &Item) {
        self.remove(no);
        let mut frequencies: HashMap<String, (usize, f32)> = HashMap::new();
        let labels = item.tags.iter().chain(&item.categories);
        let fields = std::iter::once((item.title.as_str(), TITLE_WEIGHT))
            .chain(labels.map(|label| (label.as_str(), LABEL_WEIGHT)))
            .chain(std::iter::once((item.description.as_str(), DESCRIPTION_WEIGHT)));
        for (text, weight) in fields {
            for word in words(text) {
                if frequencies.len() >= MAX_TERMS_PER_ITEM && !frequencies.contains_key(&word) {
                    continue;
                }
                let next = frequencies.len();
                frequencies.entry(word).or_insert((next, 0.0)).1 += weight;
            }
        }
        if frequencies.is_empty() {
            return;
        }
        // In the order in which the item has them: of equally rare words the first ones count, and the same item gets
        // the same scores in every process.
        let mut frequencies: Vec<(String, (usize, f32))> = frequencies.into_iter().collect();
        frequencies.sort_unstable_by_key(|&(_, (place, _))| place);
        let length: f32 = frequencies.iter().map(|(_, (_, frequency))| frequency).sum();
        let mut terms = Vec::with_capacity(frequencies.len());
        for (word, (_, frequency)) in frequencies {
            let term = self.term(word);
            let list = &mut self.postings[term as usize];
            let place = list.partition_point(|p| p.item < no.0);
            list.insert(place, Posting { item: no.0, frequency });
            terms.push(term);
        }
        self.total_length += f64::from(length);
        self.documents.insert(no.0, Document { terms: terms.into(), length });
    }

    /// Forgets the words of number `no`; `false` if it had none.
    pub fn remove(&mut self, no: ItemNo) -> bool {
        let Some(document) = self.documents.remove(&no.0) else {
            return false;
        };
        self.total_length -= f64::from(document.length);
        for &term in &document.terms {
            let list = &mut self.postings[term as usize];
            let place = list.partition_point(|p| p.item < no.0);
            if list.get(place).is_some_and(|p| p.item == no.0) {
                list.remove(place);
            }
        }
        true
    }

    /// The best `limit` items for the words of `text`, best first; only numbers in `allowed`, if given.
    pub fn search(&self, text: &str, limit: usize, allowed: Option<&RoaringBitmap>) -> Vec<Scored> {
        let mut terms: Vec<u32> = words(text).filter_map(|w| self.term_numbers.get(w.as_str()).copied()).collect();
        let mut taken = HashSet::new();
        terms.retain(|&term| taken.insert(term));
        self.score(&terms, limit, allowed)
    }

    /// The best `limit` items that share words with number `no`, itself left out, best first. A score is relative to
    /// that of the item with itself: from above 0 to about 1.
    pub fn similar(&self, no: ItemNo, limit: usize, allowed: Option<&RoaringBitmap>) -> Vec<Scored> {
        let Some(document) = self.documents.get(&no.0) else {
            return Vec::new();
        };
        let own = RoaringBitmap::from_iter([no.0]);
        let best = self.score(&document.terms, 1, Some(&own)).first().map_or(1.0, |s| s.score.max(f32::MIN_POSITIVE));
        let mut found = self.score(&document.terms, limit + 1, allowed);
        found.retain(|s| s.item != no);
        found.truncate(limit);
        for scored in &mut found {
            scored.score /= best;
        }
        found
    }

    /// Items with words.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether no item has words.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    fn term(&mut self, word: String) -> u32 {
        let next = self.postings.len() as u32;
        let number = *self.term_numbers.entry(word.into_boxed_str()).or_insert(next);
        if number == next {
            self.postings.push(Vec::new());
        }
        number
    }

    fn score(&self, terms: &[u32], limit: usize, allowed: Option<&RoaringBitmap>) -> Vec<Scored> {
        let mut rarest: Vec<&Vec<Posting>> =
            terms.iter().map(|&t| &self.postings[t as usize]).filter(|list| !list.is_empty()).collect();
        rarest.sort_by_key(|list| list.len());
        let count = self.documents.len() as f32;
        let mean_length = (self.total_length / self.documents.len().max(1) as f64).max(1e-6) as f32;
        let mut scores: HashMap<u32, f32> = HashMap::new();
        let mut read = 0;
        for (used, list) in rarest.into_iter().take(MAX_QUERY_TERMS).enumerate() {
            // The rarest word is always read, however common it is.
            if used > 0 && read + list.len() > MAX_POSTINGS_READ {
                break;
            }
            read += list.len();
            let having = list.len() as f32;
            let idf = (1.0 + (count - having + 0.5) / (having + 0.5)).ln();
            for posting in list {
                if allowed.is_some_and(|set| !set.contains(posting.item)) {
                    continue;
                }
                let length = self.documents.get(&posting.item).map_or(mean_length, |d| d.length);
                let saturation = K1 * (1.0 - B + B * length / mean_length);
                *scores.entry(posting.item).or_default() +=
                    idf * posting.frequency * (K1 + 1.0) / (posting.frequency + saturation);
            }
        }
        let mut found: Vec<Scored> =
            scores.into_iter().map(|(item, score)| Scored { item: ItemNo(item), score }).collect();
        Scored::keep_best(&mut found, limit);
        found
    }
}

/// Runs of letters and digits, in lower case; single ASCII letters are left out.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.len() > 1 || word.bytes().all(|b| b.is_ascii_digit()))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ItemId;

    fn item(title: &str, tags: &[&str], description: &str) -> Item {
        let mut item = Item::new(ItemId::new("x").unwrap());
        item.title = title.into();
        item.tags = tags.iter().map(ToString::to_string).collect();
        item.description = description.into();
        item
    }

    fn numbers(found: &[Scored]) -> Vec<u32> {
        found.iter().map(|s| s.item.0).collect()
    }

    fn shelf() -> TextIndex {
        let mut index = TextIndex::default();
        index.upsert(ItemNo(0), &item("The Quiet Sea", &["ocean", "calm"], "Waves and gulls"));
        index.upsert(ItemNo(1), &item("Night City", &["urban"], "Lights by the sea"));
        index.upsert(ItemNo(2), &item("Dunes", &["desert", "calm"], "Sand"));
        index
    }

    #[test]
    fn a_title_counts_more_than_a_description() {
        assert_eq!(numbers(&shelf().search("SEA", 10, None)), [0, 1]);
    }

    #[test]
    fn rare_words_count_more() {
        assert_eq!(numbers(&shelf().search("calm desert", 10, None)), [2, 0]);
    }

    #[test]
    fn similar_items_leave_out_the_item() {
        assert_eq!(numbers(&shelf().similar(ItemNo(0), 10, None)), [1, 2]);
        assert!(shelf().similar(ItemNo(9), 10, None).is_empty());
    }

    #[test]
    fn a_twin_is_as_similar_as_the_item_itself() {
        let mut index = shelf();
        index.upsert(ItemNo(7), &item("The Quiet Sea", &["ocean", "calm"], "Waves and gulls"));
        let found = index.similar(ItemNo(0), 10, None);
        assert_eq!(found[0].item, ItemNo(7));
        assert!((found[0].score - 1.0).abs() < 1e-5);
        assert!(found[1..].iter().all(|s| s.score > 0.0 && s.score < 0.5));
    }

    #[test]
    fn only_allowed_items_are_answered() {
        let allowed = RoaringBitmap::from_iter([1_u32]);
        assert_eq!(numbers(&shelf().search("sea", 10, Some(&allowed))), [1]);
    }

    #[test]
    fn replaced_and_removed_words_are_gone() {
        let mut index = shelf();
        index.upsert(ItemNo(0), &item("Forest", &[], ""));
        assert_eq!(numbers(&index.search("sea", 10, None)), [1]);
        assert!(index.remove(ItemNo(1)));
        assert!(!index.remove(ItemNo(1)));
        assert!(index.search("sea", 10, None).is_empty());
        assert_eq!(index.len(), 2);
    }

    #[test]
    fn an_empty_index_answers_nothing() {
        assert!(TextIndex::default().search("sea", 10, None).is_empty());
        assert!(shelf().search("", 10, None).is_empty());
        assert!(shelf().search("sea", 0, None).is_empty());
    }

    #[test]
    fn scores_do_not_depend_on_the_process_or_the_order_of_the_items() {
        // More equally rare words than are asked for, so that it matters which ones count.
        let long = |from: usize| (from..from + 40).map(|n| format!("word{n}")).collect::<Vec<_>>().join(" ");
        let items: Vec<(u32, String)> = (0..6).map(|n| (n, long(n as usize * 7))).collect();
        let index = |order: &[(u32, String)]| {
            let mut index = TextIndex::default();
            order.iter().for_each(|(no, text)| index.upsert(ItemNo(*no), &item(text, &[], "")));
            index
        };
        let mut turned = items.clone();
        turned.reverse();
        let (one, other) = (index(&items), index(&turned));
        for no in 0..6 {
            assert_eq!(one.similar(ItemNo(no), 6, None), other.similar(ItemNo(no), 6, None));
        }
        assert_eq!(one.search(&long(3), 6, None), other.search(&long(3), 6, None));
    }
}
