//! The store in SQL, on SQLite and Postgres.

use std::{collections::HashMap, str::FromStr};

use async_trait::async_trait;
use gumshoe_model::{GraphArn, Timestamp};
use gumshoe_runtime::store::{Connection, Database, Schema};
use sqlx::{AssertSqlSafe, Row as _, any::AnyRow};

use super::{Store, StoreError};
use crate::{
    config,
    verdict::{FindingId, Kind, NewVerdict, RequestId, Verdict},
};

mod investigations;

const SCHEMA: Schema = Schema {
    table: "investigation_migrations",
    version: "SELECT coalesce(max(version), 0) FROM investigation_migrations",
    steps: &[
        ("create judged findings", include_str!("../../migrations/0001_create_judged_findings.sql")),
        ("create verdicts", include_str!("../../migrations/0002_create_verdicts.sql")),
        ("create investigated graphs", include_str!("../../migrations/0003_create_investigated_graphs.sql")),
        ("create investigations", include_str!("../../migrations/0004_create_investigations.sql")),
        ("create indicators", include_str!("../../migrations/0005_create_indicators.sql")),
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

    async fn create_verdict(&self, graph: &GraphArn, verdict: &NewVerdict, now: Timestamp) -> Result<Verdict, StoreError> {
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
        let created = Verdict { id: uuid::Uuid::now_v7().to_string(), sequence, content: verdict.clone(), create_time: now };
        let inserted = sqlx::query(
            "INSERT INTO verdicts (graph_arn, finding_id, sequence, verdict_id, kind, note, author, request_id, create_time) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (graph_arn, request_id) DO NOTHING",
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
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if inserted > 0 {
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
            "SELECT v.finding_id, v.sequence, v.verdict_id, v.kind, v.note, v.author, v.request_id, v.create_time FROM judged_findings f \
             JOIN verdicts v ON v.graph_arn = f.graph_arn AND v.finding_id = f.finding_id AND v.sequence = f.latest \
             WHERE f.graph_arn = $1 AND f.finding_id IN ({places})"
        );
        // Safe: only numbers of places were put into the text.
        let query = sqlx::query(AssertSqlSafe(statement)).persistent(false).bind(graph.to_string());
        let rows = findings.iter().fold(query, |query, finding| query.bind(finding.as_str())).fetch_all(&self.0.pool).await?;
        rows.iter().map(|row| verdict_of(row).map(|verdict| (verdict.content.finding.clone(), verdict))).collect()
    }

    async fn list_verdicts(&self, graph: &GraphArn, finding: &FindingId, before: Option<i64>, limit: u32) -> Result<Vec<Verdict>, StoreError> {
        sqlx::query(
            "SELECT finding_id, sequence, verdict_id, kind, note, author, request_id, create_time FROM verdicts \
             WHERE graph_arn = $1 AND finding_id = $2 AND sequence < $3 ORDER BY sequence DESC LIMIT $4",
        )
        .bind(graph.to_string())
        .bind(finding.as_str())
        .bind(before.unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch_all(&self.0.pool)
        .await?
        .iter()
        .map(verdict_of)
        .collect()
    }
}

/// What the graph has under the verdict's request id.
async fn recorded(connection: &mut Connection, graph_arn: &str, verdict: &NewVerdict) -> Result<Option<Verdict>, StoreError> {
    let Some(request) = &verdict.request else { return Ok(None) };
    let row = sqlx::query(
        "SELECT finding_id, sequence, verdict_id, kind, note, author, request_id, create_time FROM verdicts WHERE graph_arn = $1 AND request_id = $2",
    )
    .bind(graph_arn)
    .bind(request.as_str())
    .fetch_optional(connection)
    .await?;
    match row.as_ref().map(verdict_of).transpose()? {
        Some(recorded) if recorded.content != *verdict => Err(StoreError::RequestReused),
        recorded => Ok(recorded),
    }
}

fn verdict_of(row: &AnyRow) -> Result<Verdict, StoreError> {
    let request: Option<String> = row.try_get("request_id")?;
    let kind: String = row.try_get("kind")?;
    Ok(Verdict {
        id: row.try_get("verdict_id")?,
        sequence: row.try_get("sequence")?,
        content: NewVerdict {
            finding: parsed(row.try_get("finding_id")?)?,
            kind: Kind::from_name(&kind).ok_or_else(|| StoreError::Fault("`kind` is not a verdict's kind".into()))?,
            note: parsed(row.try_get("note")?)?,
            author: row.try_get("author")?,
            request: request.map(parsed).transpose()?,
        },
        create_time: Timestamp(row.try_get("create_time")?),
    })
}

fn parsed<T>(text: String) -> Result<T, StoreError>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|error| StoreError::Fault(Box::new(error)))
}
