//! Heavy questions, in this process. On a cluster they are asked in `tests/tests/e2e/engine.rs`.

use std::collections::{BTreeMap, BTreeSet};

use gumshoe_api::{
    convert::{record_kind_to_proto, relation_to_proto, window_to_proto},
    graph::v1::{ComputeBaselinesRequest, EntityBaseline, Event, FindingPair, HuntEventsRequest, PairFindingsRequest, StreamEdgesRequest},
};
use gumshoe_model::{RecordKind, Relation};
use tonic::Code;

use crate::{
    fixture::{Detection, Fixture, Parsed, finding_arn, lines, name, user_arn, window},
    refuse::refused,
    world,
};

/// Whether a record is to be found.
type Wanted = dyn Fn(&Parsed) -> bool;

async fn hunt(fixture: &Fixture, request: HuntEventsRequest) -> Vec<Event> {
    let request = HuntEventsRequest { graph_arn: fixture.arn(), ..request };
    let mut answer = fixture.analysis().hunt_events(request).await.unwrap().into_inner();
    let mut found = Vec::new();
    while let Some(message) = answer.message().await.unwrap() {
        found.extend(message.events);
    }
    let order: Vec<_> = found.iter().map(|event| (event.time.unwrap().seconds, event.time.unwrap().nanos, event.id.clone())).collect();
    assert!(order.is_sorted(), "earliest first");
    found
}

fn texts(patterns: &[&str]) -> Vec<String> {
    patterns.iter().map(|pattern| (*pattern).to_owned()).collect()
}

#[tokio::test]
async fn a_hunt_finds_what_a_recount_finds() {
    let fixture = Fixture::start().await;
    world::fill(&fixture).await;
    let events = fixture.events();
    let cases: Vec<(HuntEventsRequest, Box<Wanted>)> = vec![
        (HuntEventsRequest::default(), Box::new(|_| true)),
        (
            HuntEventsRequest { operations: texts(&["List*", "AssumeRole"]), ..Default::default() },
            Box::new(|event| event.operation.starts_with("List") || event.operation == "AssumeRole"),
        ),
        (HuntEventsRequest { services: texts(&["s?.amazonaws.com"]), ..Default::default() }, Box::new(|event| event.service == "s3.amazonaws.com")),
        (HuntEventsRequest { errors: texts(&["*"]), ..Default::default() }, Box::new(|event| !event.error.is_empty())),
        (
            HuntEventsRequest { addresses: texts(&["198.51.100.*"]), kind: record_kind_to_proto(RecordKind::CloudTrail), ..Default::default() },
            Box::new(|event| event.address.starts_with("198.51.100.") && event.flow.is_none()),
        ),
        (
            HuntEventsRequest { actors: vec![user_arn("alice")], ..Default::default() },
            Box::new(|event| [&event.actor, &event.parent, &event.origin].into_iter().flatten().any(|entity| entity.id == user_arn("alice"))),
        ),
        (HuntEventsRequest { user_agents: texts(&["100%_real\\agent"]), ..Default::default() }, Box::new(|event| event.user_agent == "100%_real\\agent")),
        (HuntEventsRequest { user_agents: texts(&["*%_real\\*"]), ..Default::default() }, Box::new(|event| event.user_agent.contains("%_real\\"))),
        (
            HuntEventsRequest { scope: Some(window_to_proto(window("2024-06-30T00:00:00Z", "2024-06-30T10:00:00Z"))), ..Default::default() },
            Box::new(|event| window("2024-06-30T00:00:00Z", "2024-06-30T10:00:00Z").contains(event.time)),
        ),
        (HuntEventsRequest { account_ids: texts(&["*' OR 'x' = 'x"]), ..Default::default() }, Box::new(|_| false)),
    ];
    for (request, keep) in cases {
        let found: BTreeSet<_> = hunt(&fixture, request.clone()).await.into_iter().map(|event| (event.source_object, event.offset, event.raw)).collect();
        let expected: BTreeSet<_> =
            events.iter().filter(|event| keep(event)).map(|event| (event.source_object.clone(), event.offset, event.raw.clone())).collect();
        assert_eq!(found, expected, "{request:?}");
    }
    let first = hunt(&fixture, HuntEventsRequest { limit: 3, omit_raw: true, ..Default::default() }).await;
    assert!(first.len() == 3 && first.iter().all(|event| event.raw.is_empty()), "{first:?}");
    fixture.stop().await;
}

