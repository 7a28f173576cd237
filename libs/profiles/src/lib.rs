//! Hot profiles: answers derived from the lake, kept in memory or in Redis until the lake moves on.
//!
//! | module | holds |
//! |---|---|
//! | [`Profiles`] | the cache: get, put, and building an absent value once however many ask for it |
//! | [`Key`] | graph, kind, and lake version and request or name of one value |
//! | `shared` | the Redis side, with its circuit breaker |
//!
//! Nothing here is a source of truth. A store that is absent, slow or empty means building again, never an error.

mod breaker;
mod flight;
mod shared;

use std::{
    fmt,
    future::Future,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gumshoe_model::GraphArn;
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::{flight::Flights, shared::Shared};

/// Values above this many bytes are not kept: one of them would push out thousands.
const MAX_VALUE_BYTES: usize = 4 << 20;

/// A cache URL that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not a URL, or of a scheme other than `memory`, `redis` and `rediss`.
    #[error("profile store must be `memory://`, `redis://HOST:PORT/DB` or `rediss://HOST:PORT/DB`")]
    Url,
    /// The Redis client does not accept the URL.
    #[error("profile store URL is not valid")]
    Redis(#[from] redis::RedisError),
}

/// Names one value. Two requests with equal keys have equal answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(String);

impl Key {
    /// The key of the answer to `request` (its encoded bytes) on `graph` as of the lake's `version`.
    ///
    /// Form: `gumshoe:v1:{GRAPH}:profile:KIND:VERSION:HASH`; the braces keep a graph on one Redis Cluster slot.
    #[must_use]
    pub fn new(graph: &GraphArn, kind: &'static str, version: u64, request: &[u8]) -> Self {
        Self(format!("gumshoe:v1:{{{}}}:profile:{kind}:{version}:{}", graph.id(), hash(graph, request)))
    }

    /// The key of what is kept under `name` on `graph` whatever the lake's version, in a form that has the number `format`.
    ///
    /// Form: `gumshoe:v1:{GRAPH}:hot:KIND:FORMAT:HASH`.
    #[must_use]
    pub fn hot(graph: &GraphArn, kind: &'static str, format: u32, name: &str) -> Self {
        Self(format!("gumshoe:v1:{{{}}}:hot:{kind}:{format}:{}", graph.id(), hash(graph, name.as_bytes())))
    }

    /// The key as the store sees it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn hash(graph: &GraphArn, name: &[u8]) -> String {
    let mut hash = Sha256::new();
    // The full ARN, so that graphs of two regions with one id stay apart.
    hash.update(graph.to_string());
    hash.update([0]);
    hash.update(name);
    hex::encode(hash.finalize())
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[derive(Clone)]
struct Held {
    value: Bytes,
    until: Instant,
}

enum Store {
    Memory(moka::sync::Cache<String, Held>),
    Shared(Shared),
}

/// The cache of derived answers.
pub struct Profiles {
    store: Store,
    flights: Flights,
}

impl fmt::Debug for Profiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = match self.store {
            Store::Memory(_) => "memory",
            Store::Shared(_) => "redis",
        };
        formatter.debug_struct("Profiles").field("store", &store).finish_non_exhaustive()
    }
}

impl Profiles {
    /// A cache in this process that holds at most `bytes`.
    #[must_use]
    pub fn memory(bytes: u64) -> Self {
        let weigh = |key: &String, held: &Held| u32::try_from(key.len() + held.value.len() + 96).unwrap_or(u32::MAX);
        let cache = moka::sync::Cache::builder().max_capacity(bytes).weigher(weigh).time_to_live(Duration::from_secs(24 * 3_600)).build();
        Self { store: Store::Memory(cache), flights: Flights::default() }
    }

    /// The cache that `url` names: `memory://` (at most `memory_bytes`), `redis://`, `rediss://`; with `?cluster=true`
    /// the host is one node of a Redis Cluster. Does not connect: an absent Redis is found out, and forgiven, later.
    ///
    /// # Errors
    /// [`OpenError`] when the URL cannot be used. Must be called inside a Tokio runtime.
    pub fn open(url: &str, memory_bytes: u64) -> Result<Self, OpenError> {
        let mut url = Url::parse(url).map_err(|_| OpenError::Url)?;
        match url.scheme() {
            "memory" => Ok(Self::memory(memory_bytes)),
            "redis" | "rediss" => {
                let cluster = url.query_pairs().any(|(name, value)| name == "cluster" && value == "true");
                let rest: Vec<_> =
                    url.query_pairs().filter(|(name, _)| name != "cluster").map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
                url.set_query(None);
                if !rest.is_empty() {
                    url.query_pairs_mut().extend_pairs(rest);
                }
                Ok(Self { store: Store::Shared(Shared::open(url.as_str(), cluster)?), flights: Flights::default() })
            }
            _ => Err(OpenError::Url),
        }
    }

    /// Whether other processes see what is put.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.store, Store::Shared(_))
    }

    /// The value under `key`, if the store has it and answers in time.
    pub async fn get(&self, key: &Key) -> Option<Bytes> {
        match &self.store {
            Store::Memory(cache) => cache.get(key.as_str()).filter(|held| Instant::now() < held.until).map(|held| held.value),
            Store::Shared(shared) => shared.get(key.as_str()).await,
        }
    }

    /// Keeps `value` under `key` for `ttl` at most; values above 4 MiB are not kept.
    pub async fn put(&self, key: &Key, value: Bytes, ttl: Duration) {
        if value.len() > MAX_VALUE_BYTES {
            return;
        }
        match &self.store {
            Store::Memory(cache) => cache.insert(key.as_str().to_owned(), Held { value, until: Instant::now() + ttl }),
            Store::Shared(shared) => shared.put(key.as_str(), value, ttl).await,
        }
    }

    /// The value under `key`; if there is none, `build` makes it, once in this process however many ask at the same
    /// time. A failed or cancelled build is not kept: the next caller tries again.
    ///
    /// # Errors
    /// What `build` fails with.
    pub async fn get_or_build<E>(&self, key: &Key, ttl: Duration, build: impl Future<Output = Result<Bytes, E>>) -> Result<Bytes, E> {
        if let Some(value) = self.get(key).await {
            return Ok(value);
        }
        let flight = self.flights.join(key);
        flight
            .value(async {
                let value = build.await?;
                self.put(key, value.clone(), ttl).await;
                Ok(value)
            })
            .await
    }
}
