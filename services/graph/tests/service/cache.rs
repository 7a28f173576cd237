//! Hot answers: in Redis or in memory, shared, emptied, spoilt or absent, the answers stay right.

use gumshoe_api::graph::v1::{EntityProfile, GetEntityProfileRequest};
use gumshoe_graph::Config;

use crate::{
    fixture::{Call, Fixture, Who, entity, user_arn},
    recount::Sum,
    world,
};

fn redis_url() -> String {
    std::env::var("GUMSHOE_TEST_REDIS").unwrap_or_else(|_| "redis://127.0.0.1:6379/".to_owned())
}

async fn profile(fixture: &Fixture, user: &str) -> EntityProfile {
    let request = GetEntityProfileRequest { graph_arn: fixture.arn(), entity: entity(&format!("user:{}", user_arn(user))), ..Default::default() };
    fixture.reader.clone().get_entity_profile(request).await.unwrap().into_inner().profile.unwrap()
}

async fn redis() -> redis::aio::MultiplexedConnection {
    redis::Client::open(redis_url()).unwrap().get_multiplexed_async_connection().await.unwrap()
}

/// The keys of one graph. Tests run side by side on one Redis, so each has a graph of its own.
async fn keys(fixture: &Fixture) -> Vec<String> {
    let pattern = format!("gumshoe:v1:{{{}}}:profile:profile:*", fixture.arn.id());
    redis::cmd("KEYS").arg(pattern).query_async(&mut redis().await).await.unwrap()
}

#[tokio::test]
async fn emptied_and_spoilt_redis_costs_time_only() {
    let fixture = Fixture::in_own_graph(|config: &mut Config| config.profiles.url = redis_url().into()).await;
    world::fill(&fixture).await;
    let first = profile(&fixture, "alice").await;
    let kept = keys(&fixture).await;
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(profile(&fixture, "alice").await, first);
    assert_eq!(keys(&fixture).await, kept);

    let _: () = redis::cmd("DEL").arg(&kept).query_async(&mut redis().await).await.unwrap();
    assert_eq!(profile(&fixture, "alice").await, first);
    assert_eq!(keys(&fixture).await, kept, "built again and kept again");

    let _: () = redis::cmd("SET").arg(&kept[0]).arg("\u{ff}spoilt").query_async(&mut redis().await).await.unwrap();
    assert_eq!(profile(&fixture, "alice").await, first);

    // What is kept is really used: a valid stand-in comes back as it is.
    let mut stand_in = first.clone();
    stand_in.name = "stand-in".to_owned();
    let _: () = redis::cmd("SET").arg(&kept[0]).arg(prost::Message::encode_to_vec(&stand_in)).query_async(&mut redis().await).await.unwrap();
    assert_eq!(profile(&fixture, "alice").await.name, "stand-in");

    // A commit makes all kept answers stale at once.
    let before = Sum::of(first.totals.as_ref());
    fixture.commit_calls("more", &[Call::new("more", "2024-07-01T10:00:00Z", Who::User("alice")).json()]).await;
    let after = profile(&fixture, "alice").await;
    assert_eq!(after.name, "alice");
    assert_eq!(Sum::of(after.totals.as_ref()).successes, before.successes + 1);
    assert_eq!(keys(&fixture).await.len(), 2);
    fixture.stop().await;
}

#[tokio::test]
async fn absent_redis_changes_no_answer() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let without = Fixture::with(|config| config.profiles.url = format!("redis://127.0.0.1:{port}/").into()).await;
    let with = Fixture::start().await;
    world::fill(&without).await;
    world::fill(&with).await;
    for user in ["alice", "bob"] {
        assert_eq!(profile(&without, user).await, profile(&with, user).await);
    }
    without.stop().await;
    with.stop().await;
}
