//! Which rows are wanted, and which files, row groups and pages may have some: by their bounds, before any row is read.

use std::{cmp::Ordering, ops::Range};

use arrow::{
    array::{Array, AsArray, BooleanArray, RecordBatch, Scalar, StringArray, TimestampMicrosecondArray},
    compute::{
        and,
        kernels::cmp::{eq, gt_eq, lt},
    },
    error::ArrowError,
};
use gumshoe_model::TimeWindow;
use parquet::file::{
    metadata::{ParquetMetaData, RowGroupMetaData},
    page_index::{
        column_index::{ByteArrayColumnIndex, ColumnIndexMetaData},
        offset_index::{OffsetIndexMetaData, PageLocation},
    },
    statistics::Statistics,
};

use super::files::File;

/// Rows that have one of some values, at a time. A value is a text a column.
#[derive(Debug)]
pub(crate) struct Filter {
    columns: &'static [&'static str],
    /// In order, each once.
    values: Vec<Vec<String>>,
    times: Option<(&'static str, TimeWindow)>,
    /// Columns, and what a row has at least in them: such rows come first in a file.
    since: Option<(&'static [&'static str], Vec<String>)>,
}

/// The least and the most that rows may have in a column; `None` where nothing is known.
type Bounds<'a> = Option<(&'a [u8], &'a [u8])>;

impl Filter {
    pub(crate) fn new(columns: &'static [&'static str], mut values: Vec<Vec<String>>) -> Self {
        values.sort_unstable();
        values.dedup();
        Self { columns, values, times: None, since: None }
    }

    pub(crate) fn times(mut self, column: &'static str, window: TimeWindow) -> Self {
        self.times = Some((column, window));
        self
    }

    pub(crate) fn since(mut self, columns: &'static [&'static str], values: Vec<String>) -> Self {
        self.since = Some((columns, values));
        self
    }

    /// What each value has in `column`, if the filter names it.
    pub(crate) fn texts_in<'f>(&'f self, column: &str) -> Option<impl Iterator<Item = &'f str>> {
        let place = self.columns.iter().position(|name| *name == column)?;
        Some(self.values.iter().filter_map(move |value| value.get(place).map(String::as_str)))
    }

    /// Whether a file may have such rows, as the log says.
    pub(crate) fn may_be_in(&self, file: &File) -> bool {
        let holds = |value: &Vec<String>| self.columns.iter().zip(value).all(|(column, text)| file.may_hold(column, text));
        self.times.is_none_or(|(column, window)| file.may_lie_in(column, window)) && self.values.iter().any(holds)
    }

    /// The window that rows of a file must be compared with: none if all of the file lies in it.
    pub(crate) fn times_in(&self, file: &File) -> Option<(&'static str, TimeWindow)> {
        self.times.filter(|(column, window)| !file.lies_in(column, *window))
    }

    /// Whether a row group may have such rows, as its statistics say.
    pub(crate) fn may_be_in_group(&self, group: &RowGroupMetaData) -> bool {
        let bounds: Vec<Bounds<'_>> = self.columns.iter().map(|name| group_bounds(group, name)).collect();
        self.values.iter().any(|value| within(&bounds, value))
            && self.since.as_ref().is_none_or(|(columns, least)| {
                let bounds: Vec<Bounds<'_>> = columns.iter().map(|name| group_bounds(group, name)).collect();
                reaches(&bounds, least)
            })
    }

    /// The rows of a row group, in runs, among which all such rows are.
    pub(crate) fn rows_in(&self, metadata: &ParquetMetaData, group: usize) -> Vec<Range<usize>> {
        let Some(row_group) = metadata.row_groups().get(group) else { return Vec::new() };
        let rows = usize::try_from(row_group.num_rows()).unwrap_or_default();
        if self.columns.is_empty() {
            return std::iter::once(0..rows).collect();
        }
        let pages = |names: &[&str]| names.iter().map(|name| Pages::of(metadata, row_group, group, name)).collect::<Option<Vec<_>>>();
        let Some(keys) = pages(self.columns) else { return std::iter::once(0..rows).collect() };
        let since = self.since.as_ref().and_then(|(columns, least)| Some((pages(columns)?, least)));
        // Where a page of any of these columns begins: they end at the same rows, but where values are very long.
        let all = || keys.iter().chain(since.iter().flat_map(|(pages, _)| pages));
        let mut starts: Vec<usize> = all().flat_map(Pages::starts).collect();
        starts.sort_unstable();
        starts.dedup();
        let places: Vec<Place<'_>> = starts.iter().map(|row| keys.iter().map(|pages| pages.bounds_at(*row)).collect()).collect();
        let mut runs: Vec<Range<usize>> = Vec::new();
        for (number, start) in starts.iter().copied().enumerate() {
            let wanted = self.values.iter().any(|value| may_be_at(&places, number, value));
            let reached = since.as_ref().is_none_or(|(pages, least)| {
                let bounds: Vec<Bounds<'_>> = pages.iter().map(|pages| pages.bounds_at(start)).collect();
                reaches(&bounds, least)
            });
            if !wanted || !reached {
                continue;
            }
            let end = starts.get(number + 1).copied().unwrap_or(rows);
            match runs.last_mut() {
                Some(run) if run.end == start => run.end = end,
                _ => runs.push(start..end),
            }
        }
        runs
    }

    /// The columns that rows are judged by.
    pub(crate) fn judged<'a>(&'a self, times: Option<&'a str>) -> impl Iterator<Item = &'a str> {
        self.columns.iter().copied().chain(times)
    }

    /// Which rows are such, of what [`Self::since`] says apart.
    pub(crate) fn judge(&self, rows: &RecordBatch, times: Option<(&str, TimeWindow)>) -> Result<BooleanArray, ArrowError> {
        let mut texts = Vec::with_capacity(self.columns.len());
        for name in self.columns {
            texts.push(column(rows, name)?.as_string_opt::<i32>().ok_or_else(|| ArrowError::SchemaError(format!("`{name}` is no text")))?);
        }
        let mut wanted = match self.values.as_slice() {
            [value] => {
                let mut wanted: Option<BooleanArray> = None;
                for (column, text) in texts.iter().zip(value) {
                    let equal = eq(*column, &StringArray::new_scalar(text))?;
                    wanted = Some(match wanted {
                        Some(wanted) => and(&wanted, &equal)?,
                        None => equal,
                    });
                }
                wanted.unwrap_or_else(|| BooleanArray::from(vec![true; rows.num_rows()]))
            }
            values => {
                let compare = |value: &Vec<String>, row: usize| {
                    let orders = value.iter().zip(&texts).map(|(text, column)| text.as_str().cmp(if column.is_valid(row) { column.value(row) } else { "" }));
                    orders.fold(Ordering::Equal, Ordering::then)
                };
                (0..rows.num_rows()).map(|row| Some(values.binary_search_by(|value| compare(value, row)).is_ok())).collect()
            }
        };
        if let Some((name, window)) = times {
            let hours = column(rows, name)?;
            let time = |time| Scalar::new(TimestampMicrosecondArray::from_value(time, 1).with_timezone("UTC"));
            wanted = and(&wanted, &and(&gt_eq(hours, &time(window.start().0))?, &lt(hours, &time(window.end().0))?)?)?;
        }
        Ok(wanted)
    }
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a arrow::array::ArrayRef, ArrowError> {
    rows.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("no column `{name}`")))
}

