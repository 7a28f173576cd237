//! Reading without the query engine: the rows of few entities, out of the few pages that hold them.
//!
//! | module | holds |
//! |---|---|
//! | `files` | the files of a table with the bounds of their rows, as the log says |
//! | `footer` | what is known of a file before its rows are read, kept in memory |
//! | `filter` | which rows are wanted, and where they may be |
//! | `rows` | the wanted rows of one file |
//!
//! Rows of one key may stand in several files: who asks adds them up, as `docs/lake.md` says.

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock},
};

use arrow::array::RecordBatch;
use datafusion::{common::runtime::SpawnedTask, error::DataFusionError, execution::memory_pool::MemoryReservation};
use deltalake::{DeltaTableError, kernel::EagerSnapshot};
use futures::{StreamExt, stream};
use gumshoe_model::{EntityKey, TimeWindow, Timestamp};
use object_store::ObjectStore;

use crate::{
    GraphLake, LakeError, Table,
    graph::{read, write},
};

mod files;
mod filter;
mod footer;
mod rows;

pub(crate) use files::File;
use files::Files;
use filter::Filter;
pub(crate) use footer::Footers;
pub use footer::Touched;
use footer::Touches;
use rows::{FileRows, Job};

/// Files of one look-up that are read at the same time.
const READERS: usize = 16;
/// Columns that name the entity of a row, in edges and entities.
const ENTITY: &[&str] = &["entity_type", "entity_id"];
/// Columns that name the other end of an edge.
const PEER: &[&str] = &["peer_type", "peer_id"];

/// Rows of some entities.
#[derive(Debug, Clone)]
pub struct Lookup<'a> {
    /// [`Table::Edges`] or [`Table::Entities`].
    pub table: Table,
    /// Whose rows.
    pub entities: &'a [EntityKey],
    /// Of edges, which hours.
    pub hours: Option<TimeWindow>,
    /// Of edges, the type and the id of the first peer that is wanted; rows of those before may come as well.
    pub since: Option<(String, String)>,
    /// The columns that are read.
    pub columns: &'static [&'static str],
    /// Rows that are looked at in each file before the first are handed over, about: few for who may want no more.
    pub first_rows: usize,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// With the file's next rows, and then with the next file.
    Rows,
    /// With the next file.
    File,
    /// Not at all.
    Nothing,
}

/// Memory of the query engine, for what is summed without it.
#[derive(Debug)]
pub struct Memory(pub(crate) MemoryReservation);

impl Memory {
    /// Takes or gives back memory, so that it is `bytes` in all.
    ///
    /// # Errors
    /// [`LakeError::Query`] when there is not so much; it stays what it was.
    pub fn resize(&mut self, bytes: usize) -> Result<(), LakeError> {
        Ok(self.0.try_resize(bytes)?)
    }
}

/// The files of a graph's tables, as of the latest commits seen.
pub(crate) struct Reading {
    graph: String,
    pub(crate) footers: Footers,
    /// In the order of [`Table::ALL`], as all that follows.
    stores: Vec<Arc<dyn ObjectStore>>,
    snapshots: RwLock<BTreeMap<Table, EagerSnapshot>>,
    files: RwLock<Vec<Arc<Files>>>,
}

impl Reading {
    pub(crate) fn new(graph: &str, footers: Footers, stores: Vec<Arc<dyn ObjectStore>>) -> Self {
        let files = RwLock::new(Table::ALL.map(|_| Arc::default()).to_vec());
        Self { graph: graph.to_owned(), footers, stores, snapshots: RwLock::default(), files }
    }

    /// From now on, a table is read as it stands in this snapshot.
    pub(crate) fn publish(&self, table: Table, snapshot: EagerSnapshot) {
        write(&self.snapshots).insert(table, snapshot);
    }

    /// Of a table, under the lake.
    fn folder(&self, table: Table) -> String {
        format!("{}/{}", self.graph, table.name())
    }

    fn store(&self, table: Table) -> Result<&Arc<dyn ObjectStore>, LakeError> {
        self.stores.get(table as usize).ok_or_else(|| DeltaTableError::NotATable(table.name().to_owned()).into())
    }

    /// The files of a table. They are looked up in its log once a version, by whoever asks first.
    pub(crate) fn files(&self, table: Table) -> Arc<Files> {
        let known = read(&self.files).get(table as usize).cloned().unwrap_or_default();
        let Some(snapshot) = read(&self.snapshots).get(&table).cloned() else { return known };
        if known.is_of(&snapshot) {
            return known;
        }
        let files = Arc::new(Files::of(table, &snapshot, &known));
        if let Some(slot) = write(&self.files).get_mut(table as usize) {
            *slot = Arc::clone(&files);
        }
        files
    }
}

