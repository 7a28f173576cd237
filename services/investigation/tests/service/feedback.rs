//! Verdicts given back to GuardDuty and Security Hub: at least once, in order, and with what became of it in sight.

use std::{collections::BTreeMap, sync::Arc};

use axum::http::StatusCode;
use gumshoe_api::{
    graph::v1::FindingSummary,
    investigation::v1::{self as api, DeliveryState, VerdictKind},
};
use gumshoe_investigation::config::Feedback;
use serde_json::{Value, json};

use crate::{
    aws::FakeAws,
    graph::finding,
    harness::{ANN, GRAPH, Service, World, eventually},
};

const HUB: &str = "arn:aws:securityhub:eu-west-1::product/aws/inspector";

/// A world whose graph has these findings, and an AWS.
async fn world(findings: Vec<FindingSummary>) -> (Arc<World>, FakeAws) {
    let world = Arc::new(World::new().await);
    world.graph.told().findings = findings;
    (world, FakeAws::start().await)
}

async fn serve(world: &Arc<World>, feedback: Feedback) -> Service {
    world.serve(|config| config.feedback = feedback).await
}

async fn decide(service: &Service, id: &str, kind: VerdictKind) -> api::Verdict {
    let request = api::CreateVerdictRequest {
        graph_arn: GRAPH.to_owned(),
        finding_id: id.to_owned(),
        kind: kind.into(),
        note: "known scanner".to_owned(),
        request_id: String::new(),
    };
    service.client("gumshoe:CreateVerdict", GRAPH).create_verdict(request).await.unwrap().into_inner().verdict.unwrap()
}

/// What became of a finding's verdicts, latest first.
async fn deliveries(service: &Service, id: &str) -> Vec<Option<api::Delivery>> {
    let request = api::ListVerdictsRequest { graph_arn: GRAPH.to_owned(), finding_id: id.to_owned(), ..Default::default() };
    let listed = service.client("detective:SearchGraph", GRAPH).list_verdicts(request).await.unwrap().into_inner();
    listed.verdicts.into_iter().map(|verdict| verdict.delivery).collect()
}

/// The delivery of a finding's verdict in force, once it is in this state.
async fn delivery(service: &Service, id: &str, state: DeliveryState) -> api::Delivery {
    eventually("a verdict is handed on", async || deliveries(service, id).await.remove(0).filter(|delivery| delivery.state() == state)).await
}

#[tokio::test]
async fn a_verdict_reaches_the_product_that_reported_the_finding() {
    let hub = FindingSummary { id: "i-1/CVE-2026-1".to_owned(), product: HUB.to_owned(), ..finding("x", 5.0, ANN) };
    let scanner = finding("f1", 8.0, ANN);
    let (world, aws) = world(vec![scanner.clone(), hub.clone()]).await;
    let service = serve(&world, aws.feedback()).await;
    let made = decide(&service, &scanner.id, VerdictKind::FalsePositive).await;
    assert_eq!(made.delivery.map(|delivery| (delivery.state(), delivery.attempts)), Some((DeliveryState::Pending, 0)));
    let done = delivery(&service, &scanner.id, DeliveryState::Delivered).await;
    assert_eq!((done.reason.as_str(), done.attempts), ("", 1));
    decide(&service, &hub.id, VerdictKind::TruePositive).await;
    delivery(&service, &hub.id, DeliveryState::Delivered).await;
    let calls = aws.told().calls.clone();
    let scope = |region: &str, service: &str| ("AKIAFEEDBACK".to_owned(), region.to_owned(), service.to_owned());
    assert_eq!(
        calls.iter().map(|call| call.path.as_str()).collect::<Vec<_>>(),
        ["/detector/d1/findings/feedback", "/detector/d1/findings/archive", "/findings/batchupdate"]
    );
    assert_eq!(calls[0].body, json!({ "findingIds": ["f1"], "feedback": "NOT_USEFUL", "comments": "known scanner" }));
    assert_eq!((calls[1].body.clone(), calls[1].scope.clone()), (json!({ "findingIds": ["f1"] }), scope("us-east-1", "guardduty")));
    let update = json!({
        "FindingIdentifiers": [{ "Id": "i-1/CVE-2026-1", "ProductArn": HUB }],
        "VerificationState": "TRUE_POSITIVE",
        "Workflow": { "Status": "NOTIFIED" },
        "Note": { "Text": "known scanner", "UpdatedBy": ANN },
    });
    assert_eq!((calls[2].body.clone(), calls[2].scope.clone()), (update, scope("eu-west-1", "securityhub")));
    // What is delivered is not delivered again.
    service.stop().await;
    let service = serve(&world, aws.feedback()).await;
    decide(&service, &hub.id, VerdictKind::Reopened).await;
    delivery(&service, &hub.id, DeliveryState::Delivered).await;
    assert_eq!(aws.told().calls.len(), 4);
    service.stop().await;
}

