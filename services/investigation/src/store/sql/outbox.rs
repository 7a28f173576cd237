//! The outbox in SQL: verdicts on their way.

use async_trait::async_trait;
use gumshoe_model::{GraphArn, Timestamp};
use gumshoe_runtime::store::Connection;
use sqlx::{Any, AssertSqlSafe, any::AnyArguments, query::Query};

use super::{COLUMNS, SqlStore, count, number, parsed, suppressions, text, verdict_of};
use crate::{
    store::{Errand, NewSuppression, Outbox, Settled, StoreError},
    verdict::{DeliveryState, Kind, Verdict},
};

/// Puts a verdict that was just recorded into the outbox, in place of an earlier one of the finding.
pub(super) async fn put(connection: &mut Connection, graph_arn: &str, verdict: &Verdict) -> Result<(), StoreError> {
    let finding = verdict.content.finding.as_str();
    // The claim of who works on an earlier verdict stays, so that the two cannot overtake each other.
    sqlx::query(
        "INSERT INTO outbox (graph_arn, finding_id, sequence, attempts, next_try, worker, lease_expires) VALUES ($1, $2, $3, 0, $4, '', 0) \
         ON CONFLICT (graph_arn, finding_id) DO UPDATE SET sequence = excluded.sequence, attempts = 0, next_try = excluded.next_try",
    )
    .bind(graph_arn)
    .bind(finding)
    .bind(verdict.sequence)
    .bind(verdict.create_time.0)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE verdicts SET delivery = 'SUPERSEDED', delivery_time = $1 \
         WHERE graph_arn = $2 AND finding_id = $3 AND sequence < $4 AND delivery = 'PENDING'",
    )
    .bind(verdict.create_time.0)
    .bind(graph_arn)
    .bind(finding)
    .bind(verdict.sequence)
    .execute(&mut *connection)
    .await?;
    if verdict.content.kind != Kind::FalsePositive {
        suppressions::withdraw(connection, graph_arn, finding).await?;
    }
    Ok(())
}

