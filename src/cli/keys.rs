//! `upnext keys`: who may ask. Works while a server runs; it takes changes over within a second.

use clap::{Args, Subcommand};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::output::line;
use super::{CliError, Common};
use crate::domain::{Clock, SystemClock, Timestamp};
use crate::security::{KeyFile, NewKey, RateLimit, Scope, Scopes};

/// Make, list and revoke API keys
#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    /// Make a key and print it; it cannot be shown again
    Create(Create),
    /// List the keys, without their secrets
    List,
    /// Make a key useless
    Revoke {
        /// The id of the key, as listed
        id: String,
    },
}

/// Make a key
#[derive(Debug, Args)]
pub(super) struct Create {
    /// What the key is for
    #[arg(long)]
    name: String,
    /// What it may do: recommend, ingest, metrics, admin; several with commas
    #[arg(long, value_delimiter = ',', required = true)]
    scopes: Vec<Scope>,
    /// After how many days it ends
    #[arg(long, value_name = "DAYS")]
    expires_in_days: Option<u32>,
    /// Requests a second that it may make
    #[arg(long, value_name = "REQUESTS")]
    rate_limit_per_s: Option<u32>,
}

impl Keys {
    pub(super) fn run(self, common: &Common) -> Result<(), CliError> {
        let data_dir = common.settings()?.data_dir;
        std::fs::create_dir_all(&data_dir).map_err(CliError::io(data_dir.display()))?;
        let file = KeyFile::in_dir(&data_dir);
        let now = SystemClock.now();
        match self {
            Self::Create(create) => {
                let created = file.create(create.new_key(now), now)?;
                line(created.key);
            }
            Self::List => {
                for key in file.list()? {
                    let scopes: Vec<&str> = key.scopes.iter().map(Scope::name).collect();
                    let state = match (key.revoked_at, key.expires_at) {
                        (Some(at), _) => format!("revoked {}", date(at)),
                        (None, Some(end)) if end <= now => format!("expired {}", date(end)),
                        (None, Some(end)) => format!("until {}", date(end)),
                        (None, None) => "no end".to_owned(),
                    };
                    line(format_args!(
                        "{}  {:<32}  made {}  {:<30}  {}",
                        key.id,
                        scopes.join(","),
                        date(key.created_at),
                        state,
                        key.name
                    ));
                }
            }
            Self::Revoke { id } => {
                let key = file.revoke(&id, now)?;
                line(format_args!("revoked {} ({})", key.id, key.name));
            }
        }
        Ok(())
    }
}

impl Create {
    fn new_key(self, now: Timestamp) -> NewKey {
        NewKey {
            name: self.name,
            scopes: self.scopes.into_iter().collect::<Scopes>(),
            expires_at: self.expires_in_days.map(|days| now.plus_seconds(f64::from(days) * 86_400.0)),
            rate_limit: self.rate_limit_per_s.and_then(|limit| RateLimit::new(limit, 0)),
        }
    }
}

fn date(at: Timestamp) -> String {
    let date = OffsetDateTime::from_unix_timestamp(at.0.div_euclid(1000)).ok();
    date.and_then(|date| date.format(&Rfc3339).ok()).unwrap_or_else(|| at.0.to_string())
}
