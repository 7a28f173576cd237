//! What every implementation of the store must do, run on each of them.

use std::sync::Arc;

use gumshoe_model::{AccountId, GraphArn, Timestamp};
use sqlx::{Connection as _, Executor as _};
use url::Url;

use super::{FirstAccount, FirstAdministrator, GraphStore as _, MemberStore as _, PrincipalStore as _, Store as _, StoreError, sql::SqlStore};
use crate::{
    access_key::{AccessKey, AccessKeyId, MAX_KEYS, SecretDigest, StoredSecret},
    account::Account,
    config,
    datasource::Package,
    graph::Graph,
    member::NewMember,
    policy::{ADMINISTRATOR, MAX_POLICIES, Policy, PolicyDocument},
    principal::{Principal, PrincipalName},
    secret::Sealed,
    tag::Tags,
};

mod graphs;
mod interleavings;
mod members;
mod organizations;

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
        let url = Url::parse(&format!("sqlite://{}", directory.path().join("membership.db").display())).unwrap();
        Self::open(url, Some(directory), None).await
    }

    async fn postgres() -> Self {
        let database = TemporaryDatabase::create("membership").await;
        Self::open(database.url.clone(), None, Some(database)).await
    }

    /// A database that has no schema yet, on the same kind of server.
    async fn beside(&self) -> Beside {
        match self.config.url.scheme() {
            "sqlite" => {
                let directory = tempfile::tempdir().unwrap();
                let url = Url::parse(&format!("sqlite://{}?mode=rwc", directory.path().join("old.db").display())).unwrap();
                Beside { config: config::Store::new(url), _directory: Some(directory), _database: None }
            }
            _ => {
                let database = TemporaryDatabase::create("membership").await;
                Beside { config: config::Store::new(database.url.clone()), _directory: None, _database: Some(database) }
            }
        }
    }

    async fn open(url: Url, directory: Option<tempfile::TempDir>, database: Option<TemporaryDatabase>) -> Self {
        let config = config::Store::new(url);
        SqlStore::migrate(&config).await.unwrap();
        Self { store: Arc::new(SqlStore::open(&config).await.unwrap()), config, _directory: directory, _database: database }
    }
}

struct Beside {
    config: config::Store,
    _directory: Option<tempfile::TempDir>,
    _database: Option<TemporaryDatabase>,
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
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name($crate::store::conformance::Fixture::sqlite().await).await; })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name($crate::store::conformance::Fixture::postgres().await).await; })+
        }
    };
}

pub(crate) use conforms;

conforms! {
    an_account_is_registered_once,
    accounts_are_listed_to_their_registrar_only,
    an_account_has_one_graph_a_region,
    concurrent_creations_give_one_graph,
    principals_are_unique_in_their_account,
    a_principal_has_two_keys_at_most_even_concurrently,
    keys_belong_to_their_account,
    a_key_is_touched_forward_only,
    sealed_secrets_are_exchanged_once,
    policies_are_replaced_by_name_up_to_a_limit,
    deleting_a_principal_takes_its_keys_and_policies,
    a_registered_account_gets_one_administrator,
    concurrent_bootstraps_give_one_administrator,
    migration_is_repeatable_and_checked,
    migration_keeps_members_and_what_their_graphs_take,
}

const CORE: &[Package] = &[Package::DetectiveCore];
const NOW: Timestamp = Timestamp(1_700_000_000_123_456);

fn later(microseconds: i64) -> Timestamp {
    Timestamp(NOW.0 + microseconds)
}

fn id(last: u32) -> AccountId {
    format!("{last:012}").parse().unwrap()
}

fn account(last: u32) -> Account {
    Account { id: id(last), name: format!("Account {last} ü").parse().unwrap(), email: format!("a{last}@example.com").parse().unwrap(), create_time: NOW }
}

fn principal(name: &str) -> Principal {
    Principal { name: name.parse().unwrap(), create_time: NOW, trust_policy: None }
}

fn secret(text: &str) -> StoredSecret {
    StoredSecret { digest: SecretDigest::of(text), sealed: None }
}

