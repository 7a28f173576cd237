//! Finding groups: written whole, merged so that old ids resolve, decided on, and kept apart by graph.

use gumshoe_model::{EntityKey, TimeWindow, Timestamp};

use super::{Fixture, NOW, graph, verdict};
use crate::{
    groups::{Body, Decision, Group, GroupId, Status, tests::body, tests::member},
    store::{
        Store as _, StoreError,
        groups::{GroupCursor, GroupFilter, GroupWrite, Groups as _},
        sql::SqlStore,
    },
    verdict::Kind,
};

conforms! {
    a_graph_is_claimed_when_its_findings_changed_and_by_one_worker,
    a_verdict_has_its_graph_claimed_again,
    a_group_is_kept_as_written,
    both_ids_of_merged_groups_resolve,
    a_finding_is_in_one_group,
    a_closed_group_opens_with_news,
    a_dissolved_group_is_kept_but_takes_no_decision,
    groups_are_filtered_and_paged,
    related_groups_are_open_and_active,
    who_lost_the_graph_writes_nothing,
    a_graph_sees_its_own_groups_only,
}

const WORKER: &str = "a";
const ANN: &str = "user:arn:aws:iam::111111111111:user/ann";

fn id(number: u32) -> GroupId {
    format!("00000000-0000-7000-8000-{number:012}").parse().unwrap()
}

fn later(seconds: i64) -> Timestamp {
    Timestamp(NOW.0 + seconds * 1_000_000)
}

/// Has the worker hold the graph.
async fn claimed(store: &SqlStore, number: u32) {
    store.note_findings(&[(graph(number), 1)], NOW).await.unwrap();
    assert_eq!(store.claim_graphs(WORKER, NOW, later(60), 10).await.unwrap().len(), 1);
}

/// A group of two findings of a user, named by the group's number.
fn write(number: u32, severity: f64, hour: i64) -> GroupWrite {
    let user = format!("{ANN}{number}");
    let findings = [
        member(&format!("f{number}-1"), "Recon:IAMUser/TorIPCaller", severity, hour, &[&user]),
        member(&format!("f{number}-2"), "Persistence:IAMUser/AnomalousBehavior", 2.0, hour + 1, &[&user]),
    ];
    with(number, body(&findings))
}

fn with(number: u32, body: Body) -> GroupWrite {
    GroupWrite { id: id(number), overview: body.overview(), body, merged: Vec::new(), split_from: None, news: 0 }
}

async fn written(store: &SqlStore, write: &GroupWrite, time: Timestamp) {
    assert!(store.write_group(WORKER, &graph(1), write, time).await.unwrap());
}

fn all() -> GroupFilter {
    GroupFilter { statuses: Status::ALL.to_vec(), ..GroupFilter::default() }
}

async fn listed(store: &SqlStore, filter: &GroupFilter) -> Vec<Group> {
    store.list_groups(&graph(1), filter, None, 100).await.unwrap().into_iter().map(|(group, _)| group).collect()
}

fn ids(groups: &[Group]) -> Vec<GroupId> {
    groups.iter().map(|group| group.id.clone()).collect()
}

fn decision(status: Status, note: &str, time: Timestamp) -> Decision {
    Decision { status, note: note.to_owned(), author: "arn:aws:iam::111111111111:user/bob".to_owned(), time }
}

async fn a_graph_is_claimed_when_its_findings_changed_and_by_one_worker(fixture: Fixture) {
    let store = &fixture.store;
    store.note_findings(&[(graph(1), 3), (graph(2), 1)], NOW).await.unwrap();
    let calls = (0..8).map(|worker| {
        let store = store.clone();
        tokio::spawn(async move { store.claim_graphs(&worker.to_string(), NOW, later(60), 10).await.unwrap() })
    });
    let claims: Vec<_> = futures::future::join_all(calls).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(claims.len(), 2, "each once: {claims:?}");
    // A lease ends, and who lost it does not get it back by releasing.
    let again = store.claim_graphs(WORKER, later(60), later(120), 10).await.unwrap();
    assert_eq!(again.len(), 2);
    assert!(!store.renew_graph("b", &graph(1), later(999)).await.unwrap());
    let claim = |number: u32| again.iter().find(|claim| claim.graph == graph(number)).unwrap();
    store.release_graph("b", claim(1), NOW, true).await.unwrap();
    assert!(store.renew_graph(WORKER, &graph(1), later(180)).await.unwrap());
    // Grouped as far as claimed: nothing to do until the findings change, and then not before it is time.
    store.release_graph(WORKER, claim(1), later(200), true).await.unwrap();
    store.release_graph(WORKER, claim(2), later(100), false).await.unwrap();
    assert_eq!(store.claim_graphs(WORKER, later(150), later(160), 10).await.unwrap().len(), 1, "one failed");
    store.give_up_graphs(WORKER).await.unwrap();
    store.note_findings(&[(graph(1), 4), (graph(2), 1)], later(140)).await.unwrap();
    assert_eq!(store.claim_graphs(WORKER, later(150), later(160), 10).await.unwrap().len(), 1);
    store.give_up_graphs(WORKER).await.unwrap();
    let both = store.claim_graphs(WORKER, later(200), later(300), 10).await.unwrap();
    assert_eq!(both.iter().map(|claim| (claim.version, claim.noted)).max(), Some((4, later(140))), "noted when it changed");
    assert_eq!(both.len(), 2);
}

