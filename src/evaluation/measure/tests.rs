//! Do hand-computed logs come out as they must, and does nothing from the future get in?

use super::*;
use crate::collab::CollabLimits;
use crate::domain::Timestamp;
use crate::evaluation::NothingElse;

fn session(key: u64, clicks: &[(u32, i64)]) -> Session {
    let clicks = clicks.iter().map(|&(item, s)| (ItemNo(item), Timestamp(s * 1000))).collect();
    Session { key, user: None, clicks, confidences: Vec::new() }
}

fn measured(before: &[Session], sessions: &[Session], options: MeasureOptions) -> Measured {
    let collab = Collab::new(&CollabLimits::default());
    Replay { learning: options.learning }.learn(&collab, before);
    let model = HazardModel::shipped().unwrap();
    let mut told = Vec::new();
    let found = measure(&collab, sessions, &model, &options, &mut NothingElse, &mut |done, total| {
        told.push((done, total));
    });
    assert_eq!(told.len(), found.moments);
    assert!(told.last().is_none_or(|(done, total)| done == total));
    found
}

fn values(measured: &Measured, aim: usize, ranker: Ranker) -> (f64, f64, f64) {
    let Figures { hr, mrr, ndcg } = measured.aims[aim].ranker(ranker).unwrap().figures;
    (hr.value, mrr.value, ndcg.value)
}

/// Item 1 is had three times, item 2 twice, item 3 once; 1 leads to 2.
fn past() -> Vec<Session> {
    vec![session(1, &[(1, 0), (2, 5)]), session(2, &[(1, 100), (2, 105)]), session(3, &[(1, 200), (3, 300)])]
}

#[test]
fn rankers_are_scored_by_hand() {
    // Popular: 1, 2, 3. At the click on 3 the list is 1, 2; item 2 comes after 10 s, item 4 after 40 s.
    let options = MeasureOptions { k: 2, items: 4, ..MeasureOptions::default() };
    let found = measured(&past(), &[session(9, &[(3, 1_000), (2, 1_010), (4, 1_040)])], options);
    assert_eq!((found.moments, found.aims.len()), (3, 3));
    assert_eq!(found.aims.iter().map(|a| a.positions).collect::<Vec<_>>(), [1, 2, 2]);
    let gain = 1.0 / 3.0_f64.log2();
    let (hr, mrr, ndcg) = values(&found, 0, Ranker::Popularity);
    assert!((hr, mrr) == (1.0, 0.5) && (ndcg - gain).abs() < 1e-6);
    // Within 30 s: at the click on 2 item 4 is looked for, which nobody has had.
    let (hr, mrr, _) = values(&found, 1, Ranker::Popularity);
    assert_eq!((hr, mrr), (0.5, 0.25));
    // Within 60 s: 2 and 4 at the first click; of the ideal 1 + 1/log2(3) there is 1/log2(3).
    let (hr, mrr, ndcg) = values(&found, 2, Ranker::Popularity);
    assert_eq!((hr, mrr), (0.5, 0.25));
    assert!((ndcg - gain / (1.0 + gain) / 2.0).abs() < 1e-6);
    // Both lists of popular items: 1, 2 at item 3; 1, 3 at item 2; 1, 2 at item 4.
    assert_eq!(found.aims[0].ranker(Ranker::Popularity).unwrap().coverage, 0.75);
    assert!(found.aims[0].ranker(Ranker::Visual).is_none(), "there are no pictures");
}