#[tokio::test]
async fn nothing_is_given_back_unless_it_is_asked_for() {
    let scanner = finding("f1", 8.0, ANN);
    let (world, aws) = world(vec![scanner.clone()]).await;
    let service = serve(&world, Feedback { enabled: false, ..aws.feedback() }).await;
    decide(&service, &scanner.id, VerdictKind::FalsePositive).await;
    assert_eq!(deliveries(&service, &scanner.id).await, [None]);
    service.stop().await;
    // Not even what was decided before is given back later.
    let service = serve(&world, aws.feedback()).await;
    decide(&service, &scanner.id, VerdictKind::Reopened).await;
    delivery(&service, &scanner.id, DeliveryState::Delivered).await;
    assert_eq!((deliveries(&service, &scanner.id).await[1].clone(), aws.paths()), (None, vec!["/detector/d1/findings/unarchive".to_owned()]));
    // And when it is turned off, what waits does not go.
    aws.told().failures.extend([(StatusCode::SERVICE_UNAVAILABLE, Value::Null)]);
    decide(&service, &scanner.id, VerdictKind::Benign).await;
    eventually("it is tried", async || (aws.told().calls.len() == 2).then_some(())).await;
    service.stop().await;
    let service = serve(&world, Feedback { enabled: false, ..aws.feedback() }).await;
    assert_eq!(delivery(&service, &scanner.id, DeliveryState::Skipped).await.reason, "feedback was turned off");
    assert_eq!(aws.told().calls.len(), 2);
    service.stop().await;
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_will_not_fails() {
    let findings: Vec<_> = ["f1", "f2", "f3", "f4"].map(|name| finding(name, 8.0, ANN)).into();
    let hub = FindingSummary { id: "h".to_owned(), product: HUB.to_owned(), ..finding("x", 5.0, ANN) };
    let (world, aws) = world([findings.clone(), vec![hub.clone()]].concat()).await;
    let service = serve(&world, Feedback { max_attempts: 3, ..aws.feedback() }).await;
    let fails = |answers: &[(StatusCode, Value)]| aws.told().failures = answers.to_vec().into();

    let denied = (StatusCode::FORBIDDEN, json!({ "__type": "AccessDeniedException", "message": "not yours" }));
    fails(&[(StatusCode::INTERNAL_SERVER_ERROR, json!({})), denied.clone()]);
    decide(&service, &findings[0].id, VerdictKind::TruePositive).await;
    assert_eq!(delivery(&service, &findings[0].id, DeliveryState::Delivered).await.attempts, 3);

    fails(&[denied.clone(), denied.clone(), denied]);
    decide(&service, &findings[1].id, VerdictKind::TruePositive).await;
    let reason = "guardduty:UpdateFindingsFeedback: 403 AccessDeniedException: not yours";
    let waits = async || deliveries(&service, &findings[1].id).await.remove(0).filter(|delivery| !delivery.reason.is_empty());
    assert_eq!(eventually("the reason is seen while it is tried", waits).await.reason, reason);
    let failed = delivery(&service, &findings[1].id, DeliveryState::Failed).await;
    assert_eq!((failed.reason.as_str(), failed.attempts), (reason, 3));

    fails(&[(StatusCode::BAD_REQUEST, json!({ "__type": "BadRequestException", "message": "no such finding" }))]);
    decide(&service, &findings[2].id, VerdictKind::TruePositive).await;
    let failed = delivery(&service, &findings[2].id, DeliveryState::Failed).await;
    assert_eq!((failed.reason.as_str(), failed.attempts), ("guardduty:UpdateFindingsFeedback: 400 BadRequestException: no such finding", 1));
    // A verdict recorded again is given back again.
    decide(&service, &findings[2].id, VerdictKind::TruePositive).await;
    delivery(&service, &findings[2].id, DeliveryState::Delivered).await;

    // Security Hub answers well, and says in its answer that it did not.
    let missed = |code: &str| (StatusCode::OK, json!({ "ProcessedFindings": [], "UnprocessedFindings": [{ "ErrorCode": code, "ErrorMessage": "m" }] }));
    fails(&[missed("ConcurrentUpdateError"), missed("FindingNotFound")]);
    decide(&service, &hub.id, VerdictKind::Benign).await;
    let failed = delivery(&service, &hub.id, DeliveryState::Failed).await;
    assert_eq!((failed.reason.as_str(), failed.attempts), ("securityhub:BatchUpdateFindings: FindingNotFound: m", 2));
    service.stop().await;
}

#[tokio::test]
async fn what_nobody_takes_is_skipped_and_what_is_not_there_fails() {
    let own = FindingSummary { product: "Gumshoe".to_owned(), id: "own".to_owned(), ..finding("x", 5.0, ANN) };
    let (world, aws) = world(vec![own]).await;
    let service = serve(&world, aws.feedback()).await;
    decide(&service, "own", VerdictKind::FalsePositive).await;
    assert_eq!(delivery(&service, "own", DeliveryState::Skipped).await.reason, "`Gumshoe` takes no feedback");
    decide(&service, "unknown", VerdictKind::Benign).await;
    assert_eq!(delivery(&service, "unknown", DeliveryState::Failed).await.reason, "the graph does not have the finding");
    assert!(aws.told().calls.is_empty());
    service.stop().await;
}

#[tokio::test]
async fn a_delivery_waits_for_the_graph() {
    let scanner = finding("f1", 8.0, ANN);
    let (world, aws) = world(vec![scanner.clone()]).await;
    let service = serve(&world, Feedback { max_attempts: 1, ..aws.feedback() }).await;
    world.graph.down().await;
    decide(&service, &scanner.id, VerdictKind::Benign).await;
    let waits = async || deliveries(&service, &scanner.id).await.remove(0).filter(|delivery| !delivery.reason.is_empty());
    let waiting = eventually("it waits", waits).await;
    assert_eq!((waiting.state(), waiting.attempts), (DeliveryState::Pending, 0));
    world.graph.up().await;
    delivery(&service, &scanner.id, DeliveryState::Delivered).await;
    service.stop().await;
}

#[tokio::test]
async fn a_later_verdict_is_the_one_that_stays() {
    let scanner = finding("f1", 8.0, ANN);
    let (world, aws) = world(vec![scanner.clone()]).await;
    let service = serve(&world, aws.feedback()).await;
    let other = serve(&world, aws.feedback()).await;
    aws.stall(true);
    decide(&service, &scanner.id, VerdictKind::FalsePositive).await;
    eventually("the first is under way", async || (!aws.paths().is_empty()).then_some(())).await;
    decide(&other, &scanner.id, VerdictKind::TruePositive).await;
    aws.stall(false);
    delivery(&service, &scanner.id, DeliveryState::Delivered).await;
    let states: Vec<_> = deliveries(&service, &scanner.id).await.into_iter().map(|delivery| delivery.unwrap().state()).collect();
    assert_eq!(states, [DeliveryState::Delivered, DeliveryState::Superseded]);
    assert_eq!(aws.told().archived, BTreeMap::from([("f1".to_owned(), false)]));
    assert_eq!(aws.paths().last().unwrap(), "/detector/d1/findings/unarchive");
    service.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_verdict_is_delivered_though_the_process_dies() {
    let scanner = finding("f1", 8.0, ANN);
    let (world, aws) = world(vec![scanner.clone()]).await;
    let feedback = Feedback { lease_seconds: 4, ..aws.feedback() };
    let service = serve(&world, feedback.clone()).await;
    aws.stall(true);
    decide(&service, &scanner.id, VerdictKind::FalsePositive).await;
    eventually("it is under way", async || (!aws.paths().is_empty()).then_some(())).await;
    service.crash().await;
    aws.stall(false);
    let service = serve(&world, feedback).await;
    delivery(&service, &scanner.id, DeliveryState::Delivered).await;
    let calls = aws.told().calls.clone();
    assert_eq!(calls.iter().map(|call| call.path.rsplit('/').next().unwrap()).collect::<Vec<_>>(), ["feedback", "feedback", "archive"]);
    assert_eq!(calls[0].body, calls[1].body, "the same again");
    service.stop().await;
}

#[tokio::test]
async fn replicas_share_the_work_and_shutdown_leaves_it_to_others() {
    let findings: Vec<_> = (0..12).map(|number| finding(&format!("f{number}"), 8.0, ANN)).collect();
    let (world, aws) = world(findings.clone()).await;
    let (one, two) = (serve(&world, aws.feedback()).await, serve(&world, aws.feedback()).await);
    aws.stall(true);
    for finding in &findings {
        decide(&one, &finding.id, VerdictKind::TruePositive).await;
    }
    eventually("both are at work", async || (aws.paths().len() == 4).then_some(())).await;
    // What it has under way is another's at once, and does not wait for the lease.
    one.stop().await;
    aws.stall(false);
    for finding in &findings {
        delivery(&two, &finding.id, DeliveryState::Delivered).await;
    }
    let mut told: Vec<_> = aws.told().calls.iter().map(|call| call.body["findingIds"][0].as_str().unwrap().to_owned()).collect();
    assert_eq!(told.len(), 12 + 2, "twice only what was under way in the one that stopped");
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), 12);
    two.stop().await;
}

