//! Graphs: their tags, packages and accounts, and their end.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use gumshoe_model::{GraphArn, Timestamp};
use gumshoe_runtime::{FixedClock, Shutdown};
use tokio::sync::Notify;

use super::{CORE, Fixture, NOW, account, conforms, graph_of, id, later, new_member, principal};
use crate::{
    datasource::{Package, PackageState},
    graph::Graph,
    lake::{Lake, Unreachable, Volume},
    member::{Event, Load},
    removal::{LEASE, Remover, SETTLE},
    store::{GraphStore as _, MemberStore as _, PrincipalStore as _, StoreError},
    tag::{MAX_TAGS, TagKey, Tags},
};

conforms! {
    tags_are_set_replaced_and_removed,
    tags_come_with_a_new_graph_only,
    packages_start_once,
    a_graph_says_whose_logs_it_takes,
    a_removed_graph_leaves_nothing_but_its_removal,
    a_removal_is_worked_at_by_one,
    data_is_removed_until_nothing_can_come_after,
    making_and_removing_at_once_is_in_some_order,
}

fn tags(pairs: &[(&str, &str)]) -> Tags {
    pairs.iter().map(|(key, value)| (key.parse().unwrap(), value.parse().unwrap())).collect()
}

fn keys(names: &[&str]) -> Vec<TagKey> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

async fn tags_are_set_replaced_and_removed(fixture: Fixture) {
    let store = &fixture.store;
    let (graph, other) = (graph_of(&fixture, 1).await, graph_of(&fixture, 2).await);
    assert!(store.tags(&graph).await.unwrap().is_empty());
    store.set_tags(&graph, &tags(&[("team", "red"), ("stage", "")])).await.unwrap();
    store.set_tags(&graph, &tags(&[("team", "blü"), ("cost", "1")])).await.unwrap();
    assert_eq!(store.tags(&graph).await.unwrap(), tags(&[("cost", "1"), ("stage", ""), ("team", "blü")]));
    store.remove_tags(&graph, &keys(&["stage", "nothing"])).await.unwrap();
    assert_eq!(store.tags(&graph).await.unwrap(), tags(&[("cost", "1"), ("team", "blü")]));
    assert!(store.tags(&other).await.unwrap().is_empty());

    let many = |from: usize, count: usize| (from..from + count).map(|number| (format!("k{number}").parse().unwrap(), "v".parse().unwrap())).collect::<Tags>();
    store.set_tags(&graph, &many(0, MAX_TAGS - 2)).await.unwrap();
    assert!(matches!(store.set_tags(&graph, &many(MAX_TAGS, 1)).await, Err(StoreError::QuotaExceeded)));
    assert_eq!(store.tags(&graph).await.unwrap().len(), MAX_TAGS);
    store.set_tags(&graph, &many(0, 1)).await.unwrap();

    let missing = Graph::new("us-east-1", &id(1), NOW).unwrap().arn;
    assert!(matches!(store.tags(&missing).await, Err(StoreError::NotFound)));
    assert!(matches!(store.set_tags(&missing, &tags(&[("a", "b")])).await, Err(StoreError::NotFound)));
    assert!(matches!(store.remove_tags(&missing, &keys(&["a"])).await, Err(StoreError::NotFound)));
}

async fn tags_come_with_a_new_graph_only(fixture: Fixture) {
    let store = &fixture.store;
    store.create_account(&id(1), &account(1)).await.unwrap();
    let create = async |pairs: &[(&str, &str)]| store.create_graph(&Graph::new("us-east-1", &id(1), NOW).unwrap(), &tags(pairs), CORE).await.unwrap().arn;
    let graph = create(&[("a", "1")]).await;
    assert_eq!(create(&[("a", "2"), ("b", "3")]).await, graph);
    assert_eq!(store.tags(&graph).await.unwrap(), tags(&[("a", "1")]));
    let second = store.create_graph(&Graph::new("eu-west-1", &id(1), NOW).unwrap(), &Tags::new(), CORE).await.unwrap().arn;
    store.create_principal(&id(1), &principal("user/a")).await.unwrap();
    let authorization = store.authorization(&id(1), &"user/a".parse().unwrap()).await.unwrap();
    assert_eq!(authorization.graphs, [(second, Tags::new()), (graph, tags(&[("a", "1")]))]);
}

async fn packages_start_once(fixture: Fixture) {
    let store = &fixture.store;
    let graph = graph_of(&fixture, 1).await;
    store.start_packages(&graph, &[Package::EksAudit, Package::DetectiveCore], later(5)).await.unwrap();
    store.start_packages(&graph, &[Package::EksAudit], later(9)).await.unwrap();
    let changes = store.package_changes(&graph, &id(1)).await.unwrap();
    let changes: Vec<_> = changes.iter().map(|change| (change.package, change.state, change.time)).collect();
    assert_eq!(changes, [(Package::DetectiveCore, PackageState::Started, NOW), (Package::EksAudit, PackageState::Started, later(5))]);
    let missing = Graph::new("us-east-1", &id(1), NOW).unwrap().arn;
    assert!(matches!(store.start_packages(&missing, CORE, NOW).await, Err(StoreError::NotFound)));
    assert!(store.package_changes(&missing, &id(1)).await.unwrap().is_empty());
}

