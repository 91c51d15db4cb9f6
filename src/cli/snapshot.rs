//! `upnext snapshot`: consistent copies of the database, made while a server runs, or without one.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::keys::date;
use super::output::{bar, line};
use super::store::{advance, describe};
use super::target::TargetArgs;
use super::{CliError, Common, tokio_runtime};
use crate::app;
use crate::domain::{Clock, SystemClock};
use crate::store::{SnapshotInfo, Snapshots};

/// Make, list, verify and restore copies of the database
///
/// Snapshots lie in the folder `snapshots` of the data folder. They are sealed like the database and hold neither sealing
/// keys nor user keys: keep the files `sealing-keys`, `user-secret` and the newest `user-keys` elsewhere as well. Older
/// copies of `user-keys` must be destroyed, or people who were erased could be brought back with them.
#[derive(Debug, Subcommand)]
pub(super) enum SnapshotCommand {
    /// Make a snapshot; with --url of a running server, else of the data folder
    Create(Create),
    /// List the snapshots, oldest first
    List,
    /// Compare a snapshot with its manifest and read every record of it
    Verify {
        /// Its name
        name: String,
    },
    /// Put a snapshot in the place of the database; no server may be running
    ///
    /// The database that was there is kept as `upnext.redb.before-restore`. The file of user keys stays as it is, so that
    /// nobody comes back who was erased after the snapshot was made.
    Restore {
        /// Its name
        name: String,
    },
    /// Delete a snapshot
    Delete {
        /// Its name
        name: String,
    },
}

/// Make a snapshot
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Its name: letters, digits, dots, hyphens and underscores; made up if left out
    name: Option<String>,
    #[command(flatten)]
    target: TargetArgs,
}

impl SnapshotCommand {
    pub(super) fn run(self, common: &Common) -> Result<(), CliError> {
        let settings = common.settings()?;
        let snapshots = Snapshots::in_dir(&settings.data_dir);
        match self {
            Self::Create(create) => match create.target.remote()? {
                Some(connection) => {
                    let body = create.name.map_or_else(|| json!({}), |name| json!({ "name": name }));
                    let request = connection.request(Method::POST, "/v1/admin/snapshots").json(&body);
                    let made = tokio_runtime()?.block_on(connection.answer(request))?;
                    line(row(&made));
                }
                None => {
                    let store = app::open_store(&settings)?;
                    let progress = bar("rows", 0);
                    let made = snapshots.create(&store, create.name.as_deref(), SystemClock.now(), advance(&progress));
                    progress.finish_and_clear();
                    line(describe_info(&made?));
                }
            },
            Self::List => snapshots.list()?.iter().for_each(|info| line(describe_info(info))),
            Self::Verify { name } => {
                let verified = snapshots.verify(&name, &app::sealing_keys(&settings)?)?;
                describe(&verified);
                if !verified.is_good() {
                    return Err(CliError::Failed("not everything in the snapshot can be read".into()));
                }
            }
            Self::Restore { name } => {
                describe(&snapshots.restore(&name, &app::sealing_keys(&settings)?)?);
                line("restored");
            }
            Self::Delete { name } => snapshots.delete(&name)?,
        }
        Ok(())
    }
}

fn describe_info(info: &SnapshotInfo) -> String {
    let SnapshotInfo { name, created_at, sequence, entries, items, bytes, .. } = info;
    format!("{name}  {}  {entries} entries up to {sequence}, {items} items, {bytes} bytes", date(*created_at))
}

fn row(made: &Value) -> String {
    let text = |field: &str| made[field].as_str().unwrap_or_default().to_owned();
    let (name, at) = (text("name"), text("created_at"));
    format!(
        "{name}  {at}  {} entries up to {}, {} items, {} bytes",
        made["entries"], made["sequence"], made["items"], made["bytes"]
    )
}
