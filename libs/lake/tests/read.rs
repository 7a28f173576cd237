//! Look-ups against the query engine on the same lake, and what they read for it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test, a panic is the message")]

use std::{collections::BTreeSet, path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray, new_null_array},
    buffer::OffsetBuffer,
    datatypes::{DataType, Field, Int64Type, TimestampMicrosecondType},
};
use async_trait::async_trait;
use futures::StreamExt as _;
use gumshoe_lake::{
    Alone, BatchCounts, DataFile, Fence, GraphLake, Group, Lake, Layout, Lookup, Next, ParamValues, ScalarValue, Table, Touched, encode, table::entity_fields,
};
use gumshoe_model::{
    EntityKey, EntityType, Event, RecordKind, TimeWindow, Timestamp,
    time::{MICROS_PER_DAY, MICROS_PER_HOUR},
};
use gumshoe_records::events::EventsWriter;
use proptest::prelude::*;

const DAY: i64 = 20_000;
/// ARNs that differ late: bounds of pages must not be cut before.
const LONG: &str = "arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_AdministratorAccess_0123456789abcdef/";

struct Fixture {
    folder: tempfile::TempDir,
    graph: Arc<GraphLake>,
    batches: usize,
}

impl Fixture {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let graph = open(folder.path()).await;
        Self { folder, graph, batches: 0 }
    }

    /// The graph as a process sees it that has just started.
    async fn again(&self) -> Arc<GraphLake> {
        open(self.folder.path()).await
    }

    async fn commit(&mut self, files: Vec<DataFile>) {
        self.batches += 1;
        let batches = vec![(format!("b{}", self.batches), BatchCounts::default())];
        self.graph.commit(&self.graph.stage(Group { batches, files }).await.unwrap(), &Alone).await.unwrap();
    }

    async fn compact(&self) {
        let later = Timestamp(chrono::Utc::now().timestamp_micros() + 2 * MICROS_PER_DAY);
        self.graph.compact(Layout { target_file_bytes: 128 << 20, min_files: 2 }, later, &Held).await.unwrap();
    }
}

async fn open(folder: &Path) -> Arc<GraphLake> {
    let config = serde_json::json!({ "url": format!("file://{}", folder.display()) });
    let lake = Lake::open(&serde_json::from_value(config).unwrap()).await.unwrap();
    lake.graph(&"arn:aws:detective:us-east-1:111122223333:graph:0123456789abcdef0123456789abcdef".parse().unwrap()).await.unwrap()
}

struct Held;

#[async_trait]
impl Fence for Held {
    async fn holds(&self) -> bool {
        true
    }
}

fn texts<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn times(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
}

/// Rows of a table: the given columns, empty text and zeros in the others.
fn rows(table: Table, count: usize, given: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let schema = table.schema();
    let columns = schema.fields().iter().map(|field| match (given.iter().find(|(name, _)| *name == field.name()), field.data_type()) {
        (Some((_, column)), _) => Arc::clone(column),
        (None, DataType::Utf8) => texts(std::iter::repeat_n("", count)),
        (None, DataType::Int64) => Arc::new(Int64Array::from(vec![0; count])),
        (None, DataType::Int32) => Arc::new(Int32Array::from(vec![-1; count])),
        (None, other) => new_null_array(other, count),
    });
    let columns: Vec<ArrayRef> = columns.collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

/// An edge: entity, peer, hour since the epoch, and a count that tells it from others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    entity: (String, String),
    peer: (String, String),
    hour: i64,
    count: i64,
}

const COLUMNS: [&str; 6] = ["hour", "entity_type", "entity_id", "peer_type", "peer_id", "count"];

/// One file a day, in the table's order.
fn edges_files(mut edges: Vec<Edge>) -> Vec<DataFile> {
    edges.sort_unstable();
    let days: BTreeSet<i64> = edges.iter().map(|edge| edge.hour.div_euclid(24)).collect();
    let file = |day: &i64| {
        let edges: Vec<&Edge> = edges.iter().filter(|edge| edge.hour.div_euclid(24) == *day).collect();
        let given = vec![
            ("hour", times(edges.iter().map(|edge| edge.hour * MICROS_PER_HOUR))),
            ("entity_type", texts(edges.iter().map(|edge| &edge.entity.0))),
            ("entity_id", texts(edges.iter().map(|edge| &edge.entity.1))),
            ("peer_type", texts(edges.iter().map(|edge| &edge.peer.0))),
            ("peer_id", texts(edges.iter().map(|edge| &edge.peer.1))),
            ("count", Arc::new(Int64Array::from_iter_values(edges.iter().map(|edge| edge.count))) as ArrayRef),
        ];
        encode(Table::Edges, Some(*day), &rows(Table::Edges, edges.len(), given)).unwrap()
    };
    days.iter().map(file).collect()
}

