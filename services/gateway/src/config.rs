//! Configuration of the gateway.

use std::path::PathBuf;

use gumshoe_model::account::{REGIONS, VOLUME_LIMIT_BYTES};
use gumshoe_runtime::config::{ConfigError, Configuration, Listen, Telemetry, Tls, Upstream};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::client_address::Proxies;

/// Everything that can be set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen: the one port that is reached from outside.
    pub listen: Listen,
    /// Ed25519 private key (PKCS#8 PEM) that principal tokens are signed with; the services trust its public half.
    pub signing_key: PathBuf,
    /// The services behind.
    pub upstreams: Upstreams,
    /// Whose bearer tokens are accepted. At least one.
    pub issuers: Vec<Issuer>,
    /// The region of calls that name neither a graph nor, in their signature, a region. Default `us-east-1`.
    #[serde(default = "region")]
    pub region: String,
    /// Regions whose signatures are accepted by the Amazon Detective API: as membership's. Default: `us-east-1`,
    /// `us-east-2`, `us-west-2`, `ap-northeast-1`, `eu-west-1`.
    #[serde(default = "regions")]
    pub regions: Vec<String>,
    /// Bytes of raw log that a graph may take in a day, of which members' shares are shown: as membership's. Default 10 TB.
    #[serde(default = "volume_limit_bytes")]
    pub volume_limit_bytes: u64,
    /// Networks such as `10.0.0.0/8` whose `x-forwarded-for` is believed. Default none.
    #[serde(default)]
    pub trusted_proxies: Vec<String>,
    /// TLS; without it the gateway speaks plaintext.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Whether gRPC reflection is served, without credentials. Default false.
    #[serde(default)]
    pub reflection: bool,
    /// How long policies are kept.
    #[serde(default)]
    pub policies: Policies,
    /// What callers can take.
    #[serde(default)]
    pub limits: Limits,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: Telemetry,
}

/// The services behind.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstreams {
    /// Takes logs in.
    pub ingest: Upstream,
    /// Owns the behaviour graph.
    pub graph: Upstream,
    /// Owns accounts and policies.
    pub membership: Upstream,
    /// Owns verdicts.
    pub investigation: Upstream,
}

/// A party whose bearer tokens (JWT) are accepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// `iss` of its tokens, exactly.
    pub issuer: String,
    /// `aud` that its tokens must have.
    pub audience: String,
    /// Its keys.
    pub keys: Keys,
    /// The claim that names the principal. Default `sub`.
    #[serde(default = "subject_claim")]
    pub subject_claim: String,
    /// Without it, the claim is a principal's ARN: only for membership's own tokens. With it, the claim is the name of
    /// a user of this account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
}

/// Where an issuer's keys are found. Exactly one source must be given.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// A file with public keys (SPKI PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PathBuf>,
    /// A file with a JSON Web Key Set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<PathBuf>,
    /// The URL of a JSON Web Key Set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<Url>,
    /// Keys older than this are read again. Default 300.
    #[serde(default = "max_age_seconds")]
    pub max_age_seconds: u64,
    /// The shortest time between two reads, whatever unknown key ids callers show. Default 10.
    #[serde(default = "refetch_seconds")]
    pub refetch_seconds: u64,
    /// How long keys are used when they cannot be read again. Default 86,400.
    #[serde(default = "max_stale_seconds")]
    pub max_stale_seconds: u64,
}

impl Keys {
    /// Public keys in a file, with default times.
    #[must_use]
    pub fn public_key(path: PathBuf) -> Self {
        Self {
            public_key: Some(path),
            jwks_file: None,
            jwks_url: None,
            max_age_seconds: max_age_seconds(),
            refetch_seconds: refetch_seconds(),
            max_stale_seconds: max_stale_seconds(),
        }
    }
}

/// How long policies are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policies {
    /// Policies older than this are read again: how late a change takes effect. Default 10.
    pub max_age_seconds: u64,
    /// How long policies are used when membership does not answer. Default 60.
    pub max_stale_seconds: u64,
    /// Principals kept at most. Default 10,000.
    pub principals: u64,
}

impl Default for Policies {
    fn default() -> Self {
        Self { max_age_seconds: 10, max_stale_seconds: 60, principals: 10_000 }
    }
}

