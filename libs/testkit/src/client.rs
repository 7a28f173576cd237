//! A caller from outside: through the gateway, with a bearer token.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures::stream;
use gumshoe_api::{
    graph::v1::{analysis_service_client::AnalysisServiceClient, graph_service_client::GraphServiceClient},
    ingest::v1::{BatchResult, RecordsPiece, StreamRecordsRequest, ingest_service_client::IngestServiceClient},
    investigation::v1::investigation_service_client::InvestigationServiceClient,
    membership::v1::{
        CreateAccessKeyRequest, CreatePrincipalRequest, CreateTokenRequest, PutPrincipalPolicyRequest, credential_service_client::CredentialServiceClient,
        membership_service_client::MembershipServiceClient, principal_service_client::PrincipalServiceClient,
    },
};
use tokio::time::{Instant, sleep};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

/// The largest answer that is read.
const MAX_ANSWER: usize = 256 << 20;
/// The size of a piece, small enough that a batch has several.
const PIECE_BYTES: usize = 64 << 10;
/// How long batches are sent again before the test has failed.
const PATIENCE: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(100);

/// Adds the bearer token to a call.
#[derive(Debug, Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A channel whose calls carry the token.
pub type Authorized = InterceptedService<Channel, Bearer>;

/// A batch to send.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Its id.
    pub id: String,
    /// What its bytes are called.
    pub source_object: String,
    /// Its bytes.
    pub data: Bytes,
}

/// One principal's view of one graph.
#[derive(Debug, Clone)]
pub struct Client {
    /// The gateway.
    pub endpoint: String,
    /// The graph that calls are for.
    pub graph_arn: String,
    /// The bearer token.
    pub token: String,
    channel: Channel,
}

impl Client {
    /// Turns an access key into a token.
    ///
    /// # Errors
    /// What the gateway answers.
    ///
    /// # Panics
    /// When `endpoint` is not a URL.
    pub async fn sign_in(endpoint: &str, graph_arn: &str, access_key_id: &str, secret_access_key: &str) -> Result<Self, Status> {
        // Lazily, so that a gateway that is started again is found again.
        let channel = Endpoint::from_shared(endpoint.to_owned()).expect("a URL").connect_timeout(Duration::from_secs(5)).connect_lazy();
        let request = CreateTokenRequest { access_key_id: access_key_id.to_owned(), secret_access_key: secret_access_key.to_owned(), lifetime: None };
        let token = CredentialServiceClient::new(channel.clone()).create_token(request).await?.into_inner().token;
        Ok(Self { endpoint: endpoint.to_owned(), graph_arn: graph_arn.to_owned(), token, channel })
    }

    /// The same caller, asking for another graph.
    #[must_use]
    pub fn with_graph(mut self, graph_arn: &str) -> Self {
        graph_arn.clone_into(&mut self.graph_arn);
        self
    }

    /// The channel without the token.
    #[must_use]
    pub fn anonymous(&self) -> Channel {
        self.channel.clone()
    }

    fn authorized(&self) -> Authorized {
        let token = format!("Bearer {}", self.token).parse().expect("a token in ASCII");
        InterceptedService::new(self.channel.clone(), Bearer(token))
    }

    /// The graph service.
    #[must_use]
    pub fn graph(&self) -> GraphServiceClient<Authorized> {
        GraphServiceClient::new(self.authorized()).max_decoding_message_size(MAX_ANSWER)
    }

    /// The graph's service for heavy questions.
    #[must_use]
    pub fn analysis(&self) -> AnalysisServiceClient<Authorized> {
        AnalysisServiceClient::new(self.authorized()).max_decoding_message_size(MAX_ANSWER)
    }

    /// The ingest service.
    #[must_use]
    pub fn ingest(&self) -> IngestServiceClient<Authorized> {
        IngestServiceClient::new(self.authorized())
    }

    /// The investigation service.
    #[must_use]
    pub fn investigation(&self) -> InvestigationServiceClient<Authorized> {
        InvestigationServiceClient::new(self.authorized())
    }

    /// The membership service.
    #[must_use]
    pub fn membership(&self) -> MembershipServiceClient<Authorized> {
        MembershipServiceClient::new(self.authorized())
    }

