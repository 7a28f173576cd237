//! Runs into one: the rows of several files in the table's order, those of one key made one, written as they come.
//!
//! Of each run a few batches are in memory, and of the file that is written its last row group. Only what commits left
//! unsorted is sorted here, in memory and on disk as queries are.

use std::sync::Arc;

use arrow::{
    array::{AsArray, BooleanArray, Date32Array, RecordBatch, Scalar, TimestampMicrosecondArray},
    compute::{filter_record_batch, kernels::cmp::gt_eq, or_kleene},
    datatypes::SchemaRef,
    error::ArrowError,
};
use datafusion::{
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource},
        source::DataSourceExec,
    },
    error::DataFusionError,
    execution::{object_store::ObjectStoreUrl, runtime_env::RuntimeEnv},
    functions_aggregate::{
        min_max::{max_udaf, min_udaf},
        sum::sum_udaf,
    },
    physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr, aggregate::AggregateExprBuilder, expressions::col},
    physical_plan::{
        ExecutionPlan,
        aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy},
        execute_stream,
        sorts::{sort::SortExec, sort_preserving_merge::SortPreservingMergeExec},
        union::UnionExec,
    },
    prelude::{SessionConfig, SessionContext},
};
use futures::StreamExt;
use gumshoe_model::Timestamp;
use object_store::{ObjectStore, buffered::BufWriter, path::Path};
use parquet::{
    arrow::{AsyncArrowWriter, arrow_writer::ArrowWriterOptions},
    file::properties::WriterProperties,
};
use uuid::Uuid;

use super::plan::{File, Run};
use crate::{LakeError, Table, file, graph::date, table::Combine};

/// Rows in a batch at most.
const BATCH_ROWS: u64 = 2_048;
/// Bytes of a batch, about: as many are held of each run, several times.
const BATCH_BYTES: u64 = 2 * 1024 * 1024;
/// How much larger rows are in memory than in a file, about.
const UNPACKED: u64 = 8;
/// Bytes of a row group, about: one is held of each run while it is read, and one while it is written.
const ROW_GROUP_BYTES: usize = 8 * 1024 * 1024;
/// Parts of 10 MiB of a file that are uploaded at once.
const PARTS_UNDER_WAY: usize = 2;

/// Where a table's files are, and with what they are read.
pub(crate) struct Source {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// What the store is known by to the engine.
    pub(crate) url: ObjectStoreUrl,
    pub(crate) runtime: Arc<RuntimeEnv>,
}

/// A file that no table refers to yet.
pub(crate) struct Written {
    pub(crate) file: File,
    /// Delta's per-file statistics, JSON.
    pub(crate) statistics: String,
}

/// What is merged.
pub(crate) struct Merge<'a> {
    pub(crate) table: Table,
    pub(crate) day: Option<i64>,
    pub(crate) runs: &'a [Run],
    /// Rows that are older are left out, once those of one key are one.
    pub(crate) since: Option<Timestamp>,
    pub(crate) target_file_bytes: u64,
}

impl Merge<'_> {
    /// Writes the new run into the table's folder, in which nothing refers to it yet. `goes_on` is asked between batches.
    pub(crate) async fn write(&self, from: &Source, goes_on: impl Fn() -> bool) -> Result<Vec<Written>, LakeError> {
        from.runtime.register_object_store(from.url.as_ref(), Arc::clone(&from.store));
        let schema = self.table.schema();
        let config = SessionConfig::new().with_batch_size(self.batch_rows()).with_target_partitions(1);
        let session = SessionContext::new_with_config_rt(config, Arc::clone(&from.runtime));
        let mut rows = execute_stream(self.plan(&from.url)?, session.task_ctx())?;
        let mut files = Files::new(self, Arc::clone(&from.store))?;
        while let Some(batch) = rows.next().await.transpose()? {
            if !goes_on() {
                return Err(LakeError::Removed);
            }
            let batch = in_order_of(&schema, &batch)?;
            let batch = match self.since {
                Some(since) => filter_record_batch(&batch, &is_young(self.table, &batch, since)?)?,
                None => batch,
            };
            files.write(&batch).await?;
            // Queries and commits run on the same threads.
            tokio::task::yield_now().await;
        }
        files.finish().await
    }

    fn batch_rows(&self) -> usize {
        let files = || self.runs.iter().flat_map(|run| &run.files);
        let (bytes, rows) = (files().map(|file| file.bytes).sum::<u64>(), files().map(|file| file.rows).sum::<u64>());
        let row = bytes.saturating_mul(UNPACKED) / rows.max(1);
        usize::try_from((BATCH_BYTES / row.max(1)).clamp(16, BATCH_ROWS)).unwrap_or(16)
    }

    fn plan(&self, url: &ObjectStoreUrl) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let schema = self.table.schema();
        let column = |name: &str| col(name, &schema);
        let mut order = Vec::new();
        for name in self.table.order() {
            order.push(PhysicalSortExpr::new_default(column(name)?));
        }
        let order = LexOrdering::new(order).ok_or_else(|| DataFusionError::Internal("a table without an order".to_owned()))?;
        let (sorted, loose): (Vec<&Run>, Vec<&Run>) = self.runs.iter().partition(|run| run.merged || self.table.adds_up());
        let mut inputs: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        if !sorted.is_empty() {
            inputs.push(self.scan(url, sorted.iter().map(|run| group([*run])).collect()));
        }
        if !loose.is_empty() {
            inputs.push(Arc::new(SortExec::new(order.clone(), self.scan(url, vec![group(loose)]))));
        }
        let rows: Arc<dyn ExecutionPlan> = Arc::new(SortPreservingMergeExec::new(order, UnionExec::try_new(inputs)?));
        if !self.table.adds_up() {
            return Ok(rows);
        }
        // Only the groups of one value of the order are held: the rows come sorted.
        let measures = self.table.measures();
        let is_measure = |name: &str| measures.iter().any(|(measure, _)| *measure == name);
        let rest = schema.fields().iter().map(|field| field.name().as_str()).filter(|name| !is_measure(name) && !self.table.order().contains(name));
        let mut keys: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
        for name in self.table.order().iter().copied().chain(rest) {
            keys.push((column(name)?, name.to_owned()));
        }
        let mut sums = Vec::with_capacity(measures.len());
        for (name, combine) in measures {
            let function = match combine {
                Combine::Sum => sum_udaf(),
                Combine::Minimum => min_udaf(),
                Combine::Maximum => max_udaf(),
            };
            let sum = AggregateExprBuilder::new(function, vec![column(name)?]).schema(Arc::clone(&schema)).alias(*name).build()?;
            sums.push(Arc::new(sum));
        }
        let filters = vec![None; sums.len()];
        Ok(Arc::new(AggregateExec::try_new(AggregateMode::Single, PhysicalGroupBy::new_single(keys), sums, filters, rows, schema)?))
    }

    /// Each group is a partition; its files are read one after the other.
    fn scan(&self, url: &ObjectStoreUrl, groups: Vec<FileGroup>) -> Arc<dyn ExecutionPlan> {
        let source = Arc::new(ParquetSource::new(self.table.schema()));
        DataSourceExec::from_data_source(FileScanConfigBuilder::new(url.clone(), source).with_file_groups(groups).with_preserve_order(true).build())
    }
}

