//! How fast, how exact and how large is the index?
//!
//! `cargo bench --bench index` times searches of 10,000 vectors of 320 dimensions. With `UPNEXT_INDEX_VECTORS=100000`
//! in the environment it makes that many instead, once, and prints a report: recall@10 against an exact scan, queries
//! and inserts a second, memory. `UPNEXT_INDEX_DIMS` sets the dimensions, `UPNEXT_INDEX_KINDS=flat,hnsw` what is measured,
//! `UPNEXT_INDEX_THREADS` the threads that build, `UPNEXT_INDEX_SPREAD` how wide the clusters are (0.6).
#![allow(clippy::print_stdout, reason = "a report is what this program is for")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to say")]
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::collections::HashSet;
use std::env;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use roaring::RoaringBitmap;
use upnext::domain::{Embedding, ItemNo, Scored};
use upnext::index::{ExactIndex, IndexKind, IndexSettings, SearchOptions, Upkeep, VectorIndex, open};

const CLUSTERS: usize = 1_000;
const QUERIES: usize = 500;

/// Vectors around a thousand centres.
struct Generator {
    rng: StdRng,
    centres: Vec<Vec<f32>>,
    spread: f32,
}

impl Generator {
    fn new(dims: usize, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let centres = (0..CLUSTERS).map(|_| direction(&mut rng, dims)).collect();
        Self { rng, centres, spread: setting("UPNEXT_INDEX_SPREAD", 0.6) }
    }

    fn next(&mut self) -> Embedding {
        let centre = &self.centres[self.rng.random_range(0..CLUSTERS)];
        let noise = direction(&mut self.rng, centre.len());
        Embedding::unit(centre.iter().zip(noise).map(|(c, n)| c + n * self.spread).collect()).unwrap()
    }

    fn take(&mut self, count: usize) -> Vec<Embedding> {
        (0..count).map(|_| self.next()).collect()
    }
}

fn direction(rng: &mut StdRng, dims: usize) -> Vec<f32> {
    Embedding::unit((0..dims).map(|_| rng.random_range(-1.0_f32..1.0)).collect()).unwrap().as_slice().to_vec()
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn fill(index: &dyn VectorIndex, vectors: &[Embedding]) {
    for (item, vector) in (0..).zip(vectors) {
        index.upsert(ItemNo(item), std::slice::from_ref(vector)).unwrap();
    }
}

fn maintain(index: &dyn VectorIndex) {
    while index.maintain(&AtomicBool::new(false)) != Upkeep::Idle {}
}

fn search_10k(criterion: &mut Criterion) {
    let mut generator = Generator::new(320, 1);
    let vectors = generator.take(10_000);
    let queries = generator.take(64);
    let frames: Vec<&[f32]> = queries[..8].iter().map(Embedding::as_slice).collect();
    let one_percent: RoaringBitmap = (0..10_000).step_by(100).collect();
    let seen: RoaringBitmap = (0..5_000).collect();
    for kind in [IndexKind::Flat, IndexKind::Hnsw] {
        let index = open(&IndexSettings::new(320).kind(kind)).unwrap();
        fill(&*index, &vectors);
        maintain(&*index);
        let mut group = criterion.benchmark_group(format!("{kind} 10k x 320"));
        group.sample_size(20).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(300));
        let mut next = (0..queries.len()).cycle();
        let mut time = |name: &str, options: SearchOptions<'_>| {
            group.bench_function(name, |bencher| {
                bencher.iter(|| index.search(queries[next.next().unwrap()].as_slice(), black_box(&options)).unwrap());
            });
        };
        time("top 10", SearchOptions::top(10));
        time("top 10, 1 % allowed", SearchOptions::top(10).allowed(&one_percent));
        time("top 10, half excluded", SearchOptions::top(10).excluded(&seen));
        group.bench_function("top 10 of 8 queries at once", |bencher| {
            bencher.iter(|| index.search_many(black_box(&frames), &SearchOptions::top(10)).unwrap());
        });
        group.finish();
    }
}

/// The share of the right answers that were found.
fn recall(found: &[Vec<Scored>], exact: &[Vec<Scored>]) -> f64 {
    let (mut hits, mut all) = (0, 0);
    for (found, exact) in found.iter().zip(exact) {
        let right: HashSet<u32> = exact.iter().map(|s| s.item.0).collect();
        hits += found.iter().filter(|s| right.contains(&s.item.0)).count();
        all += exact.len();
    }
    hits as f64 / all.max(1) as f64
}