async fn a_verdict_has_its_graph_claimed_again(fixture: Fixture) {
    let store = &fixture.store;
    store.note_findings(&[(graph(1), 1)], NOW).await.unwrap();
    let claim = async || store.claim_graphs(WORKER, NOW, later(60), 10).await.unwrap();
    let first = claim().await;
    // Recorded while it is worked on: what the worker has read may be what was before.
    store.create_verdict(&graph(1), &verdict("f", Kind::Benign, Some("r")), false, NOW).await.unwrap();
    store.release_graph(WORKER, &first[0], NOW, true).await.unwrap();
    let second = claim().await;
    assert_eq!((second.len(), second[0].version), (1, first[0].version));
    store.release_graph(WORKER, &second[0], NOW, true).await.unwrap();
    assert_eq!(claim().await, [], "grouped with it");
    // The same call again records nothing, and another graph's verdict is none of this one.
    store.create_verdict(&graph(1), &verdict("f", Kind::Benign, Some("r")), false, NOW).await.unwrap();
    store.create_verdict(&graph(2), &verdict("f", Kind::Benign, None), false, NOW).await.unwrap();
    assert_eq!(claim().await, []);
}

async fn a_group_is_kept_as_written(fixture: Fixture) {
    let store = &fixture.store;
    claimed(store, 1).await;
    let first = write(1, 8.0, 0);
    written(store, &first, NOW).await;
    let (group, body) = store.group(&graph(1), &id(1)).await.unwrap();
    assert_eq!((group.overview, &body, group.status), (first.overview.clone(), &first.body, Status::Open));
    assert_eq!((group.create_time, group.update_time, group.merged, group.split_from), (NOW, NOW, vec![], None));
    assert!(body.same_findings(&first.body), "also after it was written as text");
    let known = store.known_groups(&graph(1)).await.unwrap();
    assert_eq!((known.len(), known[0].findings.as_slice()), (1, ["f1-1".to_owned(), "f1-2".to_owned()].as_slice()));
    let worse = GroupWrite { split_from: Some(id(7)), ..write(1, 9.5, 0) };
    written(store, &worse, later(5)).await;
    let (group, _) = store.group(&graph(1), &id(1)).await.unwrap();
    assert_eq!((group.overview.severity, group.create_time, group.update_time, group.split_from), (9.5, NOW, later(5), None));
    assert!(matches!(store.group(&graph(1), &id(9)).await, Err(StoreError::NotFound(_))));
}

async fn both_ids_of_merged_groups_resolve(fixture: Fixture) {
    let store = &fixture.store;
    claimed(store, 1).await;
    for number in 1..=3 {
        written(store, &write(number, 5.0, 0), NOW).await;
    }
    store.decide_group(&graph(1), &id(1), &decision(Status::Closed, "one", NOW)).await.unwrap();
    let merge = |number: u32, merged: u32| GroupWrite { merged: vec![id(merged)], ..write(number, 5.0, 0) };
    written(store, &merge(2, 3), later(1)).await;
    written(store, &merge(1, 2), later(2)).await;
    for old in 1..=3 {
        let (group, _) = store.group(&graph(1), &id(old)).await.unwrap();
        assert_eq!((group.id, group.merged, group.status), (id(1), vec![id(2), id(3)], Status::Open), "an open one was merged into it");
    }
    assert_eq!(ids(&listed(store, &all()).await), [id(1)]);
    assert_eq!(store.known_groups(&graph(1)).await.unwrap().len(), 1);
    let decided = store.decide_group(&graph(1), &id(3), &decision(Status::Closed, "again", later(3))).await.unwrap();
    assert_eq!((decided.id, decided.status), (id(1), Status::Closed));
    let history = store.group_decisions(&graph(1), &id(1)).await.unwrap();
    assert_eq!(history.iter().map(|decision| decision.status).collect::<Vec<_>>(), [Status::Closed, Status::Open, Status::Closed]);
    assert!(history[1].note.contains("merged") && history[1].author == "service:investigation");
}

