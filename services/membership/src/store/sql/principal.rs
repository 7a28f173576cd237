//! Principals with their access keys and policies, in SQL.

use async_trait::async_trait;
use gumshoe_model::{AccountId, GraphArn, Timestamp};
use gumshoe_runtime::store::Connection;
use sqlx::{Row as _, any::AnyRow};

use super::{SqlStore, found, optional_text, parsed, text, time};
use crate::{
    access_key::{AccessKey, AccessKeyId, Credential, MAX_KEYS, SecretDigest, StoredSecret},
    policy::{MAX_POLICIES, Policy, PolicyDocument, PolicyName},
    principal::{Principal, PrincipalName, TrustPolicy},
    secret::Sealed,
    store::{Authorization, FirstAdministrator, PrincipalStore, StoreError},
    tag::Tags,
};

#[async_trait]
impl PrincipalStore for SqlStore {
    async fn create_principal(&self, account: &AccountId, principal: &Principal) -> Result<(), StoreError> {
        let mut connection = self.0.pool.acquire().await?;
        if insert_principal(&mut connection, account, principal).await? { Ok(()) } else { Err(StoreError::AlreadyExists) }
    }

    async fn create_administrator(&self, registrar: &AccountId, account: &AccountId, administrator: &FirstAdministrator) -> Result<(), StoreError> {
        let mut transaction = self.0.begin().await?;
        let registered: i64 = sqlx::query_scalar("SELECT count(*) FROM accounts WHERE account_id = $1 AND registered_by = $2")
            .bind(account.as_str())
            .bind(registrar.as_str())
            .fetch_one(&mut *transaction)
            .await?;
        found(registered.unsigned_abs())?;
        if !insert_administrator(&mut transaction, account, administrator).await? {
            return Err(StoreError::AlreadyExists);
        }
        transaction.commit().await.map_err(StoreError::from)
    }

    async fn principal(&self, account: &AccountId, name: &PrincipalName) -> Result<Principal, StoreError> {
        let row = sqlx::query("SELECT name, create_time, trust_policy FROM principals WHERE account_id = $1 AND name = $2")
            .bind(account.as_str())
            .bind(name.as_str())
            .fetch_optional(&self.0.pool)
            .await?;
        row.as_ref().ok_or(StoreError::NotFound).and_then(principal_of)
    }

    async fn list_principals(&self, account: &AccountId, after: Option<&PrincipalName>, limit: u32) -> Result<Vec<Principal>, StoreError> {
        sqlx::query("SELECT name, create_time, trust_policy FROM principals WHERE account_id = $1 AND name > $2 ORDER BY name LIMIT $3")
            .bind(account.as_str())
            .bind(after.map_or("", PrincipalName::as_str))
            .bind(i64::from(limit))
            .fetch_all(&self.0.pool)
            .await?
            .iter()
            .map(principal_of)
            .collect()
    }

    async fn delete_principal(&self, account: &AccountId, name: &PrincipalName) -> Result<(), StoreError> {
        // Keys and policies go with it by their foreign keys.
        let outcome =
            sqlx::query("DELETE FROM principals WHERE account_id = $1 AND name = $2").bind(account.as_str()).bind(name.as_str()).execute(&self.0.pool).await;
        found(outcome?.rows_affected())
    }

    async fn create_access_key(&self, account: &AccountId, key: &AccessKey, secret: &StoredSecret) -> Result<(), StoreError> {
        let mut transaction = self.0.begin().await?;
        lock_principal(&mut transaction, account, &key.principal).await?;
        insert_access_key(&mut transaction, account, key, secret).await?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM access_keys WHERE account_id = $1 AND principal = $2")
            .bind(account.as_str())
            .bind(key.principal.as_str())
            .fetch_one(&mut *transaction)
            .await?;
        if usize::try_from(count).unwrap_or(usize::MAX) > MAX_KEYS {
            return Err(StoreError::QuotaExceeded);
        }
        transaction.commit().await.map_err(StoreError::from)
    }

    async fn list_access_keys(&self, account: &AccountId, name: &PrincipalName) -> Result<Vec<AccessKey>, StoreError> {
        let rows = sqlx::query(
            "SELECT access_key_id, principal, active, create_time, last_used_time FROM access_keys \
             WHERE account_id = $1 AND principal = $2 ORDER BY create_time, access_key_id",
        )
        .bind(account.as_str())
        .bind(name.as_str())
        .fetch_all(&self.0.pool)
        .await?;
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
        .await?;
        row.as_ref().ok_or(StoreError::NotFound).and_then(access_key_of)
    }

