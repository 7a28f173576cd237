//! Accounts, graphs with their tags and packages, and removals, in SQL.

use std::collections::BTreeMap;

use async_trait::async_trait;
use gumshoe_model::{AccountId, GraphArn, Timestamp};
use gumshoe_runtime::store::Connection;
use sqlx::{Row as _, any::AnyRow};

use super::{SqlStore, found, known, lock_graph, lock_registrations, member, parsed, text, time};
use crate::{
    account::Account,
    datasource::{Package, PackageChange, PackageState},
    graph::Graph,
    member::Status,
    removal::Removal,
    store::{GraphAccounts, GraphStore, StoreError},
    tag::{MAX_TAGS, TagKey, Tags},
};

/// How often to look for a graph that others make and remove at the same time.
const ATTEMPTS: usize = 8;

#[async_trait]
impl GraphStore for SqlStore {
    async fn create_account(&self, registrar: &AccountId, account: &Account) -> Result<(), StoreError> {
        let mut transaction = self.0.begin().await?;
        if !register(&mut transaction, registrar, account).await? {
            return Err(StoreError::AlreadyExists);
        }
        transaction.commit().await.map_err(StoreError::from)
    }

    async fn list_accounts(&self, registrar: &AccountId, after: Option<&AccountId>, limit: u32) -> Result<Vec<Account>, StoreError> {
        sqlx::query("SELECT account_id, name, email, create_time FROM accounts WHERE registered_by = $1 AND account_id > $2 ORDER BY account_id LIMIT $3")
            .bind(registrar.as_str())
            .bind(after.map_or("", AccountId::as_str))
            .bind(i64::from(limit))
            .fetch_all(&self.0.pool)
            .await?
            .iter()
            .map(|row| {
                Ok(Account { id: parsed(row, "account_id")?, name: parsed(row, "name")?, email: parsed(row, "email")?, create_time: time(row, "create_time")? })
            })
            .collect()
    }

    async fn create_graph(&self, graph: &Graph, tags: &Tags, packages: &[Package]) -> Result<Graph, StoreError> {
        let mut transaction = self.0.begin().await?;
        let graph = ensure_graph(&mut transaction, graph, tags, packages).await?;
        transaction.commit().await?;
        Ok(graph)
    }

    async fn graph(&self, arn: &GraphArn) -> Result<Graph, StoreError> {
        let row = sqlx::query("SELECT arn, create_time FROM graphs WHERE arn = $1").bind(arn.to_string()).fetch_optional(&self.0.pool).await?;
        row.as_ref().ok_or(StoreError::NotFound).and_then(graph_of)
    }

    async fn list_graphs(&self, account: &AccountId, after: Option<&GraphArn>, limit: u32) -> Result<Vec<Graph>, StoreError> {
        sqlx::query("SELECT arn, create_time FROM graphs WHERE account_id = $1 AND arn > $2 ORDER BY arn LIMIT $3")
            .bind(account.as_str())
            .bind(after.map(ToString::to_string).unwrap_or_default())
            .bind(i64::from(limit))
            .fetch_all(&self.0.pool)
            .await?
            .iter()
            .map(graph_of)
            .collect()
    }

    async fn delete_graph(&self, graph: &GraphArn, now: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.0.begin().await?;
        remove_graph(&mut transaction, graph, now).await?;
        transaction.commit().await.map_err(StoreError::from)
    }

    async fn graph_accounts(&self, graph: &GraphArn) -> Result<Option<GraphAccounts>, StoreError> {
        let mut connection = self.0.pool.acquire().await?;
        let packages = started_packages(&mut connection, graph).await?;
        // Every graph has a package.
        if packages.is_empty() {
            return Ok(None);
        }
        let mut accounts: BTreeMap<AccountId, bool> = BTreeMap::new();
        for row in sqlx::query("SELECT account_id FROM accounts").fetch_all(&mut *connection).await? {
            accounts.insert(parsed(&row, "account_id")?, false);
        }
        let rows = sqlx::query("SELECT account_id, status FROM memberships WHERE graph_arn = $1").bind(graph.to_string()).fetch_all(&mut *connection).await;
        for row in rows? {
            accounts.insert(parsed(&row, "account_id")?, text(&row, "status")? == Status::Enabled.as_str());
        }
        accounts.insert(graph.account().clone(), true);
        Ok(Some(GraphAccounts { accounts: accounts.into_iter().collect(), packages }))
    }

