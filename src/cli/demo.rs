use super::{CliError, Common};
use clap::Args;
#[derive(Debug, Args)]
pub(super) struct Demo {}
impl Demo {
    pub(super) fn run(self, _c: &Common) -> Result<(), CliError> {
        Ok(())
    }
}