async fn a_finding_is_in_one_group(fixture: Fixture) {
    let store = &fixture.store;
    claimed(store, 1).await;
    written(store, &write(1, 5.0, 0), NOW).await;
    let user = format!("{ANN}1");
    let moved = body(&[member("f1-2", "x", 2.0, 0, &[&user]), member("f1-3", "x", 2.0, 0, &[&user])]);
    written(store, &with(2, moved), NOW).await;
    let known = store.known_groups(&graph(1)).await.unwrap();
    let findings = |number: u32| known.iter().find(|group| group.id == id(number)).unwrap().findings.clone();
    assert_eq!((findings(1), findings(2)), (vec!["f1-1".to_owned()], vec!["f1-2".to_owned(), "f1-3".to_owned()]));
}

async fn a_closed_group_opens_with_news(fixture: Fixture) {
    let store = &fixture.store;
    claimed(store, 1).await;
    written(store, &write(1, 5.0, 0), NOW).await;
    store.decide_group(&graph(1), &id(1), &decision(Status::Closed, "done", NOW)).await.unwrap();
    written(store, &write(1, 6.0, 0), later(1)).await;
    assert_eq!(store.group(&graph(1), &id(1)).await.unwrap().0.status, Status::Closed, "no finding is new");
    written(store, &GroupWrite { news: 2, ..write(1, 6.0, 0) }, later(2)).await;
    assert_eq!(store.group(&graph(1), &id(1)).await.unwrap().0.status, Status::Open);
    let history = store.group_decisions(&graph(1), &id(1)).await.unwrap();
    assert_eq!((history.len(), history[0].note.as_str()), (2, "it got 2 new findings"));
}

async fn a_dissolved_group_is_kept_but_takes_no_decision(fixture: Fixture) {
    let store = &fixture.store;
    claimed(store, 1).await;
    let first = write(1, 5.0, 0);
    written(store, &first, NOW).await;
    assert!(store.dissolve_group(WORKER, &graph(1), &id(1), later(1)).await.unwrap());
    let (group, body) = store.group(&graph(1), &id(1)).await.unwrap();
    assert_eq!((group.status, group.update_time, body), (Status::Dissolved, later(1), first.body));
    assert!(store.known_groups(&graph(1)).await.unwrap().is_empty());
    let refused = store.decide_group(&graph(1), &id(1), &decision(Status::Closed, "", NOW)).await;
    assert!(matches!(refused, Err(StoreError::Dissolved)));
    assert!(store.group_decisions(&graph(1), &id(1)).await.unwrap().is_empty());
    assert!(matches!(store.decide_group(&graph(1), &id(2), &decision(Status::Closed, "", NOW)).await, Err(StoreError::NotFound(_))));
}

