//! UpNext answers one question, fast: what will this person want next, within 15, 30 and 60 seconds?
//!
//! A frame becomes a list in the order of these lines:
//!
//! - `api` receives bytes over HTTPS,
//! - `vision` turns them into a picture,
//! - `inference` turns the picture into an embedding,
//! - `session` keeps the trajectory of a viewer's embeddings,
//! - `index` finds items that look alike, `collab` those that people turn to next,
//! - `ranking` turns all of that into probabilities, one list for each horizon.
//!
//! `engine` joins the parts, `store` keeps what must not be lost, `app` puts everything together.

pub mod domain;

pub mod vision;

pub mod inference;

pub mod session;

pub mod index;

pub mod collab;

pub mod ranking;

pub mod store;

pub mod security;

pub mod telemetry;

pub mod config;

pub mod engine;

pub mod api;

pub mod simulation;

pub mod evaluation;

pub mod app;

pub mod cli;
