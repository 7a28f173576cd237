//! Investigations: started once, listed in order, worked off by one worker at a time.

use std::collections::BTreeSet;

use gumshoe_model::{EntityKey, Severity, TimeWindow, Timestamp, time::MICROS_PER_HOUR};

use super::{Fixture, NOW, graph};
use crate::{
    indicator::{Attributed, Indicator, Kind, tests::samples},
    investigation::{Explained, InvestigationId, NewInvestigation, Progress, State, Status, Subject, Target},
    severity::{Assessed, Assessment, Reason, Report},
    store::{Claimed, Cursor, Field, Filter, Investigations as _, Order, Outcome, StoreError, sql::SqlStore},
};

conforms! {
    an_investigation_is_kept_as_started,
    a_graph_sees_its_own_investigations_only,
    a_request_starts_one_investigation_even_concurrently,
    a_request_stands_for_one_subject_and_scope,
    only_so_many_run_in_a_graph_even_concurrently,
    investigations_are_filtered,
    every_order_is_walked_page_by_page,
    states_change_back_and_forth,
    concurrent_workers_share_the_work,
    a_claim_ends_with_its_lease,
    progress_is_told_by_who_has_the_claim,
    every_target_is_kept,
    a_claim_is_given_back,
    indicators_come_with_the_end_and_only_once,
    indicators_are_listed_by_kind_and_place,
}

const LIMIT: u32 = 1_000;
const LATER: Timestamp = Timestamp(NOW.0 + MICROS_PER_HOUR);

fn ann(request: Option<&str>) -> NewInvestigation {
    of("arn:aws:iam::111111111111:user/ann", request)
}

fn of(arn: &str, request: Option<&str>) -> NewInvestigation {
    NewInvestigation {
        target: arn.parse::<Subject>().unwrap().into(),
        scope: TimeWindow::new(Timestamp(NOW.0 - 5 * MICROS_PER_HOUR), NOW).unwrap(),
        principal: "arn:aws:iam::111111111111:user/analyst".to_owned(),
        request: request.map(|id| id.parse().unwrap()),
    }
}

async fn start(store: &SqlStore, number: u32, time: i64) -> InvestigationId {
    store.start_investigation(&graph(number), &ann(None), Timestamp(NOW.0 + time), LIMIT).await.unwrap()
}

async fn claim_one(store: &SqlStore, worker: &str, now: Timestamp) -> Option<Claimed> {
    store.claim(worker, now, Timestamp(now.0 + 1_000), 1).await.unwrap().pop()
}

/// The points of each severity.
const POINTS: [(Severity, u32); 4] = [(Severity::Informational, 3), (Severity::Low, 12), (Severity::High, 50), (Severity::Critical, 90)];

fn successful(severity: Severity, indicators: Vec<Indicator>) -> Outcome {
    let points = POINTS.into_iter().find(|(one, _)| *one == severity).unwrap().1;
    let assessment = Assessment { points, reasons: vec![Reason { kind: Some(Kind::TtpObserved), points, text: "why ' \0".to_owned() }] };
    let report = Report::of(vec![Assessed { principal: principal().to_string(), assessment }]);
    Outcome::Successful { report, indicators: indicators.into_iter().map(attributed).collect() }
}

fn principal() -> EntityKey {
    ann(None).target.entity().unwrap()
}

fn attributed(indicator: Indicator) -> Attributed {
    Attributed { principal: principal(), indicator }
}

async fn everything(store: &SqlStore, filter: &Filter) -> Vec<InvestigationId> {
    let listed = store.list_investigations(&graph(1), filter, Order::default(), None, 100).await.unwrap();
    listed.into_iter().map(|(investigation, _)| investigation.id).collect()
}

async fn an_investigation_is_kept_as_started(fixture: Fixture) {
    let store = &fixture.store;
    let started = of("arn:aws:iam::111111111111:role/team/deploy", Some("r"));
    let id = store.start_investigation(&graph(1), &started, NOW, LIMIT).await.unwrap();
    let Explained { investigation: found, report } = store.investigation(&graph(1), &id).await.unwrap();
    assert_eq!((found.id.clone(), found.target, found.scope), (id.clone(), started.target, started.scope));
    assert_eq!((found.status, found.severity, found.state), (Status::Running, None, State::Active));
    assert_eq!((found.progress, report), (Progress::default(), Report::default()));
    assert_eq!(found.create_time, Timestamp(NOW.0 - 456), "whole milliseconds");
    assert_eq!(store.list_indicators(&graph(1), &id, None, None, 10).await.unwrap(), []);
}

