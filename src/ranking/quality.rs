//! How good are the lists, as it turns out? Figures of closed decisions, each tested before it is learned from.
//!
//! Per horizon: hit rate (of the decisions that were followed by an engagement by the horizon, the share whose list had
//! the item), reciprocal rank (1 / the best place of such an item, 0 for none), log loss, and calibration (what was
//! predicted over what happened, also in ten fixed bins). Each twice: over everything since the start, and with the
//! latest decisions weighing most.
//!
//! To compare arms, decisions are also summed up in a fixed number of groups by whoever was assigned, so that intervals
//! hold although decisions of one person are alike (random groups: Wolter 2007, chapter 2).

use super::decisions::Closed;
use super::hazard::softplus;
use crate::domain::Horizons;

/// Bins of the probability by a factor of √10 each, from 10⁻⁴·⁵ up.
pub const BINS: usize = 10;

/// Groups of persons, by which the spread of a figure is estimated.
const GROUPS: usize = 64;

/// Only the first places of a list count for hits.
pub const HIT_PLACES: usize = 20;

/// Sums over decisions, of one horizon.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Figures {
    /// Decisions.
    pub decisions: f64,
    /// Decisions that were followed by an engagement by the horizon.
    pub engaged: f64,
    /// Those of them whose list had such an item.
    pub hits: f64,
    reciprocal_ranks: f64,
    loss: f64,
    cases: f64,
    predicted: f64,
    observed: f64,
    bins: [(f64, f64, f64); BINS],
}

impl Figures {
    fn fade(&mut self, keep: f64) {
        let Self { decisions, engaged, hits, reciprocal_ranks, loss, cases, predicted, observed, bins } = self;
        for sum in [decisions, engaged, hits, reciprocal_ranks, loss, cases, predicted, observed] {
            *sum *= keep;
        }
        bins.iter_mut().for_each(|bin| *bin = (bin.0 * keep, bin.1 * keep, bin.2 * keep));
    }

    fn add(&mut self, closed: &Closed, horizon: usize, intervals: usize) {
        let Closed { decision, outcomes, engaged, .. } = closed;
        self.decisions += 1.0;
        let within = |interval: u8| usize::from(interval) <= horizon;
        if engaged.iter().any(|&(_, interval)| within(interval)) {
            self.engaged += 1.0;
            let list = decision.lists.get(horizon).map_or(&[][..], Vec::as_slice);
            let hit = |item| engaged.iter().any(|&(e, interval)| e == item && within(interval));
            if let Some(place) = list.iter().take(HIT_PLACES).position(|&item| hit(item)) {
                self.hits += 1.0;
                self.reciprocal_ranks += 1.0 / (place + 1) as f64;
            }
        }
        for (case, &outcome) in outcomes.iter().enumerate() {
            let hazards = &decision.cases.log_odds[case * intervals..(case + 1) * intervals];
            let survival: f64 = hazards[..=horizon].iter().map(|&x| -softplus(f64::from(x))).sum();
            let probability = (-survival.exp_m1()).clamp(1e-12, 1.0 - 1e-12);
            let weight = f64::from(decision.cases.weights[case]);
            let happened = usize::from(outcome) <= horizon;
            self.loss -= weight * if happened { probability.ln() } else { (1.0 - probability).ln() };
            self.cases += weight;
            self.predicted += weight * probability;
            self.observed += if happened { weight } else { 0.0 };
            let bin = (2.0 * (probability.log10() + 4.5)).clamp(0.0, (BINS - 1) as f64) as usize;
            let sums = &mut self.bins[bin];
            *sums = (sums.0 + weight, sums.1 + weight * probability, sums.2 + if happened { weight } else { 0.0 });
        }
    }

    /// Share of the decisions with an engagement whose list had it.
    pub fn hit_rate(&self) -> Option<f64> {
        ratio(self.hits, self.engaged)
    }

    /// Mean reciprocal rank over the same decisions.
    pub fn reciprocal_rank(&self) -> Option<f64> {
        ratio(self.reciprocal_ranks, self.engaged)
    }

    /// Mean log loss of the probabilities, over candidates.
    pub fn log_loss(&self) -> Option<f64> {
        ratio(self.loss, self.cases)
    }

    /// Predicted over observed engagements; 1 is calibrated.
    pub fn calibration(&self) -> Option<f64> {
        ratio(self.predicted, self.observed)
    }

    /// The bins of the probability, rising: how many cases, what was predicted of them, what happened.
    pub fn bins(&self) -> &[(f64, f64, f64); BINS] {
        &self.bins
    }

