//! Organizations, in SQL.

use async_trait::async_trait;
use gumshoe_model::{AccountId, GraphArn, Timestamp};
use gumshoe_runtime::store::Connection;
use sqlx::Row as _;

use super::{
    SqlStore, found,
    graph::{ensure_graph, remove_graph},
    lock_graph, lock_organization, member, parsed, time,
};
use crate::{
    datasource::Package,
    graph::Graph,
    member::{Event, Facts, MAX_MEMBERS},
    organization::{self, Administrator, NotDesignated, OrganizationAccount, Refused},
    store::{OrganizationStore, Outcomes, StoreError},
    tag::Tags,
};

#[async_trait]
impl OrganizationStore for SqlStore {
    async fn create_organization(&self, manager: &AccountId, now: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.0.begin().await?;
        let created = sqlx::query(
            "INSERT INTO organizations (management_account_id, create_time, revision) VALUES ($1, $2, 0) ON CONFLICT (management_account_id) DO NOTHING",
        )
        .bind(manager.as_str())
        .bind(now.0)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if created > 0 && !insert_account(&mut transaction, manager, manager, now).await? {
            return Err(StoreError::AlreadyExists);
        }
        transaction.commit().await.map_err(StoreError::from)
    }

    async fn add_accounts(&self, manager: &AccountId, accounts: &[AccountId], now: Timestamp) -> Result<Outcomes<(), Refused>, StoreError> {
        let mut transaction = self.0.begin().await?;
        lock_organization(&mut transaction, manager).await?;
        let mut outcomes = Vec::with_capacity(accounts.len());
        let mut joined = Vec::new();
        for account in accounts {
            let present = organization_of(&mut transaction, account).await?;
            let mut outcome = organization::join(manager, is_registered(&mut transaction, account).await?, present.as_ref());
            if outcome.is_ok() && present.is_none() {
                if insert_account(&mut transaction, manager, account, now).await? {
                    joined.push(account);
                } else {
                    // Another organization was quicker.
                    outcome = Err(Refused::IsElsewhere);
                }
            }
            outcomes.push((account.clone(), outcome));
        }
        for (graph, auto_enable) in graphs(&mut transaction, manager).await? {
            if !take_graph(&mut transaction, &graph).await? {
                continue;
            }
            for account in &joined {
                let is_member = member::present(&mut transaction, &graph, account).await?.is_some();
                if is_member || auto_enable && member::count(&mut transaction, &graph).await? < MAX_MEMBERS {
                    join_graph(&mut transaction, &graph, account, now).await?;
                }
            }
        }
        transaction.commit().await?;
        Ok(outcomes)
    }

    async fn remove_accounts(&self, manager: &AccountId, accounts: &[AccountId], now: Timestamp) -> Result<Outcomes<(), Refused>, StoreError> {
        let mut transaction = self.0.begin().await?;
        lock_organization(&mut transaction, manager).await?;
        let graphs = graphs(&mut transaction, manager).await?;
        let mut outcomes = Vec::with_capacity(accounts.len());
        let mut left = Vec::new();
        for account in accounts {
            let present = organization_of(&mut transaction, account).await?;
            let administers = graphs.iter().any(|(graph, _)| graph.account() == account);
            let outcome = organization::leave(manager, account, present.as_ref(), administers);
            if outcome.is_ok() {
                let statement = sqlx::query("DELETE FROM organization_accounts WHERE management_account_id = $1 AND account_id = $2");
                statement.bind(manager.as_str()).bind(account.as_str()).execute(&mut *transaction).await?;
                left.push(account);
            }
            outcomes.push((account.clone(), outcome));
        }
        for (graph, _) in &graphs {
            if !take_graph(&mut transaction, graph).await? {
                continue;
            }
            for account in &left {
                // An account that is no member has nothing to leave.
                let _ = member::change(&mut transaction, graph, account, None, Event::Delete, &Facts::NONE, now).await?;
            }
        }
        transaction.commit().await?;
        Ok(outcomes)
    }

