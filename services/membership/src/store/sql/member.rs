//! Members of graphs, in SQL.

use std::collections::HashMap;

use async_trait::async_trait;
use gumshoe_model::{AccountId, GraphArn, Timestamp};
use gumshoe_runtime::store::Connection;
use sqlx::any::AnyRow;

use super::{SqlStore, known, lock_graph, lock_registrations, optional_text, parsed, text, time};
use crate::{
    account::{Account, Email},
    datasource::PackageState,
    member::{Event, Facts, InvitationType, Load, MAX_MEMBERS, Member, NewMember, Refused, Registration, Standing, Status, transition},
    store::{GraphStore as _, MemberStore, Outcomes, StoreError},
};

#[async_trait]
impl MemberStore for SqlStore {
    async fn create_members(&self, graph: &GraphArn, members: &[NewMember], now: Timestamp) -> Result<Outcomes<Member, Refused>, StoreError> {
        let mut transaction = self.0.begin().await?;
        let mut registered = registered(&mut transaction, members).await?;
        if members.iter().any(|new| !registered.contains_key(&new.account)) {
            // Held to the end: nobody registers them before it is noted that they are awaited.
            lock_registrations(&mut transaction).await?;
            registered = self::registered(&mut transaction, members).await?;
        }
        lock_graph(&mut transaction, graph).await?;
        let mut outcomes = Vec::with_capacity(members.len());
        for new in members {
            let registration = Registration::of(registered.get(&new.account), &new.email);
            let in_organization = is_in_organization(&mut transaction, graph, &new.account).await?;
            let facts = Facts { registration, in_organization, load: Load::Unknown };
            let outcome = change(&mut transaction, graph, &new.account, Some(&new.email), Event::Create, &facts, now).await?;
            let outcome = outcome.and_then(|member| member.ok_or(Refused::IsNoMember));
            outcomes.push((new.account.clone(), outcome));
        }
        if count(&mut transaction, graph).await? > MAX_MEMBERS {
            return Err(StoreError::QuotaExceeded);
        }
        transaction.commit().await?;
        Ok(outcomes)
    }

    async fn members(&self, graph: &GraphArn, accounts: &[AccountId]) -> Result<Outcomes<Member, Refused>, StoreError> {
        self.graph(graph).await?;
        let mut connection = self.0.pool.acquire().await?;
        let mut outcomes = Vec::with_capacity(accounts.len());
        for account in accounts {
            let outcome = match present(&mut connection, graph, account).await? {
                Some(member) => Ok(member),
                None if account == graph.account() => Err(Refused::IsAdministrator),
                None => Err(Refused::IsNoMember),
            };
            outcomes.push((account.clone(), outcome));
        }
        Ok(outcomes)
    }

    async fn list_members(&self, graph: &GraphArn, after: Option<&AccountId>, limit: u32) -> Result<Vec<Member>, StoreError> {
        sqlx::query(
            "SELECT graph_arn, account_id, email, status, disabled_reason, invitation_type, invite_time, update_time FROM memberships \
             WHERE graph_arn = $1 AND account_id > $2 ORDER BY account_id LIMIT $3",
        )
        .bind(graph.to_string())
        .bind(after.map_or("", AccountId::as_str))
        .bind(i64::from(limit))
        .fetch_all(&self.0.pool)
        .await?
        .iter()
        .map(member_of)
        .collect()
    }

    async fn delete_members(&self, graph: &GraphArn, accounts: &[AccountId], now: Timestamp) -> Result<Outcomes<(), Refused>, StoreError> {
        let mut transaction = self.0.begin().await?;
        lock_graph(&mut transaction, graph).await?;
        let mut outcomes = Vec::with_capacity(accounts.len());
        for account in accounts {
            let outcome = change(&mut transaction, graph, account, None, Event::Delete, &Facts::NONE, now).await?;
            outcomes.push((account.clone(), outcome.map(|_| ())));
        }
        transaction.commit().await?;
        Ok(outcomes)
    }

    async fn change_member(&self, graph: &GraphArn, account: &AccountId, event: Event, load: Load, now: Timestamp) -> Result<Result<(), Refused>, StoreError> {
        let mut transaction = self.0.begin().await?;
        lock_graph(&mut transaction, graph).await?;
        let outcome = change(&mut transaction, graph, account, None, event, &Facts { load, ..Facts::NONE }, now).await?;
        transaction.commit().await?;
        Ok(outcome.map(|_| ()))
    }

