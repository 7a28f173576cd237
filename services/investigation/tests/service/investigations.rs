//! Investigations: every RPC and what it refuses.

use gumshoe_api::{
    common::v1::{EntityType, ErrorReason, TimeRange},
    convert::time_to_proto,
    investigation::v1::{self as api, investigation_service_client::InvestigationServiceClient},
};
use gumshoe_model::{
    Timestamp,
    time::{MICROS_PER_DAY, MICROS_PER_HOUR},
};
use gumshoe_runtime::{Caller, Clock as _, SystemClock};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{ANN, GRAPH, OTHER, Service, World, refused};

const START: &str = "detective:StartInvestigation";
const GET: &str = "detective:GetInvestigation";
const LIST: &str = "detective:ListInvestigations";
const UPDATE: &str = "detective:UpdateInvestigationState";
const INDICATORS: &str = "detective:ListIndicators";
const BOB: &str = "arn:aws:iam::111111111111:user/bob";
const MISSING: &str = "999999999999999999999";

/// A scope of so many microseconds that ended two days ago.
fn scope(length: i64) -> Option<TimeRange> {
    let end = SystemClock.now().0 - 2 * MICROS_PER_DAY;
    let time = |time: i64| Some(time_to_proto(Timestamp(time)));
    Some(TimeRange { start_time: time(end - length), end_time: time(end) })
}

fn start(entity: &str, request_id: &str) -> api::StartInvestigationRequest {
    api::StartInvestigationRequest {
        graph_arn: GRAPH.to_owned(),
        entity_arn: entity.to_owned(),
        scope: scope(MICROS_PER_DAY),
        request_id: request_id.to_owned(),
        ..api::StartInvestigationRequest::default()
    }
}

async fn started(service: &Service, request: api::StartInvestigationRequest) -> String {
    service.client(START, GRAPH).start_investigation(request).await.unwrap().into_inner().investigation_id
}

fn get(id: &str) -> api::GetInvestigationRequest {
    api::GetInvestigationRequest { graph_arn: GRAPH.to_owned(), investigation_id: id.to_owned() }
}

fn list() -> api::ListInvestigationsRequest {
    api::ListInvestigationsRequest { graph_arn: GRAPH.to_owned(), ..api::ListInvestigationsRequest::default() }
}

fn update(id: &str, state: api::InvestigationState) -> api::UpdateInvestigationStateRequest {
    api::UpdateInvestigationStateRequest { graph_arn: GRAPH.to_owned(), investigation_id: id.to_owned(), state: state.into() }
}

fn indicators(id: &str) -> api::ListIndicatorsRequest {
    api::ListIndicatorsRequest { graph_arn: GRAPH.to_owned(), investigation_id: id.to_owned(), ..api::ListIndicatorsRequest::default() }
}

async fn listed(service: &Service, request: api::ListInvestigationsRequest) -> Vec<api::Investigation> {
    service.client(LIST, GRAPH).list_investigations(request).await.unwrap().into_inner().investigations
}

#[track_caller]
fn field_refused<T: std::fmt::Debug>(outcome: Result<T, Status>, field: &str) {
    let status = refused(outcome, Code::InvalidArgument, ErrorReason::InvalidField);
    assert_eq!(status.get_error_details().bad_request().unwrap().field_violations.first().unwrap().field, field);
}

#[tokio::test]
async fn an_investigation_runs_and_ends() {
    let service = Service::start().await;
    service.world.graph.stall(true);
    let request = start("arn:aws:iam::111111111111:role/team/deploy", "");
    let id = started(&service, request.clone()).await;
    assert!(id.len() == 21 && id.bytes().all(|byte| byte.is_ascii_digit()));
    let found = service.get(&id).await;
    assert_eq!((found.id.as_str(), found.graph_arn.as_str(), found.entity_arn), (id.as_str(), GRAPH, request.entity_arn));
    assert_eq!((found.entity_type, found.scope), (EntityType::Role.into(), request.scope));
    assert_eq!((found.status, found.severity), (api::InvestigationStatus::Running.into(), api::InvestigationSeverity::Unspecified.into()));
    assert_eq!(found.state, i32::from(api::InvestigationState::Active));
    assert!(found.create_time.unwrap().nanos % 1_000_000 == 0);
    service.world.graph.stall(false);
    // The graph does not know the role: nothing was found, which is an answer too.
    let found = service.finished(&id).await;
    assert_eq!((found.status(), found.severity()), (api::InvestigationStatus::Successful, api::InvestigationSeverity::Informational));
    assert_eq!(service.indicators(&id).await, []);
    service.stop().await;
}