    async fn list_organization_accounts(&self, account: &AccountId, after: Option<&AccountId>, limit: u32) -> Result<Vec<OrganizationAccount>, StoreError> {
        let row = sqlx::query(
            "SELECT management_account_id FROM organizations WHERE management_account_id = $1 \
             UNION SELECT management_account_id FROM organization_administrators WHERE account_id = $1",
        )
        .bind(account.as_str())
        .fetch_optional(&self.0.pool)
        .await?;
        let manager: AccountId = parsed(&row.ok_or(StoreError::NotFound)?, "management_account_id")?;
        sqlx::query("SELECT account_id, join_time FROM organization_accounts WHERE management_account_id = $1 AND account_id > $2 ORDER BY account_id LIMIT $3")
            .bind(manager.as_str())
            .bind(after.map_or("", AccountId::as_str))
            .bind(i64::from(limit))
            .fetch_all(&self.0.pool)
            .await?
            .iter()
            .map(|row| {
                let account: AccountId = parsed(row, "account_id")?;
                Ok(OrganizationAccount { management: account == manager, account, join_time: time(row, "join_time")? })
            })
            .collect()
    }

    async fn designate(&self, manager: &AccountId, graph: &Graph, packages: &[Package], now: Timestamp) -> Result<Result<(), NotDesignated>, StoreError> {
        let mut transaction = self.0.begin().await?;
        lock_organization(&mut transaction, manager).await?;
        let account = graph.arn.account();
        if organization_of(&mut transaction, account).await?.as_ref() != Some(manager) {
            return Ok(Err(NotDesignated::IsOutside));
        }
        if let Some(administrator) = administrator(&mut transaction, manager, graph.arn.region()).await? {
            return Ok(if administrator.account == *account { Ok(()) } else { Err(NotDesignated::IsTaken) });
        }
        let graph = ensure_graph(&mut transaction, graph, &Tags::new(), packages).await?.arn;
        lock_graph(&mut transaction, &graph).await?;
        sqlx::query(
            "INSERT INTO organization_administrators (management_account_id, region, account_id, graph_arn, auto_enable, delegation_time) \
             VALUES ($1, $2, $3, $4, 0, $5)",
        )
        .bind(manager.as_str())
        .bind(graph.region())
        .bind(account.as_str())
        .bind(graph.to_string())
        .bind(now.0)
        .execute(&mut *transaction)
        .await?;
        let rows = sqlx::query(
            "SELECT memberships.account_id AS account_id FROM memberships \
             JOIN organization_accounts AS accounts ON accounts.account_id = memberships.account_id \
             WHERE memberships.graph_arn = $1 AND accounts.management_account_id = $2",
        )
        .bind(graph.to_string())
        .bind(manager.as_str())
        .fetch_all(&mut *transaction)
        .await?;
        for row in &rows {
            join_graph(&mut transaction, &graph, &parsed(row, "account_id")?, now).await?;
        }
        transaction.commit().await?;
        Ok(Ok(()))
    }

    async fn withdraw(&self, manager: &AccountId, region: &str, now: Timestamp) -> Result<bool, StoreError> {
        let mut transaction = self.0.begin().await?;
        lock_organization(&mut transaction, manager).await?;
        let Some(administrator) = administrator(&mut transaction, manager, region).await? else { return Ok(false) };
        match remove_graph(&mut transaction, &administrator.graph, now).await {
            Ok(()) => {}
            // The administrator has removed the graph meanwhile, and itself with it.
            Err(StoreError::NotFound) => return Ok(false),
            Err(error) => return Err(error),
        }
        transaction.commit().await?;
        Ok(true)
    }

    async fn is_in_organization(&self, account: &AccountId) -> Result<bool, StoreError> {
        let mut connection = self.0.pool.acquire().await?;
        Ok(organization_of(&mut connection, account).await?.is_some())
    }

    async fn administrator(&self, manager: &AccountId, region: &str) -> Result<Option<Administrator>, StoreError> {
        let mut connection = self.0.pool.acquire().await?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM organizations WHERE management_account_id = $1")
            .bind(manager.as_str())
            .fetch_one(&mut *connection)
            .await?;
        found(count.unsigned_abs())?;
        administrator(&mut connection, manager, region).await
    }

