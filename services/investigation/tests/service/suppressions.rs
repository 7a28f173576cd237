//! Suppressions: proposed after a false positive, decided on, and what is listed then.

use std::sync::Arc;

use gumshoe_api::{
    common::v1::ErrorReason,
    graph::v1::FindingSummary,
    investigation::v1::{self as api, SuppressionState, VerdictKind},
};
use tonic::{Code, Status};

use crate::{
    graph::finding,
    harness::{ANN, GRAPH, OTHER, Service, World, eventually, refused},
};

const READ: &str = "detective:SearchGraph";
const BOB: &str = "arn:aws:iam::111111111111:user/bob";

/// Four findings of the same kind: three of ann, from the same address, and one of bob.
fn findings() -> Vec<FindingSummary> {
    let mut findings = vec![finding("f1", 8.0, ANN), finding("f2", 7.0, ANN), finding("f3", 6.0, BOB), finding("f4", 5.0, ANN)];
    findings[3].archived = true;
    findings
}

async fn started() -> Service {
    let world = Arc::new(World::new().await);
    world.graph.told().findings = findings();
    world.serve(|_| {}).await
}

async fn decide(service: &Service, id: &str, kind: VerdictKind) -> api::Verdict {
    let request = api::CreateVerdictRequest { graph_arn: GRAPH.to_owned(), finding_id: id.to_owned(), kind: kind.into(), ..Default::default() };
    service.client("gumshoe:CreateVerdict", GRAPH).create_verdict(request).await.unwrap().into_inner().verdict.unwrap()
}

async fn list(service: &Service, states: &[SuppressionState]) -> Vec<api::Suppression> {
    let states = states.iter().map(|state| (*state).into()).collect();
    let request = api::ListSuppressionsRequest { graph_arn: GRAPH.to_owned(), states, ..Default::default() };
    service.client(READ, GRAPH).list_suppressions(request).await.unwrap().into_inner().suppressions
}

/// The only proposal, once it is there.
async fn proposal(service: &Service) -> api::Suppression {
    let proposed = async || {
        let mut found = list(service, &[SuppressionState::Proposed]).await;
        assert!(found.len() <= 1, "{found:?}");
        found.pop()
    };
    eventually("a suppression is proposed", proposed).await
}

async fn accept(service: &Service, id: &str) -> Result<api::Suppression, Status> {
    let request = api::AcceptSuppressionRequest { graph_arn: GRAPH.to_owned(), suppression_id: id.to_owned() };
    let answer = service.client_of(BOB, "gumshoe:AcceptSuppression", GRAPH).accept_suppression(request).await?;
    Ok(answer.into_inner().suppression.unwrap())
}

async fn dismiss(service: &Service, id: &str) -> Result<api::Suppression, Status> {
    let request = api::DismissSuppressionRequest { graph_arn: GRAPH.to_owned(), suppression_id: id.to_owned() };
    let answer = service.client_of(BOB, "gumshoe:DismissSuppression", GRAPH).dismiss_suppression(request).await?;
    Ok(answer.into_inner().suppression.unwrap())
}

async fn delete(service: &Service, id: &str) -> Result<api::Suppression, Status> {
    let request = api::DeleteSuppressionRequest { graph_arn: GRAPH.to_owned(), suppression_id: id.to_owned() };
    let answer = service.client("gumshoe:DeleteSuppression", GRAPH).delete_suppression(request).await?;
    Ok(answer.into_inner().suppression.unwrap())
}

/// Titles of the findings listed, with whether they are suppressed.
async fn listed(service: &Service, include_suppressed: bool) -> Vec<(String, String)> {
    let request = api::SearchFindingsRequest { graph_arn: GRAPH.to_owned(), include_suppressed, ..Default::default() };
    let found = service.client(READ, GRAPH).search_findings(request).await.unwrap().into_inner().findings;
    found.into_iter().map(|triaged| (triaged.finding.unwrap().title, triaged.suppression_id)).collect()
}

fn open(titles: &[&str]) -> Vec<(String, String)> {
    titles.iter().map(|title| ((*title).to_owned(), String::new())).collect()
}

