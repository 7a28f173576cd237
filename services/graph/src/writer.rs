//! Commits batches: received, grouped, freed of duplicates, turned into files, committed in order.
//!
//! Each graph has one line: groups are freed of duplicates one after the other, turned into files side by side, and
//! committed in the order of the first step. A group that cannot be committed fails all behind it, since they may have
//! taken its events for known; their senders send them again.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use gumshoe_api::graph::v1::DeadLetterRecord;
use gumshoe_detections::RuleSet;
use gumshoe_enrich::Places;
use gumshoe_lake::{BatchCounts, Claims, DataFile, GraphLake, Group, LakeError, Progress, Staged, Table};
use gumshoe_model::Timestamp;
use gumshoe_records::events::{EventRows, Received};
use hashbrown::HashSet;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
};
use tracing::Instrument;

use crate::{
    dedup::{Known, number},
    extract::{Extraction, Graph},
    hot::{Hot, Own},
    matches,
    rules::Rules,
    stored,
    tabulate::{self, Dead, Part},
};

/// Bytes of events files in a group, about: batches wait for each other up to this.
const GROUP_BYTES: usize = 16 * 1024 * 1024;
/// Batches in a group.
const GROUP_BATCHES: usize = 512;
/// How long a group waits for a further batch while others are under way.
const LINGER: Duration = Duration::from_millis(100);
/// How long a group waits in all.
const LONGEST_LINGER: Duration = Duration::from_millis(500);

/// One batch as received.
#[derive(Debug)]
pub struct Batch {
    /// Its id, unique in the graph.
    pub id: String,
    /// What its records came from.
    pub source_object: String,
    /// Events, if it has any.
    pub events: Option<Received>,
    /// Records that could not be parsed.
    pub dead_letters: Vec<DeadLetterRecord>,
    /// Its size as received.
    pub bytes: usize,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Its counts.
    pub counts: BatchCounts,
    /// Whether it had been committed before.
    pub before: bool,
}

/// Why a batch was not committed; it may be sent again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The lake failed.
    #[error("the batch was not committed")]
    Lake(#[source] Arc<LakeError>),
    /// A batch before it failed, or the service stops.
    #[error("the batch was not committed, since one before it was not")]
    Aborted,
}

fn failed(error: LakeError) -> WriteError {
    WriteError::Lake(Arc::new(error))
}

type Reply = oneshot::Sender<Result<Committed, WriteError>>;

/// The line of one graph.
#[derive(Debug, Clone)]
pub struct Writer {
    batches: mpsc::Sender<(Batch, Reply)>,
    ended: watch::Receiver<()>,
}

impl Writer {
    /// Starts the line; it ends when the last clone is dropped and all is committed. `known_ids` is how many event ids
    /// are kept in memory.
    #[must_use]
    pub(crate) fn start(lake: Arc<GraphLake>, hot: Arc<Hot>, rules: Arc<Rules>, places: Arc<Places>, known_ids: usize) -> Self {
        let (batches, received) = mpsc::channel(GROUP_BATCHES);
        let (groups, prepared) = mpsc::channel(16);
        let (ending, ended) = watch::channel(());
        lake.begin_writing();
        let line = Arc::new(Line {
            lake,
            hot,
            rules,
            places,
            epoch: AtomicU64::new(0),
            known: tokio::sync::Mutex::new(Known::new(known_ids)),
            waiting: Mutex::default(),
        });
        tokio::spawn(Arc::clone(&line).group(received, groups).in_current_span());
        tokio::spawn(line.commit(prepared, ending).in_current_span());
        Self { batches, ended }
    }

    /// Takes no more batches and returns when the last one under way is committed; clones must be gone.
    pub async fn end(self) {
        let Self { batches, mut ended } = self;
        drop(batches);
        // The other end is never written to, only dropped.
        let _ = ended.changed().await;
    }

