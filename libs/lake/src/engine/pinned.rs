//! A table as the list of its files at one time: what a plan carries, so that all who run parts of it read the same rows.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use arrow::datatypes::{DataType, Field, SchemaRef};
use async_trait::async_trait;
use chrono::DateTime;
use datafusion::{
    catalog::{Session, TableProvider},
    common::ScalarValue,
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource},
        source::DataSourceExec,
        table_schema::TableSchema,
    },
    error::DataFusionError,
    execution::object_store::ObjectStoreUrl,
    logical_expr::{Expr, TableType},
    physical_plan::{ExecutionPlan, empty::EmptyExec},
};
use gumshoe_model::{TimeWindow, Timestamp};
use object_store::{ObjectMeta, path::Path};
use serde::{Deserialize, Serialize};

use crate::{GraphLake, Table, read::File};

/// The URL by which plans call the lake, wherever it is.
pub(crate) const LAKE: &str = "lake://graphs";
/// Files are read without being asked for: their end holds the footer, and mostly the indexes.
const FOOTER_BYTES: usize = 128 << 10;

/// A data file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PinnedFile {
    /// Under the table's folder.
    path: String,
    bytes: u64,
    /// Days since the epoch; none of tables that are not kept by day.
    day: Option<i32>,
}

/// A table of a graph as it was at one time.
#[derive(Debug, Clone)]
pub(crate) struct Pinned {
    graph: String,
    table: Table,
    files: Vec<PinnedFile>,
    schema: TableSchema,
}

/// As it travels.
#[derive(Debug, Serialize, Deserialize)]
struct Encoded {
    graph: String,
    table: String,
    files: Vec<PinnedFile>,
}

impl Pinned {
    fn new(graph: String, table: Table, files: Vec<PinnedFile>) -> Self {
        let date = table.by_day().then(|| Arc::new(Field::new("date", DataType::Date32, true)));
        let schema = TableSchema::builder(table.schema()).with_table_partition_cols(date.into_iter().collect::<Vec<_>>()).build();
        Self { graph, table, files, schema }
    }

