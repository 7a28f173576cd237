//! What analysts have judged to be usual, by the finding that told it.

use std::collections::BTreeSet;

use gumshoe_model::GraphArn;
use sqlx::Row as _;

use super::{StoreError, sql::SqlStore};

/// Principals, as `type:id`, each with something that it does.
pub type Usual = BTreeSet<(String, String)>;

impl SqlStore {
    /// All that is usual in a graph.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn usual(&self, graph: &GraphArn) -> Result<Usual, StoreError> {
        let statement = "SELECT principal, item FROM usual_pairs WHERE graph_arn = $1";
        let rows = sqlx::query(statement).bind(graph.to_string()).fetch_all(self.pool()).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Writes down that what a finding told is usual, in the place of what was written of it before. Happens as a whole.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_usual(&self, graph: &GraphArn, finding: &str, usual: &Usual) -> Result<(), StoreError> {
        let graph = graph.to_string();
        let mut transaction = self.begin().await?;
        sqlx::query("DELETE FROM usual_pairs WHERE graph_arn = $1 AND finding_id = $2").bind(&graph).bind(finding).execute(&mut *transaction).await?;
        for (place, (principal, item)) in (0_i64..).zip(usual) {
            sqlx::query(
                "INSERT INTO usual_pairs (graph_arn, finding_id, place, principal, item) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (graph_arn, finding_id, place) DO UPDATE SET principal = excluded.principal, item = excluded.item",
            )
            .bind(&graph)
            .bind(finding)
            .bind(place)
            .bind(principal)
            .bind(item)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}
