//! Investigation as its callers see it: the real server on a free port, over SQLite, with a graph service of the test's own.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "service/graph.rs"]
mod graph;
#[path = "service/harness.rs"]
mod harness;
#[path = "service/investigations.rs"]
mod investigations;
#[path = "service/verdicts.rs"]
mod verdicts;
#[path = "service/work.rs"]
mod work;