#[async_trait]
impl Outbox for SqlStore {
    async fn claim_errands(&self, worker: &str, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Errand>, StoreError> {
        // INVARIANT: the outer conditions repeat the inner ones, since Postgres checks only those again when another
        // replica has claimed the same row a moment before.
        let claimed = sqlx::query(
            "UPDATE outbox SET worker = $1, lease_expires = $2, attempts = attempts + 1 \
             WHERE next_try <= $3 AND lease_expires <= $3 AND (graph_arn, finding_id) IN ( \
                SELECT graph_arn, finding_id FROM outbox WHERE next_try <= $3 AND lease_expires <= $3 ORDER BY next_try LIMIT $4) \
             RETURNING graph_arn, finding_id, sequence, attempts",
        )
        .bind(worker)
        .bind(until.0)
        .bind(now.0)
        .bind(i64::from(limit))
        .fetch_all(&self.0.pool)
        .await?;
        let statement = format!(
            "SELECT {COLUMNS}, (SELECT count(*) FROM verdicts e WHERE e.graph_arn = v.graph_arn AND e.finding_id = v.finding_id \
                AND e.sequence < v.sequence AND e.kind IN ('BENIGN', 'FALSE_POSITIVE')) AS put_away \
             FROM verdicts v WHERE v.graph_arn = $1 AND v.finding_id = $2 AND v.sequence = $3"
        );
        let mut errands = Vec::with_capacity(claimed.len());
        for row in &claimed {
            let graph_arn = text(row, "graph_arn")?;
            // Safe: only names of columns were put into the text.
            let query = sqlx::query(AssertSqlSafe(statement.clone())).bind(&graph_arn).bind(text(row, "finding_id")?).bind(number(row, "sequence")?);
            let verdict = query.fetch_one(&self.0.pool).await?;
            errands.push(Errand {
                graph: parsed::<GraphArn>(graph_arn)?,
                was_put_away: number(&verdict, "put_away")? > 0,
                verdict: verdict_of(&verdict)?,
                attempts: count(row, "attempts")?,
            });
        }
        Ok(errands)
    }

    async fn postpone_errand(&self, worker: &str, errand: &Errand, next_try: Timestamp, reason: &str, counts: bool, now: Timestamp) -> Result<(), StoreError> {
        let graph_arn = errand.graph.to_string();
        let mut transaction = self.0.begin().await?;
        let statement = "UPDATE outbox SET worker = '', lease_expires = 0, next_try = $5, attempts = attempts - $6 \
                         WHERE graph_arn = $1 AND finding_id = $2 AND worker = $3 AND sequence = $4";
        let query = held(statement, &graph_arn, worker, errand).bind(next_try.0).bind(i64::from(!counts));
        let postponed = query.execute(&mut *transaction).await?.rows_affected();
        if postponed == 0 {
            release(&mut transaction, &graph_arn, worker, errand).await?;
        } else {
            let attempts = errand.attempts.saturating_sub(u32::from(!counts));
            note(&mut transaction, &graph_arn, errand, (DeliveryState::Pending, reason), attempts, now).await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn settle_errand(&self, worker: &str, errand: &Errand, settled: &Settled, now: Timestamp) -> Result<bool, StoreError> {
        let graph_arn = errand.graph.to_string();
        let mut transaction = self.0.begin().await?;
        let statement = "DELETE FROM outbox WHERE graph_arn = $1 AND finding_id = $2 AND worker = $3 AND sequence = $4";
        let ended = held(statement, &graph_arn, worker, errand).execute(&mut *transaction).await?.rows_affected();
        if ended == 0 {
            release(&mut transaction, &graph_arn, worker, errand).await?;
        } else {
            let end = match settled {
                Settled::Delivered => Some((DeliveryState::Delivered, "")),
                Settled::Failed(reason) => Some((DeliveryState::Failed, reason.as_str())),
                Settled::Skipped(reason) => Some((DeliveryState::Skipped, reason.as_str())),
                Settled::Done => None,
            };
            if let Some(end) = end {
                note(&mut transaction, &graph_arn, errand, end, errand.attempts, now).await?;
            }
        }
        transaction.commit().await?;
        Ok(ended > 0)
    }

    async fn give_up_errands(&self, worker: &str) -> Result<(), StoreError> {
        let statement = "UPDATE outbox SET worker = '', lease_expires = 0, attempts = CASE WHEN attempts > 0 THEN attempts - 1 ELSE 0 END \
                         WHERE worker = $1 AND worker <> ''";
        sqlx::query(statement).bind(worker).execute(&self.0.pool).await?;
        Ok(())
    }

    async fn propose(&self, worker: &str, errand: &Errand, proposed: &NewSuppression, now: Timestamp) -> Result<bool, StoreError> {
        let graph_arn = errand.graph.to_string();
        let mut transaction = self.0.begin().await?;
        // Takes the errand's row, so that a later verdict comes before or after, and not between.
        let statement = "UPDATE outbox SET lease_expires = lease_expires WHERE graph_arn = $1 AND finding_id = $2 AND worker = $3 AND sequence = $4";
        let taken = held(statement, &graph_arn, worker, errand).execute(&mut *transaction).await?.rows_affected();
        let inserted = taken > 0 && suppressions::insert(&mut transaction, &graph_arn, &errand.verdict, proposed, now).await?;
        transaction.commit().await?;
        Ok(inserted)
    }
}

/// A statement on an errand's row for as long as the worker has it: its first four parameters.
fn held<'q>(statement: &'static str, graph_arn: &'q str, worker: &'q str, errand: &'q Errand) -> Query<'q, Any, AnyArguments> {
    sqlx::query(statement).bind(graph_arn).bind(errand.verdict.content.finding.as_str()).bind(worker).bind(errand.verdict.sequence)
}

/// Gives the errand back that the worker has had for an earlier verdict.
async fn release(connection: &mut Connection, graph_arn: &str, worker: &str, errand: &Errand) -> Result<(), StoreError> {
    sqlx::query("UPDATE outbox SET worker = '', lease_expires = 0 WHERE graph_arn = $1 AND finding_id = $2 AND worker = $3")
        .bind(graph_arn)
        .bind(errand.verdict.content.finding.as_str())
        .bind(worker)
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes at the verdict how far its delivery is.
async fn note(
    connection: &mut Connection,
    graph_arn: &str,
    errand: &Errand,
    (state, reason): (DeliveryState, &str),
    attempts: u32,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE verdicts SET delivery = $1, delivery_reason = $2, delivery_attempts = $3, delivery_time = $4 \
         WHERE graph_arn = $5 AND finding_id = $6 AND sequence = $7 AND delivery = 'PENDING'",
    )
    .bind(state.as_str())
    .bind(reason)
    .bind(i64::from(attempts))
    .bind(now.0)
    .bind(graph_arn)
    .bind(errand.verdict.content.finding.as_str())
    .bind(errand.verdict.sequence)
    .execute(connection)
    .await?;
    Ok(())
}
