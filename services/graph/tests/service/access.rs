//! Whose graph: the caller's token decides, whatever the body says.

use gumshoe_api::graph::v1::{self as proto, graph_service_client::GraphServiceClient};
use gumshoe_model::GraphArn;
use tonic::{Code, Status};

use crate::{
    fixture::{Call, Fixture, Reader, Who, entity},
    refuse::refused,
};

/// Calls every reading RPC with the same graph in the body.
async fn every_rpc(reader: &Reader, arn: &str) -> Vec<(&'static str, Status)> {
    let arn = || arn.to_owned();
    let user = || entity("user:x");
    let mut failures = Vec::new();
    macro_rules! call {
        ($method:ident, $request:expr) => {
            let mut client = reader.clone();
            failures.push((stringify!($method), client.$method($request).await.map(|_| ()).unwrap_err()));
        };
    }
    call!(get_entity_profile, proto::GetEntityProfileRequest { graph_arn: arn(), entity: user(), ..Default::default() });
    call!(search_entities, proto::SearchEntitiesRequest { graph_arn: arn(), text: "*".to_owned(), ..Default::default() });
    call!(list_neighbors, proto::ListNeighborsRequest { graph_arn: arn(), entity: user(), ..Default::default() });
    call!(get_role_chain, proto::GetRoleChainRequest { graph_arn: arn(), entity: user(), ..Default::default() });
    call!(list_events, proto::ListEventsRequest { graph_arn: arn(), ..Default::default() });
    call!(stream_events, proto::StreamEventsRequest { graph_arn: arn(), ..Default::default() });
    call!(list_findings, proto::ListFindingsRequest { graph_arn: arn(), ..Default::default() });
    call!(get_finding, proto::GetFindingRequest { graph_arn: arn(), id: "f".to_owned() });
    call!(get_risk, proto::GetRiskRequest { graph_arn: arn(), entity: user(), ..Default::default() });
    call!(batch_get_risk, proto::BatchGetRiskRequest { graph_arn: arn(), entities: vec![user().unwrap()], ..Default::default() });
    call!(list_dead_letters, proto::ListDeadLettersRequest { graph_arn: arn(), ..Default::default() });
    call!(get_graph_statistics, proto::GetGraphStatisticsRequest { graph_arn: arn() });
    call!(stream_edges, proto::StreamEdgesRequest { graph_arn: arn(), ..Default::default() });
    failures
}

#[tokio::test]
async fn no_rpc_reads_a_graph_that_the_token_does_not_name() {
    let fixture = Fixture::start().await;
    fixture.commit_calls("b", &[Call::new("1", "2024-06-30T10:00:00Z", Who::User("alice")).json()]).await;
    let other: GraphArn = fixture.arn().replace("0123456789abcdef", "fedcba9876543210").parse().unwrap();
    let cases = [
        (fixture.reader.clone(), other.to_string()),
        (fixture.reader.clone(), String::new()),
        (fixture.reader.clone(), "not an arn".to_owned()),
        (fixture.reader_of(Some(other)), fixture.arn()),
        (fixture.reader_of(None), fixture.arn()),
    ];
    for (reader, arn) in cases {
        let failures = every_rpc(&reader, &arn).await;
        assert_eq!(failures.len(), 13);
        for (method, status) in failures {
            assert_eq!(status.code(), Code::PermissionDenied, "{method} on {arn}");
            refused(&status, Code::PermissionDenied, "ACCESS_DENIED", &[]);
        }
    }
    fixture.stop().await;
}

#[tokio::test]
async fn calls_without_a_token_are_refused() {
    let fixture = Fixture::start().await;
    let request = proto::GetGraphStatisticsRequest { graph_arn: fixture.arn() };
    let status = GraphServiceClient::new(fixture.channel()).get_graph_statistics(request).await.unwrap_err();
    refused(&status, Code::Unauthenticated, "UNAUTHENTICATED", &[]);
    fixture.stop().await;
}

#[tokio::test]
async fn graphs_do_not_mix() {
    let fixture = Fixture::start().await;
    fixture.commit_calls("b", &[Call::new("1", "2024-06-30T10:00:00Z", Who::User("alice")).json()]).await;
    let other: GraphArn = fixture.arn().replace("0123456789abcdef", "fedcba9876543210").parse().unwrap();
    let mut reader = fixture.reader_of(Some(other.clone()));
    let found = reader.list_events(proto::ListEventsRequest { graph_arn: other.to_string(), ..Default::default() }).await.unwrap().into_inner();
    assert_eq!(found.events, []);
    let found =
        reader.search_entities(proto::SearchEntitiesRequest { graph_arn: other.to_string(), text: "*".to_owned(), ..Default::default() }).await.unwrap();
    assert_eq!(found.into_inner().entities, []);
    fixture.stop().await;
}
