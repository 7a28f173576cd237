//! The real server over SQLite, with a graph service of its own that says what a test wants.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use gumshoe_api::{
    common::v1::{ErrorReason, RecordKind},
    graph::v1::{
        BatchCountActorsRequest, BatchCountActorsResponse, DeleteGraphDataRequest, DeleteGraphDataResponse, GetVolumesRequest, GetVolumesResponse,
        ListFindingVersionsRequest, ListFindingVersionsResponse, TeachBehaviorRequest, TeachBehaviorResponse, Volume,
        graph_administration_service_server::{GraphAdministrationService, GraphAdministrationServiceServer},
    },
    membership::v1::{
        self as api, credential_service_client::CredentialServiceClient, membership_service_client::MembershipServiceClient,
        organization_service_client::OrganizationServiceClient, principal_service_client::PrincipalServiceClient,
    },
};
use gumshoe_membership::{Config, config};
use gumshoe_runtime::{Caller, Listen, PrincipalChannel, Shutdown, Signed, TokenSigner, TokenVerifier, Trust, Upstream, status::reason_of, token::HEADER};
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use tonic::{Code, Request, Response, Status, transport::server::TcpIncoming};
use url::Url;

pub const ACCOUNT: &str = "111111111111";
pub const OTHER: &str = "222222222222";
pub const THIRD: &str = "333333333333";
pub const ADMINISTRATOR: &str = "arn:aws:iam::111111111111:user/administrator";
pub const ALLOW: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"detective:*","Resource":"*"}}"#;
pub const SECRET_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

pub struct Service {
    pub directory: tempfile::TempDir,
    pub config: Config,
    pub gateway: Arc<TokenSigner>,
    pub ingest: Arc<TokenSigner>,
    pub channel: PrincipalChannel,
    pub bearer_public: String,
    pub lake: Arc<Lake>,
    pub shutdown: Shutdown,
    pub server: tokio::task::JoinHandle<Result<(), gumshoe_membership::Error>>,
}

impl Service {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// With another configuration.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path("issuers")).unwrap();
        let signer = |name: &str| {
            let (signer, public) = TokenSigner::generate(name);
            std::fs::write(path("issuers").join(format!("{name}.pem")), public).unwrap();
            Arc::new(signer)
        };
        let (gateway, ingest) = (signer("gateway"), signer("ingest"));
        let (own, own_public) = TokenSigner::generate("membership");
        std::fs::write(path("signing.pem"), own.private_pem().expose_secret()).unwrap();
        let (bearer, bearer_public) = TokenSigner::generate("membership");
        std::fs::write(path("bearer.pem"), bearer.private_pem().expose_secret()).unwrap();
        let (lake, lake_url) = Lake::start(own_public).await;

