//! A gateway with membership and a telling service behind it, each a real server on a free port.

use std::{net::SocketAddr, path::Path, sync::Arc};

use gumshoe_api::{
    common::v1::ErrorReason,
    graph::v1::graph_service_client::GraphServiceClient,
    investigation::v1::{CreateVerdictRequest, VerdictKind, investigation_service_client::InvestigationServiceClient},
    membership::v1::{
        self as membership, credential_service_client::CredentialServiceClient, membership_service_client::MembershipServiceClient,
        principal_service_client::PrincipalServiceClient,
    },
};
use gumshoe_gateway::{Config, Error, config};
use gumshoe_runtime::{Listen, Shutdown, Telemetry, TokenSigner, Trust, Upstream, status::reason_of};
use secrecy::ExposeSecret as _;
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint},
};
use url::Url;

use crate::{signer::Key, upstream::Telling};

/// The account that the gateway's callers belong to.
pub const ACCOUNT: &str = "111111111111";

/// What tests change.
pub struct Options {
    pub policies: config::Policies,
    pub limits: config::Limits,
    pub issuers: Vec<config::Issuer>,
}

impl Default for Options {
    fn default() -> Self {
        // Nothing is kept, so that changes show at once.
        let policies = config::Policies { max_age_seconds: 0, max_stale_seconds: 0, ..config::Policies::default() };
        Self { policies, limits: config::Limits { grace_seconds: 1, ..config::Limits::default() }, issuers: Vec::new() }
    }
}

/// A running gateway and what stands behind it.
pub struct Gateway {
    _directory: tempfile::TempDir,
    pub address: SocketAddr,
    pub channel: Channel,
    /// To the service behind, past the gateway.
    pub service_channel: Channel,
    pub upstream: Telling,
    /// Of membership's bearer tokens.
    pub bearer: TokenSigner,
    /// The administrator's bearer token.
    pub administrator: String,
    /// The administrator's access key.
    pub key: Key,
    pub graph: String,
    pub shutdown: Shutdown,
    pub server: JoinHandle<Result<(), Error>>,
}