async fn a_graph_sees_its_own_investigations_only(fixture: Fixture) {
    let store = &fixture.store;
    let id = store.start_investigation(&graph(1), &ann(Some("r")), NOW, LIMIT).await.unwrap();
    assert!(matches!(store.investigation(&graph(2), &id).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.set_state(&graph(2), &id, State::Archived).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.list_indicators(&graph(2), &id, None, None, 10).await, Err(StoreError::NotFound(_))));
    assert!(store.list_investigations(&graph(2), &Filter::default(), Order::default(), None, 10).await.unwrap().is_empty());
    // Nor do request ids meet, of graphs or of principals.
    let other = NewInvestigation { principal: "arn:aws:iam::111111111111:user/other".to_owned(), ..ann(Some("r")) };
    let ids = [
        store.start_investigation(&graph(2), &ann(Some("r")), NOW, LIMIT).await.unwrap(),
        store.start_investigation(&graph(1), &other, NOW, LIMIT).await.unwrap(),
    ];
    assert!(!ids.contains(&id) && ids[0] != ids[1]);
}

async fn a_request_starts_one_investigation_even_concurrently(fixture: Fixture) {
    let calls = (0..12).map(|number| {
        let store = fixture.store.clone();
        tokio::spawn(async move { store.start_investigation(&graph(1), &ann(Some("r")), Timestamp(NOW.0 + number), LIMIT).await.unwrap() })
    });
    let ids: BTreeSet<_> = futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(ids.len(), 1);
    // Long after, and when no more may be started, too.
    let again = fixture.store.start_investigation(&graph(1), &ann(Some("r")), Timestamp(NOW.0 + 48 * MICROS_PER_HOUR), 1).await.unwrap();
    assert_eq!(ids, BTreeSet::from([again]));
    assert_eq!(everything(&fixture.store, &Filter::default()).await.len(), 1);
}

async fn a_request_stands_for_one_subject_and_scope(fixture: Fixture) {
    let store = &fixture.store;
    store.start_investigation(&graph(1), &ann(Some("r")), NOW, LIMIT).await.unwrap();
    let scope = TimeWindow::new(Timestamp(NOW.0 - 4 * MICROS_PER_HOUR), NOW).unwrap();
    for other in [of("arn:aws:iam::111111111111:user/bob", Some("r")), NewInvestigation { scope, ..ann(Some("r")) }] {
        assert!(matches!(store.start_investigation(&graph(1), &other, NOW, LIMIT).await, Err(StoreError::RequestReused)));
    }
    assert_eq!(everything(store, &Filter::default()).await.len(), 1);
}

async fn only_so_many_run_in_a_graph_even_concurrently(fixture: Fixture) {
    let calls = (0..20).map(|_| {
        let store = fixture.store.clone();
        tokio::spawn(async move { store.start_investigation(&graph(1), &ann(None), NOW, 5).await })
    });
    let outcomes: Vec<_> = futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 5);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(_) | Err(StoreError::TooManyRunning(5)))));
    let store = &fixture.store;
    store.start_investigation(&graph(2), &ann(None), NOW, 5).await.unwrap();
    let claimed = claim_one(store, "w", LATER).await.unwrap();
    assert!(store.finish("w", &claimed, &Outcome::Failed).await.unwrap());
    let number = if claimed.graph == graph(1) { 1 } else { 2 };
    store.start_investigation(&graph(number), &ann(None), NOW, 5).await.unwrap();
}

