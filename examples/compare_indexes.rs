//! How good, how fast and how large are the neighbour indexes, filters and inserts among them?
//!
//! ```text
//! python examples/compare_indexes.py make DIR 100000
//! cargo run --release --example compare_indexes -- DIR [--kinds graph,flat,hnsw] [--precision int16,int8] [--threads 2] [--stream] [--filters] [--inserts]
//! ```
//!
//! `compare_indexes.py` writes the vectors, the queries and their true neighbours into DIR, and measures hnswlib, usearch and
//! faiss on them; this measures ours. `--stream` does the upkeep after every 200 vectors, as they come, instead of once at
//! the end; `--filters` lets through only some of the items, and all but 10,000; `--inserts` times searches while 500 vectors
//! a second come in.

use std::collections::HashSet;
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use roaring::RoaringBitmap;
use upnext::domain::{Embedding, ItemNo, dot};
use upnext::index::{IndexKind, IndexSettings, Precision, SearchOptions, Upkeep, VectorIndex, instruction_set, open};

const DIMS: usize = 320;
const SEARCHES: usize = 5_000;

type Truth = Vec<HashSet<u32>>;

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(folder) = arguments.first().map(Path::new).filter(|folder| folder.is_dir()) else {
        writeln!(out, "skipped: name a folder that `examples/compare_indexes.py make` has filled")?;
        return Ok(());
    };
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let value = |flag: &str| arguments.iter().position(|a| a == flag).and_then(|at| arguments.get(at + 1));
    let kinds = value("--kinds");
    let build_threads = value("--threads").map_or(Ok(2), |threads| threads.parse())?;
    let vectors = embeddings(&folder.join("vectors.f32"))?;
    let queries = embeddings(&folder.join("queries.f32"))?;
    let truth: Truth = numbers(&folder.join("truth.u32"))?
        .chunks_exact(10)
        .map(|ten| ten.iter().map(|four| u32::from_le_bytes(*four)).collect())
        .collect();
    writeln!(out, "{} vectors of {DIMS} dimensions, {} queries, {}", vectors.len(), queries.len(), instruction_set())?;
    let precisions = value("--precision").map_or("int16", String::as_str);
    let each =
        kinds.map_or("graph", String::as_str).split(',').flat_map(|k| precisions.split(',').map(move |p| (k, p)));
    for (kind, precision) in each {
        let (kind, precision): (IndexKind, Precision) = (kind.parse()?, precision.parse()?);
        let (before, started, worked) = (resident_bytes(), Instant::now(), processor_seconds());
        let index = open(&IndexSettings { build_threads, precision, ..IndexSettings::new(DIMS).kind(kind) })?;
        for (item, vector) in (0..).zip(&vectors) {
            index.upsert(ItemNo(item), std::slice::from_ref(vector))?;
            if has("--stream") && item % 200 == 199 {
                keep_up(&*index);
            }
        }
        keep_up(&*index);
        let (seconds, worked) = (started.elapsed().as_secs_f64(), processor_seconds() - worked);
        let count = vectors.len() as f64;
        writeln!(
            out,
            "{kind} {precision}: built in {seconds:.1} s, {:.0} a second, {:.0} a second of processor time; {:.0} bytes a vector reckoned, {:.0} resident",
            count / seconds,
            count / worked,
            index.bytes() as f64 / count,
            (resident_bytes() - before) / count,
        )?;
        for effort in if kind == IndexKind::Flat { &[64][..] } else { &[32, 64, 128, 256][..] } {
            let options = SearchOptions::top(10).effort(*effort);
            let recall = recall(&*index, &queries, &truth, &options)?;
            let worked = processor_seconds();
            let one = rate(&*index, &queries, &options, 1);
            let searches = queries.len() * rounds(&*index, &queries);
            let own = searches as f64 / (processor_seconds() - worked).max(0.01);
            let two = rate(&*index, &queries, &options, 2);
            writeln!(
                out,
                "  ef {effort:3}: recall {recall:.4}, {one:.0} and {two:.0} q/s on 1 and 2 threads, {own:.0} a second of processor time"
            )?;
        }
        if has("--filters") {
            filters(&*index, &vectors, &queries[..queries.len().min(100)], &mut out)?;
        }
        if has("--inserts") {
            inserts(&*index, &vectors, &queries, &mut out)?;
        }
    }
    Ok(())
}

fn numbers(file: &Path) -> Result<Vec<[u8; 4]>, Box<dyn Error>> {
    Ok(std::fs::read(file)?.chunks_exact(4).map(|four| [four[0], four[1], four[2], four[3]]).collect())
}

fn embeddings(file: &Path) -> Result<Vec<Embedding>, Box<dyn Error>> {
    let rows = numbers(file)?;
    let row = |row: &[[u8; 4]]| Embedding::unit(row.iter().map(|four| f32::from_le_bytes(*four)).collect());
    Ok(rows.chunks_exact(DIMS).map(row).collect::<Result<_, _>>()?)
}

