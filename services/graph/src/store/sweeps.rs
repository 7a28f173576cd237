//! How far the sweep of each graph is, and where what it has learned is kept.

use gumshoe_model::GraphArn;
use sqlx::Row as _;

use super::{StoreError, sql::SqlStore};

/// How far a sweep is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Counts the times that it was begun anew.
    pub run: i64,
    /// The first hour that was not swept, since the epoch.
    pub next_hour: i64,
    /// The model in the lake that holds what detectors have learned; empty for nothing.
    pub state: String,
    /// That of peer groups.
    pub peers: String,
}

impl SqlStore {
    /// The checkpoint of a graph; `None` if it was never swept.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn checkpoint(&self, graph: &GraphArn) -> Result<Option<Checkpoint>, StoreError> {
        let row =
            sqlx::query("SELECT run, next_hour, state, peers FROM sweeps WHERE graph_arn = $1").bind(graph.to_string()).fetch_optional(self.pool()).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Checkpoint { run: row.try_get(0)?, next_hour: row.try_get(1)?, state: row.try_get(2)?, peers: row.try_get(3)? }))
    }

    /// Puts a checkpoint in the place of another, or of none, as one statement; `false` if that is not the one that is there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_checkpoint(&self, graph: &GraphArn, before: Option<&Checkpoint>, after: &Checkpoint) -> Result<bool, StoreError> {
        let saved = match before {
            None => {
                sqlx::query("INSERT INTO sweeps (graph_arn, run, next_hour, state, peers) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (graph_arn) DO NOTHING")
                    .bind(graph.to_string())
                    .bind(after.run)
                    .bind(after.next_hour)
                    .bind(&after.state)
                    .bind(&after.peers)
                    .execute(self.pool())
                    .await?
            }
            Some(before) => {
                sqlx::query("UPDATE sweeps SET run = $2, next_hour = $3, state = $4, peers = $5 WHERE graph_arn = $1 AND run = $6 AND next_hour = $7")
                    .bind(graph.to_string())
                    .bind(after.run)
                    .bind(after.next_hour)
                    .bind(&after.state)
                    .bind(&after.peers)
                    .bind(before.run)
                    .bind(before.next_hour)
                    .execute(self.pool())
                    .await?
            }
        };
        Ok(saved.rows_affected() == 1)
    }

    /// Forgets all about a graph.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_graph(&self, graph: &GraphArn) -> Result<(), StoreError> {
        for statement in [
            "DELETE FROM sweeps WHERE graph_arn = $1",
            "DELETE FROM usual_pairs WHERE graph_arn = $1",
            "DELETE FROM entity_tags WHERE graph_arn = $1",
            "DELETE FROM watchlist_entries WHERE graph_arn = $1",
            "DELETE FROM watchlists WHERE graph_arn = $1",
        ] {
            sqlx::query(statement).bind(graph.to_string()).execute(self.pool()).await?;
        }
        Ok(())
    }
}
