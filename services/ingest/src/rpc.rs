//! `IngestService`: decode, call, encode.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _};
use gumshoe_api::ingest::v1::{self as api, ingest_service_server::IngestService};
use gumshoe_runtime::{Caller, Clock as _, Failure, PageTokens, Scope, Shutdown, SystemClock, status};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    config,
    error::Error,
    pull::{Puller, gone},
    store::{ObjectState, PullStatus, Source, SqlStore, StoreError},
};

pub mod accounts;
pub(crate) mod graph;
pub mod receive;
pub(crate) mod rules;
pub mod source;

use receive::{Message, Receiver, result};

/// Batches one `PutRecords` may hold, since their results come in one message.
const MAX_PUT_BATCHES: usize = 10_000;
const RESULTS_WAITING: usize = 16;
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
const SOURCES_PER_PAGE: (i32, i32) = (50, 200);
const OBJECTS_PER_PAGE: (i32, i32) = (100, 1000);

/// The service.
#[derive(Clone)]
pub struct Rpc {
    pub(crate) store: SqlStore,
    pub(crate) receiver: Receiver,
    pub(crate) puller: Arc<Puller>,
    pub(crate) config: config::Sources,
    pub(crate) pages: PageTokens,
    pub(crate) shutdown: Shutdown,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl IngestService for Rpc {
    async fn put_records(&self, request: Request<Streaming<api::PutRecordsRequest>>) -> Result<Response<api::PutRecordsResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let stream = request.into_inner().map(|message| message.map(|api::PutRecordsRequest { graph_arn, piece }| Message { graph_arn, piece }));
        let (sender, mut receiver) = mpsc::channel(RESULTS_WAITING);
        let collecting = async {
            let mut results = Vec::new();
            while let Some(result) = receiver.recv().await {
                if results.len() >= MAX_PUT_BATCHES {
                    return Err(status::quota_exceeded(format!("more than {MAX_PUT_BATCHES} batches in one call")));
                }
                results.push(result);
            }
            Ok(results)
        };
        let receiving = async { self.receiver.receive(stream, &caller, sender).await };
        let ((), mut results) = tokio::try_join!(receiving, collecting)?;
        results.sort_unstable_by_key(|(place, _)| *place);
        Ok(Response::new(api::PutRecordsResponse { results: results.into_iter().map(|(_, result)| result).collect() }))
    }

    type StreamRecordsStream = Answers<api::StreamRecordsResponse>;

