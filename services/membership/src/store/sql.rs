//! The store in SQL, on SQLite and Postgres.

use std::str::FromStr;

use async_trait::async_trait;
use gumshoe_model::{AccountId, GraphArn, Timestamp};
use sqlx::{Row as _, any::AnyRow};

use super::{Authorization, FirstAdministrator, Outcomes, Store, StoreError};
use crate::{
    access_key::{AccessKey, AccessKeyId, Credential, MAX_KEYS, SecretDigest},
    account::{Account, Email},
    config,
    graph::{self, Graph, MAX_MEMBERS, Member, MemberStatus, NewMember, Unprocessed},
    policy::{MAX_POLICIES, Policy, PolicyDocument, PolicyName},
    principal::{Principal, PrincipalName},
};

mod database;

use database::{Connection, Database, Schema, failure};

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
        store.ready().await?;
        Ok(store)
    }

    /// Brings the schema to the version that this program needs; creates the file of SQLite if it is missing.
    ///
    /// # Errors
    /// [`StoreError::SchemaVersion`] when it is newer, [`StoreError::Unavailable`] and [`StoreError::Fault`].
    pub async fn migrate(config: &config::Store) -> Result<(), StoreError> {
        Database::migrate(&config.url, &SCHEMA).await
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.0.pool.close().await;
    }
}

#[async_trait]
impl Store for SqlStore {
    async fn ready(&self) -> Result<(), StoreError> {
        self.0.check(&SCHEMA).await
    }

    async fn create_account(&self, registrar: &AccountId, account: &Account) -> Result<(), StoreError> {
        let mut connection = self.0.pool.acquire().await.map_err(failure)?;
        if insert_account(&mut connection, registrar, account).await? { Ok(()) } else { Err(StoreError::AlreadyExists) }
    }

    async fn list_accounts(&self, registrar: &AccountId, after: Option<&AccountId>, limit: u32) -> Result<Vec<Account>, StoreError> {
        sqlx::query("SELECT account_id, name, email, create_time FROM accounts WHERE registered_by = $1 AND account_id > $2 ORDER BY account_id LIMIT $3")
            .bind(registrar.as_str())
            .bind(after.map_or("", AccountId::as_str))
            .bind(i64::from(limit))
            .fetch_all(&self.0.pool)
            .await
            .map_err(failure)?
            .iter()
            .map(|row| {
                Ok(Account { id: parsed(row, "account_id")?, name: parsed(row, "name")?, email: parsed(row, "email")?, create_time: time(row, "create_time")? })
            })
            .collect()
    }

    async fn create_graph(&self, graph: &Graph) -> Result<Graph, StoreError> {
        let mut connection = self.0.pool.acquire().await.map_err(failure)?;
        insert_graph(&mut connection, graph).await?;
        // Graphs are not deleted, so the row is there: this call's or an earlier one's.
        let row = sqlx::query("SELECT arn, create_time FROM graphs WHERE account_id = $1 AND region = $2")
            .bind(graph.arn.account().as_str())
            .bind(graph.arn.region())
            .fetch_optional(&mut *connection)
            .await
            .map_err(failure)?;
        row.as_ref().ok_or(StoreError::NotFound).and_then(graph_of)
    }

    async fn graph(&self, arn: &GraphArn) -> Result<Graph, StoreError> {
        let row =
            sqlx::query("SELECT arn, create_time FROM graphs WHERE arn = $1").bind(arn.to_string()).fetch_optional(&self.0.pool).await.map_err(failure)?;
        row.as_ref().ok_or(StoreError::NotFound).and_then(graph_of)
    }

    async fn list_graphs(&self, account: &AccountId, after: Option<&GraphArn>, limit: u32) -> Result<Vec<Graph>, StoreError> {
        sqlx::query("SELECT arn, create_time FROM graphs WHERE account_id = $1 AND arn > $2 ORDER BY arn LIMIT $3")
            .bind(account.as_str())
            .bind(after.map(ToString::to_string).unwrap_or_default())
            .bind(i64::from(limit))
            .fetch_all(&self.0.pool)
            .await
            .map_err(failure)?
            .iter()
            .map(graph_of)
            .collect()
    }

