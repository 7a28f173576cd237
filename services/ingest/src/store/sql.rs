//! The store in SQL, on SQLite and Postgres.

use std::{collections::HashSet, time::Duration};

use gumshoe_model::{GraphArn, Hour, TimeWindow, Timestamp};
use gumshoe_runtime::store::{Connection, Database, Schema};
use sqlx::{Row as _, any::AnyRow};

use super::{Claimed, Counts, MAX_GAPS, NewObject, Object, ObjectState, Outcome, Progress, PullStatus, Settings, Source, StoreError};
use crate::config;

const SCHEMA: Schema = Schema {
    table: "ingest_migrations",
    version: "SELECT coalesce(max(version), 0) FROM ingest_migrations",
    steps: &[
        ("create sources", include_str!("../../migrations/0001_create_sources.sql")),
        ("create source objects", include_str!("../../migrations/0002_create_source_objects.sql")),
    ],
};

/// `next_try` of objects that only a new listing can bring back.
const NEVER: i64 = i64::MAX;
/// `first_hour` of objects whose key does not say.
const NO_HOUR: i64 = -1;
/// Rows a statement inserts or looks up; SQLite takes at most 32,766 parameters.
const ROWS_PER_STATEMENT: usize = 500;

const SOURCE_COLUMNS: &str =
    "graph_arn, name, source_id, url, poll_interval, lookback, sqs_queue_url, region, endpoint_url, eks_cluster, create_time, last_list_time, last_error";

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

    /// Whether the database answers and its schema fits.
    ///
    /// # Errors
    /// [`StoreError::SchemaVersion`] if the schema does not fit.
    pub async fn ready(&self) -> Result<(), StoreError> {
        Ok(self.0.check(&SCHEMA).await?)
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.0.pool.close().await;
    }

    /// Adds a source.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] if its graph has one of this name.
    pub async fn create_source(&self, source: &Source) -> Result<(), StoreError> {
        let settings = &source.settings;
        let inserted = sqlx::query(
            "INSERT INTO sources (graph_arn, name, source_id, url, poll_interval, lookback, sqs_queue_url, region, endpoint_url, eks_cluster, create_time, \
             last_list_time, last_error) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, '') ON CONFLICT (graph_arn, name) DO NOTHING",
        )
        .bind(source.graph.to_string())
        .bind(&*source.name)
        .bind(&*source.id)
        .bind(&*settings.url)
        .bind(micros(settings.poll_interval))
        .bind(micros(settings.lookback))
        .bind(&*settings.sqs_queue_url)
        .bind(&*settings.region)
        .bind(&*settings.endpoint_url)
        .bind(&*settings.eks_cluster)
        .bind(source.create_time.0)
        .execute(&self.0.pool)
        .await?;
        if inserted.rows_affected() == 1 { Ok(()) } else { Err(StoreError::AlreadyExists) }
    }

    /// A source.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn source(&self, graph: &GraphArn, name: &str) -> Result<Source, StoreError> {
        let statement = format!("SELECT {SOURCE_COLUMNS} FROM sources WHERE graph_arn = $1 AND name = $2");
        let row = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(graph.to_string()).bind(name).fetch_optional(&self.0.pool).await?;
        row.as_ref().ok_or(StoreError::NotFound).and_then(source_of)
    }

    /// The sources of a graph by name, after `after`.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn list_sources(&self, graph: &GraphArn, after: &str, limit: u32) -> Result<Vec<Source>, StoreError> {
        let statement = format!("SELECT {SOURCE_COLUMNS} FROM sources WHERE graph_arn = $1 AND name > $2 ORDER BY name LIMIT $3");
        let rows = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(graph.to_string()).bind(after).bind(i64::from(limit)).fetch_all(&self.0.pool).await;
        rows?.iter().map(source_of).collect()
    }

    /// The sources of all graphs, for those who pull them.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn all_sources(&self) -> Result<Vec<Source>, StoreError> {
        let statement = format!("SELECT {SOURCE_COLUMNS} FROM sources ORDER BY graph_arn, name");
        let rows = sqlx::query(sqlx::AssertSqlSafe(statement)).fetch_all(&self.0.pool).await?;
        rows.iter().map(source_of).collect()
    }

    /// Removes a source with its ledger.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn delete_source(&self, graph: &GraphArn, name: &str) -> Result<(), StoreError> {
        let deleted = sqlx::query("DELETE FROM sources WHERE graph_arn = $1 AND name = $2").bind(graph.to_string()).bind(name).execute(&self.0.pool).await;
        if deleted?.rows_affected() == 1 { Ok(()) } else { Err(StoreError::NotFound) }
    }

    /// Notes how a listing ended: `begun` is when it began, if it came to its end.
    ///
    /// # Errors
    /// Only those of the database; nothing happens if the source is gone.
    pub async fn note_listing(&self, source: &Source, begun: Option<Timestamp>, error: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE sources SET last_list_time = CASE WHEN $1 > last_list_time THEN $1 ELSE last_list_time END, last_error = $2 WHERE graph_arn = $3 AND source_id = $4")
            .bind(begun.map_or(0, |time| time.0))
            .bind(error)
            .bind(source.graph.to_string())
            .bind(&*source.id)
            .execute(&self.0.pool)
            .await
            ?;
        Ok(())
    }

    /// Those of `ids` that a listing need not add: in the ledger, and not waiting for a listing to bring them back.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn known(&self, source: &Source, ids: &[&str]) -> Result<HashSet<String>, StoreError> {
        let mut known = HashSet::with_capacity(ids.len());
        for ids in ids.chunks(ROWS_PER_STATEMENT) {
            let statement = format!(
                "SELECT object_id FROM source_objects WHERE graph_arn = $1 AND source_id = $2 AND next_try < $3 AND object_id IN ({})",
                placeholders(4, ids.len())
            );
            let mut query = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(statement)).bind(source.graph.to_string()).bind(&*source.id).bind(NEVER);
            for id in ids {
                query = query.bind(*id);
            }
            known.extend(query.fetch_all(&self.0.pool).await?);
        }
        Ok(known)
    }

    /// Adds objects as seen; those in the ledger stay as they are, but one that waited for a listing to bring it back is
    /// tried again.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the source is gone.
    pub async fn add_objects(&self, source: &Source, objects: &[NewObject], now: Timestamp) -> Result<(), StoreError> {
        const COLUMNS: usize = 12;
        let mut transaction = self.0.begin().await?;
        for objects in objects.chunks(ROWS_PER_STATEMENT) {
            let rows: Vec<String> =
                (0..objects.len()).map(|row| format!("({}, 'seen', '', 0, 0, '', 0, 0, 0, 0, 0, 0, 0, 0)", placeholders(row * COLUMNS + 1, COLUMNS))).collect();
            let statement = format!(
                "INSERT INTO source_objects (graph_arn, source_id, object_id, object_key, etag, account, region, size, modify_time, first_hour, last_hour, seen_time, \
                 state, failure, attempts, next_try, claimed_by, claim_expires, finish_time, records, events, duplicates, dead_letters, bytes, already_committed) \
                 VALUES {} ON CONFLICT (graph_arn, source_id, object_id) DO UPDATE SET state = 'seen', next_try = 0 WHERE source_objects.next_try = {NEVER}",
                rows.join(", ")
            );
            let mut query = sqlx::query(sqlx::AssertSqlSafe(statement));
            for object in objects {
                let (first, last) = object.hours.unwrap_or((NO_HOUR, NO_HOUR));
                query = query
                    .bind(source.graph.to_string())
                    .bind(&*source.id)
                    .bind(&*object.id)
                    .bind(&*object.key)
                    .bind(&*object.etag)
                    .bind(&*object.account)
                    .bind(&*object.region)
                    .bind(signed(object.size))
                    .bind(object.modify_time.0)
                    .bind(first)
                    .bind(last)
                    .bind(now.0);
            }
            query.execute(&mut *transaction).await?;
        }
        transaction.commit().await.map_err(StoreError::from)
    }

    /// Lets failed objects be tried at once, but for those that only a listing can bring back.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn retry_failed(&self, source: &Source) -> Result<(), StoreError> {
        sqlx::query("UPDATE source_objects SET state = 'seen', next_try = 0 WHERE graph_arn = $1 AND source_id = $2 AND state <> 'done' AND next_try > 0 AND next_try < $3")
            .bind(source.graph.to_string())
            .bind(&*source.id)
            .bind(NEVER)
            .execute(&self.0.pool)
            .await
            ?;
        Ok(())
    }

    /// Gives `worker` up to `limit` objects to ingest, which nobody else gets before `until`.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn claim(&self, source: &Source, worker: &str, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Claimed>, StoreError> {
        // INVARIANT: the outer conditions repeat the inner ones, since Postgres checks only those again when another
        // replica has claimed the same row a moment before.
        let rows = sqlx::query(
            "UPDATE source_objects SET claimed_by = $1, claim_expires = $2, attempts = attempts + 1 \
             WHERE graph_arn = $3 AND source_id = $4 AND state <> 'done' AND next_try <= $5 AND claim_expires <= $5 AND object_id IN ( \
                SELECT object_id FROM source_objects WHERE graph_arn = $3 AND source_id = $4 AND state <> 'done' AND next_try <= $5 AND claim_expires <= $5 \
                ORDER BY next_try, modify_time LIMIT $6) \
             RETURNING object_id, object_key, etag, size, attempts",
        )
        .bind(worker)
        .bind(until.0)
        .bind(source.graph.to_string())
        .bind(&*source.id)
        .bind(now.0)
        .bind(i64::from(limit))
        .fetch_all(&self.0.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Claimed {
                    id: text(row, "object_id")?,
                    key: text(row, "object_key")?,
                    etag: text(row, "etag")?,
                    size: count(row, "size")?,
                    attempts: u32::try_from(number(row, "attempts")?).unwrap_or(u32::MAX),
                })
            })
            .collect()
    }

    /// Prolongs all claims of `worker`.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn renew(&self, worker: &str, until: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE source_objects SET claim_expires = $1 WHERE claimed_by = $2 AND claimed_by <> ''")
            .bind(until.0)
            .bind(worker)
            .execute(&self.0.pool)
            .await?;
        Ok(())
    }

    /// Gives up all claims of `worker`; the attempts do not count.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn release(&self, worker: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE source_objects SET claimed_by = '', claim_expires = 0, attempts = attempts - 1 WHERE claimed_by = $1 AND claimed_by <> ''")
            .bind(worker)
            .execute(&self.0.pool)
            .await?;
        Ok(())
    }

    /// Writes down what became of objects that `worker` had claimed. Objects that it has lost since are left alone.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn finish(&self, source: &Source, worker: &str, outcomes: &[(String, Outcome)], now: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.0.begin().await?;
        for (id, outcome) in outcomes {
            finish_one(&mut transaction, source, worker, id, outcome, now).await?;
        }
        transaction.commit().await.map_err(StoreError::from)
    }

    /// How far the pull is that began at `since`.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn pull_status(&self, source: &Source, since: Timestamp) -> Result<PullStatus, StoreError> {
        let row = sqlx::query(
            "SELECT CAST(coalesce(sum(CASE WHEN state = 'seen' THEN 1 ELSE 0 END), 0) AS BIGINT) AS waiting, \
             CAST(coalesce(sum(CASE WHEN state = 'seen' THEN size ELSE 0 END), 0) AS BIGINT) AS waiting_bytes, \
             CAST(coalesce(sum(CASE WHEN state = 'seen' THEN 0 ELSE 1 END), 0) AS BIGINT) AS finished, \
             CAST(coalesce(sum(CASE WHEN state = 'seen' THEN 0 ELSE size END), 0) AS BIGINT) AS finished_bytes, \
             CAST(coalesce(sum(CASE WHEN state = 'failed' THEN 1 ELSE 0 END), 0) AS BIGINT) AS failed, \
             CAST(coalesce(sum(CASE WHEN state = 'seen' THEN 0 ELSE records END), 0) AS BIGINT) AS records, \
             CAST(coalesce(sum(CASE WHEN state = 'seen' THEN 0 ELSE events END), 0) AS BIGINT) AS events, \
             CAST(coalesce(sum(CASE WHEN state = 'seen' THEN 0 ELSE duplicates END), 0) AS BIGINT) AS duplicates, \
             CAST(coalesce(sum(CASE WHEN state = 'seen' THEN 0 ELSE dead_letters END), 0) AS BIGINT) AS dead_letters, \
             CAST(coalesce(sum(CASE WHEN state = 'seen' THEN 0 ELSE bytes END), 0) AS BIGINT) AS bytes, \
             CAST(coalesce(min(CASE WHEN state = 'seen' THEN 1 ELSE already_committed END), 0) AS BIGINT) AS already_committed \
             FROM source_objects WHERE graph_arn = $1 AND source_id = $2 AND (state = 'seen' OR finish_time >= $3)",
        )
        .bind(source.graph.to_string())
        .bind(&*source.id)
        .bind(since.0)
        .fetch_one(&self.0.pool)
        .await?;
        let mut counts = counts_of(&row)?;
        let finished = count(&row, "finished")?;
        counts.already_committed &= finished > 0;
        Ok(PullStatus {
            waiting: count(&row, "waiting")?,
            waiting_bytes: count(&row, "waiting_bytes")?,
            finished,
            finished_bytes: count(&row, "finished_bytes")?,
            failed: count(&row, "failed")?,
            counts,
        })
    }

    /// Progress by account and region.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn progress(&self, source: &Source) -> Result<Vec<Progress>, StoreError> {
        let rows = sqlx::query(
            "SELECT account, region, count(*) AS seen, CAST(sum(CASE WHEN state = 'done' THEN 1 ELSE 0 END) AS BIGINT) AS done, \
             CAST(sum(CASE WHEN state = 'failed' THEN 1 ELSE 0 END) AS BIGINT) AS failed, CAST(sum(records) AS BIGINT) AS records, \
             CAST(sum(events) AS BIGINT) AS events, CAST(sum(duplicates) AS BIGINT) AS duplicates, CAST(sum(dead_letters) AS BIGINT) AS dead_letters, \
             CAST(sum(bytes) AS BIGINT) AS bytes, min(already_committed) AS already_committed, max(modify_time) AS newest, \
             coalesce(min(CASE WHEN state <> 'done' AND next_try < $3 THEN modify_time END), -1) AS oldest_to_do \
             FROM source_objects WHERE graph_arn = $1 AND source_id = $2 GROUP BY account, region ORDER BY account, region",
        )
        .bind(source.graph.to_string())
        .bind(&*source.id)
        .bind(NEVER)
        .fetch_all(&self.0.pool)
        .await?;
        let mut progress = Vec::with_capacity(rows.len());
        for row in &rows {
            let oldest = number(row, "oldest_to_do")?;
            progress.push(Progress {
                account: text(row, "account")?,
                region: text(row, "region")?,
                seen: count(row, "seen")?,
                done: count(row, "done")?,
                failed: count(row, "failed")?,
                counts: counts_of(row)?,
                newest: Timestamp(number(row, "newest")?),
                oldest_to_do: (oldest >= 0).then_some(Timestamp(oldest)),
                gaps: Vec::new(),
            });
        }
        self.add_gaps(source, &mut progress).await?;
        Ok(progress)
    }

    async fn add_gaps(&self, source: &Source, progress: &mut [Progress]) -> Result<(), StoreError> {
        let rows = sqlx::query(
            "SELECT account, region, before, after FROM ( \
                SELECT account, region, before, after, row_number() OVER (PARTITION BY account, region ORDER BY after DESC) AS place FROM ( \
                    SELECT account, region, first_hour AS after, max(last_hour) OVER ( \
                        PARTITION BY account, region ORDER BY first_hour, last_hour ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before \
                    FROM (SELECT DISTINCT account, region, first_hour, last_hour FROM source_objects \
                          WHERE graph_arn = $1 AND source_id = $2 AND first_hour >= 0) AS hours \
                ) AS steps WHERE after > before + 1 \
             ) AS gaps WHERE place <= $3 ORDER BY account, region, after",
        )
        .bind(source.graph.to_string())
        .bind(&*source.id)
        .bind(i64::try_from(MAX_GAPS).unwrap_or(i64::MAX))
        .fetch_all(&self.0.pool)
        .await?;
        for row in &rows {
            let (account, region) = (text(row, "account")?, text(row, "region")?);
            let gap = TimeWindow::new(Hour(number(row, "before")? + 1).start(), Hour(number(row, "after")?).start());
            if let (Some(progress), Ok(gap)) = (progress.iter_mut().find(|progress| progress.account == account && progress.region == region), gap) {
                progress.gaps.push(gap);
            }
        }
        Ok(())
    }

    /// Objects by key and etag, after the pair `after`.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn list_objects(&self, source: &Source, state: Option<ObjectState>, after: (&str, &str), limit: u32) -> Result<Vec<Object>, StoreError> {
        let rows = sqlx::query(
            "SELECT object_id, object_key, etag, size, state, failure, attempts, modify_time, seen_time, finish_time, records, events, duplicates, dead_letters, bytes, \
             already_committed FROM source_objects WHERE graph_arn = $1 AND source_id = $2 AND (object_key, etag) > ($3, $4) AND ($5 = '' OR state = $5) \
             ORDER BY object_key, etag LIMIT $6",
        )
        .bind(source.graph.to_string())
        .bind(&*source.id)
        .bind(after.0)
        .bind(after.1)
        .bind(state.map_or("", state_name))
        .bind(i64::from(limit))
        .fetch_all(&self.0.pool)
        .await
        ?;
        rows.iter().map(object_of).collect()
    }
}

