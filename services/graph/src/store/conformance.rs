//! What the store must do, on every database.

use std::sync::Arc;

use gumshoe_behavior::Criticality;
use gumshoe_model::{GraphArn, Timestamp};
use gumshoe_testkit::PostgresDatabase;
use url::Url;

use super::{
    RuleStore as _, Store as _, StoreError, StoredRule,
    sql::SqlStore,
    sweeps::Checkpoint,
    tags::{Tag, TagChanges},
    usual::Usual,
    watchlists::Entry,
};
use crate::config;

struct Fixture {
    store: Arc<SqlStore>,
    config: config::Store,
    _directory: Option<tempfile::TempDir>,
    _database: Option<PostgresDatabase>,
}

impl Fixture {
    async fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = Url::parse(&format!("sqlite://{}", directory.path().join("graph.db").display())).unwrap();
        Self::open(url, Some(directory), None).await
    }

    async fn postgres() -> Self {
        let database = PostgresDatabase::create().await;
        Self::open(database.url(), None, Some(database)).await
    }

    async fn open(url: Url, directory: Option<tempfile::TempDir>, database: Option<PostgresDatabase>) -> Self {
        let config = config::Store::new(url);
        SqlStore::migrate(&config).await.unwrap();
        Self { store: Arc::new(SqlStore::open(&config).await.unwrap()), config, _directory: directory, _database: database }
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
    one_of_many_gets_a_lease,
    a_lease_is_kept_while_it_is_renewed,
    a_dead_holder_loses_its_lease_and_cannot_take_it_back,
    only_the_holder_gives_a_lease_back,
    a_checkpoint_is_replaced_only_by_who_knows_it,
    rules_are_each_graphs_own,
    of_changes_made_at_once_one_wins,
    a_watchlist_has_a_version_and_forgets_what_has_expired,
    changes_of_a_watchlist_at_once_all_count,
    what_is_usual_is_kept_by_finding,
    of_tags_what_was_told_last_counts,
    migration_is_repeatable_and_checked,
}

const NOW: Timestamp = Timestamp(1_700_000_000_123_456);

fn later(seconds: i64) -> Timestamp {
    Timestamp(NOW.0 + seconds * 1_000_000)
}

async fn one_of_many_gets_a_lease(fixture: Fixture) {
    for now in [NOW, later(60)] {
        let tries = (0..16).map(|number| {
            let store = Arc::clone(&fixture.store);
            tokio::spawn(async move { store.take("a", &format!("{}-{number}", now.0), now, Timestamp(now.0 + 60_000_000)).await.unwrap() })
        });
        let taken = futures::future::join_all(tries).await.into_iter().filter(|taken| *taken.as_ref().unwrap()).count();
        assert_eq!(taken, 1);
    }
    assert!(fixture.store.take("b", "x", NOW, later(60)).await.unwrap(), "leases have names");
}

async fn a_lease_is_kept_while_it_is_renewed(fixture: Fixture) {
    let store = fixture.store;
    assert!(store.take("a", "x", NOW, later(60)).await.unwrap());
    assert!(!store.take("a", "x", later(1), later(60)).await.unwrap(), "not even its holder takes it twice");
    assert!(store.renew("a", "x", later(59), later(120)).await.unwrap());
    assert!(!store.take("a", "y", later(119), later(200)).await.unwrap());
    assert!(!store.renew("a", "y", later(119), later(200)).await.unwrap());
    assert!(!store.renew("b", "x", later(119), later(200)).await.unwrap());
}

async fn a_dead_holder_loses_its_lease_and_cannot_take_it_back(fixture: Fixture) {
    let store = fixture.store;
    assert!(store.take("a", "dead", NOW, later(60)).await.unwrap());
    assert!(!store.renew("a", "dead", later(60), later(120)).await.unwrap(), "it has ended");
    assert!(store.take("a", "heir", later(60), later(120)).await.unwrap());
    assert!(!store.renew("a", "dead", later(61), later(200)).await.unwrap());
    assert!(store.renew("a", "heir", later(61), later(200)).await.unwrap());
}