/// Five investigations, a minute apart: informational, critical, low and archived, failed, running.
async fn five(store: &SqlStore) -> Vec<InvestigationId> {
    let mut ids = Vec::new();
    let outcomes = [
        Some(successful(Severity::Informational, Vec::new())),
        Some(successful(Severity::Critical, Vec::new())),
        Some(successful(Severity::Low, Vec::new())),
        Some(Outcome::Failed),
        None,
    ];
    for (number, outcome) in (0..).zip(outcomes) {
        ids.push(start(store, 1, number * 60_000_000).await);
        if let Some(outcome) = outcome {
            let claimed = claim_one(store, "w", LATER).await.unwrap();
            assert!(store.finish("w", &claimed, &outcome).await.unwrap());
        }
    }
    store.set_state(&graph(1), &ids[2], State::Archived).await.unwrap();
    ids
}

async fn investigations_are_filtered(fixture: Fixture) {
    let store = &fixture.store;
    let ids = five(store).await;
    let other = store.start_investigation(&graph(1), &of("arn:aws:iam::111111111111:role/x", None), Timestamp(NOW.0 - 1_000), LIMIT).await.unwrap();
    let times = |from: i64, to: i64| Filter { from: Some(Timestamp(NOW.0 - 456 + from)), to: Some(Timestamp(NOW.0 - 456 + to)), ..Filter::default() };
    let target = Some("role:arn:aws:iam::111111111111:role/x".parse::<Target>().unwrap());
    let cases = [
        (Filter::default(), vec![&ids[4], &ids[3], &ids[2], &ids[1], &ids[0], &other]),
        (Filter { severity: Some(Severity::Critical), ..Filter::default() }, vec![&ids[1]]),
        (Filter { severity: Some(Severity::Medium), ..Filter::default() }, vec![]),
        (Filter { status: Some(Status::Running), ..Filter::default() }, vec![&ids[4], &other]),
        (Filter { status: Some(Status::Failed), ..Filter::default() }, vec![&ids[3]]),
        (Filter { state: Some(State::Archived), ..Filter::default() }, vec![&ids[2]]),
        (Filter { state: Some(State::Active), status: Some(Status::Successful), ..Filter::default() }, vec![&ids[1], &ids[0]]),
        (Filter { target: target.clone(), ..Filter::default() }, vec![&other]),
        (Filter { target, status: Some(Status::Successful), ..Filter::default() }, vec![]),
        (times(60_000_000, 120_000_000), vec![&ids[2], &ids[1]]),
        (times(60_000_001, 119_999_999), vec![]),
    ];
    for (filter, expected) in cases {
        assert_eq!(everything(store, &filter).await, expected.into_iter().cloned().collect::<Vec<_>>(), "{filter:?}");
    }
}

async fn every_order_is_walked_page_by_page(fixture: Fixture) {
    let store = &fixture.store;
    let ids = five(store).await;
    for _ in 0..4 {
        // The same in every field but the id.
        start(store, 1, 4 * 60_000_000).await;
    }
    for field in [Field::CreateTime, Field::Severity, Field::Status] {
        for ascending in [true, false] {
            let order = Order { field, ascending };
            let all = store.list_investigations(&graph(1), &Filter::default(), order, None, 100).await.unwrap();
            let key = |cursor: &Cursor| (cursor.value, cursor.id.clone());
            let keys: Vec<_> = all.iter().map(|(_, cursor)| key(cursor)).collect();
            assert!(if ascending { keys.is_sorted() } else { keys.iter().rev().is_sorted() }, "{order:?} {keys:?}");
            assert_eq!(all.len(), 9);
            for size in [1, 2, 4] {
                let (mut walked, mut after) = (Vec::new(), None);
                loop {
                    let page = store.list_investigations(&graph(1), &Filter::default(), order, after.as_ref(), size).await.unwrap();
                    let Some((_, cursor)) = page.last() else { break };
                    after = Some(cursor.clone());
                    walked.extend(page);
                }
                assert_eq!(walked, all, "{order:?} by {size}");
            }
        }
    }
    let gravest = store.list_investigations(&graph(1), &Filter::default(), Order { field: Field::Severity, ascending: false }, None, 3).await.unwrap();
    let gravest: Vec<_> = gravest.into_iter().map(|(investigation, _)| investigation.id).collect();
    assert_eq!(gravest, [ids[1].clone(), ids[2].clone(), ids[0].clone()]);
}

