//! One suite for every store: memory, Redis, and a Redis that is absent, slow or emptied.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use gumshoe_model::GraphArn;
use gumshoe_profiles::{Key, OpenError, Profiles};

const TTL: Duration = Duration::from_secs(60);

fn redis_url() -> String {
    std::env::var("GUMSHOE_TEST_REDIS").unwrap_or_else(|_| "redis://127.0.0.1:6379/".to_owned())
}

fn graph(id: &str) -> GraphArn {
    format!("arn:aws:detective:us-east-1:123456789012:graph:{id:0>32}").parse().unwrap()
}

/// A request that no other run of the tests makes.
fn unique(name: &str) -> Vec<u8> {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("{name}:{}:{nanos}", std::process::id()).into_bytes()
}

async fn conformance(profiles: &Profiles) {
    let request = unique("conformance");
    let key = Key::new(&graph("a"), "profile", 1, &request);
    assert_eq!(profiles.get(&key).await, None);
    profiles.put(&key, Bytes::from_static(b"\x00\xffvalue"), TTL).await;
    assert_eq!(profiles.get(&key).await.as_deref(), Some(&b"\x00\xffvalue"[..]));
    for other in [
        Key::new(&graph("b"), "profile", 1, &request),
        Key::new(&graph("a"), "risk", 1, &request),
        Key::new(&graph("a"), "profile", 2, &request),
        Key::new(&graph("a"), "profile", 1, &unique("other")),
    ] {
        assert_eq!(profiles.get(&other).await, None, "{other}");
    }
    profiles.put(&key, Bytes::from_static(b"newer"), TTL).await;
    assert_eq!(profiles.get(&key).await.as_deref(), Some(&b"newer"[..]));

    let short = Key::new(&graph("a"), "profile", 1, &unique("short"));
    profiles.put(&short, Bytes::from_static(b"x"), Duration::from_millis(1)).await;
    let start = Instant::now();
    while profiles.get(&short).await.is_some() {
        assert!(start.elapsed() < Duration::from_secs(5), "value outlived its time");
        tokio::task::yield_now().await;
    }

    let huge = Key::new(&graph("a"), "profile", 1, &unique("huge"));
    profiles.put(&huge, Bytes::from(vec![0; (4 << 20) + 1]), TTL).await;
    assert_eq!(profiles.get(&huge).await, None);

    let built = AtomicUsize::new(0);
    let absent = Key::new(&graph("a"), "profile", 1, &unique("absent"));
    let build = || {
        profiles.get_or_build(&absent, TTL, async {
            built.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Infallible>(Bytes::from_static(b"built"))
        })
    };
    assert_eq!(build().await.unwrap(), "built");
    assert_eq!(build().await.unwrap(), "built");
    assert_eq!(built.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn memory_conforms() {
    conformance(&Profiles::open("memory://", 64 << 20).unwrap()).await;
}

#[tokio::test]
async fn redis_conforms() {
    conformance(&Profiles::open(&redis_url(), 0).unwrap()).await;
}

#[tokio::test]
async fn redis_values_are_shared_and_expire() {
    let (one, two) = (Profiles::open(&redis_url(), 0).unwrap(), Profiles::open(&redis_url(), 0).unwrap());
    let key = Key::new(&graph("c"), "profile", 7, &unique("shared"));
    one.put(&key, Bytes::from_static(b"v"), TTL).await;
    assert_eq!(two.get(&key).await.as_deref(), Some(&b"v"[..]));
    let mut connection = redis::Client::open(redis_url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let left: i64 = redis::cmd("PTTL").arg(key.as_str()).query_async(&mut connection).await.unwrap();
    assert!((1..=60_000).contains(&left), "{left}");
    let _: () = redis::cmd("DEL").arg(key.as_str()).query_async(&mut connection).await.unwrap();
    assert_eq!(two.get(&key).await, None, "an emptied store is a miss");
}

#[tokio::test]
async fn absent_redis_is_a_miss_and_soon_costs_nothing() {
    // A port that was free a moment ago and has no listener.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let profiles = Profiles::open(&format!("redis://127.0.0.1:{port}/"), 0).unwrap();
    never_fails(&profiles).await;
}

#[tokio::test]
async fn silent_redis_is_a_miss_and_soon_costs_nothing() {
    // Accepts connections into its backlog and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for query in ["", "?cluster=true"] {
        never_fails(&Profiles::open(&format!("redis://127.0.0.1:{port}/{query}"), 0).unwrap()).await;
    }
}

async fn never_fails(profiles: &Profiles) {
    let start = Instant::now();
    for index in 0..500 {
        let key = Key::new(&graph("d"), "profile", index, b"r");
        let value = profiles.get_or_build(&key, TTL, async { Ok::<_, Infallible>(Bytes::from_static(b"built")) }).await.unwrap();
        assert_eq!(value, "built");
    }
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test]
async fn memory_is_bounded_by_bytes() {
    let profiles = Profiles::memory(1 << 20);
    let keys: Vec<_> = (0..200).map(|version| Key::new(&graph("e"), "profile", version, b"r")).collect();
    for key in &keys {
        profiles.put(key, Bytes::from(vec![1; 64 << 10]), TTL).await;
    }
    let mut kept = usize::MAX;
    // Eviction runs with the calls that follow.
    for _ in 0..1_000 {
        kept = 0;
        for key in &keys {
            kept += usize::from(profiles.get(key).await.is_some());
        }
        if kept <= 16 {
            break;
        }
    }
    assert!(kept <= 16, "{kept} values of 64 KiB in 1 MiB");
}

#[tokio::test]
async fn refuses_other_urls() {
    for url in ["", "memory", "http://localhost", "postgres://x/y"] {
        assert!(matches!(Profiles::open(url, 0), Err(OpenError::Url)), "{url}");
    }
}

#[test]
fn keys_keep_a_graph_on_one_slot() {
    let key = Key::new(&graph("f"), "profile", 3, b"r");
    assert!(key.as_str().starts_with(&format!("gumshoe:v1:{{{:0>32}}}:profile:profile:3:", "f")), "{key}");
}