async fn a_graph_says_whose_logs_it_takes(fixture: Fixture) {
    let store = &fixture.store;
    let graph = graph_of(&fixture, 1).await;
    for last in [2, 3, 4] {
        store.create_account(&id(2), &account(last)).await.unwrap();
    }
    store.create_members(&graph, &[new_member(2), new_member(3), new_member(9)], NOW).await.unwrap();
    store.change_member(&graph, &id(2), Event::Accept, Load::Fits, NOW).await.unwrap().unwrap();
    let accounts = async || store.graph_accounts(&graph).await.unwrap().unwrap();
    let expected = [(id(1), true), (id(2), true), (id(3), false), (id(4), false), (id(9), false)];
    assert_eq!((accounts().await.accounts.as_slice(), accounts().await.packages.as_slice()), (expected.as_slice(), CORE));
    store.delete_members(&graph, &[id(2), id(9)], NOW).await.unwrap();
    store.start_packages(&graph, &[Package::EksAudit], NOW).await.unwrap();
    let left = accounts().await;
    assert_eq!(left.accounts, [(id(1), true), (id(2), false), (id(3), false), (id(4), false)], "who has left stays registered");
    assert_eq!(left.packages, [Package::DetectiveCore, Package::EksAudit]);
    assert_eq!(store.graph_accounts(&Graph::new("us-east-1", &id(1), NOW).unwrap().arn).await.unwrap(), None);
}

async fn a_removed_graph_leaves_nothing_but_its_removal(fixture: Fixture) {
    let store = &fixture.store;
    let graph = graph_of(&fixture, 1).await;
    store.create_account(&id(2), &account(2)).await.unwrap();
    store.create_members(&graph, &[new_member(2)], NOW).await.unwrap();
    store.set_tags(&graph, &tags(&[("a", "b")])).await.unwrap();
    store.delete_graph(&graph, later(1)).await.unwrap();
    assert!(matches!(store.delete_graph(&graph, later(2)).await, Err(StoreError::NotFound)));
    assert!(matches!(store.graph(&graph).await, Err(StoreError::NotFound)));
    assert!(store.list_graphs(&id(1), None, 10).await.unwrap().is_empty());
    assert!(store.list_memberships(&id(2), None, 10).await.unwrap().is_empty());
    assert!(store.package_changes(&graph, &id(2)).await.unwrap().is_empty());
    assert_eq!(store.graph_accounts(&graph).await.unwrap(), None);
    let anew = store.create_graph(&Graph::new("us-east-1", &id(1), later(3)).unwrap(), &Tags::new(), CORE).await.unwrap();
    assert_ne!(anew.arn, graph);
    assert!(store.tags(&anew.arn).await.unwrap().is_empty());
    let removal = store.claim_removal(later(4), later(9)).await.unwrap().unwrap();
    assert_eq!((removal.graph, removal.request_time, removal.attempts), (graph, later(1), 1));
}

async fn a_removal_is_worked_at_by_one(fixture: Fixture) {
    let store = &fixture.store;
    let mut graphs = HashSet::new();
    for last in 1..=3 {
        let graph = graph_of(&fixture, last).await;
        store.delete_graph(&graph, later(i64::from(last))).await.unwrap();
        graphs.insert(graph);
    }
    assert_eq!(store.claim_removal(NOW, later(50)).await.unwrap(), None, "none is due yet");
    let claims = (0..12).map(|_| {
        let store = fixture.store.clone();
        tokio::spawn(async move {
            let mut claimed: Vec<GraphArn> = Vec::new();
            while let Some(removal) = store.claim_removal(later(10), later(100)).await.unwrap() {
                claimed.push(removal.graph);
            }
            claimed
        })
    });
    let claimed: Vec<GraphArn> = futures::future::join_all(claims).await.into_iter().flat_map(Result::unwrap).collect();
    // Whoever finds another at the row it wanted looks again later: some may be left, none is had twice.
    let distinct: HashSet<GraphArn> = claimed.iter().cloned().collect();
    assert_eq!(claimed.len(), distinct.len());
    let mut left = distinct.clone();
    while let Some(removal) = store.claim_removal(later(10), later(100)).await.unwrap() {
        assert!(left.insert(removal.graph), "it is had already");
    }
    assert_eq!(left, graphs);
    let second = store.claim_removal(later(100), later(200)).await.unwrap().unwrap();
    assert_eq!((second.attempts, second.request_time), (2, later(1)), "the lease has ended; oldest first");
    store.postpone_removal(&second.graph, later(500)).await.unwrap();
    store.finish_removal(&store.claim_removal(later(100), later(200)).await.unwrap().unwrap().graph).await.unwrap();
    store.finish_removal(&store.claim_removal(later(100), later(200)).await.unwrap().unwrap().graph).await.unwrap();
    assert_eq!(store.claim_removal(later(499), later(600)).await.unwrap(), None);
    let last = store.claim_removal(later(500), later(600)).await.unwrap().unwrap();
    assert_eq!((last.graph.clone(), last.attempts), (second.graph, 3));
    store.finish_removal(&last.graph).await.unwrap();
    assert_eq!(store.claim_removal(Timestamp(i64::MAX), Timestamp(i64::MAX)).await.unwrap(), None);
}

