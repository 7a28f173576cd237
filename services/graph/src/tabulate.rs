//! From events, edges, entities, findings and dead letters to files of the lake.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use arrow::{
    array::{
        ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, PrimitiveArray, RecordBatch, StringArray, StringBuilder, StructArray,
        TimestampMicrosecondArray,
    },
    buffer::OffsetBuffer,
    compute::take_record_batch,
    datatypes::{DataType, Field, UInt32Type},
};
use bytes::Bytes;
use gumshoe_api::graph::v1::DeadLetterRecord;
use gumshoe_lake::{DataFile, FileWriter, LakeError, Table, encode, table};
use gumshoe_model::{Finding, Timestamp, time::MICROS_PER_DAY};
use gumshoe_records::events::EventRows;

use crate::{
    extract::{EntityRow, FindingAt, Graph, Text, Volume},
    made::Made,
};

mod edges;

pub(crate) use edges::edges;

/// Files of fewer bytes are written anew with others of their group: a table of many small files is slow to read.
const SMALL_FILE_BYTES: usize = 256 * 1024;

/// One batch of a group.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) batch_id: &'a str,
    pub(crate) source_object: &'a str,
    pub(crate) rows: EventRows<'a>,
    /// Which rows are not duplicates.
    pub(crate) keep: Vec<bool>,
}

/// The files of kept events: those that came, where all of a file is kept and of one day, else new ones, one a day.
/// `files` are those of `parts`.
pub(crate) fn events(parts: &[Part<'_>], files: &[&Bytes]) -> Result<Vec<DataFile>, LakeError> {
    let mut finished = Vec::new();
    let mut days: BTreeMap<i64, FileWriter> = BTreeMap::new();
    for (part, file) in parts.iter().zip(files) {
        let mut kept: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, (time, _)) in (0_u32..).zip(part.rows.time.iter().zip(&part.keep)).filter(|(_, (_, keep))| **keep) {
            kept.entry(time.div_euclid(MICROS_PER_DAY)).or_default().push(row);
        }
        let whole = kept.first_key_value().filter(|(_, rows)| rows.len() == part.rows.len()).map(|(day, _)| *day);
        if let Some(day) = whole.filter(|_| file.len() >= SMALL_FILE_BYTES || parts.len() == 1) {
            finished.push(DataFile::written(Table::Events, Some(day), (*file).clone())?);
            continue;
        }
        if kept.is_empty() {
            continue;
        }
        let table = gumshoe_records::events::table(file)?;
        for (day, rows) in kept {
            let writer = match days.entry(day) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(FileWriter::new(Table::Events, Some(day), table.schema())?),
            };
            if whole.is_some() {
                writer.write(&table)?;
            } else {
                writer.write(&take_record_batch(&table, &PrimitiveArray::<UInt32Type>::from(rows))?)?;
            }
        }
    }
    for writer in days.into_values() {
        finished.push(writer.finish()?);
    }
    Ok(finished)
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
    encode(Table::Entities, None, &RecordBatch::try_new(Table::Entities.schema(), columns)?).map(Some)
}

/// A row of findings.
struct FindingRow<'a> {
    finding: &'a Finding<'static>,
    account: &'a str,
    region: &'a str,
    event_id: &'a str,
    entities: Vec<(&'a str, &'a str)>,
    raw: &'a str,
    source_object: &'a str,
    offset: u64,
}

