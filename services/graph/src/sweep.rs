//! Looks at the hours that are complete for what is unusual or ties together, in the background, and commits findings of it.
//!
//! Every replica goes round all graphs; who takes a graph's lease sweeps it, a day at most at a time, in order. What each step finds
//! is committed under a name made of its hour, and then the checkpoint moves on: a step that a crash repeats commits nothing twice.
//! What was learned on the way is kept in the lake, beside the tables, and can be learned again from them.
//!
//! | module | holds |
//! |---|---|
//! | [`alerts`] | which of the unusual become findings, and which of these alerts |
//! | [`late`] | hours that got records after they were swept |

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use gumshoe_behavior::newness::TRAINING_DAYS;
use gumshoe_enrich::Places;
use gumshoe_lake::{Alone, BatchCounts, Fence as _, GraphLake, Group, Lake, LakeError, Snapshot, Table};
use gumshoe_model::{EntityKey, GraphArn, Hour, Timestamp, time::MICROS_PER_HOUR};
use gumshoe_runtime::{
    Clock, Shutdown,
    status::{Chain, Failure},
};
use moka::sync::Cache;
use tokio::time::sleep;
use tracing::Instrument as _;

use crate::{
    behavior::{self, Found, Scope, peers::Model},
    config,
    hot::Hot,
    lease::{Lease, Leases, Work},
    made::{self, Made},
    maintenance, search,
    store::{StoreError, sql::SqlStore, sweeps::Checkpoint, tags::TagChanges, usual::Usual},
    tags,
};

mod alerts;
mod late;

use alerts::State;

/// Hours of a day.
const DAY: i64 = 24;
/// How often beacons are looked for, in hours: they need half a day to show.
const BEACON_EVERY: i64 = 6;
/// Hours that a detector of bursts is made familiar with when it was lost.
const WARM_HOURS: i64 = 14 * 24;
/// Memory for models of peer groups, in bytes of their kept form, which is about half of what they take.
const MODEL_BYTES: u64 = 128 << 20;

/// Hours of one graph that are to be looked at, all of one UTC day.
pub(crate) struct Hours {
    /// The graph.
    pub(crate) lake: Arc<GraphLake>,
    /// Its tables, as of the latest commit seen.
    pub(crate) snapshot: Arc<Snapshot>,
    /// The first hour since the epoch, and the one after the last.
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// Looks for findings in hours that are complete. It is asked of all hours in order, and of the same again after a crash or when they got
/// late records: then it must find the same, and perhaps more.
#[async_trait]
pub(crate) trait Finder: Send + Sync {
    /// What it finds in these hours.
    async fn find(&self, hours: &Hours) -> Result<Vec<Made>, Failure>;
}

/// Why a graph could not be swept; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SweepError {
    #[error("the lake failed")]
    Lake(#[from] LakeError),
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error("a query failed")]
    Query(#[from] Failure),
    #[error("another process sweeps the graph")]
    Superseded,
}

/// What a sweep has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Hours that it has looked at.
    pub(crate) hours: u64,
    /// Findings that it has made or updated.
    pub(crate) findings: u64,
}

/// The sweep of all graphs.
pub(crate) struct Sweep {
    lake: Arc<Lake>,
    hot: Arc<Hot>,
    places: Arc<Places>,
    store: Arc<SqlStore>,
    leases: Leases,
    clock: Arc<dyn Clock>,
    config: config::Sweep,
    finders: Vec<Arc<dyn Finder>>,
    /// By graph and name.
    models: Cache<(GraphArn, String), Arc<Model>>,
}

impl Sweep {
    /// Sweeps the graphs of `lake` that others do not; `finders` find what needs no memory of the hours before.
    pub(crate) fn new(
        lake: Arc<Lake>,
        hot: Arc<Hot>,
        places: Arc<Places>,
        store: Arc<SqlStore>,
        clock: Arc<dyn Clock>,
        config: config::Sweep,
        finders: Vec<Arc<dyn Finder>>,
    ) -> Self {
        let leases = Leases::new(store.clone(), Arc::clone(&clock));
        let weigh =
            |_: &(GraphArn, String), model: &Arc<Model>| u32::try_from(model.peers.pairs() * 8 + model.peers.principals() * 160 + 1_024).unwrap_or(u32::MAX);
        let models = Cache::builder().max_capacity(MODEL_BYTES).weigher(weigh).build();
        Self { lake, hot, places, store, leases, clock, config, finders, models }
    }

