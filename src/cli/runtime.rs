//! `upnext runtime`: where ONNX Runtime is, or should be.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::ProgressBar;

use super::output::{bar, line};
use super::{CliError, Common};
use crate::inference::runtime::{self, InstallOptions, Located, Progress};

/// Find or install ONNX Runtime
#[derive(Debug, Subcommand)]
pub(super) enum Runtime {
    /// Fetch the pinned version with pip, check its hash and put it in place
    Install(Install),
    /// Say which library a server would use
    Show,
}

/// Fetch the pinned version
#[derive(Debug, Args)]
pub(super) struct Install {
    /// Where to install; the default is in the user's data folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The build for NVIDIA's graphics devices (256 MB); it needs CUDA 13 and cuDNN 9 on the machine
    #[arg(long, conflicts_with = "wheel")]
    gpu: bool,
    /// A wheel that is here already, instead of fetching one
    #[arg(long, value_name = "FILE")]
    wheel: Option<PathBuf>,
    /// SHA-256 of that wheel, if it is not the pinned build
    #[arg(long, value_name = "HEX", requires = "wheel")]
    sha256: Option<String>,
    /// The package index, instead of the one that pip is set up for
    #[arg(long, value_name = "URL")]
    index_url: Option<String>,
}

impl Runtime {
    pub(super) fn run(self, common: &Common) -> Result<(), CliError> {
        let located = match self {
            Self::Install(install) => {
                let Install { dir, gpu, wheel, sha256, index_url } = install;
                let mut progress = InstallBar::default();
                let options = InstallOptions { folder: dir, wheel, sha256, index_url, gpu };
                runtime::install(&options, &mut |step| progress.show(step))?
            }
            Self::Show => runtime::find(common.settings()?.inference.runtime_path.as_deref())?,
        };
        describe(&located);
        Ok(())
    }
}

/// Finds ONNX Runtime, or installs it where there is none, and shows how that goes.
pub(super) fn ensure(explicit: Option<&std::path::Path>) -> Result<Located, CliError> {
    let mut progress = InstallBar::default();
    Ok(runtime::ensure(explicit, &InstallOptions::default(), &mut |step| progress.show(step))?)
}

fn describe(located: &Located) {
    line(format_args!("ONNX Runtime 1.{} at {} ({:?})", located.minor_version, located.path.display(), located.origin));
}

/// The bar of an installation, which appears once there is something to fetch.
#[derive(Default)]
struct InstallBar(Option<ProgressBar>);

impl InstallBar {
    fn show(&mut self, step: Progress) {
        match step {
            Progress::Fetching { bytes, total } => {
                self.0.get_or_insert_with(|| bar("fetching ONNX Runtime", total)).set_position(bytes);
            }
            Progress::Unpacking => {
                if let Some(bar) = &self.0 {
                    bar.set_message("unpacking");
                }
            }
            Progress::Installed => {
                if let Some(bar) = self.0.take() {
                    bar.finish_and_clear();
                }
            }
        }
    }
}