fn key(name: &str, time: Timestamp) -> AccessKey {
    AccessKey { id: AccessKeyId::random(), principal: name.parse().unwrap(), active: true, create_time: time, last_used_time: None }
}

fn policy(name: &str, document: &str) -> Policy {
    Policy { name: name.parse().unwrap(), document: PolicyDocument::parse(document).unwrap(), update_time: NOW }
}

fn new_member(last: u32) -> NewMember {
    NewMember { account: id(last), email: account(last).email }
}

async fn graph_of(fixture: &Fixture, last: u32) -> GraphArn {
    fixture.store.create_account(&id(last), &account(last)).await.unwrap();
    fixture.store.create_graph(&Graph::new("us-east-1", &id(last), NOW).unwrap(), &Tags::new(), CORE).await.unwrap().arn
}

async fn an_account_is_registered_once(fixture: Fixture) {
    let store = &fixture.store;
    store.create_account(&id(1), &account(1)).await.unwrap();
    for registrar in [1, 2] {
        assert!(matches!(store.create_account(&id(registrar), &account(1)).await, Err(StoreError::AlreadyExists)));
    }
    assert_eq!(store.list_accounts(&id(1), None, 10).await.unwrap(), [account(1)]);
}

async fn accounts_are_listed_to_their_registrar_only(fixture: Fixture) {
    let store = &fixture.store;
    for last in [5, 3, 4, 1] {
        store.create_account(&id(1), &account(last)).await.unwrap();
    }
    store.create_account(&id(2), &account(2)).await.unwrap();
    let ids = |accounts: Vec<Account>| accounts.into_iter().map(|account| account.id).collect::<Vec<_>>();
    assert_eq!(ids(store.list_accounts(&id(1), None, 3).await.unwrap()), [id(1), id(3), id(4)]);
    assert_eq!(ids(store.list_accounts(&id(1), Some(&id(4)), 3).await.unwrap()), [id(5)]);
    assert_eq!(ids(store.list_accounts(&id(2), None, 3).await.unwrap()), [id(2)]);
    assert!(store.list_accounts(&id(3), None, 3).await.unwrap().is_empty());
}

async fn an_account_has_one_graph_a_region(fixture: Fixture) {
    let store = &fixture.store;
    let orphan = Graph::new("us-east-1", &id(9), NOW).unwrap();
    assert!(matches!(store.create_graph(&orphan, &Tags::new(), CORE).await, Err(StoreError::NotFound)));
    let first = graph_of(&fixture, 1).await;
    let again = store.create_graph(&Graph::new("us-east-1", &id(1), later(1)).unwrap(), &Tags::new(), CORE).await.unwrap();
    assert_eq!((&again.arn, again.create_time), (&first, NOW));
    let other = store.create_graph(&Graph::new("eu-west-1", &id(1), NOW).unwrap(), &Tags::new(), CORE).await.unwrap();
    assert_ne!(other.arn, first);
    let foreign = graph_of(&fixture, 2).await;
    assert_eq!(store.graph(&first).await.unwrap(), again);
    assert!(matches!(store.graph(&orphan.arn).await, Err(StoreError::NotFound)));
    let listed = store.list_graphs(&id(1), None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|graph| &graph.arn).collect::<Vec<_>>(), [&other.arn, &first]);
    assert_eq!(store.list_graphs(&id(1), Some(&other.arn), 10).await.unwrap(), [again]);
    assert_eq!(store.list_graphs(&id(2), None, 10).await.unwrap().first().unwrap().arn, foreign);
}

async fn concurrent_creations_give_one_graph(fixture: Fixture) {
    fixture.store.create_account(&id(1), &account(1)).await.unwrap();
    let calls = (0..16).map(|_| {
        let store = fixture.store.clone();
        tokio::spawn(async move { store.create_graph(&Graph::new("us-east-1", &id(1), NOW).unwrap(), &Tags::new(), CORE).await.unwrap().arn })
    });
    let arns: std::collections::HashSet<_> = futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(arns.len(), 1);
}

