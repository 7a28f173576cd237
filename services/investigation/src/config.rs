//! Configuration of investigation.

use gumshoe_runtime::config::{self, ConfigError, Configuration, Listen, ServerOptions, Telemetry, Trust};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

/// Everything that can be set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    pub listen: Listen,
    /// Whose calls are accepted: `gateway`.
    pub trust: Trust,
    /// The database.
    pub store: Store,
    /// Key of page tokens, the same in every replica. Default: a random one.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "config::masked_option")]
    pub page_token_key: Option<SecretString>,
    /// Limits of the server.
    #[serde(default)]
    pub server: ServerOptions,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: Telemetry,
}

/// The database.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// `sqlite:///path/to/file` or `postgres://user:password@host/database`.
    #[serde(serialize_with = "config::masked_url")]
    pub url: Url,
    /// Connections at most. Default 10.
    #[serde(default = "connections")]
    pub connections: u32,
}

const fn connections() -> u32 {
    10
}

impl Store {
    /// A database with the default number of connections.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self { url, connections: connections() }
    }
}

impl Configuration for Config {
    const SERVICE: &'static str = "investigation";

    fn validate(&self) -> Result<(), ConfigError> {
        self.server.validate("server")?;
        if !matches!(self.store.url.scheme(), "sqlite" | "postgres" | "postgresql") {
            return Err(ConfigError::key("store.url", "must start with `sqlite:` or `postgres:`"));
        }
        if self.store.connections == 0 {
            return Err(ConfigError::key("store.connections", "must be at least 1"));
        }
        Ok(())
    }

    fn listen(&self) -> &Listen {
        &self.listen
    }

    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}
