//! Batches into every table, each once, whichever process writes.
//!
//! A table takes a batch at exactly the version that this process has seen in full. If another process was first, what it
//! committed is read before the next try: a batch that is in the table by now, or an event that is, must not come again.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use arrow::{
    array::{ArrayRef, Date32Array, Int64Array, StringArray, TimestampMicrosecondArray},
    record_batch::RecordBatch,
};
use async_trait::async_trait;
use deltalake::{
    DeltaTable, DeltaTableError,
    kernel::{
        Action, Add, Transaction,
        transaction::{CommitBuilder, CommitProperties, TransactionError},
    },
    protocol::{DeltaOperation, SaveMode},
    table::state::DeltaTableState,
};
use futures::future::try_join_all;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, path::Path};
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};

use crate::{
    DataFile, LakeError, Table,
    graph::{self, BatchCounts, GraphLake, MAINTENANCE, date, day_of_path, hash, read, tail, write},
};

/// How many batches are remembered a table beyond those of its last commits.
const MAX_TAIL_BATCHES: usize = 100_000;
/// For how long what this process has seen counts as the latest.
const FRESH: Duration = Duration::from_secs(1);

/// Batches that are committed together.
#[derive(Debug, Default)]
pub struct Group {
    /// The batches and what becomes of them.
    pub batches: Vec<(String, BatchCounts)>,
    /// Their rows. A file for [`Table::Batches`] is made by staging.
    pub files: Vec<DataFile>,
}

/// A group whose files are stored, but that no table refers to yet.
#[derive(Debug)]
pub struct Staged {
    batches: Vec<(String, BatchCounts)>,
    files: BTreeMap<Table, Vec<Add>>,
    /// Tables that had the batches before.
    had: HashSet<Table>,
}

impl Staged {
    /// The batches and what becomes of them.
    #[must_use]
    pub fn batches(&self) -> &[(String, BatchCounts)] {
        &self.batches
    }
}

/// Which events this process is about to commit.
#[async_trait]
pub trait Claims: Send + Sync {
    /// Notes events that another process committed, the columns `time` and `event_id`; whether none of them is about to be committed
    /// here.
    async fn admit(&self, events: &[RecordBatch]) -> bool;
}

/// No events at all: for who writes alone.
#[derive(Debug, Clone, Copy)]
pub struct Alone;

#[async_trait]
impl Claims for Alone {
    async fn admit(&self, _: &[RecordBatch]) -> bool {
        true
    }
}

/// A file of events that another process committed.
#[derive(Debug)]
pub(crate) enum Foreign {
    File(Box<Add>),
    /// The log does not say any more which.
    Forgotten,
}

impl GraphLake {
    /// From now on other processes' events are kept in mind for [`Self::commit`]. To be called before events are read to tell
    /// duplicates by.
    pub fn begin_writing(&self) {
        self.foreign().get_or_insert_default();
    }

    fn foreign(&self) -> std::sync::MutexGuard<'_, Option<Vec<Foreign>>> {
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the files of a group, but those for tables that have its batches already, so that a retry writes only what is
    /// missing. A partial batch must come in a group of its own.
    ///
    /// # Errors
    /// [`LakeError`] when the store does not answer. Files that were stored are removed by a later vacuum.
    pub async fn stage(&self, mut group: Group) -> Result<Staged, LakeError> {
        let last_day = group.files.iter().filter(|file| file.table == Table::Events).filter_map(|file| file.day).max();
        group.files.push(batches_file(&group.batches, last_day)?);
        let had: HashSet<Table> = Table::ALL.into_iter().filter(|table| group.batches.iter().all(|(id, _)| self.is_in(*table, id))).collect();
        let files = self.upload(group.files.into_iter().filter(|file| !had.contains(&file.table))).await?;
        Ok(Staged { batches: group.batches, files, had })
    }

