//! Finding groups in SQL.

use std::collections::BTreeMap;

use async_trait::async_trait;
use gumshoe_model::{EntityKey, GraphArn, TimeWindow, Timestamp};
use gumshoe_runtime::store::Connection;
use sqlx::{AssertSqlSafe, any::AnyRow};

use super::{
    SqlStore,
    investigations::{Condition, Value, bound},
    number, parsed, text, unknown,
};
use crate::{
    groups::{Body, Decision, Group, GroupId, Status, reconcile::Known},
    store::{
        StoreError,
        groups::{ClaimedGraph, GroupCursor, GroupFilter, GroupWrite, Groups, thousandths},
    },
};

const COLUMNS: &str = "group_id, status, overview, create_time, update_time, split_from";
const MISSING: StoreError = StoreError::NotFound("finding group");
const MERGED: &str = "MERGED";
/// Who opens a group that gets new findings.
const OURSELVES: &str = "service:investigation";
/// Rows that one statement inserts.
const ROWS_PER_STATEMENT: usize = 500;
const MAX_RELATED: i64 = 100;
const MAX_DECISIONS: i64 = 100;

#[async_trait]
impl Groups for SqlStore {
    async fn note_findings(&self, versions: &[(GraphArn, i64)], now: Timestamp) -> Result<(), StoreError> {
        for some in versions.chunks(ROWS_PER_STATEMENT) {
            let rows: Vec<_> = (0..some.len()).map(|row| format!("(${}, ${}, $1, 0, 0, '', 0)", row * 2 + 2, row * 2 + 3)).collect();
            let statement = format!(
                "INSERT INTO grouped_graphs (graph_arn, seen, seen_time, grouped, next_try, worker, lease_expires) VALUES {} \
                 ON CONFLICT (graph_arn) DO UPDATE SET seen = excluded.seen, seen_time = excluded.seen_time WHERE grouped_graphs.seen <> excluded.seen",
                rows.join(", ")
            );
            // Safe: only numbers of places were put into the text.
            let query = sqlx::query(AssertSqlSafe(statement)).persistent(false).bind(now.0);
            some.iter().fold(query, |query, (graph, version)| query.bind(graph.to_string()).bind(*version)).execute(&self.0.pool).await?;
        }
        Ok(())
    }