    pub(crate) fn table(&self) -> Table {
        self.table
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, DataFusionError> {
        let encoded = Encoded { graph: self.graph.clone(), table: self.table.name().to_owned(), files: self.files.clone() };
        serde_json::to_vec(&encoded).map_err(|error| DataFusionError::External(error.into()))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DataFusionError> {
        let Encoded { graph, table, files } = serde_json::from_slice(bytes).map_err(|error| DataFusionError::External(error.into()))?;
        let known = Table::ALL.into_iter().find(|known| known.name() == table);
        let table = known.ok_or_else(|| DataFusionError::Plan(format!("a plan reads the unknown table `{table}`")))?;
        Ok(Self::new(graph, table, files))
    }

    /// The files in at most `count` groups of about as many bytes.
    fn groups(&self, count: usize) -> Result<Vec<FileGroup>, DataFusionError> {
        let mut files: Vec<&PinnedFile> = self.files.iter().collect();
        files.sort_by(|one, other| other.bytes.cmp(&one.bytes).then_with(|| one.path.cmp(&other.path)));
        let mut groups = vec![FileGroup::default(); count.clamp(1, files.len().max(1))];
        let mut lightest: BinaryHeap<_> = (0..groups.len()).map(|group| Reverse((0, group))).collect();
        for file in files {
            let Some(Reverse((bytes, group))) = lightest.pop() else { break };
            if let Some(files) = groups.get_mut(group) {
                files.push(self.partitioned(file)?);
            }
            lightest.push(Reverse((bytes + file.bytes, group)));
        }
        Ok(groups)
    }

    fn partitioned(&self, file: &PinnedFile) -> Result<PartitionedFile, DataFusionError> {
        let path = Path::parse(&file.path).map_err(|error| DataFusionError::External(error.into()))?;
        let folder = Path::from(self.graph.as_str()).join(self.table.name());
        let location = path.parts().fold(folder, |folder, part| folder.join(part));
        // Data files never change: what is kept of one is known by its name.
        let meta = ObjectMeta { location, last_modified: DateTime::UNIX_EPOCH, size: file.bytes, e_tag: None, version: None };
        let date = self.table.by_day().then_some(ScalarValue::Date32(file.day));
        let footer = usize::try_from(file.bytes).map_or(FOOTER_BYTES, |bytes| bytes.min(FOOTER_BYTES));
        Ok(PartitionedFile::new_from_meta(meta).with_partition_values(date.into_iter().collect()).with_metadata_size_hint(footer))
    }
}

#[async_trait]
impl TableProvider for Pinned {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.schema.table_schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Conditions come later, when the plan's filters are pushed into the scan.
    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        if self.files.is_empty() {
            let schema = datafusion::physical_plan::project_schema(&self.schema(), projection)?;
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let source = ParquetSource::new(self.schema.clone()).with_pushdown_filters(true).with_reorder_filters(true);
        let scan = FileScanConfigBuilder::new(ObjectStoreUrl::parse(LAKE)?, Arc::new(source))
            .with_file_groups(self.groups(state.config().target_partitions())?)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }
}

impl GraphLake {
    /// Every table with the files that it has now; of events and edges those that may have rows in `window`.
    pub(crate) fn pinned(&self, window: Option<TimeWindow>) -> Vec<Pinned> {
        // The last to be committed first: what a batch has brought to one table is then in those that it depends on.
        let mut tables: Vec<Pinned> = Table::ALL.into_iter().rev().map(|table| self.pin(table, window)).collect();
        tables.reverse();
        tables
    }

    fn pin(&self, table: Table, window: Option<TimeWindow>) -> Pinned {
        let files = self.reading.files(table);
        let pin =
            |file: &Arc<File>| PinnedFile { path: file.path.as_ref().to_owned(), bytes: file.bytes, day: file.day.and_then(|day| i32::try_from(day).ok()) };
        let files = match window.filter(|_| table.by_day()) {
            None => files.all().map(pin).collect(),
            Some(window) => {
                let within = files.between(window.start().day(), Timestamp(window.end().0 - 1).day());
                within.filter(|file| file.may_lie_in(table.age(), window)).map(pin).collect()
            }
        };
        Pinned::new(self.arn().id().to_owned(), table, files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Pinned {
        let file = |number: u64| PinnedFile { path: format!("date=2024-10-04/part-{number}.parquet"), bytes: number, day: Some(20_000) };
        Pinned::new("0123".to_owned(), Table::Edges, (1..=9).map(file).collect())
    }

    #[test]
    fn groups_hold_every_file_once_and_are_of_like_size() {
        let groups = table().groups(4).unwrap();
        let bytes: Vec<u64> = groups.iter().map(|group| group.iter().map(|file| file.object_meta.size).sum()).collect();
        assert_eq!((bytes.len(), bytes.iter().sum::<u64>()), (4, 45));
        assert!(bytes.iter().all(|bytes| (9..=14).contains(bytes)), "{bytes:?}");
        assert_eq!(table().groups(100).unwrap().len(), 9);
    }

    #[test]
    fn a_table_is_the_same_after_its_travel() {
        let back = Pinned::decode(&table().encode().unwrap()).unwrap();
        assert_eq!((back.schema(), back.bytes()), (table().schema(), 45));
        let file = back.groups(1).unwrap()[0].files()[0].clone();
        assert_eq!(file.object_meta.location.as_ref(), "0123/edges/date=2024-10-04/part-9.parquet");
        assert_eq!(file.partition_values, [ScalarValue::Date32(Some(20_000))]);
        assert!(Pinned::decode(b"{\"graph\": \"0123\", \"table\": \"secrets\", \"files\": []}").is_err());
        assert!(Pinned::decode(b"{").is_err());
    }
}
