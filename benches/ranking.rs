//! How long does ranking take? Features, scores and re-ranking of 200 candidates; session-kNN on a million clicks;
//! what learning costs an answer, and the learning thread.

use std::hint::black_box;

use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use upnext::collab::{Collab, CollabLimits, Engagement, SessionKnnScratch};
use upnext::domain::{Horizons, ItemNo, Timestamp};
use upnext::evaluation::{Gatherer, Moment};
use upnext::ranking::{
    Answered, Assignment, Candidate, Cases, Closed, Decision, Experiment, FeatureMatrix, HazardModel, Ledger,
    LedgerLimits, Lesson, OnlineLearner, OnlineOptions, POOL, Predictions, Predictor, Quality, RequestContext, Schema,
    Shown, Stream, diversify, explain, order,
};

const ITEMS: f64 = 50_000.0;
const CLICKS: usize = 1_000_000;

/// A generator that needs no crate and never changes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Items in neighbourhoods, some far more popular than others.
    fn item(&mut self, near: Option<ItemNo>) -> ItemNo {
        match near {
            Some(item) if self.next() < 0.7 => ItemNo((item.0 / 20) * 20 + (self.next() * 20.0) as u32),
            Some(_) | None => ItemNo((self.next().powi(3) * ITEMS) as u32),
        }
    }
}

fn million_clicks() -> (Collab, Vec<Vec<(ItemNo, Timestamp)>>) {
    let collab = Collab::new(&CollabLimits::default());
    let mut random = Random(1);
    let (mut queries, mut clicks, mut session) = (Vec::new(), 0, 0);
    while clicks < CLICKS {
        let mut history: Vec<(ItemNo, Timestamp)> = Vec::new();
        while history.is_empty() || (random.next() < 0.8 && history.len() < 30) {
            let item = random.item(history.last().map(|&(item, _)| item));
            let at = Timestamp((clicks as i64) * 900);
            collab.observe(Engagement {
                session,
                item,
                at,
                user: None,
                confidence: 1.0,
                region: None,
                history: &history,
            });
            history.push((item, at));
            clicks += 1;
        }
        session += 1;
        if session % 400 == 0 {
            queries.push(history);
        }
    }
    (collab, queries)
}

fn ranking(criterion: &mut Criterion) {
    let schema = Schema::new(&Horizons::default());
    let model = HazardModel::shipped().expect("the shipped weights load");
    let mut random = Random(2);
    let mut candidates: Vec<Candidate> = Vec::new();
    for number in 0..200 {
        let mut candidate = Candidate::new(ItemNo(number));
        candidate.session_score = random.next() as f32 * 10.0;
        candidate.co_visitation = random.next() as f32 * 0.2;
        candidate.forward = random.next() as f32 * 0.1;
        candidate.transition_within = [random.next() as f32 * 0.1; 8];
        candidate.transition_any = 0.2;
        candidate.popularity = random.next() as f32 * 1_000.0;
        candidate.visual = Some(random.next() as f32);
        candidates.push(candidate);
    }
    let answered =
        Answered { session: true, transition: true, co_visitation: true, visual: true, ..Answered::default() };
    let context = RequestContext { answered, session_length: 5, ..RequestContext::default() };
    let mut matrix = FeatureMatrix::default();
    let mut predictions = Predictions::default();
    let mut group = criterion.benchmark_group("200_candidates");
    group.bench_function("assemble", |b| b.iter(|| matrix.assemble(&schema, &context, black_box(&candidates))));
    matrix.assemble(&schema, &context, &candidates);
    group.bench_function("predict", |b| b.iter(|| model.predict(black_box(&matrix), &mut predictions)));
    model.predict(&matrix, &mut predictions);
    group.bench_function("order_diversify_3_lists_of_10", |b| {
        b.iter(|| {
            for horizon in 0..3 {
                let ranked = order(matrix.items(), &predictions, horizon, 10 * POOL);
                black_box(diversify(&ranked, 10, 0.2, |a, b| if a % 7 == b % 7 { 0.9 } else { 0.2 }));
            }
        });
    });
    group.bench_function("explain_one", |b| b.iter(|| explain(&model, &matrix, &predictions, black_box(7), 2)));
    group.bench_function("assemble_predict_rerank", |b| {
        b.iter(|| {
            matrix.assemble(&schema, &context, black_box(&candidates));
            model.predict(&matrix, &mut predictions);
            for horizon in 0..3 {
                let ranked = order(matrix.items(), &predictions, horizon, 10 * POOL);
                black_box(diversify(&ranked, 10, 0.2, |a, b| if a % 7 == b % 7 { 0.9 } else { 0.2 }));
            }
        });
    });
    group.finish();
}