/// What callers can take.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Calls in progress at once; more are refused with RESOURCE_EXHAUSTED. Default 4,096.
    pub concurrent_calls: usize,
    /// Streams that a connection may hold open. Default 256.
    pub streams_per_connection: u32,
    /// Size of a request's headers. Default 16 KiB.
    pub header_bytes: u32,
    /// Size of a call's first message, which is read before the call is passed on. Default 4 MiB.
    pub first_message_bytes: usize,
    /// Size of the body of a request to the Amazon Detective API or STS. Default 1 MiB.
    pub body_bytes: usize,
    /// How long to wait for that message or body. Default 10.
    pub first_message_seconds: u64,
    /// Longest a unary call may take, whatever the client asks for; streams last as long as they like. Default 25.
    pub timeout_seconds: u64,
    /// Calls without credentials per minute and address (for IPv6, per /64). Default 60.
    pub anonymous_per_minute: u32,
    /// Calls of reading operations of the Amazon Detective API a second and account; twice as many at once. Default 200.
    pub reads_per_second: u32,
    /// The same for operations that change something. Default 50.
    pub writes_per_second: u32,
    /// The same for `StartInvestigation`. Default 5.
    pub investigations_per_second: u32,
    /// A ping this often on every connection; a silent peer is dropped 20 s later. Default 30.
    pub keepalive_seconds: u64,
    /// How long to go on serving after NOT_SERVING, for load balancers to notice. Default 0.
    pub drain_seconds: u64,
    /// How long calls in flight may take to finish at shutdown. Default 25.
    pub grace_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent_calls: 4_096,
            streams_per_connection: 256,
            header_bytes: 16 << 10,
            first_message_bytes: 4 << 20,
            body_bytes: 1 << 20,
            first_message_seconds: 10,
            timeout_seconds: 25,
            anonymous_per_minute: 60,
            reads_per_second: 200,
            writes_per_second: 50,
            investigations_per_second: 5,
            keepalive_seconds: 30,
            drain_seconds: 0,
            grace_seconds: 25,
        }
    }
}

fn region() -> String {
    "us-east-1".to_owned()
}

fn regions() -> Vec<String> {
    REGIONS.map(str::to_owned).to_vec()
}

/// Source: Amazon Detective quotas.
const fn volume_limit_bytes() -> u64 {
    VOLUME_LIMIT_BYTES
}

fn subject_claim() -> String {
    "sub".to_owned()
}

const fn max_age_seconds() -> u64 {
    300
}

const fn refetch_seconds() -> u64 {
    10
}

const fn max_stale_seconds() -> u64 {
    86_400
}

impl Configuration for Config {
    const SERVICE: &'static str = "gateway";

    fn validate(&self) -> Result<(), ConfigError> {
        if self.issuers.is_empty() {
            return Err(ConfigError::key("issuers", "must hold at least one issuer"));
        }
        for (index, issuer) in self.issuers.iter().enumerate() {
            let key = |name: &str| format!("issuers[{index}].{name}");
            if issuer.issuer.is_empty() || self.issuers.iter().filter(|other| other.issuer == issuer.issuer).count() > 1 {
                return Err(ConfigError::key(key("issuer"), "must be given, and differ from all others"));
            }
            if issuer.audience.is_empty() {
                return Err(ConfigError::key(key("audience"), "must not be empty"));
            }
            let sources = [issuer.keys.public_key.is_some(), issuer.keys.jwks_file.is_some(), issuer.keys.jwks_url.is_some()];
            if sources.into_iter().filter(|given| *given).count() != 1 {
                return Err(ConfigError::key(key("keys"), "must have exactly one of `public_key`, `jwks_file` and `jwks_url`"));
            }
            if issuer.keys.jwks_url.as_ref().is_some_and(|url| !matches!(url.scheme(), "http" | "https")) {
                return Err(ConfigError::key(key("keys.jwks_url"), "must start with `http:` or `https:`"));
            }
            if issuer.account.as_ref().is_some_and(|account| account.parse::<gumshoe_model::AccountId>().is_err()) {
                return Err(ConfigError::key(key("account"), "must be 12 digits"));
            }
        }
        if self.regions.is_empty() || self.regions.iter().any(String::is_empty) {
            return Err(ConfigError::key("regions", "must hold at least one region such as `us-east-1`"));
        }
        for (key, zero) in [
            ("limits.concurrent_calls", self.limits.concurrent_calls == 0),
            ("limits.streams_per_connection", self.limits.streams_per_connection == 0),
            ("limits.header_bytes", self.limits.header_bytes == 0),
            ("limits.first_message_bytes", self.limits.first_message_bytes == 0),
            ("limits.body_bytes", self.limits.body_bytes == 0),
            ("limits.first_message_seconds", self.limits.first_message_seconds == 0),
            ("limits.timeout_seconds", self.limits.timeout_seconds == 0),
            ("limits.anonymous_per_minute", self.limits.anonymous_per_minute == 0),
            ("limits.reads_per_second", self.limits.reads_per_second == 0),
            ("limits.writes_per_second", self.limits.writes_per_second == 0),
            ("limits.investigations_per_second", self.limits.investigations_per_second == 0),
            ("volume_limit_bytes", self.volume_limit_bytes == 0),
            ("limits.keepalive_seconds", self.limits.keepalive_seconds == 0),
            ("policies.principals", self.policies.principals == 0),
        ] {
            if zero {
                return Err(ConfigError::key(key, "must be at least 1"));
            }
        }
        Proxies::parse(&self.trusted_proxies).map(|_| ())
    }

    fn listen(&self) -> &Listen {
        &self.listen
    }

    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}
