//! Events to a Parquet file, a slice of rows at a time, so that what is in memory stays in the processor's cache.

use std::sync::Arc;

use arrow::{
    array::{ArrayBuilder, ArrayRef, Int32Builder, Int64Builder, ListArray, StringBuilder, StructArray, TimestampMicrosecondArray},
    buffer::OffsetBuffer,
    datatypes::{DataType, FieldRef},
};
use bytes::Bytes;
use gumshoe_model::{EntityRef, Event};
use parquet::{
    arrow::{
        ArrowSchemaConverter,
        arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves},
    },
    errors::ParquetError,
    file::writer::SerializedFileWriter,
};
use xxhash_rust::xxh3::xxh3_64;

use super::{INTS, LINK_TEXTS, LONGS, TEXTS, UNIQUE, constant::Constant, properties, schema, texts::TextColumn, weight};
use crate::coded;

/// Rows are put into columns in slices of at most so many,
const SLICE_ROWS: usize = 512;
/// or so many bytes of text.
const SLICE_BYTES: usize = 512 * 1024;

/// Writes the events of one part of a batch.
pub struct EventsWriter {
    batch: u64,
    keep_text: bool,
    /// Offset of the last event, and how many before it had the same: lines inside one JSON string do.
    place: (u64, u64),
    texts: [TextColumn; TEXTS.len()],
    unique: [StringBuilder; UNIQUE.len()],
    times: [Vec<i64>; 2],
    longs: [Int64Builder; LONGS.len()],
    ints: [Int32Builder; INTS.len()],
    link_ends: Vec<i32>,
    link_texts: [StringBuilder; LINK_TEXTS.len()],
    file: Option<File>,
    rows: usize,
    bytes: usize,
}

impl std::fmt::Debug for EventsWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("EventsWriter").field("rows", &self.rows).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// The file that is being written.
struct File {
    writer: SerializedFileWriter<Vec<u8>>,
    columns: Vec<Column>,
}

/// A column that is written slice by slice and its leaves' writers; one value for as long as all rows have it.
struct Column {
    field: FieldRef,
    leaves: Vec<ArrowColumnWriter>,
    constant: Option<Constant>,
    started: bool,
}

impl EventsWriter {
    /// For parts of the batch `batch_id`, which gives an id to events that have none.
    #[must_use]
    pub fn new(batch_id: &str) -> Self {
        Self {
            batch: xxh3_64(batch_id.as_bytes()),
            keep_text: true,
            place: (u64::MAX, 0),
            texts: std::array::from_fn(|_| TextColumn::default()),
            unique: std::array::from_fn(|_| StringBuilder::new()),
            times: Default::default(),
            longs: std::array::from_fn(|_| Int64Builder::with_capacity(SLICE_ROWS)),
            ints: std::array::from_fn(|_| Int32Builder::with_capacity(SLICE_ROWS)),
            link_ends: vec![0],
            link_texts: std::array::from_fn(|_| StringBuilder::new()),
            file: None,
            rows: 0,
            bytes: 0,
        }
    }

    /// Whether the records' own text is written, as it is unless this says otherwise; that of findings always is.
    #[must_use]
    pub fn keep_text(self, keep_text: bool) -> Self {
        Self { keep_text, ..self }
    }

    /// Number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// What the events weigh, in bytes: the sum of [`weight`](super::weight). It depends on the events alone, so that a batch is
    /// cut at the same places each time.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds one event that no detection rule matches.
    ///
    /// # Errors
    /// As for [`Self::push_marked`].
    pub fn push(&mut self, event: &Event<'_>, source_object: &str) -> Result<(), ParquetError> {
        self.push_marked(event, "", source_object)
    }

