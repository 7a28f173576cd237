//! The work behind an investigation: what is found, and what happens when the graph or the process fails.

use std::sync::Arc;

use gumshoe_api::{
    common::v1::{EntityKey, EntityType, RecordKind, TimeRange},
    convert::time_to_proto,
    graph::v1::{EntityProfile, Event, FindingSummary, MatchedRule},
    investigation::v1::{self as api, indicator::Detail},
};
use gumshoe_model::{
    Timestamp,
    time::{MICROS_PER_DAY, MICROS_PER_HOUR},
};
use gumshoe_runtime::{Clock as _, SystemClock, status};
use tonic::Status;

use crate::{
    graph::{Told, address, list, operation, seen, time},
    harness::{ANN, GRAPH, Service, World, eventually},
};

const ACCOUNT: &str = "111111111111";
const HOME: &str = "198.51.100.1";
const ABROAD: &str = "203.0.113.66";
const AGENT: &str = "python-requests/2.31";

/// A day that ended some hours ago, begun on the hour.
pub(crate) fn begin() -> i64 {
    let now = SystemClock.now().0;
    now - now.rem_euclid(MICROS_PER_HOUR) - 30 * MICROS_PER_HOUR
}

async fn start(service: &Service, begin: i64) -> String {
    start_of(service, begin, api::StartInvestigationRequest { entity_arn: ANN.to_owned(), ..api::StartInvestigationRequest::default() }).await
}

pub(crate) async fn start_of(service: &Service, begin: i64, request: api::StartInvestigationRequest) -> String {
    let at = |time: i64| Some(time_to_proto(Timestamp(time)));
    let request = api::StartInvestigationRequest {
        graph_arn: GRAPH.to_owned(),
        scope: Some(TimeRange { start_time: at(begin), end_time: at(begin + MICROS_PER_DAY) }),
        ..request
    };
    service.client("detective:StartInvestigation", GRAPH).start_investigation(request).await.unwrap().into_inner().investigation_id
}

