//! Does the whole of it learn, answer, forget, guess, and come back from disk?

use std::sync::atomic::AtomicBool;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::cells::Cells;
use super::model::{Ingredients, Model, Origin, TasteScratch};
use super::*;
use crate::domain::{Embedding, Item, ItemId, LoadError};

const GROUPS: u32 = 5;
const ITEMS: u32 = 60;
/// The last items of each group are not turned to: their pictures and labels are all there is.
const COLD_FROM: u32 = 50;

fn options() -> PreferenceOptions {
    let als = AlsOptions { dims: 12, iterations: 8, ..AlsOptions::default() };
    PreferenceOptions { als, min_engagements: 50, every_s: 60.0, ..PreferenceOptions::default() }
}

fn user(n: u32) -> UserKey {
    UserKey([n as u8; 16])
}

fn at(s: i64) -> Timestamp {
    Timestamp(s * 1000)
}

/// Pictures of a group resemble each other; titles say nothing.
fn describe(item: ItemNo) -> Option<ItemFeatures> {
    let mut random = SmallRng::seed_from_u64(u64::from(item.0));
    let mut picture: Vec<f32> = (0..16).map(|_| random.random_range(-0.3..0.3)).collect();
    picture[(item.0 % GROUPS) as usize] += 1.0;
    let mut described = Item::new(ItemId::new(format!("item-{}", item.0)).unwrap());
    described.title = format!("Number {}", item.0);
    (item.0 < ITEMS).then(|| ItemFeatures::of(&described, &[Embedding::unit(picture).unwrap()]))
}

fn see(preference: &Preference, n: u32, item: u32, s: i64) {
    preference.observe(u64::from(n), Some(user(n)), ItemNo(item), Signal::Engaged(1.0), at(s));
}

/// A hundred people who mostly turn to items of their group.
fn audience(options: &PreferenceOptions) -> Preference {
    let preference = Preference::new(options);
    let mut random = SmallRng::seed_from_u64(1);
    for n in 0..100 {
        for s in 0..8 {
            let group = if random.random_bool(0.9) { n % GROUPS } else { random.random_range(0..GROUPS) };
            see(&preference, n, random.random_range(0..COLD_FROM / GROUPS) * GROUPS + group, s);
        }
    }
    preference
}

fn trained(preference: &Preference, now: Timestamp) -> TrainingReport {
    let items: Vec<ItemNo> = (0..ITEMS).map(ItemNo).collect();
    preference.train(now, &items, &describe, &AtomicBool::new(false), |_| {}).unwrap()
}

fn asked(preference: &Preference, n: u32, limit: usize) -> Vec<u32> {
    let (mut scratch, mut best) = (PreferenceScratch::default(), Vec::new());
    preference.fold_in(Some(u64::from(n)), Some(user(n)), &[], &mut scratch);
    preference.candidates(limit, |_| true, &mut scratch, &mut best);
    assert!(best.iter().all(|s| scratch.score(s.item) == Some(s.score)));
    best.iter().map(|s| s.item.0).collect()
}

#[test]
fn people_get_what_their_like_turn_to() {
    let preference = audience(&options());
    assert!(preference.is_due(at(0)) && asked(&preference, 1, 5).is_empty());
    let report = trained(&preference, at(100));
    assert_eq!((report.tastes, report.learned, report.guessed), (100, 50, 10));
    let mut own = 0;
    for n in 0..20 {
        let best = asked(&preference, n, 3);
        own += best.iter().filter(|&&item| item % GROUPS == n % GROUPS).count();
        let histories = preference.histories.read();
        assert!(histories.of(Taste::User(user(n))).iter().all(|liked| !best.contains(&liked.item.0)));
    }
    assert!(own >= 50, "{own} of 60");
    // Somebody unknown who has just turned to two items; nobody; and rules.
    let (mut scratch, mut best) = (PreferenceScratch::default(), Vec::new());
    assert!(preference.fold_in(None, None, &[(ItemNo(3), 1.0), (ItemNo(8), 1.0)], &mut scratch));
    preference.candidates(3, |item| item.0 != 13, &mut scratch, &mut best);
    assert!(best.iter().all(|s| s.item.0 % GROUPS == 3 && s.item.0 != 13), "{best:?}");
    assert!(scratch.score(ItemNo(18)).unwrap() > 3.0 * scratch.score(ItemNo(19)).unwrap().max(0.01));
    assert!(scratch.likeness(ItemNo(18)).unwrap() > 0.5 && scratch.score(ItemNo(9_999)).is_none());
    assert!(!preference.fold_in(None, None, &[], &mut scratch) && scratch.score(ItemNo(18)).is_none());
    preference.candidates(4, |_| true, &mut scratch, &mut best);
    assert!(best.is_empty());
}

