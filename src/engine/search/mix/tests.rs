//! Are the best ones found, whatever is asked together?

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::looks::Sample;
use super::*;
use crate::domain::{Fit, InputSize, Item, ItemId};
use crate::engine::Strategy;
use crate::index::ExactIndex;
use crate::inference::{Blend, Metric, ModelSpec};

const DIMS: usize = 6;
const ITEMS: u32 = 700;
const WORDS: [&str; 8] = ["sea", "sand", "storm", "city", "night", "forest", "rain", "snow"];

struct Shelf {
    vectors: ExactIndex,
    text: TextIndex,
}

fn direction(random: &mut StdRng) -> Embedding {
    Embedding::unit((0..DIMS).map(|_| random.random_range(-1.0_f32..1.0)).collect()).unwrap()
}

/// Items with none to three pictures and with none to four words.
fn shelf() -> Shelf {
    let mut random = StdRng::seed_from_u64(7);
    let (vectors, mut text) = (ExactIndex::new(DIMS).unwrap(), TextIndex::default());
    for no in 0..ITEMS {
        let pictures: Vec<Embedding> = (0..random.random_range(0..4)).map(|_| direction(&mut random)).collect();
        if !pictures.is_empty() {
            vectors.upsert(ItemNo(no), &pictures).unwrap();
        }
        let mut item = Item::new(ItemId::new(no.to_string()).unwrap());
        let words = (0..random.random_range(0..5)).map(|_| WORDS[random.random_range(0..WORDS.len())]);
        item.title = words.collect::<Vec<_>>().join(" ");
        text.upsert(ItemNo(no), &item);
    }
    Shelf { vectors, text }
}

/// What is asked for: pictures to look for and to keep away from, words alike, an audience.
#[derive(Debug, Clone, Copy, Default)]
struct Wanted {
    good: usize,
    bad: usize,
    words: usize,
    bad_words: usize,
    audience: bool,
    average: bool,
    few: bool,
    floor: Option<f32>,
}

fn mix<'a>(shelf: &'a Shelf, wanted: &Wanted, random: &mut StdRng) -> Mix<'a> {
    let mut samples = Vec::new();
    let mut described = Vec::new();
    for number in 0..wanted.good + wanted.bad {
        let (weight, negative) = (random.random_range(0.5..2.0), number >= wanted.good);
        samples.push(Sample { example: number, weight, negative, vectors: vec![direction(random)] });
    }
    for (number, word) in WORDS.iter().enumerate().take(wanted.words + wanted.bad_words) {
        let query = shelf.text.query(&format!("{} {word}", WORDS[random.random_range(0..8)]));
        let (example, weight) = (samples.len() + number, random.random_range(0.2..2.0));
        described.push(Described { example, weight, negative: number >= wanted.words, by: By::Words(query) });
    }
    if wanted.audience {
        let shared = (0..90).map(|_| (ItemNo(random.random_range(0..ITEMS)), random.random_range(0.0_f32..1.0)));
        let by = By::Audience(shared.collect());
        described.push(Described { example: samples.len() + described.len(), weight: 1.0, negative: false, by });
    }
    let input = InputSize { width: 8, height: 8, fit: Fit::Stretch };
    let blend =
        Blend::new(&[(&ModelSpec { model_id: "m@1".into(), input, dims: DIMS, metric: Metric::Cosine }, 1.0)]).unwrap();
    let strategy = if wanted.average { Strategy::AverageVector } else { Strategy::BestScore };
    let allowed = wanted.few.then(|| (0..ITEMS).filter(|no| no % 17 == 3).collect());
    Mix {
        vectors: &shelf.vectors,
        text: &shelf.text,
        looks: Looks::new(&samples, strategy, &blend).unwrap(),
        described,
        allowed,
        excluded: RoaringBitmap::from([5, 20, 37]),
        floor: wanted.floor.unwrap_or(f32::NEG_INFINITY),
    }
}

/// Everything that has anything to do with what is looked for, scored one by one.
fn everything(mix: &Mix<'_>) -> Vec<Found> {
    let good = |item: ItemNo| {
        let pictured = mix.sought().is_some() && !mix.vectors.get(item).is_empty();
        pictured || mix.described.iter().any(|d| !d.negative && mix.similarity(d, item) > 0.0)
    };
    let permitted = |no: &u32| mix.allowed.as_ref().is_none_or(|a| a.contains(*no)) && !mix.excluded.contains(*no);
    let mut all: Vec<Found> =
        (0..ITEMS).filter(permitted).map(ItemNo).filter(|&item| good(item)).map(|item| mix.judge(item)).collect();
    all.retain(|found| found.score >= mix.floor);
    sort(&mut all);
    all
}