    /// Adds one event with the ids of the detection rules that it matches, sorted, with a space between. They do not weigh, so that
    /// a batch is cut at the same places whatever the rules.
    ///
    /// # Errors
    /// [`ParquetError`] if the rows do not fit the schema, which only a fault of this module can cause.
    pub fn push_marked(&mut self, event: &Event<'_>, rules: &str, source_object: &str) -> Result<(), ParquetError> {
        let texts = texts(event);
        self.bytes += weight(event);
        for (column, text) in self.texts.iter_mut().zip(texts) {
            column.push(text);
        }
        let [.., marks, source] = &mut self.texts;
        marks.push(rules);
        source.push(source_object);
        let given;
        let id = if event.id.is_empty() {
            given = self.given_id(event.offset);
            &given
        } else {
            &*event.id
        };
        let raw = if self.keep_text || event.finding.is_some() { &*event.raw } else { "" };
        for (builder, text) in self.unique.iter_mut().zip([id, raw]) {
            builder.append_value(text);
        }
        for (times, time) in self.times.iter_mut().zip([event.time, event.end_time]) {
            times.push(time.0);
        }
        let length = u64::try_from(event.raw.len()).unwrap_or(u64::MAX);
        let longs = [event.bytes_in, event.bytes_out, event.packets_in, event.packets_out, event.offset, length];
        for (builder, number) in self.longs.iter_mut().zip(longs) {
            // The lake has no unsigned columns.
            builder.append_value(i64::try_from(number).unwrap_or(i64::MAX));
        }
        for (builder, number) in self.ints.iter_mut().zip([event.port, event.protocol]) {
            builder.append_value(number);
        }
        for link in &event.links {
            let texts = [link.relation.as_str(), link.entity.kind.as_str(), &*link.entity.id, &*link.name];
            for (builder, text) in self.link_texts.iter_mut().zip(texts) {
                builder.append_value(text);
            }
        }
        self.link_ends.push(ends(&self.link_texts));
        self.rows += 1;
        let raw = self.unique.last().map_or(0, |raw| raw.values_slice().len());
        if self.link_ends.len() > SLICE_ROWS || raw > SLICE_BYTES { self.write_slice() } else { Ok(()) }
    }

    /// The id of an event that has none of its own: its batch and place in it.
    fn given_id(&mut self, offset: u64) -> String {
        self.place = if self.place.0 == offset { (offset, self.place.1 + 1) } else { (offset, 0) };
        let batch = self.batch;
        match self.place.1 {
            0 => format!("{batch:016x}-{offset:x}"),
            repeat => format!("{batch:016x}-{offset:x}-{repeat:x}"),
        }
    }

    fn write_slice(&mut self) -> Result<(), ParquetError> {
        let rows = self.link_ends.len() - 1;
        if rows == 0 {
            return Ok(());
        }
        let schema = schema();
        let mut columns: Vec<(&str, ArrayRef)> = Vec::with_capacity(schema.fields().len());
        for (name, builder) in UNIQUE.into_iter().zip(&mut self.unique) {
            let (rows, bytes) = (builder.len(), builder.values_slice().len());
            columns.push((name, Arc::new(builder.finish())));
            *builder = StringBuilder::with_capacity(rows, bytes + bytes / 8);
        }
        for (name, times) in ["time", "end_time"].into_iter().zip(&mut self.times) {
            let next = Vec::with_capacity(times.len());
            columns.push((name, Arc::new(TimestampMicrosecondArray::from(std::mem::replace(times, next)).with_timezone("UTC"))));
        }
        columns.extend(LONGS.into_iter().zip(&mut self.longs).map(|(name, builder)| (name, Arc::new(builder.finish()) as ArrayRef)));
        columns.extend(INTS.into_iter().zip(&mut self.ints).map(|(name, builder)| (name, Arc::new(builder.finish()) as ArrayRef)));
        columns.push(("links", self.links(&schema)?));
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(File::new()?),
        };
        file.write(&columns)
    }

    fn links(&mut self, schema: &arrow::datatypes::Schema) -> Result<ArrayRef, ParquetError> {
        let ends = std::mem::replace(&mut self.link_ends, vec![0]);
        let texts = self.link_texts.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef).collect();
        let DataType::List(element) = schema.field_with_name("links")?.data_type() else {
            return Err(ParquetError::General("`links` is no list".to_owned()));
        };
        let DataType::Struct(fields) = element.data_type() else {
            return Err(ParquetError::General("`links` has no fields".to_owned()));
        };
        let items = StructArray::try_new(fields.clone(), texts, None)?;
        Ok(Arc::new(ListArray::try_new(Arc::clone(element), OffsetBuffer::new(ends.into()), Arc::new(items), None)?))
    }

    /// The file, leaving no events; empty if there were none. `batch_id` is the part's own.
    ///
    /// # Errors
    /// [`ParquetError`] as for [`Self::push`].
    pub fn finish(&mut self, batch_id: &str) -> Result<Bytes, ParquetError> {
        self.write_slice()?;
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let texts = std::mem::replace(&mut self.texts, std::array::from_fn(|_| TextColumn::default()));
        let Some(file) = self.file.take() else { return Ok(Bytes::new()) };
        file.close(rows, &texts, batch_id)
    }
}

