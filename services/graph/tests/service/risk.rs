//! Risk, recomputed by hand from the published formula.

use gumshoe_api::{
    convert::time_to_proto,
    graph::v1::{BatchGetRiskRequest, GetEntityProfileRequest, GetRiskRequest, Risk},
};
use gumshoe_model::Timestamp;
use tonic::Code;

use crate::{
    findings::detections,
    fixture::{Call, Detection, Fixture, Who, entity, finding_arn, lines, name, time, user_arn},
    refuse::refused,
};

/// What the weights of all parts add up to.
const ZETA: f64 = 2.612_375_348_685_488;
const NOW: &str = "2024-06-30T21:00:30Z";

async fn risk(fixture: &Fixture, of: &str, at: &str) -> Risk {
    let request = GetRiskRequest { graph_arn: fixture.arn(), entity: entity(of), time: Some(time_to_proto(time(at))) };
    fixture.reader.clone().get_risk(request).await.unwrap().into_inner().risk.unwrap()
}

/// Half a week of quiet days, so that alice is known for 20 days.
fn quiet() -> Vec<serde_json::Value> {
    (1..=20).map(|day| Call::new(format!("quiet-{day}"), &format!("2024-06-{day:02}T08:00:00Z"), Who::User("alice")).json()).collect()
}

fn faded(score: f64, last: Timestamp, now: Timestamp) -> f64 {
    score * (-((now.0 - last.0) as f64 / 86_400e6) / 7.0).exp2()
}

fn combined(mut scores: Vec<f64>) -> f64 {
    scores.sort_by(|one, other| other.total_cmp(one));
    scores.iter().enumerate().map(|(index, score)| score / (index as f64 + 1.0).powf(1.5)).sum::<f64>() / ZETA
}

#[tokio::test]
async fn findings_newness_and_failures_make_the_published_score() {
    let fixture = Fixture::start().await;
    fixture.commit_calls("quiet", &quiet()).await;
    let values: Vec<_> = detections().iter().map(Detection::json).collect();
    fixture.commit("f", "s3://findings/1.jsonl", &lines(&values)).await;
    let alice = format!("user:{}", user_arn("alice"));
    let now = time("2024-06-30T21:00:00Z");

    // Findings alone: two that are neither archived nor older than 30 days.
    let findings = [faded(80.0, time("2024-06-30T11:40:00Z"), now), faded(50.0, time("2024-06-30T20:00:00Z"), now)];
    let before = risk(&fixture, &alice, NOW).await;
    assert!((before.score - combined(findings.to_vec())).abs() < 1e-6, "{before:?}");
    assert_eq!(before.parts.iter().map(|part| part.source.as_str()).collect::<Vec<_>>(), ["finding", "finding"]);
    assert_eq!(before.parts[0].evidence, [finding_arn("worst")]);
    assert_eq!(before.time, Some(time_to_proto(now)), "rounded down to the minute");

    // Four new failing calls from a new address with a new agent.
    let last = "2024-06-30T20:30:00Z";
    let calls: Vec<_> = (0..4)
        .map(|number| {
            Call {
                operation: "DeleteBucket",
                error: "AccessDenied",
                address: "203.0.113.66".to_owned(),
                user_agent: "evil/1".to_owned(),
                ..Call::new(format!("c{number}"), last, Who::User("alice"))
            }
            .json()
        })
        .collect();
    fixture.commit_calls("calls", &calls).await;
    let after = risk(&fixture, &alice, NOW).await;
    // 4 of 4 failed; before, 0 of 20: (0 + 1) / (20 + 20).
    let usual: f64 = 1.0 / 40.0;
    let surprise = 4.0 * (1.0 / usual).ln();
    let failures = 60.0 * (1.0 - (-surprise / 10.0).exp());
    let seen = time(last);
    let mut scores = findings.to_vec();
    scores.extend([failures, 15.0, 10.0, 5.0].map(|score| faded(score, seen, now)));
    assert!((after.score - combined(scores)).abs() < 1e-6, "{after:?}");
    let mut sources: Vec<_> = after.parts.iter().map(|part| part.source.as_str()).collect();
    sources.sort_unstable();
    assert_eq!(sources, ["failures", "finding", "finding", "new_address", "new_operation", "new_user_agent"]);
    let part = |source: &str| after.parts.iter().find(|part| part.source == source).unwrap();
    assert_eq!(part("new_operation").evidence, ["s3.amazonaws.com DeleteBucket"]);
    assert_eq!(part("new_address").description, "new address 203.0.113.66");
    assert_eq!(part("failures").evidence, ["s3.amazonaws.com DeleteBucket"]);
    let whole: f64 = after.parts.iter().map(|part| part.contribution).sum::<f64>() + after.rest;
    assert!((whole - after.score).abs() < 1e-9);
    assert_eq!(after.level, "medium");

    // A month and a day later the findings are out of sight and nothing is new.
    assert_eq!(risk(&fixture, &alice, "2024-08-01T21:00:00Z").await.score, 0.0);
    fixture.stop().await;
}