    async fn stream_records(&self, request: Request<Streaming<api::StreamRecordsRequest>>) -> Result<Response<Self::StreamRecordsStream>, Status> {
        let caller = Caller::of(&request)?.clone();
        let stream = request.into_inner().map(|message| message.map(|api::StreamRecordsRequest { graph_arn, piece }| Message { graph_arn, piece }));
        let (sender, mut results) = mpsc::channel(RESULTS_WAITING);
        let receiver = self.receiver.clone();
        // Held by the answer, so that a caller who goes away ends it.
        let mut receiving = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move { receiver.receive(stream, &caller, sender).await }));
        let answers = async_stream(move |answer| async move {
            while let Some((_, result)) = results.recv().await {
                if answer.send(Ok(api::StreamRecordsResponse { result: Some(result) })).await.is_err() {
                    return;
                }
            }
            let outcome = (&mut receiving).await;
            if let Err(failure) = outcome.unwrap_or_else(|error| Err(status::internal(&error))) {
                let _ = answer.send(Err(failure.into())).await;
            }
        });
        Ok(Response::new(answers))
    }

    async fn create_source(&self, request: Request<api::CreateSourceRequest>) -> Result<Response<api::CreateSourceResponse>, Status> {
        let graph = graph_of(&request, |request| &request.graph_arn)?;
        let api::CreateSourceRequest { name, settings, .. } = request.into_inner();
        let source = source::new(graph, &name, settings, &self.config, SystemClock.now())?;
        let source = match self.store.create_source(&source).await {
            Ok(()) => source,
            Err(StoreError::AlreadyExists) => {
                let present = self.store.source(&source.graph, &name).await.map_err(|error| gone(error, &name))?;
                if present.settings != source.settings {
                    return Err(Error::SourceExists(name).into());
                }
                present
            }
            Err(error) => return Err(Error::from(error).into()),
        };
        self.puller.wake();
        Ok(Response::new(api::CreateSourceResponse { source: Some(self.shown(&source).await?) }))
    }

    async fn get_source(&self, request: Request<api::GetSourceRequest>) -> Result<Response<api::GetSourceResponse>, Status> {
        let graph = graph_of(&request, |request| &request.graph_arn)?;
        let source = self.find(&graph, &request.get_ref().name).await?;
        Ok(Response::new(api::GetSourceResponse { source: Some(self.shown(&source).await?) }))
    }

    async fn list_sources(&self, request: Request<api::ListSourcesRequest>) -> Result<Response<api::ListSourcesResponse>, Status> {
        let graph = graph_of(&request, |request| &request.graph_arn)?;
        let request = request.into_inner();
        let limit = page_size(request.page_size, SOURCES_PER_PAGE)?;
        let scope = Scope::new("ListSources", &request.graph_arn, "");
        let after: Option<String> = self.pages.resume(&request.page_token, &scope)?;
        let found = self.store.list_sources(&graph, after.as_deref().unwrap_or_default(), limit + 1).await.map_err(Error::from)?;
        let (found, more) = page(found, limit);
        let next_page_token = match found.last().filter(|_| more) {
            Some(last) => self.pages.seal(&last.name, &scope)?,
            None => String::new(),
        };
        let mut sources = Vec::with_capacity(found.len());
        for source in &found {
            sources.push(self.shown(source).await?);
        }
        Ok(Response::new(api::ListSourcesResponse { sources, next_page_token }))
    }

    async fn list_source_objects(&self, request: Request<api::ListSourceObjectsRequest>) -> Result<Response<api::ListSourceObjectsResponse>, Status> {
        let graph = graph_of(&request, |request| &request.graph_arn)?;
        let request = request.into_inner();
        let state = match api::ObjectState::try_from(request.state) {
            Ok(api::ObjectState::Unspecified) => None,
            Ok(api::ObjectState::Seen) => Some(ObjectState::Seen),
            Ok(api::ObjectState::Done) => Some(ObjectState::Done),
            Ok(api::ObjectState::Failed) => Some(ObjectState::Failed),
            Err(_) => return Err(Error::field("state", "is not a known state").into()),
        };
        let limit = page_size(request.page_size, OBJECTS_PER_PAGE)?;
        let source = self.find(&graph, &request.name).await?;
        let scope = Scope::new("ListSourceObjects", &request.graph_arn, format!("{}/{}", source.id, request.state));
        let after: Option<(String, String)> = self.pages.resume(&request.page_token, &scope)?;
        let (key, etag) = after.unwrap_or_default();
        let found = self.store.list_objects(&source, state, (&key, &etag), limit + 1).await.map_err(Error::from)?;
        let (objects, more) = page(found, limit);
        let next_page_token = match objects.last().filter(|_| more) {
            Some(last) => self.pages.seal(&(&last.key, &last.etag), &scope)?,
            None => String::new(),
        };
        Ok(Response::new(api::ListSourceObjectsResponse { objects: objects.into_iter().map(source::object_to_proto).collect(), next_page_token }))
    }

    type SyncSourceStream = Answers<api::SyncSourceResponse>;

    async fn sync_source(&self, request: Request<api::SyncSourceRequest>) -> Result<Response<Self::SyncSourceStream>, Status> {
        let graph = graph_of(&request, |request| &request.graph_arn)?;
        let name = request.into_inner().name;
        source::check_name(&name)?;
        let (source, begun) = self.puller.begin_sync(&graph, &name).await?;
        let (puller, shutdown) = (Arc::clone(&self.puller), self.shutdown.clone());
        let answers = async_stream(move |answer| async move {
            let listing = puller.list(&source.graph, &source.name);
            let mut listing = std::pin::pin!(listing);
            let mut listed = false;
            loop {
                tokio::select! {
                    outcome = &mut listing, if !listed => match outcome {
                        Ok(_) => listed = true,
                        Err(error) => {
                            let _ = answer.send(Err(error.into())).await;
                            return;
                        }
                    },
                    () = tokio::time::sleep(PROGRESS_INTERVAL) => {}
                    () = puller.idle(), if listed => {}
                    () = shutdown.requested() => {
                        let _ = answer.send(Err(status::unavailable("the server").into())).await;
                        return;
                    }
                    () = answer.closed() => return,
                }
                let message = match puller.sync_status(&source, begun).await {
                    Ok(status) => progress(&status, listed),
                    Err(error) => {
                        let _ = answer.send(Err(error.into())).await;
                        return;
                    }
                };
                let complete = message.complete;
                if answer.send(Ok(message)).await.is_err() || complete {
                    return;
                }
            }
        });
        Ok(Response::new(answers))
    }

    async fn delete_source(&self, request: Request<api::DeleteSourceRequest>) -> Result<Response<api::DeleteSourceResponse>, Status> {
        let graph = graph_of(&request, |request| &request.graph_arn)?;
        let name = &request.get_ref().name;
        source::check_name(name)?;
        self.store.delete_source(&graph, name).await.map_err(|error| gone(error, name))?;
        self.puller.wake();
        Ok(Response::new(api::DeleteSourceResponse {}))
    }
}

