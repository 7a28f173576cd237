//! The files of a day.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use arrow::{
    array::{
        ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StringDictionaryBuilder, StructArray,
        TimestampMicrosecondArray,
    },
    buffer::OffsetBuffer,
    datatypes::{DataType, Field, Int32Type, Schema},
};
use gumshoe_lake::{DataFile, Table, encode, table::entity_fields};
use gumshoe_model::{
    Event, RecordKind, Timestamp,
    time::{MICROS_PER_DAY, MICROS_PER_HOUR},
};
use gumshoe_records::events::EventsWriter;

use crate::world::{Kind, Node, Random, Row, account, operation};

const ERRORS: [&str; 6] = ["", "AccessDenied", "Client.UnauthorizedOperation", "ThrottlingException", "NoSuchEntity", "ValidationException"];
const COUNTRIES: [&str; 5] = ["US", "DE", "IE", "JP", "BR"];
/// A record of events for so many edges, each of an account of its own.
const EDGES_AN_EVENT: usize = 10;
/// A finding for so many edges.
const EDGES_A_FINDING: usize = 15_000;

/// The files of a day, everyone in them, and the number of edges. Of edges there are several files, that of all but one of `parts`
/// parts and that of the rest, or one a part.
pub(crate) fn files(day: i64, rows: Vec<Row>, parts: usize, apart: bool) -> (Vec<DataFile>, BTreeSet<Node>, usize) {
    let nodes: BTreeSet<Node> = rows.iter().flat_map(|row| [row.entity, row.peer]).collect();
    let mut split: BTreeMap<usize, Vec<Row>> = BTreeMap::new();
    for (number, row) in rows.into_iter().enumerate() {
        let part = number % parts;
        split.entry(if apart { part } else { usize::from(part == 0) }).or_default().push(row);
    }
    let (mut files, mut edges) = (Vec::new(), 0);
    for rows in split.into_values() {
        let rows = edges_of(day, rows);
        edges += rows.num_rows();
        files.push(encode(Table::Edges, Some(day), &rows).unwrap());
    }
    files.push(entities(day, &nodes));
    files.extend(events(day, edges / EDGES_AN_EVENT));
    files.push(findings(day, &nodes, 1 + edges / EDGES_A_FINDING));
    (files, nodes, edges)
}

fn texts<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn codes<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> ArrayRef {
    let mut builder = StringDictionaryBuilder::<Int32Type>::new();
    values.into_iter().for_each(|value| builder.append_value(value));
    Arc::new(builder.finish())
}

fn times(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
}

fn longs(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

/// Edges in order, equal ones summed.
fn edges_of(day: i64, rows: Vec<Row>) -> RecordBatch {
    let named: HashMap<Node, String> =
        rows.iter().flat_map(|row| [Some(row.entity), Some(row.peer), row.address, row.agent]).flatten().map(|node| (node, node.id())).collect();
    let mut order: Vec<&str> = named.values().map(String::as_str).collect();
    order.sort_unstable();
    // Some addresses are the same by chance.
    let ranks: HashMap<Node, usize> = named.iter().map(|(node, id)| (*node, order.partition_point(|other| *other < id.as_str()))).collect();
    let mut placed: Vec<((Kind, usize, Kind, usize), Row)> =
        rows.into_iter().map(|row| ((row.entity.kind, ranks[&row.entity], row.peer.kind, ranks[&row.peer]), row)).collect();
    placed.sort_unstable();
    let mut sums: Vec<(Row, i64)> = Vec::with_capacity(placed.len());
    for (_, row) in placed {
        match sums.last_mut() {
            Some((last, count)) if *last == row => *count += 1,
            _ => sums.push((row, 1)),
        }
    }
    let mut random = Random::new(day.unsigned_abs());
    let hour = |row: &Row| day * MICROS_PER_DAY + i64::from(row.hour) * MICROS_PER_HOUR;
    let spans: Vec<(i64, i64)> = sums
        .iter()
        .map(|(row, count)| {
            let first = random.below(MICROS_PER_HOUR.unsigned_abs()) as i64;
            let length = if *count == 1 { 0 } else { random.below((MICROS_PER_HOUR - first).unsigned_abs()) as i64 };
            (hour(row) + first, hour(row) + first + length)
        })
        .collect();
    let mut traffic = |most: u64| longs(sums.iter().map(|(row, _)| if row.port == 0 { 0 } else { random.below(most) as i64 }).collect::<Vec<_>>());
    let traffic = [traffic(1 << 20), traffic(1 << 22), traffic(1_000), traffic(1_000)];
    let name = |node: Option<Node>| node.map_or("", |node| named[&node].as_str());
    let operations: HashMap<(u32, u32), String> = sums.iter().map(|(row, _)| (row.operation, operation(row.operation))).collect();
    let country = |row: &Row| row.address.map_or("", |node| COUNTRIES[node.number as usize % COUNTRIES.len()]);
    let network = |row: &Row| row.address.map_or(0, |node| 100 + i64::from(node.number % 300));
    let [bytes_in, bytes_out, packets_in, packets_out] = traffic;
    let columns: Vec<ArrayRef> = vec![
        times(sums.iter().map(|(row, _)| hour(row))),
        codes(sums.iter().map(|(row, _)| row.entity.kind.name())),
        codes(sums.iter().map(|(row, _)| name(Some(row.entity)))),
        codes(sums.iter().map(|(row, _)| if row.is_in { "in" } else { "out" })),
        codes(sums.iter().map(|(row, _)| row.relation)),
        codes(sums.iter().map(|(row, _)| row.peer.kind.name())),
        codes(sums.iter().map(|(row, _)| name(Some(row.peer)))),
        codes(sums.iter().map(|(row, _)| &operations[&row.operation])),
        codes(sums.iter().map(|(row, _)| name(row.address))),
        codes(sums.iter().map(|(row, _)| country(row))),
        longs(sums.iter().map(|(row, _)| network(row))),
        codes(sums.iter().map(|(row, _)| name(row.agent))),
        codes(sums.iter().map(|(row, _)| ERRORS[usize::from(row.error)])),
        Arc::new(Int32Array::from_iter_values(sums.iter().map(|(row, _)| if row.port == 0 { -1 } else { i32::from(row.port) }))),
        Arc::new(Int32Array::from_iter_values(sums.iter().map(|(row, _)| if row.port == 0 { -1 } else { 6 }))),
        longs(sums.iter().map(|(_, count)| *count)),
        longs(sums.iter().map(|(row, count)| if row.error == 0 { 0 } else { *count })),
        bytes_in,
        bytes_out,
        packets_in,
        packets_out,
        times(spans.iter().map(|(first, _)| *first)),
        times(spans.iter().map(|(_, last)| *last)),
    ];
    batch(Table::Edges, columns)
}

/// Columns of a table; text may be encoded by dictionaries.
fn batch(table: Table, columns: Vec<ArrayRef>) -> RecordBatch {
    let schema = table.schema();
    let fields = schema.fields().iter().zip(&columns).map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true));
    RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns).unwrap()
}