async fn principals_are_unique_in_their_account(fixture: Fixture) {
    let store = &fixture.store;
    assert!(matches!(store.create_principal(&id(1), &principal("user/a")).await, Err(StoreError::NotFound)));
    for last in [1, 2] {
        store.create_account(&id(last), &account(last)).await.unwrap();
        for name in ["user/b", "user/a", "role/a"] {
            store.create_principal(&id(last), &principal(name)).await.unwrap();
        }
    }
    assert!(matches!(store.create_principal(&id(1), &principal("user/a")).await, Err(StoreError::AlreadyExists)));
    let names = |principals: Vec<Principal>| principals.into_iter().map(|principal| principal.name.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(store.list_principals(&id(1), None, 2).await.unwrap()), ["role/a", "user/a"]);
    assert_eq!(names(store.list_principals(&id(1), Some(&"user/a".parse().unwrap()), 2).await.unwrap()), ["user/b"]);
    store.delete_principal(&id(1), &"user/a".parse().unwrap()).await.unwrap();
    assert!(matches!(store.delete_principal(&id(1), &"user/a".parse().unwrap()).await, Err(StoreError::NotFound)));
    assert_eq!(store.list_principals(&id(2), None, 10).await.unwrap().len(), 3, "the other account keeps its own");
}

async fn a_principal_has_two_keys_at_most_even_concurrently(fixture: Fixture) {
    fixture.store.create_account(&id(1), &account(1)).await.unwrap();
    fixture.store.create_principal(&id(1), &principal("user/a")).await.unwrap();
    let calls = (0..8).map(|number| {
        let store = fixture.store.clone();
        tokio::spawn(async move { store.create_access_key(&id(1), &key("user/a", later(number)), &secret("s")).await })
    });
    let outcomes: Vec<_> = futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), MAX_KEYS);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(()) | Err(StoreError::QuotaExceeded))), "{outcomes:?}");
    let name: PrincipalName = "user/a".parse().unwrap();
    let keys = fixture.store.list_access_keys(&id(1), &name).await.unwrap();
    assert_eq!(keys.len(), MAX_KEYS);
    // Removing one makes room for another.
    fixture.store.delete_access_key(&id(1), &keys.first().unwrap().id).await.unwrap();
    let newest = key("user/a", later(100));
    fixture.store.create_access_key(&id(1), &newest, &secret("s")).await.unwrap();
    assert_eq!(fixture.store.list_access_keys(&id(1), &name).await.unwrap().last(), Some(&newest), "oldest first");
    assert!(matches!(fixture.store.create_access_key(&id(1), &key("user/b", NOW), &secret("s")).await, Err(StoreError::NotFound)));
    assert!(matches!(fixture.store.list_access_keys(&id(1), &"user/b".parse().unwrap()).await, Err(StoreError::NotFound)));
}

async fn keys_belong_to_their_account(fixture: Fixture) {
    let store = &fixture.store;
    for last in [1, 2] {
        store.create_account(&id(last), &account(last)).await.unwrap();
        store.create_principal(&id(last), &principal("user/a")).await.unwrap();
    }
    let key = key("user/a", NOW);
    store.create_access_key(&id(1), &key, &secret("secret")).await.unwrap();
    assert!(matches!(store.update_access_key(&id(2), &key.id, false).await, Err(StoreError::NotFound)));
    assert!(matches!(store.delete_access_key(&id(2), &key.id).await, Err(StoreError::NotFound)));
    assert!(matches!(store.create_access_key(&id(2), &key, &secret("other")).await, Err(StoreError::AlreadyExists)), "an id is unique everywhere");
    let credential = store.credential(&key.id).await.unwrap();
    assert_eq!((credential.account, credential.key), (id(1), key.clone()));
    assert!(credential.secret.digest.matches("secret"));
    assert!(!store.update_access_key(&id(1), &key.id, false).await.unwrap().active);
    assert!(!store.credential(&key.id).await.unwrap().key.active);
    assert!(store.update_access_key(&id(1), &key.id, true).await.unwrap().active);
    store.delete_access_key(&id(1), &key.id).await.unwrap();
    assert!(matches!(store.credential(&key.id).await, Err(StoreError::NotFound)));
}

