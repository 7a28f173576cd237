//! Investigations and their indicators in SQL.

use async_trait::async_trait;
use gumshoe_model::{GraphArn, Severity, TimeWindow, Timestamp};
use gumshoe_runtime::store::Connection;
use sqlx::{Any, AssertSqlSafe, any::AnyRow};

use super::{SqlStore, count, number, parsed, text, unknown};
use crate::{
    indicator::{Attributed, Kind},
    investigation::{Explained, Investigation, InvestigationId, NewInvestigation, Progress, State, Status},
    severity::Report,
    store::{Claimed, Cursor, Field, Filter, Investigations, Order, Outcome, StoreError},
    verdict::RequestId,
};

const COLUMNS: &str = "investigation_id, target, scope_start, scope_end, status, severity, state, create_time, \
     principals_done, principals_total, principals_left_out";
/// Severities by their rank in the store, from 1; 0 is none.
const SEVERITIES: [Severity; 5] = [Severity::Informational, Severity::Low, Severity::Medium, Severity::High, Severity::Critical];
/// Statuses by their number in cursors.
const STATUSES: [Status; 3] = [Status::Failed, Status::Running, Status::Successful];
const MISSING: StoreError = StoreError::NotFound("investigation");
/// Rows that one statement inserts.
const ROWS_PER_STATEMENT: usize = 500;
const MICROS_PER_MILLISECOND: i64 = 1_000;

pub(super) type Query<'q> = sqlx::query::Query<'q, Any, sqlx::any::AnyArguments>;

/// A value to bind.
pub(super) enum Value {
    Text(String),
    Number(i64),
}

/// The condition of a statement, and the values of its places.
pub(super) struct Condition {
    pub(super) text: String,
    pub(super) values: Vec<Value>,
}

impl Condition {
    pub(super) fn of_graph(graph: &GraphArn) -> Self {
        Self { text: "graph_arn = $1".to_owned(), values: vec![Value::Text(graph.to_string())] }
    }

    /// The place of another value: `$2`.
    pub(super) fn place(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    /// Adds `column operator value`.
    pub(super) fn and(&mut self, column_and_operator: &str, value: Value) {
        let place = self.place(value);
        self.text += &format!(" AND {column_and_operator} {place}");
    }
}

pub(super) fn bound<'q>(query: Query<'q>, values: Vec<Value>) -> Query<'q> {
    values.into_iter().fold(query, |query, value| match value {
        Value::Text(text) => query.bind(text),
        Value::Number(number) => query.bind(number),
    })
}

#[async_trait]
impl Investigations for SqlStore {
    async fn start_investigation(
        &self,
        graph: &GraphArn,
        investigation: &NewInvestigation,
        now: Timestamp,
        running_limit: u32,
    ) -> Result<InvestigationId, StoreError> {
        let graph_arn = graph.to_string();
        let mut transaction = self.0.begin().await?;
        // Takes the graph's row, so that its investigations are started one after another: what is read below stays true.
        sqlx::query(
            "INSERT INTO investigated_graphs (graph_arn, started) VALUES ($1, 1) \
             ON CONFLICT (graph_arn) DO UPDATE SET started = investigated_graphs.started + 1",
        )
        .bind(&graph_arn)
        .execute(&mut *transaction)
        .await?;
        if let Some(id) = recorded(&mut transaction, &graph_arn, investigation).await? {
            return Ok(id);
        }
        let running: i64 = sqlx::query_scalar("SELECT count(*) FROM investigations WHERE graph_arn = $1 AND status = 'RUNNING'")
            .bind(&graph_arn)
            .fetch_one(&mut *transaction)
            .await?;
        if running >= i64::from(running_limit) {
            return Err(StoreError::TooManyRunning(running_limit));
        }
        let id = InvestigationId::random();
        sqlx::query(
            "INSERT INTO investigations (graph_arn, investigation_id, target, scope_start, scope_end, status, severity, state, principal, request_id, \
             create_time, attempts, next_try, worker, lease_expires) VALUES ($1, $2, $3, $4, $5, 'RUNNING', 0, 'ACTIVE', $6, $7, $8, 0, 0, '', 0)",
        )
        .bind(&graph_arn)
        .bind(id.as_str())
        .bind(investigation.target.to_string())
        .bind(investigation.scope.start().0)
        .bind(investigation.scope.end().0)
        .bind(&investigation.principal)
        .bind(investigation.request.as_ref().map(RequestId::as_str))
        // The AWS API writes milliseconds, and filters by what it has written.
        .bind(now.0 - now.0.rem_euclid(MICROS_PER_MILLISECOND))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(id)
    }

