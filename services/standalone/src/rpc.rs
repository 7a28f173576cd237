//! The connection to a server: where it is, who calls, and which graph is meant.

use std::{
    sync::Mutex,
    time::{Duration, SystemTime},
};

use gumshoe_api::{
    graph::v1::{
        analysis_service_client::AnalysisServiceClient, behavior_service_client::BehaviorServiceClient, graph_service_client::GraphServiceClient,
        rule_service_client::RuleServiceClient,
    },
    ingest::v1::ingest_service_client::IngestServiceClient,
    investigation::v1::{finding_group_service_client::FindingGroupServiceClient, investigation_service_client::InvestigationServiceClient},
    membership::v1::{
        CreateTokenRequest, ListGraphsRequest, credential_service_client::CredentialServiceClient, membership_service_client::MembershipServiceClient,
        principal_service_client::PrincipalServiceClient,
    },
};
use gumshoe_runtime::http2::{CONNECTION_WINDOW_BYTES, FRAME_BYTES, STREAM_WINDOW_BYTES};
use secrecy::{ExposeSecret as _, SecretString};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::{
    arguments::Remote,
    credentials::{Credentials, Token},
};

mod failure;
pub mod health;
pub mod message;

pub use failure::Failure;

/// Where a server is looked for when nothing else is said.
pub const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:8443";
/// A token is renewed when it has less than this left.
const RENEW_BEFORE: Duration = Duration::from_secs(120);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Answers such as a page of a thousand records with their text are larger than tonic's default.
const MAX_ANSWER: usize = 256 << 20;

/// A channel whose calls carry the bearer token.
pub type Authorized = InterceptedService<Channel, Bearer>;

/// Adds the bearer token to a call.
#[derive(Debug, Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A connection to one server.
#[derive(Debug)]
pub struct Connection {
    channel: Channel,
    source: Source,
    token: Mutex<Option<Token>>,
    graph: Option<String>,
}

/// What tokens are made of.
#[derive(Debug)]
enum Source {
    /// A token that was given.
    Token(SecretString),
    /// An access key that was given.
    Key(String, SecretString),
    /// What `login` kept.
    Kept(Box<Credentials>),
}

impl Connection {
    /// Connects as the arguments, the environment or the credentials file say.
    ///
    /// # Errors
    /// [`Failure`] when there are no credentials or the server does not answer.
    pub async fn open(remote: &Remote) -> Result<Self, Failure> {
        let kept = Credentials::load()?;
        let endpoint = remote.endpoint.clone().or_else(|| kept.as_ref().map(|kept| kept.endpoint.clone())).unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        // Kept credentials go to the server they were given for, and to no other.
        let kept = kept.filter(|kept| kept.endpoint == endpoint);
        let graph = remote.graph.as_ref().map(ToString::to_string);
        let source = match (&remote.token, &remote.access_key_id, &remote.secret_access_key, kept) {
            (Some(token), ..) => Source::Token(token.clone()),
            (None, Some(id), Some(secret), _) => Source::Key(id.clone(), secret.clone()),
            (None, Some(_), None, _) => return Err(Failure::Usage("an access key id needs its secret: set GUMSHOE_SECRET_ACCESS_KEY".to_owned())),
            (None, None, _, Some(kept)) => Source::Kept(Box::new(kept)),
            (None, None, _, None) => {
                return Err(Failure::SignedOut(format!(
                    "no credentials for {endpoint}: run `gumshoe login`, or set GUMSHOE_ACCESS_KEY_ID and GUMSHOE_SECRET_ACCESS_KEY"
                )));
            }
        };
        Ok(Self { channel: channel(&endpoint, remote).await?, source, token: Mutex::new(None), graph })
    }

    /// Turns an access key into credentials to keep.
    ///
    /// # Errors
    /// [`Failure`] when the server does not answer or refuses the key.
    pub async fn sign_in(remote: &Remote, id: &str, secret: &SecretString, lifetime: Duration) -> Result<Credentials, Failure> {
        let endpoint = remote.endpoint.clone().unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let channel = channel(&endpoint, remote).await?;
        let (token, principal_arn) = create_token(channel, id, secret, Some(lifetime)).await?;
        Ok(Credentials { endpoint, access_key_id: id.to_owned(), secret_access_key: secret.clone(), token: Some(token), principal_arn })
    }

    /// The graph service.
    ///
    /// # Errors
    /// [`Failure`] when no token can be had.
    pub async fn graph_service(&self) -> Result<GraphServiceClient<Authorized>, Failure> {
        Ok(GraphServiceClient::new(self.authorized().await?).max_decoding_message_size(MAX_ANSWER))
    }

    /// The service of detection rules.
    ///
    /// # Errors
    /// [`Failure`] when no token can be had.
    pub async fn rule_service(&self) -> Result<RuleServiceClient<Authorized>, Failure> {
        Ok(RuleServiceClient::new(self.authorized().await?).max_decoding_message_size(MAX_ANSWER))
    }

    /// The behaviour service.
    ///
    /// # Errors
    /// [`Failure`] when no token can be had.
    pub async fn behavior_service(&self) -> Result<BehaviorServiceClient<Authorized>, Failure> {
        Ok(BehaviorServiceClient::new(self.authorized().await?))
    }

    /// The graph's service for heavy questions.
    ///
    /// # Errors
    /// [`Failure`] when no token can be had.
    pub async fn analysis_service(&self) -> Result<AnalysisServiceClient<Authorized>, Failure> {
        Ok(AnalysisServiceClient::new(self.authorized().await?).max_decoding_message_size(MAX_ANSWER))
    }

