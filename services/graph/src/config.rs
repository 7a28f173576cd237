//! Configuration of graph.

use std::path::PathBuf;

use gumshoe_lake::{Engine, LakeConfig};
use gumshoe_runtime::config::{self, ConfigError, Configuration, Listen, ServerOptions, Telemetry, Trust};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::watchlist;

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
    /// How the graphs are swept for what is unusual.
    #[serde(default)]
    pub sweep: Sweep,
    /// How much entities matter, in all graphs, beside what the watchlist of each says.
    #[serde(default)]
    pub watchlist: Vec<Watched>,
    /// Answers kept hot.
    #[serde(default)]
    pub profiles: Profiles,
    /// Databases of places and networks.
    #[serde(default)]
    pub places: Places,
    /// Detection rules.
    #[serde(default)]
    pub detections: Detections,
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

/// The sweep: hours that are complete are looked at for what is unusual, and findings are made of it. All fields have defaults.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sweep {
    /// Whether this process does it by itself. Default true; of several replicas at least one should.
    pub enabled: bool,
    /// The pause between two rounds through the graphs, in seconds. Default 300.
    pub interval_seconds: u64,
    /// How long after its end an hour counts as complete, in minutes, so that late logs are in; at most 10,080, a week. Default 120.
    pub lateness_minutes: u32,
    /// How many hours before those that are swept are looked at again if they got late records; 0 for none, at most 48. Default 24.
    pub look_back_hours: u32,
    /// How many days before its latest record the sweep of a graph begins, 1 to 365. Default 45.
    pub first_days: u32,
    /// Alerts an hour that a graph gets, about; what is less unusual is archived at once. 0 to 1,000. Default 1.
    pub alerts_per_hour: f64,
}

impl Default for Sweep {
    fn default() -> Self {
        Self { enabled: true, interval_seconds: 300, lateness_minutes: 120, look_back_hours: 24, first_days: 45, alerts_per_hour: 1.0 }
    }
}

impl Sweep {
    fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |key: &str, reason: &str| Err(ConfigError::key(format!("sweep.{key}"), reason));
        if self.interval_seconds == 0 {
            return wrong("interval_seconds", "must be at least 1");
        }
        if self.lateness_minutes > 10_080 {
            return wrong("lateness_minutes", "must be at most 10080");
        }
        // A finding is remembered for two days.
        if self.look_back_hours > 48 {
            return wrong("look_back_hours", "must be at most 48");
        }
        if !(1..=365).contains(&self.first_days) {
            return wrong("first_days", "must be 1 to 365");
        }
        if !(0.0..=1_000.0).contains(&self.alerts_per_hour) {
            return wrong("alerts_per_hour", "must be 0 to 1000");
        }
        Ok(())
    }
}

/// How much some entities matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watched {
    /// `type:id` with `*` for any characters and `?` for one, or `tag:KEY=VALUE` with these in the value.
    pub pattern: String,
    /// How much.
    pub criticality: Criticality,
}

/// How much an entity matters: a factor on the odds of its risk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Criticality {
    /// 0.5.
    Low,
    /// 1.
    Normal,
    /// 1.5.
    High,
    /// 2.
    Critical,
}

impl From<Criticality> for gumshoe_behavior::Criticality {
    fn from(criticality: Criticality) -> Self {
        match criticality {
            Criticality::Low => Self::Low,
            Criticality::Normal => Self::Normal,
            Criticality::High => Self::High,
            Criticality::Critical => Self::Critical,
        }
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

/// Detection rules beside those that come with Gumshoe.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Detections {
    /// A folder of rules for all graphs, read again every few seconds. Default none.
    pub directory: Option<PathBuf>,
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
            sweep: Sweep::default(),
            watchlist: Vec::new(),
            profiles: Profiles::default(),
            places: Places::default(),
            detections: Detections::default(),
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
        self.sweep.validate()?;
        for (index, watched) in self.watchlist.iter().enumerate() {
            if let Some(fault) = watchlist::fault(&watched.pattern) {
                return Err(ConfigError::key(format!("watchlist[{index}].pattern"), fault));
            }
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
