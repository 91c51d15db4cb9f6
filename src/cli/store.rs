//! `upnext store`: is everything there that should be, what can be saved, and how does the file get smaller?

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use reqwest::Method;

use super::output::{bar, line};
use super::target::TargetArgs;
use super::{CliError, Common, tokio_runtime};
use crate::app;
use crate::store::{self, Verified};

/// Check, repair and rewrite the database
#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Read every record and say what can be read; no server may be running
    ///
    /// Brings the file to its last commit first, if the last server did not end well, and checks the sums of all pages.
    /// Also lists the sealing keys in use; all others can be retired.
    Verify,
    /// Save what can be read of a damaged database into a new one; no server may be running
    ///
    /// The damaged file is kept as `upnext.redb.damaged`. If a snapshot is at hand, `upnext snapshot restore` brings back
    /// more.
    Repair,
    /// Rewrite the database: smaller, and with every record under the newest sealing key
    Rewrite(Rewrite),
}

/// Rewrite the database
#[derive(Debug, Args)]
pub(super) struct Rewrite {
    #[command(flatten)]
    target: TargetArgs,
}

impl StoreCommand {
    pub(super) fn run(self, common: &Common) -> Result<(), CliError> {
        let settings = common.settings()?;
        let dir = &settings.data_dir;
        match self {
            Self::Verify => {
                let verified = store::verify_store(dir, &app::sealing_keys(&settings)?)?;
                describe(&verified);
                if verified.is_good() { Ok(()) } else { Err(CliError::Failed("not everything can be read".into())) }
            }
            Self::Repair => {
                let progress = bar("entries", 0);
                let keys = app::sealing_keys(&settings)?;
                let repaired = store::repair_store(dir, &keys, app::plain_store_options(&settings), advance(&progress));
                progress.finish_and_clear();
                let repaired = repaired?;
                let Some(damaged) = &repaired.damaged else {
                    line("nothing is wrong with the database");
                    return Ok(());
                };
                line(format_args!(
                    "saved {} entries ({} lost, {} of erased users left behind), {} items ({} lost), {} thumbnails",
                    repaired.entries,
                    repaired.lost_entries,
                    repaired.erased,
                    repaired.items,
                    repaired.lost_items,
                    repaired.thumbnails
                ));
                line(format_args!("the damaged file is kept as {}", damaged.display()));
                Ok(())
            }
            Self::Rewrite(rewrite) => match rewrite.target.remote()? {
                Some(connection) => {
                    let request = connection.request(Method::POST, "/v1/admin/store/rewrite");
                    let answer = tokio_runtime()?.block_on(connection.answer(request))?;
                    line(format_args!(
                        "{} entries and {} items, {} records sealed anew, {} unreadable; {} bytes before, {} after",
                        answer["entries"],
                        answer["items"],
                        answer["resealed"],
                        answer["unreadable"],
                        answer["bytes_before"],
                        answer["bytes_after"]
                    ));
                    Ok(())
                }
                None => {
                    let store = app::open_store(&settings)?;
                    let progress = bar("rows", 0);
                    let copied = store.rewrite(advance(&progress));
                    progress.finish_and_clear();
                    let copied = copied?;
                    line(format_args!(
                        "{} entries and {} items, {} records sealed anew, {} unreadable",
                        copied.entries, copied.items, copied.resealed, copied.unreadable
                    ));
                    Ok(())
                }
            },
        }
    }
}

/// Moves a bar along.
pub(super) fn advance(bar: &ProgressBar) -> impl FnMut(u64, u64) {
    |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    }
}

/// Says what can be read.
pub(super) fn describe(verified: &Verified) {
    line(format_args!(
        "log: {} entries, {} of erased users, {} unreadable",
        verified.entries, verified.erased, verified.unreadable_entries
    ));
    line(format_args!("catalogue: {} items, {} unreadable", verified.items, verified.unreadable_items));
    line(format_args!("thumbnails: {}, {} unreadable", verified.thumbnails, verified.unreadable_thumbnails));
    line(format_args!("user keys: {} unreadable", verified.unreadable_user_keys));
    let keys: Vec<String> = verified.sealing_keys.iter().map(u32::to_string).collect();
    line(format_args!("sealing keys in use: {}", keys.join(", ")));
}