async fn finish_one(connection: &mut Connection, source: &Source, worker: &str, id: &str, outcome: &Outcome, now: Timestamp) -> Result<(), StoreError> {
    let query = match outcome {
        Outcome::Done(counts) => (Some((ObjectState::Done, now)), "", 0, Some(counts)),
        Outcome::Failed { reason, counts, next_try } => (Some((ObjectState::Failed, now)), &**reason, next_try.map_or(NEVER, |time| time.0), Some(counts)),
        Outcome::Postponed { reason, next_try } => (None, &**reason, next_try.0, None),
    };
    let (finished, reason, next_try, counts) = query;
    let counts = counts.copied().unwrap_or_default();
    sqlx::query(
        "UPDATE source_objects SET state = CASE WHEN $1 = '' THEN state ELSE $1 END, finish_time = CASE WHEN $1 = '' THEN finish_time ELSE $2 END, failure = $3, \
         next_try = $4, records = $5, events = $6, duplicates = $7, dead_letters = $8, bytes = $9, already_committed = $10, claimed_by = '', claim_expires = 0 \
         WHERE graph_arn = $11 AND source_id = $12 AND object_id = $13 AND claimed_by = $14",
    )
    .bind(finished.map_or("", |(state, _)| state_name(state)))
    .bind(finished.map_or(0, |(_, time)| time.0))
    .bind(reason)
    .bind(next_try)
    .bind(signed(counts.records))
    .bind(signed(counts.events))
    .bind(signed(counts.duplicates))
    .bind(signed(counts.dead_letters))
    .bind(signed(counts.bytes))
    .bind(i64::from(counts.already_committed))
    .bind(source.graph.to_string())
    .bind(&*source.id)
    .bind(id)
    .bind(worker)
    .execute(connection)
    .await
    ?;
    Ok(())
}

