//! The records behind numbers.

use gumshoe_api::{
    convert::{entity_to_proto, record_kind_to_proto, window_to_proto},
    graph::v1::{Event, EventFilter, ListEventsRequest, StreamEventsRequest},
};
use gumshoe_model::{EntityKey, EntityType, RecordKind};
use tonic::Code;

use crate::{
    fixture::{Call, Detection, Fixture, Parsed, Who, finding_arn, key, lines, role_arn, session_id, user_arn, window},
    refuse::refused,
    world,
};

/// Walks all pages; fails on a record met twice or out of order.
async fn walk(fixture: &Fixture, filter: EventFilter, page_size: i32) -> Vec<Event> {
    let mut request = ListEventsRequest { graph_arn: fixture.arn(), filter: Some(filter), page_size, ..Default::default() };
    let mut found: Vec<Event> = Vec::new();
    loop {
        let page = fixture.reader.clone().list_events(request.clone()).await.unwrap().into_inner();
        found.extend(page.events);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let order: Vec<_> = found.iter().map(|event| (event.time.unwrap().seconds, event.id.clone())).collect();
    assert!(order.is_sorted_by(|one, other| one > other), "latest first, each once");
    found
}

async fn stream(fixture: &Fixture, filter: EventFilter) -> Vec<Event> {
    let request = StreamEventsRequest { graph_arn: fixture.arn(), filter: Some(filter) };
    let mut stream = fixture.reader.clone().stream_events(request).await.unwrap().into_inner();
    let mut found = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        found.extend(message.events);
    }
    found
}

/// Text, source and offset of each record: what it takes to find it again.
fn whereabouts(events: &[Event]) -> Vec<(String, u64, String)> {
    let mut found: Vec<_> = events.iter().map(|event| (event.source_object.clone(), event.offset, event.raw.clone())).collect();
    found.sort();
    found
}

fn touches(event: &Parsed, entity: &EntityKey) -> bool {
    let is = |other: &Option<EntityKey>| other.as_ref() == Some(entity);
    let text = match entity.kind {
        EntityType::Account => event.account == entity.id,
        EntityType::IpAddress => event.address == entity.id,
        EntityType::AwsService => event.service == entity.id || event.address == entity.id,
        EntityType::AccessKey => event.access_key == entity.id,
        EntityType::UserAgent => event.user_agent == entity.id,
        EntityType::Finding => event.finding_id == entity.id,
        _ => false,
    };
    text || is(&event.actor) || is(&event.parent) || is(&event.origin) || event.links.iter().any(|(_, other)| other == entity)
}

fn expected(events: &[Parsed], keep: impl Fn(&Parsed) -> bool) -> Vec<(String, u64, String)> {
    let mut found: Vec<_> = events.iter().filter(|event| keep(event)).map(|event| (event.source_object.clone(), event.offset, event.raw.clone())).collect();
    found.sort();
    found
}

#[tokio::test]
async fn every_entity_leads_to_its_records() {
    let fixture = Fixture::start().await;
    world::fill(&fixture).await;
    let detection = Detection {
        id: "f1",
        kind: "Recon:IAMUser/X",
        severity: 5.0,
        first: "2024-06-30T10:00:00Z",
        last: "2024-06-30T10:00:00Z",
        updated: "2024-06-30T10:05:00Z",
        archived: false,
        count: 1,
        user: "alice",
        address: "198.51.100.2",
    };
    fixture.commit("f", "s3://findings/1.jsonl", &lines(&[detection.json()])).await;
    let events = fixture.events();
    for of in [
        "account:111122223333".to_owned(),
        format!("user:{}", user_arn("alice")),
        format!("role:{}", role_arn("deploy")),
        format!("role_session:{}", session_id("audit", "chained")),
        "federated_user:alice@corp.example".to_owned(),
        "aws_service:cloudformation.amazonaws.com".to_owned(),
        "access_key:ASIACHAINED".to_owned(),
        "ip_address:10.0.0.9".to_owned(),
        "user_agent:100%_real\\agent".to_owned(),
        "s3_bucket:beta".to_owned(),
        "network_interface:eni-3".to_owned(),
        "ec2_instance:i-1".to_owned(),
        format!("finding:{}", finding_arn("f1")),
    ] {
        let of = key(&of);
        let filter = EventFilter { entity: Some(entity_to_proto(&of)), ..Default::default() };
        let expected = expected(&events, |event| touches(event, &of));
        assert!(!expected.is_empty(), "{of}");
        assert_eq!(whereabouts(&walk(&fixture, filter.clone(), 1_000).await), expected, "{of}");
        assert_eq!(whereabouts(&stream(&fixture, filter).await), expected, "{of}");
    }
    fixture.stop().await;
}

