//! From events, edges, entities, findings and dead letters to files of the lake.

use std::{collections::BTreeMap, sync::Arc};

use crate::extract::{EntityRow, FindingAt, Graph, Text, Volume};
use arrow::{
    array::{
        ArrayRef, AsArray, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, ListArray, PrimitiveArray, RecordBatch, StringArray,
        StringBuilder, StructArray, TimestampMicrosecondArray,
    },
    buffer::OffsetBuffer,
    compute::{cast, take_record_batch},
    datatypes::{DataType, Field, Int32Type, Schema, UInt8Type, UInt32Type},
    error::ArrowError,
};
use gumshoe_api::graph::v1::DeadLetterRecord;
use gumshoe_lake::{DataFile, LakeError, Table, encode, table};
use gumshoe_model::{EntityType, RecordKind, Relation, Timestamp, time::MICROS_PER_DAY};
use gumshoe_records::columns::{EventRow, EventRows};

mod edges;

pub(crate) use edges::edges;

/// One batch of a group as it was received.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    pub(crate) batch_id: &'a str,
    pub(crate) source_object: &'a str,
    pub(crate) events: &'a RecordBatch,
    /// Which rows are not duplicates.
    pub(crate) keep: Vec<bool>,
    /// The id of each event.
    pub(crate) ids: StringArray,
}

