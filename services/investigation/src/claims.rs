//! Work in the background that replicas claim by leases: as much at once as there is room for, until shutdown.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use gumshoe_model::Timestamp;
use gumshoe_runtime::{Clock, Shutdown, status::Chain};
use tokio::{sync::Notify, task::JoinSet};

use crate::store::StoreError;

/// What is claimed, and what is done with it.
#[async_trait]
pub trait Work: Send + Sync + 'static {
    /// One piece of it.
    type Claimed: Send + 'static;
    /// What the pieces are called in logs.
    const PIECES: &'static str;

    /// How many pieces are worked on at once.
    fn parallel(&self) -> usize;
    /// How often work of other replicas is looked for.
    fn look_interval(&self) -> Duration;
    /// Told when there is work of this replica's own.
    fn wake(&self) -> &Notify;
    /// Claims up to so many pieces.
    async fn claim(&self, limit: u32) -> Result<Vec<Self::Claimed>, StoreError>;
    /// Works on one piece; it can be cut off anywhere.
    async fn work(self: Arc<Self>, claimed: Self::Claimed);
    /// Gives up whatever is claimed.
    async fn give_up(&self) -> Result<(), StoreError>;
}

/// Works until shutdown is requested, then gives up what is under way: it is claimed again by others.
pub async fn run<W: Work>(work: Arc<W>, shutdown: Shutdown) {
    // Dropped with this future, which ends them.
    let mut running = JoinSet::new();
    let working = async {
        loop {
            fill(&work, &mut running).await;
            tokio::select! {
                () = work.wake().notified() => {}
                Some(_) = running.join_next() => {}
                () = tokio::time::sleep(work.look_interval()) => {}
            }
        }
    };
    tokio::select! {
        () = shutdown.requested() => {}
        () = working => {}
    }
    running.shutdown().await;
    if let Err(error) = work.give_up().await {
        tracing::warn!(error = %Chain(&error), "{} cannot be given up and will expire", W::PIECES);
    }
}

/// Prolongs a lease by `renew` as long as that says that it is still held; returns when it is lost.
pub async fn keep<F: Future<Output = Result<bool, StoreError>>>(lease: Duration, renew: impl Fn() -> F) {
    loop {
        tokio::time::sleep(lease / 3).await;
        match renew().await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => tracing::warn!(error = %Chain(&error), "a claim cannot be prolonged"),
        }
    }
}

/// The time so much later than now.
pub fn after(clock: &dyn Clock, by: Duration) -> Timestamp {
    Timestamp(clock.now().0.saturating_add(micros(by)))
}

/// Microseconds, as times are counted in.
pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Starts as much work as there is room for.
async fn fill<W: Work>(work: &Arc<W>, running: &mut JoinSet<()>) {
    let room = u32::try_from(work.parallel().saturating_sub(running.len())).unwrap_or(u32::MAX);
    if room == 0 {
        return;
    }
    match work.claim(room).await {
        Ok(claimed) => {
            for claimed in claimed {
                running.spawn(Arc::clone(work).work(claimed));
            }
        }
        Err(error) => tracing::warn!(error = %Chain(&error), "{} cannot be claimed", W::PIECES),
    }
}
