//! How good is the matrix factorisation, how fast, and what does it know of films that nobody has rated yet?
//!
//! ```text
//! UPNEXT_DATA=<folder> cargo run --release --example compare_factors -- [--out DIR] [--grid] [--synthetic] [--cold] [--latency]
//! ```
//!
//! The folder holds `movielens/events_dev_users.csv` (userId, movieId, rating, timestamp), `movielens/items.csv` and
//! `movielens/posters/`. The last ten ratings of every user with at least twenty are the test, everything before is learned.
//! `--out` writes the split, and with `--synthetic` a larger made-up set, for `examples/compare_factors.py`, which does the same
//! with the Python package `implicit`. `--cold` leaves every sixth film with a poster out of learning and ranks those among
//! themselves; `--latency` times a request among 100,000 items. Without the folder it says so and ends well.

#[path = "compare_factors/cold.rs"]
mod cold;
#[path = "compare_factors/data.rs"]
mod data;
#[path = "compare_factors/latency.rs"]
mod latency;

use std::collections::HashSet;
use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use upnext::collab::{AlsOptions, Interactions, Preference, PreferenceOptions, PreferenceScratch, Signal, train};
use upnext::domain::{ItemNo, Timestamp, UserKey};

use data::Rating;

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let Some(data) = std::env::var_os("UPNEXT_DATA").map(PathBuf::from) else {
        writeln!(out, "skipped: UPNEXT_DATA does not name a folder with movielens/")?;
        return Ok(());
    };
    let ratings = data::ratings(&data.join("movielens/events_dev_users.csv"))?;
    if has("--cold") {
        return cold::run(&data.join("movielens"), &ratings, &mut out);
    }
    if has("--latency") {
        return latency::run(&mut out);
    }
    let folder = arguments.iter().position(|a| a == "--out").and_then(|at| arguments.get(at + 1)).map(PathBuf::from);
    let (learned, tested) = data::split(&ratings);
    let synthetic = has("--synthetic").then(|| data::synthetic(50_000, 20_000, 1_000_000));
    if let Some(folder) = &folder {
        std::fs::create_dir_all(folder)?;
        write_pairs(&folder.join("train.csv"), learned.iter().map(|r| (r.user, r.film)))?;
        write_pairs(&folder.join("test.csv"), tested.iter().map(|r| (r.user, r.film)))?;
        if let Some(pairs) = &synthetic {
            write_pairs(&folder.join("synthetic.csv"), pairs.iter().copied())?;
        }
    }
    writeln!(out, "{} ratings to learn from, {} to test on", learned.len(), tested.len())?;
    let popularity = data::popularity(&learned);
    let (ndcg, hit) = measure(&learned, &tested, |_, film| popularity.get(&film).copied().unwrap_or(0.0));
    writeln!(out, "popularity                         NDCG@10 {ndcg:.4}  HR@10 {hit:.4}")?;
    let default = AlsOptions::default();
    let mut tried = vec![default];
    if has("--grid") {
        tried.clear();
        for regularisation in [0.03, 0.1, 0.3, 1.0, 3.0, 10.0] {
            for unobserved_weight in [4.0, 8.0, 16.0, 32.0, 64.0] {
                for regularisation_exponent in [0.0, 0.5, 1.0] {
                    let options = AlsOptions { regularisation, unobserved_weight, regularisation_exponent, ..default };
                    tried.push(options);
                }
            }
        }
    }
    for als in tried {
        let (ndcg, hit, cosine, seconds) = films(&learned, &tested, als);
        writeln!(
            out,
            "λ {:<5} ν {:<3} α {:<4} {} dims  NDCG@10 {ndcg:.4}  HR@10 {hit:.4}  (by cosine {cosine:.4})  {seconds:.3} s",
            als.regularisation, als.regularisation_exponent, als.unobserved_weight, als.dims
        )?;
    }
    if let Some(pairs) = &synthetic {
        let mut rows = vec![Vec::new(); 50_000];
        pairs.iter().for_each(|&(user, item)| rows[user as usize].push((item, 1.0)));
        let interactions = Interactions::new(rows, 20_000);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build()?;
        for turn in 0..3 {
            let started = Instant::now();
            let stop = AtomicBool::new(false);
            let trained = pool.install(|| train(&interactions, &default, &stop, |_| {}));
            let loss = trained.map_or(f64::NAN, |trained| trained.loss);
            writeln!(
                out,
                "synthetic, turn {turn}: {} pairs, {} dims, {} rounds, 2 threads: {:.3} s, loss {loss:.4}",
                interactions.len(),
                default.dims,
                default.iterations,
                started.elapsed().as_secs_f64()
            )?;
        }
    }
    Ok(())
}

