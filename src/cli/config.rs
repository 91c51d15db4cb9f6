//! `upnext config`: what a server would use.

use clap::Subcommand;

use super::output::line;
use super::{CliError, Common};
use crate::config::{DEFAULTS, Settings};

/// Check or show the settings
#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Say whether the settings can be used, and if not, what is wrong with which
    Check,
    /// Show every setting in force and where it comes from; secrets are hidden
    Show,
    /// Show the built-in settings with their documentation; a good start for a file of your own
    Defaults,
}

impl Config {
    pub(super) fn run(self, common: &Common) -> Result<(), CliError> {
        match self {
            Self::Check => {
                Settings::load(&common.sources())?;
                line("the settings can be used");
            }
            Self::Show => line(Settings::load(&common.sources())?.describe().trim_end()),
            Self::Defaults => line(DEFAULTS.trim_end()),
        }
        Ok(())
    }
}
