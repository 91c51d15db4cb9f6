//! What can be asked from outside, and how? The only module that knows HTTP.
//!
//! [`router`] is every route with its middleware around it; [`serve`] runs it on a listener, with TLS, until it is
//! told to stop. Handlers translate: they read a request into the engine's words and write the outcome down.
//! Whatever goes wrong becomes a problem (RFC 9457) from one table.

mod admission;
mod asyncapi;
mod auth;
mod caller;
mod connection;
mod console;
mod extract;
#[cfg(fuzzing)]
pub mod fuzzing;
mod lines;
mod live;
mod middleware;
mod openapi;
mod options;
mod problem;
mod router;
mod routes;
mod server;
mod starting;
mod state;
mod wire;

pub use options::{ApiOptions, CorsOrigins, Limits, LiveOptions};
pub use problem::{ApiError, FieldError, Problem, StartReport};
pub use router::{openapi, router};
pub use server::{Drained, Peer, ServerOptions, serve};
pub use starting::Starting;
pub use state::{Access, AppState};
