//! What did the operator decide? Typed settings from defaults, file, environment and flags.
//!
//! `config/upnext.toml` is built into the program: it is the documentation and the defaults in one. [`Settings::load`]
//! lays the operator's file, the environment and the flags over it, refuses what it does not know, and checks what
//! is left once; nothing later needs to check a setting again.

mod check;
mod layers;
mod problem;
mod settings;

pub use layers::{Loaded, Sources};
pub use problem::{ConfigError, Problem, Source};
pub use settings::{
    ArmSettings, CandidateSettings, ClientAuth, CollabSettings, EmbeddingPrecision, ExperimentSettings, IndexKind,
    IndexPrecision, IndexSettings, InferenceSettings, LearningSettings, LogFormat, Provider, RankingSettings,
    SecuritySettings, ServerSettings, SessionSettings, Settings, StoreSettings, TelemetrySettings, TlsMode,
    TlsSettings, UserSecret, VisionSettings,
};

/// The built-in defaults, with a line of documentation for each setting.
pub const DEFAULTS: &str = include_str!("../../config/upnext.toml");
