//! Findings listed with what was decided about them.

use std::sync::Arc;

use gumshoe_api::{
    common::v1::{EntityKey, ErrorReason, TimeRange},
    graph::v1::{FindingSummary, ListFindingsRequest},
    investigation::v1::{self as api, FindingStatus, VerdictKind},
};
use gumshoe_runtime::status;
use tonic::{Code, Status};

use crate::{
    graph::finding,
    harness::{ANN, GRAPH, OTHER, Service, World, refused},
};

const READ: &str = "detective:SearchGraph";

/// Findings `f0` to `f9`, worst first; `f3` and `f7` are archived at their source.
fn findings() -> Vec<FindingSummary> {
    let archived = |number: u32| matches!(number, 3 | 7);
    (0..10).map(|number| FindingSummary { archived: archived(number), ..finding(&format!("f{number}"), 9.0 - f64::from(number / 3), ANN) }).collect()
}

async fn started() -> Service {
    let world = Arc::new(World::new().await);
    world.graph.told().findings = findings();
    let service = world.serve(|_| {}).await;
    for (number, kind) in
        [(1, VerdictKind::TruePositive), (2, VerdictKind::Benign), (3, VerdictKind::FalsePositive), (5, VerdictKind::Benign), (5, VerdictKind::Reopened)]
    {
        let request =
            api::CreateVerdictRequest { graph_arn: GRAPH.to_owned(), finding_id: findings()[number].id.clone(), kind: kind.into(), ..Default::default() };
        service.client("gumshoe:CreateVerdict", GRAPH).create_verdict(request).await.unwrap();
    }
    service
}

fn request() -> api::SearchFindingsRequest {
    api::SearchFindingsRequest { graph_arn: GRAPH.to_owned(), ..Default::default() }
}

async fn search(service: &Service, request: api::SearchFindingsRequest) -> Result<api::SearchFindingsResponse, Status> {
    Ok(service.client(READ, GRAPH).search_findings(request).await?.into_inner())
}

/// All pages one after the other.
async fn walk(service: &Service, mut request: api::SearchFindingsRequest) -> Vec<api::TriagedFinding> {
    let mut found = Vec::new();
    loop {
        let page = search(service, request.clone()).await.unwrap();
        assert!(request.page_size == 0 || page.findings.len() <= usize::try_from(request.page_size).unwrap());
        found.extend(page.findings);
        if page.next_page_token.is_empty() {
            return found;
        }
        request.page_token = page.next_page_token;
    }
}

fn titles(found: &[api::TriagedFinding]) -> Vec<&str> {
    found.iter().map(|triaged| triaged.finding.as_ref().unwrap().title.as_str()).collect()
}

#[tokio::test]
async fn findings_come_with_what_was_decided() {
    let service = started().await;
    let found = walk(&service, request()).await;
    assert_eq!(titles(&found), ["f0", "f1", "f2", "f4", "f5", "f6", "f8", "f9"]);
    let decided = |index: usize| (found[index].status(), found[index].verdict.as_ref().map(api::Verdict::kind));
    assert_eq!(decided(0), (FindingStatus::Open, None));
    assert_eq!(decided(1), (FindingStatus::TruePositive, Some(VerdictKind::TruePositive)));
    assert_eq!(decided(2), (FindingStatus::Benign, Some(VerdictKind::Benign)));
    assert_eq!(decided(4), (FindingStatus::Open, Some(VerdictKind::Reopened)));
    assert_eq!(found[1].finding, Some(findings()[1].clone()));
    assert_eq!(found[1].verdict.as_ref().unwrap().author_arn, ANN);
    service.stop().await;
}

#[tokio::test]
async fn every_filter_is_walked_page_by_page() {
    let service = started().await;
    let of = |statuses: &[FindingStatus]| api::SearchFindingsRequest { statuses: statuses.iter().map(|status| (*status).into()).collect(), ..request() };
    for (request, expected) in [
        (api::SearchFindingsRequest { include_archived: true, ..request() }, vec!["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9"]),
        (of(&[FindingStatus::Open]), vec!["f0", "f4", "f5", "f6", "f8", "f9"]),
        (of(&[FindingStatus::FalsePositive]), vec!["f3"]),
        (of(&[FindingStatus::Archived]), vec!["f7"]),
        (of(&[FindingStatus::TruePositive, FindingStatus::Benign]), vec!["f1", "f2"]),
        (api::SearchFindingsRequest { finding_ids: vec![findings()[3].id.clone(), findings()[8].id.clone()], ..request() }, vec!["f8"]),
    ] {
        for page_size in [0, 1, 2, 3, 1_000] {
            let request = api::SearchFindingsRequest { page_size, ..request.clone() };
            assert_eq!(titles(&walk(&service, request.clone()).await), expected, "{request:?}");
        }
    }
    service.stop().await;
}

#[tokio::test]
async fn a_page_goes_on_where_the_last_one_ended_though_findings_change() {
    let service = started().await;
    let first = search(&service, api::SearchFindingsRequest { statuses: vec![FindingStatus::Open.into()], page_size: 1, ..request() }).await.unwrap();
    assert_eq!(titles(&first.findings), ["f0"]);
    // A decision on what comes before moves nothing.
    let decide =
        api::CreateVerdictRequest { graph_arn: GRAPH.to_owned(), finding_id: findings()[0].id.clone(), kind: VerdictKind::Benign.into(), ..Default::default() };
    service.client("gumshoe:CreateVerdict", GRAPH).create_verdict(decide).await.unwrap();
    let next = api::SearchFindingsRequest { statuses: vec![FindingStatus::Open.into()], page_size: 3, page_token: first.next_page_token, ..request() };
    assert_eq!(titles(&search(&service, next).await.unwrap().findings), ["f4", "f5", "f6"]);
    service.stop().await;
}