    async fn create_members(&self, graph: &GraphArn, members: &[NewMember], now: Timestamp) -> Result<Outcomes<Member>, StoreError> {
        let mut transaction = self.0.begin().await?;
        lock_graph(&mut transaction, graph).await?;
        let mut outcomes = Vec::with_capacity(members.len());
        for new in members {
            let outcome = create_member(&mut transaction, graph, new, now).await?;
            outcomes.push((new.account.clone(), outcome));
        }
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM members WHERE graph_arn = $1")
            .bind(graph.to_string())
            .fetch_one(&mut *transaction)
            .await
            .map_err(failure)?;
        if usize::try_from(count).unwrap_or(usize::MAX) > MAX_MEMBERS {
            return Err(StoreError::QuotaExceeded);
        }
        transaction.commit().await.map_err(failure)?;
        Ok(outcomes)
    }

    async fn list_members(&self, graph: &GraphArn, after: Option<&AccountId>, limit: u32) -> Result<Vec<Member>, StoreError> {
        sqlx::query(
            "SELECT account_id, email, status, invite_time, update_time FROM members WHERE graph_arn = $1 AND account_id > $2 ORDER BY account_id LIMIT $3",
        )
        .bind(graph.to_string())
        .bind(after.map_or("", AccountId::as_str))
        .bind(i64::from(limit))
        .fetch_all(&self.0.pool)
        .await
        .map_err(failure)?
        .iter()
        .map(|row| {
            Ok(Member {
                account: parsed(row, "account_id")?,
                email: parsed(row, "email")?,
                status: status(row)?,
                invite_time: time(row, "invite_time")?,
                update_time: time(row, "update_time")?,
            })
        })
        .collect()
    }

    async fn delete_members(&self, graph: &GraphArn, accounts: &[AccountId]) -> Result<Outcomes<()>, StoreError> {
        let mut transaction = self.0.begin().await?;
        lock_graph(&mut transaction, graph).await?;
        let mut outcomes = Vec::with_capacity(accounts.len());
        for account in accounts {
            let deleted = sqlx::query("DELETE FROM members WHERE graph_arn = $1 AND account_id = $2")
                .bind(graph.to_string())
                .bind(account.as_str())
                .execute(&mut *transaction)
                .await
                .map_err(failure)?
                .rows_affected();
            let outcome = match deleted {
                0 if account == graph.account() => Err(Unprocessed::IsAdministrator),
                0 => Err(Unprocessed::IsNoMember),
                _ => Ok(()),
            };
            outcomes.push((account.clone(), outcome));
        }
        transaction.commit().await.map_err(failure)?;
        Ok(outcomes)
    }

    async fn create_principal(&self, account: &AccountId, principal: &Principal) -> Result<(), StoreError> {
        let mut connection = self.0.pool.acquire().await.map_err(failure)?;
        if insert_principal(&mut connection, account, principal).await? { Ok(()) } else { Err(StoreError::AlreadyExists) }
    }

    async fn list_principals(&self, account: &AccountId, after: Option<&PrincipalName>, limit: u32) -> Result<Vec<Principal>, StoreError> {
        sqlx::query("SELECT name, create_time FROM principals WHERE account_id = $1 AND name > $2 ORDER BY name LIMIT $3")
            .bind(account.as_str())
            .bind(after.map_or("", PrincipalName::as_str))
            .bind(i64::from(limit))
            .fetch_all(&self.0.pool)
            .await
            .map_err(failure)?
            .iter()
            .map(|row| Ok(Principal { name: parsed(row, "name")?, create_time: time(row, "create_time")? }))
            .collect()
    }

    async fn delete_principal(&self, account: &AccountId, name: &PrincipalName) -> Result<(), StoreError> {
        // Keys and policies go with it by their foreign keys.
        let outcome =
            sqlx::query("DELETE FROM principals WHERE account_id = $1 AND name = $2").bind(account.as_str()).bind(name.as_str()).execute(&self.0.pool).await;
        found(outcome.map_err(failure)?.rows_affected())
    }

    async fn create_access_key(&self, account: &AccountId, key: &AccessKey, digest: &SecretDigest) -> Result<(), StoreError> {
        let mut transaction = self.0.begin().await?;
        lock_principal(&mut transaction, account, &key.principal).await?;
        insert_access_key(&mut transaction, account, key, digest).await?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM access_keys WHERE account_id = $1 AND principal = $2")
            .bind(account.as_str())
            .bind(key.principal.as_str())
            .fetch_one(&mut *transaction)
            .await
            .map_err(failure)?;
        if usize::try_from(count).unwrap_or(usize::MAX) > MAX_KEYS {
            return Err(StoreError::QuotaExceeded);
        }
        transaction.commit().await.map_err(failure)
    }

