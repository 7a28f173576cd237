//! Verdicts: recorded, in force, listed.

use gumshoe_api::{
    common::v1::ErrorReason,
    investigation::v1::{self as api, investigation_service_client::InvestigationServiceClient},
};
use tonic::{Code, Status};

use crate::harness::{ANN, GRAPH, OTHER, Service, eventually, refused};

const CREATE: &str = "gumshoe:CreateVerdict";
const READ: &str = "detective:SearchGraph";

async fn created(service: &Service, finding: &str, kind: api::VerdictKind, request_id: &str) -> api::Verdict {
    service.client(CREATE, GRAPH).create_verdict(create(finding, kind, request_id)).await.unwrap().into_inner().verdict.unwrap()
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

#[tokio::test]
async fn a_verdict_has_its_author_from_the_token_and_is_in_force_until_the_next() {
    let service = Service::start().await;
    let first = created(&service, "f", api::VerdictKind::TruePositive, "").await;
    assert_eq!((first.author_arn.as_str(), first.note.as_str(), first.kind()), (ANN, "known scanner", api::VerdictKind::TruePositive));
    let second = created(&service, "f", api::VerdictKind::Benign, "").await;
    let other = created(&service, "g", api::VerdictKind::FalsePositive, "").await;
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
    let first = created(&service, "f", api::VerdictKind::Benign, "r").await;
    assert_eq!(created(&service, "f", api::VerdictKind::Benign, "r").await, first);
    refused(
        service.client(CREATE, GRAPH).create_verdict(create("f", api::VerdictKind::TruePositive, "r")).await,
        Code::FailedPrecondition,
        ErrorReason::Conflict,
    );
    assert_eq!(service.client(READ, GRAPH).list_verdicts(list("f", 0, "")).await.unwrap().into_inner().verdicts, [first]);
}

#[tokio::test]
async fn the_graph_learns_what_is_usual_of_its_own_findings_and_forgets_what_was_taken_back() {
    let service = Service::start().await;
    let own = format!("{GRAPH}/finding/0123456789abcdef0123456789abcdef");
    let taught = async |times: usize| {
        let all = async || Some(service.world.graph.told().taught.clone()).filter(|taught| taught.len() >= times);
        eventually(&format!("{times} lessons"), all).await
    };
    // Nothing to take back, and of others' findings the graph learns nothing.
    created(&service, &own, api::VerdictKind::TruePositive, "").await;
    created(&service, "arn:aws:guardduty:us-east-1:111111111111:detector/d1/finding/x", api::VerdictKind::Benign, "").await;
    created(&service, &own, api::VerdictKind::Benign, "").await;
    assert_eq!(taught(1).await, [(own.clone(), true)]);
    created(&service, &own, api::VerdictKind::Reopened, "").await;
    assert_eq!(taught(2).await[1..], [(own.clone(), false)]);
    // A graph that does not answer is told later.
    service.world.graph.told().failure = Some(gumshoe_runtime::status::unavailable("the lake").into());
    created(&service, &own, api::VerdictKind::Benign, "").await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    service.world.graph.told().failure = None;
    assert_eq!(taught(3).await[2..], [(own, true)]);
    service.stop().await;
}

#[tokio::test]
async fn a_token_opens_one_graph_for_one_action() {
    let service = Service::start().await;
    created(&service, "f", api::VerdictKind::Benign, "").await;
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