fn edges_of(rows: &RecordBatch) -> Vec<Edge> {
    let text = |name: &str, row: usize| rows.column_by_name(name).unwrap().as_string::<i32>().value(row).to_owned();
    let edge = |row| Edge {
        entity: (text("entity_type", row), text("entity_id", row)),
        peer: (text("peer_type", row), text("peer_id", row)),
        hour: rows.column_by_name("hour").unwrap().as_primitive::<TimestampMicrosecondType>().value(row) / MICROS_PER_HOUR,
        count: rows.column_by_name("count").unwrap().as_primitive::<Int64Type>().value(row),
    };
    (0..rows.num_rows()).map(edge).collect()
}

/// The rows of a look-up in order, and what was read.
async fn look_up(graph: &GraphLake, lookup: Lookup<'_>) -> (Vec<Edge>, Touched) {
    let mut found = Vec::new();
    let touched = graph.look_up(lookup, |rows| {
        let rows = edges_of(rows);
        assert!(!rows.is_empty());
        assert!(rows.is_sorted_by_key(|edge| (edge.entity.clone(), edge.peer.clone())), "not in the table's order");
        found.extend(rows);
        Next::Rows
    });
    let touched = touched.await.unwrap();
    found.sort_unstable();
    (found, touched)
}

fn of<'a>(entities: &'a [EntityKey], hours: Option<(i64, i64)>) -> Lookup<'a> {
    let window = |(from, to): (i64, i64)| TimeWindow::new(Timestamp(from * MICROS_PER_HOUR), Timestamp(to * MICROS_PER_HOUR)).unwrap();
    Lookup { table: Table::Edges, entities, hours: hours.map(window), since: None, columns: &COLUMNS, first_rows: 2_048 }
}

async fn sql(graph: &GraphLake, condition: &str) -> Vec<Edge> {
    let columns = COLUMNS.join(", ");
    let mut stream = graph.sql(&format!("SELECT {columns} FROM edges WHERE {condition}"), ParamValues::List(Vec::new())).await.unwrap();
    let mut found = Vec::new();
    while let Some(rows) = stream.next().await {
        found.extend(edges_of(&rows.unwrap()));
    }
    found.sort_unstable();
    found
}

async fn number(graph: &GraphLake, sql: &str, values: Vec<(&str, ScalarValue)>) -> i64 {
    let mut stream = graph.sql(sql, values).await.unwrap();
    stream.next().await.unwrap().unwrap().column(0).as_primitive::<Int64Type>().value(0)
}

fn key(kind: EntityType, id: impl Into<String>) -> EntityKey {
    EntityKey::new(kind, id).unwrap()
}

const TYPES: [EntityType; 4] = [EntityType::Account, EntityType::Role, EntityType::RoleSession, EntityType::User];

fn some_id() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => (0..40_u32).prop_map(|number| format!("{LONG}{number:04}")),
        2 => (0..40_u32).prop_map(|number| format!("id-{number}")),
        1 => Just("\u{10ffff}\u{10ffff}".repeat(40)),
    ]
}