fn entities(day: i64, nodes: &BTreeSet<Node>) -> DataFile {
    let mut named: Vec<(Kind, String, u32)> = nodes.iter().map(|node| (node.kind, node.id(), node.number)).collect();
    named.sort_unstable();
    let owner = |kind: &Kind, number: &u32| if matches!(kind, Kind::Address | Kind::Agent | Kind::Service) { String::new() } else { account(number % 50) };
    let time = |number: u32| day * MICROS_PER_DAY + i64::from(number % 24) * MICROS_PER_HOUR;
    let columns = vec![
        codes(named.iter().map(|(kind, ..)| kind.name())),
        texts(named.iter().map(|(_, id, _)| id)),
        texts(named.iter().map(|(_, id, _)| id.rsplit('/').next().unwrap())),
        texts(named.iter().map(|(kind, _, number)| if *kind == Kind::Role { format!("AROA{number:016}") } else { String::new() })),
        texts(named.iter().map(|(kind, _, number)| owner(kind, number))),
        times(named.iter().map(|(.., number)| time(*number))),
        times(named.iter().map(|(.., number)| time(*number) + MICROS_PER_HOUR / 2)),
    ];
    encode(Table::Entities, None, &batch(Table::Entities, columns)).unwrap()
}

fn events(day: i64, count: usize) -> Option<DataFile> {
    let mut writer = EventsWriter::new(&format!("day-{day}"));
    let mut random = Random::new(day.unsigned_abs());
    for number in 0..count {
        let time = day * MICROS_PER_DAY + MICROS_PER_DAY / i64::try_from(count).unwrap() * i64::try_from(number).unwrap();
        let mut event = Event::new(RecordKind::CloudTrail, Timestamp(time), format!("{{\"eventID\":\"{number}\"}}"));
        event.account = account(random.skewed(50)).into();
        event.offset = number as u64;
        writer.push(&event, "s3://year").unwrap();
    }
    (count > 0).then(|| DataFile::written(Table::Events, Some(day), writer.finish(&format!("day-{day}")).unwrap()).unwrap())
}

/// Findings about some of those who were there.
fn findings(day: i64, nodes: &BTreeSet<Node>, count: usize) -> DataFile {
    let mut random = Random::new(day.unsigned_abs());
    let sessions: Vec<Node> = nodes.iter().copied().filter(|node| node.kind == Kind::Session).collect();
    let named: Vec<String> = (0..count).map(|_| sessions[random.below(sessions.len() as u64) as usize].id()).collect();
    let all = |text: &str| texts(named.iter().map(|_| text));
    let time = |_: &String| day * MICROS_PER_DAY + 12 * MICROS_PER_HOUR;
    let fields = entity_fields();
    let items = StructArray::new(fields.clone(), vec![all("role_session"), texts(&named)], None);
    let element = Arc::new(Field::new("element", DataType::Struct(fields), true));
    let ends = OffsetBuffer::from_lengths(named.iter().map(|_| 1));
    let columns: Vec<ArrayRef> = vec![
        texts(named.iter().enumerate().map(|(number, _)| format!("finding-{day}-{number}"))),
        all("Recon:IAMUser/UserPermissions"),
        all("GuardDuty"),
        all("Unusual calls"),
        all("Calls that this session does not make were made."),
        Arc::new(Float64Array::from_iter_values(named.iter().map(|_| 5.0))),
        longs(named.iter().map(|_| 1)),
        times(named.iter().map(time)),
        times(named.iter().map(time)),
        times(named.iter().map(time)),
        Arc::new(named.iter().map(|_| Some(false)).collect::<BooleanArray>()),
        texts(named.iter().map(|_| account(0))),
        all("us-east-1"),
        texts(named.iter().enumerate().map(|(number, _)| format!("event-{day}-{number}"))),
        Arc::new(ListArray::new(element, ends, Arc::new(items), None)),
        texts(named.iter().map(|id| "x".repeat(3_000) + id)),
        all("s3://year"),
        longs(named.iter().map(|_| 0)),
    ];
    encode(Table::Findings, None, &batch(Table::Findings, columns)).unwrap()
}