    async fn list_access_keys(&self, account: &AccountId, name: &PrincipalName) -> Result<Vec<AccessKey>, StoreError> {
        let rows = sqlx::query(
            "SELECT access_key_id, principal, active, create_time, last_used_time FROM access_keys \
             WHERE account_id = $1 AND principal = $2 ORDER BY create_time, access_key_id",
        )
        .bind(account.as_str())
        .bind(name.as_str())
        .fetch_all(&self.0.pool)
        .await
        .map_err(failure)?;
        if rows.is_empty() {
            self.require_principal(account, name).await?;
        }
        rows.iter().map(access_key_of).collect()
    }

    async fn update_access_key(&self, account: &AccountId, id: &AccessKeyId, active: bool) -> Result<AccessKey, StoreError> {
        let row = sqlx::query(
            "UPDATE access_keys SET active = $3 WHERE account_id = $1 AND access_key_id = $2 \
             RETURNING access_key_id, principal, active, create_time, last_used_time",
        )
        .bind(account.as_str())
        .bind(id.as_str())
        .bind(i64::from(active))
        .fetch_optional(&self.0.pool)
        .await
        .map_err(failure)?;
        row.as_ref().ok_or(StoreError::NotFound).and_then(access_key_of)
    }

    async fn delete_access_key(&self, account: &AccountId, id: &AccessKeyId) -> Result<(), StoreError> {
        let outcome = sqlx::query("DELETE FROM access_keys WHERE account_id = $1 AND access_key_id = $2")
            .bind(account.as_str())
            .bind(id.as_str())
            .execute(&self.0.pool)
            .await;
        found(outcome.map_err(failure)?.rows_affected())
    }

    async fn credential(&self, id: &AccessKeyId) -> Result<Credential, StoreError> {
        let row = sqlx::query(
            "SELECT account_id, access_key_id, principal, active, create_time, last_used_time, secret_digest FROM access_keys WHERE access_key_id = $1",
        )
        .bind(id.as_str())
        .fetch_optional(&self.0.pool)
        .await
        .map_err(failure)?
        .ok_or(StoreError::NotFound)?;
        let digest = text(&row, "secret_digest")?;
        Ok(Credential {
            account: parsed(&row, "account_id")?,
            key: access_key_of(&row)?,
            digest: SecretDigest::from_hex(&digest).ok_or_else(|| StoreError::Fault("`secret_digest` is not a digest".into()))?,
        })
    }

    async fn touch_access_key(&self, account: &AccountId, id: &AccessKeyId, time: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE access_keys SET last_used_time = $3 WHERE account_id = $1 AND access_key_id = $2 AND (last_used_time IS NULL OR last_used_time < $3)",
        )
        .bind(account.as_str())
        .bind(id.as_str())
        .bind(time.0)
        .execute(&self.0.pool)
        .await
        .map_err(failure)?;
        Ok(())
    }

    async fn put_policy(&self, account: &AccountId, name: &PrincipalName, policy: &Policy) -> Result<(), StoreError> {
        let mut transaction = self.0.begin().await?;
        lock_principal(&mut transaction, account, name).await?;
        upsert_policy(&mut transaction, account, name, policy).await?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM policies WHERE account_id = $1 AND principal = $2")
            .bind(account.as_str())
            .bind(name.as_str())
            .fetch_one(&mut *transaction)
            .await
            .map_err(failure)?;
        if usize::try_from(count).unwrap_or(usize::MAX) > MAX_POLICIES {
            return Err(StoreError::QuotaExceeded);
        }
        transaction.commit().await.map_err(failure)
    }

    async fn list_policies(&self, account: &AccountId, name: &PrincipalName) -> Result<Vec<Policy>, StoreError> {
        let rows = sqlx::query("SELECT name, document, update_time FROM policies WHERE account_id = $1 AND principal = $2 ORDER BY name")
            .bind(account.as_str())
            .bind(name.as_str())
            .fetch_all(&self.0.pool)
            .await
            .map_err(failure)?;
        if rows.is_empty() {
            self.require_principal(account, name).await?;
        }
        rows.iter()
            .map(|row| {
                Ok(Policy { name: parsed(row, "name")?, document: PolicyDocument::stored(text(row, "document")?), update_time: time(row, "update_time")? })
            })
            .collect()
    }

    async fn authorization(&self, account: &AccountId, name: &PrincipalName) -> Result<Authorization, StoreError> {
        let policies = self.list_policies(account, name).await?;
        let rows = sqlx::query("SELECT arn FROM graphs WHERE account_id = $1 ORDER BY arn").bind(account.as_str()).fetch_all(&self.0.pool).await;
        let graphs = rows.map_err(failure)?.iter().map(|row| parsed(row, "arn")).collect::<Result<_, _>>()?;
        Ok(Authorization { policies, graphs })
    }

    async fn delete_policy(&self, account: &AccountId, name: &PrincipalName, policy: &PolicyName) -> Result<(), StoreError> {
        let outcome = sqlx::query("DELETE FROM policies WHERE account_id = $1 AND principal = $2 AND name = $3")
            .bind(account.as_str())
            .bind(name.as_str())
            .bind(policy.as_str())
            .execute(&self.0.pool)
            .await;
        found(outcome.map_err(failure)?.rows_affected())
    }

    async fn bootstrap(&self, first: &FirstAdministrator) -> Result<bool, StoreError> {
        let account = &first.account.id;
        let mut transaction = self.0.begin().await?;
        insert_account(&mut transaction, account, &first.account).await?;
        // Takes the account's row, so that of several concurrent calls one is first.
        sqlx::query("UPDATE accounts SET name = name WHERE account_id = $1").bind(account.as_str()).execute(&mut *transaction).await.map_err(failure)?;
        let principals: i64 = sqlx::query_scalar("SELECT count(*) FROM principals WHERE account_id = $1")
            .bind(account.as_str())
            .fetch_one(&mut *transaction)
            .await
            .map_err(failure)?;
        if principals > 0 {
            return Ok(false);
        }
        insert_graph(&mut transaction, &first.graph).await?;
        insert_principal(&mut transaction, account, &first.principal).await?;
        upsert_policy(&mut transaction, account, &first.principal.name, &first.policy).await?;
        insert_access_key(&mut transaction, account, &first.key, &first.digest).await?;
        transaction.commit().await.map_err(failure)?;
        Ok(true)
    }
}

