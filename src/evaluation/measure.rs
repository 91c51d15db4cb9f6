//! How often is the right item in the list, how high, and do the probabilities hold?
//!
//! A replay stops at every click, and every ranker is asked. At each aim (an item within 15 s, say, or one of the next
//! ten) its list is compared with what the session then turned to. Sums by session are kept, no list, so that memory
//! grows with the sessions judged and not with the length of the log.

use std::collections::HashSet;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use super::bootstrap::{Estimate, resample};
use super::calibration::{Calibration, CalibrationCounts, log_loss};
use super::click_log::Session;
use super::follow::Follower;
use super::gather::{CandidateLimits, Gatherer, Surroundings};
use super::ranker::{Ranker, filled, popular};
use super::replay::{Learning, Replay, Stop};
use super::tally::{METRICS, SessionSums, score};
use crate::collab::Collab;
use crate::domain::{ItemNo, Timestamp};
use crate::ranking::{Answered, FeatureMatrix, HazardModel, Predictions, order};

/// How to measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeasureOptions {
    /// The length of the lists.
    pub k: usize,
    /// When clicks are learned.
    pub learning: Learning,
    /// Whether the blend learns from the outcomes on the way, as the service does.
    pub follow: bool,
    /// How many candidates each source proposes.
    pub limits: CandidateLimits,
    /// Also judge the lists by this many next engagements, whenever they come.
    pub next: Option<usize>,
    /// Whether items that the session has had are left out, of the lists and of what is looked for.
    pub exclude_seen: bool,
    /// Judge before the first click of each session instead of at its clicks: so many seconds before it, when nothing is
    /// known of who comes.
    pub arrivals: Option<f64>,
    /// Judge from this moment on only.
    pub from: Option<Timestamp>,
    /// Judge about this many clicks at most: those of sessions drawn by the seed.
    pub limit: Option<usize>,
    /// How many items there are altogether.
    pub items: usize,
    /// How often sessions are resampled for intervals; 0 for none.
    pub resamples: usize,
    /// For all that is drawn.
    pub seed: u64,
}

impl Default for MeasureOptions {
    fn default() -> Self {
        Self {
            k: 20,
            learning: Learning::AfterSession,
            follow: true,
            limits: CandidateLimits::default(),
            next: None,
            exclude_seen: false,
            arrivals: None,
            from: None,
            limit: None,
            items: 0,
            resamples: 0,
            seed: 1,
        }
    }
}

/// What a list is to foresee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// What the session turns to within so many seconds; judged by the list for that horizon.
    Within(u32),
    /// So many of the session's next engagements, whenever they come; judged by the list for the last horizon.
    Next(usize),
}

/// Figures of a list, or differences of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Share of the positions with a relevant item in the list.
    pub hr: Estimate,
    /// Mean of 1 / rank of the first relevant item, 0 if there is none in the list.
    pub mrr: Estimate,
    /// Normalised discounted cumulative gain.
    pub ndcg: Estimate,
}

/// How good one ranker's lists are, over the positions that have something to find.
#[derive(Debug, Clone, PartialEq)]
pub struct RankerResult {
    /// Which.
    pub ranker: Ranker,
    /// How good.
    pub figures: Figures,
    /// The share of all items that were in at least one list, at positions with something to find or without.
    pub coverage: f64,
}

/// What was measured at one aim.
#[derive(Debug, Clone, PartialEq)]
pub struct AimResult {
    /// Which.
    pub aim: Aim,
    /// Positions with something to find.
    pub positions: usize,
    /// Sessions that they belong to.
    pub sessions: usize,
    /// Whether the probabilities hold, over the items in the blend's lists at all positions, also those with nothing to
    /// find; for horizons.
    pub calibration: Option<Calibration>,
    /// The calibration's log loss with its interval.
    pub log_loss: Option<Estimate>,
    /// The rankers that answered, in the order of [`Ranker::ALL`].
    pub rankers: Vec<RankerResult>,
    /// The best of the other rankers by MRR, and how far the blend is above it.
    pub over_best: Option<(Ranker, Figures)>,
    /// For horizons: how far the own list is above each other horizon's list, used for this one.
    pub over_others: Vec<(u32, Figures)>,
    /// The blend's means in each resample.
    blend_resampled: Vec<[f64; METRICS]>,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The length of the lists.
    pub k: usize,
    /// Moments at which lists were asked for.
    pub moments: usize,
    /// What was measured at each aim: the horizons in their order, then the next engagements, if asked for.
    pub aims: Vec<AimResult>,
    /// For each horizon: how far the lists of their own horizons are above its list, used for all horizons; the mean of
    /// the differences at each.
    pub over_one_list: Vec<(u32, Figures)>,
    /// The sources that answered at least once.
    pub answered: Answered,
}

