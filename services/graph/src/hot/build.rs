//! Profiles out of Redis and out of the lake.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Instant,
};

use futures::{StreamExt as _, stream};
use gumshoe_enrich::Places;
use gumshoe_lake::{GraphLake, Snapshot, Table};
use gumshoe_model::{EntityKey, Hour, TimeWindow, Timestamp, time::MICROS_PER_DAY};
use gumshoe_runtime::{
    Clock as _, SystemClock,
    status::{self, Chain},
};
use tokio::sync::{Semaphore, watch};

use super::{
    Content, Entry, Hot, HotGraph, MAX_CATCH_UP, Name, Slot, Value,
    digest::{BASELINE_HOURS, Days, Digest, EDGE_COLUMNS, ENTITY_COLUMNS, EVENT_COLUMNS},
    findings::{self, FINDING_MICROS, Findings},
    key, parts,
};
use crate::rows::{self, Answer, Parameters};

/// Entities that are read in one query.
const TOGETHER: usize = 100;
/// How long before the scope time that is asked for the base lies, in hours: who asks next may ask for an earlier one.
const EARLIER: i64 = 2;
/// Digests that are taken out of Redis at the same time.
const READERS: usize = 16;

impl HotGraph {
    /// A graph whose findings are known, and of which nothing else is in memory.
    pub(super) async fn load(hot: &Hot, lake: &Arc<GraphLake>, serial: u64) -> Answer<Self> {
        let snapshot = lake.snapshot().map_err(rows::failure)?;
        // A day more than counts, for who asks about yesterday.
        let since = Timestamp((SystemClock.now().0 - FINDING_MICROS - MICROS_PER_DAY).max(0));
        let findings = read_findings(&snapshot, since).await?;
        let watchlist = hot.watchlists.read(lake.arn()).await.unwrap_or_else(|error| {
            tracing::warn!(error = %Chain(&error), graph = %lake.arn(), "the watchlist cannot be read, and is tried again");
            hot.watchlists.configured()
        });
        Ok(Self {
            lake: Arc::clone(lake),
            places: Arc::clone(&hot.places),
            profiles: Arc::clone(&hot.profiles),
            entries: hot.entries.clone(),
            serial,
            hashes: Arc::default(),
            position: tokio::sync::Mutex::new(snapshot.versions),
            building: Mutex::default(),
            findings: RwLock::new(findings),
            watchlist: RwLock::new(Arc::new(watchlist)),
            changes: watch::Sender::new(0),
            generation: AtomicU64::new(0),
            writing: Arc::new(Semaphore::new(1)),
            begun: Instant::now(),
            used: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        })
    }

    /// Profiles for scope times that start at `start`: from memory, from Redis, from the lake.
    pub(crate) async fn get_all(&self, names: &[Name], start: i64) -> Answer<HashMap<Name, Arc<Entry>>> {
        let mut found = HashMap::with_capacity(names.len());
        loop {
            let mut work = Building { graph: self, names: Vec::new() };
            let mut awaited = Vec::new();
            {
                let mut building = self.building();
                for name in names.iter().filter(|name| !found.contains_key(*name)).cloned().collect::<Vec<_>>() {
                    if let Some(entry) = self.get(name.clone(), start) {
                        found.insert(name, entry);
                    } else if let Some(slot) = building.get(&name) {
                        awaited.push((name, slot.done.subscribe()));
                    } else if !found.contains_key(&name) {
                        let hold = self.hashes.hold(&name);
                        building.insert(name.clone(), Slot { pending: Vec::new(), done: watch::Sender::new(None), hold });
                        work.names.push(name);
                    }
                }
            }
            if work.names.is_empty() && awaited.is_empty() {
                return Ok(found);
            }
            found.extend(work.build(start).await?);
            for (name, mut done) in awaited {
                // Whoever builds it may fail, or go away: then it is built here.
                if let Ok(entry) = done.wait_for(Option::is_some).await.map(|entry| entry.clone())
                    && let Some(entry) = entry
                {
                    found.insert(name, entry);
                }
            }
        }
    }

