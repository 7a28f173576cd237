//! Profiles in Redis or Redis Cluster, shared by the replicas of a service.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use bytes::Bytes;
use redis::{
    Client, Cmd, RedisError, RedisResult,
    aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig},
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
};
use tokio::sync::OnceCell;

use crate::breaker::Breaker;

/// Longer than this, and building again is as fast.
const CALL_TIMEOUT: Duration = Duration::from_millis(250);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

enum Connection {
    Single(ConnectionManager),
    Cluster { client: Box<ClusterClient>, connection: OnceCell<ClusterConnection> },
}

#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("no answer in time")]
    Timeout,
}

/// A Redis that may be absent.
pub(crate) struct Shared {
    connection: Connection,
    breaker: Breaker,
}

impl Shared {
    pub(crate) fn open(url: &str, cluster: bool) -> RedisResult<Self> {
        let connection = if cluster {
            let client = ClusterClientBuilder::new([url]).connection_timeout(CONNECT_TIMEOUT).response_timeout(CALL_TIMEOUT).retries(1).build()?;
            Connection::Cluster { client: Box::new(client), connection: OnceCell::new() }
        } else {
            let config = ConnectionManagerConfig::new()
                .set_connection_timeout(Some(CONNECT_TIMEOUT))
                .set_response_timeout(Some(CALL_TIMEOUT))
                .set_number_of_retries(1)
                .set_max_delay(CALL_TIMEOUT);
            Connection::Single(ConnectionManager::new_lazy_with_config(Client::open(url)?, config)?)
        };
        Ok(Self { connection, breaker: Breaker::default() })
    }

    pub(crate) async fn get(&self, key: &str) -> Option<Bytes> {
        let mut command = redis::cmd("GET");
        command.arg(key);
        self.guarded(self.query::<Option<Vec<u8>>>(&command)).await.flatten().map(Bytes::from)
    }

    pub(crate) async fn put(&self, key: &str, value: Bytes, ttl: Duration) {
        let mut command = redis::cmd("SET");
        let milliseconds = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        command.arg(key).arg(&*value).arg("PX").arg(milliseconds);
        self.guarded(self.query::<()>(&command)).await;
    }

    async fn query<T: redis::FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        async fn on<T: redis::FromRedisValue>(mut connection: impl ConnectionLike, command: &Cmd) -> RedisResult<T> {
            command.query_async(&mut connection).await
        }
        match &self.connection {
            Connection::Single(manager) => on(manager.clone(), command).await,
            Connection::Cluster { client, connection } => {
                let connection = connection.get_or_try_init(|| client.get_async_connection()).await?;
                on(connection.clone(), command).await
            }
        }
    }

    /// The call's answer, or `None` when the store fails, is late, or has failed too often of late.
    async fn guarded<T>(&self, call: impl Future<Output = RedisResult<T>>) -> Option<T> {
        if !self.breaker.allows(Instant::now()) {
            return None;
        }
        let answer = match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(answer) => answer.map_err(CallError::from),
            Err(_) => Err(CallError::Timeout),
        };
        match answer {
            Ok(value) => {
                if self.breaker.success() {
                    tracing::info!("profile store answers again");
                }
                Some(value)
            }
            Err(error) => {
                if self.breaker.failure(Instant::now()) {
                    tracing::warn!(%error, "profile store does not answer, going on without it");
                }
                None
            }
        }
    }
}