    /// The ingest service.
    ///
    /// # Errors
    /// [`Failure`] when no token can be had.
    pub async fn ingest_service(&self) -> Result<IngestServiceClient<Authorized>, Failure> {
        Ok(IngestServiceClient::new(self.authorized().await?))
    }

    /// The investigation service.
    ///
    /// # Errors
    /// [`Failure`] when no token can be had.
    pub async fn investigation_service(&self) -> Result<InvestigationServiceClient<Authorized>, Failure> {
        Ok(InvestigationServiceClient::new(self.authorized().await?))
    }

    /// The service of finding groups.
    ///
    /// # Errors
    /// [`Failure`] when no token can be had.
    pub async fn finding_group_service(&self) -> Result<FindingGroupServiceClient<Authorized>, Failure> {
        Ok(FindingGroupServiceClient::new(self.authorized().await?).max_decoding_message_size(MAX_ANSWER))
    }

    /// The membership service.
    ///
    /// # Errors
    /// [`Failure`] when no token can be had.
    pub async fn membership_service(&self) -> Result<MembershipServiceClient<Authorized>, Failure> {
        Ok(MembershipServiceClient::new(self.authorized().await?))
    }

    /// The principal service.
    ///
    /// # Errors
    /// [`Failure`] when no token can be had.
    pub async fn principal_service(&self) -> Result<PrincipalServiceClient<Authorized>, Failure> {
        Ok(PrincipalServiceClient::new(self.authorized().await?))
    }

    /// The graph that was named, or the account's only one.
    ///
    /// # Errors
    /// [`Failure`] when the account has none, or several and none was named.
    pub async fn graph(&self) -> Result<String, Failure> {
        if let Some(graph) = &self.graph {
            return Ok(graph.clone());
        }
        let graphs = self.membership_service().await?.list_graphs(ListGraphsRequest { page_size: 200, ..Default::default() }).await?.into_inner().graphs;
        match graphs.as_slice() {
            [graph] => Ok(graph.arn.clone()),
            [] => Err(Failure::NotFound("the account has no graph".to_owned())),
            many => {
                let arns: Vec<_> = many.iter().map(|graph| graph.arn.as_str()).collect();
                Err(Failure::Usage(format!("the account has several graphs; name one with --graph or GUMSHOE_GRAPH: {}", arns.join(", "))))
            }
        }
    }

    async fn authorized(&self) -> Result<Authorized, Failure> {
        let token = match &self.source {
            Source::Token(token) => token.clone(),
            Source::Key(id, secret) => self.renewed(id, secret).await?,
            Source::Kept(kept) => match kept.token.as_ref().filter(|token| fresh(token)) {
                Some(token) => token.value.clone(),
                None => {
                    let value = self.renewed(&kept.access_key_id, &kept.secret_access_key).await?;
                    let token = self.token.lock().ok().and_then(|token| token.clone());
                    // The next command can use it too; a file that cannot be written only costs that.
                    let _ = Credentials { token, ..(**kept).clone() }.save();
                    value
                }
            },
        };
        let mut value = MetadataValue::try_from(format!("Bearer {}", token.expose_secret()))
            .map_err(|_| Failure::Usage("the token has characters that no token has".to_owned()))?;
        value.set_sensitive(true);
        Ok(InterceptedService::new(self.channel.clone(), Bearer(value)))
    }

    /// The token at hand, or a new one.
    async fn renewed(&self, id: &str, secret: &SecretString) -> Result<SecretString, Failure> {
        let at_hand = self.token.lock().ok().and_then(|token| token.clone()).filter(fresh);
        if let Some(token) = at_hand {
            return Ok(token.value);
        }
        let (token, _) = create_token(self.channel.clone(), id, secret, None).await?;
        if let Ok(mut kept) = self.token.lock() {
            *kept = Some(token.clone());
        }
        Ok(token.value)
    }
}

fn fresh(token: &Token) -> bool {
    token.expires > SystemTime::now() + RENEW_BEFORE
}

async fn channel(endpoint: &str, remote: &Remote) -> Result<Channel, Failure> {
    let unusable = |error: tonic::transport::Error| Failure::Usage(format!("`{endpoint}` is not an address: {}", gumshoe_runtime::status::Chain(&error)));
    let mut builder = Endpoint::from_shared(endpoint.to_owned())
        .map_err(unusable)?
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .tcp_nodelay(true);
    if endpoint.starts_with("https:") {
        let mut tls = ClientTlsConfig::new().with_enabled_roots();
        if let Some(path) = &remote.certificate_authority {
            let pem = std::fs::read(path).map_err(|source| Failure::File { action: "read", path: path.clone(), source })?;
            tls = tls.ca_certificate(Certificate::from_pem(pem));
        }
        builder = builder.tls_config(tls).map_err(unusable)?;
    }
    builder.connect().await.map_err(|error| {
        let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), |source| gumshoe_runtime::status::Chain(source).to_string());
        Failure::Unreachable { endpoint: endpoint.to_owned(), reason }
    })
}

async fn create_token(channel: Channel, id: &str, secret: &SecretString, lifetime: Option<Duration>) -> Result<(Token, String), Failure> {
    let request =
        CreateTokenRequest { access_key_id: id.to_owned(), secret_access_key: secret.expose_secret().to_owned(), lifetime: lifetime.map(message::duration) };
    let response = CredentialServiceClient::new(channel).create_token(request).await?.into_inner();
    let seconds = response.expire_time.and_then(|time| u64::try_from(time.seconds).ok()).unwrap_or(0);
    let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    Ok((Token { value: SecretString::from(response.token), expires }, response.principal_arn))
}
