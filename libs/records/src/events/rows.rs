//! An events file, or rows of the lake, to events: columns borrowed as they lie, texts by their numbers in a dictionary.

use std::{borrow::Cow, collections::BTreeMap, str::FromStr, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, DictionaryArray, Int64Array, RecordBatch, StringArray},
    compute::{cast, concat_batches},
    datatypes::{DataType, Int32Type, Int64Type, SchemaRef, TimestampMicrosecondType},
};
use bytes::Bytes;
use gumshoe_model::{DeadLetter, EntityRef, EntityType, Event, Finding, RecordKind, Relation, Timestamp};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
    },
    errors::ParquetError,
};

use super::{LINK_TEXTS, RULES, columns};
use crate::{Options, Sink, Stop, read};

/// The column of a record's text, by far the largest.
const RAW: &str = "raw";

/// A part of a batch as it came.
#[derive(Debug)]
pub struct Received {
    /// The events file.
    pub file: Bytes,
    /// What the graph needs of it.
    pub events: EventBatch,
}

impl Received {
    /// Reads an events file.
    ///
    /// # Errors
    /// [`ParquetError`] when it is none.
    pub fn new(file: Bytes) -> Result<Self, ParquetError> {
        Ok(Self { events: EventBatch::read(&file)?, file })
    }
}

/// Events in columns, without their text but for findings.
#[derive(Debug)]
pub struct EventBatch {
    rows: RecordBatch,
    findings: BTreeMap<usize, FindingText>,
}

/// What a finding's record says.
#[derive(Debug)]
pub struct FindingText {
    /// What the detector said.
    pub finding: Finding<'static>,
    /// The record.
    pub raw: String,
}

/// All rows and columns of an events file, texts that repeat as dictionaries.
///
/// # Errors
/// [`ParquetError`] when it is no events file.
pub fn table(file: &Bytes) -> Result<RecordBatch, ParquetError> {
    project(file, |_| true)
}

fn project(file: &Bytes, wanted: impl Fn(&str) -> bool) -> Result<RecordBatch, ParquetError> {
    let schema = dictionaries();
    let options = ArrowReaderOptions::new().with_schema(Arc::clone(&schema)).with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file.clone(), options)?;
    let roots = schema.fields().iter().enumerate().filter(|(_, field)| wanted(field.name())).map(|(root, _)| root);
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let rows = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or_default();
    let reader = builder.with_projection(mask).with_batch_size(rows.max(1)).build()?;
    let schema = arrow::array::RecordBatchReader::schema(&reader);
    let mut batches = reader.collect::<Result<Vec<_>, _>>()?;
    match (batches.pop(), batches.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Ok(RecordBatch::new_empty(schema)),
        (Some(last), false) => {
            batches.push(last);
            Ok(concat_batches(&schema, &batches)?)
        }
    }
}

fn dictionaries() -> SchemaRef {
    static SCHEMA: std::sync::LazyLock<SchemaRef> =
        std::sync::LazyLock::new(|| columns(&DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))));
    Arc::clone(&SCHEMA)
}

impl EventBatch {
    fn read(file: &Bytes) -> Result<Self, ParquetError> {
        let rows = project(file, |name| name != RAW)?;
        let mut batch = Self { rows, findings: BTreeMap::new() };
        let findings = batch.finding_rows()?;
        if !findings.is_empty() {
            let texts = project(file, |name| name == RAW)?;
            batch.read_findings(&findings, text(&texts, RAW)?)?;
        }
        Ok(batch)
    }

    /// Takes rows of the lake's table of events, with all its columns.
    ///
    /// # Errors
    /// [`ParquetError`] when a column is missing or of another type.
    pub fn of_rows(rows: &RecordBatch) -> Result<Self, ParquetError> {
        let schema = dictionaries();
        let raw = text(rows, RAW)?;
        let cast_column = |field: &arrow::datatypes::FieldRef| -> Result<ArrayRef, ParquetError> {
            Ok(match field.name().as_str() {
                // Rows of an older lake do not have it.
                "length" => Arc::new(raw.iter().map(|text| text.and_then(|text| i64::try_from(text.len()).ok())).collect::<Int64Array>()),
                RULES => {
                    let texts = rows.column_by_name(RULES).map(|column| cast(column, &DataType::Utf8)).transpose()?;
                    let texts = texts.as_ref().and_then(|texts| texts.as_string_opt::<i32>());
                    let text = |row| texts.filter(|texts| texts.is_valid(row)).map_or("", |texts| texts.value(row));
                    cast(&StringArray::from_iter_values((0..rows.num_rows()).map(text)), field.data_type())?
                }
                name => cast(column(rows, name)?, field.data_type())?,
            })
        };
        let columns = schema.fields().iter().map(cast_column).collect::<Result<Vec<_>, _>>()?;
        let mut batch = Self { rows: RecordBatch::try_new(schema, columns)?, findings: BTreeMap::new() };
        let findings = batch.finding_rows()?;
        batch.read_findings(&findings, raw)?;
        Ok(batch)
    }

