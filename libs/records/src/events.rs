//! Events as a Parquet file: how a parsed batch travels from ingest to the graph, and how it lies in the lake.
//!
//! | module | holds |
//! |---|---|
//! | [`write`](mod@write), `texts`, `constant` | events to a file |
//! | [`rows`] | a file, or rows of the lake, to events |
//!
//! The columns are documented for readers in `docs/lake.md`.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use gumshoe_model::Event;
pub use parquet::errors::ParquetError;
use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    file::properties::{EnabledStatistics, WriterProperties},
    schema::types::ColumnPath,
};

mod constant;
pub mod rows;
mod texts;
pub mod write;

pub use rows::{EventBatch, EventRows, Received, TextColumn, table};
pub use write::EventsWriter;

/// Text columns whose values repeat, in the order in which a row is written.
const TEXTS: [&str; 22] = [
    "kind",
    "account",
    "region",
    "actor_type",
    "actor_id",
    "actor_name",
    "actor_alias",
    "parent_type",
    "parent_id",
    "parent_alias",
    "origin_type",
    "origin_id",
    "service",
    "operation",
    "error",
    "address",
    "user_agent",
    "access_key",
    "flow",
    "corrects",
    RULES,
    "source_object",
];
/// The column of ids of detection rules, which rows of an older lake do not have.
const RULES: &str = "rules";
/// Signed 64-bit columns, in the order in which a row is written.
const LONGS: [&str; 6] = ["bytes_in", "bytes_out", "packets_in", "packets_out", "offset", "length"];
/// Signed 32-bit columns; -1 for none.
const INTS: [&str; 2] = ["port", "protocol"];
/// Text columns whose values do not repeat: a dictionary would gain nothing.
const UNIQUE: [&str; 2] = ["event_id", "raw"];
/// Text of a link.
const LINK_TEXTS: [&str; 4] = ["relation", "type", "id", "name"];

/// Microseconds since the epoch, UTC.
#[must_use]
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Columns of an events file.
#[must_use]
pub fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| columns(&DataType::Utf8));

/// The columns, with texts that repeat as `text`.
fn columns(text: &DataType) -> SchemaRef {
    let mut fields = Vec::new();
    let mut add = |names: &[&str], data_type: &DataType| fields.extend(names.iter().map(|name| Field::new(*name, data_type.clone(), true)));
    add(&["event_id"], &DataType::Utf8);
    add(&["kind"], text);
    add(&["time", "end_time"], &timestamp());
    add(&["account", "region", "actor_type", "actor_id", "actor_name", "actor_alias", "parent_type", "parent_id", "parent_alias"], text);
    add(&["origin_type", "origin_id", "service", "operation", "error", "address", "user_agent", "access_key", "flow"], text);
    add(&INTS, &DataType::Int32);
    add(&["bytes_in", "bytes_out", "packets_in", "packets_out"], &DataType::Int64);
    let link = Fields::from(LINK_TEXTS.map(|name| Field::new(name, text.clone(), true)).to_vec());
    add(&["links"], &DataType::List(Arc::new(Field::new("element", DataType::Struct(link), true))));
    add(&["corrects", RULES, "source_object"], text);
    add(&["offset", "length"], &DataType::Int64);
    add(&["batch_id"], text);
    add(&["raw"], &DataType::Utf8);
    Arc::new(Schema::new(fields))
}

/// How an events file is written: what is large as zstd, the rest as LZ4, which costs less than zstd's start for each of its pages;
/// compaction packs tighter. Pages and statistics stand where a reader skips by them.
///
/// # Errors
/// Never but by a fault of this function.
pub fn properties() -> Result<WriterProperties, ParquetError> {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::LZ4_RAW)
        .set_dictionary_page_size_limit(usize::MAX)
        .set_max_row_group_row_count(Some(1 << 20))
        .set_data_page_row_count_limit(20_000)
        // A page's buffer is filled and emptied in the processor's cache.
        .set_column_data_page_size_limit(ColumnPath::from("raw"), 512 * 1024)
        .set_write_batch_size(256)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_column_statistics_enabled(ColumnPath::from("time"), EnabledStatistics::Page)
        .set_column_statistics_enabled(ColumnPath::from("account"), EnabledStatistics::Chunk)
        .set_column_statistics_enabled(ColumnPath::from("batch_id"), EnabledStatistics::Chunk)
        .set_column_encoding(ColumnPath::from("offset"), Encoding::DELTA_BINARY_PACKED);
    for name in UNIQUE.into_iter().chain(["offset"]) {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    for name in UNIQUE {
        builder = builder.set_column_compression(ColumnPath::from(name), Compression::ZSTD(ZstdLevel::try_new(1)?));
    }
    for name in ["event_id", "actor_id"] {
        let column = || ColumnPath::from(name);
        // A filter of the size that a part of a batch needs: larger ones cost more to fill than they save.
        builder = builder
            .set_column_bloom_filter_enabled(column(), true)
            .set_column_bloom_filter_fpp(column(), 0.02)
            .set_column_bloom_filter_max_ndv(column(), 32 * 1024);
    }
    Ok(builder.build())
}

/// What an event adds to [`EventsWriter::bytes`]: all its text and 256 bytes.
#[must_use]
pub fn weight(event: &Event<'_>) -> usize {
    let links: usize = event.links.iter().map(|link| 16 + link.entity.id.len() + link.name.len()).sum();
    256 + write::texts(event).iter().map(|text| text.len()).sum::<usize>() + event.id.len() + event.raw.len() + links
}
