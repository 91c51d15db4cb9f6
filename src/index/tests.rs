//! Does every kind of index answer like the exact one, whatever was done to it before?

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::planner::Rules;
use super::*;

/// Rules under which a handful of vectors goes through everything that takes thousands in earnest: a graph at once,
/// searched even where a scan would be faster, linked bit by bit, and rebuilt.
fn eager() -> Rules {
    Rules {
        scan_row_ns: 1e9,
        list_row_ns: 1e9,
        least_dead: 4,
        graph_from_rows: 8,
        absorb_from: 4,
        hnsw_absorb_from: 4,
        absorb_at_most: 16,
        ..Rules::default()
    }
}

fn index(dims: usize, kind: IndexKind, rules: Rules) -> AdaptiveIndex {
    index_of(dims, kind, Precision::Int16, rules)
}

fn index_of(dims: usize, kind: IndexKind, precision: Precision, rules: Rules) -> AdaptiveIndex {
    let settings = IndexSettings { build_effort: 60, precision, ..IndexSettings::new(dims).kind(kind) };
    AdaptiveIndex::with_rules(&settings, rules).unwrap()
}

fn keep_up(index: &dyn VectorIndex) -> Vec<Upkeep> {
    std::iter::from_fn(|| Some(index.maintain(&AtomicBool::new(false)))).take_while(|u| *u != Upkeep::Idle).collect()
}

fn random(rng: &mut StdRng, dims: usize) -> Embedding {
    Embedding::unit((0..dims).map(|_| rng.random_range(-1.0_f32..1.0)).collect()).unwrap()
}

fn near(rng: &mut StdRng, centre: &Embedding, spread: f32) -> Embedding {
    let noise = random(rng, centre.dims());
    let parts = centre.as_slice().iter().zip(noise.as_slice());
    Embedding::unit(parts.map(|(c, n)| c + n * spread).collect()).unwrap()
}

/// By how much a score of an index with this precision may be wrong, with few dimensions.
fn error_of(precision: Precision) -> f32 {
    match precision {
        Precision::Int8 => 1e-2,
        Precision::Int16 => 1e-4,
    }
}

/// The share of the right answers found.
fn recall(found: &[Scored], exact: &[Scored]) -> f64 {
    recall_within(found, exact, error_of(Precision::Int16))
}

/// The same, where what is as good as the last of the right ones, but for an error of scores, is right too.
fn recall_within(found: &[Scored], exact: &[Scored], error: f32) -> f64 {
    let Some(last) = exact.last() else { return 1.0 };
    let right: HashSet<ItemNo> = exact.iter().map(|s| s.item).collect();
    let hits = found.iter().filter(|s| right.contains(&s.item) || s.score > last.score - error).count();
    hits as f64 / exact.len() as f64
}

fn assert_well_formed(found: &[Scored], options: &SearchOptions<'_>) {
    assert!(found.len() <= options.limit);
    assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score), "best first");
    assert_eq!(found.iter().map(|s| s.item).collect::<HashSet<_>>().len(), found.len(), "every item once");
    assert!(found.iter().all(|s| options.admits(s.item)), "no item that the filter refuses");
    assert!(found.iter().all(|s| (-1.0..=1.0).contains(&s.score)));
}

#[derive(Debug, Clone)]
enum Step {
    Upsert(u32, Vec<u8>),
    Remove(u32),
    Maintain,
    Search { query: u8, limit: usize, allowed: Option<Vec<u32>>, excluded: Option<Vec<u32>>, min_score: Option<f32> },
}

