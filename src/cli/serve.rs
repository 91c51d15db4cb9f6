//! `upnext serve`: the service itself.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{CliError, Common, start_tracing, tokio_runtime};
use crate::app::App;
use crate::config::{Settings, TlsMode};
use crate::domain::SystemClock;
use crate::engine::{Progress, Recovered, Step};

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
        let _traces = start_tracing(&settings)?;
        let prepared = App::prepare(settings.clone(), Arc::new(SystemClock))?;
        tokio_runtime()?.block_on(async {
            let (listener, shutdown) = listen(&settings).await?;
            let address = listener.local_addr().map_err(CliError::io(settings.server.bind))?;
            let (began, scheme) = (Instant::now(), scheme(&settings));
            let ready = |app: &App| {
                let Recovered { items, events, .. } = app.recovered();
                let took_s = began.elapsed().as_secs_f64();
                tracing::info!(%address, items, events, took_s, "serving on {scheme}://{address}");
            };
            let drained = prepared.serve(listener, progress_log(), ready, shutdown).await?;
            tracing::info!(cut_off = drained.cut_off, "stopped");
            Ok(())
        })
    }
}

/// Serves on the configured address until SIGTERM or SIGINT; `ready` is called once connections are accepted.
pub(super) async fn serve(app: App, settings: &Settings, ready: impl FnOnce(SocketAddr)) -> Result<(), CliError> {
    let (listener, shutdown) = listen(settings).await?;
    ready(listener.local_addr().map_err(CliError::io(settings.server.bind))?);
    let drained = app.serve(listener, shutdown).await;
    tracing::info!(cut_off = drained.cut_off, "stopped");
    Ok(())
}

/// A listener on the configured address, and what fires on SIGTERM or SIGINT.
async fn listen(settings: &Settings) -> Result<(TcpListener, impl Future<Output = ()> + Send + use<>), CliError> {
    let bind = settings.server.bind;
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::io("signals"))?;
    let listener = TcpListener::bind(bind).await.map_err(CliError::io(bind))?;
    let address = listener.local_addr().map_err(CliError::io(bind))?;
    tracing::info!("listening on {}://{address}", scheme(settings));
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!("stopping: no new connections, requests in flight may finish");
    };
    Ok((listener, shutdown))
}

/// `https`, or `http` where TLS is off.
pub(super) fn scheme(settings: &Settings) -> &'static str {
    if settings.server.tls.mode == TlsMode::Off { "http" } else { "https" }
}

/// Tells the log how far a start has come: every step, and within one at most once in so long.
pub(super) fn progress_log() -> impl FnMut(Progress) -> ControlFlow<()> + Send + use<> {
    const EVERY: Duration = Duration::from_secs(2);
    let mut told: Option<(Step, Instant)> = None;
    move |Progress { step, done, total }| {
        if told.is_none_or(|(last, at)| last != step || at.elapsed() >= EVERY) {
            told = Some((step, Instant::now()));
            tracing::info!(step = step.name(), done, total, "starting");
        }
        ControlFlow::Continue(())
    }
}
