//! Does the factorisation find what was planted, is it the minimum, and is it the same for any number of threads?

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::als::{AlsOptions, Interactions, RowScratch, Trained, solve_row, train};
use super::linear::{cholesky, cholesky_solve, gram};
use crate::domain::dot;

const USERS: usize = 240;
const ITEMS: usize = 160;
const GROUPS: usize = 8;

fn options() -> AlsOptions {
    AlsOptions { dims: 16, iterations: 10, ..AlsOptions::default() }
}

/// Users of eight groups, who turn to items of their own group four times in five; some items are popular with all. Each
/// user's last three items are held out.
fn planted(seed: u64) -> (Interactions, Vec<Vec<u32>>) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut held = Vec::new();
    let rows: Vec<Vec<(u32, f32)>> = (0..USERS)
        .map(|user| {
            let mut own: Vec<u32> = Vec::new();
            while own.len() < 15 {
                let popular = (random.random::<f64>().powi(2) * (ITEMS / GROUPS) as f64) as usize * GROUPS;
                let group = if random.random_bool(0.8) { user % GROUPS } else { random.random_range(0..GROUPS) };
                let item = (popular + group) as u32;
                if !own.contains(&item) {
                    own.push(item);
                }
            }
            held.push(own.split_off(12));
            own.into_iter().map(|item| (item, 1.0)).collect()
        })
        .collect();
    (Interactions::new(rows, ITEMS), held)
}

fn learned(interactions: &Interactions, options: &AlsOptions) -> Trained {
    train(interactions, options, &AtomicBool::new(false), |_| {}).unwrap()
}

fn taste(interactions: &Interactions, user: usize, trained: &Trained, options: &AlsOptions, steps: usize) -> Vec<f32> {
    let mut taste = vec![0.0; options.dims];
    let (columns, confidences) = interactions.row(user);
    let factor = |&item: &u32| &trained.items[item as usize * options.dims..][..options.dims];
    let engagements = columns.iter().map(factor).zip(confidences.iter().copied());
    let (others, scratch) = (interactions.width(), &mut RowScratch::default());
    solve_row(engagements, &trained.spread, others, &trained.penalty, steps, &mut taste, scratch);
    taste
}

/// How many of the held-out items are among each user's best ten of those that they did not have.
fn hits(interactions: &Interactions, held: &[Vec<u32>], score: impl Fn(usize, u32) -> f32) -> usize {
    let found = |user: usize| {
        let known: HashSet<u32> = interactions.row(user).0.iter().copied().collect();
        let mut ranked: Vec<u32> = (0..ITEMS as u32).filter(|item| !known.contains(item)).collect();
        ranked.sort_by(|&a, &b| score(user, b).total_cmp(&score(user, a)));
        held[user].iter().filter(|item| ranked[..10].contains(item)).count()
    };
    (0..USERS).map(found).sum()
}

#[test]
fn planted_tastes_are_found_and_beat_popularity() {
    for seed in 0..3 {
        let (interactions, held) = planted(seed);
        let (options, by_item) = (options(), interactions.transposed());
        let trained = learned(&interactions, &options);
        let tastes: Vec<Vec<f32>> = (0..USERS).map(|user| taste(&interactions, user, &trained, &options, 30)).collect();
        let by_taste = hits(&interactions, &held, |user, item| {
            dot(&tastes[user], &trained.items[item as usize * options.dims..][..options.dims])
        });
        let by_popularity = hits(&interactions, &held, |_, item| by_item.row(item as usize).0.len() as f32);
        assert!(by_taste > 2 * by_popularity, "{by_taste} of {} against {by_popularity}", 3 * USERS);
        assert!(5 * by_taste > 2 * 3 * USERS, "{by_taste} of {}", 3 * USERS);
    }
}

#[test]
fn a_row_is_the_exact_least_squares_solution() {
    let (interactions, _) = planted(4);
    let options = options();
    let dims = options.dims;
    let trained = learned(&interactions, &options);
    let all = gram(&trained.items, dims);
    for user in 0..20 {
        let got = taste(&interactions, user, &trained, &options, 40);
        let (columns, confidences) = interactions.row(user);
        // The same problem from its definition, with the whole Gram matrix and without conjugate gradients.
        let total: f32 = confidences.iter().sum();
        let frequency = total + trained.penalty.unobserved * ITEMS as f32;
        let back = options.regularisation * frequency.powf(options.regularisation_exponent);
        let mut matrix: Vec<f64> = all.iter().map(|value| value * f64::from(trained.penalty.unobserved)).collect();
        let mut wanted = vec![0.0; dims];
        (0..dims).for_each(|k| matrix[k * dims + k] += f64::from(back));
        for (&item, &c) in columns.iter().zip(confidences) {
            let factor = &trained.items[item as usize * dims..][..dims];
            for i in 0..dims {
                wanted[i] += f64::from(c * factor[i]);
                (0..dims).for_each(|j| matrix[i * dims + j] += f64::from(c * factor[i] * factor[j]));
            }
        }
        assert!(cholesky(&mut matrix, dims));
        cholesky_solve(&matrix, dims, &mut wanted, 1);
        assert!(got.iter().zip(&wanted).all(|(got, wanted)| (f64::from(*got) - wanted).abs() < 2e-4));
    }
}

#[test]
fn more_rounds_and_steps_only_lower_the_loss() {
    let (interactions, _) = planted(5);
    let losses: Vec<f64> =
        [1, 2, 4, 8, 16].map(|iterations| learned(&interactions, &AlsOptions { iterations, ..options() }).loss).into();
    assert!(losses.windows(2).all(|pair| pair[1] < pair[0] + 1e-6), "{losses:?}");
    let thorough = learned(&interactions, &AlsOptions { iterations: 8, steps: 20, ..options() }).loss;
    assert!((losses[3] - thorough).abs() < 0.01 * thorough, "three steps are enough: {} {thorough}", losses[3]);
}

#[test]
fn threads_change_nothing() {
    let (interactions, _) = planted(6);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| learned(&interactions, &options()))
    };
    let one = with(1);
    assert!(one == with(2) && one == with(5));
    assert!(one != learned(&interactions, &AlsOptions { seed: 2, ..options() }));
}

#[test]
fn it_stops_when_told_and_needs_something_to_learn_from() {
    let (interactions, _) = planted(7);
    let stop = AtomicBool::new(false);
    let mut rounds = 0;
    let trained = train(&interactions, &options(), &stop, |round| {
        rounds = round;
        stop.store(round == 3, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!((trained, rounds), (None, 3));
    assert_eq!(train(&Interactions::default(), &options(), &AtomicBool::new(false), |_| {}), None);
    // What cannot be is left out.
    let odd = Interactions::new([vec![(0, 1.0), (9, 1.0), (1, f32::NAN), (1, -1.0)], vec![]], 2);
    assert_eq!((odd.rows(), odd.len(), odd.transposed().rows()), (2, 1, 2));
    assert!(learned(&odd, &options()).items.iter().all(|value| value.is_finite()));
}
