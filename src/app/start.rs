//! How does the service answer while it starts? From a small router at first, from the full one as soon as it is there.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{App, AppError, Prepared, api_options};
use crate::api::{Drained, Starting};
use crate::engine::Progress;
use crate::store::StoreError;

impl Prepared {
    /// Serves on `listener` at once. Until all parts are made, everything but `/livez` is answered 503 `starting`, and
    /// `/readyz` says how far the start is. `progress` hears of it too, and `ready` of its end. Connections live on.
    ///
    /// Returns when `shutdown` has fired, also in the middle of the start, and everything is drained and stopped; or,
    /// with the reason, when the start fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        progress: impl FnMut(Progress) -> ControlFlow<()> + Send + 'static,
        ready: impl FnOnce(&App),
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<Drained, AppError> {
        let rim = Arc::clone(&self.rim);
        let starting = Starting::new(&api_options(&rim.settings), &rim.metrics);
        let (stop, failed) = (CancellationToken::new(), CancellationToken::new());
        let started = self.start_aside(starting.clone(), stop.clone(), progress)?;
        let serving = rim.serve(listener, starting.router(), async {
            tokio::select! {
                () = shutdown => {}
                () = failed.cancelled() => {}
            }
            stop.cancel();
        });
        let handing_over = async {
            let outcome = tokio::select! {
                outcome = started => outcome.unwrap_or(Err(AppError::BrokeDown)),
                () = overdue(&stop, rim.drain_deadline()) => {
                    tracing::warn!("the start did not break off in time; the process ends without it");
                    Err(StoreError::Closed.into())
                }
            };
            match &outcome {
                Ok(app) => {
                    starting.hand_over(app.router());
                    ready(app);
                }
                Err(_) => failed.cancel(),
            }
            outcome
        };
        let (drained, outcome) = tokio::join!(serving, handing_over);
        match outcome {
            Ok(app) => app.stop_aside().await,
            // What a start that is broken off ends with.
            Err(AppError::Store(StoreError::Closed)) => {}
            Err(error) => return Err(error),
        }
        Ok(drained)
    }

    /// Starts in a thread of its own, which `stop` breaks off between two steps or within a long one.
    fn start_aside(
        self,
        starting: Starting,
        stop: CancellationToken,
        mut progress: impl FnMut(Progress) -> ControlFlow<()> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<App, AppError>>, AppError> {
        let (done, started) = oneshot::channel();
        let work = move || {
            let outcome = self.start(|at| {
                starting.tell(at);
                let flow = progress(at);
                if stop.is_cancelled() { ControlFlow::Break(()) } else { flow }
            });
            // Nobody waits any more: the process is about to end.
            if let Err(Ok(app)) = done.send(outcome) {
                app.stop();
            }
        };
        std::thread::Builder::new().name("upnext-start".into()).spawn(work).map_err(AppError::Thread)?;
        Ok(started)
    }
}

/// Returns when a start that was told to stop has had `patience`: opening a damaged database cannot be broken off.
async fn overdue(stop: &CancellationToken, patience: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(patience).await;
}
