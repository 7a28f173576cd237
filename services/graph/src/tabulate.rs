//! From events, edges, entities, findings and dead letters to files of the lake.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, Int64Array, PrimitiveArray, RecordBatch, StringArray, TimestampMicrosecondArray},
    compute::take_record_batch,
    datatypes::UInt32Type,
};
use bytes::Bytes;
use gumshoe_api::graph::v1::DeadLetterRecord;
use gumshoe_lake::{DataFile, FileWriter, LakeError, Table, encode};
use gumshoe_model::{Timestamp, time::MICROS_PER_DAY};
use gumshoe_records::events::EventRows;

use crate::extract::{EntityRow, Graph, Text, Volume};

mod edges;
mod findings;

pub(crate) use edges::edges;
pub(crate) use findings::findings;

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
