//! What other services ask: volumes, the removal of a graph, and what finding groups are made by.

use gumshoe_api::graph::v1::{
    BatchCountActorsRequest, DeleteGraphDataRequest, GetGraphStatisticsRequest, GetVolumesRequest, ListFindingVersionsRequest,
    graph_administration_service_client::GraphAdministrationServiceClient,
};
use tonic::Code;

use crate::{
    findings::detections,
    fixture::{ACCOUNT, Call, Fixture, Who, entity, lines},
    refuse::refused,
};

fn calls(numbers: std::ops::Range<u32>) -> Vec<serde_json::Value> {
    numbers.map(|number| Call::new(format!("c-{number}"), "2024-06-30T10:00:00Z", Who::User("alice")).json()).collect()
}

#[tokio::test]
async fn volumes_are_what_is_in_the_graph() {
    let fixture = Fixture::start().await;
    let ask = |days| GetVolumesRequest { graph_arn: fixture.arn(), days };
    let mut membership = fixture.administration();
    assert!(membership.get_volumes(ask(30)).await.unwrap().into_inner().volumes.is_empty());
    fixture.commit_calls("a", &calls(0..5)).await;
    // Three of these are there already, and the batch is sent twice.
    fixture.commit_calls("b", &calls(2..7)).await;
    fixture.commit_calls("b", &calls(2..7)).await;
    fixture.commit("f", "flows", &format!("2 {ACCOUNT} eni-1 10.0.0.1 203.0.113.9 44000 443 6 5 500 1719741600 1719741660 ACCEPT OK\n")).await;
    let volumes = membership.get_volumes(ask(1)).await.unwrap().into_inner().volumes;
    let bytes = |flows: bool| fixture.events().iter().filter(|event| event.flow.is_some() == flows).map(|event| event.raw.len() as u64).sum::<u64>();
    let kind = |kind: gumshoe_model::RecordKind| gumshoe_api::convert::record_kind_to_proto(kind);
    let today = chrono::Utc::now().format("%Y-%m-%d").to_string();
    let found: Vec<_> = volumes.iter().map(|volume| (volume.account_id.as_str(), volume.kind, volume.day.as_str(), volume.records, volume.bytes)).collect();
    let expected = [
        (ACCOUNT, kind(gumshoe_model::RecordKind::CloudTrail), today.as_str(), 7, bytes(false)),
        (ACCOUNT, kind(gumshoe_model::RecordKind::VpcFlow), today.as_str(), 1, bytes(true)),
    ];
    assert_eq!(found, expected);
    for days in [0, -1, 91] {
        refused(&membership.get_volumes(ask(days)).await.unwrap_err(), Code::InvalidArgument, "INVALID_FIELD", &["days"]);
    }
    fixture.stop().await;
}

#[tokio::test]
async fn a_removed_graph_leaves_nothing_and_takes_nothing() {
    let fixture = Fixture::start().await;
    fixture.commit_calls("a", &calls(0..5)).await;
    assert!(!fixture.files().is_empty());
    let request = DeleteGraphDataRequest { graph_arn: fixture.arn() };
    for _ in 0..2 {
        fixture.administration().delete_graph_data(request.clone()).await.unwrap();
        assert_eq!(fixture.files(), Vec::<std::path::PathBuf>::new());
    }
    let mut writer = fixture.writer.clone();
    let batch = gumshoe_api::graph::v1::CommitBatchRequest { graph_arn: fixture.arn(), batch_id: "late".to_owned(), ..Default::default() };
    assert_eq!(writer.commit_batch(batch).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(fixture.files(), Vec::<std::path::PathBuf>::new());
    fixture.stop().await;
}

#[tokio::test]
async fn only_membership_may_ask() {
    let fixture = Fixture::start().await;
    let reader = fixture.reader.clone().get_graph_statistics(GetGraphStatisticsRequest { graph_arn: fixture.arn() }).await;
    assert!(reader.is_ok());
    let mut outside = GraphAdministrationServiceClient::new(fixture.channel());
    let refusal = outside.delete_graph_data(DeleteGraphDataRequest { graph_arn: fixture.arn() }).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unauthenticated);
    let mut gateway = fixture.administration_as_gateway();
    let refusal = gateway.delete_graph_data(DeleteGraphDataRequest { graph_arn: fixture.arn() }).await.unwrap_err();
    assert_eq!(refusal.code(), Code::PermissionDenied);
    fixture.stop().await;
}

#[tokio::test]
async fn graphs_with_findings_are_told_and_when_these_change() {
    let fixture = Fixture::start().await;
    let mut investigation = fixture.administration_as_investigation();
    let mut versions = async || investigation.list_finding_versions(ListFindingVersionsRequest::default()).await.unwrap().into_inner();
    assert_eq!(versions().await.versions, []);
    fixture.commit_calls("a", &calls(0..5)).await;
    assert_eq!(versions().await.versions, [], "calls are no findings");
    let findings: Vec<_> = detections().iter().map(crate::fixture::Detection::json).collect();
    fixture.commit("f1", "s3://findings/1.jsonl", &lines(&findings[..3])).await;
    let first = versions().await.versions;
    assert_eq!(first.iter().map(|version| version.graph_arn.as_str()).collect::<Vec<_>>(), [fixture.arn()]);
    fixture.commit_calls("b", &calls(5..9)).await;
    assert_eq!(versions().await.versions, first);
    fixture.commit("f2", "s3://findings/2.jsonl", &lines(&findings[3..])).await;
    assert!(versions().await.versions[0].version > first[0].version);
    let after = ListFindingVersionsRequest { page_token: fixture.arn() };
    assert_eq!(fixture.administration_as_investigation().list_finding_versions(after).await.unwrap().into_inner().versions, []);
    let mut membership = fixture.administration();
    assert_eq!(membership.list_finding_versions(ListFindingVersionsRequest::default()).await.unwrap_err().code(), Code::PermissionDenied);
    fixture.stop().await;
}

#[tokio::test]
async fn actors_of_an_entity_are_counted_once() {
    let fixture = Fixture::start().await;
    let call = |number: u32, who: &'static str| Call::new(format!("c-{number}"), "2024-06-30T10:00:00Z", Who::User(who)).json();
    fixture.commit_calls("a", &[call(0, "alice"), call(1, "alice"), call(2, "bob")]).await;
    fixture.commit_calls("b", &[call(3, "carol")]).await;
    let ask = |entities| BatchCountActorsRequest { graph_arn: fixture.arn(), entities };
    let entities: Vec<_> = ["ip_address:192.0.2.99", "ip_address:198.51.100.1"].into_iter().filter_map(entity).collect();
    let mut investigation = fixture.administration_as_investigation();
    let counts = investigation.batch_count_actors(ask(entities.clone())).await.unwrap().into_inner().counts;
    assert_eq!(counts, [0, 3]);
    refused(&investigation.batch_count_actors(ask(vec![])).await.unwrap_err(), Code::InvalidArgument, "INVALID_FIELD", &["entities"]);
    let gateway = fixture.administration_as_gateway().batch_count_actors(ask(entities)).await.unwrap_err();
    assert_eq!(gateway.code(), Code::PermissionDenied);
    fixture.stop().await;
}
