//! What is compared on? Ratings in time order, their split, and a larger set that is made up.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;

/// Somebody rated a film.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rating {
    pub(crate) user: u32,
    pub(crate) film: u32,
    pub(crate) at_s: i64,
}

/// All ratings, by user and time.
pub(crate) fn ratings(file: &Path) -> Result<Vec<Rating>, Box<dyn Error>> {
    let mut ratings = Vec::new();
    for row in csv::Reader::from_path(file)?.deserialize() {
        let (user, film, _, at_s): (u32, u32, f32, i64) = row?;
        ratings.push(Rating { user, film, at_s });
    }
    ratings.sort_by_key(|r| (r.user, r.at_s, r.film));
    Ok(ratings)
}

/// The last ten of every user with at least twenty, and the others.
pub(crate) fn split(ratings: &[Rating]) -> (Vec<Rating>, Vec<Rating>) {
    let (mut learned, mut tested) = (Vec::new(), Vec::new());
    for own in ratings.chunk_by(|a, b| a.user == b.user) {
        let kept = if own.len() >= 20 { own.len() - 10 } else { own.len() };
        learned.extend_from_slice(&own[..kept]);
        tested.extend_from_slice(&own[kept..]);
    }
    (learned, tested)
}

/// How many ratings each film has.
pub(crate) fn popularity(ratings: &[Rating]) -> HashMap<u32, f64> {
    let mut counts = HashMap::new();
    ratings.iter().for_each(|r| *counts.entry(r.film).or_default() += 1.0);
    counts
}

/// Pairs of users and items: forty groups with tastes of their own, some items far more popular than others.
pub(crate) fn synthetic(users: u32, items: u32, pairs: usize) -> Vec<(u32, u32)> {
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut made = std::collections::HashSet::with_capacity(pairs);
    while made.len() < pairs {
        let user = (random() * f64::from(users)) as u32;
        let rank = (random().powi(3) * f64::from(items)) as u32;
        // Four in five within the group.
        let item = if random() < 0.8 { rank / 40 * 40 + user % 40 } else { rank };
        made.insert((user, item.min(items - 1)));
    }
    let mut made: Vec<(u32, u32)> = made.into_iter().collect();
    made.sort_unstable();
    made
}
