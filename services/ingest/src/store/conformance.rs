//! What the store must do, on every database.

use std::{collections::HashSet, time::Duration};

use gumshoe_model::{GraphArn, Hour, TimeWindow, Timestamp};
use gumshoe_testkit::PostgresDatabase;
use url::Url;

use super::{Claimed, Counts, NewObject, ObjectState, Outcome, Settings, Source, SqlStore, StoreError};
use crate::config;

struct Fixture {
    store: SqlStore,
    config: config::Store,
    _directory: Option<tempfile::TempDir>,
    _database: Option<PostgresDatabase>,
}

impl Fixture {
    async fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = Url::parse(&format!("sqlite://{}", directory.path().join("ingest.db").display())).unwrap();
        Self::open(url, Some(directory), None).await
    }

    async fn postgres() -> Self {
        let database = PostgresDatabase::create().await;
        Self::open(database.url(), None, Some(database)).await
    }

    async fn open(url: Url, directory: Option<tempfile::TempDir>, database: Option<PostgresDatabase>) -> Self {
        let config = config::Store::new(url);
        SqlStore::migrate(&config).await.unwrap();
        Self { store: SqlStore::open(&config).await.unwrap(), config, _directory: directory, _database: database }
    }
}

macro_rules! conforms {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::Fixture::sqlite().await).await; })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::Fixture::postgres().await).await; })+
        }
    };
}

conforms! {
    a_source_is_unique_in_its_graph_and_kept_as_given,
    sources_are_listed_by_graph_in_order,
    a_listing_moves_its_time_forward_only,
    an_object_is_added_once_and_a_changed_one_again,
    many_objects_are_added_at_once,
    deleting_a_source_takes_its_ledger_and_stops_additions,
    concurrent_claims_never_overlap,
    a_claim_expires_unless_it_is_renewed,
    a_released_claim_is_free_and_not_counted,
    outcomes_are_written_only_by_the_claimer,
    a_failed_object_waits_for_its_time_or_a_sync,
    an_object_that_is_gone_waits_for_a_listing,
    progress_is_by_account_and_region_with_gaps,
    only_the_latest_gaps_are_told,
    objects_are_paged_by_key_and_state,
    pull_status_counts_what_happened_since,
    migration_is_repeatable_and_checked,
}

const NOW: Timestamp = Timestamp(1_700_000_000_123_456);

fn later(seconds: i64) -> Timestamp {
    Timestamp(NOW.0 + seconds * 1_000_000)
}

fn graph(last: u32) -> GraphArn {
    format!("arn:aws:detective:us-east-1:123456789012:graph:{last:032x}").parse().unwrap()
}

fn source(graph_number: u32, name: &str) -> Source {
    Source {
        graph: graph(graph_number),
        name: name.to_owned(),
        id: format!("id-{graph_number}-{name}"),
        settings: Settings {
            url: "s3://my-logs/AWSLogs/".to_owned(),
            poll_interval: Duration::from_millis(1500),
            lookback: Duration::from_secs(86_400),
            sqs_queue_url: "https://sqs.example/q".to_owned(),
            region: "us-east-1".to_owned(),
            endpoint_url: String::new(),
            eks_cluster: "prod ü".to_owned(),
        },
        create_time: NOW,
        last_list_time: None,
        last_error: String::new(),
    }
}

fn object(key: &str, etag: &str) -> NewObject {
    NewObject {
        id: format!("{key}@{etag}"),
        key: key.to_owned(),
        etag: etag.to_owned(),
        account: String::new(),
        region: String::new(),
        size: 10,
        modify_time: NOW,
        hours: None,
    }
}

fn counts(events: u64) -> Counts {
    Counts { records: events + 3, events, duplicates: 1, dead_letters: 2, bytes: 100, already_committed: false }
}

async fn with_objects(store: &SqlStore, count: u32) -> Source {
    let source = source(1, "logs");
    store.create_source(&source).await.unwrap();
    let objects: Vec<_> = (0..count).map(|number| object(&format!("key-{number:04}"), "e")).collect();
    store.add_objects(&source, &objects, NOW).await.unwrap();
    source
}

async fn claim(store: &SqlStore, source: &Source, worker: &str, now: Timestamp, limit: u32) -> Vec<Claimed> {
    store.claim(source, worker, now, Timestamp(now.0 + 60_000_000), limit).await.unwrap()
}

async fn a_source_is_unique_in_its_graph_and_kept_as_given(fixture: Fixture) {
    let store = fixture.store;
    let logs = source(1, "logs");
    store.create_source(&logs).await.unwrap();
    assert_eq!(store.source(&logs.graph, "logs").await.unwrap(), logs);
    assert!(matches!(store.create_source(&Source { id: "other".to_owned(), ..logs.clone() }).await, Err(StoreError::AlreadyExists)));
    store.create_source(&source(2, "logs")).await.unwrap();
    assert!(matches!(store.source(&graph(3), "logs").await, Err(StoreError::NotFound)));
}

