//! Hot profiles: what the risk of an entity is made of, ready to be scored without the lake.
//!
//! | module | holds |
//! |---|---|
//! | [`digest`] | an entity's edges summed up; the days that an account has records of |
//! | [`findings`] | the findings of a graph |
//! | `build` | these out of the lake |
//!
//! A graph's profiles follow the Delta logs of its tables: what a commit adds is added to the profiles that it touches,
//! before the batch is acknowledged. A profile that is not in memory is taken out of Redis and brought up to date by the
//! commits since, or else built anew, once however many ask. See `docs/hot.md`.

use std::{
    collections::HashMap,
    hash::BuildHasher as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arrow::{
    array::{AsArray as _, BooleanArray},
    compute::cast,
    datatypes::DataType,
    record_batch::RecordBatch,
};
use bytes::Bytes;
use gumshoe_enrich::Places;
use gumshoe_lake::{Addition, Change, DataFile, GraphLake, LakeError, Table, Versions, Wanted};
use gumshoe_model::{EntityKey, GraphArn};
use gumshoe_profiles::{Key, Profiles};
use gumshoe_runtime::{
    Clock as _, SystemClock,
    status::{self, Chain},
};
use moka::sync::Cache;
use tokio::sync::{Semaphore, watch};

use crate::{
    config,
    risk::Scored,
    rows::{self, Answer, Columns},
    store::{StoreError, sql::SqlStore},
    watchlist::{self, Watchlist},
};

pub(crate) mod build;
pub(crate) mod digest;
pub(crate) mod findings;

use digest::{BASELINE_HOURS, Days, Digest, HORIZON_HOURS};
use findings::Findings;

/// Tables that profiles are made of.
const FOLLOWED: [Table; 4] = [Table::Events, Table::Edges, Table::Entities, Table::Findings];
/// How many commits of a table a profile is brought up to date by; beyond, building anew is as fast.
const MAX_CATCH_UP: u64 = 32;
/// How many commits of others are followed at once; beyond, all profiles of the graph are built anew.
const MAX_BEHIND: u64 = 256;
/// Days that profiles may have something of.
const NEEDED_DAYS: i64 = (BASELINE_HOURS + HORIZON_HOURS) / 24 + 2;
/// The number of the form that digests have in Redis.
const FORMAT: u32 = 2;
/// How often commits of other processes are looked for.
const FOLLOW: Duration = Duration::from_secs(1);
/// How long Redis keeps a digest that nothing is added to.
const TTL: Duration = Duration::from_secs(24 * 3_600);
/// A graph that nobody has asked about for so long is let go of.
const IDLE: Duration = Duration::from_secs(3_600);

/// What a profile is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    /// An entity's digest.
    Entity(EntityKey),
    /// The days of an account.
    Account(String),
}

/// A profile's content.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are digests")]
pub(crate) enum Value {
    Digest(Digest),
    Days(Days),
}

#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) value: Value,
    /// What commits it has, at least: those up to the graph's position are in as well.
    pub(crate) versions: Versions,
    /// Grows with every change.
    pub(crate) generation: u64,
}

/// A profile that is in memory.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Name,
    content: RwLock<Content>,
    /// What was last made of it.
    pub(crate) scored: Mutex<Option<Scored>>,
    _hot: Hold,
}

impl Entry {
    pub(crate) fn content(&self) -> std::sync::RwLockReadGuard<'_, Content> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names in memory or being built, as hashes, to tell in passing which rows of a commit matter.
#[derive(Debug, Default)]
struct Hashes {
    counts: RwLock<HashMap<u64, u32>>,
    hasher: foldhash::quality::RandomState,
}

impl Hashes {
    fn hash(&self, kind: &str, id: &str) -> u64 {
        self.hasher.hash_one((kind, id))
    }