fn group<'a>(runs: impl IntoIterator<Item = &'a Run>) -> FileGroup {
    runs.into_iter().flat_map(|run| &run.files).map(|file| PartitionedFile::new(file.path.clone(), file.bytes)).collect()
}

/// The columns of `schema`, in its order.
fn in_order_of(schema: &SchemaRef, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let column = |name: &String| rows.column_by_name(name).cloned().ok_or_else(|| ArrowError::SchemaError(format!("no column `{name}`")));
    let columns = schema.fields().iter().map(|field| column(field.name())).collect::<Result<_, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
}

/// Which rows are not older than `since`. A batch is as young as its youngest events.
fn is_young(table: Table, rows: &RecordBatch, since: Timestamp) -> Result<BooleanArray, ArrowError> {
    let missing = || ArrowError::SchemaError("a column of time is missing".to_owned());
    let oldest = Scalar::new(TimestampMicrosecondArray::from_value(since.0, 1).with_timezone("UTC"));
    let young = gt_eq(rows.column_by_name(table.age()).ok_or_else(missing)?, &oldest)?;
    if table != Table::Batches {
        return Ok(young);
    }
    let oldest = Scalar::new(Date32Array::from_value(i32::try_from(since.day()).unwrap_or(i32::MAX), 1));
    let last_days = rows.column_by_name("last_day").and_then(|column| column.as_primitive_opt::<arrow::datatypes::Date32Type>());
    or_kleene(&young, &gt_eq(last_days.ok_or_else(missing)?, &oldest)?)
}

/// The files of the new run.
struct Files {
    store: Arc<dyn ObjectStore>,
    table: Table,
    day: Option<i64>,
    run: Uuid,
    /// Milliseconds since the epoch.
    written: i64,
    target_bytes: u64,
    properties: WriterProperties,
    open: Option<(String, AsyncArrowWriter<BufWriter>)>,
    closed: Vec<Written>,
}

impl Files {
    fn new(merge: &Merge<'_>, store: Arc<dyn ObjectStore>) -> Result<Self, LakeError> {
        Ok(Self {
            store,
            table: merge.table,
            day: merge.day,
            run: Uuid::now_v7(),
            written: merge.runs.iter().map(Run::written_time).max().unwrap_or_default(),
            target_bytes: merge.target_file_bytes,
            properties: file::properties(merge.table)?.into_builder().set_max_row_group_bytes(Some(ROW_GROUP_BYTES)).build(),
            open: None,
            closed: Vec::new(),
        })
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<(), LakeError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let (_, writer) = match &mut self.open {
            Some(open) => open,
            none => {
                let name = format!("run-{}-{:05}.parquet", self.run, self.closed.len());
                let path = self.day.map_or_else(|| name.clone(), |day| format!("date={}/{name}", date(day)));
                let options = ArrowWriterOptions::new().with_properties(self.properties.clone()).with_skip_arrow_metadata(true);
                let file = BufWriter::new(Arc::clone(&self.store), Path::from(path.as_str())).with_max_concurrency(PARTS_UNDER_WAY);
                none.insert((path, AsyncArrowWriter::try_new_with_options(file, self.table.schema(), options)?))
            }
        };
        writer.write(rows).await?;
        let bytes = writer.bytes_written() + writer.in_progress_size();
        if u64::try_from(bytes).is_ok_and(|bytes| bytes >= self.target_bytes) {
            self.close().await?;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), LakeError> {
        let Some((path, mut writer)) = self.open.take() else { return Ok(()) };
        let metadata = writer.finish().await?;
        let bytes = u64::try_from(writer.bytes_written()).unwrap_or(u64::MAX);
        let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or_default();
        let file = File { path, bytes, rows, day: self.day, written: self.written };
        self.closed.push(Written { file, statistics: file::statistics(self.table, &metadata).to_string() });
        Ok(())
    }

    async fn finish(mut self) -> Result<Vec<Written>, LakeError> {
        self.close().await?;
        Ok(self.closed)
    }
}
