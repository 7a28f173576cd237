//! Suppressions: proposed once, decided on, ended, and kept apart by graph.

use gumshoe_model::Timestamp;

use super::{Fixture, NOW, finding, graph, verdict};
use crate::{
    store::{Errand, NewSuppression, Outbox as _, Settled, Store as _, StoreError, Suppressions as _, sql::SqlStore},
    suppression::{Decision, Mark, Pattern, State, Suppression, SuppressionId},
    verdict::Kind,
};

conforms! {
    a_suppression_is_kept_as_proposed,
    a_pattern_is_proposed_once,
    only_who_has_the_errand_proposes,
    another_verdict_takes_back_what_is_not_decided,
    decisions_follow_one_another,
    a_deleted_pattern_can_be_proposed_again,
    so_many_are_accepted,
    suppressions_are_listed_by_state_and_page,
    a_graph_sees_its_own_suppressions_only,
}

const LIMIT: u32 = 100;

fn pattern(name: &str) -> Pattern {
    Pattern {
        finding_type: "Recon:IAMUser/TorIPCaller".to_owned(),
        product: "GuardDuty".to_owned(),
        account: "111111111111".to_owned(),
        entities: vec![format!("user:{name}").parse().unwrap(), "ip_address:203.0.113.9".parse().unwrap()],
    }
}

fn by(name: &str, time: i64) -> Mark {
    Mark { author: format!("arn:aws:iam::111111111111:user/{name}"), time: Timestamp(time) }
}

/// Records a false positive and claims its errand.
async fn errand(store: &SqlStore, number: u32, name: &str) -> Errand {
    store.create_verdict(&graph(number), &verdict(name, Kind::FalsePositive, None), false, NOW).await.unwrap();
    store.claim_errands("a", NOW, Timestamp(NOW.0 + 1), 10).await.unwrap().pop().unwrap()
}

/// Proposes to suppress what a user does.
async fn propose(store: &SqlStore, number: u32, name: &str) -> bool {
    let errand = errand(store, number, name).await;
    let proposed = store.propose("a", &errand, &NewSuppression { pattern: pattern(name), past_findings: 3 }, NOW).await.unwrap();
    store.settle_errand("a", &errand, &Settled::Done, NOW).await.unwrap();
    proposed
}

async fn list(store: &SqlStore, number: u32, states: &[State]) -> Vec<Suppression> {
    store.list_suppressions(&graph(number), states, None, 100).await.unwrap()
}

async fn only(store: &SqlStore, state: State) -> SuppressionId {
    let found = list(store, 1, &[state]).await;
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].id
}

async fn decide(store: &SqlStore, id: SuppressionId, decision: Decision, by: &Mark) -> Result<Suppression, StoreError> {
    store.decide_suppression(&graph(1), id, decision, by, LIMIT).await
}

async fn a_suppression_is_kept_as_proposed(fixture: Fixture) {
    let store = &fixture.store;
    assert!(!store.has_suppression(&graph(1), &pattern("ann")).await.unwrap());
    assert!(propose(store, 1, "ann").await);
    assert!(store.has_suppression(&graph(1), &pattern("ann")).await.unwrap());
    let verdict = store.list_verdicts(&graph(1), &finding("ann"), None, 1).await.unwrap().remove(0);
    let found = list(store, 1, &[State::Proposed]).await.remove(0);
    assert_eq!((found.pattern.clone(), found.state, found.past_findings), (pattern("ann"), State::Proposed, 3));
    assert_eq!((found.finding.as_str(), found.verdict.as_str()), ("ann", verdict.id.as_str()));
    assert_eq!((found.proposed, found.decided, found.deleted), (Mark { author: verdict.content.author, time: NOW }, None, None));
}

async fn a_pattern_is_proposed_once(fixture: Fixture) {
    let store = &fixture.store;
    assert!(propose(store, 1, "ann").await);
    assert!(!propose(store, 1, "ann").await);
    let id = only(store, State::Proposed).await;
    decide(store, id, Decision::Dismiss, &by("bob", 1)).await.unwrap();
    assert!(!propose(store, 1, "ann").await, "not even when it was dismissed");
    assert!(propose(store, 1, "bob").await, "another one is");
}

async fn only_who_has_the_errand_proposes(fixture: Fixture) {
    let store = &fixture.store;
    let errand = errand(store, 1, "ann").await;
    let proposed = NewSuppression { pattern: pattern("ann"), past_findings: 1 };
    assert!(!store.propose("b", &errand, &proposed, NOW).await.unwrap());
    store.create_verdict(&graph(1), &verdict("ann", Kind::Reopened, None), false, NOW).await.unwrap();
    assert!(!store.propose("a", &errand, &proposed, NOW).await.unwrap(), "a later verdict came");
    assert!(list(store, 1, &State::ALL).await.is_empty());
}

async fn another_verdict_takes_back_what_is_not_decided(fixture: Fixture) {
    let store = &fixture.store;
    for name in ["ann", "bob"] {
        propose(store, 1, name).await;
    }
    let bobs = list(store, 1, &[State::Proposed]).await.remove(0).id;
    decide(store, bobs, Decision::Accept, &by("ann", 1)).await.unwrap();
    store.create_verdict(&graph(1), &verdict("ann", Kind::FalsePositive, None), false, NOW).await.unwrap();
    assert_eq!(list(store, 1, &State::ALL).await.len(), 2, "the same verdict again");
    for name in ["ann", "bob"] {
        store.create_verdict(&graph(1), &verdict(name, Kind::TruePositive, None), false, NOW).await.unwrap();
    }
    let left: Vec<_> = list(store, 1, &State::ALL).await.into_iter().map(|suppression| suppression.id).collect();
    assert_eq!(left, [bobs]);
}