impl Gateway {
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    pub async fn start_with(options: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let (signer, public) = TokenSigner::generate("gateway");
        std::fs::create_dir(path("issuers")).unwrap();
        std::fs::write(path("issuers/gateway.pem"), public).unwrap();
        std::fs::write(path("gateway.pem"), signer.private_pem().expose_secret()).unwrap();
        let (bearer, bearer_public) = TokenSigner::generate("membership");
        std::fs::write(path("bearer.pem"), bearer.private_pem().expose_secret()).unwrap();
        std::fs::write(path("bearer.pub.pem"), bearer_public).unwrap();
        let trust = Trust { issuers: path("issuers"), signing_key: None };

        let (membership_url, credentials) = start_membership(&path("membership.db"), &path("bearer.pem"), trust.clone()).await;
        let upstream = Telling::default();
        let upstream_url = upstream.start(trust.verifier("investigation").unwrap(), trust.verifier("ingest").unwrap()).await;
        let mut issuers = options.issuers;
        issuers.push(config::Issuer {
            issuer: "gumshoe".to_owned(),
            audience: "gumshoe".to_owned(),
            keys: config::Keys::public_key(path("bearer.pub.pem")),
            subject_claim: "sub".to_owned(),
            account: None,
        });
        let config = Config {
            listen: Listen { address: "127.0.0.1:0".parse().unwrap() },
            signing_key: path("gateway.pem"),
            upstreams: config::Upstreams {
                ingest: Upstream::new(upstream_url.ingest),
                // Nobody listens there.
                graph: Upstream::new(Url::parse("http://127.0.0.1:1").unwrap()),
                membership: Upstream::new(membership_url),
                investigation: Upstream::new(upstream_url.investigation.clone()),
            },
            issuers,
            region: "us-east-1".to_owned(),
            regions: vec!["us-east-1".to_owned(), "eu-west-1".to_owned()],
            volume_limit_bytes: 10_000_000_000_000,
            trusted_proxies: Vec::new(),
            tls: None,
            reflection: false,
            policies: options.policies,
            limits: options.limits,
            telemetry: Telemetry::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let server = tokio::spawn(gumshoe_gateway::run(config, listener, shutdown.clone()));
        let channel = connect(&format!("http://{address}"));
        let service_channel = connect(upstream_url.investigation.as_str());

        let request = membership::CreateTokenRequest {
            access_key_id: credentials.access_key_id.as_str().to_owned(),
            secret_access_key: credentials.secret_access_key.expose_secret().to_owned(),
            lifetime: None,
        };
        let administrator = CredentialServiceClient::new(channel.clone()).create_token(request).await.unwrap().into_inner().token;
        let graph = credentials.graph.arn.to_string();
        let key = Key::new(credentials.access_key_id.as_str(), credentials.secret_access_key.expose_secret());
        Self { _directory: directory, address, channel, service_channel, upstream, bearer, administrator, key, graph, shutdown, server }
    }

    pub fn investigation(&self) -> InvestigationServiceClient<Channel> {
        InvestigationServiceClient::new(self.channel.clone())
    }

    pub fn graph_service(&self) -> GraphServiceClient<Channel> {
        GraphServiceClient::new(self.channel.clone())
    }

    pub fn membership(&self) -> MembershipServiceClient<Channel> {
        MembershipServiceClient::new(self.channel.clone())
    }

    pub fn credentials(&self) -> CredentialServiceClient<Channel> {
        CredentialServiceClient::new(self.channel.clone())
    }

    fn principals(&self) -> PrincipalServiceClient<Channel> {
        PrincipalServiceClient::new(self.channel.clone())
    }

    /// A request with a bearer token.
    pub fn bearing<T>(&self, token: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        request
    }

    pub fn create_verdict(&self, token: &str, graph: &str) -> Request<CreateVerdictRequest> {
        let message = CreateVerdictRequest {
            graph_arn: graph.to_owned(),
            finding_id: "f".to_owned(),
            kind: VerdictKind::Benign.into(),
            ..CreateVerdictRequest::default()
        };
        self.bearing(token, message)
    }

    /// Calls any path with an empty message.
    pub async fn unary(&self, path: &'static str, token: &str) -> Result<Response<()>, Status> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        client.unary(self.bearing(token, ()), http::uri::PathAndQuery::from_static(path), codec).await
    }

    /// A new principal with these policies, and a token of its own.
    pub async fn principal(&self, name: &str, policies: &[String]) -> String {
        let key = self.user(name, policies).await;
        let request = membership::CreateTokenRequest { access_key_id: key.id, secret_access_key: key.secret, lifetime: None };
        self.credentials().create_token(request).await.unwrap().into_inner().token
    }

    /// A new principal with these policies, and an access key of its own.
    pub async fn user(&self, name: &str, policies: &[String]) -> Key {
        let arn = self.create_principal(name, "").await;
        for (number, document) in policies.iter().enumerate() {
            self.put_policy(name, &format!("p{number}"), document).await;
        }
        let request = membership::CreateAccessKeyRequest { principal_arn: arn };
        let key = self.principals().create_access_key(self.bearing(&self.administrator, request)).await.unwrap().into_inner();
        Key::new(&key.access_key.unwrap().access_key_id, &key.secret_access_key)
    }

    pub async fn create_principal(&self, name: &str, trust_policy: &str) -> String {
        let request = membership::CreatePrincipalRequest { name: name.to_owned(), trust_policy: trust_policy.to_owned() };
        self.principals().create_principal(self.bearing(&self.administrator, request)).await.unwrap().into_inner().principal.unwrap().arn
    }

    /// The administrator of another account, which is registered first.
    pub async fn administrator_of(&self, account: &str) -> Key {
        let request = membership::CreateAccountRequest { account_id: account.to_owned(), name: String::new(), email: format!("{account}@example.com") };
        self.membership().create_account(self.bearing(&self.administrator, request)).await.unwrap();
        let request = membership::CreateAccountAdministratorRequest { account_id: account.to_owned() };
        let made = self.principals().create_account_administrator(self.bearing(&self.administrator, request)).await.unwrap().into_inner();
        Key::new(&made.access_key.unwrap().access_key_id, &made.secret_access_key)
    }

    pub async fn put_policy(&self, principal: &str, name: &str, document: &str) {
        let request = membership::PutPrincipalPolicyRequest {
            principal_arn: format!("arn:aws:iam::{ACCOUNT}:{principal}"),
            name: name.to_owned(),
            document: document.to_owned(),
        };
        self.principals().put_principal_policy(self.bearing(&self.administrator, request)).await.unwrap();
    }

    pub async fn delete_principal(&self, name: &str) {
        let request = membership::DeletePrincipalRequest { principal_arn: format!("arn:aws:iam::{ACCOUNT}:{name}") };
        self.principals().delete_principal(self.bearing(&self.administrator, request)).await.unwrap();
    }
}

pub fn connect(url: &str) -> Channel {
    Endpoint::from_shared(url.to_owned()).unwrap().initial_stream_window_size(2 << 20).initial_connection_window_size(8 << 20).connect_lazy()
}

#[track_caller]
pub fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, reason: ErrorReason) -> String {
    let status = outcome.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (code, Some(reason)), "{status:?}");
    status.message().to_owned()
}

async fn start_membership(database: &Path, bearer: &Path, trust: Trust) -> (Url, gumshoe_membership::Credentials) {
    let store = gumshoe_membership::config::Store::new(Url::parse(&format!("sqlite://{}", database.display())).unwrap());
    let listen = Listen { address: "127.0.0.1:0".parse().unwrap() };
    let mut config = gumshoe_membership::Config::new(listen, trust, store, gumshoe_membership::config::Bearer::new(bearer.to_owned()));
    config.regions = vec!["us-east-1".to_owned(), "eu-west-1".to_owned()];
    config.secret_key = Some("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned().into());
    gumshoe_membership::migrate(config.clone()).await.unwrap();
    let (account, email) = (ACCOUNT.parse().unwrap(), "a@example.com".parse().unwrap());
    let made = gumshoe_membership::bootstrap(&config, account, email, &config.regions, gumshoe_membership::KeyPair::random()).await;
    let credentials = made.unwrap().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(gumshoe_membership::run(config, listener, Shutdown::new()));
    (url, credentials)
}

/// A trusted verifier is shared by the servers of one test.
pub type Verifier = Arc<gumshoe_runtime::TokenVerifier>;
