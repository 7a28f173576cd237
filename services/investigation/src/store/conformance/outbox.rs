//! The outbox: verdicts handed on by one worker at a time, in order, until they are settled.

use std::collections::BTreeSet;

use gumshoe_model::Timestamp;

use super::{Fixture, NOW, finding, graph, verdict};
use crate::{
    store::{Errand, Outbox as _, Settled, Store as _, sql::SqlStore},
    verdict::{DeliveryState, Kind, Verdict},
};

conforms! {
    a_verdict_is_handed_on_until_it_is_settled,
    what_is_not_to_be_delivered_says_nothing,
    a_later_verdict_supersedes_one_that_waits,
    a_later_verdict_waits_for_who_works_on_the_earlier_one,
    an_errand_is_postponed_with_its_reason,
    an_errand_ends_with_its_lease,
    errands_are_given_up,
    workers_share_errands_and_each_is_had_once,
    an_errand_knows_that_its_finding_was_put_away,
}

const LEASE: i64 = 1_000;

fn at(time: i64) -> Timestamp {
    Timestamp(NOW.0 + time)
}

async fn record(store: &SqlStore, name: &str, kind: Kind, time: i64) -> Verdict {
    store.create_verdict(&graph(1), &verdict(name, kind, None), true, at(time)).await.unwrap()
}

async fn claim(store: &SqlStore, worker: &str, time: i64) -> Vec<Errand> {
    store.claim_errands(worker, at(time), at(time + LEASE), 10).await.unwrap()
}

/// State, reason and attempts of each of the finding's deliveries, latest first.
async fn deliveries(store: &SqlStore, name: &str) -> Vec<(DeliveryState, String, u32)> {
    let verdicts = store.list_verdicts(&graph(1), &finding(name), None, 10).await.unwrap();
    verdicts.into_iter().filter_map(|verdict| verdict.delivery).map(|delivery| (delivery.state, delivery.reason, delivery.attempts)).collect()
}

async fn a_verdict_is_handed_on_until_it_is_settled(fixture: Fixture) {
    let store = &fixture.store;
    assert!(claim(store, "a", 0).await.is_empty());
    let mut recorded = Vec::new();
    for (name, settled, state, reason) in [
        ("f", Settled::Delivered, DeliveryState::Delivered, ""),
        ("g", Settled::Failed("403 ü".to_owned()), DeliveryState::Failed, "403 ü"),
        ("h", Settled::Skipped("nobody".to_owned()), DeliveryState::Skipped, "nobody"),
    ] {
        let verdict = record(store, name, Kind::Benign, 0).await;
        assert_eq!(verdict.delivery.as_ref().map(|delivery| (delivery.state, delivery.attempts, delivery.time)), Some((DeliveryState::Pending, 0, NOW)));
        let errand = claim(store, "a", 1).await.pop().unwrap();
        assert_eq!((errand.graph.clone(), errand.attempts, errand.was_put_away), (graph(1), 1, false));
        assert_eq!(errand.verdict, verdict);
        assert!(store.settle_errand("a", &errand, &settled, at(7)).await.unwrap());
        assert_eq!(deliveries(store, name).await, [(state, reason.to_owned(), 1)]);
        recorded.push(name);
    }
    assert!(claim(store, "a", 100 * LEASE).await.is_empty(), "what is settled is over");
    let found = store.verdicts_in_force(&graph(1), &[finding("f")]).await.unwrap();
    assert_eq!(found[&finding("f")].delivery.as_ref().unwrap().time, at(7));
}

async fn what_is_not_to_be_delivered_says_nothing(fixture: Fixture) {
    let store = &fixture.store;
    let made = store.create_verdict(&graph(1), &verdict("f", Kind::FalsePositive, None), false, NOW).await.unwrap();
    assert_eq!(made.delivery, None);
    let errand = claim(store, "a", 0).await.pop().unwrap();
    assert_eq!(errand.verdict, made);
    store.postpone_errand("a", &errand, at(5), "the graph is down", true, at(1)).await.unwrap();
    let errand = claim(store, "a", 5).await.pop().unwrap();
    assert!(store.settle_errand("a", &errand, &Settled::Failed("no".to_owned()), at(6)).await.unwrap());
    assert_eq!(deliveries(store, "f").await, []);
}

async fn a_later_verdict_supersedes_one_that_waits(fixture: Fixture) {
    let store = &fixture.store;
    record(store, "f", Kind::FalsePositive, 0).await;
    let second = record(store, "f", Kind::Reopened, 1).await;
    record(store, "other", Kind::Benign, 1).await;
    let state = |state| (state, String::new(), 0);
    assert_eq!(deliveries(store, "f").await, [state(DeliveryState::Pending), state(DeliveryState::Superseded)]);
    let claimed: Vec<_> = claim(store, "a", 2).await.into_iter().map(|errand| errand.verdict).collect();
    assert_eq!(claimed.iter().filter(|verdict| verdict.content.finding == finding("f")).collect::<Vec<_>>(), [&second]);
    // What was delivered stays so.
    let errand = Errand { graph: graph(1), verdict: second, was_put_away: true, attempts: 1 };
    store.settle_errand("a", &errand, &Settled::Delivered, at(3)).await.unwrap();
    record(store, "f", Kind::Benign, 4).await;
    let states: Vec<_> = deliveries(store, "f").await.into_iter().map(|(state, ..)| state).collect();
    assert_eq!(states, [DeliveryState::Pending, DeliveryState::Delivered, DeliveryState::Superseded]);
}

