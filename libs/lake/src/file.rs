//! Rows to Parquet, with the statistics that Delta prunes by.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, RecordBatch, StringArray},
    datatypes::{DataType, SchemaRef},
};
use bytes::Bytes;
use gumshoe_records::coded;
use parquet::{
    arrow::{
        ArrowSchemaConverter,
        arrow_writer::{ArrowRowGroupWriterFactory, ArrowWriter, ArrowWriterOptions, compute_leaves},
    },
    basic::{Compression, Encoding, ZstdLevel},
    errors::ParquetError,
    file::{
        metadata::{ParquetMetaData, ParquetMetaDataReader},
        properties::{BloomFilterPosition, EnabledStatistics, WriterProperties},
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
                    if properties.dictionary_enabled(descriptor.path()) && coded::append(keys, text, &properties, descriptor, &mut group)? {
                        continue;
                    }
                    let values: ArrayRef = Arc::new(StringArray::from_iter_values(keys.iter().map(|key| text(*key))));
                    compute_leaves(field, &values)?.iter().try_for_each(|values| leaf.write(values))?;
                    leaf.close()?.append_to_row_group(&mut group)?;
                }
            }
        }
        group.close()?;
    }
    let metadata = writer.finish()?;
    let bytes = std::mem::take(writer.inner_mut());
    Ok(DataFile::new(table, day, bytes.into(), &metadata))
}

/// Rows of a page where entities are looked up: of each column one page is read, or two.
const PAGE_ROWS: usize = 2_048;
/// Rows of a row group at most. A merge holds one of each run.
const GROUP_ROWS: usize = 128 * 1024;
/// Bytes of a dictionary at most: it is read with every page. What has more values is written without.
const DICTIONARY_BYTES: usize = 32 * 1024;
/// User agents are long, and there are not many.
const USER_AGENTS_BYTES: usize = 128 * 1024;
/// Columns whose values hardly repeat, or stand in order.
const NO_DICTIONARY: [&str; 8] = ["entity_id", "peer_id", "bytes_in", "bytes_out", "packets_in", "packets_out", "first_time", "last_time"];

/// How the files of a table are laid out, by commits and merges alike.
pub(crate) fn properties(table: Table) -> Result<WriterProperties, LakeError> {
    let mut builder = WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None).set_bloom_filter_position(BloomFilterPosition::End);
    builder = match table {
        Table::Events => return Ok(gumshoe_records::events::properties()?),
        // A reader of one entity's rows, which lie together, should read little else: pages are small, and so are dictionaries.
        Table::Edges | Table::Entities => builder
            .set_compression(Compression::LZ4_RAW)
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_data_page_row_count_limit(PAGE_ROWS)
            .set_dictionary_page_size_limit(DICTIONARY_BYTES)
            .set_column_dictionary_page_size_limit(ColumnPath::from("user_agent"), USER_AGENTS_BYTES)
            // ARNs of one role's sessions differ late.
            .set_column_index_truncate_length(Some(256)),
        Table::Findings | Table::DeadLetters | Table::Volumes | Table::Batches => {
            builder.set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?)).set_data_page_row_count_limit(20_000)
        }
    };
    if table.adds_up() {
        for field in table.schema().fields() {
            let column = || ColumnPath::from(field.name().as_str());
            let encoding = if field.data_type() == &DataType::Utf8 { Encoding::DELTA_BYTE_ARRAY } else { Encoding::DELTA_BINARY_PACKED };
            builder = builder.set_column_encoding(column(), encoding);
            if NO_DICTIONARY.contains(&field.name().as_str()) {
                builder = builder.set_column_dictionary_enabled(column(), false);
            }
        }
    }
    for name in table.statistics() {
        builder = builder.set_column_statistics_enabled(ColumnPath::from(*name), EnabledStatistics::Chunk);
    }
    // Of what files are sorted by, pages have statistics too.
    for name in table.order() {
        builder = builder.set_column_statistics_enabled(ColumnPath::from(*name), EnabledStatistics::Page);
    }
    if let Some(name) = table.filtered() {
        let column = || ColumnPath::new(name.split('.').map(str::to_owned).collect());
        builder = builder
            .set_column_bloom_filter_enabled(column(), true)
            .set_column_bloom_filter_fpp(column(), 0.02)
            .set_column_bloom_filter_max_ndv(column(), 128 * 1024);
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
