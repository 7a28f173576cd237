//! Tags of entities, as the sweep has read them.

use std::collections::BTreeMap;

use gumshoe_model::{GraphArn, Timestamp};
use sqlx::Row as _;

use super::{StoreError, sql::SqlStore, watchlists};

/// What became of tags. Entities are `type:id`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagChanges {
    /// By entity and key: when that was told, and the value; `None` for a tag that was removed.
    pub tags: BTreeMap<(String, String), (Timestamp, Option<String>)>,
    /// Entities all of whose tags were replaced, and when.
    pub replaced: BTreeMap<String, Timestamp>,
}

/// A tag of an entity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// The entity, as `type:id`.
    pub entity: String,
    /// The key.
    pub key: String,
    /// The value; may be empty.
    pub value: String,
}

impl SqlStore {
    /// Writes down what became of tags, but for what was told later already. If anything has changed, so has the version of the watchlist.
    /// Happens as a whole.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_tags(&self, graph: &GraphArn, changes: &TagChanges) -> Result<(), StoreError> {
        if changes == &TagChanges::default() {
            return Ok(());
        }
        let graph = graph.to_string();
        let mut transaction = self.begin().await?;
        let mut changed = 0;
        for (entity, time) in &changes.replaced {
            // Just before, so that tags that were given by the same call are newer.
            changed += sqlx::query("UPDATE entity_tags SET present = 0, told = $3 WHERE graph_arn = $1 AND entity = $2 AND told < $3")
                .bind(&graph)
                .bind(entity)
                .bind(time.0 - 1)
                .execute(&mut *transaction)
                .await?
                .rows_affected();
        }
        for ((entity, key), (time, value)) in &changes.tags {
            changed += sqlx::query(
                "INSERT INTO entity_tags (graph_arn, entity, tag, content, present, told) VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (graph_arn, entity, tag) DO UPDATE SET content = excluded.content, present = excluded.present, told = excluded.told \
                 WHERE entity_tags.told < excluded.told",
            )
            .bind(&graph)
            .bind(entity)
            .bind(key)
            .bind(value.as_deref().unwrap_or_default())
            .bind(i64::from(value.is_some()))
            .bind(time.0)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        }
        if changed > 0 {
            watchlists::change(&mut transaction, &graph).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Tags of a graph's entities that have one of these keys.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tags(&self, graph: &GraphArn, keys: &[String]) -> Result<Vec<Tag>, StoreError> {
        let graph = graph.to_string();
        let mut tags = Vec::new();
        for key in keys {
            let statement = "SELECT entity, content FROM entity_tags WHERE graph_arn = $1 AND tag = $2 AND present = 1";
            for row in sqlx::query(statement).bind(&graph).bind(key).fetch_all(self.pool()).await? {
                tags.push(Tag { entity: row.try_get(0)?, key: key.clone(), value: row.try_get(1)? });
            }
        }
        Ok(tags)
    }
}
