//! How much accounts give to graphs: asked of the lake at most once a minute, and never waited for long.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use gumshoe_model::{AccountId, GraphArn, Timestamp};
use gumshoe_runtime::{Clock, status::Chain};
use moka::{Expiry, future::Cache};

use crate::{
    datasource::Package,
    lake::{Lake, Volume},
    member::Load,
};

/// Days over which volumes are looked at where nothing else is asked for.
pub const DAYS: u32 = 30;
/// Days that can be asked for.
pub const MAX_DAYS: u32 = 90;

const FRESH: Duration = Duration::from_secs(60);
/// A lake that does not answer is asked again soon, but not by every call.
const FAILED: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(2);
const MAX_GRAPHS: u64 = 10_000;

/// The UTC day of a time, `2024-06-30`.
#[must_use]
pub fn day_of(time: Timestamp) -> String {
    time.to_string().chars().take(10).collect()
}

/// Volumes of one graph.
#[derive(Debug, PartialEq, Eq)]
pub struct Measured {
    volumes: Vec<Volume>,
    time: Timestamp,
}

/// Bytes of one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Daily {
    /// How many.
    pub bytes: u64,
    /// When this was so: the end of the day, or now if the day is not over.
    pub time: Timestamp,
}

impl Measured {
    /// Volumes as they were at `time`.
    #[must_use]
    pub fn new(volumes: Vec<Volume>, time: Timestamp) -> Self {
        Self { volumes, time }
    }

    /// All there is.
    #[must_use]
    pub fn volumes(&self) -> &[Volume] {
        &self.volumes
    }

    /// When they were asked for.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// What each account gives a day, by package: of the last complete day, or of today for an account that has no
    /// complete day yet.
    #[must_use]
    pub fn daily(&self) -> HashMap<&str, BTreeMap<Package, Daily>> {
        let today = day_of(self.time);
        let midnight = Timestamp(self.time.day().saturating_mul(gumshoe_model::time::MICROS_PER_DAY));
        let yesterday = day_of(Timestamp(midnight.0.saturating_sub(1)));
        let settled: BTreeSet<&str> = self.volumes.iter().filter(|volume| volume.day < today).map(|volume| volume.account.as_str()).collect();
        let mut daily: HashMap<&str, BTreeMap<Package, Daily>> = HashMap::new();
        for volume in &self.volumes {
            let (day, time) = if settled.contains(volume.account.as_str()) { (&yesterday, midnight) } else { (&today, self.time) };
            let entry = daily.entry(&volume.account).or_default().entry(volume.package).or_insert(Daily { bytes: 0, time });
            if volume.day == *day {
                entry.bytes = entry.bytes.saturating_add(volume.bytes);
            }
        }
        daily
    }

    fn daily_bytes(&self, account: Option<&AccountId>) -> u64 {
        let daily = self.daily();
        let counted = daily.iter().filter(|(name, _)| account.is_none_or(|account| account.as_str() == **name));
        counted.flat_map(|(_, packages)| packages.values()).fold(0, |sum, daily| sum.saturating_add(daily.bytes))
    }
}

/// Asks the lake for volumes, and remembers them.
pub struct Volumes {
    lake: Option<Arc<dyn Lake>>,
    clock: Arc<dyn Clock>,
    cache: Cache<(GraphArn, u32), Option<Arc<Measured>>>,
    limit: u64,
}

impl Volumes {
    /// Asks `lake`, if there is one; a graph may take in `limit` bytes a day.
    #[must_use]
    pub fn new(lake: Option<Arc<dyn Lake>>, clock: Arc<dyn Clock>, limit: u64) -> Self {
        Self { lake, clock, cache: Cache::builder().max_capacity(MAX_GRAPHS).expire_after(Lifetimes).build(), limit }
    }

    /// Volumes of a graph over [`DAYS`], or [`MAX_DAYS`] where `days` is more; `None` if they cannot be had. Calls at the
    /// same time are one call of the lake.
    pub async fn of_graph(&self, graph: &GraphArn, days: u32) -> Option<Arc<Measured>> {
        let lake = self.lake.as_ref()?;
        let days = if days <= DAYS { DAYS } else { MAX_DAYS };
        self.cache.get_with((graph.clone(), days), self.ask(lake, graph, days)).await
    }

    async fn ask(&self, lake: &Arc<dyn Lake>, graph: &GraphArn, days: u32) -> Option<Arc<Measured>> {
        match tokio::time::timeout(PATIENCE, lake.volumes(graph, days)).await {
            Ok(Ok(volumes)) => Some(Arc::new(Measured::new(volumes, self.clock.now()))),
            Ok(Err(error)) => {
                tracing::warn!(error = %Chain(&error), "volumes cannot be had");
                None
            }
            Err(_) => {
                tracing::warn!("volumes were not had in time");
                None
            }
        }
    }

    /// Whether a graph can take an account's logs as well: what it takes in, and what the account is known to give
    /// `elsewhere`, are within the limit. Logs that several graphs take in are the same, and counted once.
    pub async fn load(&self, graph: &GraphArn, account: &AccountId, elsewhere: &[GraphArn]) -> Load {
        let Some(own) = self.of_graph(graph, DAYS).await else { return Load::Unknown };
        let mut most = 0;
        for other in elsewhere.iter().filter(|other| *other != graph) {
            let Some(measured) = self.of_graph(other, DAYS).await else { return Load::Unknown };
            most = most.max(measured.daily_bytes(Some(account)));
        }
        if own.daily_bytes(None).saturating_add(most) > self.limit { Load::TooHigh } else { Load::Fits }
    }
}

