//! Configuration of investigation.

use std::collections::BTreeMap;

use gumshoe_runtime::config::{self, ConfigError, Configuration, Listen, ServerOptions, Telemetry, Trust, Upstream};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

/// The most principals that one investigation may look at.
const MAX_PRINCIPALS: usize = 100;

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
    /// How findings are grouped.
    #[serde(default)]
    pub groups: Groups,
    /// Lists of addresses that somebody warns of.
    #[serde(default)]
    pub threats: Threats,
    /// Whether and how verdicts are given back to the products that reported the findings.
    #[serde(default)]
    pub feedback: Feedback,
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
    /// Principals that an investigation of a finding, an account or the whole graph looks at, 1 to 100. Default 25.
    pub principals: usize,
}

impl Default for Investigations {
    fn default() -> Self {
        Self { running_limit: 10, parallel: 2, lease_seconds: 60, look_seconds: 5, retry_seconds: 5, patience_seconds: 3_600, principals: 25 }
    }
}

/// Lists of addresses that somebody warns of. All fields have defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Threats {
    /// How often it is looked whether files have changed. Default 60.
    pub reload_seconds: u64,
    /// The lists; see `docs/investigations.md` for their formats. Default none.
    pub lists: Vec<gumshoe_enrich::ListConfig>,
}

impl Default for Threats {
    fn default() -> Self {
        Self { reload_seconds: 60, lists: Vec::new() }
    }
}

/// How findings are grouped. All fields have defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Groups {
    /// Graphs that this process works on at once. Default 1.
    pub parallel: usize,
    /// How often changed findings are looked for. Default 10.
    pub look_seconds: u64,
    /// How long after its findings were grouped a graph's are grouped again at the earliest. Default 30.
    pub interval_seconds: u64,
    /// How long after a change was noted every replica of the graph service tells it: who reads before looks again. Default 5.
    pub settle_seconds: u64,
    /// How long after a failed attempt the next one comes. Default 10.
    pub retry_seconds: u64,
    /// After this long without a sign of life, others group a graph's findings. Default 60.
    pub lease_seconds: u64,
    /// Findings of one graph that are grouped, about; the worst if it has more. Default 20000.
    pub max_findings: usize,
}

impl Default for Groups {
    fn default() -> Self {
        Self { parallel: 1, look_seconds: 10, interval_seconds: 30, settle_seconds: 5, retry_seconds: 10, lease_seconds: 60, max_findings: 20_000 }
    }
}

impl Groups {
    fn validate(&self) -> Result<(), ConfigError> {
        let Self { parallel, look_seconds, interval_seconds: _, settle_seconds: _, retry_seconds, lease_seconds, max_findings } = *self;
        for (key, zero) in [
            ("parallel", parallel == 0),
            ("look_seconds", look_seconds == 0),
            ("retry_seconds", retry_seconds == 0),
            ("lease_seconds", lease_seconds == 0),
            ("max_findings", max_findings == 0),
        ] {
            if zero {
                return Err(ConfigError::key(format!("groups.{key}"), "must be at least 1"));
            }
        }
        Ok(())
    }
}

/// Whether and how verdicts are given back to the products that reported the findings. All fields have defaults.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Feedback {
    /// Whether they are: it changes findings in GuardDuty and Security Hub. Default no.
    pub enabled: bool,
    /// Endpoint of GuardDuty, Security Hub and STS. Default AWS, by each finding's region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<Url>,
    /// Access key id. Without it, credentials come from the environment or the instance, as with any AWS client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// Its secret.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "config::masked_option")]
    pub secret_access_key: Option<SecretString>,
    /// The role to assume in a finding's account, with `{account}` and `{partition}` for the finding's:
    /// `arn:{partition}:iam::{account}:role/gumshoe-feedback`. Default none: the credentials are used as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// What the role's trust policy asks for.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "config::masked_option")]
    pub external_id: Option<SecretString>,
    /// Detectors of the GuardDuty administrator account, by region: findings of its members are given back through it, with the
    /// credentials as they are, since members may not archive. Default none: through the detector that made the finding.
    pub detectors: BTreeMap<String, String>,
    /// Verdicts that this process delivers at once. Default 2.
    pub parallel: usize,
    /// After this long without a sign of life, others deliver a verdict. Default 60.
    pub lease_seconds: u64,
    /// How often verdicts are looked for that other replicas have recorded or left. Default 5.
    pub look_seconds: u64,
    /// The pause after the first failed attempt; it doubles up to an hour. Default 10.
    pub retry_seconds: u64,
    /// Attempts after which a delivery has failed. Default 12, which takes some four hours.
    pub max_attempts: u32,
}

impl Default for Feedback {
    fn default() -> Self {
        Self {
            enabled: false,
            endpoint_url: None,
            access_key_id: None,
            secret_access_key: None,
            role: None,
            external_id: None,
            detectors: BTreeMap::new(),
            parallel: 2,
            lease_seconds: 60,
            look_seconds: 5,
            retry_seconds: 10,
            max_attempts: 12,
        }
    }
}

impl Feedback {
    fn validate(&self) -> Result<(), ConfigError> {
        let Self { parallel, lease_seconds, look_seconds, retry_seconds, max_attempts, .. } = *self;
        for (key, zero) in [
            ("parallel", parallel == 0),
            ("lease_seconds", lease_seconds == 0),
            ("look_seconds", look_seconds == 0),
            ("retry_seconds", retry_seconds == 0),
            ("max_attempts", max_attempts == 0),
        ] {
            if zero {
                return Err(ConfigError::key(format!("feedback.{key}"), "must be at least 1"));
            }
        }
        if self.access_key_id.is_some() != self.secret_access_key.is_some() {
            return Err(ConfigError::key("feedback.secret_access_key", "access key id and secret go together"));
        }
        if self.endpoint_url.as_ref().is_some_and(|url| !matches!(url.scheme(), "http" | "https")) {
            return Err(ConfigError::key("feedback.endpoint_url", "must start with `http:` or `https:`"));
        }
        if self.role.as_ref().is_some_and(|role| !role.starts_with("arn:") || !role.contains(":role/")) {
            return Err(ConfigError::key("feedback.role", "must be a role's ARN, such as `arn:{partition}:iam::{account}:role/gumshoe-feedback`"));
        }
        Ok(())
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
        self.groups.validate()?;
        if self.threats.reload_seconds == 0 {
            return Err(ConfigError::key("threats.reload_seconds", "must be at least 1"));
        }
        if !(1..=MAX_PRINCIPALS).contains(&self.investigations.principals) {
            return Err(ConfigError::key("investigations.principals", "must be 1 to 100"));
        }
        self.feedback.validate()
    }

    fn listen(&self) -> &Listen {
        &self.listen
    }

    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}