    async fn list_memberships(&self, account: &AccountId, after: Option<&GraphArn>, limit: u32) -> Result<Vec<Member>, StoreError> {
        sqlx::query(
            "SELECT graph_arn, account_id, email, status, disabled_reason, invitation_type, invite_time, update_time FROM memberships \
             WHERE account_id = $1 AND graph_arn > $2 AND status IN ('INVITED', 'ENABLED', 'ACCEPTED_BUT_DISABLED') ORDER BY graph_arn LIMIT $3",
        )
        .bind(account.as_str())
        .bind(after.map(ToString::to_string).unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(&self.0.pool)
        .await?
        .iter()
        .map(member_of)
        .collect()
    }
}

impl Facts {
    /// For events that ask for none.
    pub(super) const NONE: Self = Self { registration: Registration::Missing, in_organization: false, load: Load::Unknown };
}

/// Lets `event` happen to one membership; the graph's row must have been taken. `email` is what the administrator gives.
pub(super) async fn change(
    connection: &mut Connection,
    graph: &GraphArn,
    account: &AccountId,
    email: Option<&Email>,
    event: Event,
    facts: &Facts,
    now: Timestamp,
) -> Result<Result<Option<Member>, Refused>, StoreError> {
    if account == graph.account() {
        return Ok(Err(Refused::IsAdministrator));
    }
    let present = present(connection, graph, account).await?;
    let standing = match transition(present.as_ref().map(|member| member.standing), event, facts) {
        Ok(standing) => standing,
        Err(refused) => return Ok(Err(refused)),
    };
    if let (Some(member), Some(standing)) = (&present, standing)
        && member.standing == standing
        && email.is_none_or(|email| member.email.matches(email))
    {
        return Ok(Ok(present));
    }
    // Clocks of replicas differ, but a history runs forward.
    let now = now.max(Timestamp(last_change(connection, graph, account, present.as_ref()).await?.0.saturating_add(1)));
    let before = present.as_ref().map(|member| PackageState::of_member(member.standing.status));
    let after = standing.map(|standing| PackageState::of_member(standing.status));
    if before != after {
        match (before, after) {
            (Some(PackageState::Disabled), None) => {}
            _ => record(connection, graph, account, after.unwrap_or(PackageState::Disabled), now).await?,
        }
    }
    let Some(standing) = standing else {
        sqlx::query("DELETE FROM memberships WHERE graph_arn = $1 AND account_id = $2")
            .bind(graph.to_string())
            .bind(account.as_str())
            .execute(connection)
            .await?;
        return Ok(Ok(None));
    };
    let invite_time = present.as_ref().filter(|_| event != Event::Create).map_or(now, |member| member.invite_time);
    let email = match (email.cloned(), present) {
        (Some(email), _) => email,
        (None, Some(member)) => member.email,
        (None, None) => own_email(connection, account).await?,
    };
    let member = Member { graph: graph.clone(), account: account.clone(), email, standing, invite_time, update_time: now };
    upsert(connection, &member).await?;
    Ok(Ok(Some(member)))
}

/// Compares the e-mail address of an account that is registered now with what its invitations say.
pub(super) async fn verify(connection: &mut Connection, account: &Account) -> Result<(), StoreError> {
    let waiting = sqlx::query("SELECT graph_arn, email FROM memberships WHERE account_id = $1 AND status = $2 ORDER BY graph_arn")
        .bind(account.id.as_str())
        .bind(Status::VerificationInProgress.as_str())
        .fetch_all(&mut *connection)
        .await?;
    for row in &waiting {
        let graph: GraphArn = parsed(row, "graph_arn")?;
        match lock_graph(connection, &graph).await {
            Ok(()) => {}
            // The graph has gone meanwhile, and the invitation with it.
            Err(StoreError::NotFound) => continue,
            Err(error) => return Err(error),
        }
        // It may have been withdrawn, or written anew, before the graph's row was taken.
        let Some(present) = present(connection, &graph, &account.id).await? else { continue };
        let registration = Registration::of(Some(&account.email), &present.email);
        let outcome = change(connection, &graph, &account.id, None, Event::Register, &Facts { registration, ..Facts::NONE }, account.create_time).await?;
        if let Err(refused) = outcome {
            tracing::debug!(%graph, reason = refused.reason(), "an invitation no longer waits for its account");
        }
    }
    Ok(())
}

/// How many members a graph has.
pub(super) async fn count(connection: &mut Connection, graph: &GraphArn) -> Result<usize, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM memberships WHERE graph_arn = $1").bind(graph.to_string()).fetch_one(connection).await?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

pub(super) async fn present(connection: &mut Connection, graph: &GraphArn, account: &AccountId) -> Result<Option<Member>, StoreError> {
    let row = sqlx::query(
        "SELECT graph_arn, account_id, email, status, disabled_reason, invitation_type, invite_time, update_time FROM memberships \
         WHERE graph_arn = $1 AND account_id = $2",
    )
    .bind(graph.to_string())
    .bind(account.as_str())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(member_of).transpose()
}

async fn registered(connection: &mut Connection, members: &[NewMember]) -> Result<HashMap<AccountId, Email>, StoreError> {
    let mut emails = HashMap::new();
    for new in members {
        let row = sqlx::query("SELECT email FROM accounts WHERE account_id = $1").bind(new.account.as_str()).fetch_optional(&mut *connection).await;
        if let Some(row) = row? {
            emails.insert(new.account.clone(), parsed(&row, "email")?);
        }
    }
    Ok(emails)
}

/// Whether the graph is that of an organization to which the account belongs.
async fn is_in_organization(connection: &mut Connection, graph: &GraphArn, account: &AccountId) -> Result<bool, StoreError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM organization_administrators AS administrators \
         JOIN organization_accounts AS accounts ON accounts.management_account_id = administrators.management_account_id \
         WHERE administrators.graph_arn = $1 AND accounts.account_id = $2",
    )
    .bind(graph.to_string())
    .bind(account.as_str())
    .fetch_one(connection)
    .await?;
    Ok(count > 0)
}