    /// Whether batches are still taken: a fault may have ended the line, and then another must be started.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.batches.is_closed()
    }

    /// Commits a batch and returns when it is durable.
    ///
    /// # Errors
    /// [`WriteError`] when it was not committed; sending it again is safe.
    pub async fn commit(&self, batch: Batch) -> Result<Committed, WriteError> {
        let (reply, result) = oneshot::channel();
        self.batches.send((batch, reply)).await.map_err(|_| WriteError::Aborted)?;
        result.await.map_err(|_| WriteError::Aborted)?
    }
}

/// A group on its way from the first step to the last.
struct Prepared {
    epoch: u64,
    ids: Vec<String>,
    files: JoinHandle<Result<(Staged, Own), WriteError>>,
    _permit: OwnedSemaphorePermit,
}

struct Line {
    lake: Arc<GraphLake>,
    hot: Arc<Hot>,
    rules: Arc<Rules>,
    places: Arc<Places>,
    /// Counts failures: a group of an older epoch may have been freed of duplicates of what was never committed.
    epoch: AtomicU64,
    known: tokio::sync::Mutex<Known>,
    /// Who waits for which batch under way: a batch sent twice at once is committed once.
    waiting: Mutex<HashMap<String, Vec<Reply>>>,
}

impl Line {
    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<Reply>>> {
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How long a group that was begun at `begun` waits for one more batch: not at all when no other is under way, since their senders
    /// may send no more before they have the answer.
    fn patience(&self, group: usize, begun: Instant) -> Duration {
        if self.waiting().len() > group && begun.elapsed() < LONGEST_LINGER { LINGER } else { Duration::ZERO }
    }

    /// Completes batches whose writer died between two commits: nobody may send them again.
    async fn complete_unfinished(&self) -> Result<(), LakeError> {
        for batch_id in self.lake.unfinished() {
            let rules = self.rules.of(self.lake.arn()).await;
            let events = stored::events_of(&self.lake, &batch_id).await?;
            let rows = events.rows()?;
            let part = Part { batch_id: &batch_id, source_object: rows.source_object.get(0), keep: vec![true; rows.len()], rows };
            let mut extraction = Extraction::new(&rules.set);
            extraction.add(0, &part.rows, &part.keep);
            let now = Timestamp(chrono::Utc::now().timestamp_micros());
            let files = derived(&mut extraction.finish(), &[part], &self.places, now)?;
            self.lake.complete(&batch_id, files).await?;
            tracing::info!(batch_id, "completed a batch whose writer had died");
        }
        Ok(())
    }

    /// The first step: groups batches and frees them of duplicates.
    async fn group(self: Arc<Self>, mut received: mpsc::Receiver<(Batch, Reply)>, groups: mpsc::Sender<Prepared>) {
        // Few groups at once: batches that come meanwhile make the next one larger, and more of their edges the same. A fifth of the
        // processors keeps up with the others, which parse.
        let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let permits = Arc::new(Semaphore::new(processors.div_ceil(5) + 1));
        let mut kept_back: Option<Batch> = None;
        if let Err(error) = self.complete_unfinished().await {
            tracing::warn!(error = &error as &dyn std::error::Error, graph = %self.lake.arn(), "unfinished batches wait for the next start");
        }
        self.hot.committed(&self.lake, &[], Vec::new()).await;
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let mut group: Vec<Batch> = Vec::new();
            let mut begun = Instant::now();
            let mut bytes = 0;
            // INVARIANT: a partial batch is a group of its own, since tables that have it are left alone whole.
            let alone = kept_back.is_some();
            group.extend(kept_back.take());
            while group.is_empty() || (!alone && bytes < GROUP_BYTES && group.len() < GROUP_BATCHES) {
                let next = if group.is_empty() {
                    match received.recv().await {
                        Some(next) => {
                            begun = Instant::now();
                            next
                        }
                        None => return,
                    }
                } else {
                    match tokio::time::timeout(self.patience(group.len(), begun), received.recv()).await {
                        Ok(Some(next)) => next,
                        _ => break,
                    }
                };
                let Some((batch, progress)) = self.admit(next) else { continue };
                bytes += batch.bytes;
                if progress == Progress::Partial && !group.is_empty() {
                    kept_back = Some(batch);
                    break;
                }
                group.push(batch);
                if progress == Progress::Partial {
                    break;
                }
            }
            let ids: Vec<String> = group.iter().map(|batch| batch.id.clone()).collect();
            let epoch = self.epoch.load(Ordering::Acquire);
            let keeps = match self.free_of_duplicates(&group).await {
                Ok(keeps) => keeps,
                Err(error) => {
                    self.known.lock().await.clear();
                    self.answer(&ids, &Err(failed(error)));
                    continue;
                }
            };
            let places = Arc::clone(&self.places);
            let now = Timestamp(chrono::Utc::now().timestamp_micros());
            let (lake, hot) = (Arc::clone(&self.lake), Arc::clone(&self.hot));
            let rules = self.rules.of(self.lake.arn()).await;
            let files = tokio::spawn(async move {
                let prepared = tokio::task::spawn_blocking(move || prepare(&group, keeps, &rules.set, &places, now)).await;
                let prepared = prepared.map_err(|_| WriteError::Aborted)?.map_err(failed)?;
                let own = hot.own(lake.arn(), &prepared.files);
                Ok((lake.stage(prepared).await.map_err(failed)?, own))
            });
            if groups.send(Prepared { epoch, ids, files, _permit: permit }).await.is_err() {
                return;
            }
        }
    }

