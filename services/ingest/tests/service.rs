//! The service behind a real listener, committing to a graph service of the test's own.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "service/harness.rs"]
mod harness;
#[path = "service/push.rs"]
mod push;
#[path = "service/rules.rs"]
mod rules;
#[path = "service/s3.rs"]
mod s3;
#[path = "service/sources.rs"]
mod sources;
