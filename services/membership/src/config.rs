//! Configuration of membership.

use std::{path::PathBuf, str::FromStr};

use gumshoe_model::{
    AccountId, Invalid,
    account::{REGIONS, VOLUME_LIMIT_BYTES},
};
use gumshoe_runtime::{
    Upstream,
    config::{self, ConfigError, Configuration, Listen, ServerOptions, Telemetry, Trust},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use url::Url;

use crate::{account::Email, bootstrap::KeyPair, datasource::Package, secret::Keyring, usage::Prices};

/// Everything that can be set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    pub listen: Listen,
    /// Whose calls are accepted, `gateway` and `ingest`, and the key to call `graph` with.
    pub trust: Trust,
    /// The database.
    pub store: Store,
    /// The tokens given out for access keys.
    pub bearer: Bearer,
    /// Regions in which graphs can be created; the first is the default. Default: `us-east-1`, `us-east-2`, `us-west-2`,
    /// `ap-northeast-1`, `eu-west-1`.
    #[serde(default = "regions")]
    pub regions: Vec<String>,
    /// Key of page tokens, the same in every replica. Default: a random one.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "config::masked_option")]
    pub page_token_key: Option<SecretString>,
    /// The envelope key that secrets are encrypted under: 32 random bytes in base64, the same in every replica. Without
    /// it access keys get tokens but cannot sign requests, and roles cannot be assumed.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "config::masked_option")]
    pub secret_key: Option<SecretString>,
    /// A file that holds `secret_key`, in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_file: Option<PathBuf>,
    /// Envelope keys that were in use before and still open what was encrypted under them. To change the key, first put
    /// the new one here in every replica, then exchange the two; `migrate` then encrypts all secrets under the new one.
    #[serde(default, skip_serializing_if = "Vec::is_empty", serialize_with = "masked_list")]
    pub previous_secret_keys: Vec<SecretString>,
    /// The graph service, asked for volumes and to remove the data of removed graphs; needs `trust.signing_key`. Without
    /// it volumes are unknown and data stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<Upstream>,
    /// Bytes of raw log that a graph may take in a day before no more members are enabled. Default 10 TB.
    #[serde(default = "volume_limit_bytes")]
    pub volume_limit_bytes: u64,
    /// Packages of data sources that a new graph ingests beside `DETECTIVE_CORE`; `EKS_AUDIT` and
    /// `ASFF_SECURITYHUB_FINDING` can be started in it later. Default: none.
    #[serde(default)]
    pub packages: Vec<Package>,
    /// What ingested bytes cost, for projections. Default: Amazon Detective's prices in us-east-1, to be checked against
    /// those of today.
    #[serde(default)]
    pub prices: Prices,
    /// The first administrator, whom `migrate` makes. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub administrator: Option<Administrator>,
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

/// The tokens given out for access keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bearer {
    /// Ed25519 private key, PKCS#8 PEM. The gateway trusts its public half.
    pub private_key: PathBuf,
    /// `iss` of the tokens. Default `gumshoe`.
    #[serde(default = "installation")]
    pub issuer: String,
    /// `aud` of the tokens. Default `gumshoe`.
    #[serde(default = "installation")]
    pub audience: String,
}

/// The first administrator: `user/administrator` of an account, who may do everything. Made once; what stands here later
/// changes nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Administrator {
    /// The account, 12 digits. It gets a graph in the first of `regions`.
    pub account: String,
    /// E-mail address of the account.
    pub email: String,
    /// Id of the access key: `AKIA` and 16 of `A-Z2-7`.
    pub access_key_id: String,
    /// Its secret: 40 random characters or more.
    #[serde(serialize_with = "config::masked")]
    pub secret_access_key: SecretString,
}

/// Secrets shorter than this can be guessed.
const MIN_SECRET: usize = 40;

impl Administrator {
    /// Its values, each in its type.
    ///
    /// # Errors
    /// [`ConfigError`] that names the wrong one.
    pub fn parts(&self) -> Result<(AccountId, Email, KeyPair), ConfigError> {
        fn parse<T: FromStr<Err = Invalid>>(key: &str, value: &str) -> Result<T, ConfigError> {
            value.parse().map_err(|error: Invalid| ConfigError::key(format!("administrator.{key}"), error.to_string()))
        }
        if self.secret_access_key.expose_secret().len() < MIN_SECRET {
            return Err(ConfigError::key("administrator.secret_access_key", "must have at least 40 characters"));
        }
        let key = KeyPair { id: parse("access_key_id", &self.access_key_id)?, secret: self.secret_access_key.clone() };
        Ok((parse("account", &self.account)?, parse("email", &self.email)?, key))
    }
}