#[tokio::test]
async fn a_repeated_request_starts_one_investigation() {
    let service = Service::start().await;
    let request = start(ANN, "r");
    let id = started(&service, request.clone()).await;
    assert_eq!(started(&service, request.clone()).await, id);
    service.finished(&id).await;
    assert_eq!(started(&service, request.clone()).await, id);
    for other in [api::StartInvestigationRequest { scope: scope(MICROS_PER_DAY / 2), ..request.clone() }, start(BOB, "r")] {
        refused(service.client(START, GRAPH).start_investigation(other).await, Code::FailedPrecondition, ErrorReason::Conflict);
    }
    let of_bob = service.client_of(BOB, START, GRAPH).start_investigation(request.clone()).await.unwrap().into_inner().investigation_id;
    let without = started(&service, api::StartInvestigationRequest { request_id: String::new(), ..request }).await;
    assert_ne!(of_bob, id);
    assert!(without != id && without != of_bob);
    assert_eq!(listed(&service, list()).await.len(), 3);
}

#[tokio::test]
async fn what_is_started_is_checked() {
    let service = Service::start().await;
    let mut client = service.client(START, GRAPH);
    for arn in ["", "arn:aws:s3:::bucket", "arn:aws:iam::111111111111:root", "arn:aws:iam::111111111111:group/x"] {
        field_refused(client.start_investigation(start(arn, "")).await, "entity_arn");
    }
    field_refused(client.start_investigation(start(ANN, &"r".repeat(65))).await, "request_id");
    let with = |scope: Option<TimeRange>| api::StartInvestigationRequest { scope, ..start(ANN, "") };
    let shifted = |by: i64| {
        let time = |time: i64| Some(time_to_proto(Timestamp(SystemClock.now().0 + by + time)));
        Some(TimeRange { start_time: time(0), end_time: time(MICROS_PER_DAY) })
    };
    let backwards = scope(MICROS_PER_DAY).map(|range| TimeRange { start_time: range.end_time, end_time: range.start_time });
    for bad in [None, scope(3 * MICROS_PER_HOUR - 1), scope(30 * MICROS_PER_DAY + 1), shifted(-MICROS_PER_HOUR), backwards] {
        field_refused(client.start_investigation(with(bad)).await, "scope");
    }
    let unending = Some(TimeRange { end_time: None, ..scope(MICROS_PER_DAY).unwrap() });
    field_refused(client.start_investigation(with(unending)).await, "scope.end_time");
    assert_eq!(listed(&service, list()).await, []);
    for good in [scope(3 * MICROS_PER_HOUR), scope(30 * MICROS_PER_DAY), shifted(-366 * MICROS_PER_DAY)] {
        started(&service, with(good)).await;
    }
}

#[tokio::test]
async fn only_so_many_run_at_once() {
    let world = std::sync::Arc::new(World::new().await);
    let service = world.serve(|config| config.investigations.running_limit = 2).await;
    service.world.graph.stall(true);
    let request = start(ANN, "r");
    let first = started(&service, request.clone()).await;
    started(&service, start(BOB, "")).await;
    let status = refused(service.client(START, GRAPH).start_investigation(start(BOB, "")).await, Code::ResourceExhausted, ErrorReason::QuotaExceeded);
    assert!(status.message().contains("2 investigations"), "{status:?}");
    assert_eq!(started(&service, request).await, first, "a repeated request starts none");
    service.world.graph.stall(false);
    service.finished(&first).await;
    started(&service, start(BOB, "")).await;
}

