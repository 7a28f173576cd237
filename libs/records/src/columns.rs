//! Events as Arrow columns: how a parsed batch travels from ingest to the graph.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayBuilder, ArrayRef, AsArray, BooleanArray, BooleanBuilder, Float64Array, Float64Builder, Int32Array, Int32Builder, Int64Array, Int64Builder,
        ListArray, RecordBatch, StringArray, StringBuilder, StructArray, UInt8Array, UInt8Builder, UInt64Array, UInt64Builder,
    },
    buffer::{Buffer, OffsetBuffer},
    datatypes::{DataType, Field, Fields, Float64Type, Int32Type, Int64Type, Schema, SchemaRef, UInt8Type, UInt64Type},
    error::ArrowError,
    ipc::{reader::StreamDecoder, writer::StreamWriter},
};
use bytes::Bytes;
use gumshoe_model::{EntityType, Event, RecordKind, Relation};

/// Text columns, in order; an empty text means "not in the record".
const TEXTS: [&str; 21] = [
    "id",
    "account",
    "region",
    "actor_id",
    "actor_name",
    "actor_alias",
    "parent_id",
    "parent_alias",
    "origin_id",
    "service",
    "operation",
    "error",
    "address",
    "user_agent",
    "access_key",
    "corrects",
    "finding_id",
    "finding_type",
    "finding_product",
    "finding_title",
    "finding_description",
];
/// Enumerations: the model's number plus one; 0 means none.
const CODES: [&str; 5] = ["kind", "actor_type", "parent_type", "origin_type", "flow"];
/// Times in microseconds since the epoch.
const TIMES: [&str; 5] = ["time", "end_time", "finding_first", "finding_last", "finding_updated"];
/// Unsigned counts.
const COUNTS: [&str; 6] = ["bytes_in", "bytes_out", "packets_in", "packets_out", "finding_count", "offset"];
/// Signed numbers, -1 for none.
const NUMBERS: [&str; 2] = ["port", "protocol"];

fn link_fields() -> Fields {
    Fields::from(vec![
        Field::new("relation", DataType::UInt8, false),
        Field::new("type", DataType::UInt8, false),
        Field::new("id", DataType::Utf8, false),
        Field::new("name", DataType::Utf8, false),
    ])
}

/// The schema of a batch of events.
#[must_use]
pub fn schema() -> SchemaRef {
    let mut fields = Vec::new();
    let mut add = |names: &[&str], data_type: &DataType| fields.extend(names.iter().map(|name| Field::new(*name, data_type.clone(), false)));
    add(&TEXTS, &DataType::Utf8);
    add(&CODES, &DataType::UInt8);
    add(&TIMES, &DataType::Int64);
    add(&COUNTS, &DataType::UInt64);
    add(&NUMBERS, &DataType::Int32);
    add(&["finding_severity"], &DataType::Float64);
    add(&["finding_archived"], &DataType::Boolean);
    add(&["links"], &DataType::List(Arc::new(Field::new("item", DataType::Struct(link_fields()), false))));
    add(&["raw"], &DataType::Utf8);
    Arc::new(Schema::new(fields))
}

/// Collects events into columns.
#[derive(Debug)]
pub struct EventColumns {
    texts: [StringBuilder; TEXTS.len()],
    codes: [UInt8Builder; CODES.len()],
    times: [Int64Builder; TIMES.len()],
    counts: [UInt64Builder; COUNTS.len()],
    numbers: [Int32Builder; NUMBERS.len()],
    severity: Float64Builder,
    archived: BooleanBuilder,
    link_ends: Vec<i32>,
    link_relations: UInt8Builder,
    link_types: UInt8Builder,
    link_ids: StringBuilder,
    link_names: StringBuilder,
    raw: StringBuilder,
    bytes: usize,
}

impl Default for EventColumns {
    fn default() -> Self {
        Self::new()
    }
}

