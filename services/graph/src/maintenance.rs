//! Keeps the tables of graphs readable, in the background: merges small files, removes old rows and unused files.
//!
//! Every replica goes round all graphs of the lake. Who takes a graph's lease does the work; the others pass it by.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gumshoe_lake::{
    Lake, LakeError, Layout,
    maintenance::{Compacted, Expired, Vacuumed},
};
use gumshoe_model::{GraphArn, Timestamp, time::MICROS_PER_DAY};
use gumshoe_runtime::{Clock, Shutdown, status::Chain};
use tokio::time::{Instant, sleep};
use tracing::{Instrument as _, field::Empty};

use crate::{
    config,
    lease::{Lease, Leases, Work as Leased},
    store::StoreError,
};

/// How often unused files of a graph are looked for.
const VACUUM_PAUSE: Duration = Duration::from_secs(3_600);
/// How long the removal of a graph waits for a replica to let go of it.
const PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(100);

/// The work on all graphs.
pub struct Maintenance {
    lake: Arc<Lake>,
    leases: Leases,
    clock: Arc<dyn Clock>,
    config: config::Maintenance,
    graphs: Mutex<HashMap<GraphArn, Last>>,
}

/// What this process has last done to a graph.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    /// Rows that are older than this are gone.
    since: Option<Timestamp>,
    vacuum: Option<Timestamp>,
}

/// What was done to a graph in one round.
#[derive(Debug, Default)]
struct Work {
    expired: Expired,
    vacuumed: Vacuumed,
    compacted: Compacted,
}

/// The graphs of a lake, for work that goes round all of them; none if they cannot be listed now.
pub(crate) async fn graphs(lake: &Lake) -> Vec<GraphArn> {
    lake.graphs().await.unwrap_or_else(|error| {
        tracing::warn!(error = %Chain(&error), "the graphs of the lake cannot be listed");
        Vec::new()
    })
}

impl Maintenance {
    /// Maintains the graphs of `lake` that others do not, as `leases` say.
    #[must_use]
    pub fn new(lake: Arc<Lake>, leases: Leases, clock: Arc<dyn Clock>, config: config::Maintenance) -> Self {
        Self { lake, leases, clock, config, graphs: Mutex::default() }
    }