#[tokio::test]
async fn a_false_positive_teaches_what_to_suppress() {
    let service = started().await;
    let verdict = decide(&service, &findings()[0].id, VerdictKind::FalsePositive).await;
    let proposed = proposal(&service).await;
    let pattern = proposed.pattern.clone().unwrap();
    assert_eq!((pattern.r#type.as_str(), pattern.product.as_str()), ("Recon:IAMUser/TorIPCaller", "GuardDuty"));
    assert_eq!((pattern.account_id.as_str(), pattern.entities), ("111111111111", findings()[0].entities.clone()));
    assert_eq!((proposed.finding_id, proposed.verdict_id, proposed.author_arn.as_str()), (verdict.finding_id, verdict.id, ANN));
    assert_eq!((proposed.past_findings, proposed.decider_arn.as_str(), proposed.decide_time), (3, "", None), "all of ann's");
    assert_eq!(listed(&service, false).await, open(&["f1", "f2", "f3"]), "nothing is suppressed before it is accepted");

    let accepted = accept(&service, &proposed.id).await.unwrap();
    assert_eq!((accepted.state(), accepted.decider_arn.as_str(), accepted.decide_time.is_some()), (SuppressionState::Accepted, BOB, true));
    assert_eq!(listed(&service, false).await, open(&["f3"]));
    let with = |title: &str, id: &str| (title.to_owned(), id.to_owned());
    assert_eq!(listed(&service, true).await, [with("f1", &proposed.id), with("f2", &proposed.id), with("f3", "")]);
    // Also what comes later.
    service.world.graph.told().findings.push(finding("f5", 4.0, ANN));
    assert_eq!(listed(&service, false).await, open(&["f3"]));
    // A verdict that it is an attack is stronger.
    decide(&service, &findings()[1].id, VerdictKind::TruePositive).await;
    assert_eq!(listed(&service, false).await, open(&["f2", "f3"]));

    let deleted = delete(&service, &proposed.id).await.unwrap();
    assert_eq!((deleted.state(), deleted.decider_arn.as_str(), deleted.deleter_arn.as_str()), (SuppressionState::Deleted, BOB, ANN));
    assert_eq!(listed(&service, false).await, open(&["f1", "f2", "f3", "f5"]));
    assert!(list(&service, &[]).await.is_empty());
    assert_eq!(list(&service, &[SuppressionState::Deleted]).await, [deleted]);
    service.stop().await;
}

#[tokio::test]
async fn a_proposal_goes_with_its_verdict_and_a_dismissed_one_does_not_come_again() {
    let service = started().await;
    let ids: Vec<_> = findings().into_iter().map(|finding| finding.id).collect();
    decide(&service, &ids[0], VerdictKind::FalsePositive).await;
    proposal(&service).await;
    decide(&service, &ids[0], VerdictKind::Reopened).await;
    assert!(list(&service, &[]).await.is_empty());
    decide(&service, &ids[0], VerdictKind::FalsePositive).await;
    let id = proposal(&service).await.id;
    assert_eq!(dismiss(&service, &id).await.unwrap().state(), SuppressionState::Dismissed);
    // The same pattern; then another, which shows that the one before is done.
    decide(&service, &ids[1], VerdictKind::FalsePositive).await;
    decide(&service, &ids[2], VerdictKind::FalsePositive).await;
    let bobs = proposal(&service).await;
    assert_eq!((bobs.finding_id.as_str(), bobs.past_findings), (ids[2].as_str(), 1));
    let states: Vec<_> = list(&service, &[]).await.into_iter().map(|suppression| suppression.state()).collect();
    assert_eq!(states, [SuppressionState::Proposed, SuppressionState::Dismissed]);
    assert_eq!(accept(&service, &id).await.unwrap().state(), SuppressionState::Accepted, "a mind can be changed");
    service.stop().await;
}

#[tokio::test]
async fn a_proposal_waits_for_the_graph() {
    let service = started().await;
    service.world.graph.down().await;
    decide(&service, &findings()[0].id, VerdictKind::FalsePositive).await;
    service.world.graph.up().await;
    proposal(&service).await;
    service.stop().await;
}

#[tokio::test]
async fn suppressions_are_walked_page_by_page() {
    let service = started().await;
    let users: Vec<_> = (0..5).map(|number| format!("{ANN}{number}")).collect();
    service.world.graph.told().findings = users.iter().enumerate().map(|(number, user)| finding(&format!("f{number}"), 5.0, user)).collect();
    for number in 0..5 {
        decide(&service, &finding(&format!("f{number}"), 5.0, ANN).id, VerdictKind::FalsePositive).await;
    }
    let all = eventually("all are proposed", async || Some(list(&service, &[]).await).filter(|found| found.len() == 5)).await;
    let mut request = api::ListSuppressionsRequest { graph_arn: GRAPH.to_owned(), page_size: 2, ..Default::default() };
    let mut walked = Vec::new();
    loop {
        let page = service.client(READ, GRAPH).list_suppressions(request.clone()).await.unwrap().into_inner();
        assert!(page.suppressions.len() <= 2);
        walked.extend(page.suppressions);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
        let elsewhere = api::ListSuppressionsRequest { states: vec![SuppressionState::Accepted.into()], ..request.clone() };
        refused(service.client(READ, GRAPH).list_suppressions(elsewhere).await, Code::InvalidArgument, ErrorReason::InvalidPageToken);
    }
    assert_eq!(walked, all);
    service.stop().await;
}

#[tokio::test]
async fn decisions_that_cannot_be_are_refused() {
    let service = started().await;
    decide(&service, &findings()[0].id, VerdictKind::FalsePositive).await;
    let id = proposal(&service).await.id;
    for bad in ["", "x"] {
        refused(accept(&service, bad).await, Code::InvalidArgument, ErrorReason::InvalidField);
        refused(dismiss(&service, bad).await, Code::InvalidArgument, ErrorReason::InvalidField);
        refused(delete(&service, bad).await, Code::InvalidArgument, ErrorReason::InvalidField);
    }
    let unknown = "01900000-0000-7000-8000-000000000000";
    let status = refused(accept(&service, unknown).await, Code::NotFound, ErrorReason::NotFound);
    assert_eq!(status.message(), "the suppression does not exist");
    refused(dismiss(&service, unknown).await, Code::NotFound, ErrorReason::NotFound);
    refused(delete(&service, unknown).await, Code::NotFound, ErrorReason::NotFound);
    accept(&service, &id).await.unwrap();
    let status = refused(dismiss(&service, &id).await, Code::FailedPrecondition, ErrorReason::Conflict);
    assert_eq!(status.message(), "the suppression is accepted");
    delete(&service, &id).await.unwrap();
    refused(accept(&service, &id).await, Code::FailedPrecondition, ErrorReason::Conflict);
    for bad in [
        api::ListSuppressionsRequest { page_size: 201, ..Default::default() },
        api::ListSuppressionsRequest { page_size: -1, ..Default::default() },
        api::ListSuppressionsRequest { states: vec![0], ..Default::default() },
        api::ListSuppressionsRequest { states: vec![9], ..Default::default() },
    ] {
        let bad = api::ListSuppressionsRequest { graph_arn: GRAPH.to_owned(), ..bad };
        refused(service.client(READ, GRAPH).list_suppressions(bad).await, Code::InvalidArgument, ErrorReason::InvalidField);
    }
    let bad = api::ListSuppressionsRequest { graph_arn: GRAPH.to_owned(), page_token: "nonsense".to_owned(), ..Default::default() };
    refused(service.client(READ, GRAPH).list_suppressions(bad).await, Code::InvalidArgument, ErrorReason::InvalidPageToken);
    service.stop().await;
}

#[tokio::test]
async fn a_token_opens_one_graph_for_one_action() {
    let service = started().await;
    decide(&service, &findings()[0].id, VerdictKind::FalsePositive).await;
    let suppression_id = proposal(&service).await.id;
    let graph_arn = GRAPH.to_owned();
    let denied = |outcome: Result<(), Status>| refused(outcome, Code::PermissionDenied, ErrorReason::AccessDenied);
    for (action, graph) in [(READ, GRAPH), ("gumshoe:AcceptSuppression", OTHER), ("gumshoe:DeleteSuppression", OTHER), ("gumshoe:DismissSuppression", OTHER)] {
        let mut client = service.client(action, graph);
        let (graph_arn, suppression_id) = (graph_arn.clone(), suppression_id.clone());
        let request = api::AcceptSuppressionRequest { graph_arn: graph_arn.clone(), suppression_id: suppression_id.clone() };
        denied(client.accept_suppression(request).await.map(|_| ()));
        let request = api::DismissSuppressionRequest { graph_arn: graph_arn.clone(), suppression_id: suppression_id.clone() };
        denied(client.dismiss_suppression(request).await.map(|_| ()));
        denied(client.delete_suppression(api::DeleteSuppressionRequest { graph_arn, suppression_id }).await.map(|_| ()));
    }
    let request = api::ListSuppressionsRequest { graph_arn, ..Default::default() };
    denied(service.client("gumshoe:AcceptSuppression", GRAPH).list_suppressions(request.clone()).await.map(|_| ()));
    denied(service.client(READ, OTHER).list_suppressions(request).await.map(|_| ()));
    service.stop().await;
}
