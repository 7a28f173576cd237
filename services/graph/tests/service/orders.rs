//! The same records in any order, cut into any batches, some of them sent again, give the same graph byte for byte.

use std::sync::Arc;

use gumshoe_api::graph::v1::{FindingSummary, GetFindingRequest, ListFindingsRequest, StreamEdgesRequest};
use gumshoe_detections::RuleSet;
use proptest::{prelude::*, test_runner::TestCaseError};
use prost::Message as _;
use serde_json::Value;

use crate::{
    fixture::{Call, Detection, Dice, Fixture, Who, lines},
    world,
};

/// A record of each format as a line of a batch.
#[derive(Debug, Clone)]
enum Record {
    Json(Value),
    Flow(String),
}

struct Records {
    flow_header: String,
    records: Vec<Record>,
}

impl Records {
    fn new() -> Self {
        let mut dice = Dice::new(3);
        let mut records: Vec<Record> = world::calls(&mut dice, 0, 90).into_iter().chain(world::chain()).map(Record::Json).collect();
        // What rules match: some of it failed, from several addresses, in two hours of one day and one of the next.
        for number in 0..12 {
            let time = if number < 9 { format!("2024-06-30T1{}:{:02}:00Z", number % 2, 6 * number) } else { format!("2024-07-01T00:0{}:00Z", number % 10) };
            let call = Call {
                service: "cloudtrail.amazonaws.com",
                operation: if number % 3 == 0 { "DeleteTrail" } else { "StopLogging" },
                address: format!("203.0.113.{number}"),
                error: if number % 4 == 1 { "AccessDenied" } else { "" },
                request: serde_json::json!({ "name": format!("arn:aws:cloudtrail:us-east-1:111122223333:trail/t{}", number % 5) }),
                ..Call::new(format!("rule-{number}"), &time, Who::Session("admin", "mallory", None))
            };
            records.push(Record::Json(call.json()));
        }
        let flows = world::flows(&mut dice, 60);
        let (header, flows) = flows.split_once('\n').unwrap();
        records.extend(flows.lines().map(|line| Record::Flow(line.to_owned())));
        for (id, updated) in [("f-1", "2024-06-30T12:00:00Z"), ("f-1", "2024-06-30T15:00:00Z"), ("f-2", "2024-06-30T13:00:00Z")] {
            let detection = Detection {
                id,
                kind: "UnauthorizedAccess:IAMUser/MaliciousIPCaller",
                severity: 5.0,
                first: "2024-06-30T11:00:00Z",
                last: updated,
                updated,
                archived: false,
                count: 1,
                user: "alice",
                address: "198.51.100.1",
            };
            records.push(Record::Json(detection.json()));
        }
        Self { flow_header: header.to_owned(), records }
    }

    /// The batches of a cut: those of one format in each piece of `order`.
    fn batches(&self, order: &[usize], cuts: &[usize]) -> Vec<String> {
        let mut batches = Vec::new();
        let (mut rest, mut sizes) = (order, cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, left) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            rest = left;
            let records = || piece.iter().map(|index| &self.records[*index]);
            let json: Vec<Value> = records().filter_map(|record| if let Record::Json(value) = record { Some(value.clone()) } else { None }).collect();
            let (findings, calls): (Vec<Value>, Vec<Value>) = json.into_iter().partition(|value| value.get("schemaVersion").is_some());
            let flows: Vec<&str> = records().filter_map(|record| if let Record::Flow(line) = record { Some(line.as_str()) } else { None }).collect();
            batches.extend([calls, findings].iter().filter(|lines| !lines.is_empty()).map(|values| lines(values)));
            if !flows.is_empty() {
                batches.push(format!("{}\n{}\n", self.flow_header, flows.join("\n")));
            }
        }
        batches
    }
}

/// All edges as the service streams them.
async fn dump(fixture: &Fixture) -> Vec<u8> {
    let request = StreamEdgesRequest { graph_arn: fixture.arn(), scope: None };
    let mut stream = fixture.reader.clone().stream_edges(request).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        message.encode_length_delimited(&mut bytes).unwrap();
    }
    bytes
}

/// All findings with what they say.
async fn findings(fixture: &Fixture) -> Vec<Told> {
    let request = ListFindingsRequest { graph_arn: fixture.arn(), include_archived: true, page_size: 1_000, ..Default::default() };
    let mut found = Vec::new();
    for finding in fixture.reader.clone().list_findings(request).await.unwrap().into_inner().findings {
        let request = GetFindingRequest { graph_arn: fixture.arn(), id: finding.id.clone() };
        let whole = fixture.reader.clone().get_finding(request).await.unwrap().into_inner();
        assert_eq!(whole.finding.as_ref(), Some(&finding));
        found.push((finding, whole.description, whole.raw));
    }
    found
}

type Told = (FindingSummary, String, String);

async fn graph_of(batches: &[String], again: &[bool], rules: &Arc<RuleSet>) -> (Vec<u8>, Vec<Told>) {
    let mut fixture = Fixture::start().await;
    fixture.rules = Some(Arc::clone(rules));
    for (index, text) in batches.iter().enumerate() {
        fixture.commit(&format!("b-{index}"), &format!("s3://logs/{index}"), text).await;
        if again[index % again.len()] {
            assert!(fixture.commit(&format!("b-{index}"), &format!("s3://logs/{index}"), text).await.already_committed);
        }
    }
    let graph = (dump(&fixture).await, findings(&fixture).await);
    fixture.stop().await;
    graph
}

#[test]
fn any_order_and_any_batching_gives_the_same_graph() {
    let records = Records::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let order: Vec<usize> = (0..records.records.len()).collect();
    let rules = Arc::new(RuleSet::shipped().unwrap());
    let expected = runtime.block_on(graph_of(&records.batches(&order, &[order.len()]), &[false], &rules));
    assert!(expected.0.len() > 10_000);
    let stopped = expected.1.iter().filter(|(finding, ..)| finding.title == "A trail was stopped or deleted");
    assert_eq!(stopped.map(|(finding, ..)| (finding.count, finding.severity_label.as_str())).collect::<Vec<_>>(), [(3, "HIGH"), (9, "HIGH")]);
    let strategy = (Just(order).prop_shuffle(), prop::collection::vec(8..80_usize, 1..5), prop::collection::vec(any::<bool>(), 1..6));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() });
    let outcome = runner.run(&strategy, |(order, cuts, again)| {
        let found = runtime.block_on(graph_of(&records.batches(&order, &cuts), &again, &rules));
        if found == expected { Ok(()) } else { Err(TestCaseError::fail("another graph")) }
    });
    outcome.unwrap();
}
