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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tower::Service;

use super::connection::{Activity, Patience, Verdict, Watched};
use crate::security::Tls;

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

/// What a connection that outlives its request (a WebSocket, a stream of events) has to know of the server; in every
/// request's extensions. Whoever holds it counts as a connection. The default one is of no server: nothing ends it.
#[derive(Debug, Clone, Default)]
pub(super) struct Lifeline {
    /// Fires when the server drains: say goodbye.
    pub(super) drain: CancellationToken,
    /// Fires when the drain's deadline has passed: end at once.
    pub(super) cut_off: CancellationToken,
    _held: Option<Arc<(TaskTrackerToken, OwnedSemaphorePermit)>>,
}

/// How the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut off because the deadline passed.
    pub cut_off: usize,
}

/// Serves `router` on `listener` until `shutdown` fires, then drains.
///
/// `tls` is looked at anew for every connection, so that certificates can change while this runs (whoever owns it calls
/// [`Tls::reload_if_changed`]); `None` serves plain HTTP.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    router: Router,
    options: ServerOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Drained {
    let permits = Arc::new(Semaphore::new(options.max_connections.clamp(1, Semaphore::MAX_PERMITS)));
    let tasks = TaskTracker::new();
    let host =
        Arc::new(Host { tls, router, options, drain: CancellationToken::new(), cut_off: CancellationToken::new() });
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            // Ready together, shutting down goes first.
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let Some((stream, address, permit)) = accepted else { break };
        let lifeline = Lifeline {
            drain: host.drain.clone(),
            cut_off: host.cut_off.clone(),
            // One of both for a connection, however many requests hold it: they count it.
            _held: Some(Arc::new((tasks.token(), permit))),
        };
        tokio::spawn(Arc::clone(&host).connection(stream, address, lifeline));
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
    tls: Option<Arc<Tls>>,
    router: Router,
    options: ServerOptions,
    /// Finish what is in flight, then close.
    drain: CancellationToken,
    /// Close now.
    cut_off: CancellationToken,
}

impl Host {
    async fn connection(self: Arc<Self>, stream: TcpStream, address: SocketAddr, lifeline: Lifeline) {
        tokio::select! {
            () = self.cut_off.cancelled() => {}
            () = self.converse(stream, address, lifeline) => {}
        }
    }

