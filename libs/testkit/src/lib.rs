//! What tests start and throw away: databases, object stores, services as real processes, and clients of them.
//!
//! Whatever a test needs and does not find is a panic with the way out of it; nothing is ever skipped.
//!
//! | module | holds |
//! |---|---|
//! | [`postgres`], [`redis`], [`s3`] | stores |
//! | [`keys`] | the keys of an installation |
//! | [`process`] | a child process with its log; where the project's binaries are |
//! | [`services`] | the five services as five processes |
//! | [`standalone`] | `gumshoe serve`, all five in one process |
//! | [`account`] | an account with a graph and an administrator |
//! | [`client`] | a caller with a bearer token |
//! | [`command`] | the `gumshoe` command line |
//!
//! | environment | what | default |
//! |---|---|---|
//! | `GUMSHOE_TEST_POSTGRES` | a server where databases can be created | `postgres://postgres@127.0.0.1:5432/postgres` |
//! | `GUMSHOE_TEST_REDIS` | a Redis server | `redis://127.0.0.1:6379` |
//! | `GUMSHOE_TEST_MOTO` | the program `moto_server` | the one in `PATH` |
//! | `GUMSHOE_TEST_BINARIES` | the folder of the project's binaries | that of the running test |
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "in a test, a panic is the message")]

pub mod account;
pub mod client;
pub mod command;
pub mod keys;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod s3;
pub mod services;
pub mod standalone;

pub use account::Account;
pub use client::{Batch, Client};
pub use command::Cli;
pub use keys::Keys;
pub use postgres::PostgresDatabase;
pub use process::Process;
pub use redis::Redis;
pub use s3::S3;
pub use services::{Installation, Processes, Service};
pub use standalone::Standalone;

/// The value of an environment variable, or a default.
fn environment(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}
