//! The `gumshoe-membership` process.
fn main() {}