fn placeholders(first: usize, count: usize) -> String {
    (first..first + count).map(|number| format!("${number}")).collect::<Vec<_>>().join(", ")
}

fn state_name(state: ObjectState) -> &'static str {
    match state {
        ObjectState::Seen => "seen",
        ObjectState::Done => "done",
        ObjectState::Failed => "failed",
    }
}

fn source_of(row: &AnyRow) -> Result<Source, StoreError> {
    let duration = |column| Ok::<_, StoreError>(Duration::from_micros(count(row, column)?));
    let listed = number(row, "last_list_time")?;
    Ok(Source {
        graph: text(row, "graph_arn")?.parse().map_err(|error| StoreError::Fault(Box::new(error) as Box<_>))?,
        name: text(row, "name")?,
        id: text(row, "source_id")?,
        settings: Settings {
            url: text(row, "url")?,
            poll_interval: duration("poll_interval")?,
            lookback: duration("lookback")?,
            sqs_queue_url: text(row, "sqs_queue_url")?,
            region: text(row, "region")?,
            endpoint_url: text(row, "endpoint_url")?,
            eks_cluster: text(row, "eks_cluster")?,
        },
        create_time: Timestamp(number(row, "create_time")?),
        last_list_time: (listed > 0).then_some(Timestamp(listed)),
        last_error: text(row, "last_error")?,
    })
}

