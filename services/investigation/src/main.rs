//! The `gumshoe-investigation` process.
fn main() {}