impl SqlStore {
    async fn require_principal(&self, account: &AccountId, name: &PrincipalName) -> Result<(), StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM principals WHERE account_id = $1 AND name = $2")
            .bind(account.as_str())
            .bind(name.as_str())
            .fetch_one(&self.0.pool)
            .await
            .map_err(failure)?;
        found(count.unsigned_abs())
    }
}

async fn insert_account(connection: &mut Connection, registrar: &AccountId, account: &Account) -> Result<bool, StoreError> {
    let outcome = sqlx::query(
        "INSERT INTO accounts (account_id, registered_by, name, email, create_time) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (account_id) DO NOTHING",
    )
    .bind(account.id.as_str())
    .bind(registrar.as_str())
    .bind(account.name.as_str())
    .bind(account.email.as_str())
    .bind(account.create_time.0)
    .execute(connection)
    .await;
    Ok(outcome.map_err(failure)?.rows_affected() > 0)
}

async fn insert_graph(connection: &mut Connection, graph: &Graph) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO graphs (account_id, region, arn, create_time, revision) VALUES ($1, $2, $3, $4, 0) ON CONFLICT (account_id, region) DO NOTHING")
        .bind(graph.arn.account().as_str())
        .bind(graph.arn.region())
        .bind(graph.arn.to_string())
        .bind(graph.create_time.0)
        .execute(connection)
        .await
        .map_err(failure)?;
    Ok(())
}

async fn insert_principal(connection: &mut Connection, account: &AccountId, principal: &Principal) -> Result<bool, StoreError> {
    let outcome =
        sqlx::query("INSERT INTO principals (account_id, name, create_time, revision) VALUES ($1, $2, $3, 0) ON CONFLICT (account_id, name) DO NOTHING")
            .bind(account.as_str())
            .bind(principal.name.as_str())
            .bind(principal.create_time.0)
            .execute(connection)
            .await;
    Ok(outcome.map_err(failure)?.rows_affected() > 0)
}

async fn insert_access_key(connection: &mut Connection, account: &AccountId, key: &AccessKey, digest: &SecretDigest) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO access_keys (account_id, access_key_id, principal, secret_digest, active, create_time, last_used_time) VALUES ($1, $2, $3, $4, $5, $6, $7)")
        .bind(account.as_str())
        .bind(key.id.as_str())
        .bind(key.principal.as_str())
        .bind(digest.to_hex())
        .bind(i64::from(key.active))
        .bind(key.create_time.0)
        .bind(key.last_used_time.map(|time| time.0))
        .execute(connection)
        .await
        .map_err(failure)?;
    Ok(())
}

