//! Do the right neighbours vote, and are the bounds kept?

use super::*;
use proptest::prelude::*;

fn limits() -> CollabLimits {
    CollabLimits { sessions: 8, session_items: 4, recency_sample: 4, neighbours: 4, ..CollabLimits::default() }
}

fn learn(knn: &SessionKnn, session: u64, items: &[u32]) {
    items.iter().for_each(|&item| knn.observe(session, ItemNo(item)));
}

fn ask(knn: &SessionKnn, items: &[u32], exclude: Option<u64>) -> (Vec<u32>, SessionKnnScratch) {
    let history: Vec<_> = items.iter().map(|&item| (ItemNo(item), Timestamp(0))).collect();
    let (mut scratch, mut best) = (SessionKnnScratch::default(), Vec::new());
    knn.candidates(&history, exclude, 10, &mut scratch, &mut best);
    (best.iter().map(|s| s.item.0).collect(), scratch)
}

#[test]
fn what_followed_next_is_best_and_says_so() {
    let knn = SessionKnn::new(&limits());
    learn(&knn, 1, &[1, 2, 3]);
    learn(&knn, 2, &[1, 2, 4]);
    learn(&knn, 3, &[9, 8]);
    let (best, scratch) = ask(&knn, &[1], None);
    assert_eq!(best[0], 2);
    assert!(!best.contains(&1) && !best.contains(&9), "neither the current item nor a stranger: {best:?}");
    assert_eq!(scratch.vote(ItemNo(2)).follow_share, 1.0);
    assert_eq!(scratch.vote(ItemNo(3)).follow_share, 0.0);
    let (_, scratch) = ask(&knn, &[1, 2], None);
    assert_eq!(scratch.vote(ItemNo(3)).follow_share, 0.5);
    assert!(scratch.total_weight() > 0.0);
    assert_eq!(scratch.vote(ItemNo(77)), SessionVote::default());
}

#[test]
fn scores_match_the_formula() {
    let knn = SessionKnn::new(&limits());
    learn(&knn, 1, &[1, 5, 2]);
    learn(&knn, 2, &[7]);
    let (_, scratch) = ask(&knn, &[3, 1], None);
    let idf = 3.0_f32.ln();
    let distance = 1.0 / (1.0 + DISTANCE_DECAY);
    assert!((scratch.vote(ItemNo(5)).score - idf).abs() < 1e-5);
    assert!((scratch.vote(ItemNo(2)).score - distance * idf).abs() < 1e-5);
    // Only the earlier position is shared: it weighs 0.6, amplified, and the match is one step back.
    let (_, scratch) = ask(&knn, &[1, 3], None);
    let vote = POSITION_DECAY.powf(2.5) * (1.0 - MATCH_DECAY);
    assert!((scratch.vote(ItemNo(5)).score - vote * idf).abs() < 1e-5);
}

#[test]
fn a_question_allocates_nothing() {
    let knn = SessionKnn::new(&CollabLimits::default());
    let item = |n: u64| (n.wrapping_mul(n).wrapping_mul(2_654_435_761) >> 7) as u32 % 300;
    for session in 0..3_000 {
        // Longer than what a session holds without memory of its own.
        let items: Vec<u32> = (0..9).map(|step| item(session * 9 + step)).collect();
        learn(&knn, session, &items);
    }
    let questions: Vec<Vec<(ItemNo, Timestamp)>> =
        (0..200).map(|n| (0..6).map(|step| (ItemNo(item(n * 7 + step)), Timestamp(0))).collect()).collect();
    let (mut scratch, mut best) = (SessionKnnScratch::default(), Vec::new());
    let mut ask_all = || {
        for (number, history) in questions.iter().enumerate() {
            knn.candidates(history, Some(number as u64), 80, &mut scratch, &mut best);
            assert_eq!(best.len(), 80);
            std::hint::black_box(best.iter().map(|scored| scratch.vote(scored.item).score).sum::<f32>());
        }
    };
    // The first time, working memory grows to the size that questions need.
    let first = allocation_counter::measure(&mut ask_all);
    let again = allocation_counter::measure(&mut ask_all);
    assert!(first.count_total > 0, "allocations are counted");
    assert_eq!(again.count_total, 0);
}

