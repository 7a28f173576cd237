//! Profiles against a recount of the records.

use gumshoe_api::{
    convert::{time_to_proto, window_to_proto},
    graph::v1::{EntityProfile, GetEntityProfileRequest},
};
use gumshoe_model::TimeWindow;
use tonic::Code;

use crate::{
    fixture::{Call, Fixture, Who, entity, finding_arn, key, lines, role_arn, session_id, time, user_arn, window},
    recount::{Sum, expect, found},
    refuse::refused,
    world,
};

async fn profile(fixture: &Fixture, of: &str, scope: Option<TimeWindow>) -> EntityProfile {
    let request = GetEntityProfileRequest { graph_arn: fixture.arn(), entity: entity(of), scope: scope.map(window_to_proto), list_size: 1_000 };
    fixture.reader.clone().get_entity_profile(request).await.unwrap().into_inner().profile.unwrap()
}

#[tokio::test]
async fn profiles_of_every_type_agree_with_a_recount() {
    let fixture = Fixture::start().await;
    world::fill(&fixture).await;
    let events = fixture.events();
    let scope = window(world::SCOPE.0, world::SCOPE.1);
    let mut nonempty = std::collections::BTreeSet::new();
    for of in [
        "account:111122223333".to_owned(),
        "account:444455556666".to_owned(),
        format!("user:{}", user_arn("alice")),
        format!("user:{}", user_arn("bob")),
        format!("role:{}", role_arn("deploy")),
        format!("role:{}", role_arn("audit")),
        format!("role_session:{}", session_id("deploy", "ci")),
        format!("role_session:{}", session_id("deploy", "alice")),
        format!("role_session:{}", session_id("audit", "chained")),
        "federated_user:alice@corp.example".to_owned(),
        "aws_service:s3.amazonaws.com".to_owned(),
        "aws_service:sts.amazonaws.com".to_owned(),
        "access_key:AKIAALICE".to_owned(),
        "access_key:ASIACHAINED".to_owned(),
        "ip_address:198.51.100.1".to_owned(),
        "ip_address:203.0.113.77".to_owned(),
        "ip_address:2001:db8::5".to_owned(),
        "ip_address:10.0.0.9".to_owned(),
        "user_agent:aws-cli/2.1".to_owned(),
        "user_agent:100%_real\\agent".to_owned(),
        "s3_bucket:alpha".to_owned(),
        "s3_bucket:gamma_1".to_owned(),
        "network_interface:eni-1".to_owned(),
        "ec2_instance:i-1".to_owned(),
    ] {
        let profile = profile(&fixture, &of, Some(scope)).await;
        let expected = expect(&events, &key(&of), scope.to_hours());
        assert_eq!(found(&profile), expected, "{of}");
        assert!(expected.totals.successes + expected.totals.failures > 0 || of.starts_with("federated"), "{of} is idle: the test says nothing");
        nonempty.extend(expected.lists.keys().copied());
        assert_eq!(profile.scope, Some(window_to_proto(scope.to_hours())));
        assert_eq!(profile.baseline, Some(window_to_proto(window("2024-05-16T10:00:00Z", "2024-06-30T10:00:00Z"))));
    }
    assert_eq!(nonempty.len(), 9, "every list was met: {nonempty:?}");
    fixture.stop().await;
}

#[tokio::test]
async fn newness_ends_at_the_baselines_borders() {
    let fixture = Fixture::start().await;
    let call = |id: &str, time: &str, operation: &'static str| Call { operation, ..Call::new(id, time, Who::User("alice")) }.json();
    fixture
        .commit_calls(
            "b",
            &[
                call("1", "2024-05-16T09:59:59Z", "BeforeBaseline"),
                call("2", "2024-05-16T10:00:00Z", "FirstOfBaseline"),
                call("3", "2024-06-30T09:59:59Z", "LastOfBaseline"),
                call("4", "2024-06-30T10:00:00Z", "BeforeBaseline"),
                call("5", "2024-06-30T10:00:00Z", "FirstOfBaseline"),
                call("6", "2024-06-30T10:00:00Z", "LastOfBaseline"),
                call("7", "2024-06-30T10:00:00Z", "Never"),
            ],
        )
        .await;
    let profile = profile(&fixture, &format!("user:{}", user_arn("alice")), Some(window("2024-06-30T10:00:00Z", "2024-06-30T11:00:00Z"))).await;
    let operations = profile.operations.unwrap();
    let new: Vec<_> = operations.items.iter().filter(|item| item.new_in_scope).map(|item| item.name.as_str()).collect();
    assert_eq!(new, ["BeforeBaseline", "Never"]);
    assert_eq!((operations.total, operations.total_new), (4, 2));
    assert_eq!(profile.baseline_days, 2);
    assert_eq!(profile.first_time, Some(time_to_proto(time("2024-05-16T09:59:59Z"))));
    assert_eq!(profile.last_time, Some(time_to_proto(time("2024-06-30T10:00:00Z"))));
    assert_eq!((profile.name.as_str(), profile.account_id.as_str(), profile.aliases.as_slice()), ("alice", "111122223333", &["AIDAALICE".to_owned()][..]));
    fixture.stop().await;
}