impl EventColumns {
    /// No events yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            texts: std::array::from_fn(|_| StringBuilder::new()),
            codes: std::array::from_fn(|_| UInt8Builder::new()),
            times: std::array::from_fn(|_| Int64Builder::new()),
            counts: std::array::from_fn(|_| UInt64Builder::new()),
            numbers: std::array::from_fn(|_| Int32Builder::new()),
            severity: Float64Builder::new(),
            archived: BooleanBuilder::new(),
            link_ends: vec![0],
            link_relations: UInt8Builder::new(),
            link_types: UInt8Builder::new(),
            link_ids: StringBuilder::new(),
            link_names: StringBuilder::new(),
            raw: StringBuilder::new(),
            bytes: 0,
        }
    }

    /// Number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.link_ends.len() - 1
    }

    /// Whether there are no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory in bytes, about: all text and 256 bytes an event. It depends on the events alone, so that a batch is cut
    /// at the same places each time.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds one event.
    pub fn push(&mut self, event: &Event<'_>) {
        let finding = event.finding.as_deref();
        let code = |entity: &Option<gumshoe_model::EntityRef<'_>>| entity.as_ref().map_or(0, |entity| entity.kind as u8 + 1);
        let texts = texts(event);
        self.bytes += weight_with(event, &texts);
        for (builder, text) in self.texts.iter_mut().zip(texts) {
            builder.append_value(text);
        }
        let codes = [event.kind as u8 + 1, code(&event.actor), code(&event.parent), code(&event.origin), event.flow.map_or(0, |relation| relation as u8 + 1)];
        for (builder, code) in self.codes.iter_mut().zip(codes) {
            builder.append_value(code);
        }
        let times = [
            event.time.0,
            event.end_time.0,
            finding.map_or(0, |finding| finding.first_seen.0),
            finding.map_or(0, |finding| finding.last_seen.0),
            finding.map_or(0, |finding| finding.updated.0),
        ];
        for (builder, time) in self.times.iter_mut().zip(times) {
            builder.append_value(time);
        }
        let counts = [event.bytes_in, event.bytes_out, event.packets_in, event.packets_out, finding.map_or(0, |finding| finding.count), event.offset];
        for (builder, count) in self.counts.iter_mut().zip(counts) {
            builder.append_value(count);
        }
        for (builder, number) in self.numbers.iter_mut().zip([event.port, event.protocol]) {
            builder.append_value(number);
        }
        self.severity.append_value(finding.map_or(0.0, |finding| finding.severity));
        self.archived.append_value(finding.is_some_and(|finding| finding.archived));
        for link in &event.links {
            self.link_relations.append_value(link.relation as u8 + 1);
            self.link_types.append_value(link.entity.kind as u8 + 1);
            self.link_ids.append_value(&link.entity.id);
            self.link_names.append_value(&link.name);
        }
        self.link_ends.push(i32::try_from(self.link_relations.len()).unwrap_or(i32::MAX));
        self.raw.append_value(&event.raw);
    }

    /// The columns, leaving none.
    ///
    /// # Errors
    /// [`ArrowError`] if the columns do not fit the schema, which only a fault of this module can cause.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let mut done = std::mem::take(self);
        let mut columns: Vec<ArrayRef> = Vec::new();
        columns.extend(done.texts.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef));
        columns.extend(done.codes.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef));
        columns.extend(done.times.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef));
        columns.extend(done.counts.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef));
        columns.extend(done.numbers.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef));
        columns.push(Arc::new(done.severity.finish()));
        columns.push(Arc::new(done.archived.finish()));
        let items: Vec<ArrayRef> = vec![
            Arc::new(done.link_relations.finish()),
            Arc::new(done.link_types.finish()),
            Arc::new(done.link_ids.finish()),
            Arc::new(done.link_names.finish()),
        ];
        let items = StructArray::try_new(link_fields(), items, None)?;
        let field = Arc::new(Field::new("item", DataType::Struct(link_fields()), false));
        columns.push(Arc::new(ListArray::try_new(field, OffsetBuffer::new(done.link_ends.into()), Arc::new(items), None)?));
        columns.push(Arc::new(done.raw.finish()));
        RecordBatch::try_new(schema(), columns)
    }
}