fn wishes() -> Vec<Wanted> {
    let mut wishes = Vec::new();
    for (good, bad) in [(0, 0), (1, 0), (3, 0), (1, 1), (2, 3), (0, 2)] {
        for (words, bad_words) in [(0, 0), (1, 0), (3, 0), (1, 2)] {
            for bits in 0..16 {
                let (audience, average, few) = (bits & 1 > 0, bits & 2 > 0, bits & 4 > 0);
                let floor = (bits & 8 > 0).then_some(0.3);
                if good + words > 0 {
                    wishes.push(Wanted { good, bad, words, bad_words, audience, average, few, floor });
                }
            }
        }
    }
    wishes.push(Wanted { bad: 2, average: true, ..Wanted::default() });
    wishes.push(Wanted { audience: true, ..Wanted::default() });
    wishes
}

#[test]
fn the_best_are_found_as_if_everything_had_been_scored() {
    let (shelf, mut random) = (shelf(), StdRng::seed_from_u64(11));
    for wanted in wishes() {
        let mix = mix(&shelf, &wanted, &mut random);
        let all = everything(&mix);
        for want in [1, 10, 100] {
            let found = mix.best(want).unwrap();
            assert_eq!(found, all[..want.min(all.len())], "{want} of {wanted:?}");
        }
    }
}

#[test]
fn the_best_pictures_are_found_too() {
    let (shelf, mut random) = (shelf(), StdRng::seed_from_u64(13));
    for wanted in wishes().into_iter().filter(|wanted| wanted.good > 0) {
        let mix = mix(&shelf, &wanted, &mut random);
        let mut all: Vec<Found> = everything(&mix).into_iter().flat_map(|found| mix.each_image(found.item)).collect();
        all.retain(|found| found.score >= mix.floor);
        sort(&mut all);
        let found = mix.best_images(30).unwrap();
        assert_eq!(found, all[..30.min(all.len())], "{wanted:?}");
    }
}

#[test]
fn parts_sum_to_the_score() {
    let (shelf, mut random) = (shelf(), StdRng::seed_from_u64(17));
    for wanted in wishes() {
        let mix = mix(&shelf, &wanted, &mut random);
        for found in mix.best(20).unwrap() {
            let parts = mix.parts(&found);
            let sum: f32 = parts.iter().map(|part| part.contribution).sum();
            assert!((sum - found.score).abs() < 1e-3, "{sum} {found:?} {parts:?} {wanted:?}");
        }
        if wanted.bad_words == 0 {
            for (found, parts) in mix.fused(20).unwrap() {
                let sum: f32 = parts.iter().map(|part| part.contribution).sum();
                assert!((sum - found.score).abs() < 1e-6 && !parts.is_empty(), "{sum} {found:?} {parts:?}");
            }
        }
    }
}

#[test]
fn fusing_ranks_counts_places_and_nothing_else() {
    let (shelf, mut random) = (shelf(), StdRng::seed_from_u64(19));
    let mix = mix(&shelf, &Wanted { good: 1, bad: 1, words: 1, ..Wanted::default() }, &mut random);
    let looks = mix.looks.as_ref().unwrap();
    let (by_looks, by_words) = (mix.alike(looks, RRF_DEPTH).unwrap(), mix.ranking(&mix.described[0], RRF_DEPTH));
    let place = |place: Option<usize>| place.map_or(0.0, |place| 1.0 / (61.0 + place as f32));
    let score = |item: ItemNo| {
        looks.weight * place(by_looks.iter().position(|f| f.item == item))
            + mix.described[0].weight * place(by_words.iter().position(|s| s.item == item))
    };
    let fused = mix.fused(1_000).unwrap();
    assert!(fused.is_sorted_by(|a, b| a.0.score >= b.0.score));
    for (found, parts) in &fused {
        assert!((found.score - score(found.item)).abs() < 1e-6);
        assert!(parts.iter().all(|part| part.rank.is_some()));
    }
    // An item in both rankings comes before one that is as far up in only one of them.
    assert!(fused.iter().any(|(_, parts)| parts.len() == 2) && fused.iter().any(|(_, parts)| parts.len() == 1));
}

#[test]
fn likeness_alone_ranks_as_if_every_picture_had_been_compared() {
    let (shelf, mut random) = (shelf(), StdRng::seed_from_u64(23));
    for bad in [0, 4] {
        let mix = mix(&shelf, &Wanted { good: 2, bad, ..Wanted::default() }, &mut random);
        let looks = mix.looks.as_ref().unwrap();
        let alike = mix.alike(looks, 150).unwrap();
        assert_eq!(alike, everything(&mix)[..150], "{bad}");
    }
}

#[test]
fn scores_have_the_order_of_numbers() {
    let found = |item, score| Found { item: ItemNo(item), image: None, score };
    let mut list = vec![found(0, -0.5), found(1, 0.25), found(2, -0.25), found(3, 0.0), found(4, 1.5), found(5, 0.25)];
    sort(&mut list);
    assert_eq!(list.iter().map(|f| f.item.0).collect::<Vec<_>>(), [4, 1, 5, 3, 2, 0]);
}
