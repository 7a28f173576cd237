//! Parts of batches to the graph service: signed, repeated until durable, bounded in memory.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use gumshoe_api::graph::v1::{CommitBatchRequest, CommitBatchResponse, DeadLetterRecord, graph_writer_service_client::GraphWriterServiceClient};
use gumshoe_model::GraphArn;
use gumshoe_runtime::{Caller, PrincipalChannel, TokenSigner, status};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tonic::{Code, Request, Status};

use crate::{config, error::Error};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The budget is counted in units of this many bytes, since a semaphore's permits are 32-bit.
const UNIT_BYTES: usize = 1024;

/// What is committed at once.
#[derive(Debug)]
pub(crate) struct Part {
    /// Its id, unique in the graph.
    pub(crate) batch_id: String,
    /// Events as a Parquet file; may be empty.
    pub(crate) events: Bytes,
    /// Records that could not be parsed.
    pub(crate) dead_letters: Vec<DeadLetterRecord>,
    /// Its share of the budget, given back when it is committed.
    pub(crate) share: OwnedSemaphorePermit,
}

/// Commits parts of batches.
#[derive(Debug, Clone)]
pub(crate) struct Committer {
    channel: PrincipalChannel,
    signer: Arc<TokenSigner>,
    budget: Arc<Semaphore>,
    capacity: usize,
    patience: Duration,
    timeout: Duration,
}

impl Committer {
    pub(crate) fn new(channel: PrincipalChannel, signer: Arc<TokenSigner>, config: &config::Batches) -> Self {
        let capacity = (config.in_flight_bytes / UNIT_BYTES).clamp(1, u32::MAX as usize >> 4);
        Self {
            channel,
            signer,
            budget: Arc::new(Semaphore::new(capacity)),
            capacity,
            patience: Duration::from_secs(config.commit_patience_seconds),
            timeout: Duration::from_secs(config.commit_timeout_seconds),
        }
    }

    /// Waits until `bytes` more may be on their way to the graph.
    pub(crate) async fn share(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Error> {
        let units = (bytes / UNIT_BYTES + 1).min(self.capacity);
        let permits = Arc::clone(&self.budget).acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX)).await;
        permits.map_err(|closed| Error::Internal("the commit budget is closed", Box::new(closed)))
    }

    /// Commits a part and says what became of it, repeating the call while the graph service does not answer.
    pub(crate) async fn commit(&self, graph: &GraphArn, request_id: &str, source_object: &str, part: Part) -> Result<CommitBatchResponse, Error> {
        let caller = Caller::service("ingest", "gumshoe:CommitBatch").with_graph(graph.clone()).with_request_id(request_id);
        let mut client = GraphWriterServiceClient::new(self.channel.signed(Arc::clone(&self.signer), caller));
        let Part { batch_id, events, dead_letters, share } = part;
        let message = CommitBatchRequest { graph_arn: graph.to_string(), batch_id, source_object: source_object.to_owned(), events, dead_letters };
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let mut request = Request::new(message.clone());
            request.set_timeout(self.timeout);
            let refusal = match client.commit_batch(request).await {
                Ok(response) => {
                    drop(share);
                    return Ok(response.into_inner());
                }
                Err(refusal) => refusal,
            };
            if !may_pass(&refusal) {
                return Err(Error::GraphRefused(Box::new(refusal)));
            }
            if begun.elapsed() + pause > self.patience {
                return Err(Error::GraphUnavailable(Box::new(refusal)));
            }
            tracing::warn!(batch_id = message.batch_id, code = ?refusal.code(), reason = refusal.message(), pause_ms = pause.as_millis(), "commit is tried again");
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Whether the same call may succeed later.
fn may_pass(refusal: &Status) -> bool {
    match refusal.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Aborted | Code::ResourceExhausted => true,
        // What the transport makes of a broken connection; our services say their reason.
        Code::Unknown | Code::Internal | Code::Cancelled => status::reason_of(refusal).is_none(),
        _ => false,
    }
}

/// Between half and all of `pause`, so that replicas do not call in step.
fn jittered(pause: Duration) -> Duration {
    let half = pause / 2;
    let random = u32::from(uuid::Uuid::new_v4().as_bytes().first().copied().unwrap_or_default());
    half + half * random / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_what_may_pass_and_nothing_else() {
        for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Aborted, Code::ResourceExhausted, Code::Unknown] {
            assert!(may_pass(&Status::new(code, "")), "{code:?}");
        }
        for code in [Code::InvalidArgument, Code::PermissionDenied, Code::Unauthenticated, Code::NotFound, Code::FailedPrecondition] {
            assert!(!may_pass(&Status::new(code, "")), "{code:?}");
        }
        let ours = Status::from(status::internal(&std::io::Error::other("x")));
        assert!(!may_pass(&ours), "a fault that the graph service has told is not repeated");
    }

    #[test]
    fn jitter_stays_within_the_pause() {
        for _ in 0..100 {
            let pause = jittered(LONGEST_PAUSE);
            assert!(pause >= LONGEST_PAUSE / 2 && pause <= LONGEST_PAUSE);
        }
    }
}
