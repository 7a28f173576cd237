//! Runs errands in the background: teaches the graph what is usual, proposes a suppression after a false positive, and gives verdicts back
//! to their products.
//!
//! An errand is claimed by a lease. When a process dies, its leases end, and others run its errands again: a verdict is
//! delivered at least once, and delivering it again changes nothing.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use gumshoe_model::Timestamp;
use gumshoe_runtime::{Clock, status::Chain};
use tokio::sync::Notify;

use super::{aws::Aws, calls};
use crate::{
    claims::{self, Work},
    config::Feedback,
    error::GraphError,
    finding::Finding,
    rpc::graph::Graphs,
    store::{Errand, NewSuppression, Settled, Store, StoreError},
    suppression::Pattern,
    verdict::Kind,
};

/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(3_600);
const MAX_REASON: usize = 1_024;

/// Runs errands.
pub struct Courier {
    store: Arc<dyn Store>,
    graphs: Graphs,
    /// `None` if verdicts are not given back.
    aws: Option<Aws>,
    clock: Arc<dyn Clock>,
    config: Feedback,
    /// Who claims: this process.
    name: String,
    /// Told when a verdict was recorded here.
    wake: Arc<Notify>,
}

/// Why an errand is not done.
enum Trouble {
    /// It is tried again, and the attempt does not count: nothing was wrong with the errand.
    Waits(String),
    /// It is tried again, but not for ever.
    MayPass(String),
    /// It is not tried again.
    Lasts(String),
    /// What became of it cannot be written down.
    Store(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<GraphError> for Trouble {
    fn from(error: GraphError) -> Self {
        let reason = Chain(&error).to_string();
        match error {
            GraphError::Unavailable(_) => Self::Waits(reason),
            GraphError::Refused(_) | GraphError::CutOff | GraphError::Store(_) => Self::MayPass(reason),
        }
    }
}

#[async_trait]
impl Work for Courier {
    type Claimed = Errand;
    const PIECES: &'static str = "errands";

    fn parallel(&self) -> usize {
        self.config.parallel
    }

    fn look_interval(&self) -> Duration {
        Duration::from_secs(self.config.look_seconds)
    }

    fn wake(&self) -> &Notify {
        &self.wake
    }

    async fn claim(&self, limit: u32) -> Result<Vec<Errand>, StoreError> {
        self.store.claim_errands(&self.name, self.clock.now(), self.after(self.lease()), limit).await
    }

    async fn work(self: Arc<Self>, errand: Errand) {
        // What takes longer would be another's already.
        let done = match tokio::time::timeout(self.lease() * 3 / 4, self.attempt(&errand)).await {
            Ok(done) => done,
            Err(_) => Err(Trouble::MayPass("it took too long".to_owned())),
        };
        if let Err(error) = self.note(&errand, done).await {
            let (graph, finding) = (&errand.graph, errand.verdict.content.finding.as_str());
            tracing::warn!(%graph, finding, error = %Chain(&error), "what became of an errand cannot be written down: it is run again");
        }
    }

    async fn give_up(&self) -> Result<(), StoreError> {
        self.store.give_up_errands(&self.name).await
    }
}

impl Courier {
    /// Runs what is in the outbox of `store`, with what `graphs` say of findings.
    ///
    /// # Errors
    /// When verdicts are to be given back, but the system has no usable TLS.
    pub fn new(store: Arc<dyn Store>, graphs: Graphs, clock: Arc<dyn Clock>, config: Feedback, wake: Arc<Notify>) -> Result<Arc<Self>, reqwest::Error> {
        let aws = config.enabled.then(|| Aws::new(config.clone())).transpose()?;
        Ok(Arc::new(Self { store, graphs, aws, clock, config, name: uuid::Uuid::new_v4().to_string(), wake }))
    }

    async fn attempt(&self, errand: &Errand) -> Result<Settled, Trouble> {
        let verdict = &errand.verdict.content;
        let usual = verdict.kind.dismisses();
        // What the graph found itself has an id made of its ARN.
        if (usual || errand.was_put_away) && verdict.finding.as_str().starts_with(&format!("{}/finding/", errand.graph)) {
            self.graphs.teach(&errand.graph, &verdict.finding, usual).await?;
        }
        let aws = match (&errand.verdict.delivery, &self.aws) {
            (None, _) => Err(Settled::Done),
            (Some(_), None) => Err(Settled::Skipped("feedback was turned off".to_owned())),
            (Some(_), Some(aws)) => Ok(aws),
        };
        let teaches = verdict.kind == Kind::FalsePositive;
        if let Err(end) = &aws
            && !teaches
        {
            return Ok(end.clone());
        }
        let Some(finding) = self.graphs.open(&errand.graph).finding(&verdict.finding).await? else {
            return Err(Trouble::Lasts("the graph does not have the finding".to_owned()));
        };
        if teaches {
            self.propose(errand, &finding).await?;
        }
        let aws = match aws {
            Ok(aws) => aws,
            Err(end) => return Ok(end),
        };
        let calls = match calls(&finding, verdict, errand.was_put_away, &self.config.detectors) {
            Ok(calls) => calls,
            Err(reason) => return Ok(Settled::Skipped(reason)),
        };
        for call in calls {
            aws.call(&call).await.map_err(|error| if error.may_pass { Trouble::MayPass(error.reason) } else { Trouble::Lasts(error.reason) })?;
        }
        Ok(Settled::Delivered)
    }

    /// Proposes the suppression that a false positive teaches.
    async fn propose(&self, errand: &Errand, finding: &Finding) -> Result<(), Trouble> {
        let pattern = Pattern::of(finding);
        if !pattern.is_storable() || self.store.has_suppression(&errand.graph, &pattern).await? {
            return Ok(());
        }
        let past_findings = self.graphs.open(&errand.graph).count_covered(&pattern).await?;
        self.store.propose(&self.name, errand, &NewSuppression { pattern, past_findings }, self.clock.now()).await?;
        Ok(())
    }

    async fn note(&self, errand: &Errand, done: Result<Settled, Trouble>) -> Result<(), StoreError> {
        let (graph, finding, attempts) = (&errand.graph, errand.verdict.content.finding.as_str(), errand.attempts);
        let settled = match done {
            Ok(settled) => settled,
            Err(Trouble::Store(error)) => return Err(error),
            Err(Trouble::Waits(reason)) => {
                let next = self.after(Duration::from_secs(self.config.retry_seconds));
                return self.store.postpone_errand(&self.name, errand, next, &cut(&reason), false, self.clock.now()).await;
            }
            Err(Trouble::MayPass(reason)) if attempts < self.config.max_attempts => {
                tracing::warn!(%graph, finding, attempts, reason, "an errand is run again");
                let next = self.after(self.pause(attempts));
                return self.store.postpone_errand(&self.name, errand, next, &cut(&reason), true, self.clock.now()).await;
            }
            Err(Trouble::MayPass(reason) | Trouble::Lasts(reason)) => {
                tracing::error!(%graph, finding, attempts, reason, "an errand has failed");
                Settled::Failed(cut(&reason))
            }
        };
        if !self.store.settle_errand(&self.name, errand, &settled, self.clock.now()).await? {
            tracing::info!(%graph, finding, "another worker has the errand, or a later verdict came");
        }
        Ok(())
    }

    /// The pause after so many attempts: it doubles, and of it at least half, lest all are tried again at once.
    fn pause(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(12);
        let whole = Duration::from_secs(self.config.retry_seconds.saturating_mul(1 << doublings)).min(MAX_PAUSE);
        whole.mul_f64(rand::random_range(0.5..=1.0))
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(self.config.lease_seconds)
    }

    fn after(&self, by: Duration) -> Timestamp {
        claims::after(&*self.clock, by)
    }
}

/// A reason as it is kept: of limited length, on one line.
fn cut(reason: &str) -> String {
    reason.chars().take(MAX_REASON).map(|character| if character.is_control() { ' ' } else { character }).collect()
}