    /// Goes round until shutdown is requested; what is under way is then cut off, which harms nothing.
    pub(crate) async fn run(&self, shutdown: &Shutdown) {
        if !self.config.enabled {
            return;
        }
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                () = sleep(Duration::from_secs(self.config.interval_seconds)) => {}
            }
            tokio::select! {
                () = shutdown.requested() => return,
                () = self.round() => {}
            }
        }
    }

    async fn round(&self) {
        for graph in maintenance::graphs(&self.lake).await {
            let span = tracing::info_span!("sweep", %graph);
            let swept = async {
                match self.sweep(&graph, None).await {
                    Ok(Some(Swept { hours, findings })) if hours > 0 => tracing::info!(hours, findings, "swept"),
                    Ok(_) => {}
                    Err(error @ SweepError::Superseded) => tracing::info!(reason = %error, "a sweep was given up"),
                    Err(error) => tracing::warn!(error = %Chain(&error), "a graph could not be swept, and is tried again"),
                }
            };
            swept.instrument(span).await;
        }
    }

    /// Sweeps all hours of a graph that are complete; with `from`, from that hour on and as if for the first time. `None` if another
    /// replica does.
    pub(crate) async fn sweep(&self, graph: &GraphArn, from: Option<i64>) -> Result<Option<Swept>, SweepError> {
        let Some(lease) = self.leases.take(graph, Work::Sweep).await? else { return Ok(None) };
        let outcome = lease.during(self.work(graph, &lease, from)).await.unwrap_or(Err(SweepError::Superseded));
        lease.release().await;
        outcome.map(Some)
    }

    async fn work(&self, graph: &GraphArn, lease: &Lease, from: Option<i64>) -> Result<Swept, SweepError> {
        let lake = self.lake.graph(graph).await?;
        lake.catch_up().await?;
        let until = self.until();
        let mut known = self.store.checkpoint(graph).await?;
        let mut checkpoint = match (known.clone(), from) {
            (Some(known), None) => known,
            (Some(known), Some(from)) => Checkpoint { run: known.run + 1, next_hour: from, ..Checkpoint::default() },
            (None, from) => {
                let Some(from) = from.or_else(|| self.first(&lake, until)) else { return Ok(Swept::default()) };
                Checkpoint { next_hour: from, ..Checkpoint::default() }
            }
        };
        let usual = self.store.usual(graph).await?;
        let mut learned = None;
        let mut swept = Swept::default();
        while let Some((from, to)) = next(&lake, checkpoint.next_hour, until) {
            let hours = Hours { snapshot: Arc::new(lake.snapshot()?), lake: Arc::clone(&lake), from, to };
            let (mut state, model) = match learned.take() {
                Some(learned) => learned,
                None => (self.state(&hours, &checkpoint).await?, self.model(&lake, &checkpoint).await?),
            };
            let trained = self.trained(&hours, &model, &usual).await?;
            let model = trained.clone().unwrap_or(model);
            let step = format!("sweep#{}/{from}-{to}", checkpoint.run);
            let mut tags = TagChanges::default();
            let mut made = self.again(&hours, &mut state, (&model, &usual), &step, &mut tags).await?;
            made.extend(self.unusual(&hours, &mut state, (&model, &usual), &step).await?);
            for finder in &self.finders {
                made.extend(finder.find(&hours).await?);
            }
            tags::read(&hours, &mut tags).await?;
            let mut after = Checkpoint { next_hour: to, ..checkpoint.clone() };
            after.state = lake.store_model("state", state.encode().into()).await?;
            if let Some(model) = trained {
                after.peers = lake.store_model("peers", model.encode().into()).await?;
                self.models.insert((graph.clone(), after.peers.clone()), model);
            }
            if !lease.holds().await {
                return Err(SweepError::Superseded);
            }
            swept.findings += u64::try_from(made.len()).unwrap_or(u64::MAX);
            swept.hours += u64::try_from(to - from).unwrap_or_default();
            self.commit(&lake, &step, &made).await?;
            self.store.put_tags(graph, &tags).await?;
            if !self.store.save_checkpoint(graph, known.as_ref(), &after).await? {
                return Err(SweepError::Superseded);
            }
            self.forget(&lake, known.as_ref(), &after).await;
            learned = Some((state, model));
            known = Some(after.clone());
            checkpoint = after;
        }
        Ok(swept)
    }

    /// What is unusual in some hours, as findings.
    async fn unusual(&self, hours: &Hours, state: &mut State, (model, usual): (&Model, &Usual), step: &str) -> Result<Vec<Made>, SweepError> {
        let scope = self.scope(hours, hours.from, hours.to);
        let beacons = hours.to.div_euclid(BEACON_EVERY) > hours.from.div_euclid(BEACON_EVERY);
        let mut found = behavior::find(&scope, model, usual, beacons, &mut |source, score| state.judge(source, score)).await?;
        {
            let (midas, mut judge) = state.midas_and_judge();
            found.extend(behavior::burst::find(&scope, midas, &mut judge).await?);
        }
        let accounts = accounts(&hours.lake, &found).await?;
        Ok(state.findings(hours.lake.arn(), step, found, Hour(hours.to).start(), &accounts, false))
    }

    /// What hours show that have got records since they were swept. Bursts are not looked for, as their detector goes forward only, nor
    /// beacons, which are looked for in seven days each time.
    async fn again(
        &self,
        hours: &Hours,
        state: &mut State,
        (model, usual): (&Model, &Usual),
        step: &str,
        tags: &mut TagChanges,
    ) -> Result<Vec<Made>, SweepError> {
        let look_back = i64::from(self.config.look_back_hours);
        if look_back == 0 {
            return Ok(Vec::new());
        }
        let now = late::counts(hours, hours.from - look_back).await?;
        let mut made = Vec::new();
        for (from, to) in state.seen.late(hours.from, now) {
            tracing::info!(from = %Hour(from).start(), to = %Hour(to).start(), "hours that got late records are looked at again");
            let late = Hours { snapshot: Arc::clone(&hours.snapshot), lake: Arc::clone(&hours.lake), from, to };
            let scope = self.scope(&late, from, to);
            // Most of it was learned when the hours were swept.
            let mut learned = state.clone();
            let found = behavior::find(&scope, model, usual, false, &mut |source, score| learned.judge(source, score)).await?;
            let accounts = accounts(&hours.lake, &found).await?;
            // After all that was told before, and before what the hours of this step tell.
            let updated = Timestamp(Hour(hours.to).start().0 - 1);
            made.extend(state.findings(hours.lake.arn(), step, found, updated, &accounts, true));
            for finder in &self.finders {
                made.extend(finder.find(&late).await?);
            }
            tags::read(&late, tags).await?;
        }
        Ok(made)
    }

    fn scope<'a>(&'a self, hours: &'a Hours, from: i64, to: i64) -> Scope<'a> {
        Scope { snapshot: &hours.snapshot, places: &self.places, from, to, entity: None }
    }

    /// What was learned up to a checkpoint. Where that is lost, thresholds and budget begin anew, and the detector of bursts learns
    /// the last two weeks again.
    async fn state(&self, hours: &Hours, checkpoint: &Checkpoint) -> Result<State, SweepError> {
        let kept = if checkpoint.state.is_empty() { None } else { hours.lake.model(&checkpoint.state).await? };
        if let Some(state) = kept.and_then(|bytes| State::decode(&bytes, self.config.alerts_per_hour)) {
            return Ok(state);
        }
        let mut state = State::new(self.config.alerts_per_hour);
        behavior::burst::find(&self.scope(hours, hours.from - WARM_HOURS, hours.from), &mut state.midas, &mut |_, _| false).await?;
        Ok(state)
    }

    /// The model of peer groups of a checkpoint; one that knows nothing if there is none.
    async fn model(&self, lake: &GraphLake, checkpoint: &Checkpoint) -> Result<Arc<Model>, SweepError> {
        if checkpoint.peers.is_empty() {
            return Ok(Arc::default());
        }
        let key = (lake.arn().clone(), checkpoint.peers.clone());
        if let Some(model) = self.models.get(&key) {
            return Ok(model);
        }
        let Some(model) = lake.model(&checkpoint.peers).await?.and_then(|bytes| Model::decode(&bytes)) else { return Ok(Arc::default()) };
        let model = Arc::new(model);
        self.models.insert(key, Arc::clone(&model));
        Ok(model)
    }

    /// The model after this one, if some hours are of another day than its own. Where there is none, or it was lost, those of the days
    /// before are trained first, each holding back what the one before finds surprising.
    async fn trained(&self, hours: &Hours, model: &Model, usual: &Usual) -> Result<Option<Arc<Model>>, SweepError> {
        let day = behavior::peers::day(hours.from);
        if model.day == day {
            return Ok(None);
        }
        let baseline = behavior::BASELINE_HOURS / DAY;
        let known = hours.lake.days(Table::Edges);
        let first = if model.peers.pairs() == 0 { day - baseline + i64::from(TRAINING_DAYS) } else { day };
        let mut trained = model.clone();
        for day in known.iter().copied().filter(|before| (first..day).contains(before)).chain([day]) {
            let days = known.iter().filter(|known| (day - baseline..day).contains(*known)).count();
            trained = trained.next(&hours.snapshot, day, u32::try_from(days).unwrap_or_default(), usual).await?;
        }
        Ok(Some(Arc::new(trained)))
    }

    /// The model of peer groups that is in force.
    pub(crate) async fn peers(&self, lake: &GraphLake) -> Result<Arc<Model>, SweepError> {
        match self.store.checkpoint(lake.arn()).await? {
            Some(checkpoint) => self.model(lake, &checkpoint).await,
            None => Ok(Arc::default()),
        }
    }

    /// Removes what a checkpoint has left behind.
    async fn forget(&self, lake: &GraphLake, before: Option<&Checkpoint>, after: &Checkpoint) {
        let Some(before) = before else { return };
        for (old, new) in [(&before.state, &after.state), (&before.peers, &after.peers)] {
            if !old.is_empty()
                && old != new
                && let Err(error) = lake.remove_model(old).await
            {
                tracing::debug!(error = %Chain(&error), model = old, "an old model stays");
            }
        }
    }

    /// Commits findings under a name, once however often it is called, and tells hot profiles.
    async fn commit(&self, lake: &GraphLake, name: &str, made: &[Made]) -> Result<(), LakeError> {
        if made.is_empty() {
            return Ok(());
        }
        let files = made::files(made, &self.places)?;
        let own = self.hot.own(lake.arn(), &files);
        let staged = lake.stage(Group { batches: vec![(name.to_owned(), BatchCounts::default())], files }).await?;
        let versions = lake.commit(&staged, &Alone).await?;
        self.hot.committed(lake, &versions, own).await;
        Ok(())
    }

    /// The first hour that may still get records.
    fn until(&self) -> i64 {
        Timestamp(self.clock.now().0.saturating_sub(i64::from(self.config.lateness_minutes) * 60_000_000).max(0)).0.div_euclid(MICROS_PER_HOUR)
    }

    /// The first hour of a graph that was never swept: some days before its latest record.
    fn first(&self, lake: &GraphLake, until: i64) -> Option<i64> {
        let days: Vec<i64> = lake.days(Table::Edges).into_iter().filter(|day| day * DAY < until).collect();
        let earliest = days.last()? - i64::from(self.config.first_days);
        days.into_iter().find(|day| *day >= earliest).map(|day| day * DAY)
    }
}

/// The accounts of entities of which something was found, where known.
async fn accounts(lake: &GraphLake, found: &[Found]) -> Result<BTreeMap<EntityKey, String>, SweepError> {
    let entities: Vec<EntityKey> = found.iter().map(|found| found.entity.clone()).collect::<BTreeSet<_>>().into_iter().collect();
    let known = search::summaries(lake, &entities).await?;
    Ok(known.into_iter().map(|(entity, summary)| (entity, summary.account)).collect())
}

/// The next hours to look at, of one day and before `until`; days without records are passed over.
fn next(lake: &GraphLake, from: i64, until: i64) -> Option<(i64, i64)> {
    let day = lake.days(Table::Edges).into_iter().find(|day| (day + 1) * DAY > from && day * DAY < until)?;
    let (from, to) = (from.max(day * DAY), until.min((day + 1) * DAY));
    (from < to).then_some((from, to))
}
