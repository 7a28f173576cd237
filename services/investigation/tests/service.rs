//! Investigation as its callers see it: the real server on a free port, over SQLite, with a graph service and an AWS of the test's
//! own.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "service/aws.rs"]
mod aws;
#[path = "service/feedback.rs"]
mod feedback;
#[path = "service/graph.rs"]
mod graph;
#[path = "service/groups.rs"]
mod groups;
#[path = "service/harness.rs"]
mod harness;
#[path = "service/investigations.rs"]
mod investigations;
#[path = "service/suppressions.rs"]
mod suppressions;
#[path = "service/targets.rs"]
mod targets;
#[path = "service/triage.rs"]
mod triage;
#[path = "service/verdicts.rs"]
mod verdicts;
#[path = "service/work.rs"]
mod work;
