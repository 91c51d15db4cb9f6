//! Who is let in, and how does the house empty? The accept loop, TLS and the graceful drain.
//!
//! HTTP/1.1 and HTTP/2 by ALPN over TLS; without TLS (loopback, or behind a proxy that ends it) by the first bytes.
//! [`serve`] returns when `shutdown` has fired and every connection is finished, or the drain's deadline has passed.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::connection::{Activity, Patience, Verdict, Watched};

/// The first bytes of an HTTP/2 connection.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// For how long a silent connection may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

/// The bounds of the server.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// At most this many connections at a time; further ones wait in the kernel's queue until one ends.
    pub max_connections: usize,
    /// From a connection's first byte to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// From the first byte of a request's head to its last.
    pub header_read_timeout: Duration,
    /// A connection on which no byte has moved for so long is closed; longer than any request may take.
    pub keep_alive: Duration,
    /// HTTP/2 requests at a time on one connection.
    pub max_concurrent_streams: u32,
    /// For how long requests in flight may go on after `shutdown`.
    pub drain_deadline: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            handshake_timeout: Duration::from_secs(10),
            header_read_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            max_concurrent_streams: 256,
            drain_deadline: Duration::from_secs(25),
        }
    }
}

/// Who is at the other end; in every request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The address of the client or of the last proxy.
    pub address: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Whether the client showed a certificate (which the TLS settings then have verified).
    pub client_certificate: bool,
}

/// How the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut off because the deadline passed.
    pub cut_off: usize,
}

/// Serves `router` on `listener` until `shutdown` fires, then drains.
///
/// `tls` is rustls's configuration with a certificate resolver (so that certificates can change while this runs) and
/// ALPN `h2`, `http/1.1`; `None` serves plain HTTP.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    options: ServerOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Drained {
    let permits = Arc::new(Semaphore::new(options.max_connections.clamp(1, Semaphore::MAX_PERMITS)));
    let tasks = TaskTracker::new();
    let host = Arc::new(Host {
        tls: tls.map(TlsAcceptor::from),
        router,
        options,
        drain: CancellationToken::new(),
        cut_off: CancellationToken::new(),
    });
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            // Ready together, shutting down goes first.
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let Some((stream, address, permit)) = accepted else { break };
        tasks.spawn(Arc::clone(&host).connection(stream, address, permit));
    }
    // Closes the socket: from here on, load balancers go elsewhere.
    drop(listener);
    host.drain.cancel();
    tasks.close();
    tracing::info!(connections = tasks.len(), "draining");
    if timeout(host.options.drain_deadline, tasks.wait()).await.is_ok() {
        return Drained { cut_off: 0 };
    }
    let cut_off = tasks.len();
    tracing::warn!(connections = cut_off, "the drain's deadline passed, cutting connections off");
    host.cut_off.cancel();
    tasks.wait().await;
    Drained { cut_off }
}

/// The next connection and its permit; `None` if there can be no more.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => return Some((stream, address, permit)),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of file descriptors, most likely: trying again at once would only burn the processor.
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// What all connections share.
struct Host {
    tls: Option<TlsAcceptor>,
    router: Router,
    options: ServerOptions,
    /// Finish what is in flight, then close.
    drain: CancellationToken,
    /// Close now.
    cut_off: CancellationToken,
}

impl Host {
    async fn connection(self: Arc<Self>, stream: TcpStream, address: SocketAddr, _permit: OwnedSemaphorePermit) {
        tokio::select! {
            () = self.cut_off.cancelled() => {}
            () = self.converse(stream, address) => {}
        }
    }

    async fn converse(&self, stream: TcpStream, address: SocketAddr) {
        // Answers are small and complete: waiting for more to send would only add delay.
        let _ = stream.set_nodelay(true);
        let Some(acceptor) = &self.tls else {
            let Some(http2) = self.before_drain(self.options.header_read_timeout, speaks_http2(&stream)).await else {
                return;
            };
            let peer = Peer { address, tls: false, client_certificate: false };
            return self.requests(stream, peer, http2).await;
        };
        let Some(handshake) = self.before_drain(self.options.handshake_timeout, acceptor.accept(stream)).await else {
            return;
        };
        match handshake {
            Ok(stream) => {
                let session = stream.get_ref().1;
                let http2 = session.alpn_protocol() == Some(b"h2");
                let client_certificate = session.peer_certificates().is_some();
                Box::pin(self.requests(stream, Peer { address, tls: true, client_certificate }, http2)).await;
            }
            Err(error) => tracing::debug!(%error, "no TLS handshake"),
        }
    }

    /// `work`'s outcome, unless it takes longer than `limit` or the drain begins.
    async fn before_drain<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.drain.cancelled() => None,
            outcome = timeout(limit, work) => outcome.ok(),
        }
    }

    async fn requests<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, stream: S, peer: Peer, http2: bool) {
        let patience = Patience { head: self.options.header_read_timeout, silence: self.options.keep_alive };
        let activity = Activity::new(http2, Instant::now());
        let router = self.router.clone();
        let service_activity = Arc::clone(&activity);
        let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
            let in_flight = service_activity.request_started();
            request.extensions_mut().insert(peer);
            let answer = router.clone().call(request);
            async move {
                let answer = answer.await;
                drop(in_flight);
                answer
            }
        });
        let builder = self.builder(http2);
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
        let mut connection = pin!(builder.serve_connection_with_upgrades(io, service));
        let mut closing = false;
        let mut look_at = Instant::now();
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(error, "a connection broke off");
                    }
                    return;
                }
                () = self.drain.cancelled(), if !closing => {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = sleep_until(look_at) => match activity.verdict(patience, Instant::now()) {
                    Verdict::Wait(at) => look_at = at,
                    Verdict::HeadLate => return,
                    Verdict::Silent if closing => return,
                    Verdict::Silent => {
                        closing = true;
                        connection.as_mut().graceful_shutdown();
                        look_at = Instant::now() + FAREWELL;
                    }
                },
            }
        }
    }

    fn builder(&self, http2: bool) -> auto::Builder<TokioExecutor> {
        // The protocol is known by now; letting the builder look at the first bytes would have no time limit.
        let builder = auto::Builder::new(TokioExecutor::new());
        let mut builder = if http2 { builder.http2_only() } else { builder.http1_only() };
        builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(64 * 1024);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.options.max_concurrent_streams)
            .max_header_list_size(32 * 1024)
            .keep_alive_interval(Some(Duration::from_secs(20)))
            .keep_alive_timeout(Duration::from_secs(20));
        builder
    }
}

/// Whether a client without TLS opens with HTTP/2's preface. Looks without taking.
async fn speaks_http2(stream: &TcpStream) -> bool {
    let mut first = [0_u8; HTTP2_PREFACE.len()];
    loop {
        match stream.peek(&mut first).await {
            Ok(0) | Err(_) => return false,
            Ok(n) if first[..n] != HTTP2_PREFACE[..n] => return false,
            Ok(n) if n == HTTP2_PREFACE.len() => return true,
            // Part of it. Looking does not wait for more than is there, so pause for a moment.
            Ok(_) => sleep(Duration::from_millis(5)).await,
        }
    }
}
