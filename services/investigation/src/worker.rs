//! Works investigations off in the background, several at once, each by whichever replica claims it first.
//!
//! A claim is a lease that the work prolongs. When a process dies, its leases end, and others begin its investigations
//! again; what they find and that they are done is written in one transaction, so each is done once.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use gumshoe_model::Timestamp;
use gumshoe_runtime::{Clock, status::Chain};
use tokio::sync::Notify;

use crate::{
    claims::Work,
    config::Investigations,
    detectors,
    error::GraphError,
    evidence,
    indicator::Indicator,
    rpc::graph::Graphs,
    severity,
    store::{Claimed, Outcome, Store, StoreError},
};

/// Attempts after which an investigation has failed. That the graph service does not answer is none.
pub const MAX_ATTEMPTS: u32 = 3;

/// Works investigations off.
pub struct Worker {
    store: Arc<dyn Store>,
    graphs: Graphs,
    clock: Arc<dyn Clock>,
    config: Investigations,
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
            () = self.keep(&claimed) => {
                tracing::warn!(%graph, %id, "another worker has the investigation");
                return;
            }
        };
        let noted = match found {
            Ok(indicators) => self.finish(&claimed, Outcome::Successful { severity: severity::of(&indicators), indicators }).await,
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
    /// Works off what is in `store`, with what `graphs` say.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, graphs: Graphs, clock: Arc<dyn Clock>, config: Investigations, wake: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self { store, graphs, clock, config, name: uuid::Uuid::new_v4().to_string(), wake })
    }

    async fn investigate(&self, claimed: &Claimed) -> Result<Vec<Indicator>, GraphError> {
        if claimed.attempts > MAX_ATTEMPTS {
            // The process died with it each time.
            return Err(GraphError::CutOff);
        }
        let mut facts = evidence::collect(&self.graphs.open(&claimed.graph), &claimed.subject, claimed.scope).await?;
        let findings: Vec<&str> = facts.findings.iter().map(|finding| finding.id.as_str()).collect();
        let groups = self.store.related_groups(&claimed.graph, &claimed.subject.entity(), &findings, claimed.scope).await;
        facts.groups = groups.map_err(GraphError::Store)?.iter().map(ToString::to_string).collect();
        Ok(detectors::detect(&facts))
    }

    /// Prolongs the lease; returns when it is lost.
    async fn keep(&self, claimed: &Claimed) {
        loop {
            tokio::time::sleep(self.lease() / 3).await;
            match self.store.renew(&self.name, claimed, self.after(self.lease())).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::warn!(error = %Chain(&error), "a claim cannot be prolonged"),
            }
        }
    }

    /// Has an investigation tried again, unless that has no prospect.
    async fn failed(&self, claimed: &Claimed, error: &GraphError) -> Result<(), StoreError> {
        let (graph, id) = (&claimed.graph, &claimed.id);
        let unavailable = matches!(error, GraphError::Unavailable(_) | GraphError::Store(StoreError::Unavailable(_)));
        let waited = self.clock.now().0 - claimed.create_time.0;
        let given_up = if unavailable { waited > micros(Duration::from_secs(self.config.patience_seconds)) } else { claimed.attempts >= MAX_ATTEMPTS };
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
        Timestamp(self.clock.now().0.saturating_add(micros(by)))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