/// A person as the service would know them.
fn key(user: u32) -> UserKey {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&user.to_le_bytes());
    UserKey(key)
}

/// A model that has seen these ratings, all alike.
fn taught<'a>(ratings: impl IntoIterator<Item = &'a Rating>, als: AlsOptions) -> Preference {
    let options = PreferenceOptions { als, items_per_taste: 10_000, threads: 2, ..PreferenceOptions::default() };
    let preference = Preference::new(&options);
    for r in ratings {
        preference.observe(0, Some(key(r.user)), ItemNo(r.film), Signal::Engaged(1.0), Timestamp(r.at_s * 1000));
    }
    preference
}

fn films(learned: &[Rating], tested: &[Rating], als: AlsOptions) -> (f64, f64, f64, f64) {
    let preference = taught(learned, als);
    let report = preference.train(Timestamp(0), &[], &|_| None, &AtomicBool::new(false), |_| {});
    let mut scratch = PreferenceScratch::default();
    let mut last = u32::MAX;
    let mut scored = |user: u32, film: u32, by_cosine: bool| {
        if user != last {
            preference.fold_in(None, Some(key(user)), &[], &mut scratch);
            last = user;
        }
        let score = if by_cosine { scratch.likeness(ItemNo(film)) } else { scratch.score(ItemNo(film)) };
        f64::from(score.unwrap_or(-1.0))
    };
    let (ndcg, hit) = measure(learned, tested, |user, film| scored(user, film, false));
    let (cosine, _) = measure(learned, tested, |user, film| scored(user, film, true));
    (ndcg, hit, cosine, report.map_or(f64::NAN, |report| report.took.as_secs_f64()))
}

/// NDCG@10 and the share of users with a hit among the first ten of all films that they had not rated.
fn measure(learned: &[Rating], tested: &[Rating], mut score: impl FnMut(u32, u32) -> f64) -> (f64, f64) {
    let mut films: Vec<u32> = learned.iter().map(|r| r.film).collect();
    films.sort_unstable();
    films.dedup();
    let mut users: Vec<u32> = tested.iter().map(|r| r.user).collect();
    users.sort_unstable();
    users.dedup();
    let (mut ndcg, mut hits) = (0.0, 0.0);
    for &user in &users {
        let seen: HashSet<u32> = learned.iter().filter(|r| r.user == user).map(|r| r.film).collect();
        let wanted: HashSet<u32> = tested.iter().filter(|r| r.user == user).map(|r| r.film).collect();
        let unseen = films.iter().filter(|film| !seen.contains(film));
        let mut ranked: Vec<(f64, u32)> = unseen.map(|&film| (score(user, film), film)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let gain = |place: usize| 1.0 / (place as f64 + 2.0).log2();
        let found: Vec<usize> = (0..10.min(ranked.len())).filter(|&n| wanted.contains(&ranked[n].1)).collect();
        let ideal: f64 = (0..wanted.len().min(10)).map(gain).sum();
        ndcg += found.iter().map(|&place| gain(place)).sum::<f64>() / ideal;
        hits += f64::from(u8::from(!found.is_empty()));
    }
    (ndcg / users.len() as f64, hits / users.len() as f64)
}

fn write_pairs(file: &Path, pairs: impl Iterator<Item = (u32, u32)>) -> Result<(), Box<dyn Error>> {
    let mut to = std::io::BufWriter::new(std::fs::File::create(file)?);
    for (user, item) in pairs {
        writeln!(to, "{user},{item}")?;
    }
    to.flush()?;
    Ok(())
}