async fn upsert_policy(connection: &mut Connection, account: &AccountId, name: &PrincipalName, policy: &Policy) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO policies (account_id, principal, name, document, update_time) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (account_id, principal, name) DO UPDATE SET document = excluded.document, update_time = excluded.update_time",
    )
    .bind(account.as_str())
    .bind(name.as_str())
    .bind(policy.name.as_str())
    .bind(policy.document.as_given())
    .bind(policy.update_time.0)
    .execute(connection)
    .await
    .map_err(failure)?;
    Ok(())
}

async fn create_member(connection: &mut Connection, graph: &GraphArn, new: &NewMember, now: Timestamp) -> Result<Result<Member, Unprocessed>, StoreError> {
    let registered = sqlx::query("SELECT email FROM accounts WHERE account_id = $1").bind(new.account.as_str()).fetch_optional(&mut *connection).await;
    let registered: Option<Email> = registered.map_err(failure)?.as_ref().map(|row| parsed(row, "email")).transpose()?;
    let present = sqlx::query("SELECT status FROM members WHERE graph_arn = $1 AND account_id = $2")
        .bind(graph.to_string())
        .bind(new.account.as_str())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failure)?;
    let present = present.as_ref().map(status).transpose()?;
    let status = match graph::admit(graph.account(), new, registered.as_ref(), present) {
        Ok(status) => status,
        Err(reason) => return Ok(Err(reason)),
    };
    sqlx::query(
        "INSERT INTO members (graph_arn, account_id, email, status, invite_time, update_time) VALUES ($1, $2, $3, $4, $5, $5) \
         ON CONFLICT (graph_arn, account_id) DO UPDATE SET email = excluded.email, status = excluded.status, \
         invite_time = excluded.invite_time, update_time = excluded.update_time",
    )
    .bind(graph.to_string())
    .bind(new.account.as_str())
    .bind(new.email.as_str())
    .bind(status.as_str())
    .bind(now.0)
    .execute(connection)
    .await
    .map_err(failure)?;
    Ok(Ok(Member { account: new.account.clone(), email: new.email.clone(), status, invite_time: now, update_time: now }))
}

/// Takes the graph's row, so that changes of its members follow one another.
async fn lock_graph(connection: &mut Connection, graph: &GraphArn) -> Result<(), StoreError> {
    let outcome = sqlx::query("UPDATE graphs SET revision = revision + 1 WHERE arn = $1").bind(graph.to_string()).execute(connection).await;
    found(outcome.map_err(failure)?.rows_affected())
}

/// Takes the principal's row, so that changes of its keys and policies follow one another.
async fn lock_principal(connection: &mut Connection, account: &AccountId, name: &PrincipalName) -> Result<(), StoreError> {
    let outcome = sqlx::query("UPDATE principals SET revision = revision + 1 WHERE account_id = $1 AND name = $2")
        .bind(account.as_str())
        .bind(name.as_str())
        .execute(connection)
        .await;
    found(outcome.map_err(failure)?.rows_affected())
}

fn found(rows: u64) -> Result<(), StoreError> {
    if rows > 0 { Ok(()) } else { Err(StoreError::NotFound) }
}

fn graph_of(row: &AnyRow) -> Result<Graph, StoreError> {
    Ok(Graph { arn: parsed(row, "arn")?, create_time: time(row, "create_time")? })
}

fn access_key_of(row: &AnyRow) -> Result<AccessKey, StoreError> {
    Ok(AccessKey {
        id: parsed(row, "access_key_id")?,
        principal: parsed(row, "principal")?,
        active: row.try_get::<i64, _>("active").map_err(failure)? != 0,
        create_time: time(row, "create_time")?,
        last_used_time: row.try_get::<Option<i64>, _>("last_used_time").map_err(failure)?.map(Timestamp),
    })
}

fn status(row: &AnyRow) -> Result<MemberStatus, StoreError> {
    MemberStatus::from_name(&text(row, "status")?).ok_or_else(|| StoreError::Fault("`status` is not a member's status".into()))
}

fn text(row: &AnyRow, column: &str) -> Result<String, StoreError> {
    row.try_get(column).map_err(failure)
}

fn time(row: &AnyRow, column: &str) -> Result<Timestamp, StoreError> {
    row.try_get(column).map(Timestamp).map_err(failure)
}

fn parsed<T>(row: &AnyRow, column: &str) -> Result<T, StoreError>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text(row, column)?.parse().map_err(|error| StoreError::Fault(Box::new(error)))
}