async fn a_key_is_touched_forward_only(fixture: Fixture) {
    let store = &fixture.store;
    store.create_account(&id(1), &account(1)).await.unwrap();
    store.create_principal(&id(1), &principal("user/a")).await.unwrap();
    let key = key("user/a", NOW);
    store.create_access_key(&id(1), &key, &secret("secret")).await.unwrap();
    for (touch, expected) in [(later(10), later(10)), (later(5), later(10)), (later(20), later(20))] {
        store.touch_access_key(&id(1), &key.id, touch).await.unwrap();
        assert_eq!(store.credential(&key.id).await.unwrap().key.last_used_time, Some(expected));
    }
    store.touch_access_key(&id(1), &AccessKeyId::random(), NOW).await.unwrap();
}

async fn policies_are_replaced_by_name_up_to_a_limit(fixture: Fixture) {
    let store = &fixture.store;
    let name: PrincipalName = "user/a".parse().unwrap();
    store.create_account(&id(1), &account(1)).await.unwrap();
    assert!(matches!(store.put_policy(&id(1), &name, &policy("p", ADMINISTRATOR)).await, Err(StoreError::NotFound)));
    assert!(matches!(store.list_policies(&id(1), &name).await, Err(StoreError::NotFound)));
    store.create_principal(&id(1), &principal("user/a")).await.unwrap();
    assert!(store.list_policies(&id(1), &name).await.unwrap().is_empty());
    let calls = (0..MAX_POLICIES + 3).map(|number| {
        let store = fixture.store.clone();
        tokio::spawn(async move { store.put_policy(&id(1), &"user/a".parse().unwrap(), &policy(&format!("p{number:02}"), ADMINISTRATOR)).await })
    });
    let outcomes: Vec<_> = futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), MAX_POLICIES);
    let first = store.list_policies(&id(1), &name).await.unwrap().into_iter().next().unwrap();
    let replaced = Policy { update_time: later(1), ..policy(first.name.as_str(), "AmazonDetectiveFullAccess") };
    store.put_policy(&id(1), &name, &replaced).await.unwrap();
    let listed = store.list_policies(&id(1), &name).await.unwrap();
    assert_eq!((listed.len(), listed.first()), (MAX_POLICIES, Some(&replaced)));
    store.delete_policy(&id(1), &name, &replaced.name).await.unwrap();
    assert!(matches!(store.delete_policy(&id(1), &name, &replaced.name).await, Err(StoreError::NotFound)));
    let graph = store.create_graph(&Graph::new("us-east-1", &id(1), NOW).unwrap(), &Tags::new(), CORE).await.unwrap();
    let authorization = store.authorization(&id(1), &name).await.unwrap();
    assert_eq!((authorization.policies.len(), authorization.graphs), (MAX_POLICIES - 1, vec![(graph.arn, Tags::new())]));
    assert!(matches!(store.authorization(&id(2), &name).await, Err(StoreError::NotFound)));
}

async fn deleting_a_principal_takes_its_keys_and_policies(fixture: Fixture) {
    let store = &fixture.store;
    let name: PrincipalName = "user/a".parse().unwrap();
    store.create_account(&id(1), &account(1)).await.unwrap();
    store.create_principal(&id(1), &principal("user/a")).await.unwrap();
    let key = key("user/a", NOW);
    store.create_access_key(&id(1), &key, &secret("secret")).await.unwrap();
    store.put_policy(&id(1), &name, &policy("p", ADMINISTRATOR)).await.unwrap();
    store.delete_principal(&id(1), &name).await.unwrap();
    assert!(matches!(store.credential(&key.id).await, Err(StoreError::NotFound)));
    store.create_principal(&id(1), &principal("user/a")).await.unwrap();
    assert!(store.list_policies(&id(1), &name).await.unwrap().is_empty(), "a new principal of the same name starts with nothing");
}

fn first_account() -> FirstAccount {
    FirstAccount { account: account(1), graph: Graph::new("us-east-1", &id(1), NOW).unwrap(), packages: vec![Package::DetectiveCore] }
}