    /// Commits a group to every table, each with an application transaction a batch, and returns when all are durable: the versions
    /// at which tables took it, where they are known.
    ///
    /// # Errors
    /// [`LakeError`] when a table could not be committed, [`LakeError::Overtaken`] among them; those before it stay committed,
    /// and the batches are partial.
    pub async fn commit(&self, staged: &Staged, claims: &dyn Claims) -> Result<Vec<(Table, u64)>, LakeError> {
        let batches: Vec<&str> = staged.batches.iter().map(|(id, _)| id.as_str()).collect();
        let files = |table: Table| staged.files.get(&table).map_or(&[] as &[Add], Vec::as_slice);
        let [events, edges, entities, findings, dead_letters, volumes, done] = Table::ALL;
        let mut versions = Vec::new();
        // Without events none can be a duplicate: what the writer has to be told of others' stays for its next group.
        if !staged.had.contains(&events) && !files(events).is_empty() {
            versions.extend(self.commit_table(events, files(events), &batches, Some(claims)).await?);
        }
        let following = [edges, entities, findings, dead_letters, volumes];
        versions.extend(try_join_all(following.map(|table| self.commit_table(table, files(table), &batches, None))).await?.into_iter().flatten());
        self.commit_table(done, files(done), &batches, None).await?;
        write(&self.committed).extend(staged.batches.iter().map(|(id, counts)| (hash(id), *counts)));
        self.publish().await?;
        Ok(versions)
    }

    /// Commits what follows from the events of one unfinished batch. The batch stays [`graph::Progress::Partial`]: what was
    /// not parsed of it is known to its sender only.
    ///
    /// # Errors
    /// [`LakeError`] when a table could not be committed.
    pub async fn complete(&self, batch_id: &str, files: Vec<DataFile>) -> Result<(), LakeError> {
        let tables = [Table::Edges, Table::Entities, Table::Findings, Table::Volumes];
        let missing = files.into_iter().filter(|file| tables.contains(&file.table) && !self.is_in(file.table, batch_id));
        let files = self.upload(missing).await?;
        for table in tables {
            self.commit_table(table, files.get(&table).map_or(&[], Vec::as_slice), &[batch_id], None).await?;
        }
        self.publish().await
    }

    async fn upload(&self, files: impl Iterator<Item = DataFile>) -> Result<BTreeMap<Table, Vec<Add>>, LakeError> {
        let uploads = files.map(|file| async {
            let store = self.table(file.table).await?.object_store();
            Ok::<_, LakeError>((file.table, upload(store, file).await?))
        });
        let mut uploaded: BTreeMap<Table, Vec<Add>> = BTreeMap::new();
        for (table, add) in try_join_all(uploads).await? {
            uploaded.entry(table).or_default().push(add);
        }
        Ok(uploaded)
    }

    /// Commits files of some batches to a table that has none of them; the version at which it took them, if that is known.
    async fn commit_table(&self, table: Table, files: &[Add], batches: &[&str], claims: Option<&dyn Claims>) -> Result<Option<(Table, u64)>, LakeError> {
        let mut version = None;
        // INVARIANT: one commit at a time a table, so that versions follow the order of groups.
        let mut delta = self.table(table).await?;
        loop {
            let there = batches.iter().filter(|batch| self.is_in(table, batch)).count();
            if there == batches.len() && table != Table::Events {
                return Ok(None);
            }
            if there > 0 {
                return Err(LakeError::Overtaken);
            }
            if let Some(claims) = claims {
                self.admit_foreign(&delta, claims).await?;
            }
            // A table without rows in this group needs no commit: there is nothing that a retry could double.
            if files.is_empty() {
                break;
            }
            if self.try_commit(table, &mut delta, files, batches).await? {
                version = delta.version().map(|version| (table, version));
                break;
            }
            let before = delta.version();
            delta.update_state().await?;
            // The store may have taken the commit without our hearing of it.
            if self.note(table, &mut delta, before, files).await? {
                return Ok(None);
            }
        }
        if let Some(days) = write(&self.days).get_mut(table as usize) {
            days.extend(files.iter().filter_map(|file| day_of_path(&file.path)));
        }
        self.note_batches(table, batches.iter().map(|batch| (*batch).to_owned()));
        Ok(version)
    }

