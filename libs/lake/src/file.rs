//! Rows to Parquet, with the statistics that Delta prunes by.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, RecordBatch},
    datatypes::SchemaRef,
};
use bytes::Bytes;
use gumshoe_records::coded;
use parquet::{
    arrow::{
        ArrowSchemaConverter,
        arrow_writer::{ArrowRowGroupWriterFactory, ArrowWriter, ArrowWriterOptions, compute_leaves},
    },
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::{
        metadata::{ParquetMetaData, ParquetMetaDataReader},
        properties::{EnabledStatistics, WriterProperties},
        statistics::Statistics,
        writer::SerializedFileWriter,
    },
    schema::types::ColumnPath,
};
use serde_json::{Map, Value, json};

use crate::{LakeError, Table};

/// One data file, ready to be stored and committed.
#[derive(Debug, Clone)]
pub struct DataFile {
    /// Which table it belongs to.
    pub table: Table,
    /// Days since the epoch of every row, for tables kept by day.
    pub day: Option<i64>,
    /// Rows.
    pub rows: usize,
    /// Parquet.
    pub bytes: Bytes,
    /// Delta's per-file statistics, JSON.
    /// Source: Delta Lake protocol, "Per-file Statistics".
    pub statistics: String,
}

impl DataFile {
    /// A Parquet file of `table` that was written elsewhere, by the same properties. Rows of a table kept by day must all be of `day`.
    ///
    /// # Errors
    /// [`LakeError::Parquet`] when it is no Parquet file.
    pub fn written(table: Table, day: Option<i64>, bytes: Bytes) -> Result<Self, LakeError> {
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&bytes)?;
        Ok(Self::new(table, day, bytes, &metadata))
    }

    fn new(table: Table, day: Option<i64>, bytes: Bytes, metadata: &ParquetMetaData) -> Self {
        let rows = usize::try_from(metadata.file_metadata().num_rows()).unwrap_or_default();
        Self { table, day, rows, bytes, statistics: statistics(table, metadata).to_string() }
    }
}

/// A Parquet file that is being written.
#[derive(Debug)]
pub struct FileWriter {
    table: Table,
    day: Option<i64>,
    writer: ArrowWriter<Vec<u8>>,
}

impl FileWriter {
    /// A file of `table` for rows with `schema`, that of the table, but that text columns may be dictionary-encoded. Rows of a table
    /// kept by day must all be of `day`.
    ///
    /// # Errors
    /// [`LakeError`] when the schema does not fit the table.
    pub fn new(table: Table, day: Option<i64>, schema: SchemaRef) -> Result<Self, LakeError> {
        let options = ArrowWriterOptions::new().with_properties(properties(table)?).with_skip_arrow_metadata(true);
        Ok(Self { table, day, writer: ArrowWriter::try_new_with_options(Vec::with_capacity(64 * 1024), schema, options)? })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// [`LakeError`] when the rows do not have the schema.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), LakeError> {
        Ok(self.writer.write(rows)?)
    }

    /// The file.
    ///
    /// # Errors
    /// [`LakeError`] when it cannot be encoded.
    pub fn finish(mut self) -> Result<DataFile, LakeError> {
        let metadata = self.writer.finish()?;
        let bytes = std::mem::take(self.writer.inner_mut());
        Ok(DataFile::new(self.table, self.day, bytes.into(), &metadata))
    }
}

/// Writes rows of `table` as one Parquet file, as [`FileWriter`] does.
///
/// # Errors
/// [`LakeError`] when the rows do not fit the table.
pub fn encode(table: Table, day: Option<i64>, rows: &RecordBatch) -> Result<DataFile, LakeError> {
    let mut writer = FileWriter::new(table, day, rows.schema())?;
    writer.write(rows)?;
    writer.finish()
}

/// A column of a file.
pub enum Column<'t> {
    /// As the schema of the table has it.
    Values(ArrayRef),
    /// Texts by their numbers.
    Coded(Vec<u32>, Box<dyn Fn(u32) -> &'t str + 't>),
}

impl std::fmt::Debug for Column<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Values(_) => "Values",
            Self::Coded(..) => "Coded",
        })
    }
}

impl Column<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Values(values) => values.len(),
            Self::Coded(keys, _) => keys.len(),
        }
    }
}

