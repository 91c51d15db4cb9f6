//! Who takes the rows, or gives them? A server that runs already, or one of this process for as long as the command lasts.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::connection::Connection;
use super::serve::progress_log;
use super::{CliError, Common, output, start_logging};
use crate::app::App;
use crate::config::Settings;
use crate::domain::{Clock, SystemClock, UserId};
use crate::security::{KeyFile, NewKey, Scope};

/// A key that nobody revokes, because this process was killed, ends by itself.
const KEY_LIFETIME_S: f64 = 7.0 * 86_400.0;
const KEY_VARIABLE: &str = "UPNEXT_KEY";

/// Which server.
#[derive(Debug, Args)]
pub(super) struct TargetArgs {
    /// A running server, for example `https://localhost:8443`; without, the data folder is opened by this process, and
    /// no server may have it open
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// File with the API key, which needs the scope `ingest` for an import, and `admin` for an export and for an import
    /// with `user_key`; without, the environment variable `UPNEXT_KEY`
    #[arg(long, value_name = "FILE", requires = "url")]
    key_file: Option<PathBuf>,
    /// Certificates (PEM) to trust instead of the system's
    #[arg(long, value_name = "FILE", requires = "url")]
    cacert: Option<PathBuf>,
    /// Send the key even where the connection to another machine is not encrypted
    #[arg(long, requires = "url")]
    allow_http: bool,
}

/// What a server is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    Import,
    Export,
}

/// A server, not yet started if it is our own.
pub(super) struct Target {
    place: Place,
    secret: Vec<u8>,
}

enum Place {
    Remote(Connection),
    Own(Box<App>, TemporaryKey),
}

/// A server that takes requests.
pub(super) struct Running {
    pub(super) connection: Connection,
    own: Option<OwnServer>,
}

struct OwnServer {
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    /// Revoked when this is dropped.
    _key: TemporaryKey,
}

impl TargetArgs {
    /// The running server that was named, if one was.
    pub(super) fn remote(&self) -> Result<Option<Connection>, CliError> {
        let Some(url) = &self.url else { return Ok(None) };
        self.connect(url).map(|(connection, _)| Some(connection))
    }

    /// The server's address, or where the data folder is.
    pub(super) fn name(&self, common: &Common) -> Result<String, CliError> {
        if let Some(url) = &self.url {
            return Ok(url.trim_end_matches('/').to_owned());
        }
        let dir = common.settings()?.data_dir;
        Ok(std::path::absolute(&dir).unwrap_or(dir).display().to_string())
    }

    /// A connection to the running server `url`, and what only those know who may write there.
    fn connect(&self, url: &str) -> Result<(Connection, Vec<u8>), CliError> {
        let parsed = reqwest::Url::parse(url).map_err(|e| CliError::Failed(format!("{url}: {e}")))?;
        let local = match parsed.host_str().map(|host| host.trim_matches(['[', ']'])) {
            Some("localhost") => true,
            Some(host) => host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
            None => return Err(CliError::Failed(format!("{url}: has no host"))),
        };
        let key = match &self.key_file {
            Some(file) => Some(std::fs::read_to_string(file).map_err(CliError::io(file.display()))?),
            None => std::env::var(KEY_VARIABLE).ok(),
        };
        let key = key.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
        if parsed.scheme() != "https" && !local && key.is_some() && !self.allow_http {
            let reason =
                "would carry the key unencrypted over the network; use https, or --allow-http if that is meant";
            return Err(CliError::Failed(format!("{url}: {reason}")));
        }
        let mut builder = reqwest::Client::builder();
        if let Some(file) = &self.cacert {
            let pem = std::fs::read(file).map_err(CliError::io(file.display()))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|e| CliError::Failed(format!("{}: {e}", file.display())))?;
            builder = builder.tls_certs_only(certificates);
        }
        // Without a key there is nothing to keep secret from anybody who can reach the server.
        let secret = key.as_deref().unwrap_or_default().as_bytes().to_vec();
        Ok((Connection::new(builder, url, key.as_deref())?, secret))
    }
}

/// A connection to the running server `url`, for commands that have options of their own.
pub(super) fn connect_to(
    url: &str,
    key_file: Option<&std::path::Path>,
    cacert: Option<&std::path::Path>,
    allow_http: bool,
) -> Result<Connection, CliError> {
    let (key_file, cacert) = (key_file.map(Into::into), cacert.map(Into::into));
    let args = TargetArgs { url: None, key_file, cacert, allow_http };
    args.connect(url).map(|(connection, _)| connection)
}

impl Target {
    /// Checks what was said about a server, or builds one on the settings' data folder.
    pub(super) fn prepare(args: &TargetArgs, common: &Common, errand: Errand) -> Result<Self, CliError> {
        match &args.url {
            Some(url) => {
                let (connection, secret) = args.connect(url)?;
                Ok(Self { place: Place::Remote(connection), secret })
            }
            None => Self::own(common, errand),
        }
    }

