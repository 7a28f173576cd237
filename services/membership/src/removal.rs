//! Removed graphs: their data goes after them, however often that has to be tried, and by whichever replica.

use std::{sync::Arc, time::Duration};

use gumshoe_model::{GraphArn, Timestamp};
use gumshoe_runtime::{Clock, Shutdown, status::Chain};
use tokio::sync::Notify;

use crate::{
    lake::Lake,
    store::{Store, StoreError},
};

/// How long a replica has a removal to itself; longer than [`PATIENCE`].
pub const LEASE: Duration = Duration::from_secs(120);
/// How long one attempt may take: removals go on where they were cut off.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How often to look for removals that other replicas have noted or left.
const POLL: Duration = Duration::from_secs(5);
/// What was on its way into the graph when it was removed has arrived after this long; then its data is removed again.
pub const SETTLE: Duration = Duration::from_secs(600);

/// A graph whose data is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The graph.
    pub graph: GraphArn,
    /// When it was removed.
    pub request_time: Timestamp,
    /// How often its data has been tried to be removed, this time included.
    pub attempts: u32,
}

/// Removes the data of removed graphs.
pub struct Remover {
    store: Arc<dyn Store>,
    lake: Arc<dyn Lake>,
    clock: Arc<dyn Clock>,
    wake: Arc<Notify>,
}

impl Remover {
    /// Works off the removals in `store`; `wake` says that there is a new one.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, lake: Arc<dyn Lake>, clock: Arc<dyn Clock>, wake: Arc<Notify>) -> Self {
        Self { store, lake, clock, wake }
    }

    /// Works until shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        while !shutdown.is_requested() {
            match self.step(&shutdown).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::warn!(error = %Chain(&error), "removals of graphs cannot be read or noted"),
            }
            tokio::select! {
                () = shutdown.requested() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Tries one removal that is due; `false` if there is none. At shutdown it is given back, for another replica.
    ///
    /// # Errors
    /// [`StoreError`]; the removal is due again when its lease ends.
    pub async fn step(&self, shutdown: &Shutdown) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let Some(removal) = self.store.claim_removal(now, later(now, LEASE)).await? else { return Ok(false) };
        let graph = &removal.graph;
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(PATIENCE, self.lake.delete_graph(graph)) => outcome,
            () = shutdown.requested() => {
                self.store.postpone_removal(graph, now).await?;
                return Ok(true);
            }
        };
        let now = self.clock.now();
        match outcome {
            Ok(Ok(())) if now < later(removal.request_time, SETTLE) => self.store.postpone_removal(graph, later(removal.request_time, SETTLE)).await?,
            Ok(Ok(())) => {
                self.store.finish_removal(graph).await?;
                tracing::info!(%graph, "the data of a removed graph is gone");
            }
            Ok(Err(error)) => {
                let pause = pause(removal.attempts);
                tracing::warn!(%graph, error = %Chain(&error), pause_seconds = pause.as_secs(), "the removal of a graph's data is tried again");
                self.store.postpone_removal(graph, later(now, pause)).await?;
            }
            Err(_) => {
                tracing::info!(%graph, "the removal of a graph's data goes on");
                self.store.postpone_removal(graph, now).await?;
            }
        }
        Ok(true)
    }
}

fn pause(attempts: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1))).min(LONGEST_PAUSE)
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    Timestamp(time.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_five_minutes() {
        let pauses: Vec<_> = [1, 2, 3, 9, 10, 1_000].into_iter().map(|attempts| pause(attempts).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 256, 300, 300]);
        assert!(LEASE > PATIENCE);
    }
}