/// The files of kept events, one a day.
pub(crate) fn events(batches: &[Received<'_>]) -> Result<Vec<DataFile>, LakeError> {
    let mut days: BTreeMap<i64, Vec<RecordBatch>> = BTreeMap::new();
    for batch in batches {
        let times = batch.events.column_by_name("time").and_then(|column| column.as_primitive_opt::<arrow::datatypes::Int64Type>());
        let times = times.ok_or_else(|| ArrowError::SchemaError("no column `time`".to_owned()))?;
        let mut rows: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (index, (time, _)) in (0_u32..).zip(times.values().iter().zip(&batch.keep)).filter(|(_, (_, keep))| **keep) {
            rows.entry(time.div_euclid(MICROS_PER_DAY)).or_default().push(index);
        }
        let table = event_rows(batch)?;
        for (day, rows) in rows {
            let part = if rows.len() == table.num_rows() { table.clone() } else { take_record_batch(&table, &PrimitiveArray::<UInt32Type>::from(rows))? };
            days.entry(day).or_default().push(part);
        }
    }
    days.into_iter().map(|(day, rows)| encode(Table::Events, Some(day), &rows)).collect()
}

/// A batch in the columns of the table of events, texts of few values as dictionaries.
fn event_rows(batch: &Received<'_>) -> Result<RecordBatch, ArrowError> {
    let events = batch.events;
    let rows = events.num_rows();
    let schema = Table::Events.schema();
    let mut fields = Vec::with_capacity(schema.fields().len());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let source = |name: &str| events.column_by_name(name).cloned().ok_or_else(|| ArrowError::SchemaError(format!("no column `{name}`")));
        let column: ArrayRef = match field.name().as_str() {
            "event_id" => Arc::new(batch.ids.clone()),
            "kind" => names(&source("kind")?, RecordKind::ALL.iter().map(|kind| kind.as_str()))?,
            "flow" => names(&source("flow")?, Relation::ALL.iter().map(|relation| relation.as_str()))?,
            name @ ("actor_type" | "parent_type" | "origin_type") => names(&source(name)?, EntityType::ALL.iter().map(|kind| kind.as_str()))?,
            "source_object" => constant(batch.source_object, rows),
            "batch_id" => constant(batch.batch_id, rows),
            name @ ("time" | "end_time") => cast(&source(name)?, &table::timestamp())?,
            name @ ("bytes_in" | "bytes_out" | "packets_in" | "packets_out" | "offset") => cast(&source(name)?, &DataType::Int64)?,
            "links" => links(source("links")?.as_list())?,
            name => source(name)?,
        };
        fields.push(Field::new(field.name(), column.data_type().clone(), true));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Codes as the names they stand for: 0 is none, 1 the first.
fn names(codes: &ArrayRef, names: impl Iterator<Item = &'static str>) -> Result<ArrayRef, ArrowError> {
    let codes = codes.as_primitive_opt::<UInt8Type>().ok_or_else(|| ArrowError::SchemaError("codes are not bytes".to_owned()))?;
    let values = StringArray::from_iter_values(std::iter::once("").chain(names));
    Ok(Arc::new(DictionaryArray::try_new(codes.clone(), Arc::new(values))?))
}

fn constant(text: &str, rows: usize) -> ArrayRef {
    let values: ArrayRef = Arc::new(StringArray::from_iter_values([text]));
    Arc::new(DictionaryArray::<Int32Type>::new(Int32Array::from_value(0, rows), values))
}

fn links(links: &ListArray) -> Result<ArrayRef, ArrowError> {
    let items = links.values().as_struct();
    let item = |name: &str| items.column_by_name(name).cloned().ok_or_else(|| ArrowError::SchemaError(format!("no link field `{name}`")));
    let plain = |array: ArrayRef| cast(&array, &DataType::Utf8);
    let columns = vec![
        plain(names(&item("relation")?, Relation::ALL.iter().map(|relation| relation.as_str()))?)?,
        plain(names(&item("type")?, EntityType::ALL.iter().map(|kind| kind.as_str()))?)?,
        item("id")?,
        item("name")?,
    ];
    let fields = table::link_fields();
    let field = Arc::new(Field::new("element", DataType::Struct(fields.clone()), true));
    Ok(Arc::new(ListArray::try_new(field, links.offsets().clone(), Arc::new(StructArray::try_new(fields, columns, None)?), None)?))
}

/// The file of entities; `None` if there are none.
pub(crate) fn entities(graph: &Graph<'_>) -> Result<Option<DataFile>, LakeError> {
    if graph.entities.is_empty() {
        return Ok(None);
    }
    let text = |text: Text| graph.texts.get(text);
    let mut rows: Vec<(&EntityRow, &(i64, i64))> = graph.entities.iter().collect();
    rows.sort_unstable_by_key(|(row, _)| (row.node.kind.as_str(), text(row.node.id), text(row.name), text(row.alias), text(row.account)));
    let columns: Vec<ArrayRef> = vec![
        text_column(rows.iter().map(|(row, _)| row.node.kind.as_str())),
        text_column(rows.iter().map(|(row, _)| text(row.node.id))),
        text_column(rows.iter().map(|(row, _)| text(row.name))),
        text_column(rows.iter().map(|(row, _)| text(row.alias))),
        text_column(rows.iter().map(|(row, _)| text(row.account))),
        times(rows.iter().map(|(_, seen)| seen.0)),
        times(rows.iter().map(|(_, seen)| seen.1)),
    ];
    encode(Table::Entities, None, &[RecordBatch::try_new(Table::Entities.schema(), columns)?]).map(Some)
}

/// The file of findings; `None` if there are none.
pub(crate) fn findings(found: &[FindingAt], batches: &[Received<'_>]) -> Result<Option<DataFile>, LakeError> {
    if found.is_empty() {
        return Ok(None);
    }
    let readers = batches.iter().map(|batch| EventRows::new(batch.events)).collect::<Result<Vec<_>, _>>()?;
    let rows: Vec<(EventRow<'_>, gumshoe_records::columns::FindingRow<'_>, &Received<'_>, &EventRows<'_>, usize)> = found
        .iter()
        .filter_map(|at| {
            let (reader, batch) = (readers.get(at.batch)?, batches.get(at.batch)?);
            let row = reader.get(at.row)?;
            Some((row, row.finding?, batch, reader, at.row))
        })
        .collect();
    let (mut ends, mut types, mut ids) = (vec![0_i32], StringBuilder::new(), StringBuilder::new());
    for (_, _, _, reader, index) in &rows {
        for link in reader.links(*index) {
            types.append_value(link.kind.as_str());
            ids.append_value(link.id);
        }
        ends.push(i32::try_from(arrow::array::ArrayBuilder::len(&types)).unwrap_or(i32::MAX));
    }
    let fields = table::entity_fields();
    let items = StructArray::try_new(fields.clone(), vec![Arc::new(types.finish()), Arc::new(ids.finish())], None)?;
    let element = Arc::new(Field::new("element", DataType::Struct(fields), true));
    let columns: Vec<ArrayRef> = vec![
        text_column(rows.iter().map(|(_, finding, ..)| finding.id)),
        text_column(rows.iter().map(|(_, finding, ..)| finding.finding_type)),
        text_column(rows.iter().map(|(_, finding, ..)| finding.product)),
        text_column(rows.iter().map(|(_, finding, ..)| finding.title)),
        text_column(rows.iter().map(|(_, finding, ..)| finding.description)),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|(_, finding, ..)| finding.severity))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, finding, ..)| signed(finding.count)))),
        times(rows.iter().map(|(_, finding, ..)| finding.first_seen)),
        times(rows.iter().map(|(_, finding, ..)| finding.last_seen)),
        times(rows.iter().map(|(_, finding, ..)| finding.updated)),
        Arc::new(rows.iter().map(|(_, finding, ..)| Some(finding.archived)).collect::<BooleanArray>()),
        text_column(rows.iter().map(|(row, ..)| row.account)),
        text_column(rows.iter().map(|(row, ..)| row.region)),
        text_column(rows.iter().map(|(row, ..)| row.id)),
        Arc::new(ListArray::try_new(element, OffsetBuffer::new(ends.into()), Arc::new(items), None)?),
        text_column(rows.iter().map(|(row, ..)| row.raw)),
        text_column(rows.iter().map(|(_, _, batch, ..)| batch.source_object)),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(row, ..)| signed(row.offset)))),
    ];
    encode(Table::Findings, None, &[RecordBatch::try_new(Table::Findings.schema(), columns)?]).map(Some)
}