        let trust = Trust { issuers: path("issuers"), signing_key: Some(path("signing.pem")) };
        let store = config::Store::new(Url::parse(&format!("sqlite://{}", path("membership.db").display())).unwrap());
        let listen = Listen { address: "127.0.0.1:0".parse().unwrap() };
        let mut config = Config::new(listen, trust, store, config::Bearer::new(path("bearer.pem")));
        config.regions = vec!["us-east-1".to_owned(), "eu-west-1".to_owned()];
        config.secret_key = Some(SECRET_KEY.to_owned().into());
        config.graph = Some(Upstream::new(lake_url));
        config.volume_limit_bytes = 1_000;
        change(&mut config);
        gumshoe_membership::migrate(config.clone()).await.unwrap();
        let (channel, shutdown, server) = serve(&config).await;
        Self { directory, config, gateway, ingest, channel, bearer_public, lake, shutdown, server }
    }

    /// The same installation after a restart, with another configuration.
    pub async fn restart(mut self, change: impl FnOnce(&mut Config)) -> Self {
        self.shutdown.trigger();
        (&mut self.server).await.unwrap().unwrap();
        change(&mut self.config);
        gumshoe_membership::migrate(self.config.clone()).await.unwrap();
        (self.channel, self.shutdown, self.server) = serve(&self.config).await;
        self
    }

    pub async fn with_accounts() -> Self {
        let service = Self::start().await;
        service.register_all().await;
        service
    }

    pub async fn register_all(&self) {
        for account in [ACCOUNT, OTHER] {
            self.register(ACCOUNT, account).await.unwrap();
        }
    }

    pub fn caller(account: &str, action: &str) -> Caller {
        Caller::new(format!("arn:aws:iam::{account}:user/administrator"), account, action)
    }

    fn signed(&self, account: &str, action: &str) -> Signed {
        self.channel.signed(self.gateway.clone(), Self::caller(account, action))
    }

    pub fn membership(&self, account: &str, action: &str) -> MembershipServiceClient<Signed> {
        MembershipServiceClient::new(self.signed(account, action))
    }

    pub fn on_graph(&self, account: &str, action: &str, graph: &str) -> MembershipServiceClient<Signed> {
        let caller = Self::caller(account, action).with_graph(graph.parse().unwrap());
        MembershipServiceClient::new(self.channel.signed(self.gateway.clone(), caller))
    }

    pub fn organizations(&self, account: &str, action: &str) -> OrganizationServiceClient<Signed> {
        OrganizationServiceClient::new(self.signed(account, action))
    }

    pub fn organizations_on(&self, account: &str, action: &str, graph: &str) -> OrganizationServiceClient<Signed> {
        let caller = Self::caller(account, action).with_graph(graph.parse().unwrap());
        OrganizationServiceClient::new(self.channel.signed(self.gateway.clone(), caller))
    }

    pub fn principals(&self, account: &str, action: &str) -> PrincipalServiceClient<Signed> {
        PrincipalServiceClient::new(self.signed(account, action))
    }

    pub fn credentials(&self) -> CredentialServiceClient<Signed> {
        self.credentials_of("anonymous", "", "")
    }

    pub fn credentials_of(&self, principal: &str, account: &str, action: &str) -> CredentialServiceClient<Signed> {
        CredentialServiceClient::new(self.channel.signed(self.gateway.clone(), Caller::new(principal, account, action)))
    }

    /// Called by another service than the gateway.
    pub fn by_ingest(&self) -> Signed {
        self.channel.signed(self.ingest.clone(), Caller::service("ingest", ""))
    }

    pub async fn register(&self, by: &str, account: &str) -> Result<api::Account, Status> {
        let request = api::CreateAccountRequest { account_id: account.to_owned(), name: "Name".to_owned(), email: format!("{account}@example.com") };
        self.membership(by, "gumshoe:CreateAccount").create_account(request).await.map(|response| response.into_inner().account.unwrap())
    }

    pub async fn create_graph(&self, account: &str, region: &str) -> Result<String, Status> {
        let request = api::CreateGraphRequest { region: region.to_owned(), tags: HashMap::new() };
        self.membership(account, "detective:CreateGraph").create_graph(request).await.map(|response| response.into_inner().graph.unwrap().arn)
    }

    pub async fn delete_graph(&self, account: &str, graph: &str) -> Result<(), Status> {
        let request = api::DeleteGraphRequest { graph_arn: graph.to_owned() };
        self.on_graph(account, "detective:DeleteGraph", graph).delete_graph(request).await.map(|_| ())
    }

    /// Invites accounts under their right addresses.
    pub async fn invite(&self, administrator: &str, graph: &str, accounts: &[&str]) -> Result<api::CreateMembersResponse, Status> {
        let members = accounts.iter().map(|account| new_member(account, &format!("{account}@example.com"))).collect();
        let request = api::CreateMembersRequest { graph_arn: graph.to_owned(), members, ..Default::default() };
        self.on_graph(administrator, "detective:CreateMembers", graph).create_members(request).await.map(Response::into_inner)
    }

    pub async fn accept(&self, account: &str, graph: &str) -> Result<(), Status> {
        let request = api::AcceptInvitationRequest { graph_arn: graph.to_owned() };
        self.on_graph(account, "detective:AcceptInvitation", graph).accept_invitation(request).await.map(|_| ())
    }

    pub async fn reject(&self, account: &str, graph: &str) -> Result<(), Status> {
        let request = api::RejectInvitationRequest { graph_arn: graph.to_owned() };
        self.on_graph(account, "detective:RejectInvitation", graph).reject_invitation(request).await.map(|_| ())
    }

    pub async fn disassociate(&self, account: &str, graph: &str) -> Result<(), Status> {
        let request = api::DisassociateMembershipRequest { graph_arn: graph.to_owned() };
        self.on_graph(account, "detective:DisassociateMembership", graph).disassociate_membership(request).await.map(|_| ())
    }

    pub async fn start_monitoring(&self, administrator: &str, graph: &str, account: &str) -> Result<(), Status> {
        let request = api::StartMonitoringMemberRequest { graph_arn: graph.to_owned(), account_id: account.to_owned() };
        self.on_graph(administrator, "detective:StartMonitoringMember", graph).start_monitoring_member(request).await.map(|_| ())
    }

    pub async fn members(&self, administrator: &str, graph: &str) -> Vec<api::Member> {
        let request = api::ListMembersRequest { graph_arn: graph.to_owned(), ..Default::default() };
        self.on_graph(administrator, "detective:ListMembers", graph).list_members(request).await.unwrap().into_inner().members
    }

    pub async fn invitations(&self, account: &str) -> Vec<api::Member> {
        let request = api::ListInvitationsRequest::default();
        self.membership(account, "detective:ListInvitations").list_invitations(request).await.unwrap().into_inner().invitations
    }

    pub async fn create_principal(&self, account: &str, name: &str) -> Result<String, Status> {
        self.create_role(account, name, "").await
    }

    pub async fn create_role(&self, account: &str, name: &str, trust_policy: &str) -> Result<String, Status> {
        let request = api::CreatePrincipalRequest { name: name.to_owned(), trust_policy: trust_policy.to_owned() };
        self.principals(account, "gumshoe:CreatePrincipal").create_principal(request).await.map(|response| response.into_inner().principal.unwrap().arn)
    }

    pub async fn delete_principal(&self, account: &str, arn: &str) {
        let request = api::DeletePrincipalRequest { principal_arn: arn.to_owned() };
        self.principals(account, "gumshoe:DeletePrincipal").delete_principal(request).await.unwrap();
    }

    pub async fn create_key(&self, account: &str, principal: &str) -> Result<(String, String), Status> {
        let request = api::CreateAccessKeyRequest { principal_arn: principal.to_owned() };
        let response = self.principals(account, "gumshoe:CreateAccessKey").create_access_key(request).await?.into_inner();
        Ok((response.access_key.unwrap().access_key_id, response.secret_access_key))
    }

    pub async fn put_policy(&self, account: &str, principal: &str, name: &str, document: &str) -> Result<api::PrincipalPolicy, Status> {
        let request = api::PutPrincipalPolicyRequest { principal_arn: principal.to_owned(), name: name.to_owned(), document: document.to_owned() };
        self.principals(account, "gumshoe:PutPrincipalPolicy").put_principal_policy(request).await.map(|response| response.into_inner().policy.unwrap())
    }

    pub async fn token(&self, id: &str, secret: &str, seconds: Option<i64>) -> Result<api::CreateTokenResponse, Status> {
        let lifetime = seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
        let request = api::CreateTokenRequest { access_key_id: id.to_owned(), secret_access_key: secret.to_owned(), lifetime };
        self.credentials().create_token(request).await.map(Response::into_inner)
    }

    pub async fn signing_key(&self, id: &str, session_token: &str) -> Result<api::GetSigningKeyResponse, Status> {
        let request = api::GetSigningKeyRequest {
            access_key_id: id.to_owned(),
            date: "20240630".to_owned(),
            region: "us-east-1".to_owned(),
            service: "detective".to_owned(),
            session_token: session_token.to_owned(),
        };
        self.credentials().get_signing_key(request).await.map(Response::into_inner)
    }
}

