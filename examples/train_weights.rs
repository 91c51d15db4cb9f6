//! Makes the weights that ship with the program: `train_weights [OUT.toml] [SESSIONS_PER_LOG] [LOGS]`.
//!
//! Simulates a mixture of logs, draws examples from the later half of each (as the running service would see them:
//! every click learned at once, some moments between clicks, some sources missing), fits the hazards to all of them
//! together, and prints how the blend does on the end of each log.
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;
use std::time::Instant;

use upnext::collab::{Collab, CollabLimits};
use upnext::domain::Horizons;
use upnext::evaluation::{LearnOptions, Learning, MeasureOptions, Replay, collect, measure, mixture, simulate};
use upnext::ranking::{Examples, FitOptions, Schema, fit};

const HEADER: &str = "\
The weights of the ranking: a linear discrete-time hazard for each interval between horizons.

Made by `cargo run --release --example train_weights config/ranking.toml`: learned on 10 simulated logs of 8,000
sessions (from a few hundred to 12,000 items, from chaotic to predictable, some with media that play; seeds 1 to 10),
with and without frames and descriptions, tastes as they are learned from the log, all clicks learned at once. One
moment in three lies between clicks; before the first click of three sessions in ten there is one of which nothing is
known; at one in ten one source is silent. No real log went into them; one was used to check that the simulated sites
behave like a real one. Every log weighs the same.

`upnext` has them built in. To use others, train them on your own log.
";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let out = arguments.next();
    let sessions = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(8_000);
    let logs = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(10);
    let learning = Learning::AtOnce;
    let started = Instant::now();
    let schema = Schema::new(&Horizons::default());
    let replay = Replay { learning };
    let mut all = Examples::new(&schema);
    let mut held_out = Vec::new();
    for (number, settings) in mixture(logs, sessions, 1).into_iter().enumerate() {
        let seed = number as u64 + 1;
        let mut simulated = simulate(&settings, seed);
        let (before, test) = std::mem::take(&mut simulated.log).split(0.9);
        let (early, late) = before.split(0.6);
        let collab = Collab::new(&CollabLimits::default());
        replay.learn(&collab, &early.sessions);
        let options = LearnOptions {
            negatives: 0.04,
            quiet: 0.15,
            between_clicks: 0.33,
            arrivals: 0.3,
            missing_source: 0.1,
            seed,
            learning,
            ..LearnOptions::default()
        };
        let examples = collect(&collab, &late.sessions, &schema, &options, &mut simulated.surroundings());
        println!("log {seed}: {} clicks, {} examples, {:?}", late.clicks(), examples.len(), started.elapsed());
        let factor = 300_000.0 / examples.total_weight();
        all.append(&examples, factor as f32);
        held_out.push((collab, simulated, test));
    }
    let (model, report) = fit(&all, &FitOptions { l2: 20.0, ..FitOptions::default() })?;
    println!("fitted {} examples: {report:?}, {:?}", all.len(), started.elapsed());
    for (number, (collab, simulated, test)) in held_out.iter().enumerate() {
        let options = MeasureOptions { learning, ..MeasureOptions::default() };
        let measured = measure(collab, &test.sessions, &model, &options, &mut simulated.surroundings(), &mut |_, _| {});
        for result in &measured.aims {
            let ece = result.calibration.as_ref().map_or(0.0, |c| c.ece);
            print!("log {} {:?} ECE {ece:.4}", number + 1, result.aim);
            for ranker in &result.rankers {
                let figures = ranker.figures;
                print!("  {} {:.3}/{:.3}", ranker.ranker.name(), figures.hr.value, figures.mrr.value);
            }
            println!();
        }
    }
    if let Some(out) = out {
        std::fs::write(&out, model.to_toml(HEADER))?;
        println!("wrote {out}");
    }
    Ok(())
}