fn step() -> impl Strategy<Value = Step> {
    let items = || option::weighted(0.4, vec(0_u32..60, 0..50));
    prop_oneof![
        6 => (0_u32..50, vec(any::<u8>(), 1..4)).prop_map(|(item, vectors)| Step::Upsert(item, vectors)),
        2 => (0_u32..60).prop_map(Step::Remove),
        1 => Just(Step::Maintain),
        3 => (any::<u8>(), 0_usize..12, items(), items(), option::weighted(0.2, -0.5_f32..0.9)).prop_map(
            |(query, limit, allowed, excluded, min_score)| Step::Search { query, limit, allowed, excluded, min_score }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn answers_like_the_exact_index_whatever_was_done(
        steps in vec(step(), 1..160),
        kind in prop::sample::select(vec![IndexKind::Flat, IndexKind::Hnsw, IndexKind::Graph, IndexKind::Graph, IndexKind::Auto]),
        precision in prop::sample::select(vec![Precision::Int8, Precision::Int16, Precision::Int16]),
        eagerly in any::<bool>(),
    ) {
        const DIMS: usize = 24;
        // Any of 256 vectors; drawn from so few, exact duplicates are common.
        let vector = |number: u8| random(&mut StdRng::seed_from_u64(u64::from(number)), DIMS);
        let index = index_of(DIMS, kind, precision, if eagerly { eager() } else { Rules::default() });
        let oracle = ExactIndex::new(DIMS).unwrap();
        let (mut recalls, mut searches) = (0.0, 0);
        for step in steps {
            match step {
                Step::Upsert(item, vectors) => {
                    let vectors: Vec<Embedding> = vectors.into_iter().map(vector).collect();
                    index.upsert(ItemNo(item), &vectors).unwrap();
                    oracle.upsert(ItemNo(item), &vectors).unwrap();
                }
                Step::Remove(item) => prop_assert_eq!(index.remove(ItemNo(item)), oracle.remove(ItemNo(item))),
                Step::Maintain => drop(index.maintain(&AtomicBool::new(false))),
                Step::Search { query, limit, allowed, excluded, min_score } => {
                    let allowed: Option<RoaringBitmap> = allowed.map(|items| items.into_iter().collect());
                    let excluded: Option<RoaringBitmap> = excluded.map(|items| items.into_iter().collect());
                    let (allowed, excluded) = (allowed.as_ref(), excluded.as_ref());
                    let options = SearchOptions { limit, effort: None, allowed, excluded, min_score, quick: false };
                    let query = vector(query);
                    let found = index.search(query.as_slice(), &options).unwrap();
                    let exact = oracle.search(query.as_slice(), &options).unwrap();
                    assert_well_formed(&found, &options);
                    for s in &found {
                        let own = oracle.get(s.item).iter().map(|v| v.cosine(&query)).fold(-1.0_f32, f32::max);
                        prop_assert!((s.score - own).abs() < error_of(precision), "the cosine of the item's best vector, {}", own);
                    }
                    if min_score.is_none() {
                        prop_assert_eq!(found.len(), exact.len(), "never short");
                    }
                    // A score just below what is asked for, or just above, may be taken for the other.
                    let is_near = |s: &&Scored| min_score.is_none_or(|min| s.score > min + error_of(precision));
                    let exact: Vec<Scored> = exact.iter().filter(is_near).copied().collect();
                    recalls += recall_within(&found, &exact, 2.0 * error_of(precision)).min(1.0);
                    searches += 1;
                }
            }
            prop_assert_eq!(index.len(), oracle.len());
            prop_assert_eq!(index.vectors(), oracle.vectors());
        }
        // The budget: a scan misses nothing, a graph of so few nodes next to nothing.
        let least = if kind == IndexKind::Flat { 1.0 } else { 0.97 };
        prop_assert!(recalls >= least * f64::from(searches) - 1e-9, "recall {} of {}", recalls, searches);
    }
}

/// More than a chunk of slots, so that full chunks and one that is being filled are searched.
const CLUSTERED: u32 = 1_200;

/// [`CLUSTERED`] vectors of 64 dimensions around 24 centres, in the order of the centres, and as many queries as centres.
fn clustered() -> (Vec<Embedding>, Vec<Embedding>) {
    let mut rng = StdRng::seed_from_u64(7);
    let centres: Vec<Embedding> = (0..24).map(|_| random(&mut rng, 64)).collect();
    let vectors = centres.iter().flat_map(|c| (0..50).map(|_| near(&mut rng, c, 0.5)).collect::<Vec<_>>()).collect();
    let queries = centres.iter().map(|centre| near(&mut rng, centre, 0.5)).collect();
    (vectors, queries)
}

fn answers(index: &dyn VectorIndex, queries: &[Embedding], o: &SearchOptions<'_>) -> Vec<Vec<Scored>> {
    queries.iter().map(|query| index.search(query.as_slice(), o).unwrap()).collect()
}

fn mean_recall(index: &dyn VectorIndex, oracle: &dyn VectorIndex, queries: &[Embedding], o: &SearchOptions<'_>) -> f64 {
    recall_of(index, &answers(oracle, queries, o), queries, o)
}

/// The same where the right answers are known.
fn recall_of(index: &dyn VectorIndex, right: &[Vec<Scored>], queries: &[Embedding], o: &SearchOptions<'_>) -> f64 {
    let found = answers(index, queries, o);
    found.iter().for_each(|found| assert_well_formed(found, o));
    found.iter().zip(right).map(|(found, right)| recall(found, right)).sum::<f64>() / queries.len() as f64
}

#[test]
fn clusters_are_found_under_every_filter() {
    let (vectors, queries) = clustered();
    let oracle = ExactIndex::new(64).unwrap();
    let flat = index(64, IndexKind::Flat, Rules::default());
    let mut hnsw = index(64, IndexKind::Hnsw, Rules::default());
    let mut graph = index(64, IndexKind::Graph, Rules::default());
    for index in [&oracle as &dyn VectorIndex, &flat, &hnsw, &graph] {
        for (item, vector) in (0..).zip(&vectors) {
            index.upsert(ItemNo(item), std::slice::from_ref(vector)).unwrap();
        }
        keep_up(index);
    }
    assert_eq!((flat.stats().linked, hnsw.stats().linked, graph.stats().linked), (0, 1_200, 1_200));
    let (top, queries) = (SearchOptions::top(10), &queries[..12]);
    for one_in in [1, 2, 10, 100] {
        let allowed: RoaringBitmap = (0..CLUSTERED).step_by(one_in).collect();
        let refused: RoaringBitmap = (0..CLUSTERED).filter(|item| !allowed.contains(*item)).collect();
        // Both filters let the same through.
        let right = answers(&oracle, queries, &top.allowed(&allowed));
        for options in [top.allowed(&allowed), top.excluded(&refused)] {
            assert_eq!(recall_of(&flat, &right, queries, &options), 1.0, "flat, one in {one_in}");
            // First as planned, then with the graph doing what the planner would rather leave to a list.
            for rules in [Rules::default(), Rules { list_row_ns: 1e9, scan_row_ns: 1e9, ..Rules::default() }] {
                graph.rules = rules;
                let recall = recall_of(&graph, &right, queries, &options);
                assert!(recall >= 0.95, "graph, one in {one_in}: {recall}");
            }
        }
        if one_in > 10 {
            continue;
        }
        hnsw.rules = Rules { list_row_ns: 1e9, scan_row_ns: 1e9, ..Rules::default() };
        let recall = recall_of(&hnsw, &right, queries, &top.allowed(&allowed));
        assert!(recall >= 0.95, "hnsw, one in {one_in}: {recall}");
    }
    // A filter at odds with the queries: what passes is nowhere near them.
    let far: RoaringBitmap = (CLUSTERED / 2..CLUSTERED).collect();
    for rules in [Rules::default(), Rules { list_row_ns: 1e9, scan_row_ns: 1e9, ..Rules::default() }] {
        graph.rules = rules;
        let recall = mean_recall(&graph, &oracle, queries, &top.allowed(&far));
        assert!(recall >= 0.95, "at odds: {recall}");
    }
    // Proposals may miss some, but are never short, and most of them are the nearest.
    graph.rules = Rules { list_row_ns: 1e9, scan_row_ns: 1e9, ..Rules::default() };
    let quick = SearchOptions { quick: true, ..SearchOptions::top(30) };
    let (found, right) = (answers(&graph, queries, &quick), answers(&oracle, queries, &quick));
    assert!(found.iter().all(|found| found.len() == 30));
    let recall = recall_of(&graph, &right, queries, &quick);
    assert!(recall >= 0.9, "quick: {recall}");
}

#[test]
fn near_duplicates_that_come_one_cluster_after_the_other_are_found() {
    let mut rng = StdRng::seed_from_u64(3);
    let oracle = ExactIndex::new(64).unwrap();
    let rules = Rules { absorb_from: 100, ..Rules::default() };
    let graphs = [index(64, IndexKind::Hnsw, Rules::default()), index(64, IndexKind::Graph, rules)];
    let mut queries = Vec::new();
    for cluster in 0..16 {
        let centre = random(&mut rng, 64);
        for place in 0..100 {
            let vector = near(&mut rng, &centre, 0.05);
            for index in [&oracle as &dyn VectorIndex, &graphs[0], &graphs[1]] {
                index.upsert(ItemNo(cluster * 100 + place), std::slice::from_ref(&vector)).unwrap();
            }
        }
        // Scores of one cluster differ by less than a thousandth.
        queries.push(near(&mut rng, &centre, 0.05));
        graphs.iter().for_each(|graph| drop(keep_up(graph)));
    }
    for mut graph in graphs {
        graph.rules = Rules { scan_row_ns: 1e9, ..Rules::default() };
        let found = answers(&graph, &queries, &SearchOptions::top(10));
        let right = answers(&oracle, &queries, &SearchOptions::top(10));
        let recall = found.iter().zip(&right).map(|(found, right)| recall_within(found, right, 1e-6)).sum::<f64>();
        let recall = recall / queries.len() as f64;
        assert!(recall >= 0.97, "{recall}");
    }
}

#[test]
fn equal_vectors_share_a_node_and_are_all_found() {
    for kind in [IndexKind::Hnsw, IndexKind::Graph] {
        equal_vectors_share_a_node(kind);
    }
}

fn equal_vectors_share_a_node(kind: IndexKind) {
    let mut rng = StdRng::seed_from_u64(5);
    let placeholder = random(&mut rng, 32);
    let index = index(32, kind, eager());
    for item in 0..600 {
        let vector = if item % 2 == 0 { placeholder.clone() } else { random(&mut rng, 32) };
        index.upsert(ItemNo(item), &[vector]).unwrap();
    }
    assert_eq!(keep_up(&index), [Upkeep::Rebuilt(600)]);
    assert_eq!(index.stats().folded, 299);
    let all = index.search(placeholder.as_slice(), &SearchOptions::top(300)).unwrap();
    assert!(all.len() == 300 && all.iter().all(|s| s.score > 0.9999 && s.item.0 % 2 == 0));
    // The one whose node the others share goes; they stay.
    for item in (0..590).step_by(2) {
        assert!(index.remove(ItemNo(item)));
    }
    let left = index.search(placeholder.as_slice(), &SearchOptions::top(5)).unwrap();
    assert_eq!(left.iter().map(|s| s.item.0).collect::<Vec<_>>(), [590, 592, 594, 596, 598]);
}

#[test]
fn too_many_dead_vectors_make_a_new_generation() {
    let mut rng = StdRng::seed_from_u64(6);
    for kind in [IndexKind::Flat, IndexKind::Hnsw, IndexKind::Graph] {
        // The default share of dead vectors, of a tenth of the numbers.
        let rules = Rules { least_dead: 102, graph_from_rows: 102, absorb_from: 204, ..Rules::default() };
        let index = index(16, kind, rules);
        let vectors: Vec<Embedding> = (0..600).map(|_| random(&mut rng, 16)).collect();
        for (item, vector) in (0..).zip(&vectors) {
            index.upsert(ItemNo(item), std::slice::from_ref(vector)).unwrap();
        }
        keep_up(&index);
        (0..130).for_each(|item| assert!(index.remove(ItemNo(item))));
        let before = index.stats();
        assert_eq!((before.items, before.dead), (470, 130));
        let done = keep_up(&index);
        let expected = if kind == IndexKind::Flat { Upkeep::Compacted(470) } else { Upkeep::Rebuilt(470) };
        assert_eq!(done, [expected]);
        let after = index.stats();
        assert_eq!((after.items, after.vectors, after.dead), (470, 470, 0));
        assert!(after.bytes < before.bytes);
        let found = index.search(vectors[500].as_slice(), &SearchOptions::top(1)).unwrap();
        assert_eq!(found[0].item, ItemNo(500));
    }
}

#[test]
fn upkeep_that_is_stopped_changes_nothing() {
    let mut rng = StdRng::seed_from_u64(8);
    let index = index(16, IndexKind::Graph, eager());
    for item in 0..100 {
        index.upsert(ItemNo(item), &[random(&mut rng, 16)]).unwrap();
    }
    let stop = AtomicBool::new(true);
    assert_eq!(index.maintain(&stop), Upkeep::Stopped);
    assert_eq!(index.stats().linked, 0);
    assert_eq!(index.search(&[1.0; 16], &SearchOptions::top(200)).unwrap().len(), 100);
    keep_up(&index);
    (0..50).for_each(|item| assert!(index.remove(ItemNo(item))));
    assert_eq!(index.maintain(&stop), Upkeep::Stopped);
    assert_eq!((index.stats().dead, index.len()), (50, 50));
}

/// While one thread replaces items and another rebuilds, every answer is of one moment, and no change is lost.
#[test]
fn a_search_never_sees_half_an_item() {
    const DIMS: usize = 8;
    const CHANGING: u32 = 20;
    const STEADY: std::ops::Range<u32> = 20..40;
    let axis =
        |place: usize| Embedding::unit((0..DIMS).map(|dim| if dim == place { 1.0 } else { 0.01 }).collect()).unwrap();
    let axes = [axis(0), axis(1), axis(2)];
    let queries: Vec<&[f32]> = axes.iter().map(Embedding::as_slice).collect();
    for kind in [IndexKind::Flat, IndexKind::Hnsw, IndexKind::Graph] {
        let index = index(DIMS, kind, eager());
        let put = |item: u32, place: usize| index.upsert(ItemNo(item), &vec![axis(place); 4]).unwrap();
        (0..CHANGING).for_each(|item| put(item, 0));
        STEADY.for_each(|item| put(item, 2));
        // Everyone goes on until upkeep and the searches have had their share, however the threads are scheduled.
        let (generations, searches) = (AtomicUsize::new(0), AtomicUsize::new(0));
        // A thread that fails ends the others.
        let over = AtomicBool::new(false);
        let enough = || over.load(Relaxed) || generations.load(Relaxed) >= 12 && searches.load(Relaxed) >= 100;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _end = EndOnDrop(&over);
                let mut rng = StdRng::seed_from_u64(9);
                let mut places = vec![0; CHANGING as usize];
                while !enough() {
                    for _ in 0..10 {
                        let item = rng.random_range(0..CHANGING);
                        places[item as usize] = 1 - places[item as usize];
                        put(item, places[item as usize]);
                        let guest = 40 + rng.random_range(0..5);
                        if rng.random() {
                            put(guest, 2);
                        } else {
                            index.remove(ItemNo(guest));
                        }
                    }
                    for (item, place) in (0..).zip(&places) {
                        let vectors = index.get(ItemNo(item));
                        assert!(vectors.len() == 4 && vectors.iter().all(|v| v.cosine(&axes[*place]) > 0.99));
                    }
                }
            });
            scope.spawn(|| {
                let _end = EndOnDrop(&over);
                while !enough() {
                    if matches!(index.maintain(&AtomicBool::new(false)), Upkeep::Rebuilt(_) | Upkeep::Compacted(_)) {
                        generations.fetch_add(1, Relaxed);
                    }
                    std::thread::yield_now();
                }
            });
            let _end = EndOnDrop(&over);
            while !enough() {
                let found = index.search_many(&queries, &SearchOptions::top(100)).unwrap();
                let there = |place: usize| -> HashSet<u32> {
                    found[place].iter().filter(|s| s.score > 0.9).map(|s| s.item.0).collect()
                };
                let (zeros, ones, twos) = (there(0), there(1), there(2));
                for item in 0..CHANGING {
                    assert!(
                        zeros.contains(&item) != ones.contains(&item),
                        "{item} is at one place: {zeros:?} {ones:?}"
                    );
                }
                assert!(STEADY.into_iter().all(|item| twos.contains(&item)), "{twos:?}");
                searches.fetch_add(1, Relaxed);
            }
        });
        keep_up(&index);
        assert_eq!(index.vectors(), index.len() * 4);
    }
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn several_threads_can_build() {
    let (vectors, queries) = clustered();
    for kind in [IndexKind::Hnsw, IndexKind::Graph] {
        several_threads_can_build_one(kind, &vectors, &queries);
    }
}

