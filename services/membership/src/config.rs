//! Configuration of membership.

use std::{path::PathBuf, str::FromStr};

use gumshoe_model::{AccountId, Invalid};
use gumshoe_runtime::config::{self, ConfigError, Configuration, Listen, ServerOptions, Telemetry, Trust};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{account::Email, bootstrap::KeyPair};

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
    /// The tokens given out for access keys.
    pub bearer: Bearer,
    /// Regions in which graphs can be created; the first is the default. Default `us-east-1`.
    #[serde(default = "regions")]
    pub regions: Vec<String>,
    /// Key of page tokens, the same in every replica. Default: a random one.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "config::masked_option")]
    pub page_token_key: Option<SecretString>,
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
    vec!["us-east-1".to_owned()]
}

const fn connections() -> u32 {
    10
}

fn installation() -> String {
    "gumshoe".to_owned()
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
        for (key, value) in [("bearer.issuer", &self.bearer.issuer), ("bearer.audience", &self.bearer.audience)] {
            if value.is_empty() {
                return Err(ConfigError::key(key, "must not be empty"));
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
