//! Role chains over two hops, from their origin and back.

use std::collections::BTreeSet;

use gumshoe_api::{
    convert::{relation_from_proto, window_to_proto},
    graph::v1::{ChainStep, GetRoleChainRequest, GetRoleChainResponse},
};
use tonic::Code;

use crate::{
    fixture::{ACCOUNT, Call, Fixture, Who, assume, entity, name, role_arn, session_id, user_arn, window},
    refuse::refused,
};

async fn chain(fixture: &Fixture, of: &str, depth: i32) -> GetRoleChainResponse {
    let request = GetRoleChainRequest { graph_arn: fixture.arn(), entity: entity(of), scope: None, depth };
    fixture.reader.clone().get_role_chain(request).await.unwrap().into_inner()
}

type Step = (i32, String, &'static str, String);

fn step(step: &ChainStep) -> Step {
    (step.distance, name(step.from.as_ref()), relation_from_proto(step.relation).unwrap().as_str(), name(step.to.as_ref()))
}

/// alice at 198.51.100.1 with AKIAALICE -> deploy/ci with ASIACI -> audit/chained with ASIACHAINED, which calls from 203.0.113.9.
async fn two_hops(fixture: &Fixture) {
    let ci = || Who::Session("deploy", "ci", Some("alice@corp.example"));
    let first = Call { access_key: "AKIAALICE".to_owned(), ..assume("1", "2024-06-30T10:00:00Z", Who::User("alice"), "deploy", "ci", "ASIACI") };
    let second = Call { access_key: "ASIACI".to_owned(), ..assume("2", "2024-06-30T11:00:00Z", ci(), "audit", "chained", "ASIACHAINED") };
    let last = Call {
        access_key: "ASIACHAINED".to_owned(),
        address: "203.0.113.9".to_owned(),
        ..Call::new("3", "2024-06-30T12:00:00Z", Who::Session("audit", "chained", Some("alice@corp.example")))
    };
    fixture.commit_calls("chain", &[first.json(), second.json(), last.json()]).await;
}

#[tokio::test]
async fn follows_two_hops_forward_from_the_address() {
    let fixture = Fixture::start().await;
    two_hops(&fixture).await;
    let (ci, chained) = (format!("role_session:{}", session_id("deploy", "ci")), format!("role_session:{}", session_id("audit", "chained")));
    let (deploy, audit, alice) = (format!("role:{}", role_arn("deploy")), format!("role:{}", role_arn("audit")), format!("user:{}", user_arn("alice")));
    let answer = chain(&fixture, "access_key:AKIAALICE", 10).await;
    assert!(!answer.truncated);
    let found: BTreeSet<Step> = answer.steps.iter().map(step).collect();
    assert_eq!(found.len(), answer.steps.len());
    let key = |id: &str| format!("access_key:{id}");
    let expected = [
        (-1, String::new(), "", String::new()),
        (1, key("AKIAALICE"), "used", alice.clone()),
        (2, alice.clone(), "assumed", key("ASIACI")),
        (2, alice.clone(), "assumed", ci.clone()),
        (2, alice.clone(), "assumed", deploy.clone()),
        (3, key("ASIACI"), "used", ci.clone()),
        (3, ci.clone(), "assumed", deploy.clone()),
        (3, ci.clone(), "assumed", audit.clone()),
        (3, ci.clone(), "assumed", chained.clone()),
        (3, ci.clone(), "assumed", key("ASIACHAINED")),
        (4, chained.clone(), "assumed", audit.clone()),
        (4, key("ASIACHAINED"), "used", chained.clone()),
    ];
    assert_eq!(found, expected.into_iter().skip(1).collect::<BTreeSet<_>>());
    let distances: Vec<_> = answer.steps.iter().map(|step| step.distance).collect();
    assert!(distances.is_sorted());

    let near = chain(&fixture, "access_key:AKIAALICE", 1).await;
    assert_eq!(near.steps.iter().map(step).collect::<Vec<_>>(), [(1, key("AKIAALICE"), "used", alice)]);
    fixture.stop().await;
}

#[tokio::test]
async fn follows_two_hops_back_to_address_and_source_identity() {
    let fixture = Fixture::start().await;
    two_hops(&fixture).await;
    let (ci, chained) = (format!("role_session:{}", session_id("deploy", "ci")), format!("role_session:{}", session_id("audit", "chained")));
    let answer = chain(&fixture, &chained, 0).await;
    let found: BTreeSet<Step> = answer.steps.iter().map(step).collect();
    let alice = format!("user:{}", user_arn("alice"));
    for expected in [
        (-1, ci.clone(), "assumed", chained.clone()),
        (-1, "federated_user:alice@corp.example".to_owned(), "assumed", chained.clone()),
        (-1, "ip_address:203.0.113.9".to_owned(), "used", chained.clone()),
        (-1, "access_key:ASIACHAINED".to_owned(), "used", chained.clone()),
        (-2, alice.clone(), "assumed", ci.clone()),
        (-2, "federated_user:alice@corp.example".to_owned(), "assumed", ci.clone()),
        (-2, "access_key:ASIACI".to_owned(), "used", ci),
        (-3, "ip_address:198.51.100.1".to_owned(), "used", alice),
        (1, chained, "assumed", format!("role:{}", role_arn("audit"))),
    ] {
        assert!(found.contains(&expected), "{expected:?} is not in {found:#?}");
    }
    fixture.stop().await;
}

#[tokio::test]
async fn role_leads_on_through_its_own_sessions_only() {
    let fixture = Fixture::start().await;
    two_hops(&fixture).await;
    // Another role's session assumes deploy too; what it did next is not deploy's doing.
    let stranger = Who::Session("stranger", "s", None);
    fixture
        .commit_calls(
            "stranger",
            &[
                assume("s1", "2024-06-30T10:00:00Z", stranger.clone(), "deploy", "s", "ASIAS").json(),
                assume("s2", "2024-06-30T10:01:00Z", stranger, "billing", "s", "ASIAB").json(),
            ],
        )
        .await;
    let answer = chain(&fixture, &format!("role:{}", role_arn("deploy")), 2).await;
    let found: BTreeSet<Step> = answer.steps.iter().map(step).collect();
    let (ci, audit) = (format!("role_session:{}", session_id("deploy", "ci")), format!("role:{}", role_arn("audit")));
    assert!(found.contains(&(1, ci.clone(), "assumed", audit.clone())), "{found:#?}");
    assert!(found.contains(&(-1, ci, "assumed", format!("role:{}", role_arn("deploy")))), "{found:#?}");
    assert!(found.contains(&(-1, format!("role_session:{}", session_id("stranger", "s")), "assumed", format!("role:{}", role_arn("deploy")))), "{found:#?}");
    assert!(!found.iter().any(|(distance, _, _, to)| *distance > 0 && to.contains("billing")), "{found:#?}");
    fixture.stop().await;
}

#[tokio::test]
async fn sign_in_leads_to_the_account_and_time_narrows() {
    let fixture = Fixture::start().await;
    two_hops(&fixture).await;
    let login = Call {
        service: "signin.amazonaws.com",
        operation: "ConsoleLogin",
        more: serde_json::json!({ "eventType": "AwsConsoleSignIn" }),
        ..Call::new("login", "2024-06-30T09:00:00Z", Who::User("alice"))
    };
    fixture.commit_calls("login", &[login.json()]).await;
    let request = GetRoleChainRequest {
        graph_arn: fixture.arn(),
        entity: entity(&format!("user:{}", user_arn("alice"))),
        scope: Some(window_to_proto(window("2024-06-30T09:00:00Z", "2024-06-30T10:00:00Z"))),
        depth: 3,
    };
    let answer = fixture.reader.clone().get_role_chain(request).await.unwrap().into_inner();
    let alice = format!("user:{}", user_arn("alice"));
    assert_eq!(
        answer.steps.iter().map(step).collect::<Vec<_>>(),
        [(-1, "ip_address:198.51.100.1".to_owned(), "used", alice.clone()), (1, alice, "logged_in", format!("account:{ACCOUNT}"))]
    );
    fixture.stop().await;
}

#[tokio::test]
async fn endless_fan_out_is_cut_at_a_thousand_steps() {
    let fixture = Fixture::start().await;
    let records: Vec<_> = (0..1_200)
        .map(|number| {
            Call { address: format!("10.{}.{}.1", number / 250, number % 250), ..Call::new(format!("c{number}"), "2024-06-30T10:00:00Z", Who::User("alice")) }
                .json()
        })
        .collect();
    fixture.commit_calls("b", &records).await;
    let answer = chain(&fixture, &format!("user:{}", user_arn("alice")), 5).await;
    assert_eq!((answer.steps.len(), answer.truncated), (1_000, true));
    fixture.stop().await;
}

#[tokio::test]
async fn refuses_wrong_fields() {
    let fixture = Fixture::start().await;
    let good = GetRoleChainRequest { graph_arn: fixture.arn(), entity: entity("user:x"), scope: None, depth: 0 };
    assert_eq!(fixture.reader.clone().get_role_chain(good.clone()).await.unwrap().into_inner(), GetRoleChainResponse::default());
    for (request, field) in [
        (GetRoleChainRequest { depth: 11, ..good.clone() }, "depth"),
        (GetRoleChainRequest { depth: -1, ..good.clone() }, "depth"),
        (
            GetRoleChainRequest { entity: entity("user:x").map(|entity| gumshoe_api::common::v1::EntityKey { id: String::new(), ..entity }), ..good },
            "entity.id",
        ),
    ] {
        refused(&fixture.reader.clone().get_role_chain(request).await.unwrap_err(), Code::InvalidArgument, "INVALID_FIELD", &[field]);
    }
    fixture.stop().await;
}
