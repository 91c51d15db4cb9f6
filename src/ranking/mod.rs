//! How likely is each candidate, and by when? Features, hazards, re-ranking, reasons; pure.
//!
//! 1. Fill a [`RequestContext`] and the [`Candidate`]s, and [`FeatureMatrix::assemble`] them.
//! 2. [`HazardModel::predict`] gives each candidate a probability by each horizon.
//! 3. [`order`] and [`select`] make a list for each horizon.
//! 4. [`explain`] tells why an item has its score.
//!
//! [`fit`] learns a model from examples. Nothing in here does IO, reads a clock or waits for a lock.

mod explain;
mod features;
mod fit;
mod hazard;
mod rerank;
mod schema;
mod weights_file;

pub use explain::{Reasons, explain};
pub use features::{
    Answered, Candidate, FeatureMatrix, MAX_HORIZONS, RequestContext, TRENDING_SCALES, TrajectoryCosines,
};
pub use fit::{Examples, FitError, FitOptions, FitReport, FitStep, fit, fit_with_progress};
pub use hazard::{HazardModel, HazardParameters, ModelError, Predictions};
pub use rerank::{Ranked, order, select};
pub use schema::{Group, Schema};
