//! What a reader knows of a file before it reads rows: the footer, and when they are asked for, the places and bounds of
//! pages and the filters of row groups. Files never change, so it stays in memory for as long as there is room.

use std::{
    io::Cursor,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use moka::sync::Cache;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use parquet::{
    arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
    bloom_filter::Sbbf,
    errors::ParquetError,
    file::{
        FOOTER_SIZE,
        metadata::{ColumnChunkMetaData, FooterTail, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader},
        reader::{ChunkReader, Length},
    },
};
use tokio::sync::OnceCell;

use super::files::File;
use crate::LakeError;

/// Bytes of a file's end that are read at once: the footer, the places of pages and the filters of most files.
const TAIL_BYTES: u64 = 128 * 1024;

/// What was read to answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Touched {
    /// Files whose footer was looked at.
    pub files: u64,
    /// Of those, files of which rows were read.
    pub files_read: u64,
    /// Pages of rows, without dictionaries.
    pub pages: u64,
    /// Bytes that came from the store.
    pub bytes: u64,
}

/// Counts [`Touched`] while files are read side by side.
#[derive(Debug, Default)]
pub(crate) struct Touches {
    pub(crate) files: AtomicU64,
    pub(crate) files_read: AtomicU64,
    pub(crate) pages: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

impl Touches {
    pub(crate) fn total(&self) -> Touched {
        let [files, files_read, pages, bytes] = [&self.files, &self.files_read, &self.pages, &self.bytes].map(|count| count.load(Ordering::Relaxed));
        Touched { files, files_read, pages, bytes }
    }
}

/// Adds to a count.
pub(crate) fn add(count: &AtomicU64, number: usize) {
    count.fetch_add(u64::try_from(number).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Parts of a file.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    bytes: u64,
    /// By their places; they do not overlap.
    parts: Arc<Vec<(u64, Bytes)>>,
}

impl Parts {
    pub(crate) fn new(bytes: u64, mut parts: Vec<(u64, Bytes)>) -> Self {
        parts.sort_unstable_by_key(|(start, _)| *start);
        Self { bytes, parts: Arc::new(parts) }
    }

    fn from(&self, start: u64) -> Option<Bytes> {
        let (place, part) = self.parts.get(self.parts.partition_point(|(place, _)| *place <= start).checked_sub(1)?)?;
        let skipped = usize::try_from(start - place).ok().filter(|skipped| *skipped <= part.len())?;
        Some(part.slice(skipped..))
    }

    fn get(&self, range: Range<u64>) -> Option<Bytes> {
        let length = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        self.from(range.start).filter(|part| part.len() >= length).map(|part| part.slice(..length))
    }
}

impl Length for Parts {
    fn len(&self) -> u64 {
        self.bytes
    }
}

fn not_there(start: u64) -> ParquetError {
    ParquetError::EOF(format!("what lies at {start} was not read"))
}

impl ChunkReader for Parts {
    type T = Cursor<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        self.from(start).map(Cursor::new).ok_or_else(|| not_there(start))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let end = start.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        self.get(start..end).ok_or_else(|| not_there(start))
    }
}

/// A file as its reader sees it.
pub(crate) struct Opened {
    store: Arc<dyn ObjectStore>,
    path: Path,
    touches: Arc<Touches>,
    footer: Arc<Footer>,
    /// The end of the file, if this reader has just read it.
    tail: Option<Parts>,
}

struct Footer {
    bytes: u64,
    metadata: ParquetMetaData,
    /// With the places and bounds of pages.
    indexed: OnceCell<ArrowReaderMetadata>,
    /// Of each row group, for the column that has one.
    filters: Vec<OnceCell<Option<Sbbf>>>,
    filtered: Option<usize>,
}

/// What is known of files, by their paths under the lake.
#[derive(Clone)]
pub(crate) struct Footers {
    footers: Cache<String, Arc<Footer>>,
    /// Whether a file of events has a record of an account.
    accounts: Cache<(String, String), bool>,
}

impl std::fmt::Debug for Footers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Footers").field("bytes", &self.footers.weighted_size()).finish_non_exhaustive()
    }
}

