//! Hot profiles: the risk of the present is what the lake says, after every commit, whatever happens to Redis.

use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use gumshoe_api::{
    convert::time_to_proto,
    graph::v1::{BatchGetRiskRequest, GetRiskRequest, Risk},
};
use gumshoe_graph::Config;
use gumshoe_model::{Timestamp, time::MICROS_PER_HOUR};
use gumshoe_testkit::redis::Redis;
use serde_json::Value;

use crate::fixture::{ACCOUNT, Call, Dice, Fixture, OTHER_ACCOUNT, Who, entity, lines, role_arn, user_arn};

/// A minute that is still to come, so that all answers are as of one time.
pub(crate) fn soon() -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(now.as_secs() / 60 * 60 + 600).unwrap() * 1_000_000)
}

/// So many hours before now, as records write it.
pub(crate) fn ago(hours: f64) -> String {
    let time = Timestamp(soon().0 - (hours * MICROS_PER_HOUR as f64) as i64);
    DateTime::<Utc>::from_timestamp_micros(time.0).unwrap().to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A GuardDuty finding about a user, last seen and updated so many hours ago.
pub(crate) fn finding(id: &str, user: &str, severity: f64, hours: f64, archived: bool) -> Value {
    serde_json::json!({
        "schemaVersion": "2.0", "accountId": ACCOUNT, "region": "us-east-1", "partition": "aws", "id": id,
        "arn": crate::fixture::finding_arn(id), "type": "UnauthorizedAccess:IAMUser/TorIPCaller", "severity": severity,
        "createdAt": ago(hours + 1.0), "updatedAt": ago(hours), "title": id, "description": id,
        "resource": { "resourceType": "AccessKey", "accessKeyDetails": {
            "accessKeyId": format!("AKIA{}", user.to_uppercase()), "principalId": format!("AIDA{}", user.to_uppercase()), "userType": "IAMUser", "userName": user } },
        "service": { "serviceName": "guardduty", "archived": archived, "count": 1, "eventFirstSeen": ago(hours + 1.0), "eventLastSeen": ago(hours),
            "action": { "actionType": "AWS_API_CALL", "awsApiCallAction": { "api": "ListBuckets", "serviceName": "s3.amazonaws.com",
                "remoteIpDetails": { "ipAddressV4": "203.0.113.9" } } } },
    })
}

pub(crate) fn user(name: &str) -> String {
    format!("user:{}", user_arn(name))
}

async fn risk_at(fixture: &Fixture, of: &str, time: Timestamp) -> Risk {
    let request = GetRiskRequest { graph_arn: fixture.arn(), entity: entity(of), time: Some(time_to_proto(time)) };
    fixture.reader.clone().get_risk(request).await.unwrap().into_inner().risk.unwrap()
}

async fn risks(fixture: &Fixture, of: &[String], time: Timestamp) -> Vec<Risk> {
    let entities = of.iter().map(|of| entity(of).unwrap()).collect();
    let request = BatchGetRiskRequest { graph_arn: fixture.arn(), entities, time: Some(time_to_proto(time)) };
    fixture.reader.clone().batch_get_risk(request).await.unwrap().into_inner().risks
}

async fn commit_finding(fixture: &Fixture, batch: &str, value: &Value) {
    fixture.commit(batch, &format!("s3://findings/{batch}.jsonl"), &lines(std::slice::from_ref(value))).await;
}

/// What a service says that has nothing in memory and no Redis.
async fn out_of_the_lake(fixture: &Fixture, of: &[String], time: Timestamp) -> Vec<Risk> {
    let fresh = fixture.replica_with(|config| config.profiles.url = "memory://".to_owned().into()).await;
    let found = risks(&fresh, of, time).await;
    fresh.stop().await;
    found
}

#[tokio::test]
async fn a_commit_is_seen_as_soon_as_it_is_acknowledged() {
    let fixture = Fixture::start().await;
    let (alice, time) = (user("alice"), soon());
    assert_eq!(risk_at(&fixture, &alice, time).await.score, 0.0);
    commit_finding(&fixture, "f1", &finding("one", "alice", 8.0, 1.0, false)).await;
    let first = risk_at(&fixture, &alice, time).await;
    assert!(first.score > 20.0, "{first:?}");
    commit_finding(&fixture, "f2", &finding("two", "alice", 8.0, 0.5, false)).await;
    let second = risk_at(&fixture, &alice, time).await;
    assert!(second.score > first.score);
    // An older update of the same finding changes nothing, a later one takes it away.
    commit_finding(&fixture, "f3", &finding("two", "alice", 2.0, 3.0, true)).await;
    assert_eq!(risk_at(&fixture, &alice, time).await.score, second.score);
    commit_finding(&fixture, "f4", &finding("two", "alice", 8.0, 0.2, true)).await;
    assert_eq!(risk_at(&fixture, &alice, time).await.parts.len(), 1);

    // Twenty quiet days, committed late, make new addresses news, and the failure of every call.
    let quiet: Vec<Value> = (2..22).map(|day| Call::new(format!("q{day}"), &ago(f64::from(day) * 24.0), Who::User("alice")).json()).collect();
    fixture.commit_calls("quiet", &quiet).await;
    let calls: Vec<Value> = (0..4)
        .map(|number| {
            Call { address: "203.0.113.66".to_owned(), error: "AccessDenied", ..Call::new(format!("c{number}"), &ago(2.0), Who::User("alice")) }.json()
        })
        .collect();
    fixture.commit_calls("calls", &calls).await;
    let last = risk_at(&fixture, &alice, time).await;
    let mut sources: Vec<&str> = last.parts.iter().map(|part| part.source.as_str()).collect();
    sources.sort_unstable();
    assert_eq!(sources, ["failures", "finding", "new_address"], "{last:?}");
    assert_eq!(vec![last], out_of_the_lake(&fixture, &[alice], time).await);
    fixture.stop().await;
}

/// Id, calls if it has any, and findings.
type Batch = (String, Option<Vec<Value>>, Vec<Value>);

/// Batches of calls and findings of the last 50 days, and who they are about.
fn batches(dice: &mut Dice, count: usize) -> (Vec<Batch>, Vec<String>) {
    let hours = [0.1, 3.0, 20.0, 23.9, 24.6, 30.0, 200.0, 700.0, 1_000.0, 1_079.0, 1_090.0, 1_104.0, 1_150.0];
    let users = ["alice", "bob", "carol"];
    let mut number = 0;
    let batches = (0..count).map(|batch| {
        if dice.roll(4) == 0 {
            let found = (0..=dice.roll(2)).map(|_| {
                let (id, user) = (dice.pick(&["f1", "f2", "f3", "f4"]), dice.pick(&users));
                finding(id, user, f64::from(u8::try_from(dice.roll(10)).unwrap()), dice.pick(&[0.2, 5.0, 300.0, 700.0, 800.0]), dice.roll(4) == 0)
            });
            return (format!("b{batch}"), None, found.collect());
        }
        let calls = (0..=dice.roll(12)).map(|_| {
            number += 1;
            let who = if dice.roll(3) == 0 { Who::Session("deploy", dice.pick(&["one", "two"]), None) } else { Who::User(dice.pick(&users)) };
            let mut call = Call {
                service: dice.pick(&["s3.amazonaws.com", "iam.amazonaws.com"]),
                operation: dice.pick(&["ListBuckets", "GetObject", "CreateUser", "DeleteTrail"]),
                address: format!("198.51.100.{}", dice.roll(5)),
                user_agent: format!("agent/{}", dice.roll(4)),
                error: dice.pick(&["", "", "AccessDenied"]),
                access_key: format!("AKIA{:0>16}", dice.roll(3)),
                ..Call::new(format!("{number}"), &ago(dice.pick(&hours)), who)
            }
            .json();
            if dice.roll(5) == 0 {
                call["recipientAccountId"] = OTHER_ACCOUNT.into();
            }
            call
        });
        (format!("b{batch}"), Some(calls.collect()), Vec::new())
    });
    let batches = batches.collect();
    let mut entities: Vec<String> = users.iter().map(|name| user(name)).collect();
    entities.extend([format!("role:{}", role_arn("deploy")), format!("account:{ACCOUNT}"), format!("account:{OTHER_ACCOUNT}")]);
    entities
        .extend(["ip_address:198.51.100.1", "ip_address:203.0.113.9", "user_agent:agent/1", "aws_service:s3.amazonaws.com", "user:nobody"].map(str::to_owned));
    entities.push(format!("access_key:AKIA{:0>16}", 1));
    (batches, entities)
}

#[tokio::test]
async fn commits_in_any_order_give_what_the_lake_says() {
    for seed in [3, 17, 2_024] {
        let fixture = Fixture::start().await;
        let mut dice = Dice::new(seed);
        let (mut batches, entities) = batches(&mut dice, 24);
        for index in (1..batches.len()).rev() {
            batches.swap(index, usize::try_from(dice.roll(index as u64 + 1)).unwrap());
        }
        let time = soon();
        for (index, (batch, calls, findings)) in batches.into_iter().enumerate() {
            match calls {
                Some(calls) => _ = fixture.commit_calls(&batch, &calls).await,
                None => _ = fixture.commit(&batch, &format!("s3://findings/{batch}.jsonl"), &lines(&findings)).await,
            }
            // Some become hot early, others late, and some never before the end.
            let asked = entities.iter().filter(|_| dice.roll(3) == 0).cloned().collect::<Vec<_>>();
            let hot = if asked.is_empty() { Vec::new() } else { risks(&fixture, &asked, time).await };
            if index % 8 == 7 {
                let cold = if asked.is_empty() { Vec::new() } else { out_of_the_lake(&fixture, &asked, time).await };
                assert_eq!(hot, cold, "seed {seed}, batch {index}");
            }
        }
        let hot = risks(&fixture, &entities, time).await;
        assert_eq!(hot, out_of_the_lake(&fixture, &entities, time).await, "seed {seed}");
        assert!(hot.iter().filter(|risk| risk.score > 0.0).count() >= 5, "{hot:?}");
        fixture.stop().await;
    }
}

async fn redis(url: &str) -> redis::aio::MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

async fn keys(url: &str) -> Vec<String> {
    redis::cmd("KEYS").arg("gumshoe:v1:*:hot:risk:2:*").query_async(&mut redis(url).await).await.unwrap()
}

/// Waits for what is written in the background.
async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn redis_may_be_flushed_restarted_slow_or_spoilt() {
    let mut server = Redis::start();
    let url = server.url();
    let fixture = Fixture::with(|config: &mut Config| config.profiles.url = url.clone().into()).await;
    let mut dice = Dice::new(99);
    let (batches, entities) = batches(&mut dice, 24);
    let time = soon();
    let mut batches = batches.into_iter();
    let mut commit = async |count: usize| {
        for (batch, calls, findings) in batches.by_ref().take(count) {
            match calls {
                Some(calls) => _ = fixture.commit_calls(&batch, &calls).await,
                None => _ = fixture.commit(&batch, &format!("s3://findings/{batch}.jsonl"), &lines(&findings)).await,
            }
        }
    };
    let right = async |what: &str| {
        // In this process, and in one that takes what it can out of Redis.
        let expected = out_of_the_lake(&fixture, &entities, time).await;
        assert_eq!(risks(&fixture, &entities, time).await, expected, "{what}");
        let beside = fixture.replica().await;
        assert_eq!(risks(&beside, &entities, time).await, expected, "{what}, beside");
        beside.stop().await;
    };

    until("Redis has started", async || redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.is_ok()).await;
    commit(4).await;
    right("at first").await;
    until("every entity is kept", async || keys(&url).await.len() == entities.len()).await;
    assert!(keys(&url).await.iter().all(|key| key.starts_with(&format!("gumshoe:v1:{{{}}}:hot:risk:2:", fixture.arn.id()))), "on one slot");
    commit(4).await;
    right("written through").await;

    let _: () = redis::cmd("FLUSHALL").query_async(&mut redis(&url).await).await.unwrap();
    right("flushed").await;
    until("kept again", async || keys(&url).await.len() == entities.len()).await;

    server.kill();
    commit(4).await;
    right("down").await;
    server.restart();
    commit(4).await;
    right("restarted").await;

    server.pause();
    commit(4).await;
    right("slow").await;
    server.resume();

    let mut connection = redis(&url).await;
    for key in keys(&url).await {
        let _: () = redis::cmd("SET").arg(key).arg("\u{ff}spoilt").query_async(&mut connection).await.unwrap();
    }
    right("spoilt").await;
    commit(4).await;
    right("at last").await;
    fixture.stop().await;
}

#[tokio::test]
async fn what_redis_has_is_used_and_brought_up_to_date() {
    let server = Redis::start();
    let url = server.url();
    until("Redis has started", async || redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.is_ok()).await;
    let fixture = Fixture::with(|config: &mut Config| config.profiles.url = url.clone().into()).await;
    let call = |id: &str, hours: f64, address: &str| Call { address: address.to_owned(), ..Call::new(id, &ago(hours), Who::User("alice")) }.json();
    let quiet: Vec<Value> = (2..22).map(|day| call(&format!("q{day}"), f64::from(day) * 24.0, "198.51.100.1")).collect();
    fixture.commit_calls("quiet", &quiet).await;
    let (alice, time) = (user("alice"), soon());
    assert_eq!(risk_at(&fixture, &alice, time).await.score, 0.0);
    until("it is kept", async || keys(&url).await.len() == 1).await;
    // Ten more commits by a process that nobody asks: what is in Redis stays behind.
    let writer = fixture.replica().await;
    let key = keys(&url).await.remove(0);
    let mut connection = redis(&url).await;
    let kept: Vec<u8> = redis::cmd("GET").arg(&key).query_async(&mut connection).await.unwrap();
    fixture.stop().await;
    for number in 0..10 {
        writer.commit_calls(&format!("late{number}"), &[call(&format!("l{number}"), 1.0, &format!("203.0.113.{number}"))]).await;
    }
    let expected = out_of_the_lake(&writer, std::slice::from_ref(&alice), time).await;
    assert_eq!(expected[0].parts[0].description, "10 new addresses");

    // A stand-in shows that what is in Redis is really used: as if another address had been seen.
    let mut profile: gumshoe_api::graph::v1::HotProfile = prost::Message::decode(kept.as_slice()).unwrap();
    profile.values[4].values.iter_mut().find(|value| value.value == "198.51.100.1").unwrap().value = "203.0.113.3".to_owned();
    let put = async |profile: &gumshoe_api::graph::v1::HotProfile| {
        let _: () = redis::cmd("SET").arg(&key).arg(prost::Message::encode_to_vec(profile)).query_async(&mut redis(&url).await).await.unwrap();
    };
    put(&profile).await;
    assert_eq!(risk_at(&writer, &alice, time).await.parts[0].description, "9 new addresses");
    // Values of a lake that is ahead are of another lake.
    profile.edges_version += 1_000;
    put(&profile).await;
    let beside = writer.replica().await;
    assert_eq!(vec![risk_at(&beside, &alice, time).await], expected);
    beside.stop().await;
    writer.stop().await;
}

#[tokio::test]
async fn commits_of_other_processes_are_followed() {
    let one = Fixture::start().await;
    let other = one.replica().await;
    let (alice, time) = (user("alice"), soon());
    for fixture in [&one, &other] {
        assert_eq!(risk_at(fixture, &alice, time).await.score, 0.0);
    }
    for (round, (from, to)) in [(&one, &other), (&other, &one), (&one, &other)].into_iter().enumerate() {
        let id = ["a", "b", "c"][round];
        commit_finding(from, &format!("f-{id}"), &finding(id, "alice", 8.0, 1.0, false)).await;
        from.commit_calls(&format!("c-{id}"), &[Call::new(id, &ago(1.0), Who::User("alice")).json()]).await;
        let expected = risk_at(from, &alice, time).await;
        assert_eq!(expected.parts.len(), round + 1, "{expected:?}");
        until("the other sees it", async || risk_at(to, &alice, time).await == expected).await;
    }
    assert_eq!(out_of_the_lake(&one, std::slice::from_ref(&alice), time).await, risks(&other, std::slice::from_ref(&alice), time).await);
    other.stop().await;
    one.stop().await;
}

#[tokio::test]
async fn a_hundred_entities_that_nobody_knows_are_one_question() {
    let fixture = Fixture::start().await;
    let strangers: Vec<String> = (0..100).map(|number| format!("ip_address:192.0.2.{number}")).collect();
    let time = soon();
    let found = risks(&fixture, &strangers, time).await;
    assert!(found.iter().all(|risk| risk.score == 0.0 && risk.parts.is_empty()));
    // One of them is seen; the others stay unknown.
    let call = Call { address: "192.0.2.7".to_owned(), ..Call::new("1", &ago(1.0), Who::User("alice")) };
    fixture.commit_calls("b", &[call.json()]).await;
    commit_finding(&fixture, "f", &finding("one", "alice", 8.0, 1.0, false)).await;
    assert_eq!(risks(&fixture, &strangers, time).await, out_of_the_lake(&fixture, &strangers, time).await);
    fixture.stop().await;
}
