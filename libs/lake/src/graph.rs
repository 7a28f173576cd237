//! One graph's tables: progress of batches, query sessions.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, OnceLock, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use arrow::{array::AsArray, record_batch::RecordBatch};
use datafusion::{
    catalog::TableProvider,
    common::{ParamValues, ScalarValue},
    execution::{SendableRecordBatchStream, SessionState, memory_pool::MemoryConsumer, runtime_env::RuntimeEnv},
    prelude::{SessionConfig, SessionContext},
};
use deltalake::{
    DeltaTable, DeltaTableError,
    delta_datafusion::TableProviderBuilder,
    kernel::{Action, StructField, engine::arrow_conversion::TryIntoKernel},
    logstore::LogStoreRef,
    operations::create::CreateBuilder,
    protocol::SaveMode,
};
use futures::{StreamExt, future::try_join_all};
use gumshoe_model::{GraphArn, Timestamp};
use object_store::ObjectStore;
use tokio::sync::{Mutex, MutexGuard};
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    LakeError, Table, Versions,
    commit::Foreign,
    read::{Footers, Memory, Reading},
    store::Store,
};

/// The application of maintenance's own transactions; no batch has this id.
pub(crate) const MAINTENANCE: &str = "gumshoe.maintenance";
/// How many of a table's last commits of batches are looked at for batches that are not in every table: more groups than that are
/// never under way at once.
const TAIL_COMMITS: usize = 32;

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchCounts {
    /// Events written through it.
    pub events: u64,
    /// Events that were there already.
    pub duplicates: u64,
    /// Dead letters.
    pub dead_letters: u64,
}

/// How far a batch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// In no table.
    New,
    /// In some tables only: its writer died between two commits. It must be committed in a group of its own.
    Partial,
    /// In every table.
    Committed(BatchCounts),
}

/// The tables as they were at one time: all queries of its session see the same rows.
pub struct Snapshot {
    /// Their versions.
    pub versions: Versions,
    /// A session in which they stand by their names.
    pub session: SessionContext,
}

/// Of each table its Delta version and what queries see.
type Providers = BTreeMap<Table, (u64, Arc<dyn TableProvider>)>;

/// The tables of one graph.
pub struct GraphLake {
    arn: GraphArn,
    /// What was learned from the tables, beside them.
    pub(crate) models: Arc<dyn ObjectStore>,
    runtime: Arc<RuntimeEnv>,
    pub(crate) merging: Arc<RuntimeEnv>,
    /// In the order of [`Table::ALL`].
    tables: Vec<Mutex<DeltaTable>>,
    /// Held while files are merged and removed: one at a time.
    pub(crate) maintaining: Mutex<()>,
    closed: AtomicBool,
    /// What queries see, each table with its Delta version.
    providers: RwLock<Providers>,
    /// What providers are made with, once for all: making it costs more than a provider.
    planning: OnceLock<Arc<SessionState>>,
    pub(crate) reading: Reading,
    version: AtomicU64,
    pub(crate) committed: RwLock<HashMap<u128, BatchCounts>>,
    /// Days that have files, of tables kept by day, in the order of [`Table::ALL`].
    pub(crate) days: RwLock<Vec<HashSet<i64>>>,
    /// Batches in the last commits of each table, in the order of [`Table::ALL`].
    pub(crate) tails: RwLock<Vec<HashSet<String>>>,
    /// Files of events that other processes committed and that the writer of this one has not looked at; none without a writer.
    pub(crate) foreign: std::sync::Mutex<Option<Vec<Foreign>>>,
    /// When other processes' commits were last looked for.
    pub(crate) checked: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for GraphLake {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("GraphLake").field("arn", &self.arn.to_string()).field("version", &self.version()).finish_non_exhaustive()
    }
}

impl GraphLake {
    pub(crate) async fn open(store: &Store, arn: &GraphArn, runtime: Arc<RuntimeEnv>, merging: Arc<RuntimeEnv>, footers: Footers) -> Result<Self, LakeError> {
        let tables = try_join_all(Table::ALL.map(|table| open_table(store, arn, table))).await?;
        let stores = tables.iter().map(DeltaTable::object_store).collect();
        let graph = Self {
            arn: arn.clone(),
            models: store.objects(&format!("{}/models", arn.id())),
            runtime,
            merging,
            tables: tables.into_iter().map(Mutex::new).collect(),
            maintaining: Mutex::default(),
            closed: AtomicBool::new(false),
            providers: RwLock::default(),
            planning: OnceLock::new(),
            reading: Reading::new(arn.id(), footers, stores),
            version: AtomicU64::new(0),
            committed: RwLock::default(),
            days: RwLock::default(),
            tails: RwLock::default(),
            foreign: std::sync::Mutex::default(),
            checked: Mutex::default(),
        };
        graph.refresh().await?;
        Ok(graph)
    }

