//! What graph keeps in SQL: leases, by which one replica does what only one may do at a time; what the work in the background goes on
//! from; the rules of graphs.
//!
//! Each method happens as a whole or not at all. Times are microseconds UTC by the caller's clock. A
//! clock that is wrong can make two replicas hold one lease; so what is done under one is fenced by the lake as well.

use async_trait::async_trait;
use gumshoe_model::{GraphArn, Timestamp};
use gumshoe_runtime::store::DatabaseError;

pub mod sql;
pub mod sweeps;
pub mod tags;
pub mod usual;
pub mod watchlists;

#[cfg(test)]
mod conformance;

/// Why the store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
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

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::SchemaVersion { expected, found } => Self::SchemaVersion { expected, found },
            DatabaseError::Unavailable(source) => Self::Unavailable(source),
            DatabaseError::Taken(source) | DatabaseError::Missing(source) | DatabaseError::Fault(source) => Self::Fault(source),
        }
    }
}

gumshoe_runtime::from_driver!(StoreError);

/// A rule that was written for a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRule {
    /// Its UUID.
    pub id: String,
    /// Its text.
    pub document: String,
    /// Who wrote it last, by ARN.
    pub author: String,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it was written last.
    pub update_time: Timestamp,
}

/// The store. [`StoreError::Unavailable`] and [`StoreError::Fault`] can come from every method.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Gives `holder` the lease of a name from `now` until `until`; `false` if somebody holds it. Of several concurrent calls
    /// one gets it.
    async fn take(&self, name: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError>;

    /// Prolongs a lease; `false` if it is another's by now, or has ended.
    async fn renew(&self, name: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError>;

    /// Gives a lease back; nothing happens if it is another's by now.
    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError>;
}

/// The rules of graphs. Errors are as those of [`Store`].
#[async_trait]
pub trait RuleStore: Send + Sync + 'static {
    /// How often the rules of a graph were changed; 0 if never.
    async fn rule_revision(&self, graph: &GraphArn) -> Result<i64, StoreError>;

    /// The rules of a graph by id, and how often they were changed.
    async fn rules(&self, graph: &GraphArn) -> Result<(i64, Vec<StoredRule>), StoreError>;

    /// Writes a rule in the place of the one with its id, whose time of creation stays; `false`, and nothing is written, if the rules of
    /// the graph are not at `revision` any more.
    async fn put_rule(&self, graph: &GraphArn, revision: i64, rule: &StoredRule) -> Result<bool, StoreError>;

    /// Deletes a rule; `false` as for [`Self::put_rule`].
    async fn delete_rule(&self, graph: &GraphArn, revision: i64, id: &str) -> Result<bool, StoreError>;

    /// Deletes all rules of a graph.
    async fn delete_rules(&self, graph: &GraphArn) -> Result<(), StoreError>;
}