    fn hold(self: &Arc<Self>, name: &Name) -> Hold {
        let hash = match name {
            Name::Entity(entity) => self.hash(entity.kind.as_str(), &entity.id),
            Name::Account(account) => self.hash("days", account),
        };
        *self.counts.write().unwrap_or_else(PoisonError::into_inner).entry(hash).or_default() += 1;
        Hold { hashes: Arc::clone(self), hash }
    }

    fn is_empty(&self) -> bool {
        self.counts.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// Keeps a name among the hashes.
#[derive(Debug)]
struct Hold {
    hashes: Arc<Hashes>,
    hash: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut counts = self.hashes.counts.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.hash) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.hash);
            }
        }
    }
}

/// Why the profiles of a graph cannot be brought up to date: they are built anew.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the lake does not answer")]
    Lake(#[from] LakeError),
    #[error("rows were removed from the {} table", .0.name())]
    Removed(Table),
    #[error("too many commits to the {} table were missed", .0.name())]
    Behind(Table),
    #[error("the rows of a commit cannot be read")]
    Rows,
}

/// Files that this process is about to commit, so that they need not be read back; none of a graph that is not hot.
pub(crate) type Own = Vec<(Table, Bytes)>;

/// Rows that a commit added to a table.
type Rows = (Table, u64, Vec<RecordBatch>);

/// A profile that is being built.
struct Slot {
    /// What was committed meanwhile.
    pending: Vec<Rows>,
    done: watch::Sender<Option<Arc<Entry>>>,
    hold: Hold,
}

/// Where watchlists come from.
#[derive(Clone)]
pub(crate) struct Watchlists {
    store: Arc<SqlStore>,
    configured: Arc<[config::Watched]>,
}

impl Watchlists {
    pub(crate) fn new(store: Arc<SqlStore>, configured: Vec<config::Watched>) -> Self {
        Self { store, configured: configured.into() }
    }

    /// The watchlist of a graph.
    pub(crate) async fn read(&self, graph: &GraphArn) -> Result<Watchlist, StoreError> {
        let (version, entries) = self.store.watchlist(graph).await?;
        let keys = watchlist::tag_keys(entries.iter().map(|entry| entry.pattern.as_str()).chain(self.configured.iter().map(|entry| entry.pattern.as_str())));
        let tags = self.store.tags(graph, &keys).await?;
        Ok(Watchlist::new(version, entries, &self.configured, tags))
    }

    /// The watchlist of a graph, if it is not of that version.
    async fn changed(&self, graph: &GraphArn, version: i64) -> Result<Option<Watchlist>, StoreError> {
        if self.store.watchlist_version(graph).await? == version { Ok(None) } else { self.read(graph).await.map(Some) }
    }

    /// That of the configuration alone, where the store does not answer.
    fn configured(&self) -> Watchlist {
        Watchlist::new(-1, Vec::new(), &self.configured, Vec::new())
    }
}

/// The hot profiles of all graphs.
pub(crate) struct Hot {
    watchlists: Watchlists,
    places: Arc<Places>,
    profiles: Arc<Profiles>,
    entries: Cache<(u64, Name), Arc<Entry>>,
    graphs: RwLock<HashMap<GraphArn, Arc<HotGraph>>>,
    opening: tokio::sync::Mutex<u64>,
}

impl std::fmt::Debug for Hot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Hot").finish_non_exhaustive()
    }
}

impl Hot {
    /// Keeps at most about `memory_bytes` of profiles in memory.
    pub(crate) fn new(places: Arc<Places>, profiles: Arc<Profiles>, memory_bytes: u64, watchlists: Watchlists) -> Self {
        let weigh = |(_, name): &(u64, Name), entry: &Arc<Entry>| {
            let name = match name {
                Name::Entity(entity) => entity.id.len(),
                Name::Account(account) => account.len(),
            };
            let value = match &entry.content().value {
                Value::Digest(digest) => digest.weight(),
                Value::Days(days) => days.weight(),
            };
            u32::try_from(name * 2 + value + 256).unwrap_or(u32::MAX)
        };
        let entries = Cache::builder().max_capacity(memory_bytes).weigher(weigh).build();
        Self { watchlists, places, profiles, entries, graphs: RwLock::default(), opening: tokio::sync::Mutex::default() }
    }