async fn sources_are_listed_by_graph_in_order(fixture: Fixture) {
    let store = fixture.store;
    for (graph, name) in [(1, "c"), (1, "a"), (2, "x"), (1, "b")] {
        store.create_source(&source(graph, name)).await.unwrap();
    }
    let names = |sources: Vec<Source>| sources.into_iter().map(|source| source.name).collect::<Vec<_>>();
    assert_eq!(names(store.list_sources(&graph(1), "", 2).await.unwrap()), ["a", "b"]);
    assert_eq!(names(store.list_sources(&graph(1), "b", 2).await.unwrap()), ["c"]);
    assert_eq!(names(store.list_sources(&graph(3), "", 2).await.unwrap()), [""; 0]);
    assert_eq!(store.all_sources().await.unwrap().len(), 4);
}

async fn a_listing_moves_its_time_forward_only(fixture: Fixture) {
    let store = fixture.store;
    let logs = source(1, "logs");
    store.create_source(&logs).await.unwrap();
    store.note_listing(&logs, Some(later(10)), "").await.unwrap();
    store.note_listing(&logs, Some(later(5)), "").await.unwrap();
    store.note_listing(&logs, None, "access is denied").await.unwrap();
    let present = store.source(&logs.graph, "logs").await.unwrap();
    assert_eq!((present.last_list_time, &*present.last_error), (Some(later(10)), "access is denied"));
}

async fn an_object_is_added_once_and_a_changed_one_again(fixture: Fixture) {
    let store = fixture.store;
    let source = with_objects(&store, 0).await;
    store.add_objects(&source, &[object("a", "1"), object("b", "1")], NOW).await.unwrap();
    store.add_objects(&source, &[object("a", "1"), object("a", "2")], later(1)).await.unwrap();
    let objects = store.list_objects(&source, None, ("", ""), 10).await.unwrap();
    let rows: Vec<_> = objects.iter().map(|object| (&*object.key, &*object.etag, object.seen_time)).collect();
    assert_eq!(rows, [("a", "1", NOW), ("a", "2", later(1)), ("b", "1", NOW)]);
    assert_eq!(store.known(&source, &["a@1", "b@1", "c@1"]).await.unwrap(), HashSet::from(["a@1".to_owned(), "b@1".to_owned()]));
}

async fn many_objects_are_added_at_once(fixture: Fixture) {
    let store = fixture.store;
    let source = with_objects(&store, 1234).await;
    let ids: Vec<String> = (0..1234).map(|number| format!("key-{number:04}@e")).collect();
    let asked: Vec<&str> = ids.iter().map(|id| &**id).collect();
    assert_eq!(store.known(&source, &asked).await.unwrap().len(), 1234);
}

async fn deleting_a_source_takes_its_ledger_and_stops_additions(fixture: Fixture) {
    let store = fixture.store;
    let source = with_objects(&store, 3).await;
    assert_eq!(claim(&store, &source, "w", NOW, 1).await.len(), 1);
    store.delete_source(&source.graph, "logs").await.unwrap();
    assert!(matches!(store.delete_source(&source.graph, "logs").await, Err(StoreError::NotFound)));
    assert!(matches!(store.add_objects(&source, &[object("late", "1")], NOW).await, Err(StoreError::NotFound)));
    assert!(claim(&store, &source, "w", NOW, 9).await.is_empty());
    let again = Source { id: "again".to_owned(), ..source.clone() };
    store.create_source(&again).await.unwrap();
    assert!(matches!(store.add_objects(&source, &[object("late", "1")], NOW).await, Err(StoreError::NotFound)), "what belongs to the old one stays out");
    assert!(store.list_objects(&again, None, ("", ""), 10).await.unwrap().is_empty());
}

async fn concurrent_claims_never_overlap(fixture: Fixture) {
    let store = fixture.store;
    let source = with_objects(&store, 200).await;
    let workers = (0..8).map(|worker| {
        let (store, source) = (store.clone(), source.clone());
        tokio::spawn(async move {
            let mut mine = Vec::new();
            let mut empty = 0;
            while empty < 3 {
                let claimed = claim(&store, &source, &format!("w{worker}"), NOW, 7).await;
                empty = if claimed.is_empty() { empty + 1 } else { 0 };
                mine.extend(claimed.into_iter().map(|object| object.id));
            }
            mine
        })
    });
    let all: Vec<String> = futures::future::join_all(workers).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(all.len(), 200);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 200);
}

