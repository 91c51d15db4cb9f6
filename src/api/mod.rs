//! The only module that knows HTTP.
