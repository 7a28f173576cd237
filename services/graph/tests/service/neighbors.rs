//! Neighbours page by page, and of a hub.

use std::collections::BTreeMap;

use gumshoe_api::{
    convert::{entity_type_to_proto, relation_from_proto, relation_to_proto, window_to_proto},
    graph::v1::{Direction, ListNeighborsRequest, Neighbor},
};
use gumshoe_model::{EntityType, Relation};
use tonic::Code;

use crate::{
    fixture::{Call, Fixture, Who, entity, name, session_id, tally, user_arn, window},
    recount::Sum,
    refuse::refused,
    world,
};

type Row = (String, &'static str, &'static str);

fn row(neighbor: &Neighbor) -> Row {
    let relation = relation_from_proto(neighbor.relation).unwrap().as_str();
    let direction = if neighbor.direction == Direction::In as i32 { "in" } else { "out" };
    (name(neighbor.entity.as_ref()), relation, direction)
}

/// Walks all pages; fails on a neighbour met twice or out of order.
async fn walk(fixture: &Fixture, mut request: ListNeighborsRequest) -> Vec<(Row, Sum)> {
    let mut found: Vec<(Row, Sum)> = Vec::new();
    let size = usize::try_from(request.page_size).unwrap();
    loop {
        let page = fixture.reader.clone().list_neighbors(request.clone()).await.unwrap().into_inner();
        assert!(page.neighbors.len() == size || page.next_page_token.is_empty(), "a page in the middle is not full");
        found.extend(page.neighbors.iter().map(|neighbor| (row(neighbor), Sum::of(neighbor.measures.as_ref()))));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let keys: Vec<_> = found
        .iter()
        .map(|((name, relation, side), _)| {
            let (kind, id) = name.split_once(':').unwrap();
            (kind.to_owned(), id.to_owned(), *relation, *side)
        })
        .collect();
    assert!(keys.is_sorted_by(|one, other| one < other), "{keys:?}");
    found
}

#[tokio::test]
async fn pages_of_any_size_walk_everything_once() {
    let fixture = Fixture::start().await;
    world::fill(&fixture).await;
    let events = fixture.events();
    let of = |page_size| ListNeighborsRequest { graph_arn: fixture.arn(), entity: entity("ip_address:203.0.113.77"), page_size, ..Default::default() };
    let whole = walk(&fixture, of(1_000)).await;
    for size in [1, 2, 3, 7] {
        assert_eq!(walk(&fixture, of(size)).await, whole, "{size}");
    }
    // The address is used by callers, and is the remote end of flows.
    let mut expected = tally(
        events
            .iter()
            .filter(|event| event.address == "203.0.113.77" && event.flow.is_none())
            .map(|event| (event.actor.as_ref().unwrap().to_string(), "used", "in")),
    );
    expected.extend(tally(
        events
            .iter()
            .filter(|event| event.address == "203.0.113.77")
            .filter_map(|event| Some((event.actor.as_ref().unwrap().to_string(), event.flow?.as_str(), "in"))),
    ));
    let found: BTreeMap<Row, u64> = whole.iter().map(|(row, sum)| (row.clone(), sum.successes + sum.failures)).collect();
    assert_eq!(found, expected.into_iter().collect::<BTreeMap<_, _>>());
    let out: u64 = events.iter().filter(|event| event.address == "203.0.113.77").map(|event| event.bytes_in).sum();
    assert_eq!(whole.iter().map(|(_, sum)| sum.bytes.1).sum::<u64>(), out, "what went into the interfaces came out of the address");
    assert!(out > 0);
    fixture.stop().await;
}

#[tokio::test]
async fn filters_narrow_by_relation_type_direction_and_time() {
    let fixture = Fixture::start().await;
    world::fill(&fixture).await;
    let base = ListNeighborsRequest {
        graph_arn: fixture.arn(),
        entity: entity(&format!("role_session:{}", session_id("deploy", "ci"))),
        page_size: 1_000,
        ..Default::default()
    };
    let all = walk(&fixture, base.clone()).await;
    let only = |keep: &dyn Fn(&Row) -> bool| all.iter().filter(|(row, _)| keep(row)).cloned().collect::<Vec<_>>();
    let relations = vec![relation_to_proto(Relation::Called), relation_to_proto(Relation::Assumed)];
    let found = walk(&fixture, ListNeighborsRequest { relations, ..base.clone() }).await;
    assert_eq!(found, only(&|row| row.1 == "called" || row.1 == "assumed"));
    assert!(!found.is_empty());
    let found = walk(&fixture, ListNeighborsRequest { peer_type: entity_type_to_proto(EntityType::IpAddress), ..base.clone() }).await;
    assert_eq!(found, only(&|row| row.0.starts_with("ip_address:")));
    assert!(!found.is_empty());
    for (direction, side) in [(Direction::In, "in"), (Direction::Out, "out")] {
        let found = walk(&fixture, ListNeighborsRequest { direction: direction.into(), ..base.clone() }).await;
        assert_eq!(found, only(&|row| row.2 == side));
        assert!(!found.is_empty());
    }
    let scope = window("2024-06-30T12:30:00Z", "2024-06-30T12:30:01Z");
    let found = walk(&fixture, ListNeighborsRequest { scope: Some(window_to_proto(scope)), ..base }).await;
    let rows: Vec<_> = found.iter().map(|(row, _)| (row.0.as_str(), row.1, row.2)).collect();
    // The hour of 12:00: alice assumed the session, and it listed buckets from one address with one key.
    let alice = format!("user:{}", user_arn("alice"));
    assert!(rows.contains(&(alice.as_str(), "assumed", "in")), "{rows:?}");
    assert!(rows.contains(&("access_key:ASIACI", "used", "out")), "{rows:?}");
    assert!(!rows.iter().any(|row| row.0 == "s3_bucket:alpha"), "{rows:?}");
    fixture.stop().await;
}

#[tokio::test]
async fn one_peer_with_more_rows_than_a_read_holds_is_summed() {
    let fixture = Fixture::start().await;
    // One service, reached by more rows than the first read of a page of one neighbour takes.
    let record = |number: u64| {
        let call = Call { user_agent: format!("agent/{number}"), ..Call::new(format!("c-{number}"), "2024-06-30T10:00:00Z", Who::User("alice")) };
        Call { service: if number < 200 { "a.amazonaws.com" } else { "b.amazonaws.com" }, ..call }.json()
    };
    fixture.commit_calls("b", &(0..203).map(record).collect::<Vec<_>>()).await;
    let request = ListNeighborsRequest {
        graph_arn: fixture.arn(),
        entity: entity(&format!("user:{}", user_arn("alice"))),
        relations: vec![relation_to_proto(Relation::Called)],
        page_size: 1,
        ..Default::default()
    };
    let found = walk(&fixture, request).await;
    let counts: Vec<_> = found.iter().map(|(row, sum)| (row.0.as_str(), sum.successes)).collect();
    assert_eq!(counts, [("aws_service:a.amazonaws.com", 200), ("aws_service:b.amazonaws.com", 3)]);
    fixture.stop().await;
}

#[tokio::test]
async fn refuses_wrong_fields_and_foreign_tokens() {
    let fixture = Fixture::start().await;
    world::fill(&fixture).await;
    let good = ListNeighborsRequest { graph_arn: fixture.arn(), entity: entity("ip_address:203.0.113.77"), page_size: 1, ..Default::default() };
    let ask = |request: ListNeighborsRequest| {
        let mut reader = fixture.reader.clone();
        async move { reader.list_neighbors(request).await.map(tonic::Response::into_inner) }
    };
    let token = ask(good.clone()).await.unwrap().next_page_token;
    assert!(!token.is_empty());
    let with_token = ListNeighborsRequest { page_token: token.clone(), ..good.clone() };
    assert!(ask(ListNeighborsRequest { page_size: 5, ..with_token.clone() }).await.is_ok(), "the size may change between pages");
    for (request, reason, field) in [
        (ListNeighborsRequest { entity: None, ..good.clone() }, "INVALID_FIELD", "entity"),
        (ListNeighborsRequest { page_size: -1, ..good.clone() }, "INVALID_FIELD", "page_size"),
        (ListNeighborsRequest { page_size: 1_001, ..good.clone() }, "INVALID_FIELD", "page_size"),
        (ListNeighborsRequest { relations: vec![0], ..good.clone() }, "INVALID_FIELD", "relations"),
        (ListNeighborsRequest { peer_type: 99, ..good.clone() }, "INVALID_FIELD", "peer_type"),
        (ListNeighborsRequest { direction: 9, ..good.clone() }, "INVALID_FIELD", "direction"),
        (ListNeighborsRequest { page_token: "x".to_owned(), ..good.clone() }, "INVALID_PAGE_TOKEN", "page_token"),
        (ListNeighborsRequest { entity: entity("ip_address:203.0.113.78"), ..with_token.clone() }, "INVALID_PAGE_TOKEN", "page_token"),
        (ListNeighborsRequest { direction: 1, ..with_token }, "INVALID_PAGE_TOKEN", "page_token"),
    ] {
        refused(&ask(request).await.unwrap_err(), Code::InvalidArgument, reason, &[field]);
    }
    fixture.stop().await;
}

/// Prints how long pages of a hub with a million edges take beside those of a quiet entity.
#[tokio::test]
#[ignore = "a measurement, minutes long"]
async fn hub_of_a_million_edges_beside_a_quiet_entity() {
    let fixture = Fixture::start().await;
    fixture.commit_calls("quiet", &[Call::new("quiet", "2024-06-30T10:00:00Z", Who::User("quiet")).json()]).await;
    for batch in 0..17_u32 {
        let records: Vec<_> = (0..30_000_u32)
            .map(|number| {
                let number = batch * 30_000 + number;
                let address = std::net::Ipv4Addr::from(0x0b00_0000 + number).to_string();
                Call { address, ..Call::new(format!("c{number}"), "2024-06-30T10:00:00Z", Who::User("hub")) }.json()
            })
            .collect();
        fixture.commit_calls(&format!("hub-{batch}"), &records).await;
    }
    for user in ["quiet", "hub", "quiet", "hub"] {
        let mut request =
            ListNeighborsRequest { graph_arn: fixture.arn(), entity: entity(&format!("user:{}", user_arn(user))), page_size: 100, ..Default::default() };
        for page in 0..6 {
            let start = std::time::Instant::now();
            let answer = fixture.reader.clone().list_neighbors(request.clone()).await.unwrap().into_inner();
            println!("{user} page {page}: {} neighbours in {:?}", answer.neighbors.len(), start.elapsed());
            request.page_token = answer.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        let start = std::time::Instant::now();
        let request = gumshoe_api::graph::v1::GetEntityProfileRequest { graph_arn: fixture.arn(), entity: request.entity, ..Default::default() };
        let profile = fixture.reader.clone().get_entity_profile(request).await.unwrap().into_inner().profile.unwrap();
        println!("{user} profile: {} addresses in {:?}", profile.addresses.unwrap().total, start.elapsed());
    }
    fixture.stop().await;
}