    async fn delete_access_key(&self, account: &AccountId, id: &AccessKeyId) -> Result<(), StoreError> {
        let outcome = sqlx::query("DELETE FROM access_keys WHERE account_id = $1 AND access_key_id = $2")
            .bind(account.as_str())
            .bind(id.as_str())
            .execute(&self.0.pool)
            .await;
        found(outcome?.rows_affected())
    }

    async fn credential(&self, id: &AccessKeyId) -> Result<Credential, StoreError> {
        let row = sqlx::query(
            "SELECT account_id, access_key_id, principal, active, create_time, last_used_time, secret_digest, secret_key_id, secret_ciphertext \
             FROM access_keys WHERE access_key_id = $1",
        )
        .bind(id.as_str())
        .fetch_optional(&self.0.pool)
        .await?
        .ok_or(StoreError::NotFound)?;
        let digest = text(&row, "secret_digest")?;
        let digest = SecretDigest::from_hex(&digest).ok_or_else(|| StoreError::Fault("`secret_digest` is not a digest".into()))?;
        let secret = StoredSecret { digest, sealed: sealed_of(&row)? };
        Ok(Credential { account: parsed(&row, "account_id")?, key: access_key_of(&row)?, secret })
    }

    async fn touch_access_key(&self, account: &AccountId, id: &AccessKeyId, time: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE access_keys SET last_used_time = $3 WHERE account_id = $1 AND access_key_id = $2 AND (last_used_time IS NULL OR last_used_time < $3)",
        )
        .bind(account.as_str())
        .bind(id.as_str())
        .bind(time.0)
        .execute(&self.0.pool)
        .await?;
        Ok(())
    }

    async fn sealed_under_others(&self, key_id: &str, after: Option<&AccessKeyId>, limit: u32) -> Result<Vec<(AccessKeyId, Sealed)>, StoreError> {
        let rows = sqlx::query(
            "SELECT access_key_id, secret_key_id, secret_ciphertext FROM access_keys \
             WHERE secret_key_id <> $1 AND access_key_id > $2 ORDER BY access_key_id LIMIT $3",
        )
        .bind(key_id)
        .bind(after.map_or("", AccessKeyId::as_str))
        .bind(i64::from(limit))
        .fetch_all(&self.0.pool)
        .await?;
        let mut secrets = Vec::with_capacity(rows.len());
        for row in &rows {
            if let Some(sealed) = sealed_of(row)? {
                secrets.push((parsed(row, "access_key_id")?, sealed));
            }
        }
        Ok(secrets)
    }

    async fn reseal(&self, id: &AccessKeyId, old: &Sealed, new: &Sealed) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE access_keys SET secret_key_id = $2, secret_ciphertext = $3 WHERE access_key_id = $1 AND secret_key_id = $4 AND secret_ciphertext = $5",
        )
        .bind(id.as_str())
        .bind(new.key_id.as_str())
        .bind(new.ciphertext.as_str())
        .bind(old.key_id.as_str())
        .bind(old.ciphertext.as_str())
        .execute(&self.0.pool)
        .await?;
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
            .await?;
        if usize::try_from(count).unwrap_or(usize::MAX) > MAX_POLICIES {
            return Err(StoreError::QuotaExceeded);
        }
        transaction.commit().await.map_err(StoreError::from)
    }

    async fn list_policies(&self, account: &AccountId, name: &PrincipalName) -> Result<Vec<Policy>, StoreError> {
        let rows = sqlx::query("SELECT name, document, update_time FROM policies WHERE account_id = $1 AND principal = $2 ORDER BY name")
            .bind(account.as_str())
            .bind(name.as_str())
            .fetch_all(&self.0.pool)
            .await?;
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
        let rows = sqlx::query(
            "SELECT graphs.arn AS arn, graph_tags.tag_key AS tag_key, graph_tags.tag_value AS tag_value FROM graphs \
             LEFT JOIN graph_tags ON graph_tags.graph_arn = graphs.arn WHERE graphs.account_id = $1 ORDER BY graphs.arn",
        )
        .bind(account.as_str())
        .fetch_all(&self.0.pool)
        .await?;
        let mut graphs: Vec<(GraphArn, Tags)> = Vec::new();
        for row in &rows {
            let graph: GraphArn = parsed(row, "arn")?;
            if graphs.last().is_none_or(|(last, _)| *last != graph) {
                graphs.push((graph, Tags::new()));
            }
            if let (Some((_, tags)), Some(_)) = (graphs.last_mut(), optional_text(row, "tag_key")?) {
                tags.insert(parsed(row, "tag_key")?, parsed(row, "tag_value")?);
            }
        }
        Ok(Authorization { policies, graphs })
    }

    async fn delete_policy(&self, account: &AccountId, name: &PrincipalName, policy: &PolicyName) -> Result<(), StoreError> {
        let outcome = sqlx::query("DELETE FROM policies WHERE account_id = $1 AND principal = $2 AND name = $3")
            .bind(account.as_str())
            .bind(name.as_str())
            .bind(policy.as_str())
            .execute(&self.0.pool)
            .await;
        found(outcome?.rows_affected())
    }
}

