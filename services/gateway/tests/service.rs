//! The gateway as its callers see it: with the real membership behind it, and services that tell what they were sent.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "service/harness.rs"]
mod harness;
#[path = "service/rest.rs"]
mod rest;
#[path = "service/signatures.rs"]
mod signatures;
#[path = "service/signer.rs"]
mod signer;
#[path = "service/sts.rs"]
mod sts;
#[path = "service/tokens.rs"]
mod tokens;
#[path = "service/upstream.rs"]
mod upstream;

use std::time::Duration;

use futures::StreamExt as _;
use gumshoe_api::{
    common::v1::ErrorReason,
    graph::v1::{CommitBatchRequest, graph_writer_service_client::GraphWriterServiceClient},
    ingest::v1::{RecordsPiece, StreamRecordsRequest, ingest_service_client::IngestServiceClient},
    investigation::v1 as investigation,
    membership::v1 as membership,
};
use gumshoe_gateway::config;
use gumshoe_runtime::status::reason_of;
use harness::{ACCOUNT, Gateway, Options, refused};
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

const OTHER_GRAPH: &str = "arn:aws:detective:us-east-1:222222222222:graph:00000000000000000000000000000002";

fn statement(effect: &str, action: &str, resource: &str) -> String {
    format!(r#"{{"Effect":"{effect}","Action":"{action}","Resource":"{resource}"}}"#)
}

fn policy(statements: &[String]) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","))
}

