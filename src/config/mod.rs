//! What did the operator decide? Typed settings from defaults, file, environment and flags.
