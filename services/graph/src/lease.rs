//! A lease on work on a graph: held by one replica, prolonged while it works, lost when it is silent.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use gumshoe_lake::Fence;
use gumshoe_model::{GraphArn, Timestamp};
use gumshoe_runtime::{Clock, status::Chain};

use crate::store::{Store, StoreError};

/// How long a graph stays a replica's after that has fallen silent.
pub const LEASE: Duration = Duration::from_secs(60);

/// What only one replica does at a time to a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Merging and removing files.
    Maintenance,
    /// Looking for what is unusual.
    Sweep,
}

/// Leases on graphs.
#[derive(Clone)]
pub struct Leases {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl Leases {
    /// Leases in `store`, by the time of `clock`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Takes the lease of a graph for some work; `None` if somebody has it, be it this process.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take(&self, graph: &GraphArn, work: Work) -> Result<Option<Lease>, StoreError> {
        let name = match work {
            Work::Maintenance => graph.to_string(),
            Work::Sweep => format!("sweep:{graph}"),
        };
        let lease = Lease { leases: self.clone(), name, holder: uuid::Uuid::new_v4().to_string() };
        let now = self.clock.now();
        Ok(self.store.take(&lease.name, &lease.holder, now, until(now)).await?.then_some(lease))
    }
}

/// A lease that was taken. Dropped without [`Self::release`], it ends with its time.
pub struct Lease {
    leases: Leases,
    name: String,
    holder: String,
}

impl Lease {
    /// Works while the lease is prolonged; `None` if it was lost before the end of the work, which is then cut off.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            outcome = work => Some(outcome),
            () = self.lost() => None,
        }
    }

    /// Gives the lease back.
    pub async fn release(self) {
        if let Err(error) = self.leases.store.release(&self.name, &self.holder).await {
            tracing::warn!(error = %Chain(&error), graph = self.name, "a lease cannot be given back and will end by itself");
        }
    }

    async fn lost(&self) {
        loop {
            tokio::time::sleep(LEASE / 3).await;
            match self.renew().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::warn!(error = %Chain(&error), graph = self.name, "a lease cannot be prolonged"),
            }
        }
    }

    async fn renew(&self) -> Result<bool, StoreError> {
        let now = self.leases.clock.now();
        self.leases.store.renew(&self.name, &self.holder, now, until(now)).await
    }
}

#[async_trait]
impl Fence for Lease {
    async fn holds(&self) -> bool {
        // Who cannot be asked whether the lease is held may have given it to another.
        self.renew().await.unwrap_or_default()
    }
}

fn until(now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_add(i64::try_from(LEASE.as_micros()).unwrap_or(i64::MAX)))
}