    /// Answers a batch that is committed, joins one that is under way; else it is to be committed.
    fn admit(&self, (batch, reply): (Batch, Reply)) -> Option<(Batch, Progress)> {
        let mut waiting = self.waiting();
        if let Some(replies) = waiting.get_mut(&batch.id) {
            replies.push(reply);
            return None;
        }
        match self.lake.progress(&batch.id) {
            Progress::Committed(counts) => {
                // A sender that is gone asks again.
                let _ = reply.send(Ok(Committed { counts, before: true }));
                None
            }
            progress => {
                waiting.insert(batch.id.clone(), vec![reply]);
                Some((batch, progress))
            }
        }
    }

    fn answer(&self, ids: &[String], result: &Result<Vec<BatchCounts>, WriteError>) {
        let mut waiting = self.waiting();
        for (index, id) in ids.iter().enumerate() {
            let answer = match result {
                Ok(counts) => Ok(Committed { counts: counts.get(index).copied().unwrap_or_default(), before: false }),
                Err(error) => Err(error.clone()),
            };
            for reply in waiting.remove(id).unwrap_or_default() {
                let _ = reply.send(answer.clone());
            }
        }
    }

    /// For each batch, which rows are new.
    async fn free_of_duplicates(&self, group: &[Batch]) -> Result<Vec<Vec<bool>>, LakeError> {
        let mut known = self.known.lock().await;
        let batches: Vec<Option<EventRows<'_>>> =
            group.iter().map(|batch| batch.events.as_ref().map(|received| received.events.rows()).transpose()).collect::<Result<_, _>>()?;
        let mut hours = BTreeSet::new();
        for rows in batches.iter().flatten() {
            let mut latest = None;
            for (_, time) in rows.time.iter().enumerate().filter(|(row, _)| rows.has_own_id(*row)) {
                let hour = Timestamp(*time).hour().0;
                if latest.replace(hour) != Some(hour) {
                    hours.insert(hour);
                }
            }
        }
        known.load(&self.lake, &hours).await?;
        let (mut keeps, mut claimed) = (Vec::with_capacity(group.len()), Vec::new());
        for (batch, rows) in group.iter().zip(&batches) {
            let Some(rows) = rows else {
                keeps.push(Vec::new());
                continue;
            };
            // A batch whose events are in the lake already has been freed of duplicates before: the same ones stay.
            let mut own: Option<HashSet<u128>> = None;
            if self.lake.is_in(Table::Events, &batch.id) {
                own = Some(self.lake.event_ids(&batch.id).await?.iter().map(|id| number(id)).collect());
            }
            let mut is_new = |(row, time): (usize, &i64)| match &mut own {
                Some(own) => own.remove(&number(rows.id(row))),
                None if rows.has_own_id(row) => {
                    let id = number(rows.id(row));
                    let new = known.insert(Timestamp(*time).hour().0, id);
                    claimed.extend(new.then_some(id));
                    new
                }
                None => true,
            };
            keeps.push(rows.time.iter().enumerate().map(&mut is_new).collect());
        }
        known.claim(claimed);
        known.shrink();
        Ok(keeps)
    }

