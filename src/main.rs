//! UpNext.
fn main() {}