async fn states_change_back_and_forth(fixture: Fixture) {
    let store = &fixture.store;
    let id = start(store, 1, 0).await;
    for state in [State::Archived, State::Archived, State::Active] {
        store.set_state(&graph(1), &id, state).await.unwrap();
        assert_eq!(store.investigation(&graph(1), &id).await.unwrap().investigation.state, state);
    }
    assert!(matches!(store.set_state(&graph(1), &"9".repeat(21).parse().unwrap(), State::Active).await, Err(StoreError::NotFound(_))));
}

async fn concurrent_workers_share_the_work(fixture: Fixture) {
    let mut ids = BTreeSet::new();
    for number in 0..10 {
        ids.insert(start(&fixture.store, 1 + u32::try_from(number % 2).unwrap(), number).await);
    }
    let calls = (0..8).map(|worker| {
        let store = fixture.store.clone();
        tokio::spawn(async move { store.claim(&format!("w{worker}"), LATER, Timestamp(LATER.0 + 1), 3).await.unwrap() })
    });
    let mut claimed: Vec<Claimed> = futures::future::join_all(calls).await.into_iter().flat_map(Result::unwrap).collect();
    // Who came too late for a row got fewer; the rest is there for the next.
    claimed.extend(fixture.store.claim("rest", LATER, Timestamp(LATER.0 + 1), 100).await.unwrap());
    assert_eq!(claimed.len(), ids.len());
    assert_eq!(claimed.iter().map(|claimed| claimed.id.clone()).collect::<BTreeSet<_>>(), ids);
    assert!(claimed.iter().all(|claimed| claimed.attempts == 1 && claimed.target == ann(None).target && claimed.scope == ann(None).scope));
}

async fn a_claim_ends_with_its_lease(fixture: Fixture) {
    let store = &fixture.store;
    start(store, 1, 0).await;
    let first = claim_one(store, "a", LATER).await.unwrap();
    assert_eq!(claim_one(store, "b", Timestamp(LATER.0 + 999)).await, None);
    assert!(store.renew("a", &first, Timestamp(LATER.0 + 2_000)).await.unwrap());
    assert_eq!(claim_one(store, "b", Timestamp(LATER.0 + 1_999)).await, None);
    let second = claim_one(store, "b", Timestamp(LATER.0 + 2_000)).await.unwrap();
    assert_eq!((&second.id, second.attempts), (&first.id, 2));
    // The first one has lost it, and can do nothing more to it.
    assert!(!store.renew("a", &first, Timestamp(LATER.0 + 9_000)).await.unwrap());
    store.postpone("a", &first, Timestamp(0), false).await.unwrap();
    store.give_up("a").await.unwrap();
    assert!(!store.finish("a", &first, &successful(Severity::Critical, samples())).await.unwrap());
    assert_eq!(store.investigation(&graph(1), &first.id).await.unwrap().investigation.status, Status::Running);
    assert!(store.finish("b", &second, &successful(Severity::Low, Vec::new())).await.unwrap());
    let found = store.investigation(&graph(1), &first.id).await.unwrap().investigation;
    assert_eq!((found.status, found.severity), (Status::Successful, Some(Severity::Low)));
}

async fn progress_is_told_by_who_has_the_claim(fixture: Fixture) {
    let store = &fixture.store;
    let id = start(store, 1, 0).await;
    let claimed = claim_one(store, "a", LATER).await.unwrap();
    let progress = Progress { done: 3, total: 7, left_out: 1 << 40 };
    store.note_progress("a", &claimed, progress).await.unwrap();
    store.note_progress("b", &claimed, Progress::default()).await.unwrap();
    assert_eq!(store.investigation(&graph(1), &id).await.unwrap().investigation.progress, progress);
    assert!(store.finish("a", &claimed, &successful(Severity::Critical, samples())).await.unwrap());
    store.note_progress("a", &claimed, Progress::default()).await.unwrap();
    let Explained { investigation, report } = store.investigation(&graph(1), &id).await.unwrap();
    assert_eq!((investigation.progress, investigation.severity), (progress, Some(Severity::Critical)));
    let Outcome::Successful { report: told, .. } = successful(Severity::Critical, samples()) else { panic!() };
    assert_eq!(report, told);
}