    fn known(&self, arn: &GraphArn) -> Option<Arc<HotGraph>> {
        self.graphs.read().unwrap_or_else(PoisonError::into_inner).get(arn).cloned()
    }

    /// The profiles of a graph, if it has been asked about before.
    pub(crate) fn graph(&self, arn: &GraphArn) -> Option<Arc<HotGraph>> {
        self.known(arn).inspect(|graph| graph.touch())
    }

    /// The profiles of a graph.
    pub(crate) async fn open(self: &Arc<Self>, lake: &Arc<GraphLake>) -> Answer<Arc<HotGraph>> {
        let mut serial = self.opening.lock().await;
        if let Some(graph) = self.graph(lake.arn()) {
            return Ok(graph);
        }
        lake.freshen().await.map_err(rows::failure)?;
        *serial += 1;
        let graph = Arc::new(HotGraph::load(self, lake, *serial).await?);
        self.graphs.write().unwrap_or_else(PoisonError::into_inner).insert(lake.arn().clone(), Arc::clone(&graph));
        // What was committed before the graph could be found.
        if let Err(error) = graph.advance(&[], Vec::new()).await {
            self.close(&graph);
            tracing::warn!(error = %Chain(&error), graph = %lake.arn(), "hot profiles cannot be built");
            return Err(status::unavailable("the lake"));
        }
        tokio::spawn(follow(Arc::downgrade(self), Arc::clone(&graph)));
        Ok(graph)
    }

    /// What to keep of files that are to be committed.
    pub(crate) fn own(&self, arn: &GraphArn, files: &[DataFile]) -> Own {
        if self.known(arn).is_none() {
            return Vec::new();
        }
        files.iter().filter(|file| FOLLOWED.contains(&file.table)).map(|file| (file.table, file.bytes.clone())).collect()
    }

    /// Adds what this process has committed, at these versions, to the profiles of a graph.
    pub(crate) async fn committed(&self, lake: &GraphLake, versions: &[(Table, u64)], own: Own) {
        let Some(graph) = self.known(lake.arn()) else { return };
        if graph.is_idle() {
            self.close(&graph);
        } else if let Err(error) = graph.advance(versions, own).await {
            tracing::warn!(error = %Chain(&error), graph = %lake.arn(), "hot profiles are built anew");
            self.close(&graph);
        }
    }

    /// The watchlist of a graph, as the store has it.
    pub(crate) async fn watchlist(&self, arn: &GraphArn) -> Result<Watchlist, StoreError> {
        self.watchlists.read(arn).await
    }

    /// Sees at once what has changed in the watchlist of a graph.
    pub(crate) async fn watchlist_changed(&self, arn: &GraphArn) {
        if let Some(graph) = self.known(arn) {
            graph.follow_watchlist(&self.watchlists).await;
        }
    }

    /// Lets go of a graph, whose data may be gone.
    pub(crate) fn forget(&self, arn: &GraphArn) {
        if let Some(graph) = self.known(arn) {
            self.close(&graph);
        }
    }

    /// Lets go of a graph: who asks next begins anew.
    fn close(&self, graph: &Arc<HotGraph>) {
        let mut graphs = self.graphs.write().unwrap_or_else(PoisonError::into_inner);
        if graphs.get(graph.lake.arn()).is_some_and(|known| Arc::ptr_eq(known, graph)) {
            graphs.remove(graph.lake.arn());
        }
        graph.close();
    }
}

/// Follows the commits of other processes until the graph is let go of.
async fn follow(hot: Weak<Hot>, graph: Arc<HotGraph>) {
    loop {
        tokio::time::sleep(FOLLOW).await;
        let Some(hot) = hot.upgrade() else { return };
        if graph.is_idle() {
            hot.close(&graph);
        }
        if graph.is_closed() {
            return;
        }
        graph.follow_watchlist(&hot.watchlists).await;
        let followed = async {
            graph.lake.freshen().await?;
            graph.advance(&[], Vec::new()).await
        };
        if let Err(error) = followed.await {
            tracing::warn!(error = %Chain(&error), graph = %graph.lake.arn(), "hot profiles are built anew");
            hot.close(&graph);
        }
    }
}