    async fn investigation(&self, graph: &GraphArn, id: &InvestigationId) -> Result<Explained, StoreError> {
        let statement = format!("SELECT {COLUMNS}, report FROM investigations WHERE graph_arn = $1 AND investigation_id = $2");
        let row = sqlx::query(AssertSqlSafe(statement)).bind(graph.to_string()).bind(id.as_str()).fetch_optional(&self.0.pool).await?;
        let row = row.ok_or(MISSING)?;
        let report = text(&row, "report")?;
        let report = if report.is_empty() { Report::default() } else { serde_json::from_str(&report).map_err(fault)? };
        Ok(Explained { investigation: investigation_of(&row)?, report })
    }

    async fn list_investigations(
        &self,
        graph: &GraphArn,
        filter: &Filter,
        order: Order,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<(Investigation, Cursor)>, StoreError> {
        let mut condition = Condition::of_graph(graph);
        if let Some(severity) = filter.severity {
            condition.and("severity =", Value::Number(rank(Some(severity))));
        }
        if let Some(status) = filter.status {
            condition.and("status =", Value::Text(status.as_str().to_owned()));
        }
        if let Some(state) = filter.state {
            condition.and("state =", Value::Text(state.as_str().to_owned()));
        }
        if let Some(target) = &filter.target {
            condition.and("target =", Value::Text(target.to_string()));
        }
        if let Some(from) = filter.from {
            condition.and("create_time >=", Value::Number(from.0));
        }
        if let Some(to) = filter.to {
            condition.and("create_time <=", Value::Number(to.0));
        }
        let (direction, later) = if order.ascending { ("ASC", ">") } else { ("DESC", "<") };
        let column = match order.field {
            Field::CreateTime => "create_time",
            Field::Severity => "severity",
            Field::Status => "status",
        };
        if let Some(after) = after {
            let value = match order.field {
                Field::CreateTime | Field::Severity => Value::Number(after.value),
                Field::Status => Value::Text(status_of(after.value).as_str().to_owned()),
            };
            let (value, id) = (condition.place(value), condition.place(Value::Text(after.id.clone())));
            condition.text += &format!(" AND ({column}, investigation_id) {later} ({value}, {id})");
        }
        let limit = condition.place(Value::Number(i64::from(limit)));
        let statement =
            format!("SELECT {COLUMNS} FROM investigations WHERE {} ORDER BY {column} {direction}, investigation_id {direction} LIMIT {limit}", condition.text);
        // Safe: only names of columns and numbers of places were put into the text.
        let query = bound(sqlx::query(AssertSqlSafe(statement)).persistent(false), condition.values);
        let rows = query.fetch_all(&self.0.pool).await?;
        rows.iter()
            .map(|row| {
                let investigation = investigation_of(row)?;
                let value = match order.field {
                    Field::CreateTime => investigation.create_time.0,
                    Field::Severity => rank(investigation.severity),
                    Field::Status => STATUSES.into_iter().zip(0..).find(|(status, _)| *status == investigation.status).map_or(0, |(_, number)| number),
                };
                let cursor = Cursor { value, id: investigation.id.to_string() };
                Ok((investigation, cursor))
            })
            .collect()
    }

    async fn set_state(&self, graph: &GraphArn, id: &InvestigationId, state: State) -> Result<(), StoreError> {
        let query = sqlx::query("UPDATE investigations SET state = $1 WHERE graph_arn = $2 AND investigation_id = $3").bind(state.as_str());
        let changed = query.bind(graph.to_string()).bind(id.as_str()).execute(&self.0.pool).await?.rows_affected();
        if changed == 1 { Ok(()) } else { Err(MISSING) }
    }

    async fn list_indicators(
        &self,
        graph: &GraphArn,
        id: &InvestigationId,
        kind: Option<Kind>,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Vec<(i64, Attributed)>, StoreError> {
        let mut condition = Condition::of_graph(graph);
        condition.and("investigation_id =", Value::Text(id.to_string()));
        condition.and("place >", Value::Number(after.unwrap_or(-1)));
        if let Some(kind) = kind {
            condition.and("kind =", Value::Text(kind.as_str().to_owned()));
        }
        let limit = condition.place(Value::Number(i64::from(limit)));
        let statement = format!("SELECT place, principal, detail FROM indicators WHERE {} ORDER BY place LIMIT {limit}", condition.text);
        // Safe: only names of columns and numbers of places were put into the text.
        let query = bound(sqlx::query(AssertSqlSafe(statement)), condition.values);
        let rows = query.fetch_all(&self.0.pool).await?;
        if rows.is_empty() {
            self.investigation(graph, id).await?;
        }
        rows.iter()
            .map(|row| {
                let indicator = serde_json::from_str(&text(row, "detail")?).map_err(fault)?;
                Ok((number(row, "place")?, Attributed { principal: parsed(text(row, "principal")?)?, indicator }))
            })
            .collect()
    }

    async fn claim(&self, worker: &str, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Claimed>, StoreError> {
        // INVARIANT: the outer conditions repeat the inner ones, since Postgres checks only those again when another
        // replica has claimed the same row a moment before.
        let rows = sqlx::query(
            "UPDATE investigations SET worker = $1, lease_expires = $2, attempts = attempts + 1 \
             WHERE status = 'RUNNING' AND next_try <= $3 AND lease_expires <= $3 AND (graph_arn, investigation_id) IN ( \
                SELECT graph_arn, investigation_id FROM investigations WHERE status = 'RUNNING' AND next_try <= $3 AND lease_expires <= $3 \
                ORDER BY create_time, investigation_id LIMIT $4) \
             RETURNING graph_arn, investigation_id, target, scope_start, scope_end, create_time, attempts",
        )
        .bind(worker)
        .bind(until.0)
        .bind(now.0)
        .bind(i64::from(limit))
        .fetch_all(&self.0.pool)
        .await?;
        let mut claimed = rows
            .iter()
            .map(|row| {
                Ok(Claimed {
                    graph: parsed(text(row, "graph_arn")?)?,
                    id: parsed(text(row, "investigation_id")?)?,
                    target: parsed(text(row, "target")?)?,
                    scope: scope_of(row)?,
                    create_time: Timestamp(number(row, "create_time")?),
                    attempts: u32::try_from(number(row, "attempts")?).unwrap_or(u32::MAX),
                })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        // What an update returns has no order.
        claimed.sort_by(|one, other| (one.create_time, &one.id).cmp(&(other.create_time, &other.id)));
        Ok(claimed)
    }

    async fn renew(&self, worker: &str, claimed: &Claimed, until: Timestamp) -> Result<bool, StoreError> {
        let statement = "UPDATE investigations SET lease_expires = $1 WHERE graph_arn = $2 AND investigation_id = $3 AND worker = $4 AND status = 'RUNNING'";
        let query = sqlx::query(statement).bind(until.0).bind(claimed.graph.to_string()).bind(claimed.id.as_str()).bind(worker);
        Ok(query.execute(&self.0.pool).await?.rows_affected() == 1)
    }

    async fn note_progress(&self, worker: &str, claimed: &Claimed, progress: Progress) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE investigations SET principals_done = $1, principals_total = $2, principals_left_out = $3 \
             WHERE graph_arn = $4 AND investigation_id = $5 AND worker = $6 AND status = 'RUNNING'",
        )
        .bind(i64::from(progress.done))
        .bind(i64::from(progress.total))
        .bind(i64::try_from(progress.left_out).unwrap_or(i64::MAX))
        .bind(claimed.graph.to_string())
        .bind(claimed.id.as_str())
        .bind(worker)
        .execute(&self.0.pool)
        .await?;
        Ok(())
    }

    async fn postpone(&self, worker: &str, claimed: &Claimed, next_try: Timestamp, counts: bool) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE investigations SET worker = '', lease_expires = 0, next_try = $1, attempts = attempts - $2 \
             WHERE graph_arn = $3 AND investigation_id = $4 AND worker = $5 AND status = 'RUNNING'",
        )
        .bind(next_try.0)
        .bind(i64::from(!counts))
        .bind(claimed.graph.to_string())
        .bind(claimed.id.as_str())
        .bind(worker)
        .execute(&self.0.pool)
        .await?;
        Ok(())
    }

    async fn give_up(&self, worker: &str) -> Result<(), StoreError> {
        let statement =
            "UPDATE investigations SET worker = '', lease_expires = 0, attempts = attempts - 1 WHERE status = 'RUNNING' AND worker = $1 AND worker <> ''";
        sqlx::query(statement).bind(worker).execute(&self.0.pool).await?;
        Ok(())
    }

    async fn finish(&self, worker: &str, claimed: &Claimed, outcome: &Outcome) -> Result<bool, StoreError> {
        let graph_arn = claimed.graph.to_string();
        let (status, severity, report, indicators) = match outcome {
            Outcome::Failed => (Status::Failed, None, String::new(), [].as_slice()),
            Outcome::Successful { report, indicators } => {
                (Status::Successful, Some(report.severity()), serde_json::to_string(report).map_err(fault)?, indicators.as_slice())
            }
        };
        let mut transaction = self.0.begin().await?;
        let finished = sqlx::query(
            "UPDATE investigations SET status = $1, severity = $2, report = $3, worker = '', lease_expires = 0 \
             WHERE graph_arn = $4 AND investigation_id = $5 AND worker = $6 AND status = 'RUNNING'",
        )
        .bind(status.as_str())
        .bind(rank(severity))
        .bind(report)
        .bind(&graph_arn)
        .bind(claimed.id.as_str())
        .bind(worker)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if finished == 0 {
            return Ok(false);
        }
        insert_indicators(&mut transaction, &graph_arn, &claimed.id, indicators).await?;
        transaction.commit().await?;
        Ok(true)
    }
}

/// What the principal started on the graph under the request id.
async fn recorded(connection: &mut Connection, graph_arn: &str, investigation: &NewInvestigation) -> Result<Option<InvestigationId>, StoreError> {
    let Some(request) = &investigation.request else { return Ok(None) };
    let statement = format!("SELECT {COLUMNS} FROM investigations WHERE graph_arn = $1 AND principal = $2 AND request_id = $3");
    let query = sqlx::query(AssertSqlSafe(statement)).bind(graph_arn).bind(&investigation.principal).bind(request.as_str());
    let row = query.fetch_optional(connection).await?;
    match row.as_ref().map(investigation_of).transpose()? {
        Some(recorded) if recorded.target != investigation.target || recorded.scope != investigation.scope => Err(StoreError::RequestReused),
        recorded => Ok(recorded.map(|recorded| recorded.id)),
    }
}

async fn insert_indicators(connection: &mut Connection, graph_arn: &str, id: &InvestigationId, indicators: &[Attributed]) -> Result<(), StoreError> {
    let mut places = 0_i64..;
    for indicators in indicators.chunks(ROWS_PER_STATEMENT) {
        let row = |row: usize| format!("($1, $2, ${}, ${}, ${}, ${})", row * 4 + 3, row * 4 + 4, row * 4 + 5, row * 4 + 6);
        let rows: Vec<_> = (0..indicators.len()).map(row).collect();
        let statement = format!("INSERT INTO indicators (graph_arn, investigation_id, place, principal, kind, detail) VALUES {}", rows.join(", "));
        // Safe: only numbers of places were put into the text.
        let mut query = sqlx::query(AssertSqlSafe(statement)).persistent(false).bind(graph_arn).bind(id.as_str());
        for (Attributed { principal, indicator }, place) in indicators.iter().zip(places.by_ref()) {
            let detail = serde_json::to_string(indicator).map_err(fault)?;
            query = query.bind(place).bind(principal.to_string()).bind(indicator.kind().as_str()).bind(detail);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

fn fault(error: serde_json::Error) -> StoreError {
    StoreError::Fault(Box::new(error))
}

fn rank(severity: Option<Severity>) -> i64 {
    SEVERITIES.into_iter().zip(1..).find(|(one, _)| Some(*one) == severity).map_or(0, |(_, rank)| rank)
}

fn status_of(number: i64) -> Status {
    STATUSES.into_iter().zip(0..).find(|(_, one)| *one == number).map_or(Status::Failed, |(status, _)| status)
}

fn investigation_of(row: &AnyRow) -> Result<Investigation, StoreError> {
    let severity = match usize::try_from(number(row, "severity")?).map_err(|_| unknown("severity"))?.checked_sub(1) {
        None => None,
        Some(index) => Some(SEVERITIES.get(index).copied().ok_or_else(|| unknown("severity"))?),
    };
    Ok(Investigation {
        id: parsed(text(row, "investigation_id")?)?,
        target: parsed(text(row, "target")?)?,
        scope: scope_of(row)?,
        status: Status::from_name(&text(row, "status")?).ok_or_else(|| unknown("status"))?,
        severity,
        state: State::from_name(&text(row, "state")?).ok_or_else(|| unknown("state"))?,
        create_time: Timestamp(number(row, "create_time")?),
        progress: Progress {
            done: count(row, "principals_done")?,
            total: count(row, "principals_total")?,
            left_out: u64::try_from(number(row, "principals_left_out")?).unwrap_or_default(),
        },
    })
}

fn scope_of(row: &AnyRow) -> Result<TimeWindow, StoreError> {
    let (start, end) = (number(row, "scope_start")?, number(row, "scope_end")?);
    TimeWindow::new(Timestamp(start), Timestamp(end)).map_err(|error| StoreError::Fault(Box::new(error)))
}