#[tokio::test]
async fn a_resource_that_was_never_touched_is_a_fact() {
    let fixture = Fixture::start().await;
    let touch = |id: &str, time: &str, bucket: &str| {
        let request = serde_json::json!({ "bucketName": bucket });
        Call { operation: "GetBucketAcl", request, ..Call::new(id, time, Who::User("alice")) }.json()
    };
    let mut calls = quiet();
    calls.push(touch("known", "2024-06-10T08:00:00Z", "alpha"));
    calls.extend([touch("again", "2024-06-30T20:00:00Z", "alpha"), touch("new", "2024-06-30T20:30:00Z", "vault")]);
    fixture.commit_calls("calls", &calls).await;
    let found = risk(&fixture, &format!("user:{}", user_arn("alice")), NOW).await;
    let parts: Vec<_> = found.parts.iter().map(|part| (part.source.as_str(), part.description.as_str())).collect();
    assert_eq!(parts, [("new_resource", "new resource vault")]);
    fixture.stop().await;
}

#[tokio::test]
async fn training_says_so_and_counts_nothing_without_a_baseline() {
    let fixture = Fixture::start().await;
    fixture.commit_calls("b", &[Call::new("1", "2024-06-30T20:00:00Z", Who::User("alice")).json()]).await;
    let risk = risk(&fixture, &format!("user:{}", user_arn("alice")), NOW).await;
    assert_eq!((risk.score, risk.level.as_str(), risk.parts.len()), (0.0, "informational", 0));
    fixture.stop().await;
}

#[tokio::test]
async fn batches_answer_in_the_order_asked_for() {
    let fixture = Fixture::start().await;
    fixture.commit_calls("quiet", &quiet()).await;
    let values: Vec<_> = detections().iter().map(Detection::json).collect();
    fixture.commit("f", "s3://findings/1.jsonl", &lines(&values)).await;
    let wanted = ["user:nobody".to_owned(), format!("user:{}", user_arn("bob")), format!("user:{}", user_arn("alice")), "user:nobody".to_owned()];
    let request =
        BatchGetRiskRequest { graph_arn: fixture.arn(), entities: wanted.iter().map(|of| entity(of).unwrap()).collect(), time: Some(time_to_proto(time(NOW))) };
    let risks = fixture.reader.clone().batch_get_risk(request).await.unwrap().into_inner().risks;
    assert_eq!(risks.iter().map(|risk| name(risk.entity.as_ref())).collect::<Vec<_>>(), wanted);
    for (of, found) in wanted.iter().zip(&risks) {
        assert_eq!(&risk(&fixture, of, NOW).await, found);
    }
    assert_eq!(risks[0].score, 0.0);
    assert!(risks[2].score > risks[1].score && risks[1].score > 0.0);
    fixture.stop().await;
}

#[tokio::test]
async fn refuses_wrong_fields() {
    let fixture = Fixture::start().await;
    let far = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
    let status = fixture.reader.clone().get_risk(GetRiskRequest { graph_arn: fixture.arn(), entity: entity("user:x"), time: far }).await.unwrap_err();
    refused(&status, Code::InvalidArgument, "INVALID_FIELD", &["time"]);
    let status = fixture.reader.clone().get_risk(GetRiskRequest { graph_arn: fixture.arn(), ..Default::default() }).await.unwrap_err();
    refused(&status, Code::InvalidArgument, "INVALID_FIELD", &["entity"]);
    for (count, fields) in [(0, vec!["entities"]), (101, vec!["entities"])] {
        let entities = vec![entity("user:x").unwrap(); count];
        let status = fixture.reader.clone().batch_get_risk(BatchGetRiskRequest { graph_arn: fixture.arn(), entities, time: None }).await.unwrap_err();
        refused(&status, Code::InvalidArgument, "INVALID_FIELD", &fields);
    }
    let entities = vec![entity("user:x").unwrap(), gumshoe_api::common::v1::EntityKey::default()];
    let status = fixture.reader.clone().batch_get_risk(BatchGetRiskRequest { graph_arn: fixture.arn(), entities, time: None }).await.unwrap_err();
    refused(&status, Code::InvalidArgument, "INVALID_FIELD", &["entities[1].type"]);
    fixture.stop().await;
}

#[tokio::test]
async fn who_has_a_new_user_agent_for_every_call_is_marked_for_it() {
    let fixture = Fixture::start().await;
    fixture.commit_calls("quiet", &quiet()).await;
    let calls: Vec<_> = (0..20_500)
        .map(|number| Call { user_agent: format!("agent/{number}"), ..Call::new(format!("c{number}"), "2024-06-30T20:30:00Z", Who::User("alice")) }.json())
        .collect();
    fixture.commit_calls("many", &calls).await;
    let alice = format!("user:{}", user_arn("alice"));
    let found = risk(&fixture, &alice, NOW).await;
    assert_eq!(found.cardinality_capped, ["new_user_agent"]);
    assert!(found.parts.iter().all(|part| part.source != "new_user_agent"), "{found:?}");

    let scope = gumshoe_api::common::v1::TimeRange { start_time: Some(time_to_proto(time("2024-06-30T00:00:00Z"))), end_time: Some(time_to_proto(time(NOW))) };
    let request = GetEntityProfileRequest { graph_arn: fixture.arn(), entity: entity(&alice), scope: Some(scope), list_size: 10 };
    let profile = fixture.reader.clone().get_entity_profile(request).await.unwrap().into_inner().profile.unwrap();
    let agents = profile.user_agents.unwrap();
    assert_eq!((agents.items.len(), agents.total, agents.total_new, agents.cardinality_capped), (10, 20_500, 20_500, true));
    assert!(!profile.operations.unwrap().cardinality_capped);
}