async fn only_the_holder_gives_a_lease_back(fixture: Fixture) {
    let store = fixture.store;
    assert!(store.take("a", "x", NOW, later(60)).await.unwrap());
    store.release("a", "y").await.unwrap();
    assert!(!store.take("a", "y", later(1), later(60)).await.unwrap());
    store.release("a", "x").await.unwrap();
    store.release("a", "x").await.unwrap();
    assert!(store.take("a", "y", later(1), later(60)).await.unwrap());
}

fn graph(number: u8) -> GraphArn {
    format!("arn:aws:detective:us-east-1:111122223333:graph:{number:032x}").parse().unwrap()
}

fn rule(id: &str, document: &str, time: Timestamp) -> StoredRule {
    StoredRule {
        id: id.to_owned(),
        document: document.to_owned(),
        author: "arn:aws:iam::111122223333:user/ann".to_owned(),
        create_time: time,
        update_time: time,
    }
}

async fn rules_are_each_graphs_own(fixture: Fixture) {
    let (store, one, other) = (fixture.store, graph(1), graph(2));
    assert_eq!((store.rule_revision(&one).await.unwrap(), store.rules(&one).await.unwrap()), (0, (0, Vec::new())));
    assert!(store.put_rule(&one, 0, &rule("b", "first", NOW)).await.unwrap());
    assert!(store.put_rule(&one, 1, &rule("a", "x", NOW)).await.unwrap());
    assert!(store.put_rule(&one, 2, &rule("b", "second", later(1))).await.unwrap());
    assert!(store.put_rule(&other, 0, &rule("b", "theirs", NOW)).await.unwrap());
    let written = StoredRule { create_time: NOW, ..rule("b", "second", later(1)) };
    assert_eq!(store.rules(&one).await.unwrap(), (3, vec![rule("a", "x", NOW), written.clone()]));
    assert!(store.delete_rule(&one, 3, "a").await.unwrap());
    assert_eq!(store.rules(&one).await.unwrap(), (4, vec![written]));
    assert_eq!(store.rules(&other).await.unwrap(), (1, vec![rule("b", "theirs", NOW)]));
    store.delete_rules(&one).await.unwrap();
    assert_eq!(store.rules(&one).await.unwrap(), (0, Vec::new()));
    assert_eq!(store.rules(&other).await.unwrap().1.len(), 1);
}

async fn of_changes_made_at_once_one_wins(fixture: Fixture) {
    for revision in [0, 1] {
        let tries = (0..8).map(|number| {
            let store = Arc::clone(&fixture.store);
            tokio::spawn(async move { store.put_rule(&graph(1), revision, &rule(&format!("r-{revision}-{number}"), "x", NOW)).await.unwrap() })
        });
        let written = futures::future::join_all(tries).await.into_iter().filter(|written| *written.as_ref().unwrap()).count();
        assert_eq!((written, fixture.store.rule_revision(&graph(1)).await.unwrap()), (1, revision + 1));
    }
    assert!(!fixture.store.put_rule(&graph(1), 0, &rule("late", "x", NOW)).await.unwrap());
    assert!(!fixture.store.delete_rule(&graph(1), 1, "r-0-0").await.unwrap());
    assert_eq!(fixture.store.rules(&graph(1)).await.unwrap().1.len(), 2);
    assert!(!fixture.store.put_rule(&graph(2), 1, &rule("early", "x", NOW)).await.unwrap(), "a graph without rules is at 0");
    assert_eq!(fixture.store.rules(&graph(2)).await.unwrap(), (0, Vec::new()));
}

