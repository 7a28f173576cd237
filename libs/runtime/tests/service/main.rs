//! The chassis under a real server and real clients.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod echo;
mod health;
mod inside;
mod limits;
mod principal;
mod shutdown;
mod tls;
mod trace;
