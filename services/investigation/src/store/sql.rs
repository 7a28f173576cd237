//! The store in SQL, on SQLite and Postgres.

use std::{collections::HashMap, str::FromStr};

use async_trait::async_trait;
use gumshoe_model::{GraphArn, Timestamp};
use gumshoe_runtime::store::{Connection, Database, Schema};
use sqlx::{AssertSqlSafe, Row as _, any::AnyRow};

use super::{Store, StoreError};
use crate::{
    config,
    verdict::{Delivery, DeliveryState, FindingId, Kind, NewVerdict, RequestId, Verdict},
};

mod groups;
mod investigations;
mod outbox;
mod suppressions;

const SCHEMA: Schema = Schema {
    table: "investigation_migrations",
    version: "SELECT coalesce(max(version), 0) FROM investigation_migrations",
    steps: &[
        ("create judged findings", include_str!("../../migrations/0001_create_judged_findings.sql")),
        ("create verdicts", include_str!("../../migrations/0002_create_verdicts.sql")),
        ("create investigated graphs", include_str!("../../migrations/0003_create_investigated_graphs.sql")),
        ("create investigations", include_str!("../../migrations/0004_create_investigations.sql")),
        ("create indicators", include_str!("../../migrations/0005_create_indicators.sql")),
        ("add verdict delivery", include_str!("../../migrations/0006_add_verdict_delivery.sql")),
        ("create outbox", include_str!("../../migrations/0007_create_outbox.sql")),
        ("create suppressions", include_str!("../../migrations/0008_create_suppressions.sql")),
        ("add investigation principals", include_str!("../../migrations/0009_add_investigation_principals.sql")),
        ("create finding groups", include_str!("../../migrations/0010_create_finding_groups.sql")),
        ("add grouped verdicts", include_str!("../../migrations/0011_add_grouped_verdicts.sql")),
    ],
};

const COLUMNS: &str = "v.finding_id, v.sequence, v.verdict_id, v.kind, v.note, v.author, v.request_id, v.create_time, \
     v.delivery, v.delivery_reason, v.delivery_attempts, v.delivery_time";
/// Where a verdict's delivery stands that was never meant to be delivered.
const NONE: &str = "NONE";

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

    async fn create_verdict(&self, graph: &GraphArn, verdict: &NewVerdict, deliver: bool, now: Timestamp) -> Result<Verdict, StoreError> {
        let graph_arn = graph.to_string();
        let mut transaction = self.0.begin().await?;
        if let Some(recorded) = recorded(&mut transaction, &graph_arn, verdict).await? {
            return Ok(recorded);
        }
        // Takes the finding's row, so that its verdicts follow one another.
        let sequence: i64 = sqlx::query_scalar(
            "INSERT INTO judged_findings (graph_arn, finding_id, latest) VALUES ($1, $2, 1) \
             ON CONFLICT (graph_arn, finding_id) DO UPDATE SET latest = judged_findings.latest + 1 RETURNING latest",
        )
        .bind(&graph_arn)
        .bind(verdict.finding.as_str())
        .fetch_one(&mut *transaction)
        .await?;
        let delivery = deliver.then(|| Delivery { state: DeliveryState::Pending, reason: String::new(), attempts: 0, time: now });
        let created = Verdict { id: uuid::Uuid::now_v7().to_string(), sequence, content: verdict.clone(), create_time: now, delivery };
        let inserted = sqlx::query(
            "INSERT INTO verdicts (graph_arn, finding_id, sequence, verdict_id, kind, note, author, request_id, create_time, \
                delivery, delivery_time) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (graph_arn, request_id) DO NOTHING",
        )
        .bind(&graph_arn)
        .bind(verdict.finding.as_str())
        .bind(sequence)
        .bind(&created.id)
        .bind(verdict.kind.as_str())
        .bind(verdict.note.as_str())
        .bind(&verdict.author)
        .bind(verdict.request.as_ref().map(RequestId::as_str))
        .bind(now.0)
        .bind(created.delivery.as_ref().map_or(NONE, |delivery| delivery.state.as_str()))
        .bind(if deliver { now.0 } else { 0 })
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if inserted > 0 {
            outbox::put(&mut transaction, &graph_arn, &created).await?;
            groups::note_verdict(&mut transaction, &graph_arn).await?;
            transaction.commit().await?;
            return Ok(created);
        }
        // A concurrent call with the same request id was first.
        transaction.rollback().await?;
        let mut connection = self.0.pool.acquire().await?;
        recorded(&mut connection, &graph_arn, verdict).await?.ok_or_else(|| StoreError::Fault("a verdict vanished".into()))
    }

    async fn verdicts_in_force(&self, graph: &GraphArn, findings: &[FindingId]) -> Result<HashMap<FindingId, Verdict>, StoreError> {
        if findings.is_empty() {
            return Ok(HashMap::new());
        }
        let places = (2..findings.len() + 2).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ");
        let statement = format!(
            "SELECT {COLUMNS} FROM judged_findings f \
             JOIN verdicts v ON v.graph_arn = f.graph_arn AND v.finding_id = f.finding_id AND v.sequence = f.latest \
             WHERE f.graph_arn = $1 AND f.finding_id IN ({places})"
        );
        // Safe: only numbers of places were put into the text.
        let query = sqlx::query(AssertSqlSafe(statement)).persistent(false).bind(graph.to_string());
        let rows = findings.iter().fold(query, |query, finding| query.bind(finding.as_str())).fetch_all(&self.0.pool).await?;
        rows.iter().map(|row| verdict_of(row).map(|verdict| (verdict.content.finding.clone(), verdict))).collect()
    }

    async fn list_verdicts(&self, graph: &GraphArn, finding: &FindingId, before: Option<i64>, limit: u32) -> Result<Vec<Verdict>, StoreError> {
        let statement =
            format!("SELECT {COLUMNS} FROM verdicts v WHERE v.graph_arn = $1 AND v.finding_id = $2 AND v.sequence < $3 ORDER BY v.sequence DESC LIMIT $4");
        // Safe: only names of columns were put into the text.
        let query = sqlx::query(AssertSqlSafe(statement)).bind(graph.to_string()).bind(finding.as_str());
        let rows = query.bind(before.unwrap_or(i64::MAX)).bind(i64::from(limit)).fetch_all(&self.0.pool).await?;
        rows.iter().map(verdict_of).collect()
    }
}

