//! Where sources and their ledgers are kept.
//!
//! Each method is one transaction: it happens as a whole or not at all. Reads see every write that was acknowledged
//! before, by whichever replica. Times are microseconds UTC by the caller's clock.

use std::time::Duration;

use gumshoe_model::{GraphArn, TimeWindow, Timestamp};
use gumshoe_runtime::store::DatabaseError;

pub mod sql;

#[cfg(test)]
mod conformance;

pub use sql::SqlStore;

/// Why the store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The source is not there (any more).
    #[error("not found")]
    NotFound,
    /// The name is taken.
    #[error("exists already")]
    AlreadyExists,
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
            DatabaseError::Taken(_) => Self::AlreadyExists,
            DatabaseError::Missing(_) => Self::NotFound,
            DatabaseError::SchemaVersion { expected, found } => Self::SchemaVersion { expected, found },
            DatabaseError::Unavailable(source) => Self::Unavailable(source),
            DatabaseError::Fault(source) => Self::Fault(source),
        }
    }
}

gumshoe_runtime::from_driver!(StoreError);

/// Where to pull from and how, as checked by [`crate::rpc::source`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `file:///folder` or `s3://bucket/prefix`.
    pub url: String,
    /// How often to list.
    pub poll_interval: Duration,
    /// How far back to list again; zero for everything.
    pub lookback: Duration,
    /// A queue with the bucket's notifications, or empty.
    pub sqs_queue_url: String,
    /// Region of bucket and queue, or empty.
    pub region: String,
    /// Endpoint of an S3-compatible server, or empty.
    pub endpoint_url: String,
    /// The EKS cluster of audit logs that do not name one, or empty.
    pub eks_cluster: String,
}

/// A source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The graph that it feeds.
    pub graph: GraphArn,
    /// Its name, unique in the graph.
    pub name: String,
    /// What tells it from an earlier one of the same name.
    pub id: String,
    /// Where and how.
    pub settings: Settings,
    /// When it was created.
    pub create_time: Timestamp,
    /// When the last listing that came to its end began.
    pub last_list_time: Option<Timestamp>,
    /// Why the last listing failed or what it left out; empty if neither.
    pub last_error: String,
}

/// An object to add to a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewObject {
    /// The id of its batch, see [`crate::key::object_id`].
    pub id: String,
    /// Key or path under the source.
    pub key: String,
    /// Which state of it.
    pub etag: String,
    /// Account named by the key, or empty.
    pub account: String,
    /// Region named by the key, or empty.
    pub region: String,
    /// Bytes as stored.
    pub size: u64,
    /// When it was modified.
    pub modify_time: Timestamp,
    /// The hours since the epoch that the key says it covers, first and last.
    pub hours: Option<(i64, i64)>,
}

/// How far an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectState {
    /// To be ingested.
    Seen,
    /// Ingested and durable.
    Done,
    /// Could not be read.
    Failed,
}

/// What became of the records of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records found: events, duplicates and dead letters.
    pub records: u64,
    /// Records now in the graph.
    pub events: u64,
    /// Records that were there already.
    pub duplicates: u64,
    /// Records that could not be parsed.
    pub dead_letters: u64,
    /// Bytes after decompression.
    pub bytes: u64,
    /// Whether all of it had been committed before.
    pub already_committed: bool,
}

/// A row of a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The id of its batch.
    pub id: String,
    /// Key or path under the source.
    pub key: String,
    /// Which state of it.
    pub etag: String,
    /// Bytes as stored.
    pub size: u64,
    /// How far.
    pub state: ObjectState,
    /// Why it failed or waits, or empty.
    pub failure: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was modified.
    pub modify_time: Timestamp,
    /// When it was first seen.
    pub seen_time: Timestamp,
    /// When it was last done or failed.
    pub finish_time: Option<Timestamp>,
    /// What became of its records.
    pub counts: Counts,
}

/// An object that this process has to ingest now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The id of its batch.
    pub id: String,
    /// Key or path under the source.
    pub key: String,
    /// Which state of it.
    pub etag: String,
    /// Bytes as stored.
    pub size: u64,
    /// How often it has been tried, this time included.
    pub attempts: u32,
}

/// What became of a claimed object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Ingested and durable.
    Done(Counts),
    /// Could not be read; what could be is counted.
    Failed {
        /// Why.
        reason: String,
        /// What could be read.
        counts: Counts,
        /// When to try again; `None` if only a new listing can bring it back.
        next_try: Option<Timestamp>,
    },
    /// Nothing is wrong with the object: it is tried again.
    Postponed {
        /// Why.
        reason: String,
        /// When to try again.
        next_try: Timestamp,
    },
}

/// Progress of one account and region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Account, or empty.
    pub account: String,
    /// Region, or empty.
    pub region: String,
    /// Objects ever seen.
    pub seen: u64,
    /// Objects done.
    pub done: u64,
    /// Objects failed.
    pub failed: u64,
    /// Sums over all objects.
    pub counts: Counts,
    /// When the newest object was modified.
    pub newest: Timestamp,
    /// When the oldest object was modified that is still to be done.
    pub oldest_to_do: Option<Timestamp>,
    /// The latest hours without an object between two that have some, in order of time, at most [`MAX_GAPS`].
    pub gaps: Vec<TimeWindow>,
}

/// Gaps told for each account and region.
pub const MAX_GAPS: usize = 100;

/// How far a pull is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PullStatus {
    /// Objects still to do.
    pub waiting: u64,
    /// Bytes as stored of those.
    pub waiting_bytes: u64,
    /// Objects done or failed since it began.
    pub finished: u64,
    /// Bytes as stored of those.
    pub finished_bytes: u64,
    /// Objects that failed among them.
    pub failed: u64,
    /// Sums over the finished objects.
    pub counts: Counts,
}
