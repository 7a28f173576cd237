//! Configuration: file, then environment, then flags. The only module that reads `std::env`.

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use serde::{Serialize, Serializer, de::DeserializeOwned};
use url::Url;

mod parts;

pub use parts::{ClientTls, Listen, LogFormat, ServerOptions, Telemetry, Tls, Trust, Upstream};

/// What stands in for a secret wherever configuration is shown.
pub const REDACTED: &str = "[redacted]";

/// Configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file `{path}` cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("configuration file `{path}` is not TOML: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// One key is unknown, missing or has a value that it cannot have.
    #[error("configuration key `{key}`: {reason}")]
    Key {
        /// Its path, such as `lake.url`.
        key: String,
        /// What is wrong; never the value, which may be a secret.
        reason: String,
    },
}

impl ConfigError {
    /// For `validate()`: what is wrong with one key.
    #[must_use]
    pub fn key(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Key { key: key.into(), reason: reason.into() }
    }
}

/// The configuration of one service: a serde struct that denies unknown fields.
pub trait Configuration: DeserializeOwned + Serialize {
    /// The service's name, `graph`: the environment's prefix is then `GUMSHOE_GRAPH__`.
    const SERVICE: &'static str;

    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`ConfigError::Key`] for the first key at fault.
    fn validate(&self) -> Result<(), ConfigError>;

    /// Where the service listens.
    fn listen(&self) -> &Listen;

    /// How it logs and traces.
    fn telemetry(&self) -> &Telemetry;
}

/// Reads the configuration of `service`.
///
/// Later sources win, key by key: the TOML `file`, then environment variables such as `GUMSHOE_GRAPH__LAKE__URL`
/// for `lake.url` of `graph`, then `overrides` of key and value. Values of the last two that start with `[` or `{` are
/// read as TOML arrays and tables; all others are strings that become what the field needs.
///
/// # Errors
/// [`ConfigError`], naming the file or key. Unknown keys are errors if `T` denies unknown fields.
pub fn load<T: DeserializeOwned>(service: &str, file: Option<&Path>, overrides: &[(String, String)]) -> Result<T, ConfigError> {
    load_from(service, file, std::env::vars_os(), overrides)
}

/// The value of one environment variable outside the configuration; for tools that have a convention of their own.
#[must_use]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The arguments of the process, without its own name.
pub(crate) fn arguments() -> impl Iterator<Item = OsString> {
    std::env::args_os().skip(1)
}

fn load_from<T: DeserializeOwned>(
    service: &str,
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    overrides: &[(String, String)],
) -> Result<T, ConfigError> {
    let mut builder = config::Config::builder();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax { path: path.to_owned(), reason: syntax(&text, &error) })?;
        let values = table.into_iter().map(|(key, value)| (key, from_toml(value))).collect();
        builder = builder.add_source(Layer(values));
    }
    builder = builder.add_source(Layer(from_environment(service, environment)?));
    // One layer a flag, so that the order of flags decides and not that of a map.
    for (key, value) in overrides {
        builder = builder.add_source(Layer(HashMap::from([(key.clone(), from_text(key, value)?)])));
    }
    builder.build().and_then(config::Config::try_deserialize).map_err(explain)
}

fn from_environment(service: &str, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<HashMap<String, config::Value>, ConfigError> {
    let prefix = format!("GUMSHOE_{}__", service.to_uppercase().replace('-', "_"));
    let mut values = HashMap::new();
    for (name, value) in environment {
        let Some(name) = name.to_str().and_then(|name| name.strip_prefix(&prefix)) else { continue };
        let key = name.to_lowercase().replace("__", ".");
        let value = value.into_string().map_err(|_| ConfigError::key(&key, "the environment variable is not UTF-8"))?;
        values.insert(key.clone(), from_text(&key, &value)?);
    }
    Ok(values)
}

fn from_text(key: &str, text: &str) -> Result<config::Value, ConfigError> {
    if text.starts_with(['[', '{']) {
        let mut table: toml::Table = format!("value = {text}").parse().map_err(|_| ConfigError::key(key, "not a TOML array or table"))?;
        if let Some(value) = table.remove("value") {
            return Ok(from_toml(value));
        }
    }
    Ok(text.into())
}

fn from_toml(value: toml::Value) -> config::Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(from_toml).collect::<Vec<_>>().into(),
        toml::Value::Table(table) => table.into_iter().map(|(key, value)| (key, from_toml(value))).collect::<HashMap<_, _>>().into(),
    }
}

