//! How is the service doing? Metrics and logs.
