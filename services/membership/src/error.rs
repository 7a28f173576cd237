//! Why a call is refused, and why the service does not run.

use gumshoe_api::convert::FieldError;
use gumshoe_runtime::{ConfigError, Failure, ServeError, status, token::KeyError};
use tonic::Status;

use crate::{bearer::BearerError, store::StoreError};

/// Why the service does not start or ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// The keys of the services that may call.
    #[error("the trusted keys cannot be used")]
    Trust(#[from] KeyError),
    /// The key that bearer tokens are signed with.
    #[error(transparent)]
    Bearer(#[from] BearerError),
    /// The server.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The configuration names an administrator who cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A value that is built in or configured is not valid.
    #[error(transparent)]
    Invalid(#[from] gumshoe_model::Invalid),
}

/// Why a call is refused.
#[derive(Debug)]
pub enum Refusal {
    /// A field has a value that cannot be used: INVALID_ARGUMENT.
    Field(FieldError),
    /// The thing does not exist in the caller's account, whether or not another has it: NOT_FOUND.
    NotFound {
        /// What it is, in words.
        what: &'static str,
        /// Its name, as the caller gave it.
        name: String,
    },
    /// The name is taken: ALREADY_EXISTS.
    AlreadyExists {
        /// What it is, in words.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A limit on number is reached: RESOURCE_EXHAUSTED.
    QuotaExceeded(&'static str),
    /// The access key is unknown, disabled, or its secret wrong; which of these is not told: UNAUTHENTICATED.
    Credentials,
    /// The token was given out for another action: PERMISSION_DENIED.
    Action,
    /// The chassis has refused already.
    Status(Box<Status>),
    /// The database: UNAVAILABLE or INTERNAL.
    Store(StoreError),
    /// A bearer token could not be signed: INTERNAL.
    Bearer(BearerError),
}

impl Refusal {
    /// A field error.
    pub fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Field(FieldError::new(field, reason))
    }

    /// What the store said about the thing that a call names.
    pub fn about(what: &'static str, name: &str, quota: &'static str) -> impl FnOnce(StoreError) -> Self {
        let name = name.to_owned();
        move |error| match error {
            StoreError::NotFound => Self::NotFound { what, name },
            StoreError::AlreadyExists => Self::AlreadyExists { what, name },
            StoreError::QuotaExceeded => Self::QuotaExceeded(quota),
            error @ (StoreError::SchemaVersion { .. } | StoreError::Unavailable(_) | StoreError::Fault(_)) => Self::Store(error),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<FieldError> for Refusal {
    fn from(error: FieldError) -> Self {
        Self::Field(error)
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

impl From<BearerError> for Refusal {
    fn from(error: BearerError) -> Self {
        Self::Bearer(error)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Field(FieldError { field, reason }) => status::invalid_argument(&field, reason).into(),
            Refusal::NotFound { what, name } => status::not_found(what, &name).into(),
            Refusal::AlreadyExists { what, name } => status::already_exists(what, &name).into(),
            Refusal::QuotaExceeded(quota) => status::quota_exceeded(quota).into(),
            Refusal::Credentials => status::unauthenticated("the access key is not valid").into(),
            Refusal::Action => status::permission_denied("the call was allowed for another action").into(),
            Refusal::Status(status) => *status,
            Refusal::Store(error @ (StoreError::Unavailable(_) | StoreError::SchemaVersion { .. })) => {
                tracing::warn!(error = %status::Chain(&error), "the store is not available");
                status::unavailable("the membership store").into()
            }
            // The first three are handled where they mean something; here they would be a fault of this program.
            Refusal::Store(error @ (StoreError::NotFound | StoreError::AlreadyExists | StoreError::QuotaExceeded | StoreError::Fault(_))) => {
                status::internal(&error).into()
            }
            Refusal::Bearer(error) => status::internal(&error).into(),
        }
    }
}
