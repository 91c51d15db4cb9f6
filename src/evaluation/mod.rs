//! How good are the lists on a log? Prequential replay: every decision is judged before it is learned from.
//!
//! [`ClickLog`] reads a log, [`Replay`] moves a [`crate::collab::Collab`] through it in time order and stops at each
//! decision point, [`collect`] turns decision points into examples for [`crate::ranking::fit`], [`measure`] compares
//! rankers. [`fit_on_log`] and [`evaluate`] put these together, [`plots`] draws what came out, and [`simulate`] makes
//! logs with a seed, from which the shipped weights are learned.

mod ablation;
mod bootstrap;
mod calibration;
mod click_log;
mod follow;
mod gather;
mod learn;
mod measure;
mod pipeline;
pub mod plots;
mod projection;
mod ranker;
mod replay;
mod simulate;
mod tally;

pub use ablation::Source;
pub use bootstrap::Estimate;
pub use calibration::{Calibration, CalibrationBin};
pub use click_log::{ClickLog, Columns, ItemNumbers, LogBuilder, LogError, Session, confidence_of, delimiter_of};
pub use gather::{CandidateLimits, Gatherer, Moment, NothingElse, Surroundings};
pub use learn::{LearnOptions, collect};
pub use measure::{Aim, AimResult, Figures, MeasureOptions, Measured, RankerResult, measure};
pub use pipeline::{Ablation, Evaluated, FitSettings, Fitted, Progress, Split, SurroundingsOf, evaluate, fit_on_log};
pub use projection::{Judged, NoProjection, Projection, learn_projection};
pub use ranker::Ranker;
pub use replay::{Learning, Replay, Stop};
pub use simulate::{SimulatedLog, SimulatedSurroundings, SimulationSettings, mixture, simulate};
