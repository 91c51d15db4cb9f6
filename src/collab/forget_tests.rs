//! Is a state that forgot a person the same as one that never saw them?

use super::testing::{Step, Viewers, answers};
use super::{Collab, CollabLimits, Engagement, testing};
use crate::domain::{ItemNo, Timestamp};

const ITEMS: u32 = 40;

/// Sessions from here on are the person's.
const MINE: u64 = 1000;

fn limits() -> CollabLimits {
    CollabLimits {
        link_half_life_s: 7_200.0,
        trending_half_lives_s: [900.0, 7_200.0, 86_400.0],
        ..CollabLimits::default()
    }
}

fn engagements(steps: &[Step]) -> Vec<Engagement<'_>> {
    steps.iter().map(Step::engagement).collect()
}

/// Compares every answer; names and values must agree.
#[track_caller]
fn same(never: &Collab, forgot: &Collab, now: Timestamp) {
    let (never, forgot) = (answers(never, ITEMS, now), answers(forgot, ITEMS, now));
    let names = |found: &std::collections::BTreeMap<String, f32>| found.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&never), names(&forgot));
    for (name, &expected) in &never {
        let got = forgot[name];
        assert!((got - expected).abs() <= 1e-3 * expected.abs(), "{name}: {got} instead of {expected}");
    }
}

#[test]
fn a_forgotten_person_leaves_no_trace() {
    for seed in 0..16 {
        let (never, forgot) = (Collab::new(&limits()), Collab::new(&limits()));
        // 1,200 steps of 24 s on average are four half-lives of links and 32 of the shortest trend.
        let mut viewers = Viewers::new(seed, ITEMS, 24.0);
        let mut mine = Vec::new();
        for n in 0..1200 {
            let person = n % 6 == 0;
            let step = viewers.step(if person { MINE + n / 60..MINE + n / 60 + 1 } else { n / 12..n / 12 + 4 });
            forgot.observe(step.engagement());
            if person {
                mine.push(step);
            } else {
                never.observe(step.engagement());
            }
        }
        assert_eq!(mine.len(), 200);
        forgot.forget_engagements(&engagements(&mine));
        same(&never, &forgot, viewers.now());
        // And both go on alike.
        for _ in 0..200 {
            let step = viewers.step(100..104);
            never.observe(step.engagement());
            forgot.observe(step.engagement());
        }
        same(&never, &forgot, viewers.now());
    }
}

#[test]
fn nobody_else_means_nothing_is_left() {
    let (never, forgot) = (Collab::new(&limits()), Collab::new(&limits()));
    let mut viewers = Viewers::new(1, ITEMS, 300.0);
    let steps: Vec<Step> = (0..1000).map(|n| viewers.step(MINE + n / 50..MINE + n / 50 + 1)).collect();
    steps.iter().for_each(|step| forgot.observe(step.engagement()));
    forgot.forget_engagements(&engagements(&steps));
    same(&never, &forgot, viewers.now());
    assert!(answers(&forgot, ITEMS, viewers.now()).is_empty());
    // Taking back what is not there does nothing, nor does what was never counted.
    forgot.forget_engagements(&engagements(&steps));
    forgot.forget_engagements(&[Engagement {
        session: MINE,
        item: ItemNo(u32::MAX),
        at: Timestamp(0),
        user: None,
        confidence: 1.0,
        region: Some(""),
        history: &[],
    }]);
    assert!(answers(&forgot, ITEMS, viewers.now()).is_empty());
}

#[test]
fn the_next_best_comes_up_when_an_item_falls_off_a_board() {
    let (never, forgot) = (Collab::new(&limits()), Collab::new(&limits()));
    let at = |n: u32| Timestamp::from_seconds(1.7e9 + f64::from(n));
    let step = |session, item, n| Step { session, item: ItemNo(item), at: at(n), region: Some("de"), history: vec![] };
    let mut mine = Vec::new();
    for item in 0..300 {
        for turn in 0..=item % 7 {
            let theirs = step(u64::from(turn), item, item * 8 + turn);
            never.observe(theirs.engagement());
            forgot.observe(theirs.engagement());
        }
        for n in 0..10 {
            if item % 3 == 0 {
                let own = step(MINE, item, 2_400 + n);
                forgot.observe(own.engagement());
                mine.push(own);
            }
        }
    }
    assert_eq!(forgot.trending.most_popular(1)[0].score, 17.0);
    forgot.forget_engagements(&engagements(&mine));
    let (now, popular) =
        (at(3_000), |collab: &Collab| collab.trending.most_popular(300).iter().map(|s| s.score).collect::<Vec<_>>());
    assert_eq!(popular(&never), popular(&forgot));
    assert_eq!(popular(&forgot).len(), 256);
    for region in [None, Some("de")] {
        let (never, forgot) = (testing::popular(&never, region, now, 100), testing::popular(&forgot, region, now, 100));
        assert!(never.iter().zip(&forgot).all(|(a, b)| (a.score - b.score).abs() <= 1e-3 * a.score));
    }
}