struct Lifetimes;

impl<K> Expiry<K, Option<Arc<Measured>>> for Lifetimes {
    fn expire_after_create(&self, _: &K, value: &Option<Arc<Measured>>, _: Instant) -> Option<Duration> {
        Some(if value.is_some() { FRESH } else { FAILED })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use gumshoe_runtime::FixedClock;

    use super::*;
    use crate::lake::Unreachable;

    const A: &str = "111111111111";
    const B: &str = "222222222222";

    fn now() -> Timestamp {
        Timestamp::parse("2024-06-30T12:00:00Z").unwrap()
    }

    fn volume(account: &str, package: Package, day: &str, bytes: u64) -> Volume {
        Volume { account: account.to_owned(), package, day: day.to_owned(), records: 1, bytes }
    }

    fn graph(id: char) -> GraphArn {
        format!("arn:aws:detective:us-east-1:{A}:graph:{}", id.to_string().repeat(32)).parse().unwrap()
    }

    #[derive(Default)]
    struct Fake {
        calls: AtomicUsize,
        graphs: HashMap<GraphArn, Vec<Volume>>,
    }

    #[async_trait]
    impl Lake for Fake {
        async fn volumes(&self, graph: &GraphArn, _: u32) -> Result<Vec<Volume>, Unreachable> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            self.graphs.get(graph).cloned().ok_or_else(|| Unreachable("none".into()))
        }

        async fn delete_graph(&self, _: &GraphArn) -> Result<(), Unreachable> {
            Ok(())
        }
    }

    #[test]
    fn the_last_complete_day_counts_or_today_for_newcomers() {
        let core = Package::DetectiveCore;
        let measured = Measured::new(
            vec![
                volume(A, core, "2024-06-28", 1),
                volume(A, core, "2024-06-29", 10),
                volume(A, Package::EksAudit, "2024-06-29", 5),
                volume(A, core, "2024-06-30", 100),
                volume(B, core, "2024-06-30", 7),
                volume("333333333333", core, "2024-06-20", 9),
            ],
            now(),
        );
        let midnight = Timestamp::parse("2024-06-30T00:00:00Z").unwrap();
        let daily = measured.daily();
        assert_eq!(daily[A], BTreeMap::from([(core, Daily { bytes: 10, time: midnight }), (Package::EksAudit, Daily { bytes: 5, time: midnight })]));
        assert_eq!(daily[B], BTreeMap::from([(core, Daily { bytes: 7, time: now() })]));
        assert_eq!(daily["333333333333"][&core].bytes, 0, "it gave nothing yesterday");
        assert_eq!(measured.daily_bytes(None), 22);
    }

    #[tokio::test]
    async fn one_call_serves_all_who_ask_at_once() {
        let fake = Arc::new(Fake { graphs: HashMap::from([(graph('a'), vec![])]), ..Fake::default() });
        let volumes = Volumes::new(Some(fake.clone()), Arc::new(FixedClock::new(now())), 100);
        let (good, bad) = (graph('a'), graph('b'));
        let all = futures::future::join_all((0..50).map(|_| volumes.of_graph(&good, 1))).await;
        assert!(all.iter().all(Option::is_some));
        assert_eq!(fake.calls.load(Ordering::SeqCst), 1);
        for _ in 0..3 {
            assert!(volumes.of_graph(&bad, 1).await.is_none());
        }
        assert_eq!(fake.calls.load(Ordering::SeqCst), 2, "a failure is remembered too, for a shorter time");
    }

    #[tokio::test]
    async fn what_an_account_gives_elsewhere_is_counted_once() {
        let day = "2024-06-29";
        let core = Package::DetectiveCore;
        let graphs = HashMap::from([
            (graph('a'), vec![volume(A, core, day, 60)]),
            (graph('b'), vec![volume(B, core, day, 40), volume(A, core, day, 1_000)]),
            (graph('c'), vec![volume(B, core, day, 41)]),
        ]);
        let volumes = Volumes::new(Some(Arc::new(Fake { graphs, ..Fake::default() })), Arc::new(FixedClock::new(now())), 100);
        let account = B.parse().unwrap();
        assert_eq!(volumes.load(&graph('a'), &account, &[]).await, Load::Fits);
        assert_eq!(volumes.load(&graph('a'), &account, &[graph('a'), graph('b'), graph('b')]).await, Load::Fits);
        assert_eq!(volumes.load(&graph('a'), &account, &[graph('b'), graph('c')]).await, Load::TooHigh);
        assert_eq!(volumes.load(&graph('a'), &account, &[graph('d')]).await, Load::Unknown);
        assert_eq!(volumes.load(&graph('d'), &account, &[]).await, Load::Unknown);
        let nobody = Volumes::new(None, Arc::new(FixedClock::new(now())), 100);
        assert_eq!(nobody.load(&graph('a'), &account, &[]).await, Load::Unknown);
    }
}