async fn what_is_usual_is_kept_by_finding(fixture: Fixture) {
    let store = fixture.store;
    let pairs = |items: &[&str]| items.iter().map(|item| ("user:a".to_owned(), (*item).to_owned())).collect::<Usual>();
    store.put_usual(&graph(1), "f", &pairs(&["one", "two"])).await.unwrap();
    store.put_usual(&graph(1), "g", &pairs(&["two", "three"])).await.unwrap();
    store.put_usual(&graph(2), "f", &pairs(&["theirs"])).await.unwrap();
    assert_eq!(store.usual(&graph(1)).await.unwrap(), pairs(&["one", "two", "three"]));
    store.put_usual(&graph(1), "f", &pairs(&["one"])).await.unwrap();
    store.put_usual(&graph(1), "g", &Usual::new()).await.unwrap();
    assert_eq!(store.usual(&graph(1)).await.unwrap(), pairs(&["one"]));
    store.remove_graph(&graph(1)).await.unwrap();
    assert_eq!(store.usual(&graph(1)).await.unwrap(), Usual::new());
    assert_eq!(store.usual(&graph(2)).await.unwrap(), pairs(&["theirs"]));
}

async fn of_tags_what_was_told_last_counts(fixture: Fixture) {
    let store = fixture.store;
    let tag = |entity: &str, key: &str, value: &str| Tag { entity: entity.to_owned(), key: key.to_owned(), value: value.to_owned() };
    let told = |entity: &str, key: &str, time: i64, value: Option<&str>| TagChanges {
        tags: [((entity.to_owned(), key.to_owned()), (Timestamp(time), value.map(str::to_owned)))].into(),
        ..TagChanges::default()
    };
    let keys = ["env".to_owned(), "owner".to_owned()];
    let tags = async || store.tags(&graph(1), &keys).await.unwrap();
    store.put_tags(&graph(1), &TagChanges::default()).await.unwrap();
    assert_eq!(store.watchlist_version(&graph(1)).await.unwrap(), 0);
    store.put_tags(&graph(1), &told("user:a", "env", 10, Some("prod"))).await.unwrap();
    store.put_tags(&graph(1), &told("user:a", "other", 10, Some("x"))).await.unwrap();
    store.put_tags(&graph(2), &told("user:a", "owner", 10, Some("theirs"))).await.unwrap();
    let version = store.watchlist_version(&graph(1)).await.unwrap();
    store.put_tags(&graph(1), &told("user:a", "env", 9, None)).await.unwrap();
    store.put_tags(&graph(1), &told("user:a", "env", 10, Some("prod"))).await.unwrap();
    assert_eq!((tags().await, store.watchlist_version(&graph(1)).await.unwrap()), (vec![tag("user:a", "env", "prod")], version), "nothing new");
    let mut replaced = told("user:a", "owner", 20, Some(""));
    replaced.replaced.insert("user:a".to_owned(), Timestamp(20));
    store.put_tags(&graph(1), &replaced).await.unwrap();
    assert_eq!(tags().await, [tag("user:a", "owner", "")]);
    assert!(store.watchlist_version(&graph(1)).await.unwrap() > version);
    store.put_tags(&graph(1), &told("user:a", "owner", 30, None)).await.unwrap();
    assert_eq!(tags().await, []);
    store.remove_graph(&graph(2)).await.unwrap();
    assert_eq!(store.tags(&graph(2), &keys).await.unwrap(), []);
}

async fn a_checkpoint_is_replaced_only_by_who_knows_it(fixture: Fixture) {
    let store = fixture.store;
    let graph = |id: char| format!("arn:aws:detective:us-east-1:111122223333:graph:{}", id.to_string().repeat(32)).parse().unwrap();
    let (one, other) = (graph('1'), graph('2'));
    let at = |run: i64, next_hour: i64| Checkpoint { run, next_hour, state: format!("state-{next_hour}"), peers: String::new() };
    assert_eq!(store.checkpoint(&one).await.unwrap(), None);
    assert!(store.save_checkpoint(&one, None, &at(0, 7)).await.unwrap());
    assert!(!store.save_checkpoint(&one, None, &at(0, 8)).await.unwrap(), "it is there by now");
    assert_eq!(store.checkpoint(&one).await.unwrap(), Some(at(0, 7)));
    assert!(store.save_checkpoint(&one, Some(&at(0, 7)), &at(0, 9)).await.unwrap());
    assert!(!store.save_checkpoint(&one, Some(&at(0, 7)), &at(0, 8)).await.unwrap());
    assert!(store.save_checkpoint(&one, Some(&at(0, 9)), &at(1, 3)).await.unwrap(), "begun anew");
    assert!(!store.save_checkpoint(&one, Some(&at(0, 9)), &at(0, 10)).await.unwrap());
    assert_eq!(store.checkpoint(&one).await.unwrap(), Some(at(1, 3)));
    assert_eq!(store.checkpoint(&other).await.unwrap(), None);
    store.remove_graph(&one).await.unwrap();
    assert_eq!(store.checkpoint(&one).await.unwrap(), None);
}