#[tokio::test]
async fn a_role_is_assumed_in_the_findings_account_unless_an_administrator_acts_for_it() {
    let abroad = FindingSummary {
        id: "arn:aws:guardduty:us-east-1:222222222222:detector/d2/finding/f2".to_owned(),
        account_id: "222222222222".to_owned(),
        ..finding("x", 5.0, ANN)
    };
    let far = FindingSummary { id: abroad.id.replace("us-east-1", "eu-west-1"), ..abroad.clone() };
    let (world, aws) = world(vec![abroad.clone(), far.clone()]).await;
    let role = Some("arn:{partition}:iam::{account}:role/gumshoe-feedback".to_owned());
    let detectors = BTreeMap::from([("eu-west-1".to_owned(), "central".to_owned())]);
    let service = serve(&world, Feedback { role, detectors, ..aws.feedback() }).await;
    for finding in [&abroad, &far] {
        decide(&service, &finding.id, VerdictKind::Reopened).await;
        delivery(&service, &finding.id, DeliveryState::Delivered).await;
    }
    let calls: Vec<_> = aws.told().calls.iter().map(|call| (call.path.clone(), call.scope.0.clone())).collect();
    let call = |path: &str, key: &str| (path.to_owned(), key.to_owned());
    assert_eq!(calls, [call("/detector/d2/findings/unarchive", "ASIA222222222222"), call("/detector/central/findings/unarchive", "AKIAFEEDBACK")]);
    service.stop().await;
}
