//! Column chunks of one repeated number: a dictionary of one entry and a page that says how often it stands, whatever the rows.
//!
//! Most columns of a batch are such: those that its kind of record does not have. Writing them row by row costs more than all else
//! that is done with a flow log line.
//!
//! Source: Apache Parquet format, "Data Pages", "Dictionary Encoding" and "Run Length Encoding / Bit-Packing Hybrid".

use std::io::Write;

use arrow::{
    array::{Array, ArrayRef, AsArray, UInt32Array},
    compute::take,
    datatypes::{DataType, Int32Type, Int64Type},
};
use bytes::Bytes;
use parquet::{
    basic::{Compression, Encoding},
    column::{
        page::{CompressedPage, Page, PageWriter},
        writer::ColumnCloseResult,
    },
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, OffsetIndexBuilder},
        statistics::Statistics,
        writer::{SerializedPageWriter, SerializedRowGroupWriter, TrackedWrite},
    },
    schema::types::ColumnDescPtr,
};

use crate::coded::run;

/// One value, and in how many rows it stands.
#[derive(Debug)]
pub(super) struct Constant {
    value: ArrayRef,
    rows: usize,
}

impl Constant {
    /// The value of all rows, if it is one.
    pub(super) fn of(column: &ArrayRef) -> Option<Self> {
        let all_same = match column.data_type() {
            DataType::Int32 => same(column.as_primitive_opt::<Int32Type>()?.values()),
            DataType::Int64 => same(column.as_primitive_opt::<Int64Type>()?.values()),
            _ => false,
        };
        (all_same && column.null_count() == 0 && !column.is_empty()).then(|| Self { value: column.slice(0, 1), rows: column.len() })
    }

    /// Adds the rows of another, if its value is the same.
    pub(super) fn extend(&mut self, other: &Self) -> bool {
        let same = self.value.to_data() == other.value.to_data();
        self.rows += if same { other.rows } else { 0 };
        same
    }

    /// As a column.
    pub(super) fn to_column(&self) -> Result<ArrayRef, ParquetError> {
        Ok(take(&self.value, &UInt32Array::from_value(0, self.rows), None)?)
    }

    /// Writes the next column of a row group, with the value in all its `rows`.
    pub(super) fn append<W: Write + Send>(&self, rows: usize, column: &ColumnDescPtr, group: &mut SerializedRowGroupWriter<'_, W>) -> Result<(), ParquetError> {
        let (plain, statistics) = self.plain()?;
        let rows = u32::try_from(rows).map_err(|error| ParquetError::General(error.to_string()))?;
        let mut sink = TrackedWrite::new(Vec::new());
        let mut pages = SerializedPageWriter::new(&mut sink);
        let size = plain.len();
        let dictionary = Page::DictionaryPage { buf: plain.into(), num_values: 1, encoding: Encoding::PLAIN, is_sorted: false };
        let dictionary = pages.write_page(CompressedPage::new(dictionary, size))?;
        // Every value is there, and is the dictionary's first: two runs, of one-bit numbers.
        let mut levels = Vec::new();
        run(&mut levels, rows, 1, 1);
        let mut body = u32::try_from(levels.len()).unwrap_or_default().to_le_bytes().to_vec();
        body.extend(levels);
        body.push(1);
        run(&mut body, rows, 0, 1);
        let size = body.len();
        let data = Page::DataPage {
            buf: body.into(),
            num_values: rows,
            encoding: Encoding::RLE_DICTIONARY,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let data = pages.write_page(CompressedPage::new(data, size))?;
        let bytes = Bytes::from(sink.into_inner()?);
        let long = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let metadata = ColumnChunkMetaData::builder(column.clone())
            .set_compression(Compression::UNCOMPRESSED)
            .set_encodings(vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY])
            .set_total_compressed_size(long(bytes.len()))
            .set_total_uncompressed_size(long(dictionary.uncompressed_size + data.uncompressed_size))
            .set_num_values(i64::from(rows))
            .set_dictionary_page_offset(i64::try_from(dictionary.offset).ok())
            .set_data_page_offset(i64::try_from(data.offset).unwrap_or_default())
            .set_statistics(statistics)
            .build()?;
        let mut offsets = OffsetIndexBuilder::new();
        offsets.append_offset_and_size(metadata.data_page_offset(), i32::try_from(data.compressed_size).unwrap_or(i32::MAX));
        offsets.append_row_count(i64::from(rows));
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: u64::from(rows),
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(offsets.build()),
        };
        group.append_column(&bytes, close)
    }

    /// The value as a dictionary page holds it, and the statistics of a column of it.
    fn plain(&self) -> Result<(Vec<u8>, Statistics), ParquetError> {
        let wrong = || ParquetError::General("a constant of another type".to_owned());
        Ok(match self.value.data_type() {
            DataType::Int32 => {
                let value = self.value.as_primitive_opt::<Int32Type>().and_then(|values| values.values().first()).copied();
                (value.ok_or_else(wrong)?.to_le_bytes().to_vec(), Statistics::int32(value, value, None, Some(0), false))
            }
            DataType::Int64 => {
                let value = self.value.as_primitive_opt::<Int64Type>().and_then(|values| values.values().first()).copied();
                (value.ok_or_else(wrong)?.to_le_bytes().to_vec(), Statistics::int64(value, value, None, Some(0), false))
            }
            _ => return Err(wrong()),
        })
    }
}

fn same<T: PartialEq>(values: &[T]) -> bool {
    values.iter().all(|value| Some(value) == values.first())
}