async fn every_target_is_kept(fixture: Fixture) {
    let store = &fixture.store;
    for target in [
        "graph",
        "account:111111111111",
        "finding:arn:aws:x ' \\",
        "access_key:AKIAEXAMPLE",
        "role_session:AROAEXAMPLE:s",
        "root:arn:aws:iam::111111111111:root",
    ] {
        let started = NewInvestigation { target: target.parse().unwrap(), ..ann(None) };
        let id = store.start_investigation(&graph(1), &started, NOW, LIMIT).await.unwrap();
        assert_eq!(store.investigation(&graph(1), &id).await.unwrap().investigation.target, started.target);
        assert_eq!(everything(store, &Filter { target: Some(started.target.clone()), ..Filter::default() }).await, [id]);
        assert_eq!(claim_one(store, target, LATER).await.unwrap().target, started.target);
    }
}

async fn a_claim_is_given_back(fixture: Fixture) {
    let store = &fixture.store;
    start(store, 1, 0).await;
    let attempts = |claimed: Option<Claimed>| claimed.map(|claimed| claimed.attempts);
    let claimed = claim_one(store, "a", LATER).await.unwrap();
    store.postpone("a", &claimed, Timestamp(LATER.0 + 10), true).await.unwrap();
    assert_eq!(claim_one(store, "a", Timestamp(LATER.0 + 9)).await, None);
    let claimed = claim_one(store, "b", Timestamp(LATER.0 + 10)).await.unwrap();
    assert_eq!(claimed.attempts, 2);
    store.postpone("b", &claimed, LATER, false).await.unwrap();
    assert_eq!(attempts(claim_one(store, "a", LATER).await), Some(2));
    store.give_up("b").await.unwrap();
    assert_eq!(claim_one(store, "b", LATER).await, None, "others' claims stay");
    store.give_up("a").await.unwrap();
    assert_eq!(attempts(claim_one(store, "b", LATER).await), Some(2));
}

async fn indicators_come_with_the_end_and_only_once(fixture: Fixture) {
    let store = &fixture.store;
    let id = start(store, 1, 0).await;
    let claimed = claim_one(store, "a", LATER).await.unwrap();
    assert!(store.finish("a", &claimed, &successful(Severity::High, samples())).await.unwrap());
    assert!(!store.finish("a", &claimed, &successful(Severity::Low, samples())).await.unwrap(), "it has ended");
    let found: Vec<_> = store.list_indicators(&graph(1), &id, None, None, 100).await.unwrap().into_iter().map(|(_, indicator)| indicator).collect();
    assert_eq!(found, samples().into_iter().map(attributed).collect::<Vec<_>>());
    assert_eq!(store.investigation(&graph(1), &id).await.unwrap().investigation.severity, Some(Severity::High));
    assert_eq!(claim_one(store, "a", Timestamp(LATER.0 + MICROS_PER_HOUR)).await, None);

    let id = start(store, 1, 0).await;
    let claimed = claim_one(store, "a", LATER).await.unwrap();
    assert!(store.finish("a", &claimed, &Outcome::Failed).await.unwrap());
    let found = store.investigation(&graph(1), &id).await.unwrap().investigation;
    assert_eq!((found.status, found.severity), (Status::Failed, None));
    assert_eq!(store.list_indicators(&graph(1), &id, None, None, 100).await.unwrap(), []);
}

async fn indicators_are_listed_by_kind_and_place(fixture: Fixture) {
    let store = &fixture.store;
    let id = start(store, 1, 0).await;
    // More than one statement inserts.
    let indicators: Vec<_> = samples().into_iter().cycle().take(1_203).collect();
    let claimed = claim_one(store, "a", LATER).await.unwrap();
    assert!(store.finish("a", &claimed, &successful(Severity::High, indicators.clone())).await.unwrap());
    for kind in [None].into_iter().chain(Kind::ALL.map(Some)) {
        let (mut walked, mut after) = (Vec::new(), None);
        loop {
            let page = store.list_indicators(&graph(1), &id, kind, after, 100).await.unwrap();
            let Some((place, _)) = page.last() else { break };
            after = Some(*place);
            walked.extend(page.into_iter().map(|(_, found)| found.indicator));
        }
        let expected: Vec<_> = indicators.iter().filter(|indicator| kind.is_none_or(|kind| indicator.kind() == kind)).cloned().collect();
        assert_eq!(walked, expected, "{kind:?}");
    }
}
