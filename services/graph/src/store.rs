//! Leases: which replica does what only one may do at a time; and what the work in the background goes on from.
//!
//! Each method is one statement: it happens as a whole or not at all. Times are microseconds UTC by the caller's clock. A
//! clock that is wrong can make two replicas hold one lease; so what is done under one is fenced by the lake as well.

use async_trait::async_trait;
use gumshoe_model::Timestamp;
use gumshoe_runtime::store::DatabaseError;

pub mod sql;
pub mod sweeps;
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

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        DatabaseError::from(error).into()
    }
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