    /// The principal service.
    #[must_use]
    pub fn principals(&self) -> PrincipalServiceClient<Authorized> {
        PrincipalServiceClient::new(self.authorized())
    }

    /// Adds a user of the caller's account with one policy, and signs in as this user.
    ///
    /// # Panics
    /// When a call is refused.
    pub async fn create_user(&self, name: &str, policy: &str) -> Self {
        let principal = self
            .principals()
            .create_principal(CreatePrincipalRequest { name: format!("user/{name}"), ..CreatePrincipalRequest::default() })
            .await
            .expect("CreatePrincipal");
        let principal_arn = principal.into_inner().principal.expect("a principal").arn;
        let policy = PutPrincipalPolicyRequest { principal_arn: principal_arn.clone(), name: "only".to_owned(), document: policy.to_owned() };
        self.principals().put_principal_policy(policy).await.expect("PutPrincipalPolicy");
        let key = self.principals().create_access_key(CreateAccessKeyRequest { principal_arn }).await.expect("CreateAccessKey").into_inner();
        let id = key.access_key.expect("a key").access_key_id;
        Self::sign_in(&self.endpoint, &self.graph_arn, &id, &key.secret_access_key).await.expect("CreateToken")
    }

    /// Sends batches in one stream and gives each result to `acknowledged` as it comes.
    ///
    /// # Errors
    /// When the stream ends before every batch is acknowledged.
    pub async fn send<'b>(&self, batches: impl IntoIterator<Item = &'b Batch>, mut acknowledged: impl FnMut(BatchResult)) -> Result<(), Status> {
        let messages: Vec<StreamRecordsRequest> = batches.into_iter().flat_map(pieces).map(|piece| self.message(piece)).collect();
        let mut waiting = messages.iter().filter(|message| message.piece.as_ref().is_some_and(|piece| piece.last)).count();
        let mut results = self.ingest().stream_records(stream::iter(messages)).await?.into_inner();
        while let Some(answer) = results.message().await? {
            acknowledged(answer.result.ok_or_else(|| Status::internal("an acknowledgement without a result"))?);
            waiting -= 1;
        }
        if waiting == 0 { Ok(()) } else { Err(Status::unavailable(format!("{waiting} batches were not acknowledged"))) }
    }

    fn message(&self, piece: RecordsPiece) -> StreamRecordsRequest {
        StreamRecordsRequest { graph_arn: self.graph_arn.clone(), piece: Some(piece) }
    }

    /// Sends batches, and those that are not acknowledged again, until all are. Counts acknowledgements as they come.
    ///
    /// # Panics
    /// When some are still not acknowledged after three minutes.
    pub async fn send_until_acknowledged(&self, batches: &[Batch], count: &AtomicUsize) -> Vec<BatchResult> {
        let end = Instant::now() + PATIENCE;
        let mut results: Vec<Option<BatchResult>> = batches.iter().map(|_| None).collect();
        loop {
            let waiting: Vec<&Batch> = batches.iter().zip(&results).filter(|(_, result)| result.is_none()).map(|(batch, _)| batch).collect();
            if waiting.is_empty() {
                return results.into_iter().flatten().collect();
            }
            let outcome = self.send(waiting, |result| {
                let place = batches.iter().position(|batch| batch.id == result.batch_id).expect("a batch that was sent");
                count.fetch_add(1, Ordering::Relaxed);
                if let Some(slot) = results.get_mut(place) {
                    *slot = Some(result);
                }
            });
            if let Err(status) = outcome.await {
                assert!(Instant::now() < end, "batches are not acknowledged: {status:?}");
                sleep(PAUSE).await;
            }
        }
    }
}

fn pieces(batch: &Batch) -> Vec<RecordsPiece> {
    let count = batch.data.len().div_ceil(PIECE_BYTES).max(1);
    let piece = |number: usize| RecordsPiece {
        batch_id: batch.id.clone(),
        source_object: batch.source_object.clone(),
        data: batch.data.slice(number * PIECE_BYTES..batch.data.len().min((number + 1) * PIECE_BYTES)),
        last: number + 1 == count,
        eks_cluster: String::new(),
    };
    (0..count).map(piece).collect()
}