/// The hot profiles of one graph.
pub(crate) struct HotGraph {
    pub(crate) lake: Arc<GraphLake>,
    places: Arc<Places>,
    profiles: Arc<Profiles>,
    entries: Cache<(u64, Name), Arc<Entry>>,
    /// Tells its entries from those of the same graph when it was opened before.
    serial: u64,
    hashes: Arc<Hashes>,
    /// What commits all entries have. Held while they are added.
    position: tokio::sync::Mutex<Versions>,
    building: Mutex<HashMap<Name, Slot>>,
    findings: RwLock<Findings>,
    watchlist: RwLock<Arc<Watchlist>>,
    /// Counts the times that something was added.
    changes: watch::Sender<u64>,
    /// The same number, for those who ask all the time.
    generation: AtomicU64,
    /// One at a time writes to Redis what commits have touched; the others pass by, and leave what is older there.
    writing: Arc<Semaphore>,
    begun: Instant,
    /// Seconds from then to the latest use.
    used: AtomicU64,
    closed: AtomicBool,
}

impl HotGraph {
    fn touch(&self) {
        self.used.store(self.begun.elapsed().as_secs(), Ordering::Relaxed);
    }

    fn is_idle(&self) -> bool {
        let used = Duration::from_secs(self.used.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(used) > IDLE && self.changes.receiver_count() == 0
    }

    /// Whether the graph was let go of.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn building(&self) -> MutexGuard<'_, HashMap<Name, Slot>> {
        self.building.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grows whenever something was added to any profile.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The findings.
    pub(crate) fn findings(&self) -> std::sync::RwLockReadGuard<'_, Findings> {
        self.findings.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which entities matter more than others.
    pub(crate) fn watchlist(&self) -> Arc<Watchlist> {
        Arc::clone(&self.watchlist.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sees what has changed in the watchlist. While the store does not answer, the one that is known counts.
    async fn follow_watchlist(&self, watchlists: &Watchlists) {
        match watchlists.changed(self.lake.arn(), self.watchlist().version).await {
            Ok(None) => {}
            Ok(Some(changed)) => {
                *self.watchlist.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(changed);
                self.generation.fetch_add(1, Ordering::AcqRel);
                self.changes.send_modify(|changes| *changes += 1);
            }
            Err(error) => tracing::debug!(error = %Chain(&error), graph = %self.lake.arn(), "the watchlist cannot be read"),
        }
    }

    /// Tells of changes, the last of them being that the graph is let go of and has to be opened anew.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        let mut changes = self.changes.subscribe();
        if self.is_closed() {
            changes.mark_changed();
        }
        changes
    }

    /// A profile that is in memory.
    pub(crate) fn get(&self, name: Name, start: i64) -> Option<Arc<Entry>> {
        self.entries.get(&(self.serial, name)).filter(|entry| entry.covers(start))
    }

    /// Adds all that was committed since the last time. `own` is what this process has just committed at some `versions`.
    async fn advance(&self, versions: &[(Table, u64)], own: Own) -> Result<(), Lost> {
        let mut position = self.position.lock().await;
        let current = self.lake.versions();
        let mut commits = Vec::new();
        for table in FOLLOWED {
            let (from, to) = (position.of(table), current.of(table));
            if to.saturating_sub(from) > MAX_BEHIND {
                return Err(Lost::Behind(table));
            }
            for version in from + 1..=to {
                let here = || own.iter().filter(|(of, _)| *of == table).map(|(_, bytes)| Addition::Here(bytes.clone())).collect::<Vec<_>>();
                let ours = if versions.contains(&(table, version)) { here() } else { Vec::new() };
                let files = if ours.is_empty() { self.files(table, version).await? } else { ours };
                let rows = self.rows(table, &files).await?;
                if !rows.is_empty() {
                    commits.push((table, version, rows));
                }
            }
        }
        if !commits.is_empty() {
            let touched = self.apply(&commits, &current).map_err(|_| Lost::Rows)?;
            self.write(touched);
        }
        let moved = *position != current;
        *position = current;
        drop(position);
        if moved {
            self.generation.fetch_add(1, Ordering::AcqRel);
            self.changes.send_modify(|changes| *changes += 1);
        }
        Ok(())
    }

    /// The files that a commit of another process, or of maintenance, added.
    async fn files(&self, table: Table, version: u64) -> Result<Vec<Addition>, Lost> {
        match self.lake.change(table, version).await? {
            Change::Added(files) => Ok(files),
            // Days that no profile needs; and of other tables, the rows of such days.
            Change::Removed { last_day } if last_day.is_none_or(|day| day < SystemClock.now().day() - NEEDED_DAYS) => Ok(Vec::new()),
            Change::Removed { .. } => Err(Lost::Removed(table)),
            Change::Unknown => Err(Lost::Behind(table)),
        }
    }

    /// The rows of new files that matter.
    async fn rows(&self, table: Table, files: &[Addition]) -> Result<Vec<RecordBatch>, LakeError> {
        let columns = match table {
            Table::Findings => findings::COLUMNS,
            _ if self.hashes.is_empty() => return Ok(Vec::new()),
            Table::Events => digest::EVENT_COLUMNS,
            Table::Entities => digest::ENTITY_COLUMNS,
            _ => digest::EDGE_COLUMNS,
        };
        let mut rows = Vec::new();
        for file in files {
            let wanted = matches!(table, Table::Edges | Table::Entities).then(|| wanted(Arc::clone(&self.hashes)));
            rows.extend(self.lake.rows(table, file, columns, wanted).await?);
        }
        Ok(rows)
    }

    /// Adds the rows of commits to all profiles in memory, which then have all up to `current`; gives back those that
    /// were touched.
    fn apply(&self, commits: &[Rows], current: &Versions) -> Answer<Vec<Arc<Entry>>> {
        // INVARIANT: a profile is either being built, and gets what is pending when it is done, or in memory: whoever moves
        // it holds the lock, too.
        let mut building = self.building();
        for slot in building.values_mut() {
            slot.pending.extend(commits.iter().cloned());
        }
        let mut touched: HashMap<Name, Arc<Entry>> = HashMap::new();
        for (table, version, rows) in commits {
            for rows in rows {
                if *table == Table::Findings {
                    self.findings.write().unwrap_or_else(PoisonError::into_inner).add(rows)?;
                    continue;
                }
                for (name, rows) in parts(*table, rows)? {
                    if let Some(entry) = self.entries.get(&(self.serial, name.clone()))
                        && entry.add(*table, *version, &rows, &self.places)?
                    {
                        touched.insert(name, entry);
                    }
                }
            }
        }
        for (name, entry) in &touched {
            entry.content.write().unwrap_or_else(PoisonError::into_inner).versions.advance(current);
            // Weighed again.
            self.entries.insert((self.serial, name.clone()), Arc::clone(entry));
        }
        Ok(touched.into_values().collect())
    }

    /// Writes digests to Redis, in the background: who finds an older one there brings it up to date.
    fn write(&self, entries: Vec<Arc<Entry>>) {
        if !self.profiles.is_shared() || entries.is_empty() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.writing).try_acquire_owned() else { return };
        let (profiles, arn) = (Arc::clone(&self.profiles), self.lake.arn().clone());
        tokio::spawn(async move {
            for entry in entries {
                if let Some((key, value)) = entry.encoded(&arn) {
                    profiles.put(&key, value, TTL).await;
                }
            }
            drop(permit);
        });
    }
}

impl Entry {
    fn covers(&self, start: i64) -> bool {
        match &self.content().value {
            Value::Digest(digest) => digest.covers(start),
            Value::Days(days) => days.covers(start),
        }
    }

