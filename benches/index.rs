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
use upnext::index::{ExactIndex, IndexKind, IndexSettings, SearchOptions, Upkeep, VectorIndex, instruction_set, open};

const CLUSTERS: usize = 1_000;
const QUERIES: usize = 300;

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

/// Queries a second of processor time (on one thread), and a second by the clock (on two): the first hardly feels what
/// else the machine does.
fn rates(index: &Arc<dyn VectorIndex>, queries: &[Embedding], options: &SearchOptions<'_>) -> String {
    let (started, before) = (Instant::now(), processor_seconds());
    drop(black_box(answers(&**index, queries, options)));
    let one = processor_seconds().zip(before).map_or(started.elapsed().as_secs_f64(), |(after, before)| after - before);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| drop(black_box(answers(&**index, queries, options))));
        }
    });
    let two = started.elapsed().as_secs_f64() / 2.0;
    let count = queries.len() as f64;
    format!("{:.0} q/s of processor time, {:.0} q/s on two threads", count / one.max(0.01), count / two)
}

/// The time this process has had a processor, to a hundredth of a second; `None` where there is no `/proc`.
fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let after_name: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    Some((after_name.get(11)?.parse::<f64>().ok()? + after_name.get(12)?.parse::<f64>().ok()?) / 100.0)
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
    let allowed = |every: usize| -> RoaringBitmap { (0..count as u32).step_by(every).collect() };
    let filtered: Vec<(usize, Vec<Vec<Scored>>)> = [2, 10, 100, 1_000]
        .map(|every| (every, answers(&oracle, &queries, &SearchOptions::top(10).allowed(&allowed(every)))))
        .into();
    println!(
        "{count} vectors of {dims} dimensions, {CLUSTERS} clusters, {QUERIES} queries, recall@10, {}",
        instruction_set()
    );
    for kind in env::var("UPNEXT_INDEX_KINDS").unwrap_or_else(|_| "flat,hnsw".into()).split(',') {
        let (before, before_s) = (resident_bytes(), processor_seconds());
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
        let processor_s = processor_seconds().zip(before_s).map_or(f64::NAN, |(after, before)| after - before);
        println!(
            "{kind}: {:.0} upserts/s, upkeep {linked:.1} s; {:.0} vectors a second of processor time, all in all",
            count as f64 / filled,
            count as f64 / processor_s
        );
        println!(
            "  bytes a vector: {:.0} reckoned, {:.0} resident; {:?}",
            index.bytes() as f64 / count as f64,
            (resident_bytes() - before) / count as f64,
            index.stats()
        );
        for effort in if kind == "flat" { &[64][..] } else { &[32, 64, 128][..] } {
            let options = SearchOptions::top(10).effort(*effort);
            let recall = recall(&answers(&*index, &queries, &options), &exact);
            println!("  effort {effort:3}: recall {recall:.4}, {}", rates(&index, &queries, &options));
        }
        for (every, exact) in &filtered {
            let allowed = allowed(*every);
            let options = SearchOptions::top(10).allowed(&allowed);
            let recall = recall(&answers(&*index, &queries, &options), exact);
            println!("  one in {every} allowed: recall {recall:.4}, {}", rates(&index, &queries, &options));
        }
        let seen: RoaringBitmap = (0..10_000.min(count as u32 / 2)).collect();
        println!("  {} excluded: {}", seen.len(), rates(&index, &queries, &SearchOptions::top(10).excluded(&seen)));
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