    fn own(common: &Common, errand: Errand) -> Result<Self, CliError> {
        let mut sources = common.sources();
        if !sources.environment.iter().any(|(name, _)| name == "UPNEXT__TELEMETRY__LOG_FILTER") {
            sources.overrides.insert(0, "telemetry.log_filter=warn".into());
        }
        // Reachable from this machine only, for as long as the command lasts, and only with a key that nobody sees.
        let private = ["server.bind=127.0.0.1:0", "server.tls.mode=off", "server.tls.client_auth=none"];
        let unhindered = ["security.require_keys=true", "security.rate_limit_per_s=0"];
        sources.overrides.extend(private.into_iter().chain(unhindered).map(String::from));
        let settings = Settings::load(&sources)?.settings;
        start_logging(&settings)?;
        let dir = settings.data_dir.clone();
        match errand {
            Errand::Import => std::fs::create_dir_all(&dir).map_err(CliError::io(dir.display()))?,
            Errand::Export if dir.is_dir() => {}
            Errand::Export => return Err(CliError::Failed(format!("there is no data folder {}", dir.display()))),
        }
        let key = TemporaryKey::create(KeyFile::in_dir(&dir), errand)?;
        let app = App::build(settings, Arc::new(SystemClock), progress_log())?;
        let label = UserId::new("upnext import ids").map_err(|e| CliError::Failed(e.to_string()))?;
        let secret = app.user_key(&label).0.to_vec();
        Ok(Self { place: Place::Own(Box::new(app), key), secret })
    }

    /// What only those know who may write there: the key, or the user secret's child.
    pub(super) fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// Starts our own server, if that is what it is.
    pub(super) async fn start(self) -> Result<Running, CliError> {
        let (app, key) = match self.place {
            Place::Remote(connection) => return Ok(Running { connection, own: None }),
            Place::Own(app, key) => (app, key),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(CliError::io("127.0.0.1:0"))?;
        let address = listener.local_addr().map_err(CliError::io("127.0.0.1:0"))?;
        let builder = reqwest::Client::builder().no_proxy();
        let connection = Connection::new(builder, &format!("http://{address}"), Some(&key.key))?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let shutdown = async {
                // An error means that the other end is gone, which is a reason to stop too.
                let _ = stopped.await;
            };
            app.serve(listener, shutdown).await;
        });
        Ok(Running { connection, own: Some(OwnServer { stop, serving, _key: key }) })
    }
}

impl Running {
    /// Ends our own server: what it accepted is written, and its key is of no use any more.
    pub(super) async fn stop(self) {
        // Closes the connections, for which the server would wait.
        drop(self.connection);
        let Some(own) = self.own else { return };
        // An error means that the server has stopped already.
        let _ = own.stop.send(());
        if let Err(error) = own.serving.await {
            output::complain(&format_args!("the server did not stop cleanly: {error}"));
        }
    }
}

/// A key that is revoked when it is dropped.
struct TemporaryKey {
    file: KeyFile,
    id: String,
    key: String,
}

impl TemporaryKey {
    fn create(file: KeyFile, errand: Errand) -> Result<Self, CliError> {
        let now = SystemClock.now();
        let name = match errand {
            Errand::Import => "import (temporary)",
            Errand::Export => "export (temporary)",
        };
        let new = NewKey {
            name: name.into(),
            // An export needs it, and an import of what an export said.
            scopes: std::iter::once(Scope::Admin).collect(),
            expires_at: Some(now.plus_seconds(KEY_LIFETIME_S)),
            rate_limit: None,
        };
        let created = file.create(new, now)?;
        let id = created.info.id.clone();
        Ok(Self { file, id, key: created.key })
    }
}

impl Drop for TemporaryKey {
    fn drop(&mut self) {
        if let Err(error) = self.file.revoke(&self.id, SystemClock.now()) {
            output::complain(&format_args!("the temporary key {} could not be revoked: {error}", self.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_does_not_travel_in_the_clear() {
        let dir = tempfile::tempdir().unwrap();
        let key_file = dir.path().join("key");
        std::fs::write(&key_file, "upn_1_x\n").unwrap();
        let remote = |url: &str, allow_http: bool| {
            let args = TargetArgs { url: None, key_file: Some(key_file.clone()), cacert: None, allow_http };
            args.connect(url).map(|_| ()).map_err(|e| e.to_string())
        };
        assert!(remote("http://tv.example.org:8443", false).unwrap_err().contains("https"));
        for (url, allow_http) in [
            ("http://tv.example.org", true),
            ("http://localhost:1", false),
            ("http://127.0.0.1:1", false),
            ("http://[::1]:1", false),
        ] {
            assert_eq!(remote(url, allow_http), Ok(()), "{url}");
        }
        assert!(remote("not a url", false).is_err());
    }
}
