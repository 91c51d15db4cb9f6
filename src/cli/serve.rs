//! `upnext serve`: the service itself.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{CliError, Common, start_logging, tokio_runtime};
use crate::app::App;
use crate::config::{Settings, TlsMode};
use crate::domain::SystemClock;
use crate::engine::Recovered;

/// Serve until the process is told to stop
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Address and port; short for `--set server.bind=ADDRESS`
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<SocketAddr>,
}

impl Serve {
    pub(super) fn run(self, common: &Common) -> Result<(), CliError> {
        let mut sources = common.sources();
        sources.overrides.extend(self.bind.map(|bind| format!("server.bind={bind}")));
        let settings = Settings::load(&sources)?.settings;
        start_logging(&settings)?;
        let app = App::build(settings.clone(), Arc::new(SystemClock), log_progress)?;
        let recovered = app.recovered();
        tracing::info!(items = recovered.items, events = recovered.events, "recovered");
        tokio_runtime()?.block_on(serve(app, &settings, |_| {}))
    }
}

/// Serves on the configured address until SIGTERM or SIGINT; `ready` is called once connections are accepted.
pub(super) async fn serve(app: App, settings: &Settings, ready: impl FnOnce(SocketAddr)) -> Result<(), CliError> {
    let bind = settings.server.bind;
    let listener = TcpListener::bind(bind).await.map_err(CliError::io(bind))?;
    let address = listener.local_addr().map_err(CliError::io(bind))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::io("signals"))?;
    let scheme = scheme(settings);
    tracing::info!(%address, "serving on {scheme}://{address}");
    ready(address);
    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!("stopping: no new connections, requests in flight may finish");
    };
    let drained = app.serve(listener, shutdown).await;
    tracing::info!(cut_off = drained.cut_off, "stopped");
    Ok(())
}

/// `https`, or `http` where TLS is off.
pub(super) fn scheme(settings: &Settings) -> &'static str {
    if settings.server.tls.mode == TlsMode::Off { "http" } else { "https" }
}

/// Tells the log how far a start has come.
pub(super) fn log_progress(recovered: &Recovered) {
    tracing::info!(items = recovered.items, events = recovered.events, "recovering");
}