async fn groups_are_filtered_and_paged(fixture: Fixture) {
    let store = &fixture.store;
    claimed(store, 1).await;
    for (number, severity, hour) in [(1, 5.0, 0), (2, 8.0, 0), (3, 5.0, 100), (4, 5.0, 0), (5, 2.0, 0)] {
        written(store, &write(number, severity, hour), NOW).await;
    }
    store.decide_group(&graph(1), &id(4), &decision(Status::Closed, "", NOW)).await.unwrap();
    let order = [id(2), id(3), id(1), id(4), id(5)];
    assert_eq!(ids(&listed(store, &all()).await), order, "worst first, then latest, then by id");
    let mut after: Option<GroupCursor> = None;
    let mut paged = Vec::new();
    loop {
        let page = store.list_groups(&graph(1), &all(), after.as_ref(), 2).await.unwrap();
        let Some((_, last)) = page.last() else { break };
        after = Some(last.clone());
        paged.extend(page.into_iter().map(|(group, _)| group.id));
    }
    assert_eq!(paged, order);
    let hour = |hour: i64| Timestamp(crate::groups::tests::START + hour * 3_600_000_000);
    let found = async |filter: GroupFilter| ids(&listed(store, &GroupFilter { statuses: Status::ALL.to_vec(), ..filter }).await);
    assert_eq!(found(GroupFilter { min_severity: 5_000, max_severity: Some(5_000), ..all() }).await, [id(3), id(1), id(4)]);
    assert_eq!(found(GroupFilter { scope: TimeWindow::new(hour(50), hour(101)).ok(), ..all() }).await, [id(3)]);
    assert_eq!(found(GroupFilter { scope: TimeWindow::new(hour(2), hour(100)).ok(), ..all() }).await, []);
    assert_eq!(listed(store, &GroupFilter { statuses: vec![Status::Closed], ..GroupFilter::default() }).await.len(), 1);
    let entity = |text: &str| vec![text.parse::<EntityKey>().unwrap()];
    assert_eq!(found(GroupFilter { entities: entity(&format!("{ANN}3")), ..all() }).await, [id(3)]);
    assert_eq!(found(GroupFilter { entities: entity("account:111111111111"), ..all() }).await.len(), 5);
    assert_eq!(found(GroupFilter { entities: entity("account:222222222222"), ..all() }).await, []);
    assert_eq!(found(GroupFilter { finding: Some("f5-2".to_owned()), ..all() }).await, [id(5)]);
    assert_eq!(found(GroupFilter { finding: Some("'; --".to_owned()), ..all() }).await, []);
}

async fn related_groups_are_open_and_active(fixture: Fixture) {
    let store = &fixture.store;
    claimed(store, 1).await;
    for (number, severity, hour) in [(1, 5.0, 0), (2, 8.0, 0), (3, 5.0, 100)] {
        written(store, &write(number, severity, hour), NOW).await;
    }
    let hour = |hour: i64| Timestamp(crate::groups::tests::START + hour * 3_600_000_000);
    let scope = TimeWindow::new(hour(-1), hour(10)).unwrap();
    let one: EntityKey = format!("{ANN}1").parse().unwrap();
    let related = async |findings: &[&str]| store.related_groups(&graph(1), &one, findings, scope).await.unwrap();
    assert_eq!(related(&[]).await, [id(1)]);
    assert_eq!(related(&["f2-1", "f3-1", "none"]).await, [id(2), id(1)]);
    store.decide_group(&graph(1), &id(1), &decision(Status::Closed, "", NOW)).await.unwrap();
    assert_eq!(related(&["f2-1"]).await, [id(2)]);
}

async fn who_lost_the_graph_writes_nothing(fixture: Fixture) {
    let store = &fixture.store;
    claimed(store, 1).await;
    written(store, &write(1, 5.0, 0), NOW).await;
    assert_eq!(store.claim_graphs("b", later(61), later(120), 10).await.unwrap().len(), 1);
    assert!(!store.write_group(WORKER, &graph(1), &write(1, 9.0, 0), NOW).await.unwrap());
    assert!(!store.dissolve_group(WORKER, &graph(1), &id(1), NOW).await.unwrap());
    let (group, _) = store.group(&graph(1), &id(1)).await.unwrap();
    assert_eq!((group.overview.severity, group.status), (5.0, Status::Open));
}

async fn a_graph_sees_its_own_groups_only(fixture: Fixture) {
    let store = &fixture.store;
    claimed(store, 1).await;
    written(store, &write(1, 5.0, 0), NOW).await;
    assert!(store.list_groups(&graph(2), &all(), None, 10).await.unwrap().is_empty());
    assert!(store.known_groups(&graph(2)).await.unwrap().is_empty());
    assert!(matches!(store.group(&graph(2), &id(1)).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.decide_group(&graph(2), &id(1), &decision(Status::Closed, "", NOW)).await, Err(StoreError::NotFound(_))));
    assert!(!store.write_group(WORKER, &graph(2), &write(2, 5.0, 0), NOW).await.unwrap());
    let entity: EntityKey = format!("{ANN}1").parse().unwrap();
    let ever = TimeWindow::new(Timestamp::MIN, Timestamp::MAX).unwrap();
    assert!(store.related_groups(&graph(2), &entity, &["f1-1"], ever).await.unwrap().is_empty());
}
