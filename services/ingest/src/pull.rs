//! Pulling sources: each is listed and its ledger worked off, by whichever replica claims an object first.

use std::{collections::HashMap, sync::Arc, time::Duration};

use gumshoe_model::{GraphArn, Timestamp};
use gumshoe_runtime::{Clock as _, Shutdown, SystemClock, status::Chain};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    batch::{Batch, Batches},
    bucket::{Bucket, OpenError, Opened},
    config,
    discover::Discovery,
    error::Error,
    input::{Input, Piece},
    notify::Queue,
    store::{Claimed, Counts, Outcome, PullStatus, Source, SqlStore, StoreError},
};

/// How often sources that other replicas have created or deleted are looked for, and ledgers for what others have added.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Objects claimed at once, so that replicas share the work.
const CLAIM: u32 = 16;
/// With this many bytes claimed, further objects are left to others.
const CLAIMED_BYTES: u64 = 256 << 20;
/// Ranges of a large object that wait for its parser.
const PIECES_WAITING: usize = 1;

/// Pulls sources.
#[derive(Debug)]
pub struct Puller {
    store: SqlStore,
    discovery: Discovery,
    batches: Batches,
    config: config::Sources,
    parsers: Arc<Semaphore>,
    in_flight: Arc<Semaphore>,
    /// Who claims: this process.
    worker: String,
    /// Told when there may be work, or another set of sources.
    work: watch::Sender<()>,
    /// Told when a source has nothing more under way.
    idle: watch::Sender<()>,
}

impl Puller {
    /// Pulls the sources in `store` through `batches`; `parsers` is how many objects are parsed at once.
    #[must_use]
    pub fn new(store: SqlStore, batches: Batches, parsers: Arc<Semaphore>, config: config::Sources) -> Arc<Self> {
        Arc::new(Self {
            discovery: Discovery::new(store.clone()),
            store,
            batches,
            parsers,
            in_flight: Arc::new(Semaphore::new(config.objects_in_flight)),
            config,
            worker: uuid::Uuid::new_v4().to_string(),
            work: watch::Sender::new(()),
            idle: watch::Sender::new(()),
        })
    }

    /// Says that sources have changed or objects been added.
    pub fn wake(&self) {
        self.work.send_replace(());
    }

