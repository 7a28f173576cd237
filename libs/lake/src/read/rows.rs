//! The wanted rows of one file, a few pages at a time, in the file's order.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{RecordBatch, RecordBatchReader as _},
    compute::concat_batches,
    error::ArrowError,
};
use object_store::ObjectStore;
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ArrowPredicateFn, ParquetRecordBatchReaderBuilder, RowFilter, RowSelection},
    },
    file::metadata::{ParquetMetaData, RowGroupMetaData},
};

use super::{
    files::File,
    filter::{Filter, leaf},
    footer::{Footers, Opened, Touches, add},
};
use crate::LakeError;

/// Rows looked at in one step at most; so many of some columns are held of each file that is read.
const MAX_ROWS: usize = 16 * 1024;

/// What all files of one look-up have in common.
pub(crate) struct Job {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) footers: Footers,
    /// Of the table, under the lake.
    pub(crate) folder: String,
    pub(crate) filter: Filter,
    pub(crate) columns: &'static [&'static str],
    /// The column that has a filter a row group.
    pub(crate) filtered: Option<&'static str>,
    /// Rows looked at in the first step, about.
    pub(crate) first_rows: usize,
    pub(crate) touches: Arc<Touches>,
}

/// A file that is being read.
pub(crate) struct FileRows {
    job: Arc<Job>,
    file: Arc<File>,
    opened: Option<Opened>,
    /// The row group that comes next.
    next_group: usize,
    /// What is left to look at of the one before.
    left: Vec<Range<usize>>,
    /// Rows of the next step.
    step: usize,
    touched: bool,
}

impl FileRows {
    pub(crate) fn new(job: Arc<Job>, file: Arc<File>) -> Self {
        let step = job.first_rows.clamp(1, MAX_ROWS);
        Self { job, file, opened: None, next_group: 0, left: Vec::new(), step, touched: false }
    }

    /// The next wanted rows; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>, LakeError> {
        let job = Arc::clone(&self.job);
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => job.footers.open(&job.store, &job.folder, &self.file, job.filtered, &job.touches).await?,
        };
        let rows = self.next_of(&opened).await;
        self.opened = Some(opened);
        rows
    }

    async fn next_of(&mut self, opened: &Opened) -> Result<Option<RecordBatch>, LakeError> {
        loop {
            while self.left.is_empty() {
                if self.next_group >= opened.metadata().num_row_groups() {
                    return Ok(None);
                }
                self.left = self.rows_of(opened, self.next_group).await?;
                self.next_group += 1;
            }
            let ranges = take_rows(&mut self.left, self.step);
            self.step = self.step.saturating_mul(4).min(MAX_ROWS);
            if !self.touched {
                self.touched = true;
                add(&opened.touches().files_read, 1);
            }
            let rows = self.read(opened, self.next_group - 1, &ranges).await?;
            if rows.num_rows() > 0 {
                return Ok(Some(rows));
            }
        }
    }

    /// The rows of a row group that must be looked at.
    async fn rows_of(&self, opened: &Opened, group: usize) -> Result<Vec<Range<usize>>, LakeError> {
        let filter = &self.job.filter;
        if !opened.metadata().row_groups().get(group).is_some_and(|row_group| filter.may_be_in_group(row_group)) {
            return Ok(Vec::new());
        }
        if let Some(texts) = self.job.filtered.and_then(|column| filter.texts_in(column)) {
            let mut may_hold = false;
            for text in texts {
                may_hold = may_hold || opened.may_hold(group, text).await?;
            }
            if !may_hold {
                return Ok(Vec::new());
            }
        }
        Ok(filter.rows_in(opened.indexed().await?.metadata(), group))
    }

    async fn read(&self, opened: &Opened, group: usize, ranges: &[Range<usize>]) -> Result<RecordBatch, LakeError> {
        let job = &self.job;
        let metadata = opened.indexed().await?;
        let Some(row_group) = metadata.metadata().row_groups().get(group) else { return Err(missing("row group")) };
        let times = job.filter.times_in(&self.file);
        let judged = leaves(row_group, job.filter.judged(times.map(|(column, _)| column)))?;
        let columns = leaves(row_group, job.columns.iter().copied())?;
        let mut bytes = Vec::new();
        for column in 0..row_group.num_columns() {
            if judged.contains(&column) || columns.contains(&column) {
                add(&job.touches.pages, ranges_of(metadata.metadata(), group, column, ranges, &mut bytes));
            }
        }
        let parts = opened.parts(&bytes).await?;
        let mask = |leaves: &[usize]| ProjectionMask::leaves(metadata.parquet_schema(), leaves.iter().copied());
        let rows = usize::try_from(row_group.num_rows()).unwrap_or_default();
        let wanted: usize = ranges.iter().map(|range| range.end - range.start).sum();
        let filter = Arc::clone(job);
        let judge = ArrowPredicateFn::new(mask(&judged), move |rows: RecordBatch| filter.filter.judge(&rows, times));
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(parts, metadata.clone())
            .with_row_groups(vec![group])
            .with_projection(mask(&columns))
            .with_row_selection(RowSelection::from_consecutive_ranges(ranges.iter().cloned(), rows))
            .with_row_filter(RowFilter::new(vec![Box::new(judge)]))
            .with_batch_size(wanted.max(1))
            .build()?;
        let schema = reader.schema();
        let batches = reader.collect::<Result<Vec<_>, ArrowError>>()?;
        match <[RecordBatch; 1]>::try_from(batches) {
            Ok([batch]) => Ok(batch),
            Err(batches) => Ok(concat_batches(&schema, &batches)?),
        }
    }
}