async fn a_claim_expires_unless_it_is_renewed(fixture: Fixture) {
    let store = fixture.store;
    let source = with_objects(&store, 2).await;
    assert_eq!(claim(&store, &source, "a", NOW, 1).await.len(), 1);
    assert_eq!(claim(&store, &source, "b", NOW, 1).await.len(), 1);
    store.renew("a", later(120)).await.unwrap();
    let expired = claim(&store, &source, "c", later(61), 9).await;
    assert_eq!(expired.len(), 1, "that of `b`");
    assert_eq!(expired[0].attempts, 2);
    store.finish(&source, "b", &[(expired[0].id.clone(), Outcome::Done(counts(9)))], later(62)).await.unwrap();
    assert!(store.list_objects(&source, Some(ObjectState::Done), ("", ""), 9).await.unwrap().is_empty(), "`b` has lost it");
}

async fn a_released_claim_is_free_and_not_counted(fixture: Fixture) {
    let store = fixture.store;
    let source = with_objects(&store, 1).await;
    assert_eq!(claim(&store, &source, "a", NOW, 1).await[0].attempts, 1);
    store.release("a").await.unwrap();
    assert_eq!(claim(&store, &source, "b", NOW, 1).await[0].attempts, 1);
}

async fn outcomes_are_written_only_by_the_claimer(fixture: Fixture) {
    let store = fixture.store;
    let source = with_objects(&store, 3).await;
    let claimed = claim(&store, &source, "a", NOW, 3).await;
    let outcomes = vec![
        (claimed[0].id.clone(), Outcome::Done(counts(5))),
        (claimed[1].id.clone(), Outcome::Failed { reason: "access is denied".to_owned(), counts: Counts::default(), next_try: Some(later(30)) }),
        (claimed[2].id.clone(), Outcome::Postponed { reason: "the graph is away".to_owned(), next_try: later(30) }),
    ];
    store.finish(&source, "b", &outcomes, later(1)).await.unwrap();
    assert!(store.list_objects(&source, Some(ObjectState::Done), ("", ""), 9).await.unwrap().is_empty());
    store.finish(&source, "a", &outcomes, later(2)).await.unwrap();
    let objects = store.list_objects(&source, None, ("", ""), 9).await.unwrap();
    let find = |index: usize| objects.iter().find(|object| object.id == claimed[index].id).unwrap();
    let (done, failed, postponed) = (find(0), find(1), find(2));
    assert_eq!((done.state, done.counts, done.finish_time, done.attempts), (ObjectState::Done, counts(5), Some(later(2)), 1));
    assert_eq!((failed.state, &*failed.failure, failed.finish_time), (ObjectState::Failed, "access is denied", Some(later(2))));
    assert_eq!((postponed.state, &*postponed.failure, postponed.finish_time), (ObjectState::Seen, "the graph is away", None));
    assert!(claim(&store, &source, "a", later(29), 9).await.is_empty());
    assert_eq!(claim(&store, &source, "a", later(30), 9).await.len(), 2);
}

async fn a_failed_object_waits_for_its_time_or_a_sync(fixture: Fixture) {
    let store = fixture.store;
    let source = with_objects(&store, 1).await;
    let claimed = claim(&store, &source, "a", NOW, 1).await;
    let failed = Outcome::Failed { reason: "no".to_owned(), counts: Counts::default(), next_try: Some(later(3600)) };
    store.finish(&source, "a", &[(claimed[0].id.clone(), failed)], NOW).await.unwrap();
    assert!(claim(&store, &source, "a", later(1), 1).await.is_empty());
    store.retry_failed(&source).await.unwrap();
    assert_eq!(claim(&store, &source, "a", later(1), 1).await[0].attempts, 2);
}

async fn an_object_that_is_gone_waits_for_a_listing(fixture: Fixture) {
    let store = fixture.store;
    let source = with_objects(&store, 1).await;
    let claimed = claim(&store, &source, "a", NOW, 1).await;
    let gone = Outcome::Failed { reason: "gone".to_owned(), counts: Counts::default(), next_try: None };
    store.finish(&source, "a", &[(claimed[0].id.clone(), gone)], NOW).await.unwrap();
    store.retry_failed(&source).await.unwrap();
    assert!(claim(&store, &source, "a", later(1_000_000_000), 1).await.is_empty());
    assert_eq!(store.progress(&source).await.unwrap()[0].oldest_to_do, None, "it makes no lag");
    assert!(store.known(&source, &[&claimed[0].id]).await.unwrap().is_empty());
    store.add_objects(&source, &[object("key-0000", "e")], later(5)).await.unwrap();
    assert_eq!(claim(&store, &source, "a", later(6), 1).await.len(), 1);
}