    /// Reads all tables' logs.
    async fn refresh(&self) -> Result<(), LakeError> {
        let (mut tails, mut days) = (Vec::new(), Vec::new());
        for slot in &self.tables {
            let mut delta = slot.lock().await;
            delta.update_state().await?;
            tails.push(tail(&delta).await?);
            days.push(days_of(&delta)?);
        }
        *write(&self.tails) = tails;
        *write(&self.days) = days;
        self.publish().await?;
        let committed = self.read_batches().await?;
        *write(&self.committed) = committed;
        Ok(())
    }

    /// A table, for whoever will commit to it.
    pub(crate) async fn table(&self, table: Table) -> Result<MutexGuard<'_, DeltaTable>, LakeError> {
        match self.tables.get(table as usize) {
            Some(slot) => Ok(slot.lock().await),
            None => Err(DeltaTableError::NotATable(table.name().to_owned()).into()),
        }
    }

    /// Notes the days that a table has files of, as its log says.
    pub(crate) fn note_days(&self, table: Table, delta: &DeltaTable) -> Result<(), LakeError> {
        let found = days_of(delta)?;
        if let Some(days) = write(&self.days).get_mut(table as usize) {
            *days = found;
        }
        Ok(())
    }

    /// Whether the graph is being removed: then nothing more is merged.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends maintenance; returns when none is under way.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        drop(self.maintaining.lock().await);
    }

    /// Whether a table has rows of a day (days since the epoch).
    #[must_use]
    pub fn has_day(&self, table: Table, day: i64) -> bool {
        read(&self.days).get(table as usize).is_some_and(|days| days.contains(&day))
    }

    /// The days (since the epoch) of which a table has rows, in order.
    #[must_use]
    pub fn days(&self, table: Table) -> Vec<i64> {
        let mut days: Vec<i64> = read(&self.days).get(table as usize).into_iter().flatten().copied().collect();
        days.sort_unstable();
        days
    }

    /// The ids of the events that a batch wrote.
    ///
    /// # Errors
    /// [`LakeError::Query`] when they cannot be read.
    pub async fn event_ids(&self, batch_id: &str) -> Result<Vec<String>, LakeError> {
        let values = vec![("batch", ScalarValue::from(batch_id))];
        let mut rows = self.sql("SELECT event_id FROM events WHERE batch_id = $batch", values).await?;
        let mut ids = Vec::new();
        while let Some(rows) = rows.next().await.transpose()? {
            if let [column] = rows.columns() {
                ids.extend(column.as_string::<i32>().iter().flatten().map(str::to_owned));
            }
        }
        Ok(ids)
    }

    /// The graph.
    #[must_use]
    pub fn arn(&self) -> &GraphArn {
        &self.arn
    }

    /// Grows with every commit, by whatever process: the sum of the tables' Delta versions.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// A session in which the tables stand by their names, as of the latest commit seen.
    ///
    /// # Errors
    /// [`LakeError::Query`] when a table cannot be registered.
    pub async fn session(&self) -> Result<SessionContext, LakeError> {
        Ok(self.snapshot()?.session)
    }

    /// The tables as of the latest commit seen.
    ///
    /// # Errors
    /// [`LakeError::Query`] when a table cannot be registered.
    pub fn snapshot(&self) -> Result<Snapshot, LakeError> {
        let session = self.empty_session();
        let providers = read(&self.providers).clone();
        let mut versions = Versions::default();
        for (table, (version, provider)) in providers {
            versions.set(table, version);
            session.register_table(table.name(), provider)?;
        }
        Ok(Snapshot { versions, session })
    }

    /// The versions of the tables that queries see.
    #[must_use]
    pub fn versions(&self) -> Versions {
        let mut versions = Versions::default();
        for (table, (version, _)) in &*read(&self.providers) {
            versions.set(*table, *version);
        }
        versions
    }

    pub(crate) fn runtime(&self) -> Arc<RuntimeEnv> {
        Arc::clone(&self.runtime)
    }

    fn empty_session(&self) -> SessionContext {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let mut config = SessionConfig::new().with_target_partitions(cores).with_information_schema(false);
        let parquet = &mut config.options_mut().execution.parquet;
        parquet.pushdown_filters = true;
        parquet.reorder_filters = true;
        // Text comes as plain Utf8, as `docs/lake.md` says and as readers of columns expect.
        parquet.schema_force_view_types = false;
        SessionContext::new_with_config_rt(config, Arc::clone(&self.runtime))
    }

    /// Memory that is shared with queries; each has a fair part.
    #[must_use]
    pub fn memory(&self, name: &str) -> Memory {
        Memory(MemoryConsumer::new(name).with_can_spill(true).register(&self.runtime.memory_pool))
    }

    /// Runs a query with values for its `$name` parameters.
    ///
    /// # Errors
    /// [`LakeError::Query`] when it fails.
    pub async fn sql(&self, sql: &str, values: impl Into<ParamValues>) -> Result<SendableRecordBatchStream, LakeError> {
        Ok(self.session().await?.sql(sql).await?.with_param_values(values)?.execute_stream().await?)
    }

    /// How far a batch is.
    #[must_use]
    pub fn progress(&self, batch_id: &str) -> Progress {
        let batch = hash(batch_id);
        if let Some(counts) = read(&self.committed).get(&batch) {
            return Progress::Committed(*counts);
        }
        if read(&self.tails).iter().any(|tail| tail.contains(batch_id)) { Progress::Partial } else { Progress::New }
    }

    /// Whether a batch is in a table already, of those that are [`Progress::Partial`].
    #[must_use]
    pub fn is_in(&self, table: Table, batch_id: &str) -> bool {
        read(&self.tails).get(table as usize).is_some_and(|tail| tail.contains(batch_id))
    }

    /// Batches whose events are in the lake, but not all that follows from them: their writer died in between.
    #[must_use]
    pub fn unfinished(&self) -> Vec<String> {
        let (tails, committed) = (read(&self.tails), read(&self.committed));
        // Of an old batch, retention may have forgotten all but the transaction.
        let done = tails.get(Table::Batches as usize);
        let is_done = |batch: &String| committed.contains_key(&hash(batch)) || done.is_some_and(|done| done.contains(batch));
        let mut batches: Vec<String> = tails.get(Table::Events as usize).into_iter().flatten().filter(|batch| !is_done(batch)).cloned().collect();
        batches.sort();
        batches
    }

    /// Makes the latest commits visible to queries.
    pub(crate) async fn publish(&self) -> Result<(), LakeError> {
        for table in Table::ALL {
            self.publish_table(table, &*self.table(table).await?).await?;
        }
        Ok(())
    }

    /// Makes a table visible to queries as it stands.
    pub(crate) async fn publish_table(&self, table: Table, delta: &DeltaTable) -> Result<(), LakeError> {
        let state = delta.snapshot()?;
        let provider = TableProviderBuilder::default()
            .with_session(Arc::clone(self.planning.get_or_init(|| Arc::new(self.empty_session().state()))))
            .with_log_store(delta.log_store())
            .with_eager_snapshot(state.snapshot().clone())
            .build()
            .await?;
        self.reading.publish(table, state.snapshot().clone());
        let mut providers = write(&self.providers);
        providers.insert(table, (state.version(), Arc::new(provider)));
        let version = providers.values().map(|(version, _)| version).sum::<u64>();
        self.version.fetch_max(version + 1, Ordering::AcqRel);
        Ok(())
    }

    pub(crate) async fn read_batches(&self) -> Result<HashMap<u128, BatchCounts>, LakeError> {
        let mut rows = self.sql("SELECT batch_id, events, duplicates, dead_letters FROM batches", ParamValues::List(Vec::new())).await?;
        let mut batches = HashMap::new();
        while let Some(rows) = rows.next().await.transpose()? {
            batches.extend(counts_of(&rows));
        }
        Ok(batches)
    }
}

