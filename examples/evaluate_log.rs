//! How good are the lists on a click log?
//!
//! `evaluate_log TRAIN.tsv TEST.tsv [live|strict] [fitted|shipped|weights=FILE]` — tab-separated `SessionId ItemId Time`. The first
//! 70 % of the training sessions are learned, hazards are fitted to the others, and the test log is replayed. `m=`,
//! `k=`, `links=` and `l2=` change the recency sample, the neighbours, the links an item and the penalty; `out=FILE` writes the fitted weights.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::error::Error;
use std::fs::File;
use std::time::Instant;

use upnext::collab::{Collab, CollabLimits};
use upnext::domain::Horizons;
use upnext::evaluation::{
    ClickLog, Columns, ItemNumbers, LearnOptions, Learning, MeasureOptions, NothingElse, Ranker, Replay, collect,
    measure,
};
use upnext::ranking::{FitOptions, HazardModel, Schema, fit};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [train, test, options @ ..] = arguments.as_slice() else {
        println!(
            "skipped: no log given; usage: evaluate_log TRAIN.tsv TEST.tsv [live|strict] [fitted|shipped|weights=FILE]"
        );
        return Ok(());
    };
    let has = |name: &str| options.iter().any(|o| o == name);
    let number = |name: &str, default: f64| {
        let given = options.iter().find_map(|o| o.strip_prefix(name)?.strip_prefix('=')?.parse().ok());
        given.unwrap_or(default)
    };
    let learning = if has("strict") { Learning::AfterSession } else { Learning::AtOnce };
    let mut items = ItemNumbers::default();
    let mut read = |path: &str| {
        ClickLog::read(File::open(path).map_err(csv::Error::from)?, b'\t', &Columns::default(), &mut items)
    };
    let train = read(train)?;
    let mut test = read(test)?;
    test.renumber(train.sessions.len() as u64);
    let started = Instant::now();
    let defaults = CollabLimits::default();
    let limits = CollabLimits {
        recency_sample: number("m", defaults.recency_sample as f64) as usize,
        neighbours: number("k", defaults.neighbours as f64) as usize,
        links_per_item: number("links", defaults.links_per_item as f64) as usize,
        ..defaults
    };
    let collab = Collab::new(&limits);
    let schema = Schema::new(&Horizons::default());
    let replay = Replay { learning };
    let weights = options.iter().find_map(|o| o.strip_prefix("weights="));
    let model = if has("shipped") || weights.is_some() {
        replay.learn(&collab, &train.sessions);
        match weights {
            Some(path) => HazardModel::from_toml(&std::fs::read_to_string(path)?)?,
            None => HazardModel::shipped()?,
        }
    } else {
        let (early, late) = train.split(0.7);
        replay.learn(&collab, &early.sessions);
        eprintln!("learned {} sessions, {:?}", early.sessions.len(), started.elapsed());
        let draw = LearnOptions { learning, ..LearnOptions::default() };
        let examples = collect(&collab, &late.sessions, &schema, &draw, &mut NothingElse);
        eprintln!("drew {} examples, {:?}", examples.len(), started.elapsed());
        let (model, report) = fit(&examples, &FitOptions { l2: number("l2", 5.0), ..FitOptions::default() })?;
        eprintln!("{report:?}, {:?}", started.elapsed());
        if let Some(out) = options.iter().find_map(|o| o.strip_prefix("out=")) {
            std::fs::write(out, model.to_toml("Fitted to one log."))?;
        }
        model
    };
    let results = measure(&collab, &test.sessions, &model, &MeasureOptions { k: 20, learning }, &mut NothingElse);
    eprintln!("measured, {:?}", started.elapsed());
    for result in results {
        let alone = result.rankers.iter().filter(|r| r.ranker != Ranker::Blend);
        let best = alone.fold(0.0_f64, |best, r| best.max(r.mrr));
        println!("{} s, {} positions, ECE {:.5}", result.seconds, result.positions, result.calibration.ece);
        if let Some((predicted, observed)) = result.calibration.bins.last() {
            println!("  top decile: predicted {predicted:.4}, observed {observed:.4}");
        }
        for r in &result.rankers {
            let against = 100.0 * (r.mrr / best - 1.0);
            let name = r.ranker.name();
            println!("  {name:14} HR {:.4}  MRR {:.4} ({against:+.1} %)  NDCG {:.4}", r.hr, r.mrr, r.ndcg);
        }
    }
    Ok(())
}
