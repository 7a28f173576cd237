//! Suppressions in SQL.

use async_trait::async_trait;
use gumshoe_model::{EntityKey, GraphArn, Timestamp};
use gumshoe_runtime::store::Connection;
use sqlx::{AssertSqlSafe, any::AnyRow};

use super::{SqlStore, number, parsed, text, unknown};
use crate::{
    store::{NewSuppression, StoreError, Suppressions},
    suppression::{Decision, Mark, Pattern, State, Suppression, SuppressionId},
    verdict::Verdict,
};

const COLUMNS: &str = "suppression_id, finding_type, product, account, entities, finding_id, verdict_id, author, past_findings, create_time, state, \
     decider, decide_time, deleter, delete_time";

/// Takes back what a verdict on the finding proposed and nobody decided on.
pub(super) async fn withdraw(connection: &mut Connection, graph_arn: &str, finding: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM suppressions WHERE graph_arn = $1 AND finding_id = $2 AND state = 'PROPOSED'")
        .bind(graph_arn)
        .bind(finding)
        .execute(connection)
        .await?;
    Ok(())
}

/// Inserts a proposal, unless a suppression with its pattern is there; whether it did.
pub(super) async fn insert(
    connection: &mut Connection,
    graph_arn: &str,
    verdict: &Verdict,
    proposed: &NewSuppression,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let pattern = &proposed.pattern;
    let entities: Vec<_> = pattern.entities.iter().map(ToString::to_string).collect();
    let entities = serde_json::to_string(&entities).map_err(|error| StoreError::Fault(Box::new(error)))?;
    let inserted = sqlx::query(
        "INSERT INTO suppressions (graph_arn, suppression_id, digest, finding_type, product, account, entities, finding_id, verdict_id, author, \
            past_findings, create_time, state, decider, decide_time, deleter, delete_time) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'PROPOSED', '', 0, '', 0) ON CONFLICT DO NOTHING",
    )
    .bind(graph_arn)
    .bind(SuppressionId::generate().to_string())
    .bind(pattern.digest())
    .bind(&pattern.finding_type)
    .bind(&pattern.product)
    .bind(&pattern.account)
    .bind(entities)
    .bind(verdict.content.finding.as_str())
    .bind(&verdict.id)
    .bind(&verdict.content.author)
    .bind(i64::try_from(proposed.past_findings).unwrap_or(i64::MAX))
    .bind(now.0)
    .execute(connection)
    .await?
    .rows_affected();
    Ok(inserted > 0)
}

#[async_trait]
impl Suppressions for SqlStore {
    async fn has_suppression(&self, graph: &GraphArn, pattern: &Pattern) -> Result<bool, StoreError> {
        let found: i64 = sqlx::query_scalar("SELECT count(*) FROM suppressions WHERE graph_arn = $1 AND digest = $2 AND state <> 'DELETED'")
            .bind(graph.to_string())
            .bind(pattern.digest())
            .fetch_one(&self.0.pool)
            .await?;
        Ok(found > 0)
    }

    async fn list_suppressions(&self, graph: &GraphArn, states: &[State], before: Option<SuppressionId>, limit: u32) -> Result<Vec<Suppression>, StoreError> {
        // Ids are hexadecimal digits and hyphens: `g` comes after all of them.
        let before = before.map_or_else(|| "g".to_owned(), |before| before.to_string());
        let statement = format!(
            "SELECT {COLUMNS} FROM suppressions WHERE graph_arn = $1 AND suppression_id < $2 AND state IN ({}) ORDER BY suppression_id DESC LIMIT $3",
            names(states)
        );
        // Safe: only names of columns and states were put into the text.
        let query = sqlx::query(AssertSqlSafe(statement)).bind(graph.to_string()).bind(before).bind(i64::from(limit));
        query.fetch_all(&self.0.pool).await?.iter().map(suppression_of).collect()
    }

    async fn decide_suppression(
        &self,
        graph: &GraphArn,
        id: SuppressionId,
        decision: Decision,
        by: &Mark,
        accepted_limit: u32,
    ) -> Result<Suppression, StoreError> {
        let graph_arn = graph.to_string();
        let (from, state) = decision.states();
        let mut transaction = self.0.begin().await?;
        let (who, when) = if state == State::Deleted { ("deleter", "delete_time") } else { ("decider", "decide_time") };
        let statement = format!(
            "UPDATE suppressions SET state = $1, {who} = $2, {when} = $3 WHERE graph_arn = $4 AND suppression_id = $5 AND state IN ({}) RETURNING {COLUMNS}",
            names(from)
        );
        // Safe: only names of columns and states were put into the text.
        let query = sqlx::query(AssertSqlSafe(statement)).bind(state.as_str()).bind(&by.author).bind(by.time.0).bind(&graph_arn).bind(id.to_string());
        let Some(row) = query.fetch_optional(&mut *transaction).await? else {
            let statement = format!("SELECT {COLUMNS} FROM suppressions WHERE graph_arn = $1 AND suppression_id = $2");
            let query = sqlx::query(AssertSqlSafe(statement)).bind(&graph_arn).bind(id.to_string());
            let row = query.fetch_optional(&mut *transaction).await?.ok_or(StoreError::NotFound("suppression"))?;
            let found = suppression_of(&row)?;
            return if found.state == state { Ok(found) } else { Err(StoreError::NotAllowed(found.state)) };
        };
        let decided = suppression_of(&row)?;
        if state == State::Accepted {
            let accepted: i64 = sqlx::query_scalar("SELECT count(*) FROM suppressions WHERE graph_arn = $1 AND state = 'ACCEPTED'")
                .bind(&graph_arn)
                .fetch_one(&mut *transaction)
                .await?;
            if accepted > i64::from(accepted_limit) {
                return Err(StoreError::TooManyAccepted(accepted_limit));
            }
        }
        transaction.commit().await?;
        Ok(decided)
    }
}

fn names(states: &[State]) -> String {
    states.iter().map(|state| format!("'{}'", state.as_str())).collect::<Vec<_>>().join(", ")
}

fn suppression_of(row: &AnyRow) -> Result<Suppression, StoreError> {
    let mark = |who: &str, when: &str| -> Result<Mark, StoreError> { Ok(Mark { author: text(row, who)?, time: Timestamp(number(row, when)?) }) };
    let some = |mark: Mark| Some(mark).filter(|mark| !mark.author.is_empty());
    let entities: Vec<String> = serde_json::from_str(&text(row, "entities")?).map_err(|error| StoreError::Fault(Box::new(error)))?;
    Ok(Suppression {
        id: parsed(text(row, "suppression_id")?)?,
        state: State::from_name(&text(row, "state")?).ok_or_else(|| unknown("state"))?,
        pattern: Pattern {
            finding_type: text(row, "finding_type")?,
            product: text(row, "product")?,
            account: text(row, "account")?,
            entities: entities.into_iter().map(parsed::<EntityKey>).collect::<Result<_, _>>()?,
        },
        finding: parsed(text(row, "finding_id")?)?,
        verdict: text(row, "verdict_id")?,
        proposed: mark("author", "create_time")?,
        past_findings: u64::try_from(number(row, "past_findings")?).unwrap_or(0),
        decided: some(mark("decider", "decide_time")?),
        deleted: some(mark("deleter", "delete_time")?),
    })
}