#[tokio::test]
async fn pages_walk_everything_once_and_the_filter_narrows() {
    let fixture = Fixture::start().await;
    world::fill(&fixture).await;
    let events = fixture.events();
    let whole = walk(&fixture, EventFilter::default(), 1_000).await;
    assert_eq!(whereabouts(&whole), expected(&events, |_| true));
    // Most records share their second with others: the id decides between them.
    assert_eq!(walk(&fixture, EventFilter::default(), 37).await, whole);

    let scope = window("2024-06-30T10:00:00Z", "2024-06-30T18:30:00Z");
    for (filter, keep) in [
        (
            EventFilter { scope: Some(window_to_proto(scope)), ..Default::default() },
            Box::new(move |event: &Parsed| scope.contains(event.time)) as Box<dyn Fn(&Parsed) -> bool>,
        ),
        (EventFilter { kind: record_kind_to_proto(RecordKind::VpcFlow), ..Default::default() }, Box::new(|event| event.source_object.ends_with(".log"))),
        (EventFilter { service: "ec2.amazonaws.com".to_owned(), ..Default::default() }, Box::new(|event| event.service == "ec2.amazonaws.com")),
        (EventFilter { operation: "GetObject".to_owned(), ..Default::default() }, Box::new(|event| event.operation == "GetObject")),
        (EventFilter { address: "2001:db8::5".to_owned(), ..Default::default() }, Box::new(|event| event.address == "2001:db8::5")),
        (EventFilter { user_agent: "aws-cli/2.1".to_owned(), ..Default::default() }, Box::new(|event| event.user_agent == "aws-cli/2.1")),
        (EventFilter { error: "NoSuchKey".to_owned(), ..Default::default() }, Box::new(|event| event.error == "NoSuchKey")),
        (EventFilter { error: "*".to_owned(), ..Default::default() }, Box::new(|event| !event.error.is_empty())),
        (EventFilter { event_id: "call-17".to_owned(), ..Default::default() }, Box::new(|event| event.id == "call-17")),
        (EventFilter { port: 3389, ..Default::default() }, Box::new(|event| event.port == 3389)),
        (
            EventFilter { service: "s3.amazonaws.com".to_owned(), error: "AccessDenied".to_owned(), scope: Some(window_to_proto(scope)), ..Default::default() },
            Box::new(move |event| event.service == "s3.amazonaws.com" && event.error == "AccessDenied" && scope.contains(event.time)),
        ),
        (EventFilter { operation: "' OR '1'='1".to_owned(), ..Default::default() }, Box::new(|_| false)),
    ] {
        assert_eq!(whereabouts(&walk(&fixture, filter.clone(), 1_000).await), expected(&events, &keep), "{filter:?}");
    }
    fixture.stop().await;
}

#[tokio::test]
async fn text_may_be_left_out_and_large_records_are_paged_by_bytes() {
    let fixture = Fixture::start().await;
    let large = |number: u32| {
        Call {
            request: serde_json::json!({ "bucketName": "b", "text": "x".repeat(600_000) }),
            ..Call::new(format!("c{number}"), "2024-06-30T10:00:00Z", Who::User("alice"))
        }
        .json()
    };
    fixture.commit_calls("b", &(0..12).map(large).collect::<Vec<_>>()).await;
    let request = ListEventsRequest { graph_arn: fixture.arn(), page_size: 1_000, ..Default::default() };
    let page = fixture.reader.clone().list_events(request.clone()).await.unwrap().into_inner();
    assert!((1..12).contains(&page.events.len()), "{}", page.events.len());
    assert_eq!(whereabouts(&walk(&fixture, EventFilter::default(), 1_000).await), expected(&fixture.events(), |_| true));
    assert_eq!(whereabouts(&stream(&fixture, EventFilter::default()).await), expected(&fixture.events(), |_| true));
    let bare = fixture.reader.clone().list_events(ListEventsRequest { omit_raw: true, ..request }).await.unwrap().into_inner();
    assert_eq!(bare.events.len(), 12);
    assert!(bare.events.iter().all(|event| event.raw.is_empty() && event.source_object == "s3://logs/b.json"));
    fixture.stop().await;
}

#[tokio::test]
async fn refuses_wrong_fields_and_foreign_tokens() {
    let fixture = Fixture::start().await;
    world::fill(&fixture).await;
    let good = ListEventsRequest { graph_arn: fixture.arn(), page_size: 1, ..Default::default() };
    let token = fixture.reader.clone().list_events(good.clone()).await.unwrap().into_inner().next_page_token;
    let filter = |filter: EventFilter| ListEventsRequest { filter: Some(filter), ..good.clone() };
    let scope = || window_to_proto(window("2024-06-30T10:00:00Z", "2024-06-30T18:30:00Z"));
    for (request, reason, field) in [
        (ListEventsRequest { page_size: 1_001, ..good.clone() }, "INVALID_FIELD", "page_size"),
        (filter(EventFilter { kind: 99, ..Default::default() }), "INVALID_FIELD", "filter.kind"),
        (filter(EventFilter { port: 65_536, ..Default::default() }), "INVALID_FIELD", "filter.port"),
        (filter(EventFilter { port: -1, ..Default::default() }), "INVALID_FIELD", "filter.port"),
        (filter(EventFilter { entity: Some(gumshoe_api::common::v1::EntityKey::default()), ..Default::default() }), "INVALID_FIELD", "filter.entity.type"),
        (
            filter(EventFilter { scope: Some(gumshoe_api::common::v1::TimeRange { start_time: None, ..scope() }), ..Default::default() }),
            "INVALID_FIELD",
            "filter.scope.start_time",
        ),
        (ListEventsRequest { page_token: token, omit_raw: true, ..good.clone() }, "INVALID_PAGE_TOKEN", "page_token"),
    ] {
        refused(&fixture.reader.clone().list_events(request).await.unwrap_err(), Code::InvalidArgument, reason, &[field]);
    }
    let request = StreamEventsRequest { graph_arn: fixture.arn(), filter: Some(EventFilter { kind: 99, ..Default::default() }) };
    refused(&fixture.reader.clone().stream_events(request).await.map(|_| ()).unwrap_err(), Code::InvalidArgument, "INVALID_FIELD", &["filter.kind"]);
    fixture.stop().await;
}