    /// Goes round until shutdown is requested; what is under way is then cut off, which harms nothing.
    pub async fn run(&self, shutdown: &Shutdown) {
        if !self.config.enabled {
            return;
        }
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                () = sleep(Duration::from_secs(self.config.interval_seconds)) => {}
            }
            self.round(shutdown).await;
        }
    }

    /// Maintains every graph once that nobody else maintains.
    pub async fn round(&self, shutdown: &Shutdown) {
        for graph in graphs(&self.lake).await {
            if shutdown.is_requested() {
                return;
            }
            let span = tracing::info_span!(
                "maintenance",
                %graph,
                merges = Empty,
                files_removed = Empty,
                files_added = Empty,
                bytes_added = Empty,
                days_expired = Empty,
                files_expired = Empty,
                files_deleted = Empty,
                log_files_deleted = Empty,
            );
            self.maintain(&graph, shutdown).instrument(span).await;
        }
    }

    /// The lease of a graph that is to be removed for some work, once nobody does it: of maintenance, for good in this process, and
    /// in others as long as the lease is held. `None` if another replica does not let go of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn exclude(&self, graph: &GraphArn, work: Leased) -> Result<Option<Lease>, StoreError> {
        self.lake.close(graph).await;
        let end = Instant::now() + PATIENCE;
        loop {
            let lease = self.leases.take(graph, work).await?;
            if lease.is_some() || Instant::now() >= end {
                return Ok(lease);
            }
            sleep(POLL).await;
        }
    }

    async fn maintain(&self, graph: &GraphArn, shutdown: &Shutdown) {
        let lease = match self.leases.take(graph, Leased::Maintenance).await {
            Ok(Some(lease)) => lease,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), %graph, "the lease of a graph cannot be taken");
                return;
            }
        };
        let outcome = tokio::select! {
            outcome = lease.during(self.work(graph, &lease)) => outcome.unwrap_or(Err(LakeError::Superseded)),
            () = shutdown.requested() => Ok(Work::default()),
        };
        lease.release().await;
        match outcome {
            Ok(work) => work.tell(graph),
            Err(LakeError::Removed) => {}
            Err(error @ LakeError::Superseded) => tracing::info!(reason = %error, %graph, "the maintenance of a graph was given up"),
            Err(error) => tracing::warn!(error = %Chain(&error), %graph, "a graph could not be maintained, and is tried again"),
        }
    }

    async fn work(&self, graph: &GraphArn, lease: &Lease) -> Result<Work, LakeError> {
        let lake = self.lake.graph(graph).await?;
        lake.catch_up().await?;
        let (mut work, mut last) = (Work::default(), self.last(graph));
        let layout = Layout { target_file_bytes: self.config.target_file_bytes, min_files: self.config.min_files };
        let now = self.clock.now();
        if let Some(since) = self.kept_since(now) {
            // INVARIANT: events go before the batches that brought them.
            work.expired = lake.expire_days(since, lease).await?;
            if last.since != Some(since) {
                work.expired.files += lake.expire_rows(since, layout, lease).await?.files;
                last.since = Some(since);
                self.note(graph, last);
            }
        }
        if last.vacuum.is_none_or(|vacuum| micros(VACUUM_PAUSE) <= now.0 - vacuum.0) {
            let keep = Duration::from_secs(3_600).saturating_mul(self.config.vacuum_hours);
            work.vacuumed = lake.vacuum(keep, now).await?;
            last.vacuum = Some(now);
            self.note(graph, last);
        }
        work.compacted = lake.compact(layout, now, lease).await?;
        Ok(work)
    }

    /// The beginning of the first day that is kept; `None` if all are.
    fn kept_since(&self, now: Timestamp) -> Option<Timestamp> {
        let days = i64::from(self.config.retention_days);
        (days > 0).then(|| Timestamp((now.day() - days) * MICROS_PER_DAY))
    }

    fn last(&self, graph: &GraphArn) -> Last {
        self.graphs.lock().unwrap_or_else(PoisonError::into_inner).get(graph).copied().unwrap_or_default()
    }

    fn note(&self, graph: &GraphArn, last: Last) {
        self.graphs.lock().unwrap_or_else(PoisonError::into_inner).insert(graph.clone(), last);
    }
}