#[tokio::test]
async fn default_scope_is_the_day_up_to_the_last_record() {
    let fixture = Fixture::start().await;
    let call = |id: &str, time: &str| Call::new(id, time, Who::User("alice")).json();
    fixture.commit_calls("b", &[call("1", "2024-06-29T13:59:59Z"), call("2", "2024-06-29T14:00:00Z"), call("3", "2024-06-30T13:20:00Z")]).await;
    let profile = profile(&fixture, &format!("user:{}", user_arn("alice")), None).await;
    assert_eq!(profile.scope, Some(window_to_proto(window("2024-06-29T14:00:00Z", "2024-06-30T14:00:00Z"))));
    assert_eq!(Sum::of(profile.totals.as_ref()).successes, 2);
    fixture.stop().await;
}

#[tokio::test]
async fn lists_are_cut_to_the_most_frequent_and_counted_whole() {
    let fixture = Fixture::start().await;
    let mut records = Vec::new();
    for agent in 0..30 {
        for call in 0..=agent {
            records
                .push(Call { user_agent: format!("agent/{agent}"), ..Call::new(format!("{agent}-{call}"), "2024-06-30T10:00:00Z", Who::User("alice")) }.json());
        }
    }
    fixture.commit_calls("b", &records).await;
    let request = GetEntityProfileRequest { graph_arn: fixture.arn(), entity: entity(&format!("user:{}", user_arn("alice"))), scope: None, list_size: 3 };
    let profile = fixture.reader.clone().get_entity_profile(request).await.unwrap().into_inner().profile.unwrap();
    let agents = profile.user_agents.unwrap();
    assert_eq!(agents.items.iter().map(|item| item.name.as_str()).collect::<Vec<_>>(), ["agent/29", "agent/28", "agent/27"]);
    assert_eq!((agents.total, agents.total_new), (30, 30));
    fixture.stop().await;
}

#[tokio::test]
async fn findings_stand_beside_the_entities_they_affect() {
    let fixture = Fixture::start().await;
    let detections = crate::findings::detections();
    fixture.commit("f", "s3://findings/1.jsonl", &lines(&detections.iter().map(crate::fixture::Detection::json).collect::<Vec<_>>())).await;
    let profile = profile(&fixture, &format!("user:{}", user_arn("alice")), Some(window("2024-06-30T00:00:00Z", "2024-07-01T00:00:00Z"))).await;
    let ids: Vec<_> = profile.findings.iter().map(|finding| finding.id.clone()).collect();
    assert_eq!(ids, [finding_arn("worst"), finding_arn("late"), finding_arn("archived")]);
    assert_eq!(Sum::of(profile.totals.as_ref()).successes, 0, "a finding is no activity");
    fixture.stop().await;
}

#[tokio::test]
async fn refuses_what_it_cannot_answer() {
    let fixture = Fixture::start().await;
    fixture.commit_calls("b", &[Call::new("1", "2024-06-30T10:00:00Z", Who::User("alice")).json()]).await;
    let good = GetEntityProfileRequest { graph_arn: fixture.arn(), entity: entity(&format!("user:{}", user_arn("alice"))), scope: None, list_size: 0 };
    let ask = |request: GetEntityProfileRequest| {
        let mut reader = fixture.reader.clone();
        async move { reader.get_entity_profile(request).await.map(|_| ()).unwrap_err() }
    };
    refused(&ask(GetEntityProfileRequest { entity: entity("user:nobody"), ..good.clone() }).await, Code::NotFound, "NOT_FOUND", &[]);
    refused(&ask(GetEntityProfileRequest { entity: None, ..good.clone() }).await, Code::InvalidArgument, "INVALID_FIELD", &["entity"]);
    refused(&ask(GetEntityProfileRequest { list_size: -1, ..good.clone() }).await, Code::InvalidArgument, "INVALID_FIELD", &["list_size"]);
    refused(&ask(GetEntityProfileRequest { list_size: 1_001, ..good.clone() }).await, Code::InvalidArgument, "INVALID_FIELD", &["list_size"]);
    let long = window_to_proto(window("2023-01-01T00:00:00Z", "2024-01-02T01:00:00Z"));
    refused(&ask(GetEntityProfileRequest { scope: Some(long), ..good.clone() }).await, Code::InvalidArgument, "INVALID_FIELD", &["scope"]);
    let mut turned = window_to_proto(window("2023-01-01T00:00:00Z", "2023-01-02T00:00:00Z"));
    std::mem::swap(&mut turned.start_time, &mut turned.end_time);
    refused(&ask(GetEntityProfileRequest { scope: Some(turned), ..good.clone() }).await, Code::InvalidArgument, "INVALID_FIELD", &["scope"]);
    turned.end_time = None;
    refused(&ask(GetEntityProfileRequest { scope: Some(turned), ..good }).await, Code::InvalidArgument, "INVALID_FIELD", &["scope.end_time"]);
    fixture.stop().await;
}