#[tokio::test]
async fn baselines_are_the_sums_of_the_edges() {
    let fixture = Fixture::start().await;
    world::fill(&fixture).await;
    let ask = async |request: ComputeBaselinesRequest| {
        let request = ComputeBaselinesRequest { graph_arn: fixture.arn(), ..request };
        let mut answer = fixture.analysis().compute_baselines(request).await.unwrap().into_inner();
        let mut found: Vec<EntityBaseline> = Vec::new();
        while let Some(message) = answer.message().await.unwrap() {
            found.extend(message.baselines);
        }
        found
    };
    // By the entity that a row is kept under, its side and relation: records by hour.
    let mut hours: BTreeMap<(String, i32, i32), BTreeMap<i64, u64>> = BTreeMap::new();
    let mut edges = fixture.reader.clone().stream_edges(StreamEdgesRequest { graph_arn: fixture.arn(), scope: None }).await.unwrap().into_inner();
    while let Some(message) = edges.message().await.unwrap() {
        for edge in message.edges {
            let entity = if edge.side == 2 { &edge.object } else { &edge.subject };
            let measures = edge.measures.unwrap();
            let hour = edge.hour.unwrap().seconds / 3_600;
            *hours.entry((name(entity.as_ref()), edge.side, edge.relation)).or_default().entry(hour).or_default() += measures.successes + measures.failures;
        }
    }
    let found = ask(ComputeBaselinesRequest::default()).await;
    assert!(found.len() > 20 && found.len() == hours.len(), "{} of {}", found.len(), hours.len());
    for baseline in &found {
        let key = (name(baseline.entity.as_ref()), baseline.direction, baseline.relation);
        let by_hour = &hours[&key];
        let mut counts: Vec<u64> = by_hour.values().copied().collect();
        counts.sort_unstable();
        let middle = (counts[(counts.len() - 1) / 2] + counts[counts.len() / 2]) / 2;
        let days: BTreeSet<_> = by_hour.keys().map(|hour| hour / 24).collect();
        let expected = (counts.len() as u64, days.len() as u64, counts.iter().sum::<u64>(), middle, *counts.last().unwrap());
        assert_eq!((baseline.hours, baseline.days, baseline.count, baseline.median_in_hour, baseline.most_in_hour), expected, "{key:?}");
        assert!(baseline.first_time.unwrap().seconds <= baseline.last_time.unwrap().seconds && baseline.errors <= baseline.count, "{key:?}");
    }
    let some = ask(ComputeBaselinesRequest { entity_types: vec![2], relations: vec![relation_to_proto(Relation::Called)], ..Default::default() }).await;
    assert!(!some.is_empty() && some.iter().all(|baseline| baseline.entity.as_ref().unwrap().r#type == 2 && baseline.relation == 1), "{some:?}");
    let scope = Some(window_to_proto(window("1999-01-01T00:00:00Z", "1999-02-01T00:00:00Z")));
    assert_eq!(ask(ComputeBaselinesRequest { scope, ..Default::default() }).await, []);
    fixture.stop().await;
}

/// A finding of a user, at an address, in the first minutes of an hour.
fn detection(id: &'static str, user: &'static str, address: &'static str, hour: &'static str) -> Detection {
    Detection { id, kind: "Recon:IAMUser/X", severity: 5.0, first: hour, last: hour, updated: hour, archived: false, count: 1, user, address }
}

#[tokio::test]
async fn findings_are_paired_by_what_few_of_them_name() {
    let fixture = Fixture::start().await;
    let (ten, eleven, later) = ("2024-06-30T10:00:00Z", "2024-06-30T11:00:00Z", "2024-07-02T10:00:00Z");
    let mut detections = vec![
        detection("a", "alice", "198.51.100.1", ten),
        detection("b", "alice", "198.51.100.1", eleven),
        detection("c", "bob", "198.51.100.1", eleven),
        detection("d", "alice", "198.51.100.9", later),
        detection("e", "carol", "198.51.100.7", ten),
    ];
    detections.push(Detection { archived: true, updated: later, ..detection("e", "carol", "198.51.100.1", ten) });
    fixture.commit("f", "s3://findings/1.jsonl", &lines(&detections.iter().map(Detection::json).collect::<Vec<_>>())).await;
    let ask = async |request: PairFindingsRequest| {
        let request = PairFindingsRequest { graph_arn: fixture.arn(), ..request };
        let mut answer = fixture.analysis().pair_findings(request).await.unwrap().into_inner();
        let mut found: Vec<FindingPair> = Vec::new();
        while let Some(message) = answer.message().await.unwrap() {
            found.extend(message.pairs);
        }
        let short = |id: &str| ["a", "b", "c", "d", "e"].into_iter().find(|short| finding_arn(short) == id).unwrap();
        let pair = |pair: &FindingPair| {
            let addresses = pair.shared.iter().map(|shared| name(shared.entity.as_ref())).filter(|entity| entity.starts_with("ip_address:")).count();
            (format!("{}{}", short(&pair.finding_id), short(&pair.other_finding_id)), pair.shared.len() > addresses, addresses)
        };
        found.iter().map(pair).collect::<Vec<_>>()
    };
    let pair = |ids: &str, user: bool, addresses: usize| (ids.to_owned(), user, addresses);
    assert_eq!(ask(PairFindingsRequest::default()).await, [pair("ab", true, 1), pair("ac", false, 1), pair("bc", false, 1)]);
    let wide = PairFindingsRequest { within_hours: 100, include_archived: true, ..Default::default() };
    let expected =
        [("ab", true, 1), ("ac", false, 1), ("ad", true, 0), ("ae", false, 1), ("bc", false, 1), ("bd", true, 0), ("be", false, 1), ("ce", false, 1)];
    assert_eq!(ask(wide.clone()).await, expected.map(|(ids, user, addresses)| pair(ids, user, addresses)));
    // Four findings name the address: it is not rare any more.
    assert_eq!(ask(PairFindingsRequest { max_findings_per_entity: 3, ..wide.clone() }).await, [pair("ab", true, 0), pair("ad", true, 0), pair("bd", true, 0)]);
    assert_eq!(ask(PairFindingsRequest { min_severity: 5.5, ..wide }).await, []);
    fixture.stop().await;
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_by_its_field() {
    let fixture = Fixture::start().await;
    let graph_arn = fixture.arn();
    let long = vec!["x".repeat(513)];
    for (request, field) in [
        (HuntEventsRequest { operations: vec![String::new()], ..Default::default() }, "operations"),
        (HuntEventsRequest { actors: long, ..Default::default() }, "actors"),
        (HuntEventsRequest { errors: vec!["x".to_owned(); 101], ..Default::default() }, "errors"),
        (HuntEventsRequest { kind: 99, ..Default::default() }, "kind"),
    ] {
        let request = HuntEventsRequest { graph_arn: graph_arn.clone(), ..request };
        refused(&fixture.analysis().hunt_events(request).await.unwrap_err(), Code::InvalidArgument, "INVALID_FIELD", &[field]);
    }
    for (request, field) in [
        (ComputeBaselinesRequest { entity_types: vec![99], ..Default::default() }, "entity_types"),
        (ComputeBaselinesRequest { relations: vec![0], ..Default::default() }, "relations"),
        (ComputeBaselinesRequest { relations: vec![1; 33], ..Default::default() }, "relations"),
    ] {
        let request = ComputeBaselinesRequest { graph_arn: graph_arn.clone(), ..request };
        refused(&fixture.analysis().compute_baselines(request).await.unwrap_err(), Code::InvalidArgument, "INVALID_FIELD", &[field]);
    }
    for (request, field) in [
        (PairFindingsRequest { min_severity: f64::NAN, ..Default::default() }, "min_severity"),
        (PairFindingsRequest { max_findings_per_entity: 1, ..Default::default() }, "max_findings_per_entity"),
        (PairFindingsRequest { within_hours: -1, ..Default::default() }, "within_hours"),
    ] {
        let request = PairFindingsRequest { graph_arn: graph_arn.clone(), ..request };
        refused(&fixture.analysis().pair_findings(request).await.unwrap_err(), Code::InvalidArgument, "INVALID_FIELD", &[field]);
    }
    let elsewhere = HuntEventsRequest { graph_arn: graph_arn.replace("0123456789abcdef", "ffffffffffffffff"), ..Default::default() };
    refused(&fixture.analysis().hunt_events(elsewhere).await.unwrap_err(), Code::PermissionDenied, "ACCESS_DENIED", &[]);
    fixture.stop().await;
}

#[tokio::test]
async fn files_that_are_gone_and_engines_that_are_not_there_are_worth_another_try() {
    let fixture = Fixture::with(|config| config.query_engine = Some("df://127.0.0.1:1".parse().unwrap())).await;
    world::fill(&fixture).await;
    let request = HuntEventsRequest { graph_arn: fixture.arn(), ..Default::default() };
    let mut answer = fixture.analysis().hunt_events(request.clone()).await.unwrap().into_inner();
    refused(&answer.message().await.unwrap_err(), Code::Unavailable, "UNAVAILABLE", &[]);

    let here = fixture.replica_with(|config| config.query_engine = None).await;
    assert!(!hunt(&here, HuntEventsRequest::default()).await.is_empty());
    for file in fixture.files().iter().filter(|file| file.components().any(|part| part.as_os_str() == "events") && file.extension() == Some("parquet".as_ref()))
    {
        std::fs::remove_file(file).unwrap();
    }
    let status = match here.analysis().hunt_events(request).await {
        Ok(answer) => answer.into_inner().message().await.unwrap_err(),
        Err(status) => status,
    };
    refused(&status, Code::Unavailable, "UNAVAILABLE", &[]);
    here.stop().await;
    fixture.stop().await;
}