impl SqlStore {
    async fn require_principal(&self, account: &AccountId, name: &PrincipalName) -> Result<(), StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM principals WHERE account_id = $1 AND name = $2")
            .bind(account.as_str())
            .bind(name.as_str())
            .fetch_one(&self.0.pool)
            .await?;
        found(count.unsigned_abs())
    }
}

/// Gives an account without principals its first one; `false`, and nothing happens, if it has one.
pub(super) async fn insert_administrator(connection: &mut Connection, account: &AccountId, administrator: &FirstAdministrator) -> Result<bool, StoreError> {
    // Takes the account's row, so that of several concurrent calls one is first.
    sqlx::query("UPDATE accounts SET name = name WHERE account_id = $1").bind(account.as_str()).execute(&mut *connection).await?;
    let principals: i64 =
        sqlx::query_scalar("SELECT count(*) FROM principals WHERE account_id = $1").bind(account.as_str()).fetch_one(&mut *connection).await?;
    if principals > 0 {
        return Ok(false);
    }
    insert_principal(connection, account, &administrator.principal).await?;
    upsert_policy(connection, account, &administrator.principal.name, &administrator.policy).await?;
    insert_access_key(connection, account, &administrator.key, &administrator.secret).await?;
    Ok(true)
}

async fn insert_principal(connection: &mut Connection, account: &AccountId, principal: &Principal) -> Result<bool, StoreError> {
    let outcome = sqlx::query(
        "INSERT INTO principals (account_id, name, create_time, trust_policy, revision) VALUES ($1, $2, $3, $4, 0) ON CONFLICT (account_id, name) DO NOTHING",
    )
    .bind(account.as_str())
    .bind(principal.name.as_str())
    .bind(principal.create_time.0)
    .bind(principal.trust_policy.as_ref().map(TrustPolicy::as_str))
    .execute(connection)
    .await;
    Ok(outcome?.rows_affected() > 0)
}

async fn insert_access_key(connection: &mut Connection, account: &AccountId, key: &AccessKey, secret: &StoredSecret) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO access_keys (account_id, access_key_id, principal, secret_digest, secret_key_id, secret_ciphertext, active, create_time, last_used_time) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(account.as_str())
    .bind(key.id.as_str())
    .bind(key.principal.as_str())
    .bind(secret.digest.to_hex())
    .bind(secret.sealed.as_ref().map(|sealed| sealed.key_id.as_str()))
    .bind(secret.sealed.as_ref().map(|sealed| sealed.ciphertext.as_str()))
    .bind(i64::from(key.active))
    .bind(key.create_time.0)
    .bind(key.last_used_time.map(|time| time.0))
    .execute(connection)
    .await?;
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
    .await?;
    Ok(())
}

/// Takes the principal's row, so that changes of its keys and policies follow one another.
async fn lock_principal(connection: &mut Connection, account: &AccountId, name: &PrincipalName) -> Result<(), StoreError> {
    let outcome = sqlx::query("UPDATE principals SET revision = revision + 1 WHERE account_id = $1 AND name = $2")
        .bind(account.as_str())
        .bind(name.as_str())
        .execute(connection)
        .await;
    found(outcome?.rows_affected())
}

fn access_key_of(row: &AnyRow) -> Result<AccessKey, StoreError> {
    Ok(AccessKey {
        id: parsed(row, "access_key_id")?,
        principal: parsed(row, "principal")?,
        active: row.try_get::<i64, _>("active")? != 0,
        create_time: time(row, "create_time")?,
        last_used_time: row.try_get::<Option<i64>, _>("last_used_time")?.map(Timestamp),
    })
}

fn principal_of(row: &AnyRow) -> Result<Principal, StoreError> {
    let trust_policy = optional_text(row, "trust_policy")?.map(TrustPolicy::stored);
    Ok(Principal { name: parsed(row, "name")?, create_time: time(row, "create_time")?, trust_policy })
}

fn sealed_of(row: &AnyRow) -> Result<Option<Sealed>, StoreError> {
    let (key_id, ciphertext) = (optional_text(row, "secret_key_id")?, optional_text(row, "secret_ciphertext")?);
    Ok(key_id.zip(ciphertext).map(|(key_id, ciphertext)| Sealed { key_id, ciphertext }))
}
