//! Why a call is refused, and why the service does not run.

use gumshoe_api::convert::FieldError;
use gumshoe_runtime::{Failure, ServeError, status, token::KeyError};
use tonic::Status;

use crate::store::StoreError;

/// Why the service does not start or ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// The keys of the services that may call.
    #[error("the trusted keys cannot be used")]
    Trust(#[from] KeyError),
    /// The server.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Why a call is refused.
#[derive(Debug)]
pub enum Refusal {
    /// A field has a value that cannot be used: INVALID_ARGUMENT.
    Field(FieldError),
    /// The token was given out for another action: PERMISSION_DENIED.
    Action,
    /// The chassis has refused already.
    Status(Box<Status>),
    /// The database: FAILED_PRECONDITION, UNAVAILABLE or INTERNAL.
    Store(StoreError),
}

impl Refusal {
    /// A field error.
    pub fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Field(FieldError::new(field, reason))
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Status(Box::new(failure.into()))
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Field(FieldError { field, reason }) => status::invalid_argument(&field, reason).into(),
            Refusal::Action => status::permission_denied("the call was allowed for another action").into(),
            Refusal::Status(status) => *status,
            Refusal::Store(error @ StoreError::RequestReused) => status::conflict(error.to_string()).into(),
            Refusal::Store(error @ (StoreError::Unavailable(_) | StoreError::SchemaVersion { .. })) => {
                tracing::warn!(error = %status::Chain(&error), "the store is not available");
                status::unavailable("the investigation store").into()
            }
            Refusal::Store(error @ StoreError::Fault(_)) => status::internal(&error).into(),
        }
    }
}