fn some_edges() -> impl Strategy<Value = Vec<Edge>> {
    let end = || (0..TYPES.len(), some_id()).prop_map(|(kind, id)| (TYPES[kind].to_string(), id));
    let edge = (end(), end(), 0..96_i64, 1..4_i64, prop_oneof![8 => Just(1_usize), 1 => 2_000..5_000_usize]);
    let edge = edge.prop_map(|(entity, (peer_type, peer), hour, count, repeat)| {
        let peer = move |number| if repeat == 1 { peer.clone() } else { format!("{peer}/{number:05}") };
        (0..repeat).map(|number| Edge { entity: entity.clone(), peer: (peer_type.clone(), peer(number)), hour: DAY * 24 + hour, count }).collect::<Vec<_>>()
    });
    prop::collection::vec(edge, 1..60).prop_map(|edges| edges.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Files of any number and age: what is looked up is what the query engine finds.
    #[test]
    fn agrees_with_the_query_engine(
        commits in prop::collection::vec(some_edges(), 1..4),
        compacted in any::<bool>(),
        asked in prop::collection::vec((0..TYPES.len(), some_id()), 1..5),
        (from, length) in (0..96_i64, 1..96_i64),
        since in (0..TYPES.len(), some_id()),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut fixture = Fixture::start().await;
            for edges in commits {
                fixture.commit(edges_files(edges)).await;
            }
            if compacted {
                fixture.compact().await;
            }
            let graph = &fixture.graph;
            let entities: Vec<EntityKey> = asked.into_iter().map(|(kind, id)| key(TYPES[kind], id)).collect();
            let named = |entity: &EntityKey| format!("(entity_type = '{}' AND entity_id = '{}')", entity.kind, entity.id);
            let all = format!("({})", entities.iter().map(named).collect::<Vec<_>>().join(" OR "));
            assert_eq!(look_up(graph, of(&entities, None)).await.0, sql(graph, &all).await);
            let (from, to) = (DAY * 24 + from, DAY * 24 + from + length);
            let hours = format!("hour >= to_timestamp_micros({}) AND hour < to_timestamp_micros({})", from * MICROS_PER_HOUR, to * MICROS_PER_HOUR);
            assert_eq!(look_up(graph, of(&entities, Some((from, to)))).await.0, sql(graph, &format!("{all} AND {hours}")).await);
            let one = &entities[..1];
            let (kind, id) = (TYPES[since.0].to_string(), since.1);
            let after = format!("(peer_type > '{kind}' OR (peer_type = '{kind}' AND peer_id >= '{id}'))");
            let (mut found, _) = look_up(graph, Lookup { since: Some((kind.clone(), id.clone())), ..of(one, None) }).await;
            found.retain(|edge| edge.peer >= (kind.clone(), id.clone()));
            assert_eq!(found, sql(graph, &format!("{} AND {after}", named(&one[0]))).await);
        });
    }

    #[test]
    fn days_of_accounts_agree_with_the_query_engine(
        commits in prop::collection::vec(prop::collection::vec((0..5_u32, 0..240_i64), 1..12), 1..5),
        (from, length) in (0..240_i64, 1..240_i64),
        compacted in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut fixture = Fixture::start().await;
            for (number, records) in commits.into_iter().enumerate() {
                fixture.commit(events_files(&format!("b{number}"), &records)).await;
            }
            if compacted {
                fixture.compact().await;
            }
            let start = DAY * MICROS_PER_DAY;
            let window = TimeWindow::new(Timestamp(start + from * MICROS_PER_HOUR), Timestamp(start + (from + length) * MICROS_PER_HOUR)).unwrap();
            for account in ["", "0", "1", "4", "9"] {
                let condition = if account.is_empty() { String::new() } else { format!(" AND account = '{account}'") };
                let sql = format!(
                    "SELECT count(DISTINCT date) FROM events WHERE time >= to_timestamp_micros({}) AND time < to_timestamp_micros({}){condition}",
                    window.start().0, window.end().0
                );
                let expected = number(&fixture.graph, &sql, Vec::new()).await;
                for _ in 0..2 {
                    assert_eq!(i64::from(fixture.graph.days_with_events(account, window).await.unwrap()), expected, "{account}");
                }
            }
        });
    }
}

/// Records of accounts at hours.
fn events_files(batch: &str, records: &[(u32, i64)]) -> Vec<DataFile> {
    let days: BTreeSet<i64> = records.iter().map(|(_, hour)| hour.div_euclid(24)).collect();
    let file = |day: &i64| {
        let mut writer = EventsWriter::new(batch);
        for (number, (account, hour)) in records.iter().enumerate().filter(|(_, (_, hour))| hour.div_euclid(24) == *day) {
            let mut event = Event::new(RecordKind::CloudTrail, Timestamp(DAY * MICROS_PER_DAY + hour * MICROS_PER_HOUR), "{}");
            event.account = account.to_string().into();
            event.offset = number as u64;
            writer.push(&event, "s3://b/o").unwrap();
        }
        DataFile::written(Table::Events, Some(DAY + day), writer.finish(batch).unwrap()).unwrap()
    };
    days.iter().map(file).collect()
}