/// What an answer costs more when it is remembered, and what each decision costs the learning thread.
fn learning(criterion: &mut Criterion) {
    let base = Arc::new(HazardModel::shipped().expect("the shipped weights load"));
    let mut random = Random(5);
    let candidates: Vec<Candidate> = (0..400)
        .map(|number| Candidate { session_score: random.next() as f32 * 10.0, ..Candidate::new(ItemNo(number)) })
        .collect();
    let answered = Answered { session: true, ..Answered::default() };
    let context = RequestContext { answered, session_length: 5, ..RequestContext::default() };
    let (mut matrix, mut predictions) = (FeatureMatrix::default(), Predictions::default());
    matrix.assemble(base.schema(), &context, &candidates);
    base.predict(&matrix, &mut predictions);
    let shown: Vec<Shown> = (0..14).map(|place| Shown { candidate: place * 3, place, propensity: 1.0 }).collect();
    let arms = vec![("a".to_owned(), 0.5), ("b".to_owned(), 0.5)];
    let assignment = Assignment::new(vec![Experiment { name: "x".into(), arms }]);
    let by = Arc::new(Predictor { model: base.as_ref().clone(), base: base.clone() });
    let sample = |seed| Cases::sample(&base, (&matrix, &predictions), &shown, 48, seed);
    let decision = |seed: u64| Decision {
        session: seed,
        answer: Some(seed),
        subject: seed,
        at: Timestamp(seed as i64),
        arm: 0,
        by: Some(by.clone()),
        lists: vec![(0..10).map(ItemNo).collect(); 3],
        cases: sample(seed),
    };
    let horizons = base.schema().horizons().clone();
    let closed = |seed: u64| {
        let decision = decision(seed);
        let outcomes = (0..48_u64).map(|case| if case == seed % 48 { (seed % 3) as u8 } else { 3 }).collect();
        Closed { decision, outcomes, engaged: vec![(ItemNo(1), 0)], covered: 3 }
    };
    let mut group = criterion.benchmark_group("learning");
    group.bench_function("assign_an_arm", |b| b.iter(|| assignment.arm(black_box(&[7; 16]))));
    let mut seed = 0;
    group.bench_function("remember_48_of_400", |b| {
        b.iter(|| {
            seed += 1;
            sample(seed)
        });
    });
    let mut ledger = Ledger::new(&horizons, LedgerLimits::default());
    group.bench_function("open_engage_close", |b| {
        b.iter_batched(
            || {
                seed += 1;
                decision(seed * 100_000)
            },
            |decision| {
                let (session, at) = (decision.session, decision.at);
                ledger.decide(decision, Stream::Live, at);
                ledger.engage(session, None, ItemNo(3), at);
                ledger.close(Stream::Live, at.plus_seconds(65.0))
            },
            BatchSize::SmallInput,
        );
    });
    let mut quality = Quality::new(&horizons, 5_000.0);
    let mut learner = OnlineLearner::new(base.clone(), OnlineOptions::default());
    group.bench_function("test_and_learn", |b| {
        b.iter_batched(
            || {
                seed += 1;
                closed(seed)
            },
            |closed| {
                quality.add(&closed);
                learner.learn(Lesson::new(closed, &base))
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("publish", |b| b.iter(|| learner.correction()));
    group.finish();
}

fn million(criterion: &mut Criterion) {
    let (collab, queries) = million_clicks();
    let mut group = criterion.benchmark_group("million_clicks");
    let (mut scratch, mut best) = (SessionKnnScratch::default(), Vec::new());
    let mut turn = 0;
    group.bench_function("session_knn", |b| {
        b.iter(|| {
            turn = (turn + 1) % queries.len();
            collab.session_knn.candidates(&queries[turn], None, 80, &mut scratch, &mut best);
        });
    });
    let mut gatherer = Gatherer::default();
    group.bench_function("all_sources", |b| {
        b.iter(|| {
            turn = (turn + 1) % queries.len();
            let history = &queries[turn];
            let now = history.last().map_or(Timestamp(0), |&(_, at)| at);
            gatherer.gather(&collab, &Moment { session: u64::MAX, user: None, history, now, region: None }, &[]);
        });
    });
    let mut session = 1 << 40;
    group.bench_function("observe", |b| {
        b.iter(|| {
            turn = (turn + 1) % queries.len();
            session += 1;
            if let Some((&(item, at), history)) = queries[turn].split_last() {
                collab.observe(Engagement {
                    session: session / 5,
                    item,
                    at,
                    user: None,
                    confidence: 1.0,
                    region: Some("de"),
                    history,
                });
            }
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = ranking, learning, million
}
criterion_main!(benches);