#[test]
fn the_latest_mood_weighs_most() {
    let preference = audience(&options());
    trained(&preference, at(100));
    // Five items of each of two groups; one group came last.
    let of = |group: u32| (0..5).map(move |n| (ItemNo(n * GROUPS + group), 1.0));
    let liked = |first: u32, then: u32, wanted: u32| {
        let mut scratch = PreferenceScratch::default();
        assert!(preference.fold_in(None, None, &of(first).chain(of(then)).collect::<Vec<_>>(), &mut scratch));
        (5..8).map(|n| scratch.score(ItemNo(n * GROUPS + wanted)).unwrap()).sum::<f32>()
    };
    assert!(liked(3, 4, 4) > 1.1 * liked(4, 3, 4), "{} {}", liked(3, 4, 4), liked(4, 3, 4));
    assert!(liked(3, 4, 3) > liked(3, 4, 2), "but what came before is not forgotten");
}

#[test]
fn items_that_nobody_knows_are_guessed_from_their_looks() {
    let preference = audience(&options());
    trained(&preference, at(100));
    let mut right = 0;
    for n in 0..20 {
        let mut scratch = PreferenceScratch::default();
        preference.fold_in(None, Some(user(n)), &[], &mut scratch);
        let score = |item: u32| scratch.score(ItemNo(item)).unwrap();
        let best = (COLD_FROM..ITEMS).max_by(|&a, &b| score(a).total_cmp(&score(b))).unwrap();
        right += usize::from(best % GROUPS == n % GROUPS);
        assert_eq!(preference.is_guessed(ItemNo(COLD_FROM)), Some(true));
    }
    // Popularity knows nothing of them: chance is one in five.
    assert!(right >= 16, "{right} of 20");
    // One that comes later is guessed at once; one that is described again as it was stays where it is.
    assert_eq!(preference.is_guessed(ItemNo(63)), None);
    preference.describe_item(ItemNo(63), || describe(ItemNo(53)).unwrap());
    preference.describe_item(ItemNo(55), || describe(ItemNo(55)).unwrap());
    assert_eq!(preference.model.load().as_ref().unwrap().added(), 1);
    preference.describe_item(ItemNo(56), || describe(ItemNo(54)).unwrap());
    assert_eq!(preference.model.load().as_ref().unwrap().added(), 2);
    assert!(asked(&preference, 3, 15).contains(&63) && asked(&preference, 4, 15).contains(&56));
    // When people turn to it, it is learned.
    (0..30).for_each(|n| see(&preference, n, 63, 200));
    trained(&preference, at(300));
    assert_eq!(preference.is_guessed(ItemNo(63)), Some(false));
}

#[test]
fn training_comes_when_enough_is_new() {
    let preference = Preference::new(&options());
    (0..49).for_each(|n| see(&preference, n % 7, n / 7, 0));
    assert!(!preference.is_due(at(0)), "too little");
    see(&preference, 8, 1, 0);
    assert!(preference.is_due(at(0)));
    trained(&preference, at(0));
    assert!(!preference.is_due(at(500)), "nothing is new");
    (0..6).for_each(|n| see(&preference, 20 + n, 1, 1));
    assert!(!preference.is_due(at(59)) && preference.is_due(at(60)));
    trained(&preference, at(60));
    preference.forget_user(user(20));
    assert!(!preference.is_due(at(119)) && preference.is_due(at(120)), "somebody was forgotten");
    let off = Preference::new(&PreferenceOptions { enabled: false, ..options() });
    see(&off, 1, 1, 1);
    assert_eq!((off.known(), off.is_due(at(0))), ((0, 0), false));
}

