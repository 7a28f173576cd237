//! `WatchRisk`: the present first, then each change, until the server ends.

use std::time::Duration;

use gumshoe_api::graph::v1::{Risk, WatchRiskRequest, WatchRiskResponse};
use tonic::{Code, Streaming};

use crate::{
    fixture::{Call, Fixture, Who, entity, lines, name},
    hot::{ago, finding, user},
    refuse::refused,
};

async fn watch(fixture: &Fixture, of: &[String], min_level: &str) -> Streaming<WatchRiskResponse> {
    let entities = of.iter().map(|of| entity(of).unwrap()).collect();
    let request = WatchRiskRequest { graph_arn: fixture.arn(), entities, min_level: min_level.to_owned() };
    fixture.reader.clone().watch_risk(request).await.unwrap().into_inner()
}

async fn next(stream: &mut Streaming<WatchRiskResponse>) -> Risk {
    let message = tokio::time::timeout(Duration::from_secs(20), stream.message()).await.expect("a change in time");
    message.unwrap().unwrap().risk.unwrap()
}

async fn commit_finding(fixture: &Fixture, id: &str, user: &str, severity: f64, archived: bool) {
    let hours = if archived { 0.1 } else { 1.0 };
    let batch = format!("{id}-{archived}");
    fixture.commit(&batch, &format!("s3://findings/{batch}.jsonl"), &lines(&[finding(id, user, severity, hours, archived)])).await;
}

#[tokio::test]
async fn changes_follow_the_present() {
    let fixture = Fixture::start().await;
    commit_finding(&fixture, "old", "alice", 5.0, false).await;
    let entities = [user("alice"), user("bob"), user("alice")];
    let mut stream = watch(&fixture, &entities, "").await;
    let (first, second) = (next(&mut stream).await, next(&mut stream).await);
    assert_eq!([name(first.entity.as_ref()), name(second.entity.as_ref())], [user("alice"), user("bob")]);
    assert!(first.score > 0.0);
    assert_eq!(second.score, 0.0);

    // What touches neither is not told.
    commit_finding(&fixture, "other", "carol", 8.0, false).await;
    commit_finding(&fixture, "new", "bob", 8.0, false).await;
    let change = next(&mut stream).await;
    assert_eq!((name(change.entity.as_ref()), change.parts.len()), (user("bob"), 1));
    // Of several changes that nobody has read, the last.
    for id in ["n1", "n2", "n3"] {
        commit_finding(&fixture, id, "bob", 8.0, false).await;
    }
    let mut change = next(&mut stream).await;
    while change.parts.len() < 4 {
        change = next(&mut stream).await;
    }
    assert_eq!(name(change.entity.as_ref()), user("bob"));
    fixture.stop().await;
}

#[tokio::test]
async fn a_level_lets_entities_in_and_out() {
    let fixture = Fixture::start().await;
    for id in ["a", "b", "c"] {
        commit_finding(&fixture, id, "alice", 9.0, false).await;
    }
    commit_finding(&fixture, "d", "bob", 2.0, false).await;
    let mut stream = watch(&fixture, &[], "medium").await;
    // The user and all that the findings name beside it.
    let mut seen = vec![next(&mut stream).await];
    while !seen.iter().any(|risk| name(risk.entity.as_ref()) == user("alice")) {
        seen.push(next(&mut stream).await);
    }
    assert!(seen.iter().all(|risk| risk.level == "medium"), "{seen:?}");

    for id in ["a", "b", "c"] {
        commit_finding(&fixture, id, "alice", 9.0, true).await;
    }
    loop {
        let change = next(&mut stream).await;
        if name(change.entity.as_ref()) == user("alice") && change.score == 0.0 {
            break;
        }
    }
    for id in ["e", "f", "g"] {
        commit_finding(&fixture, id, "carol", 9.0, false).await;
    }
    loop {
        let change = next(&mut stream).await;
        assert_ne!(name(change.entity.as_ref()), user("bob"), "below the level");
        if name(change.entity.as_ref()) == user("carol") {
            assert_eq!(change.level, "medium");
            break;
        }
    }
    fixture.stop().await;
}

#[tokio::test]
async fn the_end_of_the_server_is_told_at_once() {
    let fixture = Fixture::start().await;
    fixture.commit_calls("b", &[Call::new("1", &ago(1.0), Who::User("alice")).json()]).await;
    let mut stream = watch(&fixture, &[user("alice")], "").await;
    next(&mut stream).await;
    fixture.begin_stop();
    let status = tokio::time::timeout(Duration::from_secs(10), stream.message()).await.expect("an end in time").unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    drop(stream);
    fixture.stop().await;
}

#[tokio::test]
async fn refuses_wrong_fields() {
    let fixture = Fixture::start().await;
    let many = vec![entity("user:x").unwrap(); 1_001];
    for (entities, level, field) in [
        (vec![], "", "entities"),
        (vec![], "informational", "min_level"),
        (vec![], "HIGH", "min_level"),
        (vec![entity("user:x").unwrap()], "high", "min_level"),
        (many, "", "entities"),
    ] {
        let request = WatchRiskRequest { graph_arn: fixture.arn(), entities, min_level: level.to_owned() };
        let status = fixture.reader.clone().watch_risk(request).await.unwrap_err();
        refused(&status, Code::InvalidArgument, "INVALID_FIELD", &[field]);
    }
    fixture.stop().await;
}
