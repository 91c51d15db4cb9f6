//! `upnext keys`: who may ask, and what seals the data. Works while a server runs; it takes changes over within a second.

use clap::{Args, Subcommand};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::output::{line, note};
use super::{CliError, Common};
use crate::app;
use crate::domain::{Clock, SystemClock, Timestamp};
use crate::security::{ApiKeyInfo, KeyFile, NewKey, RateLimit, Scope, Scopes, SealingKeyInfo, SealingKeys};
use crate::store::{self, StoreError};

/// Make, list and revoke API keys; rotate the keys that seal the data
#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    /// Make a key and print it; it cannot be shown again
    Create(Create),
    /// List the API keys and the sealing keys, without their secrets
    List,
    /// Make an API key useless
    Revoke {
        /// The id of the key, as listed
        id: String,
    },
    /// Make a new sealing key, which seals what is stored from now on
    ///
    /// A running server takes it over within a second. What was stored before stays sealed under the former key, which is
    /// kept, until `upnext store rewrite` seals it anew. After that `upnext keys retire` can remove the former key.
    ///
    /// Keys that are set by `security.sealing_keys` or the variable `UPNEXT__SECURITY__SEALING_KEYS` cannot be changed
    /// from here. Then this prints the value that the setting must get, new key first; the server uses it from its next
    /// start.
    Rotate,
    /// Remove a sealing key that nothing is sealed under any more
    ///
    /// Run `upnext store rewrite` before: what is still sealed under the key cannot be read again, neither here nor in
    /// backups. Remove the key from the copies of the key file too, unless old backups are to stay readable.
    Retire {
        /// The id of the sealing key, as listed; not the active one
        id: u32,
        /// Needed, because it cannot be undone
        #[arg(long)]
        yes: bool,
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
        let settings = common.settings()?;
        let file = KeyFile::in_dir(&settings.data_dir);
        let security = &settings.security;
        let sealing =
            SealingKeys::new(&settings.data_dir, &security.sealing_keys, security.sealing_key_file.as_deref());
        let now = SystemClock.now();
        match self {
            Self::Create(create) => {
                let created = file.create(create.new_key(now), now)?;
                line(created.key);
            }
            Self::List => {
                let (keys, sealing_keys) = (file.list()?, sealing.list()?);
                keys.iter().for_each(|key| line(describe(key, now)));
                sealing_keys.iter().for_each(|key| line(describe_sealing(key)));
            }
            Self::Revoke { id } => {
                let key = file.revoke(&id, now)?;
                line(format_args!("revoked {} ({})", key.id, key.name));
            }
            Self::Rotate => rotate(&sealing, now)?,
            Self::Retire { id, yes } => {
                if !yes {
                    return Err(CliError::Failed(format!(
                        "what is still sealed under key {id} would be lost for ever; run `upnext store rewrite` first, \
                         then repeat this with --yes"
                    )));
                }
                let in_use =
                    || CliError::Failed(format!("something is still sealed under key {id}; rewrite the store first"));
                match store::is_in(&settings.data_dir).then(|| app::sealing_keys(&settings)) {
                    None => {}
                    Some(keys) => match store::verify_store(&settings.data_dir, &keys?) {
                        Ok(verified) if verified.sealing_keys.contains(&id) => return Err(in_use()),
                        // A server is at it; whoever says --yes has rewritten the store.
                        Ok(_) | Err(StoreError::Locked { .. }) => {}
                        Err(error) => return Err(error.into()),
                    },
                }
                let key = sealing.retire(id)?;
                line(format_args!("retired sealing key {}", key.id));
            }
        }
        Ok(())
    }
}

fn rotate(sealing: &SealingKeys, now: Timestamp) -> Result<(), CliError> {
    let made = sealing.rotate(now)?;
    let id = made.info.id;
    let then =
        "`upnext store rewrite` seals what was stored before anew; after that `upnext keys retire` removes former keys";
    match made.new_setting {
        None => {
            line(format_args!("sealing key {id} is the active one; running servers take it over within a second"));
            note(then);
        }
        Some(setting) => {
            note(
                "the sealing keys are set by security.sealing_keys, which cannot be changed from here; nothing is changed \
                 yet. Set it (UPNEXT__SECURITY__SEALING_KEYS) to the following, which is a secret, and start the server \
                 again",
            );
            line(setting);
            note(format_args!("then sealing key {id} is the active one; {then}"));
        }
    }
    Ok(())
}

fn describe(key: &ApiKeyInfo, now: Timestamp) -> String {
    let scopes: Vec<&str> = key.scopes.iter().map(Scope::name).collect();
    let state = match (key.revoked_at, key.expires_at) {
        (Some(at), _) => format!("revoked {}", date(at)),
        (None, Some(end)) if end <= now => format!("expired {}", date(end)),
        (None, Some(end)) => format!("until {}", date(end)),
        (None, None) => "no end".to_owned(),
    };
    let (id, scopes, made) = (&key.id, scopes.join(","), date(key.created_at));
    format!("{id}  {scopes:<32}  made {made}  {state:<30}  {}", key.name)
}

fn describe_sealing(key: &SealingKeyInfo) -> String {
    let made =
        key.created_at.map_or_else(|| "set by security.sealing_keys".to_owned(), |at| format!("made {}", date(at)));
    let use_ = if key.active { "active" } else { "for what was stored before" };
    format!("sealing key {}  {made}  {use_}", key.id)
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

pub(super) fn date(at: Timestamp) -> String {
    let date = OffsetDateTime::from_unix_timestamp(at.0.div_euclid(1000)).ok();
    date.and_then(|date| date.format(&Rfc3339).ok()).unwrap_or_else(|| at.0.to_string())
}