    /// The last step: commits groups in order.
    async fn commit(self: Arc<Self>, mut prepared: mpsc::Receiver<Prepared>, _ending: watch::Sender<()>) {
        while let Some(next) = prepared.recv().await {
            let group = match next.files.await {
                Ok(group) => group,
                Err(_) => Err(WriteError::Aborted),
            };
            let current = next.epoch == self.epoch.load(Ordering::Acquire);
            let result = match group {
                Ok(_) if !current => Err(WriteError::Aborted),
                Ok((group, own)) => {
                    let counts = group.batches().iter().map(|(_, counts)| *counts).collect();
                    match self.lake.commit(&group, &*self).await {
                        Ok(versions) => {
                            self.hot.committed(&self.lake, &versions, own).await;
                            Ok(counts)
                        }
                        Err(error) => Err(failed(error)),
                    }
                }
                Err(error) => Err(error),
            };
            self.known.lock().await.release();
            if current && let Err(error) = &result {
                tracing::warn!(error = error as &dyn std::error::Error, graph = %self.lake.arn(), "a group was not committed");
                self.epoch.fetch_add(1, Ordering::AcqRel);
                self.known.lock().await.clear();
                // What is in the lake may not be what was seen last.
                if let Err(error) = self.lake.catch_up().await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the lake could not be read again");
                }
            }
            self.answer(&next.ids, &result);
        }
    }
}

#[async_trait]
impl Claims for Line {
    async fn admit(&self, events: &[RecordBatch]) -> bool {
        self.known.lock().await.admit(events)
    }
}

fn prepare(group: &[Batch], keeps: Vec<Vec<bool>>, rules: &RuleSet, places: &Places, now: Timestamp) -> Result<Group, LakeError> {
    let mut batches = Vec::with_capacity(group.len());
    let (mut parts, mut files) = (Vec::with_capacity(group.len()), Vec::with_capacity(group.len()));
    let mut dead = Vec::new();
    let mut extraction = Extraction::new(rules);
    for (batch, keep) in group.iter().zip(keeps) {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let kept = keep.iter().filter(|keep| **keep).count();
        let counts = BatchCounts { events: count(kept), duplicates: count(keep.len() - kept), dead_letters: count(batch.dead_letters.len()) };
        batches.push((batch.id.clone(), counts));
        dead.extend(batch.dead_letters.iter().map(|letter| Dead { batch_id: &batch.id, source_object: &batch.source_object, letter }));
        if let Some(received) = &batch.events {
            let rows = received.events.rows()?;
            extraction.add(parts.len(), &rows, &keep);
            files.push(&received.file);
            parts.push(Part { batch_id: &batch.id, source_object: &batch.source_object, rows, keep });
        }
    }
    let mut made = tabulate::events(&parts, &files)?;
    made.extend(derived(&mut extraction.finish(), &parts, places, now)?);
    made.extend(tabulate::dead_letters(&dead, now)?);
    Ok(Group { batches, files: made })
}

/// Files of all that follows from events.
fn derived(graph: &mut Graph<'_>, parts: &[Part<'_>], places: &Places, now: Timestamp) -> Result<Vec<DataFile>, LakeError> {
    let mut files = tabulate::edges(graph, places)?;
    files.extend(tabulate::volumes(graph, parts, now)?);
    files.extend(tabulate::entities(graph)?);
    files.extend(tabulate::findings(&graph.findings, &matches::made(graph), parts)?);
    Ok(files)
}
