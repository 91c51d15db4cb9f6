//! How do operators read what is learned, and how arms compare?

use serde::Serialize;
use utoipa::ToSchema;

use super::Rfc3339;
use super::recommend::milliseconds;
use crate::engine::{ArmReport, ExperimentReport, HorizonReport, LearningReport, Spread, TrainingRun};

/// The state of learning.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Training)]
pub(in crate::api) struct TrainingAnswer {
    /// Whether the ranking learns while it serves.
    enabled: bool,
    /// Whether the weights were trained by the service itself.
    trained: bool,
    /// What became of decisions since the start.
    decisions: DecisionsAnswer,
    /// Decisions kept for training.
    lessons: usize,
    /// Their rows.
    examples: usize,
    /// What is learned at once, from each decision.
    online: OnlineAnswer,
    /// Figures of answers, by horizon.
    served: Vec<FiguresAnswer>,
    /// Figures of moments at which nothing was asked for, by horizon.
    organic: Vec<FiguresAnswer>,
    /// The last training since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_training: Option<TrainingRunAnswer>,
}

/// What became of decisions since the start.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Decisions)]
struct DecisionsAnswer {
    /// Their outcome is not known yet.
    open: usize,
    opened: u64,
    /// Their outcome is known.
    closed: u64,
    /// Their outcome will not be known.
    censored: u64,
    /// Left out: too much like others of the same session, or without room.
    dropped: u64,
    /// Messages to the learning thread that found no room.
    overflow: u64,
}

/// What is learned at once, from each decision.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OnlineLearning)]
struct OnlineAnswer {
    /// Decisions learned from.
    steps: u64,
    /// How often what was learned did harm and was rolled back.
    roll_backs: u64,
    /// For each interval, by how much the log-odds of what is fairly likely (2 %) are shifted.
    shifts: Vec<f64>,
    /// For each interval, by which share the log-odds are spread out (above 0) or drawn together.
    tilts: Vec<f64>,
    /// For each interval, how many weights are corrected.
    corrected_weights: Vec<usize>,
    /// By how much being shown raises the log-odds: at place 1, 2, 3, 4 to 5, 6 to 8, 9 to 13, 14 to 21, below.
    place_biases: Vec<f64>,
}

/// How good lists turned out to be by one horizon. Rates are of the latest decisions, counts of all since the start.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LiveFigures)]
pub(in crate::api) struct FiguresAnswer {
    /// The horizon in seconds.
    seconds: u32,
    /// Decisions.
    decisions: u64,
    /// Those that were followed by an engagement by the horizon.
    engaged: u64,
    /// Share of those whose list had it, among its first 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    hit_rate: Option<f64>,
    /// Mean of 1 / its place, 0 where the list did not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reciprocal_rank: Option<f64>,
    /// Mean log loss of the probabilities, over candidates.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_loss: Option<f64>,
    /// Predicted over observed engagements; 1 is calibrated.
    #[serde(skip_serializing_if = "Option::is_none")]
    calibration: Option<f64>,
    /// Mean distance of predicted and observed rates, over ten bins of the probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    calibration_error: Option<f64>,
    /// These bins, rising, without the empty ones: the calibration diagram.
    bins: Vec<CalibrationBin>,
}

/// Candidates whose probabilities lay close together, and what became of them.
#[derive(Debug, Serialize, ToSchema)]
struct CalibrationBin {
    /// How many there were; the latest weigh most.
    cases: f64,
    /// Their mean probability.
    predicted: f64,
    /// The share of them that was turned to.
    observed: f64,
}

