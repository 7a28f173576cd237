//! Everything that can go wrong, and what callers are told of it.

use gumshoe_api::{common::v1::ErrorReason, convert::FieldError};
use gumshoe_runtime::{ServeError, client::ConnectError, status, status::Failure, token::KeyError};
use tonic::{Code, Status};

use crate::store::StoreError;

/// Why a call, a pull or the service as a whole failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the request has a wrong value.
    #[error("`{}`: {}", .0.field, .0.reason)]
    Field(FieldError),
    /// The caller's token is for another graph, or for none.
    #[error("the caller is not allowed to use this graph")]
    Denied,
    /// The graph has no such source.
    #[error("the source does not exist")]
    SourceNotFound(String),
    /// The graph has a source of this name with other settings.
    #[error("the source exists already with other settings")]
    SourceExists(String),
    /// A source cannot be listed; the text is for its owner.
    #[error("the source cannot be listed: {0}")]
    Listing(String),
    /// The bytes of a batch stopped coming before its end; the text is for its owner.
    #[error("{0}")]
    Broken(String),
    /// The caller's stream was silent for too long.
    #[error("no piece came in time")]
    Idle,
    /// The graph service did not answer for longer than a batch may wait.
    #[error("the graph service does not answer")]
    GraphUnavailable(#[source] Box<Status>),
    /// Membership did not say whose logs the graph takes.
    #[error("the membership service does not answer")]
    MembershipUnavailable(#[source] Box<Status>),
    /// The graph does not exist, or is being removed.
    #[error("the graph does not exist")]
    GraphGone,
    /// The graph service refused a batch.
    #[error("the graph service refused the batch")]
    GraphRefused(#[source] Box<Status>),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Keys that cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is no key to sign calls to the graph with.
    #[error("`trust.signing_key` is not set")]
    NoSigningKey,
    /// The rules that come with Gumshoe are not right.
    #[error("the rules that come with Gumshoe are not right")]
    Rules(#[from] gumshoe_detections::LoadError),
    /// The upstream cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A fault of this program.
    #[error("{0}")]
    Internal(&'static str, #[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// A field of the request has a wrong value.
    pub(crate) fn field(field: &str, reason: impl Into<String>) -> Self {
        Self::Field(FieldError::new(field, reason))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Field(FieldError { field, reason }) => status::invalid_argument(&field, reason),
            Error::Denied => status::permission_denied("the caller is not allowed to use this graph"),
            Error::SourceNotFound(name) => status::not_found("source", &name),
            Error::SourceExists(name) => status::already_exists("source", &name),
            Error::Listing(reason) => Self::new(Code::Unavailable, ErrorReason::Unavailable, format!("the source cannot be listed: {reason}")),
            Error::Broken(reason) => status::invalid_argument("piece.last", reason),
            Error::Idle => status::deadline_exceeded(),
            Error::GraphUnavailable(_) => status::unavailable("the graph service"),
            Error::MembershipUnavailable(_) => status::unavailable("the membership service"),
            Error::GraphGone => Self::new(Code::NotFound, ErrorReason::NotFound, "the graph does not exist"),
            Error::GraphRefused(refusal) => refused(&refusal),
            Error::Store(StoreError::Unavailable(source)) => {
                tracing::warn!(error = %status::Chain(&*source), "the database does not answer");
                status::unavailable("the database")
            }
            Error::Store(error) => status::internal(&error),
            Error::Key(error) => status::internal(&error),
            Error::Connect(error) => status::internal(&error),
            Error::Rules(error) => status::internal(&error),
            Error::Serve(error) => status::internal(&error),
            error @ (Error::NoSigningKey | Error::Internal(..)) => status::internal(&error),
        }
    }
}

/// The graph's refusal in this service's words.
fn refused(refusal: &Status) -> Failure {
    match refusal.code() {
        Code::NotFound => Failure::new(Code::NotFound, ErrorReason::NotFound, "the graph does not exist"),
        Code::PermissionDenied => status::permission_denied("the graph does not accept batches from this caller"),
        Code::FailedPrecondition => status::conflict("the graph does not accept batches in its present state"),
        _ => status::internal(refusal),
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}
