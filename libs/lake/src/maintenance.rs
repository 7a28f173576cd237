//! Keeping the tables of a graph readable: small files merged into large ones, old rows and unused files removed.
//!
//! | module | holds |
//! |---|---|
//! | `plan` | which files are merged next |
//! | `merge` | several files into one, row by row |
//!
//! Files are written first, and a table changes only with the commit that puts them in the place of others: readers see
//! the rows before or after, and what is cut off leaves files that nothing refers to. A table is held for the commit alone.
//! Of two processes that maintain a graph at once, the later commit fails: both carry a transaction of the same name.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use datafusion::execution::object_store::ObjectStoreUrl;
use deltalake::{
    DeltaTable, DeltaTableError,
    kernel::{
        Action, Transaction,
        transaction::{CommitBuilder, CommitConflictError, CommitProperties, TransactionError},
    },
    protocol::DeltaOperation,
};
use futures::{StreamExt, TryStreamExt};
use gumshoe_model::Timestamp;
use tokio::sync::MutexGuard;

use crate::{GraphLake, LakeError, Table, graph::MAINTENANCE};

mod merge;
mod plan;

use merge::{Merge, Source, Written};
use plan::{File, Run};

/// Memory of all merges of this process before they spill to disk. What a merge reads and writes comes on top: a batch and a
/// row group of each run.
pub(crate) const MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// How files are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of Parquet in a file, about; what is larger is cut into several.
    pub target_file_bytes: u64,
    /// Runs of one level that become one of the next, at least 2: a level holds runs up to so many times the size of the one
    /// below.
    pub min_files: usize,
}

/// Says whether a process may still commit what it has merged.
#[async_trait]
pub trait Fence: Send + Sync {
    /// Asked right before each commit.
    async fn holds(&self) -> bool;
}

/// What merging has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Merges, a commit each.
    pub merges: u64,
    /// Files that were merged.
    pub files_removed: u64,
    /// Files that took their place.
    pub files_added: u64,
    /// Bytes of those.
    pub bytes_added: u64,
}

/// What retention has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    /// Days of events and edges that are gone.
    pub days: u64,
    /// Files that were removed, or written again without their old rows.
    pub files: u64,
}

/// What vacuuming has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vacuumed {
    /// Data files deleted.
    pub files: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Files of Delta logs deleted.
    pub log_files: u64,
}

impl GraphLake {
    /// Merges files until no level of any table has too many. Rows stay what they are, but edges of one key become one row,
    /// and so do entities.
    ///
    /// # Errors
    /// [`LakeError::Superseded`] and [`LakeError::Removed`] end it at once; another failure is told when all other tables
    /// are done. What was committed before stays.
    pub async fn compact(&self, layout: Layout, now: Timestamp, fence: &dyn Fence) -> Result<Compacted, LakeError> {
        let _alone = self.alone().await?;
        let mut done = Compacted::default();
        let mut failure = None;
        for table in Table::ALL {
            for (day, mut runs) in plan::runs(self.files(table).await?) {
                while let Some(taken) = plan::take_next(table, day, &mut runs, layout, now) {
                    match self.merge(table, day, &taken, layout, fence).await {
                        Ok(written) => {
                            done.merges += 1;
                            done.files_removed += count(taken.iter().map(|run| run.files.len()).sum());
                            let files: Vec<File> = written.into_iter().map(|written| written.file).collect();
                            done.files_added += count(files.len());
                            done.bytes_added += files.iter().map(|file| file.bytes).sum::<u64>();
                            runs.push(Run { files, merged: true });
                        }
                        Err(error @ (LakeError::Superseded | LakeError::Removed)) => {
                            return Err(error);
                        }
                        Err(error) => {
                            failure.get_or_insert(error);
                            break;
                        }
                    }
                }
            }
        }
        failure.map_or(Ok(done), Err)
    }

    /// Removes whole days of events and edges: those before `since`, the beginning of a day.
    ///
    /// # Errors
    /// [`LakeError`]; what was committed before stays.
    pub async fn expire_days(&self, since: Timestamp, fence: &dyn Fence) -> Result<Expired, LakeError> {
        let _alone = self.alone().await?;
        let (mut days, mut files) = (BTreeSet::new(), 0);
        for table in Table::ALL.into_iter().filter(|table| table.by_day()) {
            let old: Vec<File> = self.files(table).await?.into_iter().filter(|file| file.day.is_some_and(|day| day < since.day())).collect();
            if !old.is_empty() {
                self.replace(table, &old, &[], Change::Retention, fence).await?;
                days.extend(old.iter().filter_map(|file| file.day));
                files += old.len();
            }
        }
        Ok(Expired { days: count(days.len()), files: count(files) })
    }