async fn a_later_verdict_waits_for_who_works_on_the_earlier_one(fixture: Fixture) {
    let store = &fixture.store;
    record(store, "f", Kind::FalsePositive, 0).await;
    let early = claim(store, "a", 0).await.pop().unwrap();
    record(store, "f", Kind::Reopened, 1).await;
    assert!(claim(store, "b", 2).await.is_empty(), "they must not overtake each other");
    assert!(!store.settle_errand("a", &early, &Settled::Delivered, at(3)).await.unwrap());
    let late = claim(store, "b", 4).await.pop().unwrap();
    assert_eq!((late.verdict.content.kind, late.attempts, late.was_put_away), (Kind::Reopened, 1, true));
    // The same when the earlier one is postponed.
    record(store, "f", Kind::Benign, 5).await;
    store.postpone_errand("b", &late, at(1_000_000), "later", true, at(6)).await.unwrap();
    assert_eq!(claim(store, "a", 7).await.pop().unwrap().verdict.content.kind, Kind::Benign);
    let states: Vec<_> = deliveries(store, "f").await;
    assert_eq!(states[1], (DeliveryState::Superseded, String::new(), 0));
}

async fn an_errand_is_postponed_with_its_reason(fixture: Fixture) {
    let store = &fixture.store;
    record(store, "f", Kind::Benign, 0).await;
    let errand = claim(store, "a", 0).await.pop().unwrap();
    store.postpone_errand("a", &errand, at(50), "500", true, at(1)).await.unwrap();
    assert_eq!(deliveries(store, "f").await, [(DeliveryState::Pending, "500".to_owned(), 1)]);
    assert!(claim(store, "b", 49).await.is_empty());
    let errand = claim(store, "b", 50).await.pop().unwrap();
    assert_eq!(errand.attempts, 2);
    store.postpone_errand("b", &errand, at(60), "the graph is down", false, at(51)).await.unwrap();
    assert_eq!(deliveries(store, "f").await, [(DeliveryState::Pending, "the graph is down".to_owned(), 1)]);
    assert_eq!(claim(store, "b", 60).await.pop().unwrap().attempts, 2, "that one did not count");
}

async fn an_errand_ends_with_its_lease(fixture: Fixture) {
    let store = &fixture.store;
    record(store, "f", Kind::Benign, 0).await;
    let lost = claim(store, "a", 0).await.pop().unwrap();
    assert!(claim(store, "b", LEASE - 1).await.is_empty());
    let had = claim(store, "b", LEASE).await.pop().unwrap();
    assert_eq!(had.attempts, 2);
    assert!(!store.settle_errand("a", &lost, &Settled::Delivered, at(LEASE + 1)).await.unwrap());
    store.postpone_errand("a", &lost, at(0), "late", true, at(LEASE + 1)).await.unwrap();
    assert_eq!(deliveries(store, "f").await, [(DeliveryState::Pending, String::new(), 0)]);
    assert!(claim(store, "c", LEASE + 2).await.is_empty(), "what `a` did changes nothing");
    assert!(store.settle_errand("b", &had, &Settled::Delivered, at(LEASE + 3)).await.unwrap());
}

async fn errands_are_given_up(fixture: Fixture) {
    let store = &fixture.store;
    record(store, "f", Kind::Benign, 0).await;
    record(store, "g", Kind::Benign, 0).await;
    assert_eq!(claim(store, "a", 0).await.len(), 2);
    store.give_up_errands("").await.unwrap();
    assert!(claim(store, "b", 1).await.is_empty());
    store.give_up_errands("a").await.unwrap();
    let attempts: Vec<_> = claim(store, "b", 1).await.into_iter().map(|errand| errand.attempts).collect();
    assert_eq!(attempts, [1, 1], "those given up do not count");
}

async fn workers_share_errands_and_each_is_had_once(fixture: Fixture) {
    for number in 0..40 {
        record(&fixture.store, &format!("f{number}"), Kind::Benign, number).await;
    }
    let workers = (0..4).map(|worker| {
        let store = fixture.store.clone();
        tokio::spawn(async move {
            let mut had = Vec::new();
            loop {
                let some = store.claim_errands(&worker.to_string(), at(100), at(100 + LEASE), 3).await.unwrap();
                if some.is_empty() {
                    return had;
                }
                had.extend(some.into_iter().map(|errand| errand.verdict.content.finding.as_str().to_owned()));
            }
        })
    });
    let had: Vec<String> = futures::future::join_all(workers).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!((had.len(), had.iter().collect::<BTreeSet<_>>().len()), (40, 40));
}

async fn an_errand_knows_that_its_finding_was_put_away(fixture: Fixture) {
    let store = &fixture.store;
    for (kind, put_away) in [(Kind::TruePositive, false), (Kind::Benign, false), (Kind::TruePositive, true)] {
        record(store, "f", kind, 0).await;
        let errand = claim(store, "a", 1).await.pop().unwrap();
        assert_eq!(errand.was_put_away, put_away);
        store.settle_errand("a", &errand, &Settled::Delivered, at(2)).await.unwrap();
    }
}