fn regions() -> Vec<String> {
    REGIONS.map(str::to_owned).to_vec()
}

const fn connections() -> u32 {
    10
}

/// Source: Amazon Detective quotas; above it no account is added.
const fn volume_limit_bytes() -> u64 {
    VOLUME_LIMIT_BYTES
}

fn installation() -> String {
    "gumshoe".to_owned()
}

fn masked_list<S: Serializer>(secrets: &[SecretString], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(secrets.iter().map(|_| config::REDACTED))
}

impl Store {
    /// A database with the default number of connections.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self { url, connections: connections() }
    }
}

impl Bearer {
    /// The default issuer and audience with a key.
    #[must_use]
    pub fn new(private_key: PathBuf) -> Self {
        Self { private_key, issuer: installation(), audience: installation() }
    }
}

impl Config {
    /// A configuration with the defaults.
    #[must_use]
    pub fn new(listen: Listen, trust: Trust, store: Store, bearer: Bearer) -> Self {
        Self {
            listen,
            trust,
            store,
            bearer,
            regions: regions(),
            page_token_key: None,
            secret_key: None,
            secret_key_file: None,
            previous_secret_keys: Vec::new(),
            graph: None,
            volume_limit_bytes: volume_limit_bytes(),
            packages: Vec::new(),
            prices: Prices::default(),
            administrator: None,
            server: ServerOptions::default(),
            telemetry: Telemetry::default(),
        }
    }

    /// The envelope keys, if there are any.
    ///
    /// # Errors
    /// [`ConfigError`] when one is no key, or the file cannot be read.
    pub fn keyring(&self) -> Result<Option<Keyring>, ConfigError> {
        let (name, current) = match (&self.secret_key, &self.secret_key_file) {
            (Some(_), Some(_)) => return Err(ConfigError::key("secret_key_file", "must not stand beside `secret_key`")),
            (Some(key), None) => ("secret_key", key.clone()),
            (None, Some(path)) => match std::fs::read_to_string(path) {
                Ok(text) => ("secret_key_file", SecretString::from(text)),
                Err(error) => return Err(ConfigError::key("secret_key_file", format!("cannot be read: {error}"))),
            },
            (None, None) if self.previous_secret_keys.is_empty() => return Ok(None),
            (None, None) => return Err(ConfigError::key("previous_secret_keys", "must not stand without `secret_key`")),
        };
        Keyring::new(&current, &[]).map_err(|error| ConfigError::key(name, error.to_string()))?;
        let keyring = Keyring::new(&current, &self.previous_secret_keys).map_err(|error| ConfigError::key("previous_secret_keys", error.to_string()))?;
        Ok(Some(keyring))
    }

    /// The packages that a new graph ingests: core always, and each once.
    #[must_use]
    pub fn first_packages(&self) -> Vec<Package> {
        Package::ALL.into_iter().filter(|package| *package == Package::DetectiveCore || self.packages.contains(package)).collect()
    }
}

impl Configuration for Config {
    const SERVICE: &'static str = "membership";

    fn validate(&self) -> Result<(), ConfigError> {
        self.server.validate("server")?;
        if !matches!(self.store.url.scheme(), "sqlite" | "postgres" | "postgresql") {
            return Err(ConfigError::key("store.url", "must start with `sqlite:` or `postgres:`"));
        }
        if self.store.connections == 0 {
            return Err(ConfigError::key("store.connections", "must be at least 1"));
        }
        let region =
            |region: &String| (2..=20).contains(&region.len()) && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if self.regions.is_empty() || !self.regions.iter().all(region) {
            return Err(ConfigError::key("regions", "must hold at least one region such as `us-east-1`"));
        }
        if let Some(administrator) = &self.administrator {
            administrator.parts()?;
        }
        for (key, value) in [("bearer.issuer", &self.bearer.issuer), ("bearer.audience", &self.bearer.audience), ("prices.currency", &self.prices.currency)] {
            if value.is_empty() {
                return Err(ConfigError::key(key, "must not be empty"));
            }
        }
        if let Some(fault) = self.prices.fault() {
            return Err(ConfigError::key("prices.tiers", fault));
        }
        if self.graph.is_some() && self.trust.signing_key.is_none() {
            return Err(ConfigError::key("trust.signing_key", "must be set, since `graph` is"));
        }
        if self.secret_key.is_some() || self.secret_key_file.is_none() {
            // A file is read when it is needed: `check-config` may run where it is not.
            self.keyring()?;
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
