//! Which examples does a log hold? Decision points with their candidates and what became of them.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::click_log::Session;
use super::gather::{CandidateLimits, Gatherer, Surroundings};
use super::replay::{Learning, Replay};
use crate::collab::Collab;
use crate::domain::Timestamp;
use crate::ranking::{Answered, Examples, FeatureMatrix, Schema};

/// How to draw examples. What is drawn with a share below 1 weighs accordingly more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearnOptions {
    /// When clicks are learned.
    pub learning: Learning,
    /// Of the candidates that nobody turned to, this share is kept.
    pub negatives: f64,
    /// Of the decision points after which nothing follows, this share is kept.
    pub quiet: f64,
    /// This share of the decision points lies some seconds after a click (as when a frame arrives), not at it.
    pub between_clicks: f64,
    /// At this share of the sessions there is a decision point before the first click, when nothing is known of who comes.
    pub arrivals: f64,
    /// At this share of the decision points one source does not answer, so that the weights can do without any.
    pub missing_source: f64,
    /// For all of that.
    pub seed: u64,
    /// Decision points lie at this moment or later; what was clicked before is learned only.
    pub from: Option<Timestamp>,
    /// Of those, this share is drawn.
    pub share: f64,
    /// How many candidates each source proposes.
    pub limits: CandidateLimits,
}

impl Default for LearnOptions {
    fn default() -> Self {
        Self {
            learning: Learning::AtOnce,
            negatives: 0.3,
            quiet: 0.5,
            between_clicks: 0.0,
            arrivals: 0.0,
            missing_source: 0.0,
            seed: 1,
            from: None,
            share: 1.0,
            limits: CandidateLimits::default(),
        }
    }
}

/// Draws examples while `sessions` are replayed into `collab`.
pub fn collect(
    collab: &Collab,
    sessions: &[Session],
    schema: &Schema,
    options: &LearnOptions,
    surroundings: &mut dyn Surroundings,
) -> Examples {
    let mut stop_random = SmallRng::seed_from_u64(options.seed);
    let mut arrival_random = SmallRng::seed_from_u64(options.seed ^ 0xA881);
    let mut random = SmallRng::seed_from_u64(options.seed ^ 0x5eed);
    let (negatives, quiet) = (options.negatives.clamp(0.001, 1.0), options.quiet.clamp(0.001, 1.0));
    let last_s = f64::from(schema.horizons().last_s());
    let mut examples = Examples::new(schema);
    let mut gatherer = Gatherer::new(options.limits);
    let mut matrix = FeatureMatrix::default();
    let stops = |session: &Session, position: usize| {
        if options.from.is_some_and(|from| session.clicks[position].1 < from)
            || (options.share < 1.0 && !stop_random.random_bool(options.share.clamp(0.0, 1.0)))
        {
            return None;
        }
        let between = stop_random.random_bool(options.between_clicks.clamp(0.0, 1.0));
        Some(if between { stop_random.random_range(0.0..last_s) } else { 0.0 })
    };
    // Some come and take longer than the horizons, or turn to nothing: they are as far from the first click.
    let arrivals = |session: &Session| {
        let judged = session.clicks.first().is_some_and(|&(_, at)| options.from.is_none_or(|from| at >= from));
        let share = (options.arrivals * options.share).clamp(0.0, 1.0);
        (judged && arrival_random.random_bool(share)).then(|| arrival_random.random_range(0.0..2.0 * last_s))
    };
    Replay { learning: options.learning }.run_with_arrivals(collab, sessions, arrivals, stops, |stop| {
        let lags = stop.lags();
        let is_quiet = lags.iter().all(|&(_, lag_s)| lag_s > last_s);
        if is_quiet && !random.random_bool(quiet) {
            return;
        }
        gatherer.gather_at(collab, &stop, surroundings);
        if random.random_bool(options.missing_source.clamp(0.0, 1.0)) {
            silence_one(&mut gatherer.context.answered, &mut random);
        }
        matrix.assemble(schema, &gatherer.context, &gatherer.candidates);
        let stop_weight = if is_quiet { 1.0 / quiet } else { 1.0 };
        for (candidate, row) in gatherer.candidates.iter().zip(matrix.rows()) {
            let lag_s = lags.iter().find(|(item, _)| *item == candidate.item).map(|&(_, lag_s)| lag_s);
            // Those who came late are the most telling negatives: all of them are kept.
            if lag_s.is_some() {
                examples.push(row, lag_s, stop_weight as f32);
            } else if random.random_bool(negatives) {
                examples.push(row, None, (stop_weight / negatives) as f32);
            }
        }
    });
    examples
}

/// Makes one of the sources that answered as if it had not.
fn silence_one(answered: &mut Answered, random: &mut SmallRng) {
    let sources = [
        &mut answered.session,
        &mut answered.transition,
        &mut answered.co_visitation,
        &mut answered.visual,
        &mut answered.trajectory,
        &mut answered.preference,
        &mut answered.trending,
        &mut answered.metadata,
    ];
    let silenced = random.random_range(0..sources.len());
    *sources[silenced] = false;
}
