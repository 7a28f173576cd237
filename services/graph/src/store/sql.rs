//! The store in SQL, on SQLite and Postgres.

use async_trait::async_trait;
use gumshoe_model::{GraphArn, Timestamp};
use gumshoe_runtime::store::{Connection, Database, Schema};
use sqlx::{Row as _, any::AnyRow};

use super::{RuleStore, Store, StoreError, StoredRule};
use crate::config;

const SCHEMA: Schema = Schema {
    table: "graph_migrations",
    version: "SELECT coalesce(max(version), 0) FROM graph_migrations",
    steps: &[
        ("create leases", include_str!("../../migrations/0001_create_leases.sql")),
        ("create sweeps", include_str!("../../migrations/0002_create_sweeps.sql")),
        ("create watchlists", include_str!("../../migrations/0003_create_watchlists.sql")),
        ("create rules", include_str!("../../migrations/0004_create_rules.sql")),
        ("create usual pairs", include_str!("../../migrations/0005_create_usual_pairs.sql")),
        ("create entity tags", include_str!("../../migrations/0006_create_entity_tags.sql")),
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

#[async_trait]
impl RuleStore for SqlStore {
    async fn rule_revision(&self, graph: &GraphArn) -> Result<i64, StoreError> {
        let revision = sqlx::query_scalar::<_, i64>("SELECT revision FROM rule_revisions WHERE graph_arn = $1");
        Ok(revision.bind(graph.to_string()).fetch_optional(&self.0.pool).await?.unwrap_or_default())
    }

    async fn rules(&self, graph: &GraphArn) -> Result<(i64, Vec<StoredRule>), StoreError> {
        // Read before the rules: if they change meanwhile, they are read again when next asked for.
        let revision = self.rule_revision(graph).await?;
        let rows = sqlx::query("SELECT rule_id, document, author, create_time, update_time FROM rules WHERE graph_arn = $1 ORDER BY rule_id");
        let rows = rows.bind(graph.to_string()).fetch_all(&self.0.pool).await?;
        Ok((revision, rows.iter().map(rule).collect::<Result<_, _>>()?))
    }

    async fn put_rule(&self, graph: &GraphArn, revision: i64, rule: &StoredRule) -> Result<bool, StoreError> {
        let mut transaction = self.0.begin().await?;
        if !advance(&mut transaction, graph, revision).await? {
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO rules (graph_arn, rule_id, document, author, create_time, update_time) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (graph_arn, rule_id) DO UPDATE SET document = excluded.document, author = excluded.author, update_time = excluded.update_time",
        )
        .bind(graph.to_string())
        .bind(&rule.id)
        .bind(&rule.document)
        .bind(&rule.author)
        .bind(rule.create_time.0)
        .bind(rule.update_time.0)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn delete_rule(&self, graph: &GraphArn, revision: i64, id: &str) -> Result<bool, StoreError> {
        let mut transaction = self.0.begin().await?;
        if !advance(&mut transaction, graph, revision).await? {
            return Ok(false);
        }
        let delete = sqlx::query("DELETE FROM rules WHERE graph_arn = $1 AND rule_id = $2").bind(graph.to_string()).bind(id);
        delete.execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn delete_rules(&self, graph: &GraphArn) -> Result<(), StoreError> {
        let mut transaction = self.0.begin().await?;
        for sql in ["DELETE FROM rules WHERE graph_arn = $1", "DELETE FROM rule_revisions WHERE graph_arn = $1"] {
            sqlx::query(sql).bind(graph.to_string()).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// Counts a change of a graph's rules; `false` if they are not at `revision` any more.
async fn advance(connection: &mut Connection, graph: &GraphArn, revision: i64) -> Result<bool, StoreError> {
    let counted = sqlx::query(
        "INSERT INTO rule_revisions (graph_arn, revision) VALUES ($1, 1) \
         ON CONFLICT (graph_arn) DO UPDATE SET revision = rule_revisions.revision + 1 WHERE rule_revisions.revision = $2",
    );
    let counted = counted.bind(graph.to_string()).bind(revision).execute(&mut *connection).await?.rows_affected() == 1;
    // A first change is by who knew of none.
    let now = sqlx::query_scalar::<_, i64>("SELECT revision FROM rule_revisions WHERE graph_arn = $1").bind(graph.to_string());
    Ok(counted && now.fetch_one(connection).await? == revision + 1)
}

fn rule(row: &AnyRow) -> Result<StoredRule, sqlx::Error> {
    Ok(StoredRule {
        id: row.try_get("rule_id")?,
        document: row.try_get("document")?,
        author: row.try_get("author")?,
        create_time: Timestamp(row.try_get("create_time")?),
        update_time: Timestamp(row.try_get("update_time")?),
    })
}
