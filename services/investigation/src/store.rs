//! Where verdicts are kept.
//!
//! Each method is one transaction. Reads see every write that was acknowledged before. A graph's verdicts are seen
//! through that graph only.

use std::collections::HashMap;

use async_trait::async_trait;
use gumshoe_model::{GraphArn, Timestamp};

use crate::verdict::{FindingId, NewVerdict, Verdict};

pub mod sql;

#[cfg(test)]
mod conformance;

/// Why the store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The request id stands for another verdict.
    #[error("the request id was used for another verdict")]
    RequestReused,
    /// The schema is not the one that this program needs.
    #[error("the schema has version {found}, but {expected} is needed: run `migrate`")]
    SchemaVersion {
        /// What this program needs.
        expected: i64,
        /// What is there.
        found: i64,
    },
    /// The database does not answer.
    #[error("the database does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database answered with something that should not be.
    #[error("the database failed")]
    Fault(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The store. [`StoreError::Unavailable`] and [`StoreError::Fault`] can come from every method; the others are named.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Checks that the database answers and its schema fits: [`StoreError::SchemaVersion`] if not.
    async fn ready(&self) -> Result<(), StoreError>;

    /// Records a verdict, which is then the one in force. A request id that the graph has seen gives back the verdict
    /// recorded then, also to all but one of several concurrent calls; [`StoreError::RequestReused`] if that one differs.
    async fn create_verdict(&self, graph: &GraphArn, verdict: &NewVerdict, now: Timestamp) -> Result<Verdict, StoreError>;

    /// The verdict in force of each finding that has one.
    async fn verdicts_in_force(&self, graph: &GraphArn, findings: &[FindingId]) -> Result<HashMap<FindingId, Verdict>, StoreError>;

    /// A finding's verdicts, latest first; those older than the one with sequence number `before`, if given.
    async fn list_verdicts(&self, graph: &GraphArn, finding: &FindingId, before: Option<i64>, limit: u32) -> Result<Vec<Verdict>, StoreError>;
}
