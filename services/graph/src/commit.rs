//! The RPC by which ingest hands in batches.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use gumshoe_api::graph::v1::{
    CommitBatchRequest, CommitBatchResponse, GetRuleDocumentsRequest, GetRuleDocumentsResponse, RuleDocument, graph_writer_service_server::GraphWriterService,
};
use gumshoe_enrich::Places;
use gumshoe_lake::{Lake, LakeError};
use gumshoe_model::GraphArn;
use gumshoe_records::events::{ParquetError, Received};
use gumshoe_runtime::{
    status::{self, Chain, Failure},
    token::Caller,
};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

use crate::{
    hot::Hot,
    rows,
    rpc::page,
    rules::Rules,
    writer::{Batch, WriteError, Writer},
};

/// The longest batch id, in bytes.
const MAX_BATCH_ID: usize = 300;
/// The longest name of a source object, in bytes.
const MAX_SOURCE_OBJECT: usize = 2048;
/// The largest message: a batch with its text.
pub(crate) const MAX_MESSAGE_BYTES: usize = 100 << 20;

/// Commits batches of many graphs.
#[derive(Debug, Clone)]
pub struct Commit {
    lake: Arc<Lake>,
    hot: Arc<Hot>,
    rules: Arc<Rules>,
    places: Arc<Places>,
    known_event_ids: usize,
    writers: Arc<Mutex<Writers>>,
}

#[derive(Debug, Default)]
struct Writers {
    running: HashMap<GraphArn, Writer>,
    /// Graphs whose data is being removed, or is gone: their ARNs never come back.
    removed: HashSet<GraphArn>,
}

impl Commit {
    /// Commits to `lake`; `known_event_ids` is per graph.
    pub(crate) fn new(lake: Arc<Lake>, hot: Arc<Hot>, rules: Arc<Rules>, places: Arc<Places>, known_event_ids: usize) -> Self {
        Self { lake, hot, rules, places, known_event_ids, writers: Arc::default() }
    }

    async fn writer(&self, arn: &GraphArn) -> Result<Writer, Failure> {
        let mut writers = self.writers.lock().await;
        if writers.removed.contains(arn) {
            return Err(status::not_found("graph", &arn.to_string()));
        }
        if let Some(writer) = writers.running.get(arn).filter(|writer| writer.is_running()) {
            return Ok(writer.clone());
        }
        let lake = self.lake.graph(arn).await.map_err(rows::failure)?;
        let writer = Writer::start(lake, Arc::clone(&self.hot), Arc::clone(&self.rules), Arc::clone(&self.places), self.known_event_ids);
        writers.running.insert(arn.clone(), writer.clone());
        Ok(writer)
    }

    /// Removes all data of a graph, once what is being committed to it has ended.
    ///
    /// # Errors
    /// [`LakeError::Store`] when the store does not answer: then call it again.
    pub(crate) async fn remove(&self, arn: &GraphArn) -> Result<(), LakeError> {
        let writer = {
            let mut writers = self.writers.lock().await;
            writers.removed.insert(arn.clone());
            writers.running.remove(arn)
        };
        if let Some(writer) = writer {
            writer.end().await;
        }
        self.hot.forget(arn);
        if let Err(error) = self.rules.forget(arn).await {
            tracing::warn!(error = %Chain(&error), graph = %arn, "the rules of a removed graph stay in the store");
        }
        self.lake.remove(arn).await
    }
}

#[tonic::async_trait]
impl GraphWriterService for Commit {
    type GetRuleDocumentsStream = BoxStream<'static, Result<GetRuleDocumentsResponse, Status>>;

    async fn get_rule_documents(&self, request: Request<GetRuleDocumentsRequest>) -> Result<Response<Self::GetRuleDocumentsStream>, Status> {
        let caller = Caller::of(&request)?;
        caller.require_issuer(&["ingest"])?;
        let arn = caller.require_graph(&request.get_ref().graph_arn)?;
        let rules = self.rules.of(&arn).await;
        let version = rules.version.clone();
        let documents = if request.get_ref().version == version { Vec::new() } else { rules.documents() };
        let mut messages: Vec<Vec<RuleDocument>> = page::messages(documents, usize::MAX, page::MESSAGE_BYTES);
        if messages.is_empty() {
            messages.push(Vec::new());
        }
        let messages = messages.into_iter().map(move |documents| Ok(GetRuleDocumentsResponse { version: version.clone(), documents }));
        Ok(Response::new(stream::iter(messages).boxed()))
    }

    async fn commit_batch(&self, request: Request<CommitBatchRequest>) -> Result<Response<CommitBatchResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require_issuer(&["ingest"])?;
        let arn = caller.require_graph(&request.get_ref().graph_arn)?;
        let request = request.into_inner();
        if request.batch_id.is_empty() || request.batch_id.len() > MAX_BATCH_ID {
            return Err(status::invalid_argument("batch_id", "must have 1 to 300 bytes").into());
        }
        if request.source_object.len() > MAX_SOURCE_OBJECT {
            return Err(status::invalid_argument("source_object", "must have at most 2048 bytes").into());
        }
        let bytes = request.events.len() + request.dead_letters.iter().map(|letter| letter.raw.len()).sum::<usize>();
        let (file, batch_id) = (request.events, request.batch_id.clone());
        let read = tokio::task::spawn_blocking(move || read(file, &batch_id)).await.map_err(|error| status::internal(&error))?;
        let events = read.map_err(|error| status::invalid_argument("events", error.to_string()))?;
        let writer = self.writer(&arn).await?;
        let batch = Batch { id: request.batch_id, source_object: request.source_object, events, dead_letters: request.dead_letters, bytes };
        let committed = writer.commit(batch).await.map_err(|error| match &error {
            WriteError::Lake(_) => {
                tracing::warn!(error = %Chain(&error), "a batch was not committed");
                status::unavailable("the lake")
            }
            WriteError::Aborted => status::unavailable("the graph's writer"),
        })?;
        Ok(Response::new(CommitBatchResponse {
            events: committed.counts.events,
            duplicates: committed.counts.duplicates,
            dead_letters: committed.counts.dead_letters,
            already_committed: committed.before,
        }))
    }
}

/// Reads an events file, which may be missing.
fn read(file: Bytes, batch_id: &str) -> Result<Option<Received>, ParquetError> {
    if file.is_empty() {
        return Ok(None);
    }
    let received = Received::new(file)?;
    if received.events.rows()?.batch_id.values().any(|id| id != batch_id) {
        return Err(ParquetError::General("`batch_id` in the file is not the request's".to_owned()));
    }
    Ok(Some(received))
}