fn administrator() -> FirstAdministrator {
    FirstAdministrator {
        principal: principal("user/administrator"),
        policy: policy(ADMINISTRATOR, ADMINISTRATOR),
        key: key("user/administrator", NOW),
        secret: secret("secret"),
    }
}

async fn a_registered_account_gets_one_administrator(fixture: Fixture) {
    let store = &fixture.store;
    store.create_account(&id(1), &account(2)).await.unwrap();
    for (registrar, account) in [(2, 2), (1, 3)] {
        let outcome = store.create_administrator(&id(registrar), &id(account), &administrator()).await;
        assert!(matches!(outcome, Err(StoreError::NotFound)), "{outcome:?}");
    }
    let calls = (0..6).map(|_| {
        let store = fixture.store.clone();
        tokio::spawn(async move { store.create_administrator(&id(1), &id(2), &administrator()).await })
    });
    let outcomes: Vec<_> = futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(()) | Err(StoreError::AlreadyExists))), "{outcomes:?}");
    let name: PrincipalName = "user/administrator".parse().unwrap();
    assert_eq!(store.list_access_keys(&id(2), &name).await.unwrap().len(), 1);
    assert_eq!(store.list_policies(&id(2), &name).await.unwrap(), [policy(ADMINISTRATOR, ADMINISTRATOR)]);
    assert!(store.list_graphs(&id(2), None, 10).await.unwrap().is_empty());
}

async fn concurrent_bootstraps_give_one_administrator(fixture: Fixture) {
    // Registered before, by another account and without a principal: that is no hindrance.
    fixture.store.create_account(&id(2), &account(1)).await.unwrap();
    let calls = (0..6).map(|_| {
        let store = fixture.store.clone();
        tokio::spawn(async move { store.bootstrap(&first_account(), &administrator()).await.unwrap() })
    });
    let outcomes: Vec<_> = futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|done| **done).count(), 1);
    let name: PrincipalName = "user/administrator".parse().unwrap();
    assert_eq!(fixture.store.list_access_keys(&id(1), &name).await.unwrap().len(), 1);
    assert_eq!(fixture.store.list_graphs(&id(1), None, 10).await.unwrap().len(), 1);
    assert_eq!(fixture.store.list_policies(&id(1), &name).await.unwrap(), [policy(ADMINISTRATOR, ADMINISTRATOR)]);
    assert!(!fixture.store.bootstrap(&first_account(), &administrator()).await.unwrap());
}

async fn migration_is_repeatable_and_checked(fixture: Fixture) {
    graph_of(&fixture, 1).await;
    SqlStore::migrate(&fixture.config).await.unwrap();
    assert_eq!(fixture.store.list_graphs(&id(1), None, 10).await.unwrap().len(), 1, "nothing is lost");
    fixture.store.ready().await.unwrap();
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(fixture.config.url.as_str()).await.unwrap();
    let newest = i64::try_from(super::sql::SCHEMA_VERSION).unwrap();
    sqlx::query("DELETE FROM membership_migrations WHERE version = $1").bind(newest).execute(&mut connection).await.unwrap();
    let outcome = fixture.store.ready().await;
    assert!(matches!(outcome, Err(StoreError::SchemaVersion { expected, found }) if (expected, found) == (newest, newest - 1)), "{outcome:?}");
    connection.execute("DROP TABLE membership_migrations").await.unwrap();
    assert!(matches!(SqlStore::open(&fixture.config).await, Err(StoreError::SchemaVersion { found: 0, .. })));
}