fn answers(index: &dyn VectorIndex, queries: &[Embedding], options: &SearchOptions<'_>) -> Vec<Vec<Scored>> {
    queries.iter().map(|query| index.search(query.as_slice(), options).unwrap()).collect()
}

/// Queries a second on so many threads.
fn rate(index: &Arc<dyn VectorIndex>, queries: &[Embedding], options: &SearchOptions<'_>, threads: usize) -> f64 {
    let started = Instant::now();
    let rounds = 2;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..rounds).for_each(|_| drop(black_box(answers(&**index, queries, options)))));
        }
    });
    (threads * rounds * queries.len()) as f64 / started.elapsed().as_secs_f64()
}

fn resident_bytes() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok().and_then(|s| s.split(' ').nth(1)?.parse::<f64>().ok());
    pages.unwrap_or(0.0) * 4096.0
}

fn report(count: usize) {
    let dims = setting("UPNEXT_INDEX_DIMS", 320);
    let mut generator = Generator::new(dims, 1);
    let vectors = generator.take(count);
    let queries = generator.take(QUERIES);
    let oracle = ExactIndex::new(dims).unwrap();
    fill(&oracle, &vectors);
    let exact = answers(&oracle, &queries, &SearchOptions::top(10));
    println!("{count} vectors of {dims} dimensions, {CLUSTERS} clusters, {QUERIES} queries, recall@10");
    for kind in env::var("UPNEXT_INDEX_KINDS").unwrap_or_else(|_| "flat,hnsw".into()).split(',') {
        let before = resident_bytes();
        let settings = IndexSettings {
            kind: kind.parse().unwrap(),
            build_threads: setting("UPNEXT_INDEX_THREADS", 1),
            links: setting("UPNEXT_INDEX_LINKS", 16),
            build_effort: setting("UPNEXT_INDEX_BUILD_EFFORT", 200),
            ..IndexSettings::new(dims)
        };
        let index = open(&settings).unwrap();
        let started = Instant::now();
        fill(&*index, &vectors);
        let filled = started.elapsed().as_secs_f64();
        maintain(&*index);
        let linked = started.elapsed().as_secs_f64() - filled;
        println!(
            "{kind}: {:.0} upserts/s, upkeep {linked:.1} s ({:.0} vectors/s)",
            count as f64 / filled,
            count as f64 / linked
        );
        println!(
            "  bytes a vector: {:.0} reckoned, {:.0} resident; {:?}",
            index.bytes() as f64 / count as f64,
            (resident_bytes() - before) / count as f64,
            index.stats()
        );
        for effort in if kind == "flat" { &[64][..] } else { &[32, 64, 128][..] } {
            let options = SearchOptions::top(10).effort(*effort);
            println!(
                "  effort {effort:3}: recall {:.4}, {:.0} q/s on one thread, {:.0} on two",
                recall(&answers(&*index, &queries, &options), &exact),
                rate(&index, &queries, &options, 1),
                rate(&index, &queries, &options, 2)
            );
        }
        for every in [2, 3, 10, 100, 1_000] {
            let allowed: RoaringBitmap = (0..count as u32).step_by(every).collect();
            let options = SearchOptions::top(10).allowed(&allowed);
            let exact = answers(&oracle, &queries[..50], &options);
            println!(
                "  one in {every} allowed: recall {:.4}, {:.0} q/s",
                recall(&answers(&*index, &queries[..50], &options), &exact),
                rate(&index, &queries[..50], &options, 1)
            );
        }
        let seen: RoaringBitmap = (0..10_000.min(count as u32 / 2)).collect();
        println!(
            "  {} excluded: {:.0} q/s",
            seen.len(),
            rate(&index, &queries, &SearchOptions::top(10).excluded(&seen), 1)
        );
    }
}

criterion_group!(benches, search_10k);

fn main() {
    match setting("UPNEXT_INDEX_VECTORS", 0) {
        0 => {
            benches();
            Criterion::default().configure_from_args().final_summary();
        }
        count => report(count),
    }
}