fn several_threads_can_build_one(kind: IndexKind, vectors: &[Embedding], queries: &[Embedding]) {
    let settings = IndexSettings { build_threads: 3, build_effort: 60, ..IndexSettings::new(64).kind(kind) };
    let (index, oracle) = (AdaptiveIndex::new(&settings).unwrap(), ExactIndex::new(64).unwrap());
    for index in [&index as &dyn VectorIndex, &oracle] {
        for (item, vectors) in (0..).zip(vectors.chunks(5)) {
            index.upsert(ItemNo(item), vectors).unwrap();
        }
    }
    assert_eq!(keep_up(&index), [Upkeep::Rebuilt(1_200)]);
    let recall = mean_recall(&index, &oracle, queries, &SearchOptions::top(10));
    assert!(recall >= 0.95, "{recall}");
}

#[test]
fn what_cannot_be_right_is_refused() {
    assert_eq!(open(&IndexSettings::new(0)).unwrap_err(), IndexError::UnusableDims(0));
    assert_eq!(open(&IndexSettings::new(MAX_DIMS + 1)).unwrap_err(), IndexError::UnusableDims(MAX_DIMS + 1));
    let good = Embedding::unit(vec![1.0, 2.0]).unwrap();
    let flat = open(&IndexSettings::new(2)).unwrap();
    let exact: Arc<dyn VectorIndex> = Arc::new(ExactIndex::new(2).unwrap());
    for index in [flat, exact] {
        assert_eq!(index.upsert(ItemNo(1), &[]), Err(IndexError::VectorCount(0)));
        assert_eq!(index.upsert(ItemNo(1), &vec![good.clone(); 17]), Err(IndexError::VectorCount(17)));
        let long = Embedding::unit(vec![1.0; 3]).unwrap();
        let odd = IndexError::Dimensions { expected: 2, found: 3 };
        assert_eq!(index.upsert(ItemNo(1), &[good.clone(), long.clone()]), Err(odd));
        assert!(index.is_empty(), "nothing of it was taken in");
        assert_eq!(index.search(long.as_slice(), &SearchOptions::top(1)), Err(odd));
        assert_eq!(index.search(&[0.0, 0.0], &SearchOptions::top(1)), Err(IndexError::NoDirection));
        assert_eq!(index.search(&[f32::NAN, 0.0], &SearchOptions::top(1)), Err(IndexError::NoDirection));
        assert_eq!(index.search(&[5.0, 0.0], &SearchOptions::top(1)), Ok(vec![]));
        index.upsert(ItemNo(u32::MAX), std::slice::from_ref(&good)).unwrap();
        assert_eq!(index.search(&[5.0, 10.0], &SearchOptions::top(usize::MAX)).unwrap().len(), 1);
        assert_eq!(index.search(&[5.0, 10.0], &SearchOptions::top(0)), Ok(vec![]));
        assert!(index.vector(ItemNo(u32::MAX)).unwrap().cosine(&good) > 0.9999);
        assert_eq!(index.vector(ItemNo(0)), None);
    }
}

