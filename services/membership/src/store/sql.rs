//! The store in SQL, on SQLite and Postgres.
//!
//! Changes of members follow one another by taking the row of their graph first; registrations of accounts by taking
//! one row for all of them; changes of organizations by taking the organization's row. INVARIANT: a transaction takes
//! the registration row before an organization's, that before graphs', and several graphs' in order of their ARNs.

use std::str::FromStr;

use async_trait::async_trait;
use gumshoe_model::{AccountId, GraphArn, Timestamp};
use gumshoe_runtime::store::{Connection, Database, Schema};
use sqlx::{Row as _, any::AnyRow};

use super::{FirstAccount, FirstAdministrator, Store, StoreError};
use crate::{config, tag::Tags};

mod graph;
mod member;
mod organization;
mod principal;

const SCHEMA: Schema = Schema {
    table: "membership_migrations",
    version: "SELECT coalesce(max(version), 0) FROM membership_migrations",
    steps: &[
        ("create accounts", include_str!("../../migrations/0001_create_accounts.sql")),
        ("create graphs", include_str!("../../migrations/0002_create_graphs.sql")),
        ("create members", include_str!("../../migrations/0003_create_members.sql")),
        ("create principals", include_str!("../../migrations/0004_create_principals.sql")),
        ("create access keys", include_str!("../../migrations/0005_create_access_keys.sql")),
        ("create policies", include_str!("../../migrations/0006_create_policies.sql")),
        ("create memberships", include_str!("../../migrations/0007_create_memberships.sql")),
        ("create package changes", include_str!("../../migrations/0008_create_package_changes.sql")),
        ("create graph removals", include_str!("../../migrations/0009_create_graph_removals.sql")),
        ("create graph tags", include_str!("../../migrations/0010_create_graph_tags.sql")),
        ("create organizations", include_str!("../../migrations/0011_create_organizations.sql")),
        ("create registration lock", include_str!("../../migrations/0012_create_registration_lock.sql")),
        ("add access key ciphertext", include_str!("../../migrations/0013_add_access_key_ciphertext.sql")),
        ("add trust policy", include_str!("../../migrations/0014_add_trust_policy.sql")),
    ],
};

/// The version of the schema that this program needs.
pub const SCHEMA_VERSION: usize = SCHEMA.steps.len();

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
        store.ready().await?;
        Ok(store)
    }

    /// Brings the schema to the version that this program needs; creates the file of SQLite if it is missing.
    ///
    /// # Errors
    /// [`StoreError::SchemaVersion`] when it is newer, [`StoreError::Unavailable`] and [`StoreError::Fault`].
    pub async fn migrate(config: &config::Store) -> Result<(), StoreError> {
        Ok(Database::migrate(&config.url, &SCHEMA).await?)
    }

    /// Takes the first `steps` steps of the schema only: a database of an earlier version.
    #[cfg(test)]
    pub(super) async fn migrate_partly(config: &config::Store, steps: usize) {
        let steps = SCHEMA.steps.get(..steps).unwrap_or(SCHEMA.steps);
        Database::migrate(&config.url, &Schema { steps, ..SCHEMA }).await.unwrap();
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.0.pool.close().await;
    }
}

#[async_trait]
impl Store for SqlStore {
    async fn ready(&self) -> Result<(), StoreError> {
        Ok(self.0.check(&SCHEMA).await?)
    }

    async fn bootstrap(&self, first: &FirstAccount, administrator: &FirstAdministrator) -> Result<bool, StoreError> {
        let account = &first.account.id;
        let mut transaction = self.0.begin().await?;
        graph::register(&mut transaction, account, &first.account).await?;
        if !principal::insert_administrator(&mut transaction, account, administrator).await? {
            return Ok(false);
        }
        graph::ensure_graph(&mut transaction, &first.graph, &Tags::new(), &first.packages).await?;
        transaction.commit().await?;
        Ok(true)
    }
}

/// Takes the graph's row, so that changes of what belongs to it follow one another.
async fn lock_graph(connection: &mut Connection, graph: &GraphArn) -> Result<(), StoreError> {
    let outcome = sqlx::query("UPDATE graphs SET revision = revision + 1 WHERE arn = $1").bind(graph.to_string()).execute(connection).await;
    found(outcome?.rows_affected())
}

/// Takes the row of all registrations, so that an account is not registered while its absence is being noted.
async fn lock_registrations(connection: &mut Connection) -> Result<(), StoreError> {
    let outcome = sqlx::query("UPDATE registration_lock SET revision = revision + 1 WHERE name = 'accounts'").execute(connection).await;
    outcome?;
    Ok(())
}

/// Takes the organization's row, so that its changes follow one another.
async fn lock_organization(connection: &mut Connection, manager: &AccountId) -> Result<(), StoreError> {
    let statement = sqlx::query("UPDATE organizations SET revision = revision + 1 WHERE management_account_id = $1");
    found(statement.bind(manager.as_str()).execute(connection).await?.rows_affected())
}

fn found(rows: u64) -> Result<(), StoreError> {
    if rows > 0 { Ok(()) } else { Err(StoreError::NotFound) }
}

fn text(row: &AnyRow, column: &str) -> Result<String, StoreError> {
    row.try_get(column).map_err(StoreError::from)
}

fn optional_text(row: &AnyRow, column: &str) -> Result<Option<String>, StoreError> {
    row.try_get(column).map_err(StoreError::from)
}

fn time(row: &AnyRow, column: &str) -> Result<Timestamp, StoreError> {
    row.try_get(column).map(Timestamp).map_err(StoreError::from)
}

fn parsed<T>(row: &AnyRow, column: &str) -> Result<T, StoreError>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text(row, column)?.parse().map_err(|error| StoreError::Fault(Box::new(error)))
}

fn known<T>(value: Option<T>, column: &str) -> Result<T, StoreError> {
    value.ok_or_else(|| StoreError::Fault(format!("`{column}` has an unknown value").into()))
}