/// The file of findings that came in, and of those that rules made; `None` if there are none.
pub(crate) fn findings(found: &[FindingAt], matched: &[Made], parts: &[Part<'_>]) -> Result<Option<DataFile>, LakeError> {
    let row = |at: &FindingAt| {
        let part = parts.get(at.batch)?;
        let (row, text, links) = (at.row, part.rows.finding(at.row)?, &part.rows.links);
        let entity = |index| (links.entity_type.get(index).map_or("", |kind| kind.as_str()), links.id.get(index));
        Some(FindingRow {
            finding: &text.finding,
            account: part.rows.account.get(row),
            region: part.rows.region.get(row),
            event_id: part.rows.id(row),
            entities: links.range(row).map(entity).collect(),
            raw: &text.raw,
            source_object: part.source_object,
            offset: part.rows.offset.get(row).copied().unwrap_or_default().try_into().unwrap_or_default(),
        })
    };
    finding_rows(&found.iter().filter_map(row).chain(matched.iter().map(made_row)).collect::<Vec<_>>())
}

/// The file of findings that the graph made itself; `None` if there are none.
pub(crate) fn made_findings(made: &[Made]) -> Result<Option<DataFile>, LakeError> {
    finding_rows(&made.iter().map(made_row).collect::<Vec<_>>())
}

fn made_row(made: &Made) -> FindingRow<'_> {
    FindingRow {
        finding: &made.finding,
        account: &made.account,
        region: &made.region,
        event_id: &made.event_id,
        entities: made.entities.iter().map(|entity| (entity.kind.as_str(), entity.id.as_str())).collect(),
        raw: &made.raw,
        source_object: "",
        offset: 0,
    }
}

fn finding_rows(rows: &[FindingRow<'_>]) -> Result<Option<DataFile>, LakeError> {
    if rows.is_empty() {
        return Ok(None);
    }
    let (mut ends, mut types, mut ids) = (vec![0_i32], StringBuilder::new(), StringBuilder::new());
    for (kind, id) in rows.iter().flat_map(|row| &row.entities) {
        types.append_value(kind);
        ids.append_value(id);
    }
    let mut end = 0;
    for row in rows {
        end += row.entities.len();
        ends.push(i32::try_from(end).unwrap_or(i32::MAX));
    }
    let fields = table::entity_fields();
    let items = StructArray::try_new(fields.clone(), vec![Arc::new(types.finish()), Arc::new(ids.finish())], None)?;
    let element = Arc::new(Field::new("element", DataType::Struct(fields), true));
    let columns: Vec<ArrayRef> = vec![
        text_column(rows.iter().map(|row| &*row.finding.id)),
        text_column(rows.iter().map(|row| &*row.finding.finding_type)),
        text_column(rows.iter().map(|row| &*row.finding.product)),
        text_column(rows.iter().map(|row| &*row.finding.title)),
        text_column(rows.iter().map(|row| &*row.finding.description)),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.finding.severity))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| signed(row.finding.count)))),
        times(rows.iter().map(|row| row.finding.first_seen.0)),
        times(rows.iter().map(|row| row.finding.last_seen.0)),
        times(rows.iter().map(|row| row.finding.updated.0)),
        Arc::new(rows.iter().map(|row| Some(row.finding.archived)).collect::<BooleanArray>()),
        text_column(rows.iter().map(|row| row.account)),
        text_column(rows.iter().map(|row| row.region)),
        text_column(rows.iter().map(|row| row.event_id)),
        Arc::new(ListArray::try_new(element, OffsetBuffer::new(ends.into()), Arc::new(items), None)?),
        text_column(rows.iter().map(|row| row.raw)),
        text_column(rows.iter().map(|row| row.source_object)),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| signed(row.offset)))),
    ];
    encode(Table::Findings, None, &RecordBatch::try_new(Table::Findings.schema(), columns)?).map(Some)
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
    encode(Table::DeadLetters, None, &RecordBatch::try_new(Table::DeadLetters.schema(), columns)?).map(Some)
}

/// The file of what a group brought; `None` if it is nothing.
pub(crate) fn volumes(graph: &Graph<'_>, batches: &[Part<'_>], now: Timestamp) -> Result<Option<DataFile>, LakeError> {
    // A batch may have come in several parts.
    let mut volumes: BTreeMap<(&str, &str, &str), Volume> = BTreeMap::new();
    for (source, volume) in &graph.volumes {
        let Some(batch) = batches.get(source.batch) else { continue };
        volumes.entry((batch.batch_id, graph.texts.get(source.account), source.kind.as_str())).or_default().add(volume);
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
    encode(Table::Volumes, None, &RecordBatch::try_new(Table::Volumes.schema(), columns)?).map(Some)
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
