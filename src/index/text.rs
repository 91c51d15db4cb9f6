//! Words in, items out: which items are described like this? A BM25 index over titles, labels and descriptions.
//!
//! BM25 as in Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with the
//! fields folded into one weighted term frequency (their BM25F, section 3.6, with one length for all fields).
//!
//! Scores lie between 0 and 1: a part of the best score that any item could have for the query. An item would have that
//! best score if it had all of the query's words, and as often as one likes.

mod neighbours;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use roaring::RoaringBitmap;

use self::neighbours::{KEPT, Neighbours};
use crate::domain::{Item, ItemNo, Scored};

/// Saturation of the term frequency.
const K1: f32 = 1.2;
/// Strength of the length normalisation.
const B: f32 = 0.6;
/// What a word counts in each field.
const TITLE_WEIGHT: u16 = 3;
const LABEL_WEIGHT: u16 = 2;
const DESCRIPTION_WEIGHT: u16 = 1;
/// Words of an item beyond this many are dropped, so that a long description cannot fill the memory.
const MAX_TERMS_PER_ITEM: usize = 256;
/// A query uses its rarest words only, and stops once this many postings have been read, so that a word that
/// every item has costs nothing.
const MAX_QUERY_TERMS: usize = 24;
const MAX_POSTINGS_READ: usize = 50_000;

/// Eight bytes: there is one for each word of each item.
#[derive(Debug, Clone, Copy)]
struct Posting {
    item: u32,
    /// Weighted term frequency; a word that comes more often than can be counted is worth no more anyhow.
    frequency: u16,
    /// The item's length, once more, as looking it up would cost more than all the rest.
    length: u16,
}

#[derive(Debug)]
struct Document {
    terms: Box<[u32]>,
    length: u16,
}

/// An inverted index from words to items. Not synchronised: the owner locks it.
#[derive(Debug, Default)]
pub struct TextIndex {
    term_numbers: HashMap<Box<str>, u32>,
    /// For each term its postings, by rising item number.
    postings: Vec<Vec<Posting>>,
    documents: HashMap<u32, Document>,
    total_length: f64,
    neighbours: Neighbours,
}

/// What is asked for: words, with what each is worth in the present state of the index.
#[derive(Debug, Clone)]
pub struct TextQuery {
    /// The numbers of the words that the index knows, the rarest first, and what each is worth.
    terms: Vec<(u32, f32)>,
    /// What a score is divided by.
    best: f32,
    mean_length: f32,
}

/// Sums by item that a thread keeps from one query to the next.
#[derive(Debug, Default)]
struct Sums {
    /// By item, so that there are at most as many as items have ever had numbers; all zero between queries.
    sums: Vec<f32>,
    /// The items that have one.
    items: Vec<u32>,
}

thread_local! {
    static SUMS: RefCell<Sums> = RefCell::default();
}

impl TextIndex {
    /// Puts the words of `item` in place of those that number `no` had.
    pub fn upsert(&mut self, no: ItemNo, item: &Item) {
        let frequencies = frequencies_of(item);
        if self.has(no, &frequencies) {
            return;
        }
        self.remove(no);
        if frequencies.is_empty() {
            return;
        }
        self.neighbours.forget();
        let length = frequencies.iter().fold(0_u16, |length, &(_, frequency)| length.saturating_add(frequency));
        let mut terms = Vec::with_capacity(frequencies.len());
        for (word, frequency) in frequencies {
            let term = self.term(word);
            let list = &mut self.postings[term as usize];
            let place = list.partition_point(|p| p.item < no.0);
            if list.len() == list.capacity() {
                // By an eighth, not twofold: together the lists are long.
                list.reserve_exact(list.len() / 8 + 1);
            }
            list.insert(place, Posting { item: no.0, frequency, length });
            terms.push(term);
        }
        self.total_length += f64::from(length);
        self.documents.insert(no.0, Document { terms: terms.into(), length });
    }

