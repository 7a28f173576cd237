//! The `gumshoe-gateway` process.
fn main() {}