impl Footers {
    /// Knowledge that takes about so many bytes of memory.
    pub(crate) fn new(memory_bytes: u64) -> Self {
        let small = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let footers = Cache::builder().weigher(move |path: &String, footer: &Arc<Footer>| small(path.len() + footer.weight()));
        let accounts = Cache::builder().weigher(move |(path, account): &(String, String), _: &bool| small(path.len() + account.len() + 64));
        Self { footers: footers.max_capacity(memory_bytes / 8 * 7).build(), accounts: accounts.max_capacity(memory_bytes / 8).build() }
    }

    /// Whether a file has a record of an account, if that is known.
    pub(crate) fn has_account(&self, path: &str, account: &str) -> Option<bool> {
        self.accounts.get(&(path.to_owned(), account.to_owned()))
    }

    pub(crate) fn note_account(&self, path: String, account: &str, has: bool) {
        self.accounts.insert((path, account.to_owned()), has);
    }

    /// Opens a file. `filtered` is the column with a filter a row group.
    pub(crate) async fn open(
        &self,
        store: &Arc<dyn ObjectStore>,
        folder: &str,
        file: &File,
        filtered: Option<&str>,
        touches: &Arc<Touches>,
    ) -> Result<Opened, LakeError> {
        add(&touches.files, 1);
        let opened = |footer, tail| Opened { store: Arc::clone(store), path: file.path.clone(), touches: Arc::clone(touches), footer, tail };
        let key = format!("{folder}/{}", file.path);
        if let Some(footer) = self.footers.get(&key) {
            return Ok(opened(footer, None));
        }
        let read = |range: Range<u64>| {
            add(&touches.bytes, usize::try_from(range.end - range.start).unwrap_or(usize::MAX));
            store.get_range(&file.path, range)
        };
        let mut start = file.bytes.saturating_sub(TAIL_BYTES);
        let mut tail = read(start..file.bytes).await?;
        let footer_bytes = match tail.last_chunk::<FOOTER_SIZE>() {
            Some(end) => FooterTail::try_new(end)?.metadata_length() + FOOTER_SIZE,
            None => return Err(ParquetError::EOF(format!("`{}` is too short", file.path)).into()),
        };
        if footer_bytes > tail.len() {
            start = file.bytes.saturating_sub(u64::try_from(footer_bytes).unwrap_or(u64::MAX));
            tail = read(start..file.bytes).await?;
        }
        let encoded = tail.len().checked_sub(footer_bytes).and_then(|from| tail.get(from..tail.len() - FOOTER_SIZE));
        let encoded = encoded.ok_or_else(|| ParquetError::EOF(format!("`{}` is too short", file.path)))?;
        let footer = Arc::new(Footer::new(file.bytes, ParquetMetaDataReader::decode_metadata(encoded)?, filtered));
        self.footers.insert(key, Arc::clone(&footer));
        Ok(opened(footer, Some(Parts::new(file.bytes, vec![(start, tail)]))))
    }
}

impl Footer {
    fn new(bytes: u64, metadata: ParquetMetaData, filtered: Option<&str>) -> Self {
        let columns = metadata.file_metadata().schema_descr().columns();
        let filtered = filtered.and_then(|name| columns.iter().position(|column| column.path().string() == name));
        let filters = metadata.row_groups().iter().map(|_| OnceCell::new()).collect();
        Self { bytes, metadata, indexed: OnceCell::new(), filters, filtered }
    }

    /// Bytes of memory once all of it is known, about.
    fn weight(&self) -> usize {
        let filter = |column: &ColumnChunkMetaData| usize::try_from(column.bloom_filter_length().unwrap_or(0)).unwrap_or(0);
        let groups = self.metadata.row_groups().iter();
        let filters: usize = groups.filter_map(|group| group.columns().get(self.filtered?)).map(filter).sum();
        let index = index_range(&self.metadata).map_or(0, |range| usize::try_from(range.end - range.start).unwrap_or(0));
        // Twice the metadata, as it is kept with and without its index, and numbers are larger in memory.
        2 * self.metadata.memory_size() + 3 * index + filters
    }
}

