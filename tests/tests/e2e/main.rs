//! The whole from outside: real processes, real stores, logs in, answers out.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "in a test, a panic is the message")]

mod engine;
mod five;
mod night;
mod one;
mod sdk;