    async fn graphs_of_data(&self, account: &AccountId) -> Result<Vec<GraphArn>, StoreError> {
        sqlx::query(
            "SELECT arn FROM graphs WHERE account_id = $1 \
             UNION SELECT graph_arn AS arn FROM memberships WHERE account_id = $1 AND status = 'ENABLED' ORDER BY arn",
        )
        .bind(account.as_str())
        .fetch_all(&self.0.pool)
        .await?
        .iter()
        .map(|row| parsed(row, "arn"))
        .collect()
    }

    async fn tags(&self, graph: &GraphArn) -> Result<Tags, StoreError> {
        let rows = sqlx::query("SELECT tag_key, tag_value FROM graph_tags WHERE graph_arn = $1").bind(graph.to_string()).fetch_all(&self.0.pool).await;
        let tags: Tags = rows?.iter().map(|row| Ok((parsed(row, "tag_key")?, parsed(row, "tag_value")?))).collect::<Result<_, StoreError>>()?;
        if tags.is_empty() {
            self.graph(graph).await?;
        }
        Ok(tags)
    }

    async fn set_tags(&self, graph: &GraphArn, tags: &Tags) -> Result<(), StoreError> {
        let mut transaction = self.0.begin().await?;
        lock_graph(&mut transaction, graph).await?;
        upsert_tags(&mut transaction, graph, tags).await?;
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM graph_tags WHERE graph_arn = $1").bind(graph.to_string()).fetch_one(&mut *transaction).await?;
        if usize::try_from(count).unwrap_or(usize::MAX) > MAX_TAGS {
            return Err(StoreError::QuotaExceeded);
        }
        transaction.commit().await.map_err(StoreError::from)
    }