    /// Tells the writer of events that other processes committed.
    async fn admit_foreign(&self, delta: &DeltaTable, claims: &dyn Claims) -> Result<(), LakeError> {
        let foreign = self.foreign().as_mut().map(std::mem::take).unwrap_or_default();
        let mut admitted = true;
        for file in foreign {
            let Foreign::File(file) = file else {
                admitted = false;
                continue;
            };
            let rows = match columns(delta.object_store(), &file, &["time", "event_id"]).await {
                Ok(rows) => rows,
                // Merged and removed since; or the store fails, and then a writer that starts anew reads what it needs.
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, path = file.path, "another process's events cannot be read");
                    admitted = false;
                    continue;
                }
            };
            admitted &= claims.admit(&rows).await;
        }
        if admitted { Ok(()) } else { Err(LakeError::Overtaken) }
    }

    /// Commits at the next version; false if another process has taken it.
    async fn try_commit(&self, table: Table, delta: &mut DeltaTable, files: &[Add], batches: &[&str]) -> Result<bool, LakeError> {
        let transactions = batches.iter().map(|batch| Transaction::new(batch, 1)).collect();
        // Old log files are removed by maintenance: looking for them would make each commit slower than the one before.
        let properties = CommitProperties::default().with_application_transactions(transactions).with_cleanup_expired_logs(Some(false)).with_max_retries(0);
        let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: table.by_day().then(|| vec!["date".to_owned()]), predicate: None };
        let snapshot = delta.snapshot()?.clone();
        let actions = files.iter().cloned().map(Action::Add).collect();
        match CommitBuilder::from(properties).with_actions(actions).build(Some(&snapshot), delta.log_store(), operation).await {
            Ok(commit) => {
                delta.state = Some(commit.snapshot());
                Ok(true)
            }
            Err(DeltaTableError::Transaction { source: TransactionError::MaxCommitAttempts(_) | TransactionError::VersionAlreadyExists(_) }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Sees what other processes have committed, if nobody has looked for a second.
    ///
    /// # Errors
    /// [`LakeError`] when the store does not answer.
    pub async fn freshen(&self) -> Result<(), LakeError> {
        // Who is looking already looks for all.
        let Ok(mut checked) = self.checked.try_lock() else { return Ok(()) };
        if checked.is_some_and(|checked| checked.elapsed() < FRESH) {
            return Ok(());
        }
        let (log_store, next) = {
            // The last table of every commit: when it has not moved, nothing is complete that has not been seen.
            let delta = self.table(Table::Batches).await?;
            (delta.log_store(), delta.snapshot()?.version() + 1)
        };
        if log_store.read_commit_entry(next).await?.is_some() {
            self.catch_up().await?;
        }
        *checked = Some(Instant::now());
        Ok(())
    }

    /// Sees what other processes have committed.
    ///
    /// # Errors
    /// [`LakeError`] when the store does not answer.
    pub async fn catch_up(&self) -> Result<(), LakeError> {
        // The other way round than commits, so that what is seen of the last table is seen of all.
        for table in Table::ALL.into_iter().rev() {
            let mut delta = self.table(table).await?;
            self.follow(table, &mut delta).await?;
        }
        Ok(())
    }

    /// Sees what other processes have committed to a table.
    pub(crate) async fn follow(&self, table: Table, delta: &mut DeltaTable) -> Result<(), LakeError> {
        let before = delta.version();
        delta.update_state().await?;
        self.note(table, delta, before, &[]).await.map(drop)
    }

    /// Reads a table from its latest checkpoint on.
    pub(crate) async fn reload(&self, table: Table, delta: &mut DeltaTable) -> Result<(), LakeError> {
        let before = delta.version();
        delta.state = None;
        delta.load().await?;
        self.note(table, delta, before, &[]).await.map(drop)
    }

    /// Goes on to what a commit of this process has made of a table.
    pub(crate) async fn advance(&self, table: Table, delta: &mut DeltaTable, state: DeltaTableState) -> Result<(), LakeError> {
        let before = delta.version();
        delta.state = Some(state);
        self.note(table, delta, before, &[]).await.map(drop)
    }

    /// Notes what was committed since a version: batches, days, and files of events for the writer. Whether `ours` are among the files.
    async fn note(&self, table: Table, delta: &mut DeltaTable, before: Option<u64>, ours: &[Add]) -> Result<bool, LakeError> {
        let (log_store, latest) = (delta.log_store(), delta.snapshot()?.version());
        let first = before.map_or(0, |before| before + 1);
        if first > latest {
            return Ok(false);
        }
        // INVARIANT: what the writer is told of is visible to queries.
        self.publish_table(table, delta).await?;
        let mut found = false;
        for version in first..=latest {
            let Some(bytes) = log_store.read_commit_entry(version).await? else {
                self.note_forgotten(table, delta).await?;
                break;
            };
            let (mut batches, mut files) = (Vec::new(), Vec::new());
            let mut maintained = false;
            for action in deltalake::logstore::get_actions(version, &bytes)? {
                match action {
                    Action::Txn(transaction) if transaction.app_id == MAINTENANCE => maintained = true,
                    Action::Txn(transaction) => batches.push(transaction.app_id),
                    Action::Add(file) => files.push(file),
                    _ => {}
                }
            }
            if maintained {
                continue;
            }
            if let Some(days) = write(&self.days).get_mut(table as usize) {
                days.extend(files.iter().filter_map(|file| day_of_path(&file.path)));
            }
            let is_ours = files.iter().any(|file| ours.iter().any(|our| our.path == file.path));
            found |= is_ours;
            if table == Table::Batches {
                for file in &files {
                    for rows in columns(delta.object_store(), file, &["batch_id", "events", "duplicates", "dead_letters"]).await? {
                        write(&self.committed).extend(graph::counts_of(&rows));
                    }
                }
            }
            if table == Table::Events
                && !is_ours
                && let Some(foreign) = self.foreign().as_mut()
            {
                foreign.extend(files.into_iter().map(|file| Foreign::File(Box::new(file))));
            }
            self.note_batches(table, batches);
        }
        Ok(found)
    }

    /// Notes a table whose log does not reach back to what was seen last.
    async fn note_forgotten(&self, table: Table, delta: &DeltaTable) -> Result<(), LakeError> {
        self.note_days(table, delta)?;
        self.note_batches(table, tail(delta).await?);
        if table == Table::Batches {
            let committed = self.read_batches().await?;
            write(&self.committed).extend(committed);
        }
        if table == Table::Events
            && let Some(foreign) = self.foreign().as_mut()
        {
            foreign.push(Foreign::Forgotten);
        }
        Ok(())
    }

    fn note_batches(&self, table: Table, batches: impl IntoIterator<Item = String>) {
        if let Some(tail) = write(&self.tails).get_mut(table as usize) {
            // Only batches that are not in every table matter.
            if tail.len() > MAX_TAIL_BATCHES {
                let committed = read(&self.committed);
                tail.retain(|batch| !committed.contains_key(&hash(batch)));
            }
            tail.extend(batches);
        }
    }
}

/// Some columns of a file, in the order that they are asked for.
async fn columns(store: Arc<dyn ObjectStore>, file: &Add, names: &[&str]) -> Result<Vec<RecordBatch>, LakeError> {
    let bytes = store.get(&Path::from(file.path.as_str())).await?.bytes().await?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), names.iter().copied());
    let rows: Vec<RecordBatch> = builder.with_projection(mask).build()?.collect::<Result<_, _>>()?;
    let ordered = |rows: &RecordBatch| {
        let order = names.iter().map(|name| rows.schema().index_of(name)).collect::<Result<Vec<_>, _>>()?;
        rows.project(&order)
    };
    Ok(rows.iter().map(ordered).collect::<Result<_, _>>()?)
}