impl GraphLake {
    /// Hands the rows of a look-up to `take`, file by file; within a file in the table's order.
    ///
    /// # Errors
    /// [`LakeError`] when a file cannot be read.
    pub async fn look_up(&self, lookup: Lookup<'_>, take: impl FnMut(&RecordBatch) -> Next) -> Result<Touched, LakeError> {
        let mut filter = Filter::new(ENTITY, lookup.entities.iter().map(|entity| vec![entity.kind.as_str().to_owned(), entity.id.clone()]).collect());
        if let Some(window) = lookup.hours {
            filter = filter.times("hour", window);
        }
        if let Some((kind, id)) = lookup.since {
            filter = filter.since(PEER, vec![kind, id]);
        }
        let files = self.files_of(lookup.table, lookup.hours, &filter);
        self.read(self.job(lookup.table, filter, lookup.columns, lookup.first_rows)?, files, take).await
    }

    /// How many days of `window` have a record of an account; of any, if it is empty.
    ///
    /// # Errors
    /// [`LakeError`] when a file cannot be read.
    pub async fn days_with_events(&self, account: &str, window: TimeWindow) -> Result<u32, LakeError> {
        let last = Timestamp(window.end().0 - 1).day();
        let days = stream::iter(window.start().day()..=last).map(|day| self.has_events(account, window, day)).buffer_unordered(READERS);
        let days: Vec<Result<bool, LakeError>> = days.collect().await;
        let mut count = 0;
        for day in days {
            count += u32::from(day?);
        }
        Ok(count)
    }

    async fn has_events(&self, account: &str, window: TimeWindow, day: i64) -> Result<bool, LakeError> {
        let filter = || {
            let filter = if account.is_empty() { Filter::new(&[], vec![Vec::new()]) } else { Filter::new(&["account"], vec![vec![account.to_owned()]]) };
            filter.times("time", window)
        };
        let asked = filter();
        let files: Vec<_> = self.reading.files(Table::Events).between(day, day).filter(|file| asked.may_be_in(file)).cloned().collect();
        let sure = |file: &Arc<files::File>| file.lies_in("time", window) && (account.is_empty() || file.holds_only("account", account));
        if files.iter().any(sure) {
            return Ok(true);
        }
        for file in files {
            // A file never changes: whether it has a record of the account at all is found out once.
            let whole = asked.times_in(&file).is_none();
            let path = format!("{}/{}", self.reading.folder(Table::Events), file.path);
            let known = if whole { self.reading.footers.has_account(&path, account) } else { None };
            let has = match known {
                Some(has) => has,
                None => {
                    let mut has = false;
                    let job = self.job(Table::Events, filter(), &["time"], usize::MAX)?;
                    self.read(job, vec![file], |_| {
                        has = true;
                        Next::Nothing
                    })
                    .await?;
                    if whole {
                        self.reading.footers.note_account(path, account, has);
                    }
                    has
                }
            };
            if has {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a finding may name an entity. What is not so for sure is to be asked of the table.
    ///
    /// # Errors
    /// [`LakeError`] when a file cannot be read.
    pub async fn may_have_findings(&self, entity: &EntityKey) -> Result<bool, LakeError> {
        let job = self.job(Table::Findings, Filter::new(&[], vec![Vec::new()]), &[], 0)?;
        let files: Vec<_> = self.reading.files(Table::Findings).all().cloned().collect();
        for file in files {
            let opened = job.footers.open(&job.store, &job.folder, &file, job.filtered, &job.touches).await?;
            for group in 0..opened.metadata().num_row_groups() {
                if opened.may_hold(group, &entity.id).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn files_of(&self, table: Table, window: Option<TimeWindow>, filter: &Filter) -> Vec<Arc<files::File>> {
        let files = self.reading.files(table);
        let wanted = |file: &&Arc<files::File>| filter.may_be_in(file);
        match window {
            Some(window) => files.between(window.start().day(), Timestamp(window.end().0 - 1).day()).filter(wanted).cloned().collect(),
            None => files.all().filter(wanted).cloned().collect(),
        }
    }

    fn job(&self, table: Table, filter: Filter, columns: &'static [&'static str], first_rows: usize) -> Result<Arc<Job>, LakeError> {
        Ok(Arc::new(Job {
            store: Arc::clone(self.reading.store(table)?),
            footers: self.reading.footers.clone(),
            folder: self.reading.folder(table),
            filter,
            columns,
            filtered: table.filtered(),
            first_rows,
            touches: Arc::new(Touches::default()),
        }))
    }

    async fn read(&self, job: Arc<Job>, files: Vec<Arc<files::File>>, mut take: impl FnMut(&RecordBatch) -> Next) -> Result<Touched, LakeError> {
        let touches = Arc::clone(&job.touches);
        let open = |file| {
            let mut file = FileRows::new(Arc::clone(&job), file);
            // On all cores, and given up with the look-up.
            SpawnedTask::spawn(async move { file.next().await.map(|rows| (file, rows)) })
        };
        let mut opened = stream::iter(files).map(open).buffered(READERS);
        while let Some(file) = opened.next().await {
            let (mut file, mut rows) = file.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??;
            while let Some(batch) = rows {
                match take(&batch) {
                    Next::Rows => rows = file.next().await?,
                    Next::File => break,
                    Next::Nothing => return Ok(touches.total()),
                }
            }
        }
        Ok(touches.total())
    }
}
