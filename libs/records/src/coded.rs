//! Column chunks of texts that are given by their numbers: what repeats is written as it is known, and no text is hashed or compared
//! again for each row.
//!
//! A chunk is a dictionary page of the texts in use, in order of first use, and data pages of their numbers: a run where all of a
//! page are the same, else packed bits.
//!
//! Source: Apache Parquet format, "Data Pages", "Dictionary Encoding" and "Run Length Encoding / Bit-Packing Hybrid".

use std::io::Write;

use parquet::{
    basic::{BoundaryOrder, Compression, Encoding, Type},
    bloom_filter::Sbbf,
    column::{
        page::{CompressedPage, Page, PageWriter},
        writer::ColumnCloseResult,
    },
    data_type::ByteArray,
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder},
        properties::{EnabledStatistics, WriterProperties},
        statistics::Statistics,
        writer::{SerializedPageWriter, SerializedRowGroupWriter, TrackedWrite},
    },
    schema::types::ColumnDescPtr,
};

/// Writes the next column of a row group: in each row the text that `keys` has the number of. Pages, statistics and the bloom filter
/// are as `properties` say; pages are packed with LZ4. False, and nothing is written, if the dictionary would be larger than they say.
///
/// # Errors
/// [`ParquetError`] when the column is not the next one, or not one of optional texts.
pub fn append<'t, W: Write + Send>(
    keys: &[u32],
    text: impl Fn(u32) -> &'t str,
    properties: &WriterProperties,
    column: &ColumnDescPtr,
    group: &mut SerializedRowGroupWriter<'_, W>,
) -> Result<bool, ParquetError> {
    let path = column.path();
    let (used, codes) = number_anew(keys);
    let texts: Vec<&str> = used.iter().map(|key| text(*key)).collect();
    let size = texts.iter().map(|text| 4 + text.len()).sum();
    if size > properties.column_dictionary_page_size_limit(path) {
        return Ok(false);
    }
    let statistics = properties.statistics_enabled(path);
    let rank = if statistics == EnabledStatistics::Page { ranks(&texts) } else { Vec::new() };

    let mut sink = TrackedWrite::new(Vec::with_capacity(keys.len() + 64));
    let mut pages = SerializedPageWriter::new(&mut sink);
    let mut plain = Vec::with_capacity(size);
    for text in &texts {
        plain.extend_from_slice(&short(text.len())?.to_le_bytes());
        plain.extend_from_slice(text.as_bytes());
    }
    let dictionary = Page::DictionaryPage { buf: packed(&plain), num_values: short(texts.len())?, encoding: Encoding::PLAIN, is_sorted: false };
    let dictionary = pages.write_page(CompressedPage::new(dictionary, plain.len()))?;

    let width = (usize::BITS - texts.len().saturating_sub(1).leading_zeros()).max(1);
    let (mut offsets, mut indexes) = (OffsetIndexBuilder::new(), ColumnIndexBuilder::new(Type::BYTE_ARRAY));
    let (mut first_page, mut uncompressed) = (None, dictionary.uncompressed_size);
    let (mut page_ranges, mut first_row) = (Vec::new(), 0);
    for codes in codes.chunks(properties.data_page_row_count_limit().max(1)) {
        let rows = short(codes.len())?;
        // Every value is there.
        let mut body = Vec::with_capacity(codes.len() * width as usize / 8 + 32);
        let mut levels = Vec::new();
        run(&mut levels, rows, 1, 1);
        body.extend_from_slice(&short(levels.len())?.to_le_bytes());
        body.extend(levels);
        body.push(u8::try_from(width).unwrap_or(u8::MAX));
        numbers(&mut body, codes, width);
        let page = Page::DataPage {
            buf: packed(&body),
            num_values: rows,
            encoding: Encoding::RLE_DICTIONARY,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let page = pages.write_page(CompressedPage::new(page, body.len()))?;
        first_page.get_or_insert(page.offset);
        uncompressed += page.uncompressed_size;
        offsets.append_row_count(i64::from(rows));
        offsets.append_offset_and_size(long(page.offset)?, i32::try_from(page.compressed_size).map_err(too_large)?);
        if statistics == EnabledStatistics::Page
            && let Some((low, high)) = range(codes, &rank)
        {
            page_ranges.push((low, high));
            let bytes = |code: u32| texts.get(code as usize).map_or(Vec::new(), |text| text.as_bytes().to_vec());
            indexes.append(false, bytes(low), bytes(high), 0);
        }
        first_row += codes.len();
    }
    debug_assert_eq!(first_row, keys.len());
    let bytes = sink.into_inner()?;

    let mut metadata = ColumnChunkMetaData::builder(column.clone())
        .set_compression(Compression::LZ4_RAW)
        .set_encodings(vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY])
        .set_total_compressed_size(i64::try_from(bytes.len()).map_err(too_large)?)
        .set_total_uncompressed_size(i64::try_from(uncompressed).map_err(too_large)?)
        .set_num_values(i64::try_from(keys.len()).map_err(too_large)?)
        .set_dictionary_page_offset(Some(long(dictionary.offset)?))
        .set_data_page_offset(long(first_page.unwrap_or_default())?);
    if statistics != EnabledStatistics::None {
        let value = |text: Option<&&str>| text.map(|text| ByteArray::from(*text));
        metadata = metadata.set_statistics(Statistics::byte_array(value(texts.iter().min()), value(texts.iter().max()), None, Some(0), false));
    }
    let column_index = if statistics == EnabledStatistics::Page && !page_ranges.is_empty() {
        let place = |code: u32| rank.get(code as usize).copied().unwrap_or_default();
        let ascending = page_ranges.is_sorted_by(|one, other| place(one.0) <= place(other.0) && place(one.1) <= place(other.1));
        indexes.set_boundary_order(if ascending { BoundaryOrder::ASCENDING } else { BoundaryOrder::UNORDERED });
        Some(indexes.build()?)
    } else {
        None
    };
    let bloom_filter = match properties.bloom_filter_properties(path) {
        Some(wanted) => {
            let mut filter = Sbbf::new_with_ndv_fpp(texts.len().max(1) as u64, wanted.fpp())?;
            texts.iter().for_each(|text| filter.insert(text.as_bytes()));
            Some(filter)
        }
        None => None,
    };
    let close = ColumnCloseResult {
        bytes_written: bytes.len() as u64,
        rows_written: keys.len() as u64,
        metadata: metadata.build()?,
        bloom_filter,
        column_index,
        offset_index: Some(offsets.build()),
    };
    group.append_column(&bytes::Bytes::from(bytes), close)?;
    Ok(true)
}