/// What the graph has under the verdict's request id.
async fn recorded(connection: &mut Connection, graph_arn: &str, verdict: &NewVerdict) -> Result<Option<Verdict>, StoreError> {
    let Some(request) = &verdict.request else { return Ok(None) };
    let statement = format!("SELECT {COLUMNS} FROM verdicts v WHERE v.graph_arn = $1 AND v.request_id = $2");
    // Safe: only names of columns were put into the text.
    let row = sqlx::query(AssertSqlSafe(statement)).bind(graph_arn).bind(request.as_str()).fetch_optional(connection).await?;
    match row.as_ref().map(verdict_of).transpose()? {
        Some(recorded) if recorded.content != *verdict => Err(StoreError::RequestReused),
        recorded => Ok(recorded),
    }
}

fn verdict_of(row: &AnyRow) -> Result<Verdict, StoreError> {
    let request: Option<String> = row.try_get("request_id")?;
    Ok(Verdict {
        id: text(row, "verdict_id")?,
        sequence: number(row, "sequence")?,
        content: NewVerdict {
            finding: parsed(text(row, "finding_id")?)?,
            kind: Kind::from_name(&text(row, "kind")?).ok_or_else(|| unknown("kind"))?,
            note: parsed(text(row, "note")?)?,
            author: text(row, "author")?,
            request: request.map(parsed).transpose()?,
        },
        create_time: Timestamp(number(row, "create_time")?),
        delivery: delivery_of(row)?,
    })
}

fn delivery_of(row: &AnyRow) -> Result<Option<Delivery>, StoreError> {
    let state = text(row, "delivery")?;
    if state == NONE {
        return Ok(None);
    }
    Ok(Some(Delivery {
        state: DeliveryState::from_name(&state).ok_or_else(|| unknown("delivery"))?,
        reason: text(row, "delivery_reason")?,
        attempts: count(row, "delivery_attempts")?,
        time: Timestamp(number(row, "delivery_time")?),
    }))
}

fn unknown(column: &str) -> StoreError {
    StoreError::Fault(format!("`{column}` is not one that is known").into())
}

fn text(row: &AnyRow, column: &str) -> Result<String, StoreError> {
    row.try_get(column).map_err(StoreError::from)
}

fn number(row: &AnyRow, column: &str) -> Result<i64, StoreError> {
    row.try_get(column).map_err(StoreError::from)
}

fn count(row: &AnyRow, column: &str) -> Result<u32, StoreError> {
    Ok(u32::try_from(number(row, column)?.max(0)).unwrap_or(u32::MAX))
}

fn parsed<T>(text: String) -> Result<T, StoreError>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|error| StoreError::Fault(Box::new(error)))
}