async fn serve(config: &Config) -> (PrincipalChannel, Shutdown, tokio::task::JoinHandle<Result<(), gumshoe_membership::Error>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let shutdown = Shutdown::new();
    let server = tokio::spawn(gumshoe_membership::run(config.clone(), listener, shutdown.clone()));
    (PrincipalChannel::connect_lazy(&Upstream::new(url), "membership").unwrap(), shutdown, server)
}

pub fn new_member(account: &str, email: &str) -> api::NewMember {
    api::NewMember { account_id: account.to_owned(), email: email.to_owned() }
}

#[track_caller]
pub fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, reason: ErrorReason) -> String {
    let status = outcome.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (code, Some(reason)), "{status:?}");
    status.message().to_owned()
}

/// A graph service that says what it is told to say.
pub struct Lake {
    verifier: TokenVerifier,
    /// By graph; others have taken in nothing.
    volumes: Mutex<HashMap<String, Vec<Volume>>>,
    asked: AtomicU32,
    /// How many of the next calls fail.
    failures: AtomicU32,
    deleted: Mutex<Vec<String>>,
}

impl Lake {
    async fn start(membership: String) -> (Arc<Self>, Url) {
        let verifier = TokenVerifier::new("graph", [("membership".to_owned(), membership)]).unwrap();
        let lake = Arc::new(Self { verifier, volumes: Mutex::default(), asked: AtomicU32::new(0), failures: AtomicU32::new(0), deleted: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let service = GraphAdministrationServiceServer::from_arc(lake.clone());
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
        (lake, url)
    }

    /// Adds what an account gave `days_ago` days ago.
    pub fn give(&self, graph: &str, account: &str, kind: RecordKind, days_ago: i64, bytes: u64) {
        let now = gumshoe_runtime::Clock::now(&gumshoe_runtime::SystemClock);
        let day = gumshoe_membership::volumes::day_of(gumshoe_model::Timestamp(now.0 - days_ago * gumshoe_model::time::MICROS_PER_DAY));
        let volume = Volume { account_id: account.to_owned(), kind: kind.into(), day, records: 1, bytes };
        self.volumes.lock().unwrap().entry(graph.to_owned()).or_default().push(volume);
    }

    pub fn fail(&self, calls: u32) {
        self.failures.store(calls, Ordering::SeqCst);
    }

    pub fn failures_left(&self) -> u32 {
        self.failures.load(Ordering::SeqCst)
    }

    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }

    pub fn deleted(&self) -> Vec<String> {
        self.deleted.lock().unwrap().clone()
    }

    /// Refuses calls that membership has not signed for this very thing.
    fn check<T>(&self, request: &Request<T>, action: &str, graph: &str) -> Result<(), Status> {
        let token = request.metadata().get(HEADER).and_then(|token| token.to_str().ok()).unwrap_or_default();
        let caller = self.verifier.verify(token).map_err(|error| Status::unauthenticated(error.to_string()))?;
        assert_eq!((caller.principal.as_str(), caller.action.as_str()), ("service:membership", action));
        caller.require_graph(graph)?;
        let failed = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if failed { Err(Status::unavailable("as asked for")) } else { Ok(()) }
    }
}

#[tonic::async_trait]
impl GraphAdministrationService for Lake {
    async fn get_volumes(&self, request: Request<GetVolumesRequest>) -> Result<Response<GetVolumesResponse>, Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.check(&request, "gumshoe:GetVolumes", &request.get_ref().graph_arn)?;
        let volumes = self.volumes.lock().unwrap().get(&request.get_ref().graph_arn).cloned().unwrap_or_default();
        Ok(Response::new(GetVolumesResponse { volumes }))
    }

    async fn delete_graph_data(&self, request: Request<DeleteGraphDataRequest>) -> Result<Response<DeleteGraphDataResponse>, Status> {
        self.check(&request, "gumshoe:DeleteGraphData", &request.get_ref().graph_arn)?;
        self.deleted.lock().unwrap().push(request.into_inner().graph_arn);
        Ok(Response::new(DeleteGraphDataResponse {}))
    }

    async fn list_finding_versions(&self, _: Request<ListFindingVersionsRequest>) -> Result<Response<ListFindingVersionsResponse>, Status> {
        Err(Status::unimplemented("not asked for by membership"))
    }

    async fn batch_count_actors(&self, _: Request<BatchCountActorsRequest>) -> Result<Response<BatchCountActorsResponse>, Status> {
        Err(Status::unimplemented("not asked for by membership"))
    }

    async fn teach_behavior(&self, _: Request<TeachBehaviorRequest>) -> Result<Response<TeachBehaviorResponse>, Status> {
        Err(Status::unimplemented("not asked for by membership"))
    }
}
