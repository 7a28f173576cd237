//! Configuration of investigation.

use gumshoe_runtime::config::{self, ConfigError, Configuration, Listen, ServerOptions, Telemetry, Trust, Upstream};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

/// Everything that can be set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    pub listen: Listen,
    /// Whose calls are accepted, `gateway`, and the key that calls to the graph are signed with, which is required.
    pub trust: Trust,
    /// The database.
    pub store: Store,
    /// The graph service.
    pub graph: Upstream,
    /// How investigations are worked off.
    #[serde(default)]
    pub investigations: Investigations,
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

/// How investigations are worked off. All fields have defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Investigations {
    /// Investigations of one graph that may run at once; more are refused. Default 10.
    pub running_limit: u32,
    /// Investigations that this process works on at once. Default 2.
    pub parallel: usize,
    /// After this long without a sign of life, others begin an investigation again. Default 60.
    pub lease_seconds: u64,
    /// How often investigations are looked for that other replicas have started or left. Default 5.
    pub look_seconds: u64,
    /// How long after a failed attempt the next one comes. Default 5.
    pub retry_seconds: u64,
    /// How long after its start an investigation fails if the graph service does not answer. Default 3600.
    pub patience_seconds: u64,
}

impl Default for Investigations {
    fn default() -> Self {
        Self { running_limit: 10, parallel: 2, lease_seconds: 60, look_seconds: 5, retry_seconds: 5, patience_seconds: 3_600 }
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
        if self.trust.signing_key.is_none() {
            return Err(ConfigError::key("trust.signing_key", "is required: calls to the graph service are signed with it"));
        }
        let Investigations { running_limit, parallel, lease_seconds, look_seconds, retry_seconds, .. } = self.investigations;
        for (key, zero) in [
            ("running_limit", running_limit == 0),
            ("parallel", parallel == 0),
            ("lease_seconds", lease_seconds == 0),
            ("look_seconds", look_seconds == 0),
            ("retry_seconds", retry_seconds == 0),
        ] {
            if zero {
                return Err(ConfigError::key(format!("investigations.{key}"), "must be at least 1"));
            }
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
