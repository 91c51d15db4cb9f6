//! What do the tests need to talk to a server? The server itself, a client, and a small world to fill it with.

pub(crate) mod answer;
pub(crate) mod client;
pub(crate) mod command;
pub(crate) mod server;
pub(crate) mod socket;
pub(crate) mod tls;
pub(crate) mod world;

use std::future::Future;
use std::sync::{Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

pub(crate) use self::answer::{Answer, all_ids, ids, list, number, probabilities, text};
pub(crate) use self::client::Client;
pub(crate) use self::server::{Server, Setup, Stopped};
pub(crate) use self::world::World;

/// One runtime for all servers and clients of this process, so that a test may block while they go on.
pub(crate) fn tokio() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap())
}

/// No test is timed; one that waits for ever must fail, and say so, before everything else is stopped with it.
const PATIENCE: Duration = Duration::from_secs(900);

/// Runs a test's body.
pub(crate) fn run<T>(body: impl Future<Output = T>) -> T {
    tokio().block_on(async { tokio::time::timeout(PATIENCE, body).await.expect("the test ends") })
}

/// A server with the [`World`] in it, for tests that change nothing that others can see. It lives as long as somebody
/// holds it, so that it is stopped and its folder removed at the end.
pub(crate) fn shared() -> std::sync::Arc<Server> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = shared.upgrade() {
        return server;
    }
    let server = std::sync::Arc::new(Setup::default().start());
    run(World::get().load(&server));
    *shared = std::sync::Arc::downgrade(&server);
    server
}