fn keep_up(index: &dyn VectorIndex) {
    while index.maintain(&AtomicBool::new(false)) != Upkeep::Idle {}
}

fn recall(
    index: &dyn VectorIndex,
    queries: &[Embedding],
    truth: &[HashSet<u32>],
    options: &SearchOptions<'_>,
) -> Result<f64, Box<dyn Error>> {
    let (mut hits, mut all) = (0, 0);
    for (query, right) in queries.iter().zip(truth) {
        let found = index.search(query.as_slice(), options)?;
        hits += found.iter().filter(|scored| right.contains(&scored.item.0)).count();
        all += right.len();
    }
    Ok(hits as f64 / all as f64)
}

/// Searches a second.
fn rate(index: &dyn VectorIndex, queries: &[Embedding], options: &SearchOptions<'_>, threads: usize) -> f64 {
    let rounds = rounds(index, queries);
    let started = Instant::now();
    let work = || {
        for _ in 0..rounds {
            queries.iter().for_each(|query| drop(std::hint::black_box(index.search(query.as_slice(), options))));
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    (rounds * queries.len() * threads) as f64 / started.elapsed().as_secs_f64()
}

fn rounds(index: &dyn VectorIndex, queries: &[Embedding]) -> usize {
    if index.stats().linked == 0 { 1 } else { (SEARCHES / queries.len()).max(1) }
}

/// What this process has worked so far. On a machine that others keep busy it says more than the clock.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn filters(
    index: &dyn VectorIndex,
    vectors: &[Embedding],
    queries: &[Embedding],
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    let mut rng = StdRng::seed_from_u64(2);
    let count = vectors.len() as u32;
    for one_in in [2, 10, 30, 100, 1_000] {
        let allowed: RoaringBitmap = (0..count).filter(|_| rng.random_range(0..one_in) == 0).collect();
        let truth: Truth = queries.iter().map(|query| nearest(vectors, query, &allowed)).collect();
        let options = SearchOptions::top(10).allowed(&allowed);
        let recall = recall(index, queries, &truth, &options)?;
        writeln!(out, "  one in {one_in} allowed: recall {recall:.4}, {:.0} q/s", rate(index, queries, &options, 1))?;
    }
    let seen: RoaringBitmap = (0..10_000.min(count / 2)).map(|_| rng.random_range(0..count)).collect();
    let all = 1e6 / rate(index, queries, &SearchOptions::top(10), 1);
    let unseen = 1e6 / rate(index, queries, &SearchOptions::top(10).excluded(&seen), 1);
    writeln!(out, "  a search takes {all:.0} us, with {} items excluded {unseen:.0} us", seen.len())?;
    Ok(())
}

fn nearest(vectors: &[Embedding], query: &Embedding, allowed: &RoaringBitmap) -> HashSet<u32> {
    let score = |item: u32| dot(vectors[item as usize].as_slice(), query.as_slice());
    let mut scored: Vec<(u32, f32)> = allowed.iter().map(|item| (item, score(item))).collect();
    scored.sort_unstable_by(|a, b| b.1.total_cmp(&a.1));
    scored.iter().take(10).map(|(item, _)| *item).collect()
}

/// How long searches take, at rest and while vectors come in and are linked.
fn inserts(
    index: &dyn VectorIndex,
    vectors: &[Embedding],
    queries: &[Embedding],
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    let over = AtomicBool::new(false);
    let search = |name: &str, out: &mut dyn Write| -> Result<(), Box<dyn Error>> {
        let started = Instant::now();
        let mut taken_us = Vec::new();
        for query in queries.iter().cycle() {
            let before = Instant::now();
            index.search(query.as_slice(), &SearchOptions::top(10))?;
            taken_us.push(before.elapsed().as_secs_f64() * 1e6);
            if started.elapsed() > Duration::from_secs(10) {
                break;
            }
        }
        taken_us.sort_unstable_by(f64::total_cmp);
        let quantile = |share: f64| taken_us[((taken_us.len() - 1) as f64 * share) as usize];
        writeln!(out, "  {name}: a search takes {:.0} us, p99 {:.0} us", quantile(0.5), quantile(0.99))?;
        Ok(())
    };
    search("at rest", out)?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let started = Instant::now();
            for (place, vector) in (0_u32..).zip(vectors.iter().cycle()) {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                if index.upsert(ItemNo(vectors.len() as u32 + place), std::slice::from_ref(vector)).is_err() {
                    break;
                }
                let due = Duration::from_secs_f64(f64::from(place) / 500.0);
                std::thread::sleep(due.saturating_sub(started.elapsed()));
            }
        });
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if index.maintain(&over) == Upkeep::Idle {
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        });
        let result = search("while 500 a second come in", out);
        over.store(true, Ordering::Relaxed);
        result
    })
}

/// What the process holds in memory; 0 where there is no `/proc`.
fn resident_bytes() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok().and_then(|s| s.split(' ').nth(1)?.parse::<f64>().ok());
    pages.unwrap_or(0.0) * 4096.0
}