/// Replays `sessions` into `collab`, which has learned what came before, and compares the rankers at every click.
/// `progress` is told how many clicks are judged, and of how many.
pub fn measure(
    collab: &Collab,
    sessions: &[Session],
    model: &HazardModel,
    options: &MeasureOptions,
    surroundings: &mut dyn Surroundings,
    progress: &mut dyn FnMut(usize, usize),
) -> Measured {
    let judged = judged(sessions, options);
    let is_judged = |session: &Session, position: usize| {
        options.from.is_none_or(|from| session.clicks[position].1 >= from)
            && judged.as_ref().is_none_or(|keys| keys.contains(&session.key))
    };
    let arrives = |session: &Session| options.arrivals.filter(|_| is_judged(session, 0));
    let stops = |session: &Session, position: usize| options.arrivals.is_none() && is_judged(session, position);
    let moments = |s: &Session| {
        usize::from(arrives(s).is_some()) + (0..s.clicks.len()).filter(|&position| stops(s, position)).count()
    };
    let total = sessions.iter().map(moments).sum();
    let mut bench = Bench::new(model, options);
    Replay { learning: options.learning }.run_with_arrivals(
        collab,
        sessions,
        arrives,
        |session, position| stops(session, position).then_some(0.0),
        |stop| {
            bench.judge(collab, &stop, surroundings);
            progress(bench.moments, total);
        },
    );
    bench.finish()
}

/// The sessions that are judged, if not all of them are.
fn judged(sessions: &[Session], options: &MeasureOptions) -> Option<HashSet<u64>> {
    let limit = options.limit?;
    let from = options.from.unwrap_or(Timestamp(i64::MIN));
    let count = |session: &Session| session.clicks.iter().filter(|&&(_, at)| at >= from).count();
    let mut counted: Vec<(u64, usize)> = sessions.iter().map(|s| (s.key, count(s))).filter(|(_, n)| *n > 0).collect();
    counted.shuffle(&mut SmallRng::seed_from_u64(options.seed));
    let mut clicks = 0;
    let chosen = counted.into_iter().take_while(|(_, count)| {
        let room = clicks < limit;
        clicks += count;
        room
    });
    Some(chosen.map(|(key, _)| key).collect())
}

/// All that is kept while a replay goes on.
struct Bench {
    options: MeasureOptions,
    follower: Follower,
    aims: Vec<Aim>,
    horizons: usize,
    /// By aim: [`METRICS`] columns for each of [`Ranker::ALL`], then for the list of each horizon.
    sums: Vec<SessionSums>,
    /// By horizon.
    calibration: Vec<(CalibrationCounts, SessionSums)>,
    /// Which items each ranker's lists had; the blend's by aim.
    covered: Vec<HashSet<ItemNo>>,
    blend_covered: Vec<HashSet<ItemNo>>,
    answered: Answered,
    answered_alone: [bool; Ranker::ALL.len()],
    moments: usize,
    gatherer: Gatherer,
    matrix: FeatureMatrix,
    predictions: Predictions,
}

impl Bench {
    fn new(model: &HazardModel, options: &MeasureOptions) -> Self {
        let seconds = model.schema().horizons().seconds();
        let aims: Vec<Aim> =
            seconds.iter().map(|&s| Aim::Within(s)).chain(options.next.map(|n| Aim::Next(n.max(1)))).collect();
        let width = METRICS * (Ranker::ALL.len() + seconds.len());
        Self {
            options: *options,
            follower: Follower::new(model),
            horizons: seconds.len(),
            sums: vec![SessionSums::new(width); aims.len()],
            calibration: seconds.iter().map(|_| (CalibrationCounts::default(), SessionSums::new(1))).collect(),
            covered: vec![HashSet::new(); Ranker::ALL.len()],
            blend_covered: vec![HashSet::new(); aims.len()],
            aims,
            answered: Answered::default(),
            answered_alone: [false; Ranker::ALL.len()],
            moments: 0,
            gatherer: Gatherer::new(options.limits),
            matrix: FeatureMatrix::default(),
            predictions: Predictions::default(),
        }
    }