    /// Digests out of Redis, brought up to date.
    async fn recall(&self, entities: &[EntityKey], start: i64) -> Vec<(EntityKey, Content)> {
        if !self.profiles.is_shared() {
            return Vec::new();
        }
        let recalled = stream::iter(entities.iter().cloned()).map(|entity| self.recall_one(entity, start)).buffer_unordered(READERS);
        recalled.filter_map(std::future::ready).collect().await
    }

    async fn recall_one(&self, entity: EntityKey, start: i64) -> Option<(EntityKey, Content)> {
        let bytes = self.profiles.get(&key(self.lake.arn(), &entity)).await?;
        let (digest, mut versions) = crate::rpc::hot::decode(&entity, &bytes).filter(|(digest, _)| digest.covers(start))?;
        let name = Name::Entity(entity.clone());
        let mut content = Content { value: Value::Digest(digest), versions, generation: 0 };
        let current = self.lake.versions();
        for table in [Table::Edges, Table::Entities] {
            let (from, to) = (versions.of(table), current.of(table));
            // What is from the future is of another lake.
            if from > to || to - from > MAX_CATCH_UP {
                return None;
            }
            for version in from + 1..=to {
                let files = self.files(table, version).await.ok()?;
                for rows in self.rows(table, &files).await.ok()? {
                    for (_, rows) in parts(table, &rows).ok()?.into_iter().filter(|(part, _)| *part == name) {
                        content.add(&name, table, &rows, &self.places).ok()?;
                    }
                }
            }
            versions.set(table, to);
        }
        content.versions = versions;
        Some((entity, content))
    }

    /// Moves a profile into memory, with what was committed while it was built.
    fn finish(&self, name: Name, mut content: Content) -> Answer<Arc<Entry>> {
        let mut building = self.building();
        let Some(slot) = building.get(&name) else { return Err(status::unavailable("the profile")) };
        for (table, version, rows) in &slot.pending {
            if content.versions.of(*table) >= *version {
                continue;
            }
            for rows in rows {
                for (_, rows) in parts(*table, rows)?.into_iter().filter(|(part, _)| *part == name) {
                    content.add(&name, *table, &rows, &self.places)?;
                }
            }
        }
        for (table, version, _) in &slot.pending {
            if content.versions.of(*table) < *version {
                content.versions.set(*table, *version);
            }
        }
        let Some(Slot { done, hold, .. }) = building.remove(&name) else { return Err(status::unavailable("the profile")) };
        let entry = Arc::new(Entry { name: name.clone(), content: RwLock::new(content), scored: Mutex::default(), _hot: hold });
        if !self.is_closed() {
            self.entries.insert((self.serial, name), Arc::clone(&entry));
        }
        done.send_replace(Some(Arc::clone(&entry)));
        Ok(entry)
    }
}

/// Profiles that this call builds. Dropped before they are done, it lets others build them.
struct Building<'a> {
    graph: &'a HotGraph,
    names: Vec<Name>,
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        let mut building = self.graph.building();
        for name in &self.names {
            building.remove(name);
        }
    }
}

impl Building<'_> {
    async fn build(&mut self, start: i64) -> Answer<Vec<(Name, Arc<Entry>)>> {
        let graph = self.graph;
        let (mut entities, mut accounts) = (Vec::new(), Vec::new());
        for name in &self.names {
            match name {
                Name::Entity(entity) => entities.push(entity.clone()),
                Name::Account(account) => accounts.push(account.clone()),
            }
        }
        let (mut built, mut fresh) = (Vec::new(), Vec::new());
        let mut keep = |name: Name, content: Content| -> Answer<Arc<Entry>> {
            self.names.retain(|other| *other != name);
            let entry = graph.finish(name.clone(), content)?;
            built.push((name, Arc::clone(&entry)));
            Ok(entry)
        };
        for (entity, content) in graph.recall(&entities, start).await {
            entities.retain(|other| *other != entity);
            keep(Name::Entity(entity), content)?;
        }
        for entities in entities.chunks(TOGETHER) {
            let snapshot = graph.lake.snapshot().map_err(rows::failure)?;
            for (entity, digest) in read_digests(&snapshot, &graph.places, entities, start - EARLIER, None).await? {
                fresh.push(keep(Name::Entity(entity), Content { value: Value::Digest(digest), versions: snapshot.versions, generation: 0 })?);
            }
        }
        for account in accounts {
            let snapshot = graph.lake.snapshot().map_err(rows::failure)?;
            let days = read_days(&snapshot, &account, start - EARLIER, None).await?;
            keep(Name::Account(account), Content { value: Value::Days(days), versions: snapshot.versions, generation: 0 })?;
        }
        graph.write(fresh);
        Ok(built)
    }
}

