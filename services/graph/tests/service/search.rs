//! Search in all its forms.

use std::collections::BTreeSet;

use gumshoe_api::{convert::entity_type_to_proto, graph::v1::SearchEntitiesRequest};
use gumshoe_model::EntityType;
use tonic::Code;

use crate::{
    fixture::{Call, Fixture, Who, name, role_arn, role_id, session_id, user_arn},
    refuse::refused,
    world,
};

async fn search(fixture: &Fixture, text: &str, types: &[EntityType], page_size: i32) -> Vec<String> {
    let types = types.iter().map(|kind| entity_type_to_proto(*kind)).collect();
    let mut request = SearchEntitiesRequest { graph_arn: fixture.arn(), text: text.to_owned(), types, page_size, page_token: String::new() };
    let mut found: Vec<String> = Vec::new();
    loop {
        let page = fixture.reader.clone().search_entities(request.clone()).await.unwrap().into_inner();
        found.extend(page.entities.iter().map(|summary| name(summary.entity.as_ref())));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let keys: Vec<_> = found.iter().map(|name| name.split_once(':').unwrap()).collect();
    assert!(keys.is_sorted_by(|one, other| one < other), "{found:?}");
    found
}

#[tokio::test]
async fn finds_by_exact_value_prefix_wildcard_name_and_alias_in_any_case() {
    let fixture = Fixture::start().await;
    world::fill(&fixture).await;
    let alice = format!("user:{}", user_arn("alice"));
    let alices_session = format!("role_session:{}", session_id("deploy", "alice"));
    let deploy = format!("role:{}", role_arn("deploy"));
    for (text, types, expected) in [
        ("alpha", &[][..], vec!["s3_bucket:alpha".to_owned()]),
        ("ALPHA", &[], vec!["s3_bucket:alpha".to_owned()]),
        ("arn:aws:s3:::alpha", &[], vec!["s3_bucket:alpha".to_owned()]),
        ("alp", &[], vec![]),
        ("alp*", &[], vec!["s3_bucket:alpha".to_owned()]),
        ("?lpha", &[], vec!["s3_bucket:alpha".to_owned()]),
        ("?alpha", &[], vec![]),
        // An underscore and a percent sign are themselves.
        ("gamma_1", &[], vec!["s3_bucket:gamma_1".to_owned()]),
        ("alph_", &[], vec![]),
        ("100%*", &[], vec!["user_agent:100%_real\\agent".to_owned()]),
        ("100%_real\\agent", &[], vec!["user_agent:100%_real\\agent".to_owned()]),
        ("%", &[], vec![]),
        // Names and aliases.
        ("alice", &[], vec![alices_session.clone(), alice.clone()]),
        ("alice", &[EntityType::User], vec![alice.clone()]),
        ("AIDAALICE", &[], vec![alice.clone()]),
        (role_id("deploy").as_str(), &[EntityType::Role], vec![deploy.clone()]),
        ("*:assumed-role/deploy/alice", &[], vec![alices_session.clone()]),
        // Addresses: canonical, wildcard, block.
        ("2001:DB8:0::5", &[], vec!["ip_address:2001:db8::5".to_owned()]),
        ("198.51.*.2", &[], vec!["ip_address:198.51.100.2".to_owned()]),
        ("203.0.113.76/30", &[], vec!["ip_address:203.0.113.77".to_owned(), "ip_address:203.0.113.78".to_owned()]),
        ("203.0.113.77/32", &[], vec!["ip_address:203.0.113.77".to_owned()]),
        ("2001:db8::/32", &[], vec!["ip_address:2001:db8::5".to_owned()]),
        ("203.0.113.0/24", &[EntityType::User], vec![]),
    ] {
        for size in [1, 1_000] {
            assert_eq!(search(&fixture, text, types, size).await, expected, "{text}");
        }
    }
    fixture.stop().await;
}

#[tokio::test]
async fn pages_walk_everything_once_and_summaries_are_whole() {
    let fixture = Fixture::start().await;
    world::fill(&fixture).await;
    let whole = search(&fixture, "*", &[], 1_000).await;
    for size in [1, 7] {
        assert_eq!(search(&fixture, "*", &[], size).await, whole);
    }
    let mut wanted = BTreeSet::new();
    for event in fixture.events() {
        wanted.extend([&event.actor, &event.parent, &event.origin].into_iter().flatten().map(ToString::to_string));
        wanted.extend(event.links.iter().map(|(_, linked)| linked.to_string()));
        let named = [("account", &event.account), ("aws_service", &event.service), ("user_agent", &event.user_agent), ("access_key", &event.access_key)];
        wanted.extend(named.into_iter().filter(|(_, id)| !id.is_empty()).map(|(kind, id)| format!("{kind}:{id}")));
        if event.address.parse::<std::net::IpAddr>().is_ok() {
            wanted.insert(format!("ip_address:{}", event.address));
        }
    }
    assert_eq!(whole.iter().cloned().collect::<BTreeSet<_>>(), wanted, "whatever a record names is an entity, and nothing else is");

    // A new alias in a later batch must not hide the earlier times.
    let late = Call::new("late", "2024-08-01T00:00:00Z", Who::User("alice")).json();
    let mut renamed = late.clone();
    renamed["userIdentity"]["principalId"] = "AIDANEW".into();
    fixture.commit_calls("late", &[renamed]).await;
    let request = SearchEntitiesRequest { graph_arn: fixture.arn(), text: "AIDANEW".to_owned(), ..Default::default() };
    let found = fixture.reader.clone().search_entities(request).await.unwrap().into_inner();
    let [summary] = found.entities.as_slice() else { panic!("{found:?}") };
    let first =
        fixture.events().iter().filter(|event| event.actor.as_ref().is_some_and(|actor| actor.id == user_arn("alice"))).map(|event| event.time).min().unwrap();
    assert_eq!(summary.first_time, Some(gumshoe_api::convert::time_to_proto(first)));
    assert_eq!(summary.last_time.as_ref().unwrap().seconds, 1_722_470_400);
    assert_eq!(summary.aliases, ["AIDAALICE", "AIDANEW"]);
    fixture.stop().await;
}

#[tokio::test]
async fn refuses_wrong_fields_and_foreign_tokens() {
    let fixture = Fixture::start().await;
    world::fill(&fixture).await;
    let good = SearchEntitiesRequest { graph_arn: fixture.arn(), text: "*".to_owned(), page_size: 1, ..Default::default() };
    let token = fixture.reader.clone().search_entities(good.clone()).await.unwrap().into_inner().next_page_token;
    for (request, reason, field) in [
        (SearchEntitiesRequest { text: String::new(), ..good.clone() }, "INVALID_FIELD", "text"),
        (SearchEntitiesRequest { text: "x".repeat(513), ..good.clone() }, "INVALID_FIELD", "text"),
        (SearchEntitiesRequest { types: vec![1, 99], ..good.clone() }, "INVALID_FIELD", "types"),
        (SearchEntitiesRequest { page_size: 1_001, ..good.clone() }, "INVALID_FIELD", "page_size"),
        (SearchEntitiesRequest { page_token: token, text: "a*".to_owned(), ..good }, "INVALID_PAGE_TOKEN", "page_token"),
    ] {
        let status = fixture.reader.clone().search_entities(request).await.unwrap_err();
        refused(&status, Code::InvalidArgument, reason, &[field]);
    }
    fixture.stop().await;
}