/// A dead letter with what it came in.
#[derive(Debug)]
pub(crate) struct Dead<'a> {
    pub(crate) batch_id: &'a str,
    pub(crate) source_object: &'a str,
    pub(crate) letter: &'a DeadLetterRecord,
}

/// The file of dead letters; `None` if there are none.
pub(crate) fn dead_letters(letters: &[Dead<'_>], now: Timestamp) -> Result<Option<DataFile>, LakeError> {
    if letters.is_empty() {
        return Ok(None);
    }
    let columns: Vec<ArrayRef> = vec![
        text_column(letters.iter().map(|dead| dead.source_object)),
        Arc::new(Int64Array::from_iter_values(letters.iter().map(|dead| signed(dead.letter.offset)))),
        Arc::new(Int64Array::from_iter_values(letters.iter().map(|dead| signed(dead.letter.length)))),
        text_column(letters.iter().map(|dead| dead.letter.reason.as_str())),
        text_column(letters.iter().map(|dead| dead.letter.raw.as_str())),
        text_column(letters.iter().map(|dead| dead.batch_id)),
        times(letters.iter().map(|_| now.0)),
    ];
    encode(Table::DeadLetters, None, &[RecordBatch::try_new(Table::DeadLetters.schema(), columns)?]).map(Some)
}

/// The file of what a group brought; `None` if it is nothing.
pub(crate) fn volumes(graph: &Graph<'_>, batches: &[Received<'_>], now: Timestamp) -> Result<Option<DataFile>, LakeError> {
    // A batch may have come in several parts.
    let mut volumes: BTreeMap<(&str, &str, &str), Volume> = BTreeMap::new();
    for (source, volume) in &graph.volumes {
        let Some(batch) = batches.get(source.batch) else { continue };
        let sum = volumes.entry((batch.batch_id, graph.texts.get(source.account), source.kind.as_str())).or_default();
        sum.records += volume.records;
        sum.bytes += volume.bytes;
    }
    if volumes.is_empty() {
        return Ok(None);
    }
    let columns: Vec<ArrayRef> = vec![
        text_column(volumes.keys().map(|(batch, ..)| *batch)),
        text_column(volumes.keys().map(|(_, account, _)| *account)),
        text_column(volumes.keys().map(|(.., kind)| *kind)),
        Arc::new(Int64Array::from_iter_values(volumes.values().map(|volume| signed(volume.records)))),
        Arc::new(Int64Array::from_iter_values(volumes.values().map(|volume| signed(volume.bytes)))),
        times(volumes.keys().map(|_| now.0)),
    ];
    encode(Table::Volumes, None, &[RecordBatch::try_new(Table::Volumes.schema(), columns)?]).map(Some)
}

fn text_column<'t>(texts: impl Iterator<Item = &'t str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(texts))
}

fn times(times: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
}

/// The lake has no unsigned columns.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