/// One source of values by path.
#[derive(Debug, Clone)]
struct Layer(HashMap<String, config::Value>);

impl config::Source for Layer {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<HashMap<String, config::Value>, config::ConfigError> {
        // Shorter paths first: `lake` as a table, then `lake.url` inside it.
        let mut keys: Vec<_> = self.0.iter().collect();
        keys.sort_by_key(|(key, _)| (key.len(), (*key).clone()));
        let mut table = HashMap::new();
        for (key, value) in keys {
            let segments: Vec<&str> = key.split('.').collect();
            if segments.iter().any(|segment| segment.is_empty()) {
                return Err(config::ConfigError::Message(format!("`{key}` is not a key")));
            }
            insert(&mut table, &segments, value.clone());
        }
        Ok(table)
    }
}

fn insert(table: &mut HashMap<String, config::Value>, path: &[&str], value: config::Value) {
    match path {
        [] => {}
        [last] => {
            table.insert((*last).to_owned(), value);
        }
        [first, rest @ ..] => {
            let mut inner = table.remove(*first).and_then(|value| value.into_table().ok()).unwrap_or_default();
            insert(&mut inner, rest, value);
            table.insert((*first).to_owned(), inner.into());
        }
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.matches('\n').count() + 1);
    format!("line {line}: {}", error.message())
}

/// Turns the library's error into ours: with the key, without the value.
fn explain(error: config::ConfigError) -> ConfigError {
    match error {
        config::ConfigError::NotFound(key) => ConfigError::key(key, "required"),
        config::ConfigError::Type { expected, key, .. } => ConfigError::key(key.unwrap_or_default(), format!("expected {expected}")),
        config::ConfigError::At { error, key, .. } => {
            let key = key.unwrap_or_default();
            match explain(*error) {
                ConfigError::Key { key: inner, reason } if inner.is_empty() || inner == key => ConfigError::key(key, reason),
                ConfigError::Key { key: inner, reason } => ConfigError::key(format!("{key}.{inner}"), reason),
                other => other,
            }
        }
        other => {
            let text = other.to_string();
            match text.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
                Some((field, rest)) => ConfigError::key(field, format!("unknown{rest}")),
                None => ConfigError::key("", without_value(&text)),
            }
        }
    }
}

/// Takes the value, in double quotes, out of what serde and the parsers say.
fn without_value(text: &str) -> String {
    match text.rsplit_once(", expected ") {
        Some((start, expected)) if start.starts_with("invalid ") => format!("expected {expected}"),
        _ => text.split('"').next().unwrap_or_default().trim_end_matches([':', ' ']).to_owned(),
    }
}

/// Writes a secret as [`REDACTED`]: `#[serde(serialize_with = "gumshoe_runtime::config::masked")]`.
///
/// # Errors
/// Those of the serializer.
pub fn masked<S: Serializer>(_: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(REDACTED)
}

/// As [`masked`], for a secret that may be absent.
///
/// # Errors
/// Those of the serializer.
pub fn masked_option<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(_) => serializer.serialize_some(REDACTED),
        None => serializer.serialize_none(),
    }
}

/// Writes a URL with its password, if it has one, as [`REDACTED`].
///
/// # Errors
/// Those of the serializer.
pub fn masked_url<S: Serializer>(url: &Url, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&without_password(url))
}

/// A URL as it may be logged: without its password.
#[must_use]
pub fn without_password(url: &Url) -> String {
    match url.password() {
        Some(_) => {
            let mut shown = url.clone();
            // The marker must not be percent-encoded, so a plain word goes in first. Fails only for URLs that cannot
            // have a password.
            match shown.set_password(Some("redacted")) {
                Ok(()) => shown.as_str().replacen(":redacted@", &format!(":{REDACTED}@"), 1),
                Err(()) => REDACTED.to_owned(),
            }
        }
        None => url.to_string(),
    }
}

/// The configuration in force as TOML, secrets masked.
///
/// # Errors
/// [`ConfigError::Key`] when a value has no form in TOML.
pub fn show<C: Configuration>(configuration: &C) -> Result<String, ConfigError> {
    toml::to_string_pretty(configuration).map_err(|error| ConfigError::key("", error.to_string()))
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