/// The place of a column of texts or times among a file's columns.
pub(crate) fn leaf(group: &RowGroupMetaData, name: &str) -> Option<usize> {
    group.columns().iter().position(|column| column.column_path().parts() == [name])
}

fn group_bounds<'a>(group: &'a RowGroupMetaData, name: &str) -> Bounds<'a> {
    match group.columns().get(leaf(group, name)?)?.statistics()? {
        Statistics::ByteArray(values) => Some((values.min_opt()?.data(), values.max_opt()?.data())),
        _ => None,
    }
}

/// Whether a value may lie within bounds.
fn within(bounds: &[Bounds<'_>], value: &[String]) -> bool {
    bounds.iter().zip(value).all(|(bounds, text)| bounds.is_none_or(|(low, high)| low <= text.as_bytes() && text.as_bytes() <= high))
}

/// Whether there may be a row that has at least `least`, the first column counting most.
fn reaches(bounds: &[Bounds<'_>], least: &[String]) -> bool {
    for (bounds, text) in bounds.iter().zip(least) {
        match bounds.map(|(_, high)| high.cmp(text.as_bytes())) {
            // Only rows that have this very text are left, and what bounds all rows bounds them.
            Some(Ordering::Equal) => {}
            Some(Ordering::Less) => return false,
            Some(Ordering::Greater) | None => return true,
        }
    }
    true
}

/// The pages of a column in a row group.
struct Pages<'a> {
    bounds: &'a ByteArrayColumnIndex,
    places: &'a OffsetIndexMetaData,
}

/// The bounds of the columns in a few rows.
type Place<'a> = Vec<Bounds<'a>>;

impl<'a> Pages<'a> {
    fn of(metadata: &'a ParquetMetaData, row_group: &RowGroupMetaData, group: usize, name: &str) -> Option<Self> {
        let column = leaf(row_group, name)?;
        let places = metadata.offset_index()?.get(group)?.get(column)?;
        match metadata.column_index()?.get(group)?.get(column)? {
            ColumnIndexMetaData::BYTE_ARRAY(bounds) => Some(Self { bounds, places }),
            _ => None,
        }
    }

    fn starts(&self) -> impl Iterator<Item = usize> {
        self.places.page_locations().iter().filter_map(|page| usize::try_from(page.first_row_index).ok())
    }

    fn bounds_at(&self, row: usize) -> Bounds<'a> {
        let begins = |page: &PageLocation| usize::try_from(page.first_row_index).is_ok_and(|first| first <= row);
        let page = self.places.page_locations().partition_point(begins).checked_sub(1)?;
        // What a damaged file says of pages that it does not have is not asked for.
        let known = page < usize::try_from(self.bounds.num_pages()).unwrap_or(0);
        if known { Some((self.bounds.min_value(page)?, self.bounds.max_value(page)?)) } else { None }
    }
}

/// Whether a value may be at a place among rows that are sorted by the first column, then by the next.
///
/// A place where the first column changes holds the end of one of its values and the beginning of another: of the next column
/// its bounds say little, but those of the places before and after do.
fn may_be_at(places: &[Place<'_>], number: usize, value: &[String]) -> bool {
    if !places.get(number).is_some_and(|place| within(place, value)) {
        return false;
    }
    let [text, next] = value else { return true };
    let next_in = |number: usize| match places.get(number)?.as_slice() {
        [Some((low, high)), Some(bounds)] if *low == text.as_bytes() && *high == text.as_bytes() => Some(*bounds),
        _ => None,
    };
    if next_in(number).is_some() {
        return true;
    }
    let (before, after) = (number.checked_sub(1).and_then(next_in), next_in(number + 1));
    before.is_none_or(|(low, _)| low <= next.as_bytes()) && after.is_none_or(|(_, high)| next.as_bytes() <= high)
}