/// Where the places and bounds of all pages lie.
fn index_range(metadata: &ParquetMetaData) -> Option<Range<u64>> {
    let ranges = |column: &ColumnChunkMetaData| {
        let range = |offset: Option<i64>, length: Option<i32>| {
            let start = u64::try_from(offset?).ok()?;
            Some(start..start.saturating_add(u64::try_from(length?).ok()?))
        };
        [range(column.column_index_offset(), column.column_index_length()), range(column.offset_index_offset(), column.offset_index_length())]
    };
    let all = metadata.row_groups().iter().flat_map(|group| group.columns()).flat_map(ranges).flatten();
    all.reduce(|one, other| one.start.min(other.start)..one.end.max(other.end))
}

impl Opened {
    pub(crate) fn metadata(&self) -> &ParquetMetaData {
        &self.footer.metadata
    }

    pub(crate) fn touches(&self) -> &Touches {
        &self.touches
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes, LakeError> {
        if let Some(bytes) = self.tail.as_ref().and_then(|tail| tail.get(range.clone())) {
            return Ok(bytes);
        }
        add(&self.touches.bytes, usize::try_from(range.end - range.start).unwrap_or(usize::MAX));
        Ok(self.store.get_range(&self.path, range).await?)
    }

    /// Parts of the file; those that lie close together are read as one where that is faster.
    pub(crate) async fn parts(&self, ranges: &[Range<u64>]) -> Result<Parts, LakeError> {
        let read = |range: &Range<u64>| self.tail.as_ref().and_then(|tail| tail.get(range.clone()));
        let known: Option<Vec<Bytes>> = ranges.iter().map(read).collect();
        let parts = match known {
            Some(known) => known,
            None => {
                add(&self.touches.bytes, usize::try_from(ranges.iter().map(|range| range.end - range.start).sum::<u64>()).unwrap_or(usize::MAX));
                self.store.get_ranges(&self.path, ranges).await?
            }
        };
        Ok(Parts::new(self.footer.bytes, ranges.iter().map(|range| range.start).zip(parts).collect()))
    }

    /// Whether a row group may hold `value` in the column that has filters.
    pub(crate) async fn may_hold(&self, group: usize, value: &str) -> Result<bool, LakeError> {
        let Some(filter) = self.footer.filters.get(group) else { return Ok(true) };
        let filter = filter.get_or_try_init(|| async {
            let column = self.footer.filtered.and_then(|column| self.footer.metadata.row_groups().get(group)?.columns().get(column));
            let place =
                column.and_then(|column| Some((u64::try_from(column.bloom_filter_offset()?).ok()?, u64::try_from(column.bloom_filter_length()?).ok()?)));
            let Some((start, length)) = place else { return Ok::<_, LakeError>(None) };
            Ok(Some(Sbbf::from_bytes(&self.read(start..start.saturating_add(length)).await?)?))
        });
        Ok(filter.await?.as_ref().is_none_or(|filter| filter.check(value)))
    }

    /// The metadata with the places and bounds of pages, where the file has them.
    pub(crate) async fn indexed(&self) -> Result<&ArrowReaderMetadata, LakeError> {
        let load = || async {
            let mut reader = ParquetMetaDataReader::new_with_metadata(self.footer.metadata.clone()).with_page_index_policy(PageIndexPolicy::Optional);
            if let Some(range) = index_range(&self.footer.metadata) {
                let parts = Parts::new(self.footer.bytes, vec![(range.start, self.read(range).await?)]);
                reader.read_page_indexes_sized(&parts, self.footer.bytes)?;
            }
            let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
            Ok(ArrowReaderMetadata::try_new(Arc::new(reader.finish()?), options)?)
        };
        self.footer.indexed.get_or_try_init(load).await
    }
}