/// The hours from the beginning of the baseline of `start` up to `end`; to the end of time without.
fn window(start: i64, end: Option<i64>) -> Answer<TimeWindow> {
    let from = Hour((start - BASELINE_HOURS).max(0)).start();
    let to = end.map_or(Timestamp(Timestamp::MAX.0 + 1), |end| Hour(end).start());
    TimeWindow::new(from, to).map_err(|error| status::internal(&error))
}

/// Digests of entities for scope times that start at `start` and end at `end`, hours since the epoch.
pub(crate) async fn read_digests(
    snapshot: &Snapshot,
    places: &Places,
    entities: &[EntityKey],
    start: i64,
    end: Option<i64>,
) -> Answer<HashMap<EntityKey, Digest>> {
    let mut digests: HashMap<EntityKey, Digest> = entities.iter().map(|entity| (entity.clone(), Digest::new(start))).collect();
    let mut parameters = Parameters::new();
    let condition = parameters.entities("e", "entity_type", "entity_id", entities);
    let within = parameters.within("hour", window(start, end)?);
    let sql = format!("SELECT {} FROM edges WHERE {condition} AND {within}", EDGE_COLUMNS.join(", "));
    rows::each_of(snapshot, &sql, parameters, |rows| {
        for (name, rows) in parts(Table::Edges, rows)? {
            if let Name::Entity(entity) = name
                && let Some(digest) = digests.get_mut(&entity)
            {
                digest.add_edges(entity.kind, &rows, places)?;
            }
        }
        Ok(())
    })
    .await?;
    let mut parameters = Parameters::new();
    let condition = parameters.entities("e", "entity_type", "entity_id", entities);
    let sql = format!("SELECT {} FROM entities WHERE {condition}", ENTITY_COLUMNS.join(", "));
    rows::each_of(snapshot, &sql, parameters, |rows| {
        for (name, rows) in parts(Table::Entities, rows)? {
            if let Name::Entity(entity) = name
                && let Some(digest) = digests.get_mut(&entity)
            {
                digest.add_entities(&rows)?;
            }
        }
        Ok(())
    })
    .await?;
    Ok(digests)
}

/// The days of an account for the same scope times.
pub(crate) async fn read_days(snapshot: &Snapshot, account: &str, start: i64, end: Option<i64>) -> Answer<Days> {
    let mut days = Days::new(start);
    let mut parameters = Parameters::new();
    let within = parameters.within("time", window(start, end)?);
    parameters.text("account", account);
    let sql = format!("SELECT {} FROM events WHERE {within} AND account = $account", EVENT_COLUMNS.join(", "));
    rows::each_of(snapshot, &sql, parameters, |rows| days.add_events(account, rows)).await?;
    Ok(days)
}

/// Findings that were active since a time.
pub(crate) async fn read_findings(snapshot: &Snapshot, since: Timestamp) -> Answer<Findings> {
    let mut found = Findings::default();
    let mut parameters = Parameters::new();
    parameters.time("since", since);
    let sql = format!("SELECT {} FROM findings WHERE last_time >= $since", findings::COLUMNS.join(", "));
    rows::each_of(snapshot, &sql, parameters, |rows| found.add(rows)).await?;
    Ok(found)
}