fn object_of(row: &AnyRow) -> Result<Object, StoreError> {
    let finished = number(row, "finish_time")?;
    let state = text(row, "state")?;
    Ok(Object {
        id: text(row, "object_id")?,
        key: text(row, "object_key")?,
        etag: text(row, "etag")?,
        size: count(row, "size")?,
        state: [ObjectState::Seen, ObjectState::Done, ObjectState::Failed]
            .into_iter()
            .find(|known| state_name(*known) == state)
            .ok_or_else(|| StoreError::Fault("an object has an unknown state".into()))?,
        failure: text(row, "failure")?,
        attempts: u32::try_from(number(row, "attempts")?).unwrap_or(u32::MAX),
        modify_time: Timestamp(number(row, "modify_time")?),
        seen_time: Timestamp(number(row, "seen_time")?),
        finish_time: (finished > 0).then_some(Timestamp(finished)),
        counts: counts_of(row)?,
    })
}

fn counts_of(row: &AnyRow) -> Result<Counts, StoreError> {
    Ok(Counts {
        records: count(row, "records")?,
        events: count(row, "events")?,
        duplicates: count(row, "duplicates")?,
        dead_letters: count(row, "dead_letters")?,
        bytes: count(row, "bytes")?,
        already_committed: number(row, "already_committed")? != 0,
    })
}

fn text(row: &AnyRow, column: &str) -> Result<String, StoreError> {
    row.try_get(column).map_err(StoreError::from)
}

fn number(row: &AnyRow, column: &str) -> Result<i64, StoreError> {
    row.try_get(column).map_err(StoreError::from)
}

fn count(row: &AnyRow, column: &str) -> Result<u64, StoreError> {
    Ok(u64::try_from(number(row, column)?).unwrap_or(0))
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