#[tokio::test]
async fn an_allowed_call_arrives_in_the_principals_name_and_without_its_token() {
    let gateway = Gateway::start().await;
    let mut request = gateway.create_verdict(&gateway.administrator, &gateway.graph);
    request.metadata_mut().insert("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap());
    request.metadata_mut().insert("gumshoe-principal-token", "forged".parse().unwrap());
    request.metadata_mut().insert("gumshoe-account", "222222222222".parse().unwrap());
    request.metadata_mut().insert("custom", "kept".parse().unwrap());
    request.metadata_mut().insert_bin("custom-bin", tonic::metadata::MetadataValue::from_bytes(b"\0\xff"));
    let response = gateway.investigation().create_verdict(request).await.unwrap();
    let request_id = response.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned();
    let seen: serde_json::Value = serde_json::from_str(&response.into_inner().verdict.unwrap().note).unwrap();
    assert_eq!(seen["issuer"], "gateway");
    assert_eq!(seen["principal"], format!("arn:aws:iam::{ACCOUNT}:user/administrator"));
    assert_eq!(seen["account"], ACCOUNT);
    assert_eq!(seen["action"], "gumshoe:CreateVerdict");
    assert_eq!(seen["graph"], gateway.graph);
    assert_eq!(seen["request_id"], request_id);
    let headers = &seen["headers"];
    for gone in ["authorization", "gumshoe-principal-token", "gumshoe-account", "x-forwarded-for"] {
        assert!(headers.get(gone).is_none(), "{gone}: {headers}");
    }
    assert_eq!(headers["custom"], "kept");
    assert_eq!(headers["x-request-id"], request_id);
    assert!(headers["traceparent"].as_str().unwrap().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    assert!(headers.get("custom-bin").is_some() && headers.get("grpc-timeout").is_some());
}

#[tokio::test]
async fn who_has_no_policy_is_denied_in_awss_words() {
    let gateway = Gateway::start().await;
    let token = gateway.principal("user/ann", &[]).await;
    let status = gateway.investigation().create_verdict(gateway.create_verdict(&token, &gateway.graph)).await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (Code::PermissionDenied, Some(ErrorReason::AccessDenied)));
    let graph = &gateway.graph;
    assert_eq!(
        status.message(),
        format!(
            "User: arn:aws:iam::{ACCOUNT}:user/ann is not authorized to perform: gumshoe:CreateVerdict on resource: {graph} because no identity-based policy allows the gumshoe:CreateVerdict action"
        )
    );
    assert_eq!(status.get_error_details().error_info().unwrap().metadata["action"], "gumshoe:CreateVerdict");
}

#[tokio::test]
async fn policies_decide() {
    let gateway = Gateway::start().await;
    let graph = gateway.graph.clone();
    let wildcard = format!("arn:aws:detective:*:{ACCOUNT}:graph:*");
    let allowed =
        |outcome: Result<_, tonic::Status>| outcome.map(|_: tonic::Response<investigation::CreateVerdictResponse>| ()).map_err(|status| status.code());
    let local = r#"{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"},"StringEquals":{"aws:username":"c6","aws:RequestedRegion":"us-east-1"},"Bool":{"aws:SecureTransport":"false"},"DateGreaterThan":{"aws:CurrentTime":"2020-01-01T00:00:00Z"}}}"#;
    let remote = r#"{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"NotIpAddress":{"aws:SourceIp":"127.0.0.0/8"}}}"#;
    let cases: Vec<(&str, Vec<String>, Result<(), Code>)> = vec![
        ("exact", vec![policy(&[statement("Allow", "gumshoe:CreateVerdict", &graph)])], Ok(())),
        ("wildcard", vec![policy(&[statement("Allow", "gumshoe:Create*", &wildcard)])], Ok(())),
        ("other graph", vec![policy(&[statement("Allow", "*", OTHER_GRAPH)])], Err(Code::PermissionDenied)),
        ("other action", vec![policy(&[statement("Allow", "detective:*", "*")])], Err(Code::PermissionDenied)),
        ("deny beats allow", vec![policy(&[statement("Allow", "*", "*"), statement("Deny", "gumshoe:CreateVerdict", &graph)])], Err(Code::PermissionDenied)),
        ("deny in another policy", vec![policy(&[statement("Allow", "*", "*")]), policy(&[statement("Deny", "gumshoe:*", "*")])], Err(Code::PermissionDenied)),
        ("conditions hold", vec![policy(&[local.to_owned()])], Ok(())),
        ("conditions fail", vec![policy(&[remote.to_owned()])], Err(Code::PermissionDenied)),
    ];
    for (number, (name, policies, expected)) in cases.into_iter().enumerate() {
        let token = gateway.principal(&format!("user/c{number}"), &policies).await;
        let outcome = gateway.investigation().create_verdict(gateway.create_verdict(&token, &graph)).await;
        assert_eq!(allowed(outcome), expected, "{name}");
    }
}

#[tokio::test]
async fn graphs_of_other_accounts_are_out_of_reach_and_missing_ones_are_missing() {
    let gateway = Gateway::start().await;
    let call = async |graph: &str| gateway.investigation().create_verdict(gateway.create_verdict(&gateway.administrator, graph)).await;
    let text = refused(call(OTHER_GRAPH).await, Code::PermissionDenied, ErrorReason::AccessDenied);
    assert!(text.ends_with("because no resource-based policy allows the gumshoe:CreateVerdict action"), "{text}");
    let missing = format!("arn:aws:detective:us-east-1:{ACCOUNT}:graph:00000000000000000000000000000000");
    refused(call(&missing).await, Code::NotFound, ErrorReason::NotFound);
    refused(call("graph").await, Code::InvalidArgument, ErrorReason::InvalidField);
    refused(call("").await, Code::InvalidArgument, ErrorReason::InvalidField);
    // Who may do nothing does not learn whether it exists.
    let nobody = gateway.principal("user/nobody", &[]).await;
    let outcome = gateway.investigation().create_verdict(gateway.create_verdict(&nobody, &missing)).await;
    refused(outcome, Code::PermissionDenied, ErrorReason::AccessDenied);
}

#[tokio::test]
async fn changes_take_effect() {
    let gateway = Gateway::start().await;
    let call = async |token: &str| gateway.investigation().create_verdict(gateway.create_verdict(token, &gateway.graph)).await;
    let token = gateway.principal("user/ann", &[]).await;
    refused(call(&token).await, Code::PermissionDenied, ErrorReason::AccessDenied);
    gateway.put_policy("user/ann", "p0", &policy(&[statement("Allow", "*", "*")])).await;
    call(&token).await.unwrap();
    gateway.delete_principal("user/ann").await;
    refused(call(&token).await, Code::Unauthenticated, ErrorReason::Unauthenticated);
}

#[tokio::test]
async fn a_new_graph_can_be_used_at_once() {
    let options = Options { policies: config::Policies { max_age_seconds: 3_600, ..config::Policies::default() }, ..Options::default() };
    let gateway = Gateway::start_with(options).await;
    gateway.investigation().create_verdict(gateway.create_verdict(&gateway.administrator, &gateway.graph)).await.unwrap();
    let create = gateway.bearing(&gateway.administrator, membership::CreateGraphRequest { region: "eu-west-1".to_owned(), ..Default::default() });
    let graph = gateway.membership().create_graph(create).await.unwrap().into_inner().graph.unwrap().arn;
    // Although policies are kept for an hour.
    gateway.investigation().create_verdict(gateway.create_verdict(&gateway.administrator, &graph)).await.unwrap();
}

#[tokio::test]
async fn internal_rpcs_are_unknown() {
    let gateway = Gateway::start().await;
    let policies = membership::GetPrincipalPoliciesRequest { principal_arn: format!("arn:aws:iam::{ACCOUNT}:user/administrator") };
    let internal = gateway.credentials().get_principal_policies(gateway.bearing(&gateway.administrator, policies)).await.unwrap_err();
    let key = gateway.bearing(&gateway.administrator, membership::GetSigningKeyRequest::default());
    let key = gateway.credentials().get_signing_key(key).await.unwrap_err();
    let web_identity = gateway.bearing(&gateway.administrator, membership::AssumeRoleWithWebIdentityRequest::default());
    let web_identity = gateway.credentials().assume_role_with_web_identity(web_identity).await.unwrap_err();
    let commit = gateway.bearing(&gateway.administrator, CommitBatchRequest { graph_arn: gateway.graph.clone(), ..CommitBatchRequest::default() });
    let writer = GraphWriterServiceClient::new(gateway.channel.clone()).commit_batch(commit).await.unwrap_err();
    let unknown = gateway.unary("/gumshoe.graph.v1.GraphService/NoSuchMethod", &gateway.administrator).await.unwrap_err();
    for status in [internal, key, web_identity, writer, unknown] {
        assert_eq!((status.code(), status.message()), (Code::Unimplemented, "unknown method"));
    }
}

#[tokio::test]
async fn a_service_port_is_no_way_around() {
    let gateway = Gateway::start().await;
    let mut request = gateway.create_verdict(&gateway.administrator, &gateway.graph);
    let mut direct = investigation::investigation_service_client::InvestigationServiceClient::new(gateway.service_channel.clone());
    refused(direct.create_verdict(request).await, Code::Unauthenticated, ErrorReason::Unauthenticated);
    // A bearer token is no principal token either.
    request = gateway.create_verdict(&gateway.administrator, &gateway.graph);
    request.metadata_mut().insert("gumshoe-principal-token", gateway.administrator.parse().unwrap());
    refused(direct.create_verdict(request).await, Code::Unauthenticated, ErrorReason::Unauthenticated);
}

#[tokio::test]
async fn error_details_pass_through_intact() {
    let gateway = Gateway::start().await;
    let request = investigation::ListVerdictsRequest { graph_arn: gateway.graph.clone(), finding_id: "f".to_owned(), page_size: 7, page_token: String::new() };
    let status = gateway.investigation().list_verdicts(gateway.bearing(&gateway.administrator, request)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "`page_size`: 7 is not liked ü"));
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().metadata["seven"], "7");
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "page_size");
    assert_eq!(status.metadata().get("x-custom-trailer").unwrap(), "kept");
    assert!(status.metadata().get("x-request-id").is_some());
}