async fn progress_is_by_account_and_region_with_gaps(fixture: Fixture) {
    let store = fixture.store;
    let source = with_objects(&store, 0).await;
    assert!(store.progress(&source).await.unwrap().is_empty());
    let at = |key: &str, region: &str, hours: (i64, i64), modified: i64| NewObject {
        account: "123456789012".to_owned(),
        region: region.to_owned(),
        hours: Some(hours),
        modify_time: later(modified),
        ..object(key, "e")
    };
    let objects = [
        at("a", "us-east-1", (100, 100), 1),
        at("b", "us-east-1", (100, 100), 2),
        at("c", "us-east-1", (101, 101), 3),
        at("d", "us-east-1", (104, 104), 9),
        at("e", "us-east-1", (200, 223), 4),
        at("f", "us-east-1", (201, 201), 4),
        at("g", "us-east-1", (224, 224), 4),
        at("h", "eu-west-1", (5, 5), 4),
        object("i", "e"),
    ];
    store.add_objects(&source, &objects, NOW).await.unwrap();
    for claimed in claim(&store, &source, "w", NOW, 9).await {
        if ["a", "b"].contains(&&*claimed.key) {
            store.finish(&source, "w", &[(claimed.id, Outcome::Done(counts(7)))], NOW).await.unwrap();
        }
    }
    let progress = store.progress(&source).await.unwrap();
    let keys: Vec<_> = progress.iter().map(|progress| (&*progress.account, &*progress.region, progress.seen, progress.done)).collect();
    assert_eq!(keys, [("", "", 1, 0), ("123456789012", "eu-west-1", 1, 0), ("123456789012", "us-east-1", 7, 2)]);
    let east = &progress[2];
    assert_eq!((east.counts.records, east.counts.events, east.counts.duplicates, east.counts.dead_letters, east.counts.bytes), (20, 14, 2, 4, 200));
    assert_eq!((east.newest, east.oldest_to_do), (later(9), Some(later(3))));
    let gap = |start, end| TimeWindow::new(Hour(start).start(), Hour(end).start()).unwrap();
    assert_eq!(east.gaps, [gap(102, 104), gap(105, 200)]);
    assert!(progress[0].gaps.is_empty() && progress[1].gaps.is_empty());
}

async fn only_the_latest_gaps_are_told(fixture: Fixture) {
    let store = fixture.store;
    let source = with_objects(&store, 0).await;
    let objects: Vec<_> = (0..150).map(|number| NewObject { hours: Some((number * 2, number * 2)), ..object(&format!("k{number}"), "e") }).collect();
    store.add_objects(&source, &objects, NOW).await.unwrap();
    let gaps = store.progress(&source).await.unwrap().remove(0).gaps;
    assert_eq!(gaps.len(), 100);
    assert_eq!((gaps[0].start(), gaps[99].end()), (Hour(99).start(), Hour(298).start()));
}

async fn objects_are_paged_by_key_and_state(fixture: Fixture) {
    let store = fixture.store;
    let source = with_objects(&store, 5).await;
    let first = store.list_objects(&source, None, ("", ""), 2).await.unwrap();
    let rest = store.list_objects(&source, None, (&first[1].key, &first[1].etag), 9).await.unwrap();
    let keys: Vec<_> = first.iter().chain(&rest).map(|object| &*object.key).collect();
    assert_eq!(keys, ["key-0000", "key-0001", "key-0002", "key-0003", "key-0004"]);
    assert_eq!(store.list_objects(&source, Some(ObjectState::Seen), ("", ""), 9).await.unwrap().len(), 5);
    assert!(store.list_objects(&source, Some(ObjectState::Failed), ("", ""), 9).await.unwrap().is_empty());
}

async fn pull_status_counts_what_happened_since(fixture: Fixture) {
    let store = fixture.store;
    let source = with_objects(&store, 4).await;
    let claimed = claim(&store, &source, "w", NOW, 3).await;
    store.finish(&source, "w", &[(claimed[0].id.clone(), Outcome::Done(counts(100)))], later(1)).await.unwrap();
    let failed = Outcome::Failed { reason: "no".to_owned(), counts: Counts::default(), next_try: Some(later(9)) };
    store.finish(&source, "w", &[(claimed[1].id.clone(), Outcome::Done(counts(7))), (claimed[2].id.clone(), failed)], later(5)).await.unwrap();
    let status = store.pull_status(&source, later(2)).await.unwrap();
    assert_eq!((status.waiting, status.waiting_bytes, status.finished, status.finished_bytes, status.failed), (1, 10, 2, 20, 1));
    assert_eq!((status.counts.events, status.counts.records), (7, 10));
    assert_eq!(store.pull_status(&source, later(9)).await.unwrap().finished, 0);
}

async fn migration_is_repeatable_and_checked(fixture: Fixture) {
    SqlStore::migrate(&fixture.config).await.unwrap();
    fixture.store.ready().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let empty = config::Store::new(Url::parse(&format!("sqlite://{}?mode=rwc", directory.path().join("empty.db").display())).unwrap());
    assert!(matches!(SqlStore::open(&empty).await, Err(StoreError::SchemaVersion { expected: 2, found: 0 })));
}