/// The texts of an event, in the order of [`TEXTS`].
fn texts<'e>(event: &'e Event<'_>) -> [&'e str; TEXTS.len()] {
    fn id<'e>(entity: &'e Option<gumshoe_model::EntityRef<'_>>) -> &'e str {
        entity.as_ref().map_or("", |entity| &*entity.id)
    }
    let finding = event.finding.as_deref();
    [
        &event.id,
        &event.account,
        &event.region,
        id(&event.actor),
        &event.actor_name,
        &event.actor_alias,
        id(&event.parent),
        &event.parent_alias,
        id(&event.origin),
        &event.service,
        &event.operation,
        &event.error,
        &event.address,
        &event.user_agent,
        &event.access_key,
        &event.corrects,
        finding.map_or("", |finding| &*finding.id),
        finding.map_or("", |finding| &*finding.finding_type),
        finding.map_or("", |finding| &*finding.product),
        finding.map_or("", |finding| &*finding.title),
        finding.map_or("", |finding| &*finding.description),
    ]
}

/// What an event adds to [`EventColumns::bytes`].
#[must_use]
pub fn weight(event: &Event<'_>) -> usize {
    weight_with(event, &texts(event))
}

fn weight_with(event: &Event<'_>, texts: &[&str]) -> usize {
    let links: usize = event.links.iter().map(|link| 16 + link.entity.id.len() + link.name.len()).sum();
    256 + event.raw.len() + texts.iter().map(|text| text.len()).sum::<usize>() + links
}

/// A batch as one Arrow IPC stream.
///
/// # Errors
/// [`ArrowError`] if the batch cannot be written.
pub fn encode(batch: &RecordBatch) -> Result<Bytes, ArrowError> {
    let mut out = Vec::with_capacity(batch.get_array_memory_size() + 16 * 1024);
    let mut writer = StreamWriter::try_new(&mut out, &batch.schema())?;
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    Ok(out.into())
}

/// Batches out of an Arrow IPC stream, without copying where the bytes are aligned; other schemas are refused.
///
/// # Errors
/// [`ArrowError`] when the bytes are not an Arrow IPC stream of this schema.
pub fn decode(bytes: Bytes) -> Result<Vec<RecordBatch>, ArrowError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut buffer = Buffer::from(bytes);
    let mut decoder = StreamDecoder::new();
    let mut batches = Vec::new();
    while !buffer.is_empty() {
        if let Some(batch) = decoder.decode(&mut buffer)? {
            if batch.schema() != schema() {
                return Err(ArrowError::SchemaError("not a batch of events".to_owned()));
            }
            batches.push(batch);
        }
    }
    decoder.finish()?;
    Ok(batches)
}

/// An entity named by a row: its type and id.
pub type RowEntity<'a> = Option<(EntityType, &'a str)>;