#[tokio::test]
async fn deadlines_are_passed_on_and_kept() {
    let gateway = Gateway::start().await;
    let request = investigation::BatchGetVerdictsRequest { graph_arn: gateway.graph.clone(), finding_ids: vec!["never".to_owned()] };
    let mut request = gateway.bearing(&gateway.administrator, request);
    request.set_timeout(Duration::from_millis(300));
    let start = std::time::Instant::now();
    let status = gateway.investigation().batch_get_verdicts(request).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    assert!(start.elapsed() < Duration::from_secs(5));
    let told = gateway.upstream.last_timeout();
    assert!(told <= Duration::from_millis(300), "{told:?}");
}

#[tokio::test]
async fn a_service_that_is_down_is_unavailable_and_nothing_else_is_told() {
    let gateway = Gateway::start().await;
    let request = gumshoe_api::graph::v1::GetRiskRequest { graph_arn: gateway.graph.clone(), ..Default::default() };
    let outcome = gateway.graph_service().get_risk(gateway.bearing(&gateway.administrator, request)).await;
    assert_eq!(refused(outcome, Code::Unavailable, ErrorReason::Unavailable), "the graph service is not available");
}

#[tokio::test]
async fn a_bidirectional_stream_passes_and_a_slow_reader_slows_the_sender() {
    const PIECES: usize = 200;
    const PIECE: usize = 1 << 20;
    let gateway = Gateway::start().await;
    let gate = gateway.upstream.close_gate();
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (counter, graph) = (sent.clone(), gateway.graph.clone());
    let pieces = futures::stream::iter(0..PIECES).map(move |number| {
        counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let piece = RecordsPiece { batch_id: number.to_string(), data: vec![b'x'; PIECE].into(), last: true, ..RecordsPiece::default() };
        // The graph is named in the first message only.
        StreamRecordsRequest { graph_arn: if number == 0 { graph.clone() } else { String::new() }, piece: Some(piece) }
    });
    let mut client = IngestServiceClient::new(gateway.channel.clone()).max_decoding_message_size(8 << 20);
    let mut answers = client.stream_records(gateway.bearing(&gateway.administrator, pieces)).await.unwrap().into_inner();
    // The service has stopped reading: what the windows between hold is sent, and no more.
    let mut before = usize::MAX;
    loop {
        let now = sent.load(std::sync::atomic::Ordering::SeqCst);
        if now == before && now > 0 {
            break;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(before < 64, "{before} MiB were taken in although nobody reads them");
    drop(gate);
    for number in 0..PIECES {
        assert_eq!(answers.message().await.unwrap().unwrap().result.unwrap(), upstream::result(&number.to_string(), PIECE));
    }
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_stream_is_authorised_by_its_first_message() {
    let gateway = Gateway::start().await;
    let token = gateway.principal("user/ann", &[policy(&[statement("Allow", "detective:*", "*")])]).await;
    let message = StreamRecordsRequest { graph_arn: gateway.graph.clone(), piece: None };
    let mut client = IngestServiceClient::new(gateway.channel.clone());
    refused(client.stream_records(gateway.bearing(&token, tokio_stream::iter([message.clone()]))).await, Code::PermissionDenied, ErrorReason::AccessDenied);
    refused(client.stream_records(gateway.bearing(&gateway.administrator, tokio_stream::iter([]))).await, Code::InvalidArgument, ErrorReason::InvalidField);
    refused(client.stream_records(Request::new(tokio_stream::iter([message]))).await, Code::Unauthenticated, ErrorReason::Unauthenticated);
}

#[tokio::test]
async fn conditions_on_tags_hold_on_grpc_too() {
    let gateway = Gateway::start().await;
    let condition = r#"{"Effect":"Allow","Action":"detective:*","Resource":"*","Condition":{"StringEquals":{"aws:RequestTag/team":"blue"},"ForAllValues:StringEquals":{"aws:TagKeys":["team","cost"]}}}"#;
    let token = gateway.principal("user/ann", &[policy(&[condition.to_owned()])]).await;
    let tag = async |tags: &[(&str, &str)]| {
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        gateway.membership().tag_resource(gateway.bearing(&token, membership::TagResourceRequest { graph_arn: gateway.graph.clone(), tags })).await
    };
    tag(&[("team", "blue"), ("cost", "7")]).await.unwrap();
    for tags in [&[("team", "red")][..], &[], &[("cost", "7")], &[("team", "blue"), ("other", "x")]] {
        refused(tag(tags).await, Code::PermissionDenied, ErrorReason::AccessDenied);
    }
    // The tags that the graph has now let others in.
    let condition = r#"{"Effect":"Allow","Action":"detective:*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/team":"blue"}}}"#;
    let token = gateway.principal("user/bob", &[policy(&[condition.to_owned()])]).await;
    let list = || gateway.bearing(&token, membership::ListTagsForResourceRequest { graph_arn: gateway.graph.clone() });
    let tags = gateway.membership().list_tags_for_resource(list()).await.unwrap().into_inner().tags;
    assert_eq!((tags["team"].as_str(), tags["cost"].as_str()), ("blue", "7"));
    let untag = membership::UntagResourceRequest { graph_arn: gateway.graph.clone(), tag_keys: vec!["team".to_owned()] };
    gateway.membership().untag_resource(gateway.bearing(&gateway.administrator, untag)).await.unwrap();
    refused(gateway.membership().list_tags_for_resource(list()).await, Code::PermissionDenied, ErrorReason::AccessDenied);
}

#[tokio::test]
async fn members_act_on_graphs_of_others_and_roles_are_resources() {
    let gateway = Gateway::start().await;
    // The policies allow it, and membership has not heard of an invitation.
    let accept = |graph: &str| gateway.bearing(&gateway.administrator, membership::AcceptInvitationRequest { graph_arn: graph.to_owned() });
    refused(gateway.membership().accept_invitation(accept(OTHER_GRAPH)).await, Code::NotFound, ErrorReason::NotFound);
    let nobody = gateway.principal("user/nobody", &[]).await;
    let request = gateway.bearing(&nobody, membership::AcceptInvitationRequest { graph_arn: OTHER_GRAPH.to_owned() });
    refused(gateway.membership().accept_invitation(request).await, Code::PermissionDenied, ErrorReason::AccessDenied);

    let trust = format!(r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{{"AWS":"{ACCOUNT}"}},"Action":"sts:AssumeRole"}}}}"#);
    let [reader, admin] = [gateway.create_principal("role/Reader", &trust).await, gateway.create_principal("role/Admin", &trust).await];
    let token = gateway.principal("user/ann", &[policy(&[statement("Allow", "sts:*", "*"), statement("Deny", "sts:AssumeRole", &admin)])]).await;
    let assume = async |role: &str| {
        let request = membership::AssumeRoleRequest { role_arn: role.to_owned(), role_session_name: "ann".to_owned(), ..Default::default() };
        gateway.credentials().assume_role(gateway.bearing(&token, request)).await
    };
    assert!(assume(&reader).await.unwrap().into_inner().credentials.is_some());
    let text = refused(assume(&admin).await, Code::PermissionDenied, ErrorReason::AccessDenied);
    assert!(text.contains("with an explicit deny"), "{text}");
}

