//! The `gumshoe` binary.
fn main() {}
