//! Where do log lines go, and in which form? Standard error, as text for people or JSON for machines. Beside them go traces
//! (`telemetry/traces.rs`).

use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::filter::{FilterFn, LevelFilter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt};

use super::traces::{TraceLayer, TraceOptions, TracesGuard};

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One line of text, with colours on a terminal.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = TracingError;

    fn from_str(text: &str) -> Result<Self, TracingError> {
        match text {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            other => Err(TracingError::Format(other.to_owned())),
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TracingError {
    /// The form has an unknown name.
    #[error("unknown log format `{0}`, expected `pretty` or `json`")]
    Format(String),
    /// The filter cannot be understood.
    #[error("the log filter `{filter}` cannot be understood: {reason}")]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The thread that sends traces cannot be started.
    #[error("traces cannot be sent: {0}")]
    Traces(std::io::Error),
    /// Something else has set up logging in this process.
    #[error("logging was set up before")]
    AlreadySet,
}

/// Sends the log lines that pass `filter` (for example `info,upnext=debug`) to standard error, and traces where `traces` says.
///
/// Call it once, before anything else runs, and keep what it gives until the end: then the last traces are sent.
pub fn init_tracing(
    format: LogFormat,
    filter: &str,
    traces: Option<&TraceOptions>,
) -> Result<Option<TracesGuard>, TracingError> {
    let filter = parse_filter(filter)?;
    let lines = fmt::layer().with_writer(std::io::stderr);
    let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = vec![match format {
        LogFormat::Pretty => lines.with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_filter(filter).boxed(),
    }];
    let mut guard = None;
    if let Some(traces) = traces {
        let (layer, made) = TraceLayer::new(traces).map_err(TracingError::Traces)?;
        let wanted = FilterFn::new(TraceLayer::wants).with_max_level_hint(LevelFilter::TRACE);
        layers.push(layer.with_filter(wanted).boxed());
        guard = Some(made);
    }
    tracing_subscriber::registry().with(layers).try_init().map_err(|_| TracingError::AlreadySet)?;
    Ok(guard)
}

fn parse_filter(filter: &str) -> Result<EnvFilter, TracingError> {
    EnvFilter::try_new(filter).map_err(|e| TracingError::Filter { filter: filter.to_owned(), reason: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_names() {
        assert_eq!("json".parse::<LogFormat>().unwrap(), LogFormat::Json);
        assert_eq!("pretty".parse::<LogFormat>().unwrap(), LogFormat::Pretty);
        assert!("xml".parse::<LogFormat>().unwrap_err().to_string().contains("xml"));
    }

    #[test]
    fn a_bad_filter_is_named() {
        assert!(parse_filter("info,upnext=debug").is_ok());
        assert!(parse_filter("upnext=loud").unwrap_err().to_string().contains("upnext=loud"));
    }
}
