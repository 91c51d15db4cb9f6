//! Embedding in, neighbours out: which items look like this?
