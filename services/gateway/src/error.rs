//! Why the gateway does not run. Refused calls are [`gumshoe_runtime::Failure`]s, made where they are found.

use std::io;

use gumshoe_runtime::{ConfigError, client::ConnectError, token::KeyError};

/// Why the gateway does not start or ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration has a value that shows itself as wrong only in use.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The key that principal tokens are signed with.
    #[error("the signing key cannot be used")]
    SigningKey(#[from] KeyError),
    /// The address of a service behind.
    #[error(transparent)]
    Upstream(#[from] ConnectError),
    /// The API's descriptors do not fit together.
    #[error("the API's descriptors cannot be read")]
    Descriptors(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A service in the API has no upstream.
    #[error("no upstream for service `{0}`")]
    UnknownService(String),
    /// The client that reads key sets.
    #[error("the HTTP client cannot be built")]
    Client(#[source] reqwest::Error),
    /// A certificate or key cannot be read.
    #[error("cannot read `{path}`")]
    Certificate {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The transport failed.
    #[error("the transport failed")]
    Transport(#[from] tonic::transport::Error),
}
