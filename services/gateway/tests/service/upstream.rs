//! Services that tell what they were sent: investigation and ingest on the real chassis.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use gumshoe_api::{
    ingest::v1::{
        self as ingest,
        ingest_service_server::{IngestService, IngestServiceServer},
    },
    investigation::v1::{
        self as investigation,
        investigation_service_server::{InvestigationService, InvestigationServiceServer},
    },
};
use gumshoe_runtime::{Caller, Server, Shutdown, status};
use tokio::{
    net::TcpListener,
    sync::{OwnedRwLockWriteGuard, RwLock},
};
use tonic::{Request, Response, Status, Streaming, service::Routes};
use url::Url;

use crate::harness::Verifier;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Where the services listen.
pub struct Addresses {
    pub ingest: Url,
    pub investigation: Url,
}

/// The state of both services.
#[derive(Clone, Default)]
pub struct Telling {
    /// Held by a test to keep streams from being read.
    gate: Arc<RwLock<()>>,
    timeout: Arc<Mutex<String>>,
    started: Arc<Mutex<Vec<investigation::StartInvestigationRequest>>>,
}

impl Telling {
    pub async fn start(&self, investigation: Verifier, ingest: Verifier) -> Addresses {
        let investigation = serve("investigation", investigation, Routes::new(InvestigationServiceServer::new(self.clone()))).await;
        let ingest = serve("ingest", ingest, Routes::new(IngestServiceServer::new(self.clone()).max_decoding_message_size(8 << 20))).await;
        Addresses { ingest, investigation }
    }

    /// Keeps streams from being read until it is dropped.
    pub fn close_gate(&self) -> OwnedRwLockWriteGuard<()> {
        self.gate.clone().try_write_owned().unwrap()
    }

    /// The investigations that were asked for.
    pub fn started(&self) -> Vec<investigation::StartInvestigationRequest> {
        self.started.lock().unwrap().clone()
    }

    /// The `grpc-timeout` of the last batch call.
    pub fn last_timeout(&self) -> Duration {
        let text = self.timeout.lock().unwrap().clone();
        Duration::from_micros(text.strip_suffix('u').unwrap().parse().unwrap())
    }
}

async fn serve(service: &'static str, verifier: Verifier, routes: Routes) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(Server::new(service, verifier, Shutdown::new()).serve(listener, routes));
    url
}

/// What is answered to a piece of a stream.
pub fn result(batch_id: &str, bytes: usize) -> ingest::BatchResult {
    ingest::BatchResult { batch_id: batch_id.to_owned(), bytes: u64::try_from(bytes).unwrap(), ..ingest::BatchResult::default() }
}

fn unexpected<T>() -> Result<T, Status> {
    Err(Status::unimplemented("not asked for in these tests"))
}

