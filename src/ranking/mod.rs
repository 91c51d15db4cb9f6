//! How likely is each candidate, and by when? Features, hazards, re-ranking, reasons; pure.
//!
//! 1. Fill a [`RequestContext`] and the [`Candidate`]s, and [`FeatureMatrix::assemble`] them.
//! 2. [`HazardModel::predict`] gives each candidate a probability by each horizon.
//! 3. [`order`] and [`diversify`] make a list for each horizon.
//! 4. [`explain`] tells why an item has its score.
//!
//! [`fit`] learns linear hazards from examples, [`grow`] a forest on top of them. Nothing in here does IO, reads a clock or waits for a lock.

mod decisions;
mod experiments;
mod explain;
mod features;
mod fit;
mod forest;
mod hazard;
mod lesson;
mod notebook;
mod online;
mod quality;
mod rerank;
mod schema;
mod train;
mod weights_file;

pub use decisions::{
    Admission, Cases, Closed, Decision, Ledger, LedgerLimits, NOT_SHOWN, PLACES, Shown, Stream, place_bucket,
};
pub use experiments::{Assignment, Experiment, siphash};
pub use explain::{Reasons, explain};
pub use features::{
    Answered, Candidate, FeatureMatrix, MAX_HORIZONS, RequestContext, TRENDING_SCALES, TrajectoryCosines,
};
pub use fit::{Examples, FitError, FitOptions, FitReport, FitStep, fit, fit_with_progress};
pub use forest::{Forest, GrowOptions, GrowReport, MAX_DEPTH, Split, Tree, grow};
pub use hazard::{HazardModel, HazardParameters, ModelError, Predictions};
pub use lesson::{Lesson, Predictor};
pub use notebook::Notebook;
pub use online::{OnlineLearner, OnlineOptions, Step};
pub use quality::{BINS, Difference, Figures, HIT_PLACES, Measure, Quality};
pub use rerank::{POOL, Ranked, diversify, order};
pub use schema::{Group, Schema};
pub use train::{Comparison, TrainOptions, Trained, TrainingSet, compare, train};