impl Rpc {
    async fn find(&self, graph: &gumshoe_model::GraphArn, name: &str) -> Result<Source, Error> {
        source::check_name(name)?;
        self.store.source(graph, name).await.map_err(|error| gone(error, name))
    }

    async fn shown(&self, source: &Source) -> Result<api::Source, Error> {
        let progress = self.store.progress(source).await?;
        Ok(source::to_proto(source, &progress, SystemClock.now()))
    }
}

/// The graph that the call is for, which the caller's token must name too.
fn graph_of<T>(request: &Request<T>, arn: impl Fn(&T) -> &String) -> Result<gumshoe_model::GraphArn, Status> {
    let arn = arn(request.get_ref());
    if arn.is_empty() {
        return Err(Error::field("graph_arn", "is required").into());
    }
    Caller::of(request)?.require_graph(arn)
}

fn page_size(asked: i32, (default, most): (i32, i32)) -> Result<u32, Failure> {
    let size = if asked == 0 { default } else { asked };
    u32::try_from(size).ok().filter(|_| size <= most).ok_or_else(|| status::invalid_argument("page_size", format!("must be between 0 and {most}")))
}

/// The first `limit` of the rows, and whether there are more.
fn page<T>(mut rows: Vec<T>, limit: u32) -> (Vec<T>, bool) {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    (rows, more)
}

fn progress(status: &PullStatus, listed: bool) -> api::SyncSourceResponse {
    api::SyncSourceResponse {
        objects_total: status.waiting + status.finished,
        objects_finished: status.finished,
        objects_failed: status.failed,
        stored_bytes_total: status.waiting_bytes + status.finished_bytes,
        stored_bytes_finished: status.finished_bytes,
        totals: Some(result(String::new(), &status.counts)),
        complete: listed && status.waiting == 0,
    }
}

/// A stream of what a task sends, which ends with it. The task ends at its next answer, or when it sees the channel
/// closed, once nobody takes the stream's items any more.
fn async_stream<T, F>(answers: impl FnOnce(mpsc::Sender<Result<T, Status>>) -> F) -> Answers<T>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(answers(sender));
    Box::pin(ReceiverStream::new(receiver))
}

/// Names that health reports.
pub(crate) const HEALTH_NAME: &str = "gumshoe.ingest.v1.IngestService";