    /// Whether number `no` has exactly these words already, as it does when something else of the item was changed.
    fn has(&self, no: ItemNo, frequencies: &[(String, u16)]) -> bool {
        let Some(document) = self.documents.get(&no.0) else {
            return frequencies.is_empty();
        };
        document.terms.len() == frequencies.len()
            && document.terms.iter().zip(frequencies).all(|(&term, (word, frequency))| {
                self.term_numbers.get(word.as_str()) == Some(&term)
                    && self.posting(term, no).is_some_and(|posting| posting.frequency == *frequency)
            })
    }

    /// Forgets the words of number `no`; `false` if it had none.
    pub fn remove(&mut self, no: ItemNo) -> bool {
        let Some(document) = self.documents.remove(&no.0) else {
            return false;
        };
        self.neighbours.forget();
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

    /// The query for the words of `text`. Words that no item has count too: they are worth much and nobody has them.
    pub fn query(&self, text: &str) -> TextQuery {
        let (mut terms, mut unknown, mut taken) = (Vec::new(), 0_usize, HashSet::new());
        for word in words(text) {
            if taken.contains(&word) {
                continue;
            }
            match self.term_numbers.get(word.as_str()).filter(|&&term| !self.postings[term as usize].is_empty()) {
                Some(&term) => terms.push(term),
                None => unknown += 1,
            }
            taken.insert(word);
        }
        let mut query = self.weighed(&terms);
        let known: f32 = query.terms.iter().map(|(_, idf)| idf).sum();
        query.best = (known + unknown.min(MAX_QUERY_TERMS) as f32 * self.idf(0)) * (K1 + 1.0);
        query
    }

    /// The query for items that share words with number `no`; `None` if it has no words. The item itself has the score 1,
    /// a twin too.
    pub fn query_like(&self, no: ItemNo) -> Option<TextQuery> {
        let document = self.documents.get(&no.0)?;
        let mut query = self.weighed(&document.terms);
        query.best = self.sum(&query, no);
        (query.best > 0.0).then_some(query)
    }

    /// The best `limit` items for the words of `text`, best first; only numbers in `allowed`, if given.
    pub fn search(&self, text: &str, limit: usize, allowed: Option<&RoaringBitmap>) -> Vec<Scored> {
        self.find(&self.query(text), limit, allowed)
    }

    /// The best `limit` items for a query, best first; only numbers in `allowed`, if given.
    pub fn find(&self, query: &TextQuery, limit: usize, allowed: Option<&RoaringBitmap>) -> Vec<Scored> {
        let mut found = SUMS.with_borrow_mut(|sums| {
            for &(term, idf) in &query.terms {
                for posting in &self.postings[term as usize] {
                    if allowed.is_none_or(|set| set.contains(posting.item)) {
                        sums.add(posting.item, idf * query.saturated(posting));
                    }
                }
            }
            sums.drain(query.best)
        });
        Scored::keep_best(&mut found, limit);
        found
    }

    /// How well one item answers a query; 0 if it has none of its words.
    pub fn score(&self, query: &TextQuery, no: ItemNo) -> f32 {
        self.sum(query, no) / query.best.max(f32::MIN_POSITIVE)
    }

    /// The best `limit` items that share words with number `no`, itself left out, best first. A score is relative to
    /// that of the item with itself: from above 0 to about 1.
    ///
    /// What is found is kept until an item's words change, so that the items that many people are at cost little.
    pub fn similar(&self, no: ItemNo, limit: usize, allowed: Option<&RoaringBitmap>) -> Vec<Scored> {
        let near = self.neighbours.find(no.0).unwrap_or_else(|| {
            let near: Arc<[Scored]> = self.like(no, KEPT, None).into();
            self.neighbours.keep(no.0, Arc::clone(&near));
            near
        });
        let permitted = near.iter().filter(|s| allowed.is_none_or(|set| set.contains(s.item.0)));
        let found: Vec<Scored> = permitted.take(limit).copied().collect();
        // Fewer than were kept are all that there are.
        if found.len() == limit || near.len() < KEPT {
            return found;
        }
        self.like(no, limit, allowed)
    }

    fn like(&self, no: ItemNo, limit: usize, allowed: Option<&RoaringBitmap>) -> Vec<Scored> {
        let Some(query) = self.query_like(no) else {
            return Vec::new();
        };
        let mut found = self.find(&query, limit.saturating_add(1), allowed);
        found.retain(|s| s.item != no);
        found.truncate(limit);
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

    fn posting(&self, term: u32, no: ItemNo) -> Option<&Posting> {
        let list = self.postings.get(term as usize)?;
        list.binary_search_by_key(&no.0, |posting| posting.item).ok().map(|place| &list[place])
    }

    /// What a word is worth that `having` items have.
    fn idf(&self, having: usize) -> f32 {
        let (count, having) = (self.documents.len() as f32, having as f32);
        (1.0 + (count - having + 0.5) / (having + 0.5)).ln()
    }

    /// The rarest of `terms`, each with what it is worth.
    fn weighed(&self, terms: &[u32]) -> TextQuery {
        let having = |term: u32| self.postings[term as usize].len();
        let mut rarest: Vec<u32> = terms.iter().copied().filter(|&term| having(term) > 0).collect();
        rarest.sort_by_key(|&term| having(term));
        let mut read = 0;
        let mut used = Vec::with_capacity(rarest.len().min(MAX_QUERY_TERMS));
        for term in rarest.into_iter().take(MAX_QUERY_TERMS) {
            // The rarest word is always read, however common it is.
            if !used.is_empty() && read + having(term) > MAX_POSTINGS_READ {
                break;
            }
            read += having(term);
            used.push((term, self.idf(having(term))));
        }
        let mean_length = (self.total_length / self.documents.len().max(1) as f64).max(1e-6) as f32;
        TextQuery { terms: used, best: 0.0, mean_length }
    }

    /// The score of one item, not yet divided.
    fn sum(&self, query: &TextQuery, no: ItemNo) -> f32 {
        let part = |&(term, idf): &(u32, f32)| self.posting(term, no).map_or(0.0, |p| idf * query.saturated(p));
        query.terms.iter().map(part).sum()
    }
}

impl TextQuery {
    /// What is left of a word's frequency in an item once it saturates: 0 to K1 + 1.
    fn saturated(&self, posting: &Posting) -> f32 {
        let (frequency, length) = (f32::from(posting.frequency), f32::from(posting.length));
        let saturation = K1 * (1.0 - B + B * length / self.mean_length);
        frequency * (K1 + 1.0) / (frequency + saturation)
    }
}

impl Sums {
    fn add(&mut self, item: u32, more: f32) {
        let place = item as usize;
        if place >= self.sums.len() {
            self.sums.resize(place + 1, 0.0);
        }
        // Every word adds something, so that zero means none so far.
        if self.sums[place] == 0.0 {
            self.items.push(item);
        }
        self.sums[place] += more;
    }

    /// All sums, each divided by `best`; nothing is left for the next query.
    fn drain(&mut self, best: f32) -> Vec<Scored> {
        let best = best.max(f32::MIN_POSITIVE);
        let take =
            |item: u32| Scored { item: ItemNo(item), score: std::mem::take(&mut self.sums[item as usize]) / best };
        self.items.drain(..).map(take).collect()
    }
}

/// The words of an item with their weighted frequencies, in the order in which the item has them: of equally rare words
/// the first ones count, and the same item gets the same scores in every process.
fn frequencies_of(item: &Item) -> Vec<(String, u16)> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut frequencies: Vec<(String, u16)> = Vec::new();
    let labels = item.tags.iter().chain(&item.categories);
    let fields = std::iter::once((item.title.as_str(), TITLE_WEIGHT))
        .chain(labels.map(|label| (label.as_str(), LABEL_WEIGHT)))
        .chain(std::iter::once((item.description.as_str(), DESCRIPTION_WEIGHT)));
    for (text, weight) in fields {
        for word in words(text) {
            match places.get(&word) {
                Some(&place) => frequencies[place].1 = frequencies[place].1.saturating_add(weight),
                None if frequencies.len() < MAX_TERMS_PER_ITEM => {
                    places.insert(word.clone(), frequencies.len());
                    frequencies.push((word, weight));
                }
                None => {}
            }
        }
    }
    frequencies
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
    fn neighbours_are_those_of_the_present_and_pass_the_filter() {
        // Enough items that share a word for what is kept not to be all of them.
        let mut index = TextIndex::default();
        let count = KEPT as u32 + 50;
        for no in 0..count {
            index.upsert(ItemNo(no), &item("Dunes", &["desert"], &"sand ".repeat(no as usize % 7)));
        }
        let fresh = |index: &TextIndex, limit, allowed: Option<&RoaringBitmap>| index.like(ItemNo(3), limit, allowed);
        // Few, many, and so few of the best that the rest of the index has to be asked.
        let best: RoaringBitmap = index.similar(ItemNo(3), 200, None).iter().map(|s| s.item.0).collect();
        let mut last = RoaringBitmap::from_iter(0..count);
        last -= &best;
        for allowed in [None, Some(&best), Some(&last), Some(&RoaringBitmap::new())] {
            for limit in [0, 10, 60, 300] {
                assert_eq!(index.similar(ItemNo(3), limit, allowed), fresh(&index, limit, allowed), "{limit}");
            }
        }
        // Everything that changes a score is noticed: other words, an item that goes, one that comes.
        index.upsert(ItemNo(10), &item("Sea", &[], ""));
        assert_eq!(index.similar(ItemNo(3), 10, None), fresh(&index, 10, None));
        index.remove(ItemNo(11));
        assert_eq!(index.similar(ItemNo(3), 10, None), fresh(&index, 10, None));
        index.upsert(ItemNo(count), &item("Dunes", &["desert"], ""));
        assert_eq!(index.similar(ItemNo(3), 400, None), fresh(&index, 400, None));
        assert!(index.similar(ItemNo(3), 400, None).iter().any(|s| s.item.0 == count));
        // An item that is written again with the same words is no change.
        index.upsert(ItemNo(count), &item("Dunes", &["desert"], ""));
        assert!(index.neighbours.find(3).is_some());
        index.upsert(ItemNo(count), &item("Dunes", &["desert"], "desert"));
        assert!(index.neighbours.find(3).is_none(), "the same words, but one of them twice");
    }

    #[test]
    fn scores_are_parts_of_the_best_one() {
        let index = shelf();
        for text in ["sea", "calm sea", "the quiet sea ocean waves", "sea sea sea"] {
            let query = index.query(text);
            for found in index.find(&query, 10, None) {
                assert!(found.score > 0.0 && found.score < 1.0, "{text}: {found:?}");
                assert!((index.score(&query, found.item) - found.score).abs() < 1e-6, "{text}: {found:?}");
            }
            assert_eq!(index.score(&query, ItemNo(9)), 0.0);
        }
        let best = |text: &str| index.search(text, 1, None)[0].score;
        assert_eq!(best("sea sea"), best("sea"));
        assert!(best("sea xylophone") < 0.6 * best("sea"), "half of what was asked for is missing");
    }

    #[test]
    fn a_word_may_come_more_often_than_can_be_counted() {
        let mut index = shelf();
        index.upsert(ItemNo(3), &item("", &["sea "; 40_000], "gulls"));
        let found = index.search("sea", 10, None);
        assert_eq!(found[0].item, ItemNo(3));
        assert!(found.iter().all(|s| s.score > 0.0 && s.score < 1.0));
        assert!(index.remove(ItemNo(3)));
        assert_eq!(numbers(&index.search("sea", 10, None)), [0, 1]);
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