#[tokio::test]
async fn what_the_graph_tells_apart_is_left_to_it() {
    let service = started().await;
    let asked = async |request: api::SearchFindingsRequest| {
        search(&service, request).await.unwrap();
        // The courier, too, asks meanwhile: by ids, and for all that a suppression would cover, archived or not.
        let asked = service.world.graph.told().listings.iter().rfind(|asked| !asked.include_archived).cloned().unwrap();
        ListFindingsRequest { graph_arn: String::new(), page_size: 0, page_token: String::new(), ..asked }
    };
    let entity = Some(EntityKey { r#type: gumshoe_api::common::v1::EntityType::User.into(), id: ANN.to_owned() });
    let scope = Some(TimeRange { start_time: crate::graph::time(1_000_000), end_time: crate::graph::time(2_000_000) });
    let whole = api::SearchFindingsRequest {
        scope,
        min_severity: 4.0,
        max_severity: Some(6.9),
        r#type: "Recon:".to_owned(),
        product: "arn:*:product/aws/inspector".to_owned(),
        account_id: "111111111111".to_owned(),
        entity: entity.clone(),
        ..request()
    };
    let expected = ListFindingsRequest {
        scope,
        min_severity: 4.0,
        max_severity: Some(6.9),
        type_prefix: "Recon:".to_owned(),
        product_pattern: "arn:*:product/aws/inspector".to_owned(),
        account_id: "111111111111".to_owned(),
        entity,
        ..Default::default()
    };
    assert_eq!(asked(whole).await, expected);
    for pattern in ["*S3*", "Recon:IAMUser/?"] {
        let expected = ListFindingsRequest { type_pattern: pattern.to_owned(), ..Default::default() };
        assert_eq!(asked(api::SearchFindingsRequest { r#type: pattern.to_owned(), ..request() }).await, expected);
    }
    service.stop().await;
}

#[tokio::test]
async fn fields_are_checked() {
    let service = started().await;
    for (field, bad) in [
        ("page_size", api::SearchFindingsRequest { page_size: 1_001, ..request() }),
        ("page_size", api::SearchFindingsRequest { page_size: -1, ..request() }),
        ("type", api::SearchFindingsRequest { r#type: "x".repeat(513), ..request() }),
        ("product", api::SearchFindingsRequest { product: "x".repeat(513), ..request() }),
        ("account_id", api::SearchFindingsRequest { account_id: "1".to_owned(), ..request() }),
        ("entity.type", api::SearchFindingsRequest { entity: Some(EntityKey::default()), ..request() }),
        ("scope", api::SearchFindingsRequest { scope: Some(TimeRange { start_time: crate::graph::time(2), end_time: crate::graph::time(1) }), ..request() }),
        ("finding_ids", api::SearchFindingsRequest { finding_ids: vec!["f".to_owned(); 101], ..request() }),
        ("finding_ids[1]", api::SearchFindingsRequest { finding_ids: vec!["f".to_owned(), String::new()], ..request() }),
        ("statuses[0]", api::SearchFindingsRequest { statuses: vec![0], ..request() }),
        ("statuses[1]", api::SearchFindingsRequest { statuses: vec![1, 99], ..request() }),
    ] {
        let status = refused(search(&service, bad).await, Code::InvalidArgument, ErrorReason::InvalidField);
        assert!(status.message().contains(&format!("`{field}`")), "{field}: {status:?}");
    }
    let bad = api::SearchFindingsRequest { page_token: "nonsense".to_owned(), ..request() };
    refused(search(&service, bad).await, Code::InvalidArgument, ErrorReason::InvalidPageToken);
    let token = search(&service, api::SearchFindingsRequest { page_size: 1, ..request() }).await.unwrap().next_page_token;
    let bad = api::SearchFindingsRequest { page_token: token, min_severity: 1.0, ..request() };
    refused(search(&service, bad).await, Code::InvalidArgument, ErrorReason::InvalidPageToken);
    service.stop().await;
}

#[tokio::test]
async fn what_the_graph_says_about_a_request_is_passed_on() {
    let service = started().await;
    service.world.graph.told().failure = Some(status::invalid_argument("max_severity", "must not be less than `min_severity`").into());
    let status = refused(search(&service, request()).await, Code::InvalidArgument, ErrorReason::InvalidField);
    assert_eq!(status.message(), "`max_severity`: must not be less than `min_severity`");
    service.world.graph.told().failure = Some(status::permission_denied("no").into());
    refused(search(&service, request()).await, Code::Internal, ErrorReason::Internal);
    service.world.graph.down().await;
    refused(search(&service, request()).await, Code::Unavailable, ErrorReason::Unavailable);
    service.stop().await;
}

#[tokio::test]
async fn a_token_opens_one_graph_for_one_action() {
    let service = started().await;
    let denied = |outcome: Result<(), Status>| refused(outcome, Code::PermissionDenied, ErrorReason::AccessDenied);
    denied(service.client(READ, OTHER).search_findings(request()).await.map(|_| ()));
    denied(service.client("gumshoe:CreateVerdict", GRAPH).search_findings(request()).await.map(|_| ()));
    service.stop().await;
}
