//! What must survive a crash? The log, the catalogue and the secrets on disk.