fn edge(entity: (&str, String), peer: String, hour: i64) -> Edge {
    Edge { entity: (entity.0.to_owned(), entity.1), peer: ("ip_address".to_owned(), peer), hour, count: 1 }
}

/// A day of 30,000 edges of 10,000 users, and some of one of every third day.
fn day_of_many(day: i64) -> Vec<Edge> {
    let hour = day * 24;
    let many = (0..30_000).map(|number| edge(("user", format!("{LONG}{:05}", number / 3)), format!("10.0.0.{}", number % 3), hour + number % 24));
    let rare = (0..if day % 3 == 0 { 5 } else { 0 }).map(|number| edge(("user", format!("{LONG}rare")), format!("10.1.0.{number}"), hour + number));
    many.chain(rare).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_the_files_and_pages_that_it_must_and_no_others() {
    let mut fixture = Fixture::start().await;
    let days = DAY..DAY + 12;
    for day in days.clone() {
        fixture.commit(edges_files(day_of_many(day))).await;
    }
    let stored: u64 = files_under(fixture.folder.path()).iter().map(|path| std::fs::metadata(path).unwrap().len()).sum();
    let rare = [key(EntityType::User, format!("{LONG}rare"))];
    let graph = fixture.again().await;
    let (found, cold) = look_up(&graph, of(&rare, None)).await;
    assert_eq!(found.len(), 20);
    // Filters of row groups rule out the files of two days in three.
    assert_eq!((cold.files, cold.files_read), (12, 4));
    let columns = COLUMNS.len() as u64;
    assert!((4 * columns..=8 * columns).contains(&cold.pages), "a page or two of each column: {cold:?}");
    let (again, warm) = look_up(&graph, of(&rare, None)).await;
    assert_eq!(again, found);
    assert_eq!((warm.files, warm.files_read, warm.pages), (cold.files, cold.files_read, cold.pages));
    assert!(warm.bytes * 5 < cold.bytes && warm.bytes * 20 < stored, "footers are known now: {warm:?} after {cold:?} of {stored} bytes");
    // Of a day, nothing is read of the others.
    let (found, day) = look_up(&graph, of(&rare, Some((DAY * 24, DAY * 24 + 24)))).await;
    assert_eq!((found.len(), day.files), (if DAY % 3 == 0 { 5 } else { 0 }, 1));
    // The log alone says that nobody has such a type, or a name past all others.
    for nobody in [key(EntityType::Account, format!("{LONG}rare")), key(EntityType::User, "zzz")] {
        assert_eq!(look_up(&graph, of(&[nobody], None)).await, (Vec::new(), Touched::default()));
    }
    // After a merge of all days the layout is the same.
    fixture.compact().await;
    let graph = fixture.again().await;
    let (found, merged) = look_up(&graph, of(&rare, None)).await;
    assert_eq!((found.len(), merged.files_read, merged.pages), (20, cold.files_read, cold.pages));
}

fn files_under(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_under(&path)) } else { found.push(path) }
    }
    found.retain(|path| path.extension().is_some_and(|extension| extension == "parquet"));
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_is_read_from_where_its_reader_wants_to_where_it_stops() {
    let mut fixture = Fixture::start().await;
    let peer = |number: i64| format!("{}.{}.{}", 100 + number / 65_536, 100 + number / 256 % 256, 100 + number % 256);
    let others = |user: &'static str| (0..3_000).map(move |number| edge(("user", user.to_owned()), format!("1.1.1.{number}"), DAY * 24));
    let hub = (0..200_000).map(|number| edge(("user", "hub".to_owned()), peer(number), DAY * 24));
    fixture.commit(edges_files(others("a").chain(hub).chain(others("z")).collect())).await;
    let hub = [key(EntityType::User, "hub")];
    let mut all: Vec<String> = (0..200_000).map(peer).collect();
    all.sort_unstable();
    for place in [0, 1, 77_777, 150_000, 199_950] {
        let since = Some(("ip_address".to_owned(), all[place].clone()));
        let mut found = Vec::new();
        let lookup = Lookup { since: since.clone().filter(|_| place > 0), ..of(&hub, None) };
        let touched = fixture.graph.look_up(lookup, |rows| {
            found.extend(edges_of(rows).into_iter().map(|edge| edge.peer.1).filter(|peer| *peer >= all[place]));
            if found.len() < 100 { Next::Rows } else { Next::File }
        });
        let touched = touched.await.unwrap();
        let count = found.len().min(100);
        assert_eq!(found[..count], all[place..(place + 100).min(all.len())], "{place}");
        assert!(touched.pages <= 3 * COLUMNS.len() as u64, "{place}: {touched:?}");
    }
    let mut rows = 0;
    let whole = fixture.graph.look_up(of(&hub, None), |batch| {
        assert!(batch.num_rows() <= 16 * 1024 + 8 * 1024, "more than a few pages at a time");
        rows += batch.num_rows();
        Next::Rows
    });
    assert!(whole.await.unwrap().pages > 90 * COLUMNS.len() as u64);
    assert_eq!(rows, 200_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_are_found_among_many_files() {
    let mut fixture = Fixture::start().await;
    for commit in 0..5 {
        let ids: Vec<String> = (0..4_000).map(|number| format!("{LONG}{:06}", number * 5 + commit)).collect();
        let given = vec![
            ("entity_type", texts(ids.iter().map(|_| "user"))),
            ("entity_id", texts(&ids)),
            ("name", texts(ids.iter().map(|id| format!("name of {id}")))),
            ("first_time", times(ids.iter().map(|_| commit))),
            ("last_time", times(ids.iter().map(|_| commit))),
        ];
        fixture.commit(vec![encode(Table::Entities, None, &rows(Table::Entities, ids.len(), given)).unwrap()]).await;
    }
    let asked: Vec<EntityKey> = [7, 1_000, 19_999, 20_000].map(|number| key(EntityType::User, format!("{LONG}{number:06}"))).to_vec();
    for merged in [false, true] {
        if merged {
            fixture.compact().await;
        }
        let mut found = Vec::new();
        let lookup = Lookup { table: Table::Entities, entities: &asked, hours: None, since: None, columns: &["entity_id", "name"], first_rows: 2_048 };
        let touched = fixture.graph.look_up(lookup, |rows| {
            let (ids, names) = (rows.column(0).as_string::<i32>(), rows.column(1).as_string::<i32>());
            found.extend((0..rows.num_rows()).map(|row| (ids.value(row).to_owned(), names.value(row).to_owned())));
            Next::Rows
        });
        let touched = touched.await.unwrap();
        found.sort_unstable();
        let expected: Vec<_> = asked[..3].iter().map(|entity| (entity.id.clone(), format!("name of {}", entity.id))).collect();
        assert_eq!(found, expected);
        assert_eq!(touched.files_read, if merged { 1 } else { 3 }, "{touched:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_are_ruled_out_for_those_that_none_names() {
    let mut fixture = Fixture::start().await;
    let entity = |number: usize| key(EntityType::User, format!("{LONG}{number}"));
    assert!(!fixture.graph.may_have_findings(&entity(0)).await.unwrap(), "there are none");
    for commit in 0..3 {
        let ids: Vec<String> = (0..20).map(|number| entity(commit * 20 + number).id).collect();
        let fields = entity_fields();
        let items = StructArray::new(fields.clone(), vec![texts(ids.iter().map(|_| "user")), texts(&ids)], None);
        let element = Arc::new(Field::new("element", DataType::Struct(fields), true));
        let lists: ArrayRef = Arc::new(ListArray::new(element, OffsetBuffer::from_lengths([10, 10]), Arc::new(items), None));
        fixture.commit(vec![encode(Table::Findings, None, &rows(Table::Findings, 2, vec![("entities", lists)])).unwrap()]).await;
    }
    for merged in [false, true] {
        if merged {
            fixture.compact().await;
        }
        for number in 0..60 {
            assert!(fixture.graph.may_have_findings(&entity(number)).await.unwrap(), "{number}");
        }
        let mut wrong = 0;
        for number in 60..160 {
            wrong += usize::from(fixture.graph.may_have_findings(&entity(number)).await.unwrap());
        }
        assert!(wrong < 20, "{wrong} of 100 are not ruled out");
    }
}
