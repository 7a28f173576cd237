//! Events read back from the lake as they were received, to complete what a crash cut short.

use arrow::{compute::concat_batches, record_batch::RecordBatch};
use futures::TryStreamExt;
use gumshoe_lake::{GraphLake, LakeError, ScalarValue};
use gumshoe_records::events::EventBatch;

/// Events of one batch.
pub(crate) async fn events_of(lake: &GraphLake, batch_id: &str) -> Result<EventBatch, LakeError> {
    let stream = lake.sql("SELECT * FROM events WHERE batch_id = $batch", vec![("batch", ScalarValue::from(batch_id))]).await?;
    let schema = stream.schema();
    let rows: Vec<RecordBatch> = stream.try_collect().await?;
    Ok(EventBatch::of_rows(&concat_batches(&schema, &rows)?)?)
}