/// What became of batches, by the hash of their ids: `batch_id`, `events`, `duplicates`, `dead_letters` in this order.
pub(crate) fn counts_of(rows: &RecordBatch) -> Vec<(u128, BatchCounts)> {
    let [ids, events, duplicates, dead_letters] = rows.columns() else { return Vec::new() };
    let ids = ids.as_string::<i32>();
    let [events, duplicates, dead_letters] = [events, duplicates, dead_letters].map(|column| column.as_primitive::<arrow::datatypes::Int64Type>());
    let counts = |index: usize| {
        let [events, duplicates, dead_letters] = [events, duplicates, dead_letters].map(|column| u64::try_from(column.value(index)).unwrap_or_default());
        (hash(ids.value(index)), BatchCounts { events, duplicates, dead_letters })
    };
    (0..rows.num_rows()).map(counts).collect()
}

pub(crate) fn hash(batch_id: &str) -> u128 {
    xxh3_128(batch_id.as_bytes())
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn open_table(store: &Store, arn: &GraphArn, table: Table) -> Result<DeltaTable, LakeError> {
    let log_store = store.log_store(&format!("{}/{}", arn.id(), table.name()))?;
    let mut columns: Vec<StructField> = Vec::new();
    if table.by_day() {
        columns.push(StructField::nullable("date", deltalake::kernel::DataType::DATE));
    }
    for field in table.schema().fields() {
        columns.push(field.as_ref().try_into_kernel()?);
    }
    let properties =
        [("delta.logRetentionDuration", "interval 1 days"), ("delta.setTransactionRetentionDuration", "interval 30 days"), ("delta.checkpointInterval", "100")];
    let create = CreateBuilder::new()
        .with_log_store(Arc::clone(&log_store))
        .with_table_name(table.name())
        .with_comment(arn.to_string())
        .with_columns(columns.clone())
        .with_partition_columns(table.by_day().then_some("date"))
        .with_configuration(properties.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))))
        .with_save_mode(SaveMode::Ignore);
    let mut delta = match create.await {
        Ok(delta) => delta,
        // Another process may have made it at the same time.
        Err(error) => loaded(&log_store).await.map_err(|_| error)?,
    };
    // A table of an older version gets the columns that came later.
    let missing = |delta: &DeltaTable| -> Result<Vec<StructField>, DeltaTableError> {
        let known = delta.snapshot()?.schema();
        Ok(columns.iter().filter(|column| known.field(column.name()).is_none()).cloned().collect())
    };
    let fields = missing(&delta)?;
    if !fields.is_empty() {
        delta = match delta.add_columns().with_fields(fields).await {
            Ok(delta) => delta,
            // Another process may have added them at the same time.
            Err(error) => match loaded(&log_store).await {
                Ok(delta) if missing(&delta)?.is_empty() => delta,
                _ => return Err(error.into()),
            },
        };
    }
    Ok(delta)
}

