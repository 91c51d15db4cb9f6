//! What is wrong with the configuration, and where does it come from? Refusals that an operator can act on.

use std::fmt;
use std::path::PathBuf;

/// Where a setting's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The built-in defaults.
    Default,
    /// The operator's file.
    File(PathBuf),
    /// An environment variable, by its name.
    Environment(String),
    /// A flag on the command line.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the defaults"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "the environment ({name})"),
            Self::Flag => f.write_str("the command line"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file cannot be read, or is no TOML.
    #[error("{}: {reason}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong, with the line if there is one.
        reason: String,
    },
    /// An override is not of the form `key=value`.
    #[error("`{0}` is not of the form key=value")]
    Override(String),
    /// There is no such setting.
    #[error("{from}: there is no setting `{key}`{}", suggest(nearest))]
    Unknown {
        /// The key as given.
        key: String,
        /// Who gave it.
        from: Source,
        /// The most similar known one, if one is similar.
        nearest: Option<String>,
    },
    /// The value is of the wrong type.
    #[error("{from}: `{key}` must be {expected}, not {found}")]
    Type {
        /// The setting.
        key: String,
        /// Who gave it.
        from: Source,
        /// The type that it needs.
        expected: &'static str,
        /// The type that it has.
        found: &'static str,
    },
    /// The value is of the right type but cannot be used.
    #[error("{from}: `{key}` {reason}")]
    Value {
        /// The setting.
        key: String,
        /// Who gave it.
        from: Source,
        /// What is wrong.
        reason: String,
    },
}

fn suggest(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// In the order in which they were found.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used:")?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