/// Fails as often as it is told, then removes.
#[derive(Default)]
struct Failing {
    failures: Mutex<u32>,
    deleted: Mutex<Vec<GraphArn>>,
}

#[async_trait]
impl Lake for Failing {
    async fn volumes(&self, _: &GraphArn, _: u32) -> Result<Vec<Volume>, Unreachable> {
        Ok(Vec::new())
    }

    async fn delete_graph(&self, graph: &GraphArn) -> Result<(), Unreachable> {
        let mut failures = self.failures.lock().unwrap();
        if let Some(left) = failures.checked_sub(1) {
            *failures = left;
            return Err(Unreachable("as asked for".into()));
        }
        self.deleted.lock().unwrap().push(graph.clone());
        Ok(())
    }
}

async fn data_is_removed_until_nothing_can_come_after(fixture: Fixture) {
    let graph = graph_of(&fixture, 1).await;
    let clock = Arc::new(FixedClock::new(NOW));
    let lake = Arc::new(Failing { failures: Mutex::new(2), ..Failing::default() });
    let replica = || Remover::new(fixture.store.clone(), lake.clone(), clock.clone(), Arc::new(Notify::new()));
    let (first, second, running) = (replica(), replica(), Shutdown::new());
    assert!(!first.step(&running).await.unwrap());
    fixture.store.delete_graph(&graph, NOW).await.unwrap();
    assert!(first.step(&running).await.unwrap());
    assert!(!second.step(&running).await.unwrap(), "a pause follows the failure");
    clock.advance(Duration::from_secs(1));
    assert!(second.step(&running).await.unwrap());
    clock.advance(Duration::from_secs(1));
    assert!(!first.step(&running).await.unwrap(), "the pause grows");
    clock.advance(Duration::from_secs(1));
    assert!(lake.deleted.lock().unwrap().is_empty());
    assert!(first.step(&running).await.unwrap());
    assert_eq!(lake.deleted.lock().unwrap().as_slice(), std::slice::from_ref(&graph));
    assert!(!second.step(&running).await.unwrap());
    // What was on its way then has arrived by now. A replica that dies over it keeps it for the lease.
    clock.set(Timestamp(NOW.0 + i64::try_from(SETTLE.as_micros()).unwrap()));
    let now = gumshoe_runtime::Clock::now(&*clock);
    let lease = Timestamp(now.0 + i64::try_from(LEASE.as_micros()).unwrap());
    fixture.store.claim_removal(now, lease).await.unwrap().unwrap();
    assert!(!second.step(&running).await.unwrap());
    clock.advance(LEASE);
    assert!(second.step(&running).await.unwrap());
    assert_eq!(*lake.deleted.lock().unwrap(), [graph.clone(), graph]);
    clock.advance(SETTLE);
    assert!(!first.step(&running).await.unwrap(), "it is done");
}

async fn making_and_removing_at_once_is_in_some_order(fixture: Fixture) {
    fixture.store.create_account(&id(1), &account(1)).await.unwrap();
    let rounds = (0..40).map(|number| {
        let store = fixture.store.clone();
        tokio::spawn(async move {
            let graph = store.create_graph(&Graph::new("us-east-1", &id(1), NOW).unwrap(), &Tags::new(), CORE).await.unwrap().arn;
            let removed = number % 2 == 0 && store.delete_graph(&graph, later(number)).await.is_ok();
            (graph, removed)
        })
    });
    let outcomes: Vec<_> = futures::future::join_all(rounds).await.into_iter().map(Result::unwrap).collect();
    let made: HashSet<_> = outcomes.iter().map(|(graph, _)| graph.clone()).collect();
    let removed: Vec<_> = outcomes.iter().filter(|(_, removed)| *removed).map(|(graph, _)| graph.clone()).collect();
    assert_eq!(removed.len(), removed.iter().collect::<HashSet<_>>().len(), "a graph is removed once");
    let present = fixture.store.list_graphs(&id(1), None, 10).await.unwrap();
    assert!(present.len() <= 1 && present.iter().all(|graph| made.contains(&graph.arn)));
    assert_eq!(made.len(), removed.len() + present.len());
    let mut noted = HashSet::new();
    while let Some(removal) = fixture.store.claim_removal(later(1_000), later(2_000)).await.unwrap() {
        noted.insert(removal.graph);
    }
    assert_eq!(noted, removed.into_iter().collect());
}