/// A training and its outcome.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TrainingRun)]
struct TrainingRunAnswer {
    at: Rfc3339,
    took_ms: f64,
    /// Decisions that it had.
    decisions: usize,
    /// Their rows.
    examples: usize,
    /// Whether the new weights took over.
    adopted: bool,
    /// The test on the newest decisions.
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<ComparisonAnswer>,
    /// Why there are no new weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// New weights against what was predicted at the time, on decisions that neither had been fitted to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TrainingComparison)]
struct ComparisonAnswer {
    /// Decisions.
    decisions: usize,
    /// Mean log loss of a decision, as it was predicted.
    running: f64,
    /// The same of the new weights.
    trained: f64,
    /// Standard error of the difference.
    standard_error: f64,
}

impl From<LearningReport> for TrainingAnswer {
    fn from(report: LearningReport) -> Self {
        Self {
            enabled: report.enabled,
            trained: report.trained,
            decisions: DecisionsAnswer {
                open: report.open,
                opened: report.opened,
                closed: report.closed,
                censored: report.censored,
                dropped: report.dropped,
                overflow: report.overflow,
            },
            lessons: report.lessons,
            examples: report.examples,
            online: OnlineAnswer {
                steps: report.steps,
                roll_backs: report.roll_backs,
                shifts: report.shifts,
                tilts: report.tilts,
                corrected_weights: report.corrected_weights,
                place_biases: report.place_biases,
            },
            served: report.served.into_iter().map(Into::into).collect(),
            organic: report.organic.into_iter().map(Into::into).collect(),
            last_training: report.last_training.map(Into::into),
        }
    }
}

impl From<TrainingRun> for TrainingRunAnswer {
    fn from(run: TrainingRun) -> Self {
        Self {
            at: Rfc3339(run.at),
            took_ms: milliseconds(run.took),
            decisions: run.decisions,
            examples: run.examples,
            adopted: run.adopted,
            comparison: run.comparison.map(|found| ComparisonAnswer {
                decisions: found.decisions,
                running: found.running,
                trained: found.trained,
                standard_error: found.standard_error,
            }),
            problem: run.problem,
        }
    }
}

impl From<(f64, f64, f64)> for CalibrationBin {
    fn from((cases, predicted, observed): (f64, f64, f64)) -> Self {
        Self { cases, predicted: predicted / cases, observed: observed / cases }
    }
}

impl From<HorizonReport> for FiguresAnswer {
    fn from(report: HorizonReport) -> Self {
        Self {
            seconds: report.seconds,
            decisions: report.decisions,
            engaged: report.engaged,
            hit_rate: report.hit_rate,
            reciprocal_rank: report.reciprocal_rank,
            log_loss: report.log_loss,
            calibration: report.calibration,
            calibration_error: report.calibration_error,
            bins: report.bins.into_iter().filter(|bin| bin.0 > 0.0).map(CalibrationBin::from).collect(),
        }
    }
}

/// The experiments, and last the answers that are part of none.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Experiments)]
pub(in crate::api) struct ExperimentsAnswer {
    experiments: Vec<ExperimentAnswer>,
}

/// An experiment.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Experiment)]
struct ExperimentAnswer {
    /// Its name; missing for the answers that are part of none.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    arms: Vec<ArmAnswer>,
}

/// An arm of an experiment.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ExperimentArm)]
struct ArmAnswer {
    name: String,
    /// The share of all persons that it should get.
    share: f64,
    /// Figures by horizon.
    horizons: Vec<FiguresAnswer>,
    /// By the last horizon, over all answers since the start: the share after which an item of the list was turned to.
    #[serde(skip_serializing_if = "Option::is_none")]
    engagement_rate: Option<SpreadAnswer>,
    /// Of the answers that were followed by any engagement, the share whose list had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hit_rate: Option<SpreadAnswer>,
    /// Mean of 1 / its place, over the same answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    reciprocal_rank: Option<SpreadAnswer>,
    /// The same figures less those of the experiment's first arm; missing for that arm.
    #[serde(skip_serializing_if = "Option::is_none")]
    against_first: Option<DifferencesAnswer>,
}

/// Differences of two arms.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ArmDifferences)]
struct DifferencesAnswer {
    #[serde(skip_serializing_if = "Option::is_none")]
    engagement_rate: Option<SpreadAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hit_rate: Option<SpreadAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reciprocal_rank: Option<SpreadAnswer>,
}

/// A figure with its 95 % interval, which takes into account that answers to one person are alike.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Interval95)]
struct SpreadAnswer {
    estimate: f64,
    low: f64,
    high: f64,
}

impl From<Vec<ExperimentReport>> for ExperimentsAnswer {
    fn from(reports: Vec<ExperimentReport>) -> Self {
        let experiment = |report: ExperimentReport| ExperimentAnswer {
            name: report.name,
            arms: report.arms.into_iter().map(Into::into).collect(),
        };
        Self { experiments: reports.into_iter().map(experiment).collect() }
    }
}

impl From<ArmReport> for ArmAnswer {
    fn from(report: ArmReport) -> Self {
        let spread = |s: Spread| SpreadAnswer { estimate: s.estimate, low: s.low, high: s.high };
        let [engagement_rate, hit_rate, reciprocal_rank] = report.measures.map(|m| m.map(spread));
        let [engagement, hits, ranks] =
            report.against_first.map(|d| d.map(|d| SpreadAnswer { estimate: d.estimate, low: d.low, high: d.high }));
        let compared = engagement.is_some() || hits.is_some() || ranks.is_some();
        Self {
            name: report.name,
            share: report.share,
            horizons: report.horizons.into_iter().map(Into::into).collect(),
            engagement_rate,
            hit_rate,
            reciprocal_rank,
            against_first: compared.then_some(DifferencesAnswer {
                engagement_rate: engagement,
                hit_rate: hits,
                reciprocal_rank: ranks,
            }),
        }
    }
}