#[tokio::test]
async fn calls_without_credentials_are_counted_by_address() {
    let options = Options { limits: config::Limits { anonymous_per_minute: 5, ..config::Limits::default() }, ..Options::default() };
    let gateway = Gateway::start_with(options).await;
    // The harness has made one already.
    let request = membership::CreateTokenRequest { access_key_id: "AKIAAAAAAAAAAAAAAAAA".to_owned(), ..membership::CreateTokenRequest::default() };
    for _ in 0..4 {
        refused(gateway.credentials().create_token(request.clone()).await, Code::Unauthenticated, ErrorReason::Unauthenticated);
    }
    let status = gateway.credentials().create_token(request).await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (Code::ResourceExhausted, Some(ErrorReason::RateLimited)));
    assert!(status.get_error_details().retry_info().is_some());
    gateway.investigation().create_verdict(gateway.create_verdict(&gateway.administrator, &gateway.graph)).await.unwrap();
}

#[tokio::test]
async fn health_is_on_the_same_port_and_reflection_is_not() {
    let gateway = Gateway::start().await;
    let get = async |path: &str| {
        let response = reqwest::Client::builder().http1_only().build().unwrap().get(format!("http://{}{path}", gateway.address)).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(get("/healthz").await, (200, "ok".to_owned()));
    assert_eq!(get("/readyz").await, (200, "ready".to_owned()));
    assert_eq!(get("/").await.0, 404);
    assert_eq!(get("/gumshoe.graph.v1.GraphService/GetRisk").await.0, 415);
    let mut health = tonic_health::pb::health_client::HealthClient::new(gateway.channel.clone());
    let answer = health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
    let reflection = gateway.unary("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "").await.unwrap_err();
    assert_eq!(reflection.code(), Code::Unimplemented);
    gateway.shutdown.trigger();
    tokio::time::timeout(Duration::from_secs(30), gateway.server).await.unwrap().unwrap().unwrap();
}
