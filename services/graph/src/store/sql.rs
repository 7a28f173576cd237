//! The store in SQL, on SQLite and Postgres.

use async_trait::async_trait;
use gumshoe_model::Timestamp;
use gumshoe_runtime::store::{Database, Schema};

use super::{Store, StoreError};
use crate::config;

const SCHEMA: Schema = Schema {
    table: "graph_migrations",
    version: "SELECT coalesce(max(version), 0) FROM graph_migrations",
    steps: &[
        ("create leases", include_str!("../../migrations/0001_create_leases.sql")),
        ("create sweeps", include_str!("../../migrations/0002_create_sweeps.sql")),
        ("create watchlists", include_str!("../../migrations/0003_create_watchlists.sql")),
    ],
};

/// The store in one database.
#[derive(Debug, Clone)]
pub struct SqlStore(Database);

impl SqlStore {
    /// Opens the database, whose schema must be the one that this program needs.
    ///
    /// # Errors
    /// [`StoreError::SchemaVersion`], [`StoreError::Unavailable`] and [`StoreError::Fault`].
    pub async fn open(config: &config::Store) -> Result<Self, StoreError> {
        let store = Self(Database::connect_lazy(&config.url, config.connections)?);
        store.0.check(&SCHEMA).await?;
        Ok(store)
    }

    /// Brings the schema to the version that this program needs; creates the file of SQLite if it is missing.
    ///
    /// # Errors
    /// [`StoreError::SchemaVersion`] when it is newer, [`StoreError::Unavailable`] and [`StoreError::Fault`].
    pub async fn migrate(config: &config::Store) -> Result<(), StoreError> {
        Ok(Database::migrate(&config.url, &SCHEMA).await?)
    }

    pub(super) async fn begin(&self) -> Result<sqlx::Transaction<'static, sqlx::Any>, StoreError> {
        Ok(self.0.begin().await?)
    }

    pub(super) fn pool(&self) -> &sqlx::AnyPool {
        &self.0.pool
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.0.pool.close().await;
    }
}

#[async_trait]
impl Store for SqlStore {
    async fn take(&self, name: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        let taken = sqlx::query(
            "INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at WHERE leases.expires_at <= $4",
        )
        .bind(name)
        .bind(holder)
        .bind(until.0)
        .bind(now.0)
        .execute(&self.0.pool)
        .await?;
        Ok(taken.rows_affected() == 1)
    }

    async fn renew(&self, name: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        let renewed = sqlx::query("UPDATE leases SET expires_at = $1 WHERE name = $2 AND holder = $3 AND expires_at > $4")
            .bind(until.0)
            .bind(name)
            .bind(holder)
            .bind(now.0)
            .execute(&self.0.pool)
            .await?;
        Ok(renewed.rows_affected() == 1)
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM leases WHERE name = $1 AND holder = $2").bind(name).bind(holder).execute(&self.0.pool).await?;
        Ok(())
    }
}
