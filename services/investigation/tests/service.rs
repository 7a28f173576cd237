//! Investigation as its callers see it: the real server on a free port, over SQLite.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use gumshoe_api::{
    common::v1::ErrorReason,
    investigation::v1::{self as api, investigation_service_client::InvestigationServiceClient},
};
use gumshoe_investigation::{Config, config};
use gumshoe_runtime::{Caller, Listen, PrincipalChannel, ServerOptions, Shutdown, Signed, Telemetry, TokenSigner, Trust, Upstream, status::reason_of};
use tokio::net::TcpListener;
use tonic::{Code, Status, transport::Channel};
use url::Url;

const ANN: &str = "arn:aws:iam::111111111111:user/ann";
const GRAPH: &str = "arn:aws:detective:us-east-1:111111111111:graph:00000000000000000000000000000001";
const OTHER: &str = "arn:aws:detective:us-east-1:222222222222:graph:00000000000000000000000000000002";
const CREATE: &str = "gumshoe:CreateVerdict";
const READ: &str = "detective:SearchGraph";

struct Service {
    _directory: tempfile::TempDir,
    gateway: Arc<TokenSigner>,
    channel: PrincipalChannel,
}

impl Service {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (gateway, public) = TokenSigner::generate("gateway");
        std::fs::create_dir(directory.path().join("issuers")).unwrap();
        std::fs::write(directory.path().join("issuers/gateway.pem"), public).unwrap();
        let config = Config {
            listen: Listen { address: "127.0.0.1:0".parse().unwrap() },
            trust: Trust { issuers: directory.path().join("issuers"), signing_key: None },
            store: config::Store::new(Url::parse(&format!("sqlite://{}", directory.path().join("investigation.db").display())).unwrap()),
            page_token_key: None,
            server: ServerOptions::default(),
            telemetry: Telemetry::default(),
        };
        gumshoe_investigation::migrate(config.clone()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(gumshoe_investigation::run(config, listener, Shutdown::new()));
        let channel = PrincipalChannel::connect_lazy(&Upstream::new(url), "investigation").unwrap();
        Self { _directory: directory, gateway: Arc::new(gateway), channel }
    }

    fn client(&self, action: &str, graph: &str) -> InvestigationServiceClient<Signed<Channel>> {
        let caller = Caller::new(ANN, "111111111111", action).with_graph(graph.parse().unwrap());
        InvestigationServiceClient::new(self.channel.signed(self.gateway.clone(), caller))
    }

    async fn create(&self, finding: &str, kind: api::VerdictKind, request_id: &str) -> api::Verdict {
        self.client(CREATE, GRAPH).create_verdict(create(finding, kind, request_id)).await.unwrap().into_inner().verdict.unwrap()
    }
}

fn create(finding: &str, kind: api::VerdictKind, request_id: &str) -> api::CreateVerdictRequest {
    api::CreateVerdictRequest {
        graph_arn: GRAPH.to_owned(),
        finding_id: finding.to_owned(),
        kind: kind.into(),
        note: "known scanner".to_owned(),
        request_id: request_id.to_owned(),
    }
}

fn batch(findings: &[&str]) -> api::BatchGetVerdictsRequest {
    api::BatchGetVerdictsRequest { graph_arn: GRAPH.to_owned(), finding_ids: findings.iter().map(|id| (*id).to_owned()).collect() }
}

fn list(finding: &str, page_size: i32, page_token: &str) -> api::ListVerdictsRequest {
    api::ListVerdictsRequest { graph_arn: GRAPH.to_owned(), finding_id: finding.to_owned(), page_size, page_token: page_token.to_owned() }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, reason: ErrorReason) {
    let status = outcome.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (code, Some(reason)), "{status:?}");
}