async fn last_change(connection: &mut Connection, graph: &GraphArn, account: &AccountId, present: Option<&Member>) -> Result<Timestamp, StoreError> {
    let recorded: i64 = sqlx::query_scalar("SELECT coalesce(max(time), 0) FROM package_changes WHERE graph_arn = $1 AND account_id = $2")
        .bind(graph.to_string())
        .bind(account.as_str())
        .fetch_one(connection)
        .await?;
    Ok(Timestamp(recorded).max(present.map_or(Timestamp::MIN, |member| member.update_time)))
}

/// Notes the state of every package that the graph ingests.
async fn record(connection: &mut Connection, graph: &GraphArn, account: &AccountId, state: PackageState, now: Timestamp) -> Result<(), StoreError> {
    for package in super::graph::started_packages(connection, graph).await? {
        sqlx::query(
            "INSERT INTO package_changes (graph_arn, account_id, package, state, time) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (graph_arn, account_id, package, state) DO UPDATE SET time = excluded.time",
        )
        .bind(graph.to_string())
        .bind(account.as_str())
        .bind(package.as_str())
        .bind(state.as_str())
        .bind(now.0)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn own_email(connection: &mut Connection, account: &AccountId) -> Result<Email, StoreError> {
    let row = sqlx::query("SELECT email FROM accounts WHERE account_id = $1").bind(account.as_str()).fetch_optional(connection).await?;
    parsed(&row.ok_or(StoreError::NotFound)?, "email")
}

async fn upsert(connection: &mut Connection, member: &Member) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO memberships (graph_arn, account_id, email, status, disabled_reason, invitation_type, invite_time, update_time) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
         ON CONFLICT (graph_arn, account_id) DO UPDATE SET email = excluded.email, status = excluded.status, \
         disabled_reason = excluded.disabled_reason, invitation_type = excluded.invitation_type, \
         invite_time = excluded.invite_time, update_time = excluded.update_time",
    )
    .bind(member.graph.to_string())
    .bind(member.account.as_str())
    .bind(member.email.as_str())
    .bind(member.standing.status.as_str())
    .bind(member.standing.status.disabled_reason().map(|reason| reason.as_str()))
    .bind(member.standing.invitation_type.as_str())
    .bind(member.invite_time.0)
    .bind(member.update_time.0)
    .execute(connection)
    .await?;
    Ok(())
}

fn member_of(row: &AnyRow) -> Result<Member, StoreError> {
    let status = known(Status::from_names(&text(row, "status")?, optional_text(row, "disabled_reason")?.as_deref()), "status")?;
    let invitation_type = known(InvitationType::from_name(&text(row, "invitation_type")?), "invitation_type")?;
    Ok(Member {
        graph: parsed(row, "graph_arn")?,
        account: parsed(row, "account_id")?,
        email: parsed(row, "email")?,
        standing: Standing { status, invitation_type },
        invite_time: time(row, "invite_time")?,
        update_time: time(row, "update_time")?,
    })
}
