//! How long does a request take among many items, and how much does it miss?

use std::collections::HashSet;
use std::error::Error;
use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use upnext::collab::{AlsOptions, Preference, PreferenceOptions, PreferenceScratch, Signal};
use upnext::domain::{ItemNo, Scored, Timestamp};

use crate::{data, key};

const ITEMS: u32 = 100_000;
const USERS: u32 = 20_000;
const QUESTIONS: u32 = 2_000;

pub(crate) fn run(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let mut pairs = data::synthetic(USERS, ITEMS, 1_500_000);
    // Of the first users, twenty items are known to the question, one more is to be found, and none is learned.
    let (asked, learned): (Vec<_>, Vec<_>) = pairs.drain(..).partition(|&(user, _)| user < QUESTIONS);
    for (regularisation, unobserved_weight) in
        [(0.03, 16.0), (0.1, 16.0), (0.3, 16.0), (1.0, 16.0), (0.1, 64.0), (0.1, 4.0)]
    {
        let als = AlsOptions { regularisation, unobserved_weight, ..AlsOptions::default() };
        let preference = Preference::new(&PreferenceOptions { als, threads: 2, ..PreferenceOptions::default() });
        for &(user, item) in &learned {
            preference.observe(0, Some(key(user)), ItemNo(item), Signal::Engaged(1.0), Timestamp(0));
        }
        let report = preference.train(Timestamp(0), &[], &|_| None, &AtomicBool::new(false), |_| {});
        if let Some(report) = report {
            writeln!(
                out,
                "λ {regularisation} α {unobserved_weight}: {:.1} s, loss {:.3}",
                report.took.as_secs_f64(),
                report.loss
            )?;
        }
        ask(&preference, &asked, out)?;
    }
    Ok(())
}

fn ask(preference: &Preference, asked: &[(u32, u32)], out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let mut scratch = PreferenceScratch::default();
    let mut best: Vec<Scored> = Vec::new();
    let (mut fold_in, mut candidates, mut scores) = (0.0, 0.0, 0.0);
    let (mut found, mut wanted, mut hits, mut questions, mut sum) = (0, 0, 0, 0, 0.0);
    for (n, own) in asked.chunk_by(|a, b| a.0 == b.0).enumerate().filter(|(_, own)| own.len() > 30) {
        let mut items: Vec<ItemNo> = own.iter().map(|&(_, item)| ItemNo(item)).collect();
        items.sort_unstable_by_key(|item| item.0.wrapping_mul(0x9E37_79B9));
        let held = items[20];
        let history: Vec<(ItemNo, f32)> = items[..20].iter().map(|&item| (item, 1.0)).collect();
        let started = Instant::now();
        preference.fold_in(None, None, &history, &mut scratch);
        fold_in += started.elapsed().as_secs_f64();
        let started = Instant::now();
        preference.candidates(60, |_| true, &mut scratch, &mut best);
        candidates += started.elapsed().as_secs_f64();
        let started = Instant::now();
        sum += (0..400).filter_map(|k| scratch.score(ItemNo(k * 97))).sum::<f32>();
        scores += started.elapsed().as_secs_f64();
        hits += usize::from(best.iter().any(|b| b.item == held));
        questions += 1;
        if n % 20 == 0 {
            let known: HashSet<ItemNo> = history.iter().map(|&(item, _)| item).collect();
            let new = (0..ITEMS).map(ItemNo).filter(|item| !known.contains(item));
            let mut exact: Vec<Scored> =
                new.filter_map(|item| Some(Scored { item, score: scratch.score(item)? })).collect();
            Scored::keep_best(&mut exact, 60);
            wanted += exact.len();
            found += exact.iter().filter(|s| best.iter().any(|b| b.item == s.item)).count();
        }
    }
    let each = |seconds: f64| seconds * 1e6 / f64::from(questions.max(1));
    writeln!(
        out,
        "  fold-in of 20 items {:.1} µs, 60 candidates {:.1} µs, 400 scores {:.1} µs; {found} of the {wanted} best found; \
         held-out item among them {hits} of {questions} ({sum:.0})",
        each(fold_in),
        each(candidates),
        each(scores)
    )?;
    Ok(())
}