    /// Adds rows of a commit, if they are not in; true if they were not.
    fn add(&self, table: Table, version: u64, rows: &RecordBatch, places: &Places) -> Answer<bool> {
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        if content.versions.of(table) >= version {
            return Ok(false);
        }
        content.add(&self.name, table, rows, places)?;
        content.generation += 1;
        Ok(true)
    }

    fn encoded(&self, arn: &GraphArn) -> Option<(Key, Bytes)> {
        let Name::Entity(entity) = &self.name else { return None };
        let content = self.content();
        let Value::Digest(digest) = &content.value else { return None };
        Some((key(arn, entity), crate::rpc::hot::encode(entity, digest, &content.versions).into()))
    }
}

impl Content {
    /// Adds rows that are all of what `name` says.
    fn add(&mut self, name: &Name, table: Table, rows: &RecordBatch, places: &Places) -> Answer<()> {
        match (&mut self.value, name, table) {
            (Value::Digest(digest), Name::Entity(entity), Table::Edges) => digest.add_edges(entity.kind, rows, places),
            (Value::Digest(digest), _, Table::Entities) => digest.add_entities(rows),
            (Value::Days(days), Name::Account(account), Table::Events) => days.add_events(account, rows),
            _ => Ok(()),
        }
    }
}

fn key(arn: &GraphArn, entity: &EntityKey) -> Key {
    Key::hot(arn, "risk", FORMAT, &entity.to_string())
}

/// Wants the rows of entities that are hot.
fn wanted(hashes: Arc<Hashes>) -> Wanted {
    let test = move |rows: &RecordBatch| {
        let column = |name: &str| {
            let column = rows.column_by_name(name).ok_or_else(|| arrow::error::ArrowError::SchemaError(format!("{name} is missing")))?;
            Ok::<_, arrow::error::ArrowError>(cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
        };
        let (types, ids) = (column("entity_type")?, column("entity_id")?);
        let counts = hashes.counts.read().unwrap_or_else(PoisonError::into_inner);
        let mut latest = None;
        let is_wanted = |row: usize| {
            let (kind, id) = (types.value(row), ids.value(row));
            // Neighbours are mostly of one entity.
            match latest {
                Some((known, same)) if known == (kind, id) => same,
                _ => {
                    let wanted = counts.contains_key(&hashes.hash(kind, id));
                    latest = Some(((kind, id), wanted));
                    wanted
                }
            }
        };
        Ok((0..rows.num_rows()).map(is_wanted).map(Some).collect::<BooleanArray>())
    };
    Wanted { columns: &["entity_type", "entity_id"], test: Box::new(test) }
}

/// Rows cut into runs of one name.
fn parts(table: Table, rows: &RecordBatch) -> Answer<Vec<(Name, RecordBatch)>> {
    let columns = Columns(rows);
    let mut parts: Vec<(Name, RecordBatch)> = Vec::new();
    if table == Table::Events {
        let accounts = columns.texts("account")?;
        let mut names: Vec<&str> = Vec::new();
        for row in 0..columns.len() {
            // Neighbours are mostly of one account, and accounts few.
            if !names.iter().rev().any(|name| *name == accounts.get(row)) {
                names.push(accounts.get(row));
            }
        }
        // All rows to each: it takes its own.
        return Ok(names.into_iter().map(|account| (Name::Account(account.to_owned()), rows.clone())).collect());
    }
    let (types, ids) = (columns.texts("entity_type")?, columns.texts("entity_id")?);
    let mut start = 0;
    for row in 1..=columns.len() {
        if row < columns.len() && ids.get(row) == ids.get(start) && types.get(row) == types.get(start) {
            continue;
        }
        if row > start {
            parts.push((Name::Entity(rows::entity(types.get(start), ids.get(start))?), rows.slice(start, row - start)));
        }
        start = row;
    }
    Ok(parts)
}