#[tokio::test]
async fn investigations_are_filtered_sorted_and_paged() {
    let service = Service::start().await;
    let mut ids = Vec::new();
    for entity in [ANN, BOB, ANN] {
        let id = started(&service, start(entity, "")).await;
        service.finished(&id).await;
        ids.push(id);
    }
    service.client(UPDATE, GRAPH).update_investigation_state(update(&ids[1], api::InvestigationState::Archived)).await.unwrap();
    let found = async |request| listed(&service, request).await.into_iter().map(|found| found.id).collect::<Vec<_>>();
    let everything = found(list()).await;
    assert_eq!(everything.len(), 3);
    let times: Vec<_> = listed(&service, list()).await.into_iter().map(|found| found.create_time.unwrap()).collect();
    assert!(times.iter().rev().is_sorted_by_key(|time| (time.seconds, time.nanos)), "latest first");
    assert_eq!(found(api::ListInvestigationsRequest { state: api::InvestigationState::Archived.into(), ..list() }).await, [ids[1].clone()]);
    assert_eq!(found(api::ListInvestigationsRequest { entity_arn: BOB.to_owned(), ..list() }).await, [ids[1].clone()]);
    assert_eq!(found(api::ListInvestigationsRequest { status: api::InvestigationStatus::Failed.into(), ..list() }).await, [""; 0]);
    assert_eq!(found(api::ListInvestigationsRequest { severity: api::InvestigationSeverity::Informational.into(), ..list() }).await.len(), 3);
    assert_eq!(found(api::ListInvestigationsRequest { severity: api::InvestigationSeverity::High.into(), ..list() }).await, [""; 0]);
    let exactly = service.get(&ids[1]).await.create_time;
    assert!(found(api::ListInvestigationsRequest { start_time: exactly, end_time: exactly, ..list() }).await.contains(&ids[1]));
    let long_ago = Some(time_to_proto(Timestamp(0)));
    assert_eq!(found(api::ListInvestigationsRequest { end_time: long_ago, ..list() }).await, [""; 0]);

    for field in [api::InvestigationField::Severity, api::InvestigationField::Status, api::InvestigationField::CreatedTime] {
        for ascending in [true, false] {
            let request = api::ListInvestigationsRequest { sort_field: field.into(), ascending, page_size: 1, ..list() };
            let (mut walked, mut token) = (Vec::new(), String::new());
            loop {
                let page = service.client(LIST, GRAPH).list_investigations(api::ListInvestigationsRequest { page_token: token, ..request.clone() }).await;
                let page = page.unwrap().into_inner();
                walked.extend(page.investigations.into_iter().map(|found| found.id));
                token = page.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!(walked, found(api::ListInvestigationsRequest { page_size: 0, ..request }).await, "{field:?} {ascending}");
            assert_eq!(walked.len(), 3);
        }
    }
}

#[tokio::test]
async fn page_tokens_belong_to_their_call() {
    let service = Service::start().await;
    let id = started(&service, start(ANN, "")).await;
    started(&service, start(BOB, "")).await;
    let page = service.client(LIST, GRAPH).list_investigations(api::ListInvestigationsRequest { page_size: 1, ..list() }).await.unwrap().into_inner();
    let token = page.next_page_token;
    assert!(!token.is_empty());
    let mut client = service.client(LIST, GRAPH);
    let others = [
        api::ListInvestigationsRequest { state: api::InvestigationState::Active.into(), ..list() },
        api::ListInvestigationsRequest { sort_field: api::InvestigationField::Status.into(), ..list() },
        api::ListInvestigationsRequest { ascending: true, ..list() },
    ];
    for other in others {
        let other = api::ListInvestigationsRequest { page_token: token.clone(), ..other };
        refused(client.list_investigations(other).await, Code::InvalidArgument, ErrorReason::InvalidPageToken);
    }
    let other = api::ListIndicatorsRequest { page_token: token.clone(), ..indicators(&id) };
    refused(service.client(INDICATORS, GRAPH).list_indicators(other).await, Code::InvalidArgument, ErrorReason::InvalidPageToken);
    let elsewhere = api::ListInvestigationsRequest { page_token: token.clone(), graph_arn: OTHER.to_owned(), ..list() };
    refused(service.client(LIST, OTHER).list_investigations(elsewhere).await, Code::InvalidArgument, ErrorReason::InvalidPageToken);
    // Another size of page goes on where the last one ended.
    let rest = client.list_investigations(api::ListInvestigationsRequest { page_token: token, page_size: 7, ..list() }).await.unwrap().into_inner();
    assert_eq!((rest.investigations.len(), rest.next_page_token.as_str()), (1, ""));
}

#[tokio::test]
async fn an_investigation_is_archived_and_taken_back() {
    let service = Service::start().await;
    let id = started(&service, start(ANN, "")).await;
    for state in [api::InvestigationState::Archived, api::InvestigationState::Archived, api::InvestigationState::Active] {
        service.client(UPDATE, GRAPH).update_investigation_state(update(&id, state)).await.unwrap();
        assert_eq!(service.get(&id).await.state(), state);
    }
    let mut client = service.client(UPDATE, GRAPH);
    field_refused(client.update_investigation_state(update(&id, api::InvestigationState::Unspecified)).await, "state");
    field_refused(client.update_investigation_state(update("12", api::InvestigationState::Active)).await, "investigation_id");
}

#[tokio::test]
async fn fields_of_listings_are_checked() {
    let service = Service::start().await;
    let id = started(&service, start(ANN, "")).await;
    let mut client = service.client(LIST, GRAPH);
    let cases = [
        ("page_size", api::ListInvestigationsRequest { page_size: 101, ..list() }),
        ("page_size", api::ListInvestigationsRequest { page_size: -1, ..list() }),
        ("severity", api::ListInvestigationsRequest { severity: 6, ..list() }),
        ("status", api::ListInvestigationsRequest { status: 4, ..list() }),
        ("state", api::ListInvestigationsRequest { state: -1, ..list() }),
        ("sort_field", api::ListInvestigationsRequest { sort_field: 4, ..list() }),
        ("entity_arn", api::ListInvestigationsRequest { entity_arn: "ann".to_owned(), ..list() }),
        ("end_time", api::ListInvestigationsRequest { end_time: Some(prost_types::Timestamp { seconds: -1, nanos: 0 }), ..list() }),
    ];
    for (field, bad) in cases {
        field_refused(client.list_investigations(bad).await, field);
    }
    let mut client = service.client(INDICATORS, GRAPH);
    field_refused(client.list_indicators(api::ListIndicatorsRequest { page_size: 101, ..indicators(&id) }).await, "page_size");
    field_refused(client.list_indicators(api::ListIndicatorsRequest { r#type: 9, ..indicators(&id) }).await, "type");
    field_refused(client.list_indicators(indicators("x")).await, "investigation_id");
    field_refused(service.client(GET, GRAPH).get_investigation(get("")).await, "investigation_id");
}

#[tokio::test]
async fn what_is_missing_and_what_is_anothers_is_not_found_alike() {
    let service = Service::start().await;
    let id = started(&service, start(ANN, "")).await;
    for (graph, id) in [(GRAPH, MISSING), (OTHER, id.as_str())] {
        let mut message = get(id);
        message.graph_arn = graph.to_owned();
        let status = refused(service.client(GET, graph).get_investigation(message).await, Code::NotFound, ErrorReason::NotFound);
        assert!(!status.message().contains(id));
        let mut message = update(id, api::InvestigationState::Archived);
        message.graph_arn = graph.to_owned();
        refused(service.client(UPDATE, graph).update_investigation_state(message).await, Code::NotFound, ErrorReason::NotFound);
        let mut message = indicators(id);
        message.graph_arn = graph.to_owned();
        refused(service.client(INDICATORS, graph).list_indicators(message).await, Code::NotFound, ErrorReason::NotFound);
    }
}

#[tokio::test]
async fn a_token_opens_one_graph_for_one_action() {
    let service = Service::start().await;
    let id = started(&service, start(ANN, "")).await;
    let denied = |outcome: Result<(), Status>| {
        refused(outcome, Code::PermissionDenied, ErrorReason::AccessDenied);
    };
    for (action, graph) in [(START, OTHER), (GET, GRAPH)] {
        denied(service.client(action, graph).start_investigation(start(ANN, "")).await.map(drop));
    }
    for (action, graph) in [(GET, OTHER), (LIST, GRAPH)] {
        denied(service.client(action, graph).get_investigation(get(&id)).await.map(drop));
    }
    for (action, graph) in [(LIST, OTHER), (GET, GRAPH)] {
        denied(service.client(action, graph).list_investigations(list()).await.map(drop));
    }
    for (action, graph) in [(UPDATE, OTHER), (GET, GRAPH)] {
        denied(service.client(action, graph).update_investigation_state(update(&id, api::InvestigationState::Active)).await.map(drop));
    }
    for (action, graph) in [(INDICATORS, OTHER), (GET, GRAPH)] {
        denied(service.client(action, graph).list_indicators(indicators(&id)).await.map(drop));
    }
    // Only the gateway has checked policies.
    let caller = Caller::service("ingest", GET).with_graph(GRAPH.parse().unwrap());
    let mut of_ingest = InvestigationServiceClient::new(service.channel.signed(service.world.keys.signer("ingest"), caller));
    denied(of_ingest.get_investigation(get(&id)).await.map(drop));
    let mut bare = InvestigationServiceClient::new(service.channel.unsigned());
    refused(bare.get_investigation(get(&id)).await, Code::Unauthenticated, ErrorReason::Unauthenticated);
}
