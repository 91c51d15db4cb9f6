//! How good are the lists on a log? Prequential replay: every decision is judged before it is learned from.
//!
//! [`ClickLog`] reads a log, [`Replay`] moves a [`crate::collab::Collab`] through it in time order and stops at each
//! decision point, [`collect`] turns decision points into examples for [`crate::ranking::fit`], [`measure`] compares rankers, and [`simulate`] makes
//! logs with a seed, from which the shipped weights are learned.

mod click_log;
mod gather;
mod learn;
mod measure;
mod replay;
mod simulate;

pub use click_log::{ClickLog, Columns, ItemNumbers, LogError, Session};
pub use gather::{CandidateLimits, Gatherer, Moment, NothingElse, Surroundings};
pub use learn::{LearnOptions, collect};
pub use measure::{Calibration, HorizonResult, MeasureOptions, Ranker, RankerResult, measure};
pub use replay::{Learning, Replay, Stop};
pub use simulate::{SimulatedLog, SimulatedSurroundings, SimulationSettings, mixture, simulate};