    /// Expected calibration error: mean distance of predicted and observed rate over the bins.
    pub fn calibration_error(&self) -> Option<f64> {
        ratio(self.bins.iter().map(|(_, predicted, observed)| (predicted - observed).abs()).sum(), self.cases)
    }
}

fn ratio(of: f64, to: f64) -> Option<f64> {
    (to > 0.0).then(|| of / to).filter(|r| r.is_finite())
}

/// A figure by which arms are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Decisions after which an item of the list was turned to, per decision.
    EngagementRate,
    /// The same per decision that was followed by any engagement.
    HitRate,
    /// Mean reciprocal rank, per decision that was followed by any engagement.
    ReciprocalRank,
}

/// A difference with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// The figure of the arm minus that of the one it is compared with.
    pub estimate: f64,
    /// Where the interval begins.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
}

/// The figures of one arm.
#[derive(Debug, Clone, PartialEq)]
pub struct Quality {
    intervals: usize,
    keep: f64,
    total: Vec<Figures>,
    recent: Vec<Figures>,
    /// By group: decisions, decisions with an engagement, hits, reciprocal ranks; by the last horizon.
    groups: Vec<[f64; 4]>,
}

impl Quality {
    /// Nothing seen yet; of recent figures the decisions fade to about a third over the next `memory` ones.
    pub fn new(horizons: &Horizons, memory: f64) -> Self {
        let intervals = horizons.count();
        Self {
            intervals,
            keep: 1.0 - 1.0 / memory.max(1.0),
            total: vec![Figures::default(); intervals],
            recent: vec![Figures::default(); intervals],
            groups: vec![[0.0; 4]; GROUPS],
        }
    }

    /// Takes in a decision; figures of horizons that are not covered stay as they are.
    pub fn add(&mut self, closed: &Closed) {
        if closed.decision.cases.log_odds.len() != closed.outcomes.len() * self.intervals {
            return;
        }
        for horizon in 0..self.intervals.min(usize::from(closed.covered)) {
            // Nobody was asked for this list, so it cannot be judged.
            if closed.decision.lists.get(horizon).is_none_or(Vec::is_empty) {
                continue;
            }
            let before = self.total[horizon];
            self.total[horizon].add(closed, horizon, self.intervals);
            self.recent[horizon].fade(self.keep);
            self.recent[horizon].add(closed, horizon, self.intervals);
            if horizon + 1 == self.intervals {
                let after = &self.total[horizon];
                let group = &mut self.groups[(closed.decision.subject % GROUPS as u64) as usize];
                group[0] += after.decisions - before.decisions;
                group[1] += after.engaged - before.engaged;
                group[2] += after.hits - before.hits;
                group[3] += after.reciprocal_ranks - before.reciprocal_ranks;
            }
        }
    }

    /// By horizon: all decisions.
    pub fn total(&self) -> &[Figures] {
        &self.total
    }

    /// By horizon: the latest decisions weigh most.
    pub fn recent(&self) -> &[Figures] {
        &self.recent
    }

    /// The figure and the variance of its estimate, by the last horizon; `None` with too little to tell.
    pub fn measure(&self, measure: Measure) -> Option<(f64, f64)> {
        let (of, to) = match measure {
            Measure::EngagementRate => (2, 0),
            Measure::HitRate => (2, 1),
            Measure::ReciprocalRank => (3, 1),
        };
        let sum = |n: usize| self.groups.iter().map(|g| g[n]).sum::<f64>();
        let estimate = ratio(sum(of), sum(to))?;
        let used = self.groups.iter().filter(|g| g[to] > 0.0).count();
        if used < 8 {
            return None;
        }
        // Of a ratio, by its linearisation over the groups.
        let squares: f64 = self.groups.iter().map(|g| (g[of] - estimate * g[to]).powi(2)).sum();
        let used = used as f64;
        Some((estimate, used / (used - 1.0) * squares / sum(to).powi(2)))
    }

    /// By how much this arm's figure is above that of `other`, which has other persons.
    pub fn difference(&self, other: &Self, measure: Measure) -> Option<Difference> {
        let ((mine, my_variance), (theirs, their_variance)) = (self.measure(measure)?, other.measure(measure)?);
        // Student's t with the fewer groups' degrees of freedom is close to 2 from here on.
        let half = 2.0 * (my_variance + their_variance).sqrt();
        let estimate = mine - theirs;
        Some(Difference { estimate, low: estimate - half, high: estimate + half })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ItemNo, Timestamp};
    use crate::ranking::decisions::{Cases, Decision, NOT_SHOWN};
    use crate::ranking::hazard::sigmoid as hazard;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    fn closed(subject: u64, items: &[(u32, f64, u8)], engaged: &[(u32, u8)]) -> Closed {
        let cases = Cases {
            items: items.iter().map(|i| ItemNo(i.0)).collect(),
            rows: vec![0.0; items.len()],
            log_odds: items.iter().flat_map(|i| [i.1 as f32; 3]).collect(),
            weights: vec![1.0; items.len()],
            places: vec![NOT_SHOWN; items.len()],
            propensities: vec![1.0; items.len()],
        };
        let list: Vec<ItemNo> = items.iter().map(|i| ItemNo(i.0)).collect();
        let decision = Decision {
            session: subject,
            answer: None,
            subject,
            at: Timestamp(0),
            arm: 0,
            by: None,
            lists: vec![list; 3],
            cases,
        };
        let engaged = engaged.iter().map(|&(item, k)| (ItemNo(item), k)).collect();
        Closed { decision, outcomes: items.iter().map(|i| i.2).collect(), engaged, covered: 3 }
    }