fn event(at: i64, actor: &str, (service, operation): (&str, &str), address: &str) -> Event {
    Event {
        id: format!("{at}"),
        kind: RecordKind::Cloudtrail.into(),
        time: time(at),
        actor: Some(EntityKey { r#type: EntityType::User.into(), id: actor.to_owned() }),
        service: format!("{service}.amazonaws.com"),
        operation: operation.to_owned(),
        address: address.to_owned(),
        rules: rules(operation),
        ..Event::default()
    }
}

/// The rules that matched calls of an operation.
fn rules(operation: &str) -> Vec<MatchedRule> {
    let rule = |tactic: &str, technique: &str, only_if_new| MatchedRule {
        title: format!("Done: {operation}"),
        level: "medium".to_owned(),
        tactics: vec![tactic.to_owned()],
        techniques: vec![technique.to_owned()],
        only_if_new,
        ..MatchedRule::default()
    };
    match operation {
        "StopLogging" => vec![rule("Defense Evasion", "T1562.008", false)],
        "CreateAccessKey" => vec![rule("Persistence", "T1098.001", true), rule("Persistence", "T1098.001", false)],
        "GetSecretValue" => vec![rule("Credential Access", "T1555.006", false)],
        "CreateUser" => vec![rule("Persistence", "T1136.003", true)],
        "ListBuckets" => vec![rule("Discovery", "T1619", true)],
        _ => Vec::new(),
    }
}

/// A stolen key: from another country an hour after the last call at home.
pub(crate) fn tell_attack(told: &mut Told, begin: i64) {
    let hour = |hour: i64| begin + hour * MICROS_PER_HOUR;
    told.profiles.insert(
        ANN.to_owned(),
        EntityProfile {
            baseline_days: 45,
            operations: list(vec![
                operation("s3", "ListBuckets", 3, false),
                operation("iam", "CreateAccessKey", 5, false),
                operation("iam", "CreateUser", 1, true),
                operation("secretsmanager", "GetSecretValue", 40, false),
                operation("cloudtrail", "StopLogging", 2, true),
            ]),
            addresses: list(vec![address(HOME, "DE", (hour(1), hour(9))), address(ABROAD, "BR", (hour(10), hour(11)))]),
            countries: list(vec![seen("DE", 20, false), seen("BR", 10, true)]),
            networks: list(vec![seen("Example Cloud", 10, true)]),
            user_agents: list(vec![seen(AGENT, 10, true), seen("aws-cli/2", 20, false)]),
            ..EntityProfile::default()
        },
    );
    let account = EntityProfile {
        baseline_days: 45,
        countries: list(vec![seen("BR", 10, true)]),
        user_agents: list(vec![seen(AGENT, 30, false)]),
        ..EntityProfile::default()
    };
    told.profiles.insert(ACCOUNT.to_owned(), account);
    let failed = |event: Event| Event { error: "AccessDenied".to_owned(), ..event };
    told.events = vec![
        event(hour(11), ANN, ("cloudtrail", "StopLogging"), ABROAD),
        failed(event(hour(11) - 1, ANN, ("cloudtrail", "StopLogging"), ABROAD)),
        event(hour(11) - 2, ANN, ("secretsmanager", "GetSecretValue"), ABROAD),
        event(hour(11) - 3, ANN, ("iam", "CreateAccessKey"), ABROAD),
        event(hour(11) - 4, ANN, ("iam", "CreateAccessKey"), ABROAD),
        // Done to her by another, and not by her.
        event(hour(11) - 5, "arn:aws:iam::111111111111:user/carl", ("iam", "CreateAccessKey"), HOME),
        event(hour(11) - 6, ANN, ("iam", "CreateAccessKey"), ABROAD),
        failed(event(hour(11) - 7, ANN, ("iam", "CreateUser"), ABROAD)),
        event(hour(10), ANN, ("s3", "ListBuckets"), ABROAD),
        event(hour(9), ANN, ("s3", "ListBuckets"), HOME),
        event(hour(-1), ANN, ("cloudtrail", "StopLogging"), HOME),
    ];
    let entity = |kind: EntityType, id: &str| EntityKey { r#type: kind.into(), id: id.to_owned() };
    let named = |id: &str, kind: &str| FindingSummary {
        id: id.to_owned(),
        r#type: kind.to_owned(),
        entities: vec![entity(EntityType::User, ANN), entity(EntityType::IpAddress, ABROAD)],
        ..crate::graph::finding("1", 8.0, ANN)
    };
    told.findings = vec![
        named("finding/1", "UnauthorizedAccess:IAMUser/TorIPCaller"),
        // Told by the calls.
        named("gumshoe:rule:x:2024-05-01:y", "DefenseEvasion:CloudTrail/ATrailWasStopped"),
    ];
}

fn technique(tactic: &str, technique: &str, api_name: &str, (successes, failures): (u64, u64)) -> (String, String, String, String, u64, u64) {
    (tactic.to_owned(), technique.to_owned(), api_name.to_owned(), ABROAD.to_owned(), successes, failures)
}

/// Checks what is found in the attack.
fn check_attack(indicators: &[api::Indicator]) {
    let mut techniques = Vec::new();
    let mut others = Vec::new();
    for indicator in indicators {
        match indicator.detail.clone().unwrap() {
            Detail::TtpsObserved(detail) => {
                assert!(!detail.procedure.is_empty());
                techniques.push((detail.tactic, detail.technique, detail.api_name, detail.ip_address, detail.api_success_count, detail.api_failure_count));
            }
            detail => others.push(detail),
        }
    }
    assert_eq!(
        techniques,
        [
            technique("Defense Evasion", "T1562.008", "StopLogging", (1, 1)),
            technique("Persistence", "T1098.001", "CreateAccessKey", (3, 0)),
            technique("Credential Access", "T1555.006", "GetSecretValue", (1, 0)),
            technique("Persistence", "T1136.003", "CreateUser", (0, 1)),
        ]
    );
    let text = |text: &str| text.to_owned();
    assert_eq!(
        others,
        [
            Detail::ImpossibleTravel(api::ImpossibleTravelDetail {
                starting_ip_address: text(HOME),
                ending_ip_address: text(ABROAD),
                starting_location: text("DE"),
                ending_location: text("BR"),
                hourly_time_delta: 1,
            }),
            Detail::NewGeolocation(api::NewGeolocationDetail { location: text("BR"), ip_address: text(ABROAD), is_new_for_entire_account: true }),
            Detail::NewAso(api::NewAsoDetail { aso: text("Example Cloud"), is_new_for_entire_account: false }),
            Detail::NewUserAgent(api::NewUserAgentDetail { user_agent: text(AGENT), is_new_for_entire_account: false }),
            Detail::RelatedFinding(api::RelatedFindingDetail {
                arn: text("finding/1"),
                r#type: text("UnauthorizedAccess:IAMUser/TorIPCaller"),
                ip_address: text(ABROAD),
            }),
        ]
    );
}

#[tokio::test]
async fn an_attack_is_told_with_all_its_indicators() {
    let service = Service::start().await;
    let begin = begin();
    tell_attack(&mut service.world.graph.told(), begin);
    let id = start(&service, begin).await;
    let found = service.finished(&id).await;
    assert_eq!((found.status(), found.severity()), (api::InvestigationStatus::Successful, api::InvestigationSeverity::Critical));
    assert_eq!((found.principals_done, found.principals_total, found.principals_left_out), (1, 1, 0));
    let indicators = service.indicators(&id).await;
    check_attack(&indicators);
    let ann = Some(EntityKey { r#type: EntityType::User.into(), id: ANN.to_owned() });
    assert!(indicators.iter().all(|indicator| indicator.principal == ann));
    let explained = service.explained(&id).await;
    assert_eq!(explained.points, explained.reasons.iter().map(|reason| reason.points).sum::<u32>());
    assert_eq!((explained.principals.len(), &explained.principals[0].entity, &explained.principals[0].reasons), (1, &ann, &explained.reasons));
    let reason = |text: &str| explained.reasons.iter().any(|reason| reason.description.contains(text));
    assert!(reason("T1562.008 (Defense Evasion)") && reason("new country BR, also for the account") && reason("calls from DE and BR"), "{explained:?}");
    assert_eq!(service.world.graph.told().asked_rules, ["*"], "only what rules matched is asked for");

    let request = api::ListIndicatorsRequest { graph_arn: GRAPH.to_owned(), investigation_id: id, page_size: 2, ..api::ListIndicatorsRequest::default() };
    for kind in [None, Some(api::IndicatorType::TtpObserved), Some(api::IndicatorType::NewAso), Some(api::IndicatorType::FlaggedIpAddress)] {
        let request = api::ListIndicatorsRequest { r#type: kind.map_or(0, i32::from), ..request.clone() };
        let (mut walked, mut token) = (Vec::new(), String::new());
        loop {
            let page = api::ListIndicatorsRequest { page_token: token, ..request.clone() };
            let page = service.client("detective:ListIndicators", GRAPH).list_indicators(page).await.unwrap().into_inner();
            walked.extend(page.indicators);
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        let expected: Vec<_> = indicators.iter().filter(|indicator| kind.is_none_or(|kind| indicator.r#type() == kind)).cloned().collect();
        assert_eq!(walked, expected, "{kind:?}");
    }
}

#[tokio::test]
async fn work_waits_while_the_graph_service_is_down() {
    let service = Service::start().await;
    let begin = begin();
    tell_attack(&mut service.world.graph.told(), begin);
    service.world.graph.down().await;
    let id = start(&service, begin).await;
    // More often than an investigation may fail otherwise.
    service.world.graph.up().await;
    service.world.graph.told().failure = Some(Status::from(status::unavailable("the lake")));
    eventually("four attempts", async || Some(()).filter(|()| service.world.graph.told().calls >= 4)).await;
    assert_eq!(service.get(&id).await.status(), api::InvestigationStatus::Running);
    service.world.graph.told().failure = None;
    assert_eq!(service.finished(&id).await.status(), api::InvestigationStatus::Successful);
    check_attack(&service.indicators(&id).await);
}

#[tokio::test]
async fn patience_with_the_graph_service_ends() {
    let world = Arc::new(World::new().await);
    let service = world.serve(|config| config.investigations.patience_seconds = 2).await;
    world.graph.down().await;
    let id = start(&service, begin()).await;
    let found = service.finished(&id).await;
    assert_eq!((found.status(), found.severity()), (api::InvestigationStatus::Failed, api::InvestigationSeverity::Unspecified));
}

#[tokio::test]
async fn three_failed_attempts_are_enough() {
    let service = Service::start().await;
    service.world.graph.told().failure = Some(Status::from(status::internal(&std::io::Error::other("as told"))));
    let id = start(&service, begin()).await;
    assert_eq!(service.finished(&id).await.status(), api::InvestigationStatus::Failed);
    assert_eq!(service.world.graph.told().calls, 3);
    assert_eq!(service.indicators(&id).await, []);
    // It does not stand in the way of others.
    service.world.graph.told().failure = None;
    let id = start(&service, begin()).await;
    assert_eq!(service.finished(&id).await.status(), api::InvestigationStatus::Successful);
}

#[tokio::test]
async fn work_that_a_crash_cut_off_is_done_once_by_another() {
    let world = Arc::new(World::new().await);
    let begin = begin();
    tell_attack(&mut world.graph.told(), begin);
    let first = world.serve(|config| config.investigations.lease_seconds = 1).await;
    world.graph.stall(true);
    let id = start(&first, begin).await;
    eventually("the work begins", async || Some(()).filter(|()| world.graph.told().calls > 0)).await;
    first.crash().await;
    let second = world.serve(|config| config.investigations.lease_seconds = 1).await;
    assert_eq!(second.get(&id).await.status(), api::InvestigationStatus::Running);
    world.graph.stall(false);
    assert_eq!(second.finished(&id).await.status(), api::InvestigationStatus::Successful);
    check_attack(&second.indicators(&id).await);
}

#[tokio::test]
async fn work_is_given_up_at_shutdown_and_taken_up_at_once() {
    let world = Arc::new(World::new().await);
    let begin = begin();
    tell_attack(&mut world.graph.told(), begin);
    // Nobody waits for this lease to end.
    let first = world.serve(|config| config.investigations.lease_seconds = 3_600).await;
    world.graph.stall(true);
    let id = start(&first, begin).await;
    eventually("the work begins", async || Some(()).filter(|()| world.graph.told().calls > 0)).await;
    first.stop().await;
    world.graph.stall(false);
    let second = world.serve(|config| config.investigations.lease_seconds = 3_600).await;
    assert_eq!(second.finished(&id).await.status(), api::InvestigationStatus::Successful);
    check_attack(&second.indicators(&id).await);
}

#[tokio::test]
async fn replicas_share_the_work() {
    let world = Arc::new(World::new().await);
    let begin = begin();
    tell_attack(&mut world.graph.told(), begin);
    let one = world.serve(|config| config.investigations.parallel = 1).await;
    let other = world.serve(|config| config.investigations.parallel = 1).await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(start(&one, begin).await);
    }
    for id in &ids {
        assert_eq!(one.finished(id).await.status(), api::InvestigationStatus::Successful);
        check_attack(&other.indicators(id).await);
    }
    other.stop().await;
    one.stop().await;
}