async fn upload(store: Arc<dyn ObjectStore>, file: DataFile) -> Result<Add, LakeError> {
    let date = file.day.map(date);
    let name = format!("part-{}.parquet", uuid::Uuid::now_v7());
    let path = date.as_ref().map_or_else(|| name.clone(), |date| format!("date={date}/{name}"));
    let size = i64::try_from(file.bytes.len()).unwrap_or(i64::MAX);
    store.put(&Path::from(path.as_str()), PutPayload::from_bytes(file.bytes)).await?;
    Ok(Add {
        path,
        partition_values: date.map(|date| ("date".to_owned(), Some(date))).into_iter().collect(),
        size,
        modification_time: chrono::Utc::now().timestamp_millis(),
        data_change: true,
        stats: Some(file.statistics),
        ..Add::default()
    })
}

/// The file of a group's batches; `last_day` is the last day of their events.
fn batches_file(batches: &[(String, BatchCounts)], last_day: Option<i64>) -> Result<DataFile, LakeError> {
    let count = |get: fn(&BatchCounts) -> u64| Arc::new(batches.iter().map(|(_, counts)| i64::try_from(get(counts)).ok()).collect::<Int64Array>()) as ArrayRef;
    let now = chrono::Utc::now().timestamp_micros();
    let last_days: Date32Array = batches.iter().map(|_| last_day.and_then(|day| i32::try_from(day).ok())).collect();
    let rows = RecordBatch::try_new(
        Table::Batches.schema(),
        vec![
            Arc::new(StringArray::from_iter_values(batches.iter().map(|(id, _)| id))),
            count(|counts| counts.events),
            count(|counts| counts.duplicates),
            count(|counts| counts.dead_letters),
            Arc::new(TimestampMicrosecondArray::from_value(now, batches.len()).with_timezone("UTC")),
            Arc::new(last_days),
        ],
    )?;
    crate::encode(Table::Batches, None, &rows)
}