    async fn auto_enable(&self, graph: &GraphArn) -> Result<bool, StoreError> {
        let auto_enable: Option<i64> = sqlx::query_scalar("SELECT auto_enable FROM organization_administrators WHERE graph_arn = $1")
            .bind(graph.to_string())
            .fetch_optional(&self.0.pool)
            .await?;
        auto_enable.map(|auto_enable| auto_enable != 0).ok_or(StoreError::NotFound)
    }

    async fn set_auto_enable(&self, graph: &GraphArn, auto_enable: bool) -> Result<(), StoreError> {
        let statement = sqlx::query("UPDATE organization_administrators SET auto_enable = $2 WHERE graph_arn = $1");
        found(statement.bind(graph.to_string()).bind(i64::from(auto_enable)).execute(&self.0.pool).await?.rows_affected())
    }
}

async fn insert_account(connection: &mut Connection, manager: &AccountId, account: &AccountId, now: Timestamp) -> Result<bool, StoreError> {
    let outcome =
        sqlx::query("INSERT INTO organization_accounts (management_account_id, account_id, join_time) VALUES ($1, $2, $3) ON CONFLICT (account_id) DO NOTHING")
            .bind(manager.as_str())
            .bind(account.as_str())
            .bind(now.0)
            .execute(connection)
            .await;
    Ok(outcome?.rows_affected() > 0)
}

/// The management account of the organization that an account belongs to.
async fn organization_of(connection: &mut Connection, account: &AccountId) -> Result<Option<AccountId>, StoreError> {
    let row =
        sqlx::query("SELECT management_account_id FROM organization_accounts WHERE account_id = $1").bind(account.as_str()).fetch_optional(connection).await;
    row?.as_ref().map(|row| parsed(row, "management_account_id")).transpose()
}

async fn is_registered(connection: &mut Connection, account: &AccountId) -> Result<bool, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM accounts WHERE account_id = $1").bind(account.as_str()).fetch_one(connection).await?;
    Ok(count > 0)
}

/// The organization's graphs, in order of their ARNs, and whether new accounts become members of them.
async fn graphs(connection: &mut Connection, manager: &AccountId) -> Result<Vec<(GraphArn, bool)>, StoreError> {
    sqlx::query("SELECT graph_arn, auto_enable FROM organization_administrators WHERE management_account_id = $1 ORDER BY graph_arn")
        .bind(manager.as_str())
        .fetch_all(connection)
        .await?
        .iter()
        .map(|row| Ok((parsed(row, "graph_arn")?, row.try_get::<i64, _>("auto_enable")? != 0)))
        .collect()
}

async fn administrator(connection: &mut Connection, manager: &AccountId, region: &str) -> Result<Option<Administrator>, StoreError> {
    let row = sqlx::query("SELECT account_id, graph_arn, delegation_time FROM organization_administrators WHERE management_account_id = $1 AND region = $2")
        .bind(manager.as_str())
        .bind(region)
        .fetch_optional(connection)
        .await?;
    row.as_ref()
        .map(|row| Ok(Administrator { account: parsed(row, "account_id")?, graph: parsed(row, "graph_arn")?, delegation_time: time(row, "delegation_time")? }))
        .transpose()
}

/// Takes a graph's row; `false` if the graph has gone meanwhile.
async fn take_graph(connection: &mut Connection, graph: &GraphArn) -> Result<bool, StoreError> {
    match lock_graph(connection, graph).await {
        Ok(()) => Ok(true),
        Err(StoreError::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes an account a member by its organization. The administrator of the graph itself stays what it is.
async fn join_graph(connection: &mut Connection, graph: &GraphArn, account: &AccountId, now: Timestamp) -> Result<(), StoreError> {
    if let Err(refused) = member::change(connection, graph, account, None, Event::JoinOrganization, &Facts::NONE, now).await? {
        tracing::debug!(%graph, reason = refused.reason(), "an account did not join its organization's graph");
    }
    Ok(())
}