    #[test]
    fn hits_ranks_and_losses_are_counted_by_horizon() {
        let mut quality = Quality::new(&Horizons::default(), 100.0);
        quality.add(&closed(1, &[(1, -2.0, 3), (2, -3.0, 1)], &[(2, 1)]));
        quality.add(&closed(2, &[(1, -2.0, 3)], &[(9, 0)]));
        quality.add(&closed(3, &[(1, -2.0, 3)], &[]));
        let total = quality.total();
        assert_eq!((total[0].engaged, total[0].hits), (1.0, 0.0));
        assert_eq!((total[1].engaged, total[1].hits), (2.0, 1.0));
        assert_eq!((total[2].hit_rate(), total[2].reciprocal_rank()), (Some(0.5), Some(0.25)));
        let (common, rare) = (hazard(-2.0), hazard(-3.0));
        let expected = -(3.0 * (1.0 - common).ln() + (1.0 - rare).ln()) / 4.0;
        assert!((total[0].log_loss().unwrap() - expected).abs() < 1e-6);
        assert_eq!(total[0].calibration(), None, "nothing happened by the first horizon");
        let by_60 = |hazard: f64| 1.0 - (1.0 - hazard).powi(3);
        assert!((total[2].calibration().unwrap() - 3.0 * by_60(common) - by_60(rare)).abs() < 1e-6);
        assert!(quality.recent()[2].decisions < 3.0);
    }

    #[test]
    fn calibration_is_judged_in_bins() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut quality = Quality::new(&Horizons::default(), 1e9);
        let mut off = quality.clone();
        for n in 0..6_000 {
            let log_odds: f64 = random.random_range(-6.0..0.0);
            let outcome = (0..3).find(|_| random.random_bool(hazard(log_odds))).unwrap_or(3);
            quality.add(&closed(n, &[(1, log_odds, outcome)], &[]));
            // Right on average, wrong everywhere.
            off.add(&closed(n, &[(1, -2.2, outcome)], &[]));
        }
        let (good, bad) = (&quality.total()[2], &off.total()[2]);
        assert!((good.calibration().unwrap() - 1.0).abs() < 0.05);
        assert!(good.calibration_error().unwrap() < 0.02, "{:?}", good.calibration_error());
        assert!(bad.log_loss() > good.log_loss());
        assert_eq!(bad.bins.iter().filter(|b| b.0 > 0.0).count(), 1);
    }

    #[test]
    fn intervals_of_differences_cover_the_truth_though_persons_differ() {
        let (mut covered, mut without) = (0, 0);
        for seed in 0..200 {
            let mut random = SmallRng::seed_from_u64(seed);
            let mut arms = [Quality::new(&Horizons::default(), 1e3), Quality::new(&Horizons::default(), 1e3)];
            for person in 0..200_u64 {
                // Each has a taste of their own, and decides ten times.
                let taste: f64 = random.random_range(0.1..0.7);
                let arm = (person % 2) as usize;
                let chance = taste + [0.0, 0.1][arm];
                for _ in 0..10 {
                    let hit = random.random_bool(chance);
                    let engaged = if hit { vec![(1, 0)] } else { vec![(9, 0)] };
                    arms[arm].add(&closed(person / 2 * 7_919, &[(1, -1.0, if hit { 0 } else { 3 })], &engaged));
                }
            }
            let difference = arms[1].difference(&arms[0], Measure::HitRate).unwrap();
            covered += usize::from(difference.low <= 0.1 && 0.1 <= difference.high);
            without += usize::from(difference.low > 0.0);
        }
        assert!((182..=198).contains(&covered), "{covered} of 200 intervals have the truth");
        assert!(without > 60, "and they are of use: {without}");
        let none = Quality::new(&Horizons::default(), 1e3);
        assert_eq!(none.difference(&none, Measure::EngagementRate), None);
    }
}