#[tonic::async_trait]
impl InvestigationService for Telling {
    async fn create_verdict(&self, request: Request<investigation::CreateVerdictRequest>) -> Result<Response<investigation::CreateVerdictResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require_graph(&request.get_ref().graph_arn)?;
        let headers: BTreeMap<String, String> = request
            .metadata()
            .iter()
            .map(|entry| match entry {
                tonic::metadata::KeyAndValueRef::Ascii(key, value) => (key.as_str().to_owned(), value.to_str().unwrap().to_owned()),
                tonic::metadata::KeyAndValueRef::Binary(key, value) => (key.as_str().to_owned(), format!("{value:?}")),
            })
            .collect();
        let note = serde_json::json!({
            "issuer": caller.issuer, "principal": caller.principal, "account": caller.account, "action": caller.action,
            "graph": caller.graph.as_ref().map(ToString::to_string), "request_id": caller.request_id, "headers": headers,
        });
        let verdict = investigation::Verdict { note: note.to_string(), ..investigation::Verdict::default() };
        Ok(Response::new(investigation::CreateVerdictResponse { verdict: Some(verdict) }))
    }

    async fn batch_get_verdicts(
        &self,
        request: Request<investigation::BatchGetVerdictsRequest>,
    ) -> Result<Response<investigation::BatchGetVerdictsResponse>, Status> {
        *self.timeout.lock().unwrap() = request.metadata().get("grpc-timeout").unwrap().to_str().unwrap().to_owned();
        std::future::pending().await
    }

    async fn list_verdicts(&self, _: Request<investigation::ListVerdictsRequest>) -> Result<Response<investigation::ListVerdictsResponse>, Status> {
        let failure = status::invalid_argument("page_size", "7 is not liked ü").with_metadata("seven", "7");
        let mut status = Status::from(failure);
        status.metadata_mut().insert("x-custom-trailer", "kept".parse().unwrap());
        Err(status)
    }

    async fn search_findings(&self, _: Request<investigation::SearchFindingsRequest>) -> Result<Response<investigation::SearchFindingsResponse>, Status> {
        unexpected()
    }

    async fn list_suppressions(&self, _: Request<investigation::ListSuppressionsRequest>) -> Result<Response<investigation::ListSuppressionsResponse>, Status> {
        unexpected()
    }

    async fn accept_suppression(
        &self,
        _: Request<investigation::AcceptSuppressionRequest>,
    ) -> Result<Response<investigation::AcceptSuppressionResponse>, Status> {
        unexpected()
    }

    async fn dismiss_suppression(
        &self,
        _: Request<investigation::DismissSuppressionRequest>,
    ) -> Result<Response<investigation::DismissSuppressionResponse>, Status> {
        unexpected()
    }

    async fn delete_suppression(
        &self,
        _: Request<investigation::DeleteSuppressionRequest>,
    ) -> Result<Response<investigation::DeleteSuppressionResponse>, Status> {
        unexpected()
    }

    async fn start_investigation(
        &self,
        request: Request<investigation::StartInvestigationRequest>,
    ) -> Result<Response<investigation::StartInvestigationResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require_graph(&request.get_ref().graph_arn)?;
        assert_eq!(
            (caller.action.as_str(), request.metadata().get("x-request-id").unwrap().to_str().unwrap()),
            ("detective:StartInvestigation", &*caller.request_id)
        );
        self.started.lock().unwrap().push(request.into_inner());
        Ok(Response::new(investigation::StartInvestigationResponse { investigation_id: "1".repeat(21) }))
    }

    async fn get_investigation(
        &self,
        request: Request<investigation::GetInvestigationRequest>,
    ) -> Result<Response<investigation::GetInvestigationResponse>, Status> {
        Caller::of(&request)?.require_graph(&request.get_ref().graph_arn)?;
        let message = request.into_inner();
        match message.investigation_id.as_bytes().first() {
            Some(b'1') => {
                let investigation = investigation::Investigation {
                    id: message.investigation_id,
                    graph_arn: message.graph_arn,
                    status: investigation::InvestigationStatus::Running.into(),
                    ..investigation::Investigation::default()
                };
                Ok(Response::new(investigation::GetInvestigationResponse { investigation: Some(investigation), ..Default::default() }))
            }
            Some(b'2') => Err(status::unavailable("the database of secrets").into()),
            Some(b'3') => std::future::pending().await,
            _ => Err(status::not_found("investigation", &message.investigation_id).into()),
        }
    }

    async fn list_investigations(
        &self,
        _: Request<investigation::ListInvestigationsRequest>,
    ) -> Result<Response<investigation::ListInvestigationsResponse>, Status> {
        Err(status::resource_exhausted("slowly", Duration::from_millis(1_500)).into())
    }

    async fn update_investigation_state(
        &self,
        _: Request<investigation::UpdateInvestigationStateRequest>,
    ) -> Result<Response<investigation::UpdateInvestigationStateResponse>, Status> {
        Ok(Response::new(investigation::UpdateInvestigationStateResponse {}))
    }

    async fn list_indicators(&self, request: Request<investigation::ListIndicatorsRequest>) -> Result<Response<investigation::ListIndicatorsResponse>, Status> {
        let detail = investigation::NewAsoDetail { aso: request.into_inner().page_token, is_new_for_entire_account: true };
        let indicator = investigation::Indicator {
            r#type: investigation::IndicatorType::NewAso.into(),
            detail: Some(investigation::indicator::Detail::NewAso(detail)),
            principal: None,
        };
        Ok(Response::new(investigation::ListIndicatorsResponse { indicators: vec![indicator], next_page_token: "next".to_owned() }))
    }
}

#[tonic::async_trait]
impl IngestService for Telling {
    type StreamRecordsStream = Answers<ingest::StreamRecordsResponse>;
    type SyncSourceStream = Answers<ingest::SyncSourceResponse>;

    async fn stream_records(&self, request: Request<Streaming<ingest::StreamRecordsRequest>>) -> Result<Response<Self::StreamRecordsStream>, Status> {
        let gate = self.gate.clone();
        let answers = request.into_inner().then(move |message| {
            let gate = gate.clone();
            async move {
                let piece = message?.piece.unwrap_or_default();
                let _open = gate.read().await;
                Ok(ingest::StreamRecordsResponse { result: Some(result(&piece.batch_id, piece.data.len())) })
            }
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn put_records(&self, _: Request<Streaming<ingest::PutRecordsRequest>>) -> Result<Response<ingest::PutRecordsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn create_source(&self, _: Request<ingest::CreateSourceRequest>) -> Result<Response<ingest::CreateSourceResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_source(&self, _: Request<ingest::GetSourceRequest>) -> Result<Response<ingest::GetSourceResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_sources(&self, _: Request<ingest::ListSourcesRequest>) -> Result<Response<ingest::ListSourcesResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_source_objects(&self, _: Request<ingest::ListSourceObjectsRequest>) -> Result<Response<ingest::ListSourceObjectsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn sync_source(&self, _: Request<ingest::SyncSourceRequest>) -> Result<Response<Self::SyncSourceStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn delete_source(&self, _: Request<ingest::DeleteSourceRequest>) -> Result<Response<ingest::DeleteSourceResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}