#[test]
fn a_forgotten_person_is_not_in_the_next_model() {
    let (never, forgot) = (audience(&options()), audience(&options()));
    for item in 0..40 {
        forgot.observe(999, None, ItemNo(item), Signal::Engaged(1.0), at(5));
        forgot.observe(998, None, ItemNo(item), Signal::Engaged(1.0), at(5));
        see(&forgot, 200, item, 6);
    }
    trained(&forgot, at(10));
    // The session turns out to be theirs.
    forgot.observe(999, Some(user(200)), ItemNo(41), Signal::Engaged(1.0), at(6));
    forgot.forget_user(user(200));
    forgot.forget_session(998);
    assert_eq!(forgot.known(), never.known());
    trained(&never, at(100));
    trained(&forgot, at(100));
    let model = |preference: &Preference| preference.model.load_full().unwrap();
    assert!(model(&never).rows == model(&forgot).rows, "it is as if they had never been");
}

#[test]
fn forgotten_items_are_gone_at_once() {
    let preference = audience(&options());
    trained(&preference, at(100));
    preference.describe_item(ItemNo(63), || describe(ItemNo(53)).unwrap());
    let before = asked(&preference, 3, 20);
    assert!(before.contains(&63));
    for &item in &before {
        preference.forget_item(ItemNo(item));
    }
    let after = asked(&preference, 3, 60);
    assert!(!after.is_empty() && before.iter().all(|item| !after.contains(item)));
    assert_eq!(preference.is_guessed(ItemNo(63)), None);
    preference.describe_item(ItemNo(63), || describe(ItemNo(53)).unwrap());
    assert_eq!(preference.is_guessed(ItemNo(63)), Some(true));
}

#[test]
fn what_changes_during_a_training_is_not_lost() {
    let preference = audience(&options());
    trained(&preference, at(0));
    let gone = ItemNo(52);
    let is_gone = AtomicBool::new(false);
    let describe = |item: ItemNo| match item {
        ItemNo(63) => describe(ItemNo(53)),
        item if item == gone && is_gone.load(Ordering::Relaxed) => None,
        item => describe(item),
    };
    let items: Vec<ItemNo> = (0..ITEMS).map(ItemNo).collect();
    // Both happen in the last round, after the list of items was made.
    let report = preference.train(at(1), &items, &describe, &AtomicBool::new(false), |round| {
        if round == 8 {
            preference.describe_item(ItemNo(63), || describe(ItemNo(63)).unwrap());
            preference.forget_item(gone);
            preference.forget_item(ItemNo(7));
            is_gone.store(true, Ordering::Relaxed);
        }
    });
    assert!(report.is_some());
    assert_eq!(preference.is_guessed(ItemNo(63)), Some(true));
    assert_eq!(preference.is_guessed(gone), None);
}

#[test]
fn a_training_that_is_stopped_leaves_the_old_model() {
    let preference = audience(&options());
    trained(&preference, at(0));
    let before = asked(&preference, 3, 10);
    let stop = AtomicBool::new(true);
    assert_eq!(preference.train(at(100), &[], &|_| None, &stop, |_| {}), None);
    assert_eq!(asked(&preference, 3, 10), before);
}

