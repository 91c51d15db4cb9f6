//! How is the service doing? Metrics, logs and traces.
//!
//! [`Metrics`] is handed to every part that has something to count; [`init_tracing`] is called once, by the
//! command line. Neither ever carries an identifier of a person, a key or a token.

mod admission;
mod live;
mod metrics;
mod process;
mod stage;
mod traces;
mod tracing;

pub use admission::AdmissionClass;
pub use live::{LiveEnd, LiveFrame, LiveKind};
pub use metrics::{
    DecisionOutcome, EventOutcome, HttpRequest, ItemOutcome, LiveFigures, Metrics, Queue, Sizes, TrainingResult,
};
pub use stage::{Stage, StageTimer};
pub use traces::{TRACE_TARGET, TraceOptions, TracesGuard};
pub use tracing::{LogFormat, TracingError, init_tracing};
