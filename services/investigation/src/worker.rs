//! Works investigations off in the background, several at once, each by whichever replica claims it first.
//!
//! A claim is a lease that the work prolongs. When a process dies, its leases end, and others begin its investigations
//! again; what they find and that they are done is written in one transaction, so each is done once.

use std::{sync::Arc, time::Duration};

use gumshoe_model::Timestamp;
use gumshoe_runtime::{Clock, Shutdown, status::Chain};
use tokio::{sync::Notify, task::JoinSet};

use crate::{
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

impl Worker {
    /// Works off what is in `store`, with what `graphs` say.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, graphs: Graphs, clock: Arc<dyn Clock>, config: Investigations, wake: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self { store, graphs, clock, config, name: uuid::Uuid::new_v4().to_string(), wake })
    }

    /// Works until shutdown is requested, then gives up what is under way: it is claimed again by others.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        // Dropped with this future, which ends them.
        let mut running = JoinSet::new();
        let working = async {
            loop {
                self.fill(&mut running).await;
                tokio::select! {
                    () = self.wake.notified() => {}
                    Some(_) = running.join_next() => {}
                    () = tokio::time::sleep(Duration::from_secs(self.config.look_seconds)) => {}
                }
            }
        };
        tokio::select! {
            () = shutdown.requested() => {}
            () = working => {}
        }
        running.shutdown().await;
        if let Err(error) = self.store.give_up(&self.name).await {
            tracing::warn!(error = %Chain(&error), "claims cannot be given up and will expire");
        }
    }

    /// Starts as much work as there is room for.
    async fn fill(self: &Arc<Self>, running: &mut JoinSet<()>) {
        let room = u32::try_from(self.config.parallel.saturating_sub(running.len())).unwrap_or(u32::MAX);
        if room == 0 {
            return;
        }
        match self.store.claim(&self.name, self.clock.now(), self.after(self.lease()), room).await {
            Ok(claimed) => {
                for claimed in claimed {
                    running.spawn(Arc::clone(self).work(claimed));
                }
            }
            Err(error) => tracing::warn!(error = %Chain(&error), "investigations cannot be claimed"),
        }
    }

    /// Works one investigation off.
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

    async fn investigate(&self, claimed: &Claimed) -> Result<Vec<Indicator>, GraphError> {
        if claimed.attempts > MAX_ATTEMPTS {
            // The process died with it each time.
            return Err(GraphError::CutOff);
        }
        let facts = evidence::collect(&self.graphs.open(&claimed.graph), &claimed.subject, claimed.scope).await?;
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
        let unavailable = matches!(error, GraphError::Unavailable(_));
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