    /// Pulls until shutdown is requested, then gives up what is under way: it is claimed again by others.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let mut tasks: HashMap<(GraphArn, String), (CancellationToken, AbortOnDropHandle<()>)> = HashMap::new();
        let renewing = async {
            let lease = Duration::from_secs(self.config.lease_seconds);
            loop {
                tokio::time::sleep(lease / 3).await;
                if let Err(error) = self.store.renew(&self.worker, after(SystemClock.now(), lease)).await {
                    tracing::warn!(error = %Chain(&error), "claims cannot be prolonged");
                }
            }
        };
        let supervising = async {
            let mut work = self.work.subscribe();
            loop {
                match self.store.all_sources().await {
                    Ok(sources) => self.follow(&mut tasks, sources),
                    Err(error) => tracing::warn!(error = %Chain(&error), "sources cannot be read"),
                }
                tokio::select! {
                    _ = work.changed() => {}
                    () = tokio::time::sleep(LOOK_INTERVAL) => {}
                }
            }
        };
        tokio::select! {
            () = shutdown.requested() => {}
            () = renewing => {}
            () = supervising => {}
        }
        for (cancelled, _) in tasks.values() {
            cancelled.cancel();
        }
        for (_, task) in tasks.into_values() {
            // A panic has been logged.
            let _ = task.await;
        }
        if let Err(error) = self.store.release(&self.worker).await {
            tracing::warn!(error = %Chain(&error), "claims cannot be given up and will expire");
        }
    }

    /// Starts what is new and ends what is gone.
    fn follow(self: &Arc<Self>, tasks: &mut HashMap<(GraphArn, String), (CancellationToken, AbortOnDropHandle<()>)>, sources: Vec<Source>) {
        let mut followed = HashMap::with_capacity(sources.len());
        for source in sources {
            let key = (source.graph.clone(), source.id.clone());
            let task = tasks.remove(&key).filter(|(_, task)| !task.is_finished()).unwrap_or_else(|| {
                let cancelled = CancellationToken::new();
                let task = tokio::spawn(Arc::clone(self).pull(source, cancelled.clone()));
                (cancelled, AbortOnDropHandle::new(task))
            });
            followed.insert(key, task);
        }
        for (cancelled, _) in tasks.values() {
            cancelled.cancel();
        }
        *tasks = followed;
    }

    /// Pulls one source until `cancelled`.
    async fn pull(self: Arc<Self>, source: Source, cancelled: CancellationToken) {
        let listing = async {
            let mut first = true;
            loop {
                // Not all sources and replicas at the same moment; the first time at once.
                if !first {
                    tokio::time::sleep(source.settings.poll_interval).await;
                }
                first = false;
                if let Err(error) = self.list(&source.graph, &source.name).await {
                    tracing::warn!(source = source.name, error = %Chain(&error), "a source cannot be listed");
                }
            }
        };
        let receiving = async {
            match Bucket::open(&source.settings, &self.config) {
                Ok(bucket) if !source.settings.sqs_queue_url.is_empty() => {
                    Queue { source: &source, bucket: &bucket, discovery: &self.discovery, config: &self.config }.run(|| self.wake()).await;
                }
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = cancelled.cancelled() => {}
            () = listing => {}
            () = receiving => {}
            () = self.work_off(&source) => {}
        }
    }

    /// Lists a source again now; its ledger then has all that is there.
    ///
    /// # Errors
    /// [`Error::Listing`], [`Error::SourceNotFound`] and [`Error::Store`].
    pub async fn list(&self, graph: &GraphArn, name: &str) -> Result<Source, Error> {
        // Read again, for the time of the last listing.
        let source = self.store.source(graph, name).await.map_err(|error| gone(error, name))?;
        let opened = Bucket::open(&source.settings, &self.config);
        let bucket = match opened {
            Ok(bucket) => bucket,
            Err(reason) => {
                self.store.note_listing(&source, None, &reason).await?;
                return Err(Error::Listing(reason));
            }
        };
        let listed = self.discovery.list(&source, &bucket, SystemClock.now()).await;
        self.wake();
        listed.map_err(|error| match error {
            Error::Store(error) => gone(error, name),
            error => error,
        })?;
        Ok(source)
    }

    /// Lets failed objects be tried again at once, then lists; returns the source and when this began.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn begin_sync(&self, graph: &GraphArn, name: &str) -> Result<(Source, Timestamp), Error> {
        let begun = SystemClock.now();
        let source = self.store.source(graph, name).await.map_err(|error| gone(error, name))?;
        self.store.retry_failed(&source).await?;
        Ok((source, begun))
    }

    /// Returns when some source has nothing more under way.
    pub async fn idle(&self) {
        // The sender is a part of this.
        let _ = self.idle.subscribe().changed().await;
    }

    /// How far a pull is that began at `begun`.
    ///
    /// # Errors
    /// [`Error::SourceNotFound`] if the source is deleted meanwhile, and [`Error::Store`].
    pub async fn sync_status(&self, source: &Source, begun: Timestamp) -> Result<PullStatus, Error> {
        let present = self.store.source(&source.graph, &source.name).await.map_err(|error| gone(error, &source.name))?;
        if present.id != source.id {
            return Err(Error::SourceNotFound(source.name.clone()));
        }
        Ok(self.store.pull_status(source, begun).await?)
    }

    /// Claims and ingests objects of a source for ever.
    async fn work_off(self: &Arc<Self>, source: &Source) {
        let mut running: JoinSet<(String, u64, Outcome)> = JoinSet::new();
        let mut running_bytes = 0_u64;
        let mut work = self.work.subscribe();
        let mut more = true;
        loop {
            let room = self.config.objects_in_flight.saturating_sub(running.len());
            if more && room > 0 && (running.is_empty() || running_bytes < CLAIMED_BYTES) {
                let now = SystemClock.now();
                let until = after(now, Duration::from_secs(self.config.lease_seconds));
                let limit = CLAIM.min(u32::try_from(room).unwrap_or(CLAIM));
                match self.store.claim(source, &self.worker, now, until, limit).await {
                    Ok(claimed) => {
                        more = !claimed.is_empty();
                        for object in claimed {
                            running_bytes += object.size;
                            let (puller, source) = (Arc::clone(self), source.clone());
                            running.spawn(async move {
                                let outcome = puller.ingest(&source, &object).await;
                                (object.id, object.size, outcome)
                            });
                        }
                        if more {
                            continue;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(source = source.name, error = %Chain(&error), "objects cannot be claimed");
                        more = false;
                    }
                }
            }
            tokio::select! {
                Some(finished) = running.join_next() => {
                    let mut outcomes = Vec::new();
                    let mut next = Some(finished);
                    while let Some(finished) = next {
                        match finished {
                            Ok((id, size, outcome)) => {
                                running_bytes = running_bytes.saturating_sub(size);
                                outcomes.push((id, outcome));
                            }
                            // Its claim expires, and it is tried again.
                            Err(error) => tracing::error!(error = %error, "an object's task ended early"),
                        }
                        next = running.try_join_next();
                    }
                    self.finish(source, &outcomes).await;
                    if running.is_empty() {
                        self.idle.send_replace(());
                    }
                }
                _ = work.changed() => more = true,
                () = tokio::time::sleep(LOOK_INTERVAL) => more = true,
            }
        }
    }

    /// Writes outcomes down, trying for as long as the claims last.
    async fn finish(&self, source: &Source, outcomes: &[(String, Outcome)]) {
        for (id, outcome) in outcomes {
            if matches!(outcome, Outcome::Failed { next_try: None, .. }) {
                self.discovery.forget(source, id);
            }
        }
        let mut pause = Duration::from_millis(100);
        while let Err(error) = self.store.finish(source, &self.worker, outcomes, SystemClock.now()).await {
            tracing::warn!(source = source.name, error = %Chain(&error), "the ledger cannot be written");
            if pause > Duration::from_secs(10) {
                // Tried again after the claims have expired; the graph then knows the batches.
                return;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// Ingests one object.
    async fn ingest(&self, source: &Source, object: &Claimed) -> Outcome {
        let Ok(_in_flight) = self.in_flight.acquire().await else { return self.postponed(object, "the service is ending") };
        if object.size == 0 {
            return Outcome::Done(Counts::default());
        }
        let bucket = match Bucket::open(&source.settings, &self.config) {
            Ok(bucket) => bucket,
            Err(reason) => return self.failed(object, format!("the source's URL {reason}")),
        };
        let opened = match bucket.open_object(&object.key, &object.etag, object.size).await {
            Ok(opened) => opened,
            Err(error) => return self.unopened(object, &error),
        };
        let Ok(parser) = Arc::clone(&self.parsers).acquire_owned().await else { return self.postponed(object, "the service is ending") };
        let batch = Batch {
            graph: source.graph.clone(),
            id: object.id.clone(),
            source_object: bucket.name(&object.key),
            eks_cluster: source.settings.eks_cluster.clone(),
            request_id: uuid::Uuid::now_v7().to_string(),
        };
        let (ingested, streamed) = match opened {
            Opened::Ready(input) => (self.batches.ingest(batch, input, parser).await, Ok(())),
            Opened::Large(size) => {
                let (sender, receiver) = mpsc::channel::<Piece>(PIECES_WAITING);
                let input = Input::Pieces(std::collections::VecDeque::new(), receiver);
                tokio::join!(self.batches.ingest(batch, input, parser), bucket.stream(&object.key, &object.etag, size, sender))
            }
        };
        match (ingested, streamed) {
            (Ok(counts), _) => Outcome::Done(counts),
            (Err(_), Err(error)) => self.unopened(object, &error),
            (Err(Error::GraphUnavailable(status)), _) => {
                tracing::warn!(source = source.name, object = object.key, reason = status.message(), "the graph service does not answer");
                self.postponed(object, "the graph service does not answer")
            }
            (Err(Error::MembershipUnavailable(status)), _) => {
                tracing::warn!(source = source.name, object = object.key, reason = status.message(), "the membership service does not answer");
                self.postponed(object, "the membership service does not answer")
            }
            (Err(error), _) => {
                tracing::warn!(source = source.name, object = object.key, error = %Chain(&error), "an object cannot be ingested");
                let reason = match error {
                    Error::Broken(reason) => reason,
                    Error::GraphRefused(_) => "the graph service refused it".to_owned(),
                    Error::GraphGone => error.to_string(),
                    _ => "internal error".to_owned(),
                };
                self.failed(object, reason)
            }
        }
    }

    fn unopened(&self, object: &Claimed, error: &OpenError) -> Outcome {
        match error {
            // Trying again cannot help: should it come back, a listing finds it.
            OpenError::Gone | OpenError::Changed => Outcome::Failed { reason: error.to_string(), counts: Counts::default(), next_try: None },
            OpenError::Failed(reason) => self.failed(object, reason.clone()),
        }
    }

    fn failed(&self, object: &Claimed, reason: String) -> Outcome {
        Outcome::Failed { reason, counts: Counts::default(), next_try: Some(self.next_try(object)) }
    }

    fn postponed(&self, object: &Claimed, reason: &str) -> Outcome {
        Outcome::Postponed { reason: reason.to_owned(), next_try: self.next_try(object) }
    }

    fn next_try(&self, object: &Claimed) -> Timestamp {
        after(SystemClock.now(), self.config.retry_pause(object.attempts))
    }
}

fn after(time: Timestamp, duration: Duration) -> Timestamp {
    Timestamp(time.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
}

pub(crate) fn gone(error: StoreError, name: &str) -> Error {
    match error {
        StoreError::NotFound => Error::SourceNotFound(name.to_owned()),
        error => Error::Store(error),
    }
}
