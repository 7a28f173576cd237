//! Configuration of graph.

use std::path::PathBuf;

use gumshoe_lake::{Engine, LakeConfig};
use gumshoe_runtime::config::{self, ConfigError, Configuration, Listen, ServerOptions, Telemetry, Trust};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

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
    /// Where heavy queries run: `df://host:port` of a Ballista scheduler. Default: in this process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_engine: Option<Url>,
    /// The database of leases, by which replicas share the work in the background.
    pub store: Store,
    /// How the tables of graphs are kept readable.
    #[serde(default)]
    pub maintenance: Maintenance,
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

impl Store {
    /// A database with the default number of connections.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self { url, connections: connections() }
    }
}

const fn connections() -> u32 {
    10
}

/// Merging of small files, retention, and removal of unused files. All fields have defaults.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Maintenance {
    /// Whether this process does it. Default true; of several replicas at least one should.
    pub enabled: bool,
    /// The pause between two rounds through the graphs, in seconds. Default 60.
    pub interval_seconds: u64,
    /// Bytes of a merged file, about. Default 128 MiB.
    pub target_file_bytes: u64,
    /// Files of one size that are merged into the next larger one. Default 8.
    pub min_files: usize,
    /// Days that events, edges and all else are kept; 0 for ever. Default 365.
    pub retention_days: u32,
    /// Hours that unused files stay, so that queries end which read them; at most 168. Default 24.
    pub vacuum_hours: u32,
}

impl Default for Maintenance {
    fn default() -> Self {
        Self { enabled: true, interval_seconds: 60, target_file_bytes: 128 << 20, min_files: 8, retention_days: 365, vacuum_hours: 24 }
    }
}

/// Files smaller than this cost more to open than to read.
const MIN_TARGET_FILE_BYTES: u64 = 1 << 20;
/// Delta logs name removed files for a week.
const MAX_VACUUM_HOURS: u32 = 168;

impl Maintenance {
    fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |key: &str, reason: String| Err(ConfigError::key(format!("maintenance.{key}"), reason));
        if self.interval_seconds == 0 {
            return wrong("interval_seconds", "must be at least 1".to_owned());
        }
        if self.target_file_bytes < MIN_TARGET_FILE_BYTES {
            return wrong("target_file_bytes", format!("must be at least {MIN_TARGET_FILE_BYTES}"));
        }
        if !(2..=32).contains(&self.min_files) {
            return wrong("min_files", "must be 2 to 32".to_owned());
        }
        if !(1..=MAX_VACUUM_HOURS).contains(&self.vacuum_hours) {
            return wrong("vacuum_hours", format!("must be 1 to {MAX_VACUUM_HOURS}"));
        }
        Ok(())
    }
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
    /// The defaults for a lake and a database.
    #[must_use]
    pub fn new(listen: Listen, trust: Trust, lake: LakeConfig, store: Store) -> Self {
        Self {
            listen,
            trust,
            lake,
            query_engine: None,
            store,
            maintenance: Maintenance::default(),
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
        if let Err(error) = Engine::open(self.query_engine.as_ref()) {
            return Err(ConfigError::key("query_engine", error.to_string()));
        }
        if !matches!(self.store.url.scheme(), "sqlite" | "postgres" | "postgresql") {
            return Err(ConfigError::key("store.url", "must start with `sqlite:` or `postgres:`"));
        }
        if self.store.connections == 0 {
            return Err(ConfigError::key("store.connections", "must be at least 1"));
        }
        self.maintenance.validate()?;
        self.server.validate("server")
    }

    fn listen(&self) -> &Listen {
        &self.listen
    }

    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}