    /// Number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether there are no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The events.
    ///
    /// # Errors
    /// [`ParquetError`] when a column has no value somewhere.
    pub fn rows(&self) -> Result<EventRows<'_>, ParquetError> {
        EventRows::new(self)
    }

    fn finding_rows(&self) -> Result<Vec<usize>, ParquetError> {
        let kinds = Coded::<RecordKind>::new(column(&self.rows, "kind")?)?;
        let is_finding = |row: &usize| matches!(kinds.get(*row), Some(RecordKind::GuardDuty | RecordKind::SecurityHub));
        Ok((0..self.len()).filter(is_finding).collect())
    }

    fn read_findings(&mut self, rows: &[usize], raw: &StringArray) -> Result<(), ParquetError> {
        let ids = text(&self.rows, "event_id")?;
        for row in rows {
            let raw = raw.value(*row);
            let mut search = Search { id: ids.value(*row), finding: None };
            // What is no finding when it is read again is an event without one.
            if read(raw.as_bytes(), &Options::default(), &mut search).is_ok()
                && let Some(finding) = search.finding
            {
                self.findings.insert(*row, FindingText { finding, raw: raw.to_owned() });
            }
        }
        Ok(())
    }
}

/// Looks for the finding with an event id among the records of a text.
struct Search<'i> {
    id: &'i str,
    finding: Option<Finding<'static>>,
}

impl Sink for Search<'_> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        let owned = |text: &Cow<'_, str>| Cow::Owned(text.clone().into_owned());
        if let Some(finding) = event.finding.as_deref().filter(|_| event.id == self.id) {
            self.finding = Some(Finding {
                id: owned(&finding.id),
                finding_type: owned(&finding.finding_type),
                product: owned(&finding.product),
                title: owned(&finding.title),
                description: owned(&finding.description),
                severity: finding.severity,
                count: finding.count,
                first_seen: finding.first_seen,
                last_seen: finding.last_seen,
                updated: finding.updated,
                archived: finding.archived,
            });
        }
        Ok(())
    }

    fn dead_letter(&mut self, _: &DeadLetter<'_>) -> Result<(), Stop> {
        Ok(())
    }
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, ParquetError> {
    let column = rows.column_by_name(name).ok_or_else(|| ParquetError::General(format!("no column `{name}`")))?;
    if column.null_count() > 0 { Err(ParquetError::General(format!("column `{name}` lacks values"))) } else { Ok(column) }
}

fn text<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a StringArray, ParquetError> {
    column(rows, name)?.as_string_opt().ok_or_else(|| ParquetError::General(format!("column `{name}` is not text")))
}

/// A column of texts that repeat.
#[derive(Debug, Clone, Copy)]
pub struct TextColumn<'a> {
    keys: &'a [i32],
    values: &'a StringArray,
}

impl<'a> TextColumn<'a> {
    fn new(column: &'a ArrayRef) -> Result<Self, ParquetError> {
        let wrong = || ParquetError::General("a column is not a dictionary of text".to_owned());
        let column: &DictionaryArray<Int32Type> = column.as_dictionary_opt().ok_or_else(wrong)?;
        if column.null_count() > 0 {
            return Err(ParquetError::General("a column of text lacks values".to_owned()));
        }
        Ok(Self { keys: column.keys().values(), values: column.values().as_string_opt().ok_or_else(wrong)? })
    }

    /// The number of row `row`'s text; 0 past the end.
    #[must_use]
    pub fn key(&self, row: usize) -> usize {
        self.keys.get(row).and_then(|key| usize::try_from(*key).ok()).unwrap_or_default()
    }

    /// The text of row `row`; empty past the end.
    #[must_use]
    pub fn get(&self, row: usize) -> &'a str {
        let key = self.key(row);
        if key < self.values.len() { self.values.value(key) } else { "" }
    }

    /// All texts, by number.
    pub fn values(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.values.iter().map(Option::unwrap_or_default)
    }
}

/// A column of names of an enumeration; an empty name is none.
#[derive(Debug)]
pub struct Coded<'a, T> {
    keys: &'a [i32],
    values: Vec<Option<T>>,
}

