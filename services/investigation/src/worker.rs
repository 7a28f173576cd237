//! Works investigations off in the background, several at once, each by whichever replica claims it first.
//!
//! A claim is a lease that the work prolongs. When a process dies, its leases end, and others begin its investigations
//! again; what they find and that they are done is written in one transaction, so each is done once.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use gumshoe_enrich::ThreatLists;
use gumshoe_model::{EntityKey, Timestamp};
use gumshoe_runtime::{Clock, status::Chain};
use tokio::sync::Notify;

use crate::{
    claims::{self, Work},
    config::Investigations,
    detectors,
    error::GraphError,
    evidence,
    indicator::{Attributed, Indicator},
    investigation::{Progress, Subject},
    principals::{self, Chosen},
    rpc::graph::Graphs,
    severity::{Assessed, Assessment, Report},
    store::{Claimed, Outcome, Store, StoreError},
};

/// Attempts after which an investigation has failed. That the graph service does not answer is none.
pub const MAX_ATTEMPTS: u32 = 3;
/// Principals of one investigation that are looked at at the same time.
const AT_ONCE: usize = 2;
/// The most indicators of a kind of each principal, where there are several.
const MAX_OF_MANY: usize = 20;

/// Works investigations off.
pub struct Worker {
    store: Arc<dyn Store>,
    graphs: Graphs,
    clock: Arc<dyn Clock>,
    config: Investigations,
    threats: Arc<ThreatLists>,
    /// Who claims: this process.
    name: String,
    /// Told when an investigation was started here.
    wake: Arc<Notify>,
}

#[async_trait]
impl Work for Worker {
    type Claimed = Claimed;
    const PIECES: &'static str = "investigations";

    fn parallel(&self) -> usize {
        self.config.parallel
    }

    fn look_interval(&self) -> Duration {
        Duration::from_secs(self.config.look_seconds)
    }

    fn wake(&self) -> &Notify {
        &self.wake
    }

    async fn claim(&self, limit: u32) -> Result<Vec<Claimed>, StoreError> {
        self.store.claim(&self.name, self.clock.now(), self.after(self.lease()), limit).await
    }

    async fn work(self: Arc<Self>, claimed: Claimed) {
        let (graph, id) = (&claimed.graph, &claimed.id);
        let found = tokio::select! {
            found = self.investigate(&claimed) => found,
            () = claims::keep(self.lease(), || self.store.renew(&self.name, &claimed, self.after(self.lease()))) => {
                tracing::warn!(%graph, %id, "another worker has the investigation");
                return;
            }
        };
        let noted = match found {
            Ok(outcome) => self.finish(&claimed, outcome).await,
            Err(error) => self.failed(&claimed, &error).await,
        };
        if let Err(error) = noted {
            tracing::warn!(%graph, %id, error = %Chain(&error), "how an investigation ended cannot be written down: it is done again");
        }
    }

    async fn give_up(&self) -> Result<(), StoreError> {
        self.store.give_up(&self.name).await
    }
}

impl Worker {
    /// Works off what is in `store`, with what `graphs` and `threats` say.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        graphs: Graphs,
        clock: Arc<dyn Clock>,
        config: Investigations,
        threats: Arc<ThreatLists>,
        wake: Arc<Notify>,
    ) -> Arc<Self> {
        Arc::new(Self { store, graphs, clock, config, threats, name: uuid::Uuid::new_v4().to_string(), wake })
    }

    async fn investigate(&self, claimed: &Claimed) -> Result<Outcome, GraphError> {
        if claimed.attempts > MAX_ATTEMPTS {
            // The process died with it each time.
            return Err(GraphError::CutOff);
        }
        let graph = self.graphs.open(&claimed.graph);
        let Chosen { subjects, scope, left_out } = principals::choose(&graph, &claimed.target, claimed.scope, self.config.principals).await?;
        let total = u32::try_from(subjects.len()).unwrap_or(u32::MAX);
        let mut progress = Progress { done: 0, total, left_out };
        self.note_progress(claimed, progress).await;
        let alone = subjects.len() == 1;
        let threats = self.threats.current();
        let look = |subject: Subject| {
            let (graph, threats) = (&graph, &threats);
            async move {
                let mut facts = evidence::collect(graph, &subject, scope).await?;
                facts.flagged = detectors::threats::flagged(&facts.habits, threats);
                let findings: Vec<&str> = facts.findings.iter().map(|finding| finding.id.as_str()).collect();
                let groups = self.store.related_groups(&claimed.graph, &subject.entity(), &findings, scope).await;
                facts.groups = groups.map_err(GraphError::Store)?.iter().map(ToString::to_string).collect();
                Ok::<_, GraphError>((subject.entity(), detectors::detect(&facts)))
            }
        };
        let mut looking = stream::iter(subjects.into_iter().map(look)).buffered(AT_ONCE);
        let mut found: Vec<(u32, EntityKey, Vec<Indicator>)> = Vec::new();
        let mut assessed = Vec::new();
        while let Some((principal, mut indicators)) = looking.try_next().await? {
            let assessment = Assessment::of(&indicators);
            if !alone {
                detectors::cut(&mut indicators, MAX_OF_MANY);
            }
            found.push((assessment.points, principal.clone(), indicators));
            assessed.push(Assessed { principal: principal.to_string(), assessment });
            progress.done += 1;
            self.note_progress(claimed, progress).await;
        }
        found.sort_by_key(|(points, ..)| Reverse(*points));
        let of_one = |(_, principal, indicators): (u32, EntityKey, Vec<Indicator>)| {
            indicators.into_iter().map(move |indicator| Attributed { principal: principal.clone(), indicator })
        };
        Ok(Outcome::Successful { report: Report::of(assessed), indicators: found.into_iter().flat_map(of_one).collect() })
    }

    /// That nobody sees how far it is is no reason to begin again.
    async fn note_progress(&self, claimed: &Claimed, progress: Progress) {
        if let Err(error) = self.store.note_progress(&self.name, claimed, progress).await {
            tracing::warn!(id = %claimed.id, error = %Chain(&error), "how far an investigation is cannot be written down");
        }
    }

    /// Has an investigation tried again, unless that has no prospect.
    async fn failed(&self, claimed: &Claimed, error: &GraphError) -> Result<(), StoreError> {
        let (graph, id) = (&claimed.graph, &claimed.id);
        let unavailable = matches!(error, GraphError::Unavailable(_) | GraphError::Store(StoreError::Unavailable(_)));
        let waited = self.clock.now().0 - claimed.create_time.0;
        let given_up = if unavailable { waited > claims::micros(Duration::from_secs(self.config.patience_seconds)) } else { claimed.attempts >= MAX_ATTEMPTS };
        if given_up {
            tracing::error!(%graph, %id, attempts = claimed.attempts, error = %Chain(error), "an investigation has failed");
            return self.finish(claimed, Outcome::Failed).await;
        }
        tracing::warn!(%graph, %id, attempts = claimed.attempts, error = %Chain(error), "an investigation is tried again");
        self.store.postpone(&self.name, claimed, self.after(Duration::from_secs(self.config.retry_seconds)), !unavailable).await
    }

    async fn finish(&self, claimed: &Claimed, outcome: Outcome) -> Result<(), StoreError> {
        if !self.store.finish(&self.name, claimed, &outcome).await? {
            tracing::warn!(graph = %claimed.graph, id = %claimed.id, "another worker has the investigation");
        }
        Ok(())
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(self.config.lease_seconds)
    }

    fn after(&self, by: Duration) -> Timestamp {
        claims::after(&*self.clock, by)
    }
}
