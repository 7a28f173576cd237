//! Rows to Parquet, with the statistics that Delta prunes by.

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::{
    arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions},
    basic::{Compression, Encoding, ZstdLevel},
    file::{
        metadata::ParquetMetaData,
        properties::{EnabledStatistics, WriterProperties},
        statistics::Statistics,
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

/// Writes rows of `table` as one Parquet file. Rows of a table kept by day must all be of `day`. Text columns may be
/// dictionary-encoded.
///
/// # Errors
/// [`LakeError`] when the rows do not fit the table.
pub fn encode(table: Table, day: Option<i64>, batches: &[RecordBatch]) -> Result<DataFile, LakeError> {
    let options = ArrowWriterOptions::new().with_properties(properties(table)?).with_skip_arrow_metadata(true);
    let schema = batches.first().map_or_else(|| table.schema(), RecordBatch::schema);
    let mut writer = ArrowWriter::try_new_with_options(Vec::with_capacity(64 * 1024), schema, options)?;
    for rows in batches {
        writer.write(rows)?;
    }
    let metadata = writer.finish()?;
    let bytes = writer.inner_mut().split_off(0);
    Ok(DataFile {
        table,
        day,
        rows: batches.iter().map(RecordBatch::num_rows).sum(),
        bytes: bytes.into(),
        statistics: statistics(table, &metadata).to_string(),
    })
}

pub(crate) fn properties(table: Table) -> Result<WriterProperties, LakeError> {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(1 << 20))
        .set_data_page_row_count_limit(20_000)
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for name in table.blooms() {
        builder = builder.set_column_bloom_filter_enabled(ColumnPath::from(*name), true).set_column_bloom_filter_fpp(ColumnPath::from(*name), 0.02);
    }
    match table {
        // Sorted by entity: page statistics let a reader skip all but the entity's own pages.
        Table::Edges => {
            for name in ["entity_type", "entity_id", "peer_type", "peer_id", "hour"] {
                builder = builder.set_column_statistics_enabled(ColumnPath::from(name), EnabledStatistics::Page);
            }
            builder = builder.set_data_page_row_count_limit(4_000);
        }
        Table::Events => {
            // Text that never repeats gains nothing from a dictionary, and its statistics would be copies of records.
            for name in ["raw", "event_id", "offset"] {
                builder = builder.set_column_dictionary_enabled(ColumnPath::from(name), false);
            }
            for name in ["time", "actor_id"] {
                builder = builder.set_column_statistics_enabled(ColumnPath::from(name), EnabledStatistics::Page);
            }
            builder = builder
                .set_column_statistics_enabled(ColumnPath::from("raw"), EnabledStatistics::None)
                .set_column_encoding(ColumnPath::from("offset"), Encoding::DELTA_BINARY_PACKED);
        }
        Table::Findings | Table::DeadLetters => builder = builder.set_column_statistics_enabled(ColumnPath::from("raw"), EnabledStatistics::None),
        Table::Entities | Table::Volumes | Table::Batches => {}
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
