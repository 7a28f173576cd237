//! How much a graph holds, dead letters, and the dump of edges.

use std::collections::BTreeMap;

use gumshoe_api::{
    convert::{record_kind_from_proto, relation_from_proto, window_to_proto},
    graph::v1::{Direction, Edge, GetGraphStatisticsRequest, ListDeadLettersRequest, StreamEdgesRequest},
};
use gumshoe_model::RecordKind;
use tonic::Code;

use crate::{
    fixture::{Call, Fixture, Who, name, tally, time, user_arn, window},
    refuse::refused,
    world,
};

#[tokio::test]
async fn statistics_agree_with_a_recount_and_move_with_each_commit() {
    let fixture = Fixture::start().await;
    let ask = || async { fixture.reader.clone().get_graph_statistics(GetGraphStatisticsRequest { graph_arn: fixture.arn() }).await.unwrap().into_inner() };
    assert_eq!(ask().await, Default::default(), "an empty graph holds nothing");
    world::fill(&fixture).await;
    let events = fixture.events();
    let statistics = ask().await;
    let flows = events.iter().filter(|event| event.source_object.ends_with(".log")).count() as u64;
    let kinds: Vec<_> = statistics.kinds.iter().map(|kind| (record_kind_from_proto(kind.kind).unwrap(), kind.events)).collect();
    assert_eq!(kinds, [(RecordKind::CloudTrail, events.len() as u64 - flows), (RecordKind::VpcFlow, flows)]);
    assert_eq!(statistics.kinds[0].first_time.unwrap().seconds, time("2024-05-16T09:59:59Z").0 / 1_000_000);
    assert_eq!(statistics.kinds[0].last_time.unwrap().seconds, time("2024-07-01T10:00:00Z").0 / 1_000_000);
    assert_eq!(statistics.entities["user"], 2);
    assert_eq!(statistics.entities["s3_bucket"], 3);
    assert_eq!(statistics.entities["role_session"], 3);
    assert!(statistics.edges > 1_000);
    assert_eq!((statistics.findings, statistics.dead_letters), (0, 0));
    fixture.commit("more", "s3://logs/broken.json", "{\"Records\":[{\"eventName\":1}]}").await;
    assert_eq!(ask().await.dead_letters, 1, "an answer kept from before the commit is not given");
    fixture.stop().await;
}

#[tokio::test]
async fn dead_letters_are_paged_by_object_and_offset() {
    let fixture = Fixture::start().await;
    let good = Call::new("1", "2024-06-30T10:00:00Z", Who::User("alice")).json();
    let text = |count: usize| format!("{good}\n{}", "{\"eventName\": 1}\n".repeat(count));
    fixture.commit("b", "s3://logs/b", &text(5)).await;
    fixture.commit("a", "s3://logs/a", &text(3)).await;
    let walk = |source_object: &str, page_size| {
        let mut request = ListDeadLettersRequest { graph_arn: fixture.arn(), source_object: source_object.to_owned(), page_size, ..Default::default() };
        let mut reader = fixture.reader.clone();
        async move {
            let mut found = Vec::new();
            loop {
                let page = reader.list_dead_letters(request.clone()).await.unwrap().into_inner();
                found.extend(page.dead_letters);
                if page.next_page_token.is_empty() {
                    return found;
                }
                request.page_token = page.next_page_token;
            }
        }
    };
    let whole = walk("", 1_000).await;
    let order: Vec<_> = whole.iter().map(|letter| (letter.source_object.clone(), letter.offset)).collect();
    assert_eq!(order.len(), 8);
    assert!(order.is_sorted_by(|one, other| one < other), "{order:?}");
    for letter in &whole {
        assert_eq!(letter.raw, "{\"eventName\": 1}");
        assert_eq!(letter.length, 16);
        assert!(!letter.reason.is_empty());
        assert!(letter.time.is_some());
    }
    for size in [1, 3] {
        assert_eq!(walk("", size).await, whole);
    }
    assert_eq!(walk("s3://logs/b", 2).await, whole[3..]);
    let request = ListDeadLettersRequest { graph_arn: fixture.arn(), page_size: 5_000, ..Default::default() };
    refused(&fixture.reader.clone().list_dead_letters(request).await.unwrap_err(), Code::InvalidArgument, "INVALID_FIELD", &["page_size"]);
    fixture.stop().await;
}

pub(crate) async fn edges(fixture: &Fixture, scope: Option<(&str, &str)>) -> Vec<Edge> {
    let request = StreamEdgesRequest { graph_arn: fixture.arn(), scope: scope.map(|(start, end)| window_to_proto(window(start, end))) };
    let mut stream = fixture.reader.clone().stream_edges(request).await.unwrap().into_inner();
    let mut found = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        assert!(!message.edges.is_empty() && message.edges.len() <= 1_000);
        found.extend(message.edges);
    }
    found
}

#[tokio::test]
async fn edge_dump_does_not_depend_on_how_records_were_batched() {
    let one = Fixture::start().await;
    world::fill(&one).await;
    let events = one.events();
    let many = Fixture::start().await;
    // The same records, one by one, each twice, latest first.
    let calls: Vec<_> = events.iter().filter(|event| event.source_object.ends_with(".json")).collect();
    for (number, chunk) in calls.rchunks(50).enumerate() {
        let text: String = chunk.iter().rev().chain(chunk.iter()).map(|event| format!("{}\n", event.raw)).collect();
        many.commit(&format!("c{number}"), &format!("s3://logs/{number}.json"), &text).await;
    }
    let scope = Some(("2024-05-01T00:00:00Z", "2024-08-01T00:00:00Z"));
    let (whole, again) = (edges(&one, scope).await, edges(&many, scope).await);
    let calls_only = |edges: Vec<Edge>| -> Vec<Edge> {
        let flow = |edge: &Edge| edge.port != -1 || name(edge.subject.as_ref()).starts_with("network_interface:");
        edges.into_iter().filter(|edge| !flow(edge)).collect()
    };
    assert_eq!(calls_only(whole.clone()), calls_only(again));
    assert!(whole.len() > 1_000);

    // Each key once, and alice's own calls add up to her records.
    let key = |edge: &Edge| Edge { measures: None, ..edge.clone() };
    assert!(whole.windows(2).all(|pair| key(&pair[0]) != key(&pair[1])));
    let alice = format!("user:{}", user_arn("alice"));
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for edge in &whole {
        let relation = relation_from_proto(edge.relation).unwrap().as_str();
        if edge.side == Direction::Out as i32 && name(edge.subject.as_ref()) == alice && relation.ends_with("call") | relation.ends_with("called") {
            let measures = edge.measures.as_ref().unwrap();
            *counts.entry(edge.operation.clone()).or_default() += measures.successes + measures.failures;
        }
    }
    let expected = tally(
        events
            .iter()
            .filter(|event| event.corrects.is_empty() && event.actor.as_ref().is_some_and(|actor| actor.to_string() == alice))
            .map(|event| format!("{}/{}", event.service, event.operation)),
    );
    assert_eq!(counts, expected.into_iter().collect());

    let part = edges(&one, Some(("2024-06-30T10:15:00Z", "2024-06-30T10:16:00Z"))).await;
    let hour = time("2024-06-30T10:00:00Z").0 / 1_000_000;
    assert_eq!(part, whole.into_iter().filter(|edge| edge.hour.unwrap().seconds == hour).collect::<Vec<_>>());
    one.stop().await;
    many.stop().await;
}