#[test]
fn an_item_is_scored_by_its_best_vector() {
    let index = open(&IndexSettings::new(2)).unwrap();
    let vector = |x, y| Embedding::unit(vec![x, y]).unwrap();
    index.upsert(ItemNo(1), &[vector(0.0, 1.0), vector(1.0, 0.1)]).unwrap();
    index.upsert(ItemNo(2), &[vector(1.0, 1.0)]).unwrap();
    let found = index.search(&[2.0, 0.0], &SearchOptions::top(10)).unwrap();
    assert_eq!(found.iter().map(|s| s.item.0).collect::<Vec<_>>(), [1, 2]);
    assert!((found[0].score - vector(1.0, 0.1).cosine(&vector(1.0, 0.0))).abs() < 1e-3);
    let both = index.search_many(&[&[2.0, 0.0], &[0.0, 3.0]], &SearchOptions::top(1)).unwrap();
    assert_eq!(both.len(), 2);
    assert!(both.iter().all(|found| found[0].item == ItemNo(1)));
    let far: BTreeMap<u32, f32> = found.iter().map(|s| (s.item.0, s.score)).collect();
    let close = SearchOptions::top(10).min_score(0.8);
    assert!(far[&2] < 0.8);
    assert_eq!(index.search(&[2.0, 0.0], &close).unwrap().len(), 1);
}

