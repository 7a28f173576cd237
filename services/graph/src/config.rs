//! Configuration of graph.

use std::path::PathBuf;

use gumshoe_lake::LakeConfig;
use gumshoe_runtime::config::{self, ConfigError, Configuration, Listen, ServerOptions, Telemetry, Trust};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

/// Everything that can be set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    pub listen: Listen,
    /// Whose calls are accepted: `gateway` for reading, `ingest` for committing.
    pub trust: Trust,
    /// Where the graphs are.
    pub lake: LakeConfig,
    /// Answers kept hot.
    #[serde(default)]
    pub profiles: Profiles,
    /// Databases of places and networks.
    #[serde(default)]
    pub places: Places,
    /// Event ids kept in memory a graph, to know duplicates by; 24 bytes each. Default 8,000,000.
    #[serde(default = "known_event_ids")]
    pub known_event_ids: usize,
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

/// Answers kept hot; they can all be made again from the lake.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profiles {
    /// `memory://`, `redis://host:port`, `rediss://…`; `?cluster=true` for Redis Cluster. Default `memory://`.
    #[serde(serialize_with = "config::masked")]
    pub url: SecretString,
    /// How much to keep in this process, in bytes. Default 64 MiB.
    pub memory_bytes: u64,
}

impl Default for Profiles {
    fn default() -> Self {
        Self { url: "memory://".to_owned().into(), memory_bytes: 64 << 20 }
    }
}

impl Profiles {
    pub(crate) fn url(&self) -> &str {
        self.url.expose_secret()
    }
}

/// Databases in MaxMind's format; without one, addresses have no place.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Places {
    /// Countries, IPv4 and IPv6.
    pub country: Option<PathBuf>,
    /// Autonomous systems.
    pub asn: Option<PathBuf>,
}

const fn known_event_ids() -> usize {
    8_000_000
}

impl Config {
    /// The defaults for a lake.
    #[must_use]
    pub fn new(listen: Listen, trust: Trust, lake: LakeConfig) -> Self {
        Self {
            listen,
            trust,
            lake,
            profiles: Profiles::default(),
            places: Places::default(),
            known_event_ids: known_event_ids(),
            page_token_key: None,
            server: ServerOptions::default(),
            telemetry: Telemetry::default(),
        }
    }
}

impl Configuration for Config {
    const SERVICE: &'static str = "graph";

    fn validate(&self) -> Result<(), ConfigError> {
        if self.known_event_ids == 0 {
            return Err(ConfigError::key("known_event_ids", "must be at least 1"));
        }
        self.server.validate("server")
    }

    fn listen(&self) -> &Listen {
        &self.listen
    }

    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}
