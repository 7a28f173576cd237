//! Detection rules: the graph's, as they are when a batch begins.

use futures::stream;
use gumshoe_api::graph::v1::RuleDocument;
use gumshoe_model::GraphArn;

use crate::harness::{Client, Ingest, World, eventually, graph, message, piece, record};

const OWN: &str = "11111111-0000-4000-8000-000000000001";
const OPERATORS: &str = "11111111-0000-4000-8000-000000000002";
/// Trails stopped or deleted.
const SHIPPED: &str = "A trail was stopped or deleted";

fn rule(id: &str, operation: &str) -> String {
    format!(
        "title: {operation}\nid: {id}\nlogsource: {{product: aws, service: cloudtrail}}\ndetection:\n  one:\n    eventName: {operation}\n  condition: one\nlevel: high\n"
    )
}

fn document(id: &str, operation: &str, of_graph: bool) -> RuleDocument {
    RuleDocument { name: id.to_owned(), text: rule(id, operation), of_graph }
}

fn batch(first: u64) -> Vec<u8> {
    let (read, stopped) = (record(first), record(first + 1).replace("s3.amazonaws.com", "cloudtrail.amazonaws.com").replace("GetObject", "StopLogging"));
    format!("{{\"Records\":[{read},{stopped}]}}").into_bytes()
}

/// The rules of the two events of a batch.
async fn marks(world: &World, client: &mut Client, graph: &GraphArn, name: &str, first: u64) -> [String; 2] {
    let mut answers = client.stream_records(stream::iter([message(graph, piece(name, batch(first), true))])).await.unwrap().into_inner();
    while answers.message().await.unwrap().is_some() {}
    let commits = world.graph.fresh();
    let marks = commits.into_iter().find(|commit| commit.batch_id.starts_with(name)).unwrap().marks;
    marks.try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_marked_with_the_rules_that_the_graph_has_now() {
    let world = World::new().await;
    let shipped = gumshoe_detections::RuleSet::shipped().unwrap().iter().find(|rule| rule.title == SHIPPED).unwrap().id.clone();
    let ingest: Ingest = world.ingest(|_| {}).await;
    let (one, other) = (graph(1), graph(2));
    let (mut client, mut stranger) = (ingest.client(&one), ingest.client(&other));

    assert_eq!(marks(&world, &mut client, &one, "a", 1).await, [String::new(), shipped.clone()], "without an answer, those that come with Gumshoe");

    world.graph.state().rules = Some(("1".to_owned(), vec![document(OPERATORS, "GetObject", false), document(OWN, "GetObject", true)]));
    let found = marks(&world, &mut stranger, &other, "b", 3).await;
    assert_eq!(found, [format!("{OWN} {OPERATORS}"), shipped.clone()], "a graph that was not asked for before");
    let mut number = 10;
    eventually("the first graph has the new rules", || {
        number += 2;
        let (world, mut client, one) = (&world, client.clone(), one.clone());
        async move { (marks(world, &mut client, &one, &format!("c{number}-"), number).await[0] == format!("{OWN} {OPERATORS}")).then_some(()) }
    })
    .await;

    // A rule of the graph that switches a shipped one off.
    let off = RuleDocument { name: shipped.clone(), text: format!("id: {shipped}\nstatus: unsupported\n"), of_graph: true };
    world.graph.state().rules = Some(("2".to_owned(), vec![off]));
    eventually("the shipped rule is off", || {
        number += 2;
        let (world, mut client, one) = (&world, client.clone(), one.clone());
        async move { (marks(world, &mut client, &one, &format!("d{number}-"), number).await == [String::new(), String::new()]).then_some(()) }
    })
    .await;

    // What cannot be read leaves the rules as they are.
    world.graph.state().rules = Some(("3".to_owned(), vec![RuleDocument { name: "x".to_owned(), text: "title: x\n".to_owned(), of_graph: true }]));
    for name in ["e-", "f-"] {
        number += 2;
        assert_eq!(marks(&world, &mut client, &one, name, number).await, [String::new(), String::new()]);
    }
    ingest.stop().await;
}