impl Work {
    fn tell(&self, graph: &GraphArn) {
        let Self { expired, vacuumed, compacted } = self;
        let span = tracing::Span::current();
        span.record("merges", compacted.merges);
        span.record("files_removed", compacted.files_removed);
        span.record("files_added", compacted.files_added);
        span.record("bytes_added", compacted.bytes_added);
        span.record("days_expired", expired.days);
        span.record("files_expired", expired.files);
        span.record("files_deleted", vacuumed.files);
        span.record("log_files_deleted", vacuumed.log_files);
        if compacted.merges > 0 {
            tracing::info!(%graph, merges = compacted.merges, files = compacted.files_removed, into = compacted.files_added, "merged files");
        }
        if expired.files > 0 {
            tracing::info!(%graph, days = expired.days, files = expired.files, "removed what is older than the retention time");
        }
        if vacuumed.files > 0 {
            tracing::info!(%graph, files = vacuumed.files, bytes = vacuumed.bytes, "deleted unused files");
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use gumshoe_lake::{Alone, BatchCounts, GraphLake, Group};
    use gumshoe_runtime::FixedClock;

    use super::*;
    use crate::{
        lease::LEASE,
        store::{Store, sql::SqlStore},
    };

    const NOW: Timestamp = Timestamp(1_790_000_000_000_000);

    struct Fixture {
        folder: tempfile::TempDir,
        lake: Arc<Lake>,
        graph: GraphArn,
        store: Arc<SqlStore>,
        clock: Arc<FixedClock>,
    }

    impl Fixture {
        async fn start() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let url = format!("sqlite://{}", folder.path().join("graph.db").display()).parse().unwrap();
            let config = config::Store::new(url);
            SqlStore::migrate(&config).await.unwrap();
            let store = Arc::new(SqlStore::open(&config).await.unwrap());
            let graph = "arn:aws:detective:us-east-1:111122223333:graph:0123456789abcdef0123456789abcdef".parse().unwrap();
            let lake = Arc::new(open(folder.path()).await);
            Self { folder, lake, graph, store, clock: Arc::new(FixedClock::new(NOW)) }
        }

        fn maintenance(&self, lake: Arc<Lake>, store: Arc<dyn Store>) -> Maintenance {
            let config = config::Maintenance { min_files: 2, retention_days: 0, ..config::Maintenance::default() };
            Maintenance::new(lake, Leases::new(store, self.clock.clone()), self.clock.clone(), config)
        }

        /// Commits some files that could be merged.
        async fn commit(&self, name: &str) -> Arc<GraphLake> {
            let graph = self.lake.graph(&self.graph).await.unwrap();
            for number in 0..3 {
                let counts = BatchCounts { events: 1, ..BatchCounts::default() };
                let group = Group { batches: vec![(format!("{name}-{number}"), counts)], files: Vec::new() };
                graph.commit(&graph.stage(group).await.unwrap(), &Alone).await.unwrap();
            }
            graph
        }
    }

    async fn open(folder: &std::path::Path) -> Lake {
        let config = serde_json::json!({ "url": format!("file://{}", folder.join("lake").display()) });
        Lake::open(&serde_json::from_value(config).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn another_replica_takes_a_graph_over_when_its_holder_is_dead() {
        let fixture = Fixture::start().await;
        let graph = fixture.commit("a").await;
        let dead = Leases::new(fixture.store.clone(), fixture.clock.clone()).take(&fixture.graph, Leased::Maintenance).await.unwrap();
        assert!(dead.is_some());
        // A replica that has never seen the graph finds it in the lake.
        let heir = fixture.maintenance(Arc::new(open(fixture.folder.path()).await), fixture.store.clone());
        let before = graph.version();
        heir.round(&Shutdown::new()).await;
        graph.catch_up().await.unwrap();
        assert_eq!(graph.version(), before, "the lease is another's");
        fixture.clock.advance(LEASE);
        heir.round(&Shutdown::new()).await;
        graph.catch_up().await.unwrap();
        assert!(graph.version() > before);
        // The lease was given back.
        let before = fixture.commit("b").await.version();
        fixture.maintenance(fixture.lake.clone(), fixture.store.clone()).round(&Shutdown::new()).await;
        assert!(graph.version() > before);
    }

    /// Every lease is lost as soon as it is taken.
    struct Losing(Arc<SqlStore>);

    #[async_trait]
    impl Store for Losing {
        async fn take(&self, name: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
            self.0.take(name, holder, now, until).await
        }

        async fn renew(&self, _: &str, _: &str, _: Timestamp, _: Timestamp) -> Result<bool, StoreError> {
            Ok(false)
        }

        async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
            self.0.release(name, holder).await
        }
    }

    #[tokio::test]
    async fn who_has_lost_the_lease_commits_nothing() {
        let fixture = Fixture::start().await;
        let graph = fixture.commit("a").await;
        let before = graph.version();
        fixture.maintenance(fixture.lake.clone(), Arc::new(Losing(fixture.store.clone()))).round(&Shutdown::new()).await;
        graph.catch_up().await.unwrap();
        assert_eq!(graph.version(), before);
        fixture.maintenance(fixture.lake.clone(), fixture.store.clone()).round(&Shutdown::new()).await;
        assert!(graph.version() > before);
    }

    #[tokio::test]
    async fn nobody_maintains_a_graph_that_is_being_removed() {
        let fixture = Fixture::start().await;
        let graph = fixture.commit("a").await;
        let maintenance = fixture.maintenance(fixture.lake.clone(), fixture.store.clone());
        let lease = maintenance.exclude(&fixture.graph, Leased::Maintenance).await.unwrap().unwrap();
        let before = graph.version();
        for lake in [fixture.lake.clone(), Arc::new(open(fixture.folder.path()).await)] {
            fixture.maintenance(lake, fixture.store.clone()).round(&Shutdown::new()).await;
            graph.catch_up().await.unwrap();
            assert_eq!(graph.version(), before);
        }
        lease.release().await;
        maintenance.round(&Shutdown::new()).await;
        graph.catch_up().await.unwrap();
        assert_eq!(graph.version(), before, "in this process for good");
    }
}
