//! Is a state that was saved and loaded the same as before, and are bytes refused that nobody saved?

use proptest::prelude::*;

use super::testing::{Step, Viewers, answers};
use super::{Collab, CollabLimits, Engagement};
use crate::domain::{Horizons, ItemNo, LoadError};

const ITEMS: u32 = 700;

/// Small enough that everything is full after a few thousand steps.
fn limits() -> CollabLimits {
    CollabLimits {
        sessions: 64,
        session_items: 6,
        recency_sample: 8,
        neighbours: 8,
        links_per_item: 6,
        link_half_life_s: 86_400.0,
        regions: 2,
        items_per_region: 256,
        ..CollabLimits::default()
    }
}

/// Learns `steps` steps, and forgets something now and then.
fn live(viewers: &mut Viewers, collabs: &[&Collab], steps: u64) {
    let mut kept: Vec<Step> = Vec::new();
    for n in 0..steps {
        let step = viewers.step(n / 10..n / 10 + 12);
        for collab in collabs {
            collab.observe(step.engagement());
            match n % 250 {
                77 => collab.forget_item(ItemNo(n as u32 % ITEMS)),
                154 => collab.forget_session(n / 10),
                231 => collab.forget_engagements(&kept.iter().map(Step::engagement).collect::<Vec<_>>()),
                _ => {}
            }
        }
        if n % 250 == 231 {
            kept.clear();
        }
        if step.session.is_multiple_of(9) {
            kept.push(step);
        }
    }
}

#[test]
fn a_loaded_state_answers_and_learns_like_the_saved_one() {
    for seed in 0..4 {
        let saved = Collab::new(&limits());
        let mut viewers = Viewers::new(seed, ITEMS, 300.0);
        // The first one saves a ring that is not full yet.
        live(&mut viewers, &[&saved], if seed == 0 { 150 } else { 4_000 });
        let bytes = saved.save();
        let loaded = Collab::load(&limits(), ITEMS as usize, &bytes).unwrap();
        assert!(loaded.save() == bytes, "what is loaded is what was saved");
        assert_eq!(answers(&saved, 60, viewers.now()), answers(&loaded, 60, viewers.now()));
        live(&mut viewers, &[&saved, &loaded], 3_000);
        assert!(saved.save() == loaded.save(), "it learns the same");
        assert_eq!(answers(&saved, 60, viewers.now()), answers(&loaded, 60, viewers.now()));
    }
}

#[test]
fn nothing_can_be_saved_too() {
    let bytes = Collab::new(&limits()).save();
    assert_eq!(Collab::load(&limits(), 0, &bytes).unwrap().trending.events(), 0);
}

#[test]
fn other_limits_are_incompatible() {
    let bytes = small().save();
    let load = |change: &dyn Fn(&mut CollabLimits)| {
        let mut limits = limits();
        change(&mut limits);
        Collab::load(&limits, 50, &bytes).map(drop)
    };
    let changes: [&dyn Fn(&mut CollabLimits); 10] = [
        &|limits| limits.sessions = 65,
        &|limits| limits.session_items += 1,
        &|limits| limits.recency_sample -= 1,
        &|limits| limits.links_per_item += 1,
        &|limits| limits.link_half_life_s = 0.0,
        &|limits| limits.horizons = Horizons::new(vec![15, 30]).unwrap(),
        &|limits| limits.horizons = Horizons::new(vec![15, 30, 61]).unwrap(),
        &|limits| limits.trending_half_lives_s[1] += 1.0,
        &|limits| limits.regions += 1,
        &|limits| limits.items_per_region += 1,
    ];
    for change in changes {
        assert!(matches!(load(change), Err(LoadError::Incompatible(_))));
    }
    assert_eq!(load(&|limits| (limits.neighbours, limits.sessions) = (500, 63)), Ok(()));
    assert!(matches!(Collab::load(&limits(), 10, &bytes), Err(LoadError::Damaged(_))), "there are more items");
    assert_eq!(Collab::load(&limits(), 50, b"else").unwrap_err(), LoadError::Format);
}

/// A state with something everywhere, in few bytes.
fn small() -> Collab {
    let collab = Collab::new(&limits());
    let mut viewers = Viewers::new(5, 50, 60.0);
    for n in 0..120 {
        collab.observe(viewers.step(n / 30..n / 30 + 6).engagement());
    }
    collab
}

/// Loads, and if that is possible, asks and learns. Nothing of it may panic or become infinite.
fn survives(bytes: &[u8]) {
    let Ok(collab) = Collab::load(&limits(), 50, bytes) else { return };
    let mut viewers = Viewers::new(6, 50, 60.0);
    let steps: Vec<Step> = (0..40).map(|n| viewers.step(n / 4..n / 4 + 6)).collect();
    steps.iter().for_each(|step| collab.observe(step.engagement()));
    collab.forget_engagements(&steps.iter().map(Step::engagement).collect::<Vec<Engagement<'_>>>());
    assert!(answers(&collab, 8, viewers.now()).values().all(|value| value.is_finite()));
}

#[test]
fn bytes_that_end_early_or_late_are_refused() {
    let mut bytes = small().save();
    for length in 0..bytes.len() {
        assert!(Collab::load(&limits(), 50, &bytes[..length]).is_err());
    }
    bytes.push(0);
    assert!(Collab::load(&limits(), 50, &bytes).is_err());
}

#[test]
fn no_number_claims_memory_that_is_not_there() {
    let bytes = small().save();
    for place in 8..bytes.len() - 4 {
        let mut bytes = bytes.clone();
        bytes[place..place + 4].copy_from_slice(&[255, 255, 255, 127]);
        survives(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn damaged_bytes_do_no_harm(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = small().save();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        survives(&bytes);
    }

    #[test]
    fn any_bytes_do_no_harm(noise in proptest::collection::vec(any::<u8>(), 0..600)) {
        survives(&noise);
        let good = small().save();
        // The limits are right, the rest is not.
        survives(&[&good[..28], &noise].concat());
    }
}
