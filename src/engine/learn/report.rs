//! What can be told of learning? Its state, and how the arms of the experiments compare.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Learning;
use crate::domain::Timestamp;
use crate::engine::Engine;
use crate::ranking::{BINS, Comparison, Difference, Measure, Quality};

/// The state of learning.
#[derive(Debug, Clone, PartialEq)]
pub struct LearningReport {
    /// Whether anything is learned.
    pub enabled: bool,
    /// Whether the weights were trained here.
    pub trained: bool,
    /// Decisions whose outcome is not known yet.
    pub open: usize,
    /// Decisions that were opened since the start.
    pub opened: u64,
    /// Those whose outcome is known.
    pub closed: u64,
    /// Those whose outcome will not be known.
    pub censored: u64,
    /// Decisions that found no room, or were too much like others.
    pub dropped: u64,
    /// Messages that found no room in the queue.
    pub overflow: u64,
    /// Decisions kept for training.
    pub lessons: usize,
    /// Their rows.
    pub examples: usize,
    /// Decisions that the correction was learned from.
    pub steps: u64,
    /// How often it was rolled back.
    pub roll_backs: u64,
    /// For each interval, by how much the log-odds of what is fairly likely (2 %) are shifted.
    pub shifts: Vec<f64>,
    /// For each interval, by which share the log-odds are spread out (above 0) or drawn together.
    pub tilts: Vec<f64>,
    /// For each interval, how many weights are corrected.
    pub corrected_weights: Vec<usize>,
    /// By bucket of places, by how much being shown there raises the log-odds.
    pub place_biases: Vec<f64>,
    /// Figures of served answers, by horizon.
    pub served: Vec<HorizonReport>,
    /// Figures of moments at which nothing was served, by horizon.
    pub organic: Vec<HorizonReport>,
    /// The last training.
    pub last_training: Option<TrainingRun>,
}

/// A training and its outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingRun {
    /// When it began.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// Decisions that it had.
    pub decisions: usize,
    /// Their rows.
    pub examples: usize,
    /// The test on the newest decisions.
    pub comparison: Option<Comparison>,
    /// Whether the new weights took over.
    pub adopted: bool,
    /// Why there are no new weights.
    pub problem: Option<String>,
}

/// Figures by one horizon; the latest decisions weigh most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HorizonReport {
    /// The horizon in seconds.
    pub seconds: u32,
    /// Decisions since the start.
    pub decisions: u64,
    /// Those followed by an engagement by the horizon.
    pub engaged: u64,
    /// Share of those whose list had it.
    pub hit_rate: Option<f64>,
    /// Mean of 1 / its place.
    pub reciprocal_rank: Option<f64>,
    /// Mean log loss of the probabilities.
    pub log_loss: Option<f64>,
    /// Predicted over observed engagements.
    pub calibration: Option<f64>,
    /// Mean distance of predicted and observed rates over bins of the probability.
    pub calibration_error: Option<f64>,
    /// These bins, rising: how many cases, what was predicted of them, what happened.
    pub bins: [(f64, f64, f64); BINS],
}

/// An experiment and its arms.
#[derive(Debug, Clone, PartialEq)]
pub struct ExperimentReport {
    /// Its name; `None` for what is in no experiment.
    pub name: Option<String>,
    /// The arms.
    pub arms: Vec<ArmReport>,
}

/// An arm and its figures.
#[derive(Debug, Clone, PartialEq)]
pub struct ArmReport {
    /// Its name.
    pub name: String,
    /// Its share of the persons.
    pub share: f64,
    /// Figures by horizon.
    pub horizons: Vec<HorizonReport>,
    /// Engagement rate, hit rate, reciprocal rank, by the last horizon.
    pub measures: [Option<Spread>; 3],
    /// The same less those of the first arm; nothing for the first arm.
    pub against_first: [Option<Difference>; 3],
}

/// A figure with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The figure.
    pub estimate: f64,
    /// Where the interval begins.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
}

const MEASURES: [Measure; 3] = [Measure::EngagementRate, Measure::HitRate, Measure::ReciprocalRank];

impl Learning {
    fn horizons(&self, quality: &Quality) -> Vec<HorizonReport> {
        let seconds = self.start.schema().horizons().seconds();
        let figures = quality.total().iter().zip(quality.recent());
        seconds
            .iter()
            .zip(figures)
            .map(|(&seconds, (total, recent))| HorizonReport {
                seconds,
                decisions: total.decisions as u64,
                engaged: total.engaged as u64,
                hit_rate: recent.hit_rate(),
                reciprocal_rank: recent.reciprocal_rank(),
                log_loss: recent.log_loss(),
                calibration: recent.calibration(),
                calibration_error: recent.calibration_error(),
                bins: *recent.bins(),
            })
            .collect()
    }

    fn arm_report(&self, name: &str, share: f64, quality: &Quality, first: Option<&Quality>) -> ArmReport {
        let spread = |measure| {
            let (estimate, variance) = quality.measure(measure)?;
            let half = 2.0 * variance.sqrt();
            Some(Spread { estimate, low: estimate - half, high: estimate + half })
        };
        ArmReport {
            name: name.to_owned(),
            share,
            horizons: self.horizons(quality),
            measures: MEASURES.map(spread),
            against_first: MEASURES.map(|measure| quality.difference(first?, measure)),
        }
    }
}

impl Engine {
    /// The state of learning.
    pub fn learning(&self) -> LearningReport {
        let learning = &self.parts.learning;
        let student = learning.student.lock();
        LearningReport {
            enabled: learning.options.enabled,
            trained: student.trained,
            open: student.ledger.len(),
            opened: student.counts.opened,
            closed: student.counts.closed,
            censored: student.counts.censored,
            dropped: student.counts.dropped,
            overflow: learning.overflow.load(Ordering::Relaxed),
            lessons: student.lessons.len(),
            examples: student.lessons.cases(),
            steps: student.online.steps(),
            roll_backs: student.online.roll_backs(),
            shifts: student.online.shifts(),
            tilts: student.online.tilts(),
            corrected_weights: student.online.corrected_weights(),
            place_biases: student.online.place_biases().to_vec(),
            served: learning.horizons(&student.served),
            organic: learning.horizons(&student.organic),
            last_training: student.last_training.clone(),
        }
    }

    /// The experiments, and last what is in none of them.
    pub fn experiments(&self) -> Vec<ExperimentReport> {
        let learning = &self.parts.learning;
        let student = learning.student.lock();
        let mut arm = 1;
        let mut reports = Vec::new();
        let mut left = 1.0;
        for experiment in learning.options.assignment.experiments() {
            let first = arm;
            let mut report = ExperimentReport { name: Some(experiment.name.clone()), arms: Vec::new() };
            for (name, share) in &experiment.arms {
                if let Some(quality) = student.arms.get(arm) {
                    let compared = student.arms.get(first).filter(|_| arm > first);
                    report.arms.push(learning.arm_report(name, left * share, quality, compared));
                }
                arm += 1;
            }
            left *= 1.0 - experiment.arms.iter().map(|(_, share)| share).sum::<f64>().min(1.0);
            reports.push(report);
        }
        if let Some(quality) = student.arms.first() {
            let default = learning.arm_report("default", left, quality, None);
            reports.push(ExperimentReport { name: None, arms: vec![default] });
        }
        reports
    }
}
