//! The watchlist of each graph, with a version that tells whether it has changed.

use gumshoe_behavior::Criticality;
use gumshoe_model::{GraphArn, Timestamp};
use sqlx::{Row as _, any::AnyRow};

use super::{StoreError, sql::SqlStore};

/// Entries of a graph at most.
pub const MAX_ENTRIES: usize = 1_000;
/// The time of what never expires.
const NEVER: i64 = i64::MAX;

/// How much some entities matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id; empty for one of the configuration.
    pub id: String,
    /// `type:id` with `*` and `?`, or `tag:KEY=VALUE` with these in the value.
    pub pattern: String,
    /// How much.
    pub criticality: Criticality,
    /// Why.
    pub note: String,
    /// The ARN of who made it.
    pub author: String,
    /// When it was made.
    pub create_time: Timestamp,
    /// From when on it counts no more.
    pub expire_time: Option<Timestamp>,
}

impl Entry {
    /// Whether it counts at a time.
    #[must_use]
    pub fn counts(&self, time: Timestamp) -> bool {
        self.expire_time.is_none_or(|end| time < end)
    }
}

impl SqlStore {
    /// The version of a graph's watchlist: it grows with every change, also of tags; 0 for one that never had an entry or a tag.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn watchlist_version(&self, graph: &GraphArn) -> Result<i64, StoreError> {
        let version = sqlx::query_scalar("SELECT version FROM watchlists WHERE graph_arn = $1").bind(graph.to_string()).fetch_optional(self.pool()).await?;
        Ok(version.unwrap_or_default())
    }

    /// The version and the entries of a graph, the latest first. Entries may be newer than the version, never older.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn watchlist(&self, graph: &GraphArn) -> Result<(i64, Vec<Entry>), StoreError> {
        let version = self.watchlist_version(graph).await?;
        if version == 0 {
            return Ok((0, Vec::new()));
        }
        let rows = sqlx::query(
            "SELECT entry_id, pattern, criticality, note, author, create_time, expire_time FROM watchlist_entries WHERE graph_arn = $1 \
             ORDER BY create_time DESC, entry_id DESC",
        )
        .bind(graph.to_string())
        .fetch_all(self.pool())
        .await?;
        Ok((version, rows.iter().map(entry).collect::<Result<_, _>>()?))
    }

    /// Adds an entry, and removes those that have expired at its time; `false` if the graph has [`MAX_ENTRIES`] others. Happens as a
    /// whole.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_watchlist_entry(&self, graph: &GraphArn, entry: &Entry) -> Result<bool, StoreError> {
        let graph = graph.to_string();
        let mut transaction = self.begin().await?;
        // Takes the row, so that changes of one graph follow one another.
        change(&mut transaction, &graph).await?;
        sqlx::query("DELETE FROM watchlist_entries WHERE graph_arn = $1 AND expire_time <= $2")
            .bind(&graph)
            .bind(entry.create_time.0)
            .execute(&mut *transaction)
            .await?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM watchlist_entries WHERE graph_arn = $1").bind(&graph).fetch_one(&mut *transaction).await?;
        if usize::try_from(count).unwrap_or(usize::MAX) >= MAX_ENTRIES {
            transaction.rollback().await?;
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO watchlist_entries (graph_arn, entry_id, pattern, criticality, note, author, create_time, expire_time) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&graph)
        .bind(&entry.id)
        .bind(&entry.pattern)
        .bind(entry.criticality.as_str())
        .bind(&entry.note)
        .bind(&entry.author)
        .bind(entry.create_time.0)
        .bind(entry.expire_time.map_or(NEVER, |time| time.0))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Removes an entry; `false` if there is none of this id. Happens as a whole.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_watchlist_entry(&self, graph: &GraphArn, entry_id: &str) -> Result<bool, StoreError> {
        let graph = graph.to_string();
        let mut transaction = self.begin().await?;
        // Takes the row, so that changes of one graph follow one another.
        change(&mut transaction, &graph).await?;
        let deleted =
            sqlx::query("DELETE FROM watchlist_entries WHERE graph_arn = $1 AND entry_id = $2").bind(&graph).bind(entry_id).execute(&mut *transaction).await?;
        if deleted.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        transaction.commit().await?;
        Ok(true)
    }
}

pub(super) async fn change(transaction: &mut sqlx::Transaction<'static, sqlx::Any>, graph: &str) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO watchlists (graph_arn, version) VALUES ($1, 1) ON CONFLICT (graph_arn) DO UPDATE SET version = watchlists.version + 1")
        .bind(graph)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

fn entry(row: &AnyRow) -> Result<Entry, StoreError> {
    let name: String = row.try_get(2)?;
    let criticality = Criticality::ALL.into_iter().find(|known| known.as_str() == name).ok_or_else(|| StoreError::Fault("unknown criticality".into()))?;
    let expire: i64 = row.try_get(6)?;
    Ok(Entry {
        id: row.try_get(0)?,
        pattern: row.try_get(1)?,
        criticality,
        note: row.try_get(3)?,
        author: row.try_get(4)?,
        create_time: Timestamp(row.try_get(5)?),
        expire_time: (expire != NEVER).then_some(Timestamp(expire)),
    })
}