#[tokio::test]
async fn a_verdict_has_its_author_from_the_token_and_is_in_force_until_the_next() {
    let service = Service::start().await;
    let first = service.create("f", api::VerdictKind::TruePositive, "").await;
    assert_eq!((first.author_arn.as_str(), first.note.as_str(), first.kind()), (ANN, "known scanner", api::VerdictKind::TruePositive));
    let second = service.create("f", api::VerdictKind::Benign, "").await;
    let other = service.create("g", api::VerdictKind::FalsePositive, "").await;
    let mut client = service.client(READ, GRAPH);
    let got = client.batch_get_verdicts(batch(&["g", "unknown", "f"])).await.unwrap().into_inner();
    assert_eq!(got.verdicts, [other, second.clone()]);
    let page = client.list_verdicts(list("f", 1, "")).await.unwrap().into_inner();
    assert_eq!(page.verdicts, [second]);
    let rest = client.list_verdicts(list("f", 1, &page.next_page_token)).await.unwrap().into_inner();
    assert_eq!((rest.verdicts, rest.next_page_token.as_str()), (vec![first], ""));
    refused(client.list_verdicts(list("g", 1, &page.next_page_token)).await, Code::InvalidArgument, ErrorReason::InvalidPageToken);
}

#[tokio::test]
async fn a_repeated_request_is_recorded_once() {
    let service = Service::start().await;
    let first = service.create("f", api::VerdictKind::Benign, "r").await;
    assert_eq!(service.create("f", api::VerdictKind::Benign, "r").await, first);
    refused(
        service.client(CREATE, GRAPH).create_verdict(create("f", api::VerdictKind::TruePositive, "r")).await,
        Code::FailedPrecondition,
        ErrorReason::Conflict,
    );
    assert_eq!(service.client(READ, GRAPH).list_verdicts(list("f", 0, "")).await.unwrap().into_inner().verdicts, [first]);
}

#[tokio::test]
async fn a_token_opens_one_graph_for_one_action() {
    let service = Service::start().await;
    service.create("f", api::VerdictKind::Benign, "").await;
    let denied = |outcome: Result<(), Status>| refused(outcome, Code::PermissionDenied, ErrorReason::AccessDenied);
    denied(service.client(CREATE, OTHER).create_verdict(create("f", api::VerdictKind::Benign, "")).await.map(|_| ()));
    denied(service.client(READ, OTHER).list_verdicts(list("f", 0, "")).await.map(|_| ()));
    denied(service.client(READ, OTHER).batch_get_verdicts(batch(&["f"])).await.map(|_| ()));
    denied(service.client(READ, GRAPH).create_verdict(create("f", api::VerdictKind::Benign, "")).await.map(|_| ()));
    let mut elsewhere = list("f", 0, "");
    elsewhere.graph_arn = OTHER.to_owned();
    assert!(service.client(READ, OTHER).list_verdicts(elsewhere).await.unwrap().into_inner().verdicts.is_empty());
    let mut bare = InvestigationServiceClient::new(service.channel.unsigned());
    refused(bare.list_verdicts(list("f", 0, "")).await, Code::Unauthenticated, ErrorReason::Unauthenticated);
}

#[tokio::test]
async fn fields_are_checked() {
    let service = Service::start().await;
    let long_note = api::CreateVerdictRequest { note: "x".repeat(4_097), ..create("f", api::VerdictKind::Benign, "") };
    let long_id = "r".repeat(65);
    for bad in
        [create("", api::VerdictKind::Benign, ""), create("f", api::VerdictKind::Unspecified, ""), create("f", api::VerdictKind::Benign, &long_id), long_note]
    {
        refused(service.client(CREATE, GRAPH).create_verdict(bad).await, Code::InvalidArgument, ErrorReason::InvalidField);
    }
    let mut client = service.client(READ, GRAPH);
    for bad in [batch(&[]), batch(&["f"; 101]), batch(&["f", ""])] {
        refused(client.batch_get_verdicts(bad).await, Code::InvalidArgument, ErrorReason::InvalidField);
    }
    for bad in [list("", 0, ""), list("f", -1, ""), list("f", 201, "")] {
        refused(client.list_verdicts(bad).await, Code::InvalidArgument, ErrorReason::InvalidField);
    }
    refused(client.list_verdicts(list("f", 0, "nonsense")).await, Code::InvalidArgument, ErrorReason::InvalidPageToken);
}
