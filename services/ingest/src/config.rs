//! Configuration of ingest.

use std::{path::PathBuf, time::Duration};

use gumshoe_runtime::config::{self, ConfigError, Configuration, Listen, ServerOptions, Telemetry, Trust, Upstream};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

/// The largest sub-batch that can be configured: the graph takes messages of up to 96 MiB.
const MAX_COMMIT_BYTES: usize = 64 << 20;
const MIN_COMMIT_BYTES: usize = 1 << 10;

/// Everything that can be set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    pub listen: Listen,
    /// Whose calls are accepted, `gateway`, and the key that calls to the graph are signed with, which is required.
    pub trust: Trust,
    /// The database of sources and their ledger.
    pub store: Store,
    /// The graph service.
    pub graph: Upstream,
    /// The membership service, which says whose logs a graph takes. Without it, everybody's are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub membership: Option<Upstream>,
    /// What happens to logs of accounts that nobody has registered, where there is a membership service. Default `refuse`.
    #[serde(default)]
    pub unregistered_accounts: Unregistered,
    /// How batches are read and committed.
    #[serde(default)]
    pub batches: Batches,
    /// How sources are pulled.
    #[serde(default)]
    pub sources: Sources,
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

/// What happens to logs of accounts that nobody has registered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unregistered {
    /// They enter the graph, as on an analyst's own machine.
    Accept,
    /// They become dead letters.
    #[default]
    Refuse,
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

/// How batches are read and committed. All fields have defaults.
///
/// Memory is bounded, whatever comes in, by about three times `in_flight_bytes`, and a fifth of `commit_bytes` and a few MiB for each of
/// `parallel_objects` and `parallel_streams` in use.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Batches {
    /// A batch is committed in parts of about this many bytes of text. Default 24 MiB.
    pub commit_bytes: usize,
    /// Bytes of parts, compressed, that may be on their way to the graph at once, over all batches. The more there are, the more of
    /// their edges are the same and written once. Default 16 MiB.
    pub in_flight_bytes: usize,
    /// Whether the text of records is kept in the lake; that of findings always is. Without it there is less to store and nothing to
    /// show of a record but its fields and where it came from. Default true.
    pub keep_text: bool,
    /// How long a part is sent again while the graph service does not answer, before the batch fails. Default 60.
    pub commit_patience_seconds: u64,
    /// Longest one call to the graph service may take. Default 60.
    pub commit_timeout_seconds: u64,
    /// Objects parsed at once. Default: one per processor.
    pub parallel_objects: usize,
    /// Batches parsed while their caller is still sending. Default: two per processor, at least 4.
    pub parallel_streams: usize,
    /// How long a caller's stream may stay silent inside a batch. Default 60.
    pub stream_idle_seconds: u64,
}

impl Default for Batches {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            commit_bytes: 24 << 20,
            in_flight_bytes: 16 << 20,
            keep_text: true,
            commit_patience_seconds: 60,
            commit_timeout_seconds: 60,
            parallel_objects: processors,
            parallel_streams: processors.saturating_mul(2).max(4),
            stream_idle_seconds: 60,
        }
    }
}

/// How sources are pulled. All fields have defaults.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sources {
    /// Whether this process pulls; with `false` it only answers calls. Default true.
    pub pull: bool,
    /// Folders that `file://` sources may lie in. Default none.
    pub allowed_directories: Vec<PathBuf>,
    /// Objects of all sources under way at once. Default 64.
    pub objects_in_flight: usize,
    /// How often a source is listed that does not say. Default 60.
    pub poll_seconds: u64,
    /// How far back a source is listed again that does not say, in hours. Default 72.
    pub lookback_hours: u64,
    /// The first pause before a failed object is tried again; it doubles each time, up to an hour. Default 30.
    pub retry_seconds: u64,
    /// How long an object stays another replica's after that has fallen silent. Default 300.
    pub lease_seconds: u64,
    /// How often a notification that cannot be read is received before it is deleted. Default 5; a queue with a
    /// dead-letter queue and fewer receives keeps it there.
    pub notification_receives: u32,
    /// Access to S3 and SQS.
    pub s3: S3,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            pull: true,
            allowed_directories: Vec::new(),
            objects_in_flight: 64,
            poll_seconds: 60,
            lookback_hours: 72,
            retry_seconds: 30,
            lease_seconds: 300,
            notification_receives: 5,
            s3: S3::default(),
        }
    }
}

/// Access to S3 and SQS. Without keys, credentials come from the environment or the instance, as with any AWS client.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3 {
    /// Endpoint for sources that do not name one; default AWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<Url>,
    /// Endpoints that sources may name beside `endpoint_url`. Default none.
    pub allowed_endpoints: Vec<Url>,
    /// Region for sources that do not name one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Access key id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// Its secret.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "config::masked_option")]
    pub secret_access_key: Option<SecretString>,
}

impl Sources {
    pub(crate) fn retry_pause(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(12);
        Duration::from_secs(self.retry_seconds.saturating_mul(1 << doublings).min(3_600))
    }
}

impl Configuration for Config {
    const SERVICE: &'static str = "ingest";

    fn validate(&self) -> Result<(), ConfigError> {
        self.server.validate("server")?;
        if self.trust.signing_key.is_none() {
            return Err(ConfigError::key("trust.signing_key", "required"));
        }
        if !matches!(self.store.url.scheme(), "sqlite" | "postgres" | "postgresql") {
            return Err(ConfigError::key("store.url", "must start with `sqlite:` or `postgres:`"));
        }
        if !(MIN_COMMIT_BYTES..=MAX_COMMIT_BYTES).contains(&self.batches.commit_bytes) {
            return Err(ConfigError::key("batches.commit_bytes", format!("must be between {MIN_COMMIT_BYTES} and {MAX_COMMIT_BYTES}")));
        }
        for (key, zero) in [
            ("store.connections", self.store.connections == 0),
            ("batches.in_flight_bytes", self.batches.in_flight_bytes == 0),
            ("batches.commit_timeout_seconds", self.batches.commit_timeout_seconds == 0),
            ("batches.parallel_objects", self.batches.parallel_objects == 0),
            ("batches.parallel_streams", self.batches.parallel_streams == 0),
            ("batches.stream_idle_seconds", self.batches.stream_idle_seconds == 0),
            ("sources.objects_in_flight", self.sources.objects_in_flight == 0),
            ("sources.poll_seconds", self.sources.poll_seconds == 0),
            ("sources.lease_seconds", self.sources.lease_seconds == 0),
            ("sources.notification_receives", self.sources.notification_receives == 0),
        ] {
            if zero {
                return Err(ConfigError::key(key, "must be at least 1"));
            }
        }
        if let Some(path) = self.sources.allowed_directories.iter().find(|path| !path.is_absolute()) {
            return Err(ConfigError::key("sources.allowed_directories", format!("`{}` is not an absolute path", path.display())));
        }
        if self.sources.s3.access_key_id.is_some() != self.sources.s3.secret_access_key.is_some() {
            return Err(ConfigError::key("sources.s3.secret_access_key", "access key id and secret go together"));
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