    fn judge(&mut self, collab: &Collab, stop: &Stop<'_>, surroundings: &mut dyn Surroundings) {
        self.moments += 1;
        let MeasureOptions { k, exclude_seen, items, follow, .. } = self.options;
        if follow {
            self.follower.advance(stop);
        }
        self.gatherer.gather_at(collab, stop, surroundings);
        let model = self.follower.model();
        self.matrix.assemble(model.schema(), &self.gatherer.context, &self.gatherer.candidates);
        // Enough for full lists also when what was seen is left out.
        let contenders = if exclude_seen { k + stop.history.len() } else { k + 1 };
        model.predict_for(&self.matrix, contenders, &mut self.predictions);
        if follow {
            self.follower.decide(stop, &self.matrix, &self.predictions);
        }
        join(&mut self.answered, self.gatherer.context.answered);

        let current = stop.history.last().map(|&(item, _)| item);
        let seen: HashSet<ItemNo> =
            if exclude_seen { stop.history.iter().map(|&(item, _)| item).collect() } else { HashSet::new() };
        let allowed = |item: ItemNo| Some(item) != current && !seen.contains(&item);
        let popular = popular(collab, k, items, allowed);
        let mut alone: Vec<Vec<ItemNo>> = Vec::with_capacity(Ranker::ALL.len());
        for (index, ranker) in Ranker::ALL.into_iter().enumerate() {
            let own = ranker.proposals(&self.gatherer);
            self.answered_alone[index] |= own.is_some() || ranker == Ranker::Blend;
            let list = filled(own.unwrap_or_default().into_iter().map(|s| s.item), &popular, k, allowed);
            if self.answered_alone[index] {
                self.covered[index].extend(&list);
            }
            alone.push(list);
        }
        let mut blended: Vec<Vec<ItemNo>> = Vec::with_capacity(self.horizons);
        let mut likely: Vec<Vec<(ItemNo, f64)>> = Vec::with_capacity(self.horizons);
        for horizon in 0..self.horizons {
            let ranked = order(self.matrix.items(), &self.predictions, horizon, usize::MAX);
            blended.push(filled(ranked.iter().map(|r| r.item), &popular, k, allowed));
            likely.push(ranked.iter().filter(|r| allowed(r.item)).take(k).map(|r| (r.item, r.probability)).collect());
        }

        let lags: Vec<(ItemNo, f64)> = stop.lags().into_iter().filter(|&(item, _)| allowed(item)).collect();
        for (index, &aim) in self.aims.iter().enumerate() {
            self.sums[index].row(stop.session);
            let relevant: Vec<ItemNo> = match aim {
                Aim::Within(seconds) => {
                    lags.iter().filter(|(_, lag_s)| *lag_s <= f64::from(seconds)).map(|&(item, _)| item).collect()
                }
                Aim::Next(count) => lags.iter().take(count).map(|&(item, _)| item).collect(),
            };
            if let (Aim::Within(_), Some((counts, losses))) = (aim, self.calibration.get_mut(index)) {
                for &(item, probability) in &likely[index] {
                    let hit = relevant.contains(&item);
                    counts.add(stop.session, probability, hit);
                    losses.add(stop.session, [log_loss(probability, hit) as f32]);
                }
            }
            let own = &blended[index.min(self.horizons - 1)];
            self.blend_covered[index].extend(own);
            if relevant.is_empty() {
                continue;
            }
            let lists = std::iter::once(own).chain(&alone[1..]).chain(&blended);
            self.sums[index].add(stop.session, lists.flat_map(|list| score(list, &relevant, k)));
        }
    }

    fn finish(self) -> Measured {
        let Self { options, moments, answered, .. } = self;
        let share = |covered: &HashSet<ItemNo>| covered.len() as f64 / options.items.max(1) as f64;
        let horizons: Vec<Aim> = self.aims[..self.horizons].to_vec();
        let resampled = |sums: &SessionSums| resample(sums, options.resamples, options.seed);
        let tables: Vec<Columns> =
            self.sums.iter().map(|sums| Columns { means: sums.means(), resampled: resampled(sums) }).collect();
        let mut aims = Vec::with_capacity(self.aims.len());
        for (index, (&aim, sums)) in self.aims.iter().zip(&self.sums).enumerate() {
            let columns = &tables[index];
            let answered = (0..Ranker::ALL.len()).filter(|&ranker| self.answered_alone[ranker]);
            let rankers: Vec<RankerResult> = answered
                .map(|ranker| RankerResult {
                    ranker: Ranker::ALL[ranker],
                    figures: columns.figures(ranker),
                    coverage: share(if ranker == 0 { &self.blend_covered[index] } else { &self.covered[ranker] }),
                })
                .collect();
            let best = rankers.iter().skip(1).max_by(|a, b| a.figures.mrr.value.total_cmp(&b.figures.mrr.value));
            let over_best = best.and_then(|best| {
                let column = Ranker::ALL.iter().position(|&r| r == best.ranker)?;
                Some((best.ranker, columns.difference(0, column)))
            });
            let over_others = horizons.iter().enumerate().filter(|&(other, _)| index < self.horizons && other != index);
            let over_others = over_others
                .filter_map(|(other, &horizon)| match horizon {
                    Aim::Within(seconds) => Some((seconds, columns.difference(0, Ranker::ALL.len() + other))),
                    Aim::Next(_) => None,
                })
                .collect();
            let (calibration, log_loss) = match self.calibration.get(index).filter(|_| index < self.horizons) {
                None => (None, None),
                Some((counts, losses)) => {
                    let resampled = resample(losses, options.resamples, options.seed);
                    let loss = losses.means().first().copied().unwrap_or_default();
                    let estimate = Estimate::new(loss, resampled.iter().filter_map(|m| m.first().copied()));
                    (counts.result(options.resamples, options.seed), Some(estimate).filter(|_| losses.count() > 0))
                }
            };
            let blend_resampled = columns.resampled.iter().map(|means| std::array::from_fn(|m| means[m])).collect();
            aims.push(AimResult {
                aim,
                positions: sums.count(),
                sessions: sums.sessions_with_any(),
                calibration,
                log_loss,
                rankers,
                over_best,
                over_others,
                blend_resampled,
            });
        }
        let over_one_list = horizons.iter().enumerate().filter_map(|(other, &horizon)| match horizon {
            Aim::Within(seconds) => Some((seconds, Columns::over_one_list(&tables[..self.horizons], other))),
            Aim::Next(_) => None,
        });
        Measured { k: options.k, moments, aims, over_one_list: over_one_list.collect(), answered }
    }
}