    /// Removes rows of the other tables that are older than `since`, the beginning of a day whose days before are gone. A
    /// batch stays known for as long as there may be an event of it, or of one that was committed with it. Files with old
    /// rows are written anew, and so is every file of entities then.
    ///
    /// # Errors
    /// [`LakeError`]; what was committed before stays.
    pub async fn expire_rows(&self, since: Timestamp, layout: Layout, fence: &dyn Fence) -> Result<Expired, LakeError> {
        let _alone = self.alone().await?;
        let mut done = Expired::default();
        for table in Table::ALL.into_iter().filter(|table| !table.by_day()) {
            let old = self.files_older_than(table, since).await?;
            if old.is_empty() {
                continue;
            }
            // An entity's rows become one first: it is as young as its latest record.
            let chosen = self.files(table).await?.into_iter().filter(|file| table.adds_up() || old.contains(&file.path)).collect();
            let runs: Vec<Run> = plan::runs(chosen).into_values().flatten().collect();
            let merge = Merge { table, day: None, runs: &runs, since: Some(since), target_file_bytes: layout.target_file_bytes };
            let added = merge.write(&self.source(table).await?, || !self.is_closed()).await?;
            let removed: Vec<File> = runs.into_iter().flat_map(|run| run.files).collect();
            self.replace(table, &removed, &added, Change::Retention, fence).await?;
            done.files += count(removed.len());
        }
        Ok(done)
    }

