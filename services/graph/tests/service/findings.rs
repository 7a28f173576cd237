//! Findings: the latest update of each, and what was unusual about their entities.

use gumshoe_api::{
    convert::{time_to_proto, window_to_proto},
    graph::v1::{FindingSummary, GetFindingRequest, ListFindingsRequest},
};
use tonic::Code;

use crate::{
    fixture::{ACCOUNT, Call, Detection, Fixture, Who, entity, finding_arn, lines, name, time, user_arn, window},
    recount::Sum,
    refuse::refused,
};

const DETECTION: Detection = Detection {
    id: "worst",
    kind: "UnauthorizedAccess:IAMUser/TorIPCaller",
    severity: 8.0,
    first: "2024-06-30T10:20:00Z",
    last: "2024-06-30T11:40:00Z",
    updated: "2024-06-30T12:00:00Z",
    archived: false,
    count: 3,
    user: "alice",
    address: "198.51.100.7",
};

/// Five findings of two users, one of them in two updates that arrive in the wrong order.
pub(crate) fn detections() -> Vec<Detection> {
    vec![
        DETECTION,
        Detection { severity: 2.0, count: 1, updated: "2024-06-30T10:30:00Z", last: "2024-06-30T10:20:00Z", ..DETECTION },
        Detection { id: "late", severity: 5.0, first: "2024-06-30T20:00:00Z", last: "2024-06-30T20:00:00Z", updated: "2024-06-30T20:05:00Z", ..DETECTION },
        Detection { id: "bobs", kind: "Recon:IAMUser/X", severity: 5.0, user: "bob", address: "203.0.113.50", ..DETECTION },
        Detection { id: "archived", severity: 4.0, archived: true, ..DETECTION },
        Detection { id: "old", severity: 8.0, first: "2023-01-01T00:00:00Z", last: "2023-01-01T00:00:00Z", updated: "2023-01-01T00:00:00Z", ..DETECTION },
    ]
}

async fn started() -> Fixture {
    let fixture = Fixture::start().await;
    let values: Vec<_> = detections().iter().map(Detection::json).collect();
    fixture.commit("f1", "s3://findings/1.jsonl", &lines(&values[..3])).await;
    fixture.commit("f2", "s3://findings/2.jsonl", &lines(&values[3..])).await;
    fixture
}

async fn walk(fixture: &Fixture, mut request: ListFindingsRequest) -> Vec<FindingSummary> {
    request.graph_arn = fixture.arn();
    let mut found = Vec::new();
    loop {
        let page = fixture.reader.clone().list_findings(request.clone()).await.unwrap().into_inner();
        found.extend(page.findings);
        if page.next_page_token.is_empty() {
            return found;
        }
        request.page_token = page.next_page_token;
    }
}

fn ids(findings: &[FindingSummary]) -> Vec<&str> {
    findings.iter().map(|finding| finding.id.rsplit('/').next().unwrap()).collect()
}