/// Means of all columns, and their resamples.
struct Columns {
    means: Vec<f64>,
    resampled: Vec<Vec<f64>>,
}

impl Columns {
    fn figures(&self, list: usize) -> Figures {
        self.of(|means, metric| means[list * METRICS + metric])
    }

    fn difference(&self, list: usize, other: usize) -> Figures {
        self.of(|means, metric| means[list * METRICS + metric] - means[other * METRICS + metric])
    }

    /// The mean over `tables`, one a horizon, of how far the own list is above that of horizon `other`. Their rows are
    /// the same sessions, so that resamples belong together.
    fn over_one_list(tables: &[Self], other: usize) -> Figures {
        let column = (Ranker::ALL.len() + other) * METRICS;
        let mean = |means: &dyn Fn(&Self) -> Option<&Vec<f64>>, metric: usize| {
            let differences = tables.iter().filter_map(means).map(|m| m[metric] - m[column + metric]);
            differences.sum::<f64>() / tables.len().max(1) as f64
        };
        let resamples = tables.iter().map(|table| table.resampled.len()).min().unwrap_or_default();
        let estimate = |metric: usize| {
            let each = (0..resamples).map(|number| mean(&|table| table.resampled.get(number), metric));
            Estimate::new(mean(&|table| Some(&table.means), metric), each)
        };
        Figures { hr: estimate(0), mrr: estimate(1), ndcg: estimate(2) }
    }

    fn of(&self, value: impl Fn(&[f64], usize) -> f64) -> Figures {
        let estimate = |metric: usize| {
            Estimate::new(value(&self.means, metric), self.resampled.iter().map(|means| value(means, metric)))
        };
        Figures { hr: estimate(0), mrr: estimate(1), ndcg: estimate(2) }
    }
}

impl AimResult {
    /// What was measured of a ranker; `None` if it did not answer.
    pub fn ranker(&self, ranker: Ranker) -> Option<&RankerResult> {
        self.rankers.iter().find(|r| r.ranker == ranker)
    }

    /// How far this blend is above another one, measured at the same positions with the same seed.
    pub fn blend_over(&self, other: &Self) -> Option<Figures> {
        let (own, others) = (self.ranker(Ranker::Blend)?.figures, other.ranker(Ranker::Blend)?.figures);
        // Resamples can only be compared pair by pair if they drew the same sessions.
        let paired = self.sessions == other.sessions && self.positions == other.positions;
        let pairs = || self.blend_resampled.iter().zip(&other.blend_resampled).filter(|_| paired);
        let estimate = |metric: usize, own: Estimate, other: Estimate| {
            Estimate::new(own.value - other.value, pairs().map(|(a, b)| a[metric] - b[metric]))
        };
        Some(Figures {
            hr: estimate(0, own.hr, others.hr),
            mrr: estimate(1, own.mrr, others.mrr),
            ndcg: estimate(2, own.ndcg, others.ndcg),
        })
    }
}

/// Whoever has answered in either has answered.
fn join(all: &mut Answered, now: Answered) {
    all.session |= now.session;
    all.transition |= now.transition;
    all.co_visitation |= now.co_visitation;
    all.visual |= now.visual;
    all.trajectory |= now.trajectory;
    all.preference |= now.preference;
    all.trending |= now.trending;
    all.metadata |= now.metadata;
}

#[cfg(test)]
mod tests;
