//! Does the whole service do what its documents say? Every test here talks to a real server over a real socket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;
mod switching;

mod architecture;
mod certificates;
mod console;
mod deadlines;
mod evaluate;
mod export;
mod faults;
mod frames;
mod import;
mod items;
mod keys;
mod kill;
mod learning;
mod live;
mod model_commands;
mod models;
mod monitoring;
mod online;
mod operations;
mod privacy;
mod projection;
mod restart;
mod robustness;
mod search;
mod starting;
mod storage;
mod storage_format;
mod tokens;
mod traces;
mod watch;
