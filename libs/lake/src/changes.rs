//! What each commit did to a table, for those who keep something derived from it and do not want to read it all again.

use std::{future::ready, ops::Range, sync::Arc};

use arrow::{
    array::{BooleanArray, RecordBatch},
    error::ArrowError,
};
use bytes::Bytes;
use deltalake::kernel::Action;
use futures::{
    TryStreamExt,
    future::{BoxFuture, FutureExt as _},
};
use object_store::{ObjectStore, ObjectStoreExt as _, path::Path};
use parquet::{
    arrow::{
        ParquetRecordBatchStreamBuilder, ProjectionMask,
        arrow_reader::{ArrowPredicateFn, ArrowReaderOptions, RowFilter},
        async_reader::AsyncFileReader,
    },
    errors::ParquetError,
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};

use crate::{GraphLake, LakeError, Table, graph::day_of_path};

/// The version of every table, in the order of [`Table::ALL`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Versions(pub(crate) [u64; Table::ALL.len()]);

impl Versions {
    /// The version of one table.
    #[must_use]
    pub fn of(&self, table: Table) -> u64 {
        self.0.get(table as usize).copied().unwrap_or_default()
    }

    /// Sets the version of one table.
    pub fn set(&mut self, table: Table, version: u64) {
        if let Some(slot) = self.0.get_mut(table as usize) {
            *slot = version;
        }
    }

    /// Every table at the later of two versions.
    pub fn advance(&mut self, other: &Self) {
        for (version, other) in self.0.iter_mut().zip(other.0) {
            *version = other.max(*version);
        }
    }

    /// Grows with every commit to any table.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// A data file that a commit added.
#[derive(Debug, Clone)]
pub enum Addition {
    /// At hand, since this process has just written it.
    Here(Bytes),
    /// In the store.
    Stored {
        /// Below the table.
        path: Path,
        /// Its length in bytes.
        bytes: u64,
    },
}

/// What a commit did to the rows of a table.
#[derive(Debug, Clone)]
pub enum Change {
    /// It added the rows of these files, if there are any.
    Added(Vec<Addition>),
    /// It removed rows; of a table that is kept by day, of this day (since the epoch) at the latest.
    Removed {
        /// None where days are not told apart.
        last_day: Option<i64>,
    },
    /// Its log entry is gone.
    Unknown,
}

/// Says of rows which are wanted.
pub type Test = Box<dyn FnMut(&RecordBatch) -> Result<BooleanArray, ArrowError> + Send>;

/// Which rows are wanted: columns of text, and what their values must be.
pub struct Wanted {
    /// The columns that `test` looks at.
    pub columns: &'static [&'static str],
    /// For a batch of these columns, which rows are wanted.
    pub test: Test,
}

impl GraphLake {
    /// What the commit with a version did to a table. Files that were merged are no change.
    ///
    /// # Errors
    /// [`LakeError::Delta`] when the store does not answer.
    pub async fn change(&self, table: Table, version: u64) -> Result<Change, LakeError> {
        let log_store = self.table(table).await?.log_store();
        let Some(bytes) = log_store.read_commit_entry(version).await? else { return Ok(Change::Unknown) };
        let (mut files, mut removed, mut last_day) = (Vec::new(), false, None);
        for action in deltalake::logstore::get_actions(version, &bytes)? {
            match action {
                Action::Add(file) if file.data_change => {
                    let path = Path::from_url_path(&file.path).map_err(object_store::Error::from)?;
                    files.push(Addition::Stored { path, bytes: u64::try_from(file.size).unwrap_or_default() });
                }
                Action::Remove(file) if file.data_change => {
                    removed = true;
                    last_day = last_day.max(day_of_path(&file.path));
                }
                _ => {}
            }
        }
        // What is added then are the rows that stay.
        Ok(if removed { Change::Removed { last_day } } else { Change::Added(files) })
    }

    /// Some columns of the rows of a file that are wanted; of all rows without `wanted`. Columns that the file does not
    /// have are left out.
    ///
    /// # Errors
    /// [`LakeError`] when the file cannot be read.
    pub async fn rows(&self, table: Table, file: &Addition, columns: &[&str], wanted: Option<Wanted>) -> Result<Vec<RecordBatch>, LakeError> {
        let reader = match file {
            Addition::Here(bytes) => Reader::Here(bytes.clone()),
            Addition::Stored { path, bytes } => Reader::Stored { store: self.table(table).await?.object_store(), path: path.clone(), bytes: *bytes },
        };
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await?;
        let rows = select(builder, columns, wanted).build()?.try_filter(|rows| ready(rows.num_rows() > 0));
        Ok(rows.try_collect().await?)
    }
}

fn select(builder: ParquetRecordBatchStreamBuilder<Reader>, columns: &[&str], wanted: Option<Wanted>) -> ParquetRecordBatchStreamBuilder<Reader> {
    let mask = |columns: &[&str]| ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    let projection = mask(columns);
    let filter = wanted.map(|Wanted { columns, mut test }| {
        let predicate = ArrowPredicateFn::new(mask(columns), move |rows| test(&rows));
        RowFilter::new(vec![Box::new(predicate)])
    });
    let builder = builder.with_projection(projection);
    match filter {
        Some(filter) => builder.with_row_filter(filter),
        None => builder,
    }
}

/// A Parquet file in memory or in the store.
enum Reader {
    Here(Bytes),
    Stored { store: Arc<dyn ObjectStore>, path: Path, bytes: u64 },
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            match self {
                Self::Stored { store, path, .. } => Ok(store.get_range(path, range).await?),
                Self::Here(bytes) => {
                    let ends = (usize::try_from(range.start), usize::try_from(range.end));
                    match ends {
                        (Ok(start), Ok(end)) if start <= end && end <= bytes.len() => Ok(bytes.slice(start..end)),
                        _ => Err(ParquetError::EOF("the file is shorter than its metadata say".to_owned())),
                    }
                }
            }
        }
        .boxed()
    }

    fn get_metadata<'a>(&'a mut self, _: Option<&'a ArrowReaderOptions>) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let length = match self {
                Self::Here(bytes) => u64::try_from(bytes.len()).unwrap_or_default(),
                Self::Stored { bytes, .. } => *bytes,
            };
            Ok(Arc::new(ParquetMetaDataReader::new().load_and_finish(self, length).await?))
        }
        .boxed()
    }
}