    async fn claim_graphs(&self, worker: &str, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<ClaimedGraph>, StoreError> {
        // Asked twice, since between the choice and the taking another may have been first.
        const DUE: &str = "(seen <> grouped OR verdicts <> grouped_verdicts) AND next_try <= $2 AND lease_expires <= $2";
        let statement = format!(
            "UPDATE grouped_graphs SET worker = $1, lease_expires = $3 WHERE {DUE} AND graph_arn IN \
             (SELECT graph_arn FROM grouped_graphs WHERE {DUE} ORDER BY next_try, graph_arn LIMIT $4) RETURNING graph_arn, seen, seen_time, verdicts"
        );
        // Safe: the condition is a constant.
        let query = sqlx::query(AssertSqlSafe(statement)).bind(worker).bind(now.0).bind(until.0).bind(i64::from(limit));
        let rows = query.fetch_all(&self.0.pool).await?;
        let claimed = |row: &AnyRow| {
            Ok(ClaimedGraph {
                graph: parsed(text(row, "graph_arn")?)?,
                version: number(row, "seen")?,
                noted: Timestamp(number(row, "seen_time")?),
                verdicts: number(row, "verdicts")?,
            })
        };
        rows.iter().map(claimed).collect()
    }

    async fn renew_graph(&self, worker: &str, graph: &GraphArn, until: Timestamp) -> Result<bool, StoreError> {
        let statement = "UPDATE grouped_graphs SET lease_expires = $1 WHERE graph_arn = $2 AND worker = $3 AND worker <> ''";
        Ok(sqlx::query(statement).bind(until.0).bind(graph.to_string()).bind(worker).execute(&self.0.pool).await?.rows_affected() == 1)
    }

    async fn release_graph(&self, worker: &str, claimed: &ClaimedGraph, next_try: Timestamp, done: bool) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE grouped_graphs SET worker = '', lease_expires = 0, next_try = $1, \
             grouped = CASE WHEN $2 = 1 THEN $3 ELSE grouped END, grouped_verdicts = CASE WHEN $2 = 1 THEN $4 ELSE grouped_verdicts END \
             WHERE graph_arn = $5 AND worker = $6 AND worker <> ''",
        )
        .bind(next_try.0)
        .bind(i64::from(done))
        .bind(claimed.version)
        .bind(claimed.verdicts)
        .bind(claimed.graph.to_string())
        .bind(worker)
        .execute(&self.0.pool)
        .await?;
        Ok(())
    }

    async fn give_up_graphs(&self, worker: &str) -> Result<(), StoreError> {
        let statement = "UPDATE grouped_graphs SET worker = '', lease_expires = 0 WHERE worker = $1 AND worker <> ''";
        sqlx::query(statement).bind(worker).execute(&self.0.pool).await?;
        Ok(())
    }

    async fn known_groups(&self, graph: &GraphArn) -> Result<Vec<Known>, StoreError> {
        let statement = "SELECT g.group_id, g.create_time, f.finding_id FROM finding_groups g \
             JOIN grouped_findings f ON f.graph_arn = g.graph_arn AND f.group_id = g.group_id \
             WHERE g.graph_arn = $1 AND g.status IN ('OPEN', 'CLOSED') ORDER BY g.group_id, f.finding_id";
        let mut known: Vec<Known> = Vec::new();
        for row in &sqlx::query(statement).bind(graph.to_string()).fetch_all(&self.0.pool).await? {
            let (id, finding) = (text(row, "group_id")?, text(row, "finding_id")?);
            match known.last_mut() {
                Some(last) if last.id.as_str() == id => last.findings.push(finding),
                _ => known.push(Known { id: parsed(id)?, create_time: Timestamp(number(row, "create_time")?), findings: vec![finding] }),
            }
        }
        Ok(known)
    }

    async fn write_group(&self, worker: &str, graph: &GraphArn, group: &GroupWrite, now: Timestamp) -> Result<bool, StoreError> {
        let arn = graph.to_string();
        let mut transaction = self.0.begin().await?;
        if !holds(&mut transaction, worker, &arn).await? {
            return Ok(false);
        }
        let (overview, body) = (json(&group.overview)?, json(&group.body)?);
        let status = status_of(&mut transaction, &arn, &group.id).await?;
        let mut opened = Vec::new();
        for merged in &group.merged {
            if status_of(&mut transaction, &arn, merged).await? == Some(Status::Open) {
                opened.push(merged);
            }
        }
        let new_status = match status {
            Some(Status::Closed) if group.news == 0 && opened.is_empty() => Status::Closed,
            _ => Status::Open,
        };
        sqlx::query(
            "INSERT INTO finding_groups (graph_arn, group_id, status, severity, first_time, last_time, overview, body, create_time, update_time, \
             merged_into, split_from) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, '', $10) \
             ON CONFLICT (graph_arn, group_id) DO UPDATE SET status = excluded.status, severity = excluded.severity, first_time = excluded.first_time, \
             last_time = excluded.last_time, overview = excluded.overview, body = excluded.body, update_time = excluded.update_time",
        )
        .bind(&arn)
        .bind(group.id.as_str())
        .bind(new_status.as_str())
        .bind(thousandths(group.overview.severity))
        .bind(group.overview.first)
        .bind(group.overview.last)
        .bind(overview)
        .bind(body)
        .bind(now.0)
        .bind(group.split_from.as_ref().map(GroupId::as_str).unwrap_or_default())
        .execute(&mut *transaction)
        .await?;
        for table in ["grouped_findings", "grouped_entities"] {
            for id in [&group.id].into_iter().chain(&group.merged) {
                let statement = format!("DELETE FROM {table} WHERE graph_arn = $1 AND group_id = $2");
                // Safe: the name is one of two constants.
                sqlx::query(AssertSqlSafe(statement)).bind(&arn).bind(id.as_str()).execute(&mut *transaction).await?;
            }
        }
        for merged in &group.merged {
            // Those that were merged into it before go on to the same.
            sqlx::query(
                "UPDATE finding_groups SET status = 'MERGED', merged_into = $1, update_time = CASE WHEN group_id = $2 THEN $3 ELSE update_time END \
                 WHERE graph_arn = $4 AND (group_id = $2 OR merged_into = $2)",
            )
            .bind(group.id.as_str())
            .bind(merged.as_str())
            .bind(now.0)
            .bind(&arn)
            .execute(&mut *transaction)
            .await?;
        }
        let findings: Vec<&str> = group.body.findings.iter().map(|finding| finding.id.as_str()).collect();
        let moved = "ON CONFLICT (graph_arn, finding_id) DO UPDATE SET group_id = excluded.group_id";
        insert(&mut transaction, "grouped_findings (graph_arn, group_id, finding_id)", moved, &arn, &group.id, &findings).await?;
        let accounts: Vec<String> = group.overview.accounts.iter().map(|account| format!("account:{account}")).collect();
        let entities: Vec<&str> = group.body.entities.iter().map(|entity| entity.key.as_str()).chain(accounts.iter().map(String::as_str)).collect();
        let once = "ON CONFLICT (graph_arn, group_id, entity) DO NOTHING";
        insert(&mut transaction, "grouped_entities (graph_arn, group_id, entity)", once, &arn, &group.id, &entities).await?;
        if status == Some(Status::Closed) && new_status == Status::Open {
            let note = match opened.as_slice() {
                [] if group.news == 1 => "it got a new finding".to_owned(),
                [] => format!("it got {} new findings", group.news),
                [first, ..] => format!("the open group {first} was merged into it"),
            };
            let decision = Decision { status: Status::Open, note, author: OURSELVES.to_owned(), time: now };
            insert_decision(&mut transaction, &arn, &group.id, &decision).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    async fn dissolve_group(&self, worker: &str, graph: &GraphArn, id: &GroupId, now: Timestamp) -> Result<bool, StoreError> {
        let arn = graph.to_string();
        let mut transaction = self.0.begin().await?;
        if !holds(&mut transaction, worker, &arn).await? {
            return Ok(false);
        }
        sqlx::query("UPDATE finding_groups SET status = 'DISSOLVED', update_time = $1 WHERE graph_arn = $2 AND group_id = $3 AND status IN ('OPEN', 'CLOSED')")
            .bind(now.0)
            .bind(&arn)
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await?;
        // Its findings are free for others; its entities still lead to it.
        sqlx::query("DELETE FROM grouped_findings WHERE graph_arn = $1 AND group_id = $2").bind(&arn).bind(id.as_str()).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn group(&self, graph: &GraphArn, id: &GroupId) -> Result<(Group, Body), StoreError> {
        let arn = graph.to_string();
        let mut connection = self.0.pool.acquire().await?;
        let id = heir(&mut connection, &arn, id).await?;
        let statement = format!("SELECT {COLUMNS}, body FROM finding_groups WHERE graph_arn = $1 AND group_id = $2");
        // Safe: only names of columns were put into the text.
        let row = sqlx::query(AssertSqlSafe(statement)).bind(&arn).bind(id.as_str()).fetch_one(&mut *connection).await?;
        let body = read(&text(&row, "body")?)?;
        let mut group = group_of(&row)?;
        group.merged = merged(&mut connection, &arn, std::slice::from_ref(&group)).await?.remove(&id).unwrap_or_default();
        Ok((group, body))
    }

    async fn list_groups(
        &self,
        graph: &GraphArn,
        filter: &GroupFilter,
        after: Option<&GroupCursor>,
        limit: u32,
    ) -> Result<Vec<(Group, GroupCursor)>, StoreError> {
        let mut condition = Condition::of_graph(graph);
        condition.and("severity >=", Value::Number(filter.min_severity));
        if let Some(most) = filter.max_severity {
            condition.and("severity <=", Value::Number(most));
        }
        if let Some(scope) = filter.scope {
            condition.and("last_time >=", Value::Number(scope.start().0));
            condition.and("first_time <", Value::Number(scope.end().0));
        }
        let statuses: Vec<String> = filter.statuses.iter().map(|status| condition.place(Value::Text(status.as_str().to_owned()))).collect();
        condition.text += &format!(" AND status IN ({})", statuses.join(", "));
        for entity in &filter.entities {
            let place = condition.place(Value::Text(entity.to_string()));
            condition.text += &format!(" AND group_id IN (SELECT group_id FROM grouped_entities WHERE graph_arn = $1 AND entity = {place})");
        }
        if let Some(finding) = &filter.finding {
            let place = condition.place(Value::Text(finding.clone()));
            condition.text += &format!(" AND group_id IN (SELECT group_id FROM grouped_findings WHERE graph_arn = $1 AND finding_id = {place})");
        }
        if let Some(GroupCursor { severity, last, id }) = after {
            let severity = condition.place(Value::Number(*severity));
            let last = condition.place(Value::Number(*last));
            let id = condition.place(Value::Text(id.clone()));
            condition.text +=
                &format!(" AND (severity < {severity} OR (severity = {severity} AND (last_time < {last} OR (last_time = {last} AND group_id > {id}))))");
        }
        let most = condition.place(Value::Number(i64::from(limit)));
        let statement = format!(
            "SELECT {COLUMNS}, severity, last_time FROM finding_groups WHERE {} ORDER BY severity DESC, last_time DESC, group_id LIMIT {most}",
            condition.text
        );
        let mut connection = self.0.pool.acquire().await?;
        // Safe: only names of columns and numbers of places were put into the text.
        let rows = bound(sqlx::query(AssertSqlSafe(statement)).persistent(false), condition.values).fetch_all(&mut *connection).await?;
        let mut groups = Vec::with_capacity(rows.len());
        let mut cursors = Vec::with_capacity(rows.len());
        for row in &rows {
            cursors.push(GroupCursor { severity: number(row, "severity")?, last: number(row, "last_time")?, id: text(row, "group_id")? });
            groups.push(group_of(row)?);
        }
        let mut merged = merged(&mut connection, &graph.to_string(), &groups).await?;
        for group in &mut groups {
            group.merged = merged.remove(&group.id).unwrap_or_default();
        }
        Ok(groups.into_iter().zip(cursors).collect())
    }

    async fn related_groups(&self, graph: &GraphArn, entity: &EntityKey, findings: &[&str], scope: TimeWindow) -> Result<Vec<GroupId>, StoreError> {
        let mut condition = Condition::of_graph(graph);
        condition.text += " AND status = 'OPEN'";
        condition.and("last_time >=", Value::Number(scope.start().0));
        condition.and("first_time <", Value::Number(scope.end().0));
        let entity = condition.place(Value::Text(entity.to_string()));
        let places: Vec<String> = findings.iter().map(|finding| condition.place(Value::Text((*finding).to_owned()))).collect();
        let holds = if places.is_empty() {
            String::new()
        } else {
            format!(" OR group_id IN (SELECT group_id FROM grouped_findings WHERE graph_arn = $1 AND finding_id IN ({}))", places.join(", "))
        };
        let most = condition.place(Value::Number(MAX_RELATED));
        let statement = format!(
            "SELECT group_id FROM finding_groups WHERE {} AND (group_id IN (SELECT group_id FROM grouped_entities WHERE graph_arn = $1 AND entity = {entity}){holds}) \
             ORDER BY severity DESC, last_time DESC, group_id LIMIT {most}",
            condition.text
        );
        // Safe: only names of columns and numbers of places were put into the text.
        let rows = bound(sqlx::query(AssertSqlSafe(statement)).persistent(false), condition.values).fetch_all(&self.0.pool).await?;
        rows.iter().map(|row| parsed(text(row, "group_id")?)).collect()
    }

    async fn decide_group(&self, graph: &GraphArn, id: &GroupId, decision: &Decision) -> Result<Group, StoreError> {
        let arn = graph.to_string();
        let mut transaction = self.0.begin().await?;
        let id = heir(&mut transaction, &arn, id).await?;
        // Takes the row, so that a decision and a change of the group follow one another.
        let decided = sqlx::query("UPDATE finding_groups SET status = $1 WHERE graph_arn = $2 AND group_id = $3 AND status IN ('OPEN', 'CLOSED')")
            .bind(decision.status.as_str())
            .bind(&arn)
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        if decided == 0 {
            return Err(StoreError::Dissolved);
        }
        insert_decision(&mut transaction, &arn, &id, decision).await?;
        transaction.commit().await?;
        Ok(self.group(graph, &id).await?.0)
    }

    async fn group_decisions(&self, graph: &GraphArn, id: &GroupId) -> Result<Vec<Decision>, StoreError> {
        let rows = sqlx::query(
            "SELECT status, note, author, create_time FROM finding_group_decisions WHERE graph_arn = $1 AND (group_id = $2 OR group_id IN \
             (SELECT group_id FROM finding_groups WHERE graph_arn = $1 AND merged_into = $2 AND status = 'MERGED')) \
             ORDER BY create_time DESC, decision_id DESC LIMIT $3",
        )
        .bind(graph.to_string())
        .bind(id.as_str())
        .bind(MAX_DECISIONS)
        .fetch_all(&self.0.pool)
        .await?;
        let decision = |row: &AnyRow| {
            Ok(Decision {
                status: Status::from_name(&text(row, "status")?).ok_or_else(|| unknown("status"))?,
                note: text(row, "note")?,
                author: text(row, "author")?,
                time: Timestamp(number(row, "create_time")?),
            })
        };
        rows.iter().map(decision).collect()
    }
}

/// Notes that a verdict was recorded, so that the graph's findings are grouped anew.
pub(super) async fn note_verdict(connection: &mut Connection, arn: &str) -> Result<(), StoreError> {
    let statement = "UPDATE grouped_graphs SET verdicts = verdicts + 1 WHERE graph_arn = $1";
    sqlx::query(statement).bind(arn).execute(connection).await?;
    Ok(())
}

/// Whether the worker has the graph; takes its row until the transaction ends.
async fn holds(connection: &mut Connection, worker: &str, arn: &str) -> Result<bool, StoreError> {
    let statement = "UPDATE grouped_graphs SET worker = worker WHERE graph_arn = $1 AND worker = $2 AND worker <> ''";
    Ok(sqlx::query(statement).bind(arn).bind(worker).execute(connection).await?.rows_affected() == 1)
}

/// The group that an id stands for.
async fn heir(connection: &mut Connection, arn: &str, id: &GroupId) -> Result<GroupId, StoreError> {
    let query = sqlx::query("SELECT group_id, status, merged_into FROM finding_groups WHERE graph_arn = $1 AND group_id = $2").bind(arn).bind(id.as_str());
    let row = query.fetch_optional(connection).await?.ok_or(MISSING)?;
    parsed(if text(&row, "status")? == MERGED { text(&row, "merged_into")? } else { text(&row, "group_id")? })
}

/// The status of a group; `None` if there is none, or it was merged.
async fn status_of(connection: &mut Connection, arn: &str, id: &GroupId) -> Result<Option<Status>, StoreError> {
    let query = sqlx::query("SELECT status FROM finding_groups WHERE graph_arn = $1 AND group_id = $2").bind(arn).bind(id.as_str());
    let row = query.fetch_optional(connection).await?;
    Ok(row.as_ref().map(|row| text(row, "status")).transpose()?.as_deref().and_then(Status::from_name))
}

/// Ids of groups that were merged into each.
async fn merged(connection: &mut Connection, arn: &str, groups: &[Group]) -> Result<BTreeMap<GroupId, Vec<GroupId>>, StoreError> {
    let mut merged: BTreeMap<GroupId, Vec<GroupId>> = BTreeMap::new();
    if groups.is_empty() {
        return Ok(merged);
    }
    let places: Vec<String> = (2..groups.len() + 2).map(|place| format!("${place}")).collect();
    let statement = format!(
        "SELECT group_id, merged_into FROM finding_groups WHERE graph_arn = $1 AND status = 'MERGED' AND merged_into IN ({}) ORDER BY group_id",
        places.join(", ")
    );
    // Safe: only numbers of places were put into the text.
    let query = sqlx::query(AssertSqlSafe(statement)).persistent(false).bind(arn);
    for row in &groups.iter().fold(query, |query, group| query.bind(group.id.as_str())).fetch_all(connection).await? {
        merged.entry(parsed(text(row, "merged_into")?)?).or_default().push(parsed(text(row, "group_id")?)?);
    }
    Ok(merged)
}

/// Inserts a row for each value.
async fn insert(connection: &mut Connection, into: &str, conflict: &str, arn: &str, id: &GroupId, values: &[&str]) -> Result<(), StoreError> {
    for some in values.chunks(ROWS_PER_STATEMENT) {
        let rows: Vec<_> = (0..some.len()).map(|row| format!("($1, $2, ${})", row + 3)).collect();
        let statement = format!("INSERT INTO {into} VALUES {} {conflict}", rows.join(", "));
        // Safe: only constants and numbers of places were put into the text.
        let query = sqlx::query(AssertSqlSafe(statement)).persistent(false).bind(arn).bind(id.as_str());
        some.iter().fold(query, |query, value| query.bind(*value)).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn insert_decision(connection: &mut Connection, arn: &str, id: &GroupId, decision: &Decision) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO finding_group_decisions (graph_arn, group_id, decision_id, status, note, author, create_time) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(arn)
    .bind(id.as_str())
    .bind(uuid::Uuid::now_v7().to_string())
    .bind(decision.status.as_str())
    .bind(&decision.note)
    .bind(&decision.author)
    .bind(decision.time.0)
    .execute(connection)
    .await?;
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Fault(Box::new(error)))
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Fault(Box::new(error)))
}

fn group_of(row: &AnyRow) -> Result<Group, StoreError> {
    let split_from = text(row, "split_from")?;
    Ok(Group {
        id: parsed(text(row, "group_id")?)?,
        status: Status::from_name(&text(row, "status")?).ok_or_else(|| unknown("status"))?,
        overview: read(&text(row, "overview")?)?,
        create_time: Timestamp(number(row, "create_time")?),
        update_time: Timestamp(number(row, "update_time")?),
        merged: Vec::new(),
        split_from: Some(split_from).filter(|id| !id.is_empty()).map(parsed).transpose()?,
    })
}
