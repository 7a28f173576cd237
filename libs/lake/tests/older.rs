//! A lake that an older version wrote: its tables get the columns that came later, and its rows stay.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the message")]

use std::{fs, iter, path::Path, sync::Arc};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array},
    datatypes::{FieldRef, Int64Type, Schema},
};
use async_trait::async_trait;
use deltalake::{
    kernel::{
        Action, Add, DataType, StructField,
        engine::arrow_conversion::TryIntoKernel as _,
        transaction::{CommitBuilder, CommitProperties},
    },
    operations::create::CreateBuilder,
    protocol::{DeltaOperation, SaveMode},
};
use futures::StreamExt as _;
use gumshoe_lake::{Alone, BatchCounts, DataFile, Fence, GraphLake, Group, Lake, Layout, ParamValues, Table, encode};
use gumshoe_model::{Event, GraphArn, RecordKind, Timestamp, time::MICROS_PER_DAY};
use gumshoe_records::events::EventsWriter;

const DAY: i64 = 20_000;
/// Columns that tables of events did not always have.
const LATER: [&str; 2] = ["rules", "length"];

struct Held;

#[async_trait]
impl Fence for Held {
    async fn holds(&self) -> bool {
        true
    }
}

async fn open(folder: &Path, arn: &GraphArn) -> Arc<GraphLake> {
    let config = serde_json::json!({ "url": format!("file://{}", folder.display()) });
    Lake::open(&serde_json::from_value(config).unwrap()).await.unwrap().graph(arn).await.unwrap()
}

/// A table of events without the later columns, with one record.
async fn write_older(folder: &Path, arn: &GraphArn) {
    let schema = Table::Events.schema();
    let fields: Vec<FieldRef> = schema.fields().iter().filter(|field| !LATER.contains(&field.name().as_str())).cloned().collect();
    let column = |field: &FieldRef| -> StructField { field.as_ref().try_into_kernel().unwrap() };
    let columns: Vec<StructField> = iter::once(StructField::nullable("date", DataType::DATE)).chain(fields.iter().map(column)).collect();
    fs::create_dir_all(folder).unwrap();
    let url = url::Url::from_directory_path(folder).unwrap();
    let create = CreateBuilder::new().with_location(url.as_str()).with_comment(arn.to_string()).with_columns(columns).with_partition_columns(["date"]);
    let delta = create.await.unwrap();

    let time = Timestamp(DAY * MICROS_PER_DAY);
    let value = |field: &FieldRef| -> ArrayRef {
        match field.name().as_str() {
            "time" => Arc::new(TimestampMicrosecondArray::from(vec![time.0]).with_timezone("UTC")),
            "event_id" | "account" | "source_object" | "batch_id" => Arc::new(StringArray::from(vec!["old"])),
            _ => new_null_array(field.data_type(), 1),
        }
    };
    let values: Vec<ArrayRef> = fields.iter().map(value).collect();
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), values).unwrap();
    let file = encode(Table::Events, Some(DAY), &rows).unwrap();
    let date = time.to_chrono().format("%Y-%m-%d").to_string();
    let path = format!("date={date}/part-old.parquet");
    fs::create_dir_all(folder.join(format!("date={date}"))).unwrap();
    fs::write(folder.join(&path), &file.bytes).unwrap();
    let add = Add {
        path,
        partition_values: [("date".to_owned(), Some(date))].into(),
        size: i64::try_from(file.bytes.len()).unwrap(),
        modification_time: chrono::Utc::now().timestamp_millis(),
        data_change: true,
        stats: Some(file.statistics),
        ..Add::default()
    };
    let snapshot = delta.snapshot().unwrap().clone();
    let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: Some(vec!["date".to_owned()]), predicate: None };
    let commit = CommitBuilder::from(CommitProperties::default()).with_actions(vec![Action::Add(add)]);
    commit.build(Some(&snapshot), delta.log_store(), operation).await.unwrap();
}

/// An event's source object, the rules that it matched and its length.
type Row = (String, Option<String>, Option<i64>);

async fn events(graph: &GraphLake) -> Vec<Row> {
    let sql = "SELECT source_object, rules, \"length\" FROM events ORDER BY source_object";
    let mut stream = graph.sql(sql, ParamValues::List(Vec::new())).await.unwrap();
    let mut found = Vec::new();
    while let Some(rows) = stream.next().await {
        let rows = rows.unwrap();
        let column = |name: &str| rows.column_by_name(name).unwrap();
        let (sources, rules) = (column("source_object").as_string::<i32>(), column("rules").as_string::<i32>());
        let lengths = column("length").as_primitive::<Int64Type>();
        found.extend((0..rows.num_rows()).map(|row| {
            let rules = rules.is_valid(row).then(|| rules.value(row).to_owned());
            (sources.value(row).to_owned(), rules, lengths.is_valid(row).then(|| lengths.value(row)))
        }));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn older_rows_stay_beside_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let arn: GraphArn = "arn:aws:detective:us-east-1:111122223333:graph:0123456789abcdef0123456789abcdef".parse().unwrap();
    write_older(&folder.path().join(arn.id()).join(Table::Events.name()), &arn).await;
    let old = || -> Row { ("old".to_owned(), None, None) };

    // Two processes, which both find that columns are missing.
    let (graph, other) = tokio::join!(open(folder.path(), &arn), open(folder.path(), &arn));
    assert_eq!(events(&graph).await, [old()]);
    assert_eq!(events(&other).await, [old()]);

    let mut event = Event::new(RecordKind::CloudTrail, Timestamp(DAY * MICROS_PER_DAY), "{}");
    event.account = "111122223333".into();
    let mut writer = EventsWriter::new("b");
    writer.push_marked(&event, "a-rule", "new").unwrap();
    let files = vec![DataFile::written(Table::Events, Some(DAY), writer.finish("b").unwrap()).unwrap()];
    let batches = vec![("b".to_owned(), BatchCounts { events: 1, ..BatchCounts::default() })];
    graph.commit(&graph.stage(Group { batches, files }).await.unwrap(), &Alone).await.unwrap();
    let both: [Row; 2] = [("new".to_owned(), Some("a-rule".to_owned()), Some(2)), old()];
    assert_eq!(events(&graph).await, both);

    let again = open(folder.path(), &arn).await;
    assert_eq!(again.versions().of(Table::Events), graph.versions().of(Table::Events), "the columns are added once");
    let later = Timestamp(chrono::Utc::now().timestamp_micros() + 2 * MICROS_PER_DAY);
    let done = again.compact(Layout { target_file_bytes: 128 << 20, min_files: 2 }, later, &Held).await.unwrap();
    assert_eq!((done.files_removed, done.files_added), (2, 1));
    assert_eq!(events(&again).await, both);
}