    async fn remove_tags(&self, graph: &GraphArn, keys: &[TagKey]) -> Result<(), StoreError> {
        let mut transaction = self.0.begin().await?;
        lock_graph(&mut transaction, graph).await?;
        for key in keys {
            sqlx::query("DELETE FROM graph_tags WHERE graph_arn = $1 AND tag_key = $2")
                .bind(graph.to_string())
                .bind(key.as_str())
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await.map_err(StoreError::from)
    }

    async fn start_packages(&self, graph: &GraphArn, packages: &[Package], now: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.0.begin().await?;
        lock_graph(&mut transaction, graph).await?;
        let started = started_packages(&mut transaction, graph).await?;
        for package in packages.iter().filter(|package| !started.contains(package)) {
            insert_package(&mut transaction, graph, *package, now).await?;
            sqlx::query(
                "INSERT INTO package_changes (graph_arn, account_id, package, state, time) \
                 SELECT graph_arn, account_id, $2, CASE WHEN status = 'ENABLED' THEN 'STARTED' ELSE 'DISABLED' END, $3 \
                 FROM memberships WHERE graph_arn = $1 \
                 ON CONFLICT (graph_arn, account_id, package, state) DO UPDATE SET time = excluded.time",
            )
            .bind(graph.to_string())
            .bind(package.as_str())
            .bind(now.0)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await.map_err(StoreError::from)
    }

    async fn package_changes(&self, graph: &GraphArn, account: &AccountId) -> Result<Vec<PackageChange>, StoreError> {
        sqlx::query("SELECT package, state, time FROM package_changes WHERE graph_arn = $1 AND account_id = $2 ORDER BY package, state")
            .bind(graph.to_string())
            .bind(account.as_str())
            .fetch_all(&self.0.pool)
            .await?
            .iter()
            .map(|row| {
                let state = known(PackageState::from_name(&text(row, "state")?), "state")?;
                Ok(PackageChange { package: parsed(row, "package")?, state, time: time(row, "time")? })
            })
            .collect()
    }

    async fn claim_removal(&self, now: Timestamp, lease: Timestamp) -> Result<Option<Removal>, StoreError> {
        // The outer condition is checked again after another replica has let go of the row.
        let row = sqlx::query(
            "UPDATE graph_removals SET lease_time = $2, attempts = attempts + 1 WHERE graph_arn = \
             (SELECT graph_arn FROM graph_removals WHERE due_time <= $1 AND lease_time <= $1 ORDER BY due_time, graph_arn LIMIT 1) \
             AND due_time <= $1 AND lease_time <= $1 RETURNING graph_arn, request_time, attempts",
        )
        .bind(now.0)
        .bind(lease.0)
        .fetch_optional(&self.0.pool)
        .await?;
        row.map(|row| {
            let attempts: i64 = row.try_get("attempts")?;
            Ok(Removal { graph: parsed(&row, "graph_arn")?, request_time: time(&row, "request_time")?, attempts: u32::try_from(attempts).unwrap_or(u32::MAX) })
        })
        .transpose()
    }

    async fn postpone_removal(&self, graph: &GraphArn, due: Timestamp) -> Result<(), StoreError> {
        let statement = sqlx::query("UPDATE graph_removals SET due_time = $2, lease_time = 0 WHERE graph_arn = $1");
        statement.bind(graph.to_string()).bind(due.0).execute(&self.0.pool).await?;
        Ok(())
    }

    async fn finish_removal(&self, graph: &GraphArn) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM graph_removals WHERE graph_arn = $1").bind(graph.to_string()).execute(&self.0.pool).await?;
        Ok(())
    }
}

/// Registers an account, unless it is, and lets the invitations that wait for it go on.
pub(super) async fn register(connection: &mut Connection, registrar: &AccountId, account: &Account) -> Result<bool, StoreError> {
    lock_registrations(connection).await?;
    let inserted = sqlx::query(
        "INSERT INTO accounts (account_id, registered_by, name, email, create_time) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (account_id) DO NOTHING",
    )
    .bind(account.id.as_str())
    .bind(registrar.as_str())
    .bind(account.name.as_str())
    .bind(account.email.as_str())
    .bind(account.create_time.0)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    if inserted > 0 {
        member::verify(connection, account).await?;
    }
    Ok(inserted > 0)
}

/// The graph of the account in the region: the one given, or the one that is there.
pub(super) async fn ensure_graph(connection: &mut Connection, graph: &Graph, tags: &Tags, packages: &[Package]) -> Result<Graph, StoreError> {
    for _ in 0..ATTEMPTS {
        let inserted = sqlx::query(
            "INSERT INTO graphs (account_id, region, arn, create_time, revision) VALUES ($1, $2, $3, $4, 0) ON CONFLICT (account_id, region) DO NOTHING",
        )
        .bind(graph.arn.account().as_str())
        .bind(graph.arn.region())
        .bind(graph.arn.to_string())
        .bind(graph.create_time.0)
        .execute(&mut *connection)
        .await?
        .rows_affected();
        if inserted > 0 {
            upsert_tags(connection, &graph.arn, tags).await?;
            for package in packages {
                insert_package(connection, &graph.arn, *package, graph.create_time).await?;
            }
            return Ok(graph.clone());
        }
        let row = sqlx::query("SELECT arn, create_time FROM graphs WHERE account_id = $1 AND region = $2")
            .bind(graph.arn.account().as_str())
            .bind(graph.arn.region())
            .fetch_optional(&mut *connection)
            .await?;
        if let Some(row) = row {
            return graph_of(&row);
        }
    }
    Err(StoreError::Unavailable("the graph is made and removed again and again".into()))
}

/// Removes a graph and notes that its data is to be removed.
pub(super) async fn remove_graph(connection: &mut Connection, graph: &GraphArn, now: Timestamp) -> Result<(), StoreError> {
    // What belongs to the graph goes with it by foreign keys.
    let deleted = sqlx::query("DELETE FROM graphs WHERE arn = $1").bind(graph.to_string()).execute(&mut *connection).await;
    found(deleted?.rows_affected())?;
    sqlx::query("INSERT INTO graph_removals (graph_arn, request_time, due_time, lease_time, attempts) VALUES ($1, $2, $2, 0, 0)")
        .bind(graph.to_string())
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// The packages that a graph ingests, by name.
pub(super) async fn started_packages(connection: &mut Connection, graph: &GraphArn) -> Result<Vec<Package>, StoreError> {
    sqlx::query("SELECT package FROM package_changes WHERE graph_arn = $1 AND account_id = $2 AND state = 'STARTED' ORDER BY package")
        .bind(graph.to_string())
        .bind(graph.account().as_str())
        .fetch_all(connection)
        .await?
        .iter()
        .map(|row| parsed(row, "package"))
        .collect()
}

async fn insert_package(connection: &mut Connection, graph: &GraphArn, package: Package, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO package_changes (graph_arn, account_id, package, state, time) VALUES ($1, $2, $3, 'STARTED', $4)")
        .bind(graph.to_string())
        .bind(graph.account().as_str())
        .bind(package.as_str())
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}

async fn upsert_tags(connection: &mut Connection, graph: &GraphArn, tags: &Tags) -> Result<(), StoreError> {
    for (key, value) in tags {
        sqlx::query(
            "INSERT INTO graph_tags (graph_arn, tag_key, tag_value) VALUES ($1, $2, $3) \
             ON CONFLICT (graph_arn, tag_key) DO UPDATE SET tag_value = excluded.tag_value",
        )
        .bind(graph.to_string())
        .bind(key.as_str())
        .bind(value.as_str())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

fn graph_of(row: &AnyRow) -> Result<Graph, StoreError> {
    Ok(Graph { arn: parsed(row, "arn")?, create_time: time(row, "create_time")? })
}