/// The keys in order of first use, and each row's place among them.
fn number_anew(keys: &[u32]) -> (Vec<u32>, Vec<u32>) {
    const NONE: u32 = u32::MAX;
    let Some(largest) = keys.iter().max() else { return (Vec::new(), Vec::new()) };
    let (mut used, mut codes) = (Vec::new(), vec![NONE; *largest as usize + 1]);
    let mut number = |key: &u32| match codes.get_mut(*key as usize) {
        Some(code) => {
            if *code == NONE {
                *code = u32::try_from(used.len()).unwrap_or(NONE);
                used.push(*key);
            }
            *code
        }
        None => NONE,
    };
    let numbered = keys.iter().map(&mut number).collect();
    (used, numbered)
}

/// Where each text stands among all in order.
fn ranks(texts: &[&str]) -> Vec<u32> {
    let mut order: Vec<(&str, usize)> = texts.iter().copied().zip(0..).collect();
    order.sort_unstable();
    let mut ranks = vec![0; texts.len()];
    for (rank, (_, code)) in (0_u32..).zip(order) {
        if let Some(slot) = ranks.get_mut(code) {
            *slot = rank;
        }
    }
    ranks
}

/// The codes of a page's least and greatest text.
fn range(codes: &[u32], ranks: &[u32]) -> Option<(u32, u32)> {
    let rank = |code: &&u32| ranks.get(**code as usize).copied().unwrap_or_default();
    Some((*codes.iter().min_by_key(rank)?, *codes.iter().max_by_key(rank)?))
}

fn packed(bytes: &[u8]) -> bytes::Bytes {
    lz4_flex::block::compress(bytes).into()
}

/// The numbers of a page, each of `width` bits.
fn numbers(body: &mut Vec<u8>, codes: &[u32], width: u32) {
    match codes {
        [first, rest @ ..] if rest.iter().all(|code| code == first) => run(body, u32::try_from(codes.len()).unwrap_or(u32::MAX), *first, width),
        _ => {
            // Groups of eight, the last one filled up.
            varint(body, (codes.len().div_ceil(8) as u64) << 1 | 1);
            let (mut bits, mut held) = (0_u64, 0_u32);
            let missing = codes.len().next_multiple_of(8) - codes.len();
            for code in codes.iter().copied().chain(std::iter::repeat_n(0, missing)) {
                bits |= u64::from(code) << held;
                held += width;
                while held >= 8 {
                    body.push(bits.to_le_bytes()[0]);
                    bits >>= 8;
                    held -= 8;
                }
            }
        }
    }
}

/// A run of `count` times the same number of `width` bits.
pub(crate) fn run(body: &mut Vec<u8>, count: u32, number: u32, width: u32) {
    varint(body, u64::from(count) << 1);
    body.extend(number.to_le_bytes().iter().take(width.div_ceil(8) as usize));
}

fn varint(body: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        body.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    body.push(number.to_le_bytes()[0]);
}

fn short(number: usize) -> Result<u32, ParquetError> {
    u32::try_from(number).map_err(too_large)
}

fn long(number: u64) -> Result<i64, ParquetError> {
    i64::try_from(number).map_err(too_large)
}

fn too_large(error: std::num::TryFromIntError) -> ParquetError {
    ParquetError::General(error.to_string())
}