    async fn converse(&self, stream: TcpStream, address: SocketAddr, lifeline: Lifeline) {
        // Answers are small and complete: waiting for more to send would only add delay.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            let Some(http2) = self.before_drain(self.options.header_read_timeout, speaks_http2(&stream)).await else {
                return;
            };
            let peer = Peer { address, tls: false, client_certificate: false };
            return self.requests(stream, peer, http2, lifeline).await;
        };
        let acceptor = TlsAcceptor::from(tls.server_config());
        let Some(handshake) = self.before_drain(self.options.handshake_timeout, acceptor.accept(stream)).await else {
            return;
        };
        match handshake {
            Ok(stream) => {
                let session = stream.get_ref().1;
                let http2 = session.alpn_protocol() == Some(b"h2");
                let client_certificate = session.peer_certificates().is_some();
                let peer = Peer { address, tls: true, client_certificate };
                Box::pin(self.requests(stream, peer, http2, lifeline)).await;
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

    async fn requests<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
        peer: Peer,
        http2: bool,
        lifeline: Lifeline,
    ) {
        let patience = Patience { head: self.options.header_read_timeout, silence: self.options.keep_alive };
        let activity = Activity::new(http2, Instant::now());
        let router = self.router.clone();
        let service_activity = Arc::clone(&activity);
        let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
            let in_flight = service_activity.request_started();
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(lifeline.clone());
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use axum::Extension;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::{Notify, oneshot};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::security::TlsOptions;

    struct Running {
        address: SocketAddr,
        stop: Option<oneshot::Sender<()>>,
        server: JoinHandle<Drained>,
    }

    impl Running {
        async fn start(router: Router, tls: Option<Arc<Tls>>, options: ServerOptions) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = oneshot::channel::<()>();
            let shutdown = async move {
                let _ = stopped.await;
            };
            let server = tokio::spawn(serve(listener, tls, router, options, shutdown));
            Self { address, stop: Some(stop), server }
        }

        fn stop(&mut self) {
            let _ = self.stop.take().unwrap().send(());
        }
    }

    fn peer_router() -> Router {
        let handler = |Extension(peer): Extension<Peer>, version: http::Version| async move {
            format!("{version:?} {} {}", peer.tls, peer.client_certificate)
        };
        Router::new().route("/", get(handler))
    }

    /// Answers once it is told to; says when a request has come in.
    fn waiting_router() -> (Router, Arc<Notify>, Arc<Notify>) {
        let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (handler_entered, handler_go) = (Arc::clone(&entered), Arc::clone(&go));
        let handler = move || async move {
            handler_entered.notify_one();
            handler_go.notified().await;
            "done"
        };
        (Router::new().route("/", get(handler)), entered, go)
    }

    fn write_certificate(dir: &Path, name: &str) -> rcgen::Certificate {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        made.cert
    }

    fn load_tls(dir: &Path) -> Arc<Tls> {
        let options = TlsOptions { cert: dir.join("cert.pem"), key: dir.join("key.pem"), client_ca: None };
        Arc::new(Tls::load(options).unwrap())
    }

    fn plain_client() -> reqwest::ClientBuilder {
        // Another test may have been faster.
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder().no_proxy()
    }

    fn client(cert: &rcgen::Certificate, address: SocketAddr) -> reqwest::ClientBuilder {
        plain_client()
            .tls_certs_only([reqwest::Certificate::from_der(cert.der()).unwrap()])
            .resolve("upnext.test", address)
    }

    #[tokio::test]
    async fn both_versions_of_http_are_spoken_over_tls() {
        let dir = tempfile::tempdir().unwrap();
        let cert = write_certificate(dir.path(), "upnext.test");
        let server = Running::start(peer_router(), Some(load_tls(dir.path())), ServerOptions::default()).await;
        let url = format!("https://upnext.test:{}/", server.address.port());
        let http2 = client(&cert, server.address).build().unwrap();
        assert_eq!(http2.get(&url).send().await.unwrap().text().await.unwrap(), "HTTP/2.0 true false");
        let http1 = client(&cert, server.address).http1_only().build().unwrap();
        assert_eq!(http1.get(&url).send().await.unwrap().text().await.unwrap(), "HTTP/1.1 true false");
    }

    #[tokio::test]
    async fn a_new_certificate_counts_without_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let old = write_certificate(dir.path(), "upnext.test");
        let tls = load_tls(dir.path());
        let server = Running::start(peer_router(), Some(Arc::clone(&tls)), ServerOptions::default()).await;
        let url = format!("https://upnext.test:{}/", server.address.port());
        assert!(client(&old, server.address).build().unwrap().get(&url).send().await.is_ok());
        let new = write_certificate(dir.path(), "upnext.test");
        tls.reload(crate::domain::Timestamp(0)).unwrap();
        assert!(client(&new, server.address).build().unwrap().get(&url).send().await.is_ok());
        assert!(client(&old, server.address).build().unwrap().get(&url).send().await.is_err());
    }

    #[tokio::test]
    async fn without_tls_the_first_bytes_tell_the_version() {
        let server = Running::start(peer_router(), None, ServerOptions::default()).await;
        let url = format!("http://{}/", server.address);
        let http1 = plain_client().build().unwrap();
        assert_eq!(http1.get(&url).send().await.unwrap().text().await.unwrap(), "HTTP/1.1 false false");
        let http2 = plain_client().http2_prior_knowledge().build().unwrap();
        assert_eq!(http2.get(&url).send().await.unwrap().text().await.unwrap(), "HTTP/2.0 false false");
    }

    #[tokio::test]
    async fn a_drain_lets_requests_in_flight_finish_and_nobody_else_in() {
        for http2 in [false, true] {
            let (router, entered, go) = waiting_router();
            let mut server = Running::start(router, None, ServerOptions::default()).await;
            let builder = plain_client();
            let client = if http2 { builder.http2_prior_knowledge() } else { builder }.build().unwrap();
            let request = tokio::spawn(client.get(format!("http://{}/", server.address)).send());
            // Without a request on it; must not hold up the drain.
            let mut idle = TcpStream::connect(server.address).await.unwrap();
            entered.notified().await;
            server.stop();
            assert_eq!(idle.read(&mut [0; 1]).await.unwrap_or(0), 0, "an idle connection is closed at once");
            assert!(TcpStream::connect(server.address).await.is_err(), "the listener is closed");
            go.notify_one();
            assert_eq!(request.await.unwrap().unwrap().text().await.unwrap(), "done");
            drop(client);
            assert_eq!(server.server.await.unwrap(), Drained { cut_off: 0 });
        }
    }

    #[tokio::test]
    async fn a_request_that_outlasts_the_drain_is_cut_off() {
        let (router, entered, _go) = waiting_router();
        let options = ServerOptions { drain_deadline: Duration::from_millis(50), ..ServerOptions::default() };
        let mut server = Running::start(router, None, options).await;
        let client = plain_client().build().unwrap();
        let request = tokio::spawn(client.get(format!("http://{}/", server.address)).send());
        entered.notified().await;
        server.stop();
        assert_eq!(server.server.await.unwrap(), Drained { cut_off: 1 });
        assert!(request.await.unwrap().is_err());
    }

    async fn closed(stream: &mut TcpStream) -> bool {
        matches!(stream.read(&mut [0; 64]).await, Ok(0) | Err(_))
    }

    #[tokio::test]
    async fn a_client_that_dawdles_over_its_head_is_closed() {
        let options = ServerOptions { header_read_timeout: Duration::from_millis(100), ..ServerOptions::default() };
        let server = Running::start(peer_router(), None, options).await;
        for start in ["", "P", "GET / HTTP/1.1\r\nhost: a\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let mut slow = TcpStream::connect(server.address).await.unwrap();
            slow.write_all(start.as_bytes()).await.unwrap();
            let mut all = Vec::new();
            let read = timeout(Duration::from_secs(20), slow.read_to_end(&mut all)).await;
            assert!(read.is_ok(), "{start:?} is still open");
        }
        // A byte now and then does not help.
        let mut slow = TcpStream::connect(server.address).await.unwrap();
        let dripping = async {
            while slow.write_all(b"G").await.is_ok() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(timeout(Duration::from_secs(20), dripping).await.is_ok());
    }

    #[tokio::test]
    async fn a_connection_may_pause_between_requests_but_not_for_ever() {
        let options = ServerOptions {
            header_read_timeout: Duration::from_millis(100),
            keep_alive: Duration::from_millis(600),
            ..ServerOptions::default()
        };
        let server = Running::start(peer_router(), None, options).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        for _ in 0..2 {
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            let mut buffer = [0; 1024];
            let n = stream.read(&mut buffer).await.unwrap();
            assert!(buffer[..n].starts_with(b"HTTP/1.1 200"));
            sleep(Duration::from_millis(250)).await;
        }
        assert!(timeout(Duration::from_secs(20), closed(&mut stream)).await.unwrap());
    }

    #[tokio::test]
    async fn tls_must_be_agreed_on_in_time() {
        let dir = tempfile::tempdir().unwrap();
        write_certificate(dir.path(), "upnext.test");
        let options = ServerOptions { handshake_timeout: Duration::from_millis(100), ..ServerOptions::default() };
        let server = Running::start(peer_router(), Some(load_tls(dir.path())), options).await;
        let mut silent = TcpStream::connect(server.address).await.unwrap();
        assert!(timeout(Duration::from_secs(20), closed(&mut silent)).await.unwrap());
        let mut plain = TcpStream::connect(server.address).await.unwrap();
        plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _: io::Result<usize> = plain.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP"), "plain text is not answered on a TLS port");
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait_until_one_ends() {
        let options = ServerOptions { max_connections: 1, ..ServerOptions::default() };
        let server = Running::start(peer_router(), None, options).await;
        let ask = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let mut buffer = [0; 1024];
        let mut first = TcpStream::connect(server.address).await.unwrap();
        first.write_all(ask).await.unwrap();
        assert!(first.read(&mut buffer).await.unwrap() > 0);
        let mut second = TcpStream::connect(server.address).await.unwrap();
        second.write_all(ask).await.unwrap();
        let early = timeout(Duration::from_millis(200), second.read(&mut buffer)).await;
        assert!(early.is_err(), "the second one is answered while the first is open");
        drop(first);
        assert!(timeout(Duration::from_secs(20), second.read(&mut buffer)).await.unwrap().unwrap() > 0);
    }
}