async fn sealed_secrets_are_exchanged_once(fixture: Fixture) {
    let store = &fixture.store;
    let sealed = |key_id: &str, text: &str| Sealed { key_id: key_id.to_owned(), ciphertext: text.to_owned() };
    store.create_account(&id(1), &account(1)).await.unwrap();
    for name in ["user/a", "user/b", "user/c"] {
        store.create_principal(&id(1), &principal(name)).await.unwrap();
    }
    let keys = ["user/a", "user/b", "user/c"].map(|name| key(name, NOW));
    let secrets = [Some(sealed("old", "1")), Some(sealed("new", "2")), None];
    for (key, sealed) in keys.iter().zip(&secrets) {
        let secret = StoredSecret { digest: SecretDigest::of("s"), sealed: sealed.clone() };
        store.create_access_key(&id(1), key, &secret).await.unwrap();
        assert_eq!(store.credential(&key.id).await.unwrap().secret.sealed, *sealed);
    }
    let first = &keys.first().unwrap().id;
    assert_eq!(store.sealed_under_others("new", None, 10).await.unwrap(), [(first.clone(), sealed("old", "1"))]);
    assert!(store.sealed_under_others("new", Some(first), 10).await.unwrap().is_empty());
    store.reseal(first, &sealed("old", "1"), &sealed("new", "3")).await.unwrap();
    store.reseal(first, &sealed("old", "1"), &sealed("new", "4")).await.unwrap();
    assert_eq!(store.credential(first).await.unwrap().secret.sealed, Some(sealed("new", "3")), "the second came too late");
    assert!(store.sealed_under_others("new", None, 10).await.unwrap().is_empty());
}

async fn migration_keeps_members_and_what_their_graphs_take(fixture: Fixture) {
    // A database of its own beside the fixture's, as the version before left it.
    let beside = fixture.beside().await;
    SqlStore::migrate_partly(&beside.config, 6).await;
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(beside.config.url.as_str()).await.unwrap();
    let graph = Graph::new("us-east-1", &id(1), NOW).unwrap();
    for last in [1, 2, 3] {
        let text = format!("INSERT INTO accounts VALUES ('{}', '{}', 'n', 'a{last}@example.com', 5)", id(last), id(1));
        connection.execute(sqlx::AssertSqlSafe(text)).await.unwrap();
    }
    let text = format!("INSERT INTO graphs VALUES ('{}', 'us-east-1', '{}', 7, 0)", id(1), graph.arn);
    connection.execute(sqlx::AssertSqlSafe(text)).await.unwrap();
    for (last, status) in [(2, "ENABLED"), (3, "VERIFICATION_FAILED")] {
        let text = format!("INSERT INTO members VALUES ('{}', '{}', 'a{last}@example.com', '{status}', 8, 9)", graph.arn, id(last));
        connection.execute(sqlx::AssertSqlSafe(text)).await.unwrap();
    }
    SqlStore::migrate(&beside.config).await.unwrap();
    let store = SqlStore::open(&beside.config).await.unwrap();
    let members = store.list_members(&graph.arn, None, 10).await.unwrap();
    let statuses: Vec<_> = members.iter().map(|member| (member.account.clone(), member.standing.status.as_str(), member.update_time)).collect();
    assert_eq!(statuses, [(id(2), "ENABLED", Timestamp(9)), (id(3), "VERIFICATION_FAILED", Timestamp(9))]);
    let accounts = store.graph_accounts(&graph.arn).await.unwrap().unwrap();
    assert_eq!(accounts.accounts, [(id(1), true), (id(2), true), (id(3), false)]);
    assert_eq!(accounts.packages, Package::ALL, "what was taken before is still taken");
    let states: Vec<_> = store.package_changes(&graph.arn, &id(3)).await.unwrap().iter().map(|change| change.state.as_str()).collect();
    assert_eq!(states, ["DISABLED"; 3]);
    store.close().await;
}

#[tokio::test]
async fn an_absent_sqlite_file_is_not_created_by_opening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("membership.db");
    let url = Url::parse(&format!("sqlite://{}", path.display())).unwrap();
    assert!(matches!(SqlStore::open(&config::Store::new(url)).await, Err(StoreError::Unavailable(_))));
    assert!(!path.exists());
}

#[tokio::test]
async fn an_unreachable_server_is_unavailable() {
    let url = Url::parse("postgres://postgres@127.0.0.1:1/postgres").unwrap();
    assert!(matches!(SqlStore::open(&config::Store::new(url)).await, Err(StoreError::Unavailable(_))));
}
