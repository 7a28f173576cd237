//! Condition keys of a request and their values.

use std::collections::BTreeMap;

/// The value of one condition key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextValue {
    /// A single-valued key, such as `aws:SourceIp`.
    One(String),
    /// A multivalued key, such as `aws:TagKeys`. An empty list counts as an absent key.
    Many(Vec<String>),
}

impl From<&str> for ContextValue {
    fn from(value: &str) -> Self {
        Self::One(value.to_owned())
    }
}

impl From<String> for ContextValue {
    fn from(value: String) -> Self {
        Self::One(value)
    }
}

impl From<bool> for ContextValue {
    fn from(value: bool) -> Self {
        Self::One(value.to_string())
    }
}

impl From<Vec<String>> for ContextValue {
    fn from(values: Vec<String>) -> Self {
        Self::Many(values)
    }
}

/// The condition keys of a request. Names ignore case, as in AWS: `aws:sourceip` is `aws:SourceIp`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context(BTreeMap<String, ContextValue>);

impl Context {
    /// No keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key`, replacing its value.
    pub fn set(&mut self, key: &str, value: impl Into<ContextValue>) {
        self.0.insert(key.to_lowercase(), value.into());
    }

    /// The same, for building in one expression.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<ContextValue>) -> Self {
        self.set(key, value);
        self
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&ContextValue> {
        self.lookup(&key.to_lowercase())
    }

    /// The value of a key that is in lower case already; none when it is an empty list.
    pub(crate) fn lookup(&self, lowercase: &str) -> Option<&ContextValue> {
        self.0.get(lowercase).filter(|value| !matches!(value, ContextValue::Many(values) if values.is_empty()))
    }
}

impl<K: AsRef<str>, V: Into<ContextValue>> FromIterator<(K, V)> for Context {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        pairs.into_iter().fold(Self::new(), |context, (key, value)| context.with(key.as_ref(), value))
    }
}
