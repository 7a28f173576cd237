//! Why a call is refused, and why the service does not run.

use gumshoe_api::{common::v1::ErrorReason, convert::FieldError};
use gumshoe_runtime::{Failure, ServeError, client::ConnectError, status, token::KeyError};
use tonic::{Code, Status};

use crate::store::StoreError;

/// Why the service does not start or ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// The keys of the services that may call, or this service's own.
    #[error("the keys cannot be used")]
    Trust(#[from] KeyError),
    /// There is no key to sign calls to the graph service with.
    #[error("no signing key is configured: set `trust.signing_key`")]
    NoSigningKey,
    /// The graph service's address or certificates.
    #[error("the graph service cannot be called")]
    Graph(#[from] ConnectError),
    /// A threat list.
    #[error("the threat lists cannot be used")]
    Threats(#[from] gumshoe_enrich::ThreatError),
    /// The client of AWS.
    #[error("AWS cannot be called")]
    Aws(#[from] reqwest::Error),
    /// The rules that say what findings are signs of.
    #[error("the rules cannot be used")]
    Rules(#[from] gumshoe_detections::LoadError),
    /// The server.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Why the graph was not read.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// The same call may succeed later.
    #[error("the graph service does not answer")]
    Unavailable(#[source] Box<Status>),
    /// It will not.
    #[error("the graph service has refused")]
    Refused(#[source] Box<Status>),
    /// The process ended before the work did, each time.
    #[error("the work was cut off each time")]
    CutOff,
    /// Groups of findings cannot be read.
    #[error("the finding groups cannot be read")]
    Store(#[source] StoreError),
}

impl From<Status> for GraphError {
    fn from(status: Status) -> Self {
        let passes = match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Aborted | Code::ResourceExhausted => true,
            // What the transport makes of a broken connection; our services say their reason.
            Code::Unknown | Code::Internal | Code::Cancelled => status::reason_of(&status).is_none(),
            _ => false,
        };
        if passes { Self::Unavailable(Box::new(status)) } else { Self::Refused(Box::new(status)) }
    }
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
    /// The graph service: what it says about the request, UNAVAILABLE or INTERNAL.
    Graph(GraphError),
}

impl Refusal {
    /// A field error.
    pub fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Field(FieldError::new(field, reason))
    }
}

impl From<FieldError> for Refusal {
    fn from(error: FieldError) -> Self {
        Self::Field(error)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<GraphError> for Refusal {
    fn from(error: GraphError) -> Self {
        Self::Graph(error)
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
            Refusal::Store(error @ (StoreError::RequestReused | StoreError::NotAllowed(_) | StoreError::Dissolved)) => {
                status::conflict(error.to_string()).into()
            }
            Refusal::Store(error @ (StoreError::TooManyRunning(_) | StoreError::TooManyAccepted(_))) => status::quota_exceeded(error.to_string()).into(),
            Refusal::Store(error @ StoreError::NotFound(_)) => Failure::new(Code::NotFound, ErrorReason::NotFound, error.to_string()).into(),
            Refusal::Store(error @ (StoreError::Unavailable(_) | StoreError::SchemaVersion { .. })) => {
                tracing::warn!(error = %status::Chain(&error), "the store is not available");
                status::unavailable("the investigation store").into()
            }
            Refusal::Store(error @ StoreError::Fault(_)) => status::internal(&error).into(),
            // Fields have the same names there.
            Refusal::Graph(GraphError::Refused(said)) if said.code() == Code::InvalidArgument => *said,
            Refusal::Graph(error @ GraphError::Unavailable(_)) => {
                tracing::warn!(error = %status::Chain(&error), "the graph service is not available");
                status::unavailable("the graph service").into()
            }
            Refusal::Graph(error @ (GraphError::Refused(_) | GraphError::CutOff | GraphError::Store(_))) => status::internal(&error).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_will_not() {
        let unavailable = |status: Status| matches!(GraphError::from(status), GraphError::Unavailable(_));
        for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Aborted, Code::ResourceExhausted, Code::Unknown] {
            assert!(unavailable(Status::new(code, "")), "{code:?}");
        }
        for code in [Code::InvalidArgument, Code::PermissionDenied, Code::Unauthenticated, Code::FailedPrecondition] {
            assert!(!unavailable(Status::new(code, "")), "{code:?}");
        }
        assert!(!unavailable(status::internal(&std::io::Error::other("x")).into()), "a fault that the graph service has told");
    }
}
