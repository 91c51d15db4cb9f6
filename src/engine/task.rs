//! Where does work run that a client cannot cancel, or that blocks? In tasks and on threads of its own.

use tokio::sync::oneshot;

use super::EngineError;

/// Runs a write in a task of its own, which calls what it is given once the write has its place in the queue. Gives what
/// became of it, or `None` if it was not to be waited for and has its place.
pub(super) async fn queued<T, W>(
    wait: bool,
    write: impl FnOnce(Box<dyn FnOnce() + Send>) -> W,
) -> Result<Option<T>, EngineError>
where
    T: Send + 'static,
    W: Future<Output = Result<T, EngineError>> + Send + 'static,
{
    let (accepted, hear) = oneshot::channel();
    let work = write(Box::new(move || {
        // Nobody may be listening.
        let _ = accepted.send(());
    }));
    if wait {
        return detached(work).await.map(Some);
    }
    let task = tokio::spawn(async move {
        let outcome = work.await;
        if let Err(error) = &outcome {
            tracing::error!(%error, "a write that nobody waited for failed");
        }
        outcome
    });
    match hear.await {
        Ok(()) => Ok(None),
        // It ended before it had its place.
        Err(_) => task.await.map_err(|e| EngineError::Internal(format!("a write stopped: {e}")))?.map(Some),
    }
}

/// Runs `work` in a task of its own, which goes on when the caller is cancelled: what has been appended must be applied.
pub(super) async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, EngineError>> + Send + 'static,
) -> Result<T, EngineError> {
    tokio::spawn(work).await.map_err(|e| EngineError::Internal(format!("a write stopped: {e}")))?
}

/// Runs what blocks on a thread that may be blocked.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| EngineError::Internal(format!("work stopped midway: {e}")))?
}
