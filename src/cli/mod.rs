//! What can be typed? The command line, one file a command.
//!
//! Commands print what was asked for to standard output; progress and errors go to standard error.

mod config;
mod connection;
mod demo;
mod evaluate;
mod export;
mod health;
mod import;
mod keys;
mod models;
mod output;
mod receipt;
mod runtime;
mod serve;
mod snapshot;
mod store;
mod target;
mod train;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::app::AppError;
use crate::config::{ConfigError, LogFormat, Settings, Sources};
use crate::telemetry::{self, TraceOptions, TracesGuard};

/// What will this person want within the next 15, 30 and 60 seconds?
#[derive(Debug, Parser)]
#[command(name = "upnext", version, propagate_version = true, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Where settings come from; the same for every command.
#[derive(Debug, Args)]
struct Common {
    /// File with settings (TOML); what it does not name keeps its default
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, for example `--set server.bind=127.0.0.1:9000`; may be repeated
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// The folder for the database, keys and certificate; short for `--set data_dir=DIR`
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until the process is told to stop
    Serve(serve::Serve),
    /// Serve a made-up catalogue with a made-up audience, and print what to try
    Demo(demo::Demo),
    /// Load items or events from a file
    #[command(subcommand)]
    Import(import::Import),
    /// Judge rankers on a log: hit rates, calibration, intervals, what each source contributes
    Evaluate(evaluate::Evaluate),
    /// Fit the weights of the ranking to a log
    Train(train::Train),
    /// Save items or events to a file
    #[command(subcommand)]
    Export(export::Export),
    /// Make, list, verify and restore copies of the database
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Check, repair and rewrite the database
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Make, list and revoke API keys; rotate the keys that seal the data
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Check receipts of erasure
    #[command(subcommand)]
    Receipt(receipt::Receipt),
    /// List, check, measure and add models that look at pictures
    #[command(subcommand)]
    Models(models::Models),
    /// Check or show the settings
    #[command(subcommand)]
    Config(config::Config),
    /// Find or install ONNX Runtime
    #[command(subcommand)]
    Runtime(runtime::Runtime),
    /// Ask a server whether it is ready; for health checks
    Health(health::Health),
    /// Play a video or a folder of pictures to a server, and show the lists as they change
    Watch(watch::Watch),
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    App(#[from] AppError),
    #[error(transparent)]
    Runtime(#[from] crate::inference::runtime::RuntimeError),
    #[error(transparent)]
    Security(#[from] crate::security::SecurityError),
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    #[error("no weights could be fitted: {0}")]
    Fit(#[from] crate::ranking::FitError),
    #[error("logging cannot be set up: {0}")]
    Logging(#[from] telemetry::TracingError),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("{0}")]
    Failed(String),
}

impl CliError {
    fn io(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.to_string();
        move |source| Self::Io { what, source }
    }
}

/// Runs what the command line of this process says.
pub fn run() -> ExitCode {
    let Cli { common, command } = Cli::parse();
    let result = match command {
        Command::Serve(serve) => serve.run(&common),
        Command::Demo(demo) => demo.run(&common),
        Command::Import(import) => import.run(&common),
        Command::Evaluate(evaluate) => evaluate.run(&common),
        Command::Train(train) => train.run(&common),
        Command::Export(export) => export.run(&common),
        Command::Snapshot(snapshot) => snapshot.run(&common),
        Command::Store(store) => store.run(&common),
        Command::Keys(keys) => keys.run(&common),
        Command::Receipt(receipt) => receipt.run(&common),
        Command::Models(models) => models.run(&common),
        Command::Config(config) => config.run(&common),
        Command::Runtime(runtime) => runtime.run(&common),
        Command::Health(health) => health.run(&common),
        Command::Watch(watch) => watch.run(&common),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error);
            ExitCode::FAILURE
        }
    }
}

impl Common {
    fn sources(&self) -> Sources {
        let data_dir = self.data_dir.iter().map(|dir| format!("data_dir={}", dir.display()));
        Sources::from_process(self.config.clone(), self.overrides.iter().cloned().chain(data_dir).collect())
    }

    fn settings(&self) -> Result<Settings, CliError> {
        Ok(Settings::load(&self.sources())?.settings)
    }

    /// Settings under which only warnings are logged, unless the operator says otherwise: for commands that answer.
    fn quiet_settings(&self) -> Result<Settings, CliError> {
        let mut sources = self.sources();
        if !sources.environment.iter().any(|(name, _)| name == "UPNEXT__TELEMETRY__LOG_FILTER") {
            sources.overrides.insert(0, "telemetry.log_filter=warn".into());
        }
        Ok(Settings::load(&sources)?.settings)
    }
}

/// Sends log lines to standard error as the settings say.
fn start_logging(settings: &Settings) -> Result<(), CliError> {
    start_telemetry(settings, None).map(|_| ())
}

/// The same, and traces to the collector, for programs that serve. What this gives has to be kept until the end.
fn start_tracing(settings: &Settings) -> Result<Option<TracesGuard>, CliError> {
    let (endpoint, share) = (settings.telemetry.traces_endpoint.clone(), settings.telemetry.traces_share);
    start_telemetry(settings, (!endpoint.is_empty()).then_some(TraceOptions { endpoint, share }))
}

fn start_telemetry(settings: &Settings, traces: Option<TraceOptions>) -> Result<Option<TracesGuard>, CliError> {
    let format = match settings.telemetry.log_format {
        LogFormat::Pretty => telemetry::LogFormat::Pretty,
        LogFormat::Json => telemetry::LogFormat::Json,
    };
    Ok(telemetry::init_tracing(format, &settings.telemetry.log_filter, traces.as_ref())?)
}

/// How many tasks a thread runs before it looks whether sockets have something new. A request takes as long as a hundred of what
/// tokio takes a task for, so that with its 61 a frame that has arrived would lie for up to 20 ms on a busy server.
const TASKS_BETWEEN_SOCKETS: u32 = 4;

/// The runtime on which servers and imports run.
fn tokio_runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_multi_thread()
        .event_interval(TASKS_BETWEEN_SOCKETS)
        .global_queue_interval(2 * TASKS_BETWEEN_SOCKETS)
        .enable_all()
        .build()
        .map_err(CliError::io("threads cannot be started"))
}

/// Returns when the process is told to end, by SIGINT or SIGTERM.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};

    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