#[test]
fn readers_never_wait_for_a_training() {
    let preference = audience(&options());
    trained(&preference, at(0));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..3 {
            let (preference, done) = (&preference, &done);
            scope.spawn(move || {
                let mut answers = 0;
                while !done.load(Ordering::Relaxed) || answers == 0 {
                    assert_eq!(asked(preference, reader, 10).len(), 10);
                    answers += 1;
                }
            });
        }
        scope.spawn(|| {
            for turn in 0..5 {
                see(&preference, turn, turn, 50);
                trained(&preference, at(i64::from(turn)));
            }
            done.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn everything_comes_back_from_bytes() {
    let preference = audience(&options());
    trained(&preference, at(100));
    preference.forget_item(ItemNo(51));
    let bytes = preference.save();
    let loaded = Preference::load(&options(), ITEMS as usize, &bytes).unwrap();
    assert!(loaded.save() == bytes);
    (0..20).for_each(|n| assert_eq!(asked(&preference, n, 20), asked(&loaded, n, 20)));
    for preference in [&preference, &loaded] {
        preference.describe_item(ItemNo(63), || describe(ItemNo(53)).unwrap());
        assert_eq!(preference.is_guessed(ItemNo(63)), Some(true));
        assert!(!preference.is_due(at(500)), "the schedule came back too");
    }
    // Other dimensions: the histories stay, and a training is due.
    let mut wider = options();
    wider.als.dims = 20;
    let wider = Preference::load(&wider, ITEMS as usize, &bytes).unwrap();
    assert_eq!((wider.known(), wider.is_trained(), wider.is_due(at(0))), (preference.known(), false, true));
    // Before anything was learned.
    let new = Preference::new(&options());
    assert!(!Preference::load(&options(), 0, &new.save()).unwrap().is_trained());
}

#[test]
fn damaged_bytes_do_no_harm() {
    let preference = audience(&options());
    trained(&preference, at(100));
    let bytes = preference.save();
    assert_eq!(Preference::load(&options(), 60, b"else").map(drop), Err(LoadError::Format));
    assert!(Preference::load(&options(), 40, &bytes).is_err(), "there are more items");
    for length in (0..bytes.len()).step_by(97).chain(bytes.len() - 9..bytes.len()) {
        assert!(Preference::load(&options(), 60, &bytes[..length]).is_err());
    }
    let mut random = SmallRng::seed_from_u64(9);
    for _ in 0..400 {
        let mut bytes = bytes.clone();
        for _ in 0..random.random_range(1..5) {
            let place = random.random_range(0..bytes.len());
            bytes[place] = random.random();
        }
        if let Ok(loaded) = Preference::load(&options(), 60, &bytes) {
            see(&loaded, 3, 4, 999);
            (0..4).for_each(|n| drop(asked(&loaded, n, 70)));
        }
    }
}

/// Factors as they come out of a training: a few strong directions, some items longer than others.
fn many(count: usize, dims: usize) -> Model {
    let mut random = SmallRng::seed_from_u64(12);
    let mut normal = || (0..6).map(|_| random.random_range(-1.0_f32..1.0)).sum::<f32>() * 0.7;
    let centres: Vec<Vec<f32>> = (0..200).map(|_| (0..dims).map(|_| normal()).collect()).collect();
    let rows: Vec<f32> = (0..count)
        .flat_map(|n| {
            let length = 0.05 + 0.1 * normal().abs();
            let centre = &centres[n % centres.len()];
            (0..dims).map(|k| length * (centre[k] + 0.7 * normal())).collect::<Vec<_>>()
        })
        .collect();
    Model::new(Ingredients {
        dims,
        penalty: Penalty { regularisation: 0.1, exponent: 0.5, unobserved: 0.1 },
        spread: vec![1.0; dims],
        learned_from: count,
        map: None,
        rows,
        numbers: (0..count as u32).collect(),
        origins: vec![Origin::Learned; count],
    })
}

/// Of the sixty best, at most one in ten may be missed on average.
#[test]
fn the_best_of_many_are_found_without_looking_at_all() {
    let dims = 32;
    let model = many(20_000, dims);
    assert!(model.cells.is_some());
    let (mut scratch, mut best, mut found) = (TasteScratch::default(), Vec::new(), 0);
    for question in 0..20_u32 {
        let liked: Vec<(ItemNo, f32)> = (0..8).map(|n| (ItemNo(question * 37 % 200 + n * 200), 1.0)).collect();
        assert!(model.fold_in(&liked, &mut scratch));
        model.candidates(60, |_| true, &mut scratch, &mut best);
        let rows = model.rows.chunks_exact(dims).zip(&model.numbers);
        let mut exact: Vec<Scored> =
            rows.map(|(row, &no)| Scored { item: ItemNo(no), score: dot(row, &scratch.taste) }).collect();
        Scored::keep_best(&mut exact, 60);
        found += exact.iter().filter(|s| best.contains(s)).count();
    }
    assert!(found * 10 >= 20 * 60 * 9, "{found} of {}", 20 * 60);
    assert!(Cells::arrange(&model.rows[..1_000 * dims], dims).is_none(), "few rows need no cells");
}
