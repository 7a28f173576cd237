//! What every implementation of the store must do, run on each of them.

use std::sync::Arc;

use gumshoe_model::{GraphArn, Timestamp};
use sqlx::{Connection as _, Executor as _};
use url::Url;

use super::{Store, StoreError, sql::SqlStore};
use crate::{
    config,
    verdict::{FindingId, Kind, NewVerdict},
};

/// A store of its own for one test, gone with it.
struct Fixture {
    store: Arc<SqlStore>,
    config: config::Store,
    _directory: Option<tempfile::TempDir>,
    _database: Option<TemporaryDatabase>,
}

impl Fixture {
    async fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = Url::parse(&format!("sqlite://{}", directory.path().join("investigation.db").display())).unwrap();
        Self::open(url, Some(directory), None).await
    }

    async fn postgres() -> Self {
        let database = TemporaryDatabase::create("investigation").await;
        Self::open(database.url.clone(), None, Some(database)).await
    }

    async fn open(url: Url, directory: Option<tempfile::TempDir>, database: Option<TemporaryDatabase>) -> Self {
        let config = config::Store::new(url);
        SqlStore::migrate(&config).await.unwrap();
        Self { store: Arc::new(SqlStore::open(&config).await.unwrap()), config, _directory: directory, _database: database }
    }
}

/// A Postgres database, dropped with the value.
struct TemporaryDatabase {
    server: Url,
    name: String,
    url: Url,
}

impl TemporaryDatabase {
    async fn create(service: &str) -> Self {
        let server = gumshoe_runtime::config::environment("GUMSHOE_TEST_POSTGRES").unwrap_or_else(|| "postgres://postgres@127.0.0.1:5432/postgres".to_owned());
        let server = Url::parse(&server).unwrap();
        let name = format!("gumshoe_{service}_{}", uuid::Uuid::new_v4().simple());
        run(&server, format!("CREATE DATABASE {name}")).await;
        let mut url = server.clone();
        url.set_path(&name);
        Self { server, name, url }
    }
}

impl Drop for TemporaryDatabase {
    fn drop(&mut self) {
        let (server, statement) = (self.server.clone(), format!("DROP DATABASE {} WITH (FORCE)", self.name));
        let dropping = std::thread::spawn(move || tokio::runtime::Runtime::new().unwrap().block_on(run(&server, statement)));
        dropping.join().unwrap();
    }
}