impl<'a, T: Copy + FromStr> Coded<'a, T> {
    fn new(column: &'a ArrayRef) -> Result<Self, ParquetError> {
        let texts = TextColumn::new(column)?;
        let value = |name: &str| match name {
            "" => Ok(None),
            name => name.parse().map(Some).map_err(|_| ParquetError::General(format!("`{name}` is not known"))),
        };
        Ok(Self { keys: texts.keys, values: texts.values().map(value).collect::<Result<_, _>>()? })
    }

    /// The value of row `row`; `None` past the end.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<T> {
        let key = usize::try_from(*self.keys.get(row)?).ok()?;
        self.values.get(key).copied().flatten()
    }
}

/// Rows of a batch, read without copying. Fields are those of [`gumshoe_model::Event`].
#[derive(Debug)]
#[expect(missing_docs, reason = "fields are those of gumshoe_model::Event")]
pub struct EventRows<'a> {
    batch: &'a EventBatch,
    ids: &'a StringArray,
    pub kind: Coded<'a, RecordKind>,
    pub account: TextColumn<'a>,
    pub region: TextColumn<'a>,
    pub actor_type: Coded<'a, EntityType>,
    pub actor_id: TextColumn<'a>,
    pub actor_name: TextColumn<'a>,
    pub actor_alias: TextColumn<'a>,
    pub parent_type: Coded<'a, EntityType>,
    pub parent_id: TextColumn<'a>,
    pub parent_alias: TextColumn<'a>,
    pub origin_type: Coded<'a, EntityType>,
    pub origin_id: TextColumn<'a>,
    pub service: TextColumn<'a>,
    pub operation: TextColumn<'a>,
    pub error: TextColumn<'a>,
    pub address: TextColumn<'a>,
    pub user_agent: TextColumn<'a>,
    pub access_key: TextColumn<'a>,
    pub flow: Coded<'a, Relation>,
    pub corrects: TextColumn<'a>,
    /// Ids of the detection rules that it matches, sorted, with a space between.
    pub rules: TextColumn<'a>,
    pub source_object: TextColumn<'a>,
    pub batch_id: TextColumn<'a>,
    pub time: &'a [i64],
    pub end_time: &'a [i64],
    pub bytes_in: &'a [i64],
    pub bytes_out: &'a [i64],
    pub packets_in: &'a [i64],
    pub packets_out: &'a [i64],
    pub offset: &'a [i64],
    /// Bytes of the record's text.
    pub length: &'a [i64],
    pub port: &'a [i32],
    pub protocol: &'a [i32],
    pub links: Links<'a>,
}

/// The links of all rows: row `n` has those of [`Self::range`].
#[derive(Debug)]
#[expect(missing_docs, reason = "fields are those of gumshoe_model::Link")]
pub struct Links<'a> {
    ends: &'a [i32],
    pub relation: Coded<'a, Relation>,
    pub entity_type: Coded<'a, EntityType>,
    pub id: TextColumn<'a>,
    pub name: TextColumn<'a>,
}

impl Links<'_> {
    /// Where the links of row `row` stand in the columns.
    #[must_use]
    pub fn range(&self, row: usize) -> std::ops::Range<usize> {
        let end = |row: usize| self.ends.get(row).and_then(|end| usize::try_from(*end).ok()).unwrap_or_default();
        end(row)..end(row + 1)
    }
}