/// Writes columns of `table`, in its order, as one Parquet file. Rows of a table kept by day must all be of `day`.
///
/// # Errors
/// [`LakeError`] when the columns do not fit the table.
pub fn encode_columns(table: Table, day: Option<i64>, columns: &[Column<'_>]) -> Result<DataFile, LakeError> {
    let (schema, properties) = (table.schema(), Arc::new(properties(table)?));
    let root = ArrowSchemaConverter::new().convert(&schema)?.root_schema_ptr();
    let mut writer = SerializedFileWriter::new(Vec::with_capacity(64 * 1024), root, Arc::clone(&properties))?;
    let descriptors: Vec<_> = writer.schema_descr().columns().to_vec();
    let rows = columns.first().map_or(0, Column::len);
    let limit = properties.max_row_group_row_count().unwrap_or(rows).max(1);
    for (index, start) in (0..rows).step_by(limit).enumerate() {
        let length = limit.min(rows - start);
        let mut leaves = ArrowRowGroupWriterFactory::new(&writer, Arc::clone(&schema)).create_column_writers(index)?.into_iter();
        let mut group = writer.next_row_group()?;
        for ((column, field), descriptor) in columns.iter().zip(schema.fields()).zip(&descriptors) {
            let mut leaf = leaves.next().ok_or_else(|| ParquetError::General(format!("`{}` has no writer", field.name())))?;
            match column {
                Column::Values(values) => {
                    compute_leaves(field, &values.slice(start, length))?.iter().try_for_each(|values| leaf.write(values))?;
                    leaf.close()?.append_to_row_group(&mut group)?;
                }
                Column::Coded(keys, text) => {
                    let keys = keys.get(start..start + length).unwrap_or_default();
                    coded::append(keys, text, &properties, descriptor, &mut group)?;
                }
            }
        }
        group.close()?;
    }
    let metadata = writer.finish()?;
    let bytes = std::mem::take(writer.inner_mut());
    Ok(DataFile::new(table, day, bytes.into(), &metadata))
}

pub(crate) fn properties(table: Table) -> Result<WriterProperties, LakeError> {
    if table == Table::Events {
        return Ok(gumshoe_records::events::properties()?);
    }
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(1 << 20))
        .set_data_page_row_count_limit(20_000)
        .set_statistics_enabled(EnabledStatistics::None);
    for name in table.statistics() {
        builder = builder.set_column_statistics_enabled(ColumnPath::from(*name), EnabledStatistics::Chunk);
    }
    for name in table.blooms() {
        let column = || ColumnPath::from(*name);
        builder = builder
            .set_column_bloom_filter_enabled(column(), true)
            .set_column_bloom_filter_fpp(column(), 0.02)
            .set_column_bloom_filter_max_ndv(column(), 128 * 1024);
    }
    match table {
        // Sorted by entity: page statistics let a reader skip all but the entity's own pages.
        Table::Edges => {
            for name in ["entity_type", "entity_id", "peer_type", "peer_id", "hour"] {
                builder = builder.set_column_statistics_enabled(ColumnPath::from(name), EnabledStatistics::Page);
            }
            builder = builder.set_data_page_row_count_limit(4_000);
        }
        Table::Events | Table::Entities | Table::Findings | Table::DeadLetters | Table::Volumes | Table::Batches => {}
    }
    Ok(builder.build())
}

pub(crate) fn statistics(table: Table, metadata: &ParquetMetaData) -> Value {
    let (mut minimums, mut maximums, mut nulls) = (Map::new(), Map::new(), Map::new());
    for name in table.statistics() {
        let mut bounds: Option<(Value, Value)> = None;
        for group in metadata.row_groups() {
            let column = group.columns().iter().find(|column| column.column_path().string() == *name);
            let Some((low, high)) = column.and_then(|column| column.statistics()).and_then(range) else {
                bounds = None;
                break;
            };
            bounds = Some(match bounds.take() {
                None => (low, high),
                Some((least, most)) => (if less(&low, &least) { low } else { least }, if less(&most, &high) { high } else { most }),
            });
        }
        if let Some((low, high)) = bounds {
            minimums.insert((*name).to_owned(), low);
            maximums.insert((*name).to_owned(), high);
            nulls.insert((*name).to_owned(), json!(0));
        }
    }
    json!({ "numRecords": metadata.file_metadata().num_rows(), "minValues": minimums, "maxValues": maximums, "nullCount": nulls })
}

/// Smallest and largest value: times as RFC 3339, the only 64-bit columns with statistics, and text.
fn range(statistics: &Statistics) -> Option<(Value, Value)> {
    match statistics {
        Statistics::Int64(values) => {
            let time = |micros: &i64| json!(gumshoe_model::Timestamp(*micros).to_chrono().format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string());
            Some((time(values.min_opt()?), time(values.max_opt()?)))
        }
        Statistics::ByteArray(values) => {
            let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(|text| json!(text));
            Some((text(values.min_opt()?.data())?, text(values.max_opt()?.data())?))
        }
        _ => None,
    }
}

fn less(one: &Value, other: &Value) -> bool {
    one.as_str() < other.as_str()
}