async fn decisions_follow_one_another(fixture: Fixture) {
    let store = &fixture.store;
    propose(store, 1, "ann").await;
    let id = only(store, State::Proposed).await;
    let state = |decided: Result<Suppression, StoreError>| decided.unwrap().state;
    let refused = |decided: Result<Suppression, StoreError>| match decided {
        Err(StoreError::NotAllowed(state)) => state,
        other => panic!("{other:?}"),
    };
    assert_eq!(state(decide(store, id, Decision::Dismiss, &by("bob", 1)).await), State::Dismissed);
    let accepted = decide(store, id, Decision::Accept, &by("ann", 2)).await.unwrap();
    assert_eq!((accepted.state, accepted.decided.clone()), (State::Accepted, Some(by("ann", 2))));
    assert_eq!(decide(store, id, Decision::Accept, &by("eve", 3)).await.unwrap(), accepted, "accepted already");
    assert_eq!(refused(decide(store, id, Decision::Dismiss, &by("eve", 3)).await), State::Accepted);
    let deleted = decide(store, id, Decision::Delete, &by("bob", 4)).await.unwrap();
    assert_eq!((deleted.state, deleted.decided, deleted.deleted.clone()), (State::Deleted, accepted.decided, Some(by("bob", 4))));
    assert_eq!(decide(store, id, Decision::Delete, &by("eve", 5)).await.unwrap().deleted, deleted.deleted);
    for decision in [Decision::Accept, Decision::Dismiss] {
        assert_eq!(refused(decide(store, id, decision, &by("eve", 5)).await), State::Deleted);
    }
    assert_eq!(only(store, State::Deleted).await, id, "it stays listed");
    assert!(matches!(decide(store, SuppressionId::generate(), Decision::Delete, &by("eve", 5)).await, Err(StoreError::NotFound("suppression"))));
}

async fn a_deleted_pattern_can_be_proposed_again(fixture: Fixture) {
    let store = &fixture.store;
    propose(store, 1, "ann").await;
    for _ in 0..2 {
        let id = only(store, State::Proposed).await;
        decide(store, id, Decision::Delete, &by("bob", 1)).await.unwrap();
        assert!(!store.has_suppression(&graph(1), &pattern("ann")).await.unwrap());
        assert!(propose(store, 1, "ann").await);
    }
    assert_eq!(list(store, 1, &[State::Deleted]).await.len(), 2);
}

async fn so_many_are_accepted(fixture: Fixture) {
    let store = &fixture.store;
    for name in ["ann", "bob", "eve"] {
        propose(store, 1, name).await;
    }
    let ids: Vec<_> = list(store, 1, &[State::Proposed]).await.into_iter().map(|suppression| suppression.id).collect();
    let accept = async |id| store.decide_suppression(&graph(1), id, Decision::Accept, &by("ann", 1), 2).await;
    accept(ids[0]).await.unwrap();
    accept(ids[1]).await.unwrap();
    assert!(matches!(accept(ids[2]).await, Err(StoreError::TooManyAccepted(2))));
    accept(ids[1]).await.unwrap();
    assert_eq!(list(store, 1, &[State::Accepted]).await.len(), 2);
}

async fn suppressions_are_listed_by_state_and_page(fixture: Fixture) {
    let store = &fixture.store;
    for number in 0..7 {
        propose(store, 1, &format!("user{number}")).await;
    }
    let whole = list(store, 1, &[State::Proposed]).await;
    let names: Vec<_> = whole.iter().map(|suppression| suppression.finding.as_str()).collect();
    assert_eq!(names, ["user6", "user5", "user4", "user3", "user2", "user1", "user0"]);
    decide(store, whole[1].id, Decision::Accept, &by("ann", 1)).await.unwrap();
    decide(store, whole[4].id, Decision::Dismiss, &by("ann", 1)).await.unwrap();
    let states = [State::Accepted, State::Dismissed];
    assert_eq!(list(store, 1, &states).await.iter().map(|suppression| suppression.id).collect::<Vec<_>>(), [whole[1].id, whole[4].id]);
    let (mut walked, mut before) = (Vec::new(), None);
    loop {
        let page = store.list_suppressions(&graph(1), &State::ALL, before, 3).await.unwrap();
        walked.extend(page.iter().map(|suppression| suppression.id));
        before = page.last().map(|suppression| suppression.id);
        if page.len() < 3 {
            break;
        }
    }
    assert_eq!(walked, whole.iter().map(|suppression| suppression.id).collect::<Vec<_>>());
}

async fn a_graph_sees_its_own_suppressions_only(fixture: Fixture) {
    let store = &fixture.store;
    assert!(propose(store, 1, "ann").await);
    assert!(list(store, 2, &State::ALL).await.is_empty());
    assert!(!store.has_suppression(&graph(2), &pattern("ann")).await.unwrap());
    let id = only(store, State::Proposed).await;
    let elsewhere = store.decide_suppression(&graph(2), id, Decision::Delete, &by("eve", 1), LIMIT).await;
    assert!(matches!(elsewhere, Err(StoreError::NotFound(_))));
    assert!(propose(store, 2, "ann").await, "nor do patterns meet");
}
