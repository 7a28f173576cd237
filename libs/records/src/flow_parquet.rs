//! VPC flow logs in Parquet: column names with underscores, one row a record.
//!
//! Parquet is read from its end, so the object is first copied to an unnamed temporary file, which the system removes by
//! itself. A row's `raw` is the line that the text format would have, `-` for null; its `offset` is the row's number, from 0.

use std::{
    borrow::Cow,
    fmt::Write as _,
    fs::File,
    io::{self, Read},
};

use arrow::{
    array::RecordBatch,
    util::display::{ArrayFormatter, FormatOptions},
};
use gumshoe_model::{DeadLetter, Event, RecordKind, Timestamp};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::{
    ReadError, Sink, Stop,
    engine::Engine,
    flow::{Field, Layout, Values, fill},
};

const ROWS_AT_ONCE: usize = 4096;

/// Copies the object to a file and reads its rows.
pub(crate) fn read<S: Sink>(input: &mut impl Read, engine: &mut Engine<'_, S>) -> Result<u64, ReadError> {
    let mut file = tempfile::tempfile().map_err(ReadError::Io)?;
    let bytes = io::copy(input, &mut file).map_err(ReadError::Io)?;
    rows(file, bytes, engine)?;
    Ok(bytes)
}

fn rows<S: Sink>(file: File, bytes: u64, engine: &mut Engine<'_, S>) -> Result<(), Stop> {
    let refuse =
        |engine: &mut Engine<'_, S>, row: u64, reason: String| engine.dead_letter(&DeadLetter { offset: row, length: bytes, reason, raw: Cow::Borrowed("") });
    let reader = match ParquetRecordBatchReaderBuilder::try_new(file) {
        Ok(reader) => reader.with_batch_size(ROWS_AT_ONCE),
        Err(error) => return refuse(engine, 0, format!("not Parquet: {error}")),
    };
    let layout = Layout::new(reader.schema().fields().iter().map(|field| field.name().as_str()));
    if !(layout.has(Field::Start) || layout.has(Field::End)) || !(layout.has(Field::Source) || layout.has(Field::Interface)) {
        return refuse(engine, 0, "Parquet without the columns of a flow log".to_owned());
    }
    let reader = match reader.build() {
        Ok(reader) => reader,
        Err(error) => return refuse(engine, 0, format!("not Parquet: {error}")),
    };
    let mut row = 0;
    for batch in reader {
        match batch.map_err(|error| error.to_string()).and_then(|batch| Rows::new(&batch)) {
            Ok(rows) => {
                each(&rows, &layout, row, engine)?;
                row += rows.count() as u64;
            }
            Err(error) => return refuse(engine, row, format!("the Parquet file is damaged: {error}")),
        }
    }
    Ok(())
}

/// The rows of a batch as lines of text, and where each value stands in its line.
struct Rows {
    lines: Vec<String>,
    ends: Vec<Vec<usize>>,
}

impl Rows {
    fn new(batch: &RecordBatch) -> Result<Self, String> {
        let options = FormatOptions::default().with_null("-");
        let columns: Result<Vec<_>, _> = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options)).collect();
        let columns = columns.map_err(|error| error.to_string())?;
        let mut rows = Self { lines: Vec::with_capacity(batch.num_rows()), ends: Vec::with_capacity(batch.num_rows()) };
        for row in 0..batch.num_rows() {
            let (mut line, mut ends) = (String::with_capacity(128), Vec::with_capacity(columns.len()));
            for (index, column) in columns.iter().enumerate() {
                if index > 0 {
                    line.push(' ');
                }
                let start = line.len();
                write!(line, "{}", column.value(row)).map_err(|_| "a value can't be shown".to_owned())?;
                if line.len() == start {
                    line.push('-');
                }
                ends.push(line.len());
            }
            rows.lines.push(line);
            rows.ends.push(ends);
        }
        Ok(rows)
    }

    fn count(&self) -> usize {
        self.lines.len()
    }
}

fn each<S: Sink>(rows: &Rows, layout: &Layout, first: u64, engine: &mut Engine<'_, S>) -> Result<(), Stop> {
    let mut event = Event::new(RecordKind::VpcFlow, Timestamp(0), "");
    for ((line, ends), row) in rows.lines.iter().zip(&rows.ends).zip(first..) {
        let mut values: Values<'_> = [""; Field::COUNT];
        let mut start = 0;
        for (column, end) in ends.iter().enumerate() {
            layout.put(column, line.get(start..*end).unwrap_or_default(), &mut values);
            start = end + 1;
        }
        match fill(&mut event, &values, line, row) {
            Ok(()) => engine.event(&event)?,
            Err(reason) => engine.dead_letter(&DeadLetter { offset: row, length: line.len() as u64, reason, raw: Cow::Borrowed(line) })?,
        }
    }
    Ok(())
}