#[tokio::test]
async fn lists_latest_updates_worst_and_latest_first() {
    let fixture = started().await;
    let whole = walk(&fixture, ListFindingsRequest { include_archived: true, ..Default::default() }).await;
    assert_eq!(ids(&whole), ["worst", "old", "late", "bobs", "archived"]);
    for page_size in [1, 2] {
        assert_eq!(walk(&fixture, ListFindingsRequest { include_archived: true, page_size, ..Default::default() }).await, whole);
    }
    let worst = &whole[0];
    assert_eq!((worst.severity, worst.severity_label.as_str(), worst.count, worst.archived), (8.0, "HIGH", 3, false), "the later update counts");
    assert_eq!((worst.product.as_str(), worst.account_id.as_str(), worst.region.as_str()), ("GuardDuty", ACCOUNT, "us-east-1"));
    assert_eq!((worst.r#type.as_str(), worst.title.as_str()), ("UnauthorizedAccess:IAMUser/TorIPCaller", "Finding worst"));
    assert_eq!(worst.first_time, Some(time_to_proto(time("2024-06-30T10:20:00Z"))));
    assert_eq!(worst.last_time, Some(time_to_proto(time("2024-06-30T11:40:00Z"))));
    assert_eq!(worst.update_time, Some(time_to_proto(time("2024-06-30T12:00:00Z"))));
    let entities: Vec<_> = worst.entities.iter().map(|entity| name(Some(entity))).collect();
    assert_eq!(entities.iter().filter(|entity| ["ip_address:198.51.100.7", &format!("user:{}", user_arn("alice"))].contains(&entity.as_str())).count(), 2);

    for (request, expected) in [
        (ListFindingsRequest::default(), vec!["worst", "old", "late", "bobs"]),
        (ListFindingsRequest { min_severity: 5.1, ..Default::default() }, vec!["worst", "old"]),
        (ListFindingsRequest { max_severity: Some(5.0), ..Default::default() }, vec!["late", "bobs"]),
        (ListFindingsRequest { max_severity: Some(0.0), ..Default::default() }, vec![]),
        (ListFindingsRequest { type_pattern: "*IAMUser/?".to_owned(), ..Default::default() }, vec!["bobs"]),
        (ListFindingsRequest { type_pattern: "Recon".to_owned(), ..Default::default() }, vec![]),
        (ListFindingsRequest { type_pattern: "Recon%".to_owned(), ..Default::default() }, vec![]),
        (ListFindingsRequest { product_pattern: "Guard*".to_owned(), min_severity: 6.0, ..Default::default() }, vec!["worst", "old"]),
        (ListFindingsRequest { product_pattern: "arn:*".to_owned(), ..Default::default() }, vec![]),
        (ListFindingsRequest { ids: vec![finding_arn("old"), finding_arn("bobs"), "nothing".to_owned()], ..Default::default() }, vec!["old", "bobs"]),
        (ListFindingsRequest { ids: vec![finding_arn("bobs")], entity: entity("ip_address:198.51.100.7"), ..Default::default() }, vec![]),
        (ListFindingsRequest { type_prefix: "Recon:".to_owned(), ..Default::default() }, vec!["bobs"]),
        (ListFindingsRequest { type_prefix: "Recon%".to_owned(), ..Default::default() }, vec![]),
        (ListFindingsRequest { account_id: ACCOUNT.to_owned(), min_severity: 8.0, ..Default::default() }, vec!["worst", "old"]),
        (ListFindingsRequest { account_id: "999999999999".to_owned(), ..Default::default() }, vec![]),
        (ListFindingsRequest { entity: entity(&format!("user:{}", user_arn("bob"))), ..Default::default() }, vec!["bobs"]),
        (
            ListFindingsRequest { entity: entity("ip_address:198.51.100.7"), include_archived: true, ..Default::default() },
            vec!["worst", "old", "late", "archived"],
        ),
        (
            ListFindingsRequest { scope: Some(window_to_proto(window("2024-06-30T11:40:00Z", "2024-06-30T20:00:00Z"))), ..Default::default() },
            vec!["worst", "bobs"],
        ),
        (ListFindingsRequest { scope: Some(window_to_proto(window("2024-06-30T11:41:00Z", "2024-06-30T20:00:01Z"))), ..Default::default() }, vec!["late"]),
    ] {
        assert_eq!(ids(&walk(&fixture, request.clone()).await), expected, "{request:?}");
    }
    fixture.stop().await;
}

#[tokio::test]
async fn finding_tells_what_was_unusual_and_what_is_related() {
    let fixture = started().await;
    let call = |id: &str, time: &str, operation: &'static str, address: &str| {
        Call { operation, address: address.to_owned(), ..Call::new(id, time, Who::User("alice")) }.json()
    };
    fixture
        .commit_calls(
            "calls",
            &[
                call("1", "2024-06-20T10:00:00Z", "ListBuckets", "198.51.100.1"),
                call("2", "2024-06-30T10:00:00Z", "ListBuckets", "198.51.100.1"),
                call("3", "2024-06-30T11:59:59Z", "DeleteBucket", "198.51.100.7"),
                call("4", "2024-06-30T11:00:00Z", "DeleteBucket", "198.51.100.7"),
                call("5", "2024-06-30T12:00:00Z", "PutBucketPolicy", "198.51.100.7"),
            ],
        )
        .await;
    let request = GetFindingRequest { graph_arn: fixture.arn(), id: finding_arn("worst") };
    let finding = fixture.reader.clone().get_finding(request).await.unwrap().into_inner();
    assert_eq!(finding.description, "What worst says.");
    assert_eq!(finding.raw, detections()[0].json().to_string());
    assert_eq!(finding.scope, Some(window_to_proto(window("2024-06-30T10:00:00Z", "2024-06-30T12:00:00Z"))));
    assert_eq!(ids(&finding.related), ["late", "archived"], "they share alice within a day; bob's shares nothing, the old one is old");

    let alice = format!("user:{}", user_arn("alice"));
    let affected = finding.entities.iter().find(|affected| name(affected.entity.as_ref()) == alice).unwrap();
    assert_eq!(Sum::of(affected.totals.as_ref()).successes, 3);
    let new: Vec<_> = affected.new_activities.iter().map(|activity| (activity.name.as_str(), activity.measures.as_ref().unwrap().successes)).collect();
    assert_eq!(new, [("DeleteBucket", 2), ("198.51.100.7", 2)]);
    assert!(affected.new_activities.iter().all(|activity| activity.new_in_scope));
    assert_eq!(name(affected.risk.as_ref().unwrap().entity.as_ref()), alice);
    let address = finding.entities.iter().find(|affected| name(affected.entity.as_ref()) == "ip_address:198.51.100.7").unwrap();
    assert_eq!(Sum::of(address.totals.as_ref()).successes, 2);
    fixture.stop().await;
}

#[tokio::test]
async fn refuses_wrong_fields_and_unknown_findings() {
    let fixture = started().await;
    let get = |id: &str| GetFindingRequest { graph_arn: fixture.arn(), id: id.to_owned() };
    refused(&fixture.reader.clone().get_finding(get("")).await.unwrap_err(), Code::InvalidArgument, "INVALID_FIELD", &["id"]);
    refused(&fixture.reader.clone().get_finding(get("nothing")).await.unwrap_err(), Code::NotFound, "NOT_FOUND", &[]);
    let good = ListFindingsRequest { graph_arn: fixture.arn(), page_size: 1, ..Default::default() };
    let token = fixture.reader.clone().list_findings(good.clone()).await.unwrap().into_inner().next_page_token;
    for (request, reason, field) in [
        (ListFindingsRequest { min_severity: 10.1, ..good.clone() }, "INVALID_FIELD", "min_severity"),
        (ListFindingsRequest { min_severity: f64::NAN, ..good.clone() }, "INVALID_FIELD", "min_severity"),
        (ListFindingsRequest { max_severity: Some(-0.1), ..good.clone() }, "INVALID_FIELD", "max_severity"),
        (ListFindingsRequest { min_severity: 5.0, max_severity: Some(4.0), ..good.clone() }, "INVALID_FIELD", "max_severity"),
        (ListFindingsRequest { type_pattern: "x".repeat(513), ..good.clone() }, "INVALID_FIELD", "type_pattern"),
        (ListFindingsRequest { product_pattern: "x".repeat(513), ..good.clone() }, "INVALID_FIELD", "product_pattern"),
        (ListFindingsRequest { ids: vec!["f".to_owned(); 101], ..good.clone() }, "INVALID_FIELD", "ids"),
        (ListFindingsRequest { account_id: "1".to_owned(), ..good.clone() }, "INVALID_FIELD", "account_id"),
        (ListFindingsRequest { page_size: -5, ..good.clone() }, "INVALID_FIELD", "page_size"),
        (ListFindingsRequest { entity: Some(gumshoe_api::common::v1::EntityKey::default()), ..good.clone() }, "INVALID_FIELD", "entity.type"),
        (ListFindingsRequest { page_token: token, min_severity: 1.0, ..good }, "INVALID_PAGE_TOKEN", "page_token"),
    ] {
        refused(&fixture.reader.clone().list_findings(request).await.unwrap_err(), Code::InvalidArgument, reason, &[field]);
    }
    fixture.stop().await;
}
