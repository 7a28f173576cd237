//! Maintenance seen from outside: what is merged, removed and deleted, and that answers stay what they are.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test, a panic is the message")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array},
    datatypes::{DataType, TimestampMicrosecondType},
    util::display::{ArrayFormatter, FormatOptions},
};
use async_trait::async_trait;
use futures::StreamExt as _;
use gumshoe_lake::{Alone, BatchCounts, DataFile, Fence, GraphLake, Group, Lake, LakeError, Layout, ParamValues, Progress, Table, encode};
use gumshoe_model::{
    GraphArn, Timestamp,
    time::{MICROS_PER_DAY, MICROS_PER_HOUR},
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;

const LAYOUT: Layout = Layout { target_file_bytes: 128 << 20, min_files: 4 };
const DAY: i64 = 20_000;

/// A lake in a folder that is gone with it.
struct Fixture {
    folder: tempfile::TempDir,
    arn: GraphArn,
    graph: Arc<GraphLake>,
}

impl Fixture {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let arn: GraphArn = "arn:aws:detective:us-east-1:111122223333:graph:0123456789abcdef0123456789abcdef".parse().unwrap();
        let graph = open(folder.path()).await.graph(&arn).await.unwrap();
        Self { folder, arn, graph }
    }

    /// The graph as another process sees it, or this one after a restart.
    async fn again(&self) -> Arc<GraphLake> {
        open(self.folder.path()).await.graph(&self.arn).await.unwrap()
    }

    fn table_folder(&self, table: Table) -> PathBuf {
        self.folder.path().join(self.arn.id()).join(table.name())
    }

    /// The files that a table has now, by another reader's eyes.
    async fn files(&self, table: Table) -> Vec<String> {
        let url = url::Url::from_directory_path(self.table_folder(table)).unwrap();
        let delta = deltalake::DeltaTable::try_from_url(url).await.unwrap();
        delta.get_file_uris().unwrap().collect()
    }

    /// Rows of the files that a table has now, in the order of the files' names.
    async fn read(&self, table: Table) -> Vec<RecordBatch> {
        let mut files = self.files(table).await;
        files.sort();
        let mut rows = Vec::new();
        for file in files {
            let path = url::Url::parse(&file).map_or_else(|_| PathBuf::from(&file), |url| url.to_file_path().unwrap());
            let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap().build().unwrap();
            rows.extend(reader.map(Result::unwrap));
        }
        rows
    }

    /// The data files that lie in a table's folder.
    fn stored(&self, table: Table) -> Vec<PathBuf> {
        let mut found = Vec::new();
        parquet_files(&self.table_folder(table), &mut found);
        found
    }
}

fn parquet_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("_delta_log") {
                parquet_files(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.push(path);
        }
    }
}

async fn open(folder: &Path) -> Lake {
    let config = serde_json::json!({ "url": format!("file://{}", folder.display()) });
    Lake::open(&serde_json::from_value(config).unwrap()).await.unwrap()
}

fn now() -> Timestamp {
    Timestamp(chrono::Utc::now().timestamp_micros())
}

/// Two days from now: whatever was written is old, and every day is at rest.
fn later() -> Timestamp {
    Timestamp(now().0 + 2 * MICROS_PER_DAY)
}

/// A lease that is held, or is not.
struct Lease(bool);

#[async_trait]
impl Fence for Lease {
    async fn holds(&self) -> bool {
        self.0
    }
}

const HELD: Lease = Lease(true);
const LOST: Lease = Lease(false);

/// Rows of a table: the given columns, empty text and nulls in the others.
fn rows(table: Table, count: usize, given: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let mut given: BTreeMap<&str, ArrayRef> = given.into_iter().collect();
    let schema = table.schema();
    let columns = schema.fields().iter().map(|field| match (given.remove(field.name().as_str()), field.data_type()) {
        (Some(column), _) => column,
        (None, DataType::Utf8) => texts(std::iter::repeat_n(String::new(), count)),
        (None, other) => new_null_array(other, count),
    });
    let columns: Vec<ArrayRef> = columns.collect();
    assert!(given.is_empty(), "{given:?}");
    RecordBatch::try_new(schema, columns).unwrap()
}

