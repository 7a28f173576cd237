//! The tables of a graph and their columns.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
pub use gumshoe_records::events::timestamp;

/// A table of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Normalised records with their text.
    Events,
    /// Hourly edges.
    Edges,
    /// Entities, several rows each.
    Entities,
    /// Findings, a row an update.
    Findings,
    /// Records that could not be parsed.
    DeadLetters,
    /// What each batch brought, by account and kind of record.
    Volumes,
    /// Batches that are in all other tables.
    Batches,
}

impl Table {
    /// Every table, in the order of commit: what decides duplicates first, what says "done" last.
    pub const ALL: [Self; 7] = [Self::Events, Self::Edges, Self::Entities, Self::Findings, Self::DeadLetters, Self::Volumes, Self::Batches];

    /// The table's name in queries and its folder under the graph's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Edges => "edges",
            Self::Entities => "entities",
            Self::Findings => "findings",
            Self::DeadLetters => "dead_letters",
            Self::Volumes => "volumes",
            Self::Batches => "batches",
        }
    }

    /// Whether files are kept apart by the day of their rows, in the column `date`.
    #[must_use]
    pub fn by_day(self) -> bool {
        matches!(self, Self::Events | Self::Edges)
    }

    /// The columns in a data file; `date` is not among them.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        Arc::clone(match self {
            Self::Events => return gumshoe_records::events::schema(),
            Self::Edges => &EDGES,
            Self::Entities => &ENTITIES,
            Self::Findings => &FINDINGS,
            Self::DeadLetters => &DEAD_LETTERS,
            Self::Volumes => &VOLUMES,
            Self::Batches => &BATCHES,
        })
    }

    /// Columns with a minimum and maximum a file in the Delta log.
    pub(crate) fn statistics(self) -> &'static [&'static str] {
        match self {
            Self::Events => &["time", "account", "batch_id"],
            Self::Edges => &["hour", "entity_type", "entity_id"],
            Self::Entities => &["entity_type", "entity_id", "last_time"],
            Self::Findings => &["first_time", "last_time", "update_time"],
            Self::DeadLetters => &["source_object", "time"],
            Self::Volumes => &["time"],
            Self::Batches => &["batch_id", "time"],
        }
    }

    /// Whether a column of [`Self::statistics`] holds times; the others hold text.
    pub(crate) fn is_time(self, column: &str) -> bool {
        self.schema().field_with_name(column).is_ok_and(|field| field.data_type() == &timestamp())
    }

    /// The columns that rows of a file written by maintenance are sorted by.
    pub(crate) fn order(self) -> &'static [&'static str] {
        match self {
            Self::Edges => &["entity_type", "entity_id", "peer_type", "peer_id"],
            Self::Entities => &["entity_type", "entity_id"],
            Self::Findings => &["update_time"],
            Self::Events | Self::DeadLetters | Self::Volumes | Self::Batches => &["time"],
        }
    }

    /// The time by which rows grow old.
    pub(crate) fn age(self) -> &'static str {
        match self {
            Self::Edges => "hour",
            Self::Entities => "last_time",
            Self::Findings => "update_time",
            Self::Events | Self::DeadLetters | Self::Volumes | Self::Batches => "time",
        }
    }

    /// Columns that rows with the same other columns are made one by; none where rows stay as they are.
    pub(crate) fn measures(self) -> &'static [(&'static str, Combine)] {
        match self {
            Self::Edges => &[
                ("count", Combine::Sum),
                ("errors", Combine::Sum),
                ("bytes_in", Combine::Sum),
                ("bytes_out", Combine::Sum),
                ("packets_in", Combine::Sum),
                ("packets_out", Combine::Sum),
                ("first_time", Combine::Minimum),
                ("last_time", Combine::Maximum),
            ],
            Self::Entities => &[("first_time", Combine::Minimum), ("last_time", Combine::Maximum)],
            Self::Events | Self::Findings | Self::DeadLetters | Self::Volumes | Self::Batches => &[],
        }
    }

    /// Whether rows add up. Such files are written in [`Self::order`] from the start.
    pub(crate) fn adds_up(self) -> bool {
        !self.measures().is_empty()
    }

    /// The column with a filter a row group, of those that look-ups go by; the filters of events are in their own properties.
    pub(crate) fn filtered(self) -> Option<&'static str> {
        match self {
            Self::Edges | Self::Entities => Some("entity_id"),
            Self::Findings => Some("entities.list.element.id"),
            Self::Events | Self::DeadLetters | Self::Volumes | Self::Batches => None,
        }
    }
}

/// How a column of two rows becomes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Combine {
    Sum,
    Minimum,
    Maximum,
}

/// Fields of an entity in a list.
#[must_use]
pub fn entity_fields() -> Fields {
    texts(&["type", "id"]).into()
}

fn fields(names: &[&str], data_type: &DataType) -> Vec<Field> {
    names.iter().map(|name| Field::new(*name, data_type.clone(), true)).collect()
}

fn texts(names: &[&str]) -> Vec<Field> {
    fields(names, &DataType::Utf8)
}

fn list(name: &str, item: Fields) -> Vec<Field> {
    vec![Field::new(name, DataType::List(Arc::new(Field::new("element", DataType::Struct(item), true))), true)]
}

fn schema(parts: Vec<Vec<Field>>) -> SchemaRef {
    Arc::new(Schema::new(parts.concat()))
}

static EDGES: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(vec![
        fields(&["hour"], &timestamp()),
        texts(&["entity_type", "entity_id", "side", "relation", "peer_type", "peer_id", "operation", "address", "country"]),
        fields(&["asn"], &DataType::Int64),
        texts(&["user_agent", "error"]),
        fields(&["port", "protocol"], &DataType::Int32),
        fields(&["count", "errors", "bytes_in", "bytes_out", "packets_in", "packets_out"], &DataType::Int64),
        fields(&["first_time", "last_time"], &timestamp()),
    ])
});

static ENTITIES: LazyLock<SchemaRef> =
    LazyLock::new(|| schema(vec![texts(&["entity_type", "entity_id", "name", "alias", "account"]), fields(&["first_time", "last_time"], &timestamp())]));

static FINDINGS: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(vec![
        texts(&["finding_id", "finding_type", "product", "title", "description"]),
        fields(&["severity"], &DataType::Float64),
        fields(&["count"], &DataType::Int64),
        fields(&["first_time", "last_time", "update_time"], &timestamp()),
        fields(&["archived"], &DataType::Boolean),
        texts(&["account", "region", "event_id"]),
        list("entities", entity_fields()),
        texts(&["raw", "source_object"]),
        fields(&["offset"], &DataType::Int64),
    ])
});

static DEAD_LETTERS: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(vec![
        texts(&["source_object"]),
        fields(&["offset", "length"], &DataType::Int64),
        texts(&["reason", "raw", "batch_id"]),
        fields(&["time"], &timestamp()),
    ])
});

static VOLUMES: LazyLock<SchemaRef> =
    LazyLock::new(|| schema(vec![texts(&["batch_id", "account", "kind"]), fields(&["records", "bytes"], &DataType::Int64), fields(&["time"], &timestamp())]));

static BATCHES: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(vec![
        texts(&["batch_id"]),
        fields(&["events", "duplicates", "dead_letters"], &DataType::Int64),
        fields(&["time"], &timestamp()),
        fields(&["last_day"], &DataType::Date32),
    ])
});
