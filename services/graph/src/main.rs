//! The `gumshoe-graph` process.
fn main() {}
