//! Five processes on Postgres, Redis and a lake in S3.

use gumshoe_api::{
    common::v1::ErrorReason,
    graph::v1::{GetGraphStatisticsRequest, SearchEntitiesRequest, graph_service_client::GraphServiceClient},
    ingest::v1::{CreateSourceRequest, GetSourceRequest, SourceSettings, SyncSourceRequest},
};
use gumshoe_runtime::status::reason_of;
use gumshoe_testkit::{Cli, Client, Installation, Processes, S3, Service};
use gumshoe_tests::story;
use tonic::{Code, Status};

use crate::night;

/// A policy that allows to list graphs and nothing else.
const LIST_ONLY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"detective:ListGraphs","Resource":"*"}]}"#;

#[tokio::test]
async fn logs_go_in_by_every_door_and_answers_come_out() {
    let folder = tempfile::tempdir().unwrap();
    let pulled = folder.path().join("pulled");
    let s3 = S3::start().await;
    let mut processes = Processes::start(Installation { s3: Some(s3), source_directories: vec![pulled.clone()], ..Installation::default() }).await;
    let account = processes.create_account(story::ACCOUNT).await;
    let client = processes.sign_in(&account).await;
    let cli = Cli::of(&client);

    // The command line, a stream, a folder and a bucket.
    night::ingest_by_command(&cli, &story::cloudtrail(), folder.path()).await;
    night::ingest_by_stream(&client, &story::flows()).await;
    story::findings().write(&pulled);
    night::ingest_by_source(&cli, "folder", &pulled).await;
    let bucket = processes.s3.as_ref().unwrap();
    bucket.create_bucket("logs").await;
    let flows = story::custom_flows();
    bucket.put(&format!("logs/{}", flows.name), flows.data.clone()).await;
    sync_bucket(&client, bucket.endpoint().as_str()).await;

    night::check(&client, &cli).await;
    refuses_who_is_not_allowed(&processes, &client).await;

    for (service, status) in processes.stop() {
        assert!(status.success(), "{} ended with {status}", service.name());
    }
}

async fn sync_bucket(client: &Client, endpoint_url: &str) {
    // The key's date is in the past, so everything must be listed.
    let settings = SourceSettings {
        url: "s3://logs/AWSLogs/".to_owned(),
        lookback: Some(prost_types::Duration::default()),
        region: "us-east-1".to_owned(),
        endpoint_url: endpoint_url.trim_end_matches('/').to_owned(),
        ..SourceSettings::default()
    };
    let request = CreateSourceRequest { graph_arn: client.graph_arn.clone(), name: "bucket".to_owned(), settings: Some(settings) };
    client.ingest().create_source(request).await.expect("CreateSource");
    let request = SyncSourceRequest { graph_arn: client.graph_arn.clone(), name: "bucket".to_owned() };
    let mut progress = client.ingest().sync_source(request).await.expect("SyncSource").into_inner();
    let mut last = None;
    while let Some(message) = progress.message().await.expect("SyncSource") {
        last = Some(message);
    }
    let last = last.expect("progress");
    assert!(last.complete, "{last:?}");
    // The source polls by itself: it may have been quicker than the call.
    assert_eq!(last.objects_failed, 0, "{last:?}");
    let request = GetSourceRequest { graph_arn: client.graph_arn.clone(), name: "bucket".to_owned() };
    let source = client.ingest().get_source(request).await.expect("GetSource").into_inner().source.expect("the source");
    let done: Vec<_> = source.progress.iter().map(|part| (part.account_id.as_str(), part.region.as_str(), part.done, part.events)).collect();
    assert_eq!(done, [(story::ACCOUNT, "us-east-1", 1, 1)], "{source:?}");
}

async fn refuses_who_is_not_allowed(processes: &Processes, client: &Client) {
    let search = |client: Client| async move {
        let request = SearchEntitiesRequest { graph_arn: client.graph_arn.clone(), text: "*".to_owned(), ..Default::default() };
        client.graph().search_entities(request).await.map(|answer| answer.into_inner().entities.len())
    };
    let refused = |outcome: Result<usize, Status>, code: Code, reason: ErrorReason| {
        let status = outcome.expect_err("a refusal");
        assert_eq!((status.code(), reason_of(&status)), (code, Some(reason)), "{status:?}");
    };
    assert!(search(client.clone()).await.unwrap() > 0);

    // A principal of the same account whose policy does not allow it.
    let reader = client.create_user("reader", LIST_ONLY).await;
    refused(search(reader.clone()).await, Code::PermissionDenied, ErrorReason::AccessDenied);
    let sent = reader.send([&story::flows().batch()], |_| ()).await.map(|()| 0);
    refused(sent, Code::PermissionDenied, ErrorReason::AccessDenied);

    // The administrator of another account, who may do everything, but not with this graph.
    let other = processes.create_account("999988887777").await;
    let stranger = processes.sign_in(&other).await;
    assert_eq!(search(stranger.clone()).await.unwrap(), 0, "a graph's data reaches another graph's callers");
    refused(search(stranger.with_graph(&client.graph_arn)).await, Code::PermissionDenied, ErrorReason::AccessDenied);

    // Nobody, at the gateway; and the gateway's caller at the service itself.
    let request = GetGraphStatisticsRequest { graph_arn: client.graph_arn.clone() };
    let outcome = GraphServiceClient::new(client.anonymous()).get_graph_statistics(request.clone()).await.map(|_| 0);
    refused(outcome, Code::Unauthenticated, ErrorReason::Unauthenticated);
    let mut direct = GraphServiceClient::connect(processes.url(Service::Graph)).await.unwrap();
    let mut request = tonic::Request::new(request);
    request.metadata_mut().insert("authorization", format!("Bearer {}", client.token).parse().unwrap());
    refused(direct.get_graph_statistics(request).await.map(|_| 0), Code::Unauthenticated, ErrorReason::Unauthenticated);
}