#[test]
fn a_transition_is_found_and_its_gain_over_the_best_is_told() {
    let options = MeasureOptions { k: 1, items: 3, resamples: 100, ..MeasureOptions::default() };
    let found = measured(&past(), &[session(9, &[(1, 1_000), (2, 1_010)])], options);
    assert_eq!(values(&found, 0, Ranker::Transition), (1.0, 1.0, 1.0));
    assert_eq!(values(&found, 0, Ranker::Blend), (1.0, 1.0, 1.0));
    let (_, over) = found.aims[0].over_best.unwrap();
    assert_eq!((over.mrr.value, over.mrr.interval), (0.0, Some((0.0, 0.0))));
    assert_eq!(found.aims[1].over_others.iter().map(|(seconds, _)| *seconds).collect::<Vec<_>>(), [15, 60]);
    let mean = |seconds: u32| {
        let over = |aim: &AimResult| aim.over_others.iter().find(|(s, _)| *s == seconds).map_or(0.0, |o| o.1.mrr.value);
        found.aims.iter().map(over).sum::<f64>() / 3.0
    };
    for &(seconds, figures) in &found.over_one_list {
        assert!((figures.mrr.value - mean(seconds)).abs() < 1e-9 && figures.mrr.interval.is_some());
    }
    let calibration = found.aims[0].calibration.as_ref().unwrap();
    assert_eq!(calibration.predictions, 2, "the last click counts, too: nobody knew that it was the last");
    assert!(found.aims[0].blend_over(&found.aims[0]).unwrap().mrr.interval == Some((0.0, 0.0)));
}

#[test]
fn the_next_engagements_are_an_aim_of_their_own() {
    let day = 86_400;
    let sessions = [session(9, &[(3, 1_000), (3, 1_001), (1, day), (3, 2 * day), (2, 3 * day)])];
    let options = MeasureOptions { k: 2, items: 3, next: Some(2), ..MeasureOptions::default() };
    let found = measured(&past(), &sessions, options);
    assert_eq!((found.aims[3].aim, found.aims[3].positions), (Aim::Next(2), 4));
    assert_eq!(found.aims[2].positions, 0, "nothing else comes within a minute");
    // Popular: 1, 2 at item 3, where 1 and 2 come next; 2, 3 at item 1, where 3 and 2 do; 1, 2 at 3, where 2 does.
    let (hr, mrr, _) = values(&found, 3, Ranker::Popularity);
    assert_eq!((hr, mrr), (1.0, (1.0 + 1.0 + 1.0 + 0.5) / 4.0));

    let seen = MeasureOptions { exclude_seen: true, ..options };
    let found = measured(&past(), &sessions, seen);
    // The same, but at item 1 neither 3 is looked for nor listed, and at the second 3 only 2 is left.
    assert_eq!((found.aims[3].positions, values(&found, 3, Ranker::Popularity).1), (4, 1.0));
}

#[test]
fn what_only_the_future_knows_is_never_in_a_list() {
    // Every click is on an item that nobody has had before.
    let fresh = |from: u32| -> Vec<Session> {
        (0..6)
            .map(|s| session(u64::from(from + s), &[0, 1, 2].map(|c| (100 * from + 3 * s + c, i64::from(9 * s + c)))))
            .collect()
    };
    for learning in [Learning::AfterSession, Learning::AtOnce] {
        let options = MeasureOptions { learning, next: Some(5), items: 2_000, ..MeasureOptions::default() };
        let found = measured(&past(), &fresh(10), options);
        for (index, aim) in found.aims.iter().enumerate() {
            assert_eq!(aim.positions, 12);
            for ranker in &aim.rankers {
                assert_eq!(values(&found, index, ranker.ranker), (0.0, 0.0, 0.0), "{learning:?} {:?}", ranker.ranker);
            }
        }
    }
}

#[test]
fn clicks_are_judged_from_a_moment_on_and_up_to_a_limit() {
    let sessions: Vec<Session> = (0..40).map(|n| session(n, &[(1, 10 * n as i64), (2, 10 * n as i64 + 3)])).collect();
    let options = MeasureOptions { items: 2, from: Some(Timestamp(200_000)), ..MeasureOptions::default() };
    let found = measured(&[], &sessions, options);
    assert_eq!((found.moments, found.aims[0].positions), (40, 20));
    let limited = MeasureOptions { limit: Some(10), ..options };
    let found = measured(&[], &sessions, limited);
    assert_eq!((found.moments, found.aims[0].sessions), (10, 5));
    assert_eq!(measured(&[], &sessions, limited), found);
}
