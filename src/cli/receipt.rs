//! `upnext receipt`: is this receipt of erasure genuine? Needs no server; with the public key not even the data folder.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::Value;

use super::output::line;
use super::{CliError, Common};
use crate::security::{ReceiptKey, Receipts};

/// More than a receipt or a key can have.
const MAX_FILE_BYTES: u64 = 128 * 1024;

/// Check receipts of erasure
#[derive(Debug, Subcommand)]
pub(super) enum Receipt {
    /// Check that a receipt is genuine, and print what it certifies
    ///
    /// A receipt is a JSON Web Signature with Ed25519, so any other tool for these can check it too.
    Verify {
        /// File with the receipt as the server gave it
        file: PathBuf,
        /// File with the public key of the server that gave it (JSON Web Key); by default the one of the data folder
        #[arg(long, value_name = "FILE")]
        public_key: Option<PathBuf>,
    },
    /// Print the public key (JSON Web Key), for those who check receipts elsewhere
    PublicKey,
}

impl Receipt {
    pub(super) fn run(self, common: &Common) -> Result<(), CliError> {
        match self {
            Self::Verify { file, public_key } => {
                let key = match public_key {
                    Some(file) => read_key(&file)?,
                    None => own_key(common)?,
                };
                let refused = |e| CliError::Failed(format!("{} certifies nothing: {e}", file.display()));
                let certified = key.verify(read(&file)?.trim()).map_err(refused)?;
                line(format_args!("{} is genuine, signed with the key {}. It certifies:", file.display(), key.id()));
                line(format_args!("{certified:#}"));
            }
            Self::PublicKey => line(format_args!("{:#}", own_key(common)?.to_jwk())),
        }
        Ok(())
    }
}

/// The public part of the key in the data folder.
fn own_key(common: &Common) -> Result<ReceiptKey, CliError> {
    let dir = common.settings()?.data_dir;
    let receipts = Receipts::open_existing(&dir)?;
    receipts.map(|receipts| receipts.key().clone()).ok_or_else(|| {
        let dir = dir.display();
        CliError::Failed(format!("there is no receipt key in {dir}: nothing has been signed there; name --public-key"))
    })
}

fn read_key(file: &Path) -> Result<ReceiptKey, CliError> {
    let jwk: Value = serde_json::from_str(&read(file)?)
        .map_err(|e| CliError::Failed(format!("{} is not JSON: line {}", file.display(), e.line())))?;
    ReceiptKey::from_jwk(&jwk).map_err(|e| CliError::Failed(format!("{}: {e}", file.display())))
}

/// The text of a file, as far as a receipt or a key goes.
fn read(file: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    File::open(file)
        .and_then(|open| open.take(MAX_FILE_BYTES).read_to_string(&mut text))
        .map_err(CliError::io(file.display()))?;
    Ok(text)
}
