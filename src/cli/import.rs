use super::{CliError, Common};
use clap::Subcommand;
#[derive(Debug, Subcommand)]
pub(super) enum Import {
    X,
}
impl Import {
    pub(super) fn run(self, _c: &Common) -> Result<(), CliError> {
        Ok(())
    }
}