impl<'a> EventRows<'a> {
    fn new(batch: &'a EventBatch) -> Result<Self, ParquetError> {
        let rows = &batch.rows;
        let wrong = |name: &str| ParquetError::General(format!("column `{name}` has the wrong type"));
        let texts = |name: &str| TextColumn::new(column(rows, name)?);
        let kinds = |name: &str| Coded::new(column(rows, name)?);
        let times = |name: &str| column(rows, name)?.as_primitive_opt::<TimestampMicrosecondType>().map(|column| &**column.values()).ok_or_else(|| wrong(name));
        let longs = |name: &str| column(rows, name)?.as_primitive_opt::<Int64Type>().map(|column| &**column.values()).ok_or_else(|| wrong(name));
        let ints = |name: &str| column(rows, name)?.as_primitive_opt::<Int32Type>().map(|column| &**column.values()).ok_or_else(|| wrong(name));
        let links = column(rows, "links")?.as_list_opt::<i32>().ok_or_else(|| wrong("links"))?;
        let items = links.values().as_struct_opt().ok_or_else(|| wrong("links"))?;
        let [relation, entity_type, id, name] = LINK_TEXTS.map(|name| items.column_by_name(name).ok_or_else(|| wrong("links")));
        Ok(Self {
            batch,
            ids: text(rows, "event_id")?,
            kind: Coded::new(column(rows, "kind")?)?,
            account: texts("account")?,
            region: texts("region")?,
            actor_type: kinds("actor_type")?,
            actor_id: texts("actor_id")?,
            actor_name: texts("actor_name")?,
            actor_alias: texts("actor_alias")?,
            parent_type: kinds("parent_type")?,
            parent_id: texts("parent_id")?,
            parent_alias: texts("parent_alias")?,
            origin_type: kinds("origin_type")?,
            origin_id: texts("origin_id")?,
            service: texts("service")?,
            operation: texts("operation")?,
            error: texts("error")?,
            address: texts("address")?,
            user_agent: texts("user_agent")?,
            access_key: texts("access_key")?,
            flow: Coded::new(column(rows, "flow")?)?,
            corrects: texts("corrects")?,
            rules: texts(RULES)?,
            source_object: texts("source_object")?,
            batch_id: texts("batch_id")?,
            time: times("time")?,
            end_time: times("end_time")?,
            bytes_in: longs("bytes_in")?,
            bytes_out: longs("bytes_out")?,
            packets_in: longs("packets_in")?,
            packets_out: longs("packets_out")?,
            offset: longs("offset")?,
            length: longs("length")?,
            port: ints("port")?,
            protocol: ints("protocol")?,
            links: Links {
                ends: links.value_offsets(),
                relation: Coded::new(relation?)?,
                entity_type: Coded::new(entity_type?)?,
                id: TextColumn::new(id?)?,
                name: TextColumn::new(name?)?,
            },
        })
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// The event's id: the record's own, or one made of its batch and place; empty past the end.
    #[must_use]
    pub fn id(&self, row: usize) -> &'a str {
        if row < self.ids.len() { self.ids.value(row) } else { "" }
    }

    /// Whether the record has an identity of its own: a second one with the same id is a duplicate.
    #[must_use]
    pub fn has_own_id(&self, row: usize) -> bool {
        self.kind.get(row) != Some(RecordKind::VpcFlow)
    }

    /// The event of row `row`, whose text is `raw`; `None` past the end.
    #[must_use]
    pub fn event(&self, row: usize, raw: &'a str) -> Option<Event<'a>> {
        let entity = |kind: Option<EntityType>, id: &'a str| kind.filter(|_| !id.is_empty()).map(|kind| EntityRef::new(kind, id));
        let number = |column: &[i64]| column.get(row).and_then(|number| u64::try_from(*number).ok()).unwrap_or_default();
        let mut event = Event::new(self.kind.get(row)?, Timestamp(*self.time.get(row)?), raw);
        event.id = self.id(row).into();
        event.end_time = Timestamp(*self.end_time.get(row)?);
        event.account = self.account.get(row).into();
        event.region = self.region.get(row).into();
        event.actor = entity(self.actor_type.get(row), self.actor_id.get(row));
        event.actor_name = self.actor_name.get(row).into();
        event.actor_alias = self.actor_alias.get(row).into();
        event.parent = entity(self.parent_type.get(row), self.parent_id.get(row));
        event.parent_alias = self.parent_alias.get(row).into();
        event.origin = entity(self.origin_type.get(row), self.origin_id.get(row));
        event.service = self.service.get(row).into();
        event.operation = self.operation.get(row).into();
        event.error = self.error.get(row).into();
        event.address = self.address.get(row).into();
        event.user_agent = self.user_agent.get(row).into();
        event.access_key = self.access_key.get(row).into();
        event.flow = self.flow.get(row);
        event.port = *self.port.get(row)?;
        event.protocol = *self.protocol.get(row)?;
        event.bytes_in = number(self.bytes_in);
        event.bytes_out = number(self.bytes_out);
        event.packets_in = number(self.packets_in);
        event.packets_out = number(self.packets_out);
        for index in self.links.range(row) {
            if let (Some(relation), Some(kind)) = (self.links.relation.get(index), self.links.entity_type.get(index)) {
                event.link(relation, kind, self.links.id.get(index), self.links.name.get(index));
            }
        }
        event.finding = self.finding(row).map(|text| Box::new(text.finding.clone()));
        event.corrects = self.corrects.get(row).into();
        event.offset = number(self.offset);
        Some(event)
    }

    /// What a finding's record says.
    #[must_use]
    pub fn finding(&self, row: usize) -> Option<&'a FindingText> {
        self.batch.findings.get(&row)
    }
}