#[test]
fn a_session_is_not_its_own_neighbour() {
    let knn = SessionKnn::new(&limits());
    learn(&knn, 1, &[1, 2]);
    assert_eq!(ask(&knn, &[1], Some(1)).0, [0_u32; 0]);
    assert_eq!(ask(&knn, &[1], Some(2)).0, [2]);
    learn(&knn, 1, &[3]);
    assert_eq!(ask(&knn, &[1], None).0, [2, 3], "a live session grows");
}

#[test]
fn items_and_sessions_can_be_forgotten() {
    let knn = SessionKnn::new(&limits());
    learn(&knn, 1, &[1, 2]);
    learn(&knn, 2, &[1, 3]);
    knn.forget_item(ItemNo(2));
    assert_eq!(ask(&knn, &[1], None).0, [3]);
    knn.forget_session(2);
    assert_eq!(ask(&knn, &[1], None).0, [0_u32; 0]);
    assert_eq!(knn.sessions(), 1);
    learn(&knn, 2, &[1, 2]);
    assert_eq!(ask(&knn, &[1], None).0, [2], "until someone engages with it again");
    knn.observe(3, ItemNo(u32::MAX));
}

#[test]
fn a_forgotten_session_takes_nobodys_place() {
    let knn = SessionKnn::new(&limits());
    learn(&knn, 1, &[1, 2]);
    for session in 2..7 {
        learn(&knn, session, &[1, 3, 4, 5, 6]);
    }
    assert!(!ask(&knn, &[1], None).0.contains(&2), "four later sessions are the sample");
    let engagement = |session, item| Engagement {
        session,
        item: ItemNo(item),
        at: Timestamp(0),
        user: None,
        confidence: 1.0,
        region: None,
        history: &[],
    };
    let theirs: Vec<_> = (2..7).flat_map(|session| [1, 3, 4, 5, 6].map(|item| engagement(session, item))).collect();
    knn.forget_engagements(&theirs);
    assert_eq!(ask(&knn, &[1], None).0, [2]);
    let state = knn.state.read();
    assert!(state.items.iter().skip(3).all(|postings| postings.sessions.is_empty()));
    assert!(state.holders.iter().skip(3).all(|&holders| holders == 0));
    assert!(state.sessions.iter().skip(1).all(|session| session.key == 0 && session.items.is_empty()));
}

proptest! {
    #[test]
    fn bounds_hold_and_counts_stay_true(
        events in proptest::collection::vec((0..20_u64, 0..12_u32), 0..400),
        query in proptest::collection::vec(0..14_u32, 0..6),
    ) {
        let knn = SessionKnn::new(&limits());
        for &(session, item) in &events {
            knn.observe(session, ItemNo(item));
        }
        {
            let state = knn.state.read();
            prop_assert!(state.sessions.len() <= 8 && state.numbers.len() <= 8);
            prop_assert_eq!(state.items.len(), state.holders.len());
            for (item, (postings, &holders)) in state.items.iter().zip(&state.holders).enumerate() {
                prop_assert!(postings.sessions.len() <= 8);
                let holds = |s: &&StoredSession| s.items.iter().any(|&own| own & !REPEAT == item as u32);
                prop_assert_eq!(holders as usize, state.sessions.iter().filter(holds).count());
            }
            for session in &state.sessions {
                prop_assert!(session.items.len() <= 4);
                for (position, own) in session.items.iter().enumerate() {
                    let before = session.items[..position].iter().any(|o| o & !REPEAT == own & !REPEAT);
                    prop_assert_eq!(before, own & REPEAT != 0);
                }
            }
        }
        let (best, scratch) = ask(&knn, &query, Some(3));
        prop_assert!(best.iter().all(|item| Some(item) != query.last()));
        for item in best {
            let vote = scratch.vote(ItemNo(item));
            prop_assert!(vote.score > 0.0 && vote.score.is_finite() && vote.follow_share >= 0.0);
        }
    }
}
