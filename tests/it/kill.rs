//! Is what was acknowledged there after the process was killed in the middle of its work?
//!
//! A server in a process of its own is written to by several clients over TLS, killed at a random moment, and started
//! again on the same folder; then it is held to every answer that it ever gave. That goes on for some cycles.
//!
//! A kill takes the memory of the process, not that of the operating system: what is lost when the power goes is what
//! the store's own tests are about.
//!
//! `just kill`, or `UPNEXT_KILL_CYCLES=200 cargo test --test it kill:: -- --nocapture`, goes on for longer;
//! `UPNEXT_KILL_SEED` takes other moments.

mod book;
pub(crate) mod child;
mod ledger;
mod load;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Barrier;

use self::book::{Book, Fate};
use self::child::{Child, Folder};
use self::ledger::Ledger;
use self::load::{ROLES, Writer};
use crate::support::{run, tokio};

const CYCLES: u64 = 20;
const SEED: u64 = 1;
/// After so many cycles an empty folder is taken, so that a start does not become longer and longer.
const CYCLES_IN_A_FOLDER: u64 = 25;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
/// When the server is killed, after all clients are connected.
const KILLED_AFTER_MS: std::ops::RangeInclusive<u64> = 20..=800;
/// Below so many cycles chance may have it that no request got in without its answer, or that all did.
const ENOUGH_CYCLES: u64 = 20;

/// What happened in all cycles.
#[derive(Debug, Default)]
struct Sum {
    cycles: u64,
    /// Cycles in which the server died with a write on its way.
    mid_write: u64,
    fate: Fate,
    events: usize,
    entries: u64,
    starts_s: Vec<f64>,
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let from_environment = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let cycles: u64 = from_environment("UPNEXT_KILL_CYCLES", CYCLES);
    let mut random = StdRng::seed_from_u64(from_environment("UPNEXT_KILL_SEED", SEED));
    let (mut sum, began) = (Sum::default(), Instant::now());
    while sum.cycles < cycles {
        let in_this_folder = CYCLES_IN_A_FOLDER.min(cycles - sum.cycles);
        kill_again_and_again(in_this_folder, &mut random, &mut sum);
    }
    let Sum { mid_write, fate, events, entries, mut starts_s, .. } = sum;
    starts_s.sort_by(f64::total_cmp);
    eprintln!(
        "{cycles} kills, {mid_write} of them in a write; {events} events, {entries} entries; without an answer: {} \
         requests, of which {} got in, {} did not, {} did in part; starts {:.2} to {:.2} s; {:.0} s in all",
        fate.unanswered,
        fate.got_in,
        fate.lost,
        fate.in_part,
        starts_s.first().unwrap(),
        starts_s.last().unwrap(),
        began.elapsed().as_secs_f64(),
    );
    assert!(mid_write * 2 > cycles, "only {mid_write} of {cycles} kills hit a write");
    assert!(
        cycles < ENOUGH_CYCLES || fate.got_in > 0 && fate.lost > 0,
        "kills hit before and after the commit: {fate:?}"
    );
}

/// Cycles on one folder. The last start is checked, too.
fn kill_again_and_again(cycles: u64, random: &mut StdRng, sum: &mut Sum) {
    let folder = Folder::new();
    let mut child = Child::start(&folder);
    let mut book = run(Book::open(&child.client(true)));
    for _ in 0..cycles {
        let ledgers = write_and_kill(child, &book, sum.cycles, random);
        child = Child::start(&folder);
        sum.starts_s.push(child.start_s);
        let fate = run(book.check(&child.client(true), ledgers));
        sum.cycles += 1;
        sum.mid_write += u64::from(fate.unanswered > 0);
        sum.fate.add(fate);
    }
    run(book.check_entries(&child.client(true)));
    sum.events += book.events();
    sum.entries += book.entries();
}

/// Lets clients write, kills the server, and gives what the clients know.
fn write_and_kill(child: Child, book: &Book, cycle: u64, random: &mut StdRng) -> Vec<Ledger> {
    let killed = Arc::new(AtomicBool::new(false));
    let connected = Arc::new(Barrier::new(ROLES.len() + 1));
    let writers: Vec<_> = ROLES
        .into_iter()
        .enumerate()
        .map(|(number, role)| {
            let writer = Writer {
                // Half of them speak HTTP/2.
                client: child.client(number % 2 == 0),
                role,
                name: format!("c{cycle}-{number}"),
                number,
                seed: random.random(),
                items: book.items_of(&format!("own-{number}-")),
                killed: killed.clone(),
            };
            tokio().spawn(writer.write_until_killed(connected.clone()))
        })
        .collect();
    run(async { tokio::time::timeout(CONNECT_TIMEOUT, connected.wait()).await }).expect("all clients connect");
    std::thread::sleep(Duration::from_millis(random.random_range(KILLED_AFTER_MS)));
    killed.store(true, Ordering::SeqCst);
    child.kill();
    writers.into_iter().map(|writer| run(writer).unwrap()).collect()
}