/// Rows of a batch, read without copying.
#[derive(Debug)]
pub struct EventRows<'a> {
    texts: [&'a StringArray; TEXTS.len()],
    codes: [&'a UInt8Array; CODES.len()],
    times: [&'a Int64Array; TIMES.len()],
    counts: [&'a UInt64Array; COUNTS.len()],
    numbers: [&'a Int32Array; NUMBERS.len()],
    severity: &'a Float64Array,
    archived: &'a BooleanArray,
    links: &'a ListArray,
    link_relations: &'a UInt8Array,
    link_types: &'a UInt8Array,
    link_ids: &'a StringArray,
    link_names: &'a StringArray,
    raw: &'a StringArray,
    len: usize,
}

/// One row: [`Event`] with borrowed text.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "fields are those of gumshoe_model::Event")]
pub struct EventRow<'a> {
    pub id: &'a str,
    pub kind: RecordKind,
    pub time: i64,
    pub end_time: i64,
    pub account: &'a str,
    pub region: &'a str,
    pub actor: RowEntity<'a>,
    pub actor_name: &'a str,
    pub actor_alias: &'a str,
    pub parent: RowEntity<'a>,
    pub parent_alias: &'a str,
    pub origin: RowEntity<'a>,
    pub service: &'a str,
    pub operation: &'a str,
    pub error: &'a str,
    pub address: &'a str,
    pub user_agent: &'a str,
    pub access_key: &'a str,
    pub flow: Option<Relation>,
    pub port: i32,
    pub protocol: i32,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub packets_in: u64,
    pub packets_out: u64,
    pub corrects: &'a str,
    pub offset: u64,
    pub finding: Option<FindingRow<'a>>,
    pub raw: &'a str,
}

/// A row's finding: [`gumshoe_model::Finding`] with borrowed text.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "fields are those of gumshoe_model::Finding")]
pub struct FindingRow<'a> {
    pub id: &'a str,
    pub finding_type: &'a str,
    pub product: &'a str,
    pub title: &'a str,
    pub description: &'a str,
    pub severity: f64,
    pub count: u64,
    pub first_seen: i64,
    pub last_seen: i64,
    pub updated: i64,
    pub archived: bool,
}

/// A row's link.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "fields are those of gumshoe_model::Link")]
pub struct LinkRow<'a> {
    pub relation: Relation,
    pub kind: EntityType,
    pub id: &'a str,
    pub name: &'a str,
}

impl<'a> EventRows<'a> {
    /// Reads a batch that has [`schema`].
    ///
    /// # Errors
    /// [`ArrowError`] when the batch has another schema.
    pub fn new(batch: &'a RecordBatch) -> Result<Self, ArrowError> {
        if batch.schema() != schema() {
            return Err(ArrowError::SchemaError("not a batch of events".to_owned()));
        }
        let wrong = || ArrowError::SchemaError("a column has the wrong type".to_owned());
        let mut columns = batch.columns().iter();
        let mut next = || columns.next().ok_or_else(wrong);
        macro_rules! take {
            ($count:expr, $method:ident) => {{
                let mut taken = Vec::with_capacity($count);
                for _ in 0..$count {
                    taken.push(next()?.$method().ok_or_else(wrong)?);
                }
                taken.try_into().map_err(|_| wrong())?
            }};
        }
        let texts = take!(TEXTS.len(), as_string_opt);
        let mut primitive = || columns.next().ok_or_else(wrong);
        macro_rules! take_primitive {
            ($count:expr, $type:ty) => {{
                let mut taken = Vec::with_capacity($count);
                for _ in 0..$count {
                    taken.push(primitive()?.as_primitive_opt::<$type>().ok_or_else(wrong)?);
                }
                taken.try_into().map_err(|_| wrong())?
            }};
        }
        let codes = take_primitive!(CODES.len(), UInt8Type);
        let times = take_primitive!(TIMES.len(), Int64Type);
        let counts = take_primitive!(COUNTS.len(), UInt64Type);
        let numbers = take_primitive!(NUMBERS.len(), Int32Type);
        let severity = primitive()?.as_primitive_opt::<Float64Type>().ok_or_else(wrong)?;
        let archived = primitive()?.as_boolean_opt().ok_or_else(wrong)?;
        let links = primitive()?.as_list_opt::<i32>().ok_or_else(wrong)?;
        let raw = primitive()?.as_string_opt().ok_or_else(wrong)?;
        let items = links.values().as_struct_opt().ok_or_else(wrong)?;
        let item = |name: &str| items.column_by_name(name).ok_or_else(wrong);
        Ok(Self {
            texts,
            codes,
            times,
            counts,
            numbers,
            severity,
            archived,
            links,
            link_relations: item("relation")?.as_primitive_opt::<UInt8Type>().ok_or_else(wrong)?,
            link_types: item("type")?.as_primitive_opt::<UInt8Type>().ok_or_else(wrong)?,
            link_ids: item("id")?.as_string_opt().ok_or_else(wrong)?,
            link_names: item("name")?.as_string_opt().ok_or_else(wrong)?,
            raw,
            len: batch.num_rows(),
        })
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Row `index`; `None` past the end or if its record kind is unknown.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<EventRow<'a>> {
        if index >= self.len {
            return None;
        }
        let [
            id,
            account,
            region,
            actor_id,
            actor_name,
            actor_alias,
            parent_id,
            parent_alias,
            origin_id,
            service,
            operation,
            error,
            address,
            user_agent,
            access_key,
            corrects,
            f_id,
            f_type,
            f_product,
            f_title,
            f_description,
        ] = self.texts.map(|texts| texts.value(index));
        let [kind, actor_type, parent_type, origin_type, flow] = self.codes.map(|codes| codes.value(index));
        let [time, end_time, first_seen, last_seen, updated] = self.times.map(|times| times.value(index));
        let [bytes_in, bytes_out, packets_in, packets_out, count, offset] = self.counts.map(|counts| counts.value(index));
        let [port, protocol] = self.numbers.map(|numbers| numbers.value(index));
        let finding = (!f_id.is_empty()).then(|| FindingRow {
            id: f_id,
            finding_type: f_type,
            product: f_product,
            title: f_title,
            description: f_description,
            severity: self.severity.value(index),
            count,
            first_seen,
            last_seen,
            updated,
            archived: self.archived.value(index),
        });
        Some(EventRow {
            id,
            kind: *RecordKind::ALL.get(usize::from(kind).checked_sub(1)?)?,
            time,
            end_time,
            account,
            region,
            actor: entity(actor_type, actor_id),
            actor_name,
            actor_alias,
            parent: entity(parent_type, parent_id),
            parent_alias,
            origin: entity(origin_type, origin_id),
            service,
            operation,
            error,
            address,
            user_agent,
            access_key,
            flow: relation(flow),
            port,
            protocol,
            bytes_in,
            bytes_out,
            packets_in,
            packets_out,
            corrects,
            offset,
            finding,
            raw: self.raw.value(index),
        })
    }

    /// Every row, in order.
    pub fn iter(&self) -> impl Iterator<Item = EventRow<'a>> + '_ {
        (0..self.len).filter_map(|index| self.get(index))
    }

    /// Every row's time (microseconds), id and offset, in order: what tells duplicates, without reading the rest.
    pub fn identities(&self) -> impl Iterator<Item = (i64, &'a str, u64)> + '_ {
        let ([id, ..], [time, ..], [.., offset]) = (&self.texts, &self.times, &self.counts);
        (0..self.len).map(|index| (time.value(index), id.value(index), offset.value(index)))
    }

    /// The links of row `index`.
    pub fn links(&self, index: usize) -> impl Iterator<Item = LinkRow<'a>> + use<'a> {
        let offsets = self.links.value_offsets();
        let bound = |index: usize| offsets.get(index).and_then(|offset| usize::try_from(*offset).ok()).unwrap_or(0);
        let (relations, types, ids, names) = (self.link_relations, self.link_types, self.link_ids, self.link_names);
        (bound(index)..bound(index + 1)).filter_map(move |item| {
            let (kind, id) = entity(types.value(item), ids.value(item))?;
            Some(LinkRow { relation: relation(relations.value(item))?, kind, id, name: names.value(item) })
        })
    }
}

fn entity(code: u8, id: &str) -> RowEntity<'_> {
    let kind = EntityType::ALL.get(usize::from(code).checked_sub(1)?)?;
    (!id.is_empty()).then_some((*kind, id))
}

fn relation(code: u8) -> Option<Relation> {
    Relation::ALL.get(usize::from(code).checked_sub(1)?).copied()
}