async fn loaded(log_store: &LogStoreRef) -> Result<DeltaTable, DeltaTableError> {
    let mut delta = DeltaTable::new(Arc::clone(log_store));
    delta.load().await?;
    Ok(delta)
}

/// The graph whose tables are in a folder; `None` if they are not all there.
pub(crate) async fn arn_of(store: &Store, folder: &str) -> Result<Option<GraphArn>, LakeError> {
    // The last table to be made.
    let last = format!("{folder}/{}", Table::Batches.name());
    if !store.holds(&format!("{last}/_delta_log")).await? {
        return Ok(None);
    }
    let mut table = DeltaTable::new(store.log_store(&last)?);
    table.load().await?;
    let arn: Option<GraphArn> = table.snapshot()?.metadata().description().and_then(|comment| comment.parse().ok());
    Ok(arn.filter(|arn| arn.id() == folder))
}

/// The batches named by the application transactions of a table's last commits; those of maintenance are passed over.
pub(crate) async fn tail(table: &DeltaTable) -> Result<HashSet<String>, LakeError> {
    let mut batches = HashSet::new();
    let latest = table.snapshot()?.version();
    let log_store = table.log_store();
    let mut commits = 0;
    for version in (0..=latest).rev() {
        if commits == TAIL_COMMITS {
            break;
        }
        let Some(bytes) = log_store.read_commit_entry(version).await? else { break };
        let before = batches.len();
        for action in deltalake::logstore::get_actions(version, &bytes)? {
            if let Action::Txn(transaction) = action
                && transaction.app_id != MAINTENANCE
            {
                batches.insert(transaction.app_id);
            }
        }
        commits += usize::from(batches.len() > before);
    }
    Ok(batches)
}

pub(crate) fn days_of(table: &DeltaTable) -> Result<HashSet<i64>, LakeError> {
    Ok(table.snapshot()?.log_data().iter().filter_map(|file| day_of_path(&file.path())).collect())
}

pub(crate) fn day_of_path(path: &str) -> Option<i64> {
    let date = path.strip_prefix("date=")?.get(..10)?;
    Timestamp::parse(&format!("{date}T00:00:00Z")).ok().map(Timestamp::day)
}

/// A day as its partition is named.
pub(crate) fn date(day: i64) -> String {
    Timestamp(day.saturating_mul(gumshoe_model::time::MICROS_PER_DAY)).to_chrono().format("%Y-%m-%d").to_string()
}