impl File {
    fn new() -> Result<Self, ParquetError> {
        let properties = Arc::new(properties()?);
        let schema = schema();
        let root = ArrowSchemaConverter::new().convert(&schema)?.root_schema_ptr();
        let writer = SerializedFileWriter::new(Vec::with_capacity(256 * 1024), root, properties)?;
        let mut leaves = ArrowRowGroupWriterFactory::new(&writer, Arc::clone(&schema)).create_column_writers(0)?.into_iter();
        let column = |field: &FieldRef| {
            let count = if let DataType::List(_) = field.data_type() { LINK_TEXTS.len() } else { 1 };
            Column { field: Arc::clone(field), leaves: leaves.by_ref().take(count).collect(), constant: None, started: false }
        };
        Ok(Self { columns: schema.fields().iter().map(column).collect(), writer })
    }

    /// Appends to the columns with these names.
    fn write(&mut self, slice: &[(&str, ArrayRef)]) -> Result<(), ParquetError> {
        let of = |name: &str| slice.iter().find(|(other, _)| *other == name);
        self.columns.iter_mut().try_for_each(|column| of(column.field.name()).map_or(Ok(()), |(_, values)| column.write(values)))
    }

    fn close(self, rows: usize, texts: &[TextColumn], batch_id: &str) -> Result<Bytes, ParquetError> {
        let Self { mut writer, columns } = self;
        let properties = Arc::clone(writer.properties());
        let descriptors: Vec<_> = writer.schema_descr().columns().to_vec();
        let mut descriptors = descriptors.iter();
        let mut group = writer.next_row_group()?;
        for column in columns {
            let name = column.field.name().as_str();
            let coded = TEXTS.iter().zip(texts).find(|(other, _)| **other == name);
            for (leaf, descriptor) in column.leaves.into_iter().zip(descriptors.by_ref()) {
                match (coded, &column.constant) {
                    (Some((_, text)), _) => {
                        // A file is read whole, or by columns: its dictionaries may be of any size.
                        coded::append(&text.keys(), |key| text.get(key), &properties, descriptor, &mut group)?;
                    }
                    _ if name == "batch_id" => {
                        coded::append(&vec![0; rows], |_| batch_id, &properties, descriptor, &mut group)?;
                    }
                    (None, Some(constant)) => constant.append(rows, descriptor, &mut group)?,
                    (None, None) => leaf.close()?.append_to_row_group(&mut group)?,
                }
            }
        }
        group.close()?;
        Ok(writer.into_inner()?.into())
    }
}

impl Column {
    fn write(&mut self, values: &ArrayRef) -> Result<(), ParquetError> {
        if self.constant.is_some() || !self.started {
            let next = Constant::of(values);
            self.started = true;
            let goes_on = match (&mut self.constant, &next) {
                (Some(constant), Some(next)) => constant.extend(next),
                _ => false,
            };
            if goes_on {
                return Ok(());
            }
            if self.constant.is_none() && next.is_some() {
                self.constant = next;
                return Ok(());
            }
            if let Some(constant) = self.constant.take() {
                self.append(&constant.to_column()?)?;
            }
        }
        self.append(values)
    }

    fn append(&mut self, values: &ArrayRef) -> Result<(), ParquetError> {
        compute_leaves(&self.field, values)?.iter().zip(&mut self.leaves).try_for_each(|(values, leaf)| leaf.write(values))
    }
}

fn ends(builders: &[StringBuilder]) -> i32 {
    builders.first().map_or(0, |builder| i32::try_from(builder.len()).unwrap_or(i32::MAX))
}

/// The texts of an event, in the order of [`TEXTS`], but for its rules and source object.
pub(super) fn texts<'e>(event: &'e Event<'_>) -> [&'e str; TEXTS.len() - 2] {
    fn kind(entity: &Option<EntityRef<'_>>) -> &'static str {
        entity.as_ref().map_or("", |entity| entity.kind.as_str())
    }
    fn id<'e>(entity: &'e Option<EntityRef<'_>>) -> &'e str {
        entity.as_ref().map_or("", |entity| &*entity.id)
    }
    [
        event.kind.as_str(),
        &event.account,
        &event.region,
        kind(&event.actor),
        id(&event.actor),
        &event.actor_name,
        &event.actor_alias,
        kind(&event.parent),
        id(&event.parent),
        &event.parent_alias,
        kind(&event.origin),
        id(&event.origin),
        &event.service,
        &event.operation,
        &event.error,
        &event.address,
        &event.user_agent,
        &event.access_key,
        event.flow.map_or("", |relation| relation.as_str()),
        &event.corrects,
    ]
}