    /// Deletes data files that no table refers to and that none has referred to for `keep`, and the files of logs that
    /// checkpoints have made needless. What is younger than `keep` stays, since it may be about to be committed.
    ///
    /// # Errors
    /// [`LakeError`] when the store does not answer.
    pub async fn vacuum(&self, keep: Duration, now: Timestamp) -> Result<Vacuumed, LakeError> {
        let _alone = self.alone().await?;
        let mut done = Vacuumed::default();
        let oldest = now.0.saturating_sub(i64::try_from(keep.as_micros()).unwrap_or(i64::MAX)) / 1_000;
        for table in Table::ALL {
            let delta = {
                let mut delta = self.table(table).await?;
                // INVARIANT: a file that another process has committed is seen as in use.
                self.follow(table, &mut delta).await?;
                let log_files = deltalake::checkpoints::cleanup_metadata(&delta, None).await?;
                if log_files > 0 {
                    // The snapshot may refer to what was deleted.
                    self.reload(table, &mut delta).await?;
                }
                done.log_files += count(log_files);
                delta.clone()
            };
            let used = used_files(&delta, oldest).await?;
            let store = delta.object_store();
            let mut found = store.list(None);
            let mut unused = Vec::new();
            while let Some(object) = found.next().await.transpose()? {
                let path: &str = object.location.as_ref();
                let is_data = path.ends_with(".parquet") && !path.starts_with("_delta_log");
                if is_data && object.last_modified.timestamp_millis() < oldest && !used.contains(path) {
                    done.files += 1;
                    done.bytes += object.size;
                    unused.push(object.location);
                }
            }
            let mut deleted = store.delete_stream(futures::stream::iter(unused.into_iter().map(Ok)).boxed());
            while let Some(outcome) = deleted.next().await {
                match outcome {
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(done)
    }

    /// One at a time maintains a graph in this process, and nobody one that is being removed.
    async fn alone(&self) -> Result<MutexGuard<'_, ()>, LakeError> {
        let alone = self.maintaining.lock().await;
        if self.is_closed() { Err(LakeError::Removed) } else { Ok(alone) }
    }

    async fn files(&self, table: Table) -> Result<Vec<File>, LakeError> {
        Ok(self.table(table).await?.snapshot()?.log_data().iter().map(|view| File::of(&view)).collect())
    }

    /// Files that may have rows from before `since`, as the log says.
    async fn files_older_than(&self, table: Table, since: Timestamp) -> Result<HashSet<String>, LakeError> {
        let delta = self.table(table).await?;
        let is_old = |statistics: Option<String>| {
            let statistics: Option<serde_json::Value> = statistics.and_then(|text| serde_json::from_str(&text).ok());
            let oldest = statistics.as_ref().and_then(|all| all.get("minValues")?.get(table.age())?.as_str());
            oldest.and_then(|text| Timestamp::parse(text).ok()).is_none_or(|oldest| oldest < since)
        };
        Ok(delta.snapshot()?.log_data().iter().filter(|view| is_old(view.stats())).map(|view| view.path().into_owned()).collect())
    }

    async fn source(&self, table: Table) -> Result<Source, LakeError> {
        let store = self.table(table).await?.object_store();
        let url = ObjectStoreUrl::parse(format!("lake-{}://{}", self.arn().id(), table.name()))?;
        Ok(Source { store, url, runtime: Arc::clone(&self.merging) })
    }

    async fn merge(&self, table: Table, day: Option<i64>, runs: &[Run], layout: Layout, fence: &dyn Fence) -> Result<Vec<Written>, LakeError> {
        let merge = Merge { table, day, runs, since: None, target_file_bytes: layout.target_file_bytes };
        let added = merge.write(&self.source(table).await?, || !self.is_closed()).await?;
        let removed: Vec<File> = runs.iter().flat_map(|run| run.files.iter().cloned()).collect();
        self.replace(table, &removed, &added, Change::Merge(layout), fence).await?;
        Ok(added)
    }

    /// Puts files in the place of others, in one commit.
    async fn replace(&self, table: Table, removed: &[File], added: &[Written], change: Change, fence: &dyn Fence) -> Result<(), LakeError> {
        // INVARIANT: one commit at a time a table, as for batches.
        let mut delta = self.table(table).await?;
        self.follow(table, &mut delta).await?;
        let state = delta.snapshot()?.clone();
        let present: HashSet<String> = state.log_data().iter().map(|view| view.path().into_owned()).collect();
        if !removed.iter().all(|file| present.contains(&file.path)) {
            return Err(LakeError::Superseded);
        }
        if self.is_closed() {
            return Err(LakeError::Removed);
        }
        if !fence.holds().await {
            return Err(LakeError::Superseded);
        }
        let (data_change, operation) = match change {
            Change::Merge(layout) => {
                (false, DeltaOperation::Optimize { predicate: None, target_size: i64::try_from(layout.target_file_bytes).unwrap_or(i64::MAX) })
            }
            Change::Retention => (true, DeltaOperation::Delete { predicate: None }),
        };
        let now = chrono::Utc::now();
        let removals = removed.iter().map(|file| Action::Remove(file.remove(data_change, now.timestamp_millis())));
        let additions = added.iter().map(|written| Action::Add(written.file.add(written.statistics.clone(), data_change)));
        let actions = removals.chain(additions).collect();
        // The fence of the lake itself: what another process has committed under this name since `state` makes it fail.
        let fence = Transaction::new(MAINTENANCE, now.timestamp_micros());
        let properties = CommitProperties::default().with_application_transaction(fence).with_cleanup_expired_logs(Some(false));
        let commit = CommitBuilder::from(properties).with_actions(actions).build(Some(&state), delta.log_store(), operation).await;
        let commit = commit.map_err(superseded)?;
        self.advance(table, &mut delta, commit.snapshot()).await?;
        if data_change { self.note_days(table, &delta) } else { Ok(()) }
    }
}

/// Why files take the place of others.
#[derive(Debug, Clone, Copy)]
enum Change {
    Merge(Layout),
    Retention,
}

fn superseded(error: DeltaTableError) -> LakeError {
    match error {
        DeltaTableError::Transaction { source: TransactionError::CommitConflict(CommitConflictError::ConcurrentTransaction) } => LakeError::Superseded,
        error => error.into(),
    }
}

/// Paths of files that the table refers to, or has referred to since `oldest`, in milliseconds.
async fn used_files(delta: &DeltaTable, oldest: i64) -> Result<HashSet<String>, LakeError> {
    let state = delta.snapshot()?;
    let mut used: HashSet<String> = state.log_data().iter().map(|view| view.path().into_owned()).collect();
    let log_store = delta.log_store();
    let mut removed = state.all_tombstones(&log_store);
    while let Some(file) = removed.try_next().await? {
        if file.deletion_timestamp().is_none_or(|time| time >= oldest) {
            used.insert(file.path().into_owned());
        }
    }
    Ok(used)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