async fn run(server: &Url, statement: String) {
    let mut connection = sqlx::PgConnection::connect(server.as_str()).await.unwrap();
    connection.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
    connection.close().await.unwrap();
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

mod investigations;
mod outbox;
mod suppressions;

conforms! {
    the_latest_verdict_is_in_force_and_the_history_stays,
    a_graph_sees_its_own_verdicts_only,
    a_request_id_is_recorded_once_even_concurrently,
    a_request_id_stands_for_one_verdict,
    concurrent_verdicts_follow_one_another,
    many_findings_are_asked_for_at_once,
    migration_is_repeatable_and_checked,
}

const NOW: Timestamp = Timestamp(1_700_000_000_123_456);

fn graph(number: u32) -> GraphArn {
    format!("arn:aws:detective:us-east-1:111111111111:graph:{number:032x}").parse().unwrap()
}

fn finding(name: &str) -> FindingId {
    name.parse().unwrap()
}

fn verdict(name: &str, kind: Kind, request: Option<&str>) -> NewVerdict {
    NewVerdict {
        finding: finding(name),
        kind,
        note: "because ü".parse().unwrap(),
        author: "arn:aws:iam::111111111111:user/ann".to_owned(),
        request: request.map(|id| id.parse().unwrap()),
    }
}

async fn the_latest_verdict_is_in_force_and_the_history_stays(fixture: Fixture) {
    let store = &fixture.store;
    assert!(store.verdicts_in_force(&graph(1), &[finding("f")]).await.unwrap().is_empty());
    assert!(store.verdicts_in_force(&graph(1), &[]).await.unwrap().is_empty());
    let mut made = Vec::new();
    for kind in [Kind::TruePositive, Kind::Reopened, Kind::Benign] {
        // The clock stands still: order does not come from it.
        made.push(store.create_verdict(&graph(1), &verdict("f", kind, None), false, NOW).await.unwrap());
    }
    let other = store.create_verdict(&graph(1), &verdict("g", Kind::FalsePositive, None), false, NOW).await.unwrap();
    let in_force = store.verdicts_in_force(&graph(1), &[finding("g"), finding("f"), finding("h")]).await.unwrap();
    assert_eq!(in_force.len(), 2);
    assert_eq!((in_force.get(&finding("f")), in_force.get(&finding("g"))), (made.last(), Some(&other)));
    made.reverse();
    assert_eq!(store.list_verdicts(&graph(1), &finding("f"), None, 10).await.unwrap(), made);
    let first_page = store.list_verdicts(&graph(1), &finding("f"), None, 2).await.unwrap();
    assert_eq!(first_page, made[..2]);
    assert_eq!(store.list_verdicts(&graph(1), &finding("f"), Some(first_page[1].sequence), 2).await.unwrap(), made[2..]);
}

async fn a_graph_sees_its_own_verdicts_only(fixture: Fixture) {
    let store = &fixture.store;
    store.create_verdict(&graph(1), &verdict("f", Kind::Benign, Some("r")), false, NOW).await.unwrap();
    assert!(store.verdicts_in_force(&graph(2), &[finding("f")]).await.unwrap().is_empty());
    assert!(store.list_verdicts(&graph(2), &finding("f"), None, 10).await.unwrap().is_empty());
    // Nor do request ids meet.
    let other = store.create_verdict(&graph(2), &verdict("f", Kind::TruePositive, Some("r")), false, NOW).await.unwrap();
    assert_eq!((other.sequence, other.content.kind), (1, Kind::TruePositive));
}

async fn a_request_id_is_recorded_once_even_concurrently(fixture: Fixture) {
    let calls = (0..12).map(|number| {
        let store = fixture.store.clone();
        tokio::spawn(async move { store.create_verdict(&graph(1), &verdict("f", Kind::Benign, Some("r")), false, Timestamp(NOW.0 + number)).await.unwrap() })
    });
    let made: Vec<_> = futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    let recorded = fixture.store.list_verdicts(&graph(1), &finding("f"), None, 100).await.unwrap();
    assert_eq!(recorded.len(), 1);
    assert!(made.iter().all(|verdict| *verdict == recorded[0]));
    let next = fixture.store.create_verdict(&graph(1), &verdict("f", Kind::Reopened, None), false, NOW).await.unwrap();
    assert_eq!(next.sequence, 2, "calls that recorded nothing leave no gap");
}

async fn a_request_id_stands_for_one_verdict(fixture: Fixture) {
    let store = &fixture.store;
    let first = verdict("f", Kind::Benign, Some("r"));
    store.create_verdict(&graph(1), &first, false, NOW).await.unwrap();
    let others = [
        NewVerdict { finding: finding("g"), ..first.clone() },
        NewVerdict { kind: Kind::TruePositive, ..first.clone() },
        NewVerdict { note: "".parse().unwrap(), ..first.clone() },
        NewVerdict { author: "arn:aws:iam::111111111111:user/bob".to_owned(), ..first.clone() },
    ];
    for other in others {
        assert!(matches!(store.create_verdict(&graph(1), &other, false, NOW).await, Err(StoreError::RequestReused)));
    }
    assert!(store.verdicts_in_force(&graph(1), &[finding("g")]).await.unwrap().is_empty());
    assert_eq!(store.list_verdicts(&graph(1), &finding("f"), None, 10).await.unwrap().len(), 1);
}

async fn concurrent_verdicts_follow_one_another(fixture: Fixture) {
    let calls = (0..20).map(|_| {
        let store = fixture.store.clone();
        tokio::spawn(async move { store.create_verdict(&graph(1), &verdict("f", Kind::Benign, None), false, NOW).await.unwrap().sequence })
    });
    let mut sequences: Vec<_> = futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=20).collect::<Vec<_>>());
}

async fn many_findings_are_asked_for_at_once(fixture: Fixture) {
    let names: Vec<_> = (0..100).map(|number| format!("finding/{number}'; --")).collect();
    for name in names.iter().step_by(2) {
        fixture.store.create_verdict(&graph(1), &verdict(name, Kind::Benign, None), false, NOW).await.unwrap();
    }
    let findings: Vec<_> = names.iter().map(|name| finding(name)).collect();
    let in_force = fixture.store.verdicts_in_force(&graph(1), &findings).await.unwrap();
    assert_eq!(in_force.len(), 50);
    assert!(findings.iter().step_by(2).all(|finding| in_force.contains_key(finding)));
}

async fn migration_is_repeatable_and_checked(fixture: Fixture) {
    fixture.store.create_verdict(&graph(1), &verdict("f", Kind::Benign, None), false, NOW).await.unwrap();
    SqlStore::migrate(&fixture.config).await.unwrap();
    assert_eq!(fixture.store.list_verdicts(&graph(1), &finding("f"), None, 10).await.unwrap().len(), 1);
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(fixture.config.url.as_str()).await.unwrap();
    connection.execute("DELETE FROM investigation_migrations WHERE version = (SELECT max(version) FROM investigation_migrations)").await.unwrap();
    assert!(matches!(fixture.store.ready().await, Err(StoreError::SchemaVersion { expected, found }) if expected == found + 1));
    assert!(matches!(SqlStore::open(&fixture.config).await, Err(StoreError::SchemaVersion { expected, found }) if expected == found + 1));
}