#[test]
fn likeness_is_that_of_the_vectors_themselves() {
    let mut rng = StdRng::seed_from_u64(11);
    for dims in [3, 64, 320] {
        let index = index(dims, IndexKind::Flat, Rules::default());
        let oracle = ExactIndex::new(dims).unwrap();
        // More than a chunk, so that some rows are settled and some are not, with gaps and items of several vectors.
        for item in (0..1_500).filter(|item| item % 5 != 0) {
            let vectors: Vec<Embedding> = (0..=item % 3).map(|_| random(&mut rng, dims)).collect();
            index.upsert(ItemNo(item), &vectors).unwrap();
            oracle.upsert(ItemNo(item), &vectors).unwrap();
        }
        let items: Vec<ItemNo> = [1, 0, 7, 1_499, 8, 9_999_999, 7].map(ItemNo).into();
        let queries: Vec<Embedding> = (0..3).map(|_| random(&mut rng, dims)).collect();
        let queries: Vec<&Embedding> = queries.iter().collect();
        let likenesses = |index: &dyn VectorIndex| {
            let mut all = Vec::new();
            index.liken(&items, &queries, &mut |place, cosines| all.push((place, cosines.to_vec())));
            all
        };
        let (got, right) = (likenesses(&index), likenesses(&oracle));
        let places = |all: &[(usize, Vec<f32>)]| all.iter().map(|(place, _)| *place).collect::<Vec<_>>();
        assert_eq!((places(&got), places(&right)), (vec![0, 2, 3, 4, 6], vec![0, 2, 3, 4, 6]));
        for ((_, got), (_, right)) in got.iter().zip(&right) {
            assert_eq!(got.len(), 3);
            assert!(got.iter().zip(right).all(|(a, b)| (a - b).abs() < 2e-3), "{got:?} {right:?}");
        }
    }
}