fn texts(values: impl IntoIterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn numbers(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn times(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    entity: u8,
    peer: u8,
    hour: u8,
    operation: u16,
    count: i64,
    bytes: i64,
    second: i64,
}

fn edge() -> impl Strategy<Value = Edge> {
    (0..4_u8, 0..3_u8, 0..3_u8, 0..3_u16, 1..100_i64, 0..1_000_000_i64, 0..3_600_i64).prop_map(|(entity, peer, hour, operation, count, bytes, second)| Edge {
        entity,
        peer,
        hour,
        operation,
        count,
        bytes,
        second,
    })
}

/// A file of edges as a commit writes it: sorted by entity and peer only.
fn edges(day: i64, edges: &[Edge]) -> DataFile {
    let mut edges = edges.to_vec();
    edges.sort_by_key(|edge| (edge.entity, edge.peer));
    let hour = |edge: &Edge| day * MICROS_PER_DAY + i64::from(edge.hour) * MICROS_PER_HOUR;
    let given = vec![
        ("hour", times(edges.iter().map(hour))),
        ("entity_type", texts(edges.iter().map(|_| "user".to_owned()))),
        ("entity_id", texts(edges.iter().map(|edge| format!("user-{}", edge.entity)))),
        ("side", texts(edges.iter().map(|_| "out".to_owned()))),
        ("peer_type", texts(edges.iter().map(|edge| if edge.peer == 0 { "aws_service" } else { "role" }.to_owned()))),
        ("peer_id", texts(edges.iter().map(|edge| format!("peer-{}", edge.peer)))),
        ("operation", texts(edges.iter().map(|edge| format!("op-{}", u16::MAX - edge.operation)))),
        ("asn", numbers(edges.iter().map(|_| 0))),
        ("count", numbers(edges.iter().map(|edge| edge.count))),
        ("errors", numbers(edges.iter().map(|edge| edge.count / 2))),
        ("bytes_in", numbers(edges.iter().map(|edge| edge.bytes))),
        ("bytes_out", numbers(edges.iter().map(|edge| edge.bytes * 3))),
        ("packets_in", numbers(edges.iter().map(|edge| edge.bytes / 7))),
        ("packets_out", numbers(edges.iter().map(|_| 0))),
        ("first_time", times(edges.iter().map(|edge| hour(edge) + edge.second * 1_000_000))),
        ("last_time", times(edges.iter().map(|edge| hour(edge) + edge.second * 1_000_001))),
    ];
    encode(Table::Edges, Some(day), &rows(Table::Edges, edges.len(), given)).unwrap()
}

/// Events with ids of their batch, latest first.
fn events(day: i64, batch: &str, count: usize) -> DataFile {
    let given = vec![
        ("event_id", texts((0..count).map(|number| format!("{batch}-{number}")))),
        ("kind", texts((0..count).map(|_| "cloudtrail".to_owned()))),
        ("time", times((0..count).map(|number| (day + 1) * MICROS_PER_DAY - 1_000_000 * (i64::try_from(number).unwrap() + 1)))),
        ("batch_id", texts((0..count).map(|_| batch.to_owned()))),
        ("raw", texts((0..count).map(|number| format!("{{\"{batch}\": {number}}}")))),
    ];
    encode(Table::Events, Some(day), &rows(Table::Events, count, given)).unwrap()
}

/// Entities `(id, name, first, last)`, with times in days.
fn entities(all: &[(&str, &str, i64, i64)]) -> DataFile {
    let mut all = all.to_vec();
    all.sort_unstable();
    let given = vec![
        ("entity_type", texts(all.iter().map(|_| "user".to_owned()))),
        ("entity_id", texts(all.iter().map(|(id, ..)| (*id).to_owned()))),
        ("name", texts(all.iter().map(|(_, name, ..)| (*name).to_owned()))),
        ("first_time", times(all.iter().map(|(.., first, _)| first * MICROS_PER_DAY))),
        ("last_time", times(all.iter().map(|(.., last)| last * MICROS_PER_DAY))),
    ];
    encode(Table::Entities, None, &rows(Table::Entities, all.len(), given)).unwrap()
}

/// Rows of a table whose only time is the given one, in days.
fn of_days(table: Table, column: &str, days: &[i64]) -> DataFile {
    encode(table, None, &rows(table, days.len(), vec![(column, times(days.iter().map(|day| day * MICROS_PER_DAY)))])).unwrap()
}

async fn commit(graph: &GraphLake, batch: &str, files: Vec<DataFile>) {
    let counts = BatchCounts { events: 1, ..BatchCounts::default() };
    let group = Group { batches: vec![(batch.to_owned(), counts)], files };
    graph.commit(&graph.stage(group).await.unwrap(), &Alone).await.unwrap();
}

/// The rows of a query as text.
async fn ask(graph: &GraphLake, sql: &str) -> Vec<String> {
    let mut rows = graph.sql(sql, ParamValues::List(Vec::new())).await.unwrap();
    let mut lines = Vec::new();
    while let Some(batch) = rows.next().await {
        let batch = batch.unwrap();
        let options = FormatOptions::default();
        let columns: Vec<_> = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        lines.extend((0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|")));
    }
    lines
}

async fn number(graph: &GraphLake, sql: &str) -> i64 {
    ask(graph, sql).await[0].parse().unwrap()
}

const KEY: &str = "hour, entity_type, entity_id, side, relation, peer_type, peer_id, operation, address, country, asn, user_agent, error, port, protocol";

async fn summed(graph: &GraphLake) -> Vec<String> {
    let sums = "sum(count), sum(errors), sum(bytes_in), sum(bytes_out), sum(packets_in), sum(packets_out), min(first_time), max(last_time)";
    ask(graph, &format!("SELECT {KEY}, {sums} FROM edges GROUP BY {KEY} ORDER BY {KEY}")).await
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// However edges come in groups, and whenever they are merged in between, they are the same rows in the end.
    #[test]
    fn edges_of_any_grouping_are_the_same_rows(groups in prop::collection::vec((prop::collection::vec(edge(), 1..60), any::<bool>()), 2..12)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let all: Vec<Edge> = groups.iter().flat_map(|(edges, _)| edges.clone()).collect();
            let one = Fixture::start().await;
            commit(&one.graph, "all", vec![edges(DAY, &all)]).await;
            let expected = summed(&one.graph).await;

            let many = Fixture::start().await;
            let layout = Layout { min_files: 2, ..LAYOUT };
            for (number, (group, compact)) in groups.iter().enumerate() {
                commit(&many.graph, &format!("b{number}"), vec![edges(DAY, group)]).await;
                if *compact {
                    many.graph.compact(layout, now(), &HELD).await.unwrap();
                    prop_assert_eq!(many.files(Table::Edges).await.len(), 1);
                }
            }
            prop_assert_eq!(&summed(&many.graph).await, &expected);
            many.graph.compact(layout, later(), &HELD).await.unwrap();
            prop_assert_eq!(&summed(&many.graph).await, &expected);
            prop_assert_eq!(number(&many.graph, "SELECT count(*) FROM edges").await, i64::try_from(expected.len()).unwrap(), "each key is one row");
            prop_assert_eq!(&summed(&*many.again().await).await, &expected);

            // The one file is in the order that readers count on.
            prop_assert_eq!(many.files(Table::Edges).await.len(), 1);
            let mut order = Vec::new();
            for batch in many.read(Table::Edges).await {
                let text = |name: &str, row: usize| batch.column_by_name(name).unwrap().as_string::<i32>().value(row).to_owned();
                order.extend((0..batch.num_rows()).map(|row| ["entity_type", "entity_id", "peer_type", "peer_id"].map(|name| text(name, row))));
            }
            prop_assert!(order.is_sorted());
            Ok(())
        })?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_do_not_add_up_stay_as_they_are_and_are_sorted_by_time() {
    let fixture = Fixture::start().await;
    let questions = ["SELECT * FROM events ORDER BY event_id", "SELECT * FROM findings ORDER BY update_time", "SELECT * FROM dead_letters ORDER BY time"];
    for round in 0..2 {
        for number in 0..4 {
            let batch = format!("b{round}{number}");
            let files = vec![events(DAY, &batch, 5_000), of_days(Table::Findings, "update_time", &[3, 1, 2]), of_days(Table::DeadLetters, "time", &[5, 4])];
            commit(&fixture.graph, &batch, files).await;
        }
        let mut before = Vec::new();
        for sql in questions {
            before.push(ask(&fixture.graph, sql).await);
        }
        assert_eq!(before[0].len(), 20_000 * (round + 1));
        // The second time, what was merged before is merged with what came since.
        let when = if round == 0 { now() } else { later() };
        assert_eq!(fixture.graph.compact(LAYOUT, when, &HELD).await.unwrap().merges, 4, "events, findings, dead letters and batches");
        for (sql, before) in questions.iter().zip(&before) {
            assert_eq!(&ask(&fixture.graph, sql).await, before, "{sql}");
            assert_eq!(&ask(&*fixture.again().await, sql).await, before, "{sql}");
        }
        let names = fixture.files(Table::Events).await;
        assert!(names.len() == 1 && names[0].contains("/run-"), "{names:?}");
        assert_eq!(fixture.graph.compact(LAYOUT, when, &HELD).await.unwrap().merges, 0);
    }
    for (table, column) in [(Table::Events, "time"), (Table::Findings, "update_time"), (Table::DeadLetters, "time")] {
        let mut times = Vec::new();
        for batch in fixture.read(table).await {
            times.extend(batch.column_by_name(column).unwrap().as_primitive::<TimestampMicrosecondType>().values().to_vec());
        }
        assert!(times.len() > 10 && times.is_sorted(), "{times:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_run_is_in_order_over_all_its_files() {
    const EDGES: u16 = 12_000;
    let fixture = Fixture::start().await;
    let layout = Layout { target_file_bytes: 30_000, ..LAYOUT };
    let all: Vec<Edge> = (0..EDGES)
        .map(|number| Edge {
            entity: u8::try_from(number % 4).unwrap(),
            peer: u8::try_from(number % 3).unwrap(),
            hour: 1,
            operation: number,
            count: 1,
            bytes: i64::from(number),
            second: 1,
        })
        .collect();
    for round in 1..=2 {
        // Each batch has a part of the edges; the second time, they are merged with the files of the first.
        for (number, part) in all.chunks(3_000).enumerate() {
            commit(&fixture.graph, &format!("b{round}{number}"), vec![edges(DAY, part)]).await;
        }
        fixture.graph.compact(layout, if round == 1 { now() } else { later() }, &HELD).await.unwrap();
        let names = fixture.files(Table::Edges).await;
        assert!(names.len() > 2 && names.iter().all(|name| name.contains("/run-")), "{names:?}");
        let mut order = Vec::new();
        for batch in fixture.read(Table::Edges).await {
            let text = |name: &str, row: usize| batch.column_by_name(name).unwrap().as_string::<i32>().value(row).to_owned();
            order.extend((0..batch.num_rows()).map(|row| ["entity_id", "peer_type", "peer_id"].map(|name| text(name, row))));
        }
        assert_eq!(order.len(), usize::from(EDGES));
        assert!(order.is_sorted());
        let sums = ask(&fixture.graph, "SELECT count(DISTINCT operation), min(count), max(count), sum(bytes_in) FROM edges").await;
        let bytes: i64 = (0..i64::from(EDGES)).sum();
        assert_eq!(sums, [format!("{EDGES}|{round}|{round}|{}", round * bytes)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merging_beside_a_writer_and_another_process_loses_and_doubles_nothing() {
    const BATCHES: i64 = 40;
    const EVENTS: usize = 20;
    let fixture = Fixture::start().await;
    let layout = Layout { min_files: 2, ..LAYOUT };
    let written = Arc::new(AtomicBool::new(false));
    let merging = [Arc::clone(&fixture.graph), fixture.again().await].map(|graph| {
        let written = Arc::clone(&written);
        tokio::spawn(async move {
            let (mut merges, mut superseded) = (0, 0);
            loop {
                let last = written.load(Ordering::SeqCst);
                graph.catch_up().await.unwrap();
                match graph.compact(layout, now(), &HELD).await {
                    Ok(done) => merges += done.merges,
                    Err(LakeError::Superseded) => superseded += 1,
                    Err(error) => panic!("{error:?}"),
                }
                if last {
                    return (merges, superseded);
                }
            }
        })
    });
    for number in 0..BATCHES {
        let batch = format!("b{number}");
        let day = DAY + number % 2;
        let edge = Edge { entity: 1, peer: 1, hour: 1, operation: 1, count: 1, bytes: number, second: number };
        let entity = format!("user-{}", number % 3);
        let files = vec![events(day, &batch, EVENTS), edges(day, &[edge]), entities(&[(&entity, "", DAY, DAY + number)])];
        commit(&fixture.graph, &batch, files).await;
    }
    written.store(true, Ordering::SeqCst);
    let mut merges = 0;
    for merger in merging {
        merges += merger.await.unwrap().0;
    }
    assert!(merges > 10, "{merges} merges");
    fixture.graph.catch_up().await.unwrap();
    // The last rounds may have been in each other's way.
    fixture.graph.compact(layout, now(), &HELD).await.unwrap();
    let again = fixture.again().await;
    for graph in [&fixture.graph, &again] {
        let events = BATCHES * i64::try_from(EVENTS).unwrap();
        assert_eq!(number(graph, "SELECT count(*) FROM events").await, events);
        assert_eq!(number(graph, "SELECT count(DISTINCT event_id) FROM events").await, events);
        assert_eq!(number(graph, "SELECT sum(count) FROM edges").await, BATCHES);
        assert_eq!(number(graph, "SELECT sum(bytes_in) FROM edges").await, (0..BATCHES).sum::<i64>());
        assert_eq!(number(graph, "SELECT count(*) FROM batches").await, BATCHES);
        assert_eq!(number(graph, "SELECT count(DISTINCT entity_id) FROM entities").await, 3);
        assert!((0..BATCHES).all(|number| matches!(graph.progress(&format!("b{number}")), Progress::Committed(_))));
        assert_eq!(graph.unfinished(), Vec::<String>::new());
    }
    for table in [Table::Events, Table::Edges, Table::Entities, Table::Batches] {
        let files = fixture.files(table).await.len();
        assert!(files <= 6, "{files} files of {}", table.name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_no_commit_names_are_deleted_once_they_are_old() {
    let fixture = Fixture::start().await;
    let day = Duration::from_secs(24 * 3_600);
    for number in 0..4 {
        commit(&fixture.graph, &format!("b{number}"), vec![events(DAY, &format!("b{number}"), 10)]).await;
    }
    let answer = ask(&fixture.graph, "SELECT * FROM events ORDER BY event_id").await;
    let before = fixture.files(Table::Events).await;
    // As after a crash between the upload and the commit.
    assert!(matches!(fixture.graph.compact(LAYOUT, now(), &LOST).await, Err(LakeError::Superseded)));
    assert_eq!(fixture.files(Table::Events).await, before);
    assert_eq!(fixture.stored(Table::Events).len(), 5);
    assert_eq!(fixture.graph.vacuum(day, now()).await.unwrap().files, 0, "it may be about to be committed");
    assert_eq!(fixture.graph.vacuum(day, later()).await.unwrap().files, 1);
    assert_eq!(fixture.stored(Table::Events).len(), 4);
    assert_eq!(ask(&fixture.graph, "SELECT * FROM events ORDER BY event_id").await, answer);

    // What was merged stays for the queries that read it, and is deleted after them.
    fixture.graph.compact(LAYOUT, now(), &HELD).await.unwrap();
    assert_eq!(fixture.graph.vacuum(day, now()).await.unwrap().files, 0);
    assert_eq!(fixture.stored(Table::Events).len(), 5);
    let another = fixture.again().await;
    let deleted = another.vacuum(day, later()).await.unwrap();
    assert_eq!(deleted.files, 8, "four of events and four of batches");
    assert!(deleted.bytes > 0);
    assert_eq!(fixture.stored(Table::Events).len(), 1);
    assert_eq!(ask(&fixture.graph, "SELECT * FROM events ORDER BY event_id").await, answer);
    assert_eq!(another.vacuum(day, later()).await.unwrap().files, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_elsewhere_is_never_deleted() {
    let fixture = Fixture::start().await;
    let stale = fixture.again().await;
    commit(&fixture.graph, "b", vec![events(DAY, "b", 10)]).await;
    assert_eq!(stale.vacuum(Duration::from_secs(3_600), later()).await.unwrap().files, 0);
    assert_eq!(number(&fixture.graph, "SELECT count(*) FROM events").await, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_days_and_old_rows_go_but_no_batch_before_its_events() {
    let fixture = Fixture::start().await;
    let today = now().day();
    let (old, ahead) = (today - 10, today + 3);
    let one = |hour| Edge { entity: 1, peer: 1, hour, operation: 1, count: 5, bytes: 1, second: 1 };
    let first = vec![
        events(old, "old", 10),
        edges(old, &[one(1)]),
        entities(&[("gone", "", old - 5, old), ("stays", "", old, old), ("stays", "alias", old, old)]),
        of_days(Table::Findings, "update_time", &[old, ahead]),
        of_days(Table::DeadLetters, "time", &[old, old]),
        of_days(Table::Volumes, "time", &[old, ahead, ahead]),
    ];
    commit(&fixture.graph, "old", first).await;
    // A record from a clock that is ahead: its day stays, and so must its batch.
    let second = vec![events(ahead, "ahead", 7), edges(ahead, &[one(2)]), entities(&[("stays", "", ahead, ahead)])];
    commit(&fixture.graph, "ahead", second).await;
    let since = Timestamp((today + 1) * MICROS_PER_DAY);
    assert!(matches!(fixture.graph.expire_days(since, &LOST).await, Err(LakeError::Superseded)));
    assert!(matches!(fixture.graph.expire_rows(since, LAYOUT, &LOST).await, Err(LakeError::Superseded)));
    assert_eq!(number(&fixture.graph, "SELECT count(*) FROM events").await, 17);
    assert_eq!(number(&fixture.graph, "SELECT count(*) FROM dead_letters").await, 2);

    let done = fixture.graph.expire_days(since, &HELD).await.unwrap();
    assert_eq!((done.days, done.files), (1, 2));
    assert!(fixture.graph.expire_rows(since, LAYOUT, &HELD).await.unwrap().files > 0);
    let again = fixture.again().await;
    for graph in [&fixture.graph, &again] {
        assert_eq!(ask(graph, "SELECT DISTINCT batch_id FROM events").await, ["ahead"]);
        assert_eq!(ask(graph, "SELECT count(*), sum(count) FROM edges").await, ["1|5"]);
        assert_eq!(ask(graph, "SELECT batch_id FROM batches").await, ["ahead"]);
        let entities = ask(graph, "SELECT entity_id, name, CAST(first_time AS BIGINT) FROM entities").await;
        assert_eq!(entities, [format!("stays||{}", old * MICROS_PER_DAY)], "seen since, and not forgotten since when");
        assert_eq!(number(graph, "SELECT count(*) FROM findings").await, 1);
        assert_eq!(number(graph, "SELECT count(*) FROM dead_letters").await, 0);
        assert_eq!(number(graph, "SELECT count(*) FROM volumes").await, 2);
        for table in [Table::Events, Table::Edges] {
            assert!(!graph.has_day(table, old) && graph.has_day(table, ahead));
        }
        assert!(matches!(graph.progress("ahead"), Progress::Committed(_)));
        assert_eq!(graph.unfinished(), Vec::<String>::new());
    }
    // What comes late for a day that is gone is taken, until the next time.
    commit(&fixture.graph, "late", vec![events(old, "late", 1)]).await;
    assert!(fixture.graph.has_day(Table::Events, old));
    fixture.graph.expire_days(since, &HELD).await.unwrap();
    assert!(!fixture.graph.has_day(Table::Events, old));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphs_are_found_in_the_lake_until_they_are_removed() {
    let fixture = Fixture::start().await;
    let lake = open(fixture.folder.path()).await;
    assert_eq!(lake.graphs().await.unwrap(), std::slice::from_ref(&fixture.arn));
    let other: GraphArn = "arn:aws:detective:eu-west-1:999988887777:graph:fedcba9876543210fedcba9876543210".parse().unwrap();
    let graph = lake.graph(&other).await.unwrap();
    for number in 0..4 {
        commit(&graph, &format!("b{number}"), Vec::new()).await;
    }
    assert_eq!(lake.graphs().await.unwrap(), [fixture.arn.clone(), other.clone()]);
    lake.remove(&other).await.unwrap();
    assert_eq!(lake.graphs().await.unwrap(), std::slice::from_ref(&fixture.arn));
    assert!(matches!(graph.compact(LAYOUT, now(), &HELD).await, Err(LakeError::Removed)), "nothing is written after it is gone");
    let mut left = Vec::new();
    parquet_files(&fixture.folder.path().join(other.id()), &mut left);
    assert_eq!(left, Vec::<PathBuf>::new());
}
