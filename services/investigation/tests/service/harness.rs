//! A running service, a folder for its database, and the graph service that it asks.

use std::{sync::Arc, time::Duration};

use gumshoe_api::{
    common::v1::ErrorReason,
    investigation::v1::{self as api, finding_group_service_client::FindingGroupServiceClient, investigation_service_client::InvestigationServiceClient},
};
use gumshoe_investigation::{Config, Error, config};
use gumshoe_runtime::{Caller, Configuration as _, Listen, PrincipalChannel, ServerOptions, Shutdown, Signed, Telemetry, Trust, Upstream, status::reason_of};
use gumshoe_testkit::Keys;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};
use tonic::{Code, Status};
use url::Url;

use crate::graph::FakeGraph;

pub const ANN: &str = "arn:aws:iam::111111111111:user/ann";
pub const GRAPH: &str = "arn:aws:detective:us-east-1:111111111111:graph:00000000000000000000000000000001";
pub const OTHER: &str = "arn:aws:detective:us-east-1:222222222222:graph:00000000000000000000000000000002";
const PATIENCE: Duration = Duration::from_secs(30);

pub type Client = InvestigationServiceClient<Signed>;

/// Waits until `condition` gives something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[track_caller]
pub fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, reason: ErrorReason) -> Status {
    let status = outcome.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (code, Some(reason)), "{status:?}");
    status
}

/// What outlives a server: its database and keys, and the graph service.
pub struct World {
    directory: TempDir,
    pub keys: Keys,
    pub graph: FakeGraph,
}

impl World {
    pub async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let keys = Keys::generate(directory.path());
        let graph = FakeGraph::start(&keys).await;
        Self { directory, keys, graph }
    }

    /// Starts a server; several can share the database.
    pub async fn serve(self: &Arc<Self>, adjust: impl FnOnce(&mut Config)) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let database = format!("sqlite://{}", self.directory.path().join("investigation.db").display());
        let mut config = Config {
            listen: Listen { address },
            trust: Trust { issuers: self.keys.issuers(), signing_key: Some(self.keys.private("investigation")) },
            store: config::Store::new(Url::parse(&database).unwrap()),
            graph: Upstream::new(self.graph.url.clone()),
            investigations: config::Investigations { look_seconds: 1, retry_seconds: 1, ..config::Investigations::default() },
            groups: config::Groups { look_seconds: 1, interval_seconds: 0, settle_seconds: 0, retry_seconds: 1, ..config::Groups::default() },
            feedback: config::Feedback { look_seconds: 1, retry_seconds: 1, ..config::Feedback::default() },
            threats: config::Threats { reload_seconds: 1, ..config::Threats::default() },
            page_token_key: None,
            server: ServerOptions { grace_seconds: 5, ..ServerOptions::default() },
            telemetry: Telemetry::default(),
        };
        adjust(&mut config);
        config.validate().unwrap();
        gumshoe_investigation::migrate(config.clone()).await.unwrap();
        let shutdown = Shutdown::new();
        let server = tokio::spawn(gumshoe_investigation::run(config, listener, shutdown.clone()));
        let url = Url::parse(&format!("http://{address}")).unwrap();
        let channel = PrincipalChannel::connect_lazy(&Upstream::new(url), "investigation").unwrap();
        Service { world: Arc::clone(self), channel, shutdown, server }
    }
}

/// A running server.
pub struct Service {
    pub world: Arc<World>,
    pub channel: PrincipalChannel,
    shutdown: Shutdown,
    server: JoinHandle<Result<(), Error>>,
}

impl Service {
    /// A server in a world of its own.
    pub async fn start() -> Self {
        Arc::new(World::new().await).serve(|_| {}).await
    }

    pub fn client(&self, action: &str, graph: &str) -> Client {
        self.client_of(ANN, action, graph)
    }

    /// A client in the name of a principal.
    pub fn client_of(&self, principal: &str, action: &str, graph: &str) -> Client {
        let caller = Caller::new(principal, "111111111111", action).with_graph(graph.parse().unwrap());
        InvestigationServiceClient::new(self.channel.signed(self.world.keys.signer("gateway"), caller))
    }

    /// A client of finding groups.
    pub fn groups(&self, action: &str, graph: &str) -> FindingGroupServiceClient<Signed> {
        let caller = Caller::new(ANN, "111111111111", action).with_graph(graph.parse().unwrap());
        FindingGroupServiceClient::new(self.channel.signed(self.world.keys.signer("gateway"), caller))
    }

    /// An investigation.
    pub async fn get(&self, id: &str) -> api::Investigation {
        let request = api::GetInvestigationRequest { graph_arn: GRAPH.to_owned(), investigation_id: id.to_owned() };
        self.client("detective:GetInvestigation", GRAPH).get_investigation(request).await.unwrap().into_inner().investigation.unwrap()
    }

    /// An investigation with what makes its severity.
    pub async fn explained(&self, id: &str) -> api::GetInvestigationResponse {
        let request = api::GetInvestigationRequest { graph_arn: GRAPH.to_owned(), investigation_id: id.to_owned() };
        self.client("detective:GetInvestigation", GRAPH).get_investigation(request).await.unwrap().into_inner()
    }

    /// An investigation once it does not run any more.
    pub async fn finished(&self, id: &str) -> api::Investigation {
        let done = async || Some(self.get(id).await).filter(|found| found.status() != api::InvestigationStatus::Running);
        eventually("an investigation ends", done).await
    }

    /// All that an investigation has found.
    pub async fn indicators(&self, id: &str) -> Vec<api::Indicator> {
        let request = api::ListIndicatorsRequest {
            graph_arn: GRAPH.to_owned(),
            investigation_id: id.to_owned(),
            page_size: 100,
            ..api::ListIndicatorsRequest::default()
        };
        self.client("detective:ListIndicators", GRAPH).list_indicators(request).await.unwrap().into_inner().indicators
    }

    /// Ends the server in order.
    pub async fn stop(self) {
        self.shutdown.trigger();
        tokio::time::timeout(PATIENCE, self.server).await.unwrap().unwrap().unwrap();
    }

    /// Ends the server as a crash does.
    pub async fn crash(self) {
        self.server.abort();
        assert!(self.server.await.unwrap_err().is_cancelled());
    }
}
