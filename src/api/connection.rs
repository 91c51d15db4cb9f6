//! Is anybody still there? Notices connections that hold a place without using it.
//!
//! Hyper's own header timeout also counts the quiet time between two requests, and covers neither a client that
//! agreed on HTTP/2 and then says nothing nor one that stops reading. So every byte passes a [`Watched`] stream,
//! and [`Activity`] says when a connection has been silent, or halfway through a request's head, for too long.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How long a connection may do nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From the first byte of a request's head to its last; also from the handshake to the first request.
    pub(super) head: Duration,
    /// Without a byte in either direction.
    pub(super) silence: Duration,
}

/// What to do about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing; look again at this instant.
    Wait(Instant),
    /// Close it at once: the head of a request is late.
    HeadLate,
    /// Close it politely: nothing has moved for long.
    Silent,
}

#[derive(Debug)]
struct State {
    last_byte: Instant,
    head_since: Option<Instant>,
    in_flight: usize,
}

/// What happens on one connection; shared by its stream, its service and its watcher.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    /// HTTP/2 frames arrive between requests too, so that only the first request can be late there.
    multiplexed: bool,
}

impl Activity {
    pub(super) fn new(multiplexed: bool, now: Instant) -> Arc<Self> {
        let state = State { last_byte: now, head_since: Some(now), in_flight: 0 };
        Arc::new(Self { state: Mutex::new(state), multiplexed })
    }

    /// A request's head is complete; keep the guard until its answer's head is made.
    pub(super) fn request_started(self: &Arc<Self>) -> InFlight {
        let mut state = self.state.lock();
        state.head_since = None;
        state.in_flight += 1;
        InFlight(Arc::clone(self))
    }

    pub(super) fn verdict(&self, patience: Patience, now: Instant) -> Verdict {
        let state = self.state.lock();
        let silent_at = state.last_byte + patience.silence;
        let late_at = state.head_since.map(|since| since + patience.head);
        if late_at.is_some_and(|at| at <= now) {
            Verdict::HeadLate
        } else if silent_at <= now {
            Verdict::Silent
        } else {
            Verdict::Wait(late_at.map_or(silent_at, |at| at.min(silent_at)))
        }
    }

    fn read(&self, now: Instant) {
        let mut state = self.state.lock();
        state.last_byte = now;
        if !self.multiplexed && state.in_flight == 0 && state.head_since.is_none() {
            state.head_since = Some(now);
        }
    }

    fn written(&self, now: Instant) {
        self.state.lock().last_byte = now;
    }
}

/// A request that is being worked on.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.state.lock().in_flight -= 1;
    }
}

/// A stream that tells [`Activity`] of every byte.
#[derive(Debug)]
pub(super) struct Watched<S> {
    inner: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S, activity: Arc<Activity>) -> Self {
        Self { inner, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.read(Instant::now());
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        if matches!(result, Poll::Ready(Ok(1..))) {
            self.activity.written(Instant::now());
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        if matches!(result, Poll::Ready(Ok(1..))) {
            self.activity.written(Instant::now());
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { head: Duration::from_secs(10), silence: Duration::from_secs(60) };

    #[test]
    fn a_head_must_come_in_time_but_a_quiet_pause_may_be_longer() {
        let start = Instant::now();
        let after = |s| start + Duration::from_secs(s);
        let activity = Activity::new(false, start);
        assert_eq!(activity.verdict(PATIENCE, after(9)), Verdict::Wait(after(10)));
        assert_eq!(activity.verdict(PATIENCE, after(10)), Verdict::HeadLate);
        let request = activity.request_started();
        activity.read(after(12));
        drop(request);
        assert_eq!(activity.verdict(PATIENCE, after(40)), Verdict::Wait(after(72)));
        activity.read(after(50));
        activity.read(after(59));
        assert_eq!(activity.verdict(PATIENCE, after(60)), Verdict::HeadLate, "counted from the head's first byte");
    }

    #[test]
    fn only_the_first_request_can_be_late_when_multiplexed() {
        let start = Instant::now();
        let after = |s| start + Duration::from_secs(s);
        let activity = Activity::new(true, start);
        assert_eq!(activity.verdict(PATIENCE, after(10)), Verdict::HeadLate);
        drop(activity.request_started());
        activity.read(after(50));
        assert_eq!(activity.verdict(PATIENCE, after(70)), Verdict::Wait(after(110)));
        activity.written(after(100));
        assert_eq!(activity.verdict(PATIENCE, after(160)), Verdict::Silent);
    }
}
