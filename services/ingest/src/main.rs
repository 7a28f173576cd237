//! The `gumshoe-ingest` process.
fn main() {}