fn entry(id: &str, create_time: Timestamp, expire_time: Option<Timestamp>) -> Entry {
    let (pattern, note, author) = (format!("user:{id}*"), "because".to_owned(), "arn:aws:iam::111122223333:user/analyst".to_owned());
    Entry { id: id.to_owned(), pattern, criticality: Criticality::High, note, author, create_time, expire_time }
}

async fn a_watchlist_has_a_version_and_forgets_what_has_expired(fixture: Fixture) {
    let store = fixture.store;
    let graph = |id: char| format!("arn:aws:detective:us-east-1:111122223333:graph:{}", id.to_string().repeat(32)).parse().unwrap();
    let (one, other) = (graph('1'), graph('2'));
    assert_eq!(store.watchlist(&one).await.unwrap(), (0, Vec::new()));
    let (first, brief) = (entry("first", NOW, None), entry("brief", later(1), Some(later(10))));
    for entry in [&first, &brief] {
        assert!(store.create_watchlist_entry(&one, entry).await.unwrap());
    }
    let (version, entries) = store.watchlist(&one).await.unwrap();
    assert_eq!(entries, [brief, first.clone()], "the latest first");
    let last = entry("last", later(10), None);
    assert!(store.create_watchlist_entry(&one, &last).await.unwrap());
    assert!(store.watchlist_version(&one).await.unwrap() > version);
    assert_eq!(store.watchlist(&one).await.unwrap().1, [last, first]);
    assert!(!store.delete_watchlist_entry(&one, "brief").await.unwrap(), "it is gone");
    assert!(!store.delete_watchlist_entry(&other, "first").await.unwrap(), "it is another's");
    let version = store.watchlist_version(&one).await.unwrap();
    assert!(store.delete_watchlist_entry(&one, "first").await.unwrap());
    assert!(store.watchlist_version(&one).await.unwrap() > version);
    assert_eq!(store.watchlist_version(&other).await.unwrap(), 0);
    store.remove_graph(&one).await.unwrap();
    assert_eq!(store.watchlist(&one).await.unwrap(), (0, Vec::new()));
}

async fn changes_of_a_watchlist_at_once_all_count(fixture: Fixture) {
    let graph: gumshoe_model::GraphArn = "arn:aws:detective:us-east-1:111122223333:graph:0123456789abcdef0123456789abcdef".parse().unwrap();
    let changes = (0..16).map(|number| {
        let (store, graph) = (Arc::clone(&fixture.store), graph.clone());
        tokio::spawn(async move {
            let entry = entry(&number.to_string(), NOW, None);
            assert!(store.create_watchlist_entry(&graph, &entry).await.unwrap());
            if number % 2 == 0 {
                assert!(store.delete_watchlist_entry(&graph, &entry.id).await.unwrap());
            }
        })
    });
    for change in futures::future::join_all(changes).await {
        change.unwrap();
    }
    let (version, entries) = fixture.store.watchlist(&graph).await.unwrap();
    assert_eq!((version, entries.len()), (24, 8));
}

async fn migration_is_repeatable_and_checked(fixture: Fixture) {
    SqlStore::migrate(&fixture.config).await.unwrap();
    SqlStore::open(&fixture.config).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let empty = config::Store::new(Url::parse(&format!("sqlite://{}?mode=rwc", directory.path().join("empty.db").display())).unwrap());
    assert!(matches!(SqlStore::open(&empty).await, Err(StoreError::SchemaVersion { expected: 6, found: 0 })));
}