fn missing(what: &str) -> LakeError {
    ArrowError::SchemaError(format!("a {what} is missing")).into()
}

fn leaves<'a>(group: &RowGroupMetaData, names: impl Iterator<Item = &'a str>) -> Result<Vec<usize>, LakeError> {
    names.map(|name| leaf(group, name).ok_or_else(|| missing("column"))).collect()
}

/// Takes the first `count` rows, about: what is taken of a run is not cut for a few rows more.
fn take_rows(left: &mut Vec<Range<usize>>, count: usize) -> Vec<Range<usize>> {
    let (mut taken, mut rows) = (Vec::new(), 0);
    while rows < count && !left.is_empty() {
        let mut run = left.remove(0);
        let room = count - rows;
        if run.len() > room + room / 2 {
            left.insert(0, run.start + room..run.end);
            run.end = run.start + room;
        }
        rows += run.len();
        taken.push(run);
    }
    taken
}

/// Adds the bytes of a column's pages that have some of these rows, and of its dictionary; gives the number of pages.
fn ranges_of(metadata: &ParquetMetaData, group: usize, column: usize, rows: &[Range<usize>], ranges: &mut Vec<Range<u64>>) -> usize {
    let Some(chunk) = metadata.row_groups().get(group).and_then(|group| group.columns().get(column)) else { return 0 };
    let (start, length) = chunk.byte_range();
    let pages = metadata.offset_index().and_then(|index| Some(index.get(group)?.get(column)?.page_locations().as_slice()));
    let Some([first, ..]) = pages else {
        ranges.push(start..start + length);
        return 1;
    };
    let place = |offset: i64| u64::try_from(offset).unwrap_or_default();
    if place(first.offset) > start {
        ranges.push(start..place(first.offset));
    }
    let pages = pages.unwrap_or_default();
    let mut count = 0;
    for (number, page) in pages.iter().enumerate() {
        let from = usize::try_from(page.first_row_index).unwrap_or_default();
        let to = pages.get(number + 1).map_or(usize::MAX, |next| usize::try_from(next.first_row_index).unwrap_or_default());
        if !rows.iter().any(|run| run.start < to && from < run.end) {
            continue;
        }
        count += 1;
        let (start, end) = (place(page.offset), place(page.offset) + u64::try_from(page.compressed_page_size).unwrap_or_default());
        match ranges.last_mut() {
            Some(range) if range.end == start => range.end = end,
            _ => ranges.push(start..end),
        }
    }
    count
}
