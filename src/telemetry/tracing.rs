//! Where do log lines go, and in which form? Standard error, as text for people or JSON for machines.

use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

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
    /// Something else has set up logging in this process.
    #[error("logging was set up before")]
    AlreadySet,
}

/// Sends the log lines that pass `filter` (for example `info,upnext=debug`) to standard error.
///
/// Call it once, before anything else runs.
pub fn init_tracing(format: LogFormat, filter: &str) -> Result<(), TracingError> {
    let registry = tracing_subscriber::registry().with(parse_filter(filter)?);
    let initialised = match format {
        LogFormat::Pretty => {
            let colours = std::io::stderr().is_terminal();
            registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(colours)).try_init()
        }
        LogFormat::Json => registry
            .with(fmt::layer().with_writer(std::io::stderr).json().flatten_event(true).with_current_span(true))
            .try_init(),
    };
    initialised.map_err(|_| TracingError::AlreadySet)
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
