//! The pieces that the configurations of all services are made of.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use url::Url;

use super::ConfigError;
use crate::{
    inside::Inside,
    token::{KeyError, TokenSigner, TokenVerifier},
};

/// Where a service listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Address and port; port 0 takes any free one.
    pub address: SocketAddr,
}

/// Which services are believed, and as whom this one signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// A folder with `ISSUER.pem` for every service whose principal tokens are accepted: Ed25519 public keys, SPKI.
    pub issuers: PathBuf,
    /// This service's own private key (PKCS#8 PEM), if it calls others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<PathBuf>,
}

impl Trust {
    /// The verifier for tokens addressed to `service`.
    ///
    /// # Errors
    /// [`KeyError`] when the folder holds no usable keys.
    pub fn verifier(&self, service: &str) -> Result<Arc<TokenVerifier>, KeyError> {
        TokenVerifier::from_directory(service, &self.issuers).map(Arc::new)
    }

    /// The signer that signs as `service`; `None` when no key is configured.
    ///
    /// # Errors
    /// [`KeyError`] when the file holds no usable key.
    pub fn signer(&self, service: &str) -> Result<Option<Arc<TokenSigner>>, KeyError> {
        self.signing_key.as_deref().map(|path| TokenSigner::from_file(service, path).map(Arc::new)).transpose()
    }
}

/// Another service that this one calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// `http://host:port`, or `https://…` for TLS.
    #[serde(serialize_with = "super::masked_url")]
    pub url: Url,
    /// The longest a call may take; streams are not limited. Default 20.
    #[serde(default = "upstream_timeout_seconds")]
    pub timeout_seconds: u64,
    /// Certificates for `https`; without, the system's authorities are trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
    /// Where the service is inside this process; then the URL is only its name.
    #[serde(skip)]
    pub inside: Option<Inside>,
}

impl Upstream {
    /// The longest a call may take where nothing else is said.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);

    /// An upstream with the defaults.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self { url, timeout_seconds: upstream_timeout_seconds(), tls: None, inside: None }
    }

    /// The longest a call may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }
}

const fn upstream_timeout_seconds() -> u64 {
    Upstream::DEFAULT_TIMEOUT.as_secs()
}

/// How a client proves itself and whom it believes. Paths of PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// The authority that signed the server's certificate.
    pub authority: PathBuf,
    /// The client's certificate and key, for servers that ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// The key of `certificate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The name in the server's certificate, if it is not the URL's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// A server's certificate. Paths of PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain, leaf first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// With it, clients must show a certificate signed by this authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_authority: Option<PathBuf>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For reading in a terminal.
    Text,
}

/// Logs and traces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// A `tracing` filter: `info`, or `info,gumshoe_runtime::rpc=warn` to leave out successful calls. Default `info`.
    pub level: String,
    /// Default `json`.
    pub format: LogFormat,
    /// An OTLP collector (gRPC), `http://collector:4317`. Without it, trace ids flow but nothing is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<Url>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Json, otlp: None }
    }
}

/// Limits and habits of a gRPC server. All fields have defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerOptions {
    /// Largest request message; give it to the generated server's `max_decoding_message_size`. Default 4 MiB.
    pub max_message_bytes: usize,
    /// Calls in progress at once, over all connections; more are refused with RESOURCE_EXHAUSTED. Default 1,024.
    pub max_concurrent_calls: usize,
    /// Longest a unary call may take, whatever the client asks for. Default 30.
    pub timeout_seconds: u64,
    /// A ping this often on every connection; a silent peer is dropped 20 s later. Default 30.
    pub keepalive_seconds: u64,
    /// How often readiness is checked. Default 5.
    pub ready_check_seconds: u64,
    /// How long to go on serving after NOT_SERVING, for load balancers to notice. Default 0.
    pub drain_seconds: u64,
    /// How long calls in flight may take to finish at shutdown. Default 25.
    pub grace_seconds: u64,
    /// Whether gRPC reflection is served, without credentials. Default true.
    pub reflection: bool,
    /// TLS; without it the server speaks plaintext.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            max_message_bytes: 4 << 20,
            max_concurrent_calls: 1_024,
            timeout_seconds: 30,
            keepalive_seconds: 30,
            ready_check_seconds: 5,
            drain_seconds: 0,
            grace_seconds: 25,
            reflection: true,
            tls: None,
        }
    }
}

impl ServerOptions {
    /// Checks that no limit is zero; `section` is where the options stand in the configuration.
    ///
    /// # Errors
    /// [`ConfigError::Key`].
    pub fn validate(&self, section: &str) -> Result<(), ConfigError> {
        for (key, zero) in [
            ("max_message_bytes", self.max_message_bytes == 0),
            ("max_concurrent_calls", self.max_concurrent_calls == 0),
            ("timeout_seconds", self.timeout_seconds == 0),
            ("keepalive_seconds", self.keepalive_seconds == 0),
            ("ready_check_seconds", self.ready_check_seconds == 0),
        ] {
            if zero {
                return Err(ConfigError::key(format!("{section}.{key}"), "must be at least 1"));
            }
        }
        Ok(())
    }
}
